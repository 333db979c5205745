//! Blobs with their hash beside a bare QUIC stream, in one run.
//!
//! `./dev bench blob`. Owns what is compared and what must be reached. Both contenders have a network thread
//! at each end, the same windows and real UDP sockets between them, and the bytes lie in memory. Not pinned,
//! unless `--core` says so: that ours can use another core is part of it. See `docs/benchmarks.md`.

#![expect(
    clippy::unwrap_used,
    reason = "a benchmark that cannot measure has nothing better to do than to end"
)]

#[path = "../../actors/benches/kit/mod.rs"]
#[expect(dead_code, reason = "the kit serves other benchmarks too")]
mod kit;

#[path = "remote/bare.rs"]
#[expect(dead_code, reason = "it serves other benchmarks too")]
mod bare;
#[path = "remote/ends.rs"]
#[expect(unused_imports, reason = "the ends serve another benchmark too")]
mod ends;

#[path = "blob/digests.rs"]
mod digests;
#[path = "blob/ours.rs"]
mod ours;
#[path = "blob/raw.rs"]
mod raw;

use std::time::Duration;

use kit::{Better, Figures, Limit, Options, Target, machine, now, progress, report};

const ARW: &str = "arw, hash checked";
const RAW: &str = "quinn, one stream";
/// What it would cost to hash where the bytes arrive.
const INLINE: &str = "quinn, hashed while it is read";

/// What ours must reach. Ratios are taken round by round.
const TARGETS: &[Target] = &[Target { test: "transfer", ours: ARW, limit: Limit::TimesAtLeast(RAW, 0.9) }];

const ROUNDS: usize = 5;
const BODY_BYTES: usize = 256 << 20;

fn main() {
    let options = Options::of_process(ROUNDS);
    options.refuse_rest();
    let pinned = options.core.and_then(|core| machine::pin(Some(core)));
    let mut figures = Figures::default();
    let body = digests::body(options.scaled(BODY_BYTES));
    let runtime = ends::runtime();
    let raw = runtime.block_on(raw::Raw::start(body.clone()));
    let ours = ours::Ours::start(body.clone());
    for round in 0..options.rounds {
        progress(&format!("round {} of {}", round + 1, options.rounds));
        if options.wants("digest") {
            let part = &body[..options.scaled(64 << 20)];
            for (contender, digest) in digests::ALL {
                let took = timed(|| digest(part));
                figures.add("digest", "MB/s", Better::Higher, contender, rate(part.len(), took.wall));
            }
        }
        if options.wants("transfer") {
            transfer(&mut figures, RAW, body.len(), timed(|| runtime.block_on(raw.fetch(false))));
            transfer(&mut figures, ARW, body.len(), timed(|| ours.fetch()));
            transfer(&mut figures, INLINE, body.len(), timed(|| runtime.block_on(raw.fetch(true))));
        }
    }
    report("blob", &figures, TARGETS, &[], &options, pinned);
}

#[derive(Clone, Copy)]
struct Took {
    wall: Duration,
    cpu: Duration,
}

fn timed<T>(work: impl FnOnce() -> T) -> Took {
    let (wall, cpu) = (now(), ends::cpu_time());
    std::hint::black_box(work());
    Took { wall: wall.elapsed(), cpu: ends::cpu_time() - cpu }
}

fn rate(bytes: usize, took: Duration) -> f64 {
    f64::from(u32::try_from(bytes).unwrap()) / took.as_secs_f64() / 1e6
}

fn transfer(figures: &mut Figures, contender: &str, bytes: usize, took: Took) {
    figures.add("transfer", "MB/s", Better::Higher, contender, rate(bytes, took.wall));
    let unit = "MB per second of CPU, both ends";
    figures.add("transfer_cpu", unit, Better::Higher, contender, rate(bytes, took.cpu));
}
