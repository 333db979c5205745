//! The gateway as its clients meet it: real store, journal, tokens and models, runtimes whose answers a test
//! decides, and an engine on a Unix socket.
#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on fails")]

mod support;

mod access;
mod bodies;
mod calls;
mod cluster;
mod cluster_control;
mod control;
mod events;
mod limits;
mod losses;
mod metrics;
mod openai;
mod peers;
mod server;
mod state;
mod wrong_turns;
