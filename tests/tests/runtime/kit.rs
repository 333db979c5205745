//! A node on a folder of its own, and what tests do with it.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use arw_actors::config::{MachineDefaults, NodeConfig};
use arw_actors::ids::NodeId;
use arw_actors::runtime::launch::{KeeperProgram, OsLauncher, OsLauncherOptions};
use arw_actors::runtime::lease::{AcquireError, EngineLease};
use arw_actors::runtime::machine::RuntimeState;
use arw_actors::runtime::row::RuntimeRow;
use arw_actors::runtime::spec::RuntimeSpec;
use arw_actors::system::RunningNode;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use serde_json::{Value, json};

/// Everything in these tests happens within milliseconds; a loaded machine may need longer.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) const FAKE: &str = env!("CARGO_BIN_EXE_fake_runtime");

pub(crate) struct Stage {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) running: RunningNode,
}

impl Stage {
    pub(crate) async fn new() -> Self {
        let folder = tempfile::Builder::new().prefix("arw").tempdir().unwrap();
        let running = start(folder.path()).await;
        Self { folder, running }
    }

    /// Ends the node in order and starts another one on the same folder.
    pub(crate) async fn restart(self) -> Self {
        let Self { folder, running } = self;
        running.shutdown("test").await.expect("the node ends in time");
        let running = start(folder.path()).await;
        Self { folder, running }
    }

    pub(crate) async fn end(self) {
        self.running.shutdown("test").await.expect("the node ends in time");
    }

    pub(crate) async fn add(&self, id: &str, args: &[&str], more: Value) -> RuntimeRow {
        let mut spec = json!({
            "id": id, "adapter": "process", "program": FAKE,
            "args": ["--host", "{socket}", "--key-stdin"],
        });
        for arg in args {
            spec["args"].as_array_mut().unwrap().push(json!(arg));
        }
        for (key, value) in more.as_object().unwrap() {
            spec[key] = value.clone();
        }
        let spec: RuntimeSpec = serde_json::from_value(spec).unwrap();
        self.running.node.runtimes.add(spec).await.unwrap()
    }

    pub(crate) fn row(&self, id: &str) -> RuntimeRow {
        self.running.node.runtimes.row(id).unwrap()
    }

    /// Waits until the runtime is in this state.
    pub(crate) async fn reach(&self, id: &str, state: RuntimeState) -> RuntimeRow {
        self.until(id, &format!("{state:?}"), |row| row.state == state).await
    }

    pub(crate) async fn until(
        &self,
        id: &str,
        what: &str,
        is_so: impl Fn(&RuntimeRow) -> bool,
    ) -> RuntimeRow {
        let mut changes = self.running.node.runtimes.changes();
        let wait = async {
            loop {
                let row = self.row(id);
                if is_so(&row) {
                    return row;
                }
                changes.changed().await.unwrap();
            }
        };
        let row = tokio::time::timeout(PATIENCE, wait).await;
        row.unwrap_or_else(|_| panic!("{id} does not reach {what}: {:#?}", self.row(id)))
    }

    pub(crate) async fn acquire(&self, model: &str) -> Result<EngineLease, AcquireError> {
        self.running.node.runtimes.acquire(model, PATIENCE).await
    }

    /// Asks the engine behind a lease for a short answer.
    pub(crate) async fn complete(&self, lease: &EngineLease) -> Value {
        let body = json!({"model": "any", "prompt": "hello", "max_tokens": 3}).to_string();
        let request = http::Request::post("/v1/completions")
            .header("content-type", "application/json")
            .body(Full::new(Bytes::from(body)))
            .unwrap();
        let engines = &self.running.node.engines;
        let answer = engines.send(lease.endpoint(), lease.secret(), request).await.unwrap();
        assert_eq!(answer.status(), 200);
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        serde_json::from_slice(&body).unwrap()
    }

    pub(crate) async fn events(&self, kind: &str) -> Vec<Value> {
        let page = self.running.node.journal.replay(None, 1000, Some(kind.to_owned())).await.unwrap();
        page.events.iter().map(|record| record.event.data()).collect()
    }
}

async fn start(folder: &Path) -> RunningNode {
    let defaults = MachineDefaults { state_dir: folder.join("state"), name: "test".to_owned() };
    let mut config = NodeConfig::from_layers(&[], &defaults).unwrap().config;
    config.runtime.quarantine_retry_after = Duration::from_secs(1);
    config.runtime.stop_grace = Duration::from_secs(1);
    config.runtime.backoff.initial = Duration::from_millis(20);
    let launcher = OsLauncher::new(OsLauncherOptions {
        keeper: KeeperProgram { program: FAKE.into() },
        state_dir: config.node.state_dir.clone(),
        cpu_flags: Arc::default(),
        pid_namespace: true,
    })
    .unwrap();
    let (launcher, views) = (Arc::new(launcher), arw_gateway::views());
    let running =
        RunningNode::build(&config, launcher, views, |_| Ok(NodeId::from_bytes([7; 32]))).await.unwrap();
    running.serves_at("http://127.0.0.1:0".to_owned());
    running
}

/// Kills a process, by its id.
pub(crate) fn kill(pid: u32) {
    let pid = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
}
