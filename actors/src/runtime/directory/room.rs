//! Who gets memory: a decider that is told who asks, what is free and what every runtime is doing.
//!
//! Owns the loads that wait for memory, the memory that is promised to loads under way, and the choice of who
//! is to go. Refuses to stop anything and to measure anything (`memory.rs`).
//!
//! * ROOM-1: a promise lasts as long as its load. It ends when its runtime is ready, has failed, was stopped
//!   or removed.
//! * ROOM-2: nobody goes for nothing: who is chosen to go is needed for a load that waits, and whose memory
//!   is on its way counts as free soon. A busy or loading runtime is never chosen, and for a load that nobody
//!   has asked for (a trial after a quarantine, a start with the node) nobody goes at all.
//! * ROOM-3: loads are served in the order in which they asked: no later one takes what an earlier one waits
//!   for.
//! * ROOM-4: a load that would fit once others have become idle, loaded or gone waits for that, for at most
//!   [`Rules::wait_max`]; one that would not fit even then is refused at once.
//! * ROOM-5: what a program held that has ended counts as free soon until it is seen to be free, for at most
//!   [`Rules::returns_within`]. Some virtual machines give it back late. It is given to nobody before it is
//!   free.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use arw_kit::moment::Moment;

use crate::ids::RuntimeId;

/// A load that wants memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Load {
    pub(crate) id: RuntimeId,
    /// The number of its launch, which tells it from an earlier one of the same runtime.
    pub(crate) attempt: u64,
    pub(crate) needed_bytes: u64,
    /// Somebody waits for it: a request, or an operator who has started it.
    pub(crate) is_asked_for: bool,
}

/// What a runtime is doing, as far as memory is concerned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Tenant {
    pub(crate) id: RuntimeId,
    /// The number of its newest launch.
    pub(crate) attempt: u64,
    pub(crate) phase: Phase,
    /// What its program holds, and would free by ending.
    pub(crate) held_bytes: u64,
}

/// See [`Tenant`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// It has no program.
    Absent,
    /// Its program is on the way up, or is up and not measured yet.
    Loading,
    /// It is ready and serves requests, or cannot be ended for another reason.
    Busy,
    /// It is ready, and nobody has asked for anything for so long.
    Idle(Duration),
    /// Its program is ending.
    Leaving,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum RoomAction {
    /// The memory is this load's own now.
    Grant(Load),
    /// There is none for it, in words.
    Deny(Load, String),
    /// Ask this runtime to go.
    Evict(RuntimeId),
}

/// What a runtime is told that wants to load.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum RoomAnswer {
    /// The memory is its own now.
    Granted,
    /// There is none, in words.
    Denied(String),
}

/// The limits.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules {
    /// Memory that a load must leave free.
    pub(crate) headroom_bytes: u64,
    /// How long a load waits for others to go.
    pub(crate) wait_max: Duration,
    /// Past this nobody knows when a program that is ending has ended: its memory is not waited for any more.
    pub(crate) leaves_within: Duration,
    /// So long after the end of a program what is still missing of its memory is waited for.
    pub(crate) returns_within: Duration,
}

/// A program that has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ended {
    /// What it held, at most.
    pub(crate) held_bytes: u64,
    /// How long ago it ended.
    pub(crate) ago: Duration,
}

/// The decider.
#[derive(Debug)]
pub(crate) struct Room {
    rules: Rules,
    waiting: Vec<(Load, Moment)>,
    /// By runtime: the launch that the memory was promised to, and how much.
    promises: HashMap<RuntimeId, Load>,
    /// Runtimes that were asked to go and have not answered yet.
    asked: HashSet<RuntimeId>,
    /// Since when the programs that are ending have been seen to.
    leaving: HashMap<RuntimeId, Moment>,
    /// Programs that have ended.
    ended: Vec<Ended>,
    /// None of them ended between the figures of this look: it would be in both.
    is_exact: bool,
    /// What was free and what programs held, together, when nothing was on its way back: what one gives back
    /// the other gains, so whatever is missing of it later is still on its way.
    accounted: Option<i128>,
}

/// What is there at one look. Signed: a machine may have promised more than it has.
#[derive(Clone, Copy, Debug)]
struct Balance {
    /// Free now, without what is promised and what earlier loads wait for.
    available: i128,
    /// The same, if every load under way took nothing more.
    settled: i128,
    /// What programs that are ending hold, and, for a load that waits for it, what those that have ended have
    /// not given back yet.
    leaving: i128,
    /// What would be free if no runtime had a program.
    everything: i128,
}

impl Balance {
    fn take(&mut self, bytes: u64) {
        self.available -= i128::from(bytes);
        self.settled -= i128::from(bytes);
    }
}

impl Room {
    pub(crate) fn new(rules: Rules) -> Self {
        Self {
            rules,
            waiting: Vec::new(),
            promises: HashMap::new(),
            asked: HashSet::new(),
            leaving: HashMap::new(),
            ended: Vec::new(),
            is_exact: true,
            accounted: None,
        }
    }

    /// A load asks for memory. An earlier one of the same runtime is over by that.
    pub(crate) fn ask(&mut self, now: Moment, load: Load) {
        self.promises.remove(&load.id);
        self.waiting.retain(|(waiting, _)| waiting.id != load.id);
        self.waiting.push((load, now));
    }

    /// A runtime of this id is no more, or is another one from now on: nothing is promised to it.
    pub(crate) fn forget(&mut self, id: &RuntimeId) {
        self.promises.remove(id);
        self.waiting.retain(|(load, _)| load.id != *id);
        self.asked.remove(id);
    }

    /// A load that was granted before this decider was made.
    pub(crate) fn restore(&mut self, load: Load) {
        self.promises.insert(load.id.clone(), load);
    }

    /// A load no longer wants any.
    pub(crate) fn withdraw(&mut self, id: &RuntimeId, attempt: u64) {
        self.waiting.retain(|(load, _)| load.id != *id || load.attempt != attempt);
    }

    /// A runtime that was asked to go has answered: what it does now can be seen.
    pub(crate) fn answered(&mut self, id: &RuntimeId) {
        self.asked.remove(id);
    }

    /// A load waits for memory.
    pub(crate) fn is_waited_for(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Programs that have ended lately; the next look reckons with these and no others. `is_exact`: none of
    /// them ended while the figures of that look were read.
    pub(crate) fn note_ended(&mut self, ended: Vec<Ended>, is_exact: bool) {
        (self.ended, self.is_exact) = (ended, is_exact);
    }

    /// When the load that has asked last did so.
    pub(crate) fn newest_since(&self) -> Option<Moment> {
        self.waiting.iter().map(|(_, since)| *since).max()
    }

    /// Decides for every load that waits, with `free_bytes` free now.
    pub(crate) fn look(&mut self, now: Moment, free_bytes: u64, tenants: &[Tenant]) -> Vec<RoomAction> {
        let tenant = |id: &RuntimeId| tenants.iter().find(|tenant| tenant.id == *id);
        // ROOM-1. A row that does not tell of the launch yet is about to.
        self.promises.retain(|id, promise| {
            tenant(id).is_some_and(|tenant| {
                tenant.attempt < promise.attempt
                    || (tenant.attempt == promise.attempt && tenant.phase == Phase::Loading)
            })
        });
        self.asked.retain(|id| {
            tenant(id).is_some_and(|tenant| matches!(tenant.phase, Phase::Busy | Phase::Idle(_)))
        });
        let held: i128 = tenants.iter().map(|tenant| i128::from(tenant.held_bytes)).sum();
        // What a program holds that is ending may be free already: it would be counted twice.
        let is_settled = !tenants.iter().any(|tenant| tenant.phase == Phase::Leaving);
        let returning = self.returning(i128::from(free_bytes) + held, is_settled);
        let promised = self.promises.iter().map(|(id, promise)| {
            // A promise is used up as far as the program holds the memory by now.
            let held =
                tenant(id).filter(|tenant| tenant.attempt == promise.attempt).map_or(0, |t| t.held_bytes);
            i128::from(promise.needed_bytes.saturating_sub(held))
        });
        self.leaving.retain(|id, _| tenant(id).is_some_and(|tenant| tenant.phase == Phase::Leaving));
        let mut leaves_soon = |tenant: &&Tenant| match tenant.phase {
            Phase::Leaving => {
                let since = *self.leaving.entry(tenant.id.clone()).or_insert(now);
                now.since(since) < self.rules.leaves_within
            }
            Phase::Absent | Phase::Loading | Phase::Busy | Phase::Idle(_) => self.asked.contains(&tenant.id),
        };
        let leaving: i128 = tenants
            .iter()
            .filter(|tenant| leaves_soon(tenant))
            .map(|tenant| i128::from(tenant.held_bytes))
            .sum();
        let spare = i128::from(free_bytes) - i128::from(self.rules.headroom_bytes);
        let mut balance = Balance {
            available: spare - promised.sum::<i128>(),
            settled: spare,
            leaving,
            everything: spare + held + returning,
        };
        let mut actions = Vec::new();
        for (load, since) in std::mem::take(&mut self.waiting) {
            let waited = now.since(since);
            let is_late = waited >= self.rules.wait_max;
            match self.judge(&load, self.with_returning(balance, returning, waited), tenants) {
                Judgement::Fits => {
                    balance.take(load.needed_bytes);
                    self.promises.insert(load.id.clone(), load.clone());
                    actions.push(RoomAction::Grant(load));
                }
                Judgement::Never => {
                    let why = refusal(&load, balance, tenants, "");
                    actions.push(RoomAction::Deny(load, why));
                }
                Judgement::Wait(_) if is_late => {
                    let waited = format!(" after waiting {} s", self.rules.wait_max.as_secs());
                    let why = refusal(&load, balance, tenants, &waited);
                    actions.push(RoomAction::Deny(load, why));
                }
                Judgement::Wait(victims) => {
                    for victim in victims {
                        balance.leaving += i128::from(victim.held_bytes);
                        self.asked.insert(victim.id.clone());
                        actions.push(RoomAction::Evict(victim.id.clone()));
                    }
                    // ROOM-3.
                    balance.take(load.needed_bytes);
                    self.waiting.push((load, since));
                }
            }
        }
        actions
    }

    /// ROOM-5: what was there is known from an earlier look, and others may have taken it since: it spares
    /// idle runtimes only for the first quarter of a wait.
    fn with_returning(&self, balance: Balance, returning: i128, waited: Duration) -> Balance {
        let spares_idle = waited < self.rules.wait_max / 4;
        let leaving = balance.leaving + if spares_idle { returning } else { 0 };
        Balance { leaving, ..balance }
    }

    /// ROOM-5: what is on its way back, of `accounted` bytes that are free or held now.
    fn returning(&mut self, accounted: i128, is_settled: bool) -> i128 {
        let is_recent = |ended: &&Ended| ended.ago < self.rules.returns_within;
        let ended: i128 = self.ended.iter().filter(is_recent).map(|ended| i128::from(ended.held_bytes)).sum();
        if ended == 0 {
            if is_settled {
                self.accounted = Some(accounted);
            }
            return 0;
        }
        // Where nothing is known of before, all of it may be on its way.
        let before = self.accounted.get_or_insert(accounted + ended);
        if self.is_exact && is_settled {
            *before = accounted.max(*before);
        }
        (*before - accounted).clamp(0, ended)
    }

    fn judge<'t>(&self, load: &Load, balance: Balance, tenants: &'t [Tenant]) -> Judgement<'t> {
        let needed = i128::from(load.needed_bytes);
        if needed <= balance.available {
            return Judgement::Fits;
        }
        let missing = needed - balance.available - balance.leaving;
        if missing <= 0 {
            return Judgement::Wait(Vec::new());
        }
        if !load.is_asked_for {
            // ROOM-2. Estimates err upwards, so what loads under way do not take may be enough for it.
            let may_fit = needed <= balance.settled + balance.leaving;
            return if may_fit { Judgement::Wait(Vec::new()) } else { Judgement::Never };
        }
        let others =
            || tenants.iter().filter(|tenant| tenant.id != load.id && !self.asked.contains(&tenant.id));
        let mut idle: Vec<_> = others()
            .filter_map(|tenant| match tenant.phase {
                Phase::Idle(idle_for) => Some((idle_for, tenant)),
                Phase::Absent | Phase::Loading | Phase::Busy | Phase::Leaving => None,
            })
            .collect();
        idle.sort_by_key(|(idle_for, _)| std::cmp::Reverse(*idle_for));
        let mut victims = Vec::new();
        let mut freed = 0;
        for (_, tenant) in idle {
            if freed >= missing {
                break;
            }
            freed += i128::from(tenant.held_bytes);
            victims.push(tenant);
        }
        if freed >= missing {
            return Judgement::Wait(keep_needed(victims, missing));
        }
        // ROOM-4.
        if needed <= balance.everything {
            return Judgement::Wait(Vec::new());
        }
        Judgement::Never
    }
}

enum Judgement<'t> {
    Fits,
    /// It will fit when these, and others that go already, have gone.
    Wait(Vec<&'t Tenant>),
    /// It does not fit, whatever happens that may happen for it.
    Never,
}

/// ROOM-2: leaves out victims that the later ones made unnecessary, the least idle first.
fn keep_needed(victims: Vec<&Tenant>, missing: i128) -> Vec<&Tenant> {
    let mut freed: i128 = victims.iter().map(|tenant| i128::from(tenant.held_bytes)).sum();
    victims
        .into_iter()
        .filter(|tenant| {
            let is_needless = freed - i128::from(tenant.held_bytes) >= missing;
            if is_needless {
                freed -= i128::from(tenant.held_bytes);
            }
            !is_needless
        })
        .collect()
}

fn refusal(load: &Load, balance: Balance, tenants: &[Tenant], waited: &str) -> String {
    let free = u64::try_from(balance.available.max(0)).unwrap_or(u64::MAX);
    let mut words =
        format!("it needs {}, {} are free for models{waited}", in_words(load.needed_bytes), in_words(free));
    for (word, phase) in [("busy", Phase::Busy), ("loading", Phase::Loading), ("ending", Phase::Leaving)] {
        let of_phase = |tenant: &&Tenant| tenant.phase == phase && tenant.id != load.id;
        let names: Vec<_> = tenants.iter().filter(of_phase).map(|tenant| tenant.id.to_string()).collect();
        if !names.is_empty() {
            words = format!("{words}; {word}: {}", names.join(", "));
        }
    }
    words
}

/// `1.2 GB`, `98 MB`.
pub(crate) fn in_words(bytes: u64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "two digits are shown")]
    let megabytes = bytes as f64 / 1e6;
    if megabytes >= 1000.0 { format!("{:.1} GB", megabytes / 1000.0) } else { format!("{megabytes:.0} MB") }
}

#[cfg(test)]
mod tests;
