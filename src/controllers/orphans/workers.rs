//! Whose the Workers of an account are. Only a Worker's settings tell, one call for each: so those that have not changed
//! since they were read are not read again, and a sweep is one listing.

use std::collections::{HashMap, HashSet};

use crate::api::names::Mark;
use crate::outside::OutsideError;
use crate::outside::budget::Priority;
use crate::slb::Workers;
use crate::slb::plan::mark;
use crate::slb::wire::Listed;

/// What was read of Workers, by account and name.
#[derive(Debug, Default)]
pub(super) struct Marks(HashMap<(String, String), Reading>);

/// One reading.
#[derive(Debug)]
struct Reading {
    /// When the Worker had been changed last.
    modified: Option<String>,
    mark: Option<Mark>,
}

impl Marks {
    /// Every Worker of the account that bears a mark, with that. What was read before an error need not be read again.
    ///
    /// # Errors
    /// As any read.
    pub(super) async fn read(&mut self, workers: &Workers) -> Result<Vec<(String, Mark)>, OutsideError> {
        let listed = workers.list(Priority::Normal).await?;
        for script in self.outdated(workers.account(), &listed) {
            // One that went meanwhile has no settings, and so no mark.
            let settings = workers.observe(&script.id, Priority::Normal).await?.settings;
            self.learn(workers.account(), script, settings.as_ref().and_then(mark));
        }
        Ok(self.marked(workers.account()))
    }

    /// Those that are to be read. What is listed no more is forgotten.
    fn outdated<'a>(&mut self, account: &str, listed: &'a [Listed]) -> Vec<&'a Listed> {
        let names: HashSet<_> = listed.iter().map(|script| script.id.as_str()).collect();
        self.0.retain(|(at, name), _| at != account || names.contains(name.as_str()));
        let is_known = |script: &&Listed| {
            let known = self.0.get(&(account.to_owned(), script.id.clone()));
            script.modified_on.is_some() && known.is_some_and(|known| known.modified == script.modified_on)
        };
        listed.iter().filter(|script| !is_known(script)).collect()
    }

    fn learn(&mut self, account: &str, script: &Listed, mark: Option<Mark>) {
        let reading = Reading { modified: script.modified_on.clone(), mark };
        self.0.insert((account.to_owned(), script.id.clone()), reading);
    }

    fn marked(&self, account: &str) -> Vec<(String, Mark)> {
        let of_account = self.0.iter().filter(|((at, _), _)| at == account);
        of_account.filter_map(|((_, name), reading)| Some((name.clone(), reading.mark.clone()?))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(name: &str, modified: Option<&str>) -> Listed {
        Listed { id: name.to_owned(), modified_on: modified.map(str::to_owned) }
    }

    fn owner() -> Mark {
        Mark::from_comment("roadstead/1 c=c1 o=aaaaaaaaaaaaaaaaaaaaaaaaaa k=0123456789abcdef").unwrap()
    }

    #[test]
    fn what_has_not_changed_is_not_read_again_and_what_is_gone_is_forgotten() {
        let mut marks = Marks::default();
        let mut read = |account: &str, listed: &[Listed]| -> (Vec<String>, Vec<String>) {
            let outdated = marks.outdated(account, listed);
            for script in &outdated {
                marks.learn(account, script, (script.id != "plain").then(owner));
            }
            let mut marked: Vec<_> = marks.marked(account).into_iter().map(|(name, _)| name).collect();
            marked.sort();
            (outdated.iter().map(|script| script.id.clone()).collect(), marked)
        };
        let names = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
        let first = [listed("a", Some("1")), listed("plain", Some("1")), listed("undated", None)];
        assert_eq!(read("x", &first), (names(&["a", "plain", "undated"]), names(&["a", "undated"])));
        assert_eq!(read("x", &first), (names(&["undated"]), names(&["a", "undated"])));
        assert_eq!(read("y", &[listed("a", Some("1"))]), (names(&["a"]), names(&["a"])), "another account's");
        assert_eq!(read("x", &[listed("a", Some("2"))]), (names(&["a"]), names(&["a"])));
        assert_eq!(read("x", &[]), (names(&[]), names(&[])));
        assert_eq!(read("y", &[listed("a", Some("1"))]), (names(&[]), names(&["a"])));
    }
}
