//! An ask whose asker does not wait in this process.
//!
//! Owns that its answer is told exactly once, and the reason where there is none. Refuses to know where the answer goes.

use std::sync::{Arc, Weak};
use std::task::Waker;
use std::time::Duration;

use parking_lot::Mutex;

use super::deadline::DeadlineEntry;
use super::handle::{AskError, RefusedReason};
use super::inbox::{Control, Core};
use super::message::{Answer, Message, Settle};

/// What [`Handle::pass_on`](super::Handle::pass_on) keeps of an ask.
pub(super) struct PassedOn<M, F> {
    /// The mailbox may hold the message that holds this: a strong reference would keep both for ever.
    core: Weak<Core<M>>,
    due: u64,
    patience: Duration,
    /// Of a long wait. Nobody is woken by it: it keeps the wheel turning until then, or until the answer.
    _deadline: Option<DeadlineEntry>,
    answer: Mutex<Option<F>>,
}

/// The wheel turns for as long as this after the last ask, whether it was answered or not, because that costs the asks nothing. Longer ones are worth an entry each.
const PATIENCE_USUAL: Duration = Duration::from_secs(60);

impl<M, F> PassedOn<M, F> {
    pub(super) fn new(core: &Arc<Core<M>>, (due, patience): (u64, Duration), answer: F) -> Self {
        let deadlines = &core.system.deadlines;
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
            (None, Control::Run) if core.system.deadlines.has_fired(self.due) => {
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
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::sync::oneshot;
    use tokio::time::Instant;

    use super::super::{Actor, Context, Fault, Handle, Reply};
    use super::*;
    use crate::supervision::{ActorSpec, ActorSystem, Backoff};

    struct Clerk;

    enum ClerkMessage {
        Answer(Reply<u32>),
        Forget(Reply<u32>),
        Crash(Reply<u32>),
        Sleep(Duration),
    }
    crate::message!(ClerkMessage { Answer, Forget, Crash, Sleep });

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
        clerk.pass_on(message, (Instant::now(), patience), move |answer| told.send(answer).unwrap());
        hears
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
