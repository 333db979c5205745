//! What can be wrong with a setting.

use std::fmt;

use super::layer::Origin;

/// One thing wrong with the settings. Its text says where, what, and the way out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// No such key, or no such section.
    #[error("{origin}: unknown {what} `{key}`{}", suggestion(.nearest.as_deref()))]
    Unknown {
        /// `key` or `section`.
        what: &'static str,
        /// As it was written.
        key: String,
        /// Where.
        origin: Origin,
        /// The known name that is nearest to it, if one is near.
        nearest: Option<String>,
    },
    /// The value has the wrong type or is out of range.
    #[error("{origin}: `{key}` takes {expected}, not {found}")]
    Unfit {
        /// Which key.
        key: String,
        /// Where.
        origin: Origin,
        /// What it takes, with an example.
        expected: String,
        /// What was written.
        found: String,
    },
    /// A key that this entry needs is not there.
    #[error("{origin}: `{key}` is missing: {why}")]
    Missing {
        /// Which key.
        key: String,
        /// Of which entry.
        origin: Origin,
        /// Why it is needed.
        why: String,
    },
    /// Settings that do not go together.
    #[error("{origin}: `{key}`: {why}")]
    Conflict {
        /// Which key.
        key: String,
        /// Where.
        origin: Origin,
        /// Why not, and what to do.
        why: String,
    },
}

/// Everything wrong with the settings, at least one thing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigErrors(pub Vec<ConfigError>);

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.0.iter().enumerate() {
            write!(f, "{}{error}", if index == 0 { "" } else { "\n" })?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}

fn suggestion(nearest: Option<&str>) -> String {
    nearest.map_or_else(String::new, |name| format!("; did you mean `{name}`?"))
}
