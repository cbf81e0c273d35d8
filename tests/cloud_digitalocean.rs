//! The `DigitalOcean` client and the fleet against the simulated API: what is created, found and concluded when the API
//! is slow, refuses, lies by lagging, or breaks off.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests say bluntly what they expect")]

use std::sync::Arc;
use std::time::Duration;

use cloudsim::digitalocean::{AccountSpec, NewDroplet, Settings as Weather, TokenSpec};
use cloudsim::faults::{Action, Fault, Release};
use cloudsim::{Options, Sim};
use prometheus_client::registry::Registry;
use roadstead::api::names::{ClusterId, Mark};
use roadstead::cloud::digitalocean::{DigitalOcean, Settings};
use roadstead::cloud::fleet::{Fleet, Sight};
use roadstead::cloud::{CreateVm, VmProvider, VmStatus, code};
use roadstead::metrics::Metrics;
use roadstead::outside::OutsideError;
use roadstead::outside::budget::{Budgets, Priority};

const TOKEN: &str = "dop_v1_canary";
const UID: &str = "6f1f8a1e-5a55-4e7e-9b0a-0c5d1f3a2b4c";
const OTHER_UID: &str = "11111111-5a55-4e7e-9b0a-0c5d1f3a2b4c";

async fn simulator() -> Sim {
    // Only the first test of the process installs it.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let sim = Sim::start(Options::default()).await.unwrap();
    sim.digitalocean.set_settings(Weather::immediate());
    sim.digitalocean.put_token(TokenSpec::new(TOKEN));
    sim
}

fn client(sim: &Sim) -> DigitalOcean {
    client_at(&sim.digitalocean_api(), TOKEN)
}

fn client_at(base: &str, token: &str) -> DigitalOcean {
    let settings = Settings { base: base.to_owned(), credential: "provider/do".to_owned(), account: None };
    let metrics = Metrics::register(&mut Registry::default());
    DigitalOcean::new(settings, token, Budgets::default(), metrics).unwrap()
}

fn cluster() -> ClusterId {
    ClusterId::parse("c1").unwrap()
}

fn mark(name: &str, uid: &str) -> Mark {
    Mark::new(cluster(), "Node", "shop", name, uid).unwrap()
}

fn order() -> CreateVm {
    CreateVm {
        name: "web-1-6f1f8a1e-1".to_owned(),
        mark: mark("web-1", UID),
        region: "fra1".to_owned(),
        size: "s-1vcpu-1gb".to_owned(),
        image: "debian-12-x64".to_owned(),
        user_data: Some("#cloud-config\n".to_owned()),
        vpc_uuid: None,
        tags: vec!["team:web".to_owned()],
    }
}

/// Makes droplets of the cluster as if created long ago, each with its own owner.
fn add_fleet(sim: &Sim, count: usize) {
    for n in 0..count {
        let name = format!("node-{n}");
        let uid = format!("{n:08x}-5a55-4e7e-9b0a-0c5d1f3a2b4c");
        let new = NewDroplet {
            account: cloudsim::digitalocean::DEFAULT_ACCOUNT.to_owned(),
            tags: mark(&name, &uid).tags().to_vec(),
            name,
            region: "fra1".to_owned(),
            size: "s-1vcpu-1gb".to_owned(),
            image: "debian-12-x64".to_owned(),
        };
        sim.digitalocean.add_droplet(&new).unwrap();
    }
}

fn fault(sim: &Sim, method: &str, path: &str, count: Option<u64>, action: Action) {
    sim.gate.faults.add(Fault {
        cloud: Some("digitalocean".to_owned()),
        method: Some(method.to_owned()),
        path: Some(path.to_owned()),
        from: 1,
        count,
        action,
    });
}

/// Method and path of every call after `seq`.
fn calls(sim: &Sim, seq: u64) -> Vec<String> {
    sim.gate.journal.since(seq).iter().map(|entry| format!("{} {}", entry.method, entry.path)).collect()
}

fn refused(result: Result<impl std::fmt::Debug, OutsideError>) -> (String, String) {
    match result {
        Err(OutsideError::Refused { code, message }) => (code, message),
        other => panic!("not refused: {other:?}"),
    }
}

#[tokio::test]
async fn a_vm_is_created_found_by_its_marks_and_deleted_for_good() {
    let sim = simulator().await;
    let cloud = client(&sim);
    let made = cloud.create(&order()).await.unwrap();
    assert_eq!((made.status, made.public4, made.mark.as_ref()), (VmStatus::New, None, Some(&order().mark)));
    let known = sim.digitalocean.droplet(made.id.parse().unwrap()).unwrap();
    assert_eq!(known.user_data.as_deref(), Some("#cloud-config\n"));
    assert!(known.tags.contains(&"team:web".to_owned()));

    let vm = cloud.get(&made.id, Priority::Normal).await.unwrap().unwrap();
    assert_eq!((vm.status, vm.public4, vm.private4), (VmStatus::Active, known.public4, known.private4));
    assert_eq!((vm.region.as_str(), vm.size.as_str(), vm.image.as_str()), ("fra1", "s-1vcpu-1gb", "debian-12-x64"));
    for found in [
        cloud.find_by_owner(&order().mark, Priority::Normal).await.unwrap(),
        cloud.find_by_key(&mark("web-1", OTHER_UID)).await.unwrap(),
        cloud.list_owned(&cluster()).await.unwrap(),
    ] {
        assert_eq!((found.vms.as_slice(), found.whole), ([vm.clone()].as_slice(), true));
    }
    assert!(cloud.find_by_owner(&mark("web-1", OTHER_UID), Priority::Normal).await.unwrap().vms.is_empty());

    cloud.delete(&made.id).await.unwrap();
    assert_eq!(cloud.get(&made.id, Priority::Cleanup).await.unwrap(), None);
    cloud.delete(&made.id).await.unwrap();
    for _ in 0..2 {
        cloud.delete_owner_tags(&order().mark).await.unwrap();
    }
    assert_eq!(cloud.account().await.unwrap().droplet_limit, Some(10_000));
}

#[tokio::test]
async fn five_thousand_vms_cost_twenty_five_pages_for_all_who_ask_together() {
    let sim = simulator().await;
    add_fleet(&sim, 5_000);
    let fleet = Fleet::new(Arc::new(client(&sim)), cluster(), Duration::from_mins(1));
    let before = sim.gate.journal.last();
    let asked = (0..5_000).map(|_| fleet.snapshot(Duration::from_mins(1)));
    for snapshot in futures::future::join_all(asked).await {
        assert_eq!(snapshot.unwrap().by_owner(&mark("node-4999", "00001387-5a55-4e7e-9b0a-0c5d1f3a2b4c")).len(), 1);
    }
    let calls = calls(&sim, before);
    assert_eq!(calls.len(), 26, "the account once, then the pages");
    assert_eq!(calls[25], "GET /v2/droplets?tag_name=roadstead%3Ac%3Ac1&page=25&per_page=200");
}

#[tokio::test]
async fn a_listing_with_a_broken_page_is_an_error_and_never_a_part() {
    let sim = simulator().await;
    add_fleet(&sim, 450);
    let cloud = client(&sim);
    for action in [
        Action::Status { status: 500, body: None, retry_after: None },
        Action::CutBefore,
        Action::Status { status: 200, body: Some(serde_json::json!({"droplets": []})), retry_after: None },
    ] {
        fault(&sim, "GET", "/v2/droplets*&page=2&*", Some(1), action);
        let listing = cloud.list_owned(&cluster()).await;
        assert!(matches!(listing, Err(OutsideError::Unavailable(_))), "{listing:?}");
    }
    assert_eq!(cloud.list_owned(&cluster()).await.unwrap().vms.len(), 450);
}

#[tokio::test]
async fn a_page_shorter_than_its_total_makes_no_whole_listing() {
    let sim = simulator().await;
    add_fleet(&sim, 3);
    let fleet = Fleet::new(Arc::new(client(&sim)), cluster(), Duration::from_mins(1));
    let body = Some(serde_json::json!({"droplets": [], "links": {}, "meta": {"total": 3}}));
    fault(&sim, "GET", "/v2/droplets*", Some(1), Action::Status { status: 200, body, retry_after: None });
    let id = sim.digitalocean.droplets()[0].id.to_string();
    assert_eq!(fleet.snapshot(Duration::ZERO).await.unwrap().sight(&id), Sight::Unknown);
    assert_eq!(fleet.snapshot(Duration::ZERO).await.unwrap().sight(&id), Sight::Present);
}

#[tokio::test]
async fn a_listing_that_lost_a_vm_between_two_pages_does_not_call_itself_whole() {
    let sim = simulator().await;
    add_fleet(&sim, 450);
    let cloud = client(&sim);
    fault(&sim, "GET", "/v2/droplets*&page=2&*", Some(1), Action::Hold);
    // One at either end, so that one is on the page already read, whatever the order.
    let all = sim.digitalocean.droplets();
    let ends = [all[0].id, all[449].id];
    let held = async {
        let id = loop {
            match sim.gate.faults.held().first() {
                Some(held) => break held.id,
                None => tokio::task::yield_now().await,
            }
        };
        assert!(ends.iter().all(|id| sim.digitalocean.remove_droplet(*id)));
        sim.gate.faults.release(id, Release::Commit);
    };
    let ours = cluster();
    let (listing, ()) = tokio::join!(cloud.list_owned(&ours), held);
    let listing = listing.unwrap();
    let is_listed = |id: u64| listing.vms.iter().any(|vm| vm.id == id.to_string());
    let skipped = sim.digitalocean.droplets().iter().filter(|droplet| !is_listed(droplet.id)).count();
    assert_eq!((skipped, listing.whole), (1, false), "one that exists was skipped, and the listing knows");
    assert!(cloud.list_owned(&cluster()).await.unwrap().whole);
}

#[tokio::test]
async fn a_create_whose_answer_was_lost_is_unknown_and_found_again_by_its_owner() {
    let sim = simulator().await;
    let cloud = client(&sim);
    fault(&sim, "POST", "/v2/droplets", Some(1), Action::CutAfter);
    let lost = cloud.create(&order()).await;
    assert_eq!(lost, Err(OutsideError::Unknown("DigitalOcean: POST /v2/droplets was cut off".to_owned())));
    let found = cloud.find_by_owner(&order().mark, Priority::Normal).await.unwrap();
    assert_eq!((found.vms.len(), found.whole), (1, true));
    assert_eq!(found.vms[0].name, order().name);
    assert_eq!(calls(&sim, 0).iter().filter(|call| call.starts_with("POST")).count(), 1, "nothing was repeated");
}

#[tokio::test]
async fn a_failed_write_is_unknown_and_a_failed_read_changes_nothing() {
    let sim = simulator().await;
    let cloud = client(&sim);
    let vm = cloud.create(&order()).await.unwrap();
    for status in [500, 502, 503, 504] {
        fault(&sim, "GET", "*", None, Action::Status { status, body: None, retry_after: None });
        fault(&sim, "WRITE", "*", None, Action::Status { status, body: None, retry_after: None });
        assert!(matches!(cloud.create(&order()).await, Err(OutsideError::Unknown(_))), "{status}");
        assert!(matches!(cloud.delete(&vm.id).await, Err(OutsideError::Unknown(_))), "{status}");
        assert!(matches!(cloud.get(&vm.id, Priority::Normal).await, Err(OutsideError::Unavailable(_))), "{status}");
        sim.gate.faults.clear();
    }
    assert!(cloud.get(&vm.id, Priority::Normal).await.unwrap().is_some());
}

#[tokio::test]
async fn a_create_that_hangs_is_unknown_after_ten_seconds() {
    let sim = simulator().await;
    let cloud = client(&sim);
    cloud.account().await.unwrap();
    fault(&sim, "POST", "/v2/droplets", None, Action::Hang);
    tokio::time::pause();
    let began = tokio::time::Instant::now();
    let hung = cloud.create(&order()).await;
    let text = "DigitalOcean: POST /v2/droplets was not answered within 10 s";
    assert_eq!(hung, Err(OutsideError::Unknown(text.to_owned())));
    assert_eq!(began.elapsed().as_secs(), 10);
}

#[tokio::test]
async fn where_nothing_listens_even_a_write_changed_nothing() {
    drop(simulator().await);
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let cloud = client_at(&format!("http://{closed}"), TOKEN);
    let expected = OutsideError::Unavailable("DigitalOcean cannot be reached".to_owned());
    assert_eq!(cloud.create(&order()).await, Err(expected));
}

#[tokio::test]
async fn a_vm_that_listings_do_not_show_yet_is_not_missing_to_the_fleet_that_made_it() {
    let sim = simulator().await;
    sim.digitalocean.set_settings(Weather { listing_lag_ms: 3_600_000, ..Weather::immediate() });
    let fleet = Fleet::new(Arc::new(client(&sim)), cluster(), Duration::from_mins(1));
    let vm = fleet.provider().create(&order()).await.unwrap();
    assert_eq!(fleet.snapshot(Duration::ZERO).await.unwrap().sight(&vm.id), Sight::Missing, "as listings have it");
    fleet.created(&vm);
    let snapshot = fleet.snapshot(Duration::ZERO).await.unwrap();
    assert_eq!((snapshot.sight(&vm.id), snapshot.by_owner(&order().mark).len()), (Sight::Present, 1));
    assert!(fleet.provider().get(&vm.id, Priority::Normal).await.unwrap().is_some());
}

#[tokio::test]
async fn an_unknown_size_region_or_image_is_named_with_alternatives_and_the_catalogue_asked_once() {
    let sim = simulator().await;
    let cloud = client(&sim);
    for (wrong, expected, named) in [
        (CreateVm { size: "s-9".to_owned(), ..order() }, code::UNKNOWN_SIZE, "size `s-9` does not exist"),
        (CreateVm { region: "xyz9".to_owned(), ..order() }, code::UNKNOWN_REGION, "region `xyz9` does not exist"),
        (CreateVm { image: "beos-5".to_owned(), ..order() }, code::UNKNOWN_IMAGE, "image `beos-5` does not exist"),
        (CreateVm { image: "4711".to_owned(), ..order() }, code::UNKNOWN_IMAGE, "image `4711` does not exist"),
    ] {
        let (code, message) = refused(cloud.create(&wrong).await);
        assert_eq!(code, expected);
        assert!(message.starts_with(named) && message.contains("choose one of "), "{message}");
    }
    let asked = calls(&sim, 0);
    assert_eq!(asked.iter().filter(|call| call.starts_with("GET /v2/sizes")).count(), 1, "{asked:#?}");
    assert!(sim.digitalocean.droplets().is_empty());
}

#[tokio::test]
async fn a_size_that_its_region_does_not_offer_is_told_apart_from_one_that_does_not_exist() {
    let sim = simulator().await;
    let (_, sizes, _) = sim.digitalocean.offers();
    let mut size = sizes.into_iter().find(|size| size.slug == order().size).unwrap();
    size.regions.retain(|region| region != "fra1");
    sim.digitalocean.put_size(size.clone());
    let cloud = client(&sim);
    assert_eq!(refused(cloud.create(&order()).await).0, code::NOT_OFFERED);
    size.regions.push("fra1".to_owned());
    sim.digitalocean.put_size(size);
    assert!(cloud.create(&order()).await.is_ok(), "it heals when the size is offered again");
}

#[tokio::test]
async fn without_the_scopes_of_the_catalogue_a_refused_create_is_explained_by_the_apis_words() {
    let sim = simulator().await;
    let scopes = ["account:read", "droplet:create", "droplet:read", "image:read", "tag:create", "tag:read"];
    sim.digitalocean.put_token(TokenSpec::new(TOKEN).with_scopes(&scopes));
    let (code, message) = refused(client(&sim).create(&CreateVm { size: "s-9".to_owned(), ..order() }).await);
    assert_eq!(code, code::UNKNOWN_SIZE);
    assert_eq!(message, "DigitalOcean: You specified an invalid size for Droplet creation.");
}

#[tokio::test]
async fn the_droplet_limit_is_a_refusal_of_its_own_and_heals_when_it_rises() {
    let sim = simulator().await;
    let cloud = client(&sim);
    let account = cloudsim::digitalocean::DEFAULT_ACCOUNT;
    assert!(sim.digitalocean.set_droplet_limit(account, 0));
    let (code, message) = refused(cloud.create(&order()).await);
    assert_eq!(code, code::DROPLET_LIMIT);
    assert!(message.contains("raise the limit"), "{message}");
    assert_eq!(cloud.account().await.unwrap().droplet_limit, Some(0));
    sim.digitalocean.set_droplet_limit(account, 1);
    assert!(cloud.create(&order()).await.is_ok());
}

#[tokio::test]
async fn a_delete_during_another_event_is_refused_and_done_afterwards() {
    let sim = simulator().await;
    let busy = Weather { pending_event_blocks_delete: true, active_after_ms: 60_000, ..Weather::immediate() };
    sim.digitalocean.set_settings(busy);
    let cloud = client(&sim);
    let vm = cloud.create(&order()).await.unwrap();
    assert_eq!(refused(cloud.delete(&vm.id).await).0, code::PENDING_EVENT);
    sim.clock.advance(jiff::SignedDuration::from_mins(2));
    cloud.delete(&vm.id).await.unwrap();
    assert!(sim.digitalocean.droplets().is_empty());
}

#[tokio::test]
async fn a_revoked_token_says_nothing_about_any_vm_and_a_new_one_takes_over_at_once() {
    let sim = simulator().await;
    let cloud = client(&sim);
    let vm = cloud.create(&order()).await.unwrap();
    sim.digitalocean.revoke_token(TOKEN);
    let looked = cloud.get(&vm.id, Priority::Normal).await.unwrap_err();
    assert!(matches!(looked, OutsideError::Unauthorized(_)), "{looked:?}");
    assert!(matches!(cloud.delete(&vm.id).await, Err(OutsideError::Unauthorized(_))));
    assert!(matches!(cloud.list_owned(&cluster()).await, Err(OutsideError::Unauthorized(_))));
    for text in [looked.to_string(), format!("{cloud:?}")] {
        assert!(!text.contains(TOKEN), "{text}");
    }
    sim.digitalocean.put_token(TokenSpec::new("next"));
    cloud.set_token("next").unwrap();
    assert!(cloud.get(&vm.id, Priority::Normal).await.unwrap().is_some());
    assert!(matches!(cloud.set_token("two\nlines"), Err(OutsideError::Unauthorized(text)) if !text.contains("two")));
}

#[tokio::test]
async fn a_token_that_may_not_names_the_call_and_the_scope_it_needs() {
    let sim = simulator().await;
    sim.digitalocean.put_token(TokenSpec::new(TOKEN).with_scopes(&["read"]));
    let cloud = client(&sim);
    assert_eq!(
        cloud.create(&order()).await.unwrap_err(),
        OutsideError::Forbidden(
            "DigitalOcean does not let this token POST /v2/droplets: it needs the scopes droplet:create, image:read \
             and tag:create (and vpc:read with a vpcUUID)"
                .to_owned()
        )
    );
    assert_eq!(
        cloud.delete("1").await.unwrap_err().to_string(),
        "DigitalOcean does not let this token DELETE /v2/droplets/{id}: it needs the scope droplet:delete"
    );
    assert_eq!(cloud.list_owned(&cluster()).await.unwrap().vms, []);
    sim.digitalocean.put_token(TokenSpec::new("blind").with_scopes(&["droplet:read"]));
    cloud.set_token("blind").unwrap();
    let blind = cloud.get("1", Priority::Normal).await.unwrap_err();
    assert!(matches!(blind, OutsideError::Forbidden(text) if text.ends_with("the scope account:read")));
}

#[tokio::test]
async fn with_a_token_of_another_account_nothing_is_concluded_and_nothing_sent() {
    let sim = simulator().await;
    let cloud = client(&sim);
    let vm = cloud.create(&order()).await.unwrap();
    let ours = cloud.pinned().unwrap();
    sim.digitalocean.put_account(AccountSpec::new("other"));
    sim.digitalocean.put_token(TokenSpec::new("theirs").of_account("other"));
    cloud.set_token("theirs").unwrap();
    let before = sim.gate.journal.last();
    let mark = order().mark;
    let changed = [
        refused(cloud.account().await),
        refused(cloud.get(&vm.id, Priority::Normal).await),
        refused(cloud.create(&order()).await),
        refused(cloud.delete(&vm.id).await),
        refused(cloud.find_by_owner(&mark, Priority::Normal).await),
        refused(cloud.find_by_key(&mark).await),
        refused(cloud.list_owned(&cluster()).await),
        refused(cloud.mark(&vm.id, None, &mark).await),
        refused(cloud.unmark(&vm.id, &mark).await),
        refused(cloud.delete_owner_tags(&mark).await),
        refused(cloud.catalogue().await),
    ];
    assert!(changed.iter().all(|(code, message)| code == code::ACCOUNT_CHANGED && message.contains(&ours)));
    assert_eq!(calls(&sim, before), ["GET /v2/account"]);
    assert_eq!(cloud.pinned().as_ref(), Some(&ours));
    cloud.set_token(TOKEN).unwrap();
    assert!(cloud.get(&vm.id, Priority::Normal).await.unwrap().is_some());
}

#[tokio::test]
async fn a_client_pinned_by_its_status_refuses_another_account_from_the_start() {
    let sim = simulator().await;
    let settings = Settings {
        base: sim.digitalocean_api(),
        credential: "provider/do".to_owned(),
        account: Some("another".to_owned()),
    };
    let metrics = Metrics::register(&mut Registry::default());
    let cloud = DigitalOcean::new(settings, TOKEN, Budgets::default(), metrics).unwrap();
    assert_eq!(refused(cloud.create(&order()).await).0, code::ACCOUNT_CHANGED);
    assert_eq!(calls(&sim, 0), ["GET /v2/account"]);
}

#[tokio::test]
async fn adoption_moves_a_vm_to_its_new_owner_and_orphaning_takes_every_mark_off() {
    let sim = simulator().await;
    let cloud = client(&sim);
    let vm = cloud.create(&order()).await.unwrap();
    let heir = mark("web-1", OTHER_UID);
    for _ in 0..2 {
        cloud.mark(&vm.id, Some(&order().mark), &heir).await.unwrap();
        let adopted = cloud.get(&vm.id, Priority::Normal).await.unwrap().unwrap();
        assert_eq!(adopted.mark.as_ref(), Some(&heir));
    }
    assert!(cloud.find_by_owner(&order().mark, Priority::Normal).await.unwrap().vms.is_empty());
    for _ in 0..2 {
        cloud.unmark(&vm.id, &heir).await.unwrap();
    }
    let left = cloud.get(&vm.id, Priority::Normal).await.unwrap().unwrap();
    assert_eq!((left.mark, left.tags.as_slice()), (None, ["team:web".to_owned()].as_slice()));
    assert_eq!(refused(cloud.mark("1", None, &heir).await).0, code::NOT_FOUND);
}

#[tokio::test]
async fn a_429_keeps_every_further_call_at_home_for_as_long_as_the_api_says() {
    let sim = simulator().await;
    let cloud = client(&sim);
    cloud.account().await.unwrap();
    sim.digitalocean.set_settings(Weather { requests_per_minute: 1, ..Weather::immediate() });
    let OutsideError::RateLimited { after } = cloud.list_owned(&cluster()).await.unwrap_err() else { panic!() };
    assert!(after > Duration::from_secs(30) && after <= Duration::from_mins(1), "{after:?}");
    let before = sim.gate.journal.last();
    let OutsideError::RateLimited { after } = cloud.delete("1").await.unwrap_err() else { panic!() };
    assert!(after > Duration::from_secs(30) && after <= Duration::from_mins(1), "{after:?}");
    assert_eq!(calls(&sim, before), Vec::<String>::new());
}

#[tokio::test]
async fn an_id_that_is_no_number_never_becomes_part_of_a_url() {
    let sim = simulator().await;
    let cloud = client(&sim);
    for id in ["", "1/actions", "../account", "-1", "1?tag_name=x"] {
        assert_eq!(refused(cloud.delete(id).await).0, code::INVALID_ID, "{id}");
    }
    assert_eq!(calls(&sim, 0), Vec::<String>::new());
}
