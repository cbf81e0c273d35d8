//! Hosts that serve and are to be changed, because a new version of the operator or new settings put something else on
//! them: one first, then a few at a time, and none any more once one has failed. Repairs and new hosts do not wait.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::runtime::cache::Key;

/// How many hosts are changed at once, after the first was changed well.
const AT_ONCE: usize = 5;

/// Who may change a host now. Clones share it.
#[derive(Clone, Default)]
pub struct Roll(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    changing: BTreeSet<Key>,
    /// Whether a host was changed well in this life of the process.
    proven: bool,
    /// Hosts whose change has failed, and with what.
    failed: BTreeMap<Key, String>,
}

/// Why a host is not changed now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NotNow {
    /// Others are being changed.
    Busy,
    /// The change of another one has failed.
    Failed {
        /// Whose.
        of: Key,
        /// With what.
        message: String,
    },
}

/// The right to change a host. Without an end that was told, it is as if nothing had been done.
pub struct Turn {
    roll: Roll,
    key: Key,
}

impl Roll {
    /// The right to change the host of this Node.
    ///
    /// # Errors
    /// That it is not its turn.
    pub fn enter(&self, key: &Key) -> Result<Turn, NotNow> {
        let mut state = self.lock();
        // The one that failed is the one that may try again.
        if let Some((of, message)) = state.failed.iter().find(|(failed, _)| *failed != key) {
            return Err(NotNow::Failed { of: of.clone(), message: message.clone() });
        }
        let most = if state.proven { AT_ONCE } else { 1 };
        if state.changing.len() >= most {
            return Err(NotNow::Busy);
        }
        state.changing.insert(key.clone());
        Ok(Turn { roll: self.clone(), key: key.clone() })
    }

    /// A Node is gone, or its host is as it should be: nothing of it stops others.
    pub fn clear(&self, key: &Key) {
        self.lock().failed.remove(key);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Turn {
    /// The host was changed, or this went wrong.
    pub fn end(self, result: Result<(), String>) {
        let mut state = self.roll.lock();
        match result {
            Ok(()) => {
                state.proven = true;
                state.failed.remove(&self.key);
            }
            Err(message) => drop(state.failed.insert(self.key.clone(), message)),
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.roll.lock().changing.remove(&self.key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: usize) -> Key {
        Key::namespaced("shop", format!("web-{number}"))
    }

    fn why(result: Result<Turn, NotNow>) -> NotNow {
        match result {
            Err(not_now) => not_now,
            Ok(_) => panic!("it was let in"),
        }
    }

    #[test]
    fn one_host_goes_first_and_then_a_few_at_a_time() {
        let roll = Roll::default();
        let first = roll.enter(&key(0)).ok().unwrap();
        assert_eq!(why(roll.enter(&key(1))), NotNow::Busy);
        // Cut off, it has proven nothing.
        drop(first);
        let first = roll.enter(&key(1)).ok().unwrap();
        assert_eq!(why(roll.enter(&key(2))), NotNow::Busy);
        first.end(Ok(()));
        let turns: Vec<_> = (2..7).map(|number| roll.enter(&key(number)).ok().unwrap()).collect();
        assert_eq!(why(roll.enter(&key(7))), NotNow::Busy);
        drop(turns);
        assert!(roll.enter(&key(7)).is_ok());
    }

    #[test]
    fn a_failure_stops_the_others_until_that_host_is_well_or_gone() {
        let roll = Roll::default();
        roll.enter(&key(0)).ok().unwrap().end(Err("no space".to_owned()));
        let stopped = NotNow::Failed { of: key(0), message: "no space".to_owned() };
        assert_eq!(why(roll.enter(&key(1))), stopped);
        // It tries again itself.
        roll.enter(&key(0)).ok().unwrap().end(Err("no space".to_owned()));
        assert_eq!(why(roll.enter(&key(1))), stopped);
        roll.enter(&key(0)).ok().unwrap().end(Ok(()));
        assert!(roll.enter(&key(1)).is_ok());
        roll.enter(&key(2)).ok().unwrap().end(Err("no space".to_owned()));
        roll.clear(&key(2));
        assert!(roll.enter(&key(1)).is_ok());
    }
}
