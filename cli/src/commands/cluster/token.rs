//! `arw cluster token …`

use serde_json::{Value, json};

use crate::args::{JoinTokenCommand, JoinTokenCreate};
use crate::client::http::Call;
use crate::client::row::{list, text};
use crate::commands::revoke::{Kind, revoke};
use crate::context::Context;
use crate::failure::Failure;
use crate::output::screen::Page;
use crate::output::style::Tone;
use crate::output::table::{Cell, Column, Table};

pub(crate) async fn run(context: &Context, command: JoinTokenCommand) -> Result<(), Failure> {
    match command {
        JoinTokenCommand::Create(wanted) => create(context, &wanted).await,
        JoinTokenCommand::List => {
            let body = context.node()?.get(KIND.path).await?;
            context.screen.show(&page(body))
        }
        JoinTokenCommand::Revoke { id, yes } => revoke(context, &KIND, &id, yes).await,
    }
}

const KIND: Kind = Kind {
    noun: "join token",
    path: "/cluster/tokens",
    consequence: "Nobody joins with it any more.",
    about,
    page,
};

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
    let (_, row) = context.node()?.answer(Call::post(KIND.path, Some(body))).await?;
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
