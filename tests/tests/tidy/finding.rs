//! What a check found, and how it is told.

use std::fmt;

/// One thing that breaks a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Finding {
    path: String,
    line: usize,
    what: String,
    to_do: String,
}

impl Finding {
    /// At `path`, line `line` (from 1), is `what`; `to_do` is the way out.
    pub(crate) fn new(path: &str, line: usize, what: &str, to_do: &str) -> Self {
        Self { path: path.to_owned(), line, what: what.to_owned(), to_do: to_do.to_owned() }
    }

    /// `path:line`, for tests of the checks.
    pub(crate) fn place(&self) -> String {
        format!("{}:{}", self.path, self.line)
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}: {}", self.path, self.line, self.what, self.to_do)
    }
}

/// Fails the test with one line per finding.
pub(crate) fn none(found: &[Finding]) {
    let lines: String = found.iter().map(|finding| format!("\n{finding}")).collect();
    assert!(found.is_empty(), "{} to mend:{lines}\n", found.len());
}
