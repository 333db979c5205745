//! Checks of the machine: what the kernel offers for the sandbox, memory, and whether an engine is there.

use super::Check;
use crate::commands::run::ENGINE;
use crate::output::human::bytes;
use crate::place;

/// Small models need this much besides the system.
#[cfg(target_os = "linux")]
const MEMORY_COMFORTABLE: u64 = 1 << 30;

pub(super) fn checks() -> Vec<Check> {
    let mut checks = vec![engine()];
    #[cfg(target_os = "linux")]
    checks.extend([memory(), landlock(), seccomp(), user_namespaces()]);
    #[cfg(not(target_os = "linux"))]
    {
        let _ = bytes(0);
        checks.push(Check::skipped("sandbox", "known for Linux only; engines run without one here"));
    }
    checks
}

fn engine() -> Check {
    const NAME: &str = "engine";
    match place::find_program(ENGINE) {
        Some(path) => Check::ok(NAME, path.display().to_string()),
        None => Check::warning(
            NAME,
            format!("{ENGINE} (llama.cpp's server) is not in PATH"),
            "install llama.cpp, or name an engine: `arw runtime add … -- PROGRAM ARGS`, `arw run FILE --engine PROGRAM`",
        ),
    }
}

#[cfg(target_os = "linux")]
fn memory() -> Check {
    const NAME: &str = "memory";
    let table = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let Some((available, total)) = field(&table, "MemAvailable:").zip(field(&table, "MemTotal:")) else {
        return Check::skipped(NAME, "cannot be read from /proc/meminfo");
    };
    let found = format!("{} available of {}", bytes(available), bytes(total));
    if available < MEMORY_COMFORTABLE {
        return Check::warning(NAME, found, "close what you do not need: models that do not fit are refused");
    }
    Check::ok(NAME, found)
}

/// A field of `/proc/meminfo`, in bytes.
#[cfg(target_os = "linux")]
fn field(table: &str, name: &str) -> Option<u64> {
    let line = table.lines().find(|line| line.starts_with(name))?;
    line.split_ascii_whitespace().nth(1)?.parse::<u64>().ok()?.checked_mul(1024)
}

/// By trying, on a thread that ends at once: a Landlock domain holds for the thread that entered it.
#[cfg(target_os = "linux")]
fn landlock() -> Check {
    use landlock::{AccessFs, LandlockStatus, Ruleset, RulesetAttr};
    const NAME: &str = "Landlock";
    let tried = std::thread::Builder::new().name("doctor-landlock".to_owned()).spawn(|| {
        let ruleset = Ruleset::default().handle_access(AccessFs::Execute).and_then(Ruleset::create);
        ruleset.and_then(|ruleset| ruleset.restrict_self()).map(|status| status.landlock)
    });
    let missing =
        "use a kernel of version 5.13 or newer with Landlock; without it engines can read what you can read";
    match tried.ok().and_then(|thread| thread.join().ok()) {
        Some(Ok(LandlockStatus::Available { effective_abi, kernel_abi })) => {
            let abi = kernel_abi.unwrap_or(effective_abi as i32);
            // Before ABI 9 the kernel cannot tell whose a socket is; the filter then refuses all connects.
            let sockets = if abi < 9 {
                "; a runtime with allow_unix_connect reaches every Unix socket that the node may"
            } else {
                ""
            };
            Check::ok(NAME, format!("ABI {abi}: engines see only their own files{sockets}"))
        }
        Some(Ok(LandlockStatus::NotEnabled)) => Check::warning(
            NAME,
            "the kernel has it, but it is off",
            "add landlock to the kernel's lsm= option",
        ),
        Some(Ok(LandlockStatus::NotImplemented)) => Check::warning(NAME, "this kernel has none", missing),
        Some(Err(error)) => Check::warning(NAME, format!("cannot be used here: {error}"), missing),
        None => Check::skipped(NAME, "could not be tried"),
    }
}

#[cfg(target_os = "linux")]
fn seccomp() -> Check {
    const NAME: &str = "seccomp";
    match std::fs::read_to_string("/proc/sys/kernel/seccomp/actions_avail") {
        Ok(actions) if actions.split_ascii_whitespace().any(|action| action == "errno") => {
            Check::ok(NAME, "filters are available")
        }
        Ok(_) | Err(_) => {
            let help = "use a kernel with CONFIG_SECCOMP_FILTER; without it engines may use any system call";
            Check::warning(NAME, "this kernel offers no filters", help)
        }
    }
}

#[cfg(target_os = "linux")]
fn user_namespaces() -> Check {
    const NAME: &str = "user namespaces";
    let number =
        |path: &str| std::fs::read_to_string(path).ok().and_then(|text| text.trim().parse::<u64>().ok());
    let help = "allow them (sysctl) if engines that start programs of their own are to be ended for certain";
    if number("/proc/sys/user/max_user_namespaces") == Some(0) {
        return Check::warning(NAME, "switched off (user.max_user_namespaces = 0)", help);
    }
    if number("/proc/sys/kernel/unprivileged_userns_clone") == Some(0) {
        return Check::warning(NAME, "for root only (kernel.unprivileged_userns_clone = 0)", help);
    }
    if number("/proc/sys/kernel/apparmor_restrict_unprivileged_userns") == Some(1) {
        return Check::warning(
            NAME,
            "restricted by AppArmor (kernel.apparmor_restrict_unprivileged_userns = 1)",
            help,
        );
    }
    match number("/proc/sys/user/max_user_namespaces") {
        Some(max) => Check::ok(NAME, format!("allowed (at most {max})")),
        None => Check::warning(NAME, "this kernel has none", help),
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_in_bytes() {
        let table = "MemTotal:       100 kB\nMemFree: 1 kB\nMemAvailable:   50 kB\n";
        assert_eq!(field(table, "MemAvailable:"), Some(51_200));
        assert_eq!(field("", "MemAvailable:"), None);
    }

    #[test]
    fn trying_landlock_does_not_restrict_this_thread() {
        landlock();
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "still writable").unwrap();
        assert!(std::process::Command::new("/bin/sh").args(["-c", "exit 0"]).status().unwrap().success());
    }
}
