//! The HTTP gateway of a node: state, events, control and the OpenAI-compatible API.
//!
//! Owns everything between a TCP connection and the node's facade ([`arw_actors::node::Node`]).
//! `spec/http.md` is its contract; the code that enforces a rule names it (`HTTP-5`). Refuses to decide
//! anything about actors, runtimes and models.

mod routes;
mod unrouted;

mod front;

mod auth;
mod control;
mod host;
mod limits;

mod encoding;
mod extract;
mod problem;

mod openai;
mod peer;
mod resource;
mod resources;

mod sse;
mod trace;

mod metrics;
mod openapi;

mod shared;

mod server;

use arw_actors::cluster::Picture;
use arw_actors::config::GatewaySettings;
use arw_actors::node::Node;
use arw_actors::views::View;
use serde_json::{Map, Value};

pub use front::Front;
pub use server::{BindError, Gateway, Holder, Unencrypted, unencrypted};

/// The read models that a node has: what the kernel renders, and this crate serves under `/state/*`.
#[must_use]
pub fn views() -> Vec<View> {
    resources::state::views()
}

/// What `/state/cluster` says of a picture, for tests of its readers.
#[doc(hidden)]
#[must_use]
pub fn cluster_body(picture: &Picture) -> Map<String, Value> {
    resources::state::cluster_body(picture)
}

/// The service without a server, for tests: it has every route and rule but those of connections (their
/// number, slow heads).
pub fn service(node: Node, settings: &GatewaySettings) -> Front {
    Front::new(shared::Shared::new(node, settings))
}
