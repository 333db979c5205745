//! The first bytes of a stranger, tokens and certificates: nobody gets in who has no certificate of the cluster, and nothing panics.

#![no_main]

use arw_actors::moment::{Moment, WallTime};
use arw_transport::certificate::{ClusterKey, RevocationSet, Roles, SignedCertificate, SignedRevocation};
use arw_transport::handshake::{AcceptorAction, AcceptorEvent, HelloAcceptor, LocalMember, PeerLink};
use arw_transport::identity::NodeId;
use arw_transport::token::JoinToken;
use arw_transport::wire::{First, take_first};
use bytes::BytesMut;
use libfuzzer_sys::fuzz_target;

const OWN: NodeId = NodeId::from_bytes([1; 32]);
const PEER: NodeId = NodeId::from_bytes([2; 32]);
const NOW: WallTime = WallTime::from_millis(1_800_000_000_000);

fuzz_target!(|bytes: &[u8]| {
    let cluster = ClusterKey::from_seed(&[7; 32]).expect("a seed");
    let lifetime = arw_transport::certificate::CERTIFICATE_LIFETIME;
    let certificate = cluster.certify(OWN, Roles::default(), 1, NOW, lifetime);
    let revoked = RevocationSet::default();
    let local = LocalMember {
        id: OWN,
        incarnation: 1,
        name: "own",
        certificate: &certificate,
        cluster_key: cluster.public(),
        revoked: &revoked,
    };
    let mut buffer = BytesMut::from(bytes);
    if let Ok(Some(First::Hello(hello))) = take_first(&mut buffer) {
        let is_certified = SignedCertificate::from_bytes(&hello.certificate)
            .is_ok_and(|shown| shown.verify(&cluster.public(), PEER, NOW, &revoked).is_ok());
        let link = PeerLink { own: OWN, peer: PEER, is_dialing: false, held: None, incarnation_known: 0 };
        let mut acceptor = HelloAcceptor::new(Moment::ZERO, PEER);
        let event = AcceptorEvent::HelloReceived { hello, link };
        let action = acceptor.handle((Moment::ZERO, NOW), &event, &local);
        assert!(is_certified || matches!(action, Some(AcceptorAction::Refuse(_))));
    }
    if let Ok(signed) = SignedRevocation::from_bytes(bytes) {
        let _ = signed.verify(&cluster.public());
    }
    if let Ok(text) = std::str::from_utf8(bytes)
        && let Ok(token) = JoinToken::parse(text, NOW)
    {
        assert_eq!(JoinToken::parse(&token.reveal(), NOW).as_ref(), Ok(&token));
    }
});
