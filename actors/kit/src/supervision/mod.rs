//! Who restarts whom, how often, and what happens when that is not enough.
//!
//! Owns child specs, the [`machine`] that decides and the actor that carries it out, and [`ActorSystem`].
//! Refuses to know what any actor does.

pub mod machine;

mod shared;
mod spec;

mod child;
mod handle;
mod starting;
mod supervisor;

mod system;

pub use handle::SupervisorHandle;
pub use machine::{AutoShutdown, OnExhausted, Quarantine, Restart, StopOrder, Strategy};
pub use shared::{RestartEvent, RestartHistory, SupervisionObserver};
pub use spec::{ActorSpec, AddChildError, ChildSpec, Shutdown, SupervisorSpec};
pub use system::{ActorSystem, StartSystemError};

#[cfg(test)]
mod lingering_tests;
#[cfg(test)]
mod monitor_tests;
#[cfg(test)]
mod tests;
