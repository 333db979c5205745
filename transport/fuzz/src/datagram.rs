//! Membership's datagrams and snapshots: whatever a member sends, nothing panics and the limit of members holds.

use std::time::Duration;

use arw_kit::moment::Moment;
use arw_transport::identity::NodeId;
use arw_transport::membership::{MemberIdentity, Membership, MembershipConfig};

const MEMBERS_MAX: usize = 8;

fn node(byte: u8) -> MemberIdentity {
    MemberIdentity::new(NodeId::from_bytes([byte; 32]), ([127, 0, 0, 1], 7000).into(), 1)
}

/// Reads the bytes as a node would, and asserts what must hold of any.
pub fn feed(bytes: &[u8]) {
    let config = MembershipConfig { members_max: MEMBERS_MAX, ..MembershipConfig::default() };
    let mut membership = Membership::new(node(1), config, [1; 32]);
    let mut now = Moment::ZERO;
    // Datagrams of one byte's length each, as a member would send them, with time going by.
    let mut rest = bytes;
    while let Some((&length, more)) = rest.split_first() {
        let (datagram, after) = more.split_at(usize::from(length).min(more.len()));
        let _ = membership.on_datagram(now, node(2).id, datagram);
        now = now + Duration::from_millis(u64::from(length));
        membership.on_timer(now);
        while membership.poll_output().is_some() {}
        rest = after;
    }
    let _ = membership.on_datagram(now, node(2).id, bytes);
    let _ = membership.merge_snapshot(now, bytes);
    while membership.poll_output().is_some() {}
    assert!(membership.members().count() <= MEMBERS_MAX);
}
