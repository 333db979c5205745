//! Commands that start something or talk to a model: `up`, `run`, `chat`; and the flags for settings.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, ValueHint};

/// Where settings come from besides the environment.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct Configured {
    /// Settings file; without it, arw.toml in the state folder, if there is one
    #[arg(long, env = "ARW_CONFIG", value_name = "FILE", value_hint = ValueHint::FilePath, hide_env_values = true)]
    pub(crate) config: Option<PathBuf>,
}

/// `arw up`
#[derive(Args, Clone, Debug, Default)]
#[command(
    after_help = "Examples:\n  arw up\n  arw up --http 127.0.0.1:9000 --state-dir /var/lib/arw\n  arw up --config /etc/arw.toml\n\nSettings: flags win over the environment, the environment over the file, the file over the defaults.\n`arw config explain` shows each setting and where it came from."
)]
pub(crate) struct Up {
    #[command(flatten)]
    pub(crate) configured: Configured,
    /// Address and port to listen on [setting gateway.http, default 127.0.0.1:8091]
    #[arg(long, value_name = "ADDR")]
    pub(crate) http: Option<SocketAddr>,
    /// Address and port for other nodes, over UDP [setting cluster.listen, default 0.0.0.0:8091]
    #[arg(long, value_name = "ADDR")]
    pub(crate) cluster_listen: Option<SocketAddr>,
    /// Address and port that other nodes dial to reach this one [setting cluster.advertise, default: found
    /// out]
    #[arg(long, value_name = "ADDR")]
    pub(crate) cluster_advertise: Option<SocketAddr>,
    /// Name of the node, shown to people [setting node.name, default the host name]
    #[arg(long)]
    pub(crate) name: Option<String>,
    /// Least severe log message: error, warn, info, debug, trace [setting log.level, default info]
    #[arg(long, value_name = "LEVEL")]
    pub(crate) log_level: Option<String>,
    /// Form of log messages: text, json [setting log.format, default text]
    #[arg(long, value_name = "FORM")]
    pub(crate) log_format: Option<String>,
}

/// `arw run`
#[derive(Args, Clone, Debug)]
#[command(
    after_help = "Examples:\n  arw run SmolLM2-135M-Instruct.Q4_1.gguf\n  arw run model.gguf --once 'Say hello'\n  arw run model.gguf --engine /opt/llama.cpp/llama-server\n  arw run model.gguf --engine python3 -- engine.py {model} {socket}\n\nUses the node that runs on the state folder, or starts one and stops it at the end."
)]
pub(crate) struct Run {
    /// Model file in GGUF format
    #[arg(value_hint = ValueHint::FilePath)]
    pub(crate) file: PathBuf,
    /// Name of the model and the runtime; without it, the file's name
    #[arg(long)]
    pub(crate) name: Option<String>,
    /// First message of every conversation, for the model to follow
    #[arg(long, value_name = "TEXT")]
    pub(crate) system: Option<String>,
    /// Ask this one thing, show the answer and leave
    #[arg(long, value_name = "TEXT")]
    pub(crate) once: Option<String>,
    /// Folder that the engine may read besides its own and the model
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) allow_read: Vec<PathBuf>,
    /// Folder that the engine may read and execute besides its own: where a start script leads to
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) allow_exec: Vec<PathBuf>,
    /// Let the engine connect to Unix sockets; without it, it can only serve
    #[arg(long)]
    pub(crate) allow_unix_connect: bool,
    /// Engine program; without it, llama-server is looked up in PATH
    #[arg(long, value_name = "PROGRAM", value_hint = ValueHint::CommandName)]
    pub(crate) engine: Option<String>,
    /// Arguments for the engine, after `--`, with {model}, {socket}, {port} and {secret} filled in; without
    /// them, those that llama-server needs
    #[arg(last = true, value_name = "ARGS")]
    pub(crate) args: Vec<String>,
}

/// `arw chat`
#[derive(Args, Clone, Debug, Default)]
#[command(
    after_help = "Examples:\n  arw chat\n  arw chat smollm2 --system 'Answer in French.'\n  arw chat --once 'Say hello' -o json\n  printf 'one question per line\\n' | arw chat\n\nCtrl-C stops the answer; once more leaves. /clear forgets the conversation, /quit leaves."
)]
pub(crate) struct Chat {
    /// Model or runtime; may be left out where only one serves
    pub(crate) model: Option<String>,
    /// First message of every conversation, for the model to follow
    #[arg(long, value_name = "TEXT")]
    pub(crate) system: Option<String>,
    /// Ask this one thing, show the answer and leave
    #[arg(long, value_name = "TEXT")]
    pub(crate) once: Option<String>,
}
