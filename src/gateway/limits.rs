//! How often one address and one key may ask, and whose address it is.

use std::hash::Hash;
use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU32;
use std::time::Duration;

use governor::clock::{Clock, DefaultClock};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};
use ipnet::IpNet;

use super::error::ApiError;

/// How often requests may come. Twice as many may come at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rates {
    /// Requests a second of one address (IPv6: of one /64).
    pub per_address: NonZeroU32,
    /// Requests a second of one user or Kubernetes account.
    pub per_key: NonZeroU32,
    /// Sign-ups a minute of one address.
    pub signups: NonZeroU32,
}

/// What was used of the [`Rates`].
pub(super) struct Limits {
    addresses: Limit<IpAddr>,
    keys: Limit<String>,
    signups: Limit<IpAddr>,
}

struct Limit<K: Hash + Eq + Clone> {
    limiter: DefaultKeyedRateLimiter<K>,
    message: &'static str,
}

impl<K: Hash + Eq + Clone> Limit<K> {
    fn new(quota: Quota, message: &'static str) -> Self {
        Self { limiter: RateLimiter::keyed(quota), message }
    }

    fn check(&self, key: &K) -> Result<(), ApiError> {
        self.limiter.check_key(key).map_err(|not_before| {
            ApiError::too_many(self.message, not_before.wait_time_from(DefaultClock::default().now()))
        })
    }

    /// Forgets those who have all of their allowance again.
    fn sweep(&self) {
        self.limiter.retain_recent();
        self.limiter.shrink_to_fit();
    }
}

impl Limits {
    pub(super) fn new(rates: Rates) -> Self {
        let twice = |rate: NonZeroU32| rate.saturating_add(rate.get());
        let a_second = |rate| Quota::per_second(rate).allow_burst(twice(rate));
        Self {
            addresses: Limit::new(a_second(rates.per_address), "too many requests from your address: slow down"),
            keys: Limit::new(a_second(rates.per_key), "too many requests with your key: slow down"),
            signups: Limit::new(Quota::per_minute(rates.signups), "too many sign-ups from your address: wait"),
        }
    }

    /// Counts a request of this address.
    pub(super) fn address(&self, address: IpAddr) -> Result<(), ApiError> {
        self.addresses.check(&household(address))
    }

    /// Counts a request of this user or account.
    pub(super) fn key(&self, key: &String) -> Result<(), ApiError> {
        self.keys.check(key)
    }

    /// Counts a sign-up of this address, whether or not it succeeds.
    pub(super) fn signup(&self, address: IpAddr) -> Result<(), ApiError> {
        self.signups.check(&household(address))
    }

    /// Frees the memory of those who have not asked for a while, every few seconds for ever.
    pub(super) async fn sweep(&self) {
        let mut ticks = tokio::time::interval(Duration::from_secs(10));
        loop {
            ticks.tick().await;
            self.addresses.sweep();
            self.keys.sweep();
            self.signups.sweep();
        }
    }
}

/// What is counted as one: an IPv4 address, or the /64 that is the least anybody gets of IPv6.
fn household(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX)).into(),
        v4 @ IpAddr::V4(_) => v4,
    }
}

/// Whose request it is: the peer, unless that is a proxy we trust; then the last one it was forwarded for that is not
/// such a proxy itself. `forwarded` are the values of `X-Forwarded-For` in order. Whatever a client writes into the
/// header stands to the left of what our proxies append, and is never reached.
pub(super) fn client<'a>(
    peer: IpAddr,
    forwarded: impl DoubleEndedIterator<Item = &'a str>,
    trusted: &[IpNet],
) -> IpAddr {
    let is_trusted = |address: IpAddr| trusted.iter().any(|net| net.contains(&address));
    let mut client = peer.to_canonical();
    for hop in forwarded.rev().flat_map(|value| value.rsplit(',')) {
        if !is_trusted(client) {
            break;
        }
        let Ok(hop) = hop.trim().parse::<IpAddr>() else { break };
        client = hop.to_canonical();
    }
    client
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn the_client_is_who_a_trusted_proxy_says_and_never_who_a_client_says() {
        let trusted: Vec<IpNet> = ["10.0.0.0/8", "fd00::/8"].iter().map(|net| net.parse().unwrap()).collect();
        for (peer, forwarded, client_is) in [
            ("203.0.113.9", vec!["198.51.100.1"], "203.0.113.9"),
            ("10.0.0.1", vec![], "10.0.0.1"),
            ("10.0.0.1", vec!["198.51.100.1"], "198.51.100.1"),
            ("10.0.0.1", vec!["1.1.1.1, 198.51.100.1"], "198.51.100.1"),
            ("10.0.0.1", vec!["1.1.1.1", "198.51.100.1, 10.0.0.2"], "198.51.100.1"),
            ("10.0.0.1", vec!["198.51.100.1, nonsense"], "10.0.0.1"),
            ("::ffff:10.0.0.1", vec!["::ffff:198.51.100.1"], "198.51.100.1"),
            ("fd00::1", vec!["2001:db8::1"], "2001:db8::1"),
        ] {
            let found = client(ip(peer), forwarded.iter().copied(), &trusted);
            assert_eq!(found, ip(client_is), "{peer} forwards for {forwarded:?}");
        }
    }

    #[test]
    fn one_network_of_ipv6_is_counted_as_one() {
        assert_eq!(household(ip("2001:db8:1:2:3:4:5:6")), household(ip("2001:db8:1:2:ffff::1")));
        assert_ne!(household(ip("2001:db8:1:2::1")), household(ip("2001:db8:1:3::1")));
        assert_eq!(household(ip("::ffff:192.0.2.1")), ip("192.0.2.1"));
    }

    #[test]
    fn one_who_asks_too_often_is_told_when_to_come_back_and_hinders_nobody_else() {
        let one = NonZeroU32::MIN;
        let limits = Limits::new(Rates { per_address: one, per_key: one, signups: one });
        let (mine, other) = (ip("192.0.2.1"), ip("192.0.2.2"));
        assert_eq!((limits.address(mine), limits.address(mine)), (Ok(()), Ok(())));
        let refused = limits.address(mine).unwrap_err();
        assert!(refused.retry_after.is_some_and(|after| after <= Duration::from_secs(1)), "{refused:?}");
        assert_eq!(limits.address(other), Ok(()));
        assert_eq!(limits.signup(mine), Ok(()));
        let refused = limits.signup(mine).unwrap_err();
        assert!(refused.retry_after.is_some_and(|after| after > Duration::from_secs(30)), "{refused:?}");
    }
}
