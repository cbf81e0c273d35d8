//! Deliberate bugs that show whether the properties would notice them. Only tests have them.

use std::cell::Cell;

/// A deliberate bug.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seeded {
    /// The old revision is removed before the new one is made, although they may run side by side.
    RemoveFirst,
    /// The route is swapped without asking whether the new revision is well.
    SwapUnproved,
    /// A revision is made by an `up` that starts the stopped old one too.
    StartStopped,
    /// On the way back the new revision's containers go before the names lead to the old one again.
    RouteLast,
}

thread_local! {
    static SEEDED: Cell<Option<Seeded>> = const { Cell::new(None) };
}

/// Whether this bug was ordered on this thread.
pub fn is(bug: Seeded) -> bool {
    SEEDED.get() == Some(bug)
}

/// Does `work` with this bug.
pub fn with<T>(bug: Seeded, work: impl FnOnce() -> T) -> T {
    struct Reset;
    impl Drop for Reset {
        fn drop(&mut self) {
            SEEDED.set(None);
        }
    }
    let _reset = Reset;
    SEEDED.set(Some(bug));
    work()
}
