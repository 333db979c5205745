//! `arw status`: the node, its runtimes and its models on one screen.

use serde_json::{Value, json};

use crate::client::row::{list, number, text};
use crate::commands::model::field_lines;
use crate::commands::runtime::view;
use crate::context::Context;
use crate::failure::Failure;
use crate::output::human;
use crate::output::screen::Page;
use crate::output::table::{Cell, Column, Table};

pub(crate) async fn run(context: &Context) -> Result<(), Failure> {
    let node = context.node()?;
    let (about, runtimes, models) = futures_util::future::try_join3(
        node.get("/state/node"),
        node.get("/state/runtimes"),
        node.get("/state/models"),
    )
    .await?;
    let about = about.get("node").cloned().unwrap_or(Value::Null);
    let runtimes = list(&runtimes, "/runtimes").to_vec();
    let models = list(&models, "/models").to_vec();
    let text = screenful(context, &about, &runtimes, &models);
    let table = table(&about, &runtimes, &models);
    let body = json!({"node": about, "runtimes": runtimes, "models": models});
    context.screen.show(&Page {
        records: vec![body.clone()],
        body,
        table,
        text: Some(text),
        empty: String::new(),
    })
}

fn screenful(context: &Context, about: &Value, runtimes: &[Value], models: &[Value]) -> String {
    let (style, now) = (&context.screen.style, context.screen.now());
    let count = |pointer: &str| number(about, pointer).map_or_else(|| "-".to_owned(), human::count);
    let status = text(about, "/status");
    let uptime = human::span_ms(number(about, "/uptime_s").unwrap_or_default().saturating_mul(1_000));
    let mut fields = vec![(
        "node",
        format!("{} ({status}), version {}, up {uptime}", text(about, "/name"), text(about, "/version")),
    )];
    let reasons: Vec<&str> = list(about, "/reasons").iter().filter_map(Value::as_str).collect();
    if !reasons.is_empty() {
        fields.push(("reason", reasons.join("; ")));
    }
    let journal = match text(about, "/journal/reason") {
        "" => text(about, "/journal/status").to_owned(),
        reason => format!("{}: {reason}", text(about, "/journal/status")),
    };
    fields.extend([
        ("address", text(about, "/http").to_owned()),
        ("state folder", text(about, "/state_dir").to_owned()),
        ("journal", format!("{journal}, {} events", count("/journal/last_seq"))),
        (
            "memory",
            number(about, "/memory/node_rss_bytes").map_or_else(|| "unknown".to_owned(), human::bytes),
        ),
        ("actors", format!("{}, {} dead letters", count("/counts/actors"), count("/counts/dead_letters"))),
        (
            "models",
            if models.is_empty() {
                "none; `arw model import FILE.gguf` imports one".to_owned()
            } else {
                names(models)
            },
        ),
    ]);
    let mut out = field_lines(&fields);
    out.push('\n');
    if runtimes.is_empty() {
        out.push_str("no runtimes; `arw run FILE.gguf` makes one\n");
        return out;
    }
    out.push_str(&view::page(Value::Null, runtimes.to_vec()).table.text(style, now));
    for row in runtimes.iter().filter(|row| !text(row, "/hint").is_empty()) {
        out.push_str(&format!("\n{}: {}\n", text(row, "/id"), human::printable(text(row, "/hint"))));
    }
    out
}

fn names(models: &[Value]) -> String {
    let names: Vec<&str> = models.iter().map(|row| text(row, "/name")).collect();
    names.join(", ")
}

/// One row: the node in numbers.
fn table(about: &Value, runtimes: &[Value], models: &[Value]) -> Table {
    let mut table = Table::new(&[
        Column::new("name", "name"),
        Column::new("status", "status"),
        Column::new("version", "version"),
        Column::new("started_at", "started"),
        Column::new("http", "address"),
        Column::new("state_dir", "state folder"),
        Column::new("runtimes", "runtimes"),
        Column::new("runtimes_ready", "ready"),
        Column::new("models", "models"),
        Column::new("node_rss_bytes", "memory"),
    ]);
    let word = |pointer: &str| Cell::Text(text(about, pointer).to_owned());
    let ready = runtimes.iter().filter(|row| text(row, "/state") == "ready").count();
    table.push(vec![
        word("/name"),
        word("/status"),
        word("/version"),
        Cell::Time(text(about, "/started_at").to_owned()),
        word("/http"),
        word("/state_dir"),
        Cell::Count(runtimes.len() as u64),
        Cell::Count(ready as u64),
        Cell::Count(models.len() as u64),
        number(about, "/memory/node_rss_bytes").map_or(Cell::Missing, Cell::Bytes),
    ]);
    table
}
