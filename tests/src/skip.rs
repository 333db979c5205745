//! Tests that lack something say so: none is skipped silently.

use std::io::Write;

/// The value of an environment variable that `./dev` sets; `None` is told on standard error and in `$ARW_SKIP_LOG`.
#[must_use]
#[expect(clippy::print_stderr, reason = "a skipped test must be seen")]
pub fn need(test: &str, variable: &str) -> Option<String> {
    if let Ok(value) = std::env::var(variable) {
        return Some(value);
    }
    let line = format!("skipped: {test}: {variable} is not set; run it with `./dev test`");
    eprintln!("{line}");
    if let Ok(log) = std::env::var("ARW_SKIP_LOG")
        && let Ok(mut log) = std::fs::OpenOptions::new().append(true).create(true).open(log)
    {
        // The list is for people; a test does not fail over it.
        let _ = writeln!(log, "{line}");
    }
    None
}
