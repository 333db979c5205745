//! The three probes of a runtime: when each is due, and what their answers add up to.
//!
//! Refuses to send them, and to decide what a failure means.

use std::path::PathBuf;
use std::time::Duration;

use arw_kit::moment::Moment;

use super::rules::RuntimeRules;

/// Which probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProbeKind {
    /// The health endpoint answers.
    Liveness,
    /// A completion of one token is given: servers answer `/health` while stuck.
    Work,
}

/// What a probe got.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HealthAnswer {
    /// All is well.
    Ok,
    /// The model is being loaded.
    Loading,
    /// No answer in time, but the program is visibly at work: this says nothing either way.
    Busy,
    /// No answer in time, or a wrong one, in words.
    Failed(String),
    /// No connection, in words: of a program that starts this says nothing yet.
    Unreachable(String),
    /// The socket that it was reached by is not there any more.
    SocketGone(PathBuf),
}

impl HealthAnswer {
    /// What is wrong, in words.
    fn fault(&self) -> String {
        match self {
            Self::Ok | Self::Loading | Self::Busy => String::new(),
            Self::Failed(detail) | Self::Unreachable(detail) => detail.clone(),
            Self::SocketGone(path) => format!("there is no socket at {}", path.display()),
        }
    }
}

/// What is known of a probe.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ProbeStatus {
    /// It was never sent, or does not apply.
    #[default]
    Unknown,
    /// The first answer is awaited.
    Pending,
    /// The last answer was good.
    Ok,
    /// The last answer was bad.
    Failing,
}

impl ProbeStatus {
    /// The word in JSON.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Pending => "pending",
            Self::Ok => "ok",
            Self::Failing => "failing",
        }
    }
}

/// One probe's record.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Probe {
    /// What is known.
    pub status: ProbeStatus,
    /// When the last answer came.
    pub at: Option<Moment>,
    /// How long it took; for the start-up probe the whole start.
    pub latency: Option<Duration>,
    /// Bad answers in a row.
    pub failures: u32,
    detail: String,
    next: Option<Moment>,
}

/// The three probes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Health {
    /// From launch to ready.
    pub startup: Probe,
    /// The health endpoint.
    pub liveness: Probe,
    /// A completion of one token.
    pub work: Probe,
    /// One probe at a time: a slow answer must not pile up more.
    outstanding: bool,
    /// Probes that were sent since the start began.
    sent: u32,
}

impl Health {
    pub(super) fn starting(now: Moment) -> Self {
        let startup = Probe { status: ProbeStatus::Pending, at: Some(now), ..Probe::default() };
        Self { startup, ..Self::default() }
    }

    pub(super) fn started(&mut self, now: Moment, took: Duration) {
        self.startup =
            Probe { status: ProbeStatus::Ok, at: Some(now), latency: Some(took), ..Probe::default() };
    }

    /// The program is gone.
    pub(super) fn stopped(&mut self) {
        self.outstanding = false;
        self.liveness.next = None;
        self.work.next = None;
        if self.startup.status == ProbeStatus::Pending {
            self.startup.status = ProbeStatus::Failing;
        }
    }

    pub(super) fn probe_soon(&mut self, now: Moment) {
        self.liveness.next = Some(now);
    }

    /// Looks at it now, unless it is known to be unwell: what counts then is for how long.
    pub(super) fn doubt(&mut self, now: Moment) {
        if self.liveness.failures == 0 {
            self.liveness.next = Some(now);
        }
    }

    /// When a probe is due; none while one is out.
    pub(super) fn next_probe(&self) -> Option<Moment> {
        if self.outstanding {
            return None;
        }
        [self.liveness.next, self.work.next].into_iter().flatten().min()
    }

    pub(super) fn take_due(&mut self, now: Moment, is_up: bool, rules: &RuntimeRules) -> Option<ProbeKind> {
        if self.outstanding {
            return None;
        }
        if is_up && rules.has_work && self.work.next.is_none() {
            self.work.next = Some(now + rules.work_every);
        }
        let is_due = |probe: &Probe| probe.next.is_some_and(|next| next <= now);
        // Liveness first: it is the cheaper one and says more about a program that is gone.
        let (probe, kind, every) = if is_due(&self.liveness) {
            let every = if is_up { rules.liveness_every } else { rules.start_probe_after(self.sent) };
            (&mut self.liveness, ProbeKind::Liveness, every)
        } else if is_up && is_due(&self.work) {
            (&mut self.work, ProbeKind::Work, rules.work_every)
        } else {
            return None;
        };
        probe.next = Some(now + every);
        self.outstanding = true;
        self.sent = self.sent.saturating_add(1);
        Some(kind)
    }

    pub(super) fn answered(
        &mut self,
        now: Moment,
        kind: ProbeKind,
        answer: &HealthAnswer,
        latency: Duration,
        rules: &RuntimeRules,
    ) {
        self.outstanding = false;
        let probe = match kind {
            ProbeKind::Liveness => &mut self.liveness,
            ProbeKind::Work => &mut self.work,
        };
        probe.at = Some(now);
        probe.latency = Some(latency);
        match answer {
            HealthAnswer::Ok => {
                probe.status = ProbeStatus::Ok;
                probe.failures = 0;
            }
            HealthAnswer::Loading | HealthAnswer::Busy => {}
            HealthAnswer::Failed(_) | HealthAnswer::Unreachable(_) | HealthAnswer::SocketGone(_) => {
                probe.status = ProbeStatus::Failing;
                probe.failures = probe.failures.saturating_add(1);
                probe.detail = answer.fault();
                // After a failure the next look comes soon, so that a stuck engine is ended within seconds,
                // not minutes.
                let soon = now + rules.liveness_every;
                probe.next = probe.next.map(|next| next.min(soon));
            }
        }
    }

    /// The worst run of failures, with its words.
    pub(super) fn failing(&self) -> Option<(u32, String)> {
        let (probe, what) = if self.work.failures >= self.liveness.failures {
            (&self.work, "a one-token completion fails")
        } else {
            (&self.liveness, "its health endpoint fails")
        };
        (probe.failures > 0).then(|| (probe.failures, format!("{what}: {}", probe.detail)))
    }
}
