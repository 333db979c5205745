//! Who is under suspicion.
//!
//! foca tells who comes and goes, not who is suspected: that is found by comparing. Owns the list of
//! suspects; refuses to judge them.

use std::collections::BTreeMap;

use foca::{Member, State};

use super::event::MembershipEvent;
use super::identity::MemberIdentity;
use crate::identity::NodeId;

/// The members that were suspects when last looked at.
#[derive(Debug, Default)]
pub(super) struct Suspicions {
    suspects: BTreeMap<NodeId, MemberIdentity>,
}

impl Suspicions {
    pub(super) fn holds(&self, node: &NodeId) -> bool {
        self.suspects.contains_key(node)
    }

    /// Compares `node` with what the protocol says of it now. Ends and renames are told by the protocol
    /// itself.
    pub(super) fn compare(
        &mut self,
        node: NodeId,
        now: Option<&Member<MemberIdentity>>,
    ) -> Option<MembershipEvent> {
        let suspect = now.filter(|member| member.state() == State::Suspect).map(|member| *member.id());
        match (self.suspects.get(&node).copied(), suspect) {
            (None, None) => None,
            (Some(before), Some(now)) if before == now => None,
            (_, Some(member)) => {
                self.suspects.insert(node, member);
                Some(MembershipEvent::MemberSuspect { member })
            }
            (Some(before), None) => {
                self.suspects.remove(&node);
                let alive = now.filter(|member| member.state() == State::Alive && *member.id() == before)?;
                Some(MembershipEvent::MemberCleared { member: *alive.id() })
            }
        }
    }
}
