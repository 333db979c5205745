//! What all mailboxes of a system use together.
//!
//! Owns nothing but the bundle. Refuses to know supervisors: these have more in common, and build on it.

use std::fmt;
use std::sync::Arc;

use super::dead_letters::DeadLetters;
use super::deadline::Deadlines;
use crate::clock::Clock;
use crate::tree::{Lingering, Tree};

pub(crate) struct Services {
    pub(crate) clock: Clock,
    pub(crate) tree: Arc<Tree>,
    pub(crate) dead_letters: DeadLetters,
    pub(crate) deadlines: Arc<Deadlines>,
    pub(crate) lingering: Lingering,
}

impl Services {
    pub(crate) fn new(clock: Clock) -> Arc<Self> {
        Arc::new(Self {
            clock,
            tree: Arc::new(Tree::new(clock)),
            dead_letters: DeadLetters::default(),
            deadlines: Deadlines::new(),
            lingering: Lingering::default(),
        })
    }
}

impl fmt::Debug for Services {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Services").finish_non_exhaustive()
    }
}
