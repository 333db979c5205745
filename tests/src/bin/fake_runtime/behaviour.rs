//! How the fake engine behaves right now, and what it has counted.
//!
//! Owns the switches that `/control` turns and the counters that `/control/status` shows. Refuses to know
//! HTTP.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use rustix::process::Signal;
use serde::{Deserialize, Serialize};

use crate::options::Options;

/// Enough for a test to see several chunks.
const TOKENS: u32 = 8;

#[derive(Debug)]
pub(crate) struct Behaviour {
    pub(crate) ready: AtomicBool,
    pub(crate) stuck: AtomicBool,
    pub(crate) flaky_health: AtomicBool,
    pub(crate) tokens: AtomicU32,
    pub(crate) token_delay_ms: AtomicU64,
    /// Negative: never.
    hang_after: AtomicI64,
    crash_after_tokens: AtomicI64,
    crash_on: Option<String>,
    crash_on_delay: Duration,
    exit_code: Option<i32>,
    signal: Option<i32>,
    last_words: Vec<String>,
    pub(crate) health_checks: AtomicU64,
    pub(crate) requests: AtomicU64,
    pub(crate) in_flight: AtomicU64,
    pub(crate) completed: AtomicU64,
    pub(crate) aborted: AtomicU64,
    generated: AtomicU64,
}

/// `POST /control`: what is named changes, the rest stays.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Change {
    crash: bool,
    exit_code: Option<i32>,
    signal: Option<i32>,
    print_line: Option<String>,
    hang: Option<bool>,
    stuck: Option<bool>,
    flaky_health: Option<bool>,
    ready: Option<bool>,
    tokens: Option<u32>,
    token_delay_ms: Option<u64>,
    crash_after_tokens: Option<u32>,
}

/// `GET /control/status`.
#[derive(Debug, Serialize)]
pub(crate) struct Status {
    in_flight: u64,
    completed: u64,
    aborted: u64,
    requests: u64,
    generated_tokens: u64,
}

impl Behaviour {
    pub(crate) fn new(options: &Options) -> Self {
        Self {
            ready: AtomicBool::new(options.load_ms == 0),
            stuck: AtomicBool::new(options.stuck),
            flaky_health: AtomicBool::new(options.flaky_health),
            tokens: AtomicU32::new(options.tokens.unwrap_or(TOKENS)),
            token_delay_ms: AtomicU64::new(options.token_delay_ms),
            hang_after: AtomicI64::new(
                options.hang_after.map_or(-1, |n| i64::try_from(n).unwrap_or(i64::MAX)),
            ),
            crash_after_tokens: AtomicI64::new(options.crash_after_tokens.map_or(-1, i64::from)),
            crash_on: options.crash_on.clone(),
            crash_on_delay: Duration::from_millis(options.crash_on_delay_ms),
            exit_code: options.exit_code,
            signal: options.signal,
            last_words: options.print_lines.clone(),
            health_checks: AtomicU64::new(0),
            requests: AtomicU64::new(0),
            in_flight: AtomicU64::new(0),
            completed: AtomicU64::new(0),
            aborted: AtomicU64::new(0),
            generated: AtomicU64::new(0),
        }
    }

    pub(crate) fn hangs(&self) -> bool {
        let after = self.hang_after.load(Relaxed);
        after >= 0 && self.requests.load(Relaxed) >= after.unsigned_abs()
    }

    /// One more token was made; the end, when enough were.
    pub(crate) fn count_tokens(&self, count: u32) {
        let before = self.generated.fetch_add(u64::from(count), Relaxed);
        let limit = self.crash_after_tokens.load(Relaxed);
        if limit >= 0 && before + u64::from(count) >= limit.unsigned_abs() {
            self.die();
        }
    }

    /// A request came; the end, at once or after a while, when its body has the word in it.
    pub(crate) fn read(self: &Arc<Self>, body: &[u8]) {
        if let Some(word) = &self.crash_on
            && String::from_utf8_lossy(body).contains(word.as_str())
        {
            if self.crash_on_delay.is_zero() {
                self.die();
            }
            let this = Arc::clone(self);
            std::thread::spawn(move || {
                std::thread::sleep(this.crash_on_delay);
                this.die();
            });
        }
    }

    pub(crate) fn generated(&self) -> u64 {
        self.generated.load(Relaxed)
    }

    pub(crate) fn change(&self, change: &Change) {
        if let Some(hang) = change.hang {
            self.hang_after.store(if hang { 0 } else { -1 }, Relaxed);
        }
        if let Some(tokens) = change.crash_after_tokens {
            let so_far = i64::try_from(self.generated()).unwrap_or(i64::MAX);
            self.crash_after_tokens.store(so_far.saturating_add(i64::from(tokens)), Relaxed);
        }
        for (switch, value) in [
            (&self.stuck, change.stuck),
            (&self.flaky_health, change.flaky_health),
            (&self.ready, change.ready),
        ] {
            if let Some(value) = value {
                switch.store(value, Relaxed);
            }
        }
        if let Some(tokens) = change.tokens {
            self.tokens.store(tokens, Relaxed);
        }
        if let Some(delay) = change.token_delay_ms {
            self.token_delay_ms.store(delay, Relaxed);
        }
        if change.crash {
            let words = change.print_line.iter().chain(&self.last_words);
            end(words, change.exit_code.or(self.exit_code), change.signal.or(self.signal));
        }
    }

    pub(crate) fn status(&self) -> Status {
        Status {
            in_flight: self.in_flight.load(Relaxed),
            completed: self.completed.load(Relaxed),
            aborted: self.aborted.load(Relaxed),
            requests: self.requests.load(Relaxed),
            generated_tokens: self.generated(),
        }
    }

    pub(crate) fn die(&self) -> ! {
        end(self.last_words.iter(), self.exit_code, self.signal)
    }
}

fn end<'a>(words: impl Iterator<Item = &'a String>, code: Option<i32>, signal: Option<i32>) -> ! {
    for line in words {
        eprintln!("{line}");
    }
    if let Some(signal) = signal.and_then(Signal::from_named_raw) {
        // Rust catches the first SIGSEGV and SIGBUS to look for stack overflows, and lets the second through.
        for _ in 0..3 {
            let _ = rustix::process::kill_process(rustix::process::getpid(), signal);
        }
    }
    std::process::exit(code.unwrap_or(1))
}
