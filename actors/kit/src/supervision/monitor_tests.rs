//! Monitors of real actors: no end is missed, none is told twice.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use super::*;
use crate::life::{Backoff, RestartLimits};
use crate::mailbox::{Actor, Context, Down, Fault, Handle, MonitorGuard};

/// Stops when it is told to.
struct Watched;

enum WatchedMessage {
    Stop,
    Crash,
}
crate::message!(WatchedMessage { Stop, Crash });

impl Actor for Watched {
    type Message = WatchedMessage;
    type Args = ();
    const KIND: &'static str = "watched";

    async fn start((): &(), _: &mut Context<WatchedMessage>) -> Result<Self, Fault> {
        Ok(Self)
    }

    async fn handle(
        &mut self,
        message: WatchedMessage,
        context: &mut Context<WatchedMessage>,
    ) -> Result<(), Fault> {
        match message {
            WatchedMessage::Stop => context.stop(),
            WatchedMessage::Crash => return Err(Fault::new("boom")),
        }
        Ok(())
    }
}

const SECOND: Duration = Duration::from_secs(1);
const LONG: Duration = Duration::from_secs(60);

type Told = Arc<Mutex<Vec<String>>>;

fn told_to(told: &Told) -> impl Fn(&Down) + Send + Sync + 'static {
    let told = Arc::clone(told);
    move |down| {
        let what = if down.is_final { "over" } else { "down" };
        told.lock().push(format!("{what} {}", down.reason.word()));
    }
}

fn take(told: &Told) -> Vec<String> {
    std::mem::take(&mut *told.lock())
}

fn spec(id: impl Into<Arc<str>>) -> ActorSpec<Watched> {
    ActorSpec::new(id, ())
}

async fn one(spec: ActorSpec<Watched>) -> (ActorSystem, SupervisorHandle, Handle<WatchedMessage>) {
    let system = ActorSystem::new("node");
    let root = system.start(system.root().backoff(Backoff::NONE)).await.unwrap();
    let watched = root.add(spec, SECOND).await.unwrap();
    (system, root, watched)
}

#[test]
fn whoever_begins_to_watch_while_it_ends_is_told_of_the_end_exactly_once() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(4).enable_all().build().unwrap();
    runtime.block_on(async {
        let system = ActorSystem::new("node");
        let root = system.start(system.root()).await.unwrap();
        for round in 0..10_000_u32 {
            let watched = root.add(spec("w").restart(Restart::Temporary), LONG).await.unwrap();
            let (early, late) = (Told::default(), Told::default());
            let early_guard = watched.monitor(told_to(&early));
            let watcher = tokio::spawn({
                let (watched, late) = (watched.clone(), Arc::clone(&late));
                async move {
                    // So that it falls before, into and after the end.
                    for _ in 0..round % 64 {
                        std::hint::spin_loop();
                    }
                    watched.monitor(told_to(&late))
                }
            });
            watched.try_tell(WatchedMessage::Stop).unwrap();
            let late_guard = watcher.await.unwrap();
            let told = async {
                while system.tree().get("node/w").is_some() || late.lock().is_empty() {
                    tokio::task::yield_now().await;
                }
            };
            tokio::time::timeout(LONG, told).await.expect("both are told of the end");
            assert_eq!((take(&early), take(&late)), (vec!["over normal".into()], vec!["over normal".into()]));
            drop((early_guard, late_guard));
        }
        system.shutdown(LONG).await.unwrap();
    });
}

#[tokio::test(start_paused = true)]
async fn what_was_stopped_by_hand_is_not_over_until_it_is_forgotten() {
    let (system, root, watched) = one(spec("w")).await;
    let (early, late) = (Told::default(), Told::default());
    let _early = watched.monitor(told_to(&early));
    root.stop("w", SECOND).await;
    tokio::time::sleep(SECOND).await;
    let _late = watched.monitor(told_to(&late));
    assert_eq!((take(&early), take(&late)), (vec!["down stop".to_owned()], vec!["down stop".to_owned()]));
    root.start("w", SECOND).await;
    tokio::time::sleep(SECOND).await;
    watched.try_tell(WatchedMessage::Crash).unwrap();
    tokio::time::sleep(SECOND).await;
    root.stop("w", SECOND).await;
    tokio::time::sleep(SECOND).await;
    root.remove("w", SECOND).await;
    tokio::time::sleep(SECOND).await;
    let expected = ["down crash", "down stop", "over stop"];
    assert_eq!(
        (take(&early), take(&late)),
        (expected.map(String::from).to_vec(), expected.map(String::from).to_vec())
    );
    let after = Told::default();
    let _after = watched.monitor(told_to(&after));
    assert_eq!(take(&after), ["over stop"]);
    system.shutdown(SECOND).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_comes_back_with_its_supervisor_is_over_only_with_the_system() {
    let system = ActorSystem::new("node");
    let mut root = system.root().backoff(Backoff::NONE);
    let inner = root.supervisor("inner").limits(RestartLimits { max: 0, window: SECOND });
    let mut inner = inner.backoff(Backoff::NONE);
    let (fixed, other) = (inner.actor(spec("fixed")), inner.actor(spec("other")));
    let inner = root.nest(inner);
    system.start(root).await.unwrap();
    let added = inner.add(spec("added"), SECOND).await.unwrap();
    let (of_fixed, of_added) = (Told::default(), Told::default());
    let _guards = (fixed.monitor(told_to(&of_fixed)), added.monitor(told_to(&of_added)));
    other.try_tell(WatchedMessage::Crash).unwrap();
    tokio::time::sleep(SECOND).await;
    assert_eq!(take(&of_fixed), ["down stop"], "it was started again");
    assert_eq!(take(&of_added), ["down stop", "over stop"], "it is not kept");
    system.shutdown(SECOND).await.unwrap();
    tokio::time::sleep(SECOND).await;
    assert_eq!(take(&of_fixed), ["down stop", "over stop"]);
    assert_eq!(take(&of_added), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_callback_may_end_its_own_monitor_and_begin_another() {
    let (system, _, watched) = one(spec("w")).await;
    let guard = Arc::new(Mutex::new(None::<MonitorGuard>));
    let was_told = Arc::new(AtomicBool::new(false));
    let begun = watched.monitor({
        let (guard, was_told, watched) = (Arc::clone(&guard), Arc::clone(&was_told), watched.clone());
        move |_| {
            let own = guard.lock().take();
            drop(own);
            drop(watched.monitor(|_| {}));
            was_told.store(true, Ordering::SeqCst);
        }
    });
    *guard.lock() = Some(begun);
    watched.try_tell(WatchedMessage::Crash).unwrap();
    tokio::time::sleep(SECOND).await;
    assert!(was_told.load(Ordering::SeqCst));
    system.shutdown(SECOND).await.unwrap();
}
