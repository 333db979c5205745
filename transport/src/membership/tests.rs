//! Many members on one virtual network: what the protocol promises as a whole.

pub(crate) mod forging;
mod simulation;

mod faults;
mod figures;
mod one_node;
mod properties;
