//! One attempt to reach a peer.
//!
//! Owns the way from a dialed address to a connection that stands, as [`HelloDialer`] decides it. Refuses to
//! know when the next attempt is.

use std::sync::Arc;

use bytes::BytesMut;
use tokio::time::timeout_at;

use super::accept::turn_away;
use super::connection::{Wire, another_start_in, close, proof_in};
use super::core::{DialEvent, DialStep};
use super::dial_schedule::DialAttempt;
use super::hub::Hub;
use super::{quic, session};
use crate::handshake::{DialerEvent, HelloDialer};
use crate::identity::peer_of_connection;
use crate::wire::{self, CloseCode, Control, Hello, HelloAck, HelloRefusal, Received};

/// Both ends of the control stream, and what was read beyond the first message.
type ControlStream = (quinn::SendStream, quinn::RecvStream, BytesMut);

pub(super) async fn dial(hub: Arc<Hub>, attempt: DialAttempt) {
    let now = hub.clock.now();
    let mut dialer = HelloDialer::new(now, attempt.peer);
    let deadline = hub.clock.instant(dialer.deadline().unwrap_or(now));
    let reached = timeout_at(deadline, connect(&hub, attempt)).await;
    let connection = match reached {
        Ok(Ok(connection)) => connection,
        Ok(Err(event)) => return over(&hub, &mut dialer, attempt, event, None),
        Err(_) => return over(&hub, &mut dialer, attempt, DialerEvent::DeadlinePassed, None),
    };
    let event = match peer_of_connection(connection.peer_identity()) {
        Ok(peer) => DialerEvent::Connected { peer },
        Err(_) => DialerEvent::ConnectionFailed,
    };
    let step = hub.act(|core, now| {
        core.dial_step(now, (&mut dialer, attempt), DialEvent::Other(event), Some(&wire(&connection)))
    });
    let hello = match step {
        DialStep::Send(hello) => hello,
        DialStep::Close(reason) => return close(&connection, CloseCode::Hello(reason)),
        DialStep::Up(..) | DialStep::Nothing => return close(&connection, CloseCode::Malformed),
    };
    let (ack, streams) = match timeout_at(deadline, ask(&connection, hello)).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(event)) => return over(&hub, &mut dialer, attempt, event, Some(&connection)),
        Err(_) => return over(&hub, &mut dialer, attempt, DialerEvent::DeadlinePassed, Some(&connection)),
    };
    let step = hub.act(|core, now| {
        let step = core.dial_step(now, (&mut dialer, attempt), DialEvent::Ack(ack), Some(&wire(&connection)));
        if matches!(step, DialStep::Up(..)) {
            quic::welcome(&connection, hub.streams_max);
        }
        step
    });
    match step {
        DialStep::Up(id, peer) => session::start(&hub, (attempt.peer, id), &peer, streams),
        DialStep::Close(reason) => turn_away(&hub, &connection, attempt.peer, reason),
        DialStep::Send(_) | DialStep::Nothing => close(&connection, CloseCode::Malformed),
    }
}

/// It came to nothing.
fn over(
    hub: &Arc<Hub>,
    dialer: &mut HelloDialer,
    attempt: DialAttempt,
    event: DialerEvent,
    connection: Option<&quinn::Connection>,
) {
    tracing::debug!(peer = %attempt.peer.short(), address = %attempt.address, ?event, "dialing failed");
    let closed = connection.and_then(quinn::Connection::close_reason);
    let proof = closed.as_ref().and_then(proof_in);
    let another = closed.as_ref().and_then(another_start_in);
    let step = hub.act(|core, now| {
        let step =
            core.dial_step(now, (dialer, attempt), DialEvent::Other(event), connection.map(wire).as_ref());
        // WIRE-21
        if let Some(proof) = proof {
            core.shown_removal(now, attempt.peer, proof);
        }
        if let Some((elsewhere, is_copy)) = another {
            core.told_of_another_start(attempt.peer, elsewhere, is_copy);
        }
        step
    });
    let Some(connection) = connection else { return };
    let code = match step {
        DialStep::Close(reason) => CloseCode::Hello(reason),
        DialStep::Send(_) | DialStep::Up(..) | DialStep::Nothing => CloseCode::Hello(HelloRefusal::TooSlow),
    };
    close(connection, code);
}

fn wire(connection: &quinn::Connection) -> Wire {
    Wire::Quinn(connection.clone())
}

async fn connect(hub: &Hub, attempt: DialAttempt) -> Result<quinn::Connection, DialerEvent> {
    let name = crate::identity::server_name(&attempt.peer);
    let connecting = hub.quinn.connect_with(hub.client(), attempt.address, &name);
    let connecting = connecting.map_err(|_| DialerEvent::ConnectionFailed)?;
    // WIRE-8: what comes before the peer has shown its key is nobody's verdict.
    connecting.await.map_err(|_| DialerEvent::ConnectionFailed)
}

/// Says hello and reads the answer.
async fn ask(connection: &quinn::Connection, hello: Hello) -> Result<(HelloAck, ControlStream), DialerEvent> {
    let (mut send, mut receive) = connection.open_bi().await.map_err(|error| event_of(&error))?;
    drop(send.set_priority(session::CONTROL_PRIORITY));
    let mut bytes = BytesMut::new();
    wire::put(&hello.into(), &mut bytes).map_err(|_| DialerEvent::ConnectionFailed)?;
    let failed = || connection.close_reason().map_or(DialerEvent::ConnectionFailed, |error| event_of(&error));
    send.write_all(&bytes).await.map_err(|_| failed())?;
    let mut buffer = BytesMut::new();
    loop {
        match wire::take(&mut buffer) {
            Ok(Received::Message(Control::HelloAck(ack))) => return Ok((ack, (send, receive, buffer))),
            Ok(Received::Message(Control::HelloRefused(refused))) => {
                return Err(DialerEvent::RefusedReceived(refused.reason));
            }
            Ok(Received::Need(_)) if buffer.len() < wire::FIRST_BYTES_MAX => {}
            Ok(Received::Message(_) | Received::Unknown { .. } | Received::Need(_)) | Err(_) => {
                return Err(DialerEvent::Closed(CloseCode::Malformed));
            }
        }
        match receive.read_chunk(wire::CONTROL_BYTES_MAX, true).await {
            Ok(Some(chunk)) => buffer.extend_from_slice(&chunk.bytes),
            Ok(None) => return Err(DialerEvent::ConnectionFailed),
            Err(quinn::ReadError::ConnectionLost(error)) => return Err(event_of(&error)),
            Err(_) => return Err(failed()),
        }
    }
}

fn event_of(error: &quinn::ConnectionError) -> DialerEvent {
    match error {
        quinn::ConnectionError::ApplicationClosed(close) => {
            DialerEvent::Closed(CloseCode::from_code(close.error_code.into_inner()))
        }
        _ => DialerEvent::ConnectionFailed,
    }
}
