//! Revisions that fail: the old one serves on.

use roadstead::host::app::NotPrepared;

use crate::host::ROOT;
use crate::ready;
use crate::runner::{App, End, alone, spec};
use crate::visitors::Visitors;

#[tokio::test]
#[ignore = "boots container VMs, which need root: `make test-hosts`"]
async fn whatever_is_wrong_with_a_new_revision_the_old_one_serves_on() {
    let host = ready().await;
    let mut shop = App::new(&host, "shop");
    shop.secrets = vec!["hunter2-hunter2".into()];
    let compose = alone(&host.site);
    let revision = |name: &str, more: &[(&str, &str)]| spec(name, &compose, &[&[("ANSWER", name)], more].concat());
    // With nothing to go back to there is the placeholder.
    let end = shop.deploy(&revision("v0", &[("HEALTH", "500 Broken")])).await;
    assert!(matches!(end, End::Stopped(_)), "{end:?}");
    let (status, body) = shop.page("/").await.unwrap();
    assert_eq!((status, body.trim()), (503, "No application deployed yet"));
    assert_eq!(shop.containers().await, [""; 0]);

    assert_eq!(shop.deploy(&revision("v1", &[])).await, End::Done);
    let visitors = Visitors::of(&host, &shop.domain);
    let token = ("TOKEN", "hunter2-hunter2");
    let registry = host.site.split('/').next().unwrap();
    let missing = |name: &str| {
        let mut revision = revision("v4", &[]);
        revision.images = vec![("web".into(), format!("{registry}/roadstead/{name}"))];
        revision.revision = name.replace(':', "-");
        revision
    };
    for (revision, expected) in [
        (
            revision("v2", &[("HEALTH", "500 Broken"), token]),
            "Unhealthy/InternalHealth: service `web`, port 8080, path",
        ),
        (revision("v3", &[("EXIT", "3"), token]), "CrashLooping/InternalHealth: service `web` ends again and again"),
        (missing("none:1"), "ImageNotFound/Pull: "),
        (
            missing("site@sha256:0000000000000000000000000000000000000000000000000000000000000000"),
            "ImageNotFound/Pull: ",
        ),
    ] {
        let end = shop.deploy(&revision).await;
        assert!(matches!(&end, End::Stopped(why) if why.starts_with(expected)), "{expected}, not {end:?}");
        let failed = shop.written().failed.unwrap();
        eprintln!("{failed:?}");
        if expected.contains("InternalHealth") {
            let logs = failed.logs.unwrap();
            let line = format!("serving {} with the token ***", revision.revision);
            assert!(logs.contains(&line), "{logs:?}");
        }
        assert!(!shop.journal.contains("hunter2"), "{}", shop.journal);
        assert_eq!(shop.containers().await, ["web v1 running"]);
        // It is not tried again by itself.
        assert_eq!(shop.deploy(&revision).await, end);
    }
    let unhealthy = &shop.trace.join("\n");
    assert!(unhealthy.contains("it answered 500 Internal Server Error: health of v2"), "{unhealthy}");

    // One that is slow within its time is waited for.
    let mut slow = revision("v5", &[("DELAY", "6")]);
    slow.start_period = 5;
    assert_eq!(shop.deploy(&slow).await, End::Done);
    // A registry that nobody answers for, and one that is no registry: time may heal the first.
    let mut unreachable = missing("x:1");
    let (gateway, _) = registry.rsplit_once(':').unwrap();
    unreachable.images = vec![("web".into(), format!("{gateway}:9/shop:1"))];
    assert_eq!(shop.deploy(&unreachable).await, End::Held("RegistryUnavailable".into()), "{:#?}", shop.trace);
    let answers = visitors.leave().await;
    assert_eq!(answers.keys().map(String::as_str).collect::<Vec<_>>(), ["v1", "v5"], "{answers:?}");
}

#[tokio::test]
#[ignore = "boots container VMs, which need root: `make test-hosts`"]
async fn a_file_that_may_not_run_is_refused_before_anything_runs_and_a_full_pool_is_said() {
    let host = ready().await;
    let mut shop = App::new(&host, "shop");
    let session = host.session(ROOT).await.unwrap();
    let site = &host.site;
    for (compose, expected) in [
        ("services: {web: {image: a, expose: [\"80\"], ports: [\"443:80\"]}}".to_owned(), "would take port 443"),
        ("services: {web: {imag: a}}".to_owned(), "key `services.web`"),
        (
            "services: {web: {image: 'a:${TAG:?give one}', expose: ['80']}}".to_owned(),
            "the required variable `TAG` is missing",
        ),
        ("services: {api: {image: a}}".to_owned(), "no service is the entry"),
        (
            format!("services: {{web: {{image: '{site}', expose: ['80'], volumes: ['/etc:/x']}}}}"),
            "is a path of the host",
        ),
    ] {
        let refused = shop.want(&session, &spec("r1", &compose, &[])).await.unwrap_err();
        assert!(matches!(refused, NotPrepared::Refused(_)), "{refused:?}");
        assert!(refused.to_string().contains(expected), "{refused}");
        assert!(!refused.to_string().contains("/opt/"), "{refused}");
    }
    // What was refused can be mended.
    let compose = "services: {web: {image: '${IMAGE}', expose: ['8080'], labels: {a: '${NONE}'}}}";
    shop.want(&session, &spec("r1", compose, &[("IMAGE", site)])).await.unwrap();
    assert_eq!(shop.prepared.as_ref().unwrap().empty_variables, ["NONE".to_owned()].into());
    let pool = "127.0.0.0/28".parse().unwrap();
    let full = roadstead::host::app::prepare(&session, &shop.place, &spec("r2", compose, &[]), pool).await;
    // Two networks of 32 addresses do not fit.
    assert!(matches!(&full, Err(NotPrepared::Full(why)) if why.contains("127.0.0.0/28")), "{full:?}");
}
