//! The composition root: clients, caches, controllers under the lease, and an orderly end.

mod history;
mod leader;
mod wakes;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context;
use futures::FutureExt;
use k8s_controller::LeaderElection;
use k8s_openapi::api::core::v1::Namespace;
use kube::{Api, Client, ResourceExt};
use prometheus_client::registry::Registry as MetricsRegistry;
use tokio::sync::{mpsc, watch};

use self::leader::OwnPod;
use self::wakes::{Caches, Wakes};
use crate::api;
use crate::api::names::ClusterId;
use crate::cli::Settings;
use crate::controllers::app_deployment::available::{self, Availability};
use crate::controllers::app_deployment::{AppDeploymentDeps, AppDeploymentReconciler};
use crate::controllers::credential::{Credentials, MAX_AGE};
use crate::controllers::environment::{EnvironmentDeps, EnvironmentReconciler};
use crate::controllers::hosts::Hosts;
use crate::controllers::hosts::keys::Keys;
use crate::controllers::node::bootstrap::{BootstrapDeps, Bootstraps};
use crate::controllers::node::{NodeDeps, NodeReconciler};
use crate::controllers::orphans::{Reports, Sweep, SweepDeps};
use crate::controllers::provider::{Brakes, ProviderDeps, ProviderReconciler};
use crate::controllers::registry::Registry;
use crate::controllers::server_group::api::{ApiGroups, ApiGroupsDeps};
use crate::controllers::server_group::members::{self, Members};
use crate::controllers::server_group::reach::Reach;
use crate::controllers::server_group::worker::desk::{Desk, DeskParts};
use crate::controllers::server_group::{ServerGroupDeps, ServerGroupReconciler, node_health};
use crate::controllers::zone::{ZoneDeps, ZoneReconciler};
use crate::gateway::ports::Ports;
use crate::gateway::{KubeReviews, SecretUsers};
use crate::health::Health;
use crate::metrics::Metrics;
use crate::outside::budget::Budgets;
use crate::probe::site::Asker;
use crate::runtime::claims::Claims;
use crate::runtime::driver::{self, Parts};
use crate::runtime::events::Events;
use crate::store::Store;
use crate::{gateway, probe, router, telemetry};

/// How long writes in hand may take after the process was told to stop.
const GRACE: Duration = Duration::from_secs(20);
/// How many changed verdicts may wait to be written before the prober waits.
const TRANSITIONS: usize = 16 * 1024;
/// Name of the lease.
const LEASE: &str = "roadstead";

/// Runs the operator until it is told to stop or loses its lease.
///
/// # Errors
/// When it cannot start, or when the lease is lost: spawned tasks would outlive it, so the process has to end.
pub fn run(settings: Settings) -> anyhow::Result<()> {
    telemetry::start()?;
    // An error means that another provider was installed first, which nothing in this process does.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("starting the runtime")?;
    runtime.block_on(operate(settings))
}

/// Runs a router until it is told to stop.
///
/// # Errors
/// When it cannot start.
pub fn route(settings: router::Settings) -> anyhow::Result<()> {
    telemetry::start()?;
    // One thread: a lookup is a few microseconds of work, and there are two routers on a host.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("starting the runtime")?;
    runtime.block_on(async { router::run(settings, stop_signal()).await })
}

async fn operate(settings: Settings) -> anyhow::Result<()> {
    let mut registry = MetricsRegistry::default();
    let metrics = Metrics::register(&mut registry);
    let health = Health::new(registry);
    health.clone().serve(settings.metrics_addr).await?;

    let mut config = kube::Config::infer().await.context("finding the Kubernetes API")?;
    // The default retries for up to hours, which no deadline of ours would survive.
    config.default_retry = false;
    let client = Client::try_from(config).context("making a Kubernetes client")?;
    let cluster = match settings.cluster_id.clone() {
        Some(cluster) => cluster,
        None => cluster_id(&client).await?,
    };
    if settings.ttl_wait_cap.is_some() || settings.authority.is_some() {
        tracing::warn!("--ttl-wait-cap or --authority is set: these are for tests, and unsafe with real DNS");
    }
    tracing::info!(version = env!("CARGO_PKG_VERSION"), cluster = cluster.as_str(), "roadstead");

    let probe_ca = match &settings.probe_ca_file {
        Some(file) => Some(std::fs::read(file).with_context(|| format!("--probe-ca-file {}", file.display()))?),
        None => None,
    };
    let acme_roots = match &settings.hosts.acme_ca_file {
        Some(file) => {
            Some(std::fs::read_to_string(file).with_context(|| format!("--acme-ca-file {}", file.display()))?)
        }
        None => None,
    };

    let shutdown = stop_signal();
    let (ports, leads) = watch::channel(None);
    let serving = match settings.gateway.settings() {
        Some(gateway) => Some(gateway::serve(gateway, leads, shutdown.clone()).await?),
        None => None,
    };
    let pod =
        OwnPod::new(&client, &settings.namespace, settings.gateway.pod_name.clone().filter(|_| serving.is_some()));
    pod.unlabel().await;
    let leading = Arc::new(AtomicBool::new(false));
    let lease = LeaderElection::new(client.clone(), &settings.namespace, LEASE, &settings.identity);
    health.set_ready(true);
    let work = {
        let (leading, shutdown) = (leading.clone(), shutdown.clone());
        async move {
            leading.store(true, Ordering::Release);
            Box::pin(lead(Start { settings, client, cluster, metrics, probe_ca, acme_roots, pod, ports }, shutdown))
                .await
        }
    };
    let idle = async {
        stopped(shutdown.clone()).await;
        // Who leads ends its work first, and then hands the lease over.
        if leading.load(Ordering::Acquire) {
            std::future::pending::<()>().await;
        }
    };
    tokio::select! {
        ended = lease.with_lease(work) => match ended {
            Some(result) => result?,
            None => anyhow::bail!("lost the lease: ending, so that nothing outlives it"),
        },
        () = idle => {}
    }
    if let Some(serving) = serving {
        serving.ended().await;
    }
    Ok(())
}

/// What a process brings along when it begins to lead.
struct Start {
    settings: Settings,
    client: Client,
    cluster: ClusterId,
    metrics: Metrics,
    probe_ca: Option<Vec<u8>>,
    acme_roots: Option<String>,
    pod: OwnPod,
    /// Where the gateway gets what it serves from: only who leads has it.
    ports: watch::Sender<Option<Ports>>,
}

/// The first 8 hex digits of the kube-system namespace's UID: as lasting as the cluster.
async fn cluster_id(client: &Client) -> anyhow::Result<ClusterId> {
    let api: Api<Namespace> = Api::all(client.clone());
    let namespace = api.get("kube-system").await.context("reading the namespace kube-system for the cluster's id")?;
    let uid = namespace.uid().context("the namespace kube-system has no UID")?;
    let digits: String = uid.chars().filter(char::is_ascii_hexdigit).take(8).collect();
    Ok(ClusterId::parse(&digits)?)
}

/// As `parts`, but for server groups: a status with hundreds of servers takes the API server half a second of a core to
/// write, and dozens of them at once take it longer than a request, or the lease, may wait.
fn few_at_once(parts: &Parts) -> Parts {
    Parts { concurrency: parts.concurrency.min(members::AT_ONCE), ..parts.clone() }
}

/// Everything that only the holder of the lease may do.
///
/// # Errors
/// When it cannot begin.
#[expect(clippy::too_many_lines, reason = "one list of what is wired to what")]
async fn lead(start: Start, shutdown: watch::Receiver<bool>) -> anyhow::Result<()> {
    let Start { settings, client, cluster, metrics, probe_ca, acme_roots, pod, ports } = start;
    let (wakes, streams) = Wakes::new();
    let caches = Caches::start(&client, &wakes);
    caches.filled().await;
    let claims = Claims::new(client.clone(), caches.claims.clone());
    let events = Events::start(client.clone(), settings.identity.clone());
    let registry = Arc::new(Registry::default());
    let credentials = Arc::new(Credentials::new(client.clone(), &settings.namespace, MAX_AGE.min(settings.resync)));
    let budgets = Budgets::default();
    let reports = Reports::default();
    let (nodes, environments) = (caches.nodes.clone(), caches.environments.clone());
    let brakes = Arc::new(Brakes::new(nodes, environments, registry.clone(), settings.settle_time));
    let parts = Parts {
        client: client.clone(),
        events: events.clone(),
        metrics: metrics.clone(),
        resync: settings.resync,
        concurrency: settings.concurrency,
    };

    let zones = ZoneReconciler::new(ZoneDeps {
        cluster: cluster.clone(),
        api: settings.cloudflare_api.clone(),
        credentials: credentials.clone(),
        budgets: budgets.clone(),
        claims: claims.clone(),
        nodes: caches.nodes.clone(),
        environments: caches.environments.clone(),
        groups: caches.groups.clone(),
        apps: caches.apps.clone(),
        registry: registry.clone(),
        orphans: reports.clone(),
        metrics: metrics.clone(),
        wakes: wakes.for_writers(),
        started: wakes.users_of_zones(&caches),
        authority: settings.authority,
        resolvers: settings.resolvers.clone(),
        resync: settings.resync,
        read_only: settings.read_only,
    });
    let providers = ProviderReconciler::new(ProviderDeps {
        cluster: cluster.clone(),
        digitalocean_api: settings.digitalocean_api.clone(),
        credentials: credentials.clone(),
        budgets: budgets.clone(),
        nodes: caches.nodes.clone(),
        environments: caches.environments.clone(),
        registry: registry.clone(),
        brakes: brakes.clone(),
        orphans: reports.clone(),
        metrics: metrics.clone(),
        started: wakes.users_of_providers(&caches),
        settle: settings.settle_time,
        resync: settings.resync,
    });
    let keys = Keys::new(client.clone(), &settings.namespace, MAX_AGE.min(settings.resync));
    let hosts = Arc::new(Hosts::new(cluster.clone(), keys, settings.resync));
    let bootstraps = Arc::new(Bootstraps::new(BootstrapDeps {
        client: client.clone(),
        hosts: hosts.clone(),
        apps: caches.apps.clone(),
        settings: settings.hosts.settings(acme_roots),
        events: events.clone(),
        wake: wakes.of_nodes(),
        wake_app: wakes.of_apps(),
        resync: settings.resync,
    }));
    let node_deps = NodeDeps {
        cluster: cluster.clone(),
        registry: registry.clone(),
        doubted: wakes.of_doubts(),
        zones: caches.zones.clone(),
        providers: caches.providers.clone(),
        brakes,
        namespaces: caches.namespaces.clone(),
        claims: claims.clone(),
        events: events.clone(),
        resolvers: settings.resolvers.clone(),
        settle: settings.settle_time,
        resync: settings.resync,
        ttl_cap: settings.ttl_wait_cap,
        read_only: settings.read_only,
        hosts: hosts.clone(),
    };
    let nodes = NodeReconciler::new(node_deps, bootstraps.clone());
    let asker_ca = probe_ca.clone();
    let (transitions, all) = mpsc::channel(TRANSITIONS);
    let wake = wakes.of_apps();
    let changes = available::split(all, TRANSITIONS, move |app| wake(app));
    let reach = Arc::new(Reach::new(client.clone(), registry.clone(), caches.zones.clone()));
    let engine = probe::Engine::start(
        probe::Settings {
            allow_cidrs: settings.probe_allow_cidr.clone(),
            extra_ca: probe_ca,
            concurrency: probe::CONCURRENCY,
            self_check: reach.clone(),
            meter: Arc::new(metrics.clone()),
        },
        transitions,
    )
    .context("--probe-ca-file")?;
    let asker = Asker::new(settings.probe_allow_cidr.clone(), asker_ca.as_deref()).context("--probe-ca-file")?;
    let deployed = AppDeploymentDeps {
        cluster: cluster.clone(),
        namespace: settings.namespace.clone(),
        client: client.clone(),
        registry: registry.clone(),
        zones: caches.zones.clone(),
        providers: caches.providers.clone(),
        nodes: caches.nodes.clone(),
        apps: caches.apps.clone(),
        groups: caches.groups.clone(),
        namespaces: caches.namespaces.clone(),
        claims: claims.clone(),
        events: events.clone(),
        hosts,
        asker: Arc::new(asker),
        available: Arc::new(Availability::new(engine.clone())),
        resolvers: settings.resolvers.clone(),
        pool: settings.hosts.app_subnets,
        resync: settings.resync,
        ttl_cap: settings.ttl_wait_cap,
        read_only: settings.read_only,
    };
    let wake = wakes.of_apps();
    let apps = Arc::new(AppDeploymentReconciler::new(deployed, move |key| wake(key)));
    wakes.follow_isolation(engine.isolated(), caches.groups.clone());
    let limits = settings.gateway.history_limits();
    let open = |file: &PathBuf| Store::open(file, limits).with_context(|| format!("--history-file {}", file.display()));
    let history = settings.gateway.history_file.as_ref().map(open).transpose()?;
    let members = Members::new(client.clone(), engine.clone(), caches.groups.clone(), metrics.clone(), history.clone());
    let api_groups = ApiGroups::new(ApiGroupsDeps {
        client: client.clone(),
        namespace: settings.gateway.gateway_namespace.clone(),
        zone: settings.gateway.gateway_zone.clone(),
        groups: caches.groups.clone(),
        nodes: caches.nodes.clone(),
        apps: caches.apps.clone(),
        zones: caches.zones.clone(),
        namespaces: caches.namespaces.clone(),
        claims: caches.claims.clone(),
        members: members.clone(),
    });
    let workers = Desk::new(DeskParts {
        api: settings.cloudflare_api.clone(),
        groups: caches.groups.clone(),
        credentials,
        budgets,
        metrics: metrics.clone(),
        wakes: wakes.for_writers(),
    });
    let groups = ServerGroupReconciler::new(ServerGroupDeps {
        cluster: cluster.clone(),
        registry: registry.clone(),
        zones: caches.zones.clone(),
        nodes: caches.nodes.clone(),
        apps: caches.apps.clone(),
        namespaces: caches.namespaces.clone(),
        claims: claims.clone(),
        events: events.clone(),
        members: members.clone(),
        workers: workers.clone(),
        isolated: engine.isolated(),
        read_only: settings.read_only,
        resync: settings.resync,
    });
    let environments = EnvironmentReconciler::new(EnvironmentDeps {
        client: client.clone(),
        nodes: caches.nodes.clone(),
        claims: claims.clone(),
        zones: caches.zones.clone(),
        resync: settings.resync,
    });
    let sweep = Sweep::new(SweepDeps {
        cluster,
        registry: registry.clone(),
        zones: caches.zones.clone(),
        providers: caches.providers.clone(),
        nodes: caches.nodes.clone(),
        environments: caches.environments.clone(),
        groups: caches.groups.clone(),
        apps: caches.apps.clone(),
        desk: workers.clone(),
        claims: claims.clone(),
        events: events.clone(),
        metrics: metrics.clone(),
        interval: settings.orphan_interval,
        reports,
        changed: wakes.of_reports(),
        resync: settings.resync,
        min_age: settings.settle_time.max(Duration::from_secs(600)),
        read_only: settings.read_only,
    });

    let end = || stopped(shutdown.clone());
    ports.send_replace(Some(Ports {
        groups: Arc::new(api_groups),
        users: Arc::new(SecretUsers::new(client.clone(), &settings.namespace)),
        reviews: Arc::new(KubeReviews::new(client.clone())),
        history: history.clone(),
    }));
    let chronicle = async {
        if let Some(history) = history {
            history::watch(history, metrics.clone(), events, settings.namespace.clone(), end()).await;
        }
    };
    let closing = async {
        end().await;
        // What is not written any more is not promised any more.
        ports.send_replace(None);
    };
    let work = async {
        tokio::join!(
            closing,
            driver::run(Arc::new(zones), parts.clone(), streams.zones, end()),
            driver::run(Arc::new(providers), parts.clone(), streams.providers, end()),
            driver::run(Arc::new(nodes), parts.clone(), streams.nodes, end()),
            driver::run(Arc::new(environments), parts.clone(), streams.environments, end()),
            driver::run(apps.clone(), parts.clone(), streams.apps, end()),
            driver::run(Arc::new(groups), few_at_once(&parts), streams.groups, end()),
            members.run(changes, end()),
            node_health::keep(client, caches.nodes.clone(), caches.groups.clone(), streams.healths, end()),
            sweep.run(end()),
            pod.lead(end()),
            chronicle,
            reach.listen(end()),
            wakes::keep_books(caches, claims, metrics.clone(), settings.resync, end()),
        );
        workers.close().await;
        bootstraps.close().await;
        apps.close().await;
        for writer in registry.writers() {
            writer.stop().await;
        }
    };
    let late = async {
        end().await;
        tokio::time::sleep(GRACE).await;
    };
    tokio::select! {
        () = work => tracing::info!("stopped"),
        () = late => tracing::warn!("stopped with work in hand; the next leader takes it up"),
    }
    Ok(())
}

/// Turns true on SIGTERM or Ctrl-C.
fn stop_signal() -> watch::Receiver<bool> {
    let (sender, receiver) = watch::channel(false);
    tokio::spawn(async move {
        let terminate = async {
            match tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) {
                Ok(mut signal) => signal.recv().await.map_or((), drop),
                Err(error) => {
                    tracing::error!(%error, "SIGTERM cannot be caught");
                    std::future::pending::<()>().await;
                }
            }
        };
        tokio::select! {
            () = terminate => {}
            _ = tokio::signal::ctrl_c() => {}
        }
        tracing::info!("told to stop");
        sender.send_replace(true);
        // The receivers live as long as the process.
        std::future::pending::<()>().await;
    });
    receiver
}

fn stopped(mut shutdown: watch::Receiver<bool>) -> impl Future<Output = ()> + Send + Sync + 'static {
    let (sender, receiver) = tokio::sync::oneshot::channel();
    tokio::spawn(async move {
        let _ = shutdown.wait_for(|stop| *stop).await;
        let _ = sender.send(());
    });
    receiver.map(drop)
}

/// Prints the custom resource definitions, or writes one file a kind into `dir`.
///
/// # Errors
/// When a file cannot be written.
pub fn write_definitions(dir: Option<&Path>) -> anyhow::Result<()> {
    for crd in api::definitions() {
        let yaml = format!(
            "# Generated by `roadstead crd`; do not edit.\n{}",
            serde_yaml::to_string(&crd).context("rendering a definition")?
        );
        match dir {
            Some(dir) => {
                let path = dir.join(format!("{}.yaml", crd.spec.names.plural));
                std::fs::write(&path, yaml).with_context(|| format!("writing {}", path.display()))?;
            }
            None => print!("---\n{yaml}"),
        }
    }
    Ok(())
}
