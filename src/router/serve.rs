//! The HTTP of a router.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Query, State};
use axum::http::header::{CONTENT_TYPE, HOST};
use axum::http::{HeaderMap, Response, StatusCode};
use axum::response::IntoResponse;
use axum::routing::get;
use futures::future::join_all;
use prometheus_client::registry::Registry;
use serde::Deserialize;
use tokio::sync::watch;

use super::Settings;
use super::answer::{ASKED, Answer};
use super::listen::Listener;
use super::metrics::Metrics;
use super::source::{Source, Tables};

/// How long requests in hand may take after the process was told to stop.
const GRACE: Duration = Duration::from_secs(5);

struct Shared {
    tables: Tables,
    metrics: Metrics,
    registry: Registry,
}

/// Serves until `stop` turns true.
///
/// # Errors
/// When a socket cannot be opened.
pub async fn run(settings: Settings, stop: watch::Receiver<bool>) -> anyhow::Result<()> {
    let mut registry = Registry::default();
    let metrics = Metrics::register(&mut registry);
    let tables = Tables::default();
    // Before there is a socket: whoever finds one gets answers from the table.
    Source::new(settings.table, tables.clone(), metrics.clone()).follow()?;
    let mut listeners = Vec::new();
    for listen in &settings.listen {
        listeners.push(Listener::open(listen, settings.socket_mode).await?);
        tracing::info!(?listen, "listening");
    }
    let routes = Router::new()
        .route("/lookup", get(lookup))
        .route("/ask", get(ask))
        .route("/healthz", get(health))
        .route("/metrics", get(metrics_text))
        .with_state(Arc::new(Shared { tables, metrics, registry }));
    let stopped = || {
        let mut stop = stop.clone();
        async move {
            // Nobody is left to say it: then it ends as well.
            let _ = stop.wait_for(|stop| *stop).await;
        }
    };
    let serving = listeners.into_iter().map(|listener| {
        let (routes, stopped) = (routes.clone(), stopped());
        async move {
            match listener {
                Listener::Unix(unix) => axum::serve(unix, routes).with_graceful_shutdown(stopped).await,
                Listener::Tcp(tcp) => axum::serve(tcp, routes).with_graceful_shutdown(stopped).await,
            }
        }
    });
    let late = async {
        stopped().await;
        tokio::time::sleep(GRACE).await;
    };
    tokio::select! {
        ended = join_all(serving) => ended.into_iter().collect::<Result<(), _>>()?,
        () = late => tracing::warn!("stopped with requests in hand"),
    }
    Ok(())
}

async fn lookup(State(shared): State<Arc<Shared>>, headers: HeaderMap) -> Response<Body> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let served = shared.tables.served();
    let host = text(HOST.as_str()).unwrap_or_default();
    let uri = text("x-forwarded-uri").unwrap_or("/");
    let asked = text(ASKED.as_str());
    let answer = Answer::of(served.as_deref().map(|served| &served.table), host, uri, asked);
    shared.metrics.looked_up(answer.kind());
    answer.into_response()
}

#[derive(Deserialize)]
struct Ask {
    domain: String,
}

async fn ask(State(shared): State<Arc<Shared>>, Query(Ask { domain }): Query<Ask>) -> StatusCode {
    let (answer, status) = match shared.tables.served() {
        None => ("no-table", StatusCode::SERVICE_UNAVAILABLE),
        Some(served) if served.table.lookup(&domain).is_some() => ("allowed", StatusCode::OK),
        Some(_) => ("denied", StatusCode::NOT_FOUND),
    };
    shared.metrics.asked(answer);
    status
}

async fn health(State(shared): State<Arc<Shared>>) -> axum::Json<serde_json::Value> {
    let state = shared.tables.state();
    let served = state.served.as_deref();
    axum::Json(serde_json::json!({
        "table": served.map(|served| &served.hash),
        "hosts": served.map(|served| served.table.len()),
        "refused": state.refused,
    }))
}

async fn metrics_text(State(shared): State<Arc<Shared>>) -> impl IntoResponse {
    let mut text = String::new();
    match prometheus_client::encoding::text::encode(&mut text, &shared.registry) {
        Ok(()) => {
            let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
            ([(CONTENT_TYPE, kind)], text).into_response()
        }
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}
