//! The first words of members.

use serde::{Deserialize, Serialize};

use super::{Bounded, HelloRefusal, NAME_CHARS_MAX, OutOfBounds, Versions, count, text};
use crate::certificate::CERTIFICATE_BYTES;

/// A member dials another one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// What the dialer speaks.
    pub versions: Versions,
    /// Which start of the dialer this is.
    pub incarnation: u64,
    /// Drawn at random at that start: two copies of a node may have the same incarnation, and never this.
    pub number: u64,
    /// The dialer's clock, ms since 1970.
    pub sent_at_ms: i64,
    /// The dialer's membership certificate.
    pub certificate: Vec<u8>,
    /// What the dialer calls itself.
    pub name: String,
}

/// The other one lets it in. Only this means that the connection is up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HelloAck {
    /// The minor version that both speak from now on.
    pub minor: u8,
    /// Which start of the acceptor this is.
    pub incarnation: u64,
    /// Drawn at random at that start.
    pub number: u64,
    /// The acceptor's clock, ms since 1970.
    pub sent_at_ms: i64,
    /// The acceptor's membership certificate.
    pub certificate: Vec<u8>,
    /// What the acceptor calls itself.
    pub name: String,
}

/// The other one does not let it in. The close code says the same.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HelloRefused {
    /// Why.
    pub reason: HelloRefusal,
    /// What the acceptor speaks.
    pub versions: Versions,
}

impl Bounded for Hello {
    fn check(&self) -> Result<(), OutOfBounds> {
        count("certificate", self.certificate.len(), 1..=2 * CERTIFICATE_BYTES)?;
        text("name", &self.name, NAME_CHARS_MAX)
    }
}

impl Bounded for HelloAck {
    fn check(&self) -> Result<(), OutOfBounds> {
        count("certificate", self.certificate.len(), 1..=2 * CERTIFICATE_BYTES)?;
        text("name", &self.name, NAME_CHARS_MAX)
    }
}

impl Bounded for HelloRefused {}
