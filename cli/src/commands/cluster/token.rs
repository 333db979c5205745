//! `arw cluster token …`

use serde_json::{Value, json};

use crate::args::{JoinTokenCommand, JoinTokenCreate};
use crate::client::http::Call;
use crate::client::row::{encoded, list, text};
use crate::commands::confirm::confirm;
use crate::context::Context;
use crate::failure::Failure;
use crate::output::screen::Page;
use crate::output::style::Tone;
use crate::output::table::{Cell, Column, Table};

pub(crate) async fn run(context: &Context, command: JoinTokenCommand) -> Result<(), Failure> {
    match command {
        JoinTokenCommand::Create(wanted) => create(context, &wanted).await,
        JoinTokenCommand::List => {
            let body = context.node()?.get("/cluster/tokens").await?;
            context.screen.show(&page(body))
        }
        JoinTokenCommand::Revoke { id, yes } => revoke(context, &id, yes).await,
    }
}

async fn revoke(context: &Context, id: &str, yes: bool) -> Result<(), Failure> {
    let node = context.node()?;
    let row = async || {
        let body = node.get("/cluster/tokens").await.ok()?;
        list(&body, "/tokens").iter().find(|row| text(row, "/id") == id).cloned()
    };
    let about = match row().await {
        Some(row) => format!("join token {id} ({})", about(&row)),
        None => format!("join token {id}"),
    };
    confirm(context, yes, &format!("revoke {about} for good? Nobody joins with it any more."))?;
    node.answer(Call::delete(&format!("/cluster/tokens/{}", encoded(id)))).await?;
    let done = match row().await {
        Some(row) => Page { body: row.clone(), ..page(json!({"tokens": [row]})) },
        None => Page::of_one(&[("id", json!(id)), ("revoked", json!(true))]),
    };
    context.screen.done(&format!("join token {id} is revoked"), &done)
}

/// What tells it from others, for people.
fn about(row: &Value) -> String {
    words(row, "/roles")
}

async fn create(context: &Context, wanted: &JoinTokenCreate) -> Result<(), Failure> {
    let mut body = json!({"ttl_s": wanted.ttl.as_secs().max(1), "uses": wanted.uses});
    if !wanted.roles.is_empty() {
        body["roles"] = json!(wanted.roles);
    }
    if !wanted.addresses.is_empty() {
        body["addresses"] = json!(wanted.addresses);
    }
    let (_, row) = context.node()?.answer(Call::post("/cluster/tokens", Some(body))).await?;
    let mut page = page(json!({"tokens": [row]}));
    page.body = row.clone();
    // The bare token, so that `arw cluster token create | ssh other arw join -` works.
    page.text = Some(format!("{}\n", text(&row, "/token")));
    page.table.columns.push(Column::programs("token"));
    for cells in &mut page.table.rows {
        cells.push(Cell::Text(text(&row, "/token").to_owned()));
    }
    context.screen.show(&page)?;
    if context.screen.is_for_people() {
        let addresses = words(&row, "/addresses");
        let first =
            if row["is_first"] == json!(true) { "this node is the first of a new cluster now. " } else { "" };
        context.screen.note(&format!(
            "{first}On the other machine: arw join TOKEN. It dials {addresses} over UDP until {}; the token is shown this once.",
            text(&row, "/expires_at")
        ));
    }
    Ok(())
}

fn page(body: Value) -> Page {
    let mut table = Table::new(&[
        Column::new("id", "id"),
        Column::new("state", "state"),
        Column::new("roles", "roles"),
        Column::new("uses", "uses"),
        Column::new("created_at", "created").yielding(),
        Column::new("expires_at", "expires"),
    ]);
    let records = list(&body, "/tokens").to_vec();
    for row in &records {
        let state = text(row, "/state");
        let tone = if state == "usable" { Tone::Good } else { Tone::Bad };
        let used = list(row, "/used").len();
        table.push(vec![
            Cell::Text(text(row, "/id").to_owned()),
            Cell::Word(state.to_owned(), tone),
            Cell::Text(words(row, "/roles")),
            Cell::Text(format!("{used}/{}", row["uses_max"])),
            Cell::Time(text(row, "/created_at").to_owned()),
            Cell::Time(text(row, "/expires_at").to_owned()),
        ]);
    }
    Page {
        body,
        records,
        table,
        text: None,
        empty: "no join tokens; `arw cluster token create` makes one".to_owned(),
    }
}

fn words(row: &Value, pointer: &str) -> String {
    let words: Vec<&str> = list(row, pointer).iter().filter_map(Value::as_str).collect();
    words.join(", ")
}
