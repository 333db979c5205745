//! What a command says when it cannot do what it was asked: what happened, why, and what to do; and with
//! which exit code.
//!
//! Owns [`Failure`] and [`Exit`]. Refuses to know where failures come from.

use std::io;

use serde_json::json;

use crate::output::human::printable;

/// Exit codes, the same for every command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// It did what it was asked.
    Done = 0,
    /// It could not.
    Failed = 1,
    /// The command line or the configuration is wrong.
    Usage = 2,
    /// No node answers.
    Unreachable = 3,
    /// The node refuses: no token, or the wrong one.
    Denied = 4,
    /// The node has no such thing.
    NotFound = 5,
}

impl From<Exit> for std::process::ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Why a command ends early.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Something to tell.
    Told(Box<Told>),
    /// Whoever read our output has gone (`arw … | head`): nothing to say and nothing wrong.
    OutputClosed,
}

/// The three things that every error says.
#[derive(Debug)]
pub(crate) struct Told {
    pub(crate) exit: Exit,
    /// What happened, for example `runtime smollm2 did not start`.
    pub(crate) what: String,
    /// Why.
    pub(crate) why: String,
    /// What to do about it.
    pub(crate) help: String,
}

impl Failure {
    pub(crate) fn new(
        exit: Exit,
        what: impl Into<String>,
        why: impl Into<String>,
        help: impl Into<String>,
    ) -> Self {
        Self::Told(Box::new(Told { exit, what: what.into(), why: why.into(), help: help.into() }))
    }

    pub(crate) fn exit(&self) -> Exit {
        match self {
            Self::Told(told) => told.exit,
            Self::OutputClosed => Exit::Done,
        }
    }

    /// A failure of writing to standard output.
    pub(crate) fn from_output(error: &io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            return Self::OutputClosed;
        }
        Self::new(
            Exit::Failed,
            "cannot write the output",
            error.to_string(),
            "check that the place where standard output goes has room and can be written",
        )
    }
}

impl Told {
    /// For people, on standard error.
    pub(crate) fn text(&self) -> String {
        let mut text = format!("error: {}\n", printable(&self.what));
        for (label, part) in [("why", &self.why), ("do", &self.help)] {
            if part.is_empty() {
                continue;
            }
            // Lines after the first are indented to the text of the first.
            let part = printable(part).replace('\n', "\n       ");
            text.push_str(&format!("  {:<5}{part}\n", format!("{label}:")));
        }
        text
    }

    /// For programs, on standard error.
    pub(crate) fn json(&self) -> String {
        let body =
            json!({"error": {"exit": self.exit as u8, "what": self.what, "why": self.why, "do": self.help}});
        format!("{body}\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_has_what_why_and_do_on_their_own_lines() {
        let Failure::Told(told) = Failure::new(Exit::Failed, "it broke", "first\nsecond", "mend it") else {
            panic!("not told");
        };
        assert_eq!(told.text(), "error: it broke\n  why: first\n       second\n  do:  mend it\n");
        assert_eq!(
            told.json(),
            "{\"error\":{\"do\":\"mend it\",\"exit\":1,\"what\":\"it broke\",\"why\":\"first\\nsecond\"}}\n"
        );
    }

    #[test]
    fn a_closed_output_is_no_error() {
        let failure = Failure::from_output(&io::Error::from(io::ErrorKind::BrokenPipe));
        assert_eq!(failure.exit(), Exit::Done);
        assert_eq!(Failure::from_output(&io::Error::other("disk full")).exit(), Exit::Failed);
    }
}
