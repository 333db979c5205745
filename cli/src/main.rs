//! The `arw` program: a node, and the commands to see and use it.

mod args;
mod client;
mod commands;
mod compose;
mod context;
mod driver_watch;
mod failure;
mod load_config;
mod output;
mod place;

use std::io::Write;
use std::num::NonZero;
use std::path::Path;
use std::process::ExitCode;

use arw_actors::config::Origin;
use clap::error::{ContextKind, ContextValue};
use clap::parser::ValueSource;
use clap::{ArgMatches, CommandFactory, FromArgMatches};
use tokio::runtime::RuntimeFlavor;

use args::{Arguments, Command};
use context::Context;
use driver_watch::DriverWatch;
use failure::{Exit, Failure};
use output::formats::Format;

fn main() -> ExitCode {
    // The keeper and the shim of a runtime are this program under a hidden first argument.
    if let Some(code) = arw_actors::runtime::launch::run_hidden(std::env::args_os()) {
        return code;
    }
    let parsed = Arguments::command().try_get_matches();
    let parsed = parsed.and_then(|matches| Ok((Arguments::from_arg_matches(&matches)?, matches)));
    let (arguments, matches) = match parsed {
        Ok(parsed) => parsed,
        Err(words) => return answer_of_the_parser(&words),
    };
    let origin = state_dir_origin(&matches);
    if arguments.global.state_dir.as_deref() == Some(Path::new("")) {
        let failure = match &origin {
            Origin::Environment(name) => set_to_nothing(name, "--state-dir <DIR>"),
            _ => Failure::new(
                Exit::Usage,
                "--state-dir is empty",
                "it names no folder",
                "name one, or leave it out",
            ),
        };
        tell(&failure, arguments.global.output);
        return failure.exit().into();
    }
    let format_is_chosen = matches.value_source("output") == Some(ValueSource::CommandLine);
    let context = Context::new(&arguments.global, origin, format_is_chosen);
    let format = arguments.global.output;
    let outcome = runtime(&arguments.command).and_then(|runtime| {
        let _watch = watched(&runtime)?;
        let outcome = runtime.block_on(run(arguments, &context));
        // A thread that waits for a line of standard input must not hold up the end.
        runtime.shutdown_background();
        outcome
    });
    match outcome {
        Ok(exit) => exit.into(),
        Err(failure) => {
            tell(&failure, format);
            failure.exit().into()
        }
    }
}

/// Help and version go to standard output, which may not take them; what is wrong with the command line goes
/// to standard error.
fn answer_of_the_parser(words: &clap::Error) -> ExitCode {
    if let Some(failure) = empty_variable(words) {
        tell(&failure, Format::Table);
        return failure.exit().into();
    }
    let printed = words.print().and_then(|()| std::io::stdout().flush());
    match (printed, words.use_stderr()) {
        (_, true) => Exit::Usage.into(),
        (Ok(()), false) => Exit::Done.into(),
        (Err(error), false) => {
            let failure = Failure::from_output(&error);
            tell(&failure, Format::Table);
            failure.exit().into()
        }
    }
}

/// A variable that is set to nothing, as compose files do, is refused by the name of its flag, which nobody
/// wrote.
fn empty_variable(words: &clap::Error) -> Option<Failure> {
    let Some(ContextValue::String(argument)) = words.get(ContextKind::InvalidArg) else { return None };
    let is_empty = |name: &str| std::env::var_os(name).is_some_and(|value| value.is_empty());
    let (name, _) = args::variables().into_iter().find(|(name, flag)| flag == argument && is_empty(name))?;
    Some(set_to_nothing(&name, argument))
}

fn set_to_nothing(name: &str, argument: &str) -> Failure {
    let what = format!("the environment variable {name} is empty");
    let why = format!("it is set to nothing, and stands for {argument}, which needs a value");
    Failure::new(Exit::Usage, what, why, "unset it, or give it a value")
}

async fn run(arguments: Arguments, context: &Context) -> Result<Exit, Failure> {
    // Large futures of single commands do not belong on the stack of all the others.
    Box::pin(commands::dispatch(arguments, context)).await
}

/// A node uses every core; a command that asks one needs no second thread, and starts faster without.
fn runtime(command: &Command) -> Result<tokio::runtime::Runtime, Failure> {
    let mut builder = match command {
        Command::Up(_) | Command::Join(_) => tokio::runtime::Builder::new_multi_thread(),
        Command::Run(_)
        | Command::Chat(_)
        | Command::Status
        | Command::Doctor(_)
        | Command::Actors(_)
        | Command::Cluster(_)
        | Command::Runtime(_)
        | Command::Model(_)
        | Command::Token(_)
        | Command::Events(_)
        | Command::Config(_)
        | Command::Completions { .. }
        | Command::Man { .. } => tokio::runtime::Builder::new_current_thread(),
    };
    if matches!(command, Command::Up(_) | Command::Join(_)) {
        // With one thread an actor that blocks it would stop everything: the watch needs a second one.
        let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
        builder.worker_threads(cores.max(2));
    }
    builder.enable_all().build().map_err(|error| cannot_start(&error))
}

/// A node stays visible while one of its actors blocks a thread; a command has no second thread.
fn watched(runtime: &tokio::runtime::Runtime) -> Result<Option<DriverWatch>, Failure> {
    match runtime.handle().runtime_flavor() {
        RuntimeFlavor::MultiThread => DriverWatch::over(runtime.handle().clone()).map(Some),
        _ => Ok(None),
    }
    .map_err(|error| cannot_start(&error))
}

fn cannot_start(error: &std::io::Error) -> Failure {
    let help = "free threads and open files (`ulimit -a` shows the limits), then try again";
    Failure::new(Exit::Failed, "cannot start", error.to_string(), help)
}

fn tell(failure: &Failure, format: Format) {
    let Failure::Told(told) = failure else { return };
    let text = match format {
        Format::Json | Format::Ndjson => told.json(),
        Format::Table | Format::Yaml | Format::Csv => told.text(),
    };
    // Standard error may be gone; then there is nobody to tell.
    let _ = std::io::stderr().lock().write_all(text.as_bytes());
}

fn state_dir_origin(matches: &ArgMatches) -> Origin {
    match matches.value_source("state_dir") {
        Some(ValueSource::CommandLine) => Origin::Flag("--state-dir".to_owned()),
        Some(_) | None => Origin::Environment("ARW_STATE_DIR".to_owned()),
    }
}
