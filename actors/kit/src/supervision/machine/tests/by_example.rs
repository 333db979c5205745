//! Small scenarios, one rule each.

use std::time::Duration;

use super::super::*;
use super::Stage;
use crate::life::{Backoff, RestartLimits};

const SECOND: Duration = Duration::from_secs(1);

fn permanent(id: &str) -> ChildRules {
    ChildRules {
        id: id.into(),
        restart: Restart::Permanent,
        significant: false,
        on_exhausted: OnExhausted::Escalate,
    }
}

fn lasting(restart: Restart, id: &str) -> ChildRules {
    ChildRules { restart, ..permanent(id) }
}

fn significant(id: &str) -> ChildRules {
    ChildRules { significant: true, ..lasting(Restart::Transient, id) }
}

fn quarantined(id: &str) -> ChildRules {
    let limits = RestartLimits { max: 1, window: 5 * SECOND };
    let quarantine = Quarantine { first: 2 * SECOND, max: 5 * SECOND, probation: SECOND, limits };
    ChildRules { on_exhausted: OnExhausted::Quarantine(quarantine), ..permanent(id) }
}

fn at_once(strategy: Strategy) -> SupervisorRules {
    let limits = RestartLimits { max: 3, window: 5 * SECOND };
    SupervisorRules { strategy, limits, backoff: Backoff::NONE, ..SupervisorRules::default() }
}

/// All of these run, and nothing is in the diary yet.
fn running<const N: usize>(rules: SupervisorRules, children: [ChildRules; N]) -> (Stage, [ChildKey; N]) {
    let (mut stage, keys) = added(rules, children);
    stage.begin();
    stage.settle();
    stage.diary.clear();
    (stage, keys)
}

fn added<const N: usize>(rules: SupervisorRules, children: [ChildRules; N]) -> (Stage, [ChildKey; N]) {
    let mut stage = Stage::new(rules);
    let keys = children.map(|child| stage.add(child).expect("a good child"));
    (stage, keys)
}

#[track_caller]
fn did(stage: &mut Stage, expected: &str) {
    let diary: Vec<String> = std::mem::take(&mut stage.diary);
    assert_eq!(diary.join(", "), expected);
}

/// SUP-1.
#[test]
fn each_child_is_started_when_the_one_before_it_runs() {
    let (mut stage, [a, b]) = added(SupervisorRules::default(), [permanent("a"), permanent("b")]);
    stage.begin();
    did(&mut stage, "start 0");
    stage.up(a);
    did(&mut stage, "start 1");
    assert!(!stage.ready);
    stage.up(b);
    assert!(stage.ready);
}

/// SUP-1.
#[test]
fn each_child_is_stopped_when_the_one_after_it_has_ended() {
    let (mut stage, [a, b]) = running(SupervisorRules::default(), [permanent("a"), permanent("b")]);
    stage.feed(SupervisorEvent::StopRequested);
    did(&mut stage, "stop 1");
    stage.ends(b, ExitReason::Stop);
    did(&mut stage, "stop 0");
    stage.ends(a, ExitReason::Stop);
    did(&mut stage, "finish");
}

/// SUP-1.
#[test]
fn a_child_stopped_by_hand_during_the_end_waits_for_its_turn() {
    let (mut stage, [a, b]) = running(SupervisorRules::default(), [permanent("a"), permanent("b")]);
    stage.feed(SupervisorEvent::StopRequested);
    stage.feed(SupervisorEvent::StopWanted(a));
    stage.feed(SupervisorEvent::RemoveWanted(a));
    did(&mut stage, "stop 1");
    stage.ends(b, ExitReason::Stop);
    stage.ends(a, ExitReason::Stop);
    did(&mut stage, "stop 0, forget 0, finish");
}

/// SUP-2.
#[test]
fn a_child_that_is_still_ending_is_not_started_beside_itself() {
    let (mut stage, [a]) = running(SupervisorRules::default(), [permanent("a")]);
    stage.feed(SupervisorEvent::StopWanted(a));
    stage.feed(SupervisorEvent::StartWanted(a));
    did(&mut stage, "stop 0");
    stage.ends(a, ExitReason::Stop);
    did(&mut stage, "start 0");
}

/// SUP-2.
#[test]
fn a_child_that_runs_is_not_started_beside_itself() {
    let (mut stage, [a]) = running(SupervisorRules::default(), [permanent("a")]);
    stage.feed(SupervisorEvent::StartWanted(a));
    did(&mut stage, "");
}

#[test]
fn the_last_wish_about_a_child_that_still_ends_counts() {
    let (mut stage, [a]) = running(SupervisorRules::default(), [permanent("a")]);
    for wish in
        [SupervisorEvent::StopWanted(a), SupervisorEvent::StartWanted(a), SupervisorEvent::StopWanted(a)]
    {
        stage.feed(wish);
    }
    stage.settle();
    did(&mut stage, "stop 0");
}

#[test]
fn a_child_wanted_again_while_its_start_is_cancelled_is_started_again() {
    let (mut stage, [a]) = added(SupervisorRules::default(), [permanent("a")]);
    stage.begin();
    stage.feed(SupervisorEvent::StopWanted(a));
    stage.feed(SupervisorEvent::StartWanted(a));
    stage.start_fails(a);
    did(&mut stage, "start 0, cancel 0, start 0");
    assert_eq!(stage.failures.len(), 0, "a cancelled start is no failure");
}

/// SUP-3.
#[test]
fn a_failed_start_spends_the_budget_like_a_crash() {
    let (mut stage, [a]) = running(at_once(Strategy::OneForOne), [permanent("a")]);
    stage.crashes(a);
    assert_eq!(stage.machine.budget(a).usage(stage.now).used, 1);
    stage.start_fails(a);
    assert_eq!(stage.machine.budget(a).usage(stage.now).used, 2);
    stage.start_fails(a);
    stage.start_fails(a);
    did(&mut stage, "start 0, start 0, start 0, finish");
}

/// SUP-4.
#[test]
fn a_stop_request_cancels_a_running_start() {
    let (mut stage, [a, _]) = added(SupervisorRules::default(), [permanent("a"), permanent("b")]);
    stage.begin();
    stage.feed(SupervisorEvent::StopRequested);
    did(&mut stage, "start 0, cancel 0");
    stage.start_fails(a);
    did(&mut stage, "finish");
}

/// SUP-4.
#[test]
fn a_start_that_succeeds_after_its_cancellation_is_stopped() {
    let (mut stage, [a]) = added(SupervisorRules::default(), [permanent("a")]);
    stage.begin();
    stage.feed(SupervisorEvent::StopRequested);
    stage.up(a);
    stage.ends(a, ExitReason::Stop);
    did(&mut stage, "start 0, cancel 0, stop 0, finish");
}

/// SUP-4.
#[test]
fn a_stop_request_does_not_wait_for_a_backoff() {
    let (mut stage, [a]) = running(SupervisorRules::default(), [permanent("a")]);
    stage.crashes(a);
    stage.up(a);
    stage.crashes(a);
    assert!(stage.machine.next_deadline().is_some());
    stage.feed(SupervisorEvent::StopRequested);
    did(&mut stage, "start 0, finish");
}

/// SUP-4.
#[test]
fn nothing_follows_the_end() {
    let (mut stage, [a]) = added(SupervisorRules::default(), [permanent("a")]);
    stage.feed(SupervisorEvent::StopRequested);
    did(&mut stage, "finish");
    for event in [SupervisorEvent::Begun, SupervisorEvent::StartWanted(a), SupervisorEvent::RemoveWanted(a)] {
        assert_eq!(stage.machine.handle(stage.now, event), []);
    }
    assert_eq!(stage.add(permanent("b")), Err(BadChild::Stopping));
}

#[test]
fn one_for_one_restarts_the_one_that_failed() {
    let (mut stage, [_, b, _]) =
        running(at_once(Strategy::OneForOne), [permanent("a"), permanent("b"), permanent("c")]);
    stage.crashes(b);
    stage.settle();
    did(&mut stage, "start 1");
}

#[test]
fn one_for_all_restarts_every_child() {
    let (mut stage, [_, b, _]) =
        running(at_once(Strategy::OneForAll), [permanent("a"), permanent("b"), permanent("c")]);
    stage.crashes(b);
    stage.settle();
    did(&mut stage, "stop 2, stop 0, start 0, start 1, start 2");
}

#[test]
fn rest_for_one_restarts_the_one_that_failed_and_those_after_it() {
    let (mut stage, [_, b, _]) =
        running(at_once(Strategy::RestForOne), [permanent("a"), permanent("b"), permanent("c")]);
    stage.crashes(b);
    stage.settle();
    did(&mut stage, "stop 2, start 1, start 2");
}

#[test]
fn a_group_restarts_without_its_temporary_and_stopped_children() {
    let children =
        [permanent("a"), lasting(Restart::Temporary, "b"), lasting(Restart::Transient, "c"), permanent("d")];
    let (mut stage, [a, _, _, d]) = running(at_once(Strategy::OneForAll), children);
    stage.feed(SupervisorEvent::StopWanted(d));
    stage.crashes(a);
    stage.settle();
    did(&mut stage, "stop 3, stop 2, stop 1, forget 1, start 0, start 2");
}

/// BUDGET-1: OTP terminates siblings and does not count how they end.
#[test]
fn siblings_that_end_while_their_group_is_being_stopped_are_not_counted() {
    let (mut stage, [a, b, c]) =
        running(at_once(Strategy::OneForAll), [permanent("a"), permanent("b"), permanent("c")]);
    stage.crashes(a);
    stage.crashes(b);
    stage.crashes(c);
    stage.settle();
    did(&mut stage, "stop 2, start 0, start 1, start 2");
    assert_eq!(stage.machine.budget(a).usage(stage.now).used, 1);
}

#[test]
fn a_failure_below_a_group_that_waits_does_not_shorten_the_wait() {
    let backoff = Backoff { first: SECOND, max: SECOND, ..Backoff::default() };
    let rules = SupervisorRules { backoff, ..at_once(Strategy::RestForOne) };
    let (mut stage, [a, b]) = running(rules, [permanent("a"), permanent("b")]);
    stage.crashes(a);
    stage.ends(b, ExitReason::Stop);
    let due = stage.machine.next_deadline();
    stage.pass(SECOND / 2);
    let late = stage.add(permanent("late")).expect("a good child");
    stage.feed(SupervisorEvent::StartWanted(late));
    stage.up(late);
    stage.crashes(late);
    did(&mut stage, "stop 1, start 2");
    assert!(stage.machine.next_deadline() >= due);
    stage.pass_to_deadline();
    stage.settle();
    did(&mut stage, "start 0, start 1, start 2");
}

#[test]
fn permanent_children_return_after_every_end() {
    let (mut stage, [a]) = running(at_once(Strategy::OneForOne), [permanent("a")]);
    stage.ends(a, ExitReason::Normal);
    did(&mut stage, "start 0");
}

#[test]
fn transient_children_return_after_an_abnormal_end_only() {
    let (mut stage, [a]) = running(at_once(Strategy::OneForOne), [lasting(Restart::Transient, "a")]);
    stage.ends(a, ExitReason::Killed);
    stage.up(a);
    did(&mut stage, "start 0");
    stage.ends(a, ExitReason::Normal);
    did(&mut stage, "");
}

#[test]
fn temporary_children_never_return() {
    let (mut stage, [a]) = running(at_once(Strategy::OneForOne), [lasting(Restart::Temporary, "a")]);
    stage.crashes(a);
    did(&mut stage, "forget 0");
}

#[test]
fn a_temporary_child_with_a_budget_of_its_own_does_not_return_either() {
    let temporary = ChildRules { restart: Restart::Temporary, ..quarantined("a") };
    let (mut stage, [a]) = added(at_once(Strategy::OneForOne), [temporary]);
    stage.begin();
    stage.start_fails(a);
    did(&mut stage, "start 0, forget 0");
}

/// BUDGET-1.
#[test]
fn one_failure_more_than_the_budget_ends_the_supervisor() {
    let (mut stage, [a, b]) = running(at_once(Strategy::OneForOne), [permanent("a"), permanent("b")]);
    for key in [a, b, a] {
        stage.crashes(key);
        stage.up(key);
    }
    did(&mut stage, "start 0, start 1, start 0");
    stage.crashes(b);
    let reason = stage.ending.clone().expect("it gives up");
    assert_eq!(reason.to_string(), "gave up on s/b: boom");
    stage.settle();
    did(&mut stage, "stop 0, finish");
}

/// BUDGET-1.
#[test]
fn a_failure_counts_for_the_whole_window_and_not_longer() {
    for (apart, survives) in [(5 * SECOND, false), (5 * SECOND + Duration::from_millis(1), true)] {
        let (mut stage, [a]) = running(at_once(Strategy::OneForOne), [permanent("a")]);
        for _ in 0..3 {
            stage.crashes(a);
            stage.up(a);
        }
        stage.pass(apart);
        stage.crashes(a);
        assert_eq!(stage.ending.is_none(), survives);
    }
}

#[test]
fn waits_grow_with_failures_in_a_row_and_start_over_after_a_long_run() {
    let limits = RestartLimits { max: 100, window: SECOND };
    let rules = SupervisorRules { limits, ..SupervisorRules::default() };
    let (mut stage, [a]) = running(rules, [permanent("a")]);
    let waits = |stage: &mut Stage| {
        stage.crashes(a);
        let wait = stage.machine.next_deadline().map_or(Duration::ZERO, |due| due.since(stage.now));
        stage.settle();
        wait
    };
    let about = |wait: Duration, expected: u64| {
        let expected = Duration::from_millis(expected);
        assert!(wait >= expected * 4 / 5 && wait <= expected * 6 / 5, "{wait:?} is not about {expected:?}");
    };
    assert_eq!(waits(&mut stage), Duration::ZERO);
    about(waits(&mut stage), 100);
    about(waits(&mut stage), 200);
    about(waits(&mut stage), 400);
    stage.pass(stage.rules.backoff.reset_after);
    assert_eq!(waits(&mut stage), Duration::ZERO);
    about(waits(&mut stage), 100);
}

#[test]
fn a_quarantined_child_leaves_the_others_alone() {
    for strategy in [Strategy::OneForOne, Strategy::OneForAll, Strategy::RestForOne] {
        let (mut stage, [a, b]) = running(at_once(strategy), [quarantined("a"), permanent("b")]);
        stage.crashes(a);
        stage.settle();
        stage.diary.clear();
        stage.crashes(a);
        did(&mut stage, "");
        assert_eq!(stage.alive(), [b]);
        assert_eq!(stage.machine.next_deadline(), Some(stage.now + 2 * SECOND));
        assert!(stage.ending.is_none());
    }
}

#[test]
fn trials_come_later_after_each_failed_one_up_to_a_limit() {
    let (mut stage, [a]) = running(at_once(Strategy::OneForOne), [quarantined("a")]);
    stage.crashes(a);
    stage.up(a);
    stage.crashes(a);
    for wait in [2, 4, 5, 5] {
        assert_eq!(stage.machine.next_deadline(), Some(stage.now + wait * SECOND));
        stage.pass_to_deadline();
        stage.start_fails(a);
    }
}

#[test]
fn a_trial_that_outlives_its_probation_gives_the_whole_budget_back() {
    let (mut stage, [a]) = running(at_once(Strategy::OneForOne), [quarantined("a")]);
    stage.crashes(a);
    stage.up(a);
    stage.crashes(a);
    stage.pass_to_deadline();
    stage.up(a);
    stage.pass(SECOND);
    assert_eq!(stage.machine.budget(a).usage(stage.now).used, 0);
    assert_eq!(stage.machine.next_deadline(), None);
    stage.diary.clear();
    stage.crashes(a);
    did(&mut stage, "start 0");
}

#[test]
fn a_quarantined_child_can_be_tried_by_hand() {
    let (mut stage, [a]) = running(at_once(Strategy::OneForOne), [quarantined("a")]);
    stage.crashes(a);
    stage.up(a);
    stage.crashes(a);
    stage.feed(SupervisorEvent::StartWanted(a));
    did(&mut stage, "start 0, start 0");
}

#[test]
fn a_trial_that_ends_after_its_supervisor_began_to_end_is_not_waited_for() {
    let (mut stage, [a, b]) = running(at_once(Strategy::OneForOne), [quarantined("a"), permanent("b")]);
    stage.crashes(a);
    stage.up(a);
    stage.crashes(a);
    stage.pass_to_deadline();
    stage.up(a);
    stage.feed(SupervisorEvent::StopRequested);
    assert_eq!(stage.machine.next_deadline(), None);
    stage.ends(b, ExitReason::Stop);
    stage.ends(a, ExitReason::Stop);
    assert!(stage.finished);
}

#[test]
fn the_end_of_any_significant_child_can_end_the_supervisor() {
    let rules =
        SupervisorRules { auto_shutdown: AutoShutdown::AnySignificant, ..at_once(Strategy::OneForOne) };
    let (mut stage, [a, _, _]) = running(rules, [significant("a"), significant("b"), permanent("c")]);
    stage.ends(a, ExitReason::Normal);
    stage.settle();
    did(&mut stage, "stop 2, stop 1, finish");
    assert_eq!(stage.ending, Some(ExitReason::Normal));
}

#[test]
fn the_end_of_all_significant_children_can_end_the_supervisor() {
    let rules =
        SupervisorRules { auto_shutdown: AutoShutdown::AllSignificant, ..at_once(Strategy::OneForOne) };
    let (mut stage, [a, b, _]) = running(rules, [significant("a"), significant("b"), permanent("c")]);
    stage.ends(a, ExitReason::Normal);
    did(&mut stage, "");
    stage.crashes(b);
    stage.up(b);
    did(&mut stage, "start 1");
    stage.ends(b, ExitReason::Normal);
    stage.settle();
    did(&mut stage, "stop 2, finish");
}

#[test]
fn a_significant_child_that_was_asked_to_stop_does_not_end_the_supervisor() {
    let rules =
        SupervisorRules { auto_shutdown: AutoShutdown::AnySignificant, ..at_once(Strategy::OneForOne) };
    let (mut stage, [a]) = running(rules, [significant("a")]);
    stage.feed(SupervisorEvent::StopWanted(a));
    stage.settle();
    did(&mut stage, "stop 0");
}

#[test]
fn a_supervisor_whose_child_cannot_start_fails_to_start() {
    let (mut stage, [a, b]) = added(SupervisorRules::default(), [permanent("a"), permanent("b")]);
    stage.begin();
    stage.up(a);
    stage.start_fails(b);
    stage.settle();
    did(&mut stage, "start 0, start 1, stop 0, finish");
    assert!(!stage.ready);
    assert_eq!(stage.ending.expect("it ends").to_string(), "start failed: b: start failed: no");
}

#[test]
fn a_child_added_later_that_cannot_start_is_forgotten() {
    let (mut stage, []) = running(SupervisorRules::default(), []);
    let late = stage.add(permanent("late")).expect("a good child");
    stage.feed(SupervisorEvent::StartWanted(late));
    stage.start_fails(late);
    did(&mut stage, "start 0, forget 0");
    assert_eq!(stage.machine.find("late"), None);
}

#[test]
fn a_removed_child_is_forgotten_once_it_has_ended_and_its_name_is_free_then() {
    let (mut stage, [a]) = running(SupervisorRules::default(), [permanent("a")]);
    stage.feed(SupervisorEvent::RemoveWanted(a));
    assert_eq!(stage.add(permanent("a")), Err(BadChild::Duplicate("a".into())));
    stage.ends(a, ExitReason::Stop);
    did(&mut stage, "stop 0, forget 0");
    stage.add(permanent("a")).expect("the name is free");
}

#[test]
fn a_child_that_makes_no_sense_is_refused() {
    let mut stage = Stage::new(SupervisorRules::default());
    let never_ends = ChildRules { significant: true, ..permanent("a") };
    assert_eq!(stage.add(never_ends), Err(BadChild::SignificantPermanent("a".into())));
    assert_eq!(stage.add(significant("a")), Err(BadChild::SignificantForNothing("a".into())));
}

#[test]
fn earlier_failures_count_for_the_budget_they_are_restored_into() {
    let mut stage = Stage::new(at_once(Strategy::OneForOne));
    let history = [stage.now, stage.now];
    let shared = stage.machine.add(permanent("a"), history).expect("a good child");
    let own = stage.machine.add(quarantined("b"), [stage.now]).expect("a good child");
    assert_eq!(stage.machine.budget(shared).usage(stage.now).used, 2);
    assert_eq!(stage.machine.shared_budget().usage(stage.now).used, 2);
    assert_eq!(stage.machine.budget(own).usage(stage.now).used, 1);
}

/// SUP-2.
#[test]
fn a_child_that_cannot_be_killed_is_set_aside_and_its_end_is_a_failure() {
    let (mut stage, [a, _]) = running(at_once(Strategy::OneForOne), [permanent("a"), permanent("b")]);
    stage.sticks(a);
    stage.pass(100 * SECOND);
    did(&mut stage, "");
    stage.ends(a, ExitReason::Killed);
    did(&mut stage, "start 0");
    assert_eq!(stage.machine.budget(a).usage(stage.now).used, 1);
}

/// SUP-2, SUP-1.
#[test]
fn a_group_does_not_wait_for_a_child_that_cannot_be_killed() {
    let (mut stage, [a, b, c]) =
        running(at_once(Strategy::OneForAll), [permanent("a"), permanent("b"), permanent("c")]);
    stage.crashes(a);
    stage.ends(c, ExitReason::Stop);
    did(&mut stage, "stop 2, stop 1");
    stage.sticks(b);
    stage.settle_but(b);
    did(&mut stage, "start 0, start 2");
    stage.ends(b, ExitReason::Killed);
    stage.settle();
    did(&mut stage, "stop 2, stop 0, start 0, start 1, start 2");
}

#[test]
fn what_is_wanted_of_a_stuck_child_is_remembered() {
    let (mut stage, [a, b, c]) =
        running(at_once(Strategy::OneForOne), [permanent("a"), permanent("b"), permanent("c")]);
    for child in [a, b, c] {
        stage.feed(SupervisorEvent::StopWanted(child));
        stage.sticks(child);
    }
    stage.feed(SupervisorEvent::StartWanted(b));
    stage.feed(SupervisorEvent::RemoveWanted(c));
    stage.diary.clear();
    for child in [a, b, c] {
        stage.ends(child, ExitReason::Killed);
    }
    did(&mut stage, "start 1, forget 2");
    assert_eq!(stage.machine.budget(b).usage(stage.now).used, 0, "it was asked to end");
}

/// SUP-4.
#[test]
fn the_end_waits_for_no_child_that_cannot_be_killed() {
    let (mut stage, [a, b]) = running(at_once(Strategy::OneForOne), [permanent("a"), permanent("b")]);
    stage.sticks(a);
    stage.feed(SupervisorEvent::StopRequested);
    stage.sticks(b);
    did(&mut stage, "stop 1, finish");
}

/// SUP-1.
#[test]
fn children_that_are_stopped_together_end_in_any_order() {
    let rules = SupervisorRules { stop_order: StopOrder::Together, ..at_once(Strategy::OneForOne) };
    let (mut stage, [a, b, c]) = running(rules, [permanent("a"), permanent("b"), permanent("c")]);
    stage.feed(SupervisorEvent::StopRequested);
    did(&mut stage, "stop 2, stop 1, stop 0");
    for child in [b, a] {
        stage.ends(child, ExitReason::Stop);
        assert!(!stage.finished);
    }
    stage.ends(c, ExitReason::Stop);
    did(&mut stage, "finish");
}
