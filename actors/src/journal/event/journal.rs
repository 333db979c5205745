//! What happens to the journal itself.

use super::words::{bare, span};
use super::{Severity, cut, events};

events! {
    /// What happens to the journal itself.
    Journal:
    /// Events cannot be written; the newest stay in memory.
    "journal_degraded" Degraded { reason: String },
    /// Events are written again; `lost` of them never were.
    "journal_recovered" Recovered { lost: u64, degraded_ms: u64 },
}

impl Journal {
    pub(super) fn severity(&self) -> Severity {
        match self {
            Self::Degraded { .. } => Severity::Error,
            Self::Recovered { lost: 0, .. } => Severity::Info,
            Self::Recovered { .. } => Severity::Warning,
        }
    }

    pub(super) fn subject(&self) -> &str {
        "journal"
    }

    pub(super) fn message(&self) -> String {
        match self {
            Self::Degraded { reason } => format!(
                "Events cannot be written: {}. The newest stay in memory and are written once that is repaired.",
                bare(reason)
            ),
            Self::Recovered { lost, degraded_ms } => {
                let missing = match lost {
                    0 => "none is missing".to_owned(),
                    1 => "1 is missing".to_owned(),
                    lost => format!("{lost} are missing"),
                };
                format!("Events are written again after {}; {missing}.", span(*degraded_ms))
            }
        }
    }

    pub(super) fn cut_texts(&mut self) {
        match self {
            Self::Degraded { reason } => cut(reason),
            Self::Recovered { .. } => {}
        }
    }
}
