//! The side that is dialed.
//!
//! Owns one incoming connection from its arrival to the verdict.

use arw_kit::moment::{Moment, WallTime};

use super::{
    Candidate, Claim, DialSide, DialVerdict, LocalMember, Peer, PeerLink, Start, common_minor,
    judge_connection,
};
use crate::identity::NodeId;
use crate::join::FIRST_MESSAGE_WITHIN;
use crate::wire::{Hello, HelloAck, HelloRefusal, HelloRefused, NAME_CHARS_MAX, Versions, presentable};

/// What happened on the acceptor's side.
#[derive(Clone, Debug)]
#[expect(clippy::large_enum_variant, reason = "one lives at a time, for as long as a call takes")]
pub enum AcceptorEvent {
    /// The first message came.
    HelloReceived {
        /// The message.
        hello: Hello,
        /// What this node has of the peer now.
        link: PeerLink,
    },
    /// [`HelloAcceptor::deadline`] is over.
    DeadlinePassed,
}

/// What the acceptor does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AcceptorAction {
    /// Send the answer; this is the connection to the peer from now on.
    Accept {
        /// The answer.
        ack: HelloAck,
        /// Who is there.
        peer: Box<Peer>,
        /// A connection that is held is closed as replaced.
        replaces: bool,
    },
    /// Send this, and close with its reason as code.
    Refuse(HelloRefused),
}

/// One node that dialed.
#[derive(Debug)]
pub struct HelloAcceptor {
    peer: NodeId,
    deadline: Moment,
    is_over: bool,
}

impl HelloAcceptor {
    /// A connection arrived at `now`; TLS showed that the peer has the key of `peer`.
    #[must_use]
    pub fn new(now: Moment, peer: NodeId) -> Self {
        Self { peer, deadline: now + FIRST_MESSAGE_WITHIN, is_over: false }
    }

    /// When [`AcceptorEvent::DeadlinePassed`] is due; `None` after the verdict.
    #[must_use]
    pub fn deadline(&self) -> Option<Moment> {
        (!self.is_over).then_some(self.deadline)
    }

    /// Says what to do about `event`. After the verdict nothing is done any more.
    pub fn handle(
        &mut self,
        (now, wall): (Moment, WallTime),
        event: &AcceptorEvent,
        local: &LocalMember<'_>,
    ) -> Option<AcceptorAction> {
        if self.is_over {
            return None;
        }
        self.is_over = true;
        let refuse = |reason| AcceptorAction::Refuse(HelloRefused { reason, versions: Versions::OWN });
        Some(match event {
            // WIRE-13: a late message is no message.
            AcceptorEvent::DeadlinePassed => refuse(HelloRefusal::TooSlow),
            AcceptorEvent::HelloReceived { .. } if now > self.deadline => refuse(HelloRefusal::TooSlow),
            AcceptorEvent::HelloReceived { hello, link } => match self.judge(wall, hello, link, local) {
                Ok(peer) => AcceptorAction::Accept {
                    ack: ack(wall, local, peer.minor),
                    replaces: link.held.is_some(),
                    peer: Box::new(peer),
                },
                Err(reason) => refuse(reason),
            },
        })
    }

    fn judge(
        &self,
        wall: WallTime,
        hello: &Hello,
        link: &PeerLink,
        local: &LocalMember<'_>,
    ) -> Result<Peer, HelloRefusal> {
        let minor = common_minor(hello.versions)?;
        let claim = Claim {
            peer: self.peer,
            start: Start { incarnation: hello.incarnation, number: hello.number },
            name: &hello.name,
            certificate: &hello.certificate,
            sent_at_ms: hello.sent_at_ms,
        };
        let peer = claim.judge(wall, local, minor)?;
        let candidate = Candidate { dialed_by: DialSide::Peer, start: peer.start() };
        match judge_connection(link, candidate) {
            DialVerdict::Take => Ok(peer),
            DialVerdict::Duplicate => Err(HelloRefusal::Duplicate),
            DialVerdict::OldIncarnation => Err(HelloRefusal::OldIncarnation),
            DialVerdict::Copied => Err(HelloRefusal::Copied),
        }
    }
}

fn ack(wall: WallTime, local: &LocalMember<'_>, minor: u8) -> HelloAck {
    HelloAck {
        minor,
        incarnation: local.start.incarnation,
        number: local.start.number,
        sent_at_ms: wall.as_millis(),
        certificate: local.certificate.as_bytes().to_vec(),
        name: presentable(local.name, NAME_CHARS_MAX),
    }
}
