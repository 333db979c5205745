//! The ARW kernel: actors with restart budgets, and the model-server processes, store, journal and read models of one node.
//!
//! Nothing here knows HTTP routes, command lines or QUIC: those crates depend on this one.

pub mod ids;
pub mod moment;

pub mod clock;
pub mod config;
pub mod files;
pub mod log_health;

pub mod life;
pub mod panics;

pub mod mailbox;
pub mod supervision;
pub mod tree;

pub mod journal;
pub mod projection;
pub mod store;

pub mod hardware;
pub mod model;
pub mod policy;
pub mod runtime;

pub mod node_info;

pub mod cluster;

pub mod node;
pub mod system;
pub mod views;

#[cfg(any(test, feature = "testkit"))]
pub mod testkit;
