//! Tests that lack something say so: none is skipped silently.

use std::io::Write;

/// The value of an environment variable that `./dev` sets; `None` is told on standard error and in
/// `$ARW_SKIP_LOG`.
#[must_use]
pub fn need(test: &str, variable: &str) -> Option<String> {
    if let Ok(value) = std::env::var(variable) {
        return Some(value);
    }
    tell(test, &format!("{variable} is not set; run it with `./dev test`"));
    None
}

/// Tells that a test is skipped because this machine does not let it do something, which `./dev` cannot
/// change: CI takes that for what it is.
pub fn forbidden(test: &str, why: &str) {
    tell(test, &format!("this machine does not allow it: {why}"));
}

#[expect(clippy::print_stderr, reason = "a skipped test must be seen")]
fn tell(test: &str, why: &str) {
    let line = format!("skipped: {test}: {why}");
    eprintln!("{line}");
    if let Ok(log) = std::env::var("ARW_SKIP_LOG")
        && let Ok(mut log) = std::fs::OpenOptions::new().append(true).create(true).open(log)
    {
        // The list is for people; a test does not fail over it.
        let _ = writeln!(log, "{line}");
    }
}
