//! What can go wrong between this program and a node, and what to tell the person about it.

use std::time::Duration;

use arw_actors::config::{format_duration, nearest};
use http::StatusCode;
use serde_json::Value;

use crate::failure::{Exit, Failure};

/// A call to a node did not work.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClientError {
    /// No connection, or it broke.
    #[error("no node answers at {url}: {why}")]
    Unreachable { url: String, why: String },
    /// Connected, but no answer in time.
    #[error("the node at {url} did not answer within {}", format_duration(*.waited))]
    Silent { url: String, waited: Duration },
    /// The node said no.
    #[error("{}", .0.detail)]
    Refused(Box<Problem>),
    /// The answer is not what `spec/http.md` says.
    #[error("the answer of {url} cannot be read: {why}")]
    Garbled { url: String, why: String },
}

/// A refusal: problem+json (RFC 9457), or OpenAI's error envelope under `/v1`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Problem {
    pub(crate) status: u16,
    pub(crate) title: String,
    pub(crate) detail: String,
    pub(crate) help: String,
    /// Names that exist, where something unknown was asked for.
    pub(crate) known: Vec<String>,
    /// What was asked for, as far as the call shows it.
    pub(crate) asked: Vec<String>,
    /// Why this program sent no token, when it sent none.
    pub(crate) token_note: Option<String>,
}

impl Problem {
    /// From the body of an answer with an error status; a body in no known form gives the status's own words.
    pub(crate) fn from_answer(status: StatusCode, body: &[u8], asked: &[String]) -> Self {
        let body: Value = serde_json::from_slice(body).unwrap_or(Value::Null);
        Self::from_body(status.as_u16(), &body, asked)
    }

    /// From a problem inside a stream.
    pub(crate) fn from_body(status: u16, body: &Value, asked: &[String]) -> Self {
        let envelope = body.get("error").filter(|error| error.is_object()).unwrap_or(body);
        let text = |name: &str| envelope.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        let known = envelope.get("known").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        let words = StatusCode::from_u16(status).ok().and_then(|status| status.canonical_reason());
        let title = Some(text("title")).filter(|title| !title.is_empty());
        let detail = [text("detail"), text("message")].into_iter().find(|text| !text.is_empty());
        let mut detail = detail.unwrap_or_default();
        if let Some(runtime) = envelope.get("runtime").or_else(|| body.get("runtime")) {
            detail = with_runtime(detail, runtime);
        }
        Self {
            status: envelope
                .get("status")
                .and_then(Value::as_u64)
                .and_then(|s| u16::try_from(s).ok())
                .unwrap_or(status),
            title: title.unwrap_or_else(|| words.unwrap_or("refused").to_lowercase()),
            detail,
            help: text("help"),
            known: known.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
            asked: asked.to_vec(),
            token_note: None,
        }
    }
}

/// HTTP-11: a 503 carries the runtime's state, reason and hint.
fn with_runtime(detail: String, runtime: &Value) -> String {
    let text = |name: &str| runtime.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
    let mut lines: Vec<String> = Some(detail).filter(|detail| !detail.is_empty()).into_iter().collect();
    if let (Some(id), Some(state)) = (text("id"), text("state")) {
        lines.push(format!("runtime {id} is {state}"));
    }
    lines.extend(text("reason").map(str::to_owned));
    lines.extend(text("hint").map(str::to_owned));
    lines.dedup();
    lines.join("\n")
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        match error {
            ClientError::Unreachable { url, why } => Self::new(
                Exit::Unreachable,
                format!("no node answers at {url}"),
                why,
                "start one with `arw up`, or name another one with --server URL; `arw doctor` looks for the cause",
            ),
            ClientError::Silent { url, waited } => Self::new(
                Exit::Unreachable,
                format!("the node at {url} does not answer"),
                format!("it took the connection, but no answer came within {}", format_duration(waited)),
                "try again; if it stays silent, look at its log, or restart it",
            ),
            ClientError::Refused(problem) => refused(&problem),
            ClientError::Garbled { url, why } => Self::new(
                Exit::Failed,
                format!("the answer of {url} cannot be read"),
                why,
                "check that an ARW node of the same version listens there (`arw status` shows its version)",
            ),
        }
    }
}

fn refused(problem: &Problem) -> Failure {
    let (exit, advice) = match problem.status {
        401 => (
            Exit::Denied,
            "set ARW_TOKEN to a valid token; on the node's machine `arw token create NAME` makes one",
        ),
        403 => (
            Exit::Denied,
            "use a token with the scope it names; `arw token create NAME --scope SCOPE` makes one",
        ),
        404 => (Exit::NotFound, "check the name"),
        409 => (Exit::Failed, "see the state it is in with `arw status`"),
        413 => (Exit::Failed, "send less at once"),
        421 => (
            Exit::Failed,
            "add the host name to gateway.allowed_hosts of the node, or call it by a loopback address",
        ),
        422 => (Exit::Failed, "correct the value it names"),
        429 => (Exit::Failed, "wait for running requests to finish, then try again"),
        503 => (Exit::Failed, "wait until it is ready, then try again; `arw runtime list` shows the states"),
        _ => (Exit::Failed, "look at the node's log for more"),
    };
    let mut why = if problem.detail.is_empty() { problem.title.clone() } else { problem.detail.clone() };
    if let (401, Some(note)) = (problem.status, &problem.token_note) {
        why = format!("{why}\n{note}");
    }
    let mut help = if problem.help.is_empty() { advice.to_owned() } else { problem.help.clone() };
    if !problem.known.is_empty() {
        let near = |asked: &String| nearest(asked, problem.known.iter().map(String::as_str));
        // The node may have said so itself, and knows more of names.
        let near = problem.asked.iter().find_map(near).filter(|_| !help.contains("did you mean"));
        if let Some(near) = near {
            help = format!("did you mean {near}? {help}");
        }
        why = format!("{why}\nknown: {}", problem.known.join(", "));
    }
    Failure::new(exit, format!("the node refused: {} ({})", problem.title, problem.status), why, help)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn told(status: u16, body: &Value, asked: &str) -> (Exit, String) {
        let problem = Problem::from_body(status, body, &[asked.to_owned()]);
        match Failure::from(ClientError::Refused(Box::new(problem))) {
            Failure::Told(told) => (told.exit, told.text()),
            Failure::OutputClosed => panic!("nothing told"),
        }
    }

    #[test]
    fn a_problem_is_told_in_the_nodes_words() {
        let body = json!({"type": "about:blank", "title": "wrong state", "status": 409,
            "detail": "model a is used by runtime b", "help": "remove runtime b first"});
        let (exit, text) = told(409, &body, "a");
        assert_eq!(exit, Exit::Failed);
        assert_eq!(
            text,
            "error: the node refused: wrong state (409)\n  why: model a is used by runtime b\n  do:  remove runtime b first\n"
        );
    }

    #[test]
    fn an_unknown_name_comes_with_the_known_ones_and_the_nearest() {
        let body =
            json!({"title": "not found", "detail": "no runtime smolm2", "known": ["smollm2", "whisper"]});
        let (exit, text) = told(404, &body, "smolm2");
        assert_eq!(exit, Exit::NotFound);
        assert!(text.contains("known: smollm2, whisper") && text.contains("did you mean smollm2?"), "{text}");
        // Once, where the node says so itself.
        let body = json!({"error": {"message": "x", "help": "did you mean `smollm2`?", "known": ["smollm2", "whisper"]}});
        let (_, text) = told(404, &body, "smolm2");
        assert_eq!(text.matches("did you mean").count(), 1, "{text}");
    }

    #[test]
    fn openais_envelope_is_understood_with_the_runtimes_state() {
        let body = json!({"error": {"message": "not ready", "type": "unavailable", "code": "not_ready", "param": null,
            "runtime": {"id": "a", "state": "quarantined", "reason": "5 restarts in 5 min", "hint": "look at the log"}}});
        let (exit, text) = told(503, &body, "");
        assert_eq!(exit, Exit::Failed);
        assert!(text.contains("runtime a is quarantined") && text.contains("5 restarts in 5 min"), "{text}");
    }

    #[test]
    fn a_body_in_no_known_form_still_gives_an_error() {
        let problem = Problem::from_answer(StatusCode::FORBIDDEN, b"<html>", &[]);
        assert_eq!((problem.status, problem.title.as_str()), (403, "forbidden"));
        assert_eq!(told(401, &Value::Null, "").0, Exit::Denied);
    }
}
