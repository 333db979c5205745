//! What the endpoint refused, and why.
//!
//! Owns the numbers. Refuses to act on them.

use std::collections::BTreeMap;

use crate::membership::MembershipCounters;
use crate::wire::{HelloRefusal, JoinRefusal};

/// Counted since the start of the endpoint. Everything that is refused is counted somewhere.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Handshakes that were begun by others and let in.
    pub handshakes: u64,
    /// Sources that were asked to prove their address first.
    pub handshakes_retried: u64,
    /// Handshakes that were refused because there were too many.
    pub handshakes_limited: u64,
    /// Handshakes that came to nothing: another protocol, another key than expected, silence.
    pub handshakes_failed: u64,
    /// Connections on which this node was let in, or let another in.
    pub connections: u64,
    /// Nodes that joined with a token of this node.
    pub joined: u64,
    /// Control messages of a type that only a newer version knows.
    pub control_unknown: u64,
    /// Connections that were ended because of bytes that are not the protocol.
    pub malformed: u64,
    /// Connections that were ended because the peer did not read.
    pub stalled: u64,
    /// Streams for a purpose that only a newer version knows.
    pub streams_unknown: u64,
    /// Streams whose first byte did not come.
    pub streams_slow: u64,
    /// Streams that a peer opened for something that is known.
    pub streams: u64,
    /// Datagrams with a tag that only a newer version knows.
    pub datagrams_unknown: u64,
    /// Datagrams of membership that were refused; [`Counters::membership`] says why.
    pub datagrams_refused: u64,
    /// Datagrams that could not be sent, for want of a connection or of room.
    pub datagrams_unsent: u64,
    /// Addresses of members, as others name them, at which nobody can be.
    pub addresses_refused: u64,
    /// Cards about another start of their node.
    pub cards_refused: u64,
    /// Revocations that are not of this cluster, not signed by it, or too many.
    pub revocations_refused: u64,
    /// Requests for a certificate that were not due, or not for this node.
    pub renewals_refused: u64,
    /// Certificates for this node that were not good.
    pub certificates_refused: u64,
    /// Those of the membership protocol.
    pub membership: MembershipCounters,
    hello: BTreeMap<u16, u64>,
    join: BTreeMap<u16, u64>,
}

impl Counters {
    pub(super) fn refuse_hello(&mut self, reason: HelloRefusal) {
        *self.hello.entry(reason.code()).or_default() += 1;
    }

    pub(super) fn refuse_join(&mut self, reason: JoinRefusal) {
        *self.join.entry(reason.code()).or_default() += 1;
    }

    /// Hellos that this node refused with `reason`.
    #[must_use]
    pub fn hello_refused(&self, reason: HelloRefusal) -> u64 {
        self.hello.get(&reason.code()).copied().unwrap_or_default()
    }

    /// Joins that this node refused with `reason`.
    #[must_use]
    pub fn join_refused(&self, reason: JoinRefusal) -> u64 {
        self.join.get(&reason.code()).copied().unwrap_or_default()
    }

    /// Every reason for which a hello was refused, with how often.
    pub fn hello_refusals(&self) -> impl Iterator<Item = (HelloRefusal, u64)> {
        self.hello.iter().map(|(code, count)| (HelloRefusal::from_code(*code), *count))
    }

    /// Every reason for which a join was refused, with how often.
    pub fn join_refusals(&self) -> impl Iterator<Item = (JoinRefusal, u64)> {
        self.join.iter().map(|(code, count)| (JoinRefusal::from_code(*code), *count))
    }
}
