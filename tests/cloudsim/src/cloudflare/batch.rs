//! `POST …/dns_records/batch`: deletes, patches, puts and posts, in this order, all or nothing.

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};

use super::rules::{self, Draft, Refusal};
use super::state::{World, Zone};
use super::{records, view};

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Batch {
    deletes: Option<Vec<Target>>,
    patches: Option<Vec<Change>>,
    puts: Option<Vec<Change>>,
    posts: Option<Vec<Draft>>,
}

#[derive(Debug, Deserialize)]
struct Target {
    id: String,
}

#[derive(Debug, Deserialize)]
struct Change {
    id: String,
    #[serde(flatten)]
    draft: Draft,
}

/// Applies the batch, or names the first error and changes nothing.
pub(super) fn apply(world: &mut World, zone_id: &str, batch: Batch, now: Timestamp) -> Result<Value, Refusal> {
    let count = |n: Option<usize>| n.unwrap_or(0);
    let posts = batch.posts.unwrap_or_default();
    let size = count(batch.deletes.as_ref().map(Vec::len))
        + count(batch.patches.as_ref().map(Vec::len))
        + count(batch.puts.as_ref().map(Vec::len))
        + posts.len();
    let fresh: Vec<String> = posts.iter().map(|_| world.id()).collect();
    let Some(zone) = world.zones.get_mut(zone_id) else { return Err(records::no_zone()) };
    let most = zone.spec.plan.batch();
    if size > most {
        return Err(Refusal::new(400, 1004, format!("batch has {size} operations, and may have {most}")));
    }
    let mut undo = Undo::default();
    match run(zone, batch.deletes, batch.patches, batch.puts, &posts, fresh, now, &mut undo) {
        Ok(result) => Ok(result),
        Err(refusal) => {
            undo.restore(zone);
            Err(refusal)
        }
    }
}

/// What has to be put back, newest last: an id, and the record it had.
#[derive(Default)]
struct Undo(Vec<(String, Option<super::state::RecordInfo>)>);

impl Undo {
    fn restore(self, zone: &mut Zone) {
        for (id, record) in self.0.into_iter().rev() {
            zone.take(&id);
            if let Some(record) = record {
                zone.put(record);
            }
        }
    }
}

#[expect(clippy::too_many_arguments, reason = "the four lists of a batch, taken apart once")]
fn run(
    zone: &mut Zone,
    deletes: Option<Vec<Target>>,
    patches: Option<Vec<Change>>,
    puts: Option<Vec<Change>>,
    posts: &[Draft],
    fresh: Vec<String>,
    now: Timestamp,
    undo: &mut Undo,
) -> Result<Value, Refusal> {
    let mut result = json!({"deletes": null, "patches": null, "puts": null, "posts": null});
    if let Some(deletes) = deletes {
        let mut done = Vec::new();
        for target in deletes {
            let record = zone.take(&target.id).ok_or_else(records::no_record)?;
            done.push(view::record(&record));
            undo.0.push((target.id, Some(record)));
        }
        result["deletes"] = Value::from(done);
    }
    for (name, changes, whole) in [("patches", patches, false), ("puts", puts, true)] {
        let Some(changes) = changes else { continue };
        let mut done = Vec::new();
        for change in changes {
            let old = zone.records.get(&change.id).cloned().ok_or_else(records::no_record)?;
            let new = records::changed(zone, &old, &change.draft, whole, now)?;
            done.push(view::record(&new));
            zone.put(new);
            undo.0.push((change.id, Some(old)));
        }
        result[name] = Value::from(done);
    }
    let mut done = Vec::new();
    for (draft, id) in posts.iter().zip(fresh) {
        let record = rules::make(zone, draft, id.clone(), now)?;
        if zone.records.len() >= zone.quota() {
            return Err(records::quota());
        }
        done.push(view::record(&record));
        zone.put(record);
        undo.0.push((id, None));
    }
    if !posts.is_empty() {
        result["posts"] = Value::from(done);
    }
    Ok(result)
}
