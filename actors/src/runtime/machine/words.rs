//! The words of a runtime's life: its states, what happens to it, what is to be done.

use std::path::PathBuf;
use std::time::Duration;

use arw_kit::moment::Moment;

use super::health::{HealthAnswer, ProbeKind};
use crate::runtime::launcher::Diagnosis;

/// Where a runtime is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RuntimeState {
    /// No program, and none wanted now.
    Stopped,
    /// The program is being started.
    Starting,
    /// The program runs and loads its model.
    Warming,
    /// It serves.
    Ready,
    /// It runs, but a probe fails.
    Degraded,
    /// It ends: requests in flight may finish first.
    Draining,
    /// It failed and is started again soon.
    Backoff,
    /// It used up its restart budget and is tried again later.
    Quarantined,
    /// It failed in a way that only an operator can mend.
    Failed,
}

impl RuntimeState {
    /// The word in JSON, in tables and in events.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Stopped => "stopped",
            Self::Starting => "starting",
            Self::Warming => "warming",
            Self::Ready => "ready",
            Self::Degraded => "degraded",
            Self::Draining => "draining",
            Self::Backoff => "backoff",
            Self::Quarantined => "quarantined",
            Self::Failed => "failed",
        }
    }

    /// `ok`, `info`, `warning` or `error`: how much it asks for attention.
    #[must_use]
    pub fn severity(self) -> &'static str {
        match self {
            Self::Ready => "ok",
            Self::Stopped | Self::Starting | Self::Warming | Self::Draining => "info",
            Self::Degraded | Self::Backoff => "warning",
            Self::Quarantined | Self::Failed => "error",
        }
    }
}

/// Who wants a start or stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// A person or the API.
    Operator,
    /// A request that needs the engine.
    Demand,
    /// The node, at its start.
    Boot,
    /// Another runtime that needs the memory.
    Eviction,
}

/// What has happened.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(
    missing_docs,
    reason = "`attempt` is the number of the launch that the event belongs to; the rest is said above each"
)]
pub enum RuntimeEvent {
    /// It shall run.
    StartWanted(By),
    /// It shall not run.
    StopWanted(By),
    /// It shall be stopped and started again.
    RestartWanted,
    /// The program runs.
    Launched { attempt: u64 },
    /// The program could not be started; nothing of it is left.
    LaunchFailed { attempt: u64, diagnosis: Diagnosis },
    /// There is no memory for it, and none can be freed.
    NoRoom { attempt: u64, diagnosis: Diagnosis },
    /// The program has ended and was reaped.
    Exited { attempt: u64, by_us: bool, diagnosis: Diagnosis },
    /// A probe was answered, or not.
    Probed { attempt: u64, kind: ProbeKind, answer: HealthAnswer, latency: Duration },
    /// A request got no connection to the program, and another try got none either.
    Refused { attempt: u64 },
    /// The socket file of the running program is not there any more.
    SocketGone { attempt: u64, path: PathBuf },
    /// The program's activity counter, read beside a start-up probe.
    Progressed { attempt: u64, counter: u64 },
    /// Requests that hold a lease now.
    InFlight(u32),
    /// The time of [`RuntimeMachine::next_deadline`](super::RuntimeMachine::next_deadline) has come.
    TimerFired,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(
    missing_docs,
    reason = "`attempt` is the number of the launch that the action belongs to; the rest is said above each"
)]
pub enum RuntimeAction {
    /// Start the program; answer with `Launched` or `LaunchFailed`.
    Launch { attempt: u64 },
    /// Give up the launch that is running; answer as for a launch.
    CancelLaunch { attempt: u64 },
    /// Ask the program to end, and kill it after the grace; answer with `Exited`.
    Terminate { attempt: u64, grace: Duration },
    /// Probe it; answer with `Probed`.
    Probe { attempt: u64, kind: ProbeKind },
    /// The state has changed.
    Changed { from: RuntimeState, to: RuntimeState },
    /// The diagnosis has changed, and nothing else.
    ReasonChanged,
    /// The program runs again after a failure; the first one in a row was then.
    Restarted { since: Moment },
    /// The program was killed and is not gone.
    Stuck { diagnosis: Diagnosis },
    /// A failure was counted.
    Failed { diagnosis: Diagnosis },
    /// Set aside until then.
    Quarantined { until: Moment, diagnosis: Diagnosis },
    /// It serves again after a failure that began then.
    Recovered { since: Moment },
    /// Requests that wait are let through.
    ServeWaiting,
    /// Requests that wait are refused.
    RefuseWaiting,
}
