//! Numbered rules: each `XXX-7:` in spec/*.md is named by a test and by the code that enforces it.
//!
//! Owns how rules are found and counted; refuses to know what they say.

use std::collections::{BTreeMap, BTreeSet};

use super::finding::Finding;
use super::tree::{Kind, Tree};

/// Where a rule is defined and who names it.
#[derive(Debug, Default)]
struct Coverage {
    defined_at: (String, usize),
    by_code: bool,
    by_test: bool,
}

/// Checks every rule. `pending` are rules that may lack code or a test still, with the reason.
pub(crate) fn rules(tree: &Tree, pending: &[(&str, &str)]) -> Vec<Finding> {
    let mut found = Vec::new();
    let mut rules = defined(tree, &mut found);
    let prefixes: BTreeSet<String> =
        rules.keys().filter_map(|rule| Some(rule.rsplit_once('-')?.0.to_owned())).collect();
    for (path, line, text, is_test) in naming_lines(tree) {
        for rule in rule_names(text)
            .filter(|rule| rule.rsplit_once('-').is_some_and(|(prefix, _)| prefixes.contains(prefix)))
        {
            match rules.get_mut(rule) {
                Some(coverage) if is_test => coverage.by_test = true,
                Some(coverage) => coverage.by_code = true,
                None => found.push(Finding::new(
                    path,
                    line,
                    &format!("{rule} is no rule of spec/"),
                    "mend the number, or write the rule",
                )),
            }
        }
    }
    for (rule, coverage) in &rules {
        let (path, line) = &coverage.defined_at;
        let is_pending = pending.iter().any(|(name, _)| name == rule);
        let (missing, to_do) = match (coverage.by_code, coverage.by_test) {
            (true, true) if is_pending => {
                ("has code and a test, but is still pending", "remove it from PENDING")
            }
            (true, true) => continue,
            (_, _) if is_pending => continue,
            (true, false) => ("is named by no test", "name it in the test that would fail without it"),
            (false, true) => ("is named by no code", "name it where it is enforced"),
            (false, false) => {
                ("is named by no code and no test", "name it where it is enforced and in its test")
            }
        };
        found.push(Finding::new(path, *line, &format!("{rule} {missing}"), to_do));
    }
    for (rule, _) in pending.iter().filter(|(rule, _)| !rules.contains_key(*rule)) {
        found.push(Finding::new(
            "tests/tests/tidy/main.rs",
            1,
            &format!("{rule} is pending but no rule of spec/"),
            "remove it from PENDING",
        ));
    }
    found
}

/// Every `XXX-7:` that begins a line of spec/*.md, after a list mark.
fn defined(tree: &Tree, found: &mut Vec<Finding>) -> BTreeMap<String, Coverage> {
    let mut rules: BTreeMap<String, Coverage> = BTreeMap::new();
    for (path, file) in tree.ending_in(".md").filter(|(path, _)| path.starts_with("spec/")) {
        for (index, line) in file.text.lines().enumerate() {
            let line = line.trim_start_matches(['*', '-', ' ', '`', '#']);
            let Some(rule) = rule_names(line).next().filter(|rule| line.starts_with(&format!("{rule}:")))
            else {
                continue;
            };
            let coverage = Coverage { defined_at: (path.to_owned(), index + 1), ..Coverage::default() };
            if rules.insert(rule.to_owned(), coverage).is_some() {
                found.push(Finding::new(
                    path,
                    index + 1,
                    &format!("{rule} is defined twice"),
                    "give it a number of its own",
                ));
            }
        }
    }
    rules
}

/// Lines that may name a rule: path, number, text, whether it is a test. Comments count: a rule is named in
/// one.
fn naming_lines(tree: &Tree) -> impl Iterator<Item = (&str, usize, &str, bool)> {
    let rust = tree
        .rust_files()
        .filter(|(path, kind, _)| *kind != Kind::Demonstration && !path.starts_with("tests/tests/tidy/"));
    let rust = rust.flat_map(|(path, kind, rust)| {
        rust.lines
            .iter()
            .map(move |line| (path, line.number, line.text.as_str(), line.is_test || kind == Kind::Test))
    });
    let clients = tree.ending_in(".py").filter(|(path, _)| path.starts_with("tests/"));
    let clients = clients.flat_map(|(path, file)| {
        file.text.lines().enumerate().map(move |(index, line)| (path, index + 1, line, true))
    });
    rust.chain(clients)
}

/// Everything in `text` that has the form of a rule's name: two or more capitals, a hyphen, a number.
fn rule_names(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_ascii_alphanumeric() && c != '-').filter(|word| {
        word.split_once('-').is_some_and(|(prefix, number)| {
            prefix.len() >= 2
                && prefix.chars().all(|c| c.is_ascii_uppercase())
                && !number.is_empty()
                && number.chars().all(|c| c.is_ascii_digit())
        })
    })
}
