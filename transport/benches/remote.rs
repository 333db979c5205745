//! Actors on another node beside a bare framed QUIC stream, in one run.
//!
//! `./dev bench remote`. Owns what is compared and what must be reached. Client and server have a thread and a current-thread runtime each, on one core, and real UDP
//! sockets between them. Rates are per second for which the process has run: both ends together, without what other processes took of the core. See `docs/benchmarks.md`.

#![expect(
    clippy::unwrap_used,
    reason = "a benchmark that cannot measure has nothing better to do than to end"
)]

#[path = "../../actors/benches/kit/mod.rs"]
#[expect(dead_code, reason = "the kit serves other benchmarks too")]
mod kit;

#[path = "remote/ends.rs"]
mod ends;
#[path = "remote/ours.rs"]
mod ours;
#[path = "remote/raw.rs"]
mod raw;

use kit::{Better, Figures, Limit, Options, Target, machine, progress, report};

const ARW: &str = "arw, actor to actor";
const RAW: &str = "quinn, one framed stream";
/// With as many bytes per frame as ours have: 40 of header, 63 of body. It says how much of the difference is bytes.
const WIDE: &str = "quinn, frames as long as ours";

/// What ours must reach. Ratios are taken round by round.
const TARGETS: &[Target] = &[
    Target { test: "round_trip_p50", ours: ARW, limit: Limit::TimesAtMost(RAW, 1.15) },
    Target { test: "one_way", ours: ARW, limit: Limit::TimesAtLeast(RAW, 0.6) },
    Target { test: "asks_in_flight", ours: ARW, limit: Limit::TimesAtLeast(RAW, 0.6) },
];

const ROUNDS: usize = 7;
const ROUND_TRIPS: usize = 20_000;
const TELLS: usize = 2_000_000;
const ASKS: usize = 500_000;
/// Asks that wait for their answers at the same time.
pub(crate) const IN_FLIGHT: usize = 1_000;
const MICROS: &str = "µs";

fn main() {
    let options = Options::of_process(ROUNDS);
    options.refuse_rest();
    let pinned = if options.pin { machine::pin(options.core) } else { None };
    let mut figures = Figures::default();
    let runtime = ends::runtime();
    let raw = runtime.block_on(raw::Raw::start(64));
    let wide = runtime.block_on(raw::Raw::start(99));
    let ours = runtime.block_on(ours::Ours::start());
    for round in 0..options.rounds {
        progress(&format!("round {} of {}", round + 1, options.rounds));
        let (trips, tells, asks) = (options.scaled(ROUND_TRIPS), options.scaled(TELLS), options.scaled(ASKS));
        if options.wants("round_trip") {
            if options.invites(RAW) {
                latency(&mut figures, RAW, runtime.block_on(raw.round_trips(trips)));
            }
            if options.invites(ARW) {
                latency(&mut figures, ARW, runtime.block_on(ours.round_trips(trips)));
            }
        }
        if options.wants("one_way") {
            if options.invites(RAW) {
                rate(&mut figures, "one_way", RAW, runtime.block_on(raw.one_way(tells)));
            }
            if options.invites(WIDE) {
                rate(&mut figures, "one_way", WIDE, runtime.block_on(wide.one_way(tells)));
            }
            if options.invites(ARW) {
                rate(&mut figures, "one_way", ARW, runtime.block_on(ours.one_way(tells)));
            }
        }
        if options.wants("asks_in_flight") {
            if options.invites(RAW) {
                in_flight(&mut figures, RAW, runtime.block_on(raw.asks(asks)));
            }
            if options.invites(WIDE) {
                in_flight(&mut figures, WIDE, runtime.block_on(wide.asks(asks)));
            }
            if options.invites(ARW) {
                in_flight(&mut figures, ARW, runtime.block_on(ours.asks(asks)));
            }
        }
    }
    report("remote", &figures, TARGETS, &[], &options, pinned);
}

fn latency(figures: &mut Figures, contender: &str, [p50, p99]: [f64; 2]) {
    figures.add("round_trip_p50", MICROS, Better::Lower, contender, p50);
    figures.add("round_trip_p99", MICROS, Better::Lower, contender, p99);
}

fn rate(figures: &mut Figures, test: &str, contender: &str, millions: f64) {
    figures.add(
        test,
        "million messages of 64 B per second of CPU, both ends",
        Better::Higher,
        contender,
        millions,
    );
}

fn in_flight(figures: &mut Figures, contender: &str, (millions, p99): (f64, f64)) {
    figures.add(
        "asks_in_flight",
        "million asks per second of CPU, both ends, 1,000 in flight",
        Better::Higher,
        contender,
        millions,
    );
    figures.add("asks_in_flight_p99", MICROS, Better::Lower, contender, p99);
}
