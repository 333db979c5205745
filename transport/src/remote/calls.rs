//! The asks of one connection that wait for their answers.
//!
//! Owns a bounded table of places and how often each was used, so that an answer meets only the ask that it is for. Plain code: whom to wake is returned,
//! deadlines are kept elsewhere and end here in [`CallTable::end`].
//!
//! ```text
//! free ──open──► waiting ──answer──► answered ──poll──► free
//!                   └──────────── end, fail_all ────────►
//! ```

use std::num::NonZeroU32;
use std::task::Poll;

use crate::frame::{CallId, MessageType};

/// The table. `W` is who is woken.
#[derive(Debug)]
pub(super) struct CallTable<W> {
    places: Vec<Place<W>>,
    free: Option<u32>,
    open: usize,
    open_max: usize,
    late: u64,
    is_down: bool,
}

#[derive(Debug)]
struct Place<W> {
    generation: NonZeroU32,
    state: State<W>,
}

#[derive(Debug)]
enum State<W> {
    Free { next: Option<u32> },
    Waiting(Option<W>),
    Answered(Answer),
}

/// An answer as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) is_refusal: bool,
    pub(super) message: MessageType,
    pub(super) body: Vec<u8>,
}

/// What became of an ask.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Answered(Answer),
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
        Self { places: Vec::new(), free: None, open: 0, open_max, late: 0, is_down: false }
    }

    /// A new call.
    pub(super) fn open(&mut self) -> Result<CallId, OpenError> {
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
        place.state = State::Waiting(None);
        self.open += 1;
        Ok(CallId { slot, generation: place.generation })
    }

    /// An answer came. Returns who waits for it.
    pub(super) fn answer(
        &mut self,
        call: CallId,
        is_refusal: bool,
        message: MessageType,
        body: &[u8],
    ) -> Option<W> {
        // LANE-7: an answer to an ask that has ended, or a second one, meets nobody.
        let Some(State::Waiting(waiter)) = self.state_of(call) else {
            self.late += 1;
            return None;
        };
        let waiter = waiter.take();
        if let Some(state) = self.state_of(call) {
            *state = State::Answered(Answer { is_refusal, message, body: body.to_vec() });
        }
        waiter
    }

    /// The outcome of a call, whose place is free then; pending: `waiter` is told.
    pub(super) fn poll(
        &mut self,
        call: CallId,
        waiter: impl FnOnce(Option<&W>) -> Option<W>,
    ) -> Poll<Outcome> {
        match self.state_of(call) {
            Some(State::Waiting(known)) => {
                if let Some(new) = waiter(known.as_ref()) {
                    *known = Some(new);
                }
                Poll::Pending
            }
            Some(State::Answered(_)) => match self.release(call) {
                Some(State::Answered(answer)) => Poll::Ready(Outcome::Answered(answer)),
                Some(State::Free { .. } | State::Waiting(_)) | None => Poll::Ready(Outcome::Down),
            },
            Some(State::Free { .. }) | None => Poll::Ready(Outcome::Down),
        }
    }

    /// Nobody waits for this call any more. It leaves nothing behind.
    pub(super) fn end(&mut self, call: CallId) {
        drop(self.release(call));
    }

    /// The connection has ended. Returns everybody who waits; no call is opened any more. Answers that have come stay.
    pub(super) fn fail_all(&mut self) -> Vec<W> {
        self.is_down = true;
        let mut waiters = Vec::new();
        for place in &mut self.places {
            if let State::Waiting(waiter) = &mut place.state {
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

    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Copy, Debug)]
    enum Step {
        Open,
        /// One of all calls ever opened.
        Answer(prop::sample::Index),
        Poll(prop::sample::Index),
        End(prop::sample::Index),
        Fail,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            10 => Just(Step::Open),
            8 => any::<prop::sample::Index>().prop_map(Step::Answer),
            8 => any::<prop::sample::Index>().prop_map(Step::Poll),
            4 => any::<prop::sample::Index>().prop_map(Step::End),
        ];
        (proptest::collection::vec(step, 0..300), any::<bool>()).prop_map(|(mut steps, fails)| {
            if fails {
                steps.insert(steps.len() / 2, Step::Fail);
            }
            steps
        })
    }

    /// What a call should be: the number that its answer will carry, and whether that came.
    type Model = HashMap<CallId, Option<u8>>;

    fn check(calls: &mut CallTable<CallId>, opened: &mut Vec<CallId>, model: &mut Model, step: Step) {
        let pick = |opened: &[CallId], index: prop::sample::Index| {
            (!opened.is_empty()).then(|| opened[index.index(opened.len())])
        };
        match step {
            Step::Open => match calls.open() {
                Ok(call) => {
                    assert!(model.insert(call, None).is_none(), "a call is used again while it is open");
                    assert!(!opened.contains(&call), "an earlier call cannot be told from this one");
                    assert!(calls.poll(call, |_| Some(call)).is_pending());
                    opened.push(call);
                }
                Err(OpenError::TooMany) => assert_eq!(model.len(), 7),
                Err(OpenError::Down) => assert!(calls.is_down),
            },
            Step::Answer(index) => {
                let Some(call) = pick(opened, index) else { return };
                let late = calls.late_count();
                let woken = calls.answer(call, false, MessageType(1), &[9]);
                match model.get_mut(&call) {
                    Some(answer @ None) => {
                        assert_eq!(woken, Some(call), "the asker of this very call is woken");
                        *answer = Some(9);
                    }
                    Some(Some(_)) | None => {
                        assert_eq!((woken, calls.late_count()), (None, late + 1));
                    }
                }
            }
            Step::Poll(index) => {
                let Some(call) = pick(opened, index) else { return };
                let polled = calls.poll(call, |_| Some(call));
                match model.get(&call) {
                    Some(None) => assert!(polled.is_pending()),
                    Some(Some(body)) => {
                        let Poll::Ready(Outcome::Answered(answer)) = polled else { panic!("{polled:?}") };
                        assert_eq!(answer.body, [*body]);
                        model.remove(&call);
                    }
                    None => assert_eq!(polled, Poll::Ready(Outcome::Down)),
                }
            }
            Step::End(index) => {
                let Some(call) = pick(opened, index) else { return };
                calls.end(call);
                model.remove(&call);
            }
            Step::Fail => {
                let mut woken = calls.fail_all();
                let mut waiting: Vec<_> =
                    model.iter().filter(|(_, answer)| answer.is_none()).map(|(call, _)| *call).collect();
                woken.sort();
                waiting.sort();
                assert_eq!(woken, waiting, "everybody who waits is told");
                model.retain(|_, answer| answer.is_some());
            }
        }
        assert_eq!(calls.open_count(), model.len());
        assert!(calls.places.len() <= 7);
    }

    proptest! {
        #[test]
        fn lane_7_an_answer_meets_only_the_ask_that_it_is_for(steps in steps()) {
            // LANE-7, and LANE-6: seven at most.
            let mut calls = CallTable::new(7);
            let (mut opened, mut model) = (Vec::new(), Model::new());
            for step in steps {
                check(&mut calls, &mut opened, &mut model, step);
            }
        }
    }

    #[test]
    fn a_place_that_was_used_as_often_as_can_be_counted_goes_on() {
        let mut calls = CallTable::<()>::new(1);
        let first = calls.open().unwrap();
        calls.end(first);
        calls.places[0].generation = NonZeroU32::MAX;
        assert_eq!(calls.open().map(|call| call.generation), Ok(NonZeroU32::MIN));
    }
}
