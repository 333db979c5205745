//! However an engine, its keeper or its node dies: nothing is left, and the end is told in words.

use std::io::BufRead as _;
use std::process::{Command, Stdio};
use std::time::Duration;

use arw_actors::runtime::launcher::{Cause, ExitStatus, Launcher as _};
use rustix::process::Signal;

use crate::kit::{
    FAKE, Node, PATIENCE, exit_of, is_alive, is_stopped, marked, marker_of, parent_of, signal, until,
};

#[tokio::test]
async fn an_engine_that_somebody_kills_is_seen_with_words() {
    for namespace in [true, false] {
        let node = Node::with_namespace(namespace);
        let mut engine = node.serve(&[]).await;
        signal(engine.pid(), Signal::KILL);
        let exit = exit_of(&mut engine).await;
        assert_eq!((exit.status, exit.by_us), (ExitStatus::Signal(9), false));
        assert_eq!(exit.diagnosis.cause, Cause::Killed);
        assert_eq!(exit.diagnosis.detail, "killed by SIGKILL (by another process, not by ARW)");
        // Safe to ask again.
        assert_eq!(exit_of(&mut engine).await, exit);
        assert_eq!(engine.resident_bytes(), None);
    }
}

#[tokio::test]
async fn a_keeper_that_somebody_kills_takes_its_engine_and_all_else_with_it() {
    for namespace in [true, false] {
        let node = Node::with_namespace(namespace);
        let mut engine = node.serve(&["--daemonize"]).await;
        let leaf = node.leaf().await;
        let marker = marker_of(engine.pid());
        signal(parent_of(engine.pid()).unwrap(), Signal::KILL);
        let exit = exit_of(&mut engine).await;
        assert_eq!((exit.status, exit.by_us), (ExitStatus::KeeperLost, false), "{exit:?}");
        assert_eq!(exit.diagnosis.cause, Cause::KeeperLost);
        assert!(!is_alive(engine.pid()) && !is_alive(leaf), "with namespace: {namespace}");
        assert_eq!(marked(&marker), [0_u32; 0]);
    }
}

#[tokio::test]
async fn an_outer_keeper_that_somebody_kills_takes_the_namespace_with_it() {
    let node = Node::new();
    let mut engine = node.serve(&["--daemonize"]).await;
    let leaf = node.leaf().await;
    let inner = parent_of(engine.pid()).unwrap();
    let outer = parent_of(inner).unwrap();
    if outer == std::process::id() {
        // No namespaces on this machine: the engine's parent is the only keeper, which the test before this
        // one kills.
        return;
    }
    signal(outer, Signal::KILL);
    let exit = exit_of(&mut engine).await;
    assert_eq!(exit.status, ExitStatus::KeeperLost, "{exit:?}");
    assert!(!is_alive(engine.pid()) && !is_alive(leaf) && !is_alive(inner));
}

#[tokio::test]
async fn dropping_the_engine_kills_it_and_all_that_it_started() {
    for namespace in [true, false] {
        let node = Node::with_namespace(namespace);
        let engine = node.serve(&["--daemonize", "--ignore-term"]).await;
        let (pid, leaf, marker) = (engine.pid(), node.leaf().await, marker_of(engine.pid()));
        drop(engine);
        until("engine and daemon are gone", Duration::from_secs(2), || !is_alive(pid) && !is_alive(leaf))
            .await;
        until("the keeper is gone", Duration::from_secs(2), || marked(&marker).is_empty()).await;
        until("the end is in the log", PATIENCE, || {
            node.all_lines().iter().any(|l| l == "--- ended: killed by ARW")
        })
        .await;
    }
}

#[tokio::test]
async fn dropping_the_launch_ends_whatever_had_been_started() {
    let node = Node::new();
    let marker = {
        let engine = node.serve(&[]).await;
        let marker = marker_of(engine.pid());
        marker.rsplit_once(':').unwrap().0.to_owned()
    };
    for delay_us in [0, 300, 1000, 2000, 4000, 8000] {
        let mut spec = node.spec(&["--host={socket}"]);
        spec.attempt = 2;
        let launch = node.launcher.launch(spec);
        let _ = tokio::time::timeout(Duration::from_micros(delay_us), launch).await;
        until("nothing is left", PATIENCE, || marked(&marker).is_empty()).await;
    }
}

/// A node in a process of its own.
struct Helper {
    process: std::process::Child,
    engine: u32,
    leaves: Vec<u32>,
}

fn node_with_engine(state_dir: &std::path::Path, namespace: bool) -> Helper {
    let mut command = Command::new(FAKE);
    command.arg("--as-node").arg(state_dir);
    if !namespace {
        command.arg("--no-namespace");
    }
    command.args(["--", "--daemonize", "--child", "--ignore-term", "--host={socket}"]);
    let mut process = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = std::io::BufReader::new(process.stdout.take().unwrap()).lines();
    let (mut engine, mut leaves) = (None, Vec::new());
    while engine.is_none() || leaves.len() < 2 {
        let line = lines.next().expect("the node ended early").unwrap();
        if let Some(pid) = line.strip_prefix("engine ") {
            engine = pid.parse::<u32>().ok();
        } else if let Some(pid) = line.strip_prefix("log leaf pid ") {
            leaves.push(pid.parse::<u32>().unwrap());
        }
    }
    Helper { process, engine: engine.unwrap(), leaves }
}

#[tokio::test]
async fn a_node_that_is_killed_leaves_nothing_running() {
    for namespace in [true, false] {
        let folder = tempfile::tempdir().unwrap();
        let mut node = node_with_engine(folder.path(), namespace);
        let marker = marker_of(node.engine);
        node.process.kill().unwrap();
        node.process.wait().unwrap();
        let gone = || !is_alive(node.engine) && node.leaves.iter().all(|leaf| !is_alive(*leaf));
        until("engine, child and daemon are gone", Duration::from_millis(500), gone).await;
        until("the keepers are gone", Duration::from_secs(2), || marked(&marker).is_empty()).await;
    }
}

#[tokio::test]
async fn with_node_and_keeper_dead_the_engine_ends_and_the_next_node_ends_the_rest() {
    for namespace in [true, false] {
        let folder = tempfile::tempdir().unwrap();
        let mut node = node_with_engine(folder.path(), namespace);
        let marker = marker_of(node.engine);
        // So that it cannot clean up behind its keeper.
        signal(node.process.id(), Signal::STOP);
        until("the node stands still", Duration::from_secs(5), || is_stopped(node.process.id())).await;
        signal(parent_of(node.engine).unwrap(), Signal::KILL);
        until("the engine is gone", Duration::from_millis(500), || !is_alive(node.engine)).await;
        node.process.kill().unwrap();
        node.process.wait().unwrap();
        let report = crate::kit::launcher(folder.path(), namespace).sweep().await;
        assert!(report.failed.is_empty(), "{report:?}");
        assert_eq!(marked(&marker), [0_u32; 0], "{report:?}");
        assert!(node.leaves.iter().all(|leaf| !is_alive(*leaf)));
        if !namespace {
            assert_eq!(report.ended.len(), node.leaves.len(), "{report:?}");
        }
    }
}

#[tokio::test]
async fn a_crash_of_its_own_is_told_with_its_last_words() {
    let node = Node::new();
    let line = "ggml_aligned_malloc: insufficient memory (attempted to allocate 99 MB)";
    let mut engine = node.launch(&["--crash-at-start", "--exit-code", "3", "--print-line", line]).await;
    let exit = exit_of(&mut engine).await;
    assert_eq!((exit.status, exit.by_us), (ExitStatus::Code(3), false));
    assert_eq!(exit.diagnosis.cause, Cause::OutOfMemory, "{exit:?}");
    assert_eq!(exit.diagnosis.detail, format!("{line} (exit code 3)"));

    let mut engine = node.launch(&["--crash-at-start", "--signal", "11"]).await;
    let exit = exit_of(&mut engine).await;
    assert_eq!((exit.status, exit.diagnosis.cause), (ExitStatus::Signal(11), Cause::Crashed), "{exit:?}");
    // The first crash's words are another launch's.
    assert!(!exit.diagnosis.detail.contains("ggml"), "{exit:?}");
}

#[tokio::test]
async fn no_zombies_stay_behind() {
    for namespace in [true, false] {
        let node = Node::with_namespace(namespace);
        let engine = node.serve(&["--orphans", "40"]).await;
        let marker = marker_of(engine.pid());
        let family = marked(&marker);
        let ours = |pid: &u32| parent_of(*pid).is_some_and(|parent| family.contains(&parent));
        let zombies = || {
            let all = crate::kit::all_pids();
            all.into_iter().filter(ours).filter(|pid| crate::kit::state_of(*pid) == Some('Z')).count()
        };
        until("adopted children are reaped", PATIENCE, || zombies() == 0).await;
        drop(engine);
        until("nothing is left", PATIENCE, || marked(&marker).is_empty()).await;
        let own = std::process::id();
        until("no keeper is a zombie of ours", PATIENCE, || {
            family.iter().all(|pid| parent_of(*pid) != Some(own))
        })
        .await;
    }
}
