//! What the network found out, as the kernel is told it.
//!
//! Owns the conversion. Refuses to know what follows from it.

use arw_actors::cluster::{ClusterUpdate, Contact, MemberState, MemberUpdate, OwnPlace};
use arw_kit::moment::{Moment, WallTime};

use super::address::Origin;
use super::warnings;
use crate::certificate::{Certificate, Roles};
use crate::endpoint::{ConnectionRow, Picture};
use crate::identity::NodeId;
use crate::membership::{DownReason, MemberIdentity, NodeEntry, NodeState, ViewChange};

/// What a change of the picture means; `None` where nothing is shown of it.
pub(super) fn of_change(now: Moment, change: &ViewChange) -> Option<ClusterUpdate> {
    let member = |member: &MemberIdentity, state, reason| {
        Some(ClusterUpdate::Member(MemberUpdate {
            node: member.id,
            incarnation: member.incarnation,
            address: member.address,
            state,
            since: now,
            reason,
            last_seen: now,
        }))
    };
    match change {
        ViewChange::Joined { member: it }
        | ViewChange::Restarted { after: it, .. }
        | ViewChange::Returned { member: it, .. }
        | ViewChange::Cleared { member: it }
        | ViewChange::Moved { member: it, .. } => member(it, MemberState::Up, None),
        // When it was last seen only the whole picture knows; it follows within seconds.
        ViewChange::Suspected { .. } | ViewChange::WentDown { .. } | ViewChange::Refused { .. } => None,
        ViewChange::Forgotten { member: it, .. } => Some(ClusterUpdate::Forgotten { node: it.id }),
    }
}

/// A node, as the whole picture shows it.
pub(super) fn of_entry(entry: &NodeEntry) -> MemberUpdate {
    MemberUpdate {
        node: entry.identity.id,
        incarnation: entry.identity.incarnation,
        address: entry.identity.address,
        state: match entry.state {
            NodeState::Up => MemberState::Up,
            NodeState::Suspect => MemberState::Suspect,
            NodeState::Down => MemberState::Down,
            NodeState::Left => MemberState::Left,
        },
        since: entry.since,
        reason: entry.reason.map(|reason| words(reason).to_owned()),
        last_seen: entry.last_seen,
    }
}

fn words(reason: DownReason) -> &'static str {
    match reason {
        DownReason::Left => "it said good-bye",
        DownReason::Unreachable => "it does not answer",
        DownReason::Reported => "other nodes say that it does not answer",
    }
}

/// The other end of a connection.
pub(super) fn contact(connection: &ConnectionRow) -> Contact {
    let peer = &connection.peer;
    Contact {
        node: peer.id,
        name: peer.name.clone(),
        roles: role_words(peer.certificate.roles),
        incarnation: peer.incarnation,
        address: connection.address,
        rtt: connection.rtt,
    }
}

/// This node's own place.
pub(super) fn place(
    picture: &Picture,
    certificate: &Certificate,
    issuer: NodeId,
    told_by: &Origin,
    wall: WallTime,
) -> OwnPlace {
    OwnPlace {
        cluster: certificate.cluster.to_string(),
        roles: role_words(certificate.roles),
        address: picture.own.address,
        address_by: told_by.to_string(),
        certificate_until: certificate.not_after,
        warnings: warnings::of(picture, certificate, issuer, wall),
        is_issuer: picture.own.id == issuer,
        issuer,
    }
}

/// The words of some roles.
pub(super) fn role_words(roles: Roles) -> Vec<String> {
    roles.iter().map(|role| role.word().to_owned()).collect()
}
