//! The node's log, on standard error, which must never end or stop the node: a full disk, a pipe that nobody
//! reads any more, a terminal that stands still are all reasons to lose lines, and none to lose engines.
//!
//! Owns the writing of one line at a time and what is done when that fails: the line is lost and counted
//! ([`LogHealth`]), the next one is tried again. Refuses to know what a line says.

use std::io::{self, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arw_actors::log_health::LogHealth;
use tracing_subscriber::fmt::MakeWriter;

/// So long a line waits for a reader that does not come to it. Whoever logs stands still meanwhile.
const PATIENCE: Duration = Duration::from_millis(100);
/// What may be written at once without waiting where room was seen: what POSIX promises for a pipe, Linux's
/// `PIPE_BUF`.
const PIECE_BYTES: usize = 4096;

/// Makes the writer of each line. Cheap to clone; every clone writes to the same place.
#[derive(Debug)]
pub(crate) struct LogOutput<O = StandardError> {
    shared: Arc<Shared<O>>,
}

#[derive(Debug)]
struct Shared<O> {
    outlet: Mutex<Outlet<O>>,
    health: LogHealth,
}

/// Where lines go, and in what state the last one left it.
#[derive(Debug)]
struct Outlet<O> {
    to: O,
    /// Nobody came to read within [`PATIENCE`]: the next line does not wait again.
    stalled: bool,
    /// The last line broke off: the next one begins with a line end.
    torn: bool,
}

/// A place for bytes of which one can ask whether it takes any.
pub(crate) trait Outward: Write {
    /// Waits until something can be written without waiting, or `patience` is over; says which.
    fn has_room(&self, patience: Duration) -> bool;
}

impl LogOutput {
    /// Onto standard error.
    pub(crate) fn standard_error(health: LogHealth) -> Self {
        Self::new(StandardError, health)
    }
}

impl<O: Outward> LogOutput<O> {
    fn new(to: O, health: LogHealth) -> Self {
        let outlet = Mutex::new(Outlet { to, stalled: false, torn: false });
        Self { shared: Arc::new(Shared { outlet, health }) }
    }

    fn outlet(&self) -> MutexGuard<'_, Outlet<O>> {
        self.shared.outlet.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<O> Clone for LogOutput<O> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

impl<'a, O: Outward + 'a> MakeWriter<'a> for LogOutput<O> {
    type Writer = Self;
    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

impl<O: Outward> Write for LogOutput<O> {
    /// Takes a whole line, as the subscriber hands it over. Never fails: whoever logs has nothing to do about
    /// it.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let written = self.outlet().put(line);
        // Not under the lock: it wakes others.
        match written {
            Ok(()) => self.shared.health.line_written(),
            Err(error) => self.shared.health.line_lost(&error.to_string()),
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<O: Outward> Outlet<O> {
    fn put(&mut self, line: &[u8]) -> io::Result<()> {
        let patience = if self.stalled { Duration::ZERO } else { PATIENCE };
        if self.torn {
            self.pieces(b"\n", patience)?;
            self.torn = false;
        }
        self.pieces(line, patience)
    }

    fn pieces(&mut self, mut rest: &[u8], patience: Duration) -> io::Result<()> {
        let whole = rest.len();
        let mut refused = false;
        while !rest.is_empty() {
            let written = if refused || !self.to.has_room(patience) {
                self.stalled = true;
                Err(io::Error::new(io::ErrorKind::TimedOut, "nobody reads it"))
            } else {
                self.to.write(&rest[..rest.len().min(PIECE_BYTES)])
            };
            match written {
                Ok(0) => return self.broke_off(rest.len() < whole, io::ErrorKind::WriteZero.into()),
                Ok(count) => rest = rest.get(count..).unwrap_or_default(),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // Room for less than we have: one who shares it with us has made it so that it does not wait.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => refused = true,
                Err(error) => return self.broke_off(rest.len() < whole, error),
            }
        }
        self.stalled = false;
        Ok(())
    }

    fn broke_off(&mut self, inside_a_line: bool, error: io::Error) -> io::Result<()> {
        self.torn |= inside_a_line;
        Err(error)
    }
}

/// This process's standard error.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StandardError;

impl Write for StandardError {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        io::stderr().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

impl Outward for StandardError {
    #[cfg(unix)]
    fn has_room(&self, patience: Duration) -> bool {
        use rustix::event::{PollFd, PollFlags, Timespec, poll};
        let stderr = io::stderr();
        let mut wanted = [PollFd::new(&stderr, PollFlags::OUT)];
        let patience = Timespec { tv_sec: 0, tv_nsec: patience.subsec_nanos().into() };
        // Whatever cannot be polled is tried.
        !matches!(poll(&mut wanted, Some(&patience)), Ok(0))
    }

    #[cfg(not(unix))]
    fn has_room(&self, _: Duration) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Does what it is told for each write, and takes everything when nothing more is told.
    #[derive(Default)]
    struct Script {
        results: Vec<io::Result<usize>>,
        is_full: bool,
        waited: std::cell::RefCell<Vec<Duration>>,
        taken: Vec<u8>,
    }

    impl Write for Script {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let count = if self.results.is_empty() { bytes.len() } else { self.results.remove(0)? };
            self.taken.extend_from_slice(&bytes[..count.min(bytes.len())]);
            Ok(count.min(bytes.len()))
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Outward for Script {
        fn has_room(&self, patience: Duration) -> bool {
            self.waited.borrow_mut().push(patience);
            !self.is_full
        }
    }

    fn log(script: Script) -> (LogOutput<Script>, LogHealth) {
        let health = LogHealth::default();
        (LogOutput::new(script, health.clone()), health)
    }

    fn taken(log: &LogOutput<Script>) -> String {
        String::from_utf8(log.outlet().to.taken.clone()).unwrap()
    }

    fn full() -> io::Result<usize> {
        Err(io::Error::from_raw_os_error(28))
    }

    #[test]
    fn a_line_that_cannot_be_written_is_counted_and_no_error_of_who_logs() {
        for kind in [io::ErrorKind::StorageFull, io::ErrorKind::BrokenPipe, io::ErrorKind::FileTooLarge] {
            let (mut out, health) = log(Script { results: vec![Err(kind.into())], ..Script::default() });
            out.write_all(b"one\n").unwrap();
            assert_eq!(health.lost(), 1);
            assert!(health.outage().borrow().is_some());
            out.write_all(b"two\n").unwrap();
            assert_eq!((health.lost(), taken(&out).as_str()), (1, "two\n"));
            assert!(health.outage().borrow().is_none());
        }
    }

    #[test]
    fn after_half_a_line_the_next_one_begins_on_a_line_of_its_own() {
        let script = Script { results: vec![Ok(2), full(), full()], ..Script::default() };
        let (mut out, health) = log(script);
        for line in ["first\n", "second\n", "third\n"] {
            out.write_all(line.as_bytes()).unwrap();
        }
        assert_eq!((taken(&out).as_str(), health.lost()), ("fi\nthird\n", 2));
    }

    #[test]
    fn a_reader_that_stands_still_is_waited_for_once() {
        let (mut out, health) = log(Script { is_full: true, ..Script::default() });
        out.write_all(b"one\n").unwrap();
        out.write_all(b"two\n").unwrap();
        assert_eq!(out.outlet().to.waited.borrow().as_slice(), [PATIENCE, Duration::ZERO]);
        assert_eq!((health.lost(), taken(&out).as_str()), (2, ""));
        out.outlet().to.is_full = false;
        out.write_all(b"three\n").unwrap();
        out.write_all(b"four\n").unwrap();
        assert_eq!(out.outlet().to.waited.borrow().last(), Some(&PATIENCE));
        assert_eq!((health.lost(), taken(&out).as_str()), (2, "three\nfour\n"));
    }

    #[test]
    fn a_long_line_goes_out_in_pieces_and_an_interrupted_write_is_written_again() {
        let line = format!("{}\n", "x".repeat(3 * PIECE_BYTES));
        let interrupted = Err(io::ErrorKind::Interrupted.into());
        let (mut out, health) = log(Script { results: vec![interrupted, Ok(5)], ..Script::default() });
        out.write_all(line.as_bytes()).unwrap();
        assert_eq!((health.lost(), taken(&out)), (0, line));
    }

    #[test]
    fn an_outlet_that_does_not_wait_loses_the_line_and_not_the_node() {
        let busy = || Err(io::ErrorKind::WouldBlock.into());
        let (mut out, health) = log(Script { results: vec![busy(), busy()], ..Script::default() });
        out.write_all(b"one\n").unwrap();
        assert_eq!(health.lost(), 1);
    }
}
