//! VMs as containers: each boots its own init, runs real cloud-init, OpenSSH and Docker, and has an address on a
//! bridge. A running rig (`tests/vm/start.sh`) has the engine, which is worked through its command line client.
//!
//! What is ordered for one VM happens in that order, VMs side by side. All containers go when the simulator ends,
//! however it ends.

use std::collections::{BTreeMap, HashMap};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinSet;

/// Removes the containers that carry a label, and a directory, when our end of standard input closes: with the process,
/// however that ends. Calls of the client that are still running hold the lock; what they make is to go, too.
const SUPERVISE: &str = r#"directory=$1 label=$2; shift 2
trap '' INT TERM HUP
exec >&- 2>&-
read -r _
flock "$directory/lock" true
"$@" ps --all --quiet --filter "label=$label" | xargs -r "$@" rm --force --volumes
rm -rf "$directory""#;

/// Seconds that a VM has to shut down before it is switched off.
const SHUTDOWN: &str = "20";

/// Which engine runs the VMs, and what each is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VmsOptions {
    /// The socket of the engine.
    pub engine: PathBuf,
    /// The client's configuration directory.
    pub client: PathBuf,
    /// The image of a VM.
    pub image: String,
    /// The engine's network for VMs.
    pub network: String,
    /// The network's first address; the engine's machine has the one after it.
    pub subnet: Ipv4Addr,
    /// How many bits of the network's addresses are the same.
    pub prefix: u8,
    /// The name server of the VMs, who ask at port 53.
    pub nameserver: Ipv4Addr,
    /// A file with the authority that VMs trust as they do public ones.
    pub authority: PathBuf,
    /// Where files are put that VMs see while they are there.
    pub scratch: PathBuf,
}

impl VmsOptions {
    /// Those of the rig that runs in `directory`.
    ///
    /// # Errors
    /// When no rig runs there.
    pub fn of_rig(directory: &Path) -> anyhow::Result<Self> {
        let file = directory.join("env");
        let text = std::fs::read_to_string(&file);
        let text = text.with_context(|| format!("{} cannot be read: no rig runs there", file.display()))?;
        let values: BTreeMap<&str, &str> = text.lines().filter_map(|line| line.split_once('=')).collect();
        let value = |name| values.get(name).copied().with_context(|| format!("{} has no {name}", file.display()));
        let (subnet, prefix) = value("VM_SUBNET")?.split_once('/').context("VM_SUBNET is not a network")?;
        Ok(Self {
            engine: value("VM_ENGINE")?.into(),
            client: value("VM_CLIENT")?.into(),
            image: value("VM_IMAGE")?.to_owned(),
            network: value("VM_NETWORK")?.to_owned(),
            subnet: subnet.parse()?,
            prefix: prefix.parse()?,
            nameserver: value("VM_GATEWAY")?.parse()?,
            authority: value("VM_AUTHORITY")?.into(),
            scratch: directory.join("seeds"),
        })
    }

    /// The addresses for VMs, as the first of them and their number: all but the network's own, the engine's machine's
    /// and the last, which reaches everyone.
    pub(crate) fn addresses(&self) -> (Ipv4Addr, u32) {
        let size = 1_u32.checked_shl(32_u32.saturating_sub(self.prefix.into())).unwrap_or_default();
        (Ipv4Addr::from(u32::from(self.subnet).saturating_add(2)), size.saturating_sub(3))
    }
}

/// What a VM is made with.
#[derive(Debug)]
pub(crate) struct Machine {
    /// Its host name.
    pub(crate) name: String,
    /// Its address on the bridge; without one it has no network.
    pub(crate) address: Option<Ipv4Addr>,
    /// Its memory in MiB.
    pub(crate) memory: u32,
    /// What cloud-init is given.
    pub(crate) user_data: Option<String>,
}

/// What is to happen to a VM.
#[derive(Debug)]
pub(crate) enum Job {
    /// Make it and switch it on.
    Boot(Machine),
    /// Switch it on.
    PowerOn,
    /// Cut the power.
    PowerOff,
    /// Ask it to shut down, and cut the power if it does not.
    ShutDown,
    /// Ask it to shut down, and switch it on again.
    Reboot,
    /// Cut the power, and switch it on again.
    PowerCycle,
    /// Remove it with its disk.
    Destroy,
}

/// The end of a job.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Report {
    /// Whose.
    pub(crate) vm: u64,
    /// The job was to remove the VM.
    pub(crate) destroyed: bool,
    /// It was done.
    pub(crate) done: bool,
}

/// The VMs of one simulator.
#[derive(Debug)]
pub(crate) struct Vms {
    orders: UnboundedSender<(u64, Job)>,
    reports: UnboundedReceiver<Report>,
}

impl Vms {
    /// Takes orders as long as `tasks` live.
    ///
    /// # Errors
    /// When the engine does not answer.
    pub(crate) async fn start(options: VmsOptions, tasks: &mut JoinSet<()>) -> anyhow::Result<Self> {
        let run = Run::new(options)?;
        if let Err(error) = run.docker(&["version"]).await {
            let _ = std::fs::remove_dir_all(&run.directory);
            bail!("the engine of the rig does not answer: {error}");
        }
        let supervisor = run.supervise()?;
        let (orders, ordered) = unbounded_channel();
        let (report, reports) = unbounded_channel();
        tasks.spawn(async move {
            let _until_the_end = supervisor;
            Arc::new(run).distribute(ordered, report).await;
        });
        Ok(Self { orders, reports })
    }

    /// Begins a job. Its report comes once, later.
    pub(crate) fn order(&self, vm: u64, job: Job) {
        // Without a receiver the simulator is ending, and all VMs with it.
        let _ = self.orders.send((vm, job));
    }

    /// The next report, if there is one.
    pub(crate) fn report(&mut self) -> Option<Report> {
        self.reports.try_recv().ok()
    }
}

/// One simulator's share of the engine.
#[derive(Debug)]
struct Run {
    options: VmsOptions,
    /// What its containers are called, before the number; also the value of their label.
    name: String,
    /// Where its VMs' seeds are.
    directory: PathBuf,
}

impl Run {
    fn new(options: VmsOptions) -> anyhow::Result<Self> {
        use std::sync::atomic::{AtomicU64, Ordering};
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let name = format!("sim-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let directory = options.scratch.join(&name);
        std::fs::create_dir(&directory).with_context(|| format!("{} cannot be made", directory.display()))?;
        std::fs::write(directory.join("lock"), "")?;
        Ok(Self { options, name, directory })
    }

    fn supervise(&self) -> anyhow::Result<(Child, ChildStdin)> {
        let mut supervisor = Command::new("sh")
            .args(["-c", SUPERVISE, "vms"])
            .arg(&self.directory)
            .arg(self.label())
            .args(self.client())
            .stdin(Stdio::piped())
            .spawn()
            .context("sh cannot be run")?;
        let stdin = supervisor.stdin.take().context("the supervisor was started without its pipe")?;
        Ok((supervisor, stdin))
    }

    async fn distribute(self: Arc<Self>, mut orders: UnboundedReceiver<(u64, Job)>, reports: UnboundedSender<Report>) {
        let mut queues: HashMap<u64, UnboundedSender<Job>> = HashMap::new();
        let mut workers = JoinSet::new();
        while let Some((vm, job)) = orders.recv().await {
            let last = matches!(job, Job::Destroy);
            let queue = queues.entry(vm).or_insert_with(|| {
                let (queue, jobs) = unbounded_channel();
                workers.spawn(Arc::clone(&self).work(vm, jobs, reports.clone()));
                queue
            });
            let _ = queue.send(job);
            if last {
                // The worker ends when it has done all this; if that fails, a new one tries again.
                queues.remove(&vm);
            }
        }
    }

    async fn work(self: Arc<Self>, vm: u64, mut jobs: UnboundedReceiver<Job>, reports: UnboundedSender<Report>) {
        while let Some(job) = jobs.recv().await {
            let destroyed = matches!(job, Job::Destroy);
            let result = self.perform(vm, job).await;
            if let Err(error) = &result {
                tracing::error!(vm, %error, "the engine refused");
            }
            let _ = reports.send(Report { vm, destroyed, done: result.is_ok() });
        }
    }

    async fn perform(&self, vm: u64, job: Job) -> anyhow::Result<()> {
        let container = format!("{}-{vm}", self.name);
        match job {
            Job::Boot(machine) => self.boot(&container, vm, &machine).await,
            Job::PowerOn => self.docker(&["start", &container]).await,
            Job::PowerOff => self.docker(&["kill", &container]).await,
            Job::ShutDown => self.docker(&["stop", "-t", SHUTDOWN, &container]).await,
            Job::Reboot => self.docker(&["restart", "-t", SHUTDOWN, &container]).await,
            Job::PowerCycle => self.docker(&["restart", "-t", "0", &container]).await,
            Job::Destroy => self.destroy(&container, vm).await,
        }
    }

    async fn boot(&self, container: &str, vm: u64, machine: &Machine) -> anyhow::Result<()> {
        let seed = self.seed(vm, machine)?;
        let options = &self.options;
        let mounts = std::fs::read_to_string("/proc/mounts").unwrap_or_default();
        let mut arguments = vec!["run".to_owned(), "--detach".to_owned(), "--pull=never".to_owned()];
        let label = format!("--label={}", self.label());
        arguments.extend([format!("--name={container}"), label, format!("--label=roadstead.droplet={vm}")]);
        arguments.extend([format!("--hostname={}", host_name(&machine.name)), format!("--memory={}m", machine.memory)]);
        match machine.address {
            Some(address) => arguments.extend([format!("--network={}", options.network), format!("--ip={address}")]),
            None => arguments.push("--network=none".to_owned()),
        }
        arguments.extend(confinement(&mounts));
        arguments.extend(["--tmpfs=/run:exec", "--tmpfs=/run/lock", "--tmpfs=/tmp:exec"].map(str::to_owned));
        arguments.push("--stop-signal=SIGRTMIN+3".to_owned());
        arguments.push(format!("--env=RIG_NAMESERVER={}", options.nameserver));
        arguments.push(format!("--volume={}:/rig/authority.pem:ro", options.authority.display()));
        arguments.push(format!("--volume={}:/var/lib/cloud/seed/nocloud:ro", seed.display()));
        arguments.push(options.image.clone());
        self.docker(&arguments.iter().map(String::as_str).collect::<Vec<_>>()).await
    }

    /// Writes what cloud-init finds as its data source `NoCloud`. User data never is an argument: it may hold secrets.
    fn seed(&self, vm: u64, machine: &Machine) -> anyhow::Result<PathBuf> {
        let seed = self.directory.join(vm.to_string());
        std::fs::create_dir(&seed)?;
        std::fs::write(seed.join("meta-data"), format!("instance-id: i-{vm}\nlocal-hostname: {}\n", machine.name))?;
        std::fs::write(seed.join("user-data"), machine.user_data.as_deref().unwrap_or_default())?;
        Ok(seed)
    }

    async fn destroy(&self, container: &str, vm: u64) -> anyhow::Result<()> {
        match self.docker(&["rm", "--force", "--volumes", container]).await {
            // One that could not be made.
            Err(error) if error.to_string().contains("No such container") => {}
            other => other?,
        }
        let _ = std::fs::remove_dir_all(self.directory.join(vm.to_string()));
        Ok(())
    }

    fn label(&self) -> String {
        format!("roadstead.simulator={}", self.name)
    }

    /// The client of the rig's engine, whatever the person's own settings say.
    fn client(&self) -> Vec<String> {
        let (client, engine) = (self.options.client.display(), self.options.engine.display());
        ["docker", "--config", &client.to_string(), "--host", &format!("unix://{engine}")].map(str::to_owned).to_vec()
    }

    async fn docker(&self, arguments: &[&str]) -> anyhow::Result<()> {
        let output = Command::new("flock")
            .arg("--shared")
            .arg(self.directory.join("lock"))
            .args(self.client())
            .args(arguments)
            .env_remove("DOCKER_HOST")
            .env_remove("DOCKER_CONTEXT")
            .stdin(Stdio::null())
            .output()
            .await
            .context("flock cannot be run")?;
        if !output.status.success() {
            bail!("{}", String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(())
    }
}

/// What the kernel takes as a host name.
fn host_name(name: &str) -> String {
    name.chars().take(63).collect::<String>().trim_end_matches(['.', '-']).to_owned()
}

/// How far a container is let out: as far as its init and its engine need, on a machine with these `mounts`.
fn confinement(mounts: &str) -> Vec<String> {
    let groups: Vec<&str> = mounts
        .lines()
        .filter_map(|line| {
            let mut fields = line.split(' ').skip(1);
            let (at, kind) = (fields.next()?, fields.next()?);
            (kind.starts_with("cgroup") && at.starts_with("/sys/fs/cgroup/")).then_some(at)
        })
        .collect();
    if groups.is_empty() {
        // Control groups of version 2, which can be given to a container.
        return ["--privileged", "--cgroupns=private"].map(str::to_owned).to_vec();
    }
    // Version 1. Each hierarchy by itself, below a directory of the container's own: were they bound as a whole,
    // systemd in there would make them read-only for the machine.
    let security = ["seccomp=unconfined", "apparmor=unconfined", "systempaths=unconfined"];
    let mut arguments: Vec<String> = security.map(|option| format!("--security-opt={option}")).to_vec();
    arguments.extend(["--cap-add=ALL", "--cap-drop=SYS_RESOURCE"].map(str::to_owned));
    arguments.extend(["--cgroupns=host", "--tmpfs=/sys/fs/cgroup"].map(str::to_owned));
    arguments.extend(groups.iter().map(|at| format!("--volume={at}:{at}:rw")));
    arguments
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    const ENV: &str = "VM_ENGINE=/rig/docker.sock\nVM_CLIENT=/rig/client\nVM_IMAGE=vm:1\nVM_NETWORK=net\n\
        VM_SUBNET=198.18.3.0/24\nVM_GATEWAY=198.18.3.1\nVM_AUTHORITY=/rig/ca.pem\n";

    #[test]
    fn a_rig_says_with_its_file_what_vms_are_made_of() {
        let directory = std::env::temp_dir().join(format!("cloudsim-rig-{}", std::process::id()));
        std::fs::create_dir(&directory).unwrap();
        let missing = VmsOptions::of_rig(&directory).unwrap_err().to_string();
        std::fs::write(directory.join("env"), ENV).unwrap();
        let options = VmsOptions::of_rig(&directory);
        std::fs::write(directory.join("env"), ENV.replace("VM_IMAGE", "OTHER")).unwrap();
        let incomplete = VmsOptions::of_rig(&directory).unwrap_err().to_string();
        std::fs::remove_dir_all(&directory).unwrap();
        assert!(missing.contains("no rig runs there"), "{missing}");
        assert!(incomplete.contains("has no VM_IMAGE"), "{incomplete}");
        let options = options.unwrap();
        assert_eq!((options.image.as_str(), options.nameserver), ("vm:1", Ipv4Addr::new(198, 18, 3, 1)));
        assert_eq!(options.addresses(), (Ipv4Addr::new(198, 18, 3, 2), 253));
    }

    #[test]
    fn hierarchies_of_version_1_are_bound_one_by_one_and_never_as_a_whole() {
        let mounts = "tmpfs /sys/fs/cgroup tmpfs rw 0 0\ncgroup /sys/fs/cgroup/memory cgroup rw,memory 0 0\n\
            cgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\next4 / ext4 rw 0 0\n";
        let arguments = confinement(mounts);
        let bound: Vec<&str> = arguments.iter().filter_map(|argument| argument.strip_prefix("--volume=")).collect();
        let [memory, unified] = ["memory", "unified"].map(|name| format!("/sys/fs/cgroup/{name}"));
        assert_eq!(bound, [format!("{memory}:{memory}:rw"), format!("{unified}:{unified}:rw")]);
        assert_eq!(confinement("cgroup2 /sys/fs/cgroup cgroup2 rw 0 0\n"), ["--privileged", "--cgroupns=private"]);
    }

    #[test]
    fn a_long_name_is_cut_to_what_the_kernel_takes() {
        let long = format!("{}.b", "a".repeat(62));
        assert_eq!(host_name(&long), "a".repeat(62));
        assert_eq!(host_name("web-1.example.com"), "web-1.example.com");
    }
}
