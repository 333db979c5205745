//! What of the cluster is worth a line, for where it cannot be redrawn.
//!
//! A decider: compares two bodies. Figures are told to programs only.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::nodes;
use crate::client::row::{flag, list, text};
use crate::commands::watching::Change;

/// The rows of all nodes, by id.
#[derive(Clone, Debug, Default)]
pub(super) struct Nodes(BTreeMap<String, Value>);

impl Nodes {
    pub(super) fn of(body: &Value) -> Self {
        let rows = list(body, "/nodes");
        Self(rows.iter().map(|row| (text(row, "/id").to_owned(), row.clone())).collect())
    }

    /// What is new, in the order of ids.
    pub(super) fn changes_since(&self, before: &Self) -> Vec<Change> {
        let mut changes = Vec::new();
        for (id, now) in &self.0 {
            let news = match before.0.get(id) {
                Some(before) if before == now => continue,
                Some(before) => news(before, now),
                None => vec![arrival(now)],
            };
            let words = match news.is_empty() {
                true => String::new(),
                false => format!("{}: {}", nodes::called(now), news.join("; ")),
            };
            changes.push(Change { words, record: now.clone() });
        }
        for (_, gone) in before.0.iter().filter(|(id, _)| !self.0.contains_key(*id)) {
            let mut record = gone.clone();
            record["gone"] = json!(true);
            changes.push(Change { words: format!("{}: no longer shown", nodes::called(gone)), record });
        }
        changes
    }
}

fn arrival(row: &Value) -> String {
    let address = match text(row, "/address") {
        "" => String::new(),
        address => format!(", at {address}"),
    };
    format!("new, {}{address}", nodes::state(row))
}

fn news(before: &Value, now: &Value) -> Vec<String> {
    let mut news = Vec::new();
    let (was, is) = (nodes::state(before), nodes::state(now));
    if was != is {
        let reason = match text(now, "/reason") {
            "" => String::new(),
            reason => format!(" ({reason})"),
        };
        news.push(format!("{is}, was {was}{reason}"));
    }
    if before["incarnation"] != now["incarnation"] {
        news.push("started anew".to_owned());
    }
    let (was, is) = (flag(before, "/connected"), flag(now, "/connected"));
    if was != is && nodes::is_alive(now) {
        news.push(if is { "connected" } else { "no connection to it" }.to_owned());
    }
    if before["address"] != now["address"] {
        news.push(format!("at {}", text(now, "/address")));
    }
    if before["runtimes"] != now["runtimes"] {
        news.extend(runtimes(before, now));
    }
    let health = ["/health/state", "/health/reason"];
    if nodes::is_alive(now) && health.iter().any(|part| text(before, part) != text(now, part)) {
        let reason = match text(now, "/health/reason") {
            "" => String::new(),
            reason => format!(": {reason}"),
        };
        news.push(format!("health {}{reason}", text(now, "/health/state")));
    }
    news
}

/// Runtimes that came, went, or changed their state.
fn runtimes(before: &Value, now: &Value) -> Vec<String> {
    let states = |row: &Value| -> BTreeMap<String, String> {
        let runtimes = list(row, "/runtimes").iter();
        runtimes.map(|it| (text(it, "/id").to_owned(), text(it, "/state").to_owned())).collect()
    };
    let (before, now) = (states(before), states(now));
    let moved = now.iter().filter(|(id, state)| before.get(*id) != Some(*state));
    let gone = before.keys().filter(|id| !now.contains_key(*id));
    let moved = moved.map(|(id, state)| format!("runtime {id} {state}"));
    moved.chain(gone.map(|id| format!("runtime {id} gone"))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row() -> Value {
        json!({"id": "0f".repeat(32), "name": "box", "state": "up", "draining": false, "incarnation": 1, "address": "10.0.0.2:7400",
            "connected": true, "reason": null, "runtimes": [{"id": "r1", "state": "ready", "in_flight": 0}],
            "health": {"state": "ok", "reason": null}})
    }

    fn changes(before: &[Value], now: &[Value]) -> Vec<Change> {
        let nodes = |rows: &[Value]| Nodes::of(&json!({"nodes": rows}));
        nodes(now).changes_since(&nodes(before))
    }

    fn words(change: impl FnOnce(&mut Value)) -> Vec<String> {
        let mut now = row();
        change(&mut now);
        changes(&[row()], &[now]).into_iter().map(|change| change.words).collect()
    }

    #[test]
    fn figures_are_for_programs() {
        assert_eq!(words(|_| {}), Vec::<String>::new());
        assert_eq!(words(|row| row["runtimes"][0]["in_flight"] = json!(3)), [""]);
    }

    #[test]
    fn what_happens_to_a_node_is_one_line() {
        let down = words(|row| {
            row["state"] = json!("down");
            row["reason"] = json!("it did not answer");
            row["connected"] = json!(false);
        });
        assert_eq!(down, ["box: down, was up (it did not answer)"]);
        assert_eq!(words(|row| row["draining"] = json!(true)), ["box: up, draining, was up"]);
        let restarted = words(|row| {
            row["incarnation"] = json!(2);
            row["runtimes"] = json!([{"id": "r2", "state": "starting"}]);
            row["health"] = json!({"state": "warning", "reason": "slow"});
        });
        assert_eq!(
            restarted,
            ["box: started anew; runtime r2 starting; runtime r1 gone; health warning: slow"]
        );
        assert_eq!(words(|row| row["connected"] = json!(false)), ["box: no connection to it"]);
    }

    #[test]
    fn coming_and_going_are_told_and_marked() {
        assert_eq!(changes(&[], &[row()])[0].words, "box: new, up, at 10.0.0.2:7400");
        let gone = &changes(&[row()], &[])[0];
        assert_eq!((gone.words.as_str(), &gone.record["gone"]), ("box: no longer shown", &json!(true)));
    }
}
