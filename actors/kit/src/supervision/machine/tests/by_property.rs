//! Whatever children and operators do, in any order: the stage's checks hold, and everything comes to rest.

use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;
// Its own name means something else here.
use proptest::strategy::Strategy as Generator;

use super::super::Strategy;
use super::super::*;
use super::{Life, Stage};
use crate::life::{Backoff, RestartLimits};

/// One thing that happens. Numbers pick among what is there.
#[derive(Clone, Copy, Debug)]
enum Happening {
    StartSucceeds(u8),
    StartFails(u8),
    Ends(u8, End),
    Sticks(u8),
    Pass(u16),
    PassToDeadline,
    TimerFires,
    Add(Kind),
    StartWanted(u8),
    StopWanted(u8),
    RemoveWanted(u8),
    StopRequested,
}

#[derive(Clone, Copy, Debug)]
enum End {
    Normal,
    Crash,
    Killed,
}

#[derive(Clone, Copy, Debug)]
struct Kind {
    restart: Restart,
    significant: bool,
    own_budget: Option<u32>,
}

fn happenings() -> impl Generator<Value = Happening> {
    let end = prop_oneof![1 => Just(End::Normal), 3 => Just(End::Crash), 1 => Just(End::Killed)];
    prop_oneof![
        8 => any::<u8>().prop_map(Happening::StartSucceeds),
        2 => any::<u8>().prop_map(Happening::StartFails),
        8 => (any::<u8>(), end).prop_map(|(at, end)| Happening::Ends(at, end)),
        1 => any::<u8>().prop_map(Happening::Sticks),
        2 => (0_u16..3000).prop_map(Happening::Pass),
        3 => Just(Happening::PassToDeadline),
        1 => Just(Happening::TimerFires),
        1 => kinds().prop_map(Happening::Add),
        1 => any::<u8>().prop_map(Happening::StartWanted),
        1 => any::<u8>().prop_map(Happening::StopWanted),
        1 => any::<u8>().prop_map(Happening::RemoveWanted),
    ]
}

fn kinds() -> impl Generator<Value = Kind> {
    let restart = prop_oneof![3 => Just(Restart::Permanent), 1 => Just(Restart::Transient), 1 => Just(Restart::Temporary)];
    (restart, any::<bool>(), proptest::option::weighted(0.25, 0_u32..3))
        .prop_map(|(restart, significant, own_budget)| Kind { restart, significant, own_budget })
}

fn rules() -> impl Generator<Value = SupervisorRules> {
    let strategy =
        prop_oneof![Just(Strategy::OneForOne), Just(Strategy::OneForAll), Just(Strategy::RestForOne)];
    let auto = prop_oneof![
        3 => Just(AutoShutdown::Never), 1 => Just(AutoShutdown::AnySignificant), 1 => Just(AutoShutdown::AllSignificant)
    ];
    let backoff = prop_oneof![
        Just(Backoff::NONE),
        Just(Backoff::default()),
        Just(Backoff { first: Duration::from_millis(300), ..Backoff::default() }),
    ];
    let stop_order = prop_oneof![3 => Just(StopOrder::Reverse), 1 => Just(StopOrder::Together)];
    (strategy, auto, backoff, 0_u32..6, 0_u64..6, stop_order).prop_map(
        |(strategy, auto_shutdown, backoff, max, window, stop_order)| {
            let limits = RestartLimits { max, window: Duration::from_secs(window) };
            SupervisorRules { strategy, limits, backoff, auto_shutdown, stop_order }
        },
    )
}

fn add(stage: &mut Stage, kind: Kind) {
    let quarantine = |max| Quarantine {
        first: Duration::from_secs(2),
        max: Duration::from_secs(7),
        probation: Duration::from_secs(1),
        limits: RestartLimits { max, window: Duration::from_secs(5) },
    };
    let may_be_significant =
        kind.restart != Restart::Permanent && stage.rules.auto_shutdown != AutoShutdown::Never;
    let rules = ChildRules {
        id: format!("child-{}", stage.children.last_key_value().map_or(0, |(key, _)| key.0 + 1)).into(),
        restart: kind.restart,
        significant: kind.significant && may_be_significant,
        on_exhausted: kind
            .own_budget
            .map_or(OnExhausted::Escalate, |max| OnExhausted::Quarantine(quarantine(max))),
    };
    let added = stage.add(rules);
    assert_eq!(added.is_err(), stage.ending.is_some());
    if let (Ok(key), true) = (added, stage.begun) {
        stage.feed(SupervisorEvent::StartWanted(key));
    }
}

fn pick(stage: &Stage, at: u8, fits: impl Fn(Life) -> bool) -> Option<ChildKey> {
    let all: Vec<_> =
        stage.children.iter().filter(|(_, child)| fits(child.life)).map(|(key, _)| *key).collect();
    (!all.is_empty()).then(|| all[usize::from(at) % all.len()])
}

fn happen(stage: &mut Stage, happening: Happening) {
    let starting = |life| matches!(life, Life::Starting { .. });
    match happening {
        Happening::StartSucceeds(at) => drop(pick(stage, at, starting).map(|key| stage.up(key))),
        Happening::StartFails(at) => drop(pick(stage, at, starting).map(|key| stage.start_fails(key))),
        Happening::Ends(at, end) => {
            let lives = |life| matches!(life, Life::Running | Life::Stopping | Life::Stuck);
            if let Some(key) = pick(stage, at, lives) {
                match end {
                    End::Normal => stage.ends(key, ExitReason::Normal),
                    End::Crash => stage.crashes(key),
                    End::Killed => stage.ends(key, ExitReason::Killed),
                }
            }
        }
        Happening::Sticks(at) => {
            let may_stick = |life| matches!(life, Life::Running | Life::Stopping);
            if let Some(key) = pick(stage, at, may_stick) {
                stage.sticks(key);
            }
        }
        Happening::Pass(ms) => stage.pass(Duration::from_millis(ms.into())),
        Happening::PassToDeadline => stage.pass_to_deadline(),
        Happening::TimerFires => drop(stage.feed(SupervisorEvent::TimerFired)),
        Happening::Add(kind) => add(stage, kind),
        Happening::StartWanted(at) => {
            drop(pick(stage, at, |_| true).map(|key| stage.feed(SupervisorEvent::StartWanted(key))));
        }
        Happening::StopWanted(at) => {
            drop(pick(stage, at, |_| true).map(|key| stage.feed(SupervisorEvent::StopWanted(key))));
        }
        Happening::RemoveWanted(at) => {
            drop(pick(stage, at, |_| true).map(|key| stage.feed(SupervisorEvent::RemoveWanted(key))));
        }
        Happening::StopRequested => drop(stage.feed(SupervisorEvent::StopRequested)),
    }
}

fn begun(rules: SupervisorRules, kinds: Vec<Kind>) -> Stage {
    let mut stage = Stage::new(rules);
    kinds.into_iter().for_each(|kind| add(&mut stage, kind));
    stage.begin();
    stage
}

fn all_runs(stage: &Stage) {
    for (key, child) in &stage.children {
        let is_wanted = child.rules.restart == Restart::Permanent && !child.is_halted;
        assert!(!is_wanted || child.life == Life::Running, "child {} is {child:?}", key.0);
        assert_ne!(child.quarantined_until.map(|_| ()), Some(()), "a trial comes by itself");
    }
    assert!(stage.ready);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// SUP-1, SUP-2, SUP-3, BUDGET-1: the stage checks them at each step.
    #[test]
    fn whatever_happens_every_child_comes_to_what_its_rules_say(
        rules in rules(), kinds in vec(kinds(), 0..6), happenings in vec(happenings(), 0..60),
    ) {
        let mut stage = begun(rules, kinds);
        happenings.into_iter().for_each(|happening| happen(&mut stage, happening));
        stage.settle();
        if stage.ending.is_some() {
            prop_assert!(stage.finished);
        } else {
            all_runs(&stage);
        }
    }

    /// SUP-4: whenever it comes, and whatever still happens after it.
    #[test]
    fn a_stop_request_always_leads_to_the_end(
        rules in rules(), kinds in vec(kinds(), 0..6), before in vec(happenings(), 0..30), after in vec(happenings(), 0..20),
    ) {
        let mut stage = begun(rules, kinds);
        before.into_iter().for_each(|happening| happen(&mut stage, happening));
        happen(&mut stage, Happening::StopRequested);
        after.into_iter().for_each(|happening| happen(&mut stage, happening));
        happen(&mut stage, Happening::StopRequested);
        stage.settle();
        prop_assert!(stage.finished);
    }

    /// SUP-1, from its simplest side.
    #[test]
    fn stops_are_the_reverse_of_starts(count in 0_usize..12) {
        let kind = Kind { restart: Restart::Permanent, significant: false, own_budget: None };
        let mut stage = begun(SupervisorRules::default(), vec![kind; count]);
        stage.settle();
        happen(&mut stage, Happening::StopRequested);
        stage.settle();
        let starts = (0..count).map(|at| format!("start {at}"));
        let stops = (0..count).rev().map(|at| format!("stop {at}"));
        let expected: Vec<String> = starts.chain(stops).chain(["finish".to_owned()]).collect();
        prop_assert_eq!(stage.diary, expected);
    }

    /// The order in which an executor answers is its own affair; a machine that is told the same decides the
    /// same.
    #[test]
    fn the_same_events_lead_to_the_same_actions(
        rules in rules(), kinds in vec(kinds(), 0..5), happenings in vec(happenings(), 0..40),
    ) {
        let mut first = begun(rules, kinds.clone());
        let mut second = begun(rules, kinds);
        for happening in happenings {
            happen(&mut first, happening);
            happen(&mut second, happening);
            prop_assert_eq!(&first.diary, &second.diary);
            prop_assert_eq!(first.machine.next_deadline(), second.machine.next_deadline());
        }
    }
}
