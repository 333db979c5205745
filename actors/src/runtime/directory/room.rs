//! Who gets memory: one pure function.
//!
//! Refuses to stop anything: it names who should go.

use std::time::Duration;

use crate::ids::RuntimeId;

/// A runtime that holds memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Holder {
    pub(crate) id: RuntimeId,
    /// What it frees when it goes.
    pub(crate) bytes: u64,
    /// For how long nobody has asked for anything; `None` while it is busy or loading.
    pub(crate) idle_for: Option<Duration>,
}

/// What is to be done for a load.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Room {
    /// Go ahead.
    Fits,
    /// Stop these first, all of them.
    Evict(Vec<RuntimeId>),
    /// Not even then; in words.
    None(String),
}

/// What a runtime is told that wants to load.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum RoomAnswer {
    /// The memory is its own now.
    Granted,
    /// There is none, in words.
    Denied(String),
}

/// Decides for a load of `needed` bytes. Memory promised to loads that are under way (`reserved`) is not free any more. Of the idle holders
/// the longest idle goes first, and nobody goes for nothing. A busy or loading runtime is never a victim.
pub(crate) fn make_room(needed: u64, free: u64, reserved: u64, headroom: u64, holders: &[Holder]) -> Room {
    let available = free.saturating_sub(reserved).saturating_sub(headroom);
    if needed <= available {
        return Room::Fits;
    }
    let mut missing = needed - available;
    let mut idle: Vec<_> = holders.iter().filter_map(|holder| Some((holder.idle_for?, holder))).collect();
    idle.sort_by_key(|(idle_for, _)| std::cmp::Reverse(*idle_for));
    let mut victims = Vec::new();
    for (_, holder) in idle {
        victims.push(holder);
        missing = missing.saturating_sub(holder.bytes);
        if missing == 0 {
            return Room::Evict(keep_needed(victims, needed - available));
        }
    }
    let busy: Vec<_> = holders
        .iter()
        .filter(|holder| holder.idle_for.is_none())
        .map(|holder| holder.id.to_string())
        .collect();
    let busy = if busy.is_empty() { String::new() } else { format!("; busy: {}", busy.join(", ")) };
    Room::None(format!("it needs {}, {} are free for models{busy}", in_words(needed), in_words(available)))
}

/// Leaves out victims that the later ones made unnecessary, the least idle first.
fn keep_needed(victims: Vec<&Holder>, missing: u64) -> Vec<RuntimeId> {
    let mut freed: u64 = victims.iter().map(|holder| holder.bytes).sum();
    let mut kept = Vec::new();
    for holder in victims {
        if freed - holder.bytes >= missing {
            freed -= holder.bytes;
        } else {
            kept.push(holder.id.clone());
        }
    }
    kept
}

/// `1.2 GB`, `98 MB`.
pub(crate) fn in_words(bytes: u64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "two digits are shown")]
    let megabytes = bytes as f64 / 1e6;
    if megabytes >= 1000.0 { format!("{:.1} GB", megabytes / 1000.0) } else { format!("{megabytes:.0} MB") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn holder(id: &str, bytes: u64, idle_s: Option<u64>) -> Holder {
        Holder { id: id.parse().unwrap(), bytes, idle_for: idle_s.map(Duration::from_secs) }
    }

    #[test]
    fn the_longest_idle_goes_first_and_nobody_for_nothing() {
        let holders = [holder("a", 10, Some(5)), holder("b", 10, Some(50)), holder("c", 100, Some(20))];
        assert_eq!(make_room(10, 30, 10, 5, &holders), Room::Fits);
        assert_eq!(make_room(10, 5, 0, 0, &holders), Room::Evict(vec!["b".parse().unwrap()]));
        assert_eq!(make_room(100, 0, 0, 0, &holders), Room::Evict(vec!["c".parse().unwrap()]));
        let none = make_room(2_000_000_000, 500_000_000, 0, 0, &[holder("busy", 1 << 40, None)]);
        assert_eq!(none, Room::None("it needs 2.0 GB, 500 MB are free for models; busy: busy".to_owned()));
    }

    proptest! {
        #[test]
        fn evicting_makes_enough_room_and_spares_the_busy(
            needed in 0_u64..200, free in 0_u64..100, reserved in 0_u64..50, headroom in 0_u64..20,
            spec in proptest::collection::vec((0_u64..60, proptest::option::of(0_u64..100)), 0..8),
        ) {
            let holders: Vec<_> = spec.iter().enumerate().map(|(n, (b, idle))| holder(&format!("r{n}"), *b, *idle)).collect();
            let available = free.saturating_sub(reserved).saturating_sub(headroom);
            let idle_bytes: u64 = holders.iter().filter(|h| h.idle_for.is_some()).map(|h| h.bytes).sum();
            match make_room(needed, free, reserved, headroom, &holders) {
                Room::Fits => prop_assert!(needed <= available),
                Room::None(_) => prop_assert!(needed > available + idle_bytes),
                Room::Evict(victims) => {
                    let chosen: Vec<_> = holders.iter().filter(|h| victims.contains(&h.id)).collect();
                    prop_assert!(chosen.iter().all(|h| h.idle_for.is_some()));
                    let freed: u64 = chosen.iter().map(|h| h.bytes).sum();
                    prop_assert!(available + freed >= needed);
                    for victim in &chosen {
                        prop_assert!(available + freed - victim.bytes < needed, "{} goes for nothing", victim.id);
                    }
                }
            }
        }
    }
}
