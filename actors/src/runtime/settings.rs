//! `[runtime]`: what holds for every runtime that does not say otherwise.
//!
//! Owns these settings, what they default to and why. Refuses to know how they are read: [`crate::config`]
//! composes the settings of a node.

use std::time::Duration;

/// `[runtime]`: defaults for every runtime.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuntimeSettings {
    /// A runtime without a request for this long is unloaded; `None` never.
    pub idle_after: Option<Duration>,
    /// How often it may restart before it is quarantined.
    pub restart: RestartSettings,
    /// How long it waits between restarts.
    pub backoff: BackoffSettings,
    /// How long a quarantined runtime waits before one trial start.
    pub quarantine_retry_after: Duration,
    /// How long a start may take without any sign of progress.
    pub start_timeout: Duration,
    /// How long a program may take to end after TERM before it is killed.
    pub stop_grace: Duration,
    /// How many requests wait for one runtime.
    pub queue_max: u64,
    /// Memory that a load must leave free, in bytes.
    pub memory_headroom_bytes: u64,
}

/// A restart budget: at most `max` restarts within any `window`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RestartSettings {
    /// Restarts allowed within `window`.
    pub max: u32,
    /// The sliding window.
    pub window: Duration,
}

/// Waits between restarts: `initial`, doubling up to `max`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BackoffSettings {
    /// Before the first restart.
    pub initial: Duration,
    /// The longest wait.
    pub max: Duration,
}

/// A lunch break keeps the model loaded, a night does not.
pub const IDLE_AFTER: Option<Duration> = Some(Duration::from_secs(30 * 60));
/// Five crashes in five minutes is a program that cannot work, not one with bad luck.
pub const RESTART: RestartSettings = RestartSettings { max: 5, window: Duration::from_secs(300) };
/// The first restart is felt as a pause, not as an outage; later ones spare the machine.
pub const BACKOFF: BackoffSettings =
    BackoffSettings { initial: Duration::from_millis(100), max: Duration::from_secs(30) };
/// A minute: time for a person or another program to free what was missing.
pub const QUARANTINE_RETRY_AFTER: Duration = Duration::from_secs(60);
/// Counted from the last sign of progress, so that a slow disk does not look like a hang.
pub const START_TIMEOUT: Duration = Duration::from_secs(120);
/// Lets running answers finish; engines end within 20 ms when idle.
pub const STOP_GRACE: Duration = Duration::from_secs(10);
/// More waiting requests than this would time out before their turn on one machine.
pub const QUEUE_MAX: u64 = 64;
/// Keeps the desktop and the page cache alive while a model is loaded.
pub const MEMORY_HEADROOM_BYTES: u64 = 512 << 20;
