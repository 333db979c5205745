//! Runtimes for real: a whole node without its gateway, with the fake engine behind keeper, shim and sandbox.

#![cfg(target_os = "linux")]

#[cfg(test)]
#[path = "runtime/kit.rs"]
mod kit;
#[cfg(test)]
#[path = "runtime/life.rs"]
mod life;
