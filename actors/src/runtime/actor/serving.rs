//! Lets requests through to a ready engine, and keeps those that must wait.

use std::sync::Arc;
use std::time::Duration;

use arw_kit::mailbox::{Context, Reply};
use arw_kit::moment::Moment;
use tokio::sync::watch;

use super::{RuntimeActor, RuntimeMessage, Waiting};
use crate::runtime::lease::{AcquireError, EngineLease, NotReady};
use crate::runtime::machine::{By, RuntimeEvent, RuntimeState};

impl RuntimeActor {
    pub(super) fn acquire(
        &mut self,
        context: &mut Context<RuntimeMessage>,
        reply: Reply<Result<EngineLease, AcquireError>>,
    ) {
        let now = context.now();
        if self.machine.state().0 == RuntimeState::Ready {
            self.lease(reply, now, now);
            // Tells the machine that it is not idle; nothing follows from it while it serves.
            drop(self.machine.handle(now, RuntimeEvent::InFlight(self.args.meter.in_flight())));
            return;
        }
        if self.machine.is_held() {
            self.answer_not_ready(reply, now);
            return;
        }
        self.forget_who_left();
        if self.waiting.len() >= self.args.queue_max {
            let (runtime, waiting) = (self.spec.id.clone(), self.waiting.len());
            reply.send(Err(AcquireError::QueueFull { runtime, waiting }));
            return;
        }
        self.waiting.push_back(Waiting { reply, since: now });
        self.feed(context, RuntimeEvent::StartWanted(By::Demand));
        self.publish(context);
    }

    /// Clients that went away wait for nothing: they are not counted, and take no place from others.
    pub(super) fn forget_who_left(&mut self) {
        self.waiting.retain(|waiting| !waiting.reply.is_abandoned());
    }

    fn lease(&self, reply: Reply<Result<EngineLease, AcquireError>>, since: Moment, now: Moment) {
        let Some(engine) = &self.engine else {
            self.answer_not_ready(reply, now);
            return;
        };
        let Some(endpoint) = engine.endpoint.clone() else {
            self.answer_not_ready(reply, now);
            return;
        };
        self.args.meter.enter();
        // A reply that is refused drops the lease, which gives the slot back.
        reply.send(Ok(EngineLease {
            runtime: self.spec.id.clone(),
            model: self.spec.model.clone(),
            endpoint,
            secret: engine.secret.clone(),
            waited: now.since(since),
            meter: Arc::clone(&self.args.meter),
            end: engine.end.as_ref().map(watch::Sender::subscribe),
        }));
    }

    pub(super) fn serve_waiting(&mut self, context: &Context<RuntimeMessage>) {
        let now = context.now();
        for waiting in std::mem::take(&mut self.waiting) {
            if !waiting.reply.is_abandoned() {
                self.lease(waiting.reply, waiting.since, now);
            }
        }
    }

    pub(super) fn refuse_waiting(&mut self, now: Moment) {
        for waiting in std::mem::take(&mut self.waiting) {
            self.answer_not_ready(waiting.reply, now);
        }
    }

    fn answer_not_ready(&self, reply: Reply<Result<EngineLease, AcquireError>>, now: Moment) {
        let (state, _) = self.machine.state();
        let diagnosis = self.machine.diagnosis();
        let (reason, hint) = if let Some((why, hint)) = self.why_held() {
            (Some(why), Some(hint))
        } else {
            (
                diagnosis.map(|diagnosis| diagnosis.detail.clone()),
                diagnosis.and_then(|diagnosis| diagnosis.hint.clone()),
            )
        };
        let retry_after = match state {
            RuntimeState::Failed => None,
            RuntimeState::Stopped if self.machine.is_held() => None,
            RuntimeState::Quarantined
            | RuntimeState::Backoff
            | RuntimeState::Stopped
            | RuntimeState::Starting
            | RuntimeState::Warming
            | RuntimeState::Ready
            | RuntimeState::Degraded
            | RuntimeState::Draining => Some(self.retry_after(now)),
        };
        let runtime = self.spec.id.clone();
        let not_ready = NotReady { runtime, state, reason, hint, retry_after };
        reply.send(Err(AcquireError::NotReady(not_ready)));
    }

    fn retry_after(&self, now: Moment) -> Duration {
        let due = self.machine.retries_at().map_or(Duration::ZERO, |due| due.since(now));
        due.max(RETRY_AFTER_MIN)
    }
}

/// Asking again sooner would only add to the load.
const RETRY_AFTER_MIN: Duration = Duration::from_secs(1);
