//! A user's groups: creating, listing and deleting them, and removing a server from one.

use axum::Json;
use axum::http::StatusCode;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::api::address::ServerAddress;
use crate::gateway::auth::ByUser;
use crate::gateway::body::{Body, InPath};
use crate::gateway::error::{ApiError, ErrorBody};
use crate::gateway::ports::{Group, Server, ServerStatus, Strategy};

/// Most characters of a name.
const LONGEST_NAME: usize = 100;

/// A group to create.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::gateway) struct NewGroup {
    /// What to call it. White space around it is dropped.
    #[schema(
        example = "My Web Servers",
        min_length = 1,
        max_length = 100,
        pattern = r"^[^\x00-\x1F\x7F-\x9F]*[^\x00-\x1F\x7F-\x9F\s][^\x00-\x1F\x7F-\x9F]*$"
    )]
    name: String,
    /// How clients are to spread over its servers; `round-robin` without it.
    #[serde(default)]
    strategy: Option<Strategy>,
}

/// A group.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(in crate::gateway) struct GroupBody {
    /// A UUID.
    id: String,
    /// Whose it is.
    user_id: String,
    name: String,
    /// The name it is published under: `_wrap.<groupSlug>.<domain>`.
    #[schema(example = "my-web-servers-a1b2c3")]
    group_slug: String,
    strategy: Strategy,
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
}

/// A group with its servers.
#[derive(Serialize, ToSchema)]
pub(in crate::gateway) struct GroupWithServers {
    #[serde(flatten)]
    group: GroupBody,
    servers: Vec<ServerBody>,
}

/// A server of a group.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(in crate::gateway) struct ServerBody {
    id: String,
    /// The group it is in.
    group_id: String,
    #[schema(example = "192.168.1.100")]
    address: String,
    status: ServerStatus,
    /// When it last reported; null if it never did.
    #[schema(value_type = Option<String>, format = DateTime)]
    last_heartbeat_at: Option<Timestamp>,
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
}

impl GroupBody {
    fn of(group: &Group) -> Self {
        Self {
            id: group.id.clone(),
            user_id: group.user.to_string(),
            name: group.name.clone(),
            group_slug: group.slug.clone(),
            strategy: group.strategy,
            created_at: group.created_at,
        }
    }
}

impl GroupWithServers {
    fn of(group: Group) -> Self {
        let body = GroupBody::of(&group);
        let server = |server: Server| ServerBody {
            id: server.id,
            group_id: body.id.clone(),
            address: server.address,
            status: server.status,
            last_heartbeat_at: server.last_heartbeat_at,
            created_at: server.created_at,
        };
        let servers = group.servers.into_iter().map(server).collect();
        Self { group: body, servers }
    }
}

/// Create a group
///
/// It becomes a `ServerGroup` with a generated slug, and is published without servers at first.
#[utoipa::path(
    post,
    path = "/api/groups",
    security(("key" = [])),
    request_body = NewGroup,
    responses(
        (status = 201, description = "The group.", body = GroupBody),
        (status = 400, description = "Not a name or strategy, or not the JSON that is expected.", body = ErrorBody),
        (status = 401, description = "The key is missing, mistyped or opens nothing.", body = ErrorBody),
        (status = 403, description = "Not an API key, or the cluster does not admit the group.", body = ErrorBody),
        (status = 409, description = "The user has as many groups as one may have.", body = ErrorBody),
        (status = 408, description = "The body took too long to arrive.", body = ErrorBody),
        (status = 413, description = "The body is over 64 KiB.", body = ErrorBody),
        (status = 429, description = "Too many requests.", body = ErrorBody),
        (status = 503, description = "Cannot be done now.", body = ErrorBody),
    )
)]
pub(in crate::gateway) async fn create(
    by: ByUser,
    Body(new): Body<NewGroup>,
) -> Result<(StatusCode, Json<GroupBody>), ApiError> {
    let name = new.name.trim();
    if name.is_empty() || new.name.chars().count() > LONGEST_NAME || new.name.chars().any(char::is_control) {
        let message = format!("`name` has to have 1 to {LONGEST_NAME} characters, none of them a control character");
        return Err(ApiError::bad_request("InvalidName", message));
    }
    let group = by.ports.groups.create(&by.user, name, new.strategy.unwrap_or_default()).await?;
    Ok((StatusCode::CREATED, Json(GroupBody::of(&group))))
}

/// List the groups
///
/// All groups of this key's user, with their servers.
#[utoipa::path(
    get,
    path = "/api/groups",
    security(("key" = [])),
    responses(
        (status = 200, description = "The groups, oldest first.", body = Vec<GroupWithServers>),
        (status = 401, description = "The key is missing, mistyped or opens nothing.", body = ErrorBody),
        (status = 403, description = "Not an API key.", body = ErrorBody),
        (status = 429, description = "Too many requests.", body = ErrorBody),
        (status = 503, description = "Cannot be done now.", body = ErrorBody),
    )
)]
pub(in crate::gateway) async fn list(by: ByUser) -> Json<Vec<GroupWithServers>> {
    Json(by.ports.groups.list(&by.user).into_iter().map(GroupWithServers::of).collect())
}

/// Delete a group
///
/// Its record is withdrawn, and its slug is free for another one later.
#[utoipa::path(
    delete,
    path = "/api/groups/{slug}",
    params(("slug" = String, Path, description = "The group's slug.")),
    security(("key" = [])),
    responses(
        (status = 204, description = "The group is being deleted."),
        (status = 400, description = "The path cannot be read.", body = ErrorBody),
        (status = 401, description = "The key is missing, mistyped or opens nothing.", body = ErrorBody),
        (status = 403, description = "Not an API key.", body = ErrorBody),
        (status = 404, description = "The user has no group of this slug.", body = ErrorBody),
        (status = 429, description = "Too many requests.", body = ErrorBody),
        (status = 503, description = "Cannot be done now.", body = ErrorBody),
    )
)]
pub(in crate::gateway) async fn delete(by: ByUser, InPath(slug): InPath<String>) -> Result<StatusCode, ApiError> {
    by.ports.groups.delete(&by.user, &slug).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Remove a server
///
/// It comes back if it reports again.
#[utoipa::path(
    delete,
    path = "/api/groups/{slug}/servers/{address}",
    params(
        ("slug" = String, Path, description = "The group's slug."),
        ("address" = String, Path, description = "The server's address, as it is listed.", example = "192.168.1.100"),
    ),
    security(("key" = [])),
    responses(
        (status = 204, description = "The server is removed."),
        (status = 400, description = "Not an address.", body = ErrorBody),
        (status = 401, description = "The key is missing, mistyped or opens nothing.", body = ErrorBody),
        (status = 403, description = "Not an API key.", body = ErrorBody),
        (status = 404, description = "The user has no group of this slug, or it has no such server.", body = ErrorBody),
        (status = 409, description = "The server is declared in Kubernetes.", body = ErrorBody),
        (status = 429, description = "Too many requests or changes.", body = ErrorBody),
        (status = 503, description = "Cannot be done now.", body = ErrorBody),
    )
)]
pub(in crate::gateway) async fn remove_server(
    by: ByUser,
    InPath((slug, address)): InPath<(String, String)>,
) -> Result<StatusCode, ApiError> {
    let address = ServerAddress::parse(&address)?;
    by.ports.groups.remove_server(&by.user, &slug, &address).await?;
    Ok(StatusCode::NO_CONTENT)
}
