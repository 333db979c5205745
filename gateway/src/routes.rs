//! Every route of every resource, as one router.
//!
//! Owns what stands before each route. What is answered where there is none stands in `unrouted.rs`. Refuses
//! to know the routes: the resources do.

use std::collections::BTreeSet;

use axum::Router;
use axum::middleware::from_fn_with_state;

use crate::auth::Guard;
use crate::control::{is_control, journaled};
use crate::resource::{Resource, Row};
use crate::resources;
use crate::shared::Gate;
use crate::unrouted::{unknown_path, wrong_method};

fn table() -> Vec<Row> {
    resources::all().into_iter().flat_map(|Resource { routes, .. }| routes).collect()
}

/// The first segments of all paths.
pub(crate) fn first_segments() -> BTreeSet<&'static str> {
    table().iter().filter_map(|row| row.path.split('/').nth(1)).collect()
}

/// The routes, each behind its guard, and those that change something journaled; what stands around all of
/// them is `front.rs`.
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
    use crate::auth::Access::{Needs, Read};
    use http::Method;

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
