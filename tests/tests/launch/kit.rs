//! What the launch tests share: a node's launcher in a folder of its own, a small HTTP client, looks into
//! `/proc`.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arw_actors::runtime::launch::{KeeperProgram, OsLauncher, OsLauncherOptions};
use arw_actors::runtime::launcher::{Endpoint, Engine, EngineExit, LaunchError, LaunchSpec, Launcher as _};
use arw_actors::runtime::log::EngineLog;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::TokioIo;
use rustix::process::{Pid, Signal};
use tokio::net::{TcpStream, UnixStream};

pub(crate) const FAKE: &str = env!("CARGO_BIN_EXE_fake_runtime");

/// More than anything here takes on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) struct Node {
    pub(crate) launcher: OsLauncher,
    pub(crate) log: Arc<EngineLog>,
    folder: tempfile::TempDir,
}

impl Node {
    pub(crate) fn new() -> Self {
        Self::with_namespace(true)
    }

    pub(crate) fn with_namespace(pid_namespace: bool) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let launcher = launcher(&folder.path().join("state"), pid_namespace);
        Self { launcher, log: Arc::new(EngineLog::in_memory()), folder }
    }

    /// A folder outside of the state folder.
    pub(crate) fn outside(&self) -> PathBuf {
        self.folder.path().canonicalize().unwrap()
    }

    pub(crate) fn state_dir(&self) -> PathBuf {
        self.outside().join("state")
    }

    pub(crate) fn scratch(&self) -> PathBuf {
        self.state_dir().join("runtime/m/scratch")
    }

    /// The fake engine with these arguments.
    pub(crate) fn spec(&self, args: &[&str]) -> LaunchSpec {
        LaunchSpec {
            runtime: "m".parse().unwrap(),
            attempt: 1,
            program: FAKE.into(),
            args: args.iter().map(|arg| (*arg).to_owned()).collect(),
            env: Default::default(),
            model: None,
            allow_read: Vec::new(),
            allow_exec: Vec::new(),
            allow_unix_connect: false,
            scratch: self.scratch(),
            log: Arc::clone(&self.log),
        }
    }

    pub(crate) async fn launch(&self, args: &[&str]) -> Box<dyn Engine> {
        self.launch_spec(self.spec(args)).await.unwrap()
    }

    pub(crate) async fn launch_spec(&self, spec: LaunchSpec) -> Result<Box<dyn Engine>, LaunchError> {
        tokio::time::timeout(PATIENCE, self.launcher.launch(spec)).await.expect("the launch takes too long")
    }

    /// Launches a server and waits until it listens.
    pub(crate) async fn serve(&self, args: &[&str]) -> Box<dyn Engine> {
        let mut all = vec!["--host", "{socket}", "--key-stdin"];
        all.extend(args);
        let engine = self.launch(&all).await;
        self.line("listening on").await;
        engine
    }

    /// Waits for a line that contains `text`.
    pub(crate) async fn line(&self, text: &str) -> String {
        let find = async {
            let mut follower = self.log.subscribe(0);
            loop {
                let page = follower.next(1000).await;
                if let Some(line) = page.lines.iter().find(|line| line.text.contains(text)) {
                    return line.text.to_string();
                }
            }
        };
        match tokio::time::timeout(PATIENCE, find).await {
            Ok(line) => line,
            Err(_) => panic!("no line has `{text}`: {:#?}", self.all_lines()),
        }
    }

    /// The pid that a process the engine started printed.
    pub(crate) async fn leaf(&self) -> u32 {
        self.line("leaf pid ").await.rsplit(' ').next().unwrap().parse().unwrap()
    }

    pub(crate) fn all_lines(&self) -> Vec<String> {
        self.log.lines(1000).iter().map(|line| line.text.to_string()).collect()
    }
}

pub(crate) fn launcher(state_dir: &Path, pid_namespace: bool) -> OsLauncher {
    let keeper = KeeperProgram { program: FAKE.into() };
    let options = OsLauncherOptions {
        keeper,
        state_dir: state_dir.to_owned(),
        cpu_flags: Arc::default(),
        pid_namespace,
    };
    OsLauncher::new(options).unwrap()
}

pub(crate) async fn exit_of(engine: &mut Box<dyn Engine>) -> EngineExit {
    tokio::time::timeout(PATIENCE, engine.exited()).await.expect("the engine does not end")
}

/// Waits until something listens at `socket`. Its file is there before, from when it was bound.
pub(crate) async fn listens(socket: &Path) {
    let connects = || std::os::unix::net::UnixStream::connect(socket).is_ok();
    until("it listens", PATIENCE, connects).await;
}

/// Status and body; `key`: sent as bearer token.
pub(crate) async fn ask(
    engine: &dyn Engine,
    method: &str,
    path: &str,
    key: Option<&str>,
    body: &str,
) -> (u16, String) {
    let endpoint = engine.endpoint().unwrap().clone();
    let mut request = http::Request::builder().method(method).uri(path).header("host", "localhost");
    if let Some(key) = key {
        request = request.header("authorization", format!("Bearer {key}"));
    }
    let request = request.body(Full::new(Bytes::copy_from_slice(body.as_bytes()))).unwrap();
    let exchange = async {
        let response = match endpoint {
            Endpoint::Unix(path) => send(UnixStream::connect(path).await.unwrap(), request).await,
            Endpoint::Tcp(address) => send(TcpStream::connect(address).await.unwrap(), request).await,
            Endpoint::Url(url) => panic!("not managed: {url}"),
        };
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(body.to_vec()).unwrap())
    };
    tokio::time::timeout(PATIENCE, exchange).await.expect("no answer")
}

async fn send(
    stream: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
    request: http::Request<Full<Bytes>>,
) -> http::Response<hyper::body::Incoming> {
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    sender.send_request(request).await.unwrap()
}

pub(crate) fn signal(pid: u32, signal: Signal) {
    rustix::process::kill_process(Pid::from_raw(i32::try_from(pid).unwrap()).unwrap(), signal).unwrap();
}

/// Runs: it is there and no zombie.
pub(crate) fn is_alive(pid: u32) -> bool {
    state_of(pid).is_some_and(|state| state != 'Z' && state != 'X')
}

/// Every thread of it stands still. The signal alone leaves them running until one of them has taken it.
pub(crate) fn is_stopped(pid: u32) -> bool {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap().flatten();
    let mut threads = threads.filter_map(|thread| thread.file_name().to_str()?.parse().ok());
    threads.all(|thread| state_of(thread) == Some('T'))
}

pub(crate) fn state_of(pid: u32) -> Option<char> {
    stat(pid)?.first()?.chars().next()
}

pub(crate) fn parent_of(pid: u32) -> Option<u32> {
    stat(pid)?.get(1)?.parse().ok()
}

fn stat(pid: u32) -> Option<Vec<String>> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, fields) = text.rsplit_once(')')?;
    Some(fields.split_whitespace().map(str::to_owned).collect())
}

pub(crate) fn all_pids() -> Vec<u32> {
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// All processes whose environment carries the marker of this node's state folder.
pub(crate) fn marked(marker_start: &str) -> Vec<u32> {
    let carries = |pid: &u32| {
        let environ = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        environ.split(|b| *b == 0).any(|entry| entry.starts_with(marker_start.as_bytes()))
    };
    all_pids().into_iter().filter(carries).collect()
}

/// `ARW_ENGINE=…` of a running engine.
pub(crate) fn marker_of(pid: u32) -> String {
    let environ = std::fs::read(format!("/proc/{pid}/environ")).unwrap();
    let entry = environ.split(|b| *b == 0).find(|entry| entry.starts_with(b"ARW_ENGINE=")).unwrap();
    String::from_utf8(entry.to_vec()).unwrap()
}

/// Waits until it holds; panics with `what` when it does not within `at_most`.
pub(crate) async fn until(what: &str, at_most: Duration, holds: impl Fn() -> bool) -> Duration {
    let start = tokio::time::Instant::now();
    while !holds() {
        assert!(start.elapsed() < at_most, "not within {at_most:?}: {what}");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    start.elapsed()
}
