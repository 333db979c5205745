//! The addresses of this node and of others, while they change.
//!
//! Owns when others are told another address of this node, and which addresses of others are worth keeping.
//! Refuses to choose among this machine's addresses.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use tracing::{info, warn};

use super::Pump;
use crate::endpoint::{EndpointHandle, Picture};
use crate::identity::NodeId;
use crate::link::address::{self, Origin, Reach};
use crate::membership::NodeState;

/// How often it is looked whether this machine still has the address that others are told. Some system calls.
pub(super) const LOOK_AT_ADDRESS: Duration = Duration::from_secs(1);

impl Pump {
    /// This machine may have got another address.
    pub(super) async fn follow_address(&mut self) {
        let Some(shared) = self.shared.upgrade() else { return };
        if !shared.reach.is_found() {
            return;
        }
        let Some(told) = own_address(&self.endpoint) else { return };
        // Between two addresses a machine may have none: then it is looked again.
        let own = address::own_addresses();
        if own.is_empty() || own.contains(&told.ip()) {
            return;
        }
        let known = self.known_of(&self.endpoint.picture());
        let toward: Vec<SocketAddr> = known.into_iter().flat_map(|(_, addresses)| addresses).collect();
        let mut found = shared.reach.advertised(&toward);
        found.address.set_port(told.port());
        if found.address == told {
            return;
        }
        info!(from = %told, to = %found.address, by = %found.from, "this machine has another address");
        self.endpoint.set_own_addresses(own_addresses(&shared.reach));
        // The socket listens on all addresses: it stays where it is.
        let listen = self.endpoint.local_addr();
        match self.endpoint.change_address(listen, Some(found.address)).await {
            Ok(_) => self.told_by = found.from,
            Err(error) => warn!(%error, "the network stays where it was"),
        }
    }

    /// What was told may have been a guess: where connections stand, and all of them elsewhere, that is the
    /// better one.
    pub(super) async fn follow_connections(&mut self, picture: &Picture) {
        let Some(shared) = self.shared.upgrade() else { return };
        if !shared.reach.is_found() {
            return;
        }
        self.endpoint.set_own_addresses(own_addresses(&shared.reach));
        let told = picture.own.address;
        let connections = picture.peers.iter().filter_map(|peer| peer.connection.as_ref());
        // Of those that this node dialed the system does not say it, but knows from where it would send.
        let ends = connections.filter_map(|it| it.local.or_else(|| address::source_toward(it.address)));
        let Some(better) = shared.reach.better(told.ip(), &ends.collect::<Vec<_>>()) else { return };
        let better = SocketAddr::new(better, told.port());
        info!(from = %told, to = %better, "others are told the address at which they are connected");
        self.endpoint.advertise(better).await;
        self.told_by = Origin::Connections;
    }

    /// The members that are up, and where: at the address of the connection with each, and where it says that
    /// it is.
    pub(super) fn known_of(&self, picture: &Picture) -> Vec<(NodeId, Vec<SocketAddr>)> {
        let Some(shared) = self.shared.upgrade() else { return Vec::new() };
        let own = address::own_addresses();
        let others = picture.nodes.iter().filter(|entry| entry.identity.id != picture.own.id);
        let up = others.filter(|entry| entry.state == NodeState::Up);
        let addresses = |entry: &crate::membership::NodeEntry| {
            let peer = picture.peers.iter().find(|peer| peer.node == entry.identity.id);
            let seen = peer.and_then(|peer| peer.connection.as_ref()).map(|it| it.address);
            let told = Some(entry.identity.address).filter(|told| Some(*told) != seen);
            let both = seen.into_iter().chain(told);
            both.filter(|address| !shared.reach.is_itself(&own, *address)).collect::<Vec<_>>()
        };
        let known = up.map(|entry| (entry.identity.id, addresses(entry)));
        known.filter(|(_, addresses)| !addresses.is_empty()).collect()
    }
}

/// What others are told, without a copy of the whole picture.
pub(super) fn own_address(endpoint: &EndpointHandle) -> Option<SocketAddr> {
    endpoint.node(endpoint.id()).map(|entry| entry.identity.address)
}

/// Where this node's own socket is, as far as others could say so.
pub(super) fn own_addresses(reach: &Reach) -> BTreeSet<SocketAddr> {
    let own = address::own_addresses();
    let all = own.iter().map(|ip| SocketAddr::new(*ip, reach.listen.port()));
    all.filter(|it| reach.is_itself(&own, *it)).collect()
}
