//! The generated definitions as a judge and as a source: what is wrong with a value by its schema, and every value the
//! schema admits. Rules (CEL) are left out, so more is admitted here than by an API server.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use jiff::Timestamp;
use proptest::prelude::*;
use serde_json::{Map, Value, json};

static DEFINITIONS: LazyLock<BTreeMap<String, Value>> = LazyLock::new(|| {
    let schema =
        |crd: &_| serde_json::to_value(crd).unwrap()["spec"]["versions"][0]["schema"]["openAPIV3Schema"].take();
    super::definitions().iter().map(|crd| (crd.spec.names.kind.clone(), schema(crd))).collect()
});

/// The schema of a kind.
pub fn of(kind: &str) -> &'static Value {
    &DEFINITIONS[kind]
}

/// What of the spec and status of `object` its schema does not admit.
pub fn faults(schema: &Value, object: &Value) -> Vec<String> {
    let mut faults = Vec::new();
    for part in ["spec", "status"].iter().filter(|part| !object[part].is_null()) {
        judge(&schema["properties"][part], &object[part], part, &mut faults);
    }
    faults
}

fn judge(schema: &Value, value: &Value, path: &str, faults: &mut Vec<String>) {
    let mut fault = |what: &str| faults.push(format!("{path}: {what}: {value}"));
    if value.is_null() && schema["nullable"] == true {
        return;
    }
    if schema["enum"].as_array().is_some_and(|words| !words.contains(value)) {
        fault("not in the enum");
    }
    match (schema["type"].as_str(), value) {
        (Some("boolean"), Value::Bool(_)) => {}
        (Some("integer"), Value::Number(number)) => {
            let number = number.as_f64().unwrap();
            let within = schema["minimum"].as_f64().is_none_or(|least| number >= least)
                && schema["maximum"].as_f64().is_none_or(|most| number <= most);
            if !within || number.fract() != 0.0 {
                fault("not within bounds");
            }
        }
        (Some("string"), Value::String(text)) => {
            let length = u64::try_from(text.chars().count()).unwrap();
            let within = schema["minLength"].as_u64().is_none_or(|least| length >= least)
                && schema["maxLength"].as_u64().is_none_or(|most| length <= most);
            if !within {
                fault("too short or too long");
            }
            if schema["format"] == "date-time" && text.parse::<Timestamp>().is_err() {
                fault("no date and time");
            }
        }
        (Some("array"), Value::Array(items)) => {
            let length = u64::try_from(items.len()).unwrap();
            if schema["maxItems"].as_u64().is_some_and(|most| length > most) {
                fault("too many items");
            }
            for (index, item) in items.iter().enumerate() {
                judge(&schema["items"], item, &format!("{path}[{index}]"), faults);
            }
        }
        (Some("object"), Value::Object(fields)) => {
            for required in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
                if !fields.contains_key(required) {
                    fault(&format!("without {required}"));
                }
            }
            for (name, field) in fields {
                let (path, known) = (format!("{path}.{name}"), &schema["properties"][name]);
                if known.is_object() {
                    judge(known, field, &path, faults);
                } else if schema["additionalProperties"].is_object() {
                    judge(&schema["additionalProperties"], field, &path, faults);
                } else if schema["x-kubernetes-preserve-unknown-fields"] != true {
                    faults.push(format!("{path}: no such field"));
                }
            }
        }
        _ => fault("of another type"),
    }
}

/// Objects of a kind, with any spec and status that the schema admits.
pub fn objects(kind: &'static str) -> BoxedStrategy<Value> {
    let metadata = json!({"name": "x", "namespace": "shop", "uid": "u", "generation": 1});
    let parts = of(kind)["properties"].clone();
    // What only the operator writes is well-formed.
    (values(&parts["spec"], &TIMES), prop::option::of(values(&parts["status"], &TIMES[..3])))
        .prop_map(move |(spec, status)| {
            let api = "roadstead.dev/v1alpha1";
            json!({"apiVersion": api, "kind": kind, "metadata": metadata, "spec": spec, "status": status})
        })
        .boxed()
}

/// Dates and times an API server admits: RFC 3339 as Go's `strfmt` reads it, which minds no case and no range of an
/// offset.
const TIMES: [&str; 6] = [
    "2027-01-15T08:00:00Z",
    "2027-01-15t08:00:00.25z",
    "2027-01-15T08:00:00+14:00",
    "0000-01-01T00:00:00Z",
    "9999-12-31T23:59:59Z",
    "2027-01-15T08:00:00+99:99",
];

fn values(schema: &Value, times: &'static [&'static str]) -> BoxedStrategy<Value> {
    let some = match (schema["type"].as_str(), schema["enum"].as_array()) {
        (_, Some(words)) => prop::sample::select(words.clone()).boxed(),
        (Some("boolean"), _) => any::<bool>().prop_map(Value::from).boxed(),
        (Some("integer"), _) => {
            #[expect(clippy::cast_possible_truncation, reason = "bounds are small whole numbers")]
            let bound = |name: &str, otherwise| schema[name].as_f64().map_or(otherwise, |bound| bound as i64);
            (bound("minimum", i64::MIN)..=bound("maximum", i64::MAX)).prop_map(Value::from).boxed()
        }
        (Some("string"), _) if schema["format"] == "date-time" => {
            prop::sample::select(times).prop_map(Value::from).boxed()
        }
        (Some("string"), _) => {
            let least = schema["minLength"].as_u64().unwrap_or(0);
            let most = schema["maxLength"].as_u64().unwrap_or(u64::MAX).min(least + 12);
            proptest::string::string_regex(&format!("\\PC{{{least},{most}}}")).unwrap().prop_map(Value::from).boxed()
        }
        (Some("array"), _) => {
            let least = usize::from(schema["minItems"].as_u64().is_some_and(|least| least > 0));
            prop::collection::vec(values(&schema["items"], times), least..4).prop_map(Value::from).boxed()
        }
        (Some("object"), _) => fields(schema, times),
        other => panic!("a schema of a kind that is not known here: {other:?}"),
    };
    if schema["nullable"] == true { prop_oneof![9 => some, 1 => Just(Value::Null)].boxed() } else { some }
}

fn fields(schema: &Value, times: &'static [&'static str]) -> BoxedStrategy<Value> {
    if schema["additionalProperties"].is_object() {
        let value = values(&schema["additionalProperties"], times);
        return prop::collection::hash_map("[a-z]{1,8}", value, 0..4)
            .prop_map(|fields| Value::Object(fields.into_iter().collect()))
            .boxed();
    }
    let mut all = Just(Map::new()).boxed();
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        let required = schema["required"].as_array().is_some_and(|required| required.iter().any(|r| r == name));
        let (name, value) = (name.clone(), values(field, times));
        let value = if required { value.prop_map(Some).boxed() } else { prop::option::of(value).boxed() };
        all = (all, value)
            .prop_map(move |(mut fields, value)| {
                fields.extend(value.map(|value| (name.clone(), value)));
                fields
            })
            .boxed();
    }
    if schema["x-kubernetes-preserve-unknown-fields"] == true {
        all = all
            .prop_map(|fields| fields.into_iter().chain([("later".to_owned(), json!({"a": [1]}))]).collect())
            .boxed();
    }
    all.prop_map(Value::Object).boxed()
}
