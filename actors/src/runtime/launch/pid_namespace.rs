//! A pid namespace for one program: when its first process ends, the kernel ends all others in it.
//!
//! Owns making one without being root, through a user namespace that maps only the current user. Refuses to
//! fail: a kernel or an administrator that does not allow it is a note in the sandbox report, and the keeper
//! then relies on being a subreaper.

use std::fs;
use std::io;

use rustix::thread::UnshareFlags;

pub(super) enum Entered {
    /// The next child of this process is the first process of the namespace.
    Yes,
    /// Not allowed here. Nothing has changed.
    Refused(io::Error),
    /// The user namespace exists but this user is not mapped into it: this process is of no further use.
    Broken(io::Error),
}

/// Must be called in a process with one thread, and no thread may be made afterwards.
pub(super) fn enter() -> Entered {
    let user = rustix::process::geteuid().as_raw();
    let group = rustix::process::getegid().as_raw();
    if let Err(error) = unshare(UnshareFlags::NEWUSER | UnshareFlags::NEWPID) {
        // Where user namespaces are turned off, root may still have a pid namespace.
        return match unshare(UnshareFlags::NEWPID) {
            Ok(()) => Entered::Yes,
            Err(_) => Entered::Refused(error),
        };
    }
    match map(user, group) {
        Ok(()) => Entered::Yes,
        Err(error) => Entered::Broken(error),
    }
}

fn map(user: u32, group: u32) -> io::Result<()> {
    // Without this an unprivileged process may not map its group. Kernels before 3.19 have no such file.
    match fs::write("/proc/self/setgroups", "deny") {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    fs::write("/proc/self/gid_map", format!("{group} {group} 1"))?;
    fs::write("/proc/self/uid_map", format!("{user} {user} 1"))
}

#[expect(
    deprecated,
    reason = "the replacement is `unsafe` because of UnshareFlags::FILES alone, which is not used here"
)]
fn unshare(flags: UnshareFlags) -> io::Result<()> {
    Ok(rustix::thread::unshare(flags)?)
}
