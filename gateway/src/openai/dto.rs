//! The OpenAI-compatible API's own shapes: what ARW itself writes. Requests and answers of engines pass
//! through untyped.

use serde::Serialize;
use utoipa::ToSchema;

/// `GET /v1/models`.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ServedModels {
    /// Always `list`.
    pub(crate) object: &'static str,
    pub(crate) data: Vec<ServedModel>,
}

/// A model that can be asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct ServedModel {
    pub(crate) id: String,
    /// Always `model`.
    pub(crate) object: &'static str,
    /// Seconds since 1970.
    pub(crate) created: i64,
    /// Always `arw`.
    pub(crate) owned_by: &'static str,
    /// The most tokens of a conversation, as far as known.
    pub(crate) context_length: Option<u64>,
    /// Which runtime serves it.
    pub(crate) runtime: String,
    /// That runtime's state; one that is stopped starts on the first request.
    pub(crate) state: String,
    /// The id of the node that it is on.
    pub(crate) node: String,
    /// What that node calls itself.
    pub(crate) node_name: String,
}
