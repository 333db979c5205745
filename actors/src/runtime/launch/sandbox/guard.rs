//! Refuses rules that would open the node's own keys and data, or a whole home, to a program.
//!
//! Owns the judgement of paths that other paths lead to. Refuses to look at the file system: the real place of a rule's path
//! comes in beside it.

use std::path::{Path, PathBuf};

use super::PathRule;
use super::rules::{ALLOWED, ALLOWED_EXECUTE, Protected, SYSTEM};

/// The parts of the state folder that programs are for.
const OPEN_PARTS: &[&str] = &["models", "runtime/bundles"];

/// Nothing below these is a file of a disk, and what they show is no business of one program.
const KERNEL_PLACES: &[&str] = &["/proc", "/sys", "/dev"];

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
) -> Option<Refusal> {
    rules.into_iter().find_map(|(rule, real)| judge(rule, real, protected, own))
}

fn judge(rule: &PathRule, real: &Path, protected: &Protected, own: &[PathBuf]) -> Option<Refusal> {
    let state = &protected.state_dir;
    let is_own = own.iter().any(|folder| real.starts_with(folder));
    let is_open = OPEN_PARTS.iter().any(|part| real.starts_with(state.join(part)));
    let says = |what: String, hint| Some(Refusal { detail: what, hint });
    let named = named(rule, real);
    if state.starts_with(real) {
        if rule.reason == SYSTEM {
            let what = format!(
                "the state folder {} lies in {}, which every program may read",
                state.display(),
                real.display()
            );
            return says(what, "move the state folder, and name it with --state-dir");
        }
        return says(
            format!("{named}: the node's keys and data lie in it"),
            "name the folders beside the state folder one by one",
        );
    }
    if real.starts_with(state) && !is_open && !is_own {
        return says(
            format!("{named}: it lies in the node's state folder, with its keys and data"),
            "keep what a program needs outside of the state folder",
        );
    }
    if ![ALLOWED, ALLOWED_EXECUTE].contains(&rule.reason.as_str()) {
        return None;
    }
    if protected.homes.iter().any(|home| home.starts_with(real)) {
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
            homes: vec!["/home/u".into(), "/root".into()],
            temp: "/tmp".into(),
        }
    }

    fn refused(reason: &str, path: &str, real: &str) -> Option<String> {
        let rule = PathRule { path: path.into(), access: Access::Read, reason: reason.to_owned() };
        let own = [PathBuf::from("/home/u/.local/share/arw/runtime/scratch/m")];
        refuse([(&rule, &PathBuf::from(real))], &protected(), &own).map(|refusal| refusal.detail)
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
        let told = refuse([(&rule, &PathBuf::from("/usr"))], &protected, &[]).unwrap();
        assert!(told.detail.contains("/usr/local/var/arw lies in /usr") && told.hint.contains("--state-dir"));
    }
}
