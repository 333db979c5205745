//! SUP-2 with real actors: what an incarnation has left behind, and the one that follows it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use super::*;
use crate::life::{Backoff, ExitReason, RestartLimits};
use crate::mailbox::{Actor, Alive, AskError, Context, Fault, Handle, RefusedReason, Reply};
use crate::tree::ActorState;

/// Counts its incarnations, and notices another one beside itself.
struct Single(Arc<Census>);

#[derive(Default)]
struct Census {
    alive: AtomicU32,
    starts: AtomicU32,
    most_alive: AtomicU32,
}

enum SingleMessage {
    Ping(Reply<u32>),
    Crash,
    /// Leaves something alive that ends when it is taken out.
    Leave(Arc<Mutex<Option<Alive<SingleMessage>>>>),
    Block(std::sync::mpsc::Receiver<()>),
    SpawnBlocking(std::sync::mpsc::Receiver<()>, Reply<()>),
}
crate::message!(SingleMessage { Ping, Crash, Leave, Block, SpawnBlocking });

impl Actor for Single {
    type Message = SingleMessage;
    type Args = Arc<Census>;
    const KIND: &'static str = "single";

    async fn start(args: &Arc<Census>, _: &mut Context<SingleMessage>) -> Result<Self, Fault> {
        args.starts.fetch_add(1, Ordering::SeqCst);
        let alive = args.alive.fetch_add(1, Ordering::SeqCst) + 1;
        args.most_alive.fetch_max(alive, Ordering::SeqCst);
        Ok(Self(Arc::clone(args)))
    }

    async fn handle(
        &mut self,
        message: SingleMessage,
        context: &mut Context<SingleMessage>,
    ) -> Result<(), Fault> {
        match message {
            SingleMessage::Ping(reply) => drop(reply.send(self.0.starts.load(Ordering::SeqCst))),
            SingleMessage::Crash => return Err(Fault::new("boom")),
            SingleMessage::Leave(left) => *left.lock() = Some(context.outlive()),
            SingleMessage::Block(free) => free.recv()?,
            SingleMessage::SpawnBlocking(free, blocks) => drop(context.spawn(async move {
                blocks.send(());
                free.recv().unwrap();
                panic!("too late to matter");
            })),
        }
        Ok(())
    }
}

impl Drop for Single {
    fn drop(&mut self) {
        self.0.alive.fetch_sub(1, Ordering::SeqCst);
    }
}

const SECOND: Duration = Duration::from_secs(1);
/// For what takes no time unless the machine is overloaded.
const LONG: Duration = Duration::from_secs(60);

fn spec(id: &'static str, census: &Arc<Census>) -> ActorSpec<Single> {
    ActorSpec::new(id, Arc::clone(census))
}

async fn ping(handle: &Handle<SingleMessage>) -> Result<u32, AskError> {
    handle.ask(SingleMessage::Ping, SECOND).await
}

fn state(system: &ActorSystem, path: &str) -> ActorState {
    system.tree().get(path).unwrap().state()
}

async fn until(what: impl Fn() -> bool) {
    let deadline = Instant::now() + LONG;
    while !what() {
        assert!(Instant::now() < deadline, "it never comes to this");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn on_threads(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(4).enable_all().build().unwrap();
    runtime.block_on(test);
}

#[test]
fn an_actor_that_blocks_its_thread_is_never_started_beside_itself() {
    on_threads(async {
        let system = ActorSystem::new("node");
        let mut root = system.root();
        let census = Arc::new(Census::default());
        let stuck = root.actor(spec("stuck", &census));
        let root = system.start(root).await.unwrap();
        let (release, free) = std::sync::mpsc::sync_channel(0);
        stuck.try_tell(SingleMessage::Block(free)).unwrap();
        let record = system.tree().get("node/stuck").unwrap();
        until(|| record.in_flight_kind() == Some("Block")).await;
        let waiting = tokio::spawn({
            let stuck = stuck.clone();
            async move { stuck.ask(SingleMessage::Ping, LONG).await }
        });
        until(|| stuck.depth() == 2).await;
        assert!(root.kill("stuck", LONG).await);

        until(|| state(&system, "node/stuck") == ActorState::Quarantined).await;
        assert_eq!(ping(&stuck).await, Err(AskError::Refused(RefusedReason::Quarantined)));
        assert_eq!(waiting.await.unwrap(), Err(AskError::Stopped), "who waits is told when it is set aside");
        assert_eq!(census.starts.load(Ordering::SeqCst), 1);
        assert_eq!(record.last_exit().unwrap().reason, ExitReason::Killed);

        release.send(()).unwrap();
        until(|| state(&system, "node/stuck") == ActorState::Running).await;
        assert_eq!(ping(&stuck).await, Ok(2));
        assert_eq!(census.most_alive.load(Ordering::SeqCst), 1);
        assert_eq!(system.shutdown(LONG).await, Some(ExitReason::Stop));
    });
}

/// SUP-2: ractor tells the supervisor of a start from the actor's own task. A supervisor that is woken there
/// stands in the slot of that thread from which no other thread of tokio takes a task.
#[test]
fn an_actor_whose_first_message_blocks_its_thread_does_not_block_its_supervisor() {
    on_threads(async {
        let system = ActorSystem::new("node");
        let mut root = system.root();
        let census = Arc::new(Census::default());
        let stuck = root.actor(spec("stuck", &census));
        let (release, free) = std::sync::mpsc::sync_channel(0);
        stuck.try_tell(SingleMessage::Block(free)).unwrap();
        let root = system.start(root).await.unwrap();
        let record = system.tree().get("node/stuck").unwrap();
        until(|| record.in_flight_kind() == Some("Block")).await;
        let is_heard = root.stop("stuck", LONG).await;
        release.send(()).unwrap();
        assert!(is_heard, "its supervisor waits behind it");
        assert_eq!(system.shutdown(LONG).await, Some(ExitReason::Stop));
    });
}

#[test]
fn an_incarnation_begins_after_the_last_task_of_the_one_before_it_and_is_not_ended_by_it() {
    on_threads(async {
        let system = ActorSystem::new("node");
        let mut root = system.root().backoff(Backoff::NONE);
        let census = Arc::new(Census::default());
        let actor = root.actor(spec("a", &census));
        system.start(root).await.unwrap();
        let (release, free) = std::sync::mpsc::sync_channel(0);
        actor.ask(|blocks| SingleMessage::SpawnBlocking(free, blocks), LONG).await.unwrap();
        actor.try_tell(SingleMessage::Crash).unwrap();
        until(|| census.alive.load(Ordering::SeqCst) == 0).await;
        assert_eq!(ping(&actor).await, Err(AskError::Expired(SECOND)), "a task of the first one still runs");
        assert_eq!(census.starts.load(Ordering::SeqCst), 1);

        release.send(()).unwrap();
        assert_eq!(actor.ask(SingleMessage::Ping, LONG).await, Ok(2));
        let record = system.tree().get("node/a").unwrap();
        assert_eq!(record.last_exit().unwrap().reason.to_string(), "boom while handling Crash");
        assert_eq!(system.shutdown(LONG).await, Some(ExitReason::Stop));
        assert_eq!(census.starts.load(Ordering::SeqCst), 2);
    });
}

#[tokio::test(start_paused = true)]
async fn a_supervisor_that_is_started_again_waits_for_what_the_one_before_it_has_left() {
    let system = ActorSystem::new("node");
    let mut root = system.root().backoff(Backoff::NONE).limits(RestartLimits { max: 20, window: SECOND });
    let inner = root.supervisor("inner").limits(RestartLimits { max: 0, window: SECOND });
    let mut inner = inner.backoff(Backoff::NONE);
    let census = Arc::new(Census::default());
    let (stuck, other) = (inner.actor(spec("stuck", &census)), inner.actor(spec("other", &Arc::default())));
    let inner = root.nest(inner);
    system.start(root).await.unwrap();
    let added = inner.add(spec("added", &census), SECOND).await.unwrap();
    let (left, left_too) = (Arc::default(), Arc::default());
    stuck.try_tell(SingleMessage::Leave(Arc::clone(&left))).unwrap();
    added.try_tell(SingleMessage::Leave(Arc::clone(&left_too))).unwrap();
    ping(&stuck).await.unwrap();
    ping(&added).await.unwrap();

    other.try_tell(SingleMessage::Crash).unwrap();
    tokio::time::sleep(LONG).await;
    assert_eq!(
        census.starts.load(Ordering::SeqCst),
        2,
        "the end of the supervisor does not wait for what is stuck"
    );
    ping(&stuck).await.expect_err("nothing is started beside it");

    left.lock().take();
    tokio::time::sleep(SECOND * 10).await;
    assert_eq!(ping(&stuck).await, Ok(3));
    // Another actor with the same name, which knows nothing of the first.
    let again = inner.add(spec("added", &census), LONG).await.unwrap_err();
    assert_eq!(
        again.to_string(),
        "start failed: an earlier incarnation was killed and has not ended: it blocks its thread"
    );
    left_too.lock().take();
    let added = inner.add(spec("added", &census), LONG).await.unwrap();
    assert_eq!(ping(&added).await, Ok(4));
    assert_eq!(system.shutdown(LONG).await, Some(ExitReason::Stop));
}

/// What an actor has left is stuck, not the actor: how that ended is known, and shown.
#[tokio::test(start_paused = true)]
async fn an_actor_that_has_crashed_and_left_something_is_shown_as_crashed() {
    let system = ActorSystem::new("node");
    let mut root = system.root().backoff(Backoff::NONE);
    let census = Arc::new(Census::default());
    let actor = root.actor(spec("a", &census));
    system.start(root).await.unwrap();
    let left = Arc::default();
    actor.try_tell(SingleMessage::Leave(Arc::clone(&left))).unwrap();
    actor.try_tell(SingleMessage::Crash).unwrap();
    tokio::time::sleep(SECOND * 10).await;
    assert_eq!(state(&system, "node/a"), ActorState::Quarantined);
    let shown = system.tree().get("node/a").unwrap().last_exit().unwrap().reason;
    assert_eq!(shown.to_string(), "boom while handling Crash");
    left.lock().take();
    tokio::time::sleep(SECOND).await;
    assert_eq!(actor.ask(SingleMessage::Ping, LONG).await, Ok(2));
    assert_eq!(system.shutdown(LONG).await, Some(ExitReason::Stop));
}
