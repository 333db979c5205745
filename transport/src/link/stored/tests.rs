use std::time::Duration;

use super::*;
use crate::certificate::{CERTIFICATE_LIFETIME, ClusterKey, Revocation, Role, Roles};
use crate::token::{NewToken, TokenTable};

const NODE: NodeId = NodeId::from_bytes([7; 32]);
const OTHER: NodeId = NodeId::from_bytes([9; 32]);
const NOW: WallTime = WallTime::from_millis(1_700_000_000_000);

/// The certificates of these tests are good at its time.
fn clock() -> Clock {
    Clock::starting_at(NOW)
}

fn cluster() -> ClusterKey {
    ClusterKey::from_seed(&[1; 32]).unwrap()
}

fn contents() -> Contents {
    let roles = Roles::from_iter([Role::Home]);
    Contents {
        cluster_key: cluster().public(),
        certificate: cluster().certify(NODE, roles, 1, NOW, CERTIFICATE_LIFETIME),
        issuer: NODE,
        known: vec![(OTHER, vec!["192.0.2.1:8091".parse().unwrap()])],
        token_addresses: Vec::new(),
        revocations: Vec::new(),
        incarnation: 7,
        serial_next: 2,
        tokens: Vec::new(),
        restored_at: None,
    }
}

fn record() -> TokenRecord {
    let wanted = NewToken {
        roles: Roles::from_iter([Role::Worker]),
        ttl: Duration::from_secs(60),
        uses_max: 1,
        addresses: vec!["192.0.2.1:8091".parse().unwrap()],
    };
    let id = TokenId::from_bytes([3; 8]);
    TokenTable::default().create(NOW, wanted, (cluster().id(), NODE), (id, [5; 16])).unwrap().1
}

#[test]
fn what_was_stored_is_found_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    assert!(Stored::load(folder.path(), clock()).unwrap().is_none());
    let stored = Stored::create(folder.path(), contents(), clock()).unwrap();
    stored.store_token(&record()).unwrap();
    let first = stored.reserve_serials(7, 10).unwrap();
    assert!(first >= serial_floor(NOW), "{first}");
    let revocation =
        cluster().revoke(Revocation { node: OTHER, serial_max: 5, kept_until: NOW + CERTIFICATE_LIFETIME });
    stored.store_revocation(&revocation).unwrap();
    let again = Stored::load(folder.path(), clock()).unwrap().unwrap();
    assert_eq!(again.contents(), stored.contents());
    assert_eq!(again.reserve_serials(7, 1).unwrap(), first + 10);
    assert!(again.revoked().covers(OTHER, 5));
    assert_eq!(again.contents().tokens, [record()]);
    again.forget().unwrap();
    assert!(Stored::load(folder.path(), clock()).unwrap().is_none());
    // What comes late does not bring it back.
    assert!(matches!(again.begin(9), Err(StoredError::Forgotten)));
    assert!(again.store_token(&record()).is_err());
    assert!(Stored::load(folder.path(), clock()).unwrap().is_none());
}

#[test]
fn a_node_is_revoked_once_however_often_it_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let stored = Stored::create(folder.path(), contents(), clock()).unwrap();
    for serial_max in 1..5 {
        let kept_until = NOW + CERTIFICATE_LIFETIME;
        stored.revoke(&[cluster().revoke(Revocation { node: OTHER, serial_max, kept_until })]).unwrap();
    }
    let older = cluster().revoke(Revocation { node: OTHER, serial_max: 1, kept_until: NOW });
    stored.reconcile(contents().certificate, &[older]).unwrap();
    assert_eq!(stored.contents().revocations.len(), 1);
    assert!(stored.revoked().covers(OTHER, 4), "an older word never undoes a newer one");
}

#[test]
fn who_is_away_is_remembered_behind_who_is_there() {
    let folder = tempfile::tempdir().unwrap();
    let stored = Stored::create(folder.path(), contents(), clock()).unwrap();
    let before = contents().known;
    let nobody = BTreeSet::new();
    stored.remember(Vec::new(), &nobody).unwrap();
    assert_eq!(stored.contents().known, before);
    let third = NodeId::from_bytes([4; 32]);
    let there = vec![(third, vec!["192.0.2.3:1".parse().unwrap()])];
    stored.remember(there.clone(), &nobody).unwrap();
    assert_eq!(stored.contents().known, [there, before.clone()].concat());
    // It is seen elsewhere now; the way from before is kept behind.
    let elsewhere: SocketAddr = "192.0.2.9:1".parse().unwrap();
    stored.remember(vec![(OTHER, vec![elsewhere])], &nobody).unwrap();
    assert_eq!(stored.contents().known[0], (OTHER, vec![elsewhere, before[0].1[0]]));
    let many = (0..200).map(|n| (NodeId::from_bytes([n; 32]), Vec::new())).collect();
    stored.remember(many, &nobody).unwrap();
    assert_eq!(stored.contents().known.len(), KNOWN_MAX);
    stored.remember(Vec::new(), &BTreeSet::from([third])).unwrap();
    assert!(!stored.contents().known.iter().any(|(node, _)| *node == third));
}

#[test]
fn the_ways_that_a_node_was_reached_by_outlive_what_it_says_of_itself() {
    let folder = tempfile::tempdir().unwrap();
    let in_token: Vec<SocketAddr> =
        ["192.0.2.1:8091", "192.0.2.2:8091"].map(|it| it.parse().unwrap()).to_vec();
    let issuer = OTHER;
    let stored = Stored::create(
        folder.path(),
        Contents { issuer, token_addresses: in_token.clone(), ..contents() },
        clock(),
    )
    .unwrap();
    // It tells another address again and again, and many other members come.
    for n in 0..200 {
        let told: SocketAddr = SocketAddr::from(([172, 17, 0, n], 8091));
        let mut there: Vec<_> = (0..200).map(|other| (NodeId::from_bytes([other; 32]), vec![told])).collect();
        there.retain(|(node, _)| *node != issuer);
        there.push((issuer, vec![told]));
        stored.remember(there, &BTreeSet::new()).unwrap();
    }
    let again = Stored::load(folder.path(), clock()).unwrap().unwrap();
    let known = again.known();
    assert_eq!((known.len(), known[0].node), (KNOWN_MAX, issuer));
    assert_eq!(known[0].addresses[0], SocketAddr::from(([172, 17, 0, 199], 8091)), "the newest is the best");
    assert_eq!(known[0].addresses.len(), ADDRESSES_MAX);
    assert!(in_token.iter().all(|address| known[0].addresses.contains(address)), "{known:?}");
}

#[test]
fn removals_that_have_ended_make_room_and_one_for_which_there_is_none_is_no_success() {
    let folder = tempfile::tempdir().unwrap();
    let stored = Stored::create(folder.path(), contents(), clock()).unwrap();
    let removal =
        |n: u16, kept_until| cluster().revoke(Revocation { node: many_node(n), serial_max: 5, kept_until });
    let all = u16::try_from(REVOCATIONS_MAX).unwrap();
    let (soon, late) = (NOW + Duration::from_secs(60), NOW + CERTIFICATE_LIFETIME);
    let many: Vec<SignedRevocation> =
        (0..all).map(|n| removal(n, if n < 10 { soon } else { late })).collect();
    stored.revoke(&many).unwrap();
    assert!(stored.store_revocation(&removal(all, late)).is_err());
    assert!(!Stored::load(folder.path(), clock()).unwrap().unwrap().revoked().covers(many_node(all), 5));
    // An hour later ten of them are over.
    let later = Clock::starting_at(NOW + Duration::from_secs(3600));
    let stored = Stored::load(folder.path(), later).unwrap().unwrap();
    stored.store_revocation(&removal(all, late)).unwrap();
    assert_eq!(stored.contents().revocations.len(), REVOCATIONS_MAX - 9);
    assert!(Stored::load(folder.path(), later).unwrap().unwrap().revoked().covers(many_node(all), 5));
}

#[test]
fn a_clock_that_jumps_ahead_and_back_makes_nobody_a_member_again() {
    // WIRE-10
    let folder = tempfile::tempdir().unwrap();
    let stored = Stored::create(folder.path(), contents(), clock()).unwrap();
    let removal =
        |n, kept_until| cluster().revoke(Revocation { node: many_node(n), serial_max: 5, kept_until });
    stored.store_revocation(&removal(1, NOW + CERTIFICATE_LIFETIME)).unwrap();
    let ahead = NOW + 100 * CERTIFICATE_LIFETIME;
    let stored = Stored::load(folder.path(), Clock::starting_at(ahead)).unwrap().unwrap();
    stored.store_revocation(&removal(2, ahead + CERTIFICATE_LIFETIME)).unwrap();
    let back = Stored::load(folder.path(), clock()).unwrap().unwrap();
    assert!(back.revoked().covers(many_node(1), 5) && back.revoked().covers(many_node(2), 5));
}

fn many_node(n: u16) -> NodeId {
    let mut node = [1; 32];
    node[..2].copy_from_slice(&n.to_le_bytes());
    NodeId::from_bytes(node)
}

#[test]
fn the_file_holds_no_token_and_only_its_owner_reads_it() {
    let folder = tempfile::tempdir().unwrap();
    let stored = Stored::create(folder.path(), contents(), clock()).unwrap();
    stored.store_token(&record()).unwrap();
    let path = folder.path().join("cluster.json");
    let text = fs::read_to_string(&path).unwrap();
    assert!(!text.contains(&base16ct::lower::encode_string(&[5; 16])));
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }
}

#[test]
fn a_damaged_file_is_said_to_be_and_a_newer_one_too() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("cluster.json");
    Stored::create(folder.path(), contents(), clock()).unwrap();
    let whole = fs::read_to_string(&path).unwrap();
    let shorter_key = whole.replacen("\"cluster_key\": \"", "\"cluster_key\": \"00", 1);
    for damaged in ["", "{}", &whole[..whole.len() / 2], &shorter_key] {
        fs::write(&path, damaged).unwrap();
        assert!(
            matches!(Stored::load(folder.path(), clock()), Err(StoredError::Damaged { .. })),
            "{damaged}"
        );
    }
    fs::write(&path, r#"{"form": 2, "colour": "red"}"#).unwrap();
    assert!(matches!(Stored::load(folder.path(), clock()), Err(StoredError::Newer { found: 2, .. })));
}

#[cfg(unix)]
#[test]
fn what_could_not_be_written_is_not_believed_either() {
    let folder = tempfile::tempdir().unwrap();
    let stored = Stored::create(folder.path(), contents(), clock()).unwrap();
    // A folder stands in the way of the new file.
    let beside = folder.path().join("cluster.json.new");
    fs::create_dir_all(beside.join("in the way")).unwrap();
    assert!(stored.store_token(&record()).is_err());
    assert!(stored.contents().tokens.is_empty());
}
