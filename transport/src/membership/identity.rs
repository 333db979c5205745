//! What names a member: its node, which start of it, and which renewal of that start.
//!
//! Owns the order in which identities of one node replace each other. Refuses to know who is up.

use std::cmp::Ordering;
use std::fmt;
use std::net::{SocketAddr, SocketAddrV6};

use crate::identity::NodeId;

/// One life of a node in the cluster.
///
/// `incarnation` counts the starts of the node; it is the only part that others may tie state to. The renewal
/// counts, within one incarnation, how often the node came back after it was taken for dead, or moved to
/// another address: nothing expires with it.
///
/// Two identities are equal when node, incarnation and renewal are: an address never changes without a
/// renewal, so comparing it would only add bytes to every datagram.
#[derive(Clone, Copy)]
pub struct MemberIdentity {
    /// The node.
    pub id: NodeId,
    /// Where it can be dialed.
    pub address: SocketAddr,
    /// Which start of the node this is.
    pub incarnation: u64,
    renewal: u32,
    has_left: bool,
}

impl MemberIdentity {
    /// The identity with which start number `incarnation` of a node begins.
    #[must_use]
    pub fn new(id: NodeId, address: SocketAddr, incarnation: u64) -> Self {
        Self { id, address: global(address), incarnation, renewal: 0, has_left: false }
    }

    pub(super) fn from_parts(id: NodeId, address: SocketAddr, version: (u64, u32), has_left: bool) -> Self {
        let (incarnation, renewal) = version;
        Self { id, address: global(address), incarnation, renewal, has_left }
    }

    /// How often this start of the node came back or moved.
    #[must_use]
    pub const fn renewal(&self) -> u32 {
        self.renewal
    }

    pub(super) const fn version(&self) -> (u64, u32) {
        (self.incarnation, self.renewal)
    }

    /// The node said itself that it goes.
    #[must_use]
    pub const fn has_left(&self) -> bool {
        self.has_left
    }

    /// MEMBER-1: of two identities of one node, the one with the higher incarnation is newer, then the one
    /// with the higher renewal.
    #[must_use]
    pub fn age_order(&self, other: &Self) -> Ordering {
        self.version().cmp(&other.version())
    }

    /// The next renewal, at `address`; `None` when the counter is used up, which at two renewals a second
    /// takes 68 years.
    pub(super) fn renewed_at(&self, address: SocketAddr) -> Option<Self> {
        let renewal = self.renewal.checked_add(1)?;
        Some(Self { renewal, address: global(address), ..*self })
    }

    /// The identity under which the node says good-bye.
    pub(super) fn leaving(&self) -> Self {
        Self { renewal: self.renewal.saturating_add(1), has_left: true, ..*self }
    }
}

/// `address` without what means something on one machine only: the scope of an IPv6 address and its flow
/// label.
fn global(address: SocketAddr) -> SocketAddr {
    match address {
        SocketAddr::V4(_) => address,
        SocketAddr::V6(v6) => SocketAddr::V6(SocketAddrV6::new(*v6.ip(), v6.port(), 0, 0)),
    }
}

impl PartialEq for MemberIdentity {
    fn eq(&self, other: &Self) -> bool {
        // Numbers first: they are cheap to compare and tell most identities apart.
        self.incarnation == other.incarnation && self.renewal == other.renewal && self.id == other.id
    }
}

impl Eq for MemberIdentity {}

impl fmt::Debug for MemberIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let left = if self.has_left { " left" } else { "" };
        write!(f, "{:?}@{}#{}.{}{left}", self.id, self.address, self.incarnation, self.renewal)
    }
}

/// foca knows one member per address; ours is the node's id, so that a node stays one member whatever address
/// it has.
impl foca::Identity for MemberIdentity {
    type Addr = NodeId;

    fn renew(&self) -> Option<Self> {
        self.renewed_at(self.address)
    }

    fn addr(&self) -> NodeId {
        self.id
    }

    fn win_addr_conflict(&self, adversary: &Self) -> bool {
        self.age_order(adversary) == Ordering::Greater
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(incarnation: u64) -> MemberIdentity {
        MemberIdentity::new(NodeId::from_bytes([7; 32]), "10.0.0.1:7000".parse().unwrap(), incarnation)
    }

    #[test]
    fn a_newer_start_wins_over_any_renewal_of_an_older_one() {
        // MEMBER-1
        let old = identity(4);
        let renewed = foca::Identity::renew(&old).unwrap();
        let restarted = identity(5);
        assert!(foca::Identity::win_addr_conflict(&renewed, &old));
        assert!(!foca::Identity::win_addr_conflict(&old, &renewed));
        assert!(foca::Identity::win_addr_conflict(&restarted, &renewed));
        assert!(!foca::Identity::win_addr_conflict(&old, &old));
    }

    #[test]
    fn good_bye_is_newer_than_what_it_ends_and_older_than_the_next_start() {
        let last = identity(4);
        assert_eq!(last.leaving().age_order(&last), Ordering::Greater);
        assert_eq!(identity(5).age_order(&last.leaving()), Ordering::Greater);
    }

    #[test]
    fn an_address_loses_what_only_one_machine_understands() {
        let scoped = SocketAddr::V6(SocketAddrV6::new("fe80::1".parse().unwrap(), 7000, 9, 3));
        let identity = MemberIdentity::new(NodeId::from_bytes([1; 32]), scoped, 1);
        assert_eq!(identity.address, "[fe80::1]:7000".parse().unwrap());
    }
}
