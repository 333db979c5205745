//! Asking an engine to end: in order, and by force when it does not.

use std::time::Duration;

use arw_actors::runtime::launcher::{Cause, ExitStatus, Launcher as _};
use futures_util::FutureExt as _;
use rustix::process::Signal;

use crate::kit::{Node, exit_of, is_alive, signal};

#[tokio::test]
async fn an_engine_ends_in_order_when_it_is_asked_to() {
    let node = Node::new();
    let mut engine = node.serve(&[]).await;
    engine.terminate(Duration::from_secs(10));
    let exit = exit_of(&mut engine).await;
    assert_eq!((exit.status, exit.by_us), (ExitStatus::Code(0), true));
    assert_eq!((exit.diagnosis.cause, exit.diagnosis.detail.as_str()), (Cause::Stopped, "stopped by ARW"));
}

#[tokio::test]
async fn one_that_ignores_the_signal_is_killed_at_the_deadline() {
    for namespace in [true, false] {
        let node = Node::with_namespace(namespace);
        let mut engine = node.serve(&["--ignore-term", "--daemonize"]).await;
        let leaf = node.leaf().await;
        let start = tokio::time::Instant::now();
        engine.terminate(Duration::from_millis(300));
        let exit = exit_of(&mut engine).await;
        let took = start.elapsed();
        assert!((Duration::from_millis(300)..Duration::from_secs(2)).contains(&took), "{took:?}");
        assert_eq!((exit.status, exit.by_us), (ExitStatus::Signal(9), true));
        assert_eq!(exit.diagnosis.detail, "killed by ARW: still running 0.3 s after SIGTERM");
        assert!(!is_alive(engine.pid()) && !is_alive(leaf));
    }
}

#[tokio::test]
async fn a_kill_does_not_wait_for_the_grace() {
    let node = Node::new();
    let mut engine = node.serve(&["--ignore-term"]).await;
    engine.terminate(Duration::from_secs(3600));
    node.line("received SIGTERM").await;
    engine.kill();
    let exit = exit_of(&mut engine).await;
    assert_eq!((exit.status, exit.by_us), (ExitStatus::Signal(9), true));
}

#[tokio::test]
async fn a_stopped_engine_still_hears_that_it_should_end() {
    let node = Node::new();
    let mut engine = node.serve(&[]).await;
    signal(engine.pid(), Signal::STOP);
    engine.terminate(Duration::from_secs(10));
    assert_eq!(exit_of(&mut engine).await.status, ExitStatus::Code(0));
}

#[tokio::test]
async fn a_stopped_keeper_is_not_waited_for() {
    let kill_behind_its_back = |namespace| async move {
        let node = Node::with_namespace(namespace);
        let mut engine = node.serve(&[]).await;
        signal(crate::kit::parent_of(engine.pid()).unwrap(), Signal::STOP);
        engine.kill();
        let exit = exit_of(&mut engine).await;
        assert!(exit.by_us, "{exit:?}");
        assert_eq!(exit.diagnosis.cause, Cause::Stopped);
        assert!(!is_alive(engine.pid()));
    };
    tokio::join!(kill_behind_its_back(true), kill_behind_its_back(false));
}

#[tokio::test]
async fn an_engine_may_close_its_output_and_lives_on() {
    let node = Node::new();
    let mut engine = node.launch(&["--close-output", "--host={socket}"]).await;
    let socket = node.scratch().join("engine.sock");
    crate::kit::listens(&socket).await;
    assert_eq!(crate::kit::ask(&*engine, "GET", "/health", None, "").await.0, 200);
    engine.terminate(Duration::from_secs(10));
    assert_eq!(exit_of(&mut engine).await.status, ExitStatus::Code(0));
}

#[tokio::test]
async fn a_launch_begins_only_when_those_before_it_in_its_folder_are_over() {
    let node = Node::new();
    for _ in 0..5 {
        let first = node.serve(&["--ignore-term"]).await;
        let pid = first.pid();
        let waiting = node.launcher.launch(node.spec(&["--host", "{socket}"]));
        // Given up while it waits: who comes after it still waits for the first.
        assert!(waiting.now_or_never().is_none());
        let next = node.launcher.launch(node.spec(&["--host", "{socket}"]));
        drop(first);
        let second = tokio::time::timeout(crate::kit::PATIENCE, next).await.unwrap().unwrap();
        assert!(!is_alive(pid), "two programs at once");
        assert_ne!(second.pid(), pid);
        drop(second);
    }
}

#[tokio::test]
async fn a_launch_that_was_given_up_takes_nothing_from_the_next_one() {
    let node = Node::new();
    for _ in 0..5 {
        let given_up = node.launcher.launch(node.spec(&["--host", "{socket}"]));
        assert!(given_up.now_or_never().is_none());
        let engine = node.launch(&["--host", "{socket}"]).await;
        crate::kit::listens(&node.scratch().join("engine.sock")).await;
        assert_eq!(crate::kit::ask(&*engine, "GET", "/health", None, "").await.0, 200);
    }
}
