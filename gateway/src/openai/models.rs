//! `/v1/models`: what can be asked for.
//!
//! Owns the list as OpenAI's clients read it. Refuses to know runtimes: the kernel says who serves.

use arw_actors::runtime::directory::Served;
use arw_actors::runtime::machine::RuntimeState;
use axum::Json;
use axum::extract::State;

use crate::dto::openai::{ServedModel, ServedModels};
use crate::dto::problem::OpenAiError;
use crate::extract::Name;
use crate::problem::{Kind, Problem};
use crate::shared::{Gate, Shared};

/// Every model that can be asked.
#[utoipa::path(get, path = "/v1/models", tag = "v1", security(("token" = ["infer"])), responses((status = 200, body = ServedModels)))]
pub(crate) async fn list(State(gate): State<Gate>) -> Json<ServedModels> {
    let mut data: Vec<ServedModel> = Vec::new();
    for served in by_readiness(gate.node.runtimes.served()) {
        if !data.iter().any(|model| model.id == served.name) {
            data.push(to_model(&gate, served));
        }
    }
    data.sort_by(|a, b| a.id.cmp(&b.id));
    Json(ServedModels { object: "list", data })
}

/// One model, by its name or by its runtime's id.
#[utoipa::path(get, path = "/v1/models/{id}", tag = "v1", security(("token" = ["infer"])), params(("id" = String, Path)),
    responses((status = 200, body = ServedModel), (status = 404, body = OpenAiError)))]
pub(crate) async fn show(State(gate): State<Gate>, Name(id): Name) -> Result<Json<ServedModel>, Problem> {
    let all = by_readiness(gate.node.runtimes.served());
    let found = all
        .iter()
        .find(|served| served.name == id)
        .or_else(|| all.iter().find(|served| served.runtime.as_str() == id));
    // HTTP-10.
    let found = found.cloned().ok_or_else(|| {
        let id: String = id.chars().take(80).collect();
        let help = "name one of `known`; GET /v1/models lists them";
        Problem::new(Kind::ModelNotFound, format!("no runtime serves `{id}`"), help)
            .at("model")
            .with("known", gate.node.runtimes.known())
    })?;
    Ok(Json(to_model(&gate, found)))
}

/// Of several runtimes with the same model, the readiest comes first.
fn by_readiness(mut served: Vec<Served>) -> Vec<Served> {
    served.sort_by_key(|served| match served.state {
        RuntimeState::Ready => 0,
        RuntimeState::Degraded => 1,
        RuntimeState::Warming | RuntimeState::Starting => 2,
        RuntimeState::Stopped | RuntimeState::Draining | RuntimeState::Backoff => 3,
        RuntimeState::Quarantined | RuntimeState::Failed => 4,
    });
    served
}

fn to_model(shared: &Shared, served: Served) -> ServedModel {
    let record = shared.node.models.find(&served.name);
    let created = record.as_ref().map_or(shared.node.info.started_at, |record| record.imported_at);
    ServedModel {
        context_length: served.context_length.or_else(|| record.and_then(|record| record.context_length)),
        id: served.name,
        object: "model",
        created: created.as_millis() / 1000,
        owned_by: "arw",
        runtime: served.runtime.to_string(),
        state: served.state.word(),
    }
}
