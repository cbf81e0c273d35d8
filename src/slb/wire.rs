//! The JSON and the multipart bodies of the Workers API. What is absent or of another shape than documented is an
//! error, not a default, wherever a wrong guess could make something look absent.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// A binding of a script: its name and type, and its text if it has one to show.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Binding {
    /// What the script calls it.
    pub name: String,
    /// `plain_text`, `secret_text`, `kv_namespace`, …; `inherit` in a request for one that stays.
    #[serde(rename = "type")]
    pub kind: String,
    /// The text of a `plain_text`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
}

impl Binding {
    /// Plain text, which anybody with access to the account may read.
    #[must_use]
    pub fn text(name: &str, text: impl Into<String>) -> Self {
        Self { name: name.to_owned(), kind: "plain_text".to_owned(), text: Some(text.into()) }
    }

    /// The binding of this name as it is.
    #[must_use]
    pub fn inherit(name: &str) -> Self {
        Self { name: name.to_owned(), kind: "inherit".to_owned(), text: None }
    }
}

/// A script's settings.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Settings {
    /// Its bindings.
    pub bindings: Vec<Binding>,
}

impl Settings {
    /// The plain text of a binding.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<&str> {
        let binding = self.bindings.iter().find(|binding| binding.name == name)?;
        binding.text.as_deref().filter(|_| binding.kind == "plain_text")
    }

    /// Whether there is a binding of this name, of whatever type.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.bindings.iter().any(|binding| binding.name == name)
    }
}

/// A script in the listing of an account.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Listed {
    /// Its name.
    pub id: String,
    /// When it was changed last, as Cloudflare writes it.
    #[serde(default)]
    pub modified_on: Option<String>,
}

/// A route of a zone.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Route {
    /// Its id.
    pub id: String,
    /// Its pattern.
    pub pattern: String,
    /// The script it leads to; none where a pattern is exempted.
    #[serde(default)]
    pub script: Option<String>,
}

/// A custom domain of an account.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Domain {
    /// Its id.
    pub id: String,
    /// The host.
    pub hostname: String,
    /// The script it leads to.
    pub service: String,
}

/// A body of `multipart/form-data` (RFC 7578).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Form {
    /// Its `Content-Type`, with the boundary.
    pub content_type: String,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

const MODULE: &str = "worker.js";

/// The form of an upload: the code, and `bindings` among its metadata.
#[must_use]
pub fn upload(code: &str, compatibility_date: &str, bindings: &[Binding]) -> Form {
    let metadata = json!({
        "main_module": MODULE, "compatibility_date": compatibility_date, "bindings": bindings,
        "annotations": {"workers/message": "Uploaded by Roadstead"},
    });
    form(&[
        ("metadata", None, "application/json", &metadata.to_string()),
        (MODULE, Some(MODULE), "application/javascript+module", code),
    ])
}

/// The form of a change of settings: exactly these bindings.
#[must_use]
pub fn settings(bindings: &[Binding]) -> Form {
    form(&[("settings", None, "application/json", &json!({"bindings": bindings}).to_string())])
}

fn form(parts: &[(&str, Option<&str>, &str, &str)]) -> Form {
    // A boundary must occur in no part.
    let mut boundary = "roadstead".to_owned();
    while parts.iter().any(|(.., text)| text.contains(&format!("--{boundary}"))) {
        boundary.push('-');
    }
    let part = |(name, file, kind, text): &(&str, Option<&str>, &str, &str)| {
        let file = file.map(|file| format!("; filename=\"{file}\"")).unwrap_or_default();
        let head = format!("Content-Disposition: form-data; name=\"{name}\"{file}\r\nContent-Type: {kind}");
        format!("--{boundary}\r\n{head}\r\n\r\n{text}\r\n")
    };
    let parts: Vec<_> = parts.iter().map(part).collect();
    let body = format!("{}--{boundary}--\r\n", parts.concat());
    Form { content_type: format!("multipart/form-data; boundary={boundary}"), bytes: body.into_bytes() }
}

/// A route to make.
pub(super) fn route(pattern: &str, script: &str) -> Value {
    json!({"pattern": pattern, "script": script})
}

/// A custom domain to make. Records at its name are in the way: nothing is overridden.
pub(super) fn domain(zone_id: &str, hostname: &str, script: &str) -> Value {
    json!({"zone_id": zone_id, "hostname": hostname, "service": script, "environment": "production"})
}
