//! The routes, one file a subject, and the document that describes them, which is generated from their code.

mod discovery;
mod groups;
mod history;
mod reports;
mod setup;
mod users;

use std::sync::Arc;

use axum::routing::get;
use axum::{Json, Router};
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityScheme};
use utoipa::{Modify, OpenApi};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::Gateway;
use super::error::ErrorBody;

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Roadstead",
        description = "Groups of servers that report their own health, published over DNS. Every refusal is JSON with a \
                       code, a message that says what to do, and a request id.",
        license(name = "Apache-2.0 OR MIT", identifier = "Apache-2.0 OR MIT")
    ),
    components(schemas(ErrorBody)),
    modifiers(&Bearer),
    servers((url = "/"))
)]
struct Document;

/// The two kinds of token a request may bear.
struct Bearer;

impl Modify for Bearer {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let components = document.components.get_or_insert_default();
        for (name, text) in [
            ("key", "An API key (`rsk_…`). To report, a token of a Kubernetes ServiceAccount does as well."),
            ("signup", "The administrator's token; only where sign-up asks for one."),
        ] {
            let mut scheme = Http::new(HttpAuthScheme::Bearer);
            scheme.description = Some(text.to_owned());
            components.add_security_scheme(name, SecurityScheme::Http(scheme));
        }
    }
}

/// Every route, `/openapi.json` among them.
pub(super) fn all() -> Router<Gateway> {
    let (router, document) = OpenApiRouter::with_openapi(Document::openapi())
        .routes(routes!(setup::setup))
        .routes(routes!(users::create))
        .routes(routes!(users::rotate))
        .routes(routes!(groups::create, groups::list))
        .routes(routes!(groups::delete))
        .routes(routes!(groups::remove_server))
        .routes(routes!(reports::report))
        .routes(routes!(discovery::lookup))
        .routes(routes!(history::recent))
        .split_for_parts();
    let document = Arc::new(document);
    router.route("/openapi.json", get(move || async move { Json(document.as_ref().clone()) }))
}
