//! A program whose socket file somebody else removes.

use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::Full;

use super::kit::{MB, Stage};
use crate::runtime::lease::EngineLease;
use crate::runtime::machine::RuntimeState;
use crate::testkit::fake_launcher::Script;

/// It loads for a while, so that what is shown meanwhile can be seen.
async fn stage_with_a() -> Stage {
    let stage = Stage::with_memory(1_500 * MB).await;
    stage.add("a", 500 * MB, Script { loads_for: Duration::from_secs(2), ..Script::default() }).await;
    stage
}

/// As the gateway does: what gets no connection is reported.
async fn send(stage: &Stage, lease: &EngineLease) -> bool {
    let request = Request::post("/v1/completions").header("connection", "close");
    let request = request.body(Full::new(Bytes::new())).unwrap();
    match stage.machine.client().send(lease.endpoint(), lease.secret(), request).await {
        Ok(answer) => answer.status().is_success(),
        Err(error) => {
            assert!(error.is_connect(), "{error}");
            lease.report_unreachable();
            false
        }
    }
}

fn names_the_socket(stage: &Stage) -> bool {
    stage.row("a").reason.is_some_and(|reason| reason.contains("was removed by somebody else"))
}

/// RUN-7.
#[tokio::test(start_paused = true)]
async fn requests_that_find_no_socket_have_the_program_started_again_at_once() {
    let stage = stage_with_a().await;
    let leases = [stage.ask("a").await.unwrap(), stage.ask("a").await.unwrap()];
    // It is trusted: somebody else's cleaning is not counted against it.
    tokio::time::sleep(Duration::from_secs(90)).await;
    assert!(send(&stage, &leases[0]).await);
    stage.machine.remove_socket("a");
    for lease in leases {
        assert!(!send(&stage, &lease).await);
    }
    let began = tokio::time::Instant::now();
    stage.reach("a", RuntimeState::Starting).await;
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    assert!(names_the_socket(&stage), "{:?}", stage.row("a").reason);
    let lease = stage.ask("a").await.unwrap();
    assert!(send(&stage, &lease).await);
    assert_eq!(stage.machine.launches("a"), 2, "the other reports change nothing");
    assert_eq!((stage.row("a").restart_budget.used, stage.row("a").reason), (0, None));
    tokio::time::sleep(Duration::from_secs(30)).await;
    drop(lease);
    assert_eq!(stage.machine.launches("a"), 2);
    stage.end().await;
}

/// RUN-7: nobody asks for anything.
#[tokio::test(start_paused = true)]
async fn a_probe_finds_that_the_socket_is_gone() {
    let stage = stage_with_a().await;
    drop(stage.ask("a").await.unwrap());
    tokio::time::sleep(Duration::from_secs(90)).await;
    stage.machine.remove_socket("a");
    let began = tokio::time::Instant::now();
    stage.reach("a", RuntimeState::Starting).await;
    assert!(began.elapsed() < Duration::from_secs(6), "{:?}", began.elapsed());
    assert!(names_the_socket(&stage), "{:?}", stage.row("a").reason);
    stage.reach("a", RuntimeState::Ready).await;
    stage.end().await;
}

/// RUN-7: sockets that never stay.
#[tokio::test(start_paused = true)]
async fn a_runtime_that_loses_its_socket_again_and_again_is_quarantined() {
    let stage = stage_with_a().await;
    for _ in 0..20 {
        let Ok(lease) = stage.ask("a").await else { break };
        stage.machine.remove_socket("a");
        assert!(!send(&stage, &lease).await);
        drop(lease);
        let mut changes = stage.runtimes.changes();
        while stage.state("a") == RuntimeState::Ready {
            changes.changed().await.unwrap();
        }
    }
    assert_eq!(stage.state("a"), RuntimeState::Quarantined);
    assert_eq!(stage.machine.launches("a"), 6);
    assert!(names_the_socket(&stage), "{:?}", stage.row("a").reason);
    stage.end().await;
}

/// RUN-7: a report that is not true costs a look and no more.
#[tokio::test(start_paused = true)]
async fn a_program_that_can_be_reached_is_left_alone() {
    let stage = stage_with_a().await;
    let lease = stage.ask("a").await.unwrap();
    for _ in 0..50 {
        lease.report_unreachable();
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!((stage.state("a"), stage.machine.launches("a")), (RuntimeState::Ready, 1));
    drop(lease);
    stage.end().await;
}
