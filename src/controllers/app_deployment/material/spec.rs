//! What an object and its material come to for one host (pure).

use std::time::Duration;

use data_encoding::HEXLOWER;
use kube::ResourceExt;
use sha2::{Digest, Sha256};

use super::{Material, RESTART, ROLLBACK};
use crate::api::app_deployment::{AppDeployment, AppDeploymentSpec, Network, StrategyType, Update};
use crate::cli;
use crate::host::app::Spec;
use crate::host::compose::changes;
use crate::host::compose::entry;
use crate::host::compose::refuse::HostAccess;
use crate::host::compose::strategy::{self, Kind};
use crate::host::deploy::app::PreDeploy;

/// What only the host's own objects say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Around {
    /// The Node's `healthPath`.
    pub health_path: String,
    /// The Provider's `allowHostAccess`.
    pub host_access: bool,
    /// How long a new revision has to answer from outside.
    pub external_timeout: Duration,
}

impl Material {
    /// What is wanted on a host. A revision that is gone back to runs no `preDeploy`: that was run when it was new.
    #[must_use]
    pub fn spec(&self, app: &AppDeployment, around: &Around) -> Spec {
        let AppDeploymentSpec { strategy, services, pre_deploy, .. } = &app.spec;
        let recipe = &self.recipe;
        let pre_deploy = pre_deploy.as_ref().filter(|_| !self.is_rollback);
        Spec {
            revision: self.name.clone(),
            cause: self.cause(app),
            compose: recipe.compose.clone(),
            files: self.files.clone(),
            images: self.images(),
            values: self.values.clone(),
            only: self.only.clone(),
            entry: entry::Asked {
                service: recipe.entry.service.clone(),
                port: recipe.entry.port.and_then(|port| u16::try_from(port).ok()),
            },
            host_access: HostAccess { asked: app.spec.host_access, permitted: around.host_access },
            strategy: strategy::Asked {
                kind: match strategy.type_ {
                    StrategyType::BlueGreen => Some(Kind::BlueGreen),
                    StrategyType::Recreate => Some(Kind::Recreate),
                    StrategyType::Unknown => None,
                },
                shared_volumes: strategy.shared_volumes,
            },
            updates: services.iter().map(|service| (service.name.clone(), update(service.update))).collect(),
            pre_deploy: pre_deploy.map(|pre| PreDeploy {
                service: pre.service.clone().unwrap_or_default(),
                command: pre.command.clone(),
                timeout: seconds(&pre.timeout, 300),
            }),
            edge: recipe.network == Network::Edge,
            health_path: recipe.health_path.clone(),
            default_health_path: around.health_path.clone(),
            start_period: seconds(&app.spec.start_period, 10),
            health_timeout: seconds(&app.spec.health_timeout, 60),
            external_timeout: whole(around.external_timeout),
            drain: seconds(&strategy.drain_timeout, 30),
            history: usize::try_from(app.spec.revision_history_limit).unwrap_or(0),
            suspend: app.spec.suspend,
            maintenance: app.spec.maintenance,
        }
    }

    /// The image of each service that has another than the file's: by digest where that is known.
    fn images(&self) -> Vec<(String, String)> {
        let asked = self.recipe.images.iter().filter(|image| !self.pinned.contains_key(&image.service));
        let asked = asked.map(|image| (image.service.clone(), image.image.clone()));
        asked.chain(self.pinned.iter().map(|(service, image)| (service.clone(), image.clone()))).collect()
    }

    /// A hash of everything for which a revision that failed is tried again: the spec but for what is no part of a
    /// deploy, the two annotations, and every object that was read, also where its change is no new revision.
    fn cause(&self, app: &AppDeployment) -> String {
        let spec = AppDeploymentSpec {
            suspend: false,
            maintenance: false,
            revision_history_limit: 0,
            lifetime: None,
            ..app.spec.clone()
        };
        let annotation = |name: &str| app.annotations().get(name).cloned().unwrap_or_default();
        let all = serde_json::json!({
            "spec": spec,
            "revision": self.name,
            "restart": annotation(RESTART),
            "rollback": annotation(ROLLBACK),
            "versions": self.versions,
        });
        HEXLOWER.encode(&Sha256::digest(all.to_string().as_bytes())[..8])
    }
}

fn update(update: Update) -> changes::Update {
    match update {
        Update::Never => changes::Update::Never,
        Update::AfterSwap => changes::Update::AfterSwap,
        Update::BeforeSwap | Update::Unknown => changes::Update::BeforeSwap,
    }
}

/// The seconds of a duration. The schema admits nothing that is none.
fn seconds(text: &str, otherwise: u32) -> u32 {
    cli::duration(text).map_or(otherwise, whole)
}

fn whole(duration: Duration) -> u32 {
    u32::try_from(duration.as_secs()).unwrap_or(u32::MAX)
}
