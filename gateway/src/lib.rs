//! The HTTP gateway of a node: state, events, control and the OpenAI-compatible API.
//!
//! Owns everything between a TCP connection and the node's facade ([`arw_actors::node::Node`]). `spec/http.md` is its contract; the code
//! that enforces a rule names it (`HTTP-5`). Refuses to decide anything about actors, runtimes and models.

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

use arw_actors::config::GatewaySettings;
use arw_actors::node::Node;

pub use front::Front;
pub use server::{BindError, Gateway, Holder, Unencrypted, unencrypted};

/// The service without a server, for tests: it has every route and rule but those of connections (their number, slow heads).
pub fn service(node: Node, settings: &GatewaySettings) -> Front {
    Front::new(shared::Shared::new(node, settings))
}
