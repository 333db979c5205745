//! What the gateway adds to a request, what a second node adds, what reading the state costs, and how many
//! listeners it serves.
//!
//! `./dev bench gateway`: runs `arw` as a process of its own in front of the fake engine. Owns what is
//! compared and what must be reached; how it is measured lies beside this file. See `docs/benchmarks.md`.

#![expect(
    clippy::unwrap_used,
    reason = "a benchmark that cannot measure has nothing better to do than to end"
)]
#![expect(clippy::cast_precision_loss, reason = "counts far below 2^53")]

#[path = "../../actors/benches/kit/mod.rs"]
#[expect(dead_code, reason = "the kit serves other benchmarks too")]
mod kit;

#[path = "gateway/chat.rs"]
mod chat;
#[path = "gateway/cluster.rs"]
mod cluster;
#[path = "gateway/events.rs"]
mod events;
#[path = "gateway/peers.rs"]
mod peers;
#[path = "gateway/state.rs"]
mod state;

use std::path::{Path, PathBuf};
use std::time::Duration;

use arw_tests::node::{NodeProcess, arw};
use kit::{Better, Figures, Limit, Options, Target, machine, now, progress, report};
use serde_json::json;

const FAKE: &str = env!("CARGO_BIN_EXE_fake_runtime");
const ARW: &str = "arw";
const DIRECT: &str = "engine asked directly";
const ADDED: &str = "added by arw";
const RAW: &str = "raw loop";
const NEAR: &str = "the node that serves";
const THROUGH: &str = "through another node";
const ADDED_BY_NODE: &str = "added by the second node";

const TARGETS: &[Target] = &[
    Target { test: "chat_p50", ours: ADDED, limit: Limit::AtMost(0.3) },
    Target { test: "chat_p99", ours: ADDED, limit: Limit::AtMost(1.0) },
    Target { test: "first_token_p50", ours: ADDED, limit: Limit::AtMost(1.0) },
    Target { test: "far_first_token_p50", ours: ADDED_BY_NODE, limit: Limit::AtMost(2.0) },
    Target { test: "state_cpu_per_request", ours: ARW, limit: Limit::TimesAtMost(RAW, 1.2) },
    Target { test: "listeners_cpu", ours: ARW, limit: Limit::TimesAtMost(RAW, 1.5) },
    Target { test: "listeners_spread_p99", ours: ARW, limit: Limit::TimesAtMost(RAW, 1.6) },
    Target { test: "listeners_memory", ours: ARW, limit: Limit::AtMost(24.0) },
    Target { test: "idle_memory", ours: ARW, limit: Limit::AtMost(40.0) },
    Target { test: "start_to_healthz", ours: ARW, limit: Limit::AtMost(300.0) },
];

const ROUNDS: usize = 5;

fn main() {
    let mut options = Options::of_process(ROUNDS);
    if let [role, argument] = options.rest.as_slice() {
        // A peer is a process of its own, so that its CPU time and memory are its own.
        return peers::serve(role, argument);
    }
    options.refuse_rest();
    // Client, node and engine are three processes: pinned to one core they would measure each other.
    options.pin = false;
    let program = arw(FAKE);
    if !program.exists() {
        progress(&format!(
            "error: {} is missing: build it with `cargo build --release -p arw-cli`",
            program.display()
        ));
        std::process::exit(2);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut figures = Figures::default();
    let mut notes = Vec::new();
    for round in 0..options.rounds {
        progress(&format!("round {} of {}", round + 1, options.rounds));
        runtime.block_on(measure(&program, &options, &mut figures, &mut notes));
    }
    notes.dedup();
    report("gateway", &figures, TARGETS, &notes, &options, None);
}

/// One round of everything.
async fn measure(program: &Path, options: &Options, figures: &mut Figures, notes: &mut Vec<String>) {
    if options.wants("start") || options.wants("idle") {
        start_and_idle(program, options, figures).await;
    }
    if options.wants("chat") || options.wants("first_token") {
        let stage = Stage::new(program);
        chat::measure(&stage.node, options, figures, notes).await;
        stage.node.stop().unwrap();
    }
    if options.wants("far") {
        let (near, far) = (Stage::new(program), Stage::new(program));
        cluster::measure(&near, &far, options, figures, notes).await;
        near.node.stop().unwrap();
        far.node.stop().unwrap();
    }
    if options.wants("state") {
        let stage = Stage::new(program);
        state::measure(&stage.node, options, figures).await;
        stage.node.stop().unwrap();
    }
    if options.wants("listeners") {
        let stage = Stage::new(program);
        events::measure(&stage.node, options, figures, notes).await;
        stage.node.stop().unwrap();
    }
}

/// A node on a folder of its own.
pub(crate) struct Stage {
    pub(crate) node: NodeProcess,
    _folder: tempfile::TempDir,
}

impl Stage {
    fn new(program: &Path) -> Self {
        let folder = tempfile::Builder::new().prefix("arw-bench").tempdir().unwrap();
        let config = config(folder.path());
        let config = config.to_str().unwrap();
        let state_dir = folder.path().join("state");
        let node = NodeProcess::start(
            program,
            &state_dir,
            &["--config", config, "--log-level", "warn", "--cluster-listen", "127.0.0.1:0"],
        );
        Self { node: node.unwrap(), _folder: folder }
    }
}

/// Settings that let as many clients in as a benchmark has.
fn config(folder: &Path) -> PathBuf {
    let path = folder.join("bench.toml");
    std::fs::write(&path, "[gateway]\nconnections_max = 16000\nevent_streams_max = 16000\n").unwrap();
    path
}

/// From the start of the program to the first answer, and the memory that it then holds.
async fn start_and_idle(program: &Path, options: &Options, figures: &mut Figures) {
    let folder = tempfile::Builder::new().prefix("arw-bench").tempdir().unwrap();
    let began = now();
    let node = NodeProcess::start(program, &folder.path().join("state"), &["--log-level", "warn"]).unwrap();
    let answer = node.get("/healthz").await.unwrap();
    let took = began.elapsed();
    assert_eq!(answer.status, 200);
    figures.add("start_to_healthz", "ms", Better::Lower, ARW, took.as_secs_f64() * 1e3);
    // With one engine that has served, as a node at rest has.
    node.add_fake("one", FAKE, &[], json!({"auto_start": true})).await.unwrap();
    node.until("one", |row| row["state"] == "ready").await.unwrap();
    tokio::time::sleep(Duration::from_millis(options.scaled(2_000) as u64)).await;
    let bytes = machine::resident_bytes(Some(node.pid())).unwrap();
    figures.add("idle_memory", "MiB resident, one runtime", Better::Lower, ARW, bytes as f64 / MIB);
    node.stop().unwrap();
}

const MIB: f64 = 1024.0 * 1024.0;
