//! What changes a node of the cluster: draining, leaving.
//!
//! Owns the words and the waiting. Who a name means the node decides; what is asked of it here is only for
//! the words and for what is confirmed.

use std::time::Duration;

use arw_actors::config::format_duration;
use serde_json::{Value, json};

use super::nodes;
use crate::client::http::{Call, Node};
use crate::client::row::{encoded, flag, list, number, text};
use crate::commands::confirm::confirm;
use crate::context::Context;
use crate::failure::{Exit, Failure};
use crate::output::human::{count, plural};
use crate::output::screen::Page;

/// As few digits of an id as the node takes.
const ID_DIGITS_MIN: usize = 8;
/// A card that has changed is here within 250 ms.
const LOOK_EVERY: Duration = Duration::from_millis(500);

pub(super) async fn drain(context: &Context, named: &str, wait: Option<Duration>) -> Result<(), Failure> {
    let node = context.node()?;
    let meant = meant(&node, named).await;
    node.answer(Call::post(&format!("/cluster/nodes/{}/drain", encoded(named)), None)).await?;
    let resume = format!("`arw cluster resume {named}` ends that");
    let Some(patience) = wait else {
        let words = format!("node {named} gets nothing new; {resume}");
        return context.screen.done(&words, &flagged(named, meant.as_ref(), true));
    };
    context.screen.note(&format!("node {named} gets nothing new; waiting until it has nothing left"));
    let row = drained(context, &node, named, meant.as_ref(), patience).await?;
    context
        .screen
        .done(&format!("node {named} has nothing left; {resume}"), &flagged(named, Some(&row), true))
}

pub(super) async fn resume(context: &Context, named: &str) -> Result<(), Failure> {
    let node = context.node()?;
    let meant = meant(&node, named).await;
    node.answer(Call::post(&format!("/cluster/nodes/{}/resume", encoded(named)), None)).await?;
    context.screen.done(&format!("node {named} gets new work again"), &flagged(named, meant.as_ref(), false))
}

pub(super) async fn leave(context: &Context, yes: bool) -> Result<(), Failure> {
    let node = context.node()?;
    // Only for the words.
    let body = node.get("/state/cluster").await.unwrap_or_default();
    let cluster = text(&body, "/cluster/id");
    let which = if cluster.is_empty() { "its cluster".to_owned() } else { format!("the cluster {cluster}") };
    let last =
        if flag(&body, "/cluster/is_issuer") { " It made that cluster, which ends with it." } else { "" };
    confirm(
        context,
        yes,
        &format!("take this node out of {which}? It can join again only with a new token.{last}"),
    )?;
    node.answer(Call::post("/cluster/leave", None)).await?;
    let left = if cluster.is_empty() { Value::Null } else { json!(cluster) };
    context.screen.done("this node is in no cluster any more", &Page::of_one(&[("left", left)]))
}

/// The one row that is meant; `None` where it cannot be seen, or is not one: then the node says so.
pub(super) async fn meant(node: &Node, named: &str) -> Option<Value> {
    let body = node.get("/state/cluster").await.ok()?;
    named_among(list(&body, "/nodes"), named).cloned()
}

fn named_among<'r>(rows: &'r [Value], named: &str) -> Option<&'r Value> {
    if let Some(row) = rows.iter().find(|row| text(row, "/id") == named) {
        return Some(row);
    }
    let begins = |row: &Value| named.len() >= ID_DIGITS_MIN && text(row, "/id").starts_with(named);
    let mut fitting = rows.iter().filter(|row| text(row, "/name") == named || begins(row));
    fitting.next().filter(|_| fitting.next().is_none())
}

/// `node box2 (0b0b0b0b, up, at 10.0.0.2:7400)`
pub(super) fn described(row: &Value) -> String {
    let id = text(row, "/id");
    let at = match text(row, "/address") {
        "" => String::new(),
        address => format!(", at {address}"),
    };
    let short = id.get(..ID_DIGITS_MIN).unwrap_or(id);
    format!("node {} ({short}, {}{at})", nodes::called(row), nodes::state(row))
}

pub(super) fn name(row: Option<&Value>) -> Value {
    row.map_or(Value::Null, |row| row["name"].clone())
}

/// The node as a program is told of it: `in_flight` and `waiting` as they were seen last.
fn flagged(named: &str, row: Option<&Value>, is_draining: bool) -> Page {
    let part = |pointer: &str| row.and_then(|row| row.pointer(pointer)).cloned().unwrap_or(Value::Null);
    Page::of_one(&[
        ("id", row.map_or_else(|| json!(named), |row| row["id"].clone())),
        ("name", name(row)),
        ("draining", json!(is_draining)),
        ("in_flight", part("/load/in_flight")),
        ("waiting", part("/queue/waiting")),
    ])
}

/// What a drained node still has to do.
#[derive(Debug, PartialEq, Eq)]
enum Rest {
    /// It has not said yet that it drains: what it says of its load is older than that.
    Unheard,
    Requests(u64),
    /// It is not there any more; nothing is left, but not because it was finished.
    Gone,
}

fn rest(row: &Value) -> Rest {
    match (nodes::is_alive(row), flag(row, "/draining")) {
        (false, _) => Rest::Gone,
        (true, false) => Rest::Unheard,
        (true, true) => {
            let part = |pointer: &str| number(row, pointer).unwrap_or_default();
            Rest::Requests(part("/load/in_flight").saturating_add(part("/queue/waiting")))
        }
    }
}

async fn drained(
    context: &Context,
    node: &Node,
    named: &str,
    meant: Option<&Value>,
    patience: Duration,
) -> Result<Value, Failure> {
    let id = meant.map_or(named, |row| text(row, "/id"));
    let clock = context.screen.clock();
    let until = clock.now() + patience;
    let mut told = None;
    loop {
        let body = node.get("/state/cluster").await?;
        let row = named_among(list(&body, "/nodes"), id).cloned().unwrap_or_default();
        let rest = rest(&row);
        match rest {
            Rest::Requests(0) => return Ok(row),
            Rest::Gone => {
                let why = format!("it is {}", nodes::state(&row));
                let what = format!("node {named} went away before it had finished");
                return Err(Failure::new(Exit::Failed, what, why, "see `arw cluster status`"));
            }
            Rest::Requests(left) if told != Some(left) => {
                context.screen.note(&format!("{} request{} left", count(left), plural(left)));
                told = Some(left);
            }
            Rest::Requests(_) | Rest::Unheard => {}
        }
        if clock.now() >= until {
            return Err(still_busy(named, &rest, patience));
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

fn still_busy(named: &str, rest: &Rest, patience: Duration) -> Failure {
    let what = format!("node {named} has not finished after {}", format_duration(patience));
    let why = match rest {
        Rest::Requests(left) => {
            format!("{} request{} left; it gets nothing new", count(*left), plural(*left))
        }
        Rest::Unheard | Rest::Gone => "it has not said yet that it drains".to_owned(),
    };
    Failure::new(Exit::Failed, what, why, "wait longer with --wait=DURATION, or end what is left")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(state: &str, draining: bool, in_flight: u64, waiting: u64) -> Value {
        json!({"state": state, "draining": draining, "load": {"in_flight": in_flight}, "queue": {"waiting": waiting}})
    }

    #[test]
    fn a_node_has_finished_when_it_drains_and_has_nothing_left_and_not_before() {
        assert_eq!(rest(&row("up", false, 0, 0)), Rest::Unheard, "its card is older than the wish");
        assert_eq!(rest(&row("up", true, 2, 1)), Rest::Requests(3));
        assert_eq!(rest(&row("up", true, 0, 1)), Rest::Requests(1));
        assert_eq!(rest(&row("suspect", true, 0, 0)), Rest::Requests(0));
        assert_eq!(rest(&row("down", true, 0, 0)), Rest::Gone);
        assert_eq!(rest(&Value::Null), Rest::Gone);
    }

    #[test]
    fn who_is_meant_is_one_node_or_nobody() {
        let node = |name: &str, id: &str| json!({"name": name, "id": id.repeat(32), "state": "up", "address": "10.0.0.2:1"});
        let rows = [node("a", "0a"), node("b", "0b"), node("b", "0c")];
        let found = |named: &str| named_among(&rows, named).map(|row| text(row, "/id").to_owned());
        assert_eq!(found("a"), Some("0a".repeat(32)));
        assert_eq!(found(&"0b".repeat(32)), Some("0b".repeat(32)));
        assert_eq!(found("0c0c0c0c"), Some("0c".repeat(32)));
        for nobody in ["b", "0c0c", "x", ""] {
            assert_eq!(found(nobody), None, "{nobody}");
        }
        assert_eq!(described(&rows[0]), "node a (0a0a0a0a, up, at 10.0.0.2:1)");
    }
}
