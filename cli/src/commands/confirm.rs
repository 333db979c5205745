//! Asking before something is done that cannot be undone.
//!
//! Owns when to ask and what counts as yes. Refuses to know what is at stake: whoever asks says so.

use std::io::{self, BufRead, IsTerminal, Read, Write};

use crate::context::Context;
use crate::failure::{Exit, Failure};
use crate::output::human::printable;

/// Asks on a terminal; a script, which nobody would answer, goes on as with `--yes`.
///
/// # Errors
/// The answer is no, and nothing is to be done.
pub(crate) fn confirm(context: &Context, yes: bool, question: &str) -> Result<(), Failure> {
    if !is_to_ask(yes, io::stdin().is_terminal(), context.screen.style.terminal_err) {
        return Ok(());
    }
    let mut err = io::stderr().lock();
    let asked = write!(err, "{} [y/N] ", printable(question)).and_then(|()| err.flush());
    // Who cannot read the question has not said yes to it.
    let answer = asked.map_or_else(|_| String::new(), |()| answer(&mut io::stdin().lock()));
    if is_yes(&answer) { Ok(()) } else { Err(declined()) }
}

/// Longer answers are no.
const ANSWER_BYTES_MAX: u64 = 64;

fn answer(from: &mut impl BufRead) -> String {
    let mut line = String::new();
    // What cannot be read is no.
    let _ = from.take(ANSWER_BYTES_MAX).read_line(&mut line);
    line
}

fn is_to_ask(yes: bool, stdin_is_terminal: bool, stderr_is_terminal: bool) -> bool {
    !yes && stdin_is_terminal && stderr_is_terminal
}

fn is_yes(answer: &str) -> bool {
    matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes")
}

fn declined() -> Failure {
    Failure::new(Exit::Failed, "nothing was done", "the answer was not yes", "answer y, or give --yes")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_somebody_at_a_terminal_is_asked_and_only_once() {
        assert!(is_to_ask(false, true, true));
        for (yes, stdin, stderr) in [(true, true, true), (false, false, true), (false, true, false)] {
            assert!(!is_to_ask(yes, stdin, stderr));
        }
    }

    #[test]
    fn nothing_but_yes_is_yes() {
        for text in ["y\n", "Y", " yes \n", "YES\r\n"] {
            assert!(is_yes(&answer(&mut text.as_bytes())), "{text:?}");
        }
        for text in ["", "\n", "n\n", "yess\n", "y y\n", "\u{7}y", "no\ny\n"] {
            assert!(!is_yes(&answer(&mut text.as_bytes())), "{text:?}");
        }
        assert!(!is_yes(&answer(&mut &b"\xffy\n"[..])));
        assert!(!is_yes(&answer(&mut format!("{}y\n", " ".repeat(100)).as_bytes())));
    }
}
