//! Tells the journal and the log what happens to a runtime.

use arw_kit::mailbox::Context;
use arw_kit::moment::Moment;
use tracing::{info, warn};

use super::{RuntimeActor, RuntimeMessage, engine_path};
use crate::journal::{CountedFailure, event};
use crate::runtime::launcher::Diagnosis;
use crate::runtime::machine::RuntimeState;

/// The end of the log that goes into the journal: enough to see the error, and not the whole story.
const LOG_TAIL: usize = 12;

impl RuntimeActor {
    pub(super) fn failed(&mut self, context: &Context<RuntimeMessage>, diagnosis: &Diagnosis) {
        let usage = self.machine.budget().usage(context.now());
        warn!(runtime = %self.spec.id, reason = diagnosis.detail, used = usage.used, max = usage.max, "runtime failed");
        let pid = self.ended_pid.take();
        let log_tail = self.args.log.lines(LOG_TAIL).into_iter().map(|line| line.text.to_string()).collect();
        let cause = serde_json::to_value(diagnosis.cause).ok();
        self.args.journal.append(event::Runtime::Exited {
            id: self.spec.id.to_string(),
            pid,
            cause: cause.and_then(|cause| cause.as_str().map(str::to_owned)).unwrap_or_default(),
            detail: diagnosis.detail.clone(),
            hint: diagnosis.hint.clone(),
            restarts_used: usage.used,
            restarts_max: usage.max,
            in_flight: self.args.meter.in_flight(),
            log_tail,
        });
        // From these the budget is rebuilt when the node starts again.
        self.args.journal.append(event::Runtime::EngineFailed {
            id: self.spec.id.to_string(),
            path: engine_path(context.path().as_str()),
            reason: self.last_exit_word(),
            detail: diagnosis.detail.clone(),
            budget: CountedFailure::new(&usage, context.clock().wall()),
        });
    }

    pub(super) fn restarted(&self, context: &Context<RuntimeMessage>, since: Moment) {
        let usage = self.machine.budget().usage(context.now());
        let down = context.now().since(since);
        self.args.journal.append(event::Actor::Restarted {
            path: engine_path(context.path().as_str()),
            reason: self.last_exit_word(),
            detail: self.machine.diagnosis().map_or_else(String::new, |diagnosis| diagnosis.detail.clone()),
            used: usage.used,
            max: usage.max,
            window_s: usage.window.as_secs(),
            at: context.clock().wall(),
            down_ms: Some(u64::try_from(down.as_millis()).unwrap_or(u64::MAX)),
        });
    }

    /// Whatever it failed of, its end has been noted by now.
    fn last_exit_word(&self) -> String {
        self.engine_row.last_exit().map_or("start_failed", |exit| exit.reason.word()).to_owned()
    }

    pub(super) fn changed(&mut self, from: RuntimeState, to: RuntimeState) {
        let diagnosis = self.machine.diagnosis();
        info!(runtime = %self.spec.id, from = from.word(), to = to.word(), "runtime state");
        self.args.journal.append(event::Runtime::StateChanged {
            id: self.spec.id.to_string(),
            from: from.word().to_owned(),
            to: to.word().to_owned(),
            reason: diagnosis.map(|diagnosis| diagnosis.detail.clone()),
            hint: diagnosis.and_then(|diagnosis| diagnosis.hint.clone()),
        });
        self.show_state(to);
    }
}
