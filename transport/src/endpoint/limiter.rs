//! How many handshakes strangers can make this node compute.
//!
//! Owns the budgets, in total and per source address, and when a source must first prove that it is where it
//! says. A handshake costs a quarter of a millisecond, and a forged address costs its sender nothing. Refuses
//! to know sockets.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
#[cfg(test)]
use std::time::Duration;

use arw_kit::moment::Moment;

/// How many handshakes are let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HandshakeLimits {
    /// From one address, per second. 64 take 2 % of a core.
    pub source_per_second: u32,
    /// From one address at once: as many nodes as may start on one machine together.
    pub source_burst: u32,
    /// From all addresses, per second. 512 take an eighth of a core.
    pub total_per_second: u32,
    /// From all addresses at once: a whole cluster that comes back after an outage.
    pub total_burst: u32,
    /// Connections whose first message is awaited. Each can hold some 100 KiB.
    pub pending_max: usize,
    /// From so many on, an address that has not proven to be real is asked to, which costs a round trip and
    /// keeps no memory.
    pub pending_calm: usize,
}

impl Default for HandshakeLimits {
    fn default() -> Self {
        Self {
            source_per_second: 64,
            source_burst: 256,
            total_per_second: 512,
            total_burst: 1_024,
            pending_max: 256,
            pending_calm: 64,
        }
    }
}

/// What becomes of a handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Admission {
    /// It goes on.
    Admit,
    /// The source must show first that it gets what is sent to its address.
    Retry,
    /// It is refused.
    Refuse,
}

/// Sources that are watched at the same time. When there are more, those of the rest share the total alone,
/// once they have proven their address.
const SOURCES_MAX: usize = 1_024;

/// Budgets that refill with time.
#[derive(Debug)]
pub(super) struct HandshakeLimiter {
    limits: HandshakeLimits,
    total: Budget,
    sources: BTreeMap<IpAddr, Budget>,
    pending: usize,
    /// Of each source, those with a proven address and those without apart: who forges an address must not
    /// use up what the real one has.
    pending_of: BTreeMap<(IpAddr, bool), usize>,
}

/// Thousandths of a handshake, so that a short time refills a part of one.
#[derive(Clone, Copy, Debug)]
struct Budget {
    thousandths: u64,
    at: Moment,
}

impl Budget {
    fn refill(&mut self, now: Moment, per_second: u32, burst: u32) {
        let elapsed = u64::try_from(now.since(self.at).as_millis()).unwrap_or(u64::MAX);
        let more = elapsed.saturating_mul(u64::from(per_second));
        if more > 0 {
            self.at = now;
        }
        self.thousandths = self.thousandths.saturating_add(more).min(u64::from(burst) * 1_000);
    }

    fn has_one(&self) -> bool {
        self.thousandths >= 1_000
    }

    fn take_one(&mut self) {
        self.thousandths = self.thousandths.saturating_sub(1_000);
    }
}

impl HandshakeLimiter {
    pub(super) fn new(now: Moment, limits: HandshakeLimits) -> Self {
        let total = Budget { thousandths: u64::from(limits.total_burst) * 1_000, at: now };
        Self { limits, total, sources: BTreeMap::new(), pending: 0, pending_of: BTreeMap::new() }
    }

    /// WIRE-20: judges a handshake from `source`, whose address is proven or not. `is_known` says whether a
    /// member or a known node is there, and is asked only where that counts. An admitted one is pending until
    /// [`HandshakeLimiter::ended`].
    pub(super) fn judge(
        &mut self,
        now: Moment,
        (source, is_proven): (IpAddr, bool),
        is_known: impl FnOnce() -> bool,
    ) -> Admission {
        self.total.refill(now, self.limits.total_per_second, self.limits.total_burst);
        let admission = match self.is_scarce().then(is_known) {
            Some(false) => Admission::Refuse,
            // Anybody can claim a member's address.
            Some(true) if !is_proven => Admission::Retry,
            Some(true) | None => self.judge_by_budgets(now, source, is_proven),
        };
        if admission == Admission::Admit {
            self.pending += 1;
            *self.pending_of.entry((network_of(source), is_proven)).or_default() += 1;
        }
        admission
    }

    /// The first message of an admitted one was judged, or there is none.
    pub(super) fn ended(&mut self, source: IpAddr, is_proven: bool) {
        self.pending = self.pending.saturating_sub(1);
        let key = (network_of(source), is_proven);
        if let Some(count) = self.pending_of.get_mut(&key) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.pending_of.remove(&key);
            }
        }
    }

    /// WIRE-20: strangers have taken all that they may: a quarter of what is pending, and of the total, is
    /// kept for nodes that are known. Otherwise whoever has a few addresses could keep every member out that
    /// comes back.
    fn is_scarce(&self) -> bool {
        let HandshakeLimits { pending_max, total_burst, .. } = self.limits;
        let kept = u64::from(total_burst) * 1_000 / 4;
        self.pending >= pending_max - pending_max / 4 || self.total.thousandths < kept + 1_000
    }

    /// As many are pending from there as may be: with a proven address an eighth of all, and as many without.
    fn is_crowded(&self, source: IpAddr, is_proven: bool) -> bool {
        let of_it = self.pending_of.get(&(network_of(source), is_proven)).copied().unwrap_or(0);
        of_it >= (self.limits.pending_max / 8).max(1)
    }

    fn judge_by_budgets(&mut self, now: Moment, source: IpAddr, is_proven: bool) -> Admission {
        let limits = self.limits;
        let pending = self.pending;
        if pending >= limits.pending_max {
            return Admission::Refuse;
        }
        if self.is_crowded(source, is_proven) {
            return if is_proven { Admission::Refuse } else { Admission::Retry };
        }
        let half = u64::from(limits.total_burst) * 500;
        let is_calm = pending < limits.pending_calm && self.total.thousandths > half;
        if !is_proven && !is_calm {
            return Admission::Retry;
        }
        let full = u64::from(limits.source_burst) * 1_000;
        let key = network_of(source);
        if self.sources.len() >= SOURCES_MAX && !self.sources.contains_key(&key) {
            self.prune(now);
        }
        let has_room = self.sources.len() < SOURCES_MAX || self.sources.contains_key(&key);
        let budget =
            has_room.then(|| self.sources.entry(key).or_insert(Budget { thousandths: full, at: now }));
        let Some(budget) = budget else {
            return self.judge_by_total(is_proven);
        };
        budget.refill(now, limits.source_per_second, limits.source_burst);
        if !budget.has_one() {
            // Somebody may forge this address: who proves to have it is judged by the same budget, but pays a
            // round trip first.
            return if is_proven { Admission::Refuse } else { Admission::Retry };
        }
        if !self.total.has_one() {
            return Admission::Refuse;
        }
        budget.take_one();
        self.total.take_one();
        Admission::Admit
    }

    fn judge_by_total(&mut self, is_proven: bool) -> Admission {
        if !is_proven {
            return Admission::Retry;
        }
        if !self.total.has_one() {
            return Admission::Refuse;
        }
        self.total.take_one();
        Admission::Admit
    }

    /// Forgets the sources whose budget is full again.
    pub(super) fn prune(&mut self, now: Moment) {
        let HandshakeLimits { source_per_second, source_burst, .. } = self.limits;
        self.sources.retain(|_, budget| {
            budget.refill(now, source_per_second, source_burst);
            budget.thousandths < u64::from(source_burst) * 1_000
        });
    }

    /// The longest time after which a source's budget is full again.
    #[cfg(test)]
    fn full_after(&self) -> Duration {
        Duration::from_secs(u64::from(self.limits.source_burst / self.limits.source_per_second.max(1)) + 1)
    }
}

/// What counts as one source: an IPv4 address, or the /64 that one IPv6 host has to itself.
fn network_of(source: IpAddr) -> IpAddr {
    match source.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => {
            let bits = u128::from(address) & !u128::from(u64::MAX);
            IpAddr::V6(Ipv6Addr::from(bits))
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn small() -> HandshakeLimits {
        HandshakeLimits {
            source_per_second: 2,
            source_burst: 4,
            total_per_second: 8,
            total_burst: 16,
            pending_max: 10,
            pending_calm: 5,
        }
    }

    /// Judges one while so many are pending, none of them from the same source.
    fn judge(
        limiter: &mut HandshakeLimiter,
        now: Moment,
        source: IpAddr,
        is_proven: bool,
        pending: usize,
    ) -> Admission {
        limiter.pending = pending;
        let admission = limiter.judge(now, (source, is_proven), || false);
        limiter.pending_of.clear();
        admission
    }

    fn address(last: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, last])
    }

    #[test]
    fn a_source_has_its_burst_and_then_its_rate() {
        // WIRE-20
        let start = Moment::ZERO;
        let mut limiter = HandshakeLimiter::new(start, small());
        for _ in 0..4 {
            assert_eq!(judge(&mut limiter, start, address(1), false, 0), Admission::Admit);
        }
        assert_eq!(judge(&mut limiter, start, address(1), false, 0), Admission::Retry);
        assert_eq!(judge(&mut limiter, start, address(1), true, 0), Admission::Refuse);
        assert_eq!(
            judge(&mut limiter, start, address(2), false, 0),
            Admission::Admit,
            "others are not to blame"
        );
        let later = start + Duration::from_millis(500);
        assert_eq!(judge(&mut limiter, later, address(1), true, 0), Admission::Admit);
        assert_eq!(judge(&mut limiter, later, address(1), true, 0), Admission::Refuse);
    }

    #[test]
    fn under_load_an_address_is_proven_first_and_nobody_comes_in_when_it_is_full() {
        // WIRE-20
        let start = Moment::ZERO;
        let mut limiter = HandshakeLimiter::new(start, small());
        assert_eq!(judge(&mut limiter, start, address(1), false, 5), Admission::Retry);
        assert_eq!(judge(&mut limiter, start, address(1), true, 5), Admission::Admit);
        assert_eq!(judge(&mut limiter, start, address(1), true, 10), Admission::Refuse);
        for last in 2..=8 {
            assert_eq!(judge(&mut limiter, start, address(last), false, 0), Admission::Admit);
        }
        assert_eq!(
            judge(&mut limiter, start, address(20), false, 0),
            Admission::Retry,
            "half of the total is used"
        );
        for last in 20..24 {
            assert_eq!(judge(&mut limiter, start, address(last), true, 0), Admission::Admit);
        }
        assert_eq!(judge(&mut limiter, start, address(40), true, 0), Admission::Refuse);
        for last in 40..44 {
            let known = limiter.judge(start, (address(last), true), || true);
            assert_eq!(known, Admission::Admit, "the last quarter is for members");
        }
        assert_eq!(limiter.judge(start, (address(44), true), || true), Admission::Refuse);
    }

    #[test]
    fn strangers_with_many_addresses_do_not_keep_members_out() {
        // WIRE-20: whether they are silent and take the places, or quick and take the budget.
        for are_silent in [true, false] {
            let limits = HandshakeLimits::default();
            let mut limiter = HandshakeLimiter::new(Moment::ZERO, limits);
            let (mut now, mut let_in) = (Moment::ZERO, 0);
            for round in 0..2_000_u32 {
                now = now + Duration::from_millis(1);
                for last in 0..16 {
                    let stranger = (address(last), true);
                    if limiter.judge(now, stranger, || false) == Admission::Admit && !are_silent {
                        limiter.ended(stranger.0, true);
                    }
                }
                if round >= 1_000 && round % 20 == 0 {
                    let member = IpAddr::from([10, 0, 1, u8::try_from(round / 20).unwrap()]);
                    assert_eq!(limiter.judge(now, (member, false), || true), Admission::Retry);
                    assert_eq!(limiter.judge(now, (member, true), || true), Admission::Admit, "{round}");
                    limiter.ended(member, true);
                    let_in += 1;
                }
            }
            assert_eq!(let_in, 50);
        }
    }

    #[test]
    fn the_addresses_of_one_ipv6_host_count_as_one() {
        let mut limiter = HandshakeLimiter::new(Moment::ZERO, small());
        let host = |last: u16| IpAddr::from([0x2001, 0xdb8, 0, 1, 0, 0, 0, last]);
        for last in 0..4 {
            assert_eq!(judge(&mut limiter, Moment::ZERO, host(last), true, 0), Admission::Admit);
        }
        assert_eq!(judge(&mut limiter, Moment::ZERO, host(9), true, 0), Admission::Refuse);
    }

    #[test]
    fn many_sources_take_bounded_memory_and_are_forgotten() {
        let limits = HandshakeLimits { total_burst: 100_000, ..small() };
        let mut limiter = HandshakeLimiter::new(Moment::ZERO, limits);
        for number in 0..5_000_u32 {
            judge(&mut limiter, Moment::ZERO, IpAddr::from(number.to_be_bytes()), true, 0);
        }
        assert_eq!(limiter.sources.len(), SOURCES_MAX);
        let later = Moment::ZERO + limiter.full_after();
        limiter.prune(later);
        assert_eq!(limiter.sources.len(), 0);
    }

    #[test]
    fn one_address_has_a_quarter_of_the_pending_at_most() {
        // WIRE-20
        let limits = HandshakeLimits { pending_max: 32, pending_calm: 32, ..small() };
        let limits = HandshakeLimits { source_burst: 100, total_burst: 1_000, ..limits };
        let mut limiter = HandshakeLimiter::new(Moment::ZERO, limits);
        for (is_proven, beyond) in [(false, Admission::Retry), (true, Admission::Refuse)] {
            for _ in 0..4 {
                assert_eq!(limiter.judge(Moment::ZERO, (address(1), is_proven), || false), Admission::Admit);
            }
            assert_eq!(limiter.judge(Moment::ZERO, (address(1), is_proven), || false), beyond);
        }
        assert_eq!(
            limiter.judge(Moment::ZERO, (address(2), false), || false),
            Admission::Admit,
            "others have their own"
        );
        limiter.ended(address(1), true);
        assert_eq!(limiter.judge(Moment::ZERO, (address(1), true), || false), Admission::Admit);
        for _ in 0..4 {
            limiter.ended(address(1), true);
            limiter.ended(address(1), false);
        }
        limiter.ended(address(2), false);
        assert_eq!((limiter.pending, limiter.pending_of.len()), (0, 0));
    }

    proptest! {
        #[test]
        fn no_more_come_in_than_the_budgets_allow(steps in proptest::collection::vec((0_u64..50, 0_u8..3), 1..200)) {
            let limits = small();
            let mut limiter = HandshakeLimiter::new(Moment::ZERO, limits);
            let (mut now, mut admitted) = (Moment::ZERO, [0_u64; 3]);
            for (wait_ms, source) in steps {
                now = now + Duration::from_millis(wait_ms);
                if judge(&mut limiter, now, address(source), true, 0) == Admission::Admit {
                    admitted[usize::from(source)] += 1;
                }
            }
            let elapsed_ms = u64::try_from(now.since(Moment::ZERO).as_millis()).unwrap();
            for count in admitted {
                prop_assert!(count <= u64::from(limits.source_burst) + elapsed_ms * u64::from(limits.source_per_second) / 1_000);
            }
            let total: u64 = admitted.iter().sum();
            prop_assert!(total <= u64::from(limits.total_burst) + elapsed_ms * u64::from(limits.total_per_second) / 1_000);
        }
    }
}
