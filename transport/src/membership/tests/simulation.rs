//! A network of members from a seed: virtual time, one queue, loss, jitter, reordering, partitions, crashes,
//! stalls.
//!
//! Owns what happens when and the bookkeeping of deaths. Refuses to know what a test wants to see.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::ops::Range;
use std::time::Duration;

use arw_kit::moment::Moment;
use bytes::{BufMut, Bytes};
use foca::State;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::identity::NodeId;
use crate::membership::packet::Statement;
use crate::membership::record::{Record, RecordKey};
use crate::membership::{
    DownReason, MemberIdentity, Membership, MembershipConfig, MembershipEvent, MembershipOutput,
    MembershipView, NodeState, ViewChange,
};

/// What the network does to datagrams.
#[derive(Clone, Copy, Debug)]
pub(super) struct Network {
    pub(super) loss_percent: u32,
    /// Each datagram takes its own time, so they overtake each other.
    pub(super) delay_micros: (u64, u64),
}

/// A network within one region, with some jitter.
pub(super) fn network(loss_percent: u32) -> Network {
    Network { loss_percent, delay_micros: (200, 20_000) }
}

/// How many datagrams wait for a node that does not run: the size of its socket's and connections' buffers.
const INBOX_MAX: usize = 2_000;

/// How often somebody is dialed that does not answer.
const DIAL_AGAIN: Duration = Duration::from_millis(500);

/// How long after a fault of its own, or between it and others, a death is nobody's mistake.
const EXCUSE: Duration = Duration::from_secs(10);

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Happening {
    Start { node: usize },
    Deliver { to: usize, from: usize, bytes: Bytes },
    Dial { from: usize, to: usize },
    Wake { node: usize },
}

/// One node.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) machine: Membership,
    pub(super) view: MembershipView,
    pub(super) events: Vec<MembershipEvent>,
    pub(super) is_running: bool,
    is_stalled: bool,
    side: u8,
    inbox: VecDeque<(usize, Bytes)>,
    wake: Option<Moment>,
    excused_until: Moment,
}

/// A node that was declared down although it was there.
#[derive(Debug)]
#[expect(dead_code, reason = "read through Debug when a test fails")]
pub(super) struct FalseDeath {
    at: Moment,
    by: usize,
    victim: MemberIdentity,
    reason: DownReason,
}

#[derive(Debug)]
pub(super) struct Simulation {
    pub(super) seed: u64,
    pub(super) now: Moment,
    pub(super) nodes: Vec<Node>,
    pub(super) false_deaths: Vec<FalseDeath>,
    /// Per life of a node that somebody saw going down: how many have, and when the last one did.
    pub(super) deaths: BTreeMap<(usize, u64), (usize, Moment)>,
    pub(super) suspicions: u64,
    pub(super) network: Network,
    config: MembershipConfig,
    /// What each node says of itself at first.
    beginnings: Vec<Record>,
    chance: StdRng,
    queue: BinaryHeap<Reverse<(Moment, u64, Happening)>>,
    queued: u64,
}

impl Simulation {
    /// `nodes` nodes that do not know each other.
    pub(super) fn strangers(seed: u64, nodes: usize, network: Network) -> Self {
        Self::with_config(seed, nodes, network, MembershipConfig::default())
    }

    pub(super) fn with_config(seed: u64, nodes: usize, network: Network, config: MembershipConfig) -> Self {
        let mut simulation = Self {
            seed,
            // Not zero: a clock's zero is no special moment.
            now: Moment::ZERO + Duration::from_secs(1_000),
            nodes: Vec::new(),
            false_deaths: Vec::new(),
            deaths: BTreeMap::new(),
            suspicions: 0,
            network,
            config,
            beginnings: Vec::new(),
            chance: StdRng::seed_from_u64(seed),
            queue: BinaryHeap::new(),
            queued: 0,
        };
        for index in 0..nodes {
            let node = simulation.node(index, 1);
            simulation.beginnings.push(RecordKey::simulated().sign(node.machine.own(), 0));
            simulation.nodes.push(node);
        }
        simulation
    }

    /// A cluster whose nodes all know each other. They begin at their own times: in step, they would probe in
    /// step.
    pub(super) fn formed(seed: u64, nodes: usize, network: Network) -> Self {
        let mut simulation = Self::strangers(seed, nodes, network);
        for node in 0..nodes {
            let machine = &mut simulation.nodes[node].machine;
            (0..nodes).filter(|&other| other != node).for_each(|other| machine.met(id(other), 0));
            let at = simulation.now + Duration::from_micros(simulation.chance.random_range(0..1_000_000));
            simulation.at(at, Happening::Start { node });
        }
        simulation.run_for(Duration::from_secs(1));
        simulation
    }

    fn node(&mut self, index: usize, incarnation: u64) -> Node {
        let own = MemberIdentity::new(id(index), address(index), incarnation);
        Node {
            machine: Membership::new(own, RecordKey::simulated(), self.config, self.chance.random()),
            view: MembershipView::new(self.now, own, self.config),
            events: Vec::new(),
            is_running: true,
            is_stalled: false,
            side: 0,
            inbox: VecDeque::new(),
            wake: None,
            excused_until: Moment::ZERO,
        }
    }

    fn at(&mut self, at: Moment, happening: Happening) {
        self.queued += 1;
        self.queue.push(Reverse((at, self.queued, happening)));
    }

    /// Something random in `range`, from the seed.
    pub(super) fn random(&mut self, range: Range<u64>) -> u64 {
        self.chance.random_range(range)
    }

    pub(super) fn run_for(&mut self, span: Duration) {
        let end = self.now + span;
        while let Some(Reverse((at, _, _))) = self.queue.peek()
            && *at <= end
        {
            let Some(Reverse((at, _, happening))) = self.queue.pop() else { break };
            self.now = at;
            match happening {
                Happening::Start { node } => self.introduce(node),
                Happening::Deliver { to, from, bytes } => self.deliver(to, from, bytes),
                Happening::Dial { from, to } => self.dial(from, to),
                Happening::Wake { node } => self.wake(node, at),
            }
        }
        self.now = end;
    }

    /// Runs until `is_done`, looked at every 50 ms; how long that took. Fails after `limit`.
    #[track_caller]
    pub(super) fn run_until(
        &mut self,
        limit: Duration,
        what: &str,
        is_done: impl Fn(&Simulation) -> bool,
    ) -> Duration {
        let start = self.now;
        while !is_done(self) {
            let took = self.now.since(start);
            assert!(took < limit, "seed {}: not within {limit:?}: {what}\n{}", self.seed, self.differences());
            self.run_for(Duration::from_millis(50));
        }
        self.now.since(start)
    }

    /// It is connected with all others, and knows what they say of themselves.
    fn introduce(&mut self, node: usize) {
        let others = (0..self.nodes.len()).filter(|&other| other != node);
        let mut statements = Vec::new();
        for other in others {
            statements.push(Statement { record: self.beginnings[other], state: State::Alive, life: 0 });
        }
        let mut snapshot = vec![2];
        snapshot.put_u32(u32::try_from(statements.len()).unwrap());
        statements.iter().for_each(|statement| statement.write(&mut snapshot));
        self.nodes[node].machine.merge_snapshot(self.now, &snapshot).unwrap();
        self.drain(node);
    }

    /// As an endpoint does with whom it is told of: again and again, until there is a connection.
    fn dial(&mut self, from: usize, to: usize) {
        let is_there = |node: &Node| node.is_running && !node.is_stalled;
        let (one, two) = (&self.nodes[from], &self.nodes[to]);
        if is_there(one) && is_there(two) && one.side == two.side {
            self.connect(from, to);
        } else if one.is_running {
            self.at(self.now + DIAL_AGAIN, Happening::Dial { from, to });
        }
    }

    fn deliver(&mut self, to: usize, from: usize, bytes: Bytes) {
        let receiver = &mut self.nodes[to];
        if receiver.is_running && receiver.is_stalled {
            if receiver.inbox.len() == INBOX_MAX {
                receiver.inbox.pop_front();
            }
            receiver.inbox.push_back((from, bytes));
        } else if receiver.is_running {
            self.hand_over(to, from, &bytes);
            self.drain(to);
        }
    }

    fn hand_over(&mut self, to: usize, from: usize, bytes: &[u8]) {
        let receiver = &mut self.nodes[to];
        match receiver.machine.on_datagram(self.now, id(from), bytes) {
            Ok(()) => receiver.view.heard(self.now, &id(from)),
            Err(error) => panic!("seed {}: node {from} to {to}: {error}", self.seed),
        }
    }

    fn wake(&mut self, node: usize, at: Moment) {
        let member = &mut self.nodes[node];
        if member.wake != Some(at) || !member.is_running || member.is_stalled {
            return;
        }
        member.wake = None;
        member.machine.on_timer(at);
        self.drain(node);
    }

    /// Sends what the node wants sent, tells its view, and sets its alarm.
    pub(super) fn drain(&mut self, node: usize) {
        while let Some(output) = self.nodes[node].machine.poll_output() {
            match output {
                MembershipOutput::Datagram { to, bytes } => self.send(node, index_of(&to), bytes),
                MembershipOutput::Event(MembershipEvent::Introduced { member }) => {
                    let took = Duration::from_micros(self.chance.random_range(1_000..=20_000));
                    let to = index_of(&member.id);
                    self.at(self.now + took, Happening::Dial { from: node, to });
                }
                MembershipOutput::Event(event) => self.tell(node, event),
            }
        }
        let expired = self.nodes[node].view.on_timer(self.now);
        self.note(node, &expired);
        let member = &mut self.nodes[node];
        let deadline = member.machine.next_deadline().into_iter().chain(member.view.next_deadline()).min();
        if let Some(at) = deadline
            && member.wake.is_none_or(|wake| at < wake)
        {
            member.wake = Some(at);
            self.at(at, Happening::Wake { node });
        }
    }

    fn send(&mut self, from: usize, to: usize, bytes: Bytes) {
        let (low, high) = self.network.delay_micros;
        let delay = Duration::from_micros(self.chance.random_range(low..=high));
        let is_lost = self.chance.random_range(0..100) < self.network.loss_percent;
        let is_cut = self.nodes[from].side != self.nodes[to].side;
        if !is_lost && !is_cut {
            self.at(self.now + delay, Happening::Deliver { to, from, bytes });
        }
    }

    fn tell(&mut self, node: usize, event: MembershipEvent) {
        let changes = self.nodes[node].view.apply(self.now, &event);
        self.nodes[node].events.push(event);
        self.note(node, &changes);
    }

    fn note(&mut self, by: usize, changes: &[ViewChange]) {
        for change in changes {
            match *change {
                ViewChange::WentDown { member, reason } => self.note_death(by, member, reason),
                ViewChange::Suspected { .. } => self.suspicions += 1,
                _ => {}
            }
        }
    }

    fn note_death(&mut self, by: usize, victim: MemberIdentity, reason: DownReason) {
        let index = index_of(&victim.id);
        let known = self.deaths.entry((index, victim.incarnation)).or_default();
        *known = (known.0 + 1, self.now);
        let is_excused = |node: &Node| node.is_stalled || node.excused_until > self.now;
        let (node, judge) = (&self.nodes[index], &self.nodes[by]);
        let is_there = node.is_running && node.machine.own().incarnation == victim.incarnation;
        if is_there && node.side == judge.side && !is_excused(node) && !is_excused(judge) {
            self.false_deaths.push(FalseDeath { at: self.now, by, victim, reason });
        }
    }

    /// The connection between two nodes is up; both sides learn it.
    pub(super) fn connect(&mut self, one: usize, two: usize) {
        for (node, peer) in [(one, two), (two, one)] {
            self.nodes[node].machine.met(id(peer), 0);
            self.nodes[node].machine.on_peer_connected(self.now, id(peer));
            self.drain(node);
        }
    }

    pub(super) fn crash(&mut self, node: usize) {
        self.nodes[node].is_running = false;
    }

    /// Starts a node again that has crashed or left, with the next incarnation and no memory; it knows
    /// `contact`.
    pub(super) fn restart(&mut self, node: usize, contact: usize) {
        let incarnation = self.nodes[node].machine.own().incarnation + 1;
        self.restart_as(node, contact, incarnation);
    }

    pub(super) fn restart_as(&mut self, node: usize, contact: usize, incarnation: u64) {
        let side = self.nodes[node].side;
        self.nodes[node] = Node { side, ..self.node(node, incarnation) };
        self.nodes[node].machine.announce_to(self.now, id(contact));
        self.drain(node);
    }

    pub(super) fn leave(&mut self, node: usize) {
        self.nodes[node].machine.leave(self.now);
        self.drain(node);
        self.nodes[node].is_running = false;
    }

    /// The node does not run, time goes on and its inbox fills.
    pub(super) fn stall(&mut self, node: usize) {
        self.nodes[node].is_stalled = true;
    }

    /// It runs again: first what has arrived, then what is due.
    pub(super) fn resume(&mut self, node: usize) {
        self.nodes[node].is_stalled = false;
        self.nodes[node].excused_until = self.now + EXCUSE;
        for (from, bytes) in std::mem::take(&mut self.nodes[node].inbox) {
            self.hand_over(node, from, &bytes);
        }
        self.nodes[node].machine.on_timer(self.now);
        self.nodes[node].wake = None;
        self.drain(node);
    }

    /// Puts nodes on different sides of a cut.
    pub(super) fn partition(&mut self, side_of: impl Fn(usize) -> u8) {
        self.nodes.iter_mut().enumerate().for_each(|(index, node)| node.side = side_of(index));
    }

    pub(super) fn heal(&mut self) {
        let until = self.now + EXCUSE;
        for node in &mut self.nodes {
            node.side = 0;
            node.excused_until = until;
        }
    }

    pub(super) fn running(&self) -> impl Iterator<Item = usize> {
        (0..self.nodes.len()).filter(|&node| self.nodes[node].is_running)
    }

    pub(super) fn state_of(&self, seen_by: usize, node: usize) -> Option<NodeState> {
        self.nodes[seen_by].view.node(&id(node)).map(|entry| entry.state)
    }

    /// Every running node knows exactly the running nodes, in the life that they are in, and shows them so.
    pub(super) fn agrees(&self) -> bool {
        self.running().all(|node| self.knows_all(node))
    }

    /// As [`Simulation::agrees`], within each side of a cut.
    pub(super) fn knows_all(&self, node: usize) -> bool {
        let here = &self.nodes[node];
        let mut members = vec![None; self.nodes.len()];
        here.machine.members().for_each(|member| members[index_of(&member.id)] = Some(*member));
        let mut shown = vec![None; self.nodes.len()];
        for entry in here.view.nodes() {
            if matches!(entry.state, NodeState::Up | NodeState::Suspect) {
                shown[index_of(&entry.identity.id)] = Some(entry.identity);
            }
        }
        self.nodes.iter().enumerate().all(|(other, there)| {
            let is_there = there.is_running && there.side == here.side;
            let own = is_there.then(|| there.machine.own());
            (node == other || members[other] == own)
                && shown[other] == own
                && shown[other].map(|shown| shown.address) == own.map(|own| own.address)
        })
    }

    fn differences(&self) -> String {
        let differing = self.running().filter(|&node| !self.knows_all(node)).take(5);
        differing
            .map(|node| {
                let here = &self.nodes[node];
                format!(
                    "node {node} {:?} knows {:?}, shows {:?}\n",
                    here.machine.own(),
                    here.machine.members().take(10).collect::<Vec<_>>(),
                    here.view.nodes().take(10).map(|entry| (entry.identity, entry.state)).collect::<Vec<_>>(),
                )
            })
            .collect()
    }

    /// When the last running node learned that this life of `node` is over; `None` while some do not know.
    pub(super) fn death_known(&self, node: usize, incarnation: u64) -> Option<Moment> {
        let (count, last) = *self.deaths.get(&(node, incarnation))?;
        (count >= self.running().count()).then_some(last)
    }

    pub(super) fn bytes_sent(&self) -> u64 {
        self.nodes.iter().map(|node| node.machine.counters().sent_bytes).sum()
    }

    pub(super) fn datagrams_sent(&self) -> u64 {
        self.nodes.iter().map(|node| node.machine.counters().sent).sum()
    }

    /// Nothing went wrong that must never go wrong.
    #[track_caller]
    pub(super) fn check_always(&self) {
        for (index, node) in self.nodes.iter().enumerate() {
            let counters = node.machine.counters();
            assert_eq!(counters.faults, 0, "seed {}: node {index}", self.seed);
            assert_eq!(counters.sent_dropped, 0, "seed {}: node {index}", self.seed);
            assert_eq!(
                node.view.stale(),
                0,
                "seed {}: node {index}: the protocol told something old",
                self.seed
            );
        }
    }

    #[track_caller]
    pub(super) fn check_no_false_death(&self) {
        assert!(self.false_deaths.is_empty(), "seed {}: {:?}", self.seed, self.false_deaths);
    }
}

pub(super) fn id(index: usize) -> NodeId {
    // Like keys, ids say nothing about each other's order.
    let mut bytes = [0; 32];
    let number = u32::try_from(index).unwrap();
    bytes[..4].copy_from_slice(&number.wrapping_mul(0x9e37_79b1).to_be_bytes());
    bytes[28..].copy_from_slice(&number.to_be_bytes());
    NodeId::from_bytes(bytes)
}

fn index_of(id: &NodeId) -> usize {
    let [.., a, b, c, d] = *id.as_bytes();
    u32::from_be_bytes([a, b, c, d]) as usize
}

pub(super) fn address(index: usize) -> std::net::SocketAddr {
    let [.., high, low] = u32::try_from(index).unwrap().to_be_bytes();
    ([10, 0, high, low], 7_000).into()
}

/// The seeds that a test runs: the one in `ARW_SIM_SEED`, or `count` from `first` on.
pub(super) fn seeds(first: u64, count: u64) -> Range<u64> {
    match std::env::var("ARW_SIM_SEED").ok().and_then(|text| text.parse().ok()) {
        Some(seed) => seed..seed + 1,
        None => first..first + count,
    }
}
