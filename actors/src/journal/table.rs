//! The journal's SQL.
//!
//! Owns the rows of `journal` and the floor below which retention removes them. Refuses to know when that is
//! due.

use std::sync::Arc;

use arw_kit::moment::WallTime;
use rusqlite::{Connection, OptionalExtension, Row, named_params, params};

use super::event::{self, ACTOR_CRASHED, ACTOR_RESTARTED, CountedFailure, ENGINE_FAILED, Event};
use super::record::{Record, RestartRecord};

/// Restarts that are looked at when windows are rebuilt: far more than any budgets hold.
const RESTARTS_MAX: i64 = 10_000;

/// The first and last numbers.
pub(super) struct Bounds {
    pub(super) oldest: u64,
    pub(super) last: u64,
    /// The kind of the newest row.
    pub(super) last_kind: Option<String>,
}

pub(super) fn bounds(db: &Connection) -> rusqlite::Result<Bounds> {
    let floor: i64 = db.query_row("SELECT seq FROM journal_floor", [], |row| row.get(0))?;
    let first: Option<i64> = db.query_row("SELECT min(seq) FROM journal", [], |row| row.get(0))?;
    let newest = db
        .query_row("SELECT seq, kind FROM journal ORDER BY seq DESC LIMIT 1", [], |row| {
            Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?))
        })
        .optional()?;
    let (last, last_kind) = newest.map_or((floor - 1, None), |(seq, kind)| (seq, Some(kind)));
    Ok(Bounds { oldest: from_sql(first.unwrap_or(floor)), last: from_sql(last.max(floor - 1)), last_kind })
}

pub(super) fn insert(db: &Connection, records: &[Arc<Record>]) -> rusqlite::Result<()> {
    let mut statement = db.prepare_cached(
        "INSERT INTO journal (seq, at, kind, severity, subject, message, data) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
    )?;
    for record in records {
        let event = &record.event;
        statement.execute(params![
            to_sql(record.seq),
            record.at.as_millis(),
            event.kind(),
            event.severity().as_str(),
            event.subject(),
            event.message(),
            event.data().to_string(),
        ])?;
    }
    Ok(())
}

/// Events with `after < seq <= up_to`, oldest first.
pub(super) fn page(
    db: &Connection,
    after: u64,
    up_to: u64,
    limit: usize,
    kind: Option<&str>,
) -> rusqlite::Result<Vec<Arc<Record>>> {
    // Two statements, because one with `kind = ? OR ? IS NULL` would use no index.
    let by_kind = if kind.is_some() { "kind = :kind AND" } else { ":kind IS NULL AND" };
    let sql = format!(
        "SELECT seq, at, kind, severity, subject, message, data FROM journal
         WHERE {by_kind} seq > :after AND seq <= :up_to ORDER BY seq LIMIT :limit"
    );
    db.prepare_cached(&sql)?
        .query_map(
            named_params! {
                ":kind": kind,
                ":after": to_sql(after),
                ":up_to": to_sql(up_to),
                ":limit": i64::try_from(limit).unwrap_or(i64::MAX),
            },
            record,
        )?
        .collect()
}

fn record(row: &Row<'_>) -> rusqlite::Result<Arc<Record>> {
    let text = |column: usize| row.get_ref(column).and_then(|value| Ok(value.as_str()?));
    let event = Event::from_parts(text(2)?, text(3)?, text(4)?, text(5)?, text(6)?);
    Ok(Arc::new(Record::new(from_sql(row.get(0)?), WallTime::from_millis(row.get(1)?), event)))
}

/// Restarts at or after `since`, oldest first.
pub(super) fn restarts(db: &Connection, since: WallTime, up_to: u64) -> rusqlite::Result<Vec<RestartRecord>> {
    let mut found: Vec<RestartRecord> = db
        .prepare_cached(
            "SELECT seq, at, kind, severity, subject, message, data FROM journal
             WHERE kind IN (?1, ?2, ?3) AND seq <= ?4 AND at >= ?5 ORDER BY seq DESC LIMIT ?6",
        )?
        .query_map(
            params![
                ACTOR_CRASHED,
                ENGINE_FAILED,
                ACTOR_RESTARTED,
                to_sql(up_to),
                since.as_millis(),
                RESTARTS_MAX
            ],
            record,
        )?
        .filter_map(|row| row.map(|record| restart(&record, since)).transpose())
        .collect::<rusqlite::Result<_>>()?;
    found.reverse();
    Ok(found)
}

/// BUDGET-1: the failure that `record` tells of, when it counts and is one at or after `since`.
pub(super) fn restart(record: &Record, since: WallTime) -> Option<RestartRecord> {
    match &record.event {
        Event::Actor(event::Actor::Crashed {
            path, reason, budget: Some(CountedFailure { at, .. }), ..
        })
        | Event::Runtime(event::Runtime::EngineFailed {
            path,
            reason,
            budget: CountedFailure { at, .. },
            ..
        })
        | Event::Actor(event::Actor::Restarted { path, reason, at, down_ms: None, .. })
            if *at >= since =>
        {
            Some(RestartRecord { path: path.clone(), at: *at, reason: reason.clone() })
        }
        _ => None,
    }
}

/// What one step of retention did.
pub(super) struct Retired {
    pub(super) oldest: u64,
    pub(super) more: bool,
}

/// Removes at most `step` of the oldest rows: those before `cutoff`, and those that are more than `rows_max`.
pub(super) fn retire(
    db: &Connection,
    cutoff: WallTime,
    rows_max: u64,
    step: usize,
) -> rusqlite::Result<Retired> {
    let Bounds { oldest, last, .. } = bounds(db)?;
    let newest_surplus = last.saturating_sub(rows_max);
    let mut statement = db.prepare_cached("SELECT seq, at FROM journal ORDER BY seq LIMIT ?1")?;
    let mut rows = statement.query([i64::try_from(step).unwrap_or(i64::MAX)])?;
    let (mut floor, mut removed) = (None, 0);
    while let Some(row) = rows.next()? {
        let (seq, at) = (from_sql(row.get(0)?), WallTime::from_millis(row.get(1)?));
        if seq > newest_surplus && at >= cutoff {
            break;
        }
        removed += 1;
        floor = Some(seq + 1);
    }
    let Some(floor) = floor else { return Ok(Retired { oldest, more: false }) };
    // The trigger lets rows go only below the floor, which rises in the same transaction.
    db.prepare_cached("UPDATE journal_floor SET seq = ?1")?.execute([to_sql(floor)])?;
    db.prepare_cached("DELETE FROM journal WHERE seq < ?1")?.execute([to_sql(floor)])?;
    Ok(Retired { oldest: bounds(db)?.oldest, more: removed == step })
}

/// SQLite has no unsigned numbers. Both ways saturate: no journal reaches 2^63 events.
fn to_sql(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn from_sql(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}
