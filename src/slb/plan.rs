//! The next call for a Worker: pure, from what is wanted and what was observed.
//!
//! Forwards: upload the code if it differs, else patch the bindings that differ, then arrange the place. Backwards: take
//! the place away, then the script. What was arranged is noted in the script's own binding `ROADSTEAD_PLACES` before it
//! is made, so that a crash between two calls leaves nothing that nobody knows of.

use std::collections::BTreeSet;

use super::origins::{self, Form};
use super::wire::{Binding, Domain, Route, Settings};
use super::{Mode, Place, Sticky, Strategy, Worker, code};
use crate::api::names::{Kinship, Mark};

/// The binding that holds the owner's mark.
pub const OWNER: &str = "ROADSTEAD_OWNER";
/// The binding that holds the hash of the code.
pub const CODE: &str = "ROADSTEAD_CODE";
/// The binding that notes what was arranged for the script: [`Place::note`]s, a line each.
pub const PLACES: &str = "ROADSTEAD_PLACES";
/// The binding of somebody else's script that names the groups which may write `ORIGINS`: `namespace/name`, by commas.
pub const ALLOW: &str = "ROADSTEAD_ALLOW";
/// The binding that holds the origins.
pub const ORIGINS: &str = "ORIGINS";

/// Every binding that is ours in a script of ours.
const OURS: [&str; 11] = [
    OWNER,
    CODE,
    PLACES,
    ORIGINS,
    "STRATEGY",
    "RETRIES",
    "ORIGIN_TIMEOUT_MS",
    "FAIL_STATUSES",
    "STICKY",
    "PROBE_PATH",
    "HEALTH_PATH",
];

/// What was seen of a Worker.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Observed {
    /// The script's settings; `None` if the API said that there is no such script.
    pub settings: Option<Settings>,
    /// Routes and custom domains; `None` if nobody looked. Then nothing is concluded of them.
    pub places: Option<Places>,
}

/// Routes and custom domains.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Places {
    /// All routes of the zones in question, with the zone's id.
    pub routes: Vec<(String, Route)>,
    /// The custom domains of the hosts in question.
    pub domains: Vec<Domain>,
}

/// What to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Upload the code with these bindings.
    Upload(Vec<Binding>),
    /// Replace the script's bindings by these.
    Patch(Vec<Binding>),
    /// Arrange a place.
    Place(Place),
    /// Delete the route of this id.
    DeleteRoute {
        /// Its zone's id.
        zone_id: String,
        /// Its id.
        id: String,
    },
    /// Delete the custom domain of this id.
    DeleteDomain {
        /// Its id.
        id: String,
    },
    /// Delete the script.
    DeleteScript,
    /// Look at the places in these zones and of these hosts too: without them nothing more can be said.
    Look {
        /// Zones whose routes are in question.
        zones: BTreeSet<String>,
        /// Hosts whose custom domains are in question.
        hosts: BTreeSet<String>,
    },
    /// Nothing may be written.
    Refuse(Refusal),
    /// Everything is as wanted, and this is published as `ORIGINS`.
    Done(String),
    /// Nothing of ours is left.
    Gone,
}

/// Why nothing may be written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// A script of that name is somebody else's.
    #[error(
        "Worker {name} exists and is not of this group (its binding ROADSTEAD_OWNER {found}): choose another \
         workerName, delete that Worker, or use mode OriginsOnly"
    )]
    Foreign {
        /// The script's name.
        name: String,
        /// What its mark says.
        found: String,
    },
    /// A script of a group of the same name, but of another UID or cluster.
    #[error(
        "Worker {name} belongs to an earlier group of this name (cluster {cluster}): annotate this one with \
         `roadstead.dev/adopt: {owner}` to take it over"
    )]
    AdoptionRequired {
        /// The script's name.
        name: String,
        /// The `o` to put into the annotation `adopt`.
        owner: String,
        /// The cluster that wrote the mark.
        cluster: String,
    },
    /// There is no script to write `ORIGINS` of.
    #[error("there is no Worker {name}, and with mode OriginsOnly none is made: deploy it first, or use mode Managed")]
    Missing {
        /// The script's name.
        name: String,
    },
    /// The script does not allow this group.
    #[error(
        "Worker {name} does not allow this group to write ORIGINS: add {group} to its plain-text binding \
         ROADSTEAD_ALLOW, which {found}"
    )]
    NotAllowed {
        /// The script's name.
        name: String,
        /// `namespace/name` of the group.
        group: String,
        /// What the binding says.
        found: String,
    },
    /// `ORIGINS` is no plain text.
    #[error("the binding ORIGINS of Worker {name} is of type {kind}: make it plain text")]
    NotPlainText {
        /// The script's name.
        name: String,
        /// The binding's type.
        kind: String,
    },
    /// A member has an address in place of a name.
    #[error("origin {url} is an address, which Workers cannot fetch (error 1003): give the member a name")]
    OriginIsAddress {
        /// The origin.
        url: String,
    },
    /// The origins do not fit into a binding.
    #[error("the origins take {bytes} bytes, and a binding holds 5120: use fewer members or shorter names")]
    OriginsTooLong {
        /// What they take.
        bytes: usize,
    },
    /// Somebody else's route or custom domain is at the place.
    #[error("{place} leads to {script}: remove it there, or choose another place")]
    PlaceTaken {
        /// The pattern or the host.
        place: String,
        /// Where it leads.
        script: String,
    },
}

impl Refusal {
    /// The reason of the condition.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Foreign { .. } => "ForeignWorker",
            Self::AdoptionRequired { .. } => "AdoptionRequired",
            Self::Missing { .. } => "WorkerMissing",
            Self::NotAllowed { .. } => "NotAllowed",
            Self::NotPlainText { .. } => "OriginsNotPlainText",
            Self::OriginIsAddress { .. } => "OriginIsAddress",
            Self::OriginsTooLong { .. } => "OriginsTooLong",
            Self::PlaceTaken { .. } => "PlaceTaken",
        }
    }
}

/// Whose a script is; `None` if it bears no mark.
#[must_use]
pub fn mark(settings: &Settings) -> Option<Mark> {
    Mark::from_comment(settings.text(OWNER)?)
}

/// The next call that brings the Worker to what is wanted.
#[must_use]
pub fn plan(wanted: &Worker, seen: &Observed) -> Step {
    let planned = match wanted.mode {
        Mode::Managed => managed(wanted, seen),
        Mode::OriginsOnly => origins_only(wanted, seen),
    };
    planned.unwrap_or_else(Step::Refuse)
}

/// The next call that leaves nothing of ours. Somebody else's script is left as it is.
#[must_use]
pub fn unplan(wanted: &Worker, seen: &Observed) -> Step {
    let Some(settings) = seen.settings.as_ref().filter(|_| wanted.mode == Mode::Managed) else { return Step::Gone };
    match standing(wanted, settings) {
        Err(refusal @ Refusal::AdoptionRequired { .. }) => return Step::Refuse(refusal),
        Err(_) => return Step::Gone,
        Ok(()) => {}
    }
    let noted = notes(settings);
    let Some(places) = &seen.places else {
        return if noted.is_empty() { Step::DeleteScript } else { look(&noted) };
    };
    noted.iter().find_map(|place| remove(wanted, place, places)).unwrap_or(Step::DeleteScript)
}

fn managed(wanted: &Worker, seen: &Observed) -> Result<Step, Refusal> {
    let Some(settings) = &seen.settings else {
        let noted: Vec<Place> = wanted.place.iter().cloned().collect();
        let origins = origins::text(&wanted.origins, &wanted.policy, None, Form::List)?;
        return Ok(Step::Upload(bindings(wanted, origins, &noted)));
    };
    standing(wanted, settings)?;
    let last = settings.text(ORIGINS);
    let origins = origins::text(&wanted.origins, &wanted.policy, last, Form::List)?;
    // What was noted stays noted until it is seen to be gone.
    let mut noted = notes(settings);
    if let Some(places) = &seen.places {
        noted.retain(|place| Some(place) == wanted.place.as_ref() || remove(wanted, place, places).is_some());
    }
    if let Some(place) = wanted.place.iter().find(|place| !noted.contains(place)) {
        noted.push(place.clone());
    }
    let ours = bindings(wanted, origins.clone(), &noted);
    if settings.text(CODE) != Some(code()) {
        return Ok(Step::Upload(with_theirs(ours, settings, &OURS)));
    }
    if !is_set(&ours, settings) {
        return Ok(Step::Patch(with_theirs(ours, settings, &OURS)));
    }
    let Some(places) = &seen.places else {
        return Ok(if noted.is_empty() { Step::Done(origins) } else { look(&noted) });
    };
    if let Some(place) = &wanted.place
        && !is_arranged(wanted, place, places)?
    {
        return Ok(Step::Place(place.clone()));
    }
    let unwanted = noted.iter().filter(|place| Some(*place) != wanted.place.as_ref());
    let removal = unwanted.into_iter().find_map(|place| remove(wanted, place, places));
    Ok(removal.unwrap_or(Step::Done(origins)))
}

fn origins_only(wanted: &Worker, seen: &Observed) -> Result<Step, Refusal> {
    let name = || wanted.name.clone();
    let Some(settings) = &seen.settings else { return Err(Refusal::Missing { name: name() }) };
    let allowed = settings.text(ALLOW).unwrap_or_default();
    if !allowed.split(',').any(|group| group.trim() == wanted.group) {
        let found = if settings.text(ALLOW).is_some() { format!("says {allowed:?}") } else { "is missing".to_owned() };
        return Err(Refusal::NotAllowed { name: name(), group: wanted.group.clone(), found });
    }
    let binding = settings.bindings.iter().find(|binding| binding.name == ORIGINS);
    if let Some(binding) = binding.filter(|binding| binding.kind != "plain_text") {
        return Err(Refusal::NotPlainText { name: name(), kind: binding.kind.clone() });
    }
    let last = settings.text(ORIGINS);
    // Their code reads what is there now.
    let form = last.map_or(Form::List, Form::of);
    let text = origins::text(&wanted.origins, &wanted.policy, last, form)?;
    if last == Some(text.as_str()) {
        return Ok(Step::Done(text));
    }
    Ok(Step::Patch(with_theirs(vec![Binding::text(ORIGINS, text)], settings, &[ORIGINS])))
}

/// Whether the script may be written.
fn standing(wanted: &Worker, settings: &Settings) -> Result<(), Refusal> {
    let foreign = |found: String| Refusal::Foreign { name: wanted.name.clone(), found };
    let Some(text) = settings.text(OWNER) else { return Err(foreign("is missing".to_owned())) };
    let Some(mark) = Mark::from_comment(text) else { return Err(foreign(format!("says {text:?}"))) };
    match wanted.mark.kinship(&mark) {
        Kinship::Own => Ok(()),
        Kinship::Namesake if wanted.adopt.as_deref() == Some(mark.owner.as_str()) => Ok(()),
        Kinship::Namesake => Err(Refusal::AdoptionRequired {
            name: wanted.name.clone(),
            owner: mark.owner,
            cluster: mark.cluster.as_str().to_owned(),
        }),
        Kinship::Stranger => Err(foreign(format!("says {text:?}"))),
    }
}

/// Every binding of ours.
fn bindings(wanted: &Worker, origins: String, noted: &[Place]) -> Vec<Binding> {
    let policy = &wanted.policy;
    let mut bindings = vec![
        Binding::text(OWNER, wanted.mark.comment()),
        Binding::text(CODE, code()),
        Binding::text(ORIGINS, origins),
        Binding::text(
            "STRATEGY",
            match wanted.strategy {
                Strategy::RoundRobin => "round-robin",
                Strategy::Random => "random",
                Strategy::Failover => "failover",
            },
        ),
        Binding::text("RETRIES", policy.retries.to_string()),
        Binding::text("ORIGIN_TIMEOUT_MS", policy.origin_timeout.as_millis().to_string()),
        Binding::text(
            "STICKY",
            match policy.sticky {
                Sticky::None => "none",
                Sticky::Cookie => "cookie",
                Sticky::ClientIp => "client-ip",
            },
        ),
        Binding::text("PROBE_PATH", policy.probe_path.clone()),
    ];
    if !policy.fail_statuses.is_empty() {
        let statuses: Vec<_> = policy.fail_statuses.iter().map(u16::to_string).collect();
        bindings.push(Binding::text("FAIL_STATUSES", statuses.join(",")));
    }
    if !noted.is_empty() {
        bindings.push(Binding::text(PLACES, noted.iter().map(Place::note).collect::<Vec<_>>().join("\n")));
    }
    bindings
}

/// Our bindings, and everything else as it is.
fn with_theirs(mut ours: Vec<Binding>, settings: &Settings, names: &[&str]) -> Vec<Binding> {
    let theirs = settings.bindings.iter().filter(|binding| !names.contains(&binding.name.as_str()));
    ours.extend(theirs.map(|binding| Binding::inherit(&binding.name)));
    ours
}

/// Whether the script has exactly these of our bindings.
#[must_use]
pub fn is_set(ours: &[Binding], settings: &Settings) -> bool {
    let as_wanted = |name: &&str| match ours.iter().find(|binding| binding.name == **name) {
        Some(binding) => settings.text(name) == binding.text.as_deref(),
        None => !settings.has(name),
    };
    OURS.iter().all(as_wanted)
}

/// Whether a script has taken over all bindings of a change, inherited ones included.
#[must_use]
pub fn confirms(sent: &[Binding], settings: &Settings) -> bool {
    let taken = |binding: &Binding| match &binding.text {
        Some(text) => settings.text(&binding.name) == Some(text),
        None => settings.has(&binding.name),
    };
    sent.len() == settings.bindings.len() && sent.iter().all(taken)
}

fn notes(settings: &Settings) -> Vec<Place> {
    settings.text(PLACES).unwrap_or_default().lines().filter_map(Place::from_note).collect()
}

fn look(noted: &[Place]) -> Step {
    let (mut zones, mut hosts) = (BTreeSet::new(), BTreeSet::new());
    for place in noted {
        match place {
            Place::Route { zone_id, .. } => zones.insert(zone_id.clone()),
            Place::Domain { hostname, .. } => hosts.insert(hostname.clone()),
        };
    }
    Step::Look { zones, hosts }
}

/// Whether a place leads to the script; refused if it leads elsewhere.
fn is_arranged(wanted: &Worker, place: &Place, places: &Places) -> Result<bool, Refusal> {
    let (name, leads) = match place {
        Place::Route { zone_id, pattern } => {
            let mut routes = places.routes.iter().filter(|(zone, _)| zone == zone_id);
            let route = routes.find(|(_, route)| route.pattern == *pattern);
            (format!("route {pattern}"), route.map(|(_, route)| route.script.as_deref()))
        }
        Place::Domain { hostname, .. } => {
            let domain = places.domains.iter().find(|domain| domain.hostname == *hostname);
            (format!("custom domain {hostname}"), domain.map(|domain| Some(domain.service.as_str())))
        }
    };
    match leads {
        None => Ok(false),
        Some(Some(script)) if script == wanted.name => Ok(true),
        Some(script) => {
            let script = script.map_or("no Worker, on purpose".to_owned(), |script| format!("Worker {script}"));
            Err(Refusal::PlaceTaken { place: name, script })
        }
    }
}

/// The removal of a place that was noted, if it is still there and still leads to the script.
fn remove(wanted: &Worker, place: &Place, places: &Places) -> Option<Step> {
    match place {
        Place::Route { zone_id, pattern } => {
            let ours = |route: &Route| route.pattern == *pattern && route.script.as_deref() == Some(&wanted.name);
            let (_, route) = places.routes.iter().find(|(zone, route)| zone == zone_id && ours(route))?;
            Some(Step::DeleteRoute { zone_id: zone_id.clone(), id: route.id.clone() })
        }
        Place::Domain { hostname, .. } => {
            let ours = |domain: &&Domain| domain.hostname == *hostname && domain.service == wanted.name;
            let domain = places.domains.iter().find(ours)?;
            Some(Step::DeleteDomain { id: domain.id.clone() })
        }
    }
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
