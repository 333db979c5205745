//! Requests between nodes: a stream to another node carries HTTP/1, as a connection does.
//!
//! Owns both ends: asking another node's gateway (`client.rs`) and serving what other nodes ask
//! (`service.rs`, `routes.rs`, `admit.rs`). Refuses to know how streams come about; the kernel's port
//! [`arw_actors::cluster::Transport`] opens them. Dropping a request ends its stream, which is the cancel;
//! the stream's flow control is the backpressure.

mod admit;
mod client;
mod command;
mod document;
mod routes;
mod service;
mod share;

pub(crate) use admit::admit;
pub(crate) use client::{PeerClient, PeerError};
pub(crate) use command::tell;
pub(crate) use document::{Meant, fetch, follow, meant};
use document::{name, unreachable};
pub(crate) use routes::router;
pub(crate) use service::{PeerLimits, PeerService};
pub(crate) use share::{Share, Shares};

use arw_actors::ids::NodeId;
use http::HeaderName;

/// The node that asks, by its key.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PeerNode(pub(crate) NodeId);

/// Tells which node answered: its id.
pub(crate) const X_ARW_NODE: HeaderName = HeaderName::from_static("x-arw-node");
