//! The whole simulated `DigitalOcean` behind one lock, and what tests may do to it directly.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use tokio::task::JoinSet;

use super::account::{Account, AccountSpec};
use super::addresses::Pool;
use super::catalog::{Catalog, Image, Region, Size};
use super::fleet::Fleet;
use super::limits::Requests;
use super::settings::Settings;
use super::tenant::{Ids, Tenant};
use super::tokens::{Scopes, Token, TokenSpec};
use crate::clock::Clock;
use crate::vms::{Vms, VmsOptions};

/// The account every simulator starts with.
pub const DEFAULT_ACCOUNT: &str = "main";

/// The simulated `DigitalOcean`: accounts, tokens, what can be ordered, and the droplets.
///
/// Its methods act as a person with the control panel would: at once, without token, limits or journal.
#[derive(Debug)]
pub struct State {
    clock: Clock,
    world: Mutex<World>,
}

/// Everything behind the lock.
#[derive(Debug)]
pub(super) struct World {
    pub(super) settings: Settings,
    pub(super) catalog: Catalog,
    pub(super) accounts: BTreeMap<String, Account>,
    pub(super) tokens: HashMap<String, Token>,
    pub(super) requests: u64,
    pub(super) public: Pool,
    pub(super) private: Pool,
    pub(super) ids: Ids,
    pub(super) vms: Option<Vms>,
}

impl World {
    /// Brings about what is due by `now`, and what VMs have reported until then.
    pub(super) fn settle(&mut self, now: Timestamp) {
        while let Some(report) = self.vms.as_mut().and_then(Vms::report) {
            for account in self.accounts.values_mut() {
                account.fleet.conclude(&report, now, &self.settings);
            }
        }
        for account in self.accounts.values_mut() {
            account.fleet.settle(now, &mut self.public, &mut self.private);
        }
    }

    /// The world as the holder of `token` sees it; `None` if its account was never made.
    pub(super) fn tenant(&mut self, token: &str, now: Timestamp) -> Option<Tenant<'_>> {
        let spec = &self.tokens.get(token)?.spec;
        Some(Tenant {
            now,
            settings: &self.settings,
            catalog: &self.catalog,
            scopes: Scopes(&spec.scopes),
            account: self.accounts.get_mut(&spec.account)?,
            public: &mut self.public,
            private: &mut self.private,
            ids: &mut self.ids,
            vms: self.vms.as_ref(),
        })
    }
}

impl State {
    /// A simulator with one account, [`DEFAULT_ACCOUNT`], no token and no droplet.
    #[must_use]
    pub fn new(clock: Clock) -> Self {
        Self::made_of(clock, Pool::public(), None)
    }

    /// The same with droplets that are containers, as long as `tasks` live. Their public addresses are those of the
    /// containers, and what happens to them takes as long as it takes, instead of what the settings say.
    ///
    /// # Errors
    /// When the engine for them does not answer.
    pub async fn with_vms(clock: Clock, options: VmsOptions, tasks: &mut JoinSet<()>) -> anyhow::Result<Self> {
        let (first, count) = options.addresses();
        let vms = Vms::start(options, tasks).await?;
        Ok(Self::made_of(clock, Pool::of_network(first, count), Some(vms)))
    }

    fn made_of(clock: Clock, public: Pool, vms: Option<Vms>) -> Self {
        let state = Self {
            clock,
            world: Mutex::new(World {
                settings: Settings::default(),
                catalog: Catalog::default(),
                accounts: BTreeMap::new(),
                tokens: HashMap::new(),
                requests: 0,
                public,
                private: Pool::private(),
                ids: Ids::default(),
                vms,
            }),
        };
        state.put_account(AccountSpec::new(DEFAULT_ACCOUNT));
        state
    }

    /// The settled world and the time it is settled to.
    pub(super) fn world(&self) -> (MutexGuard<'_, World>, Timestamp) {
        let mut world = self.world.lock().unwrap_or_else(PoisonError::into_inner);
        // Read under the lock, so that time never runs backwards between two requests.
        let now = self.clock.now();
        world.settle(now);
        (world, now)
    }

    /// The present settings.
    #[must_use]
    pub fn settings(&self) -> Settings {
        self.world().0.settings.clone()
    }

    /// Replaces the settings. Droplets and actions already begun keep their times.
    pub fn set_settings(&self, settings: Settings) {
        self.world().0.settings = settings;
    }

    /// Adds an account, or changes identity and limits of the one of that name; gives it with its identity filled in.
    pub fn put_account(&self, spec: AccountSpec) -> AccountSpec {
        let spec = spec.completed();
        let (mut world, _) = self.world();
        let account = world.accounts.entry(spec.name.clone());
        account
            .and_modify(|account| account.spec = spec.clone())
            .or_insert_with(|| Account { spec: spec.clone(), fleet: Fleet::default() });
        spec
    }

    /// All accounts by name.
    #[must_use]
    pub fn accounts(&self) -> Vec<AccountSpec> {
        self.world().0.accounts.values().map(|account| account.spec.clone()).collect()
    }

    /// How many droplets the account may have from now on. False if there is no such account.
    pub fn set_droplet_limit(&self, account: &str, limit: usize) -> bool {
        let (mut world, _) = self.world();
        let account = world.accounts.get_mut(account);
        account.map(|account| account.spec.droplet_limit = limit).is_some()
    }

    /// Adds a token, or changes the one of that value (its request count stays).
    pub fn put_token(&self, spec: TokenSpec) {
        let (mut world, _) = self.world();
        let token = world.tokens.entry(spec.value.clone());
        token
            .and_modify(|token| token.spec = spec.clone())
            .or_insert_with(|| Token { spec, requests: Requests::default() });
    }

    /// All tokens, in no particular order.
    #[must_use]
    pub fn tokens(&self) -> Vec<TokenSpec> {
        self.world().0.tokens.values().map(|token| token.spec.clone()).collect()
    }

    /// From now on the token gets 401. False if there is no such token.
    pub fn revoke_token(&self, value: &str) -> bool {
        let (mut world, _) = self.world();
        world.tokens.get_mut(value).map(|token| token.spec.revoked = true).is_some()
    }

    /// Regions, sizes and images on offer.
    #[must_use]
    pub fn offers(&self) -> (Vec<Region>, Vec<Size>, Vec<Image>) {
        let (world, _) = self.world();
        let catalog = &world.catalog;
        (
            catalog.regions.values().map(|region| (**region).clone()).collect(),
            catalog.sizes.values().map(|size| (**size).clone()).collect(),
            catalog.images.values().map(|image| (**image).clone()).collect(),
        )
    }

    /// Adds or replaces a region.
    pub fn put_region(&self, region: Region) {
        self.world().0.catalog.put_region(region);
    }

    /// Adds or replaces a size.
    pub fn put_size(&self, size: Size) {
        self.world().0.catalog.put_size(size);
    }

    /// Adds or replaces an image.
    pub fn put_image(&self, image: Image) {
        self.world().0.catalog.put_image(image);
    }

    /// Takes a region off the list. False if there is no such region.
    pub fn withdraw_region(&self, slug: &str) -> bool {
        self.world().0.catalog.regions.remove(slug).is_some()
    }

    /// Takes a size off the list. False if there is no such size.
    pub fn withdraw_size(&self, slug: &str) -> bool {
        self.world().0.catalog.withdraw_size(slug)
    }

    /// Takes an image off the list. False if there is no such image.
    pub fn withdraw_image(&self, slug: &str) -> bool {
        self.world().0.catalog.images.remove(slug).is_some()
    }
}
