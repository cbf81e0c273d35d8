//! Multipart requests: `metadata` or `settings` as JSON, and the modules as files.

use axum::body::Bytes;
use axum::http::{HeaderMap, header};
use multer::Multipart;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::cloudflare::rules::Refusal;
use crate::workerd::Module;

/// What an upload says of its script. What is not simulated is ignored.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Metadata {
    pub(super) main_module: Option<String>,
    pub(super) bindings: Option<Vec<Value>>,
    /// Types whose bindings stay.
    pub(super) keep_bindings: Vec<String>,
    pub(super) compatibility_date: Option<String>,
    pub(super) compatibility_flags: Vec<String>,
    pub(super) tags: Option<Vec<String>>,
    pub(super) annotations: Value,
}

/// What a change of settings says. What is left out stays.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Settings {
    pub(super) bindings: Option<Vec<Value>>,
    pub(super) compatibility_date: Option<String>,
    pub(super) compatibility_flags: Option<Vec<String>>,
    pub(super) tags: Option<Vec<String>>,
    pub(super) annotations: Value,
}

fn unreadable(why: &str) -> Refusal {
    Refusal::new(400, 10_026, format!("Could not parse request body: {why}"))
}

/// The JSON part of this name, and the files beside it.
pub(super) async fn read<T: DeserializeOwned>(
    headers: &HeaderMap,
    body: Bytes,
    part: &str,
) -> Result<(T, Vec<Module>), Refusal> {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let boundary = multer::parse_boundary(kind).map_err(|_| unreadable("it is no multipart/form-data"))?;
    let stream = futures::stream::once(async move { Ok::<_, std::convert::Infallible>(body) });
    let mut multipart = Multipart::new(stream, boundary);
    let (mut json, mut modules) = (None, Vec::new());
    while let Some(field) = multipart.next_field().await.map_err(|error| unreadable(&error.to_string()))? {
        let (name, file) = (field.name().map(str::to_owned), field.file_name().map(str::to_owned));
        let bytes = field.bytes().await.map_err(|error| unreadable(&error.to_string()))?;
        if name.as_deref() == Some(part) {
            json = Some(serde_json::from_slice(&bytes).map_err(|error| unreadable(&format!("{part}: {error}")))?);
        } else if let Some(name) = file.or(name) {
            modules.push(Module { name, text: bytes.to_vec() });
        }
    }
    json.map(|json| (json, modules)).ok_or_else(|| unreadable(&format!("the part {part} is missing")))
}
