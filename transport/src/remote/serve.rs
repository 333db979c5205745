//! What becomes of a message that another node sent to an actor of this one.
//!
//! Owns the refusals and the way back of an answer. Refuses to wait: what an actor does not take at once is refused, so that one full mailbox never
//! holds the others of its lane up.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arw_actors::mailbox::{AskError, RefusedReason};
use serde::Serialize;

use super::exports::{Deliver, Exports};
use super::protocol::Origin;
use crate::codec::DecodeError;
use crate::frame::{CallId, FrameRefusal, Header, Kind, MessageType, TargetActor};
use crate::identity::NodeId;
use crate::lanes::{Lanes, Room};
use crate::wire::{Refused, ReplyRefusal};

/// A message did not reach its actor.
#[derive(Debug)]
pub(super) enum Undelivered {
    Overloaded,
    Expired,
    UnknownActor,
    UnknownMessage(MessageType),
    Fenced { meant: u64, own: u64 },
    Decode(DecodeError),
    Down,
}

impl Undelivered {
    fn refusal(&self) -> Refused {
        match self {
            Self::Overloaded => Refused::new(ReplyRefusal::Overloaded, ""),
            Self::Expired => Refused::new(ReplyRefusal::Expired, ""),
            Self::UnknownActor => Refused::new(ReplyRefusal::Unknown, ""),
            Self::UnknownMessage(MessageType(number)) => {
                Refused::new(ReplyRefusal::UnknownMessage, &format!("type {number}"))
            }
            Self::Fenced { meant, own } => {
                Refused::new(ReplyRefusal::Fenced, &format!("it was for start {meant}, this is start {own}"))
            }
            Self::Decode(problem) => Refused::new(ReplyRefusal::Decode, &problem.to_string()),
            Self::Down => Refused::new(ReplyRefusal::Down, ""),
        }
    }
}

/// Serves the messages of one connection.
pub(super) struct Server {
    pub(super) exports: Arc<Exports>,
    pub(super) lanes: Arc<Lanes>,
    pub(super) peer: NodeId,
    pub(super) peer_incarnation: u64,
    pub(super) own_incarnation: u64,
    pub(super) counters: Arc<ServeCounters>,
}

/// What was not delivered or answered.
#[derive(Debug, Default)]
pub(super) struct ServeCounters {
    pub(super) lost_tells: AtomicU64,
    pub(super) refused_asks: AtomicU64,
    pub(super) dropped_answers: AtomicU64,
}

impl Server {
    /// Delivers a tell or an ask.
    pub(super) fn serve(&self, header: &Header, body: &[u8]) {
        match header.call {
            Some(call) => self.serve_ask(header, call, body),
            None => {
                if self.deliver_tell(header, body).is_err() {
                    self.counters.lost_tells.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
    }

    /// A frame that this version does not understand. WIRE-3: who waits for an answer is told.
    pub(super) fn refuse_frame(&self, refusal: FrameRefusal) {
        let Some(call) = refusal.answer_to else { return };
        let path = self.path(call, TargetActor(0), MessageType(0), None);
        path.send_refusal(&Refused::new(refusal.reason.into(), &refusal.reason.to_string()));
    }

    fn deliver_tell(&self, header: &Header, body: &[u8]) -> Result<(), Undelivered> {
        self.judge(header)?;
        let offered = self.exports.find(header.target).ok_or(Undelivered::UnknownActor)?;
        // LANE-8
        match offered.message(header.message) {
            Some(Deliver::Tell(deliver)) => deliver(body, &self.origin(header)),
            Some(Deliver::Call(_)) | None => Err(Undelivered::UnknownMessage(header.message)),
        }
    }

    fn serve_ask(&self, header: &Header, call: CallId, body: &[u8]) {
        let path = self.path(call, header.target, header.message, header.trace);
        // Where no answer finds room, the work for it is not begun.
        if !self.lanes.has_room_for_answer(header.target) {
            return path.refuse(&Undelivered::Overloaded);
        }
        if let Err(why) = self.judge(header) {
            return path.refuse(&why);
        }
        let Some(offered) = self.exports.find(header.target) else {
            return path.refuse(&Undelivered::UnknownActor);
        };
        let left = Duration::from_millis(header.deadline_ms.unwrap_or(0).into());
        match offered.message(header.message) {
            Some(Deliver::Call(deliver)) => deliver(body, &self.origin(header), left, path),
            Some(Deliver::Tell(_)) | None => path.refuse(&Undelivered::UnknownMessage(header.message)),
        }
    }

    fn judge(&self, header: &Header) -> Result<(), Undelivered> {
        // WIRE-7: what was meant for another start of this node does nothing.
        if header.incarnation != self.own_incarnation {
            return Err(Undelivered::Fenced { meant: header.incarnation, own: self.own_incarnation });
        }
        if header.deadline_ms == Some(0) {
            return Err(Undelivered::Expired);
        }
        Ok(())
    }

    fn origin(&self, header: &Header) -> Origin {
        Origin { node: self.peer, trace: header.trace }
    }

    fn path(
        &self,
        call: CallId,
        target: TargetActor,
        message: MessageType,
        trace: Option<crate::frame::Trace>,
    ) -> AnswerPath {
        AnswerPath {
            lanes: Arc::clone(&self.lanes),
            counters: Arc::clone(&self.counters),
            header: Header {
                kind: Kind::Reply,
                target,
                incarnation: self.peer_incarnation,
                call: Some(call),
                message,
                deadline_ms: None,
                trace,
            },
        }
    }
}

/// The way back to who asked.
pub(super) struct AnswerPath {
    lanes: Arc<Lanes>,
    counters: Arc<ServeCounters>,
    header: Header,
}

impl AnswerPath {
    pub(super) fn answer<T: Serialize>(&self, value: &T) {
        use crate::lanes::PushError;
        match self.lanes.push(&self.header, value, Room::Answer) {
            Ok(()) => {}
            Err(PushError::Write(problem)) => {
                self.send_refusal(&Refused::new(ReplyRefusal::Unanswerable, &problem.to_string()));
            }
            // LANE-10: an answer that finds no room is dropped: the asker's deadline ends the ask.
            Err(PushError::Full | PushError::Closed) => self.dropped(),
        }
    }

    pub(super) fn refuse(&self, why: &Undelivered) {
        self.send_refusal(&why.refusal());
    }

    /// The actor took the message and did not answer, or did not take it.
    pub(super) fn unanswered(&self, why: &AskError) {
        let (reason, detail) = match why {
            AskError::Refused(RefusedReason::Overloaded) => (ReplyRefusal::Overloaded, ""),
            AskError::Refused(RefusedReason::Stopped) | AskError::Stopped => (ReplyRefusal::Down, ""),
            AskError::Refused(RefusedReason::Quarantined) => {
                (ReplyRefusal::Down, "it is quarantined after too many restarts")
            }
            AskError::Expired(_) => (ReplyRefusal::Expired, ""),
            AskError::Crashed => (ReplyRefusal::Crashed, ""),
            AskError::NoReply => (ReplyRefusal::Unanswerable, "the actor did not answer"),
        };
        self.send_refusal(&Refused::new(reason, detail));
    }

    fn send_refusal(&self, refused: &Refused) {
        self.counters.refused_asks.fetch_add(1, Ordering::Relaxed);
        let header = Header { kind: Kind::Refusal, ..self.header };
        if self.lanes.push(&header, refused, Room::Answer).is_err() {
            self.dropped();
        }
    }

    fn dropped(&self) {
        self.counters.dropped_answers.fetch_add(1, Ordering::Relaxed);
    }
}
