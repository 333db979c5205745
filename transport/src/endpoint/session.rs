//! A connection that stands: its control stream, datagrams and streams.
//!
//! Owns the tasks that carry bytes between quinn and the endpoint's core. They end with the connection.
//! Refuses to decide anything but what a stream's first byte means.

use std::sync::Arc;

use bytes::BytesMut;
use tokio::time::timeout;

use super::connection::{PeerConnection, another_start_in, proof_in};
use super::hub::Hub;
use super::services::{InboundStream, PeerDownReason, StreamPurpose};
use super::stream::PeerStream;
use crate::identity::NodeId;
use crate::join::FIRST_MESSAGE_WITHIN;
use crate::wire::{self, CloseCode, GoodbyeReason, Received, StreamRefusal};

/// The control stream goes before all others.
pub(super) const CONTROL_PRIORITY: i32 = 10;

/// A node and the number of its connection.
type Key = (NodeId, u64);

pub(super) fn start(
    hub: &Arc<Hub>,
    key: Key,
    peer: &PeerConnection,
    (send, receive, buffer): (quinn::SendStream, quinn::RecvStream, BytesMut),
) {
    tokio::spawn(write(peer.clone(), send));
    tokio::spawn(read(Arc::clone(hub), key, receive, buffer));
    tokio::spawn(read_datagrams(Arc::clone(hub), key, peer.quinn().clone()));
    tokio::spawn(take_one_way(Arc::clone(hub), key, peer.quinn().clone()));
    tokio::spawn(take_two_way(Arc::clone(hub), key, peer.quinn().clone()));
    tokio::spawn(watch(Arc::clone(hub), key, peer.quinn().clone()));
}

async fn watch(hub: Arc<Hub>, key: Key, quinn: quinn::Connection) {
    let error = quinn.closed().await;
    let (proof, another) = (proof_in(&error), another_start_in(&error));
    let reason = match error {
        // Whatever else this node ends, the core knows of: only a full queue is found elsewhere.
        quinn::ConnectionError::LocallyClosed => PeerDownReason::Closed(GoodbyeReason::Stalled),
        error => PeerDownReason::of(&error),
    };
    hub.act(|core, now| {
        core.session_over(now, key, reason);
        // WIRE-21
        if let Some(proof) = proof {
            core.shown_removal(now, key.0, proof);
        }
        if let Some((elsewhere, is_copy)) = another {
            core.told_of_another_start(key.0, elsewhere, is_copy);
        }
    });
}

async fn write(peer: PeerConnection, mut send: quinn::SendStream) {
    while let Some(bytes) = peer.queue().next().await {
        if send.write_all(&bytes).await.is_err() {
            break;
        }
    }
    drop(send.reset(StreamRefusal::Cancelled.stream_code().into()));
}

async fn read(hub: Arc<Hub>, key: Key, mut receive: quinn::RecvStream, mut buffer: BytesMut) {
    loop {
        let outcome = match wire::take(&mut buffer) {
            Ok(Received::Message(message)) => hub.act(|core, now| core.control(now, key, message)),
            Ok(Received::Unknown { .. }) => {
                hub.look(|core| core.counters.control_unknown += 1);
                Ok(())
            }
            Ok(Received::Need(_)) => match receive.read_chunk(wire::CONTROL_BYTES_MAX, true).await {
                Ok(Some(chunk)) => {
                    buffer.extend_from_slice(&chunk.bytes);
                    Ok(())
                }
                // The control stream lives as long as the connection.
                Ok(None) | Err(quinn::ReadError::Reset(_)) => Err(CloseCode::Malformed),
                Err(_) => return,
            },
            // WIRE-5
            Err(_) => Err(CloseCode::Malformed),
        };
        if let Err(code) = outcome {
            hub.act(|core, now| {
                if core.peer_of(key).is_some() {
                    core.counters.malformed += 1;
                    core.end_session(now, key.0, code);
                }
            });
            return;
        }
    }
}

async fn read_datagrams(hub: Arc<Hub>, key: Key, quinn: quinn::Connection) {
    while let Ok(datagram) = quinn.read_datagram().await {
        hub.act(|core, now| core.datagram(now, key, &datagram));
    }
}

async fn take_one_way(hub: Arc<Hub>, key: Key, quinn: quinn::Connection) {
    while let Ok(stream) = quinn.accept_uni().await {
        tokio::spawn(sort_one_way(Arc::clone(&hub), key, stream));
    }
}

async fn take_two_way(hub: Arc<Hub>, key: Key, quinn: quinn::Connection) {
    while let Ok((send, receive)) = quinn.accept_bi().await {
        tokio::spawn(sort_two_way(Arc::clone(&hub), key, send, receive));
    }
}

async fn sort_one_way(hub: Arc<Hub>, key: Key, mut stream: quinn::RecvStream) {
    let purpose = purpose_of(&hub, &mut stream, true).await;
    match purpose {
        Ok(purpose) => deliver(&hub, key, purpose, InboundStream::OneWay(stream)),
        Err(reason) => drop(stream.stop(reason.stream_code().into())),
    }
}

async fn sort_two_way(hub: Arc<Hub>, key: Key, send: quinn::SendStream, mut receive: quinn::RecvStream) {
    let purpose = purpose_of(&hub, &mut receive, false).await;
    let stream = PeerStream::new(key.0, send, receive);
    match purpose {
        Ok(purpose) => {
            stream.set_priority(purpose.priority());
            deliver(&hub, key, purpose, InboundStream::TwoWay(stream));
        }
        Err(reason) => stream.refuse(reason),
    }
}

/// WIRE-16: what a stream is for is its first byte. What is not known is given back, and counted.
async fn purpose_of(
    hub: &Hub,
    stream: &mut quinn::RecvStream,
    is_one_way: bool,
) -> Result<StreamPurpose, StreamRefusal> {
    let mut first = [0];
    let read = timeout(FIRST_MESSAGE_WITHIN, stream.read_exact(&mut first)).await;
    let purpose = match read {
        Ok(Ok(())) => StreamPurpose::from_byte(first[0]),
        Ok(Err(quinn::ReadExactError::ReadError(_))) => return Err(StreamRefusal::Cancelled),
        Ok(Err(quinn::ReadExactError::FinishedEarly(_))) => None,
        Err(_) => {
            hub.look(|core| core.counters.streams_slow += 1);
            return Err(StreamRefusal::TooSlow);
        }
    };
    let fitting = purpose.filter(|purpose| purpose.is_one_way() == is_one_way);
    hub.look(|core| match fitting {
        Some(_) => core.counters.streams += 1,
        None => core.counters.streams_unknown += 1,
    });
    fitting.ok_or(StreamRefusal::UnknownPurpose)
}

fn deliver(hub: &Hub, key: Key, purpose: StreamPurpose, stream: InboundStream) {
    match hub.look(|core| core.peer_of(key)) {
        Some(peer) => hub.services.stream(&peer, purpose, stream),
        None => stream.refuse(StreamRefusal::Cancelled),
    }
}
