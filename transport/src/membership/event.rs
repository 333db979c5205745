//! What comes out of the state machine: events, datagrams, counters.
//!
//! Owns their shapes. Refuses to know why they happen.

use bytes::Bytes;

use super::identity::MemberIdentity;
use super::packet::DatagramError;
use crate::identity::NodeId;

/// Something that the driver of [`super::Membership`] has to do.
#[derive(Clone, Debug)]
pub enum MembershipOutput {
    /// Send `bytes` (at most [`super::PACKET_BYTES_MAX`]) as one datagram on the connection with `to`; drop
    /// them when there is none.
    Datagram {
        /// The receiver.
        to: NodeId,
        /// What to send.
        bytes: Bytes,
    },
    /// Tell those who want to know.
    Event(MembershipEvent),
}

/// What this node learned about the cluster. Events about one node come in the order in which it learned
/// them.
#[derive(Clone, Debug)]
pub enum MembershipEvent {
    /// A node is there that was unknown or down.
    MemberUp {
        /// Which life of it.
        member: MemberIdentity,
    },
    /// A node does not answer, or others say so. It stays a member until it is down.
    MemberSuspect {
        /// Which life of it.
        member: MemberIdentity,
    },
    /// A suspect has spoken up.
    MemberCleared {
        /// Which life of it.
        member: MemberIdentity,
    },
    /// A node is gone.
    MemberDown {
        /// Which life of it.
        member: MemberIdentity,
        /// Why.
        reason: DownReason,
    },
    /// A node goes on under a newer identity: it was started again (another incarnation) or moved (another
    /// address). Comes before `MemberUp` when it was down, else alone.
    Renamed {
        /// The identity so far.
        before: MemberIdentity,
        /// The identity from now on.
        after: MemberIdentity,
    },
    /// Somebody speaks of a node that this one has not met. It is no member here before it has shown its
    /// certificate on a connection.
    Introduced {
        /// Which life of it, and where it says to be.
        member: MemberIdentity,
    },
    /// Others had taken this node for dead; it goes on under a new renewal of the same incarnation.
    Rejoined {
        /// This node's identity from now on.
        own: MemberIdentity,
    },
    /// Others suspected this node; it has spoken up.
    SelfRefuted,
    /// Renewing did not help: the cluster knows a newer start of this node. Its start counter went back (a
    /// restored backup?) or it runs twice. Only a start with a higher incarnation can join.
    Outdated {
        /// This node's identity.
        own: MemberIdentity,
    },
}

/// Why a node is down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DownReason {
    /// This node probed it, directly and through others, and it did not speak up in time.
    Unreachable,
    /// Another node found it unreachable.
    Reported,
    /// It said good-bye.
    Left,
}

/// What was counted since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MembershipCounters {
    /// Datagrams accepted.
    pub received: u64,
    /// Bytes in them.
    pub received_bytes: u64,
    /// Datagrams given out to be sent.
    pub sent: u64,
    /// Bytes in them.
    pub sent_bytes: u64,
    /// Datagrams dropped because nobody drained them.
    pub sent_dropped: u64,
    /// Refused: too large, of another version, cut off, with bytes left over, or of no known form.
    pub refused_malformed: u64,
    /// Refused: not from whom it says, or not for this node.
    pub refused_foreign: u64,
    /// Refused: it holds a record that its node has not signed.
    pub refused_forged: u64,
    /// Refused: it names nodes beyond the limit.
    pub refused_full: u64,
    /// What accepted datagrams said of others and was dropped: not credible, or of nodes beyond the limit.
    pub hearsay_dropped: u64,
    /// Refused for another reason: after leaving, or against the protocol.
    pub refused_other: u64,
    /// Signatures that were checked: of each record that was new here.
    pub records_verified: u64,
    /// Doubts of others about a member that this node is connected with, and has asked.
    pub doubts_asked: u64,
    /// Told that we are down, again, before the last renewal had time to be heard.
    pub renewals_paced: u64,
    /// Verdicts on suspects that had spoken up in time.
    pub verdicts_void: u64,
    /// Verdicts put off because this node was stalled.
    pub verdicts_postponed: u64,
    /// Steps that the protocol library refused. Always 0, or something is wrong here.
    pub faults: u64,
}

impl MembershipCounters {
    pub(super) fn count(&mut self, bytes: usize, outcome: &Result<(), DatagramError>) {
        let counter = match outcome {
            Ok(()) => {
                self.received_bytes += bytes as u64;
                &mut self.received
            }
            Err(
                DatagramError::TooLarge { .. }
                | DatagramError::Version { .. }
                | DatagramError::Malformed { .. }
                | DatagramError::TrailingBytes { .. },
            ) => &mut self.refused_malformed,
            Err(DatagramError::Forged { .. }) => &mut self.refused_forged,
            Err(
                DatagramError::ForeignSource { .. }
                | DatagramError::NotForThisNode { .. }
                | DatagramError::OldStart { .. },
            ) => &mut self.refused_foreign,
            Err(DatagramError::Full { .. }) => &mut self.refused_full,
            Err(DatagramError::HasLeft | DatagramError::Protocol { .. }) => &mut self.refused_other,
        };
        *counter += 1;
    }
}
