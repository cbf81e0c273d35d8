//! Which addresses may be probed. Pure.
//!
//! Whoever may write a target could otherwise have the operator knock at places that only the operator can reach: the
//! cluster's own network, the loopback interface, a cloud's metadata service. Ranges: IANA's registries of
//! special-purpose addresses (RFC 6890 and its successors).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// Services that hand out credentials to whoever asks from the right machine. AWS, Azure, GCP, `DigitalOcean`,
/// Hetzner; AWS over IPv6; GCP over IPv6; Alibaba; Oracle; Azure's host.
const METADATA: [IpAddr; 6] = [
    IpAddr::V4(Ipv4Addr::new(169, 254, 169, 254)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0x0ec2, 0, 0, 0, 0, 0, 0x0254)),
    IpAddr::V6(Ipv6Addr::new(0xfd20, 0x00ce, 0, 0, 0, 0, 0, 0x0254)),
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)),
    IpAddr::V4(Ipv4Addr::new(192, 0, 0, 192)),
    IpAddr::V4(Ipv4Addr::new(168, 63, 129, 16)),
];

/// IPv4 that is not the public Internet.
const SPECIAL_V4: [(Ipv4Net, &str); 15] = [
    (v4(0, 0, 0, 0, 8), "an address of this host"),
    (v4(10, 0, 0, 0, 8), "a private address"),
    (v4(100, 64, 0, 0, 10), "an address behind a carrier's NAT"),
    (v4(127, 0, 0, 0, 8), "a loopback address"),
    (v4(169, 254, 0, 0, 16), "a link-local address"),
    (v4(172, 16, 0, 0, 12), "a private address"),
    (v4(192, 0, 0, 0, 24), "an address for protocols"),
    (v4(192, 0, 2, 0, 24), "an address for documentation"),
    (v4(192, 88, 99, 0, 24), "a 6to4 relay"),
    (v4(192, 168, 0, 0, 16), "a private address"),
    (v4(198, 18, 0, 0, 15), "an address for benchmarks"),
    (v4(198, 51, 100, 0, 24), "an address for documentation"),
    (v4(203, 0, 113, 0, 24), "an address for documentation"),
    (v4(224, 0, 0, 0, 4), "a multicast address"),
    (v4(240, 0, 0, 0, 4), "a reserved address"),
];

/// The part of IPv6 that is given out. Everything else is special or reserved.
const GLOBAL_V6: Ipv6Net = v6([0x2000, 0, 0, 0], 3);

/// IPv6 that is not the public Internet, the more telling first.
const SPECIAL_V6: [(Ipv6Net, &str); 10] = [
    (v6([0xfc00, 0, 0, 0], 7), "a private address"),
    (v6([0xfe80, 0, 0, 0], 10), "a link-local address"),
    (v6([0xfec0, 0, 0, 0], 10), "a site-local address"),
    (v6([0xff00, 0, 0, 0], 8), "a multicast address"),
    (v6([0x0100, 0, 0, 0], 64), "an address that discards"),
    (v6([0x0064, 0xff9b, 1, 0], 48), "an address of a local NAT64"),
    (v6([0x2001, 0, 0, 0], 23), "an address for protocols"),
    (v6([0x2001, 0x0db8, 0, 0], 32), "an address for documentation"),
    (v6([0x2002, 0, 0, 0], 16), "a 6to4 address"),
    (v6([0x3fff, 0, 0, 0], 20), "an address for documentation"),
];

/// Where NAT64 puts IPv4 addresses (RFC 6052 §2.1).
const NAT64: Ipv6Net = v6([0x0064, 0xff9b, 0, 0], 96);

const fn v4(a: u8, b: u8, c: u8, d: u8, prefix: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), prefix)
}

const fn v6([a, b, c, d]: [u16; 4], prefix: u8) -> Ipv6Net {
    Ipv6Net::new_assert(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0), prefix)
}

/// Whether `address` may be connected to, or what it is that forbids it.
///
/// What is not the public Internet needs an entry of `allowed` that contains it. A metadata service needs one that is
/// exactly its address: who allows all private networks hardly meant that. An IPv4 address in IPv6 clothes
/// (`::ffff:10.0.0.1`, `64:ff9b::a00:1`) is judged as what it is.
pub(super) fn check(address: IpAddr, allowed: &[IpNet]) -> Result<(), &'static str> {
    let address = meant(address);
    let Some(what) = special(address) else { return Ok(()) };
    let named = |net: &IpNet| {
        let exactly = net.prefix_len() == net.max_prefix_len();
        net.contains(&address) && (exactly || !METADATA.contains(&address))
    };
    if allowed.iter().any(named) { Ok(()) } else { Err(what) }
}

/// The IPv4 address that an IPv6 address leads to, if it does.
fn meant(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) if NAT64.contains(&v6) => {
            let [.., a, b, c, d] = v6.octets();
            IpAddr::V4(Ipv4Addr::new(a, b, c, d))
        }
        address => address,
    }
}

/// What an address is, unless it is an ordinary one of the public Internet.
fn special(address: IpAddr) -> Option<&'static str> {
    if METADATA.contains(&address) {
        return Some("a metadata service");
    }
    match address {
        IpAddr::V4(v4) => SPECIAL_V4.iter().find(|(net, _)| net.contains(&v4)).map(|(_, what)| *what),
        IpAddr::V6(Ipv6Addr::LOCALHOST) => Some("a loopback address"),
        IpAddr::V6(v6) => {
            let special = SPECIAL_V6.iter().find(|(net, _)| net.contains(&v6)).map(|(_, what)| *what);
            special.or_else(|| (!GLOBAL_V6.contains(&v6)).then_some("a reserved address"))
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn nets(nets: &[&str]) -> Vec<IpNet> {
        nets.iter().map(|net| net.parse().unwrap()).collect()
    }

    fn refused(address: &str, allowed: &[&str]) -> Option<&'static str> {
        check(address.parse().unwrap(), &nets(allowed)).err()
    }

    #[test]
    fn the_public_internet_may_be_probed() {
        for address in [
            "1.1.1.1",
            "9.255.255.255",
            "11.0.0.0",
            "100.63.255.255",
            "100.128.0.0",
            "126.255.255.255",
            "128.0.0.0",
            "169.253.255.255",
            "169.255.0.0",
            "172.15.255.255",
            "172.32.0.0",
            "192.0.1.0",
            "192.0.3.0",
            "192.167.255.255",
            "192.169.0.0",
            "198.17.255.255",
            "198.20.0.0",
            "223.255.255.255",
            "168.63.129.15",
            "::ffff:1.1.1.1",
            "64:ff9b::101:101",
            "2001:200::1",
            "2606:4700:4700::1111",
            "2a01:4f8::1",
            "2003::1",
            "3ffe:ffff::1",
            "3fff:1000::1",
        ] {
            assert_eq!(refused(address, &[]), None, "{address}");
        }
    }

    #[test]
    fn what_is_not_the_public_internet_is_refused_and_named() {
        for (what, addresses) in [
            ("an address of this host", &["0.0.0.0", "0.255.255.255", "::ffff:0.0.0.0"][..]),
            (
                "a private address",
                &[
                    "10.0.0.0",
                    "10.255.255.255",
                    "172.16.0.0",
                    "172.31.255.255",
                    "192.168.0.1",
                    "192.168.255.255",
                    "::ffff:10.0.0.1",
                    "::ffff:c0a8:1",
                    "64:ff9b::10.0.0.1",
                    "64:ff9b::ac10:1",
                    "fc00::",
                    "fd12:3456::1",
                    "fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
                ],
            ),
            ("an address behind a carrier's NAT", &["100.64.0.0", "100.127.255.255", "::ffff:100.64.0.1"]),
            (
                "a loopback address",
                &[
                    "127.0.0.1",
                    "127.255.255.255",
                    "::1",
                    "::ffff:127.0.0.1",
                    "0:0:0:0:0:ffff:7f00:1",
                    "64:ff9b::7f00:1",
                ],
            ),
            ("a link-local address", &["169.254.0.1", "169.254.255.255", "::ffff:169.254.1.1", "fe80::1", "febf::1"]),
            ("a site-local address", &["fec0::1", "feff::1"]),
            ("an address for protocols", &["192.0.0.1", "2001::1", "2001:10::1", "2001:1ff::1"]),
            (
                "an address for documentation",
                &["192.0.2.1", "198.51.100.1", "203.0.113.255", "2001:db8::1", "3fff::1", "3fff:fff::1"],
            ),
            ("a 6to4 relay", &["192.88.99.1"]),
            ("a 6to4 address", &["2002:a00:1::1", "2002:7f00:1::"]),
            ("an address for benchmarks", &["198.18.0.1", "198.19.255.255"]),
            ("a multicast address", &["224.0.0.1", "239.255.255.255", "ff02::1", "ff0e::1"]),
            (
                "a reserved address",
                &[
                    "240.0.0.1",
                    "255.255.255.255",
                    "::",
                    "::7f00:1",
                    "::2",
                    "4000::1",
                    "5f00::1",
                    "64:ff9b:2::1",
                    "101::1",
                ],
            ),
            ("an address that discards", &["100::1"]),
            ("an address of a local NAT64", &["64:ff9b:1::a00:1"]),
            (
                "a metadata service",
                &[
                    "169.254.169.254",
                    "::ffff:169.254.169.254",
                    "::ffff:a9fe:a9fe",
                    "64:ff9b::a9fe:a9fe",
                    "fd00:ec2::254",
                    "fd20:ce::254",
                    "100.100.100.200",
                    "192.0.0.192",
                    "168.63.129.16",
                ],
            ),
        ] {
            for address in addresses {
                assert_eq!(refused(address, &[]), Some(what), "{address}");
            }
        }
    }

    #[test]
    fn an_entry_allows_what_it_contains_however_that_is_written_and_nothing_else() {
        for (address, allowed) in [
            ("10.1.2.3", &["192.168.0.0/16", "10.0.0.0/8"][..]),
            ("::ffff:10.1.2.3", &["10.0.0.0/8"]),
            ("64:ff9b::10.1.2.3", &["10.0.0.0/8"]),
            ("127.0.0.1", &["127.0.0.1/32"]),
            ("::1", &["::1/128"]),
            ("fd12::1", &["fc00::/7"]),
        ] {
            assert_eq!(refused(address, allowed), None, "{address}");
        }
        for (address, allowed) in [
            ("10.1.2.3", "10.2.0.0/16"),
            ("127.0.0.2", "127.0.0.1/32"),
            ("::1", "127.0.0.0/8"),
            ("fd12::1", "10.0.0.0/8"),
        ] {
            assert!(refused(address, &[allowed]).is_some(), "{address}");
        }
    }

    #[test]
    fn a_metadata_service_is_allowed_by_its_very_address_alone() {
        let wide = ["0.0.0.0/0", "::/0", "169.254.0.0/16", "169.254.169.254/31", "fd00:ec2::/32", "100.64.0.0/10"];
        for address in METADATA {
            assert_eq!(refused(&address.to_string(), &wide), Some("a metadata service"), "{address}");
            assert_eq!(check(address, &[IpNet::from(address)]), Ok(()), "{address}");
        }
        assert_eq!(refused("::ffff:169.254.169.254", &wide), Some("a metadata service"));
    }

    proptest! {
        #[test]
        fn an_ipv4_address_is_judged_alike_in_every_spelling(bits in any::<u32>(), allow in any::<bool>()) {
            let plain = Ipv4Addr::from(bits);
            let allowed = if allow { nets(&["10.0.0.0/8", "127.0.0.0/8", "0.0.0.0/1"]) } else { Vec::new() };
            let [a, b] = [bits >> 16, bits & 0xffff].map(|half| u16::try_from(half).unwrap());
            let mapped = plain.to_ipv6_mapped();
            let nat64 = Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, a, b);
            let judged = check(plain.into(), &allowed);
            prop_assert_eq!(check(mapped.into(), &allowed), judged);
            prop_assert_eq!(check(nat64.into(), &allowed), judged);
        }

        #[test]
        fn what_the_standard_library_calls_special_is_refused(bits in any::<u32>(), six in any::<u128>()) {
            let four = Ipv4Addr::from(bits);
            let special = four.is_private() || four.is_loopback() || four.is_link_local() || four.is_multicast()
                || four.is_broadcast() || four.is_documentation() || four.is_unspecified();
            prop_assert!(!special || check(four.into(), &[]).is_err(), "{}", four);
            // Random addresses seldom have a rare prefix: try each range with random bits below.
            for (net, _) in SPECIAL_V6 {
                let host = six & u128::from(net.hostmask());
                let address = Ipv6Addr::from(u128::from(net.network()) | host);
                prop_assert!(check(address.into(), &[]).is_err(), "{}", address);
            }
            for (net, _) in SPECIAL_V4 {
                let address = Ipv4Addr::from(u32::from(net.network()) | (bits & u32::from(net.hostmask())));
                prop_assert!(check(address.into(), &[]).is_err(), "{}", address);
            }
        }

        #[test]
        fn allowing_more_never_refuses_more(bits in any::<u32>(), net in any::<u32>(), prefix in 0..=32u8) {
            let address = IpAddr::V4(bits.into());
            let allowed = IpNet::V4(Ipv4Net::new(net.into(), prefix).unwrap().trunc());
            let (strict, relaxed) = (check(address, &[]), check(address, &[allowed]));
            prop_assert!(strict.is_err() || relaxed.is_ok());
            prop_assert!(relaxed == strict || allowed.contains(&address));
        }
    }
}
