//! Nodes as a table.

use serde_json::Value;

use crate::client::row::{flag, list, number, text};
use crate::output::style::Tone;
use crate::output::table::{Cell, Column, Table};

const COLUMNS: [Column; 22] = [
    Column::new("name", "name"),
    Column::people("id"),
    Column::programs("id"),
    Column::new("roles", "roles").yielding(),
    Column::people("state"),
    Column::programs("state"),
    Column::programs("draining"),
    Column::programs("since"),
    Column::programs("reason"),
    Column::new("address", "address").yielding(),
    Column::people("rtt").yielding(),
    Column::programs("rtt_ms"),
    Column::new("models", "models").wrapping(),
    Column::people("load"),
    Column::programs("cpu_permille"),
    Column::programs("in_flight"),
    Column::programs("waiting"),
    Column::people("last seen"),
    Column::programs("last_seen_at"),
    Column::programs("version"),
    Column::programs("health"),
    Column::programs("source"),
];

pub(super) fn table(rows: &[Value]) -> Table {
    let mut table = Table::new(&COLUMNS);
    for row in rows {
        table.push(cells(row));
    }
    table
}

fn cells(row: &Value) -> Vec<Cell> {
    let word = |pointer: &str| match text(row, pointer) {
        "" => Cell::Missing,
        text => Cell::Text(text.to_owned()),
    };
    let count = |pointer: &str| number(row, pointer).map_or(Cell::Missing, Cell::Count);
    let rtt = row.get("rtt_ms").and_then(Value::as_f64);
    vec![
        word("/name"),
        Cell::Text(short_id(row).to_owned()),
        word("/id"),
        joined(list(row, "/roles").iter().filter_map(Value::as_str)),
        Cell::Word(state(row), tone(row)),
        word("/state"),
        Cell::Flag(flag(row, "/draining")),
        word("/since"),
        word("/reason"),
        word("/address"),
        rtt.map_or(Cell::Missing, |rtt| Cell::Text(format!("{rtt} ms"))),
        rtt.map_or(Cell::Missing, |rtt| Cell::Text(rtt.to_string())),
        models(row),
        load(row),
        count("/load/cpu_permille"),
        count("/load/in_flight"),
        count("/queue/waiting"),
        last_seen(row),
        word("/last_seen_at"),
        word("/version"),
        word("/health/state"),
        word("/source"),
    ]
}

/// What a node is called in a sentence.
pub(super) fn called(row: &Value) -> &str {
    match text(row, "/name") {
        "" => short_id(row),
        name => name,
    }
}

/// The beginning of its id, as logs show it.
fn short_id(row: &Value) -> &str {
    let id = text(row, "/id");
    id.get(..8).unwrap_or(id)
}

pub(super) fn is_alive(row: &Value) -> bool {
    matches!(text(row, "/state"), "up" | "suspect")
}

/// `up`, `up, draining`.
pub(super) fn state(row: &Value) -> String {
    let draining = if is_alive(row) && flag(row, "/draining") { ", draining" } else { "" };
    format!("{}{draining}", text(row, "/state"))
}

fn tone(row: &Value) -> Tone {
    match text(row, "/state") {
        "up" if flag(row, "/draining") => Tone::Notice,
        "up" => Tone::Good,
        "suspect" => Tone::Warning,
        "down" => Tone::Bad,
        "left" => Tone::Faint,
        _ => Tone::Plain,
    }
}

/// The models to which requests may be sent, with the state of those that are not ready.
fn models(row: &Value) -> Cell {
    if !is_alive(row) {
        return Cell::Missing;
    }
    let serving = list(row, "/runtimes").iter().filter(|runtime| flag(runtime, "/serving"));
    joined(serving.map(|runtime| match text(runtime, "/state") {
        "ready" => text(runtime, "/model").to_owned(),
        state => format!("{} ({state})", text(runtime, "/model")),
    }))
}

/// `2 busy, 1 waiting, cpu 21 %`
fn load(row: &Value) -> Cell {
    let Some(busy) = number(row, "/load/in_flight").filter(|_| is_alive(row)) else { return Cell::Missing };
    let mut words = if busy == 0 { "idle".to_owned() } else { format!("{busy} busy") };
    if let Some(waiting) = number(row, "/queue/waiting").filter(|waiting| *waiting > 0) {
        words.push_str(&format!(", {waiting} waiting"));
    }
    if let Some(permille) = number(row, "/load/cpu_permille") {
        words.push_str(&format!(", cpu {} %", permille / 10));
    }
    Cell::Text(words)
}

fn last_seen(row: &Value) -> Cell {
    match (text(row, "/source"), text(row, "/last_seen_at")) {
        ("own", _) => Cell::Text("this node".to_owned()),
        (_, "") if is_alive(row) => Cell::Text("now".to_owned()),
        // The node tells no time before it is worth telling (CLUSTER-4).
        (_, "") => Cell::Text("seconds ago".to_owned()),
        (_, at) => Cell::Time(at.to_owned()),
    }
}

fn joined(words: impl Iterator<Item = impl AsRef<str>>) -> Cell {
    let words: Vec<String> = words.map(|word| word.as_ref().to_owned()).collect();
    if words.is_empty() { Cell::Missing } else { Cell::Text(words.join(", ")) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn load_says_only_what_there_is() {
        let row =
            |load: Value, waiting: u64| json!({"state": "up", "load": load, "queue": {"waiting": waiting}});
        let words = |row: &Value| load(row);
        assert_eq!(words(&row(json!({"in_flight": 0}), 0)), Cell::Text("idle".to_owned()));
        let busy = row(json!({"in_flight": 2, "cpu_permille": 219}), 1);
        assert_eq!(words(&busy), Cell::Text("2 busy, 1 waiting, cpu 21 %".to_owned()));
        assert_eq!(words(&json!({"state": "up", "load": null})), Cell::Missing);
        assert_eq!(words(&json!({"state": "down", "load": {"in_flight": 3}})), Cell::Missing);
    }

    #[test]
    fn who_has_just_gone_is_not_seen_now() {
        let words = |state: &str| last_seen(&json!({"source": "card", "state": state, "last_seen_at": null}));
        assert_eq!(words("up"), Cell::Text("now".to_owned()));
        assert_eq!(words("suspect"), Cell::Text("now".to_owned()));
        assert_eq!(words("down"), Cell::Text("seconds ago".to_owned()));
        assert_eq!(words("left"), Cell::Text("seconds ago".to_owned()));
    }

    #[test]
    fn a_node_without_a_name_is_called_by_its_id() {
        assert_eq!(called(&json!({"name": null, "id": "0f".repeat(32)})), "0f0f0f0f");
        assert_eq!(called(&json!({"name": "box", "id": "0f"})), "box");
    }
}
