//! `arw token …`

use serde_json::{Value, json};

use crate::args::{TokenCommand, TokenCreate};
use crate::client::http::Call;
use crate::client::row::{list, text};
use crate::commands::revoke::{Kind, revoke};
use crate::context::Context;
use crate::failure::Failure;
use crate::output::screen::Page;
use crate::output::style::Tone;
use crate::output::table::{Cell, Column, Table};

pub(crate) async fn run(context: &Context, command: TokenCommand) -> Result<(), Failure> {
    match command {
        TokenCommand::Create(wanted) => create(context, &wanted).await,
        TokenCommand::List => {
            let body = context.node()?.get(KIND.path).await?;
            context.screen.show(&page(body))
        }
        TokenCommand::Revoke { id, yes } => revoke(context, &KIND, &id, yes).await,
    }
}

const KIND: Kind =
    Kind { noun: "token", path: "/tokens", consequence: "Whoever uses it is refused at once.", about, page };

/// What tells it from others, for people.
fn about(row: &Value) -> String {
    format!("{}, {}", text(row, "/name"), scopes(row))
}

async fn create(context: &Context, wanted: &TokenCreate) -> Result<(), Failure> {
    let mut body = json!({"name": wanted.name, "scopes": wanted.scopes});
    if let Some(span) = wanted.expires_in {
        body["expires_in_s"] = json!(span.as_secs().max(1));
    }
    let (_, row) = context.node()?.answer(Call::post(KIND.path, Some(body))).await?;
    let mut page = page(json!({"tokens": [row]}));
    page.body = row.clone();
    // The bare token, so that `ARW_TOKEN=$(arw token create …)` works.
    page.text = Some(format!("{}\n", text(&row, "/token")));
    page.table.columns.push(Column::programs("token"));
    for cells in &mut page.table.rows {
        cells.push(Cell::Text(text(&row, "/token").to_owned()));
    }
    context.screen.show(&page)?;
    if context.screen.is_for_people() {
        context.screen.note(&format!(
            "token {} ({}); it is shown this once: keep it safe. `arw token revoke {}` ends it.",
            text(&row, "/id"),
            scopes(&row),
            text(&row, "/id")
        ));
    }
    Ok(())
}

fn page(body: Value) -> Page {
    let mut table = Table::new(&[
        Column::new("id", "id"),
        Column::new("name", "name"),
        Column::new("scopes", "scopes").wrapping(),
        Column::people("state"),
        Column::new("created_at", "created").yielding(),
        Column::new("expires_at", "expires"),
        Column::new("last_used_at", "last used").yielding(),
        Column::programs("revoked_at"),
    ]);
    let records = list(&body, "/tokens").to_vec();
    for row in &records {
        let time = |pointer: &str| match text(row, pointer) {
            "" => Cell::Missing,
            at => Cell::Time(at.to_owned()),
        };
        let state = if text(row, "/revoked_at").is_empty() {
            Cell::Word("valid".to_owned(), Tone::Good)
        } else {
            Cell::Word("revoked".to_owned(), Tone::Bad)
        };
        table.push(vec![
            Cell::Text(text(row, "/id").to_owned()),
            Cell::Text(text(row, "/name").to_owned()),
            Cell::Text(scopes(row)),
            state,
            time("/created_at"),
            time("/expires_at"),
            time("/last_used_at"),
            time("/revoked_at"),
        ]);
    }
    Page {
        body,
        records,
        table,
        text: None,
        empty: "no tokens; `arw token create NAME` makes one".to_owned(),
    }
}

fn scopes(row: &Value) -> String {
    let scopes: Vec<&str> = list(row, "/scopes").iter().filter_map(Value::as_str).collect();
    scopes.join(" ")
}
