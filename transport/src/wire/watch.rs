//! The words of members that know each other: life signs, farewells, removals, watched actors, refused asks.

use arw_kit::life::ExitReason;
use serde::{Deserialize, Serialize};

use super::{
    Bounded, DownReason, GoodbyeReason, OutOfBounds, ReplyRefusal, TEXT_CHARS_MAX, count, presentable, text,
};
use crate::certificate::REVOCATION_BYTES;

/// Are you there?
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ping {
    /// Comes back in the [`Pong`].
    pub nonce: u64,
}

/// I am.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pong {
    /// That of the [`Ping`].
    pub nonce: u64,
}

/// Nodes were removed from the cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revoked {
    /// Signed revocations, at most [`Revoked::MAX`].
    pub revocations: Vec<Vec<u8>>,
}

impl Revoked {
    /// Revocations in one message: more take more messages.
    pub const MAX: usize = 256;
}

/// This connection is about to be closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Goodbye {
    /// Why.
    pub reason: GoodbyeReason,
}

/// Bytes of a card. With its header it fits a control message, and leaves room for other fields.
pub const CARD_BYTES_MAX: usize = 48 * 1024;

/// What a node says of itself: what it can do, what it serves, how busy it is. The newest one replaces all
/// before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Card {
    /// Which start of the sender it is about.
    pub incarnation: u64,
    /// The card, in a form that only its readers know. At most [`CARD_BYTES_MAX`].
    pub card: Vec<u8>,
}

/// Tell me when this actor ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Monitor {
    /// The watcher's number for this watch.
    pub monitor: u64,
    /// The actor.
    pub actor: u64,
    /// The start of the node on which it must be.
    pub incarnation: u64,
}

/// Do not tell me any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Demonitor {
    /// The watch.
    pub monitor: u64,
}

/// The actor ended. It is said once per watch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Down {
    /// The watch.
    pub monitor: u64,
    /// The actor.
    pub actor: u64,
    /// How it ended.
    pub reason: DownReason,
    /// The same with all that is known, for people.
    pub text: String,
}

impl Down {
    /// What is said about an exit.
    #[must_use]
    pub fn of(monitor: u64, actor: u64, exit: &ExitReason) -> Self {
        Self { monitor, actor, reason: exit.into(), text: presentable(&exit.to_string(), TEXT_CHARS_MAX) }
    }
}

/// The body of a [`Refusal`](crate::frame::Header::Refusal).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    /// Why the ask is not answered.
    pub reason: ReplyRefusal,
    /// More about it, for people.
    pub detail: String,
}

impl Refused {
    /// A refusal with a detail for people, shortened to what a peer takes.
    #[must_use]
    pub fn new(reason: ReplyRefusal, detail: &str) -> Self {
        Self { reason, detail: presentable(detail, TEXT_CHARS_MAX) }
    }

    /// Reads the body of a refusal.
    ///
    /// # Errors
    /// [`codec::DecodeError`](crate::codec::DecodeError): it is none, or its detail may not be shown.
    pub fn from_body(body: &[u8]) -> Result<Self, crate::codec::DecodeError> {
        let refused: Self = crate::codec::decode(body)?;
        refused.check().map_err(|error| crate::codec::DecodeError::Value(error.to_string()))?;
        Ok(refused)
    }
}

impl Bounded for Ping {}

impl Bounded for Pong {}

impl Bounded for Revoked {
    fn check(&self) -> Result<(), OutOfBounds> {
        count("revocations", self.revocations.len(), 1..=Self::MAX)?;
        let mut lengths = self.revocations.iter().map(Vec::len);
        lengths.try_for_each(|length| count("revocation", length, 1..=2 * REVOCATION_BYTES))
    }
}

impl Bounded for Goodbye {}

impl Bounded for Card {
    fn check(&self) -> Result<(), OutOfBounds> {
        // WIRE-18
        count("card", self.card.len(), 0..=CARD_BYTES_MAX)
    }
}

impl Bounded for Monitor {}

impl Bounded for Demonitor {}

impl Bounded for Down {
    fn check(&self) -> Result<(), OutOfBounds> {
        text("text", &self.text, TEXT_CHARS_MAX)
    }
}

impl Bounded for Refused {
    fn check(&self) -> Result<(), OutOfBounds> {
        text("detail", &self.detail, TEXT_CHARS_MAX)
    }
}
