//! How long a launch takes, end to end, as a guard against gross mistakes; exact figures come from the
//! benchmarks.

use std::time::Duration;

use crate::kit::{Node, exit_of, signal};

#[tokio::test]
async fn a_launch_through_keeper_shim_and_sandbox_takes_milliseconds() {
    for namespace in [true, false] {
        let node = Node::with_namespace(namespace);
        let mut to_first_byte = Vec::new();
        let mut to_seen = Vec::new();
        for attempt in 0..30 {
            let mut spec = node.spec(&["--host={socket}"]);
            spec.attempt = attempt;
            let after = node.log.newest();
            let start = tokio::time::Instant::now();
            let mut engine = node.launch_spec(spec).await.unwrap();
            let mut follower = node.log.subscribe(after + 1);
            follower.next(1).await;
            to_first_byte.push(start.elapsed());
            let killed = tokio::time::Instant::now();
            signal(engine.pid(), rustix::process::Signal::KILL);
            exit_of(&mut engine).await;
            to_seen.push(killed.elapsed());
        }
        to_first_byte.sort();
        to_seen.sort();
        let at = |list: &[Duration], percent: usize| list[list.len() * percent / 100];
        println!(
            "namespace {namespace}: spawn to first byte p50 {:?} p90 {:?}; kill to seen p50 {:?} p90 {:?}",
            at(&to_first_byte, 50),
            at(&to_first_byte, 90),
            at(&to_seen, 50),
            at(&to_seen, 90)
        );
        // Ten times the goal, and not the median: tests run beside other tests, on builds without
        // optimisation.
        assert!(at(&to_first_byte, 10) < Duration::from_millis(50), "{to_first_byte:?}");
        assert!(at(&to_seen, 10) < Duration::from_millis(50), "{to_seen:?}");
    }
}
