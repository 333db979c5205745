//! `arw model import`: through the node, or straight into the store where none runs.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arw_actors::model::{ImportError, ModelStore};
use http::header::ACCEPT;
use serde_json::{Value, json};

use super::view::page;
use crate::args::ModelImport;
use crate::client::discovery::read_node_file;
use crate::client::error::{ClientError, Problem};
use crate::client::http::{Call, Node, process_runs};
use crate::client::lines::JsonLines;
use crate::client::row::{flag, number, text};
use crate::context::Context;
use crate::failure::{Exit, Failure};
use crate::output::progress::Progress;
use crate::place;

/// Hashing and copying tell progress all the time; this long without is a dead disk.
const IMPORT_IDLE_MAX: Duration = Duration::from_secs(60);
/// In the state folder, as the node has it.
const MODELS_FOLDER: &str = "models";

pub(super) async fn run(context: &Context, wanted: &ModelImport) -> Result<(), Failure> {
    let path = importable(&wanted.file)?;
    let imported = if none_runs(context) {
        import_without_node(context, path, wanted.name.clone()).await?
    } else {
        import(context, &context.node()?, &path, wanted.name.as_deref()).await?
    };
    imported.tell(context, wanted.name.as_deref());
    context.screen.show(&page(imported.row.clone(), vec![imported.row]))
}

/// What an import led to.
#[derive(Debug)]
pub(crate) struct Imported {
    /// The model's row.
    pub(crate) row: Value,
    /// Its content was in the store already.
    is_known: bool,
}

impl Imported {
    /// Tells people that nothing was copied, and under which name they find what they wanted.
    pub(crate) fn tell(&self, context: &Context, wanted: Option<&str>) {
        if let Some(words) = self.words(wanted) {
            context.screen.note(&words);
        }
    }

    fn words(&self, wanted: Option<&str>) -> Option<String> {
        let name = text(&self.row, "/name");
        let same = format!("this is the same content as {name}, so nothing was copied");
        self.is_known.then(|| match wanted {
            Some(wanted) if wanted != name => format!("{same}: {wanted} is another name of it"),
            Some(_) | None => same,
        })
    }
}

/// No node on this machine could be disturbed. One that was named with `--server` must answer, and so must
/// one whose process lives.
fn none_runs(context: &Context) -> bool {
    context.locator.server.is_none()
        && match read_node_file(&context.locator.state_dir) {
            Ok(file) => file.is_none_or(|file| !process_runs(file.pid)),
            // Told by the way to the node, in its own words.
            Err(_) => false,
        }
}

/// Checks what can be checked before a node is bothered, and makes the path absolute: the node has another
/// working folder.
pub(crate) fn importable(file: &Path) -> Result<PathBuf, Failure> {
    let what = || format!("cannot import {}", file.display());
    let facts = std::fs::metadata(file).map_err(|error| {
        let link = std::fs::read_link(file).ok().filter(|_| error.kind() == std::io::ErrorKind::NotFound);
        match link {
            Some(target) => Failure::new(
                Exit::Failed,
                what(),
                format!("it is a symbolic link to {}, which does not exist", target.display()),
                "download the file that the link leads to, or name another one",
            ),
            None => {
                let help = "check the path; `ls -l` shows what is there and who may read it";
                Failure::new(Exit::Failed, what(), error.to_string(), help)
            }
        }
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

/// Lets the node import a file.
pub(crate) async fn import(
    context: &Context,
    node: &Node,
    path: &Path,
    name: Option<&str>,
) -> Result<Imported, Failure> {
    let Some(path_text) = path.to_str() else {
        return Err(Failure::new(
            Exit::Failed,
            format!("cannot import {}", path.display()),
            "its path is not UTF-8, and the node's API takes only paths that are",
            "rename it, or make a link to it with a plain name (`ln -s FILE model.gguf`) and import that",
        ));
    };
    let mut body = json!({"path": path_text});
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

async fn read_import(
    lines: &mut JsonLines,
    progress: &mut Progress,
    node: &Node,
) -> Result<Imported, Failure> {
    while let Some(mut line) = lines.next().await? {
        if let Some(at) = line.get("progress") {
            progress.at(
                number(at, "/done_bytes").unwrap_or_default(),
                number(at, "/total_bytes").unwrap_or_default(),
            );
        } else if line.get("model").is_some() {
            return Ok(Imported { is_known: flag(&line, "/known"), row: line["model"].take() });
        } else if let Some(problem) = line.get("error") {
            let problem = Problem::from_body(500, problem, &[]);
            return Err(ClientError::Refused(Box::new(problem)).into());
        }
    }
    let why = "the answer ended before the import was done".to_owned();
    Err(ClientError::Garbled { url: node.url().to_owned(), why }.into())
}

/// Opens the model store itself. Its lock keeps a node that starts meanwhile, or another import, from being
/// disturbed.
async fn import_without_node(
    context: &Context,
    path: PathBuf,
    name: Option<String>,
) -> Result<Imported, Failure> {
    let models = context.locator.state_dir.join(MODELS_FOLDER);
    context.screen.note(&format!("no node runs: importing into {} directly", models.display()));
    let file = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy();
    let mut progress = Progress::new(&format!("importing {file}"), &context.screen.style);
    let imported_at = context.screen.now();
    let cancelled = Arc::new(AtomicBool::new(false));
    let heard = Arc::clone(&cancelled);
    let mut working = tokio::task::spawn_blocking(move || {
        let store = ModelStore::open(models).map_err(ImportError::from);
        let imported = store.and_then(|store| {
            let before = store.list()?;
            let imported = store.import(&path, name.as_deref(), imported_at, &mut |at| {
                progress.at(at.done_bytes, at.total_bytes);
                if heard.load(Ordering::Relaxed) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            });
            imported.map(|model| (before.iter().any(|it| it.sha256 == model.sha256), model))
        });
        progress.finish();
        imported
    });
    let outcome = tokio::select! {
        outcome = &mut working => outcome,
        _ = tokio::signal::ctrl_c() => {
            // The store takes away what it has copied so far before it returns.
            cancelled.store(true, Ordering::Relaxed);
            working.await
        }
    };
    let nothing_left = "nothing was left behind: try again";
    let imported = outcome.map_err(|error| not_imported(&error.to_string(), nothing_left))?;
    let (is_known, model) = imported.map_err(|error| not_imported(&error.to_string(), &error.help()))?;
    let row = serde_json::to_value(model).map_err(|error| not_imported(&error.to_string(), nothing_left));
    let mut row = row?;
    row["used_by"] = json!([]);
    Ok(Imported { row, is_known })
}

fn not_imported(why: &str, help: &str) -> Failure {
    Failure::new(Exit::Failed, "the model was not imported", why, help)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_that_is_known_is_told_with_the_name_under_which_it_is() {
        let words = |is_known: bool, wanted: Option<&str>| {
            Imported { row: json!({"name": "tiny"}), is_known }.words(wanted)
        };
        assert_eq!(words(false, Some("rel")), None);
        assert!(
            words(true, Some("rel"))
                .unwrap()
                .ends_with("as tiny, so nothing was copied: rel is another name of it")
        );
        for wanted in [None, Some("tiny")] {
            assert!(words(true, wanted).unwrap().ends_with("as tiny, so nothing was copied"));
        }
    }
}
