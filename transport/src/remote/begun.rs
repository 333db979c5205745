//! Asks of a peer that actors of this node have and have not answered.
//!
//! Owns which of them can be cancelled, and which of those that were still count as promised. Plain code;
//! refuses to know actors and lanes.
//!
//! ```text
//! ask ──begin──► begun ──────────────────── end ──► answered
//!                  └── cancel ──► cancelled ── end ──► nothing is said
//! ```
//!
//! It has one entry for each ask that an actor holds, which is bounded by what is promised (LANE-10). A
//! cancel gives the promise back, although the actor may hold the ask still: so of those there is a bound
//! here, or a peer that asks and cancels on and on could fill an actor that lets go of nothing.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use arw_kit::mailbox::AskCancel;

use crate::frame::CallId;

/// LANE-20: asks that give their promise back while an actor holds them. As many again may be cancelled with
/// each round trip in which actors let go of them.
pub(super) const CANCELLED_MAX: usize = 1_024;

/// The asks of one connection.
#[derive(Debug, Default)]
pub(super) struct Begun {
    asks: HashMap<CallId, Ask>,
    /// Of them, those that gave their promise back.
    given_back: usize,
}

#[derive(Debug)]
enum Ask {
    Waits(AskCancel),
    Cancelled { gave_promise_back: bool },
}

/// An ask whose asker waits no more.
#[derive(Debug)]
pub(super) struct CancelledAsk {
    /// Who holds it is told by this, outside of any lock.
    pub(super) ask: AskCancel,
    pub(super) gives_promise_back: bool,
}

/// How an ask was when its actor was done with it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct EndedAsk {
    pub(super) is_cancelled: bool,
    pub(super) gave_promise_back: bool,
}

impl Begun {
    /// `false`: the peer uses a call twice. The first keeps it, this one cannot be cancelled.
    pub(super) fn begin(&mut self, call: CallId, ask: AskCancel) -> bool {
        match self.asks.entry(call) {
            Entry::Occupied(_) => false,
            Entry::Vacant(place) => {
                place.insert(Ask::Waits(ask));
                true
            }
        }
    }

    /// LANE-20: nobody waits for the answer. `None`: there is no such ask, or it was cancelled before.
    pub(super) fn cancel(&mut self, call: CallId) -> Option<CancelledAsk> {
        let known = self.asks.get_mut(&call)?;
        let gives_promise_back = self.given_back < CANCELLED_MAX;
        let Ask::Waits(ask) = known else { return None };
        let ask = ask.clone();
        *known = Ask::Cancelled { gave_promise_back: gives_promise_back };
        self.given_back += usize::from(gives_promise_back);
        Some(CancelledAsk { ask, gives_promise_back })
    }

    /// Nobody waits for any answer: the connection is over. Promises do not matter any more.
    pub(super) fn cancel_all(&mut self) -> Vec<AskCancel> {
        let cancel = |ask: &mut Ask| match ask {
            Ask::Waits(_) => match std::mem::replace(ask, Ask::Cancelled { gave_promise_back: false }) {
                Ask::Waits(ask) => Some(ask),
                Ask::Cancelled { .. } => None,
            },
            Ask::Cancelled { .. } => None,
        };
        self.asks.values_mut().filter_map(cancel).collect()
    }

    /// Its actor holds it no more. Only for one that was begun.
    pub(super) fn end(&mut self, call: CallId) -> EndedAsk {
        match self.asks.remove(&call) {
            Some(Ask::Cancelled { gave_promise_back }) => {
                self.given_back -= usize::from(gave_promise_back);
                EndedAsk { is_cancelled: true, gave_promise_back }
            }
            Some(Ask::Waits(_)) | None => EndedAsk::default(),
        }
    }

    /// Asks that actors hold.
    pub(super) fn len(&self) -> usize {
        self.asks.len()
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Copy, Debug)]
    enum Step {
        Begin(u32),
        Cancel(u32),
        End(u32),
        CancelAll,
    }

    /// So many are cancelled before the steps that few give their promise back there.
    const BEFORE: u32 = 1_021;

    fn call(number: u32) -> CallId {
        let generation = NonZeroU32::new(number % 3 + 1).unwrap();
        CallId { slot: number / 3, generation }
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let numbers = || BEFORE - 2..BEFORE + 12;
        let step = prop_oneof![
            8 => numbers().prop_map(Step::Begin),
            8 => numbers().prop_map(Step::Cancel),
            6 => numbers().prop_map(Step::End),
            1 => Just(Step::CancelAll),
        ];
        proptest::collection::vec(step, 0..200)
    }

    #[derive(Debug, Default)]
    struct Model {
        /// Of each ask that is begun, what tells its actor, and how it would end.
        asks: HashMap<u32, (AskCancel, EndedAsk)>,
    }

    impl Model {
        fn given_back(&self) -> usize {
            self.asks.values().filter(|(_, ended)| ended.gave_promise_back).count()
        }

        fn check(&mut self, begun: &mut Begun, step: Step) {
            match step {
                Step::Begin(number) => {
                    let ask = AskCancel::new();
                    let is_new = begun.begin(call(number), ask.clone());
                    assert_eq!(is_new, !self.asks.contains_key(&number));
                    if is_new {
                        self.asks.insert(number, (ask, EndedAsk::default()));
                    }
                }
                Step::Cancel(number) => {
                    let gives_promise_back = self.given_back() < CANCELLED_MAX;
                    let known = self.asks.get_mut(&number).filter(|(_, ended)| !ended.is_cancelled);
                    let cancelled = begun.cancel(call(number));
                    assert_eq!(cancelled.is_some(), known.is_some(), "once, and only of one that is begun");
                    let (Some(cancelled), Some((ask, ended))) = (cancelled, known) else { return };
                    assert_eq!(cancelled.gives_promise_back, gives_promise_back);
                    cancelled.ask.cancel();
                    assert!(ask.is_cancelled(), "it is this very ask that is told");
                    *ended = EndedAsk { is_cancelled: true, gave_promise_back: gives_promise_back };
                }
                Step::End(number) => {
                    let ended = self.asks.remove(&number).map(|(_, ended)| ended).unwrap_or_default();
                    assert_eq!(begun.end(call(number)), ended);
                }
                Step::CancelAll => {
                    begun.cancel_all().iter().for_each(AskCancel::cancel);
                    for (ask, ended) in self.asks.values_mut() {
                        assert!(ask.is_cancelled());
                        ended.is_cancelled = true;
                    }
                }
            }
            assert_eq!((begun.len(), begun.given_back), (self.asks.len(), self.given_back()));
            assert!(begun.given_back <= CANCELLED_MAX);
        }
    }

    proptest! {
        #[test]
        fn lane_20_a_cancel_ends_one_ask_once_and_nothing_grows_by_it(steps in steps()) {
            // LANE-20
            let (mut begun, mut model) = (Begun::default(), Model::default());
            for number in 0..BEFORE {
                begun.begin(call(number), AskCancel::new());
                begun.cancel(call(number)).unwrap();
                let ended = EndedAsk { is_cancelled: true, gave_promise_back: true };
                let ask = AskCancel::new();
                ask.cancel();
                model.asks.insert(number, (ask, ended));
            }
            for step in steps {
                model.check(&mut begun, step);
            }
        }
    }
}
