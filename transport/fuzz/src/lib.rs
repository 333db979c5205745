//! What is done with made-up bytes: one function per reader. libFuzzer calls them, and
//! `transport/tests/corpus.rs` does with the corpus.
//!
//! Owns what must hold of any bytes whatsoever. Refuses to know where they come from.

pub mod codec;
pub mod datagram;
pub mod frame;
pub mod handshake;
