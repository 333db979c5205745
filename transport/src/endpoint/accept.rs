//! Connections that others open, up to the verdict about their first message.
//!
//! Owns what a stranger gets: a handshake if the budget allows, one stream, three seconds. Refuses to judge:
//! that is done by the deciders.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use tokio::time::{Instant, timeout, timeout_at};

use super::connection::{Wire, canonical, close, close_with_address, close_with_proof};
use super::hub::Hub;
use super::limiter::Admission;
use super::{issuing, quic, session};
use crate::handshake::HelloAcceptor;
use crate::identity::{NodeId, peer_of_connection};
use crate::join::{FIRST_MESSAGE_WITHIN, IssuerAction, IssuerEvent, JoinIssuer};
use crate::token::{EXPORTER_LABEL, KeyingMaterial, TokenId};
use crate::wire::{
    self, CloseCode, First, GoodbyeReason, Hello, HelloRefusal, Join, JoinAccepted, JoinRefusal,
};

/// How long a node that joined may take to close.
const JOINED_CLOSES_WITHIN: Duration = Duration::from_secs(1);

/// Takes connections until the endpoint closes. No connection, whatever it does, ends this.
pub(super) async fn accept_all(hub: Arc<Hub>) {
    while let Some(incoming) = hub.quinn.accept().await {
        let source = canonical(incoming.remote_address()).ip();
        judge(&hub, incoming, source);
    }
}

fn judge(hub: &Arc<Hub>, incoming: quinn::Incoming, source: IpAddr) {
    let is_proven = incoming.remote_address_validated();
    match hub.act(|core, now| core.admit(now, source, is_proven)) {
        Admission::Admit => {
            let pending = Pending { hub: Arc::clone(hub), source, is_proven };
            tokio::spawn(attend(incoming, pending));
        }
        Admission::Retry if incoming.may_retry() => drop(incoming.retry()),
        Admission::Retry | Admission::Refuse => incoming.refuse(),
    }
}

/// A handshake counts as pending for as long as this lives.
struct Pending {
    hub: Arc<Hub>,
    source: IpAddr,
    is_proven: bool,
}

impl Drop for Pending {
    fn drop(&mut self) {
        self.hub.look(|core| core.handshake_ended(self.source, self.is_proven));
    }
}

async fn attend(incoming: quinn::Incoming, pending: Pending) {
    let hub = Arc::clone(&pending.hub);
    // WIRE-13: for the handshake and the first message together.
    let began = hub.clock.now();
    let deadline = hub.clock.instant(began + FIRST_MESSAGE_WITHIN);
    let connected = match incoming.accept_with(hub.server()) {
        Ok(connecting) => timeout_at(deadline, connecting).await,
        Err(error) => Ok(Err(error)),
    };
    let Ok(Ok(connection)) = connected else {
        hub.look(|core| core.counters.handshakes_failed += 1);
        return;
    };
    let Ok(peer) = peer_of_connection(connection.peer_identity()) else {
        hub.look(|core| core.counters.handshakes_failed += 1);
        return close(&connection, CloseCode::Malformed);
    };
    let refusal = match timeout_at(deadline, first_message(&connection)).await {
        Ok(Ok((First::Hello(hello), streams))) => {
            let acceptor = HelloAcceptor::new(began, peer);
            return greet(&hub, &connection, (peer, hello), acceptor, streams).await;
        }
        Ok(Ok((First::Join(join), (send, ..)))) => {
            return let_in(&hub, &connection, (peer, join), send).await;
        }
        Ok(Err(NoFirst::Gone)) => return,
        Ok(Err(NoFirst::Malformed)) => HelloRefusal::Malformed,
        Err(_) => HelloRefusal::TooSlow,
    };
    hub.look(|core| core.counters.refuse_hello(refusal));
    close(&connection, CloseCode::Hello(refusal));
}

enum NoFirst {
    Gone,
    Malformed,
}

type ControlStream = (quinn::SendStream, quinn::RecvStream, BytesMut);

async fn first_message(connection: &quinn::Connection) -> Result<(First, ControlStream), NoFirst> {
    let (send, mut receive) = connection.accept_bi().await.map_err(|_| NoFirst::Gone)?;
    let mut buffer = BytesMut::new();
    loop {
        match wire::take_first(&mut buffer) {
            Ok(Some(first)) => return Ok((first, (send, receive, buffer))),
            Ok(None) => {}
            Err(_) => return Err(NoFirst::Malformed),
        }
        match receive.read_chunk(wire::FIRST_BYTES_MAX, true).await {
            Ok(Some(chunk)) => buffer.extend_from_slice(&chunk.bytes),
            Ok(None) | Err(quinn::ReadError::Reset(_)) => return Err(NoFirst::Malformed),
            Err(_) => return Err(NoFirst::Gone),
        }
    }
}

/// A member dialed.
async fn greet(
    hub: &Arc<Hub>,
    connection: &quinn::Connection,
    (peer, hello): (NodeId, Hello),
    mut acceptor: HelloAcceptor,
    mut streams: ControlStream,
) {
    let verdict = hub.act(|core, now| {
        let verdict = core.hello(now, &mut acceptor, (peer, hello), &Wire::Quinn(connection.clone()));
        if verdict.is_ok() {
            quic::welcome(connection, hub.streams_max);
        }
        verdict
    });
    let (ack, id, standing) = match verdict {
        Ok(accepted) => accepted,
        Err(refused) => return turn_away(hub, connection, peer, refused.reason),
    };
    drop(streams.0.set_priority(session::CONTROL_PRIORITY));
    let mut bytes = BytesMut::new();
    // It fits: its parts were checked when they were made. If it cannot be written the connection is over,
    // which the session finds out.
    if wire::put(&ack.into(), &mut bytes).is_ok() {
        // A peer that gives no room for the answer must not count as pending for ever.
        let deadline = hub.clock.instant(hub.clock.now() + FIRST_MESSAGE_WITHIN);
        if timeout_at(deadline, streams.0.write_all(&bytes)).await.is_err() {
            close(connection, CloseCode::Goodbye(GoodbyeReason::Stalled));
        }
    }
    session::start(hub, (peer, id), &standing, streams);
}

/// WIRE-21: who was removed is shown the proof of it.
pub(super) fn turn_away(hub: &Hub, connection: &quinn::Connection, peer: NodeId, reason: HelloRefusal) {
    let code = CloseCode::Hello(reason);
    if reason == HelloRefusal::Removed {
        let proof = hub.look(|core| core.proof_of_removal(peer));
        return close_with_proof(&Wire::Quinn(connection.clone()), code, proof.as_ref());
    }
    if matches!(reason, HelloRefusal::OldIncarnation | HelloRefusal::Copied) {
        let elsewhere = hub.look(|core| core.where_is(peer));
        return close_with_address(&Wire::Quinn(connection.clone()), code, elsewhere);
    }
    close(connection, code);
}

/// A node wants to become a member.
async fn let_in(
    hub: &Arc<Hub>,
    connection: &quinn::Connection,
    (peer, join): (NodeId, Join),
    send: quinn::SendStream,
) {
    let mut keying = [0; 32];
    if connection.export_keying_material(&mut keying, EXPORTER_LABEL, &join.token).is_err() {
        return close(connection, CloseCode::Join(JoinRefusal::Proof));
    }
    let token = TokenId::from_bytes(join.token);
    let mut joiner = JoinIssuer::new(hub.clock.now(), peer);
    let mut event = IssuerEvent::JoinReceived { join, keying: KeyingMaterial(keying) };
    loop {
        match hub.act(|core, now| core.join_step(now, &mut joiner, event)) {
            Some(IssuerAction::StoreUse(_)) => {
                let deadline = joiner.deadline().unwrap_or_else(|| hub.clock.now());
                event = stored(hub, token, hub.clock.instant(deadline)).await;
            }
            Some(IssuerAction::Accept(accepted)) => return admit(connection, accepted, send).await,
            Some(IssuerAction::Refuse(refused)) if refused.reason == JoinRefusal::Copied => {
                let elsewhere = hub.look(|core| core.where_is(peer));
                let code = CloseCode::Join(refused.reason);
                return close_with_address(&Wire::Quinn(connection.clone()), code, elsewhere);
            }
            Some(IssuerAction::Refuse(refused)) => {
                return close(connection, CloseCode::Join(refused.reason));
            }
            None => return close(connection, CloseCode::Malformed),
        }
    }
}

async fn stored(hub: &Arc<Hub>, token: TokenId, deadline: Instant) -> IssuerEvent {
    // WIRE-12: the write goes on when nobody waits for it any more: the use counts.
    let writing = tokio::spawn(issuing::store_token(Arc::clone(hub), token));
    match timeout_at(deadline, writing).await {
        Ok(Ok(Ok(()))) => IssuerEvent::UseStored,
        Ok(Ok(Err(_)) | Err(_)) => IssuerEvent::UseNotStored,
        Err(_) => IssuerEvent::DeadlinePassed,
    }
}

async fn admit(connection: &quinn::Connection, accepted: JoinAccepted, mut send: quinn::SendStream) {
    let mut bytes = BytesMut::new();
    let is_put = wire::put(&accepted.into(), &mut bytes).is_ok();
    if is_put && matches!(timeout(FIRST_MESSAGE_WITHIN, send.write_all(&bytes)).await, Ok(Ok(()))) {
        drop(send.finish());
        // Closing now would throw the answer away.
        drop(timeout(JOINED_CLOSES_WITHIN, connection.closed()).await);
    }
    close(connection, CloseCode::Goodbye(GoodbyeReason::Joined));
}
