//! Models, as `/models` and `/state/models` show them.

use arw_actors::ids::RuntimeId;
use arw_actors::model::ModelRecord;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::problem::ProblemBody;

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
    /// Further names of the same content.
    pub(crate) aliases: Vec<String>,
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
            aliases: model.aliases.clone(),
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

/// One line of an import's answer: how far it is, what it led to, or why it failed.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "a shape for OpenAPI")]
pub(crate) struct ImportLine {
    pub(crate) progress: Option<ImportProgress>,
    pub(crate) model: Option<ModelRow>,
    /// With `model`: the content was in the store already. It was not copied again; a `name` that was asked
    /// for is one of its names now.
    pub(crate) known: Option<bool>,
    pub(crate) error: Option<ProblemBody>,
}

/// How far an import is.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "a shape for OpenAPI")]
pub(crate) struct ImportProgress {
    pub(crate) done_bytes: u64,
    pub(crate) total_bytes: u64,
}
