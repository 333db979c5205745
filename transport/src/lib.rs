//! QUIC between nodes.
//!
//! Empty until nodes form a cluster: it will own identity, join, handshake, frames, lanes, membership and blobs, and implement
//! the port `Transport` of `arw-actors`. Nothing outside this crate will name QUIC.

pub mod identity;

pub mod certificate;
pub mod token;

pub mod handshake;
pub mod join;

pub mod codec;
pub mod frame;
pub mod wire;
