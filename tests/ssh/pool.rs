//! One connection a host, for as long as it is the right one.

use std::sync::Arc;
use std::time::Duration;

use roadstead::host::ssh::{Error, Host, HostKeys, KeyPair, Pool, PoolOptions};
use support::eventually;

use crate::rig::{LONG, Sshd, command};

fn pool() -> Pool {
    Pool::new(PoolOptions { connect: LONG, ..PoolOptions::default() })
}

async fn works(pool: &Pool, host: &Host) {
    let session = pool.session(host, LONG).await.unwrap();
    assert!(session.exec(command("true")).await.unwrap().success());
}

#[tokio::test]
async fn many_users_and_commands_share_one_connection() {
    let (sshd, pool) = (Sshd::start().await, pool());
    let host = sshd.host();
    futures::future::join_all((0..12).map(|_| works(&pool, &host))).await;
    works(&pool, &host).await;
    assert_eq!(sshd.connections(), 1, "{}", sshd.log());
}

#[tokio::test]
async fn each_host_has_its_own() {
    let (one, two, pool) = (Sshd::start().await, Sshd::start().await, pool());
    works(&pool, &one.host()).await;
    works(&pool, &Host { id: "other".to_owned(), ..two.host() }).await;
    works(&pool, &one.host()).await;
    assert_eq!((one.connections(), two.connections()), (1, 1));
}

#[tokio::test]
async fn a_cut_connection_is_made_anew() {
    let (sshd, pool) = (Sshd::start().await, pool());
    let first = pool.session(&sshd.host(), LONG).await.unwrap();
    sshd.cut();
    eventually(LONG, "the cut to be seen", async || first.is_closed()).await;
    works(&pool, &sshd.host()).await;
    assert_eq!(sshd.connections(), 2);
}

#[tokio::test]
async fn those_who_wait_for_a_connection_share_its_failure_and_the_next_tries_again() {
    let (mut sshd, pool) = (Sshd::start().await, pool());
    let host = sshd.host();
    sshd.stop().await;
    let errors = futures::future::join_all((0..5).map(|_| pool.session(&host, LONG))).await;
    for error in errors {
        assert!(matches!(error.unwrap_err(), Error::Unreachable { .. }));
    }
    sshd.restart().await;
    works(&pool, &host).await;
}

#[tokio::test]
async fn whoever_waits_goes_when_the_own_time_is_up_and_the_connection_still_comes() {
    let (sshd, pool) = (Sshd::start().await, pool());
    let error = pool.session(&sshd.host(), Duration::ZERO).await.unwrap_err();
    assert!(matches!(error, Error::TimedOut { .. }), "{error:?}");
    eventually(LONG, "the connection", async || sshd.connections() == 1).await;
    works(&pool, &sshd.host()).await;
    assert_eq!(sshd.connections(), 1);
}

#[tokio::test]
async fn another_key_or_user_gets_another_connection() {
    let (sshd, pool) = (Sshd::start().await, pool());
    let host = sshd.host();
    works(&pool, &host).await;
    let stranger = Host { key: KeyPair::generate("stranger").unwrap(), ..host.clone() };
    assert!(matches!(pool.session(&stranger, LONG).await.unwrap_err(), Error::KeyRefused { .. }));
    let mut other = host.clone();
    other.target.user = "nobody-here".to_owned();
    assert!(matches!(pool.session(&other, LONG).await.unwrap_err(), Error::KeyRefused { .. }));
    works(&pool, &host).await;
    assert_eq!(sshd.connections(), 2);
}

#[tokio::test]
async fn a_connection_ends_its_use_when_its_host_key_is_no_longer_pinned() {
    let (sshd, pool) = (Sshd::start().await, pool());
    works(&pool, &sshd.host()).await;
    let other = HostKeys::pinned([KeyPair::generate("x").unwrap().public_line().as_str()]).unwrap();
    let error = pool.session(&Host { host_keys: other, ..sshd.host() }, LONG).await.unwrap_err();
    assert!(matches!(error, Error::HostKeyRefused { .. }), "{error:?}");
    // A further pin beside the right one changes nothing.
    works(&pool, &sshd.host()).await;
    let lines = [KeyPair::generate("x").unwrap().public_line(), sshd.host_key.public_line()];
    let more = HostKeys::pinned(lines.iter().map(String::as_str)).unwrap();
    works(&pool, &Host { host_keys: more, ..sshd.host() }).await;
    assert_eq!(sshd.connections(), 2);
}

#[tokio::test]
async fn the_key_of_a_first_contact_holds_for_every_later_one_until_the_host_is_forgotten() {
    let (mut sshd, pool) = (Sshd::start().await, pool());
    let host = Host { host_keys: HostKeys::TrustOnFirstUse, ..sshd.host() };
    works(&pool, &host).await;
    // Pinning the key that was seen keeps the connection.
    works(&pool, &sshd.host()).await;
    assert_eq!(sshd.connections(), 1);
    works(&pool, &host).await;
    sshd.host_key = KeyPair::generate("another host").unwrap();
    sshd.restart().await;
    eventually(LONG, "a refusal", async || match pool.session(&host, LONG).await {
        Err(Error::HostKeyRefused { .. }) => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
    pool.forget(&host.id);
    works(&pool, &host).await;
}

#[tokio::test]
async fn an_unused_connection_is_closed_and_a_used_one_is_not() {
    let idle = Duration::from_millis(300);
    let (sshd, pool) = (Sshd::start().await, Pool::new(PoolOptions { idle, ..PoolOptions::default() }));
    let host = sshd.host();
    let held = pool.session(&host, LONG).await.unwrap();
    // Many times what an unused one is kept.
    assert!(held.exec(command("sleep 1.5")).await.unwrap().success());
    assert!(!held.is_closed());
    assert!(Arc::ptr_eq(&held, &pool.session(&host, LONG).await.unwrap()));
    drop(held);
    eventually(LONG, "the end of the connection", async || !sshd.serves()).await;
    works(&pool, &host).await;
    assert_eq!(sshd.connections(), 2);
}
