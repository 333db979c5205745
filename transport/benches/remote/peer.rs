//! A contender in a process of its own: told by lines what to measure, answers by lines.
//!
//! Owns the process and how long it may take. Refuses to know what it measures.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::Duration;

/// Start and measurements take seconds, on a busy machine some more; who takes longer hangs.
const PATIENCE: Duration = Duration::from_secs(150);

/// Ends with its owner: it is killed when this is dropped, and ends with its standard input should this
/// process be killed.
pub(crate) struct Peer {
    child: Child,
    input: ChildStdin,
    lines: Receiver<String>,
}

impl Peer {
    /// Waits until it says that it is ready. Or why it did not.
    pub(crate) fn start(command: &mut Command) -> Result<Self, String> {
        let program = command.get_program().to_string_lossy().into_owned();
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| format!("{program}: {error}"))?;
        let (input, output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let (tell, lines) = sync_channel(64);
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines() {
                let Ok(line) = line else { return };
                if tell.send(line).is_err() {
                    return;
                }
            }
        });
        let peer = Self { child, input, lines };
        peer.answer("ready").map(|_| ()).map_err(|why| format!("{program}: {why}"))?;
        Ok(peer)
    }

    /// One round of one test: its figures, in the order of the others'.
    pub(crate) fn measure(&mut self, test: &str, count: usize) -> Result<Vec<f64>, String> {
        writeln!(self.input, "{test} {count}").map_err(|error| error.to_string())?;
        self.answer(test)
    }

    fn answer(&self, test: &str) -> Result<Vec<f64>, String> {
        let line =
            self.lines.recv_timeout(PATIENCE).map_err(|error| format!("no answer to {test}: {error}"))?;
        let figures = line.strip_prefix(test).map(str::split_whitespace);
        let figures = figures.and_then(|words| words.map(str::parse).collect::<Result<_, _>>().ok());
        figures.ok_or_else(|| format!("it said `{line}` to {test}"))
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
