//! The launcher of this operating system: a keeper and an attendant for each program.
//!
//! Owns what launches share. Refuses to know which runtimes exist.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use arw_kit::clock::Clock;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use sha2::{Digest as _, Sha256};
use tokio::sync::{oneshot, watch};

use super::attendant::{Attendant, Shared, no_thread};
use super::engine::{KillOnDrop, Orders, OsEngine};
use super::keepers::Keepers;
use super::libraries::LibraryFolders;
use super::prepare::{self, Surroundings, short_tag, socket_bases, unexpected};
use super::procfs::Procfs;
use super::program::Search;
use super::sweep::Marker;
use super::{scratch, sweep};
use crate::runtime::launcher::{Engine, LaunchError, LaunchSpec, Launcher, SweepReport};
use crate::runtime::spec::RuntimeSpec;

/// The program that is started as keeper and shim: it calls [`super::run_hidden`] first thing in `main`.
#[derive(Clone, Debug)]
pub struct KeeperProgram {
    /// Its path.
    pub program: PathBuf,
}

impl KeeperProgram {
    /// The program of this process, even when an upgrade has replaced its file since: node and keepers must
    /// be of one build.
    ///
    /// # Errors
    /// `/proc` is not there.
    pub fn current() -> io::Result<Self> {
        let program = PathBuf::from("/proc/self/exe");
        fs::metadata(&program)?;
        Ok(Self { program })
    }
}

/// What an [`OsLauncher`] needs to know.
#[derive(Clone, Debug)]
pub struct OsLauncherOptions {
    /// The program that is started as keeper.
    pub keeper: KeeperProgram,
    /// The node's state folder; made when missing. Scratch folders must lie in it.
    pub state_dir: PathBuf,
    /// This machine's CPU features as `/proc/cpuinfo` names them, for the diagnosis of illegal instructions.
    pub cpu_flags: Arc<BTreeSet<String>>,
    /// Give each program a pid namespace where the kernel allows it, so that nothing it starts can outlive
    /// it. Turn it off to look at a program with tools that cannot follow it there.
    pub pid_namespace: bool,
}

/// Starts programs behind a keeper, in a sandbox. Cheap to clone through [`Arc`]; several may live in one
/// process.
///
/// ```no_run
/// use arw_actors::runtime::launch::{KeeperProgram, OsLauncher, OsLauncherOptions};
/// let launcher = OsLauncher::new(OsLauncherOptions {
///     keeper: KeeperProgram::current()?,
///     state_dir: "/var/lib/arw".into(),
///     cpu_flags: Default::default(),
///     pid_namespace: true,
/// })?;
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct OsLauncher {
    shared: Arc<Shared>,
    /// By scratch folder, the launches that are not over: the other end closes when one is.
    rows: Mutex<BTreeMap<PathBuf, Vec<watch::Receiver<()>>>>,
}

impl OsLauncher {
    /// A launcher for one node.
    ///
    /// # Errors
    /// The state folder cannot be made or found.
    pub fn new(options: OsLauncherOptions) -> io::Result<Self> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&options.state_dir)?;
        let state_dir = options.state_dir.canonicalize()?;
        let state_id = state_id(&state_dir)?;
        let keepers = Keepers::new(options.keeper, state_id.clone());
        let around = Surroundings { state_dir, state_id, libraries: LibraryFolders::default() };
        let shared = Shared {
            around,
            keepers,
            cpu_flags: options.cpu_flags,
            procfs: Procfs::default(),
            without_namespace: AtomicBool::new(!options.pid_namespace),
            clock: Clock::system(),
        };
        Ok(Self { shared: Arc::new(shared), rows: Mutex::default() })
    }

    /// Makes a place in the row of launches that share a scratch folder: those before it to wait for, and
    /// what the next waits for.
    fn line_up(&self, scratch: &Path) -> (Vec<watch::Receiver<()>>, watch::Sender<()>) {
        let (over, wait) = watch::channel(());
        let mut rows = self.rows.lock();
        for row in rows.values_mut() {
            row.retain(|launch| launch.has_changed().is_ok());
        }
        rows.retain(|_, row| !row.is_empty());
        let row = rows.entry(scratch.to_owned()).or_default();
        // All of them: one that is given up while it waits is over before what it waited for.
        let before = row.clone();
        row.push(wait);
        (before, over)
    }

    fn begin(
        shared: Arc<Shared>,
        spec: LaunchSpec,
        over: watch::Sender<()>,
    ) -> Result<(KillOnDrop, Starting), LaunchError> {
        let orders =
            Arc::new(Orders::new().map_err(|error| unexpected("no event for orders", &error.to_string()))?);
        let (tell, started) = oneshot::channel();
        let marker = Marker::new(&shared.around.state_id, &spec.runtime, spec.attempt)
            .map_err(|error| unexpected("no random bytes for a launch", &error.to_string()))?;
        let attendant = Attendant { shared, spec, orders: Arc::clone(&orders), marker };
        let thread = std::thread::Builder::new().name("engine".into()).stack_size(512 * 1024);
        let attend = move || {
            attendant.run(tell);
            // Closed only now: the next launch in the same folder may begin.
            drop(over);
        };
        thread.spawn(attend).map_err(|error| no_thread(&error))?;
        Ok((KillOnDrop(orders), started))
    }
}

type Starting = oneshot::Receiver<Result<super::engine::Running, LaunchError>>;

impl Launcher for OsLauncher {
    fn launch(&self, mut spec: LaunchSpec) -> BoxFuture<'static, Result<Box<dyn Engine>, LaunchError>> {
        let shared = Arc::clone(&self.shared);
        // Rules, checks and the program all need to mean the same folder by its name.
        spec.scratch = in_state_dir(&spec.scratch, &shared.around.state_dir);
        let (before, over) = self.line_up(&spec.scratch);
        async move {
            // RUN-1, also where a launch was given up or its actor crashed: its thread may still be at work
            // in the folder, or its program alive. Nothing is ever sent; the other end closes when that
            // thread is over.
            for mut before in before {
                while before.changed().await.is_ok() {}
            }
            let (orders, started) = Self::begin(shared, spec, over)?;
            let running =
                started.await.map_err(|_| unexpected("the launch failed", "its attendant is gone"))??;
            Ok(Box::new(OsEngine { running, orders }) as Box<dyn Engine>)
        }
        .boxed()
    }

    fn find_program(
        &self,
        program: &Path,
        env: &BTreeMap<String, String>,
    ) -> BoxFuture<'static, Result<PathBuf, LaunchError>> {
        let (program, env) = (program.to_owned(), env.clone());
        // Files may lie on a disk or a network that takes its time.
        let found = tokio::task::spawn_blocking(move || Search::new(&env).resolve(&program));
        async move {
            let found = found
                .await
                .map_err(|error| unexpected("looking for the program failed", &error.to_string()))?;
            found.map(|program| program.path)
        }
        .boxed()
    }

    fn check(&self, spec: &RuntimeSpec) -> BoxFuture<'static, Result<(), LaunchError>> {
        let (spec, shared) = (spec.clone(), Arc::clone(&self.shared));
        let checked = tokio::task::spawn_blocking(move || prepare::check(&spec, &shared.around));
        async move {
            let failed = |error: tokio::task::JoinError| {
                unexpected("looking for the program failed", &error.to_string())
            };
            checked.await.map_err(failed)?
        }
        .boxed()
    }

    fn sweep(&self) -> BoxFuture<'static, SweepReport> {
        let shared = Arc::clone(&self.shared);
        let (tell, report) = oneshot::channel();
        let thread = std::thread::Builder::new().name("sweep".into()).spawn(move || {
            let around = &shared.around;
            let report = sweep::sweep(&shared.procfs, &around.state_dir, &around.state_id);
            for base in socket_bases() {
                scratch::remove_stale_socket_folders(&base, short_tag(&around.state_id));
            }
            // Whoever asked may be gone.
            let _ = tell.send(report);
        });
        async move {
            let problem = match thread {
                Ok(_) => match report.await {
                    Ok(report) => return report,
                    Err(_) => "the sweep failed".to_owned(),
                },
                Err(error) => format!("no thread for the sweep: {error}"),
            };
            SweepReport { ended: Vec::new(), failed: vec![problem] }
        }
        .boxed()
    }
}

/// Stands for a state folder: two nodes on one machine have different ones, and a copied folder has another
/// than its original.
fn state_id(state_dir: &Path) -> io::Result<String> {
    use std::os::unix::ffi::OsStrExt as _;
    let metadata = fs::metadata(state_dir)?;
    let mut hash = Sha256::new();
    hash.update(metadata.dev().to_be_bytes());
    hash.update(metadata.ino().to_be_bytes());
    hash.update(state_dir.as_os_str().as_bytes());
    let digest: [u8; 32] = hash.finalize().into();
    Ok(base16ct::lower::encode_string(&digest[..8]))
}

/// The scratch folder by the state folder's canonical name, when it lies in it.
fn in_state_dir(scratch: &Path, state_dir: &Path) -> PathBuf {
    let mut missing = Vec::new();
    let mut existing = scratch;
    // The folder itself may not exist yet: the nearest one above that does is made canonical.
    loop {
        if let Ok(real) = existing.canonicalize()
            && real.starts_with(state_dir)
        {
            return missing.iter().rev().fold(real, |path, name| path.join(name));
        }
        match (existing.parent(), existing.file_name()) {
            (Some(parent), Some(name)) => {
                missing.push(name.to_owned());
                existing = parent;
            }
            _ => return scratch.to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_state_folder_has_an_id_of_its_own() {
        let root = tempfile::tempdir().unwrap();
        let ids = ["a", "b"].map(|name| {
            let folder = root.path().join(name);
            fs::create_dir(&folder).unwrap();
            state_id(&folder).unwrap()
        });
        assert_ne!(ids[0], ids[1]);
        assert_eq!(state_id(&root.path().join("a")).unwrap(), ids[0]);
        assert_eq!(ids[0].len(), 16);
    }

    #[test]
    fn a_scratch_folder_is_named_by_its_real_place() {
        let root = tempfile::tempdir().unwrap();
        let real = root.path().canonicalize().unwrap().join("real");
        fs::create_dir(&real).unwrap();
        std::os::unix::fs::symlink(&real, root.path().join("link")).unwrap();
        let named = in_state_dir(&root.path().join("link/m/scratch"), &real);
        assert_eq!(named, real.join("m/scratch"));
        assert_eq!(in_state_dir(Path::new("/elsewhere"), &real), Path::new("/elsewhere"));
    }
}
