//! The table's Nodes and Environments.

use crate::rows::{ENVIRONMENTS, NODES, Row};

fn node(name: &'static str, spec: &str, columns: &str, reason: &'static str, message: &str) -> Row {
    // Most are in the Zone of all tests.
    let zone = if spec.contains("zoneRef") { "" } else { "zoneRef: {name: example-com}, " };
    let (spec, columns, message) = (format!("{zone}{spec}"), columns.to_owned(), message.to_owned());
    Row { kind: NODES, name, spec, columns, reason, rest: "", message }
}

/// A Node that names an existing host.
fn rack(name: &'static str, spec: &str, columns: &str, reason: &'static str, message: &str) -> Row {
    node(name, &format!("providerRef: {{name: racks}}, {spec}"), columns, reason, message)
}

/// A Node that wants a VM.
fn vm(name: &'static str, spec: &str, columns: &str, reason: &'static str, message: &str) -> Row {
    node(name, &format!("providerRef: {{name: do}}{spec}"), columns, reason, message)
}

/// Zones, Providers and namespaces that are not there or not to be used.
pub fn references() -> Vec<Row> {
    let keyless = "Secret roadstead-system/absent does not exist: create it with the label";
    vec![
        rack(
            "no-zone",
            "zoneRef: {name: nowhere}, address: 203.0.113.11",
            "203.0.113.11 Provisioning",
            "ZoneNotFound",
            "spec.zoneRef: there is no Zone nowhere: create it, and this goes on by itself",
        ),
        node(
            "no-provider",
            "providerRef: {name: nowhere}, address: 203.0.113.12",
            "no-provider.example.com 203.0.113.12 Provisioning",
            "ProviderNotFound",
            "spec.providerRef: there is no Provider nowhere: create it, and this goes on by itself",
        ),
        rack(
            "barred-zone",
            "zoneRef: {name: closed}, address: 203.0.113.13",
            "barred-zone.closed.example.net 203.0.113.13 Error",
            "NamespaceNotAllowed",
            "namespace shop may not use Zone closed: have its spec.allowedNamespaces include the namespace, or create the object with another Zone",
        ),
        node(
            "barred-provider",
            "providerRef: {name: closed}, address: 203.0.113.14",
            "barred-provider.example.com 203.0.113.14 Error",
            "NamespaceNotAllowed",
            "namespace shop may not use Provider closed: have its spec.allowedNamespaces include the namespace, or create the object with another Provider",
        ),
        rack(
            "keyless-zone",
            "zoneRef: {name: keyless}, address: 203.0.113.15",
            "keyless-zone.keyless.example.net 203.0.113.15 Provisioning",
            "ZoneNotReady",
            &format!("Zone keyless is not ready: {keyless} roadstead.dev/credential=cloudflare and the key `token`"),
        ),
        rack(
            "reserved-zone",
            "zoneRef: {name: reserved}, address: 203.0.113.16",
            "203.0.113.16 Provisioning",
            "ZoneNotReady",
            "Zone reserved has no valid domain: look at its own condition",
        ),
        node(
            "keyless-provider",
            "providerRef: {name: keyless}",
            "keyless-provider.example.com Provisioning",
            "ProviderNotReady",
            &format!(
                "Provider keyless is not ready: {keyless} roadstead.dev/credential=digitalocean and the key `token`"
            ),
        ),
        node(
            "mistyped-provider",
            "providerRef: {name: mistyped}, address: 203.0.113.17",
            "mistyped-provider.example.com 203.0.113.17 Provisioning",
            "ProviderNotReady",
            "Provider mistyped is not ready: spec.static.allowedCIDRs[1] `203.0.114.7/24` is not a network: write an address and a prefix length with no bits set after it, such as 203.0.113.0/24",
        ),
        node(
            "address-of-a-vm",
            "providerRef: {name: do}, address: 203.0.113.18",
            "address-of-a-vm.example.com 203.0.113.18 Error",
            "AddressNotAllowed",
            "spec.address: only with a static Provider, and do makes VMs: remove the address or name another Provider",
        ),
        rack(
            "no-address",
            "healthPath: /",
            "no-address.example.com Error",
            "AddressRequired",
            "spec.address: missing, and Provider racks has existing hosts only: name the IP address of one, or use a Provider that makes VMs",
        ),
        rack(
            "outside",
            "address: 198.51.100.1",
            "outside.example.com 198.51.100.1 Error",
            "AddressNotAllowed",
            "Provider racks: spec.address `198.51.100.1` is in none of the Provider's spec.static.allowedCIDRs (203.0.113.0/24): use an address from these, or have its network added to the Provider",
        ),
    ]
}

/// Names and addresses that are none, or another's.
pub fn names() -> Vec<Row> {
    let long = format!("{}.{}.{}", "b".repeat(62), "c".repeat(63), "d".repeat(63));
    let foreign = |name: &'static str, number: u8, columns: &str, record: &str| {
        rack(
            name,
            &format!("address: 203.0.113.{number}"),
            columns,
            "ForeignRecord",
            &format!(
                "{name}.example.com already has the {record} (id <id>), which Roadstead did not make: delete it or choose another name"
            ),
        )
    };
    vec![
        rack(
            "long-name",
            &format!("zoneRef: {{name: long}}, address: 203.0.113.31, hostname: {long}"),
            "203.0.113.31 Error",
            "InvalidHostname",
            &format!(
                "spec.hostname: `{long}` does not make a DNS name under {}.example.net: use labels of at most 63 of a-z, 0-9 and `-` that do not start with `rs--`, 253 characters in all",
                "a".repeat(60)
            ),
        ),
        rack(
            "apex",
            "address: 203.0.113.32, hostname: '@'",
            "example.com 203.0.113.32 Error",
            "ApexNotAllowed",
            "spec.hostname: `@` is example.com itself, which Zone example-com does not allow: set its spec.allowApex, or name a host",
        ),
        rack(
            "same-address",
            "address: 203.0.113.80",
            "same-address.example.com 203.0.113.80 Error",
            "AddressTaken",
            "spec.address: 203.0.113.80 is held by Node blog/www: choose another, or delete that one; `kubectl get hostnameclaim rs--ip.203.0.113.80` shows the claim",
        ),
        rack(
            "same-hostname",
            "address: 203.0.113.33, hostname: www",
            "www.example.com 203.0.113.33 Error",
            "HostnameTaken",
            "spec.hostname: www.example.com is held by Node blog/www: choose another, or delete that one; `kubectl get hostnameclaim www.example.com` shows the claim",
        ),
        rack(
            "www",
            "address: 203.0.113.34",
            "www.example.com 203.0.113.34 Error",
            "HostnameTaken",
            "metadata.name: www.example.com is held by Node blog/www: choose another, or delete that one; `kubectl get hostnameclaim www.example.com` shows the claim",
        ),
        rack(
            "too-early",
            "address: 203.0.113.35, hostname: old",
            "old.example.com 203.0.113.35 Provisioning",
            "HostnameReserved",
            "old.example.com was released by namespace blog and stays reserved until its record has left every cache: this goes on by itself then",
        ),
        foreign("foreign-a", 36, "foreign-a.example.com 203.0.113.36 Error", "A record `198.51.100.9`"),
        foreign("foreign-aaaa", 37, "foreign-aaaa.example.com 203.0.113.37 Error", "AAAA record `2001:db8::9`"),
        // Met before a VM is bought.
        vm(
            "foreign-cname",
            "",
            "foreign-cname.example.com Error",
            "ForeignRecord",
            "foreign-cname.example.com already has the CNAME record `elsewhere.example.net` (id <id>), which Roadstead did not make: delete it or choose another name",
        ),
        rack(
            "restored",
            "address: 203.0.113.21",
            "restored.example.com 203.0.113.21 Error",
            "AdoptionRequired",
            "restored.example.com has the record `203.0.113.21` (id <id>) of an earlier object of this name (cluster test1): annotate this one with `roadstead.dev/adopt: <owner>` to take it over",
        ),
        vm(
            "restored-vm",
            "",
            "restored-vm.example.com Error",
            "AdoptionRequired",
            "VM <vm> (restored-vm-1) was made for an earlier object of this name: take it over with the annotation roadstead.dev/adopt=<owner>, or remove it at the provider",
        ),
        rack(
            "no-room",
            "zoneRef: {name: full}, address: 203.0.113.38",
            "no-room.full.example.net 203.0.113.38 Error",
            "QuotaExceeded",
            "Zone full: the zone holds 1 of the 1 records its Cloudflare plan allows: delete records or raise the plan",
        ),
        rack(
            "not-this-one",
            "zoneRef: {name: refusing}, address: 203.0.113.39",
            "not-this-one.refusing.example.net 203.0.113.39 Error",
            "RecordRefused",
            "the record not-this-one.refusing.example.net was refused (9999): 9999 Not this one.: correct what it names; it is tried again by itself",
        ),
    ]
}

/// VMs that nobody makes.
pub fn machines() -> Vec<Row> {
    let sizes = "c-2, s-1vcpu-1gb, s-1vcpu-2gb, s-1vcpu-512mb-10gb, s-2vcpu-2gb, s-2vcpu-4gb, s-4vcpu-8gb";
    vec![
        vm(
            "no-region",
            ", region: moon1",
            "no-region.example.com Error",
            "UnknownRegion",
            "spec.region: region `moon1` does not exist at DigitalOcean: choose one of ams3, blr1, fra1, lon1, nyc1, nyc3, sfo3, sgp1 or 2 more",
        ),
        vm(
            "no-size",
            ", size: s-gigantic",
            "no-size.example.com Error",
            "UnknownSize",
            &format!("spec.size: size `s-gigantic` does not exist at DigitalOcean: choose one of {sizes}"),
        ),
        vm(
            "no-image",
            ", image: temple-os",
            "no-image.example.com Error",
            "UnknownImage",
            "spec.image: image `temple-os` does not exist at DigitalOcean: choose one of debian-12-x64, debian-13-x64, rockylinux-9-x64, ubuntu-22-04-x64, ubuntu-24-04-x64",
        ),
        node(
            "no-default-size",
            "providerRef: {name: odd-size}",
            "no-default-size.example.com Error",
            "UnknownSize",
            &format!(
                "spec.digitalocean.size of Provider odd-size: size `s-gigantic` does not exist at DigitalOcean: choose one of {sizes}"
            ),
        ),
        vm(
            "not-here",
            ", size: gpu-1",
            "not-here.example.com Error",
            "NotOffered",
            &format!("size `gpu-1` is not offered in region `fra1` at present: wait, or choose one of {sizes}"),
        ),
        node(
            "one-too-many",
            "providerRef: {name: full-account}",
            "one-too-many.example.com Provisioning",
            "DropletLimit",
            "the DigitalOcean account has as many droplets as it may have: delete some, or ask DigitalOcean to raise the limit; a VM is ordered as soon as the account may have one more",
        ),
        node(
            "odd-network",
            "providerRef: {name: odd-vpc}",
            "odd-network.example.com Error",
            "CreateRefused",
            "the VM is refused (DigitalOcean: You specified invalid VPC parameters for Droplet creation): correct this spec or that of Provider odd-vpc; it is tried again by itself",
        ),
        vm(
            "odd-data",
            ", userData: echo hello",
            "odd-data.example.com Error",
            "InvalidUserData",
            "spec.userData begins with `echo hello`, by which cloud-init cannot tell what it is: begin it with `#cloud-config`, or with `#!` and an interpreter",
        ),
        node(
            "odd-key",
            "providerRef: {name: odd-key}",
            "odd-key.example.com Error",
            "InvalidUserData",
            "Provider odd-key: spec.sshAuthorizedKeys[0] `ssh-ed25519 AAAAB` is not a public key: write one line as in a .pub file, such as `ssh-ed25519 AAAA… name`",
        ),
        // Its size is changed once it is Ready.
        vm(
            "resized",
            "",
            "resized.example.com <address> Error",
            "ReplacementRequired",
            "the spec asks for size s-2vcpu-2gb instead of s-1vcpu-1gb, which needs a new VM: order it with the annotation roadstead.dev/replace=<any new value>, or change the spec back",
        ),
    ]
}

/// Environments: their own refusals, and how they show those of their Node.
pub fn environments() -> Vec<Row> {
    let environment = |name, slug: &str, node: &str, columns: &str, reason, message: &str| {
        let zone = if node.contains("zoneRef") { "" } else { "zoneRef: {name: example-com}, " };
        let provider = if node.contains("providerRef") { "" } else { "providerRef: {name: do}, " };
        Row {
            kind: ENVIRONMENTS,
            name,
            spec: format!("slug: {slug}, node: {{{zone}{provider}{node}}}"),
            columns: columns.to_owned(),
            reason,
            rest: "",
            message: message.to_owned(),
        }
    };
    vec![
        environment(
            "occupied",
            "occupied",
            "",
            "Error",
            "NodeNameTaken",
            "the Node occupied-vm exists and is not this Environment's: delete it (`kubectl delete rnode occupied-vm`), or create the Environment under another name",
        ),
        environment(
            "policed",
            "policed",
            "",
            "https://policed.example.com Error",
            "NodeRefused",
            "the API server refuses the Node policed-vm (nodes.roadstead.dev \"policed-vm\" is forbidden: ValidatingAdmissionPolicy 'names' with binding 'names' denied request: this team names nothing policed): correct spec.node, or the policy that refuses it; it is tried again by itself",
        ),
        environment(
            "same-slug",
            "www",
            "",
            "Error",
            "HostnameTaken",
            "spec.slug: `www` is taken: www.example.com is held by Node blog/www; create the Environment with another slug, or without one",
        ),
        environment(
            "too-early",
            "old",
            "",
            "Provisioning",
            "HostnameReserved",
            "old.example.com was released by namespace blog and stays reserved until its record has left every cache: this goes on by itself then",
        ),
        environment(
            "no-zone",
            "calm-otter",
            "zoneRef: {name: nowhere}",
            "Provisioning",
            "ZoneNotFound",
            "spec.zoneRef: there is no Zone nowhere: create it, and this goes on by itself",
        ),
        environment(
            "existing-hosts",
            "brave-tiger",
            "providerRef: {name: racks}",
            "https://brave-tiger.example.com Error",
            "AddressRequired",
            "spec.address: missing, and Provider racks has existing hosts only: name the IP address of one, or use a Provider that makes VMs",
        ),
        environment(
            "no-size",
            "no-such-size",
            "size: s-gigantic",
            "https://no-such-size.example.com Error",
            "UnknownSize",
            "spec.size: size `s-gigantic` does not exist at DigitalOcean: choose one of c-2, s-1vcpu-1gb, s-1vcpu-2gb, s-1vcpu-512mb-10gb, s-2vcpu-2gb, s-2vcpu-4gb, s-4vcpu-8gb",
        ),
        environment(
            "foreign",
            "foreign-slug",
            "",
            "https://foreign-slug.example.com Error",
            "ForeignRecord",
            "foreign-slug.example.com already has the A record `198.51.100.10` (id <id>), which Roadstead did not make: delete it or choose another name",
        ),
    ]
}
