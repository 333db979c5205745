//! The right to send one request to a ready engine, and what that request used.
//!
//! Owns [`EngineLease`]: while it lives its engine counts as busy, is not evicted and is not unloaded.
//! Refuses to know HTTP.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use arw_kit::clock::Clock;
use arw_kit::moment::Moment;

use tokio::sync::{Notify, watch};

use super::launcher::{Endpoint, Secret};
use super::machine::RuntimeState;
use crate::ids::RuntimeId;

/// The right to send one request. Dropping it frees the slot.
#[derive(Debug)]
pub struct EngineLease {
    pub(crate) runtime: RuntimeId,
    pub(crate) model: Option<String>,
    pub(crate) endpoint: Endpoint,
    pub(crate) secret: Option<Secret>,
    pub(crate) waited: Duration,
    pub(crate) meter: Arc<Meter>,
    /// Tells how the engine's process ended; `None` where ARW runs no process.
    pub(crate) end: Option<watch::Receiver<Option<EngineEnd>>>,
}

/// How an engine's process ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EngineEnd {
    /// Which launch of the runtime it was.
    pub launch: u64,
    /// Its process; launches are counted anew when the runtime's actor is.
    pub pid: Option<u32>,
    /// In words: `crashed with SIGSEGV`.
    pub detail: String,
    /// A request may be the cause. It is not where an operator, this node or another process ended the
    /// engine.
    pub may_be_a_request: bool,
    /// How many requests held a lease then.
    pub in_flight: u32,
}

impl EngineLease {
    /// Which runtime it is.
    #[must_use]
    pub fn runtime(&self) -> &RuntimeId {
        &self.runtime
    }

    /// The name that the engine knows its model by; `None`: any.
    #[must_use]
    pub fn model(&self) -> Option<&str> {
        self.model.as_deref()
    }

    /// Where to send the request.
    #[must_use]
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// The key that the engine demands.
    #[must_use]
    pub fn secret(&self) -> Option<&Secret> {
        self.secret.as_ref()
    }

    /// How long the request had to wait for the engine.
    #[must_use]
    pub fn waited(&self) -> Duration {
        self.waited
    }

    /// ARW runs the engine's process.
    #[must_use]
    pub fn is_managed(&self) -> bool {
        self.end.is_some()
    }

    /// Resolves when the engine's process has ended; never where ARW runs none. `None`: its runtime's actor
    /// is gone, and nobody knows.
    pub async fn process_ended(&self) -> Option<EngineEnd> {
        self.end_of_process().await
    }

    /// As [`EngineLease::process_ended`], without the right to send: it outlives the lease.
    pub fn end_of_process(&self) -> impl Future<Output = Option<EngineEnd>> + Send + 'static {
        let end = self.end.clone();
        async move {
            let Some(mut end) = end else { return std::future::pending().await };
            end.wait_for(Option::is_some).await.ok().and_then(|end| end.clone())
        }
    }

    /// Requests of this runtime that hold a lease now, this one included.
    #[must_use]
    pub fn in_flight(&self) -> u32 {
        self.meter.in_flight()
    }

    /// Tells the runtime that the engine takes no new connection: it looks at once, not only when its next
    /// probe is due. Reports that come together are one.
    pub fn report_unreachable(&self) {
        self.meter.doubt();
    }

    /// Counts what the request used. To be called once, also for a request that was broken off, with what is
    /// known.
    pub fn record(&self, usage: &Usage) {
        self.meter.add(usage);
    }
}

impl Drop for EngineLease {
    fn drop(&mut self) {
        self.meter.leave();
    }
}

/// What one request used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Tokens of the prompt.
    pub prompt_tokens: u64,
    /// Of these, tokens that the engine still had in its cache.
    pub cached_tokens: u64,
    /// Tokens of the answer.
    pub completion_tokens: u64,
    /// The answer was broken off, or the engine did not say: the tokens are what was seen of them.
    pub is_partial: bool,
}

/// Everything that a runtime's requests used since the node started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "named like the fields of Usage")]
pub struct UsageTotals {
    pub requests: u64,
    pub prompt_tokens: u64,
    pub completion_tokens: u64,
    pub cached_tokens: u64,
}

/// Counts a runtime's requests in flight and their usage. Shared by its actor and its leases.
#[derive(Debug)]
pub(crate) struct Meter {
    in_flight: AtomicU32,
    requests: AtomicU64,
    prompt_tokens: AtomicU64,
    completion_tokens: AtomicU64,
    cached_tokens: AtomicU64,
    /// When the last lease was given back; 0: never.
    left_at: AtomicU64,
    clock: Clock,
    left: Notify,
    /// Holds one report at most.
    doubts: Notify,
}

impl Meter {
    pub(crate) fn new(clock: Clock) -> Self {
        Self {
            in_flight: AtomicU32::new(0),
            requests: AtomicU64::new(0),
            prompt_tokens: AtomicU64::new(0),
            completion_tokens: AtomicU64::new(0),
            cached_tokens: AtomicU64::new(0),
            left_at: AtomicU64::new(0),
            clock,
            left: Notify::new(),
            doubts: Notify::new(),
        }
    }

    pub(crate) fn enter(&self) {
        self.in_flight.fetch_add(1, Ordering::AcqRel);
    }

    fn leave(&self) {
        self.left_at.store(self.clock.now().as_nanos(), Ordering::Relaxed);
        self.in_flight.fetch_sub(1, Ordering::AcqRel);
        self.left.notify_one();
    }

    fn add(&self, usage: &Usage) {
        self.requests.fetch_add(1, Ordering::Relaxed);
        for (total, count) in [
            (&self.prompt_tokens, usage.prompt_tokens),
            (&self.completion_tokens, usage.completion_tokens),
            (&self.cached_tokens, usage.cached_tokens),
        ] {
            // The count is what an engine says: a total that wrapped would go backwards.
            let _ = total.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |total| {
                Some(total.saturating_add(count))
            });
        }
    }

    /// Requests that hold a lease now.
    pub(crate) fn in_flight(&self) -> u32 {
        self.in_flight.load(Ordering::Acquire)
    }

    /// How long ago the last lease was given back. One that never had a lease counts as idle for ever.
    pub(crate) fn idle_for(&self) -> Duration {
        self.clock.now().since(Moment::from_nanos(self.left_at.load(Ordering::Relaxed)))
    }

    /// Resolves when a lease was given back since the last call.
    pub(crate) async fn left(&self) {
        self.left.notified().await;
    }

    fn doubt(&self) {
        self.doubts.notify_one();
    }

    /// Resolves when a request did not reach the engine since the last call.
    pub(crate) async fn doubted(&self) {
        self.doubts.notified().await;
    }

    /// For tests that show a runtime with a past.
    #[cfg(any(test, feature = "testkit"))]
    pub(crate) fn set_totals(&self, totals: &UsageTotals) {
        self.requests.store(totals.requests, Ordering::Relaxed);
        self.prompt_tokens.store(totals.prompt_tokens, Ordering::Relaxed);
        self.completion_tokens.store(totals.completion_tokens, Ordering::Relaxed);
        self.cached_tokens.store(totals.cached_tokens, Ordering::Relaxed);
    }

    pub(crate) fn totals(&self) -> UsageTotals {
        UsageTotals {
            requests: self.requests.load(Ordering::Relaxed),
            prompt_tokens: self.prompt_tokens.load(Ordering::Relaxed),
            completion_tokens: self.completion_tokens.load(Ordering::Relaxed),
            cached_tokens: self.cached_tokens.load(Ordering::Relaxed),
        }
    }
}

/// Why a request gets no engine.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AcquireError {
    /// There is no such runtime, or it has no address to send requests to.
    #[error("no runtime that serves is called `{0}`")]
    Unknown(String),
    /// The runtime is not ready, and was not within the wait.
    #[error("runtime `{}` is {}{}", .0.runtime, .0.state.word(), reason_after(.0))]
    NotReady(NotReady),
    /// Too many requests wait already.
    #[error("{waiting} requests wait for runtime `{runtime}` already")]
    QueueFull {
        /// Which runtime.
        runtime: RuntimeId,
        /// How many wait.
        waiting: usize,
    },
    /// The node is stopping, or its directory does not answer.
    #[error("the node does not answer: {0}")]
    Unavailable(String),
}

/// Why a runtime is not ready.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotReady {
    /// Which runtime.
    pub runtime: RuntimeId,
    /// What it is instead.
    pub state: RuntimeState,
    /// Why.
    pub reason: Option<String>,
    /// What to do.
    pub hint: Option<String>,
    /// When trying again makes sense; `None`: not before somebody acts.
    pub retry_after: Option<Duration>,
}

fn reason_after(not_ready: &NotReady) -> impl fmt::Display {
    not_ready.reason.as_ref().map_or_else(String::new, |reason| format!(": {reason}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn totals_stop_at_the_largest_number_instead_of_going_backwards() {
        let meter = Meter::new(Clock::system());
        let absurd = Usage { prompt_tokens: u64::MAX, completion_tokens: 3, ..Usage::default() };
        meter.add(&absurd);
        meter.add(&absurd);
        let totals = meter.totals();
        assert_eq!((totals.requests, totals.prompt_tokens, totals.completion_tokens), (2, u64::MAX, 6));
    }
}
