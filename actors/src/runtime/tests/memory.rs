//! Who gets memory, seen from outside.

use std::time::Duration;

use super::kit::{MB, Stage};
use crate::runtime::launcher::{Cause, Diagnosis};
use crate::runtime::lease::AcquireError;
use crate::runtime::machine::RuntimeState;
use crate::testkit::fake_launcher::Script;

fn reason(error: &AcquireError) -> String {
    match error {
        AcquireError::NotReady(not_ready) => not_ready.reason.clone().unwrap_or_default(),
        other => other.to_string(),
    }
}

/// ROOM-1: the main use of a machine that holds one model at a time.
#[tokio::test(start_paused = true)]
async fn two_models_of_which_one_fits_take_turns_as_fast_as_they_are_asked_for() {
    let stage = Stage::with_memory(1_500 * MB).await;
    stage.add("a", 1_000 * MB, Script::default()).await;
    stage.add("b", 1_000 * MB, Script::default()).await;
    for id in ["a", "b", "a", "b", "b", "a"] {
        let lease = stage.ask(id).await.unwrap();
        assert_eq!(lease.runtime().as_str(), id);
        assert!(lease.waited() < Duration::from_secs(2), "{id} waited {:?}", lease.waited());
        assert_eq!(stage.machine.alive(), [id]);
    }
    stage.end().await;
}

/// ROOM-1.
#[tokio::test(start_paused = true)]
async fn what_a_stopped_runtime_held_is_free_at_once() {
    let stage = Stage::with_memory(1_500 * MB).await;
    stage.add("a", 1_000 * MB, Script::default()).await;
    stage.add("b", 1_000 * MB, Script::default()).await;
    drop(stage.ask("a").await.unwrap());
    stage.runtimes.stop("a").await.unwrap();
    stage.reach("a", RuntimeState::Stopped).await;
    stage.runtimes.start("b").await.unwrap();
    stage.reach("b", RuntimeState::Ready).await;
    stage.end().await;
}

/// ROOM-1: what was promised by a high estimate is not kept from others once the engine shows what it takes.
#[tokio::test(start_paused = true)]
async fn an_estimate_that_was_too_high_binds_nothing_after_the_load() {
    let stage = Stage::with_memory(1_500 * MB).await;
    stage.add("a", 1_400 * MB, Script { memory_bytes: 5 * MB, ..Script::default() }).await;
    stage.add("b", 1_400 * MB, Script { memory_bytes: 5 * MB, ..Script::default() }).await;
    let first = stage.ask("a").await.unwrap();
    let second = stage.ask("b").await.unwrap();
    assert_eq!(stage.machine.alive(), ["a", "b"]);
    drop((first, second));
    stage.end().await;
}

/// ROOM-1.
#[tokio::test(start_paused = true)]
async fn a_runtime_whose_every_start_fails_blocks_no_other() {
    let stage = Stage::with_memory(1_500 * MB).await;
    let broken = Diagnosis {
        cause: Cause::ExitCode,
        detail: "ended with exit code 1".to_owned(),
        hint: None,
        permanent: false,
    };
    stage.add("broken", 1_000 * MB, Script { refuses: Some(broken), ..Script::default() }).await;
    stage
        .add(
            "dies",
            1_000 * MB,
            Script { crashes_after: Some(Duration::from_millis(50)), ..Script::default() },
        )
        .await;
    stage.add("good", 1_000 * MB, Script::default()).await;
    let broken = stage.begin_to_ask("broken");
    let dies = stage.begin_to_ask("dies");
    stage.reach("broken", RuntimeState::Quarantined).await;
    stage.reach("dies", RuntimeState::Quarantined).await;
    for _ in 0..5 {
        drop(stage.ask("good").await.unwrap());
        // They are tried again now and then.
        tokio::time::sleep(Duration::from_secs(45)).await;
    }
    assert_eq!(stage.machine.launches("good"), 1);
    assert!(broken.await.unwrap().is_err() && dies.await.unwrap().is_err());
    stage.end().await;
}

/// ROOM-2: an engine that takes its time to end is waited for.
#[tokio::test(start_paused = true)]
async fn only_as_many_are_evicted_as_a_load_needs_however_slowly_they_end() {
    let stage = Stage::with_memory(3_200 * MB).await;
    let slow = Script { ends_after: Some(Duration::from_secs(3)), ..Script::default() };
    for id in ["a", "b", "c", "d"] {
        stage.add(id, 1_000 * MB, slow.clone()).await;
    }
    for id in ["a", "b", "c"] {
        drop(stage.ask(id).await.unwrap());
        tokio::time::sleep(Duration::from_secs(30)).await;
    }
    let lease = stage.ask("d").await.unwrap();
    assert!(lease.waited() >= Duration::from_secs(3), "{:?}", lease.waited());
    assert_eq!(stage.machine.alive(), ["b", "c", "d"], "the longest idle went, and nobody else");
    drop(lease);
    stage.end().await;
}

/// ROOM-2, seen with several loads at once: each takes one place, so each costs one.
#[tokio::test(start_paused = true)]
async fn three_loads_at_once_evict_three() {
    let stage = Stage::with_memory(4_300 * MB).await;
    let slow = Script { ends_after: Some(Duration::from_millis(700)), ..Script::default() };
    for id in ["a", "b", "c", "d", "x", "y", "z"] {
        stage.add(id, 1_000 * MB, slow.clone()).await;
    }
    for id in ["a", "b", "c", "d"] {
        drop(stage.ask(id).await.unwrap());
        tokio::time::sleep(Duration::from_secs(5)).await;
    }
    let (x, y, z) = tokio::join!(stage.ask("x"), stage.ask("y"), stage.ask("z"));
    drop((x.unwrap(), y.unwrap(), z.unwrap()));
    assert_eq!(stage.machine.alive(), ["d", "x", "y", "z"]);
    stage.end().await;
}

/// ROOM-4.
#[tokio::test(start_paused = true)]
async fn a_model_waits_until_the_request_under_way_at_another_is_answered() {
    let stage = Stage::with_memory(1_500 * MB).await;
    stage.add("a", 1_000 * MB, Script::default()).await;
    stage.add("b", 1_000 * MB, Script::default()).await;
    let under_way = stage.ask("a").await.unwrap();
    let waits = stage.begin_to_ask("b");
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(stage.machine.alive(), ["a"], "a busy engine is never a victim");
    drop(under_way);
    assert_eq!(waits.await.unwrap().unwrap().runtime().as_str(), "b");
    stage.end().await;
}

/// ROOM-4.
#[tokio::test(start_paused = true)]
async fn what_can_never_fit_is_refused_at_once_and_evicts_nobody() {
    let stage = Stage::with_memory(1_500 * MB).await;
    stage.add("a", 1_000 * MB, Script::default()).await;
    stage.add("huge", 2_000 * MB, Script::default()).await;
    drop(stage.ask("a").await.unwrap());
    let began = tokio::time::Instant::now();
    let refused = stage.ask("huge").await.unwrap_err();
    assert!(reason(&refused).starts_with("not loaded: it needs 2.0 GB"), "{refused}");
    assert!(began.elapsed() < Duration::from_secs(1));
    assert_eq!(stage.machine.alive(), ["a"]);
    stage.end().await;
}

/// RUN-4, ROOM-4: waiting for memory is no failed start, however short the start's deadline is.
#[tokio::test(start_paused = true)]
async fn a_start_that_waits_for_memory_spends_no_budget() {
    let ground = super::kit::Ground::lay().await;
    let stage =
        Stage::on(&ground, 1_500 * MB, |settings| settings.start_timeout = Duration::from_secs(8)).await;
    stage.add("a", 1_000 * MB, Script::default()).await;
    stage.add("b", 1_000 * MB, Script::default()).await;
    let under_way = stage.ask("a").await.unwrap();
    let refused = stage.ask("b").await.unwrap_err();
    assert!(reason(&refused).contains("busy: a"), "{refused}");
    let row = stage.row("b");
    assert_eq!((row.state, row.restart_budget.used), (RuntimeState::Stopped, 0));
    drop(under_way);
    drop(stage.ask("b").await.unwrap());
    stage.end().await;
}

/// ROOM-1: whoever has its id next owes nothing for it.
#[tokio::test(start_paused = true)]
async fn a_promise_does_not_outlive_its_runtime_when_another_takes_its_id() {
    let stage = Stage::with_memory(1_500 * MB).await;
    stage.add("a", 1_000 * MB, Script::default()).await;
    stage.add("b", 1_000 * MB, Script::default()).await;
    drop(stage.ask("a").await.unwrap());
    stage.runtimes.remove("a").await.unwrap();
    stage.add("a", 1_000 * MB, Script::default()).await;
    assert!(stage.ask("b").await.unwrap().waited() < Duration::from_secs(2));
    stage.end().await;
}

/// ROOM-2, RUN-6: what the kernel cannot end frees nothing soon.
#[tokio::test(start_paused = true)]
async fn a_program_that_does_not_end_keeps_no_load_waiting_for_its_memory() {
    let stage = Stage::with_memory(2_200 * MB).await;
    let stuck = Script { ends_after: None, dies_after: None, ..Script::default() };
    stage.add("stuck", 1_000 * MB, stuck).await;
    stage.add("idle", 1_000 * MB, Script::default()).await;
    stage.add("b", 1_000 * MB, Script::default()).await;
    drop(stage.ask("stuck").await.unwrap());
    drop(stage.ask("idle").await.unwrap());
    stage.runtimes.stop("stuck").await.unwrap();
    let lease = stage.ask("b").await.unwrap();
    assert!(lease.waited() < Duration::from_secs(20), "{:?}", lease.waited());
    assert_eq!(stage.machine.alive(), ["stuck", "b"]);
    drop(lease);
    stage.machine.release("stuck");
    stage.end().await;
}

/// ROOM-1: what was granted counts, also when whoever granted it has fallen.
#[tokio::test(start_paused = true)]
async fn a_directory_that_was_started_again_knows_the_loads_under_way() {
    let stage = Stage::with_memory(1_500 * MB).await;
    let slow = Script { loads_for: Duration::from_secs(10), memory_bytes: 900 * MB, ..Script::default() };
    stage.add("a", 1_000 * MB, slow).await;
    stage.add("b", 700 * MB, Script::default()).await;
    let runtimes = stage.runtimes.clone();
    let loading = tokio::spawn(async move { runtimes.acquire("a", Duration::from_secs(60)).await.map(drop) });
    stage.reach("a", RuntimeState::Warming).await;
    assert!(stage.root.kill("directory", Duration::from_secs(5)).await);
    let second = stage.ask("b").await.unwrap();
    assert!(second.waited() > Duration::from_secs(8), "it took what `a` was promised: {:?}", second.waited());
    loading.await.unwrap().unwrap();
    drop(second);
    stage.end().await;
}

fn late(seconds: u64) -> Script {
    Script { returns_after: Duration::from_secs(seconds), ..Script::default() }
}

/// ROOM-5: on some virtual machines what a killed engine held is free only seconds later.
#[tokio::test(start_paused = true)]
async fn a_load_waits_for_the_memory_of_a_program_that_has_ended() {
    let stage = Stage::with_memory(1_500 * MB).await;
    stage.add("a", 1_000 * MB, late(5)).await;
    stage.add("b", 1_000 * MB, late(5)).await;
    drop(stage.ask("a").await.unwrap());
    stage.machine.kill("a");
    stage.reach("a", RuntimeState::Starting).await;
    let again = stage.ask("a").await.unwrap();
    assert!(again.waited() >= Duration::from_secs(5), "{:?}", again.waited());
    assert!(again.waited() < Duration::from_secs(7), "{:?}", again.waited());
    drop(again);
    // The same of one that was asked to go, and of one that was removed.
    assert!(stage.ask("b").await.unwrap().waited() < Duration::from_secs(7));
    stage.runtimes.remove("b").await.unwrap();
    assert!(stage.ask("a").await.unwrap().waited() < Duration::from_secs(7));
    assert_eq!((stage.machine.launches("a"), stage.row("a").restart_budget.used), (3, 1), "one was killed");
    stage.end().await;
}

/// ROOM-5.
#[tokio::test(start_paused = true)]
async fn memory_that_does_not_come_back_is_waited_for_half_a_minute() {
    let stage = Stage::with_memory(1_500 * MB).await;
    stage.add("a", 1_000 * MB, late(90)).await;
    stage.add("b", 1_000 * MB, late(90)).await;
    drop(stage.ask("a").await.unwrap());
    stage.runtimes.stop("a").await.unwrap();
    stage.reach("a", RuntimeState::Stopped).await;
    tokio::time::sleep(Duration::from_secs(10)).await;
    let began = tokio::time::Instant::now();
    let refused = stage.ask("b").await.unwrap_err();
    assert!(reason(&refused).contains("600 MB are free for models"), "{refused}");
    let took = began.elapsed();
    assert!((Duration::from_secs(19)..Duration::from_secs(21)).contains(&took), "{took:?}");
    let began = tokio::time::Instant::now();
    stage.ask("b").await.unwrap_err();
    assert!(began.elapsed() < Duration::from_secs(1), "it is missing, and nobody knows for how long");
    tokio::time::sleep(Duration::from_secs(60)).await;
    drop(stage.ask("b").await.unwrap());
    stage.end().await;
}

/// ROOM-5: memory that is free already keeps no idle engine from going.
#[tokio::test(start_paused = true)]
async fn what_has_come_back_is_not_waited_for_again() {
    let stage = Stage::with_memory(2_500 * MB).await;
    for id in ["a", "b"] {
        stage.add(id, 1_000 * MB, Script::default()).await;
        drop(stage.ask(id).await.unwrap());
    }
    stage.add("large", 2_000 * MB, Script::default()).await;
    stage.runtimes.stop("a").await.unwrap();
    stage.reach("a", RuntimeState::Stopped).await;
    assert!(stage.ask("large").await.unwrap().waited() < Duration::from_secs(2));
    assert_eq!(stage.machine.alive(), ["large"]);
    stage.end().await;
}
