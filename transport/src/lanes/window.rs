//! How many tells one actor of the other node is sent ahead of what it has taken.
//!
//! Owns the count of each actor that was told something over one lane. Plain code; refuses to know who waits.
//!
//! The other node keeps what its actor has no room for (`remote/parking.rs`), and says what was taken. So a
//! full mailbox there is a refusal here, nothing is lost on the way, and one slow actor takes a bounded part
//! of the other node's memory.

use std::collections::HashMap;

use crate::frame::TargetActor;

/// LANE-17: tells on their way to one actor.
pub(crate) const TELLS_MAX: u32 = 4_096;

/// LANE-17: bytes of their bodies. One more may go out while there are less.
pub(crate) const TELL_BYTES_MAX: usize = 256 * 1024;

/// Tells and bytes of their bodies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tells {
    pub(crate) count: u32,
    pub(crate) bytes: usize,
}

impl Tells {
    pub(crate) fn add(&mut self, other: Self) {
        self.count = self.count.saturating_add(other.count);
        self.bytes = self.bytes.saturating_add(other.bytes);
    }

    /// No more may be on their way.
    pub(crate) fn is_full(&self) -> bool {
        self.count >= TELLS_MAX || self.bytes >= TELL_BYTES_MAX
    }

    /// LANE-17: so much is counted in one place before it is passed on. There are two on the way, so half a
    /// window is told at the latest.
    pub(crate) fn is_worth_telling(&self) -> bool {
        self.count >= TELLS_MAX / 4 || self.bytes >= TELL_BYTES_MAX / 4
    }
}

/// What is on its way to each actor of one lane.
#[derive(Debug)]
pub(super) struct Windows {
    /// To the actor that was told something last, which is often told something again; and so it is looked up
    /// without a hash.
    last: (TargetActor, Tells),
    /// To the others, as far as there is anything.
    others: HashMap<TargetActor, Tells>,
}

impl Default for Windows {
    fn default() -> Self {
        Self { last: (TargetActor(0), Tells::default()), others: HashMap::new() }
    }
}

impl Windows {
    #[inline]
    pub(super) fn is_full(&self, actor: TargetActor) -> bool {
        if self.last.0 == actor {
            return self.last.1.is_full();
        }
        self.others.get(&actor).is_some_and(Tells::is_full)
    }

    #[inline]
    pub(super) fn sent(&mut self, actor: TargetActor, bytes: usize) {
        if self.last.0 != actor {
            let tells = self.others.remove(&actor).unwrap_or_default();
            let (before, under_way) = std::mem::replace(&mut self.last, (actor, tells));
            if under_way.count > 0 {
                self.others.insert(before, under_way);
            }
        }
        self.last.1.add(Tells { count: 1, bytes });
    }

    /// The other node says so. It may say what it wants: nothing is ever sent before it is.
    pub(super) fn taken(&mut self, actor: TargetActor, taken: Tells) {
        let under_way = match self.others.get_mut(&actor) {
            _ if self.last.0 == actor => &mut self.last.1,
            Some(under_way) => under_way,
            None => return,
        };
        under_way.count = under_way.count.saturating_sub(taken.count);
        under_way.bytes = under_way.bytes.saturating_sub(taken.bytes);
        if under_way.count == 0 {
            *under_way = Tells::default();
            self.others.remove(&actor);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: TargetActor = TargetActor(1);
    const TWO: TargetActor = TargetActor(2);

    #[test]
    fn lane_17_one_actor_is_sent_so_much_ahead_and_others_are_not_held_up() {
        // LANE-17
        let mut windows = Windows::default();
        for _ in 0..TELLS_MAX {
            assert!(!windows.is_full(ONE));
            windows.sent(ONE, 1);
        }
        assert!(windows.is_full(ONE) && !windows.is_full(TWO));
        windows.sent(TWO, TELL_BYTES_MAX - 1);
        assert!(!windows.is_full(TWO));
        windows.sent(TWO, 1);
        assert!(windows.is_full(TWO));
        windows.taken(TWO, Tells { count: 1, bytes: TELL_BYTES_MAX - 1 });
        windows.taken(ONE, Tells { count: 1, bytes: 1 });
        assert!(!windows.is_full(ONE) && !windows.is_full(TWO));
    }

    #[test]
    fn what_has_been_taken_leaves_nothing_behind_whatever_is_said() {
        let mut windows = Windows::default();
        windows.taken(ONE, Tells { count: 9, bytes: 9 });
        windows.sent(ONE, 5);
        windows.taken(ONE, Tells { count: u32::MAX, bytes: usize::MAX });
        assert!(windows.others.is_empty() && windows.last.1 == Tells::default());
        windows.sent(ONE, 5);
        windows.sent(TWO, 5);
        windows.taken(ONE, Tells { count: 1, bytes: 0 });
        assert!(windows.others.is_empty() && windows.last == (TWO, Tells { count: 1, bytes: 5 }));
    }
}
