//! A node as a member: its endpoint, and the task between that and the kernel.
//!
//! Owns what is stored and told when the network finds something out, and that what is shown is brought in
//! line with the network's whole picture every few seconds: news that got lost on the way do not stay lost.
//! Refuses to decide who is a member.

mod following;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;

use arw_actors::cluster::{ClusterUpdate, Contact, NodeCard, TransportStatus};
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;
use tracing::{debug, error, info, warn};

use super::address::{self, Origin};
use super::services::Services;
use super::stored::{Stored, StoredError};
use super::{LinkError, Shared, card, news};
use crate::certificate::{Certificate, ClusterKey, ClusterPublicKey, RevocationSet, SignedRevocation};
use crate::endpoint::{
    Credentials, Endpoint, EndpointEvent, EndpointEvents, EndpointHandle, EndpointOptions, Issuer, Limits,
    PeerCard, Picture,
};
use crate::handshake::Peer;
use crate::identity::NodeId;
use crate::membership::{MembershipConfig, NodeState, ViewChange};
use crate::remote::{Links, RemoteOptions};
use crate::token::TokenTable;
use crate::wire::GoodbyeReason;

/// Requests that one node may have open to another (HTTP-16). A connection with so many allowed takes some 30
/// KiB more.
const STREAMS_MAX: u32 = 256;

/// How often what is shown is compared with the network's picture; also how stale a round-trip time may be.
const REFRESH: Duration = Duration::from_secs(5);

/// A member's network.
pub(super) struct Member {
    endpoint: EndpointHandle,
    links: Arc<Links>,
    stored: Arc<Stored>,
    certificate: Certificate,
    incarnation: u64,
    pump: Mutex<Option<JoinHandle<()>>>,
}

impl Member {
    /// Starts the network of a member.
    pub(super) fn start(
        shared: &Arc<Shared>,
        stored: Arc<Stored>,
        cluster: Option<ClusterKey>,
    ) -> Result<Self, LinkError> {
        let options = &shared.options;
        let (contents, revoked) = (stored.contents(), stored.revoked());
        let wall = options.clock.wall();
        let certificate = contents.judge(options.key.id(), wall, &revoked)?;
        let mut known = stored.known();
        let own = address::own_addresses();
        known.iter_mut().for_each(|known| known.addresses.retain(|it| !shared.reach.is_itself(&own, *it)));
        let toward: Vec<SocketAddr> =
            known.iter().flat_map(|known| known.addresses.iter().copied()).collect();
        let told = shared.reach.advertised(&toward);
        let advertised = told.address;
        // A node that left and joins again within one start of its program is a later start of itself to all
        // others.
        let before = contents.incarnation.max(shared.incarnation.load(Ordering::Relaxed));
        let incarnation = options.incarnation.max(before.saturating_add(1));
        stored.begin(incarnation)?;
        shared.incarnation.store(incarnation, Ordering::Relaxed);
        let issuer = cluster.map(|cluster| Issuer {
            cluster,
            tokens: TokenTable::restore(contents.tokens.clone()),
            ledger: Arc::clone(&stored) as Arc<_>,
            restored_at: contents.restored_at,
        });
        let is_issuer = issuer.is_some();
        let exports = Arc::clone(&options.exports);
        let links = Arc::new(Links::new(incarnation, options.clock, exports, RemoteOptions::default()));
        let (endpoint, events) = Endpoint::start(EndpointOptions {
            key: Arc::clone(&options.key),
            incarnation,
            name: options.name.clone(),
            listen: options.listen,
            advertised: Some(advertised),
            credentials: Credentials {
                certificate: contents.certificate,
                cluster_key: contents.cluster_key,
                revoked,
                issuer: (!is_issuer).then_some(contents.issuer),
            },
            issuer,
            known,
            limits: Limits { streams_max: STREAMS_MAX, ..Limits::default() },
            membership: MembershipConfig::default(),
            clock: options.clock,
            services: Arc::new(Services::new(Arc::clone(&options.services), Arc::clone(&links))),
        })?;
        endpoint.set_own_addresses(following::own_addresses(&shared.reach));
        info!(cluster = %certificate.cluster, listens_at = %endpoint.local_addr(), %advertised, by = %told.from,
            "this node is a member");
        let pump = Pump {
            incarnation,
            shared: Arc::downgrade(shared),
            endpoint: endpoint.clone(),
            stored: Arc::clone(&stored),
            cluster_key: contents.cluster_key,
            certificate,
            issuer: contents.issuer,
            warned: Vec::new(),
            told_by: told.from,
            removed: BTreeSet::new(),
            connected: BTreeSet::new(),
            shown: BTreeSet::new(),
            cannot_store: false,
        };
        let pump = Mutex::new(Some(tokio::spawn(pump.run(events, options.own_card.clone()))));
        Ok(Self { endpoint, links, stored, certificate, incarnation, pump })
    }

    pub(super) fn endpoint(&self) -> &EndpointHandle {
        &self.endpoint
    }

    /// The actors of other nodes.
    pub(super) fn links(&self) -> &Arc<Links> {
        &self.links
    }

    pub(super) fn stored(&self) -> &Arc<Stored> {
        &self.stored
    }

    /// What this node was certified to be when it started.
    pub(super) fn certificate(&self) -> &Certificate {
        &self.certificate
    }

    pub(super) fn status(&self) -> TransportStatus {
        let peers = self.endpoint.peers();
        TransportStatus {
            listens_at: Some(self.endpoint.local_addr()),
            advertised: following::own_address(&self.endpoint),
            connections: peers.iter().filter(|peer| peer.connection.is_some()).count(),
            refused: refused(&self.endpoint),
        }
    }

    /// Under which start others know it.
    pub(super) fn incarnation(&self) -> u64 {
        self.incarnation
    }

    /// Ends the network, with a word to all others.
    pub(super) async fn end(&self, reason: GoodbyeReason) {
        self.end_pump().await;
        self.endpoint.shutdown(reason).await;
    }

    /// From now on nothing is told or stored.
    pub(super) async fn end_pump(&self) {
        let pump = self.pump.lock().take();
        if let Some(pump) = pump {
            pump.abort();
            // It ends at its next wait; that it was aborted is no news.
            let _ = pump.await;
        }
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        // It holds the network open.
        if let Some(pump) = self.pump.get_mut().take() {
            pump.abort();
        }
    }
}

/// What was refused, by a word for why.
fn refused(endpoint: &EndpointHandle) -> Vec<(&'static str, u64)> {
    let counters = endpoint.counters();
    let hellos = counters.hello_refusals().map(|(_, count)| count).sum();
    let joins = counters.join_refusals().map(|(_, count)| count).sum();
    vec![
        ("handshake_limited", counters.handshakes_limited),
        ("handshake_failed", counters.handshakes_failed),
        ("hello", hellos),
        ("join", joins),
        ("malformed", counters.malformed),
        ("stalled", counters.stalled),
        ("stream_unknown", counters.streams_unknown),
        ("stream_slow", counters.streams_slow),
        ("control_unknown", counters.control_unknown),
        ("datagram", counters.datagrams_refused),
        ("card", counters.cards_refused),
        ("revocation", counters.revocations_refused),
        ("certificate", counters.certificates_refused),
    ]
}

/// The task between the endpoint and the kernel.
struct Pump {
    incarnation: u64,
    shared: Weak<Shared>,
    endpoint: EndpointHandle,
    stored: Arc<Stored>,
    cluster_key: ClusterPublicKey,
    certificate: Certificate,
    /// Who signs certificates.
    issuer: NodeId,
    /// What of this node was last said in the log.
    warned: Vec<String>,
    /// Where the address that others are told was taken from.
    told_by: Origin,
    /// Nodes that were removed and have not come back: membership speaks of them for a while yet.
    removed: BTreeSet<NodeId>,
    /// Whom the kernel was told to be connected with, and whom it shows: what is not so any more must be told
    /// too.
    connected: BTreeSet<NodeId>,
    shown: BTreeSet<NodeId>,
    /// The last change could not be stored, which was said.
    cannot_store: bool,
}

impl Pump {
    async fn run(mut self, mut events: EndpointEvents, mut own_card: watch::Receiver<Arc<NodeCard>>) {
        self.publish(&own_card.borrow_and_update().clone());
        let mut refresh = tokio::time::interval(REFRESH);
        let mut look = tokio::time::interval(following::LOOK_AT_ADDRESS);
        for interval in [&mut refresh, &mut look] {
            interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
        }
        let mut has_card = true;
        loop {
            tokio::select! {
                event = events.next() => match event {
                    Some(event) => self.on_event(event).await,
                    None => return,
                },
                changed = own_card.changed(), if has_card => {
                    has_card = changed.is_ok();
                    let card = own_card.borrow_and_update().clone();
                    self.publish(&card);
                }
                _ = refresh.tick() => self.refresh().await,
                _ = look.tick() => self.follow_address().await,
            }
        }
    }

    async fn on_event(&mut self, event: EndpointEvent) {
        match event {
            EndpointEvent::Membership(change) => {
                self.on_change(&change);
                // The first members of a cluster are worth a write each: a power cut in the next seconds must
                // not leave this node alone.
                if let ViewChange::Joined { member } = &change
                    && self.stored.lacks(member.id)
                {
                    self.refresh().await;
                }
            }
            EndpointEvent::PeerUp { peer, address } => self.on_peer_up(peer, address),
            EndpointEvent::PeerDown { node, reason, .. } => {
                self.connected.remove(&node);
                self.tell(ClusterUpdate::Disconnected { node, reason: reason.to_string() });
            }
            EndpointEvent::Card(card) => self.on_card(&card),
            EndpointEvent::CertificateRenewed(_) => self.refresh().await,
            EndpointEvent::Revoked(signed) => self.on_revoked(signed).await,
            EndpointEvent::Removed => self.on_removed(),
            EndpointEvent::Outdated => {
                error!(
                    "the cluster knows another start of this node: a copy of its state folder runs elsewhere"
                );
                self.refresh().await;
            }
            EndpointEvent::Copied(copy) => {
                warn!(node = %copy.node.short(), kept = %copy.kept, refused = %copy.refused, "a node runs twice");
                self.refresh().await;
            }
            EndpointEvent::Missed { count } => {
                debug!(count, "news of the cluster were missed");
                self.refresh().await;
            }
        }
    }

    fn on_change(&self, change: &ViewChange) {
        let Some(shared) = self.shared.upgrade() else { return };
        match (news::of_change(shared.options.clock.now(), change), change) {
            (Some(ClusterUpdate::Member(member)), _) if self.removed.contains(&member.node) => {}
            (Some(news), _) => shared.tell(news),
            (None, ViewChange::Suspected { member } | ViewChange::WentDown { member, .. }) => {
                let entry = self.endpoint.node(member.id);
                if let Some(entry) = entry.filter(|_| !self.removed.contains(&member.id)) {
                    shared.tell(ClusterUpdate::Member(news::of_entry(&entry)));
                }
            }
            (None, _) => {}
        }
    }

    fn on_peer_up(&mut self, peer: Peer, address: SocketAddr) {
        self.removed.remove(&peer.id);
        self.connected.insert(peer.id);
        let rtt = self.endpoint.connection(peer.id).map_or(Duration::ZERO, |connection| connection.rtt());
        let roles = news::role_words(peer.certificate.roles);
        let Peer { id: node, incarnation, name, .. } = peer;
        self.tell(ClusterUpdate::Connected(Contact { node, name, roles, incarnation, address, rtt }));
    }

    fn on_card(&self, card: &PeerCard) {
        match card::decode(&card.card) {
            Ok(read) => self.tell(ClusterUpdate::Card {
                node: card.node,
                incarnation: card.incarnation,
                card: Box::new(read),
            }),
            Err(error) => debug!(node = %card.node.short(), %error, "a node's card is left out"),
        }
    }

    async fn on_revoked(&mut self, signed: SignedRevocation) {
        self.store("a removal", move |stored| stored.revoke(&[signed])).await;
        let Ok(told) = signed.verify(&self.cluster_key) else { return };
        // It may have joined again before this word came.
        let is_back = self.endpoint.peers().iter().any(|peer| {
            peer.node == told.node
                && peer.connection.as_ref().is_some_and(|it| it.peer.certificate.serial > told.serial_max)
        });
        if !is_back {
            info!(node = %told.node.short(), "a node was removed from the cluster");
            self.removed.insert(told.node);
            self.tell(ClusterUpdate::Forgotten { node: told.node });
        }
    }

    fn on_removed(&self) {
        let Some(shared) = self.shared.upgrade() else { return };
        warn!("this node was removed from its cluster, and is alone now");
        let incarnation = self.incarnation;
        // It ends this very task.
        tokio::spawn(async move { shared.be_removed(incarnation).await });
    }

    /// Tells and stores everything that is known, and what is not so any more. Told twice it changes nothing.
    async fn refresh(&mut self) {
        let picture = self.endpoint.picture();
        if let Ok(certificate) = picture.certificate.verify(
            &self.cluster_key,
            self.endpoint.id(),
            self.wall(),
            &RevocationSet::default(),
        ) {
            self.certificate = certificate;
        }
        self.follow_connections(&picture).await;
        self.show(&picture);
        let (certificate, revocations) = (picture.certificate, picture.revocations.clone());
        let (known, gone) = (self.known_of(&picture), self.gone(&picture));
        self.store("what the network knows", move |stored| {
            stored.reconcile(certificate, &revocations)?;
            stored.remember(known, &gone)
        })
        .await;
        if picture.is_removed {
            self.on_removed();
        }
    }

    fn show(&mut self, picture: &Picture) {
        let Some(shared) = self.shared.upgrade() else { return };
        let wall = shared.options.clock.wall();
        let place = news::place(picture, &self.certificate, self.issuer, &self.told_by, wall);
        if place.warnings != self.warned {
            place.warnings.iter().for_each(|warning| warn!("{warning}"));
            self.warned.clone_from(&place.warnings);
        }
        shared.tell(ClusterUpdate::Place(place));
        let others = || picture.nodes.iter().filter(|entry| entry.identity.id != self.endpoint.id());
        for entry in others().filter(|entry| !self.removed.contains(&entry.identity.id)) {
            shared.tell(ClusterUpdate::Member(news::of_entry(entry)));
        }
        let connections = || picture.peers.iter().filter_map(|peer| peer.connection.as_ref());
        for connection in connections() {
            shared.tell(ClusterUpdate::Connected(news::contact(connection)));
            let node = connection.peer.id;
            if let Some(entry) = others().find(|entry| entry.identity.id == node) {
                let last_seen = entry.last_seen;
                shared.tell(ClusterUpdate::Measured { node, rtt: connection.rtt, last_seen });
            }
        }
        picture.cards.iter().for_each(|card| self.on_card(card));
        let copies = picture.copies.iter();
        shared.tell(ClusterUpdate::Copies(copies.map(|it| (it.node, it.kept, it.refused)).collect()));
        let connected: BTreeSet<NodeId> = connections().map(|connection| connection.peer.id).collect();
        for node in self.connected.difference(&connected).copied() {
            shared.tell(ClusterUpdate::Disconnected { node, reason: "the connection is gone".to_owned() });
        }
        let shown: BTreeSet<NodeId> =
            others().map(|entry| entry.identity.id).chain(connected.iter().copied()).collect();
        for node in self.shown.difference(&shown).copied() {
            shared.tell(ClusterUpdate::Forgotten { node });
        }
        self.removed.retain(|node| shown.contains(node));
        (self.connected, self.shown) = (connected, shown);
    }

    /// Who shall not be dialed at the next start.
    fn gone(&self, picture: &Picture) -> BTreeSet<NodeId> {
        let left = picture.nodes.iter().filter(|entry| entry.state == NodeState::Left);
        left.map(|entry| entry.identity.id).chain(self.removed.iter().copied()).collect()
    }

    fn publish(&self, card: &NodeCard) {
        if let Err(error) = self.endpoint.publish_card(Bytes::from(card::encode(card))) {
            warn!(%error, "this node's card is not told");
        }
    }

    fn tell(&self, news: ClusterUpdate) {
        if let Some(shared) = self.shared.upgrade() {
            shared.tell(news);
        }
    }

    fn wall(&self) -> arw_kit::moment::WallTime {
        self.shared
            .upgrade()
            .map_or(arw_kit::moment::WallTime::default(), |shared| shared.options.clock.wall())
    }

    async fn store(
        &mut self,
        what: &'static str,
        change: impl FnOnce(&Stored) -> Result<(), StoredError> + Send + 'static,
    ) {
        let stored = Arc::clone(&self.stored);
        match tokio::task::spawn_blocking(move || change(&stored)).await {
            Ok(Ok(())) => self.cannot_store = false,
            // The node has left: there is nothing to be kept.
            Ok(Err(StoredError::Forgotten)) => {}
            Ok(Err(error)) => {
                // It is tried again with every refresh; saying so once is enough.
                if !std::mem::replace(&mut self.cannot_store, true) {
                    warn!(%error, what, "it cannot be stored; it is tried again");
                }
            }
            Err(error) => warn!(%error, what, "it could not be stored"),
        }
    }
}
