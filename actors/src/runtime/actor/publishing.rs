//! Writes the row that everyone else reads.

use std::sync::Arc;

use arw_kit::clock::Clock;
use arw_kit::life::RestartBudget;
use arw_kit::mailbox::Context;
use arw_kit::moment::{Moment, WallTime};
use arw_kit::tree::ActorState;

use super::{RuntimeActor, RuntimeMessage};
use crate::runtime::launcher::Endpoint;
use crate::runtime::machine::{Health, RuntimeState};
use crate::runtime::row::{
    BudgetRow, HealthRow, LastExitRow, MemoryRow, ProbeRow, QueueRow, RuntimeRow, StartupRow,
};
use crate::runtime::spec::IdleAfter;

impl RuntimeActor {
    pub(super) fn publish(&mut self, context: &Context<RuntimeMessage>) {
        let row = self.row(context.clock());
        self.args.row.store(Arc::new(Some(row)));
        self.args.board.changed();
        self.engine_row.set_budget(self.machine.budget().clone());
        self.remember();
    }

    /// This actor is ended, and its engine with it, whatever its machine was about to do.
    pub(super) fn publish_leaving(&self, context: &Context<RuntimeMessage>) {
        let row = RuntimeRow {
            state: RuntimeState::Draining,
            severity: RuntimeState::Draining.severity(),
            reason: Some("it was removed, or its node is stopping".to_owned()),
            hint: None,
            ..self.row(context.clock())
        };
        self.args.row.store(Arc::new(Some(row)));
        self.args.board.changed();
    }

    /// This actor falls, and its engine with it; its supervisor decides what follows.
    pub(super) fn show_fallen(&self) {
        let Some(row) = self.args.row.load().as_ref().clone() else { return };
        let row = RuntimeRow {
            state: RuntimeState::Backoff,
            severity: RuntimeState::Backoff.severity(),
            reason: Some("the actor that looks after it has fallen; its engine is ended".to_owned()),
            hint: Some("see `arw events` and `arw actors tree`; it is started again by itself".to_owned()),
            pid: None,
            port: None,
            socket: None,
            in_flight: 0,
            ..row
        };
        self.args.row.store(Arc::new(Some(row)));
        self.args.board.changed();
    }

    /// For what moves without a change of state.
    pub(super) fn publish_if_changed(&mut self, context: &Context<RuntimeMessage>) {
        self.forget_who_left();
        let resident_bytes = self.tended.as_ref().and_then(|tended| tended.sample().resident_bytes);
        let budget = budget_row(self.machine.budget(), context.clock());
        let shown = self.args.row.load();
        let is_same = shown.as_ref().as_ref().is_some_and(|row| {
            row.state == self.shown_state()
                && row.memory.resident_bytes == resident_bytes
                && row.in_flight == self.args.meter.in_flight()
                && row.usage == self.args.meter.totals()
                && row.queue.waiting == self.waiting.len()
                && row.restart_budget.used == budget.used
        });
        drop(shown);
        if !is_same {
            self.publish(context);
        }
    }

    /// What tells a runtime that no request starts from one that the next request loads.
    pub(super) fn why_held(&self) -> Option<(String, String)> {
        self.machine.is_held().then(|| {
            ("an operator has stopped it".to_owned(), format!("start it: arw runtime start {}", self.spec.id))
        })
    }

    /// Where the runtime is, what an earlier incarnation of this actor has left included.
    fn shown_state(&self) -> RuntimeState {
        let (state, _) = self.machine.state();
        let is_over = matches!(
            state,
            RuntimeState::Stopped | RuntimeState::Failed | RuntimeState::Quarantined | RuntimeState::Backoff
        );
        if is_over && self.args.gauge.is_alive() { RuntimeState::Draining } else { state }
    }

    pub(super) fn show_state(&self, state: RuntimeState) {
        self.engine_row.set_state(match state {
            RuntimeState::Stopped => ActorState::Stopped,
            RuntimeState::Starting | RuntimeState::Warming => ActorState::Starting,
            RuntimeState::Ready | RuntimeState::Degraded => ActorState::Running,
            RuntimeState::Draining => ActorState::Stopping,
            RuntimeState::Backoff => ActorState::Backoff,
            RuntimeState::Quarantined => ActorState::Quarantined,
            RuntimeState::Failed => ActorState::Failed,
        });
    }

    fn row(&self, clock: Clock) -> RuntimeRow {
        let (state, since) = (self.shown_state(), self.machine.state().1);
        let diagnosis = self.machine.diagnosis();
        let engine = self.engine.as_ref();
        let endpoint = engine.and_then(|engine| engine.endpoint.as_ref());
        RuntimeRow {
            id: self.spec.id.clone(),
            adapter: self.spec.adapter.word(),
            model: self.spec.model.clone(),
            profile: self.spec.profile.clone(),
            state,
            severity: self.machine.severity(),
            reason: diagnosis
                .map(|diagnosis| diagnosis.detail.clone())
                .or_else(|| self.why_held().map(|(why, _)| why)),
            hint: diagnosis
                .and_then(|diagnosis| diagnosis.hint.clone())
                .or_else(|| self.why_held().map(|(_, hint)| hint)),
            pid: engine.and_then(|engine| engine.pid),
            port: match endpoint {
                Some(Endpoint::Tcp(address)) => Some(address.port()),
                Some(Endpoint::Url(url)) => url.port_u16(),
                Some(Endpoint::Unix(_)) | None => None,
            },
            socket: match endpoint {
                Some(Endpoint::Unix(path)) => Some(path.display().to_string()),
                Some(Endpoint::Tcp(_) | Endpoint::Url(_)) | None => None,
            },
            since: wall_of(clock, since),
            retry_at: self.machine.retries_at().map(|at| wall_of(clock, at)),
            auto_start: self.spec.auto_start,
            idle_after_s: IdleAfter::from_span(self.args.rules.idle_after),
            health: health_row(self.machine.health(), clock),
            restart_budget: budget_row(self.machine.budget(), clock),
            last_exit: self.engine_row.last_exit().map(|exit| LastExitRow {
                reason: exit.reason.word(),
                detail: exit.reason.to_string(),
                at: exit.at,
            }),
            queue: QueueRow { waiting: self.waiting.len(), max: self.args.queue_max },
            in_flight: self.args.meter.in_flight(),
            usage: self.args.meter.totals(),
            memory: MemoryRow {
                needed_bytes: self.needed_bytes,
                resident_bytes: self.tended.as_ref().and_then(|tended| tended.sample().resident_bytes),
            },
            context_length: self.context_length(),
            accelerator: self.args.accelerator,
            sandbox: engine.and_then(|engine| engine.sandbox.clone()),
            attempt: self.machine.attempt(),
            is_held: self.machine.is_held(),
        }
    }
}

fn health_row(health: &Health, clock: Clock) -> HealthRow {
    let at = |moment: Option<Moment>| moment.map(|at| wall_of(clock, at));
    let millis = |span: Option<std::time::Duration>| {
        span.map(|span| u64::try_from(span.as_millis()).unwrap_or(u64::MAX))
    };
    let probe = |probe: &crate::runtime::machine::Probe| ProbeRow {
        status: probe.status.word(),
        at: at(probe.at),
        latency_ms: millis(probe.latency),
        failures: probe.failures,
    };
    HealthRow {
        startup: StartupRow {
            status: health.startup.status.word(),
            at: at(health.startup.at),
            took_ms: millis(health.startup.latency),
        },
        liveness: probe(&health.liveness),
        work: probe(&health.work),
    }
}

fn budget_row(budget: &RestartBudget, clock: Clock) -> BudgetRow {
    let usage = budget.usage(clock.now());
    BudgetRow {
        window_s: usage.window.as_secs(),
        max: usage.max,
        used: usage.used,
        remaining: usage.max - usage.used,
        resets_at: usage.resets_at.map(|at| wall_of(clock, at)),
    }
}

/// The calendar time of a moment before or after now.
#[must_use]
pub fn wall_of(clock: Clock, moment: Moment) -> WallTime {
    let (now, wall) = (clock.now(), clock.wall());
    let past = i64::try_from(now.since(moment).as_millis()).unwrap_or(i64::MAX);
    let ahead = i64::try_from(moment.since(now).as_millis()).unwrap_or(i64::MAX);
    WallTime::from_millis(wall.as_millis().saturating_sub(past).saturating_add(ahead))
}
