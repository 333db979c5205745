//! Who called, in an event about a call.
//!
//! Owns the shape and the words. Refuses to know how a caller is recognised.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Who asked this node to change something. Never what lets them in: a token's id and name are no secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(
    missing_docs,
    reason = "the fields repeat the names of the read models, which spec/http.md explains"
)]
pub enum Caller {
    /// Whoever holds a token of this node.
    Token { id: String, name: String },
    /// Another node of the cluster, by its certificate.
    Node { id: String },
}

impl fmt::Display for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Token { id, name } => write!(f, "the token {name} ({id})"),
            Self::Node { id } => write!(f, "the node {}", id.chars().take(8).collect::<String>()),
        }
    }
}
