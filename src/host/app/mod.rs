//! An app on a host, over an SSH session: what [`deploy`](super::deploy) decides is looked up and carried out here.
//!
//! * [`Spec`]: what an app's object and its Secrets come to, for one host;
//! * [`prepare`]: a revision's files on the host, and what Compose makes of them;
//! * [`observe`]: what the host says of an app; [`ask`]: what its containers answer;
//! * [`act`]: one action; [`digests`], [`volumes`]: what there is to be told of it.
//!
//! A round trip is dear, a line of shell is cheap: each of these is one command, or few. What a script finds it hands over
//! in `handed` sections, which are read by pure functions.

mod act;
mod ask;
mod handed;
mod images;
mod observe;
mod prepare;
mod subnets;

pub use act::act;
pub use ask::ask;
pub use images::{digests, volumes};
pub use observe::observe;
pub use prepare::{NotPrepared, Prepared, prepare};

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use bytes::Bytes;

use super::compose::changes::Update;
use super::compose::refuse::HostAccess;
use super::compose::{entry, strategy};
use super::deploy::app::PreDeploy;

/// What an app's object and its Secrets come to, for one host: everything a revision is made of. Holds secrets.
#[derive(Clone, PartialEq, Eq)]
pub struct Spec {
    /// The revision's name.
    pub revision: String,
    /// Changes with anything for which a revision that failed is tried again.
    pub cause: String,
    /// The text of the Compose file.
    pub compose: String,
    /// The app's files by path, beside the Compose file.
    pub files: BTreeMap<String, Bytes>,
    /// `images[]`: service and image.
    pub images: Vec<(String, String)>,
    /// Every variable and its value: for `${NAME}` in the file, and for the services.
    pub values: BTreeMap<String, String>,
    /// The variables that only some services get, and which; the entry service gets all others.
    pub only: BTreeMap<String, BTreeSet<String>>,
    /// What the object says of the entry.
    pub entry: entry::Asked,
    /// Who agrees that the app gets at the host.
    pub host_access: HostAccess,
    /// How the entry is to be replaced.
    pub strategy: strategy::Asked,
    /// When each service beside the entry is updated.
    pub updates: BTreeMap<String, Update>,
    /// What is run once before the swap; an empty service is the entry.
    pub pre_deploy: Option<PreDeploy>,
    /// Whether Caddy reaches the app on `edge`, in place of a network for the app alone.
    pub edge: bool,
    /// Where health is asked for, if the object says so; else the label of the entry says, else `default_health_path`.
    pub health_path: Option<String>,
    /// The Node's health path.
    pub default_health_path: String,
    /// For how many seconds after its start the app need not answer.
    pub start_period: u32,
    /// How many seconds it has then.
    pub health_timeout: u32,
    /// How many seconds it has to answer from outside.
    pub external_timeout: u32,
    /// For how many seconds the old revision ends what it has begun.
    pub drain: u32,
    /// How many revisions besides the live one keep their images and files.
    pub history: usize,
    /// Nothing new is begun.
    pub suspend: bool,
    /// The names answer with the maintenance page.
    pub maintenance: bool,
}

impl fmt::Debug for Spec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Spec").field("revision", &self.revision).field("cause", &self.cause).finish_non_exhaustive()
    }
}
