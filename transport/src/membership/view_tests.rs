use proptest::prelude::*;

use super::*;
use MembershipEvent::{MemberCleared, MemberDown, MemberSuspect, MemberUp, Renamed};

const RETENTION: Duration = Duration::from_secs(60);

fn at(seconds: u64) -> Moment {
    Moment::ZERO + Duration::from_secs(seconds)
}

fn id(node: u8) -> NodeId {
    NodeId::from_bytes([node; 32])
}

fn life(node: u8, incarnation: u64, renewal: u32) -> MemberIdentity {
    let address = SocketAddr::from(([10, 0, 0, node], 7_000));
    MemberIdentity::from_parts(id(node), address, (incarnation, renewal), false)
}

fn view() -> MembershipView {
    MembershipView::new(at(0), life(0, 1, 0), MembershipConfig { retention: RETENTION, members_max: 3 })
}

fn down(member: MemberIdentity) -> MembershipEvent {
    MemberDown { member, reason: DownReason::Unreachable }
}

#[track_caller]
fn check(view: &mut MembershipView, seconds: u64, event: &MembershipEvent, changes: &str) {
    let shown: Vec<String> = view.apply(at(seconds), event).iter().map(name).collect();
    assert_eq!(shown.join(" "), changes);
}

fn name(change: &ViewChange) -> String {
    match change {
        ViewChange::Joined { .. } => "joined".into(),
        ViewChange::Restarted { before, after } => {
            format!("restarted {}->{}", before.incarnation, after.incarnation)
        }
        ViewChange::Returned { away, .. } => format!("returned after {}s", away.as_secs()),
        ViewChange::Suspected { .. } => "suspected".into(),
        ViewChange::Cleared { .. } => "cleared".into(),
        ViewChange::Moved { member, from } => format!("moved {from}->{}", member.address),
        ViewChange::WentDown { reason, .. } => format!("down {reason:?}"),
        ViewChange::Forgotten { because, .. } => format!("forgotten {because:?}"),
        ViewChange::Refused { .. } => "refused".into(),
    }
}

#[test]
fn a_node_that_was_away_returns_and_one_that_started_again_is_restarted() {
    // MEMBER-14
    let mut view = view();
    check(&mut view, 1, &MemberUp { member: life(1, 4, 0) }, "joined");
    check(&mut view, 2, &down(life(1, 4, 0)), "down Unreachable");
    check(&mut view, 3, &Renamed { before: life(1, 4, 0), after: life(1, 4, 1) }, "");
    check(&mut view, 3, &MemberUp { member: life(1, 4, 1) }, "returned after 1s");
    check(&mut view, 4, &down(life(1, 4, 1)), "down Unreachable");
    check(&mut view, 9, &Renamed { before: life(1, 4, 1), after: life(1, 5, 0) }, "");
    check(&mut view, 9, &MemberUp { member: life(1, 5, 0) }, "restarted 4->5");
    check(&mut view, 10, &Renamed { before: life(1, 5, 0), after: life(1, 6, 0) }, "restarted 5->6");
    assert_eq!(view.next_deadline(), None, "who is back is not forgotten");
}

#[test]
fn an_older_life_never_comes_back() {
    // MEMBER-13
    let mut view = view();
    check(&mut view, 1, &MemberUp { member: life(1, 4, 2) }, "joined");
    check(&mut view, 2, &down(life(1, 4, 1)), "");
    check(&mut view, 2, &MemberSuspect { member: life(1, 4, 1) }, "");
    check(&mut view, 3, &down(life(1, 4, 2)), "down Unreachable");
    check(&mut view, 4, &MemberUp { member: life(1, 4, 1) }, "");
    check(&mut view, 4, &MemberUp { member: life(1, 3, 9) }, "");
    check(&mut view, 4, &MemberCleared { member: life(1, 4, 2) }, "");
    assert_eq!(view.node(&id(1)).unwrap().state, NodeState::Down);
    assert_eq!(view.stale(), 5);
}

#[test]
fn a_suspect_is_a_member_until_it_is_down() {
    let mut view = view();
    let member = life(1, 1, 0);
    check(&mut view, 1, &MemberUp { member }, "joined");
    check(&mut view, 2, &MemberSuspect { member }, "suspected");
    check(&mut view, 2, &MemberSuspect { member }, "");
    let entry = view.node(&id(1)).unwrap();
    assert_eq!((entry.state, entry.since, entry.last_seen), (NodeState::Suspect, at(2), at(1)));
    check(&mut view, 3, &MemberCleared { member }, "cleared");
    check(&mut view, 4, &MemberSuspect { member }, "suspected");
    check(&mut view, 5, &Renamed { before: member, after: life(1, 1, 1) }, "cleared");
}

#[test]
fn a_node_that_moves_keeps_its_incarnation() {
    let mut view = view();
    let before = life(1, 1, 0);
    let after = before.renewed_at("10.9.9.9:1".parse().unwrap()).unwrap();
    check(&mut view, 1, &MemberUp { member: before }, "joined");
    check(&mut view, 2, &Renamed { before, after }, "moved 10.0.0.1:7000->10.9.9.9:1");
    assert_eq!(view.node(&id(1)).unwrap().since, at(1));
}

#[test]
fn who_is_down_is_shown_with_since_and_reason_and_then_forgotten_aloud() {
    // MEMBER-15
    let mut view = view();
    check(&mut view, 1, &MemberUp { member: life(1, 1, 0) }, "joined");
    view.heard(at(7), &id(1));
    let member = life(1, 1, 0).leaving();
    check(&mut view, 10, &MemberDown { member, reason: DownReason::Left }, "down Left");
    let entry = *view.node(&id(1)).unwrap();
    assert_eq!((entry.state, entry.since, entry.last_seen), (NodeState::Left, at(10), at(7)));
    assert_eq!(entry.reason, Some(DownReason::Left));
    assert_eq!(view.next_deadline(), Some(at(70)));
    assert!(view.on_timer(at(69)).is_empty());
    let shown: Vec<String> = view.on_timer(at(70)).iter().map(name).collect();
    assert_eq!(shown, ["forgotten Retention"]);
    assert!(view.node(&id(1)).is_none());
}

#[test]
fn a_full_picture_makes_room_from_the_dead_and_never_from_the_living() {
    // MEMBER-10
    let mut view = view();
    for node in 1..=3 {
        check(&mut view, 1, &MemberUp { member: life(node, 1, 0) }, "joined");
    }
    check(&mut view, 2, &MemberUp { member: life(4, 1, 0) }, "refused");
    assert_eq!(view.refused(), 1);
    check(&mut view, 3, &down(life(2, 1, 0)), "down Unreachable");
    check(&mut view, 4, &down(life(1, 1, 0)), "down Unreachable");
    check(&mut view, 5, &MemberUp { member: life(4, 1, 0) }, "forgotten Room joined");
    assert!(view.node(&id(2)).is_none(), "it was down for longest");
    assert_eq!(view.nodes().count(), 4);
}

#[test]
fn nobody_can_declare_this_node_down_to_itself() {
    let mut view = view();
    check(&mut view, 1, &down(life(0, 1, 0)), "");
    check(&mut view, 2, &MembershipEvent::Rejoined { own: life(0, 1, 1) }, "");
    let own = view.node(&id(0)).unwrap();
    assert_eq!((own.state, own.identity.renewal()), (NodeState::Up, 1));
}

fn event() -> impl Strategy<Value = MembershipEvent> {
    (0_u8..6, 1_u8..6, 1_u64..4, 0_u32..3, any::<bool>()).prop_map(
        |(kind, node, incarnation, renewal, left)| {
            let member = life(node, incarnation, renewal);
            match kind {
                0 | 1 => MemberUp { member },
                2 => MemberSuspect { member },
                3 => MemberCleared { member },
                4 if left => MemberDown { member: member.leaving(), reason: DownReason::Left },
                4 => down(member),
                _ => Renamed { before: life(node, 1, 0), after: member },
            }
        },
    )
}

proptest! {
    // MEMBER-13, MEMBER-10
    #[test]
    fn whatever_happens_lives_only_grow_and_everybody_is_accounted_for(
        events in prop::collection::vec((0_u64..20, event()), 0..80),
    ) {
        let mut view = view();
        let mut now = 0;
        let mut shown: BTreeSet<NodeId> = BTreeSet::from([id(0)]);
        let mut newest: BTreeMap<NodeId, u64> = BTreeMap::new();
        for (pause, event) in events {
            now += pause;
            let forgotten = view.on_timer(at(now));
            for change in forgotten.iter().copied().chain(view.apply(at(now), &event)) {
                match change {
                    ViewChange::Joined { member } => prop_assert!(shown.insert(member.id)),
                    ViewChange::Forgotten { member, .. } => {
                        prop_assert!(shown.remove(&member.id));
                        newest.remove(&member.id);
                    }
                    _ => {}
                }
            }
            for entry in view.nodes() {
                let known = newest.entry(entry.identity.id).or_default();
                prop_assert!(entry.identity.incarnation >= *known);
                *known = entry.identity.incarnation;
                let is_down = matches!(entry.state, NodeState::Down | NodeState::Left);
                prop_assert_eq!(entry.reason.is_some(), is_down);
            }
            let in_view: BTreeSet<NodeId> = view.nodes().map(|entry| entry.identity.id).collect();
            prop_assert_eq!(&in_view, &shown, "nobody comes or goes silently");
            prop_assert!(in_view.len() <= 4);
            let down = view.nodes().filter(|entry| entry.reason.is_some()).count();
            prop_assert_eq!(view.expiries.len(), down);
        }
    }
}
