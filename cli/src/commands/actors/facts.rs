//! What is worth telling about a tree that changes.
//!
//! Owns the comparison of two trees: counters that move all the time are no news, states, restarts, exits,
//! full mailboxes and stuck handlers are. Plain decider.

use std::collections::BTreeMap;

use serde_json::Value;

use super::tree;
use crate::client::row::{number, text};
use crate::commands::watching::Change;
use crate::output::human;
use crate::output::style::Tone;

/// A handler that runs for this long is slow: a person would notice.
const SLOW_MS: u64 = 1_000;
/// And for this long it is stuck: every ask to it has timed out.
const STUCK_MS: u64 = 10_000;

/// How long a handler has been at its message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Handling {
    Well,
    Slow,
    Stuck,
}

impl Handling {
    pub(super) fn of(row: &Value) -> Self {
        match number(row, "/in_flight/age_ms") {
            Some(age) if age >= STUCK_MS => Self::Stuck,
            Some(age) if age >= SLOW_MS => Self::Slow,
            Some(_) | None => Self::Well,
        }
    }

    pub(super) fn words(self) -> &'static str {
        match self {
            Self::Well => "",
            Self::Slow => " (slow)",
            Self::Stuck => " (STUCK)",
        }
    }

    pub(super) fn tone(self) -> Tone {
        match self {
            Self::Well => Tone::Plain,
            Self::Slow => Tone::Warning,
            Self::Stuck => Tone::Bad,
        }
    }
}

/// The facts of every actor, by path.
#[derive(Clone, Debug, Default)]
pub(super) struct Tree(BTreeMap<String, Facts>);

#[derive(Clone, Debug)]
struct Facts {
    state: String,
    restarts: Option<(u64, u64)>,
    exit: Option<(String, String)>,
    pace: Handling,
    full: bool,
    record: Value,
}

impl Tree {
    pub(super) fn of(body: &Value) -> Self {
        let rows = tree::rows(body);
        Self(rows.iter().map(|line| (text(line.row, "/path").to_owned(), Facts::of(line.row))).collect())
    }

    /// What is new, in the order of paths.
    pub(super) fn changes_since(&self, before: &Self) -> Vec<Change> {
        let mut changes = Vec::new();
        for (path, now) in &self.0 {
            let news = match before.0.get(path) {
                None => vec![format!("new, {}", now.state)],
                Some(before) => now.news(before),
            };
            if !news.is_empty() {
                changes.push(Change {
                    words: format!("{path}: {}", news.join("; ")),
                    record: now.record.clone(),
                });
            }
        }
        for (path, gone) in before.0.iter().filter(|(path, _)| !self.0.contains_key(*path)) {
            changes.push(Change { words: format!("{path}: gone"), record: gone.record.clone() });
        }
        changes
    }
}

impl Facts {
    fn of(row: &Value) -> Self {
        let (depth, bound) = (number(row, "/mailbox/depth"), number(row, "/mailbox/bound"));
        let exit = row.get("last_exit").and_then(human::exit_in_words);
        Self {
            state: text(row, "/state").to_owned(),
            restarts: number(row, "/restarts/used").zip(number(row, "/restarts/max")),
            exit: exit.map(|words| (text(row, "/last_exit/at").to_owned(), words)),
            pace: Handling::of(row),
            full: depth.zip(bound).is_some_and(|(depth, bound)| bound > 0 && depth >= bound),
            record: tree::without_children(row),
        }
    }

    fn news(&self, before: &Self) -> Vec<String> {
        let mut news = Vec::new();
        if self.state != before.state {
            news.push(format!("{}, was {}", self.state, before.state));
        }
        if self.exit != before.exit
            && let Some((_, words)) = &self.exit
        {
            news.push(words.clone());
        }
        if self.restarts != before.restarts
            && let Some((used, max)) = self.restarts
        {
            news.push(format!("restarts {used} of {max}"));
        }
        if self.pace != before.pace {
            let message = text(&self.record, "/in_flight/message");
            news.push(match self.pace {
                Handling::Well => "handling messages again".to_owned(),
                Handling::Slow => format!("slow: still handling {message}"),
                Handling::Stuck => format!("STUCK: still handling {message}"),
            });
        }
        if self.full != before.full {
            news.push(if self.full { "mailbox full" } else { "mailbox has room again" }.to_owned());
        }
        news
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::sample_row;
    use super::*;

    fn words(before: &Value, after: &Value) -> Vec<String> {
        let tree = |row: &Value| Tree::of(&json!({"root": row}));
        tree(after).changes_since(&tree(before)).into_iter().map(|change| change.words).collect()
    }

    #[test]
    fn counters_are_no_news() {
        let before = sample_row("node", "running");
        let mut after = before.clone();
        after["handled"] = json!(900);
        after["busy_ms"] = json!(12);
        after["mailbox"]["depth"] = json!(3);
        after["in_flight"] = json!({"message": "Add", "age_ms": 900});
        assert!(words(&before, &after).is_empty());
    }

    #[test]
    fn a_restart_is_told_with_its_reason_and_what_is_left() {
        let before = sample_row("node/a", "running");
        let mut after = sample_row("node/a", "backoff");
        after["last_exit"] =
            json!({"reason": "process_signal", "detail": "killed by SIGKILL", "at": "2026-11-24T12:00:00Z"});
        after["restarts"]["used"] = json!(1);
        assert_eq!(
            words(&before, &after),
            ["node/a: backoff, was running; killed by SIGKILL; restarts 1 of 5"]
        );
    }

    #[test]
    fn the_same_exit_twice_is_told_twice() {
        let mut before = sample_row("node/a", "running");
        before["last_exit"] = json!({"reason": "killed", "detail": null, "at": "2026-11-24T12:00:00Z"});
        let mut after = before.clone();
        after["last_exit"]["at"] = json!("2026-11-24T12:00:05Z");
        assert_eq!(words(&before, &after), ["node/a: killed"]);
    }

    #[test]
    fn stuck_handlers_full_mailboxes_and_coming_and_going_are_told() {
        let before = sample_row("node", "running");
        let mut after = before.clone();
        after["in_flight"] = json!({"message": "Probe", "age_ms": 12_000});
        after["mailbox"]["depth"] = json!(64);
        assert_eq!(words(&before, &after), ["node: STUCK: still handling Probe; mailbox full"]);
        assert_eq!(words(&after, &before), ["node: handling messages again; mailbox has room again"]);
        let mut parent = before.clone();
        parent["children"] = json!([sample_row("node/a", "starting")]);
        assert_eq!(words(&before, &parent), ["node/a: new, starting"]);
        assert_eq!(words(&parent, &before), ["node/a: gone"]);
    }
}
