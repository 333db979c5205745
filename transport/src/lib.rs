//! QUIC between nodes.
//!
//! Empty until nodes form a cluster: it will own identity, join, handshake, frames, lanes, membership and blobs, and implement
//! the port `Transport` of `arw-actors`. Nothing outside this crate will name QUIC.

pub mod membership;
