//! Accounts of Kubernetes, which may report where the cluster lets them, and do nothing else.

use roadstead::gateway::ports::{Account, Caller};
use serde_json::json;

use crate::world::World;

const TOKEN: &str = "head.claims.signature";

fn account() -> Account {
    Account {
        name: "system:serviceaccount:shop:reporter".to_owned(),
        uid: "7".to_owned(),
        groups: vec!["system:serviceaccounts".to_owned()],
    }
}

#[tokio::test]
async fn an_account_of_kubernetes_reports_where_it_may_and_nowhere_else() {
    let world = World::new().await;
    let key = world.key("user@example.com").await;
    let (allowed, other) = (world.group(&key).await, world.group(&key).await);
    world.reviews.accounts.lock().unwrap().insert(TOKEN.to_owned(), account());
    world.reviews.allowed.lock().unwrap().insert((account().name, allowed.clone()));

    assert_eq!(world.report(TOKEN, &allowed, "10.0.0.1", "healthy").await.status, 200);
    assert_eq!(*world.groups.callers.lock().unwrap(), [Caller::ServiceAccount(account())]);
    let refused = world.report(TOKEN, &other, "10.0.0.1", "healthy").await;
    assert_eq!((refused.status, &refused.body["code"]), (403, &json!("NotAllowed")));
    assert!(refused.body["message"].as_str().unwrap().contains("verb `report`"));
    assert_eq!(world.report(TOKEN, "unknown", "10.0.0.1", "healthy").await.status, 404);
    let unknown = world.report("not.a.token", &allowed, "10.0.0.1", "healthy").await;
    assert_eq!((unknown.status, &unknown.body["code"]), (401, &json!("UnknownToken")));
    assert_eq!(world.groups.callers.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn an_account_of_kubernetes_may_do_nothing_but_report() {
    let world = World::new().await;
    let slug = world.group(&world.key("user@example.com").await).await;
    world.reviews.accounts.lock().unwrap().insert(TOKEN.to_owned(), account());
    world.reviews.allowed.lock().unwrap().insert((account().name, slug.clone()));
    for answer in [
        world.get("/api/groups", Some(TOKEN)).await,
        world.post("/api/groups", Some(TOKEN), &json!({"name": "a"})).await,
        world.get(&format!("/api/groups/{slug}/history"), Some(TOKEN)).await,
        world.delete(&format!("/api/groups/{slug}"), TOKEN).await,
        world.delete(&format!("/api/groups/{slug}/servers/10.0.0.1"), TOKEN).await,
        world.post("/api/keys/rotate", Some(TOKEN), &json!({})).await,
    ] {
        assert_eq!((answer.status, &answer.body["code"]), (403, &json!("NotAUser")), "{answer:?}");
    }
}
