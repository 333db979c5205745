//! A model server without a model: speaks like `llama-server`, misbehaves on request.
//!
//! Owns the behaviours that tests and benchmarks need of an engine (`--help` lists them). It is also its own
//! keeper and shim, and with `--as-node` a node that launches itself, for tests that kill a whole node.
//! Refuses to know what is tested with it. The non-streaming path allocates next to nothing: it is the peer
//! in overhead benchmarks.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "an engine prints: that is what its launcher captures"
)]

#[path = "fake_runtime/answers.rs"]
mod answers;
#[path = "fake_runtime/as_node.rs"]
mod as_node;
#[path = "fake_runtime/behaviour.rs"]
mod behaviour;
#[path = "fake_runtime/generation.rs"]
mod generation;
#[path = "fake_runtime/options.rs"]
mod options;
#[path = "fake_runtime/probes.rs"]
mod probes;
#[path = "fake_runtime/server.rs"]
mod server;

use std::io::{BufRead as _, Read as _};
use std::process::ExitCode;
use std::sync::Arc;

use behaviour::Behaviour;
use options::{Mode, Options};

fn main() -> ExitCode {
    if let Some(code) = arw_actors::runtime::launch::run_hidden(std::env::args_os()) {
        return code;
    }
    let options = match Options::parse(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(problem) => {
            eprintln!("{problem}");
            return ExitCode::FAILURE;
        }
    };
    match &options.mode {
        Mode::Help => {
            print!("{}", options::HELP);
            ExitCode::SUCCESS
        }
        Mode::AsNode { state_dir, pid_namespace, args } => as_node::run(state_dir, *pid_namespace, args),
        Mode::Leaf(leaf) => probes::be_leaf(leaf),
        Mode::Serve => serve(options),
    }
}

fn serve(options: Options) -> ExitCode {
    let key = match read_key(&options) {
        Ok(key) => key,
        Err(error) => {
            eprintln!("error: no API key: {error}");
            return ExitCode::FAILURE;
        }
    };
    if let Err(problem) = probes::run(&options) {
        eprintln!("{problem}");
        return ExitCode::FAILURE;
    }
    let behaviour = Arc::new(Behaviour::new(&options));
    if options.crash_at_start {
        behaviour.die();
    }
    // One thread: requests take microseconds, and a benchmark pins it to a core.
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: no runtime: {error}");
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(server::run(options, behaviour, key)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("{problem}");
            ExitCode::FAILURE
        }
    }
}

/// The key that clients must show; `None`: anyone may ask.
fn read_key(options: &Options) -> std::io::Result<Option<String>> {
    if let Some(key) = &options.api_key {
        return Ok(Some(key.clone()));
    }
    let mut text = String::new();
    if options.key_stdin {
        std::io::stdin().lock().read_line(&mut text)?;
    } else if let Some(file) = &options.api_key_file {
        std::fs::File::open(file)?.read_to_string(&mut text)?;
    } else {
        return Ok(None);
    }
    match text.trim() {
        "" => Err(std::io::Error::new(std::io::ErrorKind::InvalidData, "it is empty")),
        key => Ok(Some(key.to_owned())),
    }
}
