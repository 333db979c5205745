//! What an operator says about a runtime.
//!
//! Owns the words that the API, the configuration file and the state folder share, and their checks. Refuses
//! to start anything.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use serde::de::{self, Unexpected, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::ids::RuntimeId;

/// How ARW talks to a runtime's program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Adapter {
    /// llama.cpp's server, or a program with its endpoints: `/health`, `/v1/*`.
    LlamaCpp,
    /// Any program. It is ready once it runs; with `{socket}` or `{port}` it may serve `/v1/*` too.
    Process,
    /// A server that somebody else runs: its health is watched, its life is not ours.
    Openai,
}

impl Adapter {
    /// The word in JSON and on the command line.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::LlamaCpp => "llama_cpp",
            Self::Process => "process",
            Self::Openai => "openai",
        }
    }
}

/// One runtime, as an operator describes it. `POST /runtimes`, `[[runtimes]]` and the state folder have these
/// fields.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RuntimeSpec {
    /// Its name.
    pub id: RuntimeId,
    /// How ARW talks to it.
    pub adapter: Adapter,
    /// The model that it serves: a name in the model store; for `openai` the name that the other server
    /// knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// A word for people; shown, not interpreted.
    #[serde(default = "default_profile")]
    pub profile: String,
    /// Start it with the node. Otherwise it starts on the first request.
    #[serde(default)]
    pub auto_start: bool,
    /// The program: a path, or a name in `PATH`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub program: Option<PathBuf>,
    /// Its arguments, with `{model}`, `{port}`, `{socket}` and `{secret}`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<String>,
    /// For `openai`: where the server is, for example `http://127.0.0.1:9000/v1`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base_url: Option<String>,
    /// For `openai`: the environment variable of the node that holds the key, [`API_KEY_PREFIX`] and more.
    /// The key itself is never stored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_key_env: Option<String>,
    /// Folders or files that the program may read besides its own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allow_read: Vec<PathBuf>,
    /// Folders or files that the program may read and execute besides its own: what a start script leads to.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allow_exec: Vec<PathBuf>,
    /// The program may connect to Unix sockets; otherwise it can only serve one.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub allow_unix_connect: bool,
    /// Environment for the program.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// Unload after so many seconds without a request, or never; absent: the node's setting.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle_after_s: Option<IdleAfter>,
    /// Its restart budget; absent: the node's setting.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restart: Option<RestartSpec>,
}

/// When a runtime that nobody asks is unloaded. In JSON a number of seconds, or `"off"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IdleAfter {
    /// After so many seconds.
    Seconds(u64),
    /// Never.
    Off,
}

impl IdleAfter {
    /// From a span, in whole seconds, at least one; `None`: never.
    #[must_use]
    pub fn from_span(span: Option<Duration>) -> Self {
        span.map_or(Self::Off, |span| Self::Seconds(span.as_secs().max(1)))
    }

    /// The span; `None`: never.
    #[must_use]
    pub fn span(self) -> Option<Duration> {
        match self {
            Self::Seconds(seconds) => Some(Duration::from_secs(seconds)),
            Self::Off => None,
        }
    }
}

impl Serialize for IdleAfter {
    fn serialize<S: Serializer>(&self, output: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Seconds(seconds) => output.serialize_u64(*seconds),
            Self::Off => output.serialize_str(OFF),
        }
    }
}

impl<'de> Deserialize<'de> for IdleAfter {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        struct SecondsOrOff;
        impl Visitor<'_> for SecondsOrOff {
            type Value = IdleAfter;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "a whole number of seconds, or \"{OFF}\"")
            }

            fn visit_u64<E>(self, seconds: u64) -> Result<IdleAfter, E> {
                Ok(IdleAfter::Seconds(seconds))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<IdleAfter, E> {
                if text == OFF {
                    Ok(IdleAfter::Off)
                } else {
                    Err(E::invalid_value(Unexpected::Str(text), &self))
                }
            }
        }
        input.deserialize_any(SecondsOrOff)
    }
}

/// The word for never, here and in the configuration.
const OFF: &str = "off";

/// At most `max` restarts within `window_s` seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "the type says it")]
pub struct RestartSpec {
    pub max: u32,
    pub window_s: u64,
}

fn default_profile() -> String {
    "default".to_owned()
}

/// A runtime's description does not hold together.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadRuntimeSpec {
    /// A managed runtime needs a program.
    #[error(
        "adapter `{0}` needs a program: name it after `--`, for example `-- llama-server -m {{model}} --host {{socket}}`"
    )]
    ProgramMissing(&'static str),
    /// llama.cpp serves HTTP, and ARW must know where.
    #[error(
        "adapter `llama_cpp` needs `{{socket}}` or `{{port}}` in the program's arguments, to know where it serves"
    )]
    NoAddress,
    /// llama.cpp needs a model.
    #[error(
        "adapter `llama_cpp` needs a model: import one with `arw model import FILE`, then name it with `--model`"
    )]
    ModelMissing,
    /// An external server needs an address.
    #[error("adapter `openai` needs `base_url`, for example http://127.0.0.1:9000/v1")]
    BaseUrlMissing,
    /// The address is not usable.
    #[error("`{url}` is not a usable base URL: {why}")]
    BadBaseUrl {
        /// As given.
        url: String,
        /// Why not.
        why: &'static str,
    },
    /// The adapter has no use for this field.
    #[error("adapter `{adapter}` has no use for `{field}`: leave it out")]
    Superfluous {
        /// The adapter.
        adapter: &'static str,
        /// The field.
        field: &'static str,
    },
    /// The node's environment holds other secrets, and whoever names the variable also names where its value
    /// is sent.
    #[error(
        "`api_key_env` may only name a variable that begins with {API_KEY_PREFIX} (capital letters, digits and _), not `{0}`: start the node with the key in a variable of such a name"
    )]
    BadKeyName(String),
    /// Zero is not a span.
    #[error("`{0}` must be at least 1")]
    Zero(&'static str),
    /// More than is allowed.
    #[error("`{field}` is {value}: at most {max} is allowed")]
    TooMuch {
        /// The field.
        field: &'static str,
        /// As given; of a list, how long it is.
        value: u64,
        /// The most.
        max: u64,
    },
}

/// The longest restart window: budgets are rebuilt from the journal of so long, which keeps its events at
/// least as long as that by default.
pub const RESTART_WINDOW_MAX: Duration = Duration::from_secs(24 * 3600);
/// Arguments that a program may have; the kernel's own limit is far above.
pub const ARGS_MAX: usize = 1024;

/// Variables of the node's environment that hold keys for other servers begin with this; no other is ever
/// sent anywhere.
pub const API_KEY_PREFIX: &str = "ARW_KEY_";

/// Whether a runtime may have the value of this variable of the node's environment sent to its server.
pub(super) fn is_key_name(name: &str) -> bool {
    let rest = name.strip_prefix(API_KEY_PREFIX).unwrap_or_default();
    let is_plain = |b: u8| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_';
    !rest.is_empty() && rest.bytes().all(is_plain)
}

impl RuntimeSpec {
    /// Checks what can be checked without looking at the machine.
    ///
    /// # Errors
    /// See [`BadRuntimeSpec`].
    pub fn check(&self) -> Result<(), BadRuntimeSpec> {
        let adapter = self.adapter.word();
        if self.restart.is_some_and(|restart| restart.window_s == 0) {
            return Err(BadRuntimeSpec::Zero("restart.window_s"));
        }
        let window_s = self.restart.map_or(0, |restart| restart.window_s);
        at_most("restart.window_s", window_s, RESTART_WINDOW_MAX.as_secs())?;
        at_most("args", self.args.len() as u64, ARGS_MAX as u64)?;
        if self.idle_after_s == Some(IdleAfter::Seconds(0)) {
            return Err(BadRuntimeSpec::Zero("idle_after_s"));
        }
        if let Some(name) = self.api_key_env.as_deref().filter(|name| !is_key_name(name)) {
            return Err(BadRuntimeSpec::BadKeyName(name.to_owned()));
        }
        if self.adapter == Adapter::Openai {
            if self.program.is_some() {
                return Err(BadRuntimeSpec::Superfluous { adapter, field: "program" });
            }
            let url = self.base_url.as_deref().ok_or(BadRuntimeSpec::BaseUrlMissing)?;
            return check_base_url(url);
        }
        if self.program.is_none() {
            return Err(BadRuntimeSpec::ProgramMissing(adapter));
        }
        if self.base_url.is_some() {
            return Err(BadRuntimeSpec::Superfluous { adapter, field: "base_url" });
        }
        if self.adapter == Adapter::LlamaCpp {
            if self.model.is_none() {
                return Err(BadRuntimeSpec::ModelMissing);
            }
            if !self.serves_http() {
                return Err(BadRuntimeSpec::NoAddress);
            }
        }
        Ok(())
    }

    /// It has an address to send requests to.
    #[must_use]
    pub fn serves_http(&self) -> bool {
        self.adapter == Adapter::Openai
            || self.args.iter().any(|arg| arg.contains("{socket}") || arg.contains("{port}"))
    }

    /// ARW starts and ends its program.
    #[must_use]
    pub fn is_managed(&self) -> bool {
        self.adapter != Adapter::Openai
    }

    /// After how long without a request it is unloaded, where the node's setting is `default`; `None`: never.
    #[must_use]
    pub fn idle_after(&self, default: Option<Duration>) -> Option<Duration> {
        // What somebody else runs is not ours to unload.
        let span = self.idle_after_s.map_or(default, IdleAfter::span);
        span.filter(|_| self.is_managed())
    }
}

fn at_most(field: &'static str, value: u64, max: u64) -> Result<(), BadRuntimeSpec> {
    if value > max { Err(BadRuntimeSpec::TooMuch { field, value, max }) } else { Ok(()) }
}

fn check_base_url(url: &str) -> Result<(), BadRuntimeSpec> {
    let bad = |why| Err(BadRuntimeSpec::BadBaseUrl { url: url.to_owned(), why });
    let Ok(uri) = url.parse::<http::Uri>() else { return bad("it is not a URL") };
    match uri.scheme_str() {
        Some("http") if uri.authority().is_none_or(|host| host.as_str().contains('@')) => {
            bad("name a host, and no user")
        }
        Some("http") if uri.query().is_some() => bad("a base URL has no query"),
        Some("http") => Ok(()),
        Some("https") => bad("https is not supported yet: put a local proxy in front of it"),
        Some(_) | None => bad("it must begin with http://"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(json: &serde_json::Value) -> RuntimeSpec {
        let mut whole = serde_json::json!({"id": "x", "adapter": "process", "program": "/bin/true"});
        whole.as_object_mut().unwrap().extend(json.as_object().unwrap().clone());
        serde_json::from_value(whole).unwrap()
    }

    #[test]
    fn a_restart_window_is_at_most_a_day_however_it_is_given() {
        let window =
            |window_s: u64| spec(&serde_json::json!({"restart": {"max": 1, "window_s": window_s}})).check();
        assert_eq!((window(1), window(86_400)), (Ok(()), Ok(())));
        assert!(matches!(window(0), Err(BadRuntimeSpec::Zero("restart.window_s"))));
        for too_long in [86_401, u64::MAX] {
            let told = window(too_long).unwrap_err().to_string();
            assert_eq!(told, format!("`restart.window_s` is {too_long}: at most 86400 is allowed"));
        }
    }

    #[test]
    fn a_program_has_a_bounded_number_of_arguments() {
        let args = |count: usize| spec(&serde_json::json!({"args": vec!["a"; count]})).check();
        assert_eq!(args(ARGS_MAX), Ok(()));
        assert_eq!(args(ARGS_MAX + 1).unwrap_err().to_string(), "`args` is 1025: at most 1024 is allowed");
    }

    #[test]
    fn only_variables_that_hold_keys_by_their_name_are_ever_sent() {
        let key_in = |name: &str| {
            let json = serde_json::json!({"id": "a", "adapter": "openai", "base_url": "http://h/v1", "api_key_env": name});
            serde_json::from_value::<RuntimeSpec>(json).unwrap().check()
        };
        assert_eq!(key_in("ARW_KEY_NORTH_2"), Ok(()));
        for name in [
            "HOME",
            "ARW_TOKEN",
            "AWS_SECRET_ACCESS_KEY",
            "ARW_KEY_",
            "",
            "arw_key_x",
            "ARW_KEY_A=B",
            "ARW_KEY_a",
            " ARW_KEY_A",
        ] {
            assert_eq!(key_in(name), Err(BadRuntimeSpec::BadKeyName(name.to_owned())), "{name}");
        }
    }
}
