//! Signing up, and exchanging a key.

use std::sync::atomic::Ordering;

use roadstead::gateway::{Settings, Signup};
use serde_json::{Value, json};

use crate::world::{Answer, World, settings};

async fn sign_up(world: &World, token: Option<&str>, email: &str) -> Answer {
    world.post("/api/users/create", token, &json!({"email": email})).await
}

async fn opens(world: &World, key: &str) -> bool {
    world.get("/api/groups", Some(key)).await.status == 200
}

async fn rotate(world: &World, key: &str, body: &Value) -> Answer {
    world.post("/api/keys/rotate", Some(key), body).await
}

#[tokio::test]
async fn one_e_mail_address_has_one_user_however_it_is_spelled() {
    let world = World::new().await;
    let key = world.key("user@example.com").await;
    for spelling in ["user@example.com", "User@Example.COM"] {
        let again = sign_up(&world, None, spelling).await;
        assert_eq!((again.status, &again.body["code"]), (409, &json!("EmailTaken")));
    }
    assert!(opens(&world, &key).await);
}

#[tokio::test]
async fn a_key_is_kept_as_a_hash_alone() {
    let world = World::new().await;
    let key = world.key("user@example.com").await;
    let kept = format!("{:?}", world.users.users.lock().unwrap());
    let secret = key.split('_').nth(2).unwrap();
    assert!(secret.len() == 52 && !kept.contains(secret), "{kept}");
}

#[tokio::test]
async fn after_an_exchange_both_keys_open_and_after_the_next_only_the_last_two() {
    let world = World::new().await;
    let first = world.key("user@example.com").await;
    let rotated = world.send(reqwest::Method::POST, "/api/keys/rotate", Some(&first), "").await;
    assert_eq!(rotated.status, 200, "{rotated:?}");
    assert_eq!(rotated.body["message"], "API key rotated. Store this API key securely!");
    let end: jiff::Timestamp = rotated.body["previousKeyExpiresAt"].as_str().unwrap().parse().unwrap();
    let hours = jiff::Timestamp::now().duration_until(end).as_hours();
    assert!((23..=24).contains(&hours), "{hours}");
    let second = rotated.body["apiKey"].as_str().unwrap().to_owned();
    assert!(opens(&world, &first).await && opens(&world, &second).await);

    let third =
        rotate(&world, &second, &json!({"overlapSeconds": 60})).await.body["apiKey"].as_str().unwrap().to_owned();
    assert!(!opens(&world, &first).await);
    assert!(opens(&world, &second).await && opens(&world, &third).await);

    // A key that leaked ends at once.
    let last = rotate(&world, &third, &json!({"overlapSeconds": 0})).await;
    assert_eq!(last.body["previousKeyExpiresAt"], Value::Null);
    for ended in [&second, &third] {
        assert!(!opens(&world, ended).await);
        assert_eq!(rotate(&world, ended, &json!({})).await.status, 401);
    }
    assert!(opens(&world, last.body["apiKey"].as_str().unwrap()).await);
}

#[tokio::test]
async fn an_exchange_overwrites_no_other_and_gives_up_when_others_never_end() {
    let world = World::new().await;
    let key = world.key("user@example.com").await;
    world.users.conflicts.store(2, Ordering::Relaxed);
    let rotated = rotate(&world, &key, &json!({})).await;
    assert_eq!(rotated.status, 200, "{rotated:?}");
    assert!(opens(&world, rotated.body["apiKey"].as_str().unwrap()).await);
    world.users.conflicts.store(1000, Ordering::Relaxed);
    let refused = rotate(&world, &key, &json!({})).await;
    assert_eq!((refused.status, &refused.headers["retry-after"]), (503, &"1".parse().unwrap()));
    assert!(opens(&world, &key).await);
}

#[tokio::test]
async fn a_thousand_requests_with_one_key_cost_one_look_up_and_go_on_through_an_outage() {
    let world = World::new().await;
    let key = world.key("user@example.com").await;
    let slug = world.group(&key).await;
    let before = world.users.looked_up.load(Ordering::Relaxed);
    for _ in 0..100 {
        assert_eq!(world.report(&key, &slug, "10.0.0.1", "healthy").await.status, 200);
    }
    assert_eq!(world.users.looked_up.load(Ordering::Relaxed), before);
    world.users.down.store(true, Ordering::Relaxed);
    assert_eq!(world.report(&key, &slug, "10.0.0.1", "healthy").await.status, 200);
    let refused = sign_up(&world, None, "new@example.com").await;
    assert_eq!((refused.status, &refused.body["code"]), (503, &json!("Unavailable")));
    assert_eq!(refused.headers["retry-after"], "5");
}

#[tokio::test]
async fn signing_up_needs_the_administrator_s_token_which_may_change_meanwhile() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("token");
    std::fs::write(&file, "let-me-in\n").unwrap();
    let world = World::with(Settings { signup: Signup::Token(Some(file.clone())), ..settings() }).await;
    for (token, status, code) in [
        (None, 401, "SignupTokenMissing"),
        (Some("let-me"), 401, "SignupTokenWrong"),
        (Some("let-me-in-"), 401, "SignupTokenWrong"),
    ] {
        let refused = sign_up(&world, token, "user@example.com").await;
        assert_eq!((refused.status, &refused.body["code"]), (status, &json!(code)));
        assert_eq!(refused.headers["www-authenticate"], "Bearer");
    }
    assert_eq!(sign_up(&world, Some("let-me-in"), "user@example.com").await.status, 201);

    std::fs::write(&file, "another").unwrap();
    assert_eq!(sign_up(&world, Some("let-me-in"), "b@example.com").await.status, 401);
    assert_eq!(sign_up(&world, Some("another"), "b@example.com").await.status, 201);

    // An empty token is none, and opens for nobody.
    std::fs::write(&file, " \n").unwrap();
    for token in [None, Some("x"), Some("another")] {
        let refused = sign_up(&world, token, "c@example.com").await;
        assert_eq!((refused.status, &refused.body["code"]), (503, &json!("SignupMisconfigured")));
    }
    assert_eq!(world.users.users.lock().unwrap().len(), 2);
}

#[tokio::test]
async fn closed_sign_up_lets_nobody_in_and_says_whom_to_ask() {
    for (signup, words) in [(Signup::Closed, "ask the administrator"), (Signup::Token(None), "sets a sign-up token")] {
        let world = World::with(Settings { signup, ..settings() }).await;
        for token in [None, Some(""), Some("x")] {
            let refused = sign_up(&world, token, "user@example.com").await;
            assert_eq!((refused.status, &refused.body["code"]), (403, &json!("SignupClosed")));
            assert!(refused.body["message"].as_str().unwrap().contains(words), "{refused:?}");
        }
    }
}
