//! What a member says of others.
//!
//! Owns what of it is believed. A node says itself, and signs, in which start it is, where it is and that it
//! goes; all others can say of it is that they doubt that it lives. That doubt is settled on the own
//! connection with it, where there is one. And only who has shown its certificate on a connection with this
//! node is a member here: others are told of, to be dialed, and no more. Refuses to know the protocol.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use arw_kit::moment::Moment;
use foca::{Member, State};

use super::identity::MemberIdentity;
use super::packet::Statement;
use super::record::{Forged, Record, Records, Standing};
use crate::identity::NodeId;

/// Nodes that this node was told of and has not met, at most: a quarter of the members that it may know.
const INTRODUCED_MAX: usize = 1_024;

/// Of them by one teller, so that one that makes them up leaves room for others.
const INTRODUCED_BY_ONE_MAX: usize = 256;

/// How long a node is remembered that nobody speaks of any more, and that was never met.
const INTRODUCED_KEPT: Duration = Duration::from_secs(3_600);

/// What is known better than by hearsay, and what is known by it alone.
#[derive(Debug)]
pub(super) struct Hearsay {
    own: NodeId,
    /// Nodes that this one has a connection with.
    connected: BTreeSet<NodeId>,
    /// Nodes that have shown their certificate, and in which start; 0 where nobody says.
    met: BTreeMap<NodeId, u64>,
    introduced: BTreeMap<NodeId, Introduction>,
}

#[derive(Clone, Copy, Debug)]
struct Introduction {
    record: Record,
    by: Option<NodeId>,
    heard: Moment,
}

/// What is believed of what somebody said.
#[derive(Debug, Default)]
pub(super) struct Judged {
    pub(super) members: Vec<Member<MemberIdentity>>,
    pub(super) doubted: Vec<Doubt>,
    /// Nodes to be met.
    pub(super) introduced: Vec<MemberIdentity>,
    /// How much was not credible.
    pub(super) dropped: u64,
}

/// Others doubt that a member lives that this node is connected with: it asks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Doubt {
    pub(super) member: NodeId,
    /// They say that it is down, not only that it may be.
    pub(super) is_down: bool,
}

impl Hearsay {
    pub(super) fn new(own: NodeId) -> Self {
        Self { own, connected: BTreeSet::new(), met: BTreeMap::new(), introduced: BTreeMap::new() }
    }

    /// MEMBER-24: `node` has shown its certificate, as the start `incarnation` of it.
    pub(super) fn meet(&mut self, node: NodeId, incarnation: u64) {
        let known = self.met.entry(node).or_default();
        *known = (*known).max(incarnation);
        self.introduced.remove(&node);
    }

    /// The latest start of `node` that has said hello.
    pub(super) fn start_met(&self, node: NodeId) -> Option<u64> {
        self.met.get(&node).copied()
    }

    pub(super) fn set_connected(&mut self, node: NodeId, is_connected: bool) {
        if is_connected {
            self.connected.insert(node);
        } else {
            self.connected.remove(&node);
        }
    }

    pub(super) fn is_connected(&self, node: &NodeId) -> bool {
        self.connected.contains(node)
    }

    /// `node` must show its certificate again before it is a member.
    pub(super) fn forget(&mut self, node: NodeId) {
        self.met.remove(&node);
    }

    /// Takes in what `teller` says, in a datagram or, where it is `None`, in a snapshot.
    pub(super) fn judge(
        &mut self,
        now: Moment,
        teller: Option<NodeId>,
        statements: &[Statement],
        records: &mut Records,
    ) -> Result<Judged, Forged> {
        let mut judged = Judged::default();
        for said in statements {
            if let Err(forged) = self.judge_one(now, teller, said, records, &mut judged) {
                // Nobody is told of whom it has introduced: another one must be able to.
                for member in &judged.introduced {
                    self.introduced.remove(&member.id);
                }
                return Err(forged);
            }
        }
        Ok(judged)
    }

    fn judge_one(
        &mut self,
        now: Moment,
        teller: Option<NodeId>,
        said: &Statement,
        records: &mut Records,
        judged: &mut Judged,
    ) -> Result<(), Forged> {
        let subject = said.record.identity.id;
        if subject == self.own {
            judge_of_own(said, records, judged);
        } else if let Some(&start) = self.met.get(&subject) {
            if said.record.identity.incarnation >= start {
                self.judge_of_member(teller, said, records, judged)?;
            }
        } else if said.state != State::Down {
            self.introduce(now, teller, said, records, judged)?;
        }
        Ok(())
    }

    fn judge_of_member(
        &self,
        teller: Option<NodeId>,
        said: &Statement,
        records: &mut Records,
        judged: &mut Judged,
    ) -> Result<(), Forged> {
        // MEMBER-23
        let Standing::Newest(record) = records.take(&said.record)? else { return Ok(()) };
        let identity = record.identity;
        if identity.has_left() {
            judged.members.push(Member::new(identity, record.life, State::Down));
            return Ok(());
        }
        match said.state {
            State::Alive => judged.members.push(Member::new(identity, record.life, State::Alive)),
            // A life that its node has not begun cannot be over.
            State::Suspect | State::Down if said.life > record.life => judged.dropped += 1,
            State::Suspect | State::Down => {
                // MEMBER-25: the own connection decides.
                let is_asked = self.connected.contains(&identity.id) && teller != Some(identity.id);
                let state = if is_asked { State::Suspect } else { said.state };
                if is_asked {
                    let is_down = said.state == State::Down;
                    judged.doubted.push(Doubt { member: identity.id, is_down });
                }
                judged.members.push(Member::new(identity, said.life, state));
            }
        }
        Ok(())
    }

    /// MEMBER-24: somebody speaks of a node that this one has not met.
    fn introduce(
        &mut self,
        now: Moment,
        teller: Option<NodeId>,
        said: &Statement,
        records: &mut Records,
        judged: &mut Judged,
    ) -> Result<(), Forged> {
        let record = said.record;
        let node = record.identity.id;
        if let Some(known) = self.introduced.get_mut(&node)
            && record.identity.version() <= known.record.identity.version()
        {
            known.heard = now;
            return Ok(());
        }
        let of_teller = || self.introduced.values().filter(|known| known.by == teller).count();
        let is_room = self.introduced.contains_key(&node)
            || (self.introduced.len() < INTRODUCED_MAX && of_teller() < INTRODUCED_BY_ONE_MAX);
        if !is_room {
            judged.dropped += 1;
            return Ok(());
        }
        records.check(&record)?;
        self.introduced.insert(node, Introduction { record, by: teller, heard: now });
        judged.introduced.push(record.identity);
        Ok(())
    }

    /// Nodes that were never met and that nobody has spoken of for long. They are forgotten.
    pub(super) fn forget_strangers(&mut self, now: Moment) -> Vec<NodeId> {
        let is_over = |known: &Introduction| now.since(known.heard) >= INTRODUCED_KEPT;
        let over: Vec<NodeId> =
            self.introduced.iter().filter(|(_, known)| is_over(known)).map(|(node, _)| *node).collect();
        for node in &over {
            self.introduced.remove(node);
        }
        over
    }
}

/// MEMBER-23: of itself a node believes others one thing: that its present life is doubted.
fn judge_of_own(said: &Statement, records: &Records, judged: &mut Judged) {
    let own = records.own_now();
    let is_this_life = said.record.identity == own.identity && said.life <= own.life;
    if is_this_life && !said.is_bare() {
        judged.members.push(Member::new(own.identity, said.life, said.state));
    } else if said.record.identity.version() >= own.identity.version() && !said.is_bare() {
        judged.dropped += 1;
    }
}

/// MEMBER-10: of those in `subjects` who are new, the ones for whom there is no room.
pub(super) fn without_room(
    subjects: impl Iterator<Item = NodeId>,
    known: &BTreeSet<NodeId>,
    max: usize,
) -> BTreeSet<NodeId> {
    let room = max.saturating_sub(known.len());
    let (mut let_in, mut refused) = (BTreeSet::new(), BTreeSet::new());
    for subject in subjects.filter(|subject| !known.contains(subject)) {
        if let_in.len() < room {
            let_in.insert(subject);
        } else if !let_in.contains(&subject) {
            refused.insert(subject);
        }
    }
    refused
}
