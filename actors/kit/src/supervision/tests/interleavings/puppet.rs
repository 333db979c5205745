//! Actors that do what they are told, and a world that sees what becomes of them.
//!
//! Owns what each actor did last, by its own account, and the rules that can be seen broken at once. Refuses
//! to know what a supervisor thinks.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::mailbox::{Actor, Alive, Context, Fault, Reply};
use crate::supervision::{ActorSystem, RestartEvent, Strategy, SupervisionObserver};
use crate::tree::Tree;

/// What a run has seen.
#[derive(Default)]
pub(super) struct World {
    state: Mutex<State>,
    tree: Mutex<Weak<Tree>>,
}

#[derive(Default)]
struct State {
    broken: Vec<String>,
    lives: HashMap<String, Account>,
    groups: HashMap<String, Group>,
    /// What killed actors have left behind.
    left: Vec<(String, Alive<PuppetMessage>)>,
    handled: HashSet<u64>,
    /// Until when, and in which incarnation of their supervisor.
    quarantined: HashMap<String, (Instant, u32)>,
}

/// What is known of the actor at one path.
#[derive(Default)]
struct Account {
    alive: u32,
    starts: u32,
    failing_starts: u32,
    /// Commands that are under way.
    started_by_hand: u32,
    last_end: Option<&'static str>,
}

/// A supervisor whose children nobody starts or stops by hand.
pub(super) struct Group {
    pub(super) strategy: Strategy,
    pub(super) stops_in_order: bool,
    /// In start order, without those that are quarantined: these leave their group.
    pub(super) children: Vec<String>,
}

impl std::fmt::Debug for World {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("World")
    }
}

impl World {
    pub(super) fn watch(&self, system: &ActorSystem) {
        *self.tree.lock() = Arc::downgrade(system.tree());
    }

    pub(super) fn add_group(&self, path: &str, group: Group) {
        self.state.lock().groups.insert(path.to_owned(), group);
    }

    pub(super) fn broken(&self) -> Vec<String> {
        self.state.lock().broken.clone()
    }

    pub(super) fn alive(&self, path: &str) -> u32 {
        self.state.lock().lives.get(path).map_or(0, |life| life.alive)
    }

    pub(super) fn starts(&self) -> u32 {
        self.state.lock().lives.values().map(|life| life.starts).sum()
    }

    pub(super) fn all_alive(&self) -> Vec<String> {
        let state = self.state.lock();
        state.lives.iter().filter(|(_, life)| life.alive > 0).map(|(path, _)| path.clone()).collect()
    }

    pub(super) fn last_end(&self, path: &str) -> Option<&'static str> {
        self.state.lock().lives.get(path).and_then(|life| life.last_end)
    }

    pub(super) fn fail_starts(&self, path: &str, count: u32) {
        self.state.lock().lives.entry(path.to_owned()).or_default().failing_starts = count;
    }

    /// Something that a killed actor of this team has left lives.
    pub(super) fn has_left(&self, team: &str) -> bool {
        self.state.lock().left.iter().any(|(left, _)| left.split('/').nth(1) == Some(team))
    }

    /// Lets go of what killed actors have left, of one of them or all.
    pub(super) fn release(&self, path: Option<&str>) {
        let is_it = |left: &(String, _)| path.is_none_or(|path| left.0 == path);
        let released: Vec<_> = self.state.lock().left.extract_if(.., |left| is_it(left)).collect();
        // Without the lock: whoever waits for it may look here.
        drop(released);
    }

    /// Somebody starts it by hand, which a quarantine gives way to: until `is_over` at any time.
    pub(super) fn started_by_hand(&self, path: &str, is_over: bool) {
        let mut state = self.state.lock();
        state.quarantined.remove(path);
        let life = state.lives.entry(path.to_owned()).or_default();
        life.started_by_hand = if is_over { life.started_by_hand - 1 } else { life.started_by_hand + 1 };
    }

    fn incarnation_of_parent(&self, path: &str) -> u32 {
        let tree = self.tree.lock().upgrade();
        let parent = path.rsplit_once('/').map_or("", |(parent, _)| parent);
        tree.and_then(|tree| tree.get(parent)).map_or(0, |record| record.incarnation())
    }
}

impl SupervisionObserver for World {
    fn observe(&self, event: &RestartEvent) {
        if let RestartEvent::Forgotten { path } = event {
            // Whoever has its id next is another one.
            self.state.lock().quarantined.remove(path.as_str());
        }
        let RestartEvent::Quarantined { path, wait, .. } = event else { return };
        let incarnation = self.incarnation_of_parent(path.as_str());
        let until = Instant::now() + *wait;
        self.state.lock().quarantined.insert(path.to_string(), (until, incarnation));
    }
}

impl State {
    fn lives_below(&self, path: &str) -> bool {
        let below = format!("{path}/");
        self.lives.iter().any(|(other, life)| life.alive > 0 && (other == path || other.starts_with(&below)))
    }

    /// Whoever follows this one in its group's start order and lives.
    fn lives_after(&self, path: &str, applies: impl Fn(&Group) -> bool) -> Option<String> {
        let (parent, _) = path.rsplit_once('/')?;
        let group = self.groups.get(parent).filter(|group| applies(group))?;
        let place = group.children.iter().position(|child| child == path)?;
        group.children[place + 1..].iter().find(|other| self.lives_below(other)).cloned()
    }
}

/// From the beginning of a start to the moment when all of the incarnation is dropped.
struct Life {
    world: Arc<World>,
    path: Arc<str>,
    end: &'static str,
}

impl Life {
    fn begin(world: &Arc<World>, path: &Arc<str>) -> Self {
        let incarnation = world.incarnation_of_parent(path);
        let mut state = world.state.lock();
        let mut broken = Vec::new();
        if state.lives.get(&**path).is_some_and(|life| life.alive > 0) {
            broken.push(format!("SUP-2: {path} is started beside itself"));
        }
        if state.left.iter().any(|(left, _)| **left == **path) {
            broken.push(format!("SUP-2: {path} is started beside what it has left"));
        }
        if let Some(other) = state.lives_after(path, |group| group.strategy != Strategy::OneForOne) {
            broken.push(format!("SUP-1: {path} is started while {other} lives, which is started after it"));
        }
        if let Some((until, of)) = state.quarantined.remove(&**path)
            && of == incarnation
            && Instant::now() < until
            && state.lives.get(&**path).is_none_or(|life| life.started_by_hand == 0)
        {
            broken.push(format!("{path} is started in quarantine"));
        }
        state.broken.append(&mut broken);
        let life = state.lives.entry(path.to_string()).or_default();
        life.alive += 1;
        life.starts += 1;
        drop(state);
        Self { world: Arc::clone(world), path: Arc::clone(path), end: "start_failed" }
    }

    fn must_fail(&self) -> bool {
        let mut state = self.world.state.lock();
        let life = state.lives.entry(self.path.to_string()).or_default();
        let fails = life.failing_starts > 0;
        life.failing_starts -= u32::from(fails);
        fails
    }
}

impl Drop for Life {
    fn drop(&mut self) {
        let mut state = self.world.state.lock();
        let life = state.lives.entry(self.path.to_string()).or_default();
        life.alive -= 1;
        life.last_end = Some(self.end);
    }
}

pub(super) struct Puppet {
    life: Life,
    script: Script,
    ends_by_itself: bool,
}

/// How an actor lives.
#[derive(Clone, Copy)]
pub(super) struct Script {
    pub(super) starts_for: Duration,
    pub(super) stops_for: Duration,
}

pub(super) struct PuppetArgs {
    pub(super) world: Arc<World>,
    pub(super) path: Arc<str>,
    pub(super) script: Script,
}

pub(super) enum PuppetMessage {
    Ping(u64, Reply<()>),
    Note(u64),
    Panic,
    Fault,
    Stop,
    Sleep(Duration),
    /// Something of it outlives it.
    Leave,
    /// A task of it lives for so long.
    Work(Duration),
    Worked,
}
crate::message!(PuppetMessage { Ping, Note, Panic, Fault, Stop, Sleep, Leave, Work, Worked });

impl Puppet {
    fn handled(&self, number: u64) {
        let mut state = self.life.world.state.lock();
        if !state.handled.insert(number) {
            state.broken.push(format!("{} was handed message {number} twice", self.life.path));
        }
    }
}

impl Actor for Puppet {
    type Message = PuppetMessage;
    type Args = PuppetArgs;
    const KIND: &'static str = "puppet";

    async fn start(args: &PuppetArgs, _: &mut Context<PuppetMessage>) -> Result<Self, Fault> {
        let mut life = Life::begin(&args.world, &args.path);
        if !args.script.starts_for.is_zero() {
            tokio::time::sleep(args.script.starts_for).await;
        }
        if life.must_fail() {
            return Err(Fault::new("not yet"));
        }
        life.end = "killed";
        Ok(Self { life, script: args.script, ends_by_itself: false })
    }

    async fn handle(
        &mut self,
        message: PuppetMessage,
        context: &mut Context<PuppetMessage>,
    ) -> Result<(), Fault> {
        match message {
            PuppetMessage::Ping(number, reply) => {
                self.handled(number);
                // Whoever asked may have given up.
                let _ = reply.send(());
            }
            PuppetMessage::Note(number) => self.handled(number),
            PuppetMessage::Panic => {
                self.life.end = "crash";
                // As a panic, without its lines in the output.
                std::panic::resume_unwind(Box::new("boom"));
            }
            PuppetMessage::Fault => {
                self.life.end = "crash";
                return Err(Fault::new("boom"));
            }
            PuppetMessage::Stop => {
                self.ends_by_itself = true;
                context.stop();
            }
            PuppetMessage::Sleep(time) => tokio::time::sleep(time).await,
            PuppetMessage::Leave => {
                let left = (self.life.path.to_string(), context.outlive());
                self.life.world.state.lock().left.push(left);
            }
            PuppetMessage::Work(time) => drop(context.spawn(async move {
                tokio::time::sleep(time).await;
                PuppetMessage::Worked
            })),
            PuppetMessage::Worked => {}
        }
        Ok(())
    }

    async fn stopping(&mut self, _: &mut Context<PuppetMessage>) {
        if !self.ends_by_itself {
            let path = &self.life.path;
            let mut state = self.life.world.state.lock();
            if let Some(other) = state.lives_after(path, |group| group.stops_in_order) {
                let why = format!("SUP-1: {path} is stopped before {other}, which was started after it");
                state.broken.push(why);
            }
        }
        if !self.script.stops_for.is_zero() {
            tokio::time::sleep(self.script.stops_for).await;
        }
        self.life.end = if self.ends_by_itself { "normal" } else { "stop" };
    }
}
