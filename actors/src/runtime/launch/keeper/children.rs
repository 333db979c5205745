//! A keeper's children, born or adopted: tells when one has ended, reaps them, and kills what is left.
//!
//! Only the main thread reaps, so a child's number stays its own until then. A thread waits for the next exit
//! *without* reaping it, because this process must wait for its sockets at the same time. Refuses to know
//! which child is the program.

use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use arw_kit::clock::Clock;
use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, WaitOptions};

use super::super::plan::Ended;
use super::super::procfs::Procfs;
use super::super::wire::wait_readable;

/// One byte per exit, answered by one byte; the end of the stream: no children are left.
#[derive(Debug)]
pub(super) struct Children {
    news: UnixStream,
    none_left: bool,
}

/// How often what is left is looked for again while it is being killed: a dying parent hands its children
/// over.
const AGAIN_AFTER: Duration = Duration::from_millis(2);

impl Children {
    /// Call it when the first child exists.
    pub(super) fn watch() -> io::Result<Self> {
        let (news, waiter) = UnixStream::pair()?;
        std::thread::Builder::new()
            .name("waiter".into())
            .stack_size(64 * 1024)
            .spawn(move || wait_for_exits(waiter))?;
        Ok(Self { news, none_left: false })
    }

    /// Reaps all that have ended.
    pub(super) fn reap(&mut self) -> io::Result<Vec<(Pid, Ended)>> {
        let mut byte = [0_u8];
        if self.none_left || self.news.read(&mut byte)? == 0 {
            self.none_left = true;
            return Ok(Vec::new());
        }
        let mut reaped = Vec::new();
        while let Ok(Some((pid, status))) = rustix::process::wait(WaitOptions::NOHANG) {
            let code = status.exit_status().map(Ended::Code);
            if let Some(ended) = code.or_else(|| status.terminating_signal().map(Ended::Signal)) {
                reaped.push((pid, ended));
            }
        }
        self.news.write_all(&byte)?;
        Ok(reaped)
    }

    /// Kills and reaps until no child is left: a subreaper inherits the children of those that it kills.
    pub(super) fn kill_all(&mut self, clock: &Clock, at_most: Duration) -> io::Result<()> {
        let procfs = Procfs::default();
        // Where `/proc` counts differently from this process, its numbers must not be used.
        let own = procfs.own_pid().filter(|pid| *pid == std::process::id());
        let end = clock.now() + at_most;
        while !self.none_left && clock.now() < end {
            let children = own.map(|pid| procfs.children(pid)).unwrap_or_default();
            for child in children.into_iter().filter_map(|pid| Pid::from_raw(i32::try_from(pid).ok()?)) {
                // A zombie takes the signal without harm.
                let _ = rustix::process::kill_process(child, Signal::KILL);
            }
            if wait_readable(&[self.news.as_fd()], Some(AGAIN_AFTER))? == [true] {
                self.reap()?;
            }
        }
        Ok(())
    }
}

impl AsFd for Children {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.news.as_fd()
    }
}

fn wait_for_exits(mut main: UnixStream) {
    loop {
        match rustix::process::waitid(WaitId::All, WaitIdOptions::EXITED | WaitIdOptions::NOWAIT) {
            Ok(_) => {}
            Err(Errno::INTR) => continue,
            // No children: this end of the stream closes and says so.
            Err(_) => return,
        }
        let mut byte = [1_u8];
        if main.write_all(&byte).is_err() || main.read_exact(&mut byte).is_err() {
            return;
        }
    }
}
