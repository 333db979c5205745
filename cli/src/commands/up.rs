//! `arw up`: settings, logging, then the node.

use arw_actors::config::{LogFormat, LogLevel, LogSettings};
use arw_actors::log_health::LogHealth;
use serde_json::json;
use tracing::warn;
use tracing_subscriber::EnvFilter;

use crate::args::Up;
use crate::compose::{self, Ready};
use crate::context::Context;
use crate::failure::{Exit, Failure};
use crate::load_config::{self, Wishes};
use crate::output::formats::Format;
use crate::output::log::LogOutput;
use crate::place;

/// Runs a node until it is told to end; with a token it joins a cluster as soon as it is up.
pub(crate) async fn run(context: &Context, up: &Up, token: Option<String>) -> Result<(), Failure> {
    if let Some(server) = &context.locator.server {
        return Err(Failure::new(
            Exit::Usage,
            "`arw up` starts a node on this machine",
            format!("--server or ARW_SERVER names the node at {server}"),
            "leave it out; --http says where the new node listens",
        ));
    }
    let loaded = load_config::load(&wishes(context, up), &place::machine_defaults())?;
    for warning in &loaded.warnings {
        context.screen.note(warning);
    }
    let config = loaded.settings.config;
    if let Some(homeless) = place::homeless(&config.node.state_dir) {
        context.screen.note(&format!("note: {homeless}"));
    }
    let log = start_logging(config.log, context)?;
    let mut shown = Ok(());
    let ready = |ready: &Ready| {
        shown = show(context, ready);
        if let Err(Failure::Told(told)) = &shown {
            warn!(why = told.why, "what the node prints on standard output cannot be written; it goes on");
        }
    };
    compose::serve(config, token, log, ready).await?;
    shown
}

/// What the command line says about settings.
pub(crate) fn wishes<'a>(context: &'a Context, up: &'a Up) -> Wishes<'a> {
    let mut flags = Vec::new();
    for (flag, key, address) in [
        ("--http", "gateway.http", up.http),
        ("--cluster-listen", "cluster.listen", up.cluster_listen),
        ("--cluster-advertise", "cluster.advertise", up.cluster_advertise),
    ] {
        flags.extend(address.map(|address| (flag, key, address.to_string())));
    }
    for (flag, key, value) in [
        ("--name", "node.name", &up.name),
        ("--log-level", "log.level", &up.log_level),
        ("--log-format", "log.format", &up.log_format),
    ] {
        flags.extend(value.clone().map(|value| (flag, key, value)));
    }
    Wishes { state_dir: context.state_dir.as_ref(), file: up.configured.config.as_deref(), flags }
}

/// The node's log goes to standard error: standard output is for data.
fn start_logging(log: LogSettings, context: &Context) -> Result<LogHealth, Failure> {
    let level = match log.level {
        LogLevel::Error => "error",
        LogLevel::Warn => "warn",
        LogLevel::Info => "info",
        LogLevel::Debug => "debug",
        LogLevel::Trace => "trace",
    };
    // ractor tells each message at debug: that drowns our own.
    let filter = EnvFilter::new(format!("{level},ractor=warn,hyper=warn,hyper_util=warn"));
    let health = LogHealth::default();
    let output = LogOutput::standard_error(health.clone());
    // Its way of telling that a line cannot be written is to print that, which panics where printing is what
    // fails.
    let builder =
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(output).log_internal_errors(false);
    let colour = context.screen.style.colour && context.screen.style.terminal_err;
    let started = match log.format {
        LogFormat::Text => builder.with_ansi(colour).try_init(),
        LogFormat::Json => builder.json().try_init(),
    };
    started.map(|()| health).map_err(|error| {
        Failure::new(Exit::Failed, "cannot start logging", error.to_string(), "report this as a bug")
    })
}

/// Tells that the node is up, and what to do with it.
fn show(context: &Context, ready: &Ready) -> Result<(), Failure> {
    let screen = &context.screen;
    let http = &ready.http;
    let state_dir = context.locator.state_dir.display();
    let record = json!({"http": http, "took_ms": ready.took_ms, "pid": std::process::id()});
    match screen.format {
        Format::Table => screen.data(&format!(
            "node is up: {http} (after {took} ms, state in {state_dir})\n\n  arw status\n  arw chat\n  curl {http}/state/runtimes\n\nCtrl-C stops it.\n",
            took = ready.took_ms
        )),
        Format::Yaml => screen.data(&crate::output::formats::yaml(&record)?),
        Format::Json | Format::Ndjson => screen.data(&format!("{record}\n")),
        Format::Csv => screen.data(&format!("http,took_ms,pid\n{http},{},{}\n", ready.took_ms, std::process::id())),
    }
}
