//! What a launched program prints.

use std::time::Duration;

use arw_actors::runtime::launcher::Cause;

use crate::kit::{Node, exit_of};

#[tokio::test]
async fn output_is_framed_by_what_arw_says() {
    let node = Node::new();
    let mut engine = node.launch(&["--crash-at-start", "--print-line", "one", "--print-line", "two"]).await;
    exit_of(&mut engine).await;
    let lines = node.all_lines();
    assert_eq!(lines[0], format!("--- started pid {}", engine.pid()));
    assert_eq!(&lines[1..3], ["one", "two"]);
    assert_eq!(lines[3], "--- ended: ended with exit code 1; its last line: two");
}

#[tokio::test]
async fn a_program_that_prints_without_end_neither_hangs_nor_fills_anything() {
    let node = Node::new();
    let mut engine = node.launch(&["--spam-logs", "--host={socket}"]).await;
    // Its own lines are lost in the flood.
    let socket = node.scratch().join("engine.sock");
    crate::kit::listens(&socket).await;
    crate::kit::until("there was a flood", crate::kit::PATIENCE, || node.log.newest() > 100_000).await;
    assert!(node.log.lines(10_000).len() <= 500);
    assert_eq!(crate::kit::ask(&*engine, "GET", "/health", None, "").await.0, 200);
    engine.terminate(Duration::from_secs(10));
    let exit = exit_of(&mut engine).await;
    assert_eq!(exit.diagnosis.cause, Cause::Stopped, "{exit:?}");
    assert!(node.log.dropped() > 0);
}

#[tokio::test]
async fn a_program_that_reads_no_key_is_started_all_the_same() {
    let node = Node::new();
    let mut spec = node.spec(&["-c", "exec <&-; echo closed; exit 7"]);
    spec.program = "sh".into();
    let mut engine = node.launch_spec(spec).await.unwrap();
    let exit = exit_of(&mut engine).await;
    assert_eq!(exit.diagnosis.detail, "ended with exit code 7; its last line: closed");
}

#[tokio::test]
async fn the_key_never_shows_in_the_log() {
    let node = Node::new();
    let mut engine =
        node.launch(&["--crash-at-start", "--print-line", "key {secret}, twice {secret}{secret}"]).await;
    let key = engine.secret().reveal().to_owned();
    let exit = exit_of(&mut engine).await;
    assert_eq!(node.line("key ").await, "key (key), twice (key)(key)");
    assert!(!format!("{exit:?} {:?}", node.all_lines()).contains(&key));
}
