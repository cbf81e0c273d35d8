//! The way a user goes, with the paths, fields, words and status codes that clients rely on.

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::world::World;

/// The names of an object's fields, sorted.
fn fields(object: &Value) -> Vec<&str> {
    let mut names: Vec<&str> = object.as_object().unwrap().keys().map(String::as_str).collect();
    names.sort_unstable();
    names
}

fn is_recent(timestamp: &Value) {
    let at: Timestamp = timestamp.as_str().unwrap().parse().unwrap();
    assert!(at.duration_until(Timestamp::now()).as_secs() < 60, "{timestamp}");
}

fn is_uuid(id: &Value) {
    let parts: Vec<usize> = id.as_str().unwrap().split('-').map(str::len).collect();
    assert_eq!(parts, [8, 4, 4, 4, 12], "{id}");
}

#[tokio::test]
async fn set_up_sign_up_create_report_and_look_up_go_word_by_word() {
    let world = World::new().await;

    let setup = world.get("/setup", None).await;
    assert_eq!((setup.status, &setup.body), (200, &json!("Tables created successfully!")));

    let created = world.post("/api/users/create", None, &json!({"email": "user@example.com"})).await;
    assert_eq!(created.status, 201);
    assert_eq!(fields(&created.body), ["message", "user"]);
    assert_eq!(created.body["message"], "User created successfully. Store this API key securely!");
    let user = &created.body["user"];
    assert_eq!(fields(user), ["apiKey", "createdAt", "email", "id", "passwordHash"]);
    assert_eq!((&user["email"], &user["passwordHash"]), (&json!("user@example.com"), &json!("not-implemented")));
    is_uuid(&user["id"]);
    is_recent(&user["createdAt"]);
    assert_eq!(created.headers["cache-control"], "no-store");
    let key = user["apiKey"].as_str();

    let body = json!({"name": "My Web Servers", "strategy": "round-robin"});
    let group = world.post("/api/groups", key, &body).await;
    assert_eq!(group.status, 201);
    assert_eq!(fields(&group.body), ["createdAt", "groupSlug", "id", "name", "strategy", "userId"]);
    assert_eq!(
        (&group.body["name"], &group.body["strategy"], &group.body["userId"]),
        (&json!("My Web Servers"), &json!("round-robin"), &user["id"])
    );
    is_uuid(&group.body["id"]);
    is_recent(&group.body["createdAt"]);
    let slug = group.body["groupSlug"].as_str().unwrap();
    assert!(slug.starts_with("my-web-servers-"), "{slug}");

    let found = world.get(&format!("/dns/{slug}"), None).await;
    assert_eq!((found.status, found.body), (200, json!({"strategy": "round-robin", "servers": []})));

    for (address, status) in
        [("192.168.1.100", "healthy"), ("server1.example.com", "healthy"), ("10.0.0.9", "unhealthy")]
    {
        let reported = world.report(key.unwrap(), slug, address, status).await;
        let message = format!("Status for {address} reported as {status}. DNS record sync initiated.");
        assert_eq!((reported.status, reported.body), (200, json!({"message": message})));
    }

    let listed = world.get("/api/groups", key).await;
    assert_eq!(listed.status, 200);
    let of_list = &listed.body[0];
    assert_eq!(fields(of_list), ["createdAt", "groupSlug", "id", "name", "servers", "strategy", "userId"]);
    for field in fields(&group.body) {
        assert_eq!(of_list[field], group.body[field], "{field}");
    }
    let servers = of_list["servers"].as_array().unwrap();
    assert_eq!(servers.len(), 3);
    for server in servers {
        assert_eq!(fields(server), ["address", "createdAt", "groupId", "id", "lastHeartbeatAt", "status"]);
        assert_eq!(server["groupId"], group.body["id"]);
        is_recent(&server["lastHeartbeatAt"]);
        is_recent(&server["createdAt"]);
    }
    assert_eq!((&servers[0]["address"], &servers[0]["status"]), (&json!("192.168.1.100"), &json!("healthy")));
    assert_eq!((&servers[2]["address"], &servers[2]["status"]), (&json!("10.0.0.9"), &json!("unhealthy")));

    let found = world.get(&format!("/dns/{slug}"), None).await;
    let expected = json!({"strategy": "round-robin", "servers": ["192.168.1.100", "server1.example.com"]});
    assert_eq!((found.status, found.body), (200, expected));
    assert_eq!(world.get("/dns/unknown-000000", None).await.status, 404);
}

#[tokio::test]
async fn a_strategy_is_round_robin_unless_another_is_chosen() {
    let world = World::new().await;
    let key = world.key("user@example.com").await;
    for (body, strategy) in [
        (json!({"name": "a"}), "round-robin"),
        (json!({"name": "a", "strategy": null}), "round-robin"),
        (json!({"name": "a", "strategy": "random"}), "random"),
        (json!({"name": "a", "strategy": "failover"}), "failover"),
    ] {
        let group = world.post("/api/groups", Some(&key), &body).await;
        assert_eq!((group.status, &group.body["strategy"]), (201, &json!(strategy)));
        let found = world.get(&format!("/dns/{}", group.body["groupSlug"].as_str().unwrap()), None).await;
        assert_eq!(found.body["strategy"], strategy);
    }
}

#[tokio::test]
async fn an_address_is_reported_listed_and_removed_in_one_form() {
    let world = World::new().await;
    let key = world.key("user@example.com").await;
    let slug = world.group(&key).await;
    for spelling in ["2001:DB8:0::7", "2001:db8::7"] {
        let reported = world.report(&key, &slug, spelling, "healthy").await;
        assert_eq!(reported.body["message"], "Status for 2001:db8::7 reported as healthy. DNS record sync initiated.");
    }
    assert_eq!(world.get(&format!("/dns/{slug}"), None).await.body["servers"], json!(["2001:db8::7"]));
    let path = format!("/api/groups/{slug}/servers/2001:0db8::0007");
    assert_eq!(world.delete(&path, &key).await.status, 204);
    let again = world.delete(&path, &key).await;
    assert_eq!((again.status, &again.body["code"]), (404, &json!("ServerNotFound")));
    assert_eq!(world.delete(&format!("/api/groups/{slug}"), &key).await.status, 204);
    assert_eq!(world.delete(&format!("/api/groups/{slug}"), &key).await.status, 404);
    assert_eq!(world.get("/api/groups", Some(&key)).await.body, json!([]));
}

#[tokio::test]
async fn the_history_shows_every_report_newest_first_page_by_page() {
    let world = World::new().await;
    let key = world.key("user@example.com").await;
    let slug = world.group(&key).await;
    for number in 0..5 {
        let status = if number % 2 == 0 { "healthy" } else { "unhealthy" };
        let body =
            json!({"groupSlug": slug, "address": "10.0.0.1", "status": status, "details": format!("load {number}")});
        assert_eq!(world.post("/api/report", Some(&key), &body).await.status, 200);
    }
    // What was refused was not found out.
    assert_eq!(world.report(&key, &slug, "not an address", "healthy").await.status, 400);
    let first = world.get(&format!("/api/groups/{slug}/history?limit=3"), Some(&key)).await;
    assert_eq!(first.status, 200);
    let next = first.body["next"].as_i64().unwrap();
    let second = world.get(&format!("/api/groups/{slug}/history?limit=3&before={next}"), Some(&key)).await;
    assert_eq!(second.body["next"], Value::Null);
    let entries: Vec<&Value> =
        [&first, &second].iter().flat_map(|page| page.body["entries"].as_array().unwrap()).collect();
    let details: Vec<&Value> = entries.iter().map(|entry| &entry["details"]).collect();
    assert_eq!(details, ["load 4", "load 3", "load 2", "load 1", "load 0"]);
    assert_eq!(fields(entries[0]), ["address", "checkedAt", "details", "source", "status"]);
    assert_eq!(
        (&entries[1]["status"], &entries[1]["source"], &entries[1]["address"]),
        (&json!("unhealthy"), &json!("report"), &json!("10.0.0.1"))
    );
    is_recent(&entries[0]["checkedAt"]);
}

#[tokio::test]
async fn two_users_cannot_see_or_touch_each_other_s_groups() {
    let world = World::new().await;
    let (mine, other) = (world.key("a@example.com").await, world.key("b@example.com").await);
    let slug = world.group(&mine).await;
    assert_eq!(world.report(&mine, &slug, "10.0.0.1", "healthy").await.status, 200);

    assert_eq!(world.get("/api/groups", Some(&other)).await.body, json!([]));
    for answer in [
        world.report(&other, &slug, "10.0.0.1", "unhealthy").await,
        world.report(&other, &slug, "10.0.0.2", "healthy").await,
        world.get(&format!("/api/groups/{slug}/history"), Some(&other)).await,
        world.delete(&format!("/api/groups/{slug}/servers/10.0.0.1"), &other).await,
        world.delete(&format!("/api/groups/{slug}"), &other).await,
    ] {
        // Another's group looks like one that does not exist.
        assert_eq!((answer.status, &answer.body["code"]), (404, &json!("GroupNotFound")), "{answer:?}");
    }
    assert_eq!(world.get(&format!("/dns/{slug}"), None).await.body["servers"], json!(["10.0.0.1"]));
    let history = world.get(&format!("/api/groups/{slug}/history"), Some(&mine)).await;
    assert_eq!(history.body["entries"].as_array().unwrap().len(), 1);
}
