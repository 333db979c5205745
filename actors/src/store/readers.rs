//! The read-only connections.
//!
//! Owns a small, bounded pool. Refuses to know what is read.

use std::path::PathBuf;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use rusqlite::Connection;

use super::error::ReadError;
use super::schema;

/// How long a read waits for a free connection: reads take milliseconds, so a longer queue means something
/// hangs.
const WAIT_MAX: Duration = Duration::from_secs(5);

#[derive(Default)]
struct Pool {
    idle: Vec<Connection>,
    in_use: usize,
    closed: bool,
}

pub(super) struct Readers {
    path: PathBuf,
    most: usize,
    pool: Mutex<Pool>,
    freed: Condvar,
}

impl Readers {
    pub(super) fn new(path: PathBuf, most: usize) -> Self {
        Self { path, most: most.max(1), pool: Mutex::default(), freed: Condvar::new() }
    }

    pub(super) fn read<T>(
        &self,
        read: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, ReadError> {
        let lease = Lease { connection: Some(self.take()?), readers: self };
        match &lease.connection {
            Some(connection) => Ok(read(connection)?),
            None => Err(ReadError::Closed),
        }
    }

    fn take(&self) -> Result<Connection, ReadError> {
        let mut pool = self.pool.lock();
        loop {
            if pool.closed {
                return Err(ReadError::Closed);
            }
            if let Some(connection) = pool.idle.pop() {
                pool.in_use += 1;
                return Ok(connection);
            }
            if pool.in_use < self.most {
                pool.in_use += 1;
                break;
            }
            if self.freed.wait_for(&mut pool, WAIT_MAX).timed_out() {
                return Err(ReadError::Busy { readers: self.most, waited: WAIT_MAX });
            }
        }
        drop(pool);
        schema::open_reader(&self.path).map_err(|problem| {
            self.pool.lock().in_use -= 1;
            self.freed.notify_one();
            ReadError::Sql(problem)
        })
    }

    fn give_back(&self, connection: Connection) {
        let mut pool = self.pool.lock();
        pool.in_use -= 1;
        // An open statement would hold an old view of the tables, and with it the log file.
        if !pool.closed && !connection.is_busy() {
            pool.idle.push(connection);
        }
        drop(pool);
        self.freed.notify_one();
    }

    /// Reads fail from now on; those in progress end as usual.
    pub(super) fn close(&self) {
        let idle = {
            let mut pool = self.pool.lock();
            pool.closed = true;
            std::mem::take(&mut pool.idle)
        };
        drop(idle);
        self.freed.notify_all();
    }
}

/// Brings its connection back even when the read panics.
struct Lease<'a> {
    connection: Option<Connection>,
    readers: &'a Readers,
}

impl Drop for Lease<'_> {
    fn drop(&mut self) {
        if let Some(connection) = self.connection.take() {
            self.readers.give_back(connection);
        }
    }
}
