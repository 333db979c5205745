//! Reads settings by key, remembering which keys exist, where each value came from and what was wrong.
//!
//! Owns the effective value of each key and the conversion to plain types. Refuses to know what the keys are
//! for (`config.rs`): whatever is asked for is known, whatever is left over is an error.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

use super::error::{ConfigError, ConfigErrors};
use super::layer::{Entry, Layer, Origin, Value};
use super::units::{format_duration, format_size, parse_duration, parse_size};
use super::unknown::is_below;

/// One setting in force, for `arw config explain`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explained {
    /// Dotted: `gateway.http`.
    pub key: String,
    /// As TOML would write it; empty when nothing is set and nothing is the default.
    pub value: String,
    /// Where it came from.
    pub origin: Origin,
}

#[derive(Debug)]
pub(super) struct Reader<'a> {
    pub(super) effective: BTreeMap<&'a str, &'a Entry>,
    pub(super) known: Vec<String>,
    /// Prefixes below which every key is allowed (`runtimes[0].env`).
    pub(super) open: Vec<String>,
    /// Lists of sections (`runtimes`), known even while they have no entry.
    pub(super) lists: Vec<&'static str>,
    explained: Vec<Explained>,
    errors: Vec<ConfigError>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(layers: &'a [Layer]) -> Self {
        let mut effective = BTreeMap::new();
        for entry in layers.iter().flat_map(|layer| &layer.entries) {
            effective.insert(entry.key.as_str(), entry);
        }
        Self {
            effective,
            known: Vec::new(),
            open: Vec::new(),
            lists: Vec::new(),
            explained: Vec::new(),
            errors: Vec::new(),
        }
    }

    pub(super) fn text(&mut self, key: &str) -> Option<String> {
        self.read(key, "text in quotes", String::new(), |value| text(value).map(str::to_owned))
    }

    pub(super) fn text_or(&mut self, key: &str, default: &str) -> String {
        let read = self.read(key, "text in quotes", format!("{default:?}"), |value| {
            text(value).filter(|text| !text.is_empty()).map(str::to_owned)
        });
        read.unwrap_or_else(|| default.to_owned())
    }

    pub(super) fn boolean(&mut self, key: &str, default: bool) -> bool {
        let read = self.read(key, "true or false", default.to_string(), |value| match value {
            Value::Boolean(value) => Some(*value),
            Value::Untyped(text) => match text.as_str() {
                "true" | "1" | "yes" | "on" => Some(true),
                "false" | "0" | "no" | "off" => Some(false),
                _ => None,
            },
            _ => None,
        });
        read.unwrap_or(default)
    }

    pub(super) fn integer(&mut self, key: &str, default: u64, allowed: RangeInclusive<u64>) -> u64 {
        let expected = format!("a whole number from {} to {}", allowed.start(), allowed.end());
        let read = self
            .read(key, &expected, default.to_string(), |value| whole(value).filter(|n| allowed.contains(n)));
        read.unwrap_or(default)
    }

    /// A count of restarts.
    pub(super) fn small(&mut self, key: &str, default: u32) -> u32 {
        let read = self.read(key, COUNT_EXPECTED, default.to_string(), count);
        read.unwrap_or(default)
    }

    /// A count of restarts, with no default of its own.
    pub(super) fn optional_small(&mut self, key: &str) -> Option<u32> {
        self.read(key, COUNT_EXPECTED, String::new(), count)
    }

    pub(super) fn size(&mut self, key: &str, default: u64, allowed: RangeInclusive<u64>) -> u64 {
        let expected = format!(
            "a size from {} to {}, for example \"8MiB\"",
            format_size(*allowed.start()),
            format_size(*allowed.end())
        );
        let read = self.read(key, &expected, format!("{:?}", format_size(default)), |value| {
            let bytes = match value {
                Value::Text(text) | Value::Untyped(text) => parse_size(text).ok(),
                _ => whole(value),
            };
            bytes.filter(|bytes| allowed.contains(bytes))
        });
        read.unwrap_or(default)
    }

    pub(super) fn duration(
        &mut self,
        key: &str,
        default: Duration,
        allowed: RangeInclusive<Duration>,
    ) -> Duration {
        let expected = duration_expected(&allowed);
        let read = self.read(key, &expected, format!("{:?}", format_duration(default)), |value| {
            duration_in(value, &allowed)
        });
        read.unwrap_or(default)
    }

    /// Like [`Reader::duration`], but `"off"` stands for never.
    pub(super) fn duration_or_off(
        &mut self,
        key: &str,
        default: Option<Duration>,
        allowed: RangeInclusive<Duration>,
    ) -> Option<Duration> {
        let expected = duration_or_off_expected(&allowed);
        let shown = format!("{:?}", default.map_or_else(|| "off".to_owned(), format_duration));
        let read = self.read(key, &expected, shown, |value| duration_or_off_in(value, &allowed));
        read.unwrap_or(default)
    }

    /// Like [`Reader::duration_or_off`], with no default of its own: absent is neither.
    pub(super) fn optional_duration_or_off(
        &mut self,
        key: &str,
        allowed: RangeInclusive<Duration>,
    ) -> Option<Option<Duration>> {
        let expected = duration_or_off_expected(&allowed);
        self.read(key, &expected, String::new(), |value| duration_or_off_in(value, &allowed))
    }

    /// A duration with no default of its own.
    pub(super) fn optional_duration(
        &mut self,
        key: &str,
        allowed: RangeInclusive<Duration>,
    ) -> Option<Duration> {
        self.read(key, &duration_expected(&allowed), String::new(), |value| duration_in(value, &allowed))
    }

    pub(super) fn address(&mut self, key: &str, default: SocketAddr) -> SocketAddr {
        let read =
            self.read(key, ADDRESS_EXPECTED, format!("\"{default}\""), |value| text(value)?.parse().ok());
        read.unwrap_or(default)
    }

    /// An address, with no default of its own.
    pub(super) fn optional_address(&mut self, key: &str) -> Option<SocketAddr> {
        self.read(key, ADDRESS_EXPECTED, String::new(), |value| text(value)?.parse().ok())
    }

    pub(super) fn texts(&mut self, key: &str) -> Vec<String> {
        let read =
            self.read(
                key,
                "a list of texts, for example [\"a\", \"b\"]",
                "[]".to_owned(),
                |value| match value {
                    Value::List(values) => {
                        values.iter().map(|value| text(value).map(str::to_owned)).collect()
                    }
                    Value::Untyped(text) => Some(
                        text.split(',')
                            .map(str::trim)
                            .filter(|part| !part.is_empty())
                            .map(str::to_owned)
                            .collect(),
                    ),
                    _ => None,
                },
            );
        read.unwrap_or_default()
    }

    pub(super) fn choice<T: Copy + PartialEq>(&mut self, key: &str, default: T, choices: &[(&str, T)]) -> T {
        let shown = choices.iter().find(|(_, value)| *value == default).map_or("", |(name, _)| *name);
        let read =
            self.read(key, &choice_expected(choices), format!("{shown:?}"), |value| chosen(value, choices));
        read.unwrap_or(default)
    }

    /// One of some words, with no default.
    pub(super) fn optional_choice<T: Copy>(&mut self, key: &str, choices: &[(&str, T)]) -> Option<T> {
        self.read(key, &choice_expected(choices), String::new(), |value| chosen(value, choices))
    }

    /// Every key below `prefix`, whatever its name: an environment. The values are not explained, since they
    /// may be secrets.
    pub(super) fn map(&mut self, prefix: &str) -> BTreeMap<String, String> {
        self.open.push(prefix.to_owned());
        let dotted = format!("{prefix}.");
        let mut map = BTreeMap::new();
        let below: Vec<&'a Entry> =
            self.effective.values().filter(|entry| entry.key.starts_with(&dotted)).copied().collect();
        for entry in below {
            let shown = "(set, not shown)".to_owned();
            self.explained.push(Explained {
                key: entry.key.clone(),
                value: shown,
                origin: entry.origin.clone(),
            });
            match text(&entry.value) {
                Some(value) => {
                    map.insert(entry.key[dotted.len()..].to_owned(), value.to_owned());
                }
                None => self.unfit(entry, "text in quotes"),
            }
        }
        map
    }

    /// How many entries the list of sections `key` has: `[[runtimes]]` twice is 2.
    pub(super) fn count(&mut self, key: &'static str) -> usize {
        self.lists.push(key);
        let dotted = format!("{key}[");
        let indexes: BTreeSet<&str> = self
            .effective
            .keys()
            .filter_map(|name| name.strip_prefix(&dotted)?.split_once(']').map(|(index, _)| index))
            .collect();
        indexes.len()
    }

    /// Where `key` was written; for a section, where its first key was.
    pub(super) fn origin(&self, key: &str) -> Origin {
        if let Some(entry) = self.effective.get(key) {
            return entry.origin.clone();
        }
        let below = self.effective.values().filter(|entry| is_below(&entry.key, key));
        let first = below.min_by_key(|entry| match &entry.origin {
            Origin::File { line, column, .. } => (*line, *column),
            Origin::Default | Origin::Environment(_) | Origin::Flag(_) => (0, 0),
        });
        first.map_or(Origin::Default, |entry| entry.origin.clone())
    }

    /// Whether `key` was written at all.
    pub(super) fn has(&self, key: &str) -> bool {
        self.effective.contains_key(key)
    }

    /// `key` does not go together with something else.
    pub(super) fn conflict(&mut self, key: &str, why: String) {
        let origin = self.origin(key);
        self.errors.push(ConfigError::Conflict { key: key.to_owned(), origin, why });
    }

    pub(super) fn refuse(&mut self, error: ConfigError) {
        self.errors.push(error);
    }

    /// Every key that was asked for.
    pub(super) fn known(self) -> Vec<String> {
        self.known
    }

    /// What is in force, or everything that was wrong, unknown keys included.
    pub(super) fn finish(mut self) -> Result<Vec<Explained>, ConfigErrors> {
        let unknown = self.unknown();
        self.errors.extend(unknown);
        if self.errors.is_empty() { Ok(self.explained) } else { Err(ConfigErrors(self.errors)) }
    }

    fn read<T>(
        &mut self,
        key: &str,
        expected: &str,
        default: String,
        convert: impl FnOnce(&Value) -> Option<T>,
    ) -> Option<T> {
        self.known.push(key.to_owned());
        let Some(entry) = self.effective.get(key).copied() else {
            self.explained.push(Explained { key: key.to_owned(), value: default, origin: Origin::Default });
            return None;
        };
        let read = convert(&entry.value);
        if read.is_some() {
            let value = entry.value.to_string();
            self.explained.push(Explained { key: key.to_owned(), value, origin: entry.origin.clone() });
        } else {
            self.unfit(entry, expected);
        }
        read
    }

    fn unfit(&mut self, entry: &Entry, expected: &str) {
        let found = match &entry.value {
            Value::Table | Value::List(_) => entry.value.kind().to_owned(),
            Value::Boolean(_)
            | Value::Integer(_)
            | Value::Float(_)
            | Value::Datetime(_)
            | Value::Text(_)
            | Value::Untyped(_) => format!("{}", entry.value),
        };
        self.errors.push(ConfigError::Unfit {
            key: entry.key.clone(),
            origin: entry.origin.clone(),
            expected: expected.to_owned(),
            found,
        });
    }
}

fn text(value: &Value) -> Option<&str> {
    match value {
        Value::Text(text) | Value::Untyped(text) => Some(text),
        Value::Boolean(_)
        | Value::Integer(_)
        | Value::Float(_)
        | Value::Datetime(_)
        | Value::List(_)
        | Value::Table => None,
    }
}

fn whole(value: &Value) -> Option<u64> {
    match value {
        Value::Integer(number) => u64::try_from(*number).ok(),
        Value::Untyped(text) => text.parse().ok(),
        Value::Boolean(_)
        | Value::Float(_)
        | Value::Datetime(_)
        | Value::Text(_)
        | Value::List(_)
        | Value::Table => None,
    }
}

fn count(value: &Value) -> Option<u32> {
    whole(value).and_then(|count| u32::try_from(count).ok()).filter(|count| *count <= COUNT_MAX)
}

fn duration_in(value: &Value, allowed: &RangeInclusive<Duration>) -> Option<Duration> {
    parse_duration(text(value)?).ok().filter(|span| allowed.contains(span))
}

fn duration_or_off_in(value: &Value, allowed: &RangeInclusive<Duration>) -> Option<Option<Duration>> {
    if text(value)? == "off" { Some(None) } else { duration_in(value, allowed).map(Some) }
}

fn chosen<T: Copy>(value: &Value, choices: &[(&str, T)]) -> Option<T> {
    let text = text(value)?;
    choices.iter().find(|(name, _)| *name == text).map(|(_, value)| *value)
}

fn choice_expected<T>(choices: &[(&str, T)]) -> String {
    let names: Vec<String> = choices.iter().map(|(name, _)| format!("\"{name}\"")).collect();
    format!("one of {}", names.join(", "))
}

/// More restarts than this within a window is no budget at all.
const COUNT_MAX: u32 = 1_000;
const ADDRESS_EXPECTED: &str = "an IP address and a port, for example \"127.0.0.1:8091\"";
const COUNT_EXPECTED: &str = "a whole number from 0 to 1000";

fn duration_or_off_expected(allowed: &RangeInclusive<Duration>) -> String {
    format!("{}, or \"off\"", duration_expected(allowed))
}

fn duration_expected(allowed: &RangeInclusive<Duration>) -> String {
    format!(
        "a duration from {} to {}, for example \"30s\"",
        format_duration(*allowed.start()),
        format_duration(*allowed.end())
    )
}
