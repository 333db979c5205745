//! Whole nodes without a network: their cores, in a world that a test makes up.

pub(in crate::endpoint) mod scripted;

mod interleavings;
mod world;
