//! `arw runtime logs`: what a runtime's program printed.

use serde_json::{Value, json};

use crate::args::RuntimeLogs;
use crate::client::follow::{Follow, Followed};
use crate::client::row::{encoded, list, number, text};
use crate::context::Context;
use crate::failure::Failure;
use crate::output::human;
use crate::output::screen::{Page, Screen};
use crate::output::table::{Cell, Column, Table};

const COLUMNS: [Column; 3] =
    [Column::new("at", "at"), Column::new("stream", "stream"), Column::new("text", "text")];

pub(super) async fn run(context: &Context, wanted: &RuntimeLogs) -> Result<(), Failure> {
    let node = context.node()?;
    let screen = &context.screen;
    let id = encoded(&wanted.id);
    let body = node.get(&format!("/runtimes/{id}/logs?tail={}", wanted.tail)).await?;
    let dropped = number(&body, "/dropped").unwrap_or_default();
    if dropped > 0 {
        screen.note(&format!("note: {dropped} older line{} are gone", human::plural(dropped)));
    }
    if !wanted.follow {
        return screen.show(&page(body, wanted.timestamps));
    }
    let mut first = true;
    for line in list(&body, "/lines") {
        show_line(screen, line, wanted.timestamps, first)?;
        first = false;
    }
    let path = format!("/runtimes/{id}/logs/stream");
    let mut follow = Follow::new(&node, &path, None, screen.clock());
    loop {
        let followed = tokio::select! {
            followed = follow.next() => followed?,
            _ = tokio::signal::ctrl_c() => return Ok(()),
        };
        match followed {
            Followed::Event(event) if event.event == "line" => {
                let line = serde_json::from_str(&event.data).unwrap_or_else(|_| json!({"text": event.data}));
                show_line(screen, &line, wanted.timestamps, first)?;
                first = false;
            }
            Followed::Event(_) => {}
            Followed::Broken(why) if why.is_empty() => {}
            Followed::Broken(why) => screen.note(&format!("note: {why}; connecting again")),
        }
    }
}

fn show_line(screen: &Screen, line: &Value, timestamps: bool, first: bool) -> Result<(), Failure> {
    let mut table = Table::new(&COLUMNS);
    table.push(cells(line));
    screen.show_row(line, &table, &words(line, timestamps), first)
}

fn page(body: Value, timestamps: bool) -> Page {
    let mut table = Table::new(&COLUMNS);
    let records = list(&body, "/lines").to_vec();
    let mut lines = String::new();
    for line in &records {
        table.push(cells(line));
        lines.push_str(&words(line, timestamps));
        lines.push('\n');
    }
    let empty = "it has printed nothing".to_owned();
    let text = (!records.is_empty()).then_some(lines);
    Page { body, records, table, text, empty }
}

fn words(line: &Value, timestamps: bool) -> String {
    let words = human::one_line(text(line, "/text"));
    if timestamps { format!("{} {words}", text(line, "/at")) } else { words }
}

fn cells(line: &Value) -> Vec<Cell> {
    ["/at", "/stream", "/text"].map(|pointer| Cell::Text(text(line, pointer).to_owned())).into()
}
