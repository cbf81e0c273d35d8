//! The JSON of answers.

use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::rules::Refusal;
use super::state::{RecordInfo, World, Zone};

pub(super) fn record(record: &RecordInfo) -> Value {
    json!({
        "id": record.id, "name": record.name, "type": record.kind, "content": record.content, "ttl": record.ttl,
        "proxied": record.proxied, "proxiable": record.kind != "TXT", "comment": record.comment, "tags": [],
        "settings": {}, "meta": {}, "created_on": record.created_on, "modified_on": record.modified_on,
        "comment_modified_on": record.comment.as_ref().map(|_| record.modified_on),
    })
}

pub(super) fn zone(world: &World, zone: &Zone) -> Value {
    let account = world.accounts.get(&zone.spec.account);
    let plan = zone.spec.plan.legacy_id();
    json!({
        "id": zone.id, "name": zone.spec.name, "status": "active", "paused": false, "type": "full",
        "development_mode": 0, "name_servers": ["ada.ns.example", "bob.ns.example"], "original_name_servers": null,
        "original_registrar": null, "original_dnshost": null, "activated_on": "2024-01-01T00:00:00Z",
        "created_on": "2024-01-01T00:00:00Z", "modified_on": "2024-01-01T00:00:00Z",
        "account": {"id": account, "name": zone.spec.account}, "owner": {"id": null, "name": null, "type": "user"},
        "plan": {"id": plan, "legacy_id": plan, "name": plan, "price": 0, "currency": "USD", "is_subscribed": true,
            "can_subscribe": false, "legacy_discount": false, "externally_managed": false},
        "meta": {"cdn_only": false, "custom_certificate_quota": 0, "dns_only": false, "foundation_dns": false,
            "page_rule_quota": 3, "phishing_detected": false, "step": 2},
        "permissions": [],
    })
}

/// `{success: true, …}`.
pub(super) fn success(result: &Value, info: Option<Value>) -> Response {
    let mut body = json!({"success": true, "errors": [], "messages": [], "result": result});
    if let Some(info) = info {
        body["result_info"] = info;
    }
    axum::Json(body).into_response()
}

/// `{success: false, …}` with the refusal's status.
pub(super) fn failure(refusal: &Refusal) -> Response {
    let mut error = json!({"code": refusal.code, "message": refusal.message});
    if let Some((code, message)) = &refusal.chain {
        error["error_chain"] = json!([{"code": code, "message": message}]);
    }
    let body = json!({"success": false, "errors": [error], "messages": [], "result": null});
    let status = StatusCode::from_u16(refusal.status).unwrap_or(StatusCode::BAD_REQUEST);
    (status, HeaderMap::new(), axum::Json(body)).into_response()
}
