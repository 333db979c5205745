//! Parts for tests of other crates.

pub mod fixed_runtimes;
pub mod stream_network;
