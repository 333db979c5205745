//! The side that has a token.
//!
//! Owns the way from a token to a membership: which address is tried next, and whether the answer can be
//! believed. Refuses to know sockets.

use std::net::SocketAddr;
use std::time::Duration;

use arw_kit::moment::{Moment, WallTime};

use super::FIRST_MESSAGE_WITHIN;
use crate::certificate::{
    Certificate, CertificateError, ClusterId, ClusterPublicKey, RevocationSet, SignedCertificate,
};
use crate::identity::NodeId;
use crate::token::{ADDRESSES_MAX, JoinToken, KeyingMaterial};
use crate::wire::{CloseCode, Join, JoinAccepted, JoinRefusal, PeerAddresses, Versions, presentable};

/// WIRE-24: for so long all addresses are tried again where one said nothing: its node may be busy, or
/// packets were lost.
const AGAIN_WITHIN: Duration = Duration::from_secs(8);

/// Within this an attempt has come to its end, whatever the addresses of its token do: a last round may begin
/// just before the first is over for good, and each address may take three seconds for its connection and six
/// for its answer. Who waits for a join waits for so long, and for the disk.
pub const DECIDED_WITHIN: Duration =
    AGAIN_WITHIN.saturating_add(FIRST_MESSAGE_WITHIN.saturating_mul(3 * ADDRESSES_MAX as u32));

/// What happened on the joiner's side.
#[derive(Clone, Debug)]
pub enum JoinEvent {
    /// A connection stands, and with the token's id as context this keying material was exported.
    Connected {
        /// Whose key TLS showed.
        peer: NodeId,
        /// Of this connection.
        keying: KeyingMaterial,
    },
    /// The issuer said yes.
    Accepted(JoinAccepted),
    /// It said no.
    Refused(JoinRefusal),
    /// It said no, because a node with this node's key is connected at that address.
    Copied(Option<SocketAddr>),
    /// The connection was closed by the peer with this code.
    Closed(CloseCode),
    /// There is no connection, or not any more.
    ConnectionFailed,
    /// [`JoinAttempt::deadline`] is over.
    DeadlinePassed,
}

/// What the joiner does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JoinAction {
    /// Drop what there is, and dial.
    Dial {
        /// Where.
        address: SocketAddr,
        /// Whose key must answer.
        issuer: NodeId,
    },
    /// Send this.
    SendJoin(Join),
    /// Store this, close, and begin to dial as a member.
    Joined(Box<Membership>),
    /// Tell the person.
    Fail(JoinFailure),
}

/// What makes a node a member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Membership {
    /// Shown in every hello.
    pub signed: SignedCertificate,
    /// What it says.
    pub certificate: Certificate,
    /// What checks the certificates of others.
    pub cluster_key: ClusterPublicKey,
    /// Where other members are.
    pub peers: Vec<PeerAddresses>,
    /// At which of its addresses the issuer answered.
    pub answered_at: SocketAddr,
}

/// The node did not join.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JoinFailure {
    /// No address of the token answers.
    #[error("no answer from {}: is that node up, and does its firewall let UDP through?", list(.tried))]
    Unreachable {
        /// Where it was looked for.
        tried: Vec<SocketAddr>,
    },
    /// The issuer refuses it.
    #[error("{0}")]
    Refused(JoinRefusal),
    /// A node with this node's key is a member, and is there.
    #[error("a member with this node's key is connected{} already: this machine's state folder was copied", at(.elsewhere))]
    Copied {
        /// Where.
        elsewhere: Option<SocketAddr>,
    },
    /// Another node answers.
    #[error("another node than the token's issuer answered: {found}")]
    OtherIssuer {
        /// Which.
        found: NodeId,
    },
    /// The key that it answered with is not that of the token's cluster.
    #[error("the answer names the cluster {found}, the token another: do not trust that node")]
    OtherCluster {
        /// Which.
        found: ClusterId,
    },
    /// The certificate that it answered with is not good.
    #[error("the answer's certificate is refused: {0}")]
    Certificate(#[from] CertificateError),
    /// This machine does not let it try.
    #[error("cannot open a connection: {problem}")]
    Local {
        /// What is wrong.
        problem: String,
    },
    /// The node joined with its own token.
    #[error("this node made the token itself: use it on another machine")]
    Itself,
}

/// One try to join.
#[derive(Debug)]
pub struct JoinAttempt {
    own: NodeId,
    name: String,
    token: JoinToken,
    began: Moment,
    /// Addresses that were dialed in this round.
    tried: usize,
    /// One of them said nothing.
    is_silent: bool,
    deadline: Moment,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Dialing,
    Asking,
    Ended,
}

impl JoinAttempt {
    /// Begins to join as `own`, which calls itself `name`.
    pub fn start(now: Moment, own: NodeId, name: &str, token: JoinToken) -> (Self, JoinAction) {
        let name = presentable(name, crate::wire::NAME_CHARS_MAX);
        let mut attempt = Self {
            own,
            name,
            token,
            began: now,
            tried: 0,
            is_silent: false,
            deadline: now,
            state: State::Dialing,
        };
        let action = if attempt.token.issuer == own {
            attempt.fail(JoinFailure::Itself)
        } else {
            attempt.dial_next(now)
        };
        (attempt, action)
    }

    /// When [`JoinEvent::DeadlinePassed`] is due; `None` when it is over.
    #[must_use]
    pub fn deadline(&self) -> Option<Moment> {
        (self.state != State::Ended).then_some(self.deadline)
    }

    /// The token, whose id is the context of the exported keying material.
    #[must_use]
    pub fn token(&self) -> &JoinToken {
        &self.token
    }

    /// Says what to do about `event`.
    pub fn handle(&mut self, (now, wall): (Moment, WallTime), event: JoinEvent) -> Option<JoinAction> {
        match (self.state, event) {
            (State::Ended, _) => None,
            (State::Dialing, JoinEvent::Connected { peer, keying }) => {
                Some(self.ask((now, wall), peer, &keying))
            }
            (State::Asking, JoinEvent::Accepted(accepted)) => Some(match self.believe(wall, accepted) {
                Ok(membership) => {
                    self.state = State::Ended;
                    JoinAction::Joined(Box::new(membership))
                }
                Err(failure) => self.fail(failure),
            }),
            // A verdict is final: the same node would say the same at its other addresses.
            (State::Asking, JoinEvent::Refused(reason) | JoinEvent::Closed(CloseCode::Join(reason))) => {
                Some(self.fail(JoinFailure::Refused(reason)))
            }
            (State::Asking, JoinEvent::Copied(elsewhere)) => {
                Some(self.fail(JoinFailure::Copied { elsewhere }))
            }
            (State::Dialing | State::Asking, JoinEvent::DeadlinePassed) => {
                self.is_silent = true;
                Some(self.dial_next(now))
            }
            // WIRE-8: before the issuer has shown its key a verdict may be anybody's.
            (State::Dialing | State::Asking, JoinEvent::ConnectionFailed | JoinEvent::Closed(_)) => {
                Some(self.dial_next(now))
            }
            // Left over from the address before.
            (State::Dialing, JoinEvent::Accepted(_) | JoinEvent::Refused(_) | JoinEvent::Copied(_))
            | (State::Asking, JoinEvent::Connected { .. }) => None,
        }
    }

    fn dial_next(&mut self, now: Moment) -> JoinAction {
        // WIRE-24: a round with a silent address takes three seconds at least, so they are few.
        let is_over = self.tried == self.token.addresses.len();
        if is_over && self.is_silent && now.since(self.began) < AGAIN_WITHIN {
            (self.tried, self.is_silent) = (0, false);
        }
        let Some(&address) = self.token.addresses.get(self.tried) else {
            return self.fail(JoinFailure::Unreachable { tried: self.token.addresses.clone() });
        };
        self.tried += 1;
        self.state = State::Dialing;
        self.deadline = now + FIRST_MESSAGE_WITHIN;
        JoinAction::Dial { address, issuer: self.token.issuer }
    }

    fn ask(&mut self, (now, wall): (Moment, WallTime), peer: NodeId, keying: &KeyingMaterial) -> JoinAction {
        // TLS has pinned the key already; a proof for another node must not be made even so.
        if peer != self.token.issuer {
            return self.fail(JoinFailure::OtherIssuer { found: peer });
        }
        self.state = State::Asking;
        // The issuer may need its own three seconds for its disk.
        self.deadline = now + FIRST_MESSAGE_WITHIN * 2;
        JoinAction::SendJoin(Join {
            versions: Versions::OWN,
            token: *self.token.id.as_bytes(),
            proof: self.token.proof_key().prove(keying, self.own, self.token.issuer),
            sent_at_ms: wall.as_millis(),
            name: self.name.clone(),
        })
    }

    fn believe(&self, wall: WallTime, accepted: JoinAccepted) -> Result<Membership, JoinFailure> {
        let cluster_key = ClusterPublicKey::from_bytes(accepted.cluster_key);
        // WIRE-11: the token names the cluster, and its id is a hash of its key: nobody can answer with
        // another one.
        let found = cluster_key.id();
        if found != self.token.cluster || *found.as_bytes() != accepted.cluster {
            return Err(JoinFailure::OtherCluster { found });
        }
        // It was dialed before it could answer.
        let dialed = self.token.addresses.get(self.tried.saturating_sub(1)).copied();
        let answered_at = dialed.ok_or_else(|| JoinFailure::Unreachable { tried: Vec::new() })?;
        let signed = SignedCertificate::from_bytes(&accepted.certificate)?;
        let certificate = signed.verify(&cluster_key, self.own, wall, &RevocationSet::default())?;
        Ok(Membership { signed, certificate, cluster_key, peers: accepted.peers, answered_at })
    }

    fn fail(&mut self, failure: JoinFailure) -> JoinAction {
        self.state = State::Ended;
        JoinAction::Fail(failure)
    }
}

fn at(address: &Option<SocketAddr>) -> String {
    address.map(|address| format!(" at {address}")).unwrap_or_default()
}

fn list(addresses: &[SocketAddr]) -> String {
    let texts: Vec<String> = addresses.iter().map(SocketAddr::to_string).collect();
    texts.join(", ")
}
