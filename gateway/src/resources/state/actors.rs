//! `/state/actors`: the tree of actors, and messages that nobody handled.

use std::time::Duration;

use arw_actors::moment::WallTime;
use arw_actors::runtime::wall_of;
use arw_actors::views::{Pace, Sources, View, next_change};
use arw_kit::clock::Clock;
use arw_kit::mailbox::{DeadLetter, DeadLetterCounts};
use arw_kit::tree;
use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::shown::{members, read_model};

read_model! {
    actors, actors_stream, "/state/actors", "/state/actors/stream", ActorsState<'_>,
    "Every actor, as a tree.",
    for_peers: true,
    View {
        name: "actors",
        // Depths and ages move with every message.
        pace: Pace::WhileWatchedAndEvery(Duration::from_millis(250)),
        changes: |_| 0,
        changed: |sources| next_change(sources.system.tree().changes()),
        render: |sources| render(sources),
    }
}

/// `/state/actors`.
#[derive(Debug, Serialize, ToSchema)]
struct ActorsState<'a> {
    #[schema(value_type = ActorRow<'_>)]
    root: Option<ActorRow<'a>>,
    dead_letters: DeadLettersRow,
}

/// Messages that nobody handled.
#[derive(Debug, Serialize, ToSchema)]
struct DeadLettersRow {
    total: u64,
    by_reason: DeadLetterReasons,
    /// At most 64, oldest first.
    newest: Vec<DeadLetterRow>,
}

/// By reason.
#[derive(Debug, Serialize, ToSchema)]
struct DeadLetterReasons {
    stopped: u64,
    overloaded: u64,
    expired: u64,
}

/// One message that nobody handled.
#[derive(Debug, Serialize, ToSchema)]
struct DeadLetterRow {
    /// The actor that it was for.
    path: String,
    /// Its kind: messages themselves are not kept.
    message: &'static str,
    /// `stopped`, `overloaded` or `expired`.
    reason: &'static str,
    #[schema(value_type = String)]
    at: WallTime,
}

/// One actor and what is under it.
#[derive(Debug, Serialize, ToSchema)]
struct ActorRow<'a> {
    path: &'a str,
    kind: &'static str,
    /// `starting`, `running`, `stopping`, `stopped`, `backoff`, `quarantined` or `failed`.
    state: &'static str,
    #[schema(value_type = String)]
    since: WallTime,
    mailbox: Option<MailboxRow>,
    handled: u64,
    busy_ms: u64,
    in_flight: Option<InFlightRow>,
    restarts: Option<RestartsRow>,
    last_exit: Option<ActorExitRow>,
    #[schema(no_recursion)]
    children: Vec<ActorRow<'a>>,
}

/// A mailbox, in messages.
#[derive(Debug, Serialize, ToSchema)]
struct MailboxRow {
    depth: u32,
    bound: u32,
}

/// The message in hand.
#[derive(Debug, Serialize, ToSchema)]
struct InFlightRow {
    message: &'static str,
    age_ms: u64,
}

/// How much of a restart budget is used.
#[derive(Debug, Serialize, ToSchema)]
struct RestartsRow {
    used: u32,
    max: u32,
    window_s: u64,
    #[schema(value_type = Option<String>)]
    resets_at: Option<WallTime>,
}

/// How an actor last ended.
#[derive(Debug, Serialize, ToSchema)]
struct ActorExitRow {
    /// `normal`, `stop`, `crash`, `killed`, `start_failed`, `process_exit`, `process_signal`, `escalated` or
    /// `dependency`.
    #[schema(value_type = String)]
    reason: &'static str,
    #[schema(value_type = Option<String>)]
    detail: String,
    #[schema(value_type = String)]
    at: WallTime,
}

fn render(sources: &Sources) -> Map<String, Value> {
    let root = sources.system.tree().rows().into_iter().next();
    let letters = sources.system.dead_letters();
    members(&ActorsState {
        root: root.as_ref().map(|row| ActorRow::of(row, sources.clock)),
        dead_letters: DeadLettersRow::of(letters.counts(), letters.newest()),
    })
}

impl DeadLettersRow {
    fn of(counts: DeadLetterCounts, newest: Vec<DeadLetter>) -> Self {
        let total = counts.total();
        let DeadLetterCounts { stopped, overloaded, expired } = counts;
        let row = |it: DeadLetter| DeadLetterRow {
            path: it.path.as_str().to_owned(),
            message: it.message,
            reason: it.reason.word(),
            at: it.at,
        };
        Self {
            total,
            by_reason: DeadLetterReasons { stopped, overloaded, expired },
            newest: newest.into_iter().map(row).collect(),
        }
    }
}

impl<'a> ActorRow<'a> {
    fn of(row: &'a tree::ActorRow, clock: Clock) -> Self {
        Self {
            path: row.path.as_str(),
            kind: row.kind,
            state: row.state.word(),
            since: wall_of(clock, row.since),
            mailbox: row.mailbox.map(|it| MailboxRow { depth: it.depth, bound: it.bound }),
            handled: row.handled,
            busy_ms: millis(row.busy),
            in_flight: row.in_flight.map(|it| InFlightRow { message: it.message, age_ms: millis(it.age) }),
            restarts: row.restarts.map(|it| RestartsRow {
                used: it.used,
                max: it.max,
                window_s: it.window.as_secs(),
                resets_at: it.resets_at.map(|at| wall_of(clock, at)),
            }),
            last_exit: row.last_exit.as_ref().map(|it| ActorExitRow {
                reason: it.reason.word(),
                detail: it.reason.to_string(),
                at: it.at,
            }),
            children: row.children.iter().map(|child| Self::of(child, clock)).collect(),
        }
    }
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}
