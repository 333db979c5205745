//! The ARW kernel: the model-server processes, store, journal and read models of one node, as actors of
//! [`arw_kit`].
//!
//! Nothing here knows HTTP routes, command lines or QUIC: those crates depend on this one.

/// Points in time, which nearly every signature here has.
pub use arw_kit::moment;

pub mod ids;

pub mod config;
pub mod files;
pub mod log_health;

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
