//! Rows of a table, and what Linux says of a process.

use std::time::Duration;

/// One line: what was measured, how much, and what it should be at most.
pub fn row(what: &str, value: impl std::fmt::Display, goal: &str) {
    println!("  {what:<50} {:>12}   {goal}", value.to_string());
}

pub fn title(what: &str) {
    println!("\n{what}");
    println!("  {:<50} {:>12}   goal", "", "measured");
}

pub fn seconds(duration: Duration) -> String {
    format!("{:.2} s", duration.as_secs_f64())
}

/// Processor time a process has used, from its own and the kernel's ticks of 10 ms.
pub fn processor(pid: u32) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    let ticks: u64 = fields.skip(11).take(2).filter_map(|ticks| ticks.parse::<u64>().ok()).sum();
    Duration::from_millis(ticks * 10)
}

/// Resident memory of a process now, and at its peak, in MiB.
pub fn memory(pid: u32) -> (u64, u64) {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
        line.split_whitespace().next().and_then(|kib| kib.parse::<u64>().ok()).unwrap_or_default() / 1024
    };
    (field("VmRSS:"), field("VmHWM:"))
}
