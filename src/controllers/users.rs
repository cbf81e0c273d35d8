//! Who uses a Zone or Provider: what keeps it from going, and what of it they have to hear about. Pure.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use super::access::CREDENTIAL_READY;
use crate::api::app_deployment::AppDeployment;
use crate::api::condition::{READY, STALLED, get};
use crate::api::environment::Environment;
use crate::api::node::Node;
use crate::api::server_group::ServerGroup;
use crate::runtime::cache::Key;

/// The objects that still name a Zone or Provider.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Users {
    count: usize,
    /// The first by kind, namespace and name, so that the message does not change with every pass.
    example: Option<(&'static str, Key)>,
}

impl Users {
    /// Those among `nodes` and `environments`.
    pub fn of<'a>(
        nodes: impl IntoIterator<Item = &'a Node>,
        environments: impl IntoIterator<Item = &'a Environment>,
    ) -> Self {
        let nodes = nodes.into_iter().map(|node| ("Node", Key::of(node)));
        let environments = environments.into_iter().map(|environment| ("Environment", Key::of(environment)));
        Self::default().with(nodes.chain(environments))
    }

    /// These, and those among `groups`.
    #[must_use]
    pub fn and<'a>(self, groups: impl IntoIterator<Item = &'a ServerGroup>) -> Self {
        self.with(groups.into_iter().map(|group| ("ServerGroup", Key::of(group))))
    }

    /// These, and those among `apps`.
    #[must_use]
    pub fn and_apps<'a>(self, apps: impl IntoIterator<Item = &'a AppDeployment>) -> Self {
        self.with(apps.into_iter().map(|app| ("AppDeployment", Key::of(app))))
    }

    fn with(self, more: impl Iterator<Item = (&'static str, Key)>) -> Self {
        more.fold(self, |users, user| Self {
            count: users.count + 1,
            example: Some(users.example.map_or(user.clone(), |example| example.min(user))),
        })
    }

    /// Why their Zone or Provider cannot go; `None` if there is nobody.
    #[must_use]
    pub fn message(&self) -> Option<String> {
        let (kind, key) = self.example.as_ref()?;
        Some(match self.count {
            1 => format!("waiting until {kind} {key}, which uses it, is gone"),
            count => format!("waiting until the {count} objects that use it are gone, such as {kind} {key}"),
        })
    }
}

/// What of a Zone's or Provider's conditions decides whether others may use it.
#[must_use]
pub fn gates(conditions: &[Condition]) -> [Option<String>; 3] {
    [CREDENTIAL_READY, STALLED, READY].map(|type_| get(conditions, type_).map(|c| c.status.clone()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_message_counts_users_and_names_the_same_one_whatever_their_order() {
        let node = |name: &str| {
            let mut node = Node::new(name, crate::api::node::NodeSpec::default());
            node.metadata.namespace = Some("shop".into());
            node
        };
        let mut environment = Environment::new("preview", crate::api::environment::EnvironmentSpec::default());
        environment.metadata.namespace = Some("blog".into());
        let (a, b) = (node("a"), node("b"));
        assert_eq!(Users::of([], []).message(), None);
        assert_eq!(Users::of([&a], []).message().unwrap(), "waiting until Node shop/a, which uses it, is gone");
        let expected = "waiting until the 3 objects that use it are gone, such as Environment blog/preview";
        for nodes in [[&a, &b], [&b, &a]] {
            assert_eq!(Users::of(nodes, [&environment]).message().unwrap(), expected);
        }
    }
}
