//! Connections and nodes that end.

use std::time::Duration;

use tokio::time::Instant;

use super::actor::{Bump, Echo, Odd, Sum};
use super::kit::{Node, NodeSpec, SECOND, Stranger, connect};
use super::network::{Network, Weather};
use crate::remote::{NodeDown, RemoteAskError, RemoteDown, RemoteTellError};

async fn nodes(network: &Network) -> (Node, Node) {
    (Node::start(network, NodeSpec::new(1)).await, Node::start(network, NodeSpec::new(2)).await)
}

/// The next start of node 2.
async fn restarted(network: &Network) -> Node {
    Node::start(network, NodeSpec { incarnation: 2, ..NodeSpec::new(2) }).await
}

#[tokio::test(start_paused = true)]
async fn lane_11_whoever_waits_is_told_at_once_when_the_connection_ends() {
    // LANE-11
    let network = Network::new(1, Weather::FAIR);
    let (one, two) = nodes(&network).await;
    let (near, _) = connect(&one, &two).await;
    let counter = one.counter_of(&two);
    let watch = counter.monitor().unwrap();
    let close = async {
        tokio::time::sleep(SECOND / 10).await;
        two.endpoint.close(0_u32.into(), b"");
        Instant::now()
    };
    let (asked, closed, down) = tokio::join!(
        async { (counter.ask(&Odd::Sleep(60_000), 60 * SECOND).await, Instant::now()) },
        close,
        watch
    );
    assert_eq!(asked.0, Err(RemoteAskError::Down(NodeDown::ConnectionLost)));
    assert!(asked.1 - closed < Duration::from_millis(10), "{:?}", asked.1 - closed);
    assert_eq!(down, RemoteDown::Node(NodeDown::ConnectionLost));
    assert_eq!(near.counts().open_calls, 0);
    assert_eq!(counter.try_tell(&Bump(1)), Err(RemoteTellError::Down(NodeDown::NotConnected)));
    let asked = counter.ask(&Sum, SECOND).await;
    assert_eq!(asked, Err(RemoteAskError::Down(NodeDown::NotConnected)));
}

#[tokio::test(start_paused = true)]
async fn a_node_that_vanishes_is_noticed_when_the_connection_is_given_up() {
    let network = Network::new(1, Weather::FAIR);
    let (one, two) = nodes(&network).await;
    connect(&one, &two).await;
    let counter = one.counter_of(&two);
    two.vanish(&network);
    let began = Instant::now();
    let asked = counter.ask(&Sum, 60 * SECOND).await;
    assert_eq!(asked, Err(RemoteAskError::Down(NodeDown::ConnectionLost)));
    assert!(began.elapsed() < 10 * SECOND, "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_handle_outlives_a_connection_to_the_same_start() {
    let network = Network::new(1, Weather::FAIR);
    let (one, two) = nodes(&network).await;
    let (near, _) = connect(&one, &two).await;
    let counter = one.counter_of(&two);
    counter.ask(&Echo(1, vec![]), SECOND).await.unwrap();
    one.links.peer_down(two.id(), 1);
    assert_eq!(counter.try_tell(&Bump(9)), Err(RemoteTellError::Down(NodeDown::NotConnected)));
    connect(&one, &two).await;
    counter.ask(&Echo(2, vec![]), SECOND).await.unwrap();
    // A connection takes the place of another one: its users are told, the handle goes on.
    let (asked, _) = tokio::join!(counter.ask(&Odd::Sleep(60_000), 60 * SECOND), async {
        tokio::time::sleep(SECOND / 10).await;
        connect(&one, &two).await
    });
    assert_eq!(asked, Err(RemoteAskError::Down(NodeDown::ConnectionLost)));
    counter.try_tell(&Bump(3)).unwrap();
    assert_eq!(near.counts().open_calls, 0);
}

#[tokio::test(start_paused = true)]
async fn lane_13_a_handle_never_reaches_another_start_of_the_node_until_it_is_bound_to_it() {
    // LANE-13
    let network = Network::new(1, Weather::FAIR);
    let (one, two) = nodes(&network).await;
    connect(&one, &two).await;
    let counter = one.counter_of(&two);
    let watch = counter.monitor().unwrap();
    counter.ask(&Echo(1, vec![]), SECOND).await.unwrap();
    let (asked, next) = tokio::join!(counter.ask(&Odd::Sleep(60_000), 60 * SECOND), async {
        tokio::time::sleep(SECOND / 10).await;
        two.vanish(&network);
        let next = restarted(&network).await;
        connect(&one, &next).await;
        next
    });
    let restarted = NodeDown::Restarted { bound: 1, now: 2 };
    assert_eq!(asked, Err(RemoteAskError::Down(restarted)));
    assert_eq!(watch.await, RemoteDown::Node(restarted));
    assert_eq!(counter.try_tell(&Bump(2)), Err(RemoteTellError::Down(restarted)));
    assert_eq!(counter.ask(&Sum, SECOND).await, Err(RemoteAskError::Down(restarted)));
    let bound = counter.rebind().unwrap();
    assert_eq!((bound.incarnation(), counter.incarnation()), (2, 1));
    assert_eq!(bound.ask(&Sum, SECOND).await, Ok(vec![]), "nothing of what the earlier start was sent");
    // It still says so when the later start is gone as well.
    one.links.peer_down(next.id(), 2);
    assert_eq!(counter.try_tell(&Bump(2)), Err(RemoteTellError::Down(restarted)));
    assert_eq!(bound.try_tell(&Bump(2)), Err(RemoteTellError::Down(NodeDown::NotConnected)));
}

#[tokio::test(start_paused = true)]
async fn a_link_that_is_given_up_holds_no_connection() {
    let network = Network::new(1, Weather::FAIR);
    let one = Node::start(&network, NodeSpec::new(1)).await;
    let stranger = Stranger::start(&network, &one).await;
    let counter = one.links.handle(stranger.id, "counter").unwrap();
    // Lanes in both directions, one of which waits for the other side to read.
    let mut lane = stranger.open_lane().await;
    lane.write_all(&[crate::frame::MARK]).await.unwrap();
    while counter.try_tell(&Bump(1)).is_ok() {}
    tokio::time::sleep(SECOND).await;
    assert!(stranger.connection.close_reason().is_none());
    one.links.peer_down(stranger.id, Stranger::INCARNATION);
    // The last handle of a connection closes it.
    stranger.let_go();
    tokio::time::timeout(SECOND, stranger.connection.closed()).await.unwrap();
    drop((counter, lane));
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_nobody_has_a_handle_of_is_forgotten() {
    let network = Network::new(1, Weather::FAIR);
    let (one, two) = nodes(&network).await;
    connect(&one, &two).await;
    let counter = one.counter_of(&two);
    one.links.peer_down(two.id(), 1);
    assert!(counter.rebind().is_err());
    drop(counter);
    connect(&one, &two).await;
    one.links.peer_down(two.id(), 1);
    assert_eq!(one.links.handle(two.id(), "counter").err(), Some(NodeDown::NotConnected));
    assert_eq!(one.links.peer_count(), 0);
}
