//! A whole node as a stranger uses it: `arw up`, HTTP, the real engine, and `kill -9` at the worst moment.

#![cfg(target_os = "linux")]

#[cfg(test)]
#[path = "node/bad_input.rs"]
mod bad_input;
#[cfg(test)]
#[path = "node/crashes.rs"]
mod crashes;
#[cfg(test)]
#[path = "node/kit.rs"]
mod kit;
#[cfg(test)]
#[path = "node/output.rs"]
mod output;
#[cfg(test)]
#[path = "node/real_engine.rs"]
mod real_engine;
#[cfg(test)]
#[path = "node/serving.rs"]
mod serving;
