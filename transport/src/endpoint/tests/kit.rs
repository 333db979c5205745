//! Nodes for tests: a cluster with its issuer and members on loopback.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arw_kit::clock::Clock;
use arw_kit::moment::WallTime;
use parking_lot::{Condvar, Mutex};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::timeout;

use crate::blob::BlobServer;
use crate::certificate::{
    CERTIFICATE_LIFETIME, ClusterKey, RevocationSet, Role, Roles, SignedCertificate, SignedRevocation,
};
use crate::endpoint::*;
use crate::handshake::Peer;
use crate::identity::{NodeId, NodeKey};
use crate::membership::{MembershipConfig, NodeState};
use crate::token::{NewToken, TokenId, TokenRecord, TokenTable};
use crate::wire::{Control, StreamRefusal};

/// Longer than anything here takes: a test that waits for it has failed.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

pub(super) fn loopback() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

pub(super) fn node_key(byte: u8) -> Arc<NodeKey> {
    Arc::new(NodeKey::from_seed(&[byte; 32]).unwrap())
}

pub(super) fn cluster_key(byte: u8) -> ClusterKey {
    ClusterKey::from_seed(&[byte; 32]).unwrap()
}

/// A ledger in memory, which can be made to fail.
#[derive(Debug, Default)]
pub(super) struct MemoryLedger {
    pub(super) tokens: Mutex<BTreeMap<TokenId, TokenRecord>>,
    pub(super) revocations: Mutex<Vec<SignedRevocation>>,
    serials: Mutex<u64>,
    pub(super) is_broken: Mutex<bool>,
    held: Mutex<Held>,
    released: Condvar,
}

#[derive(Debug, Default)]
struct Held {
    is_held: bool,
    waiting: usize,
}

impl MemoryLedger {
    /// Every write waits from now on, until [`MemoryLedger::release`].
    pub(super) fn hold(&self) {
        self.held.lock().is_held = true;
    }

    pub(super) fn release(&self) {
        self.held.lock().is_held = false;
        self.released.notify_all();
    }

    /// Writes that wait.
    pub(super) fn waiting(&self) -> usize {
        self.held.lock().waiting
    }

    fn check(&self) -> Result<(), LedgerError> {
        let mut held = self.held.lock();
        held.waiting += 1;
        self.released.wait_while_for(&mut held, |held| held.is_held, PATIENCE);
        held.waiting -= 1;
        drop(held);
        if *self.is_broken.lock() { Err(LedgerError("the disk is full".to_owned())) } else { Ok(()) }
    }
}

impl IssuerLedger for MemoryLedger {
    fn store_token(&self, record: &TokenRecord) -> Result<(), LedgerError> {
        self.check()?;
        self.tokens.lock().insert(record.id, record.clone());
        Ok(())
    }

    fn forget_tokens(&self, tokens: &[TokenId]) -> Result<(), LedgerError> {
        self.check()?;
        self.tokens.lock().retain(|id, _| !tokens.contains(id));
        Ok(())
    }

    fn reserve_serials(&self, above: u64, count: u64) -> Result<u64, LedgerError> {
        self.check()?;
        let mut serials = self.serials.lock();
        // Above those that the kit gives out by hand.
        let first = (*serials).max(1_000).max(above + 1);
        *serials = first + count;
        Ok(first)
    }

    fn store_revocation(&self, revocation: &SignedRevocation) -> Result<(), LedgerError> {
        self.check()?;
        self.revocations.lock().push(*revocation);
        Ok(())
    }
}

/// What services were called with, and an echo on every stream.
#[derive(Debug, Default)]
pub(super) struct Recorder {
    pub(super) calls: Arc<Mutex<Vec<String>>>,
    pub(super) controls: Mutex<Vec<Control>>,
    /// Who gets the streams for blobs instead, once that is set; `None` refuses them.
    pub(super) blobs: OnceLock<Option<BlobServer>>,
}

impl PeerServices for Recorder {
    fn peer_up(&self, peer: &Peer, connection: PeerConnection) {
        assert_eq!((peer.id, peer.incarnation), (connection.node(), connection.incarnation()));
        self.calls.lock().push(format!("up {}", peer.name));
    }

    fn peer_down(&self, _node: NodeId, incarnation: u64, reason: &PeerDownReason) {
        self.calls.lock().push(format!("down {incarnation} {reason:?}"));
    }

    fn stream(&self, peer: &Peer, purpose: StreamPurpose, stream: InboundStream) {
        self.calls.lock().push(format!("stream {} {purpose:?}", peer.name));
        let (calls, name) = (Arc::clone(&self.calls), peer.name.clone());
        let stream = match (stream, self.blobs.get()) {
            (InboundStream::TwoWay(stream), Some(blobs)) if purpose == StreamPurpose::Blob => {
                return match blobs {
                    Some(server) => server.serve(stream),
                    None => stream.refuse(StreamRefusal::NotServed),
                };
            }
            (stream, _) => stream,
        };
        if let InboundStream::TwoWay(mut stream) = stream {
            tokio::spawn(async move {
                let mut buffer = vec![0; 16 * 1024];
                loop {
                    match stream.read(&mut buffer).await {
                        Ok(0) => return stream.shutdown().await.unwrap_or_default(),
                        Ok(length) => {
                            if stream.write_all(&buffer[..length]).await.is_err() {
                                return;
                            }
                        }
                        Err(_) => return calls.lock().push(format!("cancelled by {name}")),
                    }
                }
            });
        }
    }

    fn control(&self, _peer: &Peer, message: Control) {
        self.controls.lock().push(message);
    }
}

/// How a node of a test differs from the usual.
pub(super) struct Wanted {
    pub(super) byte: u8,
    pub(super) incarnation: u64,
    pub(super) listen: SocketAddr,
    pub(super) clock: Clock,
    pub(super) certificate: SignedCertificate,
    pub(super) known: Vec<Known>,
    pub(super) issuer: Option<Issuer>,
    pub(super) limits: Limits,
    pub(super) revoked: RevocationSet,
}

impl Wanted {
    /// Member number `byte` of cluster 1.
    pub(super) fn member(byte: u8) -> Self {
        let clock = Clock::system();
        Self {
            byte,
            incarnation: 1,
            listen: loopback(),
            clock,
            certificate: certificate(byte, clock.wall(), CERTIFICATE_LIFETIME),
            known: Vec::new(),
            issuer: None,
            limits: Limits::default(),
            revoked: RevocationSet::default(),
        }
    }

    /// One that lets others in.
    pub(super) fn issuer(byte: u8) -> (Self, Arc<MemoryLedger>) {
        let ledger = Arc::new(MemoryLedger::default());
        let issuer = Some(Issuer {
            cluster: cluster_key(1),
            tokens: TokenTable::default(),
            ledger: Arc::<MemoryLedger>::clone(&ledger),
            restored_at: None,
        });
        (Self { issuer, ..Self::member(byte) }, ledger)
    }

    pub(super) fn knowing(mut self, nodes: &[&Node]) -> Self {
        self.known = nodes.iter().map(|node| node.as_known()).collect();
        self
    }

    pub(super) fn start(self) -> Node {
        let key = node_key(self.byte);
        let services = Arc::new(Recorder::default());
        let options = EndpointOptions {
            key: Arc::clone(&key),
            incarnation: self.incarnation,
            name: format!("node-{}", self.byte),
            listen: self.listen,
            advertised: None,
            credentials: Credentials {
                certificate: self.certificate,
                cluster_key: cluster_key(1).public(),
                revoked: self.revoked,
                issuer: None,
            },
            issuer: self.issuer,
            known: self.known,
            limits: self.limits,
            membership: MembershipConfig::default(),
            clock: self.clock,
            services: Arc::<Recorder>::clone(&services),
        };
        let (handle, events) = Endpoint::start(options).unwrap();
        Node { id: key.id(), handle, events, services }
    }
}

/// The certificate of member number `byte` of cluster 1, with that number as serial.
pub(super) fn certificate(byte: u8, now: WallTime, lifetime: Duration) -> SignedCertificate {
    let roles = Roles::from_iter([Role::Worker]);
    cluster_key(1).certify(node_key(byte).id(), roles, u64::from(byte), now, lifetime)
}

/// A running node.
pub(super) struct Node {
    pub(super) id: NodeId,
    pub(super) handle: EndpointHandle,
    pub(super) events: EndpointEvents,
    pub(super) services: Arc<Recorder>,
}

impl Node {
    pub(super) fn as_known(&self) -> Known {
        Known { node: self.id, addresses: vec![self.handle.local_addr()] }
    }

    /// Waits for the first event that `wanted` takes.
    pub(super) async fn event<T>(&mut self, mut wanted: impl FnMut(EndpointEvent) -> Option<T>) -> T {
        let found = timeout(PATIENCE, async {
            loop {
                let event = self.events.next().await.expect("the endpoint has ended");
                if let Some(found) = wanted(event) {
                    return found;
                }
            }
        });
        found.await.unwrap_or_else(|_| panic!("no such event; {:#?}", self.handle.picture()))
    }

    /// Waits until the picture is as wanted. Each change of it is an event.
    pub(super) async fn until(&mut self, what: &str, mut is_so: impl FnMut(&Picture) -> bool) {
        let seen = timeout(PATIENCE, async {
            while !is_so(&self.handle.picture()) {
                self.events.next().await.expect("the endpoint has ended");
            }
        });
        if seen.await.is_err() {
            panic!("{what}: not so; {:#?} {:#?}", self.handle.picture(), self.handle.counters());
        }
    }

    /// Waits until exactly these are connected and shown as up.
    pub(super) async fn until_with(&mut self, others: &[NodeId]) {
        let own = self.id;
        let mut wanted: Vec<NodeId> = others.to_vec();
        wanted.sort_unstable();
        let is_so = move |picture: &Picture| {
            let up = picture.nodes.iter().filter(|node| node.state == NodeState::Up);
            let up: Vec<NodeId> = up.map(|node| node.identity.id).filter(|id| *id != own).collect();
            connected(picture) == wanted && up == wanted
        };
        self.until("connected with and knowing the others", is_so).await;
    }

    pub(super) async fn new_token(&self) -> crate::token::JoinToken {
        let wanted = NewToken {
            roles: Roles::from_iter([Role::Worker]),
            ttl: Duration::from_secs(60),
            uses_max: 1,
            addresses: vec![self.handle.local_addr()],
        };
        self.handle.create_token(wanted).await.unwrap()
    }

    /// Waits until the services have been called so.
    pub(super) async fn until_called(&self, call: &str) {
        eventually(call, || self.services.calls.lock().iter().any(|other| other == call)).await;
    }

    /// The process dies: nothing is said to anybody. Returns when the port is free.
    pub(super) async fn crash(self) {
        let Self { handle, mut events, .. } = self;
        drop(handle);
        while events.next().await.is_some() {}
    }
}

/// Waits for something that no event tells of.
pub(super) async fn eventually(what: &str, is_so: impl Fn() -> bool) {
    let seen = timeout(PATIENCE, async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    });
    assert!(seen.await.is_ok(), "not so: {what}");
}

pub(super) fn connected(picture: &Picture) -> Vec<NodeId> {
    picture.peers.iter().filter(|row| row.connection.is_some()).map(|row| row.node).collect()
}

pub(super) fn state_of(picture: &Picture, node: NodeId) -> Option<NodeState> {
    picture.nodes.iter().find(|entry| entry.identity.id == node).map(|entry| entry.state)
}

/// Three members that know each other; the first lets others in.
pub(super) async fn three() -> ([Node; 3], Arc<MemoryLedger>) {
    let (issuer, ledger) = Wanted::issuer(1);
    let mut one = issuer.start();
    let mut two = Wanted::member(2).knowing(&[&one]).start();
    let mut three = Wanted::member(3).knowing(&[&one]).start();
    let ids = [one.id, two.id, three.id];
    one.until_with(&[ids[1], ids[2]]).await;
    two.until_with(&[ids[0], ids[2]]).await;
    three.until_with(&[ids[0], ids[1]]).await;
    ([one, two, three], ledger)
}
