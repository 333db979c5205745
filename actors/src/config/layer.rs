//! Where a setting came from, before it means anything.
//!
//! Owns [`Layer`], [`Entry`], [`Value`] and [`Origin`]: settings as read from a file, the environment or the
//! command line. Refuses to know which keys exist and what they mean (`reader.rs`, `config.rs`), and how
//! files are read (the `arw` program).

use std::fmt;
use std::path::PathBuf;

/// Settings that came from one place. Later layers win over earlier ones, key by key.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Layer {
    /// In the order in which they were written.
    pub entries: Vec<Entry>,
}

/// One setting as it was written.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// Dotted: `gateway.http`, `runtimes[0].restart.max`.
    pub key: String,
    /// As it was written.
    pub value: Value,
    /// Where it was written.
    pub origin: Origin,
}

/// A value as it was written.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// `true` or `false`.
    Boolean(bool),
    /// A whole number.
    Integer(i64),
    /// A number with a point: no setting takes one, but the error must be able to say so.
    Float(f64),
    /// A date or time: no setting takes one either.
    Datetime(String),
    /// A quoted string.
    Text(String),
    /// A list of plain values.
    List(Vec<Value>),
    /// A section without keys, or a table inside a list of plain values.
    Table,
    /// From the environment or a flag, where everything is text: read as whatever the key takes. Lists are
    /// separated by commas.
    Untyped(String),
}

impl Value {
    /// What kind of value this is, with its article, for error messages.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Boolean(_) => "a boolean",
            Self::Integer(_) => "a whole number",
            Self::Float(_) => "a number with a point",
            Self::Datetime(_) => "a date or time",
            Self::Text(_) | Self::Untyped(_) => "text",
            Self::List(_) => "a list",
            Self::Table => "a section",
        }
    }
}

/// Shown as TOML would write it.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Boolean(value) => value.fmt(f),
            Self::Integer(value) => value.fmt(f),
            Self::Float(value) => value.fmt(f),
            Self::Datetime(text) => f.write_str(text),
            Self::Text(text) | Self::Untyped(text) => write!(f, "{text:?}"),
            Self::List(values) => {
                f.write_str("[")?;
                for (index, value) in values.iter().enumerate() {
                    write!(f, "{}{value}", if index == 0 { "" } else { ", " })?;
                }
                f.write_str("]")
            }
            Self::Table => f.write_str("{}"),
        }
    }
}

/// Where a setting was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Nowhere: the built-in default.
    Default,
    /// In a file; line and column count from 1.
    File {
        /// The file.
        path: PathBuf,
        /// The line of the key.
        line: usize,
        /// The column of the key, in characters.
        column: usize,
    },
    /// In this environment variable.
    Environment(String),
    /// In this flag, for example `--http`.
    Flag(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { path, line, column } => write!(f, "{}:{line}:{column}", path.display()),
            Self::Environment(name) => write!(f, "environment {name}"),
            Self::Flag(name) => write!(f, "flag {name}"),
        }
    }
}
