//! HTTP-22: the table of suspects and a model's lane together, in a world of engines that die of some bodies.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use arw_kit::moment::{Moment, WallTime};
use proptest::prelude::*;

use super::fate::GONE_WATCHED;
use super::lane::{Kind, Lane, PlaceId};
use super::suspects::{Death, Suspect, Suspects, Verdict};

/// What happens next.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// A request with this body comes, which takes so long.
    Arrive(u64, Duration),
    /// So much time passes.
    Pass(Duration),
    /// The client of the first one that waits, or is in flight, gives up.
    GiveUp,
}

#[derive(Clone, Copy, Debug)]
struct Request {
    body: u64,
    takes: Duration,
    kind: Kind,
    /// How often it has been sent.
    sent: u32,
    arrived: Moment,
}

#[derive(Clone, Copy, Debug)]
struct Flight {
    request: Request,
    since: Moment,
    /// Its client has left: the engine works on it until then.
    gone_until: Option<Moment>,
    /// As long as it may keep others out.
    trial_ends: Option<Moment>,
}

#[derive(Debug)]
struct World {
    now: Moment,
    lane: Lane,
    suspects: Suspects,
    /// Bodies that kill, and how long after they were sent.
    poisons: BTreeMap<u64, Duration>,
    /// How long an engine loads.
    loads: Duration,
    ready_at: Moment,
    waiting: BTreeMap<PlaceId, Request>,
    /// Admitted, and without an engine so far; in order.
    acquiring: VecDeque<(PlaceId, Request)>,
    in_flight: BTreeMap<PlaceId, Flight>,
    launch: u64,
    killed: BTreeMap<u64, Vec<Moment>>,
    answered: u32,
    refused: u32,
    lost: u32,
    given_up: u32,
    waited_most: Duration,
}

fn suspect(body: u64) -> Suspect {
    Suspect { model: "smol".to_owned(), body }
}

impl World {
    fn new(poisons: BTreeMap<u64, Duration>, loads: Duration) -> Self {
        Self {
            now: Moment::ZERO,
            lane: Lane::default(),
            suspects: Suspects::default(),
            poisons,
            loads,
            ready_at: Moment::ZERO,
            waiting: BTreeMap::new(),
            acquiring: VecDeque::new(),
            in_flight: BTreeMap::new(),
            launch: 0,
            killed: BTreeMap::new(),
            answered: 0,
            refused: 0,
            lost: 0,
            given_up: 0,
            waited_most: Duration::ZERO,
        }
    }

    fn kind(&mut self, body: u64) -> Option<Kind> {
        match self.suspects.verdict(self.now, &suspect(body)) {
            Verdict::Free => Some(Kind::Free),
            Verdict::Suspect => Some(Kind::Suspect),
            Verdict::Alone => Some(Kind::Alone),
            Verdict::Refused(..) => None,
        }
    }

    fn arrive(&mut self, request: Request) {
        let Some(kind) = self.kind(request.body) else {
            assert!(self.poisons.contains_key(&request.body), "{} is innocent", request.body);
            self.refused += 1;
            return;
        };
        let id = self.lane.arrive(kind, request.arrived);
        self.waiting.insert(id, Request { kind, ..request });
    }

    /// Everything that happens without any time.
    fn settle(&mut self) {
        loop {
            let admitted = self.lane.advance(self.now);
            for id in &admitted {
                let request = self.waiting.remove(id).unwrap();
                self.acquiring.push_back((*id, request));
            }
            let next = (self.ready_at <= self.now).then(|| self.acquiring.pop_front()).flatten();
            match next {
                Some((id, request)) => self.send(id, request),
                None if admitted.is_empty() => return,
                None => {}
            }
        }
    }

    fn send(&mut self, id: PlaceId, request: Request) {
        if self.kind(request.body) != Some(request.kind) || !self.lane.enter(id, request.kind) {
            self.lane.leave(id);
            self.arrive(request);
            return;
        }
        if self.lane.is_solitary(id) {
            assert!(self.in_flight.is_empty(), "it is alone");
        }
        self.waited_most = self.waited_most.max(self.now.since(request.arrived));
        let request = Request { sent: request.sent + 1, ..request };
        let trial_ends = self.lane.trial(id).map(|trial| self.now + trial);
        self.in_flight.insert(id, Flight { request, since: self.now, gone_until: None, trial_ends });
    }

    /// The next moment at which something happens by itself, and to whom.
    fn next(&self) -> Option<(Moment, Option<PlaceId>)> {
        let of_requests = self.in_flight.iter().flat_map(|(id, flight)| {
            let kills = self.poisons.get(&flight.request.body).copied();
            let ends = flight.gone_until.unwrap_or(flight.since + flight.request.takes);
            let ends = kills.map_or(ends, |kills| {
                (flight.since + kills).min(flight.gone_until.unwrap_or(flight.since + kills))
            });
            [Some(ends), flight.trial_ends].into_iter().flatten().map(|at| (at, Some(*id)))
        });
        let ready = (!self.acquiring.is_empty()).then_some((self.ready_at, None));
        let due = self.lane.due().map(|due| (due, None));
        of_requests.chain(ready).chain(due).min_by_key(|(at, id)| (*at, id.is_some()))
    }

    fn pass(&mut self, until: Moment) {
        self.settle();
        while let Some((at, who)) = self.next().filter(|(at, _)| *at <= until) {
            assert!(at >= self.now);
            self.now = at;
            if let Some(id) = who {
                self.happens(id);
            }
            self.settle();
            assert!(self.lane.due().is_none_or(|due| due > self.now), "it is looked at for ever");
        }
        self.now = until;
    }

    fn happens(&mut self, id: PlaceId) {
        let flight = self.in_flight[&id];
        let body = flight.request.body;
        if self.poisons.get(&body).is_some_and(|kills| flight.since + *kills <= self.now) {
            return self.die(body);
        }
        if let Some(until) = flight.gone_until {
            if until <= self.now {
                self.in_flight.remove(&id);
                self.lane.leave(id);
                return;
            }
        } else if flight.since + flight.request.takes <= self.now {
            self.in_flight.remove(&id);
            self.suspects.pass(&suspect(body), "r1");
            self.lane.leave(id);
            self.answered += 1;
            return;
        }
        self.lane.make_way(id);
        self.in_flight.get_mut(&id).unwrap().trial_ends = None;
    }

    fn die(&mut self, of: u64) {
        self.launch += 1;
        self.ready_at = self.now + self.loads;
        self.killed.entry(of).or_default().push(self.now);
        let all: Vec<_> = std::mem::take(&mut self.in_flight).into_iter().collect();
        let leases = all.iter().filter(|(_, flight)| flight.gone_until.is_none()).count();
        let sights: Vec<bool> = all
            .iter()
            .map(|(id, flight)| {
                let is_alone = leases <= 1 && flight.gone_until.is_none() && !self.lane.has_gone_others(*id);
                is_alone || self.lane.is_solitary(*id)
            })
            .collect();
        // Each one tells for itself, and leaves.
        for ((id, flight), is_lone) in all.iter().zip(sights) {
            let request = flight.request;
            let death = Death {
                id: self.launch.to_string(),
                runtime: "r1".to_owned(),
                at: WallTime::from_millis(0),
                detail: "crashed".to_owned(),
                is_lone,
                told_by: None,
            };
            self.suspects.note(self.now, suspect(request.body), death);
            self.lane.leave(*id);
            if flight.gone_until.is_some() {
                continue;
            }
            if is_lone || request.sent == 2 {
                self.lost += 1;
            } else {
                self.arrive(request);
            }
        }
    }

    fn give_up(&mut self) {
        let waits = self.waiting.keys().next().copied();
        let acquires = || self.acquiring.front().map(|(id, _)| *id);
        if let Some(id) = waits.or_else(acquires) {
            self.waiting.remove(&id);
            self.acquiring.retain(|(acquiring, _)| *acquiring != id);
            self.lane.leave(id);
        } else if let Some((id, flight)) = self.in_flight.iter_mut().find(|(_, it)| it.gone_until.is_none()) {
            flight.gone_until = Some(self.now + GONE_WATCHED);
            self.lane.go(*id);
        } else {
            return;
        }
        self.given_up += 1;
    }
}

fn any_step(takes_max: u64) -> impl Strategy<Value = Step> {
    let arrive =
        (0_u64..24, 50..takes_max).prop_map(|(body, takes)| Step::Arrive(body, Duration::from_millis(takes)));
    let pass = (0_u64..4_000).prop_map(|millis| Step::Pass(Duration::from_millis(millis)));
    prop_oneof![4 => arrive, 2 => pass, 1 => Just(Step::GiveUp)]
}

fn any_poisons() -> impl Strategy<Value = BTreeMap<u64, Duration>> {
    let kills = (0_u64..500).prop_map(Duration::from_millis);
    prop::collection::btree_map(0_u64..5, kills, 0..4)
}

fn run(steps: &[Step], mut world: World, kills_max: usize) -> World {
    let mut arrived = 0;
    for step in steps {
        match *step {
            Step::Arrive(body, takes) => {
                arrived += 1;
                world.arrive(Request { body, takes, kind: Kind::Free, sent: 0, arrived: world.now });
            }
            Step::Pass(span) => world.pass(world.now + span),
            Step::GiveUp => world.give_up(),
        }
        world.settle();
    }
    // Nobody comes any more: everybody gets through within the time that all answers take one by one.
    world.pass(world.now + Duration::from_secs(14_400));
    let is_over = world.waiting.is_empty() && world.acquiring.is_empty() && world.in_flight.is_empty();
    assert!(is_over, "somebody waits for ever");
    assert_eq!(world.answered + world.refused + world.lost + world.given_up, arrived);
    for (body, killed) in &world.killed {
        for first in killed {
            let is_remembered = |at: &&Moment| **at >= *first && at.since(*first) < Duration::from_secs(600);
            let kills = killed.iter().filter(is_remembered).count();
            assert!(kills <= kills_max, "{body} killed {kills}");
        }
    }
    world
}

fn any_world(loads_max: u64) -> impl Strategy<Value = World> {
    let loads = (0..loads_max).prop_map(Duration::from_millis);
    (any_poisons(), loads).prop_map(|(poisons, loads)| World::new(poisons, loads))
}

proptest! {
    /// HTTP-22: however many kill engines beside however many that do not, whose answers are short.
    #[test]
    fn what_kills_does_so_twice_at_most_and_no_innocent_is_refused(
        steps in prop::collection::vec(any_step(800), 0..120),
        world in any_world(3_000),
    ) {
        run(&steps, world, 2);
    }

    /// HTTP-22: a few at once, whose answers are not longer than a trial.
    #[test]
    fn what_kills_among_few_does_so_twice_at_most(
        steps in prop::collection::vec(any_step(8_000), 0..7),
        world in any_world(3_000),
    ) {
        run(&steps, world, 2);
    }

    /// HTTP-22: where others could not be kept away, because answers are long or engines load for long, it is
    /// once more.
    #[test]
    fn beside_long_answers_what_kills_does_so_three_times_at_most(
        steps in prop::collection::vec(any_step(90_000), 0..120),
        world in any_world(30_000),
    ) {
        run(&steps, world, 3);
    }
}

/// HTTP-22: a server that ARW does not run may have hundreds in flight when it goes away. Whatever their
/// answers take, all have their turn within a request's usual wait (120 s), and so has whoever comes
/// meanwhile.
#[test]
fn the_trials_of_many_take_two_minutes_at_most() {
    for (count, seconds) in [(6, 9), (7, 9), (20, 3), (64, 5), (200, 3), (500, 3), (500, 11), (60, 300)] {
        let mut world = World::new(BTreeMap::from([(0, Duration::ZERO)]), Duration::from_secs(5));
        let takes = Duration::from_secs(seconds);
        let steps: Vec<Step> = (1..=count).map(|body| Step::Arrive(body, takes)).collect();
        let steps = [steps, vec![Step::Arrive(0, takes), Step::Arrive(count + 1, takes)]].concat();
        world = run(&steps, world, 3);
        let waited = world.waited_most;
        assert!(waited < Duration::from_secs(115), "{count} × {seconds} s: {waited:?}");
    }
}

/// HTTP-22: a body that was there at many deaths, and goes alone each time, is asked for again and again.
#[test]
fn what_nothing_speaks_against_is_not_starved_by_suspects() {
    let mut world = World::new(BTreeMap::new(), Duration::ZERO);
    for launch in 0..4_u32 {
        let death = Death {
            id: launch.to_string(),
            runtime: "r1".to_owned(),
            at: WallTime::from_millis(0),
            detail: "crashed".to_owned(),
            is_lone: false,
            told_by: None,
        };
        world.suspects.note(world.now, suspect(1), death);
    }
    let request =
        |body, now| Request { body, takes: Duration::from_secs(1), kind: Kind::Free, sent: 0, arrived: now };
    for second in 0..300 {
        // Three clients loop.
        while world.waiting.values().filter(|request| request.body == 1).count() < 3 {
            world.arrive(request(1, world.now));
        }
        if second == 5 {
            world.arrive(request(2, world.now));
        }
        world.pass(world.now + Duration::from_secs(1));
        world.arrive(request(1, world.now));
    }
    assert!(world.waiting.values().all(|request| request.body == 1), "it has had its turn");
    let others = world.in_flight.values().filter(|flight| flight.request.body == 2).count();
    assert_eq!(others, 0);
}
