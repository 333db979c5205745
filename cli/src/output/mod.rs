//! How commands show things: tables for people, JSON, YAML, CSV and NDJSON for programs.
//!
//! Data goes to standard output, everything else to standard error.

pub(crate) mod human;
pub(crate) mod style;
pub(crate) mod table;

pub(crate) mod formats;
pub(crate) mod log;
pub(crate) mod progress;
pub(crate) mod screen;
