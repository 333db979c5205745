//! Names of things, as types.
//!
//! Owns the newtypes for ids and the one rule for names that people choose. Refuses to know what the ids stand for.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize};

/// A name that a person chose for a runtime: 1 to 64 of `a-z A-Z 0-9 . _ -`, starting with a letter or digit.
///
/// It becomes part of paths (scratch folder, log file, actor path), so nothing else is let in.
///
/// ```
/// use arw_actors::ids::RuntimeId;
/// assert!("smollm2".parse::<RuntimeId>().is_ok());
/// assert!("../etc".parse::<RuntimeId>().is_err());
/// ```
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct RuntimeId(Arc<str>);

impl RuntimeId {
    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RuntimeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for RuntimeId {
    type Err = BadName;
    fn from_str(text: &str) -> Result<Self, BadName> {
        check_name(text)?;
        Ok(Self(text.into()))
    }
}

impl<'de> Deserialize<'de> for RuntimeId {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        String::deserialize(input)?.parse().map_err(serde::de::Error::custom)
    }
}

/// A name breaks the rule of [`check_name`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a valid name: use 1 to 64 of a-z A-Z 0-9 . _ -, starting with a letter or digit")]
pub struct BadName(pub String);

/// Checks a name that a person chose: 1 to 64 of `a-z A-Z 0-9 . _ -`, starting with a letter or digit.
///
/// # Errors
/// [`BadName`] with the name as given.
pub fn check_name(text: &str) -> Result<(), BadName> {
    let ok = (1..=64).contains(&text.len())
        && text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'));
    if ok { Ok(()) } else { Err(BadName(text.chars().take(80).collect())) }
}
