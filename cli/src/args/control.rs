//! Commands that manage what the node has: runtimes, models, tokens.

use std::path::PathBuf;
use std::time::Duration;

use arw_actors::policy::Scope;
use arw_actors::runtime::spec::IdleAfter;
use clap::builder::{PossibleValue, PossibleValuesParser};
use clap::{Args, Subcommand, ValueEnum, ValueHint};

use super::duration;

/// `arw runtime …`
#[derive(Debug, Subcommand)]
pub(crate) enum RuntimeCommand {
    /// Add a runtime
    Add(Box<RuntimeAdd>),
    /// Remove a runtime; its model stays
    #[command(visible_alias = "rm")]
    Remove {
        /// Its name
        id: String,
    },
    /// Show all runtimes
    #[command(visible_alias = "ls")]
    List,
    /// Show one runtime: state, health, restarts left and why it restarted
    Show {
        /// Its name
        id: String,
    },
    /// Start a runtime and wait until it is ready
    Start(RuntimeMove),
    /// Stop a runtime and wait until it has ended
    Stop(RuntimeMove),
    /// Stop a runtime and start it again
    Restart(RuntimeMove),
    /// Show what a runtime's program printed
    Logs(RuntimeLogs),
}

/// `arw runtime add`
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  arw runtime add smollm2 --adapter llama_cpp --model SmolLM2-135M-Instruct.Q4_1 --auto-start \\\n      -- llama-server --model {model} --host {socket} --api-key-file /dev/stdin\n  arw runtime add elsewhere --adapter openai --base-url http://127.0.0.1:9000/v1\n\nIn the arguments, {model} is the model file, {socket} a Unix socket or\n{port} a loopback port to serve on. The node makes a key for each start and\nwrites it to the program's standard input; {secret} puts it into an argument\nwhere a program needs that."
)]
pub(crate) struct RuntimeAdd {
    /// Name for it: a-z A-Z 0-9 . _ -
    pub(crate) id: String,
    /// How it is spoken to
    #[arg(long, value_enum)]
    pub(crate) adapter: Adapter,
    /// Name of an imported model
    #[arg(long)]
    pub(crate) model: Option<String>,
    /// Name of a set of options, for your own use
    #[arg(long)]
    pub(crate) profile: Option<String>,
    /// Start it with the node
    #[arg(long)]
    pub(crate) auto_start: bool,
    /// Address of the server, for --adapter openai
    #[arg(long, value_name = "URL")]
    pub(crate) base_url: Option<String>,
    /// Environment variable of the node that holds the server's key, ARW_KEY_…, for --adapter openai
    #[arg(long, value_name = "NAME")]
    pub(crate) api_key_env: Option<String>,
    /// Folder that the program may read besides its own and the model
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) allow_read: Vec<PathBuf>,
    /// Folder that the program may read and execute besides its own: where a start script leads to
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) allow_exec: Vec<PathBuf>,
    /// Let the program connect to Unix sockets; without it, it can only serve
    #[arg(long)]
    pub(crate) allow_unix_connect: bool,
    /// Environment variable for the program
    #[arg(long, value_name = "NAME=VALUE", value_parser = assignment)]
    pub(crate) env: Vec<(String, String)>,
    /// Unload it after so long without a request, for example 30m; off: never
    #[arg(long, value_name = "DURATION", value_parser = idle_after)]
    pub(crate) idle_after: Option<IdleAfter>,
    /// Restarts allowed within --restart-window
    #[arg(long, value_name = "COUNT")]
    pub(crate) restart_max: Option<u32>,
    /// Window in which restarts are counted, for example 5m
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub(crate) restart_window: Option<Duration>,
    /// Program and its arguments, after `--`
    #[arg(last = true, value_name = "PROGRAM", value_hint = ValueHint::CommandWithArguments)]
    pub(crate) program: Vec<String>,
}

/// How a runtime is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
pub(crate) enum Adapter {
    /// llama.cpp's llama-server, started by the node
    LlamaCpp,
    /// Any program, started by the node
    Process,
    /// A server that speaks OpenAI's API and is not started by the node
    Openai,
}

impl Adapter {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::LlamaCpp => "llama_cpp",
            Self::Process => "process",
            Self::Openai => "openai",
        }
    }
}

/// `arw runtime start|stop|restart`
#[derive(Args, Debug)]
pub(crate) struct RuntimeMove {
    /// Its name
    pub(crate) id: String,
    /// How long to wait for it; 0s does not wait
    #[arg(long, value_name = "DURATION", default_value = "2m", value_parser = duration)]
    pub(crate) wait: Duration,
}

/// `arw runtime logs`
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  arw runtime logs smollm2 -f")]
pub(crate) struct RuntimeLogs {
    /// Its name
    pub(crate) id: String,
    /// Keep showing lines as they are printed, until Ctrl-C
    #[arg(long, short)]
    pub(crate) follow: bool,
    /// So many of the newest lines
    #[arg(long, value_name = "COUNT", default_value_t = 200)]
    pub(crate) tail: u64,
    /// Show when each line was printed
    #[arg(long, short)]
    pub(crate) timestamps: bool,
}

/// `arw model …`
#[derive(Debug, Subcommand)]
pub(crate) enum ModelCommand {
    /// Import a model file; a copy is kept under its hash
    Import(ModelImport),
    /// Show all models
    #[command(visible_alias = "ls")]
    List,
    /// Show one model
    Show {
        /// One of its names, or at least eight digits of its hash
        name: String,
    },
    /// Remove a model, or one of its names
    #[command(visible_alias = "remove")]
    Rm {
        /// One of several names goes alone; by its last name, or by at least eight digits of its hash, the
        /// model goes
        name: String,
    },
}

/// `arw model import`
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  arw model import SmolLM2-135M-Instruct.Q4_1.gguf\n  arw model import download.bin --name smollm2"
)]
pub(crate) struct ModelImport {
    /// Model file in GGUF format
    #[arg(value_hint = ValueHint::FilePath)]
    pub(crate) file: PathBuf,
    /// Name for it; without it, the file's name
    #[arg(long)]
    pub(crate) name: Option<String>,
}

/// `arw token …`
#[derive(Debug, Subcommand)]
pub(crate) enum TokenCommand {
    /// Create a token and print it, this once
    Create(TokenCreate),
    /// Show all tokens, without their secrets
    #[command(visible_alias = "ls")]
    List,
    /// Revoke a token, at once and for good
    Revoke {
        /// Its id, as `arw token list` shows it
        id: String,
        /// Do not ask
        #[arg(long, short)]
        yes: bool,
    },
}

/// `arw token create`
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  arw token create laptop --scope infer --expires-in 30d\n  export ARW_TOKEN=$(arw token create script --scope runtime:manage --scope infer)"
)]
pub(crate) struct TokenCreate {
    /// What it is for
    pub(crate) name: String,
    /// What it allows; may be given more than once
    #[arg(long = "scope", value_name = "SCOPE", value_delimiter = ',', default_value = "infer",
          value_parser = scopes())]
    pub(crate) scopes: Vec<String>,
    /// How long it holds, for example 30d; without it, until it is revoked
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub(crate) expires_in: Option<Duration>,
}

fn scopes() -> PossibleValuesParser {
    Scope::ALL.map(|scope| PossibleValue::new(scope.as_str()).help(scope.about())).into()
}

fn idle_after(text: &str) -> Result<IdleAfter, String> {
    match text {
        "off" => Ok(IdleAfter::Off),
        _ => duration(text)
            .map(|span| IdleAfter::from_span(Some(span)))
            .map_err(|why| format!("{why}; or `off`")),
    }
}

fn assignment(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        Some(_) | None => Err("write NAME=VALUE".to_owned()),
    }
}
