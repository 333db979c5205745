//! Many answers to one message.
//!
//! Owns the bounded way from the actor that answers to who reads, and that its end is told: in order, or why
//! not. Refuses to know where answers go: a message carries [`Replies`] beside its other fields, and who made
//! the pair reads [`RepliesIn`].

use std::fmt;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::sync::mpsc;

/// The right to answer one message many times. [`Replies::finish`] says that all has been said; where it is
/// dropped before, who reads is told that too.
///
/// ```
/// # use arw_kit::mailbox::{Replies, RepliesEnd};
/// # use std::time::Duration;
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// let (replies, mut read) = Replies::bounded(4.try_into().unwrap());
/// replies.try_send("one").unwrap();
/// replies.finish();
/// assert_eq!(read.next().await, Ok("one"));
/// assert_eq!(read.next().await, Err(RepliesEnd::Finished));
/// # });
/// ```
pub struct Replies<T> {
    to: mpsc::Sender<T>,
    end: Arc<AtomicU8>,
}

/// Reads the answers. Dropping it tells who answers that nobody reads any more.
pub struct RepliesIn<T> {
    from: mpsc::Receiver<T>,
    end: Arc<AtomicU8>,
}

/// There are no more answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RepliesEnd {
    /// All has been said.
    #[error("all has been answered")]
    Finished,
    /// The actor panicked while it held [`Replies`].
    #[error("the actor crashed while it answered")]
    Crashed,
    /// They were dropped before all was said: the actor was stopped, or has forgotten them.
    #[error("the actor stopped answering")]
    Dropped,
}

/// An answer was not taken.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotRead<T> {
    /// As many wait to be read as may.
    #[error("the answers are not read fast enough")]
    Full(T),
    /// Nobody reads any more.
    #[error("nobody reads the answers any more")]
    Abandoned(T),
}

const DROPPED: u8 = 0;
const FINISHED: u8 = 1;
const CRASHED: u8 = 2;

impl<T> Replies<T> {
    /// Both ends, between which `most` answers wait at most.
    #[must_use]
    pub fn bounded(most: NonZeroUsize) -> (Self, RepliesIn<T>) {
        let (to, from) = mpsc::channel(most.get());
        let end = Arc::new(AtomicU8::new(DROPPED));
        (Self { to, end: Arc::clone(&end) }, RepliesIn { from, end })
    }

    /// Answers without waiting.
    ///
    /// # Errors
    /// The answer, with why it was not taken.
    pub fn try_send(&self, value: T) -> Result<(), NotRead<T>> {
        self.to.try_send(value).map_err(|refused| match refused {
            mpsc::error::TrySendError::Full(value) => NotRead::Full(value),
            mpsc::error::TrySendError::Closed(value) => NotRead::Abandoned(value),
        })
    }

    /// Answers, waiting for at most `patience` while as many wait as may. It must not be awaited inside a
    /// handler that others wait for: give the replies to a task.
    ///
    /// # Errors
    /// As [`Replies::try_send`], after `patience`.
    pub async fn send(&self, value: T, patience: Duration) -> Result<(), NotRead<T>> {
        let value = match self.try_send(value) {
            Err(NotRead::Full(value)) => value,
            done => return done,
        };
        match tokio::time::timeout(patience, self.to.reserve()).await {
            Ok(Ok(place)) => {
                place.send(value);
                Ok(())
            }
            Ok(Err(_)) => Err(NotRead::Abandoned(value)),
            Err(_) => Err(NotRead::Full(value)),
        }
    }

    /// All has been said.
    pub fn finish(self) {
        self.end.store(FINISHED, Ordering::Release);
    }

    /// Nobody reads any more: work for further answers can be skipped.
    #[must_use]
    pub fn is_abandoned(&self) -> bool {
        self.to.is_closed()
    }

    /// Resolves when nobody reads any more.
    pub async fn abandoned(&self) {
        self.to.closed().await;
    }
}

impl<T> Drop for Replies<T> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.end.store(CRASHED, Ordering::Release);
        }
    }
}

impl<T> RepliesIn<T> {
    /// The next answer.
    ///
    /// # Errors
    /// [`RepliesEnd`], after the last one.
    pub async fn next(&mut self) -> Result<T, RepliesEnd> {
        std::future::poll_fn(|cx| self.poll_next(cx)).await
    }

    /// [`RepliesIn::next`], for who waits for other things too.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<T, RepliesEnd>> {
        self.from.poll_recv(cx).map(|value| {
            // The channel ends after the end was noted.
            value.ok_or_else(|| match self.end.load(Ordering::Acquire) {
                FINISHED => RepliesEnd::Finished,
                CRASHED => RepliesEnd::Crashed,
                _ => RepliesEnd::Dropped,
            })
        })
    }
}

impl<T> fmt::Debug for Replies<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Replies")
    }
}

impl<T> fmt::Debug for RepliesIn<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RepliesIn")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair() -> (Replies<u32>, RepliesIn<u32>) {
        Replies::bounded(NonZeroUsize::MIN)
    }

    #[tokio::test]
    async fn how_it_ends_is_told_after_the_last_answer() {
        let (replies, mut read) = pair();
        replies.try_send(1).unwrap();
        replies.finish();
        assert_eq!((read.next().await, read.next().await), (Ok(1), Err(RepliesEnd::Finished)));

        let (replies, mut read) = pair();
        replies.try_send(1).unwrap();
        drop(replies);
        assert_eq!((read.next().await, read.next().await), (Ok(1), Err(RepliesEnd::Dropped)));

        let (replies, mut read) = pair();
        let crashed = tokio::spawn(async move {
            replies.try_send(1).unwrap();
            panic!("boom");
        });
        assert!(crashed.await.is_err());
        assert_eq!((read.next().await, read.next().await), (Ok(1), Err(RepliesEnd::Crashed)));
    }

    #[tokio::test(start_paused = true)]
    async fn who_answers_waits_for_who_reads_and_not_longer_than_it_may() {
        let (replies, mut read) = pair();
        let patience = Duration::from_secs(1);
        replies.send(1, patience).await.unwrap();
        let began = tokio::time::Instant::now();
        assert_eq!(replies.send(2, patience).await, Err(NotRead::Full(2)));
        assert_eq!(began.elapsed(), patience);
        let (sent, first) = tokio::join!(replies.send(2, patience), read.next());
        assert_eq!((sent, first, read.next().await), (Ok(()), Ok(1), Ok(2)));

        replies.try_send(3).unwrap();
        let (sent, ()) = tokio::join!(replies.send(4, patience), async { drop(read) });
        assert_eq!(sent, Err(NotRead::Abandoned(4)));
        assert!(replies.is_abandoned());
        replies.abandoned().await;
    }
}
