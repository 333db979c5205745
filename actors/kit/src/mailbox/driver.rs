//! Drives one incarnation of an actor: takes batches from its mailbox and handles them until it ends.
//!
//! Runs inside ractor, whose handler stays resident here: ractor keeps life cycle and supervision, the queue
//! is ours. Owns batch size (a time budget, so that a busy actor cannot starve its neighbours), panics and
//! exit reasons. Refuses to restart anything.

use std::collections::VecDeque;
use std::fmt;
use std::future::{Future, poll_fn};
use std::marker::PhantomData;
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use futures_util::FutureExt;
use ractor::{ActorProcessingErr, ActorRef};

use super::actor::{Actor, Fault};
use super::context::Context;
use super::dead_letters::DeadLetterReason;
use super::inbox::{Alive, Core, Envelope, Took};
use super::message::Message;
use super::unanswered::{Fate, ThenDropping, Until, as_before, in_handler};
use crate::life::ExitReason;
use crate::panics::{panic_text, poll_in_actor};
use crate::tree::Record;

/// One incarnation, as ractor sees it.
pub(crate) struct Resident<A>(PhantomData<fn() -> A>);

impl<A> Resident<A> {
    pub(crate) fn new() -> Self {
        Self(PhantomData)
    }
}

/// What an incarnation starts from.
pub(crate) struct ResidentArgs<A: Actor> {
    pub(crate) core: Arc<Core<A::Message>>,
    pub(crate) args: Arc<A::Args>,
}

pub(crate) struct ResidentState<A: Actor> {
    /// First and last but one: what the actor holds is dropped for the reason for which it ends.
    fate: ThenDropping,
    actor: A,
    context: Context<A::Message>,
    core: Arc<Core<A::Message>>,
    incarnation: u32,
    batch: VecDeque<Envelope<A::Message>>,
    pace: Pace,
    _before: Until,
    /// Last, so that it counts until all the rest is dropped.
    _alive: Alive<A::Message>,
}

impl<A: Actor> ractor::Actor for Resident<A> {
    // ractor's own mailbox carries one message in an incarnation's life: the one that makes its handler
    // resident.
    type Msg = ();
    type State = ResidentState<A>;
    type Arguments = ResidentArgs<A>;

    async fn pre_start(
        &self,
        _: ActorRef<()>,
        start: ResidentArgs<A>,
    ) -> Result<Self::State, ActorProcessingErr> {
        let alive = Alive::new(&start.core);
        let incarnation = start.core.record.incarnation();
        let mut context = Context::new(Arc::clone(&start.core), incarnation);
        let started = {
            let mut starting = pin!(AssertUnwindSafe(A::start(&start.args, &mut context)).catch_unwind());
            poll_fn(|cx| poll_in_actor(starting.as_mut(), cx)).await
        };
        let actor = match started {
            Ok(Ok(actor)) => actor,
            Ok(Err(fault)) => return Err(StartFault(fault.into_text()).into()),
            Err(panic) => return Err(StartFault(panic_text(panic.as_ref())).into()),
        };
        Ok(ResidentState {
            fate: ThenDropping(Fate::Stopped),
            actor,
            context,
            core: start.core,
            incarnation,
            batch: VecDeque::new(),
            pace: Pace::default(),
            _before: as_before(),
            _alive: alive,
        })
    }

    async fn post_start(&self, myself: ActorRef<()>, _: &mut Self::State) -> Result<(), ActorProcessingErr> {
        myself.cast(()).map_err(Into::into)
    }

    async fn handle(
        &self,
        myself: ActorRef<()>,
        (): (),
        state: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        // On the heap once per incarnation: ractor keeps room for this future several times over, in every
        // actor.
        let reason = Box::pin(state.run()).await;
        if matches!(reason, ExitReason::Crash { .. }) {
            state.fate.0 = Fate::Crashed;
        }
        if !reason.is_abnormal() {
            state.actor.stopping(&mut state.context).await;
        }
        state.core.record.offer_exit(state.incarnation, reason);
        myself.stop(None);
        Ok(())
    }
}

#[derive(Debug)]
struct StartFault(String);

impl fmt::Display for StartFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for StartFault {}

impl<A: Actor> ResidentState<A> {
    async fn run(&mut self) -> ExitReason {
        // The start has woken the supervisor, from this task. Without a yield it would stand behind the first
        // handler, in the one slot of this thread from which no other thread of tokio takes a task (the LIFO
        // slot).
        let mut just_ran = true;
        loop {
            let most = self.pace.batch_max;
            let took = poll_fn(|cx| {
                let took = self.core.poll_take(self.incarnation, &mut self.batch, most, just_ran, cx);
                // Having waited, it has let others run: what woke it is taken at once.
                just_ran &= took.is_ready();
                took
            })
            .await;
            match took {
                Took::Messages => {}
                Took::YieldFirst => {
                    // ractor's loop never yields by itself: without this a busy actor stalls its neighbours.
                    tokio::task::yield_now().await;
                    just_ran = false;
                    continue;
                }
                Took::Ended => {
                    let offered = self.core.record.exit_offered(self.incarnation);
                    return offered.unwrap_or(ExitReason::Stop);
                }
            }
            if let Some(reason) = self.run_batch().await {
                return reason;
            }
            just_ran = true;
        }
    }

    /// Handles the batch in hand. `Some` when the incarnation ends.
    async fn run_batch(&mut self) -> Option<ExitReason> {
        let timer = self.pace.begins();
        let record = Arc::clone(&self.core.record);
        let handled_before = record.handled();
        let pending_before = record.pending_nanos();
        let outcome = {
            let core = (self.core.as_ref(), self.incarnation);
            let batch = handle_all(&mut self.actor, &mut self.context, core, &mut self.batch);
            let mut batch = pin!(AssertUnwindSafe(batch).catch_unwind());
            poll_fn(|cx| poll_in_actor(batch.as_mut(), cx)).await
        };
        let reason = match outcome {
            Ok(Ok(())) if self.context.wants_stop() => Some(ExitReason::Normal),
            Ok(Ok(())) => None,
            Ok(Err(fault)) => Some(self.crashed(fault.into_text())),
            Err(panic) => Some(self.crashed(panic_text(panic.as_ref()))),
        };
        record.batch_ended();
        self.pace.ended(timer, &record, record.handled() - handled_before, pending_before);
        self.core.notify_space();
        reason
    }

    fn crashed(&self, text: String) -> ExitReason {
        let while_handling = self.core.record.in_flight_kind();
        ExitReason::Crash { text: text.into(), while_handling }
    }
}

async fn handle_all<A: Actor>(
    actor: &mut A,
    context: &mut Context<A::Message>,
    (core, incarnation): (&Core<A::Message>, u32),
    batch: &mut VecDeque<Envelope<A::Message>>,
) -> Result<(), Fault> {
    let batch = PutBack { core, batch };
    while let Some(envelope) = batch.batch.pop_front() {
        if envelope.due != 0 && core.services.deadlines.has_fired(envelope.due) {
            // Its asker has given up; handling it would be work for nobody.
            core.dead_letter(envelope.message.kind(), DeadLetterReason::Expired);
            continue;
        }
        core.record.begins(envelope.message.kind(), batch.batch.len() + 1);
        {
            // Pinned here and not in an async function of its own, which would keep room for it twice.
            let mut handler = pin!(actor.handle(envelope.message, context));
            let mut waits = false;
            poll_fn(|cx| {
                let polled =
                    in_handler(|| handler.as_mut().poll(cx), |polled| matches!(polled, Poll::Ready(Err(_))));
                note_wait(polled.is_pending(), &mut waits, &core.record);
                polled
            })
            .await?;
        }
        core.record.handled_one();
        if context.wants_stop() || !core.may_run(incarnation) {
            break;
        }
    }
    Ok(())
}

/// Puts what was not handled back at the head of the queue: on a stop, an unwind, a fault and when a kill
/// drops the future.
struct PutBack<'a, M: Message> {
    core: &'a Core<M>,
    batch: &'a mut VecDeque<Envelope<M>>,
}

impl<M: Message> Drop for PutBack<'_, M> {
    fn drop(&mut self) {
        if !self.batch.is_empty() {
            self.core.put_back(self.batch);
        }
    }
}

/// Notes when a handler begins to wait, so that the tree can show for how long. A handler that never waits
/// costs no clock read.
#[inline]
fn note_wait(is_pending: bool, waits: &mut bool, record: &Record) {
    if is_pending {
        if !std::mem::replace(waits, true) {
            record.wait_begins();
        }
    } else if *waits {
        record.wait_ended();
    }
}

/// How many messages a batch may take, from a time budget and the sampled cost of a message.
#[derive(Debug)]
struct Pace {
    batch_max: usize,
    batches: u32,
}

/// A neighbour on the same thread waits at most about this long.
const BATCH_BUDGET: Duration = Duration::from_micros(100);
const BATCH_MAX: usize = 256;
/// Small at first: nothing is known about the handlers' cost yet.
const BATCH_FIRST: usize = 4;
/// Timing costs two clock reads; one batch in sixteen keeps them out of the cost of an ask.
const SAMPLE_EVERY: u32 = 16;

#[derive(Clone, Copy)]
struct BatchTimer {
    began: Option<tokio::time::Instant>,
    stands_for: u32,
}

impl Default for Pace {
    fn default() -> Self {
        Self { batch_max: BATCH_FIRST, batches: 0 }
    }
}

impl Pace {
    fn begins(&mut self) -> BatchTimer {
        // While handlers are costly (small batches) every batch is timed: the clock is then the smaller part.
        let stands_for = if self.batch_max <= BATCH_FIRST { 1 } else { SAMPLE_EVERY };
        self.batches = self.batches.wrapping_add(1);
        let sampled = self.batches.is_multiple_of(stands_for);
        BatchTimer { began: sampled.then(tokio::time::Instant::now), stands_for }
    }

    fn ended(&mut self, timer: BatchTimer, record: &Record, handled: u64, pending_before: u64) {
        let Some(began) = timer.began else { return };
        if handled == 0 {
            return;
        }
        let waited = record.pending_nanos() - pending_before;
        let all = u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX);
        let busy = all.saturating_sub(waited);
        record.add_busy(busy.saturating_mul(u64::from(timer.stands_for)));
        let cost = (busy / handled).max(1);
        let affordable = u64::try_from(BATCH_BUDGET.as_nanos()).unwrap_or(u64::MAX) / cost;
        self.batch_max = usize::try_from(affordable).unwrap_or(BATCH_MAX).clamp(1, BATCH_MAX);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::supervision::{ActorSpec, ActorSystem};

    struct Sum(u64);

    enum SumMessage {
        Add(u64),
    }
    crate::message!(SumMessage { Add });

    impl Actor for Sum {
        type Message = SumMessage;
        type Args = ();
        const KIND: &'static str = "sum";

        async fn start((): &(), _: &mut Context<SumMessage>) -> Result<Self, Fault> {
            Ok(Self(0))
        }

        async fn handle(
            &mut self,
            SumMessage::Add(n): SumMessage,
            _: &mut Context<SumMessage>,
        ) -> Result<(), Fault> {
            self.0 += n;
            Ok(())
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_actor_that_waited_takes_what_wakes_it_in_the_same_turn() {
        let system = ActorSystem::new("test");
        let mut root = system.root();
        let sum = root.actor(ActorSpec::<Sum>::new("sum", ()));
        system.start(root).await.unwrap();
        let record = system.tree().get("test/sum").unwrap();
        for turn in 1..=100 {
            sum.try_tell(SumMessage::Add(1)).unwrap();
            // One turn of the scheduler. An actor that yields first needs a second one, and a look at the
            // timers with it.
            tokio::task::yield_now().await;
            assert_eq!(record.handled(), turn);
        }
    }
}
