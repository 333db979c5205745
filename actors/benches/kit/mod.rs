//! What the benchmarks of this repository share: options, figures, targets, the machine.
//!
//! Owns how figures are taken (interleaved rounds, medians) and shown. Refuses to know what is measured.

pub(crate) mod figures;
pub(crate) mod machine;
pub(crate) mod options;

mod report;

pub(crate) use figures::{Better, Figures, percentile};
pub(crate) use options::Options;
pub(crate) use report::{Limit, Target, report};

/// Monotonic now.
#[expect(
    clippy::disallowed_methods,
    reason = "a benchmark measures real time, not the node's pausable clock"
)]
pub(crate) fn now() -> std::time::Instant {
    std::time::Instant::now()
}

/// Progress goes to the standard error, so that the standard output is the table alone.
#[expect(clippy::print_stderr, reason = "whoever waits for minutes wants to see why")]
pub(crate) fn progress(text: &str) {
    eprintln!("{text}");
}
