//! What the end-to-end tests share: skipping out loud, a running `arw`, a small HTTP client.

pub mod http;
pub mod node;
pub mod skip;
