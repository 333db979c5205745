//! Refuses rules that would open the node's own keys and data, or a whole home, to a program.
//!
//! Owns the judgement of paths that other paths lead to, by their names and by what the kernel calls them: a
//! bind mount, or another spelling in a folder that takes capitals for small letters, is the same folder by
//! another name. Refuses to look at the file system: the real place of a rule's path comes in beside it, and
//! whoever calls says how things are to be identified.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::PathRule;
use super::rules::{ALLOWED, ALLOWED_EXECUTE, Protected, SYSTEM};

/// The parts of the state folder that programs are for.
const OPEN_PARTS: &[&str] = &["models", "runtime/bundles"];

/// Nothing below these is a file of a disk, and what they show is no business of one program.
const KERNEL_PLACES: &[&str] = &["/proc", "/sys", "/dev"];

/// Device and inode: one for each file and folder, by whichever path it is reached.
pub(in super::super) type FileId = (u64, u64);

/// Says what a path leads to; `None` when nothing is there.
pub(in super::super) type Identify<'a> = &'a dyn Fn(&Path) -> Option<FileId>;

/// The state folder, as the kernel knows it.
struct State<'a> {
    path: &'a Path,
    identify: Identify<'a>,
    own: Option<FileId>,
    /// Of the folder itself, and of those that it lies in.
    around: BTreeSet<FileId>,
    parts: BTreeMap<FileId, &'a Path>,
}

impl<'a> State<'a> {
    fn new(protected: &'a Protected, identify: Identify<'a>) -> Self {
        let path = protected.state_dir.as_path();
        let parts = protected.state_parts.iter().filter_map(|part| Some((identify(part)?, part.as_path())));
        let around = path.ancestors().filter_map(identify).collect();
        Self { path, identify, own: identify(path), around, parts: parts.collect() }
    }

    /// It is the same as `place`, or lies in it.
    fn lies_in(&self, place: &Path) -> bool {
        self.path.starts_with(place) || (self.identify)(place).is_some_and(|id| self.around.contains(&id))
    }

    /// Where in the state folder `place` lies, by the folder's own name. A part of it that is mounted
    /// elsewhere shows nothing of what it is from, so the parts are compared as well.
    fn inside(&self, place: &Path) -> Option<PathBuf> {
        place.ancestors().find_map(|folder| {
            let id = (self.identify)(folder);
            let is_state = folder == self.path || (id.is_some() && id == self.own);
            let known = if is_state { self.path } else { *self.parts.get(&id?)? };
            Some(known.join(place.strip_prefix(folder).ok()?))
        })
    }
}

/// Why one rule must not be, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) struct Refusal {
    pub(in super::super) detail: String,
    pub(in super::super) hint: &'static str,
}

/// Judges every rule by where its path leads. `own`: the folders that this launch may write.
pub(in super::super) fn refuse<'a>(
    rules: impl IntoIterator<Item = (&'a PathRule, &'a PathBuf)>,
    protected: &Protected,
    own: &[PathBuf],
    identify: Identify<'_>,
) -> Option<Refusal> {
    let state = State::new(protected, identify);
    rules.into_iter().find_map(|(rule, real)| judge(rule, real, protected, own, &state))
}

fn judge(
    rule: &PathRule,
    real: &Path,
    protected: &Protected,
    own: &[PathBuf],
    state: &State<'_>,
) -> Option<Refusal> {
    let inside = state.inside(real);
    let lies_in = |place: &Path| inside.as_ref().is_some_and(|inside| inside.starts_with(place));
    let is_own = own.iter().any(|folder| real.starts_with(folder) || lies_in(folder));
    let is_open = OPEN_PARTS.iter().any(|part| lies_in(&state.path.join(part)));
    let says = |what: String, hint| Some(Refusal { detail: what, hint });
    let named = named(rule, real);
    if state.lies_in(real) {
        if rule.reason == SYSTEM {
            let what = format!(
                "the state folder {} lies in {}, which every program may read",
                state.path.display(),
                real.display()
            );
            return says(what, "move the state folder, and name it with --state-dir");
        }
        return says(
            format!("{named}: the node's keys and data lie in it"),
            "name the folders beside the state folder one by one",
        );
    }
    if inside.is_some() && !is_open && !is_own {
        return says(
            format!("{named}: it lies in the node's state folder, with its keys and data"),
            "keep what a program needs outside of the state folder",
        );
    }
    if ![ALLOWED, ALLOWED_EXECUTE].contains(&rule.reason.as_str()) {
        return None;
    }
    if protected.homes.iter().any(|home| holds(real, home, state.identify)) {
        return says(
            format!("{named}: keys and mail lie in a home folder"),
            "name the folder inside it that the program needs",
        );
    }
    if KERNEL_PLACES.iter().any(|place| real.starts_with(place)) {
        return says(format!("{named}: what a program needs of it is open already"), "leave it out");
    }
    None
}

/// `inner` is the same as `place`, or lies in it, by any name.
fn holds(place: &Path, inner: &Path, identify: Identify<'_>) -> bool {
    let id = identify(place);
    inner.starts_with(place) || (id.is_some() && inner.ancestors().any(|folder| identify(folder) == id))
}

/// `--allow-read /x`, or `/x (model)`, and where it leads.
fn named(rule: &PathRule, real: &Path) -> String {
    let path = rule.path.display();
    let leads =
        if rule.path == real { String::new() } else { format!(", which leads to {}", real.display()) };
    match rule.reason.as_str() {
        ALLOWED | ALLOWED_EXECUTE => format!("{} {path}{leads}", rule.reason),
        reason => format!("{path} ({reason}){leads}"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Access;
    use super::*;

    fn protected() -> Protected {
        Protected {
            state_dir: "/home/u/.local/share/arw".into(),
            state_parts: ["admin.token", "models", "runtime", "runtime/bundles"]
                .map(|part| PathBuf::from("/home/u/.local/share/arw").join(part))
                .into(),
            homes: vec!["/home/u".into(), "/root".into()],
            temp: "/tmp".into(),
        }
    }

    /// Places that are others by another name; a path into one of them is the same as the path into the
    /// other.
    const MOUNTS: &[(&str, &str)] = &[
        ("/mnt/state", "/home/u/.local/share/arw"),
        ("/mnt/around", "/home/u/.local/share"),
        ("/mnt/runtime", "/home/u/.local/share/arw/runtime"),
        ("/mnt/models", "/home/u/.local/share/arw/models"),
        ("/mnt/token", "/home/u/.local/share/arw/admin.token"),
        ("/mnt/home", "/home/u"),
        ("/mnt/other", "/srv/other"),
    ];

    #[expect(clippy::unnecessary_wraps, reason = "everything is there in these tests")]
    fn identify(path: &Path) -> Option<FileId> {
        use std::hash::{DefaultHasher, Hash as _, Hasher as _};
        let through =
            MOUNTS.iter().find_map(|(at, of)| Some(Path::new(of).join(path.strip_prefix(at).ok()?)));
        let mut hasher = DefaultHasher::new();
        through.as_deref().unwrap_or(path).components().collect::<PathBuf>().hash(&mut hasher);
        Some((1, hasher.finish()))
    }

    #[test]
    fn the_state_folder_by_another_name_is_the_state_folder() {
        for reason in [ALLOWED, ALLOWED_EXECUTE, "model", "program", "named in the arguments"] {
            for closed in [
                "/mnt/state",
                "/mnt/state/admin.token",
                "/mnt/state/runtime",
                "/mnt/state/runtime/scratch/other",
                "/mnt/around",
                "/mnt/around/arw/admin.token",
                "/mnt/home",
                "/mnt/home/.local",
                "/mnt/runtime",
                "/mnt/runtime/scratch/other",
                "/mnt/token",
            ] {
                assert!(refused(reason, closed, closed).is_some(), "{reason} {closed}");
            }
            for open in [
                "/mnt/state/models/by-hash/ab",
                "/mnt/models",
                "/mnt/models/x",
                "/mnt/runtime/bundles/x/bin",
                "/mnt/state/runtime/scratch/m",
                "/mnt/runtime/scratch/m",
                "/mnt/other",
                "/srv/other",
            ] {
                assert_eq!(refused(reason, open, open), None, "{reason} {open}");
            }
        }
    }

    fn refused(reason: &str, path: &str, real: &str) -> Option<String> {
        let rule = PathRule { path: path.into(), access: Access::Read, reason: reason.to_owned() };
        let own = [PathBuf::from("/home/u/.local/share/arw/runtime/scratch/m")];
        refuse([(&rule, &PathBuf::from(real))], &protected(), &own, &identify).map(|refusal| refusal.detail)
    }

    #[test]
    fn nothing_opens_the_state_folder_whatever_names_it() {
        let state = "/home/u/.local/share/arw";
        for reason in [ALLOWED, ALLOWED_EXECUTE, "model", "program", "named in the arguments"] {
            for part in
                ["", "/admin.token", "/runtime", "/runtime/scratch/other", "/modelsx", "/runtime/bundles2"]
            {
                let path = format!("{state}{part}");
                assert!(refused(reason, &path, &path).is_some(), "{reason} {path}");
                let told = refused(reason, "/srv/link", &path).unwrap();
                assert!(told.contains("/srv/link") && told.contains(&path), "{told}");
            }
            for above in ["/home/u/.local/share", "/home/u/.local", "/home/u", "/home", "/"] {
                assert!(refused(reason, above, above).is_some(), "{reason} {above}");
            }
            for open in ["/models", "/models/by-hash/ab", "/runtime/bundles/x/bin", "/runtime/scratch/m"] {
                let path = format!("{state}{open}");
                assert_eq!(refused(reason, &path, &path), None, "{reason} {path}");
            }
        }
    }

    #[test]
    fn no_home_and_nothing_of_the_kernel_is_opened_by_a_flag() {
        for path in ["/root", "/proc", "/proc/1", "/sys", "/dev", "/dev/sda"] {
            for reason in [ALLOWED, ALLOWED_EXECUTE] {
                assert!(refused(reason, "/srv/link", path).is_some(), "{reason} {path}");
            }
        }
        for path in ["/home/u/adapters", "/data", "/opt/x", "/srv", "/home/other/models"] {
            assert_eq!(refused(ALLOWED, path, path), None, "{path}");
        }
        // The system's own rules and devices stay.
        assert_eq!(refused(SYSTEM, "/proc", "/proc"), None);
    }

    #[test]
    fn a_state_folder_in_a_place_that_every_program_reads_is_told() {
        let mut protected = protected();
        protected.state_dir = "/usr/local/var/arw".into();
        let rule = PathRule { path: "/usr".into(), access: Access::ReadExecute, reason: SYSTEM.to_owned() };
        let told = refuse([(&rule, &PathBuf::from("/usr"))], &protected, &[], &identify).unwrap();
        assert!(told.detail.contains("/usr/local/var/arw lies in /usr") && told.hint.contains("--state-dir"));
    }
}
