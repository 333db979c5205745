//! From start to end, and everything that goes wrong in between.

use std::time::Duration;

use arw_actors::runtime::directory::AddRuntimeError;
use arw_actors::runtime::launcher::Cause;
use arw_actors::runtime::lease::{AcquireError, Usage};
use arw_actors::runtime::machine::RuntimeState;
use arw_actors::runtime::spec::RuntimeSpec;
use serde_json::{Value, json};

use crate::kit::{Stage, kill};

fn no_more() -> Value {
    json!({})
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_starts_a_stopped_runtime_and_is_answered() {
    let stage = Stage::new().await;
    stage.add("one", &["--load-ms", "100"], no_more()).await;
    assert_eq!(stage.row("one").state, RuntimeState::Stopped);
    let lease = stage.acquire("one").await.unwrap();
    assert!(stage.complete(&lease).await["choices"][0]["text"].is_string());
    lease.record(&Usage { prompt_tokens: 2, completion_tokens: 3, ..Usage::default() });
    assert_eq!(stage.row("one").in_flight, 1);
    drop(lease);
    let row = stage.row("one");
    assert_eq!((row.in_flight, row.usage.completion_tokens, row.usage.requests), (0, 3, 1));
    assert!(row.sandbox.is_some() && row.pid.is_some() && row.socket.is_some());
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_killed_by_someone_else_comes_back_and_everything_tells_why() {
    let stage = Stage::new().await;
    stage.add("one", &[], json!({"auto_start": true})).await;
    let pid = stage.reach("one", RuntimeState::Ready).await.pid.unwrap();
    kill(pid);
    let row = stage
        .until("one", "a restart", |row| row.restart_budget.used == 1 && row.state == RuntimeState::Ready)
        .await;
    assert_ne!(row.pid, Some(pid));
    assert_eq!(row.restart_budget.remaining, row.restart_budget.max - 1);

    let exited = stage.events("runtime_exited").await;
    assert_eq!(exited.len(), 1);
    assert_eq!(exited[0]["pid"], pid);
    assert!(exited[0]["detail"].as_str().unwrap().contains("SIGKILL"), "{}", exited[0]);
    let recovered = stage.events("runtime_recovered").await;
    assert_eq!(recovered.len(), 1);
    let engine = ended_engine(&stage, "one").await;
    assert_eq!(engine["path"], "node/runtimes/one/engine");
    assert_eq!(row.last_exit.unwrap().reason, "process_signal", "it is shown while the next one serves");
    assert_eq!(engine["last_exit"]["reason"], "process_signal");
    assert_eq!(engine["restarts"]["used"], 1);
    stage.end().await;
}

/// The engine's row in the tree, once it is published with an end: what is published follows what happens.
async fn ended_engine(stage: &Stage, id: &str) -> Value {
    let view = stage.running.node.state("actors").unwrap();
    let children = |row: &Value| row["children"].as_array().unwrap().clone();
    loop {
        let snapshot = view.current();
        let actors: Value = serde_json::from_slice(&snapshot.body).unwrap();
        let runtimes = children(&children(&actors["root"])[0]);
        let runtime = runtimes.iter().find(|row| row["path"] == format!("node/runtimes/{id}")).unwrap();
        let engine = children(runtime)[0].clone();
        if !engine["last_exit"].is_null() {
            return engine;
        }
        let newer = view.wait_newer(Some(snapshot.id()), crate::kit::PATIENCE).await;
        assert!(newer.is_some(), "{id} is not shown as ended: {engine}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_tree_the_journal_and_the_row_say_in_one_word_how_an_engine_ended() {
    let stage = Stage::new().await;
    let once = json!({"auto_start": true, "restart": {"max": 0, "window_s": 60}});
    stage.add("signal", &["--crash-at-start", "--signal", "11"], once.clone()).await;
    stage.add("code", &["--crash-at-start", "--exit-code", "3"], once).await;
    let copy = stage.folder.path().join("engine");
    std::fs::copy(crate::kit::FAKE, &copy).unwrap();
    stage.add("nothing", &[], json!({"program": copy})).await;
    std::fs::remove_file(&copy).unwrap();
    stage.running.node.runtimes.start("nothing").await.unwrap();
    for (id, state, word) in [
        ("signal", RuntimeState::Quarantined, "process_signal"),
        ("code", RuntimeState::Quarantined, "process_exit"),
        ("nothing", RuntimeState::Failed, "start_failed"),
    ] {
        let row = stage.reach(id, state).await;
        let shown = row.last_exit.expect(id);
        assert_eq!(shown.reason, word, "{id}");
        let path = format!("node/runtimes/{id}/engine");
        let told = stage.events("engine_failed").await;
        let told: Vec<_> = told.iter().filter(|event| event["path"] == path).collect();
        assert!(!told.is_empty() && told.iter().all(|event| event["reason"] == word), "{id}: {told:?}");
        let in_tree = ended_engine(&stage, id).await["last_exit"].clone();
        assert_eq!((&in_tree["reason"], &in_tree["detail"]), (&json!(word), &json!(shown.detail)), "{id}");
    }
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn past_its_budget_a_runtime_is_quarantined_and_a_trial_brings_it_back() {
    let stage = Stage::new().await;
    let more = json!({"auto_start": true, "restart": {"max": 1, "window_s": 60}});
    stage.add("one", &[], more).await;
    for _ in 0..2 {
        let row = stage.reach("one", RuntimeState::Ready).await;
        kill(row.pid.unwrap());
        stage.until("one", "its end", |now| now.pid != row.pid || now.state != RuntimeState::Ready).await;
    }
    let row = stage.reach("one", RuntimeState::Quarantined).await;
    assert_eq!(row.severity, "error");
    assert!(row.reason.unwrap().contains("SIGKILL"));
    assert!(row.hint.is_some() && row.retry_at.is_some());
    let refused = stage.acquire("one").await.unwrap_err();
    let AcquireError::NotReady(not_ready) = refused else { panic!("{refused}") };
    assert_eq!(not_ready.state, RuntimeState::Quarantined);
    assert!(not_ready.retry_after.is_some());
    // Half open: one trial after the quarantine's time.
    stage.reach("one", RuntimeState::Ready).await;
    let lease = stage.acquire("one").await.unwrap();
    stage.complete(&lease).await;
    drop(lease);
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn budgets_and_history_survive_a_restart_of_the_node() {
    let stage = Stage::new().await;
    stage.add("one", &[], json!({"auto_start": true})).await;
    let row = stage.reach("one", RuntimeState::Ready).await;
    kill(row.pid.unwrap());
    stage
        .until("one", "a restart", |row| row.restart_budget.used == 1 && row.state == RuntimeState::Ready)
        .await;
    let stage = stage.restart().await;
    // Added when the directory has read its file.
    let wait = async {
        while stage.running.node.runtimes.row("one").is_err() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), wait).await.unwrap();
    let row = stage.reach("one", RuntimeState::Ready).await;
    assert_eq!(row.restart_budget.used, 1);
    assert_eq!(stage.events("runtime_exited").await.len(), 1);
    assert_eq!(stage.events("node_started").await.len(), 2);
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_wait_during_a_restart_and_a_full_queue_refuses() {
    let stage = Stage::new().await;
    stage.add("one", &["--load-ms", "400"], no_more()).await;
    let runtimes = &stage.running.node.runtimes;
    let waiting: Vec<_> = (0..64)
        .map(|_| {
            let runtimes = runtimes.clone();
            tokio::spawn(async move { runtimes.acquire("one", Duration::from_secs(20)).await })
        })
        .collect();
    stage.until("one", "a full queue", |row| row.queue.waiting == 64).await;
    let refused = stage.acquire("one").await.unwrap_err();
    assert!(matches!(refused, AcquireError::QueueFull { waiting: 64, .. }), "{refused}");
    for request in waiting {
        request.await.unwrap().unwrap();
    }
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_lets_requests_finish_and_holds_against_new_ones() {
    let stage = Stage::new().await;
    stage.add("one", &[], no_more()).await;
    let lease = stage.acquire("one").await.unwrap();
    stage.running.node.runtimes.stop("one").await.unwrap();
    let row = stage.reach("one", RuntimeState::Draining).await;
    assert!(row.pid.is_some());
    stage.complete(&lease).await;
    drop(lease);
    stage.reach("one", RuntimeState::Stopped).await;
    let refused = stage.acquire("one").await.unwrap_err().to_string();
    assert!(refused.contains("an operator has stopped it"), "{refused}");
    assert!(stage.events("runtime_exited").await.is_empty(), "a wanted end is no failure");
    stage.running.node.runtimes.start("one").await.unwrap();
    stage.acquire("one").await.unwrap();
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_refuses_to_die_is_killed_at_the_end_of_its_grace() {
    let stage = Stage::new().await;
    stage.add("one", &["--ignore-term"], json!({"auto_start": true})).await;
    let pid = stage.reach("one", RuntimeState::Ready).await.pid.unwrap();
    stage.running.node.runtimes.stop("one").await.unwrap();
    stage.reach("one", RuntimeState::Stopped).await;
    assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists());
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_runtime_is_unloaded_and_the_next_request_loads_it_again() {
    let stage = Stage::new().await;
    stage.add("one", &[], json!({"idle_after_s": 1})).await;
    drop(stage.acquire("one").await.unwrap());
    stage.reach("one", RuntimeState::Stopped).await;
    drop(stage.acquire("one").await.unwrap());
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_cannot_be_started_is_not_added() {
    let stage = Stage::new().await;
    let folder = stage.folder.path();
    let plain = folder.join("plain");
    std::fs::copy(crate::kit::FAKE, &plain).unwrap();
    std::fs::set_permissions(&plain, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    let text = folder.join("text");
    std::fs::write(&text, "words").unwrap();
    std::fs::set_permissions(&text, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    for (program, cause, hint) in [
        (folder.join("nowhere"), Cause::ProgramMissing, "check the path"),
        ("no-such-program-anywhere".into(), Cause::ProgramMissing, "full path"),
        (folder.to_owned(), Cause::ProgramNotExecutable, "inside it"),
        (plain, Cause::ProgramNotExecutable, "chmod +x"),
        (text, Cause::ProgramNotExecutable, "interpreter"),
    ] {
        let spec: RuntimeSpec =
            serde_json::from_value(json!({"id": "x", "adapter": "process", "program": program})).unwrap();
        let error = stage.running.node.runtimes.add(spec).await.unwrap_err();
        let AddRuntimeError::NoProgram(told) = &error else { panic!("{error}") };
        assert_eq!((told.cause, error.to_string()), (cause, told.detail.clone()), "{program:?}");
        assert!(told.hint.as_ref().unwrap().contains(hint), "{told:?}");
        assert!(stage.running.node.runtimes.row("x").is_err());
    }
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_is_looked_for_in_the_path_that_its_runtime_gives_it() {
    let stage = Stage::new().await;
    std::fs::copy(crate::kit::FAKE, stage.folder.path().join("engine")).unwrap();
    let more = json!({"program": "engine", "env": {"PATH": stage.folder.path()}, "auto_start": true});
    stage.add("one", &[], more).await;
    stage.reach("one", RuntimeState::Ready).await;
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_vanished_fails_for_good() {
    let stage = Stage::new().await;
    let copy = stage.folder.path().join("engine");
    std::fs::copy(crate::kit::FAKE, &copy).unwrap();
    stage.add("one", &[], json!({"program": copy})).await;
    std::fs::remove_file(&copy).unwrap();
    let refused = stage.acquire("one").await.unwrap_err().to_string();
    assert!(refused.contains("failed"), "{refused}");
    let row = stage.row("one");
    assert_eq!(row.state, RuntimeState::Failed);
    // In the words in which it would be refused now.
    let spec = json!({"id": "two", "adapter": "process", "program": copy});
    let error = stage.running.node.runtimes.add(serde_json::from_value(spec).unwrap()).await.unwrap_err();
    let AddRuntimeError::NoProgram(told) = error else { panic!("{error}") };
    assert_eq!((row.reason, row.hint), (Some(told.detail), told.hint));
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_at_rest_does_nothing() {
    let stage = Stage::new().await;
    stage.running.serves_at("http://127.0.0.1:1".to_owned());
    stage.add("one", &[], json!({"auto_start": true})).await;
    stage.reach("one", RuntimeState::Ready).await;
    let handled = || -> Vec<(String, u64)> {
        let records = stage.running.node.system.tree().records();
        records.iter().map(|record| (record.path().to_string(), record.handled())).collect()
    };
    let before = handled();
    // A few looks at the clock in this time are due; an actor that wakes itself handles thousands of
    // messages.
    tokio::time::sleep(Duration::from_millis(300)).await;
    for ((path, before), (same, after)) in before.iter().zip(&handled()) {
        assert_eq!(path, same);
        assert!(after - before < 50, "{path} handled {} messages while nothing happened", after - before);
    }
    stage.end().await;
}
