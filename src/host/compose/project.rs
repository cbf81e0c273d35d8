//! The canonical form of a Compose file, as far as anything is decided by it.
//!
//! Values of environment variables are in what Compose prints, secrets among them. They are not read, so they cannot be
//! shown by mistake.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

/// What Compose printed is not what we know as the canonical form.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("what `docker compose config` printed cannot be read at `{place}`: {why}")]
pub struct Unreadable {
    /// The key, e.g. `services.web.ports`; empty for the whole.
    pub place: String,
    /// What is wrong there.
    pub why: String,
}

/// A project in canonical form: the services of active profiles, and what they use.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Project {
    /// Its name.
    pub name: String,
    /// Its services by name.
    pub services: BTreeMap<String, Service>,
    /// The networks they use, by key; `default` is among them if a service names none.
    pub networks: BTreeMap<String, Network>,
    /// The named volumes they use, by key.
    pub volumes: BTreeMap<String, Volume>,
    /// The configs they use, by key.
    pub configs: BTreeMap<String, Content>,
    /// The secrets they use, by key.
    pub secrets: BTreeMap<String, Content>,
}

/// A service.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Service {
    /// `image`.
    pub image: Option<String>,
    /// `build`.
    pub build: Option<Build>,
    /// `labels`.
    pub labels: BTreeMap<String, String>,
    /// `expose`, as written: `8080`, `9000-9002/udp`.
    pub expose: Vec<String>,
    /// `ports`.
    pub ports: Vec<Port>,
    /// `volumes`.
    pub volumes: Vec<Mount>,
    /// `volumes_from`, as written: `db`, `db:ro`.
    pub volumes_from: Vec<String>,
    /// `networks`, by the network's key.
    pub networks: BTreeMap<String, Attachment>,
    /// `network_mode`; then there are no `networks`.
    pub network_mode: Option<String>,
    /// `pid`.
    pub pid: Option<String>,
    /// `ipc`.
    pub ipc: Option<String>,
    /// `userns_mode`.
    pub userns_mode: Option<String>,
    /// `container_name`.
    pub container_name: Option<String>,
    /// `mac_address`.
    pub mac_address: Option<String>,
    /// `depends_on`, by service.
    pub depends_on: BTreeMap<String, Dependency>,
    /// `privileged`.
    pub privileged: bool,
    /// `cap_add`.
    pub cap_add: Vec<String>,
    /// `devices`.
    pub devices: Vec<Device>,
    /// `logging`.
    pub logging: Option<Logging>,
    /// `restart`.
    pub restart: Option<String>,
    /// `deploy`.
    pub deploy: Deploy,
    /// `scale`.
    pub scale: Option<u32>,
    /// `configs`.
    pub configs: Vec<Use>,
    /// `secrets`.
    pub secrets: Vec<Use>,
}

/// `build`, as far as it reads the host's disk.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Build {
    /// `context`: an absolute path or a URL.
    pub context: String,
    /// `dockerfile`, relative to the context unless it is absolute.
    pub dockerfile: String,
    /// `additional_contexts`, by name.
    pub additional_contexts: BTreeMap<String, String>,
}

/// An entry of `ports`. Compose makes an entry of each port of a range, except where many host ports lead to one.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Port {
    /// The container's port.
    pub target: u16,
    /// The host's ports, first and last; `None` if Docker chooses one.
    #[serde(default, deserialize_with = "published")]
    pub published: Option<(u16, u16)>,
    /// `tcp` or `udp`.
    #[serde(default = "tcp")]
    pub protocol: String,
}

/// An entry of `volumes`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Mount {
    /// `bind`, `volume`, `tmpfs`, `image`, …
    #[serde(rename = "type")]
    pub kind: String,
    /// A host path, the key of a volume; empty for an anonymous volume.
    pub source: String,
    /// Where it is in the container.
    pub target: String,
    /// Whether it may only be read.
    pub read_only: bool,
}

/// How a service is attached to a network.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Attachment {
    /// Its further names there.
    pub aliases: Vec<String>,
    /// Its fixed address there.
    pub ipv4_address: Option<String>,
    /// Its fixed address there.
    pub ipv6_address: Option<String>,
    /// Its fixed link-layer address there.
    pub mac_address: Option<String>,
}

/// An entry of `depends_on`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Dependency {
    /// `service_started`, `service_healthy` or `service_completed_successfully`.
    pub condition: String,
}

/// An entry of `devices`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Device {
    /// The host's device.
    pub source: String,
}

/// `logging`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Logging {
    /// The driver; Docker's own default if there is none.
    pub driver: Option<String>,
    /// Its options.
    #[serde(deserialize_with = "nullable")]
    pub options: BTreeMap<String, String>,
}

/// `deploy`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Deploy {
    /// `replicas`.
    pub replicas: Option<u32>,
    /// Whether there is a `restart_policy`, whatever it says.
    #[serde(rename = "restart_policy", deserialize_with = "is_there")]
    pub restarts: bool,
}

/// An entry of a service's `configs` or `secrets`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Use {
    /// The key of the config or secret.
    pub source: String,
}

/// A network.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Network {
    /// Its name at Docker.
    pub name: String,
    /// Whether it is there already, and not of this project.
    pub external: bool,
    /// Its driver; `bridge` if there is none.
    pub driver: Option<String>,
    /// How it is addressed.
    #[serde(deserialize_with = "nullable")]
    pub ipam: Ipam,
}

/// `ipam`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Ipam {
    /// The subnets that the file gives.
    #[serde(deserialize_with = "nullable")]
    pub config: Vec<Subnet>,
}

/// An entry of `ipam.config`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Subnet {
    /// The subnet.
    pub subnet: Option<String>,
}

/// A named volume.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Volume {
    /// Its name at Docker.
    pub name: String,
    /// Whether it is there already, and not of this project.
    pub external: bool,
    /// What its driver is told.
    #[serde(deserialize_with = "nullable")]
    pub driver_opts: BTreeMap<String, String>,
}

/// A config or a secret.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Content {
    /// The host's file that is mounted, if it is one.
    pub file: Option<String>,
}

impl Project {
    /// Reads what `docker compose config --format json` printed. Keys that nothing is decided by are ignored, so that a
    /// newer Compose can add some.
    ///
    /// # Errors
    /// [`Unreadable`], naming service and key, if a key we decide by has another form than the one we know.
    pub fn read(json: &str) -> Result<Self, Unreadable> {
        let whole: Map<String, Value> = serde_json::from_str(json)
            .map_err(|error| Unreadable { place: String::new(), why: format!("it is no JSON object: {error}") })?;
        let top = Fields { place: String::new(), map: &whole };
        let services: Map<String, Value> = top.take("services")?;
        let services = services.iter().map(|(name, value)| Ok((name.clone(), Service::read(name, value)?)));
        Ok(Self {
            name: top.take("name")?,
            services: services.collect::<Result<_, Unreadable>>()?,
            networks: top.all("networks")?,
            volumes: top.all("volumes")?,
            configs: top.all("configs")?,
            secrets: top.all("secrets")?,
        })
    }

    /// The names of all services, for messages.
    #[must_use]
    pub fn names(&self) -> String {
        self.services.keys().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
    }
}

impl Service {
    fn read(name: &str, value: &Value) -> Result<Self, Unreadable> {
        let place = format!("services.{name}.");
        let Value::Object(map) = value else {
            return Err(Unreadable { place: format!("services.{name}"), why: "it is no object".into() });
        };
        let fields = Fields { place, map };
        Ok(Self {
            image: fields.take("image")?,
            build: fields.take("build")?,
            labels: fields.take("labels")?,
            expose: fields.take("expose")?,
            ports: fields.take("ports")?,
            volumes: fields.take("volumes")?,
            volumes_from: fields.take("volumes_from")?,
            networks: fields.all("networks")?,
            network_mode: fields.take("network_mode")?,
            pid: fields.take("pid")?,
            ipc: fields.take("ipc")?,
            userns_mode: fields.take("userns_mode")?,
            container_name: fields.take("container_name")?,
            mac_address: fields.take("mac_address")?,
            depends_on: fields.take("depends_on")?,
            privileged: fields.take("privileged")?,
            cap_add: fields.take("cap_add")?,
            devices: fields.take("devices")?,
            logging: fields.take("logging")?,
            restart: fields.take("restart")?,
            deploy: fields.take("deploy")?,
            scale: fields.take("scale")?,
            configs: fields.take("configs")?,
            secrets: fields.take("secrets")?,
        })
    }

    /// How many containers it has.
    #[must_use]
    pub fn replicas(&self) -> u32 {
        self.scale.or(self.deploy.replicas).unwrap_or(1)
    }
}

/// The members of an object, and where it is.
struct Fields<'a> {
    place: String,
    map: &'a Map<String, Value>,
}

impl Fields<'_> {
    /// The value at a key; its default if it is absent or null.
    fn take<T: DeserializeOwned + Default>(&self, key: &str) -> Result<T, Unreadable> {
        self.read(key, self.map.get(key))
    }

    /// The values of an object by key, null ones being their default.
    fn all<T: DeserializeOwned + Default>(&self, key: &str) -> Result<BTreeMap<String, T>, Unreadable> {
        let map: Map<String, Value> = self.take(key)?;
        let values =
            map.iter().map(|(name, value)| Ok((name.clone(), self.read(&format!("{key}.{name}"), Some(value))?)));
        values.collect()
    }

    fn read<T: DeserializeOwned + Default>(&self, key: &str, value: Option<&Value>) -> Result<T, Unreadable> {
        match value {
            None | Some(Value::Null) => Ok(T::default()),
            Some(value) => T::deserialize(value)
                .map_err(|error| Unreadable { place: format!("{}{key}", self.place), why: error.to_string() }),
        }
    }
}

fn tcp() -> String {
    "tcp".into()
}

fn nullable<'de, D: serde::Deserializer<'de>, T: Deserialize<'de> + Default>(from: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or_default())
}

fn is_there<'de, D: serde::Deserializer<'de>>(from: D) -> Result<bool, D::Error> {
    Ok(Option::<serde::de::IgnoredAny>::deserialize(from)?.is_some())
}

/// `published`: a string in Compose v2, a number in older ones; empty or 0 where Docker chooses.
fn published<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<(u16, u16)>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Form {
        Number(u16),
        Text(String),
    }
    let (first, last) = match Option::<Form>::deserialize(from)? {
        None => return Ok(None),
        Some(Form::Number(port)) => (port, port),
        Some(Form::Text(text)) if text.is_empty() => return Ok(None),
        Some(Form::Text(text)) => range(&text).ok_or_else(|| {
            serde::de::Error::custom(format!("`published` is `{text}`, which is neither a port nor a range of ports"))
        })?,
    };
    Ok((last != 0).then_some((first, last)))
}

/// `8080` or `8080-8090`.
pub(super) fn range(text: &str) -> Option<(u16, u16)> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (first.parse().ok()?, last.parse().ok()?);
    (first <= last).then_some((first, last))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_nothing_is_decided_by_are_ignored() {
        let text = r#"{"name":"shop","x-ours":1,"services":{"web":{"image":"a","models":{"m":{}},"command":null}}}"#;
        let project = Project::read(text).unwrap();
        assert_eq!(project.services["web"].image.as_deref(), Some("a"));
        assert_eq!(project.services["web"].replicas(), 1);
    }

    #[test]
    fn another_form_is_refused_by_service_and_key() {
        for (text, place) in [
            (r#"{"services":{"web":{"labels":["a=b"]}}}"#, "services.web.labels"),
            (r#"{"services":{"web":{"ports":[{"target":80,"published":"x"}]}}}"#, "services.web.ports"),
            (r#"{"services":{"web":{"networks":{"front":7}}}}"#, "services.web.networks.front"),
            (r#"{"services":{"web":[]}}"#, "services.web"),
            (r#"{"services":[]}"#, "services"),
            (r#"{"networks":{"default":{"external":"yes"}}}"#, "networks.default"),
            ("[]", ""),
            ("", ""),
        ] {
            let refused = Project::read(text).unwrap_err();
            assert_eq!(refused.place, place, "{text}: {refused}");
        }
    }

    #[test]
    fn no_value_of_an_environment_variable_is_kept() {
        let text = r#"{"services":{"web":{"image":"a","environment":{"PASSWORD":"hunter2"}}}}"#;
        assert!(!format!("{:?}", Project::read(text).unwrap()).contains("hunter2"));
    }

    #[test]
    fn a_published_port_is_a_port_a_range_or_dockers_choice() {
        for (published, expected) in [
            (r#""8080""#, Some((8080, 8080))),
            (r#""440-450""#, Some((440, 450))),
            ("8080", Some((8080, 8080))),
            (r#""""#, None),
            (r#""0""#, None),
            ("null", None),
        ] {
            let text = format!(r#"{{"services":{{"web":{{"ports":[{{"target":80,"published":{published}}}]}}}}}}"#);
            assert_eq!(Project::read(&text).unwrap().services["web"].ports[0].published, expected, "{published}");
        }
    }
}
