//! An ask whose asker does not wait in this process.
//!
//! Owns that its answer is told exactly once, and the reason where there is none, and that the actor learns
//! when nobody waits any more. Refuses to know where the answer goes.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::task::{Poll, Waker};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::deadline::{DeadlineEntry, Deadlines};
use super::inbox::{Control, Core};
use super::message::{Answer, Message, Settle};
use super::outcome::{AskError, RefusedReason};

/// Tells the actor that holds the [`Reply`](super::Reply) of a passed on ask that nobody waits for it any
/// more, see [`Handle::pass_on`](super::Handle::pass_on). All clones are of the same ask.
#[derive(Clone, Debug, Default)]
pub struct AskCancel(Arc<Cancelled>);

#[derive(Debug, Default)]
struct Cancelled {
    is_cancelled: AtomicBool,
    told: Notify,
}

impl AskCancel {
    /// Of an ask whose asker waits still.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The asker waits no more. Once or more often is the same.
    pub fn cancel(&self) {
        if !self.0.is_cancelled.swap(true, Ordering::AcqRel) {
            // Only one task holds the reply. If it does not wait yet, it finds this when it does.
            self.0.told.notify_one();
        }
    }

    /// Whether it was cancelled.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.0.is_cancelled.load(Ordering::Acquire)
    }

    async fn cancelled(&self) {
        while !self.is_cancelled() {
            self.0.told.notified().await;
        }
    }
}

/// What [`Handle::pass_on`](super::Handle::pass_on) keeps of an ask.
pub(super) struct PassedOn<M, F> {
    /// The mailbox may hold the message that holds this: a strong reference would keep both for ever.
    core: Weak<Core<M>>,
    due: u64,
    patience: Duration,
    /// Of a long wait. Nobody is woken by it: it keeps the wheel turning until then, or until the answer.
    _deadline: Option<DeadlineEntry>,
    cancel: AskCancel,
    answer: Mutex<Option<F>>,
}

/// The wheel turns for as long as this after the last ask, whether it was answered or not, because that costs
/// the asks nothing. Longer ones are worth an entry each.
const PATIENCE_USUAL: Duration = Duration::from_secs(60);

impl<M, F> PassedOn<M, F> {
    pub(super) fn new(
        core: &Arc<Core<M>>,
        (due, patience): (u64, Duration),
        cancel: AskCancel,
        answer: F,
    ) -> Self {
        let deadlines = &core.services.deadlines;
        // By which the driver knows what it need not begin any more.
        let deadline = if patience > PATIENCE_USUAL {
            Some(deadlines.set(due, Waker::noop().clone()))
        } else {
            deadlines.turn_at(due);
            None
        };
        Self {
            core: Arc::downgrade(core),
            due,
            patience,
            _deadline: deadline,
            cancel,
            answer: Mutex::new(Some(answer)),
        }
    }

    /// Tells the asker that the mailbox did not take its message.
    pub(super) fn refuse<T>(&self, reason: RefusedReason)
    where
        F: FnOnce(Result<T, AskError>),
    {
        self.tell(Err(AskError::Refused(reason)));
    }

    fn tell<T>(&self, answer: Result<T, AskError>)
    where
        F: FnOnce(Result<T, AskError>),
    {
        let tell = self.answer.lock().take();
        if let Some(tell) = tell {
            tell(answer);
        }
    }
}

impl<M: Message, F> PassedOn<M, F> {
    /// Why a message was dropped without an answer.
    fn forgotten(&self) -> AskError {
        let Some(core) = self.core.upgrade() else { return AskError::Stopped };
        match (core.closed(), core.control()) {
            (Some(_), _) | (None, Control::Stop | Control::Killed) => AskError::Stopped,
            (None, Control::Run) if core.services.deadlines.has_fired(self.due) => {
                AskError::Expired(self.patience)
            }
            (None, Control::Run) => AskError::NoReply,
        }
    }
}

impl<M: Message, T, F: FnOnce(Result<T, AskError>) + Send> Settle<T> for PassedOn<M, F> {
    fn settle(&self, answer: Option<Answer<T>>) {
        self.tell(match answer {
            Some(Answer::Value(value)) => Ok(value),
            Some(Answer::Crashed) => Err(AskError::Crashed),
            Some(Answer::Stopped) => Err(AskError::Stopped),
            None => Err(self.forgotten()),
        });
    }

    fn is_abandoned(&self) -> bool {
        let has_expired =
            || self.core.upgrade().is_some_and(|core| core.services.deadlines.has_fired(self.due));
        self.cancel.is_cancelled() || has_expired()
    }

    fn abandoned(&self) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        let (cancel, due) = (self.cancel.clone(), self.due);
        let deadlines = self.core.upgrade().map(|core| Arc::clone(&core.services.deadlines));
        Box::pin(async move {
            let Some(deadlines) = deadlines else { return cancel.cancelled().await };
            tokio::select! {
                () = cancel.cancelled() => {}
                () = passed(&deadlines, due) => {}
            }
        })
    }
}

/// Resolves when the deadline at `due` has passed.
async fn passed(deadlines: &Arc<Deadlines>, due: u64) {
    let mut entry = None;
    std::future::poll_fn(|cx| {
        let entry = entry.get_or_insert_with(|| deadlines.set(due, cx.waker().clone()));
        // Looked at after the entry was made: one that is made too late is found only when the wheel comes
        // round.
        if deadlines.has_fired(due) || entry.poll_fired(cx.waker()) { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::sync::oneshot;
    use tokio::time::Instant;

    use super::super::{Actor, Context, Fault, Handle, Reply};
    use super::*;
    use crate::life::Backoff;
    use crate::supervision::{ActorSpec, ActorSystem};

    struct Clerk;

    enum ClerkMessage {
        Answer(Reply<u32>),
        Forget(Reply<u32>),
        Crash(Reply<u32>),
        Sleep(Duration),
        Wait(Reply<u32>),
    }
    crate::message!(ClerkMessage { Answer, Forget, Crash, Sleep, Wait });

    impl Actor for Clerk {
        type Message = ClerkMessage;
        type Args = ();
        const KIND: &'static str = "clerk";

        async fn start((): &(), _: &mut Context<ClerkMessage>) -> Result<Self, Fault> {
            Ok(Self)
        }

        async fn handle(
            &mut self,
            message: ClerkMessage,
            _: &mut Context<ClerkMessage>,
        ) -> Result<(), Fault> {
            match message {
                ClerkMessage::Answer(reply) => drop(reply.send(7)),
                ClerkMessage::Forget(reply) => drop(reply),
                ClerkMessage::Crash(_reply) => panic!("boom"),
                ClerkMessage::Sleep(time) => tokio::time::sleep(time).await,
                ClerkMessage::Wait(mut reply) => {
                    assert!(!reply.is_abandoned());
                    reply.abandoned().await;
                    assert!(reply.is_abandoned());
                    reply.abandoned().await;
                    assert!(!reply.send(7), "nobody waits for it");
                }
            }
            Ok(())
        }
    }

    const SECOND: Duration = Duration::from_secs(1);

    async fn clerk() -> (ActorSystem, Handle<ClerkMessage>) {
        let system = ActorSystem::new("test");
        let mut root = system.root().backoff(Backoff::NONE);
        let clerk = root.actor(ActorSpec::<Clerk>::new("clerk", ()).mailbox(2));
        system.start(root).await.unwrap();
        (system, clerk)
    }

    /// The answer as the one who passes it on hears it. It fails when that is not told.
    fn pass_on(
        clerk: &Handle<ClerkMessage>,
        message: fn(Reply<u32>) -> ClerkMessage,
        patience: Duration,
    ) -> oneshot::Receiver<Result<u32, AskError>> {
        let (told, hears) = oneshot::channel();
        let wait = (Instant::now(), patience);
        clerk.pass_on(message, wait, AskCancel::new(), move |answer| told.send(answer).unwrap());
        hears
    }

    #[tokio::test(start_paused = true)]
    async fn who_holds_the_reply_of_a_passed_on_ask_learns_that_nobody_waits_any_more() {
        let (_system, clerk) = clerk().await;
        for (cancelled_after, patience, lasts) in [
            (SECOND, 100 * SECOND, SECOND),
            (2 * SECOND, SECOND, SECOND),
            (100 * SECOND, 70 * SECOND, 70 * SECOND),
        ] {
            let (began, cancel) = (Instant::now(), AskCancel::new());
            let (told, hears) = oneshot::channel();
            let answer = move |answer| told.send(answer).unwrap();
            clerk.pass_on(ClerkMessage::Wait, (began, patience), cancel.clone(), answer);
            let canceller = tokio::spawn(async move {
                tokio::time::sleep(cancelled_after).await;
                cancel.cancel();
                cancel.cancel();
            });
            assert_eq!(hears.await, Ok(Ok(7)), "the answer is told all the same, once");
            let waited = began.elapsed();
            assert!(waited >= lasts && waited < lasts + SECOND / 10, "{waited:?}");
            canceller.await.unwrap();
        }
        // Before it is even taken out of the mailbox.
        let cancel = AskCancel::new();
        let (told, hears) = oneshot::channel();
        clerk.try_tell(ClerkMessage::Sleep(SECOND)).unwrap();
        let message = |reply: Reply<u32>| {
            cancel.cancel();
            assert!(reply.is_abandoned());
            ClerkMessage::Answer(reply)
        };
        let answer = move |answer| told.send(answer).unwrap();
        clerk.pass_on(message, (Instant::now(), 5 * SECOND), cancel.clone(), answer);
        assert_eq!(hears.await, Ok(Ok(7)));
    }

    #[tokio::test(start_paused = true)]
    async fn every_fate_of_a_passed_on_ask_is_told_once() {
        let (system, clerk) = clerk().await;
        assert_eq!(pass_on(&clerk, ClerkMessage::Answer, SECOND).await, Ok(Ok(7)));
        assert_eq!(pass_on(&clerk, ClerkMessage::Forget, SECOND).await, Ok(Err(AskError::NoReply)));
        assert_eq!(pass_on(&clerk, ClerkMessage::Crash, SECOND).await, Ok(Err(AskError::Crashed)));
        assert_eq!(pass_on(&clerk, ClerkMessage::Answer, SECOND).await, Ok(Ok(7)));

        clerk.try_tell(ClerkMessage::Sleep(SECOND)).unwrap();
        let late = pass_on(&clerk, ClerkMessage::Answer, SECOND / 2);
        let mut refused = pass_on(&clerk, ClerkMessage::Answer, SECOND);
        let full = Err(AskError::Refused(RefusedReason::Overloaded));
        assert_eq!(refused.try_recv(), Ok(full), "at once, before anybody waits");
        assert_eq!(late.await, Ok(Err(AskError::Expired(SECOND / 2))));

        clerk.try_tell(ClerkMessage::Sleep(70 * SECOND)).unwrap();
        let later = pass_on(&clerk, ClerkMessage::Answer, 65 * SECOND);
        assert_eq!(later.await, Ok(Err(AskError::Expired(65 * SECOND))));

        clerk.try_tell(ClerkMessage::Sleep(SECOND)).unwrap();
        let queued = pass_on(&clerk, ClerkMessage::Answer, 5 * SECOND);
        system.shutdown(5 * SECOND).await.unwrap();
        assert_eq!(queued.await, Ok(Err(AskError::Stopped)));
        let stopped = pass_on(&clerk, ClerkMessage::Answer, SECOND).await;
        assert_eq!(stopped, Ok(Err(AskError::Refused(RefusedReason::Stopped))));
    }
}
