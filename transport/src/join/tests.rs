use std::net::SocketAddr;
use std::time::Duration;

use super::*;
use crate::certificate::{
    CERTIFICATE_LIFETIME, CertificateError, ClusterKey, Revocation, RevocationSet, Role, Roles,
};
use crate::identity::NodeId;
use crate::token::{ADDRESSES_MAX, JoinToken, KeyingMaterial, NewToken, TokenId, TokenTable};
use crate::wire::{CloseCode, Join, JoinRefusal, PeerAddresses, Versions};
use arw_kit::moment::Moment;

const SESSION: KeyingMaterial = KeyingMaterial([1; 32]);
const OTHER_SESSION: KeyingMaterial = KeyingMaterial([2; 32]);
const MS: Duration = Duration::from_millis(1);

fn node(byte: u8) -> NodeId {
    NodeId::from_bytes([byte; 32])
}

fn start() -> Moment {
    Moment::ZERO + Duration::from_secs(100)
}

fn wall() -> WallTime {
    WallTime::from_millis(1_800_000_000_000)
}

/// A node that lets others in, with one token.
struct Issuer {
    cluster: ClusterKey,
    revoked: RevocationSet,
    tokens: TokenTable,
    token: JoinToken,
    serial: u64,
    peers: Vec<PeerAddresses>,
}

impl Issuer {
    const OWN: NodeId = NodeId::from_bytes([9; 32]);

    fn new() -> Self {
        let cluster = ClusterKey::from_seed(&[1; 32]).unwrap();
        let mut tokens = TokenTable::default();
        let wanted = NewToken {
            roles: Roles::from_iter([Role::Worker]),
            ttl: Duration::from_secs(3600),
            uses_max: 1,
            addresses: vec!["10.0.0.1:7700".parse().unwrap(), "10.0.0.2:7700".parse().unwrap()],
        };
        let random = (TokenId::from_bytes([5; 8]), [6; 16]);
        let (token, _) = tokens.create(wall(), wanted, (cluster.id(), Self::OWN), random).unwrap();
        let peers = vec![PeerAddresses { node: [9; 32], addresses: token.addresses.clone() }];
        Self { cluster, revoked: RevocationSet::default(), tokens, token, serial: 7, peers }
    }

    fn handle(&mut self, side: &mut JoinIssuer, at: Moment, event: IssuerEvent) -> Option<IssuerAction> {
        let context = IssuerContext {
            own: Self::OWN,
            cluster: &self.cluster,
            revoked: &self.revoked,
            serial: self.serial,
            is_present: false,
            peers: &self.peers,
        };
        side.handle((at, wall()), event, &mut self.tokens, &context)
    }

    /// One connection of `joiner`, whose store works.
    fn answer(&mut self, joiner: NodeId, join: Join, keying: KeyingMaterial) -> IssuerAction {
        let mut side = JoinIssuer::new(start(), joiner);
        match self.handle(&mut side, start(), IssuerEvent::JoinReceived { join, keying }).unwrap() {
            IssuerAction::StoreUse(_) => self.handle(&mut side, start(), IssuerEvent::UseStored).unwrap(),
            verdict @ (IssuerAction::Accept(_) | IssuerAction::Refuse(_)) => verdict,
        }
    }

    fn refusal(&mut self, joiner: NodeId, join: Join, keying: KeyingMaterial) -> JoinRefusal {
        match self.answer(joiner, join, keying) {
            IssuerAction::Refuse(refused) => refused.reason,
            other @ (IssuerAction::Accept(_) | IssuerAction::StoreUse(_)) => panic!("{other:?}"),
        }
    }

    fn is_accepted(&mut self, joiner: NodeId, join: Join, keying: KeyingMaterial) -> bool {
        matches!(self.answer(joiner, join, keying), IssuerAction::Accept(_))
    }
}

/// An attempt that has sent its message, and the message.
fn asked(own: NodeId, token: &JoinToken, keying: KeyingMaterial) -> (JoinAttempt, Join) {
    let (mut attempt, dial) = JoinAttempt::start(start(), own, "kitchen", token.clone());
    assert_eq!(dial, JoinAction::Dial { address: token.addresses[0], issuer: token.issuer });
    match attempt.handle((start(), wall()), JoinEvent::Connected { peer: token.issuer, keying }) {
        Some(JoinAction::SendJoin(join)) => (attempt, join),
        other => panic!("{other:?}"),
    }
}

fn failure(attempt: &mut JoinAttempt, event: JoinEvent) -> JoinFailure {
    match attempt.handle((start(), wall()), event) {
        Some(JoinAction::Fail(failure)) => failure,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_node_with_a_token_becomes_a_member() {
    let mut issuer = Issuer::new();
    let (mut attempt, join) = asked(node(1), &issuer.token.clone(), SESSION);
    let mut side = JoinIssuer::new(start(), node(1));
    // WIRE-12: nothing is said before the use is on disk.
    let received = IssuerEvent::JoinReceived { join, keying: SESSION };
    let Some(IssuerAction::StoreUse(record)) = issuer.handle(&mut side, start(), received) else {
        panic!("the use is not stored")
    };
    assert_eq!(record.used[0].node, node(1));
    let Some(IssuerAction::Accept(accepted)) = issuer.handle(&mut side, start(), IssuerEvent::UseStored)
    else {
        panic!("not accepted")
    };
    assert_eq!(side.deadline(), None);
    let Some(JoinAction::Joined(membership)) =
        attempt.handle((start(), wall()), JoinEvent::Accepted(accepted))
    else {
        panic!("not joined")
    };
    assert_eq!(attempt.deadline(), None);
    let told = membership.certificate;
    assert_eq!((told.node, told.serial, told.roles.to_string().as_str()), (node(1), 7, "worker"));
    assert_eq!(told.not_after, wall() + CERTIFICATE_LIFETIME);
    assert_eq!(membership.cluster_key, issuer.cluster.public());
    assert_eq!(membership.peers, issuer.peers);
    let again = membership.signed.verify(&membership.cluster_key, node(1), wall(), &issuer.revoked);
    assert_eq!(again, Ok(told));
}

#[test]
fn a_proof_does_not_work_on_another_connection_or_for_another_node() {
    // WIRE-11
    let mut issuer = Issuer::new();
    let (_, join) = asked(node(1), &issuer.token.clone(), SESSION);
    assert_eq!(issuer.refusal(node(1), join.clone(), OTHER_SESSION), JoinRefusal::Proof);
    assert_eq!(issuer.refusal(node(2), join.clone(), SESSION), JoinRefusal::Proof);
    let unknown = Join { token: [8; 8], ..join.clone() };
    assert_eq!(issuer.refusal(node(1), unknown, SESSION), JoinRefusal::Proof);
    // Nothing of this has used the token up.
    assert!(issuer.is_accepted(node(1), join, SESSION));
}

#[test]
fn a_used_token_lets_nobody_else_in_and_a_lost_answer_is_given_again() {
    // WIRE-12
    let mut issuer = Issuer::new();
    let token = issuer.token.clone();
    let (_, first) = asked(node(1), &token, SESSION);
    assert!(issuer.is_accepted(node(1), first, SESSION));
    let (_, second) = asked(node(2), &token, OTHER_SESSION);
    assert_eq!(issuer.refusal(node(2), second, OTHER_SESSION), JoinRefusal::Used);
    let (_, again) = asked(node(1), &token, OTHER_SESSION);
    assert!(issuer.is_accepted(node(1), again, OTHER_SESSION));
}

#[test]
fn a_use_that_cannot_be_stored_is_refused_and_stays_used() {
    // WIRE-12
    for failed in [IssuerEvent::UseNotStored, IssuerEvent::DeadlinePassed] {
        let mut issuer = Issuer::new();
        let token = issuer.token.clone();
        let (_, join) = asked(node(1), &token, SESSION);
        let mut side = JoinIssuer::new(start(), node(1));
        let received = IssuerEvent::JoinReceived { join, keying: SESSION };
        assert!(matches!(issuer.handle(&mut side, start(), received), Some(IssuerAction::StoreUse(_))));
        let verdict = issuer.handle(&mut side, start(), failed);
        assert!(matches!(verdict, Some(IssuerAction::Refuse(it)) if it.reason == JoinRefusal::NotStored));
        // Stored after all, too late: the verdict has been given.
        assert_eq!(issuer.handle(&mut side, start(), IssuerEvent::UseStored), None);
        let (_, other) = asked(node(2), &token, SESSION);
        assert_eq!(issuer.refusal(node(2), other, SESSION), JoinRefusal::Used);
    }
}

#[test]
fn a_removed_node_needs_a_new_token() {
    // WIRE-10
    let mut issuer = Issuer::new();
    let token = issuer.token.clone();
    let (_, join) = asked(node(1), &token, SESSION);
    assert!(issuer.is_accepted(node(1), join.clone(), SESSION));
    let removal = Revocation { node: node(1), serial_max: 7, kept_until: wall() + CERTIFICATE_LIFETIME };
    issuer.revoked.add(issuer.cluster.revoke(removal), &issuer.cluster.public()).unwrap();
    // Even a repeated answer with an old serial would be refused by everybody.
    assert_eq!(issuer.refusal(node(1), join.clone(), SESSION), JoinRefusal::Removed);
    issuer.serial = 8;
    issuer.tokens.bar(node(1));
    assert_eq!(issuer.refusal(node(1), join, SESSION), JoinRefusal::Removed);
}

#[test]
fn versions_clocks_and_oneself_are_judged_before_the_token_is_used() {
    // WIRE-6, WIRE-14
    let mut issuer = Issuer::new();
    let (_, join) = asked(node(1), &issuer.token.clone(), SESSION);
    let newer = Join { versions: Versions { oldest: 2, newest: 9 }, ..join.clone() };
    assert_eq!(issuer.refusal(node(1), newer, SESSION), JoinRefusal::Version);
    let hour = Duration::from_secs(3600);
    for sent in [wall() + hour, wall() - hour] {
        let early = Join { sent_at_ms: sent.as_millis(), ..join.clone() };
        assert_eq!(issuer.refusal(node(1), early, SESSION), JoinRefusal::Clock);
    }
    for sent_at_ms in [i64::MIN, i64::MAX] {
        let absurd = Join { sent_at_ms, ..join.clone() };
        assert_eq!(issuer.refusal(node(1), absurd, SESSION), JoinRefusal::Clock);
    }
    assert_eq!(issuer.refusal(Issuer::OWN, join.clone(), SESSION), JoinRefusal::Itself);
    assert!(issuer.is_accepted(node(1), join, SESSION));
    let (mut attempt, action) = JoinAttempt::start(start(), Issuer::OWN, "me", issuer.token.clone());
    assert_eq!(action, JoinAction::Fail(JoinFailure::Itself));
    assert_eq!(attempt.handle((start(), wall()), JoinEvent::DeadlinePassed), None);
}

#[test]
fn a_joiner_that_says_nothing_or_too_much_is_refused() {
    // WIRE-13
    let mut issuer = Issuer::new();
    let (_, join) = asked(node(1), &issuer.token.clone(), SESSION);
    let received = || IssuerEvent::JoinReceived { join: join.clone(), keying: SESSION };
    let reason = |action: Option<IssuerAction>| match action {
        Some(IssuerAction::Refuse(refused)) => refused.reason,
        other => panic!("{other:?}"),
    };
    let mut silent = JoinIssuer::new(start(), node(1));
    let deadline = silent.deadline().unwrap();
    assert_eq!(deadline, start() + FIRST_MESSAGE_WITHIN);
    let late = issuer.handle(&mut silent, deadline, IssuerEvent::DeadlinePassed);
    assert_eq!(reason(late), JoinRefusal::TooSlow);
    assert_eq!(issuer.handle(&mut silent, deadline, received()), None);
    let mut slow = JoinIssuer::new(start(), node(1));
    assert_eq!(reason(issuer.handle(&mut slow, deadline + MS, received())), JoinRefusal::TooSlow);
    let mut hasty = JoinIssuer::new(start(), node(1));
    assert!(matches!(issuer.handle(&mut hasty, deadline, received()), Some(IssuerAction::StoreUse(_))));
    assert_eq!(reason(issuer.handle(&mut hasty, deadline, received())), JoinRefusal::Unexpected);
}

#[test]
fn the_addresses_of_a_token_are_tried_in_order_until_one_answers() {
    let issuer = Issuer::new();
    let addresses = issuer.token.addresses.clone();
    let (mut attempt, _) = JoinAttempt::start(start(), node(1), "kitchen", issuer.token);
    let deadline = attempt.deadline().unwrap();
    let next = attempt.handle((deadline, wall()), JoinEvent::DeadlinePassed);
    assert_eq!(next, Some(JoinAction::Dial { address: addresses[1], issuer: Issuer::OWN }));
    assert_eq!(attempt.deadline(), Some(deadline + FIRST_MESSAGE_WITHIN));
    // What is left over from the first address means nothing.
    assert_eq!(attempt.handle((deadline, wall()), JoinEvent::Refused(JoinRefusal::Used)), None);
}

#[test]
fn addresses_are_tried_again_for_a_while_where_one_says_nothing() {
    // WIRE-24
    let issuer = Issuer::new();
    let addresses = issuer.token.addresses.clone();
    let (mut attempt, _) = JoinAttempt::start(start(), node(1), "kitchen", issuer.token.clone());
    let mut dialed = 1;
    let failed = loop {
        let now = attempt.deadline().unwrap();
        // The first address says nothing, the second one cannot be reached.
        let first = attempt.handle((now, wall()), JoinEvent::DeadlinePassed);
        assert_eq!(first, Some(JoinAction::Dial { address: addresses[1], issuer: Issuer::OWN }));
        match attempt.handle((now, wall()), JoinEvent::ConnectionFailed) {
            Some(JoinAction::Dial { address, .. }) => assert_eq!(address, addresses[0]),
            Some(JoinAction::Fail(failed)) => break failed,
            other => panic!("{other:?}"),
        }
        dialed += 1;
    };
    assert_eq!(dialed, 3, "from 0, 3 and 6 s on");
    assert_eq!(failed, JoinFailure::Unreachable { tried: addresses });
    assert!(failed.to_string().contains("10.0.0.1:7700, 10.0.0.2:7700"), "{failed}");
    assert_eq!(attempt.deadline(), None);

    let (mut attempt, _) = JoinAttempt::start(start(), node(1), "kitchen", issuer.token);
    let next = attempt.handle((start(), wall()), JoinEvent::ConnectionFailed);
    assert!(matches!(next, Some(JoinAction::Dial { .. })));
    let failed = failure(&mut attempt, JoinEvent::ConnectionFailed);
    assert!(matches!(failed, JoinFailure::Unreachable { .. }), "nobody was silent");
}

#[test]
fn the_longest_attempt_takes_hardly_less_than_it_may() {
    let mut token = Issuer::new().token;
    token.addresses =
        (1..=ADDRESSES_MAX).map(|port| SocketAddr::from(([192, 0, 2, 1], port as u16))).collect();
    let (mut attempt, _) = JoinAttempt::start(start(), node(1), "kitchen", token);
    let mut now = start();
    let at_last = |attempt: &JoinAttempt| attempt.deadline().unwrap().minus(MS);
    let connected = || JoinEvent::Connected { peer: Issuer::OWN, keying: SESSION };
    // A first round that ends just before it would be the last: two addresses are silent, the others end
    // soon.
    for _ in 0..2 {
        now = attempt.deadline().unwrap();
        attempt.handle((now, wall()), JoinEvent::DeadlinePassed);
    }
    for _ in 2..ADDRESSES_MAX {
        now = now + Duration::from_millis(990);
        attempt.handle((now, wall()), JoinEvent::ConnectionFailed);
    }
    // And a second one in which each is connected at the last moment and then says nothing.
    for _ in 0..ADDRESSES_MAX {
        now = at_last(&attempt);
        attempt.handle((now, wall()), connected());
        now = attempt.deadline().unwrap();
        attempt.handle((now, wall()), JoinEvent::DeadlinePassed);
    }
    assert_eq!(attempt.deadline(), None, "it is over");
    let took = now.since(start());
    assert!(took <= DECIDED_WITHIN && took + Duration::from_secs(1) > DECIDED_WITHIN, "{took:?}");
}

proptest::proptest! {
    #[test]
    fn an_attempt_is_decided_in_time_whatever_its_addresses_do(
        count in 1..=ADDRESSES_MAX,
        fates in proptest::collection::vec((0..4_u8, 0..=100_u32), 64),
    ) {
        let mut token = Issuer::new().token;
        token.addresses = (0..count).map(|port| SocketAddr::from(([192, 0, 2, 1], 1 + port as u16))).collect();
        let (mut attempt, _) = JoinAttempt::start(start(), node(1), "kitchen", token);
        let mut now = start();
        let mut fates = fates.into_iter().cycle();
        let mut steps = 0;
        while let (Some(deadline), Some((fate, percent))) = (attempt.deadline(), fates.next()) {
            steps += 1;
            proptest::prop_assert!(steps < 10_000, "it goes on for ever");
            let event = match fate {
                0 => JoinEvent::DeadlinePassed,
                1 => JoinEvent::ConnectionFailed,
                2 => JoinEvent::Connected { peer: Issuer::OWN, keying: SESSION },
                _ => JoinEvent::Closed(CloseCode::Malformed),
            };
            // Silence lasts until the deadline; anything else comes at some time before.
            let share = if fate == 0 { 100 } else { percent };
            now = now + deadline.since(now) * share / 100;
            attempt.handle((now, wall()), event);
        }
        proptest::prop_assert!(now.since(start()) <= DECIDED_WITHIN, "{:?}", now.since(start()));
    }
}

#[test]
fn a_verdict_is_final_whether_it_comes_as_a_message_or_as_a_close_code() {
    // WIRE-8
    let token = Issuer::new().token;
    let used = JoinFailure::Refused(JoinRefusal::Used);
    let close = CloseCode::from_code(CloseCode::Join(JoinRefusal::Used).code());
    assert_eq!(failure(&mut asked(node(1), &token, SESSION).0, JoinEvent::Refused(JoinRefusal::Used)), used);
    assert_eq!(failure(&mut asked(node(1), &token, SESSION).0, JoinEvent::Closed(close)), used);
    // Before the connection stands anybody on the way can close it.
    let (mut attempt, _) = JoinAttempt::start(start(), node(1), "kitchen", token.clone());
    let next = attempt.handle((start(), wall()), JoinEvent::Closed(close));
    assert!(matches!(next, Some(JoinAction::Dial { .. })), "{next:?}");
    let (mut other, _) = asked(node(1), &token, SESSION);
    let next = other.handle((start(), wall()), JoinEvent::Closed(CloseCode::Malformed));
    assert!(matches!(next, Some(JoinAction::Dial { .. })));
}

#[test]
fn an_answer_that_the_token_does_not_vouch_for_is_not_believed() {
    // WIRE-9, WIRE-11
    let mut issuer = Issuer::new();
    let token = issuer.token.clone();
    let (mut attempt, _) = JoinAttempt::start(start(), node(1), "kitchen", token.clone());
    let stranger = JoinEvent::Connected { peer: node(3), keying: SESSION };
    assert_eq!(failure(&mut attempt, stranger), JoinFailure::OtherIssuer { found: node(3) });

    let (_, join) = asked(node(1), &token, SESSION);
    let IssuerAction::Accept(good) = issuer.answer(node(1), join, SESSION) else { panic!("not accepted") };
    let believed = |change: &dyn Fn(&mut crate::wire::JoinAccepted)| {
        let mut answer = good.clone();
        change(&mut answer);
        failure(&mut asked(node(1), &token, SESSION).0, JoinEvent::Accepted(answer))
    };
    let other = ClusterKey::from_seed(&[2; 32]).unwrap();
    let theirs = other.certify(node(1), Roles::default(), 1, wall(), CERTIFICATE_LIFETIME);
    let found = other.id();
    let of_another_cluster = believed(&|answer| {
        answer.cluster_key = *other.public().as_bytes();
        answer.certificate = theirs.as_bytes().to_vec();
    });
    assert_eq!(of_another_cluster, JoinFailure::OtherCluster { found });
    let wholly_another = believed(&|answer| {
        answer.cluster = *other.id().as_bytes();
        answer.cluster_key = *other.public().as_bytes();
        answer.certificate = theirs.as_bytes().to_vec();
    });
    assert_eq!(wholly_another, JoinFailure::OtherCluster { found });
    assert_eq!(believed(&|it| it.cluster[0] ^= 1), JoinFailure::OtherCluster { found: token.cluster });
    let certificate = |error| JoinFailure::Certificate(error);
    let foreign = believed(&|answer| answer.certificate = theirs.as_bytes().to_vec());
    assert_eq!(foreign, certificate(CertificateError::OtherCluster { found }));
    let of_another = issuer.cluster.certify(node(2), Roles::default(), 1, wall(), CERTIFICATE_LIFETIME);
    let someone_elses = believed(&|answer| answer.certificate = of_another.as_bytes().to_vec());
    assert_eq!(someone_elses, certificate(CertificateError::OtherNode { found: node(2) }));
    let shorter = believed(&|answer| answer.certificate.truncate(137));
    assert_eq!(shorter, certificate(CertificateError::Length { found: 137 }));
    let changed = believed(&|answer| answer.certificate[1] ^= 4);
    assert_eq!(changed, certificate(CertificateError::BadSignature));
}
