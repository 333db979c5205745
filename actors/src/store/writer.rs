//! The one thread that writes.
//!
//! Owns the writing connection: batches, savepoints, durability, the tries while the database takes no
//! writes. Refuses to know what is written.
//!
//! ```text
//!            fault                      trial write works
//! Ok ───────────────────► Degraded ──────────────────────────► Ok
//!                          │    ▲ trial write fails: longer pause
//!                          └────┘ writes that come are refused at once
//! ```

use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use arw_kit::clock::Clock;
use rusqlite::Connection;
use tracing::{error, info, warn};

use super::error::{WriteError, fault_of};
use super::health::HealthTable;
use super::queue::{Job, Wake};
use super::{Durability, Shared};

pub(super) struct Writer {
    connection: Connection,
    shared: Arc<Shared>,
    clock: Clock,
    health: HealthTable,
    synchronous: Option<Durability>,
    // Held for as long as this thread can write, so that no second program assigns the same numbers.
    _lock: File,
}

/// A trial write needs this much room, so that a success means that real writes have some.
const TRIAL_BYTES: u32 = 32 * 1024;

impl Writer {
    pub(super) fn new(connection: Connection, lock: File, shared: Arc<Shared>, clock: Clock) -> Self {
        Self { connection, shared, clock, health: HealthTable::new(), synchronous: None, _lock: lock }
    }

    /// Runs until the store is closed and its queue is empty.
    pub(super) fn run(mut self) {
        let shared = Arc::clone(&self.shared);
        loop {
            match shared.queue.next(&self.clock, self.health.retry_at()) {
                Wake::Batch(batch) if self.health.health().is_ok() => self.write(batch),
                Wake::Batch(batch) => self.refuse(batch),
                Wake::Due => self.try_again(),
                Wake::Ended => break,
            }
            // A stream of refused writes must not keep the trial from its time.
            if self.health.retry_at().is_some_and(|at| at <= self.clock.now()) {
                self.try_again();
            }
        }
        // Leaves one tidy file behind; the log file is complete without it.
        if let Err(problem) =
            self.connection.execute_batch("PRAGMA optimize; PRAGMA wal_checkpoint(TRUNCATE);")
        {
            info!(%problem, "the store's log file stays until the next start");
        }
    }

    pub(super) fn shared(&self) -> Arc<Shared> {
        Arc::clone(&self.shared)
    }

    fn write(&mut self, batch: Vec<Job>) {
        let mut outcomes: Vec<Result<(), WriteError>> = Vec::with_capacity(batch.len());
        let mut batch = batch;
        let fault = match self.transact(&mut batch, &mut outcomes) {
            Ok(fault) => fault,
            Err(reason) => Some(self.abandon(reason, batch.len(), &mut outcomes)),
        };
        let failed = outcomes.iter().filter(|o| matches!(o, Err(WriteError::Unavailable { .. }))).count();
        match fault {
            Some(reason) => self.degrade(reason, failed as u64),
            None => self.health.committed(),
        }
        for (job, outcome) in batch.into_iter().zip(outcomes) {
            tell(job, outcome);
        }
    }

    /// One transaction for the whole batch; each write in its own savepoint. Returns the first fault of a
    /// single write that left the transaction usable, or the reason why nothing could be committed.
    fn transact(
        &mut self,
        batch: &mut [Job],
        outcomes: &mut Vec<Result<(), WriteError>>,
    ) -> Result<Option<String>, String> {
        self.apply_injected_fault().map_err(reason_of)?;
        self.set_durability(batch)?;
        self.execute("BEGIN IMMEDIATE")?;
        let mut fault = None;
        for job in batch {
            self.execute("SAVEPOINT one_write")?;
            let outcome = catch_unwind(AssertUnwindSafe(|| job.task.run(&self.connection)))
                .unwrap_or_else(|panic| Err(WriteError::Panicked(text_of(&*panic))));
            if let Err(problem) = &outcome {
                if let WriteError::Sql(problem) = problem
                    && let Some(reason) = fault_of(problem)
                {
                    fault.get_or_insert(reason);
                }
                // On a full disk SQLite may have undone the whole transaction by itself: so do we with the
                // batch.
                if !self.connection.is_autocommit() {
                    self.execute("ROLLBACK TO one_write")?;
                }
            }
            if self.connection.is_autocommit() {
                return Err(
                    fault.unwrap_or_else(|| "a write ended its transaction (a defect in arw)".to_owned())
                );
            }
            self.execute("RELEASE one_write")?;
            outcomes.push(outcome.map_err(as_unavailable));
        }
        self.execute("COMMIT")?;
        Ok(fault)
    }

    /// Nothing of the batch is in the database. Those that failed by themselves keep their own error.
    fn abandon(
        &mut self,
        reason: String,
        count: usize,
        outcomes: &mut Vec<Result<(), WriteError>>,
    ) -> String {
        if !self.connection.is_autocommit()
            && let Err(problem) = self.execute("ROLLBACK")
        {
            error!(problem, "a failed transaction could not be rolled back");
        }
        outcomes.resize_with(count, || Ok(()));
        for outcome in outcomes.iter_mut().filter(|outcome| outcome.is_ok()) {
            *outcome = Err(WriteError::Unavailable { reason: reason.clone() });
        }
        reason
    }

    fn refuse(&mut self, batch: Vec<Job>) {
        let reason = match self.health.health() {
            super::StoreHealth::Degraded { reason, .. } => reason.clone(),
            super::StoreHealth::Ok => return self.write(batch),
        };
        self.health.refused(batch.len() as u64);
        self.publish_health();
        for job in batch {
            tell(job, Err(WriteError::Unavailable { reason: reason.clone() }));
        }
    }

    fn try_again(&mut self) {
        match self.trial() {
            Ok(()) => {
                self.health.recovered();
                info!("the store can write again");
                self.publish_health();
            }
            Err(reason) => {
                let reason = self.abandon(reason, 0, &mut Vec::new());
                self.degrade(reason, 0);
            }
        }
    }

    /// Writes something, durably, and removes it again.
    fn trial(&mut self) -> Result<(), String> {
        self.apply_injected_fault().map_err(reason_of)?;
        self.execute("PRAGMA synchronous=FULL")?;
        self.synchronous = Some(Durability::Full);
        self.execute("BEGIN IMMEDIATE")?;
        self.connection
            .execute(
                "INSERT OR REPLACE INTO store_probe (one, filler) VALUES (1, zeroblob(?1))",
                [TRIAL_BYTES],
            )
            .map_err(reason_of)?;
        self.execute("COMMIT")?;
        self.execute("DELETE FROM store_probe")
    }

    fn degrade(&mut self, reason: String, lost: u64) {
        if self.health.health().is_ok() {
            warn!(%reason, "the store cannot write; it tries again by itself");
        }
        self.health.failed(self.clock.now(), self.clock.wall(), reason, lost);
        self.publish_health();
    }

    fn publish_health(&self) {
        self.shared.publish_health(self.health.health());
    }

    /// One durable write makes the whole batch durable: their order stays as it came.
    fn set_durability(&mut self, batch: &[Job]) -> Result<(), String> {
        let full = batch.iter().any(|job| job.durability == Durability::Full);
        let wanted = if full { Durability::Full } else { Durability::Relaxed };
        if self.synchronous != Some(wanted) {
            // In WAL mode FULL syncs the log at each commit, and with it everything written before; NORMAL
            // only at checkpoints.
            self.execute(if full { "PRAGMA synchronous=FULL" } else { "PRAGMA synchronous=NORMAL" })?;
            self.synchronous = Some(wanted);
        }
        Ok(())
    }

    fn execute(&self, sql: &str) -> Result<(), String> {
        let run = || self.connection.prepare_cached(sql)?.execute([]);
        run().map(|_| ()).map_err(reason_of)
    }

    #[cfg(any(test, feature = "testkit"))]
    fn apply_injected_fault(&self) -> rusqlite::Result<()> {
        self.shared.fault.lock().apply(&self.connection)
    }

    #[cfg(not(any(test, feature = "testkit")))]
    #[expect(clippy::unnecessary_wraps, clippy::unused_self, reason = "same shape as with the test kit")]
    fn apply_injected_fault(&self) -> rusqlite::Result<()> {
        Ok(())
    }
}

#[expect(clippy::needless_pass_by_value, reason = "used as `map_err(reason_of)`")]
fn reason_of(problem: rusqlite::Error) -> String {
    fault_of(&problem).unwrap_or_else(|| format!("a commit failed ({problem})"))
}

/// What a caller hears: the database's trouble is not the fault of the write.
fn as_unavailable(problem: WriteError) -> WriteError {
    match problem {
        WriteError::Sql(problem) => match fault_of(&problem) {
            Some(reason) => WriteError::Unavailable { reason },
            None => WriteError::Sql(problem),
        },
        other => other,
    }
}

fn tell(job: Job, outcome: Result<(), WriteError>) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| job.task.finish(outcome))) {
        error!(panic = %text_of(&*panic), "the receiver of a write's outcome crashed");
    }
}

pub(super) fn text_of(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no message".to_owned())
}
