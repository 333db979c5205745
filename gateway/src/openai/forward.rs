//! A request's way to an answer: choose, acquire, send, and again where nothing has come of it.
//!
//! Owns the order of steps. Refuses to decide who serves here and when (`runtime/` in the kernel does), who
//! of several is asked (`route.rs`), and whether it is sent again (`retry.rs`).

use std::sync::Arc;

use arw_actors::cluster::ModelHost;
use arw_actors::runtime::directory::Served;
use arw_actors::runtime::lease::{AcquireError, Usage};
use arw_kit::moment::Moment;
use axum::response::Response;
use bytes::Bytes;
use tracing::{debug, warn};

use super::attempt::{self, Attempt, Failure};
use super::body::RequestBody;
use super::early;
use super::fate::Fate;
use super::refusal;
use super::retry::{RetryCause, RetryDecision, RetryPolicy};
use super::route::{self, Constraints, Snapshot, Target};
use super::suspects::{Suspect, Verdict};
use super::ticket::Ticket;
use super::trial::Turn;
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

/// A request, and what goes for all its attempts.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) gate: Gate,
    pub(super) route: Route,
    pub(super) body: RequestBody,
    pub(super) trace: Option<Trace>,
    /// Stands for the body where engines die of it (HTTP-22).
    number: u64,
    body_bytes: usize,
    reach: Reach,
    started: Moment,
    deadline: Moment,
}

/// What a failed attempt says, for `retry.rs` and for the client.
struct Assessment {
    cause: RetryCause,
    /// What the client is told where this was the last word.
    told: Result<Response, Problem>,
    outcome: Outcome,
    /// Where nobody can be asked after it, this is told, not that nobody can be asked.
    outlives: bool,
}

/// Brings a request to whoever answers it, and the answer back.
pub(super) async fn forward(
    gate: &Gate,
    route: Route,
    reach: Reach,
    trace: Option<Trace>,
    bytes: Bytes,
) -> Result<Response, Problem> {
    let started = gate.now();
    let (number, body_bytes) = (gate.trials.number(&bytes), bytes.len());
    let body = RequestBody::read(bytes, route.streams)?;
    let deadline = started + gate.settings.wait_for_runtime;
    let gate = gate.clone();
    let call = Call { gate, route, body, trace, number, body_bytes, reach, started, deadline };
    if call.body.is_stream() && reach == Reach::Cluster {
        return early::answer(call).await;
    }
    call.answer().await
}

impl Call {
    /// All attempts.
    pub(super) async fn answer(&self) -> Result<Response, Problem> {
        let mut constraints = Constraints { body_bytes: self.body_bytes, ..Constraints::default() };
        let mut policy = match self.reach {
            Reach::Cluster => RetryPolicy::default(),
            Reach::Here => RetryPolicy::for_node(),
        };
        let mut earlier = None;
        loop {
            let (mut ticket, failure) = match self.attempt(&mut constraints).await {
                Attempt::Answered(response) => return Ok(response),
                Attempt::Refused(problem) => return Err(problem),
                Attempt::Nobody(problem) => return earlier.unwrap_or(Err(problem)),
                Attempt::Failed(ticket, failure) => (*ticket, failure),
            };
            let assessment = self.assess(&mut ticket, failure, &mut constraints).await;
            // HTTP-11: what one try took of the wait is not there for the next one.
            let has_time = self.gate.now() < self.deadline;
            match policy.after(assessment.cause, self.is_another(&constraints), has_time) {
                RetryDecision::Stop => {
                    let is_partial = assessment.outcome == Outcome::EngineLost;
                    ticket.settle(&Usage { is_partial, ..Usage::default() }, assessment.outcome);
                    return assessment.told;
                }
                RetryDecision::Again(pause) => {
                    // Nothing of an answer has been passed on, so the client need not know.
                    debug!(runtime = ticket.runtime(), route = self.route.path, cause = ?assessment.cause, "trying once more");
                    ticket.forget();
                    earlier = assessment.outlives.then_some(assessment.told);
                    if !pause.is_zero() {
                        tokio::time::sleep(pause).await;
                    }
                }
            }
        }
    }

    /// What waits for whom, in words, for a client that has waited for a while.
    pub(super) fn waits_for(&self) -> String {
        let name = self.body.model().unwrap_or("the model");
        // A line ends a comment.
        let name: String = name.chars().filter(|char| !char.is_control()).take(80).collect();
        let waited = self.gate.now().since(self.started).as_secs();
        let state = match self.target(&Constraints::default()) {
            Target::Local(served) => served.state.word().to_owned(),
            Target::Remote { host, .. } => format!("{} on {}", host.state, host.node.short()),
            Target::Unknown | Target::Ambiguous => "nobody serves it".to_owned(),
        };
        let state: String = state.chars().filter(|char| !char.is_control()).collect();
        format!("waiting for {name} ({state}, {waited} s)")
    }

    fn others(&self) -> Arc<Vec<ModelHost>> {
        match self.reach {
            Reach::Cluster => self.gate.node.cluster.hosts(),
            Reach::Here => Arc::default(),
        }
    }

    fn target(&self, constraints: &Constraints) -> Target {
        let (info, own, others) = (&self.gate.node.info, self.gate.node.runtimes.served(), self.others());
        let known = Snapshot { here: (info.id, &info.name), own: &own, others: &others };
        route::decide(self.body.model(), known, constraints, |host| self.gate.shares.of(host))
    }

    /// HTTP-10: with what could have been named, here and elsewhere.
    fn known(&self) -> Vec<String> {
        route::names(self.gate.node.runtimes.known(), &self.others())
    }

    /// One try, at whoever is best.
    async fn attempt(&self, constraints: &mut Constraints) -> Attempt {
        let mut refused_here = None;
        loop {
            let mut target = self.target(constraints);
            let model = match &target {
                // HTTP-17: a refusal here is final only when nobody else is ready.
                Target::Local(served) if constraints.refused.contains(&served.runtime) => {
                    return Attempt::Nobody(refusal::not_acquired(refused_here.unwrap_or_else(|| {
                        AcquireError::Unavailable(format!("runtime `{}` did not take it", served.runtime))
                    })));
                }
                Target::Unknown | Target::Ambiguous => return Attempt::Nobody(self.nobody(&target)),
                Target::Local(_) | Target::Remote { .. } => target.model().unwrap_or_default(),
            };
            let suspect = Suspect { model: model.to_owned(), body: self.number };
            let turn = match self.turn(&suspect).await {
                Ok(turn) => turn,
                Err(problem) => return Attempt::Refused(problem),
            };
            if turn.has_waited() {
                // Whoever was best before the wait may have died meanwhile.
                target = self.target(constraints);
                if target.model() != Some(suspect.model.as_str()) {
                    continue;
                }
            }
            match target {
                Target::Local(served) if !constraints.refused.contains(&served.runtime) => {
                    match self.acquire(&served, suspect, turn).await {
                        Ok(Some(ticket)) => return attempt::to_engine(self, ticket).await,
                        Ok(None) => {}
                        Err(error) => {
                            constraints.refused.push(served.runtime);
                            refused_here.get_or_insert(error);
                        }
                    }
                }
                Target::Remote { host, name } if self.gate.trials.enter(&turn, &suspect) => {
                    let (route, started) = (self.route.path, self.started);
                    let ticket = Ticket::for_node(&self.gate, host, route, started, (suspect, turn));
                    return attempt::to_node(self, &name, ticket).await;
                }
                Target::Local(_) | Target::Remote { .. } | Target::Unknown | Target::Ambiguous => {}
            }
        }
    }

    /// HTTP-22: at once for who is not suspected, in turn for who is, and never for who has been there too
    /// often.
    async fn turn(&self, suspect: &Suspect) -> Result<Turn, Problem> {
        let trials = &self.gate.trials;
        let mut verdict = trials.verdict(suspect);
        loop {
            if let Verdict::Refused(deaths, wait) = &verdict {
                return Err(refusal::kills_engine(&suspect.model, deaths, *wait));
            }
            let patience = self.deadline.since(self.gate.now());
            let turn =
                tokio::time::timeout(patience, trials.turn(&suspect.model, &verdict, self.started)).await;
            let Ok(turn) = turn else { return Err(refusal::no_turn(&suspect.model, patience)) };
            // The same body may have gone before.
            let now = trials.verdict(suspect);
            if std::mem::replace(&mut verdict, now) == verdict {
                return Ok(turn);
            }
        }
    }

    /// `None`: meanwhile a suspect has come, and goes first (HTTP-22).
    async fn acquire(
        &self,
        served: &Served,
        suspect: Suspect,
        turn: Turn,
    ) -> Result<Option<Ticket>, AcquireError> {
        // HTTP-11: what a first try took is no longer there for a second one.
        let patience = self.deadline.since(self.gate.now());
        let lease = self.gate.node.runtimes.acquire(served.runtime.as_str(), patience).await?;
        let (gate, route, started) = (&self.gate, self.route.path, self.started);
        let enters = gate.trials.enter(&turn, &suspect);
        Ok(enters.then(|| Ticket::for_engine(gate, lease, route, started, (suspect, turn))))
    }

    /// Why there is nobody to ask.
    fn nobody(&self, target: &Target) -> Problem {
        let asked = self.body.model();
        let others = self.others();
        let runtimes = self.gate.node.runtimes.served().len() + others.len();
        let is_alone = self.reach == Reach::Here;
        // HTTP-23: who is away is not unknown.
        let absent =
            if is_alone { Vec::new() } else { route::absent(asked, self.gate.node.cluster.absent()) };
        let is_unnamed = *target == Target::Ambiguous;
        if !absent.is_empty() && (!is_unnamed || runtimes == 0) {
            return refusal::absent(asked, &absent);
        }
        if is_unnamed {
            return refusal::not_named(runtimes, self.known());
        }
        refusal::unknown_model(asked.unwrap_or_default(), self.known())
    }

    /// Finds out what a failed try means, and notes who was asked in vain.
    async fn assess(
        &self,
        ticket: &mut Ticket,
        failure: Failure,
        constraints: &mut Constraints,
    ) -> Assessment {
        constraints.tried.extend(ticket.host().map(|host| host.node));
        let refused = |cause, told, outlives| Assessment { cause, told, outcome: Outcome::Refused, outlives };
        match failure {
            Failure::NotSent(why) => {
                let problem = refusal::no_connection(ticket.runtime(), &why);
                refused(RetryCause::NotSent, Err(problem), false)
            }
            Failure::NotReached(problem) => Assessment {
                outcome: Outcome::NodeLost,
                ..refused(RetryCause::NotReached, Err(problem), true)
            },
            Failure::LostThere(response) => Assessment {
                outcome: Outcome::EngineLost,
                ..refused(RetryCause::Dropped, Ok(response), true)
            },
            Failure::PassedOver(response) => refused(RetryCause::PassedOver, Ok(response), true),
            Failure::TooSmall(response, tokens) => {
                constraints.prompt_tokens = constraints.prompt_tokens.max(Some(tokens));
                constraints.refused.extend(ticket.lease().map(|lease| lease.runtime().clone()));
                refused(RetryCause::PassedOver, Ok(response), true)
            }
            Failure::NodeLost => {
                let (problem, outcome) = ticket.loss();
                Assessment { cause: RetryCause::NodeLost, told: Err(problem), outcome, outlives: true }
            }
            Failure::Dropped => self.assess_engine(ticket).await,
        }
    }

    /// HTTP-22: what became of the engine decides whether the request goes there again.
    async fn assess_engine(&self, ticket: &mut Ticket) -> Assessment {
        let (problem, outcome) = ticket.loss();
        let fate = ticket.fate(self.deadline.since(self.gate.now())).await;
        let Fate::Died(end) = fate else {
            return Assessment { cause: RetryCause::Dropped, told: Err(problem), outcome, outlives: false };
        };
        // The span names the trace: by it whoever reads the log finds the request.
        warn!(
            runtime = ticket.runtime(),
            launch = end.launch,
            in_flight = end.in_flight,
            reason = end.detail,
            "an engine ended with this request in flight"
        );
        let is_the_cause = end.may_be_a_request && ticket.was_lone(&end);
        let problem = ticket.engine_died(&end);
        Assessment { cause: RetryCause::Died { is_the_cause }, told: Err(problem), outcome, outlives: false }
    }

    /// HTTP-18: somebody else could be asked.
    fn is_another(&self, constraints: &Constraints) -> bool {
        match self.target(constraints) {
            Target::Local(served) => !constraints.refused.contains(&served.runtime),
            Target::Remote { host, .. } => !constraints.tried.contains(&host.node),
            Target::Unknown | Target::Ambiguous => false,
        }
    }
}
