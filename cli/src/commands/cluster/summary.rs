//! The cluster on one screen: sums, nodes, and what is wrong with which.

use arw_actors::moment::WallTime;
use serde_json::Value;

use super::nodes;
use crate::client::row::{flag, list, number, text};
use crate::commands::model::field_lines;
use crate::output::human;
use crate::output::style::Style;

pub(super) fn screenful(body: &Value, style: &Style, now: WallTime) -> String {
    let rows = list(body, "/nodes");
    let mut fields = vec![("cluster", cluster(body, rows))];
    fields.extend(reached_at(body).map(|words| ("reached at", words)));
    fields.extend([("nodes", counts(body)), ("machines", machines(body)), ("requests", requests(body))]);
    let mut out = field_lines(&fields);
    out.push('\n');
    if rows.is_empty() {
        out.push_str("the node has not looked at its cluster yet\n");
        return out;
    }
    out.push_str(&nodes::table(rows).text(style, now));
    for row in rows {
        if let Some(words) = trouble(row, now) {
            out.push_str(&format!("\n{}\n", human::printable(&words)));
        }
    }
    out
}

/// The node that made the cluster, and its row, if it is shown.
pub(super) fn home(body: &Value) -> (String, Vec<Value>) {
    let home = text(body, "/home");
    if home.is_empty() {
        let alone = "none: this node is alone; `arw cluster token create` makes it the home of a cluster\n";
        return (alone.to_owned(), Vec::new());
    }
    let row = list(body, "/nodes").iter().find(|row| text(row, "/id") == home).cloned();
    let mut fields = vec![("home", home.to_owned())];
    match &row {
        Some(row) => fields.extend([
            ("name", nodes::called(row).to_owned()),
            ("state", nodes::state(row)),
            ("address", text(row, "/address").to_owned()),
        ]),
        None => fields.push(("state", "this node has not met it since it was started".to_owned())),
    }
    (field_lines(&fields), row.into_iter().collect())
}

fn cluster(body: &Value, rows: &[Value]) -> String {
    let id = text(body, "/cluster/id");
    if id.is_empty() {
        return "none: this node is alone; `arw cluster token create` lets others join it".to_owned();
    }
    let home = text(body, "/home");
    let home = rows.iter().find(|row| !home.is_empty() && text(row, "/id") == home);
    let home = home.map(|row| format!(", home is {}", nodes::called(row))).unwrap_or_default();
    let issuer = if flag(body, "/cluster/is_issuer") { ", this node lets others in" } else { "" };
    format!("{id}{home}{issuer}")
}

/// Where others are told that this node is, and how that was found out.
fn reached_at(body: &Value) -> Option<String> {
    match (text(body, "/cluster/address"), text(body, "/cluster/address_by")) {
        ("", _) => None,
        (address, "") => Some(address.to_owned()),
        (address, by) => Some(format!("{address}, by {by}")),
    }
}

fn counts(body: &Value) -> String {
    let count = |state: &str| number(body, &format!("/totals/nodes/{state}")).unwrap_or_default();
    let states = ["up", "suspect", "down", "left"].map(|state| (state, count(state)));
    let mut words: Vec<String> = states
        .iter()
        .filter(|(state, count)| *count > 0 || *state == "up")
        .map(|(state, count)| format!("{} {state}", human::count(*count)))
        .collect();
    if let Some(draining) = number(body, "/totals/draining").filter(|draining| *draining > 0) {
        words.push(format!("{} draining", human::count(draining)));
    }
    words.join(", ")
}

fn machines(body: &Value) -> String {
    let sum = |name: &str| number(body, &format!("/totals/{name}")).unwrap_or_default();
    let (cores, cards) = (sum("usable_cores"), sum("accelerators"));
    format!(
        "{} core{}, {} of {} free, {} accelerator{}",
        human::count(cores),
        human::plural(cores),
        human::bytes(sum("memory_available_bytes")),
        human::bytes(sum("memory_total_bytes")),
        human::count(cards),
        human::plural(cards)
    )
}

fn requests(body: &Value) -> String {
    let sum = |name: &str| human::count(number(body, &format!("/totals/{name}")).unwrap_or_default());
    format!(
        "{} in flight, {} waiting; {} of {} runtimes serve",
        sum("in_flight"),
        sum("waiting"),
        sum("runtimes_serving"),
        sum("runtimes")
    )
}

/// What is wrong with a node, and what to do about it.
fn trouble(row: &Value, now: WallTime) -> Option<String> {
    let is_gone = !nodes::is_alive(row);
    let is_well = matches!(text(row, "/health/state"), "ok" | "info" | "");
    if is_well && !is_gone {
        return None;
    }
    let since =
        if is_gone { format!(" since {}", human::ago(text(row, "/since"), now)) } else { String::new() };
    let reason = match text(row, "/health/reason") {
        "" => String::new(),
        reason => format!(": {reason}"),
    };
    let hint = match text(row, "/health/hint") {
        "" => String::new(),
        hint => format!("\n  {hint}"),
    };
    Some(format!("{} is {}{since}{reason}{hint}", nodes::called(row), nodes::state(row)))
}
