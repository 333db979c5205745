//! `arw actors …`: the supervision tree, live.

mod all;
mod facts;
mod tree;

use arw_actors::config::nearest;
use serde_json::Value;

use crate::args::ActorsCommand;
use crate::client::http::Node;
use crate::client::row::{encoded, number, text};
use crate::commands::events;
use crate::commands::model::field_lines;
use crate::commands::runtime::view;
use crate::commands::watching::{self, Change, Watched};
use crate::context::Context;
use crate::failure::{Exit, Failure};
use crate::output::human;
use crate::output::screen::Screen;
use crate::output::table::Table;

pub(crate) async fn run(context: &Context, command: ActorsCommand) -> Result<(), Failure> {
    let node = context.node()?;
    match command {
        ActorsCommand::Tree { watch: true, node: other, .. } => {
            let watched = WatchedTree { of: other, shown: facts::Tree::default() };
            watching::watch(&context.screen, &node, watched).await
        }
        ActorsCommand::Tree { all: true, .. } => all::show(&context.screen, &node).await,
        ActorsCommand::Tree { node: other, .. } => {
            let body = node.get(&path("/state/actors", other.as_deref())).await?;
            context.screen.show(&tree::page(body, &context.screen.style, context.screen.now()))
        }
        ActorsCommand::Show { path } => show(context, &node, &path).await,
    }
}

/// For the tree of another node than the one that is asked.
fn path(path: &str, other: Option<&str>) -> String {
    other.map_or_else(|| path.to_owned(), |other| format!("{path}?node={}", encoded(other)))
}

/// The tree, and what of it was shown last.
struct WatchedTree {
    /// Of which node; `None`: of the one that is asked.
    of: Option<String>,
    shown: facts::Tree,
}

impl Watched for WatchedTree {
    const COMMAND: &'static str = "arw actors tree";

    fn stream(&self) -> String {
        path("/state/actors/stream", self.of.as_deref())
    }

    fn drawn(&self, body: &Value, screen: &Screen) -> String {
        tree::drawn(body, &screen.style, screen.now())
    }

    fn news(&mut self, body: &Value) -> Vec<Change> {
        let now = facts::Tree::of(body);
        let news = now.changes_since(&self.shown);
        self.shown = now;
        news
    }

    fn table(&self, record: &Value) -> Table {
        tree::table_of(record)
    }
}

async fn show(context: &Context, node: &Node, path: &str) -> Result<(), Failure> {
    let body = node.get("/state/actors").await?;
    let rows = tree::rows(&body);
    let row = rows.iter().map(|line| line.row).find(|row| is_at(text(row, "/path"), path));
    let Some(row) = row else {
        let paths: Vec<&str> = rows.iter().map(|line| text(line.row, "/path")).collect();
        let help = match nearest(path, paths.iter().copied()) {
            Some(near) => format!("did you mean {near}?"),
            None => "`arw actors tree -o csv` lists all paths".to_owned(),
        };
        let why = format!("the node has {} actors, none with this path", rows.len());
        return Err(Failure::new(Exit::NotFound, format!("there is no actor {path}"), why, help));
    };
    let full = text(row, "/path");
    let short = full.strip_prefix("node/").unwrap_or(full);
    let subject = short.strip_prefix("runtimes/").unwrap_or(short);
    let history = events::history(node, subject, short).await;
    let record = tree::without_children(row);
    let mut page = tree::page_of(record.clone(), vec![record]);
    page.text = Some(details(row, &history, context));
    context.screen.show(&page)
}

/// `runtimes/smollm2` also finds `node/runtimes/smollm2`.
fn is_at(full: &str, wanted: &str) -> bool {
    let wanted = wanted.trim_matches('/');
    full == wanted || full.strip_prefix("node/") == Some(wanted)
}

fn details(row: &Value, history: &[events::Happening], context: &Context) -> String {
    let now = context.screen.now();
    let children = row.get("children").and_then(Value::as_array).map_or(0, Vec::len);
    let handling = match number(row, "/in_flight/age_ms") {
        Some(age) => format!(
            "{} for {}{}",
            text(row, "/in_flight/message"),
            human::span_ms(age),
            facts::Handling::of(row).words()
        ),
        None => "nothing".to_owned(),
    };
    let mailbox = match (number(row, "/mailbox/depth"), number(row, "/mailbox/bound")) {
        (Some(depth), Some(bound)) => format!("{depth} waiting, room for {bound}"),
        _ => "none".to_owned(),
    };
    let handled = number(row, "/handled").unwrap_or_default();
    let busy = human::span_ms(number(row, "/busy_ms").unwrap_or_default());
    let fields = [
        ("actor", text(row, "/path").to_owned()),
        ("kind", text(row, "/kind").to_owned()),
        ("state", format!("{} (since {})", text(row, "/state"), human::ago(text(row, "/since"), now))),
        ("handling", handling),
        ("mailbox", mailbox),
        (
            "handled",
            format!("{} message{}, busy {busy} in all", human::count(handled), human::plural(handled)),
        ),
        ("restarts", view::restarts_in_words(row, "/restarts", now)),
        ("last exit", view::last_exit(row, now)),
        ("children", children.to_string()),
    ];
    let mut out = field_lines(&fields);
    out.push('\n');
    out.push_str(&verdict(row, context));
    out.push('\n');
    out.push_str(&view::history_in_words(history, now));
    out
}

/// The one sentence that answers "why did it restart".
fn verdict(row: &Value, context: &Context) -> String {
    let now = context.screen.now();
    let Some(exit) = row.get("last_exit").and_then(human::exit_in_words) else {
        return "It has not ended since the node started.".to_owned();
    };
    let at = human::ago(text(row, "/last_exit/at"), now);
    let left = number(row, "/restarts/max")
        .zip(number(row, "/restarts/used"))
        .map(|(max, used)| max.saturating_sub(used));
    let then = match (text(row, "/state"), left) {
        ("running", Some(left)) => {
            format!(
                "It was restarted; {left} more restart{} are allowed before it is given up.",
                human::plural(left)
            )
        }
        ("running", None) => "It was started again.".to_owned(),
        ("backoff", _) => "It waits before the next restart.".to_owned(),
        ("quarantined", _) => {
            "It used up its restarts and is in quarantine; it is tried again later.".to_owned()
        }
        ("failed", _) => "It is not restarted again.".to_owned(),
        (state, _) => format!("It is {state} now."),
    };
    format!("It last ended {at}: {exit}. {then}")
}

/// An actor's row as JSON.
#[cfg(test)]
fn sample_row(path: &str, state: &str) -> Value {
    serde_json::json!({"path": path, "kind": "worker", "state": state, "since": "2026-11-24T11:59:50Z",
        "mailbox": {"depth": 0, "bound": 64}, "handled": 3, "busy_ms": 1, "in_flight": null,
        "restarts": {"used": 0, "max": 5, "window_s": 300, "resets_at": null}, "last_exit": null, "children": []})
}
