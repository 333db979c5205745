//! Names that no setting has, and the name that was probably meant.

use std::collections::BTreeSet;

use super::error::ConfigError;
use super::layer::{Entry, Value};
use super::reader::Reader;

impl Reader<'_> {
    /// An error for each key that nobody asked for; one for a whole unknown section.
    pub(super) fn unknown(&self) -> Vec<ConfigError> {
        let mut sections_told = BTreeSet::new();
        let mut errors = Vec::new();
        for entry in self.effective.values() {
            if self.known.contains(&entry.key) || self.open.iter().any(|open| is_below(&entry.key, open)) {
                continue;
            }
            // A section written as a plain value, `gateway = 3`, is known but unfit; an empty known section
            // is nothing.
            if self
                .known
                .iter()
                .chain(&self.open)
                .any(|known| is_below(known, &entry.key) || *known == entry.key)
            {
                if !matches!(entry.value, Value::Table) {
                    errors.push(ConfigError::Unfit {
                        key: entry.key.clone(),
                        origin: entry.origin.clone(),
                        expected: "keys of its own (it is a section)".to_owned(),
                        found: entry.value.to_string(),
                    });
                }
                continue;
            }
            if self.lists.contains(&entry.key.as_str()) {
                if entry.value != Value::List(Vec::new()) {
                    errors.push(ConfigError::Unfit {
                        key: entry.key.clone(),
                        origin: entry.origin.clone(),
                        expected: format!("sections of its own, each beginning with [[{}]]", entry.key),
                        found: entry.value.to_string(),
                    });
                }
                continue;
            }
            let (section, is_section) = self.first_unknown_part(entry);
            if is_section && !sections_told.insert(section.clone()) {
                continue;
            }
            let what = if is_section { "section" } else { "key" };
            let origin = entry.origin.clone();
            errors.push(ConfigError::Unknown {
                what,
                nearest: self.nearest_to(&section, is_section),
                key: section,
                origin,
            });
        }
        errors
    }

    /// The shortest beginning of the key that leads to nothing known, and whether it is a section.
    fn first_unknown_part(&self, entry: &Entry) -> (String, bool) {
        for (dot, _) in entry.key.match_indices('.') {
            let beginning = &entry.key[..dot];
            if !self
                .known
                .iter()
                .chain(&self.open)
                .any(|known| is_below(known, beginning) || known == beginning)
            {
                return (beginning.to_owned(), true);
            }
        }
        (entry.key.clone(), matches!(entry.value, Value::Table))
    }

    fn nearest_to(&self, name: &str, is_section: bool) -> Option<String> {
        if !is_section {
            return nearest(name, self.known.iter().map(String::as_str));
        }
        // `[runtimes.smollm2]` and `[[runtime]]` both mean an entry of the list.
        let plain = name.split('[').next().unwrap_or(name);
        let first = plain.split('.').next().unwrap_or(plain);
        if let Some(list) = self.lists.iter().find(|list| first == **list) {
            return Some(format!("[[{list}]]"));
        }
        let parents: BTreeSet<&str> =
            self.known.iter().flat_map(|key| key.match_indices('.').map(|(dot, _)| &key[..dot])).collect();
        let near = nearest(
            plain,
            parents.into_iter().chain(self.lists.iter().copied()).filter(|known| *known != plain),
        );
        near.map(|near| if self.lists.contains(&near.as_str()) { format!("[[{near}]]") } else { near })
    }
}

/// The known name nearest to `name`, if one is near enough that a slip of the hand explains the difference.
///
/// ```
/// use arw_actors::config::nearest;
/// assert_eq!(nearest("gatewy.http", ["gateway.http", "log.level"]), Some("gateway.http".to_owned()));
/// assert_eq!(nearest("colour", ["gateway.http", "log.level"]), None);
/// ```
#[must_use]
pub fn nearest<'n>(name: &str, known: impl IntoIterator<Item = &'n str>) -> Option<String> {
    // A slip of the hand is in a word, and comparing takes time for each pair of letters.
    if name.len() > NAME_BYTES_MAX {
        return None;
    }
    // A third of the name may differ, as long as what stays is recognisable.
    let limit = (name.chars().count() / 3).clamp(1, 6);
    let last = last_part(name);
    let scored = known.into_iter().filter_map(|candidate| {
        let whole = strsim::osa_distance(name, candidate);
        // The right last part in the wrong section is the second most frequent slip.
        let moved = if last_part(candidate) == last { 1 } else { usize::MAX };
        let score = whole.min(moved);
        (score <= limit).then_some((score, whole, candidate))
    });
    scored.min().map(|(_, _, candidate)| candidate.to_owned())
}

/// Longer than any name that is known.
const NAME_BYTES_MAX: usize = 256;

fn last_part(key: &str) -> &str {
    key.rsplit('.').next().unwrap_or(key)
}

pub(super) fn is_below(key: &str, section: &str) -> bool {
    key.strip_prefix(section).is_some_and(|rest| rest.starts_with('.') || rest.starts_with('['))
}
