//! A member that lies about another one.

use std::time::Duration;

use arw_kit::clock::Clock;
use bytes::{BufMut as _, BytesMut};
use tokio::time::timeout;

use super::hostile::Raw;
use super::kit::*;
use crate::membership::{MemberIdentity, Membership, MembershipConfig, MembershipOutput};

/// Tells `node` that a member is in this state of its life, as gossip, until the node's picture shows it.
async fn tell_a_lie(node: &Node, by: u8, lie: MemberIdentity) -> Raw {
    let raw = Raw::connect(node, by).await;
    let (send, mut receive) = raw.say_hello(Wanted::member(by).certificate).await;
    let address = loopback();
    let own = MemberIdentity::new(node_key(by).id(), address, 1);
    let (clock, config) = (Clock::system(), MembershipConfig::default());
    // The liar was told so by the member itself, or so it believes.
    let mut liar = Membership::new(own, config, [by; 32]);
    let mut alleged = Membership::new(lie, config, [99; 32]);
    alleged.announce_to(clock.now(), own.id);
    while let Some(output) = alleged.poll_output() {
        if let MembershipOutput::Datagram { bytes, .. } = output {
            liar.on_datagram(clock.now(), lie.id, &bytes).unwrap();
        }
    }
    liar.on_peer_connected(clock.now(), node.id);
    let told = timeout(PATIENCE, async {
        loop {
            liar.on_timer(clock.now());
            while let Some(output) = liar.poll_output() {
                if let MembershipOutput::Datagram { to, bytes } = output
                    && to == node.id
                {
                    let mut datagram = BytesMut::new();
                    datagram.put_u8(1);
                    datagram.put_slice(&bytes);
                    raw.connection.send_datagram(datagram.freeze()).unwrap();
                }
            }
            let picture = node.handle.picture();
            let mut shown = picture.nodes.iter().filter(|shown| shown.identity.id == lie.id);
            if shown.any(|shown| shown.identity.incarnation == lie.incarnation) {
                return;
            }
            tokio::select! {
                biased;
                datagram = raw.connection.read_datagram() => {
                    liar.on_datagram(clock.now(), node.id, &datagram.unwrap()[1..]).ok();
                }
                chunk = receive.read_chunk(1_024, true) => { chunk.unwrap(); }
                () = tokio::time::sleep(Duration::from_millis(10)) => {}
            }
        }
    });
    told.await.expect("the lie is believed");
    // Both directions of the control stream live as long as the connection.
    tokio::spawn(async move {
        let _kept = (send, receive);
        std::future::pending::<()>().await;
    });
    raw
}

#[tokio::test]
async fn nobody_is_cut_off_or_kept_out_by_what_a_third_one_says_of_it() {
    // WIRE-15, WIRE-23
    let mut one = Wanted::member(1).start();
    let mut two = Wanted::member(2).knowing(&[&one]).start();
    one.until_with(&[two.id]).await;
    two.until_with(&[one.id]).await;
    let lie = MemberIdentity::new(two.id, two.handle.local_addr(), 1_000);
    let _liar = tell_a_lie(&one, 9, lie).await;
    // As long as a doubted connection has to show that it lives, and longer.
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert!(connected(&one.handle.picture()).contains(&two.id));
    assert_eq!(*two.services.calls.lock(), ["up node-1"], "the connection is the same");
    let removed = two.id;
    two.crash().await;
    let two = Wanted { incarnation: 2, ..Wanted::member(2) }.knowing(&[&one]).start();
    eventually("welcome", || {
        let peers = one.handle.peers();
        let held = peers.iter().find(|row| row.node == removed).and_then(|row| row.connection.as_ref());
        held.is_some_and(|held| held.peer.incarnation == 2)
    })
    .await;
    assert_eq!(one.handle.counters().hello_refused(crate::wire::HelloRefusal::OldIncarnation), 0);
    drop(two);
}
