//! What waits to be sent on a control stream.
//!
//! Owns its bound, and that of a node's card only the newest waits. Refuses to know streams.

use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::codec::EncodeError;
use crate::wire::{self, Control};

/// Bytes that may wait. All revocations that a node can know take half of it; more than that waits only for a
/// peer that has stopped reading.
pub(super) const WAITING_BYTES_MAX: usize = 1024 * 1024;

/// A message was not queued.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SendControlError {
    /// It is too long.
    #[error(transparent)]
    TooLong(#[from] EncodeError),
    /// The connection is over.
    #[error("the connection is closed")]
    Closed,
    /// The peer does not read: the connection is closed for that.
    #[error("the peer does not read what it is told")]
    Stalled,
}

/// The queue of one connection: many put in, its writer takes out.
#[derive(Debug, Default)]
pub(super) struct ControlQueue {
    waiting: Mutex<Waiting>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    bytes: BytesMut,
    card: Option<Bytes>,
    is_closed: bool,
}

impl ControlQueue {
    /// Queues a message.
    ///
    /// # Errors
    /// [`SendControlError`]; nothing has been queued.
    pub(super) fn push(&self, message: &Control) -> Result<(), SendControlError> {
        let mut waiting = self.waiting.lock();
        if waiting.is_closed {
            return Err(SendControlError::Closed);
        }
        let before = waiting.bytes.len();
        wire::put(message, &mut waiting.bytes)?;
        // WIRE-19
        if waiting.bytes.len() > WAITING_BYTES_MAX {
            waiting.bytes.truncate(before);
            return Err(SendControlError::Stalled);
        }
        drop(waiting);
        self.changed.notify_one();
        Ok(())
    }

    /// WIRE-18: queues a card, as a message that is written already, in the place of one that waits still.
    pub(super) fn push_card(&self, card: Bytes) {
        let mut waiting = self.waiting.lock();
        if !waiting.is_closed {
            waiting.card = Some(card);
            drop(waiting);
            self.changed.notify_one();
        }
    }

    /// No more comes; what waits is dropped.
    pub(super) fn close(&self) {
        let mut waiting = self.waiting.lock();
        *waiting = Waiting { is_closed: true, ..Waiting::default() };
        drop(waiting);
        self.changed.notify_one();
    }

    /// All that waits, encoded; `None` when the queue is closed.
    pub(super) async fn next(&self) -> Option<BytesMut> {
        loop {
            let changed = self.changed.notified();
            if let Some(bytes) = self.take()? {
                return Some(bytes);
            }
            changed.await;
        }
    }

    /// Outer `None`: closed. Inner: nothing waits.
    pub(super) fn take(&self) -> Option<Option<BytesMut>> {
        let mut waiting = self.waiting.lock();
        if waiting.is_closed {
            return None;
        }
        let mut bytes = waiting.bytes.split();
        let card = waiting.card.take();
        drop(waiting);
        if let Some(card) = card {
            bytes.extend_from_slice(&card);
        }
        Some((!bytes.is_empty()).then_some(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{Card, Ping, Received};

    fn messages(mut bytes: BytesMut) -> Vec<Control> {
        let mut read = Vec::new();
        while let Ok(Received::Message(message)) = wire::take(&mut bytes) {
            read.push(message);
        }
        assert!(bytes.is_empty());
        read
    }

    #[test]
    fn only_the_newest_card_waits_and_other_messages_keep_their_order() {
        // WIRE-18
        let queue = ControlQueue::default();
        let card = |byte| Card { incarnation: 1, card: vec![byte] };
        queue.push(&Ping { nonce: 1 }.into()).unwrap();
        let push_card = |card: Card| {
            let mut bytes = BytesMut::new();
            wire::put(&card.into(), &mut bytes).unwrap();
            queue.push_card(bytes.freeze());
        };
        push_card(card(1));
        queue.push(&Ping { nonce: 2 }.into()).unwrap();
        push_card(card(2));
        let expected: [Control; 3] = [Ping { nonce: 1 }.into(), Ping { nonce: 2 }.into(), card(2).into()];
        assert_eq!(messages(queue.take().unwrap().unwrap()), expected);
        assert_eq!(queue.take(), Some(None));
    }

    #[test]
    fn a_peer_that_does_not_read_fills_its_queue_and_no_more() {
        // WIRE-19
        let queue = ControlQueue::default();
        let big: Control = Card { incarnation: 1, card: vec![0; 40_000] }.into();
        let accepted = (0..100).take_while(|_| queue.push(&big).is_ok()).count();
        assert_eq!(accepted, WAITING_BYTES_MAX / 40_010);
        assert_eq!(queue.push(&big), Err(SendControlError::Stalled));
        assert_eq!(messages(queue.take().unwrap().unwrap()).len(), accepted);
        queue.push(&big).unwrap();
    }

    #[tokio::test]
    async fn a_closed_queue_ends_its_writer_and_takes_nothing() {
        let queue = ControlQueue::default();
        queue.push(&Ping { nonce: 1 }.into()).unwrap();
        queue.close();
        assert_eq!(queue.next().await, None);
        assert_eq!(queue.push(&Ping { nonce: 1 }.into()), Err(SendControlError::Closed));
    }
}
