//! QUIC between nodes.
//!
//! Owns who a node is ([`identity`]), who may be a member ([`certificate`]), how one becomes a member
//! ([`token`], [`join`]), how two members meet ([`handshake`]), who is alive ([`membership`]), and the bytes
//! that they exchange ([`frame`], [`wire`], [`codec`]). All of that is plain code without sockets, clocks and
//! randomness; `spec/wire.md` and `spec/membership.md` have the rules. The [`endpoint`] drives it all over
//! real sockets, and the [`link`] makes of it what the kernel asks for. On a connection there are the
//! [`lanes`] that carry messages, and the actors of other nodes ([`remote`]); large bodies go as [`blob`]s.
//! Nothing outside this crate names QUIC.

pub mod identity;

pub mod certificate;
pub mod token;

pub mod handshake;
pub mod join;

pub mod membership;

pub mod codec;
pub mod frame;
pub mod wire;

pub mod lanes;
pub mod remote;

pub mod endpoint;

pub mod blob;

pub mod link;
