//! What is shown of runtimes is true at every moment.

use std::time::Duration;

use super::kit::{MB, Stage};
use crate::runtime::machine::RuntimeState;
use crate::testkit::fake_launcher::Script;

#[tokio::test(start_paused = true)]
async fn clients_that_left_are_not_counted_as_waiting() {
    let stage = Stage::with_memory(1_500 * MB).await;
    stage.add("slow", 500 * MB, Script { loads_for: Duration::from_secs(25), ..Script::default() }).await;
    let (gone, stays) = (stage.begin_to_ask("slow"), stage.begin_to_ask("slow"));
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(stage.row("slow").queue.waiting, 2);
    gone.abort();
    tokio::time::sleep(Duration::from_millis(1100)).await;
    assert_eq!(stage.row("slow").queue.waiting, 1);
    drop(stays.await.unwrap().unwrap());
    stage.end().await;
}

#[tokio::test(start_paused = true)]
async fn no_row_shows_the_pid_or_the_socket_of_a_program_that_has_ended() {
    let stage = Stage::with_memory(1_500 * MB).await;
    stage.add("a", 500 * MB, Script { launches_after: Duration::from_secs(1), ..Script::default() }).await;
    drop(stage.ask("a").await.unwrap());
    let first = stage.row("a");
    assert!(first.pid.is_some() && first.socket.is_some());
    stage.machine.kill("a");
    stage.reach("a", RuntimeState::Starting).await;
    let between = stage.row("a");
    assert_eq!((between.pid, between.socket), (None, None), "the next program does not run yet");
    stage.reach("a", RuntimeState::Ready).await;
    assert_ne!(stage.row("a").pid, first.pid);
    stage.runtimes.stop("a").await.unwrap();
    stage.reach("a", RuntimeState::Stopped).await;
    assert_eq!(stage.row("a").pid, None);
    stage.end().await;
}

/// A reader that looks right after a start finds what the engine holds, not what it held while it began.
#[tokio::test(start_paused = true)]
async fn the_memory_of_a_runtime_is_shown_as_soon_as_it_is_ready() {
    let stage = Stage::with_memory(1_500 * MB).await;
    stage.add("a", 1_000 * MB, Script::default()).await;
    drop(stage.ask("a").await.unwrap());
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(stage.row("a").memory.resident_bytes, Some(900 * MB));
    stage.end().await;
}

/// RUN-1, RUN-3: the actor falls; its engine takes a while to die, and is waited for.
#[tokio::test(start_paused = true)]
async fn a_new_incarnation_of_the_actor_starts_no_program_beside_the_old_one() {
    let stage = Stage::with_memory(1_500 * MB).await;
    let slow = Script { dies_after: Some(Duration::from_secs(3)), ..Script::default() };
    stage.add("a", 1_000 * MB, slow).await;
    drop(stage.ask("a").await.unwrap());
    let first = stage.row("a").attempt;
    for _ in 0..3 {
        assert!(stage.supervisor.kill("a", Duration::from_secs(5)).await);
        let lease = stage.ask("a").await.unwrap();
        assert_eq!(stage.machine.alive(), ["a"]);
        drop(lease);
        assert_eq!(stage.state("a"), RuntimeState::Ready);
    }
    assert!(stage.row("a").attempt >= first + 3);
    stage.end().await;
}

#[tokio::test(start_paused = true)]
async fn what_an_operator_has_stopped_stays_so_when_its_actor_falls() {
    let stage = Stage::with_memory(1_500 * MB).await;
    stage.add("a", 1_000 * MB, Script::default()).await;
    drop(stage.ask("a").await.unwrap());
    stage.runtimes.stop("a").await.unwrap();
    stage.reach("a", RuntimeState::Stopped).await;
    assert!(stage.supervisor.kill("a", Duration::from_secs(5)).await);
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert!(stage.ask("a").await.is_err());
    assert!(stage.machine.alive().is_empty());
    stage.end().await;
}

#[tokio::test(start_paused = true)]
async fn what_an_operator_has_stopped_stays_so_when_the_node_starts_again() {
    let ground = super::kit::Ground::lay().await;
    let stage = Stage::on(&ground, 1_500 * MB, |_| {}).await;
    stage.add("a", 500 * MB, Script::default()).await;
    stage.add("b", 500 * MB, Script::default()).await;
    stage.runtimes.stop("a").await.unwrap();
    let stage = stage.restart().await;
    assert!(stage.ask("a").await.is_err());
    drop(stage.ask("b").await.unwrap());
    stage.runtimes.start("a").await.unwrap();
    let stage = stage.restart().await;
    drop(stage.ask("a").await.unwrap());
    stage.end().await;
}

/// Arguments say what was asked for, the engine what there is: its own default, or a part of the whole for
/// each slot.
#[tokio::test(start_paused = true)]
async fn the_context_that_is_shown_is_the_one_that_the_engine_offers() {
    let stage = Stage::with_memory(1_500 * MB).await;
    stage.add("a", 500 * MB, Script { context_tokens: Some(512), ..Script::default() }).await;
    let asked_for = stage.row("a").context_length;
    drop(stage.ask("a").await.unwrap());
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(stage.row("a").context_length, Some(512));
    assert_ne!(asked_for, Some(512));
    stage.runtimes.stop("a").await.unwrap();
    stage.reach("a", RuntimeState::Stopped).await;
    assert_eq!(stage.row("a").context_length, Some(512), "the best guess for the next one");
    stage.end().await;
}

/// Whoever holds a lease hears of the end of just the program that it was for.
#[tokio::test(start_paused = true)]
async fn a_lease_tells_of_the_end_of_its_program_and_on_how_many_requests_it_worked() {
    let stage = Stage::with_memory(1_500 * MB).await;
    stage.add("a", 500 * MB, Script::default()).await;
    let (one, other) = (stage.ask("a").await.unwrap(), stage.ask("a").await.unwrap());
    let pid = stage.row("a").pid;
    stage.machine.crash("a");
    let end = tokio::time::timeout(Duration::from_secs(1), one.process_ended()).await.unwrap().unwrap();
    assert_eq!((end.pid, end.in_flight, end.may_be_a_request), (pid, 2, true));
    drop((one, other));
    stage.reach("a", RuntimeState::Ready).await;
    let next = stage.ask("a").await.unwrap();
    let still = tokio::time::timeout(Duration::from_secs(60), next.process_ended()).await;
    assert!(still.is_err(), "its program runs");
    drop(next);
    stage.end().await;
}

/// RUN-1: a launch that was given up goes on for a while, and nothing begins beside it.
#[tokio::test(start_paused = true)]
async fn a_launch_that_was_cancelled_is_over_when_its_program_is() {
    let stage = Stage::with_memory(1_500 * MB).await;
    let slow = Script {
        launches_after: Duration::from_secs(3),
        dies_after: Some(Duration::from_secs(2)),
        ..Script::default()
    };
    stage.add("a", 500 * MB, slow).await;
    let asked = stage.begin_to_ask("a");
    tokio::time::sleep(Duration::from_secs(1)).await;
    stage.runtimes.stop("a").await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(stage.state("a"), RuntimeState::Draining, "what it may start by then is ended first");
    assert!(asked.await.unwrap().is_err());
    stage.runtimes.start("a").await.unwrap();
    stage.reach("a", RuntimeState::Ready).await;
    stage.end().await;
}
