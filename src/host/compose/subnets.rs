//! Which subnets an app's networks get. Docker's own pools end near 30 networks on a host, so each is given one.

use std::collections::BTreeMap;

use ipnet::Ipv4Net;

use super::project::{Network, Project};

/// The keys of a project's networks that Compose makes and that the file gives no subnet.
#[must_use]
pub fn wanting(project: &Project) -> Vec<&str> {
    let wanting = |network: &Network| {
        let bridge = network.driver.as_deref().is_none_or(|driver| driver == "bridge");
        !network.external && bridge && network.ipam.config.iter().all(|config| config.subnet.is_none())
    };
    project.networks.iter().filter(|(_, network)| wanting(network)).map(|(key, _)| key.as_str()).collect()
}

/// Subnets of `pool`, `prefix` bits long, for these networks: those in `kept` keep theirs, because Compose would make a
/// network anew to give it another, which cuts off its containers. `taken` is what the host's networks and routes have.
/// `None` if the pool is used up.
#[must_use]
pub fn assign(
    wanting: &[&str],
    kept: &BTreeMap<String, Ipv4Net>,
    taken: &[Ipv4Net],
    pool: Ipv4Net,
    prefix: u8,
) -> Option<BTreeMap<String, Ipv4Net>> {
    assign_from(0, wanting, kept, taken, pool, prefix)
}

/// As [`assign`], beginning at a place of the pool that `start` tells: apps that are prepared at the same time, and do
/// not see what the other is about to take, are to look at different ones first.
#[must_use]
pub fn assign_from(
    start: u64,
    wanting: &[&str],
    kept: &BTreeMap<String, Ipv4Net>,
    taken: &[Ipv4Net],
    pool: Ipv4Net,
    prefix: u8,
) -> Option<BTreeMap<String, Ipv4Net>> {
    let apart = |one: &Ipv4Net, other: &Ipv4Net| !one.contains(other) && !other.contains(one);
    let number = 1_u64 << u32::from(prefix.checked_sub(pool.prefix_len())?);
    let first = usize::try_from(start % number).unwrap_or_default();
    let (all, again) = (pool.subnets(prefix).ok()?, pool.subnets(prefix).ok()?);
    let mut free = all
        .skip(first)
        .chain(again.take(first))
        .filter(|net| taken.iter().chain(kept.values()).all(|taken| apart(net, taken)));
    wanting
        .iter()
        .map(|key| {
            let net = kept.get(*key).copied().or_else(|| free.next())?;
            Some(((*key).to_owned(), net))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn net(text: &str) -> Ipv4Net {
        text.parse().unwrap()
    }

    #[test]
    fn networks_of_compose_without_a_subnet_want_one() {
        let text = r#"{"networks":{
            "default":{"name":"a_default","ipam":{}},
            "fixed":{"ipam":{"config":[{"subnet":"10.1.0.0/24"}]}},
            "gated":{"ipam":{"config":[{"gateway":"10.2.0.1"}]}},
            "lan":{"driver":"macvlan"},
            "theirs":{"external":true,"name":"edge"}
        }}"#;
        assert_eq!(wanting(&Project::read(text).unwrap()), ["default", "gated"]);
    }

    #[test]
    fn a_network_keeps_its_subnet_and_others_get_what_nobody_has() {
        let kept = [("back".to_owned(), net("10.89.0.32/28"))].into();
        let taken = [net("10.89.0.0/29"), net("10.0.0.0/16"), net("10.89.0.64/26")];
        let assigned = assign(&["back", "default", "front"], &kept, &taken, net("10.89.0.0/24"), 28).unwrap();
        let expected = [("back", "10.89.0.32/28"), ("default", "10.89.0.16/28"), ("front", "10.89.0.48/28")];
        assert_eq!(assigned, expected.map(|(key, subnet)| (key.to_owned(), net(subnet))).into());
    }

    #[test]
    fn a_start_within_the_pool_comes_to_all_of_it() {
        let pool = net("10.89.0.0/26");
        let from = |start| assign_from(start, &["a", "b", "c", "d"], &BTreeMap::new(), &[], pool, 28).unwrap();
        assert_eq!(from(6)["a"], net("10.89.0.32/28"));
        let all: std::collections::BTreeSet<Ipv4Net> = from(6).into_values().collect();
        assert_eq!(all.len(), 4);
    }

    #[test]
    fn a_pool_that_is_used_up_gives_nothing() {
        let pool = net("10.89.0.0/27");
        assert!(assign(&["a", "b"], &BTreeMap::new(), &[], pool, 28).is_some());
        assert!(assign(&["a", "b", "c"], &BTreeMap::new(), &[], pool, 28).is_none());
        assert!(assign(&["a"], &BTreeMap::new(), &[net("10.0.0.0/8")], pool, 28).is_none());
    }
}
