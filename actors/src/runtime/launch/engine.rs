//! A running program as the rest of ARW holds it, and how what is asked of it reaches the attendant.
//!
//! Owns the handle: dropping it kills. Refuses to know sockets and processes: it writes requests down and
//! wakes the attendant.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use arw_kit::clock::Clock;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use rustix::event::EventfdFlags;
use tokio::sync::watch;

use super::family::{Family, Figures};
use crate::runtime::launcher::{
    Cause, Diagnosis, Endpoint, Engine, EngineExit, ExitStatus, SandboxReport, Secret,
};

/// What is requested of a program. It only grows: a kill is never taken back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Requested {
    pub(super) terminate: Option<Duration>,
    pub(super) kill: bool,
}

#[derive(Debug)]
pub(super) struct Orders {
    requested: Mutex<Requested>,
    wake: OwnedFd,
}

impl Orders {
    pub(super) fn new() -> std::io::Result<Self> {
        let wake = rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Self { requested: Mutex::default(), wake })
    }

    fn request(&self, change: impl FnOnce(&mut Requested)) {
        change(&mut self.requested.lock());
        // Full means that a wake-up is waiting already.
        let _ = rustix::io::write(&self.wake, &1_u64.to_ne_bytes());
    }

    /// What was requested so far. The next wake-up comes with the next request.
    pub(super) fn take(&self) -> Requested {
        let mut count = [0_u8; 8];
        // Empty means that nothing is new.
        let _ = rustix::io::read(&self.wake, &mut count);
        *self.requested.lock()
    }
}

impl AsFd for Orders {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.wake.as_fd()
    }
}

/// Kills when it is dropped: held by the launch's future first, by the engine then.
#[derive(Debug)]
pub(super) struct KillOnDrop(pub(super) Arc<Orders>);

impl Drop for KillOnDrop {
    fn drop(&mut self) {
        self.0.request(|requested| requested.kill = true);
    }
}

/// What the attendant tells about a program that runs.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) pid: u32,
    pub(super) family: Arc<Family>,
    pub(super) endpoint: Option<Endpoint>,
    pub(super) secret: Secret,
    pub(super) sandbox: SandboxReport,
    pub(super) exit: watch::Receiver<Option<EngineExit>>,
}

#[derive(Debug)]
pub(super) struct OsEngine {
    pub(super) running: Running,
    pub(super) orders: KillOnDrop,
}

impl OsEngine {
    fn figures(&self) -> impl FnOnce() -> Option<Figures> + Send + use<> {
        let (family, exit) = (Arc::clone(&self.running.family), self.running.exit.clone());
        move || {
            // The numbers may belong to other processes by then.
            let has_ended = exit.borrow().is_some();
            (!has_ended).then(|| family.measure())
        }
    }
}

impl Engine for OsEngine {
    fn pid(&self) -> u32 {
        self.running.pid
    }

    fn endpoint(&self) -> Option<&Endpoint> {
        self.running.endpoint.as_ref()
    }

    fn secret(&self) -> &Secret {
        &self.running.secret
    }

    fn sandbox(&self) -> &SandboxReport {
        &self.running.sandbox
    }

    fn resident_bytes(&self) -> Option<u64> {
        self.figures()()?.resident_bytes
    }

    fn progress(&self) -> u64 {
        self.figures()().map_or(0, |figures| figures.progress)
    }

    fn measured(&self) -> BoxFuture<'static, (Option<u64>, u64)> {
        let figures = self.figures();
        async move {
            // A program that ended has no figures; a pool of threads that takes no more work ends with the
            // node.
            let figures = tokio::task::spawn_blocking(figures).await.ok().flatten();
            figures.map_or((None, 0), |figures| (figures.resident_bytes, figures.progress))
        }
        .boxed()
    }

    fn exited(&mut self) -> BoxFuture<'_, EngineExit> {
        async move {
            let exit = self.running.exit.wait_for(Option::is_some).await.ok().and_then(|exit| exit.clone());
            exit.unwrap_or_else(|| EngineExit {
                status: ExitStatus::KeeperLost,
                by_us: false,
                at: Clock::system().wall(),
                diagnosis: Diagnosis {
                    cause: Cause::Unknown,
                    detail: "the thread that attended to it failed; its keeper has killed it".into(),
                    hint: Some("report this with the node's log".into()),
                    permanent: false,
                },
            })
        }
        .boxed()
    }

    fn terminate(&mut self, grace: Duration) {
        self.orders.0.request(|requested| requested.terminate = requested.terminate.or(Some(grace)));
    }

    fn kill(&mut self) {
        self.orders.0.request(|requested| requested.kill = true);
    }
}

#[cfg(test)]
mod tests {
    use super::super::wire::wait_readable;
    use super::*;

    fn is_awake(orders: &Orders) -> bool {
        wait_readable(&[orders.as_fd()], Some(Duration::ZERO)).unwrap() == [true]
    }

    #[test]
    fn requests_wake_once_and_stay() {
        let orders = Arc::new(Orders::new().unwrap());
        assert!(!is_awake(&orders));
        orders.request(|requested| requested.terminate = Some(Duration::from_secs(1)));
        assert!(is_awake(&orders));
        assert_eq!(orders.take(), Requested { terminate: Some(Duration::from_secs(1)), kill: false });
        assert!(!is_awake(&orders));
        drop(KillOnDrop(Arc::clone(&orders)));
        assert!(is_awake(&orders));
        assert_eq!(orders.take(), Requested { terminate: Some(Duration::from_secs(1)), kill: true });
    }
}
