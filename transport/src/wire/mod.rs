//! What nodes say to each other on the control stream, and in refusals on message lanes.
//!
//! Owns the types as they travel, apart from those inside: renaming a field inside never breaks a peer. A
//! type's number and fields never change; what needs other fields gets a new number and a newer minor
//! version. Refuses to know what follows from a message.
//!
//! A message on the control stream is its type (2 bytes), its length (4 bytes), both little-endian, and its
//! body by [`codec`](crate::codec).

mod codes;
mod control;
mod hello;
mod join;
mod stream;
mod watch;

use std::ops::RangeInclusive;

pub use codes::{
    BlobRefusal, CloseCode, DownReason, GoodbyeReason, HelloRefusal, JoinRefusal, ReplyRefusal, StreamRefusal,
};
pub use control::{Control, First};
pub use hello::{Hello, HelloAck, HelloRefused};
pub use join::{Join, JoinAccepted, JoinRefused, PEERS_MAX, PeerAddresses, Renew, Renewed};
pub use stream::{
    CONTROL_BYTES_MAX, ControlError, FIRST_BYTES_MAX, FirstError, Received, put, take, take_first,
};
pub use watch::{CARD_BYTES_MAX, Card, Demonitor, Down, Goodbye, Monitor, Ping, Pong, Refused, Revoked};

use crate::frame::MINOR;

/// Characters in what a node calls itself.
pub const NAME_CHARS_MAX: usize = 64;

/// Characters in a reason that is meant for people.
pub const TEXT_CHARS_MAX: usize = 256;

/// The minor versions that a node speaks, of the major version that TLS agreed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Versions {
    /// The oldest.
    pub oldest: u8,
    /// The newest.
    pub newest: u8,
}

impl Versions {
    /// Those of this program. Minor version 0 had membership without signatures, which nobody takes any more:
    /// it was never released.
    pub const OWN: Self = Self { oldest: 1, newest: MINOR };

    /// The minor version that two nodes speak with each other: the newest that both know.
    ///
    /// ```
    /// use arw_transport::wire::Versions;
    /// let (old, new) = (Versions { oldest: 0, newest: 3 }, Versions { oldest: 2, newest: 7 });
    /// assert_eq!(old.common(new), Some(3));
    /// assert_eq!(new.common(old), Some(3));
    /// assert_eq!(old.common(Versions { oldest: 4, newest: 7 }), None);
    /// ```
    #[must_use]
    pub fn common(self, other: Self) -> Option<u8> {
        // WIRE-6
        let newest = self.newest.min(other.newest);
        (newest >= self.oldest.max(other.oldest)).then_some(newest)
    }
}

/// A field of a decoded message is not what it may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OutOfBounds {
    /// It has too few or too many parts.
    #[error("`{field}` has {found} parts, allowed: {least} to {most}")]
    Count {
        /// Which field.
        field: &'static str,
        /// How many.
        found: usize,
        /// The fewest.
        least: usize,
        /// The most.
        most: usize,
    },
    /// It would do something to a terminal.
    #[error("`{field}` has control characters")]
    ControlCharacters {
        /// Which field.
        field: &'static str,
    },
}

/// What must hold of a message besides its form.
trait Bounded {
    fn check(&self) -> Result<(), OutOfBounds> {
        Ok(())
    }
}

fn count(field: &'static str, found: usize, allowed: RangeInclusive<usize>) -> Result<(), OutOfBounds> {
    if allowed.contains(&found) {
        return Ok(());
    }
    Err(OutOfBounds::Count { field, found, least: *allowed.start(), most: *allowed.end() })
}

/// Texts of peers are shown on terminals: too long ones and control characters are refused.
fn text(field: &'static str, text: &str, max: usize) -> Result<(), OutOfBounds> {
    if text.chars().any(char::is_control) {
        return Err(OutOfBounds::ControlCharacters { field });
    }
    count(field, text.chars().count(), 0..=max)
}

/// A text of ours in a form that a peer takes.
pub(crate) fn presentable(text: &str, max: usize) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(max).collect()
}

#[cfg(test)]
mod tests;
