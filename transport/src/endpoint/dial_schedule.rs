//! Whom this node dials, where and when.
//!
//! ```text
//! waiting ── due ──► dialing ── connected ──► connected
//!    ▲                  │                         │
//!    └──── failed ◄─────┘◄──────── lost ──────────┘
//! ```
//!
//! Owns the wait between attempts and the order of a peer's addresses. One attempt per peer at a time. Refuses to know sockets, and where chance
//! comes from.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use arw_actors::moment::Moment;

use crate::handshake::HelloFailure;
use crate::identity::NodeId;

/// The first wait: a peer that restarts is back after a few of them.
const WAIT_FIRST: Duration = Duration::from_millis(50);

/// The longest wait between attempts that may succeed any time: a peer that comes back is met within two seconds, and a thousand absent
/// peers cost five hundred packets a second.
const WAIT_MAX: Duration = Duration::from_secs(2);

/// The wait after a verdict: only a person can change it.
const WAIT_AFTER_VERDICT: Duration = Duration::from_secs(30);

/// How long a peer may take whose own connection is said to come.
const WAIT_FOR_INCOMING: Duration = Duration::from_secs(2);

/// WIRE-17: how long a node leaves the first word to one with a lower id, of two that hear of each other: some round trips over any distance.
const OTHER_DIALS_FIRST: Duration = Duration::from_millis(300);

/// For so long at most a node leaves the first word while others dial it. Where many come at once the one that it waits for is busy with others: if both dial
/// each other all the same, half of all handshakes are for nothing.
const OTHER_DIALS_WITHIN: Duration = Duration::from_secs(10);

/// A success that took longer shows that somebody is busy with handshakes: more at the same time would only make each take longer.
const SLOW: Duration = Duration::from_millis(500);

/// Peers that are dialed at the same time at first, and at least. Each quick success allows one more, each slow one one less, each silence half as many: where computing the handshakes of
/// all at once takes longer than an attempt may, all of them fail, again and again.
const DIALING_FIRST: usize = 4;
const DIALING_LEAST: usize = 2;

/// After so long without an answer an attempt's first packet was lost, most likely because the peer was not up yet.
const UNHEARD: Duration = Duration::from_millis(300);

/// Addresses that are tried of one peer: what it was configured with, where it says that it is, where it was seen.
const ADDRESSES_MAX: usize = 8;

/// What is known of the way to one peer.
#[derive(Clone, Debug)]
pub(super) struct Route {
    pub(super) addresses: Vec<SocketAddr>,
    pub(super) failures: u32,
    pub(super) last_failure: Option<HelloFailure>,
    /// Which address comes next.
    turn: usize,
    /// Until then the first word is the peer's, as long as others dial.
    yields_until: Option<Moment>,
    state: State,
}

/// What ends a peer's wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum News {
    /// Nothing new.
    None,
    /// The peer is there: dial it at once.
    Here,
    /// It is there, and hears of this node too: the first word is its own.
    HereAndDials,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Waiting { until: Moment },
    Dialing(Attempt),
    Connected,
}

/// One attempt. Its number tells it from others to the same peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Attempt {
    pub(super) number: u64,
    pub(super) peer: NodeId,
    pub(super) address: SocketAddr,
    since: Moment,
}

impl Route {
    /// When it is dialed next; `None` while it is dialed or connected.
    pub(super) fn next_at(&self) -> Option<Moment> {
        match self.state {
            State::Waiting { until } => Some(until),
            State::Dialing(_) | State::Connected => None,
        }
    }

    /// WIRE-17: it waits on for the peer's own dial, until it has been `quiet` for a while.
    fn yield_until(&mut self, now: Moment, quiet_at: Option<Moment>) {
        if let (State::Waiting { until }, Some(quiet), Some(last)) =
            (&mut self.state, quiet_at, self.yields_until)
            && *until <= now
            && now < last
        {
            *until = quiet.min(last);
        }
    }
}

/// Every peer that this node wants a connection with.
#[derive(Debug)]
pub(super) struct DialSchedule {
    routes: BTreeMap<NodeId, Route>,
    dialing: usize,
    dialing_allowed: usize,
    dialing_max: usize,
    attempts: u64,
    /// When a peer has last dialed this node.
    came_at: Option<Moment>,
    /// The earliest of all waits, so that nobody has to look through them in vain.
    next: Option<Moment>,
}

impl DialSchedule {
    /// At most `dialing_max` peers are dialed at the same time.
    pub(super) fn new(dialing_max: usize) -> Self {
        let dialing_allowed = DIALING_FIRST.min(dialing_max);
        Self {
            routes: BTreeMap::new(),
            dialing: 0,
            dialing_allowed,
            dialing_max,
            attempts: 0,
            came_at: None,
            next: None,
        }
    }

    /// WIRE-17: a connection with `peer` is wanted. The newest address is tried first. News of the peer shorten its wait.
    pub(super) fn want(&mut self, now: Moment, peer: NodeId, address: SocketAddr, news: News) {
        let wait = if news == News::HereAndDials { OTHER_DIALS_FIRST } else { Duration::ZERO };
        let route = self.routes.entry(peer).or_insert(Route {
            addresses: Vec::new(),
            failures: 0,
            last_failure: None,
            turn: 0,
            yields_until: None,
            state: State::Waiting { until: now + wait },
        });
        if news != News::None || route.addresses.first() != Some(&address) {
            route.turn = 0;
        }
        route.addresses.retain(|known| *known != address);
        route.addresses.insert(0, address);
        route.addresses.truncate(ADDRESSES_MAX);
        if news != News::None {
            route.failures = 0;
            if let State::Waiting { until } = &mut route.state {
                *until = (now + wait).min(*until);
                if news == News::HereAndDials {
                    route.yields_until.get_or_insert(now + OTHER_DIALS_WITHIN);
                }
            }
        }
        self.refresh();
    }

    /// It is not wanted any more. An attempt that runs is not ended by that, its outcome is ignored.
    pub(super) fn unwant(&mut self, peer: NodeId) {
        if self.routes.remove(&peer).is_some_and(|route| matches!(route.state, State::Dialing(_))) {
            self.dialing -= 1;
        }
        self.refresh();
    }

    pub(super) fn is_wanted(&self, peer: NodeId) -> bool {
        self.routes.contains_key(&peer)
    }

    pub(super) fn is_dialing(&self, peer: NodeId) -> bool {
        self.routes.get(&peer).is_some_and(|route| matches!(route.state, State::Dialing(_)))
    }

    /// Who is to be dialed now, and where. Each of them is dialing from here on.
    pub(super) fn due(&mut self, now: Moment) -> Vec<Attempt> {
        let mut due = Vec::new();
        // It is asked after every step, thousands of times per second where many meet: nobody looks through all routes in vain.
        let room = self.dialing_allowed.saturating_sub(self.dialing);
        if room == 0 || self.next.is_none_or(|next| next > now) {
            return due;
        }
        let quiet_at = self.came_at.map(|came| came + OTHER_DIALS_FIRST).filter(|quiet| *quiet > now);
        let mut waiting: Vec<(Moment, NodeId)> = Vec::new();
        for (peer, route) in &mut self.routes {
            route.yield_until(now, quiet_at);
            waiting.extend(route.next_at().filter(|until| *until <= now).map(|until| (until, *peer)));
        }
        // Who has waited for longest comes first, so that silent ones cannot keep the others waiting for ever.
        waiting.sort_unstable();
        for (_, peer) in waiting.into_iter().take(room) {
            let Some(route) = self.routes.get_mut(&peer) else { continue };
            let Some(&address) = route.addresses.get(route.turn % route.addresses.len().max(1)) else {
                continue;
            };
            route.turn += 1;
            route.yields_until = None;
            self.attempts += 1;
            let attempt = Attempt { number: self.attempts, peer, address, since: now };
            route.state = State::Dialing(attempt);
            due.push(attempt);
        }
        self.dialing += due.len();
        self.refresh();
        due
    }

    /// The peer itself has dialed from `address`, and was refused because this node is dialing it. An attempt that goes elsewhere, or that the peer cannot
    /// have heard of for long, gives way to a new one, which is returned.
    pub(super) fn heard_from(&mut self, now: Moment, peer: NodeId, address: SocketAddr) -> Option<Attempt> {
        let route = self.routes.get_mut(&peer)?;
        let State::Dialing(attempt) = &mut route.state else { return None };
        if attempt.address == address && now.since(attempt.since) < UNHEARD {
            return None;
        }
        self.attempts += 1;
        *attempt = Attempt { number: self.attempts, peer, address, since: now };
        Some(*attempt)
    }

    /// The attempt came to nothing. `chance` is 0 to 255, drawn anew each time.
    pub(super) fn failed(&mut self, now: Moment, attempt: Attempt, failure: HelloFailure, chance: u8) {
        if failure == HelloFailure::Unreachable {
            self.dialing_allowed = (self.dialing_allowed / 2).max(DIALING_LEAST.min(self.dialing_max));
        }
        self.ended(attempt, |route| {
            let wait = if failure.is_passing() { doubled(route.failures) } else { WAIT_AFTER_VERDICT };
            route.failures = route.failures.saturating_add(1);
            route.last_failure = Some(failure);
            now + jittered(wait, chance)
        });
    }

    /// The attempt was given up for the peer's own, which is on its way.
    pub(super) fn waits_for_incoming(&mut self, now: Moment, attempt: Attempt, chance: u8) {
        self.ended(attempt, |_| now + jittered(WAIT_FOR_INCOMING, chance));
    }

    fn ended(&mut self, attempt: Attempt, until: impl FnOnce(&mut Route) -> Moment) {
        let Some(route) = self.routes.get_mut(&attempt.peer) else { return };
        match route.state {
            State::Dialing(running) if running.number == attempt.number => {}
            State::Dialing(_) | State::Waiting { .. } | State::Connected => return,
        }
        route.state = State::Waiting { until: until(route) };
        self.dialing -= 1;
        self.refresh();
    }

    /// There is a connection, whoever dialed it.
    pub(super) fn connected(&mut self, now: Moment, peer: NodeId) {
        let Some(route) = self.routes.get_mut(&peer) else { return };
        match route.state {
            State::Dialing(attempt) => {
                self.dialing -= 1;
                let least = DIALING_LEAST.min(self.dialing_max);
                self.dialing_allowed = if now.since(attempt.since) > SLOW {
                    self.dialing_allowed.saturating_sub(1).max(least)
                } else {
                    (self.dialing_allowed + 1).min(self.dialing_max)
                };
            }
            State::Waiting { .. } => self.came_at = Some(now),
            State::Connected => {}
        }
        route.yields_until = None;
        route.state = State::Connected;
        route.failures = 0;
        route.turn = 0;
        route.last_failure = None;
        self.refresh();
    }

    /// The connection is gone. When the peer said that it will dial itself, it gets the time to.
    pub(super) fn lost(&mut self, now: Moment, peer: NodeId, peer_dials: bool, chance: u8) {
        let Some(route) = self.routes.get_mut(&peer).filter(|route| route.state == State::Connected) else {
            return;
        };
        let wait = if peer_dials { WAIT_FOR_INCOMING } else { WAIT_FIRST };
        route.state = State::Waiting { until: now + jittered(wait, chance) };
        self.refresh();
    }

    fn refresh(&mut self) {
        self.next = self.routes.values().filter_map(Route::next_at).min();
    }

    /// When [`DialSchedule::due`] has something to say next.
    pub(super) fn next_deadline(&self) -> Option<Moment> {
        self.next.filter(|_| self.dialing < self.dialing_allowed)
    }

    pub(super) fn routes(&self) -> impl Iterator<Item = (&NodeId, &Route)> {
        self.routes.iter()
    }
}

/// 50 ms, 100, 200 … 2 s.
fn doubled(failures: u32) -> Duration {
    WAIT_FIRST.saturating_mul(1 << failures.min(16)).min(WAIT_MAX)
}

/// Between half of `wait` and all of it: nodes that lost the same peer must not come back in step.
fn jittered(wait: Duration, chance: u8) -> Duration {
    wait / 2 + wait / 2 * u32::from(chance) / 255
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::HelloRefusal;

    fn node(byte: u8) -> NodeId {
        NodeId::from_bytes([byte; 32])
    }

    fn at(port: u16) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, 1], port))
    }

    fn ms(ms: u64) -> Moment {
        Moment::ZERO + Duration::from_millis(ms)
    }

    fn dialed(attempts: &[Attempt]) -> Vec<(NodeId, u16)> {
        attempts.iter().map(|attempt| (attempt.peer, attempt.address.port())).collect()
    }

    #[test]
    fn the_wait_doubles_up_to_two_seconds_and_never_ends() {
        // WIRE-17
        let mut schedule = DialSchedule::new(8);
        let mut now = ms(0);
        schedule.want(now, node(1), at(1), News::None);
        let mut waits = Vec::new();
        for _ in 0..100 {
            let due = schedule.due(now);
            assert_eq!(dialed(&due), [(node(1), 1)]);
            assert_eq!(schedule.due(now), [], "one attempt at a time");
            schedule.failed(now, due[0], HelloFailure::Unreachable, 255);
            let next = schedule.next_deadline().unwrap();
            waits.push(next.since(now).as_millis());
            now = next;
        }
        assert_eq!(waits[..7], [50, 100, 200, 400, 800, 1_600, 2_000]);
        assert!(waits[7..].iter().all(|wait| *wait == 2_000));
    }

    #[test]
    fn news_that_both_sides_get_leave_the_first_word_to_one_of_them() {
        // WIRE-17
        let mut schedule = DialSchedule::new(8);
        schedule.want(ms(0), node(1), at(1), News::HereAndDials);
        assert_eq!(schedule.next_deadline(), Some(ms(300)));
        schedule.want(ms(100), node(1), at(1), News::HereAndDials);
        assert_eq!(schedule.next_deadline(), Some(ms(300)), "more news put nothing off");
        schedule.connected(ms(100), node(1));
        assert_eq!(schedule.next_deadline(), None);
    }

    #[test]
    fn the_first_word_is_left_for_longer_while_others_dial() {
        // WIRE-17
        let mut schedule = DialSchedule::new(8);
        schedule.want(ms(0), node(1), at(1), News::HereAndDials);
        for step in 1..100 {
            let other = node(100 + u8::try_from(step).unwrap());
            let now = ms(100 * step);
            schedule.want(now, other, at(9), News::None);
            schedule.connected(now, other);
            assert_eq!(schedule.due(now), [], "others come: {step}");
        }
        assert_eq!(schedule.next_deadline(), Some(ms(10_000)), "not for ever");
        assert_eq!(dialed(&schedule.due(ms(10_000))), [(node(1), 1)]);
        schedule.want(ms(10_000), node(2), at(2), News::HereAndDials);
        assert_eq!(dialed(&schedule.due(ms(10_300))), [(node(2), 2)], "nobody comes any more");
        schedule.want(ms(10_300), node(3), at(3), News::None);
        assert_eq!(schedule.due(ms(10_300)).len(), 1, "who is known from before is dialed at once");
    }

    #[test]
    fn silence_halves_how_many_are_dialed_and_quick_success_allows_more() {
        // WIRE-17
        let mut schedule = DialSchedule::new(64);
        for peer in 1..=60 {
            schedule.want(ms(0), node(peer), at(u16::from(peer)), News::None);
        }
        let first = schedule.due(ms(0));
        assert_eq!(first.len(), DIALING_FIRST);
        for attempt in &first {
            schedule.failed(ms(2_000), *attempt, HelloFailure::Unreachable, 255);
        }
        let second = schedule.due(ms(2_100));
        assert_eq!(second.len(), DIALING_LEAST);
        let first: Vec<NodeId> = first.iter().map(|attempt| attempt.peer).collect();
        assert!(
            second.iter().all(|attempt| !first.contains(&attempt.peer)),
            "who waits for longer comes first"
        );
        for attempt in second {
            schedule.connected(ms(2_200), attempt.peer);
        }
        let third = schedule.due(ms(2_200));
        assert_eq!(third.len(), 2 * DIALING_LEAST);
        for attempt in third {
            schedule.connected(ms(2_800), attempt.peer);
        }
        assert_eq!(schedule.due(ms(2_800)).len(), DIALING_LEAST, "whoever is slow has enough to do");
    }

    #[test]
    fn chance_halves_a_wait_at_most() {
        assert_eq!(jittered(WAIT_MAX, 0), WAIT_MAX / 2);
        assert_eq!(jittered(WAIT_MAX, 255), WAIT_MAX);
    }

    #[test]
    fn a_verdict_is_asked_for_again_only_after_half_a_minute() {
        // WIRE-17
        let mut schedule = DialSchedule::new(8);
        schedule.want(ms(0), node(1), at(1), News::None);
        let due = schedule.due(ms(0));
        schedule.failed(ms(0), due[0], HelloFailure::Refused(HelloRefusal::Removed), 255);
        assert_eq!(schedule.next_deadline(), Some(ms(30_000)));
        schedule.want(ms(5), node(1), at(2), News::Here);
        assert_eq!(
            dialed(&schedule.due(ms(5))),
            [(node(1), 2)],
            "news of the peer is a reason to ask at once"
        );
    }

    #[test]
    fn each_attempt_takes_the_next_address_and_the_newest_comes_first() {
        let mut schedule = DialSchedule::new(8);
        schedule.want(ms(0), node(1), at(1), News::None);
        schedule.want(ms(0), node(1), at(2), News::None);
        let mut tried = Vec::new();
        for step in 0..3 {
            let now = ms(10_000 * step);
            let due = schedule.due(now);
            tried.extend(dialed(&due).into_iter().map(|(_, port)| port));
            schedule.failed(now, due[0], HelloFailure::Unreachable, 0);
        }
        assert_eq!(tried, [2, 1, 2]);
        for port in 0..100 {
            schedule.want(ms(0), node(1), at(port), News::None);
        }
        assert_eq!(schedule.routes().next().unwrap().1.addresses.len(), ADDRESSES_MAX);
    }

    #[test]
    fn a_lost_connection_is_dialed_again_and_a_held_one_is_not() {
        let mut schedule = DialSchedule::new(8);
        schedule.want(ms(0), node(1), at(1), News::None);
        let due = schedule.due(ms(0));
        schedule.connected(ms(0), node(1));
        schedule.want(ms(1), node(1), at(1), News::Here);
        assert_eq!(schedule.next_deadline(), None);
        schedule.failed(ms(2), due[0], HelloFailure::Unreachable, 0);
        assert_eq!(
            schedule.next_deadline(),
            None,
            "an attempt that lost against another one changes nothing"
        );
        schedule.lost(ms(10), node(1), false, 255);
        assert_eq!(schedule.due(ms(59)), []);
        assert_eq!(dialed(&schedule.due(ms(60))), [(node(1), 1)]);
        schedule.connected(ms(0), node(1));
        schedule.lost(ms(60), node(1), true, 255);
        assert_eq!(schedule.next_deadline(), Some(ms(2_060)), "it said that it comes");
    }

    #[test]
    fn a_peer_that_dials_shows_that_an_attempt_goes_astray() {
        // WIRE-17
        let mut schedule = DialSchedule::new(8);
        schedule.want(ms(0), node(1), at(1), News::None);
        let first = schedule.due(ms(0))[0];
        assert_eq!(schedule.heard_from(ms(100), node(1), at(1)), None, "both dialed at once: ours arrives");
        let second = schedule.heard_from(ms(100), node(1), at(2)).unwrap();
        assert_eq!(second.address, at(2));
        let third = schedule.heard_from(ms(400), node(1), at(2)).unwrap();
        schedule.failed(ms(500), first, HelloFailure::Unreachable, 0);
        schedule.failed(ms(500), second, HelloFailure::Unreachable, 0);
        assert!(schedule.is_dialing(node(1)), "the outcome of an attempt that was replaced means nothing");
        schedule.failed(ms(500), third, HelloFailure::Unreachable, 255);
        assert_eq!(schedule.next_deadline(), Some(ms(550)));
        assert_eq!(schedule.heard_from(ms(500), node(1), at(2)), None);
    }

    #[test]
    fn no_more_are_dialed_at_once_than_allowed_and_the_rest_follows() {
        let mut schedule = DialSchedule::new(2);
        for peer in 1..=5 {
            schedule.want(ms(0), node(peer), at(u16::from(peer)), News::None);
        }
        assert_eq!(schedule.due(ms(0)).len(), 2);
        assert_eq!(schedule.due(ms(0)), []);
        assert_eq!(schedule.next_deadline(), None);
        schedule.connected(ms(0), node(1));
        let third = schedule.due(ms(0));
        assert_eq!(dialed(&third), [(node(3), 3)]);
        schedule.unwant(node(2));
        assert_eq!(dialed(&schedule.due(ms(0))), [(node(4), 4)]);
        schedule.waits_for_incoming(ms(0), third[0], 255);
        assert_eq!(dialed(&schedule.due(ms(0))), [(node(5), 5)]);
        assert!(schedule.is_wanted(node(3)) && !schedule.is_wanted(node(2)) && !schedule.is_dialing(node(3)));
    }
}
