//! The routes of API v4, and what each demands of the token.

use std::collections::HashMap;
use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Extension, Path, Query, State as Extract};
use axum::http::{HeaderMap, header};
use axum::response::Response;
use axum::routing::{get, post};
use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::batch::{self, Batch};
use super::rules::{Draft, Refusal};
use super::state::{State, TokenSpec, World, id_of};
use super::{records, view, workers};
use crate::faults::ListingLag;

type Sim = Extract<Arc<State>>;
type Params = Query<HashMap<String, String>>;
pub(super) type Answer = Result<(Value, Option<Value>), Refusal>;

/// The routes, below `/client/v4`.
pub fn router(state: Arc<State>) -> Router {
    Router::new()
        .route("/user/tokens/verify", get(verify_user))
        .route("/accounts", get(accounts))
        .route("/accounts/{account}/tokens/verify", get(verify_account))
        .route("/zones", get(zones))
        .route("/zones/{zone}", get(zone))
        .route("/zones/{zone}/dns_records", get(list).post(create))
        .route("/zones/{zone}/dns_records/batch", post(apply))
        .route("/zones/{zone}/dns_records/usage", get(usage))
        .route("/zones/{zone}/dns_records/{record}", get(read).put(put).patch(patch).delete(delete))
        .merge(workers::router())
        .fallback(|| async { view::failure(&Refusal::new(404, 7003, "Could not route to the path requested.")) })
        .with_state(state)
}

/// What a call demands of its token.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Demand {
    /// To be known; its state is what is asked.
    Known,
    /// A permission, somewhere.
    Permission(&'static str),
}

/// Finds the token, counts the call against its user's limit, checks what is demanded, and answers.
pub(super) fn answer(
    sim: &State,
    headers: &HeaderMap,
    demand: Demand,
    act: impl FnOnce(&mut World, &TokenSpec, Timestamp) -> Answer,
) -> Response {
    let (mut world, now) = sim.world();
    let value = headers.get(header::AUTHORIZATION).and_then(|v| v.to_str().ok()).unwrap_or_default();
    let value = value.strip_prefix("Bearer ").unwrap_or_default().trim();
    let Some(token) = world.tokens.get(value).cloned() else {
        // A value that could be no token is a bad request, an unknown one is not authenticated.
        let refusal = match value {
            "" if headers.contains_key(header::AUTHORIZATION) => Refusal::malformed_header(),
            "" => Refusal::new(400, 9106, "Missing X-Auth-Key, X-Auth-Email or Authorization headers"),
            _ => Refusal::new(401, 1000, "Invalid API Token"),
        };
        return view::failure(&refusal);
    };
    // A token that an account owns has a limit of its own.
    let user = match (&token.user, token.account_owned) {
        (Some(user), _) => user.clone(),
        (None, true) => format!("token {}", token.value),
        (None, false) => format!("user of {}", token.account),
    };
    let limits = world.limits;
    let quota = world.used.entry(user).or_default().count(limits, now);
    let result = if quota.blocked {
        Err(Refusal::new(429, 10_429, "Rate limited. Please wait and consider throttling your request speed"))
    } else {
        permit(&token, demand, now).and_then(|()| act(&mut world, &token, now))
    };
    drop(world);
    let mut response = match result {
        Ok((value, info)) => view::success(&value, info),
        Err(refusal) => view::failure(&refusal),
    };
    quota.write(response.headers_mut());
    response
}

fn permit(token: &TokenSpec, demand: Demand, now: Timestamp) -> Result<(), Refusal> {
    let Demand::Permission(wanted) = demand else { return Ok(()) };
    if status(token, now) != "active" {
        return Err(Refusal::new(401, 1000, "Invalid API Token"));
    }
    let has = |permission: &str| token.permissions.iter().any(|p| p == permission);
    let writes = |read: &str| read.strip_suffix(":read").is_some_and(|what| has(&format!("{what}:write")));
    if has(wanted) || writes(wanted) {
        return Ok(());
    }
    Err(Refusal::new(403, 10_000, "Authentication error"))
}

fn status(token: &TokenSpec, now: Timestamp) -> &str {
    if token.expires_on.is_some_and(|at| at <= now) { "expired" } else { &token.status }
}

fn verified(token: &TokenSpec, now: Timestamp) -> Value {
    json!({
        "id": id_of(&format!("token/{}", token.value)), "status": status(token, now), "expires_on": token.expires_on,
        "not_before": null,
    })
}

async fn verify_user(Extract(sim): Sim, headers: HeaderMap) -> Response {
    answer(&sim, &headers, Demand::Known, |_, token, now| {
        if token.account_owned {
            return Err(Refusal::new(401, 1000, "Invalid API Token"));
        }
        Ok((verified(token, now), None))
    })
}

async fn verify_account(Extract(sim): Sim, Path(account): Path<String>, headers: HeaderMap) -> Response {
    answer(&sim, &headers, Demand::Known, |world, token, now| {
        if !token.account_owned || world.accounts.get(&token.account) != Some(&account) {
            return Err(Refusal::new(401, 1000, "Invalid API Token"));
        }
        Ok((verified(token, now), None))
    })
}

async fn accounts(Extract(sim): Sim, headers: HeaderMap) -> Response {
    answer(&sim, &headers, Demand::Permission("zone:read"), |world, token, _| {
        let id = world.accounts.get(&token.account);
        let shown =
            json!([{"id": id, "name": token.account, "type": "standard", "created_on": "2024-01-01T00:00:00Z"}]);
        Ok((shown, Some(json!({"page": 1, "per_page": 20, "count": 1, "total_count": 1, "total_pages": 1}))))
    })
}

async fn zones(Extract(sim): Sim, Query(query): Params, headers: HeaderMap) -> Response {
    answer(&sim, &headers, Demand::Permission("zone:read"), |world, token, _| {
        let wanted = query.get("name");
        let seen = world.zones.values().filter(|zone| world.sees(token, zone));
        let all: Vec<Value> = seen
            .filter(|zone| wanted.is_none_or(|name| *name == zone.spec.name))
            .map(|zone| view::zone(world, zone))
            .collect();
        let (page, per_page) = (parameter(&query, "page", 1), parameter(&query, "per_page", 20));
        let total = all.len();
        let shown: Vec<Value> = all.into_iter().skip((page - 1) * per_page).take(per_page).collect();
        let info = json!({
            "page": page, "per_page": per_page, "count": shown.len(), "total_count": total,
            "total_pages": total.div_ceil(per_page),
        });
        Ok((Value::from(shown), Some(info)))
    })
}

pub(super) fn parameter(query: &HashMap<String, String>, key: &str, default: usize) -> usize {
    query.get(key).and_then(|text| text.parse().ok()).filter(|n| *n > 0).unwrap_or(default)
}

/// Runs `act` if the token's account has the zone.
pub(super) fn in_zone(
    sim: &State,
    zone: &str,
    headers: &HeaderMap,
    permission: &'static str,
    act: impl FnOnce(&mut World, Timestamp) -> Answer,
) -> Response {
    answer(sim, headers, Demand::Permission(permission), |world, token, now| {
        if !world.zones.get(zone).is_some_and(|zone| world.sees(token, zone)) {
            return Err(records::no_zone());
        }
        act(world, now)
    })
}

pub(super) fn body<T: DeserializeOwned>(bytes: &Bytes) -> Result<T, Refusal> {
    serde_json::from_slice(bytes).map_err(|error| Refusal::new(400, 9207, format!("Request body is invalid: {error}")))
}

pub(super) fn plain(result: Result<Value, Refusal>) -> Answer {
    result.map(|value| (value, None))
}

async fn zone(Extract(sim): Sim, Path(zone): Path<String>, headers: HeaderMap) -> Response {
    in_zone(&sim, &zone, &headers, "zone:read", |world, _| {
        plain(world.zones.get(&zone).map(|z| view::zone(world, z)).ok_or_else(records::no_zone))
    })
}

async fn list(
    Extract(sim): Sim,
    Path(zone): Path<String>,
    Query(query): Params,
    lag: Option<Extension<ListingLag>>,
    headers: HeaderMap,
) -> Response {
    in_zone(&sim, &zone, &headers, "dns:read", |world, now| {
        let zone = world.zones.get(&zone).ok_or_else(records::no_zone)?;
        let newest = lag.map_or(Timestamp::MAX, |Extension(ListingLag(lag))| now.saturating_sub(lag).unwrap_or(now));
        records::list(zone, &query, newest).map(|(shown, info)| (shown, Some(info)))
    })
}

async fn create(Extract(sim): Sim, Path(zone): Path<String>, headers: HeaderMap, bytes: Bytes) -> Response {
    in_zone(&sim, &zone, &headers, "dns:write", |world, now| plain(records::create(world, &zone, &body(&bytes)?, now)))
}

async fn apply(Extract(sim): Sim, Path(zone): Path<String>, headers: HeaderMap, bytes: Bytes) -> Response {
    in_zone(&sim, &zone, &headers, "dns:write", |world, now| {
        plain(batch::apply(world, &zone, body::<Batch>(&bytes)?, now))
    })
}

async fn usage(Extract(sim): Sim, Path(zone): Path<String>, headers: HeaderMap) -> Response {
    in_zone(&sim, &zone, &headers, "dns:read", |world, _| {
        let zone = world.zones.get(&zone).ok_or_else(records::no_zone)?;
        plain(Ok(json!({"record_usage": zone.records.len(), "record_quota": zone.quota()})))
    })
}

type Ids = Path<(String, String)>;

async fn read(Extract(sim): Sim, Path((zone, record)): Ids, headers: HeaderMap) -> Response {
    in_zone(&sim, &zone, &headers, "dns:read", |world, _| {
        let zone = world.zones.get(&zone).ok_or_else(records::no_zone)?;
        plain(zone.records.get(&record).map(view::record).ok_or_else(records::no_record))
    })
}

async fn put(Extract(sim): Sim, Path((zone, record)): Ids, headers: HeaderMap, bytes: Bytes) -> Response {
    in_zone(&sim, &zone, &headers, "dns:write", |world, now| {
        plain(records::change(world, &zone, &record, &body::<Draft>(&bytes)?, true, now))
    })
}

async fn patch(Extract(sim): Sim, Path((zone, record)): Ids, headers: HeaderMap, bytes: Bytes) -> Response {
    in_zone(&sim, &zone, &headers, "dns:write", |world, now| {
        plain(records::change(world, &zone, &record, &body::<Draft>(&bytes)?, false, now))
    })
}

async fn delete(Extract(sim): Sim, Path((zone, record)): Ids, headers: HeaderMap) -> Response {
    in_zone(&sim, &zone, &headers, "dns:write", |world, _| plain(records::delete(world, &zone, &record)))
}
