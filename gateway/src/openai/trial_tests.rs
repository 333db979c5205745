//! HTTP-22: the table of suspects and a model's lane together, in a world of engines that die of some bodies.

use std::collections::BTreeMap;
use std::time::Duration;

use arw_actors::moment::{Moment, WallTime};
use proptest::prelude::*;

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
    verdict: Kind,
    /// How often it has been sent.
    sent: u32,
}

struct World {
    now: Moment,
    lane: Lane,
    suspects: Suspects,
    /// Bodies below kill: this long after they were sent.
    poisons: BTreeMap<u64, Duration>,
    waiting: BTreeMap<PlaceId, Request>,
    in_flight: BTreeMap<PlaceId, (Request, Moment)>,
    launch: u64,
    killed: BTreeMap<u64, Vec<Moment>>,
    answered: u32,
    refused: u32,
    lost: u32,
    given_up: u32,
}

fn suspect(body: u64) -> Suspect {
    Suspect { model: "smol".to_owned(), body }
}

impl World {
    fn new(poisons: BTreeMap<u64, Duration>) -> Self {
        Self {
            now: Moment::ZERO,
            lane: Lane::default(),
            suspects: Suspects::default(),
            poisons,
            waiting: BTreeMap::new(),
            in_flight: BTreeMap::new(),
            launch: 0,
            killed: BTreeMap::new(),
            answered: 0,
            refused: 0,
            lost: 0,
            given_up: 0,
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
        let Some(verdict) = self.kind(request.body) else {
            assert!(self.poisons.contains_key(&request.body), "{} is innocent", request.body);
            self.refused += 1;
            return;
        };
        let id = self.lane.arrive(verdict);
        self.waiting.insert(id, Request { verdict, ..request });
    }

    /// Everything that happens without any time.
    fn settle(&mut self) {
        loop {
            let admitted = self.lane.advance(self.now);
            if admitted.is_empty() {
                break;
            }
            for id in admitted {
                let request = self.waiting.remove(&id).unwrap();
                if self.kind(request.body) != Some(request.verdict) || !self.lane.enter(id) {
                    self.lane.leave(id);
                    self.arrive(request);
                    continue;
                }
                if self.lane.is_solitary(id) {
                    assert!(self.in_flight.is_empty(), "it is alone");
                }
                self.in_flight.insert(id, (Request { sent: request.sent + 1, ..request }, self.now));
            }
        }
    }

    /// The next moment at which something happens by itself, and to whom.
    fn next(&self) -> Option<(Moment, Option<PlaceId>)> {
        let of_requests = self.in_flight.iter().flat_map(|(id, (request, since))| {
            let ends = self.poisons.get(&request.body).map_or(request.takes, |kills| *kills);
            let trial = self.lane.trial(*id).map(|trial| *since + trial);
            [Some(*since + ends), trial.filter(|over| *over > self.now)]
                .into_iter()
                .flatten()
                .map(|at| (at, Some(*id)))
        });
        of_requests.chain(self.lane.due().map(|due| (due, None))).min_by_key(|(at, id)| (*at, id.is_some()))
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
        let (request, since) = self.in_flight[&id];
        let ran = self.now.since(since);
        if self.poisons.get(&request.body).is_some_and(|kills| *kills <= ran) {
            return self.die(request.body);
        }
        if ran >= request.takes {
            self.in_flight.remove(&id);
            self.suspects.pass(&suspect(request.body));
            self.lane.leave(id);
            self.answered += 1;
            return;
        }
        self.lane.make_way(id);
    }

    fn die(&mut self, of: u64) {
        self.launch += 1;
        self.killed.entry(of).or_default().push(self.now);
        let all: Vec<_> = std::mem::take(&mut self.in_flight).into_iter().collect();
        // Each one tells for itself, and leaves.
        for (id, (request, _)) in &all {
            let is_lone = all.len() == 1 || self.lane.is_solitary(*id);
            let death = Death {
                id: self.launch.to_string(),
                at: WallTime::from_millis(0),
                detail: "crashed".to_owned(),
                is_lone,
                told_by: None,
            };
            self.suspects.note(self.now, suspect(request.body), death);
            self.lane.leave(*id);
            if is_lone || request.sent == 2 {
                self.lost += 1;
            } else {
                self.arrive(*request);
            }
        }
    }

    fn give_up(&mut self) {
        let waits = self.waiting.keys().next().copied();
        let Some(id) = waits.or_else(|| self.in_flight.keys().next().copied()) else { return };
        self.waiting.remove(&id);
        self.in_flight.remove(&id);
        self.lane.leave(id);
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

fn run(steps: &[Step], poisons: BTreeMap<u64, Duration>, kills_max: usize) {
    let mut world = World::new(poisons);
    let mut arrived = 0;
    for step in steps {
        match *step {
            Step::Arrive(body, takes) => {
                arrived += 1;
                world.arrive(Request { body, takes, verdict: Kind::Free, sent: 0 });
            }
            Step::Pass(span) => world.pass(world.now + span),
            Step::GiveUp => world.give_up(),
        }
        world.settle();
    }
    // Nobody comes any more: everybody gets through within the time that all answers take one by one.
    world.pass(world.now + Duration::from_secs(7_200));
    assert!(world.waiting.is_empty() && world.in_flight.is_empty(), "somebody waits for ever");
    assert_eq!(world.answered + world.refused + world.lost + world.given_up, arrived);
    for (body, killed) in &world.killed {
        for first in killed {
            let remembered =
                killed.iter().filter(|at| **at >= *first && at.since(*first) < Duration::from_secs(600));
            let kills = remembered.count();
            assert!(kills <= kills_max, "{body} killed {kills}");
        }
    }
}

proptest! {
    /// HTTP-22: however many kill engines beside however many that do not.
    #[test]
    fn what_kills_does_so_twice_at_most_and_no_innocent_is_refused(
        steps in prop::collection::vec(any_step(8_000), 0..120),
        poisons in any_poisons(),
    ) {
        run(&steps, poisons, 2);
    }

    /// HTTP-22: where others could not be kept away, because their answers are long, it is once more.
    #[test]
    fn beside_long_answers_what_kills_does_so_three_times_at_most(
        steps in prop::collection::vec(any_step(90_000), 0..120),
        poisons in any_poisons(),
    ) {
        run(&steps, poisons, 3);
    }
}
