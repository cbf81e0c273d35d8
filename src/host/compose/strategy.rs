//! Whether the new revision of the entry service may run beside the old one, and if not, why.

use std::fmt;

use super::project::{Project, Service};

/// How the entry service is replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The new revision starts beside the old one, which stops once traffic goes to the new one.
    BlueGreen,
    /// The old revision stops before the new one starts.
    Recreate,
}

/// Why two revisions cannot run side by side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Obstacle {
    /// It publishes this port of the host, which only one container can have.
    HostPort(u16),
    /// `container_name`, which only one container can have.
    ContainerName(String),
    /// A fixed address on a network, or a fixed link-layer address.
    Address(String),
    /// It writes to this volume, and two writers may spoil it.
    Volume(String),
    /// It writes to the volumes of this service or container.
    VolumesFrom(String),
    /// This service lives in the entry's network, process or IPC namespace, and would lose it with the old container.
    Tenant(String),
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::HostPort(port) => write!(f, "publishes the host's port {port}"),
            Self::ContainerName(name) => write!(f, "has the container_name `{name}`"),
            Self::Address(address) => write!(f, "has the fixed address {address}"),
            Self::Volume(volume) => write!(f, "writes to the volume `{volume}`"),
            Self::VolumesFrom(other) => write!(f, "writes to the volumes of `{other}`"),
            Self::Tenant(service) => write!(f, "shares a namespace with the service `{service}`"),
        }
    }
}

/// What the AppDeployment says of its strategy.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Asked {
    /// `strategy.type`; `None` is as `BlueGreen`.
    pub kind: Option<Kind>,
    /// `strategy.sharedVolumes`: two revisions may write to a volume at a time.
    pub shared_volumes: bool,
}

/// The strategy of a deploy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Strategy {
    /// What is done.
    pub kind: Kind,
    /// Why it is not side by side; empty if it is, or if Recreate was asked for.
    pub obstacles: Vec<Obstacle>,
    /// One sentence for people.
    pub message: String,
}

/// The strategy for an entry service: what was asked for, unless it cannot be.
#[must_use]
pub fn choose(project: &Project, entry: &str, asked: Asked) -> Strategy {
    if asked.kind == Some(Kind::Recreate) {
        let message = format!("Recreate, as asked for: the old `{entry}` stops before the new one starts");
        return Strategy { kind: Kind::Recreate, obstacles: Vec::new(), message };
    }
    let obstacles = obstacles(project, entry, asked.shared_volumes);
    if obstacles.is_empty() {
        let message = format!("BlueGreen: the new `{entry}` starts beside the old one");
        return Strategy { kind: Kind::BlueGreen, obstacles, message };
    }
    let reasons = obstacles.iter().map(ToString::to_string).collect::<Vec<_>>().join(", and ");
    let only_volumes = obstacles.iter().all(|o| matches!(o, Obstacle::Volume(_) | Obstacle::VolumesFrom(_)));
    let remedy =
        if only_volumes { "; if two revisions may write at a time, set `strategy.sharedVolumes: true`" } else { "" };
    let asked = if asked.kind.is_some() { " although BlueGreen is asked for" } else { "" };
    let message = format!(
        "Recreate{asked}: two revisions of `{entry}` cannot run side by side, because it {reasons}, so the old one \
         stops before the new one starts{remedy}"
    );
    Strategy { kind: Kind::Recreate, obstacles, message }
}

fn obstacles(project: &Project, entry: &str, shared_volumes: bool) -> Vec<Obstacle> {
    let Some(service) = project.services.get(entry) else { return Vec::new() };
    let mut found = Vec::new();
    // Of a range Docker takes a port that is free, which leaves one for the other revision.
    let fixed = service.ports.iter().filter_map(|port| port.published.filter(|(first, last)| first == last));
    found.extend(fixed.map(|(port, _)| Obstacle::HostPort(port)));
    found.extend(service.container_name.clone().map(Obstacle::ContainerName));
    found.extend(addresses(service).cloned().map(Obstacle::Address));
    if !shared_volumes {
        // A file of `compose.files` is input, an anonymous volume is each container's own.
        let written = service.volumes.iter().filter(|mount| !mount.read_only && !mount.source.is_empty());
        let volumes = written.clone().filter(|mount| mount.kind == "volume").map(|mount| mount.source.clone());
        let root = written.filter(|mount| mount.kind == "bind" && mount.source == "/").map(|_| "/".to_owned());
        found.extend(volumes.chain(root).map(Obstacle::Volume));
        let others = service.volumes_from.iter().filter(|from| !from.ends_with(":ro"));
        found.extend(others.map(|from| Obstacle::VolumesFrom(from.trim_end_matches(":rw").to_owned())));
    }
    let lives_here = |mode: &Option<String>| mode.as_deref() == Some(&format!("service:{entry}"));
    let tenants = project
        .services
        .iter()
        .filter(|(_, other)| [&other.network_mode, &other.pid, &other.ipc].into_iter().any(lives_here));
    found.extend(tenants.map(|(name, _)| Obstacle::Tenant(name.clone())));
    found
}

fn addresses(service: &Service) -> impl Iterator<Item = &String> {
    let attachments = service.networks.values();
    let of_networks = attachments.flat_map(|at| [&at.ipv4_address, &at.ipv6_address, &at.mac_address]).flatten();
    service.mac_address.iter().chain(of_networks)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(web: &str, others: &str, asked: Asked) -> Strategy {
        let text = format!(r#"{{"services":{{"web":{{{web}}}{others}}}}}"#);
        choose(&Project::read(&text).unwrap_or_else(|error| panic!("{text}: {error}")), "web", asked)
    }

    const DATA: &str = r#""volumes":[{"type":"volume","source":"data","target":"/data"}]"#;

    #[test]
    fn each_thing_only_one_container_can_have_makes_it_recreate() {
        for (web, others, obstacle) in [
            (r#""ports":[{"target":80,"published":"8080"}]"#, "", Obstacle::HostPort(8080)),
            (r#""container_name":"shop""#, "", Obstacle::ContainerName("shop".into())),
            (DATA, "", Obstacle::Volume("data".into())),
            (r#""volumes_from":["db:rw"]"#, "", Obstacle::VolumesFrom("db".into())),
            (r#""networks":{"a":{"ipv4_address":"10.0.0.9"}}"#, "", Obstacle::Address("10.0.0.9".into())),
            (r#""mac_address":"02:42:ac:11:00:02""#, "", Obstacle::Address("02:42:ac:11:00:02".into())),
            ("", r#","vpn":{"network_mode":"service:web"}"#, Obstacle::Tenant("vpn".into())),
        ] {
            let strategy = chosen(web, others, Asked::default());
            assert_eq!((strategy.kind, &strategy.obstacles[..]), (Kind::Recreate, &[obstacle][..]), "{web}{others}");
        }
    }

    #[test]
    fn what_two_containers_can_have_is_no_obstacle() {
        for (web, others) in [
            (r#""ports":[{"target":80},{"target":81,"published":"8080-8090"}]"#, ""),
            (r#""volumes":[{"type":"volume","source":"data","target":"/d","read_only":true}]"#, ""),
            (r#""volumes":[{"type":"volume","target":"/cache"},{"type":"tmpfs","target":"/run"}]"#, ""),
            (r#""volumes":[{"type":"bind","source":"/opt/app/files/a.conf","target":"/a"}]"#, ""),
            (r#""volumes_from":["db:ro"],"networks":{"a":null}"#, ""),
            // Another service may be as fixed as it likes.
            ("", r#","db":{"container_name":"db","ports":[{"target":1,"published":"5432"}],"network_mode":"none"}"#),
        ] {
            let strategy = chosen(web, others, Asked::default());
            assert_eq!((strategy.kind, strategy.obstacles), (Kind::BlueGreen, vec![]), "{web}{others}");
        }
    }

    #[test]
    fn what_is_asked_for_is_done_unless_it_cannot_be_and_the_reason_is_said() {
        let asked = |kind, shared_volumes| Asked { kind, shared_volumes };
        let recreate = chosen("", "", asked(Some(Kind::Recreate), false));
        assert_eq!((recreate.kind, recreate.obstacles.len()), (Kind::Recreate, 0));
        let shared = chosen(DATA, "", asked(Some(Kind::BlueGreen), true));
        assert_eq!(shared.kind, Kind::BlueGreen);
        let refused = chosen(DATA, "", asked(Some(Kind::BlueGreen), false));
        assert_eq!(
            refused.message,
            "Recreate although BlueGreen is asked for: two revisions of `web` cannot run side by side, because it \
             writes to the volume `data`, so the old one stops before the new one starts; if two revisions may write \
             at a time, set `strategy.sharedVolumes: true`"
        );
        let named = format!(r#"{DATA},"container_name":"shop""#);
        let message = chosen(&named, "", asked(None, false)).message;
        assert!(message.contains("`shop`, and writes to the volume `data`") && !message.contains("sharedVolumes"));
        // Two writers are allowed, but there is still one name.
        assert_eq!(chosen(&named, "", asked(None, true)).obstacles, [Obstacle::ContainerName("shop".into())]);
    }
}
