//! What a member says of others.
//!
//! Owns what of it is dropped before anything acts on it. Nobody signs what is said of a member, so a member
//! that lies can say anything; these are the lies that would do lasting harm. What a node says of itself is
//! its own affair. Refuses to know the protocol.

use std::collections::BTreeSet;

use foca::Member;

use super::identity::MemberIdentity;
use crate::identity::NodeId;

/// What is known better than by hearsay.
#[derive(Debug)]
pub(super) struct Hearsay {
    own: NodeId,
    /// Nodes that this one has a connection with: they say themselves when they leave.
    pub(super) connected: BTreeSet<NodeId>,
    /// MEMBER-22: no start of any node can be later than this.
    pub(super) incarnation_max: u64,
}

impl Hearsay {
    pub(super) fn new(own: NodeId) -> Self {
        Self { own, connected: BTreeSet::new(), incarnation_max: u64::MAX }
    }

    /// MEMBER-22: whether what `teller` says of a member is taken in.
    pub(super) fn is_credible(&self, teller: Option<NodeId>, member: &Member<MemberIdentity>) -> bool {
        let subject = member.id();
        if teller == Some(subject.id) {
            return true;
        }
        let has_left = subject.has_left() && (subject.id == self.own || self.connected.contains(&subject.id));
        subject.incarnation <= self.incarnation_max && !has_left
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
