//! Runtimes as a whole, on paused time: directory, actors and machines against engines by script.

mod fallen;
mod interleavings;
mod kit;
mod memory;
mod removal;
mod rows;
mod sockets;
