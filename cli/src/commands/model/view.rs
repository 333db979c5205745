//! Models as rows and in full, and which one a text means.
//!
//! Refuses to fetch or change anything.

use serde_json::Value;

use crate::client::row::{flag, list, number, text};
use crate::commands::model::{field_lines, unknown};
use crate::context::Context;
use crate::failure::Failure;
use crate::output::human;
use crate::output::screen::Page;
use crate::output::table::{Cell, Column, Table};

/// As short as the node takes one.
const HASH_DIGITS_MIN: usize = 8;

/// All names of a model, the first one first.
pub(crate) fn names(row: &Value) -> impl Iterator<Item = &str> {
    std::iter::once(text(row, "/name")).chain(aliases(row))
}

pub(super) fn aliases(row: &Value) -> impl Iterator<Item = &str> {
    list(row, "/aliases").iter().filter_map(Value::as_str)
}

/// The model that is meant, by one of its names, or by the beginning of its hash where that fits only one: as
/// the node decides it.
pub(super) fn find<'r>(rows: &'r [Value], wanted: &str) -> Result<&'r Value, Failure> {
    if let Some(row) = rows.iter().find(|row| names(row).any(|name| name == wanted)) {
        return Ok(row);
    }
    let fits = |row: &&Value| wanted.len() >= HASH_DIGITS_MIN && text(row, "/sha256").starts_with(wanted);
    let mut by_hash = rows.iter().filter(fits);
    match (by_hash.next(), by_hash.next()) {
        (Some(row), None) => Ok(row),
        _ => Err(unknown("model", wanted, rows.iter().flat_map(names))),
    }
}

pub(super) fn details(row: &Value, context: &Context) -> String {
    let yes = |pointer: &str| if flag(row, pointer) { "yes" } else { "no" };
    let count =
        |pointer: &str| number(row, pointer).map_or_else(|| text(row, pointer).to_owned(), human::count);
    let size = number(row, "/size_bytes").unwrap_or_default();
    let used_by: Vec<&str> = list(row, "/used_by").iter().filter_map(Value::as_str).collect();
    let others: Vec<&str> = aliases(row).collect();
    let imported_at = text(row, "/imported_at");
    let mut fields = vec![("name", text(row, "/name").to_owned())];
    if !others.is_empty() {
        fields.push(("other names", others.join(", ")));
    }
    fields.extend([
        ("sha256", text(row, "/sha256").to_owned()),
        ("size", format!("{} ({} bytes)", human::bytes(size), human::count(size))),
        ("architecture", text(row, "/architecture").to_owned()),
        ("parameters", count("/parameters")),
        ("quantisation", text(row, "/quantisation").to_owned()),
        ("context length", format!("{} tokens", count("/context_length"))),
        ("chat template", yes("/chat_template").to_owned()),
        ("embedding model", yes("/embedding").to_owned()),
        ("imported", format!("{} ({imported_at})", human::ago(imported_at, context.screen.now()))),
        ("used by", if used_by.is_empty() { "nothing".to_owned() } else { used_by.join(", ") }),
    ]);
    field_lines(&fields)
}

pub(super) fn page(body: Value, records: Vec<Value>) -> Page {
    let other_names = Column::new("aliases", "other names").wrapping();
    // A column of dashes tells people nothing.
    let has_aliases = records.iter().any(|row| aliases(row).next().is_some());
    let mut table = Table::new(&[
        Column::new("name", "name"),
        Column::new("architecture", "architecture").yielding(),
        Column::new("parameters", "parameters").yielding(),
        Column::new("quantisation", "quantisation"),
        Column::new("context_length", "context"),
        Column::new("size_bytes", "size"),
        Column::new("imported_at", "imported").yielding(),
        Column::new("used_by", "used by").wrapping(),
        if has_aliases { other_names } else { Column::programs("aliases") },
        Column::programs("chat_template"),
        Column::programs("embedding"),
        Column::programs("sha256"),
    ]);
    for row in &records {
        let word = |pointer: &str| match text(row, pointer) {
            "" => Cell::Missing,
            text => Cell::Text(text.to_owned()),
        };
        let joined =
            |words: Vec<&str>| if words.is_empty() { Cell::Missing } else { Cell::Text(words.join(" ")) };
        table.push(vec![
            word("/name"),
            word("/architecture"),
            number(row, "/parameters").map_or_else(|| word("/parameters"), Cell::Count),
            word("/quantisation"),
            number(row, "/context_length").map_or(Cell::Missing, Cell::Count),
            number(row, "/size_bytes").map_or(Cell::Missing, Cell::Bytes),
            Cell::Time(text(row, "/imported_at").to_owned()),
            joined(list(row, "/used_by").iter().filter_map(Value::as_str).collect()),
            joined(aliases(row).collect()),
            Cell::Flag(flag(row, "/chat_template")),
            Cell::Flag(flag(row, "/embedding")),
            word("/sha256"),
        ]);
    }
    Page {
        body,
        records,
        table,
        text: None,
        empty: "no models; `arw model import FILE.gguf` imports one".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_model_is_found_by_each_of_its_names_and_by_a_hash_that_fits_only_it() {
        let rows = [
            json!({"name": "a", "aliases": ["b", "c"], "sha256": "0123456789".repeat(6)}),
            json!({"name": "d", "aliases": [], "sha256": "0123456799".repeat(6)}),
            json!({"name": "01234567", "sha256": "ff".repeat(30)}),
        ];
        let found = |wanted: &str| find(&rows, wanted).ok().map(|row| text(row, "/name").to_owned());
        for name in ["a", "b", "c", "012345678", "0123456789"] {
            assert_eq!(found(name).as_deref(), Some("a"), "{name}");
        }
        assert_eq!(found("0123456799").as_deref(), Some("d"));
        assert_eq!(found("01234567").as_deref(), Some("01234567"), "a name goes before a hash");
        for nothing in ["0123456", "ffffff", "x", ""] {
            assert_eq!(found(nothing), None, "{nothing}");
        }
    }
}
