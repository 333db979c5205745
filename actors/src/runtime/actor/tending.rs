//! Stays with a running engine: waits for its end, passes commands on, reads its counters.
//!
//! The engine lives in a task of the runtime's actor, so that it is killed when the actor ends in whatever way.

use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};

use super::RuntimeMessage;
use crate::mailbox::Context;
use crate::runtime::launcher::Engine;

/// A running engine, as its actor holds it.
pub(super) struct Tended {
    commands: mpsc::Sender<Duration>,
    samples: watch::Receiver<Sample>,
    ended: oneshot::Receiver<()>,
}

/// What was last read of the engine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Sample {
    pub(super) resident_bytes: Option<u64>,
    pub(super) progress: u64,
}

/// Deadlines follow progress, so it is read a few times a second.
const SAMPLE_EVERY: Duration = Duration::from_millis(500);
/// A second terminate adds nothing to a first one that is still in the queue.
const COMMANDS_MAX: usize = 4;
/// Beyond its grace an engine is killed; reaping it takes milliseconds.
const REAP_PATIENCE: Duration = Duration::from_secs(5);

impl Tended {
    pub(super) fn begin(
        context: &mut Context<RuntimeMessage>,
        mut engine: Box<dyn Engine>,
        attempt: u64,
    ) -> Self {
        let (commands, mut inbox) = mpsc::channel::<Duration>(COMMANDS_MAX);
        let (publish, samples) = watch::channel(Sample::default());
        let (end, ended) = oneshot::channel();
        context.spawn(async move {
            let mut ticks = tokio::time::interval(SAMPLE_EVERY);
            ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            let exit = loop {
                let command = tokio::select! {
                    biased;
                    exit = engine.exited() => break exit,
                    command = inbox.recv() => command,
                    _ = ticks.tick() => {
                        let resident_bytes = engine.resident_bytes();
                        publish.send_replace(Sample { resident_bytes, progress: engine.progress() });
                        continue;
                    }
                };
                match command {
                    Some(grace) => engine.terminate(grace),
                    // Nobody holds it any more.
                    None => {
                        engine.kill();
                        break engine.exited().await;
                    }
                }
            };
            // The actor may be waiting for this in `stopping`, or be gone.
            let _ = end.send(());
            RuntimeMessage::Exited(attempt, exit)
        });
        Self { commands, samples, ended }
    }

    pub(super) fn terminate(&self, grace: Duration) {
        // A full queue holds a terminate already.
        let _ = self.commands.try_send(grace);
    }

    pub(super) fn sample(&self) -> Sample {
        *self.samples.borrow()
    }

    pub(super) fn samples(&self) -> watch::Receiver<Sample> {
        self.samples.clone()
    }

    /// Ends the engine and waits for that.
    pub(super) async fn end(self, grace: Duration) {
        self.terminate(grace);
        // Past this the engine is dropped with its task, which kills it.
        let _ = tokio::time::timeout(grace + REAP_PATIENCE, self.ended).await;
    }
}
