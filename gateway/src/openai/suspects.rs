//! Bodies of requests that were in flight when an engine died.
//!
//! Plain decider. HTTP-22: one that was there at two deaths, and alone at one of them, is refused for a
//! while. Two deaths that it shared with others may be the work of those others, however often that happens
//! to a body that is asked for often; so that it is known, each is tried alone (`lane.rs`). What kills an
//! engine whenever it is read kills two: beside others, and alone; a third where others could not be kept
//! away. Owns what is remembered, at most [`BODIES_MAX`] bodies. Refuses to know engines and requests: a body
//! is a number, a death a text.

use std::collections::HashMap;
use std::time::Duration;

use arw_actors::ids::NodeId;
use arw_kit::moment::{Moment, WallTime};

/// A body, and the model that it was for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Suspect {
    pub(crate) model: String,
    pub(crate) body: u64,
}

/// The end of one engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Death {
    /// Which one: the same is told by each request that was in flight.
    pub(crate) id: String,
    /// The runtime that it was an engine of.
    pub(crate) runtime: String,
    pub(crate) at: WallTime,
    /// `crashed with SIGSEGV`.
    pub(crate) detail: String,
    /// No other request was in flight.
    pub(crate) is_lone: bool,
    /// Whose word it is; `None`: this node has seen it.
    pub(crate) told_by: Option<NodeId>,
}

/// What follows for a request with this body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Nothing speaks against it.
    Free,
    /// It was there: it is tried alone, where that can be had.
    Suspect,
    /// It was there more than once, each time with others: it goes alone or not at all.
    Alone,
    /// It was there at these deaths, and is refused for so long.
    Refused(Vec<Death>, Duration),
}

/// The decider.
#[derive(Debug, Default)]
pub(crate) struct Suspects {
    bodies: HashMap<Suspect, Record>,
}

#[derive(Debug)]
struct Record {
    deaths: Vec<Death>,
    last: Moment,
    /// Since the last death it has got a whole answer from the same runtime: another one may bear it.
    has_passed: bool,
    /// The runtime of the last death; `None`: another node's.
    runtime: Option<String>,
}

/// One may be chance: many requests are in flight when an engine dies, and only one is the cause.
const DEATHS_MAX: usize = 2;
/// What has passed goes free until the next death, but not for ever: some bodies kill only beside others.
const DEATHS_PASSED_MAX: usize = 3;
/// Longer than the window of a restart budget (five minutes): what kills an engine again after it does not
/// use one up.
const REMEMBERED: Duration = Duration::from_secs(600);
/// Many times what is in flight at one death, and some hundred kilobytes.
const BODIES_MAX: usize = 1_024;

impl Suspects {
    /// Nobody is suspected.
    pub(crate) fn is_empty(&self) -> bool {
        self.bodies.is_empty()
    }

    pub(crate) fn verdict(&mut self, now: Moment, suspect: &Suspect) -> Verdict {
        let Some(record) = self.bodies.get(suspect) else { return Verdict::Free };
        let until = record.last + REMEMBERED;
        if until <= now {
            self.bodies.remove(suspect);
            return Verdict::Free;
        }
        if record.proven() >= DEATHS_MAX && record.has_lone() {
            return Verdict::Refused(record.deaths.clone(), until.since(now));
        }
        if record.has_passed && record.deaths.len() <= DEATHS_PASSED_MAX {
            return Verdict::Free;
        }
        if record.deaths.len() < DEATHS_MAX { Verdict::Suspect } else { Verdict::Alone }
    }

    /// This body has got a whole answer from this runtime of this node.
    pub(crate) fn pass(&mut self, suspect: &Suspect, runtime: &str) {
        if let Some(record) = self.bodies.get_mut(suspect) {
            record.has_passed |= record.runtime.as_deref() == Some(runtime);
        }
    }

    /// An engine died with this body in flight.
    pub(crate) fn note(&mut self, now: Moment, suspect: Suspect, death: Death) {
        self.bodies.retain(|_, record| record.last + REMEMBERED > now);
        if self.bodies.len() >= BODIES_MAX && !self.bodies.contains_key(&suspect) {
            let oldest = self.bodies.iter().min_by_key(|(_, record)| record.last).map(|(key, _)| key.clone());
            oldest.and_then(|oldest| self.bodies.remove(&oldest));
        }
        let record = self.bodies.entry(suspect).or_insert_with(|| Record {
            deaths: Vec::new(),
            last: now,
            has_passed: false,
            runtime: None,
        });
        if let Some(known) = record.deaths.iter_mut().find(|known| known.id == death.id) {
            known.is_lone |= death.is_lone;
            return;
        }
        record.last = now;
        record.has_passed = false;
        record.runtime = death.told_by.is_none().then(|| death.runtime.clone());
        // More than the first ones tell nothing new, but for the first that it was alone at.
        if record.deaths.len() <= DEATHS_PASSED_MAX || (death.is_lone && !record.has_lone()) {
            record.deaths.push(death);
        }
    }
}

impl Record {
    /// Its deaths; of what another node has told one counts, whatever it says, so that no node by itself
    /// makes this one refuse anything.
    fn proven(&self) -> usize {
        let seen = self.deaths.iter().filter(|death| death.told_by.is_none()).count();
        let mut tellers: Vec<NodeId> = self.deaths.iter().filter_map(|death| death.told_by).collect();
        tellers.sort_unstable();
        tellers.dedup();
        seen + tellers.len()
    }

    fn has_lone(&self) -> bool {
        self.deaths.iter().any(|death| death.is_lone)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(seconds: u64) -> Moment {
        Moment::ZERO + Duration::from_secs(seconds)
    }

    fn body(number: u64) -> Suspect {
        Suspect { model: "smol".to_owned(), body: number }
    }

    fn death(number: u64) -> Death {
        Death {
            id: number.to_string(),
            runtime: "r1".to_owned(),
            at: WallTime::from_millis(0),
            detail: "crashed".to_owned(),
            is_lone: true,
            told_by: None,
        }
    }

    fn shared(number: u64) -> Death {
        Death { is_lone: false, ..death(number) }
    }

    /// HTTP-22.
    #[test]
    fn a_body_that_was_there_at_two_deaths_is_refused_for_ten_minutes() {
        let mut suspects = Suspects::default();
        assert_eq!(suspects.verdict(at(0), &body(1)), Verdict::Free);
        suspects.note(at(0), body(1), death(1));
        assert_eq!(suspects.verdict(at(1), &body(1)), Verdict::Suspect);
        suspects.note(at(60), body(1), death(2));
        let refused = Verdict::Refused(vec![death(1), death(2)], Duration::from_secs(590));
        assert_eq!(suspects.verdict(at(70), &body(1)), refused);
        assert_eq!(suspects.verdict(at(70), &body(2)), Verdict::Free);
        let elsewhere = Suspect { model: "large".to_owned(), ..body(1) };
        assert_eq!(suspects.verdict(at(70), &elsewhere), Verdict::Free, "another model may bear it");
        assert_eq!(suspects.verdict(at(660), &body(1)), Verdict::Free);
        assert!(suspects.is_empty());
    }

    /// HTTP-22: others may have been the cause each time.
    #[test]
    fn a_body_that_was_never_alone_at_a_death_is_not_refused_but_goes_alone() {
        let mut suspects = Suspects::default();
        suspects.note(at(0), body(1), shared(1));
        assert_eq!(suspects.verdict(at(1), &body(1)), Verdict::Suspect);
        for number in 2..9 {
            suspects.note(at(0), body(1), shared(number));
            assert_eq!(suspects.verdict(at(1), &body(1)), Verdict::Alone);
        }
        suspects.note(at(0), body(1), death(9));
        let told = vec![shared(1), shared(2), shared(3), shared(4), death(9)];
        let refused = Verdict::Refused(told, REMEMBERED);
        assert_eq!(suspects.verdict(at(0), &body(1)), refused);
    }

    /// HTTP-22: what kills one engine may be borne by another one of the same model.
    #[test]
    fn who_has_passed_elsewhere_has_not_passed() {
        let mut suspects = Suspects::default();
        suspects.note(at(0), body(1), shared(1));
        suspects.pass(&body(1), "r2");
        assert_eq!(suspects.verdict(at(1), &body(1)), Verdict::Suspect);
        suspects.pass(&body(1), "r1");
        assert_eq!(suspects.verdict(at(1), &body(1)), Verdict::Free);
    }

    /// HTTP-22: what one node says does not bar a body from the others; two nodes, or this one's own eyes,
    /// do.
    #[test]
    fn of_what_another_node_tells_one_death_counts() {
        let told = |number, node| Death { told_by: Some(NodeId::from_bytes([node; 32])), ..death(number) };
        let mut suspects = Suspects::default();
        for number in 1..4 {
            suspects.note(at(0), body(1), told(number, 7));
        }
        assert_eq!(suspects.verdict(at(1), &body(1)), Verdict::Alone);
        suspects.note(at(0), body(1), told(4, 8));
        assert!(matches!(suspects.verdict(at(1), &body(1)), Verdict::Refused(..)));
        suspects.note(at(0), body(2), told(1, 7));
        suspects.note(at(0), body(2), shared(5));
        assert!(matches!(suspects.verdict(at(1), &body(2)), Verdict::Refused(..)));
    }

    /// HTTP-22: it was tried, or others could not be kept away from it; that it lives says something for it.
    #[test]
    fn what_has_passed_goes_free_until_the_next_death_and_not_for_ever() {
        let mut suspects = Suspects::default();
        for number in 1..=3 {
            suspects.note(at(0), body(1), shared(number));
            assert_ne!(suspects.verdict(at(1), &body(1)), Verdict::Free);
            suspects.pass(&body(1), "r1");
            assert_eq!(suspects.verdict(at(1), &body(1)), Verdict::Free);
        }
        suspects.note(at(0), body(1), shared(4));
        suspects.pass(&body(1), "r1");
        assert_eq!(suspects.verdict(at(1), &body(1)), Verdict::Alone);
        suspects.note(at(0), body(1), death(5));
        assert!(matches!(suspects.verdict(at(1), &body(1)), Verdict::Refused(..)));
    }

    /// HTTP-22: two requests with the same body, as a load test sends them, are there at one death together.
    #[test]
    fn one_death_counts_once_for_a_body_however_often_it_is_told() {
        let mut suspects = Suspects::default();
        for _ in 0..5 {
            suspects.note(at(0), body(1), death(1));
        }
        assert_eq!(suspects.verdict(at(1), &body(1)), Verdict::Suspect);
    }

    proptest! {
        /// HTTP-22: whatever dies, memory stays bounded, and only who was there at two deaths within ten
        /// minutes is refused.
        #[test]
        fn only_who_was_there_twice_is_refused(
            notes in prop::collection::vec((0_u64..2_000, 0_u64..40, 0_u64..30), 0..200)
        ) {
            let mut suspects = Suspects::default();
            let mut now = 0;
            let mut told: HashMap<u64, Vec<(u64, u64)>> = HashMap::new();
            for (who, which, after) in notes {
                now += after;
                suspects.note(at(now), body(who % 50 * 40), death(which));
                told.entry(who % 50 * 40).or_default().push((which, now));
                prop_assert!(suspects.bodies.len() <= BODIES_MAX);
            }
            for (who, deaths) in told {
                let mut ids: Vec<u64> = deaths.iter().map(|(id, _)| *id).collect();
                ids.sort_unstable();
                ids.dedup();
                let verdict = suspects.verdict(at(now), &body(who));
                if ids.len() < DEATHS_MAX {
                    prop_assert!(!matches!(verdict, Verdict::Refused(..)));
                }
                let last = deaths.iter().map(|(_, at)| *at).max().unwrap_or(0);
                if now - last >= REMEMBERED.as_secs() {
                    prop_assert_eq!(verdict, Verdict::Free);
                }
            }
        }
    }

    #[test]
    fn the_oldest_makes_room() {
        let mut suspects = Suspects::default();
        for number in 0..=u64::try_from(BODIES_MAX).unwrap() {
            suspects.note(Moment::ZERO + Duration::from_millis(number), body(number), death(number));
        }
        assert_eq!(suspects.bodies.len(), BODIES_MAX);
        assert_eq!(suspects.verdict(at(2), &body(0)), Verdict::Free);
        assert_eq!(suspects.verdict(at(2), &body(1)), Verdict::Suspect);
    }
}
