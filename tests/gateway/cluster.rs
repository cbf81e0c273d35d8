//! Users and reviews against a real API server, with the rights they need and no more.

use std::sync::Arc;

use jiff::Timestamp;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use roadstead::gateway::keys::{ApiKey, StoredKey, handle_of, uuid};
use roadstead::gateway::ports::{ChangeError, GroupRef, Reviews, SignupError, User, UserId, Users};
use roadstead::gateway::{KubeReviews, SecretUsers};
use support::ControlPlane;

/// A ServiceAccount `gateway` that may do what the gateway has to, and one `reporter` that may report to one group.
fn manifests(namespace: &str) -> String {
    format!(
        "
apiVersion: v1
kind: ServiceAccount
metadata: {{name: gateway, namespace: {namespace}}}
---
apiVersion: v1
kind: ServiceAccount
metadata: {{name: reporter, namespace: {namespace}}}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {{name: gateway, namespace: {namespace}}}
rules: [{{apiGroups: [''], resources: [secrets], verbs: [get, create, patch]}}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {{name: gateway, namespace: {namespace}}}
roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: Role, name: gateway}}
subjects: [{{kind: ServiceAccount, name: gateway, namespace: {namespace}}}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {{name: {namespace}-gateway}}
rules:
  - {{apiGroups: [authentication.k8s.io], resources: [tokenreviews], verbs: [create]}}
  - {{apiGroups: [authorization.k8s.io], resources: [subjectaccessreviews], verbs: [create]}}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {{name: {namespace}-gateway}}
roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: {namespace}-gateway}}
subjects: [{{kind: ServiceAccount, name: gateway, namespace: {namespace}}}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {{name: reporter, namespace: {namespace}}}
rules: [{{apiGroups: [roadstead.dev], resources: [servergroups], resourceNames: [web], verbs: [report]}}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {{name: reporter, namespace: {namespace}}}
roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: Role, name: reporter}}
subjects: [{{kind: ServiceAccount, name: reporter, namespace: {namespace}}}]
"
    )
}

fn user(email: &str, byte: u8) -> User {
    let handle = handle_of(email);
    let key = ApiKey::new(&handle, &[byte; 32]);
    User {
        handle,
        id: UserId::parse(&uuid([byte; 16])).unwrap(),
        email: email.to_owned(),
        created_at: Timestamp::now(),
        keys: vec![StoredKey { sha256: key.hash(), created_at: Timestamp::now(), expires_at: None }],
        version: String::new(),
    }
}

/// A client with the rights of the gateway alone.
async fn gateway(control_plane: &ControlPlane, namespace: &str) -> Client {
    let file = control_plane.service_account_kubeconfig(namespace, "gateway").await;
    let kubeconfig = Kubeconfig::read_from(file).unwrap();
    let mut config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.unwrap();
    config.default_retry = false;
    Client::try_from(config).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn users_are_secrets_that_two_sign_ups_cannot_both_make_and_two_exchanges_cannot_both_change() {
    let control_plane = ControlPlane::shared().await;
    let cluster = control_plane.cluster().await;
    let namespace = cluster.namespace("users").await;
    cluster.apply(&manifests(&namespace)).await;
    let users = Arc::new(SecretUsers::new(gateway(control_plane, &namespace).await, &namespace));

    // Ten at once with one address in ten spellings: one gets it.
    let sign_ups = (1..=10).map(|number| {
        let users = users.clone();
        let email = if number % 2 == 0 { "User@Example.com" } else { "user@example.COM" };
        async move { users.create(&user(email, number)).await }
    });
    let outcomes = futures::future::join_all(sign_ups).await;
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1, "{outcomes:?}");
    assert!(outcomes.iter().all(|outcome| matches!(outcome, Ok(()) | Err(SignupError::Taken))), "{outcomes:?}");

    let handle = handle_of("user@example.com");
    let found = users.find(&handle).await.unwrap().unwrap();
    assert!(found.email.eq_ignore_ascii_case("user@example.com"));
    assert_eq!(found.keys.len(), 1);
    assert_eq!(users.find(&handle_of("nobody@example.com")).await, Ok(None));
    // The same sign-up once more, as after an answer that was lost, is still the one that succeeded.
    assert_eq!(users.create(&found).await, Ok(()));

    let changed = User { keys: user("user@example.com", 77).keys, ..found.clone() };
    assert_eq!(users.change_keys(&changed).await, Ok(()));
    assert_eq!(users.change_keys(&changed).await, Err(ChangeError::Conflict));
    let now = users.find(&handle).await.unwrap().unwrap();
    assert_eq!((&now.keys, &now.id), (&changed.keys, &found.id));
    assert_ne!(now.version, found.version);
    let gone = User { handle: handle_of("nobody@example.com"), ..changed.clone() };
    assert_eq!(users.change_keys(&gone).await, Err(ChangeError::Gone));

    // Kept as a Secret that no Zone or Provider can be pointed at.
    let name = format!("roadstead-user-{handle}");
    let secret = cluster.get("v1/Secret", Some(&namespace), &name).await.unwrap();
    assert_eq!(secret.metadata.labels.unwrap()["roadstead.dev/credential"], "api-user");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_whose_the_cluster_says_and_reports_only_where_a_role_lets_it() {
    let control_plane = ControlPlane::shared().await;
    let cluster = control_plane.cluster().await;
    let namespace = cluster.namespace("reviews").await;
    cluster.apply(&manifests(&namespace)).await;
    let reviews = KubeReviews::new(gateway(control_plane, &namespace).await);

    let token = cluster.kubectl(&["create", "token", "reporter", "-n", &namespace]).await.unwrap();
    let account = reviews.account(token.trim()).await.unwrap().unwrap();
    assert_eq!(account.name, format!("system:serviceaccount:{namespace}:reporter"));
    assert!(account.groups.contains(&format!("system:serviceaccounts:{namespace}")), "{account:?}");
    let mut forged = token.trim().to_owned();
    forged.replace_range(forged.len() - 20..forged.len() - 10, "AAAAAAAAAA");
    for unknown in [forged.as_str(), "head.claims.signature"] {
        assert_eq!(reviews.account(unknown).await, Ok(None));
    }

    let group = |namespace: &str, name: &str| GroupRef {
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        uid: String::new(),
    };
    assert_eq!(reviews.may_report(&account, &group(&namespace, "web")).await, Ok(true));
    assert_eq!(reviews.may_report(&account, &group(&namespace, "other")).await, Ok(false));
    assert_eq!(reviews.may_report(&account, &group("default", "web")).await, Ok(false));
}
