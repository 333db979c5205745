//! Where foca puts what it wants done.
//!
//! Owns timers, waiting outputs and counters, and turns foca's notifications into events. Refuses to decide.

use std::collections::VecDeque;
use std::time::Duration;

use arw_kit::moment::Moment;
use bytes::Bytes;
use foca::{Notification, Runtime, Timer};

use super::config::DATAGRAMS_WAITING_MAX;
use super::event::{DownReason, MembershipCounters, MembershipEvent, MembershipOutput};
use super::identity::MemberIdentity;
use super::pace::Pace;
use super::packet::read_header;
use super::timers::{Due, Timers};
use crate::identity::NodeId;

/// What foca produced, and what is known of the step that it is in.
#[derive(Debug)]
pub(super) struct Outbox {
    pub(super) timers: Timers,
    pub(super) counters: MembershipCounters,
    pub(super) pace: Pace,
    waiting: VecDeque<MembershipOutput>,
    datagrams_waiting: usize,
    own: NodeId,
    /// How often this identity has refuted a suspicion, as last sent.
    own_life: u16,
    /// Of the current step.
    now: Moment,
    verdict: DownReason,
    /// The step brought a suspicion of this node: watch what it answers.
    pub(super) is_suspected: bool,
    /// Nodes that may be suspects now.
    pub(super) in_question: Vec<NodeId>,
    /// Nodes that came, went or took another identity: if they were suspects, they may be no longer.
    pub(super) changed: Vec<NodeId>,
    /// Nodes that this node will judge.
    pub(super) accused: Vec<NodeId>,
    /// Nodes went down that will be sought.
    pub(super) has_lost: bool,
    /// This node's identity was renewed.
    pub(super) has_rejoined: bool,
}

impl Outbox {
    pub(super) fn new(own: NodeId) -> Self {
        Self {
            timers: Timers::default(),
            counters: MembershipCounters::default(),
            pace: Pace::default(),
            waiting: VecDeque::new(),
            datagrams_waiting: 0,
            own,
            own_life: 0,
            now: Moment::ZERO,
            verdict: DownReason::Reported,
            is_suspected: false,
            in_question: Vec::new(),
            changed: Vec::new(),
            accused: Vec::new(),
            has_lost: false,
            has_rejoined: false,
        }
    }

    /// Begins a step; whoever goes down in it does so for the reason `verdict`, unless it left.
    pub(super) fn begin(&mut self, now: Moment, verdict: DownReason) {
        self.now = now;
        self.verdict = verdict;
        self.is_suspected = false;
        self.has_lost = false;
        self.has_rejoined = false;
    }

    pub(super) fn tell(&mut self, event: MembershipEvent) {
        self.waiting.push_back(MembershipOutput::Event(event));
    }

    pub(super) fn next(&mut self) -> Option<MembershipOutput> {
        let output = self.waiting.pop_front()?;
        if matches!(output, MembershipOutput::Datagram { .. }) {
            self.datagrams_waiting -= 1;
        }
        Some(output)
    }

    pub(super) fn send(&mut self, to: NodeId, data: &[u8]) {
        if self.datagrams_waiting >= DATAGRAMS_WAITING_MAX {
            self.counters.sent_dropped += 1;
            return;
        }
        self.counters.sent += 1;
        self.counters.sent_bytes += data.len() as u64;
        self.datagrams_waiting += 1;
        let bytes = Bytes::copy_from_slice(data);
        self.waiting.push_back(MembershipOutput::Datagram { to, bytes });
    }

    /// How often this identity has refuted a suspicion.
    pub(super) fn own_life(&self) -> u16 {
        self.own_life
    }

    /// Another identity starts without refutations.
    pub(super) fn forget_own_life(&mut self) {
        self.own_life = 0;
    }

    /// foca does not say that it refutes a suspicion; what it sends does.
    fn watch_refutation(&mut self, datagram: &[u8]) {
        if let Ok((_, header)) = read_header(&mut &*datagram)
            && header.src_incarnation > self.own_life
        {
            self.own_life = header.src_incarnation;
            self.tell(MembershipEvent::SelfRefuted);
        }
    }
}

impl Runtime<MemberIdentity> for Outbox {
    fn notify(&mut self, notification: Notification<'_, MemberIdentity>) {
        match notification {
            // Older identities of this node are news to others only.
            Notification::MemberUp(member) | Notification::MemberDown(member) if member.id == self.own => {}
            Notification::Rename(_, after) if after.id == self.own => {}
            Notification::MemberUp(member) => {
                self.changed.push(member.id);
                self.tell(MembershipEvent::MemberUp { member: *member });
            }
            Notification::MemberDown(member) => {
                self.changed.push(member.id);
                self.has_lost |= !member.has_left();
                let reason = if member.has_left() { DownReason::Left } else { self.verdict };
                self.tell(MembershipEvent::MemberDown { member: *member, reason });
            }
            Notification::Rename(before, after) => {
                self.changed.push(after.id);
                // Good-byes come with a rename, of which the end is the news.
                if !after.has_left() {
                    self.tell(MembershipEvent::Renamed { before: *before, after: *after });
                }
            }
            Notification::Rejoin(own) => {
                self.has_rejoined = true;
                self.forget_own_life();
                self.tell(MembershipEvent::Rejoined { own: *own });
            }
            // Whether anybody else is there follows from the events above.
            Notification::Active | Notification::Defunct => {}
            Notification::Idle => self.pace.alone(),
        }
    }

    fn send_to(&mut self, to: MemberIdentity, data: &[u8]) {
        if self.is_suspected {
            self.watch_refutation(data);
        }
        self.send(to.id, data);
    }

    fn submit_after(&mut self, timer: Timer<MemberIdentity>, after: Duration) {
        if let Timer::ChangeSuspectToDown { member_id, .. } = &timer {
            self.in_question.push(member_id.id);
            self.accused.push(member_id.id);
        }
        let after = match &timer {
            Timer::ChangeSuspectToDown { .. } => self.pace.stretch_verdict(after),
            // How long a node that is down is kept has nothing to do with how late this one runs.
            Timer::RemoveDown(_) => after,
            _ => self.pace.stretch(after),
        };
        self.timers.set(self.now + after, Due::Protocol(timer));
    }
}
