//! Runners that end where they should not.

use crate::host::ROOT;
use crate::ready;
use crate::runner::{App, Crash, End, alone, spec};
use crate::visitors::Visitors;

/// More actions than any deploy here has.
const MOST: usize = 30;

#[tokio::test]
#[ignore = "boots container VMs, which need root: `make test-hosts`"]
async fn a_runner_that_ends_at_any_action_is_followed_by_one_that_finishes() {
    let host = ready().await;
    let mut shop = App::new(&host, "shop");
    let compose = alone(&host.site);
    let mut number = 0;
    let mut next = |bad: bool| {
        number += 1;
        let name = format!("v{number}");
        let health = if bad { "500 Broken" } else { "200 OK" };
        let mut spec = spec(&name, &compose, &[("ANSWER", &name), ("HEALTH", health)]);
        // That of one which never answers is waited for in each of the runs.
        (spec.start_period, spec.health_timeout) = (1, 2);
        if !bad {
            spec.health_timeout = 20;
        }
        spec
    };
    assert_eq!(shop.deploy(&next(false)).await, End::Done);
    let mut live = "v1".to_owned();
    let visitors = Visitors::of(&host, &shop.domain);
    let mut runs = 0;
    for (crash, bad) in [(Crash::During, false), (Crash::After, false), (Crash::Cut, false), (Crash::During, true)] {
        for at in 0..=MOST {
            assert!(at < MOST, "{:#?}", shop.trace);
            let revision = next(bad);
            let session = host.session(ROOT).await.unwrap();
            shop.trace.clear();
            shop.want(&session, &revision).await.unwrap();
            let end = shop.run(&session, Some((at, crash))).await;
            drop(session);
            let told = |shop: &App<'_>| format!("{crash:?} at {at}:\n{}", shop.trace.join("\n"));
            shop.trace.push("crashed".into());
            // Another, with a connection of its own, and a back-off that is over.
            let over = end != End::Crashed;
            let mut end = end;
            for _ in 0..5 {
                if !matches!(end, End::Crashed | End::Held(_)) {
                    break;
                }
                let mut journal = shop.written();
                journal.back_off = None;
                shop.journal = serde_json::to_string(&journal).unwrap();
                let session = host.session(ROOT).await.unwrap();
                end = shop.run(&session, None).await;
            }
            if bad {
                assert!(matches!(end, End::Stopped(_)), "{end:?} {}", told(&shop));
            } else {
                assert_eq!(end, End::Done, "{}", told(&shop));
                live.clone_from(&revision.revision);
            }
            assert_eq!(shop.containers().await, [format!("web {live} running")], "{}", told(&shop));
            assert_eq!(shop.text("/").await, live, "{}", told(&shop));
            runs += 1;
            if over {
                break;
            }
        }
    }
    let answers = visitors.leave().await;
    eprintln!("{runs} runs, {} answers", answers.values().sum::<usize>());
    assert!(runs > 25);
}
