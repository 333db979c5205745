//! The asks of one connection that wait for their answers.
//!
//! Owns a bounded table of places and how often each was used, so that an answer meets only the ask that it
//! is for, and until when each waits. Plain code: whom to wake is returned.
//!
//! ```text
//! free ──open──► waiting ──answer──► answered ──poll──► free
//!                   ├──── expire ──► expired ───poll──►
//!                   └──────────── end, fail_all ──────►
//! ```
//!
//! Deadlines cost nothing until one passes: the table knows only that none is due before
//! [`CallTable::next_due`], and looks at all of its places then. Asks that are answered in time move that
//! moment no further, so with a patience of ten seconds it looks every ten seconds.

use std::num::NonZeroU32;
use std::task::Poll;

use arw_kit::moment::Moment;
use smallvec::SmallVec;

use crate::frame::CallId;

/// The table. `W` is who is woken.
#[derive(Debug)]
pub(super) struct CallTable<W> {
    places: Vec<Place<W>>,
    free: Option<u32>,
    open: usize,
    open_max: usize,
    late: u64,
    is_down: bool,
    /// No call that waits is due before; the latest moment that can be while none waits.
    next_due: Option<Moment>,
}

#[derive(Debug)]
struct Place<W> {
    generation: NonZeroU32,
    state: State<W>,
}

#[derive(Debug)]
enum State<W> {
    Free { next: Option<u32> },
    Waiting { waiter: Option<W>, due: Moment },
    Answered(Answer),
    Expired,
}

/// An answer as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) is_refusal: bool,
    pub(super) body: Body,
}

/// Most answers fit into the table's place, and need no memory of their own.
pub(super) type Body = SmallVec<[u8; 88]>;

/// What became of an ask.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Answered(Answer),
    /// The deadline passed first.
    Expired,
    /// The connection ended first.
    Down,
}

/// A call was not opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OpenError {
    TooMany,
    Down,
}

impl<W> CallTable<W> {
    pub(super) fn new(open_max: usize) -> Self {
        Self { places: Vec::new(), free: None, open: 0, open_max, late: 0, is_down: false, next_due: None }
    }

    /// A new call, which waits until `due`. `waiter` is told how it ends.
    pub(super) fn open(&mut self, due: Moment, waiter: W) -> Result<CallId, OpenError> {
        if self.is_down {
            return Err(OpenError::Down);
        }
        // LANE-6: asks that wait are bounded.
        if self.open >= self.open_max {
            return Err(OpenError::TooMany);
        }
        let slot = match self.free {
            Some(slot) => slot,
            None => {
                let Ok(slot) = u32::try_from(self.places.len()) else { return Err(OpenError::TooMany) };
                self.places.push(Place { generation: NonZeroU32::MAX, state: State::Free { next: None } });
                slot
            }
        };
        let Some(place) = self.places.get_mut(slot as usize) else { return Err(OpenError::TooMany) };
        if let State::Free { next } = place.state {
            self.free = next;
        }
        // After four thousand million uses of one place it begins anew: no answer is that late.
        place.generation = place.generation.checked_add(1).unwrap_or(NonZeroU32::MIN);
        place.state = State::Waiting { waiter: Some(waiter), due };
        self.open += 1;
        if self.next_due.is_none_or(|next| due < next) {
            self.next_due = Some(due);
        }
        Ok(CallId { slot, generation: place.generation })
    }

    /// An answer came. Returns who waits for it.
    pub(super) fn answer(&mut self, call: CallId, is_refusal: bool, body: &[u8]) -> Option<W> {
        // LANE-7: an answer to an ask that has ended, or a second one, meets nobody.
        let Some(state @ State::Waiting { .. }) = self.state_of(call) else {
            self.late += 1;
            return None;
        };
        let answered = State::Answered(Answer { is_refusal, body: Body::from_slice(body) });
        match std::mem::replace(state, answered) {
            State::Waiting { waiter, .. } => waiter,
            State::Free { .. } | State::Answered(_) | State::Expired => None,
        }
    }

    /// When to call [`CallTable::expire`] next, at the earliest.
    pub(super) fn next_due(&self) -> Option<Moment> {
        self.next_due
    }

    /// Ends the calls whose deadline has passed, and returns who waits for them.
    pub(super) fn expire(&mut self, now: Moment) -> Vec<W> {
        let mut waiters = Vec::new();
        let mut next_due = None;
        for place in &mut self.places {
            let State::Waiting { waiter, due } = &mut place.state else { continue };
            if *due <= now {
                waiters.extend(waiter.take());
                place.state = State::Expired;
            } else if next_due.is_none_or(|next| *due < next) {
                next_due = Some(*due);
            }
        }
        self.next_due = next_due;
        waiters
    }

    /// The outcome of a call, whose place is free then; pending: `waiter` is told.
    pub(super) fn poll(
        &mut self,
        call: CallId,
        waiter: impl FnOnce(Option<&W>) -> Option<W>,
    ) -> Poll<Outcome> {
        match self.state_of(call) {
            Some(State::Waiting { waiter: known, .. }) => {
                if let Some(new) = waiter(known.as_ref()) {
                    *known = Some(new);
                }
                Poll::Pending
            }
            Some(State::Answered(_) | State::Expired) => match self.release(call) {
                Some(State::Answered(answer)) => Poll::Ready(Outcome::Answered(answer)),
                Some(State::Expired) => Poll::Ready(Outcome::Expired),
                Some(State::Free { .. } | State::Waiting { .. }) | None => Poll::Ready(Outcome::Down),
            },
            Some(State::Free { .. }) | None => Poll::Ready(Outcome::Down),
        }
    }

    /// Nobody waits for this call any more. It leaves nothing behind. `true`: no answer has come.
    pub(super) fn end(&mut self, call: CallId) -> bool {
        matches!(self.release(call), Some(State::Waiting { .. } | State::Expired))
    }

    /// The connection has ended. Returns everybody who waits; no call is opened any more. Answers that have
    /// come stay.
    pub(super) fn fail_all(&mut self) -> Vec<W> {
        self.is_down = true;
        let mut waiters = Vec::new();
        for place in &mut self.places {
            if let State::Waiting { waiter, .. } = &mut place.state {
                waiters.extend(waiter.take());
                place.state = State::Free { next: None };
                self.open -= 1;
            }
        }
        waiters
    }

    /// An answer came that can be for no call of this table.
    pub(super) fn count_late(&mut self) {
        self.late += 1;
    }

    /// Calls that have not ended.
    pub(super) fn open_count(&self) -> usize {
        self.open
    }

    /// Answers that met nobody.
    pub(super) fn late_count(&self) -> u64 {
        self.late
    }

    fn state_of(&mut self, call: CallId) -> Option<&mut State<W>> {
        let place = self.places.get_mut(call.slot as usize)?;
        (place.generation == call.generation).then_some(&mut place.state)
    }

    fn release(&mut self, call: CallId) -> Option<State<W>> {
        let next = self.free;
        let state = self.state_of(call)?;
        if matches!(state, State::Free { .. }) {
            return None;
        }
        let ended = std::mem::replace(state, State::Free { next });
        self.free = Some(call.slot);
        self.open -= 1;
        Some(ended)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Copy, Debug)]
    enum Step {
        /// A call that waits for so many seconds.
        Open(u64),
        /// One of all calls ever opened.
        Answer(prop::sample::Index),
        Poll(prop::sample::Index),
        End(prop::sample::Index),
        /// So many seconds pass.
        Pass(u64),
        Fail,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            10 => (0..20_u64).prop_map(Step::Open),
            8 => any::<prop::sample::Index>().prop_map(Step::Answer),
            8 => any::<prop::sample::Index>().prop_map(Step::Poll),
            4 => any::<prop::sample::Index>().prop_map(Step::End),
            4 => (0..10_u64).prop_map(Step::Pass),
        ];
        (proptest::collection::vec(step, 0..300), any::<bool>()).prop_map(|(mut steps, fails)| {
            if fails {
                steps.insert(steps.len() / 2, Step::Fail);
            }
            steps
        })
    }

    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    enum Model {
        Waits { due: Moment },
        Answered,
        Expired,
    }

    /// A waiter is the number of its call, counted from the first that was opened.
    #[derive(Default)]
    struct Trial {
        opened: Vec<CallId>,
        model: HashMap<CallId, Model>,
        now: Moment,
    }

    impl Trial {
        fn check(&mut self, calls: &mut CallTable<usize>, step: Step) {
            let Self { opened, model, now } = self;
            let pick = |opened: &[CallId], index: prop::sample::Index| {
                (!opened.is_empty()).then(|| opened[index.index(opened.len())])
            };
            match step {
                Step::Open(seconds) => {
                    let due = *now + Duration::from_secs(seconds);
                    match calls.open(due, opened.len()) {
                        Ok(call) => {
                            let before = model.insert(call, Model::Waits { due });
                            assert!(before.is_none(), "a call is used again while it is open");
                            assert!(!opened.contains(&call), "an earlier call cannot be told from this one");
                            opened.push(call);
                        }
                        Err(OpenError::TooMany) => assert_eq!(model.len(), 7),
                        Err(OpenError::Down) => assert!(calls.is_down),
                    }
                }
                Step::Answer(index) => {
                    let Some(call) = pick(opened, index) else { return };
                    let late = calls.late_count();
                    let woken = calls.answer(call, false, &[9]).map(|waiter| opened[waiter]);
                    match model.get_mut(&call) {
                        Some(state @ Model::Waits { .. }) => {
                            assert_eq!(woken, Some(call), "the asker of this very call is woken");
                            *state = Model::Answered;
                        }
                        Some(Model::Answered | Model::Expired) | None => {
                            assert_eq!((woken, calls.late_count()), (None, late + 1));
                        }
                    }
                }
                Step::Poll(index) => {
                    let Some(call) = pick(opened, index) else { return };
                    let polled = calls.poll(call, |_| None);
                    match model.get(&call) {
                        Some(Model::Waits { .. }) => assert!(polled.is_pending()),
                        Some(Model::Answered) => {
                            let Poll::Ready(Outcome::Answered(answer)) = polled else { panic!("{polled:?}") };
                            assert_eq!(answer.body[..], [9]);
                            model.remove(&call);
                        }
                        Some(Model::Expired) => {
                            assert_eq!(polled, Poll::Ready(Outcome::Expired));
                            model.remove(&call);
                        }
                        None => assert_eq!(polled, Poll::Ready(Outcome::Down)),
                    }
                }
                Step::End(index) => {
                    let Some(call) = pick(opened, index) else { return };
                    let ended = calls.end(call);
                    let was_unanswered =
                        matches!(model.remove(&call), Some(Model::Waits { .. } | Model::Expired));
                    assert_eq!(ended, was_unanswered);
                }
                Step::Pass(seconds) => self.pass(calls, seconds),
                Step::Fail => self.fail(calls),
            }
            assert_eq!(calls.open_count(), self.model.len());
            assert!(calls.places.len() <= 7);
        }

        fn pass(&mut self, calls: &mut CallTable<usize>, seconds: u64) {
            let Self { opened, model, now } = self;
            *now = *now + Duration::from_secs(seconds);
            let is_due = |state: &Model| matches!(state, Model::Waits { due } if due <= now);
            let none_is_due = !model.values().any(is_due);
            if calls.next_due().is_none_or(|due| due > *now) {
                assert!(none_is_due, "nobody would look");
                return;
            }
            let mut woken: Vec<_> = calls.expire(*now).into_iter().map(|waiter| opened[waiter]).collect();
            let mut due = Vec::new();
            for (call, state) in model.iter_mut().filter(|(_, state)| is_due(state)) {
                *state = Model::Expired;
                due.push(*call);
            }
            woken.sort();
            due.sort();
            assert_eq!(woken, due);
            assert!(calls.next_due().is_none_or(|due| due > *now), "it would be looked at for ever");
        }

        fn fail(&mut self, calls: &mut CallTable<usize>) {
            let Self { opened, model, .. } = self;
            let mut woken: Vec<_> = calls.fail_all().into_iter().map(|waiter| opened[waiter]).collect();
            let waits = |state: &Model| matches!(state, Model::Waits { .. });
            let mut waiting: Vec<_> =
                model.iter().filter(|(_, state)| waits(state)).map(|(call, _)| *call).collect();
            woken.sort();
            waiting.sort();
            assert_eq!(woken, waiting, "everybody who waits is told");
            model.retain(|_, state| !waits(state));
        }
    }

    proptest! {
        #[test]
        fn lane_7_an_answer_meets_only_the_ask_that_it_is_for(steps in steps()) {
            // LANE-7, and LANE-6: seven at most.
            let mut calls = CallTable::new(7);
            let mut trial = Trial::default();
            for step in steps {
                trial.check(&mut calls, step);
            }
        }
    }

    #[test]
    fn a_place_that_was_used_as_often_as_can_be_counted_goes_on() {
        let mut calls = CallTable::<()>::new(1);
        let first = calls.open(Moment::ZERO, ()).unwrap();
        calls.end(first);
        calls.places[0].generation = NonZeroU32::MAX;
        assert_eq!(calls.open(Moment::ZERO, ()).map(|call| call.generation), Ok(NonZeroU32::MIN));
    }
}
