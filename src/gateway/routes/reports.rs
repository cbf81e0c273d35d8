//! Servers that report how they are.

use axum::Json;
use axum::extract::State;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::api::address::ServerAddress;
use crate::gateway::Gateway;
use crate::gateway::auth::ByReporter;
use crate::gateway::body::Body;
use crate::gateway::error::{ApiError, ErrorBody};
use crate::gateway::ports::Report;
use crate::store::{Entry, Health, Source};

/// Most characters of the details.
const LONGEST_DETAILS: usize = 1024;

/// A report.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(in crate::gateway) struct NewReport {
    /// The group's slug.
    #[schema(example = "my-web-servers-a1b2c3")]
    group_slug: String,
    /// The server's IP address or host name, with neither scheme nor port.
    #[schema(example = "server1.example.com", min_length = 1, max_length = 253)]
    address: String,
    /// How it is.
    status: ReportedStatus,
    /// More about it, for the history.
    #[serde(default)]
    #[schema(max_length = 1024, pattern = r"^[^\x00-\x1F\x7F-\x9F]*$")]
    details: Option<String>,
}

/// What a server can say of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(in crate::gateway) enum ReportedStatus {
    /// It serves.
    Healthy,
    /// It does not.
    Unhealthy,
}

impl From<ReportedStatus> for Health {
    fn from(status: ReportedStatus) -> Self {
        match status {
            ReportedStatus::Healthy => Self::Healthy,
            ReportedStatus::Unhealthy => Self::Unhealthy,
        }
    }
}

/// What was done.
#[derive(Serialize, ToSchema)]
pub(in crate::gateway) struct Reported {
    #[schema(example = "Status for server1.example.com reported as healthy. DNS record sync initiated.")]
    message: String,
}

/// Report a server's health
///
/// A server that is not in the group yet joins it. Once this answers, the state outlives a crash; DNS follows. Report
/// again before the group's heartbeat runs out, or the server is taken for unhealthy.
#[utoipa::path(
    post,
    path = "/api/report",
    security(("key" = [])),
    request_body = NewReport,
    responses(
        (status = 200, description = "The report was taken.", body = Reported),
        (status = 400, description = "Not an address or status, or not the JSON that is expected.", body = ErrorBody),
        (status = 401, description = "The key or token is missing, mistyped or opens nothing.", body = ErrorBody),
        (status = 403, description = "Not allowed, or the group takes no reports.", body = ErrorBody),
        (status = 404, description = "The caller has no group of this slug.", body = ErrorBody),
        (status = 409, description = "The group is full.", body = ErrorBody),
        (status = 408, description = "The body took too long to arrive.", body = ErrorBody),
        (status = 413, description = "The body is over 64 KiB.", body = ErrorBody),
        (status = 429, description = "Too many requests or changes.", body = ErrorBody),
        (status = 503, description = "Cannot be done now.", body = ErrorBody),
    )
)]
pub(in crate::gateway) async fn report(
    State(gateway): State<Gateway>,
    by: ByReporter,
    Body(new): Body<NewReport>,
) -> Result<Json<Reported>, ApiError> {
    let address = ServerAddress::parse_portless(&new.address)?;
    let unfit = |text: &str| text.chars().count() > LONGEST_DETAILS || text.chars().any(char::is_control);
    if new.details.as_deref().is_some_and(unfit) {
        let message =
            format!("`details` may have at most {LONGEST_DETAILS} characters, none of them a control character");
        return Err(ApiError::bad_request("InvalidDetails", message));
    }
    let (group, caller) = by.to_group(&gateway, &new.group_slug).await?;
    let health = Health::from(new.status);
    let report = Report {
        slug: new.group_slug,
        address: address.clone(),
        healthy: new.status == ReportedStatus::Healthy,
        details: new.details.clone(),
    };
    by.ports.groups.report(&caller, report).await?;
    if let Some(history) = &by.ports.history {
        history.append(Entry {
            group_uid: group.uid,
            member: address.to_string(),
            source: Source::Report,
            health,
            details: new.details,
            at: Timestamp::now(),
        });
    }
    let status = health.as_str();
    Ok(Json(Reported { message: format!("Status for {address} reported as {status}. DNS record sync initiated.") }))
}
