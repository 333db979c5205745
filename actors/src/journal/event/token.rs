//! What happens to tokens.

use super::{Severity, events};
use arw_kit::moment::WallTime;

events! {
    /// What happens to tokens. `id` is a token's id.
    Token:
    /// A token was made.
    "token_created" Created { id: String, name: String, scopes: Vec<String>, expires_at: Option<WallTime> },
    /// A token is refused from now on.
    "token_revoked" Revoked { id: String, name: String },
}

impl Token {
    pub(super) fn severity(&self) -> Severity {
        Severity::Info
    }

    pub(super) fn subject(&self) -> &str {
        match self {
            Self::Created { id, .. } | Self::Revoked { id, .. } => id,
        }
    }

    pub(super) fn message(&self) -> String {
        match self {
            Self::Created { name, scopes, expires_at, .. } => {
                let end = expires_at
                    .as_ref()
                    .map_or_else(|| "does not expire".to_owned(), |at| format!("expires at {at}"));
                format!("Created the token {name} ({}); it {end}.", scopes.join(", "))
            }
            Self::Revoked { name, .. } => format!("Revoked the token {name}; it is refused from now on."),
        }
    }

    /// Names and ids only: bounded where they are made.
    pub(super) fn cut_texts(&mut self) {}
}
