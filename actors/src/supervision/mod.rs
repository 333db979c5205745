//! Who restarts whom, how often, and what happens when that is not enough.
//!
//! Owns child specs, restart budgets, the [`machine`] that decides and the actor that carries it out, and [`ActorSystem`].
//! Refuses to know what any actor does.

mod exit;

pub mod budget;
pub mod machine;

mod spec;

mod child;
mod handle;
mod lingering;
mod starting;
mod supervisor;

mod panics;
mod system;

pub use budget::{Backoff, RestartBudget, RestartLimits};
pub use exit::ExitReason;
pub use handle::SupervisorHandle;
pub use machine::{AutoShutdown, OnExhausted, Quarantine, Restart, StopOrder, Strategy};
pub use panics::install_panic_hook;
pub use spec::{ActorSpec, AddChildError, ChildSpec, Shutdown, SupervisorSpec};
pub use system::{ActorSystem, RestartEvent, RestartHistory, StartSystemError, SupervisionObserver};

pub(crate) use panics::{poll_in_actor, take_panic_location};
pub(crate) use system::SystemShared;

#[cfg(test)]
mod lingering_tests;
#[cfg(test)]
mod monitor_tests;
#[cfg(test)]
mod tests;
