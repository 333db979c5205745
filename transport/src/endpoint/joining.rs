//! Joining a cluster over the network.
//!
//! Owns a socket for the time that it takes, and drives [`JoinAttempt`] over it: each address of the token in
//! turn. Refuses to judge the answer.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arw_kit::clock::Clock;
use bytes::BytesMut;
use quinn::TokioRuntime;
use tokio::time::{timeout, timeout_at};

use super::connection::{address_in, close};
use super::life_signs::LifeSigns;
use super::quic;
use crate::identity::{NodeId, NodeKey, peer_of_connection};
use crate::join::{JoinAction, JoinAttempt, JoinEvent, JoinFailure, Membership};
use crate::token::{EXPORTER_LABEL, JoinToken, KeyingMaterial};
use crate::wire::{self, CloseCode, Control, GoodbyeReason, Join, JoinRefusal, Received};

/// How long the end may take: the issuer waits for the joiner to close.
const CLOSED_WITHIN: Duration = Duration::from_millis(300);

/// What a node that joins needs.
#[derive(Debug)]
pub struct JoinOptions {
    /// Who it is: the key that it will be a member with.
    pub key: Arc<NodeKey>,
    /// What it calls itself.
    pub name: String,
    /// Where its socket is; port 0 takes any free one. It needs no open port.
    pub listen: SocketAddr,
    /// Where time comes from.
    pub clock: Clock,
}

/// Joins the cluster of a token.
///
/// # Errors
/// [`JoinFailure`].
pub async fn join(options: JoinOptions, token: JoinToken) -> Result<Membership, JoinFailure> {
    let failed = |problem: String| JoinFailure::Local { problem };
    let JoinOptions { key, name, listen, clock } = options;
    let mut client = quic::client(&key).map_err(|error| failed(error.to_string()))?;
    client.transport_config(quic::transport(quinn::Side::Client, LifeSigns::for_peers(1), true));
    let socket = quic::socket(listen).map_err(|error| failed(format!("the UDP socket {listen}: {error}")))?;
    let endpoint = quinn::Endpoint::new(quic::endpoint(&key), None, socket, Arc::new(TokioRuntime))
        .map_err(|error| failed(error.to_string()))?;
    let context = token.id.as_bytes().to_vec();
    let joiner = Joiner { clock, endpoint, client, context };
    let (attempt, action) = JoinAttempt::start(clock.now(), key.id(), &name, token);
    let outcome = joiner.run(attempt, action).await;
    joiner.endpoint.close(CloseCode::Goodbye(GoodbyeReason::Joined).into(), b"");
    drop(timeout(CLOSED_WITHIN, joiner.endpoint.wait_idle()).await);
    outcome
}

struct Joiner {
    clock: Clock,
    endpoint: quinn::Endpoint,
    client: quinn::ClientConfig,
    context: Vec<u8>,
}

impl Joiner {
    async fn run(&self, mut attempt: JoinAttempt, mut action: JoinAction) -> Result<Membership, JoinFailure> {
        let mut connection: Option<quinn::Connection> = None;
        loop {
            let deadline = attempt.deadline().unwrap_or_else(|| self.clock.now());
            let deadline = self.clock.instant(deadline);
            let event = match action {
                JoinAction::Dial { address, issuer } => {
                    if let Some(old) = connection.take() {
                        close(&old, CloseCode::Goodbye(GoodbyeReason::Joined));
                    }
                    match timeout_at(deadline, self.connect(address, issuer)).await {
                        Ok(Ok((reached, peer, keying))) => {
                            connection = Some(reached);
                            JoinEvent::Connected { peer, keying }
                        }
                        Ok(Err(event)) => event,
                        Err(_) => JoinEvent::DeadlinePassed,
                    }
                }
                JoinAction::SendJoin(message) => match &connection {
                    Some(connection) => timeout_at(deadline, ask(connection, message))
                        .await
                        .unwrap_or(JoinEvent::DeadlinePassed),
                    None => JoinEvent::ConnectionFailed,
                },
                JoinAction::Joined(membership) => return Ok(*membership),
                JoinAction::Fail(failure) => return Err(failure),
            };
            let times = (self.clock.now(), self.clock.wall());
            let Some(next) = attempt.handle(times, event) else {
                return Err(JoinFailure::Local { problem: "the join ended without a verdict".to_owned() });
            };
            action = next;
        }
    }

    async fn connect(
        &self,
        address: SocketAddr,
        issuer: NodeId,
    ) -> Result<(quinn::Connection, NodeId, KeyingMaterial), JoinEvent> {
        let connecting =
            self.endpoint.connect_with(self.client.clone(), address, &crate::identity::server_name(&issuer));
        let connecting = connecting.map_err(|_| JoinEvent::ConnectionFailed)?;
        // WIRE-8: what comes before the issuer has shown its key is nobody's verdict.
        let connection = connecting.await.map_err(|_| JoinEvent::ConnectionFailed)?;
        let peer = peer_of_connection(connection.peer_identity()).map_err(|_| JoinEvent::ConnectionFailed)?;
        let mut keying = [0; 32];
        // WIRE-11: the token's id is the context, so that the material is worth nothing for another token.
        connection
            .export_keying_material(&mut keying, EXPORTER_LABEL, &self.context)
            .map_err(|_| JoinEvent::ConnectionFailed)?;
        Ok((connection, peer, KeyingMaterial(keying)))
    }
}

/// Shows the proof and reads the answer.
async fn ask(connection: &quinn::Connection, join: Join) -> JoinEvent {
    let failed = || connection.close_reason().map_or(JoinEvent::ConnectionFailed, |error| event_of(&error));
    let Ok((mut send, mut receive)) = connection.open_bi().await else { return failed() };
    let mut bytes = BytesMut::new();
    if wire::put(&join.into(), &mut bytes).is_err() || send.write_all(&bytes).await.is_err() {
        return failed();
    }
    let mut buffer = BytesMut::new();
    loop {
        match wire::take(&mut buffer) {
            Ok(Received::Message(Control::JoinAccepted(accepted))) => return JoinEvent::Accepted(accepted),
            Ok(Received::Message(Control::JoinRefused(refused))) => {
                return JoinEvent::Refused(refused.reason);
            }
            Ok(Received::Need(_)) if buffer.len() < wire::FIRST_BYTES_MAX => {}
            Ok(Received::Message(_) | Received::Unknown { .. } | Received::Need(_)) | Err(_) => {
                return JoinEvent::Closed(CloseCode::Malformed);
            }
        }
        match receive.read_chunk(wire::FIRST_BYTES_MAX, true).await {
            Ok(Some(chunk)) => buffer.extend_from_slice(&chunk.bytes),
            Ok(None) => return JoinEvent::ConnectionFailed,
            Err(quinn::ReadError::ConnectionLost(error)) => return event_of(&error),
            Err(_) => return failed(),
        }
    }
}

fn event_of(error: &quinn::ConnectionError) -> JoinEvent {
    match error {
        quinn::ConnectionError::ApplicationClosed(close) => {
            match CloseCode::from_code(close.error_code.into_inner()) {
                CloseCode::Join(JoinRefusal::Copied) => JoinEvent::Copied(address_in(&close.reason)),
                code => JoinEvent::Closed(code),
            }
        }
        _ => JoinEvent::ConnectionFailed,
    }
}
