//! Checks of what makes this node a member of a cluster: its key, its membership, its certificate, the
//! cluster's key, the clock.
//!
//! Reads the files themselves, because a node that cannot use them does not start. Refuses to mend anything.

use std::path::{Path, PathBuf};

use arw_kit::moment::WallTime;
use arw_transport::certificate::{CLOCK_SKEW_ALLOWED, Certificate, CertificateError};
use arw_transport::identity::{KeyFileError, NodeId, NodeKey};
use arw_transport::link::{CLUSTER_KEY, Inspection, LinkError, inspect};
use serde_json::Value;

use super::Check;
use crate::client::row::{list, text};
use crate::commands::cluster::summary::expiry_in_words;
use crate::compose::NODE_KEY;
use crate::output::human;

/// In the state folder.
const MEMBERSHIP: &str = "cluster.json";

/// What the files say, and the checks of them.
pub(super) struct Found {
    pub(super) checks: Vec<Check>,
    pub(super) is_member: bool,
    /// Who renews this node's certificate, where that is another node.
    pub(super) issuer: Option<NodeId>,
}

pub(super) fn files(dir: &Path, now: WallTime) -> Found {
    let (key, id) = node_key(&dir.join(NODE_KEY));
    let mut found = Found { checks: vec![key], is_member: false, issuer: None };
    let Some(id) = id else { return found };
    match inspect(dir, id, now) {
        Ok(Some(membership)) => {
            found.checks.push(member(dir, &membership, id));
            found.checks.push(certificate(&membership.certificate, now));
            found.is_member = true;
            found.issuer = Some(membership.issuer).filter(|issuer| *issuer != id);
            found.checks.extend(membership.cluster_key.map(|key| cluster_key(dir, key)));
        }
        Ok(None) => found.checks.push(alone(dir)),
        Err(error) => {
            let help = format!("restore {NODE_KEY}, {MEMBERSHIP} and {CLUSTER_KEY} from the same backup");
            found.checks.push(Check::broken("membership", error.to_string(), help));
        }
    }
    found
}

fn node_key(path: &Path) -> (Check, Option<NodeId>) {
    const NAME: &str = "node key";
    // Loading makes one where there is none, which is the node's to do.
    if !path.exists() {
        let found = format!("there is no {} yet; a node makes it when it starts", path.display());
        return (Check::skipped(NAME, found), None);
    }
    match NodeKey::load_or_create(path) {
        Ok(key) => {
            let id = key.id();
            (Check::ok(NAME, format!("{}, of node {}", path.display(), id.short())), Some(id))
        }
        Err(error) => (Check::broken(NAME, error.to_string(), key_help(&error, path)), None),
    }
}

fn key_help(error: &KeyFileError, path: &Path) -> String {
    let shown = path.display();
    match error {
        KeyFileError::Exposed { .. } => {
            format!(
                "chmod 600 {shown}; if others may have read it, make a new key: leave the cluster, move it away, join again"
            )
        }
        KeyFileError::Damaged { .. } => {
            "restore it from a backup; moved away, it is replaced by a new one, and what it stood for is lost"
                .to_owned()
        }
        KeyFileError::Io { .. } | KeyFileError::NoRandomness { .. } => {
            format!("let the user of the node read {shown}, and run this as that user")
        }
    }
}

fn member(dir: &Path, membership: &Inspection, own: NodeId) -> Check {
    const NAME: &str = "membership";
    let path = dir.join(MEMBERSHIP);
    let maker = if membership.issuer == own {
        "which this node made".to_owned()
    } else {
        format!("made by node {}", membership.issuer.short())
    };
    match super::disk::mode_for_others(&path) {
        Some(mode) => Check::warning(
            NAME,
            format!("{} can be read by other users (mode {mode:o})", path.display()),
            format!("chmod 600 {}", path.display()),
        ),
        None => Check::ok(NAME, format!("of the cluster {}, {maker}", membership.cluster)),
    }
}

fn certificate(certificate: &Result<Certificate, CertificateError>, now: WallTime) -> Check {
    const NAME: &str = "certificate";
    let error = match certificate {
        Ok(certificate) => return lasting(NAME, certificate.not_after, now),
        Err(error) => error,
    };
    let help = match error {
        CertificateError::NotYetValid { .. } => {
            "set this machine's clock right; the node is a member as soon as it is"
        }
        CertificateError::Expired { .. } | CertificateError::Removed => {
            "join again with a new token: `arw cluster token create` where the cluster was made, `arw join TOKEN` here"
        }
        _ => {
            "the files in the state folder do not belong together: restore all of them from the same backup, or move cluster.json away and join again"
        }
    };
    Check::broken(NAME, error.to_string(), help)
}

fn lasting(name: &'static str, until: WallTime, now: WallTime) -> Check {
    match expiry_in_words(until, now) {
        Some((words, help)) => Check::warning(name, words, help),
        None => Check::ok(name, format!("until {until} ({})", human::ago(&until.to_string(), now))),
    }
}

fn cluster_key(dir: &Path, key: Result<(), LinkError>) -> Check {
    const NAME: &str = "cluster key";
    let path = dir.join(CLUSTER_KEY);
    match key {
        Ok(()) => Check::ok(
            NAME,
            format!("{}; keep a copy of it, {NODE_KEY} and {MEMBERSHIP} elsewhere", path.display()),
        ),
        Err(LinkError::ClusterKey(error)) => Check::broken(NAME, error.to_string(), key_help(&error, &path)),
        Err(error) => {
            let help = format!("restore {CLUSTER_KEY}, {NODE_KEY} and {MEMBERSHIP} from the same backup");
            Check::broken(NAME, error.to_string(), help)
        }
    }
}

fn alone(dir: &Path) -> Check {
    const NAME: &str = "membership";
    let key = dir.join(CLUSTER_KEY);
    if key.exists() {
        return Check::warning(
            NAME,
            format!("{} lies here, but no {MEMBERSHIP}: this node is in no cluster", key.display()),
            format!(
                "restore {MEMBERSHIP} and {NODE_KEY} from the same backup before `arw cluster token create` makes another cluster"
            ),
        );
    }
    Check::skipped(NAME, "in no cluster; `arw cluster token create` or `arw join TOKEN` changes that")
}

/// What the running node says of its membership: for one elsewhere this is all that can be seen.
pub(super) fn from_node(body: &Value, now: WallTime) -> Option<Check> {
    let until = text(body, "/cluster/certificate_until").parse().ok()?;
    Some(lasting("certificate", until, now))
}

/// Whether the node that renews this one's certificate is there.
pub(super) fn issuer(body: &Value, issuer: NodeId) -> Check {
    const NAME: &str = "issuer";
    let id = issuer.to_string();
    let row = list(body, "/nodes").iter().find(|row| text(row, "/id") == id);
    let name = row.map(|row| text(row, "/name")).filter(|name| !name.is_empty());
    let called = name
        .map_or_else(|| format!("node {}", issuer.short()), |name| format!("{name} ({})", issuer.short()));
    match row.map(|row| text(row, "/state")) {
        Some("up") => Check::ok(NAME, format!("{called} is up")),
        state => Check::warning(
            NAME,
            format!("{called}, which made the cluster, is {}", state.unwrap_or("not seen")),
            "start it, or see to the network between: until then nobody joins, and no certificate is renewed",
        ),
    }
}

/// Compares the clock with what the node wrote: other nodes refuse one whose clock is wrong by more than five
/// minutes.
pub(super) fn clock(dir: &Path, now: WallTime) -> Check {
    const NAME: &str = "clock";
    let written = |name: &str| {
        let modified = std::fs::metadata(dir.join(name)).ok()?.modified().ok()?;
        let millis = modified.duration_since(std::time::UNIX_EPOCH).ok()?.as_millis();
        Some((WallTime::from_millis(i64::try_from(millis).ok()?), name.to_owned()))
    };
    let newest = ["identity.json", MEMBERSHIP, "node.json", "arw.db", "arw.db-wal"]
        .iter()
        .filter_map(|name| written(name))
        .max();
    if let Some((at, name)) = newest.filter(|(at, _)| at.since(now) > CLOCK_SKEW_ALLOWED) {
        return Check::warning(
            NAME,
            format!(
                "it is {now} here, but {name} was written at {at}: the clock went back, or was wrong then"
            ),
            "set it right, for example with `timedatectl set-ntp true`; other nodes refuse one that is off by more than 5 min",
        );
    }
    let keeper = [
        ("/run/systemd/timesync/synchronized", "systemd-timesyncd"),
        ("/run/chrony", "chrony"),
        ("/run/ntpd.sock", "ntpd"),
    ]
    .into_iter()
    .find(|(path, _)| PathBuf::from(path).exists());
    match keeper {
        Some((_, keeper)) => Check::ok(NAME, format!("{now}, kept by {keeper}")),
        None => Check::ok(NAME, format!("{now}; what keeps it right cannot be seen here")),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::super::Verdict;
    use super::*;

    fn now() -> WallTime {
        "2026-11-24T12:00:00Z".parse().unwrap()
    }

    #[cfg(unix)]
    #[test]
    fn a_node_key_is_looked_at_and_never_made() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(NODE_KEY);
        assert_eq!(files(dir.path(), now()).checks[0].verdict, Verdict::Skipped);
        assert!(!path.exists());
        NodeKey::load_or_create(&path).unwrap();
        let found = files(dir.path(), now());
        let verdicts: Vec<_> = found.checks.iter().map(|check| (check.name, check.verdict)).collect();
        assert_eq!(verdicts, [("node key", Verdict::Ok), ("membership", Verdict::Skipped)]);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        let check = &files(dir.path(), now()).checks[0];
        assert!(check.verdict == Verdict::Broken && check.help.starts_with("chmod 600"), "{check:?}");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        std::fs::write(&path, "nonsense").unwrap();
        let check = &files(dir.path(), now()).checks[0];
        assert!(check.verdict == Verdict::Broken && check.help.contains("backup"), "{check:?}");
    }

    #[test]
    fn a_membership_that_cannot_be_read_and_a_key_without_one_are_told() {
        let dir = tempfile::tempdir().unwrap();
        NodeKey::load_or_create(&dir.path().join(NODE_KEY)).unwrap();
        std::fs::write(dir.path().join(CLUSTER_KEY), "x").unwrap();
        let check = files(dir.path(), now()).checks.remove(1);
        assert!(
            check.verdict == Verdict::Warning && check.help.contains("before `arw cluster token create`"),
            "{check:?}"
        );
        std::fs::write(dir.path().join(MEMBERSHIP), "{").unwrap();
        let check = files(dir.path(), now()).checks.remove(1);
        assert!(check.verdict == Verdict::Broken && check.found.contains("damaged"), "{check:?}");
    }

    #[test]
    fn a_certificate_is_told_by_what_is_to_be_done_about_it() {
        let days = |days: u64| Duration::from_secs(days * 24 * 3600);
        assert_eq!(lasting("certificate", now() + days(20), now()).verdict, Verdict::Ok);
        assert_eq!(lasting("certificate", now() + days(5), now()).verdict, Verdict::Warning);
        for (error, help) in [
            (CertificateError::Expired { not_after: now() }, "arw join"),
            (CertificateError::Removed, "arw join"),
            (CertificateError::NotYetValid { not_before: now() }, "clock"),
            (CertificateError::BadSignature, "same backup"),
            (CertificateError::OtherNode { found: NodeId::from_bytes([1; 32]) }, "same backup"),
        ] {
            let check = certificate(&Err(error), now());
            assert!(check.verdict == Verdict::Broken && check.help.contains(help), "{check:?}");
        }
    }

    #[test]
    fn an_issuer_that_is_not_up_is_a_warning() {
        let node = NodeId::from_bytes([0xab; 32]);
        let body = |state: &str| json!({"nodes": [{"id": "ab".repeat(32), "name": "box1", "state": state}]});
        assert_eq!(issuer(&body("up"), node).verdict, Verdict::Ok);
        for state in ["down", "suspect", "left"] {
            let check = issuer(&body(state), node);
            assert!(
                check.verdict == Verdict::Warning && check.found.contains("box1 (abababab)"),
                "{check:?}"
            );
        }
        assert_eq!(issuer(&json!({"nodes": []}), node).verdict, Verdict::Warning);
    }

    #[test]
    fn a_clock_that_is_behind_the_files_went_back() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(clock(dir.path(), now()).verdict, Verdict::Ok);
        let file = std::fs::File::create(dir.path().join("identity.json")).unwrap();
        let at = |at: WallTime| std::time::UNIX_EPOCH + Duration::from_millis(at.as_millis().unsigned_abs());
        file.set_modified(at(now() + Duration::from_secs(200))).unwrap();
        assert_eq!(clock(dir.path(), now()).verdict, Verdict::Ok);
        file.set_modified(at(now() + Duration::from_secs(3600))).unwrap();
        let check = clock(dir.path(), now());
        assert!(check.verdict == Verdict::Warning && check.found.contains("identity.json"), "{check:?}");
    }
}
