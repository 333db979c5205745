//! Phrases that the sentences of several domains share.

use std::fmt::Write as _;
use std::time::Duration;

use arw_kit::moment::WallTime;

pub(super) fn cause(reason: &str, detail: &str) -> String {
    let reason = reason.replace('_', " ");
    if detail.is_empty() { reason } else { format!("{reason} ({})", bare(detail)) }
}

/// The text without a full stop, so that it fits into a sentence.
pub(super) fn bare(text: &str) -> &str {
    text.trim().trim_end_matches('.')
}

pub(super) fn budget(used: u32, max: u32, window_s: u64) -> String {
    format!("{used} of {max} restarts within {} are used", span(window_s.saturating_mul(1000)))
}

pub(super) fn next_try(at: Option<&WallTime>) -> String {
    at.map_or_else(
        || "Start it by hand once the cause is repaired".to_owned(),
        |at| format!("The next try is at {at}"),
    )
}

pub(super) fn with_hint(mut text: String, hint: Option<&str>) -> String {
    if let Some(hint) = hint.map(bare).filter(|hint| !hint.is_empty()) {
        let _ = write!(text, " What to do: {hint}.");
    }
    text
}

pub(super) fn plural(count: u64, word: &str) -> String {
    if count == 1 { word.to_owned() } else { format!("{word}s") }
}

pub(super) fn are(word: &str, count: u64) -> String {
    format!("{} {}", plural(count, word), if count == 1 { "is" } else { "are" })
}

pub(super) fn span(millis: u64) -> String {
    let seconds = Duration::from_millis(millis).as_secs();
    match seconds {
        0 => format!("{millis} ms"),
        1..=119 => format!("{seconds} s"),
        120..=7199 => format!("{} min", seconds / 60),
        _ => format!("{} h", seconds / 3600),
    }
}

pub(super) fn size(bytes: u64) -> String {
    const MEGABYTE: u64 = 1_000_000;
    if bytes < MEGABYTE { format!("{bytes} bytes") } else { format!("{} MB", bytes / MEGABYTE) }
}
