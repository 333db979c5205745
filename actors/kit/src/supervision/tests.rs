//! Supervisors with real actors, on paused time.

mod interleavings;

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::*;
use crate::clock::Clock;
use crate::life::{Backoff, ExitReason, RestartLimits};
use crate::mailbox::{Actor, AskError, Context, DeadLetterReason, Fault, Handle, RefusedReason, Reply};
use crate::tree::{ActorRow, ActorState};

/// An actor that does what it is told, and keeps a diary of its life.
struct Puppet {
    name: &'static str,
    diary: Diary,
    kept: Vec<Reply<()>>,
}

type Diary = Arc<Mutex<Vec<String>>>;

#[derive(Clone)]
struct PuppetArgs {
    name: &'static str,
    diary: Diary,
    /// Starts that fail before one succeeds.
    failing_starts: Arc<Mutex<u32>>,
}

enum PuppetMessage {
    Ping(Reply<&'static str>),
    Panic,
    PanicHolding(Reply<()>),
    Forget(Reply<()>),
    FaultHolding(Reply<()>, bool),
    Keep(Reply<()>),
    Sleep(Duration),
    Stop,
    Note(u32),
    SpawnPanic,
    Tick,
    StartTicks(Duration),
    Watch(Handle<PuppetMessage>),
    SawDown(Down),
}
crate::message!(PuppetMessage {
    Ping,
    Panic,
    PanicHolding,
    Forget,
    FaultHolding,
    Keep,
    Sleep,
    Stop,
    Note,
    SpawnPanic,
    Tick,
    StartTicks,
    Watch,
    SawDown
});
use crate::mailbox::Down;

impl Actor for Puppet {
    type Message = PuppetMessage;
    type Args = PuppetArgs;
    const KIND: &'static str = "puppet";

    async fn start(args: &PuppetArgs, _: &mut Context<PuppetMessage>) -> Result<Self, Fault> {
        let mut left = args.failing_starts.lock();
        if *left > 0 {
            *left -= 1;
            return Err(Fault::new("not yet"));
        }
        args.diary.lock().push(format!("{} up", args.name));
        Ok(Self { name: args.name, diary: Arc::clone(&args.diary), kept: Vec::new() })
    }

    async fn handle(
        &mut self,
        message: PuppetMessage,
        context: &mut Context<PuppetMessage>,
    ) -> Result<(), Fault> {
        match message {
            PuppetMessage::Ping(reply) => drop(reply.send(self.name)),
            PuppetMessage::Panic => panic!("boom"),
            PuppetMessage::PanicHolding(_reply) => panic!("boom"),
            PuppetMessage::Forget(reply) => drop(reply),
            PuppetMessage::FaultHolding(reply, drops_first) => {
                if drops_first {
                    drop(reply);
                }
                return Err(Fault::new("no good"));
            }
            PuppetMessage::Keep(reply) => self.kept.push(reply),
            PuppetMessage::Sleep(time) => tokio::time::sleep(time).await,
            PuppetMessage::Stop => context.stop(),
            PuppetMessage::Note(n) => self.diary.lock().push(format!("{} note {n}", self.name)),
            PuppetMessage::SpawnPanic => drop(context.spawn(async { panic!("beside") })),
            PuppetMessage::Tick => self.diary.lock().push(format!("{} tick", self.name)),
            PuppetMessage::StartTicks(period) => drop(context.every(period, || PuppetMessage::Tick)),
            PuppetMessage::Watch(other) => context.monitor(&other, PuppetMessage::SawDown),
            PuppetMessage::SawDown(down) => {
                self.diary.lock().push(format!(
                    "{} saw {} {} {}",
                    self.name,
                    down.path,
                    down.reason.word(),
                    if down.is_final { "for good" } else { "for now" }
                ));
            }
        }
        Ok(())
    }

    async fn stopping(&mut self, _: &mut Context<PuppetMessage>) {
        self.diary.lock().push(format!("{} stopping", self.name));
    }
}

impl Drop for Puppet {
    fn drop(&mut self) {
        self.diary.lock().push(format!("{} down", self.name));
    }
}

struct Stage {
    system: ActorSystem,
    root: SupervisorSpec,
    diary: Diary,
}

const SECOND: Duration = Duration::from_secs(1);

impl Stage {
    fn new(strategy: Strategy) -> Self {
        let system = ActorSystem::new("node");
        let root = system.root().strategy(strategy).backoff(Backoff::NONE);
        Self { system, root, diary: Diary::default() }
    }

    fn args(&self, name: &'static str) -> PuppetArgs {
        PuppetArgs { name, diary: Arc::clone(&self.diary), failing_starts: Arc::default() }
    }

    fn spec(&self, name: &'static str) -> ActorSpec<Puppet> {
        ActorSpec::new(name, self.args(name))
    }

    fn add(&mut self, name: &'static str) -> Handle<PuppetMessage> {
        let spec = self.spec(name);
        self.root.actor(spec)
    }

    async fn start(self) -> (ActorSystem, SupervisorHandle, Diary) {
        let root = self.system.start(self.root).await.unwrap();
        (self.system, root, self.diary)
    }
}

async fn ping(handle: &Handle<PuppetMessage>) -> Result<&'static str, AskError> {
    handle.ask(PuppetMessage::Ping, SECOND).await
}

fn row(system: &ActorSystem, path: &str) -> ActorRow {
    fn find<'a>(rows: &'a [ActorRow], path: &str) -> Option<&'a ActorRow> {
        rows.iter().find_map(
            |row| {
                if row.path.as_str() == path { Some(row) } else { find(&row.children, path) }
            },
        )
    }
    find(&system.tree().rows(), path).unwrap().clone()
}

fn take(diary: &Diary) -> Vec<String> {
    std::mem::take(&mut *diary.lock())
}

async fn crash_b_under(strategy: Strategy) -> Vec<String> {
    let mut stage = Stage::new(strategy);
    let handles = ["a", "b", "c"].map(|name| stage.add(name));
    let (system, _, diary) = stage.start().await;
    take(&diary);
    handles[1].try_tell(PuppetMessage::Panic).unwrap();
    for handle in &handles {
        ping(handle).await.unwrap();
    }
    let seen = take(&diary);
    let crashed = row(&system, "node/b");
    assert_eq!(crashed.last_exit.unwrap().reason.to_string(), "boom while handling Panic");
    assert_eq!(crashed.restarts.unwrap().used, 1);
    system.shutdown(SECOND).await.unwrap();
    seen
}

#[tokio::test(start_paused = true)]
async fn a_panic_under_one_for_one_restarts_only_the_one() {
    assert_eq!(crash_b_under(Strategy::OneForOne).await, ["b down", "b up"]);
}

#[tokio::test(start_paused = true)]
async fn a_panic_under_one_for_all_restarts_all_in_order() {
    let seen = crash_b_under(Strategy::OneForAll).await;
    assert_eq!(seen, ["b down", "c stopping", "c down", "a stopping", "a down", "a up", "b up", "c up"]);
}

#[tokio::test(start_paused = true)]
async fn a_panic_under_rest_for_one_restarts_what_was_started_later() {
    let seen = crash_b_under(Strategy::RestForOne).await;
    assert_eq!(seen, ["b down", "c stopping", "c down", "b up", "c up"]);
}

#[tokio::test(start_paused = true)]
async fn children_start_in_order_and_stop_in_reverse() {
    let mut stage = Stage::new(Strategy::OneForOne);
    for name in ["a", "b", "c"] {
        stage.add(name);
    }
    let mut inner = stage.root.supervisor("inner");
    inner.actor(stage.spec("d"));
    inner.actor(stage.spec("e"));
    stage.root.nest(inner);
    stage.add("f");
    let (system, _, diary) = stage.start().await;
    assert_eq!(take(&diary), ["a up", "b up", "c up", "d up", "e up", "f up"]);
    assert_eq!(system.shutdown(SECOND).await, Some(ExitReason::Stop));
    let order: Vec<_> = take(&diary).into_iter().filter(|line| line.ends_with("down")).collect();
    assert_eq!(order, ["f down", "e down", "d down", "c down", "b down", "a down"]);
}

#[tokio::test(start_paused = true)]
async fn queued_messages_survive_a_restart_in_order_and_the_one_in_hand_fails_its_asker() {
    let mut stage = Stage::new(Strategy::OneForOne);
    let a = stage.add("a");
    let (system, _, diary) = stage.start().await;
    a.try_tell(PuppetMessage::Note(1)).unwrap();
    let asker = tokio::spawn({
        let a = a.clone();
        async move { a.ask(PuppetMessage::PanicHolding, SECOND).await }
    });
    tokio::task::yield_now().await;
    for n in 2..400 {
        a.try_tell(PuppetMessage::Note(n)).unwrap();
    }
    assert_eq!(asker.await.unwrap(), Err(AskError::Crashed));
    ping(&a).await.unwrap();
    let notes: Vec<_> = take(&diary).into_iter().filter(|line| line.contains("note")).collect();
    let expected: Vec<_> = (1..400).map(|n| format!("a note {n}")).collect();
    assert_eq!(notes, expected);
    system.shutdown(SECOND).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_full_mailbox_refuses_at_once_and_lets_a_patient_sender_wait() {
    let mut stage = Stage::new(Strategy::OneForOne);
    let spec = stage.spec("a").mailbox(3);
    let a = stage.root.actor(spec);
    let (system, _, diary) = stage.start().await;
    a.try_tell(PuppetMessage::Sleep(SECOND * 10)).unwrap();
    tokio::task::yield_now().await;
    while a.try_tell(PuppetMessage::Note(0)).is_ok() {}
    assert_eq!(a.depth(), 3);
    let refused = a.try_tell(PuppetMessage::Note(1)).unwrap_err();
    assert_eq!(refused.reason, RefusedReason::Overloaded);
    let refused = a.tell(PuppetMessage::Note(2), SECOND).await.unwrap_err();
    assert_eq!(refused.reason, RefusedReason::Overloaded);
    a.tell(PuppetMessage::Note(3), SECOND * 20).await.unwrap();
    ping(&a).await.unwrap();
    assert!(take(&diary).contains(&"a note 3".to_owned()));
    assert_eq!(system.dead_letters().counts().overloaded, 3);
    assert_eq!(system.dead_letters().newest()[0].message, "Note");
    system.shutdown(SECOND).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_ask_past_its_deadline_fails_then_and_its_message_is_not_handled_for_nobody() {
    let mut stage = Stage::new(Strategy::OneForOne);
    let a = stage.add("a");
    let (system, _, _) = stage.start().await;
    a.try_tell(PuppetMessage::Sleep(SECOND * 3)).unwrap();
    let began = tokio::time::Instant::now();
    assert_eq!(ping(&a).await, Err(AskError::Expired(SECOND)));
    let took = began.elapsed();
    assert!(took >= SECOND && took < SECOND + Duration::from_millis(20), "{took:?}");
    assert_eq!(system.dead_letters().counts().total(), 0, "it may still be begun");
    let handled = row(&system, "node/a").handled;
    a.ask(PuppetMessage::Ping, SECOND * 5).await.unwrap();
    assert_eq!(row(&system, "node/a").handled, handled + 2, "the sleep and the second ping only");
    assert_eq!(system.dead_letters().newest()[0].reason, DeadLetterReason::Expired);
    system.shutdown(SECOND).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_forgets_its_reply_fails_the_asker_at_once() {
    let mut stage = Stage::new(Strategy::OneForOne);
    let a = stage.add("a");
    let (system, _, _) = stage.start().await;
    assert_eq!(a.ask(PuppetMessage::Forget, SECOND).await, Err(AskError::NoReply));
    system.shutdown(SECOND).await.unwrap();
    assert_eq!(ping(&a).await, Err(AskError::Refused(RefusedReason::Stopped)));
}

fn asking(
    handle: &Handle<PuppetMessage>,
    message: impl FnOnce(Reply<()>) -> PuppetMessage + Send + 'static,
) -> tokio::task::JoinHandle<Result<(), AskError>> {
    let handle = handle.clone();
    tokio::spawn(async move { handle.ask(message, SECOND * 60).await })
}

#[tokio::test(start_paused = true)]
async fn whatever_an_actor_holds_when_it_crashes_fails_its_asker_as_crashed() {
    let mut stage = Stage::new(Strategy::OneForOne);
    stage.root = stage.root.limits(RestartLimits { max: 100, window: SECOND });
    let a = stage.add("a");
    let (system, root, _) = stage.start().await;
    for drops_first in [true, false] {
        let kept = asking(&a, PuppetMessage::Keep);
        let forgotten = asking(&a, PuppetMessage::Forget);
        let fault = asking(&a, move |reply| PuppetMessage::FaultHolding(reply, drops_first));
        let after = asking(&a, PuppetMessage::Forget);
        assert_eq!(forgotten.await.unwrap(), Err(AskError::NoReply));
        assert_eq!(fault.await.unwrap(), Err(AskError::Crashed), "a fault is a crash");
        assert_eq!(kept.await.unwrap(), Err(AskError::Crashed), "it was in the actor's state");
        assert_eq!(after.await.unwrap(), Err(AskError::NoReply), "the next incarnation forgot it");
    }
    let kept = asking(&a, PuppetMessage::Keep);
    let panics = asking(&a, PuppetMessage::PanicHolding);
    assert_eq!(
        (kept.await.unwrap(), panics.await.unwrap()),
        (Err(AskError::Crashed), Err(AskError::Crashed))
    );

    let kept = asking(&a, PuppetMessage::Keep);
    ping(&a).await.unwrap();
    a.try_tell(PuppetMessage::Sleep(SECOND * 60)).unwrap();
    tokio::task::yield_now().await;
    assert!(root.kill("a", SECOND).await);
    assert_eq!(kept.await.unwrap(), Err(AskError::Stopped), "a kill is no crash");
    system.shutdown(SECOND).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_message_that_was_begun_is_no_dead_letter_however_late_its_answer() {
    let mut stage = Stage::new(Strategy::OneForOne);
    let a = stage.add("a");
    let (system, _, _) = stage.start().await;
    assert_eq!(a.ask(PuppetMessage::Keep, SECOND).await, Err(AskError::Expired(SECOND)));
    ping(&a).await.unwrap();
    assert_eq!(system.dead_letters().counts().total(), 0, "the actor has it");
    system.shutdown(SECOND).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn children_that_are_stopped_together_take_as_long_as_the_slowest_of_them() {
    let mut stage = Stage::new(Strategy::OneForOne);
    let mut inner = stage.root.supervisor("inner").stop_order(StopOrder::Together);
    let handles: Vec<_> =
        (0..20).map(|n| inner.actor(ActorSpec::<Puppet>::new(format!("p{n}"), stage.args("p")))).collect();
    stage.root.nest(inner);
    let (system, _, diary) = stage.start().await;
    for handle in &handles {
        handle.try_tell(PuppetMessage::Sleep(SECOND * 3)).unwrap();
    }
    tokio::task::yield_now().await;
    let began = tokio::time::Instant::now();
    assert_eq!(system.shutdown(SECOND * 60).await, Some(ExitReason::Stop));
    assert!(began.elapsed() <= SECOND * 4, "{:?}", began.elapsed());
    assert_eq!(take(&diary).iter().filter(|line| *line == "p stopping").count(), 20, "none was killed");
}

#[tokio::test(start_paused = true)]
async fn a_stuck_handler_is_visible_by_age() {
    let mut stage = Stage::new(Strategy::OneForOne);
    let a = stage.add("a");
    let (system, _, _) = stage.start().await;
    a.try_tell(PuppetMessage::Sleep(SECOND * 60)).unwrap();
    a.try_tell(PuppetMessage::Note(1)).unwrap();
    tokio::time::sleep(SECOND * 7).await;
    let seen = row(&system, "node/a");
    let in_flight = seen.in_flight.unwrap();
    assert_eq!(in_flight.message, "Sleep");
    assert!(in_flight.age >= SECOND * 7 && in_flight.age < SECOND * 8, "{:?}", in_flight.age);
    assert_eq!(seen.mailbox.unwrap().depth, 2);
    system.shutdown(SECOND * 10).await.unwrap();
}

#[test]
fn a_handler_that_blocks_its_thread_is_visible_by_age() {
    struct Blocker;
    enum Block {
        Until(std::sync::mpsc::Receiver<()>),
    }
    crate::message!(Block { Until });
    impl Actor for Blocker {
        type Message = Block;
        type Args = ();
        const KIND: &'static str = "blocker";
        async fn start((): &(), _: &mut Context<Block>) -> Result<Self, Fault> {
            Ok(Self)
        }
        async fn handle(&mut self, Block::Until(free): Block, _: &mut Context<Block>) -> Result<(), Fault> {
            free.recv().map_err(Fault::from)
        }
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let system = ActorSystem::new("node");
        let mut root = system.root();
        let blocker = root.actor(ActorSpec::<Blocker>::new("blocker", ()));
        system.start(root).await.unwrap();
        let (release, free) = std::sync::mpsc::sync_channel(0);
        blocker.try_tell(Block::Until(free)).unwrap();
        // Whether it has begun is a matter of scheduling; the tree is asked until it shows.
        let deadline = tokio::time::Instant::now() + SECOND * 20;
        loop {
            system.tree().watch_for_stuck_handlers();
            let age = row(&system, "node/blocker").in_flight.map_or(Duration::ZERO, |it| it.age);
            if age >= Duration::from_millis(50) {
                break;
            }
            assert!(tokio::time::Instant::now() < deadline, "never seen");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        release.send(()).unwrap();
        assert_eq!(system.shutdown(SECOND * 10).await, Some(ExitReason::Stop));
    });
}

#[tokio::test(start_paused = true)]
async fn a_child_that_does_not_stop_in_time_is_killed() {
    let mut stage = Stage::new(Strategy::OneForOne);
    let spec = stage.spec("a").shutdown(Shutdown::Grace(SECOND));
    let a = stage.root.actor(spec);
    let (system, _, diary) = stage.start().await;
    a.try_tell(PuppetMessage::Sleep(SECOND * 3600)).unwrap();
    tokio::time::sleep(SECOND).await;
    assert_eq!(system.shutdown(SECOND * 3).await, Some(ExitReason::Stop));
    assert_eq!(row(&system, "node/a").last_exit.unwrap().reason, ExitReason::Killed);
    assert_eq!(take(&diary), ["a up", "a down"]);
}

#[tokio::test(start_paused = true)]
async fn a_killed_actor_is_restarted_and_keeps_its_queue() {
    let mut stage = Stage::new(Strategy::OneForOne);
    let a = stage.add("a");
    let (system, root, diary) = stage.start().await;
    a.try_tell(PuppetMessage::Sleep(SECOND * 3600)).unwrap();
    a.try_tell(PuppetMessage::Note(7)).unwrap();
    tokio::time::sleep(SECOND).await;
    assert!(root.kill("a", SECOND).await);
    ping(&a).await.unwrap();
    assert!(take(&diary).ends_with(&["a down".to_owned(), "a up".to_owned(), "a note 7".to_owned()]));
    assert_eq!(row(&system, "node/a").last_exit.unwrap().reason, ExitReason::Killed);
    system.shutdown(SECOND).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn transient_children_are_restarted_after_a_crash_only_and_temporary_ones_never() {
    let mut stage = Stage::new(Strategy::OneForOne);
    let (t, x) = (stage.spec("t").restart(Restart::Transient), stage.spec("x").restart(Restart::Temporary));
    let (t, x) = (stage.root.actor(t), stage.root.actor(x));
    let (system, _, _) = stage.start().await;
    t.try_tell(PuppetMessage::Panic).unwrap();
    ping(&t).await.unwrap();
    t.try_tell(PuppetMessage::Stop).unwrap();
    x.try_tell(PuppetMessage::Panic).unwrap();
    tokio::time::sleep(SECOND).await;
    assert_eq!(ping(&t).await, Err(AskError::Refused(RefusedReason::Stopped)));
    assert_eq!(row(&system, "node/t").state, ActorState::Stopped);
    assert!(system.tree().get("node/x").is_none(), "a temporary child is forgotten");
    system.shutdown(SECOND).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_significant_child_that_ends_by_itself_shuts_its_supervisor_down() {
    let mut stage = Stage::new(Strategy::OneForOne);
    stage.add("a");
    let job = stage.spec("job").restart(Restart::Transient).significant();
    stage.root = stage.root.auto_shutdown(AutoShutdown::AnySignificant);
    let job = stage.root.actor(job);
    let (system, _, diary) = stage.start().await;
    job.try_tell(PuppetMessage::Stop).unwrap();
    assert_eq!(system.ended().await, ExitReason::Normal);
    assert_eq!(take(&diary), ["a up", "job up", "job stopping", "job down", "a stopping", "a down"]);
}

#[tokio::test(start_paused = true)]
async fn a_used_up_budget_escalates_to_the_supervisor_above() {
    let mut stage = Stage::new(Strategy::OneForOne);
    let mut inner = stage.root.supervisor("inner").backoff(Backoff::NONE);
    let a = inner.actor(stage.spec("a"));
    let b = inner.actor(stage.spec("b"));
    stage.root.nest(inner);
    let (system, _, diary) = stage.start().await;
    for _ in 0..3 {
        a.try_tell(PuppetMessage::Panic).unwrap();
        ping(&a).await.unwrap();
    }
    take(&diary);
    a.try_tell(PuppetMessage::Panic).unwrap();
    tokio::time::sleep(SECOND).await;
    ping(&b).await.unwrap();
    assert_eq!(take(&diary), ["a down", "b stopping", "b down", "a up", "b up"]);
    let inner = row(&system, "node/inner");
    assert_eq!(
        inner.last_exit.unwrap().reason.to_string(),
        "gave up on node/inner/a: boom while handling Panic"
    );
    assert_eq!(inner.restarts.unwrap().used, 1);
    assert_eq!(row(&system, "node/inner/a").restarts.unwrap().used, 0, "a new incarnation, a new budget");
    system.shutdown(SECOND).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn the_root_gives_up_when_its_own_budget_is_used_up() {
    let mut stage = Stage::new(Strategy::OneForOne);
    stage.root = stage.root.limits(RestartLimits { max: 0, window: SECOND });
    let a = stage.add("a");
    let (system, _, _) = stage.start().await;
    a.try_tell(PuppetMessage::Panic).unwrap();
    let reason = system.ended().await;
    assert_eq!(reason.word(), "escalated");
    assert_eq!(ping(&a).await, Err(AskError::Refused(RefusedReason::Stopped)));
    assert_eq!(row(&system, "node/a").state, ActorState::Failed);
}

#[tokio::test(start_paused = true)]
async fn a_failing_first_start_fails_the_system_and_stops_what_had_started() {
    let mut stage = Stage::new(Strategy::OneForOne);
    stage.add("a");
    let args = stage.args("b");
    *args.failing_starts.lock() = 1;
    stage.root.actor(ActorSpec::<Puppet>::new("b", args));
    let error = stage.system.start(stage.root).await.unwrap_err();
    assert_eq!(error.to_string(), "start failed: b: start failed: not yet");
    assert_eq!(take(&stage.diary), ["a up", "a stopping", "a down"]);
}

#[tokio::test(start_paused = true)]
async fn a_failing_restart_counts_and_is_tried_again_with_a_growing_wait() {
    let mut stage = Stage::new(Strategy::OneForOne);
    stage.root = stage.root.backoff(Backoff::default());
    let args = stage.args("a");
    let failing = Arc::clone(&args.failing_starts);
    let a = stage.root.actor(ActorSpec::<Puppet>::new("a", args));
    let (system, _, _) = stage.start().await;
    *failing.lock() = 2;
    let began = tokio::time::Instant::now();
    a.try_tell(PuppetMessage::Panic).unwrap();
    ping(&a).await.unwrap();
    let took = began.elapsed();
    assert!(took >= Duration::from_millis(240) && took <= Duration::from_millis(400), "{took:?}");
    assert_eq!(row(&system, "node/a").restarts.unwrap().used, 3);
    system.shutdown(SECOND).await.unwrap();
}

fn quarantine() -> OnExhausted {
    OnExhausted::Quarantine(Quarantine {
        first: SECOND * 30,
        max: SECOND * 100,
        probation: SECOND * 10,
        limits: RestartLimits { max: 2, window: SECOND * 60 },
    })
}

#[tokio::test(start_paused = true)]
async fn a_leaf_past_its_budget_is_quarantined_alone_and_a_trial_brings_it_back() {
    let mut stage = Stage::new(Strategy::OneForOne);
    let other = stage.add("other");
    let leaf = stage.spec("leaf").on_exhausted(quarantine());
    let leaf = stage.root.actor(leaf);
    let (system, _, _) = stage.start().await;
    for _ in 0..3 {
        leaf.tell(PuppetMessage::Panic, SECOND).await.unwrap();
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(row(&system, "node/leaf").state, ActorState::Quarantined);
    assert_eq!(ping(&leaf).await, Err(AskError::Refused(RefusedReason::Quarantined)));
    assert_eq!(ping(&other).await, Ok("other"));
    tokio::time::sleep(SECOND * 31).await;
    ping(&leaf).await.unwrap();
    // The trial fails: back at once, for twice as long.
    leaf.try_tell(PuppetMessage::Panic).unwrap();
    tokio::time::sleep(SECOND * 50).await;
    assert_eq!(row(&system, "node/leaf").state, ActorState::Quarantined);
    tokio::time::sleep(SECOND * 11).await;
    ping(&leaf).await.unwrap();
    tokio::time::sleep(SECOND * 11).await;
    assert_eq!(row(&system, "node/leaf").restarts.unwrap().used, 0, "it has proved itself");
    system.shutdown(SECOND).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn timers_die_with_their_actor() {
    let mut stage = Stage::new(Strategy::OneForOne);
    let a = stage.add("a");
    let (system, _, diary) = stage.start().await;
    a.try_tell(PuppetMessage::StartTicks(SECOND)).unwrap();
    tokio::time::sleep(Duration::from_millis(2500)).await;
    assert_eq!(take(&diary).iter().filter(|line| *line == "a tick").count(), 2);
    a.try_tell(PuppetMessage::Panic).unwrap();
    tokio::time::sleep(SECOND * 10).await;
    assert!(!take(&diary).contains(&"a tick".to_owned()));
    system.shutdown(SECOND).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_panic_in_a_spawned_task_is_a_crash_of_its_actor() {
    let mut stage = Stage::new(Strategy::OneForOne);
    let a = stage.add("a");
    let (system, _, diary) = stage.start().await;
    a.try_tell(PuppetMessage::SpawnPanic).unwrap();
    tokio::time::sleep(SECOND).await;
    assert_eq!(take(&diary), ["a up", "a down", "a up"]);
    assert_eq!(row(&system, "node/a").last_exit.unwrap().reason.to_string(), "task panicked: beside");
    system.shutdown(SECOND).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn monitors_are_told_of_each_exit_and_whether_it_is_for_good() {
    let mut stage = Stage::new(Strategy::OneForOne);
    let watcher = stage.add("w");
    let watched = stage.spec("a").restart(Restart::Transient);
    let watched = stage.root.actor(watched);
    let (system, _, diary) = stage.start().await;
    take(&diary);
    watcher.try_tell(PuppetMessage::Watch(watched.clone())).unwrap();
    ping(&watcher).await.unwrap();
    watched.try_tell(PuppetMessage::Panic).unwrap();
    tokio::time::sleep(SECOND).await;
    watched.try_tell(PuppetMessage::Stop).unwrap();
    tokio::time::sleep(SECOND).await;
    watcher.try_tell(PuppetMessage::Watch(watched)).unwrap();
    tokio::time::sleep(SECOND).await;
    let saw: Vec<_> = take(&diary).into_iter().filter(|line| line.contains("saw")).collect();
    assert_eq!(
        saw,
        ["w saw node/a crash for now", "w saw node/a normal for now", "w saw node/a normal for now"],
        "it may be started again"
    );
    system.shutdown(SECOND).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn actors_are_found_by_path_and_message_type() {
    let mut stage = Stage::new(Strategy::OneForOne);
    stage.add("a");
    let (system, _, _) = stage.start().await;
    let found = system.find::<PuppetMessage>("node/a").unwrap();
    assert_eq!(ping(&found).await, Ok("a"));
    assert!(system.find::<PuppetMessage>("node/b").is_none());
    system.shutdown(SECOND).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn children_come_and_go_while_the_supervisor_runs() {
    let stage = Stage::new(Strategy::OneForOne);
    let (args, failing) = (stage.args("late"), stage.args("failing"));
    *failing.failing_starts.lock() = 1;
    let (system, root, _) = stage.start().await;
    let late = root.add(ActorSpec::<Puppet>::new("late", args.clone()), SECOND).await.unwrap();
    ping(&late).await.unwrap();
    let again = root.add(ActorSpec::<Puppet>::new("late", args), SECOND).await.unwrap_err();
    assert_eq!(again.to_string(), "child `late` exists already");
    ping(&late).await.unwrap();
    assert!(system.tree().get("node/late").is_some());
    let failed = root.add(ActorSpec::<Puppet>::new("failing", failing), SECOND).await.unwrap_err();
    assert_eq!(failed.to_string(), "start failed: not yet");
    assert!(system.tree().get("node/failing").is_none());
    assert!(root.remove("late", SECOND).await);
    tokio::time::sleep(SECOND).await;
    assert!(system.tree().get("node/late").is_none());
    assert!(!root.remove("late", SECOND).await);
    assert_eq!(ping(&late).await, Err(AskError::Refused(RefusedReason::Stopped)));
    system.shutdown(SECOND).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn duplicate_ids_are_refused_before_anything_starts() {
    let mut stage = Stage::new(Strategy::OneForOne);
    stage.add("a");
    stage.add("a");
    let error = stage.system.start(stage.root).await.unwrap_err();
    assert_eq!(error.to_string(), "child `a` exists already");
    assert!(take(&stage.diary).is_empty());
}

#[tokio::test(start_paused = true)]
async fn restarts_of_an_earlier_process_count_in_the_window() {
    let clock = Clock::system();
    let earlier = vec![clock.now().minus(SECOND), clock.now().minus(SECOND), clock.now().minus(SECOND)];
    let history = RestartHistory::from([(crate::life::ActorPath::root("node").child("a"), earlier)]);
    let system = ActorSystem::with("node", clock, None, history, 0);
    let diary = Diary::default();
    let mut root = system.root();
    let args = PuppetArgs { name: "a", diary, failing_starts: Arc::default() };
    let a = root.actor(ActorSpec::<Puppet>::new("a", args));
    system.start(root).await.unwrap();
    assert_eq!(row(&system, "node/a").restarts.unwrap().used, 3);
    a.try_tell(PuppetMessage::Panic).unwrap();
    assert_eq!(system.ended().await.word(), "escalated");
}

#[tokio::test(start_paused = true)]
async fn a_stop_is_heard_while_a_child_starts_and_while_one_waits_for_its_restart() {
    struct Slow;
    enum Never {}
    impl crate::mailbox::Message for Never {
        const KINDS: &'static [&'static str] = &[];
        fn kind(&self) -> usize {
            match *self {}
        }
    }
    impl Actor for Slow {
        type Message = Never;
        type Args = ();
        const KIND: &'static str = "slow";
        async fn start((): &(), _: &mut Context<Never>) -> Result<Self, Fault> {
            tokio::time::sleep(SECOND * 20).await;
            Ok(Self)
        }
        async fn handle(&mut self, message: Never, _: &mut Context<Never>) -> Result<(), Fault> {
            match message {}
        }
    }
    let mut stage = Stage::new(Strategy::OneForOne);
    stage.root = stage.root.backoff(Backoff { first: SECOND * 25, ..Backoff::default() });
    let a = stage.add("a");
    let (system, root, _) = stage.start().await;
    a.try_tell(PuppetMessage::Panic).unwrap();
    let adding = tokio::spawn({
        let root = root.clone();
        async move { root.add(ActorSpec::<Slow>::new("slow", ()), SECOND * 60).await }
    });
    tokio::time::sleep(SECOND).await;
    let began = tokio::time::Instant::now();
    assert_eq!(system.shutdown(SECOND * 5).await, Some(ExitReason::Stop));
    assert!(began.elapsed() < SECOND, "{:?}", began.elapsed());
    assert!(adding.await.unwrap().is_err());
}

#[test]
fn a_hundred_thousand_idle_actors_live_and_end_together() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut stage = Stage::new(Strategy::OneForOne);
        let mut handles = Vec::new();
        for n in 0..100_000 {
            let spec = ActorSpec::<Puppet>::new(format!("p{n}"), stage.args("p"));
            handles.push(stage.root.actor(spec));
        }
        let (system, _, _) = stage.start().await;
        assert_eq!(system.tree().len(), 100_001);
        for at in [0, 5, 99_999] {
            assert_eq!(handles[at].ask(PuppetMessage::Ping, SECOND * 60).await, Ok("p"));
        }
        assert_eq!(system.tree().rows()[0].children.len(), 100_000);
        assert_eq!(system.shutdown(SECOND * 120).await, Some(ExitReason::Stop));
    });
}

#[tokio::test(start_paused = true)]
async fn a_system_that_has_ended_is_dropped_with_its_last_handle() {
    let mut stage = Stage::new(Strategy::OneForOne);
    let a = stage.add("a");
    let (system, root, diary) = stage.start().await;
    ping(&a).await.unwrap();
    let tree = Arc::downgrade(system.tree());
    assert_eq!(system.shutdown(SECOND).await, Some(ExitReason::Stop));
    assert_eq!(system.shutdown(SECOND).await, Some(ExitReason::Stop), "it says so again");
    drop((system, root, a, diary));
    tokio::time::sleep(SECOND).await;
    assert!(tree.upgrade().is_none(), "something of it is held by itself");
}

/// SUP-3: what others add does not decide whether a supervisor starts, and nothing of it is left if it does
/// not.
#[tokio::test(start_paused = true)]
async fn a_child_that_is_added_during_the_beginning_and_cannot_start_is_forgotten() {
    let mut stage = Stage::new(Strategy::OneForOne);
    let late = stage.args("late");
    *late.failing_starts.lock() = 1;
    let handle = stage.root.handle();
    stage.root.actor(ActorSpec::<Slowly>::new("slow", SECOND));
    let adding = tokio::spawn(async move {
        tokio::time::sleep(SECOND / 2).await;
        handle.add(ActorSpec::<Puppet>::new("late", late), SECOND * 5).await
    });
    let (system, _, _) = stage.start().await;
    let refused = adding.await.unwrap().unwrap_err();
    assert_eq!(refused.to_string(), "start failed: not yet");
    assert!(system.tree().get("node/late").is_none());
    assert_eq!(row(&system, "node/slow").state, ActorState::Running);
    system.shutdown(SECOND).await.unwrap();
}

/// An actor that takes so long to start.
struct Slowly;

impl Actor for Slowly {
    type Message = PuppetMessage;
    type Args = Duration;
    const KIND: &'static str = "slowly";

    async fn start(time: &Duration, _: &mut Context<PuppetMessage>) -> Result<Self, Fault> {
        tokio::time::sleep(*time).await;
        Ok(Self)
    }

    async fn handle(&mut self, _: PuppetMessage, _: &mut Context<PuppetMessage>) -> Result<(), Fault> {
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_added_to_a_supervisor_that_then_failed_to_start_is_forgotten() {
    let mut stage = Stage::new(Strategy::OneForOne);
    let (args, spec) = (stage.args("a"), stage.spec("late"));
    let failing = Arc::clone(&args.failing_starts);
    let mut inner = stage.root.supervisor("inner").limits(RestartLimits { max: 0, window: SECOND });
    inner.actor(ActorSpec::<Slowly>::new("slow", SECOND));
    let a = inner.actor(ActorSpec::<Puppet>::new("a", args));
    let inner = stage.root.nest(inner);
    let (system, _, _) = stage.start().await;
    *failing.lock() = 1;
    a.try_tell(PuppetMessage::Panic).unwrap();
    tokio::time::sleep(SECOND / 2).await;
    let late = inner.add(spec, SECOND / 4).await.unwrap();
    tokio::time::sleep(SECOND * 5).await;
    assert_eq!(row(&system, "node/inner").state, ActorState::Running);
    assert!(system.tree().get("node/inner/late").is_none(), "it is shown, and nobody looks after it");
    assert_eq!(ping(&late).await, Err(AskError::Refused(RefusedReason::Stopped)));
    assert_eq!(ping(&a).await, Ok("a"));
    system.shutdown(SECOND).await.unwrap();
}
