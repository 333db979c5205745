//! Watched actors.

use super::actor::{CounterMessage, Odd, Sum};
use super::kit::{Node, NodeSpec, SECOND, connect, connect_as};
use super::network::{Network, Weather};
use crate::remote::{RemoteDown, RemoteMonitorError, RemoteOptions};
use crate::wire::DownReason;

async fn pair(watches_max: usize) -> (Node, Node) {
    let network = Network::new(1, Weather::FAIR);
    let options = RemoteOptions { watches_max, ..RemoteOptions::default() };
    let one = Node::start(&network, NodeSpec { options, ..NodeSpec::new(1) }).await;
    let two = Node::start(
        &network,
        NodeSpec { options: RemoteOptions { watches_max: 2, ..options }, ..NodeSpec::new(2) },
    )
    .await;
    (one, two)
}

fn reason(down: &RemoteDown) -> DownReason {
    match down {
        RemoteDown::Actor { reason, .. } => *reason,
        RemoteDown::Node(down) => panic!("{down}"),
    }
}

#[tokio::test(start_paused = true)]
async fn the_end_of_a_watched_actor_is_told_once_with_its_reason() {
    let (one, two) = pair(10).await;
    connect(&one, &two).await;
    let counter = one.counter_of(&two);
    let watch = counter.monitor().unwrap();
    let crash = counter.ask(&Odd::Panic, SECOND).await;
    assert!(crash.is_err());
    let RemoteDown::Actor { reason: how, text } = watch.await else { panic!("the node is up") };
    assert_eq!(how, DownReason::Crash);
    assert!(text.contains("boom") && text.contains("while handling Odd"), "{text}");
    // The actor was started again: it can be watched anew.
    let watch = counter.monitor().unwrap();
    assert_eq!(counter.ask(&Sum, SECOND).await, Ok(vec![]));
    two.counter.try_tell(CounterMessage::Stop).unwrap();
    assert_eq!(reason(&watch.await), DownReason::Normal);
    two.system.shutdown(SECOND).await.unwrap();
    // Who comes too late is told as well.
    let late = counter.monitor().unwrap();
    assert_eq!(reason(&late.await), DownReason::Stop);
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_watched_is_said() {
    let (one, two) = pair(10).await;
    connect(&one, &two).await;
    let nobody = one.links.handle(two.id(), "nobody").unwrap();
    assert_eq!(reason(&nobody.monitor().unwrap().await), DownReason::NoSuchActor);

    let (three, four) = pair(10).await;
    connect_as((&three, 1), (&four, 8)).await;
    let other_start = three.counter_of(&four);
    assert_eq!(reason(&other_start.monitor().unwrap().await), DownReason::OtherIncarnation);
}

#[tokio::test(start_paused = true)]
async fn lane_9_watches_are_bounded_on_both_sides_and_a_dropped_one_leaves_room() {
    // LANE-9
    let (one, two) = pair(3).await;
    connect(&one, &two).await;
    let counter = one.counter_of(&two);
    let (first, _second) = (counter.monitor().unwrap(), counter.monitor().unwrap());
    // The other side keeps two.
    assert_eq!(reason(&counter.monitor().unwrap().await), DownReason::TooManyWatches);
    drop(first);
    let third = counter.monitor().unwrap();
    let fourth = counter.monitor().unwrap();
    assert_eq!(counter.monitor().err(), Some(RemoteMonitorError::Overloaded));
    assert_eq!(reason(&fourth.await), DownReason::TooManyWatches);
    assert!(counter.ask(&Odd::Panic, SECOND).await.is_err());
    assert_eq!(reason(&third.await), DownReason::Crash);
}

#[tokio::test(start_paused = true)]
async fn lane_12_an_end_that_cannot_be_told_ends_the_connection() {
    // LANE-12
    let (one, two) = pair(100).await;
    let (near, _) = connect(&one, &two).await;
    let counter = one.counter_of(&two);
    // The queue of the control stream has room for eight, and nothing runs in between.
    let watches: Vec<_> = (0..8).map(|_| counter.monitor().unwrap()).collect();
    assert_eq!(counter.monitor().err(), Some(RemoteMonitorError::Overloaded));
    // Nor can the end of a watch be told.
    drop(watches);
    tokio::time::sleep(SECOND).await;
    assert!(near.is_down());
}
