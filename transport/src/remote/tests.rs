//! Actors of other nodes, over real QUIC connections in an in-memory network on paused time.

pub(super) mod actor;
mod journal;
mod kit;
mod network;

mod answers;
mod cancels;
mod delivery;
mod failures;
mod pressure;
mod promises;
mod seeds;
mod watching;
