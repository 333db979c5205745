//! Whatever the engine, its requests and its operators do, in any order: the stage's checks hold, and it
//! comes to rest.

use std::time::Duration;

use arw_kit::life::{Backoff, RestartLimits};
use proptest::collection::vec;
use proptest::prelude::*;

use super::super::*;
use super::stage::diagnosis;
use super::{Program, Stage};

/// One thing that happens; what does not fit is skipped.
#[derive(Clone, Copy, Debug)]
enum Happening {
    Start,
    Boot,
    Stop,
    Restart,
    Evict,
    Request,
    LeaseLeft,
    Launched,
    LaunchFails { permanent: bool },
    NoRoom,
    Exits { permanent: bool },
    Probed(Answer),
    Refused,
    SocketGone,
    Progress,
    Pass(u16),
    PassToDeadline,
    TimerFires,
    Stale(u8),
}

#[derive(Clone, Copy, Debug)]
enum Answer {
    Ok,
    Loading,
    Busy,
    Failed,
    Unreachable,
    SocketGone,
}

fn happenings() -> impl Strategy<Value = Happening> {
    let answer = prop_oneof![
        4 => Just(Answer::Ok), 1 => Just(Answer::Loading), 1 => Just(Answer::Busy), 3 => Just(Answer::Failed),
        2 => Just(Answer::Unreachable), 1 => Just(Answer::SocketGone)
    ];
    let permanent = || proptest::bool::weighted(0.15);
    prop_oneof![
        2 => Just(Happening::Start),
        1 => Just(Happening::Boot),
        1 => Just(Happening::Stop),
        1 => Just(Happening::Restart),
        1 => Just(Happening::Evict),
        3 => Just(Happening::Request),
        2 => Just(Happening::LeaseLeft),
        6 => Just(Happening::Launched),
        2 => permanent().prop_map(|permanent| Happening::LaunchFails { permanent }),
        1 => Just(Happening::NoRoom),
        3 => permanent().prop_map(|permanent| Happening::Exits { permanent }),
        8 => answer.prop_map(Happening::Probed),
        1 => Just(Happening::Refused),
        1 => Just(Happening::SocketGone),
        1 => Just(Happening::Progress),
        3 => (0_u16..20_000).prop_map(Happening::Pass),
        6 => Just(Happening::PassToDeadline),
        1 => Just(Happening::TimerFires),
        1 => any::<u8>().prop_map(Happening::Stale),
    ]
}

fn rules(is_managed: bool) -> impl Strategy<Value = RuntimeRules> {
    let backoff = prop_oneof![
        Just(Backoff::NONE),
        Just(RuntimeRules::default().backoff),
        Just(Backoff { first: Duration::from_secs(1), ..RuntimeRules::default().backoff }),
    ];
    let idle_after = proptest::option::of((3_u64..30).prop_map(Duration::from_secs));
    (any::<bool>(), any::<bool>(), backoff, idle_after, 0_u32..4, 1_u32..4, 1_u32..6).prop_map(
        move |(has_http, has_work, backoff, idle_after, max, to_degrade, to_restart)| RuntimeRules {
            is_managed,
            has_http: has_http || !is_managed,
            has_work,
            idle_after,
            backoff,
            failures_to_degrade: to_degrade,
            failures_to_restart: to_restart,
            limits: RestartLimits { max, window: Duration::from_secs(20) },
            quarantine_first: Duration::from_secs(5),
            quarantine_max: Duration::from_secs(15),
            probation: Duration::from_secs(10),
            ..RuntimeRules::default()
        },
    )
}

fn happen(stage: &mut Stage, happening: Happening) {
    match happening {
        Happening::Start => stage.start(),
        Happening::Boot => drop(stage.feed(RuntimeEvent::StartWanted(By::Boot))),
        Happening::Stop => stage.stop(),
        Happening::Restart => drop(stage.feed(RuntimeEvent::RestartWanted)),
        Happening::Evict => drop(stage.feed(RuntimeEvent::StopWanted(By::Eviction))),
        Happening::Request => stage.request(),
        Happening::LeaseLeft => stage.lease_left(),
        Happening::Launched => stage.launched(),
        Happening::LaunchFails { permanent } => stage.launch_fails(permanent),
        Happening::NoRoom => stage.no_room(),
        Happening::Exits { permanent } => stage.exits(permanent),
        Happening::Probed(answer) => stage.probed(match answer {
            Answer::Ok => HealthAnswer::Ok,
            Answer::Loading => HealthAnswer::Loading,
            Answer::Busy => HealthAnswer::Busy,
            Answer::Failed => HealthAnswer::Failed("no".into()),
            Answer::Unreachable => HealthAnswer::Unreachable("refused".into()),
            Answer::SocketGone => HealthAnswer::SocketGone("/run/engine.sock".into()),
        }),
        Happening::Refused => stage.refused(),
        Happening::SocketGone => stage.socket_is_gone(),
        Happening::Progress => stage.progresses(stage.now.as_nanos()),
        Happening::Pass(ms) => stage.pass(Duration::from_millis(ms.into())),
        Happening::PassToDeadline => stage.pass_to_deadline(),
        Happening::TimerFires => drop(stage.feed(RuntimeEvent::TimerFired)),
        Happening::Stale(what) => {
            let event = stale_event(what, stage.attempt());
            stage.stale(event);
        }
    }
}

/// A result with the number of an earlier attempt.
fn stale_event(what: u8, newest: u64) -> RuntimeEvent {
    let attempt = newest.wrapping_sub(1 + u64::from(what / 8));
    let (kind, latency) = (ProbeKind::Liveness, Duration::ZERO);
    match what % 8 {
        0 => RuntimeEvent::Launched { attempt },
        1 => RuntimeEvent::LaunchFailed { attempt, diagnosis: diagnosis(true) },
        2 => RuntimeEvent::NoRoom { attempt, diagnosis: diagnosis(false) },
        3 => RuntimeEvent::Exited { attempt, by_us: false, diagnosis: diagnosis(true) },
        4 => RuntimeEvent::Probed { attempt, kind, answer: HealthAnswer::Ok, latency },
        5 => RuntimeEvent::Refused { attempt },
        6 => RuntimeEvent::SocketGone { attempt, path: "/run/engine.sock".into() },
        _ => RuntimeEvent::Progressed { attempt, counter: u64::MAX },
    }
}

fn played(rules: RuntimeRules, happenings: Vec<Happening>) -> Stage {
    let mut stage = Stage::new(rules);
    happenings.into_iter().for_each(|happening| happen(&mut stage, happening));
    stage
}

/// What is left when everything answers and nothing fails any more.
fn is_well(stage: &Stage) {
    assert_eq!(stage.waiting, 0, "nobody waits for ever");
    if stage.is_wanted {
        assert!(matches!(stage.state, RuntimeState::Ready | RuntimeState::Failed), "it is {:?}", stage.state);
    } else {
        assert_eq!(stage.state, RuntimeState::Stopped);
        assert_eq!(stage.program, Program::None);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// RUN-1, RUN-2, RUN-3, RUN-4, RUN-5: the stage checks them at each step.
    #[test]
    fn whatever_happens_a_wanted_runtime_serves_in_the_end_and_a_stopped_one_has_no_program(
        rules in rules(true), happenings in vec(happenings(), 0..80),
    ) {
        let mut stage = played(rules, happenings);
        stage.settle();
        is_well(&stage);
    }

    /// RUN-5: nothing is tried in a loop for ever without a wait, and nobody waits for it for ever.
    #[test]
    fn a_runtime_that_always_fails_comes_to_a_state_with_a_reason(
        rules in rules(true), happenings in vec(happenings(), 0..40),
    ) {
        let mut stage = played(rules, happenings);
        let rests = |stage: &Stage| matches!(
            stage.state,
            RuntimeState::Backoff | RuntimeState::Quarantined | RuntimeState::Failed | RuntimeState::Stopped
        );
        for _ in 0..100 {
            if rests(&stage) {
                break;
            }
            if let Program::Running { terminated: false, .. } = stage.program {
                stage.exits(false);
            } else if !stage.answer(false) {
                stage.pass_to_deadline();
            }
        }
        prop_assert!(rests(&stage));
        prop_assert_eq!(stage.state == RuntimeState::Stopped, !stage.is_wanted);
        if stage.is_wanted {
            prop_assert!(stage.machine.diagnosis().is_some());
            prop_assert!(stage.machine.retries_at().is_none_or(|at| at > stage.now));
        }
    }

    /// The stage refuses launches and ends of a server that is not ours.
    #[test]
    fn a_server_that_is_not_ours_is_only_watched_and_serves_again_once_it_is_back(
        rules in rules(false), happenings in vec(happenings(), 0..80),
    ) {
        let mut stage = played(rules, happenings);
        for _ in 0..40 {
            // It is down: whoever waits is told so in the end.
            if !stage.answer(false) {
                stage.pass(Duration::from_secs(30));
            }
        }
        prop_assert_eq!(stage.waiting, 0);
        stage.settle();
        is_well(&stage);
    }

    /// RUN-3: also where the actor, and with it the machine, is made anew in between.
    #[test]
    fn no_number_is_used_twice_over_the_incarnations_of_an_actor(
        rules in rules(true), lives in vec(vec(happenings(), 0..20), 1..6),
    ) {
        let mut last = 0;
        for happenings in lives {
            let mut stage = Stage::new(rules);
            stage.machine = stage.machine.continuing(Past { attempt: last, ..Past::default() });
            let mut first = None;
            for happening in happenings {
                happen(&mut stage, happening);
                if stage.machine.attempt() > last {
                    first.get_or_insert(stage.machine.attempt());
                }
            }
            prop_assert!(first.is_none_or(|first| first > last));
            prop_assert!(stage.machine.attempt() >= last);
            // What an earlier life still has to say changes nothing.
            let before = (stage.machine.state(), stage.machine.has_program());
            let late = RuntimeEvent::Exited { attempt: last, by_us: false, diagnosis: diagnosis(false) };
            if stage.machine.attempt() > last {
                prop_assert_eq!(stage.machine.handle(stage.now, late), vec![]);
                prop_assert_eq!((stage.machine.state(), stage.machine.has_program()), before);
            }
            last = stage.machine.attempt();
        }
    }

    /// RUN-1, from its simplest side: commands alone, answers as late as can be.
    #[test]
    fn no_order_of_commands_gives_a_second_program(
        rules in rules(true), commands in vec(prop_oneof![
            Just(Happening::Start), Just(Happening::Stop), Just(Happening::Restart), Just(Happening::Request),
            Just(Happening::Evict), Just(Happening::Launched), Just(Happening::PassToDeadline),
        ], 0..40),
    ) {
        let mut stage = played(rules, commands);
        stage.settle();
        is_well(&stage);
    }
}
