//! The command line: every command, flag and help text.
//!
//! Owns words only; refuses to know what the commands do (`commands/`).

mod cluster;
mod control;
mod join;
mod node;

use std::path::PathBuf;
use std::time::Duration;

use clap::builder::{OsStringValueParser, TypedValueParser as _};
use clap::{Args, CommandFactory, Parser, Subcommand, ValueHint};

use crate::output::formats::Format;
pub(crate) use cluster::ClusterCommand;
pub(crate) use control::{
    ModelCommand, ModelImport, RuntimeAdd, RuntimeCommand, RuntimeLogs, RuntimeMove, TokenCommand,
    TokenCreate,
};
pub(crate) use join::{Join, JoinTokenCommand, JoinTokenCreate};
pub(crate) use node::{Chat, Configured, Run, Up};

/// Run AI models on your own machine: a node that supervises model servers, and commands to use it
#[derive(Debug, Parser)]
#[command(
    name = "arw",
    version,
    propagate_version = true,
    arg_required_else_help = true,
    max_term_width = 100,
    after_help = "Start with:\n  arw run MODEL.gguf      import a model, start it and chat\n  arw up                  start a node\n  arw status              what runs\n\nExit codes: 0 done, 1 failed, 2 wrong usage, 3 no node answers, 4 denied, 5 not found.",
    after_long_help = LONG_AFTER
)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

const LONG_AFTER: &str = "\
Start with:
  arw run MODEL.gguf      import a model, start it and chat
  arw up                  start a node
  arw status              what runs

Environment:
  ARW_STATE_DIR           the same as --state-dir
  ARW_SERVER, ARW_TOKEN   the node to talk to, and the token for it
  ARW_GATEWAY__HTTP, …    any setting of the node (here gateway.http)
  NO_COLOR                no colours
  ACCESSIBLE=1            for screen readers: no redrawing, no drawn lines

Exit codes: 0 done, 1 failed, 2 wrong usage, 3 no node answers, 4 denied, 5 not found.";

const EVERYWHERE: &str = "Options of every command";

/// Flags that every command takes.
#[derive(Args, Clone, Debug)]
pub(crate) struct Global {
    /// Folder in which the node keeps everything; also how commands find the node
    #[arg(long, global = true, help_heading = EVERYWHERE, env = "ARW_STATE_DIR", value_name = "DIR", value_hint = ValueHint::DirPath, hide_env_values = true,
          // Takes nothing as well: a variable that is set to it must not keep a flag from being read.
          value_parser = OsStringValueParser::new().map(PathBuf::from))]
    pub(crate) state_dir: Option<PathBuf>,

    /// Talk to the node at this address, for example http://127.0.0.1:8091, with the token in ARW_TOKEN
    #[arg(long, global = true, help_heading = EVERYWHERE, env = "ARW_SERVER", value_name = "URL", hide_env_values = true)]
    pub(crate) server: Option<String>,

    /// How to show data: for people (table), as the HTTP API does (json, yaml), row by row (csv, ndjson)
    #[arg(long, short = 'o', global = true, help_heading = EVERYWHERE, value_name = "FORMAT", default_value = "table")]
    pub(crate) output: Format,

    /// Show no colours
    #[arg(long, global = true, help_heading = EVERYWHERE)]
    pub(crate) no_color: bool,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Start a node and keep it running until Ctrl-C
    Up(Up),
    /// Make this machine's node a member of a cluster, and start it if none runs
    Join(Box<Join>),
    /// Import a model, start it and chat, in one go
    Run(Run),
    /// Chat with a model
    Chat(Chat),
    /// Show the node, its runtimes and its models on one screen
    Status,
    /// Check this machine and the node, and say what to do about what is wrong
    Doctor(Configured),
    /// Show the actors of the node: what runs, what waits, what restarted and why
    #[command(subcommand)]
    Actors(ActorsCommand),
    /// Show the cluster: every node, how it does and what it serves
    #[command(subcommand)]
    Cluster(ClusterCommand),
    /// Manage runtimes: model servers that the node starts and watches
    #[command(subcommand)]
    Runtime(RuntimeCommand),
    /// Manage model files
    #[command(subcommand)]
    Model(ModelCommand),
    /// Manage access tokens
    #[command(subcommand)]
    Token(TokenCommand),
    /// Show what happened on the node
    Events(Events),
    /// Show the settings of the node
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Print a completion script for a shell
    #[command(
        after_help = "Examples:\n  arw completions bash > ~/.local/share/bash-completion/completions/arw\n  arw completions zsh > ~/.zfunc/_arw"
    )]
    Completions {
        /// Which shell
        shell: clap_complete::Shell,
    },
    /// Write the manual pages
    #[command(after_help = "Examples:\n  arw man | man -l -\n  arw man ~/.local/share/man/man1")]
    Man {
        /// Folder for one page per command; without it, the main page goes to standard output
        #[arg(value_hint = ValueHint::DirPath)]
        dir: Option<PathBuf>,
    },
}

/// `arw actors …`
#[derive(Debug, Subcommand)]
pub(crate) enum ActorsCommand {
    /// Show every actor as a tree
    #[command(
        after_help = "Examples:\n  arw actors tree --watch\n  arw actors tree --node box-b\n  arw actors tree --all -o ndjson | jq 'select(.restarts.used > 0)'"
    )]
    Tree {
        /// Keep showing it as it changes, until Ctrl-C
        #[arg(long, short, conflicts_with = "all")]
        watch: bool,
        /// The tree of another node of the cluster: its name, its id, or at least eight digits of it
        #[arg(long, value_name = "NAME|ID", conflicts_with = "all")]
        node: Option<String>,
        /// The trees of all nodes of the cluster
        #[arg(long)]
        all: bool,
    },
    /// Show one actor and why it restarted
    #[command(after_help = "Example:\n  arw actors show runtimes/smollm2")]
    Show {
        /// Its path, as `arw actors tree` shows it; the beginning may be left out
        path: String,
    },
}

/// `arw events`
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  arw events\n  arw events -f --kind runtime_restarted\n  arw events --after 0 --limit 100000 -o ndjson > events.ndjson"
)]
pub(crate) struct Events {
    /// Keep showing events as they happen, until Ctrl-C
    #[arg(long, short)]
    pub(crate) follow: bool,
    /// Start after the event with this number instead of showing the newest
    #[arg(long, value_name = "SEQ")]
    pub(crate) after: Option<u64>,
    /// At most so many
    #[arg(long, value_name = "COUNT", default_value_t = 50, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    pub(crate) limit: u64,
    /// Only events of this kind
    #[arg(long)]
    pub(crate) kind: Option<String>,
}

/// `arw config …`
#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Show each setting, its value, and where the value came from
    #[command(
        after_help = "Examples:\n  arw config explain\n  ARW_GATEWAY__HTTP=127.0.0.1:9000 arw config explain"
    )]
    Explain(Configured),
}

/// The environment variables that stand for a flag or an argument, with its name as errors show it.
pub(crate) fn variables() -> Vec<(String, String)> {
    fn gather(command: &clap::Command, found: &mut Vec<(String, String)>) {
        for argument in command.get_arguments() {
            let name = argument.get_env().and_then(|name| name.to_str());
            found.extend(name.map(|name| (name.to_owned(), argument.to_string())));
        }
        command.get_subcommands().for_each(|below| gather(below, found));
    }
    let mut found = Vec::new();
    let mut command = Arguments::command();
    // Only then an argument knows how it is shown.
    command.build();
    gather(&command, &mut found);
    found.sort();
    found.dedup();
    found
}

/// A duration such as `30s`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    arw_actors::config::parse_duration(text).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definition_of_the_command_line_is_sound() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn every_command_and_flag_has_a_help_text() {
        fn check(command: &clap::Command, path: &str) {
            let path = format!("{path} {}", command.get_name());
            assert!(command.get_about().is_some(), "{path} has no help text");
            for argument in command.get_arguments() {
                assert!(argument.get_help().is_some(), "{path} {} has no help text", argument.get_id());
            }
            command.get_subcommands().for_each(|below| check(below, &path));
        }
        check(&Arguments::command(), "");
    }

    #[test]
    fn global_flags_may_stand_anywhere() {
        let arguments =
            Arguments::try_parse_from(["arw", "runtime", "list", "-o", "json", "--state-dir", "/x"]).unwrap();
        assert_eq!(arguments.global.output, Format::Json);
        assert_eq!(arguments.global.state_dir, Some("/x".into()));
    }
}
