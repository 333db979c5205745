//! Two nodes with one key.

use std::sync::Arc;

use arw_kit::clock::Clock;

use super::kit::*;
use crate::endpoint::*;
use crate::join::JoinFailure;
use crate::wire::{CloseCode, GoodbyeReason, HelloRefusal, JoinRefusal};

/// Waits until one of the two is out, and returns it last.
async fn settled(one: Node, other: Node) -> (Node, Node) {
    let is_out = |node: &Node| node.handle.picture().fence.is_some();
    eventually("one of the two is out", || is_out(&one) != is_out(&other)).await;
    if is_out(&one) { (other, one) } else { (one, other) }
}

#[tokio::test]
async fn of_two_copies_that_start_at_once_the_same_one_stays_with_everybody_and_both_sides_say_so() {
    // WIRE-25
    let mut issuer = Wanted::issuer(1).0.start();
    let mut third = Wanted::member(3).knowing(&[&issuer]).start();
    issuer.until_with(&[third.id]).await;
    let copy = || Wanted::member(2).knowing(&[&issuer, &third]).start();
    let (kept, out) = settled(copy(), copy()).await;
    let (at, refused) = (kept.handle.local_addr(), out.handle.local_addr());
    for node in [&mut issuer, &mut third] {
        let row = CopyRow { node: kept.id, kept: at, refused };
        node.until("it says that the node runs twice", |picture| picture.copies == [row]).await;
    }
    let fence = out.handle.picture().fence.unwrap();
    assert_eq!((fence.is_copy, fence.elsewhere), (true, Some(at)));
    for node in [&issuer, &third] {
        assert_eq!(node.handle.connection(kept.id).unwrap().remote_address(), at);
    }
    // Turned away once, it stays away: whoever prevails keeps its connections.
    let begun = issuer.handle.counters().connections;
    let refusals = issuer.handle.counters().hello_refused(HelloRefusal::Copied);
    assert!(begun <= 3, "{begun} connections: the third member, and at most one of each copy");
    assert!(refusals <= 1, "{refusals}");
    assert_eq!(kept.handle.picture().fence, None);
}

#[tokio::test]
async fn an_earlier_copy_learns_where_the_later_one_is_and_makes_no_members_any_more() {
    // WIRE-25
    let mut third = Wanted::member(3).start();
    let early = Wanted::issuer(1).0.knowing(&[&third]).start();
    third.until_with(&[early.id]).await;
    let late = Wanted { incarnation: 9, ..Wanted::issuer(1).0 }.knowing(&[&third]).start();
    let (kept, out) = settled(early, late).await;
    let fence = out.handle.picture().fence.unwrap();
    assert_eq!((fence.is_copy, fence.elsewhere), (false, Some(kept.handle.local_addr())));
    let row = CopyRow { node: kept.id, kept: kept.handle.local_addr(), refused: out.handle.local_addr() };
    third.until("it says that the node runs twice", |picture| picture.copies == [row]).await;
    let token = out.new_token().await;
    let options =
        JoinOptions { key: node_key(5), name: "new".to_owned(), listen: loopback(), clock: Clock::system() };
    assert_eq!(join(options, token).await.unwrap_err(), JoinFailure::Refused(JoinRefusal::Fenced));
}

#[tokio::test]
async fn a_node_that_is_started_again_is_no_copy_of_itself() {
    let mut one = Wanted::member(1).start();
    for incarnation in 1..4 {
        let two = Wanted { incarnation, ..Wanted::member(2) }.knowing(&[&one]).start();
        one.until("connected with this start", |picture| {
            picture
                .peers
                .iter()
                .filter_map(|row| row.connection.as_ref())
                .any(|it| it.peer.incarnation == incarnation)
        })
        .await;
        assert_eq!((two.handle.picture().fence, one.handle.picture().copies), (None, Vec::new()));
        if incarnation % 2 == 0 {
            two.crash().await;
        } else {
            two.handle.shutdown(GoodbyeReason::Stopping).await;
        }
    }
}

#[tokio::test]
async fn who_shows_the_key_of_a_connected_member_joins_not_and_the_token_stays_good() {
    // WIRE-25
    let mut issuer = Wanted::issuer(1).0.start();
    let member = Wanted::member(2).knowing(&[&issuer]).start();
    issuer.until_with(&[member.id]).await;
    let token = issuer.new_token().await;
    let joining = |byte| JoinOptions {
        key: Arc::clone(&node_key(byte)),
        name: "new".to_owned(),
        listen: loopback(),
        clock: Clock::system(),
    };
    let refused = join(joining(2), token.clone()).await.unwrap_err();
    assert_eq!(refused, JoinFailure::Copied { elsewhere: Some(member.handle.local_addr()) });
    assert!(refused.to_string().contains(&member.handle.local_addr().to_string()), "{refused}");
    join(joining(5), token).await.unwrap();
    // A member that has gone may come again with its key.
    let token = issuer.new_token().await;
    member.handle.shutdown(GoodbyeReason::Leaving).await;
    issuer.until("it is gone", |picture| connected(picture).is_empty()).await;
    join(joining(2), token).await.unwrap();
}

#[tokio::test]
async fn the_word_of_a_node_that_was_removed_keeps_nobody_out_of_its_cluster() {
    // WIRE-25
    let mut third = Wanted::member(3).start();
    let early = Wanted::issuer(1).0.knowing(&[&third]).start();
    third.until_with(&[early.id]).await;
    let late = Wanted { incarnation: 9, ..Wanted::issuer(1).0 }.knowing(&[&third]).start();
    let (_kept, out) = settled(early, late).await;
    assert_eq!(out.handle.picture().fence.map(|fence| fence.by), Some(third.id));
    out.handle.remove(third.id).await.unwrap();
    assert_eq!(out.handle.picture().fence, None);
}

#[tokio::test]
async fn the_word_of_one_peer_says_nothing_while_others_are_connected() {
    // WIRE-25
    let mut node = Wanted::member(1).start();
    let other = Wanted::member(3).knowing(&[&node]).start();
    node.until_with(&[other.id]).await;
    let raw = super::hostile::Raw::connect(&node, 2).await;
    let (_send, _receive) = raw.say_hello(Wanted::member(2).certificate).await;
    node.event(|event| matches!(event, EndpointEvent::PeerUp { .. }).then_some(())).await;
    let code = CloseCode::Goodbye(GoodbyeReason::Copied).code();
    raw.connection.close(quinn::VarInt::from_u64(code).unwrap(), b"127.0.0.1:9");
    node.event(|event| match event {
        EndpointEvent::PeerDown { .. } => Some(()),
        EndpointEvent::Outdated => panic!("it believes one of two"),
        _ => None,
    })
    .await;
    let picture = node.handle.picture();
    assert_eq!((picture.is_outdated, picture.fence), (false, None));
    // Nobody is left who says otherwise.
    other.crash().await;
    node.until("out of the cluster", |picture| picture.fence.is_some() && picture.is_outdated).await;
}
