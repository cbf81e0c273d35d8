//! Deploys that succeed.

use roadstead::host::app;
use roadstead::host::compose::strategy::{Asked, Kind};
use roadstead::host::deploy::app::PreDeploy;
use support::eventually;

use crate::host::{ROOT, SOON};
use crate::ready;
use crate::runner::{App, End, alone, file, spec};
use crate::visitors::Visitors;

#[tokio::test]
#[ignore = "boots container VMs, which need root: `make test-hosts`"]
async fn revisions_replace_each_other_unnoticed_and_removal_leaves_only_named_volumes() {
    let host = ready().await;
    let site = &host.site;
    let mut shop = App::new(&host, "shop");
    let compose = format!(
        "services:\n  web:\n    image: {site}\n    expose: ['8080']\n    configs: [{{source: motd, target: /motd}}]\n    \
         volumes: ['./conf:/conf:ro']\n    depends_on: [db]\n  db:\n    image: {site}\n    environment: {{ANSWER: db}}\n    \
         volumes: ['data:/data', './conf/db:/db.conf:ro']\nvolumes: {{data: {{}}}}\nconfigs: {{motd: {{file: ./motd}}}}\n"
    );
    let revision = |name: &str, conf: &str| {
        // What the host's root has in its environment is not what the app gets.
        let values =
            [("ANSWER", name), ("HOME", "/app"), ("LANG", "xx"), ("TOKEN", "pa$$ w\"o'rd\n2"), ("WHO", "db's")];
        let mut spec = spec(name, &compose, &values);
        spec.only = [("WHO".to_owned(), ["db".to_owned()].into())].into();
        let conf = [("conf/app", file(conf)), ("conf/db", file("for db")), ("motd", file(name))];
        spec.files = conf.map(|(path, bytes)| (path.to_owned(), bytes)).into();
        let command = ["sh", "-c", "echo before >>/tmp/log && cat /conf/app"].map(String::from).into();
        spec.pre_deploy = Some(PreDeploy { service: String::new(), command, timeout: 30 });
        spec
    };
    assert_eq!(shop.deploy(&revision("v1", "one")).await, End::Done, "{:#?}", shop.trace);
    assert_eq!(shop.text("/").await, "v1");
    assert_eq!(shop.text("/cgi-bin/show?HOME").await, "/app");
    assert_eq!(shop.text("/cgi-bin/show?LANG").await, "xx");
    assert_eq!(shop.text("/cgi-bin/show?TOKEN").await, "pa$$ w\"o'rd\n2");
    assert_eq!(shop.text("/cgi-bin/show?WHO").await, "");
    assert_eq!(
        (shop.text("/cgi-bin/show?/conf/app").await, shop.text("/cgi-bin/show?/motd").await),
        ("one".into(), "v1".into())
    );
    assert_eq!(shop.text("/cgi-bin/peer?db").await, "db");
    assert!(!shop.progress.is_empty());
    let db = host.root("docker ps --quiet --filter label=com.docker.compose.service=db").await;

    let visitors = Visitors::of(&host, &shop.domain);
    let session = host.session(ROOT).await.unwrap();
    shop.want(&session, &revision("v2", "two")).await.unwrap();
    assert_eq!(session.opened(), 3, "commands to prepare a revision");
    assert_eq!(shop.run(&session, None).await, End::Done);
    assert_eq!(shop.text("/").await, "v2");
    assert_eq!(shop.text("/cgi-bin/show?/conf/app").await, "two");
    assert_eq!(shop.containers().await, ["db  running", "web v2 running"]);
    // A rollback: the revision is there, and is not written again.
    let back = host.session(ROOT).await.unwrap();
    shop.want(&back, &revision("v1", "ignored")).await.unwrap();
    assert_eq!(back.opened(), 1, "commands to prepare a revision that is there");
    assert_eq!(shop.run(&back, None).await, End::Done);
    assert_eq!(shop.text("/cgi-bin/show?/conf/app").await, "one");
    // Revisions beyond the history go, but not the files that the database has been mounting since the first one.
    for name in ["v3", "v4", "v5"] {
        assert_eq!(shop.deploy(&revision(name, name)).await, End::Done);
    }
    let answers = visitors.leave().await;
    assert_eq!(answers.keys().map(String::as_str).collect::<Vec<_>>(), ["v1", "v2", "v3", "v4", "v5"], "{answers:?}");
    let kept = host.root(&format!("ls {}/revisions", shop.place.directory)).await;
    assert_eq!(kept.lines().collect::<Vec<_>>(), ["v1", "v3", "v4", "v5"]);
    assert_eq!(host.root("docker ps --quiet --filter label=com.docker.compose.service=db").await, db);
    // A file that the database mounts has changed: now it is made anew.
    let mut changed = revision("v6", "v6");
    changed.files.insert("conf/db".into(), file("changed"));
    assert_eq!(shop.deploy(&changed).await, End::Done);
    assert_ne!(host.root("docker ps --quiet --filter label=com.docker.compose.service=db").await, db);

    let digests = app::digests(&session, &shop.place, "v6").await.unwrap();
    let digest = site.split_once('@').unwrap().1.to_owned();
    assert_eq!(digests, [("db".to_owned(), digest.clone()), ("web".to_owned(), digest)].into());
    let secret =
        host.root(&format!("find {}/revisions -name variables.env -perm 600 | wc -l", shop.place.directory)).await;
    assert!(secret.parse::<u32>().unwrap() >= 3);
    let open = host.root(&format!("stat -c %a:%U {}", shop.place.directory)).await;
    assert_eq!(open, "700:root");

    assert_eq!(shop.remove().await, End::Gone);
    let volumes = app::volumes(&session, &shop.place).await.unwrap();
    assert_eq!(volumes, [format!("{}_data", shop.place.project)].into());
    let left = "docker ps --all --quiet --filter label=roadstead.app; docker network ls --quiet --filter label=roadstead.app; \
                docker network ls --quiet --filter label=com.docker.compose.project=shop-shop; ls -A /opt/roadstead/apps; \
                docker images --quiet --filter reference='*/roadstead/site'; docker volume ls --quiet | grep -v _data || true";
    assert_eq!(host.root(left).await, "");
    assert_eq!(shop.page("/").await.unwrap().0, 404);
}

#[tokio::test]
#[ignore = "boots container VMs, which need root: `make test-hosts`"]
async fn a_deploy_beside_the_old_one_needs_fewer_than_twenty_five_round_trips() {
    let host = ready().await;
    let mut shop = App::new(&host, "shop");
    let compose = alone(&host.site);
    assert_eq!(shop.deploy(&spec("v1", &compose, &[("ANSWER", "v1")])).await, End::Done);
    let session = host.session(ROOT).await.unwrap();
    shop.trace.clear();
    shop.want(&session, &spec("v2", &compose, &[("ANSWER", "v2")])).await.unwrap();
    assert_eq!(shop.run(&session, None).await, End::Done);
    let trips = session.opened();
    eprintln!("{trips} round trips:\n{}", shop.trace.join("\n"));
    assert!(trips < 25, "{trips} round trips:\n{}", shop.trace.join("\n"));
}

#[tokio::test]
#[ignore = "boots container VMs, which need root: `make test-hosts`"]
async fn an_entry_with_a_volume_is_replaced_with_its_data_and_comes_back_when_the_new_one_fails() {
    let host = ready().await;
    let mut shop = App::new(&host, "shop");
    let compose = format!(
        "services: {{web: {{image: '{}', expose: ['8080'], volumes: ['data:/data']}}}}\nvolumes: {{data: {{}}}}\n",
        host.site
    );
    let revision = |name: &str, more: &[(&str, &str)]| spec(name, &compose, &[&[("ANSWER", name)], more].concat());
    assert_eq!(shop.deploy(&revision("v1", &[])).await, End::Done);
    let strategy = &shop.prepared.as_ref().unwrap().strategy;
    assert!(strategy.kind == Kind::Recreate && strategy.message.contains("`data`"), "{strategy:?}");
    assert_eq!(shop.text("/cgi-bin/note").await, "1");
    assert_eq!(shop.deploy(&revision("v2", &[])).await, End::Done);
    assert_eq!((shop.text("/").await, shop.text("/cgi-bin/note").await), ("v2".into(), "2".into()));
    let end = shop.deploy(&revision("v3", &[("HEALTH", "500 Broken")])).await;
    assert!(matches!(&end, End::Stopped(why) if why.starts_with("Unhealthy/InternalHealth")), "{end:?}");
    assert_eq!((shop.text("/").await, shop.text("/cgi-bin/note").await), ("v2".into(), "3".into()));
    assert_eq!(shop.containers().await, ["web v2 running"]);
    // Two writers, by the app's own word.
    let mut shared = revision("v4", &[]);
    shared.strategy = Asked { kind: None, shared_volumes: true };
    let visitors = Visitors::of(&host, &shop.domain);
    assert_eq!(shop.deploy(&shared).await, End::Done);
    assert!(visitors.leave().await.contains_key("v4"));
    assert_eq!(shop.text("/cgi-bin/note").await, "4");
}

#[tokio::test]
#[ignore = "boots container VMs, which need root: `make test-hosts`"]
async fn two_apps_do_not_find_each_others_services_and_both_are_back_after_a_reboot() {
    let host = ready().await;
    let compose = format!(
        "services: {{web: {{image: '{0}', expose: ['8080']}}, {{db}}: {{image: '{0}', environment: {{ANSWER: {{answer}}}}, \
         restart: always}}}}",
        host.site
    );
    let compose = |db: &str, answer: &str| compose.replace("{db}", db).replace("{answer}", answer);
    let (mut one, mut two) = (App::new(&host, "one"), App::new(&host, "two"));
    assert_eq!(one.deploy(&spec("r1", &compose("db", "db-of-one"), &[("ANSWER", "one")])).await, End::Done);
    assert_eq!(two.deploy(&spec("r1", &compose("db", "db-of-two"), &[("ANSWER", "two")])).await, End::Done);
    for app in [&one, &two] {
        let name = app.domain.split('.').next().unwrap();
        assert_eq!((app.text("/").await, app.text("/cgi-bin/peer?db").await), (name.into(), format!("db-of-{name}")));
    }
    // Nor by another name, nor by address.
    let mut three = App::new(&host, "three");
    assert_eq!(three.deploy(&spec("r1", &compose("other", "other"), &[("ANSWER", "three")])).await, End::Done);
    let refused = three.text("/cgi-bin/peer?db").await;
    assert!(refused.contains("bad address"), "{refused}");
    let address = "docker inspect --format '{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}' shop-one-db-1";
    let address = host.root(address).await;
    let refused = three.text(&format!("/cgi-bin/peer?{address}")).await;
    assert!(!refused.contains("db-of-one"), "{refused}");

    host.reboot().await;
    for app in [&one, &two, &three] {
        let name = app.domain.split('.').next().unwrap();
        eventually(SOON, "the app after the reboot", async || match app.page("/").await {
            Ok((200, body)) if body == name => Ok(()),
            other => Err(format!("{other:?}")),
        })
        .await;
    }
    let session = host.session(ROOT).await.unwrap();
    one.trace.clear();
    assert_eq!(one.run(&session, None).await, End::Done);
    assert_eq!(one.trace, ["Done"], "nothing was left to be repaired");
}
