//! What others hold of an endpoint.
//!
//! Owns the way in: looking is immediate and asks nobody, everything else is a command to the network's
//! thread. Refuses to decide.

use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};

use super::connection::{OpenError, PeerConnection};
use super::counters::Counters;
use super::hub::Hub;
use super::issuer::{CreateError, RemoveError, RevokeError};
use super::picture::{PeerRow, Picture};
use super::services::StreamPurpose;
use super::stream::PeerStream;
use crate::certificate::SignedRevocation;
use crate::identity::NodeId;
use crate::membership::NodeEntry;
use crate::token::{JoinToken, NewToken, TokenId, TokenRecord};
use crate::wire::{CARD_BYTES_MAX, GoodbyeReason};

/// Commands that wait. Each comes from a person or a program that waits for its answer.
pub(super) const COMMANDS_MAX: usize = 256;

/// Something to be done on the network's thread.
pub(super) enum Command {
    CreateToken {
        wanted: NewToken,
        reply: oneshot::Sender<Result<JoinToken, CreateError>>,
    },
    RevokeToken {
        token: TokenId,
        reply: oneshot::Sender<Result<TokenRecord, RevokeError>>,
    },
    Remove {
        node: NodeId,
        reply: oneshot::Sender<Result<SignedRevocation, RemoveError>>,
    },
    ChangeAddress {
        listen: SocketAddr,
        advertised: Option<SocketAddr>,
        reply: oneshot::Sender<Result<SocketAddr, ChangeAddressError>>,
    },
    Advertise {
        address: SocketAddr,
        reply: oneshot::Sender<()>,
    },
    Shutdown {
        reason: GoodbyeReason,
        reply: oneshot::Sender<()>,
    },
}

/// A card was not published.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a card has at most {CARD_BYTES_MAX} bytes, this one has {length}")]
pub struct CardTooLarge {
    /// Its length.
    pub length: usize,
}

/// The endpoint stays where it is.
#[derive(Debug, thiserror::Error)]
pub enum ChangeAddressError {
    /// The socket cannot be opened.
    #[error("cannot open the UDP socket {address}: {source}")]
    Socket {
        /// Where.
        address: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
    /// Others would be told an address that reaches nobody.
    #[error("this node would listen on all addresses ({listen}): say which one others reach it at")]
    NeedsAdvertised {
        /// Where it would listen.
        listen: SocketAddr,
    },
    /// The endpoint has ended.
    #[error("the endpoint has ended")]
    Ended,
}

/// A running endpoint. When the last handle is dropped it ends at once and says nothing to anybody, as if the
/// process had crashed: call [`EndpointHandle::shutdown`] for a good-bye.
#[derive(Clone)]
pub struct EndpointHandle {
    hub: Arc<Hub>,
    commands: mpsc::Sender<Command>,
}

impl EndpointHandle {
    pub(super) fn new(hub: Arc<Hub>, commands: mpsc::Sender<Command>) -> Self {
        Self { hub, commands }
    }

    /// This node.
    #[must_use]
    pub fn id(&self) -> NodeId {
        self.hub.look(|core| core.own())
    }

    /// Where it listens.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.hub.local_addr()
    }

    /// Says something about this node to every peer, in the place of what was said before. Only the newest
    /// card waits for a slow peer.
    ///
    /// # Errors
    /// [`CardTooLarge`].
    pub fn publish_card(&self, card: Bytes) -> Result<(), CardTooLarge> {
        if card.len() > CARD_BYTES_MAX {
            return Err(CardTooLarge { length: card.len() });
        }
        self.hub.look(|core| core.publish_card(card));
        Ok(())
    }

    /// Opens a stream in both directions to a connected node, and waits at most `within` for room.
    ///
    /// # Errors
    /// [`OpenError`].
    pub async fn open(
        &self,
        node: NodeId,
        purpose: StreamPurpose,
        within: Duration,
    ) -> Result<PeerStream, OpenError> {
        let Some(connection) = self.connection(node) else {
            let is_known = self.hub.look(|core| core.knows(node));
            return Err(if is_known { OpenError::NotConnected } else { OpenError::UnknownNode });
        };
        connection.open(purpose, within).await
    }

    /// The connection to a node, if it stands.
    #[must_use]
    pub fn connection(&self, node: NodeId) -> Option<PeerConnection> {
        self.hub.look(|core| core.session(node).map(|session| session.connection.clone()))
    }

    /// What membership shows of one node.
    #[must_use]
    pub fn node(&self, node: NodeId) -> Option<NodeEntry> {
        self.hub.look(|core| core.node(node))
    }

    /// Every connection, and every node that is dialed.
    #[must_use]
    pub fn peers(&self) -> Vec<PeerRow> {
        self.hub.look(|core| core.peers())
    }

    /// Everything that events are about.
    #[must_use]
    pub fn picture(&self) -> Picture {
        self.hub.look(|core| core.picture())
    }

    /// What was counted since the start.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.hub.look(|core| core.counted())
    }

    /// This node lets others in and removes them.
    #[must_use]
    pub fn is_issuer(&self) -> bool {
        self.hub.look(|core| core.issuer.is_some())
    }

    /// Makes a token, which is stored before this returns.
    ///
    /// # Errors
    /// [`CreateError`].
    pub async fn create_token(&self, wanted: NewToken) -> Result<JoinToken, CreateError> {
        let answer = self.command(|reply| Command::CreateToken { wanted, reply }).await;
        answer.unwrap_or(Err(CreateError::Ended))
    }

    /// All tokens that this node remembers.
    #[must_use]
    pub fn tokens(&self) -> Vec<TokenRecord> {
        self.hub.look(|core| {
            core.issuer.as_ref().map(|issuer| issuer.tokens.list().cloned().collect()).unwrap_or_default()
        })
    }

    /// Refuses a token from now on.
    ///
    /// # Errors
    /// [`RevokeError`].
    pub async fn revoke_token(&self, token: TokenId) -> Result<TokenRecord, RevokeError> {
        let answer = self.command(|reply| Command::RevokeToken { token, reply }).await;
        answer.unwrap_or(Err(RevokeError::Ended))
    }

    /// Removes a node from the cluster: its certificates are worth nothing from now on, everybody is told,
    /// and its connections end.
    ///
    /// # Errors
    /// [`RemoveError`].
    pub async fn remove(&self, node: NodeId) -> Result<SignedRevocation, RemoveError> {
        let answer = self.command(|reply| Command::Remove { node, reply }).await;
        answer.unwrap_or(Err(RemoveError::Ended))
    }

    /// Goes on at another address, as the same node and the same start of it. Connections that this node
    /// dialed stay; those that peers dialed end and are dialed anew from here. Returns where it listens now.
    ///
    /// # Errors
    /// [`ChangeAddressError`]: it goes on where it was.
    pub async fn change_address(
        &self,
        listen: SocketAddr,
        advertised: Option<SocketAddr>,
    ) -> Result<SocketAddr, ChangeAddressError> {
        let answer = self.command(|reply| Command::ChangeAddress { listen, advertised, reply }).await;
        answer.unwrap_or(Err(ChangeAddressError::Ended))
    }

    /// Others are told this address from now on. The socket and every connection stay as they are.
    pub async fn advertise(&self, address: SocketAddr) {
        self.command(|reply| Command::Advertise { address, reply }).await;
    }

    /// Where this node's own socket is, under every address of the machine: it is not looked for another node
    /// there.
    pub fn set_own_addresses(&self, addresses: BTreeSet<SocketAddr>) {
        self.hub.look(|core| core.set_own_addresses(addresses));
    }

    /// Says good-bye and ends, within a second. With [`GoodbyeReason::Leaving`] the node leaves the cluster's
    /// membership: it is shown as left, and only a later start of it can come back. With any other reason it
    /// stops: peers see its connections end at once, and suspect it, and it is down after 1.2 s if it is not
    /// back. When this returns, the port is free.
    pub async fn shutdown(&self, reason: GoodbyeReason) {
        self.command(|reply| Command::Shutdown { reason, reply }).await;
    }

    /// `None`: the endpoint has ended.
    async fn command<T>(&self, make: impl FnOnce(oneshot::Sender<T>) -> Command) -> Option<T> {
        let (reply, answer) = oneshot::channel();
        self.commands.send(make(reply)).await.ok()?;
        answer.await.ok()
    }
}

impl fmt::Debug for EndpointHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EndpointHandle").field("id", &self.id()).field("local", &self.local_addr()).finish()
    }
}
