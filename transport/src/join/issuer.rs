//! The side that lets nodes in.
//!
//! Owns one connection of a node that wants to join, from its arrival to the verdict. Refuses to know how
//! uses are stored and bytes sent.

use std::time::Duration;

use arw_kit::moment::{Moment, WallTime};

use super::{FIRST_MESSAGE_WITHIN, clocks_agree};
use crate::certificate::{CERTIFICATE_LIFETIME, ClusterKey, RevocationSet, Roles};
use crate::identity::NodeId;
use crate::token::{KeyingMaterial, TokenId, TokenRecord, TokenTable};
use crate::wire::{Join, JoinAccepted, JoinRefusal, JoinRefused, PEERS_MAX, PeerAddresses, Versions};

/// What the issuer knows besides its tokens.
#[derive(Clone, Copy, Debug)]
pub struct IssuerContext<'node> {
    /// The issuer.
    pub own: NodeId,
    /// The key that makes members.
    pub cluster: &'node ClusterKey,
    /// Who was removed.
    pub revoked: &'node RevocationSet,
    /// The serial for the next certificate: higher than every one before, of any node, also after a restart.
    /// It is used up with [`IssuerAction::StoreUse`] and with an [`IssuerAction::Accept`] that none went
    /// before.
    pub serial: u64,
    /// A node with the joiner's key is connected as a member.
    pub is_present: bool,
    /// Where members are; at most [`PEERS_MAX`] are told.
    pub peers: &'node [PeerAddresses],
}

/// What happened on the issuer's side.
#[derive(Clone, Debug)]
pub enum IssuerEvent {
    /// The first message came, and with its token's id as context this keying material was exported.
    JoinReceived {
        /// The message.
        join: Join,
        /// Of the connection that it came on.
        keying: KeyingMaterial,
    },
    /// The use is on disk.
    UseStored,
    /// It is not.
    UseNotStored,
    /// [`JoinIssuer::deadline`] is over.
    DeadlinePassed,
}

/// What the issuer does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IssuerAction {
    /// Put the record on disk, then report [`IssuerEvent::UseStored`].
    StoreUse(TokenRecord),
    /// Send this, and let the peer close.
    Accept(JoinAccepted),
    /// Send this, and close with its reason as code.
    Refuse(JoinRefused),
}

/// One node that wants to join.
#[derive(Debug)]
pub struct JoinIssuer {
    joiner: NodeId,
    deadline: Moment,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Waiting,
    /// The serial was taken when the use was decided: a removal that is decided after that covers it.
    Storing {
        roles: Roles,
        serial: u64,
    },
    Ended,
}

impl JoinIssuer {
    /// A connection arrived at `now`; TLS showed that the peer has the key of `joiner`.
    #[must_use]
    pub fn new(now: Moment, joiner: NodeId) -> Self {
        Self { joiner, deadline: now + FIRST_MESSAGE_WITHIN, state: State::Waiting }
    }

    /// The node that wants to join.
    #[must_use]
    pub fn node(&self) -> NodeId {
        self.joiner
    }

    /// When [`IssuerEvent::DeadlinePassed`] is due; `None` after the verdict.
    #[must_use]
    pub fn deadline(&self) -> Option<Moment> {
        (self.state != State::Ended).then_some(self.deadline)
    }

    /// Says what to do about `event`. After the verdict nothing is done any more.
    pub fn handle(
        &mut self,
        (now, wall): (Moment, WallTime),
        event: IssuerEvent,
        tokens: &mut TokenTable,
        context: &IssuerContext<'_>,
    ) -> Option<IssuerAction> {
        match (self.state, event) {
            (State::Ended, _) => None,
            // WIRE-13: a late message is no message.
            (State::Waiting, IssuerEvent::DeadlinePassed) => Some(self.refuse(JoinRefusal::TooSlow)),
            (State::Waiting, IssuerEvent::JoinReceived { .. }) if now > self.deadline => {
                Some(self.refuse(JoinRefusal::TooSlow))
            }
            (State::Waiting, IssuerEvent::JoinReceived { join, keying }) => {
                self.deadline = now + FIRST_MESSAGE_WITHIN;
                Some(self.judge(wall, &join, &keying, tokens, context))
            }
            (State::Waiting, IssuerEvent::UseStored | IssuerEvent::UseNotStored) => None,
            (State::Storing { roles, serial }, IssuerEvent::UseStored) => {
                Some(self.accept(wall, (roles, serial), context))
            }
            (State::Storing { .. }, IssuerEvent::UseNotStored | IssuerEvent::DeadlinePassed) => {
                Some(self.refuse(JoinRefusal::NotStored))
            }
            (State::Storing { .. }, IssuerEvent::JoinReceived { .. }) => {
                Some(self.refuse(JoinRefusal::Unexpected))
            }
        }
    }

    fn judge(
        &mut self,
        wall: WallTime,
        join: &Join,
        keying: &KeyingMaterial,
        tokens: &mut TokenTable,
        context: &IssuerContext<'_>,
    ) -> IssuerAction {
        if Versions::OWN.common(join.versions).is_none() {
            return self.refuse(JoinRefusal::Version);
        }
        if self.joiner == context.own {
            return self.refuse(JoinRefusal::Itself);
        }
        // Before the token is used: the joiner's own check of its certificate would fail, and the use would
        // be lost.
        if !clocks_agree(wall, join.sent_at_ms) {
            return self.refuse(JoinRefusal::Clock);
        }
        // WIRE-25: a member has no reason to join. Whoever shows its key beside it is a copy of it, and the
        // token stays good for another one.
        if context.is_present {
            return self.refuse(JoinRefusal::Copied);
        }
        let token = TokenId::from_bytes(join.token);
        match tokens.try_use(wall, token, &join.proof, keying, (self.joiner, context.own)) {
            Err(refusal) => self.refuse(refusal.into()),
            // WIRE-12: the use is on disk before the joiner is answered.
            Ok(used) => match used.record {
                Some(record) => {
                    self.state = State::Storing { roles: used.roles, serial: context.serial };
                    IssuerAction::StoreUse(record)
                }
                None => self.accept(wall, (used.roles, context.serial), context),
            },
        }
    }

    fn accept(
        &mut self,
        wall: WallTime,
        (roles, serial): (Roles, u64),
        context: &IssuerContext<'_>,
    ) -> IssuerAction {
        // WIRE-10: a serial that a revocation covers would make a member that everybody refuses.
        if context.revoked.covers(self.joiner, serial) {
            return self.refuse(JoinRefusal::Removed);
        }
        self.state = State::Ended;
        let lifetime: Duration = CERTIFICATE_LIFETIME;
        let certificate = context.cluster.certify(self.joiner, roles, serial, wall, lifetime);
        IssuerAction::Accept(JoinAccepted {
            certificate: certificate.as_bytes().to_vec(),
            cluster: *context.cluster.id().as_bytes(),
            cluster_key: *context.cluster.public().as_bytes(),
            peers: context.peers.iter().take(PEERS_MAX).cloned().collect(),
        })
    }

    fn refuse(&mut self, reason: JoinRefusal) -> IssuerAction {
        self.state = State::Ended;
        IssuerAction::Refuse(JoinRefused { reason, versions: Versions::OWN })
    }
}
