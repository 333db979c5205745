//! Whom this node dials, where and when.
//!
//! ```text
//! waiting ── due ──► dialing ── connected ──► connected
//!    ▲                  │                         │
//!    └──── failed ◄─────┘◄──────── lost ──────────┘
//! ```
//!
//! Owns the wait between attempts and the order of a peer's addresses. One attempt per peer at a time.
//! Refuses to know sockets, and where chance comes from.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use arw_kit::moment::Moment;

use crate::handshake::HelloFailure;
use crate::identity::NodeId;

/// The first wait: a peer that restarts is back after a few of them.
const WAIT_FIRST: Duration = Duration::from_millis(50);

/// The longest wait between attempts that may succeed any time: a peer that comes back is met within two
/// seconds, and a thousand absent peers cost five hundred packets a second.
const WAIT_MAX: Duration = Duration::from_secs(2);

/// The wait after a verdict: only a person can change it.
const WAIT_AFTER_VERDICT: Duration = Duration::from_secs(30);

/// How long a peer may take whose own connection is said to come.
const WAIT_FOR_INCOMING: Duration = Duration::from_secs(2);

/// WIRE-17: how long a node leaves the first word to one with a lower id, of two that hear of each other:
/// some round trips over any distance.
const OTHER_DIALS_FIRST: Duration = Duration::from_millis(300);

/// For so long at most a node leaves the first word while others dial it. Where many come at once the one
/// that it waits for is busy with others: if both dial each other all the same, half of all handshakes are
/// for nothing.
const OTHER_DIALS_WITHIN: Duration = Duration::from_secs(10);

/// A success that took longer shows that somebody is busy with handshakes: more at the same time would only
/// make each take longer.
const SLOW: Duration = Duration::from_millis(500);

/// Peers that are dialed at the same time at first, and at least. Each quick success allows one more, each
/// slow one one less, each silence half as many: where computing the handshakes of all at once takes longer
/// than an attempt may, all of them fail, again and again.
const DIALING_FIRST: usize = 4;
const DIALING_LEAST: usize = 2;

/// After so long without an answer an attempt's first packet was lost, most likely because the peer was not
/// up yet.
const UNHEARD: Duration = Duration::from_millis(300);

/// Addresses that are tried of one peer: what it was configured with, where it says that it is, where it was
/// seen.
const ADDRESSES_MAX: usize = 8;

/// What is known of the way to one peer.
#[derive(Clone, Debug)]
pub(super) struct Target {
    pub(super) addresses: Vec<SocketAddr>,
    pub(super) failures: u32,
    pub(super) last_failure: Option<HelloFailure>,
    /// Which address comes next.
    turn: usize,
    /// Until then the first word is the peer's, as long as others dial.
    yields_until: Option<Moment>,
    /// Others speak of it, and nobody has met it: it may be made up.
    is_stranger: bool,
    state: State,
}

/// What ends a peer's wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sighting {
    /// Nothing new.
    None,
    /// The peer is there: dial it at once.
    Here,
    /// It is there, and hears of this node too: the first word is its own.
    HereAndDials,
}

impl Sighting {
    /// How long the first word is left to the peer.
    fn wait(self) -> Duration {
        match self {
            Self::None | Self::Here => Duration::ZERO,
            Self::HereAndDials => OTHER_DIALS_FIRST,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Waiting { until: Moment },
    Dialing(DialAttempt),
    Connected,
}

/// One attempt. Its number tells it from others to the same peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct DialAttempt {
    pub(super) number: u64,
    pub(super) peer: NodeId,
    pub(super) address: SocketAddr,
    since: Moment,
    /// The one before had failed, and nothing was heard of the peer since.
    is_stale: bool,
}

impl Target {
    /// When it is dialed next; `None` while it is dialed or connected.
    pub(super) fn next_at(&self) -> Option<Moment> {
        match self.state {
            State::Waiting { until } => Some(until),
            State::Dialing(_) | State::Connected => None,
        }
    }

    /// WIRE-17: nothing was heard of the peer since an attempt failed. It may be switched off for a month.
    fn is_stale(&self) -> bool {
        self.failures > 0 || self.is_stranger
    }

    /// WIRE-17: news of the peer end its wait, and whatever was found out before.
    fn hear(&mut self, now: Moment, news: Sighting) {
        if news == Sighting::None {
            return;
        }
        self.failures = 0;
        if let State::Waiting { until } = &mut self.state {
            // A sighting begins the wait of one whose turn has come anew: the newest come first.
            *until = (now + news.wait()).min((*until).max(now));
            if news == Sighting::HereAndDials {
                self.yields_until.get_or_insert(now + OTHER_DIALS_WITHIN);
            }
        }
    }

    /// WIRE-17: until when it waits on for the peer's own dial, where others have been dialing until just
    /// now. `None`: its turn has come.
    fn yields(&self, now: Moment, quiet_at: Option<Moment>) -> Option<Moment> {
        let until = quiet_at?.min(self.yields_until?);
        (until > now).then_some(until)
    }
}

/// Every peer that this node wants a connection with.
#[derive(Debug)]
pub(super) struct DialSchedule {
    routes: BTreeMap<NodeId, Target>,
    /// The waits of routes that are not stale, and of those that are: whoever asks what is due looks through
    /// neither in vain. Both follow the routes, see [`DialSchedule::change`].
    fresh: Class,
    stale: Class,
    dialing_allowed: usize,
    dialing_max: usize,
    attempts: u64,
    /// Who is dialed before all others when its turn has come.
    preferred: Option<NodeId>,
    /// When a peer has last dialed this node.
    came_at: Option<Moment>,
}

/// Routes that compete for the same slots.
#[derive(Debug, Default)]
struct Class {
    waiting: BTreeSet<(Moment, NodeId)>,
    dialing: usize,
}

impl Class {
    fn next_at(&self) -> Option<Moment> {
        self.waiting.first().map(|(until, _)| *until)
    }

    fn has_due(&self, now: Moment) -> bool {
        self.next_at().is_some_and(|next| next <= now)
    }
}

impl DialSchedule {
    /// At most `dialing_max` peers are dialed at the same time.
    pub(super) fn new(dialing_max: usize) -> Self {
        let dialing_allowed = DIALING_FIRST.min(dialing_max);
        Self {
            routes: BTreeMap::new(),
            fresh: Class::default(),
            stale: Class::default(),
            dialing_allowed,
            dialing_max,
            attempts: 0,
            preferred: None,
            came_at: None,
        }
    }

    /// WIRE-17: of those that are due this one comes first: after a power cut most of the others may be off,
    /// and it knows everybody.
    pub(super) fn prefer(&mut self, peer: NodeId) {
        self.preferred = Some(peer);
    }

    /// Changes a route, and what is counted of it. `None`: there is none.
    fn change<T>(&mut self, peer: NodeId, change: impl FnOnce(&mut Target) -> T) -> Option<T> {
        let mut route = self.routes.remove(&peer)?;
        self.uncount(peer, &route);
        let changed = change(&mut route);
        match route.state {
            State::Waiting { until } if route.is_stale() => _ = self.stale.waiting.insert((until, peer)),
            State::Waiting { until } => _ = self.fresh.waiting.insert((until, peer)),
            State::Dialing(DialAttempt { is_stale: true, .. }) => self.stale.dialing += 1,
            State::Dialing(_) => self.fresh.dialing += 1,
            State::Connected => {}
        }
        self.routes.insert(peer, route);
        Some(changed)
    }

    fn uncount(&mut self, peer: NodeId, route: &Target) {
        match route.state {
            State::Waiting { until } if route.is_stale() => _ = self.stale.waiting.remove(&(until, peer)),
            State::Waiting { until } => _ = self.fresh.waiting.remove(&(until, peer)),
            State::Dialing(DialAttempt { is_stale: true, .. }) => self.stale.dialing -= 1,
            State::Dialing(_) => self.fresh.dialing -= 1,
            State::Connected => {}
        }
    }

    /// WIRE-17: a connection with `peer` is wanted. The newest address is tried first. A sighting of the
    /// peer shortens its wait.
    pub(super) fn want(&mut self, now: Moment, peer: NodeId, address: SocketAddr, news: Sighting) {
        let wait = news.wait();
        let is_new = !self.routes.contains_key(&peer);
        self.routes.entry(peer).or_insert(Target {
            addresses: Vec::new(),
            failures: 0,
            last_failure: None,
            turn: 0,
            yields_until: None,
            is_stranger: false,
            // Nothing is counted of it yet: the change below does that.
            state: State::Connected,
        });
        self.change(peer, |route| {
            if is_new {
                route.state = State::Waiting { until: now + wait };
            }
            route.is_stranger &= news == Sighting::None;
            if news != Sighting::None || route.addresses.first() != Some(&address) {
                route.turn = 0;
            }
            route.addresses.retain(|known| *known != address);
            route.addresses.insert(0, address);
            route.addresses.truncate(ADDRESSES_MAX);
            route.hear(now, news);
        });
    }

    /// MEMBER-24: others say that there is a node that nobody here has met. It is dialed when no member
    /// waits, and what they say again of it shortens no wait.
    pub(super) fn want_introduced(&mut self, now: Moment, peer: NodeId, address: SocketAddr, news: Sighting) {
        let is_known = self.routes.get(&peer).map(|route| !route.is_stranger);
        if is_known == Some(true) {
            return self.want(now, peer, address, news);
        }
        self.want(now, peer, address, Sighting::None);
        self.change(peer, |route| route.is_stranger = true);
    }

    /// WIRE-17: there is news of a peer that says nothing of where it is: it is looked for where it was.
    pub(super) fn heard_of(&mut self, now: Moment, peer: NodeId, news: Sighting) {
        self.change(peer, |route| route.hear(now, news));
    }

    /// It is not wanted any more. An attempt that runs is not ended by that, its outcome is ignored.
    pub(super) fn unwant(&mut self, peer: NodeId) {
        if let Some(route) = self.routes.remove(&peer) {
            self.uncount(peer, &route);
        }
    }

    pub(super) fn is_wanted(&self, peer: NodeId) -> bool {
        self.routes.contains_key(&peer)
    }

    pub(super) fn is_dialing(&self, peer: NodeId) -> bool {
        self.routes.get(&peer).is_some_and(|route| matches!(route.state, State::Dialing(_)))
    }

    /// Who is to be dialed now, and where. Each of them is dialing from here on.
    pub(super) fn due(&mut self, now: Moment) -> Vec<DialAttempt> {
        let quiet_at = self.came_at.map(|came| came + OTHER_DIALS_FIRST).filter(|quiet| *quiet > now);
        if quiet_at.is_some() {
            self.let_others_dial(now, quiet_at);
        }
        let mut due = Vec::new();
        while let Some(peer) = self.next_due(now) {
            self.attempts += 1;
            let number = self.attempts;
            let attempt = self.change(peer, |route| {
                let address = *route.addresses.get(route.turn % route.addresses.len().max(1))?;
                let attempt = DialAttempt { number, peer, address, since: now, is_stale: route.is_stale() };
                route.turn += 1;
                route.yields_until = None;
                route.state = State::Dialing(attempt);
                Some(attempt)
            });
            // A route has an address from its beginning on.
            let Some(attempt) = attempt.flatten() else { break };
            due.push(attempt);
        }
        due
    }

    /// WIRE-17: who is dialed next. Of the others the newest news come first: the peer is there, and the
    /// older ones may be of a whole rack that has lost its power. Stale ones take turns, on what nobody else
    /// needs and on one slot of their own, so that neither keeps the other waiting.
    fn next_due(&self, now: Moment) -> Option<NodeId> {
        let dialing = self.fresh.dialing + self.stale.dialing;
        if dialing >= self.dialing_max {
            return None;
        }
        if self.fresh.dialing < self.dialing_allowed && self.fresh.has_due(now) {
            let due = self.fresh.waiting.iter().take_while(|(until, _)| *until <= now);
            let order = |peer: NodeId, until| (self.preferred != Some(peer), Reverse(until), peer);
            return due.min_by_key(|(until, peer)| order(*peer, *until)).map(|(_, peer)| *peer);
        }
        let has_slot = self.stale.dialing == 0 || dialing < self.dialing_allowed;
        let (until, peer) = self.stale.waiting.first().filter(|_| has_slot)?;
        (*until <= now).then_some(*peer)
    }

    /// WIRE-17: whoever leaves the first word to others waits on while others dial.
    fn let_others_dial(&mut self, now: Moment, quiet_at: Option<Moment>) {
        if self.fresh.dialing >= self.dialing_allowed {
            return;
        }
        let due = self.fresh.waiting.iter().take_while(|(until, _)| *until <= now);
        let due: Vec<NodeId> = due.map(|(_, peer)| *peer).collect();
        for peer in due {
            let until = self.routes.get(&peer).and_then(|route| route.yields(now, quiet_at));
            if let Some(until) = until {
                self.change(peer, |route| route.state = State::Waiting { until });
            }
        }
    }

    /// The peer itself has dialed from `address`, and was refused because this node is dialing it. An attempt
    /// that goes elsewhere, or that the peer cannot have heard of for long, gives way to a new one, which is
    /// returned.
    pub(super) fn heard_from(
        &mut self,
        now: Moment,
        peer: NodeId,
        address: SocketAddr,
    ) -> Option<DialAttempt> {
        let route = self.routes.get_mut(&peer)?;
        let State::Dialing(attempt) = &mut route.state else { return None };
        if attempt.address == address && now.since(attempt.since) < UNHEARD {
            return None;
        }
        self.attempts += 1;
        *attempt = DialAttempt { number: self.attempts, address, since: now, ..*attempt };
        Some(*attempt)
    }

    /// The attempt came to nothing. `chance` is 0 to 255, drawn anew each time.
    pub(super) fn failed(&mut self, now: Moment, attempt: DialAttempt, failure: HelloFailure, chance: u8) {
        // That a stale one is silent as before says nothing of how much this node or the others can do.
        // Nor does one that another has taken the place of.
        if failure == HelloFailure::Unreachable && !attempt.is_stale && self.runs(attempt) {
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
    pub(super) fn waits_for_incoming(&mut self, now: Moment, attempt: DialAttempt, chance: u8) {
        self.ended(attempt, |_| now + jittered(WAIT_FOR_INCOMING, chance));
    }

    /// The attempt was neither replaced nor overtaken by a connection, and its peer is still wanted.
    fn runs(&self, attempt: DialAttempt) -> bool {
        let running = self.routes.get(&attempt.peer).map(|route| route.state);
        matches!(running, Some(State::Dialing(running)) if running.number == attempt.number)
    }

    fn ended(&mut self, attempt: DialAttempt, until: impl FnOnce(&mut Target) -> Moment) {
        if self.runs(attempt) {
            self.change(attempt.peer, |route| route.state = State::Waiting { until: until(route) });
        }
    }

    /// There is a connection, whoever dialed it.
    pub(super) fn connected(&mut self, now: Moment, peer: NodeId) {
        let before = self.change(peer, |route| {
            route.yields_until = None;
            route.is_stranger = false;
            route.failures = 0;
            route.turn = 0;
            route.last_failure = None;
            std::mem::replace(&mut route.state, State::Connected)
        });
        match before {
            Some(State::Dialing(attempt)) => {
                let least = DIALING_LEAST.min(self.dialing_max);
                self.dialing_allowed = if now.since(attempt.since) > SLOW {
                    self.dialing_allowed.saturating_sub(1).max(least)
                } else {
                    (self.dialing_allowed + 1).min(self.dialing_max)
                };
            }
            Some(State::Waiting { .. }) => self.came_at = Some(now),
            Some(State::Connected) | None => {}
        }
    }

    /// The connection is gone. When the peer said that it will dial itself, it gets the time to.
    pub(super) fn lost(&mut self, now: Moment, peer: NodeId, peer_dials: bool, chance: u8) {
        let wait = if peer_dials { WAIT_FOR_INCOMING } else { WAIT_FIRST };
        if self.routes.get(&peer).is_some_and(|route| route.state == State::Connected) {
            self.change(peer, |route| route.state = State::Waiting { until: now + jittered(wait, chance) });
        }
    }

    /// When [`DialSchedule::due`] has something to say next.
    pub(super) fn next_deadline(&self) -> Option<Moment> {
        let dialing = self.fresh.dialing + self.stale.dialing;
        if dialing >= self.dialing_max {
            return None;
        }
        let fresh = self.fresh.next_at().filter(|_| self.fresh.dialing < self.dialing_allowed);
        let has_slot = self.stale.dialing == 0 || dialing < self.dialing_allowed;
        let stale = self.stale.next_at().filter(|_| has_slot);
        fresh.into_iter().chain(stale).min()
    }

    pub(super) fn routes(&self) -> impl Iterator<Item = (&NodeId, &Target)> {
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

    fn dialed(attempts: &[DialAttempt]) -> Vec<(NodeId, u16)> {
        attempts.iter().map(|attempt| (attempt.peer, attempt.address.port())).collect()
    }

    #[test]
    fn the_wait_doubles_up_to_two_seconds_and_never_ends() {
        // WIRE-17
        let mut schedule = DialSchedule::new(8);
        let mut now = ms(0);
        schedule.want(now, node(1), at(1), Sighting::None);
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
        schedule.want(ms(0), node(1), at(1), Sighting::HereAndDials);
        assert_eq!(schedule.next_deadline(), Some(ms(300)));
        schedule.want(ms(100), node(1), at(1), Sighting::HereAndDials);
        assert_eq!(schedule.next_deadline(), Some(ms(300)), "more news put nothing off");
        schedule.connected(ms(100), node(1));
        assert_eq!(schedule.next_deadline(), None);
    }

    #[test]
    fn the_first_word_is_left_for_longer_while_others_dial() {
        // WIRE-17
        let mut schedule = DialSchedule::new(8);
        schedule.want(ms(0), node(1), at(1), Sighting::HereAndDials);
        for step in 1..100 {
            let other = node(100 + u8::try_from(step).unwrap());
            let now = ms(100 * step);
            schedule.want(now, other, at(9), Sighting::None);
            schedule.connected(now, other);
            assert_eq!(schedule.due(now), [], "others come: {step}");
        }
        assert_eq!(schedule.next_deadline(), Some(ms(10_000)), "not for ever");
        assert_eq!(dialed(&schedule.due(ms(10_000))), [(node(1), 1)]);
        schedule.want(ms(10_000), node(2), at(2), Sighting::HereAndDials);
        assert_eq!(dialed(&schedule.due(ms(10_300))), [(node(2), 2)], "nobody comes any more");
        schedule.want(ms(10_300), node(3), at(3), Sighting::None);
        assert_eq!(schedule.due(ms(10_300)).len(), 1, "who is known from before is dialed at once");
    }

    #[test]
    fn silence_halves_how_many_are_dialed_and_quick_success_allows_more() {
        // WIRE-17
        let mut schedule = DialSchedule::new(64);
        for peer in 1..=60 {
            schedule.want(ms(0), node(peer), at(u16::from(peer)), Sighting::None);
        }
        let first = schedule.due(ms(0));
        assert_eq!(first.len(), DIALING_FIRST);
        for attempt in &first {
            schedule.failed(ms(2_000), *attempt, HelloFailure::Unreachable, 255);
        }
        let second = schedule.due(ms(2_000));
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
        let fresh = |due: &[DialAttempt]| due.iter().filter(|attempt| !attempt.is_stale).count();
        assert_eq!(
            (fresh(&third), third.len()),
            (2 * DIALING_LEAST, 2 * DIALING_LEAST + 1),
            "and a stale one"
        );
        for attempt in third {
            schedule.connected(ms(2_800), attempt.peer);
        }
        assert_eq!(fresh(&schedule.due(ms(2_800))), DIALING_LEAST, "whoever is slow has enough to do");
    }

    /// A schedule, and the attempts that run.
    struct Trial {
        schedule: DialSchedule,
        running: Vec<DialAttempt>,
    }

    impl Trial {
        fn new() -> Self {
            Self { schedule: DialSchedule::new(64), running: Vec::new() }
        }

        /// Dials for so long. Of the routes only those in `alive` answer, all others are silent for two
        /// seconds. Returns when each was dialed.
        fn dial_for(&mut self, from: Moment, ms: u64, alive: &[NodeId]) -> Vec<(Moment, NodeId)> {
            let Self { schedule, running } = self;
            let mut dialed = Vec::new();
            for step in 0..ms / 10 {
                let now = from + Duration::from_millis(10 * step);
                running.retain(|attempt| {
                    if alive.contains(&attempt.peer) {
                        schedule.connected(now, attempt.peer);
                    } else if now.since(attempt.since) >= Duration::from_secs(2) {
                        schedule.failed(now, *attempt, HelloFailure::Unreachable, 128);
                    } else {
                        return true;
                    }
                    false
                });
                let due = schedule.due(now);
                dialed.extend(due.iter().map(|attempt| (now, attempt.peer)));
                running.extend(due);
                assert!(running.len() <= schedule.dialing_max);
            }
            dialed
        }
    }

    #[test]
    fn peers_that_are_switched_off_do_not_keep_one_waiting_that_is_there() {
        // WIRE-17: however many are off, and for however long.
        for off in [3, 40, 200] {
            for after_ms in [10, 1_500, 10_000, 300_000] {
                let mut trial = Trial::new();
                let (lost, back) = (node(201), node(202));
                trial.schedule.want(ms(0), lost, at(201), Sighting::None);
                trial.schedule.connected(ms(0), lost);
                for peer in (0..off).chain([202]) {
                    trial.schedule.want(ms(0), node(peer), at(u16::from(peer)), Sighting::None);
                }
                trial.dial_for(ms(0), after_ms, &[]);
                trial.schedule.lost(ms(after_ms), lost, false, 255);
                trial.schedule.want(ms(after_ms), back, at(202), Sighting::Here);
                let dialed = trial.dial_for(ms(after_ms), 4_000, &[lost, back]);
                for peer in [lost, back] {
                    // It may be dialed since before, without an answer.
                    let first = dialed.iter().find(|(_, dialed)| *dialed == peer).map(|(at, _)| *at);
                    let is_in_time = first.is_none_or(|first| first <= ms(after_ms + 2_100));
                    let is_met = trial.schedule.routes[&peer].state == State::Connected;
                    assert!(is_met && is_in_time, "{off} off for {after_ms} ms: {first:?} of {peer:?}");
                }
            }
        }
    }

    #[test]
    fn news_without_end_do_not_keep_stale_peers_waiting() {
        // WIRE-17
        let mut trial = Trial::new();
        trial.schedule.want(ms(0), node(1), at(1), Sighting::None);
        trial.dial_for(ms(0), 2_010, &[]);
        assert!(trial.schedule.routes[&node(1)].is_stale());
        let mut dialed = Vec::new();
        for round in 0..50 {
            let now = ms(2_010 + 200 * round);
            for peer in 100..110 {
                trial.schedule.want(now, node(peer), at(9), Sighting::Here);
            }
            dialed.extend(trial.dial_for(now, 200, &[]));
        }
        assert!(dialed.iter().any(|(_, peer)| *peer == node(1)), "{dialed:?}");
    }

    proptest::proptest! {
        #[test]
        fn what_is_counted_of_the_routes_is_what_they_are(steps in proptest::collection::vec((0_u8..6, 0_u8..7, 0_u64..900), 1..200)) {
            let mut schedule = DialSchedule::new(3);
            let (mut now, mut running) = (ms(0), Vec::new());
            for (peer, step, wait) in steps {
                now = now + Duration::from_millis(wait);
                match step {
                    0 => schedule.want(now, node(peer), at(1), Sighting::None),
                    1 => schedule.want(now, node(peer), at(2), Sighting::HereAndDials),
                    2 => schedule.unwant(node(peer)),
                    3 => schedule.connected(now, node(peer)),
                    4 => schedule.lost(now, node(peer), false, 9),
                    5 => running.extend(schedule.due(now)),
                    _ => {
                        if let Some(attempt) = running.pop() {
                            schedule.failed(now, attempt, HelloFailure::Unreachable, 9);
                        }
                    }
                }
                for (class, is_stale) in [(&schedule.fresh, false), (&schedule.stale, true)] {
                    let waiting: BTreeSet<(Moment, NodeId)> = schedule
                        .routes()
                        .filter(|(_, route)| route.is_stale() == is_stale)
                        .filter_map(|(peer, route)| Some((route.next_at()?, *peer)))
                        .collect();
                    proptest::prop_assert_eq!(&class.waiting, &waiting);
                    let dialing = schedule.routes().filter(|(_, route)| {
                        matches!(route.state, State::Dialing(attempt) if attempt.is_stale == is_stale)
                    });
                    proptest::prop_assert_eq!(class.dialing, dialing.count());
                }
                let none_is_due = schedule.next_deadline().is_none_or(|next| next > now);
                proptest::prop_assert_eq!(none_is_due, schedule.next_due(now).is_none());
            }
        }
    }

    #[test]
    fn the_preferred_peer_is_dialed_first_whenever_its_turn_has_come() {
        // WIRE-17
        let mut schedule = DialSchedule::new(64);
        schedule.prefer(node(60));
        for peer in 1..=60 {
            schedule.want(ms(0), node(peer), at(u16::from(peer)), Sighting::None);
        }
        schedule.want(ms(1), node(61), at(61), Sighting::Here);
        let first = schedule.due(ms(1));
        assert_eq!(dialed(&first)[..2], [(node(60), 60), (node(61), 61)]);
        schedule.failed(ms(2_000), first[0], HelloFailure::Unreachable, 255);
        assert!(!schedule.is_dialing(node(60)));
        assert!(
            schedule.due(ms(2_000)).iter().all(|attempt| attempt.peer != node(60)),
            "it waits as others do"
        );
    }

    #[test]
    fn the_silence_of_an_attempt_that_was_replaced_says_nothing() {
        // WIRE-17
        let mut schedule = DialSchedule::new(64);
        for peer in 1..=60 {
            schedule.want(ms(0), node(peer), at(u16::from(peer)), Sighting::None);
        }
        let first = schedule.due(ms(0));
        assert_eq!(first.len(), DIALING_FIRST);
        schedule.heard_from(ms(400), first[0].peer, at(99)).unwrap();
        schedule.connected(ms(600), first[1].peer);
        let before = schedule.dialing_allowed;
        for attempt in [first[0], first[1]] {
            schedule.failed(ms(2_000), attempt, HelloFailure::Unreachable, 255);
        }
        assert_eq!(schedule.dialing_allowed, before);
    }

    #[test]
    fn nodes_that_only_others_speak_of_keep_no_member_waiting() {
        // MEMBER-24
        let mut schedule = DialSchedule::new(8);
        for made_up in 0..20 {
            schedule.want_introduced(ms(0), node(100 + made_up), at(9), Sighting::Here);
        }
        schedule.want(ms(1), node(1), at(1), Sighting::Here);
        assert_eq!(schedule.due(ms(1)).first().map(|attempt| attempt.peer), Some(node(1)));
        // What is said of them again changes nothing of that.
        for round in 0..50 {
            for attempt in schedule.due(ms(2 + round)) {
                schedule.failed(ms(2 + round), attempt, HelloFailure::Unreachable, 255);
            }
            for made_up in 0..20 {
                schedule.want_introduced(ms(2 + round), node(100 + made_up), at(9), Sighting::Here);
            }
        }
        let before = schedule.dialing_allowed;
        schedule.want(ms(60), node(2), at(2), Sighting::Here);
        assert!(schedule.due(ms(60)).iter().any(|attempt| attempt.peer == node(2)));
        assert_eq!(schedule.dialing_allowed, before);
    }

    #[test]
    fn news_without_an_address_end_the_wait_of_a_peer_that_is_known() {
        // WIRE-17
        let mut schedule = DialSchedule::new(8);
        schedule.want(ms(0), node(1), at(1), Sighting::None);
        let due = schedule.due(ms(0));
        schedule.failed(ms(0), due[0], HelloFailure::Refused(HelloRefusal::Removed), 255);
        schedule.heard_of(ms(5), node(1), Sighting::Here);
        assert_eq!(dialed(&schedule.due(ms(5))), [(node(1), 1)]);
        schedule.heard_of(ms(5), node(2), Sighting::Here);
        assert!(!schedule.is_wanted(node(2)), "nobody knows where it is");
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
        schedule.want(ms(0), node(1), at(1), Sighting::None);
        let due = schedule.due(ms(0));
        schedule.failed(ms(0), due[0], HelloFailure::Refused(HelloRefusal::Removed), 255);
        assert_eq!(schedule.next_deadline(), Some(ms(30_000)));
        schedule.want(ms(5), node(1), at(2), Sighting::Here);
        assert_eq!(
            dialed(&schedule.due(ms(5))),
            [(node(1), 2)],
            "news of the peer is a reason to ask at once"
        );
    }

    #[test]
    fn each_attempt_takes_the_next_address_and_the_newest_comes_first() {
        let mut schedule = DialSchedule::new(8);
        schedule.want(ms(0), node(1), at(1), Sighting::None);
        schedule.want(ms(0), node(1), at(2), Sighting::None);
        let mut tried = Vec::new();
        for step in 0..3 {
            let now = ms(10_000 * step);
            let due = schedule.due(now);
            tried.extend(dialed(&due).into_iter().map(|(_, port)| port));
            schedule.failed(now, due[0], HelloFailure::Unreachable, 0);
        }
        assert_eq!(tried, [2, 1, 2]);
        for port in 0..100 {
            schedule.want(ms(0), node(1), at(port), Sighting::None);
        }
        assert_eq!(schedule.routes().next().unwrap().1.addresses.len(), ADDRESSES_MAX);
    }

    #[test]
    fn a_lost_connection_is_dialed_again_and_a_held_one_is_not() {
        let mut schedule = DialSchedule::new(8);
        schedule.want(ms(0), node(1), at(1), Sighting::None);
        let due = schedule.due(ms(0));
        schedule.connected(ms(0), node(1));
        schedule.want(ms(1), node(1), at(1), Sighting::Here);
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
        schedule.want(ms(0), node(1), at(1), Sighting::None);
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
            schedule.want(ms(0), node(peer), at(u16::from(peer)), Sighting::None);
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
