//! What members of the cluster may ask this node.
//!
//! Owns the table: being a member is the right to everything in it, and to nothing else (HTTP-16). Tokens do
//! not travel between nodes. Requests for models go to this node's own runtimes only, so that no request goes
//! round in circles.

use axum::Router;
use axum::handler::Handler;
use axum::middleware::from_fn_with_state;
use axum::response::Response;
use axum::routing::{MethodFilter, MethodRouter, on};
use http::Method;
use tower::util::MapResponseLayer;

use crate::control::journaled;
use crate::front::RoutePath;
use crate::openai;
use crate::resources::{cluster, node, state};
use crate::shared::Gate;
use crate::unrouted::{unknown_path, wrong_method};

/// HTTP-16: all of it, on one screen.
pub(super) fn table() -> Vec<(Method, &'static str, MethodRouter<Gate>)> {
    vec![
        get("/healthz", node::healthz),
        get("/state/{name}", state::for_peer),
        get("/state/{name}/stream", state::stream_for_peer),
        post("/v1/chat/completions", openai::chat_completions_here),
        post("/v1/completions", openai::completions_here),
        post("/v1/embeddings", openai::embeddings_here),
        // The home node only.
        post(cluster::DRAIN_YOURSELF, cluster::drain_for_peer),
        post(cluster::RESUME_YOURSELF, cluster::resume_for_peer),
    ]
}

fn get<H: Handler<T, Gate>, T: 'static>(
    path: &'static str,
    handler: H,
) -> (Method, &'static str, MethodRouter<Gate>) {
    (Method::GET, path, on(MethodFilter::GET, handler))
}

fn post<H: Handler<T, Gate>, T: 'static>(
    path: &'static str,
    handler: H,
) -> (Method, &'static str, MethodRouter<Gate>) {
    (Method::POST, path, on(MethodFilter::POST, handler))
}

/// The routes; what stands around all of them is `front.rs`, as for clients.
pub(crate) fn router(gate: &Gate) -> Router {
    let mut router = Router::new();
    for (method, path, handler) in table() {
        // HTTP-26.
        let handler = if method == Method::GET || path.starts_with("/v1/") {
            handler
        } else {
            handler.route_layer(from_fn_with_state(gate.clone(), journaled))
        };
        let named = MapResponseLayer::new(move |mut response: Response| {
            response.extensions_mut().insert(RoutePath(path));
            response
        });
        router = router.route(path, handler.route_layer(named));
    }
    router.fallback(unknown_path).method_not_allowed_fallback(wrong_method).with_state(gate.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// HTTP-16: members read state and use models; they manage nothing.
    #[test]
    fn members_change_nothing() {
        for (method, path, _) in table() {
            let is_use = method == Method::POST && path.starts_with("/v1/");
            let is_homes = [cluster::DRAIN_YOURSELF, cluster::RESUME_YOURSELF].contains(&path);
            assert!(is_use || is_homes || method == Method::GET, "{method} {path}");
            for closed in ["/tokens", "/runtimes", "/models", "/events", "/metrics", "/spec"] {
                assert!(!path.starts_with(closed), "{path}");
            }
        }
    }
}
