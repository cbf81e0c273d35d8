//! What was found out about a group's servers, page by page.

use std::num::NonZeroU16;

use axum::Json;
use axum::http::StatusCode;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::gateway::auth::ByUser;
use crate::gateway::body::{InPath, InQuery};
use crate::gateway::error::{ApiError, ErrorBody};
use crate::store::Recorded;

/// Entries of a page, unless the request says otherwise.
const PAGE: u16 = 100;
/// Most entries of a page.
const LARGEST_PAGE: u16 = 1000;

/// Which page.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(in crate::gateway) struct Page {
    /// Most entries of the page, 1 to 1000.
    #[param(default = 100, minimum = 1, maximum = 1000, value_type = Option<u16>)]
    limit: Option<NonZeroU16>,
    /// The `next` of the page before.
    #[param(minimum = 1)]
    before: Option<i64>,
}

/// A page, newest first.
#[derive(Serialize, ToSchema)]
pub(in crate::gateway) struct History {
    entries: Vec<HistoryEntry>,
    /// The `before` of the next page; null after the last.
    next: Option<i64>,
}

/// One thing that was found out.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(in crate::gateway) struct HistoryEntry {
    #[schema(example = "server1.example.com")]
    address: String,
    /// `probe` if we found out, `report` if the server said so, `silence` if it said nothing for too long.
    #[schema(example = "report")]
    source: &'static str,
    /// `healthy`, `unhealthy` or `pending`.
    #[schema(example = "healthy")]
    status: &'static str,
    details: Option<String>,
    #[schema(value_type = String, format = DateTime)]
    checked_at: Timestamp,
}

impl From<Recorded> for HistoryEntry {
    fn from(Recorded { entry, .. }: Recorded) -> Self {
        Self {
            address: entry.member,
            source: entry.source.as_str(),
            status: entry.health.as_str(),
            details: entry.details,
            checked_at: entry.at,
        }
    }
}

/// Read the history
///
/// Reports and probe verdicts of a group, newest first. What is too old, or too much, is forgotten.
#[utoipa::path(
    get,
    path = "/api/groups/{slug}/history",
    params(("slug" = String, Path, description = "The group's slug."), Page),
    security(("key" = [])),
    responses(
        (status = 200, description = "A page of the history.", body = History),
        (status = 400, description = "Not a page, or the path cannot be read.", body = ErrorBody),
        (status = 401, description = "The key is missing, mistyped or opens nothing.", body = ErrorBody),
        (status = 403, description = "Not an API key.", body = ErrorBody),
        (status = 404, description = "The user has no group of this slug, or no history is kept.", body = ErrorBody),
        (status = 429, description = "Too many requests.", body = ErrorBody),
        (status = 503, description = "Cannot be read now.", body = ErrorBody),
    )
)]
pub(in crate::gateway) async fn recent(
    by: ByUser,
    InPath(slug): InPath<String>,
    InQuery(page): InQuery<Page>,
) -> Result<Json<History>, ApiError> {
    let limit = page.limit.map_or(PAGE, NonZeroU16::get);
    if limit > LARGEST_PAGE {
        return Err(ApiError::bad_request("InvalidQuery", format!("`limit` is too large: write 1 to {LARGEST_PAGE}")));
    }
    if page.before.is_some_and(|before| before < 1) {
        return Err(ApiError::bad_request("InvalidQuery", "`before` is no page: write the `next` of the page before"));
    }
    let group = by.ports.groups.owned(&by.user, &slug).ok_or_else(ApiError::unknown_group)?;
    let history = by.ports.history.as_ref().ok_or_else(|| {
        ApiError::new(StatusCode::NOT_FOUND, "NoHistory", "no history is kept: the administrator sets --history-file")
    })?;
    let entries = history.recent(&group.uid, limit.into(), page.before).await?;
    let next = entries.last().filter(|_| entries.len() == usize::from(limit)).map(|last| last.id);
    Ok(Json(History { entries: entries.into_iter().map(HistoryEntry::from).collect(), next }))
}
