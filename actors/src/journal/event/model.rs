//! What happens to model files.

use super::words::size;
use super::{Severity, events};

events! {
    /// What happens to model files.
    Model:
    /// A model file was taken in.
    "model_imported" Imported { name: String, sha256: String, size_bytes: u64 },
    /// A model file was given up.
    "model_removed" Removed { name: String, sha256: String },
}

impl Model {
    pub(super) fn severity(&self) -> Severity {
        Severity::Info
    }

    pub(super) fn subject(&self) -> &str {
        match self {
            Self::Imported { name, .. } | Self::Removed { name, .. } => name,
        }
    }

    pub(super) fn message(&self) -> String {
        match self {
            Self::Imported { name, size_bytes, .. } => {
                format!("Imported the model {name} ({}).", size(*size_bytes))
            }
            Self::Removed { name, .. } => format!("Removed the model {name}."),
        }
    }

    /// Names and hashes only: bounded where they are made.
    pub(super) fn cut_texts(&mut self) {}
}
