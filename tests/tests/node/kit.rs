//! A node on a folder of its own.

use arw_tests::node::{NodeProcess, arw};
use serde_json::{Value, json};

pub(crate) const FAKE: &str = env!("CARGO_BIN_EXE_fake_runtime");

pub(crate) struct Stage {
    pub(crate) node: NodeProcess,
    pub(crate) folder: tempfile::TempDir,
}

impl Stage {
    pub(crate) fn new() -> Self {
        let folder = tempfile::Builder::new().prefix("arw").tempdir().unwrap();
        let node = NodeProcess::start(&arw(FAKE), &folder.path().join("state"), &[]).unwrap();
        Self { node, folder }
    }

    /// A node with a runtime called `one`.
    pub(crate) async fn with_fake(args: &[&str], more: Value) -> Self {
        let stage = Self::new();
        stage.node.add_fake("one", FAKE, args, more).await.unwrap();
        stage
    }
}

pub(crate) fn chat(model: &str, stream: bool) -> Value {
    json!({"model": model, "stream": stream, "messages": [{"role": "user", "content": "hello"}]})
}

/// Kills a process, by its id.
pub(crate) fn kill(pid: &Value) {
    let pid = i32::try_from(pid.as_i64().unwrap()).unwrap();
    let pid = rustix::process::Pid::from_raw(pid).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
}

pub(crate) fn is_alive(pid: &Value) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.as_i64().unwrap()));
    // A zombie has ended; whoever is its parent has not looked yet.
    stat.is_ok_and(|stat| !stat.contains(") Z "))
}
