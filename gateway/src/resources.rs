//! What the API consists of: one module for each group of calls, with its routes, its handlers and, in
//! `dto.rs`, its shapes. Routing, access, OpenAPI, metrics and the journal of calls follow from [`all`].
//!
//! Handlers turn requests into calls of the node's facade and its answers into shapes. They refuse to decide
//! anything about the node.

pub(crate) mod cluster;
pub(crate) mod events;
pub(crate) mod models;
pub(crate) mod node;
pub(crate) mod runtimes;
pub(crate) mod state;
pub(crate) mod tokens;

use crate::openai;
use crate::resource::Resource;

/// HTTP-4: every call there is, each with who may make it, in the order of the description.
pub(crate) fn all() -> Vec<Resource> {
    let others = [
        events::resource(),
        runtimes::resource(),
        models::resource(),
        tokens::resource(),
        cluster::resource(),
        openai::resource(),
    ];
    [node::resource()].into_iter().chain(state::resources()).chain(others).collect()
}
