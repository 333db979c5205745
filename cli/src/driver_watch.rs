//! Keeps the timers and sockets of a runtime served while a task blocks a thread.
//!
//! tokio has one driver for all timers and sockets, which an idle worker waits in. The worker leaves it to
//! run a task and wakes no other one for it. A task that then blocks its thread stops every timer and every
//! socket of the process, kill timers included, until something from outside wakes another worker. tokio's
//! own remedy (`enable_eager_driver_handoff`) needs `tokio_unstable`; here a thread hands in an empty task
//! now and then, which wakes a worker where none runs.
//!
//! What the blocking task has just woken still waits behind it: that slot of its thread is nobody else's.

use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

use tokio::runtime::Handle;

/// Ends its thread when it is dropped.
#[derive(Debug)]
pub(crate) struct DriverWatch {
    _alive: SyncSender<()>,
}

/// A node that stands still for longer than this is noticed by its users; one wake a second costs an idle
/// node nothing that can be measured.
const EVERY: Duration = Duration::from_secs(1);

impl DriverWatch {
    /// # Errors
    /// No thread can be started.
    pub(crate) fn over(runtime: Handle) -> std::io::Result<Self> {
        let (alive, ends) = sync_channel(0);
        std::thread::Builder::new().name("arw-driver-watch".to_owned()).spawn(move || {
            while ends.recv_timeout(EVERY) == Err(RecvTimeoutError::Timeout) {
                // From a thread that is none of its workers: such a task wakes one that sleeps.
                drop(runtime.spawn(std::future::ready(())));
            }
        })?;
        Ok(Self { _alive: alive })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Without the watch the second task runs only when the first has ended: 20 of 20 times on tokio 1.54.
    #[test]
    fn a_task_that_blocks_its_thread_stops_no_timer() {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        let runtime = builder.worker_threads(4).enable_all().build().unwrap();
        let _watch = DriverWatch::over(runtime.handle().clone()).unwrap();
        let (release, free) = sync_channel::<()>(1);
        let (fired, fires) = sync_channel(1);
        runtime.spawn(async move {
            tokio::time::sleep(Duration::from_millis(50)).await;
            free.recv().unwrap();
        });
        runtime.spawn(async move {
            tokio::time::sleep(Duration::from_millis(100)).await;
            fired.send(()).unwrap();
        });
        let outcome = fires.recv_timeout(Duration::from_secs(60));
        release.send(()).unwrap();
        outcome.expect("a timer that nobody looks after");
    }
}
