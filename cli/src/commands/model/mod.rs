//! `arw model …`

mod import;

use arw_actors::config::nearest;
use serde_json::Value;

use crate::args::ModelCommand;
use crate::client::http::Call;
use crate::client::row::{encoded, flag, list, number, text};
use crate::context::Context;
use crate::failure::{Exit, Failure};
use crate::output::human;
use crate::output::screen::Page;
use crate::output::table::{Cell, Column, Table};
pub(crate) use import::{import, importable};

pub(crate) async fn run(context: &Context, command: ModelCommand) -> Result<(), Failure> {
    match command {
        ModelCommand::Import(wanted) => import::run(context, &wanted).await,
        ModelCommand::List => {
            let body = context.node()?.get("/state/models").await?;
            let records = list(&body, "/models").to_vec();
            context.screen.show(&page(body, records))
        }
        ModelCommand::Show { name } => show(context, &name).await,
        ModelCommand::Rm { name } => {
            context.node()?.answer(Call::delete(&format!("/models/{}", encoded(&name)))).await?;
            context.screen.note(&format!("model {name} is removed"));
            Ok(())
        }
    }
}

async fn show(context: &Context, name: &str) -> Result<(), Failure> {
    let body = context.node()?.get("/state/models").await?;
    let rows = list(&body, "/models");
    let Some(row) = rows.iter().find(|row| text(row, "/name") == name) else {
        return Err(unknown("model", name, rows.iter().map(|row| text(row, "/name"))));
    };
    let mut page = page(row.clone(), vec![row.clone()]);
    page.text = Some(details(row, context));
    context.screen.show(&page)
}

/// No such thing on this node, in the same words as the node uses.
pub(crate) fn unknown<'n>(kind: &str, name: &str, known: impl Iterator<Item = &'n str>) -> Failure {
    let known: Vec<&str> = known.collect();
    let why = if known.is_empty() {
        format!("the node has no {kind} at all")
    } else {
        format!("known: {}", known.join(", "))
    };
    let help = match nearest(name, known.iter().copied()) {
        Some(near) => format!("did you mean {near}?"),
        None => format!("check the name; `arw {kind} list` shows all"),
    };
    Failure::new(Exit::NotFound, format!("there is no {kind} {name}"), why, help)
}

fn details(row: &Value, context: &Context) -> String {
    let yes = |pointer: &str| if flag(row, pointer) { "yes" } else { "no" };
    let count =
        |pointer: &str| number(row, pointer).map_or_else(|| text(row, pointer).to_owned(), human::count);
    let size = number(row, "/size_bytes").unwrap_or_default();
    let used_by: Vec<&str> = list(row, "/used_by").iter().filter_map(Value::as_str).collect();
    let imported_at = text(row, "/imported_at");
    let fields = [
        ("name", text(row, "/name").to_owned()),
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
    ];
    field_lines(&fields)
}

/// `name:  value` lines with the values below each other.
pub(crate) fn field_lines(fields: &[(&str, String)]) -> String {
    let width = fields.iter().map(|(name, _)| name.len()).max().unwrap_or_default() + 1;
    let mut out = String::new();
    for (name, value) in fields {
        let value = if value.is_empty() { "-".to_owned() } else { human::printable(value) };
        out.push_str(&format!("{:<width$}  {value}\n", format!("{name}:")));
    }
    out
}

fn page(body: Value, records: Vec<Value>) -> Page {
    let mut table = Table::new(&[
        Column::new("name", "name"),
        Column::new("architecture", "architecture").yielding(),
        Column::new("parameters", "parameters").yielding(),
        Column::new("quantisation", "quantisation"),
        Column::new("context_length", "context"),
        Column::new("size_bytes", "size"),
        Column::new("imported_at", "imported").yielding(),
        Column::new("used_by", "used by").wrapping(),
        Column::programs("chat_template"),
        Column::programs("embedding"),
        Column::programs("sha256"),
    ]);
    for row in &records {
        let word = |pointer: &str| match text(row, pointer) {
            "" => Cell::Missing,
            text => Cell::Text(text.to_owned()),
        };
        let used_by: Vec<&str> = list(row, "/used_by").iter().filter_map(Value::as_str).collect();
        table.push(vec![
            word("/name"),
            word("/architecture"),
            number(row, "/parameters").map_or_else(|| word("/parameters"), Cell::Count),
            word("/quantisation"),
            number(row, "/context_length").map_or(Cell::Missing, Cell::Count),
            number(row, "/size_bytes").map_or(Cell::Missing, Cell::Bytes),
            Cell::Time(text(row, "/imported_at").to_owned()),
            if used_by.is_empty() { Cell::Missing } else { Cell::Text(used_by.join(" ")) },
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
