//! What this node says of itself, and when it says it again.
//!
//! Owns the content of the own card, made of what the rest of the node shows anyway, and the steadiness of
//! figures that move all the time. A decider. Refuses to look at anything by itself.

use std::sync::Arc;
use std::time::Duration;

use arw_kit::moment::Moment;

use super::card::{
    CARD_RUNTIMES_MAX, CardAccelerator, CardBudgets, CardCpu, CardHardware, CardHealth, CardLoad, CardMemory,
    CardQueue, CardRuntime, NodeCard,
};
use super::picture::At;
use crate::hardware::{Gpu, Hardware};
use crate::node_info::NodeStatus;
use crate::runtime::directory::Served;
use crate::runtime::machine::RuntimeState;
use crate::runtime::row::RuntimeRow;

/// CLUSTER-2: at most four cards a second, however much happens.
pub(super) const CARD_SPACING: Duration = Duration::from_millis(250);
/// CLUSTER-2: a third of the time after which a card is stale.
const CARD_EVERY: Duration = Duration::from_secs(10);
/// Long enough to be seen, short enough to be over when it is.
pub(super) const DEAD_LETTERS_WITHIN: Duration = Duration::from_secs(60);

/// What the node shows at one moment.
#[derive(Debug)]
pub(super) struct Seen<'s> {
    pub(super) version: &'s str,
    pub(super) status: &'s NodeStatus,
    pub(super) rows: &'s [RuntimeRow],
    pub(super) served: &'s [Served],
    pub(super) hardware: &'s Hardware,
    pub(super) cpu_permille: Option<u32>,
    pub(super) actors: usize,
    /// Paths of actors outside the runtimes that are quarantined or failed.
    pub(super) given_up: &'s [String],
    /// Messages that reached nobody within [`DEAD_LETTERS_WITHIN`].
    pub(super) dead_letters: u64,
    pub(super) is_draining: bool,
}

/// The last card, and when it was told.
#[derive(Debug, Default)]
pub(super) struct OwnCard {
    told: Option<(Moment, Arc<NodeCard>)>,
}

impl OwnCard {
    /// CLUSTER-2: a card that is to be told now; `None` when the last one still says it all, or was told just
    /// now. Look again within [`CARD_SPACING`].
    pub(super) fn look(&mut self, at: At, seen: &Seen<'_>) -> Option<Arc<NodeCard>> {
        let last = self.told.as_ref().map(|(_, card)| card);
        let mut card = content(seen, last.map(|card| &**card));
        if let Some((told_at, last)) = &self.told {
            card.made_at = last.made_at;
            let since = at.now.since(*told_at);
            let is_due = if card == **last { since >= CARD_EVERY } else { since >= CARD_SPACING };
            if !is_due {
                return None;
            }
        }
        card.made_at = at.wall;
        let card = Arc::new(card);
        self.told = Some((at.now, Arc::clone(&card)));
        Some(card)
    }
}

fn content(seen: &Seen<'_>, last: Option<&NodeCard>) -> NodeCard {
    let runtimes = runtimes(seen);
    let sum = |of: &dyn Fn(&RuntimeRow) -> u32| seen.rows.iter().map(of).fold(0, u32::saturating_add);
    NodeCard {
        made_at: at_first(last),
        version: seen.version.to_owned(),
        hardware: hardware(seen.hardware, last.map(|card| &card.hardware)),
        load: CardLoad {
            cpu_permille: steady(
                seen.cpu_permille.map(u64::from),
                last.and_then(|card| card.load.cpu_permille).map(u64::from),
                CPU_STEP_PERMILLE,
            )
            .map(clamped),
            in_flight: sum(&|row| row.in_flight),
            actors: clamped(count(seen.actors)),
        },
        queue: CardQueue {
            waiting: sum(&|row| clamped(count(row.queue.waiting))),
            max: sum(&|row| clamped(count(row.queue.max))),
        },
        budgets: CardBudgets {
            restarts_used: sum(&|row| row.restart_budget.used),
            restarts_max: sum(&|row| row.restart_budget.max),
            runtimes_given_up: sum(&|row| u32::from(is_given_up(row.state))),
        },
        health: health(seen),
        is_draining: seen.is_draining,
        runtimes,
    }
}

fn at_first(last: Option<&NodeCard>) -> arw_kit::moment::WallTime {
    last.map(|card| card.made_at).unwrap_or_default()
}

/// Those to which requests may be sent come first: they are what others look for.
fn runtimes(seen: &Seen<'_>) -> Vec<CardRuntime> {
    let mut all: Vec<CardRuntime> = seen.rows.iter().map(|row| runtime(row, seen.served)).collect();
    all.sort_by_key(|runtime| !runtime.is_serving);
    all.truncate(CARD_RUNTIMES_MAX);
    all
}

fn runtime(row: &RuntimeRow, served: &[Served]) -> CardRuntime {
    let served = served.iter().find(|served| served.runtime == row.id);
    let by_model = row.model.clone().unwrap_or_else(|| row.id.to_string());
    CardRuntime {
        id: row.id.to_string(),
        model: served.map_or(by_model, |served| served.name.clone()),
        state: row.state.word().to_owned(),
        // HTTP-11: what is stopped is started by a request, unless an operator has stopped it.
        is_serving: served.is_some() && !row.is_held && !is_given_up(row.state),
        context_length: row.context_length,
        in_flight: row.in_flight,
        waiting: clamped(count(row.queue.waiting)),
    }
}

fn is_given_up(state: RuntimeState) -> bool {
    match state {
        RuntimeState::Quarantined | RuntimeState::Failed => true,
        RuntimeState::Stopped
        | RuntimeState::Starting
        | RuntimeState::Warming
        | RuntimeState::Ready
        | RuntimeState::Degraded
        | RuntimeState::Draining
        | RuntimeState::Backoff => false,
    }
}

/// CLUSTER-4: a tenth of the machine.
const CPU_STEP_PERMILLE: u64 = 100;
/// CLUSTER-4: a twentieth of all memory.
const MEMORY_STEPS: u64 = 20;

fn hardware(now: &Hardware, last: Option<&CardHardware>) -> CardHardware {
    let memory = &now.memory;
    let total_bytes = memory.limit_bytes.unwrap_or(u64::MAX).min(memory.total_bytes);
    let last_free = last.map(|last| last.memory.available_bytes);
    let free = steady(Some(memory.free_for_models()), last_free, total_bytes / MEMORY_STEPS);
    let before = |index: usize| last.and_then(|last| last.accelerators.get(index));
    CardHardware {
        os: now.os.clone(),
        arch: now.arch.clone(),
        cpu: CardCpu {
            model: now.cpu.brand.clone().or_else(|| now.cpu.vendor.clone()).unwrap_or_default(),
            usable_cores: clamped(now.cpu.usable_cores),
        },
        memory: CardMemory { total_bytes, available_bytes: free.unwrap_or_default() },
        accelerators: now
            .gpus
            .iter()
            .enumerate()
            .map(|(index, gpu)| accelerator(gpu, before(index)))
            .collect(),
    }
}

fn accelerator(gpu: &Gpu, last: Option<&CardAccelerator>) -> CardAccelerator {
    let backend = match gpu.vendor.as_str() {
        "nvidia" => "cuda",
        "amd" => "rocm",
        other => other,
    };
    let last_free = last.filter(|last| last.name == gpu.name).and_then(|last| last.memory_free_bytes);
    let step = gpu.vram_total_bytes.unwrap_or_default() / MEMORY_STEPS;
    CardAccelerator {
        name: gpu.name.clone(),
        backend: backend.to_owned(),
        memory_total_bytes: gpu.vram_total_bytes,
        memory_free_bytes: steady(gpu.vram_free_bytes, last_free, step),
    }
}

/// CLUSTER-4: the figure as it was told, until it differs by more than a step. What breathes while nothing
/// happens is no news.
fn steady(now: Option<u64>, told: Option<u64>, step: u64) -> Option<u64> {
    let told = told.filter(|told| now.is_some_and(|now| now.abs_diff(*told) <= step));
    told.or(now)
}

/// The worst of its parts; of equally bad ones the first. A runtime that is merely stopped is nothing to
/// speak of.
fn health(seen: &Seen<'_>) -> CardHealth {
    let mut worst = CardHealth { state: "ok".to_owned(), reason: None, hint: None };
    let mut part = |state: &str, reason: String, hint: Option<String>| {
        if weight(state) > weight(&worst.state) {
            worst = CardHealth { state: state.to_owned(), reason: Some(reason), hint };
        }
    };
    for row in seen.rows.iter().filter(|row| weight(row.severity) > weight("info")) {
        let why = row.reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
        let reason = format!("runtime {} is {}{why}", row.id, row.state.word());
        part(row.severity, reason, row.hint.clone());
    }
    for path in seen.given_up {
        part(
            "error",
            format!("{path} was given up after too many restarts"),
            Some(format!("`arw actors show {path}` tells why")),
        );
    }
    match seen.status {
        NodeStatus::Degraded(reasons) => part("warning", reasons.join("; "), None),
        NodeStatus::Stopping => part("info", "the node is stopping".to_owned(), None),
        NodeStatus::Starting => part("info", "the node is starting".to_owned(), None),
        NodeStatus::Ready => {}
    }
    if seen.is_draining {
        part("info", "it takes nothing new: it is draining".to_owned(), None);
    }
    if seen.dead_letters > 0 {
        let hint = "`arw events --kind dead_letters` tells to whom".to_owned();
        part("info", "messages reached nobody within the last minute".to_owned(), Some(hint));
    }
    worst
}

fn weight(state: &str) -> u8 {
    match state {
        "error" => 3,
        "warning" => 2,
        "info" => 1,
        _ => 0,
    }
}

fn count(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

fn clamped(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}
