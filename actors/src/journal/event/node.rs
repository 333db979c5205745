//! What happens to the node.

use super::words::bare;
use super::{Severity, cut, events};

events! {
    /// What happens to the node.
    Node:
    /// The node runs. `clean` tells whether the process before it ended in order.
    "node_started" Started { id: String, name: String, incarnation: u64, version: String, pid: u32, clean: bool },
    /// The node ends in order.
    "node_stopping" Stopping { reason: String },
}

impl Node {
    pub(super) fn severity(&self) -> Severity {
        match self {
            Self::Started { clean: false, .. } => Severity::Warning,
            Self::Started { clean: true, .. } | Self::Stopping { .. } => Severity::Info,
        }
    }

    pub(super) fn subject(&self) -> &str {
        "node"
    }

    pub(super) fn message(&self) -> String {
        match self {
            Self::Started { name, version, clean, .. } => {
                let before =
                    if *clean { "" } else { " The process before it had been killed or had crashed." };
                format!("The node {name} started (arw {version}).{before}")
            }
            Self::Stopping { reason } => format!("The node stops: {}.", bare(reason)),
        }
    }

    pub(super) fn cut_texts(&mut self) {
        match self {
            // Names and ids only: bounded where they are made.
            Self::Started { .. } => {}
            Self::Stopping { reason } => cut(reason),
        }
    }
}
