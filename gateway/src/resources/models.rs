//! `/models`: taking model files in and giving them up.
//!
//! Owns the import's stream of progress, and that a client that goes away cancels it. Refuses to know model
//! files.

pub(super) mod dto;

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::time::Duration;

use arw_actors::ids::RuntimeId;
use arw_actors::model::{ImportError, ImportProgress, ModelRecord, RemoveError, StoreError};
use arw_actors::policy::Scope;
use arw_kit::clock::Clock;
use axum::body::Body;
use axum::extract::{Extension, State};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::stream;
use http::StatusCode;
use http::header::CONTENT_TYPE;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tracing::info;

use self::dto::{ImportLine, ModelRow, NewModel};
use crate::control::Call;
use crate::extract::{JsonBody, Name};
use crate::problem::{Kind, Problem, ProblemBody};
use crate::resource::resource;
use crate::shared::Gate;
use crate::sse::X_ACCEL_BUFFERING;

resource! { "models", "Model files":
    post("/models/import", Needs(Scope::ModelManage), import),
    delete("/models/{name}", Needs(Scope::ModelManage), remove),
}

/// A progress bar does not move more smoothly than this, and a large file has many megabytes.
const PROGRESS_EVERY: Duration = Duration::from_millis(50);
/// Lines on their way to the client; progress that finds no room is left out.
const LINES_MAX: usize = 4;

/// Imports a model file that lies on the node's machine.
#[utoipa::path(post, path = "/models/import", tag = "models", request_body = NewModel,
    description = "One JSON object per line: `progress` while it runs, at last `model` or `error`. Closing the connection cancels the import.",
    responses(
        (status = 200, content_type = "application/x-ndjson", body = ImportLine),
        (status = 422, body = ProblemBody, content_type = "application/problem+json"),
    ))]
pub(crate) async fn import(
    State(gate): State<Gate>,
    Extension(call): Extension<Call>,
    JsonBody(new): JsonBody<NewModel>,
) -> Result<Response, Problem> {
    let path = PathBuf::from(new.path);
    if !path.is_absolute() {
        let detail =
            "field `path`: it must be absolute, because the node may run in another folder than the client";
        return Err(Problem::field("path", detail, "give the whole path, beginning with /"));
    }
    let (lines, received) = mpsc::channel(LINES_MAX);
    tokio::spawn(run_import(gate, call.goes_on(), path, new.name, lines));
    let body = stream::unfold(received, async |mut received: mpsc::Receiver<Bytes>| {
        received.recv().await.map(|line| (Ok::<_, std::convert::Infallible>(line), received))
    });
    let mut response = Response::new(Body::from_stream(body));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, http::HeaderValue::from_static("application/x-ndjson"));
    headers.insert(X_ACCEL_BUFFERING, http::HeaderValue::from_static("no"));
    Ok(response)
}

async fn run_import(gate: Gate, call: Call, path: PathBuf, name: Option<String>, lines: mpsc::Sender<Bytes>) {
    let progress = report_to(lines.clone(), gate.node.system.clock());
    let (before, wanted) = (gate.node.models.list(), name.clone());
    let imported = tokio::select! {
        imported = gate.node.models.import(path, name, progress) => imported,
        // The import itself ends at its next step: its client is gone by then.
        () = gate.stopping() => Err(ImportError::Cancelled),
    };
    let last = match imported {
        Ok(model) => {
            call.done(wanted.unwrap_or_else(|| model.name.clone()));
            let used_by = users(&gate, &model);
            let known = before.iter().any(|it| it.sha256 == model.sha256);
            json!({ "model": ModelRow::new(&model, &used_by), "known": known })
        }
        Err(ImportError::Cancelled) => {
            info!("a model import was cancelled by its client");
            json!({ "error": not_imported(&ImportError::Cancelled).to_rfc9457() })
        }
        Err(error) => json!({ "error": not_imported(&error).to_rfc9457() }),
    };
    // Fails only when the client is gone, and then nobody reads it.
    let _ = lines.send(line(&last)).await;
}

fn line(value: &Value) -> Bytes {
    format!("{value}\n").into()
}

/// Runs on the importing thread: never waits for the client, and cancels when it is gone.
fn report_to(
    lines: mpsc::Sender<Bytes>,
    clock: Clock,
) -> impl FnMut(ImportProgress) -> ControlFlow<()> + Send + 'static {
    let mut next = None;
    move |progress| {
        if lines.is_closed() {
            return ControlFlow::Break(());
        }
        let (now, is_last) = (clock.now(), progress.done_bytes == progress.total_bytes);
        if is_last || next.is_none_or(|next| now >= next) {
            next = Some(now + PROGRESS_EVERY);
            let told = json!({ "progress": { "done_bytes": progress.done_bytes, "total_bytes": progress.total_bytes } });
            // A full channel is a client that reads slowly: it sees the next line instead.
            let _ = lines.try_send(line(&told));
        }
        ControlFlow::Continue(())
    }
}

fn not_imported(error: &ImportError) -> Problem {
    let (detail, help) = (error.to_string(), error.help());
    match error {
        ImportError::SourceMissing { .. }
        | ImportError::DanglingLink { .. }
        | ImportError::SourceIsFolder { .. }
        | ImportError::SourceIsSpecial { .. }
        | ImportError::SourceEmpty { .. }
        | ImportError::SourceUnreadable { .. }
        | ImportError::SourceChanged { .. }
        | ImportError::SplitPart { .. }
        | ImportError::NotAModel { .. } => Problem::field("path", detail, help),
        ImportError::BadName(_) => Problem::field("name", detail, help),
        ImportError::NameTaken { .. } | ImportError::TooManyNames { .. } => {
            Problem::new(Kind::Conflict, detail, help).at("name")
        }
        ImportError::NoSpace { .. } | ImportError::DiskFull { .. } | ImportError::Write { .. } => {
            Problem::new(Kind::NotStored, detail, help)
        }
        ImportError::Cancelled => Problem::new(Kind::NotReady, detail, help),
        ImportError::Store(error) => store_problem(error),
    }
}

fn store_problem(error: &StoreError) -> Problem {
    let help = "see the node's log and `arw doctor`, then try again";
    Problem::new(Kind::NotStored, error.to_string(), help)
}

/// The runtimes that use a model, however they name it.
fn users(gate: &Gate, model: &ModelRecord) -> Vec<RuntimeId> {
    gate.node.runtimes.users_of(|text| gate.node.models.leads_to(text, model))
}

/// Gives a model up, unless a runtime uses it.
#[utoipa::path(delete, path = "/models/{name}", tag = "models", params(("name" = String, Path)),
    responses(
        (status = 204, description = "the name is gone, and with a model's last name its file"),
        (status = 404, body = ProblemBody, content_type = "application/problem+json"),
        (status = 409, body = ProblemBody, content_type = "application/problem+json", description = "a runtime uses it"),
    ))]
pub(crate) async fn remove(State(gate): State<Gate>, Name(name): Name) -> Result<Response, Problem> {
    let used_by = match gate.node.models.find(&name) {
        // One of several names goes: only who uses that name minds.
        Some(model) if model.is_named(&name) && !model.aliases.is_empty() => {
            gate.node.runtimes.users_of(|text| text == name)
        }
        Some(model) => users(&gate, &model),
        None => Vec::new(),
    };
    if !used_by.is_empty() {
        let used_by: Vec<&str> = used_by.iter().map(RuntimeId::as_str).collect();
        let detail = format!("the model `{name}` is used by: {}", used_by.join(", "));
        return Err(Problem::new(
            Kind::Conflict,
            detail,
            "remove those runtimes first: `arw runtime remove ID`",
        )
        .with("used_by", used_by));
    }
    gate.node.models.remove(name).await.map_err(|error| not_removed(&error))?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

fn not_removed(error: &RemoveError) -> Problem {
    match error {
        RemoveError::NotFound { known, .. } => {
            Problem::new(Kind::NotFound, error.to_string(), "GET /state/models lists them")
                .with("known", known.clone())
        }
        RemoveError::Store(error) => store_problem(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arw_actors::model::store::ImportPhase;

    fn at(done_bytes: u64) -> ImportProgress {
        ImportProgress { phase: ImportPhase::Copying, done_bytes, total_bytes: 10 }
    }

    #[tokio::test(start_paused = true)]
    async fn progress_is_told_at_intervals_and_at_the_end() {
        let (lines, mut received) = mpsc::channel(LINES_MAX);
        let mut report = report_to(lines, Clock::system());
        for done in 0..5 {
            assert!(report(at(done)).is_continue());
        }
        tokio::time::advance(PROGRESS_EVERY).await;
        assert!(report(at(6)).is_continue());
        assert!(report(at(10)).is_continue());
        let mut told = Vec::new();
        while let Ok(line) = received.try_recv() {
            told.push(
                serde_json::from_slice::<Value>(&line).unwrap()["progress"]["done_bytes"].as_u64().unwrap(),
            );
        }
        assert_eq!(told, [0, 6, 10]);
    }

    #[tokio::test]
    async fn a_client_that_goes_away_cancels_the_import() {
        let (lines, received) = mpsc::channel(LINES_MAX);
        let mut report = report_to(lines, Clock::system());
        assert!(report(at(1)).is_continue());
        drop(received);
        assert!(report(at(2)).is_break());
    }
}
