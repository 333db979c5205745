//! Builds a node out of all crates and keeps it running.
//!
//! The only place that sees every crate. Owns `node.json`, by which commands find the node.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arw_actors::cluster::{ClusterError, Transport};
use arw_actors::config::NodeConfig;
use arw_actors::files;
use arw_actors::hardware::{HardwareSources, probe};
use arw_actors::ids::NodeId;
use arw_actors::log_health::LogHealth;
use arw_actors::runtime::launch::{KeeperProgram, OsLauncher, OsLauncherOptions};
use arw_actors::system::{BuildError, RunningNode};
use arw_gateway::{BindError, Gateway};
use arw_kit::clock::Clock;
use arw_kit::panics::install_panic_hook;
use arw_transport::identity::{KeyFileError, NodeKey};
use arw_transport::link::{Link, LinkError, LinkOptions};
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
    #[error("cannot make a runtime's surroundings in the state folder {}: {source}", state_dir.display())]
    Launcher { state_dir: PathBuf, source: io::Error },
    #[error("cannot listen for signals: {0}")]
    Signals(io::Error),
    #[error("cannot write {}: {source}", path.display())]
    NodeFile { path: PathBuf, source: io::Error },
    #[error(transparent)]
    Key(#[from] KeyFileError),
    #[error(transparent)]
    Link(#[from] LinkError),
    #[error("{0}")]
    Join(#[from] ClusterError),
    #[error("the node's supervisor gave up: {0}")]
    GaveUp(String),
}

impl From<ServeError> for Failure {
    fn from(error: ServeError) -> Self {
        let folder = "let this user write it, or name another folder with --state-dir or ARW_STATE_DIR; `arw doctor` checks it";
        let help = match &error {
            ServeError::Build(BuildError::Locked(_)) => {
                "`arw status` shows the running node; stop it first, or use another --state-dir"
            }
            ServeError::Build(BuildError::StateDir { .. })
            | ServeError::NodeFile { .. }
            | ServeError::Launcher { .. } => folder,
            ServeError::Build(_) => "`arw doctor` checks the state folder",
            ServeError::Bind(_) => "choose another address with --http, for example --http 127.0.0.1:8092",
            ServeError::Signals(_) => "`arw doctor` checks this machine",
            ServeError::Key(_) => "`arw doctor` checks the state folder",
            ServeError::Link(LinkError::Start(_)) => {
                "choose another address for other nodes with --cluster-listen, for example --cluster-listen 0.0.0.0:8092"
            }
            ServeError::Link(_) => "`arw doctor` checks the state folder",
            ServeError::Join(error) => error.help.as_str(),
            ServeError::GaveUp(_) => "`arw events` of the next start tells what happened; please report it",
        };
        Self::new(Exit::Failed, "the node did not start", error.to_string(), help)
    }
}

/// Runs a node until it is told to stop (Ctrl-C or SIGTERM). Calls `ready` once, when the gateway listens.
///
/// With a token the node joins a cluster once it is up, and ends when it may not; a node that is in one
/// already stays in it. The node's status tells when `log` cannot be written.
pub(crate) async fn serve(
    config: NodeConfig,
    token: Option<String>,
    log: LogHealth,
    ready: impl FnOnce(&Ready),
) -> Result<(), ServeError> {
    let clock = Clock::system();
    let began = clock.now();
    install_panic_hook();
    // Taken before anything is started, so that no signal is lost.
    let mut terminate = signal(SignalKind::terminate()).map_err(ServeError::Signals)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(ServeError::Signals)?;
    survive_large_files()?;

    let launcher = launcher(&config.node.state_dir)?;
    let running = RunningNode::build(&config, Arc::new(launcher), arw_gateway::views(), node_id).await?;
    let gateway = match Gateway::bind(running.node.clone(), &config.gateway) {
        Ok(gateway) => gateway,
        Err(error) => {
            running.shutdown("the gateway could not listen").await;
            return Err(error.into());
        }
    };
    let link = match link(&config, &running, &gateway) {
        Ok(link) => link,
        Err(error) => {
            running.shutdown("the network between nodes did not start").await;
            return Err(error);
        }
    };
    let http = format!("http://{}", gateway.local_addr());
    let node_file = match NodeFile::write(&running.node.info.state_dir, &http, clock) {
        Ok(node_file) => node_file,
        Err(error) => {
            link.stop().await;
            running.shutdown("the node's address file could not be written").await;
            return Err(error);
        }
    };
    running.watch_log(log);
    running.serves_at(http.clone());
    let took_ms = u64::try_from(clock.now().since(began).as_millis()).unwrap_or(u64::MAX);
    info!(http, took_ms, "node is up");

    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let serving = tokio::spawn(gateway.serve(async move {
        // Dropping the sender stops it just as well.
        let _ = stopped.await;
    }));
    let until_told = async {
        join(&link, token).await?;
        ready(&Ready { http, took_ms });
        let reason = running.node.system.ended().await;
        Err(ServeError::GaveUp(reason.to_string()))
    };
    let reason = tokio::select! {
        _ = terminate.recv() => Ok("asked to terminate"),
        _ = interrupt.recv() => Ok("interrupted"),
        reason = until_told => reason,
    };
    info!(?reason, "node is stopping");
    drop(node_file);
    if link.status().connections > 0 {
        // Others hear that nothing new shall come before anything is refused.
        running.node.cluster.set_draining(true);
        tokio::time::sleep(DRAINING_IS_HEARD).await;
    }
    let _ = stop.send(());
    if tokio::time::timeout(GATEWAY_PATIENCE, serving).await.is_err() {
        warn!("the gateway did not end in time");
    }
    // After the gateway, which lets the answers end that other nodes are reading.
    link.stop().await;
    let words = match &reason {
        Ok(words) => (*words).to_owned(),
        Err(reason) => reason.to_string(),
    };
    running.shutdown(&words).await;
    reason.map(drop)
}

/// A file that reaches the limit of `ulimit -f` is an error of its write, as a full disk is: without a
/// handler the kernel ends the process.
fn survive_large_files() -> Result<(), ServeError> {
    #[cfg(target_os = "linux")]
    {
        let signal_number = rustix::process::Signal::XFSZ.as_raw();
        // The handler stays when the listener goes.
        signal(SignalKind::from_raw(signal_number)).map(drop).map_err(ServeError::Signals)?;
    }
    Ok(())
}

/// Connects the node to its cluster, if it is in one, and gives the node the means to join one.
fn link(config: &NodeConfig, running: &RunningNode, gateway: &Gateway) -> Result<Arc<Link>, ServeError> {
    let node = &running.node;
    let key = NodeKey::load_or_create(&node.info.state_dir.join(NODE_KEY))?;
    let cluster = node.cluster.clone();
    let link = Link::open(LinkOptions {
        state_dir: node.info.state_dir.clone(),
        key: Arc::new(key),
        incarnation: node.info.incarnation,
        name: node.info.name.clone(),
        listen: config.cluster.listen,
        advertise: config.cluster.advertise,
        clock: node.system.clock(),
        tell: Arc::new(move |news| cluster.learn(news)),
        own_card: node.cluster.own_card(),
        services: gateway.stream_service(),
        // No actor of a node takes messages from other nodes yet.
        exports: Arc::default(),
    })?;
    node.cluster.attach(Arc::clone(&link) as Arc<dyn Transport>);
    Ok(link)
}

/// Joins with the token. A node that is a member already has used it, at its first start.
async fn join(link: &Link, token: Option<String>) -> Result<(), ServeError> {
    let Some(token) = token else { return Ok(()) };
    if link.has_joined_with(&token) {
        info!("this node is in that cluster already; the token is not used");
        return Ok(());
    }
    let joined = link.join(token).await?;
    info!(cluster = joined.cluster, address = %joined.address, "this node has joined a cluster");
    Ok(())
}

/// The node's key lies in its state folder; its id is the public half.
fn node_id(state_dir: &Path) -> Result<NodeId, String> {
    let key = NodeKey::load_or_create(&state_dir.join(NODE_KEY));
    key.map(|key| key.id()).map_err(|error| error.to_string())
}

/// In the state folder.
pub(crate) const NODE_KEY: &str = "node.key";

/// The gateway lets answers end for 10 s by itself.
const GATEWAY_PATIENCE: Duration = Duration::from_secs(12);
/// A changed card goes out within 250 ms, and needs a few more to be read.
const DRAINING_IS_HEARD: Duration = Duration::from_millis(400);

fn launcher(state_dir: &Path) -> Result<OsLauncher, ServeError> {
    let cpu = probe(&HardwareSources::system()).cpu;
    let launcher = KeeperProgram::current().and_then(|keeper| {
        OsLauncher::new(OsLauncherOptions {
            keeper,
            state_dir: state_dir.to_owned(),
            cpu_flags: Arc::new(cpu.features.into_iter().collect()),
            pid_namespace: true,
        })
    });
    launcher.map_err(|source| ServeError::Launcher { state_dir: state_dir.to_owned(), source })
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
