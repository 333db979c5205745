//! Who gets a place when there are more connections than places.
//!
//! Owns one decision: is a new connection taken in, and which one gives way to it. Pure: rows and the time
//! go in. Refuses to know sockets.
//!
//! A connection without a request in progress can be closed at little cost: its client opens another. So
//! such a one gives way to a newcomer, whether it is between two requests, sends a head a byte at a time, or
//! does not take its answer. One that waits for this node never does.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use arw_kit::moment::Moment;

/// A client that has not taken what was written for so long is slow, not just busy: a network that loses
/// packets recovers within seconds.
pub(super) const BEHIND: Duration = Duration::from_secs(10);

/// What a connection is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// No byte of a next request has come.
    Idle,
    /// Some bytes of a head have come.
    Head,
    /// The head is whole, the body is not.
    Body,
    /// The request is whole; this node owes the answer.
    Working,
}

/// What the decision needs to know of a connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Row {
    pub(super) source: IpAddr,
    pub(super) stage: Stage,
    pub(super) since: Moment,
    /// Since when the client does not take all that is written to it, or since its last good step.
    pub(super) behind_since: Option<Moment>,
}

impl Row {
    /// Since when this connection could be closed for another one, from its client's doing; `None` while
    /// this node owes an answer.
    fn yields_since(&self, now: Moment) -> Option<Moment> {
        if let Some(behind) = self.behind_since {
            return (now.since(behind) >= BEHIND).then_some(behind);
        }
        match self.stage {
            Stage::Idle | Stage::Head | Stage::Body => (now.since(self.since) >= FRESH).then_some(self.since),
            Stage::Working => None,
        }
    }

    /// When it can give way, where it cannot yet.
    fn may_yield_at(&self) -> Option<Moment> {
        match (self.behind_since, self.stage) {
            (Some(behind), _) => Some(behind + BEHIND),
            (None, Stage::Idle | Stage::Head | Stage::Body) => Some(self.since + FRESH),
            (None, Stage::Working) => None,
        }
    }
}

/// What comes next of a connection that has just begun, or has just had its answer, is on its way: of a crowd
/// that comes at once nobody closes the other.
const FRESH: Duration = Duration::from_millis(500);

/// How many connections there may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Places {
    /// For requests that may last.
    open: usize,
    /// Beyond those, for health checks and control.
    kept: usize,
}

impl Places {
    /// Of `most` places a sixteenth is kept, at most 32: probes and an operator need a few, each for a
    /// moment.
    pub(super) fn of(most: usize) -> Self {
        let kept = (most / 16).min(32);
        Self { open: most - kept, kept }
    }

    pub(super) fn all(self) -> usize {
        self.open + self.kept
    }

    /// How many requests that may last there may be at once.
    pub(super) fn open(self) -> usize {
        self.open
    }
}

/// What becomes of a new connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Admission<K> {
    /// There is room.
    Admit,
    /// This one gives way.
    Replace(K),
    /// Everyone waits for this node: the newcomer waits, too.
    Wait,
}

/// HTTP-6: of those that can give way, the source with the most of them gives one up, and of its connections
/// the eldest. A proxy with all clients behind it is one source, so that there is no other bound for a
/// source.
pub(super) fn admit<K: Copy>(
    rows: impl ExactSizeIterator<Item = (K, Row)>,
    places: Places,
    now: Moment,
) -> Admission<K> {
    let in_use = rows.len();
    if in_use < places.open {
        return Admission::Admit;
    }
    let mut yielding = Vec::new();
    let mut held: HashMap<IpAddr, usize> = HashMap::new();
    for (key, row) in rows {
        if let Some(since) = row.yields_since(now) {
            let source = network_of(row.source);
            *held.entry(source).or_default() += 1;
            yielding.push((key, source, since));
        }
    }
    let claim = |(_, source, since): &&(K, IpAddr, Moment)| (held.get(source).copied(), now.since(*since));
    match yielding.iter().max_by_key(claim) {
        Some((key, _, _)) => Admission::Replace(*key),
        None if in_use < places.all() => Admission::Admit,
        None => Admission::Wait,
    }
}

/// When a connection can give way that cannot yet.
pub(super) fn next_deadline<K>(rows: impl Iterator<Item = (K, Row)>) -> Option<Moment> {
    rows.filter_map(|(_, row)| row.may_yield_at()).min()
}

/// One customer of a network gets a /64 of IPv6 addresses at least.
fn network_of(source: IpAddr) -> IpAddr {
    match source.to_canonical() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)).into(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn row(source: u8, stage: Stage, since_s: u64) -> Row {
        let since = Moment::ZERO + Duration::from_secs(since_s);
        Row { source: IpAddr::from([10, 0, 0, source]), stage, since, behind_since: None }
    }

    fn decide(rows: &[Row], most: usize, now_s: u64) -> Admission<usize> {
        let now = Moment::ZERO + Duration::from_secs(now_s);
        admit(rows.iter().copied().enumerate(), Places::of(most), now)
    }

    /// HTTP-6.
    #[test]
    fn the_eldest_that_sends_nothing_whole_gives_way() {
        let rows = [
            row(1, Stage::Working, 1),
            row(1, Stage::Head, 5),
            row(1, Stage::Idle, 3),
            row(1, Stage::Body, 4),
        ];
        assert_eq!(decide(&rows, 4, 9), Admission::Replace(2));
        assert_eq!(decide(&rows, 5, 9), Admission::Admit);
    }

    /// HTTP-6: of a crowd that comes at once nobody closes the other.
    #[test]
    fn who_has_just_come_does_not_give_way_yet() {
        let at = |millis: u64| Moment::ZERO + Duration::from_millis(millis);
        for stage in [Stage::Idle, Stage::Head, Stage::Body] {
            let rows =
                [Row { since: at(9_000), ..row(1, stage, 0) }, Row { since: at(9_100), ..row(2, stage, 0) }];
            let decide = |millis| admit(rows.iter().copied().enumerate(), Places::of(2), at(millis));
            assert_eq!(decide(9_499), Admission::Wait);
            assert_eq!(next_deadline(rows.iter().copied().enumerate()), Some(at(9_500)));
            assert_eq!(decide(9_500), Admission::Replace(0));
        }
    }

    /// HTTP-6: a slow crowd from one address does not cost the others their idle connections.
    #[test]
    fn the_source_with_the_most_of_them_gives_way_first() {
        let rows = [row(1, Stage::Idle, 1), row(2, Stage::Head, 7), row(2, Stage::Head, 8)];
        assert_eq!(decide(&rows, 3, 9), Admission::Replace(1));
    }

    #[test]
    fn a_network_of_ipv6_addresses_is_one_source() {
        let network = |text: &str| network_of(text.parse().unwrap());
        assert_eq!(network("2001:db8::1"), network("2001:db8::ffff:2"));
        assert_ne!(network("2001:db8::1"), network("2001:db8:0:1::1"));
        assert_eq!(network("::ffff:10.0.0.1"), network("10.0.0.1"));
        assert_ne!(network("10.0.0.1"), network("10.0.0.2"));
    }

    /// HTTP-6: slow readers of answers.
    #[test]
    fn a_client_that_takes_no_answer_gives_way_after_a_while() {
        let mut slow = row(1, Stage::Working, 0);
        slow.behind_since = Some(Moment::ZERO + Duration::from_secs(20));
        assert_eq!(decide(&[slow], 1, 29), Admission::Wait);
        assert_eq!(next_deadline([(0, slow)].into_iter()), Some(Moment::ZERO + Duration::from_secs(30)));
        assert_eq!(decide(&[slow], 1, 30), Admission::Replace(0));
        // The rest of an answer is on its way: to close now would cut it off.
        slow.stage = Stage::Idle;
        assert_eq!(decide(&[slow], 1, 29), Admission::Wait);
    }

    /// HTTP-6: places beyond the open ones are taken only when nobody gives way.
    #[test]
    fn some_places_are_kept_and_then_newcomers_wait() {
        let busy = [row(1, Stage::Working, 0); 32];
        assert_eq!(decide(&busy[..29], 32, 1), Admission::Admit);
        assert_eq!((Places::of(32).open(), Places::of(32).all()), (30, 32));
        assert_eq!(decide(&busy[..31], 32, 1), Admission::Admit);
        assert_eq!(decide(&busy, 32, 1), Admission::Wait);
    }

    fn any_row() -> impl Strategy<Value = Row> {
        let stage =
            prop_oneof![Just(Stage::Idle), Just(Stage::Head), Just(Stage::Body), Just(Stage::Working)];
        (0_u8..4, stage, 0_u64..100, proptest::option::of(0_u64..100)).prop_map(
            |(source, stage, since, behind)| Row {
                behind_since: behind.map(|behind| Moment::ZERO + Duration::from_secs(behind)),
                ..row(source, stage, since)
            },
        )
    }

    proptest! {
        /// HTTP-6: who waits for this node is never closed; who gives way has the eldest claim of a source
        /// that holds most; and nobody waits while somebody could give way.
        #[test]
        fn only_those_who_can_give_way_do(rows in proptest::collection::vec(any_row(), 0..40), most in 1_usize..40) {
            let now = Moment::ZERO + Duration::from_secs(100);
            let yields = |row: &Row| row.yields_since(now);
            match decide(&rows, most, 100) {
                Admission::Admit => prop_assert!(rows.len() < most),
                Admission::Wait => {
                    prop_assert!(rows.len() >= most);
                    prop_assert!(rows.iter().all(|row| yields(row).is_none()));
                }
                Admission::Replace(victim) => {
                    let victim = rows[victim];
                    let since = yields(&victim).unwrap();
                    let held = |source| rows.iter().filter(|row| row.source == source && yields(row).is_some()).count();
                    for other in rows.iter().filter(|row| yields(row).is_some()) {
                        prop_assert!(held(other.source) <= held(victim.source));
                        prop_assert!(other.source != victim.source || yields(other).unwrap() >= since);
                    }
                }
            }
        }
    }
}
