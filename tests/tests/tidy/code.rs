//! Checks of Rust code: what each file must have, and what may stand only in some places.
//!
//! Each check takes the tree and returns what it found; refuses to know how that is reported.

use super::finding::Finding;
use super::rust::Line;
use super::tree::{Kind, Tree};

/// Longer files hide more than one subject; see "files read top-down" in the style of this project.
const PRODUCT_LINES_MAX: usize = 500;
/// Tests are read one by one, so their files may be longer.
const TEST_LINES_MAX: usize = 1_200;

pub(crate) fn module_docs(tree: &Tree) -> Vec<Finding> {
    let lacks = |first: Option<&Line>| !first.is_some_and(|line| line.text.starts_with("//! "));
    tree.rust_files()
        .filter(|(path, _, rust)| !is_tests_beside_a_module(path) && lacks(rust.lines.first()))
        .map(|(path, _, _)| {
            Finding::new(
                path,
                1,
                "the file does not open with `//! `",
                "say what it owns and what it refuses to know",
            )
        })
        .collect()
}

/// `tests.rs` under src/ is about the module that it stands beside: there is nothing to add.
fn is_tests_beside_a_module(path: &str) -> bool {
    path.contains("/src/") && (path.ends_with("/tests.rs") || path.ends_with("_tests.rs"))
}

pub(crate) fn file_length(tree: &Tree) -> Vec<Finding> {
    let mut found = Vec::new();
    for (path, kind, rust) in tree.rust_files() {
        let (lines, max) = match kind {
            Kind::Product => (rust.product_lines().count(), PRODUCT_LINES_MAX),
            Kind::Test | Kind::Demonstration => (rust.lines.len(), TEST_LINES_MAX),
        };
        if lines > max {
            let what = format!("{lines} lines, tests not counted; the most is {max}");
            found.push(Finding::new(
                path,
                max,
                &what,
                "split it where one decision ends and the next begins",
            ));
        }
    }
    found
}

/// Who may read a clock, and why.
const CLOCK_READERS: &[(&str, &str)] = &[
    ("actors/kit/src/clock.rs", "it is the clock"),
    (
        "actors/kit/src/mailbox/",
        "deadlines and time budgets per message, on tokio's clock, which a test can pause",
    ),
    ("gateway/src/sse.rs", "sets the heartbeat's timer anew, on tokio's clock, which a test can pause"),
];

/// A comment is read beside code, in columns. Examples and drawings within fences stay as they are.
const COMMENT_COLUMNS_MAX: usize = 110;

pub(crate) fn comment_width(tree: &Tree) -> Vec<Finding> {
    let mut found = Vec::new();
    for (path, file) in tree.ending_in(".rs").filter(|(path, _)| !is_generated(path)) {
        let mut is_fenced = false;
        for (number, line) in file.text.lines().enumerate() {
            let Some(comment) = line.trim_start().strip_prefix("//") else {
                is_fenced = false;
                continue;
            };
            is_fenced ^= comment.trim_start_matches(['/', '!']).trim_start().starts_with("```");
            let columns = line.chars().count();
            if columns > COMMENT_COLUMNS_MAX && !is_fenced {
                let what = format!("a comment of {columns} columns; the most is {COMMENT_COLUMNS_MAX}");
                found.push(Finding::new(path, number + 1, &what, "break it, or say less"));
            }
        }
    }
    found
}

pub(crate) fn clock_reads(tree: &Tree) -> Vec<Finding> {
    const NEEDLES: &[&str] = &["Instant::now", "SystemTime::now", "now_utc(", "now_local("];
    product_code(tree, CLOCK_READERS, |line| {
        let needle = NEEDLES.iter().find(|needle| line.code.contains(*needle))?;
        let what = format!("`{needle}` outside actors/kit/src/clock.rs");
        Some((what, "take a `Moment` or `WallTime` as an argument, or ask the `Clock`"))
    })
}

/// Who may print, and why.
const PRINTERS: &[(&str, &str)] =
    &[("cli/", "it is the command line"), ("tests/src/", "the fake runtime prints what an engine prints")];

pub(crate) fn prints(tree: &Tree) -> Vec<Finding> {
    const MACROS: &[&str] = &["println!", "eprintln!", "print!", "eprint!"];
    product_code(tree, PRINTERS, |line| {
        let name = MACROS.iter().find(|name| has_word(&line.code, name))?;
        Some((
            format!("`{name}` outside the command line"),
            "log with `tracing`, or return the text to who prints it",
        ))
    })
}

/// Who may start programs, and why.
const STARTERS: &[(&str, &str)] = &[
    ("actors/src/runtime/launch/", "here programs get their keeper and their sandbox"),
    ("cli/src/commands/ensure_node.rs", "a command that needs a node starts this same program as one"),
    ("tests/", "end-to-end tests start nodes"),
];

pub(crate) fn process_spawns(tree: &Tree) -> Vec<Finding> {
    let mut found = Vec::new();
    for (path, kind, rust) in tree.rust_files() {
        if kind != Kind::Product || is_among(path, STARTERS) {
            continue;
        }
        let code: String = rust
            .lines
            .iter()
            .map(|line| if line.is_test { "\n".to_owned() } else { line.code.clone() + "\n" })
            .collect();
        for at in names_command(&code) {
            let line = code[..at].matches('\n').count() + 1;
            found.push(Finding::new(
                path,
                line,
                "`process::Command` outside actors/src/runtime/launch",
                "start programs through the port `Launcher`: only there they get a keeper and a sandbox",
            ));
        }
    }
    found
}

/// Where `code` names `process::Command`, alone or in a group as in `process::{Child, Command}`.
fn names_command(code: &str) -> Vec<usize> {
    code.match_indices("process::")
        .filter(|(at, path)| {
            let rest = &code[at + path.len()..];
            match rest.strip_prefix('{') {
                Some(group) => has_word(&group[..group.find('}').unwrap_or(group.len())], "Command"),
                None => rest.starts_with("Command") && !rest[7..].starts_with(is_word_char),
            }
        })
        .map(|(at, _)| at)
        .collect()
}

pub(crate) fn unfinished_work(tree: &Tree) -> Vec<Finding> {
    let in_code = ["todo!", "unimplemented!", "#[ignore"];
    // Written apart, or this file would find itself: comments count too.
    let anywhere = concat!("FIX", "ME");
    let mut found = Vec::new();
    for (path, _, rust) in tree.rust_files() {
        for line in &rust.lines {
            for needle in in_code.iter().filter(|needle| line.code.contains(*needle)) {
                let what = format!("`{needle}` is a promise, not code");
                found.push(Finding::new(
                    path,
                    line.number,
                    &what,
                    "finish it, or leave it out and say so in an issue",
                ));
            }
        }
    }
    for (path, file) in tree.files().filter(|(path, _)| !is_generated(path)) {
        for (index, _) in file.text.lines().enumerate().filter(|(_, line)| line.contains(anywhere)) {
            let what = format!("`{anywhere}` is a promise, not code");
            found.push(Finding::new(
                path,
                index + 1,
                &what,
                "finish it, or leave it out and say so in an issue",
            ));
        }
    }
    found
}

/// Lock files are written by package clients.
pub(crate) fn is_generated(path: &str) -> bool {
    path.ends_with("Cargo.lock") || path.ends_with("package-lock.json")
}

fn is_among(path: &str, places: &[(&str, &str)]) -> bool {
    places.iter().any(|(place, _)| path.starts_with(place))
}

/// Applies `check` to each line of product code outside the places where it may stand.
fn product_code(
    tree: &Tree,
    may: &[(&str, &str)],
    check: impl Fn(&Line) -> Option<(String, &'static str)>,
) -> Vec<Finding> {
    let files = tree.rust_files().filter(|(path, kind, _)| *kind == Kind::Product && !is_among(path, may));
    let lines = files.flat_map(|(path, _, rust)| rust.product_lines().map(move |line| (path, line)));
    lines
        .filter_map(|(path, line)| {
            check(line).map(|(what, todo)| Finding::new(path, line.number, &what, todo))
        })
        .collect()
}

/// `word` stands in `code`, not as part of a longer name.
fn has_word(code: &str, word: &str) -> bool {
    code.match_indices(word).any(|(at, _)| {
        !code[..at].ends_with(is_word_char)
            && (word.ends_with('!') || !code[at + word.len()..].starts_with(is_word_char))
    })
}

fn is_word_char(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}
