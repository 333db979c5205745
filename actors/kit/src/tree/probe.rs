//! What can be asked of a mailbox whose messages are unknown.
//!
//! Owns the trait alone; mailboxes implement it.

use std::any::Any;

/// What the tree and the supervisor may ask of a mailbox without knowing its message type.
pub(crate) trait Probe: Any + Send + Sync {
    /// Messages that wait or are in the batch being handled.
    fn depth(&self) -> u32;
    fn bound(&self) -> u32;
}
