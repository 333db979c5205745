//! The side that dials.
//!
//! Owns one outgoing connection from its dialing to the peer's verdict, which this side checks in its turn:
//! the peer must be a member too.

use std::time::Duration;

use arw_kit::moment::{Moment, WallTime};

use super::{Candidate, Claim, DialSide, DialVerdict, LocalMember, Peer, PeerLink, Start, judge_connection};
use crate::identity::NodeId;
use crate::wire::{CloseCode, Hello, HelloAck, HelloRefusal, NAME_CHARS_MAX, Versions, presentable};

/// From dialing to the answer. Without loss it takes a millisecond; two seconds forgive two lost packets.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);

/// What happened on the dialer's side.
#[derive(Clone, Debug)]
pub enum DialerEvent {
    /// A connection stands. That alone says nothing: the peer has not judged this node yet.
    Connected {
        /// Whose key TLS showed.
        peer: NodeId,
    },
    /// The peer answered.
    AckReceived {
        /// The answer.
        ack: HelloAck,
        /// What this node has of the peer now.
        link: PeerLink,
    },
    /// The peer refused.
    RefusedReceived(HelloRefusal),
    /// The peer closed with this code.
    Closed(CloseCode),
    /// There is no connection, or not any more.
    ConnectionFailed,
    /// [`HelloDialer::deadline`] is over.
    DeadlinePassed,
}

/// What the dialer does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DialerAction {
    /// Send this.
    SendHello(Hello),
    /// This is the connection to the peer from now on.
    Up {
        /// Who is there.
        peer: Box<Peer>,
        /// A connection that is held is closed as replaced.
        replaces: bool,
    },
    /// The peer's own connection comes or is there: dial again only if it does not come.
    WaitForIncoming,
    /// Close, with the refusal as code where there is one.
    Fail(HelloFailure),
}

/// A dialed peer is not up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HelloFailure {
    /// It does not answer.
    #[error("no answer")]
    Unreachable,
    /// It refuses this node.
    #[error("the peer refuses this node: {0}")]
    Refused(HelloRefusal),
    /// It ended the connection.
    #[error("the peer closed the connection: {0}")]
    Closed(CloseCode),
    /// This node refuses it.
    #[error("this node refuses the peer: {0}")]
    PeerRefused(HelloRefusal),
}

impl HelloFailure {
    /// Dialing again soon can help: nothing was decided, or only by the moment.
    #[must_use]
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Unreachable | Self::Closed(_) => true,
            Self::Refused(reason) | Self::PeerRefused(reason) => {
                matches!(reason, HelloRefusal::Duplicate | HelloRefusal::TooSlow | HelloRefusal::Busy)
            }
        }
    }
}

/// One dialed connection.
#[derive(Debug)]
pub struct HelloDialer {
    peer: NodeId,
    deadline: Moment,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Dialing,
    Asking,
    Ended,
}

impl HelloDialer {
    /// The node `peer` is dialed at `now`.
    #[must_use]
    pub fn new(now: Moment, peer: NodeId) -> Self {
        Self { peer, deadline: now + ANSWER_WITHIN, state: State::Dialing }
    }

    /// When [`DialerEvent::DeadlinePassed`] is due; `None` when it is over.
    #[must_use]
    pub fn deadline(&self) -> Option<Moment> {
        (self.state != State::Ended).then_some(self.deadline)
    }

    /// Says what to do about `event`.
    pub fn handle(
        &mut self,
        wall: WallTime,
        event: &DialerEvent,
        local: &LocalMember<'_>,
    ) -> Option<DialerAction> {
        match (self.state, event) {
            (State::Ended, _) => None,
            (State::Dialing, DialerEvent::Connected { peer }) if *peer != self.peer => {
                Some(self.fail(HelloFailure::PeerRefused(HelloRefusal::OtherNode)))
            }
            (State::Dialing, DialerEvent::Connected { .. }) => {
                self.state = State::Asking;
                Some(DialerAction::SendHello(hello(wall, local)))
            }
            (State::Asking, DialerEvent::AckReceived { ack, link }) => {
                Some(self.judge(wall, ack, link, local))
            }
            (
                State::Dialing | State::Asking,
                DialerEvent::RefusedReceived(reason) | DialerEvent::Closed(CloseCode::Hello(reason)),
            ) => Some(self.refused(*reason)),
            (State::Dialing | State::Asking, DialerEvent::Closed(code)) => {
                Some(self.fail(HelloFailure::Closed(*code)))
            }
            (State::Dialing | State::Asking, DialerEvent::ConnectionFailed | DialerEvent::DeadlinePassed) => {
                Some(self.fail(HelloFailure::Unreachable))
            }
            (State::Dialing, DialerEvent::AckReceived { .. })
            | (State::Asking, DialerEvent::Connected { .. }) => None,
        }
    }

    fn judge(
        &mut self,
        wall: WallTime,
        ack: &HelloAck,
        link: &PeerLink,
        local: &LocalMember<'_>,
    ) -> DialerAction {
        let chosen = Versions { oldest: ack.minor, newest: ack.minor };
        if Versions::OWN.common(chosen).is_none() {
            return self.fail(HelloFailure::PeerRefused(HelloRefusal::Version));
        }
        let claim = Claim {
            peer: self.peer,
            start: Start { incarnation: ack.incarnation, number: ack.number },
            name: &ack.name,
            certificate: &ack.certificate,
            sent_at_ms: ack.sent_at_ms,
        };
        let peer = match claim.judge(wall, local, ack.minor) {
            Ok(peer) => peer,
            Err(reason) => return self.fail(HelloFailure::PeerRefused(reason)),
        };
        let candidate = Candidate { dialed_by: DialSide::Own, start: peer.start() };
        match judge_connection(link, candidate) {
            DialVerdict::Take => {
                self.state = State::Ended;
                DialerAction::Up { peer: Box::new(peer), replaces: link.held.is_some() }
            }
            DialVerdict::Duplicate => self.refused(HelloRefusal::Duplicate),
            DialVerdict::OldIncarnation => self.fail(HelloFailure::PeerRefused(HelloRefusal::OldIncarnation)),
            DialVerdict::Copied => self.fail(HelloFailure::PeerRefused(HelloRefusal::Copied)),
        }
    }

    fn refused(&mut self, reason: HelloRefusal) -> DialerAction {
        if reason == HelloRefusal::Duplicate {
            self.state = State::Ended;
            return DialerAction::WaitForIncoming;
        }
        self.fail(HelloFailure::Refused(reason))
    }

    fn fail(&mut self, failure: HelloFailure) -> DialerAction {
        self.state = State::Ended;
        DialerAction::Fail(failure)
    }
}

fn hello(wall: WallTime, local: &LocalMember<'_>) -> Hello {
    Hello {
        versions: Versions::OWN,
        incarnation: local.start.incarnation,
        number: local.start.number,
        sent_at_ms: wall.as_millis(),
        certificate: local.certificate.as_bytes().to_vec(),
        name: presentable(local.name, NAME_CHARS_MAX),
    }
}
