//! One line of the journal, and what readers are given.
//!
//! Owns the shapes. Refuses to know where they come from.

use std::sync::{Arc, OnceLock};

use arw_kit::moment::WallTime;
use bytes::Bytes;

use super::event::Event;

/// An event with its number and time.
#[derive(Clone, Debug)]
pub struct Record {
    /// Its number: grows by one for each event, and goes on across restarts of the node.
    pub seq: u64,
    /// When it was journaled.
    pub at: WallTime,
    /// What happened.
    pub event: Event,
    /// Live readers by the thousand send the same bytes: the first one makes them.
    rendered: OnceLock<Bytes>,
}

impl Record {
    pub(super) fn new(seq: u64, at: WallTime, event: Event) -> Self {
        Self { seq, at, event, rendered: OnceLock::new() }
    }

    /// This record as its readers send it: made by the first that asks, shared by all that follow. All
    /// readers of a process must therefore mean the same form by it.
    pub fn rendered(&self, render: impl FnOnce(&Self) -> Bytes) -> Bytes {
        self.rendered.get_or_init(|| render(self)).clone()
    }
}

/// What it says, however it was rendered.
impl PartialEq for Record {
    fn eq(&self, other: &Self) -> bool {
        (self.seq, self.at) == (other.seq, other.at) && self.event == other.event
    }
}

/// A part of the journal, oldest first.
#[derive(Clone, Debug, PartialEq)]
pub struct Page {
    /// The events.
    pub events: Vec<Arc<Record>>,
    /// Ask for events after this number to go on.
    pub next: u64,
    /// The oldest number that is still kept; a reader that asked for older ones has missed them.
    pub oldest: u64,
}

/// What a subscription yields.
#[derive(Clone, Debug, PartialEq)]
pub enum JournalItem {
    /// An event.
    Event(Arc<Record>),
    /// The events with these numbers (both included) are gone: removed by retention, or never written in an
    /// outage.
    Gap {
        /// The first.
        from: u64,
        /// The last.
        to: u64,
    },
}

/// A restart that was journaled, for rebuilding restart windows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestartRecord {
    /// The actor.
    pub path: String,
    /// When it was restarted.
    pub at: WallTime,
    /// Why.
    pub reason: String,
}

/// How the journal does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JournalStatus {
    /// Why events cannot be written, and what to do; `None` while they can.
    pub degraded: Option<String>,
    /// The newest event's number; 0 before the first.
    pub last_seq: u64,
    /// Events that were never written, since the node started.
    pub lost: u64,
}
