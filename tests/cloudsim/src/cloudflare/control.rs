//! The control routes of the simulated Cloudflare: what its dashboard and its weather are to the real one.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::{Path, State as Extract};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post, put};
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::{Value, json};

use super::limits::Limits;
use super::rules::Draft;
use super::state::{RecordEdit, State, TokenSpec, ZoneSpec};
use super::workers::ScriptInfo;

type Sim = Extract<Arc<State>>;

/// The control routes, below `/sim/cloudflare`.
///
/// | Route | |
/// |---|---|
/// | `POST /accounts` | `{"name": "main"}`; gives its id |
/// | `POST /zones` | [`ZoneSpec`]; gives its id |
/// | `DELETE /zones/{name}` | takes it away |
/// | `PUT /zones/{name}/quota` | `{"quota": 10}`, `null` for the plan's |
/// | `GET`, `POST /zones/{name}/records` | lists, or makes one by hand |
/// | `PATCH`, `DELETE /records/{id}` | [`RecordEdit`] edits by hand |
/// | `POST /tokens` | [`TokenSpec`]: adds, or replaces the one of that value |
/// | `DELETE /tokens/{value}` | revokes |
/// | `PUT /tokens/{value}/zones` | `{"zones": ["example.com"]}`: all it may see; `null` for all of its account |
/// | `GET`, `PUT`, `DELETE /workers/{account}/{script}` | [`ScriptInfo`]: shows, uploads or deletes one by hand |
/// | `PUT /hosts/{host}` | `{"address": "127.0.0.1"}`: a host of no zone that scripts can reach; `null` for none |
/// | `PUT /limits` | requests and seconds of the window |
pub fn control_router(state: Arc<State>) -> Router {
    Router::new()
        .route("/accounts", post(add_account))
        .route("/zones", post(add_zone))
        .route("/zones/{zone}", delete(remove_zone))
        .route("/zones/{zone}/quota", put(set_quota))
        .route("/zones/{zone}/records", get(records).post(add_record))
        .route("/records/{id}", axum::routing::patch(edit_record).delete(remove_record))
        .route("/tokens", post(put_token))
        .route("/tokens/{value}", delete(revoke_token))
        .route("/tokens/{value}/zones", put(confine_token))
        .route("/workers/{account}/{script}", get(script).put(put_script).delete(remove_script))
        .route("/hosts/{host}", put(set_host))
        .route("/limits", put(set_limits))
        .with_state(state)
}

#[derive(Deserialize)]
struct Name {
    name: String,
}

#[derive(Deserialize)]
struct Quota {
    quota: Option<usize>,
}

fn done(found: bool) -> StatusCode {
    if found { StatusCode::NO_CONTENT } else { StatusCode::NOT_FOUND }
}

async fn add_account(Extract(sim): Sim, Json(body): Json<Name>) -> Json<Value> {
    Json(json!({"id": sim.add_account(&body.name)}))
}

async fn add_zone(Extract(sim): Sim, Json(spec): Json<ZoneSpec>) -> Json<Value> {
    Json(json!({"id": sim.add_zone(spec)}))
}

async fn remove_zone(Extract(sim): Sim, Path(zone): Path<String>) -> StatusCode {
    sim.remove_zone(&zone);
    StatusCode::NO_CONTENT
}

async fn set_quota(Extract(sim): Sim, Path(zone): Path<String>, Json(body): Json<Quota>) -> StatusCode {
    sim.set_quota(&zone, body.quota);
    StatusCode::NO_CONTENT
}

async fn records(Extract(sim): Sim, Path(zone): Path<String>) -> Response {
    Json(sim.records(&zone)).into_response()
}

async fn add_record(Extract(sim): Sim, Path(zone): Path<String>, Json(draft): Json<Draft>) -> Response {
    match sim.add_record(&zone, &draft) {
        Ok(id) => Json(json!({"id": id})).into_response(),
        Err(error) => (StatusCode::BAD_REQUEST, Json(json!({"error": error}))).into_response(),
    }
}

async fn edit_record(Extract(sim): Sim, Path(id): Path<String>, Json(edit): Json<RecordEdit>) -> StatusCode {
    done(sim.edit_record(&id, &edit))
}

async fn remove_record(Extract(sim): Sim, Path(id): Path<String>) -> StatusCode {
    done(sim.remove_record(&id))
}

async fn put_token(Extract(sim): Sim, Json(spec): Json<TokenSpec>) -> StatusCode {
    sim.put_token(spec);
    StatusCode::NO_CONTENT
}

async fn revoke_token(Extract(sim): Sim, Path(value): Path<String>) -> StatusCode {
    sim.revoke_token(&value);
    StatusCode::NO_CONTENT
}

#[derive(Deserialize)]
struct Zones {
    zones: Option<Vec<String>>,
}

async fn confine_token(Extract(sim): Sim, Path(value): Path<String>, Json(body): Json<Zones>) -> StatusCode {
    sim.confine_token(&value, body.zones);
    StatusCode::NO_CONTENT
}

async fn script(Extract(sim): Sim, Path((account, name)): Path<(String, String)>) -> Response {
    match sim.script(&account, &name) {
        Some(script) => Json(script).into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

async fn put_script(
    Extract(sim): Sim,
    Path((account, name)): Path<(String, String)>,
    Json(info): Json<ScriptInfo>,
) -> Response {
    match sim.put_script(&account, &name, &info) {
        Ok(()) => StatusCode::NO_CONTENT.into_response(),
        Err(error) => (StatusCode::BAD_REQUEST, Json(json!({"error": error}))).into_response(),
    }
}

async fn remove_script(Extract(sim): Sim, Path((account, name)): Path<(String, String)>) -> StatusCode {
    done(sim.remove_script(&account, &name))
}

#[derive(Deserialize)]
struct Host {
    address: Option<IpAddr>,
}

async fn set_host(Extract(sim): Sim, Path(host): Path<String>, Json(body): Json<Host>) -> StatusCode {
    sim.set_host(&host, body.address);
    StatusCode::NO_CONTENT
}

async fn set_limits(Extract(sim): Sim, Json(limits): Json<Limits>) -> StatusCode {
    sim.set_limits(limits);
    StatusCode::NO_CONTENT
}
