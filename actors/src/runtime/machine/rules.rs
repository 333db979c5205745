//! The times and limits that a runtime's machine goes by.

use std::time::Duration;

use arw_kit::life::{Backoff, RestartLimits};

/// See each field. Made from the node's configuration and the runtime's own settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RuntimeRules {
    /// ARW starts and ends the program.
    pub is_managed: bool,
    /// It serves HTTP, so it can be probed.
    pub has_http: bool,
    /// It serves completions, so one can be asked for as a probe.
    pub has_work: bool,
    /// A start that shows no progress for so long has failed.
    pub start_timeout: Duration,
    /// A start that takes longer has failed, progress or not.
    pub start_timeout_max: Duration,
    /// Between probes while a program of ours starts: ready is to be noticed within 50 ms. A server of
    /// somebody else, which may stay away for days, is asked less and less often, down to `liveness_every`.
    pub start_probe_every: Duration,
    /// Between liveness probes once it is up.
    pub liveness_every: Duration,
    /// Between work probes once it is up.
    pub work_every: Duration,
    /// Failed probes in a row after which it is degraded.
    pub failures_to_degrade: u32,
    /// Failed probes in a row after which it is ended and started again.
    pub failures_to_restart: u32,
    /// How long requests in flight may go on once it is to end.
    pub drain_timeout: Duration,
    /// How long the program may take to end once asked.
    pub stop_grace: Duration,
    /// How long the kernel may take to clear away a program that was killed at the end of its grace.
    pub end_patience: Duration,
    /// Unload when nobody asked for anything for so long.
    pub idle_after: Option<Duration>,
    /// Restart budget.
    pub limits: RestartLimits,
    /// Waits before restarts.
    pub backoff: Backoff,
    /// Until the first trial of a quarantined runtime; doubled after each failed one.
    pub quarantine_first: Duration,
    /// Until a trial, at most.
    pub quarantine_max: Duration,
    /// Having run so long, it is trusted again: budget and waits start over.
    pub probation: Duration,
}

impl RuntimeRules {
    /// The wait after a start's probe before which so many were sent.
    pub(super) fn start_probe_after(&self, sent: u32) -> Duration {
        if self.is_managed {
            return self.start_probe_every;
        }
        let factor = 1_u32.checked_shl(sent).unwrap_or(u32::MAX);
        self.start_probe_every.saturating_mul(factor).min(self.liveness_every)
    }
}

impl Default for RuntimeRules {
    fn default() -> Self {
        Self {
            is_managed: true,
            has_http: true,
            has_work: true,
            start_timeout: Duration::from_secs(60),
            start_timeout_max: Duration::from_secs(1800),
            start_probe_every: Duration::from_millis(25),
            liveness_every: Duration::from_secs(5),
            work_every: Duration::from_secs(60),
            failures_to_degrade: 2,
            failures_to_restart: 6,
            drain_timeout: Duration::from_secs(30),
            stop_grace: Duration::from_secs(10),
            // Freeing the memory of the largest models takes some seconds.
            end_patience: Duration::from_secs(15),
            idle_after: None,
            limits: RestartLimits { max: 5, window: Duration::from_secs(300) },
            // The first restart begins at once: a crash should cost a user the load time and no more.
            backoff: Backoff {
                first: Duration::ZERO,
                second: Duration::from_millis(500),
                max: Duration::from_secs(30),
                reset_after: Duration::from_secs(300),
            },
            quarantine_first: Duration::from_secs(60),
            quarantine_max: Duration::from_secs(1800),
            probation: Duration::from_secs(60),
        }
    }
}
