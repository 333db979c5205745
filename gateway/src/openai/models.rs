//! `/v1/models`: what can be asked for, on this node and on others.
//!
//! Owns the list as OpenAI's clients read it. Refuses to know runtimes: the kernel says who serves.

use arw_actors::cluster::ModelHost;
use arw_actors::runtime::directory::Served;
use arw_actors::runtime::machine::RuntimeState;
use axum::Json;
use axum::extract::State;

use super::dto::{ServedModel, ServedModels};
use super::refusal;
use super::route::{self, Snapshot};
use crate::extract::Name;
use crate::problem::{OpenAiError, Problem};
use crate::shared::{Gate, Shared};

/// Every model that can be asked.
#[utoipa::path(get, path = "/v1/models", tag = "v1", responses((status = 200, body = ServedModels)))]
pub(crate) async fn list(State(gate): State<Gate>) -> Json<ServedModels> {
    let mut data: Vec<ServedModel> = Vec::new();
    for model in all(&gate) {
        if !data.iter().any(|listed| listed.id == model.id) {
            data.push(model);
        }
    }
    data.sort_by(|a, b| a.id.cmp(&b.id));
    Json(ServedModels { object: "list", data })
}

/// One model, by whatever a request may call it.
#[utoipa::path(get, path = "/v1/models/{id}", tag = "v1", params(("id" = String, Path)),
    responses((status = 200, body = ServedModel), (status = 404, body = OpenAiError)))]
pub(crate) async fn show(State(gate): State<Gate>, Name(id): Name) -> Result<Json<ServedModel>, Problem> {
    let info = &gate.node.info;
    let (own, others) = (gate.node.runtimes.served(), gate.node.cluster.hosts());
    // HTTP-10 and HTTP-17: a name is the same here as in a request.
    let (here, elsewhere) =
        route::meant(&id, Snapshot { here: (info.id, &info.name), own: &own, others: &others });
    let here = here.into_iter().min_by_key(|served| readiness(served.state.word()));
    let elsewhere = elsewhere.into_iter().min_by_key(|host| (readiness(&host.state), host.busy));
    match (here, elsewhere) {
        (Some(served), _) => Ok(Json(own_model(&gate, served.clone()))),
        (None, Some(host)) => Ok(Json(others_model(&gate, host))),
        (None, None) => {
            let absent = route::absent(Some(&id), gate.node.cluster.absent());
            if !absent.is_empty() {
                return Err(refusal::absent(Some(&id), &absent));
            }
            Err(refusal::unknown_model(&id, route::names(gate.node.runtimes.known(), &others)))
        }
    }
}

/// HTTP-17: this node's models before those of others, and of several runtimes with the same model the
/// readiest first.
fn all(shared: &Shared) -> Vec<ServedModel> {
    let mut own = shared.node.runtimes.served();
    own.sort_by_key(|served| readiness(served.state.word()));
    let hosts = shared.node.cluster.hosts();
    let mut others: Vec<&ModelHost> = hosts.iter().collect();
    others.sort_by_key(|host| (readiness(&host.state), host.busy));
    let own = own.into_iter().map(|served| own_model(shared, served));
    own.chain(others.into_iter().map(|host| others_model(shared, host))).collect()
}

/// Less is readier. A word that a newer node may have comes last.
fn readiness(state: &str) -> u8 {
    const ORDER: [&[RuntimeState]; 5] = [
        &[RuntimeState::Ready],
        &[RuntimeState::Degraded],
        &[RuntimeState::Warming, RuntimeState::Starting],
        &[RuntimeState::Stopped, RuntimeState::Draining, RuntimeState::Backoff],
        &[RuntimeState::Quarantined, RuntimeState::Failed],
    ];
    let place = ORDER.iter().position(|states| states.iter().any(|known| known.word() == state));
    place.and_then(|place| u8::try_from(place).ok()).unwrap_or(u8::MAX)
}

fn own_model(shared: &Shared, served: Served) -> ServedModel {
    let record = shared.node.models.find(&served.name);
    let created = record.as_ref().map_or(shared.node.info.started_at, |record| record.imported_at);
    ServedModel {
        context_length: served.context_length.or_else(|| record.and_then(|record| record.context_length)),
        id: served.name,
        object: "model",
        created: created.as_millis() / 1000,
        owned_by: "arw",
        runtime: served.runtime.to_string(),
        state: served.state.word().to_owned(),
        node: shared.node.info.id.to_string(),
        node_name: shared.node.info.name.clone(),
    }
}

fn others_model(shared: &Shared, host: &ModelHost) -> ServedModel {
    ServedModel {
        id: host.model.clone(),
        object: "model",
        // Cards do not tell when a model came.
        created: shared.node.info.started_at.as_millis() / 1000,
        owned_by: "arw",
        context_length: host.context_length,
        runtime: host.runtime.clone(),
        state: host.state.clone(),
        node: host.node.to_string(),
        node_name: host.node_name.clone(),
    }
}
