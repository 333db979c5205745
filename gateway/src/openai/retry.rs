//! Whether a request that came to nothing is sent again.
//!
//! Plain decider. It knows what died: a connection, a node, an engine's process, or nothing because nothing
//! was sent. Refuses to know who else could be asked: that is told to it.
//!
//! HTTP-18 and HTTP-22: a request that may have been worked on is sent a second time at most, and not at all
//! where it may itself be what killed its engine. One that was not sent is tried until its time is up.

use std::time::Duration;

/// Why an attempt came to nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RetryCause {
    /// The engine takes no connection: nothing was sent.
    NotSent,
    /// The other node cannot be reached: nothing was sent.
    NotReached,
    /// The connection broke, and the engine's process lives.
    Dropped,
    /// The other node was lost on the way.
    NodeLost,
    /// The engine's process died.
    Died {
        /// A request may be the cause, and no other one was in flight.
        is_the_cause: bool,
    },
    /// Whoever was asked does not take it, for a reason of its own.
    PassedOver,
}

/// What follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RetryDecision {
    /// Again, after this.
    Again(Duration),
    /// That was the last word.
    Stop,
}

/// How often one request may be tried, and what of it is used up.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct RetryPolicy {
    /// Another node asks, and sends it a second time itself.
    is_for_node: bool,
    /// How often somebody may have worked on it.
    worked_on: u32,
    /// How often somebody did not take it.
    passed_over: u32,
    /// How often nothing was sent.
    not_sent: u32,
}

/// A request that is worked on twice may cost twice; once more than that helps nobody.
const WORKED_ON_MAX: u32 = 2;
/// Whoever is asked costs a round trip.
const PASSED_OVER_MAX: u32 = 4;
/// An engine that restarts listens within a second.
const PAUSE_FIRST: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(1);

impl RetryPolicy {
    /// Of a request that another node passes on: of the two times that it may be worked on, the second one is
    /// that node's to give away.
    pub(super) fn for_node() -> Self {
        Self { is_for_node: true, ..Self::default() }
    }

    /// `is_another`: somebody else could be asked. `has_time`: the request may still wait.
    pub(super) fn after(&mut self, cause: RetryCause, is_another: bool, has_time: bool) -> RetryDecision {
        let again = match cause {
            RetryCause::Died { is_the_cause: true } => return RetryDecision::Stop,
            RetryCause::Died { is_the_cause: false } | RetryCause::Dropped | RetryCause::NodeLost => {
                self.worked_on += 1;
                !self.is_for_node && self.worked_on < WORKED_ON_MAX
            }
            RetryCause::NotReached | RetryCause::PassedOver => {
                self.passed_over += 1;
                is_another && has_time && self.passed_over < PASSED_OVER_MAX
            }
            RetryCause::NotSent => {
                let pause = PAUSE_FIRST * 2_u32.saturating_pow(self.not_sent.min(8));
                self.not_sent = self.not_sent.saturating_add(1);
                return if has_time {
                    RetryDecision::Again(pause.min(PAUSE_MAX))
                } else {
                    RetryDecision::Stop
                };
            }
        };
        if again { RetryDecision::Again(Duration::ZERO) } else { RetryDecision::Stop }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn any_cause() -> impl Strategy<Value = RetryCause> {
        prop_oneof![
            Just(RetryCause::NotSent),
            Just(RetryCause::NotReached),
            Just(RetryCause::Dropped),
            Just(RetryCause::NodeLost),
            Just(RetryCause::PassedOver),
            any::<bool>().prop_map(|is_the_cause| RetryCause::Died { is_the_cause }),
        ]
    }

    /// HTTP-22.
    #[test]
    fn what_killed_its_engine_is_not_sent_again() {
        assert_eq!(
            RetryPolicy::default().after(RetryCause::Died { is_the_cause: true }, true, true),
            RetryDecision::Stop
        );
    }

    /// HTTP-18.
    #[test]
    fn an_innocent_request_is_sent_a_second_time_and_no_third() {
        for cause in [RetryCause::Dropped, RetryCause::NodeLost, RetryCause::Died { is_the_cause: false }] {
            let mut policy = RetryPolicy::default();
            assert_eq!(policy.after(cause, false, true), RetryDecision::Again(Duration::ZERO), "{cause:?}");
            assert_eq!(policy.after(cause, true, true), RetryDecision::Stop, "{cause:?}");
        }
    }

    /// HTTP-18: two in all, not two on each node.
    #[test]
    fn what_another_node_asked_for_is_worked_on_once_here() {
        for cause in [RetryCause::Dropped, RetryCause::Died { is_the_cause: false }] {
            assert_eq!(RetryPolicy::for_node().after(cause, true, true), RetryDecision::Stop, "{cause:?}");
        }
        assert!(matches!(
            RetryPolicy::for_node().after(RetryCause::NotSent, false, true),
            RetryDecision::Again(_)
        ));
    }

    /// HTTP-11.
    #[test]
    fn what_was_not_sent_is_tried_until_its_time_is_up() {
        let mut policy = RetryPolicy::default();
        let mut waited = Duration::ZERO;
        for _ in 0..130 {
            let RetryDecision::Again(pause) = policy.after(RetryCause::NotSent, false, true) else {
                panic!("it gave up")
            };
            assert!((PAUSE_FIRST..=PAUSE_MAX).contains(&pause));
            waited += pause;
        }
        assert!(waited > Duration::from_secs(120));
        assert_eq!(policy.after(RetryCause::NotSent, false, false), RetryDecision::Stop);
    }

    proptest! {
        /// HTTP-18 and HTTP-22: in whatever order things come, a request is worked on twice at most.
        #[test]
        fn no_request_is_worked_on_more_than_twice(all in prop::collection::vec((any_cause(), any::<bool>()), 0..50)) {
            let mut policy = RetryPolicy::default();
            let mut worked_on = 0;
            for (cause, is_another) in all {
                let is_work = matches!(cause, RetryCause::Dropped | RetryCause::NodeLost | RetryCause::Died { .. });
                worked_on += u32::from(is_work);
                if policy.after(cause, is_another, true) == RetryDecision::Stop {
                    break;
                }
                prop_assert!(worked_on < 2);
            }
        }
    }
}
