//! Many nodes in one process, over real sockets: how soon all know all, what a connection costs, how soon a death is known.
//!
//! `cargo run --release -p arw-transport --example many_nodes -- 50`

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arw_actors::clock::Clock;
use arw_transport::certificate::{CERTIFICATE_LIFETIME, ClusterKey, RevocationSet, Role, Roles};
use arw_transport::endpoint::{
    Counters, Credentials, Endpoint, EndpointEvents, EndpointHandle, EndpointOptions, Known, Limits,
    NoServices,
};
use arw_transport::identity::NodeKey;
use arw_transport::membership::{MembershipConfig, NodeState};
use arw_transport::wire::HelloRefusal;

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

#[expect(clippy::print_stdout, clippy::disallowed_methods, reason = "it measures, and is there to be read")]
fn main() -> Outcome<()> {
    let count: u8 = std::env::args().nth(1).map_or(Ok(20), |text| text.parse())?;
    let others = usize::from(count) - 1;
    let before = resident_bytes();
    let started = Instant::now();
    let mut nodes: Vec<(EndpointHandle, EndpointEvents)> = Vec::new();
    for number in 1..=count {
        let first = nodes.first().map(|(handle, _)| handle);
        let known = first.map(|handle| Known { node: handle.id(), addresses: vec![handle.local_addr()] });
        nodes.push(start(number, known)?);
    }
    wait_until(|| nodes.iter().all(|(node, _)| connections(node) == others && up(node) == others));
    println!("{count} nodes know each other after {:?}", started.elapsed());
    let counted: Vec<_> = nodes.iter().map(|(node, _)| node.counters()).collect();
    let sum = |of: fn(&Counters) -> u64| counted.iter().map(of).sum::<u64>();
    println!(
        "{} handshakes, {} failed, {} retried, {} limited; {} connections begun; {} hellos refused as duplicate, {} as slow",
        sum(|it| it.handshakes),
        sum(|it| it.handshakes_failed),
        sum(|it| it.handshakes_retried),
        sum(|it| it.handshakes_limited),
        sum(|it| it.connections) / 2,
        sum(|it| it.hello_refused(HelloRefusal::Duplicate)),
        sum(|it| it.hello_refused(HelloRefusal::TooSlow)),
    );
    std::thread::sleep(Duration::from_secs(2));
    let ends = usize::from(count) * others;
    println!("{} KiB per end of a connection", (resident_bytes() - before) / ends.max(1) / 1024);
    let sent = || nodes.iter().map(|(node, _)| bytes_sent(node)).sum::<u64>();
    let (at_rest, since) = (sent(), Instant::now());
    std::thread::sleep(Duration::from_secs(5));
    let rate = (sent() - at_rest) as f64 / since.elapsed().as_secs_f64() / f64::from(count);
    println!("{rate:.0} bytes sent per node and second, keep-alives included");
    drop(nodes.pop());
    let died = Instant::now();
    wait_until(|| nodes.iter().all(|(node, _)| up(node) == others - 1));
    println!("a death is known to all after {:?}", died.elapsed());
    let refused: u64 = nodes.iter().map(|(node, _)| node.counters().datagrams_refused).sum();
    println!("{refused} datagrams of membership refused");
    Ok(())
}

fn start(number: u8, known: Option<Known>) -> Outcome<(EndpointHandle, EndpointEvents)> {
    let key = Arc::new(NodeKey::from_seed(&[number; 32])?);
    let cluster = ClusterKey::from_seed(&[1; 32])?;
    let clock = Clock::system();
    let roles = Roles::from_iter([Role::Worker]);
    let serial = u64::from(number);
    let certificate = cluster.certify(key.id(), roles, serial, clock.wall(), CERTIFICATE_LIFETIME);
    let revoked = RevocationSet::default();
    Ok(Endpoint::start(EndpointOptions {
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
    })?)
}

fn connections(node: &EndpointHandle) -> usize {
    node.peers().iter().filter(|row| row.connection.is_some()).count()
}

fn up(node: &EndpointHandle) -> usize {
    let picture = node.picture();
    let own = picture.own.id;
    picture.nodes.iter().filter(|entry| entry.state == NodeState::Up && entry.identity.id != own).count()
}

fn bytes_sent(node: &EndpointHandle) -> u64 {
    node.peers().iter().filter_map(|row| row.connection.as_ref()).map(|row| row.bytes_sent).sum()
}

fn wait_until(is_so: impl Fn() -> bool) {
    while !is_so() {
        std::thread::sleep(Duration::from_millis(250));
    }
}

/// What this process has in memory; 0 where the system does not tell.
fn resident_bytes() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = statm.split(' ').nth(1).and_then(|text| text.parse::<usize>().ok());
    pages.unwrap_or_default() * 4096
}
