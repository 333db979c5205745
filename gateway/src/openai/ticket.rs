//! One request's right to an answer, and what is written down about it.
//!
//! Owns that usage is recorded exactly once (HTTP-13), also for a request that is broken off by whoever.
//! Refuses to know what is sent.

use std::time::Duration;

use arw_actors::cluster::ModelHost;
use arw_actors::runtime::lease::{EngineEnd, EngineLease, Usage};
use arw_kit::moment::Moment;
use tokio::runtime::Handle;
use tracing::{Span, debug};

use super::fate::{self, Fate};
use super::refusal;
use super::suspects::{Suspect, Verdict};
use super::trial::{Seen, Turn};
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
    /// Who else was there when the connection to the engine broke; `None`: it has not.
    sight: Option<Sight>,
    is_given_up: bool,
    /// What became of the engine was found out, and noted.
    knows_fate: bool,
    /// What is known of it where its client goes away.
    usage: Usage,
    suspect: Suspect,
    /// Its place among the requests of its model.
    turn: Option<Turn>,
    /// When it was sent.
    sent: Moment,
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
    pub(super) fn for_engine(
        gate: &Gate,
        lease: EngineLease,
        route: &'static str,
        started: Moment,
        (suspect, turn): (Suspect, Turn),
    ) -> Self {
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
            sight: None,
            is_given_up: false,
            knows_fate: false,
            usage: Usage { is_partial: true, ..Usage::default() },
            suspect,
            turn: Some(turn),
            sent: gate.now(),
            span: Span::current(),
        }
    }

    /// The request came at `started` and goes to another node now.
    pub(super) fn for_node(
        gate: &Gate,
        host: ModelHost,
        route: &'static str,
        started: Moment,
        (suspect, turn): (Suspect, Turn),
    ) -> Self {
        Self {
            gate: gate.clone(),
            right: Some(Right::Node { _share: gate.shares.take(&host) }),
            runtime: host.runtime.clone(),
            host: Some(host),
            route,
            started,
            waited: Duration::ZERO,
            first_content: None,
            sight: None,
            is_given_up: false,
            knows_fate: false,
            usage: Usage { is_partial: true, ..Usage::default() },
            suspect,
            turn: Some(turn),
            sent: gate.now(),
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

    /// Whoever answers is silent for too long.
    pub(super) fn silent(&self) -> Problem {
        refusal::silent(&self.runtime, self.host.as_ref(), self.idle_max())
    }

    /// How long whoever answers may be silent. Another node limits its engine itself, and may first let the
    /// request wait.
    pub(super) fn idle_max(&self) -> Duration {
        let settings = &self.gate.settings;
        let wait = if self.host.is_some() { settings.wait_for_runtime } else { Duration::ZERO };
        settings.answer_idle_timeout + wait
    }

    /// HTTP-22: what became of the engine whose connection broke. Where this is given up, it is found out in
    /// the background when the account is settled.
    pub(super) async fn fate(&mut self, patience: Duration) -> Fate {
        // As it was when the connection broke: a process may take long to end.
        self.sight = self.turn.as_ref().map(Sight::of);
        let fate = match self.lease() {
            Some(lease) => fate_of(&self.gate, lease, self.sent, patience).await,
            None => Fate::Lives,
        };
        self.knows_fate = true;
        fate
    }

    /// HTTP-22: no other request was in flight when this engine ended. Of another node's engine that node
    /// knows.
    pub(super) fn was_lone(&self, end: &EngineEnd) -> bool {
        let sight = self.turn.as_ref().filter(|_| self.host.is_none()).map(Sight::of).unwrap_or_default();
        self.sight.unwrap_or(sight).is_lone(end)
    }

    /// HTTP-22: an engine ended with this request in flight; `id` tells its ends apart.
    pub(super) fn note_death(&self, id: String, end: &EngineEnd) {
        if end.may_be_a_request {
            let told_by = self.host.as_ref().map(|host| host.node);
            let seen = Seen { id, runtime: self.runtime.clone(), is_lone: self.was_lone(end), told_by };
            self.gate.trials.note(&self.suspect, end, seen);
        }
    }

    /// HTTP-22: an engine of this node ended with this request in flight; what the client is told of it.
    pub(super) fn engine_died(&self, end: &EngineEnd) -> Problem {
        self.note_death(death_id(&self.runtime, end), end);
        match self.verdict() {
            Verdict::Refused(deaths, wait) => refusal::kills_engine(&self.suspect.model, &deaths, wait),
            _ => refusal::engine_died(&self.runtime, end, self.was_lone(end)),
        }
    }

    /// What is remembered of this body by now.
    fn verdict(&self) -> Verdict {
        self.gate.trials.verdict(&self.suspect)
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

    /// Whoever answers is silent for too long, and may work on it for longer.
    pub(super) fn give_up(&mut self) {
        self.is_given_up = true;
        self.settle(&Usage { is_partial: true, ..Usage::default() }, Outcome::Refused);
    }

    /// So much is known, in case that the client goes away.
    pub(super) fn note_usage(&mut self, usage: Usage) {
        self.usage = usage;
    }

    /// Nothing came of it and the request tries again: nothing is written down.
    pub(super) fn forget(mut self) {
        self.right = None;
        self.turn = None;
    }

    /// Settles the account and frees the slot. Only the first call counts.
    pub(super) fn settle(&mut self, usage: &Usage, outcome: Outcome) {
        let Some(right) = self.right.take() else { return };
        let turn = self.turn.take();
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
        match (right, outcome) {
            (Right::Engine(_), Outcome::Ok) => self.gate.trials.passed(&self.suspect, &self.runtime),
            // Whoever leaves while it is found out leaves it to us.
            (Right::Engine(lease), Outcome::EngineLost | Outcome::ClientGone)
                if !self.knows_fate && (self.sight.is_some() || outcome == Outcome::EngineLost) =>
            {
                self.note_later(lease, turn);
            }
            (Right::Engine(lease), Outcome::ClientGone) => self.note_though_gone(&lease, turn),
            (Right::Engine(lease), Outcome::Refused) if self.is_given_up => {
                self.note_though_gone(&lease, turn);
            }
            _ => {}
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

impl Ticket {
    /// HTTP-22: an engine that took long to end after a stream broke off. The lease is kept until that is
    /// known: until then the request counts as in flight, so that nobody else seems to be alone.
    fn note_later(&self, lease: EngineLease, turn: Option<Turn>) {
        let (gate, suspect, sent) = (self.gate.clone(), self.suspect.clone(), self.sent);
        let sight = self.sight.or(turn.as_ref().map(Sight::of)).unwrap_or_default();
        in_background(async move {
            if let Fate::Died(end) = fate_of(&gate, &lease, sent, fate::NOTICED_WITHIN).await
                && end.may_be_a_request
            {
                gate.trials.note(&suspect, &end, seen(lease.runtime().as_str(), &end, sight.is_lone(&end)));
            }
            drop((lease, turn));
        });
    }

    /// HTTP-22: an engine works for a moment longer on what its client has left, and may die of it.
    fn note_though_gone(&self, lease: &EngineLease, turn: Option<Turn>) {
        if !lease.is_managed() {
            return;
        }
        let (gate, suspect, runtime) = (self.gate.clone(), self.suspect.clone(), lease.runtime().clone());
        let ended = lease.end_of_process();
        // Suspects wait for it, and nobody seems to be alone beside it.
        turn.iter().for_each(Turn::go);
        in_background(async move {
            if let Ok(Some(end)) = tokio::time::timeout(fate::GONE_WATCHED, ended).await
                && end.may_be_a_request
            {
                let is_lone = turn.as_ref().is_some_and(Turn::is_solitary);
                gate.trials.note(&suspect, &end, seen(runtime.as_str(), &end, is_lone));
            }
            drop(turn);
        });
    }
}

/// Who else is there, seen from one request.
#[derive(Clone, Copy, Debug, Default)]
struct Sight {
    is_solitary: bool,
    has_gone_others: bool,
}

impl Sight {
    fn of(turn: &Turn) -> Self {
        Self { is_solitary: turn.is_solitary(), has_gone_others: turn.has_gone_others() }
    }

    /// Nothing else can have been the cause of an engine's end.
    fn is_lone(self, end: &EngineEnd) -> bool {
        self.is_solitary || (end.in_flight <= 1 && !self.has_gone_others)
    }
}

fn seen(runtime: &str, end: &EngineEnd, is_lone: bool) -> Seen {
    Seen { id: death_id(runtime, end), runtime: runtime.to_owned(), is_lone, told_by: None }
}

/// Where everything ends there is nothing to learn any more.
fn in_background(task: impl Future<Output = ()> + Send + 'static) {
    if let Ok(runtime) = Handle::try_current() {
        runtime.spawn(task);
    }
}

async fn fate_of(gate: &Gate, lease: &EngineLease, sent: Moment, patience: Duration) -> Fate {
    match fate::of(&gate.node.engines, lease, patience).await {
        Fate::Died(end) if !lease.is_managed() => {
            let runtime = lease.runtime().as_str();
            let (launch, in_flight) = gate.trials.outage(runtime, sent, gate.now(), end.in_flight);
            Fate::Died(EngineEnd { launch, in_flight, ..end })
        }
        fate => fate,
    }
}

/// Tells the ends of this node's engines apart.
pub(super) fn death_id(runtime: &str, end: &EngineEnd) -> String {
    format!("{runtime}/{}/{}", end.launch, end.pid.unwrap_or_default())
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let usage = self.usage;
        self.settle(&usage, Outcome::ClientGone);
    }
}
