//! Where programs cannot be started yet: every launch says so.
//!
//! Keeps the rest of ARW compiling on systems other than Linux. Refuses to pretend: no engine runs without
//! its sandbox.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use crate::runtime::launcher::{Cause, Diagnosis, Engine, LaunchError, LaunchSpec, Launcher, SweepReport};

/// The program that is started as keeper.
#[derive(Clone, Debug)]
pub struct KeeperProgram {
    /// Its path.
    pub program: PathBuf,
}

impl KeeperProgram {
    /// The program of this process.
    ///
    /// # Errors
    /// The system does not tell where it is.
    pub fn current() -> std::io::Result<Self> {
        Ok(Self { program: std::env::current_exe()? })
    }
}

/// What an [`OsLauncher`] needs to know.
#[derive(Clone, Debug)]
pub struct OsLauncherOptions {
    /// The program that is started as keeper.
    pub keeper: KeeperProgram,
    /// The node's state folder.
    pub state_dir: PathBuf,
    /// This machine's CPU features.
    pub cpu_flags: Arc<BTreeSet<String>>,
    /// Give each program a pid namespace.
    pub pid_namespace: bool,
}

/// Starts nothing here yet.
#[derive(Debug)]
pub struct OsLauncher;

impl OsLauncher {
    /// A launcher that refuses.
    ///
    /// # Errors
    /// None on this system.
    pub fn new(_options: OsLauncherOptions) -> std::io::Result<Self> {
        Ok(Self)
    }
}

impl Launcher for OsLauncher {
    fn launch(&self, _spec: LaunchSpec) -> BoxFuture<'static, Result<Box<dyn Engine>, LaunchError>> {
        std::future::ready(Err(refusal())).boxed()
    }

    fn find_program(
        &self,
        _program: &Path,
        _env: &BTreeMap<String, String>,
    ) -> BoxFuture<'static, Result<PathBuf, LaunchError>> {
        std::future::ready(Err(refusal())).boxed()
    }

    fn sweep(&self) -> BoxFuture<'static, SweepReport> {
        std::future::ready(SweepReport::default()).boxed()
    }
}

fn refusal() -> LaunchError {
    LaunchError(Diagnosis {
        cause: Cause::Unknown,
        detail: format!("starting model servers is not supported on {} yet", std::env::consts::OS),
        hint: Some("start the server yourself and add it with `--adapter openai`".into()),
        permanent: true,
    })
}
