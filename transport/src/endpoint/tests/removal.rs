//! Certificates that end: by removal, by time, by renewal.

use std::sync::Arc;
use std::time::Duration;

use arw_kit::clock::Clock;
use arw_kit::moment::WallTime;
use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use tokio::task::JoinHandle;

use super::kit::*;
use crate::certificate::{
    CERTIFICATE_LIFETIME, CLOCK_SKEW_ALLOWED, Revocation, RevocationSet, Role, Roles, SignedCertificate,
    SignedRevocation,
};
use crate::endpoint::*;
use crate::handshake::HelloFailure;
use crate::identity::NodeId;
use crate::join::JoinFailure;
use crate::wire::{self, CloseCode, GoodbyeReason, HelloRefusal, JoinRefusal};

#[tokio::test]
async fn a_removed_node_is_refused_by_everybody() {
    // WIRE-10, WIRE-21
    let ([one, mut two, mut three], ledger) = three().await;
    let (removed, address) = (three.id, three.handle.local_addr());
    let signed = one.handle.remove(removed).await.unwrap();
    assert_eq!(*ledger.revocations.lock(), [signed]);
    let learned = two.event(|event| match event {
        EndpointEvent::Revoked(learned) => Some(learned),
        _ => None,
    });
    assert_eq!(learned.await, signed);
    three.event(|event| matches!(event, EndpointEvent::Removed).then_some(())).await;
    three.until("cut off", |picture| connected(picture).is_empty()).await;
    assert!(!connected(&two.handle.picture()).contains(&removed));
    assert!(three.handle.picture().is_removed);
    three.crash().await;
    let again = Wanted { listen: address, incarnation: 2, ..Wanted::member(3) };
    let mut again = again.knowing(&[&one, &two]).start();
    again.event(|event| matches!(event, EndpointEvent::Removed).then_some(())).await;
    let refused = |node: &Node| node.handle.counters().hello_refused(HelloRefusal::Removed) > 0;
    eventually("refused by both", || refused(&one) && refused(&two)).await;
    assert!(connected(&again.handle.picture()).is_empty());
    assert_eq!(one.handle.remove(one.id).await, Err(RemoveError::Itself));
}

#[tokio::test]
async fn a_member_that_closes_with_a_bare_removed_code_changes_nothing() {
    // WIRE-8, WIRE-21
    let mut node = Wanted::member(1).start();
    let removed = CloseCode::Goodbye(GoodbyeReason::Removed);
    let revocation = |of: u8, serial_max| Revocation {
        node: node_key(of).id(),
        serial_max,
        kept_until: Clock::system().wall() + CERTIFICATE_LIFETIME,
    };
    let forged = cluster_key(2).revoke(revocation(1, 50));
    // Good, but about an earlier certificate of this node.
    let earlier = cluster_key(1).revoke(revocation(1, 0));
    let proofs: [&[u8]; 4] = [b"", b"the node was removed", forged.as_bytes(), earlier.as_bytes()];
    for (proof, by) in proofs.into_iter().zip(2..) {
        let raw = super::hostile::Raw::connect(&node, by).await;
        let (_send, _receive) = raw.say_hello(Wanted::member(by).certificate).await;
        node.event(|event| matches!(event, EndpointEvent::PeerUp { .. }).then_some(())).await;
        raw.connection.close(quinn::VarInt::from_u64(removed.code()).unwrap(), proof);
        node.event(|event| match event {
            EndpointEvent::PeerDown { reason, .. } => Some(reason),
            EndpointEvent::Removed => panic!("it believes {proof:?}"),
            _ => None,
        })
        .await;
    }
    let two = Wanted::member(9).knowing(&[&node]).start();
    node.until("still a member", |picture| connected(picture).contains(&two.id)).await;
    assert!(!node.handle.picture().is_removed);
    assert_eq!(node.handle.counters().revocations_refused, 3);
}

#[tokio::test]
async fn a_refusal_as_removed_without_proof_changes_nothing_and_with_it_all() {
    // WIRE-8, WIRE-21
    let server = quic::server(&node_key(2)).unwrap();
    let server = quinn::Endpoint::server(server, loopback()).unwrap();
    let known = Known { node: node_key(2).id(), addresses: vec![server.local_addr().unwrap()] };
    let kept_until = Clock::system().wall() + CERTIFICATE_LIFETIME;
    let proof = cluster_key(1).revoke(Revocation { node: node_key(1).id(), serial_max: 1, kept_until });
    let code = CloseCode::Hello(HelloRefusal::Removed);
    let code = quinn::VarInt::from_u64(code.code()).unwrap();
    for (reason, is_believed) in [(b"".as_slice(), false), (proof.as_bytes(), true)] {
        let node = Wanted { known: vec![known.clone()], ..Wanted::member(1) }.start();
        let dialed = server.accept().await.unwrap().await.unwrap();
        dialed.accept_bi().await.unwrap();
        dialed.close(code, reason);
        let refused = HelloFailure::Refused(HelloRefusal::Removed);
        let is_refused = |row: &PeerRow| row.dial.as_ref().is_some_and(|d| d.last_failure == Some(refused));
        eventually("refused", || node.handle.peers().iter().any(is_refused)).await;
        eventually("judged", || node.handle.picture().is_removed == is_believed).await;
        assert_eq!(node.handle.picture().is_removed, is_believed);
        node.crash().await;
    }
}

#[tokio::test]
async fn a_removed_node_is_not_dialed_any_more() {
    // WIRE-21
    let away = Known { node: node_key(3).id(), addresses: vec![loopback()] };
    let is_dialed = |node: &Node| node.handle.peers().iter().any(|row| row.node == away.node);
    let one = Wanted { known: vec![away.clone()], ..Wanted::issuer(1).0 }.start();
    assert!(is_dialed(&one));
    one.handle.remove(away.node).await.unwrap();
    assert!(!is_dialed(&one), "it has no connection");
    // Who knows of the removal from before finds out by dialing: it may have joined again since.
    let three = Wanted::member(3).start();
    let mut two = Wanted::member(2).knowing(&[&three]);
    for signed in one.handle.picture().revocations {
        two.revoked.add(signed, &cluster_key(1).public()).unwrap();
    }
    let two = two.start();
    eventually("given up", || !is_dialed(&two)).await;
    eventually("told", || three.handle.picture().is_removed).await;
}

#[tokio::test]
async fn a_member_that_passes_on_what_is_forged_is_cut_off() {
    // WIRE-21
    let mut node = Wanted::member(1).start();
    let wall = Clock::system().wall();
    let kept_until = wall + CERTIFICATE_LIFETIME;
    let revocation = |of: u8| Revocation { node: node_key(of).id(), serial_max: 50, kept_until };
    let good = cluster_key(1).revoke(revocation(8));
    let mut bad = cluster_key(1).revoke(revocation(9)).as_bytes().to_vec();
    *bad.last_mut().unwrap() ^= 1;
    let foreign = cluster_key(2).revoke(revocation(9)).as_bytes().to_vec();
    let revocations = vec![good.as_bytes().to_vec(), bad.clone(), bad, foreign.clone()];
    let certificate = cluster_key(2).certify(node.id, Roles::default(), 99, wall, CERTIFICATE_LIFETIME);
    let forged: [wire::Control; 3] = [
        wire::Revoked { revocations }.into(),
        wire::Revoked { revocations: vec![foreign] }.into(),
        wire::Renewed { certificate: certificate.as_bytes().to_vec() }.into(),
    ];
    for (message, by) in forged.into_iter().zip(2..) {
        let raw = super::hostile::Raw::connect(&node, by).await;
        let (mut send, _receive) = raw.say_hello(Wanted::member(by).certificate).await;
        let mut bytes = bytes::BytesMut::new();
        wire::put(&message, &mut bytes).unwrap();
        send.write_all(&bytes).await.unwrap();
        assert_eq!(raw.closed().await, CloseCode::Malformed);
    }
    node.until("all gone", |picture| connected(picture).is_empty()).await;
    assert_eq!(node.handle.picture().revocations, [good]);
    let counters = node.handle.counters();
    assert_eq!((counters.revocations_refused, counters.certificates_refused, counters.malformed), (2, 1, 3));
}

#[tokio::test]
async fn who_was_away_learns_of_a_removal_at_hello() {
    // WIRE-21
    let mut revoked = RevocationSet::default();
    let kept_until = Clock::system().wall() + CERTIFICATE_LIFETIME;
    let revocation = Revocation { node: node_key(9).id(), serial_max: 50, kept_until };
    let signed = cluster_key(1).revoke(revocation);
    revoked.add(signed, &cluster_key(1).public()).unwrap();
    let one = Wanted { revoked, ..Wanted::member(1) }.start();
    let mut two = Wanted::member(2).knowing(&[&one]).start();
    let learned = two.event(|event| match event {
        EndpointEvent::Revoked(learned) => Some(learned),
        _ => None,
    });
    assert_eq!(learned.await, signed);
    assert_eq!(two.handle.picture().revocations, [signed]);
}

/// A certificate whose time is over after `left`, the five minutes that clocks are forgiven included.
fn ending_in(byte: u8, left: Duration) -> SignedCertificate {
    let now = Clock::system().wall().as_millis();
    let lifetime = Duration::from_secs(3_600);
    let span = i64::try_from((lifetime + CLOCK_SKEW_ALLOWED - left).as_millis()).unwrap();
    certificate(byte, WallTime::from_millis(now - span), lifetime)
}

#[tokio::test]
async fn an_expired_certificate_ends_its_connection() {
    // WIRE-21
    let mut one = Wanted::member(1).start();
    let ending = ending_in(2, Duration::from_millis(1_500));
    let mut two = Wanted { certificate: ending, ..Wanted::member(2) }.knowing(&[&one]).start();
    one.until_with(&[two.id]).await;
    let reason = two.event(|event| match event {
        EndpointEvent::PeerDown { reason, .. } => Some(reason),
        _ => None,
    });
    assert_eq!(reason.await, PeerDownReason::Goodbye(GoodbyeReason::Expired));
    one.until("cut off", |picture| connected(picture).is_empty()).await;
}

#[tokio::test]
async fn a_certificate_is_renewed_by_itself_and_peers_learn_of_it() {
    // WIRE-21
    let issuer = Wanted::issuer(1).0.start();
    let mut three = Wanted::member(3).knowing(&[&issuer]).start();
    let old = ending_in(2, Duration::from_secs(600));
    let mut two = Wanted { certificate: old, ..Wanted::member(2) }.knowing(&[&issuer, &three]).start();
    let renewed = two.event(|event| match event {
        EndpointEvent::CertificateRenewed(signed) => Some(signed),
        _ => None,
    });
    let renewed = renewed.await;
    let wall = Clock::system().wall();
    let verified = renewed.verify(&cluster_key(1).public(), two.id, wall, &RevocationSet::default()).unwrap();
    assert!(verified.renew_from() > wall && verified.serial >= 1_000);
    assert_eq!(verified.roles, Roles::from_iter([Role::Worker]), "nobody gains a role by renewing");
    assert_eq!(two.handle.picture().certificate, renewed);
    // A card travels behind the news on the same stream.
    let (second, third) = (two.id, three.id);
    two.until_with(&[issuer.id, third]).await;
    two.handle.publish_card(bytes::Bytes::from_static(b"renewed")).unwrap();
    three.event(|event| matches!(event, EndpointEvent::Card(_)).then_some(())).await;
    let row = three.handle.peers().into_iter().find(|row| row.node == second).unwrap();
    assert_eq!(row.connection.unwrap().peer.certificate.serial, verified.serial);
}

#[tokio::test]
async fn an_issuer_renews_its_own_certificate() {
    // WIRE-21
    let old = ending_in(1, Duration::from_secs(600));
    let mut issuer = Wanted { certificate: old, ..Wanted::issuer(1).0 }.start();
    issuer.event(|event| matches!(event, EndpointEvent::CertificateRenewed(_)).then_some(())).await;
}

#[tokio::test]
async fn a_node_of_another_cluster_is_refused_and_counted() {
    // WIRE-9
    let one = Wanted::member(1).start();
    let wall = Clock::system().wall();
    let foreign = cluster_key(2).certify(node_key(2).id(), Roles::default(), 1, wall, CERTIFICATE_LIFETIME);
    let client = super::hostile::Raw::connect(&one, 2).await;
    let code = client.hello(foreign).await;
    assert_eq!(code, CloseCode::Hello(HelloRefusal::OtherCluster));
    assert_eq!(one.handle.counters().hello_refused(HelloRefusal::OtherCluster), 1);
}

/// A member that does what it likes, and keeps every certificate that it is given.
struct Hostile {
    raw: super::hostile::Raw,
    send: quinn::SendStream,
    given: Arc<Mutex<Vec<SignedCertificate>>>,
}

impl Hostile {
    async fn connect(node: &Node, certificate: SignedCertificate) -> Self {
        let raw = super::hostile::Raw::connect(node, 2).await;
        let (send, mut receive) = raw.say_hello(certificate).await;
        let given = Arc::<Mutex<Vec<_>>>::default();
        let keeps = Arc::clone(&given);
        tokio::spawn(async move {
            let mut buffer = bytes::BytesMut::new();
            while let Ok(Some(chunk)) = receive.read_chunk(64 * 1024, true).await {
                buffer.extend_from_slice(&chunk.bytes);
                loop {
                    match wire::take(&mut buffer) {
                        Ok(wire::Received::Message(wire::Control::Renewed(renewed))) => {
                            keeps.lock().push(SignedCertificate::from_bytes(&renewed.certificate).unwrap());
                        }
                        Ok(wire::Received::Need(_)) => break,
                        Ok(_) => {}
                        // The answer to the hello is read as a message, too.
                        Err(_) => return,
                    }
                }
            }
        });
        Self { raw, send, given }
    }

    /// Whoever is cut off already asks in vain.
    async fn ask_to_renew(&mut self, serial: u64) {
        let mut bytes = bytes::BytesMut::new();
        wire::put(&wire::Renew { serial }.into(), &mut bytes).unwrap();
        self.send.write_all(&bytes).await.ok();
    }
}

fn remove_apart(node: &Node, removed: NodeId) -> JoinHandle<Result<SignedRevocation, RemoveError>> {
    let handle = node.handle.clone();
    tokio::spawn(async move { handle.remove(removed).await })
}

#[tokio::test]
async fn who_is_being_removed_gets_no_certificate_while_the_removal_is_stored() {
    // WIRE-10
    let (issuer, ledger) = Wanted::issuer(1);
    let issuer = issuer.start();
    let removed = node_key(2).id();
    let due = ending_in(2, Duration::from_secs(600));
    let token = issuer.new_token().await;
    let mut member = Hostile::connect(&issuer, due).await;
    eventually("connected", || connected(&issuer.handle.picture()) == [removed]).await;
    for (is_broken, refused) in [(true, 1), (false, 2)] {
        ledger.hold();
        let removal = remove_apart(&issuer, removed);
        eventually("being stored", || ledger.waiting() == 1).await;
        member.ask_to_renew(2).await;
        eventually("not renewed", || issuer.handle.counters().renewals_refused == refused).await;
        let other = super::hostile::Raw::connect(&issuer, 2).await;
        assert_eq!(other.hello(due).await, CloseCode::Hello(HelloRefusal::Busy));
        let joined = join(super::joining::joining(2), token.clone()).await;
        assert!(matches!(joined, Err(JoinFailure::Refused(JoinRefusal::Removed))), "{joined:?}");
        *ledger.is_broken.lock() = is_broken;
        ledger.release();
        assert_eq!(removal.await.unwrap().is_err(), is_broken);
    }
    assert_eq!(member.raw.closed().await, CloseCode::Goodbye(GoodbyeReason::Removed));
    assert!(member.given.lock().is_empty());
}

#[tokio::test]
async fn a_join_whose_use_of_a_token_is_being_stored_does_not_outlive_a_removal() {
    // WIRE-10, WIRE-12
    let (issuer, ledger) = Wanted::issuer(1);
    let issuer = issuer.start();
    let removed = node_key(2).id();
    let (token, other) = (issuer.new_token().await, issuer.new_token().await);
    ledger.hold();
    let joining = tokio::spawn(join(super::joining::joining(2), token));
    eventually("being stored", || ledger.waiting() == 1).await;
    let removal = remove_apart(&issuer, removed);
    // Nobody shows that a removal is decided, but it lets nobody join any more.
    let in_between = join(super::joining::joining(2), other).await;
    assert!(matches!(in_between, Err(JoinFailure::Refused(JoinRefusal::Removed))), "{in_between:?}");
    ledger.release();
    let mut revoked = RevocationSet::default();
    revoked.add(removal.await.unwrap().unwrap(), &cluster_key(1).public()).unwrap();
    if let Ok(membership) = joining.await.unwrap() {
        let wall = Clock::system().wall();
        let verified = membership.signed.verify(&cluster_key(1).public(), removed, wall, &revoked);
        assert!(verified.is_err(), "{verified:?}");
    }
}

#[tokio::test]
async fn a_node_whose_certificate_a_copy_of_the_issuer_has_signed_is_removed_all_the_same() {
    // WIRE-10
    let issuer = Wanted::issuer(1).0.start();
    let wall = Clock::system().wall();
    let roles = Roles::from_iter([Role::Worker]);
    let member = node_key(2).id();
    let certificate = cluster_key(1).certify(member, roles, 1 << 40, wall, CERTIFICATE_LIFETIME);
    let mut member = Wanted { certificate, ..Wanted::member(2) }.knowing(&[&issuer]).start();
    member.until_with(&[issuer.id]).await;
    let signed = issuer.handle.remove(member.id).await.unwrap();
    assert!(signed.verify(&cluster_key(1).public()).unwrap().serial_max > 1 << 40);
    member.event(|event| matches!(event, EndpointEvent::Removed).then_some(())).await;
    assert!(connected(&issuer.handle.picture()).is_empty());
    // It may be let in again: the next certificate has a higher serial than the removal.
    let token = issuer.new_token().await;
    let joined = join(super::joining::joining(2), token).await.unwrap();
    assert!(joined.certificate.serial > signed.verify(&cluster_key(1).public()).unwrap().serial_max);
}

#[tokio::test]
async fn a_restored_issuer_renews_nobody_before_others_have_told_it_who_was_removed() {
    // WIRE-21
    let mut issuer = Wanted::issuer(1).0;
    issuer.issuer.as_mut().unwrap().restored_at = Some(Clock::system().wall());
    let issuer = issuer.start();
    // Removed since the backup was made, and the first to come.
    let due = ending_in(2, Duration::from_secs(600));
    let mut removed = Hostile::connect(&issuer, due).await;
    eventually("connected", || connected(&issuer.handle.picture()) == [node_key(2).id()]).await;
    removed.ask_to_renew(2).await;
    eventually("not renewed", || issuer.handle.counters().renewals_refused == 1).await;
    let kept_until = Clock::system().wall() + CERTIFICATE_LIFETIME;
    let removal = Revocation { node: node_key(2).id(), serial_max: 5, kept_until };
    let mut member = Wanted::member(3).knowing(&[&issuer]);
    member.revoked.add(cluster_key(1).revoke(removal), &cluster_key(1).public()).unwrap();
    let member = member.start();
    assert_eq!(removed.raw.closed().await, CloseCode::Goodbye(GoodbyeReason::Removed));
    assert!(removed.given.lock().is_empty());
    eventually("only the member", || connected(&issuer.handle.picture()) == [member.id]).await;
}

#[tokio::test]
async fn a_removal_that_fails_leaves_a_member_that_is_renewed() {
    // WIRE-10
    let (issuer, ledger) = Wanted::issuer(1);
    let issuer = issuer.start();
    let mut member = Hostile::connect(&issuer, ending_in(2, Duration::from_secs(600))).await;
    eventually("connected", || connected(&issuer.handle.picture()) == [node_key(2).id()]).await;
    *ledger.is_broken.lock() = true;
    issuer.handle.remove(node_key(2).id()).await.unwrap_err();
    *ledger.is_broken.lock() = false;
    member.ask_to_renew(2).await;
    eventually("renewed", || !member.given.lock().is_empty()).await;
}

#[tokio::test]
async fn whatever_crosses_a_removal_leaves_nothing_that_is_good_after_it() {
    // WIRE-10: renewals, joins and new connections, before, while and after the removal is stored.
    for seed in 0..12 {
        let mut chance = StdRng::seed_from_u64(seed);
        let (issuer, ledger) = Wanted::issuer(1);
        let issuer = issuer.start();
        let removed = node_key(2).id();
        let due = ending_in(2, Duration::from_secs(600));
        // It has been let in with this one, and may come back with it until it is removed. With another it
        // may be a member again.
        let token = issuer.new_token().await;
        join(super::joining::joining(2), token.clone()).await.unwrap();
        let (mut members, mut joins, mut removal) = (Vec::new(), Vec::new(), None);
        let removed_at = chance.random_range(0..10);
        for step in 0..10 {
            if step == removed_at {
                removal = Some(remove_apart(&issuer, removed));
            }
            match chance.random_range(0..6) {
                0 | 1 => {
                    if let Ok(raw) = super::hostile::Raw::try_connect(&issuer, 2).await {
                        drop(raw);
                        members.push(Hostile::connect(&issuer, due).await);
                    }
                }
                2 => {
                    for member in &mut members {
                        member.ask_to_renew(2).await;
                    }
                }
                3 => joins.push(tokio::spawn(join(super::joining::joining(2), token.clone()))),
                4 => ledger.hold(),
                _ => ledger.release(),
            }
            for _ in 0..chance.random_range(0..200) {
                tokio::task::yield_now().await;
            }
        }
        ledger.release();
        let signed = removal.unwrap().await.unwrap().unwrap();
        let mut given = vec![due];
        for joined in joins {
            given.extend(joined.await.unwrap().map(|membership| membership.signed));
        }
        let mut revoked = RevocationSet::default();
        revoked.add(signed, &cluster_key(1).public()).unwrap();
        eventually("cut off", || connected(&issuer.handle.picture()).is_empty()).await;
        given.extend(members.iter().flat_map(|member| member.given.lock().clone()));
        let wall = Clock::system().wall();
        for certificate in given {
            let verified = certificate.verify(&cluster_key(1).public(), removed, wall, &revoked);
            assert!(verified.is_err(), "seed {seed}: {verified:?} is good after {signed:?}");
            let again = super::hostile::Raw::connect(&issuer, 2).await;
            assert_eq!(again.hello(certificate).await, CloseCode::Hello(HelloRefusal::Removed), "{seed}");
        }
    }
}
