//! One other node, from three sides: membership, the connection, the card.
//!
//! Owns what of it is shown, and the rounding of what moves all the time. Refuses to know other nodes.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arw_kit::moment::{Moment, WallTime};

use super::{CARD_TTL, NodeChange, NodeChanged};
use crate::cluster::card::{CardHealth, NodeCard};
use crate::cluster::news::{Contact, Knowledge, MemberState, MemberUpdate};
use crate::cluster::picture::{At, NodeRow};
use crate::ids::NodeId;

/// Everything known of a node. Each side keeps what belongs to the newest start that it has heard of.
#[derive(Debug, Default)]
pub(super) struct Known {
    member: Option<Member>,
    contact: Option<(Contact, At)>,
    card: Option<Card>,
    /// The name and the roles that its last connection showed, and in which start of it.
    named: Option<(u64, String, Vec<String>)>,
    /// As shown.
    rtt: Option<Duration>,
    seen: Option<At>,
    /// It runs twice: where the one is that is taken for it, and the other.
    pub(super) copy: Option<(SocketAddr, SocketAddr)>,
    /// The newest start of which people have heard.
    pub(super) told: u64,
    pub(super) touched: Moment,
}

#[derive(Debug)]
struct Member {
    news: MemberUpdate,
    since: At,
}

#[derive(Debug)]
struct Card {
    incarnation: u64,
    card: Arc<NodeCard>,
    came: At,
}

/// How a node stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Standing {
    pub(super) incarnation: u64,
    pub(super) state: MemberState,
    pub(super) since: At,
    pub(super) reason: Option<String>,
    pub(super) address: SocketAddr,
}

/// CLUSTER-4: ages are told in steps of this: longer than a live node is ever silent, so that its row rests.
const AGE_STEP: Duration = Duration::from_secs(15);
/// CLUSTER-4: what is older changes no more: `last_seen_at` tells it exactly.
const AGE_MAX: Duration = Duration::from_secs(60);
/// CLUSTER-4: less than this is what machines and wires do while nothing happens.
const RTT_CHANGE_MIN: Duration = Duration::from_micros(500);

impl Known {
    pub(super) fn member(&mut self, at: At, news: MemberUpdate) {
        self.saw(at.of(news.last_seen));
        let before = self.member.as_ref();
        // CLUSTER-1.
        if before.is_some_and(|before| before.news.incarnation > news.incarnation) {
            return;
        }
        // The calendar may have been set meanwhile: one moment keeps one time.
        let same = before.filter(|before| before.since.now == news.since).map(|before| before.since);
        let since = same.unwrap_or_else(|| at.of(news.since));
        self.member = Some(Member { news, since });
        self.drop_old_card();
    }

    pub(super) fn connected(&mut self, at: At, contact: Contact) {
        // CLUSTER-4: told again, it is the same connection, and no sign of life; its round trip is told by
        // measurements.
        if self.contact.as_ref().is_some_and(|(before, _)| is_same(before, &contact)) {
            return;
        }
        self.saw(at);
        if self.named.as_ref().is_none_or(|(of, ..)| *of <= contact.incarnation) {
            self.named = Some((contact.incarnation, contact.name.clone(), contact.roles.clone()));
        }
        // CLUSTER-1.
        let before = self.contact.as_ref();
        if before.is_some_and(|(before, _)| before.incarnation > contact.incarnation) {
            return;
        }
        self.contact = Some((contact, at));
        self.drop_old_card();
    }

    pub(super) fn disconnected(&mut self) {
        self.contact = None;
        self.rtt = None;
    }

    pub(super) fn measured(&mut self, at: At, rtt: Duration, last_seen: Moment) {
        self.saw(at.of(last_seen));
        let rounded = two_digits(rtt);
        if self.rtt.is_none_or(|shown| is_worth_telling(shown, rounded)) {
            self.rtt = Some(rounded);
        }
    }

    pub(super) fn card(&mut self, at: At, incarnation: u64, card: Box<NodeCard>) {
        // CLUSTER-2: a card that is told again grows no younger by it. A next one has another `made_at`.
        let before = self.card.as_ref();
        if before.is_some_and(|before| before.incarnation == incarnation && *before.card == *card) {
            return;
        }
        self.saw(at);
        // CLUSTER-1.
        if self.card.as_ref().is_none_or(|before| before.incarnation <= incarnation) {
            self.card = Some(Card { incarnation, card: Arc::from(card), came: at });
            self.drop_old_card();
        }
    }

    /// What membership said is forgotten. True when a connection remains to which that does not apply.
    pub(super) fn forget_member(&mut self) -> bool {
        let Some((contact, _)) = &self.contact else { return false };
        let stays = match &self.member {
            Some(member) => member.news.incarnation < contact.incarnation || !member.news.state.is_alive(),
            None => true,
        };
        if stays {
            self.member = None;
        }
        stays
    }

    fn saw(&mut self, at: At) {
        if self.seen.is_none_or(|seen| seen.now < at.now) {
            self.seen = Some(at);
        }
    }

    /// Its newest start that membership or a connection speaks of. A card alone does not make a node.
    fn incarnation(&self) -> Option<u64> {
        let member = self.member.as_ref().map(|member| member.news.incarnation);
        let contact = self.contact.as_ref().map(|(contact, _)| contact.incarnation);
        member.max(contact)
    }

    /// CLUSTER-1: a card of an earlier start says nothing of this one.
    fn drop_old_card(&mut self) {
        let newest = self.incarnation();
        if self.card.as_ref().is_some_and(|card| newest > Some(card.incarnation)) {
            self.card = None;
        }
    }

    pub(super) fn standing(&self) -> Option<Standing> {
        let incarnation = self.incarnation()?;
        let member = self.member.as_ref().filter(|member| member.news.incarnation == incarnation);
        Some(match (member, &self.contact) {
            (Some(Member { news, since }), _) => Standing {
                incarnation,
                state: news.state,
                since: *since,
                reason: news.reason.clone().filter(|_| !news.state.is_alive()),
                address: news.address,
            },
            (None, Some((contact, since))) => Standing {
                incarnation,
                state: MemberState::Up,
                since: *since,
                reason: None,
                address: contact.address,
            },
            (None, None) => return None,
        })
    }

    pub(super) fn change(&self, node: NodeId, standing: &Standing, what: NodeChanged) -> NodeChange {
        NodeChange {
            node,
            name: self.named.as_ref().map(|(_, name, _)| name.clone()),
            incarnation: standing.incarnation,
            address: Some(standing.address.to_string()),
            what,
        }
    }

    pub(super) fn row(&self, node: NodeId, now: Moment) -> Option<NodeRow> {
        let Standing { incarnation, state, since, reason, address } = self.standing()?;
        let contact =
            self.contact.as_ref().filter(|(contact, _)| contact.incarnation == incarnation).map(|(it, _)| it);
        let card = self.card.as_ref().filter(|card| card.incarnation == incarnation);
        let stale_since = card.filter(|card| now.since(card.came.now) >= CARD_TTL).map(|card| card.came.wall);
        let seen = self.seen.unwrap_or(since);
        let last_seen = age(now, seen.now);
        let (name, roles) = match &self.named {
            Some((_, name, roles)) => (Some(name.clone()), roles.clone()),
            None => (None, Vec::new()),
        };
        Some(NodeRow {
            node,
            name,
            roles,
            state,
            since: since.wall,
            health: self.copy.filter(|_| state.is_alive()).map_or_else(
                || {
                    let card = card.map(|card| &*card.card);
                    health(state, reason.as_deref(), contact.is_some(), card, stale_since)
                },
                |(kept, other)| copied(kept, other),
            ),
            reason,
            incarnation,
            address: Some(address),
            is_connected: contact.is_some(),
            is_draining: card.is_some_and(|card| card.card.is_draining),
            card: card.map(|card| Arc::clone(&card.card)),
            stale_since,
            rtt: contact.map(|contact| self.rtt.unwrap_or_else(|| two_digits(contact.rtt))),
            last_seen,
            last_seen_at: (!last_seen.is_zero()).then_some(seen.wall),
            source: if contact.is_some() && card.is_some() { Knowledge::Card } else { Knowledge::Membership },
        })
    }

    pub(super) fn next_deadline(&self, now: Moment) -> Option<Moment> {
        if self.standing().is_none() {
            return Some(self.touched + CARD_TTL);
        }
        let stale = self.card.as_ref().map(|card| card.came.now + CARD_TTL).filter(|at| *at > now);
        let step = self.seen.map(|seen| (age(now, seen.now), seen.now));
        let step = step.filter(|(age, _)| *age < AGE_MAX).map(|(age, seen)| seen + age + AGE_STEP);
        // A sign of life from the future is a clock's slip, and no reason to wait for it.
        stale.into_iter().chain(step).map(|at| at.max(now)).min()
    }
}

/// Everything but the round trip, which differs with each packet.
fn is_same(one: &Contact, other: &Contact) -> bool {
    let Contact { node, name, roles, incarnation, address, rtt: _ } = one;
    (node, name, roles, incarnation, address)
        == (&other.node, &other.name, &other.roles, &other.incarnation, &other.address)
}

/// Two starts of it run.
fn copied(kept: SocketAddr, other: SocketAddr) -> CardHealth {
    CardHealth {
        state: "warning".to_owned(),
        reason: Some(format!("it runs twice, at {kept} and at {other}, which is refused: its state folder was copied")),
        hint: Some(
            "stop one of the two; to make it a node of its own, remove node.key, identity.json, cluster.json and cluster.key there, and join again"
                .to_owned(),
        ),
    }
}

fn health(
    state: MemberState,
    reason: Option<&str>,
    is_connected: bool,
    card: Option<&NodeCard>,
    stale_since: Option<WallTime>,
) -> CardHealth {
    let worded = |state: &str, reason: &str, hint: Option<&str>| CardHealth {
        state: state.to_owned(),
        reason: Some(reason.to_owned()),
        hint: hint.map(str::to_owned),
    };
    match (state, card) {
        (MemberState::Down, _) => worded(
            "error",
            reason.unwrap_or("it is down"),
            Some(
                "it comes back by itself once it runs and is reached; `arw cluster remove` takes it out for good",
            ),
        ),
        (MemberState::Left, _) => worded("info", reason.unwrap_or("it has left the cluster"), None),
        (MemberState::Suspect, _) => worded(
            "warning",
            "it does not answer at the moment",
            Some("wait: within seconds it is heard again or taken for down"),
        ),
        (MemberState::Up, _) if !is_connected => worded(
            "warning",
            "there is no connection from here to it",
            Some("look whether its UDP port is reached from this machine"),
        ),
        (MemberState::Up, None) => worded("info", "it has not said yet how it is", None),
        (MemberState::Up, Some(_)) if stale_since.is_some() => worded(
            "warning",
            "it has not said for a while how it is",
            Some("look at that machine: it answers, but its node does not come to work"),
        ),
        (MemberState::Up, Some(card)) => card.health.clone(),
    }
}

fn age(now: Moment, then: Moment) -> Duration {
    let steps = now.since(then).as_secs() / AGE_STEP.as_secs();
    Duration::from_secs(steps.saturating_mul(AGE_STEP.as_secs())).min(AGE_MAX)
}

/// CLUSTER-4: 0.43 ms, 1.2 ms, 250 ms.
fn two_digits(span: Duration) -> Duration {
    let micros = span.as_micros();
    let mut unit = 1;
    while micros / unit >= 100 {
        unit *= 10;
    }
    let rounded = (micros + unit / 2) / unit * unit;
    Duration::from_micros(u64::try_from(rounded).unwrap_or(u64::MAX))
}

/// CLUSTER-4: by more than a fifth.
fn is_worth_telling(shown: Duration, new: Duration) -> bool {
    let difference = shown.abs_diff(new);
    difference > shown / 5 && difference > RTT_CHANGE_MIN
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_keeps_two_digits() {
        let rounded = [0, 7, 99, 432, 996, 1_249, 250_400].map(|us| two_digits(Duration::from_micros(us)));
        assert_eq!(rounded.map(|span| span.as_micros()), [0, 7, 99, 430, 1_000, 1_200, 250_000]);
    }

    #[test]
    fn an_age_goes_in_steps_and_stops() {
        let at = |seconds| Moment::ZERO + Duration::from_secs(seconds);
        let steps = [0, 14, 15, 44, 60, 5_000].map(|seconds| age(at(seconds), at(0)).as_secs());
        assert_eq!(steps, [0, 0, 15, 30, 60, 60]);
    }
}
