//! One file for each group of routes.
//!
//! Handlers turn requests into calls of the node's facade and its answers into DTOs. They refuse to decide anything about the node.

pub(crate) mod cluster;
pub(crate) mod events;
pub(crate) mod health;
pub(crate) mod metrics;
pub(crate) mod models;
pub(crate) mod runtimes;
pub(crate) mod spec;
pub(crate) mod state;
pub(crate) mod tokens;
