//! One of everything that a node reads, made as nodes make it. The same each time.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use arw_kit::moment::{Moment, WallTime};
use arw_transport::certificate::{
    CERTIFICATE_LIFETIME, ClusterId, ClusterKey, Revocation, Role, Roles, SignedCertificate, SignedRevocation,
};
use arw_transport::frame::{Address, CallId, FrameWriter, Header, MessageType, TargetActor, Trace};
use arw_transport::identity::{NodeId, NodeKey};
use arw_transport::membership::{MemberIdentity, Membership, MembershipConfig, MembershipOutput, RecordKey};
use arw_transport::token::{NewToken, TokenId, TokenTable};
use arw_transport::wire::{
    Card, Control, Demonitor, Down, DownReason, Goodbye, GoodbyeReason, Hello, HelloAck, HelloRefusal,
    HelloRefused, Join, JoinAccepted, JoinRefusal, JoinRefused, Monitor, PeerAddresses, Ping, Pong, Renew,
    Renewed, Revoked, Versions, put,
};
use bytes::BytesMut;

/// A target, a file's name and what is in it.
pub(crate) type Seed = (&'static str, String, Vec<u8>);

/// The nodes that the targets take themselves and their peer for, and their time.
const OWN: NodeId = NodeId::from_bytes([1; 32]);
const PEER: NodeId = NodeId::from_bytes([2; 32]);
const NOW: WallTime = WallTime::from_millis(1_800_000_000_000);

pub(crate) fn all() -> Vec<Seed> {
    [frames(), control(), firsts(), datagrams()].concat()
}

fn cluster() -> ClusterKey {
    ClusterKey::from_seed(&[7; 32]).unwrap()
}

fn certificate() -> SignedCertificate {
    cluster().certify(PEER, Roles::from_iter([Role::Worker]), 2, NOW, CERTIFICATE_LIFETIME)
}

fn revocation() -> SignedRevocation {
    cluster().revoke(Revocation { node: PEER, serial_max: 2, kept_until: NOW + CERTIFICATE_LIFETIME })
}

fn frames() -> Vec<Seed> {
    let call = CallId { slot: 4, generation: NonZeroU32::MIN };
    let traced = Some(Trace { trace_id: [5; 16], span_id: [6; 8], flags: 1 });
    let to = Address { actor: TargetActor(7), message: MessageType(2) };
    let headers = [
        ("tell", Header::Tell { to, trace: None }),
        ("tell-traced", Header::Tell { to, trace: traced }),
        ("ask", Header::Ask { to, trace: None, call, deadline_ms: 1500 }),
        ("ask-traced", Header::Ask { to, trace: traced, call, deadline_ms: 0 }),
        ("reply", Header::Reply { call }),
        ("refusal", Header::Refusal { call }),
        ("cancel", Header::Cancel { call }),
        ("taken", Header::Taken { actor: TargetActor(7), tells: 1_024, bytes: 65_536 }),
    ];
    // One lane, on which an address that stays the same is written once.
    let mut all = FrameWriter::with_capacity(256);
    let mut seeds: Vec<Seed> = headers
        .into_iter()
        .map(|(name, header)| {
            let mut writer = FrameWriter::with_capacity(256);
            writer.write(&header, b"a body").unwrap();
            all.write(&header, b"a body").unwrap();
            ("frame", name.to_owned(), writer.take().to_vec())
        })
        .collect();
    let mut newer = seeds[2].2.clone();
    newer[0] += 1;
    seeds.push(("frame", "ask-of-newer-minor-version".to_owned(), newer));
    seeds.push(("frame", "several".to_owned(), all.take().to_vec()));
    seeds
}

fn hello() -> Hello {
    Hello {
        versions: Versions::OWN,
        incarnation: 3,
        number: 0x0123_4567_89AB_CDEF,
        sent_at_ms: NOW.as_millis(),
        certificate: certificate().as_bytes().to_vec(),
        name: "kitchen".to_owned(),
    }
}

fn join() -> Join {
    let (token, proof, name) = ([3; 8], [4; 32], "attic".to_owned());
    Join { versions: Versions::OWN, token, proof, sent_at_ms: NOW.as_millis(), name }
}

fn messages() -> Vec<(&'static str, Control)> {
    let certificate = certificate().as_bytes().to_vec();
    let Hello { incarnation, number, sent_at_ms, name, .. } = hello();
    let versions = Versions::OWN;
    let addresses = vec![([192, 0, 2, 1], 8091).into(), ([0x2001, 0xdb8, 0, 0, 0, 0, 0, 1], 8091).into()];
    let peers = vec![PeerAddresses { node: [1; 32], addresses }];
    vec![
        ("hello", hello().into()),
        (
            "hello-ack",
            HelloAck {
                minor: versions.newest,
                incarnation,
                number,
                sent_at_ms,
                certificate: certificate.clone(),
                name,
            }
            .into(),
        ),
        ("hello-refused", HelloRefused { reason: HelloRefusal::Duplicate, versions }.into()),
        ("join", join().into()),
        (
            "join-accepted",
            JoinAccepted {
                certificate: certificate.clone(),
                cluster: *cluster().id().as_bytes(),
                cluster_key: [8; 32],
                peers,
            }
            .into(),
        ),
        ("join-refused", JoinRefused { reason: JoinRefusal::Used, versions }.into()),
        ("ping", Ping { nonce: 300 }.into()),
        ("pong", Pong { nonce: 300 }.into()),
        ("revoked", Revoked { revocations: vec![revocation().as_bytes().to_vec(); 2] }.into()),
        ("goodbye", Goodbye { reason: GoodbyeReason::Stopping }.into()),
        ("monitor", Monitor { monitor: 1, actor: 70_000, incarnation: 3 }.into()),
        ("demonitor", Demonitor { monitor: 1 }.into()),
        (
            "down",
            Down { monitor: 1, actor: 70_000, reason: DownReason::Crash, text: "a fault".to_owned() }.into(),
        ),
        ("renew", Renew { serial: 2 }.into()),
        ("renewed", Renewed { certificate }.into()),
        ("card", Card { incarnation: 3, card: br#"{"v":1}"#.to_vec() }.into()),
    ]
}

fn bytes_of(message: &Control) -> Vec<u8> {
    let mut bytes = BytesMut::new();
    put(message, &mut bytes).unwrap();
    bytes.to_vec()
}

fn control() -> Vec<Seed> {
    let messages = messages();
    // Each number once, so that a new message is not forgotten here.
    let codes: Vec<u16> = messages.iter().map(|(_, message)| message.code()).collect();
    assert_eq!(codes, (1..=16).collect::<Vec<u16>>());
    let mut all = Vec::new();
    let mut seeds: Vec<Seed> = messages
        .iter()
        .map(|(name, message)| {
            let bytes = bytes_of(message);
            all.extend_from_slice(&bytes);
            ("codec", (*name).to_owned(), bytes)
        })
        .collect();
    seeds.push(("codec", "unknown".to_owned(), vec![0xff, 0x7f, 2, 0, 0, 0, 1, 2]));
    seeds.push(("codec", "several".to_owned(), all));
    seeds
}

fn firsts() -> Vec<Seed> {
    let (id, secret) = (TokenId::from_bytes([3; 8]), [9; 16]);
    let wanted = NewToken {
        roles: Roles::default(),
        ttl: Duration::from_secs(3600),
        uses_max: 1,
        addresses: vec![([192, 0, 2, 1], 8091).into(), ([0x2001, 0xdb8, 0, 0, 0, 0, 0, 1], 8091).into()],
    };
    let made = TokenTable::restore([]).create(NOW, wanted, (cluster().id(), OWN), (id, secret));
    let mut stranger = hello();
    stranger.certificate[20] ^= 1;
    let seeds = [
        ("hello", bytes_of(&hello().into())),
        ("hello-uncertified", bytes_of(&stranger.into())),
        ("join", bytes_of(&join().into())),
        ("token", made.unwrap().0.reveal().into_bytes()),
        ("certificate", certificate().as_bytes().to_vec()),
        ("revocation", revocation().as_bytes().to_vec()),
    ];
    seeds.into_iter().map(|(name, bytes)| ("handshake", name.to_owned(), bytes)).collect()
}

/// What nodes 2 and 3 say to node 1 in ten seconds, in the middle of which node 3 goes silent.
fn datagrams() -> Vec<Seed> {
    let keys = [1, 2, 3].map(|byte| Arc::new(NodeKey::from_seed(&[byte; 32]).unwrap()));
    let ids = [keys[0].id(), keys[1].id(), keys[2].id()];
    let mut nodes = keys.map(|key| {
        let (id, record_key) = (key.id(), RecordKey::new(key, ClusterId::from_bytes([7; 16])));
        let identity = MemberIdentity::new(id, ([127, 0, 0, 1], 7000).into(), 1);
        Membership::new(identity, record_key, MembershipConfig::default(), *id.as_bytes())
    });
    let mut said = Vec::new();
    for (from, to) in [(1, 0), (2, 1), (2, 0)] {
        nodes[from].met(ids[to], 1);
        nodes[to].met(ids[from], 1);
        nodes[from].on_peer_connected(Moment::ZERO, ids[to]);
        nodes[to].on_peer_connected(Moment::ZERO, ids[from]);
    }
    for step in 0..1_000_u32 {
        let now = Moment::ZERO + Duration::from_millis(10) * step;
        for from in 0..nodes.len() {
            nodes[from].on_timer(now);
            while let Some(output) = nodes[from].poll_output() {
                let MembershipOutput::Datagram { to, bytes } = output else { continue };
                let is_heard = step < 500 || (from != 2 && to != ids[2]);
                let Some(receiver) = ids.iter().position(|id| *id == to).filter(|_| is_heard) else {
                    continue;
                };
                if (from, receiver) == (1, 0) {
                    said.push(bytes.to_vec());
                }
                nodes[receiver].on_datagram(now, ids[from], &bytes).unwrap();
            }
        }
    }
    // One of each length: those differ in what they say.
    let by_length: BTreeMap<usize, &Vec<u8>> = said.iter().rev().map(|bytes| (bytes.len(), bytes)).collect();
    let mut seeds: Vec<Seed> = by_length
        .iter()
        .map(|(length, bytes)| ("datagram", format!("of-{length}-bytes"), bytes.to_vec()))
        .collect();
    let short = said.iter().filter_map(|bytes| Some((u8::try_from(bytes.len()).ok()?, bytes)));
    let several = short.take(24).flat_map(|(length, bytes)| [&[length][..], bytes].concat()).collect();
    seeds.push(("datagram", "several".to_owned(), several));
    seeds.push(("datagram", "snapshot".to_owned(), nodes[1].snapshot().to_vec()));
    seeds
}
