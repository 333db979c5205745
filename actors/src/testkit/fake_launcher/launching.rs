//! Launches the programs of a [`FakeMachine`], and ends them.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::sync::{Semaphore, oneshot};

use super::{FakeMachine, Program};
use crate::runtime::launcher::{
    Cause, Diagnosis, Endpoint, Engine, EngineExit, ExitStatus, LaunchError, LaunchSpec, Launcher,
    SandboxReport, Secret, SweepReport,
};

pub(super) fn launcher(machine: FakeMachine) -> Arc<dyn Launcher> {
    Arc::new(FakeLauncher { machine })
}

#[derive(Debug)]
struct FakeLauncher {
    machine: FakeMachine,
}

impl Launcher for FakeLauncher {
    fn launch(&self, spec: LaunchSpec) -> BoxFuture<'static, Result<Box<dyn Engine>, LaunchError>> {
        let machine = self.machine.clone();
        let (done, launched) = oneshot::channel();
        tokio::spawn(attend(machine, spec, done));
        async move {
            let gone = Diagnosis {
                cause: Cause::Unknown,
                detail: "the machine of this test is gone".to_owned(),
                hint: None,
                permanent: false,
            };
            launched.await.unwrap_or(Err(LaunchError(gone)))
        }
        .boxed()
    }

    fn find_program(
        &self,
        program: &Path,
        _: &BTreeMap<String, String>,
    ) -> BoxFuture<'static, Result<PathBuf, LaunchError>> {
        std::future::ready(Ok(program.to_owned())).boxed()
    }

    fn sweep(&self) -> BoxFuture<'static, SweepReport> {
        std::future::ready(SweepReport::default()).boxed()
    }
}

/// Launches one program and stays with it until it has ended.
async fn attend(
    machine: FakeMachine,
    spec: LaunchSpec,
    done: oneshot::Sender<Result<Box<dyn Engine>, LaunchError>>,
) {
    let turns = Arc::clone(
        machine
            .shared
            .lock()
            .turns
            .entry(spec.runtime.clone())
            .or_insert_with(|| Arc::new(Semaphore::new(1))),
    );
    // It is never closed.
    let Ok(_turn) = turns.acquire().await else { return };
    let script = {
        let mut shared = machine.shared.lock();
        *shared.launches.entry(spec.runtime.clone()).or_default() += 1;
        shared.scripts.get(&spec.runtime).cloned().unwrap_or_default()
    };
    tokio::time::sleep(script.launches_after).await;
    if let Some(diagnosis) = script.refuses {
        // Whoever asked for it may have given it up.
        let _ = done.send(Err(LaunchError(diagnosis)));
        return;
    }
    let program = machine.start(&spec, script);
    let mut exit = program.exit.subscribe();
    let endpoint = Endpoint::Unix(program.socket.clone());
    let engine: Box<dyn Engine> = Box::new(FakeEngine {
        machine,
        program,
        endpoint,
        secret: Secret::new("fake"),
        sandbox: SandboxReport::default(),
    });
    // Given up: the engine is dropped, which kills it.
    drop(done.send(Ok(engine)));
    let _ = exit.wait_for(Option::is_some).await;
}

struct FakeEngine {
    machine: FakeMachine,
    program: Arc<Program>,
    endpoint: Endpoint,
    secret: Secret,
    sandbox: SandboxReport,
}

impl fmt::Debug for FakeEngine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FakeEngine({} of {})", self.program.pid, self.program.runtime)
    }
}

impl Engine for FakeEngine {
    fn pid(&self) -> u32 {
        self.program.pid
    }

    fn endpoint(&self) -> Option<&Endpoint> {
        Some(&self.endpoint)
    }

    fn secret(&self) -> &Secret {
        &self.secret
    }

    fn sandbox(&self) -> &SandboxReport {
        &self.sandbox
    }

    fn resident_bytes(&self) -> Option<u64> {
        let is_ending = self.program.is_ending.load(Ordering::Relaxed);
        Some(if is_ending { 0 } else { *self.program.held_bytes.lock() })
    }

    fn progress(&self) -> u64 {
        *self.program.held_bytes.lock()
    }

    fn exited(&mut self) -> BoxFuture<'_, EngineExit> {
        let mut exit = self.program.exit.subscribe();
        async move {
            loop {
                if let Some(exit) = exit.borrow_and_update().clone() {
                    return exit;
                }
                if exit.changed().await.is_err() {
                    // The program holds the sender, and this engine the program.
                    std::future::pending::<()>().await;
                }
            }
        }
        .boxed()
    }

    fn terminate(&mut self, grace: Duration) {
        let script = &self.program.script;
        match script.ends_after {
            Some(after) if after <= grace => {
                self.machine.end_later(&self.program, Some(after), ExitStatus::Signal(15));
            }
            Some(_) | None => {
                let dies = script.dies_after.map(|after| grace + after);
                self.machine.end_later(&self.program, dies, ExitStatus::Signal(9));
            }
        }
    }

    fn kill(&mut self) {
        self.machine.end_later(&self.program, self.program.script.dies_after, ExitStatus::Signal(9));
    }
}

impl Drop for FakeEngine {
    fn drop(&mut self) {
        // A program that has ended is not ended again; where the runtime is gone, so is everything.
        if self.program.exit.borrow().is_none() && tokio::runtime::Handle::try_current().is_ok() {
            self.kill();
        }
    }
}
