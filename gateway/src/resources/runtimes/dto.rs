//! Runtimes, as `/runtimes` takes and shows them.

use std::collections::BTreeMap;
use std::sync::Arc;

use arw_actors::runtime::log::{LogLine, LogStream};
use arw_actors::runtime::spec::{Adapter, IdleAfter, RestartSpec, RuntimeSpec};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::problem::Problem;

/// How ARW talks to a runtime's program.
#[derive(Clone, Copy, Debug, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum AdapterWord {
    /// llama.cpp's server, or a program with its endpoints.
    LlamaCpp,
    /// Any program.
    Process,
    /// A server that somebody else runs.
    Openai,
}

/// A runtime to be added.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewRuntime {
    /// 1 to 64 of `a-z A-Z 0-9 . _ -`.
    pub(crate) id: String,
    pub(crate) adapter: AdapterWord,
    /// A name in the model store; for `openai` the name that the other server knows.
    pub(crate) model: Option<String>,
    /// A word for people.
    pub(crate) profile: Option<String>,
    /// Start it with the node; otherwise it starts on the first request.
    #[serde(default)]
    pub(crate) auto_start: bool,
    /// A path, or a name in `PATH`.
    pub(crate) program: Option<String>,
    /// With `{model}`, `{port}`, `{socket}` and `{secret}`.
    #[serde(default)]
    pub(crate) args: Vec<String>,
    /// For `openai`: where the server is.
    pub(crate) base_url: Option<String>,
    /// For `openai`: the environment variable of the node that holds the key; its name begins with `ARW_KEY_`.
    pub(crate) api_key_env: Option<String>,
    /// Folders or files that the program may read besides its own.
    #[serde(default)]
    pub(crate) allow_read: Vec<String>,
    /// Folders or files that the program may read and execute besides its own.
    #[serde(default)]
    pub(crate) allow_exec: Vec<String>,
    /// The program may connect to Unix sockets; otherwise it can only serve one.
    #[serde(default)]
    pub(crate) allow_unix_connect: bool,
    /// Environment for the program.
    #[serde(default)]
    pub(crate) env: BTreeMap<String, String>,
    /// Unload after so many seconds without a request, or `off`: never. The node's setting when absent.
    #[schema(value_type = Option<IdleAfterShape>)]
    pub(crate) idle_after_s: Option<IdleAfter>,
    pub(crate) restart: Option<NewRestart>,
}

/// A number of seconds, at least 1, or `off`.
#[derive(Debug, ToSchema)]
#[schema(as = IdleAfter)]
#[serde(untagged)]
#[expect(dead_code, reason = "a shape for OpenAPI")]
pub(crate) enum IdleAfterShape {
    Seconds(u64),
    Off(OffWord),
}

/// Never.
#[derive(Debug, ToSchema)]
#[schema(rename_all = "snake_case")]
#[expect(dead_code, reason = "see IdleAfterShape")]
pub(crate) enum OffWord {
    Off,
}

/// At most `max` restarts within `window_s` seconds.
#[derive(Clone, Copy, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewRestart {
    pub(crate) max: u32,
    pub(crate) window_s: u64,
}

impl NewRuntime {
    /// As the kernel takes it.
    pub(crate) fn into_spec(self) -> Result<RuntimeSpec, Problem> {
        let id = self.id.parse().map_err(|error| {
            Problem::field(
                "id",
                format!("field `id`: {error}"),
                "it becomes part of file names; choose a plain one",
            )
        })?;
        Ok(RuntimeSpec {
            id,
            adapter: match self.adapter {
                AdapterWord::LlamaCpp => Adapter::LlamaCpp,
                AdapterWord::Process => Adapter::Process,
                AdapterWord::Openai => Adapter::Openai,
            },
            model: self.model,
            profile: self.profile.unwrap_or_else(|| "default".to_owned()),
            auto_start: self.auto_start,
            program: self.program.map(Into::into),
            args: self.args,
            base_url: self.base_url,
            api_key_env: self.api_key_env,
            allow_read: self.allow_read.into_iter().map(Into::into).collect(),
            allow_exec: self.allow_exec.into_iter().map(Into::into).collect(),
            allow_unix_connect: self.allow_unix_connect,
            env: self.env,
            idle_after_s: self.idle_after_s,
            restart: self.restart.map(|restart| RestartSpec { max: restart.max, window_s: restart.window_s }),
        })
    }
}

/// A line that a runtime's program printed.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct LogRow {
    /// RFC 3339.
    pub(crate) at: String,
    /// `output` (the program) or `arw`.
    pub(crate) stream: &'static str,
    #[schema(value_type = String)]
    pub(crate) text: Arc<str>,
}

impl From<&LogLine> for LogRow {
    fn from(line: &LogLine) -> Self {
        let stream = match line.stream {
            LogStream::Output => "output",
            LogStream::Arw => "arw",
        };
        Self { at: line.at.to_string(), stream, text: Arc::clone(&line.text) }
    }
}

/// The newest lines, oldest first.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct LogLines {
    pub(crate) lines: Vec<LogRow>,
    /// Lines that were never kept, because the program printed them too fast.
    pub(crate) dropped: u64,
}

/// One runtime, as `/state/runtimes` and the control calls show it.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "a shape for OpenAPI; a test holds it against a real row")]
pub(crate) struct RuntimeRow {
    pub(crate) id: String,
    pub(crate) adapter: AdapterWord,
    pub(crate) model: Option<String>,
    pub(crate) profile: String,
    pub(crate) state: RuntimeStateWord,
    /// `ok`, `info`, `warning` or `error`.
    pub(crate) severity: String,
    /// Why it is as it is.
    pub(crate) reason: Option<String>,
    /// What to do about it.
    pub(crate) hint: Option<String>,
    pub(crate) pid: Option<u32>,
    pub(crate) port: Option<u16>,
    pub(crate) socket: Option<String>,
    pub(crate) since: String,
    /// When it is tried again by itself.
    pub(crate) retry_at: Option<String>,
    pub(crate) auto_start: bool,
    /// Its own, else the node's.
    pub(crate) idle_after_s: IdleAfterShape,
    pub(crate) health: HealthRow,
    pub(crate) restart_budget: BudgetRow,
    pub(crate) last_exit: Option<LastExitRow>,
    pub(crate) queue: QueueRow,
    pub(crate) in_flight: u32,
    pub(crate) usage: UsageRow,
    pub(crate) memory: MemoryRow,
    pub(crate) context_length: Option<u64>,
    pub(crate) accelerator: String,
    pub(crate) sandbox: Option<SandboxRow>,
}

/// Where a runtime is in its life.
#[derive(Clone, Copy, Debug, ToSchema)]
#[schema(rename_all = "snake_case")]
#[expect(dead_code, reason = "a shape for OpenAPI")]
pub(crate) enum RuntimeStateWord {
    Stopped,
    Starting,
    Warming,
    Ready,
    Degraded,
    Draining,
    Backoff,
    Quarantined,
    Failed,
}

/// The three probes. `status` is `unknown`, `pending`, `ok` or `failing`.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "see RuntimeRow")]
pub(crate) struct HealthRow {
    pub(crate) startup: StartupRow,
    pub(crate) liveness: ProbeRow,
    pub(crate) work: ProbeRow,
}

/// The probe of a start.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "see RuntimeRow")]
pub(crate) struct StartupRow {
    pub(crate) status: String,
    pub(crate) at: Option<String>,
    pub(crate) took_ms: Option<u64>,
}

/// A probe that repeats.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "see RuntimeRow")]
pub(crate) struct ProbeRow {
    pub(crate) status: String,
    pub(crate) at: Option<String>,
    pub(crate) latency_ms: Option<u64>,
    pub(crate) failures: u32,
}

/// How much of the restart budget is left.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "see RuntimeRow")]
pub(crate) struct BudgetRow {
    pub(crate) window_s: u64,
    pub(crate) max: u32,
    pub(crate) used: u32,
    pub(crate) remaining: u32,
    pub(crate) resets_at: Option<String>,
}

/// How it last ended.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "see RuntimeRow")]
pub(crate) struct LastExitRow {
    pub(crate) reason: String,
    pub(crate) detail: String,
    pub(crate) at: String,
}

/// Requests that wait for it.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "see RuntimeRow")]
pub(crate) struct QueueRow {
    pub(crate) waiting: usize,
    pub(crate) max: usize,
}

/// What its requests used since the node started.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "see RuntimeRow")]
pub(crate) struct UsageRow {
    pub(crate) requests: u64,
    pub(crate) prompt_tokens: u64,
    pub(crate) completion_tokens: u64,
    pub(crate) cached_tokens: u64,
}

/// What it needs and holds.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "see RuntimeRow")]
pub(crate) struct MemoryRow {
    pub(crate) needed_bytes: Option<u64>,
    pub(crate) resident_bytes: Option<u64>,
}

/// What its sandbox enforces on this machine.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "see RuntimeRow")]
pub(crate) struct SandboxRow {
    pub(crate) landlock_abi: Option<u32>,
    pub(crate) seccomp: bool,
    pub(crate) capabilities_dropped: bool,
    /// `unix_socket_only`, `bind_one_port` or `unrestricted`.
    pub(crate) network: String,
    /// To which Unix sockets it may connect: `denied` (none), `own_folder` or `unrestricted`.
    pub(crate) unix_connect: String,
    /// What could not be enforced, and what seems otherwise from inside, in words.
    pub(crate) notes: Vec<String>,
}
