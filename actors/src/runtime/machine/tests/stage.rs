//! A pretend launcher with pretend requests: it carries out what the machine says, and checks each action
//! against the rules of `spec/runtime.md`.
//!
//! Owns the pretend program, the requests that wait and those in flight. Refuses to look into the machine
//! beyond what everyone may read: what must follow from an event is worked out in `foresight.rs`.

use std::time::Duration;

use super::super::*;
use super::foresight::Foreseen;
use crate::runtime::launcher::Cause;

/// What there is of the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Program {
    None,
    Launching { attempt: u64, cancelled: bool },
    Running { attempt: u64, terminated: bool },
}

/// Why a program ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// Nobody asked it to.
    Not,
    /// A stop, a restart, an unload: no failure.
    Wanted,
    /// It did not come up in time, or its probes failed.
    Failing,
    /// Its socket was removed.
    CutOff { is_failure: bool },
}

/// What an event that makes a program end means.
#[derive(Clone, Copy, Debug)]
struct Occasion {
    asks: Asked,
    is_timer: bool,
}

/// A runtime with a pretend program.
#[derive(Debug)]
pub(super) struct Stage {
    pub(super) machine: RuntimeMachine,
    pub(super) rules: RuntimeRules,
    pub(super) now: Moment,
    pub(super) program: Program,
    pub(super) asked: Asked,
    pub(super) state: RuntimeState,
    /// The newest launch, real or (of a server that is not ours) pretended.
    launches: u64,
    probe: Option<(u64, ProbeKind)>,
    pub(super) waiting: u32,
    pub(super) in_flight: u32,
    /// Somebody wants it to run.
    pub(super) is_wanted: bool,
    pub(super) is_held: bool,
    /// Every counted failure since the budget was last given back, newest last.
    pub(super) failures: Vec<Moment>,
    pub(super) trials_failed: u32,
    pub(super) failing_since: Option<Moment>,
    /// The last time a request was in flight, or it became ready.
    pub(super) busy_at: Moment,
    pub(super) ready_at: Moment,
    pub(super) draining_at: Moment,
    /// When its program was asked to end, until it was told that it does not.
    terminated_at: Option<Moment>,
    pub(super) diary: Vec<String>,
}

pub(super) fn diagnosis(permanent: bool) -> Diagnosis {
    Diagnosis { cause: Cause::Crashed, detail: "boom".into(), hint: None, permanent }
}

impl Stage {
    pub(super) fn new(rules: RuntimeRules) -> Self {
        let now = Moment::ZERO + Duration::from_secs(1000);
        Self {
            machine: RuntimeMachine::new(rules, RestartBudget::new(rules.limits), now, 7),
            rules,
            now,
            program: Program::None,
            asked: Asked::Not,
            state: RuntimeState::Stopped,
            launches: 0,
            probe: None,
            waiting: 0,
            in_flight: 0,
            is_wanted: false,
            is_held: false,
            failures: Vec::new(),
            trials_failed: 0,
            failing_since: None,
            busy_at: now,
            ready_at: now,
            draining_at: now,
            terminated_at: None,
            diary: Vec::new(),
        }
    }

    /// Passes an event on, and checks all that follows.
    pub(super) fn feed(&mut self, event: RuntimeEvent) -> Vec<RuntimeAction> {
        let mut foreseen = self.foresee(&event);
        let told = self.in_flight;
        let occasion = self.occasion(&event);
        let actions = self.machine.handle(self.now, event);
        for action in &actions {
            self.perform(action, occasion, &mut foreseen);
        }
        foreseen.must_be_done();
        assert_eq!(self.machine.state().0, self.state, "every change is told");
        self.check_rest();
        if self.in_flight > told {
            self.feed(RuntimeEvent::InFlight(self.in_flight));
        }
        actions
    }

    fn perform(&mut self, action: &RuntimeAction, occasion: Occasion, foreseen: &mut Foreseen) {
        match action {
            RuntimeAction::Launch { attempt } => {
                assert!(self.rules.is_managed, "what is not ours is not launched");
                assert_eq!(self.program, Program::None, "RUN-1: a program may still be alive");
                assert!(*attempt > self.launches, "each launch has a number of its own");
                self.begin_attempt(*attempt);
                self.program = Program::Launching { attempt: *attempt, cancelled: false };
                self.diary.push("launch".into());
            }
            RuntimeAction::CancelLaunch { attempt } => {
                assert_eq!(self.program, Program::Launching { attempt: *attempt, cancelled: false });
                self.program = Program::Launching { attempt: *attempt, cancelled: true };
                self.ask(occasion);
                self.diary.push("cancel".into());
            }
            RuntimeAction::Terminate { attempt, grace } => {
                assert!(self.rules.is_managed, "what is not ours is not ended");
                assert_eq!(
                    self.program,
                    Program::Running { attempt: *attempt, terminated: false },
                    "RUN-2: once"
                );
                assert_eq!(*grace, self.rules.stop_grace, "RUN-2: each has its grace");
                self.ask(occasion);
                self.may_interrupt();
                self.program = Program::Running { attempt: *attempt, terminated: true };
                self.terminated_at = Some(self.now);
                self.diary.push("terminate".into());
            }
            RuntimeAction::Probe { attempt, kind } => self.send_probe(*attempt, *kind),
            RuntimeAction::Changed { from, to } => self.change(*from, *to, occasion, foreseen),
            RuntimeAction::Stuck { .. } => {
                let asked_at =
                    self.terminated_at.take().expect("RUN-6: it is told once, of a program asked to end");
                let patience = self.rules.stop_grace + self.rules.end_patience;
                assert!(self.now.since(asked_at) >= patience, "RUN-6: it still has time");
                assert_eq!(self.machine.severity(), "error", "RUN-6");
                self.diary.push("stuck".into());
            }
            RuntimeAction::ReasonChanged => assert!(self.machine.diagnosis().is_some()),
            RuntimeAction::Restarted { since } => {
                assert!(matches!(self.program, Program::Running { .. }), "only what runs was restarted");
                assert_eq!(Some(*since), self.failing_since);
            }
            RuntimeAction::Failed { diagnosis } => foreseen.failed(diagnosis),
            RuntimeAction::Quarantined { until, .. } => foreseen.quarantined(*until),
            RuntimeAction::Recovered { since } => {
                assert_eq!(Some(*since), self.failing_since.take());
                assert_eq!(self.state, RuntimeState::Ready);
            }
            RuntimeAction::ServeWaiting => {
                assert_eq!(self.machine.state().0, RuntimeState::Ready);
                if self.waiting > 0 {
                    self.busy_at = self.now;
                }
                self.in_flight += std::mem::take(&mut self.waiting);
                self.diary.push("serve".into());
            }
            RuntimeAction::RefuseWaiting => {
                self.waiting = 0;
                self.diary.push("refuse".into());
            }
        }
    }

    fn occasion(&self, event: &RuntimeEvent) -> Occasion {
        let is_timer = *event == RuntimeEvent::TimerFired;
        let is_late = is_timer && matches!(self.state, RuntimeState::Starting | RuntimeState::Warming);
        let asks = match event {
            RuntimeEvent::SocketGone { .. }
            | RuntimeEvent::Probed { answer: HealthAnswer::SocketGone(_), .. } => {
                let is_up = matches!(self.state, RuntimeState::Ready | RuntimeState::Degraded);
                let has_served = is_up && self.now.since(self.ready_at) >= self.rules.probation;
                Asked::CutOff { is_failure: !has_served }
            }
            RuntimeEvent::Probed { .. } => Asked::Failing,
            _ if is_late => Asked::Failing,
            _ => Asked::Wanted,
        };
        Occasion { asks, is_timer }
    }

    /// Something asks the program to end: why?
    fn ask(&mut self, occasion: Occasion) {
        if self.asked == Asked::Not {
            self.asked = occasion.asks;
        }
    }

    /// Requests in flight are cut off only where nothing else helps.
    fn may_interrupt(&self) {
        let is_over = self.now.since(self.draining_at) >= self.rules.drain_timeout;
        assert!(
            self.in_flight == 0 || self.asked == Asked::Failing || is_over,
            "requests in flight may finish first"
        );
    }

    fn send_probe(&mut self, attempt: u64, kind: ProbeKind) {
        if self.rules.is_managed {
            assert_eq!(self.program, Program::Running { attempt, terminated: false });
        } else if attempt > self.launches {
            self.begin_attempt(attempt);
        }
        assert_eq!(attempt, self.launches);
        assert_eq!(
            self.probe.map(|(attempt, _)| attempt).filter(|old| *old == attempt),
            None,
            "one at a time"
        );
        assert!(kind == ProbeKind::Liveness || self.rules.has_work);
        self.probe = Some((attempt, kind));
    }

    fn begin_attempt(&mut self, attempt: u64) {
        self.launches = attempt;
        self.terminated_at = None;
        self.asked = Asked::Not;
        self.probe = None;
    }

    fn change(&mut self, from: RuntimeState, to: RuntimeState, occasion: Occasion, foreseen: &mut Foreseen) {
        assert_eq!(from, self.state);
        self.state = to;
        self.diary.push(to.word().into());
        match to {
            RuntimeState::Ready if from == RuntimeState::Degraded => {}
            RuntimeState::Ready => {
                (self.ready_at, self.busy_at) = (self.now, self.now);
            }
            RuntimeState::Draining => {
                assert!(self.rules.is_managed);
                self.draining_at = self.now;
                self.ask(occasion);
                if self.asked == Asked::Wanted && occasion.is_timer {
                    let idle_after = self.rules.idle_after.expect("only idle programs are unloaded");
                    assert_eq!(from, RuntimeState::Ready);
                    assert_eq!(self.in_flight, 0, "a busy program is not unloaded");
                    assert!(self.now.since(self.busy_at) >= idle_after, "it is unloaded too early");
                    self.is_wanted = false;
                }
            }
            RuntimeState::Quarantined | RuntimeState::Failed | RuntimeState::Backoff => foreseen.entered(to),
            RuntimeState::Stopped
            | RuntimeState::Starting
            | RuntimeState::Warming
            | RuntimeState::Degraded => {}
        }
    }

    /// What must be true whenever the machine rests.
    fn check_rest(&self) {
        let due = self.machine.next_deadline();
        let is_launching = matches!(self.program, Program::Launching { .. });
        let is_ending = matches!(self.program, Program::Running { terminated: true, .. });
        let awaits = is_launching || is_ending || self.probe.is_some() || due.is_some();
        if self.rules.is_managed {
            assert_eq!(self.machine.has_program(), self.program != Program::None);
        }
        match self.state {
            RuntimeState::Stopped | RuntimeState::Failed => {
                assert_eq!(self.program, Program::None);
                assert_eq!((self.waiting, due), (0, None), "nothing will be answered here");
            }
            RuntimeState::Backoff | RuntimeState::Quarantined => {
                assert_eq!(self.program, Program::None);
                assert!(due.is_some(), "it must be tried again");
                assert!(self.state == RuntimeState::Backoff || self.waiting == 0, "the wait would be long");
            }
            RuntimeState::Draining => {
                let waits_for_requests = self.in_flight > 0 && due.is_some();
                assert!(is_launching || is_ending || waits_for_requests, "RUN-2: it was not asked to end");
                assert!(!matches!(self.program, Program::Launching { cancelled: false, .. }));
                let is_told = is_ending && self.terminated_at.is_none();
                assert_eq!(self.machine.severity() == "error", is_told, "RUN-6");
                assert!(!is_told || self.waiting == 0, "RUN-6: the wait would have no end");
                assert!(!is_ending || is_told || due.is_some(), "RUN-6: it might be waited for for ever");
            }
            RuntimeState::Starting | RuntimeState::Warming | RuntimeState::Degraded => assert!(awaits),
            RuntimeState::Ready => {
                assert!(awaits || !self.rules.has_http);
                assert_eq!(self.waiting, 0, "whoever waits is served when it is ready");
            }
        }
        let runs = matches!(self.program, Program::Running { .. });
        assert!(
            runs || !self.rules.is_managed
                || !matches!(self.state, RuntimeState::Ready | RuntimeState::Degraded)
        );
        assert_eq!(self.machine.is_held(), self.is_held);
    }

    // What examples and properties do:

    pub(super) fn start(&mut self) {
        self.feed(RuntimeEvent::StartWanted(By::Operator));
    }

    pub(super) fn stop(&mut self) {
        self.feed(RuntimeEvent::StopWanted(By::Operator));
    }

    /// A request wants the engine, as the actor asks for it.
    pub(super) fn request(&mut self) {
        if self.state == RuntimeState::Ready {
            self.lease_taken();
        } else if !self.is_held {
            self.waiting += 1;
            self.feed(RuntimeEvent::StartWanted(By::Demand));
        }
    }

    fn lease_taken(&mut self) {
        self.in_flight += 1;
        self.busy_at = self.now;
        self.feed(RuntimeEvent::InFlight(self.in_flight));
    }

    pub(super) fn lease_left(&mut self) {
        if self.in_flight > 0 {
            self.in_flight -= 1;
            self.busy_at = self.now;
            self.feed(RuntimeEvent::InFlight(self.in_flight));
        }
    }

    pub(super) fn launched(&mut self) {
        if let Program::Launching { attempt, .. } = self.program {
            self.program = Program::Running { attempt, terminated: false };
            self.feed(RuntimeEvent::Launched { attempt });
        }
    }

    pub(super) fn launch_fails(&mut self, permanent: bool) {
        if let Program::Launching { attempt, .. } = self.program {
            self.program = Program::None;
            self.feed(RuntimeEvent::LaunchFailed { attempt, diagnosis: diagnosis(permanent) });
        }
    }

    pub(super) fn no_room(&mut self) {
        if let Program::Launching { attempt, .. } = self.program {
            self.program = Program::None;
            self.feed(RuntimeEvent::NoRoom { attempt, diagnosis: diagnosis(false) });
        }
    }

    pub(super) fn exits(&mut self, permanent: bool) {
        if let Program::Running { attempt, terminated } = self.program {
            self.program = Program::None;
            // Its connections end with it.
            self.in_flight = 0;
            let diagnosis = diagnosis(permanent);
            self.feed(RuntimeEvent::Exited { attempt, by_us: terminated, diagnosis });
            self.feed(RuntimeEvent::InFlight(0));
        }
    }

    pub(super) fn probed(&mut self, answer: HealthAnswer) {
        if let Some((attempt, kind)) = self.probe.take() {
            let latency = Duration::from_millis(1);
            self.feed(RuntimeEvent::Probed { attempt, kind, answer, latency });
        }
    }

    pub(super) fn refused(&mut self) {
        self.feed(RuntimeEvent::Refused { attempt: self.launches });
    }

    pub(super) fn socket_is_gone(&mut self) {
        let (attempt, path) = (self.launches, "/run/engine.sock".into());
        self.feed(RuntimeEvent::SocketGone { attempt, path });
    }

    pub(super) fn progresses(&mut self, counter: u64) {
        self.feed(RuntimeEvent::Progressed { attempt: self.launches, counter });
    }

    pub(super) fn pass(&mut self, time: Duration) {
        self.now = self.now + time;
        // Two things may be due at once: the end of a start and a probe.
        for _ in 0..2 {
            if self.is_due() {
                self.feed(RuntimeEvent::TimerFired);
            }
        }
        assert!(!self.is_due(), "a timer that fires and changes nothing keeps a core busy");
    }

    fn is_due(&self) -> bool {
        self.machine.next_deadline().is_some_and(|due| due <= self.now)
    }

    pub(super) fn pass_to_deadline(&mut self) {
        if let Some(due) = self.machine.next_deadline() {
            self.pass(due.since(self.now));
        }
    }

    /// A result of an earlier attempt arrives late.
    pub(super) fn stale(&mut self, event: RuntimeEvent) {
        let before = format!("{:?}", self.machine);
        assert_eq!(self.machine.handle(self.now, event), [], "RUN-3");
        assert_eq!(before, format!("{:?}", self.machine), "RUN-3: an old number changes nothing");
    }

    /// The probe that awaits its answer.
    pub(super) fn probe_kind(&self) -> Option<ProbeKind> {
        self.probe.map(|(_, kind)| kind)
    }

    pub(super) fn attempt(&self) -> u64 {
        self.launches
    }

    /// Whether anything is to be answered; does so with success, or else with a failure.
    pub(super) fn answer(&mut self, well: bool) -> bool {
        match self.program {
            Program::Launching { cancelled: false, .. } if well => self.launched(),
            Program::Launching { .. } => self.launch_fails(false),
            Program::Running { terminated: true, .. } => self.exits(false),
            Program::Running { .. } | Program::None if self.probe.is_some() => {
                self.probed(if well { HealthAnswer::Ok } else { HealthAnswer::Failed("no".into()) });
            }
            Program::Running { .. } | Program::None => return false,
        }
        true
    }

    /// Answers everything and lets time pass, until it serves or rests.
    pub(super) fn settle(&mut self) {
        for _ in 0..1_000 {
            let is_answered = self.answer(true);
            let at_rest =
                matches!(self.state, RuntimeState::Ready | RuntimeState::Stopped | RuntimeState::Failed);
            if at_rest && !is_answered {
                return;
            }
            if !is_answered {
                self.lease_left();
                self.pass_to_deadline();
            }
        }
        panic!("it never settles: {:?}", self.diary);
    }
}
