//! Numbers, times and exits in words for people.
//!
//! Pure text in, text out. Programs get raw values instead (`formats.rs`).

use arw_kit::moment::WallTime;
use serde_json::Value;

/// A size with three digits at most: `98 MB`. Decimal units, as file managers show them.
pub(crate) fn bytes(count: u64) -> String {
    const UNITS: [(&str, u64); 4] =
        [("TB", 1_000_000_000_000), ("GB", 1_000_000_000), ("MB", 1_000_000), ("kB", 1_000)];
    for (name, unit) in UNITS {
        if count >= unit {
            return format!("{} {name}", three_digits(count, unit));
        }
    }
    format!("{count} B")
}

/// A span: `350 ms`, `3 s`, `2 min`, `5 h`, `12 d`.
pub(crate) fn span_ms(ms: u64) -> String {
    match ms {
        0..1_000 => format!("{ms} ms"),
        1_000..10_000 => format!("{} s", three_digits(ms / 100 * 100, 1_000)),
        10_000..120_000 => format!("{} s", ms / 1_000),
        120_000..7_200_000 => format!("{} min", ms / 60_000),
        7_200_000..172_800_000 => format!("{} h", ms / 3_600_000),
        _ => format!("{} d", ms / 86_400_000),
    }
}

/// How long ago, or how far ahead: `3 s ago`, `in 2 min`, `now`. Text that is no time stays as it is.
pub(crate) fn ago(at: &str, now: WallTime) -> String {
    let Ok(at) = at.parse::<WallTime>() else { return printable(at) };
    let past = millis(now.since(at));
    let ahead = millis(at.since(now));
    // Clocks of two machines and rounding differ by this much: nobody wants to read "in 40 ms" of a thing
    // that happened.
    const NOW_MS: u64 = 500;
    if past < NOW_MS && ahead < NOW_MS {
        return "now".to_owned();
    }
    if ahead > 0 { format!("in {}", whole_span(ahead)) } else { format!("{} ago", whole_span(past)) }
}

/// The time of day of an RFC 3339 time, with the zone that it is in: `15:35:19Z`.
pub(crate) fn time_of_day(at: &str) -> String {
    let Some((_, time)) = at.split_once('T') else { return at.to_owned() };
    let Some((seconds, rest)) = time.split_at_checked(8) else { return at.to_owned() };
    let zone = rest.find(['Z', '+', '-']).map_or("", |begin| &rest[begin..]);
    format!("{seconds}{zone}")
}

/// A count with thin groups: `12,345`.
pub(crate) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// How an actor or a program last ended: `killed by SIGKILL (by another process, not by ARW)`.
pub(crate) fn exit_in_words(last_exit: &Value) -> Option<String> {
    let reason = last_exit.get("reason")?.as_str()?;
    let detail = last_exit.get("detail").and_then(Value::as_str).filter(|detail| !detail.is_empty());
    let detail = detail.map(printable);
    let with = |words: &str| match &detail {
        Some(detail) if detail.starts_with(words) => detail.clone(),
        Some(detail) => format!("{words}: {detail}"),
        None => words.to_owned(),
    };
    Some(match reason {
        "normal" => with("ended by itself"),
        "stop" => with("stopped"),
        "crash" => with("crashed"),
        "killed" => with("killed"),
        // The detail says so itself.
        "start_failed" => detail.unwrap_or_else(|| "start failed".to_owned()),
        // The detail names the code or the signal.
        "process_exit" => detail.unwrap_or_else(|| "the program exited".to_owned()),
        "process_signal" => detail.unwrap_or_else(|| "the program was ended by a signal".to_owned()),
        "escalated" => with("gave up after too many restarts"),
        "dependency" => with("restarted together with another actor"),
        other => with(&printable(other)),
    })
}

/// Text from a model, a program or the network without what could drive a terminal: control characters become
/// `?`; tabs and line ends stay.
pub(crate) fn printable(text: &str) -> String {
    text.chars().map(|c| if is_harmless(c) { c } else { '?' }).collect()
}

/// [`printable`] on a single line, for a cell of a table.
pub(crate) fn one_line(text: &str) -> String {
    text.chars()
        .map(|c| match c {
            '\n' | '\r' | '\t' => ' ',
            c if is_harmless(c) => c,
            _ => '?',
        })
        .collect()
}

/// `s` unless there is one.
pub(crate) fn plural(count: u64) -> &'static str {
    if count == 1 { "" } else { "s" }
}

fn is_harmless(c: char) -> bool {
    // Bidirectional overrides can make a line read as something else than it is.
    let reorders = matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    matches!(c, '\n' | '\t') || !(c.is_control() || reorders)
}

fn three_digits(number: u64, unit: u64) -> String {
    let tenths = number.saturating_mul(10) / unit;
    if tenths >= 100 || tenths.is_multiple_of(10) {
        return (tenths / 10).to_string();
    }
    format!("{}.{}", tenths / 10, tenths % 10)
}

fn whole_span(ms: u64) -> String {
    if (1_000..10_000).contains(&ms) { format!("{} s", ms / 1_000) } else { span_ms(ms) }
}

fn millis(span: std::time::Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn sizes_and_spans_have_few_digits() {
        let sizes = [0, 999, 1_000, 1_500, 98_123_456, 9_900_000_000, u64::MAX].map(bytes);
        assert_eq!(sizes, ["0 B", "999 B", "1 kB", "1.5 kB", "98 MB", "9.9 GB", "1844674 TB"]);
        let spans = [0, 350, 1_000, 3_240, 59_999, 119_000, 3_600_000, 90_000_000, 400_000_000].map(span_ms);
        assert_eq!(spans, ["0 ms", "350 ms", "1 s", "3.2 s", "59 s", "119 s", "60 min", "25 h", "4 d"]);
        assert_eq!([0, 999, 1_000, 1_234_567].map(count), ["0", "999", "1,000", "1,234,567"]);
    }

    #[test]
    fn times_are_told_from_now() {
        let now: WallTime = "2026-11-24T12:00:00Z".parse().unwrap();
        assert_eq!(ago("2026-11-24T11:59:57Z", now), "3 s ago");
        assert_eq!(ago("2026-11-24T12:04:00Z", now), "in 4 min");
        assert_eq!(ago("2026-11-24T12:00:00.1Z", now), "now");
        assert_eq!(ago("soon", now), "soon");
        assert_eq!(time_of_day("2026-11-24T11:59:57.120Z"), "11:59:57Z");
        assert_eq!(time_of_day("2026-11-24T11:59:57+01:00"), "11:59:57+01:00");
        assert_eq!(time_of_day("2026-11-24T11:59"), "2026-11-24T11:59");
        assert_eq!(time_of_day("nonsense"), "nonsense");
    }

    #[test]
    fn exits_are_told_in_words_once() {
        let words = |reason: &str, detail: Value| {
            exit_in_words(&json!({"reason": reason, "detail": detail, "at": "2026-11-24T11:59:57Z"})).unwrap()
        };
        assert_eq!(words("process_signal", json!("killed by SIGKILL")), "killed by SIGKILL");
        assert_eq!(words("crash", json!("boom while handling Add")), "crashed: boom while handling Add");
        assert_eq!(words("killed", json!("killed by its supervisor")), "killed by its supervisor");
        assert_eq!(words("start_failed", json!("start failed: no such file")), "start failed: no such file");
        assert_eq!(words("normal", Value::Null), "ended by itself");
        assert_eq!(exit_in_words(&Value::Null), None);
    }

    #[test]
    fn text_from_elsewhere_cannot_drive_the_terminal() {
        assert_eq!(printable("a\u{1b}[2Jb\n\u{202e}c"), "a?[2Jb\n?c");
        assert_eq!(one_line("a\nb\tc\u{7}"), "a b c?");
    }
}
