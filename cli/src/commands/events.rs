//! `arw events`: what happened on the node.

use std::collections::VecDeque;

use serde_json::{Value, json};

use crate::args::Events;
use crate::client::error::ClientError;
use crate::client::follow::{Follow, Followed};
use crate::client::http::Node;
use crate::client::row::{encoded, number, text};
use crate::context::Context;
use crate::failure::Failure;
use crate::output::human;
use crate::output::screen::{Page, Screen};
use crate::output::style::Tone;
use crate::output::table::{Cell, Column, Table};

/// So many events are asked for at once.
const PAGE: u64 = 1_000;
/// How far back the history of one actor is looked for: a busy week, and a few calls.
const HISTORY_REACH: u64 = 5_000;
/// So many lines of history are shown.
const HISTORY_LINES: usize = 20;
/// Shown before following, so that the screen is not empty.
const BEFORE_FOLLOWING: u64 = 10;

const COLUMNS: [Column; 7] = [
    Column::new("seq", "seq"),
    Column::new("at", "at"),
    Column::new("severity", "severity"),
    Column::new("kind", "kind").yielding(),
    Column::new("subject", "subject"),
    Column::new("message", "message").wrapping(),
    Column::programs("data"),
];

pub(crate) async fn run(context: &Context, wanted: &Events) -> Result<(), Failure> {
    let node = context.node()?;
    if wanted.follow {
        return follow(context, &node, wanted).await;
    }
    let events = match wanted.after {
        Some(after) => oldest(&node, after, wanted.limit, wanted.kind.as_deref()).await?,
        None => newest(&node, wanted.limit, wanted.kind.as_deref()).await?,
    };
    context.screen.show(&page(events))
}

/// What happened to one actor or runtime.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Happening {
    pub(crate) at: String,
    pub(crate) message: String,
}

/// The newest happenings of a subject, oldest first. Best effort: without events there is no history, and the
/// rest is shown.
pub(crate) async fn history(node: &Node, subject: &str, path: &str) -> Vec<Happening> {
    let Ok(events) = newest(node, HISTORY_REACH, None).await else { return Vec::new() };
    let about = events.iter().filter(|event| {
        let of = text(event, "/subject");
        of == subject || of == path || of.strip_prefix("node/") == Some(path)
    });
    let all: Vec<Happening> =
        about.map(|event| Happening { at: text(event, "/at").to_owned(), message: message(event) }).collect();
    all[all.len().saturating_sub(HISTORY_LINES)..].to_vec()
}

/// The first `limit` events after `after`.
async fn oldest(node: &Node, after: u64, limit: u64, kind: Option<&str>) -> Result<Vec<Value>, ClientError> {
    let mut events = Vec::new();
    let mut after = after;
    loop {
        let left = limit.saturating_sub(u64::try_from(events.len()).unwrap_or(u64::MAX));
        let (page, next) = fetch(node, after, left.min(PAGE), kind).await?;
        let done = page.is_empty() || next <= after;
        events.extend(page);
        if done || events.len() as u64 >= limit {
            events.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
            return Ok(events);
        }
        after = next;
    }
}

/// The last `limit` events. The node numbers events without gaps, so the newest number says where to begin;
/// where only one kind is wanted, everything has to be looked through.
async fn newest(node: &Node, limit: u64, kind: Option<&str>) -> Result<Vec<Value>, ClientError> {
    let last = last_seq(node).await?;
    let mut after = if kind.is_some() { 0 } else { last.saturating_sub(limit) };
    let keep = usize::try_from(limit).unwrap_or(usize::MAX);
    let mut events = VecDeque::new();
    loop {
        let (page, next) = fetch(node, after, PAGE, kind).await?;
        let done = page.is_empty() || next <= after;
        events.extend(page);
        events.drain(..events.len().saturating_sub(keep));
        if done || next >= last {
            return Ok(events.into());
        }
        after = next;
    }
}

async fn last_seq(node: &Node) -> Result<u64, ClientError> {
    let state = node.get("/state/node").await?;
    Ok(number(&state, "/node/journal/last_seq").unwrap_or_default())
}

async fn fetch(
    node: &Node,
    after: u64,
    limit: u64,
    kind: Option<&str>,
) -> Result<(Vec<Value>, u64), ClientError> {
    let kind = kind.map_or_else(String::new, |kind| format!("&kind={}", encoded(kind)));
    let mut body = node.get(&format!("/events?after={after}&limit={limit}{kind}")).await?;
    let next = number(&body, "/next").unwrap_or(after);
    match body["events"].take() {
        Value::Array(events) => Ok((events, next)),
        _ => Ok((Vec::new(), next)),
    }
}

async fn follow(context: &Context, node: &Node, wanted: &Events) -> Result<(), Failure> {
    let screen = &context.screen;
    let after = match wanted.after {
        Some(after) => after,
        None => last_seq(node).await?.saturating_sub(BEFORE_FOLLOWING),
    };
    let mut follow = Follow::new(node, &format!("/events/stream?after={after}"), None, screen.clock());
    let mut first = true;
    loop {
        let followed = tokio::select! {
            followed = follow.next() => followed?,
            _ = tokio::signal::ctrl_c() => return Ok(()),
        };
        match followed {
            Followed::Event(event) if event.event == "gap" => {
                let gap: Value = serde_json::from_str(&event.data).unwrap_or_default();
                let (from, to) =
                    (number(&gap, "/from").unwrap_or_default(), number(&gap, "/to").unwrap_or_default());
                screen.note(&format!("note: events {from} to {to} are no longer kept"));
            }
            Followed::Event(event) => {
                let Ok(row) = serde_json::from_str::<Value>(&event.data) else { continue };
                if wanted.kind.as_deref().is_some_and(|kind| kind != text(&row, "/kind")) {
                    continue;
                }
                show_event(screen, &row, first)?;
                first = false;
            }
            Followed::Broken(why) if why.is_empty() => {}
            Followed::Broken(why) => screen.note(&format!("note: {why}; connecting again")),
        }
    }
}

fn show_event(screen: &Screen, row: &Value, first: bool) -> Result<(), Failure> {
    let mut table = Table::new(&COLUMNS);
    table.push(cells(row));
    let severity = text(row, "/severity");
    let words = format!(
        "{} {} {}: {}",
        human::time_of_day(text(row, "/at")),
        screen.style.paint(tone(severity), severity),
        human::one_line(text(row, "/subject")),
        human::one_line(&message(row))
    );
    screen.show_row(row, &table, &words, first)
}

fn page(events: Vec<Value>) -> Page {
    let mut table = Table::new(&COLUMNS);
    for row in &events {
        table.push(cells(row));
    }
    let body = json!({"events": events});
    Page { body, records: events, table, text: None, empty: "no such events".to_owned() }
}

fn cells(row: &Value) -> Vec<Cell> {
    let word = |pointer: &str| Cell::Text(text(row, pointer).to_owned());
    let severity = text(row, "/severity");
    vec![
        number(row, "/seq").map_or(Cell::Missing, Cell::Count),
        Cell::Time(text(row, "/at").to_owned()),
        Cell::Word(severity.to_owned(), tone(severity)),
        word("/kind"),
        word("/subject"),
        Cell::Text(message(row)),
        row.get("data")
            .filter(|data| !data.is_null())
            .map_or(Cell::Missing, |data| Cell::Text(data.to_string())),
    ]
}

/// The event's words; its kind where it has none.
fn message(row: &Value) -> String {
    match text(row, "/message") {
        "" => text(row, "/kind").replace('_', " "),
        message => message.to_owned(),
    }
}

fn tone(severity: &str) -> Tone {
    match severity {
        "error" => Tone::Bad,
        "warning" | "warn" => Tone::Warning,
        "info" => Tone::Notice,
        _ => Tone::Plain,
    }
}
