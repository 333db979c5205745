//! Nodes that make one cluster, each a process of its own.

use std::net::UdpSocket;
use std::path::Path;
use std::time::Duration;

use arw_tests::http::{Answer, Error, PATIENCE};
use arw_tests::node::{NodeProcess, arw};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tokio::time::Instant;

pub(crate) const FAKE: &str = env!("CARGO_BIN_EXE_fake_runtime");

/// A node and what is needed to start it again.
pub(crate) struct Node {
    pub(crate) name: &'static str,
    pub(crate) process: NodeProcess,
    folder: tempfile::TempDir,
    /// Its UDP port stays the same over restarts.
    listen: String,
}

impl Node {
    pub(crate) fn start(name: &'static str) -> Self {
        let folder = tempfile::Builder::new().prefix("arw").tempdir().unwrap();
        let listen = free_udp_address();
        let process = start(folder.path(), name, &listen);
        Self { name, process, folder, listen }
    }

    /// A node that was started elsewhere, on this folder.
    pub(crate) fn of(name: &'static str, folder: tempfile::TempDir, process: NodeProcess) -> Self {
        Self { name, process, folder, listen: "0.0.0.0:8091".to_owned() }
    }

    /// Ends it as a power cut does, and leaves what it has on disk.
    pub(crate) fn into_folder(self) -> (&'static str, tempfile::TempDir) {
        self.signal(Signal::KILL);
        (self.name, self.folder)
    }

    /// Starts it again, on the same folder and port, after it was killed.
    pub(crate) fn restart(&mut self) {
        self.process = start(self.folder.path(), self.name, &self.listen);
    }

    pub(crate) async fn id(&self) -> String {
        self.process.get("/state/node").await.unwrap().json()["node"]["id"].as_str().unwrap().to_owned()
    }

    pub(crate) async fn token(&self, uses: u32) -> String {
        let made = self.process.post("/cluster/tokens", json!({ "uses": uses })).await.unwrap();
        assert_eq!(made.status, 201, "{made:?}");
        made.json()["token"].as_str().unwrap().to_owned()
    }

    pub(crate) async fn join(&self, token: &str) -> Answer {
        self.process.post("/cluster/join", json!({ "token": token })).await.unwrap()
    }

    /// The row of the node of this name in the picture of this one.
    pub(crate) async fn sees(&self, name: &str) -> Option<Value> {
        let state = self.process.get("/state/cluster").await.ok()?.json();
        state["nodes"].as_array()?.iter().find(|row| row["name"] == name).cloned()
    }

    /// Waits until the row of the node of this name is so, and says how long that took.
    pub(crate) async fn until(&self, name: &str, what: &str, is_so: impl Fn(&Value) -> bool) -> Duration {
        let began = Instant::now();
        loop {
            let row = self.sees(name).await;
            if row.as_ref().is_some_and(&is_so) {
                return began.elapsed();
            }
            assert!(began.elapsed() < PATIENCE, "{} does not see {name} {what}: {row:#?}", self.name);
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    pub(crate) async fn until_state(&self, name: &str, state: &str) -> Duration {
        self.until(name, state, |row| row["state"] == state).await
    }

    /// Waits until the node of this name is up and has sent its card.
    pub(crate) async fn until_met(&self, name: &str) {
        self.until(name, "up with a card", |row| row["state"] == "up" && row["source"] == "card").await;
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.process.pid()).unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    /// `arw` with these arguments, on this node.
    pub(crate) fn arw(&self, args: &[&str]) -> String {
        let output = arw_tests::node::run(&arw(FAKE), self.folder.path(), args).unwrap();
        assert!(output.status.success(), "arw {args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    pub(crate) async fn add_fake(&self, id: &str, args: &[&str]) -> Result<(), Error> {
        self.process.add_fake(id, FAKE, args, json!({ "auto_start": true })).await?;
        self.process.until(id, |row| row["state"] == "ready").await.map(drop)
    }
}

/// Nodes of one cluster, that all see each other. The first one made it.
pub(crate) async fn cluster<const N: usize>(names: [&'static str; N]) -> [Node; N] {
    let nodes = names.map(Node::start);
    meet(&nodes).await;
    nodes
}

/// Makes one cluster of them: the first makes it, the others join.
pub(crate) async fn meet(nodes: &[Node]) {
    let token = nodes[0].token(u32::try_from(nodes.len()).unwrap()).await;
    for node in &nodes[1..] {
        let joined = node.join(&token).await;
        assert_eq!(joined.status, 200, "{joined:?}");
    }
    for node in nodes {
        for other in nodes.iter().filter(|other| other.name != node.name) {
            node.until_met(other.name).await;
        }
    }
}

fn start(folder: &Path, name: &str, listen: &str) -> NodeProcess {
    NodeProcess::start(
        &arw(FAKE),
        folder,
        &["--name", name, "--cluster-listen", listen, "--log-level", "warn"],
    )
    .unwrap()
}

/// A port that nobody has now. Ports are given out in turn, so that nobody else gets it soon.
fn free_udp_address() -> String {
    UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}
