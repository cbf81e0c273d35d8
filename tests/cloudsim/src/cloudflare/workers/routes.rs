//! The routes of the Workers API.

use std::collections::HashMap;
use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, Query, State as Extract};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};

use super::placement::{self, DomainDraft, RouteDraft};
use super::script::invalid;
use super::upload::{self, Metadata, Settings};
use super::view;
use crate::cloudflare::routes::{Answer, Demand, answer, body, in_zone, parameter, plain};
use crate::cloudflare::rules::Refusal;
use crate::cloudflare::state::{State, World};
use crate::workerd::{Module, Outbound, Script, Workerd};

type Sim = Extract<Arc<State>>;
type Params = Query<HashMap<String, String>>;
type Ids = Path<(String, String)>;

const READ: &str = "workers:read";
const WRITE: &str = "workers:write";
const READ_ROUTES: &str = "workers_routes:read";
const WRITE_ROUTES: &str = "workers_routes:write";

/// The routes, below `/client/v4`.
pub(in crate::cloudflare) fn router() -> Router<Arc<State>> {
    let script = "/accounts/{account}/workers/scripts/{script}";
    let below = |path: &str| format!("{script}{path}");
    Router::new()
        .route("/accounts/{account}/workers/scripts", get(scripts))
        .route(script, get(download).put(put_script).delete(delete_script))
        .route(&below("/settings"), get(settings).patch(patch_settings))
        .route(&below("/versions"), get(versions).post(post_version))
        .route(&below("/versions/{version}"), get(version))
        .route(&below("/deployments"), get(deployments).post(post_deployment))
        .route(&below("/subdomain"), get(subdomain).post(post_subdomain))
        .route("/accounts/{account}/workers/domains", get(domains).put(put_domain))
        .route("/accounts/{account}/workers/domains/{domain}", get(domain).delete(delete_domain))
        .route("/zones/{zone}/workers/routes", get(zone_routes).post(post_route))
        .route("/zones/{zone}/workers/routes/{route}", get(route).put(put_route).delete(delete_route))
}

/// Runs `act` if the account is the token's.
fn in_account(
    sim: &State,
    account: &str,
    headers: &HeaderMap,
    permission: &'static str,
    act: impl FnOnce(&mut World, Timestamp) -> Answer,
) -> Response {
    answer(sim, headers, Demand::Permission(permission), |world, token, now| {
        if world.accounts.get(&token.account).is_none_or(|id| id != account) {
            return Err(Refusal::new(403, 10_000, "Authentication error"));
        }
        act(world, now)
    })
}

async fn scripts(Extract(sim): Sim, Path(account): Path<String>, headers: HeaderMap) -> Response {
    in_account(&sim, &account, &headers, READ, |world, _| {
        let all = world.workers.scripts.iter().filter(|((owner, _), _)| *owner == account);
        plain(Ok(all.map(|((_, name), script)| view::script(name, script)).collect()))
    })
}

/// The text of the main module, without an envelope.
async fn download(Extract(sim): Sim, Path((account, name)): Ids, headers: HeaderMap) -> Response {
    let mut text = None;
    let refused = in_account(&sim, &account, &headers, READ, |world, _| {
        let newest = world.workers.script(&account, &name)?.newest()?;
        text = newest.code.modules.first().map(|module| module.text.clone());
        plain(Ok(Value::Null))
    });
    match text {
        Some(text) => (StatusCode::OK, [(header::CONTENT_TYPE, "application/javascript")], text).into_response(),
        None => refused,
    }
}

/// An upload as far as it can be judged without the account: readable, and taken by workerd if there is one.
async fn uploaded(sim: &State, headers: &HeaderMap, bytes: Bytes) -> Result<(Metadata, Vec<Module>), Refusal> {
    let (metadata, mut modules): (Metadata, _) = upload::read(headers, bytes, "metadata").await?;
    let main = modules.iter().position(|module| Some(&module.name) == metadata.main_module.as_ref());
    if let Some(main) = main {
        modules.swap(0, main);
    }
    if let (Some(binary), Some(_)) = (sim.workerd(), main) {
        let script = Script {
            modules: modules.clone(),
            compatibility_date: metadata.compatibility_date.clone().unwrap_or_else(|| "2021-11-02".to_owned()),
            compatibility_flags: metadata.compatibility_flags.clone(),
            bindings: Vec::new(),
        };
        let taken = Workerd::start(&binary, &script, Outbound::Network).await;
        taken.map_err(|error| invalid(format!("{error:#}")))?;
    }
    Ok((metadata, modules))
}

async fn put_script(
    Extract(sim): Sim,
    Path((account, name)): Ids,
    Query(query): Params,
    headers: HeaderMap,
    bytes: Bytes,
) -> Response {
    let uploaded = uploaded(&sim, &headers, bytes).await;
    in_account(&sim, &account, &headers, WRITE, |world, now| {
        let (metadata, modules) = uploaded?;
        let strict = query.get("bindings_inherit").is_some_and(|mode| mode == "strict");
        let workers = &mut world.workers;
        let version = workers.draft(&account, &name, &metadata, modules, strict, now)?;
        let script = workers.add(&account, &name, version.clone(), now);
        script.tags = metadata.tags.unwrap_or_default();
        workers.deploy(&account, &name, vec![(version, 100.0)], json!({"workers/triggered_by": "upload"}), now)?;
        let mut shown = view::script(&name, workers.script(&account, &name)?);
        shown["startup_time_ms"] = json!(1);
        plain(Ok(shown))
    })
}

async fn delete_script(
    Extract(sim): Sim,
    Path((account, name)): Ids,
    Query(query): Params,
    headers: HeaderMap,
) -> Response {
    in_account(&sim, &account, &headers, WRITE, |world, _| {
        let force = query.get("force").is_some_and(|force| force == "true");
        plain(world.workers.delete(&account, &name, force).map(|()| Value::Null))
    })
}

async fn settings(Extract(sim): Sim, Path((account, name)): Ids, headers: HeaderMap) -> Response {
    in_account(&sim, &account, &headers, READ, |world, _| {
        let script = world.workers.script(&account, &name)?;
        plain(Ok(view::settings(script, script.newest()?)))
    })
}

async fn patch_settings(Extract(sim): Sim, Path((account, name)): Ids, headers: HeaderMap, bytes: Bytes) -> Response {
    let read = upload::read::<Settings>(&headers, bytes, "settings").await;
    in_account(&sim, &account, &headers, WRITE, |world, now| {
        let (settings, _) = read?;
        let workers = &mut world.workers;
        let version = workers.resettle(&account, &name, &settings, now)?;
        let script = workers.add(&account, &name, version.clone(), now);
        if let Some(tags) = settings.tags {
            script.tags = tags;
        }
        let shown = view::settings(script, &version);
        workers.deploy(&account, &name, vec![(version, 100.0)], json!({"workers/triggered_by": "settings"}), now)?;
        plain(Ok(shown))
    })
}

async fn versions(Extract(sim): Sim, Path((account, name)): Ids, Query(query): Params, headers: HeaderMap) -> Response {
    in_account(&sim, &account, &headers, READ, |world, _| {
        let versions = &world.workers.script(&account, &name)?.versions;
        let (page, per_page) = (parameter(&query, "page", 1), parameter(&query, "per_page", 10));
        let newest_first = versions.iter().rev().skip((page - 1) * per_page).take(per_page);
        let items: Vec<_> = newest_first.map(|version| view::version(version, false)).collect();
        let total = versions.len();
        let info = json!({
            "page": page, "per_page": per_page, "count": items.len(), "total_count": total,
            "total_pages": total.div_ceil(per_page),
        });
        Ok((json!({"items": items}), Some(info)))
    })
}

async fn post_version(
    Extract(sim): Sim,
    Path((account, name)): Ids,
    Query(query): Params,
    headers: HeaderMap,
    bytes: Bytes,
) -> Response {
    let uploaded = uploaded(&sim, &headers, bytes).await;
    in_account(&sim, &account, &headers, WRITE, |world, now| {
        let (metadata, modules) = uploaded?;
        let strict = query.get("bindings_inherit").is_some_and(|mode| mode == "strict");
        world.workers.script(&account, &name)?;
        let version = world.workers.draft(&account, &name, &metadata, modules, strict, now)?;
        let mut shown = view::version(&version, true);
        shown["startup_time_ms"] = json!(1);
        world.workers.add(&account, &name, version, now);
        plain(Ok(shown))
    })
}

async fn version(
    Extract(sim): Sim,
    Path((account, name, id)): Path<(String, String, String)>,
    headers: HeaderMap,
) -> Response {
    in_account(&sim, &account, &headers, READ, |world, _| {
        let versions = &world.workers.script(&account, &name)?.versions;
        let found = versions.iter().find(|version| version.id == id);
        plain(found.map(|version| view::version(version, true)).ok_or_else(no_version))
    })
}

fn no_version() -> Refusal {
    Refusal::new(404, 10_218, "This Worker version does not exist.")
}

async fn deployments(Extract(sim): Sim, Path((account, name)): Ids, headers: HeaderMap) -> Response {
    in_account(&sim, &account, &headers, READ, |world, _| {
        let deployments = &world.workers.script(&account, &name)?.deployments;
        let newest_first: Vec<_> = deployments.iter().rev().map(view::deployment).collect();
        plain(Ok(json!({"deployments": newest_first})))
    })
}

#[derive(Deserialize)]
struct DeploymentDraft {
    strategy: String,
    versions: Vec<Share>,
    #[serde(default)]
    annotations: Value,
}

#[derive(Deserialize)]
struct Share {
    version_id: String,
    percentage: f64,
}

async fn post_deployment(Extract(sim): Sim, Path((account, name)): Ids, headers: HeaderMap, bytes: Bytes) -> Response {
    in_account(&sim, &account, &headers, WRITE, |world, now| {
        let draft: DeploymentDraft = body(&bytes)?;
        let script = world.workers.script(&account, &name)?;
        let total: f64 = draft.versions.iter().map(|share| share.percentage).sum();
        if draft.strategy != "percentage" || (total - 100.0).abs() > 0.001 || draft.versions.len() > 2 {
            return Err(invalid("a deployment has one or two versions whose percentages total 100"));
        }
        let find = |share: &Share| {
            let found = script.versions.iter().find(|version| version.id == share.version_id);
            found.map(|version| (version.clone(), share.percentage)).ok_or_else(no_version)
        };
        let versions = draft.versions.iter().map(find).collect::<Result<_, _>>()?;
        world.workers.deploy(&account, &name, versions, draft.annotations, now)?;
        plain(Ok(world.workers.script(&account, &name)?.deployments.last().map(view::deployment).unwrap_or_default()))
    })
}

#[derive(Deserialize)]
struct Enabled {
    enabled: bool,
}

async fn subdomain(Extract(sim): Sim, Path((account, name)): Ids, headers: HeaderMap) -> Response {
    in_account(&sim, &account, &headers, READ, |world, _| {
        let enabled = world.workers.script(&account, &name)?.subdomain;
        plain(Ok(json!({"enabled": enabled, "previews_enabled": false})))
    })
}

async fn post_subdomain(Extract(sim): Sim, Path((account, name)): Ids, headers: HeaderMap, bytes: Bytes) -> Response {
    in_account(&sim, &account, &headers, WRITE, |world, _| {
        let Enabled { enabled } = body(&bytes)?;
        world.workers.script_mut(&account, &name)?.subdomain = enabled;
        plain(Ok(json!({"enabled": enabled, "previews_enabled": false})))
    })
}

async fn domains(Extract(sim): Sim, Path(account): Path<String>, Query(query): Params, headers: HeaderMap) -> Response {
    in_account(&sim, &account, &headers, READ, |world, _| {
        let fits = |key: &str, value: &str| query.get(key).is_none_or(|wanted| wanted == value);
        let mine = world.workers.domains.iter().filter(|domain| domain.account == account);
        let found = mine.filter(|d| {
            fits("hostname", &d.hostname)
                && fits("service", &d.service)
                && fits("zone_id", &d.zone_id)
                && fits("zone_name", &d.zone_name)
        });
        plain(Ok(found.map(placement::Domain::shown).collect()))
    })
}

async fn put_domain(Extract(sim): Sim, Path(account): Path<String>, headers: HeaderMap, bytes: Bytes) -> Response {
    in_account(&sim, &account, &headers, WRITE, |world, now| {
        plain(placement::put_domain(world, &account, &body::<DomainDraft>(&bytes)?, now))
    })
}

async fn domain(Extract(sim): Sim, Path((account, id)): Ids, headers: HeaderMap) -> Response {
    in_account(&sim, &account, &headers, READ, |world, _| {
        let found = world.workers.domains.iter().find(|domain| domain.account == account && domain.id == id);
        plain(found.map(placement::Domain::shown).ok_or_else(placement::no_domain))
    })
}

async fn delete_domain(Extract(sim): Sim, Path((account, id)): Ids, headers: HeaderMap) -> Response {
    in_account(&sim, &account, &headers, WRITE, |world, _| {
        let domains = &mut world.workers.domains;
        let index = domains.iter().position(|domain| domain.account == account && domain.id == id);
        domains.remove(index.ok_or_else(placement::no_domain)?);
        plain(Ok(Value::Null))
    })
}

async fn zone_routes(Extract(sim): Sim, Path(zone): Path<String>, headers: HeaderMap) -> Response {
    in_zone(&sim, &zone, &headers, READ_ROUTES, |world, _| {
        let routes = world.workers.routes.get(&zone).into_iter().flatten();
        plain(Ok(routes.map(placement::Route::shown).collect()))
    })
}

async fn post_route(Extract(sim): Sim, Path(zone): Path<String>, headers: HeaderMap, bytes: Bytes) -> Response {
    in_zone(&sim, &zone, &headers, WRITE_ROUTES, |world, _| {
        plain(placement::put_route(world, &zone, None, body::<RouteDraft>(&bytes)?))
    })
}

async fn route(Extract(sim): Sim, Path((zone, id)): Ids, headers: HeaderMap) -> Response {
    in_zone(&sim, &zone, &headers, READ_ROUTES, |world, _| {
        let found = world.workers.routes.get(&zone).into_iter().flatten().find(|route| route.id == id);
        plain(found.map(placement::Route::shown).ok_or_else(placement::no_route))
    })
}

async fn put_route(Extract(sim): Sim, Path((zone, id)): Ids, headers: HeaderMap, bytes: Bytes) -> Response {
    in_zone(&sim, &zone, &headers, WRITE_ROUTES, |world, _| {
        plain(placement::put_route(world, &zone, Some(&id), body::<RouteDraft>(&bytes)?))
    })
}

async fn delete_route(Extract(sim): Sim, Path((zone, id)): Ids, headers: HeaderMap) -> Response {
    in_zone(&sim, &zone, &headers, WRITE_ROUTES, |world, _| {
        let routes = world.workers.routes.entry(zone.clone()).or_default();
        let index = routes.iter().position(|route| route.id == id).ok_or_else(placement::no_route)?;
        plain(Ok(json!({"id": routes.remove(index).id})))
    })
}
