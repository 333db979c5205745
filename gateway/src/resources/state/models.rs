//! `/state/models`: every model, with the runtimes that use it.

use arw_actors::views::{Pace, Sources, View, next_change};
use futures_util::future::{FutureExt, select};
use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::shown::{members, read_model};
use crate::resources::models::dto::ModelRow;

read_model! {
    models, models_stream, "/state/models", "/state/models/stream", ModelsState,
    "Every model.",
    for_peers: true,
    View {
        name: "models",
        pace: Pace::Changes,
        // Who uses a model is part of its row.
        changes: |sources| *sources.models.changes().borrow() + *sources.runtimes.changes().borrow(),
        changed: |sources| {
            let (models, runtimes) = (sources.models.changes(), sources.runtimes.changes());
            select(next_change(models), next_change(runtimes)).map(|_| ()).boxed()
        },
        render,
    }
}

/// `/state/models`.
#[derive(Debug, Serialize, ToSchema)]
struct ModelsState {
    models: Vec<ModelRow>,
}

fn render(sources: &Sources) -> Map<String, Value> {
    let list = sources.models.list();
    let row = |model| {
        let used_by = sources.runtimes.users_of(|text| sources.models.leads_to(text, model));
        ModelRow::new(model, &used_by)
    };
    members(&ModelsState { models: list.iter().map(row).collect() })
}
