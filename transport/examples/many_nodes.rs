//! Many nodes in one process, over real sockets: how soon all know all, what a connection costs, how soon a
//! death is known.
//!
//! `cargo run --release -p arw-transport --example many_nodes -- 50` starts all at once; with `grow` behind
//! the number each starts when the one before it has met all others. What the nodes know is counted by their
//! events: looking at their pictures would hold up 200 threads that share two cores.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use arw_kit::clock::Clock;
use arw_transport::certificate::{CERTIFICATE_LIFETIME, ClusterKey, RevocationSet, Role, Roles};
use arw_transport::endpoint::{
    Counters, Credentials, Endpoint, EndpointEvent, EndpointEvents, EndpointHandle, EndpointOptions, Known,
    Limits, NoServices,
};
use arw_transport::identity::{NodeId, NodeKey};
use arw_transport::membership::{MembershipConfig, ViewChange};
use arw_transport::wire::HelloRefusal;

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

#[expect(clippy::print_stdout, clippy::disallowed_methods, reason = "it measures, and is there to be read")]
fn main() -> Outcome<()> {
    let count: u8 = std::env::args().nth(1).map_or(Ok(20), |text| text.parse())?;
    let grows = std::env::args().nth(2).is_some_and(|word| word == "grow");
    let others = usize::from(count) - 1;
    let before = resident_bytes();
    let started = Instant::now();
    let mut nodes: Vec<Node> = Vec::new();
    for number in 1..=count {
        let first = nodes.first().map(|node| &node.handle);
        let known = first.map(|handle| Known { node: handle.id(), addresses: vec![handle.local_addr()] });
        nodes.push(start(number, known)?);
        if grows {
            wait_until(|| nodes.last().is_some_and(|node| node.has(usize::from(number) - 1)));
        }
    }
    let at_start = resident_bytes();
    wait_until_met(&nodes, others);
    println!("{count} nodes know each other after {:?}, {:.1} s of CPU", started.elapsed(), cpu_seconds());
    let counted: Vec<_> = nodes.iter().map(|node| node.handle.counters()).collect();
    let sum = |of: fn(&Counters) -> u64| counted.iter().map(of).sum::<u64>();
    println!(
        "{} handshakes, {} failed, {} retried, {} limited; {} connections begun; {} hellos refused as duplicate, {} as slow; {} datagrams of membership",
        sum(|it| it.handshakes),
        sum(|it| it.handshakes_failed),
        sum(|it| it.handshakes_retried),
        sum(|it| it.handshakes_limited),
        sum(|it| it.connections) / 2,
        sum(|it| it.hello_refused(HelloRefusal::Duplicate)),
        sum(|it| it.hello_refused(HelloRefusal::TooSlow)),
        sum(|it| it.membership.received),
    );
    std::thread::sleep(Duration::from_secs(5));
    let (ends, now) = (usize::from(count) * others, resident_bytes());
    println!(
        "{} KiB per node with all that belongs to it, which is {} KiB per end of a connection; {} KiB per node at the start",
        (now - before) / usize::from(count) / 1024,
        (now - before) / ends.max(1) / 1024,
        (at_start - before) / usize::from(count) / 1024,
    );
    let sent = || nodes.iter().map(|node| bytes_sent(&node.handle)).sum::<u64>();
    let (at_rest, since, cpu) = (sent(), Instant::now(), cpu_seconds());
    std::thread::sleep(Duration::from_secs(10));
    let (seconds, cpu) = (since.elapsed().as_secs_f64(), cpu_seconds() - cpu);
    let rate = (sent() - at_rest) as f64 / seconds / f64::from(count);
    println!(
        "at rest: {rate:.0} bytes sent per node and second, signs of life included; all take {:.0} % of a core",
        cpu / seconds * 100.0
    );
    drop(nodes.pop());
    let died = Instant::now();
    wait_until(|| nodes.iter().all(|node| node.up.load(Ordering::Relaxed) == others - 1));
    println!("a death is known to all after {:?}", died.elapsed());
    wait_until(|| nodes.iter().all(|node| node.connected.load(Ordering::Relaxed) == others - 1));
    println!("nobody keeps a connection with it after {:?}", died.elapsed());
    let refused: u64 = nodes.iter().map(|node| node.handle.counters().datagrams_refused).sum();
    println!("{refused} datagrams of membership refused");
    Ok(())
}

/// A node, and how many others it is connected with and shows as up.
struct Node {
    handle: EndpointHandle,
    connected: Arc<AtomicUsize>,
    up: Arc<AtomicUsize>,
}

impl Node {
    fn has(&self, others: usize) -> bool {
        [&self.connected, &self.up].iter().all(|count| count.load(Ordering::Relaxed) == others)
    }
}

fn start(number: u8, known: Option<Known>) -> Outcome<Node> {
    let key = Arc::new(NodeKey::from_seed(&[number; 32])?);
    let cluster = ClusterKey::from_seed(&[1; 32])?;
    let clock = Clock::system();
    let roles = Roles::from_iter([Role::Worker]);
    let serial = u64::from(number);
    let certificate = cluster.certify(key.id(), roles, serial, clock.wall(), CERTIFICATE_LIFETIME);
    let revoked = RevocationSet::default();
    let (handle, events) = Endpoint::start(EndpointOptions {
        key,
        incarnation: 1,
        name: format!("node-{number}"),
        listen: SocketAddr::from(([127, 0, 0, 1], 0)),
        advertised: None,
        credentials: Credentials { certificate, cluster_key: cluster.public(), revoked, issuer: None },
        issuer: None,
        known: known.into_iter().collect(),
        limits: Limits::default(),
        membership: MembershipConfig::default(),
        clock,
        services: Arc::new(NoServices),
    })?;
    let (connected, up) = <(Arc<AtomicUsize>, Arc<AtomicUsize>)>::default();
    let counts = (Arc::clone(&connected), Arc::clone(&up));
    std::thread::spawn(move || follow(events, &counts));
    Ok(Node { handle, connected, up })
}

/// Counts what the node tells.
fn follow(mut events: EndpointEvents, (connected, up): &(Arc<AtomicUsize>, Arc<AtomicUsize>)) {
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().build() else { return };
    let (mut peers, mut members) = <(BTreeSet<NodeId>, BTreeSet<NodeId>)>::default();
    runtime.block_on(async {
        while let Some(event) = events.next().await {
            match event {
                EndpointEvent::PeerUp { peer, .. } => _ = peers.insert(peer.id),
                EndpointEvent::PeerDown { node, .. } => _ = peers.remove(&node),
                EndpointEvent::Membership(
                    ViewChange::Joined { member: it }
                    | ViewChange::Returned { member: it, .. }
                    | ViewChange::Restarted { after: it, .. }
                    | ViewChange::Cleared { member: it },
                ) => _ = members.insert(it.id),
                EndpointEvent::Membership(
                    ViewChange::Suspected { member: it } | ViewChange::WentDown { member: it, .. },
                ) => _ = members.remove(&it.id),
                _ => {}
            }
            connected.store(peers.len(), Ordering::Relaxed);
            up.store(members.len(), Ordering::Relaxed);
        }
    });
}

fn bytes_sent(node: &EndpointHandle) -> u64 {
    node.peers().iter().filter_map(|row| row.connection.as_ref()).map(|row| row.bytes_sent).sum()
}

fn wait_until(is_so: impl Fn() -> bool) {
    while !is_so() {
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Waits until every node knows all others, and says on the way how far they are.
#[expect(clippy::print_stderr, clippy::disallowed_methods, reason = "it measures, and is there to be read")]
fn wait_until_met(nodes: &[Node], others: usize) {
    let (started, mut said) = (Instant::now(), Instant::now());
    while !nodes.iter().all(|node| node.has(others)) {
        std::thread::sleep(Duration::from_millis(20));
        if said.elapsed() >= Duration::from_secs(2) {
            said = Instant::now();
            let sum = |of: fn(&Node) -> &AtomicUsize| {
                nodes.iter().map(|node| of(node).load(Ordering::Relaxed)).sum::<usize>()
            };
            let datagrams: u64 = nodes.iter().map(|node| node.handle.counters().membership.received).sum();
            eprintln!(
                "{:>4.0} s: of {} ends {} are connected and {} shown as up; {datagrams} datagrams, {:.0} s of CPU",
                started.elapsed().as_secs_f64(),
                nodes.len() * others,
                sum(|it| &it.connected),
                sum(|it| &it.up),
                cpu_seconds(),
            );
        }
    }
}

/// What this process has in memory; 0 where the system does not tell.
fn resident_bytes() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = statm.split(' ').nth(1).and_then(|text| text.parse::<usize>().ok());
    pages.unwrap_or_default() * 4096
}

/// The CPU time of this process; 0 where the system does not tell.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    // User and system time, the 14th and 15th field of all, in hundredths of a second.
    fields.skip(11).take(2).filter_map(|text| text.parse::<f64>().ok()).sum::<f64>() / 100.0
}
