//! Peers that do not speak the protocol.

use std::sync::Arc;
use std::time::Duration;

use arw_kit::clock::Clock;
use bytes::BytesMut;
use tokio::time::timeout;

use super::kit::*;
use crate::certificate::SignedCertificate;
use crate::endpoint::*;
use crate::wire::{self, CloseCode, Control, GoodbyeReason, Hello, HelloRefusal, Ping, Versions};

/// A client that does what it likes over QUIC.
pub(super) struct Raw {
    pub(super) connection: quinn::Connection,
    _endpoint: quinn::Endpoint,
}

impl Raw {
    pub(super) async fn connect(node: &Node, byte: u8) -> Self {
        Self::try_connect(node, byte).await.unwrap()
    }

    pub(super) async fn try_connect(node: &Node, byte: u8) -> Result<Self, quinn::ConnectionError> {
        let key = node_key(byte);
        let mut config = quic::client(&key).unwrap();
        let mut transport = quinn::TransportConfig::default();
        transport.stream_receive_window(quinn::VarInt::from_u32(16 * 1024));
        transport.keep_alive_interval(Some(Duration::from_secs(1)));
        config.transport_config(Arc::new(transport));
        let endpoint = quinn::Endpoint::client(loopback()).unwrap();
        let connecting = endpoint
            .connect_with(config, node.handle.local_addr(), &crate::identity::server_name(&node.id))
            .unwrap();
        Ok(Self { connection: connecting.await?, _endpoint: endpoint })
    }

    pub(super) async fn closed(&self) -> CloseCode {
        match timeout(PATIENCE, self.connection.closed()).await.unwrap() {
            quinn::ConnectionError::ApplicationClosed(close) => {
                CloseCode::from_code(close.error_code.into_inner())
            }
            other => panic!("{other}"),
        }
    }

    /// Says something first, and returns how the node ends the connection.
    async fn says(&self, bytes: &[u8]) -> CloseCode {
        let (mut send, _receive) = self.connection.open_bi().await.unwrap();
        // The node may close before all is written.
        send.write_all(bytes).await.ok();
        self.closed().await
    }

    /// Becomes a peer, if the node likes the certificate.
    pub(super) async fn say_hello(
        &self,
        certificate: SignedCertificate,
    ) -> (quinn::SendStream, quinn::RecvStream) {
        let (mut send, receive) = self.connection.open_bi().await.unwrap();
        send.write_all(&hello(certificate, Versions::OWN, 0)).await.unwrap();
        (send, receive)
    }

    pub(super) async fn hello(&self, certificate: SignedCertificate) -> CloseCode {
        self.says(&hello(certificate, Versions::OWN, 0)).await
    }
}

fn hello(certificate: SignedCertificate, versions: Versions, ahead_ms: i64) -> BytesMut {
    let message = Hello {
        versions,
        incarnation: 1,
        number: 1,
        sent_at_ms: Clock::system().wall().as_millis() + ahead_ms,
        certificate: certificate.as_bytes().to_vec(),
        name: "raw".to_owned(),
    };
    let mut bytes = BytesMut::new();
    wire::put(&message.into(), &mut bytes).unwrap();
    bytes
}

#[tokio::test]
async fn a_silent_client_is_cut_after_3_s() {
    // WIRE-13
    let node = Wanted::member(1).start();
    let clock = Clock::system();
    // The handshake is part of the three seconds.
    let began = clock.now();
    let silent = Raw::connect(&node, 2).await;
    let slow = Raw::connect(&node, 3).await;
    let (mut send, _receive) = slow.connection.open_bi().await.unwrap();
    send.write_all(&[1]).await.unwrap();
    assert_eq!(silent.closed().await, CloseCode::Hello(HelloRefusal::TooSlow));
    let took = clock.now().since(began);
    // The code says why; how late a busy machine is in cutting it is not promised.
    assert!((Duration::from_millis(2_900)..Duration::from_secs(30)).contains(&took), "{took:?}");
    assert_eq!(slow.closed().await, CloseCode::Hello(HelloRefusal::TooSlow));
    assert_eq!(node.handle.counters().hello_refused(HelloRefusal::TooSlow), 2);
}

#[tokio::test]
async fn each_bad_first_message_is_refused_by_a_code_and_counted() {
    // WIRE-6, WIRE-8, WIRE-13, WIRE-14
    let node = Wanted::member(1).start();
    let good = Wanted::member(2).certificate;
    let newer = Versions { oldest: 200, newest: 201 };
    let mut ping = BytesMut::new();
    wire::put(&Ping { nonce: 1 }.into(), &mut ping).unwrap();
    let oversized = [1_u16.to_le_bytes().as_slice(), &1_000_000_u32.to_le_bytes(), &[0; 8_000]].concat();
    let cases: [(&[u8], HelloRefusal); 6] = [
        (b"GET / HTTP/1.1\r\n\r\n", HelloRefusal::Malformed),
        (&ping, HelloRefusal::Malformed),
        (&oversized, HelloRefusal::Malformed),
        (&hello(good, newer, 0), HelloRefusal::Version),
        (&hello(good, Versions::OWN, 3 * 3_600_000), HelloRefusal::Clock),
        (&hello(Wanted::member(3).certificate, Versions::OWN, 0), HelloRefusal::OtherNode),
    ];
    for (bytes, refusal) in cases {
        let before = node.handle.counters().hello_refused(refusal);
        assert_eq!(Raw::connect(&node, 2).await.says(bytes).await, CloseCode::Hello(refusal));
        assert_eq!(node.handle.counters().hello_refused(refusal), before + 1);
    }
    assert_eq!(node.handle.counters().connections, 0);
}

#[tokio::test]
async fn a_stranger_has_one_stream_and_16_kib() {
    // WIRE-16
    let node = Wanted::member(1).start();
    let raw = Raw::connect(&node, 2).await;
    let within = Duration::from_millis(200);
    let (mut send, _receive) = raw.connection.open_bi().await.unwrap();
    assert!(timeout(within, raw.connection.open_bi()).await.is_err(), "a second stream");
    assert!(timeout(within, raw.connection.open_uni()).await.is_err(), "a stream one way");
    // A header that says 4,000 bytes, and then a trickle: the node waits for the rest of it, and takes no
    // more.
    send.write_all(&[1, 0, 0xA0, 0x0F, 0, 0]).await.unwrap();
    let mut taken = 0;
    let flood = async {
        while let Ok(written) = send.write(&[0; 1_000]).await {
            taken += written;
        }
    };
    drop(timeout(within, flood).await);
    assert!(taken <= 64 * 1024, "{taken}");
}

#[tokio::test]
async fn garbage_datagrams_do_not_disturb_anybody() {
    let mut one = Wanted::member(1).start();
    let socket = std::net::UdpSocket::bind(loopback()).unwrap();
    let mut noise = [0_u8; 1_400];
    for round in 0..2_000_u32 {
        let length = (round as usize * 37) % noise.len() + 1;
        aws_lc_rs::rand::fill(&mut noise[..length]).unwrap();
        socket.send_to(&noise[..length], one.handle.local_addr()).unwrap();
    }
    let two = Wanted::member(2).knowing(&[&one]).start();
    one.until_with(&[two.id]).await;
    assert_eq!(one.handle.counters().connections, 1);
}

#[tokio::test]
async fn a_peer_that_does_not_read_is_cut_off() {
    // WIRE-19
    let mut node = Wanted::member(1).start();
    let raw = Raw::connect(&node, 2).await;
    let (mut send, _unread) = raw.connection.open_bi().await.unwrap();
    send.write_all(&hello(Wanted::member(2).certificate, Versions::OWN, 0)).await.unwrap();
    let id = node_key(2).id();
    node.event(|event| matches!(event, EndpointEvent::PeerUp { .. }).then_some(())).await;
    let connection = node.handle.connection(id).unwrap();
    let big: Control = wire::Card { incarnation: 1, card: vec![0; 40_000] }.into();
    let sent = (0..1_000).take_while(|_| connection.send_control(&big).is_ok()).count();
    assert!(sent < 100, "{sent}");
    timeout(PATIENCE, raw.connection.closed()).await.unwrap();
    let down = node.event(|event| match event {
        EndpointEvent::PeerDown { reason, .. } => Some(reason),
        _ => None,
    });
    assert_eq!(down.await, PeerDownReason::Closed(GoodbyeReason::Stalled));
    assert_eq!(node.handle.counters().stalled, 1);
}

#[tokio::test]
async fn a_member_that_talks_nonsense_is_cut_off_and_an_unknown_message_is_skipped() {
    // WIRE-5
    let mut node = Wanted::member(1).start();
    let raw = Raw::connect(&node, 2).await;
    let (mut send, _receive) = raw.connection.open_bi().await.unwrap();
    send.write_all(&hello(Wanted::member(2).certificate, Versions::OWN, 0)).await.unwrap();
    send.write_all(&[0xFF, 0x7F, 3, 0, 0, 0, 1, 2, 3]).await.unwrap();
    raw.connection.send_datagram(bytes::Bytes::from_static(&[250, 1, 2])).unwrap();
    raw.connection.send_datagram(bytes::Bytes::from_static(&[1, 2, 3])).unwrap();
    // A card about another start of the node, then a hello in the middle of things.
    let mut more = BytesMut::new();
    wire::put(&wire::Card { incarnation: 9, card: vec![] }.into(), &mut more).unwrap();
    more.extend_from_slice(&hello(Wanted::member(2).certificate, Versions::OWN, 0));
    send.write_all(&more).await.unwrap();
    assert_eq!(raw.closed().await, CloseCode::Malformed);
    let down = node.event(|event| match event {
        EndpointEvent::PeerDown { reason, .. } => Some(reason),
        _ => None,
    });
    assert_eq!(down.await, PeerDownReason::Malformed);
    let counters = node.handle.counters();
    assert_eq!((counters.control_unknown, counters.cards_refused, counters.malformed), (1, 1, 1));
}

#[tokio::test]
async fn more_handshakes_than_allowed_are_refused_and_counted() {
    // WIRE-20
    let handshakes = HandshakeLimits { source_burst: 2, source_per_second: 1, ..HandshakeLimits::default() };
    let limits = Limits { handshakes, ..Limits::default() };
    let node = Wanted { limits, ..Wanted::member(1) }.start();
    let held = [Raw::connect(&node, 2).await, Raw::connect(&node, 3).await];
    let refused = Raw::try_connect(&node, 4).await.map(|_| ()).unwrap_err();
    assert!(matches!(refused, quinn::ConnectionError::ConnectionClosed(_)), "{refused:?}");
    let counters = node.handle.counters();
    assert_eq!((counters.handshakes, counters.handshakes_retried, counters.handshakes_limited), (2, 1, 1));
    drop(held);
}

#[tokio::test]
async fn under_load_an_address_is_proven_before_anything_is_computed() {
    // WIRE-20
    let handshakes = HandshakeLimits { pending_calm: 0, ..HandshakeLimits::default() };
    let limits = Limits { handshakes, ..Limits::default() };
    let mut node = Wanted { limits, ..Wanted::member(1) }.start();
    let two = Wanted::member(2).knowing(&[&node]).start();
    node.until_with(&[two.id]).await;
    let counters = node.handle.counters();
    assert_eq!((counters.handshakes, counters.handshakes_retried, counters.handshakes_limited), (1, 1, 0));
}

#[tokio::test]
async fn no_more_members_are_connected_than_allowed() {
    let limits = Limits { connections_max: 1, ..Limits::default() };
    let mut node = Wanted { limits, ..Wanted::member(1) }.start();
    let two = Wanted::member(2).knowing(&[&node]).start();
    node.until_with(&[two.id]).await;
    let code = Raw::connect(&node, 3).await.hello(Wanted::member(3).certificate).await;
    assert_eq!(code, CloseCode::Hello(HelloRefusal::Busy));
}
