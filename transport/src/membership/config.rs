//! The times and sizes of the protocol, each with its reason.
//!
//! Owns foca's configuration. Every node of a cluster must use the same times, so they are constants. Refuses
//! to decide.

use std::num::{NonZeroU8, NonZeroUsize};
use std::time::Duration;

use foca::Config;

/// The largest datagram, in bytes: with quinn's first `max_datagram_size` of 1,162 it leaves before the
/// path's MTU is known, with a byte to spare for the lane's tag.
pub const PACKET_BYTES_MAX: usize = 1_150;

/// A node probes one other per period. With the suspicion it bounds how soon a death is known: chance decides
/// when a dead member of a large cluster is first probed, after more than 8 periods in one case of 3,000.
/// Those 2 s, what is left of that period, the suspicion and 0.5 s of spreading, on nodes that are in time
/// and have no other news, end before 4 s; with periods of 500 ms three deaths in a hundred took longer.
pub(super) const PROBE_PERIOD: Duration = Duration::from_millis(250);

/// How long a direct answer may take before others are asked to probe. What is left of the period holds two
/// round trips, by way of another member, of up to 80 ms: the distance between continents' coasts. A direct
/// answer counts until the period ends, so a longer way costs datagrams and makes nobody a suspect.
const PROBE_ROUND_TRIP: Duration = Duration::from_millis(90);

/// How long a suspect may take to speak up. It hears of it within one or two gossip rounds, also when every
/// fifth datagram is lost. It begins a period after the probe, so a pause of its process of 1 s passes.
pub(super) const SUSPECT_TO_DOWN: Duration = Duration::from_millis(1_200);

/// How often a suspect is told so by who will judge it: five times before the verdict, so that at 20 % loss
/// each way one suspect in 170 misses its chance by this path alone.
pub(super) const ACCUSE_PERIOD: Duration = Duration::from_millis(200);

/// How many others probe a silent member too: all three paths must fail together for a false suspicion.
pub(super) const INDIRECT_PROBES: usize = 3;

/// While there is news it also travels apart from probes, to [`INDIRECT_PROBES`] members at a time. All of
/// 1,000 nodes have heard after some seven rounds; faster rounds would only spend a piece of news before a
/// short outage is over.
pub(super) const GOSSIP_PERIOD: Duration = Duration::from_millis(60);

/// So many rounds of gossip may follow each other that quickly: a piece of news is spent after seven.
pub(super) const GOSSIP_ROUNDS_QUICK: u32 = 16;

/// When news does not end, because hundreds of nodes come together or somebody is suspected again and again,
/// this is the period: its datagrams are full then, and 50 of them per node and second only keep everybody
/// busy.
pub(super) const GOSSIP_PERIOD_LASTING: Duration = Duration::from_millis(250);

/// After a change each node asks one other for members, which repairs what gossip missed: the first time
/// after a second, when gossip is over, then after twice as long each time. At rest one answer of up to 1,150
/// bytes per 30 s costs 40 bytes/s.
pub(super) const REPAIR_FIRST: Duration = Duration::from_secs(1);
pub(super) const REPAIR_MAX: Duration = Duration::from_secs(30);

/// The first repetition of an announcement: longer than a round trip and its answer.
pub(super) const ANNOUNCE_FIRST: Duration = Duration::from_millis(200);
/// Announcements are repeated at most this rarely, so that a peer that lost ten of them is still joined
/// within seconds.
pub(super) const ANNOUNCE_MAX: Duration = Duration::from_secs(2);

/// MEMBER-25: how long a member that others doubt has for an answer to this node, which is connected with it,
/// before their word that it is down counts: nearly as long as anybody's suspicion takes. It was asked when
/// the first of them said that it suspects it, so that this passes during the suspicion.
pub(super) const DOUBT_TO_DOWN: Duration = Duration::from_millis(1_100);

/// MEMBER-9: how often a node answers doubts of its present life. Whoever doubts it says so twice as rarely.
pub(super) const REFUTE_PERIOD: Duration = Duration::from_millis(100);

/// MEMBER-25: how often a member is asked that others suspect: rarely, as they ask it too, and every member
/// does.
pub(super) const ASK_PERIOD: Duration = Duration::from_secs(1);

/// How often members that are down are asked whether they are back, and how many each time. It heals
/// partitions: with both halves of 1,000 nodes seeking, the first contact is made within milliseconds.
pub(super) const SEEK_PERIOD: Duration = Duration::from_secs(2);
pub(super) const SEEK_TARGETS: usize = 2;

/// How late a timer may run before the node takes itself for stalled. Half a second is far above the jitter
/// of a busy machine, and leaves a suspect more than half of its time.
pub(super) const STALL: Duration = Duration::from_millis(500);

/// MEMBER-9: a node takes a new renewal at most this often.
pub(super) const RENEWAL_PERIOD: Duration = Duration::from_millis(500);

/// How many renewals without one accepted packet tell a node that the cluster knows a newer start of it.
/// Three paced ones: packet loss of 20 % hits a round trip three times in a row in 5 % of cases, and being
/// wrong only costs a log line.
pub(super) const RENEWALS_UNACCEPTED_MAX: u32 = 3;

/// How many datagrams wait to be drained at most. One call produces a dozen; more means that nobody drains,
/// and a lost datagram is what the protocol is made for.
pub(super) const DATAGRAMS_WAITING_MAX: usize = 4_096;

/// What an operator may set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MembershipConfig {
    /// How long nodes that are down stay in the picture, and are sought.
    pub retention: Duration,
    /// How many nodes are known at most, down ones included. It bounds the memory that a lying member can
    /// take: about 250 bytes each.
    pub members_max: usize,
}

impl Default for MembershipConfig {
    /// A day: a machine that was switched off in the evening is still shown the next morning. Four times the
    /// largest cluster that the tests simulate.
    fn default() -> Self {
        Self { retention: Duration::from_secs(24 * 3_600), members_max: 4_096 }
    }
}

/// How often each node passes a piece of news on, for a cluster of `size` nodes: `10 + log2(size)`. When all
/// have sent it `t` times to somebody at random, one of them has missed it with probability `size / e^t`:
/// less than 1 in 50,000 for any size. With half as many, one death in a hundred stayed unknown to somebody
/// until the dead node's turn to be probed came.
pub(super) fn transmissions(size: usize) -> NonZeroU8 {
    let bits = u8::try_from(size.max(1).ilog2()).unwrap_or(u8::MAX);
    NonZeroU8::MIN.saturating_add(9).saturating_add(bits)
}

/// MEMBER-8: foca's configuration for a cluster of `size` nodes.
pub(super) fn protocol(size: usize, config: &MembershipConfig) -> Config {
    Config {
        probe_period: PROBE_PERIOD,
        probe_rtt: PROBE_ROUND_TRIP,
        num_indirect_probes: count(INDIRECT_PROBES),
        max_transmissions: transmissions(size),
        suspect_to_down_after: SUSPECT_TO_DOWN,
        // As long as the picture keeps them: until then no old gossip can bring a dead identity back.
        remove_down_after: Some(config.retention),
        max_packet_size: count(PACKET_BYTES_MAX),
        // A node that was taken for dead learns it from the first who hears of it again.
        notify_down_members: true,
        // Ours instead of these three: foca's repair is no faster after a change, its announcements to
        // members that are down stop when nobody else is left, which is when they matter most, and its gossip
        // wakes the node up when there is no news too.
        periodic_announce: None,
        periodic_announce_to_down_members: None,
        periodic_gossip: None,
    }
}

fn count(number: usize) -> NonZeroUsize {
    NonZeroUsize::MIN.saturating_add(number.saturating_sub(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn news_is_passed_on_more_often_in_larger_clusters() {
        let sizes = [0, 1, 5, 100, 1_000];
        assert_eq!(sizes.map(|size| transmissions(size).get()), [10, 10, 12, 16, 19]);
        assert_eq!(transmissions(usize::MAX).get(), 73);
    }

    #[test]
    fn the_times_fit_into_each_other() {
        // MEMBER-8
        let config = protocol(5, &MembershipConfig::default());
        let round_trip = Duration::from_millis(80);
        assert!(config.probe_rtt > round_trip, "a direct answer");
        assert!(config.probe_rtt + round_trip * 2 <= config.probe_period, "ask others, hear from them");
        let stall = Duration::from_secs(1);
        assert!(config.probe_period + config.suspect_to_down_after >= stall + ACCUSE_PERIOD * 2);
        assert!(config.suspect_to_down_after > config.probe_period * 2);
        assert_eq!(config.max_packet_size.get(), PACKET_BYTES_MAX);
    }
}
