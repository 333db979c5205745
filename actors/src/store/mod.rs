//! The node's database: one SQLite file.
//!
//! Owns the one writer thread with group commit, the read-only connections, the migrations and the health of
//! the file. Refuses to know what the tables mean: `journal/` and `policy/` bring their own SQL.
//!
//! Callers never wait for the disk unless they ask for the answer: a write is queued (bounded) and answered
//! by a future. While the database takes no writes, each write is refused at once with the reason, and the
//! store goes on by itself when writes work again ([`Store::health`]).

mod error;
mod files;
mod health;
mod queue;
mod readers;
mod receipt;
mod schema;
mod writer;

#[cfg(test)]
mod tests;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use rusqlite::Connection;
use tokio::sync::{oneshot, watch};

pub use self::error::{CloseError, OpenError, ReadError, WriteError};
pub use self::health::StoreHealth;
pub use self::receipt::WriteReceipt;

use arw_kit::clock::Clock;

use self::queue::{Job, Queue};
use self::readers::Readers;
use self::receipt::TypedTask;
use self::writer::Writer;

/// How sure a write is once it is acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Durability {
    /// It survives a power cut: the disk has confirmed it.
    Full,
    /// It survives the end of this process, but perhaps not a power cut. May wait up to 5 ms for company.
    Relaxed,
}

/// How a store is opened.
#[derive(Clone, Copy, Debug)]
pub struct StoreOptions {
    /// Writes that may wait; further ones are refused with [`WriteError::Overloaded`].
    pub queue_max: usize,
    /// Connections that read at the same time.
    pub readers_max: usize,
    /// Where the time of a trouble comes from.
    pub clock: Clock,
}

impl Default for StoreOptions {
    /// 4,096 waiting writes (a burst of 16 full batches), 4 readers (they take milliseconds each), the
    /// machine's clock.
    fn default() -> Self {
        Self { queue_max: 4096, readers_max: 4, clock: Clock::system() }
    }
}

/// The node's database. Cheap to clone; every clone is the same store.
///
/// ```
/// use arw_actors::store::{Durability, Store, StoreOptions};
/// use std::time::Duration;
///
/// let folder = tempfile::tempdir().unwrap();
/// let store = Store::open(&folder.path().join("arw.db"), StoreOptions::default()).unwrap();
/// store
///     .write_blocking(Durability::Full, Duration::from_secs(5), |db| {
///         db.execute_batch("CREATE TABLE note (text TEXT) STRICT; INSERT INTO note VALUES ('hello')")?;
///         Ok(())
///     })
///     .unwrap();
/// let text: String = store.read_blocking(|db| db.query_row("SELECT text FROM note", [], |row| row.get(0))).unwrap();
/// assert_eq!(text, "hello");
/// store.close_blocking(Duration::from_secs(5)).unwrap();
/// ```
#[derive(Clone)]
pub struct Store {
    owner: Arc<Owner>,
}

/// What the writer thread shares with the handles.
struct Shared {
    path: PathBuf,
    queue: Queue,
    readers: Readers,
    health: watch::Sender<StoreHealth>,
    watchers: Mutex<Vec<Watcher>>,
    finished: Finished,
    #[cfg(any(test, feature = "testkit"))]
    fault: Mutex<Fault>,
}

type Watcher = Box<dyn Fn(&StoreHealth) + Send>;

/// Closes the queue when the last handle goes, so that the thread ends.
struct Owner {
    shared: Arc<Shared>,
    read_slots: tokio::sync::Semaphore,
}

impl Store {
    /// Opens the database at `path`, makes it when it is missing, and brings its tables up to date.
    ///
    /// It holds `<path>.lock` until it is closed: a second store on the same file is refused. On Unix the
    /// file is readable by this user only.
    ///
    /// # Errors
    /// [`OpenError`], with the path and what to do.
    pub fn open(path: &Path, options: StoreOptions) -> Result<Self, OpenError> {
        files::check_folder(path)?;
        let lock = files::lock_beside(path)?;
        files::make_private(path)?;
        let connection = schema::open_writer(path)?;
        let shared = Arc::new(Shared {
            path: path.to_owned(),
            queue: Queue::new(options.queue_max),
            readers: Readers::new(path.to_owned(), options.readers_max),
            health: watch::Sender::new(StoreHealth::Ok),
            watchers: Mutex::default(),
            finished: Finished::default(),
            #[cfg(any(test, feature = "testkit"))]
            fault: Mutex::new(Fault::None),
        });
        let writer = Writer::new(connection, lock, Arc::clone(&shared), options.clock);
        std::thread::Builder::new()
            .name("arw-store".to_owned())
            .spawn(move || run_to_the_end(writer))
            .map_err(|e| OpenError::Other { path: path.to_owned(), reason: e.to_string() })?;
        let read_slots = tokio::sync::Semaphore::new(options.readers_max.max(1));
        Ok(Self { owner: Arc::new(Owner { shared, read_slots }) })
    }

    /// Queues a write. The receipt is a future that answers after the commit; dropping it does not take the
    /// write back.
    ///
    /// The write runs on the store's thread inside a transaction: it must not begin or end one, and must not
    /// wait. When it returns an error, what it changed is undone; other writes of the same batch are not
    /// touched.
    pub fn write<T, W>(&self, durability: Durability, write: W) -> WriteReceipt<T>
    where
        T: Send + 'static,
        W: FnOnce(&Connection) -> Result<T, WriteError> + Send + 'static,
    {
        let (answer, receipt) = oneshot::channel();
        self.submit(durability, write, move |outcome| {
            // Nobody listens when the receipt was dropped: that is allowed.
            let _ = answer.send(outcome);
        });
        WriteReceipt { receipt }
    }

    /// Queues a write and calls `done` with its outcome: on the store's thread after the commit, or at once
    /// on this thread when the queue is full or closed. `done` must not wait, and the caller must hold no
    /// lock that `done` takes.
    pub fn submit<T, W, D>(&self, durability: Durability, write: W, done: D)
    where
        T: Send + 'static,
        W: FnOnce(&Connection) -> Result<T, WriteError> + Send + 'static,
        D: FnOnce(Result<T, WriteError>) + Send + 'static,
    {
        let task = Box::new(TypedTask { write: Some(write), output: None, done });
        if let Err((job, refusal)) = self.shared().queue.push(Job { durability, task }) {
            job.task.finish(Err(refusal));
        }
    }

    /// As [`Store::submit`], but taken even when the queue is full or the store is closing. For owners that
    /// have at most one write in the queue at any time, so that the queue stays bounded.
    pub(crate) fn submit_reserved<T, W, D>(&self, durability: Durability, write: W, done: D)
    where
        T: Send + 'static,
        W: FnOnce(&Connection) -> Result<T, WriteError> + Send + 'static,
        D: FnOnce(Result<T, WriteError>) + Send + 'static,
    {
        let task = Box::new(TypedTask { write: Some(write), output: None, done });
        if let Err((job, refusal)) = self.shared().queue.push_reserved(Job { durability, task }) {
            job.task.finish(Err(refusal));
        }
    }

    /// Makes a write and waits for it, at most `patience`. Not for async code: it blocks the thread.
    ///
    /// # Errors
    /// [`WriteError`]; after [`WriteError::TimedOut`] the write may still be made.
    pub fn write_blocking<T, W>(
        &self,
        durability: Durability,
        patience: Duration,
        write: W,
    ) -> Result<T, WriteError>
    where
        T: Send + 'static,
        W: FnOnce(&Connection) -> Result<T, WriteError> + Send + 'static,
    {
        let (answer, receipt) = std::sync::mpsc::sync_channel(1);
        self.submit(durability, write, move |outcome| {
            let _ = answer.send(outcome);
        });
        receipt.recv_timeout(patience).unwrap_or(Err(WriteError::TimedOut(patience)))
    }

    /// Reads on a read-only connection, off the async threads.
    ///
    /// # Errors
    /// [`ReadError`].
    pub async fn read<T, R>(&self, read: R) -> Result<T, ReadError>
    where
        T: Send + 'static,
        R: FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    {
        let store = self.clone();
        self.off_the_async_threads(move || store.read_blocking(read)).await
    }

    /// Runs what reads and blocks, at most as many at once as there are readers: the others wait without a
    /// thread.
    pub(crate) async fn off_the_async_threads<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, ReadError> + Send + 'static,
    ) -> Result<T, ReadError> {
        let _slot = self.owner.read_slots.acquire().await.map_err(|_| ReadError::Closed)?;
        tokio::task::spawn_blocking(work)
            .await
            .unwrap_or_else(|problem| Err(ReadError::Panicked(problem.to_string())))
    }

    /// Reads on a read-only connection. Not for async code: it blocks the thread.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn read_blocking<T>(
        &self,
        read: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, ReadError> {
        self.shared().readers.read(read)
    }

    /// Whether writes work, to look at or to wait on.
    #[must_use]
    pub fn health(&self) -> watch::Receiver<StoreHealth> {
        self.shared().health.subscribe()
    }

    /// Calls `watcher` on the store's thread at each change of the health. It must not wait.
    pub fn on_health(&self, watcher: impl Fn(&StoreHealth) + Send + 'static) {
        self.shared().watchers.lock().push(Box::new(watcher));
    }

    /// Where the database lies.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.shared().path
    }

    /// Takes no more writes and reads, finishes the writes that wait, and closes the file.
    ///
    /// # Errors
    /// [`CloseError`] when that took longer than `deadline`; the thread goes on with it.
    pub async fn close(&self, deadline: Duration) -> Result<(), CloseError> {
        let store = self.clone();
        tokio::task::spawn_blocking(move || store.close_blocking(deadline))
            .await
            .unwrap_or_else(|_| Err(CloseError { deadline, waiting: self.shared().queue.len() }))
    }

    /// As [`Store::close`]. Not for async code: it blocks the thread.
    ///
    /// # Errors
    /// [`CloseError`] when that took longer than `deadline`; the thread goes on with it.
    pub fn close_blocking(&self, deadline: Duration) -> Result<(), CloseError> {
        self.shared().queue.close();
        // Before the writer: the last connection to close merges the log file into the database.
        self.shared().readers.close();
        if self.shared().finished.wait(deadline) {
            return Ok(());
        }
        Err(CloseError { deadline, waiting: self.shared().queue.len() })
    }

    /// Breaks writing (for tests): see [`Fault`].
    #[cfg(any(test, feature = "testkit"))]
    pub fn inject(&self, fault: Fault) {
        *self.shared().fault.lock() = fault;
    }

    fn shared(&self) -> &Shared {
        &self.owner.shared
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store")
            .field("path", &self.shared().path)
            .field("health", &*self.shared().health.borrow())
            .field("waiting", &self.shared().queue.len())
            .finish()
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.shared.queue.close();
        self.shared.readers.close();
    }
}

impl Shared {
    fn publish_health(&self, health: &StoreHealth) {
        self.health.send_replace(health.clone());
        for watcher in self.watchers.lock().iter() {
            watcher(health);
        }
    }
}

/// Set once, when the writer thread has ended.
#[derive(Default)]
struct Finished {
    done: Mutex<bool>,
    change: Condvar,
}

impl Finished {
    fn set(&self) {
        *self.done.lock() = true;
        self.change.notify_all();
    }

    fn wait(&self, patience: Duration) -> bool {
        let mut done = self.done.lock();
        self.change.wait_while_for(&mut done, |done| !*done, patience);
        *done
    }
}

/// Ways in which tests make writing fail, with SQLite's own errors.
#[cfg(any(test, feature = "testkit"))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fault {
    /// Writes work.
    #[default]
    None,
    /// The file may not grow (`SQLITE_FULL`).
    DiskFull,
    /// Nothing may be written (`SQLITE_READONLY`).
    ReadOnly,
}

#[cfg(any(test, feature = "testkit"))]
impl Fault {
    fn apply(self, connection: &Connection) -> rusqlite::Result<()> {
        connection.pragma_update(None, "query_only", self == Self::ReadOnly)?;
        // 1 means "as large as it is now": SQLite never goes below the present size. The other is SQLite's
        // own default.
        let pages: i64 = if self == Self::DiskFull { 1 } else { 4_294_967_294 };
        connection.pragma_update_and_check(None, "max_page_count", pages, |_| Ok(()))
    }
}

/// A writer that crashes (a defect) must leave nobody waiting for an answer.
fn run_to_the_end(writer: Writer) {
    let shared = writer.shared();
    if let Err(panic) = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| writer.run())) {
        let reason = format!("the store's thread crashed (a defect in arw): {}", writer::text_of(&*panic));
        tracing::error!(%reason, "no further write is possible");
        shared.queue.abandon();
        shared.publish_health(&StoreHealth::Degraded { reason, since: Clock::system().wall(), lost: 0 });
    }
    shared.finished.set();
}
