//! Engines of a test: a [`Launcher`] whose programs do what a [`Script`] says, in the time that it says.
//!
//! Owns the fake programs, the memory that they hold on a fake machine, and the connections to them, all in
//! memory: a test that pauses tokio's time pauses them with it. How an operating system starts programs is
//! tested with real ones.
//!
//! As with real ones, a launch that is given up goes on for a while behind the back of whoever asked for it,
//! and a launch begins only when the programs of its runtime that were launched before it have ended.
//!
//! Each engine answers `/health` with 503 while it loads and with 200 afterwards, and everything else as its
//! script says.

mod launching;

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arw_kit::moment::WallTime;
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::io::DuplexStream;
use tokio::sync::{Semaphore, watch};

use crate::hardware::HardwareSources;
use crate::ids::RuntimeId;
use crate::runtime::engine_client::EngineClient;
use crate::runtime::launcher::{Cause, Diagnosis, EngineExit, ExitStatus, LaunchSpec, Launcher};

/// What the engines of a runtime do.
#[derive(Clone, Debug)]
pub struct Script {
    /// From the request to launch until the program runs.
    pub launches_after: Duration,
    /// From then until `/health` answers 200.
    pub loads_for: Duration,
    /// What it holds: half of it from the start, all of it once it has loaded.
    pub memory_bytes: u64,
    /// From TERM to its end, unless it is killed earlier; `None`: it ignores TERM.
    pub ends_after: Option<Duration>,
    /// From a kill to its end; `None`: the kernel cannot end it.
    pub dies_after: Option<Duration>,
    /// It ends by itself so long after it began to run.
    pub crashes_after: Option<Duration>,
    /// What it held is free so long after its end, as on some virtual machines.
    pub returns_after: Duration,
    /// A launch fails with this.
    pub refuses: Option<Diagnosis>,
    /// What `/props` says of its context; `None`: there is no such page.
    pub context_tokens: Option<u64>,
    /// What other requests get once it has loaded.
    pub answer: Answer,
}

impl Default for Script {
    fn default() -> Self {
        Self {
            launches_after: Duration::from_millis(5),
            loads_for: Duration::from_millis(200),
            memory_bytes: 0,
            ends_after: Some(Duration::from_millis(10)),
            dies_after: Some(Duration::from_millis(1)),
            crashes_after: None,
            returns_after: Duration::ZERO,
            refuses: None,
            context_tokens: None,
            answer: Answer::Ok,
        }
    }
}

/// How an engine answers requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// 200 with `{}`.
    Ok,
    /// Never.
    Hangs,
    /// It closes the connection instead.
    Closes,
    /// It dies of the request.
    Dies,
}

/// A machine with a certain memory, and the engines that run on it. Cheap to clone.
#[derive(Clone)]
pub struct FakeMachine {
    shared: Arc<Mutex<Machine>>,
}

impl fmt::Debug for FakeMachine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FakeMachine({} alive)", self.shared.lock().programs.len())
    }
}

struct Machine {
    proc_root: PathBuf,
    memory_bytes: u64,
    /// Neither held nor free.
    returning_bytes: u64,
    scripts: HashMap<RuntimeId, Script>,
    programs: BTreeMap<u32, Arc<Program>>,
    next_pid: u32,
    launches: HashMap<RuntimeId, u32>,
    /// One program of a runtime at a time.
    turns: HashMap<RuntimeId, Arc<Semaphore>>,
    /// A runtime had two programs at once: what a launcher must never be asked for.
    doubled: Vec<RuntimeId>,
}

/// One program that runs.
struct Program {
    pid: u32,
    runtime: RuntimeId,
    socket: PathBuf,
    script: Script,
    held_bytes: Mutex<u64>,
    /// It was asked to end: from then on it holds nothing by its own count, as programs do that exit.
    is_ending: AtomicBool,
    is_loaded: watch::Sender<bool>,
    /// Somebody has removed its socket.
    is_cut_off: AtomicBool,
    /// How it ended; `None` while it runs.
    exit: watch::Sender<Option<EngineExit>>,
}

impl FakeMachine {
    /// A machine that tells of its memory in `folder`, which must live as long as it.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub fn in_folder(folder: &Path, memory_bytes: u64) -> std::io::Result<Self> {
        let machine = Machine {
            proc_root: folder.to_owned(),
            memory_bytes,
            returning_bytes: 0,
            scripts: HashMap::new(),
            programs: BTreeMap::new(),
            next_pid: 1000,
            launches: HashMap::new(),
            turns: HashMap::new(),
            doubled: Vec::new(),
        };
        machine.write_meminfo()?;
        Ok(Self { shared: Arc::new(Mutex::new(machine)) })
    }

    /// Where the node reads how much memory is free.
    #[must_use]
    pub fn sources(&self) -> HardwareSources {
        let root = self.shared.lock().proc_root.clone();
        HardwareSources {
            sysfs_root: root.clone(),
            proc_root: root,
            nvml_library: Some("/nonexistent".into()),
        }
    }

    /// Starts this machine's programs.
    #[must_use]
    pub fn launcher(&self) -> Arc<dyn Launcher> {
        launching::launcher(self.clone())
    }

    /// Reaches them.
    #[must_use]
    pub fn client(&self) -> EngineClient {
        let machine = self.clone();
        EngineClient::in_memory(Arc::new(move |socket: &Path| machine.connect(socket)))
    }

    /// Says what engines of this runtime do that are launched from now on.
    pub fn script(&self, runtime: &str, script: Script) {
        if let Ok(id) = runtime.parse() {
            self.shared.lock().scripts.insert(id, script);
        }
    }

    /// How often this runtime was launched.
    #[must_use]
    pub fn launches(&self, runtime: &str) -> u32 {
        let shared = self.shared.lock();
        shared.launches.iter().find(|(id, _)| id.as_str() == runtime).map_or(0, |(_, count)| *count)
    }

    /// The runtimes whose programs run, in the order of their launch.
    #[must_use]
    pub fn alive(&self) -> Vec<String> {
        self.shared.lock().programs.values().map(|program| program.runtime.to_string()).collect()
    }

    /// Runtimes that had two programs at once.
    #[must_use]
    pub fn doubled(&self) -> Vec<RuntimeId> {
        self.shared.lock().doubled.clone()
    }

    /// Kills the programs of a runtime from outside, as `kill -9` does.
    pub fn kill(&self, runtime: &str) {
        for program in self.programs_of(runtime) {
            self.end(
                &program,
                ExitStatus::Signal(9),
                false,
                "killed by SIGKILL (by another process, not by ARW)",
            );
        }
    }

    /// Lets the programs of a runtime crash.
    pub fn crash(&self, runtime: &str) {
        for program in self.programs_of(runtime) {
            self.end(&program, ExitStatus::Signal(11), false, "crashed with SIGSEGV");
        }
    }

    /// Removes the socket of a runtime's program, which lives on. Connections that are open stay.
    pub fn remove_socket(&self, runtime: &str) {
        for program in self.programs_of(runtime) {
            program.is_cut_off.store(true, Ordering::Relaxed);
        }
    }

    /// Ends programs that a kill could not end, as a kernel does whose disk answers again.
    pub fn release(&self, runtime: &str) {
        for program in self.programs_of(runtime) {
            self.end(&program, ExitStatus::Signal(9), true, "killed by ARW");
        }
    }

    fn programs_of(&self, runtime: &str) -> Vec<Arc<Program>> {
        let shared = self.shared.lock();
        shared.programs.values().filter(|program| program.runtime.as_str() == runtime).cloned().collect()
    }

    fn start(&self, spec: &LaunchSpec, script: Script) -> Arc<Program> {
        let mut shared = self.shared.lock();
        let pid = shared.next_pid;
        shared.next_pid += 1;
        if shared.programs.values().any(|program| program.runtime == spec.runtime) {
            shared.doubled.push(spec.runtime.clone());
        }
        let program = Arc::new(Program {
            pid,
            runtime: spec.runtime.clone(),
            socket: PathBuf::from(format!("/fake/{pid}.sock")),
            held_bytes: Mutex::new(script.memory_bytes / 2),
            is_ending: AtomicBool::new(false),
            script,
            is_loaded: watch::Sender::new(false),
            is_cut_off: AtomicBool::new(false),
            exit: watch::Sender::new(None),
        });
        shared.programs.insert(pid, Arc::clone(&program));
        // A test whose folder is gone is over.
        let _ = shared.write_meminfo();
        drop(shared);
        let (machine, running) = (self.clone(), Arc::clone(&program));
        tokio::spawn(async move { machine.run(&running).await });
        program
    }

    async fn run(&self, program: &Arc<Program>) {
        let loads = async {
            tokio::time::sleep(program.script.loads_for).await;
            *program.held_bytes.lock() = program.script.memory_bytes;
            let _ = self.shared.lock().write_meminfo();
            program.is_loaded.send_replace(true);
            std::future::pending::<()>().await;
        };
        let crashes = async {
            match program.script.crashes_after {
                Some(after) => tokio::time::sleep(after).await,
                None => std::future::pending().await,
            }
        };
        let mut exit = program.exit.subscribe();
        tokio::select! {
            () = loads => {}
            () = crashes => self.end(program, ExitStatus::Signal(11), false, "crashed with SIGSEGV"),
            _ = exit.wait_for(Option::is_some) => {}
        }
    }

    fn end(&self, program: &Arc<Program>, status: ExitStatus, by_us: bool, detail: &str) {
        let mut shared = self.shared.lock();
        if shared.programs.remove(&program.pid).is_none() {
            return;
        }
        let held_bytes = std::mem::take(&mut *program.held_bytes.lock());
        let returns_after = program.script.returns_after;
        if returns_after.is_zero() || tokio::runtime::Handle::try_current().is_err() {
            let _ = shared.write_meminfo();
        } else {
            shared.returning_bytes += held_bytes;
            let machine = self.clone();
            tokio::spawn(async move {
                tokio::time::sleep(returns_after).await;
                let mut shared = machine.shared.lock();
                shared.returning_bytes -= held_bytes;
                let _ = shared.write_meminfo();
            });
        }
        drop(shared);
        let cause = if by_us { Cause::Stopped } else { Cause::Crashed };
        let diagnosis = Diagnosis { cause, detail: detail.to_owned(), hint: None, permanent: false };
        let at = WallTime::from_millis(0);
        program.exit.send_replace(Some(EngineExit { status, by_us, at, diagnosis }));
    }

    fn end_later(&self, program: &Arc<Program>, after: Option<Duration>, status: ExitStatus) {
        let Some(after) = after else { return };
        program.is_ending.store(true, Ordering::Relaxed);
        let (machine, program) = (self.clone(), Arc::clone(program));
        tokio::spawn(async move {
            tokio::time::sleep(after).await;
            machine.end(&program, status, true, "ended by ARW");
        });
    }

    fn connect(&self, socket: &Path) -> Option<DuplexStream> {
        let is_here =
            |program: &&Arc<Program>| program.socket == socket && !program.is_cut_off.load(Ordering::Relaxed);
        let program = self.shared.lock().programs.values().find(is_here).cloned()?;
        let (near, far) = tokio::io::duplex(64 << 10);
        let machine = self.clone();
        tokio::spawn(async move {
            let mut exit = program.exit.subscribe();
            let of_connection = Arc::clone(&program);
            let service = service_fn(move |request: Request<Incoming>| {
                machine.clone().answer(Arc::clone(&of_connection), request)
            });
            let serve =
                hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(far), service);
            tokio::select! {
                // A client that goes away is no fault.
                _ = serve => {}
                _ = exit.wait_for(Option::is_some) => {}
            }
        });
        Some(near)
    }

    async fn answer(
        self,
        program: Arc<Program>,
        request: Request<Incoming>,
    ) -> Result<Response<Full<Bytes>>, std::io::Error> {
        let respond = |status: StatusCode| {
            let mut response = Response::new(Full::new(Bytes::from_static(b"{}")));
            *response.status_mut() = status;
            Ok(response)
        };
        if !*program.is_loaded.borrow() {
            return respond(StatusCode::SERVICE_UNAVAILABLE);
        }
        match (request.uri().path(), program.script.context_tokens) {
            ("/health", _) => return respond(StatusCode::OK),
            ("/props", None) => return respond(StatusCode::NOT_FOUND),
            ("/props", Some(tokens)) => {
                let body = format!(r#"{{"default_generation_settings":{{"n_ctx":{tokens}}}}}"#);
                return Ok(Response::new(Full::new(body.into())));
            }
            _ => {}
        }
        match program.script.answer {
            Answer::Ok => respond(StatusCode::OK),
            Answer::Hangs => std::future::pending().await,
            Answer::Closes => Err(std::io::ErrorKind::ConnectionReset.into()),
            Answer::Dies => {
                self.end(&program, ExitStatus::Signal(11), false, "crashed with SIGSEGV");
                Err(std::io::ErrorKind::ConnectionReset.into())
            }
        }
    }
}

impl Machine {
    /// As Linux tells it, whole or not at all: a reader may look at any moment.
    fn write_meminfo(&self) -> std::io::Result<()> {
        let held: u64 = self.programs.values().map(|program| *program.held_bytes.lock()).sum();
        let free = self.memory_bytes.saturating_sub(held + self.returning_bytes);
        let text = format!("MemTotal: {} kB\nMemAvailable: {} kB\n", self.memory_bytes >> 10, free >> 10);
        let beside = self.proc_root.join("meminfo.new");
        fs::write(&beside, text)?;
        fs::rename(beside, self.proc_root.join("meminfo"))
    }
}
