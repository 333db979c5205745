//! Members among themselves: who is there, who goes, who comes back, what each says of itself.

use std::net::SocketAddr;
use std::time::Duration;

use arw_kit::clock::Clock;
use bytes::Bytes;

use super::kit::*;
use crate::endpoint::*;
use crate::handshake::DialSide;
use crate::identity::NodeId;
use crate::membership::NodeState;
use crate::wire::{CARD_BYTES_MAX, GoodbyeReason, HelloRefusal, Monitor};

#[tokio::test]
async fn three_nodes_find_each_other_and_agree() {
    // WIRE-17
    let ([one, two, three], _) = three().await;
    let seen = |node: &Node| {
        let picture = node.handle.picture();
        let rows = picture.nodes.iter().map(|row| (row.identity, row.identity.address, row.state));
        rows.collect::<Vec<_>>()
    };
    assert_eq!(seen(&one), seen(&two));
    assert_eq!(seen(&two), seen(&three));
    let row = one.handle.peers().into_iter().find(|row| row.node == three.id).unwrap();
    let connection = row.connection.unwrap();
    assert_eq!((connection.peer.name.as_str(), connection.peer.incarnation), ("node-3", 1));
    assert_eq!(connection.address, three.handle.local_addr());
    assert!(connection.bytes_sent > 0 && connection.bytes_received > 0);
    assert_eq!(row.dial.unwrap().next_at, None);
    for node in [&one, &two, &three] {
        let counters = node.handle.counters();
        assert_eq!((counters.malformed, counters.datagrams_refused, counters.membership.faults), (0, 0, 0));
    }
}

#[tokio::test]
async fn a_crashed_node_is_down_soon_and_the_others_stay() {
    let ([mut one, mut two, three], _) = three().await;
    let (lost, clock) = (three.id, Clock::system());
    three.crash().await;
    let crashed = clock.now();
    for node in [&mut one, &mut two] {
        node.until("down", |picture| state_of(picture, lost) == Some(NodeState::Down)).await;
    }
    let took = clock.now().since(crashed);
    // About 3 s. That it is 4 at most is shown in simulated time (`membership/tests/figures.rs`): here others
    // have the machine, too.
    assert!(took < Duration::from_secs(30), "{took:?}");
    one.until_with(&[two.id]).await;
    two.until_with(&[one.id]).await;
}

#[tokio::test]
async fn where_a_connection_may_be_silent_for_long_it_ends_soon_after_a_death_all_the_same() {
    // WIRE-22, WIRE-23: with so many peers wanted a connection may say nothing for 18 s.
    let absent = (0..200_u8).map(|number| {
        let mut id = [0xff; 32];
        id[31] = number;
        Known { node: NodeId::from_bytes(id), addresses: vec![SocketAddr::from(([127, 0, 0, 1], 9))] }
    });
    let absent: Vec<Known> = absent.collect();
    let one = Wanted { known: absent.clone(), ..Wanted::member(1) }.start();
    let known = |nodes: &[&Node]| nodes.iter().map(|node| node.as_known()).chain(absent.clone()).collect();
    let two = Wanted { known: known(&[&one]), ..Wanted::member(2) }.start();
    let three = Wanted { known: known(&[&one, &two]), ..Wanted::member(3) }.start();
    let (mut one, mut two, mut three) = (one, two, three);
    one.until_with(&[two.id, three.id]).await;
    two.until_with(&[one.id, three.id]).await;
    three.until_with(&[one.id, two.id]).await;
    let (lost, clock) = (three.id, Clock::system());
    three.crash().await;
    let crashed = clock.now();
    for node in [&mut one, &mut two] {
        let reason = node
            .event(|event| match event {
                EndpointEvent::PeerDown { node, reason, .. } if node == lost => Some(reason),
                _ => None,
            })
            .await;
        assert_eq!(reason, PeerDownReason::TimedOut);
        let took = clock.now().since(crashed);
        // About 3.5 s, and not the 18 s for which it may be silent.
        assert!(took > Duration::from_secs(3) && took < Duration::from_secs(15), "{took:?}");
        node.until("down", |picture| state_of(picture, lost) == Some(NodeState::Down)).await;
    }
    one.until_with(&[two.id]).await;
}

#[tokio::test]
async fn a_node_that_starts_anew_on_its_port_is_known_within_1_s() {
    let ([mut one, mut two, three], _) = three().await;
    let (id, listen, clock) = (three.id, three.handle.local_addr(), Clock::system());
    three.crash().await;
    let again = Wanted { incarnation: 2, listen, ..Wanted::member(3) }.knowing(&[&one, &two]).start();
    let started = clock.now();
    for node in [&mut one, &mut two] {
        node.until("restarted", |picture| {
            let entry = picture.nodes.iter().find(|entry| entry.identity.id == id);
            let row = picture.peers.iter().find(|row| row.node == id);
            let connection = row.and_then(|row| row.connection.as_ref());
            entry.is_some_and(|entry| entry.identity.incarnation == 2 && entry.state == NodeState::Up)
                && connection.is_some_and(|connection| connection.peer.incarnation == 2)
        })
        .await;
    }
    let took = clock.now().since(started);
    assert!(took < Duration::from_secs(1), "{took:?}");
    let calls = one.services.calls.lock().clone();
    let last: Vec<&String> = calls.iter().rev().take(2).collect();
    assert_eq!(last[0], "up node-3");
    assert!(last[1].starts_with("down 1 "), "{last:?}");
    drop(again);
}

#[tokio::test]
async fn a_node_that_stops_is_seen_going_at_once_and_one_that_leaves_has_left() {
    // MEMBER-7
    let ([mut one, two, three], _) = three().await;
    let clock = Clock::system();
    let (two_id, three_id) = (two.id, three.id);
    let before = clock.now();
    let stopping = tokio::spawn(async move { two.handle.shutdown(GoodbyeReason::Stopping).await });
    let reason = one
        .event(|event| match event {
            EndpointEvent::PeerDown { node, reason, .. } if node == two_id => Some(reason),
            _ => None,
        })
        .await;
    let took = clock.now().since(before);
    assert_eq!(reason, PeerDownReason::Goodbye(GoodbyeReason::Stopping));
    // Milliseconds, and not the 3 s after which a silent one is given up.
    assert!(took < Duration::from_secs(2), "{took:?}");
    one.until("suspected at once", |picture| state_of(picture, two_id) != Some(NodeState::Up)).await;
    stopping.await.unwrap();
    let before = clock.now();
    three.handle.shutdown(GoodbyeReason::Leaving).await;
    one.until("left", |picture| state_of(picture, three_id) == Some(NodeState::Left)).await;
    let took = clock.now().since(before);
    assert!(took < Duration::from_secs(2), "{took:?}");
    let dialed: Vec<_> = one.handle.peers().into_iter().map(|row| row.node).collect();
    assert_eq!(dialed, [two_id], "who stopped may come back, who left is not dialed");
}

#[tokio::test]
async fn a_card_reaches_every_peer_and_each_that_comes_later() {
    // WIRE-18
    let mut one = Wanted::member(1).start();
    let mut two = Wanted::member(2).knowing(&[&one]).start();
    let from_one = |id| {
        move |event| match event {
            EndpointEvent::Card(card) if card.node == id => Some(card),
            _ => None,
        }
    };
    one.until_with(&[two.id]).await;
    one.handle.publish_card(Bytes::from_static(b"first")).unwrap();
    let card = two.event(from_one(one.id)).await;
    assert_eq!((card.incarnation, card.card), (1, Bytes::from_static(b"first")));
    let large = Bytes::from(vec![7; CARD_BYTES_MAX]);
    one.handle.publish_card(large.clone()).unwrap();
    assert_eq!(two.event(from_one(one.id)).await.card, large);
    assert_eq!(
        one.handle.publish_card(Bytes::from(vec![7; CARD_BYTES_MAX + 1])),
        Err(CardTooLarge { length: CARD_BYTES_MAX + 1 })
    );
    let mut late = Wanted::member(3).knowing(&[&one]).start();
    assert_eq!(late.event(from_one(one.id)).await.card, large);
    assert_eq!(late.handle.picture().cards.len(), 1);
}

#[tokio::test]
async fn two_nodes_that_dial_each_other_at_once_end_with_one_connection() {
    // WIRE-15
    for _ in 0..10 {
        let one = Wanted::member(1).start();
        let (first, listen) = (one.as_known(), one.handle.local_addr());
        let two = Wanted::member(2).start();
        let (second, other) = (two.as_known(), two.handle.local_addr());
        one.crash().await;
        two.crash().await;
        let one = Wanted { listen, known: vec![second], incarnation: 2, ..Wanted::member(1) };
        let two = Wanted { listen: other, known: vec![first], incarnation: 2, ..Wanted::member(2) };
        let (mut one, mut two) = (one.start(), two.start());
        one.until_with(&[two.id]).await;
        two.until_with(&[one.id]).await;
        let dialed_by = |node: &Node| node.handle.peers()[0].connection.as_ref().map(|row| row.dialed_by);
        let sides = [dialed_by(&one), dialed_by(&two)];
        assert!(sides.contains(&Some(DialSide::Own)) && sides.contains(&Some(DialSide::Peer)), "{sides:?}");
    }
}

#[tokio::test]
async fn messages_that_are_not_the_endpoints_own_reach_the_services() {
    let mut one = Wanted::member(1).start();
    let mut two = Wanted::member(2).knowing(&[&one]).start();
    one.until_with(&[two.id]).await;
    two.until_with(&[one.id]).await;
    let monitor = Monitor { monitor: 1, actor: 2, incarnation: 1 };
    one.handle.connection(two.id).unwrap().send_control(&monitor.into()).unwrap();
    one.handle.publish_card(Bytes::from_static(b"after it")).unwrap();
    two.event(|event| matches!(event, EndpointEvent::Card(_)).then_some(())).await;
    assert_eq!(*two.services.controls.lock(), [monitor.into()]);
    assert_eq!(*two.services.calls.lock(), ["up node-1"]);
}

#[tokio::test]
async fn an_old_start_of_a_node_learns_that_it_is_outdated() {
    let mut one = Wanted::member(1).start();
    let two = Wanted { incarnation: 5, ..Wanted::member(2) }.knowing(&[&one]).start();
    one.until_with(&[two.id]).await;
    two.crash().await;
    let mut old = Wanted { incarnation: 4, ..Wanted::member(2) }.knowing(&[&one]).start();
    old.event(|event| matches!(event, EndpointEvent::Outdated).then_some(())).await;
    let refused = one.handle.counters().hello_refused(HelloRefusal::OldIncarnation);
    assert_eq!((refused, old.handle.picture().is_outdated), (1, true));
}

#[tokio::test]
async fn a_connection_that_somebody_keeps_does_not_keep_the_port() {
    let mut one = Wanted::member(1).start();
    let two = Wanted::member(2).knowing(&[&one]).start();
    one.until_with(&[two.id]).await;
    let (kept, listen) = (one.handle.connection(two.id).unwrap(), one.handle.local_addr());
    let stream = one.handle.open(two.id, StreamPurpose::Service, PATIENCE).await.unwrap();
    one.handle.shutdown(GoodbyeReason::Stopping).await;
    drop(std::net::UdpSocket::bind(listen).unwrap());
    assert_eq!(kept.open(StreamPurpose::Service, PATIENCE).await.unwrap_err(), OpenError::NotConnected);
    assert_eq!(
        kept.send_control(&Monitor { monitor: 1, actor: 1, incarnation: 1 }.into()),
        Err(SendControlError::Closed)
    );
    drop(stream);
    // What is asked of an endpoint that has ended is answered.
    one.handle.shutdown(GoodbyeReason::Leaving).await;
    assert_eq!(one.handle.remove(two.id).await, Err(RemoveError::Ended));
    assert!(one.handle.picture().peers.iter().all(|row| row.connection.is_none()));
}
