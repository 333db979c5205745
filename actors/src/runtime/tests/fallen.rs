//! A runtime whose actor falls has failed as often as before.

use std::time::Duration;

use super::kit::{MB, Stage};
use crate::runtime::launcher::{Cause, Diagnosis};
use crate::runtime::machine::RuntimeState;
use crate::testkit::fake_launcher::Script;

const SECOND: Duration = Duration::from_secs(1);

fn refuses(permanent: bool) -> Script {
    let diagnosis = Diagnosis {
        cause: Cause::ExitCode,
        detail: "ended with exit code 1".to_owned(),
        hint: None,
        permanent,
    };
    Script { refuses: Some(diagnosis), ..Script::default() }
}

async fn fall(stage: &Stage, id: &str) {
    assert!(stage.supervisor.kill(id, SECOND).await);
    tokio::time::sleep(SECOND / 2).await;
}

/// RUN-5.
#[tokio::test(start_paused = true)]
async fn a_quarantined_runtime_stays_so_until_its_time_when_its_actor_falls() {
    let stage = Stage::with_memory(1_500 * MB).await;
    stage.add("a", 500 * MB, refuses(false)).await;
    stage.ask("a").await.unwrap_err();
    stage.reach("a", RuntimeState::Quarantined).await;
    let (before, launches) = (stage.row("a"), stage.machine.launches("a"));
    fall(&stage, "a").await;
    let after = stage.row("a");
    assert_eq!(after.state, RuntimeState::Quarantined);
    assert_eq!((after.reason, after.hint), (before.reason, before.hint));
    assert_eq!(after.restart_budget.used, before.restart_budget.used);
    stage.ask("a").await.unwrap_err();
    assert_eq!(stage.machine.launches("a"), launches, "nothing is tried before its time");
    // The trial comes, fails, and the next one is put off twice as long, also over a fall.
    tokio::time::sleep(SECOND * 60).await;
    assert_eq!((stage.state("a"), stage.machine.launches("a")), (RuntimeState::Quarantined, launches + 1));
    fall(&stage, "a").await;
    tokio::time::sleep(SECOND * 110).await;
    assert_eq!(stage.machine.launches("a"), launches + 1);
    tokio::time::sleep(SECOND * 15).await;
    assert_eq!(stage.machine.launches("a"), launches + 2);
    stage.end().await;
}

/// RUN-5: it waits for an operator, who need not know of actors.
#[tokio::test(start_paused = true)]
async fn a_runtime_that_has_failed_for_good_stays_so_when_its_actor_falls() {
    let stage = Stage::with_memory(1_500 * MB).await;
    stage.add("a", 500 * MB, refuses(true)).await;
    stage.ask("a").await.unwrap_err();
    stage.reach("a", RuntimeState::Failed).await;
    fall(&stage, "a").await;
    assert_eq!(
        (stage.state("a"), stage.row("a").reason.as_deref()),
        (RuntimeState::Failed, Some("ended with exit code 1"))
    );
    stage.ask("a").await.unwrap_err();
    assert_eq!(stage.machine.launches("a"), 1, "no request starts it");
    drop(stage.runtimes.start("a").await.unwrap());
    tokio::time::sleep(SECOND).await;
    assert_eq!(stage.machine.launches("a"), 2);
    stage.end().await;
}

/// A fall is no short way around a backoff.
#[tokio::test(start_paused = true)]
async fn a_runtime_that_waits_for_its_next_start_goes_on_waiting() {
    let stage = Stage::with_memory(1_500 * MB).await;
    stage.add("a", 500 * MB, refuses(false)).await;
    let waits = stage.begin_to_ask("a");
    while stage.machine.launches("a") < 4 {
        tokio::time::sleep(SECOND / 20).await;
    }
    tokio::time::sleep(SECOND / 20).await;
    let launches = stage.machine.launches("a");
    assert_eq!(stage.state("a"), RuntimeState::Backoff);
    fall(&stage, "a").await;
    assert_eq!((stage.state("a"), stage.machine.launches("a")), (RuntimeState::Backoff, launches));
    stage.reach("a", RuntimeState::Quarantined).await;
    waits.await.unwrap().unwrap_err();
    stage.end().await;
}
