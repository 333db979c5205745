//! Model-server processes as supervised actors.

pub mod diagnosis;
pub mod launch;
pub mod launcher;
pub mod log;
