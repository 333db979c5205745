//! The measurements, the same code for every contender.
//!
//! Each runs on a fresh current-thread runtime: across cores a wake-up costs more than all that is measured
//! here.

use std::time::Duration;

use crate::contender::{Contender, Restarting};
use crate::kit::{machine, now, percentile};

/// Told before each ask. A window of four senders fits into the bound of 1,024.
const WINDOW: u64 = 200;
const SETTLE_EVERY: usize = 250;

pub(crate) fn on_runtime<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

/// Million messages per second: each sender tells a window of messages, then asks.
pub(crate) fn windowed<C: Contender>(senders: u64, windows: u64) -> f64 {
    on_runtime(async {
        let mut contender = C::begin().await;
        let address = contender.spawn().await;
        let start = now();
        let tasks: Vec<_> = (0..senders)
            .map(|_| {
                let address = address.clone();
                tokio::spawn(async move {
                    for _ in 0..windows {
                        for _ in 0..WINDOW {
                            C::tell(&address).await;
                        }
                        C::ask(&address).await;
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
        let took = start.elapsed();
        let told = senders * windows * WINDOW;
        assert_eq!(C::ask(&address).await, told, "{} lost messages", C::NAME);
        contender.stop(address).await;
        millions_per_second(told + senders * windows, took)
    })
}

/// Million messages per second: one sender tells all of them, then asks.
pub(crate) fn flood<C: Contender>(messages: u64) -> f64 {
    on_runtime(async {
        let mut contender = C::begin().await;
        let address = contender.spawn().await;
        let start = now();
        for _ in 0..messages {
            C::tell(&address).await;
        }
        assert_eq!(C::ask(&address).await, messages, "{} lost messages", C::NAME);
        let took = start.elapsed();
        contender.stop(address).await;
        millions_per_second(messages, took)
    })
}

/// Nanoseconds of an ask: p50 and p99.
pub(crate) fn ask<C: Contender>(asks: usize) -> [f64; 2] {
    on_runtime(async {
        let mut contender = C::begin().await;
        let address = contender.spawn().await;
        for _ in 0..asks / 10 {
            C::ask(&address).await;
        }
        // In a task, as askers are: `block_on` itself is polled differently.
        let asker = address.clone();
        let samples = tokio::spawn(async move {
            let mut samples = Vec::with_capacity(asks);
            let mut before = now();
            for _ in 0..asks {
                C::ask(&asker).await;
                let after = now();
                samples.push(nanos(after - before));
                before = after;
            }
            samples
        });
        let mut samples = samples.await.unwrap();
        contender.stop(address).await;
        p50_and_p99(&mut samples)
    })
}

/// Microseconds from a spawn to its full end, a stop between.
pub(crate) fn spawn_stop<C: Contender>(count: usize) -> f64 {
    on_runtime(async {
        let mut contender = C::begin().await;
        let start = now();
        for _ in 0..count {
            let address = contender.spawn().await;
            contender.stop(address).await;
        }
        micros(start.elapsed()) / count as f64
    })
}

/// Microseconds, of this thread's own time, of a neighbour's ask beside an actor that never runs out of work:
/// p50 and p99.
pub(crate) fn neighbour<C: Contender>(lasting: Duration) -> [f64; 2] {
    on_runtime(async {
        let mut contender = C::begin().await;
        let busy = contender.spawn().await;
        let neighbour = contender.spawn().await;
        let feed = tokio::spawn(async move {
            loop {
                for _ in 0..WINDOW {
                    C::tell_work(&busy).await;
                }
                C::ask(&busy).await;
            }
        });
        let samples = tokio::spawn(async move {
            let mut samples = Vec::new();
            let start = now();
            // All of it runs on this thread. A turn of another process takes milliseconds, and is not what is
            // measured.
            let mut before = machine::thread_time();
            while start.elapsed() < lasting {
                C::ask(&neighbour).await;
                let after = machine::thread_time();
                samples.push(nanos(after.saturating_sub(before)));
                before = after;
            }
            samples
        });
        let mut samples = samples.await.unwrap();
        feed.abort();
        p50_and_p99(&mut samples).map(|nanos| nanos / 1000.0)
    })
}

/// Microseconds from a crash to the answer of the next incarnation: p50 and p99.
pub(crate) fn restart<R: Restarting>(crashes: usize) -> [f64; 2] {
    on_runtime(async {
        let contender = R::begin().await;
        let mut samples = Vec::with_capacity(crashes);
        for crash in 0..crashes {
            // Far more crashes than a node ever has: the journal's queue is not made for as many at once.
            if crash % SETTLE_EVERY == 0 {
                contender.settle().await;
            }
            let before = now();
            contender.crash_and_ask().await;
            samples.push(nanos(before.elapsed()));
        }
        contender.end().await;
        p50_and_p99(&mut samples).map(|nanos| nanos / 1000.0)
    })
}

/// Bytes of resident memory per actor: when it has started, and when it has answered once. To be run in a
/// fresh process.
pub(crate) fn memory<C: Contender>(count: usize) -> [f64; 2] {
    on_runtime(async {
        let mut contender = C::begin().await;
        let mut addresses = Vec::with_capacity(count);
        // What is there once for all of them is not counted.
        for _ in 0..count / 100 {
            let address = contender.spawn().await;
            C::ask(&address).await;
            addresses.push(address);
        }
        let before = machine::resident_bytes(None).unwrap();
        let first = addresses.len();
        while addresses.len() < count {
            addresses.push(contender.spawn().await);
        }
        // All of them get to their start.
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
        let idle = machine::resident_bytes(None).unwrap();
        for address in &addresses[first..] {
            C::ask(address).await;
        }
        let used = machine::resident_bytes(None).unwrap();
        let each = |after: u64| after.saturating_sub(before) as f64 / (count - first) as f64;
        // Ending 100,000 actors one by one would take longer than all of this.
        let figures = [each(idle), each(used)];
        std::mem::forget(contender);
        figures
    })
}

fn millions_per_second(messages: u64, took: Duration) -> f64 {
    messages as f64 / micros(took)
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

fn p50_and_p99(samples: &mut [u64]) -> [f64; 2] {
    [0.5, 0.99].map(|part| percentile(samples, part).map_or(f64::NAN, |nanos| nanos as f64))
}
