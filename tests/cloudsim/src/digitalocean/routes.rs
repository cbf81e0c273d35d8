//! The routes of the simulated API.

use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, State as Extract};
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::{get, post};
use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::call::{Call, Reply, answer, parse};
use super::catalog::Image;
use super::create::CreateBody;
use super::droplet::{Action, Droplet};
use super::error::ApiError;
use super::page::Meta;
use super::state::State;
use super::tenant::Tenant;
use super::view::{self, DropletView};

type Sim = Extract<Arc<State>>;
type Answer = Result<Reply, ApiError>;

/// The API below its base URL: the routes begin with `/v2`.
pub fn router(state: Arc<State>) -> Router {
    Router::new()
        .route("/v2/account", get(account))
        .route("/v2/regions", get(regions))
        .route("/v2/sizes", get(sizes))
        .route("/v2/images", get(images))
        .route("/v2/images/{image}", get(image))
        .route("/v2/droplets", get(list_droplets).post(create_droplets).delete(delete_by_tag))
        .route("/v2/droplets/{id}", get(get_droplet).delete(delete_droplet))
        .route("/v2/droplets/{id}/actions", get(droplet_actions).post(act_on_droplet))
        .route("/v2/droplets/{id}/actions/{action}", get(droplet_action))
        .route("/v2/actions", get(list_actions))
        .route("/v2/actions/{id}", get(get_action))
        .route("/v2/tags", get(list_tags).post(create_tag))
        .route("/v2/tags/{name}", get(get_tag).delete(delete_tag))
        .route("/v2/tags/{name}/resources", post(tag_resources).delete(untag_resources))
        .fallback(unknown)
        .method_not_allowed_fallback(unknown)
        .with_state(state)
}

async fn unknown(Extract(sim): Sim, call: Call) -> Response {
    answer(&sim, &call, |_| Err(ApiError::not_found()))
}

/// Answers with the wanted page of `items` under `key`, with links and total.
fn paged<'a, T, V: Serialize>(call: &Call, key: &str, items: &'a [T], view: impl Fn(&'a T) -> V) -> Answer {
    let page = call.page()?;
    let shown: Vec<V> = page.of(items).iter().map(view).collect();
    let links = page.links(items.len(), &call.target);
    // Written as a map by hand, because the key of the items varies.
    let mut body = Map::new();
    body.insert(key.to_owned(), json!(shown));
    body.insert("links".to_owned(), json!(links));
    body.insert("meta".to_owned(), json!(Meta { total: items.len() }));
    Reply::json(StatusCode::OK, &body)
}

fn id(text: &str) -> Result<u64, ApiError> {
    text.parse().map_err(|_| ApiError::not_found())
}

async fn account(Extract(sim): Sim, call: Call) -> Response {
    answer(&sim, &call, |tenant| {
        tenant.scopes.require("account:read")?;
        let spec = &tenant.account.spec;
        let mut account = json!({
            "email": spec.email,
            "email_verified": true,
            "floating_ip_limit": 3,
            "reserved_ip_limit": 3,
            "volume_limit": 10,
            "name": spec.name,
            "status": spec.status,
            "status_message": "",
            "uuid": spec.uuid,
            "team": {"uuid": spec.team_uuid, "name": spec.name},
        });
        // Documented as needing this scope.
        if tenant.scopes.allow("droplet:read") {
            account["droplet_limit"] = json!(spec.droplet_limit);
        }
        Reply::json(StatusCode::OK, &json!({"account": account}))
    })
}

async fn regions(Extract(sim): Sim, call: Call) -> Response {
    answer(&sim, &call, |tenant| {
        tenant.scopes.require("regions:read")?;
        let all: Vec<_> = tenant.catalog.regions.values().collect();
        paged(&call, "regions", &all, |region| &***region)
    })
}

async fn sizes(Extract(sim): Sim, call: Call) -> Response {
    answer(&sim, &call, |tenant| {
        tenant.scopes.require("sizes:read")?;
        tenant.scopes.require("regions:read")?;
        let all: Vec<_> = tenant.catalog.sizes.values().collect();
        paged(&call, "sizes", &all, |size| &***size)
    })
}

async fn images(Extract(sim): Sim, call: Call) -> Response {
    answer(&sim, &call, |tenant| {
        tenant.scopes.require("image:read")?;
        let public_only = call.parameter("private") != Some("true");
        // Every image here is a public distribution, so the other types are empty lists.
        let distributions = matches!(call.parameter("type"), None | Some("distribution"));
        let untagged = call.parameter("tag_name").is_none();
        let shown = |image: &&Image| image.public == public_only && distributions && untagged;
        let all: Vec<&Image> = tenant.catalog.images.values().map(|image| &**image).filter(shown).collect();
        paged(&call, "images", &all, |image| *image)
    })
}

async fn image(Extract(sim): Sim, call: Call, Path(reference): Path<String>) -> Response {
    answer(&sim, &call, |tenant| {
        tenant.scopes.require("image:read")?;
        let image = tenant.catalog.image(&reference).ok_or_else(ApiError::not_found)?;
        Reply::json(StatusCode::OK, &json!({"image": **image}))
    })
}

async fn list_droplets(Extract(sim): Sim, call: Call) -> Response {
    answer(&sim, &call, |tenant| {
        let (tag, name, kind) = (call.parameter("tag_name"), call.parameter("name"), call.parameter("type"));
        let found = tenant.list(tag, name, kind)?;
        let now = tenant.now;
        let page = call.page()?;
        let body = DropletList {
            droplets: page.of(&found).iter().map(|droplet| DropletView::of(droplet, now)).collect(),
            links: page.links(found.len(), &call.target),
            meta: Meta { total: found.len() },
        };
        Reply::json(StatusCode::OK, &body)
    })
}

/// Serialized directly: going through a JSON tree would double the cost of the largest answer there is.
#[derive(Serialize)]
struct DropletList<'a> {
    droplets: Vec<DropletView<'a>>,
    links: super::page::Links,
    meta: Meta,
}

/// One droplet or several, as the request asked.
#[derive(Serialize)]
struct Created<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    droplet: Option<DropletView<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    droplets: Option<Vec<DropletView<'a>>>,
    links: CreateLinks,
}

#[derive(Serialize)]
struct CreateLinks {
    actions: Vec<Value>,
}

async fn create_droplets(Extract(sim): Sim, call: Call, body: Bytes) -> Response {
    answer(&sim, &call, |tenant| {
        let body: CreateBody = parse(&body)?;
        let made = tenant.create(&body)?;
        let droplets = made.iter().map(|(id, _)| tenant.account.fleet.get(*id, tenant.now));
        let droplets: Vec<&Droplet> = droplets.collect::<Result<_, _>>()?;
        let mut views: Vec<DropletView<'_>> = droplets.into_iter().map(DropletView::just_created).collect();
        let links: Vec<Value> =
            made.iter().map(|(_, action)| view::action_link(*action, "create", &call.target)).collect();
        let single = body.names.is_none();
        let (droplet, droplets) = if single { (views.pop(), None) } else { (None, Some(views)) };
        let links = CreateLinks { actions: links };
        let reply = Created { droplet, droplets, links };
        Reply::json(StatusCode::ACCEPTED, &reply)
    })
}

async fn get_droplet(Extract(sim): Sim, call: Call, Path(droplet): Path<String>) -> Response {
    answer(&sim, &call, |tenant| {
        tenant.scopes.require("droplet:read")?;
        let droplet = tenant.account.fleet.get(id(&droplet)?, tenant.now)?;
        Reply::json(StatusCode::OK, &json!({"droplet": DropletView::of(droplet, tenant.now)}))
    })
}

async fn delete_droplet(Extract(sim): Sim, call: Call, Path(droplet): Path<String>) -> Response {
    answer(&sim, &call, |tenant| {
        tenant.delete(id(&droplet)?)?;
        Ok(Reply::empty())
    })
}

async fn delete_by_tag(Extract(sim): Sim, call: Call) -> Response {
    answer(&sim, &call, |tenant| {
        // Without the tag the real API would have nothing to go by; it must never mean "all".
        let tag = call.parameter("tag_name").filter(|tag| !tag.is_empty());
        let tag = tag.ok_or_else(|| ApiError::unprocessable("tag_name is required"))?;
        tenant.delete_by_tag(tag)?;
        Ok(Reply::empty())
    })
}

fn action_list(call: &Call, actions: &[&Action], now: Timestamp) -> Answer {
    paged(call, "actions", actions, |action| view::action(action, now))
}

fn one_action(status: StatusCode, action: &Action, now: Timestamp) -> Answer {
    Reply::json(status, &json!({"action": view::action(action, now)}))
}

async fn droplet_actions(Extract(sim): Sim, call: Call, Path(droplet): Path<String>) -> Response {
    answer(&sim, &call, |tenant| {
        tenant.scopes.require("droplet:read")?;
        let droplet = tenant.account.fleet.get(id(&droplet)?, tenant.now)?;
        action_list(&call, &tenant.account.fleet.actions_of(droplet.id), tenant.now)
    })
}

async fn act_on_droplet(Extract(sim): Sim, call: Call, Path(droplet): Path<String>, body: Bytes) -> Response {
    answer(&sim, &call, |tenant| {
        let action = tenant.act(id(&droplet)?, &parse(&body)?)?;
        one_action(StatusCode::CREATED, tenant.account.fleet.action(action)?, tenant.now)
    })
}

async fn droplet_action(Extract(sim): Sim, call: Call, Path(path): Path<(String, String)>) -> Response {
    answer(&sim, &call, |tenant| {
        tenant.scopes.require("droplet:read")?;
        let (droplet, action) = (id(&path.0)?, id(&path.1)?);
        let action = tenant.account.fleet.action(action)?;
        if action.droplet != droplet {
            return Err(ApiError::not_found());
        }
        one_action(StatusCode::OK, action, tenant.now)
    })
}

async fn list_actions(Extract(sim): Sim, call: Call) -> Response {
    answer(&sim, &call, |tenant| {
        tenant.scopes.require("actions:read")?;
        action_list(&call, &tenant.account.fleet.all_actions(), tenant.now)
    })
}

async fn get_action(Extract(sim): Sim, call: Call, Path(action): Path<String>) -> Response {
    answer(&sim, &call, |tenant| {
        tenant.scopes.require("actions:read")?;
        one_action(StatusCode::OK, tenant.account.fleet.action(id(&action)?)?, tenant.now)
    })
}

async fn list_tags(Extract(sim): Sim, call: Call) -> Response {
    answer(&sim, &call, |tenant| {
        tenant.scopes.require("tag:read")?;
        let fleet = &tenant.account.fleet;
        let all: Vec<_> = fleet.all_tags().collect();
        paged(&call, "tags", &all, |tag| view::tag(tag, fleet, &call.target, tenant.now))
    })
}

fn one_tag(tenant: &Tenant<'_>, call: &Call, status: StatusCode, name: &str) -> Answer {
    let fleet = &tenant.account.fleet;
    let tag = view::tag(fleet.tag(name)?, fleet, &call.target, tenant.now);
    Reply::json(status, &json!({"tag": tag}))
}

async fn create_tag(Extract(sim): Sim, call: Call, body: Bytes) -> Response {
    answer(&sim, &call, |tenant| {
        let name = tenant.create_tag(&parse(&body)?)?;
        one_tag(tenant, &call, StatusCode::CREATED, &name)
    })
}

async fn get_tag(Extract(sim): Sim, call: Call, Path(name): Path<String>) -> Response {
    answer(&sim, &call, |tenant| {
        tenant.scopes.require("tag:read")?;
        one_tag(tenant, &call, StatusCode::OK, &name)
    })
}

async fn delete_tag(Extract(sim): Sim, call: Call, Path(name): Path<String>) -> Response {
    answer(&sim, &call, |tenant| {
        tenant.delete_tag(&name)?;
        Ok(Reply::empty())
    })
}

async fn tag_resources(Extract(sim): Sim, call: Call, Path(name): Path<String>, body: Bytes) -> Response {
    answer(&sim, &call, |tenant| {
        tenant.tag_resources(&name, &parse(&body)?)?;
        Ok(Reply::empty())
    })
}

async fn untag_resources(Extract(sim): Sim, call: Call, Path(name): Path<String>, body: Bytes) -> Response {
    answer(&sim, &call, |tenant| {
        tenant.untag_resources(&name, &parse(&body)?)?;
        Ok(Reply::empty())
    })
}
