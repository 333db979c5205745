use std::collections::BTreeSet;
use std::path::Path;

use super::*;
use crate::store::{Durability, Fault, StoreOptions};

const PATIENCE: Duration = Duration::from_secs(20);
const NOW: WallTime = WallTime::from_millis(1_700_000_000_000);

fn open_store(folder: &Path) -> Store {
    Store::open(&folder.join("arw.db"), StoreOptions::default()).unwrap()
}

fn open_at(folder: &Path, wall: WallTime, retention: Retention) -> (Store, Journal) {
    let store = open_store(folder);
    let options = JournalOptions { retention, clock: Clock::starting_at(wall) };
    (store.clone(), Journal::open(store, options).unwrap())
}

fn open(folder: &Path) -> (Store, Journal) {
    open_at(folder, NOW, Retention::default())
}

fn removed(number: u64) -> Event {
    Event::Runtime(event::Runtime::Removed { id: format!("r{number}") })
}

fn restarted(path: &str, millis: i64) -> Event {
    Event::Actor(event::Actor::Restarted {
        path: path.to_owned(),
        reason: "crash".into(),
        detail: "boom".into(),
        used: 1,
        max: 5,
        window_s: 300,
        at: WallTime::from_millis(millis),
        down_ms: None,
    })
}

fn counted(millis: i64) -> CountedFailure {
    CountedFailure { used: 1, max: 5, window_s: 300, at: WallTime::from_millis(millis) }
}

fn crashed(path: &str, budget: Option<CountedFailure>) -> Event {
    Event::Actor(event::Actor::Crashed {
        path: path.to_owned(),
        reason: "crash".into(),
        detail: "boom".into(),
        handling: None,
        budget,
    })
}

/// BUDGET-1.
#[test]
fn budgets_are_rebuilt_from_failures_and_from_what_earlier_versions_wrote() {
    let folder = tempfile::tempdir().unwrap();
    let (_store, journal) = open(folder.path());
    let failed = |path: &str, millis| {
        Event::Runtime(event::Runtime::EngineFailed {
            id: "x".into(),
            path: path.to_owned(),
            reason: "process_exit".into(),
            detail: "code 1".into(),
            budget: counted(millis),
        })
    };
    let mut again = restarted("node/a", 4);
    if let Event::Actor(event::Actor::Restarted { down_ms, .. }) = &mut again {
        *down_ms = Some(100);
    }
    journal.append(restarted("node/old", 1));
    journal.append(failed("node/runtimes/x/engine", 2));
    journal.append(crashed("node/a", Some(counted(3))));
    journal.append(again.clone());
    journal.append(crashed("node/b", None));
    let found = journal.restarts_since_blocking(WallTime::from_millis(0)).unwrap();
    let found: Vec<_> = found.iter().map(|it| (it.path.as_str(), it.at.as_millis())).collect();
    assert_eq!(found, [("node/old", 1), ("node/runtimes/x/engine", 2), ("node/a", 3)]);
    assert_eq!(
        again.message(),
        "node/a was restarted 100 ms after crash (boom). 1 of 5 restarts within 5 min are used."
    );
    assert_eq!(
        failed("node/runtimes/x/engine", 2).message(),
        "node/runtimes/x/engine ended: process exit (code 1). 1 of 5 restarts within 5 min are used."
    );
    let old = r#"{"path":"a","reason":"crash","detail":"boom","handling":null}"#;
    let read = Event::from_parts("actor_crashed", "warning", "a", "", old);
    assert_eq!(read, crashed("a", None));
}

fn numbers(page: &Page) -> Vec<u64> {
    page.events.iter().map(|record| record.seq).collect()
}

fn all(journal: &Journal) -> Vec<Arc<Record>> {
    let (mut after, mut found) = (0, Vec::new());
    loop {
        let page = journal.replay_blocking(Some(after), PAGE_MAX, None).unwrap();
        if page.events.is_empty() {
            return found;
        }
        after = page.next;
        found.extend(page.events);
    }
}

async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("it comes in time")
}

fn one_of_each_about_actors() -> Vec<Event> {
    let text = || "text".to_owned();
    let some = || Some("hint".to_owned());
    let at = Some(NOW);
    vec![
        Event::Node(event::Node::Started {
            id: text(),
            name: text(),
            incarnation: 2,
            version: text(),
            pid: 1,
            clean: false,
        }),
        Event::Node(event::Node::Stopping { reason: text() }),
        Event::Actor(event::Actor::Crashed {
            path: text(),
            reason: text(),
            detail: text(),
            handling: some(),
            budget: None,
        }),
        Event::Runtime(event::Runtime::EngineFailed {
            id: text(),
            path: text(),
            reason: text(),
            detail: text(),
            budget: counted(7),
        }),
        restarted("node/a", 7),
        Event::Actor(event::Actor::Quarantined {
            path: text(),
            reason: text(),
            detail: text(),
            used: 5,
            max: 5,
            window_s: 60,
            retry_at: at,
        }),
        Event::Actor(event::Actor::Stuck { path: text() }),
        Event::Actor(event::Actor::Recovered { path: text() }),
        Event::Actor(event::Actor::Escalated {
            path: text(),
            to: text(),
            reason: text(),
            detail: text(),
            used: 5,
            max: 5,
            window_s: 60,
        }),
        Event::Actor(event::Actor::DeadLetters { path: text(), reason: text(), count: 3 }),
    ]
}

fn one_of_each_other() -> Vec<Event> {
    let text = || "text".to_owned();
    let some = || Some("hint".to_owned());
    vec![
        Event::Runtime(event::Runtime::Added { id: text(), adapter: text(), model: some() }),
        Event::Runtime(event::Runtime::Removed { id: text() }),
        Event::Runtime(event::Runtime::StateChanged {
            id: text(),
            from: text(),
            to: "backoff".into(),
            reason: some(),
            hint: None,
        }),
        Event::Runtime(event::Runtime::Exited {
            id: text(),
            pid: Some(7),
            cause: "killed".into(),
            detail: text(),
            hint: some(),
            restarts_used: 1,
            restarts_max: 5,
            in_flight: 2,
            log_tail: vec![text(), text()],
        }),
        Event::Runtime(event::Runtime::Quarantined {
            id: text(),
            reason: text(),
            hint: some(),
            used: 5,
            max: 5,
            window_s: 60,
            retry_at: None,
        }),
        Event::Runtime(event::Runtime::Recovered { id: text(), down_ms: 120 }),
        Event::Runtime(event::Runtime::OrphanEnded { id: text(), pid: 9 }),
        Event::Runtime(event::Runtime::OrphanLeft { detail: text() }),
        Event::Model(event::Model::Imported { name: text(), sha256: text(), size_bytes: 5 }),
        Event::Model(event::Model::Removed { name: text(), sha256: text() }),
        Event::Control(event::Control::Called {
            by: Caller::Token { id: text(), name: text() },
            call: text(),
            subject: text(),
            answered: true,
        }),
        Event::Token(event::Token::Created {
            id: text(),
            name: text(),
            scopes: vec![text()],
            expires_at: Some(NOW),
        }),
        Event::Token(event::Token::Revoked { id: text(), name: text() }),
        Event::Journal(event::Journal::Degraded { reason: text() }),
        Event::Journal(event::Journal::Recovered { lost: 1, degraded_ms: 5 }),
    ]
}

fn a_node() -> ClusterNode {
    ClusterNode {
        id: "0f".repeat(32),
        name: Some("box2".into()),
        incarnation: 3,
        address: Some("10.0.0.2:7400".into()),
        reason: Some("it did not answer.".into()),
        away_ms: Some(7_000),
    }
}

fn one_of_each_about_the_cluster() -> Vec<Event> {
    vec![
        Event::Cluster(event::Cluster::Warning { reason: "a copy of this node runs".into() }),
        Event::Cluster(event::Cluster::WarningOver {}),
        Event::Cluster(event::Cluster::NodeCopied(ClusterNode {
            id: "0f".repeat(32),
            name: Some("box".into()),
            incarnation: 3,
            address: Some("10.0.0.2:8091".into()),
            reason: Some("another start of it came from 10.0.0.3:8091".into()),
            away_ms: None,
        })),
        Event::Cluster(event::Cluster::Entered { cluster: "c1".into(), roles: vec!["worker".into()] }),
        Event::Cluster(event::Cluster::Exited { cluster: "c1".into(), nodes: 2 }),
        Event::Cluster(event::Cluster::NodeJoined(a_node())),
        Event::Cluster(event::Cluster::NodeRestarted(a_node())),
        Event::Cluster(event::Cluster::NodeDown(a_node())),
        Event::Cluster(event::Cluster::NodeReturned(a_node())),
        Event::Cluster(event::Cluster::NodeLeft(a_node())),
        Event::Cluster(event::Cluster::NodeRemoved(a_node())),
        Event::Cluster(event::Cluster::NodeForgotten(a_node())),
    ]
}

/// CLUSTER-3.
#[test]
fn what_happens_to_a_node_is_told_with_its_name_and_why() {
    let down = Event::Cluster(event::Cluster::NodeDown(a_node()));
    assert_eq!(
        down.message(),
        "Node box2 (0f0f0f0f) is down: it did not answer. It is taken back as soon as it is heard of again."
    );
    assert_eq!(down.subject(), "0f".repeat(32));
    let nameless = Event::Cluster(event::Cluster::NodeJoined(ClusterNode { name: None, ..a_node() }));
    assert_eq!(nameless.message(), "Node 0f0f0f0f is in the cluster, at 10.0.0.2:7400.");
    let returned = Event::Cluster(event::Cluster::NodeReturned(a_node()));
    assert_eq!(returned.message(), "Node box2 (0f0f0f0f) is back after 7 s; nothing of it is lost.");
    let alone = Event::Cluster(event::Cluster::Exited { cluster: "c1".into(), nodes: 1 });
    assert_eq!(alone.message(), "This node is no longer in the cluster c1: 1 other node is forgotten.");
}

/// HTTP-26.
#[test]
fn a_call_is_told_with_who_called_and_for_what() {
    let laptop = || Caller::Token { id: "1a2b3c4d".into(), name: "laptop".into() };
    let call = |by, call: &str, subject: &str, answered| {
        Event::Control(event::Control::Called { by, call: call.into(), subject: subject.into(), answered })
            .message()
    };
    assert_eq!(
        call(laptop(), "POST /runtimes/r1/stop", "r1", true),
        "Called by the token laptop (1a2b3c4d): POST /runtimes/r1/stop."
    );
    assert_eq!(
        call(laptop(), "POST /runtimes", "r1", true),
        "Called by the token laptop (1a2b3c4d): POST /runtimes for r1."
    );
    let home = Caller::Node { id: "0f".repeat(32) };
    assert_eq!(
        call(home, "POST /cluster/drain", "node", false),
        "Called by the node 0f0f0f0f: POST /cluster/drain; the caller did not wait for the answer, so see what else happened."
    );
    let by = Caller::Node { id: "0f".repeat(32) };
    let drained = Event::Control(event::Control::Called {
        by,
        call: "x".into(),
        subject: "node".into(),
        answered: true,
    });
    let read = Event::from_parts(drained.kind(), "info", "node", "", &drained.data().to_string());
    assert_eq!(read, drained);
    let event = Event::Control(event::Control::Called {
        by: laptop(),
        call: "x".into(),
        subject: "é".repeat(4_000),
        answered: true,
    });
    assert!(event.bounded().subject().len() < 2_010);
}

#[test]
fn every_event_comes_back_as_it_was_with_the_next_number() {
    let folder = tempfile::tempdir().unwrap();
    let (_store, journal) = open(folder.path());
    let events = [one_of_each_about_actors(), one_of_each_other(), one_of_each_about_the_cluster()].concat();
    for event in &events {
        journal.append(event.clone());
    }
    let found = all(&journal);
    assert_eq!(found.iter().map(|record| record.event.clone()).collect::<Vec<_>>(), events);
    assert!(found.iter().map(|record| record.seq).eq(1..=events.len() as u64));
    assert!(found.iter().all(|record| record.at >= NOW));
    let kinds: BTreeSet<&str> = events.iter().map(Event::kind).collect();
    assert_eq!(kinds.len(), events.len(), "every kind has its own word");
    assert_eq!(kinds, Event::kinds().into_iter().collect(), "there is one of each");
    for event in &events {
        assert_eq!(serde_json::to_value(event).unwrap()["kind"], event.kind());
        let message = event.message();
        assert!(message.ends_with('.') && !message.contains("..") && message.len() > 10, "{message}");
    }
}

#[test]
fn messages_say_what_why_and_what_next() {
    let exited = Event::Runtime(event::Runtime::Exited {
        id: "smollm2".into(),
        pid: Some(4242),
        cause: "killed".into(),
        detail: "killed by SIGKILL (by another process, not by ARW)".into(),
        hint: Some("look for the out-of-memory killer in the system log.".into()),
        restarts_used: 1,
        restarts_max: 5,
        in_flight: 0,
        log_tail: vec![],
    });
    assert_eq!(
        exited.message(),
        "The program of smollm2 (process 4242) ended: killed by SIGKILL (by another process, not by ARW). \
         1 of 5 restarts are used. What to do: look for the out-of-memory killer in the system log."
    );
    assert_eq!(
        restarted("node/gateway", 0).message(),
        "node/gateway was restarted after crash (boom). 1 of 5 restarts within 5 min are used."
    );
    let recovered = Event::Journal(event::Journal::Recovered { lost: 0, degraded_ms: 90_000 });
    assert_eq!(recovered.message(), "Events are written again after 90 s; none is missing.");
}

#[test]
fn pages_go_on_where_the_last_one_ended() {
    let folder = tempfile::tempdir().unwrap();
    let (_store, journal) = open(folder.path());
    for number in 1..=5 {
        journal.append(removed(number));
    }
    journal.append(restarted("node/a", 0));
    let first = journal.replay_blocking(None, 4, None).unwrap();
    assert_eq!((numbers(&first), first.next, first.oldest), (vec![1, 2, 3, 4], 4, 1));
    let second = journal.replay_blocking(Some(first.next), 4, None).unwrap();
    assert_eq!((numbers(&second), second.next), (vec![5, 6], 6));
    let third = journal.replay_blocking(Some(second.next), 4, None).unwrap();
    assert_eq!((numbers(&third), third.next), (vec![], 6));
    let restarts = journal.replay_blocking(None, 4, Some("actor_restarted")).unwrap();
    assert_eq!((numbers(&restarts), restarts.next), (vec![6], 6));
    let none = journal.replay_blocking(None, 4, Some("no_such_kind")).unwrap();
    assert_eq!((numbers(&none), none.next), (vec![], 6), "a poller does not look at the same rows again");
}

#[test]
fn numbers_and_restarts_go_on_after_a_restart_of_the_node() {
    let folder = tempfile::tempdir().unwrap();
    let (store, journal) = open(folder.path());
    assert!(journal.last_stop_was_clean(), "there was none before");
    journal.append(restarted("node/a", 1_000));
    journal.append(restarted("node/b", 3_000));
    let last = journal.append(restarted("node/a", 4_000));
    store.close_blocking(PATIENCE).unwrap();
    drop((store, journal));

    let (store, journal) = open(folder.path());
    assert!(!journal.last_stop_was_clean());
    assert_eq!((journal.last_seq(), journal.oldest_seq()), (last, 1));
    journal.append(restarted("node/c", 5_000));
    let found = journal.restarts_since_blocking(WallTime::from_millis(3_000)).unwrap();
    let found: Vec<_> = found.iter().map(|restart| (restart.path.as_str(), restart.at.as_millis())).collect();
    assert_eq!(found, [("node/b", 3_000), ("node/a", 4_000), ("node/c", 5_000)]);
    assert_eq!(journal.append(Event::Node(event::Node::Stopping { reason: "asked to".into() })), last + 2);
    store.close_blocking(PATIENCE).unwrap();
    drop((store, journal));
    assert!(open(folder.path()).1.last_stop_was_clean());
}

#[test]
fn everything_appended_before_the_store_closes_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let (store, journal) = open(folder.path());
    for number in 0..3_000 {
        journal.append(removed(number));
        if number % 100 == 0 {
            journal.shared.settle(PATIENCE);
        }
    }
    store.close_blocking(PATIENCE).unwrap();
    let after_the_end = journal.append(removed(0));
    assert_eq!(after_the_end, 3_001, "appending to a closed journal is harmless");
    drop((store, journal));
    assert_eq!(all(&open(folder.path()).1).len(), 3_000);
}

#[test]
fn a_row_of_a_newer_program_can_be_read() {
    let folder = tempfile::tempdir().unwrap();
    let (store, journal) = open(folder.path());
    let sql = r#"INSERT INTO journal VALUES
        (1, 5, 'warp_engaged', 'critical', 'warp', 'Engaged the warp.', '{"factor": 9}'),
        (2, 6, 'runtime_removed', 'info', 'x', 'Removed x.', '{"id": "x", "added_later": true}'),
        (3, 7, 'runtime_removed', 'info', 'x', 'Removed.', 'not json')"#;
    store.write_blocking(Durability::Full, PATIENCE, move |db| Ok(db.execute_batch(sql)?)).unwrap();
    store.close_blocking(PATIENCE).unwrap();
    drop((store, journal));
    let (_store, journal) = open(folder.path());
    let found = all(&journal);
    let strange = &found[0].event;
    assert_eq!(
        (strange.kind(), strange.subject(), strange.severity()),
        ("warp_engaged", "warp", Severity::Warning)
    );
    assert_eq!((strange.message(), strange.data()["factor"].as_u64()), ("Engaged the warp.".into(), Some(9)));
    assert_eq!(found[1].event, Event::Runtime(event::Runtime::Removed { id: "x".into() }));
    assert!(matches!(&found[2].event, Event::Unknown { kind, .. } if kind == "runtime_removed"));
}

#[test]
fn long_texts_are_cut_so_that_waiting_events_stay_small() {
    let crash = Event::Runtime(event::Runtime::Exited {
        id: "x".into(),
        pid: None,
        cause: "crashed".into(),
        detail: "ü".repeat(5_000),
        hint: None,
        restarts_used: 0,
        restarts_max: 0,
        in_flight: 0,
        log_tail: (0..100).map(|line| format!("{line} {}", "y".repeat(1_000))).collect(),
    });
    let Event::Runtime(event::Runtime::Exited { detail, log_tail, .. }) = crash.bounded() else {
        panic!("same kind")
    };
    assert!(detail.len() < 2_010 && detail.ends_with('…'));
    assert_eq!(log_tail.len(), 20);
    assert!(
        log_tail[19].starts_with("99 ") && log_tail[19].len() < 410,
        "the last lines are the ones that tell"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subscription_replays_and_goes_live_without_a_hole_or_a_double() {
    const PER_THREAD: u64 = 1_500;
    let folder = tempfile::tempdir().unwrap();
    let (_store, journal) = open(folder.path());
    for number in 0..700 {
        journal.append(removed(number));
    }
    let threads: Vec<_> = (0..3)
        .map(|_| {
            let journal = journal.clone();
            std::thread::spawn(move || {
                for number in 0..PER_THREAD {
                    journal.append(removed(number));
                    if number % 200 == 0 {
                        journal.shared.settle(PATIENCE);
                    }
                }
            })
        })
        .collect();
    let last = 700 + 3 * PER_THREAD;
    let (mut from_start, mut from_middle) = (journal.subscribe(Some(0)), journal.subscribe(Some(300)));
    for (subscription, first) in [(&mut from_start, 1), (&mut from_middle, 301)] {
        for expected in first..=last {
            match soon(subscription.next()).await.unwrap() {
                JournalItem::Event(record) => assert_eq!(record.seq, expected),
                gap @ JournalItem::Gap { .. } => panic!("{gap:?} at {expected}"),
            }
        }
    }
    for thread in threads {
        thread.join().unwrap();
    }
    assert_eq!(journal.status().lost, 0);
    let mut live = journal.subscribe(None);
    journal.append(restarted("node/a", 1));
    let JournalItem::Event(record) = soon(live.next()).await.unwrap() else { panic!("no gap") };
    assert_eq!((record.seq, record.event.kind()), (last + 1, "actor_restarted"));
}

async fn until_degraded(journal: &Journal, wanted: bool) {
    let mut health = journal.shared.store.health();
    soon(health.wait_for(|health| health.is_ok() != wanted)).await.unwrap();
    // The store tells its watchers one after the other; the journal is the next.
    soon(async {
        while journal.status().degraded.is_some() != wanted {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn an_outage_of_the_disk_loses_nothing_that_memory_can_hold() {
    let folder = tempfile::tempdir().unwrap();
    let (store, journal) = open(folder.path());
    journal.append(removed(1));
    assert!(journal.flush(PATIENCE).await);
    let mut live = journal.subscribe(Some(0));
    store.inject(Fault::ReadOnly);
    journal.append(removed(2));
    until_degraded(&journal, true).await;
    journal.append(removed(3));
    assert!(journal.status().degraded.unwrap().contains("read-only"));
    assert!(!journal.flush(PATIENCE).await, "and it says so at once");
    let kinds = |found: Vec<Arc<Record>>| found.iter().map(|r| r.event.kind().to_owned()).collect::<Vec<_>>();
    let during = kinds(all(&journal));
    assert_eq!(during, ["runtime_removed", "runtime_removed", "journal_degraded", "runtime_removed"]);
    for expected in 1..=4 {
        let JournalItem::Event(record) = soon(live.next()).await.unwrap() else { panic!("no gap") };
        assert_eq!(record.seq, expected, "live readers go on during the outage");
    }
    store.inject(Fault::None);
    until_degraded(&journal, false).await;
    assert!(journal.flush(PATIENCE).await);
    assert_eq!(kinds(all(&journal)).last().unwrap(), "journal_recovered");
    let JournalItem::Event(record) = soon(live.next()).await.unwrap() else { panic!("no gap") };
    assert_eq!(record.event.kind(), "journal_recovered");
    assert_eq!(journal.status(), JournalStatus { degraded: None, last_seq: 5, lost: 0 });
    let stored: u64 = store
        .read_blocking(|db| db.query_row("SELECT count(*) FROM journal", [], |r| r.get::<_, i64>(0)))
        .unwrap()
        .unsigned_abs();
    assert_eq!(stored, 5);
}

#[tokio::test]
async fn a_long_outage_keeps_the_newest_and_tells_readers_what_is_gone() {
    let folder = tempfile::tempdir().unwrap();
    let (store, journal) = open(folder.path());
    store.inject(Fault::ReadOnly);
    journal.append(removed(0));
    until_degraded(&journal, true).await;
    for number in 0..3_000 {
        journal.append(removed(number));
    }
    let lost = journal.status().lost;
    assert_eq!(lost, 3_002 - tail::WAITING_MAX as u64);
    let mut late = journal.subscribe(Some(0));
    assert_eq!(soon(late.next()).await.unwrap(), JournalItem::Gap { from: 1, to: lost });
    store.inject(Fault::None);
    until_degraded(&journal, false).await;
    assert!(journal.flush(PATIENCE).await);
    let last = all(&journal).pop().unwrap();
    assert!(
        matches!(last.event, Event::Journal(event::Journal::Recovered { lost: counted, .. }) if counted >= lost),
        "{last:?}"
    );
}

#[tokio::test]
async fn retention_removes_the_old_in_steps_and_readers_are_told() {
    let folder = tempfile::tempdir().unwrap();
    let (store, journal) = open(folder.path());
    for number in 0..1_500 {
        journal.append(removed(number));
    }
    store.close_blocking(PATIENCE).unwrap();
    drop((store, journal));
    // A month later; 20 new events come.
    let month = Duration::from_secs(31 * 24 * 3600);
    let (store, journal) = open_at(folder.path(), NOW + month, Retention::default());
    for number in 0..20 {
        journal.append(removed(number));
    }
    assert!(journal.flush(PATIENCE).await);
    soon(async {
        while journal.oldest_seq() < 1_501 {
            // Retention runs on the store's thread; each round trip gives it a turn.
            journal.enforce_retention();
            store.write(Durability::Relaxed, |_| Ok(())).await.unwrap();
        }
    })
    .await;
    assert_eq!(journal.oldest_seq(), 1_501);
    let page = journal.replay(None, 1_000, None).await.unwrap();
    assert_eq!((page.events.len(), page.oldest, page.events[0].seq), (20, 1_501, 1_501));
    let reopened = store.read_blocking(table::bounds).unwrap();
    assert_eq!((reopened.oldest, reopened.last), (1_501, 1_520));
    let mut reader = journal.subscribe(Some(10));
    assert_eq!(soon(reader.next()).await.unwrap(), JournalItem::Gap { from: 11, to: 1_500 });
    assert!(matches!(soon(reader.next()).await.unwrap(), JournalItem::Event(record) if record.seq == 1_501));
}

#[tokio::test]
async fn retention_keeps_at_most_so_many_rows_and_the_numbers_go_on() {
    let folder = tempfile::tempdir().unwrap();
    let retention = Retention { max_rows: 1, ..Retention::default() };
    let (store, journal) = open_at(folder.path(), NOW, retention);
    for number in 0..4_000 {
        journal.append(removed(number));
        if number % 500 == 499 {
            assert!(journal.flush(PATIENCE).await);
        }
    }
    soon(async {
        while journal.oldest_seq() < 4_000 - MIN_ROWS + 1 {
            journal.enforce_retention();
            store.write(Durability::Relaxed, |_| Ok(())).await.unwrap();
        }
    })
    .await;
    assert_eq!(all(&journal).len() as u64, MIN_ROWS);
    assert_eq!(journal.last_seq(), 4_000);
}

#[test]
fn an_event_that_can_never_be_written_does_not_keep_the_others_back() {
    let folder = tempfile::tempdir().unwrap();
    let (store, journal) = open(folder.path());
    let stray = "INSERT INTO journal VALUES (1, 0, 'stray', 'info', 's', 'm.', '{}')";
    store.write_blocking(Durability::Full, PATIENCE, move |db| Ok(db.execute_batch(stray)?)).unwrap();
    journal.append(removed(1));
    journal.shared.settle(PATIENCE);
    assert_eq!(journal.status().lost, 1);
    journal.append(removed(2));
    assert_eq!(all(&journal).last().unwrap().event, removed(2));
}
