//! What the API server refuses of a ServerGroup, and the exact words a person reads.

use serde_json::{Value, json};

use super::samples::{group, spec};

/// A sample, what is changed in it, and what kubectl prints, one entry a cause.
#[expect(clippy::too_many_lines, reason = "a table")]
pub fn rows() -> Vec<(Value, Value, Vec<String>)> {
    let long = |n: usize| "a".repeat(n);
    let duration = |field: &str, value: &str| {
        format!(
            "{field}: Invalid value: \"{value}\": write a duration above zero in hours, minutes and seconds, e.g. `72h`, `1h30m` or `90s`"
        )
    };
    let address = |value: &str| {
        vec![format!(
            "spec.members[0].address: Invalid value: \"{value}\": write an IP address, e.g. `203.0.113.7`, or a hostname in lower case, e.g. `origin-7.example.net`, without a port: that is the field `port`"
        )]
    };
    let expected = |value: &str| {
        vec![format!(
            "spec.probe.expectedStatus: Invalid value: \"{value}\": write a status like `204`, or a range from the lower to the higher like `200-399`"
        )]
    };
    let is = |text: &str| vec![text.to_owned()];
    vec![
        (
            group(),
            json!({"metadata": {"name": long(49)}}),
            is("<nil>: Invalid value: metadata.name may have at most 48 characters, because the slug is made of it"),
        ),
        (
            group(),
            spec(json!({"slug": "my.slug"})),
            is(
                r#"spec.slug: Invalid value: "my.slug": a slug is one DNS label: a-z, 0-9 and `-`, not starting or ending with `-`"#,
            ),
        ),
        (
            group(),
            spec(json!({"slug": "rs--slug"})),
            is(r#"spec.slug: Invalid value: "rs--slug": slugs starting with `rs--` are reserved: choose another"#),
        ),
        (
            group(),
            spec(json!({"strategy": "LeastConnections"})),
            is(
                r#"spec.strategy: Unsupported value: "LeastConnections": supported values: "RoundRobin", "Random", "Failover""#,
            ),
        ),
        (group(), spec(json!({"members": [{"address": "10.0.0.1,10.0.0.2"}]})), address("10.0.0.1,10.0.0.2")),
        (group(), spec(json!({"members": [{"address": "a b"}]})), address("a b")),
        (group(), spec(json!({"members": [{"address": "\"a\""}]})), address(r#"\"a\""#)),
        (group(), spec(json!({"members": [{"address": "1.2.3.999"}]})), address("1.2.3.999")),
        (group(), spec(json!({"members": [{"address": "0.0.0.0"}]})), address("0.0.0.0")),
        (group(), spec(json!({"members": [{"address": "255.255.255.255"}]})), address("255.255.255.255")),
        (group(), spec(json!({"members": [{"address": "ff02::1"}]})), address("ff02::1")),
        (group(), spec(json!({"members": [{"address": "a.example.net:80"}]})), address("a.example.net:80")),
        (group(), spec(json!({"members": [{"address": "A.example.net"}]})), address("A.example.net")),
        (group(), spec(json!({"members": [{"address": "no-healthy-servers"}]})), address("no-healthy-servers")),
        (
            group(),
            spec(json!({"members": [{"address": "a.example.net", "port": 0}]})),
            is(
                "spec.members[0].port: Invalid value: 0: spec.members[0].port in body should be greater than or equal to 1",
            ),
        ),
        (
            group(),
            spec(json!({"members": vec![json!({"address": "a"}); 501]})),
            is("spec.members: Too many: 501: must have at most 500 items"),
        ),
        (
            group(),
            spec(json!({"nodeSelector": {}, "appRef": {"name": "shop"}})),
            is(
                "spec: Invalid value: set nodeSelector or appRef, not both: each says which Nodes belong to the group, and how they are probed",
            ),
        ),
        (
            group(),
            spec(json!({"reporting": {"heartbeatTTL": "2h", "forgetAfter": "1h"}})),
            is(
                "spec.reporting: Invalid value: forgetAfter may not be shorter than heartbeatTTL: a server is called unhealthy before it is forgotten",
            ),
        ),
        (
            group(),
            spec(json!({"probe": {"interval": "1s", "timeout": "2s"}})),
            is(
                "spec.probe: Invalid value: timeout may not be longer than interval: one probe ends before the next begins",
            ),
        ),
        (group(), spec(json!({"probe": {"interval": "often"}})), vec![duration("spec.probe.interval", "often")]),
        (
            group(),
            spec(json!({"probe": {"path": "healthz"}})),
            is(
                r#"spec.probe.path: Invalid value: "healthz": a path starts with `/` and has no blanks; write others percent-encoded"#,
            ),
        ),
        (group(), spec(json!({"probe": {"expectedStatus": "2xx"}})), expected("2xx")),
        (group(), spec(json!({"probe": {"expectedStatus": "399-200"}})), expected("399-200")),
        (
            group(),
            spec(json!({"probe": {"type": "ICMP"}})),
            is(r#"spec.probe.type: Unsupported value: "ICMP": supported values: "HTTP", "TCP", "None""#),
        ),
        (
            group(),
            spec(json!({"probe": {"host": "a/b"}})),
            is(r#"spec.probe.host: Invalid value: "a/b": write a hostname in lower case, e.g. `shop.example.com`"#),
        ),
        (
            group(),
            spec(json!({"dns": {"a": {"hostname": "*.www"}}})),
            is(
                r#"spec.dns.a.hostname: Invalid value: "*.www": write what stands before the zone's domain: DNS labels of a-z, 0-9 and `-` joined by dots, without a dot at the end, or `@` for the domain itself"#,
            ),
        ),
        (
            group(),
            spec(json!({"dns": {"ttl": 30}})),
            is("spec.dns.ttl: Invalid value: 30: spec.dns.ttl in body should be greater than or equal to 60"),
        ),
        (
            group(),
            spec(json!({"slb": {"workerName": "Shop_LB"}})),
            is(
                r#"spec.slb.workerName: Invalid value: "Shop_LB": a Worker's name is made of a-z, 0-9 and `-`, not starting or ending with `-`"#,
            ),
        ),
        (
            group(),
            spec(json!({"slb": {"workerName": "lb", "route": "*.example.com/*"}})),
            is(
                r#"spec.slb.route: Invalid value: "*.example.com/*": write a host in full and a path, which may end in `*`, e.g. `shop.example.com/*`: no scheme, and no wildcard in the host"#,
            ),
        ),
        (
            group(),
            spec(json!({"slb": {"workerName": "lb", "route": "a.example.com/*", "customDomain": "a.example.com"}})),
            is("spec.slb: Invalid value: set route or customDomain, not both: one Worker answers at one place"),
        ),
        (
            group(),
            spec(json!({"slb": {"workerName": "lb", "mode": "OriginsOnly", "sticky": "Cookie"}})),
            is(
                "spec.slb: Invalid value: with mode OriginsOnly the Worker's own code decides where it answers and how it spreads: leave out route, customDomain, sticky and failStatuses",
            ),
        ),
        (
            group(),
            spec(json!({"slb": {"workerName": "lb", "originTimeout": "11m"}})),
            is(r#"spec.slb.originTimeout: Invalid value: "11m": write a duration from `1s` to `10m`, e.g. `8s`"#),
        ),
        (
            group(),
            spec(json!({"slb": {"workerName": "lb", "sticky": "Header"}})),
            is(r#"spec.slb.sticky: Unsupported value: "Header": supported values: "None", "Cookie", "ClientIP""#),
        ),
    ]
}
