//! The actor tree as a table whose first column is the tree, or (for screen readers) as indented sentences.

use arw_kit::moment::WallTime;
use serde_json::Value;

use super::facts::Handling;
use crate::client::row::{number, text};
use crate::commands::runtime::view::{budget, tone};
use crate::output::human;
use crate::output::screen::Page;
use crate::output::style::{Style, Tone};
use crate::output::table::{Cell, Column, Table};

/// One actor on its way through the tree.
#[derive(Clone, Debug)]
pub(super) struct Line<'v> {
    pub(super) row: &'v Value,
    depth: usize,
    /// For each ancestor below the root and for itself: is it the last child of its parent?
    last: Vec<bool>,
}

/// Deeper than any tree that people build; what lies below is left out rather than overflowing the stack.
const DEPTH_MAX: usize = 64;

/// Every actor, parents before children.
pub(super) fn rows(body: &Value) -> Vec<Line<'_>> {
    let mut lines = Vec::new();
    if let Some(root) = body.get("root").filter(|root| root.is_object()) {
        walk(root, 0, &[], &mut lines);
    }
    lines
}

fn walk<'v>(row: &'v Value, depth: usize, last: &[bool], lines: &mut Vec<Line<'v>>) {
    lines.push(Line { row, depth, last: last.to_vec() });
    if depth >= DEPTH_MAX {
        return;
    }
    let children = row.get("children").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    for (index, child) in children.iter().enumerate() {
        let mut last = last.to_vec();
        last.push(index + 1 == children.len());
        walk(child, depth + 1, &last, lines);
    }
}

/// The row without its children: one actor, not a tree.
pub(super) fn without_children(row: &Value) -> Value {
    let Some(fields) = row.as_object() else { return row.clone() };
    fields
        .iter()
        .filter(|(name, _)| *name != "children")
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect()
}

pub(super) fn page(body: Value, style: &Style, now: WallTime) -> Page {
    let text = drawn(&body, style, now);
    let records = rows(&body).iter().map(|line| without_children(line.row)).collect();
    Page { text: Some(text), ..page_of(body, records) }
}

/// A page of single actors.
pub(super) fn page_of(body: Value, records: Vec<Value>) -> Page {
    let mut table = Table::new(&COLUMNS);
    for row in &records {
        table.push(cells(row, text(row, "/path").to_owned()));
    }
    Page { body, records, table, text: None, empty: "no actors".to_owned() }
}

/// The table of one actor.
pub(super) fn table_of(record: &Value) -> Table {
    page_of(Value::Null, vec![record.clone()]).table
}

/// The tree for people.
pub(super) fn drawn(body: &Value, style: &Style, now: WallTime) -> String {
    let lines = rows(body);
    let mut out = if style.accessible {
        lines.iter().map(|line| sentence(line, now)).collect()
    } else {
        let mut table = Table::new(&COLUMNS);
        for line in &lines {
            table.push(cells(line.row, format!("{}{}", branch(line, style.unicode), name(line.row))));
        }
        table.text(style, now)
    };
    let dead = number(body, "/dead_letters/total").unwrap_or_default();
    let actors = lines.len() as u64;
    out.push_str(&format!(
        "\n{} actor{}, {} dead letter{}\n",
        human::count(actors),
        human::plural(actors),
        human::count(dead),
        human::plural(dead)
    ));
    out
}

pub(super) const COLUMNS: [Column; 17] = [
    Column::new("path", "actor"),
    Column::new("state", "state"),
    Column::people("mailbox"),
    Column::people("handling"),
    Column::people("restarts"),
    Column::people("last exit").wrapping(),
    Column::programs("kind"),
    Column::programs("since"),
    Column::programs("mailbox_depth"),
    Column::programs("mailbox_bound"),
    Column::programs("in_flight_message"),
    Column::programs("in_flight_age_ms"),
    Column::programs("handled"),
    Column::programs("restarts_used"),
    Column::programs("restarts_max"),
    Column::programs("last_exit_reason"),
    Column::programs("last_exit_at"),
];

/// What [`COLUMNS`] show of an actor; `first` is what it is called.
pub(super) fn cells(row: &Value, first: String) -> Vec<Cell> {
    let word = |pointer: &str| match text(row, pointer) {
        "" => Cell::Missing,
        text => Cell::Text(text.to_owned()),
    };
    let count = |pointer: &str| number(row, pointer).map_or(Cell::Missing, Cell::Count);
    let state = text(row, "/state");
    let mailbox = number(row, "/mailbox/depth").zip(number(row, "/mailbox/bound"));
    let mailbox = mailbox.map_or(Cell::Missing, |(depth, bound)| {
        let tone = if bound > 0 && depth >= bound { Tone::Bad } else { Tone::Plain };
        Cell::Word(format!("{depth}/{bound}"), tone)
    });
    let handling = handling(row).map_or(Cell::Missing, |words| Cell::Word(words, Handling::of(row).tone()));
    vec![
        Cell::Text(first),
        Cell::Word(state.to_owned(), tone(state)),
        mailbox,
        handling,
        restarts(row),
        last_exit_cell(row),
        word("/kind"),
        word("/since"),
        count("/mailbox/depth"),
        count("/mailbox/bound"),
        word("/in_flight/message"),
        number(row, "/in_flight/age_ms").map_or(Cell::Missing, Cell::Millis),
        count("/handled"),
        count("/restarts/used"),
        count("/restarts/max"),
        word("/last_exit/reason"),
        word("/last_exit/at"),
    ]
}

fn handling(row: &Value) -> Option<String> {
    let age = number(row, "/in_flight/age_ms")?;
    Some(format!("{} {}{}", text(row, "/in_flight/message"), human::span_ms(age), Handling::of(row).words()))
}

fn restarts(row: &Value) -> Cell {
    let Some((used, max)) = number(row, "/restarts/used").zip(number(row, "/restarts/max")) else {
        return Cell::Missing;
    };
    let tone = match used {
        0 => Tone::Faint,
        used if used >= max => Tone::Bad,
        _ => Tone::Warning,
    };
    Cell::Word(format!("{used}/{max}"), tone)
}

/// How it ended; the moment follows in the same words as everywhere, but is told when the table is drawn.
fn last_exit_cell(row: &Value) -> Cell {
    let Some(words) = row.get("last_exit").and_then(human::exit_in_words) else { return Cell::Missing };
    Cell::Dated(words, text(row, "/last_exit/at").to_owned())
}

/// `├─ ` and its kin.
fn branch(line: &Line<'_>, unicode: bool) -> String {
    let (tee, corner, bar) = if unicode { ("├─ ", "└─ ", "│  ") } else { ("|- ", "`- ", "|  ") };
    let Some((own, above)) = line.last.split_last() else { return String::new() };
    let mut out: String = above.iter().map(|last| if *last { "   " } else { bar }).collect();
    out.push_str(if *own { corner } else { tee });
    out
}

fn name(row: &Value) -> &str {
    let path = text(row, "/path");
    path.rsplit('/').next().unwrap_or(path)
}

/// `  smollm2: ready, mailbox 0 of 64, restarts 1 of 5, last exit killed by SIGKILL 3 s ago`
fn sentence(line: &Line<'_>, now: WallTime) -> String {
    let row = line.row;
    let mut parts = vec![text(row, "/state").to_owned()];
    if let Some((depth, bound)) = number(row, "/mailbox/depth").zip(number(row, "/mailbox/bound")) {
        parts.push(format!("mailbox {depth} of {bound}"));
    }
    if let Some(handling) = handling(row) {
        parts.push(format!("handling {handling}"));
    }
    if let Some(budget) = budget(row, "/restarts") {
        parts.push(format!("restarts {budget}"));
    }
    if let Some(exit) = row.get("last_exit").and_then(human::exit_in_words) {
        parts.push(format!("last exit {exit} {}", human::ago(text(row, "/last_exit/at"), now)));
    }
    let parts: Vec<String> = parts.iter().map(|part| human::one_line(part)).collect();
    format!("{}{}: {}\n", "  ".repeat(line.depth), human::one_line(name(row)), parts.join(", "))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::sample_row;
    use super::*;

    fn sample() -> Value {
        let mut root = sample_row("node", "running");
        root["restarts"] = Value::Null;
        let mut runtimes = sample_row("node/runtimes", "running");
        let mut runtime = sample_row("node/runtimes/smollm2", "running");
        runtime["restarts"]["used"] = json!(1);
        runtime["last_exit"] =
            json!({"reason": "process_signal", "detail": "killed by SIGKILL", "at": "2026-11-24T11:59:57Z"});
        runtime["in_flight"] = json!({"message": "Probe", "age_ms": 12_400});
        runtimes["children"] = json!([runtime]);
        root["children"] = json!([runtimes, sample_row("node/store", "running")]);
        json!({"root": root, "dead_letters": {"total": 2}})
    }

    fn now() -> WallTime {
        "2026-11-24T12:00:00Z".parse().unwrap()
    }

    #[test]
    fn the_tree_has_branches_and_columns() {
        let text = drawn(&sample(), &Style::PLAIN, now());
        assert_eq!(
            text,
            "\
ACTOR          STATE    MAILBOX  HANDLING            RESTARTS  LAST EXIT
node           running  0/64     -                   -         -
├─ runtimes    running  0/64     -                   0/5       -
│  └─ smollm2  running  0/64     Probe 12 s (STUCK)  1/5       killed by SIGKILL 3 s ago
└─ store       running  0/64     -                   0/5       -

4 actors, 2 dead letters
"
        );
    }

    #[test]
    fn for_a_screen_reader_each_actor_is_a_sentence() {
        let style = Style { accessible: true, unicode: false, ..Style::PLAIN };
        let text = drawn(&sample(), &style, now());
        assert!(text.contains(
            "    smollm2: running, mailbox 0 of 64, handling Probe 12 s (STUCK), restarts 1 of 5, last exit killed by SIGKILL 3 s ago\n"
        ), "{text}");
        assert!(text.is_ascii(), "{text}");
    }

    #[test]
    fn programs_get_one_row_per_actor_without_children() {
        let page = page(sample(), &Style::PLAIN, now());
        assert_eq!(page.records.len(), 4);
        assert!(page.records.iter().all(|row| row.get("children").is_none()));
        assert_eq!(page.table.rows[2][0], Cell::Text("node/runtimes/smollm2".to_owned()));
    }

    #[test]
    fn a_tree_that_is_absurdly_deep_is_cut() {
        let mut row = sample_row("leaf", "running");
        for _ in 0..DEPTH_MAX + 20 {
            let mut parent = sample_row("parent", "running");
            parent["children"] = json!([row]);
            row = parent;
        }
        assert_eq!(rows(&json!({"root": row})).len(), DEPTH_MAX + 1);
    }
}
