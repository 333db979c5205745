//! A pretend executor: it carries out what the machine says, and checks each action against the rules of
//! `spec/supervision.md`.
//!
//! Owns the lives of pretend children. Refuses to look into the machine: what must follow from an event is
//! worked out from the rules in `foresight.rs`, from what was seen of the children's lives alone.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::super::*;
use super::foresight::Foreseen;

/// What there is of a child.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Life {
    Away,
    Starting {
        cancelled: bool,
    },
    Running,
    Stopping,
    /// Killed, and not ended.
    Stuck,
}

/// Why a child that is away will be started in its turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Plan {
    None,
    /// With all others, at the beginning.
    Beginning,
    /// Its group is being restarted.
    Group,
}

/// A child as the executor sees it.
#[derive(Debug)]
pub(super) struct Pretend {
    pub(super) rules: ChildRules,
    pub(super) life: Life,
    pub(super) plan: Plan,
    pub(super) has_run: bool,
    pub(super) is_added: bool,
    /// Asked to stop and stay so.
    pub(super) is_halted: bool,
    /// Asked to be forgotten.
    pub(super) is_removed: bool,
    /// A start was wanted while it was still ending.
    pub(super) comes_back: bool,
    /// Waits alone (one for one).
    pub(super) due: Option<Moment>,
    pub(super) quarantined_until: Option<Moment>,
    pub(super) trials_failed: u32,
    /// Its trial has succeeded then.
    pub(super) trial_over: Option<Moment>,
    /// All failures of a child with a budget of its own, newest last.
    pub(super) failures: Vec<Moment>,
    shown: Option<ActorState>,
}

/// A supervisor with pretend children.
#[derive(Debug)]
pub(super) struct Stage {
    pub(super) machine: SupervisorMachine,
    pub(super) rules: SupervisorRules,
    pub(super) now: Moment,
    pub(super) children: BTreeMap<ChildKey, Pretend>,
    /// All failures that count for the shared budget, newest last.
    pub(super) failures: Vec<Moment>,
    pub(super) begun: bool,
    pub(super) ready: bool,
    pub(super) ending: Option<ExitReason>,
    pub(super) finished: bool,
    /// Incarnations that a group's restart ends first.
    pub(super) group: BTreeSet<ChildKey>,
    /// No child of the group is started before.
    group_due: Moment,
    /// A planned start that the next one waits for.
    in_turn: Option<ChildKey>,
    /// In the order of their happening: `start 0`, `stop 1`, …
    pub(super) diary: Vec<String>,
}

impl Stage {
    pub(super) fn new(rules: SupervisorRules) -> Self {
        let path = ActorPath::root("s");
        Self {
            machine: SupervisorMachine::new(path, rules, 7),
            rules,
            now: Moment::ZERO + Duration::from_secs(1000),
            children: BTreeMap::new(),
            failures: Vec::new(),
            begun: false,
            ready: false,
            ending: None,
            finished: false,
            group: BTreeSet::new(),
            group_due: Moment::ZERO,
            in_turn: None,
            diary: Vec::new(),
        }
    }

    pub(super) fn add(&mut self, rules: ChildRules) -> Result<ChildKey, BadChild> {
        let key = self.machine.add(rules.clone(), [])?;
        self.children.insert(
            key,
            Pretend {
                rules,
                life: Life::Away,
                plan: Plan::None,
                has_run: false,
                is_added: self.begun,
                is_halted: false,
                is_removed: false,
                comes_back: false,
                due: None,
                quarantined_until: None,
                trials_failed: 0,
                trial_over: None,
                failures: Vec::new(),
                shown: None,
            },
        );
        Ok(key)
    }

    /// Passes an event on, and checks all that follows.
    pub(super) fn feed(&mut self, event: SupervisorEvent) -> Vec<SupervisorAction> {
        let mut foreseen = self.foresee(&event);
        let is_timer = event == SupervisorEvent::TimerFired;
        let actions = self.machine.handle(self.now, event);
        for action in &actions {
            assert!(!self.finished, "nothing follows the end: {action:?}");
            self.perform(action, &mut foreseen);
        }
        foreseen.must_be_done();
        if is_timer {
            let due = self.machine.next_deadline();
            assert!(
                due.is_none_or(|due| due > self.now),
                "a timer that has fired must not be due at once again"
            );
        }
        self.check_rest();
        actions
    }

    fn perform(&mut self, action: &SupervisorAction, foreseen: &mut Foreseen) {
        match action {
            SupervisorAction::Start(key) => self.start(*key, foreseen),
            SupervisorAction::CancelStart(key) => {
                foreseen.cancels.remove(key);
                let is_ending = self.ending.is_some();
                let child = self.child(*key);
                assert!(matches!(child.life, Life::Starting { .. }), "only a start can be cancelled");
                assert!(child.is_halted || is_ending, "nobody wanted this start to be cancelled");
                child.life = Life::Starting { cancelled: true };
                self.diary.push(format!("cancel {}", key.0));
            }
            SupervisorAction::Stop(key) => {
                foreseen.stops.remove(key);
                self.stop(*key);
            }
            SupervisorAction::Show(key, state) => self.child(*key).shown = Some(*state),
            SupervisorAction::Healing { child, reason, delay, .. } => {
                foreseen.healed(*child, reason);
                assert!(*delay <= self.rules.backoff.max);
                self.heal(*child, *delay, foreseen);
            }
            SupervisorAction::Quarantined { child, reason, until } => {
                foreseen.quarantined(*child, reason, *until);
                let child = self.child(*child);
                child.quarantined_until = Some(*until);
                child.trials_failed += 1;
                child.plan = Plan::None;
            }
            SupervisorAction::Stuck(key) => foreseen.stuck(*key),
            SupervisorAction::Recovered(key) => {
                foreseen.recovered(*key);
                let child = self.child(*key);
                child.trials_failed = 0;
                child.trial_over = None;
                child.failures.clear();
            }
            SupervisorAction::Forget(key) => {
                foreseen.forgotten(*key);
                assert_eq!(self.child(*key).life, Life::Away, "what lives is not forgotten");
                self.children.remove(key);
                self.diary.push(format!("forget {}", key.0));
            }
            SupervisorAction::Ready => {
                assert!(self.begun && !self.ready && self.ending.is_none());
                assert!(self.in_turn.is_none());
                assert!(self.children.values().all(|child| child.plan == Plan::None));
                self.ready = true;
            }
            SupervisorAction::Finish(reason) => {
                assert_eq!(Some(reason), self.ending.as_ref());
                assert!(self.alive().is_empty(), "the supervisor ends after its children");
                self.finished = true;
                self.diary.push("finish".into());
            }
        }
    }

    /// SUP-2, and SUP-1 for starts.
    fn start(&mut self, key: ChildKey, foreseen: &mut Foreseen) {
        assert!(self.ending.is_none(), "SUP-4: nothing is started once the end has begun");
        assert_eq!(self.child(key).life, Life::Away, "SUP-2: the last incarnation may still live");
        if !foreseen.started(key) {
            let planned = self.children.iter().filter(|(_, child)| child.plan != Plan::None);
            let first = planned.map(|(key, _)| *key).next();
            assert_eq!(first, Some(key), "SUP-1: starts of a plan come in order, and nothing else starts");
            assert_eq!(self.in_turn, None, "SUP-1: one start of a plan after the other");
            if self.child(key).plan == Plan::Group {
                assert!(self.group.is_empty(), "a group starts after all of it has ended: {:?}", self.group);
                assert!(self.now >= self.group_due, "a group waits for its backoff");
            }
            self.in_turn = Some(key);
        }
        let child = self.child(key);
        child.life = Life::Starting { cancelled: false };
        child.plan = Plan::None;
        child.is_halted = false;
        child.comes_back = false;
        child.due = None;
        child.quarantined_until = None;
        self.diary.push(format!("start {}", key.0));
    }

    /// SUP-1 for stops.
    fn stop(&mut self, key: ChildKey) {
        let is_alone = self.child(key).is_halted;
        assert_eq!(self.child(key).life, Life::Running, "only what runs is stopped");
        if self.ending.is_some() && self.rules.stop_order == StopOrder::Together {
            // All at once.
        } else if self.ending.is_some() && !is_alone {
            assert_eq!(self.alive().last(), Some(&key), "SUP-1: stops come in the reverse order of starts");
        } else if !is_alone {
            assert!(self.group.contains(&key), "nobody wanted this stop");
            assert_eq!(self.group.last(), Some(&key), "SUP-1: a group stops in the reverse order of starts");
        }
        self.child(key).life = Life::Stopping;
        self.diary.push(format!("stop {}", key.0));
    }

    /// What a failure that is healed does to the others.
    fn heal(&mut self, failed: ChildKey, delay: Duration, foreseen: &mut Foreseen) {
        let due = self.now + delay;
        if self.rules.strategy == Strategy::OneForOne {
            let child = self.child(failed);
            child.due = (!delay.is_zero()).then_some(due);
            if delay.is_zero() {
                foreseen.starts.insert(failed);
            }
            return;
        }
        let planned =
            self.children.iter().filter(|(_, child)| child.plan == Plan::Group).map(|(key, _)| *key);
        let under_way = planned.chain(self.group.iter().copied()).min();
        // What waits already goes on waiting.
        self.group_due = if under_way.is_some() { self.group_due.max(due) } else { due };
        let from = match self.rules.strategy {
            Strategy::OneForAll | Strategy::OneForOne => ChildKey(0),
            Strategy::RestForOne => under_way.map_or(failed, |lowest| lowest.min(failed)),
        };
        for (&key, child) in self.children.range_mut(from..) {
            let is_alive = !matches!(child.life, Life::Away | Life::Stuck);
            if is_alive {
                self.group.insert(key);
                if self.in_turn == Some(key) {
                    self.in_turn = None;
                }
            }
            let is_wanted = is_alive && !child.is_halted && !child.is_removed;
            let returns = is_wanted && child.rules.restart != Restart::Temporary;
            if key == failed || returns || child.plan == Plan::Beginning {
                child.plan = Plan::Group;
            }
        }
    }

    /// What must be true whenever the machine rests.
    fn check_rest(&self) {
        let is_busy = |child: &Pretend| {
            let is_stuck = child.life == Life::Stuck && self.ending.is_none();
            is_stuck || matches!(child.life, Life::Starting { .. } | Life::Stopping)
        };
        let awaits = self.children.values().any(is_busy) || self.machine.next_deadline().is_some();
        for (key, child) in &self.children {
            let fits = match child.life {
                Life::Away => !matches!(
                    child.shown,
                    Some(ActorState::Starting | ActorState::Running | ActorState::Stopping)
                ),
                Life::Starting { .. } => child.shown == Some(ActorState::Starting),
                Life::Running => child.shown == Some(ActorState::Running),
                Life::Stopping => child.shown == Some(ActorState::Stopping),
                Life::Stuck => matches!(child.shown, Some(ActorState::Quarantined | ActorState::Failed)),
            };
            assert!(fits, "child {} is {:?} and shown as {:?}", key.0, child.life, child.shown);
            assert_eq!(self.machine.find(&child.rules.id), Some(*key));
        }
        if self.ending.is_some() {
            for child in self.children.values() {
                assert_ne!(child.life, Life::Starting { cancelled: false }, "SUP-4: the end cancels starts");
                let waits = self.rules.stop_order == StopOrder::Together && child.life == Life::Running;
                assert!(!waits, "SUP-1: all are stopped at once");
            }
            assert!(
                self.finished || self.children.values().any(is_busy),
                "SUP-4: the end has been forgotten"
            );
            assert_eq!(self.machine.next_deadline(), None, "the end waits for no time");
        } else if self.begun && !awaits {
            for (key, child) in &self.children {
                let runs = child.life == Life::Running || child.is_halted;
                let may_rest = child.rules.restart != Restart::Permanent && child.plan == Plan::None;
                assert!(runs || may_rest, "child {} has been forgotten", key.0);
            }
        }
    }

    pub(super) fn child(&mut self, key: ChildKey) -> &mut Pretend {
        self.children.get_mut(&key).expect("the machine names only children that it has not forgotten")
    }

    pub(super) fn alive(&self) -> Vec<ChildKey> {
        let waits_for = |child: &Pretend| !matches!(child.life, Life::Away | Life::Stuck);
        self.children.iter().filter(|(_, child)| waits_for(child)).map(|(key, _)| *key).collect()
    }

    /// An incarnation is over.
    pub(super) fn is_over(&mut self, key: ChildKey) {
        self.group.remove(&key);
        if self.in_turn == Some(key) {
            self.in_turn = None;
        }
        let child = self.child(key);
        child.life = Life::Away;
        child.trial_over = None;
    }

    /// A planned start has gone through, or is no longer waited for.
    pub(super) fn turn_is_over(&mut self, key: ChildKey) {
        if self.in_turn == Some(key) {
            self.in_turn = None;
        }
    }

    // What examples and properties do:

    pub(super) fn begin(&mut self) {
        self.feed(SupervisorEvent::Begun);
    }

    pub(super) fn up(&mut self, key: ChildKey) {
        self.feed(SupervisorEvent::Started(key));
    }

    pub(super) fn start_fails(&mut self, key: ChildKey) {
        self.feed(SupervisorEvent::StartFailed(key, "no".into()));
    }

    pub(super) fn ends(&mut self, key: ChildKey, reason: ExitReason) {
        self.feed(SupervisorEvent::Ended(key, reason));
    }

    pub(super) fn sticks(&mut self, key: ChildKey) {
        self.feed(SupervisorEvent::Stuck(key));
    }

    pub(super) fn crashes(&mut self, key: ChildKey) {
        self.ends(key, ExitReason::Crash { text: "boom".into(), while_handling: None });
    }

    pub(super) fn pass(&mut self, time: Duration) {
        self.now = self.now + time;
        if self.machine.next_deadline().is_some_and(|due| due <= self.now) {
            self.feed(SupervisorEvent::TimerFired);
        }
    }

    pub(super) fn pass_to_deadline(&mut self) {
        if let Some(due) = self.machine.next_deadline() {
            self.pass(due.since(self.now));
        }
    }

    /// Answers everything, in order, until nothing is left to answer and no time is waited for.
    pub(super) fn settle(&mut self) {
        self.settle_all_but(None);
    }

    /// The same, while this child stays as it is.
    pub(super) fn settle_but(&mut self, key: ChildKey) {
        self.settle_all_but(Some(key));
    }

    fn settle_all_but(&mut self, left_out: Option<ChildKey>) {
        for _ in 0..1_000 {
            let mut asked = self.children.iter().filter(|(key, _)| Some(**key) != left_out);
            let busy = asked.find_map(|(key, child)| match child.life {
                Life::Starting { cancelled: false } => Some(SupervisorEvent::Started(*key)),
                Life::Starting { cancelled: true } => {
                    Some(SupervisorEvent::StartFailed(*key, "cancelled".into()))
                }
                Life::Stopping => Some(SupervisorEvent::Ended(*key, ExitReason::Stop)),
                Life::Stuck if self.ending.is_none() => {
                    Some(SupervisorEvent::Ended(*key, ExitReason::Killed))
                }
                Life::Away | Life::Running | Life::Stuck => None,
            });
            if let Some(event) = busy {
                self.feed(event);
            } else if self.machine.next_deadline().is_some() {
                self.pass_to_deadline();
            } else {
                return;
            }
        }
        panic!("it never settles: {:?}", self.diary);
    }
}
