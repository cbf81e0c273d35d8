//! Who we are at registries, as Secrets of type `kubernetes.io/dockerconfigjson` say it.

use std::collections::BTreeMap;

use data_encoding::BASE64;
use serde::Deserialize;

use super::objects::{Kind, Objects, Reference};
use crate::api::app_deployment::LocalRef;
use crate::host::deploy::commands::Registry;
use crate::runtime::fault::Fault;

const TYPE: &str = "kubernetes.io/dockerconfigjson";
const KEY: &str = ".dockerconfigjson";

/// Docker's own registry, by the name `docker login` knows it by.
const DOCKER: &str = "docker.io";
/// Other names of it that configurations have.
const DOCKERS: [&str; 2] = ["index.docker.io", "registry-1.docker.io"];

#[derive(Deserialize)]
struct Config {
    auths: BTreeMap<String, Entry>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Entry {
    username: String,
    password: String,
    auth: String,
    identitytoken: String,
}

/// What `spec.imagePullSecrets` names.
pub(super) fn references(secrets: &[LocalRef]) -> impl Iterator<Item = Reference<'_>> {
    secrets.iter().map(|LocalRef { name }| Reference {
        kind: Kind::Secret,
        name,
        field: format!("spec.imagePullSecrets[{name}]"),
    })
}

/// The registries of `spec.imagePullSecrets`, each once: of two Secrets that have it the later one counts.
///
/// # Errors
/// What is wrong with a Secret, by the name of the entry. Never what is in it.
pub(super) fn of(secrets: &[LocalRef], objects: &Objects) -> Result<Vec<Registry>, Fault> {
    let mut registries = BTreeMap::new();
    for reference in references(secrets) {
        let object = objects.object(&reference)?;
        let place = format!("{}: Secret {}/{}", reference.field, objects.namespace(), reference.name);
        if object.type_.as_deref() != Some(TYPE) {
            let message = format!("{place} is not of type {TYPE}: make it by `kubectl create secret docker-registry`");
            return Err(Fault::terminal("InvalidPullSecret", message));
        }
        let config = objects.key(&reference, KEY)?;
        let read = parse(config).map_err(|what| Fault::terminal("InvalidPullSecret", format!("{place}: {what}")))?;
        registries.extend(read.into_iter().map(|registry| (registry.host.clone(), registry)));
    }
    Ok(registries.into_values().collect())
}

/// The registries of a configuration, or what is wrong with it.
fn parse(config: &[u8]) -> Result<Vec<Registry>, String> {
    // The parser's own words quote what it met, which may be a password.
    let config: Config = serde_json::from_slice(config)
        .map_err(|_| format!("`{KEY}` is no JSON object with `auths`, the registries by their hosts"))?;
    let mut registries: BTreeMap<String, Registry> = BTreeMap::new();
    for (name, entry) in config.auths {
        let host = host(&name).ok_or_else(|| {
            "one of the registries is not named by its host, e.g. `registry.example.com:5000`".to_owned()
        })?;
        let registry = of_entry(&host, entry).map_err(|what| format!("the entry of the registry `{host}` {what}"))?;
        if registries.get(&host).is_some_and(|other| *other != registry) {
            return Err(format!("it has two entries for the registry `{host}`: keep one"));
        }
        registries.insert(host, registry);
    }
    Ok(registries.into_values().collect())
}

fn of_entry(host: &str, entry: Entry) -> Result<Registry, &'static str> {
    let (user, password) = if entry.username.is_empty() && entry.password.is_empty() {
        if entry.auth.is_empty() {
            return Err(if entry.identitytoken.is_empty() {
                "has no user and no password: a credential helper of your own machine does not work on a host"
            } else {
                "has an identity token: write a user and a password, or an access token as the password"
            });
        }
        let decoded = BASE64.decode(entry.auth.trim().as_bytes()).ok().and_then(|auth| String::from_utf8(auth).ok());
        let pair = decoded.as_deref().and_then(|auth| auth.split_once(':'));
        let (user, password) = pair.ok_or("has an `auth` that is not `user:password` in base64")?;
        (user.to_owned(), password.to_owned())
    } else {
        (entry.username, entry.password)
    };
    if user.is_empty() || password.is_empty() {
        return Err("has no user or no password");
    }
    if user.chars().chain(password.chars()).any(char::is_control) {
        return Err("has a control character, such as a line's end, in its user or password");
    }
    Ok(Registry { host: host.to_owned(), user, password })
}

/// The host of a registry, as `docker login` takes it. Configurations have URLs and paths, too.
fn host(name: &str) -> Option<String> {
    let bare = name.strip_prefix("https://").or_else(|| name.strip_prefix("http://")).unwrap_or(name);
    let host = bare.split('/').next().unwrap_or_default();
    let good = |byte: u8| byte.is_ascii_alphanumeric() || b".-:[]_".contains(&byte);
    if host.is_empty() || host.len() > 255 || host.starts_with('-') || !host.bytes().all(good) {
        return None;
    }
    Some(if DOCKERS.contains(&host) { DOCKER.to_owned() } else { host.to_owned() })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::objects::Object;
    use super::*;

    fn secret(type_: &str, config: &str) -> Object {
        let data = BTreeMap::from([(KEY.to_owned(), config.to_owned().into())]);
        Object { version: "1".into(), type_: Some(type_.into()), data }
    }

    fn auths(auths: Value) -> Object {
        secret(TYPE, &json!({ "auths": auths }).to_string())
    }

    fn read(secrets: impl IntoIterator<Item = (&'static str, Object)>) -> Result<Vec<Registry>, Fault> {
        let mut names = Vec::new();
        let all = secrets.into_iter().map(|(name, object)| {
            names.push(LocalRef { name: name.into() });
            (Kind::Secret, name, object)
        });
        let objects = Objects::of("shop", all.collect::<Vec<_>>());
        of(&names, &objects)
    }

    fn registry(host: &str, user: &str, password: &str) -> Registry {
        Registry { host: host.into(), user: user.into(), password: password.into() }
    }

    #[test]
    fn users_and_passwords_are_read_in_every_shape_that_docker_writes() {
        let secret = auths(json!({
            "https://index.docker.io/v1/": {"auth": BASE64.encode(b"ci:pass:word")},
            "r.example:5000": {"username": "u", "password": "p", "auth": "not looked at", "email": "e"},
        }));
        let expected = [registry("docker.io", "ci", "pass:word"), registry("r.example:5000", "u", "p")];
        assert_eq!(read([("a", secret)]).unwrap(), expected);
    }

    #[test]
    fn of_two_secrets_with_a_registry_the_later_one_counts() {
        let one = || auths(json!({"r.example": {"username": "u", "password": "1"}}));
        let two = || auths(json!({"r.example": {"username": "u", "password": "2"}}));
        assert_eq!(read([("a", one()), ("b", two())]).unwrap(), [registry("r.example", "u", "2")]);
        assert_eq!(read([("b", two()), ("a", one())]).unwrap(), [registry("r.example", "u", "1")]);
    }

    #[test]
    fn what_is_wrong_is_said_by_the_entry_and_without_what_is_in_it() {
        let hunter = BASE64.encode(b"hunter2");
        for (secret, said) in [
            (secret("Opaque", "{}"), "is not of type kubernetes.io/dockerconfigjson"),
            (secret(TYPE, "hunter2"), "is no JSON object with `auths`"),
            (secret(TYPE, r#"{"auths": "hunter2"}"#), "is no JSON object with `auths`"),
            (secret(TYPE, r#"{"auths": {"r.example": {"password": ["hunter2"]}}}"#), "is no JSON object with `auths`"),
            (
                auths(json!({"r.example": {"auth": "hunter2!"}})),
                "`r.example` has an `auth` that is not `user:password`",
            ),
            (auths(json!({"r.example": {"auth": hunter}})), "`r.example` has an `auth` that is not `user:password`"),
            (auths(json!({"r.example": {}})), "`r.example` has no user and no password"),
            (auths(json!({"r.example": {"username": "hunter2"}})), "`r.example` has no user or no password"),
            (auths(json!({"r.example": {"identitytoken": "hunter2"}})), "`r.example` has an identity token"),
            (auths(json!({"r.example": {"username": "u", "password": "hunter2\n"}})), "has a control character"),
            (auths(json!({"--hunter2": {"username": "u", "password": "p"}})), "is not named by its host"),
            (auths(json!({"*.hunter2": {"username": "u", "password": "p"}})), "is not named by its host"),
            (
                auths(json!({
                    "r.example/a": {"username": "u", "password": "hunter2"},
                    "r.example/b": {"username": "u", "password": "hunter3"},
                })),
                "two entries for the registry `r.example`",
            ),
        ] {
            let fault = read([("registry", secret)]).unwrap_err();
            let Fault::Terminal { reason: "InvalidPullSecret", message } = &fault else { panic!("{fault:?}") };
            assert!(message.starts_with("spec.imagePullSecrets[registry]: Secret shop/registry"), "{message}");
            assert!(message.contains(said), "{message}");
            assert!(!message.contains("hunter"), "{message}");
        }
    }
}
