//! The bounded queue in front of the writer thread.
//!
//! Owns the waiting writes and the rule when a batch is complete. Refuses to know SQL.

use std::collections::VecDeque;
use std::time::Duration;

use arw_kit::clock::Clock;
use arw_kit::moment::Moment;
use parking_lot::{Condvar, Mutex};
use rusqlite::Connection;

use super::Durability;
use super::error::WriteError;

/// Writes of one commit at most: at 256 the cost of a sync is spread thin already and nobody waits long
/// behind a batch.
pub(super) const BATCH_MAX: usize = 256;

/// How long relaxed writes wait for company. A durable write waits for nobody: while its sync runs, others
/// gather anyway.
pub(super) const LINGER: Duration = Duration::from_millis(5);

/// One write: what to do, and whom to tell.
pub(super) trait Task: Send {
    /// Makes the change inside the writer's transaction.
    fn run(&mut self, connection: &Connection) -> Result<(), WriteError>;
    /// Told once, after the commit (or after it failed).
    fn finish(self: Box<Self>, outcome: Result<(), WriteError>);
}

/// A write that waits.
pub(super) struct Job {
    pub(super) durability: Durability,
    pub(super) task: Box<dyn Task>,
}

/// What the writer should do next.
pub(super) enum Wake {
    /// Commit these.
    Batch(Vec<Job>),
    /// Nothing came before the time that was given.
    Due,
    /// Closed, and nothing is left.
    Ended,
}

#[derive(Default)]
struct Waiting {
    jobs: VecDeque<Job>,
    full: usize,
    closing: bool,
    ended: bool,
}

pub(super) struct Queue {
    waiting: Mutex<Waiting>,
    arrival: Condvar,
    capacity: usize,
}

impl Queue {
    pub(super) fn new(capacity: usize) -> Self {
        Self { waiting: Mutex::default(), arrival: Condvar::new(), capacity: capacity.max(1) }
    }

    /// Adds a write, or gives it back with the reason. Never waits.
    pub(super) fn push(&self, job: Job) -> Result<(), (Job, WriteError)> {
        let mut waiting = self.waiting.lock();
        if waiting.closing {
            return Err((job, WriteError::Closed));
        }
        if waiting.jobs.len() >= self.capacity {
            return Err((job, WriteError::Overloaded { waiting: self.capacity }));
        }
        self.add(&mut waiting, job);
        Ok(())
    }

    /// Adds a write even when the queue is full or closing, as long as the writer lives. For owners that have
    /// at most one write in the queue at any time.
    pub(super) fn push_reserved(&self, job: Job) -> Result<(), (Job, WriteError)> {
        let mut waiting = self.waiting.lock();
        if waiting.ended {
            return Err((job, WriteError::Closed));
        }
        self.add(&mut waiting, job);
        Ok(())
    }

    fn add(&self, waiting: &mut Waiting, job: Job) {
        let full = job.durability == Durability::Full;
        waiting.full += usize::from(full);
        waiting.jobs.push_back(job);
        // A lingering writer need not hear of every relaxed write: waking it costs more than queueing.
        if full || waiting.jobs.len() == 1 || waiting.jobs.len() == BATCH_MAX {
            self.arrival.notify_one();
        }
    }

    /// From now on nothing more is taken; what waits is still written.
    pub(super) fn close(&self) {
        self.waiting.lock().closing = true;
        self.arrival.notify_one();
    }

    /// Closes, and drops what waits: their receivers hear that the store is closed.
    pub(super) fn abandon(&self) {
        let jobs = {
            let mut waiting = self.waiting.lock();
            waiting.closing = true;
            waiting.ended = true;
            std::mem::take(&mut waiting.jobs)
        };
        for job in jobs {
            job.task.finish(Err(WriteError::Closed));
        }
    }

    pub(super) fn len(&self) -> usize {
        self.waiting.lock().jobs.len()
    }

    /// Waits for a batch, at most until `due`.
    pub(super) fn next(&self, clock: &Clock, due: Option<Moment>) -> Wake {
        let mut waiting = self.waiting.lock();
        while waiting.jobs.is_empty() {
            if waiting.closing {
                waiting.ended = true;
                return Wake::Ended;
            }
            match due {
                None => self.arrival.wait(&mut waiting),
                Some(due) => {
                    let left = due.since(clock.now());
                    if left.is_zero() {
                        return Wake::Due;
                    }
                    self.arrival.wait_for(&mut waiting, left);
                }
            }
        }
        let complete_at = clock.now() + LINGER;
        while waiting.full == 0 && waiting.jobs.len() < BATCH_MAX && !waiting.closing {
            let left = complete_at.since(clock.now());
            if left.is_zero() {
                break;
            }
            self.arrival.wait_for(&mut waiting, left);
        }
        let count = waiting.jobs.len().min(BATCH_MAX);
        let batch: Vec<Job> = waiting.jobs.drain(..count).collect();
        waiting.full -= batch.iter().filter(|job| job.durability == Durability::Full).count();
        Wake::Batch(batch)
    }
}
