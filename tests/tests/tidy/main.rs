//! The rules of this repository that no compiler checks, as tests.
//!
//! Each prints one line per finding: `path:line: what: what to do`. Owns the list of checks and of pending
//! rules; the checks themselves lie beside this file.

#![expect(clippy::panic, reason = "a test that cannot read its own repository has nothing better to do")]

mod arrows;
mod code;
mod layout;
mod numbered;

mod finding;
mod rust;
mod tree;

use std::sync::LazyLock;

use finding::{Finding, none};
use tree::Tree;

static THIS: LazyLock<Tree> = LazyLock::new(Tree::of_this_repository);

/// Rules of spec/ that may still lack code or a test, each with the reason. A rule that has both must leave
/// this list.
const PENDING: &[(&str, &str)] = &[];

#[test]
fn every_rust_file_opens_with_what_it_owns() {
    none(&code::module_docs(&THIS));
}

#[test]
fn no_rust_file_is_too_long_to_be_one_subject() {
    none(&code::file_length(&THIS));
}

#[test]
fn every_seed_that_failed_once_is_tried_again() {
    none(&layout::regressions_are_tried(&THIS));
}

#[test]
fn no_comment_is_wider_than_it_can_be_read() {
    none(&code::comment_width(&THIS));
}

#[test]
fn only_the_clock_reads_the_time() {
    none(&code::clock_reads(&THIS));
}

#[test]
fn only_the_launcher_starts_programs() {
    none(&code::process_spawns(&THIS));
}

#[test]
fn only_the_command_line_prints() {
    none(&code::prints(&THIS));
}

#[test]
fn nothing_is_promised_in_place_of_being_done() {
    none(&code::unfinished_work(&THIS));
}

#[test]
fn crates_depend_only_along_the_arrows() {
    none(&arrows::crates(&THIS));
    none(&arrows::kit_features(&THIS));
}

#[test]
fn folders_use_each_other_only_along_the_arrows() {
    none(&arrows::folders(&THIS));
}

#[test]
fn the_arrows_are_drawn_as_they_are() {
    none(&arrows::drawn(&THIS));
}

#[test]
fn no_file_names_a_path_of_one_machine() {
    none(&layout::machine_paths(&THIS));
}

#[test]
fn no_file_names_the_host_of_a_package_registry() {
    none(&layout::registry_hosts(&THIS));
}

#[test]
fn every_script_can_be_started() {
    none(&layout::scripts_run(&THIS));
}

#[test]
fn every_link_between_pages_leads_somewhere() {
    none(&layout::links_lead_somewhere(&THIS));
}

#[test]
fn every_page_can_be_reached_from_another() {
    none(&layout::pages_are_linked(&THIS));
}

#[test]
fn every_numbered_rule_has_its_code_and_its_test() {
    none(&numbered::rules(&THIS, PENDING));
}

/// The checks themselves: each finds exactly what it is for, in a tree of files made up for it.
mod the_checks {
    use super::*;

    type Check = fn(&Tree) -> Vec<Finding>;

    #[track_caller]
    fn finds(check: Check, files: &[(&str, &str)], places: &[&str]) {
        let found: Vec<String> = check(&Tree::of(files)).iter().map(Finding::place).collect();
        assert_eq!(found, places);
    }

    #[test]
    fn a_file_without_module_docs_is_found() {
        finds(
            code::module_docs,
            &[("a/b.rs", "//! Owns b.\n"), ("a/c.rs", "// no\n"), ("a/d.rs", ""), ("a/src/b/tests.rs", "")],
            &["a/c.rs:1", "a/d.rs:1"],
        );
    }

    #[test]
    fn only_lines_outside_tests_make_a_file_long() {
        let lines = |count: usize| "x;\n".repeat(count);
        let with_tests = format!("{}#[cfg(test)]\nmod tests {{\n{}}}\n", lines(500), lines(900));
        let files = [
            ("a/src/fits.rs", &*with_tests),
            ("a/src/long.rs", &*lines(501)),
            ("a/src/tests.rs", &*lines(501)),
        ];
        finds(code::file_length, &files, &["a/src/long.rs:500"]);
    }

    #[test]
    fn a_clock_read_is_found_in_product_code_only() {
        let source = "// Instant::now\nlet t = std::time::Instant::now();\n#[cfg(test)]\nmod tests { fn f() { Instant::now(); } }\n";
        let files = [
            ("actors/kit/src/clock.rs", source),
            ("gateway/src/a.rs", source),
            ("gateway/benches/a.rs", source),
        ];
        finds(code::clock_reads, &files, &["gateway/src/a.rs:2"]);
    }

    #[test]
    fn a_program_start_is_found_however_it_is_imported() {
        let files = [
            ("actors/src/runtime/launch/a.rs", "use std::process::Command;"),
            ("actors/src/b.rs", "use std::process::{\n    Child,\n    Command,\n};"),
            ("actors/src/c.rs", "use std::process::ExitCode;\nuse clap::Command;\nCommandLine::new();"),
            ("cli/src/d.rs", "\ntokio::process::Command::new(\"x\");"),
            ("cli/src/e.rs", "use std::process::{ExitCode, exit};\nfn f(x: CommandX) {}"),
        ];
        finds(code::process_spawns, &files, &["actors/src/b.rs:1", "cli/src/d.rs:2"]);
    }

    #[test]
    fn a_print_is_found_outside_the_command_line() {
        let source = "my_println!(1);\nprintln!(\"x\");\n";
        let files = [
            ("actors/src/a.rs", source),
            ("cli/src/a.rs", source),
            ("tests/src/bin/a.rs", source),
            ("actors/examples/a.rs", source),
        ];
        finds(code::prints, &files, &["actors/src/a.rs:2"]);
    }

    #[test]
    fn a_promise_is_found_in_code_but_not_in_a_string() {
        let macro_name = "todo!";
        let source = format!("{macro_name}();\n\"{macro_name}\";\n// {}\n", concat!("FIX", "ME"));
        finds(code::unfinished_work, &[("a/src/a.rs", &source)], &["a/src/a.rs:1", "a/src/a.rs:3"]);
    }

    #[test]
    fn an_arrow_against_the_design_is_found() {
        let lints = "[lints]\nworkspace = true\n";
        let kit = "arw-kit.workspace = true\n";
        let actors = format!("{lints}[dependencies]\narw-gateway.workspace = true\n{kit}");
        let cli = format!(
            "{lints}[dependencies]\n{kit}arw-actors = 1\narw-transport = 1\narw-gateway = {{ path = \"x\" }}\n[[bin]]\narw-tests = 1\n"
        );
        let transport = format!("{lints}[dependencies]\n{kit}");
        let files = [
            ("actors/Cargo.toml", &*actors),
            ("cli/Cargo.toml", &*cli),
            ("gateway/Cargo.toml", "[dependencies]\narw-kit = 1\narw-actors = 1\n"),
            ("new/Cargo.toml", lints),
            // An arrow that it does not need.
            ("transport/Cargo.toml", &*transport),
        ];
        finds(
            arrows::crates,
            &files,
            &[
                "actors/Cargo.toml:4",
                "gateway/Cargo.toml:1",
                "new/Cargo.toml:1",
                "tests/tests/tidy/arrows.rs:1",
            ],
        );
    }

    #[test]
    fn a_kit_that_needs_more_than_a_kit_is_found() {
        let kit = "[lints]\nworkspace = true\n[dependencies]\nrusqlite.workspace = true\narw-actors = 1\nserde = 1\ntokio = { version = \"1\", features = [\"rt\", \"net\"] }\n[dev-dependencies]\nproptest = 1\n";
        let files = [("actors/kit/Cargo.toml", kit)];
        finds(arrows::crates, &files, &["actors/kit/Cargo.toml:4", "actors/kit/Cargo.toml:5"]);
        finds(arrows::kit_features, &files, &["actors/kit/Cargo.toml:7"]);
        let inherits = [("actors/kit/Cargo.toml", "[dependencies]\ntokio.workspace = true\n")];
        finds(arrows::kit_features, &inherits, &["actors/kit/Cargo.toml:2"]);
    }

    #[test]
    fn an_arrow_between_folders_that_is_not_in_the_table_is_found_however_it_is_written() {
        let files = [
            ("k/src/lib.rs", "pub mod high;\npub use crate::low::Low;\n"),
            ("k/src/low.rs", "use crate::low::own;\n\nfn f() { crate::high::g(); }\n"),
            ("k/src/low/inner.rs", "// crate::high\nuse super::Low;\nuse super::super::high::High;\n"),
            ("k/src/low/group.rs", "use crate::{\n    low::{self, high},\n    high::High,\n};\n"),
            ("k/src/low/tests.rs", "use crate::high::High;\n"),
            ("k/src/high/mod.rs", "use super::low::Low;\n#[cfg(test)]\nuse crate::top::Top;\n"),
            ("k/src/top.rs", "use crate::high::High;\nuse k::crate::low;\n$crate::low!();\n"),
            ("k/src/new.rs", ""),
            ("other/src/low.rs", "use crate::high::High;\n"),
        ];
        let check: Check =
            |tree| arrows::folders_of(tree, "k/src", &[("low", &[]), ("high", &["low"]), ("top", &["high"])]);
        let places = ["k/src/low.rs:3", "k/src/low/group.rs:1", "k/src/low/inner.rs:3", "k/src/new.rs:1"];
        finds(check, &files, &places);
    }

    #[test]
    fn a_table_with_a_circle_or_with_what_is_not_there_is_found() {
        let files = [("k/src/a.rs", "use crate::b::B;\n"), ("k/src/b.rs", "use crate::a::A;\n")];
        let here = "tests/tests/tidy/arrows.rs:1";
        finds(|tree| arrows::folders_of(tree, "k/src", &[("a", &["b"]), ("b", &["a"])]), &files, &[here]);
        // `b` may use `a` and does; `a` has what the table does not allow; `c` is not there.
        let check: Check =
            |tree| arrows::folders_of(tree, "k/src", &[("a", &[]), ("b", &["a"]), ("c", &["a"])]);
        finds(check, &files, &["k/src/a.rs:1", here, here]);
    }

    #[test]
    fn a_drawing_that_differs_from_its_table_is_found() {
        let table: arrows::Arrows<'_> = &[("a", &[]), ("long", &["a"]), ("c", &["a", "long"])];
        let place = |page: &str| arrows::drawn_as(page, "k", table).map(|finding| finding.place());
        let good = "# Page\n```\nk:\na\nlong ──► a\nc    ──► a, long\n```\n";
        assert_eq!(place(good), None);
        assert_eq!(place("# Page\n"), Some("ARCHITECTURE.md:1".to_owned()));
        assert_eq!(place(&good.replace("a, long", "a")), Some("ARCHITECTURE.md:6".to_owned()));
        assert_eq!(place(&good.replace("```\n", "d\n```\n")), Some("ARCHITECTURE.md:8".to_owned()));
    }

    #[test]
    fn a_machine_path_is_found_but_an_example_in_a_test_is_not() {
        let home = concat!("x = /ho", "me/u/x\n");
        let workplace = concat!("\n/wo", "rk/main/x\nhealth/wo", "rk/main\n");
        let files = [
            ("a/src/a.rs", home),
            ("a/src/tests.rs", home),
            ("b.md", workplace),
            ("c/tests/c.rs", workplace),
        ];
        finds(layout::machine_paths, &files, &["a/src/a.rs:1", "b.md:2", "c/tests/c.rs:2"]);
    }

    #[test]
    fn a_registry_host_is_found() {
        let text = concat!("\nindex = pypi", ".org\n");
        finds(layout::registry_hosts, &[("a.toml", text), ("Cargo.lock", text)], &["a.toml:2"]);
    }

    #[test]
    fn a_script_that_cannot_be_started_is_found() {
        finds(layout::scripts_run, &[("a.sh", "#!/bin/sh\n"), ("b.sh", "x=1\n")], &["a.sh:1"]);
    }

    #[test]
    fn broken_links_and_unlinked_pages_are_found() {
        let files = [
            (
                "README.md",
                "[a](docs/a.md#part) [web](https://example.org)\n```\n[x](no.md)\n```\n[gone](docs/gone.md)",
            ),
            ("docs/a.md", "[self](a.md) [up](../README.md) [folder](..)"),
            ("docs/b.md", "[self](b.md)"),
        ];
        finds(layout::links_lead_somewhere, &files, &["README.md:5", "docs/a.md:1"]);
        finds(layout::pages_are_linked, &files, &["docs/b.md:1"]);
    }

    #[test]
    fn a_rule_without_code_or_test_and_a_wrong_number_are_found() {
        let files = [
            (
                "spec/x.md",
                "* AB-1: one\n* AB-2: two\nAB-3: three\n* AB-4: four\nas AB-1 says\n* AB-5: five\n",
            ),
            (
                "a/src/a.rs",
                "// AB-1\n// AB-2, AB-5\n// AB-9 UTF-8\n#[cfg(test)]\nmod tests {\n  // AB-1 AB-5\n}\n",
            ),
            ("a/tests/b.rs", "// AB-3\n"),
        ];
        let check: Check =
            |tree| numbered::rules(tree, &[("AB-4", "soon"), ("AB-5", "was soon"), ("AB-6", "never")]);
        let places =
            ["a/src/a.rs:3", "spec/x.md:2", "spec/x.md:3", "spec/x.md:6", "tests/tests/tidy/main.rs:1"];
        finds(check, &files, &places);
    }
}
