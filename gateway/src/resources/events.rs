//! `/events`: the journal, as pages and as a stream.
//!
//! Owns the queries and the choice between page and stream. Refuses to know what an event means.

mod dto;

use arw_actors::journal::{JournalItem, Record, Subscription};
use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::{Stream, stream};
use http::HeaderMap;
use serde::Deserialize;
use tracing::warn;

use self::dto::{EventPage, EventRow};
use crate::extract::Params;
use crate::problem::{Kind, Problem, ProblemBody};
use crate::resource::resource;
use crate::shared::Gate;
use crate::sse::{self, Event, Item};

resource! { "events", "What happened":
    get("/events", Read, page),
    get("/events/stream", Read, live),
}

/// What a client wants to see.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Wanted {
    after: Option<u64>,
    limit: Option<usize>,
    kind: Option<String>,
}

/// A screenful.
const LIMIT: usize = 100;
const LIMIT_MAX: usize = arw_actors::journal::PAGE_MAX;

/// What happened, oldest first. With `Accept: text/event-stream` as a stream.
#[utoipa::path(get, path = "/events", tag = "events", params(
    ("after" = Option<u64>, Query, description = "only events after this number; absent: from the oldest that is kept"),
    ("limit" = Option<usize>, Query, description = "at most so many, 1 to 1000; 100 when absent"),
    ("kind" = Option<String>, Query, description = "only events of this kind"),
), responses(
    (status = 200, body = EventPage),
    (status = 422, body = ProblemBody, content_type = "application/problem+json"),
))]
pub(crate) async fn page(
    State(gate): State<Gate>,
    headers: HeaderMap,
    Params(wanted): Params<Wanted>,
) -> Result<Response, Problem> {
    if sse::is_wanted(&headers) {
        return follow(&gate, &headers, wanted);
    }
    let limit = wanted.limit.unwrap_or(LIMIT);
    if !(1..=LIMIT_MAX).contains(&limit) {
        let detail = format!("field `limit`: {limit} is not within 1 and {LIMIT_MAX}");
        return Err(Problem::field(
            "limit",
            detail,
            "ask for a page of that size, and go on with `after=<next>`",
        ));
    }
    let page = gate.node.journal.replay(wanted.after, limit, wanted.kind).await.map_err(|error| {
        let detail = format!("the journal cannot be read: {error}");
        Problem::new(Kind::NotStored, detail, "see `journal` in /state/node; `arw doctor` says more")
    })?;
    Ok(Json(EventPage::from(page)).into_response())
}

/// What happens, as it happens.
#[utoipa::path(get, path = "/events/stream", tag = "events",
    description = "Server-sent events, named by kind, with the event's number as id; `gap` tells of numbers that are no longer kept.",
    params(
        ("after" = Option<u64>, Query, description = "replay what came after this number first"),
        ("kind" = Option<String>, Query, description = "only events of this kind"),
        ("Last-Event-ID" = Option<u64>, Header, description = "replay what came after this number first"),
    ), responses(
        (status = 200, content_type = "text/event-stream", body = String),
        (status = 429, body = ProblemBody, content_type = "application/problem+json"),
    ))]
pub(crate) async fn live(
    State(gate): State<Gate>,
    headers: HeaderMap,
    Params(wanted): Params<Wanted>,
) -> Result<Response, Problem> {
    follow(&gate, &headers, wanted)
}

/// HTTP-9.
fn follow(gate: &Gate, headers: &HeaderMap, wanted: Wanted) -> Result<Response, Problem> {
    let last = sse::last_event_id(headers).map(str::parse).transpose().map_err(|_| {
        Problem::field(
            "Last-Event-ID",
            "field `Last-Event-ID`: it must be an event's number",
            "leave it out to start live",
        )
    })?;
    let events = gate.node.journal.subscribe(last.or(wanted.after));
    sse::respond(gate, to_events(events, wanted.kind))
}

fn to_events(events: Subscription, kind: Option<String>) -> impl Stream<Item = Item> + Send {
    stream::unfold((events, kind), async |(mut events, kind)| {
        loop {
            match events.next().await {
                Ok(JournalItem::Event(record)) => {
                    if kind.as_deref().is_none_or(|kind| kind == record.event.kind()) {
                        return Some((Item::Shared(record.rendered(render)), (events, kind)));
                    }
                }
                // HTTP-9: what retention took is told.
                Ok(JournalItem::Gap { from, to }) => {
                    let told = format!("{{\"from\":{from},\"to\":{to}}}");
                    return Some((Event::new("gap", told.into()).into(), (events, kind)));
                }
                Err(error) => {
                    // The client comes back with the last number that it got.
                    warn!(%error, "an event stream ends: the journal cannot be read");
                    return None;
                }
            }
        }
    })
}

fn render(record: &Record) -> Bytes {
    // A row of strings, numbers and JSON values can always be written.
    let data = serde_json::to_vec(&EventRow::from(record)).unwrap_or_default();
    Event::new(record.event.kind(), data.into()).id(record.seq).into_bytes()
}
