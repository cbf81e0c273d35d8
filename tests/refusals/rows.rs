//! The table: what is applied, and what is shown of it.

use crate::nodes;
use crate::world::{NODE, PROVIDER, ZONE};

/// A kind, as kubectl and as the API server know it.
#[derive(Debug, Clone, Copy)]
pub struct Kind {
    pub short: &'static str,
    pub full: &'static str,
    pub namespaced: bool,
}

const ZONES: Kind = Kind { short: "rzone", full: ZONE, namespaced: false };
const PROVIDERS: Kind = Kind { short: "rprovider", full: PROVIDER, namespaced: false };
pub const NODES: Kind = Kind { short: "rnode", full: NODE, namespaced: true };
pub const ENVIRONMENTS: Kind = Kind { short: "renv", full: "roadstead.dev/v1alpha1/Environment", namespaced: true };

pub const GROUPS: Kind = Kind { short: "rgroup", full: "roadstead.dev/v1alpha1/ServerGroup", namespaced: true };

pub const KINDS: [Kind; 5] = [ZONES, PROVIDERS, NODES, ENVIRONMENTS, GROUPS];

/// One object that cannot be what it should.
#[derive(Debug)]
pub struct Row {
    pub kind: Kind,
    pub name: &'static str,
    /// Its spec, in YAML's flow style.
    pub spec: String,
    /// What `kubectl get` shows between its name and `False`.
    pub columns: String,
    /// The reason it shows.
    pub reason: &'static str,
    /// What `kubectl get` shows between the reason and the age.
    pub rest: &'static str,
    /// The message of Ready.
    pub message: String,
}

impl Row {
    pub fn manifest(&self) -> String {
        let kind = self.kind.full.rsplit('/').next().unwrap_or_default();
        let namespace = if self.kind.namespaced { ", namespace: shop" } else { "" };
        format!(
            "{{apiVersion: roadstead.dev/v1alpha1, kind: {kind}, metadata: {{name: {}{namespace}}}, spec: {{{}}}}}",
            self.name, self.spec
        )
    }

    /// What `kubectl get` shows, but for the age, with single spaces.
    pub fn line(&self) -> String {
        let parts = [self.name, &self.columns, "False", self.reason, self.rest];
        parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" ")
    }
}

pub fn rows() -> Vec<Row> {
    [zones(), providers(), nodes::references(), nodes::names(), nodes::machines(), nodes::environments(), groups()]
        .into_iter()
        .flatten()
        .collect()
}

#[expect(clippy::too_many_lines, reason = "a table")]
fn zones() -> Vec<Row> {
    let zone = |name, domain: &str, secret: &str, reason, message: &str| Row {
        kind: ZONES,
        name,
        spec: format!(
            "domain: {domain}, cloudflare: {{tokenSecretRef: {{name: {secret}}}}}, allowedNamespaces: {{from: All}}"
        ),
        columns: domain.to_owned(),
        reason,
        rest: "",
        message: message.to_owned(),
    };
    // It leaves a Node less room than a hostname may take.
    let long = format!("{}.example.net", "a".repeat(60));
    vec![
        zone(
            "keyless",
            "keyless.example.net",
            "absent",
            "SecretMissing",
            "Secret roadstead-system/absent does not exist: create it with the label roadstead.dev/credential=cloudflare and the key `token`",
        ),
        zone(
            "unlabelled",
            "unlabelled.example.net",
            "unlabelled",
            "SecretUnlabelled",
            "Secret roadstead-system/unlabelled is not labelled for this use: kubectl -n roadstead-system label secret unlabelled roadstead.dev/credential=cloudflare --overwrite",
        ),
        zone(
            "other-key",
            "other-key.example.net",
            "other-key",
            "SecretKeyMissing",
            "Secret roadstead-system/other-key has no key `token`: put the token there, or name its key",
        ),
        zone(
            "empty",
            "empty.example.net",
            "empty",
            "SecretEmpty",
            "key `token` of Secret roadstead-system/empty is empty: put the token there",
        ),
        zone(
            "two-words",
            "two-words.example.net",
            "two-words",
            "SecretMalformed",
            "key `token` of Secret roadstead-system/two-words is not a token: it may hold only printable characters without spaces",
        ),
        zone(
            "wrong",
            "wrong.example.net",
            "wrong",
            "CredentialRefused",
            "Cloudflare does not accept the token (1000 Invalid API Token): put a valid one into its Secret",
        ),
        zone(
            "weak",
            "weak.example.net",
            "weak",
            "PermissionMissing",
            "the Cloudflare token may not GET /zones: it needs Zone > Zone > Read (10000 Authentication error)",
        ),
        zone(
            "unknown",
            "unknown.example.net",
            "cloudflare",
            "ZoneNotFound",
            "the token sees no zone unknown.example.net: add the domain to its Cloudflare account, or give the token Zone > Zone > Read for it",
        ),
        zone(
            "ambiguous",
            "ambiguous.example.net",
            "cloudflare",
            "ZoneAmbiguous",
            "the token sees ambiguous.example.net in more than one account: restrict it to one",
        ),
        Row {
            rest: "0",
            ..zone(
                "pending",
                "pending.example.net",
                "cloudflare",
                "ZoneNotActive",
                "Cloudflare calls pending.example.net `pending`: nobody sees its records until the registrar names ada.ns.example and bob.ns.example as its servers",
            )
        },
        zone(
            "second",
            "example.com",
            "cloudflare",
            "DomainTaken",
            "spec.domain example.com belongs to Zone example-com: one domain has one Zone, so use that one, or delete it",
        ),
        zone(
            "reserved",
            "rs--x.example.net",
            "cloudflare",
            "InvalidDomain",
            "spec.domain: `rs--x` starts with `rs--`, which is reserved: choose another label",
        ),
        Row {
            spec: "domain: port.example.net, cloudflare: {tokenSecretRef: {name: cloudflare}}, allowedNamespaces: {from: All}, propagation: {resolvers: ['1.1.1.1:99999']}".to_owned(),
            rest: "0",
            ..zone(
                "port",
                "port.example.net",
                "cloudflare",
                "InvalidPropagation",
                "spec.propagation.resolvers[0]: `1.1.1.1:99999` is not a server: write an IP address, or IP:port ([IPv6]:port)",
            )
        },
        // For Nodes to be refused in.
        Row {
            spec: "domain: closed.example.net, cloudflare: {tokenSecretRef: {name: absent}}, allowedNamespaces: {from: None}".to_owned(),
            ..zone(
                "closed",
                "closed.example.net",
                "absent",
                "SecretMissing",
                "Secret roadstead-system/absent does not exist: create it with the label roadstead.dev/credential=cloudflare and the key `token`",
            )
        },
        zone(
            "long",
            &long,
            "absent",
            "SecretMissing",
            "Secret roadstead-system/absent does not exist: create it with the label roadstead.dev/credential=cloudflare and the key `token`",
        ),
    ]
}

fn providers() -> Vec<Row> {
    let provider = |name, source: &str, reason, message: &str| Row {
        kind: PROVIDERS,
        name,
        spec: format!("{source}, allowedNamespaces: {{from: All}}"),
        columns: String::new(),
        reason,
        rest: "",
        message: message.to_owned(),
    };
    let vms = |secret: &str| {
        format!(
            "digitalocean: {{tokenSecretRef: {{name: {secret}}}, region: fra1, size: s-1vcpu-1gb, image: debian-12-x64}}"
        )
    };
    vec![
        provider(
            "keyless",
            &vms("absent"),
            "SecretMissing",
            "Secret roadstead-system/absent does not exist: create it with the label roadstead.dev/credential=digitalocean and the key `token`",
        ),
        provider(
            "wrong",
            &vms("wrong-vms"),
            "CredentialRefused",
            "DigitalOcean does not accept the token: it is wrong, expired or revoked; put a valid one into the Secret",
        ),
        provider(
            "narrow",
            &vms("narrow-vms"),
            "PermissionMissing",
            "DigitalOcean does not let this token GET /v2/account: it needs the scope account:read",
        ),
        provider(
            "mistyped",
            "static: {allowedCIDRs: [203.0.113.0/24, 203.0.114.7/24]}",
            "InvalidCIDR",
            "spec.static.allowedCIDRs[1] `203.0.114.7/24` is not a network: write an address and a prefix length with no bits set after it, such as 203.0.113.0/24",
        ),
    ]
}

/// Of groups the names and Workers are refused in tests of their own; here is one whose deletion waits for a person, and one
/// that waits for an app.
fn groups() -> Vec<Row> {
    let without_app = Row {
        kind: GROUPS,
        name: "without-app",
        spec: "zoneRef: {name: example-com}, slug: without-app, appRef: {name: shpo}".to_owned(),
        columns: "without-app RoundRobin 0/0".to_owned(),
        reason: "AppNotFound",
        rest: "",
        message: "spec.appRef: there is no AppDeployment shpo in namespace shop: create it, or correct the name. The group keeps the servers it had by its appRef until then".to_owned(),
    };
    let keyless_worker = Row {
        kind: GROUPS,
        name: "keyless-worker",
        spec: "zoneRef: {name: edge}, slug: keyless-worker, slb: {workerName: shop-lb}".to_owned(),
        columns: "keyless-worker RoundRobin 0/0".to_owned(),
        reason: "SecretMissing",
        rest: "",
        message: "Worker shop-lb cannot be taken away: Secret roadstead-system/absent does not exist: create it with the label roadstead.dev/credential=cloudflare and the key `token`; or give the Worker up with the annotation roadstead.dev/abandon=worker".to_owned(),
    };
    vec![without_app, keyless_worker]
}
