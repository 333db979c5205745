//! Checks of everything that is not code: documents and their links, machine paths, hosts, scripts.
//!
//! Each check takes the tree and returns what it found; refuses to know how that is reported.

use super::code::is_generated;
use super::finding::Finding;
use super::tree::{Kind, Tree};

/// Paths of one person's or one machine's folders: what names them works nowhere else.
pub(crate) fn machine_paths(tree: &Tree) -> Vec<Finding> {
    // Written apart, or this file would find itself. The first kind may stand in tests, as an example given
    // to a decider.
    let homes = [concat!("/ho", "me/"), concat!("/ro", "ot/."), concat!("/Us", "ers/")];
    let workplaces = [
        concat!("/wo", "rk/main"),
        concat!("/wo", "rk/wt"),
        concat!("/wo", "rk/shared"),
        concat!("/wo", "rk/target"),
        concat!("/wo", "rk/."),
    ];
    let mut found = Vec::new();
    for (path, file) in tree.files().filter(|(path, _)| !is_generated(path)) {
        let is_test_file = tree.rust_files().any(|(other, kind, _)| other == path && kind == Kind::Test);
        for (index, line) in file.text.lines().enumerate() {
            let is_test = is_test_file || file.rust.as_ref().is_some_and(|rust| rust.lines[index].is_test);
            let homes = homes.iter().filter(|_| !is_test);
            let hit = workplaces.iter().chain(homes).find(|needle| starts_a_path(line, needle));
            if let Some(needle) = hit {
                let what = format!("`{needle}` exists on one machine only");
                found.push(Finding::new(
                    path,
                    index + 1,
                    &what,
                    "make it relative, a variable or a neutral example",
                ));
            }
        }
    }
    found
}

/// `needle` stands in `line` as the beginning of a path, not in the middle of one.
fn starts_a_path(line: &str, needle: &str) -> bool {
    line.match_indices(needle)
        .any(|(at, _)| !line[..at].ends_with(|c: char| c.is_alphanumeric() || "_-.}~".contains(c)))
}

/// Package clients know their registries; a host written down here would bypass somebody's mirror.
pub(crate) fn registry_hosts(tree: &Tree) -> Vec<Finding> {
    let hosts = [
        concat!("pypi", ".org"),
        concat!("python", "hosted.org"),
        concat!("crates", ".io"),
        concat!("npm", "js.org"),
        concat!("npm", "js.com"),
        concat!("deb.", "debian.org"),
    ];
    let mut found = Vec::new();
    for (path, file) in tree.files().filter(|(path, _)| !is_generated(path)) {
        for (index, line) in file.text.lines().enumerate() {
            if let Some(host) = hosts.iter().find(|host| line.contains(*host)) {
                let what = format!("`{host}` is the host of a package registry");
                found.push(Finding::new(
                    path,
                    index + 1,
                    &what,
                    "name the package; the package client knows where it comes from",
                ));
            }
        }
    }
    found
}

pub(crate) fn scripts_run(tree: &Tree) -> Vec<Finding> {
    tree.files()
        .filter(|(_, file)| file.text.starts_with("#!/") && !file.is_executable)
        .map(|(path, _)| {
            Finding::new(path, 1, "a script that cannot be started", "chmod +x it, or drop its first line")
        })
        .collect()
}

/// Every link to a file leads somewhere.
/// Failures that proptest once found are tried again only where it looks for them: beside `src`, by the
/// test's file.
pub(crate) fn regressions_are_tried(tree: &Tree) -> Vec<Finding> {
    let mut found = Vec::new();
    for (path, _) in tree.ending_in(".txt") {
        let Some((krate, test)) = path.split_once("/proptest-regressions/") else { continue };
        let test = test.trim_end_matches(".txt");
        if !["src", "tests"].iter().any(|folder| tree.has(&format!("{krate}/{folder}/{test}.rs"))) {
            let to_do = "move it after its test, or remove it with the test";
            found.push(Finding::new(path, 1, "no test reads these seeds", to_do));
        }
    }
    found
}

pub(crate) fn links_lead_somewhere(tree: &Tree) -> Vec<Finding> {
    let broken = |link: &&Link<'_>| !tree.has(&link.target);
    links(tree)
        .iter()
        .filter(broken)
        .map(|link| {
            Finding::new(
                link.from,
                link.line,
                &format!("the link to {} leads nowhere", link.target),
                "mend or remove it",
            )
        })
        .collect()
}

/// Every page under docs/ and spec/ can be reached from another one.
pub(crate) fn pages_are_linked(tree: &Tree) -> Vec<Finding> {
    let links = links(tree);
    let is_linked = |page: &str| links.iter().any(|link| link.target == page && link.from != page);
    tree.ending_in(".md")
        .filter(|(path, _)| (path.starts_with("docs/") || path.starts_with("spec/")) && !is_linked(path))
        .map(|(path, _)| {
            Finding::new(
                path,
                1,
                "no other page links to this one",
                "link it where a reader would look for it",
            )
        })
        .collect()
}

struct Link<'tree> {
    from: &'tree str,
    line: usize,
    /// From the repository's root.
    target: String,
}

/// All links in Markdown files that name a file of this repository.
fn links(tree: &Tree) -> Vec<Link<'_>> {
    let mut links = Vec::new();
    for (from, file) in tree.ending_in(".md") {
        let mut is_code = false;
        for (index, line) in file.text.lines().enumerate() {
            is_code ^= line.trim_start().starts_with("```");
            if is_code {
                continue;
            }
            for rest in line.split("](").skip(1) {
                let target = rest.split([')', '#', ' ']).next().unwrap_or_default();
                if !target.is_empty() && !target.contains(':') {
                    links.push(Link { from, line: index + 1, target: resolve(from, target) });
                }
            }
        }
    }
    links
}

/// `target` as written in the file `from`, seen from the repository's root.
fn resolve(from: &str, target: &str) -> String {
    let mut parts: Vec<&str> = from.split('/').collect();
    parts.pop();
    for part in target.trim_end_matches('/').split('/') {
        match part {
            ".." => drop(parts.pop()),
            "." => {}
            name => parts.push(name),
        }
    }
    parts.join("/")
}
