//! The cluster as it is shown: one row for each node.
//!
//! Owns the shape of the picture, and what follows from rows alone: their order, the sums, who serves which
//! model. Refuses to know how rows come about.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arw_kit::moment::{Moment, WallTime};

use super::card::{CardHealth, NodeCard};
use super::handle::{ClusterNode, ModelHost};
use super::news::{Knowledge, MemberState};
use crate::ids::NodeId;

/// A point in time, on both of a node's clocks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct At {
    /// For decisions.
    pub now: Moment,
    /// For people.
    pub wall: WallTime,
}

impl At {
    /// The calendar time of another moment.
    #[must_use]
    pub fn wall_of(self, moment: Moment) -> WallTime {
        self.wall - self.now.since(moment) + moment.since(self.now)
    }

    /// The same of both clocks, at another moment.
    #[must_use]
    pub fn of(self, moment: Moment) -> Self {
        Self { now: moment, wall: self.wall_of(moment) }
    }
}

/// All nodes, as this node knows them. The default is the picture of a node that has not looked yet.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Picture {
    /// `None`: this node is in no cluster.
    pub cluster: Option<ClusterRow>,
    /// The node that made the cluster: the same for every observer, whoever is up.
    pub home: Option<NodeId>,
    /// By name, then by id; those whose name is not known come last.
    pub nodes: Vec<NodeRow>,
    /// Sums over the rows.
    pub totals: Totals,
    /// News of nodes that could not be shown: there are too many.
    pub refused: u64,
}

/// The cluster that this node is in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterRow {
    /// Its id.
    pub id: String,
    /// This node lets others in and removes them.
    pub is_issuer: bool,
    /// Where this node says that others reach it.
    pub address: SocketAddr,
    /// By what that was found out, for people.
    pub address_by: String,
    /// What a person should do something about.
    pub warnings: Vec<String>,
    /// Until when this node's certificate is good.
    pub certificate_until: WallTime,
}

/// One node.
#[derive(Clone, Debug, PartialEq)]
pub struct NodeRow {
    /// Its id.
    pub node: NodeId,
    /// What it calls itself; `None` before there was a connection to it.
    pub name: Option<String>,
    /// What its certificate lets it be.
    pub roles: Vec<String>,
    /// Whether it is there.
    pub state: MemberState,
    /// Since when it is in that state.
    pub since: WallTime,
    /// Why it is down.
    pub reason: Option<String>,
    /// Which start of it.
    pub incarnation: u64,
    /// Where it is.
    pub address: Option<SocketAddr>,
    /// There is a connection to it. This node is always connected to itself.
    pub is_connected: bool,
    /// It finishes what it has and takes nothing new.
    pub is_draining: bool,
    /// What it last said of itself, in this start of it.
    pub card: Option<Arc<NodeCard>>,
    /// When that came, where it is stale.
    pub stale_since: Option<WallTime>,
    /// How it is, with what follows from its state and from the age of its card.
    pub health: CardHealth,
    /// There and back, rounded.
    pub rtt: Option<Duration>,
    /// How long ago it gave a sign of life, in steps.
    pub last_seen: Duration,
    /// When that was, once it is worth telling.
    pub last_seen_at: Option<WallTime>,
    /// Where this comes from.
    pub source: Knowledge,
}

impl NodeRow {
    /// It runs engines for others.
    #[must_use]
    pub fn is_worker(&self) -> bool {
        self.roles.iter().any(|role| role == "worker")
    }

    /// It is a member: there, or not known to be gone.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        self.state.is_alive()
    }
}

impl MemberState {
    /// A member: a suspected one still is.
    #[must_use]
    pub fn is_alive(self) -> bool {
        match self {
            Self::Up | Self::Suspect => true,
            Self::Down | Self::Left => false,
        }
    }

    /// The word in JSON, in tables and in metrics.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Suspect => "suspect",
            Self::Down => "down",
            Self::Left => "left",
        }
    }
}

impl Knowledge {
    /// The word in JSON.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Own => "own",
            Self::Card => "card",
            Self::Membership => "membership",
        }
    }
}

/// Sums. What a node says of itself counts only while it is a member and its card is fresh.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Nodes that are up.
    pub up: u64,
    /// Nodes that are suspected.
    pub suspect: u64,
    /// Nodes that are down.
    pub down: u64,
    /// Nodes that have left.
    pub left: u64,
    /// Members that are draining.
    pub draining: u64,
    /// Cores that may be used.
    pub usable_cores: u64,
    /// Main memory.
    pub memory_total_bytes: u64,
    /// What of it is free.
    pub memory_available_bytes: u64,
    /// Graphics cards.
    pub accelerators: u64,
    /// Runtimes.
    pub runtimes: u64,
    /// Runtimes to which requests may be sent.
    pub runtimes_serving: u64,
    /// Requests that are worked on.
    pub in_flight: u64,
    /// Requests that wait.
    pub waiting: u64,
}

impl Totals {
    /// The sums over these rows.
    #[must_use]
    pub fn of(rows: &[NodeRow]) -> Self {
        let mut all = Self::default();
        for row in rows {
            *match row.state {
                MemberState::Up => &mut all.up,
                MemberState::Suspect => &mut all.suspect,
                MemberState::Down => &mut all.down,
                MemberState::Left => &mut all.left,
            } += 1;
            if !row.is_alive() {
                continue;
            }
            all.draining += u64::from(row.is_draining);
            if let Some(card) = row.card.as_ref().filter(|_| row.stale_since.is_none()) {
                all.add(card);
            }
        }
        all
    }

    fn add(&mut self, card: &NodeCard) {
        let count = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
        let hardware = &card.hardware;
        // A node may claim anything of itself: sums of wild figures must not panic.
        let sum = |total: &mut u64, more: u64| *total = total.saturating_add(more);
        sum(&mut self.usable_cores, hardware.cpu.usable_cores.into());
        sum(&mut self.memory_total_bytes, hardware.memory.total_bytes);
        sum(&mut self.memory_available_bytes, hardware.memory.available_bytes);
        sum(&mut self.accelerators, count(hardware.accelerators.len()));
        sum(&mut self.runtimes, count(card.runtimes.len()));
        sum(&mut self.runtimes_serving, count(card.runtimes.iter().filter(|it| it.is_serving).count()));
        sum(&mut self.in_flight, card.load.in_flight.into());
        sum(&mut self.waiting, card.queue.waiting.into());
    }
}

impl Picture {
    /// CLUSTER-7: who serves which model to others: members that are workers, connected, not draining, and
    /// whose card is fresh, in an order that does not depend on how they came.
    #[must_use]
    pub fn hosts(&self) -> Vec<ModelHost> {
        let mut hosts: Vec<ModelHost> = self.nodes.iter().flat_map(hosts_on).collect();
        hosts.sort_by_cached_key(|it| (it.model.clone(), it.node_name.clone(), it.node, it.runtime.clone()));
        hosts
    }
}

impl Picture {
    /// The nodes besides this one, as far as they can be asked for something.
    pub(super) fn others(&self) -> Vec<ClusterNode> {
        let others = self.nodes.iter().filter(|row| row.source != Knowledge::Own);
        let node = |row: &NodeRow| ClusterNode {
            id: row.node,
            name: row.name.clone().unwrap_or_default(),
            is_connected: row.is_connected,
        };
        others.map(node).collect()
    }
}

fn hosts_on(row: &NodeRow) -> Vec<ModelHost> {
    // Who has not said for a while how it is may hang: its runtimes are no better than none.
    let is_open = row.is_alive()
        && row.is_connected
        && !row.is_draining
        && row.stale_since.is_none()
        && row.is_worker();
    let Some(card) = row.card.as_ref().filter(|_| is_open && row.source != Knowledge::Own) else {
        return Vec::new();
    };
    let serving = card.runtimes.iter().filter(|runtime| runtime.is_serving);
    serving
        .map(|runtime| ModelHost {
            node: row.node,
            node_name: row.name.clone().unwrap_or_else(|| row.node.short()),
            runtime: runtime.id.clone(),
            model: runtime.model.clone(),
            state: runtime.state.clone(),
            context_length: runtime.context_length,
            busy: runtime.in_flight.saturating_add(runtime.waiting),
        })
        .collect()
}
