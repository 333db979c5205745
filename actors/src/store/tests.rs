use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::sync::mpsc::sync_channel;

use super::*;

type BoxedWrite = Box<dyn FnOnce(&Connection) -> Result<(), WriteError> + Send>;

const PATIENCE: Duration = Duration::from_secs(20);

fn open(folder: &Path) -> Store {
    Store::open(&folder.join("arw.db"), StoreOptions::default()).unwrap()
}

fn with_notes() -> (tempfile::TempDir, Store) {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    write(&store, |db| {
        Ok(db.execute_batch("CREATE TABLE note (id INTEGER PRIMARY KEY, text TEXT NOT NULL) STRICT")?)
    })
    .unwrap();
    (folder, store)
}

fn write<T: Send + 'static>(
    store: &Store,
    write: impl FnOnce(&Connection) -> Result<T, WriteError> + Send + 'static,
) -> Result<T, WriteError> {
    store.write_blocking(Durability::Full, PATIENCE, write)
}

fn add(text: &'static str) -> impl FnOnce(&Connection) -> Result<(), WriteError> + Send {
    move |db| {
        db.execute("INSERT INTO note (text) VALUES (?1)", [text])?;
        Ok(())
    }
}

fn notes(store: &Store) -> Vec<String> {
    store
        .read_blocking(|db| {
            db.prepare("SELECT text FROM note ORDER BY id")?.query_map([], |row| row.get(0))?.collect()
        })
        .unwrap()
}

/// Holds the writer inside a write until the returned sender is dropped, so that what follows becomes one
/// batch.
fn hold(store: &Store) -> std::sync::mpsc::SyncSender<()> {
    let (release, held) = sync_channel::<()>(0);
    let (entered, inside) = sync_channel(1);
    drop(store.write(Durability::Full, move |_| {
        let _ = entered.send(());
        let _ = held.recv();
        Ok(())
    }));
    inside.recv_timeout(PATIENCE).unwrap();
    release
}

#[tokio::test]
async fn a_write_is_answered_with_its_value_after_the_commit() {
    let (_folder, store) = with_notes();
    let count = store
        .write(Durability::Relaxed, |db| {
            db.execute("INSERT INTO note (text) VALUES ('a'), ('b')", [])?;
            Ok(db.changes())
        })
        .await
        .unwrap();
    assert_eq!(count, 2);
    let seen: i64 =
        store.read(|db| db.query_row("SELECT count(*) FROM note", [], |row| row.get(0))).await.unwrap();
    assert_eq!(seen, 2);
}

#[test]
fn a_bad_write_does_not_take_its_batch_along() {
    let (_folder, store) = with_notes();
    let release = hold(&store);
    let (tell, told) = sync_channel(8);
    let submit = |name: &'static str, write: BoxedWrite| {
        let tell = tell.clone();
        store.submit(Durability::Relaxed, write, move |outcome| tell.send((name, outcome)).unwrap());
    };
    submit("first", Box::new(add("first")));
    submit(
        "refused",
        Box::new(|db| {
            db.execute("INSERT INTO note (text) VALUES ('half')", [])?;
            Err(WriteError::Refused("not today".into()))
        }),
    );
    submit(
        "constraint",
        Box::new(|db| Ok(db.execute("INSERT INTO note (text) VALUES (NULL)", []).map(|_| ())?)),
    );
    submit(
        "panic",
        Box::new(|db| {
            db.execute("INSERT INTO note (text) VALUES ('half')", [])?;
            panic!("boom")
        }),
    );
    submit("last", Box::new(add("last")));
    drop(release);
    let outcomes: Vec<_> = (0..5).map(|_| told.recv_timeout(PATIENCE).unwrap()).collect();
    assert!(matches!(outcomes[0], ("first", Ok(()))), "{outcomes:?}");
    assert!(matches!(&outcomes[1], ("refused", Err(WriteError::Refused(why))) if why == "not today"));
    assert!(matches!(outcomes[2], ("constraint", Err(WriteError::Sql(_)))));
    assert!(matches!(&outcomes[3], ("panic", Err(WriteError::Panicked(text))) if text == "boom"));
    assert!(matches!(outcomes[4], ("last", Ok(()))));
    assert_eq!(notes(&store), ["first", "last"]);
    assert!(store.health().borrow().is_ok(), "one wrong write says nothing about the disk");
}

#[test]
fn a_write_that_ends_the_transaction_by_itself_is_not_acknowledged() {
    let (_folder, store) = with_notes();
    let outcome = write(&store, |db| Ok(db.execute_batch("ROLLBACK")?));
    assert!(outcome.is_err(), "{outcome:?}");
}

#[test]
fn a_full_queue_refuses_instead_of_waiting() {
    let folder = tempfile::tempdir().unwrap();
    let options = StoreOptions { queue_max: 2, ..StoreOptions::default() };
    let store = Store::open(&folder.path().join("arw.db"), options).unwrap();
    let release = hold(&store);
    let (tell, told) = sync_channel(3);
    for _ in 0..3 {
        let tell = tell.clone();
        store.submit(Durability::Full, |_| Ok(()), move |outcome| tell.send(outcome).unwrap());
    }
    assert!(matches!(told.try_recv().unwrap(), Err(WriteError::Overloaded { waiting: 2 })));
    drop(release);
    told.recv_timeout(PATIENCE).unwrap().unwrap();
    told.recv_timeout(PATIENCE).unwrap().unwrap();
    write(&store, |_| Ok(())).unwrap();
}

async fn until_health(store: &Store, wanted: impl FnMut(&StoreHealth) -> bool) -> StoreHealth {
    let mut health = store.health();
    let seen = tokio::time::timeout(PATIENCE, health.wait_for(wanted)).await;
    seen.expect("the health changes in time").unwrap().clone()
}

async fn breaks_and_heals(fault: Fault, words: &str) {
    let (_folder, store) = with_notes();
    store.inject(fault);
    // Larger than any free page that is left, so that the file would have to grow.
    let big = |db: &Connection| Ok(db.execute("INSERT INTO note (text) VALUES (hex(zeroblob(100000)))", [])?);
    let refused = store.write(Durability::Full, big).await.unwrap_err();
    assert!(refused.to_string().contains(words), "{refused}");
    let health = until_health(&store, |health| !health.is_ok()).await;
    assert!(
        matches!(&health, StoreHealth::Degraded { reason, lost: 1, .. } if reason.contains(words)),
        "{health:?}"
    );
    // While it is broken, writes are answered at once, and reading goes on.
    let refused = store.write(Durability::Relaxed, add("lost")).await.unwrap_err();
    assert!(matches!(refused, WriteError::Unavailable { .. }), "{refused}");
    assert_eq!(notes(&store).len(), 0);
    store.inject(Fault::None);
    until_health(&store, StoreHealth::is_ok).await;
    store.write(Durability::Full, add("after")).await.unwrap();
    assert_eq!(notes(&store), ["after"]);
}

#[tokio::test]
async fn a_full_disk_degrades_the_store_until_there_is_room_again() {
    breaks_and_heals(Fault::DiskFull, "the disk is full").await;
}

#[tokio::test]
async fn a_read_only_database_degrades_the_store_until_it_is_writable_again() {
    breaks_and_heals(Fault::ReadOnly, "read-only").await;
}

#[test]
fn a_write_that_finds_the_disk_full_is_not_the_end_of_its_batch() {
    let (_folder, store) = with_notes();
    store.inject(Fault::DiskFull);
    let release = hold(&store);
    let (tell, told) = sync_channel(8);
    let big = |db: &Connection| {
        Ok(db.execute("INSERT INTO note (text) VALUES (hex(zeroblob(100000)))", []).map(|_| ())?)
    };
    for write in [Box::new(add("small")) as BoxedWrite, Box::new(big)] {
        let tell = tell.clone();
        store.submit(Durability::Full, write, move |outcome: Result<(), WriteError>| {
            tell.send(outcome).unwrap();
        });
    }
    drop(release);
    // Whatever SQLite makes of it (it may undo the whole transaction), what was acknowledged is what is
    // there.
    let acknowledged = told.recv_timeout(PATIENCE).unwrap().is_ok();
    assert!(matches!(told.recv_timeout(PATIENCE).unwrap(), Err(WriteError::Unavailable { .. })));
    assert_eq!(notes(&store).len(), usize::from(acknowledged));
}

#[test]
fn journal_rows_are_never_changed_and_leave_only_below_the_floor() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let sql =
        |text: &'static str| write(&store, move |db| Ok(db.execute_batch(text)?)).map_err(|e| e.to_string());
    let row = |seq: u32| format!("INSERT INTO journal VALUES ({seq}, 0, 'k', 'info', 's', 'm', '{{}}')");
    for seq in 1..=5 {
        let row = row(seq);
        write(&store, move |db| Ok(db.execute_batch(&row)?)).unwrap();
    }
    assert!(sql("UPDATE journal SET message = 'x' WHERE seq = 3").unwrap_err().contains("never changed"));
    assert!(sql("DELETE FROM journal WHERE seq = 1").unwrap_err().contains("only by retention"));
    assert!(sql("DELETE FROM journal").unwrap_err().contains("only by retention"));
    let replace = "INSERT OR REPLACE INTO journal VALUES (3, 9, 'k', 'info', 's', 'changed', '{}')";
    assert!(sql(replace).unwrap_err().contains("only added at the end"));
    sql("UPDATE journal_floor SET seq = 4; DELETE FROM journal WHERE seq < 4").unwrap();
    assert!(sql("DELETE FROM journal WHERE seq = 4").is_err());
    assert!(sql("UPDATE journal_floor SET seq = 1").unwrap_err().contains("only rises"));
    assert!(sql("DELETE FROM journal_floor").unwrap_err().contains("stays"));
    assert!(sql("INSERT INTO journal VALUES (2, 0, 'k', 'info', 's', 'm', '{}')").is_err());
    let left: Vec<i64> = store
        .read_blocking(|db| db.prepare("SELECT seq FROM journal")?.query_map([], |row| row.get(0))?.collect())
        .unwrap();
    assert_eq!(left, [4, 5]);
}

#[test]
fn a_closed_store_has_written_everything_and_takes_nothing_more() {
    let (folder, store) = with_notes();
    let release = hold(&store);
    for _ in 0..600 {
        drop(store.write(Durability::Relaxed, add("kept")));
    }
    drop(release);
    store.close_blocking(PATIENCE).unwrap();
    assert!(matches!(write(&store, |_| Ok(())), Err(WriteError::Closed)));
    assert!(matches!(store.read_blocking(|_| Ok(())), Err(ReadError::Closed)));
    assert!(!folder.path().join("arw.db-wal").exists(), "one tidy file is left");
    assert_eq!(notes(&open(folder.path())).len(), 600);
}

#[test]
fn closing_does_not_wait_for_ever() {
    let (_folder, store) = with_notes();
    let release = hold(&store);
    drop(store.write(Durability::Full, add("late")));
    let deadline = Duration::from_millis(30);
    assert_eq!(store.close_blocking(deadline), Err(CloseError { deadline, waiting: 1 }));
    drop(release);
    store.close_blocking(PATIENCE).unwrap();
}

#[test]
fn the_thread_ends_with_the_last_handle_and_gives_the_file_free() {
    let (folder, store) = with_notes();
    let shared = Arc::clone(&store.owner.shared);
    let clone = store.clone();
    drop(store);
    write(&clone, add("still here")).unwrap();
    drop(clone);
    assert!(shared.finished.wait(PATIENCE));
    assert_eq!(notes(&open(folder.path())), ["still here"]);
}

#[test]
fn a_read_that_crashes_gives_its_connection_back() {
    let folder = tempfile::tempdir().unwrap();
    let options = StoreOptions { readers_max: 1, ..StoreOptions::default() };
    let store = Store::open(&folder.path().join("arw.db"), options).unwrap();
    let crash =
        std::panic::AssertUnwindSafe(|| store.read_blocking(|_| -> rusqlite::Result<()> { panic!("boom") }));
    assert!(std::panic::catch_unwind(crash).is_err());
    store.read_blocking(|db| db.query_row("SELECT 1", [], |row| row.get::<_, i64>(0))).unwrap();
}

#[test]
fn a_reader_cannot_write() {
    let (_folder, store) = with_notes();
    assert!(store.read_blocking(|db| db.execute("DELETE FROM note", [])).is_err());
}

fn refusal(path: &Path) -> String {
    Store::open(path, StoreOptions::default()).map(drop).unwrap_err().to_string()
}

#[test]
fn what_cannot_be_opened_says_why_and_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    assert!(refusal(&at("missing/arw.db")).contains("cannot use the folder"));
    std::fs::write(at("plain"), "x").unwrap();
    assert!(refusal(&at("plain/arw.db")).contains("cannot use the folder"));
    std::fs::create_dir(at("folder.db")).unwrap();
    assert!(refusal(&at("folder.db")).contains("it is a folder"));
    std::fs::write(
        at("text.db"),
        "this is no database, only some words that are long enough to be read as a header ".repeat(20),
    )
    .unwrap();
    let text = refusal(&at("text.db"));
    assert!(text.contains("not an ARW database") && text.contains("move it away"), "{text}");

    let foreign = Connection::open(at("foreign.db")).unwrap();
    foreign.execute_batch("CREATE TABLE theirs (x)").unwrap();
    drop(foreign);
    assert!(refusal(&at("foreign.db")).contains("another program made it"));

    let store = Store::open(&at("newer.db"), StoreOptions::default()).unwrap();
    write(&store, |db| Ok(db.pragma_update(None, "user_version", 99)?)).unwrap();
    store.close_blocking(PATIENCE).unwrap();
    let newer = refusal(&at("newer.db"));
    assert!(newer.contains("schema 99") && newer.contains("knows up to 1"), "{newer}");
}

#[test]
fn a_second_store_on_the_same_file_is_refused() {
    let (folder, store) = with_notes();
    assert!(refusal(&folder.path().join("arw.db")).contains("in use by another process"));
    store.close_blocking(PATIENCE).unwrap();
    drop(open(folder.path()));
}

#[test]
fn a_database_that_someone_else_locks_is_refused_as_such() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("arw.db");
    let other = Connection::open(&path).unwrap();
    other.execute_batch("BEGIN EXCLUSIVE").unwrap();
    assert!(refusal(&path).contains("in use by another process"));
}

#[cfg(unix)]
#[test]
fn only_this_user_can_read_the_database() {
    use std::os::unix::fs::PermissionsExt;
    let (folder, _store) = with_notes();
    for name in ["arw.db", "arw.db-wal", "arw.db.lock"] {
        let mode = std::fs::metadata(folder.path().join(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
}

#[test]
fn what_was_acknowledged_survives_kill_nine() {
    const FOLDER: &str = "ARW_TEST_KILL_FOLDER";
    if let Ok(folder) = std::env::var(FOLDER) {
        // This is the child: it writes and reports what was acknowledged, until it is killed.
        let store = open(Path::new(&folder));
        write(&store, |db| Ok(db.execute_batch("CREATE TABLE note (id INTEGER PRIMARY KEY) STRICT")?))
            .unwrap();
        for id in 1..=100_000 {
            write(&store, move |db| Ok(db.execute("INSERT INTO note VALUES (?1)", [id])?)).unwrap();
            println!("\nacknowledged {id}");
        }
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "store::tests::what_was_acknowledged_survives_kill_nine", "--nocapture"])
        .env(FOLDER, folder.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    let mut acknowledged = 0;
    for line in lines {
        if let Some(id) = line.strip_prefix("acknowledged ") {
            acknowledged = id.parse().unwrap();
            if acknowledged == 20 {
                child.kill().unwrap();
            }
        }
    }
    child.wait().unwrap();
    assert!(acknowledged >= 20, "the child was killed at work: {acknowledged}");
    let store = open(folder.path());
    let (count, last): (i64, i64) = store
        .read_blocking(|db| {
            db.query_row("SELECT count(*), max(id) FROM note", [], |row| Ok((row.get(0)?, row.get(1)?)))
        })
        .unwrap();
    assert!(last >= acknowledged && count == last, "acknowledged {acknowledged}, found {count} up to {last}");
}
