//! What ids have in common.
//!
//! Owns the one rule for names that people choose, and [`hex_id!`](crate::hex_id), which makes ids of so many
//! bytes. Refuses to know what any id stands for.

mod hex_id;

/// What `hex_id!` names: who uses the macro need not depend on it.
#[doc(hidden)]
pub mod for_macros {
    pub use {base16ct, serde};
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
