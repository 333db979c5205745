//! What a runtime's program prints: a ring of the newest lines and a rotating file.

/// The log of one runtime. Written by the capture thread, read by anyone.
#[derive(Debug)]
pub struct EngineLog {}
