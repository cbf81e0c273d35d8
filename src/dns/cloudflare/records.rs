//! The DNS records of one Cloudflare zone.

use std::collections::HashSet;

use async_trait::async_trait;
use http::Method;
use serde_json::json;

use super::outcome::{Body, Call};
use super::wire::{WireBatch, WireRecord, WireUsage};
use super::{Cloudflare, Token};
use crate::dns::api::{RecordsApi, Usage, Write};
use crate::dns::plan::Op;
use crate::dns::record::{Desired, Kind, Record};
use crate::outside::OutsideError;
use crate::outside::budget::Priority;

/// Records per page. The API admits far more; this bounds one answer to a few megabytes.
pub(crate) const PER_PAGE: usize = 5_000;

const READ: &str = "Zone > DNS > Read";
const EDIT: &str = "Zone > DNS > Edit";

/// The records of one zone, by its id. A token of another account can neither read nor write them.
#[derive(Clone)]
pub struct ZoneRecords {
    client: Cloudflare,
    path: String,
}

impl ZoneRecords {
    pub(super) fn new(client: Cloudflare, zone_id: &str) -> Self {
        Self { client, path: format!("/zones/{zone_id}/dns_records") }
    }

    /// All pages of a listing, optionally of one name.
    async fn pages(&self, name: Option<&str>, priority: Priority) -> Result<Vec<Record>, OutsideError> {
        let incomplete =
            || OutsideError::Unavailable(format!("Cloudflare gave no complete listing: GET {}", self.path));
        let mut records: Vec<Record> = Vec::new();
        let mut total = None;
        for page in 1.. {
            let mut call = Call::read(&self.path, READ).priority(priority);
            if let Some(name) = name {
                call = call.query("name.exact", name);
            }
            let call = call.query("per_page", PER_PAGE.to_string()).query("page", page.to_string());
            let (found, info): (Vec<WireRecord>, _) = self.client.send(call).await?;
            let info = info.ok_or_else(incomplete)?;
            // A total that moves between pages means that a record may have slipped from one page to another.
            if *total.get_or_insert(info.total_count) != info.total_count
                || (found.is_empty() && info.total_pages > page)
            {
                return Err(incomplete());
            }
            records.extend(found.into_iter().map(Record::from));
            if page >= info.total_pages {
                break;
            }
        }
        let distinct: HashSet<_> = records.iter().map(|record| &record.id).collect();
        if Some(distinct.len()) != total || distinct.len() != records.len() {
            return Err(incomplete());
        }
        Ok(records)
    }
}

#[async_trait]
impl RecordsApi for ZoneRecords {
    async fn list(&self, priority: Priority) -> Result<Vec<Record>, OutsideError> {
        self.pages(None, priority).await
    }

    async fn at(&self, name: &str, priority: Priority) -> Result<Vec<Record>, OutsideError> {
        let mut records = self.pages(Some(name), priority).await?;
        records.retain(|record| *record.name == *name);
        Ok(records)
    }

    async fn batch(&self, writes: &[Write], priority: Priority) -> Result<Vec<Record>, OutsideError> {
        let (mut deletes, mut patches, mut posts) = (Vec::new(), Vec::new(), Vec::new());
        for Write { mark, op } in writes {
            match op {
                Op::Delete(record) => deletes.push(json!({"id": record.id})),
                Op::Patch { from, to } => {
                    let mut body = body(to, &mark.comment());
                    body["id"] = json!(from.id);
                    patches.push(body);
                }
                Op::Post(to) => posts.push(body(to, &mark.comment())),
            }
        }
        let path = format!("{}/batch", self.path);
        let call = Call {
            method: Method::POST,
            path: &path,
            query: Vec::new(),
            body: Some(Body::Json(json!({"deletes": deletes, "patches": patches, "posts": posts}))),
            priority,
            permission: EDIT,
        };
        let (done, _): (WireBatch, _) = self.client.send(call).await?;
        let changed = done.patches.into_iter().chain(done.posts).flatten();
        Ok(changed.map(Record::from).collect())
    }

    async fn usage(&self) -> Result<Usage, OutsideError> {
        let path = format!("{}/usage", self.path);
        let (usage, _): (WireUsage, _) = self.client.send(Call::read(&path, READ)).await?;
        Ok(Usage { used: usage.record_usage, quota: usage.record_quota })
    }

    fn set_token(&self, token: Token) {
        self.client.set_token(token);
    }
}

/// Exactly the fields we manage: a person's tags and settings stay as they are.
fn body(record: &Desired, comment: &str) -> serde_json::Value {
    let mut body = json!({
        "type": record.content.kind().as_str(),
        "name": record.name.as_str(),
        "content": record.content.to_wire(),
        "ttl": record.effective_ttl(),
        "comment": comment,
    });
    if record.content.kind() != Kind::Txt {
        body["proxied"] = json!(record.proxied);
    }
    body
}
