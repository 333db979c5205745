//! A node in miniature: launches the fake engine through the OS launcher and lives until it is killed.
//!
//! Owns what tests of a node's sudden death need: a process of its own that holds a lifeline. Prints `engine
//! PID`. Refuses everything else that a node does.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use arw_actors::runtime::launch::{KeeperProgram, OsLauncher, OsLauncherOptions};
use arw_actors::runtime::launcher::{LaunchSpec, Launcher as _};
use arw_actors::runtime::log::EngineLog;

pub(crate) fn run(state_dir: &Path, pid_namespace: bool, args: &[String]) -> ExitCode {
    match live(state_dir, pid_namespace, args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("{problem}");
            ExitCode::FAILURE
        }
    }
}

fn live(state_dir: &Path, pid_namespace: bool, args: &[String]) -> Result<(), Box<dyn std::error::Error>> {
    let options = OsLauncherOptions {
        keeper: KeeperProgram::current()?,
        state_dir: state_dir.to_owned(),
        cpu_flags: Arc::default(),
        pid_namespace,
    };
    let launcher = OsLauncher::new(options)?;
    let log = Arc::new(EngineLog::in_memory());
    let spec = LaunchSpec {
        runtime: "node-engine".parse()?,
        attempt: 1,
        program: std::env::current_exe()?,
        args: args.to_vec(),
        env: Default::default(),
        model: None,
        allow_read: Vec::new(),
        allow_exec: Vec::new(),
        allow_unix_connect: false,
        scratch: state_dir.join("runtime/node-engine/scratch"),
        log: Arc::clone(&log),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut follower = log.subscribe(0);
        let mut engine = launcher.launch(spec).await?;
        println!("engine {}", engine.pid());
        loop {
            tokio::select! {
                exit = engine.exited() => {
                    println!("exited {}", exit.diagnosis.detail);
                    return Ok(());
                }
                page = follower.next(100) => {
                    page.lines.iter().for_each(|line| println!("log {}", line.text));
                }
            }
        }
    })
}
