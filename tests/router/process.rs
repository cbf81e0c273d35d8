//! The router by itself: its socket, its beginning and end, and its size.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use roadstead::host::table::Route;

use crate::client::Connection;
use crate::rig::{Router, replace, table, upstream};

#[tokio::test]
async fn a_router_without_a_table_answers_503_until_there_is_one() {
    let directory = tempfile::tempdir().unwrap();
    let router = Router::start(directory.path(), "one", &[]).await;
    assert_eq!(router.lookup("app.test").await.said(), (503, "Service Unavailable - VM not responding"));
    assert_eq!(router.ask("/ask?domain=app.test").await.unwrap().status, 503);
    assert_eq!(router.series("roadstead_router_table_refused").await, 1);
    let table = table([("app.test", upstream(8080))]);
    replace(&directory.path().join("table.json"), &table.json());
    router.serves(&table).await;
    let answer = router.lookup("app.test").await;
    assert_eq!((answer.status, answer.header("x-upstream")), (204, "127.0.0.1:8080"));
    for (domain, status) in [("app.test", 200), ("APP.test.", 200), ("other.test", 404)] {
        assert_eq!(router.ask(&format!("/ask?domain={domain}")).await.unwrap().status, status, "{domain}");
    }
}

#[tokio::test]
async fn the_socket_has_the_mode_that_was_asked_for_and_is_taken_from_nobody_who_lives() {
    let directory = tempfile::tempdir().unwrap();
    replace(&directory.path().join("table.json"), &table([("app.test", Route::Maintenance)]).json());
    let mut router = Router::start(directory.path(), "one", &["--socket-mode", "0606"]).await;
    let mode = || std::fs::metadata(directory.path().join("one.sock")).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(), 0o606);
    let listen = format!("unix:{}", router.socket.display());
    let table = directory.path().join("table.json");
    let arguments = ["router", "--table", table.to_str().unwrap(), "--listen", &listen];
    let second = Command::new(env!("CARGO_BIN_EXE_roadstead")).args(arguments).output().unwrap();
    assert!(!second.status.success());
    assert!(String::from_utf8_lossy(&second.stderr).contains("another process serves it"));
    assert_eq!(router.lookup("app.test").await.status, 503);
    router.program.end("KILL").await;
    assert!(router.socket.exists());
    let router = Router::start(directory.path(), "one", &[]).await;
    assert_eq!((router.lookup("app.test").await.status, mode()), (503, 0o660));
}

#[tokio::test]
async fn told_to_stop_it_ends_with_success_though_connections_are_open() {
    let directory = tempfile::tempdir().unwrap();
    replace(&directory.path().join("table.json"), &table([("app.test", Route::Maintenance)]).json());
    let mut router = Router::start(directory.path(), "one", &["--listen", "tcp:127.0.0.1:0"]).await;
    let mut open = Connection::unix(&router.socket, "app.test").await.unwrap();
    assert_eq!(open.get("/lookup").await.unwrap().status, 503);
    assert_eq!(router.program.end("TERM").await, Some(0));
    assert!(open.get("/lookup").await.is_err());
    assert!(!router.program.log().contains("requests in hand"), "{}", router.program.log());
}

#[tokio::test]
async fn ten_thousand_names_and_ten_tables_of_them_take_less_than_12_mb() {
    let directory = tempfile::tempdir().unwrap();
    let many =
        |port: u16| {
            let names: Vec<String> = (0..10_000).map(|n| format!("site-{n}.tenants.example.com")).collect();
            table(names.iter().map(|name| {
                (name.as_str(), Route::Upstream { alias: name.replace('.', "-").into(), port, peer: None })
            }))
        };
    let router = Router::start(directory.path(), "one", &[]).await;
    for port in 1..=10 {
        let table = many(port);
        replace(&directory.path().join("table.json"), &table.json());
        router.serves(&table).await;
    }
    assert_eq!(
        router.lookup("site-9999.tenants.example.com").await.header("x-upstream"),
        "site-9999-tenants-example-com:10"
    );
    let status = Path::new("/proc").join(router.program.pid.to_string()).join("status");
    let status = std::fs::read_to_string(status).unwrap();
    let own = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    // Without the pages of the program's file, which are many times those of an optimised one.
    let own: u64 = own.split_whitespace().next().unwrap().parse().unwrap();
    assert!(own < 12_000, "{own} KB of its own");
}
