//! Refusals: what went wrong, why, and what to do, in one shape for every route.
//!
//! Owns [`Problem`] and its two forms on the wire: RFC 9457 for the API, OpenAI's envelope under `/v1`. A
//! handler only says what is wrong; `front.rs` renders it, because the form depends on the path. Refuses to
//! know why a request was refused.

mod body;

use std::time::Duration;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::header::{ACCEPT_ENCODING, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use serde_json::{Map, Value, json};

pub(crate) use self::body::{OpenAiError, ProblemBody};

/// OpenAI's clients obey it, whatever the status.
pub(crate) const X_SHOULD_RETRY: HeaderName = HeaderName::from_static("x-should-retry");

/// What kind of refusal it is: decides status, stable word and title.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    TokenMissing,
    TokenRefused,
    ScopeMissing,
    NotFound,
    ModelNotFound,
    MethodNotAllowed,
    BodyTooSlow,
    Conflict,
    BodyTooLarge,
    HeadTooLarge,
    NotJson,
    BodyCompressed,
    BodyNotUtf8,
    BadJson,
    BadField,
    ModelNotNamed,
    WrongHost,
    QueueFull,
    TooManyStreams,
    NotReady,
    NotStored,
    EngineLost,
    EngineError,
    EngineTimeout,
    KillsEngine,
    NodeRefused,
    NodeLost,
    NodeUnreachable,
    Internal,
}

impl Kind {
    /// HTTP-5: status, stable word and title of each refusal.
    fn facts(self) -> (StatusCode, &'static str, &'static str) {
        match self {
            Self::TokenMissing => (StatusCode::UNAUTHORIZED, "token_missing", "A token is needed"),
            Self::TokenRefused => (StatusCode::UNAUTHORIZED, "token_refused", "The token is not accepted"),
            Self::ScopeMissing => (StatusCode::FORBIDDEN, "scope_missing", "The token does not allow this"),
            Self::NotFound => (StatusCode::NOT_FOUND, "not_found", "There is no such thing"),
            Self::ModelNotFound => (StatusCode::NOT_FOUND, "model_not_found", "No runtime serves this model"),
            Self::MethodNotAllowed => {
                (StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", "This path has no such method")
            }
            Self::BodyTooSlow => (StatusCode::REQUEST_TIMEOUT, "body_too_slow", "The body came too slowly"),
            Self::Conflict => (StatusCode::CONFLICT, "conflict", "This is not possible in the present state"),
            Self::BodyTooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", "The body is too large"),
            Self::HeadTooLarge => (
                StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
                "head_too_large",
                "The address and headers are too large",
            ),
            Self::NotJson => (StatusCode::UNSUPPORTED_MEDIA_TYPE, "not_json", "The body is not JSON"),
            Self::BodyCompressed => {
                (StatusCode::UNSUPPORTED_MEDIA_TYPE, "body_compressed", "The body is compressed")
            }
            Self::BodyNotUtf8 => {
                (StatusCode::UNSUPPORTED_MEDIA_TYPE, "body_not_utf8", "The body is not in UTF-8")
            }
            Self::BadJson => (StatusCode::BAD_REQUEST, "bad_json", "The body is not valid JSON"),
            Self::BadField => (StatusCode::UNPROCESSABLE_ENTITY, "bad_field", "A field is not acceptable"),
            Self::ModelNotNamed => (StatusCode::BAD_REQUEST, "model_not_named", "The request names no model"),
            Self::WrongHost => (StatusCode::MISDIRECTED_REQUEST, "wrong_host", "This node has another name"),
            Self::QueueFull => (StatusCode::TOO_MANY_REQUESTS, "queue_full", "Too many requests wait"),
            Self::TooManyStreams => {
                (StatusCode::TOO_MANY_REQUESTS, "too_many_streams", "Too many event streams are open")
            }
            Self::NotReady => (StatusCode::SERVICE_UNAVAILABLE, "not_ready", "It is not ready"),
            Self::NotStored => (StatusCode::SERVICE_UNAVAILABLE, "not_stored", "It could not be stored"),
            Self::EngineLost => (StatusCode::BAD_GATEWAY, "engine_lost", "The engine was lost"),
            Self::EngineError => (StatusCode::BAD_GATEWAY, "engine_error", "The engine refused"),
            Self::EngineTimeout => {
                (StatusCode::GATEWAY_TIMEOUT, "engine_timeout", "The engine did not answer in time")
            }
            Self::KillsEngine => {
                (StatusCode::UNPROCESSABLE_ENTITY, "kills_engine", "The engine dies of this request")
            }
            Self::NodeRefused => (StatusCode::BAD_GATEWAY, "node_refused", "Another node refused"),
            Self::NodeLost => (StatusCode::BAD_GATEWAY, "node_lost", "The other node was lost"),
            Self::NodeUnreachable => {
                (StatusCode::SERVICE_UNAVAILABLE, "node_unreachable", "The other node cannot be reached")
            }
            Self::Internal => (StatusCode::INTERNAL_SERVER_ERROR, "internal", "Something in this node broke"),
        }
    }
}

impl Kind {
    /// HTTP-5: the word under `/v1`: OpenAI's where clients know one, else this API's own.
    fn openai_code(self) -> &'static str {
        match self {
            Self::TokenRefused => "invalid_api_key",
            other => other.facts().1,
        }
    }
}

/// A refusal. Small to pass around; everything in it may be shown to the client.
#[derive(Clone, Debug)]
pub(crate) struct Problem(Box<Refusal>);

#[derive(Clone, Debug)]
struct Refusal {
    kind: Kind,
    detail: String,
    help: String,
    field: Option<String>,
    retry_after: Option<Duration>,
    /// In which form it is told; else in that of the path.
    form: Option<Form>,
    /// Sending it again as it is would do harm.
    is_final: bool,
    extra: Map<String, Value>,
}

impl Problem {
    /// `detail` says what is wrong and why, `help` what to do about it.
    pub(crate) fn new(kind: Kind, detail: impl Into<String>, help: impl Into<String>) -> Self {
        Self(Box::new(Refusal {
            kind,
            detail: detail.into(),
            help: help.into(),
            field: None,
            retry_after: None,
            form: None,
            is_final: false,
            extra: Map::new(),
        }))
    }

    /// A field that is unknown, missing or ill-typed.
    pub(crate) fn field(field: &str, detail: impl Into<String>, help: impl Into<String>) -> Self {
        Self::new(Kind::BadField, detail, help).at(field)
    }

    /// Which field of the body or query is meant.
    pub(crate) fn at(mut self, field: &str) -> Self {
        self.0.field = Some(field.to_owned());
        self
    }

    /// When trying again makes sense.
    pub(crate) fn retry_after(mut self, after: Duration) -> Self {
        self.0.retry_after = Some(after);
        self
    }

    /// It is for clients of this form, whatever the path.
    pub(crate) fn in_form(mut self, form: Form) -> Self {
        self.0.form = Some(form);
        self
    }

    /// HTTP-22: clients shall not send the request again by themselves.
    pub(crate) fn for_good(mut self) -> Self {
        self.0.is_final = true;
        self
    }

    /// More of what is wrong.
    pub(crate) fn add_detail(&mut self, more: &str) {
        self.0.detail.push_str(": ");
        self.0.detail.push_str(more);
    }

    /// A further member.
    pub(crate) fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.0.extra.insert(name.to_owned(), value.into());
        self
    }

    /// Its status.
    pub(crate) fn status(&self) -> StatusCode {
        self.0.kind.facts().0
    }

    /// Its stable word.
    pub(crate) fn word(&self) -> &'static str {
        self.0.kind.facts().1
    }

    /// What is wrong.
    pub(crate) fn detail(&self) -> &str {
        &self.0.detail
    }

    /// Its body after RFC 9457.
    pub(crate) fn to_rfc9457(&self) -> Value {
        let (status, word, title) = self.0.kind.facts();
        let mut body = self.0.extra.clone();
        body.insert("type".to_owned(), format!("urn:arw:problem:{word}").into());
        body.insert("title".to_owned(), title.into());
        body.insert("status".to_owned(), status.as_u16().into());
        body.insert("detail".to_owned(), self.0.detail.clone().into());
        body.insert("help".to_owned(), self.0.help.clone().into());
        if let Some(field) = &self.0.field {
            body.insert("field".to_owned(), field.clone().into());
        }
        Value::Object(body)
    }

    /// Its body as OpenAI clients read it.
    pub(crate) fn to_openai(&self) -> Value {
        let mut error = self.0.extra.clone();
        error.insert("message".to_owned(), self.0.detail.clone().into());
        error.insert("type".to_owned(), openai_type(self.status()).into());
        error.insert("code".to_owned(), self.0.kind.openai_code().into());
        error.insert("param".to_owned(), self.0.field.clone().map_or(Value::Null, Value::String));
        error.insert("help".to_owned(), self.0.help.clone().into());
        json!({ "error": error })
    }

    /// The whole answer, in the form that belongs to the path, unless it has one of its own.
    pub(crate) fn render(&self, form: Form) -> Response {
        let (body, content_type) = match self.0.form.unwrap_or(form) {
            Form::Rfc9457 => (self.to_rfc9457(), "application/problem+json"),
            Form::OpenAi => (self.to_openai(), "application/json"),
        };
        let mut response = Response::new(Body::from(body.to_string()));
        *response.status_mut() = self.status();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        if self.status() == StatusCode::UNAUTHORIZED {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"arw\""));
        }
        if self.0.kind == Kind::BodyCompressed {
            headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        }
        if let Some(after) = self.0.retry_after {
            headers.insert(RETRY_AFTER, seconds(after));
        }
        if self.0.is_final {
            headers.insert(X_SHOULD_RETRY, HeaderValue::from_static("false"));
        }
        response
    }
}

/// In which form refusals travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    Rfc9457,
    OpenAi,
}

impl Form {
    /// The form that belongs to a path.
    pub(crate) fn of_path(path: &str) -> Self {
        if path == "/v1" || path.starts_with("/v1/") { Self::OpenAi } else { Self::Rfc9457 }
    }
}

/// OpenAI's word for a kind of error.
pub(crate) fn openai_type(status: StatusCode) -> &'static str {
    match status.as_u16() {
        401 => "authentication_error",
        403 => "permission_error",
        429 => "rate_limit_error",
        400..=499 => "invalid_request_error",
        _ => "server_error",
    }
}

/// Whole seconds, at least one: `Retry-After: 0` makes clients spin.
fn seconds(span: Duration) -> HeaderValue {
    HeaderValue::from(span.as_secs() + u64::from(span.subsec_nanos() > 0 || span.is_zero()))
}

/// Carries the problem in the extensions: `front.rs` puts the body in, in the form that belongs to the path.
impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = self.status();
        response.extensions_mut().insert(self);
        response
    }
}

/// Takes the problem out of an answer and renders it; other answers stay as they are. Headers that were set
/// on the way stay.
pub(crate) fn render_problem(mut response: Response, form: Form) -> Response {
    let Some(problem) = response.extensions_mut().remove::<Problem>() else { return response };
    let mut rendered = problem.render(form);
    let kept: HeaderMap = std::mem::take(response.headers_mut());
    for (name, value) in &kept {
        rendered.headers_mut().entry(name).or_insert_with(|| value.clone());
    }
    // The body's length was that of an empty one.
    rendered.headers_mut().remove(http::header::CONTENT_LENGTH);
    *rendered.extensions_mut() = std::mem::take(response.extensions_mut());
    rendered
}

#[cfg(test)]
mod tests {
    use super::*;

    /// HTTP-5: both forms say what, why and what to do.
    #[test]
    fn a_refusal_says_the_same_in_both_forms() {
        let problem = Problem::field("modle", "unknown field `modle`", "did you mean `model`?")
            .with("known", vec!["a"]);
        let api = problem.to_rfc9457();
        assert_eq!(api["type"], "urn:arw:problem:bad_field");
        assert_eq!(api["status"], 422);
        assert_eq!(api["title"], "A field is not acceptable");
        assert_eq!(api["detail"], "unknown field `modle`");
        assert_eq!(api["help"], "did you mean `model`?");
        assert_eq!(api["field"], "modle");
        assert_eq!(api["known"], json!(["a"]));
        let openai = problem.to_openai();
        assert_eq!(
            openai["error"],
            json!({"message": "unknown field `modle`", "type": "invalid_request_error", "code": "bad_field",
                   "param": "modle", "help": "did you mean `model`?", "known": ["a"]})
        );
    }

    #[test]
    fn a_client_is_never_told_to_try_again_at_once() {
        for (span, text) in [(0, "1"), (1, "1"), (999, "1"), (1000, "1"), (1001, "2"), (5000, "5")] {
            assert_eq!(seconds(Duration::from_millis(span)), text, "{span}");
        }
    }

    #[test]
    fn only_paths_under_v1_speak_openai() {
        assert_eq!(Form::of_path("/v1/models"), Form::OpenAi);
        assert_eq!(Form::of_path("/v1"), Form::OpenAi);
        assert_eq!(Form::of_path("/v12"), Form::Rfc9457);
        assert_eq!(Form::of_path("/state/node"), Form::Rfc9457);
    }
}
