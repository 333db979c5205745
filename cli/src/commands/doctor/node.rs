//! Checks of the node itself: does one run, does it answer, is it well.

use serde_json::Value;

use super::Check;
use crate::client::discovery::{NODE_FILE, read_node_file};
use crate::client::http::{Node, process_runs};
use crate::client::row::{list, text};
use crate::context::Context;
use crate::failure::Failure;

pub(super) async fn checks(context: &Context) -> Vec<Check> {
    const NAME: &str = "node";
    if context.locator.server.is_none() {
        match read_node_file(&context.locator.state_dir) {
            Ok(None) => return vec![Check::skipped(NAME, "none runs; `arw up` starts one")],
            Ok(Some(file)) if !process_runs(file.pid) => {
                let found =
                    format!("{NODE_FILE} names process {}, which has ended without cleaning up", file.pid);
                return vec![Check::warning(
                    NAME,
                    found,
                    "start it again with `arw up`; it replaces the file",
                )];
            }
            Ok(Some(_)) => {}
            Err(why) => {
                return vec![Check::broken(
                    NAME,
                    why,
                    format!("stop the node if one runs, then remove {NODE_FILE}"),
                )];
            }
        }
    }
    match context.node() {
        Ok(node) => vec![answering(&node).await, runtimes(&node).await],
        Err(Failure::Told(told)) => vec![Check::broken(NAME, told.why, told.help)],
        Err(Failure::OutputClosed) => Vec::new(),
    }
}

/// What the node knows of its cluster, where one answers.
pub(super) async fn cluster(context: &Context) -> Option<Value> {
    if context.locator.server.is_none() {
        read_node_file(&context.locator.state_dir).ok().flatten().filter(|file| process_runs(file.pid))?;
    }
    context.locator.find().ok().map(Node::new)?.get("/state/cluster").await.ok()
}

async fn answering(node: &Node) -> Check {
    const NAME: &str = "node";
    let body = match node.get("/state/node").await {
        Ok(body) => body,
        Err(error) => return told(NAME, error.into()),
    };
    let about = body.get("node").unwrap_or(&Value::Null);
    let reasons: Vec<&str> = list(about, "/reasons").iter().filter_map(Value::as_str).collect();
    let found = format!("{} answers at {}: {}", text(about, "/name"), node.url(), text(about, "/status"));
    match text(about, "/status") {
        "ready" => Check::ok(NAME, found),
        _ if reasons.is_empty() => Check::warning(NAME, found, "wait a moment and check again"),
        _ => Check::warning(
            NAME,
            format!("{found} ({})", reasons.join("; ")),
            "see `arw events` for what led to it",
        ),
    }
}

async fn runtimes(node: &Node) -> Check {
    const NAME: &str = "runtimes";
    let body = match node.get("/state/runtimes").await {
        Ok(body) => body,
        Err(error) => return told(NAME, error.into()),
    };
    let rows = list(&body, "/runtimes");
    let bad: Vec<&Value> =
        rows.iter().filter(|row| matches!(text(row, "/state"), "quarantined" | "failed")).collect();
    if bad.is_empty() {
        return Check::ok(NAME, format!("{} in all, none in trouble", rows.len()));
    }
    let found: Vec<String> = bad
        .iter()
        .map(|row| {
            format!(
                "{} is {}: {}",
                text(row, "/id"),
                text(row, "/state"),
                crate::commands::runtime::view::why(row)
            )
        })
        .collect();
    let help: Vec<String> = bad
        .iter()
        .map(|row| {
            let logs = format!("`arw runtime logs {}` shows what it printed", text(row, "/id"));
            crate::commands::runtime::view::hint(row, &logs)
        })
        .collect();
    Check::broken(NAME, found.join("\n"), help.join("\n"))
}

fn told(name: &'static str, failure: Failure) -> Check {
    match failure {
        Failure::Told(told) => Check::broken(name, format!("{}\n{}", told.what, told.why), told.help),
        Failure::OutputClosed => Check::skipped(name, ""),
    }
}
