//! A node that goes on at another address.

use std::time::Duration;

use arw_kit::clock::Clock;

use super::kit::*;
use crate::endpoint::*;

#[tokio::test]
async fn a_node_that_moves_keeps_its_identity_and_its_peers() {
    let ([mut one, mut two, mut three], _) = three().await;
    let before = two.handle.local_addr();
    let clock = Clock::system();
    let moved = clock.now();
    let after = two.handle.change_address(loopback(), None).await.unwrap();
    assert_ne!(before, after);
    assert_eq!(two.handle.local_addr(), after);
    let id = two.id;
    for node in [&mut one, &mut three] {
        node.until("reached at its new address", |picture| {
            let entry = picture.nodes.iter().find(|entry| entry.identity.id == id).unwrap();
            let row = picture.peers.iter().find(|row| row.node == id).unwrap();
            let connection = row.connection.as_ref();
            entry.identity.address == after
                && entry.identity.incarnation == 1
                && connection.is_some_and(|connection| connection.peer.incarnation == 1)
        })
        .await;
    }
    let took = clock.now().since(moved);
    assert!(took < Duration::from_secs(1), "{took:?}");
    let ids = [one.id, three.id];
    two.until_with(&ids).await;
    let mut stream = two.handle.open(three.id, StreamPurpose::Service, PATIENCE).await.unwrap();
    let mut back = three.handle.open(two.id, StreamPurpose::Service, PATIENCE).await.unwrap();
    for stream in [&mut stream, &mut back] {
        super::streams::echo(stream, b"still there").await;
    }
}
