//! Engines behind a start script: measured as one with it, ended with it.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use arw_actors::runtime::launcher::LaunchSpec;

use crate::kit::{FAKE, Node, ask};

/// A start script whose server is not the process that was launched.
fn behind(node: &Node, lines: &str, args: &[&str]) -> LaunchSpec {
    let folder = node.outside().join("scripts");
    std::fs::create_dir(&folder).unwrap();
    let script = folder.join("start.sh");
    std::fs::write(&script, format!("#!/bin/sh\n{}\n", lines.replace("SERVER", FAKE))).unwrap();
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
    let allow_exec = vec![Path::new(FAKE).parent().unwrap().to_owned()];
    LaunchSpec { program: script, allow_exec, ..node.spec(args) }
}

#[tokio::test]
async fn the_memory_and_the_work_of_a_server_behind_a_script_count_however_it_was_started() {
    const HELD: u64 = 64 * 1024 * 1024;
    for lines in [
        "SERVER \"$@\" <&0 & wait $!",
        "setsid SERVER \"$@\" <&0 & wait $!",
        "(SERVER \"$@\" <&0 &)\nexec sleep 1000",
    ] {
        for namespace in [true, false] {
            let node = Node::with_namespace(namespace);
            let spec = behind(&node, lines, &["--alloc-mb", "64", "--host", "{socket}"]);
            let engine = node.launch_spec(spec).await.unwrap();
            node.line("listening on").await;
            let held = engine.resident_bytes().unwrap();
            assert!(held > HELD && held < 2 * HELD, "{lines}: {held}");
            let before = engine.progress();
            for _ in 0..50 {
                assert_eq!(ask(&*engine, "GET", "/health", None, "").await.0, 200);
            }
            assert!(engine.progress() > before, "{lines}");
        }
    }
}
