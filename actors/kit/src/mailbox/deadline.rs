//! Deadlines of asks, by the thousand and cheap.
//!
//! Owns a hashed timer wheel with ticks of 5 ms: setting and clearing a deadline is a lock and a few writes,
//! where tokio's timer costs four times as much per ask. A deadline fires up to one tick late, never early.
//! Refuses to be a general timer: [`super::Context::after`] uses tokio's.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::task::Waker;
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::time::Instant;

/// The wheel of one actor system.
#[derive(Debug)]
pub(crate) struct Deadlines {
    origin: Instant,
    /// Where the driver runs: a deadline may be set from a runtime that ends before the system does.
    runtime: Option<Handle>,
    wheel: Mutex<Wheel>,
    /// The tick up to which everything has fired. Behind real time while nothing is due, never ahead of it.
    fired_up_to: AtomicU64,
    /// Of each slot: the last tick for which the wheel must turn although nobody is woken then; 0 for none.
    /// Set without the lock.
    turns: Box<[AtomicU64]>,
    earlier: Notify,
}

/// A deadline that has been set; dropping it clears it.
#[derive(Debug)]
pub(crate) struct DeadlineEntry {
    deadlines: Arc<Deadlines>,
    index: u32,
}

#[derive(Debug)]
struct Wheel {
    /// Head of the list of entries of each slot.
    slots: Box<[u32]>,
    entries: Vec<Entry>,
    free: u32,
    armed: usize,
    /// The tick for which the driver sleeps; `u64::MAX` while it waits for a first entry.
    driver_wakes_at: u64,
    driver_runs: bool,
}

#[derive(Debug)]
struct Entry {
    waker: Option<Waker>,
    due: u64,
    previous: u32,
    next: u32,
    fired: bool,
}

const TICK: Duration = Duration::from_nanos(TICK_NANOS);
const TICK_NANOS: u64 = 5_000_000;
/// One turn of the wheel is 2.5 s: most asks have deadlines below that, longer ones are looked at once a
/// turn.
const SLOTS: usize = 512;
const NONE: u32 = u32::MAX;

impl Deadlines {
    /// An empty wheel. Its driver task starts with the first deadline and ends with the wheel; it runs in the
    /// runtime in which this is called.
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            origin: Instant::now(),
            runtime: Handle::try_current().ok(),
            wheel: Mutex::new(Wheel {
                slots: vec![NONE; SLOTS].into_boxed_slice(),
                entries: Vec::new(),
                free: NONE,
                armed: 0,
                driver_wakes_at: u64::MAX,
                driver_runs: false,
            }),
            fired_up_to: AtomicU64::new(0),
            turns: (0..SLOTS).map(|_| AtomicU64::new(0)).collect(),
            earlier: Notify::new(),
        })
    }

    /// The tick at which a deadline `after` from now is due: the first that lies wholly behind it.
    pub(crate) fn tick_after(&self, after: Duration) -> u64 {
        self.tick_of(Instant::now(), after)
    }

    /// The same, `after` a time that is known.
    pub(crate) fn tick_of(&self, since: Instant, after: Duration) -> u64 {
        let due = since.duration_since(self.origin).saturating_add(after);
        // 64 bits of nanoseconds are 584 years; divisions of 128 bits show in the cost of an ask.
        u64::try_from(due.as_nanos()).map_or(u64::MAX - 1, |nanos| nanos / TICK_NANOS + 1)
    }

    /// The deadline at `tick` has passed.
    pub(crate) fn has_fired(&self, tick: u64) -> bool {
        tick <= self.fired_up_to.load(Ordering::Relaxed)
    }

    /// Sets a deadline: `waker` is woken at `due`. Where the wheel was not made inside a tokio runtime, this
    /// must be called in one.
    pub(crate) fn set(self: &Arc<Self>, due: u64, waker: Waker) -> DeadlineEntry {
        let mut wheel = self.wheel.lock();
        let index = wheel.insert(due, waker);
        self.wake_driver_by(due, wheel);
        DeadlineEntry { deadlines: Arc::clone(self), index }
    }

    /// Makes [`Deadlines::has_fired`] true at `due`, for which nobody is woken. Where the same tick has been
    /// asked for before, this is one read.
    #[inline]
    pub(crate) fn turn_at(self: &Arc<Self>, due: u64) {
        let slot = &self.turns[slot_of(due)];
        // A tick is cleared only after it has fired, and an earlier one is behind a later one.
        if slot.load(Ordering::Acquire) < due {
            slot.fetch_max(due, Ordering::AcqRel);
            let wheel = self.wheel.lock();
            // By the slot's next turn, not by `due`: an earlier tick of the slot that is asked for later
            // wakes nobody.
            let now = self.tick_of(Instant::now(), Duration::ZERO);
            let ahead = due.saturating_sub(now) % SLOTS as u64;
            self.wake_driver_by(now + ahead, wheel);
        }
    }

    fn wake_driver_by(self: &Arc<Self>, due: u64, mut wheel: MutexGuard<'_, Wheel>) {
        let is_earlier = due < wheel.driver_wakes_at;
        if is_earlier {
            wheel.driver_wakes_at = due;
        }
        let start_driver = !std::mem::replace(&mut wheel.driver_runs, true);
        drop(wheel);
        if start_driver {
            let drive = drive(Arc::downgrade(self));
            match &self.runtime {
                Some(runtime) => drop(runtime.spawn(drive)),
                None => drop(tokio::spawn(drive)),
            }
        } else if is_earlier {
            self.earlier.notify_one();
        }
    }

    /// Fires what is due and returns the tick to sleep for.
    fn advance(&self) -> Option<u64> {
        let now = u64::try_from(Instant::now().duration_since(self.origin).as_nanos() / TICK.as_nanos())
            .unwrap_or(u64::MAX);
        let from = self.fired_up_to.load(Ordering::Relaxed);
        let mut due = Vec::new();
        let mut wheel = self.wheel.lock();
        wheel.fire(from, now, &mut due);
        self.fired_up_to.store(now, Ordering::Relaxed);
        let next = self.next_turn(&wheel, now);
        wheel.driver_wakes_at = next.unwrap_or(u64::MAX);
        drop(wheel);
        due.into_iter().for_each(Waker::wake);
        next
    }

    /// The next tick at which something may be due, within one turn.
    fn next_turn(&self, wheel: &Wheel, now: u64) -> Option<u64> {
        (1..=SLOTS as u64).map(|ahead| now + ahead).find(|&tick| {
            let turn = &self.turns[slot_of(tick)];
            let asked = turn.load(Ordering::Acquire);
            // Where a later tick is asked for meanwhile, it stays. Most slots have none, and are only read:
            // every ask waits for this lock.
            let is_over = asked == 0
                || asked <= now
                    && turn.compare_exchange(asked, 0, Ordering::AcqRel, Ordering::Acquire).is_ok();
            !is_over || wheel.slots[slot_of(tick)] != NONE
        })
    }
}

async fn drive(deadlines: Weak<Deadlines>) {
    // The strong reference held while waiting keeps a dropped system's wheel for one turn at most.
    loop {
        let Some(live) = deadlines.upgrade() else { return };
        match live.advance() {
            Some(tick) => {
                let at = live.origin + Duration::from_nanos(TICK_NANOS.saturating_mul(tick));
                tokio::select! {
                    biased;
                    () = live.earlier.notified() => {}
                    () = tokio::time::sleep_until(at) => {}
                }
            }
            None => {
                let mut wheel = live.wheel.lock();
                if wheel.armed == 0 && live.turns.iter().all(|turn| turn.load(Ordering::Acquire) == 0) {
                    // Nothing is set: the next `set` starts a new driver.
                    wheel.driver_runs = false;
                    wheel.driver_wakes_at = u64::MAX;
                    return;
                }
            }
        }
    }
}

impl DeadlineEntry {
    /// The deadline has passed. Otherwise `waker` is the one to wake.
    pub(crate) fn poll_fired(&self, waker: &Waker) -> bool {
        let mut wheel = self.deadlines.wheel.lock();
        let Some(entry) = wheel.entries.get_mut(self.index as usize) else { return true };
        if !entry.fired && !entry.waker.as_ref().is_some_and(|w| w.will_wake(waker)) {
            entry.waker = Some(waker.clone());
        }
        entry.fired
    }
}

impl Drop for DeadlineEntry {
    fn drop(&mut self) {
        let waker = self.deadlines.wheel.lock().remove(self.index);
        // Dropped outside the lock: a waker's drop may run foreign code.
        drop(waker);
    }
}

impl Wheel {
    fn insert(&mut self, due: u64, waker: Waker) -> u32 {
        let slot = slot_of(due);
        let head = self.slots[slot];
        let entry = Entry { waker: Some(waker), due, previous: NONE, next: head, fired: false };
        let index = if self.free == NONE {
            self.entries.push(entry);
            u32::try_from(self.entries.len() - 1).unwrap_or(NONE - 1)
        } else {
            let index = self.free;
            self.free = self.entries[index as usize].next;
            self.entries[index as usize] = entry;
            index
        };
        if head != NONE {
            self.entries[head as usize].previous = index;
        }
        self.slots[slot] = index;
        self.armed += 1;
        index
    }

    /// Takes an entry out of its slot, if it has not fired.
    fn unlink(&mut self, index: u32) {
        let Entry { due, previous, next, .. } = self.entries[index as usize];
        if previous == NONE {
            self.slots[slot_of(due)] = next;
        } else {
            self.entries[previous as usize].next = next;
        }
        if next != NONE {
            self.entries[next as usize].previous = previous;
        }
        self.armed -= 1;
    }

    fn remove(&mut self, index: u32) -> Option<Waker> {
        if !self.entries[index as usize].fired {
            self.unlink(index);
        }
        let waker = self.entries[index as usize].waker.take();
        self.entries[index as usize].next = self.free;
        self.free = index;
        waker
    }

    fn fire(&mut self, from: u64, now: u64, due: &mut Vec<Waker>) {
        // After a long stall every slot is visited once, not once per missed tick.
        let ticks = (now - from.min(now)).min(SLOTS as u64);
        for tick in (now - ticks)..=now {
            let mut index = self.slots[slot_of(tick)];
            while index != NONE {
                let next = self.entries[index as usize].next;
                if self.entries[index as usize].due <= now {
                    self.unlink(index);
                    self.entries[index as usize].fired = true;
                    due.extend(self.entries[index as usize].waker.take());
                }
                index = next;
            }
        }
    }
}

fn slot_of(tick: u64) -> usize {
    usize::try_from(tick % SLOTS as u64).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_deadline_fires_within_a_tick_after_its_time_and_never_before() {
        let deadlines = Deadlines::new();
        for millis in [0, 1, 4, 5, 17, 2_559, 2_560, 2_561, 9_999, 60_000] {
            let began = Instant::now();
            let after = Duration::from_millis(millis);
            let due = deadlines.tick_after(after);
            let mut entry = None;
            std::future::poll_fn(|cx| {
                let entry = entry.get_or_insert_with(|| deadlines.set(due, cx.waker().clone()));
                if entry.poll_fired(cx.waker()) {
                    std::task::Poll::Ready(())
                } else {
                    std::task::Poll::Pending
                }
            })
            .await;
            let took = began.elapsed();
            assert!(took >= after && took <= after + TICK * 2, "{millis} ms took {took:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_wheel_turns_as_far_as_asked_and_rests_then() {
        let deadlines = Deadlines::new();
        for round in 0..3 {
            let dues: Vec<_> = [700, 3, 0, 9_000, 2_560, 3]
                .map(|millis| deadlines.tick_after(Duration::from_millis(millis)))
                .into_iter()
                .inspect(|due| deadlines.turn_at(*due))
                .collect();
            assert!(dues.iter().all(|due| !deadlines.has_fired(*due)), "round {round}");
            for due in dues {
                let at = deadlines.origin + TICK * u32::try_from(due).unwrap() + TICK;
                if at > Instant::now() {
                    tokio::time::sleep_until(at).await;
                }
                assert!(deadlines.has_fired(due), "round {round}");
            }
            // The driver sleeps for a later tick of a slot when an earlier one is asked for.
            let later = deadlines.tick_after(Duration::from_secs(4));
            deadlines.turn_at(later);
            tokio::time::sleep(Duration::from_millis(100)).await;
            let earlier = later - SLOTS as u64;
            deadlines.turn_at(earlier);
            let at = deadlines.origin + Duration::from_nanos(TICK_NANOS * (earlier + 1));
            tokio::time::sleep_until(at).await;
            assert!(deadlines.has_fired(earlier) && !deadlines.has_fired(later), "round {round}");
            tokio::time::sleep(Duration::from_secs(10)).await;
            assert!(!deadlines.wheel.lock().driver_runs, "round {round}");
            assert!(deadlines.turns.iter().all(|turn| turn.load(Ordering::Relaxed) == 0));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn cleared_deadlines_leave_nothing_behind() {
        let deadlines = Deadlines::new();
        for round in 0..3_u64 {
            let entries: Vec<_> = (0..1000)
                .map(|n| deadlines.set(deadlines.tick_after(TICK * n), Waker::noop().clone()))
                .collect();
            drop(entries);
            let wheel = deadlines.wheel.lock();
            assert_eq!(wheel.armed, 0, "round {round}");
            assert!(wheel.slots.iter().all(|&head| head == NONE));
            assert_eq!(wheel.entries.len(), 1000, "entries are used again");
        }
    }
}
