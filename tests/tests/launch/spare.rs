//! The keeper that waits in reserve: the next launch takes it, whatever has befallen it, and it never
//! outlives its node.

use rustix::process::Signal;

use crate::kit::{Node, PATIENCE, exit_of, is_alive, marked, marker_of, parent_of, signal, until};

/// Processes of the spare: those with a keeper's marker that have no part in a running engine.
fn waiting(marker: &str, pids_at_work: &[u32]) -> Vec<u32> {
    marked(marker).into_iter().filter(|pid| !pids_at_work.contains(pid) && is_alive(*pid)).collect()
}

/// The engine and its keepers.
fn at_work(mut pid: u32) -> Vec<u32> {
    let mut chain = Vec::new();
    while pid != std::process::id() {
        chain.push(pid);
        pid = parent_of(pid).unwrap();
    }
    chain
}

/// Keepers and shims of this node.
fn keepers_marker(engine: u32) -> String {
    let engine_marker = marker_of(engine);
    let (state_id, _) = engine_marker.split_once(':').unwrap();
    format!("{state_id}:keeper:")
}

/// How many processes wait: outer keeper, inner keeper and shim, or without a namespace two of them.
async fn spare_of(
    node: &Node,
    namespace: bool,
) -> (Vec<u32>, String, Box<dyn arw_actors::runtime::launcher::Engine>) {
    let engine = node.serve(&[]).await;
    let marker = keepers_marker(engine.pid());
    let working = at_work(engine.pid());
    let count = if namespace && working.len() == 3 { 3 } else { 2 };
    until("a spare waits", PATIENCE, || waiting(&marker, &working).len() == count).await;
    (waiting(&marker, &working), marker, engine)
}

#[tokio::test]
async fn the_next_launch_takes_the_spare() {
    for namespace in [true, false] {
        let node = Node::with_namespace(namespace);
        let (spare, _, mut engine) = spare_of(&node, namespace).await;
        signal(engine.pid(), Signal::KILL);
        exit_of(&mut engine).await;
        let next = node.serve(&[]).await;
        let working = at_work(next.pid());
        // The shim has become the engine.
        assert!(spare.iter().all(|pid| working.contains(pid)), "{spare:?} {working:?}");
    }
}

/// Its keepers, which take the rest with them, and its shim, whose keeper does not look up before it is
/// needed.
#[tokio::test]
async fn a_spare_that_lost_a_process_is_not_missed() {
    for (namespace, count) in [(true, 3), (false, 2)] {
        for which in 0..count {
            let node = Node::with_namespace(namespace);
            let (spare, _, mut engine) = spare_of(&node, namespace).await;
            // A kernel without namespaces has one keeper less.
            let Some(victim) = spare.get(which) else { continue };
            signal(*victim, Signal::KILL);
            until("the victim is dead", PATIENCE, || !is_alive(*victim)).await;
            signal(engine.pid(), Signal::KILL);
            exit_of(&mut engine).await;
            let next = node.serve(&[]).await;
            assert!(is_alive(next.pid()), "with namespace: {namespace}, process {which} of {spare:?}");
        }
    }
}

#[tokio::test]
async fn a_spare_ends_with_its_launcher() {
    for namespace in [true, false] {
        let node = Node::with_namespace(namespace);
        let (spare, marker, mut engine) = spare_of(&node, namespace).await;
        engine.kill();
        exit_of(&mut engine).await;
        drop(node);
        until("the spare has ended", PATIENCE, || !spare.iter().any(|pid| is_alive(*pid))).await;
        assert_eq!(marked(&marker), [0_u32; 0]);
    }
}
