//! The plan by example, and played against a small model of the API.

use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::{Just, TestCaseError, any, prop_assert_eq, prop_oneof, proptest};

use super::*;
use crate::api::names::ClusterId;
use crate::slb::origins::{Origin, urls};
use crate::slb::{Policy, WhenAllDown};

const UID: &str = "6f1f8a1e-5a55-4e7e-9b0a-0c5d1f3a2b4c";
const OTHER_UID: &str = "11111111-5a55-4e7e-9b0a-0c5d1f3a2b4c";

fn mark(name: &str, uid: &str) -> Mark {
    Mark::new(ClusterId::parse("c1").unwrap(), "ServerGroup", "shop", name, uid).unwrap()
}

fn origin(name: &str, healthy: bool) -> Origin {
    Origin { url: format!("https://{name}.example.com"), weight: 1, priority: 0, healthy }
}

fn route(pattern: &str) -> Place {
    Place::Route { zone_id: "zone1".to_owned(), pattern: pattern.to_owned() }
}

fn domain(hostname: &str) -> Place {
    Place::Domain { zone_id: "zone1".to_owned(), hostname: hostname.to_owned() }
}

fn worker(origins: &[Origin]) -> Worker {
    Worker {
        name: "shop-lb".to_owned(),
        mark: mark("web", UID),
        adopt: None,
        group: "shop/web".to_owned(),
        mode: Mode::Managed,
        origins: origins.to_vec(),
        strategy: Strategy::RoundRobin,
        policy: Policy {
            retries: 2,
            origin_timeout: Duration::from_secs(8),
            fail_statuses: vec![502, 503],
            sticky: Sticky::None,
            probe_path: "/healthz".to_owned(),
            min_healthy: 1,
            when_all_down: WhenAllDown::KeepLast,
        },
        place: None,
    }
}

fn seen(bindings: &[Binding]) -> Observed {
    Observed { settings: Some(Settings { bindings: bindings.to_vec() }), places: None }
}

fn with_places(mut observed: Observed, routes: &[(&str, Option<&str>)], domains: &[(&str, &str)]) -> Observed {
    let route = |(n, (pattern, script)): (usize, &(&str, Option<&str>))| {
        let route = Route { id: format!("r{n}"), pattern: (*pattern).to_owned(), script: script.map(str::to_owned) };
        ("zone1".to_owned(), route)
    };
    let domain = |(n, (hostname, service)): (usize, &(&str, &str))| Domain {
        id: format!("d{n}"),
        hostname: (*hostname).to_owned(),
        service: (*service).to_owned(),
    };
    observed.places = Some(Places {
        routes: routes.iter().enumerate().map(route).collect(),
        domains: domains.iter().enumerate().map(domain).collect(),
    });
    observed
}

/// The bindings that an upload of `wanted` makes.
fn uploaded(wanted: &Worker) -> Vec<Binding> {
    match plan(wanted, &Observed::default()) {
        Step::Upload(bindings) => bindings,
        other => panic!("{other:?}"),
    }
}

fn set(bindings: &mut Vec<Binding>, name: &str, text: &str) {
    bindings.retain(|binding| binding.name != name);
    bindings.push(Binding::text(name, text));
}

fn secret(name: &str) -> Binding {
    Binding { name: name.to_owned(), kind: "secret_text".to_owned(), text: None }
}

#[test]
fn a_script_that_does_not_exist_is_uploaded_with_every_binding_and_then_all_is_done() {
    let mut wanted = worker(&[origin("b", true), origin("a", true), origin("c", false)]);
    wanted.origins[0].weight = 3;
    wanted.origins[0].priority = 1;
    let bindings = uploaded(&wanted);
    let text = |name: &str| bindings.iter().find(|b| b.name == name).and_then(|b| b.text.as_deref());
    let origins = "https://a.example.com,https://b.example.com;weight=3;priority=1";
    for (name, expected) in [
        (ORIGINS, Some(origins)),
        (OWNER, Some(wanted.mark.comment().as_str())),
        (CODE, Some(code())),
        ("STRATEGY", Some("round-robin")),
        ("RETRIES", Some("2")),
        ("ORIGIN_TIMEOUT_MS", Some("8000")),
        ("FAIL_STATUSES", Some("502,503")),
        ("STICKY", Some("none")),
        ("PROBE_PATH", Some("/healthz")),
        (PLACES, None),
    ] {
        assert_eq!(text(name), expected, "{name}");
    }
    assert_eq!(plan(&wanted, &seen(&bindings)), Step::Done(origins.to_owned()));
}

#[test]
fn a_script_without_our_mark_is_never_written() {
    let wanted = worker(&[origin("a", true)]);
    for (found, bindings) in [
        ("is missing", vec![Binding::text(ORIGINS, "https://x.example")]),
        ("is missing", vec![secret(OWNER)]),
        ("says \"me\"", vec![Binding::text(OWNER, "me")]),
        ("says \"roadstead/1", vec![Binding::text(OWNER, mark("other", OTHER_UID).comment())]),
    ] {
        let Step::Refuse(refusal) = plan(&wanted, &seen(&bindings)) else { panic!("{bindings:?}") };
        assert_eq!(refusal.reason(), "ForeignWorker");
        let text = refusal.to_string();
        assert!(text.contains(found) && text.contains("shop-lb") && text.contains("OriginsOnly"), "{text}");
        assert_eq!(unplan(&wanted, &seen(&bindings)), Step::Gone);
    }
}

#[test]
fn the_script_of_an_earlier_group_of_this_name_waits_to_be_adopted_and_is_then_patched() {
    let mut wanted = worker(&[origin("a", true)]);
    let mut bindings = uploaded(&wanted);
    let earlier = mark("web", OTHER_UID);
    set(&mut bindings, OWNER, &earlier.comment());
    let Step::Refuse(refusal) = plan(&wanted, &seen(&bindings)) else { panic!() };
    assert_eq!(refusal.reason(), "AdoptionRequired");
    assert!(refusal.to_string().contains(&format!("roadstead.dev/adopt: {}", earlier.owner)), "{refusal}");
    assert_eq!(unplan(&wanted, &seen(&bindings)), Step::Refuse(refusal));

    wanted.adopt = Some(earlier.owner);
    let Step::Patch(patch) = plan(&wanted, &seen(&bindings)) else { panic!() };
    assert!(patch.contains(&Binding::text(OWNER, wanted.mark.comment())));
}

#[test]
fn other_code_is_uploaded_and_other_bindings_are_only_patched_and_what_is_not_ours_stays() {
    let wanted = worker(&[origin("a", true)]);
    let mut bindings = uploaded(&wanted);
    bindings.extend([secret("API_KEY"), Binding::text("THEIRS", "x")]);
    let theirs = [Binding::inherit("API_KEY"), Binding::inherit("THEIRS")];
    assert!(matches!(plan(&wanted, &seen(&bindings)), Step::Done(_)));
    for (name, text) in [(ORIGINS, ""), ("RETRIES", "9"), ("STICKY", "cookie"), ("HEALTH_PATH", "/by-hand")] {
        let mut changed = bindings.clone();
        set(&mut changed, name, text);
        let Step::Patch(patch) = plan(&wanted, &seen(&changed)) else { panic!("{name}") };
        assert!(theirs.iter().all(|binding| patch.contains(binding)), "{patch:?}");
        let ours: Vec<_> = patch.into_iter().filter(|binding| binding.kind != "inherit").collect();
        assert_eq!(ours, uploaded(&wanted), "{name}");
    }
    let mut old = bindings.clone();
    set(&mut old, CODE, "0000000000000000");
    set(&mut old, ORIGINS, "");
    let Step::Upload(upload) = plan(&wanted, &seen(&old)) else { panic!() };
    assert_eq!(upload, [uploaded(&wanted), theirs.to_vec()].concat());
}

#[test]
fn below_the_minimum_the_last_members_stay_or_only_the_healthy_are_published() {
    let a_b = "https://a.example.com,https://b.example.com";
    let (a, b) = ("https://a.example.com", "https://b.example.com");
    // Minimum, policy, who is a member and healthy, what was published; what is published.
    for (minimum, policy, members, last, expected) in [
        (1, WhenAllDown::KeepLast, vec![("a", false), ("b", false)], Some(a_b), a_b),
        (1, WhenAllDown::Publish, vec![("a", false), ("b", false)], Some(a_b), ""),
        (1, WhenAllDown::KeepLast, vec![("a", false), ("b", true)], Some(a_b), b),
        (2, WhenAllDown::KeepLast, vec![("a", false), ("b", true)], Some(a_b), a_b),
        (2, WhenAllDown::Publish, vec![("a", false), ("b", true)], Some(a_b), b),
        // Who has come since is published, who is no member any more is not, health or no health.
        (2, WhenAllDown::KeepLast, vec![("a", true), ("b", false)], Some("https://gone.example.com"), a),
        (1, WhenAllDown::KeepLast, vec![("b", false)], Some(a_b), b),
        // Nothing was published before, or by hand as a JSON list.
        (1, WhenAllDown::KeepLast, vec![("a", false)], None, ""),
        (0, WhenAllDown::KeepLast, vec![("a", false)], Some(r#"["https://a.example.com",{"url":"x"}]"#), a),
    ] {
        let members: Vec<_> = members.into_iter().map(|(name, healthy)| origin(name, healthy)).collect();
        let wanted = worker(&members);
        let policy = Policy { min_healthy: minimum, when_all_down: policy, ..wanted.policy };
        let text = origins::text(&members, &policy, last, Form::List).unwrap();
        assert_eq!(text, expected, "{minimum} {:?} {members:?} {last:?}", policy.when_all_down);
    }
}

#[test]
fn addresses_and_more_than_a_binding_holds_are_refused_before_any_call() {
    for url in ["https://203.0.113.7", "http://203.0.113.7:8080", "https://[2001:db8::1]:443"] {
        let mut wanted = worker(&[origin("a", true)]);
        wanted.origins[0].url = url.to_owned();
        let Step::Refuse(refusal) = plan(&wanted, &Observed::default()) else { panic!("{url}") };
        assert_eq!(refusal, Refusal::OriginIsAddress { url: url.to_owned() });
    }
    let many: Vec<_> = (0..200).map(|n| origin(&format!("a-member-with-a-long-name-{n:03}"), true)).collect();
    let Step::Refuse(refusal) = plan(&worker(&many), &Observed::default()) else { panic!() };
    assert_eq!(refusal.reason(), "OriginsTooLong");
    assert!(matches!(plan(&worker(&many[..100]), &Observed::default()), Step::Upload(_)));
}

#[test]
fn with_origins_only_a_script_is_patched_in_that_one_binding_and_only_if_it_allows_it() {
    let wanted = Worker { mode: Mode::OriginsOnly, ..worker(&[origin("a", true)]) };
    let reason = |observed: &Observed| match plan(&wanted, observed) {
        Step::Refuse(refusal) => refusal.reason(),
        other => panic!("{other:?}"),
    };
    assert_eq!(reason(&Observed::default()), "WorkerMissing");
    for allow in [vec![], vec![Binding::text(ALLOW, "shop/website, other/web")], vec![secret(ALLOW)]] {
        assert_eq!(reason(&seen(&allow)), "NotAllowed");
    }
    let allow = Binding::text(ALLOW, "other/web, shop/web");
    assert_eq!(reason(&seen(&[allow.clone(), secret(ORIGINS)])), "OriginsNotPlainText");

    let theirs = [allow, Binding::text("RETRIES", "1"), secret("KEY")];
    let inherited: Vec<_> = theirs.iter().map(|binding| Binding::inherit(&binding.name)).collect();
    for (last, expected) in [
        (None, "https://a.example.com"),
        (Some("https://x.example"), "https://a.example.com"),
        (Some("[]"), r#"["https://a.example.com"]"#),
    ] {
        let mut bindings = theirs.to_vec();
        bindings.extend(last.map(|last| Binding::text(ORIGINS, last)));
        let patch = [vec![Binding::text(ORIGINS, expected)], inherited.clone()].concat();
        assert_eq!(plan(&wanted, &seen(&bindings)), Step::Patch(patch));
        set(&mut bindings, ORIGINS, expected);
        assert_eq!(plan(&wanted, &seen(&bindings)), Step::Done(expected.to_owned()));
        assert_eq!(unplan(&wanted, &seen(&bindings)), Step::Gone);
    }
}

#[test]
fn a_place_is_noted_before_it_is_arranged_and_somebody_elses_is_not_taken() {
    for (place, taken, name) in [
        (
            route("a.example.com/*"),
            with_places(Observed::default(), &[("a.example.com/*", Some("theirs"))], &[]),
            "Worker theirs",
        ),
        (route("a.example.com/*"), with_places(Observed::default(), &[("a.example.com/*", None)], &[]), "no Worker"),
        (
            domain("a.example.com"),
            with_places(Observed::default(), &[], &[("a.example.com", "theirs")]),
            "Worker theirs",
        ),
    ] {
        let wanted = Worker { place: Some(place.clone()), ..worker(&[origin("a", true)]) };
        let bindings = uploaded(&wanted);
        assert!(bindings.contains(&Binding::text(PLACES, place.note())), "{bindings:?}");
        assert!(matches!(plan(&wanted, &seen(&bindings)), Step::Look { .. }));
        let free = with_places(seen(&bindings), &[], &[]);
        assert_eq!(plan(&wanted, &free), Step::Place(place));
        let taken = Observed { places: taken.places, ..seen(&bindings) };
        let Step::Refuse(refusal) = plan(&wanted, &taken) else { panic!() };
        assert_eq!(refusal.reason(), "PlaceTaken");
        assert!(refusal.to_string().contains(name), "{refusal}");
    }
}

#[test]
fn only_places_that_were_noted_and_still_lead_to_the_script_are_removed() {
    let wanted = Worker { place: Some(route("new.example.com/*")), ..worker(&[origin("a", true)]) };
    let mut bindings = uploaded(&wanted);
    let noted = [route("old.example.com/*"), domain("old.example.com"), route("new.example.com/*")];
    set(&mut bindings, PLACES, &noted.iter().map(Place::note).collect::<Vec<_>>().join("\n"));
    let mine = Some("shop-lb");
    let by_hand = ("by-hand.example.com/*", mine);
    let new = ("new.example.com/*", mine);
    let at = |routes: &[(&str, Option<&str>)], domains: &[(&str, &str)]| {
        plan(&wanted, &with_places(seen(&bindings), routes, domains))
    };
    let old = ("old.example.com/*", mine);
    let domains = [("old.example.com", "shop-lb")];
    // First the new place, then what is no longer wanted goes, then the note.
    assert_eq!(at(&[by_hand, old], &domains), Step::Place(route("new.example.com/*")));
    let zone_id = "zone1".to_owned();
    assert_eq!(at(&[by_hand, old, new], &domains), Step::DeleteRoute { zone_id, id: "r1".to_owned() });
    let Step::Patch(_) = at(&[by_hand, new], &domains) else { panic!("the note of the route is due") };
    set(&mut bindings, PLACES, &[&noted[1], &noted[2]].map(Place::note).join("\n"));
    let seen_now = with_places(seen(&bindings), &[by_hand, new], &domains);
    assert_eq!(plan(&wanted, &seen_now), Step::DeleteDomain { id: "d0".to_owned() });
    let Step::Patch(patch) =
        plan(&wanted, &with_places(seen(&bindings), &[by_hand, new], &[("old.example.com", "theirs")]))
    else {
        panic!("what leads elsewhere is not ours any more")
    };
    assert!(patch.contains(&Binding::text(PLACES, noted[2].note())), "{patch:?}");
}

#[test]
fn deleting_takes_the_places_away_before_the_script() {
    let wanted = Worker { place: Some(domain("lb.example.com")), ..worker(&[origin("a", true)]) };
    let bindings = uploaded(&wanted);
    assert!(matches!(unplan(&wanted, &seen(&bindings)), Step::Look { .. }));
    let arranged =
        with_places(seen(&bindings), &[("x.example.com/*", Some("shop-lb"))], &[("lb.example.com", "shop-lb")]);
    assert_eq!(unplan(&wanted, &arranged), Step::DeleteDomain { id: "d0".to_owned() });
    assert_eq!(unplan(&wanted, &with_places(seen(&bindings), &[], &[])), Step::DeleteScript);
    assert_eq!(unplan(&wanted, &Observed::default()), Step::Gone);
}

#[test]
fn an_answer_confirms_a_change_only_if_it_shows_all_of_it() {
    let sent = [Binding::text(ORIGINS, "a"), Binding::inherit("KEY")];
    let settings = |bindings: &[Binding]| Settings { bindings: bindings.to_vec() };
    assert!(confirms(&sent, &settings(&[secret("KEY"), Binding::text(ORIGINS, "a")])));
    assert!(!confirms(&sent, &settings(&[Binding::text(ORIGINS, "a")])), "an inherited one was dropped");
    assert!(!confirms(&sent, &settings(&[secret("KEY"), Binding::text(ORIGINS, "b")])));
    assert!(!confirms(&sent, &settings(&[secret("KEY"), Binding::text(ORIGINS, "a"), secret("MORE")])));
}

/// What the API would show after a step.
fn play(wanted: &Worker, seen: &Observed, step: &Step) -> Observed {
    let mut after = seen.clone();
    let places = after.places.get_or_insert_default();
    match step {
        Step::Upload(bindings) | Step::Patch(bindings) => {
            let old = seen.settings.clone().unwrap_or(Settings { bindings: Vec::new() }).bindings;
            let kept = |binding: &Binding| match binding.kind.as_str() {
                "inherit" => old.iter().find(|o| o.name == binding.name).cloned(),
                _ => Some(binding.clone()),
            };
            after.settings = Some(Settings { bindings: bindings.iter().filter_map(kept).collect() });
        }
        Step::Place(Place::Route { zone_id, pattern }) => {
            let script = Some(wanted.name.clone());
            let route = Route { id: format!("made-{pattern}"), pattern: pattern.clone(), script };
            places.routes.push((zone_id.clone(), route));
        }
        Step::Place(Place::Domain { hostname, .. }) => {
            let id = format!("made-{hostname}");
            places.domains.push(Domain { id, hostname: hostname.clone(), service: wanted.name.clone() });
        }
        Step::DeleteRoute { id, .. } => places.routes.retain(|(_, route)| route.id != *id),
        Step::DeleteDomain { id } => places.domains.retain(|domain| domain.id != *id),
        Step::DeleteScript => after.settings = None,
        Step::Look { .. } | Step::Refuse(_) | Step::Done(_) | Step::Gone => {}
    }
    after
}

/// Follows a plan to its end.
fn follow(wanted: &Worker, mut seen: Observed, plan: fn(&Worker, &Observed) -> Step) -> (Observed, Step) {
    for _ in 0..12 {
        let step = plan(wanted, &seen);
        if matches!(step, Step::Refuse(_) | Step::Done(_) | Step::Gone) {
            return (seen, step);
        }
        seen = play(wanted, &seen, &step);
    }
    panic!("no end: {seen:?}");
}

fn place() -> impl proptest::strategy::Strategy<Value = Option<Place>> {
    prop_oneof![
        Just(None),
        Just(Some(route("a.example.com/*"))),
        Just(Some(route("b.example.com/*"))),
        Just(Some(domain("a.example.com"))),
        Just(Some(domain("b.example.com"))),
    ]
}

proptest! {
    #[test]
    fn from_any_state_of_ours_the_plan_comes_to_an_end_and_leaves_what_is_not_ours(
        before in place(), wanted in place(), after in place(), healthy in vec(any::<bool>(), 3),
    ) {
        let members: Vec<_> = ["a", "b", "c"].iter().zip(&healthy).map(|(name, healthy)| origin(name, *healthy)).collect();
        let theirs = with_places(Observed::default(), &[("theirs.example.com/*", Some("shop-lb"))], &[("x.example.com", "x")]);
        let mut seen = theirs.clone();
        for place in [before, wanted, after] {
            let worker = Worker { place: place.clone(), ..worker(&members) };
            let (now, end) = follow(&worker, seen, plan);
            let Step::Done(text) = end else { return Err(TestCaseError::fail(format!("{end:?}"))) };
            let good: BTreeSet<String> = members.iter().filter(|m| m.healthy).map(|m| m.url.clone()).collect();
            prop_assert_eq!(urls(&text), good);
            let places = now.places.as_ref().unwrap();
            prop_assert_eq!(places.routes.len() + places.domains.len(), 2 + usize::from(place.is_some()));
            prop_assert_eq!(plan(&worker, &now), Step::Done(text), "nothing more to do");
            seen = now;
        }
        let (gone, end) = follow(&worker(&members), seen, unplan);
        prop_assert_eq!((end, gone), (Step::Gone, theirs));
    }
}
