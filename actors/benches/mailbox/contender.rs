//! What every mailbox in the comparison can do: count, answer, work for a while, end.
//!
//! Owns the two traits and the work of a busy handler. Refuses to measure.

use std::future::Future;
use std::time::Duration;

use crate::kit::now;

/// A kind of actor whose state is a sum.
pub(crate) trait Contender: Sized + Send + Sync + 'static {
    const NAME: &'static str;
    /// What a sender holds.
    type Address: Clone + Send + Sync + 'static;

    /// Prepares what actors live in; called inside a tokio runtime.
    fn begin() -> impl Future<Output = Self>;
    /// One more actor.
    fn spawn(&mut self) -> impl Future<Output = Self::Address>;
    /// Resolves when the actor has fully ended.
    fn stop(&mut self, address: Self::Address) -> impl Future<Output = ()>;
    /// Adds one.
    fn tell(address: &Self::Address) -> impl Future<Output = ()> + Send;
    /// Keeps the actor busy for [`WORK`].
    fn tell_work(address: &Self::Address) -> impl Future<Output = ()> + Send;
    /// The sum.
    fn ask(address: &Self::Address) -> impl Future<Output = u64> + Send;
}

/// One that is started again after a crash.
pub(crate) trait Restarting {
    const NAME: &'static str;

    fn begin() -> impl Future<Output = Self>;
    /// Crashes the actor and asks its next incarnation.
    fn crash_and_ask(&self) -> impl Future<Output = ()>;
    /// Ends everything.
    fn end(self) -> impl Future<Output = ()>;
}

/// What one message costs a busy actor.
pub(crate) const WORK: Duration = Duration::from_micros(20);

/// Holds the core for [`WORK`].
pub(crate) fn work() {
    let start = now();
    while start.elapsed() < WORK {
        std::hint::spin_loop();
    }
}
