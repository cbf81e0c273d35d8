//! The list of servers as a TXT record says it (pure): who can read it, can rely on its order and its completeness.

pub use crate::api::address::NOBODY;
use crate::api::address::ServerAddress;
use crate::api::server_group::Strategy;
use crate::dns::record::TXT_MAX;

/// A server as it is published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Where it is.
    pub address: ServerAddress,
    /// With `Failover`: the lowest comes first.
    pub priority: i32,
}

/// The content of the record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct List {
    /// What it says, unquoted; the zone's writer splits it into strings of at most 255 bytes.
    pub content: String,
    /// Whether servers had to be left out because one record holds no more.
    pub cut: bool,
}

/// The servers in the order they are published, each once: by priority with [`Strategy::Failover`], and by address.
#[must_use]
pub fn in_order(strategy: Strategy, servers: impl IntoIterator<Item = Listed>) -> Vec<ServerAddress> {
    let rank = |server: &Listed| if strategy == Strategy::Failover { server.priority } else { 0 };
    let mut servers: Vec<_> = servers.into_iter().map(|server| (rank(&server), server.address)).collect();
    // One under several priorities counts under its best.
    servers.sort_by(|(a_rank, a), (b_rank, b)| (a, a_rank).cmp(&(b, b_rank)));
    servers.dedup_by(|(_, later), (_, kept)| later == kept);
    servers.sort_by_key(|(rank, _)| *rank);
    servers.into_iter().map(|(_, address)| address).collect()
}

/// The record that lists these servers in this order: as many from the start as fit into one record, [`NOBODY`] for none.
#[must_use]
pub fn compose(servers: &[ServerAddress]) -> List {
    let mut content = String::new();
    for server in servers {
        let text = server.to_string();
        let comma = usize::from(!content.is_empty());
        if content.len() + comma + text.len() > TXT_MAX {
            return List { content, cut: true };
        }
        if comma > 0 {
            content.push(',');
        }
        content.push_str(&text);
    }
    if content.is_empty() {
        NOBODY.clone_into(&mut content);
    }
    List { content, cut: false }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::{Strategy as Generator, any, prop_assert, prop_assert_eq, prop_oneof, proptest};

    use super::*;

    fn listed(text: &str, priority: i32) -> Listed {
        Listed { address: ServerAddress::parse(text).unwrap(), priority }
    }

    fn content(strategy: Strategy, servers: &[(&str, i32)]) -> String {
        compose(&in_order(strategy, servers.iter().map(|(text, priority)| listed(text, *priority)))).content
    }

    /// What a client makes of it.
    fn read(content: &str) -> Vec<String> {
        if content == NOBODY { Vec::new() } else { content.split(',').map(str::to_owned).collect() }
    }

    #[test]
    fn nobody_is_said_in_words() {
        assert_eq!(compose(&[]), List { content: NOBODY.to_owned(), cut: false });
    }

    #[test]
    fn the_order_is_by_address_and_with_failover_by_priority_first() {
        let servers = [("b.example.com", 1), ("10.0.0.10", 100), ("10.0.0.9", 100), ("10.0.0.9", 100)];
        for strategy in [Strategy::RoundRobin, Strategy::Random] {
            assert_eq!(content(strategy, &servers), "10.0.0.9,10.0.0.10,b.example.com");
        }
        assert_eq!(content(Strategy::Failover, &servers), "b.example.com,10.0.0.9,10.0.0.10");
    }

    #[test]
    fn a_server_under_two_priorities_is_listed_once_at_the_better_one() {
        assert_eq!(
            content(Strategy::Failover, &[("10.0.0.1", 9), ("10.0.0.2", 5), ("10.0.0.1", 1)]),
            "10.0.0.1,10.0.0.2"
        );
    }

    #[test]
    fn what_does_not_fit_is_left_out_from_the_end() {
        let servers: Vec<_> = (0..200).map(|n| listed(&format!("10.100.100.{n}"), 100)).collect();
        let all = in_order(Strategy::RoundRobin, servers);
        let list = compose(&all);
        assert!(
            list.cut && list.content.len() <= TXT_MAX && list.content.len() > TXT_MAX - 16,
            "{}",
            list.content.len()
        );
        let expected: Vec<_> = all.iter().map(ToString::to_string).collect();
        let read = read(&list.content);
        assert_eq!(read, expected[..read.len()]);
    }

    fn addresses() -> impl Generator<Value = Vec<(String, i32)>> {
        // Of servers: neither multicast nor unspecified.
        let v4 = (1_u8..224, any::<[u8; 3]>())
            .prop_map(|(first, [a, b, c])| std::net::Ipv4Addr::new(first, a, b, c).to_string());
        let v6 = any::<u128>().prop_map(|ip| format!("[{}]", std::net::Ipv6Addr::from_bits((ip >> 3) | (1 << 125))));
        let name = "[a-z]{1,8}(-[a-z0-9]{1,8})?[.]example[.]net";
        let host = prop_oneof![v4, v6, name];
        let address = (host, proptest::option::of(1_u16..)).prop_map(|(host, port)| match port {
            Some(port) => format!("{host}:{port}"),
            None => host.trim_matches(['[', ']']).to_owned(),
        });
        proptest::collection::vec((address, 0_i32..4), 0..40)
    }

    proptest! {
        #[test]
        fn what_is_read_back_is_the_set_that_was_published(servers in addresses(), failover: bool) {
            let strategy = if failover { Strategy::Failover } else { Strategy::RoundRobin };
            let list = compose(&in_order(strategy, servers.iter().map(|(text, priority)| listed(text, *priority))));
            let read = read(&list.content);
            let once: BTreeSet<_> = read.iter().cloned().collect();
            prop_assert_eq!(once.len(), read.len(), "somebody is listed twice");
            let published: BTreeSet<_> = servers.iter().map(|(text, _)| listed(text, 0).address.to_string()).collect();
            if list.cut { prop_assert!(once.is_subset(&published)) } else { prop_assert_eq!(once, published) }
        }

        #[test]
        fn the_order_in_which_servers_come_does_not_matter(servers in addresses(), seed: u64) {
            let mut shuffled = servers.clone();
            fastrand::Rng::with_seed(seed).shuffle(&mut shuffled);
            let compose = |servers: &[(String, i32)]| {
                compose(&in_order(Strategy::Failover, servers.iter().map(|(text, priority)| listed(text, *priority))))
            };
            prop_assert_eq!(compose(&servers), compose(&shuffled));
        }
    }
}
