//! Keepers as the node holds them: starts them, ends them, and keeps one ready for the next launch.
//!
//! Owns the *spare*: a keeper and its shim that wait for a program. Starting these two takes longer than
//! starting the program itself, so a program that has crashed is followed by the next one several
//! milliseconds sooner. Refuses to know programs.

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use parking_lot::Mutex;
use rustix::process::{Pid, PidfdFlags, Signal};

use super::capture::Output;
use super::keeper;
use super::os_launcher::KeeperProgram;
use super::sweep::{MARKER, Marker};
use super::wire::{Wire, wait_readable};

/// A spare is made when a program has run for so long: then it has most of its own start behind it, and a
/// program that dies sooner is no reason to hurry.
pub(super) const SPARE_AFTER: Duration = Duration::from_millis(250);

/// How long a keeper may take to end after its program has: the kernel frees the memory of what is left.
pub(super) const END_MAX: Duration = Duration::from_secs(5);

/// A plan is written at once or the keeper is stuck.
const SEND_MAX: Duration = Duration::from_secs(5);

/// Makes keepers, and holds the spare.
#[derive(Debug)]
pub(super) struct Keepers {
    program: KeeperProgram,
    state_id: String,
    spare: Mutex<Option<Keeper>>,
}

impl Keepers {
    pub(super) fn new(program: KeeperProgram, state_id: String) -> Self {
        Self { program, state_id, spare: Mutex::default() }
    }

    /// What is started as a keeper.
    pub(super) fn program(&self) -> &KeeperProgram {
        &self.program
    }

    /// The spare, if there is one that lives and has been made for this.
    pub(super) fn take_spare(&self, with_namespace: bool) -> Option<Keeper> {
        let spare = self.spare.lock().take()?;
        (spare.with_namespace == with_namespace && !spare.has_ended()).then_some(spare)
    }

    /// Makes a spare if there is none. Does not wait for it to be ready.
    pub(super) fn make_spare(&self, with_namespace: bool) {
        let old = {
            let mut spare = self.spare.lock();
            if spare.as_ref().is_some_and(|spare| !spare.has_ended()) {
                return;
            }
            match self.start(with_namespace) {
                Ok(keeper) => spare.replace(keeper),
                Err(error) => {
                    // The next launch starts one itself, and says so if it cannot.
                    tracing::debug!(%error, "no spare keeper");
                    spare.take()
                }
            }
        };
        // Ends and reaps it, which is not for others to wait for.
        drop(old);
    }

    /// Starts a keeper.
    pub(super) fn start(&self, with_namespace: bool) -> io::Result<Keeper> {
        let (output, write) = Output::new()?;
        let errors = write.try_clone()?;
        let (ours, theirs) = UnixStream::pair()?;
        ours.set_write_timeout(Some(SEND_MAX))?;
        let mode = if with_namespace { keeper::WITH_NAMESPACE } else { keeper::WITHOUT_NAMESPACE };
        let mut command = Command::new(&self.program.program);
        command
            .arg0("arw-keeper")
            .args([keeper::FIRST_ARGUMENT, mode])
            .env_clear()
            .env(MARKER, Marker::of_keepers(&self.state_id))
            .current_dir("/")
            // Out of the terminal's process group: Ctrl-C is for the node, which then stops engines in order.
            .process_group(0)
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(write)
            .stderr(errors);
        let process = command.spawn()?;
        let fd = rustix::process::pidfd_open(Pid::from_child(&process), PidfdFlags::empty())?;
        Ok(Keeper { process, fd, wire: Wire::new(ours), output: Some(output), with_namespace, reaped: false })
    }
}

/// A keeper that has been started. Dropping it ends and reaps it, and what it keeps with it.
#[derive(Debug)]
pub(super) struct Keeper {
    process: Child,
    /// Readable when it has ended.
    fd: OwnedFd,
    pub(super) wire: Wire,
    /// What it and its program print; taken by whoever reads it.
    pub(super) output: Option<Output>,
    with_namespace: bool,
    reaped: bool,
}

impl Keeper {
    fn has_ended(&self) -> bool {
        wait_readable(&[self.fd.as_fd()], Some(Duration::ZERO)).is_ok_and(|ready| ready == [true])
    }

    /// Readable when it has ended.
    pub(super) fn ended_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Kills it, for when it does not obey.
    pub(super) fn kill(&self) {
        // It may have ended by itself.
        let _ = rustix::process::pidfd_send_signal(&self.fd, Signal::KILL);
    }

    /// Ends and reaps it; it takes with it what it kept.
    pub(super) fn end(&mut self) {
        if std::mem::replace(&mut self.reaped, true) {
            return;
        }
        // Closing our end is the order that no keeper misses.
        let _ = rustix::net::shutdown(self.wire.as_fd(), rustix::net::Shutdown::Both);
        for _ in 0..2 {
            if wait_readable(&[self.fd.as_fd()], Some(END_MAX)).is_ok_and(|ready| ready == [true]) {
                break;
            }
            self.kill();
        }
        match self.process.try_wait() {
            Ok(Some(_)) => {}
            Ok(None) => {
                tracing::error!(keeper = self.process.id(), "a killed keeper does not end: waiting for it");
                // The kernel holds it (a GPU driver, a dead disk). Its runtime must not start again beside
                // it.
                let _ = self.process.wait();
            }
            Err(error) => tracing::error!(keeper = self.process.id(), %error, "a keeper could not be reaped"),
        }
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.end();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A stand-in that ends when its standard input does.
    fn keepers() -> (tempfile::TempDir, Keepers) {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("keeper");
        std::fs::write(&program, "#!/bin/sh\nexec cat\n").unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        let keepers = Keepers::new(KeeperProgram { program }, "0123abcd".to_owned());
        (folder, keepers)
    }

    #[test]
    fn a_spare_is_made_once_and_taken_once() {
        let (_folder, keepers) = keepers();
        assert!(keepers.take_spare(true).is_none());
        keepers.make_spare(true);
        let pid = keepers.spare.lock().as_ref().unwrap().process.id();
        keepers.make_spare(true);
        let spare = keepers.take_spare(true).unwrap();
        assert_eq!(spare.process.id(), pid);
        assert!(keepers.take_spare(true).is_none());
    }

    #[test]
    fn a_spare_that_died_or_was_made_otherwise_is_not_taken() {
        let (_folder, keepers) = keepers();
        keepers.make_spare(true);
        assert!(keepers.take_spare(false).is_none());
        keepers.make_spare(true);
        {
            let spare = keepers.spare.lock();
            let spare = spare.as_ref().unwrap();
            spare.kill();
            assert_eq!(wait_readable(&[spare.fd.as_fd()], Some(Duration::from_secs(10))).unwrap(), [true]);
        }
        assert!(keepers.take_spare(true).is_none());
    }

    #[test]
    fn a_spare_ends_with_its_owner() {
        let (_folder, keepers) = keepers();
        keepers.make_spare(false);
        let fd = keepers.spare.lock().as_ref().unwrap().fd.try_clone().unwrap();
        drop(keepers);
        assert_eq!(wait_readable(&[fd.as_fd()], Some(Duration::ZERO)).unwrap(), [true]);
    }
}
