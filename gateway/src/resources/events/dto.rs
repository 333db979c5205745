//! Events, as `/events` shows them.

use arw_actors::journal::{Page, Record};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

/// What happened.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct EventRow {
    /// Grows by one for each event, across restarts of the node.
    pub(crate) seq: u64,
    /// RFC 3339.
    pub(crate) at: String,
    /// A stable word, for example `runtime_exited`.
    pub(crate) kind: String,
    /// `info`, `warning` or `error`.
    pub(crate) severity: &'static str,
    /// What it is about.
    pub(crate) subject: String,
    /// One sentence for people.
    pub(crate) message: String,
    /// The details; its fields depend on the kind.
    #[schema(value_type = Object)]
    pub(crate) data: Value,
}

impl From<&Record> for EventRow {
    fn from(record: &Record) -> Self {
        Self {
            seq: record.seq,
            at: record.at.to_string(),
            kind: record.event.kind().to_owned(),
            severity: record.event.severity().as_str(),
            subject: record.event.subject().to_owned(),
            message: record.event.message(),
            data: record.event.data(),
        }
    }
}

/// Some events, oldest first.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct EventPage {
    pub(crate) events: Vec<EventRow>,
    /// Ask with `after=<next>` to go on.
    pub(crate) next: u64,
    /// The oldest number that is kept.
    pub(crate) oldest: u64,
}

impl From<Page> for EventPage {
    fn from(page: Page) -> Self {
        let events = page.events.iter().map(|record| EventRow::from(&**record)).collect();
        Self { events, next: page.next, oldest: page.oldest }
    }
}
