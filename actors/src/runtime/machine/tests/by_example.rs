//! Each transition of the diagram, and each rule, in a small scenario.

use std::time::Duration;

use arw_kit::life::{Backoff, RestartLimits};

use super::super::*;
use super::{Program, Stage};

const SECOND: Duration = Duration::from_secs(1);

fn rules() -> RuntimeRules {
    RuntimeRules { has_work: false, ..RuntimeRules::default() }
}

fn unreachable() -> HealthAnswer {
    HealthAnswer::Unreachable("connection refused at http://127.0.0.1:9".into())
}

fn external() -> RuntimeRules {
    RuntimeRules { is_managed: false, ..rules() }
}

/// Restarts cost a second each, and the second failure is one too many.
fn strict() -> RuntimeRules {
    RuntimeRules {
        limits: RestartLimits { max: 1, window: 300 * SECOND },
        backoff: Backoff { first: SECOND, second: SECOND, max: SECOND, reset_after: 300 * SECOND },
        ..rules()
    }
}

/// It serves, and nothing is in the diary yet.
fn ready(rules: RuntimeRules) -> Stage {
    let mut stage = Stage::new(rules);
    stage.start();
    stage.launched();
    stage.probed(HealthAnswer::Ok);
    assert_eq!(stage.state, RuntimeState::Ready);
    stage.diary.clear();
    stage
}

fn quarantined() -> Stage {
    let mut stage = ready(strict());
    stage.exits(false);
    stage.pass_to_deadline();
    stage.launch_fails(false);
    assert_eq!(stage.state, RuntimeState::Quarantined);
    stage.diary.clear();
    stage
}

fn fails() -> HealthAnswer {
    HealthAnswer::Failed("no answer".into())
}

/// Until the next probe is out; then it is answered so.
fn next_probe(stage: &mut Stage, answer: HealthAnswer) {
    stage.pass_to_deadline();
    stage.probed(answer);
}

#[track_caller]
fn did(stage: &mut Stage, expected: &str) {
    let diary: Vec<String> = std::mem::take(&mut stage.diary);
    assert_eq!(diary.join(", "), expected);
}

// Starting.

#[test]
fn a_start_launches_probes_and_serves() {
    let mut stage = Stage::new(rules());
    stage.request();
    did(&mut stage, "starting, launch");
    stage.launched();
    stage.probed(fails());
    next_probe(&mut stage, HealthAnswer::Loading);
    did(&mut stage, "warming");
    next_probe(&mut stage, HealthAnswer::Ok);
    did(&mut stage, "ready, serve");
    assert_eq!((stage.waiting, stage.in_flight), (0, 1));
}

#[test]
fn a_program_without_http_serves_as_soon_as_it_runs() {
    let mut stage = Stage::new(RuntimeRules { has_http: false, ..rules() });
    stage.start();
    stage.launched();
    did(&mut stage, "starting, launch, ready, serve");
    assert_eq!(stage.machine.next_deadline(), None);
}

#[test]
fn ready_is_noticed_within_fifty_milliseconds() {
    let mut stage = Stage::new(rules());
    stage.start();
    stage.launched();
    stage.probed(HealthAnswer::Loading);
    let wait = stage.machine.next_deadline().map(|due| due.since(stage.now));
    assert!(wait.is_some_and(|wait| wait <= Duration::from_millis(50)), "{wait:?}");
}

#[test]
fn a_start_without_progress_has_failed_at_its_deadline() {
    let mut stage = Stage::new(rules());
    stage.start();
    stage.launched();
    stage.probed(HealthAnswer::Loading);
    stage.pass(60 * SECOND);
    did(&mut stage, "starting, launch, warming, draining, terminate");
    let gone_by = stage.now + stage.rules.stop_grace + stage.rules.end_patience;
    assert_eq!(stage.machine.next_deadline(), Some(gone_by), "only its exit is awaited now");
    stage.exits(false);
    did(&mut stage, "backoff, starting, launch");
    let detail = stage.machine.diagnosis().map(|diagnosis| diagnosis.detail.clone());
    assert_eq!(detail.as_deref(), Some("not ready after 60 s, and no progress seen for 60 s"));
}

#[test]
fn a_launch_that_hangs_is_cancelled_at_the_deadline_and_counts_as_a_failure() {
    let mut stage = Stage::new(rules());
    stage.start();
    stage.pass_to_deadline();
    did(&mut stage, "starting, launch, cancel, draining");
    stage.launch_fails(false);
    did(&mut stage, "backoff, starting, launch");
    assert_eq!(stage.machine.budget().usage(stage.now).used, 1);
}

#[test]
fn progress_pushes_the_deadline_out_up_to_a_limit() {
    let mut stage = Stage::new(RuntimeRules { start_timeout_max: 100 * SECOND, ..rules() });
    stage.start();
    stage.launched();
    for step in 1..4 {
        stage.pass(25 * SECOND);
        stage.progresses(step);
        stage.probed(HealthAnswer::Loading);
        assert_eq!(stage.state, RuntimeState::Warming);
    }
    stage.pass(24 * SECOND);
    stage.probed(HealthAnswer::Loading);
    assert_eq!(stage.state, RuntimeState::Warming);
    stage.pass(SECOND);
    assert_eq!(stage.state, RuntimeState::Draining);
}

#[test]
fn a_counter_that_stands_still_is_no_progress() {
    let mut stage = Stage::new(rules());
    stage.start();
    stage.launched();
    stage.progresses(7);
    stage.pass(40 * SECOND);
    stage.progresses(7);
    stage.probed(HealthAnswer::Loading);
    stage.pass(20 * SECOND);
    assert_eq!(stage.state, RuntimeState::Draining);
}

#[test]
fn without_room_it_stops_and_says_why() {
    let mut stage = Stage::new(rules());
    stage.request();
    stage.no_room();
    did(&mut stage, "starting, launch, stopped, refuse");
    assert!(stage.machine.diagnosis().is_some());
    assert_eq!(stage.machine.budget().usage(stage.now).used, 0, "too little memory is no failure of its own");
    stage.request();
    did(&mut stage, "starting, launch");
}

// Serving.

#[test]
fn failed_probes_degrade_it_and_a_good_one_mends_it() {
    let mut stage = ready(rules());
    next_probe(&mut stage, fails());
    did(&mut stage, "");
    next_probe(&mut stage, fails());
    did(&mut stage, "degraded");
    assert!(
        stage.machine.diagnosis().is_some_and(|why| why.detail == "its health endpoint fails: no answer")
    );
    stage.request();
    assert_eq!(stage.waiting, 1);
    next_probe(&mut stage, HealthAnswer::Ok);
    did(&mut stage, "ready, serve");
    assert_eq!(stage.machine.diagnosis(), None);
}

#[test]
fn probes_that_go_on_failing_end_it_whatever_is_in_flight() {
    let mut stage = ready(rules());
    stage.request();
    for _ in 0..6 {
        next_probe(&mut stage, fails());
    }
    did(&mut stage, "degraded, draining, terminate");
    stage.exits(false);
    did(&mut stage, "backoff, starting, launch");
    assert_eq!(stage.machine.budget().usage(stage.now).used, 1);
}

#[test]
fn an_engine_whose_health_is_fine_but_does_no_work_is_ended_too() {
    let mut stage = ready(RuntimeRules { has_work: true, liveness_every: 10 * SECOND, ..rules() });
    for _ in 0..100 {
        stage.pass_to_deadline();
        let work_failed = stage.machine.health().work.failures;
        // The probe that is out is the work probe whenever liveness is not due.
        let answer = if stage.probe_kind() == Some(ProbeKind::Work) { fails() } else { HealthAnswer::Ok };
        stage.probed(answer);
        if stage.state == RuntimeState::Draining {
            assert_eq!(work_failed, 5);
            return;
        }
    }
    panic!("it was never ended: {:?}", stage.diary);
}

#[test]
fn a_busy_engine_is_neither_well_nor_failing() {
    let mut stage = ready(rules());
    for _ in 0..10 {
        next_probe(&mut stage, HealthAnswer::Busy);
    }
    did(&mut stage, "");
}

#[test]
fn one_probe_is_out_at_a_time() {
    let mut stage = ready(RuntimeRules { has_work: true, ..rules() });
    stage.pass(120 * SECOND);
    assert!(stage.probe_kind().is_some());
    assert_eq!(stage.machine.next_deadline(), None, "nothing is due before it is answered");
}

#[test]
fn an_idle_program_is_unloaded_and_comes_back_with_the_next_request() {
    let mut stage =
        ready(RuntimeRules { idle_after: Some(60 * SECOND), liveness_every: 600 * SECOND, ..rules() });
    next_probe(&mut stage, HealthAnswer::Ok);
    stage.pass_to_deadline();
    assert_eq!(stage.now.since(stage.ready_at), 60 * SECOND);
    did(&mut stage, "draining, terminate");
    stage.request();
    stage.exits(false);
    did(&mut stage, "starting, launch");
}

#[test]
fn a_busy_program_is_not_unloaded() {
    let mut stage =
        ready(RuntimeRules { idle_after: Some(10 * SECOND), liveness_every: 600 * SECOND, ..rules() });
    stage.request();
    next_probe(&mut stage, HealthAnswer::Ok);
    stage.pass(100 * SECOND);
    did(&mut stage, "");
    stage.lease_left();
    stage.pass(9 * SECOND);
    did(&mut stage, "");
    stage.pass(SECOND);
    did(&mut stage, "draining, terminate");
}

#[test]
fn only_an_idle_program_that_serves_is_evicted() {
    let evict = RuntimeEvent::StopWanted(By::Eviction);
    let mut stage = Stage::new(rules());
    stage.start();
    stage.feed(evict.clone());
    stage.launched();
    stage.feed(evict.clone());
    stage.probed(HealthAnswer::Ok);
    stage.request();
    stage.feed(evict.clone());
    did(&mut stage, "starting, launch, ready, serve");
    stage.lease_left();
    stage.feed(evict);
    did(&mut stage, "draining, terminate");
    stage.exits(false);
    did(&mut stage, "stopped, refuse");
    assert!(!stage.machine.is_held(), "the next request may start it");
}

// Ending.

/// RUN-2.
#[test]
fn a_stop_lets_requests_in_flight_finish() {
    let mut stage = ready(rules());
    stage.request();
    stage.stop();
    did(&mut stage, "draining");
    stage.lease_left();
    did(&mut stage, "terminate");
    stage.exits(false);
    did(&mut stage, "stopped, refuse");
}

/// RUN-2.
#[test]
fn requests_that_do_not_finish_are_cut_off_after_the_drain() {
    let mut stage = ready(rules());
    stage.request();
    stage.stop();
    stage.pass(29 * SECOND);
    stage.stop();
    did(&mut stage, "draining");
    stage.pass(SECOND);
    did(&mut stage, "terminate");
}

/// RUN-1.
#[test]
fn a_start_while_it_ends_waits_for_the_end() {
    let mut stage = ready(rules());
    stage.stop();
    stage.start();
    did(&mut stage, "draining, terminate");
    stage.exits(false);
    did(&mut stage, "starting, launch");
}

/// RUN-1.
#[test]
fn a_restart_launches_when_the_program_has_ended() {
    let mut stage = ready(rules());
    stage.feed(RuntimeEvent::RestartWanted);
    stage.feed(RuntimeEvent::RestartWanted);
    did(&mut stage, "draining, terminate");
    stage.exits(false);
    did(&mut stage, "starting, launch");
}

/// RUN-1.
#[test]
fn a_launch_that_succeeds_after_its_cancellation_is_ended_before_the_next() {
    let mut stage = Stage::new(rules());
    stage.start();
    stage.stop();
    stage.start();
    did(&mut stage, "starting, launch, cancel, draining");
    stage.launched();
    did(&mut stage, "terminate");
    stage.exits(false);
    did(&mut stage, "starting, launch");
}

/// RUN-1.
#[test]
fn a_restart_is_heeded_although_the_cancelled_launch_found_no_room() {
    let mut stage = Stage::new(rules());
    stage.start();
    stage.feed(RuntimeEvent::RestartWanted);
    stage.no_room();
    did(&mut stage, "starting, launch, cancel, draining, starting, launch");
}

#[test]
fn the_last_wish_counts_while_it_ends() {
    let mut stage = ready(rules());
    stage.feed(RuntimeEvent::RestartWanted);
    stage.stop();
    stage.exits(false);
    did(&mut stage, "draining, terminate, stopped, refuse");
}

#[test]
fn a_request_does_not_start_what_an_operator_has_stopped() {
    let mut stage = ready(rules());
    stage.stop();
    stage.exits(false);
    for by in [By::Demand, By::Boot] {
        stage.feed(RuntimeEvent::StartWanted(by));
    }
    did(&mut stage, "draining, terminate, stopped, refuse");
    assert!(stage.machine.is_held());
    stage.start();
    assert!(!stage.machine.is_held());
    did(&mut stage, "starting, launch");
}

#[test]
fn a_stop_refuses_whoever_waits_for_the_start() {
    let mut stage = Stage::new(rules());
    stage.request();
    stage.stop();
    stage.launch_fails(false);
    did(&mut stage, "starting, launch, cancel, draining, stopped, refuse");
}

/// RUN-3.
#[test]
fn results_of_an_earlier_attempt_change_nothing() {
    let mut stage = ready(rules());
    let attempt = stage.attempt();
    stage.exits(false);
    let diagnosis = super::stage::diagnosis(true);
    let latency = Duration::ZERO;
    for event in [
        RuntimeEvent::Launched { attempt },
        RuntimeEvent::LaunchFailed { attempt, diagnosis: diagnosis.clone() },
        RuntimeEvent::NoRoom { attempt, diagnosis: diagnosis.clone() },
        RuntimeEvent::Exited { attempt, by_us: false, diagnosis },
        RuntimeEvent::Probed { attempt, kind: ProbeKind::Liveness, answer: HealthAnswer::Ok, latency },
        RuntimeEvent::Progressed { attempt, counter: 9 },
    ] {
        stage.stale(event);
    }
}

// Failing.

#[test]
fn the_first_crash_is_answered_at_once_and_the_next_ones_after_a_wait() {
    let mut stage = ready(rules());
    stage.exits(false);
    did(&mut stage, "backoff, starting, launch");
    stage.launch_fails(false);
    did(&mut stage, "backoff");
    let wait = stage.machine.retries_at().expect("it is tried again").since(stage.now);
    assert!(wait >= Duration::from_millis(400) && wait <= Duration::from_millis(600), "{wait:?}");
    stage.pass_to_deadline();
    did(&mut stage, "starting, launch");
}

#[test]
fn requests_wait_through_a_crash() {
    let mut stage = ready(strict());
    stage.exits(false);
    stage.request();
    assert_eq!(stage.waiting, 1);
    stage.settle();
    did(&mut stage, "backoff, starting, launch, ready, serve");
    assert_eq!(stage.waiting, 0);
}

/// RUN-4.
#[test]
fn an_exit_that_we_caused_spends_nothing() {
    let mut stage = ready(rules());
    stage.feed(RuntimeEvent::RestartWanted);
    stage.exits(false);
    stage.launched();
    stage.stop();
    stage.exits(true);
    stage.start();
    stage.stop();
    stage.launch_fails(true);
    assert_eq!(stage.state, RuntimeState::Stopped);
    assert_eq!(stage.machine.budget().usage(stage.now).used, 0);
}

/// RUN-4.
#[test]
fn a_crash_during_a_drain_is_what_was_wanted() {
    let mut stage = ready(rules());
    stage.request();
    stage.stop();
    stage.exits(false);
    did(&mut stage, "draining, stopped, refuse");
}

/// RUN-5.
#[test]
fn one_failure_more_than_the_budget_quarantines_it_with_a_reason_and_a_hint() {
    let mut stage = ready(strict());
    stage.exits(false);
    did(&mut stage, "backoff");
    stage.request();
    stage.pass_to_deadline();
    stage.launch_fails(false);
    did(&mut stage, "starting, launch, quarantined, refuse");
    let why = stage.machine.diagnosis().expect("a reason");
    assert_eq!(why.detail, "boom");
    assert!(why.hint.is_some());
    assert_eq!(stage.machine.retries_at(), Some(stage.now + 60 * SECOND));
}

/// RUN-5.
#[test]
fn a_request_for_a_quarantined_runtime_is_refused_at_once() {
    let mut stage = quarantined();
    stage.request();
    did(&mut stage, "refuse");
}

/// RUN-5.
#[test]
fn trials_come_later_after_each_failed_one_up_to_a_limit() {
    let mut stage = quarantined();
    for minutes in [1, 2, 4, 8, 16, 30, 30] {
        assert_eq!(stage.machine.next_deadline(), Some(stage.now + minutes * 60 * SECOND));
        stage.pass_to_deadline();
        stage.launch_fails(false);
    }
}

/// RUN-5.
#[test]
fn a_trial_that_holds_gives_the_budget_back() {
    let mut stage = quarantined();
    stage.pass_to_deadline();
    stage.launched();
    stage.probed(HealthAnswer::Ok);
    did(&mut stage, "starting, launch, ready, serve");
    assert_eq!(stage.failing_since, None, "it has recovered");
    while stage.now.since(stage.ready_at) < 60 * SECOND {
        next_probe(&mut stage, HealthAnswer::Ok);
    }
    assert_eq!(stage.machine.budget().usage(stage.now).used, 0);
    stage.exits(false);
    did(&mut stage, "backoff");
}

/// RUN-5.
#[test]
fn a_trial_that_does_not_hold_ends_in_quarantine_again() {
    let mut stage = quarantined();
    stage.pass_to_deadline();
    stage.launched();
    stage.probed(HealthAnswer::Ok);
    stage.exits(false);
    did(&mut stage, "starting, launch, ready, serve, quarantined, refuse");
}

/// RUN-5.
#[test]
fn an_operator_starts_a_quarantined_runtime_with_its_whole_budget() {
    for event in [RuntimeEvent::StartWanted(By::Operator), RuntimeEvent::RestartWanted] {
        let mut stage = quarantined();
        stage.feed(event);
        assert_eq!(stage.machine.budget().usage(stage.now).used, 0);
        stage.launch_fails(false);
        did(&mut stage, "starting, launch, backoff");
    }
}

/// RUN-5.
#[test]
fn a_permanent_cause_waits_for_an_operator() {
    let mut stage = Stage::new(rules());
    stage.request();
    stage.launch_fails(true);
    did(&mut stage, "starting, launch, failed, refuse");
    assert_eq!(stage.machine.next_deadline(), None);
    stage.request();
    did(&mut stage, "refuse");
    stage.start();
    did(&mut stage, "starting, launch");
}

#[test]
fn waits_are_ended_by_a_stop() {
    let mut backoff = ready(strict());
    backoff.exits(false);
    let mut failed = Stage::new(rules());
    failed.start();
    failed.launch_fails(true);
    for mut stage in [backoff, quarantined(), failed] {
        stage.diary.clear();
        stage.stop();
        did(&mut stage, "stopped, refuse");
        assert_eq!(stage.machine.diagnosis(), None);
    }
}

#[test]
fn having_served_long_enough_it_is_trusted_again() {
    let mut stage = ready(rules());
    stage.exits(false);
    stage.launched();
    stage.probed(HealthAnswer::Ok);
    while stage.now.since(stage.ready_at) < 60 * SECOND {
        next_probe(&mut stage, HealthAnswer::Ok);
    }
    stage.diary.clear();
    stage.exits(false);
    did(&mut stage, "backoff, starting, launch");
}

#[test]
fn a_budget_of_earlier_times_counts() {
    let mut budget = RestartBudget::new(strict().limits);
    let now = Moment::ZERO + 1000 * SECOND;
    budget.spend(now);
    let mut machine = RuntimeMachine::new(strict(), budget, now, 7);
    machine.handle(now, RuntimeEvent::StartWanted(By::Boot));
    let diagnosis = super::stage::diagnosis(false);
    machine.handle(now, RuntimeEvent::LaunchFailed { attempt: 1, diagnosis });
    assert_eq!(machine.state().0, RuntimeState::Quarantined);
}

// A server that is not ours.

#[test]
fn an_external_server_is_probed_and_never_launched() {
    let mut stage = Stage::new(external());
    stage.start();
    stage.probed(HealthAnswer::Ok);
    did(&mut stage, "starting, ready, serve");
    stage.stop();
    did(&mut stage, "stopped, refuse");
    assert_eq!(stage.program, Program::None);
}

#[test]
fn an_external_server_that_is_down_at_first_is_waited_for() {
    let mut stage = Stage::new(external());
    stage.request();
    stage.probed(unreachable());
    next_probe(&mut stage, HealthAnswer::Ok);
    did(&mut stage, "starting, ready, serve");
    assert_eq!(stage.machine.diagnosis(), None);
}

#[test]
fn requests_for_an_external_server_that_is_not_there_are_refused_within_seconds_and_told_why() {
    for answer in [unreachable(), HealthAnswer::Failed("it refuses our key (401): check api_key_env".into())]
    {
        let (HealthAnswer::Failed(why) | HealthAnswer::Unreachable(why)) = answer.clone() else {
            panic!("both have words")
        };
        let mut stage = Stage::new(external());
        let began = stage.now;
        stage.request();
        stage.probed(answer.clone());
        let told = stage.machine.diagnosis().unwrap();
        assert!(told.detail.contains(&why), "{}", told.detail);
        assert!(told.hint.as_ref().unwrap().contains("base_url"), "{told:?}");
        while stage.waiting > 0 {
            next_probe(&mut stage, answer.clone());
        }
        assert!(stage.now.since(began) <= 5 * SECOND, "{:?}", stage.now.since(began));
        // And it is looked for all the time.
        stage.request();
        next_probe(&mut stage, answer);
        assert_eq!(stage.waiting, 0);
        next_probe(&mut stage, HealthAnswer::Ok);
        assert_eq!(stage.state, RuntimeState::Ready);
    }
}

#[test]
fn an_external_server_that_stays_away_is_asked_seldom() {
    for answer in [unreachable(), fails(), HealthAnswer::Loading] {
        let mut stage = Stage::new(external());
        stage.start();
        let (mut probes, began) = (1, stage.now);
        stage.probed(answer.clone());
        while stage.now.since(began) < 60 * SECOND {
            next_probe(&mut stage, answer.clone());
            probes += 1;
        }
        assert!((12..=24).contains(&probes), "{probes} in a minute");
    }
}

#[test]
fn a_program_whose_health_endpoint_answers_wrongly_says_so_while_it_starts_and_when_it_is_late() {
    let mut stage = Stage::new(rules());
    stage.request();
    stage.launched();
    stage.probed(unreachable());
    assert_eq!(stage.machine.diagnosis(), None, "it does not listen yet");
    next_probe(&mut stage, HealthAnswer::Failed("it answers 500".into()));
    assert!(stage.machine.diagnosis().unwrap().detail.contains("it answers 500"));
    assert_eq!(stage.waiting, 1, "it may still come up");
    stage.pass(rules().start_timeout + SECOND);
    stage.exits(false);
    let told = stage.machine.diagnosis().unwrap();
    assert!(
        told.detail.starts_with("not ready after 6") && told.detail.contains("it answers 500"),
        "{told:?}"
    );
}

#[test]
fn a_program_was_restarted_when_it_runs_again_and_not_when_it_failed() {
    let restarts = |actions: &[RuntimeAction]| {
        actions.iter().filter(|action| matches!(action, RuntimeAction::Restarted { .. })).count()
    };
    let mut stage = ready(rules());
    let attempt = stage.attempt();
    stage.program = Program::None;
    let ended =
        stage.feed(RuntimeEvent::Exited { attempt, by_us: false, diagnosis: super::stage::diagnosis(false) });
    assert_eq!(restarts(&ended), 0);
    let attempt = stage.attempt();
    stage.program = Program::Running { attempt, terminated: false };
    assert_eq!(restarts(&stage.feed(RuntimeEvent::Launched { attempt })), 1);
    let mut stage = Stage::new(rules());
    stage.start();
    stage.launch_fails(true);
    assert_eq!(stage.state, RuntimeState::Failed);
}

/// RUN-3.
#[test]
fn a_runtime_goes_on_with_the_numbers_and_the_hold_of_the_one_before_it() {
    let (rules, now) = (rules(), Moment::ZERO);
    let machine = |attempt, held| {
        let past = Past { attempt, held, ..Past::default() };
        RuntimeMachine::new(rules, RestartBudget::new(rules.limits), now, 7).continuing(past)
    };
    let mut first = machine(0, false);
    first.handle(now, RuntimeEvent::StartWanted(By::Boot));
    let old = first.attempt();
    let mut second = machine(old, false);
    second.handle(now, RuntimeEvent::StartWanted(By::Boot));
    assert!(second.attempt() > old);
    assert_eq!(second.handle(now, RuntimeEvent::Launched { attempt: old }), []);
    let mut held = machine(old, true);
    assert_eq!(held.handle(now, RuntimeEvent::StartWanted(By::Demand)), []);
    assert!(held.is_held() && !held.has_program());
}

#[test]
fn requests_for_an_external_server_that_stays_away_are_refused() {
    let mut stage = ready(external());
    next_probe(&mut stage, fails());
    next_probe(&mut stage, fails());
    stage.request();
    did(&mut stage, "degraded");
    for _ in 0..4 {
        next_probe(&mut stage, fails());
    }
    did(&mut stage, "refuse");
    next_probe(&mut stage, HealthAnswer::Ok);
    did(&mut stage, "ready, serve");
}

#[test]
fn a_restart_of_an_external_server_looks_at_it_afresh() {
    let mut stage = ready(external());
    stage.feed(RuntimeEvent::RestartWanted);
    stage.probed(HealthAnswer::Ok);
    did(&mut stage, "starting, ready, serve");
}

/// RUN-6: and RUN-1, nothing is begun beside it.
#[test]
fn a_program_that_the_kernel_cannot_end_is_reported_and_waited_for() {
    let mut stage = ready(rules());
    stage.stop();
    did(&mut stage, "draining, terminate");
    stage.pass(rules().stop_grace + rules().end_patience - SECOND);
    assert_eq!((stage.machine.severity(), stage.machine.diagnosis()), ("info", None));
    stage.pass(SECOND);
    did(&mut stage, "stuck, refuse");
    let told = stage.machine.diagnosis().unwrap();
    assert!(told.detail.contains("killed") && told.hint.is_some(), "{told:?}");
    assert_eq!(stage.machine.next_deadline(), None, "it is told once");
    stage.start();
    stage.request();
    did(&mut stage, "refuse, refuse");
    assert_eq!(stage.state, RuntimeState::Draining);
    stage.exits(false);
    did(&mut stage, "starting, launch");
    assert_eq!((stage.machine.severity(), stage.machine.diagnosis()), ("info", None));
    assert_eq!(stage.failures, [], "RUN-4: its end was wanted");
}

/// RUN-6: the reason why it was ended is not lost over it.
#[test]
fn a_failing_program_that_is_stuck_counts_as_a_failure_once_it_is_gone() {
    let mut stage = ready(rules());
    while stage.state != RuntimeState::Draining {
        next_probe(&mut stage, fails());
    }
    stage.pass_to_deadline();
    assert_eq!(stage.machine.severity(), "error");
    stage.exits(false);
    assert!(stage.machine.diagnosis().unwrap().detail.contains("no answer"));
    assert_eq!(stage.failures.len(), 1);
}

// The way to it.

/// RUN-7: it had served for long, so that this is no failure; its streams end first.
#[test]
fn a_program_whose_socket_was_removed_is_started_again_once_its_streams_have_ended() {
    let mut stage = ready(rules());
    stage.pass_to_deadline();
    stage.probed(HealthAnswer::Ok);
    stage.now = stage.ready_at + rules().probation;
    stage.request();
    stage.socket_is_gone();
    did(&mut stage, "draining");
    let reason = stage.machine.diagnosis().unwrap();
    assert_eq!(reason.detail, "its socket /run/engine.sock was removed by somebody else");
    assert!(reason.hint.is_some());
    stage.request();
    stage.lease_left();
    did(&mut stage, "terminate");
    stage.exits(false);
    did(&mut stage, "starting, launch");
    assert_eq!(stage.failures, []);
    assert!(stage.machine.diagnosis().is_some(), "until it serves again");
    stage.launched();
    stage.probed(HealthAnswer::Ok);
    did(&mut stage, "ready, serve");
    assert_eq!(stage.machine.diagnosis(), None);
}

/// RUN-7: who removes it as soon as it is there is not helped by a start without end.
#[test]
fn a_socket_that_never_stays_ends_in_quarantine() {
    let mut stage = ready(strict());
    stage.socket_is_gone();
    stage.exits(false);
    did(&mut stage, "draining, terminate, backoff");
    stage.pass_to_deadline();
    stage.launched();
    stage.probed(HealthAnswer::Loading);
    stage.socket_is_gone();
    stage.exits(false);
    did(&mut stage, "starting, launch, warming, draining, terminate, quarantined, refuse");
    assert!(stage.machine.diagnosis().unwrap().detail.contains("was removed"));
}

/// RUN-7: also where nobody asks for it, and its open connections work.
#[test]
fn a_probe_that_finds_no_socket_is_enough() {
    let mut stage = ready(rules());
    next_probe(&mut stage, HealthAnswer::SocketGone("/run/engine.sock".into()));
    did(&mut stage, "draining, terminate");
}

/// RUN-7.
#[test]
fn a_program_that_starts_or_ends_by_itself_is_not_blamed_for_its_missing_socket() {
    let mut stage = Stage::new(rules());
    stage.start();
    stage.socket_is_gone();
    stage.launched();
    stage.socket_is_gone();
    stage.probed(HealthAnswer::SocketGone("/run/engine.sock".into()));
    assert_eq!(stage.state, RuntimeState::Starting);
    let mut stage = ready(rules());
    stage.request();
    stage.socket_is_gone();
    stage.exits(true);
    assert_eq!(stage.state, RuntimeState::Failed, "of what it said itself");
    assert_eq!(stage.machine.diagnosis().unwrap().detail, "boom");
}

/// RUN-7: once; how long it is unwell is for its probes to say.
#[test]
fn a_refused_connection_brings_the_next_probe_forward() {
    let mut stage = ready(rules());
    assert_eq!(stage.probe_kind(), None);
    stage.refused();
    assert_eq!(stage.probe_kind(), Some(ProbeKind::Liveness));
    stage.probed(unreachable());
    stage.refused();
    assert_eq!(stage.probe_kind(), None);
    assert_eq!(stage.state, RuntimeState::Ready);
    next_probe(&mut stage, unreachable());
    did(&mut stage, "degraded");
}
