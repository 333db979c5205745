//! A node for a command that needs one: the one that runs, or one of our own that ends with the command.
//!
//! Owns finding, starting and stopping. Refuses to know what the node is needed for.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use arw_actors::config::format_duration;

use crate::client::discovery::{Locator, read_node_file};
use crate::client::http::{Call, Node};
use crate::context::Context;
use crate::failure::{Exit, Failure};

/// A node answers within 300 ms of its start; a slow disk may need much more for an old journal.
const READY_WITHIN: Duration = Duration::from_secs(30);
/// How often to look whether it is ready: below what a person notices.
const LOOK_EVERY: Duration = Duration::from_millis(25);
/// The node itself gives its runtimes 10 s to end (`runtime.stop_grace`).
const STOPPED_WITHIN: Duration = Duration::from_secs(15);
/// So much of the log is shown when the node does not start.
const LOG_LINES_SHOWN: usize = 10;

/// A node, and the duty to stop it where it was started for this command.
#[derive(Debug)]
pub(crate) struct EnsuredNode {
    pub(crate) node: Node,
    started: Option<Started>,
}

#[derive(Debug)]
struct Started {
    child: Child,
}

/// Finds the node that runs, or starts one on the same state folder and waits until it is ready.
pub(crate) async fn ensure_node(context: &Context) -> Result<EnsuredNode, Failure> {
    match running_node(context).await? {
        Some(node) => Ok(EnsuredNode { node, started: None }),
        None => start(context).await,
    }
}

/// The node that runs; `None` when none runs on the state folder. A node that `--server` names must answer.
pub(crate) async fn running_node(context: &Context) -> Result<Option<Node>, Failure> {
    let none_runs = match context.node() {
        Ok(node) => match node.get("/readyz").await {
            Ok(_) => return Ok(Some(node)),
            Err(error) => Failure::from(error),
        },
        Err(failure) => failure,
    };
    if none_runs.exit() != Exit::Unreachable || context.locator.server.is_some() {
        return Err(none_runs);
    }
    Ok(None)
}

async fn start(context: &Context) -> Result<EnsuredNode, Failure> {
    let dir = &context.locator.state_dir;
    context.screen.note(&format!("no node runs in {}: starting one for this command", dir.display()));
    let log = log_path(dir);
    let child = spawn(dir, &log).map_err(|error| {
        let help = "check that the state folder can be written, or name another one with --state-dir";
        Failure::new(Exit::Failed, "cannot start a node", error.to_string(), help)
    })?;
    let mut started = Started { child };
    match wait_until_ready(context, &mut started, &log).await {
        Ok(node) => Ok(EnsuredNode { node, started: Some(started) }),
        Err(failure) => {
            started.stop(context).await;
            Err(failure)
        }
    }
}

/// The node in a process group of its own: Ctrl-C in this terminal is for the conversation, not for the node.
fn spawn(dir: &Path, log: &Path) -> std::io::Result<Child> {
    if let Some(folder) = log.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let log = private_file(log)?;
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("up").arg("--state-dir").arg(dir);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
    #[cfg(unix)]
    std::os::unix::process::CommandExt::process_group(&mut command, 0);
    command.spawn()
}

fn private_file(path: &Path) -> std::io::Result<File> {
    let mut options = File::options();
    options.create(true).write(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

fn log_path(dir: &Path) -> PathBuf {
    dir.join("logs").join("node.log")
}

async fn wait_until_ready(context: &Context, started: &mut Started, log: &Path) -> Result<Node, Failure> {
    let clock = context.screen.clock();
    let until = clock.now() + READY_WITHIN;
    let pid = started.child.id();
    loop {
        if let Ok(Some(status)) = started.child.try_wait() {
            return Err(not_started(&format!("it ended at once ({status})"), log));
        }
        if let Some(node) = ready(&context.locator, pid).await {
            return Ok(node);
        }
        if clock.now() >= until {
            return Err(not_started(
                &format!("it was not ready within {}", format_duration(READY_WITHIN)),
                log,
            ));
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// The node with this process id, once it says that it is ready. A file that an earlier node left has another
/// id.
async fn ready(locator: &Locator, pid: u32) -> Option<Node> {
    let file = read_node_file(&locator.state_dir).ok()??;
    if file.pid != pid {
        return None;
    }
    let node = Node::new(locator.find().ok()?);
    node.answer(Call::get("/readyz").within(Duration::from_secs(2))).await.ok()?;
    Some(node)
}

fn not_started(why: &str, log: &Path) -> Failure {
    let text =
        std::fs::read(log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    let last = &lines[lines.len().saturating_sub(LOG_LINES_SHOWN)..];
    let why = if last.is_empty() { why.to_owned() } else { format!("{why}; it said:\n{}", last.join("\n")) };
    let help = format!("start it yourself to see more: `arw up`; its log is {}", log.display());
    Failure::new(Exit::Failed, "the node did not start", why, help)
}

impl EnsuredNode {
    /// Stops the node where it was started for this command, and leaves any other alone.
    pub(crate) async fn release(mut self, context: &Context) {
        if let Some(started) = &mut self.started {
            context.screen.note("stopping the node that was started for this command");
            started.stop(context).await;
        }
    }
}

impl Started {
    async fn stop(&mut self, context: &Context) {
        let clock = context.screen.clock();
        let until = clock.now() + STOPPED_WITHIN;
        self.ask_to_end();
        while matches!(self.child.try_wait(), Ok(None)) {
            if clock.now() >= until {
                context.screen.note(&format!("note: node {} does not end; killing it", self.child.id()));
                let _ = self.child.kill();
                let _ = self.child.wait();
                return;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    fn ask_to_end(&mut self) {
        #[cfg(unix)]
        if let Some(pid) = i32::try_from(self.child.id()).ok().and_then(rustix::process::Pid::from_raw) {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
        #[cfg(not(unix))]
        let _ = self.child.kill();
    }
}

/// However the command ends, its node does not stay: asked here to end, should nobody have waited for it.
impl Drop for Started {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            self.ask_to_end();
        }
    }
}
