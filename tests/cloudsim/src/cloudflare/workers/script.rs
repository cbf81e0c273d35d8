//! Scripts: immutable versions of code with bindings, and which of them are deployed.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::placement::{Domain, Route};
use super::upload::{Metadata, Settings};
use crate::cloudflare::rules::Refusal;
use crate::cloudflare::state::{State, id_of};
use crate::workerd::Module;

/// The largest text of one binding, in bytes (`developers.cloudflare.com/workers/platform/limits`).
const LARGEST_TEXT: usize = 5 * 1024;
/// Bindings of text per script on a paid plan.
const MOST_BINDINGS: usize = 128;
/// The largest script, compressed on a paid plan; taken for the plain one here.
const LARGEST_SCRIPT: usize = 10 << 20;
/// What a script without a date gets.
const FIRST_DATE: &str = "2021-11-02";

/// Everything of Workers, of all accounts.
#[derive(Debug, Default)]
pub(in crate::cloudflare) struct Workers {
    /// By account id and name.
    pub(super) scripts: BTreeMap<(String, String), Script>,
    /// By zone id.
    pub(super) routes: BTreeMap<String, Vec<Route>>,
    pub(super) domains: Vec<Domain>,
    /// Hosts outside of every zone that scripts can reach.
    pub(super) hosts: HashMap<String, IpAddr>,
    ids: u64,
}

/// One script.
#[derive(Debug)]
pub(super) struct Script {
    pub(super) tag: String,
    pub(super) tags: Vec<String>,
    pub(super) created_on: Timestamp,
    pub(super) modified_on: Timestamp,
    /// Oldest first; never empty.
    pub(super) versions: Vec<Arc<Version>>,
    /// Oldest first.
    pub(super) deployments: Vec<Deployment>,
    /// Whether it answers below `workers.dev`.
    pub(super) subdomain: bool,
}

/// Code with bindings. It never changes.
#[derive(Debug)]
pub(super) struct Version {
    pub(super) id: String,
    pub(super) number: usize,
    pub(super) code: Arc<Code>,
    /// As they were sent, secrets included.
    pub(super) bindings: Vec<Value>,
    pub(super) compatibility_date: String,
    pub(super) compatibility_flags: Vec<String>,
    pub(super) annotations: Value,
    pub(super) created_on: Timestamp,
}

/// The modules of an upload, the main one first.
#[derive(Debug)]
pub(super) struct Code {
    pub(super) modules: Vec<Module>,
    pub(super) etag: String,
}

/// Which versions get which share of the traffic.
#[derive(Debug)]
pub(super) struct Deployment {
    pub(super) id: String,
    pub(super) created_on: Timestamp,
    pub(super) versions: Vec<(Arc<Version>, f64)>,
    pub(super) annotations: Value,
}

/// A script as a test sees it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ScriptInfo {
    /// The text of its main module, as deployed.
    pub text: String,
    /// The bindings of the newest version as they were sent, secrets included.
    pub bindings: Vec<Value>,
    /// How many versions there have been.
    #[serde(default)]
    pub versions: usize,
}

impl ScriptInfo {
    /// The text of a binding.
    #[must_use]
    pub fn text_of(&self, binding: &str) -> Option<&str> {
        self.bindings.iter().find(|b| b["name"] == binding)?["text"].as_str()
    }
}

pub(super) fn no_script() -> Refusal {
    Refusal::new(404, 10_007, "This Worker does not exist on your account.")
}

pub(super) fn invalid(message: impl Into<String>) -> Refusal {
    Refusal::new(400, 10_021, message)
}

impl Workers {
    /// A UUID, never the same twice.
    pub(super) fn uuid(&mut self) -> String {
        self.ids += 1;
        let id = id_of(&format!("workers/{}", self.ids));
        format!("{}-{}-{}-{}-{}", &id[..8], &id[8..12], &id[12..16], &id[16..20], &id[20..])
    }

    /// 32 hex digits, never the same twice.
    pub(super) fn id(&mut self) -> String {
        self.uuid().replace('-', "")
    }

    pub(super) fn script(&self, account: &str, name: &str) -> Result<&Script, Refusal> {
        self.scripts.get(&(account.to_owned(), name.to_owned())).ok_or_else(no_script)
    }

    pub(super) fn script_mut(&mut self, account: &str, name: &str) -> Result<&mut Script, Refusal> {
        self.scripts.get_mut(&(account.to_owned(), name.to_owned())).ok_or_else(no_script)
    }

    /// Makes a version of an upload; it serves nothing yet.
    pub(super) fn draft(
        &mut self,
        account: &str,
        name: &str,
        metadata: &Metadata,
        modules: Vec<Module>,
        strict: bool,
        now: Timestamp,
    ) -> Result<Arc<Version>, Refusal> {
        check_name(name)?;
        let code = code(metadata, modules)?;
        let old = self.script(account, name).ok().map(|script| script.versions.as_slice()).unwrap_or_default();
        let mut bindings = resolve(metadata.bindings.as_deref().unwrap_or_default(), old, strict)?;
        for binding in old.last().map(|version| version.bindings.as_slice()).unwrap_or_default() {
            let kept = metadata.keep_bindings.iter().any(|kind| binding["type"] == kind.as_str());
            if kept && !bindings.iter().any(|b| b["name"] == binding["name"]) {
                bindings.push(binding.clone());
            }
        }
        check_bindings(&bindings)?;
        let number = old.len() + 1;
        Ok(Arc::new(Version {
            id: self.uuid(),
            number,
            code: Arc::new(code),
            bindings,
            compatibility_date: metadata.compatibility_date.clone().unwrap_or_else(|| FIRST_DATE.to_owned()),
            compatibility_flags: metadata.compatibility_flags.clone(),
            annotations: metadata.annotations.clone(),
            created_on: now,
        }))
    }

    /// Makes a version that differs from the newest in its settings alone; it serves nothing yet.
    pub(super) fn resettle(
        &mut self,
        account: &str,
        name: &str,
        settings: &Settings,
        now: Timestamp,
    ) -> Result<Arc<Version>, Refusal> {
        let id = self.uuid();
        let script = self.script(account, name)?;
        let newest = script.newest()?;
        let bindings = match &settings.bindings {
            Some(bindings) => resolve(bindings, &script.versions, false)?,
            None => newest.bindings.clone(),
        };
        check_bindings(&bindings)?;
        Ok(Arc::new(Version {
            id,
            number: newest.number + 1,
            code: newest.code.clone(),
            bindings,
            compatibility_date: settings
                .compatibility_date
                .clone()
                .unwrap_or_else(|| newest.compatibility_date.clone()),
            compatibility_flags: settings
                .compatibility_flags
                .clone()
                .unwrap_or_else(|| newest.compatibility_flags.clone()),
            annotations: settings.annotations.clone(),
            created_on: now,
        }))
    }

    /// Adds a version to its script, which is made if there is none.
    pub(super) fn add(&mut self, account: &str, name: &str, version: Arc<Version>, now: Timestamp) -> &mut Script {
        let tag = self.id();
        let script = self.scripts.entry((account.to_owned(), name.to_owned())).or_insert_with(|| Script {
            tag,
            tags: Vec::new(),
            created_on: now,
            modified_on: now,
            versions: Vec::new(),
            deployments: Vec::new(),
            subdomain: false,
        });
        script.versions.push(version);
        script.modified_on = now;
        script
    }

    /// Lets the versions serve from now on.
    pub(super) fn deploy(
        &mut self,
        account: &str,
        name: &str,
        versions: Vec<(Arc<Version>, f64)>,
        annotations: Value,
        now: Timestamp,
    ) -> Result<(), Refusal> {
        let id = self.uuid();
        let script = self.script_mut(account, name)?;
        script.deployments.push(Deployment { id, created_on: now, versions, annotations });
        Ok(())
    }

    /// Takes a script away, with its custom domains; routes to it only if forced.
    pub(super) fn delete(&mut self, account: &str, name: &str, force: bool) -> Result<(), Refusal> {
        self.script(account, name)?;
        let domains = self.domains.iter().any(|domain| domain.account == account && domain.service == name);
        if domains && !force {
            let message = "Workers with custom domains cannot be deleted: remove the domains, or use force=true.";
            return Err(Refusal::new(400, 10_075, message));
        }
        self.domains.retain(|domain| domain.account != account || domain.service != name);
        self.scripts.remove(&(account.to_owned(), name.to_owned()));
        Ok(())
    }
}

impl Script {
    pub(super) fn newest(&self) -> Result<&Arc<Version>, Refusal> {
        self.versions.last().ok_or_else(no_script)
    }

    /// The version that serves a request for which this number between 0 and 100 was drawn.
    pub(super) fn serving(&self, mut drawn: f64) -> Option<Arc<Version>> {
        let versions = &self.deployments.last()?.versions;
        for (version, share) in versions {
            if drawn < *share {
                return Some(version.clone());
            }
            drawn -= share;
        }
        versions.last().map(|(version, _)| version.clone())
    }
}

fn check_name(name: &str) -> Result<(), Refusal> {
    let fits = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_' || b == b'-';
    if !name.is_empty() && name.len() <= 255 && name.bytes().all(fits) {
        return Ok(());
    }
    Err(Refusal::new(
        400,
        10_016,
        "Worker names must be lowercase with letters, digits, underscores and dashes, and at most 255 characters.",
    ))
}

/// The modules, of which the first is the main one.
fn code(metadata: &Metadata, modules: Vec<Module>) -> Result<Code, Refusal> {
    let Some(main) = &metadata.main_module else {
        return Err(invalid("metadata needs main_module: only ES modules are simulated"));
    };
    if modules.first().is_none_or(|module| module.name != *main) {
        return Err(invalid(format!("No such module \"{main}\".")));
    }
    if modules.iter().map(|module| module.text.len()).sum::<usize>() > LARGEST_SCRIPT {
        return Err(Refusal::new(413, 10_027, "Your Worker exceeded the size limit of 10 MiB."));
    }
    let whole: Vec<_> =
        modules.iter().flat_map(|m| [m.name.as_str().into(), String::from_utf8_lossy(&m.text)]).collect();
    let whole = whole.join("\n");
    let etag = format!("{}{}", id_of(&whole), id_of(&format!("etag {whole}")));
    Ok(Code { modules, etag })
}

/// Puts the inherited bindings in their places. One that cannot be found is refused if `strict`, else left out.
fn resolve(bindings: &[Value], old: &[Arc<Version>], strict: bool) -> Result<Vec<Value>, Refusal> {
    let mut resolved = Vec::new();
    for binding in bindings {
        if binding["type"] != "inherit" {
            resolved.push(binding.clone());
            continue;
        }
        let from = match binding["version_id"].as_str() {
            None | Some("latest") => old.last(),
            Some(id) => old.iter().find(|version| version.id == id),
        };
        let wanted = binding.get("old_name").unwrap_or(&binding["name"]);
        let found = from.and_then(|version| version.bindings.iter().find(|b| b["name"] == *wanted));
        match found {
            Some(found) => {
                let mut found = found.clone();
                found["name"] = binding["name"].clone();
                resolved.push(found);
            }
            None if strict => return Err(invalid(format!("binding {wanted} cannot be inherited: there is none"))),
            None => {}
        }
    }
    Ok(resolved)
}

fn check_bindings(bindings: &[Value]) -> Result<(), Refusal> {
    let mut names: Vec<&str> = Vec::new();
    for binding in bindings {
        let Some(name) = binding["name"].as_str().filter(|name| !name.is_empty()) else {
            return Err(Refusal::new(400, 10_052, "A binding is uploaded without a name."));
        };
        if names.contains(&name) {
            return Err(invalid(format!("binding {name} is given more than once")));
        }
        names.push(name);
        let texts = matches!(binding["type"].as_str(), Some("plain_text" | "secret_text"));
        let length = match (texts, binding["text"].as_str(), binding.get("json")) {
            (true, None, _) => return Err(invalid(format!("binding {name} needs text"))),
            (true, Some(text), _) => text.len(),
            (false, _, Some(json)) => json.to_string().len(),
            (false, _, None) => 0,
        };
        if length > LARGEST_TEXT {
            let message = format!("environment variable or secret {name} exceeds the size limit of 5 KB");
            return Err(Refusal::new(400, 10_054, message));
        }
    }
    if names.len() > MOST_BINDINGS {
        return Err(Refusal::new(400, 10_055, "the Worker has more environment variables and secrets than 128"));
    }
    Ok(())
}

impl State {
    /// A script of the account of this name.
    #[must_use]
    pub fn script(&self, account: &str, name: &str) -> Option<ScriptInfo> {
        let (world, _) = self.world();
        let script = world.workers.script(world.accounts.get(account)?, name).ok()?;
        let newest = script.newest().ok()?;
        let text = String::from_utf8_lossy(&newest.code.modules.first()?.text).into_owned();
        Some(ScriptInfo { text, bindings: newest.bindings.clone(), versions: script.versions.len() })
    }

    /// The names of the scripts of the account of this name.
    #[must_use]
    pub fn scripts(&self, account: &str) -> Vec<String> {
        let (world, _) = self.world();
        let account = world.accounts.get(account);
        let owned = world.workers.scripts.keys().filter(|(owner, _)| Some(owner) == account);
        owned.map(|(_, name)| name.clone()).collect()
    }

    /// Uploads a script by hand, as a person with the dashboard does: bindings that are not given are gone.
    ///
    /// # Errors
    /// What the API itself would refuse, in its words.
    pub fn put_script(&self, account: &str, name: &str, info: &ScriptInfo) -> Result<(), String> {
        let account = self.add_account(account);
        let (mut world, now) = self.world();
        let module = Module { name: "worker.js".to_owned(), text: info.text.clone().into_bytes() };
        let metadata = Metadata {
            main_module: Some(module.name.clone()),
            bindings: Some(info.bindings.clone()),
            compatibility_date: Some("2025-09-01".to_owned()),
            ..Metadata::default()
        };
        let workers = &mut world.workers;
        let refused = |refusal: Refusal| refusal.message;
        let version = workers.draft(&account, name, &metadata, vec![module], false, now).map_err(refused)?;
        workers.add(&account, name, version.clone(), now);
        workers.deploy(&account, name, vec![(version, 100.0)], json!({}), now).map_err(refused)
    }

    /// Deletes a script by hand; false if there is none.
    pub fn remove_script(&self, account: &str, name: &str) -> bool {
        let (mut world, _) = self.world();
        let Some(account) = world.accounts.get(account).cloned() else { return false };
        world.workers.delete(&account, name, true).is_ok()
    }

    /// Lets scripts reach a host that is in no zone at this address; `None` makes it unknown again.
    pub fn set_host(&self, host: &str, address: Option<IpAddr>) {
        let (mut world, _) = self.world();
        match address {
            Some(address) => world.workers.hosts.insert(host.to_owned(), address),
            None => world.workers.hosts.remove(host),
        };
    }
}
