//! The control API below `/sim`: journal, faults, holds, clock, latency and the DNS servers' weather.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::extract::{Path, Query, State as Extract};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use axum::{Json, Router};
use jiff::SignedDuration;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::clock::Clock;
use crate::cloudflare;
use crate::dns::{Dns, Weather};
use crate::faults::{Fault, Release};
use crate::gate::Gate;

#[derive(Clone)]
struct Panel {
    clock: Clock,
    gate: Arc<Gate>,
    dns: Arc<Dns>,
}

/// The control routes.
///
/// | Route | |
/// |---|---|
/// | `GET`, `DELETE /sim/journal` | all requests, `?since=` a number; forget them |
/// | `GET`, `POST`, `DELETE /sim/faults` | [`Fault`] |
/// | `GET /sim/holds`, `POST /sim/holds/{id}/release` | `{"outcome": "commit" \| "commit_and_cut" \| "drop" \| {"commit_late": ms}}`; answers `{"committed", "status"}` once done |
/// | `GET /sim/clock` | `{"now": "…"}` |
/// | `POST /sim/clock/advance` | `{"seconds": 60}` |
/// | `PUT /sim/latency` | `{"ms": 50}` |
/// | `GET`, `PUT /sim/dns` | [`Weather`] |
/// | `/sim/cloudflare/…`, `/sim/digitalocean/…` | see there |
pub(crate) fn router(clock: Clock, gate: Arc<Gate>, cloudflare: Arc<cloudflare::State>, dns: Arc<Dns>) -> Router {
    Router::new()
        .route("/sim/journal", get(journal).delete(forget))
        .route("/sim/faults", get(faults).post(add_fault).delete(clear_faults))
        .route("/sim/holds", get(holds))
        .route("/sim/holds/{id}/release", post(release))
        .route("/sim/clock", get(time))
        .route("/sim/clock/advance", post(advance))
        .route("/sim/latency", put(latency))
        .route("/sim/dns", get(weather).put(set_weather))
        .with_state(Panel { clock, gate, dns })
        .nest("/sim/cloudflare", cloudflare::control_router(cloudflare))
}

#[derive(Deserialize)]
struct Since {
    #[serde(default)]
    since: u64,
}

#[derive(Deserialize)]
struct Outcome {
    outcome: Release,
}

#[derive(Deserialize)]
struct Seconds {
    seconds: i64,
}

#[derive(Deserialize)]
struct Millis {
    ms: u64,
}

async fn journal(Extract(panel): Extract<Panel>, Query(query): Query<Since>) -> Response {
    Json(panel.gate.journal.since(query.since)).into_response()
}

async fn forget(Extract(panel): Extract<Panel>) -> StatusCode {
    panel.gate.journal.clear();
    StatusCode::NO_CONTENT
}

async fn faults(Extract(panel): Extract<Panel>) -> Json<Value> {
    let all = panel.gate.faults.list();
    Json(all.into_iter().map(|(fault, matched)| json!({"fault": fault, "matched": matched})).collect())
}

async fn add_fault(Extract(panel): Extract<Panel>, Json(fault): Json<Fault>) -> StatusCode {
    panel.gate.faults.add(fault);
    StatusCode::NO_CONTENT
}

async fn clear_faults(Extract(panel): Extract<Panel>) -> StatusCode {
    panel.gate.faults.clear();
    StatusCode::NO_CONTENT
}

async fn holds(Extract(panel): Extract<Panel>) -> Response {
    Json(panel.gate.faults.held()).into_response()
}

async fn release(Extract(panel): Extract<Panel>, Path(id): Path<u64>, Json(body): Json<Outcome>) -> Response {
    match panel.gate.faults.settle(id, body.outcome).await {
        Some(released) => Json(released).into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

async fn time(Extract(panel): Extract<Panel>) -> Json<Value> {
    Json(json!({"now": panel.clock.now()}))
}

async fn advance(Extract(panel): Extract<Panel>, Json(body): Json<Seconds>) -> StatusCode {
    panel.clock.advance(SignedDuration::from_secs(body.seconds));
    StatusCode::NO_CONTENT
}

async fn latency(Extract(panel): Extract<Panel>, Json(body): Json<Millis>) -> StatusCode {
    panel.gate.latency_ms.store(body.ms, Ordering::Relaxed);
    StatusCode::NO_CONTENT
}

async fn weather(Extract(panel): Extract<Panel>) -> Json<Weather> {
    Json(panel.dns.weather())
}

async fn set_weather(Extract(panel): Extract<Panel>, Json(weather): Json<Weather>) -> StatusCode {
    panel.dns.set_weather(weather);
    StatusCode::NO_CONTENT
}
