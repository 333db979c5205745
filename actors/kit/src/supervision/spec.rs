//! Children as data: what is supervised, and how.
//!
//! Owns [`ActorSpec`] and [`SupervisorSpec`]. They are checked when they are added, before anything starts.

use std::collections::HashSet;
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use super::child::{ActorChild, Child, SupervisorChild};
use super::handle::{SupervisorHandle, SupervisorPort};
use super::machine::{
    AutoShutdown, BadChild, ChildRules, OnExhausted, Restart, StopOrder, Strategy, SupervisorRules,
};
use super::shared::SystemShared;
use crate::life::{ActorPath, Backoff, RestartLimits};
use crate::mailbox::{Actor, Core, CoreOptions, Handle, Message};
use crate::tree::Record;

/// How a child is stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shutdown {
    /// Asked, and killed after so long.
    Grace(Duration),
    /// Killed at once.
    Kill,
}

/// An actor to be supervised.
///
/// ```
/// # use arw_kit::mailbox::{Actor, Context, Fault};
/// # use arw_kit::supervision::{ActorSpec, Restart};
/// # enum Never {}
/// # impl arw_kit::mailbox::Message for Never { const KINDS: &'static [&'static str] = &[]; fn kind(&self) -> usize { 0 } }
/// # struct Idle;
/// # impl Actor for Idle {
/// #     type Message = Never; type Args = (); const KIND: &'static str = "idle";
/// #     async fn start(_: &(), _: &mut Context<Never>) -> Result<Self, Fault> { Ok(Idle) }
/// #     async fn handle(&mut self, _: Never, _: &mut Context<Never>) -> Result<(), Fault> { Ok(()) }
/// # }
/// let spec = ActorSpec::<Idle>::new("idle", ()).mailbox(64).restart(Restart::Transient);
/// ```
pub struct ActorSpec<A: Actor> {
    id: Arc<str>,
    args: A::Args,
    mailbox_bound: u32,
    restart: Restart,
    significant: bool,
    on_exhausted: OnExhausted,
    shutdown: Shutdown,
    start_deadline: Duration,
    actor: PhantomData<fn() -> A>,
}

impl<A: Actor> fmt::Debug for ActorSpec<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ActorSpec({} {})", A::KIND, self.id)
    }
}

/// Deep enough for a burst, shallow enough that a stuck actor is noticed while its backlog is small.
const MAILBOX_BOUND: u32 = 1024;
/// OTP's default for workers.
const WORKER_GRACE: Duration = Duration::from_secs(5);
/// A supervisor's grace holds the graces of its children.
const SUPERVISOR_GRACE: Duration = Duration::from_secs(60);
const START_DEADLINE: Duration = Duration::from_secs(30);

impl<A: Actor> ActorSpec<A> {
    /// An actor called `id`, whose incarnations start from `args`: permanent, a mailbox of 1024, five seconds
    /// to stop, thirty to start.
    pub fn new(id: impl Into<Arc<str>>, args: A::Args) -> Self {
        Self {
            id: id.into(),
            args,
            mailbox_bound: MAILBOX_BOUND,
            restart: Restart::Permanent,
            significant: false,
            on_exhausted: OnExhausted::Escalate,
            shutdown: Shutdown::Grace(WORKER_GRACE),
            start_deadline: START_DEADLINE,
            actor: PhantomData,
        }
    }

    /// Most messages that wait.
    #[must_use]
    pub fn mailbox(mut self, bound: u32) -> Self {
        self.mailbox_bound = bound;
        self
    }

    /// When it is started again.
    #[must_use]
    pub fn restart(mut self, restart: Restart) -> Self {
        self.restart = restart;
        self
    }

    /// Its own end counts for the supervisor's auto-shutdown.
    #[must_use]
    pub fn significant(mut self) -> Self {
        self.significant = true;
        self
    }

    /// What happens when its restart budget is used up.
    #[must_use]
    pub fn on_exhausted(mut self, on_exhausted: OnExhausted) -> Self {
        self.on_exhausted = on_exhausted;
        self
    }

    /// How it is stopped.
    #[must_use]
    pub fn shutdown(mut self, shutdown: Shutdown) -> Self {
        self.shutdown = shutdown;
        self
    }

    /// A start that takes longer has failed.
    #[must_use]
    pub fn start_deadline(mut self, deadline: Duration) -> Self {
        self.start_deadline = deadline;
        self
    }

    pub(crate) fn mount(
        self,
        system: &Arc<SystemShared>,
        parent: &ActorPath,
    ) -> (ChildSpec, Handle<A::Message>) {
        let record = system.services.tree.make(parent.child(&self.id), A::KIND, A::Message::KINDS);
        let options = CoreOptions { bound: self.mailbox_bound };
        let core = Arc::new(Core::new(Arc::clone(&system.services), Arc::clone(&record), options));
        let as_probe: std::sync::Weak<Core<A::Message>> = Arc::downgrade(&core);
        record.attach_mailbox(as_probe);
        let handle = Handle::new(Arc::clone(&core));
        let spec = ChildSpec {
            rules: ChildRules {
                id: self.id,
                restart: self.restart,
                significant: self.significant,
                on_exhausted: self.on_exhausted,
            },
            shutdown: self.shutdown,
            start_deadline: self.start_deadline,
            child: Arc::new(ActorChild::<A>::new(core, Arc::new(self.args))),
        };
        (spec, handle)
    }
}

/// A child in its place in the tree, ready to be started (again).
#[derive(Clone)]
pub struct ChildSpec {
    pub(crate) rules: ChildRules,
    pub(crate) shutdown: Shutdown,
    pub(crate) start_deadline: Duration,
    pub(crate) child: Arc<dyn Child>,
}

impl fmt::Debug for ChildSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ChildSpec({:?})", self.rules)
    }
}

/// A child cannot be added.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AddChildError {
    /// Its spec is not acceptable here.
    #[error(transparent)]
    Bad(#[from] BadChild),
    /// Its start failed; it was not kept.
    #[error("start failed: {0}")]
    StartFailed(Arc<str>),
    /// The supervisor does not run, or did not answer in time.
    #[error("the supervisor does not answer")]
    NoSupervisor,
}

/// A supervisor and its children, in start order.
///
/// ```
/// use arw_kit::supervision::{ActorSystem, Strategy};
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// let system = ActorSystem::new("demo");
/// let root = system.root().strategy(Strategy::RestForOne);
/// # let _ = root; });
/// ```
pub struct SupervisorSpec {
    system: Arc<SystemShared>,
    path: ActorPath,
    rules: SupervisorRules,
    own: ChildRules,
    shutdown: Shutdown,
    children: Vec<ChildSpec>,
    ids: HashSet<Arc<str>>,
    port: Arc<SupervisorPort>,
    record: Arc<Record>,
    bad: Option<BadChild>,
}

impl fmt::Debug for SupervisorSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SupervisorSpec({}, {} children)", self.path, self.children.len())
    }
}

impl SupervisorSpec {
    pub(crate) fn new(system: Arc<SystemShared>, path: ActorPath, id: Arc<str>) -> Self {
        Self {
            record: system.services.tree.make(path.clone(), "supervisor", &[]),
            port: Arc::new(SupervisorPort::new(Arc::clone(&system), path.clone())),
            system,
            path,
            rules: SupervisorRules::default(),
            own: ChildRules {
                id,
                restart: Restart::Permanent,
                significant: false,
                on_exhausted: OnExhausted::Escalate,
            },
            shutdown: Shutdown::Grace(SUPERVISOR_GRACE),
            children: Vec::new(),
            ids: HashSet::new(),
            bad: None,
        }
    }

    /// Which children a failure concerns.
    #[must_use]
    pub fn strategy(mut self, strategy: Strategy) -> Self {
        self.rules.strategy = strategy;
        self
    }

    /// The budget that its children share.
    #[must_use]
    pub fn limits(mut self, limits: RestartLimits) -> Self {
        self.rules.limits = limits;
        self
    }

    /// Waits before restarts.
    #[must_use]
    pub fn backoff(mut self, backoff: Backoff) -> Self {
        self.rules.backoff = backoff;
        self
    }

    /// What significant children mean.
    #[must_use]
    pub fn auto_shutdown(mut self, auto_shutdown: AutoShutdown) -> Self {
        self.rules.auto_shutdown = auto_shutdown;
        self
    }

    /// In which order it stops its children when it ends.
    #[must_use]
    pub fn stop_order(mut self, stop_order: StopOrder) -> Self {
        self.rules.stop_order = stop_order;
        self
    }

    /// When this supervisor itself is started again.
    #[must_use]
    pub fn restart(mut self, restart: Restart) -> Self {
        self.own.restart = restart;
        self
    }

    /// This supervisor's own end counts for its supervisor's auto-shutdown.
    #[must_use]
    pub fn significant(mut self) -> Self {
        self.own.significant = true;
        self
    }

    /// Adds an actor at the end of the start order. Its handle takes messages at once; they wait for its
    /// start.
    pub fn actor<A: Actor>(&mut self, spec: ActorSpec<A>) -> Handle<A::Message> {
        let (spec, handle) = spec.mount(&self.system, &self.path);
        self.push(spec);
        handle
    }

    /// Begins a supervisor that is to become a child of this one; [`SupervisorSpec::nest`] adds it.
    #[must_use]
    pub fn supervisor(&self, id: impl Into<Arc<str>>) -> SupervisorSpec {
        let id = id.into();
        SupervisorSpec::new(Arc::clone(&self.system), self.path.child(&id), id)
    }

    /// Adds a supervisor at the end of the start order.
    pub fn nest(&mut self, child: SupervisorSpec) -> SupervisorHandle {
        let handle = child.handle();
        if let Some(bad) = &child.bad {
            self.bad.get_or_insert_with(|| bad.clone());
        }
        let spec = child.into_child();
        self.push(spec);
        handle
    }

    /// The handle through which children are added while it runs.
    #[must_use]
    pub fn handle(&self) -> SupervisorHandle {
        SupervisorHandle::new(Arc::clone(&self.port))
    }

    /// Its place in the tree.
    #[must_use]
    pub fn path(&self) -> &ActorPath {
        &self.path
    }

    // Found out again by the machine at each start; kept here so that a system refuses it before anything has
    // started.
    fn push(&mut self, spec: ChildSpec) {
        if !self.ids.insert(Arc::clone(&spec.rules.id)) {
            self.bad.get_or_insert(BadChild::Duplicate(Arc::clone(&spec.rules.id)));
        }
        self.children.push(spec);
    }

    pub(crate) fn bad(&self) -> Option<&BadChild> {
        self.bad.as_ref()
    }

    /// Takes its place in the tree, before its children's.
    pub(crate) fn into_child(self) -> ChildSpec {
        let (rules, shutdown) = (self.own.clone(), self.shutdown);
        let (child, _) = self.into_supervisor_child();
        // Its children have start deadlines of their own; this one only ends what hangs between them.
        ChildSpec { rules, shutdown, start_deadline: Duration::from_secs(3600), child }
    }

    pub(crate) fn into_supervisor_child(self) -> (Arc<SupervisorChild>, Arc<Record>) {
        let record = self.record;
        let child =
            SupervisorChild::new(self.system, Arc::clone(&record), self.rules, self.children, self.port);
        (Arc::new(child), record)
    }
}
