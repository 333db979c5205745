//! What a node tells the others of itself.
//!
//! Owns the content of a card. A card has one writer, the node itself. Refuses to know how it travels.

use arw_kit::moment::WallTime;

/// More runtimes than this are not told; a node has at most as many by default.
pub const CARD_RUNTIMES_MAX: usize = 64;

/// A node, in its own words.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeCard {
    /// When it was written, by the node's own clock.
    pub made_at: WallTime,
    /// The version of its program.
    pub version: String,
    /// What the machine is.
    pub hardware: CardHardware,
    /// Its runtimes, at most [`CARD_RUNTIMES_MAX`].
    pub runtimes: Vec<CardRuntime>,
    /// How busy it is.
    pub load: CardLoad,
    /// Requests that wait for a runtime.
    pub queue: CardQueue,
    /// What is left before something is given up.
    pub budgets: CardBudgets,
    /// How it is.
    pub health: CardHealth,
    /// It finishes what it has and takes nothing new.
    pub is_draining: bool,
}

/// What a machine is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CardHardware {
    /// `linux`, `macos`, `windows`.
    pub os: String,
    /// `x86_64`, `aarch64`.
    pub arch: String,
    /// The processor.
    pub cpu: CardCpu,
    /// The main memory.
    pub memory: CardMemory,
    /// Graphics cards that a model could use.
    pub accelerators: Vec<CardAccelerator>,
}

/// A processor.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CardCpu {
    /// Its maker's name for it.
    pub model: String,
    /// Cores that this node may use.
    pub usable_cores: u32,
}

/// Main memory, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CardMemory {
    /// All that the node may use.
    pub total_bytes: u64,
    /// What is free for a model now.
    pub available_bytes: u64,
}

/// A graphics card.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CardAccelerator {
    /// Its maker's name for it.
    pub name: String,
    /// `cuda`, `rocm`, …
    pub backend: String,
    /// Its memory, in bytes, as far as known.
    pub memory_total_bytes: Option<u64>,
    /// What of it is free, in bytes, as far as known.
    pub memory_free_bytes: Option<u64>,
}

/// A runtime.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CardRuntime {
    /// Its id on its node.
    pub id: String,
    /// The name that clients ask for.
    pub model: String,
    /// The word of its state, as in `/state/runtimes`.
    pub state: String,
    /// Requests may be sent to it: it speaks HTTP, and a request would be served or waited for.
    pub is_serving: bool,
    /// The most tokens of a conversation, as far as known.
    pub context_length: Option<u64>,
    /// Requests that it works on.
    pub in_flight: u32,
    /// Requests that wait for it.
    pub waiting: u32,
}

/// How busy a node is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CardLoad {
    /// The processor's load in thousandths of all usable cores, as far as known.
    pub cpu_permille: Option<u32>,
    /// Requests that its runtimes work on.
    pub in_flight: u32,
    /// Actors that are alive.
    pub actors: u32,
}

/// Requests that wait.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CardQueue {
    /// How many.
    pub waiting: u32,
    /// The most that all its runtimes together let wait.
    pub max: u32,
}

/// Restart budgets of all runtimes together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CardBudgets {
    /// Restarts within the windows.
    pub restarts_used: u32,
    /// Restarts that the windows allow.
    pub restarts_max: u32,
    /// Runtimes that are quarantined or failed.
    pub runtimes_given_up: u32,
}

/// How a node is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CardHealth {
    /// `ok`, `info`, `warning`, `error`: the worst of its parts.
    pub state: String,
    /// Why it is not `ok`.
    pub reason: Option<String>,
    /// What can be done about it.
    pub hint: Option<String>,
}
