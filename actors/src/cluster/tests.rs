use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arw_kit::clock::START;
use arw_kit::mailbox::{Actor, Context, Fault};
use arw_kit::moment::{Moment, WallTime};
use arw_kit::supervision::{ActorSpec, ActorSystem, SupervisorHandle};
use parking_lot::Mutex;
use tokio::sync::watch;

use super::own_card::{OwnCard, Seen};
use super::*;
use crate::hardware::{Hardware, HardwareSources};
use crate::ids::NodeId;
use crate::journal::{Journal, JournalOptions, Retention};
use crate::node_info::NodeStatus;
use crate::runtime::directory::{Board, DirectoryMessage, Runtimes};
use crate::store::{Store, StoreOptions};

fn at(millis: u64) -> At {
    let span = Duration::from_millis(millis);
    At { now: Moment::ZERO + span, wall: WallTime::from_millis(1_700_000_000_000) + span }
}

const GIB: u64 = 1 << 30;

fn machine(available_bytes: u64) -> Hardware {
    let mut hardware = Hardware::default();
    hardware.memory.total_bytes = 100 * GIB;
    hardware.memory.available_bytes = available_bytes;
    hardware.cpu.usable_cores = 8;
    hardware
}

fn seen(hardware: &Hardware) -> Seen<'_> {
    Seen {
        version: "0.1.0",
        status: &NodeStatus::Ready,
        rows: &[],
        served: &[],
        hardware,
        cpu_permille: Some(100),
        actors: 7,
        given_up: &[],
        dead_letters: 0,
        is_draining: false,
    }
}

/// CLUSTER-2.
#[test]
fn a_card_is_told_when_it_changes_at_most_four_times_a_second_and_every_ten_seconds() {
    let mut own = OwnCard::default();
    let hardware = machine(80 * GIB);
    let first = own.look(at(0), &seen(&hardware)).unwrap();
    assert_eq!((first.made_at, first.load.actors, first.health.state.as_str()), (at(0).wall, 7, "ok"));
    assert_eq!(own.look(at(9_999), &seen(&hardware)), None);
    let again = own.look(at(10_000), &seen(&hardware)).unwrap();
    assert_eq!(again.made_at, at(10_000).wall);
    let busy = |actors| Seen { actors, ..seen(&hardware) };
    assert_eq!(own.look(at(10_249), &busy(8)), None);
    assert_eq!(own.look(at(10_250), &busy(9)).unwrap().load.actors, 9, "the newest of what was held back");
    assert_eq!(own.look(at(10_251), &busy(9)), None);
}

/// CLUSTER-4.
#[test]
fn figures_that_breathe_are_told_when_they_have_really_moved() {
    let mut own = OwnCard::default();
    let told = |own: &mut OwnCard, ms, free| {
        let card = own.look(at(ms), &seen(&machine(free * GIB)));
        card.map(|card| card.hardware.memory.available_bytes / GIB)
    };
    assert_eq!(told(&mut own, 0, 80), Some(80));
    assert_eq!(told(&mut own, 1_000, 76), None);
    assert_eq!(told(&mut own, 2_000, 84), None);
    assert_eq!(told(&mut own, 3_000, 74), Some(74));
    assert_eq!(told(&mut own, 13_000, 78), Some(74), "the same is said again");
    let hardware = machine(74 * GIB);
    let load = |permille| Seen { cpu_permille: Some(permille), ..seen(&hardware) };
    assert_eq!(own.look(at(14_000), &load(199)), None);
    assert_eq!(own.look(at(14_000), &load(201)).unwrap().load.cpu_permille, Some(201));
}

#[test]
fn health_is_the_worst_of_its_parts_with_a_way_out() {
    let hardware = machine(80 * GIB);
    let health = |seen: Seen<'_>| OwnCard::default().look(at(0), &seen).unwrap().health.clone();
    let letters = health(Seen { dead_letters: 3, ..seen(&hardware) });
    assert_eq!((letters.state.as_str(), letters.hint.is_some()), ("info", true));
    let degraded = NodeStatus::Degraded(vec!["the disk is full".to_owned()]);
    let status = health(Seen { dead_letters: 3, status: &degraded, ..seen(&hardware) });
    assert_eq!((status.state.as_str(), status.reason.as_deref()), ("warning", Some("the disk is full")));
    let given_up = ["node/views".to_owned()];
    let worst = health(Seen { status: &degraded, given_up: &given_up, is_draining: true, ..seen(&hardware) });
    assert_eq!(worst.state, "error");
    assert!(worst.reason.unwrap().contains("node/views"));
}

#[test]
fn a_limit_of_the_machine_is_the_memory_that_the_node_may_use() {
    let mut hardware = machine(80 * GIB);
    hardware.memory.limit_bytes = Some(10 * GIB);
    hardware.memory.limit_used_bytes = Some(4 * GIB);
    let card = OwnCard::default().look(at(0), &seen(&hardware)).unwrap();
    let memory = card.hardware.memory;
    assert_eq!((memory.total_bytes / GIB, memory.available_bytes / GIB), (10, 6));
}

/// Whoever asks it for something gets no answer.
struct NoDirectory;

impl Actor for NoDirectory {
    type Message = DirectoryMessage;
    type Args = ();
    const KIND: &'static str = "directory";

    async fn start((): &(), _: &mut Context<DirectoryMessage>) -> Result<Self, Fault> {
        Ok(Self)
    }

    async fn handle(&mut self, _: DirectoryMessage, _: &mut Context<DirectoryMessage>) -> Result<(), Fault> {
        Ok(())
    }
}

/// A node of which only the cluster's actor runs.
struct Lonely {
    cluster: Cluster,
    journal: Journal,
    root: SupervisorHandle,
    _folder: tempfile::TempDir,
}

impl Lonely {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("arw.db"), StoreOptions::default()).unwrap();
        let system = ActorSystem::new("node");
        let retention = Retention { max_age: Duration::from_secs(3_600), max_rows: 1_000 };
        let journal = Journal::open(store, JournalOptions { retention, clock: system.clock() }).unwrap();
        let mut root = system.root();
        let directory = root.actor(ActorSpec::<NoDirectory>::new("directory", ()));
        let cluster = Cluster::default();
        let own = OwnNode {
            id: NodeId::from_bytes([9; 32]),
            name: "own".to_owned(),
            incarnation: 1,
            started_at: system.clock().wall(),
        };
        root.actor(ActorSpec::<ClusterActor>::new(
            "cluster",
            ClusterArgs {
                cluster: cluster.clone(),
                view: Arc::new(Mutex::new(ClusterView::new(own))),
                version: "0.1.0",
                runtimes: Runtimes::new(directory, Arc::new(Board::default())),
                hardware: Arc::new(Mutex::new(machine(80 * GIB))),
                sources: HardwareSources::system(),
                status: watch::channel(NodeStatus::Ready).1,
                journal: journal.clone(),
            },
        ));
        let root = system.start(root).await.unwrap();
        Self { cluster, journal, root, _folder: folder }
    }

    /// Waits for a picture that satisfies `wanted`.
    async fn until(&self, wanted: impl Fn(&Picture) -> bool) -> Arc<Picture> {
        let mut changes = self.cluster.changes();
        let seen = async {
            while !wanted(&self.cluster.picture()) {
                changes.changed().await.unwrap();
            }
            self.cluster.picture()
        };
        tokio::time::timeout(Duration::from_secs(20), seen).await.expect("the picture never came")
    }

    fn kinds(&self) -> Vec<String> {
        let page = self.journal.replay_blocking(Some(0), 100, None).unwrap();
        page.events.iter().map(|record| record.event.kind().to_owned()).collect()
    }
}

fn arrival(number: u8) -> [ClusterUpdate; 3] {
    let (node, address) = (NodeId::from_bytes([number; 32]), SocketAddr::from(([10, 0, 0, number], 7400)));
    let runtime = CardRuntime { model: "m".to_owned(), is_serving: true, ..CardRuntime::default() };
    let card = Box::new(NodeCard { runtimes: vec![runtime], ..NodeCard::default() });
    let contact = Contact {
        node,
        name: format!("box{number}"),
        roles: vec!["worker".to_owned()],
        incarnation: 1,
        address,
        rtt: Duration::from_millis(1),
    };
    let member = MemberUpdate {
        node,
        incarnation: 1,
        address,
        state: MemberState::Up,
        since: START,
        reason: None,
        last_seen: START,
    };
    [
        ClusterUpdate::Connected(contact),
        ClusterUpdate::Card { node, incarnation: 1, card },
        ClusterUpdate::Member(member),
    ]
}

/// CLUSTER-3.
#[tokio::test]
async fn what_the_transport_tells_is_shown_journaled_and_offered() {
    let node = Lonely::start().await;
    let alone = node.until(|picture| picture.nodes.len() == 1).await;
    assert_eq!(alone.nodes[0].card.as_ref().unwrap().version, "0.1.0");
    arrival(1).into_iter().chain(arrival(2)).for_each(|news| node.cluster.learn(news));
    let all = node.until(|picture| picture.nodes.len() == 3).await;
    let names: Vec<_> = all.nodes.iter().filter_map(|row| row.name.as_deref()).collect();
    assert_eq!(names, ["box1", "box2", "own"]);
    assert_eq!(node.cluster.hosts().len(), 2);
    node.cluster.learn(ClusterUpdate::Alone);
    node.until(|picture| picture.nodes.len() == 1).await;
    assert_eq!(node.cluster.hosts().len(), 0);
    assert!(node.journal.flush(Duration::from_secs(5)).await);
    assert_eq!(node.kinds(), ["cluster_node_joined", "cluster_node_joined"]);
}

/// CLUSTER-5.
#[tokio::test]
async fn draining_is_told_to_others_and_shown_here() {
    let node = Lonely::start().await;
    let mut card = node.cluster.own_card();
    node.cluster.set_draining(true);
    let told = tokio::time::timeout(Duration::from_secs(20), card.wait_for(|card| card.is_draining));
    assert_eq!(told.await.unwrap().unwrap().health.state, "info");
    node.until(|picture| picture.nodes.iter().all(|row| row.is_draining)).await;
}

#[tokio::test]
async fn news_outlive_a_crash_of_whoever_reads_them() {
    let node = Lonely::start().await;
    arrival(1).into_iter().for_each(|news| node.cluster.learn(news));
    node.until(|picture| picture.nodes.len() == 2).await;
    assert!(node.root.kill("cluster", Duration::from_secs(20)).await);
    arrival(2).into_iter().for_each(|news| node.cluster.learn(news));
    node.until(|picture| picture.nodes.len() == 3).await;
}
