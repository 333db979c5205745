use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use arw_kit::moment::Moment;
use proptest::prelude::*;

use super::*;
use crate::certificate::{CERTIFICATE_LIFETIME, ClusterKey, Revocation, Role, Roles};
use crate::join::FIRST_MESSAGE_WITHIN;
use crate::wire::{CloseCode, Hello, HelloAck};

fn node(byte: u8) -> NodeId {
    NodeId::from_bytes([byte; 32])
}

fn start() -> Moment {
    Moment::ZERO + Duration::from_secs(100)
}

fn wall() -> WallTime {
    WallTime::from_millis(1_800_000_000_000)
}

fn cluster(byte: u8) -> ClusterKey {
    ClusterKey::from_seed(&[byte; 32]).unwrap()
}

/// A member of cluster 1.
struct Member {
    id: NodeId,
    certificate: SignedCertificate,
    revoked: RevocationSet,
}

impl Member {
    fn new(byte: u8) -> Self {
        let roles = Roles::from_iter([Role::Worker]);
        let certificate =
            cluster(1).certify(node(byte), roles, u64::from(byte), wall(), CERTIFICATE_LIFETIME);
        Self { id: node(byte), certificate, revoked: RevocationSet::default() }
    }

    fn local(&self) -> LocalMember<'_> {
        LocalMember {
            id: self.id,
            start: START_OF_BOTH,
            name: "kitchen",
            certificate: &self.certificate,
            cluster_key: cluster(1).public(),
            revoked: &self.revoked,
        }
    }

    fn link(&self, peer: &Self) -> PeerLink {
        PeerLink {
            own: self.id,
            peer: peer.id,
            is_dialing: false,
            held: None,
            incarnation_known: 0,
            seen: None,
        }
    }

    fn hello_to(&self, peer: &Self) -> (HelloDialer, Hello) {
        let mut dialer = HelloDialer::new(start(), peer.id);
        match dialer.handle(wall(), &DialerEvent::Connected { peer: peer.id }, &self.local()) {
            Some(DialerAction::SendHello(hello)) => (dialer, hello),
            other => panic!("{other:?}"),
        }
    }

    fn answer(&self, peer: &Self, hello: Hello, link: PeerLink) -> AcceptorAction {
        let mut acceptor = HelloAcceptor::new(start(), peer.id);
        let event = AcceptorEvent::HelloReceived { hello, link };
        acceptor.handle((start(), wall()), &event, &self.local()).unwrap()
    }

    fn refusal(&self, peer: &Self, hello: Hello) -> HelloRefusal {
        match self.answer(peer, hello, self.link(peer)) {
            AcceptorAction::Refuse(refused) => refused.reason,
            AcceptorAction::Accept { .. } => panic!("accepted"),
        }
    }

    fn ack(&self, peer: &Self, hello: Hello) -> HelloAck {
        match self.answer(peer, hello, self.link(peer)) {
            AcceptorAction::Accept { ack, .. } => ack,
            AcceptorAction::Refuse(refused) => panic!("{refused:?}"),
        }
    }
}

const START_OF_BOTH: Start = Start { incarnation: 3, number: 7 };

#[test]
fn two_members_believe_each_other() {
    let (one, two) = (Member::new(1), Member::new(2));
    let (mut dialer, hello) = one.hello_to(&two);
    let AcceptorAction::Accept { ack, peer, replaces } = two.answer(&one, hello, two.link(&one)) else {
        panic!("refused")
    };
    assert_eq!((peer.id, peer.incarnation, peer.name.as_str(), replaces), (one.id, 3, "kitchen", false));
    assert!(peer.certificate.roles.has(Role::Worker));
    let answered = DialerEvent::AckReceived { ack, link: one.link(&two) };
    let Some(DialerAction::Up { peer, replaces: false }) = dialer.handle(wall(), &answered, &one.local())
    else {
        panic!("not up")
    };
    assert_eq!((peer.id, peer.minor), (two.id, Versions::OWN.newest));
    assert_eq!(dialer.deadline(), None);
    assert_eq!(dialer.handle(wall(), &DialerEvent::DeadlinePassed, &one.local()), None);
}

#[test]
fn each_reason_to_refuse_a_hello_is_told_apart() {
    // WIRE-6, WIRE-9, WIRE-10, WIRE-14
    let (one, mut two) = (Member::new(1), Member::new(2));
    let (_, hello) = one.hello_to(&two);
    let with = |certificate: SignedCertificate| Hello {
        certificate: certificate.as_bytes().to_vec(),
        ..hello.clone()
    };
    let certify =
        |key: &ClusterKey, at: WallTime| key.certify(one.id, Roles::default(), 1, at, CERTIFICATE_LIFETIME);
    for versions in [Versions { oldest: 0, newest: 0 }, Versions { oldest: 2, newest: 3 }] {
        let other_version = Hello { versions, ..hello.clone() };
        assert_eq!(two.refusal(&one, other_version), HelloRefusal::Version);
    }
    assert_eq!(two.refusal(&one, with(certify(&cluster(2), wall()))), HelloRefusal::OtherCluster);
    let mut forged = certify(&cluster(2), wall()).as_bytes().to_vec();
    forged[2..18].copy_from_slice(cluster(1).id().as_bytes());
    assert_eq!(two.refusal(&one, Hello { certificate: forged, ..hello.clone() }), HelloRefusal::BadSignature);
    assert_eq!(two.refusal(&one, with(Member::new(3).certificate)), HelloRefusal::OtherNode);
    let day = Duration::from_secs(24 * 3600);
    let ended = certify(&cluster(1), wall() - CERTIFICATE_LIFETIME - day);
    assert_eq!(two.refusal(&one, with(ended)), HelloRefusal::Expired);
    assert_eq!(two.refusal(&one, with(certify(&cluster(1), wall() + day))), HelloRefusal::NotYetValid);
    assert_eq!(
        two.refusal(&one, Hello { certificate: vec![1, 2], ..hello.clone() }),
        HelloRefusal::Certificate
    );
    let hour = Duration::from_secs(3600);
    let off = Hello { sent_at_ms: (wall() - hour).as_millis(), ..hello.clone() };
    assert_eq!(two.refusal(&one, off), HelloRefusal::Clock);
    assert_eq!(two.refusal(&two, two.hello_to(&one).1), HelloRefusal::Itself);
    let removal = Revocation { node: one.id, serial_max: 1, kept_until: wall() + CERTIFICATE_LIFETIME };
    two.revoked.add(cluster(1).revoke(removal), &cluster(1).public()).unwrap();
    assert_eq!(two.refusal(&one, hello), HelloRefusal::Removed);
}

#[test]
fn the_dialer_checks_the_acceptor_by_the_same_rules() {
    // WIRE-9, WIRE-10
    let (mut one, two) = (Member::new(1), Member::new(2));
    let judged = |one: &Member, change: &dyn Fn(&mut HelloAck)| {
        let (mut dialer, hello) = one.hello_to(&two);
        let mut ack = two.ack(one, hello);
        change(&mut ack);
        match dialer.handle(wall(), &DialerEvent::AckReceived { ack, link: one.link(&two) }, &one.local()) {
            Some(DialerAction::Fail(HelloFailure::PeerRefused(reason))) => reason,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(judged(&one, &|ack| ack.minor = 2), HelloRefusal::Version);
    let foreign = cluster(2).certify(two.id, Roles::default(), 1, wall(), CERTIFICATE_LIFETIME);
    let other = judged(&one, &|ack| ack.certificate = foreign.as_bytes().to_vec());
    assert_eq!(other, HelloRefusal::OtherCluster);
    let someone = Member::new(3).certificate.as_bytes().to_vec();
    assert_eq!(judged(&one, &|ack| ack.certificate.clone_from(&someone)), HelloRefusal::OtherNode);
    assert_eq!(judged(&one, &|ack| ack.sent_at_ms = 0), HelloRefusal::Clock);
    let removal = Revocation { node: two.id, serial_max: 9, kept_until: wall() + CERTIFICATE_LIFETIME };
    one.revoked.add(cluster(1).revoke(removal), &cluster(1).public()).unwrap();
    assert_eq!(judged(&one, &|_| ()), HelloRefusal::Removed);
    let mut dialer = HelloDialer::new(start(), two.id);
    let wrong = dialer.handle(wall(), &DialerEvent::Connected { peer: node(3) }, &one.local());
    let expected = HelloFailure::PeerRefused(HelloRefusal::OtherNode);
    assert_eq!(wrong, Some(DialerAction::Fail(expected)));
}

#[test]
fn a_dialer_that_says_nothing_is_refused_after_three_seconds() {
    // WIRE-13
    let (one, two) = (Member::new(1), Member::new(2));
    let (_, hello) = one.hello_to(&two);
    let reason = |action: Option<AcceptorAction>| match action {
        Some(AcceptorAction::Refuse(refused)) => refused.reason,
        other => panic!("{other:?}"),
    };
    let mut silent = HelloAcceptor::new(start(), one.id);
    let deadline = silent.deadline().unwrap();
    assert_eq!(deadline, start() + FIRST_MESSAGE_WITHIN);
    let passed = silent.handle((deadline, wall()), &AcceptorEvent::DeadlinePassed, &two.local());
    assert_eq!(reason(passed), HelloRefusal::TooSlow);
    let received = AcceptorEvent::HelloReceived { hello, link: two.link(&one) };
    assert_eq!(silent.handle((deadline, wall()), &received, &two.local()), None);
    let mut slow = HelloAcceptor::new(start(), one.id);
    let late = slow.handle((deadline + Duration::from_millis(1), wall()), &received, &two.local());
    assert_eq!(reason(late), HelloRefusal::TooSlow);
}

#[test]
fn the_end_of_a_dial_says_whether_dialing_again_helps() {
    // WIRE-8
    let (one, two) = (Member::new(1), Member::new(2));
    let ended = |event: DialerEvent| match one.hello_to(&two).0.handle(wall(), &event, &one.local()) {
        Some(DialerAction::Fail(failure)) => failure.is_passing(),
        other => panic!("{other:?}"),
    };
    assert!(ended(DialerEvent::ConnectionFailed));
    assert!(ended(DialerEvent::DeadlinePassed));
    assert!(ended(DialerEvent::Closed(CloseCode::Unlisted(0))));
    assert!(ended(DialerEvent::RefusedReceived(HelloRefusal::Busy)));
    assert!(!ended(DialerEvent::RefusedReceived(HelloRefusal::Removed)));
    assert!(!ended(DialerEvent::Closed(CloseCode::Hello(HelloRefusal::Expired))));
    for duplicate in [
        DialerEvent::RefusedReceived(HelloRefusal::Duplicate),
        DialerEvent::Closed(CloseCode::Hello(HelloRefusal::Duplicate)),
    ] {
        let action = one.hello_to(&two).0.handle(wall(), &duplicate, &one.local());
        assert_eq!(action, Some(DialerAction::WaitForIncoming));
    }
}

#[test]
fn the_lower_id_has_the_last_word_and_an_old_start_none() {
    // WIRE-15
    let (low, high) = (Member::new(1), Member::new(2));
    let dialed = |dialed_by, incarnation| Candidate { dialed_by, start: Start { incarnation, number: 7 } };
    let own = Some(Held {
        dialed_by: DialSide::Own,
        start: START_OF_BOTH,
        age: Duration::ZERO,
        is_elsewhere: false,
    });
    let theirs = Some(Held {
        dialed_by: DialSide::Peer,
        start: START_OF_BOTH,
        age: Duration::ZERO,
        is_elsewhere: false,
    });
    let judged = |from: &Member, to: &Member, is_dialing, held, candidate| {
        judge_connection(&PeerLink { is_dialing, held, incarnation_known: 3, ..from.link(to) }, candidate)
    };
    let incoming = dialed(DialSide::Peer, 3);
    assert_eq!(judged(&low, &high, false, None, incoming), DialVerdict::Take);
    assert_eq!(judged(&low, &high, true, None, incoming), DialVerdict::Duplicate);
    assert_eq!(judged(&low, &high, false, own, incoming), DialVerdict::Duplicate);
    let for_long = own.map(|held| Held { age: Duration::from_secs(4), ..held });
    assert_eq!(judged(&low, &high, false, for_long, incoming), DialVerdict::Take, "the peer has lost it");
    let elsewhere = own.map(|held| Held { is_elsewhere: true, ..held });
    assert_eq!(judged(&low, &high, false, elsewhere, incoming), DialVerdict::Take, "the peer has moved");
    assert_eq!(judged(&low, &high, false, theirs, incoming), DialVerdict::Take);
    assert_eq!(judged(&low, &high, false, own, dialed(DialSide::Peer, 4)), DialVerdict::Take);
    assert_eq!(judged(&high, &low, true, own, incoming), DialVerdict::Take);
    for side in [DialSide::Own, DialSide::Peer] {
        assert_eq!(judged(&low, &high, false, None, dialed(side, 2)), DialVerdict::OldIncarnation);
        assert_eq!(judged(&high, &low, false, own, dialed(side, 2)), DialVerdict::OldIncarnation);
    }
    // The acceptor and the dialer ask this rule.
    let (_, hello) = high.hello_to(&low);
    let busy = PeerLink { is_dialing: true, ..low.link(&high) };
    let AcceptorAction::Refuse(refused) = low.answer(&high, hello.clone(), busy) else { panic!("accepted") };
    assert_eq!(refused.reason, HelloRefusal::Duplicate);
    let newer = PeerLink { incarnation_known: 4, ..low.link(&high) };
    let AcceptorAction::Refuse(refused) = low.answer(&high, hello.clone(), newer) else { panic!("accepted") };
    assert_eq!(refused.reason, HelloRefusal::OldIncarnation);
    let (mut dialer, _) = high.hello_to(&low);
    let stale = PeerLink { incarnation_known: 4, ..high.link(&low) };
    let ack = low.ack(&high, hello);
    let action = dialer.handle(wall(), &DialerEvent::AckReceived { ack, link: stale }, &high.local());
    let expected = HelloFailure::PeerRefused(HelloRefusal::OldIncarnation);
    assert_eq!(action, Some(DialerAction::Fail(expected)));
}

#[test]
fn of_two_copies_everybody_takes_the_same_one_whichever_came_first() {
    // WIRE-25
    let (one, other) = (Member::new(1), Member::new(2));
    let start = |incarnation, number| Start { incarnation, number };
    let held =
        |start| Some(Held { dialed_by: DialSide::Own, start, age: Duration::ZERO, is_elsewhere: true });
    for side in [DialSide::Own, DialSide::Peer] {
        let judged = |held, seen, candidate| {
            let link = PeerLink { held, seen, incarnation_known: 3, ..other.link(&one) };
            judge_connection(&link, Candidate { dialed_by: side, start: candidate })
        };
        let (low, high) = (start(3, 1), start(3, 2));
        assert_eq!(judged(held(low), Some(low), high), DialVerdict::Take);
        assert_eq!(judged(held(high), Some(high), low), DialVerdict::Copied);
        // Also while the one that prevails is away for a moment: else the two would take turns.
        assert_eq!(judged(None, Some(high), low), DialVerdict::Copied);
        assert_eq!(judged(None, Some(high), high), DialVerdict::Take, "its connection was lost");
        assert_eq!(judged(held(high), Some(high), start(4, 0)), DialVerdict::Take, "a later start");
        assert_eq!(judged(held(high), Some(high), start(2, 9)), DialVerdict::OldIncarnation);
    }
    // The acceptor and the dialer ask this rule.
    let (mut dialer, hello) = one.hello_to(&other);
    let seen = Some(start(3, 8));
    let AcceptorAction::Refuse(refused) =
        other.answer(&one, hello.clone(), PeerLink { seen, ..other.link(&one) })
    else {
        panic!("accepted")
    };
    assert_eq!(refused.reason, HelloRefusal::Copied);
    let (ack, link) = (other.ack(&one, hello), PeerLink { seen, ..one.link(&other) });
    let action = dialer.handle(wall(), &DialerEvent::AckReceived { ack, link }, &one.local());
    assert_eq!(action, Some(DialerAction::Fail(HelloFailure::PeerRefused(HelloRefusal::Copied))));
}

/// Two nodes that dial each other over a network that keeps order within a connection only.
#[derive(Debug)]
struct World {
    sides: [Side; 2],
    /// What is on its way, by connection and receiver.
    flying: BTreeMap<(u32, usize), VecDeque<Word>>,
    connections: u32,
}

#[derive(Debug, Default)]
struct Side {
    incarnation: u64,
    known: u64,
    dialing: Option<u32>,
    held: Option<(u32, Held)>,
}

#[derive(Clone, Copy, Debug)]
enum Word {
    Hello { incarnation: u64 },
    Ack { incarnation: u64 },
    Close,
}

impl World {
    fn new() -> Self {
        let side = || Side { incarnation: 1, ..Side::default() };
        Self { sides: [side(), side()], flying: BTreeMap::new(), connections: 0 }
    }

    fn send(&mut self, connection: u32, to: usize, word: Word) {
        self.flying.entry((connection, to)).or_default().push_back(word);
    }

    fn dial(&mut self, at: usize) {
        let side = &mut self.sides[at];
        if side.dialing.is_none() && side.held.is_none() {
            self.connections += 1;
            side.dialing = Some(self.connections);
            let hello = Word::Hello { incarnation: side.incarnation };
            self.send(self.connections, 1 - at, hello);
        }
    }

    /// The deadline of a dial passes.
    fn give_up(&mut self, at: usize) {
        if let Some(connection) = self.sides[at].dialing.take() {
            self.send(connection, 1 - at, Word::Close);
        }
    }

    /// The node is killed and starts again: whatever was on its way to it is lost.
    fn restart(&mut self, at: usize) {
        self.sides[at] = Side { incarnation: self.sides[at].incarnation + 1, ..Side::default() };
        self.flying.retain(|(_, to), _| *to != at);
    }

    /// Takes the idle timeout's place: a connection that the other end does not know, and never will, is
    /// noticed.
    fn notice_dead(&mut self, at: usize) {
        let Some((connection, _)) = self.sides[at].held else { return };
        let other = &self.sides[1 - at];
        let lives =
            other.dialing == Some(connection) || other.held.is_some_and(|(held, _)| held == connection);
        if !lives && !self.flying.contains_key(&(connection, at)) {
            self.sides[at].held = None;
        }
    }

    fn deliver(&mut self, choice: usize) {
        let Some(key) = self.flying.keys().nth(choice % self.flying.len().max(1)).copied() else { return };
        let (connection, at) = key;
        let queue = self.flying.get_mut(&key).unwrap();
        let word = queue.pop_front().unwrap();
        if queue.is_empty() {
            self.flying.remove(&key);
        }
        match word {
            Word::Hello { incarnation } => self.judge(at, connection, DialSide::Peer, incarnation),
            Word::Ack { incarnation } if self.sides[at].dialing == Some(connection) => {
                self.sides[at].dialing = None;
                self.judge(at, connection, DialSide::Own, incarnation);
            }
            Word::Ack { .. } => {}
            Word::Close => {
                let side = &mut self.sides[at];
                side.dialing = side.dialing.filter(|dialing| *dialing != connection);
                side.held = side.held.filter(|(held, _)| *held != connection);
            }
        }
    }

    fn judge(&mut self, at: usize, connection: u32, dialed_by: DialSide, incarnation: u64) {
        let side = &mut self.sides[at];
        let link = PeerLink {
            own: node(u8::try_from(at).unwrap()),
            peer: node(u8::try_from(1 - at).unwrap()),
            is_dialing: side.dialing.is_some(),
            held: side.held.map(|(_, held)| held),
            incarnation_known: side.known,
            seen: None,
        };
        let start = Start { incarnation, number: 7 };
        match judge_connection(&link, Candidate { dialed_by, start }) {
            DialVerdict::Take => {
                side.known = side.known.max(incarnation);
                let held = Held { dialed_by, start, age: Duration::ZERO, is_elsewhere: false };
                let (own, old) = (side.incarnation, side.held.replace((connection, held)));
                if let Some((old, _)) = old {
                    self.send(old, 1 - at, Word::Close);
                }
                if dialed_by == DialSide::Peer {
                    self.send(connection, 1 - at, Word::Ack { incarnation: own });
                }
            }
            DialVerdict::Duplicate | DialVerdict::OldIncarnation | DialVerdict::Copied => {
                self.send(connection, 1 - at, Word::Close);
            }
        }
    }

    fn held(&self) -> [Option<u32>; 2] {
        [0, 1].map(|at| self.sides[at].held.map(|(connection, _)| connection))
    }

    fn is_settled(&self) -> bool {
        let [one, other] = self.held();
        one.is_some() && one == other && self.sides.iter().all(|side| side.dialing.is_none())
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1024))]

    #[test]
    fn two_nodes_that_dial_each_other_end_with_one_connection(
        steps in proptest::collection::vec((0..16_u8, any::<usize>()), 0..80),
        order in proptest::collection::vec(any::<usize>(), 64),
    ) {
        // WIRE-15
        let mut world = World::new();
        for (step, choice) in steps {
            match step {
                0..=3 => world.dial(choice % 2),
                4 => world.give_up(choice % 2),
                5 => world.restart(choice % 2),
                6 => world.notice_dead(choice % 2),
                _ => world.deliver(choice),
            }
        }
        // From here on nothing new goes wrong: what flies arrives in any order, dead ends are noticed,
        // whoever has nothing dials.
        let mut order = order.into_iter().cycle();
        let mut rounds = 0;
        while !(world.is_settled() && world.flying.is_empty()) {
            rounds += 1;
            prop_assert!(rounds <= 6, "not settled: {world:?}");
            for at in [0, 1] {
                world.notice_dead(at);
                // A dial whose words were lost ends by its deadline.
                let dialing = world.sides[at].dialing;
                let flies = |it: u32| (0..2).any(|to| world.flying.contains_key(&(it, to)));
                if dialing.is_some_and(|it| !flies(it)) {
                    world.give_up(at);
                }
                world.dial(at);
            }
            while !world.flying.is_empty() {
                world.deliver(order.next().unwrap());
            }
        }
        // And so it stays.
        let held = world.held();
        for at in [0, 1] {
            world.dial(at);
            world.notice_dead(at);
        }
        prop_assert!(world.flying.is_empty());
        prop_assert_eq!(world.held(), held);
    }

    #[test]
    fn without_loss_both_dials_at_once_take_one_round(first in 0..2_usize, order in proptest::collection::vec(any::<usize>(), 20)) {
        // WIRE-15
        let mut world = World::new();
        world.dial(first);
        world.dial(1 - first);
        let mut order = order.into_iter().cycle();
        while !world.flying.is_empty() {
            world.deliver(order.next().unwrap());
        }
        prop_assert!(world.is_settled(), "{world:?}");
    }
}
