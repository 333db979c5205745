//! One request's right to an engine, and what is written down about it.
//!
//! Owns that usage is recorded exactly once (HTTP-13), also for a request that is broken off by whoever. Refuses to know what is sent.

use std::time::Duration;

use arw_actors::moment::Moment;
use arw_actors::runtime::lease::{EngineLease, Usage};
use tracing::debug;

use crate::metrics::Outcome;
use crate::shared::Gate;

/// A lease and its request's account. Dropping it settles the account: then the client has gone away.
#[derive(Debug)]
pub(super) struct Ticket {
    gate: Gate,
    /// `None` once the engine is done.
    lease: Option<EngineLease>,
    runtime: String,
    route: &'static str,
    started: Moment,
    waited: Duration,
    first_content: Option<Duration>,
}

impl Ticket {
    /// The request came at `started` and has got its engine now.
    pub(super) fn new(gate: &Gate, lease: EngineLease, route: &'static str, started: Moment) -> Self {
        let runtime = lease.runtime().to_string();
        let waited = lease.waited();
        gate.metrics.inference.acquired(&runtime, waited);
        Self { gate: gate.clone(), lease: Some(lease), runtime, route, started, waited, first_content: None }
    }

    /// Which runtime it is.
    pub(super) fn runtime(&self) -> &str {
        &self.runtime
    }

    /// The engine's lease, until the account is settled.
    pub(super) fn lease(&self) -> Option<&EngineLease> {
        self.lease.as_ref()
    }

    /// The client is about to get the first content.
    pub(super) fn note_content(&mut self) {
        if self.first_content.is_none() {
            let took = self.gate.now().since(self.started);
            self.first_content = Some(took);
            self.gate.metrics.inference.first_content(self.route, &self.runtime, took);
        }
    }

    /// Nothing came of it and the request tries again: nothing is written down.
    pub(super) fn forget(mut self) {
        self.lease = None;
    }

    /// Settles the account and frees the engine's slot. Only the first call counts.
    pub(super) fn settle(&mut self, usage: &Usage, outcome: Outcome) {
        let Some(lease) = self.lease.take() else { return };
        lease.record(usage);
        let took = self.gate.now().since(self.started);
        self.gate.metrics.inference.settled(self.route, &self.runtime, outcome, took);
        debug!(
            runtime = self.runtime,
            route = self.route,
            outcome = outcome.word(),
            prompt_tokens = usage.prompt_tokens,
            completion_tokens = usage.completion_tokens,
            waited_ms = self.waited.as_millis(),
            took_ms = took.as_millis(),
            "inference"
        );
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.settle(&Usage { is_partial: true, ..Usage::default() }, Outcome::ClientGone);
    }
}
