//! Builds a node out of all crates and keeps it running.

use arw_actors::config::NodeConfig;

use crate::failure::{Exit, Failure};

/// A node that is up, for the message to the person who started it.
#[derive(Clone, Debug)]
pub(crate) struct Ready {
    /// `http://127.0.0.1:8091`
    pub(crate) http: String,
    /// From start to listening.
    pub(crate) took_ms: u64,
}

/// The node did not start, or ended with an error.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ServeError {
    #[error("this build has no node yet")]
    NoNode,
}

impl From<ServeError> for Failure {
    fn from(error: ServeError) -> Self {
        match error {
            ServeError::NoNode => Self::new(
                Exit::Failed,
                "the node did not start",
                error.to_string(),
                "use a newer build; the commands that talk to a node work already (--server URL)",
            ),
        }
    }
}

/// Runs a node until it is told to stop (Ctrl-C or SIGTERM). Calls `ready` once, when the gateway listens.
#[expect(clippy::unused_async, reason = "the node that comes here waits for its end")]
pub(crate) async fn serve(_config: NodeConfig, _ready: impl FnOnce(&Ready)) -> Result<(), ServeError> {
    Err(ServeError::NoNode)
}
