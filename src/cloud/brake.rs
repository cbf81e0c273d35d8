//! The brake: automation never withdraws or deletes a large part of a fleet without a person's word.
//!
//! Pure. A hold begins when more Nodes are affected within the window than the limits allow, and lasts until they are
//! no more than allowed again. It is approved by its id, and an approval is worth nothing beyond its hold.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use sha2::{Digest, Sha256};

/// How much may go at once (`Provider.spec.brake`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// So many are always allowed.
    pub minimum: u32,
    /// So many of a hundred Nodes are allowed, rounded down.
    pub percent: u32,
    /// The time within which affected Nodes are counted together.
    pub window: Duration,
}

impl Limits {
    /// How many of `total` Nodes may be affected within the window.
    #[must_use]
    pub fn allowed(&self, total: usize) -> usize {
        let of = |n: u32| usize::try_from(n).unwrap_or(usize::MAX);
        of(self.minimum).max(total.saturating_mul(of(self.percent)) / 100)
    }
}

/// What the brake is held against.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// VMs that are no longer there: withdrawing their names waits.
    MassAbsence,
    /// Nodes that are to be deleted: deleting their VMs waits.
    MassDeletion,
}

impl Kind {
    /// The word that begins the id of a hold.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::MassAbsence => "absence",
            Self::MassDeletion => "deletion",
        }
    }
}

/// One Node whose VM vanished, or that is to be deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Affected {
    /// When it was withdrawn or deleted; `None` while it waits for the verdict.
    pub acted_at: Option<Timestamp>,
}

/// A brake that is on, or was released by an approval and not yet needed again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hold {
    /// What a person writes into the annotation `approve-deletions`.
    pub id: String,
    /// What is held.
    pub kind: Kind,
    /// When it began.
    pub since: Timestamp,
}

/// What may be done now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// Whether the waiting Nodes may be acted on.
    pub go: bool,
    /// The hold to remember; `None` when there is none (any more).
    pub hold: Option<Hold>,
    /// How many Nodes are affected within the window.
    pub affected: usize,
    /// How many may be.
    pub allowed: usize,
}

/// The brake of one Provider for one kind of change, with what is remembered of it.
#[derive(Debug, Clone, Copy)]
pub struct Brake<'a> {
    /// What it is held against.
    pub kind: Kind,
    /// Sets holds of different Providers apart, e.g. by the UID.
    pub scope: &'a str,
    /// How much may go at once.
    pub limits: Limits,
    /// The hold remembered for this kind, if there is one.
    pub hold: Option<&'a Hold>,
    /// The id that a person wrote as approved.
    pub approved: Option<&'a str>,
}

impl Brake<'_> {
    /// Decides for all waiting Nodes of the Provider together.
    ///
    /// `total` is the number of the Provider's Nodes, those affected included, also those already gone within the
    /// window (or the allowance would shrink while it is used). `affected` holds everything that waits and everything
    /// acted on; what was acted on before the window is ignored.
    #[must_use]
    pub fn decide(&self, total: usize, affected: &[Affected], now: Timestamp) -> Verdict {
        let window = SignedDuration::try_from(self.limits.window).unwrap_or(SignedDuration::MAX);
        let counts = |node: &&Affected| node.acted_at.is_none_or(|at| now.duration_since(at) < window);
        let affected = affected.iter().filter(counts).count();
        let allowed = self.limits.allowed(total);
        if affected <= allowed {
            return Verdict { go: true, hold: None, affected, allowed };
        }
        let kept = self.hold.filter(|hold| hold.kind == self.kind).cloned();
        let hold = kept.unwrap_or_else(|| Hold::begin(self.kind, self.scope, now));
        Verdict { go: self.approved == Some(hold.id.as_str()), hold: Some(hold), affected, allowed }
    }
}

impl Hold {
    fn begin(kind: Kind, scope: &str, since: Timestamp) -> Self {
        let hash = Sha256::digest(format!("{}/{scope}/{}", kind.word(), since.as_nanosecond()));
        let id = format!("{}-{}", kind.word(), data_encoding::HEXLOWER.encode(&hash[..4]));
        Self { id, kind, since }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LIMITS: Limits = Limits { minimum: 5, percent: 10, window: Duration::from_mins(10) };

    fn at(minute: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + minute * 60).unwrap()
    }

    fn waiting(n: usize) -> Vec<Affected> {
        vec![Affected { acted_at: None }; n]
    }

    fn run(total: usize, affected: &[Affected], hold: Option<&Hold>, approved: Option<&str>, minute: i64) -> Verdict {
        let brake = Brake { kind: Kind::MassDeletion, scope: "uid", limits: LIMITS, hold, approved };
        brake.decide(total, affected, at(minute))
    }

    #[test]
    fn up_to_the_larger_of_minimum_and_percent_goes_and_one_more_is_held() {
        for (total, allowed) in [(1, 5), (10, 5), (59, 5), (60, 6), (1_000, 100)] {
            assert!(run(total, &waiting(allowed), None, None, 0).go, "{allowed} of {total}");
            let verdict = run(total, &waiting(allowed + 1), None, None, 0);
            assert!(!verdict.go && verdict.hold.is_some(), "{} of {total}", allowed + 1);
        }
    }

    #[test]
    fn a_hold_keeps_its_id_while_it_lasts_and_its_approval_lapses_with_it() {
        let first = run(1_000, &waiting(600), None, None, 0).hold.unwrap();
        let later = run(1_000, &waiting(700), Some(&first), None, 30).hold.unwrap();
        assert_eq!(first, later);
        let approved = run(1_000, &waiting(700), Some(&later), Some(&first.id), 31);
        assert!(approved.go);
        assert_eq!(approved.hold.as_ref(), Some(&first), "it is remembered until the set is small again");
        let over = run(1_000, &waiting(3), approved.hold.as_ref(), Some(&first.id), 90);
        assert_eq!((over.go, over.hold), (true, None));
        let second = run(1_000, &waiting(600), None, Some(&first.id), 91);
        assert!(!second.go, "the old approval does not approve the next hold");
        assert_ne!(second.hold.unwrap().id, first.id);
    }

    #[test]
    fn an_approved_deletion_that_outlasts_the_window_stays_approved_to_its_end() {
        let hold = run(100, &waiting(60), None, None, 0).hold.unwrap();
        let mut nodes = vec![Affected { acted_at: Some(at(1)) }; 30];
        nodes.extend(waiting(30));
        assert!(run(100, &nodes, Some(&hold), Some(&hold.id), 40).go);
        assert!(!run(100, &nodes, Some(&hold), None, 40).go, "what still waits counts, however old the hold");
    }

    #[test]
    fn dribbling_under_the_limit_is_held_until_the_window_has_passed() {
        let mut nodes: Vec<_> = (0..5).map(|minute| Affected { acted_at: Some(at(minute)) }).collect();
        nodes.extend(waiting(1));
        let verdict = run(20, &nodes, None, None, 5);
        assert!(!verdict.go);
        let verdict = run(20, &nodes, verdict.hold.as_ref(), None, 10);
        assert_eq!((verdict.go, verdict.hold), (true, None), "the first left the window after ten minutes");
    }

    #[test]
    fn holds_of_two_kinds_and_two_providers_are_approved_apart() {
        let deletion = run(10, &waiting(9), None, None, 0).hold.unwrap();
        let brake =
            Brake { kind: Kind::MassDeletion, scope: "uid", limits: LIMITS, hold: None, approved: Some(&deletion.id) };
        let go = |brake: Brake| brake.decide(10, &waiting(9), at(0)).go;
        assert!(go(brake));
        assert!(!go(Brake { kind: Kind::MassAbsence, ..brake }));
        assert!(!go(Brake { scope: "other", ..brake }));
        let other = Brake { kind: Kind::MassAbsence, hold: Some(&deletion), ..brake };
        assert!(!go(other), "a hold of one kind, remembered for the other, is not taken for it");
    }

    proptest! {
        #[test]
        fn without_approval_no_window_ever_sees_more_than_allowed(
            total in 1_usize..400,
            arrivals in proptest::collection::vec(0_usize..40, 1..60),
        ) {
            // A greedy controller: each minute new Nodes ask to go, and whenever the brake says go, everything that
            // waits goes at once.
            let (mut nodes, mut hold): (Vec<Affected>, Option<Hold>) = (Vec::new(), None);
            for (minute, arriving) in (0_i64..).zip(arrivals) {
                nodes.extend(waiting(arriving));
                let verdict = run(total, &nodes, hold.as_ref(), None, minute);
                hold = verdict.hold;
                if verdict.go {
                    for node in nodes.iter_mut().filter(|node| node.acted_at.is_none()) {
                        node.acted_at = Some(at(minute));
                    }
                }
                let recent = nodes.iter().filter_map(|node| node.acted_at).filter(|acted| *acted > at(minute - 10));
                prop_assert!(recent.count() <= LIMITS.allowed(total));
            }
        }
    }
}
