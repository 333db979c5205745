use std::time::Duration;

use arw_kit::moment::WallTime;

use super::*;
use crate::certificate::{CERTIFICATE_LIFETIME, Role, Roles};
use crate::endpoint::{IssuerLedger as _, serial_floor};
use crate::link::stored::Contents;
use crate::token::{NewToken, TokenId, TokenTable};

const NOW: WallTime = WallTime::from_millis(1_700_000_000_000);

fn clock() -> Clock {
    Clock::starting_at(NOW)
}

/// The folder of a node that made a cluster and has made a token.
fn maker() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let own = NodeKey::load_or_create(&folder.path().join("node.key")).unwrap().id();
    let cluster = ClusterKey::load_or_create(&folder.path().join("cluster.key")).unwrap();
    let wanted = NewToken {
        roles: Roles::from_iter([Role::Worker]),
        ttl: Duration::from_secs(60),
        uses_max: 9,
        addresses: vec!["192.0.2.1:8091".parse().unwrap()],
    };
    let random = (TokenId::from_bytes([3; 8]), [5; 16]);
    let token = TokenTable::default().create(NOW, wanted, (cluster.id(), own), random).unwrap().1;
    let contents = Contents {
        cluster_key: cluster.public(),
        certificate: cluster.certify(own, Roles::from_iter([Role::Home]), 1, NOW, CERTIFICATE_LIFETIME),
        issuer: own,
        known: Vec::new(),
        token_addresses: Vec::new(),
        revocations: Vec::new(),
        incarnation: 7,
        serial_next: 66,
        tokens: vec![token],
        restored_at: None,
    };
    Stored::create(folder.path(), contents, clock()).unwrap();
    folder
}

fn contents(folder: &Path) -> Contents {
    Stored::load(folder, clock()).unwrap().unwrap().contents()
}

#[test]
fn what_was_given_out_before_a_restore_is_never_given_out_again() {
    let (old, new) = (maker(), tempfile::tempdir().unwrap());
    let file = new.path().join("backup");
    let made = back_up(old.path(), &file, clock()).unwrap();
    let folder = new.path().join("state");
    fs::create_dir(&folder).unwrap();
    assert_eq!(restore(&folder, &file, clock()).unwrap(), made);
    let (before, after) = (contents(old.path()), contents(&folder));
    assert!(after.serial_next >= serial_floor(NOW), "above what was given out since");
    // Also after further changes of the file: renewals wait for word of removals (WIRE-21).
    Stored::load(&folder, clock()).unwrap().unwrap().begin(7).unwrap();
    assert_eq!(before.restored_at, None);
    assert!(contents(&folder).restored_at.is_some_and(|at| at >= NOW));
    assert!(after.tokens.is_empty(), "a token that was used up since would be good again");
    assert_eq!((after.issuer, after.cluster_key, after.incarnation), (before.issuer, before.cluster_key, 7));
    for key in ["node.key", "cluster.key"] {
        assert_eq!(fs::read(old.path().join(key)).unwrap(), fs::read(folder.join(key)).unwrap());
    }
    let names: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names.len(), 3, "nothing else is left: {names:?}");
    // A second restore would go back to before the first one.
    assert!(matches!(restore(&folder, &file, clock()), Err(BackupError::Exists { .. })));
}

/// The serials that the issuer of a folder signs with, started so many seconds after [`NOW`].
fn serials_of_a_start(folder: &Path, seconds: u64) -> Vec<u64> {
    let clock = Clock::starting_at(NOW + Duration::from_secs(seconds));
    let stored = Stored::load(folder, clock).unwrap().unwrap();
    let first = stored.reserve_serials(0, 64).unwrap();
    (first..first + 64).collect()
}

fn restored_at(file: &Path, seconds: u64) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    restore(folder.path(), file, Clock::starting_at(NOW + Duration::from_secs(seconds))).unwrap();
    folder
}

#[test]
fn no_two_folders_of_one_issuer_give_out_the_same_serial_and_the_later_one_signs_the_higher() {
    // WIRE-10
    let (old, place) = (maker(), tempfile::tempdir().unwrap());
    let file = place.path().join("backup");
    let mut given = serials_of_a_start(old.path(), 1);
    back_up(old.path(), &file, clock()).unwrap();
    given.extend(serials_of_a_start(old.path(), 2));
    // The same backup on two machines, which sign in turns.
    let (one, two) = (restored_at(&file, 60), restored_at(&file, 61));
    for seconds in [70, 80, 90] {
        given.extend(serials_of_a_start(one.path(), seconds));
        given.extend(serials_of_a_start(two.path(), seconds + 1));
    }
    // The old machine, started after the restored ones.
    given.extend(serials_of_a_start(old.path(), 100));
    // The disk of a virtual machine is put back to an earlier state.
    let snapshot = fs::read(one.path().join("cluster.json")).unwrap();
    given.extend(serials_of_a_start(one.path(), 200));
    fs::write(one.path().join("cluster.json"), snapshot).unwrap();
    given.extend(serials_of_a_start(one.path(), 201));
    assert!(given.is_sorted_by(|earlier, later| earlier < later), "{given:?}");
}

#[test]
fn a_restore_by_a_clock_from_before_the_backup_still_skips_what_was_given_out_since() {
    // WIRE-10
    let (old, place) = (maker(), tempfile::tempdir().unwrap());
    let file = place.path().join("backup");
    serials_of_a_start(old.path(), 1_000);
    back_up(old.path(), &file, clock()).unwrap();
    let since = serials_of_a_start(old.path(), 1_001);
    let restored = restored_at(&file, 0);
    assert!(contents(restored.path()).serial_next > *since.last().unwrap());
}

#[cfg(unix)]
#[test]
fn a_backup_is_for_its_owner_only_and_replaces_none() {
    use std::os::unix::fs::PermissionsExt as _;
    let old = maker();
    let file = old.path().join("backup");
    back_up(old.path(), &file, clock()).unwrap();
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(matches!(back_up(old.path(), &file, clock()), Err(BackupError::Exists { .. })));
    let folder = tempfile::tempdir().unwrap();
    restore(folder.path(), &file, clock()).unwrap();
    for name in ["node.key", "cluster.key", "cluster.json"] {
        let mode = fs::metadata(folder.path().join(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
}

#[test]
fn who_did_not_make_the_cluster_has_nothing_to_back_up() {
    let file = tempfile::tempdir().unwrap().path().join("backup");
    let alone = tempfile::tempdir().unwrap();
    assert!(matches!(back_up(alone.path(), &file, clock()), Err(BackupError::Alone { .. })));
    let member = maker();
    fs::remove_file(member.path().join("node.key")).unwrap();
    assert!(matches!(back_up(member.path(), &file, clock()), Err(BackupError::Missing { .. })));
    NodeKey::load_or_create(&member.path().join("node.key")).unwrap();
    assert!(matches!(back_up(member.path(), &file, clock()), Err(BackupError::NotIssuer { .. })));
    let without_key = maker();
    fs::remove_file(without_key.path().join("cluster.key")).unwrap();
    assert!(matches!(back_up(without_key.path(), &file, clock()), Err(BackupError::Missing { .. })));
    assert!(!without_key.path().join("cluster.key").exists(), "none is made");
    assert!(!file.exists());
}

#[test]
fn what_is_no_whole_backup_leaves_the_folder_as_it_was() {
    let (old, other) = (maker(), maker());
    let folder = tempfile::tempdir().unwrap();
    let file = |folder: &tempfile::TempDir| {
        let file = folder.path().join("backup");
        back_up(folder.path(), &file, clock()).unwrap();
        fs::read_to_string(file).unwrap()
    };
    let (good, foreign) = (file(&old), file(&other));
    let changed = |change: &dyn Fn(&mut Value)| {
        let mut value: Value = serde_json::from_str(&good).unwrap();
        change(&mut value);
        value.to_string()
    };
    let foreign: Value = serde_json::from_str(&foreign).unwrap();
    let damaged = [
        String::new(),
        good[..good.len() / 2].to_owned(),
        "{}".to_owned(),
        changed(&|it| it["form"] = 2.into()),
        changed(&|it| it["what"] = "a letter".into()),
        changed(&|it| it["node_key"] = "arw-node-key-1:00".into()),
        changed(&|it| it["cluster_key"] = foreign["cluster_key"].clone()),
        changed(&|it| it["node_key"] = foreign["node_key"].clone()),
        changed(&|it| it["membership"] = foreign["membership"].clone()),
        changed(&|it| it["membership"] = Value::Null),
    ];
    let path = old.path().join("damaged");
    for text in damaged {
        fs::write(&path, &text).unwrap();
        let refused = restore(folder.path(), &path, clock());
        assert!(matches!(refused, Err(BackupError::Damaged { .. })), "{refused:?}: {text}");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "{text}");
    }
    // The folder of another node is not taken from it.
    NodeKey::load_or_create(&folder.path().join("node.key")).unwrap();
    fs::write(&path, &good).unwrap();
    assert!(matches!(restore(folder.path(), &path, clock()), Err(BackupError::OtherNode { .. })));
}
