//! One request's right to an answer, and what is written down about it.
//!
//! Owns that usage is recorded exactly once (HTTP-13), also for a request that is broken off by whoever. Refuses to know what is sent.

use std::time::Duration;

use arw_actors::cluster::ModelHost;
use arw_actors::moment::Moment;
use arw_actors::runtime::lease::{EngineLease, Usage};
use tracing::{Span, debug};

use super::refusal;
use crate::metrics::Outcome;
use crate::peer::Share;
use crate::problem::Problem;
use crate::shared::Gate;

/// A right and its request's account. Dropping it settles the account: then the client has gone away.
#[derive(Debug)]
pub(super) struct Ticket {
    gate: Gate,
    /// `None` once whoever answers is done.
    right: Option<Right>,
    runtime: String,
    host: Option<ModelHost>,
    route: &'static str,
    started: Moment,
    waited: Duration,
    first_content: Option<Duration>,
    span: Span,
}

/// What is held while the request is answered.
#[derive(Debug)]
enum Right {
    Engine(EngineLease),
    /// The other node holds the lease; it counts what it used, too.
    Node {
        _share: Share,
    },
}

impl Ticket {
    /// The request came at `started` and has got an engine of this node now.
    pub(super) fn for_engine(gate: &Gate, lease: EngineLease, route: &'static str, started: Moment) -> Self {
        let runtime = lease.runtime().to_string();
        let waited = lease.waited();
        gate.metrics.inference.acquired(&runtime, waited);
        Self {
            gate: gate.clone(),
            right: Some(Right::Engine(lease)),
            runtime,
            host: None,
            route,
            started,
            waited,
            first_content: None,
            span: Span::current(),
        }
    }

    /// The request came at `started` and goes to another node now.
    pub(super) fn for_node(gate: &Gate, host: ModelHost, route: &'static str, started: Moment) -> Self {
        Self {
            gate: gate.clone(),
            right: Some(Right::Node { _share: gate.shares.take(&host) }),
            runtime: host.runtime.clone(),
            host: Some(host),
            route,
            started,
            waited: Duration::ZERO,
            first_content: None,
            span: Span::current(),
        }
    }

    /// Which runtime it is.
    pub(super) fn runtime(&self) -> &str {
        &self.runtime
    }

    /// The other node's own word for who answered.
    pub(super) fn answered_by(&mut self, runtime: &str) {
        runtime.clone_into(&mut self.runtime);
    }

    /// The other node that answers; `None` where an engine of this one does.
    pub(super) fn host(&self) -> Option<&ModelHost> {
        self.host.as_ref()
    }

    /// The engine's lease, until the account is settled.
    pub(super) fn lease(&self) -> Option<&EngineLease> {
        match &self.right {
            Some(Right::Engine(lease)) => Some(lease),
            Some(Right::Node { .. }) | None => None,
        }
    }

    /// The name that `/v1/models` has for the model.
    pub(super) fn listed_model(&self) -> Option<&str> {
        let host = self.host.as_ref().map(|host| host.model.as_str());
        host.or_else(|| self.lease().and_then(EngineLease::model))
    }

    /// Whoever answers is gone: how that is told, and counted.
    pub(super) fn loss(&self) -> (Problem, Outcome) {
        match &self.host {
            Some(host) => (refusal::node_lost(host), Outcome::NodeLost),
            None => (refusal::engine_lost(&self.runtime), Outcome::EngineLost),
        }
    }

    /// The client is about to get the first content.
    pub(super) fn note_content(&mut self) {
        if self.first_content.is_none() {
            let took = self.gate.now().since(self.started);
            self.first_content = Some(took);
            match &self.host {
                Some(host) => self.gate.metrics.peers.first_content(self.route, host.node, took),
                None => self.gate.metrics.inference.first_content(self.route, &self.runtime, took),
            }
        }
    }

    /// Nothing came of it and the request tries again: nothing is written down.
    pub(super) fn forget(mut self) {
        self.right = None;
    }

    /// Settles the account and frees the slot. Only the first call counts.
    pub(super) fn settle(&mut self, usage: &Usage, outcome: Outcome) {
        let Some(right) = self.right.take() else { return };
        let took = self.gate.now().since(self.started);
        match (&right, &self.host) {
            (Right::Engine(lease), _) => {
                lease.record(usage);
                self.gate.metrics.inference.settled(self.route, &self.runtime, outcome, took);
            }
            (Right::Node { .. }, Some(host)) => {
                self.gate.metrics.peers.settled(self.route, host.node, outcome, took, usage);
            }
            (Right::Node { .. }, None) => {}
        }
        // An answer goes on long after the request's handler is done.
        let _entered = self.span.enter();
        debug!(
            runtime = self.runtime,
            node = self.host.as_ref().map(|host| host.node.short()),
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
