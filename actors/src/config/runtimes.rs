//! `[[runtimes]]`: runtimes that a configuration names.
//!
//! Owns the reading of such a section into a [`RuntimeSpec`]. What a spec must have is the spec's own
//! business ([`RuntimeSpec::check`]); only what a file can get wrong on top is checked here.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::error::ConfigError;
use super::reader::Reader;
use super::{DAY, SECOND};
use crate::ids::RuntimeId;
use crate::runtime::settings::RestartSettings;
use crate::runtime::spec::{Adapter, IdleAfter, RestartSpec, RuntimeSpec};

/// `restart` is what `[runtime]` says, for a section that gives half a budget.
pub(super) fn read_all(reader: &mut Reader<'_>, restart: RestartSettings) -> Vec<RuntimeSpec> {
    let count = reader.count("runtimes");
    let mut seen = BTreeSet::new();
    let mut runtimes = Vec::with_capacity(count);
    for index in 0..count {
        let section = format!("runtimes[{index}]");
        let Some(runtime) = read_one(reader, &section, restart) else { continue };
        if !seen.insert(runtime.id.clone()) {
            let why = format!("a runtime named {} exists already; give each its own id", runtime.id);
            reader.conflict(&format!("{section}.id"), why);
        }
        runtimes.push(runtime);
    }
    runtimes
}

pub(super) fn read_one(
    reader: &mut Reader<'_>,
    section: &str,
    restart: RestartSettings,
) -> Option<RuntimeSpec> {
    let key = |name: &str| format!("{section}.{name}");
    let id = read_id(reader, section);
    let adapter = read_adapter(reader, section);
    let model = reader.text(&key("model"));
    let profile = reader.text_or(&key("profile"), "default");
    let auto_start = reader.boolean(&key("auto_start"), false);
    let program = reader.text(&key("program")).map(PathBuf::from);
    let args = reader.texts(&key("args"));
    let base_url = reader.text(&key("base_url"));
    let api_key_env = reader.text(&key("api_key_env"));
    let allow_read = read_paths(reader, &key("allow_read"));
    let allow_exec = read_paths(reader, &key("allow_exec"));
    let allow_unix_connect = reader.boolean(&key("allow_unix_connect"), false);
    let env = reader.map(&key("env"));
    let idle_after = reader.optional_duration_or_off(&key("idle_after"), SECOND..=365 * DAY);
    let max = reader.optional_small(&key("restart.max"));
    let window = reader.optional_duration(&key("restart.window"), SECOND..=DAY);

    let spec = RuntimeSpec {
        id: id?,
        adapter: adapter?,
        model,
        profile,
        auto_start,
        program,
        args,
        base_url,
        api_key_env,
        allow_read,
        allow_exec,
        allow_unix_connect,
        env,
        idle_after_s: idle_after.map(IdleAfter::from_span),
        restart: (max.is_some() || window.is_some()).then(|| RestartSpec {
            max: max.unwrap_or(restart.max),
            window_s: window.unwrap_or(restart.window).as_secs(),
        }),
    };
    if let Err(error) = spec.check() {
        reader.conflict(section, error.to_string());
    }
    Some(spec)
}

/// Paths that are open to the program besides its own.
fn read_paths(reader: &mut Reader<'_>, key: &str) -> Vec<PathBuf> {
    let paths = reader.texts(key);
    for path in paths.iter().filter(|path| !Path::new(path).is_absolute()) {
        let why = format!(
            "`{path}` is not absolute; write the whole path, so that it cannot depend on where `arw` starts"
        );
        reader.conflict(key, why);
    }
    paths.into_iter().map(PathBuf::from).collect()
}

fn read_id(reader: &mut Reader<'_>, section: &str) -> Option<RuntimeId> {
    let key = format!("{section}.id");
    let Some(text) = reader.text(&key) else {
        reader.missing(section, &key, "every runtime needs a name");
        return None;
    };
    let id = text.parse::<RuntimeId>();
    id.map_err(|error| reader.conflict(&key, error.to_string())).ok()
}

fn read_adapter(reader: &mut Reader<'_>, section: &str) -> Option<Adapter> {
    let key = format!("{section}.adapter");
    let choices =
        [Adapter::LlamaCpp, Adapter::Process, Adapter::Openai].map(|adapter| (adapter.word(), adapter));
    let adapter = reader.optional_choice(&key, &choices);
    if adapter.is_none() && !reader.has(&key) {
        reader.missing(section, &key, "say how it is spoken to: llama_cpp, process or openai");
    }
    adapter
}

impl Reader<'_> {
    /// A key that the entry `section` lacks.
    fn missing(&mut self, section: &str, key: &str, why: &str) {
        let origin = self.origin(section);
        self.refuse(ConfigError::Missing { key: key.to_owned(), origin, why: why.to_owned() });
    }
}
