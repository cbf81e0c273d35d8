//! What a revision is called: a hash of everything that makes it run as it does.

use std::collections::{BTreeMap, BTreeSet};

use data_encoding::HEXLOWER;
use sha2::{Digest, Sha256};

/// What a revision runs. No value of a Secret has a place in it: a version tells one value from another.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Runs<'a> {
    /// The text of the Compose file, as the user wrote it.
    pub compose: &'a str,
    /// `images[]`: the image of each service it replaces.
    pub images: BTreeMap<&'a str, &'a str>,
    /// The digest that each service's image was resolved to, as far as is known.
    pub digests: BTreeMap<&'a str, &'a str>,
    /// The names of the variables, and where each comes from.
    pub variables: BTreeMap<&'a str, Source<'a>>,
    /// The variables that only some services get, and which.
    pub only: BTreeMap<&'a str, BTreeSet<&'a str>>,
    /// Whole Secrets and ConfigMaps of `envFrom`, in their order: of two with the same key the later one counts.
    pub all_of: Vec<Source<'a>>,
    /// `compose.files[]`: the path of each, and where it comes from.
    pub files: BTreeMap<&'a str, Source<'a>>,
    /// The entry service that was asked for.
    pub entry: Option<&'a str>,
    /// The port that was asked for.
    pub port: Option<u16>,
    /// Whether Caddy reaches it on `edge`.
    pub edge: bool,
    /// The token of the restart that was asked for: another one is another revision that runs the same.
    pub restart: Option<&'a str>,
}

/// Where a value comes from.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source<'a> {
    /// The spec itself, where everyone who may see the hash can read it too.
    Spec(&'a str),
    /// A Secret.
    Secret {
        /// Its name.
        name: &'a str,
        /// The key in it; for all of them `*`, after what is put before each.
        key: &'a str,
        /// Its resourceVersion, or one fixed word if a change of it is no new revision.
        version: &'a str,
    },
    /// A ConfigMap.
    ConfigMap {
        /// Its name.
        name: &'a str,
        /// The key in it; for all of them `*`, after what is put before each.
        key: &'a str,
        /// Its resourceVersion, or one fixed word if a change of it is no new revision.
        version: &'a str,
    },
}

/// The hash of a Compose file's text, as the seed writes it: `sha256:` and 64 hex digits.
#[must_use]
pub fn compose_hash(text: &str) -> String {
    format!("sha256:{}", HEXLOWER.encode(&Sha256::digest(text.as_bytes())))
}

/// The name of a revision: 10 hex digits. Two are the same exactly if they run the same and no restart is between them.
#[must_use]
pub fn name(runs: &Runs<'_>) -> String {
    let Runs { compose, images, digests, variables, only, all_of, files, entry, port, edge, restart } = runs;
    let mut hash = Parts(Sha256::new());
    hash.add(["compose", compose]);
    for (service, image) in images {
        hash.add(["image", service, image]);
    }
    for (service, digest) in digests {
        hash.add(["digest", service, digest]);
    }
    for (name, source) in variables {
        hash.add(["variable", name]);
        hash.source(source);
    }
    for (name, services) in only {
        for service in services {
            hash.add(["only", name, service]);
        }
    }
    for source in all_of {
        hash.source(source);
    }
    for (path, source) in files {
        hash.add(["file", path]);
        hash.source(source);
    }
    let port = port.map(|port| port.to_string());
    for (word, asked) in [("entry", *entry), ("port", port.as_deref()), ("restart", *restart)] {
        if let Some(asked) = asked {
            hash.add([word, asked]);
        }
    }
    if *edge {
        hash.add(["edge"]);
    }
    HEXLOWER.encode(&hash.0.finalize()[..5])
}

/// A hash over lists of texts, each with its length, so that no two different lists read the same.
struct Parts(Sha256);

impl Parts {
    fn add<const N: usize>(&mut self, parts: [&str; N]) {
        self.0.update((N as u64).to_be_bytes());
        for part in parts {
            self.0.update((part.len() as u64).to_be_bytes());
            self.0.update(part.as_bytes());
        }
    }

    fn source(&mut self, source: &Source<'_>) {
        match source {
            Source::Spec(value) => self.add(["spec", value]),
            Source::Secret { name, key, version } => self.add(["secret", name, key, version]),
            Source::ConfigMap { name, key, version } => self.add(["configmap", name, key, version]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn runs() -> Runs<'static> {
        Runs {
            compose: "services: {}",
            images: [("web", "shop:1")].into(),
            digests: [("web", "sha256:aa")].into(),
            variables: [("A", Source::Spec("1")), ("B", Source::Secret { name: "s", key: "b", version: "7" })].into(),
            only: [("A", ["web"].into())].into(),
            all_of: vec![Source::ConfigMap { name: "c", key: "*", version: "3" }],
            files: [("a.conf", Source::ConfigMap { name: "c", key: "a", version: "3" })].into(),
            ..Runs::default()
        }
    }

    #[test]
    fn every_part_that_changes_what_runs_changes_the_name_and_nothing_else_does() {
        let one = name(&runs());
        assert_eq!(one, name(&runs()));
        assert_eq!(one.len(), 10);
        let secret = |name, key, version| Source::Secret { name, key, version };
        let changed = [
            Runs { compose: "services: {} ", ..runs() },
            Runs { images: [("web", "shop:2")].into(), ..runs() },
            Runs { images: [("api", "shop:1")].into(), ..runs() },
            Runs { digests: [("web", "sha256:ab")].into(), ..runs() },
            Runs { digests: BTreeMap::new(), ..runs() },
            Runs { variables: [("A", Source::Spec("1")), ("B", secret("s", "b", "8"))].into(), ..runs() },
            Runs { variables: [("A", Source::Spec("2")), ("B", secret("s", "b", "7"))].into(), ..runs() },
            Runs { variables: [("A", Source::Spec("1")), ("C", secret("s", "b", "7"))].into(), ..runs() },
            Runs { only: [("A", ["web", "job"].into())].into(), ..runs() },
            Runs { only: [("B", ["web"].into())].into(), ..runs() },
            Runs { all_of: Vec::new(), ..runs() },
            Runs { all_of: vec![Source::ConfigMap { name: "c", key: "P_*", version: "3" }], ..runs() },
            Runs { all_of: vec![secret("a", "*", "1"), secret("b", "*", "1")], ..runs() },
            Runs { all_of: vec![secret("b", "*", "1"), secret("a", "*", "1")], ..runs() },
            Runs { entry: Some("web"), ..runs() },
            Runs { port: Some(80), ..runs() },
            Runs { edge: true, ..runs() },
            Runs { restart: Some("1"), ..runs() },
            Runs { restart: Some("2"), ..runs() },
            Runs { files: [("b.conf", Source::ConfigMap { name: "c", key: "a", version: "3" })].into(), ..runs() },
        ];
        let names: BTreeSet<String> = changed.iter().map(name).chain([one]).collect();
        assert_eq!(names.len(), changed.len() + 1);
    }

    #[test]
    fn parts_do_not_run_into_each_other() {
        let ab = Runs { images: [("a", "bc")].into(), ..Runs::default() };
        let abc = Runs { images: [("ab", "c")].into(), ..Runs::default() };
        assert_ne!(name(&ab), name(&abc));
        let image = Runs { images: [("a", "b")].into(), ..Runs::default() };
        let digest = Runs { digests: [("a", "b")].into(), ..Runs::default() };
        assert_ne!(name(&image), name(&digest));
    }

    #[test]
    fn the_hash_of_the_file_is_the_seeds() {
        let empty = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(compose_hash(""), empty);
    }
}
