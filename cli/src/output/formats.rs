//! The forms in which programs get data: JSON, YAML, CSV, NDJSON.
//!
//! Values are raw: bytes as numbers, times as RFC 3339. JSON and YAML have the shape of the API's own body;
//! NDJSON has one API row per line; CSV has the table's columns.

use serde_json::Value;

use super::table::{Audience, Cell, Table};
use crate::failure::{Exit, Failure};

/// `--output`: for people (`table`), or in the shape of the HTTP API (`json`, `yaml`), or row by row (`csv`,
/// `ndjson`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    Table,
    Json,
    Yaml,
    Csv,
    Ndjson,
}

/// Pretty JSON with a final line end.
pub(crate) fn json(body: &Value) -> String {
    // Serialising a `Value` into text cannot fail; `to_string` of `Value` says so by its type.
    format!("{body:#}\n")
}

/// YAML.
pub(crate) fn yaml(body: &Value) -> Result<String, Failure> {
    let text = serde_saphyr::to_string(body).map_err(|error| cannot_write("YAML", &error.to_string()))?;
    Ok(if text.ends_with('\n') { text } else { text + "\n" })
}

/// One JSON object per line.
pub(crate) fn ndjson(records: &[Value]) -> String {
    records.iter().map(|record| format!("{record}\n")).collect()
}

/// RFC 4180 with `\n` line ends.
pub(crate) fn csv(table: &Table, with_header: bool) -> Result<String, Failure> {
    let mut writer = csv::WriterBuilder::new().has_headers(false).from_writer(Vec::new());
    let wanted: Vec<usize> =
        (0..table.columns.len()).filter(|index| table.columns[*index].audience != Audience::People).collect();
    let failed = |error: csv::Error| cannot_write("CSV", &error.to_string());
    if with_header {
        writer.write_record(wanted.iter().map(|index| table.columns[*index].key)).map_err(failed)?;
    }
    for row in &table.rows {
        writer
            .write_record(wanted.iter().map(|index| row.get(*index).map_or_else(String::new, raw)))
            .map_err(failed)?;
    }
    let bytes = writer.into_inner().map_err(|error| cannot_write("CSV", &error.to_string()))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn raw(cell: &Cell) -> String {
    match cell {
        Cell::Missing => String::new(),
        Cell::Text(text) | Cell::Word(text, _) | Cell::Time(text) | Cell::Dated(text, _) => text.clone(),
        Cell::Count(number) | Cell::Bytes(number) | Cell::Millis(number) => number.to_string(),
        Cell::Flag(flag) => flag.to_string(),
    }
}

fn cannot_write(form: &str, why: &str) -> Failure {
    Failure::new(Exit::Failed, format!("cannot write the data as {form}"), why, "use --output json instead")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::table::Column;
    use super::*;

    #[test]
    fn csv_quotes_what_needs_it_and_leaves_out_what_is_for_people() {
        let mut table =
            Table::new(&[Column::new("id", "id"), Column::people("summary"), Column::programs("detail")]);
        table.push(vec![Cell::Count(1), Cell::Text("x".to_owned()), Cell::Text("a, \"b\"\nc".to_owned())]);
        assert_eq!(csv(&table, true).unwrap(), "id,detail\n1,\"a, \"\"b\"\"\nc\"\n");
    }

    #[test]
    fn yaml_and_json_hold_the_same() {
        let body = json!({"models": [{"name": "no", "size_bytes": 5, "time": "12:30", "none": null}]});
        let read: Value = serde_saphyr::from_str(&yaml(&body).unwrap()).unwrap();
        assert_eq!(read, body);
        assert_eq!(serde_json::from_str::<Value>(&json(&body)).unwrap(), body);
        assert_eq!(ndjson(&[json!({"a": 1}), json!({"a": 2})]), "{\"a\":1}\n{\"a\":2}\n");
    }
}
