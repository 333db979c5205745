//! How an actor, or a process that lives like one, ended.

use std::fmt;
use std::sync::Arc;

use super::path::ActorPath;

/// Why an incarnation ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExitReason {
    /// It ended by itself, in order.
    Normal,
    /// It was asked to stop, and did.
    Stop,
    /// It panicked, or its handler returned a fault.
    Crash {
        /// The panic's or fault's text.
        text: Arc<str>,
        /// The message in hand.
        while_handling: Option<&'static str>,
    },
    /// It did not stop in time and was killed, or its task was cancelled.
    Killed,
    /// Its start failed.
    StartFailed {
        /// Why.
        text: Arc<str>,
    },
    /// A process returned this code.
    ProcessExit {
        /// The code.
        code: i32,
        /// The diagnosis, in words.
        detail: Arc<str>,
    },
    /// A signal ended a process.
    ProcessSignal {
        /// Its number.
        signal: i32,
        /// The diagnosis, in words.
        detail: Arc<str>,
    },
    /// A supervisor gave up, because a child used up the restart budget.
    Escalated {
        /// The child.
        child: ActorPath,
        /// How that child last ended.
        text: Arc<str>,
    },
    /// It was stopped because a sibling failed.
    Dependency {
        /// The sibling.
        sibling: Arc<str>,
    },
}

impl ExitReason {
    /// A stable word for JSON and metrics.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::Normal => "normal",
            Self::Stop => "stop",
            Self::Crash { .. } => "crash",
            Self::Killed => "killed",
            Self::StartFailed { .. } => "start_failed",
            Self::ProcessExit { .. } => "process_exit",
            Self::ProcessSignal { .. } => "process_signal",
            Self::Escalated { .. } => "escalated",
            Self::Dependency { .. } => "dependency",
        }
    }

    /// A transient child is restarted after such an exit.
    #[must_use]
    pub fn is_abnormal(&self) -> bool {
        !matches!(self, Self::Normal | Self::Stop | Self::Dependency { .. })
    }
}

impl fmt::Display for ExitReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Normal => f.write_str("ended by itself"),
            Self::Stop => f.write_str("stopped on request"),
            Self::Crash { text, while_handling: Some(message) } => {
                write!(f, "{text} while handling {message}")
            }
            Self::Crash { text, while_handling: None } => f.write_str(text),
            Self::Killed => f.write_str("killed: it did not stop in time"),
            Self::StartFailed { text } => write!(f, "start failed: {text}"),
            Self::ProcessExit { detail, .. } | Self::ProcessSignal { detail, .. } => f.write_str(detail),
            Self::Escalated { child, text } => write!(f, "gave up on {child}: {text}"),
            Self::Dependency { sibling } => write!(f, "stopped because {sibling} failed"),
        }
    }
}
