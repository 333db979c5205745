//! Actors on another node beside a bare framed QUIC stream, ractor_cluster and Erlang's distribution, in one
//! run.
//!
//! `./dev bench remote`. Owns what is compared and what must be reached. Client and server have a thread and
//! a current-thread runtime each, on one core, and real UDP sockets between them. ractor_cluster is the same
//! in a process of its own, Erlang two processes over TCP in plain text. Rates are per second for which their
//! processes have run: both ends together, without what other processes took of the core. See
//! `docs/benchmarks.md`.

#![expect(
    clippy::unwrap_used,
    reason = "a benchmark that cannot measure has nothing better to do than to end"
)]

#[path = "../../actors/benches/kit/mod.rs"]
#[expect(dead_code, reason = "the kit serves other benchmarks too")]
mod kit;

#[path = "remote/bare.rs"]
mod bare;
#[path = "remote/ends.rs"]
mod ends;
#[path = "remote/erlang.rs"]
mod erlang;
#[path = "remote/ours.rs"]
mod ours;
#[path = "remote/peer.rs"]
mod peer;
#[path = "remote/ractor.rs"]
mod ractor;
#[path = "remote/raw.rs"]
mod raw;

use erlang::Erlang;
use kit::{Better, Figures, Limit, Options, Target, machine, progress, report};
use peer::Peer;

const ARW: &str = "arw, actor to actor";
const RAW: &str = "quinn, one framed stream";
/// With as many bytes per frame as ours have: 40 of header, 63 of body. It says how much of the difference is
/// bytes.
const WIDE: &str = "quinn, frames as long as ours";
const RACTOR: &str = "ractor_cluster, over a quinn stream";
const ERLANG: &str = "erlang distribution";
const GEN_SERVER: &str = "erlang distribution, gen_server";

/// What ours must reach. Ratios are taken round by round.
const TARGETS: &[Target] = &[
    Target { test: "round_trip_p50", ours: ARW, limit: Limit::TimesAtMost(RAW, 1.15) },
    Target { test: "one_way", ours: ARW, limit: Limit::TimesAtLeast(RAW, 0.6) },
    Target { test: "one_way", ours: ARW, limit: Limit::TimesAtLeast(RACTOR, 8.0) },
    Target { test: "one_way", ours: ARW, limit: Limit::TimesAtLeast(ERLANG, 5.0) },
    Target { test: "asks_in_flight", ours: ARW, limit: Limit::TimesAtLeast(RAW, 0.6) },
    Target { test: "asks_in_flight", ours: ARW, limit: Limit::TimesAtLeast(RACTOR, 8.0) },
    Target { test: "asks_in_flight", ours: ARW, limit: Limit::TimesAtLeast(ERLANG, 8.0) },
];

const ROUNDS: usize = 7;
const ROUND_TRIPS: usize = 20_000;
const TELLS: usize = 2_000_000;
const ASKS: usize = 500_000;
/// ractor_cluster and Erlang take ten times as long for each.
const PEER_TELLS: usize = 200_000;
const PEER_ASKS: usize = 100_000;
/// Asks that wait for their answers at the same time.
pub(crate) const IN_FLIGHT: usize = 1_000;
const MICROS: &str = "µs";

fn main() {
    let options = Options::of_process(ROUNDS);
    options.refuse_rest();
    let pinned = if options.pin { machine::pin(options.core) } else { None };
    let runtime = ends::runtime();
    let raw = runtime.block_on(raw::Raw::start(64));
    let wide = runtime.block_on(raw::Raw::start(99));
    let ours = runtime.block_on(ours::Ours::start());
    let mut run = Run { figures: Figures::default(), peers: Peers::start(&options), options };
    for round in 0..run.options.rounds {
        progress(&format!("round {} of {}", round + 1, run.options.rounds));
        if run.options.wants("round_trip") {
            let trips = run.options.scaled(ROUND_TRIPS);
            run.latency(RAW, || runtime.block_on(raw.round_trips(trips)));
            run.latency(ARW, || runtime.block_on(ours.round_trips(trips)));
            run.peers_latency(trips);
        }
        if run.options.wants("one_way") {
            let tells = run.options.scaled(TELLS);
            run.rate(RAW, || runtime.block_on(raw.one_way(tells)));
            run.rate(WIDE, || runtime.block_on(wide.one_way(tells)));
            run.rate(ARW, || runtime.block_on(ours.one_way(tells)));
            run.peers_rate();
        }
        if run.options.wants("asks_in_flight") {
            let asks = run.options.scaled(ASKS);
            run.in_flight(RAW, || runtime.block_on(raw.asks(asks)));
            run.in_flight(WIDE, || runtime.block_on(wide.asks(asks)));
            run.in_flight(ARW, || runtime.block_on(ours.asks(asks)));
            run.peers_in_flight();
        }
    }
    report("remote", &run.figures, TARGETS, &run.peers.notes, &run.options, pinned);
}

struct Run {
    figures: Figures,
    options: Options,
    peers: Peers,
}

impl Run {
    fn latency(&mut self, contender: &str, measure: impl FnOnce() -> [f64; 2]) {
        if self.options.invites(contender) {
            latency(&mut self.figures, contender, measure());
        }
    }

    fn rate(&mut self, contender: &str, measure: impl FnOnce() -> f64) {
        if self.options.invites(contender) {
            rate(&mut self.figures, contender, measure());
        }
    }

    fn in_flight(&mut self, contender: &str, measure: impl FnOnce() -> (f64, f64)) {
        if self.options.invites(contender) {
            in_flight(&mut self.figures, contender, measure());
        }
    }

    fn peers_latency(&mut self, trips: usize) {
        let tests = [(RACTOR, "round_trip"), (ERLANG, "round_trip"), (GEN_SERVER, "round_trip_gen_server")];
        for (contender, test) in tests {
            if let Some([p50, p99]) = self.peers.measure(&self.options, contender, test, trips) {
                latency(&mut self.figures, contender, [p50, p99]);
            }
        }
    }

    fn peers_rate(&mut self) {
        let tells = self.options.scaled(PEER_TELLS);
        for contender in [RACTOR, ERLANG] {
            if let Some([millions]) = self.peers.measure(&self.options, contender, "one_way", tells) {
                rate(&mut self.figures, contender, millions);
            }
        }
    }

    fn peers_in_flight(&mut self) {
        let asks = self.options.scaled(PEER_ASKS);
        let tests = [
            (RACTOR, "asks_in_flight"),
            (ERLANG, "asks_in_flight"),
            (GEN_SERVER, "asks_in_flight_gen_server"),
        ];
        for (contender, test) in tests {
            if let Some([millions, p99]) = self.peers.measure(&self.options, contender, test, asks) {
                in_flight(&mut self.figures, contender, (millions, p99));
            }
        }
    }
}

/// Those that may be missing, and why they are.
struct Peers {
    ractor: Option<Peer>,
    erlang: Option<Erlang>,
    notes: Vec<String>,
}

impl Peers {
    fn start(options: &Options) -> Self {
        let mut peers = Self { ractor: None, erlang: None, notes: Vec::new() };
        if options.invites(RACTOR) {
            match ractor::start() {
                Ok(ractor) => peers.ractor = Some(ractor),
                Err(why) => peers.notes.push(format!("skipped: {RACTOR}: {why}")),
            }
        }
        // What names the first names the second.
        if options.invites(GEN_SERVER) {
            match Erlang::start() {
                Ok(erlang) => peers.erlang = Some(erlang),
                Err(why) => peers.notes.push(format!("skipped: {ERLANG}: {why}")),
            }
        }
        peers
    }

    fn measure<const N: usize>(
        &mut self,
        options: &Options,
        contender: &str,
        test: &str,
        count: usize,
    ) -> Option<[f64; N]> {
        if !options.invites(contender) {
            return None;
        }
        let figures = match contender {
            RACTOR => self.ractor.as_mut()?.measure(test, count),
            _ => self.erlang.as_mut()?.measure(test, count),
        };
        let figures = figures.and_then(|figures| {
            figures.try_into().map_err(|figures| format!("not {N} figures of {test}: {figures:?}"))
        });
        figures
            .map_err(|why| {
                self.notes.push(format!("skipped: {contender}: {why}"));
                // A figure of a later round would stand beside the wrong ones.
                match contender {
                    RACTOR => self.ractor = None,
                    _ => self.erlang = None,
                }
            })
            .ok()
    }
}

fn latency(figures: &mut Figures, contender: &str, [p50, p99]: [f64; 2]) {
    figures.add("round_trip_p50", MICROS, Better::Lower, contender, p50);
    figures.add("round_trip_p99", MICROS, Better::Lower, contender, p99);
}

fn rate(figures: &mut Figures, contender: &str, millions: f64) {
    figures.add(
        "one_way",
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
