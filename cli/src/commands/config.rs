//! `arw config explain`: each setting, its value, and where the value came from.

use arw_actors::config::{Explained, Origin};
use serde_json::{Value, json};

use crate::args::{Configured, Up};
use crate::commands::up;
use crate::context::Context;
use crate::failure::Failure;
use crate::load_config::{self, variable_of};
use crate::output::screen::Page;
use crate::output::style::Tone;
use crate::output::table::{Cell, Column, Table};
use crate::place;

pub(crate) fn explain(context: &Context, configured: &Configured) -> Result<(), Failure> {
    let flags = Up { configured: configured.clone(), ..Up::default() };
    let loaded = load_config::load(&up::wishes(context, &flags), &place::machine_defaults())?;
    for warning in &loaded.warnings {
        context.screen.note(warning);
    }
    let page = page(&loaded.settings.explained);
    context.screen.show(&page)?;
    if context.screen.is_for_people() {
        let dir = &loaded.settings.config.node.state_dir;
        let file = loaded.file.unwrap_or_else(|| dir.join(load_config::FILE_NAME));
        let there = if file.exists() { "read" } else { "not there" };
        context.screen.note(&format!("settings file: {} ({there})", file.display()));
    }
    Ok(())
}

fn page(explained: &[Explained]) -> Page {
    let mut table = Table::new(&[
        Column::new("key", "setting"),
        Column::new("value", "value").wrapping(),
        Column::new("source", "from").wrapping(),
        Column::programs("environment"),
    ]);
    let mut records = Vec::with_capacity(explained.len());
    for row in explained {
        let value = if row.value.is_empty() { Cell::Missing } else { Cell::Text(row.value.clone()) };
        let tone = if row.origin == Origin::Default { Tone::Faint } else { Tone::Plain };
        let variable = if row.key.contains('[') { Cell::Missing } else { Cell::Text(variable_of(&row.key)) };
        table.push(vec![
            Cell::Text(row.key.clone()),
            value,
            Cell::Word(row.origin.to_string(), tone),
            variable,
        ]);
        records.push(record(row));
    }
    Page { body: json!({"settings": records}), records, table, text: None, empty: String::new() }
}

fn record(row: &Explained) -> Value {
    let source = match &row.origin {
        Origin::Default => json!({"kind": "default"}),
        Origin::File { path, line, column } => {
            json!({"kind": "file", "path": path.to_string_lossy(), "line": line, "column": column})
        }
        Origin::Environment(name) => json!({"kind": "environment", "name": name}),
        Origin::Flag(name) => json!({"kind": "flag", "name": name}),
    };
    json!({"key": row.key, "value": row.value, "source": source})
}
