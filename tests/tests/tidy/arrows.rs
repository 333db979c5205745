//! Who may use whom: crates, and the folders within the two crates of the kernel.
//!
//! Owns the tables, and that ARCHITECTURE.md draws the same. In each table whoever stands below may use who
//! stands above, never the other way, so that no circle can be written down. Refuses to know how findings are
//! reported.

use super::finding::Finding;
use super::rust::Rust;
use super::tree::{Kind, Tree};

/// Who may use whom, ground first.
pub(crate) type Arrows<'a> = &'a [(&'a str, &'a [&'a str])];

/// Of our crates, by folder. A new arrow needs an ADR.
const CRATES: Arrows<'_> = &[
    ("actors/kit", &[]),
    ("actors", &["actors/kit"]),
    ("transport", &["actors/kit", "actors"]),
    ("gateway", &["actors/kit", "actors"]),
    ("cli", &["actors/kit", "actors", "transport", "gateway"]),
    ("tests", &["actors", "gateway"]),
    ("transport/fuzz", &["actors/kit", "transport"]),
    ("transport/benches/remote/ractor_cluster", &[]),
];

/// All that the kit may depend on besides: who uses it alone shall not have to build a database or a web
/// server.
const KIT_DEPENDENCIES: &[&str] = &[
    "base16ct",
    "dashmap",
    "futures-util",
    "parking_lot",
    "ractor",
    "serde",
    "thiserror",
    "time",
    "tokio",
    "tracing",
];

/// Of tokio, too: no sockets, files, processes, signals.
const KIT_TOKIO: &[&str] = &["macros", "rt", "sync", "time"];

/// Of the folders (or files) of a crate, as `crate::NAME`.
const FOLDERS: &[(&str, Arrows<'_>)] = &[
    (
        "actors/kit/src",
        &[
            ("ids", &[]),
            ("panics", &[]),
            ("moment", &[]),
            ("clock", &["moment"]),
            ("life", &["moment"]),
            ("tree", &["moment", "clock", "life"]),
            ("mailbox", &["panics", "moment", "clock", "life", "tree"]),
            ("supervision", &["moment", "clock", "life", "tree", "mailbox"]),
        ],
    ),
    (
        "actors/src",
        &[
            ("files", &[]),
            ("ids", &[]),
            ("log_health", &[]),
            ("projection", &[]),
            ("hardware", &[]),
            ("store", &[]),
            ("node_info", &["ids"]),
            ("journal", &["store"]),
            ("policy", &["files", "store", "journal"]),
            ("model", &["journal"]),
            ("runtime", &["files", "ids", "hardware", "journal", "model"]),
            ("config", &["ids", "runtime"]),
            ("cluster", &["ids", "projection", "hardware", "node_info", "journal", "runtime"]),
            ("views", &["projection", "hardware", "node_info", "journal", "model", "runtime", "cluster"]),
            (
                "node",
                &["projection", "node_info", "journal", "policy", "model", "runtime", "cluster", "views"],
            ),
            (
                "system",
                &[
                    "files",
                    "ids",
                    "log_health",
                    "hardware",
                    "store",
                    "node_info",
                    "journal",
                    "policy",
                    "model",
                    "runtime",
                    "config",
                    "cluster",
                    "views",
                    "node",
                ],
            ),
            (
                "testkit",
                &["ids", "hardware", "store", "node_info", "journal", "model", "runtime", "cluster", "views"],
            ),
        ],
    ),
];

/// Where the tables stand.
const THIS: &str = "tests/tests/tidy/arrows.rs";
/// Where they are drawn.
const PAGE: &str = "ARCHITECTURE.md";

const USE_ONLY_ABOVE: &str = "put what both need above them, or turn the call round by a trait or a message";

pub(crate) fn crates(tree: &Tree) -> Vec<Finding> {
    let mut found = order("crates", CRATES);
    for (path, file) in tree.ending_in("/Cargo.toml") {
        let folder = path.trim_end_matches("/Cargo.toml");
        let Some((_, allowed)) = CRATES.iter().find(|(name, _)| *name == folder) else {
            found.push(Finding::new(
                path,
                1,
                "this crate is not in the table of crates",
                "add it, with an ADR",
            ));
            continue;
        };
        let mut unused = allowed.to_vec();
        for (line, section, name) in dependencies(&file.text) {
            let ours =
                CRATES.iter().find(|(folder, _)| name.strip_prefix("arw-") == folder.rsplit('/').next());
            unused.retain(|used| ours.is_none_or(|(ours, _)| ours != used));
            let is_kit = folder == "actors/kit" && section == "[dependencies]";
            if let Some((used, _)) = ours.filter(|(used, _)| !allowed.contains(used)) {
                let what = format!("{folder} depends on {used}, and no arrow leads there");
                let to_do = "turn the arrow round with a trait below, or write an ADR and change the table";
                found.push(Finding::new(path, line, &what, to_do));
            } else if ours.is_none() && is_kit && !KIT_DEPENDENCIES.contains(&name) {
                let what = format!("the kit depends on {name}");
                let to_do = "leave what needs it to a crate that uses the kit, or write an ADR";
                found.push(Finding::new(path, line, &what, to_do));
            }
        }
        found.extend(unused.iter().map(|used| spare(folder, used)));
        if !file.text.contains("[lints]\nworkspace = true") {
            let what = "the crate does not take the workspace's lints";
            found.push(Finding::new(path, 1, what, "add `[lints]` with `workspace = true`"));
        }
    }
    found
}

/// The kit's own list of tokio's features, which no other crate's list can lengthen unseen.
pub(crate) fn kit_features(tree: &Tree) -> Vec<Finding> {
    let mut found = Vec::new();
    for (path, file) in tree.files().filter(|(path, _)| *path == "actors/kit/Cargo.toml") {
        let tokio = dependencies(&file.text)
            .find(|(_, section, name)| *section == "[dependencies]" && *name == "tokio");
        let Some((line, ..)) = tokio else { continue };
        let text = file.text.lines().nth(line - 1).unwrap_or_default();
        let features =
            text.split_once("features = [").map(|(_, list)| list.split(']').next().unwrap_or_default());
        let known = |name: &str| KIT_TOKIO.contains(&name.trim().trim_matches('"'));
        if !features.is_some_and(|list| list.split(',').all(known)) {
            let what = format!("the kit takes more of tokio than {}", KIT_TOKIO.join(", "));
            found.push(Finding::new(path, line, &what, "list only these, not the workspace's"));
        }
    }
    found
}

/// Line, section and name of each dependency in a manifest.
fn dependencies(manifest: &str) -> impl Iterator<Item = (usize, &str, &str)> {
    let mut section = "";
    manifest.lines().enumerate().filter_map(move |(index, line)| {
        if line.starts_with('[') {
            section = line;
        }
        let name = line.split(['.', ' ', '=']).next()?;
        let is_name = name.starts_with(|c: char| c.is_ascii_lowercase());
        (is_name && section.contains("dependencies")).then_some((index + 1, section, name))
    })
}

pub(crate) fn folders(tree: &Tree) -> Vec<Finding> {
    FOLDERS.iter().flat_map(|(src, table)| folders_of(tree, src, table)).collect()
}

/// Checks the product code under `src` against `table`. Tests may use everything.
pub(crate) fn folders_of(tree: &Tree, src: &str, table: Arrows<'_>) -> Vec<Finding> {
    let mut found = order(src, table);
    let mut used = Vec::new();
    let mut seen = Vec::new();
    for (path, kind, rust) in tree.rust_files() {
        let Some(inner) = path.strip_prefix(src).and_then(|rest| rest.strip_prefix('/')) else { continue };
        let name = inner.split(['/', '.']).next().unwrap_or_default();
        if kind != Kind::Product || inner == "lib.rs" {
            continue;
        }
        let Some((_, allowed)) = table.iter().find(|(known, _)| *known == name) else {
            let what = format!("`{name}` is not in the table of the folders of {src}");
            found.push(Finding::new(path, 1, &what, &format!("add it to {THIS}, below all that it uses")));
            continue;
        };
        seen.push(name);
        for (line, other) in uses(inner, rust) {
            let is_known = table.iter().any(|(known, _)| *known == other);
            if other == name || !is_known && other != "*" {
                continue;
            }
            if allowed.contains(&other.as_str()) {
                used.push((name, other));
                continue;
            }
            let what = format!("`{name}` uses `{other}`, and no arrow leads there");
            found.push(Finding::new(path, line, &what, USE_ONLY_ABOVE));
        }
    }
    for (name, allowed) in table {
        if !seen.contains(name) {
            let what = format!("`{name}` is in the table, but not in {src}");
            found.push(Finding::new(THIS, 1, &what, "remove it"));
        }
        for other in allowed.iter().filter(|other| !used.iter().any(|(a, b)| a == name && b == *other)) {
            found.push(spare(name, other));
        }
    }
    found
}

/// An arrow that nobody needs.
fn spare(name: &str, other: &str) -> Finding {
    let what = format!("`{name}` may use `{other}`, and does not");
    Finding::new(THIS, 1, &what, "remove the arrow, here and in the drawing")
}

/// Each may use only who stands above.
fn order(title: &str, table: Arrows<'_>) -> Vec<Finding> {
    let mut found = Vec::new();
    for (at, (name, allowed)) in table.iter().enumerate() {
        let is_above = |other: &&str| table[..at].iter().any(|(above, _)| above == other);
        for other in allowed.iter().filter(|other| !is_above(other)) {
            let what = format!("in {title} `{name}` may use `{other}`, which does not stand above it");
            found.push(Finding::new(THIS, 1, &what, USE_ONLY_ABOVE));
        }
    }
    found
}

/// What the product code of the file `inner` (its path below `src`) names of its own crate: line and first
/// name of each path that begins with `crate::`, or with as many `super::` as lead there.
fn uses(inner: &str, rust: &Rust) -> Vec<(usize, String)> {
    let code: String = rust
        .lines
        .iter()
        .map(|line| if line.is_test { "\n".to_owned() } else { line.code.clone() + "\n" })
        .collect();
    let depth = inner.trim_end_matches("/mod.rs").split('/').count();
    let up = "super::".repeat(depth);
    let mut uses = Vec::new();
    for start in ["crate::", &up] {
        for (at, _) in code.match_indices(start) {
            let before = code[..at].chars().next_back();
            if before.is_some_and(|c| c.is_alphanumeric() || "_$:".contains(c)) {
                continue;
            }
            let line = code[..at].matches('\n').count() + 1;
            uses.extend(heads(&code[at + start.len()..]).into_iter().map(|name| (line, name)));
        }
    }
    uses
}

/// The first names of the path, or of the group of paths, at the beginning of `code`.
fn heads(code: &str) -> Vec<String> {
    let name = |text: &str| -> String {
        let text = text.trim_start();
        let end = text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len());
        if text.starts_with('*') { "*".to_owned() } else { text[..end].to_owned() }
    };
    let Some(group) = code.strip_prefix('{') else { return vec![name(code)] };
    let mut heads = Vec::new();
    let (mut depth, mut start) = (0_usize, 0);
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth > 0 => depth -= 1,
            ',' | '}' if depth == 0 => {
                heads.push(name(&group[start..at]));
                start = at + 1;
                if c == '}' {
                    break;
                }
            }
            _ => {}
        }
    }
    heads.retain(|head| !head.is_empty());
    heads
}

/// The page draws the tables as they are.
pub(crate) fn drawn(tree: &Tree) -> Vec<Finding> {
    let page = tree.files().find(|(path, _)| *path == PAGE).map_or("", |(_, file)| &file.text);
    let crates = [("crates", CRATES)];
    let tables = crates.iter().chain(FOLDERS);
    tables.filter_map(|(title, table)| drawn_as(page, title, table)).collect()
}

/// The first line of `page` in which its drawing called `title` differs from `table`.
pub(crate) fn drawn_as(page: &str, title: &str, table: Arrows<'_>) -> Option<Finding> {
    let to_do = format!("draw it so, or change the table in {THIS}");
    let Some(first) = page.lines().position(|line| line == format!("{title}:")) else {
        let what =
            format!("the drawing of `{title}` is missing: a block of code that begins with `{title}:`");
        return Some(Finding::new(PAGE, 1, &what, &to_do));
    };
    let with_arrows = table.iter().filter(|(_, allowed)| !allowed.is_empty());
    let width = with_arrows.map(|(name, _)| name.len()).max().unwrap_or_default();
    let wanted = table.iter().map(|(name, allowed)| {
        let arrow = format!("{name:width$} ──► {}", allowed.join(", "));
        if allowed.is_empty() { (*name).to_owned() } else { arrow }
    });
    let wanted = wanted.chain(["```".to_owned()]);
    let drawn = page.lines().skip(first + 1).chain(std::iter::repeat(""));
    let (at, (wanted, drawn)) = wanted.zip(drawn).enumerate().find(|(_, (wanted, drawn))| wanted != drawn)?;
    let what = format!("`{drawn}` is drawn where the table of `{title}` has `{wanted}`");
    Some(Finding::new(PAGE, first + 2 + at, &what, &to_do))
}
