//! What becomes of Caddy's configuration.

use http::Request;
use roadstead::host::caddy::{AccessLog, Config, NotTaken, Settings};
use roadstead::host::table::Route;
use serde_json::Value;
use support::eventually;

use crate::rig::{App, Host, SOON, table, upstream};

#[tokio::test]
async fn a_configuration_that_caddy_refuses_leaves_the_last_good_one() {
    let app = App::start("v1").await;
    let host = Host::start(&table([("app.test", upstream(app.port))])).await;
    let mut open = host.visit("app.test").await;
    assert_eq!(open.get("/").await.unwrap().said(), (200, "v1"));
    let file = Some(AccessLog { file: "/proc/none/access.log".to_owned(), megabytes: 1, keep: 1, keep_days: 1 });
    let refused = host.push(&Config::new(&Settings { access_log: file, ..host.settings.clone() })).await.unwrap_err();
    assert!(matches!(&refused, NotTaken::Refused(said) if said.contains("/proc/none")), "{refused}");
    assert_eq!(host.get("app.test", "/").await.said(), (200, "v1"));
    // What is there is still ours: nothing has to be sent, and no connection is lost.
    assert_eq!(host.push(&host.config()).await, Ok(()));
    assert_eq!(open.get("/").await.unwrap().said(), (200, "v1"));
}

#[tokio::test]
async fn caddy_keeps_its_configuration_over_a_restart_and_is_given_it_again_when_it_comes_up_empty() {
    let app = App::start("v1").await;
    let mut host = Host::start(&table([("app.test", upstream(app.port))])).await;
    assert_eq!(host.get("app.test", "/").await.said(), (200, "v1"));
    host.caddy.end("KILL").await;
    host.restart_caddy().await;
    let served = async || host.admin(Request::get("/config/").body(String::new()).unwrap()).await.body;
    let same: Value = serde_json::from_str(&served().await).unwrap();
    assert_eq!(same, serde_json::from_str::<Value>(&host.config().json()).unwrap());
    assert_eq!(host.get("app.test", "/").await.said(), (200, "v1"));

    host.caddy.end("TERM").await;
    std::fs::remove_dir_all(host.directory.path().join("config")).unwrap();
    host.restart_caddy().await;
    let served = async || host.admin(Request::get("/config/").body(String::new()).unwrap()).await.body;
    assert_eq!(serde_json::from_str::<Value>(&served().await).unwrap().get("apps"), None);
    host.push(&host.config()).await.unwrap();
    assert_eq!(host.get("app.test", "/").await.said(), (200, "v1"));
}

#[tokio::test]
async fn a_foreign_configuration_is_replaced_unless_somebody_changes_it_meanwhile() {
    let host = Host::start(&table([("app.test", Route::Maintenance)])).await;
    let foreign = |port: u16| {
        let admin = Config::bootstrap(&host.settings).json();
        let admin = admin.strip_suffix('}').unwrap();
        format!("{admin},\"apps\":{{\"http\":{{\"http_port\":{port}}}}}}}")
    };
    let post = |path: &str, text: String| {
        let request = Request::post(path).header("content-type", "application/json").body(text).unwrap();
        async { assert_eq!(host.admin(request).await.status, 200) }
    };
    post("/load", foreign(8081)).await;
    let seen = host.admin(Request::get("/config/").body(String::new()).unwrap()).await;
    post("/load", foreign(8082)).await;
    let step = host.config().next(seen.body.as_bytes(), Some(seen.header("etag")));
    let (path, headers) = step.request().unwrap();
    let mut request = Request::post(path);
    for (name, value) in headers {
        request = request.header(name, value);
    }
    assert_eq!(host.admin(request.body(host.config().json()).unwrap()).await.status, 412);
    host.push(&host.config()).await.unwrap();
    assert_eq!(host.get("app.test", "/").await.status, 503);
}

#[tokio::test]
async fn each_visit_is_a_line_of_json_in_the_log_without_what_is_secret() {
    let app = App::start("v1").await;
    let host = Host::start(&table([("app.test", upstream(app.port))])).await;
    let request = Request::get("/page").header("cookie", "session=secret").body(String::new()).unwrap();
    host.visit("app.test").await.send(request).await.unwrap();
    let file = host.directory.path().join("access.log");
    let line = eventually(SOON, "the visit to be logged", async || {
        let text = std::fs::read_to_string(&file).unwrap_or_default();
        text.lines().find(|line| line.contains("/page")).map(str::to_owned).ok_or(text)
    })
    .await;
    let logged: Value = serde_json::from_str(&line).unwrap();
    assert_eq!((&logged["status"], &logged["request"]["host"]), (&200.into(), &"app.test".into()));
    assert!(!line.contains("secret"), "{line}");
    assert!(!host.caddy.log().contains("/page"), "it is in one log only");
}
