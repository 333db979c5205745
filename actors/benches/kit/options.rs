//! The command line of a benchmark.
//!
//! Owns the flags that all of them have. Refuses to act on them.

use std::path::PathBuf;

const HELP: &str = "\
  --json FILE     write the figures there too
  --rounds N      rounds of every measurement, interleaved; medians are shown
  --only TEXT     only measurements whose name contains TEXT
  --contender TEXT  only contenders whose name contains TEXT
  --core N        pin to this core (default: the last one); --no-pin: do not pin
  --quick         a short run, to see that everything works: its figures mean little
";

/// What a run is asked for.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    pub(crate) json: Option<PathBuf>,
    pub(crate) rounds: usize,
    pub(crate) only: Option<String>,
    pub(crate) contender: Option<String>,
    pub(crate) core: Option<usize>,
    pub(crate) pin: bool,
    pub(crate) quick: bool,
    /// What this benchmark alone knows.
    pub(crate) rest: Vec<String>,
}

impl Options {
    /// Reads the process's arguments; ends the process after `--help` or a mistake.
    #[expect(clippy::print_stdout, reason = "the answer to --help")]
    pub(crate) fn of_process(rounds: usize) -> Self {
        match Self::parse(std::env::args().skip(1), rounds) {
            Ok(Some(options)) => options,
            Ok(None) => {
                print!("{HELP}");
                std::process::exit(0)
            }
            Err(problem) => {
                super::progress(&format!("error: {problem}\n\n{HELP}"));
                std::process::exit(2)
            }
        }
    }

    /// Ends the process when something was said that this benchmark does not know.
    pub(crate) fn refuse_rest(&self) {
        if let Some(unknown) = self.rest.first() {
            super::progress(&format!("error: unknown argument `{unknown}`\n\n{HELP}"));
            std::process::exit(2)
        }
    }

    fn parse(args: impl Iterator<Item = String>, rounds: usize) -> Result<Option<Self>, String> {
        let mut options = Self {
            json: None,
            rounds,
            only: None,
            contender: None,
            core: None,
            pin: true,
            quick: false,
            rest: Vec::new(),
        };
        let mut args = args;
        while let Some(arg) = args.next() {
            let mut value = || args.next().ok_or_else(|| format!("{arg} needs a value"));
            match arg.as_str() {
                "--json" => options.json = Some(value()?.into()),
                "--rounds" => options.rounds = number(&arg, &value()?)?.max(1),
                "--only" => options.only = Some(value()?),
                "--contender" => options.contender = Some(value()?),
                "--core" => options.core = Some(number(&arg, &value()?)?),
                "--no-pin" => options.pin = false,
                "--quick" => options.quick = true,
                "--help" | "-h" => return Ok(None),
                // cargo passes it to every benchmark.
                "--bench" => {}
                _ => options.rest.push(arg),
            }
        }
        Ok(Some(options))
    }

    /// A measurement of this name is wanted.
    pub(crate) fn wants(&self, test: &str) -> bool {
        self.only.as_ref().is_none_or(|only| test.contains(only.as_str()))
    }

    /// This contender is wanted.
    pub(crate) fn invites(&self, contender: &str) -> bool {
        self.contender.as_ref().is_none_or(|wanted| contender.contains(wanted.as_str()))
    }

    /// `full`, or a twentieth of it in a quick run.
    pub(crate) fn scaled(&self, full: usize) -> usize {
        if self.quick { (full / 20).max(1) } else { full }
    }
}

fn number(flag: &str, value: &str) -> Result<usize, String> {
    value.parse().map_err(|_| format!("{flag} wants a number, not `{value}`"))
}
