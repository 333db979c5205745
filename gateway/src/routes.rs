//! Every route: method, path, who may call it, and who answers.
//!
//! Owns the table. What is answered where it has nothing stands in `unrouted.rs`. Refuses to do anything
//! else.

use arw_actors::policy::Scope::{ClusterManage, Infer, ModelManage, RuntimeManage, TokenManage};
use axum::Router;
use axum::handler::Handler;
use axum::middleware::from_fn_with_state;
use axum::routing::{MethodFilter, MethodRouter, on};
use http::Method;

use crate::auth::{Access, Guard};
use crate::control::{is_control, journaled};
use crate::openai;
use crate::resources::{cluster, events, models, node, runtimes, state, tokens};
use crate::shared::Gate;
use crate::unrouted::{unknown_path, wrong_method};
use Access::{Needs, Read};

/// One row of the table.
pub(crate) struct Row {
    pub(crate) method: Method,
    pub(crate) path: &'static str,
    pub(crate) access: Access,
    handler: MethodRouter<Gate>,
}

/// HTTP-4: who may call what, on one screen.
pub(crate) fn table() -> Vec<Row> {
    vec![
        get("/healthz", Read, node::healthz),
        get("/readyz", Read, node::readyz),
        get("/metrics", Read, node::metrics),
        get("/spec/openapi.json", Read, node::openapi),
        get("/state/node", Read, state::node),
        get("/state/node/stream", Read, state::node_stream),
        get("/state/actors", Read, state::actors),
        get("/state/actors/stream", Read, state::actors_stream),
        get("/state/runtimes", Read, state::runtimes),
        get("/state/runtimes/stream", Read, state::runtimes_stream),
        get("/state/models", Read, state::models),
        get("/state/models/stream", Read, state::models_stream),
        get("/state/cluster", Read, state::cluster),
        get("/state/cluster/stream", Read, state::cluster_stream),
        get("/state/{name}", Read, state::unknown),
        get("/events", Read, events::page),
        get("/events/stream", Read, events::live),
        get("/runtimes/{id}/logs", Read, runtimes::logs),
        get("/runtimes/{id}/logs/stream", Read, runtimes::logs_stream),
        post("/runtimes", Needs(RuntimeManage), runtimes::add),
        delete("/runtimes/{id}", Needs(RuntimeManage), runtimes::remove),
        post("/runtimes/{id}/start", Needs(RuntimeManage), runtimes::start),
        post("/runtimes/{id}/stop", Needs(RuntimeManage), runtimes::stop),
        post("/runtimes/{id}/restart", Needs(RuntimeManage), runtimes::restart),
        post("/models/import", Needs(ModelManage), models::import),
        delete("/models/{name}", Needs(ModelManage), models::remove),
        get("/tokens", Needs(TokenManage), tokens::list),
        post("/tokens", Needs(TokenManage), tokens::create),
        delete("/tokens/{id}", Needs(TokenManage), tokens::revoke),
        get("/cluster/tokens", Needs(ClusterManage), cluster::tokens),
        post("/cluster/tokens", Needs(ClusterManage), cluster::create_token),
        delete("/cluster/tokens/{id}", Needs(ClusterManage), cluster::revoke_token),
        post("/cluster/join", Needs(ClusterManage), cluster::join),
        post("/cluster/leave", Needs(ClusterManage), cluster::leave),
        delete("/cluster/nodes/{node}", Needs(ClusterManage), cluster::remove),
        post("/cluster/nodes/{node}/drain", Needs(ClusterManage), cluster::drain),
        post("/cluster/nodes/{node}/resume", Needs(ClusterManage), cluster::resume),
        get("/v1/models", Needs(Infer), openai::models::list),
        get("/v1/models/{*id}", Needs(Infer), openai::models::show),
        post("/v1/chat/completions", Needs(Infer), openai::chat_completions),
        post("/v1/completions", Needs(Infer), openai::completions),
        post("/v1/embeddings", Needs(Infer), openai::embeddings),
    ]
}

fn get<H: Handler<T, Gate>, T: 'static>(path: &'static str, access: Access, handler: H) -> Row {
    Row { method: Method::GET, path, access, handler: on(MethodFilter::GET, handler) }
}

fn post<H: Handler<T, Gate>, T: 'static>(path: &'static str, access: Access, handler: H) -> Row {
    Row { method: Method::POST, path, access, handler: on(MethodFilter::POST, handler) }
}

fn delete<H: Handler<T, Gate>, T: 'static>(path: &'static str, access: Access, handler: H) -> Row {
    Row { method: Method::DELETE, path, access, handler: on(MethodFilter::DELETE, handler) }
}

/// The routes, each behind its guard, and those that change something journaled; what stands around all of them is `front.rs`.
pub(crate) fn router(gate: &Gate) -> Router {
    let mut router = Router::new();
    for Row { method, path, access, handler } in table() {
        // HTTP-26.
        let handler = if is_control(&method, access) {
            handler.route_layer(from_fn_with_state(gate.clone(), journaled))
        } else {
            handler
        };
        let guard = Guard { gate: gate.clone(), access, path };
        router = router.route(path, handler.route_layer(guard));
    }
    router.fallback(unknown_path).method_not_allowed_fallback(wrong_method).with_state(gate.clone())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// The route table and the OpenAPI document name the same calls with the same scopes.
    #[test]
    fn every_route_is_documented_as_it_is() {
        let document: serde_json::Value = serde_json::from_str(&crate::openapi::json()).unwrap();
        let mut documented = BTreeMap::new();
        for (path, item) in document["paths"].as_object().unwrap() {
            for (method, operation) in item.as_object().unwrap() {
                let scope = operation["security"][0]["token"][0].as_str().map(str::to_owned);
                documented.insert((path.clone(), method.to_uppercase()), scope);
            }
        }
        // Not a call of its own: it answers for names that do not exist.
        let rows = table().into_iter().filter(|row| row.path != "/state/{name}");
        let routed: BTreeMap<_, _> = rows
            .map(|row| {
                let scope = match row.access {
                    Read => None,
                    Needs(scope) => Some(scope.as_str().to_owned()),
                };
                ((row.path.replace("{*", "{"), row.method.to_string()), scope)
            })
            .collect();
        assert_eq!(routed, documented);
    }

    /// HTTP-4: what is open is open by name, and nothing that changes anything is.
    #[test]
    fn only_reads_are_open() {
        for row in table() {
            if row.access == Read {
                assert_eq!(row.method, Method::GET, "{}", row.path);
                let open = [
                    "/healthz",
                    "/readyz",
                    "/metrics",
                    "/state/",
                    "/events",
                    "/runtimes/{id}/logs",
                    "/spec/",
                ];
                assert!(open.iter().any(|prefix| row.path.starts_with(prefix)), "{}", row.path);
            }
        }
    }
}
