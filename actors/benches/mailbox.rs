//! Mailbox and supervision beside their peers: tokio's channels, ractor, kameo, Erlang.
//!
//! `./dev bench mailbox`, or `cargo bench -p arw-actors --bench mailbox -- --help`. Owns what is compared and
//! what must be reached; how it is measured lies beside this file. See `docs/benchmarks.md`.

#![expect(
    clippy::unwrap_used,
    reason = "a benchmark that cannot measure has nothing better to do than to end"
)]
#![expect(
    clippy::cast_precision_loss,
    reason = "counts far below 2^53; child processes are what is measured"
)]

mod kit;

#[path = "mailbox/contender.rs"]
mod contender;
#[path = "mailbox/erlang.rs"]
mod erlang;
#[path = "mailbox/measure.rs"]
mod measure;
#[path = "mailbox/ours.rs"]
mod ours;
#[path = "mailbox/peers.rs"]
mod peers;

use std::time::Duration;

use contender::{Contender, Restarting};
use erlang::Erlang;
use kit::{Better, Figures, Limit, Options, Target, machine, progress, report};
use ours::{Journaled, Ours, OursTry, Restarted};
use peers::{Bounded, Kameo, Ractor, RactorRestarted, Unbounded};

const ARW: &str = Ours::NAME;
const ERLANG: &str = "erlang send";

/// What ours must reach. Ratios are taken round by round, in one process, on one core.
const TARGETS: &[Target] = &[
    at_least("tell_1_to_1", Ractor::NAME, 4.0),
    at_least("tell_4_to_1", Ractor::NAME, 4.0),
    at_least("tell_1_to_1", Bounded::NAME, 1.2),
    at_least("tell_4_to_1", Bounded::NAME, 1.2),
    at_least("tell_1_to_1", ERLANG, 2.0),
    at_least("tell_4_to_1", ERLANG, 2.0),
    Target { test: "ask_p50", ours: ARW, limit: Limit::TimesAtMost(Ractor::NAME, 1.0) },
    Target { test: "bytes_idle", ours: ARW, limit: Limit::AtMost(8_500.0) },
    Target { test: "restart_p50", ours: Journaled::NAME, limit: Limit::AtMost(10.0) },
    Target { test: "neighbour_p99", ours: ARW, limit: Limit::AtMost(150.0) },
];

const fn at_least(test: &'static str, peer: &'static str, times: f64) -> Target {
    Target { test, ours: ARW, limit: Limit::TimesAtLeast(peer, times) }
}

/// Rounds: the machine may be shared, so that a median needs some.
const ROUNDS: usize = 7;
/// Memory does not vary, and takes longest.
const MEMORY_ROUNDS: usize = 3;
const RATE: &str = "million messages/s";

fn main() {
    let options = Options::of_process(ROUNDS);
    if let [flag, name, count] = options.rest.as_slice()
        && flag == "--memory-of"
    {
        // A process of its own for each contender: allocators keep what an earlier one has freed.
        memory_of(name, count.parse().unwrap());
    }
    options.refuse_rest();
    let pinned = if options.pin { machine::pin(options.core) } else { None };
    // A restart takes ten times as long with a backtrace; ractor gets the same.
    arw_kit::panics::install_panic_hook();
    let mut run = Run { figures: Figures::default(), options, erlang: None, notes: Vec::new() };
    match Erlang::find() {
        Ok(erlang) => run.erlang = Some(erlang),
        Err(why) => run.notes.push(format!("skipped: erlang: {why}")),
    }
    for round in 0..run.options.rounds {
        progress(&format!("round {} of {}", round + 1, run.options.rounds));
        run.round(round);
    }
    report("mailbox", &run.figures, TARGETS, &run.notes, &run.options, pinned);
}

struct Run {
    figures: Figures,
    options: Options,
    erlang: Option<Erlang>,
    notes: Vec<String>,
}

/// Each is taken of every contender before the next one is begun, so that both sides of a ratio see the same
/// machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Test {
    OneToOne,
    FourToOne,
    Flood,
    Ask,
    Neighbour,
    SpawnStop,
    Restart,
    Bytes,
}

impl Test {
    const ALL: [Self; 8] = [
        Self::OneToOne,
        Self::FourToOne,
        Self::Flood,
        Self::Ask,
        Self::Neighbour,
        Self::SpawnStop,
        Self::Restart,
        Self::Bytes,
    ];

    /// Its name, and how many windows, messages, asks, milliseconds, crashes or actors make a round.
    const fn sizes(self) -> (&'static str, usize) {
        match self {
            Self::OneToOne => ("tell_1_to_1", 10_000),
            Self::FourToOne => ("tell_4_to_1", 10_000),
            Self::Flood => ("flood_1_to_1", 2_000_000),
            Self::Ask => ("ask", 200_000),
            Self::Neighbour => ("neighbour", 500),
            Self::SpawnStop => ("spawn_stop", 20_000),
            Self::Restart => ("restart", 5_000),
            Self::Bytes => ("bytes", 100_000),
        }
    }

    fn units(self) -> &'static [(&'static str, &'static str, Better)] {
        match self {
            Self::OneToOne => &[("tell_1_to_1", RATE, Better::Higher)],
            Self::FourToOne => &[("tell_4_to_1", RATE, Better::Higher)],
            Self::Flood => &[("flood_1_to_1", RATE, Better::Higher)],
            Self::Ask => &[("ask_p50", "ns", Better::Lower), ("ask_p99", "ns", Better::Lower)],
            Self::Neighbour => &[
                ("neighbour_p50", "µs of thread time", Better::Lower),
                ("neighbour_p99", "µs of thread time", Better::Lower),
            ],
            Self::SpawnStop => &[("spawn_stop", "µs", Better::Lower)],
            Self::Restart => &[("restart_p50", "µs", Better::Lower), ("restart_p99", "µs", Better::Lower)],
            Self::Bytes => &[
                ("bytes_idle", "bytes per actor", Better::Lower),
                ("bytes_used", "bytes per actor that has answered once", Better::Lower),
            ],
        }
    }
}

impl Run {
    fn round(&mut self, round: usize) {
        for test in Test::ALL {
            if !self.options.wants(test.sizes().0) || (test == Test::Bytes && round >= MEMORY_ROUNDS) {
                continue;
            }
            if test == Test::Restart {
                self.restart_of::<Restarted>();
                self.restart_of::<Journaled>();
                self.restart_of::<RactorRestarted>();
                continue;
            }
            self.of::<Ours>(test);
            if matches!(test, Test::OneToOne | Test::FourToOne) {
                // It would be refused in a flood, and differs in nothing else.
                self.of::<OursTry>(test);
            }
            self.of::<Bounded>(test);
            self.of::<Unbounded>(test);
            self.of::<Ractor>(test);
            self.of::<Kameo>(test);
            if test != Test::Neighbour {
                self.of_erlang(test, round);
            }
        }
    }

    fn of<C: Contender>(&mut self, test: Test) {
        if !self.options.invites(C::NAME) {
            return;
        }
        let count = self.options.scaled(test.sizes().1);
        let figures = match test {
            Test::OneToOne => vec![measure::windowed::<C>(1, count as u64)],
            Test::FourToOne => vec![measure::windowed::<C>(4, count as u64 / 4)],
            Test::Flood => vec![measure::flood::<C>(count as u64)],
            Test::Ask => measure::ask::<C>(count).to_vec(),
            Test::Neighbour => measure::neighbour::<C>(Duration::from_millis(count as u64)).to_vec(),
            Test::SpawnStop => vec![measure::spawn_stop::<C>(count)],
            Test::Bytes => memory_in_child(C::NAME, count).to_vec(),
            // Its contenders have another trait.
            Test::Restart => Vec::new(),
        };
        self.add(test, C::NAME, &figures);
    }

    fn add(&mut self, test: Test, contender: &str, figures: &[f64]) {
        for ((name, unit, better), value) in test.units().iter().zip(figures) {
            self.figures.add(name, unit, *better, contender, *value);
        }
    }

    fn of_erlang(&mut self, test: Test, round: usize) {
        let Some(erlang) = &self.erlang else { return };
        if !self.options.invites(ERLANG) {
            return;
        }
        let (name, count) = test.sizes();
        match erlang.measure(name, self.options.scaled(count)) {
            Ok(figures) => self.add(test, ERLANG, &figures),
            Err(why) => {
                self.notes.push(format!("skipped: erlang: {name} in round {}: {why}", round + 1));
                // A figure of a later round would stand beside the wrong ones.
                self.erlang = None;
            }
        }
    }

    fn restart_of<R: Restarting>(&mut self) {
        if !self.options.invites(R::NAME) {
            return;
        }
        let figures = measure::restart::<R>(self.options.scaled(Test::Restart.sizes().1));
        self.add(Test::Restart, R::NAME, &figures);
    }
}

fn memory_in_child(name: &str, count: usize) -> [f64; 2] {
    let output = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--memory-of", name, &count.to_string()])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let figures: Vec<f64> = text.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
    figures.try_into().unwrap()
}

#[expect(clippy::print_stdout, reason = "read by the process that started this one")]
fn memory_of(name: &str, count: usize) -> ! {
    let measure: fn(usize) -> [f64; 2] = match name {
        Ours::NAME => measure::memory::<Ours>,
        Bounded::NAME => measure::memory::<Bounded>,
        Unbounded::NAME => measure::memory::<Unbounded>,
        Ractor::NAME => measure::memory::<Ractor>,
        Kameo::NAME => measure::memory::<Kameo>,
        _ => {
            progress(&format!("error: no contender is called `{name}`"));
            std::process::exit(2)
        }
    };
    let [idle, used] = measure(count);
    println!("{idle} {used}");
    std::process::exit(0)
}
