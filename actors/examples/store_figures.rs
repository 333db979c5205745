//! Figures of the store, the journal, the read models and the tokens on this machine.
//!
//! `cargo run --release -p arw-actors --example store_figures`

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arw_actors::journal::{Journal, JournalOptions, event};
use arw_actors::policy::{Scope, Tokens};
use arw_actors::projection::{ReadModel, Update};
use arw_actors::store::{Durability, Store, StoreOptions};
use arw_kit::clock::Clock;
use arw_kit::moment::{Moment, WallTime};
use serde_json::{Map, Value, json};

type Failure = Box<dyn std::error::Error>;

#[expect(clippy::print_stdout, reason = "an example that prints its figures")]
fn say(what: &str, figure: &str) {
    println!("{what:<66} {figure}");
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Failure> {
    let folder = tempfile::tempdir()?;
    let clock = Clock::system();
    let store = Store::open(&folder.path().join("arw.db"), StoreOptions::default())?;
    let journal = Journal::open(store.clone(), JournalOptions::default())?;
    append(&journal, &clock).await;
    commits(&store, &clock).await?;
    publish(&clock).await;
    let tokens = Tokens::open(store.clone(), journal)?;
    let (_, text) = tokens.create("figures", [Scope::Infer].into(), None, clock.wall()).await?;
    let per = nanos_each(&clock, 100_000, |_| assert!(tokens.verify(text.reveal(), clock.wall()).is_ok()));
    say("token check", &format!("{per} ns"));
    store.close(Duration::from_secs(10)).await?;
    Ok(())
}

fn nanos_each(clock: &Clock, count: u64, mut step: impl FnMut(u64)) -> u64 {
    let start = clock.now();
    (0..count).for_each(&mut step);
    nanos(clock.now(), start) / count
}

fn nanos(now: Moment, start: Moment) -> u64 {
    u64::try_from(now.since(start).as_nanos()).unwrap_or(u64::MAX)
}

fn restarted(number: u64) -> event::Actor {
    event::Actor::Restarted {
        path: format!("node/runtimes/runtime/r{}", number % 10),
        reason: "process_signal".into(),
        detail: "killed by SIGKILL (by another process, not by ARW)".into(),
        used: 1,
        max: 5,
        window_s: 300,
        at: WallTime::from_millis(0),
        down_ms: Some(7),
    }
}

async fn append(journal: &Journal, clock: &Clock) {
    let events: Vec<_> = (0..1_500).map(restarted).collect();
    let start = clock.now();
    for event in events {
        journal.append(event);
    }
    let burst = nanos(clock.now(), start) / 1_500;
    say("journal append, burst of 1,500 (caller's side)", &format!("{burst} ns"));
    let start = clock.now();
    journal.flush(Duration::from_secs(20)).await;
    say("  until all of them are on the disk", &format!("{} us", nanos(clock.now(), start) / 1_000));
    let mut each = Vec::new();
    for number in 0..300 {
        let event = restarted(number);
        let start = clock.now();
        journal.append(event);
        each.push(nanos(clock.now(), start));
        journal.flush(Duration::from_secs(20)).await;
    }
    each.sort_unstable();
    say(
        "journal append, one at a time, writer asleep: p50 / p99",
        &format!("{} / {} ns", each[150], each[297]),
    );
}

async fn commits(store: &Store, clock: &Clock) -> Result<(), Failure> {
    store
        .write(Durability::Full, |db| {
            Ok(db.execute_batch("CREATE TABLE row (id INTEGER PRIMARY KEY, text TEXT) STRICT")?)
        })
        .await?;
    let insert = |db: &rusqlite::Connection| {
        let text = "x".repeat(100);
        Ok(db.prepare_cached("INSERT INTO row (text) VALUES (?1)")?.execute([text])?)
    };
    let start = clock.now();
    for _ in 0..200 {
        store.write(Durability::Full, insert).await?;
    }
    say("durable commits, one after the other", &per_second(clock, start, 200));
    for writers in [32, 256, 2_048] {
        let done = Arc::new(AtomicU64::new(0));
        let start = clock.now();
        let rows = 20_000_u64;
        let tasks = (0..writers).map(|_| {
            let (store, done) = (store.clone(), Arc::clone(&done));
            async move {
                while done.fetch_add(1, Ordering::Relaxed) < rows {
                    let _ = store.write(Durability::Full, insert).await;
                }
            }
        });
        futures_util::future::join_all(tasks).await;
        say(&format!("durable rows, {writers} writers"), &per_second(clock, start, rows));
    }
    let start = clock.now();
    for _ in 0..10 {
        let receipts: Vec<_> = (0..2_000).map(|_| store.write(Durability::Relaxed, insert)).collect();
        futures_util::future::join_all(receipts).await;
    }
    say("relaxed rows", &per_second(clock, start, 20_000));
    Ok(())
}

fn per_second(clock: &Clock, start: Moment, count: u64) -> String {
    format!("{} /s", count.saturating_mul(1_000_000_000) / nanos(clock.now(), start).max(1))
}

fn body(changed: u64) -> Map<String, Value> {
    let rows: Vec<Value> = (0..34_u64)
        .map(|row| {
            let depth = if row == 7 { changed } else { 0 };
            json!({
                "path": format!("node/runtimes/runtime/model-{row}"), "kind": "runtime", "state": "running",
                "since": "2026-11-24T15:35:19.120Z", "mailbox": {"depth": depth, "bound": 1024}, "handled": depth * 3,
                "busy_ms": 12, "in_flight": {"message": "Probe", "age_ms": 3},
                "restarts": {"used": 1, "max": 5, "window_s": 300, "resets_at": "2026-11-24T15:40:19.120Z"},
                "last_exit": {"reason": "process_signal", "detail": "killed by SIGKILL (by another process, not by ARW)",
                    "at": "2026-11-24T15:35:19.120Z"},
                "children": []
            })
        })
        .collect();
    Map::from_iter([("root".to_owned(), Value::from(rows))])
}

async fn publish(clock: &Clock) {
    let model = ReadModel::new("actors", 1, *clock, body(0));
    let mut reader = model.subscribe(None);
    reader.next().await;
    let bodies: Vec<_> = (1..=300).map(body).collect();
    let same = body(300);
    let start = clock.now();
    for fields in bodies {
        model.publish(fields);
    }
    let each = nanos(clock.now(), start) / 300;
    let size = model.current().body.len();
    say(&format!("publish, {size} byte body, two values changed"), &format!("{} us", each / 1_000));
    let start = clock.now();
    model.publish(same);
    say("publish, nothing changed", &format!("{} us", nanos(clock.now(), start) / 1_000));
    while !matches!(reader.next().await, Update::Patch { .. } | Update::Snapshot { .. }) {}
    let mut patched = 0;
    let per = nanos_each(clock, 300, |number| {
        model.publish(body(number + 1_000));
        if let Some(Update::Patch { patch, .. }) = futures_util::FutureExt::now_or_never(reader.next()) {
            patched = patch.len();
        }
    });
    say(
        &format!("make the body, publish, hand a {patched} byte patch to a reader"),
        &format!("{} us", per / 1_000),
    );
    let per = nanos_each(clock, 1_000_000, |_| drop(model.current()));
    say("read the current snapshot", &format!("{per} ns"));
}
