//! A member that lies about another one.

use std::time::Duration;

use bytes::{BufMut as _, BytesMut};

use super::hostile::Raw;
use super::kit::*;
use crate::identity::NodeId;
use crate::membership::tests::forging;
use crate::membership::{MemberIdentity, NodeEntry, NodeState, RecordKey};
use crate::wire::{CloseCode, HelloRefusal};

fn record_key(byte: u8) -> RecordKey {
    RecordKey::new(node_key(byte), cluster_key(1).id())
}

/// Member 9, which says what it likes.
struct Liar {
    raw: Raw,
    own: MemberIdentity,
    key: RecordKey,
    _streams: (quinn::SendStream, quinn::RecvStream),
}

impl Liar {
    async fn of(node: &Node) -> Self {
        let raw = Raw::connect(node, 9).await;
        let streams = raw.say_hello(Wanted::member(9).certificate).await;
        eventually("a peer", || connected(&node.handle.picture()).contains(&node_key(9).id())).await;
        let own = MemberIdentity::new(node_key(9).id(), loopback(), 1);
        Self { raw, own, key: record_key(9), _streams: streams }
    }

    /// It renews itself each time, so that it is heard although it answers nobody.
    fn tell(&mut self, node: &Node, statements: &[forging::Statement]) {
        self.own = forging::renewed(self.own);
        let to = node.handle.picture().own;
        let mut datagram = BytesMut::new();
        datagram.put_u8(1);
        datagram.put_slice(&forging::gossip((self.own, &self.key), to, statements));
        self.raw.connection.send_datagram(datagram.freeze()).unwrap();
    }
}

fn shown(node: &Node, other: NodeId) -> Option<NodeEntry> {
    node.handle.picture().nodes.iter().find(|entry| entry.identity.id == other).copied()
}

#[tokio::test]
async fn nobody_is_cut_off_or_kept_out_or_made_up_by_what_a_third_one_says_of_it() {
    // WIRE-15, WIRE-23, MEMBER-24, MEMBER-25
    let mut one = Wanted::member(1).start();
    let mut two = Wanted::member(2).knowing(&[&one]).start();
    one.until_with(&[two.id]).await;
    two.until_with(&[one.id]).await;
    let of_two = two.handle.picture().own;
    let made_up = MemberIdentity::new(node_key(50).id(), two.handle.local_addr(), 1);
    let mut liar = Liar::of(&one).await;
    // As long as a doubted connection has to show that it lives, and longer.
    for _ in 0..45 {
        let lies = [forging::down(&record_key(2), of_two), forging::alive(&record_key(50), made_up)];
        liar.tell(&one, &lies);
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert_ne!(shown(&one, two.id).unwrap().state, NodeState::Down);
        assert!(shown(&one, made_up.id).is_none(), "nobody has met it");
    }
    let counted = one.handle.counters().membership;
    assert!(counted.doubts_asked > 0, "it was told, and has asked");
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
    assert_eq!(one.handle.counters().hello_refused(HelloRefusal::OldIncarnation), 0);
    drop(two);
}

#[tokio::test]
async fn who_signs_for_another_is_cut_off_itself() {
    // MEMBER-23
    let mut one = Wanted::member(1).start();
    let mut two = Wanted::member(2).knowing(&[&one]).start();
    one.until_with(&[two.id]).await;
    two.until_with(&[one.id]).await;
    let of_two = two.handle.picture().own;
    let elsewhere = MemberIdentity::new(two.id, loopback(), 1_000);
    for (count, lie) in [(1, elsewhere), (2, forging::left(of_two)), (3, forging::renewed(of_two))] {
        let mut liar = Liar::of(&one).await;
        liar.tell(&one, &[forging::forged(lie)]);
        assert_eq!(liar.raw.closed().await, CloseCode::Malformed);
        assert_eq!(one.handle.counters().membership.refused_forged, count);
        let entry = shown(&one, two.id).unwrap();
        assert_eq!((entry.identity, entry.state), (of_two, NodeState::Up));
        assert_eq!(entry.identity.address, of_two.address);
    }
    assert_eq!(*two.services.calls.lock(), ["up node-1"]);
}
