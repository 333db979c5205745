use proptest::prelude::*;

use super::*;

const DAY: Duration = Duration::from_secs(24 * 3600);

fn now() -> WallTime {
    WallTime::from_millis(1_800_000_000_000)
}

fn cluster(byte: u8) -> ClusterKey {
    ClusterKey::from_seed(&[byte; 32]).unwrap()
}

fn node(byte: u8) -> NodeId {
    NodeId::from_bytes([byte; 32])
}

fn worker() -> Roles {
    Roles::from_iter([Role::Worker])
}

fn signed() -> SignedCertificate {
    cluster(1).certify(node(7), worker(), 5, now(), DAY)
}

fn verified(signed: &SignedCertificate, at: WallTime) -> Result<Certificate, CertificateError> {
    signed.verify(&cluster(1).public(), node(7), at, &RevocationSet::default())
}

fn removal(serial_max: u64) -> Revocation {
    Revocation { node: node(7), serial_max, kept_until: now() + DAY }
}

#[test]
fn a_certificate_says_what_was_signed() {
    let expected = Certificate {
        cluster: cluster(1).id(),
        node: node(7),
        roles: worker(),
        serial: 5,
        not_before: now(),
        not_after: now() + DAY,
    };
    assert_eq!(verified(&signed(), now()), Ok(expected));
    assert_eq!(expected.renew_from(), now() + Duration::from_secs(16 * 3600));
    assert_eq!(SignedCertificate::from_bytes(signed().as_bytes()), Ok(signed()));
}

#[test]
fn each_reason_to_refuse_a_certificate_is_told_apart() {
    // WIRE-9
    let none = RevocationSet::default();
    let key = cluster(1).public();
    let by = |key: &ClusterPublicKey, id| signed().verify(key, id, now(), &none);
    let found = cluster(1).id();
    assert_eq!(by(&cluster(2).public(), node(7)), Err(CertificateError::OtherCluster { found }));
    assert_eq!(by(&key, node(8)), Err(CertificateError::OtherNode { found: node(7) }));
    let mut self_made = cluster(2).certify(node(7), worker(), 5, now(), DAY);
    self_made.0[2..18].copy_from_slice(cluster(1).id().as_bytes());
    assert_eq!(verified(&self_made, now()), Err(CertificateError::BadSignature));
    let mut newer = signed();
    newer.0[0] = 2;
    assert_eq!(verified(&newer, now()), Err(CertificateError::Form { found: 2 }));
    let mut revoked = RevocationSet::default();
    revoked.add(cluster(1).revoke(removal(5)), &key).unwrap();
    assert_eq!(signed().verify(&key, node(7), now(), &revoked), Err(CertificateError::Removed));
}

#[test]
fn times_are_kept_to_the_millisecond_with_the_allowed_skew() {
    // WIRE-9
    let ms = Duration::from_millis(1);
    let (first, last) = (now() - CLOCK_SKEW_ALLOWED, now() + DAY + CLOCK_SKEW_ALLOWED);
    assert!(verified(&signed(), first).is_ok() && verified(&signed(), last).is_ok());
    let (not_before, not_after) = (now(), now() + DAY);
    assert_eq!(verified(&signed(), first - ms), Err(CertificateError::NotYetValid { not_before }));
    assert_eq!(verified(&signed(), last + ms), Err(CertificateError::Expired { not_after }));
}

#[test]
fn a_signature_of_the_cluster_is_good_for_one_purpose() {
    let certificate = signed();
    let (bytes, signature) = certificate.parts();
    assert!(cluster(1).public().verifies(PURPOSE, bytes, signature));
    assert!(!cluster(1).public().verifies(b"arw revocation 1\0", bytes, signature));
}

#[test]
fn a_removed_node_is_refused_until_it_has_a_later_certificate() {
    // WIRE-10
    let mut revoked = RevocationSet::default();
    let key = cluster(1).public();
    assert_eq!(revoked.add(cluster(1).revoke(removal(5)), &key), Ok(true));
    assert!(revoked.covers(node(7), 5) && !revoked.covers(node(7), 6) && !revoked.covers(node(8), 1));
    // An older one, told late, does not bring it back.
    assert_eq!(revoked.add(cluster(1).revoke(removal(4)), &key), Ok(false));
    assert!(revoked.covers(node(7), 5));
    assert_eq!(revoked.add(cluster(1).revoke(removal(9)), &key), Ok(true));
    assert!(revoked.covers(node(7), 9));
    assert_eq!(revoked.iter().count(), 1);
    assert_eq!(revoked.prune(now() + DAY), []);
    assert_eq!(revoked.prune(now() + DAY + DAY), [node(7)]);
    assert!(!revoked.covers(node(7), 5));
}

#[test]
fn nobody_but_the_cluster_can_remove_a_node() {
    // WIRE-10
    let mut revoked = RevocationSet::default();
    let key = cluster(1).public();
    let found = cluster(2).id();
    assert_eq!(
        revoked.add(cluster(2).revoke(removal(5)), &key),
        Err(RevocationError::OtherCluster { found })
    );
    let mut bytes = cluster(2).revoke(removal(5)).as_bytes().to_vec();
    bytes[1..17].copy_from_slice(cluster(1).id().as_bytes());
    let forged = SignedRevocation::from_bytes(&bytes).unwrap();
    assert_eq!(revoked.add(forged, &key), Err(RevocationError::BadSignature));
    assert!(!revoked.covers(node(7), 1));
}

#[test]
fn the_set_of_removed_nodes_is_bounded() {
    let (mut revoked, key) = (RevocationSet::default(), cluster(1));
    let removal = |number: u64| {
        let mut id = [0; 32];
        id[..8].copy_from_slice(&number.to_le_bytes());
        Revocation { node: NodeId::from_bytes(id), ..removal(1) }
    };
    let filler = key.revoke(removal(0));
    for number in 0..REVOCATIONS_MAX as u64 {
        revoked.by_node.insert(removal(number).node, (removal(number), filler));
    }
    let one_more = key.revoke(removal(REVOCATIONS_MAX as u64));
    assert_eq!(revoked.add(one_more, &key.public()), Err(RevocationError::TooMany));
    let known = key.revoke(Revocation { serial_max: 9, ..removal(3) });
    assert_eq!(revoked.add(known, &key.public()), Ok(true));
}

#[test]
fn the_key_of_a_cluster_is_never_shown_and_its_file_is_its_own() {
    let key = cluster(0xab);
    assert!(!format!("{key:?}").contains("abab"));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("cluster.key");
    let made = ClusterKey::load_or_create(&path).unwrap();
    assert_eq!(ClusterKey::load_or_create(&path).unwrap().id(), made.id());
    assert!(crate::identity::NodeKey::load_or_create(&path).is_err());
}

/// The layout is a contract: other versions of this program read it, and a signature covers it.
#[test]
fn the_bytes_of_a_certificate_never_change() {
    let text = base16ct::lower::encode_string(&signed().as_bytes()[..SIGNED_BYTES]);
    let [from, to] =
        [now(), now() + DAY].map(|at| base16ct::lower::encode_string(&at.as_millis().to_le_bytes()));
    let id = cluster(1).id().to_string();
    assert_eq!(text, ["01", "01", &id, &"07".repeat(32), "0500000000000000", &from, &to].concat());
    assert_eq!(CERTIFICATE_BYTES, 138);
}

#[test]
fn roles_are_read_from_their_words() {
    let words = worker().iter().map(|role| role.word().parse()).collect::<Result<Roles, _>>();
    assert_eq!(words, Ok(worker()));
    assert!("boss".parse::<Role>().unwrap_err().to_string().contains("worker, gateway, home"));
    // What a newer version gave out stays, and means nothing here.
    assert_eq!(Roles::from_bits(0x81).bits(), 0x81);
    assert_eq!(Roles::from_bits(0x81).to_string(), "worker");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_certificate_with_any_bit_changed_is_refused(at in 0..CERTIFICATE_BYTES, bit in 0..8) {
        // WIRE-9
        let mut changed = signed();
        changed.0[at] ^= 1_u8 << bit;
        prop_assert!(verified(&changed, now()).is_err());
    }

    #[test]
    fn a_revocation_with_any_bit_changed_is_refused(at in 0..REVOCATION_BYTES, bit in 0..8) {
        // WIRE-10
        let mut bytes = cluster(1).revoke(removal(5)).as_bytes().to_vec();
        bytes[at] ^= 1_u8 << bit;
        let taken = SignedRevocation::from_bytes(&bytes).and_then(|it| it.verify(&cluster(1).public()));
        prop_assert!(taken.is_err());
    }

    #[test]
    fn no_bytes_make_it_panic_and_one_more_or_less_is_none(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let found = bytes.len();
        match SignedCertificate::from_bytes(&bytes) {
            Ok(signed) => prop_assert!(verified(&signed, now()).is_err()),
            Err(error) => prop_assert_eq!(error, CertificateError::Length { found }),
        }
        prop_assert!(SignedCertificate::from_bytes(&signed().as_bytes()[1..]).is_err());
        prop_assert!(SignedRevocation::from_bytes(&bytes).is_err() || found == REVOCATION_BYTES);
    }

    #[test]
    fn what_was_certified_is_read_back(id: [u8; 32], bits: u8, serial: u64, at in 0..i64::MAX / 2) {
        let at = WallTime::from_millis(at);
        let signed = cluster(1).certify(NodeId::from_bytes(id), Roles::from_bits(bits), serial, at, DAY);
        let told = signed.verify(&cluster(1).public(), NodeId::from_bytes(id), at, &RevocationSet::default());
        prop_assert_eq!(told.map(|it| (it.roles.bits(), it.serial, it.not_before)), Ok((bits, serial, at)));
    }

    #[test]
    fn a_cluster_id_is_read_back_from_its_text(bytes: [u8; 16]) {
        let id = ClusterId::from_bytes(bytes);
        prop_assert_eq!(id.to_string().parse(), Ok(id));
        prop_assert!(id.to_string()[1..].parse::<ClusterId>().is_err());
    }
}

#[test]
fn a_certificate_is_renewed_late_in_its_time_and_when_its_time_has_not_begun() {
    // WIRE-21
    let of = verified(&signed(), now()).unwrap();
    let minute = Duration::from_secs(60);
    assert!(!of.is_renewal_due(now()) && !of.is_renewal_due(now() - CLOCK_SKEW_ALLOWED));
    assert!(
        of.is_renewal_due(now() - CLOCK_SKEW_ALLOWED - minute),
        "it was signed by a clock that was ahead"
    );
    assert!(!of.is_renewal_due(of.renew_from() - minute) && of.is_renewal_due(of.renew_from()));
}
