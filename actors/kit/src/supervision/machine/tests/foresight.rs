//! What must follow from an event, by the rules of `spec/supervision.md`, worked out without the machine.
//!
//! Owns the rules as the tests understand them, OTP's budget among them. Refuses to know in which order a
//! plan is carried out: the stage checks that.

use std::collections::BTreeSet;

use super::super::*;
use super::stage::{Life, Plan, Stage};
use crate::life::RestartLimits;

/// How a failure must be answered.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Heal,
    Quarantine(Moment),
}

/// What one event must lead to; each item is taken out when it happens.
#[derive(Debug, Default)]
pub(super) struct Foreseen {
    pub(super) starts: BTreeSet<ChildKey>,
    pub(super) stops: BTreeSet<ChildKey>,
    pub(super) cancels: BTreeSet<ChildKey>,
    verdict: Option<(ChildKey, ExitReason, Verdict)>,
    recoveries: BTreeSet<ChildKey>,
    forgets: BTreeSet<ChildKey>,
    stuck: BTreeSet<ChildKey>,
}

impl Foreseen {
    /// Whether this start was due at once, outside of any plan.
    pub(super) fn started(&mut self, key: ChildKey) -> bool {
        self.starts.remove(&key)
    }

    pub(super) fn healed(&mut self, key: ChildKey, reason: &ExitReason) {
        assert_eq!(self.verdict.take(), Some((key, reason.clone(), Verdict::Heal)));
    }

    pub(super) fn quarantined(&mut self, key: ChildKey, reason: &ExitReason, until: Moment) {
        assert_eq!(self.verdict.take(), Some((key, reason.clone(), Verdict::Quarantine(until))));
    }

    pub(super) fn recovered(&mut self, key: ChildKey) {
        assert!(self.recoveries.remove(&key), "no trial of child {} has succeeded", key.0);
    }

    pub(super) fn forgotten(&mut self, key: ChildKey) {
        assert!(self.forgets.remove(&key), "child {} was to be kept", key.0);
    }

    pub(super) fn stuck(&mut self, key: ChildKey) {
        assert!(self.stuck.remove(&key), "child {} is not stuck", key.0);
    }

    pub(super) fn must_be_done(&self) {
        assert!(self.starts.is_empty(), "not started: {:?}", self.starts);
        assert!(self.stops.is_empty(), "not stopped: {:?}", self.stops);
        assert!(self.cancels.is_empty(), "not cancelled: {:?}", self.cancels);
        assert_eq!(self.verdict, None, "BUDGET-1, SUP-3: this failure was not counted");
        assert!(self.recoveries.is_empty(), "not recovered: {:?}", self.recoveries);
        assert!(self.stuck.is_empty(), "not set aside: {:?}", self.stuck);
        assert!(self.forgets.is_empty(), "not forgotten: {:?}", self.forgets);
    }
}

/// OTP's `add_restart` and `in_period`.
fn otp_allows(failures: &mut Vec<Moment>, now: Moment, limits: RestartLimits) -> bool {
    failures.push(now);
    let counts = |at: &&Moment| now.since(**at) <= limits.window;
    failures.iter().filter(counts).count() <= limits.max as usize
}

impl Stage {
    /// Works out what must follow, and notes what the event itself says.
    pub(super) fn foresee(&mut self, event: &SupervisorEvent) -> Foreseen {
        let mut foreseen = Foreseen::default();
        if self.finished {
            return foreseen;
        }
        match event {
            SupervisorEvent::Begun => {
                self.begun = true;
                for child in self.children.values_mut() {
                    child.plan = Plan::Beginning;
                }
            }
            SupervisorEvent::Started(key) => self.foresee_started(*key, &mut foreseen),
            SupervisorEvent::StartFailed(key, text) => {
                let reason = ExitReason::StartFailed { text: Arc::clone(text) };
                self.foresee_failed_start(*key, reason, &mut foreseen);
            }
            SupervisorEvent::Ended(key, reason) => self.foresee_end(*key, reason.clone(), &mut foreseen),
            SupervisorEvent::Stuck(key) => self.foresee_stuck(*key, &mut foreseen),
            SupervisorEvent::TimerFired => self.foresee_timer(&mut foreseen),
            SupervisorEvent::StartWanted(key) => self.foresee_start(*key, &mut foreseen),
            SupervisorEvent::StopWanted(key) => self.foresee_stop(*key, false, &mut foreseen),
            SupervisorEvent::RemoveWanted(key) => self.foresee_stop(*key, true, &mut foreseen),
            SupervisorEvent::StopRequested => self.begin_end(ExitReason::Stop),
        }
        foreseen
    }

    fn foresee_started(&mut self, key: ChildKey, foreseen: &mut Foreseen) {
        self.turn_is_over(key);
        let now = self.now;
        let child = self.child(key);
        child.life = Life::Running;
        child.has_run = true;
        child.comes_back = false;
        if child.trials_failed > 0
            && let OnExhausted::Quarantine(quarantine) = child.rules.on_exhausted
        {
            child.trial_over = Some(now + quarantine.probation);
        }
        if child.is_halted {
            foreseen.stops.insert(key);
        }
    }

    fn foresee_failed_start(&mut self, key: ChildKey, reason: ExitReason, foreseen: &mut Foreseen) {
        self.is_over(key);
        let (is_ending, is_ready) = (self.ending.is_some(), self.ready);
        let child = self.child(key);
        let is_new = !child.has_run && child.rules.on_exhausted == OnExhausted::Escalate;
        let is_temporary = child.rules.restart == Restart::Temporary;
        if child.is_removed {
            foreseen.forgets.insert(key);
        } else if is_ending || child.is_halted {
            if is_temporary {
                foreseen.forgets.insert(key);
            }
        } else if child.comes_back {
            if child.plan != Plan::Group {
                foreseen.starts.insert(key);
            }
        } else if is_new && (is_ready || child.is_added) {
            foreseen.forgets.insert(key);
        } else if is_new {
            let text = format!("{}: {reason}", child.rules.id).into();
            self.begin_end(ExitReason::StartFailed { text });
        } else if is_temporary {
            foreseen.forgets.insert(key);
        } else {
            self.foresee_failure(key, reason, foreseen);
        }
    }

    fn foresee_end(&mut self, key: ChildKey, reason: ExitReason, foreseen: &mut Foreseen) {
        let is_ending = self.ending.is_some();
        let child = self.child(key);
        let is_planned = child.plan == Plan::Group;
        let is_asked =
            child.life == Life::Stopping || (child.life == Life::Stuck && child.is_halted) || is_planned;
        let rules = child.rules.clone();
        let (is_removed, comes_back) = (child.is_removed, child.comes_back);
        self.is_over(key);
        let is_final = match rules.restart {
            Restart::Permanent => false,
            Restart::Transient => !reason.is_abnormal(),
            Restart::Temporary => true,
        };
        if is_removed {
            foreseen.forgets.insert(key);
            return;
        }
        if comes_back {
            if !is_planned {
                foreseen.starts.insert(key);
            }
            return;
        }
        if !(is_ending || is_asked || is_final) {
            self.foresee_failure(key, reason, foreseen);
            return;
        }
        if rules.restart == Restart::Temporary {
            foreseen.forgets.insert(key);
        }
        if rules.significant && !is_ending && !is_asked && self.shuts_down_after(key) {
            self.begin_end(ExitReason::Normal);
        }
    }

    /// It leaves its group, and nothing waits for it.
    fn foresee_stuck(&mut self, key: ChildKey, foreseen: &mut Foreseen) {
        self.group.remove(&key);
        let child = self.child(key);
        if matches!(child.life, Life::Running | Life::Stopping) {
            child.life = Life::Stuck;
            child.plan = Plan::None;
            child.trial_over = None;
            foreseen.stuck.insert(key);
        }
    }

    fn shuts_down_after(&self, last: ChildKey) -> bool {
        match self.rules.auto_shutdown {
            AutoShutdown::Never => false,
            AutoShutdown::AnySignificant => true,
            AutoShutdown::AllSignificant => self.children.iter().all(|(key, child)| {
                let is_stopped = child.life == Life::Away
                    && child.plan == Plan::None
                    && child.due.is_none()
                    && child.quarantined_until.is_none();
                *key == last || !child.rules.significant || is_stopped
            }),
        }
    }

    /// BUDGET-1, and what follows from it.
    fn foresee_failure(&mut self, key: ChildKey, reason: ExitReason, foreseen: &mut Foreseen) {
        let (now, shared_limits) = (self.now, self.rules.limits);
        let child = self.children.get_mut(&key).expect("a failure of a known child");
        match child.rules.on_exhausted {
            OnExhausted::Escalate => {
                let id = Arc::clone(&child.rules.id);
                if otp_allows(&mut self.failures, now, shared_limits) {
                    foreseen.verdict = Some((key, reason, Verdict::Heal));
                } else {
                    let child = ActorPath::root("s").child(&id);
                    self.begin_end(ExitReason::Escalated { child, text: reason.to_string().into() });
                }
            }
            OnExhausted::Quarantine(quarantine) => {
                let allowed = otp_allows(&mut child.failures, now, quarantine.limits);
                let verdict = if allowed && child.trials_failed == 0 {
                    Verdict::Heal
                } else {
                    let wait = quarantine.first * 2_u32.pow(child.trials_failed.min(16));
                    Verdict::Quarantine(now + wait.min(quarantine.max))
                };
                foreseen.verdict = Some((key, reason, verdict));
            }
        }
    }

    fn foresee_timer(&self, foreseen: &mut Foreseen) {
        if self.ending.is_some() {
            return;
        }
        let is_due = |due: Option<Moment>| due.is_some_and(|due| due <= self.now);
        for (&key, child) in &self.children {
            if is_due(child.due) || is_due(child.quarantined_until) {
                foreseen.starts.insert(key);
            }
            if child.life == Life::Running && is_due(child.trial_over) {
                foreseen.recoveries.insert(key);
            }
        }
    }

    fn foresee_start(&mut self, key: ChildKey, foreseen: &mut Foreseen) {
        let is_ending = self.ending.is_some();
        let in_group = self.group.contains(&key);
        let Some(child) = self.children.get_mut(&key) else { return };
        if is_ending || child.is_removed {
            return;
        }
        match child.life {
            Life::Away if child.plan != Plan::Group => {
                foreseen.starts.insert(key);
            }
            Life::Starting { .. } | Life::Stopping
                if child.is_halted && child.rules.restart != Restart::Temporary =>
            {
                child.is_halted = false;
                child.comes_back = true;
                if in_group {
                    child.plan = Plan::Group;
                }
            }
            Life::Stuck if child.rules.restart != Restart::Temporary => {
                child.is_halted = false;
                child.comes_back = true;
            }
            Life::Away | Life::Starting { .. } | Life::Running | Life::Stopping | Life::Stuck => {}
        }
    }

    fn foresee_stop(&mut self, key: ChildKey, forget: bool, foreseen: &mut Foreseen) {
        let is_ending = self.ending.is_some();
        let Some(child) = self.children.get_mut(&key) else { return };
        child.is_removed |= forget;
        if forget && child.life == Life::Away {
            foreseen.forgets.insert(key);
        }
        if is_ending {
            return;
        }
        child.is_halted = true;
        child.comes_back = false;
        child.plan = Plan::None;
        child.due = None;
        child.quarantined_until = None;
        match child.life {
            Life::Starting { cancelled: false } => drop(foreseen.cancels.insert(key)),
            Life::Running => drop(foreseen.stops.insert(key)),
            Life::Away | Life::Starting { cancelled: true } | Life::Stopping | Life::Stuck => {}
        }
        self.turn_is_over(key);
    }

    fn begin_end(&mut self, reason: ExitReason) {
        if self.ending.is_some() {
            return;
        }
        self.ending = Some(reason);
        self.group.clear();
        for child in self.children.values_mut() {
            child.plan = Plan::None;
            child.comes_back = false;
            child.due = None;
            child.quarantined_until = None;
        }
    }
}
