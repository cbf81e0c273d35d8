use std::collections::BTreeSet;

use proptest::prelude::*;

use super::super::facts::{Directory, Listener, Published};
use super::super::wanted::{COMPOSE, Certificates, Images, Packages};
use super::*;
use crate::api::names::ClusterId;
use crate::host::table::{Node, Route, Table};

const UID: &str = "6f1f64a5-5d1c-4c35-9d6e-1f0c9b1e2a3b";

fn mark(namespace: &str, uid: &str) -> Mark {
    Mark::new(ClusterId::parse("test1").unwrap(), "Node", namespace, "web-1", uid).unwrap()
}

fn table(host: &str) -> Table {
    let node = Node { nonce: "0123456789abcdef".into(), health_path: "/".into() };
    Table::new(node, [(host, Route::Placeholder)]).unwrap()
}

fn wanted() -> Wanted {
    let image = |name: &str, digit: &str| format!("registry.example/{name}@sha256:{}", digit.repeat(64));
    Wanted {
        mark: mark("shop", UID),
        adopt: None,
        images: Images { caddy: image("caddy", "a"), router: image("roadstead", "b") },
        table: table("web-1.example"),
        certificates: Certificates::Internal,
        edge: "10.89.0.0/24".parse().unwrap(),
        packages: Packages::default(),
    }
}

fn observed(facts: Facts) -> Observed {
    Observed { reading: Reading::Facts(Box::new(facts)), config: None, tables: [None, None] }
}

/// A host as it comes from its image.
fn fresh() -> Observed {
    observed(Facts {
        system: ("debian".to_owned(), "12".to_owned()),
        systemd: true,
        group: "deploy".to_owned(),
        ..Facts::default()
    })
}

fn facts(observed: &mut Observed) -> &mut Facts {
    match &mut observed.reading {
        Reading::Facts(facts) => facts,
        Reading::Unprivileged(said) => panic!("{said}"),
    }
}

/// What a step does to a host, as far as a plan can see.
fn take(wanted: &Wanted, host: &mut Observed, step: &Step) {
    let etag = Some("\"/config/ 1\"".to_owned());
    let Observed { reading: Reading::Facts(facts), config, tables } = host else { panic!("{host:?}") };
    match step {
        Step::Claim { .. } => facts.owner = Some(wanted.mark.comment()),
        Step::Install { engine } => {
            facts.engine |= engine;
            facts.compose = Some("v2.40.3".to_owned());
        }
        Step::StartDocker => {
            facts.enabled = true;
            facts.answers = Some("28.0.0".to_owned());
        }
        Step::Directories(file) => {
            facts.keep(file);
            for (path, mode, group) in Wanted::directories(&facts.group) {
                let owner = format!("root:{group}");
                facts.directories.insert(path.to_owned(), Directory { mode, owner });
            }
        }
        Step::Write(file) => {
            facts.keep(file);
            if file.path == TABLE {
                // A router that answers reads it; one that does not goes on not to.
                tables.iter_mut().flatten().for_each(|hash| *hash = wanted.table.hash());
            }
        }
        Step::Pull(image) => drop(facts.images.insert(image.clone())),
        Step::Network => {
            // Another one than any before.
            let networks = facts.containers.values().flat_map(|container| &container.networks);
            let longest = networks.max_by_key(|network| network.len()).map_or("edge", String::as_str);
            facts.edge = Some(format!("{longest}'"));
        }
        Step::Start { service, anew } => {
            let old = facts.containers.get(service).filter(|_| !anew);
            let container = Container {
                state: "running".to_owned(),
                definition: wanted.definition(*service).1,
                networks: old.map_or_else(|| facts.edge.iter().cloned().collect(), |old| old.networks.clone()),
                said: String::new(),
            };
            facts.containers.insert(*service, container);
            match service {
                Service::Router1 => tables[0] = Some(wanted.table.hash()),
                Service::Router2 => tables[1] = Some(wanted.table.hash()),
                Service::Caddy => *config = Some(Served { body: br#"{"admin":{}}"#.to_vec(), etag }),
            }
        }
        Step::Settle { service: Service::Router1 } => tables[0] = Some(wanted.table.hash()),
        Step::Settle { service: Service::Router2 } => tables[1] = Some(wanted.table.hash()),
        Step::Settle { service: Service::Caddy } => *config = Some(Served { body: b"null".to_vec(), etag }),
        Step::Configure(_) => *config = Some(Served { body: wanted.config().json().into_bytes(), etag }),
        Step::Finish => facts.finished = Some(wanted.digest()),
    }
}

/// Follows the plan to its end, which has to come.
fn follow(wanted: &Wanted, host: &mut Observed) -> Vec<Act> {
    let mut taken = Vec::new();
    loop {
        match plan(wanted, host) {
            Next::Done => return taken,
            Next::Refuse(refusal) => panic!("{refusal}"),
            Next::Act(act) => {
                assert!(!taken.contains(&act), "{act} did not help");
                let mut noted = host.clone();
                let whole = noted.note(&act.step);
                take(wanted, host, &act.step);
                assert!(!whole || noted == *host, "{act} did another thing than is noted of it: {noted:?}");
                taken.push(act);
            }
        }
    }
}

fn bootstrapped() -> Observed {
    let mut host = fresh();
    follow(&wanted(), &mut host);
    host
}

fn said(acts: &[Act]) -> Vec<String> {
    acts.iter().map(ToString::to_string).collect()
}

#[test]
fn a_fresh_host_is_set_up_from_the_ground_up_and_then_left_alone() {
    let wanted = wanted();
    let mut host = fresh();
    let acts = follow(&wanted, &mut host);
    let steps: Vec<_> = acts.iter().map(|act| act.step.to_string()).collect();
    let expected = [
        "claim the host",
        "install Docker Engine and the Compose plugin",
        "start Docker",
        "make the directories",
        "write /opt/roadstead/caddy/compose.yaml",
        "write /opt/roadstead/caddy/etc/bootstrap.json",
        "write /opt/roadstead/router/table.json",
        &format!("pull {}", wanted.images.caddy),
        &format!("pull {}", wanted.images.router),
        "make the network edge",
        "start router-1",
        "start router-2",
        "start caddy",
        "give Caddy its configuration",
        "note that everything is in place",
    ];
    assert_eq!(steps, expected);
    assert!(acts.iter().all(|act| act.cause == Cause::Setup));
    assert_eq!(plan(&wanted, &host), Next::Done);
}

#[test]
fn what_can_only_have_one_outcome_needs_no_look_after_it() {
    let wanted = wanted();
    let mut host = fresh();
    let acts = follow(&wanted, &mut host);
    let known = acts.iter().filter(|act| fresh().note(&act.step)).count();
    assert_eq!((known, acts.len()), (6, 15), "directories, files and images");
    // Who serves a table has to read the new one first.
    let table = Step::Write(wanted.files().pop().unwrap());
    assert!(fresh().note(&table) && !host.note(&table), "{table}");
}

#[test]
fn a_host_that_has_docker_lacks_only_compose() {
    let mut host = fresh();
    facts(&mut host).engine = true;
    let steps: Vec<_> = follow(&wanted(), &mut host).into_iter().map(|act| act.step).collect();
    assert_eq!(steps[1], Step::Install { engine: false });
}

/// What a person may do to a host, and what is said of its repair.
type Drift = (fn(&mut Observed), &'static [&'static str]);

const DRIFTS: [Drift; 12] = [
    (
        |host| {
            facts(host).containers.get_mut(&Service::Caddy).into_iter().for_each(|it| it.state = "exited".to_owned());
        },
        &["repair: start caddy (the container of caddy is exited: )"],
    ),
    (
        |host| drop(facts(host).containers.remove(&Service::Router2)),
        &["repair: start router-2 (router-2 has no container)"],
    ),
    (
        |host| {
            facts(host).containers.get_mut(&Service::Router1).into_iter().for_each(|it| it.state = "paused".to_owned());
        },
        &["repair: make the container of router-1 anew (the container of router-1 is paused: )"],
    ),
    (
        |host| facts(host).files.get_mut(COMPOSE).into_iter().for_each(|it| it.sha256.clear()),
        &["repair: write /opt/roadstead/caddy/compose.yaml (/opt/roadstead/caddy/compose.yaml has another content)"],
    ),
    (
        |host| drop(facts(host).files.remove(TABLE)),
        &["repair: write /opt/roadstead/router/table.json (/opt/roadstead/router/table.json is missing)"],
    ),
    (
        |host| facts(host).edge = None,
        &[
            "repair: make the network edge (the network edge is missing)",
            "repair: make the container of caddy anew (the container of caddy is not in the network edge)",
        ],
    ),
    (
        |host| facts(host).directories.get_mut("/run/roadstead/caddy").into_iter().for_each(|it| it.mode = 0o755),
        &["repair: make the directories (/run/roadstead/caddy is of root:deploy with mode 755)"],
    ),
    (
        |host| facts(host).images.clear(),
        &["(the image registry.example/caddy@", "(the image registry.example/roadstead@"],
    ),
    (|host| facts(host).answers = None, &["repair: start Docker (Docker does not run)"]),
    (|host| facts(host).enabled = false, &["repair: start Docker (Docker is not started at boot)"]),
    (
        |host| host.config = Some(Served { body: br#"{"apps":{}}"#.to_vec(), etag: Some("\"/config/ 2\"".to_owned()) }),
        &["repair: give Caddy its configuration (Caddy has another configuration)"],
    ),
    (
        |host| host.tables[1] = None,
        &["repair: see that router-2 answers (router-2 does not answer, or has not read /opt/"],
    ),
];

#[test]
fn each_drift_is_repaired_and_said_and_nothing_else_is_done() {
    for (drift, expected) in DRIFTS {
        let mut host = bootstrapped();
        drift(&mut host);
        let acts = said(&follow(&wanted(), &mut host));
        let asked: Vec<_> = acts.iter().filter(|act| !act.contains("give Caddy") || acts.len() == 1).collect();
        assert_eq!(asked.len(), expected.len(), "{acts:?}");
        for (act, expected) in asked.iter().zip(expected) {
            assert!(act.contains(expected), "{act}, not {expected}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn whatever_was_undone_and_however_far_a_run_came_the_plan_ends_in_done(
        drifts in proptest::collection::vec(0..DRIFTS.len(), 0..6),
        cut in 0_usize..16,
    ) {
        let wanted = wanted();
        let mut host = bootstrapped();
        for drift in drifts {
            DRIFTS[drift].0(&mut host);
        }
        follow(&wanted, &mut host);
        prop_assert_eq!(plan(&wanted, &host), Next::Done);

        // Cut after some steps, looked at by a process that knows nothing of them.
        let mut host = fresh();
        for _ in 0..cut {
            if let Next::Act(act) = plan(&wanted, &host) {
                take(&wanted, &mut host, &act.step);
            }
        }
        let left = follow(&wanted, &mut host);
        prop_assert_eq!(left.len(), 15_usize.saturating_sub(cut));
        prop_assert_eq!(plan(&wanted, &host), Next::Done);
    }
}

#[test]
fn other_images_are_a_change_and_the_routers_are_made_anew_one_after_the_other() {
    let mut host = bootstrapped();
    let mut other = wanted();
    other.images.router = other.images.router.replace('b', "c");
    let acts = follow(&other, &mut host);
    assert!(acts.iter().all(|act| act.cause == Cause::Change), "{acts:?}");
    let anew: Vec<_> = acts
        .iter()
        .filter_map(|act| if let Step::Start { service, .. } = act.step { Some(service) } else { None })
        .collect();
    assert_eq!(anew, [Service::Router1, Service::Router2], "Caddy's own definition is as it was");
    assert_eq!(acts.last().unwrap().step, Step::Finish);
}

#[test]
fn a_router_is_not_made_anew_while_the_other_does_not_answer() {
    let mut host = bootstrapped();
    let mut other = wanted();
    other.images.router = other.images.router.replace('b', "c");
    while let Next::Act(act) = plan(&other, &host) {
        take(&other, &mut host, &act.step);
        if matches!(act.step, Step::Start { service: Service::Router1, .. }) {
            break;
        }
    }
    host.tables[0] = None;
    let Next::Act(act) = plan(&other, &host) else { panic!() };
    assert_eq!(act.step, Step::Settle { service: Service::Router1 });
}

#[test]
fn another_table_is_one_write_and_the_containers_stay() {
    let mut host = bootstrapped();
    let other = Wanted { table: table("shop.example"), ..wanted() };
    let steps: Vec<_> = follow(&other, &mut host).into_iter().map(|act| act.step.to_string()).collect();
    assert_eq!(steps, ["write /opt/roadstead/router/table.json"]);
}

#[test]
fn what_must_not_be_touched_is_refused_before_anything_is_done() {
    let stranger = mark("other", "11111111-2222-3333-4444-555555555555");
    let namesake = mark("shop", "11111111-2222-3333-4444-555555555555");
    let listener = |port, pid, process: &str| Listener { port, pid, process: process.to_owned() };
    let container = |project: &str| Published { port: 443, name: "shop-web-1".to_owned(), project: project.to_owned() };
    for (facts, expected) in [
        (
            Facts { system: ("debian".into(), "11".into()), ..Facts::default() },
            "the host runs debian 11 without systemd,",
        ),
        (
            Facts { system: ("alpine".into(), "3.20".into()), systemd: true, ..Facts::default() },
            "the host runs alpine 3.20,",
        ),
        (Facts { owner: Some(stranger.comment()), ..Facts::default() }, "belongs to another Node"),
        (Facts { owner: Some("me".to_owned()), ..Facts::default() }, "says `me`"),
        (
            Facts { owner: Some(namesake.comment()), ..Facts::default() },
            "belongs to an earlier Node of this name (cluster test1)",
        ),
        (
            Facts { listeners: [listener(80, Some(812), "nginx")].into(), ..Facts::default() },
            "port 80 is in use by the process nginx (812)",
        ),
        (Facts { listeners: [listener(443, None, "")].into(), ..Facts::default() }, "by a process that cannot be seen"),
        (
            Facts { published: [container("shop")].into(), answers: Some("28".to_owned()), ..Facts::default() },
            "port 443 is in use by the container shop-web-1",
        ),
        (
            Facts {
                listeners: [listener(80, Some(9), "docker-proxy")].into(),
                answers: Some("28".into()),
                ..Facts::default()
            },
            "by the process docker-proxy (9)",
        ),
    ] {
        let system =
            if facts.system.0.is_empty() { ("ubuntu".to_owned(), "24.04".to_owned()) } else { facts.system.clone() };
        let systemd = facts.systemd || system.0 == "ubuntu";
        let Next::Refuse(refusal) = plan(&wanted(), &observed(Facts { system, systemd, ..facts })) else {
            panic!("not refused: {expected}")
        };
        assert!(refusal.to_string().contains(expected), "{refusal}, not {expected}");
    }
    let unprivileged =
        Observed { reading: Reading::Unprivileged("sudo: a password is required".to_owned()), ..fresh() };
    let Next::Refuse(refusal) = plan(&wanted(), &unprivileged) else { panic!() };
    assert!(refusal.to_string().contains("sudo: a password is required"), "{refusal}");
}

#[test]
fn our_own_caddy_is_not_in_its_own_way() {
    let mut host = bootstrapped();
    let ports: BTreeSet<u16> = [80, 443].into();
    facts(&mut host).listeners =
        ports.iter().map(|port| Listener { port: *port, pid: Some(7), process: "docker-proxy".to_owned() }).collect();
    let ours = |port: &u16| Published { port: *port, name: "roadstead-caddy-caddy-1".into(), project: PROJECT.into() };
    facts(&mut host).published = ports.iter().map(ours).collect();
    assert_eq!(plan(&wanted(), &host), Next::Done);
    // A silent engine cannot say whose they are.
    facts(&mut host).published.clear();
    facts(&mut host).answers = None;
    assert!(matches!(plan(&wanted(), &host), Next::Act(Act { step: Step::StartDocker, .. })));
}

#[test]
fn a_host_is_taken_over_from_a_namesake_by_a_person_s_word_only() {
    let earlier = mark("shop", "11111111-2222-3333-4444-555555555555");
    let mut host = bootstrapped();
    facts(&mut host).owner = Some(earlier.comment());
    let Next::Refuse(Refusal::AdoptionRequired { owner, .. }) = plan(&wanted(), &host) else { panic!() };
    let adopting = Wanted { adopt: Some(owner), ..wanted() };
    assert_eq!(follow(&adopting, &mut host)[0].step, Step::Claim { over: true });
    assert_eq!(facts(&mut host).owner, Some(wanted().mark.comment()));
    facts(&mut host).owner = Some(mark("other", UID).comment().replace("c=test1", "c=test2"));
    assert!(matches!(plan(&adopting, &host), Next::Refuse(Refusal::OtherOwner { .. })));
}

#[test]
fn images_are_pinned_and_packages_come_over_https() {
    assert_eq!(wanted().check(), Ok(()));
    for image in ["caddy:2", "caddy@sha256:abc", "", "$X@sha256:", "-v@sha256:"] {
        let digest = if image.ends_with(':') { "a".repeat(64) } else { String::new() };
        let mut wanted = wanted();
        wanted.images.caddy = format!("{image}{digest}");
        assert!(wanted.check().unwrap_err().to_string().contains("is not pinned"), "{image}");
    }
    let plain = Packages { repository: "http://packages.example".to_owned(), ..Packages::default() };
    assert!(Wanted { packages: plain, ..wanted() }.check().is_err());
    let unsigned = Packages { key: String::new(), ..Packages::default() };
    assert!(Wanted { packages: unsigned, ..wanted() }.check().is_err());
}

#[test]
fn other_roots_are_another_configuration_of_caddy() {
    let with = |roots: &str| Wanted {
        certificates: Certificates::Acme {
            directory: "https://acme.example/dir".to_owned(),
            email: None,
            roots: Some(roots.to_owned()),
        },
        ..wanted()
    };
    assert_ne!(with("one").config().hash(), with("other").config().hash());
    assert_ne!(with("one").digest(), with("other").digest());
    let paths: Vec<_> = with("one").files().into_iter().map(|file| file.path).collect();
    assert!(paths.iter().any(|path| path.starts_with("/opt/roadstead/caddy/etc/acme-roots-")), "{paths:?}");
}
