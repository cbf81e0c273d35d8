//! What the API server admits and refuses, and the exact words a person reads in the terminal.

use serde_json::{Value, json};

use super::kubectl::Kubectl;
use super::samples::{claim, droplets, environment, group, hosts, node, spec, with, zone};

/// What kubectl prints of a refusal, one entry a cause, without what stands before the field.
fn causes(text: &str) -> Vec<String> {
    let text = text.trim_end();
    let causes = text.split_once(" is invalid: ").map_or(text, |(_, causes)| causes);
    let causes = causes.lines().map(|line| line.trim_start_matches("* ").trim_end().to_owned());
    // Said whenever anything else is wrong already.
    causes.filter(|line| !line.is_empty() && !line.contains("some validation rules were not checked")).collect()
}

#[expect(clippy::too_many_lines, reason = "a table")]
pub fn refusals_say_what_would_be_right(kubectl: &Kubectl) {
    let long = |n: usize| "a".repeat(n);
    let duration = |field: &str, value: &str| {
        format!(
            "{field}: Invalid value: \"{value}\": write a duration above zero in hours, minutes and seconds, e.g. `72h`, `1h30m` or `90s`"
        )
    };
    let domain = |value: &str| {
        format!(
            "spec.domain: Invalid value: \"{value}\": write the domain like `example.com`: labels of a-z, 0-9 and `-` joined by dots, in lower case, without a dot at the end"
        )
    };
    let hostname = |value: &str| {
        format!(
            "spec.hostname: Invalid value: \"{value}\": write what stands before the zone's domain: DNS labels of a-z, 0-9 and `-` joined by dots, without a dot at the end, or `@` for the domain itself"
        )
    };
    let selector =
        "spec.allowedNamespaces: Invalid value: set `selector` with `from: Selector`, and only then".to_owned();
    let one = "spec: Invalid value: set exactly one of `digitalocean` and `static`".to_owned();
    let label =
        "<nil>: Invalid value: metadata.name must be a DNS label: a-z, 0-9 and `-`, not starting or ending with `-`"
            .to_owned();
    let is = |text: &str| vec![text.to_owned()];
    let table: Vec<(Value, Value, Vec<String>)> = vec![
        // Zone
        (zone(), spec(json!({"domain": "example.com."})), vec![domain("example.com.")]),
        (zone(), spec(json!({"domain": "Example.com"})), vec![domain("Example.com")]),
        (zone(), spec(json!({"domain": "localhost"})), vec![domain("localhost")]),
        (zone(), spec(json!({"domain": "*.example.com"})), vec![domain("*.example.com")]),
        (zone(), spec(json!({"domain": null})), is("spec.domain: Required value")),
        (zone(), spec(json!({"allowedNamespaces": null})), is("spec.allowedNamespaces: Required value")),
        (
            zone(),
            spec(json!({"allowedNamespaces": {"from": "Some"}})),
            is(
                r#"spec.allowedNamespaces.from: Unsupported value: "Some": supported values: "All", "Selector", "None""#,
            ),
        ),
        (zone(), spec(json!({"allowedNamespaces": {"from": "Selector"}})), vec![selector.clone()]),
        (zone(), spec(json!({"allowedNamespaces": {"selector": {"matchLabels": {"a": "b"}}}})), vec![selector.clone()]),
        (
            zone(),
            spec(json!({"ttl": 59})),
            is("spec.ttl: Invalid value: 59: spec.ttl in body should be greater than or equal to 60"),
        ),
        (
            zone(),
            spec(json!({"ttl": 86401})),
            is("spec.ttl: Invalid value: 86401: spec.ttl in body should be less than or equal to 86400"),
        ),
        (
            zone(),
            spec(json!({"cloudflare": {"tokenSecretRef": {"key": ""}}})),
            is(
                r#"spec.cloudflare.tokenSecretRef.key: Invalid value: "": spec.cloudflare.tokenSecretRef.key in body should be at least 1 chars long"#,
            ),
        ),
        (
            zone(),
            spec(json!({"propagation": {"resolvers": ["dns.example.com"]}})),
            is(
                "spec.propagation.resolvers: Invalid value: write each resolver as an IP address or IP:port, e.g. `1.1.1.1`, `127.0.0.1:5353` or `[2606:4700:4700::1111]:53`",
            ),
        ),
        (
            zone(),
            spec(json!({"propagation": {"resolvers": vec!["1.1.1.1"; 9]}})),
            is("spec.propagation.resolvers: Too many: 9: must have at most 8 items"),
        ),
        (zone(), spec(json!({"propagation": {"timeout": "0s"}})), vec![duration("spec.propagation.timeout", "0s")]),
        // Provider
        (droplets(), hosts(), vec![one.clone()]),
        (hosts(), spec(json!({"static": null})), vec![one.clone()]),
        (hosts(), spec(json!({"allowedNamespaces": null})), is("spec.allowedNamespaces: Required value")),
        (hosts(), spec(json!({"allowedNamespaces": {"selector": {}}})), vec![selector.clone()]),
        (
            hosts(),
            spec(json!({"static": {"allowedCIDRs": []}})),
            is(
                "spec.static.allowedCIDRs: Invalid value: 0: spec.static.allowedCIDRs in body should have at least 1 items",
            ),
        ),
        (
            hosts(),
            spec(json!({"static": {"allowedCIDRs": ["203.0.113.0/24", "10.0.0.1"]}})),
            is("spec.static.allowedCIDRs: Invalid value: write each range as a CIDR, e.g. `203.0.113.0/24`"),
        ),
        (droplets(), spec(json!({"digitalocean": {"region": null}})), is("spec.digitalocean.region: Required value")),
        (
            droplets(),
            spec(json!({"digitalocean": {"tags": ["two words"]}})),
            is("spec.digitalocean.tags: Invalid value: a tag has letters, digits, `:`, `-` and `_` only"),
        ),
        (
            droplets(),
            spec(json!({"digitalocean": {"tags": ["Roadstead:c:other"]}})),
            is("spec.digitalocean.tags: Invalid value: tags starting with `roadstead:` are reserved: choose another"),
        ),
        (
            droplets(),
            spec(json!({"digitalocean": {"tags": vec!["a"; 11]}})),
            is("spec.digitalocean.tags: Too many: 11: must have at most 10 items"),
        ),
        (
            droplets(),
            spec(json!({"digitalocean": {"vpcUUID": "default"}})),
            is(
                r#"spec.digitalocean.vpcUUID: Invalid value: "default": write the VPC's UUID, e.g. `5a4981aa-9653-4bd1-bef5-d6bff52042e4`"#,
            ),
        ),
        (
            droplets(),
            spec(json!({"sshAuthorizedKeys": ["-----BEGIN OPENSSH PRIVATE KEY-----"]})),
            is(
                "spec.sshAuthorizedKeys: Invalid value: each key is one line of a public key file, e.g. `ssh-ed25519 AAAA… you@example.com`",
            ),
        ),
        (
            droplets(),
            spec(json!({"sshAuthorizedKeys": ["ssh-ed25519 AAAA you\nruncmd: [reboot]"]})),
            is(
                "spec.sshAuthorizedKeys: Invalid value: each key is one line of a public key file, e.g. `ssh-ed25519 AAAA… you@example.com`",
            ),
        ),
        (
            droplets(),
            spec(json!({"brake": {"percent": 0}})),
            is("spec.brake.percent: Invalid value: 0: spec.brake.percent in body should be greater than or equal to 1"),
        ),
        (droplets(), spec(json!({"brake": {"window": "soon"}})), vec![duration("spec.brake.window", "soon")]),
        // Node
        (
            node(),
            json!({"metadata": {"name": long(49)}}),
            is(
                "<nil>: Invalid value: metadata.name may have at most 48 characters (51 for an Environment's `-vm`), because the VM's name is made of it",
            ),
        ),
        (node(), json!({"metadata": {"name": "web.1"}}), vec![label.clone()]),
        (
            node(),
            json!({"metadata": {"name": "rs--web"}}),
            is("<nil>: Invalid value: names starting with `rs--` are reserved: choose another"),
        ),
        (
            node(),
            spec(json!({"hostname": "*.eu"})),
            is(r#"spec.hostname: Invalid value: "*.eu": wildcards are not published: name one host"#),
        ),
        (node(), spec(json!({"hostname": "web."})), vec![hostname("web.")]),
        (node(), spec(json!({"hostname": "Web"})), vec![hostname("Web")]),
        (node(), spec(json!({"hostname": "-web"})), vec![hostname("-web")]),
        (node(), spec(json!({"hostname": "a..b"})), vec![hostname("a..b")]),
        (node(), spec(json!({"hostname": long(64)})), vec![hostname(&long(64))]),
        (
            node(),
            spec(json!({"hostname": "web.rs--zone"})),
            is(
                r#"spec.hostname: Invalid value: "web.rs--zone": labels starting with `rs--` are reserved: choose another"#,
            ),
        ),
        (
            node(),
            spec(json!({"address": "203.0.113"})),
            is(r#"spec.address: Invalid value: "203.0.113": write an IP address, e.g. `203.0.113.7`"#),
        ),
        (
            node(),
            spec(json!({"address": "203.0.113.7", "region": "fra1"})),
            is(
                "spec: Invalid value: `address` names an existing host: leave out region, size, image and userData, which describe a new VM",
            ),
        ),
        (
            node(),
            spec(json!({"userData": long(16385)})),
            is("spec.userData: Too long: may not be more than 16384 bytes"),
        ),
        (
            node(),
            spec(json!({"userData": "é".repeat(8193)})),
            is("spec: Invalid value: userData may have at most 16384 bytes (16 KiB): let it fetch the rest"),
        ),
        (
            node(),
            spec(json!({"ttl": 1})),
            is("spec.ttl: Invalid value: 1: spec.ttl in body should be greater than or equal to 60"),
        ),
        (
            node(),
            spec(json!({"healthPath": "healthz"})),
            is(r#"spec.healthPath: Invalid value: "healthz": a path starts with `/`"#),
        ),
        (
            node(),
            spec(json!({"deletionPolicy": "Retain"})),
            is(r#"spec.deletionPolicy: Unsupported value: "Retain": supported values: "Delete", "Orphan""#),
        ),
        (
            node(),
            spec(json!({"host": {"manage": "Nginx"}})),
            is(r#"spec.host.manage: Unsupported value: "Nginx": supported values: "Caddy", "None""#),
        ),
        (
            node(),
            spec(json!({"ssh": {"user": "Root User"}})),
            is(r#"spec.ssh.user: Invalid value: "Root User": write the name of a Linux user, e.g. `deploy`"#),
        ),
        (
            node(),
            spec(json!({"ssh": {"port": 0}})),
            is("spec.ssh.port: Invalid value: 0: spec.ssh.port in body should be greater than or equal to 1"),
        ),
        (
            node(),
            spec(json!({"ssh": {"hostKeys": ["host.example.com ssh-ed25519 AAAA"]}})),
            is(
                r"spec.ssh.hostKeys: Invalid value: write each key as a line of its .pub file: `ssh-ed25519 AAAA…` or `ecdsa-sha2-nistp256 AAAA…`",
            ),
        ),
        (
            node(),
            spec(json!({"ssh": {"hostKeys": ["ssh-ed25519 AAAA"], "trustOnFirstUse": true}})),
            is(r"spec.ssh: Invalid value: give `hostKeys` or set `trustOnFirstUse`, not both"),
        ),
        (node(), spec(json!({"zoneRef": null})), is("spec.zoneRef: Required value")),
        (
            node(),
            spec(json!({"hostName": "web"})),
            is(
                r#"Error from server (BadRequest): error when creating "STDIN": Node in version "v1alpha1" cannot be handled as a Node: strict decoding error: unknown field "spec.hostName""#,
            ),
        ),
        // Environment
        (
            environment(),
            json!({"metadata": {"name": long(49)}}),
            is(
                "<nil>: Invalid value: metadata.name may have at most 48 characters, because the VM's name is made of it",
            ),
        ),
        (environment(), json!({"metadata": {"name": "review.42"}}), vec![label]),
        (
            environment(),
            json!({"metadata": {"name": "rs--x"}}),
            is("<nil>: Invalid value: names starting with `rs--` are reserved: choose another"),
        ),
        (
            environment(),
            spec(json!({"slug": "brave.tiger"})),
            is(
                r#"spec.slug: Invalid value: "brave.tiger": a slug is one DNS label: a-z, 0-9 and `-`, not starting or ending with `-`"#,
            ),
        ),
        (environment(), spec(json!({"slug": long(41)})), is("spec.slug: Too long: may not be more than 40 bytes")),
        (
            environment(),
            spec(json!({"slug": "rs--any"})),
            is(r#"spec.slug: Invalid value: "rs--any": slugs starting with `rs--` are reserved: choose another"#),
        ),
        (
            environment(),
            spec(json!({"lifetime": "72h", "expiresAt": "2030-01-01T00:00:00Z"})),
            is("spec: Invalid value: set `lifetime` or `expiresAt`, not both"),
        ),
        (environment(), spec(json!({"lifetime": "3 days"})), vec![duration("spec.lifetime", "3 days")]),
        (environment(), spec(json!({"lifetime": "0h"})), vec![duration("spec.lifetime", "0h")]),
        (environment(), spec(json!({"lifetime": "9999999h"})), vec![duration("spec.lifetime", "9999999h")]),
        (
            environment(),
            spec(json!({"expiresAt": "tomorrow"})),
            is(
                r#"spec.expiresAt: Invalid value: "tomorrow": spec.expiresAt in body must be of type date-time: "tomorrow""#,
            ),
        ),
        (
            environment(),
            spec(json!({"expiresAt": "9999-12-31T00:00:00Z"})),
            is(
                r#"spec.expiresAt: Invalid value: "9999-12-31T00:00:00Z": no time later than 9999-12-29 is known: leave it out for no end"#,
            ),
        ),
        (
            environment(),
            spec(json!({"expiresAt": "2030-01-01T00:00:00.0000000001Z"})),
            is(
                r#"spec.expiresAt: Invalid value: "2030-01-01T00:00:00.0000000001Z": spec.expiresAt in body should match '^[^.,]*([.][0-9]{1,9}([^0-9.,].*)?)?$'"#,
            ),
        ),
        (
            environment(),
            spec(json!({"onExpiry": "Remove"})),
            is(r#"spec.onExpiry: Unsupported value: "Remove": supported values: "Keep", "Delete""#),
        ),
        (environment(), spec(json!({"owner": long(129)})), is("spec.owner: Too long: may not be more than 128 bytes")),
        (
            environment(),
            spec(json!({"node": {"userData": "é".repeat(8193)}})),
            is("spec.node: Invalid value: userData may have at most 16384 bytes (16 KiB): let it fetch the rest"),
        ),
        // HostnameClaim
        (
            claim(),
            json!({"metadata": {"name": "*.example.com"}}),
            is(
                r#"metadata.name: Invalid value: "*.example.com": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"#,
            ),
        ),
    ];
    let mut wrong = Vec::new();
    for (base, patch, expected) in
        table.into_iter().chain(super::group_refusals::rows()).chain(super::app_refusals::rows())
    {
        let sample = with(base, &patch);
        match kubectl.feed(&["apply", "--dry-run=server", "-f", "-"], &sample.to_string()) {
            Ok(text) => wrong.push(format!("admitted: {patch}: {text}")),
            Err(text) if causes(&text) != expected => {
                wrong.push(format!("{patch}\n  expected {expected:#?}\n  got      {:#?}", causes(&text)));
            }
            Err(_) => {}
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

pub fn valid_samples_are_admitted(kubectl: &Kubectl) {
    let samples = [
        (
            zone(),
            spec(json!({"allowedNamespaces": {"from": "Selector", "selector": {"matchLabels": {"team": "shop"}}}})),
        ),
        (zone(), spec(json!({"domain": "xn--bcher-kva.example", "ttl": 86400, "allowApex": true}))),
        (
            zone(),
            spec(
                json!({"propagation": {"resolvers": ["1.1.1.1", "127.0.0.1:5353", "2606:4700:4700::1111", "[::1]:53"], "timeout": "2m30s"}}),
            ),
        ),
        (
            droplets(),
            spec(json!({"digitalocean": {"tags": ["team:shop"], "vpcUUID": "5a4981aa-9653-4bd1-bef5-d6bff52042e4"}})),
        ),
        (
            droplets(),
            spec(
                json!({"sshAuthorizedKeys": ["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAA you@example.com", "ecdsa-sha2-nistp256 AAAAE2Vj", "sk-ssh-ed25519@openssh.com AAAAGnNr"]}),
            ),
        ),
        (hosts(), spec(json!({"static": {"allowedCIDRs": ["2001:db8::/32", "203.0.113.7/32"]}}))),
        (hosts(), spec(json!({"allowHostAccess": true}))),
        (node(), json!({"metadata": {"name": "a".repeat(48)}})),
        (node(), json!({"metadata": {"name": format!("{}-vm", "a".repeat(48))}})),
        (node(), spec(json!({"hostname": "@"}))),
        (node(), spec(json!({"hostname": "api.eu-1", "proxied": true, "ttl": 60}))),
        (node(), spec(json!({"address": "2001:db8::7"}))),
        (node(), spec(json!({"userData": "é".repeat(8192)}))),
        (environment(), json!({"metadata": {"name": "a".repeat(48)}})),
        (environment(), spec(json!({"slug": "a".repeat(40), "expiresAt": "2030-01-01T00:00:00+02:00"}))),
        (environment(), spec(json!({"lifetime": "1h30m", "onExpiry": "Delete", "owner": "Anna Müller"}))),
        (environment(), spec(json!({"expiresAt": "9999-12-29T23:59:59.999999999-00:00"}))),
        (environment(), spec(json!({"expiresAt": "0001-01-01T00:00:00Z"}))),
        (group(), json!({"metadata": {"name": "a".repeat(48)}, "spec": {"slug": "a".repeat(63)}})),
        (
            group(),
            spec(json!({"members": [{"address": "2001:db8::7", "port": 65535}, {"address": "xn--bcher-kva.example"}]})),
        ),
        (group(), spec(json!({"nodeSelector": {}, "reporting": {"enabled": true, "users": ["u1"]}}))),
        (group(), spec(json!({"probe": {"type": "TCP", "port": 5432, "interval": "1s", "timeout": "1s"}}))),
        (group(), spec(json!({"probe": {"expectedStatus": "204", "tls": {"serverName": "a.example.com"}}}))),
        (group(), spec(json!({"dns": {"txt": false, "a": {"hostname": "@"}, "ttl": 86400}}))),
        (claim(), spec(json!({"holders": {"dns": {"kind": "Node", "name": "web-1", "uid": "0c5d1f3a"}}}))),
        (claim(), json!({"metadata": {"name": "rs--zone.example.com"}, "spec": {"namespace": ""}})),
    ];
    for (base, patch) in samples.into_iter().chain(super::app_refusals::valid()) {
        let sample = with(base, &patch);
        let verdict = kubectl.feed(&["apply", "--dry-run=server", "-f", "-"], &sample.to_string());
        assert!(verdict.is_ok(), "{patch}: {verdict:?}");
        // What is admitted can be read.
        if sample["kind"] == "Environment" {
            serde_json::from_value::<roadstead::api::environment::Environment>(sample).unwrap();
        } else if sample["kind"] == "AppDeployment" {
            serde_json::from_value::<roadstead::api::app_deployment::AppDeployment>(sample).unwrap();
        }
    }
}

pub fn what_cannot_change_is_refused_when_changed_added_and_removed(kubectl: &Kubectl) {
    let said = |path: &str, text: &str| vec![format!("{path}: Invalid value: {text}")];
    let optional = |kind: &str, article: &str, field: &str, path: &str| {
        said(path, &format!("{article} {kind}'s {field} cannot be added, changed or removed: create another {kind}"))
    };
    let hostname = || optional("Node", "a", "hostname", "spec");
    let region = || optional("Node", "a", "region", "spec");
    let slug = || optional("Environment", "an", "slug", "spec");
    let name = || optional("ServerGroup", "a", "slug", "spec");
    let place = || optional("Environment", "an", "region", "spec.node");
    let provider =
        || said("spec", "a Provider cannot change between `digitalocean` and `static`: create another Provider");
    let table: Vec<(Value, Value, Value, Vec<String>)> = vec![
        (
            zone(),
            json!({}),
            json!({"domain": "example.org"}),
            said(
                "spec.domain",
                "\"example.org\": a Zone's domain cannot change: create another Zone and move the objects",
            ),
        ),
        (droplets(), json!({}), json!({"digitalocean": null, "static": {"allowedCIDRs": ["10.0.0.0/8"]}}), provider()),
        (
            node(),
            json!({}),
            json!({"providerRef": {"name": "other"}}),
            said("spec.providerRef", "a Node's providerRef cannot change: create another Node"),
        ),
        (
            node(),
            json!({}),
            json!({"zoneRef": {"name": "other"}}),
            said("spec.zoneRef", "a Node's zoneRef cannot change: create another Node"),
        ),
        (node(), json!({"hostname": "a"}), json!({"hostname": "b"}), hostname()),
        (node(), json!({}), json!({"hostname": "b"}), hostname()),
        (node(), json!({"hostname": "a"}), json!({"hostname": null}), hostname()),
        (node(), json!({"region": "fra1"}), json!({"region": "ams3"}), region()),
        (node(), json!({}), json!({"region": "ams3"}), region()),
        (node(), json!({"region": "fra1"}), json!({"region": null}), region()),
        (group(), json!({"slug": "a"}), json!({"slug": "b"}), name()),
        (group(), json!({}), json!({"slug": "b"}), name()),
        (group(), json!({"slug": "a"}), json!({"slug": null}), name()),
        (
            group(),
            json!({}),
            json!({"zoneRef": {"name": "other"}}),
            said("spec.zoneRef", "a ServerGroup's zoneRef cannot change: create another ServerGroup"),
        ),
        (environment(), json!({"slug": "a"}), json!({"slug": "b"}), slug()),
        (environment(), json!({}), json!({"slug": "b"}), slug()),
        (environment(), json!({"slug": "a"}), json!({"slug": null}), slug()),
        (environment(), json!({"node": {"region": "fra1"}}), json!({"node": {"region": "ams3"}}), place()),
        (environment(), json!({}), json!({"node": {"region": "ams3"}}), place()),
        (environment(), json!({"node": {"region": "fra1"}}), json!({"node": {"region": null}}), place()),
        (
            environment(),
            json!({}),
            json!({"node": {"providerRef": {"name": "other"}}}),
            said("spec.node.providerRef", "an Environment's providerRef cannot change: create another Environment"),
        ),
        (
            environment(),
            json!({}),
            json!({"node": {"zoneRef": {"name": "other"}}}),
            said("spec.node.zoneRef", "an Environment's zoneRef cannot change: create another Environment"),
        ),
    ];
    for (i, (base, before, change, expected)) in table.into_iter().enumerate() {
        let stored = with(with(base, &spec(before)), &json!({"metadata": {"name": format!("immutable-{i}")}}));
        kubectl.feed(&["create", "-f", "-"], &stored.to_string()).unwrap();
        // A field that is missing in the changed manifest must go, as it does in a person's: replace, not merge.
        let changed = with(stored.clone(), &spec(change.clone()));
        let verdict = kubectl.feed(&["replace", "--dry-run=server", "-f", "-"], &changed.to_string());
        assert_eq!(causes(&verdict.expect_err(&change.to_string())), expected, "{change}");
        // What may change does, beside what may not.
        let untouched = with(stored.clone(), &json!({"metadata": {"labels": {"a": "b"}}}));
        kubectl.feed(&["replace", "-f", "-"], &untouched.to_string()).unwrap();
        kubectl.feed(&["delete", "--wait=false", "-f", "-"], &stored.to_string()).unwrap();
    }
}
