//! `arw model …`

mod import;
mod view;

use arw_actors::config::nearest;
use serde_json::{Value, json};

use crate::args::ModelCommand;
use crate::client::http::Call;
use crate::client::row::{encoded, list, number, text};
use crate::context::Context;
use crate::failure::{Exit, Failure};
use crate::output::human;
use crate::output::screen::Page;
pub(crate) use import::{import, importable};
pub(crate) use view::names;

pub(crate) async fn run(context: &Context, command: ModelCommand) -> Result<(), Failure> {
    match command {
        ModelCommand::Import(wanted) => import::run(context, &wanted).await,
        ModelCommand::List => {
            let body = context.node()?.get("/state/models").await?;
            let records = list(&body, "/models").to_vec();
            context.screen.show(&view::page(body, records))
        }
        ModelCommand::Show { name } => show(context, &name).await,
        ModelCommand::Rm { name } => remove(context, &name).await,
    }
}

async fn show(context: &Context, name: &str) -> Result<(), Failure> {
    let body = context.node()?.get("/state/models").await?;
    let row = view::find(list(&body, "/models"), name)?;
    let mut page = view::page(row.clone(), vec![row.clone()]);
    page.text = Some(view::details(row, context));
    context.screen.show(&page)
}

/// One of several names goes alone; otherwise the model goes. Which it was is asked of the node afterwards:
/// it alone decides.
async fn remove(context: &Context, name: &str) -> Result<(), Failure> {
    let node = context.node()?;
    // Only for the words: a token may be allowed to remove and not to look.
    let before = node.get("/state/models").await.unwrap_or_default();
    let meant = view::find(list(&before, "/models"), name).ok();
    node.answer(Call::delete(&format!("/models/{}", encoded(name)))).await?;
    let after = match meant {
        Some(_) => node.get("/state/models").await.ok(),
        None => None,
    };
    let stays = meant.zip(after.as_ref()).and_then(|(row, after)| {
        list(after, "/models").iter().find(|other| text(other, "/sha256") == text(row, "/sha256"))
    });
    let words = match (meant, stays) {
        (Some(_), Some(stays)) => {
            let names: Vec<&str> = names(stays).collect();
            format!("{name} is no longer a name of the model, which stays as {}", names.join(", "))
        }
        (Some(row), None) => {
            let others: Vec<&str> = names(row).filter(|other| *other != name).collect();
            let size = human::bytes(number(row, "/size_bytes").unwrap_or_default());
            let with = if others.is_empty() {
                String::new()
            } else {
                format!(" with its names {}", others.join(", "))
            };
            format!("model {name} is removed{with}; its {size} are free again")
        }
        (None, _) => format!("model {name} is removed"),
    };
    let done = Page::of_one(&[
        ("removed", json!(name)),
        ("sha256", meant.map_or(Value::Null, |row| row["sha256"].clone())),
        ("stays_as", stays.map_or(Value::Null, |row| row["name"].clone())),
    ]);
    context.screen.done(&words, &done)
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
