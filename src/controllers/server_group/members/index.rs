//! The servers of a group by their address (pure), so that a report finds those it is about without reading all.

use std::collections::BTreeMap;
use std::ops::Bound;

use super::super::roster::Roster;
use crate::api::address::ServerAddress;
use crate::api::server_group::MemberStatus;

/// Where each server stands in the status.
#[derive(Debug)]
pub(super) struct Index {
    /// `None`: the status does not have it under this spelling.
    places: BTreeMap<ServerAddress, Option<usize>>,
}

impl Index {
    /// The servers that belong to a group by its spec, and those of its status.
    pub(super) fn of(roster: &Roster, members: &[MemberStatus]) -> Self {
        let mut places: BTreeMap<_, _> = roster.members.iter().map(|entry| (entry.address.clone(), None)).collect();
        for (place, member) in members.iter().enumerate() {
            let Ok(address) = ServerAddress::parse(&member.id) else { continue };
            let spelled_so = member.id == address.to_string();
            let known = places.entry(address).or_default();
            if spelled_so {
                *known = Some(place);
            }
        }
        Self { places }
    }

    /// The servers that what is said of `address` is about, in order: every one with that address.
    pub(super) fn about(&self, address: &ServerAddress) -> impl Iterator<Item = (&ServerAddress, Option<usize>)> {
        // One without a port stands before all ports of its host.
        let from = self.places.range::<ServerAddress, _>((Bound::Included(address), Bound::Unbounded));
        from.map(|(other, place)| (other, *place)).take_while(|(other, _)| is_about(address, other))
    }
}

/// Whether what is said of `address` is about the server at `other`: without a port, it is about every port.
pub(super) fn is_about(address: &ServerAddress, other: &ServerAddress) -> bool {
    other == address || (address.port.is_none() && other.host == address.host)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::api::server_group::ServerGroup;

    #[test]
    fn an_address_finds_its_servers_of_the_spec_and_of_the_status_and_nobody_elses() {
        let listed = |address, port: Option<u16>| json!({"address": address, "port": port});
        let spec = json!({"zoneRef": {"name": "z"}, "members": [
            listed("10.0.0.1", Some(81)), listed("10.0.0.10", None), listed("a.example.com", Some(80)),
        ]});
        let group =
            json!({"apiVersion": "roadstead.dev/v1alpha1", "kind": "ServerGroup", "metadata": {}, "spec": spec});
        let group: ServerGroup = serde_json::from_value(group).unwrap();
        // Somebody may have edited the status: neither its order nor its spelling is relied on.
        let member = |id| json!({"id": id, "reason": "", "since": "2026-01-01T00:00:00Z"});
        let members = json!(["10.0.0.2", "::ffff:10.0.0.3", "10.0.0.1:80", "nonsense:", "10.0.0.1"].map(member));
        let members: Vec<MemberStatus> = serde_json::from_value(members).unwrap();
        let index = Index::of(&Roster::of(&group, [], None), &members);
        let about = |address: &str| -> Vec<(String, Option<usize>)> {
            let address = ServerAddress::parse(address).unwrap();
            index.about(&address).map(|(address, place)| (address.to_string(), place)).collect()
        };
        let found = |found: &[(&str, Option<usize>)]| -> Vec<(String, Option<usize>)> {
            found.iter().map(|(id, place)| ((*id).to_owned(), *place)).collect()
        };
        for (address, expected) in [
            ("10.0.0.1", &[("10.0.0.1", Some(4)), ("10.0.0.1:80", Some(2)), ("10.0.0.1:81", None)][..]),
            ("10.0.0.1:80", &[("10.0.0.1:80", Some(2))]),
            ("10.0.0.1:82", &[]),
            ("10.0.0.10", &[("10.0.0.10", None)]),
            ("10.0.0.2", &[("10.0.0.2", Some(0))]),
            ("10.0.0.3", &[("10.0.0.3", None)]),
            ("10.0.0.4", &[]),
            ("a.example.com", &[("a.example.com:80", None)]),
        ] {
            assert_eq!(about(address), found(expected), "{address}");
        }
    }
}
