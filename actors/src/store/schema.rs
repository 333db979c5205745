//! The tables, and how a connection is set up.
//!
//! Owns the migrations, their order (`user_version`), and the pragmas. Refuses to know who reads and writes
//! the tables.

use std::path::Path;
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags};

use super::error::OpenError;

/// Each entry moves the schema up by one and is never changed once released: add a new one at the end.
pub(super) const MIGRATIONS: &[&str] = &[JOURNAL_AND_TOKENS];

/// Marks a file as ours ("ARW1"), so that another program's database is refused instead of being altered.
const APPLICATION_ID: i32 = 0x4152_5731;

/// How long one connection waits for another's lock. Only a foreign program can hold one for longer than a
/// moment.
const BUSY_TIMEOUT: Duration = Duration::from_millis(500);

/// The journal is append-only. Rows leave only at the old end, below a floor that retention raises in the
/// same transaction; `INSERT OR REPLACE` would delete without firing the delete trigger, so a taken number is
/// refused as well.
const JOURNAL_AND_TOKENS: &str = "
CREATE TABLE journal (
  seq INTEGER PRIMARY KEY,
  at INTEGER NOT NULL,
  kind TEXT NOT NULL,
  severity TEXT NOT NULL,
  subject TEXT NOT NULL,
  message TEXT NOT NULL,
  data TEXT NOT NULL
) STRICT;
CREATE INDEX journal_by_kind ON journal (kind, seq);

CREATE TABLE journal_floor (one INTEGER PRIMARY KEY CHECK (one = 1), seq INTEGER NOT NULL) STRICT;
INSERT INTO journal_floor (one, seq) VALUES (1, 1);

CREATE TRIGGER journal_is_never_changed BEFORE UPDATE ON journal
BEGIN SELECT RAISE(ABORT, 'journal rows are never changed'); END;
CREATE TRIGGER journal_keeps_its_rows BEFORE DELETE ON journal
WHEN OLD.seq >= (SELECT seq FROM journal_floor)
BEGIN SELECT RAISE(ABORT, 'journal rows leave only by retention'); END;
CREATE TRIGGER journal_only_grows BEFORE INSERT ON journal
WHEN NEW.seq <= coalesce((SELECT max(seq) FROM journal), 0) OR NEW.seq < (SELECT seq FROM journal_floor)
BEGIN SELECT RAISE(ABORT, 'journal rows are only added at the end'); END;
CREATE TRIGGER journal_floor_only_rises BEFORE UPDATE ON journal_floor WHEN NEW.seq < OLD.seq OR NEW.one <> OLD.one
BEGIN SELECT RAISE(ABORT, 'the journal floor only rises'); END;
CREATE TRIGGER journal_floor_stays BEFORE DELETE ON journal_floor
BEGIN SELECT RAISE(ABORT, 'the journal floor stays'); END;

CREATE TABLE token (
  id TEXT PRIMARY KEY,
  name TEXT NOT NULL,
  scopes TEXT NOT NULL,
  hash BLOB NOT NULL,
  created_at INTEGER NOT NULL,
  expires_at INTEGER,
  last_used_at INTEGER,
  revoked_at INTEGER
) STRICT;

CREATE TABLE store_probe (one INTEGER PRIMARY KEY CHECK (one = 1), filler BLOB NOT NULL) STRICT;
";

/// Opens the writing connection and brings the schema up to date.
pub(super) fn open_writer(path: &Path) -> Result<Connection, OpenError> {
    let flags =
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection = Connection::open_with_flags(path, flags).map_err(|e| explain(path, &e))?;
    set_up_writer(&connection).map_err(|e| explain(path, &e))?;
    check_owner(&connection, path)?;
    migrate(&mut connection, path)?;
    Ok(connection)
}

/// Opens a connection that can only read.
pub(super) fn open_reader(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.pragma_update(None, "query_only", true)?;
    connection.pragma_update(None, "cache_size", -READER_CACHE_KIB)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false)?;
    Ok(connection)
}

/// Page caches are small because a node should idle at 40 MB and its tables are.
const WRITER_CACHE_KIB: i64 = 1024;
const READER_CACHE_KIB: i64 = 256;
/// A burst may grow the log file; a checkpoint cuts it back to this.
const LOG_FILE_BYTES_MAX: i64 = 4 * 1024 * 1024;

fn set_up_writer(connection: &Connection) -> rusqlite::Result<()> {
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.pragma_update_and_check(None, "journal_mode", "wal", |_| Ok(()))?;
    connection.pragma_update(None, "synchronous", "full")?;
    connection.pragma_update(None, "foreign_keys", true)?;
    connection.pragma_update(None, "cache_size", -WRITER_CACHE_KIB)?;
    connection.pragma_update_and_check(None, "journal_size_limit", LOG_FILE_BYTES_MAX, |_| Ok(()))?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false)?;
    Ok(())
}

fn check_owner(connection: &Connection, path: &Path) -> Result<(), OpenError> {
    let read =
        |sql: &str| connection.query_row(sql, [], |row| row.get::<_, i64>(0)).map_err(|e| explain(path, &e));
    let owner = read("PRAGMA application_id")?;
    if owner == i64::from(APPLICATION_ID) {
        return Ok(());
    }
    if owner == 0 && read("SELECT count(*) FROM sqlite_schema")? == 0 {
        return Ok(());
    }
    Err(OpenError::NotADatabase { path: path.to_owned(), reason: "another program made it".to_owned() })
}

fn migrate(connection: &mut Connection, path: &Path) -> Result<(), OpenError> {
    let known = u32::try_from(MIGRATIONS.len()).unwrap_or(u32::MAX);
    let found = schema_of(connection).map_err(|e| explain(path, &e))?;
    if found > known {
        return Err(OpenError::NewerSchema { path: path.to_owned(), found, known });
    }
    for (step, sql) in (1_u32..).zip(MIGRATIONS).filter(|(step, _)| *step > found) {
        apply(connection, step, sql).map_err(|e| explain(path, &e))?;
    }
    Ok(())
}

fn schema_of(connection: &Connection) -> rusqlite::Result<u32> {
    connection.query_row("PRAGMA user_version", [], |row| row.get(0))
}

/// One migration is one transaction: a program that is killed in the middle finds the old schema again.
fn apply(connection: &mut Connection, step: u32, sql: &str) -> rusqlite::Result<()> {
    let transaction = connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
    transaction.execute_batch(sql)?;
    transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
    transaction.pragma_update(None, "user_version", step)?;
    transaction.commit()
}

/// Turns SQLite's words at opening into ours.
fn explain(path: &Path, error: &rusqlite::Error) -> OpenError {
    let path = path.to_owned();
    let reason = error.to_string();
    match error.sqlite_error_code() {
        Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => {
            OpenError::NotADatabase { path, reason }
        }
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => OpenError::Locked { path },
        Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied | ErrorCode::CannotOpen) => {
            OpenError::NotWritable { path, reason }
        }
        Some(ErrorCode::DiskFull) => OpenError::DiskFull { path },
        _ => OpenError::Other { path, reason },
    }
}
