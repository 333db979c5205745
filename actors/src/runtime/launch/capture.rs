//! Reads what a program prints, on a thread of its own.
//!
//! Owns the reading end of the pipe. Refuses to hold anything up: it reads as fast as the program prints, and
//! when the program has ended it drains for a limited time only, because a process that escaped could hold
//! the pipe open for ever.

use std::fs::File;
use std::io::Read as _;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use rustix::event::EventfdFlags;
use rustix::pipe::PipeFlags;

use super::wire::wait_readable;
use crate::runtime::launcher::Secret;
use crate::runtime::log::{EngineLog, LineCutter, LogStream, Veil};

/// As much as a user may have without being root; the program waits less often.
const PIPE_BYTES: usize = 1024 * 1024;

/// Read at once. Larger buffers read no faster.
const BUFFER_BYTES: usize = 128 * 1024;

/// After the drain deadline the thread has only to notice it.
const STOP_MAX: Duration = Duration::from_millis(100);

/// The reading end of the pipe into which a program prints.
#[derive(Debug)]
pub(super) struct Output(OwnedFd);

impl Output {
    /// Makes the pipe; gives the writing end for the program.
    pub(super) fn new() -> std::io::Result<(Self, OwnedFd)> {
        let (read, write) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
        // A smaller pipe works as well.
        let _ = rustix::pipe::fcntl_setpipe_size(&write, PIPE_BYTES);
        Ok((Self(read), write))
    }
}

#[derive(Debug)]
pub(super) struct Capture {
    go: Option<SyncSender<()>>,
    stop: Arc<OwnedFd>,
    ended: Receiver<()>,
}

impl Capture {
    /// Makes the thread. Nothing is read before [`Capture::go`], so that what ARW says about a start comes
    /// first in the log; until then the pipe holds what is printed.
    pub(super) fn start(Output(read): Output, log: Arc<EngineLog>, secret: &Secret) -> std::io::Result<Self> {
        let veil = Veil::new(secret.reveal().as_bytes());
        let stop = Arc::new(rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
        let (tell, ended) = sync_channel(1);
        let (go, gone) = sync_channel::<()>(1);
        let stopped = Arc::clone(&stop);
        let thread = std::thread::Builder::new().name("engine-log".into()).stack_size(256 * 1024);
        thread.spawn(move || {
            // Ends with the sender, which is dropped at the latest with the whole value.
            let _ = gone.recv();
            read_all(&mut File::from(read), &stopped, &log, veil);
            // Nobody may be waiting any more.
            let _ = tell.try_send(());
        })?;
        Ok(Self { go: Some(go), stop, ended })
    }

    /// Starts reading.
    pub(super) fn go(&mut self) {
        self.go = None;
    }

    /// Returns when all that was printed is in the log, or after `at_most`.
    pub(super) fn finish(mut self, at_most: Duration) {
        self.go();
        if self.ended.recv_timeout(at_most).is_err() {
            // The write can only fail when the counter is full, and then it is readable all the same.
            let _ = rustix::io::write(&*self.stop, &1_u64.to_ne_bytes());
            let _ = self.ended.recv_timeout(STOP_MAX);
        }
    }
}

/// Nothing of this launch's key gets into the log, which anybody on this machine may read.
fn read_all(pipe: &mut File, stop: &OwnedFd, log: &EngineLog, mut veil: Veil) {
    let mut cutter = LineCutter::default();
    let mut buffer = vec![0_u8; BUFFER_BYTES];
    loop {
        match wait_readable(&[pipe.as_fd(), stop.as_fd()], None) {
            Ok(ready) if ready == [false, false] => continue,
            Ok(ready) if ready.get(1) == Some(&true) => break,
            Ok(_) => {}
            Err(_) => break,
        }
        match pipe.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => {
                let shown = veil.hide(&buffer[..count]);
                cutter.cut(&shown, |lines| log.write(lines, LogStream::Output));
            }
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(_) => break,
        }
    }
    cutter.cut(&veil.finish(), |lines| log.write(lines, LogStream::Output));
    cutter.finish(|lines| log.write(lines, LogStream::Output));
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn all_that_was_printed_is_there_when_the_pipe_has_ended() {
        let log = Arc::new(EngineLog::in_memory());
        let (output, write) = Output::new().unwrap();
        let capture = Capture::start(output, Arc::clone(&log), &Secret::new("k3y")).unwrap();
        File::from(write).write_all(b"one k3y\ntwo k3").unwrap();
        capture.finish(Duration::from_secs(10));
        let texts: Vec<_> = log.lines(10).iter().map(|l| l.text.to_string()).collect();
        assert_eq!(texts, ["one (key)", "two k3"]);
    }

    #[test]
    fn a_pipe_that_somebody_holds_open_is_left_at_the_deadline() {
        let log = Arc::new(EngineLog::in_memory());
        let (output, write) = Output::new().unwrap();
        let capture = Capture::start(output, Arc::clone(&log), &Secret::new("k3y")).unwrap();
        let mut held = File::from(write);
        held.write_all(b"unfinished").unwrap();
        capture.finish(Duration::from_millis(50));
        assert_eq!(&*log.lines(1)[0].text, "unfinished");
    }
}
