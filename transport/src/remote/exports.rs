//! The actors that this node offers to others.
//!
//! Owns names, types and the conversion from what crosses to what an actor takes. LANE-8: nothing else can be
//! reached: no other actor, and no other message of an offered one. Refuses to know connections.

use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasherDefault, Hasher};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arw_kit::mailbox::{Down, Handle, Message, MonitorGuard, Refused, RefusedReason, Replies, Reply};
use parking_lot::RwLock;
use tokio::time::Instant;

use super::protocol::{Origin, RemoteCall, RemoteStream, RemoteTell, target_of};
use super::serve::{AnswerPath, Undelivered};
use super::serve_answers::{ANSWERS_WAITING_MAX, Answers, Converted};
use crate::codec;
use crate::frame::{Address, MessageType, TargetActor};

/// What a node offers. Shared by all its connections.
#[derive(Default)]
pub struct Exports {
    offered: RwLock<HashMap<TargetActor, Arc<Offered>, BuildHasherDefault<TargetHasher>>>,
    /// How often something was offered or withdrawn: what was looked up before may be otherwise now.
    changes: AtomicU64,
}

/// Where the messages of one address go, as long as what is offered stays the same.
pub(super) struct Route {
    to: Address,
    changes: u64,
    offered: Arc<Offered>,
    at: Option<usize>,
}

/// Takes an actor's number for its own hash, which it is: that of a name. Only names of this node are stored,
/// so no peer can choose where they fall.
#[derive(Default)]
struct TargetHasher(u64);

impl Hasher for TargetHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = number;
    }
}

/// An actor, and what of it can be reached.
pub struct Offer<M> {
    name: Arc<str>,
    actor: Handle<M>,
    messages: Vec<(MessageType, Deliver)>,
}

/// An [`Offer`] without its message type.
pub(super) struct Offered {
    name: Arc<str>,
    messages: Vec<(MessageType, Deliver)>,
    watch: Watch,
    room: WaitForRoom,
}

pub(super) enum Deliver {
    Tell(DeliverTell),
    Call(DeliverCall),
    Stream(DeliverStream),
}

type DeliverTell = Box<dyn Fn(&[u8], &Origin) -> Result<(), Undelivered> + Send + Sync>;
/// With when it came, and how long the asker waits from then on.
type DeliverCall = Box<dyn Fn(&[u8], &Origin, (Instant, Duration), AnswerPath) + Send + Sync>;
type DeliverStream = Box<dyn Fn(&[u8], &Origin) -> Result<Box<dyn Answers>, Undelivered> + Send + Sync>;
type Watch = Box<dyn Fn(TellDown) -> MonitorGuard + Send + Sync>;
type WaitForRoom = Box<dyn Fn() -> Pin<Box<dyn Future<Output = ()> + Send>> + Send + Sync>;
pub(super) type TellDown = Box<dyn Fn(&Down) + Send + Sync>;

/// An actor was not offered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OfferError {
    /// The name is taken, or another name has the same number on the wire.
    #[error("`{name}` cannot be offered: its number on the wire is that of `{taken_by}`")]
    Taken {
        /// The name.
        name: Arc<str>,
        /// Who has it.
        taken_by: Arc<str>,
    },
    /// Two of its messages have the same number.
    #[error("`{name}` cannot be offered: two of its messages have the number {number}")]
    TypeTwice {
        /// The name.
        name: Arc<str>,
        /// The number.
        number: u32,
    },
}

impl<M> fmt::Debug for Offer<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Offer({}, {} messages)", self.name, self.messages.len())
    }
}

impl fmt::Debug for Exports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let offered = self.offered.read();
        f.debug_set().entries(offered.values().map(|offered| &offered.name)).finish()
    }
}

impl<M: Message> Offer<M> {
    /// `actor` under `name`, with no message yet.
    #[must_use]
    pub fn new(name: impl Into<Arc<str>>, actor: &Handle<M>) -> Self {
        Self { name: name.into(), actor: actor.clone(), messages: Vec::new() }
    }

    /// Lets others send `T`, which becomes what `into_message` makes of it. That runs while other messages of
    /// the connection wait: it must be quick. Where the mailbox is full it runs again later for the same
    /// message: it must have no effect of its own.
    #[must_use]
    pub fn tell<T: RemoteTell>(
        mut self,
        into_message: impl Fn(T, &Origin) -> M + Send + Sync + 'static,
    ) -> Self {
        let actor = self.actor.clone();
        let deliver = move |body: &[u8], origin: &Origin| {
            let message = codec::decode(body).map_err(Undelivered::Decode)?;
            actor.offer(into_message(message, origin)).map_err(|refused| undelivered(&refused))
        };
        self.messages.push((T::TYPE, Deliver::Tell(Box::new(deliver))));
        self
    }

    /// Lets others ask `C`, which becomes what `into_message` makes of it. `into_answer` turns what the actor
    /// replies into what crosses; it runs in the actor. Both must be quick.
    #[must_use]
    pub fn call<C: RemoteCall, T: 'static>(
        mut self,
        into_message: impl Fn(C, &Origin, Reply<T>) -> M + Send + Sync + 'static,
        into_answer: impl Fn(T) -> C::Reply + Send + Sync + 'static,
    ) -> Self {
        let actor = self.actor.clone();
        let into_answer = Arc::new(into_answer);
        let deliver = move |body: &[u8], origin: &Origin, wait: (Instant, Duration), mut path: AnswerPath| {
            let message = match codec::decode::<C>(body) {
                Ok(message) => message,
                Err(problem) => return path.refuse(&Undelivered::Decode(problem)),
            };
            let into_answer = Arc::clone(&into_answer);
            actor.pass_on(
                |reply| into_message(message, origin, reply),
                wait,
                path.begin(),
                move |answer| match answer {
                    Ok(value) => path.answer(&into_answer(value)),
                    Err(why) => path.unanswered(&why),
                },
            );
        };
        self.messages.push((C::TYPE, Deliver::Call(Box::new(deliver))));
        self
    }

    /// Lets others ask `S`, which becomes what `into_message` makes of it and is answered many times.
    /// `into_item` turns what the actor answers into what crosses; it runs on the network's thread. Both must
    /// be quick.
    #[must_use]
    pub fn stream<S: RemoteStream, T: Send + 'static>(
        mut self,
        into_message: impl Fn(S, &Origin, Replies<T>) -> M + Send + Sync + 'static,
        into_item: impl Fn(T) -> S::Item + Send + Sync + 'static,
    ) -> Self {
        let actor = self.actor.clone();
        let into_item = Arc::new(into_item);
        let deliver = move |body: &[u8], origin: &Origin| -> Result<Box<dyn Answers>, Undelivered> {
            let message = codec::decode(body).map_err(Undelivered::Decode)?;
            let (replies, from) = Replies::bounded(ANSWERS_WAITING_MAX);
            let told = actor.try_tell(into_message(message, origin, replies));
            told.map_err(|refused| undelivered(&refused))?;
            Ok(Box::new(Converted { from, into_item: Arc::clone(&into_item) }))
        };
        self.messages.push((S::TYPE, Deliver::Stream(Box::new(deliver))));
        self
    }

    fn type_twice(&self) -> Option<MessageType> {
        let numbers = self.messages.iter().map(|(number, _)| *number);
        let mut numbers: Vec<_> = numbers.collect();
        numbers.sort_unstable();
        numbers.windows(2).find(|pair| pair[0] == pair[1]).map(|pair| pair[0])
    }
}

fn undelivered<M>(refused: &Refused<M>) -> Undelivered {
    match refused.reason {
        RefusedReason::Overloaded => Undelivered::Overloaded,
        RefusedReason::Stopped | RefusedReason::Quarantined => Undelivered::Down,
    }
}

impl Exports {
    /// Nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Offers an actor. Its handle is valid over restarts, and so is the offer.
    ///
    /// # Errors
    /// [`OfferError`]; nothing has changed then.
    pub fn offer<M: Message>(&self, offer: Offer<M>) -> Result<(), OfferError> {
        self.offer_at(target_of(&offer.name), offer)
    }

    fn offer_at<M: Message>(&self, target: TargetActor, mut offer: Offer<M>) -> Result<(), OfferError> {
        if let Some(MessageType(number)) = offer.type_twice() {
            return Err(OfferError::TypeTwice { name: offer.name, number });
        }
        offer.messages.sort_by_key(|(number, _)| *number);
        let (actor, full) = (offer.actor.clone(), offer.actor);
        let watch: Watch = Box::new(move |tell| actor.monitor(tell));
        let room: WaitForRoom = Box::new(move || {
            let full = full.clone();
            Box::pin(async move { full.room().await })
        });
        let mut all = self.offered.write();
        // LANE-5: two names with one number cannot both be offered.
        if let Some(known) = all.get(&target) {
            return Err(OfferError::Taken { name: offer.name, taken_by: Arc::clone(&known.name) });
        }
        all.insert(target, Arc::new(Offered { name: offer.name, messages: offer.messages, watch, room }));
        self.changes.fetch_add(1, Ordering::Release);
        Ok(())
    }

    /// Offers the actor of this name no longer. `false`: it was not offered.
    pub fn withdraw(&self, name: &str) -> bool {
        let mut all = self.offered.write();
        let withdrawn = all.remove(&target_of(name));
        self.changes.fetch_add(1, Ordering::Release);
        drop(all);
        withdrawn.is_some()
    }

    pub(super) fn find(&self, target: TargetActor) -> Option<Arc<Offered>> {
        self.offered.read().get(&target).cloned()
    }

    /// Where messages to this address go now.
    pub(super) fn route(&self, to: Address) -> Result<Route, Undelivered> {
        // Before the look: a change in between makes it be looked up again.
        let changes = self.changes.load(Ordering::Acquire);
        let offered = self.find(to.actor).ok_or(Undelivered::UnknownActor)?;
        let at = offered.messages.binary_search_by_key(&to.message, |(number, _)| *number).ok();
        Ok(Route { to, changes, offered, at })
    }
}

impl Route {
    /// It is the way to this address still.
    #[inline]
    pub(super) fn leads_to(&self, to: Address, exports: &Exports) -> bool {
        self.to == to && self.changes == exports.changes.load(Ordering::Acquire)
    }

    /// How the message is delivered, if the actor takes one of this type.
    #[inline]
    pub(super) fn deliver(&self) -> Result<&Deliver, Undelivered> {
        let found = self.at.and_then(|at| self.offered.messages.get(at));
        found.map(|(_, deliver)| deliver).ok_or(Undelivered::UnknownMessage(self.to.message))
    }
}

impl Offered {
    /// Resolves when the actor may have room.
    pub(super) fn room(&self) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        (self.room)()
    }

    pub(super) fn watch(&self, tell: TellDown) -> MonitorGuard {
        (self.watch)(tell)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::remote::tests::actor::{Bump, Sum, counter};

    #[tokio::test]
    async fn lane_5_a_name_is_offered_once_and_so_is_a_number() {
        // LANE-5
        let (_system, counter) = counter(10).await;
        let exports = Exports::new();
        exports.offer(Offer::new("one", &counter)).unwrap();
        let taken = |name: &str| Err(OfferError::Taken { name: name.into(), taken_by: "one".into() });
        assert_eq!(exports.offer(Offer::new("one", &counter)), taken("one"));
        // No second name with the same number is known: this is what it would meet.
        assert_eq!(exports.offer_at(target_of("one"), Offer::new("two", &counter)), taken("two"));
        assert!(exports.withdraw("one"));
        assert!(!exports.withdraw("one"));
        exports.offer(Offer::new("one", &counter)).unwrap();

        let twice =
            Offer::new("three", &counter).tell(|bump: Bump, _| bump.into()).tell(|bump: Bump, _| bump.into());
        let number = Bump::TYPE.0;
        assert_eq!(exports.offer(twice), Err(OfferError::TypeTwice { name: "three".into(), number }));
        let _ = Sum::TYPE;
    }
}
