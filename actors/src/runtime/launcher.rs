//! The port through which a runtime's program is started, watched and ended.
//!
//! Owns the words of a launch: what is asked for ([`LaunchSpec`]), what runs ([`Engine`]) and how it ended
//! ([`EngineExit`]). Refuses to know how an operating system does it (`launch/`) and when to do it
//! (`machine.rs`).

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arw_kit::moment::WallTime;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use serde::Serialize;

use super::log::EngineLog;
use super::spec::RuntimeSpec;
use crate::ids::RuntimeId;

/// Starts programs. Implemented by `launch::OsLauncher`; tests use a fake.
pub trait Launcher: Send + Sync + fmt::Debug + 'static {
    /// Starts one program in its sandbox. The future resolves when the program runs (exec has happened), not
    /// when it is ready. Dropping the future ends whatever had been started.
    fn launch(&self, spec: LaunchSpec) -> BoxFuture<'static, Result<Box<dyn Engine>, LaunchError>>;

    /// Looks for the program that a launch with this `program` and `env` would start: a path, or a name in
    /// `PATH`. Resolves to where it is; a refusal is the one that the launch would give, in the same words.
    /// Nothing is started.
    fn find_program(
        &self,
        program: &Path,
        env: &BTreeMap<String, String>,
    ) -> BoxFuture<'static, Result<PathBuf, LaunchError>>;

    /// Refuses what a launch of this runtime would be refused for at once: its program cannot be found, or a
    /// path that it names must stay closed. Nothing is started.
    fn check(&self, spec: &RuntimeSpec) -> BoxFuture<'static, Result<(), LaunchError>> {
        match &spec.program {
            Some(program) => {
                let found = self.find_program(program, &spec.env);
                async move { found.await.map(drop) }.boxed()
            }
            None => std::future::ready(Ok(())).boxed(),
        }
    }

    /// Ends engines that an earlier node process with the same state folder left running. Called once, before
    /// any launch.
    fn sweep(&self) -> BoxFuture<'static, SweepReport>;
}

/// One running program. Dropping it kills the program and everything the program started.
pub trait Engine: Send + fmt::Debug + 'static {
    /// The program's process id.
    fn pid(&self) -> u32;
    /// Where it serves HTTP; `None` when the arguments named neither `{socket}` nor `{port}`.
    fn endpoint(&self) -> Option<&Endpoint>;
    /// The key that this spawn demands of its clients.
    fn secret(&self) -> &Secret;
    /// What the sandbox enforces on this machine.
    fn sandbox(&self) -> &SandboxReport;
    /// Memory that the program holds now, in bytes; `None` when it cannot be read.
    fn resident_bytes(&self) -> Option<u64>;
    /// A number that grows while the program does anything (CPU time, IO, memory): deadlines follow it.
    fn progress(&self) -> u64;
    /// [`Self::resident_bytes`] and [`Self::progress`] by one look, which may take a while and holds up no
    /// other task.
    fn measured(&self) -> BoxFuture<'static, (Option<u64>, u64)> {
        std::future::ready((self.resident_bytes(), self.progress())).boxed()
    }
    /// Resolves once, when the program has ended and has been reaped. Safe to drop and call again.
    fn exited(&mut self) -> BoxFuture<'_, EngineExit>;
    /// Asks it to end (TERM to its group, then CONT) and kills what is left after `grace`.
    fn terminate(&mut self, grace: Duration);
    /// Kills it and everything it started, now.
    fn kill(&mut self);
}

/// What to start.
#[derive(Clone, Debug)]
pub struct LaunchSpec {
    /// For which runtime: names the scratch folder, the log file and the marker that the orphan sweep looks
    /// for.
    pub runtime: RuntimeId,
    /// Counts launches of this runtime within this process; a result that carries an old number is dropped.
    pub attempt: u64,
    /// A path, or a name that is looked up in `PATH`.
    pub program: PathBuf,
    /// Arguments in which `{model}`, `{port}`, `{socket}` and `{secret}` are filled in.
    pub args: Vec<String>,
    /// Environment set for the program besides the allow-list (`PATH LANG LC_ALL TZ HOME=scratch
    /// TMPDIR=scratch`).
    pub env: BTreeMap<String, String>,
    /// The model file: readable in the sandbox, `{model}` in the arguments.
    pub model: Option<PathBuf>,
    /// Further folders or files that the program may read.
    pub allow_read: Vec<PathBuf>,
    /// Further folders or files that the program may read and execute.
    pub allow_exec: Vec<PathBuf>,
    /// It may connect to Unix sockets.
    pub allow_unix_connect: bool,
    /// The only folder it may write; made when missing, emptied before the start.
    pub scratch: PathBuf,
    /// Receives what the program prints.
    pub log: Arc<EngineLog>,
}

/// Where an engine serves HTTP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// A Unix socket in the scratch folder: no port race, no network rule.
    Unix(PathBuf),
    /// A loopback port chosen by us.
    Tcp(SocketAddr),
    /// An HTTP server that we do not manage, for example `http://127.0.0.1:9000/v1`.
    Url(http::Uri),
}

/// A key that must never be printed. Its `Debug` shows nothing of it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Arc<str>);

impl Secret {
    /// Wraps a key.
    #[must_use]
    pub fn new(key: &str) -> Self {
        Self(key.into())
    }

    /// A fresh key: 32 random bytes in lower-case hexadecimal.
    ///
    /// # Errors
    /// The operating system gives no random bytes.
    pub fn random() -> Result<Self, getrandom::Error> {
        let mut bytes = [0_u8; 32];
        getrandom::fill(&mut bytes)?;
        Ok(Self(base16ct::lower::encode_string(&bytes).into()))
    }

    /// The key itself, for the one place that sends it.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// What the sandbox enforces for one program.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SandboxReport {
    /// The Landlock ABI in force; `None` when the kernel has none.
    pub landlock_abi: Option<u32>,
    /// A seccomp filter is in force.
    pub seccomp: bool,
    /// No capability is left.
    pub capabilities_dropped: bool,
    /// `unix_socket_only`, `bind_one_port` or `unrestricted`.
    pub network: &'static str,
    /// To which Unix sockets it may connect: `denied` (none), `own_folder` (those in the folders that it may
    /// write) or `unrestricted`.
    pub unix_connect: &'static str,
    /// What could not be enforced, and what seems otherwise from inside, in words.
    pub notes: Vec<String>,
}

/// How a program ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EngineExit {
    /// Code or signal.
    pub status: ExitStatus,
    /// We asked for it (terminate, kill, drop).
    pub by_us: bool,
    /// When it was seen.
    pub at: WallTime,
    /// Why, in words for people.
    pub diagnosis: Diagnosis,
}

/// Code or signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExitStatus {
    /// It returned this code.
    Code(i32),
    /// This signal ended it.
    Signal(i32),
    /// The keeper that watched it was lost; the kernel killed the program with it.
    KeeperLost,
}

/// Why a program ended or could not start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Diagnosis {
    /// A stable word, for example `out_of_memory`.
    pub cause: Cause,
    /// What happened, with the value: `killed by SIGKILL (by another process, not by ARW)`.
    pub detail: String,
    /// What to do about it; `None` when there is nothing sensible to say.
    pub hint: Option<String>,
    /// Trying again without a change cannot help (bad model file, wrong option, missing library).
    pub permanent: bool,
}

/// The causes that [`Diagnosis`] tells apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "each name says it")]
pub enum Cause {
    Stopped,
    Finished,
    ModelMissing,
    ModelDenied,
    ModelNotGguf,
    ModelTruncated,
    OutOfMemory,
    AddressInUse,
    LibraryMissing,
    BadOption,
    CpuFeatureMissing,
    ProgramMissing,
    ProgramNotExecutable,
    SandboxDenied,
    Killed,
    Crashed,
    ExitCode,
    KeeperLost,
    Unknown,
}

/// The program could not be started.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("launch failed: {}", .0.detail)]
pub struct LaunchError(pub Diagnosis);

/// What the sweep at node start found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SweepReport {
    /// Runtime and process id of each engine that was ended.
    pub ended: Vec<(RuntimeId, u32)>,
    /// What could not be ended, in words.
    pub failed: Vec<String>,
}
