//! Parts for tests, of this crate and of others.

#[cfg(feature = "testkit")]
pub mod stream_network;

pub mod fake_launcher;
pub mod fixed_runtimes;
pub mod sources;
