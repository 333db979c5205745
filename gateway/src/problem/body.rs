//! Refusals, for OpenAPI. `problem.rs` writes them.

use utoipa::ToSchema;

/// RFC 9457. Some refusals have further members (`known`, `scope`, `used_by`, `runtime`).
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "a shape for OpenAPI; a test holds it against real refusals")]
pub(crate) struct ProblemBody {
    /// `urn:arw:problem:` and a stable word.
    #[schema(rename = "type")]
    pub(crate) kind: String,
    pub(crate) title: String,
    pub(crate) status: u16,
    /// What is wrong, and why.
    pub(crate) detail: String,
    /// What to do about it.
    pub(crate) help: String,
    /// The field that is meant.
    pub(crate) field: Option<String>,
    /// What could have been named instead.
    pub(crate) known: Option<Vec<String>>,
}

/// A refusal under `/v1`.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "a shape for OpenAPI; a test holds it against real refusals")]
pub(crate) struct OpenAiError {
    pub(crate) error: OpenAiErrorBody,
}

/// What OpenAI's clients look at. Some refusals have further members (`known`, `runtime`).
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "a shape for OpenAPI; a test holds it against real refusals")]
pub(crate) struct OpenAiErrorBody {
    pub(crate) message: String,
    #[schema(rename = "type")]
    pub(crate) kind: String,
    pub(crate) code: Option<String>,
    pub(crate) param: Option<String>,
    pub(crate) help: Option<String>,
    pub(crate) known: Option<Vec<String>>,
}
