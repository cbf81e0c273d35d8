//! What Flux and `kubectl` conclude from an object (kstatus), and what every kind's status obeys in every state.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::Resource;
use proptest::prelude::*;
use proptest::test_runner::TestCaseResult;
use serde::Serialize;
use serde_json::Value;

use super::condition::{READY, RECONCILING, STALLED, get, is_true, whole_seconds};
use super::schema;

/// `usual` most of the time.
pub fn mostly<T: std::fmt::Debug + Clone + 'static>(usual: T, others: Vec<T>) -> impl Strategy<Value = T> {
    prop_oneof![6 => Just(usual), 1 => prop::sample::select(others)]
}

/// What kstatus makes of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// In place: what waits for the object goes on.
    Current,
    /// On its way.
    InProgress,
    /// A person has to act: what waits for the object fails.
    Failed,
    /// Being deleted.
    Terminating,
}

/// The verdict on `object`, by the rules kstatus has for kinds it does not know: a deletion first, then the generation
/// where one was observed, the first of `Reconciling` and `Stalled` that holds, and Ready. Without any of these an
/// object is Current.
pub fn verdict(object: &Value) -> Verdict {
    let (metadata, status) = (&object["metadata"], &object["status"]);
    if metadata["deletionTimestamp"].as_str().is_some_and(|time| !time.is_empty()) {
        return Verdict::Terminating;
    }
    let generations = metadata["generation"].as_i64().zip(status["observedGeneration"].as_i64());
    if generations.is_some_and(|(generation, observed)| generation != observed) {
        return Verdict::InProgress;
    }
    let conditions = status["conditions"].as_array().map(Vec::as_slice).unwrap_or_default();
    for condition in conditions.iter().filter(|condition| condition["status"] == "True") {
        match condition["type"].as_str() {
            Some(RECONCILING) => return Verdict::InProgress,
            Some(STALLED) => return Verdict::Failed,
            _ => {}
        }
    }
    let ready = conditions.iter().find(|condition| condition["type"] == READY);
    match ready.and_then(|ready| ready["status"].as_str()) {
        Some("False" | "Unknown") => Verdict::InProgress,
        _ => Verdict::Current,
    }
}

/// The verdict on an object that is not JSON yet.
pub fn verdict_on(object: &impl Serialize) -> Verdict {
    verdict(&serde_json::to_value(object).unwrap())
}

/// What holds for the status of every kind, whatever it was made from and whatever it said before.
pub fn obeys_the_rules<K: Resource<DynamicType = ()> + Serialize>(object: &K) -> TestCaseResult {
    let json = serde_json::to_value(object).unwrap();
    let definition = schema::of(&K::kind(&()));
    prop_assert_eq!(schema::faults(definition, &json), Vec::<String>::new());
    let conditions: Vec<Condition> = serde_json::from_value(json["status"]["conditions"].clone()).unwrap_or_default();

    let mut types: Vec<_> = conditions.iter().map(|c| c.type_.as_str()).collect();
    types.sort_unstable();
    types.dedup();
    prop_assert_eq!(types.len(), conditions.len(), "each type once: {:?}", conditions);
    let status = &definition["properties"]["status"]["properties"];
    let undocumented = |field: &str, word: &str| !words(&status[field]).any(|known| known == word);
    prop_assert!(!types.iter().any(|type_| undocumented("conditions", type_)), "undocumented: {:?}", types);
    if let Some(phase) = json["status"]["phase"].as_str() {
        prop_assert!(!undocumented("phase", phase), "undocumented: {}", phase);
    }

    for type_ in [RECONCILING, STALLED] {
        let there = get(&conditions, type_);
        prop_assert!(there.is_none_or(|c| c.status == "True"), "{type_} is there only while it holds");
    }
    let companions = [RECONCILING, STALLED].iter().filter(|type_| is_true(&conditions, type_)).count();
    let ready = get(&conditions, READY).map(|c| c.status.as_str());
    match ready {
        Some("True") => prop_assert_eq!(companions, 0, "Ready stands alone: {:?}", conditions),
        Some("False") => prop_assert_eq!(companions, 1, "what is not ready says whether it goes on: {:?}", conditions),
        Some("Unknown") => prop_assert_eq!(companions, 0, "{:?}", conditions),
        _ => prop_assert!(false, "Ready is always there: {:?}", conditions),
    }
    for condition in &conditions {
        is_well_said(condition)?;
        prop_assert!(condition.observed_generation.is_none_or(|generation| generation >= 0), "{:?}", condition);
    }
    Ok(())
}

/// What holds for the way from one status to the next that a pass has reported. `failed_look` says that nothing was
/// learned; `is_in_place` whether what the spec asks for is there, as far as anybody can know.
pub fn follows<K>(before: &K, after: &K, failed_look: bool, is_in_place: bool) -> TestCaseResult
where
    K: Resource<DynamicType = ()> + Serialize,
{
    obeys_the_rules(after)?;
    let status = |object: &K| serde_json::to_value(object).unwrap()["status"].take();
    let ready = |status: &Value| -> Option<Condition> {
        let conditions: Vec<Condition> = serde_json::from_value(status["conditions"].clone()).unwrap_or_default();
        get(&conditions, READY).cloned()
    };
    let (was, is, generation) = (status(before), status(after), after.meta().generation);
    prop_assert_eq!(is["observedGeneration"].as_i64(), generation);
    prop_assert_eq!(ready(&is).unwrap().observed_generation, generation);
    let known = was["observedGeneration"].as_i64() == generation && after.meta().deletion_timestamp.is_none();
    let was_ready =
        ready(&was).filter(|ready| known && ready.status == "True" && ready.observed_generation == generation);
    if failed_look && known {
        prop_assert_eq!(was_ready.is_some(), verdict_on(after) == Verdict::Current, "looking changes nothing: {}", is);
        prop_assert!(was_ready.is_none() || ready(&is) == was_ready);
    }
    if verdict_on(after) == Verdict::Current {
        prop_assert!(is_in_place || (failed_look && was_ready.is_some()), "not in place: {}", is);
    }
    Ok(())
}

/// What holds for what a pass writes on its way, each with its status: none of it makes the object current, and what has
/// been said anew obeys the rules.
pub fn on_the_way<K>(before: &K, steps: impl IntoIterator<Item = K>) -> TestCaseResult
where
    K: Resource<DynamicType = ()> + Serialize,
{
    let conditions = |object: &K| {
        let status = serde_json::to_value(object).unwrap()["status"].take();
        status.is_object().then(|| status["conditions"].clone())
    };
    let was_current = verdict_on(before) == Verdict::Current;
    for step in steps {
        prop_assert!(was_current || verdict_on(&step) != Verdict::Current, "{:?}", conditions(&step));
        if conditions(before).is_some_and(|before| Some(before) != conditions(&step)) {
            obeys_the_rules(&step)?;
        }
    }
    Ok(())
}

/// What holds for a pass over an object that is left alone: it keeps what it said, and nobody takes it for more than that.
pub fn stands_still<K>(before: &K, after: &K) -> TestCaseResult
where
    K: Resource<DynamicType = ()> + Serialize,
{
    let status = |object: &K| serde_json::to_value(object).unwrap()["status"].take();
    let ready = |status: &Value| -> Option<Condition> {
        let conditions: Vec<Condition> = serde_json::from_value(status["conditions"].clone()).unwrap_or_default();
        get(&conditions, READY).cloned()
    };
    let (was, is) = (status(before), status(after));
    prop_assert_eq!(&is["observedGeneration"], &was["observedGeneration"]);
    prop_assert!(ready(&was).is_none() || ready(&was) == ready(&is), "{} became {}", was, is);
    let was_current = verdict_on(before) == Verdict::Current;
    prop_assert!(was_current || verdict_on(after) != Verdict::Current, "a pause makes nothing current");
    Ok(())
}

/// Words in backticks in the text of a field: those it may hold.
fn words(schema: &Value) -> impl Iterator<Item = &str> {
    schema["description"].as_str().unwrap_or_default().split('`').skip(1).step_by(2)
}

/// A reason is a word in CamelCase; a message that tells of something wrong says what, and stays the same as long as
/// that does.
fn is_well_said(condition: &Condition) -> TestCaseResult {
    let Condition { type_, status, reason, message, last_transition_time, .. } = condition;
    let starts = reason.starts_with(|c: char| c.is_ascii_uppercase());
    prop_assert!(starts && reason.chars().all(|c| c.is_ascii_alphanumeric()), "{}: reason {:?}", type_, reason);
    let abnormal = [RECONCILING, STALLED].contains(&type_.as_str()) || (type_ == READY && status != "True");
    prop_assert!(!(abnormal && message.is_empty()), "{type_} {reason}: no message");
    prop_assert!(message.chars().count() <= 32_768);
    let lower = message.to_lowercase();
    for word in ["attempt", "request id", "request_id", "requestid"] {
        prop_assert!(!lower.contains(word), "{type_}: {message}");
    }
    let is_time = |word: &str| word.trim_matches(|c: char| !c.is_ascii_alphanumeric()).parse::<Timestamp>().is_ok();
    prop_assert!(!message.split_whitespace().any(is_time), "{type_}: {message}");
    prop_assert_eq!(last_transition_time, &whole_seconds(last_transition_time.0));
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn object(observed: Option<i64>, conditions: &[(&str, &str)]) -> Value {
        let conditions: Vec<_> =
            conditions.iter().map(|(type_, status)| json!({"type": type_, "status": status})).collect();
        let mut object = json!({"metadata": {"generation": 2}, "status": {"conditions": conditions}});
        if let Some(observed) = observed {
            object["status"]["observedGeneration"] = json!(observed);
        }
        object
    }

    #[test]
    fn the_verdict_is_the_one_kstatus_gives() {
        use Verdict::{Current, Failed, InProgress};
        type Row = (Option<i64>, &'static [(&'static str, &'static str)], Verdict);
        let table: &[Row] = &[
            // Nothing that is known: current. That is why a new object says that it was never observed.
            (None, &[], Current),
            (Some(2), &[], Current),
            (Some(-1), &[], InProgress),
            (Some(1), &[("Ready", "True")], InProgress),
            (Some(1), &[("Stalled", "True")], InProgress),
            (None, &[("Ready", "True")], Current),
            (Some(2), &[("Ready", "True")], Current),
            (Some(2), &[("Ready", "False")], InProgress),
            (Some(2), &[("Ready", "Unknown")], InProgress),
            (Some(2), &[("Ready", "Perhaps")], Current),
            (Some(2), &[("Ready", "True"), ("Reconciling", "True")], InProgress),
            (Some(2), &[("Ready", "True"), ("Stalled", "True")], Failed),
            (Some(2), &[("Ready", "False"), ("Reconciling", "False"), ("Stalled", "True")], Failed),
            (Some(2), &[("Reconciling", "True"), ("Stalled", "True")], InProgress),
            (Some(2), &[("Stalled", "True"), ("Reconciling", "True")], Failed),
            (Some(2), &[("Healthy", "False")], Current),
        ];
        for (observed, conditions, expected) in table {
            let mut object = object(*observed, conditions);
            assert_eq!(verdict(&object), *expected, "{object}");
            object["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
            assert_eq!(verdict(&object), Verdict::Terminating);
        }
    }

    #[test]
    fn an_object_as_the_definitions_make_it_is_on_its_way_until_it_was_looked_at() {
        for crd in crate::api::definitions() {
            let status = schema::of(&crd.spec.names.kind)["properties"]["status"]["default"].clone();
            let new = json!({"metadata": {"generation": 1}, "status": status});
            // A claim is complete when it is made.
            let expected = if crd.spec.names.kind == "HostnameClaim" { Verdict::Current } else { Verdict::InProgress };
            assert_eq!(verdict(&new), expected, "{}", crd.spec.names.kind);
        }
    }
}
