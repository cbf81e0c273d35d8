//! The control routes of the simulated `DigitalOcean`: what its control panel and its weather are to the real one.

use std::sync::Arc;

use axum::extract::{Path, State as Extract};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, put};
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::{Value, json};

use super::account::AccountSpec;
use super::catalog::{Image, Region, Size};
use super::panel::{DropletEdit, NewDroplet};
use super::settings::Settings;
use super::state::State;
use super::tokens::TokenSpec;

type Sim = Extract<Arc<State>>;

/// The control routes. Bodies are the types of this module in JSON.
///
/// | Route | |
/// |---|---|
/// | `GET /state` | accounts, tokens, settings and droplets |
/// | `GET`, `PATCH /settings` | [`Settings`]; a patch keeps what it leaves out |
/// | `POST /accounts` | [`AccountSpec`]: adds, or replaces the one of that name |
/// | `PUT /accounts/{name}/droplet-limit` | `{"limit": 3}` |
/// | `POST /tokens` | [`TokenSpec`]: adds, or replaces the one of that value |
/// | `DELETE /tokens/{value}` | revokes |
/// | `GET`, `POST /droplets` | lists all that exist; a [`NewDroplet`] or an array of them makes some |
/// | `GET`, `PATCH`, `DELETE /droplets/{id}` | [`DropletEdit`] edits; deleting is at once |
/// | `GET /offers` | regions, sizes, images |
/// | `POST /regions`, `/sizes`, `/images` | adds, or replaces the one of that slug |
/// | `DELETE /regions/{slug}`, `/sizes/{slug}`, `/images/{slug}` | withdraws |
pub fn control_router(state: Arc<State>) -> Router {
    Router::new()
        .route("/state", get(dump))
        .route("/settings", get(settings).patch(change_settings))
        .route("/accounts", get(accounts).post(put_account))
        .route("/accounts/{name}/droplet-limit", put(set_droplet_limit))
        .route("/tokens", get(tokens).post(put_token))
        .route("/tokens/{value}", delete(revoke_token))
        .route("/droplets", get(droplets).post(add_droplets))
        .route("/droplets/{id}", get(droplet).patch(edit_droplet).delete(remove_droplet))
        .route("/offers", get(offers))
        .route("/regions", axum::routing::post(put_region))
        .route("/regions/{slug}", delete(withdraw_region))
        .route("/sizes", axum::routing::post(put_size))
        .route("/sizes/{slug}", delete(withdraw_size))
        .route("/images", axum::routing::post(put_image))
        .route("/images/{slug}", delete(withdraw_image))
        .with_state(state)
}

fn missing(what: &str, name: &str) -> Response {
    (StatusCode::NOT_FOUND, Json(json!({"error": format!("no {what} {name}")}))).into_response()
}

fn done(found: bool, what: &str, name: &str) -> Response {
    if found { StatusCode::NO_CONTENT.into_response() } else { missing(what, name) }
}

async fn dump(Extract(sim): Sim) -> Json<Value> {
    Json(json!({
        "accounts": sim.accounts(),
        "tokens": sim.tokens(),
        "settings": sim.settings(),
        "droplets": sim.droplets(),
    }))
}

async fn settings(Extract(sim): Sim) -> Json<Settings> {
    Json(sim.settings())
}

async fn change_settings(Extract(sim): Sim, Json(patch): Json<serde_json::Map<String, Value>>) -> Response {
    let mut merged = json!(sim.settings());
    for (name, value) in patch {
        merged[&name] = value;
    }
    match serde_json::from_value::<Settings>(merged) {
        Ok(settings) => {
            sim.set_settings(settings.clone());
            Json(settings).into_response()
        }
        Err(error) => (StatusCode::UNPROCESSABLE_ENTITY, Json(json!({"error": error.to_string()}))).into_response(),
    }
}

async fn accounts(Extract(sim): Sim) -> Json<Vec<AccountSpec>> {
    Json(sim.accounts())
}

async fn put_account(Extract(sim): Sim, Json(spec): Json<AccountSpec>) -> Json<AccountSpec> {
    Json(sim.put_account(spec))
}

#[derive(Deserialize)]
struct Limit {
    limit: usize,
}

async fn set_droplet_limit(Extract(sim): Sim, Path(name): Path<String>, Json(body): Json<Limit>) -> Response {
    done(sim.set_droplet_limit(&name, body.limit), "account", &name)
}

async fn tokens(Extract(sim): Sim) -> Json<Vec<TokenSpec>> {
    Json(sim.tokens())
}

async fn put_token(Extract(sim): Sim, Json(spec): Json<TokenSpec>) -> StatusCode {
    sim.put_token(spec);
    StatusCode::NO_CONTENT
}

async fn revoke_token(Extract(sim): Sim, Path(value): Path<String>) -> Response {
    done(sim.revoke_token(&value), "token", &value)
}

async fn droplets(Extract(sim): Sim) -> Response {
    Json(sim.droplets()).into_response()
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    Many(Vec<NewDroplet>),
    One(NewDroplet),
}

async fn add_droplets(Extract(sim): Sim, Json(new): Json<OneOrMany>) -> Response {
    let made = match &new {
        OneOrMany::One(new) => sim.add_droplet(new).map(|droplet| json!(droplet)),
        OneOrMany::Many(all) => {
            let made: Result<Vec<_>, _> = all.iter().map(|new| sim.add_droplet(new)).collect();
            made.map(|droplets| json!(droplets))
        }
    };
    match made {
        Ok(body) => (StatusCode::CREATED, Json(body)).into_response(),
        Err(error) => {
            let body = Json(json!({"error": error}));
            (StatusCode::UNPROCESSABLE_ENTITY, body).into_response()
        }
    }
}

async fn droplet(Extract(sim): Sim, Path(id): Path<u64>) -> Response {
    sim.droplet(id).map_or_else(|| missing("droplet", &id.to_string()), |droplet| Json(droplet).into_response())
}

async fn edit_droplet(Extract(sim): Sim, Path(id): Path<u64>, Json(edit): Json<DropletEdit>) -> Response {
    let edited = sim.edit_droplet(id, edit);
    edited.map_or_else(|| missing("droplet", &id.to_string()), |droplet| Json(droplet).into_response())
}

async fn remove_droplet(Extract(sim): Sim, Path(id): Path<u64>) -> Response {
    done(sim.remove_droplet(id), "droplet", &id.to_string())
}

async fn offers(Extract(sim): Sim) -> Json<Value> {
    let (regions, sizes, images) = sim.offers();
    Json(json!({"regions": regions, "sizes": sizes, "images": images}))
}

async fn put_region(Extract(sim): Sim, Json(region): Json<Region>) -> StatusCode {
    sim.put_region(region);
    StatusCode::NO_CONTENT
}

async fn put_size(Extract(sim): Sim, Json(size): Json<Size>) -> StatusCode {
    sim.put_size(size);
    StatusCode::NO_CONTENT
}

async fn put_image(Extract(sim): Sim, Json(image): Json<Image>) -> StatusCode {
    sim.put_image(image);
    StatusCode::NO_CONTENT
}

async fn withdraw_region(Extract(sim): Sim, Path(slug): Path<String>) -> Response {
    done(sim.withdraw_region(&slug), "region", &slug)
}

async fn withdraw_size(Extract(sim): Sim, Path(slug): Path<String>) -> Response {
    done(sim.withdraw_size(&slug), "size", &slug)
}

async fn withdraw_image(Extract(sim): Sim, Path(slug): Path<String>) -> Response {
    done(sim.withdraw_image(&slug), "image", &slug)
}
