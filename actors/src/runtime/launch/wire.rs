//! Lines of JSON over a local socket, with limits.
//!
//! Owns framing. Refuses to know what the messages mean.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Arguments and environment of a program are at most 2 MB on Linux; rules come on top.
const MESSAGE_BYTES_MAX: usize = 8 * 1024 * 1024;

/// One end of a local socket that carries messages.
#[derive(Debug)]
pub(super) struct Wire {
    socket: UnixStream,
    received: Vec<u8>,
    ended: bool,
}

/// What a look at the socket found.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Received<T> {
    Message(T),
    /// Nothing complete yet.
    Nothing,
    /// The other side is gone.
    Ended,
}

impl Wire {
    pub(super) fn new(socket: UnixStream) -> Self {
        Self { socket, received: Vec::new(), ended: false }
    }

    /// Writes one message. The other side reads at once or is dead, so this waits no longer than the socket's
    /// own time limit.
    pub(super) fn send(&mut self, message: &impl Serialize) -> io::Result<()> {
        let mut line = serde_json::to_vec(message)?;
        line.push(b'\n');
        self.socket.write_all(&line)
    }

    /// The next message, waiting for it.
    pub(super) fn receive<T: DeserializeOwned>(&mut self) -> io::Result<Option<T>> {
        loop {
            match self.poll()? {
                Received::Message(message) => return Ok(Some(message)),
                Received::Ended => return Ok(None),
                Received::Nothing => self.fill()?,
            }
        }
    }

    /// The next message that is already here.
    pub(super) fn try_receive<T: DeserializeOwned>(&mut self) -> io::Result<Received<T>> {
        loop {
            match self.poll()? {
                Received::Nothing if !self.ended && is_readable(&self.socket)? => self.fill()?,
                other => return Ok(other),
            }
        }
    }

    fn poll<T: DeserializeOwned>(&mut self) -> io::Result<Received<T>> {
        if let Some(end) = self.received.iter().position(|b| *b == b'\n') {
            let line: Vec<u8> = self.received.drain(..=end).collect();
            return Ok(Received::Message(serde_json::from_slice(&line)?));
        }
        Ok(if self.ended { Received::Ended } else { Received::Nothing })
    }

    fn fill(&mut self) -> io::Result<()> {
        let mut buffer = [0_u8; 16 * 1024];
        match self.socket.read(&mut buffer) {
            Ok(0) => self.ended = true,
            Ok(count) => self.received.extend_from_slice(&buffer[..count]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => self.ended = true,
            Err(error) => return Err(error),
        }
        if self.received.len() > MESSAGE_BYTES_MAX {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "a message between node and keeper is too long",
            ));
        }
        Ok(())
    }
}

impl AsFd for Wire {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn is_readable(socket: &UnixStream) -> io::Result<bool> {
    let ready = wait_readable(&[socket.as_fd()], Some(Duration::ZERO))?;
    Ok(ready.first().copied().unwrap_or(false))
}

/// Waits until one of these can be read, has ended or has failed; says which. An interruption counts as
/// nothing ready.
pub(super) fn wait_readable(fds: &[BorrowedFd<'_>], at_most: Option<Duration>) -> io::Result<Vec<bool>> {
    let mut polled: Vec<PollFd<'_>> =
        fds.iter().map(|fd| PollFd::from_borrowed_fd(*fd, PollFlags::IN)).collect();
    let limit = at_most.map(|d| Timespec {
        tv_sec: i64::try_from(d.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(d.subsec_nanos()),
    });
    match rustix::event::poll(&mut polled, limit.as_ref()) {
        Ok(_) => Ok(polled.iter().map(|fd| !fd.revents().is_empty()).collect()),
        Err(rustix::io::Errno::INTR) => Ok(vec![false; fds.len()]),
        Err(errno) => Err(errno.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_arrive_whole_and_the_end_is_seen() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let mut reader = Wire::new(ours);
        assert_eq!(reader.try_receive::<u32>().unwrap(), Received::Nothing);
        (&theirs).write_all(b"1\n2").unwrap();
        assert_eq!(reader.try_receive::<u32>().unwrap(), Received::Message(1));
        assert_eq!(reader.try_receive::<u32>().unwrap(), Received::Nothing);
        (&theirs).write_all(b"3\n").unwrap();
        drop(theirs);
        assert_eq!(reader.receive::<u32>().unwrap(), Some(23));
        assert_eq!(reader.try_receive::<u32>().unwrap(), Received::Ended);
        assert_eq!(reader.receive::<u32>().unwrap(), None);
    }

    #[test]
    fn nonsense_is_an_error_not_a_panic() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        (&theirs).write_all(b"{nonsense\n").unwrap();
        assert!(Wire::new(ours).receive::<u32>().is_err());
    }
}
