use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::subsequence;

use super::*;
use crate::cluster::card::{CardHealth, CardRuntime, NodeCard};
use crate::cluster::news::{Contact, MemberUpdate};

const START: Moment = Moment::from_nanos(1_000_000_000_000);

fn at(seconds: u64) -> At {
    let span = Duration::from_secs(seconds);
    At { now: START + span, wall: WallTime::from_millis(1_700_000_000_000) + span }
}

fn id(number: u8) -> NodeId {
    NodeId::from_bytes([number; 32])
}

const OWN: u8 = 200;

fn view() -> ClusterView {
    let started_at = at(0).wall;
    ClusterView::new(OwnNode { id: id(OWN), name: "own".to_owned(), incarnation: 5, started_at })
}

fn place() -> ClusterUpdate {
    ClusterUpdate::Place(OwnPlace {
        cluster: "c1".to_owned(),
        roles: vec!["worker".to_owned()],
        address: address(OWN),
        address_by: "the default route".to_owned(),
        warnings: Vec::new(),
        certificate_until: at(3_600).wall,
        is_issuer: false,
        issuer: id(1),
    })
}

fn address(number: u8) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, number], 7400))
}

fn member(number: u8, incarnation: u64, state: MemberState) -> ClusterUpdate {
    let reason = (!state.is_alive()).then(|| "it did not answer".to_owned());
    let (since, last_seen) = (START, START);
    ClusterUpdate::Member(MemberUpdate {
        node: id(number),
        incarnation,
        address: address(number),
        state,
        since,
        reason,
        last_seen,
    })
}

fn connected(number: u8, incarnation: u64) -> ClusterUpdate {
    ClusterUpdate::Connected(Contact {
        node: id(number),
        name: format!("box{number}"),
        roles: vec!["worker".to_owned()],
        incarnation,
        address: address(number),
        rtt: Duration::from_micros(432),
    })
}

fn disconnected(number: u8) -> ClusterUpdate {
    ClusterUpdate::Disconnected { node: id(number), reason: "reset".to_owned() }
}

fn card(number: u8, incarnation: u64) -> ClusterUpdate {
    let runtime = CardRuntime {
        id: "r1".to_owned(),
        model: "m".to_owned(),
        state: "ready".to_owned(),
        is_serving: true,
        in_flight: 2,
        waiting: 3,
        ..CardRuntime::default()
    };
    let health = CardHealth { state: "ok".to_owned(), ..CardHealth::default() };
    let version = format!("of start {incarnation}");
    let card = NodeCard { version, runtimes: vec![runtime], health, ..NodeCard::default() };
    ClusterUpdate::Card { node: id(number), incarnation, card: Box::new(card) }
}

/// The next card of a node that is as it was.
fn next_card(number: u8, incarnation: u64, seconds: u64) -> ClusterUpdate {
    let ClusterUpdate::Card { node, incarnation, mut card } = card(number, incarnation) else {
        unreachable!()
    };
    card.made_at = at(seconds).wall;
    ClusterUpdate::Card { node, incarnation, card }
}

fn measured(number: u8, micros: u64, seen_after: u64) -> ClusterUpdate {
    let last_seen = START + Duration::from_secs(seen_after);
    ClusterUpdate::Measured { node: id(number), rtt: Duration::from_micros(micros), last_seen }
}

fn forgotten(number: u8) -> ClusterUpdate {
    ClusterUpdate::Forgotten { node: id(number) }
}

fn picture(view: &ClusterView, seconds: u64) -> Picture {
    view.picture(at(seconds).now, &Arc::new(NodeCard::default()))
}

fn row(view: &ClusterView, number: u8, seconds: u64) -> Option<NodeRow> {
    picture(view, seconds).nodes.into_iter().find(|row| row.node == id(number))
}

/// Tells everything at once, and returns what people hear of other nodes.
fn tell(
    view: &mut ClusterView,
    seconds: u64,
    news: impl IntoIterator<Item = ClusterUpdate>,
) -> Vec<NodeChanged> {
    let changes = news.into_iter().flat_map(|news| view.fold(at(seconds), news)).collect::<Vec<_>>();
    let of_nodes = changes.into_iter().filter_map(|change| match change {
        ClusterChange::Node(change) => Some(change.what),
        ClusterChange::Entered { .. }
        | ClusterChange::Exited { .. }
        | ClusterChange::Warned { .. }
        | ClusterChange::Cleared => None,
    });
    of_nodes.collect()
}

#[test]
fn a_node_alone_sees_itself() {
    let picture = picture(&view(), 1);
    assert_eq!((picture.cluster, picture.home, picture.totals.up), (None, None, 1));
    let own = &picture.nodes[0];
    assert_eq!((own.node, own.source, own.incarnation), (id(OWN), Knowledge::Own, 5));
    assert_eq!((own.state, own.address, own.rtt), (MemberState::Up, None, None));
}

#[test]
fn a_node_that_runs_twice_is_told_of_once_and_shown_until_it_does_no_more() {
    let mut view = view();
    let copies = |copies: &[u8]| {
        ClusterUpdate::Copies(copies.iter().map(|it| (id(*it), address(*it), address(it + 100))).collect())
    };
    // Before anybody has said that there is such a node nothing is shown, and nothing is lost.
    assert_eq!(tell(&mut view, 0, [copies(&[1])]), []);
    tell(&mut view, 1, [place(), member(1, 1, MemberState::Up), connected(1, 1)]);
    let copied = NodeChanged::Copied { kept: address(1), other: address(101) };
    let heard = tell(&mut view, 2, [copies(&[1]), copies(&[1])]);
    assert_eq!(heard, std::slice::from_ref(&copied));
    let health = row(&view, 1, 3).unwrap().health;
    assert_eq!(health.state, "warning");
    let reason = health.reason.unwrap();
    assert!(reason.contains("10.0.0.1:7400") && reason.contains("10.0.0.101:7400"), "{reason}");
    assert_eq!(tell(&mut view, 4, [copies(&[])]), []);
    assert_ne!(row(&view, 1, 5).unwrap().health.reason, Some(reason));
    assert_eq!(tell(&mut view, 6, [copies(&[1])]), [copied], "it begins anew");
}

#[test]
fn what_is_wrong_with_this_node_is_told_once_and_its_end_too() {
    let mut view = view();
    let warned = |warnings: &[&str]| {
        let ClusterUpdate::Place(mut place) = place() else { unreachable!("it is one") };
        place.warnings = warnings.iter().map(|text| (*text).to_owned()).collect();
        ClusterUpdate::Place(place)
    };
    let told = |view: &mut ClusterView, warnings: &[&str]| -> Vec<String> {
        let changes = view.fold(at(1), warned(warnings)).into_iter();
        let words = |change| match change {
            ClusterChange::Warned { warning } => Some(warning),
            ClusterChange::Cleared => Some("over".to_owned()),
            ClusterChange::Entered { .. } | ClusterChange::Exited { .. } | ClusterChange::Node(_) => None,
        };
        changes.filter_map(words).collect()
    };
    assert_eq!(told(&mut view, &[]), Vec::<String>::new());
    assert_eq!(told(&mut view, &["a"]), ["a"]);
    assert_eq!(told(&mut view, &["a"]), Vec::<String>::new());
    assert_eq!(told(&mut view, &["a", "b"]), ["b"]);
    assert_eq!(picture(&view, 2).cluster.unwrap().warnings, ["a", "b"]);
    assert_eq!(told(&mut view, &["b"]), Vec::<String>::new());
    assert_eq!(told(&mut view, &[]), ["over"]);
}

#[test]
fn a_connected_node_is_shown_whole_with_where_that_is_known_from() {
    let mut view = view();
    tell(&mut view, 1, [place(), member(1, 2, MemberState::Up)]);
    let heard = row(&view, 1, 1).unwrap();
    assert_eq!((heard.name, heard.source, heard.is_connected), (None, Knowledge::Membership, false));
    assert_eq!(heard.health.state, "warning");
    tell(&mut view, 1, [connected(1, 2), card(1, 2)]);
    let whole = row(&view, 1, 1).unwrap();
    assert_eq!((whole.name.as_deref(), whole.source), (Some("box1"), Knowledge::Card));
    assert_eq!((whole.card.unwrap().version.as_str(), whole.health.state.as_str()), ("of start 2", "ok"));
    assert_eq!(whole.rtt, Some(Duration::from_micros(430)));
    assert_eq!((whole.since, whole.roles), (at(0).wall, vec!["worker".to_owned()]));
    tell(&mut view, 2, [disconnected(1)]);
    let lost = row(&view, 1, 2).unwrap();
    assert_eq!((lost.name.as_deref(), lost.source, lost.rtt), (Some("box1"), Knowledge::Membership, None));
}

/// CLUSTER-1.
#[test]
fn nothing_of_an_earlier_start_is_shown_with_a_later_one() {
    let mut view = view();
    tell(&mut view, 1, [member(1, 2, MemberState::Up), connected(1, 2), card(1, 2)]);
    assert_eq!(tell(&mut view, 2, [member(1, 3, MemberState::Up)]), [NodeChanged::Restarted]);
    let restarted = row(&view, 1, 2).unwrap();
    assert_eq!((restarted.incarnation, restarted.card, restarted.is_connected), (3, None, false));
    assert_eq!(tell(&mut view, 3, [card(1, 2), member(1, 2, MemberState::Down), connected(1, 2)]), []);
    assert_eq!(row(&view, 1, 3).unwrap().card, None);
    assert_eq!(row(&view, 1, 3).unwrap().state, MemberState::Up);
    assert_eq!(tell(&mut view, 4, [card(1, 3), connected(1, 3)]), []);
    assert_eq!(row(&view, 1, 4).unwrap().card.unwrap().version, "of start 3");
}

/// CLUSTER-2.
#[test]
fn a_card_that_is_not_renewed_is_stale_and_says_so() {
    let mut view = view();
    tell(&mut view, 0, [member(1, 1, MemberState::Up), connected(1, 1), card(1, 1)]);
    assert_eq!(
        (row(&view, 1, 29).unwrap().stale_since, picture(&view, 29).totals.runtimes_serving),
        (None, 1)
    );
    let stale = row(&view, 1, 30).unwrap();
    assert_eq!((stale.stale_since, stale.health.state.as_str()), (Some(at(0).wall), "warning"));
    assert_eq!(picture(&view, 30).totals.runtimes_serving, 0, "nobody counts on it");
    tell(&mut view, 31, [next_card(1, 1, 31)]);
    assert_eq!(row(&view, 1, 31).unwrap().stale_since, None);
}

/// CLUSTER-2 and CLUSTER-7.
#[test]
fn a_card_that_is_told_again_grows_no_younger_and_its_node_is_offered_nothing() {
    let mut view = view();
    for second in (0..30).step_by(5) {
        tell(&mut view, second, [member(1, 1, MemberState::Up), connected(1, 1), card(1, 1)]);
        assert_eq!(picture(&view, second).hosts().len(), 1, "after {second} s");
    }
    tell(&mut view, 30, [member(1, 1, MemberState::Up), connected(1, 1), card(1, 1)]);
    let stale = row(&view, 1, 30).unwrap();
    assert_eq!((stale.stale_since, stale.last_seen_at), (Some(at(0).wall), Some(at(0).wall)));
    assert_eq!(picture(&view, 30).hosts(), []);
    tell(&mut view, 31, [next_card(1, 1, 31)]);
    assert_eq!(picture(&view, 31).hosts().len(), 1);
}

/// CLUSTER-4.
#[test]
fn a_connection_that_is_told_again_is_the_same_whatever_its_round_trip() {
    let mut view = view();
    tell(&mut view, 1, [connected(1, 1)]);
    let before = picture(&view, 1);
    let ClusterUpdate::Connected(contact) = connected(1, 1) else { unreachable!() };
    let slower = Contact { rtt: Duration::from_millis(9), ..contact };
    tell(&mut view, 6, [ClusterUpdate::Connected(slower.clone())]);
    assert_eq!(picture(&view, 6), before);
    tell(&mut view, 7, [ClusterUpdate::Connected(Contact { address: address(9), ..slower })]);
    assert_eq!(row(&view, 1, 7).unwrap().since, at(7).wall, "that is another one");
}

/// CLUSTER-3.
#[test]
fn who_goes_stays_in_sight_with_since_and_reason_until_it_is_forgotten() {
    let mut view = view();
    let changes = [
        tell(&mut view, 1, [connected(1, 1), member(1, 1, MemberState::Up), card(1, 1)]),
        tell(&mut view, 2, [member(1, 1, MemberState::Suspect)]),
        tell(&mut view, 3, [member(1, 1, MemberState::Down), disconnected(1)]),
        tell(&mut view, 9, [member(1, 1, MemberState::Up)]),
        tell(&mut view, 10, [member(1, 2, MemberState::Up)]),
        tell(&mut view, 11, [member(1, 2, MemberState::Left)]),
    ];
    let down = NodeChanged::Down { reason: Some("it did not answer".to_owned()) };
    let returned = NodeChanged::Returned { after: Duration::from_secs(9) };
    let wanted = [
        vec![NodeChanged::Joined],
        vec![],
        vec![down],
        vec![returned],
        vec![NodeChanged::Restarted],
        vec![NodeChanged::Left],
    ];
    assert_eq!(changes, wanted);
    let gone = row(&view, 1, 5_000).unwrap();
    assert_eq!((gone.state, gone.reason.as_deref()), (MemberState::Left, Some("it did not answer")));
    assert_eq!(gone.last_seen_at, Some(at(1).wall));
    assert_eq!(tell(&mut view, 5_001, [forgotten(1)]), [NodeChanged::Forgotten]);
    assert_eq!(row(&view, 1, 5_001), None);
    tell(&mut view, 5_002, [member(1, 3, MemberState::Up)]);
    assert_eq!(tell(&mut view, 5_003, [forgotten(1)]), [NodeChanged::Removed]);
}

/// CLUSTER-3.
#[test]
fn a_peer_that_never_became_a_member_does_not_vanish_silently() {
    let mut view = view();
    assert_eq!(
        tell(&mut view, 1, [connected(1, 1), disconnected(1)]),
        [NodeChanged::Joined, NodeChanged::Forgotten]
    );
    assert_eq!(row(&view, 1, 1), None);
}

#[test]
fn forgetting_the_dead_leaves_the_connection_to_its_next_start() {
    let mut view = view();
    tell(&mut view, 1, [member(1, 1, MemberState::Down), connected(1, 2)]);
    assert_eq!(tell(&mut view, 2, [forgotten(1)]), []);
    let row = row(&view, 1, 2).unwrap();
    assert_eq!((row.state, row.incarnation, row.is_connected), (MemberState::Up, 2, true));
}

/// CLUSTER-4.
#[test]
fn while_nothing_happens_a_row_does_not_move() {
    let mut view = view();
    tell(&mut view, 0, [member(1, 1, MemberState::Up), connected(1, 1), card(1, 1), measured(1, 1_000, 0)]);
    // Each card says when it was made, which is not shown.
    let shown = |view: &ClusterView, second| {
        let mut picture = picture(view, second);
        let cards = picture.nodes.iter_mut().filter_map(|row| row.card.as_mut());
        cards.for_each(|card| Arc::make_mut(card).made_at = WallTime::default());
        picture
    };
    let before = shown(&view, 0);
    for second in 1..=120 {
        let micros = if second % 2 == 0 { 1_190 } else { 820 };
        tell(&mut view, second, [measured(1, micros, second), measured(1, 1_400, second)]);
        if second % 10 == 0 {
            tell(&mut view, second, [next_card(1, 1, second)]);
        }
        assert_eq!(shown(&view, second), before, "after {second} s");
    }
    tell(&mut view, 121, [measured(1, 1_600, 121)]);
    assert_eq!(row(&view, 1, 121).unwrap().rtt, Some(Duration::from_micros(1_600)));
}

/// CLUSTER-4.
#[test]
fn silence_is_told_in_steps_and_each_step_is_a_deadline() {
    let mut view = view();
    tell(&mut view, 0, [member(1, 1, MemberState::Up), connected(1, 1)]);
    let mut now = at(0).now;
    let mut steps = Vec::new();
    while let Some(next) = view.next_deadline(now) {
        assert!(next > now);
        now = next;
        let row = view.picture(now, &Arc::new(NodeCard::default())).nodes.remove(0);
        steps.push((row.last_seen.as_secs(), now.since(START).as_secs()));
        assert_eq!(row.last_seen_at, Some(at(0).wall));
    }
    assert_eq!(steps, [(15, 15), (30, 30), (45, 45), (60, 60)]);
}

/// CLUSTER-5: draining is said beside the state, not in its place.
#[test]
fn a_draining_node_is_up_and_offers_nothing() {
    let mut view = view();
    let ClusterUpdate::Card { node, incarnation, mut card } = card(1, 1) else { unreachable!() };
    tell(&mut view, 0, [member(1, 1, MemberState::Up), connected(1, 1)]);
    tell(&mut view, 0, [ClusterUpdate::Card { node, incarnation, card: card.clone() }]);
    assert_eq!(picture(&view, 0).hosts().len(), 1);
    card.is_draining = true;
    tell(&mut view, 1, [ClusterUpdate::Card { node, incarnation, card }]);
    let draining = row(&view, 1, 1).unwrap();
    assert_eq!(
        (draining.state, draining.is_draining, picture(&view, 1).totals.draining),
        (MemberState::Up, true, 1)
    );
    assert_eq!(picture(&view, 1).hosts(), []);
}

/// CLUSTER-6.
#[test]
fn more_nodes_than_can_be_shown_are_counted_and_hearsay_makes_room() {
    let mut view = view();
    let number = |number: usize| {
        let mut bytes = [1; 32];
        bytes[..8].copy_from_slice(&number.to_be_bytes());
        NodeId::from_bytes(bytes)
    };
    let ClusterUpdate::Member(template) = member(1, 1, MemberState::Up) else { unreachable!() };
    let up = |count| ClusterUpdate::Member(MemberUpdate { node: number(count), ..template.clone() });
    for count in 0..NODES_MAX - 1 {
        view.fold(at(0), up(count));
    }
    view.fold(at(0), measured(2, 5, 0));
    view.fold(at(0), up(NODES_MAX));
    view.fold(at(0), up(NODES_MAX + 1));
    let picture = picture(&view, 0);
    assert_eq!((picture.nodes.len(), picture.refused), (NODES_MAX + 1, 2));
    assert!(!picture.nodes.iter().any(|row| row.node == number(NODES_MAX + 1)));
}

/// CLUSTER-7.
#[test]
fn hosts_are_members_that_are_connected_and_serve_in_a_fixed_order() {
    let mut view = view();
    for number in [3, 1, 2, 4] {
        tell(&mut view, 0, [connected(number, 1), member(number, 1, MemberState::Up), card(number, 1)]);
    }
    tell(
        &mut view,
        0,
        [member(1, 1, MemberState::Suspect), member(2, 1, MemberState::Down), disconnected(4)],
    );
    let hosts = picture(&view, 0).hosts();
    let names: Vec<_> = hosts.iter().map(|host| (host.node_name.as_str(), host.busy)).collect();
    assert_eq!(names, [("box1", 5), ("box3", 5)]);
    let ClusterUpdate::Connected(contact) = connected(3, 1) else { unreachable!() };
    let no_worker = Contact { roles: vec!["gateway".to_owned()], ..contact };
    tell(&mut view, 0, [ClusterUpdate::Connected(no_worker)]);
    let hosts = picture(&view, 0).hosts();
    assert_eq!(hosts.iter().map(|host| host.node_name.as_str()).collect::<Vec<_>>(), ["box1"]);
}

#[test]
fn leaving_the_cluster_forgets_everybody_and_says_so_once() {
    let mut view = view();
    let entered = view.fold(at(0), place());
    assert!(matches!(&entered[..], [ClusterChange::Entered { cluster, .. }] if cluster == "c1"));
    assert_eq!(view.fold(at(0), place()), [], "a place that is told again is the same");
    tell(&mut view, 0, [member(1, 1, MemberState::Up), member(2, 1, MemberState::Down)]);
    let exited = view.fold(at(1), ClusterUpdate::Alone);
    assert_eq!(exited, [ClusterChange::Exited { cluster: "c1".to_owned(), nodes: 2 }]);
    assert_eq!(view.fold(at(1), ClusterUpdate::Alone), []);
    assert_eq!(picture(&view, 1).nodes.len(), 1);
}

#[test]
fn home_is_the_node_that_made_the_cluster_whoever_is_there() {
    let mut view = view();
    assert_eq!(picture(&view, 0).home, None, "a node alone is in no cluster");
    tell(&mut view, 0, [place(), member(1, 1, MemberState::Up), member(2, 1, MemberState::Up)]);
    assert_eq!(picture(&view, 0).home, Some(id(1)));
    let home = |contact| ClusterUpdate::Connected(Contact { roles: vec!["home".to_owned()], ..contact });
    let ClusterUpdate::Connected(contact) = connected(2, 1) else { unreachable!("it is one") };
    tell(&mut view, 0, [home(contact), member(1, 1, MemberState::Down)]);
    assert_eq!(picture(&view, 0).home, Some(id(1)), "two nodes that see different members name the same one");
}

fn any_state() -> impl Strategy<Value = MemberState> {
    prop_oneof![
        Just(MemberState::Up),
        Just(MemberState::Suspect),
        Just(MemberState::Down),
        Just(MemberState::Left)
    ]
}

/// At most one fact of each kind about each of a few nodes, this one among them.
fn one_of_each_kind() -> impl Strategy<Value = Vec<ClusterUpdate>> {
    let about = |number: u8| {
        (1..4_u64, 1..4_u64, 1..4_u64, any_state(), 0..9_u64).prop_map(
            move |(one, two, three, state, seen)| {
                vec![
                    member(number, one, state),
                    connected(number, two),
                    card(number, three),
                    measured(number, 700, seen),
                ]
            },
        )
    };
    (about(1), about(2), about(OWN)).prop_map(|(one, two, own)| [one, two, own].concat()).prop_flat_map(
        |all| {
            let count = all.len();
            subsequence(all, 0..=count)
        },
    )
}

fn anything() -> impl Strategy<Value = ClusterUpdate> {
    let number = || prop_oneof![1..4_u8, Just(OWN)];
    prop_oneof![
        (number(), 1..4_u64, any_state()).prop_map(|(of, start, state)| member(of, start, state)),
        (number(), 1..4_u64).prop_map(|(of, start)| connected(of, start)),
        (number(), 1..4_u64).prop_map(|(of, start)| card(of, start)),
        (number(), 0..5_000_u64, 0..99_u64).prop_map(|(of, rtt, seen)| measured(of, rtt, seen)),
        number().prop_map(disconnected),
        number().prop_map(forgotten),
        Just(place()),
        Just(ClusterUpdate::Alone),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    /// CLUSTER-1.
    #[test]
    fn a_row_is_the_same_whatever_the_order_in_which_its_parts_came(
        (news, shuffled) in one_of_each_kind().prop_flat_map(|news| (Just(news.clone()), Just(news).prop_shuffle()))
    ) {
        let (mut one, mut other) = (view(), view());
        tell(&mut one, 10, news);
        tell(&mut other, 10, shuffled);
        for seconds in [10, 25, 41, 500] {
            prop_assert_eq!(picture(&one, seconds), picture(&other, seconds));
        }
    }

    #[test]
    fn what_is_told_twice_changes_nothing(before in vec(anything(), 0..30), news in anything()) {
        let mut view = view();
        tell(&mut view, 10, before);
        view.fold(at(10), news.clone());
        let once = picture(&view, 10);
        prop_assert_eq!(view.fold(at(10), news), vec![]);
        prop_assert_eq!(picture(&view, 10), once);
    }

    #[test]
    fn a_node_has_one_row_and_what_is_shown_was_announced(news in vec(anything(), 0..60)) {
        let mut view = view();
        let mut shown = std::collections::BTreeSet::new();
        for (second, news) in (0..).zip(news) {
            let is_alone = news == ClusterUpdate::Alone;
            for change in view.fold(at(second), news) {
                if let ClusterChange::Node(change) = change {
                    match change.what {
                        NodeChanged::Removed | NodeChanged::Forgotten => {
                            prop_assert!(shown.remove(&change.node));
                        }
                        _ => drop(shown.insert(change.node)),
                    }
                }
            }
            if is_alone {
                shown.clear();
            }
            view.expire(at(second).now);
            let rows: Vec<NodeId> = picture(&view, second).nodes.iter().map(|row| row.node).collect();
            let others: std::collections::BTreeSet<NodeId> =
                rows.iter().copied().filter(|node| *node != id(OWN)).collect();
            prop_assert_eq!(rows.len(), others.len() + 1);
            prop_assert_eq!(&others, &shown);
        }
    }

    #[test]
    fn between_deadlines_the_picture_stands_still(news in vec(anything(), 0..30), after in 0..40_000_u64) {
        let mut view = view();
        tell(&mut view, 10, news);
        view.expire(at(10).now);
        let before = picture(&view, 10);
        let later = at(10).now + Duration::from_millis(after);
        if view.next_deadline(at(10).now).is_none_or(|deadline| later < deadline) {
            prop_assert_eq!(view.picture(later, &Arc::new(NodeCard::default())), before);
        }
    }
}
