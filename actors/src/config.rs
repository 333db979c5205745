//! A node's settings, typed and validated.
//!
//! Owns [`NodeConfig`]: which settings exist, what they default to and why, and what goes together. Those of
//! the runtimes are composed from [`crate::runtime::settings`]. Refuses to know where settings are read from:
//! the `arw` program turns files, environment and flags into [`Layer`]s.

mod error;
mod layer;
mod reader;
mod runtimes;
mod units;
mod unknown;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

pub use error::{ConfigError, ConfigErrors};
pub use layer::{Entry, Layer, Origin, Value};
pub use reader::Explained;
use reader::Reader;
pub use units::{BadDuration, BadSize, format_duration, format_size, parse_duration, parse_size};
pub use unknown::nearest;

use crate::runtime::settings::{self, BackoffSettings, RestartSettings, RuntimeSettings};
use crate::runtime::spec::RuntimeSpec;

/// Every setting of a node, checked.
///
/// ```
/// use arw_actors::config::{NodeConfig, MachineDefaults};
/// let machine = MachineDefaults { state_dir: "/var/lib/arw".into(), name: "workstation".to_owned() };
/// let settings = NodeConfig::from_layers(&[], &machine).unwrap();
/// assert_eq!(settings.config.gateway.http.port(), 8091);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeConfig {
    /// `[node]`
    pub node: NodeSettings,
    /// `[gateway]`
    pub gateway: GatewaySettings,
    /// `[cluster]`
    pub cluster: ClusterSettings,
    /// `[store]`
    pub store: StoreSettings,
    /// `[runtime]`: what holds for every runtime that does not say otherwise.
    pub runtime: RuntimeSettings,
    /// `[[runtimes]]`: runtimes that exist from the start.
    pub runtimes: Vec<RuntimeSpec>,
    /// `[log]`
    pub log: LogSettings,
}

/// `[node]`: who this node is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeSettings {
    /// Shown to people. Defaults to the machine's host name.
    pub name: String,
    /// Everything the node keeps. Defaults to the platform's data folder.
    pub state_dir: PathBuf,
}

/// `[gateway]`: the HTTP server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GatewaySettings {
    /// Where it listens.
    pub http: SocketAddr,
    /// Names besides loopback that `Host` may carry.
    pub allowed_hosts: Vec<String>,
    /// Reading state needs a token too. Required where `http` is not a loopback address.
    pub require_token_for_reads: bool,
    /// How long a request waits for a runtime that is loading or restarting.
    pub wait_for_runtime: Duration,
    /// How long an engine may send nothing while it answers.
    pub answer_idle_timeout: Duration,
    /// The largest request body, in bytes.
    pub body_max_bytes: u64,
    /// The largest request head, in bytes.
    pub header_max_bytes: u64,
    /// How long a client may take to send its request head, from its first byte on.
    pub header_read_timeout: Duration,
    /// How long a connection stays open without a request.
    pub idle_timeout: Duration,
    /// How long a client may take to send its request body.
    pub body_read_timeout: Duration,
    /// How many connections are open at once.
    pub connections_max: u64,
    /// How many event streams are open at once.
    pub event_streams_max: u64,
}

/// `[cluster]`: how other nodes reach this one. A node that is in no cluster opens none of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClusterSettings {
    /// Where it listens for other nodes (UDP), once it is in a cluster.
    pub listen: SocketAddr,
    /// What other nodes shall dial; `None` for what the machine itself finds out.
    pub advertise: Option<SocketAddr>,
}

/// `[store]`: what is kept, and for how long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreSettings {
    /// Journal rows older than this are removed.
    pub journal_max_age: Duration,
    /// The journal keeps at most this many rows.
    pub journal_max_rows: u64,
}

/// `[log]`: what the node writes about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogSettings {
    /// The least severe message that is written.
    pub level: LogLevel,
    /// For people or for programs.
    pub format: LogFormat,
}

/// How severe a log message must be to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogLevel {
    /// A person must act.
    Error,
    /// Healed or degraded.
    Warn,
    /// Life cycle.
    Info,
    /// Decisions.
    Debug,
    /// Messages.
    Trace,
}

/// How log messages are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// One line of text each.
    Text,
    /// One JSON object each.
    Json,
}

/// Defaults that depend on the machine, found by the caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MachineDefaults {
    /// The platform's data folder for this program.
    pub state_dir: PathBuf,
    /// The host name.
    pub name: String,
}

/// Settings in force and where each came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The settings.
    pub config: NodeConfig,
    /// One row per key, in the order of the sections.
    pub explained: Vec<Explained>,
}

/// Loopback: nothing outside the machine reaches a node that nobody configured. 8091 is free of well-known
/// services.
pub const HTTP: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8091);
/// Long enough for a model of tens of gigabytes to load from a slow disk, short enough for a client not to
/// give up first.
pub const WAIT_FOR_RUNTIME: Duration = Duration::from_secs(120);
/// A long answer in one piece of a large model on a slow machine takes minutes; a server that hangs shall not
/// hold a request for ever.
pub const ANSWER_IDLE_TIMEOUT: Duration = Duration::from_secs(30 * 60);
/// The gateway's number again, over UDP: one number to remember. All addresses, because a cluster is other
/// machines; who has no token is refused.
pub const CLUSTER_LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 8091);
/// A chat with a few images, with room to spare; refuses accidents.
pub const BODY_MAX_BYTES: u64 = 8 << 20;
/// What common proxies allow.
pub const HEADER_MAX_BYTES: u64 = 16 << 10;
/// A client on a bad network sends a request head in a second; slower ones hold connections on purpose.
pub const HEADER_READ_TIMEOUT: Duration = Duration::from_secs(10);
/// Longer than clients and proxies keep a connection (Go 90 s, nginx 75 s): who closes first cannot be met by
/// a request under way.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(120);
/// 8 MiB in 30 s is a slow mobile link.
pub const BODY_READ_TIMEOUT: Duration = Duration::from_secs(30);
/// Ordinary machines allow 1,024 open files without being asked.
pub const CONNECTIONS_MAX: u64 = 1024;
/// Each costs about 20 KiB and a write per change.
pub const EVENT_STREAMS_MAX: u64 = 256;
/// A month: long enough to look up what happened on holiday.
pub const JOURNAL_MAX_AGE: Duration = Duration::from_secs(30 * 24 * 3600);
/// At about 300 bytes a row the journal stays near 150 MB.
pub const JOURNAL_MAX_ROWS: u64 = 500_000;
/// Messages about the life cycle, and worse.
pub const LOG: LogSettings = LogSettings { level: LogLevel::Info, format: LogFormat::Text };

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);

impl NodeConfig {
    /// Puts layers over the defaults (later layers win, key by key), converts and checks.
    ///
    /// # Errors
    /// Everything that is wrong, not only the first thing: unknown keys with the nearest known name, wrong
    /// types with what is expected, settings that do not go together.
    pub fn from_layers(layers: &[Layer], machine: &MachineDefaults) -> Result<Settings, ConfigErrors> {
        let mut reader = Reader::new(layers);
        let config = Self::read(&mut reader, machine);
        reader.finish().map(|explained| Settings { config, explained })
    }

    /// Every key that can be set outside a list of sections: `gateway.http`, `log.level`, …
    #[must_use]
    pub fn keys() -> Vec<String> {
        let mut reader = Reader::new(&[]);
        Self::read(&mut reader, &MachineDefaults { state_dir: PathBuf::new(), name: String::new() });
        reader.known()
    }

    /// Every key that one `[[runtimes]]` section can have: `id`, `restart.max`, … (`env` takes any name).
    #[must_use]
    pub fn runtime_keys() -> Vec<String> {
        let mut reader = Reader::new(&[]);
        runtimes::read_one(&mut reader, "", settings::RESTART);
        reader.known().into_iter().map(|key| key.trim_start_matches('.').to_owned()).collect()
    }

    fn read(reader: &mut Reader<'_>, machine: &MachineDefaults) -> Self {
        let node = NodeSettings {
            name: reader.text_or("node.name", &machine.name),
            state_dir: reader.text_or("node.state_dir", &machine.state_dir.to_string_lossy()).into(),
        };
        let gateway = GatewaySettings::read(reader);
        let cluster = ClusterSettings::read(reader);
        let store = StoreSettings::read(reader);
        let runtime = RuntimeSettings::read(reader);
        let log = LogSettings::read(reader);
        let runtimes = runtimes::read_all(reader, runtime.restart);
        let config = Self { node, gateway, cluster, store, runtime, runtimes, log };
        config.check(reader);
        config
    }

    fn check(&self, reader: &mut Reader<'_>) {
        let gateway = &self.gateway;
        // HTTP-1: an open server on the network is how other people's machines were taken over.
        if !gateway.http.ip().is_loopback() && !gateway.require_token_for_reads {
            let why = format!(
                "{} can be reached from other machines; set gateway.require_token_for_reads = true, or listen on 127.0.0.1",
                gateway.http
            );
            reader.conflict("gateway.http", why);
        }
        if self.cluster.advertise.is_some_and(|address| address.ip().is_unspecified() || address.port() == 0)
        {
            let why = "is no address that another machine can dial; write it like 192.0.2.7:8091".to_owned();
            reader.conflict("cluster.advertise", why);
        }
        if self.runtime.backoff.initial > self.runtime.backoff.max {
            let why = "is longer than runtime.backoff.max; make it shorter".to_owned();
            reader.conflict("runtime.backoff.initial", why);
        }
    }
}

impl GatewaySettings {
    fn read(reader: &mut Reader<'_>) -> Self {
        Self {
            http: reader.address("gateway.http", HTTP),
            allowed_hosts: reader.texts("gateway.allowed_hosts"),
            require_token_for_reads: reader.boolean("gateway.require_token_for_reads", false),
            wait_for_runtime: reader.duration(
                "gateway.wait_for_runtime",
                WAIT_FOR_RUNTIME,
                Duration::ZERO..=HOUR,
            ),
            answer_idle_timeout: reader.duration(
                "gateway.answer_idle_timeout",
                ANSWER_IDLE_TIMEOUT,
                SECOND..=DAY,
            ),
            body_max_bytes: reader.size("gateway.body_max_bytes", BODY_MAX_BYTES, 1 << 10..=1 << 30),
            header_max_bytes: reader.size("gateway.header_max_bytes", HEADER_MAX_BYTES, 8 << 10..=1 << 20),
            header_read_timeout: reader.duration(
                "gateway.header_read_timeout",
                HEADER_READ_TIMEOUT,
                SECOND..=MINUTE,
            ),
            idle_timeout: reader.duration("gateway.idle_timeout", IDLE_TIMEOUT, SECOND..=HOUR),
            body_read_timeout: reader.duration("gateway.body_read_timeout", BODY_READ_TIMEOUT, SECOND..=HOUR),
            connections_max: reader.integer("gateway.connections_max", CONNECTIONS_MAX, 16..=65_536),
            event_streams_max: reader.integer("gateway.event_streams_max", EVENT_STREAMS_MAX, 1..=65_536),
        }
    }
}

impl ClusterSettings {
    fn read(reader: &mut Reader<'_>) -> Self {
        Self {
            listen: reader.address("cluster.listen", CLUSTER_LISTEN),
            advertise: reader.optional_address("cluster.advertise"),
        }
    }
}

impl StoreSettings {
    fn read(reader: &mut Reader<'_>) -> Self {
        Self {
            journal_max_age: reader.duration("store.journal_max_age", JOURNAL_MAX_AGE, HOUR..=3650 * DAY),
            journal_max_rows: reader.integer("store.journal_max_rows", JOURNAL_MAX_ROWS, 1_000..=100_000_000),
        }
    }
}

impl RuntimeSettings {
    fn read(reader: &mut Reader<'_>) -> Self {
        Self {
            idle_after: reader.duration_or_off(
                "runtime.idle_after",
                settings::IDLE_AFTER,
                SECOND..=365 * DAY,
            ),
            restart: RestartSettings {
                max: reader.small("runtime.restart.max", settings::RESTART.max),
                window: reader.duration("runtime.restart.window", settings::RESTART.window, SECOND..=DAY),
            },
            backoff: BackoffSettings {
                initial: reader.duration(
                    "runtime.backoff.initial",
                    settings::BACKOFF.initial,
                    Duration::from_millis(1)..=HOUR,
                ),
                max: reader.duration(
                    "runtime.backoff.max",
                    settings::BACKOFF.max,
                    Duration::from_millis(1)..=HOUR,
                ),
            },
            quarantine_retry_after: reader.duration(
                "runtime.quarantine_retry_after",
                settings::QUARANTINE_RETRY_AFTER,
                SECOND..=DAY,
            ),
            start_timeout: reader.duration("runtime.start_timeout", settings::START_TIMEOUT, SECOND..=DAY),
            stop_grace: reader.duration("runtime.stop_grace", settings::STOP_GRACE, Duration::ZERO..=HOUR),
            queue_max: reader.integer("runtime.queue_max", settings::QUEUE_MAX, 1..=65_536),
            memory_headroom_bytes: reader.size(
                "runtime.memory_headroom_bytes",
                settings::MEMORY_HEADROOM_BYTES,
                0..=1 << 40,
            ),
        }
    }
}

impl LogSettings {
    fn read(reader: &mut Reader<'_>) -> Self {
        let levels = [
            ("error", LogLevel::Error),
            ("warn", LogLevel::Warn),
            ("info", LogLevel::Info),
            ("debug", LogLevel::Debug),
            ("trace", LogLevel::Trace),
        ];
        Self {
            level: reader.choice("log.level", LOG.level, &levels),
            format: reader.choice(
                "log.format",
                LOG.format,
                &[("text", LogFormat::Text), ("json", LogFormat::Json)],
            ),
        }
    }
}

#[cfg(test)]
mod tests;
