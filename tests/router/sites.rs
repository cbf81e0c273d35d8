//! What a probe of a site makes of a real host: the right one, the wrong one, and everything that answers in place of
//! an app.

use std::time::Duration;

use roadstead::host::table::Route;
use roadstead::probe::reason;
use roadstead::probe::site::{Asker, Site};
use support::{eventually, free_port};

use crate::rig::{App, HEALTH, Host, NONCE, SOON, table, upstream};

/// As the operator has it that trusts this host's authority.
fn asker(host: &Host) -> Asker {
    let root = std::fs::read(host.directory.path().join("data/caddy/pki/authorities/local/root.crt")).unwrap();
    Asker::new(vec!["127.0.0.0/8".parse().unwrap()], Some(&root)).unwrap()
}

fn site(host: &Host, name: &str) -> Site {
    let (address, port) = (host.https.ip(), host.https.port());
    Site { name: name.to_owned(), address, port, path: HEALTH.to_owned(), nonce: NONCE.to_owned() }
}

#[tokio::test]
async fn a_probe_of_a_site_tells_an_app_from_everything_that_answers_in_its_place() {
    let app = App::start("v1").await;
    let host = Host::start(&table([
        ("app.test", upstream(app.port)),
        ("dead.test", upstream(free_port())),
        ("gone.test", Route::Unavailable),
        ("new.test", Route::Placeholder),
        ("works.test", Route::Maintenance),
        ("old.test", Route::Redirect { to: "app.test".into(), code: Route::PERMANENT, peer: None }),
    ]))
    .await;
    let asker = asker(&host);
    let ask = async |site: &Site| asker.ask(site, SOON).await.map_err(|failure| failure.reason);
    for (name, expected) in [
        ("app.test", Ok(())),
        ("old.test", Ok(())),
        ("dead.test", Err(reason::UPSTREAM_502)),
        ("gone.test", Err(reason::UPSTREAM_503)),
        ("new.test", Err(reason::PLACEHOLDER_ANSWERS)),
        ("works.test", Err(reason::MAINTENANCE_PAGE)),
        ("other.test", Err(reason::CERTIFICATE_MISSING)),
    ] {
        assert_eq!(ask(&site(&host, name)).await, expected, "{name}");
    }
    let own = Site { path: "/own".to_owned(), ..site(&host, "app.test") };
    assert_eq!(ask(&own).await, Err(reason::UNEXPECTED_STATUS), "the app's own 503");
    let other = Site { nonce: "nonce-of-another-node".to_owned(), ..site(&host, "app.test") };
    assert_eq!(ask(&other).await, Err(reason::WRONG_HOST));
    host.set(&table([("new.test", upstream(app.port))])).await;
    assert_eq!(ask(&site(&host, "app.test")).await, Err(reason::NOT_ROUTED), "its certificate is still there");
    assert_eq!(ask(&site(&host, "new.test")).await, Ok(()));
}

#[tokio::test]
async fn a_host_whose_routers_are_dead_is_told_from_one_whose_caddy_is() {
    let app = App::start("v1").await;
    let mut host = Host::start(&table([("app.test", upstream(app.port))])).await;
    let (asker, site) = (asker(&host), site(&host, "app.test"));
    assert_eq!(asker.ask(&site, SOON).await, Ok(()));
    for router in &mut host.routers {
        router.program.end("KILL").await;
    }
    let failure = asker.ask(&site, SOON).await.unwrap_err();
    assert!([reason::UPSTREAM_502, reason::UPSTREAM_503].contains(&failure.reason), "{failure:?}");
    assert!(failure.message.contains("routers"), "{failure:?}");
    host.caddy.end("KILL").await;
    eventually(SOON, "the port to be closed", async || {
        let failure = asker.ask(&site, Duration::from_secs(5)).await.unwrap_err();
        if failure.reason == reason::CONNECTION_REFUSED { Ok(()) } else { Err(failure.message) }
    })
    .await;
}
