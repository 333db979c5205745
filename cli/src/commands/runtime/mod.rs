//! `arw runtime …`

mod logs;
mod moves;
pub(crate) mod view;

use std::path::PathBuf;

use serde_json::{Map, Value, json};

use crate::args::{RuntimeAdd, RuntimeCommand};
use crate::client::http::{Call, Node};
use crate::client::row::{encoded, list, text};
use crate::commands::model::unknown;
use crate::context::Context;
use crate::failure::{Exit, Failure};
use crate::output::screen::Page;
use crate::place;
pub(crate) use moves::{Move, settle};

pub(crate) async fn run(context: &Context, command: RuntimeCommand) -> Result<(), Failure> {
    match command {
        RuntimeCommand::Add(wanted) => add(context, &wanted).await,
        RuntimeCommand::Remove { id } => {
            context.node()?.answer(Call::delete(&format!("/runtimes/{}", encoded(&id)))).await?;
            let done = Page::of_one(&[("id", json!(id)), ("removed", json!(true))]);
            context.screen.done(&format!("runtime {id} is removed"), &done)
        }
        RuntimeCommand::List => {
            let body = context.node()?.get("/state/runtimes").await?;
            let records = list(&body, "/runtimes").to_vec();
            context.screen.show(&view::page(body, records))
        }
        RuntimeCommand::Show { id } => show(context, &id).await,
        RuntimeCommand::Start(wanted) => moves::run(context, Move::Start, &wanted).await,
        RuntimeCommand::Stop(wanted) => moves::run(context, Move::Stop, &wanted).await,
        RuntimeCommand::Restart(wanted) => moves::run(context, Move::Restart, &wanted).await,
        RuntimeCommand::Logs(wanted) => logs::run(context, &wanted).await,
    }
}

async fn add(context: &Context, wanted: &RuntimeAdd) -> Result<(), Failure> {
    let (_, row) = context.node()?.answer(Call::post("/runtimes", Some(definition(wanted)?))).await?;
    context.screen.show(&view::page(row.clone(), vec![row]))?;
    context
        .screen
        .note(&format!("runtime {} is added; `arw runtime start {}` starts it", wanted.id, wanted.id));
    Ok(())
}

/// The body of `POST /runtimes`; only what was said, so that the node's own defaults hold for the rest.
fn definition(wanted: &RuntimeAdd) -> Result<Value, Failure> {
    let mut body = Map::new();
    let mut set = |name: &str, value: Option<Value>| {
        if let Some(value) = value {
            body.insert(name.to_owned(), value);
        }
    };
    set("id", Some(json!(wanted.id)));
    set("adapter", Some(json!(wanted.adapter.as_str())));
    set("model", wanted.model.as_ref().map(|model| json!(model)));
    set("profile", wanted.profile.as_ref().map(|profile| json!(profile)));
    set("auto_start", wanted.auto_start.then_some(Value::Bool(true)));
    if let Some((program, args)) = wanted.program.split_first() {
        set("program", Some(json!(program_path(program))));
        set("args", Some(json!(args)));
    }
    set("base_url", wanted.base_url.as_ref().map(|url| json!(url)));
    set("api_key_env", wanted.api_key_env.as_ref().map(|name| json!(name)));
    for (name, folders) in [("allow_read", &wanted.allow_read), ("allow_exec", &wanted.allow_exec)] {
        set(name, allowed(folders));
    }
    set("allow_unix_connect", wanted.allow_unix_connect.then_some(Value::Bool(true)));
    let env: Map<String, Value> =
        wanted.env.iter().map(|(name, value)| (name.clone(), json!(value))).collect();
    set("env", (!env.is_empty()).then_some(Value::Object(env)));
    set("idle_after_s", wanted.idle_after.map(|idle| json!(idle)));
    set("restart", restart(wanted)?);
    Ok(Value::Object(body))
}

fn restart(wanted: &RuntimeAdd) -> Result<Option<Value>, Failure> {
    match (wanted.restart_max, wanted.restart_window) {
        (None, None) => Ok(None),
        (Some(max), Some(window)) => Ok(Some(json!({"max": max, "window_s": window.as_secs().max(1)}))),
        (Some(_), None) | (None, Some(_)) => Err(Failure::new(
            Exit::Usage,
            "half a restart budget",
            "restarts are counted within a window: one means nothing without the other",
            "give both --restart-max COUNT and --restart-window DURATION",
        )),
    }
}

/// Folders that the program may use besides its own, by their whole paths; `None`: none.
pub(crate) fn allowed(folders: &[PathBuf]) -> Option<Value> {
    let folders: Vec<String> =
        folders.iter().map(|dir| place::absolute(dir).to_string_lossy().into_owned()).collect();
    (!folders.is_empty()).then(|| json!(folders))
}

/// A name is looked up in `PATH` by the node; anything with a slash is a path from here.
pub(crate) fn program_path(program: &str) -> String {
    if program.contains(std::path::is_separator) {
        place::absolute(program.as_ref()).to_string_lossy().into_owned()
    } else {
        program.to_owned()
    }
}

async fn show(context: &Context, id: &str) -> Result<(), Failure> {
    let node = context.node()?;
    let row = find(&node, id).await?;
    let history = crate::commands::events::history(&node, id, &format!("runtimes/{id}")).await;
    let mut page = view::page(row.clone(), vec![row.clone()]);
    page.text = Some(view::details(&row, &history, context.screen.now()));
    context.screen.show(&page)
}

/// The row of one runtime.
pub(crate) async fn find(node: &Node, id: &str) -> Result<Value, Failure> {
    let body = node.get("/state/runtimes").await?;
    let rows = list(&body, "/runtimes");
    let row = rows.iter().find(|row| text(row, "/id") == id);
    row.cloned().ok_or_else(|| unknown("runtime", id, rows.iter().map(|row| text(row, "/id"))))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::args::{Arguments, Command};

    fn wanted(line: &[&str]) -> RuntimeAdd {
        let words = ["arw", "runtime", "add"].iter().chain(line);
        match Arguments::try_parse_from(words).unwrap().command {
            Command::Runtime(RuntimeCommand::Add(add)) => *add,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn only_what_was_said_is_sent() {
        let body =
            definition(&wanted(&["a", "--adapter", "process", "--", "engine", "-p", "{port}"])).unwrap();
        assert_eq!(
            body,
            json!({"id": "a", "adapter": "process", "program": "engine", "args": ["-p", "{port}"]})
        );
    }

    #[test]
    fn everything_that_can_be_said_is_sent() {
        let body = definition(&wanted(&[
            "a",
            "--adapter",
            "llama_cpp",
            "--model",
            "m",
            "--profile",
            "p",
            "--auto-start",
            "--allow-read",
            "/data",
            "--allow-exec",
            "/opt/x",
            "--allow-unix-connect",
            "--env",
            "A=1",
            "--env",
            "B=x=y",
            "--idle-after",
            "30m",
            "--restart-max",
            "2",
            "--restart-window",
            "1m",
            "--",
            "/opt/llama-server",
        ]))
        .unwrap();
        let wanted = json!({"id": "a", "adapter": "llama_cpp", "model": "m", "profile": "p", "auto_start": true,
            "program": "/opt/llama-server", "args": [], "allow_read": ["/data"], "allow_exec": ["/opt/x"], "allow_unix_connect": true, "env": {"A": "1", "B": "x=y"},
            "idle_after_s": 1800, "restart": {"max": 2, "window_s": 60}});
        assert_eq!(body, wanted);
    }

    #[test]
    fn a_runtime_can_be_kept_loaded() {
        let off = wanted(&["a", "--adapter", "process", "--idle-after", "off", "--", "x"]);
        assert_eq!(definition(&off).unwrap()["idle_after_s"], "off");
        let words =
            ["arw", "runtime", "add", "a", "--adapter", "process", "--idle-after", "never", "--", "x"];
        let refused = Arguments::try_parse_from(words).unwrap_err().to_string();
        assert!(refused.contains("`off`"), "{refused}");
    }

    #[test]
    fn half_a_restart_budget_is_refused() {
        let half = wanted(&["a", "--adapter", "process", "--restart-max", "2", "--", "x"]);
        assert_eq!(definition(&half).unwrap_err().exit(), Exit::Usage);
    }

    #[test]
    fn a_path_is_made_absolute_and_a_name_is_not() {
        assert_eq!(program_path("llama-server"), "llama-server");
        assert!(program_path("./llama-server").starts_with('/'));
    }
}
