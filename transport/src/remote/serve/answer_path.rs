//! The way back of one answer.
//!
//! Owns that each ask is answered or refused once, and that the room that was promised for its answer is
//! given back.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use arw_kit::mailbox::{AskCancel, AskError, RefusedReason};
use serde::Serialize;

use super::{Server, Undelivered};
use crate::frame::{CallId, Header, TargetActor};
use crate::lanes::{PushError, Room};
use crate::wire::{Refused, ReplyRefusal};

/// The way back to who asked. LANE-10: it is taken once. Whoever drops it without a word refuses the ask.
pub(in crate::remote) struct AnswerPath {
    server: Arc<Server>,
    /// Who was asked: its answers keep their order.
    actor: TargetActor,
    call: CallId,
    is_promised: bool,
    /// It can be cancelled.
    is_begun: bool,
    is_over: bool,
}

impl AnswerPath {
    pub(super) fn new(server: Arc<Server>, actor: TargetActor, call: CallId) -> Self {
        Self { server, actor, call, is_promised: false, is_begun: false, is_over: false }
    }

    /// Room is kept for the answer. `false`: there is none.
    pub(super) fn promise(&mut self) -> bool {
        self.is_promised = self.server.lanes.promises.make();
        self.is_promised
    }

    /// The actor gets the ask: from now on the peer can cancel it.
    pub(in crate::remote) fn begin(&mut self) -> AskCancel {
        let ask = AskCancel::new();
        self.is_begun = self.server.begun.lock().begin(self.call, ask.clone());
        ask
    }

    /// It can be cancelled no more. `true`: it was, and nobody waits for a word.
    fn end(&mut self) -> bool {
        if !std::mem::take(&mut self.is_begun) {
            return false;
        }
        let ended = self.server.begun.lock().end(self.call);
        self.is_promised &= !ended.gave_promise_back;
        self.is_over |= ended.is_cancelled;
        ended.is_cancelled
    }

    #[inline]
    pub(in crate::remote) fn answer<T: Serialize>(mut self, value: &T) {
        if self.end() {
            return;
        }
        let header = Header::Reply { call: self.call };
        let pushed = self.server.lanes.push(self.actor, &header, value, Room::Answer);
        match pushed {
            Ok(bytes) => {
                self.server.lanes.promises.note(bytes);
                self.is_over = true;
            }
            Err(PushError::Write(problem)) => {
                self.send_refusal(&Refused::new(ReplyRefusal::Unanswerable, &problem.to_string()));
            }
            Err(PushError::Full) => {
                self.server.counters.refused_answers.fetch_add(1, Ordering::Relaxed);
                let detail = "the answer finds no room: more answers wait to be read than may";
                self.send_refusal(&Refused::new(ReplyRefusal::Overloaded, detail));
            }
            // LANE-11: the connection is over, which ends the ask.
            Err(PushError::Closed) => self.is_over = true,
        }
    }

    pub(in crate::remote) fn refuse(mut self, why: &Undelivered) {
        self.send_refusal(&why.refusal());
    }

    /// The actor took the message and did not answer, or did not take it.
    pub(in crate::remote) fn unanswered(mut self, why: &AskError) {
        let (reason, detail) = match why {
            AskError::Refused(RefusedReason::Overloaded) => (ReplyRefusal::Overloaded, ""),
            AskError::Refused(RefusedReason::Stopped) | AskError::Stopped => (ReplyRefusal::Down, ""),
            AskError::Refused(RefusedReason::Quarantined) => (ReplyRefusal::Down, "it is quarantined"),
            AskError::Expired(_) => (ReplyRefusal::Expired, ""),
            AskError::Crashed => (ReplyRefusal::Crashed, ""),
            AskError::NoReply => (ReplyRefusal::Unanswerable, "the actor did not answer"),
        };
        self.send_refusal(&Refused::new(reason, detail));
    }

    #[cold]
    pub(super) fn send_refusal(&mut self, refused: &Refused) {
        if self.end() {
            return;
        }
        self.is_over = true;
        self.server.counters.refused_asks.fetch_add(1, Ordering::Relaxed);
        let header = Header::Refusal { call: self.call };
        if self.server.lanes.push(self.actor, &header, refused, Room::Refusal) == Err(PushError::Full) {
            self.server.lanes.nothing_is_read();
        }
    }
}

impl Drop for AnswerPath {
    fn drop(&mut self) {
        if !self.is_over {
            self.send_refusal(&Undelivered::Crashed.refusal());
        }
        if self.is_promised {
            self.server.lanes.promises.keep();
        }
    }
}
