//! A runtime's process is killed: how long until the next one speaks? Through keeper, shim and sandbox,
//! beside bare tokio::process.
//!
//! `./dev bench process`. Owns the measurement and its target. See `docs/benchmarks.md`.

#![expect(
    clippy::unwrap_used,
    reason = "a benchmark that cannot measure has nothing better to do than to end"
)]

#[path = "../../actors/benches/kit/mod.rs"]
#[expect(dead_code, reason = "the kit serves other benchmarks too")]
mod kit;

use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use arw_actors::runtime::launch::{KeeperProgram, OsLauncher, OsLauncherOptions};
use arw_actors::runtime::launcher::{Engine, LaunchSpec, Launcher as _};
use arw_actors::runtime::log::EngineLog;
use kit::{Better, Figures, Limit, Options, Target, machine, now, percentile, progress, report};
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::AsyncReadExt as _;

const FAKE: &str = env!("CARGO_BIN_EXE_fake_runtime");
const NAMESPACED: &str = "arw (keeper, shim, sandbox, pid namespace)";
const PLAIN: &str = "arw, without a pid namespace";
const AT_ONCE: &str = "arw, again at once (no spare keeper)";
const BARE: &str = "tokio::process, bare";

const TARGETS: &[Target] =
    &[Target { test: "kill_to_next_byte_p50", ours: NAMESPACED, limit: Limit::AtMost(5.0) }];

const ROUNDS: usize = 5;
const DEATHS: usize = 60;
/// How long an engine lives before it is killed: long enough that a spare keeper waits, as it does in any
/// life but the shortest.
const LIFE: Duration = Duration::from_millis(350);

fn main() {
    let options = Options::of_process(ROUNDS);
    options.refuse_rest();
    let pinned = if options.pin { machine::pin(options.core) } else { None };
    let mut figures = Figures::default();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    for round in 0..options.rounds {
        progress(&format!("round {} of {}", round + 1, options.rounds));
        let deaths = options.scaled(DEATHS);
        for (name, namespace, life) in
            [(NAMESPACED, true, LIFE), (PLAIN, false, LIFE), (AT_ONCE, true, Duration::ZERO)]
        {
            if options.invites(name) {
                add(&mut figures, name, runtime.block_on(ours(namespace, life, deaths)));
            }
        }
        if options.invites(BARE) {
            add(&mut figures, BARE, runtime.block_on(bare(deaths)));
        }
    }
    report("process", &figures, TARGETS, &[], &options, pinned);
}

/// What was taken of each death.
#[derive(Default)]
struct Samples {
    /// From the kill to the moment at which its end is known.
    seen: Vec<Duration>,
    /// From the kill to the first byte of its successor.
    next_byte: Vec<Duration>,
}

fn add(figures: &mut Figures, contender: &str, samples: Samples) {
    let parts = [("kill_to_seen", samples.seen), ("kill_to_next_byte", samples.next_byte)];
    for (test, mut samples) in parts {
        for (suffix, part) in [("p50", 0.5), ("p99", 0.99)] {
            let value = percentile(&mut samples, part).map_or(f64::NAN, |time| time.as_secs_f64() * 1e3);
            figures.add(&format!("{test}_{suffix}"), "ms", Better::Lower, contender, value);
        }
    }
}

async fn ours(pid_namespace: bool, life: Duration, deaths: usize) -> Samples {
    let folder = tempfile::tempdir().unwrap();
    let state_dir = folder.path().canonicalize().unwrap().join("state");
    let options = OsLauncherOptions {
        keeper: KeeperProgram { program: FAKE.into() },
        state_dir: state_dir.clone(),
        cpu_flags: Arc::default(),
        pid_namespace,
    };
    let launcher = OsLauncher::new(options).unwrap();
    let log = Arc::new(EngineLog::in_memory());
    let mut samples = Samples::default();
    let mut engine = launch(&launcher, &state_dir, &log, 0).await;
    for attempt in 1..=deaths {
        tokio::time::sleep(life).await;
        let killed = now();
        kill(engine.pid());
        engine.exited().await;
        samples.seen.push(killed.elapsed());
        engine = launch(&launcher, &state_dir, &log, attempt as u64).await;
        samples.next_byte.push(killed.elapsed());
    }
    samples
}

/// Starts an engine and waits for its first byte.
async fn launch(
    launcher: &OsLauncher,
    state_dir: &Path,
    log: &Arc<EngineLog>,
    attempt: u64,
) -> Box<dyn Engine> {
    let mut first_line = log.subscribe(log.newest() + 1);
    let spec = LaunchSpec {
        runtime: "bench".parse().unwrap(),
        attempt,
        program: FAKE.into(),
        args: vec!["--host={socket}".to_owned()],
        env: Default::default(),
        model: None,
        allow_read: Vec::new(),
        allow_exec: Vec::new(),
        allow_unix_connect: false,
        scratch: state_dir.join("runtime/bench/scratch"),
        log: Arc::clone(log),
    };
    let engine = launcher.launch(spec).await.unwrap();
    first_line.next(1).await;
    engine
}

async fn bare(deaths: usize) -> Samples {
    let folder = tempfile::tempdir().unwrap();
    let mut samples = Samples::default();
    let mut child = spawn(folder.path(), 0).await;
    for attempt in 1..=deaths {
        let killed = now();
        kill(child.id().unwrap());
        child.wait().await.unwrap();
        samples.seen.push(killed.elapsed());
        child = spawn(folder.path(), attempt).await;
        samples.next_byte.push(killed.elapsed());
    }
    child.kill().await.unwrap();
    samples
}

/// Starts the program as it is, and waits for its first byte.
async fn spawn(folder: &Path, attempt: usize) -> tokio::process::Child {
    let mut child = tokio::process::Command::new(FAKE)
        .arg("--host")
        .arg(folder.join(format!("{attempt}.sock")))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    child.stdout.as_mut().unwrap().read_u8().await.unwrap();
    child
}

fn kill(pid: u32) {
    let pid = Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    kill_process(pid, Signal::KILL).unwrap();
}
