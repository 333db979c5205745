//! What one node makes of single datagrams and late timers. The others are played by the test.

use std::time::Duration;

use arw_kit::moment::Moment;
use bytes::BufMut;
use foca::{Member, Message, State};

use super::forging::{self, forged};
use super::simulation::{address, id};
use crate::membership::packet::{Packet, Statement};
use crate::membership::record::RecordKey;
use crate::membership::{
    DatagramError, DownReason, MemberIdentity, Membership, MembershipConfig, MembershipEvent,
    MembershipOutput,
};

const MILLI: Duration = Duration::from_millis(1);

/// Node 0, and what it did.
struct One {
    node: Membership,
    now: Moment,
    /// Datagrams, as `kind>to`, since they were last taken.
    sent: Vec<(Moment, String, Packet)>,
    events: Vec<MembershipEvent>,
}

fn identity(node: usize) -> MemberIdentity {
    MemberIdentity::new(id(node), address(node), 1)
}

fn one() -> One {
    with_config(MembershipConfig::default())
}

fn with_config(config: MembershipConfig) -> One {
    let mut node = Membership::new(identity(0), RecordKey::simulated(), config, [3; 32]);
    // All of them have been here.
    for other in 1..200 {
        node.met(id(other), 0);
        node.parted_for_now(id(other));
    }
    One { node, now: Moment::ZERO + Duration::from_secs(50), sent: Vec::new(), events: Vec::new() }
}

/// What its node signs, whoever tells it.
fn said(member: &Member<MemberIdentity>) -> Statement {
    forging::record(&RecordKey::simulated(), member)
}

fn datagram(
    from: (MemberIdentity, u16),
    to: MemberIdentity,
    message: Message<MemberIdentity>,
    updates: &[Member<MemberIdentity>],
) -> Vec<u8> {
    let statements: Vec<Statement> = updates.iter().map(said).collect();
    datagram_with(from, to, message, &statements)
}

fn datagram_with(
    (src, life): (MemberIdentity, u16),
    to: MemberIdentity,
    message: Message<MemberIdentity>,
    statements: &[Statement],
) -> Vec<u8> {
    forging::datagram((src, life, &RecordKey::simulated()), to, message, statements)
}

impl One {
    fn drain(&mut self) {
        while let Some(output) = self.node.poll_output() {
            match output {
                MembershipOutput::Event(event) => self.events.push(event),
                MembershipOutput::Datagram { to, bytes } => {
                    let packet = Packet::read(&bytes).unwrap();
                    let kind = format!("{:?}", packet.header.message);
                    let kind = kind.split(['(', ' ']).next().unwrap().to_owned();
                    assert_eq!(packet.header.dst.id, to);
                    self.sent.push((self.now, kind, packet));
                }
            }
        }
    }

    /// `node` says something to this node, in its first life.
    fn hear(&mut self, node: usize, message: Message<MemberIdentity>, updates: &[Member<MemberIdentity>]) {
        self.hear_life(node, 0, message, updates);
    }

    fn hear_life(
        &mut self,
        node: usize,
        life: u16,
        message: Message<MemberIdentity>,
        updates: &[Member<MemberIdentity>],
    ) {
        let bytes = datagram((identity(node), life), self.node.own(), message, updates);
        self.node.on_datagram(self.now, id(node), &bytes).unwrap();
        self.drain();
    }

    fn run_for(&mut self, span: Duration) {
        let end = self.now + span;
        while let Some(at) = self.node.next_deadline().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            self.node.on_timer(self.now);
            self.drain();
        }
        self.now = end;
    }

    /// Nothing runs for so long; then what is due.
    fn stall_for(&mut self, span: Duration) {
        self.now = self.now + span;
        self.node.on_timer(self.now);
        self.drain();
    }

    fn told(&mut self) -> Vec<String> {
        let name = |event: MembershipEvent| match event {
            MembershipEvent::MemberUp { member } => format!("up {member:?}"),
            MembershipEvent::MemberSuspect { member } => format!("suspect {member:?}"),
            MembershipEvent::MemberCleared { member } => format!("cleared {member:?}"),
            MembershipEvent::MemberDown { reason, .. } => format!("down {reason:?}"),
            MembershipEvent::Renamed { before, after } => format!("renamed {before:?} {after:?}"),
            MembershipEvent::Rejoined { own } => format!("rejoined {}", own.renewal()),
            MembershipEvent::SelfRefuted => "refuted".to_owned(),
            MembershipEvent::Introduced { member } => format!("introduced {member:?}"),
            MembershipEvent::Outdated { .. } => "outdated".to_owned(),
        };
        std::mem::take(&mut self.events)
            .into_iter()
            .map(name)
            .map(|name| name.split(' ').take(2).collect::<Vec<_>>().join(" "))
            .map(|name| name.split('@').next().unwrap().to_owned())
            .collect()
    }

    fn sent(&mut self) -> Vec<(Moment, String, Packet)> {
        std::mem::take(&mut self.sent)
    }

    fn sent_kinds(&mut self) -> Vec<String> {
        self.sent().into_iter().map(|(_, kind, _)| kind).collect()
    }
}

fn short(node: usize) -> String {
    format!("{:?}", id(node))
}

/// Node 0 knows node 1 and suspects it by its own probe.
fn suspicious() -> One {
    let mut one = one();
    one.hear(1, Message::Gossip, &[]);
    assert_eq!(one.told(), [format!("up {}", short(1))]);
    one.run_for(MILLI * 1_050);
    assert_eq!(one.told(), [format!("suspect {}", short(1))]);
    one.sent();
    one
}

#[test]
fn a_datagram_in_the_name_of_another_has_no_effect() {
    // MEMBER-4
    let mut one = one();
    let bytes = datagram((identity(1), 0), one.node.own(), Message::Gossip, &[]);
    let error = one.node.on_datagram(one.now, id(2), &bytes).unwrap_err();
    assert_eq!(error, DatagramError::ForeignSource { claimed: id(1), peer: id(2) });
    let bytes = datagram((identity(1), 0), identity(2), Message::Gossip, &[]);
    let error = one.node.on_datagram(one.now, id(1), &bytes).unwrap_err();
    assert_eq!(error, DatagramError::NotForThisNode { destination: id(2) });
    let bytes = datagram((identity(0), 9), one.node.own(), Message::Gossip, &[]);
    assert!(one.node.on_datagram(one.now, id(0), &bytes).is_err(), "not even in its own");
    one.drain();
    assert!(one.events.is_empty() && one.sent.is_empty());
    assert_eq!(one.node.counters().refused_foreign, 3);
    assert_eq!(one.node.next_deadline(), None);
}

#[test]
fn garbage_is_counted_and_nothing_else() {
    // MEMBER-3
    let mut one = one();
    let good = datagram((identity(1), 0), one.node.own(), Message::Gossip, &[Member::alive(identity(2))]);
    let mut trailing = good.clone();
    trailing.push(7);
    for bytes in [&good[..good.len() - 1], &trailing, &[], &[9; 40], &[1; 2_000]] {
        assert!(one.node.on_datagram(one.now, id(1), bytes).is_err());
    }
    one.drain();
    assert!(one.events.is_empty() && one.sent.is_empty(), "the members before the mistake do not count");
    assert_eq!(one.node.counters().refused_malformed, 5);
}

#[test]
fn an_announcement_is_repeated_more_and_more_rarely_until_it_is_answered() {
    // MEMBER-2
    let mut one = one();
    one.node.on_peer_connected(one.now, id(1));
    one.drain();
    one.run_for(Duration::from_secs(20));
    let sent = one.sent();
    assert!(sent.iter().all(|(_, kind, _)| kind == "Announce"));
    let waits: Vec<Duration> = sent.windows(2).map(|pair| pair[1].0.since(pair[0].0)).collect();
    assert!(waits[0] < MILLI * 260 && waits.iter().all(|wait| *wait <= MILLI * 2_500), "{waits:?}");
    assert!((11..=18).contains(&sent.len()), "{}", sent.len());
}

#[test]
fn an_answer_ends_the_announcements_and_being_heard_of_does_not() {
    // MEMBER-2
    for (said, repetitions) in [(Message::Gossip, 2), (Message::Feed, 0)] {
        let mut one = one();
        one.node.on_peer_connected(one.now, id(1));
        one.drain();
        one.hear(1, said, &[]);
        assert_eq!(one.told(), [format!("up {}", short(1))]);
        one.sent();
        one.run_for(MILLI * 700);
        let announced = one.sent_kinds().iter().filter(|kind| *kind == "Announce").count();
        assert_eq!(announced, repetitions);
    }
}

#[test]
fn nothing_is_announced_to_a_peer_that_is_gone_or_known() {
    // MEMBER-2
    let mut one = one();
    one.node.on_peer_connected(one.now, id(1));
    one.node.on_peer_disconnected(one.now, id(1));
    one.drain();
    one.sent();
    one.run_for(Duration::from_secs(20));
    assert_eq!(one.sent_kinds(), Vec::<String>::new());
    one.hear(2, Message::Gossip, &[]);
    one.node.on_peer_connected(one.now, id(2));
    one.drain();
    assert_eq!(one.sent_kinds(), Vec::<String>::new());
}

#[test]
fn a_suspect_that_speaks_up_in_time_is_not_told_that_it_is_dead() {
    // MEMBER-5: foca 2.0.0 alone fails this, as it sends `TurnUndead` when the timer of a refuted suspicion
    // fires.
    let mut one = suspicious();
    one.run_for(MILLI * 300);
    one.hear_life(1, 1, Message::Gossip, &[]);
    assert_eq!(one.told(), [format!("cleared {}", short(1))]);
    for life in 2..30 {
        // It goes on answering whatever it is asked.
        one.run_for(MILLI * 100);
        for (_, kind, packet) in one.sent() {
            assert_ne!(kind, "TurnUndead");
            if let Message::Ping(number) = packet.header.message {
                one.hear_life(1, life, Message::Ack(number), &[]);
            }
        }
    }
    assert_eq!(one.told(), Vec::<String>::new());
    assert!(one.node.counters().verdicts_void >= 1);
}

#[test]
fn a_suspect_is_told_so_until_the_verdict() {
    // MEMBER-16
    let mut one = one();
    one.hear(1, Message::Gossip, &[]);
    one.run_for(MILLI * 2_300);
    assert_eq!(one.told()[1..], [format!("suspect {}", short(1)), "down Unreachable".to_owned()]);
    let accusations = one.sent().into_iter().filter(|(_, kind, packet)| {
        kind == "Ping" && packet.statements.iter().any(|said| said.state == State::Suspect)
    });
    assert!(accusations.count() >= 6);
}

#[test]
fn a_suspicion_of_this_node_is_refuted_at_once() {
    let mut one = one();
    one.hear(1, Message::Gossip, &[]);
    one.told();
    let suspicion = Member::new(one.node.own(), 0, State::Suspect);
    one.hear(1, Message::Ping(3), &[suspicion]);
    assert_eq!(one.told(), ["refuted"]);
    let answer = one.sent().into_iter().find(|(_, kind, _)| kind == "Ack").unwrap().2;
    assert_eq!(answer.header.src_incarnation, 1, "the answer itself refutes it");
    let suspicion = Member::new(one.node.own(), 0, State::Suspect);
    one.hear(1, Message::Gossip, &[suspicion]);
    assert_eq!(one.told(), Vec::<String>::new(), "once");
}

#[test]
fn a_node_that_was_stalled_gives_suspects_their_time_again() {
    // MEMBER-6
    let mut one = suspicious();
    one.stall_for(Duration::from_secs(10));
    assert_eq!(one.told(), Vec::<String>::new());
    assert!(one.node.counters().verdicts_postponed >= 1);
    one.run_for(MILLI * 1_150);
    assert_eq!(one.told(), Vec::<String>::new());
    // MEMBER-20: up to twice of it, because the stall made a probe late.
    one.run_for(MILLI * 1_300);
    assert_eq!(one.told(), ["down Unreachable"]);
}

#[test]
fn a_node_that_runs_late_gives_a_suspect_more_time() {
    // MEMBER-20: a node that is in time would say so 1,200 ms later.
    let mut one = one();
    one.hear(1, Message::Gossip, &[]);
    one.told();
    for _ in 0..3 {
        one.stall_for(MILLI * 330);
    }
    assert_eq!(one.told(), [format!("suspect {}", short(1))]);
    one.run_for(MILLI * 2_300);
    assert_eq!(one.told(), Vec::<String>::new());
    one.run_for(MILLI * 1_400);
    assert_eq!(one.told(), ["down Unreachable"]);
}

#[test]
fn a_lost_connection_makes_a_suspect_and_silence_a_death() {
    // MEMBER-17
    let mut one = one();
    one.hear(1, Message::Gossip, &[]);
    one.hear(2, Message::Gossip, &[]);
    one.told();
    one.node.on_peer_disconnected(one.now, id(1));
    one.node.on_peer_disconnected(one.now, id(2));
    one.drain();
    assert_eq!(one.told(), [format!("suspect {}", short(1)), format!("suspect {}", short(2))]);
    one.run_for(MILLI * 1_150);
    one.hear_life(2, 1, Message::Gossip, &[]);
    assert_eq!(one.told(), [format!("cleared {}", short(2))]);
    one.run_for(MILLI * 100);
    assert_eq!(one.told(), ["down Unreachable"]);
}

#[test]
fn a_suspect_that_is_connected_again_is_told_at_once_even_by_a_late_node() {
    // MEMBER-16
    let mut one = one();
    one.hear(1, Message::Gossip, &[]);
    one.hear(2, Message::Gossip, &[]);
    for _ in 0..4 {
        one.stall_for(MILLI * 330);
    }
    one.node.on_peer_disconnected(one.now, id(1));
    one.drain();
    one.run_for(MILLI * 50);
    one.sent();
    one.node.on_peer_connected(one.now, id(1));
    one.drain();
    let told = one.sent();
    assert!(told.iter().any(|(_, kind, packet)| kind == "Ping" && packet.header.dst.id == id(1)));
    let before = one.now;
    one.run_for(MILLI * 1_100);
    let again = |(at, kind, packet): &(Moment, String, Packet)| {
        *at > before && kind == "Ping" && packet.header.dst.id == id(1)
    };
    assert!(one.sent().iter().filter(|sent| again(sent)).count() >= 5, "as often as by one in time");
}

#[test]
fn being_told_of_ones_death_renews_at_most_once_per_period_and_in_vain_says_so() {
    // MEMBER-9
    let mut one = one();
    one.hear(1, Message::Gossip, &[]);
    one.told();
    one.hear(1, Message::TurnUndead, &[]);
    one.hear(1, Message::TurnUndead, &[]);
    one.hear(1, Message::TurnUndead, &[]);
    assert_eq!(one.told(), ["rejoined 1"]);
    assert_eq!(one.node.counters().renewals_paced, 2);
    assert_eq!(one.node.own().incarnation, 1);
    for renewal in 2..=4 {
        one.run_for(MILLI * 500);
        one.hear(1, Message::TurnUndead, &[]);
        let told = one.told();
        assert_eq!(told[0], format!("rejoined {renewal}"));
        assert_eq!(told.contains(&"outdated".to_owned()), renewal == 3, "said once");
    }
}

#[test]
fn a_renewed_identity_is_told_until_somebody_answers_to_it() {
    // MEMBER-11
    let mut one = one();
    one.hear(1, Message::Gossip, &[]);
    one.hear(1, Message::TurnUndead, &[]);
    one.sent();
    one.run_for(Duration::from_millis(900));
    let told = one.sent_kinds().iter().filter(|kind| *kind == "Announce").count();
    assert!(told >= 2, "{told}");
    one.hear(1, Message::Feed, &[]);
    one.node.change_address(one.now, address(9));
    one.drain();
    assert_eq!(one.node.own().address, address(9));
    assert_eq!(one.told().last().unwrap(), &format!("renamed {}", short(0)));
}

#[test]
fn a_node_left_alone_looks_for_the_others_and_leaves_those_in_peace_that_left() {
    // MEMBER-12
    let mut one = suspicious();
    one.run_for(Duration::from_secs(10));
    assert_eq!(one.told(), ["down Unreachable"]);
    assert_eq!(one.node.members().count(), 0);
    one.sent();
    one.run_for(Duration::from_secs(10));
    let sought = one.sent_kinds();
    assert!((3..=7).contains(&sought.len()) && sought.iter().all(|kind| kind == "Announce"), "{sought:?}");
    let farewell = Member::down(identity(1).leaving());
    one.hear(2, Message::Gossip, &[farewell]);
    one.hear(2, Message::Gossip, &[Member::down(identity(2).leaving())]);
    one.run_for(Duration::from_secs(10));
    one.sent();
    one.run_for(Duration::from_secs(60));
    assert_eq!(one.sent_kinds(), Vec::<String>::new());
    assert!(
        one.events
            .iter()
            .any(|event| matches!(event, MembershipEvent::MemberDown { reason: DownReason::Left, .. }))
    );
}

#[test]
fn after_good_bye_nothing_is_due_and_nothing_is_heard() {
    // MEMBER-7
    let mut one = one();
    one.hear(1, Message::Gossip, &[]);
    one.sent();
    let own = one.node.own();
    one.node.leave(one.now);
    one.node.leave(one.now);
    one.drain();
    let sent = one.sent();
    assert_eq!(sent.len(), 3, "one member hears each of three farewells");
    let farewell = &sent[0].2.statements[0];
    assert!(farewell.record.identity.has_left() && farewell.state == State::Down);
    assert_eq!(one.node.next_deadline(), None);
    let bytes = datagram((identity(1), 0), own, Message::Ping(1), &[]);
    assert_eq!(one.node.on_datagram(one.now, id(1), &bytes), Err(DatagramError::HasLeft));
    one.node.on_peer_connected(one.now, id(1));
    one.node.on_peer_disconnected(one.now, id(1));
    one.node.change_address(one.now, address(5));
    one.drain();
    assert!(one.sent.is_empty());
}

#[test]
fn nobody_can_make_a_node_know_more_members_than_its_limit() {
    // MEMBER-10
    let mut one = with_config(MembershipConfig { members_max: 10, ..MembershipConfig::default() });
    let flood = |from: usize| -> Vec<Member<MemberIdentity>> {
        (from..from + 8).map(|node| Member::alive(identity(node))).collect()
    };
    one.hear(1, Message::Gossip, &flood(2));
    assert_eq!(one.told().len(), 9);
    let bytes = datagram((identity(1), 0), one.node.own(), Message::Gossip, &flood(20));
    one.node.on_datagram(one.now, id(1), &bytes).unwrap();
    one.drain();
    assert_eq!((one.told().len(), one.node.counters().hearsay_dropped), (1, 7));
    // Of those that are known it hears all the same.
    let suspect = Member::new(identity(3), 0, State::Suspect);
    let mixed = [&flood(20)[..], &[suspect]].concat();
    one.hear(1, Message::Gossip, &mixed);
    assert_eq!(one.told().last().unwrap(), &format!("suspect {}", short(3)));
    one.hear(5, Message::Gossip, &flood(2));
    let stranger = datagram((identity(30), 0), one.node.own(), Message::Announce, &[]);
    assert!(one.node.on_datagram(one.now, id(30), &stranger).is_err());
    let mut many = vec![2];
    many.put_u32(u32::MAX);
    assert_eq!(one.node.merge_snapshot(one.now, &many), Err(DatagramError::Full { max: 10 }));
    assert_eq!(one.node.members().count(), 10);
}

#[test]
fn nobody_speaks_for_another() {
    // MEMBER-23: another address, another start, a good-bye, another life.
    let start = |node: usize, incarnation: u64| MemberIdentity::new(id(node), address(node), incarnation);
    let moved = identity(2).renewed_at(address(66)).unwrap();
    for lie in [moved, start(2, 1_000), identity(2).leaving(), start(3, 5)] {
        let mut one = one();
        one.hear(1, Message::Gossip, &[Member::alive(identity(2))]);
        one.told();
        let bytes = datagram_with(
            (identity(1), 0),
            one.node.own(),
            Message::Gossip,
            &[said(&Member::alive(identity(4))), forged(lie)],
        );
        let error = one.node.on_datagram(one.now, id(1), &bytes).unwrap_err();
        assert_eq!(error, DatagramError::Forged { subject: lie.id });
        one.drain();
        assert_eq!(one.told(), Vec::<String>::new(), "{lie:?}");
        assert_eq!(one.node.members().find(|member| member.id == id(2)).unwrap().address, address(2));
        assert_eq!(one.node.counters().refused_forged, 1);
    }
    // Its own word is taken, whoever passes it on.
    let mut one = one();
    one.hear(1, Message::Gossip, &[Member::alive(identity(2)), Member::alive(identity(3))]);
    one.told();
    one.hear(1, Message::Gossip, &[Member::alive(moved), Member::down(identity(3).leaving())]);
    assert_eq!(one.told(), [format!("renamed {}", short(2)), "down Left".to_owned()]);
}

#[test]
fn what_a_node_said_before_is_no_news() {
    // MEMBER-23: replayed by a member, with the signatures that were good once.
    let mut one = one();
    let moved = identity(2).renewed_at(address(66)).unwrap();
    let restarted = MemberIdentity::new(id(2), address(67), 2);
    let good_bye = identity(2).leaving();
    one.hear(1, Message::Gossip, &[Member::new(identity(2), 3, State::Alive)]);
    one.hear(1, Message::Gossip, &[Member::alive(moved)]);
    one.hear(1, Message::Gossip, &[Member::alive(restarted)]);
    one.told();
    let old = [Member::alive(identity(2)), Member::alive(moved), Member::down(good_bye), Member::down(moved)];
    one.hear(1, Message::Gossip, &old);
    assert_eq!(one.told(), Vec::<String>::new());
    assert_eq!(one.node.members().find(|member| member.id == id(2)), Some(&restarted));
    // Of a node that has said hello, what it signed in an earlier start is no news either, also where this
    // node was started since and knows nothing else of it.
    let mut fresh = with_config(MembershipConfig::default());
    fresh.node.met(id(2), 2);
    fresh.hear(1, Message::Gossip, &old);
    assert_eq!(fresh.told(), [format!("up {}", short(1))]);
    let bytes = datagram((moved, 0), fresh.node.own(), Message::Gossip, &[]);
    let error = fresh.node.on_datagram(fresh.now, id(2), &bytes).unwrap_err();
    assert_eq!(error, DatagramError::OldStart { peer: id(2) });
}

#[test]
fn who_is_only_spoken_of_is_no_member() {
    // MEMBER-24: whoever signs it: anybody can make keys up.
    let mut one = one();
    one.hear(1, Message::Gossip, &[]);
    one.told();
    let stranger = Member::alive(identity(300));
    one.hear(
        1,
        Message::Gossip,
        &[stranger.clone(), Member::down(identity(301)), Member::down(identity(302).leaving())],
    );
    assert_eq!(one.told(), [format!("introduced {}", short(300))]);
    assert_eq!(one.node.members().count(), 1);
    one.hear(1, Message::Gossip, &[stranger]);
    assert_eq!(one.told(), Vec::<String>::new(), "once");
    one.hear(1, Message::Gossip, &[Member::alive(identity(300).renewed_at(address(9)).unwrap())]);
    assert_eq!(one.told(), [format!("introduced {}", short(300))], "it is elsewhere");
    let bytes = datagram_with((identity(1), 0), one.node.own(), Message::Gossip, &[forged(identity(303))]);
    assert!(
        one.node.on_datagram(one.now, id(1), &bytes).is_err(),
        "nor is anybody sent to an address for it"
    );
    // It comes itself.
    one.node.met(id(300), 1);
    one.hear(300, Message::Announce, &[]);
    assert_eq!(one.told(), [format!("up {}", short(300))]);
    // One teller has not all the room.
    for first in (1_000..3_000).step_by(8) {
        let made_up: Vec<_> = (first..first + 8).map(|node| Member::alive(identity(node))).collect();
        one.hear(1, Message::Gossip, &made_up);
    }
    assert_eq!(one.told().len(), 256);
    one.hear(2, Message::Gossip, &[Member::alive(identity(500))]);
    assert_eq!(one.told()[0], format!("introduced {}", short(500)));
    one.now = one.now + Duration::from_secs(3_600);
    assert_eq!(one.node.forget_strangers(one.now).len(), 257);
}

#[test]
fn a_forged_word_hides_nobody_who_was_introduced_beside_it() {
    // MEMBER-3, MEMBER-24: the datagram has no effect, also none that is seen later.
    let mut one = one();
    one.hear(1, Message::Gossip, &[]);
    one.told();
    let statements = [said(&Member::alive(identity(300))), forged(identity(303))];
    let bytes = datagram_with((identity(1), 0), one.node.own(), Message::Gossip, &statements);
    one.node.on_datagram(one.now, id(1), &bytes).unwrap_err();
    one.drain();
    assert_eq!(one.told(), Vec::<String>::new());
    one.hear(2, Message::Gossip, &[Member::alive(identity(300))]);
    assert!(one.told().contains(&format!("introduced {}", short(300))));
}

#[test]
fn words_against_a_node_itself_are_answered_at_a_pace() {
    // MEMBER-9: each answer goes to many, and costs them a signature's check.
    for state in [State::Suspect, State::Down] {
        let mut one = one();
        for node in [1, 2, 3, 4] {
            one.hear(node, Message::Gossip, &[]);
        }
        let mut answers = 0;
        for _ in 0..1_000 {
            let own = one.node.own();
            let life = one.node.own_life();
            let before = (own, life);
            one.hear(1, Message::Gossip, &[Member::new(own, life, state)]);
            answers += usize::from((one.node.own(), one.node.own_life()) != before);
            one.now = one.now + MILLI;
        }
        assert!((1..=11).contains(&answers), "{state:?}: {answers} in a second");
    }
}

#[test]
fn a_member_that_others_take_for_down_is_asked_where_there_is_a_connection() {
    // MEMBER-25
    let mut one = one();
    for node in [1, 2, 3] {
        one.hear(node, Message::Gossip, &[]);
    }
    one.node.met(id(2), 1);
    one.node.met(id(3), 1);
    one.told();
    one.sent();
    let lies = [Member::down(identity(2)), Member::down(identity(3))];
    one.hear(1, Message::Gossip, &lies);
    assert_eq!(one.told(), [format!("suspect {}", short(2)), format!("suspect {}", short(3))]);
    let asked = one.sent();
    let asks = |node: usize| {
        asked.iter().any(|(_, kind, packet)| kind == "Ping" && packet.header.dst.id == id(node))
    };
    assert!(asks(2) && asks(3));
    one.run_for(MILLI * 100);
    one.hear_life(2, 1, Message::Ack(0), &[]);
    assert_eq!(one.told(), [format!("cleared {}", short(2))]);
    one.hear(1, Message::Gossip, &lies);
    let is_down = |one: &mut One| one.told().iter().any(|told| told.starts_with("down"));
    one.run_for(MILLI * 990);
    assert!(!is_down(&mut one), "it has its time");
    one.run_for(MILLI * 20);
    assert!(is_down(&mut one), "the one that does not answer");
    assert!(one.node.members().all(|member| member.id != id(3)));
    assert_eq!(one.node.counters().doubts_asked, 2);
    // It was asked when it was suspected: it has had its time, and what has arrived is read first.
    one.hear_life(2, 1, Message::Announce, &[]);
    one.hear(1, Message::Gossip, &[Member::new(identity(2), 1, State::Suspect)]);
    one.now = one.now + MILLI * 1_110;
    one.told();
    one.hear(1, Message::Gossip, &[Member::new(identity(2), 1, State::Down)]);
    assert_eq!(one.told(), Vec::<String>::new());
    let renewed = identity(2).renewed_at(address(2)).unwrap();
    one.hear(1, Message::Gossip, &[Member::alive(renewed)]);
    one.told();
    // Without a connection there is nothing better.
    one.node.parted(id(2));
    one.hear(1, Message::Gossip, &[Member::down(renewed)]);
    assert_eq!(one.told(), ["down Reported"]);
}

#[test]
fn a_member_that_others_suspect_is_asked_until_it_answers() {
    // MEMBER-25: the one that suspected it has gone, and the first question was lost.
    let mut one = one();
    one.hear(1, Message::Gossip, &[]);
    one.hear(2, Message::Gossip, &[]);
    one.node.met(id(2), 1);
    one.hear(1, Message::Gossip, &[Member::new(identity(2), 0, State::Suspect)]);
    one.sent();
    one.told();
    one.run_for(MILLI * 1_010);
    let is_told = |(_, kind, packet): &(Moment, String, Packet)| {
        let says_so = packet.statements.iter().any(|said| said.record.identity.id == id(2));
        kind == "Ping" && packet.header.dst.id == id(2) && says_so
    };
    assert!(one.sent().iter().any(is_told));
}

#[test]
fn a_life_that_has_not_begun_is_not_over() {
    // MEMBER-23
    let mut one = one();
    one.hear(1, Message::Gossip, &[Member::alive(identity(2))]);
    one.told();
    let doubt = |life| Statement { life, ..said(&Member::new(identity(2), 0, State::Suspect)) };
    let bytes =
        datagram_with((identity(1), 0), one.node.own(), Message::Gossip, &[doubt(1), doubt(u16::MAX)]);
    one.node.on_datagram(one.now, id(1), &bytes).unwrap();
    let of_own = Statement { life: 9, ..said(&Member::new(one.node.own(), 0, State::Suspect)) };
    let bytes = datagram_with((identity(1), 0), one.node.own(), Message::Gossip, &[of_own]);
    one.node.on_datagram(one.now, id(1), &bytes).unwrap();
    one.drain();
    assert_eq!(one.told(), Vec::<String>::new());
    assert_eq!(one.node.counters().hearsay_dropped, 3);
}

#[test]
fn who_is_expelled_is_down_and_back_only_after_a_hello() {
    // MEMBER-24
    let mut one = one();
    one.hear(1, Message::Gossip, &[]);
    one.node.met(id(2), 1);
    one.hear(2, Message::Gossip, &[]);
    one.told();
    one.node.expel(one.now, id(2));
    one.drain();
    assert_eq!(one.told(), ["down Reported"]);
    // Another member is in league with it and passes on what it signs.
    let fresh = identity(2).renewed_at(address(2)).unwrap();
    let restarted = MemberIdentity::new(id(2), address(2), 7);
    one.hear(1, Message::Gossip, &[Member::new(identity(2), 4, State::Alive), Member::alive(fresh)]);
    one.hear(1, Message::Gossip, &[Member::alive(restarted)]);
    assert!(one.told().iter().all(|told| told.starts_with("introduced")));
    assert_eq!(one.node.members().count(), 1);
    one.node.met(id(2), 7);
    let bytes = datagram((restarted, 0), one.node.own(), Message::Announce, &[]);
    one.node.on_datagram(one.now, id(2), &bytes).unwrap();
    one.drain();
    assert_eq!(one.node.members().count(), 2);
}

#[test]
fn a_snapshot_tells_a_new_node_everything_at_once() {
    // MEMBER-19
    let mut old = suspicious();
    let others: Vec<_> = (2..42).map(|node| Member::alive(identity(node))).collect();
    others.chunks(8).for_each(|some| old.hear(2, Message::Gossip, some));
    let snapshot = old.node.snapshot();
    let mut new = one();
    new.node = Membership::new(identity(100), RecordKey::simulated(), MembershipConfig::default(), [9; 32]);
    for node in 0..42 {
        new.node.met(id(node), 0);
    }
    for length in 0..snapshot.len() {
        assert!(new.node.merge_snapshot(new.now, &snapshot[..length]).is_err());
    }
    let trailing = [&snapshot[..], &[0]].concat();
    let error = new.node.merge_snapshot(new.now, &trailing);
    assert_eq!(error, Err(DatagramError::TrailingBytes { extra: 1 }));
    new.drain();
    assert!(new.events.is_empty());
    new.node.merge_snapshot(new.now, &snapshot).unwrap();
    new.drain();
    let told = new.told();
    assert_eq!(told.iter().filter(|event| event.starts_with("up")).count(), 42, "{told:?}"); // 1 to 41 and the old node
    assert_eq!(told.last().unwrap(), &format!("suspect {}", short(1)));
    let again = new.node.snapshot();
    new.node.merge_snapshot(new.now, &again).unwrap();
    new.drain();
    assert_eq!(new.told(), Vec::<String>::new(), "what it knows is no news");
}

#[test]
fn a_snapshot_clears_who_has_spoken_up_elsewhere() {
    // MEMBER-19
    let mut other = one();
    other.node = Membership::new(identity(2), RecordKey::simulated(), MembershipConfig::default(), [9; 32]);
    other.hear_life(1, 1, Message::Gossip, &[]);
    let mut one = suspicious();
    one.node.merge_snapshot(one.now, &other.node.snapshot()).unwrap();
    one.drain();
    assert_eq!(one.told(), [format!("up {}", short(2)), format!("cleared {}", short(1))]);
}

#[test]
fn repairs_become_rare_when_nothing_changes() {
    // MEMBER-18
    let mut one = one();
    one.hear(1, Message::Gossip, &[]);
    let mut asked = Vec::new();
    for _ in 0..1_300 {
        one.run_for(MILLI * 100);
        for (at, kind, packet) in one.sent() {
            match packet.header.message {
                Message::Ping(number) => one.hear(1, Message::Ack(number), &[]),
                _ if kind == "Announce" => asked.push(at),
                _ => {}
            }
        }
    }
    let waits: Vec<u64> = asked.windows(2).map(|pair| pair[1].since(pair[0]).as_secs()).collect();
    assert!(waits.len() >= 6 && waits.is_sorted(), "{waits:?}");
    assert!((22..=38).contains(waits.last().unwrap()), "{waits:?}");
}
