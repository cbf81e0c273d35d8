//! `GET /setup`, which the original needed to make its tables. Here there is nothing to set up.

/// Set up
///
/// Answers what its clients expect. Nothing has to be set up.
#[utoipa::path(
    get,
    path = "/setup",
    responses((status = 200, description = "Nothing was left to do.", body = String, content_type = "text/plain"))
)]
pub(in crate::gateway) async fn setup() -> &'static str {
    "Tables created successfully!"
}
