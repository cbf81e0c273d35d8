//! One folder a kind. Each reads as observe, plan, apply, report; what they share is here.

pub mod access;
pub mod credential;
pub mod environment;
pub mod node;
pub mod orphans;
pub mod provider;
pub mod registry;
pub mod users;
pub mod zone;

use k8s_openapi::api::core::v1::Namespace;
use kube::core::{Selector, SelectorExt};

use crate::api::refs::{AllowedNamespaces, NamespacesFrom};

/// Whether objects of `namespace` may use what `allowed` guards.
#[must_use]
pub fn is_allowed(allowed: &AllowedNamespaces, namespace: Option<&Namespace>) -> bool {
    match allowed.from {
        NamespacesFrom::All => true,
        NamespacesFrom::None | NamespacesFrom::Unknown => false,
        NamespacesFrom::Selector => {
            let labels = namespace.and_then(|n| n.metadata.labels.clone()).unwrap_or_default();
            let selector = allowed.selector.clone().map(Selector::try_from);
            // A selector that cannot be read allows nobody.
            matches!(selector, Some(Ok(selector)) if selector.matches(&labels))
        }
    }
}
