//! DNS records one by one, and their listings.

use std::collections::HashMap;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::rules::{self, Draft, Refusal};
use super::state::{RecordInfo, World, Zone};
use super::view;

pub(super) fn no_zone() -> Refusal {
    // Cloudflare answers a wrong zone id as if the token were wrong.
    Refusal::new(403, 10_000, "Authentication error")
}

pub(super) fn no_record() -> Refusal {
    Refusal::new(404, 81_044, "Record does not exist.")
}

pub(super) fn quota() -> Refusal {
    Refusal::new(400, 81_045, "Record quota exceeded.")
}

/// A page of the records that fit the query and were made at `newest` or before.
pub(super) fn list(zone: &Zone, query: &HashMap<String, String>, newest: Timestamp) -> Result<(Value, Value), Refusal> {
    let number = |key: &str, default: usize, most: usize| match query.get(key) {
        None => Ok(default),
        Some(text) => text
            .parse()
            .ok()
            .filter(|n| (1..=most).contains(n))
            .ok_or_else(|| Refusal::new(400, 1004, format!("{key} must be between 1 and {most}"))),
    };
    let (page, per_page) = (number("page", 1, usize::MAX)?, number("per_page", 100, 5_000_000)?);
    let any = query.get("match").is_some_and(|m| m == "any");
    let exact = query.get("name.exact").or_else(|| query.get("name"));
    let mut found: Vec<&RecordInfo> = match exact.filter(|_| !any) {
        Some(name) => zone.named(&plain_name(name)).filter(|r| fits(r, query, any)).collect(),
        None => zone.records.values().filter(|r| fits(r, query, any)).collect(),
    };
    found.retain(|record| record.created_on <= newest);
    if query.get("order").is_some_and(|order| order == "name") {
        found.sort_by(|a, b| a.name.cmp(&b.name));
    }
    let total = found.len();
    let shown: Vec<Value> = found.into_iter().skip((page - 1) * per_page).take(per_page).map(view::record).collect();
    let info = json!({
        "page": page, "per_page": per_page, "count": shown.len(), "total_count": total,
        "total_pages": total.div_ceil(per_page),
    });
    Ok((Value::from(shown), info))
}

/// A name as it is stored: lower case, Punycode.
fn plain_name(name: &str) -> String {
    idna::domain_to_ascii(name).unwrap_or_else(|_| name.to_ascii_lowercase())
}

fn fits(record: &RecordInfo, query: &HashMap<String, String>, any: bool) -> bool {
    let comment = record.comment.as_deref().unwrap_or_default().to_ascii_lowercase();
    let tests = query.iter().filter_map(|(key, wanted)| {
        let lower = wanted.to_ascii_lowercase();
        Some(match key.as_str() {
            "name" | "name.exact" => record.name == plain_name(wanted),
            "name.startswith" => record.name.starts_with(&lower),
            "name.endswith" => record.name.ends_with(&lower),
            "name.contains" => record.name.contains(&lower),
            "type" => record.kind.eq_ignore_ascii_case(wanted),
            "content" | "content.exact" => record.content == *wanted,
            "content.startswith" => record.content.starts_with(wanted),
            "content.endswith" => record.content.ends_with(wanted),
            "content.contains" => record.content.contains(wanted),
            "comment" | "comment.exact" => comment == lower,
            "comment.startswith" => comment.starts_with(&lower),
            "comment.endswith" => comment.ends_with(&lower),
            "comment.contains" => comment.contains(&lower),
            "comment.present" => record.comment.is_some(),
            "comment.absent" => record.comment.is_none(),
            "proxied" => record.proxied.to_string() == lower,
            _ => return None,
        })
    });
    let results: Vec<bool> = tests.collect();
    if any && !results.is_empty() { results.contains(&true) } else { !results.contains(&false) }
}

pub(super) fn create(world: &mut World, zone_id: &str, draft: &Draft, now: Timestamp) -> Result<Value, Refusal> {
    let id = world.id();
    let zone = world.zones.get_mut(zone_id).ok_or_else(no_zone)?;
    let record = rules::make(zone, draft, id, now)?;
    if zone.records.len() >= zone.quota() {
        return Err(quota());
    }
    let shown = view::record(&record);
    zone.put(record);
    Ok(shown)
}

/// The record after a PATCH, or with `whole` after a PUT, which resets what it does not name.
pub(super) fn changed(
    zone: &Zone,
    old: &RecordInfo,
    draft: &Draft,
    whole: bool,
    now: Timestamp,
) -> Result<RecordInfo, Refusal> {
    if !whole {
        return rules::patched(zone, old, draft, now);
    }
    let mut new = rules::make(zone, draft, old.id.clone(), now)?;
    new.created_on = old.created_on;
    Ok(new)
}

pub(super) fn change(
    world: &mut World,
    zone_id: &str,
    id: &str,
    draft: &Draft,
    whole: bool,
    now: Timestamp,
) -> Result<Value, Refusal> {
    let zone = world.zones.get_mut(zone_id).ok_or_else(no_zone)?;
    let old = zone.records.get(id).cloned().ok_or_else(no_record)?;
    let new = changed(zone, &old, draft, whole, now)?;
    let shown = view::record(&new);
    zone.put(new);
    Ok(shown)
}

pub(super) fn delete(world: &mut World, zone_id: &str, id: &str) -> Result<Value, Refusal> {
    let zone = world.zones.get_mut(zone_id).ok_or_else(no_zone)?;
    zone.take(id).ok_or_else(no_record)?;
    Ok(json!({"id": id}))
}
