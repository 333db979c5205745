//! What becomes of replies that are dropped without an answer.
//!
//! Whether the asker is told that the handler forgot it, that the actor crashed or that it was stopped
//! depends on why the reply is dropped, which only the driver of the actor knows. Owns that knowledge, per
//! thread, for as long as something is dropped. Refuses to know actors and askers.

use std::cell::{Cell, RefCell};

/// Why a reply was dropped, where its handler has not just forgotten it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// Its actor crashed.
    Crashed,
    /// Its actor was stopped or killed.
    Stopped,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Dropping {
    /// Nobody knows better: it was forgotten.
    Forgotten,
    /// Whether the handler that drops it crashes shows when it has returned.
    InHandler,
    By(Fate),
}

/// A dropped reply whose fate is not known yet.
pub(super) trait Held {
    /// `None`: it was forgotten.
    fn settle(self: Box<Self>, fate: Option<Fate>);
}

thread_local! {
    static DROPPING: Cell<Dropping> = const { Cell::new(Dropping::Forgotten) };
    static HELD: RefCell<Vec<Box<dyn Held>>> = const { RefCell::new(Vec::new()) };
}

/// Puts back what held before, when dropped.
pub(super) struct Until(Dropping);

impl Drop for Until {
    fn drop(&mut self) {
        DROPPING.set(self.0);
    }
}

/// From now on, until what is returned is dropped, replies are dropped for this reason.
#[must_use = "it ends when this is dropped"]
pub(super) fn dropping(fate: Fate) -> Until {
    Until(DROPPING.replace(Dropping::By(fate)))
}

/// Sets the reason for all that is dropped after this, when it is dropped itself; [`Until`] before it puts an
/// end to that.
pub(super) struct ThenDropping(pub(super) Fate);

impl Drop for ThenDropping {
    fn drop(&mut self) {
        DROPPING.set(Dropping::By(self.0));
    }
}

/// Keeps what holds now until it is dropped.
pub(super) fn as_before() -> Until {
    Until(DROPPING.get())
}

/// Polls a handler. What it drops is settled when it has returned: as crashed if that is what `crashes` says.
#[inline]
pub(super) fn in_handler<R>(poll: impl FnOnce() -> R, crashes: impl FnOnce(&R) -> bool) -> R {
    let until = Until(DROPPING.replace(Dropping::InHandler));
    // On a panic as well.
    let mut settle = SettleHeld(Some(Fate::Crashed));
    let polled = poll();
    drop(until);
    if !crashes(&polled) {
        settle.0 = None;
    }
    polled
}

struct SettleHeld(Option<Fate>);

impl Drop for SettleHeld {
    #[inline]
    fn drop(&mut self) {
        if HELD.with_borrow(Vec::is_empty) {
            return;
        }
        for held in HELD.take() {
            held.settle(self.0);
        }
    }
}

/// What a reply that is being dropped is to do.
pub(super) enum Now {
    Settle(Option<Fate>),
    Hold,
}

/// What holds now.
pub(super) fn now() -> Now {
    if std::thread::panicking() {
        return Now::Settle(Some(Fate::Crashed));
    }
    match DROPPING.get() {
        Dropping::Forgotten => Now::Settle(None),
        Dropping::By(fate) => Now::Settle(Some(fate)),
        Dropping::InHandler => Now::Hold,
    }
}

/// Keeps a reply until the handler that has dropped it returns.
pub(super) fn hold(reply: Box<dyn Held>) {
    HELD.with_borrow_mut(|held| held.push(reply));
}
