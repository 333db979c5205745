//! What the API consists of: one module for each group of calls, with its handlers and, in `dto.rs`, its shapes.
//!
//! Handlers turn requests into calls of the node's facade and its answers into shapes. They refuse to decide anything
//! about the node.

pub(crate) mod cluster;
pub(crate) mod events;
pub(crate) mod models;
pub(crate) mod node;
pub(crate) mod runtimes;
pub(crate) mod state;
pub(crate) mod tokens;
