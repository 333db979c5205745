//! `arw run FILE.gguf`: import, runtime, start and chat in one go.

use std::path::Path;
use std::time::Duration;

use arw_kit::ids::check_name;
use serde_json::{Value, json};

use crate::args::{Chat, Run};
use crate::client::error::ClientError;
use crate::client::http::{Call, Node};
use crate::client::row::{list, text};
use crate::commands::ensure_node::ensure_node;
use crate::commands::runtime::{Move, allowed, program_path, settle};
use crate::commands::{chat, model};
use crate::context::Context;
use crate::failure::{Exit, Failure};
use crate::place;

/// The engine that is looked for when none is named.
pub(crate) const ENGINE: &str = "llama-server";
/// What it needs to serve one model on a Unix socket, with its key on standard input so that the key shows in
/// no command line.
const ENGINE_ARGS: [&str; 6] = ["--model", "{model}", "--host", "{socket}", "--api-key-file", "/dev/stdin"];
/// Loading tens of gigabytes from a slow disk; the node's own limits follow progress and are stricter.
const READY_WITHIN: Duration = Duration::from_secs(600);

pub(crate) async fn run(context: &Context, wanted: &Run) -> Result<(), Failure> {
    // What a person can get wrong is checked before anything is started.
    let path = model::importable(&wanted.file)?;
    let engine = engine(wanted.engine.as_deref(), &wanted.args)?;
    let ensured = ensure_node(context).await?;
    let outcome = session(context, &ensured.node, wanted, &path, &engine).await;
    ensured.release(context).await;
    outcome
}

async fn session(
    context: &Context,
    node: &Node,
    wanted: &Run,
    path: &Path,
    engine: &[String],
) -> Result<(), Failure> {
    let prepared = tokio::select! {
        prepared = prepare(context, node, wanted, path, engine) => prepared?,
        _ = tokio::signal::ctrl_c() => {
            return Err(Failure::new(Exit::Failed, "stopped", "Ctrl-C was pressed", "run it again to go on"));
        }
    };
    let chat = Chat { model: Some(prepared), system: wanted.system.clone(), once: wanted.once.clone() };
    chat::converse(context, node, &chat).await
}

/// Imports, adds and starts; gives back the runtime's id.
async fn prepare(
    context: &Context,
    node: &Node,
    wanted: &Run,
    path: &Path,
    engine: &[String],
) -> Result<String, Failure> {
    let imported = model::import(context, node, path, wanted.name.as_deref()).await?;
    imported.tell(context, wanted.name.as_deref());
    let model = text(&imported.row, "/name").to_owned();
    let id = match runtime_of(node, &imported.row).await? {
        Some(id) if wanted.engine.is_some() || !wanted.args.is_empty() => {
            context.screen.note(&format!("runtime {id} serves {model} already and keeps its own engine"));
            id
        }
        Some(id) => id,
        None => add(context, node, wanted, &model, engine).await?,
    };
    settle(context, node, Move::Start, &id, READY_WITHIN).await?;
    Ok(id)
}

/// The runtime that serves a model, by whichever of its names.
async fn runtime_of(node: &Node, model: &Value) -> Result<Option<String>, ClientError> {
    let body = node.get("/state/runtimes").await?;
    let serves = |row: &&Value| model::names(model).any(|name| name == text(row, "/model"));
    let row = list(&body, "/runtimes").iter().find(serves);
    Ok(row.map(|row| text(row, "/id").to_owned()))
}

async fn add(
    context: &Context,
    node: &Node,
    wanted: &Run,
    model: &str,
    engine: &[String],
) -> Result<String, Failure> {
    let id = id_for(wanted.name.as_deref().unwrap_or(model));
    let (program, args) =
        engine.split_first().map_or((ENGINE, &[][..]), |(program, args)| (program.as_str(), args));
    let mut body =
        json!({"id": id, "adapter": "llama_cpp", "model": model, "program": program, "args": args});
    for (name, folders) in [("allow_read", &wanted.allow_read), ("allow_exec", &wanted.allow_exec)] {
        if let Some(folders) = allowed(folders) {
            body[name] = folders;
        }
    }
    if wanted.allow_unix_connect {
        body["allow_unix_connect"] = Value::Bool(true);
    }
    node.answer(Call::post("/runtimes", Some(body))).await?;
    context.screen.note(&format!("runtime {id} is added; its engine is {program}"));
    Ok(id)
}

/// The engine's program and arguments.
fn engine(named: Option<&str>, args: &[String]) -> Result<Vec<String>, Failure> {
    let program = match named {
        Some(program) => named_program(program)?,
        None => found_program()?,
    };
    if !args.is_empty() {
        return Ok(std::iter::once(program).chain(args.iter().cloned()).collect());
    }
    Ok(std::iter::once(program).chain(ENGINE_ARGS.map(str::to_owned)).collect())
}

fn named_program(program: &str) -> Result<String, Failure> {
    let absolute = program_path(program);
    let there = if absolute == program && !program.starts_with('/') {
        place::find_program(program).is_some()
    } else {
        place::is_program(Path::new(&absolute))
    };
    if there {
        return Ok(absolute);
    }
    Err(Failure::new(
        Exit::Failed,
        format!("cannot use the engine {program}"),
        "there is no such program, or it may not be executed",
        "check the path; `ls -l` shows it",
    ))
}

fn found_program() -> Result<String, Failure> {
    if let Some(path) = place::find_program(ENGINE) {
        return Ok(path.to_string_lossy().into_owned());
    }
    Err(Failure::new(
        Exit::Failed,
        "there is no engine to run the model with",
        format!("{ENGINE} (llama.cpp's server) is not in PATH"),
        format!("install llama.cpp, or name an engine: arw run FILE.gguf --engine /path/to/{ENGINE}"),
    ))
}

/// A runtime's id made of a model's name: what is not allowed becomes `-`.
fn id_for(name: &str) -> String {
    if check_name(name).is_ok() {
        return name.to_owned();
    }
    let safe: String = name
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-') { c } else { '-' })
        .skip_while(|c| !c.is_ascii_alphanumeric())
        .take(64)
        .collect();
    if check_name(&safe).is_ok() { safe } else { "model".to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_made_of_any_name() {
        for (name, id) in [
            ("SmolLM2-135M.Q4_1", "SmolLM2-135M.Q4_1"),
            ("my model (v2)", "my-model--v2-"),
            ("-x", "x"),
            ("模型", "model"),
            ("", "model"),
        ] {
            assert_eq!(id_for(name), id);
        }
        assert_eq!(id_for(&"a b".repeat(60)).len(), 64);
    }

    #[test]
    fn an_engine_that_is_named_is_used_with_its_own_arguments() {
        let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        assert_eq!(
            engine(Some("/bin/sh"), &words(&["-c", "{model}"])).unwrap(),
            words(&["/bin/sh", "-c", "{model}"])
        );
        assert_eq!(engine(Some("/bin/sh"), &[]).unwrap()[1..], words(&ENGINE_ARGS));
        assert_eq!(engine(Some("/nowhere/engine"), &[]).unwrap_err().exit(), Exit::Failed);
        assert_eq!(engine(Some("no-such-engine-anywhere"), &[]).unwrap_err().exit(), Exit::Failed);
    }
}
