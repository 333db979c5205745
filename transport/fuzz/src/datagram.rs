//! Membership's datagrams and snapshots: whatever a member sends, nothing panics and the limit of members
//! holds.

use std::sync::Arc;
use std::time::Duration;

use arw_kit::moment::Moment;
use arw_transport::certificate::ClusterId;
use arw_transport::identity::NodeKey;
use arw_transport::membership::{MemberIdentity, Membership, MembershipConfig, RecordKey};

const MEMBERS_MAX: usize = 8;

fn key(byte: u8) -> Arc<NodeKey> {
    Arc::new(NodeKey::from_seed(&[byte; 32]).unwrap())
}

/// Reads the bytes as a node would, and asserts what must hold of any.
pub fn feed(bytes: &[u8]) {
    let config = MembershipConfig { members_max: MEMBERS_MAX, ..MembershipConfig::default() };
    let (own, peer) = (key(1), key(2).id());
    let identity = MemberIdentity::new(own.id(), ([127, 0, 0, 1], 7000).into(), 1);
    let record_key = RecordKey::new(own, ClusterId::from_bytes([7; 16]));
    let mut membership = Membership::new(identity, record_key, config, [1; 32]);
    membership.met(key(3).id(), 1);
    let mut now = Moment::ZERO;
    // Datagrams of one byte's length each, as a member would send them, with time going by.
    let mut rest = bytes;
    while let Some((&length, more)) = rest.split_first() {
        let (datagram, after) = more.split_at(usize::from(length).min(more.len()));
        let _ = membership.on_datagram(now, peer, datagram);
        now = now + Duration::from_millis(u64::from(length));
        membership.on_timer(now);
        while membership.poll_output().is_some() {}
        rest = after;
    }
    let _ = membership.on_datagram(now, peer, bytes);
    let _ = membership.merge_snapshot(now, bytes);
    while membership.poll_output().is_some() {}
    assert!(membership.members().count() <= MEMBERS_MAX);
}
