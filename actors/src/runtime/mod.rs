//! Model-server processes as supervised actors.

pub mod spec;

pub mod launch;
pub mod launcher;
pub mod log;
