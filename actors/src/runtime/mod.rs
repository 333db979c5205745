//! Model-server processes as supervised actors.
//!
//! Owns everything between "this runtime shall run" and bytes from its engine: what it is ([`spec`]), what
//! happens next ([`machine`]), how its program is started and ended ([`launcher`], [`launch`]), what it
//! printed ([`log`]) and why it died ([`diagnosis`]), who serves which model ([`directory`]) and the right to
//! send a request ([`lease`]). Refuses to know HTTP routes.

pub mod settings;
pub mod spec;

pub mod directory;

pub mod machine;

pub(crate) mod actor;

pub mod row;

pub mod engine_client;
pub mod lease;

pub mod diagnosis;
pub mod launcher;
pub mod log;

pub mod launch;

pub use actor::wall_of;

#[cfg(test)]
mod tests;
