//! Stays with a running engine: waits for its end, passes commands on, reads its counters.
//!
//! The engine lives in a task of the runtime's actor, so that it is killed when the actor ends in whatever
//! way.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use arw_kit::clock::Clock;
use arw_kit::mailbox::Context;
use arw_kit::moment::Moment;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc, oneshot, watch};

use super::{RuntimeActor, RuntimeMessage, Serving};
use crate::runtime::launcher::{Cause, Diagnosis, Engine, LaunchError, LaunchSpec, Launcher};

/// A running engine, as its actor holds it.
pub(super) struct Tended {
    commands: mpsc::Sender<Duration>,
    gauge: Arc<Gauge>,
    ended: oneshot::Receiver<()>,
}

/// What was last read of the engine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sample {
    /// Memory that it holds, where that can be read.
    pub(crate) resident_bytes: Option<u64>,
    /// Grows while it does anything.
    pub(crate) progress: u64,
}

/// The counters of a runtime's engine, for everyone who wants to know: `None` while it has none.
#[derive(Debug, Default)]
pub(crate) struct Gauge {
    sample: watch::Sender<Option<Sample>>,
    wanted: Notify,
    /// Programs that have not ended yet. More than one only while those of a dead incarnation of the actor
    /// are ending.
    alive: watch::Sender<u32>,
    /// Programs that have ended lately: what they may have held, and when that was.
    ended: Mutex<VecDeque<(u64, Moment)>>,
}

/// A program counts as alive for as long as this lives.
#[derive(Debug)]
struct Alive {
    gauge: Arc<Gauge>,
    /// There is a program, and not only an attempt to start one.
    has_run: bool,
    needed_bytes: u64,
    clock: Clock,
}

impl Alive {
    fn begin(gauge: &Arc<Gauge>, needed_bytes: u64, clock: Clock) -> Self {
        gauge.alive.send_modify(|count| *count += 1);
        Self { gauge: Arc::clone(gauge), has_run: false, needed_bytes, clock }
    }
}

impl Drop for Alive {
    fn drop(&mut self) {
        let last = self.gauge.sample.send_replace(None);
        if self.has_run {
            // One that was still loading held more than was read last.
            let read_bytes = last.and_then(|sample| sample.resident_bytes).unwrap_or(0);
            let mut ended = self.gauge.ended.lock();
            ended.truncate(ENDED_MAX - 1);
            ended.push_front((read_bytes.max(self.needed_bytes), self.clock.now()));
        }
        self.gauge.alive.send_modify(|count| *count -= 1);
    }
}

impl Gauge {
    /// What was read last, up to half a second ago.
    pub(crate) fn sample(&self) -> Option<Sample> {
        *self.sample.borrow()
    }

    /// Resolves when no program of an earlier launch is left (RUN-1).
    pub(crate) async fn all_gone(&self) {
        // The sender is this gauge itself.
        let _ = self.alive.subscribe().wait_for(|count| *count == 0).await;
    }

    /// A program that is ending holds nothing any more by its own count, long before its memory is free: what
    /// it held last stands until it has ended.
    fn show(&self, sample: Sample) {
        self.sample.send_modify(|shown| {
            let held = shown.and_then(|shown| shown.resident_bytes);
            let resident_bytes = sample.resident_bytes.filter(|bytes| *bytes > 0).or(held);
            *shown = Some(Sample { resident_bytes, ..sample });
        });
    }

    /// Programs that have ended within the last `window`: what they held at most, and how long ago they
    /// ended.
    pub(crate) fn ended_within(&self, window: Duration, now: Moment) -> Vec<(u64, Duration)> {
        let ended = self.ended.lock();
        let ago = ended.iter().map(|(held_bytes, at)| (*held_bytes, now.since(*at)));
        ago.filter(|(_, ago)| *ago < window).collect()
    }

    /// A program has not ended yet.
    pub(crate) fn is_alive(&self) -> bool {
        *self.alive.borrow() > 0
    }

    /// Reads it now. An engine that cannot be read in time is as it was last.
    pub(crate) async fn fresh(&self) -> Option<Sample> {
        let mut sample = self.sample.subscribe();
        sample.borrow_and_update().as_ref()?;
        self.wanted.notify_one();
        // Past this the last figure must do.
        let _ = tokio::time::timeout(FRESH_WITHIN, sample.changed()).await;
        *sample.borrow()
    }
}

/// A program that has been launched. Dropping it ends it; it counts as alive until it has ended.
pub(crate) struct Launched {
    running: Option<(Box<dyn Engine>, Alive)>,
    pub(super) serving: Serving,
}

impl Launched {
    /// Launches a program. The launch is over when this resolves, and where it is dropped, when it has come
    /// to its end all the same: a program that it may have started by then is ended, and until that the
    /// runtime has a program (RUN-1).
    pub(super) async fn by(
        launcher: &Arc<dyn Launcher>,
        spec: LaunchSpec,
        gauge: &Arc<Gauge>,
        (needed_bytes, clock): (u64, Clock),
    ) -> Result<Self, LaunchError> {
        let (launch, alive) = (launcher.launch(spec), Alive::begin(gauge, needed_bytes, clock));
        let launching = tokio::spawn(async move { launch.await.map(|engine| Self::new(engine, alive)) });
        launching.await.unwrap_or_else(|error| match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // Nobody aborts it but the end of the node's runtime.
            Err(error) => Err(LaunchError(Diagnosis {
                cause: Cause::Unknown,
                detail: format!("the launch was cut off: {error}"),
                hint: None,
                permanent: false,
            })),
        })
    }

    fn new(engine: Box<dyn Engine>, mut alive: Alive) -> Self {
        alive.has_run = true;
        let serving = Serving {
            pid: Some(engine.pid()),
            endpoint: engine.endpoint().cloned(),
            secret: Some(engine.secret().clone()),
            sandbox: Some(engine.sandbox().clone()),
            end: Some(watch::Sender::new(None)),
        };
        Self { running: Some((engine, alive)), serving }
    }
}

impl Drop for Launched {
    fn drop(&mut self) {
        let Some((mut engine, alive)) = self.running.take() else { return };
        engine.kill();
        // Where the node's runtime is gone, so is everything that it looked after.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                engine.exited().await;
                drop(alive);
            });
        }
    }
}

/// A runtime whose programs end faster than that is in quarantine.
const ENDED_MAX: usize = 8;
/// Reading takes milliseconds, also where every process of the machine has to be looked at.
const FRESH_WITHIN: Duration = Duration::from_millis(200);
/// Deadlines follow progress, so it is read a few times a second.
const SAMPLE_EVERY: Duration = Duration::from_millis(500);
/// A second terminate adds nothing to a first one that is still in the queue.
const COMMANDS_MAX: usize = 4;
/// Beyond its grace an engine is killed; reaping it takes milliseconds.
const REAP_PATIENCE: Duration = Duration::from_secs(5);

impl Tended {
    pub(super) fn begin(context: &mut Context<RuntimeMessage>, mut launched: Launched, attempt: u64) -> Self {
        let (commands, mut inbox) = mpsc::channel::<Duration>(COMMANDS_MAX);
        let Some((mut engine, alive)) = launched.running.take() else {
            // It is taken here and nowhere else.
            return Self { commands, gauge: Arc::default(), ended: oneshot::channel().1 };
        };
        let gauge = Arc::clone(&alive.gauge);
        let (end, ended) = oneshot::channel();
        // Not a task of the actor, with which it would be cut off: the engine's end is waited for whatever
        // becomes of the actor.
        let tend = tokio::spawn(async move {
            let mut ticks = tokio::time::interval(SAMPLE_EVERY);
            ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            let mut reading: Option<Reading> = None;
            let exit = loop {
                let command = tokio::select! {
                    biased;
                    exit = engine.exited() => break exit,
                    command = inbox.recv() => command,
                    sample = finished(&mut reading), if reading.is_some() => {
                        reading = None;
                        alive.gauge.show(sample);
                        continue;
                    }
                    () = read_next(&mut ticks, &alive.gauge), if reading.is_none() => {
                        reading = Some(engine.measured());
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
            drop(alive);
            // The actor may be waiting for this in `stopping`, or be gone.
            let _ = end.send(());
            exit
        });
        context.spawn(async move {
            match tend.await {
                Ok(exit) => RuntimeMessage::Exited(attempt, exit),
                // A defect of ours: the actor falls with it, as it would with one of its own tasks.
                Err(error) => match error.try_into_panic() {
                    Ok(panic) => std::panic::resume_unwind(panic),
                    // The node's runtime is ending, and the actor with it.
                    Err(_) => std::future::pending().await,
                },
            }
        });
        Self { commands, gauge, ended }
    }

    pub(super) fn terminate(&self, grace: Duration) {
        // A full queue holds a terminate already.
        let _ = self.commands.try_send(grace);
    }

    pub(super) fn sample(&self) -> Sample {
        self.gauge.sample().unwrap_or_default()
    }

    /// Ends the engine and waits for that.
    pub(super) async fn end(self, grace: Duration) {
        self.terminate(grace);
        // Past this the engine is dropped with its task, which kills it.
        let _ = tokio::time::timeout(grace + REAP_PATIENCE, self.ended).await;
    }
}

/// A look at the engine that has begun.
type Reading = BoxFuture<'static, (Option<u64>, u64)>;

async fn finished(reading: &mut Option<Reading>) -> Sample {
    match reading {
        Some(reading) => {
            let (resident_bytes, progress) = reading.await;
            Sample { resident_bytes, progress }
        }
        None => std::future::pending().await,
    }
}

/// Resolves when the engine is to be read: by the clock, or because somebody wants to know.
async fn read_next(ticks: &mut tokio::time::Interval, gauge: &Gauge) {
    tokio::select! {
        _ = ticks.tick() => {}
        () = gauge.wanted.notified() => {}
    }
}

impl RuntimeActor {
    /// What it holds now is what it will hold: shown as soon as it is read.
    pub(super) fn measure(&mut self, context: &mut Context<RuntimeMessage>) {
        let gauge = Arc::clone(&self.args.gauge);
        context.spawn(async move {
            gauge.fresh().await;
            RuntimeMessage::Refresh
        });
    }
}
