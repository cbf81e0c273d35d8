//! Clients that come back to the same origin.

use std::collections::BTreeMap;

use reqwest::Response;

use crate::bench::{Bench, answer};
use crate::origin::Origin;

/// The name and the value of the cookie that a response sets.
fn cookie(response: &Response) -> Option<String> {
    let set = response.headers().get("set-cookie")?.to_str().unwrap();
    assert!(set.contains("; Path=/; HttpOnly; SameSite=Lax"), "{set}");
    Some(set.split(';').next().unwrap().to_owned())
}

#[tokio::test]
async fn a_cookie_leads_back_to_its_origin_until_that_is_gone() {
    let (a, b) = (Origin::start("a").await, Origin::start("b").await);
    let urls = [a.url(), b.url()];
    let bench = Bench::over(&[&a, &b], &[("STICKY", "cookie")]).await;
    let first = bench.get("/").send().await.unwrap();
    let held = cookie(&first).unwrap();
    let name = first.text().await.unwrap();
    assert!(!urls.iter().any(|url| held.contains(url.as_str())), "{held} names an origin");
    for _ in 0..6 {
        let again = bench.get("/").header("cookie", format!("theme=dark; {held}; x=1")).send().await.unwrap();
        assert_eq!(cookie(&again), None, "it has the cookie");
        assert_eq!(again.text().await.unwrap(), name);
    }
    assert_eq!(bench.shares(6).await.len(), 2, "without the cookie both have their turn");

    let (gone, other) = if name == "a" { (a, "b") } else { (b, "a") };
    drop(gone);
    let moved = bench.get("/").header("cookie", &held).send().await.unwrap();
    let new = cookie(&moved).unwrap();
    assert_ne!(new, held);
    assert_eq!(moved.text().await.unwrap(), other);
    let stranger = bench.get("/").header("cookie", "roadstead_lb=nothing").send().await.unwrap();
    assert_eq!(cookie(&stranger), Some(new));
}

#[tokio::test]
async fn an_address_keeps_its_origin_and_only_those_of_a_dead_one_move() {
    let origins = [Origin::start("a").await, Origin::start("b").await, Origin::start("c").await];
    let bench = Bench::over(&[&origins[0], &origins[1], &origins[2]], &[("STICKY", "client-ip")]).await;
    let homes = async || {
        let mut homes = BTreeMap::new();
        for n in 1..=60 {
            let client = format!("203.0.113.{n}");
            homes.insert(n, answer(bench.get("/").header("cf-connecting-ip", client)).await.1);
        }
        homes
    };
    let before = homes().await;
    assert_eq!(homes().await, before);
    let share = |name: &str| before.values().filter(|home| *home == name).count();
    // 20 each are expected.
    assert!(["a", "b", "c"].into_iter().all(|name| (8..=32).contains(&share(name))), "{before:?}");

    let [a, _b, _c] = origins;
    drop(a);
    let after = homes().await;
    for (client, home) in &before {
        assert_eq!(after[client] == *home, home != "a", "client {client} of {home} is now at {}", after[client]);
    }
}
