//! What a runtime's program prints: a ring of the newest lines and a rotating file.
//!
//! Owns [`EngineLog`] (numbered lines, readers that follow it) and the limits of both. Refuses to know where
//! the bytes come from (`launch/capture.rs`) and what they mean (`diagnosis.rs`).
//!
//! Invariants: every line gets a number, kept or not, so a reader can tell exactly how many it missed; the
//! newest lines are always in the ring, however fast a program prints; a file that cannot be written never
//! holds a program up.

mod cutter;
mod file;
mod veil;

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::Mutex;
use serde::Serialize;
use tokio::sync::watch;

pub use cutter::LineCutter;
pub use veil::Veil;

use arw_kit::clock::Clock;
use arw_kit::moment::{Moment, WallTime};
use file::RotatingFile;

/// The limits of one runtime's log.
#[derive(Clone, Debug)]
pub struct EngineLogOptions {
    /// The newest file; older ones are named `<file>.1`, `<file>.2`, …. `None` keeps lines in memory only.
    pub file: Option<PathBuf>,
    /// A file is set aside when it would grow beyond this many bytes.
    pub file_bytes_max: u64,
    /// How many files there are, the newest included.
    pub files_max: u32,
    /// How many lines the ring holds.
    pub lines_max: usize,
    /// How many bytes per second go to the file in the long run; what is beyond is counted instead.
    pub file_bytes_per_second: u64,
}

impl Default for EngineLogOptions {
    fn default() -> Self {
        Self {
            file: None,
            // Four files of 8 MiB hold about a day of a busy llama-server and stay small beside any model.
            file_bytes_max: 8 * 1024 * 1024,
            files_max: 4,
            lines_max: 500,
            // Far above what an engine prints in earnest, far below what would wear a disk out.
            file_bytes_per_second: 1024 * 1024,
        }
    }
}

/// A burst may use this many seconds of the file's rate at once: an engine's start prints a lot in a moment.
const BURST_SECONDS: u64 = 4;

/// Who wrote a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LogStream {
    /// The program, on its standard output or standard error (one pipe, so that their order is kept).
    Output,
    /// ARW itself: `--- started pid 4242`.
    Arw,
}

/// One line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogLine {
    /// Counts the lines of this log from 1, lines that were dropped included.
    pub number: u64,
    /// When it was read.
    pub at: WallTime,
    /// Who wrote it.
    pub stream: LogStream,
    /// Valid UTF-8 without control characters, at most [`LineCutter::LINE_BYTES_MAX`] bytes before cleaning.
    pub text: Arc<str>,
}

/// Some lines, and how many lines before or between them are gone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogPage {
    /// Oldest first.
    pub lines: Vec<LogLine>,
    /// Lines that the reader asked for and that are no longer (or were never) kept.
    pub dropped: u64,
    /// Ask for lines after this number next.
    pub last: u64,
}

/// The log of one runtime. Written by the capture thread, read by anyone.
///
/// ```
/// use arw_actors::runtime::log::EngineLog;
/// let log = EngineLog::in_memory();
/// log.marker("started pid 4242");
/// assert_eq!(&*log.lines(10)[0].text, "--- started pid 4242");
/// ```
#[derive(Debug)]
pub struct EngineLog {
    state: Mutex<State>,
    newest: watch::Sender<u64>,
    clock: Clock,
}

#[derive(Debug)]
struct State {
    ring: VecDeque<LogLine>,
    lines_max: usize,
    newest: u64,
    dropped: u64,
    file: Option<RotatingFile>,
    allowance: Allowance,
    /// Lines that did not go to the file since the last one that did.
    file_dropped: u64,
}

impl EngineLog {
    /// A log with these limits. The file is opened at the first line; failing to is no error here: see
    /// [`EngineLog::file_problem`].
    #[must_use]
    pub fn new(options: EngineLogOptions) -> Self {
        let clock = Clock::system();
        let allowance = Allowance::full(options.file_bytes_per_second, clock.now());
        let file =
            options.file.map(|path| RotatingFile::new(path, options.file_bytes_max, options.files_max));
        let lines_max = options.lines_max.max(1);
        let state = State {
            ring: VecDeque::new(),
            lines_max,
            newest: 0,
            dropped: 0,
            file,
            allowance,
            file_dropped: 0,
        };
        Self { state: Mutex::new(state), newest: watch::Sender::new(0), clock }
    }

    /// A log without a file.
    #[must_use]
    pub fn in_memory() -> Self {
        Self::new(EngineLogOptions::default())
    }

    /// The newest `tail` lines, oldest first.
    #[must_use]
    pub fn lines(&self, tail: usize) -> Vec<LogLine> {
        let state = self.state.lock();
        state.ring.iter().skip(state.ring.len().saturating_sub(tail)).cloned().collect()
    }

    /// At most `max` lines with numbers above `number`, and how many such lines are lost.
    #[must_use]
    pub fn after(&self, number: u64, max: usize) -> LogPage {
        let state = self.state.lock();
        let from = state.ring.partition_point(|line| line.number <= number);
        let lines: Vec<LogLine> = state.ring.iter().skip(from).take(max).cloned().collect();
        // A reader that is ahead of the log (it was made anew) gets nothing and goes on from where the log
        // is.
        let last =
            lines.last().map_or(if from == state.ring.len() { state.newest } else { number }, |l| l.number);
        let dropped = last.saturating_sub(number).saturating_sub(lines.len() as u64);
        LogPage { lines, dropped, last }
    }

    /// The number of the newest line; 0 when there is none.
    #[must_use]
    pub fn newest(&self) -> u64 {
        self.state.lock().newest
    }

    /// How many lines the ring never held because a program printed them too fast.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.state.lock().dropped
    }

    /// Why the file is not being written at the moment, in words.
    #[must_use]
    pub fn file_problem(&self) -> Option<String> {
        self.state.lock().file.as_ref().and_then(|file| file.problem().map(str::to_owned))
    }

    /// A reader that starts after the line `after` (0: with the oldest line kept) and waits for what follows.
    pub fn subscribe(self: &Arc<Self>, after: u64) -> LogFollower {
        LogFollower { newest: self.newest.subscribe(), log: Arc::clone(self), last: after }
    }

    /// Writes a line of ARW's own: `--- started pid 4242`.
    pub fn marker(&self, text: &str) {
        let line = format!("--- {text}");
        self.write(&[line.as_bytes()], LogStream::Arw);
    }

    /// Writes lines as [`LineCutter`] cut them, without their line ends.
    pub fn write(&self, lines: &[&[u8]], stream: LogStream) {
        if lines.is_empty() {
            return;
        }
        let (now, at) = (self.clock.now(), self.clock.wall());
        let newest = self.state.lock().write(lines, stream, now, at);
        self.newest.send_replace(newest);
    }
}

impl State {
    fn write(&mut self, lines: &[&[u8]], stream: LogStream, now: Moment, at: WallTime) -> u64 {
        let bytes: u64 = lines.iter().map(|line| line.len() as u64 + 1).sum();
        let to_file = self.file.is_some() && (stream == LogStream::Arw || self.allowance.take(bytes, now));
        let mut text = String::new();
        if to_file && self.file_dropped > 0 {
            let words = "printed too fast, or the file could not be written";
            file::append_line(&mut text, at, &format!("--- {} lines left out: {words}", self.file_dropped));
        }
        // More lines at once than the ring holds: only the last ones can still be seen, so only those are
        // worth cleaning.
        let skipped = if to_file { 0 } else { lines.len().saturating_sub(self.lines_max) };
        self.newest += skipped as u64;
        self.dropped += skipped as u64;
        for line in lines.iter().skip(skipped) {
            self.newest += 1;
            let clean: Arc<str> = cutter::clean(line).into();
            if to_file {
                file::append_line(&mut text, at, &clean);
            }
            if self.ring.len() >= self.lines_max {
                self.ring.pop_front();
            }
            self.ring.push_back(LogLine { number: self.newest, at, stream, text: clean });
        }
        if let Some(file) = &mut self.file {
            let is_written = to_file && file.append(&text, now);
            // What could not be written is told with what follows, and so is that the notice of it could not.
            self.file_dropped = if is_written { 0 } else { self.file_dropped + lines.len() as u64 };
        }
        self.newest
    }
}

/// Follows a log line by line: for SSE and `arw runtime logs -f`.
#[derive(Debug)]
pub struct LogFollower {
    log: Arc<EngineLog>,
    newest: watch::Receiver<u64>,
    last: u64,
}

impl LogFollower {
    /// Waits until there is something new, then gives at most `max` lines of it and the number lost in
    /// between. Safe to drop and call again: nothing is taken before it is returned.
    pub async fn next(&mut self, max: usize) -> LogPage {
        loop {
            self.newest.mark_unchanged();
            let page = self.log.after(self.last, max);
            if !page.lines.is_empty() || page.dropped > 0 {
                self.last = page.last;
                return page;
            }
            self.last = page.last;
            if self.newest.changed().await.is_err() {
                // The log lives as long as this reader holds it, so its sender does too.
                std::future::pending::<()>().await;
            }
        }
    }
}

/// A token bucket in bytes. Pure: time goes in.
#[derive(Debug)]
struct Allowance {
    bytes_per_second: u64,
    left: u64,
    at: Moment,
}

impl Allowance {
    fn full(bytes_per_second: u64, now: Moment) -> Self {
        Self { bytes_per_second, left: bytes_per_second.saturating_mul(BURST_SECONDS), at: now }
    }

    fn take(&mut self, bytes: u64, now: Moment) -> bool {
        let elapsed = now.since(self.at);
        let gained = elapsed.as_millis().saturating_mul(u128::from(self.bytes_per_second)) / 1000;
        if gained > 0 {
            let full = self.bytes_per_second.saturating_mul(BURST_SECONDS);
            self.left = self.left.saturating_add(u64::try_from(gained).unwrap_or(u64::MAX)).min(full);
            self.at = now;
        }
        let enough = self.left >= bytes;
        if enough {
            self.left -= bytes;
        }
        enough
    }
}

#[cfg(test)]
mod tests;
