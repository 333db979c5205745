//! Erlang, where it is there.
//!
//! Owns finding it, compiling `mailbox_peer.erl` and reading what that prints. Refuses to install anything.

use std::ffi::OsString;
use std::process::{Command, Output};

/// A compiled peer.
pub(crate) struct Erlang {
    program: OsString,
    folder: tempfile::TempDir,
}

const SOURCE: &str = include_str!("mailbox_peer.erl");

impl Erlang {
    /// `ARW_ERL`, else `erl` in `PATH`. Or why not.
    pub(crate) fn find() -> Result<Self, String> {
        let program = std::env::var_os("ARW_ERL").unwrap_or_else(|| "erl".into());
        let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
        std::fs::write(folder.path().join("mailbox_peer.erl"), SOURCE).map_err(|error| error.to_string())?;
        let compile = "case compile:file(mailbox_peer, [report]) of {ok, _} -> halt(0); _ -> halt(1) end.";
        let erlang = Self { program, folder };
        erlang.run(&["-noshell", "-eval", compile])?;
        Ok(erlang)
    }

    /// One round of one test: its figures by name.
    pub(crate) fn measure(&self, test: &str, count: usize) -> Result<Vec<(String, f64)>, String> {
        let count = count.to_string();
        // One scheduler, as the others have one thread; enough processes for the memory's sake.
        let output = self.run(&[
            "+S",
            "1:1",
            "+P",
            "1000000",
            "-noshell",
            "-run",
            "mailbox_peer",
            "main",
            test,
            &count,
        ])?;
        let text = String::from_utf8_lossy(&output.stdout);
        let line = |line: &str| {
            let (name, value) = line.split_once(' ')?;
            Some((name.to_owned(), value.trim().parse().ok()?))
        };
        text.lines().map(|text| line(text).ok_or_else(|| format!("erl printed `{text}`"))).collect()
    }

    fn run(&self, arguments: &[&str]) -> Result<Output, String> {
        let output = Command::new(&self.program)
            .args(arguments)
            .current_dir(self.folder.path())
            .output()
            .map_err(|error| format!("{}: {error} (ARW_ERL names it)", self.program.display()))?;
        if output.status.success() {
            return Ok(output);
        }
        let said =
            String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
        Err(format!("erl: {}: {}", output.status, said.trim()))
    }
}
