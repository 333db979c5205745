//! `[[runtimes]]`: runtimes that a configuration names.
//!
//! The same fields as `POST /runtimes`. Owns what each adapter needs; refuses to know how a runtime is started.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use super::error::ConfigError;
use super::reader::Reader;
use super::{DAY, RESTART, RestartSettings, SECOND};
use crate::ids::RuntimeId;

/// One `[[runtimes]]` section.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfiguredRuntime {
    /// Its name on this node.
    pub id: RuntimeId,
    /// How it is spoken to.
    pub adapter: ConfiguredAdapter,
    /// The name of an imported model.
    pub model: Option<String>,
    /// The name of a set of options; free for the operator.
    pub profile: Option<String>,
    /// Start it with the node.
    pub auto_start: bool,
    /// The program: a path, or a name looked up in `PATH`.
    pub program: Option<PathBuf>,
    /// Its arguments, with `{model}`, `{port}`, `{socket}` and `{secret}` to be filled in.
    pub args: Vec<String>,
    /// For `openai`: the server's address.
    pub base_url: Option<String>,
    /// For `openai`: the environment variable that holds the server's key.
    pub api_key_env: Option<String>,
    /// Folders that the program may read besides its own.
    pub allow_read: Vec<PathBuf>,
    /// Environment variables for the program.
    pub env: BTreeMap<String, String>,
    /// Unload after so long without a request. `None`: as `[runtime]` says; `Some(None)`: never.
    pub idle_after: Option<Option<Duration>>,
    /// Its restart budget. `None`: as `[runtime]` says.
    pub restart: Option<RestartSettings>,
}

/// How a runtime is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConfiguredAdapter {
    /// llama.cpp's `llama-server`, started by the node.
    LlamaCpp,
    /// Any program, started by the node.
    Process,
    /// A server that speaks OpenAI's API and is not managed by the node.
    OpenAi,
}

impl ConfiguredAdapter {
    /// As it is written: `llama_cpp`, `process`, `openai`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::LlamaCpp => "llama_cpp",
            Self::Process => "process",
            Self::OpenAi => "openai",
        }
    }
}

/// The names of adapters.
const ADAPTERS: [(&str, ConfiguredAdapter); 3] = [
    ("llama_cpp", ConfiguredAdapter::LlamaCpp),
    ("process", ConfiguredAdapter::Process),
    ("openai", ConfiguredAdapter::OpenAi),
];

pub(super) fn read_all(reader: &mut Reader<'_>) -> Vec<ConfiguredRuntime> {
    let count = reader.count("runtimes");
    let mut seen = BTreeSet::new();
    let mut runtimes = Vec::with_capacity(count);
    for index in 0..count {
        let section = format!("runtimes[{index}]");
        let Some(runtime) = read_one(reader, &section) else { continue };
        if !seen.insert(runtime.id.clone()) {
            let why = format!("a runtime named {} exists already; give each its own id", runtime.id);
            reader.conflict(&format!("{section}.id"), why);
        }
        runtimes.push(runtime);
    }
    runtimes
}

pub(super) fn read_one(reader: &mut Reader<'_>, section: &str) -> Option<ConfiguredRuntime> {
    let key = |name: &str| format!("{section}.{name}");
    let id = reader.text(&key("id"));
    let adapter = reader.optional_choice(&key("adapter"), &ADAPTERS);
    let fields = Fields {
        model: reader.text(&key("model")),
        profile: reader.text(&key("profile")),
        auto_start: reader.boolean(&key("auto_start"), false),
        program: reader.text(&key("program")),
        args: reader.texts(&key("args")),
        base_url: reader.text(&key("base_url")),
        api_key_env: reader.text(&key("api_key_env")),
        allow_read: reader.texts(&key("allow_read")),
        env: reader.map(&key("env")),
        idle_after: reader.optional_duration_or_off(&key("idle_after"), SECOND..=365 * DAY),
        restart_max: reader.optional_small(&key("restart.max")),
        restart_window: reader.optional_duration(&key("restart.window"), SECOND..=DAY),
    };
    let id = match id {
        Some(text) => match text.parse::<RuntimeId>() {
            Ok(id) => Some(id),
            Err(error) => {
                reader.conflict(&key("id"), error.to_string());
                None
            }
        },
        None => {
            reader.missing(section, "id", "every runtime needs a name");
            None
        }
    };
    if adapter.is_none() && !reader.has(&key("adapter")) {
        reader.missing(section, "adapter", "say how it is spoken to: llama_cpp, process or openai");
    }
    let (id, adapter) = (id?, adapter?);
    fields.check(reader, section, adapter);
    Some(fields.into_runtime(id, adapter))
}

struct Fields {
    model: Option<String>,
    profile: Option<String>,
    auto_start: bool,
    program: Option<String>,
    args: Vec<String>,
    base_url: Option<String>,
    api_key_env: Option<String>,
    allow_read: Vec<String>,
    env: BTreeMap<String, String>,
    idle_after: Option<Option<Duration>>,
    restart_max: Option<u32>,
    restart_window: Option<Duration>,
}

impl Fields {
    fn check(&self, reader: &mut Reader<'_>, section: &str, adapter: ConfiguredAdapter) {
        match adapter {
            ConfiguredAdapter::LlamaCpp => {
                if self.model.is_none() {
                    reader.missing(
                        section,
                        "model",
                        "a llama_cpp runtime serves one imported model; see `arw model list`",
                    );
                }
            }
            ConfiguredAdapter::Process => {
                if self.program.is_none() {
                    reader.missing(section, "program", "a process runtime starts a program");
                }
            }
            ConfiguredAdapter::OpenAi => {
                if self.base_url.is_none() {
                    reader.missing(
                        section,
                        "base_url",
                        "an openai runtime is a server elsewhere; give its address",
                    );
                }
                if self.program.is_some() {
                    let why = "an openai runtime is not started by the node; remove it, or use adapter = \"process\"";
                    reader.conflict(&format!("{section}.program"), why.to_owned());
                }
            }
        }
        if adapter != ConfiguredAdapter::OpenAi && self.base_url.is_some() {
            let why = "only adapter = \"openai\" takes an address; remove it".to_owned();
            reader.conflict(&format!("{section}.base_url"), why);
        }
        for folder in self.allow_read.iter().filter(|folder| !PathBuf::from(folder).is_absolute()) {
            let why = format!(
                "`{folder}` is not absolute; write the whole path, so that it cannot depend on where `arw` starts"
            );
            reader.conflict(&format!("{section}.allow_read"), why);
        }
    }

    fn into_runtime(self, id: RuntimeId, adapter: ConfiguredAdapter) -> ConfiguredRuntime {
        let restart =
            (self.restart_max.is_some() || self.restart_window.is_some()).then(|| RestartSettings {
                max: self.restart_max.unwrap_or(RESTART.max),
                window: self.restart_window.unwrap_or(RESTART.window),
            });
        ConfiguredRuntime {
            id,
            adapter,
            model: self.model,
            profile: self.profile,
            auto_start: self.auto_start,
            program: self.program.map(PathBuf::from),
            args: self.args,
            base_url: self.base_url,
            api_key_env: self.api_key_env,
            allow_read: self.allow_read.into_iter().map(PathBuf::from).collect(),
            env: self.env,
            idle_after: self.idle_after,
            restart,
        }
    }
}

impl Reader<'_> {
    /// A key that the entry `section` lacks.
    fn missing(&mut self, section: &str, name: &str, why: &str) {
        let origin = self.origin(section);
        let key = if section.is_empty() { name.to_owned() } else { format!("{section}.{name}") };
        self.refuse(ConfigError::Missing { key, origin, why: why.to_owned() });
    }
}
