//! Actors that fall and get up again.
#![doc = include_str!("../README.md")]

pub mod ids;
pub mod moment;

pub mod clock;
pub mod life;
pub mod panics;

pub mod tree;

pub mod mailbox;

pub mod supervision;
