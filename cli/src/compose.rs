//! Builds a node out of all crates and keeps it running.
//!
//! The only place that sees every crate. Owns `node.json`, by which commands find the node.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arw_actors::clock::Clock;
use arw_actors::config::NodeConfig;
use arw_actors::files;
use arw_actors::hardware::{HardwareSources, probe};
use arw_actors::ids::NodeId;
use arw_actors::runtime::launch::{KeeperProgram, OsLauncher, OsLauncherOptions};
use arw_actors::supervision::install_panic_hook;
use arw_actors::system::{BuildError, RunningNode};
use arw_gateway::{BindError, Gateway};
use arw_transport::identity::NodeKey;
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};
use tracing::{info, warn};

use crate::failure::{Exit, Failure};

/// A node that is up, for the message to the person who started it.
#[derive(Clone, Debug)]
pub(crate) struct Ready {
    /// `http://127.0.0.1:8091`
    pub(crate) http: String,
    /// From start to listening.
    pub(crate) took_ms: u64,
}

/// The node did not start, or ended with an error.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ServeError {
    #[error(transparent)]
    Build(#[from] BuildError),
    #[error(transparent)]
    Bind(#[from] BindError),
    #[error("cannot prepare the start of runtimes: {0}")]
    Launcher(io::Error),
    #[error("cannot listen for signals: {0}")]
    Signals(io::Error),
    #[error("cannot write {}: {source}", path.display())]
    NodeFile { path: PathBuf, source: io::Error },
    #[error("the node's supervisor gave up: {0}")]
    GaveUp(String),
}

impl From<ServeError> for Failure {
    fn from(error: ServeError) -> Self {
        let help = match &error {
            ServeError::Build(BuildError::Locked(_)) => {
                "`arw status` shows the running node; stop it first, or use another --state-dir"
            }
            ServeError::Build(_) | ServeError::NodeFile { .. } => "`arw doctor` checks the state folder",
            ServeError::Bind(_) => "choose another address with --http, for example --http 127.0.0.1:8092",
            ServeError::Launcher(_) | ServeError::Signals(_) => "`arw doctor` checks this machine",
            ServeError::GaveUp(_) => "`arw events` of the next start tells what happened; please report it",
        };
        Self::new(Exit::Failed, "the node did not start", error.to_string(), help)
    }
}

/// Runs a node until it is told to stop (Ctrl-C or SIGTERM). Calls `ready` once, when the gateway listens.
pub(crate) async fn serve(config: NodeConfig, ready: impl FnOnce(&Ready)) -> Result<(), ServeError> {
    let clock = Clock::system();
    let began = clock.now();
    install_panic_hook();
    // Taken before anything is started, so that no signal is lost.
    let mut terminate = signal(SignalKind::terminate()).map_err(ServeError::Signals)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(ServeError::Signals)?;

    let launcher = launcher(&config.node.state_dir).map_err(ServeError::Launcher)?;
    let running = RunningNode::build(&config, Arc::new(launcher), node_id).await?;
    let gateway = match Gateway::bind(running.node.clone(), &config.gateway) {
        Ok(gateway) => gateway,
        Err(error) => {
            running.shutdown("the gateway could not listen").await;
            return Err(error.into());
        }
    };
    let http = format!("http://{}", gateway.local_addr());
    let node_file = NodeFile::write(&running.node.info.state_dir, &http, clock)?;
    running.serves_at(http.clone());
    let took_ms = u64::try_from(clock.now().since(began).as_millis()).unwrap_or(u64::MAX);
    info!(http, took_ms, "node is up");

    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let serving = tokio::spawn(gateway.serve(async move {
        // Dropping the sender stops it just as well.
        let _ = stopped.await;
    }));
    ready(&Ready { http, took_ms });

    let reason = tokio::select! {
        _ = terminate.recv() => Ok("asked to terminate"),
        _ = interrupt.recv() => Ok("interrupted"),
        reason = running.node.system.ended() => Err(reason),
    };
    info!(?reason, "node is stopping");
    drop(node_file);
    let _ = stop.send(());
    if tokio::time::timeout(GATEWAY_PATIENCE, serving).await.is_err() {
        warn!("the gateway did not end in time");
    }
    let words = match &reason {
        Ok(words) => (*words).to_owned(),
        Err(reason) => reason.to_string(),
    };
    running.shutdown(&words).await;
    reason.map(drop).map_err(|reason| ServeError::GaveUp(reason.to_string()))
}

/// The node's key lies in its state folder; its id is the public half.
fn node_id(state_dir: &Path) -> Result<NodeId, String> {
    let key = NodeKey::load_or_create(&state_dir.join(NODE_KEY));
    key.map(|key| key.id()).map_err(|error| error.to_string())
}

/// In the state folder.
const NODE_KEY: &str = "node.key";

/// The gateway drains for less than this by itself.
const GATEWAY_PATIENCE: Duration = Duration::from_secs(10);

fn launcher(state_dir: &Path) -> io::Result<OsLauncher> {
    let cpu = probe(&HardwareSources::system()).cpu;
    OsLauncher::new(OsLauncherOptions {
        keeper: KeeperProgram::current()?,
        state_dir: state_dir.to_owned(),
        cpu_flags: Arc::new(cpu.features.into_iter().collect()),
        pid_namespace: true,
    })
}

/// `node.json`: tells commands where the node is, for as long as it runs.
struct NodeFile {
    path: PathBuf,
}

impl NodeFile {
    fn write(state_dir: &Path, http: &str, clock: Clock) -> Result<Self, ServeError> {
        let path = state_dir.join("node.json");
        let contents = json!({"pid": std::process::id(), "http": http, "started_at": clock.wall()});
        files::replace(&path, contents.to_string().as_bytes())
            .map_err(|source| ServeError::NodeFile { path: path.clone(), source })?;
        Ok(Self { path })
    }
}

impl Drop for NodeFile {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.path) {
            warn!(%error, path = %self.path.display(), "the node's address file stays behind");
        }
    }
}
