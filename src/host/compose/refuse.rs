//! Every reason not to run a project that its canonical form shows, all at once and always in the same order: the
//! entry's first, then each service's by name and key, then what belongs to no service.

use super::entry::{self, Asked, Entry};
use super::mounts::{Files, Leads};
use super::overlay::RESERVED;
use super::project::{Project, Service};
pub use super::refusal::{Missing, Place, Refusal, message};

/// The host's ports that Caddy holds.
const CADDY: [u16; 2] = [80, 443];
/// Capabilities with which a container is as good as the host.
const CAPABILITIES: [&str; 7] = ["ALL", "BPF", "DAC_READ_SEARCH", "SYS_ADMIN", "SYS_MODULE", "SYS_PTRACE", "SYS_RAWIO"];
/// Devices that do not lead to the host's disks or memory.
const DEVICES: [&str; 6] = ["/dev/dri", "/dev/fuse", "/dev/kvm", "/dev/net/tun", "/dev/nvidia", "/dev/snd"];

/// Who agrees that an app gets at the whole host.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct HostAccess {
    /// The AppDeployment asks for it.
    pub asked: bool,
    /// The Provider permits it.
    pub permitted: bool,
}

impl HostAccess {
    /// What is missing; `None` if both agree.
    #[must_use]
    pub fn missing(self) -> Option<Missing> {
        match (self.asked, self.permitted) {
            (true, true) => None,
            (false, true) => Some(Missing::Ask),
            (true, false) => Some(Missing::Permission),
            (false, false) => Some(Missing::Both),
        }
    }
}

/// What a project is judged by.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rules {
    /// What the AppDeployment says of the entry.
    pub entry: Asked,
    /// The files it brings.
    pub files: Files,
    /// Who agrees to host access.
    pub host_access: HostAccess,
}

/// The entry of a project that may run.
///
/// # Errors
/// Every reason why it may not.
pub fn check(project: &Project, rules: &Rules) -> Result<Entry, Vec<Refusal>> {
    let (found, mut refusals) = match entry::find(project, &rules.entry) {
        Ok(entry) => (Some(entry), Vec::new()),
        Err(refusals) => (None, refusals),
    };
    let entry = entry::service(project, &rules.entry).ok();
    for (name, service) in &project.services {
        if entry == Some(name.as_str())
            && let Some(mode) = &service.network_mode
        {
            refusals.push(Refusal::NetworkMode { place: Place::of(name, "network_mode"), mode: mode.clone() });
        }
        ports(name, service, &mut refusals);
        paths(name, service, rules, &mut refusals);
        host_access(name, service, rules.host_access, &mut refusals);
        names(name, service, &mut refusals);
    }
    shared(project, rules, &mut refusals);
    match found {
        Some(entry) if refusals.is_empty() => Ok(entry),
        _ => Err(refusals),
    }
}

fn ports(name: &str, service: &Service, refusals: &mut Vec<Refusal>) {
    for (index, port) in service.ports.iter().enumerate() {
        let Some((first, last)) = port.published else { continue };
        let taken = CADDY.into_iter().filter(|port| (first..=last).contains(port));
        refusals.extend(taken.map(|port| Refusal::PortReserved {
            place: Place::of(name, format!("ports[{index}]")),
            published: if first == last { format!("publishing {first}") } else { format!("publishing {first}-{last}") },
            port,
        }));
    }
}

fn paths(name: &str, service: &Service, rules: &Rules, refusals: &mut Vec<Refusal>) {
    for (index, mount) in service.volumes.iter().enumerate().filter(|(_, mount)| mount.kind == "bind") {
        path(Place::of(name, format!("volumes[{index}]")), &mount.source, rules, refusals);
    }
    let Some(build) = &service.build else { return };
    let contexts = build.additional_contexts.iter();
    let contexts = contexts.map(|(key, context)| (format!("build.additional_contexts.{key}"), context));
    let own = [("build.context".to_owned(), &build.context), ("build.dockerfile".to_owned(), &build.dockerfile)];
    // A context may be a URL, and a Dockerfile lies in its context unless its path is absolute.
    for (key, source) in own.into_iter().chain(contexts).filter(|(_, source)| source.starts_with('/')) {
        path(Place::of(name, key), source, rules, refusals);
    }
}

/// Judges a path of the host.
fn path(place: Place, path: &str, rules: &Rules, refusals: &mut Vec<Refusal>) {
    let what = match rules.files.lead(path) {
        Leads::Files(_) => return,
        Leads::Elsewhere => return refusals.push(Refusal::HostPath { place, path: path.to_owned() }),
        Leads::DockerSocket => "the Docker socket",
        Leads::Root => "the path `/`",
    };
    if let Some(missing) = rules.host_access.missing() {
        refusals.push(Refusal::HostAccess { place, what: what.into(), missing });
    }
}

/// What gives the host away as the path `/` does, without a mount.
fn host_access(name: &str, service: &Service, agreed: HostAccess, refusals: &mut Vec<Refusal>) {
    let Some(missing) = agreed.missing() else { return };
    let mut refuse = |key: String, what: String| {
        refusals.push(Refusal::HostAccess { place: Place::of(name, key), what, missing });
    };
    if service.privileged {
        refuse("privileged".into(), "a privileged container".into());
    }
    for (key, value) in [("ipc", &service.ipc), ("pid", &service.pid), ("userns_mode", &service.userns_mode)] {
        if value.as_deref() == Some("host") {
            refuse(key.into(), "`host`".into());
        }
    }
    for (index, capability) in service.cap_add.iter().enumerate() {
        let plain = capability.to_ascii_uppercase();
        let plain = plain.strip_prefix("CAP_").unwrap_or(&plain);
        if CAPABILITIES.contains(&plain) {
            refuse(format!("cap_add[{index}]"), format!("the capability `{capability}`"));
        }
    }
    for (index, device) in service.devices.iter().enumerate() {
        let known = |known: &str| device.source.starts_with(known) && !device.source.contains("..");
        if device.source.starts_with('/') && !DEVICES.into_iter().any(known) {
            refuse(format!("devices[{index}]"), format!("the device `{}`", device.source));
        }
    }
}

/// No app may answer to the name of another's upstream.
fn names(name: &str, service: &Service, refusals: &mut Vec<Refusal>) {
    let mut refuse = |key: String, taken: &str| {
        if taken.starts_with(RESERVED) {
            refusals.push(Refusal::ReservedName { place: Place::of(name, key), name: taken.to_owned() });
        }
    };
    refuse("container_name".into(), service.container_name.as_deref().unwrap_or_default());
    for (network, attachment) in &service.networks {
        for (index, alias) in attachment.aliases.iter().enumerate() {
            refuse(format!("networks.{network}.aliases[{index}]"), alias);
        }
    }
    if name.starts_with(RESERVED) {
        refusals.push(Refusal::ReservedName { place: Place::at(format!("services.{name}")), name: name.to_owned() });
    }
}

/// Volumes that are a path of the host by their driver's options, and the files of configs and secrets, which Compose
/// mounts like any path.
fn shared(project: &Project, rules: &Rules, refusals: &mut Vec<Refusal>) {
    for (kind, contents) in [("configs", &project.configs), ("secrets", &project.secrets)] {
        for (key, content) in contents {
            if let Some(file) = &content.file {
                path(Place::at(format!("{kind}.{key}.file")), file, rules, refusals);
            }
        }
    }
    for (key, volume) in &project.volumes {
        if let Some(device) = volume.driver_opts.get("device").filter(|device| device.starts_with('/')) {
            path(Place::at(format!("volumes.{key}.driver_opts.device")), device, rules, refusals);
        }
    }
}

#[cfg(test)]
#[path = "refuse_tests.rs"]
mod tests;
