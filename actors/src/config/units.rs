//! Durations and sizes as people write them.
//!
//! Owns the two small grammars (`250ms`, `1m30s`; `8MiB`, `512MB`) and their way back to text. Refuses to
//! know which setting is being read.

use std::time::Duration;

/// The text is not a duration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not a duration: write a number and a unit (ms, s, m, h, d), for example 250ms, 30s, 5m or 1m30s"
)]
pub struct BadDuration(pub String);

/// The text is not a size.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not a size: write a number of bytes, or a number and a unit (KB, MB, GB, KiB, MiB, GiB), for example 8MiB"
)]
pub struct BadSize(pub String);

/// Longest first where one unit is the beginning of another (`m` and `ms`).
const DURATION_UNITS: [(&str, u64); 5] =
    [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];

const SIZE_UNITS: [(&str, u64); 9] = [
    ("B", 1),
    ("KB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
];

/// Reads a duration: one or more numbers with a unit, the larger units first.
///
/// ```
/// use arw_actors::config::parse_duration;
/// use std::time::Duration;
/// assert_eq!(parse_duration("250ms").unwrap(), Duration::from_millis(250));
/// assert_eq!(parse_duration("1m30s").unwrap(), Duration::from_secs(90));
/// assert!(parse_duration("30").is_err());
/// ```
///
/// # Errors
/// [`BadDuration`] with the text as given.
pub fn parse_duration(text: &str) -> Result<Duration, BadDuration> {
    let bad = || BadDuration(shortened(text));
    let mut rest = text.trim();
    if rest.is_empty() {
        return Err(bad());
    }
    let mut total_ms = 0_u64;
    let mut smallest_so_far = u64::MAX;
    while !rest.is_empty() {
        let (number, after_number) = split_number(rest).ok_or_else(bad)?;
        let unit_end = after_number.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(after_number.len());
        let (unit, after_unit) = after_number.split_at(unit_end);
        let ms = DURATION_UNITS.iter().find(|(name, _)| *name == unit).map(|(_, ms)| *ms).ok_or_else(bad)?;
        if ms >= smallest_so_far {
            return Err(bad());
        }
        smallest_so_far = ms;
        total_ms = number.checked_mul(ms).and_then(|part| total_ms.checked_add(part)).ok_or_else(bad)?;
        rest = after_unit;
    }
    Ok(Duration::from_millis(total_ms))
}

/// Writes a duration with the largest unit that divides it, to the millisecond.
///
/// ```
/// use arw_actors::config::format_duration;
/// use std::time::Duration;
/// assert_eq!(format_duration(Duration::from_secs(120)), "2m");
/// assert_eq!(format_duration(Duration::from_millis(1500)), "1500ms");
/// ```
#[must_use]
pub fn format_duration(span: Duration) -> String {
    let ms = u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
    if ms == 0 {
        return "0s".to_owned();
    }
    let largest = DURATION_UNITS.iter().rev().find(|(_, unit_ms)| ms.is_multiple_of(*unit_ms));
    largest.map_or_else(|| format!("{ms}ms"), |(name, unit_ms)| format!("{}{name}", ms / unit_ms))
}

/// Reads a size in bytes: a plain number, or a number with a decimal (`MB`) or binary (`MiB`) unit.
///
/// ```
/// use arw_actors::config::parse_size;
/// assert_eq!(parse_size("8MiB").unwrap(), 8 * 1024 * 1024);
/// assert_eq!(parse_size("4096").unwrap(), 4096);
/// ```
///
/// # Errors
/// [`BadSize`] with the text as given.
pub fn parse_size(text: &str) -> Result<u64, BadSize> {
    let bad = || BadSize(shortened(text));
    let (number, unit) = split_number(text.trim()).ok_or_else(bad)?;
    let unit = unit.trim();
    if unit.is_empty() {
        return Ok(number);
    }
    let bytes = SIZE_UNITS
        .iter()
        .find(|(name, _)| name.eq_ignore_ascii_case(unit))
        .map(|(_, bytes)| *bytes)
        .ok_or_else(bad)?;
    number.checked_mul(bytes).ok_or_else(bad)
}

/// Writes a size with the largest binary unit that divides it.
#[must_use]
pub fn format_size(bytes: u64) -> String {
    for (name, unit) in [("TiB", 1_u64 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)] {
        if bytes > 0 && bytes.is_multiple_of(unit) {
            return format!("{}{name}", bytes / unit);
        }
    }
    bytes.to_string()
}

fn split_number(text: &str) -> Option<(u64, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, rest) = text.split_at(end);
    digits.parse().ok().map(|number| (number, rest))
}

fn shortened(text: &str) -> String {
    text.chars().take(60).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn durations_without_a_unit_or_with_a_repeated_one_are_refused() {
        for text in [
            "",
            "30",
            "s",
            "1s1s",
            "5m1h",
            "-1s",
            "1.5s",
            "1 s",
            "99999999999999999999s",
            "9999999999999999999d",
        ] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn sizes_that_overflow_or_have_no_known_unit_are_refused() {
        for text in ["", "MiB", "1XB", "-1", "99999999999TiB", "1.5MB"] {
            assert!(parse_size(text).is_err(), "{text}");
        }
        assert_eq!(parse_size("1 kib").unwrap(), 1024);
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back_the_same(ms in 0_u64..100_000_000_000, bytes in any::<u64>()) {
            let span = Duration::from_millis(ms);
            prop_assert_eq!(parse_duration(&format_duration(span)).unwrap(), span);
            prop_assert_eq!(parse_size(&format_size(bytes)).unwrap(), bytes);
        }

        #[test]
        fn no_text_panics(text in ".{0,40}") {
            let _ = parse_duration(&text);
            let _ = parse_size(&text);
        }
    }
}
