//! `/runtimes`: adding, removing, starting and stopping runtimes, and what their programs print.
//!
//! Owns the requests and their refusals. Refuses to know how a runtime lives: `/state/runtimes` shows it.

pub(crate) mod dto;

use std::sync::Arc;
use std::time::Duration;

use arw_actors::policy::Scope;
use arw_actors::runtime::directory::{AddRuntimeError, ControlError, Runtimes};
use arw_actors::runtime::launcher::Cause;
use arw_actors::runtime::log::{EngineLog, LogFollower, LogPage};
use arw_actors::runtime::machine::RuntimeState;
use arw_actors::runtime::row::RuntimeRow;
use arw_actors::runtime::spec::BadRuntimeSpec;
use axum::Json;
use axum::extract::{Extension, State};
use axum::response::{IntoResponse, Response};
use futures_util::{Stream, StreamExt, stream};
use http::header::LOCATION;
use http::{HeaderMap, StatusCode};
use serde::Deserialize;

use self::dto::{LogLines, LogRow, NewRuntime};
use crate::control::Call;
use crate::extract::{JsonBody, Name, Params, duration};
use crate::problem::{Kind, Problem, ProblemBody};
use crate::resource::resource;
use crate::shared::Gate;
use crate::sse::{self, Event};

resource! { "runtimes", "Model servers":
    get("/runtimes/{id}/logs", Read, logs),
    get("/runtimes/{id}/logs/stream", Read, logs_stream),
    post("/runtimes", Needs(Scope::RuntimeManage), add),
    delete("/runtimes/{id}", Needs(Scope::RuntimeManage), remove),
    post("/runtimes/{id}/start", Needs(Scope::RuntimeManage), start),
    post("/runtimes/{id}/stop", Needs(Scope::RuntimeManage), stop),
    post("/runtimes/{id}/restart", Needs(Scope::RuntimeManage), restart),
}

/// Adds a runtime, and starts it where `auto_start` says so.
#[utoipa::path(post, path = "/runtimes", tag = "runtimes", request_body = NewRuntime,
    responses(
        (status = 201, body = dto::RuntimeRow),
        (status = 409, body = ProblemBody, content_type = "application/problem+json"),
        (status = 422, body = ProblemBody, content_type = "application/problem+json"),
    ))]
pub(crate) async fn add(
    State(gate): State<Gate>,
    Extension(call): Extension<Call>,
    JsonBody(new): JsonBody<NewRuntime>,
) -> Result<Response, Problem> {
    let row = gate.node.runtimes.add(new.into_spec()?).await.map_err(|error| not_added(&error))?;
    call.done(row.id.as_str());
    // An id consists of letters that a path may hold.
    let location = format!("/runtimes/{}", row.id);
    Ok((StatusCode::CREATED, [(LOCATION, location)], Json(dto::RuntimeRow::from(row))).into_response())
}

fn not_added(error: &AddRuntimeError) -> Problem {
    let detail = error.to_string();
    match error {
        AddRuntimeError::Bad(bad) => {
            let field = match bad {
                BadRuntimeSpec::ProgramMissing(_) => "program",
                BadRuntimeSpec::NoAddress => "args",
                BadRuntimeSpec::ModelMissing => "model",
                BadRuntimeSpec::BadKeyName(_) => "api_key_env",
                BadRuntimeSpec::BaseUrlMissing | BadRuntimeSpec::BadBaseUrl { .. } => "base_url",
                BadRuntimeSpec::Superfluous { field, .. }
                | BadRuntimeSpec::Zero(field)
                | BadRuntimeSpec::TooMuch { field, .. } => field,
            };
            Problem::field(
                field,
                format!("field `{field}`: {detail}"),
                "see /spec/openapi.json for what goes together",
            )
        }
        AddRuntimeError::Exists(_) => {
            Problem::new(Kind::Conflict, detail, "DELETE /runtimes/{id} removes it").at("id")
        }
        AddRuntimeError::StillEnding(_) => {
            Problem::new(Kind::Conflict, detail, "add it again when it has ended").at("id")
        }
        AddRuntimeError::UnknownModel { known, .. } => Problem::field(
            "model",
            format!("field `model`: {detail}"),
            "import it first: `arw model import FILE`",
        )
        .with("known", known.clone()),
        // Which of the paths is meant is in the detail: a flag, an argument, the program.
        AddRuntimeError::NoProgram(diagnosis) if diagnosis.cause == Cause::SandboxDenied => {
            Problem::new(Kind::BadField, detail, diagnosis.hint.as_deref().unwrap_or("leave that path out"))
        }
        AddRuntimeError::NoProgram(diagnosis) => {
            let help = diagnosis.hint.as_deref().unwrap_or("give the program's whole path");
            Problem::field("program", format!("field `program`: {detail}"), help)
        }
        AddRuntimeError::TooMany(_) => {
            Problem::new(Kind::Conflict, detail, "remove runtimes that are not used")
        }
        AddRuntimeError::NotSaved(_) => {
            Problem::new(Kind::NotStored, detail, "make room on the disk, then try again")
        }
        AddRuntimeError::Unavailable(_) => unavailable(detail),
    }
}

/// Stops a runtime and forgets it.
#[utoipa::path(delete, path = "/runtimes/{id}", tag = "runtimes", params(("id" = String, Path)),
    responses(
        (status = 204, description = "it is stopped and forgotten"),
        (status = 404, body = ProblemBody, content_type = "application/problem+json"),
        (status = 409, body = ProblemBody, content_type = "application/problem+json"),
    ))]
pub(crate) async fn remove(State(gate): State<Gate>, Name(id): Name) -> Result<StatusCode, Problem> {
    gate.node.runtimes.remove(&id).await.map_err(|error| not_controlled(&error))?;
    Ok(StatusCode::NO_CONTENT)
}

fn not_controlled(error: &ControlError) -> Problem {
    let detail = error.to_string();
    match error {
        ControlError::Unknown { known, .. } => {
            Problem::new(Kind::NotFound, detail, "GET /state/runtimes lists them")
                .with("known", known.clone())
        }
        ControlError::Configured(_) => {
            Problem::new(Kind::Conflict, detail, "change the configuration file and restart the node")
        }
        ControlError::StillEnding(_) => Problem::new(
            Kind::Conflict,
            detail,
            "nothing more is to be done; if it never ends, the kernel waits for a disk or a driver: see `arw events`",
        ),
        ControlError::NotSaved(_) => {
            Problem::new(Kind::NotStored, detail, "make room on the disk, then try again")
        }
        ControlError::Unavailable(_) => unavailable(detail),
    }
}

fn unavailable(detail: String) -> Problem {
    Problem::new(Kind::NotReady, detail, "try again in a moment").retry_after(Duration::from_secs(1))
}

/// How long to wait for the runtime to settle.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Wait {
    #[serde(default, deserialize_with = "duration::deserialize")]
    wait: Option<Duration>,
}

/// A very large model from a slow disk; who waits longer asks again.
const WAIT_MAX: Duration = Duration::from_secs(600);

macro_rules! control {
    ($name:ident, $path:literal, $about:literal) => {
        #[doc = $about]
        #[utoipa::path(post, path = $path, tag = "runtimes", params(
            ("id" = String, Path),
            ("wait" = Option<String>, Query, description = "wait until it has settled, for example `60s`; at most `10m`"),
        ), responses(
            (status = 200, body = dto::RuntimeRow, description = "it has settled"),
            (status = 202, body = dto::RuntimeRow, description = "it has begun"),
            (status = 404, body = ProblemBody, content_type = "application/problem+json"),
        ))]
        pub(crate) async fn $name(
            State(gate): State<Gate>,
            Extension(call): Extension<Call>,
            Name(id): Name,
            Params(wait): Params<Wait>,
        ) -> Result<Response, Problem> {
            let row = gate.node.runtimes.$name(&id).await.map_err(|error| not_controlled(&error))?;
            // Now, not when it has settled: whoever reads the events finds the cause before its effects.
            call.done(row.id.as_str());
            settle(&gate, &id, row, wait).await
        }
    };
}

control!(start, "/runtimes/{id}/start", "Begins to start a runtime.");
control!(
    stop,
    "/runtimes/{id}/stop",
    "Begins to stop a runtime: requests in flight may finish, and requests do not start it again."
);
control!(restart, "/runtimes/{id}/restart", "Begins to stop a runtime and start it again.");

async fn settle(gate: &Gate, id: &str, row: RuntimeRow, wait: Wait) -> Result<Response, Problem> {
    let Some(wait) = wait.wait else {
        return Ok((StatusCode::ACCEPTED, Json(dto::RuntimeRow::from(row))).into_response());
    };
    let runtimes = &gate.node.runtimes;
    let settled = tokio::select! {
        settled = runtimes.settled(id, wait.min(WAIT_MAX)) => settled,
        () = gate.stopping() => runtimes.row(id),
    };
    let row = settled.map_err(|error| not_controlled(&error))?;
    let status = if is_moving(row.state) { StatusCode::ACCEPTED } else { StatusCode::OK };
    Ok((status, Json(dto::RuntimeRow::from(row))).into_response())
}

fn is_moving(state: RuntimeState) -> bool {
    match state {
        RuntimeState::Starting | RuntimeState::Warming | RuntimeState::Draining | RuntimeState::Backoff => {
            true
        }
        RuntimeState::Stopped
        | RuntimeState::Ready
        | RuntimeState::Degraded
        | RuntimeState::Quarantined
        | RuntimeState::Failed => false,
    }
}

/// How many of the newest lines.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Tail {
    tail: Option<usize>,
}

/// A few screenfuls. The log's own ring bounds what can be asked for.
const TAIL: usize = 200;

/// The newest lines that a runtime's program printed.
#[utoipa::path(get, path = "/runtimes/{id}/logs", tag = "runtimes", params(
    ("id" = String, Path),
    ("tail" = Option<usize>, Query, description = "how many lines; 200 when absent"),
), responses(
    (status = 200, body = LogLines),
    (status = 404, body = ProblemBody, content_type = "application/problem+json"),
))]
pub(crate) async fn logs(
    State(gate): State<Gate>,
    Name(id): Name,
    Params(tail): Params<Tail>,
) -> Result<Json<LogLines>, Problem> {
    let log = gate.node.runtimes.log(&id).map_err(|error| not_controlled(&error))?;
    let lines = log.lines(tail.tail.unwrap_or(TAIL)).iter().map(LogRow::from).collect();
    Ok(Json(LogLines { lines, dropped: log.dropped() }))
}

/// Where a stream of lines begins.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct FollowFrom {
    after: Option<u64>,
    tail: Option<u64>,
}

/// What a runtime's program prints, as it prints it.
#[utoipa::path(get, path = "/runtimes/{id}/logs/stream", tag = "runtimes",
    description = "Server-sent events: `line` with the line's number as id; `gap` (`{dropped}`) tells of lines that are no longer kept. The stream ends when the runtime is removed.",
    params(
        ("id" = String, Path),
        ("after" = Option<u64>, Query, description = "begin after this line"),
        ("tail" = Option<u64>, Query, description = "begin with so many of the newest lines"),
        ("Last-Event-ID" = Option<u64>, Header, description = "begin after this line"),
    ), responses(
        (status = 200, content_type = "text/event-stream", body = String),
        (status = 404, body = ProblemBody, content_type = "application/problem+json"),
    ))]
pub(crate) async fn logs_stream(
    State(gate): State<Gate>,
    Name(id): Name,
    headers: HeaderMap,
    Params(from): Params<FollowFrom>,
) -> Result<Response, Problem> {
    let log = gate.node.runtimes.log(&id).map_err(|error| not_controlled(&error))?;
    let last = sse::last_event_id(&headers).map(str::parse).transpose().map_err(|_| {
        Problem::field(
            "Last-Event-ID",
            "field `Last-Event-ID`: it must be a line's number",
            "leave it out to start live",
        )
    })?;
    let newest = log.newest();
    let after = last.or(from.after).unwrap_or_else(|| newest.saturating_sub(from.tail.unwrap_or(0)));
    let lines = lines(log.subscribe(after));
    sse::respond(&gate, lines.take_until(Box::pin(gone(gate.node.runtimes.clone(), id, log))))
}

/// Resolves when the runtime with this log is no longer there. One that is added again under its id has
/// another log.
async fn gone(runtimes: Runtimes, id: String, log: Arc<EngineLog>) {
    let mut changes = runtimes.changes();
    while runtimes.log(&id).is_ok_and(|now| Arc::ptr_eq(&now, &log)) {
        if changes.changed().await.is_err() {
            return;
        }
    }
}

/// Lines that are turned into events at once.
const LINES_AT_ONCE: usize = 64;

fn lines(follower: LogFollower) -> impl Stream<Item = Event> + Send {
    stream::unfold(follower, async |mut follower| Some((follower.next(LINES_AT_ONCE).await, follower)))
        .flat_map(|page| stream::iter(page_events(&page)))
}

fn page_events(page: &LogPage) -> Vec<Event> {
    let gap =
        (page.dropped > 0).then(|| Event::new("gap", format!("{{\"dropped\":{}}}", page.dropped).into()));
    let lines = page.lines.iter().map(|line| {
        // Texts and a time can always be written.
        let data = serde_json::to_vec(&LogRow::from(line)).unwrap_or_default();
        Event::new("line", data.into()).id(line.number)
    });
    gap.into_iter().chain(lines).collect()
}

#[cfg(test)]
mod tests {
    use arw_actors::runtime::launcher::Diagnosis;

    use super::*;

    /// HTTP-5: what, why and what to do.
    #[test]
    fn a_program_that_cannot_be_executed_is_refused_in_the_launchers_words() {
        let diagnosis = Diagnosis {
            cause: Cause::ProgramNotExecutable,
            detail: "program `/opt/x` cannot be executed: it may not be executed".to_owned(),
            hint: Some("`chmod +x /opt/x` if it is a program".to_owned()),
            permanent: true,
        };
        let problem = not_added(&AddRuntimeError::NoProgram(diagnosis)).to_rfc9457();
        assert_eq!((&problem["status"], &problem["field"]), (&422.into(), &"program".into()));
        assert_eq!(
            problem["detail"],
            "field `program`: program `/opt/x` cannot be executed: it may not be executed"
        );
        assert_eq!(problem["help"], "`chmod +x /opt/x` if it is a program");
    }

    /// HTTP-5.
    #[test]
    fn a_path_that_must_stay_closed_is_not_told_as_a_fault_of_the_program() {
        let diagnosis = Diagnosis {
            cause: Cause::SandboxDenied,
            detail: "--allow-read /s: the node's keys and data lie in it".to_owned(),
            hint: Some("name the folders beside the state folder one by one".to_owned()),
            permanent: true,
        };
        let problem = not_added(&AddRuntimeError::NoProgram(diagnosis)).to_rfc9457();
        assert_eq!((&problem["status"], &problem["field"]), (&422.into(), &serde_json::Value::Null));
        assert_eq!(problem["detail"], "--allow-read /s: the node's keys and data lie in it");
        assert_eq!(problem["help"], "name the folders beside the state folder one by one");
    }
}
