//! A request's way to an answer: choose, acquire, send, and once more where nothing has come of it.
//!
//! Owns the order of steps and the one second try. Refuses to decide who serves here and when (`runtime/` in the kernel does), and who of several
//! nodes is asked (`route.rs`).

use std::sync::Arc;
use std::time::Duration;

use arw_actors::cluster::ModelHost;
use arw_actors::moment::Moment;
use arw_actors::runtime::lease::{AcquireError, Usage};
use arw_actors::runtime::machine::RuntimeState;
use axum::response::Response;
use bytes::Bytes;
use tracing::debug;

use super::attempt::{self, Attempt};
use super::body::RequestBody;
use super::refusal;
use super::route::{self, Known, SoFar, Way};
use super::ticket::Ticket;
use crate::metrics::Outcome;
use crate::problem::Problem;
use crate::shared::Gate;
use crate::trace::Trace;

/// Where a request came in; it goes to the same path of whoever answers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Route {
    pub(super) path: &'static str,
    /// This route has streams.
    pub(super) streams: bool,
}

/// Who may answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reach {
    /// Whoever is best, on any node.
    Cluster,
    /// HTTP-16: this node only, because another one has chosen it.
    Here,
}

/// A request, and what goes for all its tries.
#[derive(Debug)]
pub(super) struct Asked<'g> {
    pub(super) gate: &'g Gate,
    pub(super) route: Route,
    pub(super) body: RequestBody,
    pub(super) trace: Option<Trace>,
    reach: Reach,
    started: Moment,
    deadline: Moment,
}

/// The kernel notices an engine's end within milliseconds of its connection breaking, except when the machine is overloaded.
const LOSS_NOTICED_WITHIN: Duration = Duration::from_millis(500);

/// Brings a request to whoever answers it, and the answer back.
pub(super) async fn forward(
    gate: &Gate,
    route: Route,
    reach: Reach,
    trace: Option<Trace>,
    bytes: Bytes,
) -> Result<Response, Problem> {
    let started = gate.now();
    let body = RequestBody::read(bytes, route.streams)?;
    let deadline = started + gate.settings.wait_for_runtime;
    let asked = Asked { gate, route, body, trace, reach, started, deadline };
    let mut so_far = SoFar::default();
    let lost = match asked.attempt(&mut so_far).await? {
        Attempt::Answered(response) => return Ok(response),
        Attempt::Refused(problem) => return Err(problem),
        Attempt::Lost(ticket) => ticket,
        Attempt::NotReached(ticket, problem) => {
            let another = asked.if_another(&mut so_far, ticket, Outcome::NodeLost);
            let Some(ticket) = another else { return Err(problem) };
            ticket
        }
        Attempt::PassedOver(ticket, response) => {
            let another = asked.if_another(&mut so_far, ticket, Outcome::Refused);
            let Some(ticket) = another else { return Ok(response) };
            ticket
        }
    };
    // Nothing of an answer has been passed on, so the client need not know: another one answers, or its runtime when it has restarted.
    debug!(runtime = lost.runtime(), route = route.path, "nothing came of the first try; trying once more");
    match lost.host() {
        Some(host) => so_far.tried.push(host.node),
        None => until_noticed(gate, lost.runtime()).await,
    }
    lost.forget();
    match asked.attempt(&mut so_far).await? {
        Attempt::Answered(response) => Ok(response),
        Attempt::Refused(problem) => Err(problem),
        Attempt::Lost(mut ticket) => {
            let (problem, outcome) = ticket.loss();
            ticket.settle(&Usage { is_partial: true, ..Usage::default() }, outcome);
            Err(problem)
        }
        Attempt::NotReached(mut ticket, problem) => {
            ticket.settle(&Usage::default(), Outcome::NodeLost);
            Err(problem)
        }
        Attempt::PassedOver(mut ticket, response) => {
            ticket.settle(&Usage::default(), Outcome::Refused);
            Ok(response)
        }
    }
}

impl Asked<'_> {
    fn others(&self) -> Arc<Vec<ModelHost>> {
        match self.reach {
            Reach::Cluster => self.gate.node.cluster.hosts(),
            Reach::Here => Arc::default(),
        }
    }

    fn way(&self, so_far: &SoFar) -> Way {
        let (info, own, others) = (&self.gate.node.info, self.gate.node.runtimes.served(), self.others());
        let known = Known { here: (info.id, &info.name), own: &own, others: &others };
        route::decide(self.body.model(), known, so_far, |host| self.gate.shares.of(host))
    }

    /// HTTP-10: with what could have been named, here and elsewhere.
    fn known(&self) -> Vec<String> {
        route::names(self.gate.node.runtimes.known(), &self.others())
    }

    /// One try, at whoever is best.
    async fn attempt(&self, so_far: &mut SoFar) -> Result<Attempt, Problem> {
        let mut way = self.way(so_far);
        let mut refused_here = None;
        if let Way::Here(name) = &way {
            match self.acquire(name.as_deref()).await {
                Ok(ticket) => return Ok(attempt::to_engine(self, ticket).await),
                Err(error) => refused_here = Some(error),
            }
            // HTTP-17: a refusal here is final only when no other node is ready.
            so_far.is_refused_here = true;
            way = self.way(so_far);
        }
        match (way, refused_here) {
            (Way::There { host, name }, _) => {
                let ticket = Ticket::for_node(self.gate, host, self.route.path, self.started);
                Ok(attempt::to_node(self, &name, ticket).await)
            }
            (_, Some(error)) => Err(refusal::not_acquired(error)),
            (Way::NotNamed, None) => {
                let runtimes = self.gate.node.runtimes.served().len() + self.others().len();
                Err(refusal::not_named(runtimes, self.known()))
            }
            (Way::Nowhere | Way::Here(_), None) => {
                Err(refusal::unknown_model(self.body.model().unwrap_or_default(), self.known()))
            }
        }
    }

    async fn acquire(&self, name: Option<&str>) -> Result<Ticket, AcquireError> {
        // HTTP-11: what a first try took is no longer there for a second one.
        let patience = self.deadline.since(self.gate.now());
        let lease = self.gate.node.runtimes.acquire(name, patience).await?;
        Ok(Ticket::for_engine(self.gate, lease, self.route.path, self.started))
    }

    /// HTTP-18: gives the ticket back when there is somebody else to ask, and time left; else settles it.
    fn if_another(&self, so_far: &mut SoFar, mut ticket: Ticket, outcome: Outcome) -> Option<Ticket> {
        let node = ticket.host().map(|host| host.node);
        so_far.tried.extend(node);
        let is_another = match self.way(so_far) {
            Way::Here(_) => true,
            Way::There { host, .. } => Some(host.node) != node,
            Way::Nowhere | Way::NotNamed => false,
        };
        // HTTP-11: a first host may have let it wait for as long as a request waits.
        if is_another && self.gate.now() < self.deadline {
            return Some(ticket);
        }
        ticket.settle(&Usage::default(), outcome);
        None
    }
}

/// Waits until the kernel knows that the engine is gone: before that, it would lend it again.
async fn until_noticed(gate: &Gate, runtime: &str) {
    let mut changes = gate.node.runtimes.changes();
    let serves = || gate.node.runtimes.row(runtime).is_ok_and(|row| row.state == RuntimeState::Ready);
    let noticed = async {
        while serves() {
            if changes.changed().await.is_err() {
                return;
            }
        }
    };
    // An external server, or one that only dropped the connection, stays ready: then the second try may well succeed.
    let _ = tokio::time::timeout(LOSS_NOTICED_WITHIN, noticed).await;
}
