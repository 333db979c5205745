//! Who watches whom over one connection.
//!
//! Owns both tables: the actors of the peer that are watched from here, and ours that the peer watches. Plain
//! code, bounded: what to say is returned.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

/// Actors of the peer that are watched from here. `W` is who is told.
#[derive(Debug)]
pub(super) struct Watching<W> {
    watches: BTreeMap<u64, W>,
    next: u64,
    most: usize,
}

impl<W> Watching<W> {
    pub(super) fn new(most: usize) -> Self {
        Self { watches: BTreeMap::new(), next: 1, most }
    }

    /// The number of a new watch; `None` when there are as many as may be.
    pub(super) fn begin(&mut self, watcher: W) -> Option<u64> {
        // LANE-9
        if self.watches.len() >= self.most {
            return None;
        }
        let number = self.next;
        self.next += 1;
        self.watches.insert(number, watcher);
        Some(number)
    }

    /// A watch is over, because the peer said so or nobody is interested any more. Whoever is told is told
    /// once.
    pub(super) fn end(&mut self, number: u64) -> Option<W> {
        self.watches.remove(&number)
    }

    /// All watches are over.
    pub(super) fn end_all(&mut self) -> impl Iterator<Item = W> + use<W> {
        std::mem::take(&mut self.watches).into_values()
    }
}

/// Our actors that the peer watches. `G` ends the watch when it is dropped.
#[derive(Debug)]
pub(super) struct Watched<G> {
    watches: BTreeMap<u64, Option<G>>,
    most: usize,
    is_down: bool,
}

/// A watch was not begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WatchRefusal {
    TooMany,
    /// The peer uses a number twice: the first watch stays.
    Known,
    Down,
}

impl<G> Watched<G> {
    pub(super) fn new(most: usize) -> Self {
        Self { watches: BTreeMap::new(), most, is_down: false }
    }

    /// Takes a place. The actor is watched next, outside of any lock, and may end before [`Watched::began`].
    pub(super) fn begin(&mut self, number: u64) -> Result<(), WatchRefusal> {
        if self.is_down {
            return Err(WatchRefusal::Down);
        }
        let is_full = self.watches.len() >= self.most;
        match self.watches.entry(number) {
            Entry::Occupied(_) => Err(WatchRefusal::Known),
            // LANE-9
            Entry::Vacant(_) if is_full => Err(WatchRefusal::TooMany),
            Entry::Vacant(place) => {
                place.insert(None);
                Ok(())
            }
        }
    }

    /// Keeps the guard of a watch; gives it back when the watch is over already. Drop it outside of the lock.
    pub(super) fn began(&mut self, number: u64, guard: G) -> Option<G> {
        match self.watches.get_mut(&number) {
            Some(place) => place.replace(guard),
            None => Some(guard),
        }
    }

    /// The watch is over. `None`: it was before, nothing is to be said. Drop the guard outside of the lock.
    pub(super) fn end(&mut self, number: u64) -> Option<Option<G>> {
        self.watches.remove(&number)
    }

    /// All watches are over, and none is begun any more. Drop the guards outside of the lock.
    pub(super) fn end_all(&mut self) -> Vec<G> {
        self.is_down = true;
        std::mem::take(&mut self.watches).into_values().flatten().collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn lane_9_both_sides_keep_a_bounded_number_of_watches_and_end_each_once(
            steps in proptest::collection::vec((any::<bool>(), 1..8_u64), 0..100),
        ) {
            // LANE-9
            let (mut watching, mut watched) = (Watching::new(3), Watched::new(3));
            let (mut begun, mut known) = (Vec::new(), Vec::new());
            for (begins, number) in steps {
                if begins {
                    match watching.begin(()) {
                        Some(new) => begun.push(new),
                        None => prop_assert_eq!(begun.len(), 3),
                    }
                    match watched.begin(number) {
                        Ok(()) => {
                            prop_assert!(!known.contains(&number) && known.len() < 3);
                            prop_assert_eq!(watched.began(number, number), None);
                            known.push(number);
                        }
                        Err(WatchRefusal::Known) => prop_assert!(known.contains(&number)),
                        Err(WatchRefusal::TooMany) => prop_assert_eq!(known.len(), 3),
                        Err(WatchRefusal::Down) => prop_assert!(false),
                    }
                } else {
                    let was_begun = begun.contains(&number);
                    prop_assert_eq!(watching.end(number).is_some(), was_begun);
                    begun.retain(|other| *other != number);
                    let was_known = known.contains(&number);
                    prop_assert_eq!(watched.end(number), was_known.then_some(Some(number)));
                    known.retain(|other| *other != number);
                }
            }
            prop_assert_eq!(watching.end_all().count(), begun.len());
            prop_assert_eq!(watched.end_all().len(), known.len());
            prop_assert_eq!(watched.begin(99), Err(WatchRefusal::Down));
        }
    }

    #[test]
    fn a_watch_that_ends_while_it_begins_gives_its_guard_back() {
        let mut watched = Watched::new(3);
        watched.begin(1).unwrap();
        assert_eq!(watched.end(1), Some(None));
        assert_eq!(watched.began(1, "guard"), Some("guard"));
        assert_eq!(watched.end(1), None);
    }
}
