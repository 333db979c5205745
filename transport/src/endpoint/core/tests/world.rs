//! Nodes on a network of this test's own: virtual time, delays, loss, cuts, crashes, clocks that step.
//!
//! Owns what happens when, and what each node has on its disk. Decides nothing: that is done by the cores.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use arw_kit::clock::Clock;
use arw_kit::moment::{Moment, WallTime};
use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use super::scripted::ScriptedWire;
use crate::certificate::{
    CERTIFICATE_LIFETIME, Certificate, ClusterKey, RevocationSet, Role, Roles, SignedCertificate,
    SignedRevocation,
};
use crate::endpoint::connection::{PeerConnection, Wire};
use crate::endpoint::core::{Beginning, Core, DialEvent, DialStep, Effect};
use crate::endpoint::dial_schedule::{DialAttempt, Target};
use crate::endpoint::events::{EndpointEvent, EndpointEvents, EventQueue};
use crate::endpoint::issuer::{IssuerState, SERIALS_RESERVED, serial_floor};
use crate::endpoint::options::{Known, Limits};
use crate::endpoint::services::PeerDownReason;
use crate::handshake::{DialerEvent, HelloAcceptor, HelloDialer};
use crate::identity::{NodeId, NodeKey};
use crate::membership::{MemberIdentity, MembershipConfig, RecordKey};
use crate::token::TokenTable;
use crate::wire::{
    self, CloseCode, Control, GoodbyeReason, Hello, HelloAck, HelloRefusal, Received, Renewed,
};

/// How long a connection may be silent.
const SILENCE: Duration = Duration::from_secs(3);
const BEGINNING: WallTime = WallTime::from_millis(1_800_000_000_000);
const BEAT: Duration = Duration::from_millis(500);
const DIAL_WITHIN: Duration = Duration::from_secs(2);

/// What a node has on its disk, and the core that runs.
pub(super) struct Node {
    pub(super) key: Arc<NodeKey>,
    pub(super) core: Option<Core>,
    events: Option<EndpointEvents>,
    /// Counts the starts, so that what was meant for an earlier one is dropped.
    pub(super) run: u64,
    pub(super) incarnation: u64,
    pub(super) certificate: SignedCertificate,
    pub(super) revoked: RevocationSet,
    pub(super) address: SocketAddr,
    known: Vec<Known>,
    /// How far its clock is ahead.
    pub(super) skew_ms: i64,
    pub(super) side: u8,
    serial_next: u64,
    /// The highest serial of a certificate that it has shown.
    serial_shown: u64,
    wakes_at: Option<Moment>,
}

struct End {
    node: usize,
    run: u64,
    wire: Arc<ScriptedWire>,
    /// The session that it is, and the connection, once hello is over.
    standing: Option<((NodeId, u64), PeerConnection)>,
    /// The other end was told that this one has closed, or this one knows that the other one has.
    is_over: bool,
}

struct Link {
    /// The dialer, then the acceptor.
    ends: [End; 2],
    dialer: Option<(HelloDialer, DialAttempt)>,
    delay: Duration,
    heard_at: Moment,
    /// Messages that came while the network was cut: they are sent again, in their order.
    held: VecDeque<(usize, Control)>,
}

enum Happening {
    Wake { node: usize, run: u64 },
    Beat,
    Hello { link: usize, hello: Hello },
    Ack { link: usize, ack: HelloAck },
    DialOver { link: usize },
    NoAnswer { node: usize, run: u64, dialer: HelloDialer, attempt: DialAttempt },
    Message { link: usize, to: usize, message: Control },
    Datagram { link: usize, to: usize, bytes: Bytes },
    Closed { link: usize, to: usize, code: CloseCode, reason: Vec<u8> },
    Serials { node: usize, run: u64 },
    Remove { node: usize, run: u64, stage: Stage },
}

/// Of a removal, as the issuer's commands take it.
#[derive(Clone, Copy)]
enum Stage {
    Sign(Duration),
    Store(SignedRevocation),
}

/// What a close says beside its code.
#[derive(Default)]
struct Verdict {
    proof: Option<Vec<u8>>,
    is_copy: Option<bool>,
}

impl Verdict {
    fn of(code: CloseCode, reason: Vec<u8>) -> Self {
        match code {
            CloseCode::Goodbye(GoodbyeReason::Removed) | CloseCode::Hello(HelloRefusal::Removed) => {
                Self { proof: Some(reason), is_copy: None }
            }
            CloseCode::Hello(HelloRefusal::OldIncarnation) => Self { proof: None, is_copy: Some(false) },
            CloseCode::Hello(HelloRefusal::Copied) | CloseCode::Goodbye(GoodbyeReason::Copied) => {
                Self { proof: None, is_copy: Some(true) }
            }
            _ => Self::default(),
        }
    }

    fn hand_to(self, core: &mut Core, now: Moment, peer: NodeId) {
        if let Some(proof) = self.proof {
            core.shown_removal(now, peer, proof);
        }
        if let Some(is_copy) = self.is_copy {
            core.told_of_another_start(peer, None, is_copy);
        }
    }
}

struct Due(Moment, u64, Happening);

impl PartialEq for Due {
    fn eq(&self, other: &Self) -> bool {
        (self.0, self.1) == (other.0, other.1)
    }
}
impl Eq for Due {}
impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Due {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.0, self.1).cmp(&(other.0, other.1))
    }
}

pub(super) struct World {
    pub(super) seed: u64,
    pub(super) now: Moment,
    wall: WallTime,
    pub(super) nodes: Vec<Node>,
    /// The serial up to which a node was removed, until it joins again.
    pub(super) removed: Vec<Option<u64>>,
    links: Vec<Link>,
    queue: BinaryHeap<Reverse<Due>>,
    queued: u64,
    pub(super) chance: StdRng,
    pub(super) loss_percent: u32,
}

fn cluster() -> ClusterKey {
    ClusterKey::from_seed(&[1; 32]).unwrap()
}

fn first_certificate(index: usize, node: NodeId) -> SignedCertificate {
    let serial = u64::try_from(index + 1).unwrap();
    let roles = Roles::from_iter([Role::Worker]);
    cluster().certify(node, roles, serial, BEGINNING, CERTIFICATE_LIFETIME)
}

/// Where node `index` is at its `move`th address.
pub(super) fn address(index: usize, moves: u16) -> SocketAddr {
    SocketAddr::from(([10, 0, u8::try_from(moves).unwrap(), u8::try_from(index + 1).unwrap()], 7400))
}

impl World {
    /// `count` members, of which the first is the issuer. None of them runs; each knows the first.
    pub(super) fn new(seed: u64, count: usize) -> Self {
        let mut world = Self {
            seed,
            now: arw_kit::clock::START,
            wall: BEGINNING,
            nodes: Vec::new(),
            removed: vec![None; count],
            links: Vec::new(),
            queue: BinaryHeap::new(),
            queued: 0,
            chance: StdRng::seed_from_u64(seed),
            loss_percent: 1,
        };
        for index in 0..count {
            let key = Arc::new(NodeKey::from_seed(&[u8::try_from(index + 1).unwrap(); 32]).unwrap());
            let certificate = first_certificate(index, key.id());
            world.nodes.push(Node {
                key,
                core: None,
                events: None,
                run: 0,
                incarnation: 0,
                certificate,
                revoked: RevocationSet::default(),
                address: address(index, 0),
                known: Vec::new(),
                skew_ms: 0,
                side: 0,
                serial_next: 1_000,
                serial_shown: 0,
                wakes_at: None,
            });
        }
        let issuer = Known { node: world.id(0), addresses: vec![address(0, 0)] };
        world.nodes[1..].iter_mut().for_each(|node| node.known = vec![issuer.clone()]);
        world.later(BEAT, Happening::Beat);
        world
    }

    pub(super) fn id(&self, index: usize) -> NodeId {
        self.nodes[index].key.id()
    }

    fn later(&mut self, after: Duration, happening: Happening) {
        self.queued += 1;
        self.queue.push(Reverse(Due(self.now + after, self.queued, happening)));
    }

    pub(super) fn millis(&mut self, below: u64) -> Duration {
        Duration::from_millis(self.chance.random_range(0..below))
    }

    pub(super) fn wall_of(&self, index: usize) -> WallTime {
        let at =
            self.wall.as_millis() + i64::try_from(self.now.since(arw_kit::clock::START).as_millis()).unwrap();
        WallTime::from_millis(at + self.nodes[index].skew_ms)
    }

    /// All machines sleep for so long: their calendars go on, their clocks do not.
    pub(super) fn sleep(&mut self, span: Duration) {
        self.wall = self.wall + span;
    }

    /// The certificate that a node shows, whoever would take it now.
    pub(super) fn certificate(&self, index: usize) -> Certificate {
        let node = &self.nodes[index];
        let not_before = node.certificate.as_bytes()[58..66].try_into().unwrap();
        let at = WallTime::from_millis(i64::from_le_bytes(not_before));
        node.certificate.verify(&cluster().public(), node.key.id(), at, &RevocationSet::default()).unwrap()
    }

    pub(super) fn start(&mut self, index: usize) {
        let wall = self.wall_of(index);
        let seconds = u64::try_from(wall.as_millis() / 1_000).unwrap();
        let events = Arc::new(EventQueue::default());
        let issuer_id = self.id(0);
        let seed = self.chance.random();
        let certificate = self.certificate(index);
        let node = &mut self.nodes[index];
        let is_good =
            node.certificate.verify(&cluster().public(), node.key.id(), wall, &node.revoked).is_ok();
        if node.core.is_some() || !is_good {
            return;
        }
        node.run += 1;
        node.incarnation = seconds.max(node.incarnation + 1);
        let issuer = (index == 0).then(|| {
            let above = certificate.serial.max(node.revoked.serial_max());
            let first = node.serial_next.max(serial_floor(wall)).max(above + 1);
            node.serial_next = first + SERIALS_RESERVED;
            IssuerState::new(cluster(), TokenTable::default(), first, SERIALS_RESERVED)
        });
        let beginning = Beginning {
            identity: MemberIdentity::new(node.key.id(), node.address, node.incarnation),
            record_key: RecordKey::simulated(),
            name: format!("node-{index}"),
            signed: node.certificate,
            certificate,
            cluster_key: cluster().public(),
            revoked: node.revoked.clone(),
            renewed_by: Some(issuer_id),
            issuer,
            known: node.known.clone(),
            limits: Limits::default(),
            membership: MembershipConfig::default(),
            seed,
            events: Arc::clone(&events),
            clock: Clock::starting_at(wall),
        };
        node.core = Some(Core::new(self.now, beginning));
        node.events = Some(EndpointEvents::new(events));
        node.wakes_at = None;
        self.settle(index);
    }

    /// The process dies. What it knows of others is on its disk.
    pub(super) fn crash(&mut self, index: usize) {
        let node = &mut self.nodes[index];
        let Some(core) = node.core.take() else { return };
        let known =
            |(node, route): (&NodeId, &Target)| Known { node: *node, addresses: route.addresses.clone() };
        node.known = core.schedule.routes().map(known).collect();
        node.events = None;
    }

    /// One step of a node, and all that follows from it.
    pub(super) fn act<T>(&mut self, index: usize, step: impl FnOnce(&mut Core, Moment) -> T) -> Option<T> {
        let (now, wall) = (self.now, self.wall_of(index));
        let core = self.nodes[index].core.as_mut()?;
        core.clock = Clock::starting_at(wall);
        let outcome = step(core, now);
        self.settle(index);
        Some(outcome)
    }

    fn settle(&mut self, index: usize) {
        let (now, run) = (self.now, self.nodes[index].run);
        let Some(core) = self.nodes[index].core.as_mut() else { return };
        for effect in core.settle(now) {
            match effect {
                Effect::Dial(attempt) => self.dial(index, attempt),
                Effect::ReserveSerials => {
                    let took = self.millis(50);
                    self.later(took, Happening::Serials { node: index, run });
                }
                Effect::Up(..) | Effect::Down(..) | Effect::Control(..) | Effect::ForgetTokens(_) => {}
            }
        }
        self.note_events(index);
        self.flush(index);
        let node = &mut self.nodes[index];
        let Some(core) = &node.core else { return };
        let at = core.next_deadline().max(now);
        if node.wakes_at.is_none_or(|wakes_at| at < wakes_at) {
            node.wakes_at = Some(at);
            self.later(at.since(now), Happening::Wake { node: index, run });
        }
        self.check(index);
    }

    fn note_events(&mut self, index: usize) {
        let node = &mut self.nodes[index];
        let Some(events) = &mut node.events else { return };
        let mut context = Context::from_waker(Waker::noop());
        while let Poll::Ready(Some(event)) = pin!(events.next()).poll(&mut context) {
            match event {
                EndpointEvent::CertificateRenewed(signed) => node.certificate = signed,
                EndpointEvent::Revoked(signed) => {
                    node.revoked.add(signed, &cluster().public()).unwrap();
                }
                _ => {}
            }
        }
    }

    /// What must hold at every moment.
    fn check(&mut self, index: usize) {
        let (seed, node) = (self.seed, &mut self.nodes[index]);
        let Some(core) = &node.core else { return };
        let serial = core.certificate.serial;
        assert!(serial >= node.serial_shown, "seed {seed}: the certificate of node {index} went back");
        node.serial_shown = serial;
        for session in core.sessions.values() {
            let serial = session.peer.certificate.serial;
            let is_covered = core.revoked.covers(session.peer.id, serial);
            assert!(
                !is_covered,
                "seed {seed}: node {index} is connected with one that it knows to be removed"
            );
        }
        if let Some(serial_max) = self.removed[index] {
            let serial = core.certificate.serial;
            assert!(
                serial <= serial_max,
                "seed {seed}: node {index} was removed and has a later certificate"
            );
        }
        assert!(core.fence().is_none(), "seed {seed}: node {index} is fenced by {:?}", core.fence());
        assert!(!core.is_outdated, "seed {seed}: node {index} is taken for outdated");
    }

    fn is_reachable(&self, one: usize, two: usize) -> bool {
        self.nodes[one].side == self.nodes[two].side
    }

    fn is_there(&self, end: &End) -> bool {
        self.nodes[end.node].core.is_some() && self.nodes[end.node].run == end.run
    }

    fn dial(&mut self, from: usize, attempt: DialAttempt) {
        let run = self.nodes[from].run;
        let mut dialer = HelloDialer::new(self.now, attempt.peer);
        let target = (0..self.nodes.len()).find(|&other| {
            let node = &self.nodes[other];
            node.core.is_some() && node.address == attempt.address && self.is_reachable(from, other)
        });
        let target = target.filter(|&other| self.id(other) == attempt.peer);
        let Some(to) = target else {
            self.later(DIAL_WITHIN, Happening::NoAnswer { node: from, run, dialer, attempt });
            return;
        };
        let delay = Duration::from_millis(1) + self.millis(30);
        let end = |node: usize, run, remote| End {
            node,
            run,
            wire: Arc::new(ScriptedWire::new(remote)),
            standing: None,
            is_over: false,
        };
        let ends = [end(from, run, attempt.address), end(to, self.nodes[to].run, self.nodes[from].address)];
        let wire = Wire::Scripted(Arc::clone(&ends[0].wire));
        let event = DialerEvent::Connected { peer: attempt.peer };
        let wall = self.wall_of(from);
        let now = self.now;
        let core = self.nodes[from].core.as_mut().unwrap();
        core.clock = Clock::starting_at(wall);
        let step = core.dial_step(now, (&mut dialer, attempt), DialEvent::Other(event), Some(&wire));
        let DialStep::Send(hello) = step else { return };
        let link = self.links.len();
        self.links.push(Link {
            ends,
            dialer: Some((dialer, attempt)),
            delay,
            heard_at: self.now,
            held: VecDeque::new(),
        });
        self.later(delay, Happening::Hello { link, hello });
        self.later(DIAL_WITHIN, Happening::DialOver { link });
    }

    fn hello(&mut self, link: usize, hello: Hello) {
        let end = &self.links[link].ends[1];
        let (node, from) = (end.node, self.links[link].ends[0].node);
        if !self.is_there(end) || !end.wire.is_open() || !self.is_reachable(node, from) {
            return;
        }
        let (wire, delay, peer) = (Arc::clone(&end.wire), self.links[link].delay, self.id(from));
        let mut acceptor = HelloAcceptor::new(self.now, peer);
        let scripted = Wire::Scripted(Arc::clone(&wire));
        let verdict = self.act(node, |core, now| {
            let verdict = core.hello(now, &mut acceptor, (peer, hello), &scripted);
            let proof = core.proof_of_removal(peer);
            (verdict, proof)
        });
        let Some((verdict, proof)) = verdict else { return };
        match verdict {
            Ok((ack, id, connection)) => {
                self.links[link].ends[1].standing = Some(((peer, id), connection));
                self.later(delay, Happening::Ack { link, ack });
            }
            Err(refused) => {
                let shown = (refused.reason == HelloRefusal::Removed).then_some(proof).flatten();
                let reason = shown.map(|proof| proof.as_bytes().to_vec()).unwrap_or_default();
                wire.close(CloseCode::Hello(refused.reason), &reason);
            }
        }
        self.flush(node);
    }

    fn ack(&mut self, link: usize, ack: HelloAck) {
        let end = &self.links[link].ends[0];
        let node = end.node;
        if !self.is_there(end)
            || !end.wire.is_open()
            || !self.is_reachable(node, self.links[link].ends[1].node)
        {
            return;
        }
        let wire = Arc::clone(&end.wire);
        let Some((mut dialer, attempt)) = self.links[link].dialer.take() else { return };
        let scripted = Wire::Scripted(Arc::clone(&wire));
        let step = self.act(node, |core, now| {
            let step = core.dial_step(now, (&mut dialer, attempt), DialEvent::Ack(ack), Some(&scripted));
            (step, core.proof_of_removal(attempt.peer))
        });
        match step {
            Some((DialStep::Up(id, connection), _)) => {
                self.links[link].ends[0].standing = Some(((attempt.peer, id), connection));
            }
            Some((DialStep::Close(reason), proof)) => {
                let shown = (reason == HelloRefusal::Removed).then_some(proof).flatten();
                let proof = shown.map(|proof| proof.as_bytes().to_vec()).unwrap_or_default();
                wire.close(CloseCode::Hello(reason), &proof);
            }
            Some(_) | None => wire.close(CloseCode::Malformed, b""),
        }
        self.flush(node);
    }

    /// The dialer's connection failed, or its time is over.
    fn dial_failed(&mut self, link: usize, event: DialerEvent, verdict: Verdict) {
        let Some((mut dialer, attempt)) = self.links[link].dialer.take() else { return };
        let end = &self.links[link].ends[0];
        let node = end.node;
        if !self.is_there(end) {
            return;
        }
        let wire = Arc::clone(&end.wire);
        let scripted = Wire::Scripted(Arc::clone(&wire));
        self.act(node, |core, now| {
            core.dial_step(now, (&mut dialer, attempt), DialEvent::Other(event), Some(&scripted));
            verdict.hand_to(core, now, attempt.peer);
        });
        wire.close(CloseCode::Hello(HelloRefusal::TooSlow), b"");
        self.flush(node);
    }

    /// Puts on its way what a node wants sent.
    fn flush(&mut self, index: usize) {
        for link in 0..self.links.len() {
            for side in 0..2 {
                let end = &self.links[link].ends[side];
                if end.node != index || end.is_over || !self.is_there(end) {
                    continue;
                }
                let (wire, delay, to) = (Arc::clone(&end.wire), self.links[link].delay, 1 - side);
                let queued = end.standing.as_ref().and_then(|(_, connection)| connection.queue().take());
                if let Some(Some(mut bytes)) = queued {
                    while let Ok(Received::Message(message)) = wire::take(&mut bytes) {
                        self.later(delay, Happening::Message { link, to, message });
                    }
                }
                for bytes in wire.datagrams() {
                    let delay = Duration::from_millis(1) + self.millis(20);
                    if self.chance.random_range(0..100) >= self.loss_percent {
                        self.later(delay, Happening::Datagram { link, to, bytes });
                    }
                }
                if let Some((code, reason)) = wire.closed() {
                    self.links[link].ends[side].is_over = true;
                    self.later(delay, Happening::Closed { link, to, code, reason });
                }
            }
        }
    }

    /// The node at that end, if what comes over the link reaches it.
    fn receiver(&self, link: usize, to: usize) -> Option<(usize, (NodeId, u64))> {
        let [one, two] = &self.links[link].ends;
        let end = &self.links[link].ends[to];
        let arrives = self.is_there(end) && end.wire.is_open() && self.is_reachable(one.node, two.node);
        let key = end.standing.as_ref().map(|(key, _)| *key)?;
        arrives.then_some((end.node, key))
    }

    fn message(&mut self, link: usize, to: usize, message: Control) {
        let [one, two] = &self.links[link].ends;
        if !self.is_reachable(one.node, two.node) || !self.links[link].held.is_empty() {
            return self.links[link].held.push_back((to, message));
        }
        self.hand_over(link, to, message);
    }

    fn hand_over(&mut self, link: usize, to: usize, message: Control) {
        let Some((node, key)) = self.receiver(link, to) else { return };
        self.links[link].ends[1 - to].wire.answer();
        let outcome = self.act(node, |core, now| {
            let outcome = core.control(now, key, message);
            if let Err(code) = outcome
                && core.peer_of(key).is_some()
            {
                core.end_session(now, key.0, code);
            }
        });
        debug_assert!(outcome.is_some());
    }

    fn closed(&mut self, link: usize, to: usize, code: CloseCode, reason: Vec<u8>) {
        let [one, two] = &self.links[link].ends;
        let end = &self.links[link].ends[to];
        if !self.is_there(end) || end.is_over || !self.is_reachable(one.node, two.node) {
            return;
        }
        let verdict = Verdict::of(code, reason);
        let (node, wire) = (end.node, Arc::clone(&end.wire));
        let key = end.standing.as_ref().map(|(key, _)| *key);
        self.links[link].ends[to].is_over = true;
        wire.close(code, b"");
        if to == 0 && self.links[link].dialer.is_some() {
            return self.dial_failed(link, DialerEvent::Closed(code), verdict);
        }
        let Some(key) = key else { return };
        let reason = match code {
            CloseCode::Goodbye(reason) => PeerDownReason::Goodbye(reason),
            _ => PeerDownReason::Reset,
        };
        self.act(node, |core, now| {
            core.session_over(now, key, reason);
            verdict.hand_to(core, now, key.0);
        });
    }

    /// Signs of life, and connections that give none.
    fn beat(&mut self) {
        for link in 0..self.links.len() {
            let [one, two] = &self.links[link].ends;
            let is_whole = self.is_there(one)
                && self.is_there(two)
                && self.is_reachable(one.node, two.node)
                && !one.is_over
                && !two.is_over;
            if is_whole {
                self.links[link].ends.iter().for_each(|end| end.wire.answer());
                self.links[link].heard_at = self.now;
                for (to, message) in std::mem::take(&mut self.links[link].held) {
                    self.hand_over(link, to, message);
                }
            } else if self.now.since(self.links[link].heard_at) >= SILENCE {
                for side in 0..2 {
                    self.fall_silent(link, side);
                }
            }
        }
        self.later(BEAT, Happening::Beat);
    }

    fn fall_silent(&mut self, link: usize, side: usize) {
        let end = &self.links[link].ends[side];
        if end.is_over || !self.is_there(end) {
            return;
        }
        let (node, wire) = (end.node, Arc::clone(&end.wire));
        let key = end.standing.as_ref().map(|(key, _)| *key);
        self.links[link].ends[side].is_over = true;
        wire.close(CloseCode::Malformed, b"");
        if let Some(key) = key {
            self.act(node, |core, now| core.session_over(now, key, PeerDownReason::TimedOut));
        }
    }

    /// The issuer is told to remove a node.
    pub(super) fn remove(&mut self, node: usize) {
        let run = self.nodes[0].run;
        let id = self.id(node);
        let (signs, stores) = (self.millis(40), self.millis(40));
        if let Some(Ok(_)) = self.act(0, |core, _| core.begin_removal(id)) {
            self.later(signs, Happening::Remove { node, run, stage: Stage::Sign(stores) });
        }
    }

    fn go_on_removing(&mut self, node: usize, run: u64, stage: Stage) {
        let id = self.id(node);
        if self.nodes[0].core.is_none() || self.nodes[0].run != run {
            return;
        }
        match stage {
            Stage::Sign(stores) => {
                let serials = self.reserve(0);
                if let Some(Ok(signed)) = self.act(0, |core, _| core.sign_removal(id, serials)) {
                    self.later(stores, Happening::Remove { node, run, stage: Stage::Store(signed) });
                }
            }
            Stage::Store(signed) => {
                let told = signed.verify(&cluster().public()).unwrap();
                self.nodes[0].revoked.add(signed, &cluster().public()).unwrap();
                // It may have joined again since.
                if self.certificate(node).serial <= told.serial_max {
                    self.removed[node] = Some(told.serial_max);
                }
                self.act(0, |core, now| {
                    core.remove(now, &[signed], None).ok();
                    core.end_removal(id);
                });
            }
        }
    }

    fn reserve(&mut self, index: usize) -> (u64, u64) {
        let seen = self.nodes[index].core.as_ref().and_then(|core| core.issuer.as_ref());
        let above = seen.map_or(0, IssuerState::serial_seen);
        let floor = serial_floor(self.wall_of(index));
        let node = &mut self.nodes[index];
        let first = node.serial_next.max(floor).max(above + 1);
        node.serial_next = first + SERIALS_RESERVED;
        (first, SERIALS_RESERVED)
    }

    /// A node that was removed has got a new token, and joins.
    pub(super) fn join_again(&mut self, index: usize) {
        let wall = self.wall_of(0);
        let id = self.id(index);
        let is_possible = |core: &Core| !core.removing.contains_key(&id) && core.issuer.is_some();
        if self.nodes[index].core.is_some() || !self.nodes[0].core.as_ref().is_some_and(is_possible) {
            return;
        }
        let serial = self.act(0, |core, _| core.issuer.as_mut().unwrap().take_serial()).flatten();
        let Some(serial) = serial else { return };
        let roles = Roles::from_iter([Role::Worker]);
        let issuer = Known { node: self.id(0), addresses: vec![self.nodes[0].address] };
        let node = &mut self.nodes[index];
        node.certificate = cluster().certify(id, roles, serial, wall, CERTIFICATE_LIFETIME);
        node.known = vec![issuer];
        self.removed[index] = None;
        self.start(index);
    }

    /// A peer shows a node the certificate that it began with, as if it were news.
    pub(super) fn replay_certificate(&mut self, index: usize) {
        let Some(core) = &self.nodes[index].core else { return };
        let peers: Vec<(NodeId, u64)> = core.sessions.values().map(|held| (held.peer.id, held.id)).collect();
        let certificate = first_certificate(index, self.id(index)).as_bytes().to_vec();
        for key in peers {
            let message: Control = Renewed { certificate: certificate.clone() }.into();
            self.act(index, |core, now| core.control(now, key, message.clone()).ok());
        }
    }

    pub(super) fn run_for(&mut self, span: Duration) {
        let end = self.now + span;
        while self.queue.peek().is_some_and(|Reverse(due)| due.0 <= end) {
            let Some(Reverse(Due(at, _, happening))) = self.queue.pop() else { break };
            self.now = at;
            self.happen(happening);
        }
        self.now = end;
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Wake { node, run } => {
                if self.nodes[node].run == run && self.nodes[node].wakes_at == Some(self.now) {
                    self.nodes[node].wakes_at = None;
                    self.act(node, Core::on_timer);
                }
            }
            Happening::Beat => self.beat(),
            Happening::Hello { link, hello } => self.hello(link, hello),
            Happening::Ack { link, ack } => self.ack(link, ack),
            Happening::DialOver { link } => {
                self.dial_failed(link, DialerEvent::DeadlinePassed, Verdict::default());
            }
            Happening::NoAnswer { node, run, mut dialer, attempt } => {
                if self.nodes[node].run == run {
                    let event = DialEvent::Other(DialerEvent::DeadlinePassed);
                    self.act(node, |core, now| core.dial_step(now, (&mut dialer, attempt), event, None));
                }
            }
            Happening::Message { link, to, message } => self.message(link, to, message),
            Happening::Datagram { link, to, bytes } => {
                if let Some((node, key)) = self.receiver(link, to) {
                    self.links[link].ends[1 - to].wire.answer();
                    self.act(node, |core, now| core.datagram(now, key, &bytes));
                }
            }
            Happening::Closed { link, to, code, reason } => self.closed(link, to, code, reason),
            Happening::Serials { node, run } => {
                if self.nodes[node].run == run {
                    let serials = self.reserve(node);
                    self.act(node, |core, _| core.reserved(Some(serials)));
                }
            }
            Happening::Remove { node, run, stage } => self.go_on_removing(node, run, stage),
        }
    }

    /// What one node thinks of another, for whom a test has failed.
    pub(super) fn describe(&self, one: usize, two: usize) -> String {
        let Some(core) = &self.nodes[one].core else { return "it does not run".to_owned() };
        let route = core.schedule.routes().find(|(node, _)| **node == self.id(two)).map(|(_, route)| route);
        let own = core.certificate;
        let session = core.session(self.id(two)).map(|session| (session.id, session.dialed_by));
        let dial = route.map(|route| {
            let wait = route.next_at().map(|at| at.since(self.now));
            format!(
                "{:?}, {} failures, last {:?}, next in {wait:?}",
                route.addresses, route.failures, route.last_failure
            )
        });
        format!(
            "node {one} at {} wall {} serial {} until {}, session {session:?}, entry {:?}, dial {dial:?}",
            self.nodes[one].address,
            self.wall_of(one),
            own.serial,
            own.not_after,
            core.node(self.id(two)),
        )
    }

    /// The links that two nodes both take for their connection, and those that one of them does.
    pub(super) fn links_between(&self, one: usize, two: usize) -> (usize, usize) {
        let holds = |end: &End| {
            let core = self.nodes[end.node].core.as_ref().filter(|_| self.is_there(end))?;
            let (key, _) = end.standing.as_ref()?;
            core.peer_of(*key)
        };
        let (mut both, mut half) = (0, 0);
        for link in &self.links {
            let nodes = [link.ends[0].node, link.ends[1].node];
            if nodes == [one, two] || nodes == [two, one] {
                match (holds(&link.ends[0]), holds(&link.ends[1])) {
                    (Some(_), Some(_)) => both += 1,
                    (None, None) => {}
                    _ => half += 1,
                }
            }
        }
        (both, half)
    }
}
