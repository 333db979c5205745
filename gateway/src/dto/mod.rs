//! What travels over HTTP, as types: requests that are read, answers that are written, and the shapes that OpenAPI shows.
//!
//! Owns names and types of fields (`spec/http.md`), and the conversions, so that renaming a field inside the node never breaks a client.

pub(crate) mod cluster;
pub(crate) mod event;
pub(crate) mod health;
pub(crate) mod joining;
pub(crate) mod model;
pub(crate) mod openai;
pub(crate) mod problem;
pub(crate) mod runtime;
pub(crate) mod state;
pub(crate) mod token;
