//! Runtimes, as `/runtimes` takes and shows them.

use std::collections::BTreeMap;
use std::sync::Arc;

use arw_actors::ids::RuntimeId;
use arw_actors::moment::WallTime;
use arw_actors::runtime::launcher::SandboxReport;
use arw_actors::runtime::lease::UsageTotals;
use arw_actors::runtime::log::{LogLine, LogStream};
use arw_actors::runtime::machine::RuntimeState;
use arw_actors::runtime::row;
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
    /// For `openai`: the environment variable of the node that holds the key; its name begins with
    /// `ARW_KEY_`.
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
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct RuntimeRow {
    #[schema(value_type = String)]
    id: RuntimeId,
    #[schema(value_type = AdapterWord)]
    adapter: &'static str,
    model: Option<String>,
    profile: String,
    state: RuntimeStateWord,
    /// `ok`, `info`, `warning` or `error`.
    severity: &'static str,
    /// Why it is as it is.
    reason: Option<String>,
    /// What to do about it.
    hint: Option<String>,
    pid: Option<u32>,
    port: Option<u16>,
    socket: Option<String>,
    #[schema(value_type = String)]
    since: WallTime,
    /// When it is tried again by itself.
    #[schema(value_type = Option<String>)]
    retry_at: Option<WallTime>,
    auto_start: bool,
    /// Its own, else the node's.
    #[schema(value_type = IdleAfterShape)]
    idle_after_s: IdleAfter,
    health: HealthRow,
    restart_budget: BudgetRow,
    last_exit: Option<LastExitRow>,
    queue: QueueRow,
    in_flight: u32,
    usage: UsageRow,
    memory: MemoryRow,
    context_length: Option<u64>,
    accelerator: &'static str,
    sandbox: Option<SandboxRow>,
}

/// Where a runtime is in its life.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum RuntimeStateWord {
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
#[derive(Debug, Serialize, ToSchema)]
struct HealthRow {
    startup: StartupRow,
    liveness: ProbeRow,
    work: ProbeRow,
}

/// The probe of a start.
#[derive(Debug, Serialize, ToSchema)]
struct StartupRow {
    status: &'static str,
    #[schema(value_type = Option<String>)]
    at: Option<WallTime>,
    took_ms: Option<u64>,
}

/// A probe that repeats.
#[derive(Debug, Serialize, ToSchema)]
struct ProbeRow {
    status: &'static str,
    #[schema(value_type = Option<String>)]
    at: Option<WallTime>,
    latency_ms: Option<u64>,
    failures: u32,
}

/// How much of the restart budget is left.
#[derive(Debug, Serialize, ToSchema)]
struct BudgetRow {
    window_s: u64,
    max: u32,
    used: u32,
    remaining: u32,
    #[schema(value_type = Option<String>)]
    resets_at: Option<WallTime>,
}

/// How it last ended.
#[derive(Debug, Serialize, ToSchema)]
struct LastExitRow {
    reason: &'static str,
    detail: String,
    #[schema(value_type = String)]
    at: WallTime,
}

/// Requests that wait for it.
#[derive(Debug, Serialize, ToSchema)]
struct QueueRow {
    waiting: usize,
    max: usize,
}

/// What its requests used since the node started.
#[derive(Debug, Serialize, ToSchema)]
struct UsageRow {
    requests: u64,
    prompt_tokens: u64,
    completion_tokens: u64,
    cached_tokens: u64,
}

/// What it needs and holds.
#[derive(Debug, Serialize, ToSchema)]
struct MemoryRow {
    needed_bytes: Option<u64>,
    resident_bytes: Option<u64>,
}

/// What its sandbox enforces on this machine.
#[derive(Debug, Serialize, ToSchema)]
struct SandboxRow {
    landlock_abi: Option<u32>,
    seccomp: bool,
    capabilities_dropped: bool,
    /// `unix_socket_only`, `bind_one_port` or `unrestricted`.
    network: &'static str,
    /// To which Unix sockets it may connect: `denied` (none), `own_folder` or `unrestricted`.
    unix_connect: &'static str,
    /// What could not be enforced, and what seems otherwise from inside, in words.
    notes: Vec<String>,
}

impl From<row::RuntimeRow> for RuntimeRow {
    fn from(it: row::RuntimeRow) -> Self {
        let row::HealthRow { startup, liveness, work } = it.health;
        let row::StartupRow { status, at, took_ms } = startup;
        let row::BudgetRow { window_s, max, used, remaining, resets_at } = it.restart_budget;
        let UsageTotals { requests, prompt_tokens, completion_tokens, cached_tokens } = it.usage;
        let row::MemoryRow { needed_bytes, resident_bytes } = it.memory;
        Self {
            id: it.id,
            adapter: it.adapter,
            model: it.model,
            profile: it.profile,
            state: it.state.into(),
            severity: it.severity,
            reason: it.reason,
            hint: it.hint,
            pid: it.pid,
            port: it.port,
            socket: it.socket,
            since: it.since,
            retry_at: it.retry_at,
            auto_start: it.auto_start,
            idle_after_s: it.idle_after_s,
            health: HealthRow {
                startup: StartupRow { status, at, took_ms },
                liveness: liveness.into(),
                work: work.into(),
            },
            restart_budget: BudgetRow { window_s, max, used, remaining, resets_at },
            last_exit: it.last_exit.map(|row::LastExitRow { reason, detail, at }| LastExitRow {
                reason,
                detail,
                at,
            }),
            queue: QueueRow { waiting: it.queue.waiting, max: it.queue.max },
            in_flight: it.in_flight,
            usage: UsageRow { requests, prompt_tokens, completion_tokens, cached_tokens },
            memory: MemoryRow { needed_bytes, resident_bytes },
            context_length: it.context_length,
            accelerator: it.accelerator,
            sandbox: it.sandbox.map(SandboxRow::from),
        }
    }
}

impl From<RuntimeState> for RuntimeStateWord {
    fn from(state: RuntimeState) -> Self {
        match state {
            RuntimeState::Stopped => Self::Stopped,
            RuntimeState::Starting => Self::Starting,
            RuntimeState::Warming => Self::Warming,
            RuntimeState::Ready => Self::Ready,
            RuntimeState::Degraded => Self::Degraded,
            RuntimeState::Draining => Self::Draining,
            RuntimeState::Backoff => Self::Backoff,
            RuntimeState::Quarantined => Self::Quarantined,
            RuntimeState::Failed => Self::Failed,
        }
    }
}

impl From<row::ProbeRow> for ProbeRow {
    fn from(row::ProbeRow { status, at, latency_ms, failures }: row::ProbeRow) -> Self {
        Self { status, at, latency_ms, failures }
    }
}

impl From<SandboxReport> for SandboxRow {
    fn from(report: SandboxReport) -> Self {
        let SandboxReport { landlock_abi, seccomp, capabilities_dropped, network, unix_connect, notes } =
            report;
        Self { landlock_abi, seccomp, capabilities_dropped, network, unix_connect, notes }
    }
}
