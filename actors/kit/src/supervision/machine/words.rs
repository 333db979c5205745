//! The words of supervision: rules, what happens, what is to be done.

use std::sync::Arc;
use std::time::Duration;

use crate::life::{Backoff, ExitReason, RestartLimits, RestartUse};
use crate::moment::Moment;
use crate::tree::ActorState;

/// Which children a failure concerns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Strategy {
    /// Only the one that failed.
    #[default]
    OneForOne,
    /// All of them.
    OneForAll,
    /// The one that failed and those that were started after it.
    RestForOne,
}

/// When a child is started again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Restart {
    /// After every exit.
    #[default]
    Permanent,
    /// After an abnormal exit.
    Transient,
    /// Never; it is forgotten once it has ended.
    Temporary,
}

/// What a supervisor does once significant children have ended by themselves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AutoShutdown {
    /// Nothing; significant children are not allowed.
    #[default]
    Never,
    /// Ends when one of them has.
    AnySignificant,
    /// Ends when all of them have.
    AllSignificant,
}

/// In which order a supervisor that ends stops its children.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StopOrder {
    /// In the reverse of the start order, each when the one after it has ended.
    #[default]
    Reverse,
    /// All at once: for children that know nothing of each other, whose graces would add up.
    Together,
}

/// What happens to a child whose restart budget is used up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnExhausted {
    /// The supervisor ends all its children and itself: its own supervisor decides.
    #[default]
    Escalate,
    /// The child alone is set aside, with a budget of its own, and tried again later. For leaf resources.
    Quarantine(Quarantine),
}

/// How a quarantined child is tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quarantine {
    /// Until the first trial; doubled after each failed one.
    pub first: Duration,
    /// Never longer than this.
    pub max: Duration,
    /// A trial has succeeded once the child has run so long.
    pub probation: Duration,
    /// The child's own budget.
    pub limits: RestartLimits,
}

/// What the machine must know of a child.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChildRules {
    /// Unique under its supervisor.
    pub id: Arc<str>,
    /// When it is started again.
    pub restart: Restart,
    /// Its own end counts for [`AutoShutdown`].
    pub significant: bool,
    /// What happens when its budget is used up.
    pub on_exhausted: OnExhausted,
}

/// The rules of a supervisor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SupervisorRules {
    /// Which children a failure concerns.
    pub strategy: Strategy,
    /// The budget that all children share, except quarantined ones.
    pub limits: RestartLimits,
    /// Waits before restarts.
    pub backoff: Backoff,
    /// What significant children mean.
    pub auto_shutdown: AutoShutdown,
    /// How children are stopped at the end.
    pub stop_order: StopOrder,
}

/// Names a child within its supervisor; never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChildKey(pub(super) u64);

/// A child cannot be added.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadChild {
    /// The id is in use.
    #[error("child `{0}` exists already")]
    Duplicate(Arc<str>),
    /// A significant child must be able to end by itself.
    #[error("child `{0}` is significant and permanent: a permanent child never ends by itself")]
    SignificantPermanent(Arc<str>),
    /// Nothing would come of it.
    #[error("child `{0}` is significant, but its supervisor never shuts down by itself")]
    SignificantForNothing(Arc<str>),
    /// The supervisor is ending.
    #[error("the supervisor is stopping")]
    Stopping,
}

/// What has happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SupervisorEvent {
    /// Start the children that were added so far.
    Begun,
    /// A start succeeded.
    Started(ChildKey),
    /// A start failed or was cancelled; nothing of it is left.
    StartFailed(ChildKey, Arc<str>),
    /// An incarnation has fully ended.
    Ended(ChildKey, ExitReason),
    /// An incarnation was killed and has not ended: it blocks its thread.
    Stuck(ChildKey),
    /// The time of [`SupervisorMachine::next_deadline`](super::SupervisorMachine::next_deadline) has come.
    TimerFired,
    /// Start this child (again), whatever its state.
    StartWanted(ChildKey),
    /// Stop this child and leave it so.
    StopWanted(ChildKey),
    /// Stop this child and forget it.
    RemoveWanted(ChildKey),
    /// End all children in reverse order, then finish.
    StopRequested,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SupervisorAction {
    /// Start a new incarnation; answer with `Started` or `StartFailed`.
    Start(ChildKey),
    /// Give up the start that is running; answer with `StartFailed` (or `Started`, when it was too late).
    CancelStart(ChildKey),
    /// Stop the incarnation, killing it after its grace; answer with `Ended`.
    Stop(ChildKey),
    /// Show this in the tree.
    Show(ChildKey, ActorState),
    /// A failure is being healed.
    Healing {
        /// Which child failed.
        child: ChildKey,
        /// How.
        reason: ExitReason,
        /// The budget after it.
        budget: RestartUse,
        /// The wait before its next start.
        delay: Duration,
    },
    /// A child's budget is used up: it is set aside.
    Quarantined {
        /// Which child.
        child: ChildKey,
        /// How it last ended.
        reason: ExitReason,
        /// When it is tried again.
        until: Moment,
    },
    /// A child was killed and has not ended: it is set aside until it has.
    Stuck(ChildKey),
    /// A trial has succeeded.
    Recovered(ChildKey),
    /// Forget this child: it has fully ended.
    Forget(ChildKey),
    /// Every child has been started for the first time.
    Ready,
    /// Every child has ended: end with this reason.
    Finish(ExitReason),
}
