//! `DigitalOcean` as a provider of VMs.
//!
//! The client pins itself to one account: with a token of another one it answers `account_changed` and sends nothing
//! but the question whose token it is. So a 404 always speaks of the account that holds our VMs.

mod refusal;
mod transport;
mod wire;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use reqwest::Method;
use serde::de::DeserializeOwned;
use tokio::sync::Mutex;
use tokio::time::Instant;

use self::transport::{Call, Credential, Transport};
use self::wire::{AccountReply, CreateBody, Droplet, DropletReply, Page, ResourcesBody, TagBody};
use super::{Account, Catalogue, CreateVm, Listing, Vm, VmProvider, code};
use crate::api::names::{ClusterId, Mark};
use crate::metrics::Metrics;
use crate::outside::OutsideError;
use crate::outside::budget::{Budgets, Priority};

/// The most the API gives on one page.
const PER_PAGE: u32 = 200;

/// No account has so many pages; a server that always names a next one must not keep us for ever.
const MOST_PAGES: u32 = 500;

/// How long the catalogue is kept: long enough that a thousand refused creates ask for it once.
const CATALOGUE_AGE: Duration = Duration::from_mins(10);

/// What a client is set up with.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Base of the API without `/v2`, such as `https://api.digitalocean.com`.
    pub base: String,
    /// What metrics call the credential, such as `provider/do`.
    pub credential: String,
    /// The account to stay with, as [`Account::id`] gave it; `None` for the first one seen.
    pub account: Option<String>,
}

/// A client for one Provider. It retries nothing and waits for nothing but an answer, at most ten seconds a call.
#[derive(Debug)]
pub struct DigitalOcean {
    transport: Transport,
    catalogue: Mutex<Option<(Instant, Catalogue)>>,
}

impl DigitalOcean {
    /// A client that uses `token` until [`DigitalOcean::set_token`] says otherwise.
    ///
    /// # Errors
    /// `Unauthorized` if the token cannot be sent at all, `Unavailable` if TLS cannot be set up.
    pub fn new(settings: Settings, token: &str, budgets: Budgets, metrics: Metrics) -> Result<Self, OutsideError> {
        Ok(Self { transport: Transport::new(settings, token, budgets, metrics)?, catalogue: Mutex::default() })
    }

    /// Uses another token from the next call on. Its account is asked for before anything else is done with it.
    ///
    /// # Errors
    /// `Unauthorized` if the token cannot be sent at all; the former one stays.
    pub fn set_token(&self, token: &str) -> Result<(), OutsideError> {
        self.transport.set_token(token)
    }

    /// The account this client stays with, once it is known.
    #[must_use]
    pub fn pinned(&self) -> Option<String> {
        self.transport.pinned()
    }

    /// The current credential, once it is known to belong to the pinned account.
    async fn credential(&self, priority: Priority) -> Result<Arc<Credential>, OutsideError> {
        let credential = self.transport.current();
        let id = credential.account.get_or_try_init(async || {
            let account = self.ask_account(&credential, priority).await?;
            Ok::<_, OutsideError>(account.id)
        });
        self.transport.check_account(id.await?)?;
        Ok(credential)
    }

    async fn ask_account(&self, credential: &Credential, priority: Priority) -> Result<Account, OutsideError> {
        let call = Call::read("/v2/account", "account:read").with(priority);
        let reply: AccountReply = self.transport.read(credential, &call).await?.ok_or_else(|| call.not_found())?;
        Ok(reply.account.into())
    }

    /// All pages of a listing.
    async fn pages<T: DeserializeOwned>(&self, credential: &Credential, call: &Call) -> Result<Pages<T>, OutsideError> {
        let mut pages = Pages { items: Vec::new(), total: 0, shrank: false };
        for number in 1..=MOST_PAGES {
            let call = call.clone().query("page", number).query("per_page", PER_PAGE);
            let page: Page<T> = self.transport.read(credential, &call).await?.ok_or_else(|| call.not_found())?;
            let more = page.has_next();
            pages.shrank |= page.meta.total < pages.total;
            pages.total = page.meta.total;
            pages.items.extend(page.items);
            if !more {
                return Ok(pages);
            }
        }
        Err(OutsideError::Unavailable(format!("DigitalOcean answers {call} with pages that never end")))
    }

    async fn droplets(&self, tag: &str, priority: Priority) -> Result<Listing, OutsideError> {
        let credential = self.credential(priority).await?;
        let call = Call::read("/v2/droplets", "droplet:read and tag:read").with(priority).query("tag_name", tag);
        let pages = self.pages::<Droplet>(&credential, &call).await?;
        let mut seen = HashSet::new();
        let vms: Vec<Vm> = pages.items.into_iter().map(Vm::from).filter(|vm| seen.insert(vm.id.clone())).collect();
        // What leaves a listing moves its successors to a page already read, so they are skipped.
        let whole = !pages.shrank && vms.len() >= pages.total;
        Ok(Listing { vms, whole })
    }

    /// Puts a tag on a droplet, creating the tag where there is none.
    async fn tag(&self, credential: &Credential, id: u64, tag: &str) -> Result<(), OutsideError> {
        let body = ResourcesBody::droplet(id);
        let attach = Call::write(Method::POST, "/v2/tags/{tag}/resources", "tag:create and droplet:update").at(tag);
        if self.transport.write(credential, &attach, &body).await?.is_some() {
            return Ok(());
        }
        let create = Call::write(Method::POST, "/v2/tags", "tag:create");
        self.transport.write(credential, &create, &TagBody { name: tag }).await?.ok_or_else(|| create.not_found())?;
        self.transport.write(credential, &attach, &body).await?.ok_or_else(|| attach.not_found())?;
        Ok(())
    }

    /// Takes a tag off a droplet; done also where either does not exist.
    async fn untag(&self, credential: &Credential, id: u64, tag: &str) -> Result<(), OutsideError> {
        let detach = Call::write(Method::DELETE, "/v2/tags/{tag}/resources", "tag:delete and droplet:update")
            .at(tag)
            .with(Priority::Cleanup);
        self.transport.write(credential, &detach, &ResourcesBody::droplet(id)).await.map(|_| ())
    }

    /// Says what was wrong with a refused create, with the help of the catalogue if the API's text leaves it open.
    async fn explain(&self, wanted: &CreateVm, refused: OutsideError) -> OutsideError {
        let OutsideError::Refused { code, message } = refused else { return refused };
        if code != refusal::UNPROCESSABLE {
            return OutsideError::Refused { code, message };
        }
        let catalogue = self.catalogue().await.ok();
        refusal::of_create(wanted, message, catalogue.as_ref())
    }

    async fn ask_catalogue(&self) -> Result<Catalogue, OutsideError> {
        let credential = self.credential(Priority::Normal).await?;
        let regions = Call::read("/v2/regions", "regions:read");
        let regions = self.pages::<wire::Region>(&credential, &regions).await?;
        let sizes = Call::read("/v2/sizes", "sizes:read and regions:read");
        let sizes = self.pages::<wire::Size>(&credential, &sizes).await?;
        let images = self.pages::<wire::Image>(&credential, &Call::read("/v2/images", "image:read")).await?;
        Ok(Catalogue {
            regions: regions.items.into_iter().map(Into::into).collect(),
            sizes: sizes.items.into_iter().map(Into::into).collect(),
            images: images.items.into_iter().map(Into::into).collect(),
        })
    }
}

/// A listing, page after page.
struct Pages<T> {
    items: Vec<T>,
    /// As the last page said.
    total: usize,
    /// Whether a page said less than the one before.
    shrank: bool,
}

#[async_trait]
impl VmProvider for DigitalOcean {
    async fn account(&self) -> Result<Account, OutsideError> {
        let credential = self.transport.current();
        let account = self.ask_account(&credential, Priority::Normal).await?;
        let id = credential.account.get_or_init(async || account.id.clone()).await;
        self.transport.check_account(id)?;
        Ok(account)
    }

    async fn create(&self, vm: &CreateVm) -> Result<Vm, OutsideError> {
        let credential = self.credential(Priority::Normal).await?;
        let scopes = "droplet:create, image:read and tag:create (and vpc:read with a vpcUUID)";
        let call = Call::write(Method::POST, "/v2/droplets", scopes);
        match self.transport.write(&credential, &call, &CreateBody::of(vm)).await {
            Ok(Some(reply)) => {
                let reply: DropletReply = call.decode(&reply)?;
                Ok(reply.droplet.into())
            }
            Ok(None) => Err(call.not_found()),
            Err(error) => Err(self.explain(vm, error).await),
        }
    }

    async fn get(&self, id: &str, priority: Priority) -> Result<Option<Vm>, OutsideError> {
        let id = number(id)?;
        let credential = self.credential(priority).await?;
        let call = Call::read("/v2/droplets/{id}", "droplet:read").with(priority).at(id);
        let reply: Option<DropletReply> = self.transport.read(&credential, &call).await?;
        Ok(reply.map(|reply| reply.droplet.into()))
    }

    async fn find_by_owner(&self, mark: &Mark, priority: Priority) -> Result<Listing, OutsideError> {
        let [_, owner, _] = mark.tags();
        self.droplets(&owner, priority).await
    }

    async fn find_by_key(&self, mark: &Mark) -> Result<Listing, OutsideError> {
        let [_, _, key] = mark.tags();
        self.droplets(&key, Priority::Normal).await
    }

    async fn list_owned(&self, cluster: &ClusterId) -> Result<Listing, OutsideError> {
        self.droplets(&Mark::cluster_tag(cluster), Priority::Normal).await
    }

    async fn delete(&self, id: &str) -> Result<(), OutsideError> {
        let id = number(id)?;
        let credential = self.credential(Priority::Cleanup).await?;
        let call = Call::write(Method::DELETE, "/v2/droplets/{id}", "droplet:delete").at(id).with(Priority::Cleanup);
        self.transport.write(&credential, &call, &()).await.map(|_| ())
    }

    async fn mark(&self, id: &str, former: Option<&Mark>, mark: &Mark) -> Result<(), OutsideError> {
        let id = number(id)?;
        let credential = self.credential(Priority::Normal).await?;
        let tags = mark.tags();
        // Ours first: between the two halves the VM is found by either owner, and never by none.
        for tag in &tags {
            self.tag(&credential, id, tag).await?;
        }
        for tag in former.map(Mark::tags).into_iter().flatten().filter(|tag| !tags.contains(tag)) {
            self.untag(&credential, id, &tag).await?;
        }
        Ok(())
    }

    async fn unmark(&self, id: &str, mark: &Mark) -> Result<(), OutsideError> {
        let id = number(id)?;
        let credential = self.credential(Priority::Cleanup).await?;
        let [cluster, owner, key] = mark.tags();
        // The owner's last: as long as it is there, the VM is found and the rest can be repeated.
        for tag in [cluster, key, owner] {
            self.untag(&credential, id, &tag).await?;
        }
        Ok(())
    }

    async fn delete_owner_tags(&self, mark: &Mark) -> Result<(), OutsideError> {
        let credential = self.credential(Priority::Cleanup).await?;
        let [_, owner, _] = mark.tags();
        let call = Call::write(Method::DELETE, "/v2/tags/{tag}", "tag:delete").at(owner).with(Priority::Cleanup);
        self.transport.write(&credential, &call, &()).await.map(|_| ())
    }

    async fn catalogue(&self) -> Result<Catalogue, OutsideError> {
        let mut kept = self.catalogue.lock().await;
        if let Some((at, catalogue)) = &*kept
            && at.elapsed() < CATALOGUE_AGE
        {
            return Ok(catalogue.clone());
        }
        let catalogue = self.ask_catalogue().await?;
        *kept = Some((Instant::now(), catalogue.clone()));
        Ok(catalogue)
    }
}

/// A droplet's id as the API writes it. Anything else would become part of a URL.
fn number(id: &str) -> Result<u64, OutsideError> {
    id.parse().map_err(|_| OutsideError::Refused {
        code: code::INVALID_ID.to_owned(),
        message: format!("`{id}` is not the id of a DigitalOcean droplet, which is a number"),
    })
}
