//! What a node finds when it starts again.

use std::process::{Command, Stdio};

use arw_actors::runtime::launcher::Launcher as _;

use crate::kit::{FAKE, Node, is_alive, launcher, marker_of};

/// A process that carries an engine's marker and has no keeper.
fn orphan(marker: &str) -> std::process::Child {
    let (name, value) = marker.split_once('=').unwrap();
    let mut command = Command::new(FAKE);
    command.args(["--leaf", "sleep"]).env_clear().env(name, value).stdin(Stdio::null()).stdout(Stdio::null());
    command.spawn().unwrap()
}

async fn marker(node: &Node) -> String {
    marker_of(node.serve(&[]).await.pid())
}

#[tokio::test]
async fn engines_of_an_earlier_node_are_ended_and_those_of_another_are_not() {
    let (ours, theirs) = (Node::new(), Node::new());
    let mut our_orphan = orphan(&marker(&ours).await);
    let mut their_orphan = orphan(&marker(&theirs).await);
    let their_engine = theirs.serve(&[]).await;

    let report = launcher(&ours.state_dir(), true).sweep().await;
    assert!(report.failed.is_empty(), "{report:?}");
    // The engine that `marker` dropped may still have been ending.
    assert!(report.ended.contains(&("m".parse().unwrap(), our_orphan.id())), "{report:?}");
    our_orphan.wait().unwrap();
    assert!(is_alive(their_orphan.id()) && is_alive(their_engine.pid()));

    let report = launcher(&ours.state_dir(), true).sweep().await;
    assert_eq!(report, Default::default());
    their_orphan.kill().unwrap();
    their_orphan.wait().unwrap();
}

#[tokio::test]
async fn an_engine_that_hides_its_marker_is_found_by_its_record() {
    let node = Node::new();
    let mut hidden =
        Command::new(FAKE).args(["--leaf", "sleep"]).env_clear().stdout(Stdio::null()).spawn().unwrap();
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", hidden.id())).unwrap();
    let start: u64 = stat.rsplit_once(')').unwrap().1.split_whitespace().nth(19).unwrap().parse().unwrap();
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    let folder = node.state_dir().join("runtime/launched");
    std::fs::create_dir_all(&folder).unwrap();
    let record = |boot: &str, start: u64| {
        format!(r#"{{"runtime":"m","boot_id":"{boot}","pid":{},"start_time":{start}}}"#, hidden.id())
    };
    // A record of another boot or another start names another process.
    std::fs::write(folder.join("old-boot.json"), record("another", start)).unwrap();
    std::fs::write(folder.join("old-start.json"), record(boot.trim(), start - 1)).unwrap();
    assert_eq!(node.launcher.sweep().await, Default::default());
    assert!(is_alive(hidden.id()));
    std::fs::write(folder.join("this.json"), record(boot.trim(), start)).unwrap();
    let report = node.launcher.sweep().await;
    assert_eq!(report.ended, [("m".parse().unwrap(), hidden.id())]);
    hidden.wait().unwrap();
}

#[tokio::test]
async fn a_running_engine_is_on_record_and_an_ended_one_is_not() {
    let node = Node::new();
    let mut engine = node.serve(&[]).await;
    let records = || std::fs::read_dir(node.state_dir().join("runtime/launched")).unwrap().count();
    assert_eq!(records(), 1);
    engine.kill();
    crate::kit::exit_of(&mut engine).await;
    assert_eq!(records(), 0);
}
