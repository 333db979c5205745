//! Launching for real: keeper, shim, sandbox, capture, diagnosis and sweep, with the fake engine as program
//! and as keeper.
//!
//! Every test has a state folder of its own and names the processes it ends by their ids.

#![cfg(target_os = "linux")]

#[cfg(test)]
#[path = "launch/bench.rs"]
mod bench;
#[cfg(test)]
#[path = "launch/death.rs"]
mod death;
#[cfg(test)]
#[path = "launch/kit.rs"]
mod kit;
#[cfg(test)]
#[path = "launch/logs.rs"]
mod logs;
#[cfg(test)]
#[path = "launch/refusals.rs"]
mod refusals;
#[cfg(test)]
#[path = "launch/sandbox.rs"]
mod sandbox;
#[cfg(test)]
#[path = "launch/scripts.rs"]
mod scripts;
#[cfg(test)]
#[path = "launch/serving.rs"]
mod serving;
#[cfg(test)]
#[path = "launch/spare.rs"]
mod spare;
#[cfg(test)]
#[path = "launch/stopping.rs"]
mod stopping;
#[cfg(test)]
#[path = "launch/sweeping.rs"]
mod sweeping;
