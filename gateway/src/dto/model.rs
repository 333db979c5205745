//! Models, as `/models` and `/state/models` show them.

use arw_actors::ids::RuntimeId;
use arw_actors::model::ModelRecord;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::problem::ProblemBody;

/// A model file to be imported.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewModel {
    /// An absolute path on the node's machine.
    pub(crate) path: String,
    /// Absent: the file's name without its ending.
    pub(crate) name: Option<String>,
}

/// One model.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ModelRow {
    pub(crate) name: String,
    pub(crate) sha256: String,
    pub(crate) size_bytes: u64,
    pub(crate) architecture: String,
    pub(crate) parameters: u64,
    pub(crate) context_length: Option<u64>,
    pub(crate) quantisation: String,
    pub(crate) chat_template: bool,
    pub(crate) embedding: bool,
    pub(crate) imported_at: String,
    /// Ids of runtimes.
    pub(crate) used_by: Vec<String>,
}

impl ModelRow {
    pub(crate) fn new(model: &ModelRecord, used_by: &[RuntimeId]) -> Self {
        Self {
            name: model.name.clone(),
            sha256: model.sha256.to_string(),
            size_bytes: model.size_bytes,
            architecture: model.architecture.clone(),
            parameters: model.parameters,
            context_length: model.context_length,
            quantisation: model.quantisation.clone(),
            chat_template: model.chat_template,
            embedding: model.embedding,
            imported_at: model.imported_at.to_string(),
            used_by: used_by.iter().map(ToString::to_string).collect(),
        }
    }
}

/// One line of an import's answer.
#[derive(Debug, ToSchema)]
#[schema(rename_all = "snake_case")]
#[expect(dead_code, reason = "a shape for OpenAPI")]
pub(crate) enum ImportLine {
    /// It runs.
    Progress { done_bytes: u64, total_bytes: u64 },
    /// It is done.
    Model(ModelRow),
    /// It failed.
    Error(ProblemBody),
}
