//! A runtime as it is shown: a plain value.
//!
//! Owns what is known of a runtime from outside. Refuses to know the form in which it is shown.

use arw_kit::moment::WallTime;

use super::launcher::SandboxReport;
use super::lease::UsageTotals;
use super::machine::RuntimeState;
use super::spec::IdleAfter;
use crate::ids::RuntimeId;

/// One runtime.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "spec/http.md explains each field; here they are only typed")]
pub struct RuntimeRow {
    pub id: RuntimeId,
    pub adapter: &'static str,
    pub model: Option<String>,
    pub profile: String,
    pub state: RuntimeState,
    pub severity: &'static str,
    pub reason: Option<String>,
    pub hint: Option<String>,
    pub pid: Option<u32>,
    pub port: Option<u16>,
    pub socket: Option<String>,
    pub since: WallTime,
    pub retry_at: Option<WallTime>,
    pub auto_start: bool,
    pub idle_after_s: IdleAfter,
    pub health: HealthRow,
    pub restart_budget: BudgetRow,
    pub last_exit: Option<LastExitRow>,
    pub queue: QueueRow,
    pub in_flight: u32,
    pub usage: UsageTotals,
    pub memory: MemoryRow,
    pub context_length: Option<u64>,
    pub accelerator: &'static str,
    pub sandbox: Option<SandboxReport>,
    /// The number of its newest launch.
    pub attempt: u64,
    /// An operator has stopped it: no request starts it.
    pub is_held: bool,
}

#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "see RuntimeRow")]
pub struct HealthRow {
    pub startup: StartupRow,
    pub liveness: ProbeRow,
    pub work: ProbeRow,
}

#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "see RuntimeRow")]
pub struct StartupRow {
    pub status: &'static str,
    pub at: Option<WallTime>,
    pub took_ms: Option<u64>,
}

#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "see RuntimeRow")]
pub struct ProbeRow {
    pub status: &'static str,
    pub at: Option<WallTime>,
    pub latency_ms: Option<u64>,
    pub failures: u32,
}

#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "see RuntimeRow")]
pub struct BudgetRow {
    pub window_s: u64,
    pub max: u32,
    pub used: u32,
    pub remaining: u32,
    pub resets_at: Option<WallTime>,
}

#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "see RuntimeRow")]
pub struct LastExitRow {
    pub reason: &'static str,
    pub detail: String,
    pub at: WallTime,
}

#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "see RuntimeRow")]
pub struct QueueRow {
    pub waiting: usize,
    pub max: usize,
}

#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "see RuntimeRow")]
pub struct MemoryRow {
    pub needed_bytes: Option<u64>,
    pub resident_bytes: Option<u64>,
}
