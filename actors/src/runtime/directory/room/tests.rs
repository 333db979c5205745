use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

const WAIT_MAX: Duration = Duration::from_secs(30);

fn id(name: &str) -> RuntimeId {
    name.parse().unwrap()
}

fn load(name: &str, attempt: u64, needed_bytes: u64) -> Load {
    Load { id: id(name), attempt, needed_bytes, is_asked_for: true }
}

fn tenant(name: &str, phase: Phase, held_bytes: u64) -> Tenant {
    Tenant { id: id(name), attempt: 1, phase, held_bytes }
}

fn idle(name: &str, held_bytes: u64, seconds: u64) -> Tenant {
    tenant(name, Phase::Idle(Duration::from_secs(seconds)), held_bytes)
}

fn at(seconds: u64) -> Moment {
    Moment::ZERO + Duration::from_secs(seconds)
}

fn room(headroom_bytes: u64) -> Room {
    let (leaves_within, returns_within) = (Duration::from_secs(12), Duration::from_secs(30));
    Room::new(Rules { headroom_bytes, wait_max: WAIT_MAX, leaves_within, returns_within })
}

/// `grant a`, `deny a: why`, `evict b`.
fn words(actions: Vec<RoomAction>) -> Vec<String> {
    let word = |action| match action {
        RoomAction::Grant(load) => format!("grant {}", load.id),
        RoomAction::Deny(load, why) => format!("deny {}: {why}", load.id),
        RoomAction::Evict(id) => format!("evict {id}"),
    };
    actions.into_iter().map(word).collect()
}

/// ROOM-2.
#[test]
fn the_longest_idle_goes_first_and_nobody_for_nothing() {
    let tenants = [idle("a", 10, 5), idle("b", 10, 50), idle("c", 100, 20)];
    for (needed, free, wanted) in
        [(10, 15, "grant x"), (10, 5, "evict b"), (100, 5, "evict c"), (15, 5, "evict c")]
    {
        let mut room = room(5);
        room.ask(at(0), load("x", 1, needed));
        assert_eq!(words(room.look(at(0), free, &tenants)), [wanted], "{needed} with {free} free");
    }
}

/// ROOM-2.
#[test]
fn while_one_is_on_its_way_out_no_second_is_asked_to_go() {
    let mut room = room(0);
    room.ask(at(0), load("x", 1, 10));
    let mut tenants = vec![idle("a", 10, 50), idle("b", 10, 5)];
    assert_eq!(words(room.look(at(0), 0, &tenants)), ["evict a"]);
    assert!(room.look(at(0), 0, &tenants).is_empty(), "it has not answered yet");
    room.answered(&id("a"));
    tenants[0].phase = Phase::Leaving;
    assert!(room.look(at(1), 0, &tenants).is_empty(), "its program is ending");
    tenants[0] = tenant("a", Phase::Absent, 0);
    assert_eq!(words(room.look(at(2), 10, &tenants)), ["grant x"]);
}

/// ROOM-2: the kernel cannot end it, or it has a long answer to finish.
#[test]
fn the_memory_of_a_program_that_does_not_end_is_waited_for_only_so_long() {
    let mut room = room(0);
    room.ask(at(0), load("x", 1, 10));
    let tenants = [tenant("stuck", Phase::Leaving, 10), idle("a", 10, 5)];
    assert!(room.look(at(0), 0, &tenants).is_empty());
    assert!(room.look(at(11), 0, &tenants).is_empty());
    assert_eq!(words(room.look(at(12), 0, &tenants)), ["evict a"]);
}

/// ROOM-2: somebody was quicker.
#[test]
fn who_stays_although_asked_to_go_is_replaced_by_another() {
    let mut room = room(0);
    room.ask(at(0), load("x", 1, 10));
    let mut tenants = vec![idle("a", 10, 50), idle("b", 10, 5)];
    assert_eq!(words(room.look(at(0), 0, &tenants)), ["evict a"]);
    tenants[0].phase = Phase::Busy;
    room.answered(&id("a"));
    assert_eq!(words(room.look(at(1), 0, &tenants)), ["evict b"]);
}

/// ROOM-2.
#[test]
fn nobody_goes_for_a_load_that_nobody_asked_for() {
    let trial = |needed| Load { is_asked_for: false, ..load("x", 1, needed) };
    let mut room = room(0);
    let mut tenants = vec![idle("a", 10, 50), tenant("b", Phase::Busy, 10)];
    room.ask(at(0), trial(15));
    assert_eq!(
        words(room.look(at(0), 5, &tenants)),
        ["deny x: it needs 0 MB, 0 MB are free for models; busy: b"]
    );
    tenants[0].phase = Phase::Leaving;
    room.ask(at(0), trial(15));
    assert!(room.look(at(0), 5, &tenants).is_empty(), "it goes anyway");
    tenants[0] = tenant("a", Phase::Absent, 0);
    assert_eq!(words(room.look(at(0), 15, &tenants)), ["grant x"]);
}

/// ROOM-1.
#[test]
fn a_promise_ends_with_its_load_whatever_became_of_it() {
    for phase in [Phase::Absent, Phase::Busy, Phase::Idle(Duration::ZERO), Phase::Leaving] {
        let mut room = room(0);
        room.ask(at(0), load("a", 1, 60));
        assert_eq!(words(room.look(at(0), 100, &[])), ["grant a"]);
        // What the program took is not free any more; what it was promised beyond that is.
        let tenants = [tenant("a", phase, 10)];
        room.ask(at(1), load("b", 1, 90));
        assert_eq!(words(room.look(at(1), 90, &tenants)), ["grant b"], "{phase:?}");
    }
    let mut room = room(0);
    room.ask(at(0), load("a", 1, 60));
    room.look(at(0), 100, &[]);
    room.ask(at(1), load("b", 1, 90));
    assert_eq!(words(room.look(at(1), 100, &[])), ["grant b"], "the runtime was removed");
}

/// ROOM-1.
#[test]
fn a_promise_is_used_up_as_the_engine_takes_the_memory() {
    let mut room = room(0);
    room.ask(at(0), load("a", 2, 60));
    room.look(at(0), 100, &[]);
    let begins = || Tenant { attempt: 0, ..tenant("b", Phase::Loading, 0) };
    let loading = |attempt, held| [Tenant { attempt, ..tenant("a", Phase::Loading, held) }, begins()];
    room.ask(at(0), load("b", 1, 40));
    assert_eq!(words(room.look(at(0), 60, &loading(2, 40))), ["grant b"]);
    room.ask(at(0), load("c", 1, 1));
    assert!(room.look(at(0), 60, &loading(2, 40)).is_empty(), "20 are a's still, 40 are b's");
    // Its row still tells of the launch before: the promise stands, and nothing of it is used.
    let mut room = self::room(0);
    room.ask(at(0), load("a", 2, 60));
    room.look(at(0), 100, &[]);
    room.ask(at(0), load("b", 1, 50));
    let before = [Tenant { attempt: 1, ..tenant("a", Phase::Absent, 0) }];
    assert!(room.look(at(0), 100, &before).is_empty());
}

/// ROOM-3.
#[test]
fn no_later_load_takes_what_an_earlier_one_waits_for() {
    let mut room = room(0);
    room.ask(at(0), load("large", 1, 50));
    let mut tenants = vec![idle("a", 30, 5), tenant("b", Phase::Busy, 100)];
    assert_eq!(words(room.look(at(0), 20, &tenants)), ["evict a"]);
    room.ask(at(1), load("small", 1, 20));
    assert!(room.look(at(1), 20, &tenants).is_empty(), "it would fit now, and `large` would not any more");
    tenants[0] = tenant("a", Phase::Absent, 0);
    assert_eq!(words(room.look(at(2), 50, &tenants)), ["grant large"]);
}

/// ROOM-4.
#[test]
fn a_load_waits_for_the_busy_but_not_for_ever_and_not_for_what_never_fits() {
    let tenants = [tenant("a", Phase::Busy, 80), tenant("b", Phase::Loading, 10)];
    let mut room = room(0);
    room.ask(at(0), load("x", 1, 101));
    let never = "deny x: it needs 0 MB, 0 MB are free for models; busy: a; loading: b";
    assert_eq!(words(room.look(at(0), 10, &tenants)), [never]);
    room.ask(at(0), load("x", 1, 100));
    assert!(room.look(at(29), 10, &tenants).is_empty());
    let late = "deny x: it needs 0 MB, 0 MB are free for models after waiting 30 s; busy: a; loading: b";
    assert_eq!(words(room.look(at(30), 10, &tenants)), [late]);
    assert!(!room.is_waited_for());
}

fn ended(held_bytes: u64, seconds: u64) -> Vec<Ended> {
    vec![Ended { held_bytes, ago: Duration::from_secs(seconds) }]
}

/// ROOM-5.
#[test]
fn what_a_program_held_that_has_ended_is_waited_for_until_it_is_free() {
    let mut room = room(0);
    room.look(at(0), 60, &[tenant("a", Phase::Busy, 40)]);
    let tenants = [tenant("a", Phase::Absent, 0), idle("b", 30, 5)];
    room.note_ended(ended(40, 1), true);
    room.ask(at(10), load("x", 1, 90));
    assert!(room.look(at(10), 50, &tenants[..1]).is_empty(), "40 of 100 are on their way back");
    room.note_ended(ended(40, 2), true);
    assert_eq!(words(room.look(at(11), 90, &tenants[..1])), ["grant x"]);
    // What was seen to be free is waited for no more: somebody has to go.
    let mut room = self::room(0);
    room.look(at(0), 30, &[tenant("a", Phase::Busy, 40), idle("b", 30, 5)]);
    room.note_ended(ended(40, 1), true);
    room.ask(at(10), load("x", 1, 90));
    assert_eq!(words(room.look(at(10), 70, &tenants)), ["evict b"]);
}

/// ROOM-5.
#[test]
fn what_does_not_come_back_is_missing_in_the_end() {
    let mut room = room(0);
    room.look(at(0), 60, &[tenant("a", Phase::Busy, 40)]);
    let absent = [tenant("a", Phase::Absent, 0)];
    room.note_ended(ended(40, 5), true);
    room.ask(at(10), load("x", 1, 110));
    let never = "deny x: it needs 0 MB, 0 MB are free for models";
    assert_eq!(words(room.look(at(10), 60, &absent)), [never], "more than there ever was");
    room.ask(at(10), load("x", 1, 90));
    room.note_ended(ended(40, 29), true);
    assert!(room.look(at(34), 60, &absent).is_empty());
    room.note_ended(ended(40, 30), true);
    assert_eq!(words(room.look(at(35), 60, &absent)), [never]);
}

/// ROOM-5: nothing was looked at while it ran.
#[test]
fn without_a_figure_of_before_all_that_ended_may_come_back() {
    let mut room = room(0);
    room.note_ended(ended(40, 5), true);
    room.ask(at(0), load("x", 1, 100));
    assert!(room.look(at(0), 60, &[]).is_empty());
    room.note_ended(ended(40, 6), true);
    assert_eq!(words(room.look(at(1), 100, &[])), ["grant x"]);
}

#[test]
fn a_load_that_is_given_up_reserves_nothing() {
    let mut room = room(0);
    let tenants = [tenant("a", Phase::Busy, 100)];
    room.ask(at(0), load("x", 3, 100));
    assert!(room.look(at(0), 10, &tenants).is_empty());
    room.withdraw(&id("x"), 2);
    assert!(room.is_waited_for(), "that was an earlier launch");
    room.withdraw(&id("x"), 3);
    room.ask(at(0), load("y", 1, 10));
    assert_eq!(words(room.look(at(0), 10, &tenants)), ["grant y"]);
}

#[test]
fn sizes_are_shown_as_people_write_them() {
    assert_eq!((in_words(98_362_432), in_words(2_000_000_000)), ("98 MB".to_owned(), "2.0 GB".to_owned()));
}

/// A machine that does what the decider says, one step at a time.
#[derive(Debug)]
struct World {
    total: u64,
    tenants: BTreeMap<String, (Tenant, u64)>,
    /// Programs that have ended: what they held, when they ended, and when that is free.
    ended: Vec<(u64, u64, u64)>,
    clock: u64,
}

#[derive(Clone, Debug)]
enum Step {
    /// A runtime wants to load so much.
    Load(u8, u64),
    /// Its program takes a part of what it needs.
    Grow(u8),
    /// It has loaded.
    Ready(u8),
    /// A request comes, or the last one goes.
    Toggle(u8),
    /// It crashes, or its stop is over, and its memory is free so many seconds later.
    End(u8, u8),
    /// It is stopped by an operator.
    Stop(u8),
    /// Time passes.
    Wait(u8),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (0_u8..5, 1_u64..120).prop_map(|(n, needed)| Step::Load(n, needed)),
        2 => (0_u8..5).prop_map(Step::Grow),
        3 => (0_u8..5).prop_map(Step::Ready),
        2 => (0_u8..5).prop_map(Step::Toggle),
        2 => (0_u8..5, 0_u8..50).prop_map(|(n, later)| Step::End(n, later)),
        1 => (0_u8..5).prop_map(Step::Stop),
        1 => (1_u8..40).prop_map(Step::Wait),
    ]
}

impl World {
    /// Held by programs, those that have ended included.
    fn held(&self) -> u64 {
        let late = self.ended.iter().filter(|(_, _, free_at)| *free_at > self.clock).map(|(held, _, _)| held);
        self.tenants.values().map(|(tenant, _)| tenant.held_bytes).chain(late.copied()).sum()
    }

    /// What programs hold or were promised, whichever is more, and what is not back yet: what the machine
    /// must have.
    fn owed(&self, room: &Room) -> u64 {
        let late = self.held() - self.tenants.values().map(|(tenant, _)| tenant.held_bytes).sum::<u64>();
        self.tenants.values().fold(late, |owed, (tenant, _)| {
            let promise = room.promises.get(&tenant.id).map_or(0, |promise| promise.needed_bytes);
            owed + tenant.held_bytes.max(promise)
        })
    }

    fn rows(&self) -> Vec<Tenant> {
        self.tenants.values().map(|(tenant, _)| tenant.clone()).collect()
    }

    fn apply(&mut self, step: &Step, room: &mut Room) {
        let now = at(self.clock);
        match step {
            Step::Load(n, needed) => {
                let name = format!("r{n}");
                let entry = self
                    .tenants
                    .entry(name.clone())
                    .or_insert_with(|| (Tenant { attempt: 0, ..tenant(&name, Phase::Absent, 0) }, 0));
                if entry.0.phase == Phase::Absent {
                    entry.0.attempt += 1;
                    entry.0.phase = Phase::Loading;
                    entry.1 = 0;
                    room.ask(now, Load { attempt: entry.0.attempt, ..load(&name, 1, *needed) });
                }
            }
            Step::Wait(seconds) => self.clock += u64::from(*seconds),
            Step::Grow(n) | Step::Ready(n) | Step::Toggle(n) | Step::End(n, _) | Step::Stop(n) => {
                let Some((tenant, granted)) = self.tenants.get_mut(&format!("r{n}")) else { return };
                match (step, tenant.phase) {
                    (Step::Grow(_), Phase::Loading) => {
                        tenant.held_bytes = tenant.held_bytes.max(*granted / 2);
                    }
                    (Step::Ready(_), Phase::Loading) if *granted > 0 => {
                        tenant.held_bytes = *granted;
                        tenant.phase = Phase::Idle(Duration::from_secs(u64::from(*n)));
                    }
                    (Step::Toggle(_), Phase::Idle(_)) => tenant.phase = Phase::Busy,
                    (Step::Toggle(_), Phase::Busy) => tenant.phase = Phase::Idle(Duration::ZERO),
                    (Step::End(_, later), Phase::Leaving | Phase::Busy | Phase::Loading) => {
                        room.withdraw(&tenant.id, tenant.attempt);
                        self.ended.push((tenant.held_bytes, self.clock, self.clock + u64::from(*later)));
                        tenant.phase = Phase::Absent;
                        tenant.held_bytes = 0;
                    }
                    (Step::Stop(_), Phase::Loading | Phase::Busy | Phase::Idle(_)) => {
                        room.withdraw(&tenant.id, tenant.attempt);
                        tenant.phase = Phase::Leaving;
                    }
                    _ => {}
                }
            }
        }
    }

    fn look(&mut self, room: &mut Room) -> Vec<RoomAction> {
        let rows = self.rows();
        let ago = |at: u64| Duration::from_secs(self.clock - at);
        let ended = self.ended.iter().map(|(held, at, _)| Ended { held_bytes: *held, ago: ago(*at) });
        room.note_ended(ended.collect(), true);
        let actions = room.look(at(self.clock), self.total - self.held(), &rows);
        for action in &actions {
            match action {
                RoomAction::Grant(load) => {
                    if let Some((_, granted)) = self.tenants.get_mut(load.id.as_str()) {
                        *granted = load.needed_bytes;
                    }
                }
                RoomAction::Deny(load, _) => {
                    if let Some((tenant, _)) = self.tenants.get_mut(load.id.as_str()) {
                        tenant.phase = Phase::Absent;
                        tenant.held_bytes = 0;
                    }
                }
                RoomAction::Evict(id) => {
                    if let Some((tenant, _)) = self.tenants.get_mut(id.as_str()) {
                        assert!(matches!(tenant.phase, Phase::Idle(_)), "ROOM-2: {id} is {:?}", tenant.phase);
                        tenant.phase = Phase::Leaving;
                    }
                    room.answered(id);
                }
            }
        }
        actions
    }
}

proptest! {
    /// ROOM-1, ROOM-2, ROOM-3, ROOM-4.
    #[test]
    fn memory_is_never_promised_twice_and_every_load_is_answered(
        total in 50_u64..300, headroom in 0_u64..20, steps in proptest::collection::vec(step(), 1..120),
    ) {
        let mut room = room(headroom);
        let mut world = World { total, tenants: BTreeMap::new(), ended: Vec::new(), clock: 0 };
        for step in &steps {
            world.apply(step, &mut room);
            let waiting: Vec<_> = room.waiting.iter().map(|(load, _)| load.id.clone()).collect();
            let actions = world.look(&mut room);
            prop_assert!(world.owed(&room) + headroom <= total.max(headroom), "more is promised than there is");
            // ROOM-3: who is granted was the first of those that still wait.
            if let Some(RoomAction::Grant(first)) = actions.iter().find(|a| matches!(a, RoomAction::Grant(_))) {
                let before = waiting.iter().take_while(|id| **id != first.id);
                let passed: Vec<_> = before.filter(|id| room.waiting.iter().any(|(l, _)| l.id == **id)).collect();
                let needed = first.needed_bytes + room.waiting.iter().map(|(l, _)| l.needed_bytes).sum::<u64>();
                prop_assert!(passed.is_empty() || needed + headroom <= total, "{} took what {passed:?} waits for", first.id);
            }
        }
        // ROOM-1: when everything has ended, everything is free again.
        for (tenant, _) in world.tenants.values_mut() {
            tenant.phase = Phase::Absent;
            tenant.held_bytes = 0;
            room.withdraw(&tenant.id, tenant.attempt);
        }
        world.clock += 50;
        room.ask(at(world.clock), load("last", 1, total.saturating_sub(headroom).max(1)));
        let fits = total > headroom;
        let actions = world.look(&mut room);
        prop_assert_eq!(matches!(actions[..], [RoomAction::Grant(_)]), fits, "{:?}", actions);
    }

    /// ROOM-5: a program that has ended gives back what it held bit by bit, and a load comes at any time.
    #[test]
    fn a_load_is_refused_no_sooner_than_what_comes_back_may_be_missing(
        base in 0_u64..60, held in 1_u64..80, needed in 1_u64..160, comes in 0_u64..40,
        returns in proptest::collection::vec(0_u64..60, 1..80),
    ) {
        let mut room = room(0);
        room.look(at(0), base, &[tenant("a", Phase::Busy, held)]);
        let absent = [tenant("a", Phase::Absent, 0)];
        let back = |second: u64| {
            // Each byte of it comes back at a time of its own.
            let is_back = |byte: &u64| returns[usize::try_from(*byte).unwrap() % returns.len()] <= second;
            (0..held).filter(is_back).count() as u64
        };
        let mut answer = None;
        for second in comes..=comes + 30 {
            if second == comes {
                room.ask(at(100 + second), load("x", 1, needed));
            }
            room.note_ended(ended(held, second), true);
            let actions = words(room.look(at(100 + second), base + back(second), &absent));
            if let Some(word) = actions.into_iter().next() {
                answer = Some((second, word));
                break;
            }
        }
        let Some((second, word)) = answer else { panic!("it waits for ever") };
        if word == "grant x" {
            prop_assert!(needed <= base + back(second));
            prop_assert!(second == comes || needed > base + back(second - 1), "it was granted too late");
        } else {
            let may_come_back = second < 30 && second < comes + 30;
            prop_assert!(needed > base + held || !may_come_back, "{word} after {second} s");
            prop_assert!(second == comes || second == 30, "{second} s: what cannot fit is refused at once");
        }
    }

    /// ROOM-4.
    #[test]
    fn a_load_never_waits_longer_than_it_may(
        held in 1_u64..100, needed in 1_u64..150, phases in proptest::collection::vec(0_u8..4, 1..4),
    ) {
        let mut room = room(0);
        let phase = |n: &u8| match n {
            0 => Phase::Busy,
            1 => Phase::Loading,
            2 => Phase::Leaving,
            _ => Phase::Idle(Duration::ZERO),
        };
        let tenants: Vec<_> =
            phases.iter().enumerate().map(|(n, p)| tenant(&format!("r{n}"), phase(p), held)).collect();
        room.ask(at(0), load("x", 1, needed));
        for second in 0..=30 {
            room.look(at(second), 0, &tenants);
        }
        prop_assert!(!room.is_waited_for());
    }
}

/// ROOM-5: the kernel frees what a program holds before it is reaped; that is not on its way back afterwards.
#[test]
fn what_was_seen_free_while_its_program_ended_is_not_awaited_again() {
    let mut room = room(0);
    let (a, d) = (idle("a", 40, 50), idle("d", 30, 5));
    room.look(at(0), 40, &[a.clone(), d.clone()]);
    room.ask(at(1), load("b", 1, 60));
    assert_eq!(words(room.look(at(1), 40, &[a, d.clone()])), ["evict a"]);
    room.answered(&id("a"));
    assert_eq!(words(room.look(at(2), 70, &[tenant("a", Phase::Leaving, 40), d.clone()])), ["grant b"]);
    room.note_ended(ended(40, 3), true);
    room.ask(at(5), load("c", 1, 30));
    let now = [tenant("a", Phase::Absent, 0), tenant("b", Phase::Busy, 60), d];
    assert_eq!(words(room.look(at(5), 20, &now)), ["evict d"]);
}

/// ROOM-5: others may have taken since the last look what seems to be on its way back.
#[test]
fn for_what_does_not_come_back_an_idle_runtime_goes_in_the_end() {
    let mut room = room(0);
    let b = idle("b", 20, 5);
    room.look(at(0), 40, &[tenant("a", Phase::Busy, 20), b.clone()]);
    room.note_ended(ended(20, 1), true);
    room.ask(at(3_600), load("x", 1, 40));
    let now = [tenant("a", Phase::Absent, 0), b];
    assert_eq!(words(room.look(at(3_600), 30, &now)), Vec::<String>::new());
    room.note_ended(ended(20, 9), true);
    assert_eq!(words(room.look(at(3_608), 30, &now)), ["evict b"]);
}
