//! What a router counts. Labels are bounded by code: no name of a host is one.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct AnswerLabels {
    answer: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ResultLabels {
    result: &'static str,
}

/// All series. Cheap to clone: clones share their values.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    lookups: Family<AnswerLabels, Counter>,
    asks: Family<AnswerLabels, Counter>,
    tables: Family<ResultLabels, Counter>,
    refused: Gauge,
    hosts: Gauge,
}

impl Metrics {
    /// Creates the series and registers them under the prefix `roadstead_`.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        // There from the start, so that the first refusal is an increase.
        for result in ["taken", "refused"] {
            drop(metrics.tables.get_or_create(&ResultLabels { result }));
        }
        let registry = registry.sub_registry_with_prefix("roadstead");
        registry.register("router_lookups", "Requests looked up, by answer", metrics.lookups.clone());
        registry.register("router_asks", "Names asked for before a certificate, by answer", metrics.asks.clone());
        registry.register("router_tables", "Tables read, by what became of them", metrics.tables.clone());
        let help = "1 while the file is not what is served, because it is missing or was refused";
        registry.register("router_table_refused", help, metrics.refused.clone());
        registry.register("router_hosts", "Names in the table that is served", metrics.hosts.clone());
        metrics
    }

    /// A request was looked up.
    pub fn looked_up(&self, answer: &'static str) {
        self.lookups.get_or_create(&AnswerLabels { answer }).inc();
    }

    /// It was asked whether a name may have a certificate.
    pub fn asked(&self, answer: &'static str) {
        self.asks.get_or_create(&AnswerLabels { answer }).inc();
    }

    /// A table with this many names was taken.
    pub fn taken(&self, hosts: usize) {
        self.tables.get_or_create(&ResultLabels { result: "taken" }).inc();
        self.hosts.set(i64::try_from(hosts).unwrap_or(i64::MAX));
        self.refused.set(0);
    }

    /// The file was not taken.
    pub fn refused(&self) {
        self.tables.get_or_create(&ResultLabels { result: "refused" }).inc();
        self.refused.set(1);
    }
}
