//! Scripts and places at a Cloudflare of the tests' own, which answers at once.

use std::collections::BTreeMap;

use super::{Answer, Call, Script};
use crate::outside::OutsideError;
use crate::slb::plan::Places;
use crate::slb::wire::{Binding, Domain, Route, Settings};
use crate::slb::{Place, Step};

/// What is there, and how it answers.
#[derive(Debug, Default)]
pub struct Cloud {
    /// Scripts by name.
    pub scripts: BTreeMap<String, Settings>,
    /// Routes and custom domains.
    pub places: Places,
    /// How every call fails, if so.
    pub fails: Option<OutsideError>,
    /// Whether a change is taken and does not show.
    pub forgets: bool,
}

impl Cloud {
    /// A call in a word.
    pub fn word(call: &Call) -> &'static str {
        match call {
            Call::Look => "look",
            Call::LookAround { .. } => "look around",
            Call::Write(Step::Upload(_)) => "upload",
            Call::Write(Step::Patch(_)) => "patch",
            Call::Write(Step::Place(_)) => "place",
            Call::Write(Step::DeleteRoute { .. } | Step::DeleteDomain { .. }) => "remove place",
            Call::Write(Step::DeleteScript) => "delete",
            Call::Write(_) => "nothing",
        }
    }

    /// Makes a call.
    pub fn call(&mut self, script: &Script, call: &Call) -> Result<Answer, OutsideError> {
        if let Some(error) = &self.fails {
            return Err(error.clone());
        }
        let name = &script.name;
        match call {
            Call::Look => return Ok(Answer::Settings(self.scripts.get(name).cloned())),
            Call::LookAround { .. } => return Ok(Answer::Places(self.places.clone())),
            Call::Write(_) if self.forgets => return Ok(Answer::Written(None)),
            Call::Write(step) => self.write(name, step),
        }
        let settings = matches!(call, Call::Write(Step::Patch(_))).then(|| self.scripts[name].clone());
        Ok(Answer::Written(settings))
    }

    fn write(&mut self, name: &str, step: &Step) {
        match step {
            Step::Upload(bindings) | Step::Patch(bindings) => {
                let before = self.scripts.remove(name).map(|settings| settings.bindings).unwrap_or_default();
                let resolved = |binding: &Binding| match binding.kind.as_str() {
                    "inherit" => before.iter().find(|old| old.name == binding.name).cloned(),
                    _ => Some(binding.clone()),
                };
                let bindings = bindings.iter().filter_map(resolved).collect();
                self.scripts.insert(name.to_owned(), Settings { bindings });
            }
            Step::Place(Place::Route { zone_id, pattern }) => {
                let route = Route { id: pattern.clone(), pattern: pattern.clone(), script: Some(name.to_owned()) };
                self.places.routes.push((zone_id.clone(), route));
            }
            Step::Place(Place::Domain { hostname, .. }) => {
                let (id, service) = (hostname.clone(), name.to_owned());
                self.places.domains.push(Domain { id, hostname: hostname.clone(), service });
            }
            Step::DeleteRoute { id, .. } => self.places.routes.retain(|(_, route)| route.id != *id),
            Step::DeleteDomain { id } => self.places.domains.retain(|domain| domain.id != *id),
            Step::DeleteScript => drop(self.scripts.remove(name)),
            Step::Look { .. } | Step::Refuse(_) | Step::Done(_) | Step::Gone => {}
        }
    }
}
