//! The variables and files of a recipe, from the objects that were read (pure).

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::objects::{Kind, Objects, Reference};
use super::recipe::{Recipe, of_file, of_source, of_variable};
use crate::host::compose::variables::objection;
use crate::runtime::fault::Fault;

/// What Linux hands to a program in one variable, its name included.
const VARIABLE: usize = 128 * 1024 - 2;
/// All variables together, with their names.
const VARIABLES: usize = 512 * 1024;
/// All files together.
const FILES: usize = 4 * 1024 * 1024;

/// The variables of an app. No `Debug`: it holds values.
#[derive(Default)]
pub(super) struct Variables {
    pub values: BTreeMap<String, String>,
    /// Those that only some services get.
    pub only: BTreeMap<String, BTreeSet<String>>,
    /// Those whose values are a Secret's.
    pub secret: BTreeSet<String>,
}

impl Variables {
    fn set(&mut self, name: String, value: String, kind: Option<Kind>) {
        if kind == Some(Kind::Secret) {
            self.secret.insert(name.clone());
        } else {
            self.secret.remove(&name);
        }
        self.values.insert(name, value);
    }
}

/// The variables: those of `env` over those of `envFrom`, and of two sources the later one.
///
/// # Errors
/// What is missing, and names and values that no variable can have.
pub(super) fn variables(recipe: &Recipe, objects: &Objects) -> Result<Variables, Fault> {
    let mut variables = Variables::default();
    for (index, from) in recipe.env_from.iter().enumerate() {
        let reference = of_source(index, from)?;
        for (key, value) in &objects.object(&reference)?.data {
            let name = format!("{}{key}", from.prefix.as_deref().unwrap_or_default());
            if let Some(objection) = objection(&name) {
                let place = place(&reference, objects, key);
                return Err(invalid(format!("{place} cannot be the variable `{name}`: {objection}")));
            }
            let value = text(&reference, objects, key, value)?;
            variables.set(name, value, Some(reference.kind));
        }
    }
    for var in &recipe.env {
        let name = var.name.clone();
        if let Some(objection) = objection(&name) {
            return Err(invalid(format!("spec.env[{name}].name: {objection}")));
        }
        match of_variable(var)? {
            Some(at) => {
                let value = text(&at.reference, objects, at.key, objects.key(&at.reference, at.key)?)?;
                variables.set(name, value, Some(at.reference.kind));
            }
            None => variables.set(name, var.value.clone().unwrap_or_default(), None),
        }
        if !var.services.is_empty() {
            variables.only.insert(var.name.clone(), var.services.iter().cloned().collect());
        }
    }
    within_limits(&variables.values)?;
    Ok(variables)
}

fn within_limits(values: &BTreeMap<String, String>) -> Result<(), Fault> {
    if let Some((name, _)) = values.iter().find(|(name, value)| name.len() + value.len() > VARIABLE) {
        return Err(invalid(format!(
            "the variable `{name}` is longer than 128 KiB, more than a program can be given: let the app mount it as one of \
             spec.compose.files"
        )));
    }
    if values.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>() > VARIABLES {
        let message = "the variables have more than 512 KiB together: let the app mount what is large as one of \
                       spec.compose.files";
        return Err(invalid(message.to_owned()));
    }
    Ok(())
}

/// The files beside the Compose file, by their paths.
///
/// # Errors
/// What is missing, paths that lead elsewhere, and more than fits.
pub(super) fn files(recipe: &Recipe, objects: &Objects) -> Result<BTreeMap<String, Bytes>, Fault> {
    let mut files = BTreeMap::new();
    for file in &recipe.files {
        if !is_path(&file.path) {
            let message = format!(
                "spec.compose.files[{}].path: write a relative path of letters, digits, `.`, `_` and `-`, without `.` and \
                 `..` as parts, e.g. `nginx/site.conf`",
                file.path
            );
            return Err(Fault::terminal("InvalidFile", message));
        }
        let at = of_file(file)?;
        files.insert(file.path.clone(), objects.key(&at.reference, at.key)?.clone());
    }
    if files.values().map(Bytes::len).sum::<usize>() > FILES {
        let message = "spec.compose.files: the files have more than 4 MiB together: build what is large into an image";
        return Err(Fault::terminal("InvalidFile", message));
    }
    Ok(files)
}

/// A path that stays below the directory it is put to.
fn is_path(path: &str) -> bool {
    let part = |part: &str| {
        !matches!(part, "" | "." | "..")
            && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'))
    };
    path.split('/').all(part)
}

/// The text of a key: of a variable, or of the Compose file.
pub(super) fn text(reference: &Reference<'_>, objects: &Objects, key: &str, value: &Bytes) -> Result<String, Fault> {
    match std::str::from_utf8(value) {
        Ok(text) if !text.contains('\0') => Ok(text.to_owned()),
        _ => Err(invalid(format!("{} is no text: write UTF-8 without zero bytes", place(reference, objects, key)))),
    }
}

fn place(reference: &Reference<'_>, objects: &Objects, key: &str) -> String {
    let Reference { kind, name, field } = reference;
    format!("{field}: key `{key}` of {kind} {}/{name}", objects.namespace())
}

fn invalid(message: String) -> Fault {
    Fault::terminal("InvalidVariable", message)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::objects::Object;
    use super::*;

    fn object(data: &[(&str, &[u8])]) -> Object {
        let data = data.iter().map(|(key, value)| ((*key).to_owned(), Bytes::copy_from_slice(value))).collect();
        Object { version: "1".into(), type_: None, data }
    }

    fn objects() -> Objects {
        Objects::of(
            "shop",
            [
                (Kind::Secret, "db", object(&[("PASSWORD", b"hunter2"), ("USER", b"shop")])),
                (Kind::ConfigMap, "db", object(&[("PASSWORD", b"none"), ("HOST", b"db")])),
                (Kind::ConfigMap, "nginx", object(&[("site.conf", b"listen 80")])),
                (Kind::Secret, "binary", object(&[("KEY", b"hunter\xff")])),
                (Kind::Secret, "names", object(&[("A.B", b"hunter2")])),
                (Kind::Secret, "long", object(&[("LONG", &[b'x'; 131_071])])),
                (Kind::Secret, "large", object(&[("FILE", &[b'x'; 1 << 20])])),
            ],
        )
    }

    fn recipe(recipe: Value) -> Recipe {
        serde_json::from_value(recipe).unwrap()
    }

    fn pairs(variables: &Variables) -> Vec<(&str, &str)> {
        variables.values.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect()
    }

    #[test]
    fn env_is_over_env_from_and_a_later_source_over_an_earlier_one() {
        let secret = json!({"secretRef": {"name": "db"}});
        let config = json!({"configMapRef": {"name": "db"}});
        let read = |sources: Value, env: Value| {
            variables(&recipe(json!({"envFrom": sources, "env": env})), &objects()).unwrap()
        };
        let first = read(json!([secret, config]), json!([]));
        assert_eq!(pairs(&first), [("HOST", "db"), ("PASSWORD", "none"), ("USER", "shop")]);
        assert_eq!(first.secret, ["USER".to_owned()].into());
        let second = read(json!([config, secret]), json!([]));
        assert_eq!(pairs(&second), [("HOST", "db"), ("PASSWORD", "hunter2"), ("USER", "shop")]);
        assert_eq!(second.secret, ["PASSWORD".to_owned(), "USER".to_owned()].into());
        let key = json!({"name": "db", "key": "PASSWORD"});
        let third = read(
            json!([{"secretRef": {"name": "db"}, "prefix": "DB_"}, secret]),
            json!([{"name": "USER", "value": "me"}, {"name": "OTHER", "secretKeyRef": key, "services": ["db"]}]),
        );
        let expected = [
            ("DB_PASSWORD", "hunter2"),
            ("DB_USER", "shop"),
            ("OTHER", "hunter2"),
            ("PASSWORD", "hunter2"),
            ("USER", "me"),
        ];
        assert_eq!(pairs(&third), expected);
        assert_eq!(third.only, [("OTHER".to_owned(), ["db".to_owned()].into())].into());
        assert!(!third.secret.contains("USER") && third.secret.contains("OTHER"));
    }

    #[test]
    fn what_no_variable_can_be_is_refused_by_object_and_key_and_without_its_value() {
        let from = |name: &str, prefix: Value| json!({"envFrom": [{"secretRef": {"name": name}, "prefix": prefix}]});
        for (of, said) in [
            (
                from("names", Value::Null),
                "spec.envFrom[0].secretRef: key `A.B` of Secret shop/names cannot be the variable `A.B`: a variable's name has",
            ),
            (
                from("db", json!("COMPOSE_")),
                "cannot be the variable `COMPOSE_PASSWORD`: of the variables that steer Compose",
            ),
            (from("binary", Value::Null), "key `KEY` of Secret shop/binary is no text"),
            (from("long", Value::Null), "the variable `LONG` is longer than 128 KiB"),
            (json!({"env": [{"name": "1A", "value": "hunter2"}]}), "spec.env[1A].name: a variable's name has"),
        ] {
            let Err(Fault::Terminal { reason: "InvalidVariable", message }) =
                variables(&recipe(of.clone()), &objects())
            else {
                panic!("{of} is not refused")
            };
            assert!(message.contains(said) && !message.contains("hunter"), "{message}");
        }
        let env: Vec<Value> = (0..5).map(|n| json!({"name": format!("V{n}"), "value": "x".repeat(110_000)})).collect();
        assert!(variables(&recipe(json!({"env": env})), &objects()).is_err(), "more than 512 KiB");
        assert!(variables(&recipe(json!({"env": env[..4]})), &objects()).is_ok());
        // What another one hides is none.
        let hidden = json!({"envFrom": [{"secretRef": {"name": "long"}}], "env": [{"name": "LONG", "value": ""}]});
        assert!(variables(&recipe(hidden), &objects()).is_ok());
    }

    #[test]
    fn files_stay_below_their_directory_and_within_their_limit() {
        let file =
            |path: &str, name: &str, key: &str| json!({"path": path, "secretKeyRef": {"name": name, "key": key}});
        let read = |of: Vec<Value>| files(&recipe(json!({ "files": of })), &objects());
        let map = json!({"path": "nginx/site.conf", "configMapKeyRef": {"name": "nginx", "key": "site.conf"}});
        let both = read(vec![map, file("key", "binary", "KEY")]).unwrap();
        assert_eq!(both["nginx/site.conf"], "listen 80");
        assert_eq!(both["key"], &b"hunter\xff"[..]);
        for path in ["/etc/passwd", "../up", "a/../../b", "a//b", "", ".", "a b", "a\n"] {
            let read = read(vec![file(path, "db", "USER")]);
            assert!(matches!(read, Err(Fault::Terminal { reason: "InvalidFile", .. })), "{path}");
        }
        let large = |n: usize| read((0..n).map(|n| file(&format!("f{n}"), "large", "FILE")).collect());
        assert!(large(4).is_ok() && large(5).is_err());
        let Err(Fault::Waiting { reason: "SecretKeyMissing", message, .. }) = read(vec![file("a", "db", "NONE")])
        else {
            panic!("a key that is not there is not waited for")
        };
        assert!(
            message.starts_with("spec.compose.files[a].secretKeyRef: Secret shop/db has no key `NONE`"),
            "{message}"
        );
    }
}
