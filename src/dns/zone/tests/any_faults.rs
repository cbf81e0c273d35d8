//! Any faults at any time end in exactly what was declared.

use super::*;

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(64))]
    /// Whatever fails on the way: in the end the zone shows what was declared last and foreign records are untouched;
    /// "applied" was true whenever it was said; and whoever was told to wait was woken.
    #[test]
    fn any_faults_end_in_exactly_what_was_declared(
        steps in proptest::collection::vec((0..6usize, 0..3usize, 0..3_000u64), 1..25),
        faults in proptest::collection::vec((0..4u8, proptest::prelude::any::<bool>()), 0..8),
        latency in 0..400u64,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(any_faults(steps, faults, latency));
    }
}

async fn any_faults(steps: Vec<(usize, usize, u64)>, faults: Vec<(u8, bool)>, latency: u64) {
    let mut rig = rig();
    rig.fake.put("elsewhere.example.com", foreign_address(), None);
    let late = faults.iter().any(|(kind, write)| *kind == 2 && *write);
    {
        let mut inner = rig.fake.inner();
        inner.latency = Duration::from_millis(latency);
        for (kind, write) in faults {
            let fault = match kind {
                0 => Fault::Fail(if write { unknown() } else { unavailable() }),
                1 => Fault::FailAfter(if write { unknown() } else { unavailable() }),
                2 if write => Fault::Late(Duration::from_secs(15), unknown()),
                _ => Fault::Fail(OutsideError::RateLimited { after: Duration::from_secs(30) }),
            };
            if write { inner.write_faults.push_back(fault) } else { inner.read_faults.push_back(fault) }
        }
    }
    let held = |rig: &Rig, n: usize| -> Vec<String> {
        let prefix = format!("{} ", name(n));
        rig.fake.shown().into_iter().filter(|line| line.starts_with(&prefix)).collect()
    };
    let shown = |records: &[Desired]| -> Vec<String> {
        records.iter().map(|record| format!("{} {}", record.name, record.content)).collect()
    };
    let mut wanted = std::collections::BTreeMap::new();
    let mut waiting = std::collections::BTreeSet::new();
    for (n, content, wait) in steps {
        while let Ok(wake) = rig.wakes.try_recv() {
            waiting.remove(&wake);
        }
        let records = if content == 0 { vec![] } else { at(n, address(100 * n + content)) };
        match rig.zone.declare(&owner(n), records.clone()) {
            // A write that takes effect after everybody stopped expecting it cannot be foreseen, only repaired.
            Declared::Applied(_) => {
                assert!(late || held(&rig, n) == shown(&records));
                waiting.remove(&owner(n).wake);
            }
            Declared::Pending | Declared::Blocked(_) => drop(waiting.insert(owner(n).wake)),
            Declared::Refused(refusal) => panic!("{refusal}"),
        }
        wanted.insert(n, records);
        tokio::time::sleep(Duration::from_millis(wait)).await;
    }
    tokio::time::sleep(Duration::from_mins(20)).await;
    while let Ok(wake) = rig.wakes.try_recv() {
        waiting.remove(&wake);
    }
    assert!(waiting.is_empty(), "never woken: {waiting:?}");
    let mut expected: Vec<_> = wanted.values().flat_map(|records| shown(records)).collect();
    expected.push("elsewhere.example.com 192.0.2.1".to_owned());
    expected.sort();
    assert_eq!(rig.fake.shown(), expected);
    for (n, records) in wanted {
        assert!(matches!(rig.zone.declare(&owner(n), records), Declared::Applied(_)));
    }
}
