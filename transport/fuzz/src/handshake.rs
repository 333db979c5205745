//! The first bytes of a stranger, tokens and certificates: nobody gets in who has neither a certificate nor a
//! token of the cluster, and nothing panics.

use std::sync::LazyLock;
use std::time::Duration;

use arw_kit::moment::{Moment, WallTime};
use arw_transport::certificate::{
    CERTIFICATE_LIFETIME, ClusterKey, RevocationSet, Roles, SignedCertificate, SignedRevocation,
};
use arw_transport::handshake::{AcceptorAction, AcceptorEvent, HelloAcceptor, LocalMember, PeerLink, Start};
use arw_transport::identity::NodeId;
use arw_transport::join::{IssuerAction, IssuerContext, IssuerEvent, JoinIssuer};
use arw_transport::token::{JoinToken, KeyingMaterial, NewToken, TokenId, TokenRecord, TokenTable};
use arw_transport::wire::{First, Hello, Join, take_first};
use bytes::BytesMut;

const OWN: NodeId = NodeId::from_bytes([1; 32]);
const PEER: NodeId = NodeId::from_bytes([2; 32]);
const NOW: WallTime = WallTime::from_millis(1_800_000_000_000);

/// The token that the seed of a join names, with another secret.
const TOKEN: (TokenId, [u8; 16]) = (TokenId::from_bytes([3; 8]), [8; 16]);

/// Signing is slow, and always the same.
struct Fixed {
    cluster: ClusterKey,
    certificate: SignedCertificate,
    token: TokenRecord,
}

static FIXED: LazyLock<Fixed> = LazyLock::new(|| {
    let cluster = ClusterKey::from_seed(&[7; 32]).expect("a seed");
    let certificate = cluster.certify(OWN, Roles::default(), 1, NOW, CERTIFICATE_LIFETIME);
    let addresses = vec![([127, 0, 0, 1], 8091).into()];
    let wanted = NewToken { roles: Roles::default(), ttl: Duration::from_secs(3600), uses_max: 1, addresses };
    let made = TokenTable::restore([]).create(NOW, wanted, (cluster.id(), OWN), TOKEN);
    let (_, token) = made.expect("a token");
    Fixed { cluster, certificate, token }
});

/// Reads the bytes as a node would, and asserts what must hold of any.
pub fn feed(bytes: &[u8]) {
    match take_first(&mut BytesMut::from(bytes)) {
        Ok(Some(First::Hello(hello))) => judge_hello(hello),
        Ok(Some(First::Join(join))) => judge_join(join),
        Ok(None) | Err(_) => {}
    }
    if let Ok(signed) = SignedRevocation::from_bytes(bytes) {
        let _ = signed.verify(&FIXED.cluster.public());
    }
    if let Ok(text) = std::str::from_utf8(bytes)
        && let Ok(token) = JoinToken::parse(text, NOW)
    {
        assert_eq!(JoinToken::parse(&token.reveal(), NOW).as_ref(), Ok(&token));
    }
}

fn judge_hello(hello: Hello) {
    let Fixed { cluster, certificate, .. } = &*FIXED;
    let revoked = RevocationSet::default();
    let local = LocalMember {
        id: OWN,
        start: Start { incarnation: 1, number: 1 },
        name: "own",
        certificate,
        cluster_key: cluster.public(),
        revoked: &revoked,
    };
    let is_certified = SignedCertificate::from_bytes(&hello.certificate)
        .is_ok_and(|shown| shown.verify(&cluster.public(), PEER, NOW, &revoked).is_ok());
    let link =
        PeerLink { own: OWN, peer: PEER, is_dialing: false, held: None, incarnation_known: 0, seen: None };
    let mut acceptor = HelloAcceptor::new(Moment::ZERO, PEER);
    let event = AcceptorEvent::HelloReceived { hello, link };
    let action = acceptor.handle((Moment::ZERO, NOW), &event, &local);
    assert!(is_certified || matches!(action, Some(AcceptorAction::Refuse(_))));
}

fn judge_join(join: Join) {
    let Fixed { cluster, token, .. } = &*FIXED;
    let revoked = RevocationSet::default();
    let context =
        IssuerContext { own: OWN, cluster, revoked: &revoked, serial: 2, is_present: false, peers: &[] };
    let mut tokens = TokenTable::restore([token.clone()]);
    let event = IssuerEvent::JoinReceived { join, keying: KeyingMaterial([0; 32]) };
    let action =
        JoinIssuer::new(Moment::ZERO, PEER).handle((Moment::ZERO, NOW), event, &mut tokens, &context);
    assert!(matches!(action, Some(IssuerAction::Refuse(_))), "nobody knows the secret");
    assert!(tokens.list().all(|record| record == token), "a wrong proof uses nothing up");
}
