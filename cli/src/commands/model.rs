//! `arw model …`

use std::path::Path;
use std::time::Duration;

use arw_actors::config::nearest;
use http::header::ACCEPT;
use serde_json::{Value, json};

use crate::args::{ModelCommand, ModelImport};
use crate::client::error::{ClientError, Problem};
use crate::client::http::{Call, Node};
use crate::client::lines::JsonLines;
use crate::client::row::{encoded, flag, list, number, text};
use crate::context::Context;
use crate::failure::{Exit, Failure};
use crate::output::human;
use crate::output::progress::Progress;
use crate::output::screen::Page;
use crate::output::table::{Cell, Column, Table};
use crate::place;

/// Hashing and copying tell progress all the time; this long without is a dead disk.
const IMPORT_IDLE_MAX: Duration = Duration::from_secs(60);

pub(crate) async fn run(context: &Context, command: ModelCommand) -> Result<(), Failure> {
    match command {
        ModelCommand::Import(wanted) => import_and_show(context, &wanted).await,
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

async fn import_and_show(context: &Context, wanted: &ModelImport) -> Result<(), Failure> {
    let path = importable(&wanted.file)?;
    let row = match context.node() {
        Ok(node) => import(context, &node, &path, wanted.name.as_deref()).await?,
        // Without a node on this machine the store can be opened directly; a node that was named must answer.
        Err(failure) if failure.exit() == Exit::Unreachable && context.locator.server.is_none() => {
            import_without_node(context, &path, wanted.name.as_deref())?
        }
        Err(failure) => return Err(failure),
    };
    context.screen.show(&page(row.clone(), vec![row]))
}

/// Checks what can be checked before a node is bothered, and makes the path absolute: the node has another working folder.
pub(crate) fn importable(file: &Path) -> Result<std::path::PathBuf, Failure> {
    let what = || format!("cannot import {}", file.display());
    let facts = std::fs::metadata(file).map_err(|error| {
        let help = "check the path; `ls -l` shows what is there and who may read it";
        Failure::new(Exit::Failed, what(), error.to_string(), help)
    })?;
    if !facts.is_file() {
        return Err(Failure::new(
            Exit::Failed,
            what(),
            "it is not a regular file",
            "name the .gguf file itself",
        ));
    }
    Ok(place::absolute(file))
}

/// Lets the node import a file; gives back the model's row.
pub(crate) async fn import(
    context: &Context,
    node: &Node,
    path: &Path,
    name: Option<&str>,
) -> Result<Value, Failure> {
    let mut body = json!({"path": path.to_string_lossy()});
    if let Some(name) = name {
        body["name"] = json!(name);
    }
    let call = Call::post("/models/import", Some(body)).header(ACCEPT, "application/x-ndjson");
    let mut lines = JsonLines::new(node.open(call).await?, node.url(), IMPORT_IDLE_MAX);
    let file = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy();
    let mut progress = Progress::new(&format!("importing {file}"), &context.screen.style);
    let outcome = read_import(&mut lines, &mut progress, node).await;
    progress.finish();
    outcome
}

async fn read_import(lines: &mut JsonLines, progress: &mut Progress, node: &Node) -> Result<Value, Failure> {
    while let Some(mut line) = lines.next().await? {
        if let Some(at) = line.get("progress") {
            progress.at(
                number(at, "/done_bytes").unwrap_or_default(),
                number(at, "/total_bytes").unwrap_or_default(),
            );
        } else if line.get("model").is_some() {
            return Ok(line["model"].take());
        } else if let Some(problem) = line.get("error") {
            let problem = Problem::from_body(500, problem, "");
            return Err(ClientError::Refused(Box::new(problem)).into());
        }
    }
    let why = "the answer ended before the import was done".to_owned();
    Err(ClientError::Garbled { url: node.url().to_owned(), why }.into())
}

/// OFFLINE-IMPORT: opens the model store itself (`arw_actors::model::store::ModelStore::{open, import}`) when that is there.
fn import_without_node(context: &Context, path: &Path, _name: Option<&str>) -> Result<Value, Failure> {
    Err(Failure::new(
        Exit::Unreachable,
        format!("cannot import {}", path.display()),
        format!("no node runs in {}", context.locator.state_dir.display()),
        "start one with `arw up`, then import again",
    ))
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
