//! Tables and JSON.
//!
//! Owns how figures and targets are shown. Refuses to round what goes into the JSON.

#![expect(clippy::print_stdout, reason = "a benchmark prints its figures")]

use serde_json::{Value, json};

use super::figures::{Better, Figures};
use super::{Options, machine, progress};

/// What must be reached.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Limit {
    /// `ours ÷ peer`, round by round, is at least this.
    TimesAtLeast(&'static str, f64),
    /// `ours ÷ peer`, round by round, is at most this.
    TimesAtMost(&'static str, f64),
    /// The figure itself is at most this.
    AtMost(f64),
}

/// A figure and its limit.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Target {
    pub(crate) test: &'static str,
    pub(crate) ours: &'static str,
    pub(crate) limit: Limit,
}

struct Verdict {
    text: String,
    value: Option<f64>,
    limit: f64,
    passed: Option<bool>,
}

impl Target {
    fn judge(&self, figures: &Figures) -> Verdict {
        let Target { test, ours, limit } = *self;
        let (text, value, limit, passed) = match limit {
            Limit::TimesAtLeast(peer, limit) => {
                let value = figures.ratio(test, ours, peer);
                (
                    format!("{test}: {ours} ÷ {peer} ≥ {limit}"),
                    value,
                    limit,
                    value.map(|value| value >= limit),
                )
            }
            Limit::TimesAtMost(peer, limit) => {
                let value = figures.ratio(test, ours, peer);
                (
                    format!("{test}: {ours} ÷ {peer} ≤ {limit}"),
                    value,
                    limit,
                    value.map(|value| value <= limit),
                )
            }
            Limit::AtMost(limit) => {
                let value = figures.median(test, ours);
                (format!("{test}: {ours} ≤ {limit}"), value, limit, value.map(|value| value <= limit))
            }
        };
        Verdict { text, value, limit, passed }
    }
}

/// Prints everything, and writes the JSON where the options say so.
pub(crate) fn report(
    name: &str,
    figures: &Figures,
    targets: &[Target],
    notes: &[String],
    options: &Options,
    pinned: Option<usize>,
) {
    let machine = machine::describe(pinned);
    println!("\n{name}: medians of {} interleaved rounds (lowest … highest)", options.rounds);
    println!("{machine}\n");
    let mut test = "";
    for row in figures.by_test() {
        if row.test != test {
            test = &row.test;
            let better = match row.better {
                Better::Higher => "higher is better",
                Better::Lower => "lower is better",
            };
            println!("{test}, {} ({better})", row.unit);
        }
        let median = super::figures::median(&row.values);
        let lowest = row.values.iter().copied().fold(f64::INFINITY, f64::min);
        let highest = row.values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        println!(
            "    {:<34} {:>12}   ({} … {})",
            row.contender,
            shown(median),
            shown(lowest),
            shown(highest)
        );
    }
    let verdicts: Vec<Verdict> = targets.iter().map(|target| target.judge(figures)).collect();
    println!("\ntargets");
    // Whoever asks for a part knows that the rest is missing.
    let is_part = options.only.is_some() || options.contender.is_some();
    for verdict in verdicts.iter().filter(|verdict| verdict.passed.is_some() || !is_part) {
        let word = match verdict.passed {
            Some(true) => "pass",
            Some(false) => "MISS",
            None => "skipped",
        };
        println!("    {word:<8} {:<72} {:>10}", verdict.text, verdict.value.map_or("-".into(), shown));
    }
    for note in notes {
        println!("{note}");
    }
    if let Some(path) = &options.json {
        let text = format!("{:#}\n", as_json(name, figures, &verdicts, notes, options, &machine));
        match std::fs::write(path, text) {
            Ok(()) => progress(&format!("written: {}", path.display())),
            Err(error) => progress(&format!("error: {} was not written: {error}", path.display())),
        }
    }
}

fn as_json(
    name: &str,
    figures: &Figures,
    verdicts: &[Verdict],
    notes: &[String],
    options: &Options,
    machine: &Value,
) -> Value {
    let rows = figures.by_test().map(|row| {
        json!({
            "test": row.test,
            "unit": row.unit,
            "contender": row.contender,
            "median": super::figures::median(&row.values),
            "values": row.values,
        })
    });
    let verdicts = verdicts.iter().map(|verdict| {
        json!({
            "target": verdict.text, "value": verdict.value, "limit": verdict.limit, "passed": verdict.passed
        })
    });
    json!({
        "benchmark": name,
        "machine": machine,
        "rounds": options.rounds,
        "quick": options.quick,
        "figures": rows.collect::<Vec<_>>(),
        "targets": verdicts.collect::<Vec<_>>(),
        "notes": notes,
    })
}

fn shown(value: f64) -> String {
    match value.abs() {
        v if v >= 1000.0 => format!("{value:.0}"),
        v if v >= 10.0 => format!("{value:.1}"),
        v if v >= 1.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}
