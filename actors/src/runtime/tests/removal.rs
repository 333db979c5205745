//! Adding and removing.

use std::time::Duration;

use super::kit::{MB, Stage};
use crate::runtime::directory::AddRuntimeError;
use crate::testkit::fake_launcher::Script;

#[tokio::test(start_paused = true)]
async fn an_id_is_free_as_soon_as_its_removal_is_answered() {
    let stage = Stage::with_memory(1_500 * MB).await;
    for _ in 0..20 {
        stage
            .add("a", 500 * MB, Script { ends_after: Some(Duration::from_secs(2)), ..Script::default() })
            .await;
        drop(stage.ask("a").await.unwrap());
        stage.runtimes.remove("a").await.unwrap();
        assert!(stage.machine.alive().is_empty(), "its program has ended by then");
        assert!(stage.runtimes.row("a").is_err());
    }
    stage.end().await;
}

#[tokio::test(start_paused = true)]
async fn an_id_that_is_still_ending_is_refused_in_words_and_leaves_nothing_behind() {
    let stage = Stage::with_memory(1_500 * MB).await;
    let deaf = Script { ends_after: None, ..Script::default() };
    stage.add("a", 500 * MB, deaf.clone()).await;
    drop(stage.ask("a").await.unwrap());
    let runtimes = stage.runtimes.clone();
    let removal = tokio::spawn(async move { runtimes.remove("a").await });
    tokio::time::sleep(Duration::from_secs(1)).await;
    let spec = serde_json::json!({"id": "a", "adapter": "process", "program": "/bin/fake"});
    let again = stage.runtimes.add(serde_json::from_value(spec.clone()).unwrap()).await;
    assert!(matches!(again, Err(AddRuntimeError::StillEnding(_))), "{again:?}");
    removal.await.unwrap().unwrap();
    stage.runtimes.add(serde_json::from_value(spec).unwrap()).await.unwrap();
    stage.end().await;
}

/// What a removed runtime holds is waited for, like that of any other that ends.
#[tokio::test(start_paused = true)]
async fn a_load_waits_for_the_memory_of_a_runtime_that_is_being_removed() {
    let stage = Stage::with_memory(1_500 * MB).await;
    stage
        .add("a", 1_000 * MB, Script { ends_after: Some(Duration::from_secs(4)), ..Script::default() })
        .await;
    stage.add("b", 1_000 * MB, Script::default()).await;
    drop(stage.ask("a").await.unwrap());
    let (removed, lease) = tokio::join!(stage.runtimes.remove("a"), stage.ask("b"));
    removed.unwrap();
    drop(lease.unwrap());
    stage.end().await;
}
