//! The metrics registry: every series Roadstead exports, and the few methods that feed them.
//!
//! Labels are bounded by code or by the number of credentials, never by objects.

use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

use crate::probe::{Meter, Probed};

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CallLabels {
    api: &'static str,
    credential: String,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CredentialLabels {
    api: &'static str,
    credential: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OperationLabels {
    kind: &'static str,
    result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReconcileLabels {
    controller: &'static str,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KindLabels {
    kind: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PhaseLabels {
    kind: &'static str,
    phase: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ProbeLabels {
    check: &'static str,
    result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct HealthLabels {
    health: &'static str,
}

type HistogramFamily<L> = Family<L, Histogram, fn() -> Histogram>;

/// All series. Cheap to clone: clones share their values.
#[derive(Clone, Debug)]
pub struct Metrics {
    reconciles: HistogramFamily<ReconcileLabels>,
    api_calls: HistogramFamily<CallLabels>,
    api_remaining: Family<CredentialLabels, Gauge>,
    dns_operations: HistogramFamily<OperationLabels>,
    dns_noops: Counter,
    dns_batch_size: Histogram,
    dns_queue: Gauge,
    orphans: Family<KindLabels, Gauge>,
    objects: Family<PhaseLabels, Gauge>,
    probes: HistogramFamily<ProbeLabels>,
    probe_lateness: Histogram,
    probe_targets: Gauge,
    probe_isolated: Gauge,
    group_members: Family<HealthLabels, Gauge>,
    group_member_transitions: Family<HealthLabels, Counter>,
    history_broken: Gauge,
    history_dropped: Gauge,
}

/// From 1 ms to about 65 s, doubling: a loopback read and a call that waits for its time-out both have a bucket.
fn seconds() -> Histogram {
    Histogram::new(exponential_buckets(0.001, 2.0, 17))
}

impl Metrics {
    /// Creates the series and registers them under the prefix `roadstead_`.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            reconciles: Family::new_with_constructor(seconds as fn() -> Histogram),
            api_calls: Family::new_with_constructor(seconds as fn() -> Histogram),
            api_remaining: Family::default(),
            dns_operations: Family::new_with_constructor(seconds as fn() -> Histogram),
            dns_noops: Counter::default(),
            dns_batch_size: Histogram::new(exponential_buckets(1.0, 2.0, 13)),
            dns_queue: Gauge::default(),
            orphans: Family::default(),
            objects: Family::default(),
            probes: Family::new_with_constructor(seconds as fn() -> Histogram),
            probe_lateness: seconds(),
            probe_targets: Gauge::default(),
            probe_isolated: Gauge::default(),
            group_members: Family::default(),
            group_member_transitions: Family::default(),
            history_broken: Gauge::default(),
            history_dropped: Gauge::default(),
        };
        let registry = registry.sub_registry_with_prefix("roadstead");
        let s = || Unit::Seconds;
        registry.register_with_unit(
            "reconcile",
            "Reconciles by controller and outcome",
            s(),
            metrics.reconciles.clone(),
        );
        registry.register_with_unit(
            "api_call",
            "External API calls by credential and outcome",
            s(),
            metrics.api_calls.clone(),
        );
        registry.register(
            "api_remaining_requests",
            "Requests left in the current window, as the API says",
            metrics.api_remaining.clone(),
        );
        registry.register_with_unit(
            "dns_operation",
            "DNS record operations by kind and result",
            s(),
            metrics.dns_operations.clone(),
        );
        registry.register(
            "dns_noops",
            "Declarations that changed nothing and so cost no call",
            metrics.dns_noops.clone(),
        );
        registry.register("dns_batch_size", "Record operations per batch", metrics.dns_batch_size.clone());
        registry.register("dns_queue", "Owners whose records wait for the next batch", metrics.dns_queue.clone());
        registry.register("orphans", "Things outside with our mark and no live owner", metrics.orphans.clone());
        registry.register("objects", "Objects by kind and phase", metrics.objects.clone());
        registry.register_with_unit("probe", "Probes by check and result", s(), metrics.probes.clone());
        registry.register_with_unit(
            "probe_lateness",
            "How long after they were due probes began",
            s(),
            metrics.probe_lateness.clone(),
        );
        registry.register("probe_targets", "Targets that are probed", metrics.probe_targets.clone());
        registry.register(
            "probe_isolated",
            "1 while our own network is down and verdicts are frozen",
            metrics.probe_isolated.clone(),
        );
        registry.register("group_members", "Servers of all groups by health", metrics.group_members.clone());
        registry.register(
            "group_member_transitions",
            "Changes of a server's health, by what it became",
            metrics.group_member_transitions.clone(),
        );
        registry.register(
            "history_broken",
            "1 while the history's disk is full or does not work",
            metrics.history_broken.clone(),
        );
        registry.register(
            "history_dropped",
            "Entries of the history that were lost to that since the process began to lead",
            metrics.history_dropped.clone(),
        );
        metrics
    }

    /// One finished reconcile.
    pub fn reconciled(&self, controller: &'static str, outcome: &'static str, took: Duration) {
        self.reconciles.get_or_create(&ReconcileLabels { controller, outcome }).observe(took.as_secs_f64());
    }

    /// One finished external call. `credential` is a label such as `zone/example-com`, never a secret.
    pub fn api_call(&self, api: &'static str, credential: &str, outcome: &'static str, took: Duration) {
        let labels = CallLabels { api, credential: credential.to_owned(), outcome };
        self.api_calls.get_or_create(&labels).observe(took.as_secs_f64());
    }

    /// What the API said remains of its limit.
    pub fn api_remaining(&self, api: &'static str, credential: &str, remaining: i64) {
        let labels = CredentialLabels { api, credential: credential.to_owned() };
        self.api_remaining.get_or_create(&labels).set(remaining);
    }

    /// One DNS record operation (`create`, `update`, `delete`) that ended in `result` (`ok`, `refused`, `failed`).
    pub fn dns_operation(&self, kind: &'static str, result: &'static str, took: Duration) {
        self.dns_operations.get_or_create(&OperationLabels { kind, result }).observe(took.as_secs_f64());
    }

    /// A declaration that changed nothing.
    pub fn dns_noop(&self) {
        self.dns_noops.inc();
    }

    /// The size of a batch that was sent.
    pub fn dns_batch(&self, operations: usize) {
        #[expect(clippy::cast_precision_loss, reason = "batches are at most a few thousand")]
        self.dns_batch_size.observe(operations as f64);
    }

    /// How many more (or fewer) owners wait for a batch.
    pub fn dns_queue_changed(&self, by: i64) {
        self.dns_queue.inc_by(by);
    }

    /// How many orphans of `kind` (`record`, `vm`, `worker`) the last sweep saw.
    pub fn orphans(&self, kind: &'static str, count: usize) {
        self.orphans.get_or_create(&KindLabels { kind }).set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// How many objects of `kind` are in `phase`.
    pub fn objects(&self, kind: &'static str, phase: &'static str, count: usize) {
        self.objects.get_or_create(&PhaseLabels { kind, phase }).set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// How many servers of all groups have this `health` (`healthy`, `unhealthy`, `pending`).
    pub fn group_members(&self, health: &'static str, count: usize) {
        self.group_members.get_or_create(&HealthLabels { health }).set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// So many servers changed to this `health`.
    pub fn group_member_transitions(&self, health: &'static str, count: u64) {
        self.group_member_transitions.get_or_create(&HealthLabels { health }).inc_by(count);
    }

    /// Whether the history's disk is full or does not work, and how many entries were lost to that.
    pub fn history(&self, broken: bool, dropped: u64) {
        self.history_broken.set(i64::from(broken));
        self.history_dropped.set(i64::try_from(dropped).unwrap_or(i64::MAX));
    }
}

impl Meter for Metrics {
    fn probed(&self, probed: &Probed) {
        let labels = ProbeLabels { check: probed.check, result: probed.result };
        self.probes.get_or_create(&labels).observe(probed.took.as_secs_f64());
        self.probe_lateness.observe(probed.late.as_secs_f64());
    }

    fn targets(&self, count: usize) {
        self.probe_targets.set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    fn isolated(&self, isolated: bool) {
        self.probe_isolated.set(i64::from(isolated));
    }
}
