//! The two places a command writes to: data on standard output, notes on standard error.

use std::io::{self, Write};

use arw_kit::clock::Clock;
use arw_kit::moment::WallTime;
use serde_json::Value;

use super::formats::{self, Format};
use super::human::printable;
use super::style::Style;
use super::table::{Cell, Column, Table};
use crate::failure::Failure;

/// Where and how a command shows what it has to show.
#[derive(Debug)]
pub(crate) struct Screen {
    pub(crate) style: Style,
    pub(crate) format: Format,
    /// Somebody asked for this form: nothing else is put in its place, wherever the output goes.
    pub(crate) format_is_chosen: bool,
    clock: Clock,
}

/// Data to show, in every form that may be asked for.
#[derive(Debug)]
pub(crate) struct Page {
    /// JSON and YAML: the API's own body.
    pub(crate) body: Value,
    /// NDJSON: one row each.
    pub(crate) records: Vec<Value>,
    /// CSV, and people unless there is `text`.
    pub(crate) table: Table,
    /// For people, where a table does not fit the thing.
    pub(crate) text: Option<String>,
    /// Told to people on standard error when there are no rows.
    pub(crate) empty: String,
}

impl Page {
    /// One object, for programs: what a command did where the node itself has nothing more to show.
    pub(crate) fn of_one(fields: &[(&'static str, Value)]) -> Self {
        let columns: Vec<Column> = fields.iter().map(|(key, _)| Column::programs(key)).collect();
        let mut table = Table::new(&columns);
        let cell = |value: &Value| match value {
            Value::Null => Cell::Missing,
            Value::Bool(flag) => Cell::Flag(*flag),
            Value::String(text) => Cell::Text(text.clone()),
            other => Cell::Text(other.to_string()),
        };
        table.push(fields.iter().map(|(_, value)| cell(value)).collect());
        let body: Value = fields.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect();
        Self { records: vec![body.clone()], body, table, text: None, empty: String::new() }
    }
}

impl Screen {
    pub(crate) fn new(style: Style, format: Format, format_is_chosen: bool) -> Self {
        Self { style, format, format_is_chosen, clock: Clock::system() }
    }

    pub(crate) fn now(&self) -> WallTime {
        self.clock.wall()
    }

    pub(crate) fn clock(&self) -> &Clock {
        &self.clock
    }

    /// For people, not for a program.
    pub(crate) fn is_for_people(&self) -> bool {
        self.format == Format::Table
    }

    /// Shows a page in the form that was asked for.
    pub(crate) fn show(&self, page: &Page) -> Result<(), Failure> {
        let text = match self.format {
            Format::Table => match &page.text {
                Some(text) => text.clone(),
                None if page.table.rows.is_empty() => {
                    self.note(&page.empty);
                    return Ok(());
                }
                None => page.table.text(&self.style, self.now()),
            },
            Format::Json => formats::json(&page.body),
            Format::Yaml => formats::yaml(&page.body)?,
            Format::Csv => formats::csv(&page.table, true)?,
            Format::Ndjson => formats::ndjson(&page.records),
        };
        self.data(&text)
    }

    /// Tells that something was done: people in words on standard error, programs by what it led to, on
    /// standard output.
    pub(crate) fn done(&self, words: &str, page: &Page) -> Result<(), Failure> {
        if self.is_for_people() {
            self.note(words);
            return Ok(());
        }
        self.show(page)
    }

    /// Shows rows that arrive one by one: for people the lines of `text`, for programs a row each.
    pub(crate) fn show_row(
        &self,
        record: &Value,
        table: &Table,
        text: &str,
        first: bool,
    ) -> Result<(), Failure> {
        let text = match self.format {
            Format::Table => format!("{text}\n"),
            // One document per line: a stream of pretty JSON cannot be read line by line.
            Format::Json | Format::Ndjson => format!("{record}\n"),
            Format::Yaml => format!("---\n{}", formats::yaml(record)?),
            Format::Csv => formats::csv(table, first)?,
        };
        self.data(&text)
    }

    /// Writes to standard output, at once.
    pub(crate) fn data(&self, text: &str) -> Result<(), Failure> {
        let mut out = io::stdout().lock();
        out.write_all(text.as_bytes())
            .and_then(|()| out.flush())
            .map_err(|error| Failure::from_output(&error))
    }

    /// Tells people something on standard error. When that is gone, there is nobody to tell.
    pub(crate) fn note(&self, text: &str) {
        if !text.is_empty() {
            let _ = writeln!(io::stderr().lock(), "{}", printable(text));
        }
    }
}
