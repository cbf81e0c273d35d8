//! What anybody may ask: where a group's healthy servers are.

use axum::Json;
use serde::Serialize;
use utoipa::ToSchema;

use crate::gateway::auth::Leading;
use crate::gateway::body::InPath;
use crate::gateway::error::{ApiError, ErrorBody};
use crate::gateway::ports::Strategy;

/// Where to go.
#[derive(Serialize, ToSchema)]
pub(in crate::gateway) struct Servers {
    strategy: Strategy,
    /// The healthy servers; empty if none is.
    #[schema(example = json!(["server1.example.com", "server2.example.com"]))]
    servers: Vec<String>,
}

/// Find the healthy servers
///
/// What the TXT record `_wrap.<slug>.<domain>` says, over HTTP and without a resolver's delay. Needs no key.
#[utoipa::path(
    get,
    path = "/dns/{slug}",
    params(("slug" = String, Path, description = "The group's slug.", example = "my-web-servers-a1b2c3")),
    responses(
        (status = 200, description = "The healthy servers.", body = Servers),
        (status = 400, description = "The path cannot be read.", body = ErrorBody),
        (status = 404, description = "No group has this slug.", body = ErrorBody),
        (status = 429, description = "Too many requests.", body = ErrorBody),
        (status = 503, description = "Cannot be done now.", body = ErrorBody),
    )
)]
pub(in crate::gateway) async fn lookup(
    Leading(ports): Leading,
    InPath(slug): InPath<String>,
) -> Result<Json<Servers>, ApiError> {
    let public = ports.groups.lookup(&slug).ok_or_else(ApiError::unknown_group)?;
    Ok(Json(Servers { strategy: public.strategy, servers: public.servers }))
}
