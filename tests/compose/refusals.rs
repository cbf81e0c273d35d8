//! Files that may not run: a row for each, with its exact words.

use std::collections::BTreeSet;

use roadstead::host::compose::refuse::{self, HostAccess, Rules};
use roadstead::host::compose::{Project, complaint};

use crate::rig::{App, fixtures};

/// The refusals of a fixture, a line each. The app's directory is written `/app`.
fn refused(name: &str, host_access: HostAccess) -> String {
    let app = App::refused(name);
    let output = app.config(None, &["--format", "json"]);
    let message = if output.status.success() {
        let project = Project::read(std::str::from_utf8(&output.stdout).unwrap()).unwrap();
        let rules = Rules { files: app.files(), host_access, ..Rules::default() };
        refuse::check(&project, &rules).err().map(|refusals| refuse::message(&refusals)).unwrap_or_default()
    } else {
        complaint::refusal(&String::from_utf8_lossy(&output.stderr), app.directory()).to_string()
    };
    message.replace(app.directory(), "/app")
}

const PORTS: &str =
    "of the host, which Caddy serves every app on: remove it, and name the container's port in `expose`";
const PATHS: &str = "is a path of the host and not in `spec.compose.files`: bring the file in `spec.compose.files`, or \
                     keep data in a named volume";
const WHOLE: &str = "gives the app the whole host: remove it, or set `spec.hostAccess: true` on the AppDeployment and \
                     have `spec.allowHostAccess: true` set on the Node's Provider";
const RESERVED: &str = "starts with `rs--`, which is reserved: choose another name";
const ADD_ENTRY: &str = "is called `web` or has the label `roadstead.entry=true`: add the label to the service that \
                         answers HTTP, or name it in `spec.entry.service`";
const NO_PORT: &str = "key `expose`: the entry service exposes no TCP port: add `expose: [\"8080\"]` with the port it \
                       answers HTTP at, the label `roadstead.port`, or `spec.entry.port`";

/// Each fixture and its refusals, by line.
#[allow(clippy::too_many_lines, reason = "a table")]
fn rows() -> Vec<(&'static str, Vec<String>)> {
    let one = |name, line: &str| (name, vec![line.to_owned()]);
    vec![
        (
            "bind_mounts",
            vec![
                format!("service `db`, key `volumes[0]`: `/app/files/data` {PATHS}"),
                format!("service `web`, key `volumes[0]`: `/etc/localtime` {PATHS}"),
                format!("service `web`, key `volumes[1]`: `/app/env` {PATHS}"),
            ],
        ),
        ("docker_socket", vec![format!("service `web`, key `volumes[0]`: the Docker socket {WHOLE}")]),
        one(
            "entry_label",
            "service `web`, key `labels.roadstead.entry`: the label is `yes`: write `true`, or remove it",
        ),
        (
            "everything",
            vec![
                "services `one` and `two`, key `labels`: each has the label `roadstead.entry=true` or \
                 `dynia.entry=true`: leave it on one, or name the entry in `spec.entry.service`"
                    .into(),
                format!("service `one`, key `ports[0]`: publishing 80 would take port 80 {PORTS}"),
                format!("service `one`, key `ports[1]`: publishing 443 would take port 443 {PORTS}"),
                format!("service `one`, key `volumes[0]`: the Docker socket {WHOLE}"),
                format!("service `one`, key `volumes[1]`: `/srv` {PATHS}"),
                format!("service `two`, key `privileged`: a privileged container {WHOLE}"),
            ],
        ),
        one(
            "host_network",
            "service `web`, key `network_mode`: with `host` Caddy cannot reach the entry service by its network: \
             remove the key, and name the port in `expose`",
        ),
        (
            "host_privileges",
            vec![
                format!("service `web`, key `privileged`: a privileged container {WHOLE}"),
                format!("service `web`, key `cap_add[1]`: the capability `SYS_ADMIN` {WHOLE}"),
                format!("service `web`, key `devices[0]`: the device `/dev/vda` {WHOLE}"),
            ],
        ),
        (
            "labels",
            vec![
                "service `web`, key `labels.roadstead.port`: the label is `http`: write a port from 1 to 65535".into(),
                "service `web`, key `labels.roadstead.domain`: the label is `Shop.Example.com`: write a domain such as \
                 `shop.example.com` (`Shop` is not a DNS label: use 1 to 63 of a-z, 0-9 and `-`, not starting or \
                 ending with `-`)"
                    .into(),
                "service `web`, key `labels.roadstead.health`: the label is `healthz`: write a path such as `/healthz`"
                    .into(),
            ],
        ),
        one(
            "missing_env_file",
            "key `compose`: Compose refuses the file: env file files/settings.env not found: stat files/settings.env: \
             no such file or directory: mend it there",
        ),
        one(
            "missing_variable",
            "service `web`, key `image`: the required variable `TAG` is missing (the version to run): give it in \
             `spec.env`",
        ),
        ("no_entry", vec![format!("key `services`: no service is the entry, for none of `api`, `db` {ADD_ENTRY}")]),
        one(
            "no_image",
            "key `services.web`: Compose refuses the file: service \"web\" has neither an image nor a build context \
             specified: invalid compose project: mend it there",
        ),
        ("no_port", vec![format!("service `web`, {NO_PORT}")]),
        one("no_services", "key `services`: the file has no service: add the one that answers HTTP"),
        one(
            "not_yaml",
            "key `compose`: Compose refuses the file: failed to parse compose.yaml: yaml: line 1: did not find \
             expected ',' or ']': mend it there",
        ),
        ("only_a_profile", vec![format!("key `services`: no service is the entry, for none of `db` {ADD_ENTRY}")]),
        (
            "paths_in_disguise",
            vec![
                format!("service `builder`, key `build.context`: `/srv/source` {PATHS}"),
                format!("service `builder`, key `build.additional_contexts.keys`: `/root/.ssh` {PATHS}"),
                format!("key `configs.hosts.file`: `/etc/hosts` {PATHS}"),
                format!("key `secrets.shadow.file`: `/etc/shadow` {PATHS}"),
                format!("key `volumes.data.driver_opts.device`: `/srv/data` {PATHS}"),
            ],
        ),
        (
            "port_443_of_another",
            vec![format!("service `proxy`, key `ports[0]`: publishing 443 would take port 443 {PORTS}")],
        ),
        ("port_80", vec![format!("service `web`, key `ports[0]`: publishing 80 would take port 80 {PORTS}")]),
        (
            "port_ranges",
            vec![
                format!("service `web`, key `ports[1]`: publishing 80 would take port 80 {PORTS}"),
                format!("service `web`, key `ports[3]`: publishing 400-500 would take port 443 {PORTS}"),
            ],
        ),
        (
            "reserved_names",
            vec![
                format!("key `services.rs--0000000000-r1`: `rs--0000000000-r1` {RESERVED}"),
                format!("service `web`, key `container_name`: `rs--0000000000-r2` {RESERVED}"),
                format!("service `web`, key `networks.default.aliases[0]`: `rs--0000000000-r3` {RESERVED}"),
            ],
        ),
        one(
            "two_entries",
            "services `api` and `site`, key `labels`: each has the label `roadstead.entry=true` or `dynia.entry=true`: \
             leave it on one, or name the entry in `spec.entry.service`",
        ),
        one(
            "unknown_dependency",
            "key `services.web`: Compose refuses the file: service \"web\" depends on undefined service \"db\": \
             invalid compose project: mend it there",
        ),
        one(
            "unknown_key",
            "key `services.web`: Compose refuses the file: validating compose.yaml: services.web additional properties \
             'exposes' not allowed: mend it there",
        ),
        (
            "whole_disk",
            vec![
                format!("service `exporter`, key `volumes[0]`: the path `/` {WHOLE}"),
                format!("service `exporter`, key `pid`: `host` {WHOLE}"),
            ],
        ),
    ]
}

#[test]
fn each_file_that_may_not_run_is_refused_in_these_words() {
    let rows = rows();
    let listed: BTreeSet<String> = rows.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(fixtures("refused"), listed, "each file has a row");
    for (name, expected) in rows {
        let refused = refused(name, HostAccess::default());
        assert_eq!(refused.lines().collect::<Vec<_>>(), expected, "{name}");
    }
}

#[test]
fn what_gives_the_host_away_runs_once_the_app_asks_and_the_provider_permits_it() {
    for name in ["docker_socket", "whole_disk", "host_privileges"] {
        for (asked, permitted) in [(true, false), (false, true)] {
            assert_ne!(refused(name, HostAccess { asked, permitted }), "", "{name}");
        }
        assert_eq!(refused(name, HostAccess { asked: true, permitted: true }), "", "{name}");
    }
    // Other paths of the host do not come with it.
    let both = HostAccess { asked: true, permitted: true };
    assert_eq!(refused("bind_mounts", both).lines().count(), 3);
}

#[test]
fn what_compose_only_warns_of_is_told_apart_from_a_refusal() {
    let app = App::shape("interpolation");
    let output = app.config(None, &["--quiet"]);
    assert!(output.status.success());
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(complaint::empty_variables(&said), ["NOT_SET_ANYWHERE".to_owned()].into());
    let app = App::of(b"services: {web: {image: '${A}', expose: ['${B}0'], user: '${A}'}}");
    let said = String::from_utf8(app.config(None, &["--quiet"]).stderr).unwrap();
    assert_eq!(complaint::empty_variables(&said), ["A".to_owned(), "B".to_owned()].into());
}
