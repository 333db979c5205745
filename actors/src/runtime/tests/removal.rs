//! Adding and removing.

use std::time::Duration;

use super::kit::{MB, Stage};
use crate::runtime::directory::{AddRuntimeError, ControlError};
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

/// RUN-1: as long as its program lives, nobody else gets its id.
#[tokio::test(start_paused = true)]
async fn the_id_of_a_program_that_cannot_be_killed_stays_taken() {
    let stage = Stage::with_memory(1_500 * MB).await;
    let stuck = Script { ends_after: None, dies_after: None, ..Script::default() };
    stage.add("a", 500 * MB, stuck).await;
    drop(stage.ask("a").await.unwrap());
    let told = stage.runtimes.remove("a").await;
    assert!(matches!(told, Err(ControlError::StillEnding(_))), "{told:?}");
    let spec = serde_json::json!({"id": "a", "adapter": "process", "program": "/bin/fake"});
    let add = || stage.runtimes.add(serde_json::from_value(spec.clone()).unwrap());
    assert!(matches!(add().await, Err(AddRuntimeError::StillEnding(_))));
    assert!(matches!(stage.runtimes.remove("a").await, Err(ControlError::StillEnding(_))));
    stage.machine.release("a");
    tokio::time::sleep(Duration::from_secs(1)).await;
    add().await.unwrap();
    stage.end().await;
}

/// What stands in the file stays there, whatever is done with the others.
#[tokio::test(start_paused = true)]
async fn a_runtime_that_cannot_be_added_at_the_start_is_not_forgotten() {
    let stage = Stage::with_memory(1_500 * MB).await;
    stage.add("good", 500 * MB, Script::default()).await;
    let text = std::fs::read_to_string(stage.file()).unwrap();
    let mut file: serde_json::Value = serde_json::from_str(&text).unwrap();
    let bad = serde_json::json!({"id": "bad", "adapter": "openai", "base_url": "ftp://x"});
    file["runtimes"].as_array_mut().unwrap().push(bad);
    std::fs::write(stage.file(), file.to_string()).unwrap();
    let stage = stage.restart().await;
    stage.runtimes.stop("good").await.unwrap();
    stage.add("new", 500 * MB, Script::default()).await;
    let text = std::fs::read_to_string(stage.file()).unwrap();
    for id in ["good", "bad", "new"] {
        assert!(text.contains(&format!("\"{id}\"")), "{id} in {text}");
    }
    stage.runtimes.remove("bad").await.unwrap();
    assert!(!std::fs::read_to_string(stage.file()).unwrap().contains("\"bad\""));
    stage.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_file_that_cannot_be_read_is_not_written_over() {
    let stage = Stage::with_memory(1_500 * MB).await;
    stage.add("a", 500 * MB, Script::default()).await;
    for damaged in ["{\"schema\":1,", r#"{"schema":99,"runtimes":[]}"#] {
        std::fs::write(stage.file(), damaged).unwrap();
        assert!(stage.root.kill("directory", Duration::from_secs(5)).await);
        tokio::time::sleep(Duration::from_secs(2)).await;
        let spec = serde_json::json!({"id": "b", "adapter": "process", "program": "/bin/fake"});
        let added = stage.runtimes.add(serde_json::from_value(spec).unwrap()).await;
        assert!(matches!(added, Err(AddRuntimeError::NotSaved(_))), "{added:?}");
        let outage = stage.runtimes.list_outage().borrow().clone().unwrap();
        assert!(outage.contains("runtimes.json"), "{outage}");
        tokio::time::sleep(Duration::from_secs(30)).await;
        stage.runtimes.stop("a").await.unwrap();
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(std::fs::read_to_string(stage.file()).unwrap(), damaged);
        drop(stage.runtimes.start("a").await.unwrap());
    }
    std::fs::remove_file(stage.file()).unwrap();
    assert!(stage.root.kill("directory", Duration::from_secs(5)).await);
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert_eq!(*stage.runtimes.list_outage().borrow(), None);
    stage.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_removal_that_cannot_be_written_changes_nothing() {
    let stage = Stage::with_memory(1_500 * MB).await;
    stage.add("a", 500 * MB, Script::default()).await;
    stage.runtimes.stop("a").await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    let text = std::fs::read_to_string(stage.file()).unwrap();
    // A folder in its place: nothing can be renamed over it.
    std::fs::remove_file(stage.file()).unwrap();
    std::fs::create_dir(stage.file()).unwrap();
    assert!(matches!(stage.runtimes.remove("a").await, Err(ControlError::NotSaved(_))));
    std::fs::remove_dir(stage.file()).unwrap();
    stage.add("b", 500 * MB, Script::default()).await;
    let after = std::fs::read_to_string(stage.file()).unwrap();
    assert!(text.contains("held") && after.contains("held") && after.contains("\"a\""), "{after}");
    let stage = stage.restart().await;
    assert!(stage.ask("a").await.is_err(), "an operator has stopped it");
    stage.end().await;
}

/// A removal that was under way when the directory fell goes on.
#[tokio::test(start_paused = true)]
async fn a_removal_is_not_undone_by_a_directory_that_is_started_again() {
    let stage = Stage::with_memory(1_500 * MB).await;
    stage.add("a", 500 * MB, Script { ends_after: Some(Duration::from_secs(6)), ..Script::default() }).await;
    drop(stage.ask("a").await.unwrap());
    let runtimes = stage.runtimes.clone();
    let removal = tokio::spawn(async move { runtimes.remove("a").await });
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(stage.root.kill("directory", Duration::from_secs(5)).await);
    assert!(removal.await.unwrap().is_err(), "whoever asked is told that the directory fell");
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert!(stage.runtimes.row("a").is_err());
    stage.add("a", 500 * MB, Script::default()).await;
    stage.end().await;
}
