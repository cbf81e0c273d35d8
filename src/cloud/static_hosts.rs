//! Existing hosts: there is no VM to create, only the question whether an address may be used.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;

/// Why an address or a list of networks was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StaticError {
    /// An entry of the Provider's list that is no network.
    #[error(
        "spec.static.allowedCIDRs[{index}] `{value}` is not a network: write an address and a prefix length with no \
         bits set after it, such as 203.0.113.0/24"
    )]
    Cidr {
        /// Position in the list, from 0.
        index: usize,
        /// The entry.
        value: String,
    },
    /// A Node's address that is none.
    #[error("spec.address `{0}` is not an IP address: write one such as 203.0.113.7 or 2001:db8::7")]
    Address(String),
    /// A Node's address outside the Provider's list.
    #[error(
        "spec.address `{address}` is in none of the Provider's spec.static.allowedCIDRs ({allowed}): use an address \
         from these, or have its network added to the Provider"
    )]
    NotAllowed {
        /// The address.
        address: IpAddr,
        /// The list, as written.
        allowed: AllowedCidrs,
    },
}

/// The networks whose addresses a static Provider lets Nodes use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AllowedCidrs(Vec<IpNet>);

impl AllowedCidrs {
    /// Reads the Provider's list. A network with host bits set is refused, since it is likely a mistyped one.
    ///
    /// # Errors
    /// [`StaticError::Cidr`] for the first bad entry.
    pub fn parse<S: AsRef<str>>(cidrs: &[S]) -> Result<Self, StaticError> {
        let network = |(index, value): (usize, &S)| {
            let value = value.as_ref();
            let network = value.parse::<IpNet>().ok().filter(|network| network.trunc() == *network);
            network.ok_or_else(|| StaticError::Cidr { index, value: value.to_owned() })
        };
        cidrs.iter().enumerate().map(network).collect::<Result<_, _>>().map(Self)
    }

    /// The address of a Node, if it may be used. An IPv4 address written as IPv6 (`::ffff:203.0.113.7`) is read as
    /// IPv4, so that no second spelling passes by the list or by the claim of an address.
    ///
    /// # Errors
    /// [`StaticError::Address`] and [`StaticError::NotAllowed`].
    pub fn check(&self, address: &str) -> Result<IpAddr, StaticError> {
        let parsed: IpAddr = address.parse().map_err(|_| StaticError::Address(address.to_owned()))?;
        let address = parsed.to_canonical();
        if self.0.iter().any(|network| network.contains(&address)) {
            Ok(address)
        } else {
            Err(StaticError::NotAllowed { address, allowed: self.clone() })
        }
    }
}

impl fmt::Display for AllowedCidrs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, network) in self.0.iter().enumerate() {
            let separator = if index == 0 { "" } else { ", " };
            write!(f, "{separator}{network}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed() -> AllowedCidrs {
        AllowedCidrs::parse(&["203.0.113.0/24", "2001:db8::/48"]).unwrap()
    }

    #[test]
    fn an_address_inside_a_network_is_allowed_in_one_spelling() {
        for (written, meant) in [
            ("203.0.113.7", "203.0.113.7"),
            ("::ffff:203.0.113.7", "203.0.113.7"),
            ("2001:DB8:0::7", "2001:db8::7"),
            ("203.0.113.255", "203.0.113.255"),
        ] {
            assert_eq!(allowed().check(written), Ok(meant.parse().unwrap()), "{written}");
        }
    }

    #[test]
    fn an_address_outside_is_refused_with_the_address_and_the_list() {
        let error = allowed().check("203.0.114.1").unwrap_err().to_string();
        assert_eq!(
            error,
            "spec.address `203.0.114.1` is in none of the Provider's spec.static.allowedCIDRs (203.0.113.0/24, \
             2001:db8::/48): use an address from these, or have its network added to the Provider"
        );
        for address in ["10.0.0.1", "::ffff:10.0.0.1", "2001:db8:1::1", "127.0.0.1"] {
            assert!(matches!(allowed().check(address), Err(StaticError::NotAllowed { .. })), "{address}");
        }
    }

    #[test]
    fn what_is_no_address_or_network_is_named_with_its_place() {
        for address in ["", "web-1", "203.0.113", "203.0.113.7/24", "203.0.113.007"] {
            assert_eq!(allowed().check(address), Err(StaticError::Address(address.to_owned())));
        }
        for bad in ["203.0.113.7/24", "203.0.113.0", "0.0.0.0/33", ""] {
            let parsed = AllowedCidrs::parse(&["10.0.0.0/8", bad]);
            assert_eq!(parsed, Err(StaticError::Cidr { index: 1, value: bad.to_owned() }));
        }
    }
}
