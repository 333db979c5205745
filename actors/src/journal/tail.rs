//! The newest events in memory.
//!
//! Owns the numbers, which events are in the database, and what is given up when memory is full. A decider:
//! no clock, no IO. Refuses to know how events are stored.
//!
//! ```text
//! seq:   … settled │ in flight │ waiting … last
//!          ▲ kept for live readers     ▲ next write takes these
//! ```
//!
//! Invariant: `records` has no holes, and its last number is `last`.

use std::collections::VecDeque;
use std::sync::Arc;

use arw_kit::moment::WallTime;

use super::event::Event;
use super::record::Record;

/// Written events that stay in memory, so that live readers seldom need the database.
pub(super) const KEPT_MAX: usize = 512;

/// Events that wait for the database while it cannot be written. At 1 KB each that is 2 MB; a node that
/// writes more than this during an outage keeps the newest, which tell why.
pub(super) const WAITING_MAX: usize = 2_048;

/// How many events one look hands to a live reader.
const LOOK_MAX: usize = 128;

#[derive(Debug)]
pub(super) struct Tail {
    records: VecDeque<Arc<Record>>,
    last: u64,
    // Everything up to here is in the database, or lost.
    settled: u64,
    // Everything up to here is in the database or being written.
    in_flight: u64,
    // Dropped from memory while being written: lost only if that fails.
    dropped_in_flight: u64,
    lost: u64,
    degraded: bool,
}

/// Where the event with a number is.
#[derive(Debug, PartialEq)]
pub(super) enum Look {
    /// Here they are, without holes.
    Here(Vec<Arc<Record>>),
    /// Nothing to show yet.
    NotYet,
    /// In the database, up to this number (or gone).
    Older { up_to: u64 },
}

impl Tail {
    /// A tail behind `last`, which is in the database.
    pub(super) fn after(last: u64) -> Self {
        Self {
            records: VecDeque::new(),
            last,
            settled: last,
            in_flight: last,
            dropped_in_flight: 0,
            lost: 0,
            degraded: false,
        }
    }

    pub(super) fn last(&self) -> u64 {
        self.last
    }

    pub(super) fn settled(&self) -> u64 {
        self.settled
    }

    /// Events that will never be in the database, since the node started.
    pub(super) fn lost(&self) -> u64 {
        self.lost
    }

    pub(super) fn degraded(&self) -> bool {
        self.degraded
    }

    pub(super) fn set_degraded(&mut self, degraded: bool) {
        self.degraded = degraded;
    }

    /// Up to which number readers are shown events: those that are stored, so that what anyone has seen still
    /// exists after a crash. While nothing can be stored, everything.
    pub(super) fn visible(&self) -> u64 {
        if self.degraded { self.last } else { self.settled }
    }

    /// Adds an event with the next number.
    pub(super) fn push(&mut self, at: WallTime, event: Event) -> u64 {
        self.last += 1;
        self.records.push_back(Arc::new(Record::new(self.last, at, event)));
        self.trim();
        self.last
    }

    /// Events wait for a write.
    pub(super) fn has_waiting(&self) -> bool {
        self.last > self.in_flight
    }

    /// Hands out what waits; until [`Tail::wrote`] or [`Tail::write_failed`] it counts as being written.
    pub(super) fn start_write(&mut self) -> Vec<Arc<Record>> {
        let batch = self.from(self.in_flight + 1).cloned().collect();
        self.in_flight = self.last;
        batch
    }

    /// What was being written is in the database.
    pub(super) fn wrote(&mut self) {
        self.settled = self.in_flight;
        self.dropped_in_flight = 0;
        self.trim();
    }

    /// What was being written waits again.
    pub(super) fn write_failed(&mut self) {
        self.in_flight = self.settled;
        // The front of `records` shows what memory has given up meanwhile.
        let oldest = self.records.front().map_or(self.last, |record| record.seq - 1);
        if oldest > self.settled {
            self.settled = oldest;
            self.in_flight = oldest;
        }
        self.lost += std::mem::take(&mut self.dropped_in_flight);
        self.trim();
    }

    /// What was being written can never be: it is given up.
    pub(super) fn write_refused(&mut self) {
        // When memory has given up even newer events, `settled` has caught up and the count of dropped ones
        // is the loss.
        self.lost += (self.in_flight - self.settled).max(self.dropped_in_flight);
        self.settled = self.in_flight;
        self.dropped_in_flight = 0;
        self.trim();
    }

    /// Looks for the event `seq` and those after it.
    pub(super) fn look(&self, seq: u64) -> Look {
        let visible = self.visible();
        if seq > visible {
            return Look::NotYet;
        }
        match self.records.front() {
            Some(front) if seq >= front.seq => {
                Look::Here(self.from(seq).take_while(|r| r.seq <= visible).take(LOOK_MAX).cloned().collect())
            }
            Some(front) => Look::Older { up_to: (front.seq - 1).min(visible) },
            None => Look::Older { up_to: visible },
        }
    }

    /// Everything that is in memory and not known to be in the database.
    pub(super) fn unsettled(&self) -> Vec<Arc<Record>> {
        self.from(self.settled + 1).cloned().collect()
    }

    fn from(&self, seq: u64) -> impl Iterator<Item = &Arc<Record>> {
        let first = self.records.front().map_or(0, |record| record.seq);
        let skip = usize::try_from(seq.saturating_sub(first)).unwrap_or(usize::MAX);
        self.records.iter().skip(skip)
    }

    fn trim(&mut self) {
        while self.records.len() > KEPT_MAX {
            let Some(front) = self.records.front() else { return };
            let seq = front.seq;
            if seq > self.settled {
                if self.records.len() <= WAITING_MAX {
                    return;
                }
                if seq <= self.in_flight {
                    self.dropped_in_flight += 1;
                } else {
                    self.lost += 1;
                    self.settled = seq;
                    self.in_flight = seq;
                }
            }
            self.records.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::journal::event;

    fn push(tail: &mut Tail) -> u64 {
        tail.push(WallTime::from_millis(0), event::Node::Stopping { reason: String::new() }.into())
    }

    fn numbers(records: &[Arc<Record>]) -> Vec<u64> {
        records.iter().map(|record| record.seq).collect()
    }

    #[test]
    fn events_are_shown_once_they_are_stored() {
        let mut tail = Tail::after(7);
        assert_eq!((push(&mut tail), push(&mut tail)), (8, 9));
        assert_eq!(tail.look(8), Look::NotYet);
        assert_eq!(numbers(&tail.start_write()), [8, 9]);
        push(&mut tail);
        tail.wrote();
        let Look::Here(seen) = tail.look(8) else { panic!("stored events are shown") };
        assert_eq!(numbers(&seen), [8, 9]);
        assert_eq!(tail.look(7), Look::Older { up_to: 7 });
        assert_eq!(numbers(&tail.start_write()), [10]);
    }

    #[test]
    fn while_nothing_can_be_stored_events_are_shown_from_memory() {
        let mut tail = Tail::after(0);
        push(&mut tail);
        tail.set_degraded(true);
        assert_eq!(tail.visible(), 1);
        tail.set_degraded(false);
        assert_eq!(tail.visible(), 0);
    }

    #[test]
    fn a_long_outage_keeps_the_newest_and_counts_the_rest() {
        let mut tail = Tail::after(0);
        tail.set_degraded(true);
        for _ in 0..WAITING_MAX + 10 {
            push(&mut tail);
        }
        assert_eq!(tail.lost(), 10);
        assert_eq!(tail.look(3), Look::Older { up_to: 10 });
        assert_eq!(numbers(&tail.start_write()).first(), Some(&11));
    }

    #[derive(Debug, Clone, Copy)]
    enum Step {
        Push(u16),
        Start,
        Wrote,
        Failed,
        Refused,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => (1_u16..1500).prop_map(Step::Push),
            3 => Just(Step::Start),
            2 => Just(Step::Wrote),
            2 => Just(Step::Failed),
            1 => Just(Step::Refused),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        /// Every event is written once, or waits, or is counted as lost; nothing is both; memory stays
        /// bounded.
        #[test]
        fn no_event_is_forgotten_or_written_twice(steps in proptest::collection::vec(step(), 1..40)) {
            let mut tail = Tail::after(0);
            let mut stored: Vec<u64> = Vec::new();
            let mut writing: Option<Vec<u64>> = None;
            for step in steps {
                match (step, writing.take()) {
                    (Step::Push(count), open) => {
                        (0..count).for_each(|_| { push(&mut tail); });
                        writing = open;
                    }
                    (Step::Start, None) => writing = Some(numbers(&tail.start_write())),
                    (Step::Wrote, Some(batch)) => { stored.extend(batch); tail.wrote(); }
                    (Step::Failed, Some(_)) => tail.write_failed(),
                    (Step::Refused, Some(_)) => tail.write_refused(),
                    (_, open) => writing = open,
                }
                prop_assert!(tail.records.len() <= WAITING_MAX + 1);
                prop_assert!(stored.is_sorted_by(|a, b| a < b), "in order and once");
            }
            if writing.is_some() { tail.write_failed(); }
            stored.extend(numbers(&tail.start_write()));
            tail.wrote();
            prop_assert!(stored.is_sorted_by(|a, b| a < b));
            prop_assert_eq!(stored.len() as u64 + tail.lost(), tail.last());
        }
    }
}
