//! The client side of a node's HTTP API (`spec/http.md`).

pub(crate) mod discovery;
pub(crate) mod error;
pub(crate) mod http;
pub(crate) mod row;

pub(crate) mod follow;
pub(crate) mod lines;
pub(crate) mod model;
pub(crate) mod pulse;
pub(crate) mod sse;
