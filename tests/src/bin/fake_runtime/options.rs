//! The command line of the fake engine.
//!
//! Owns the flags. Refuses to act on them.

use std::path::PathBuf;

pub(crate) const HELP: &str = "\
fake_runtime: a model server without a model

  --host HOST|PATH.sock  --port N        where to serve (neither: serve nothing, just live)
  --model FILE                           is opened, and must begin with GGUF
  --key-stdin | --api-key-file FILE | --api-key KEY
  --alias NAME                           the model's name in answers (fake)
  --load-ms N                            answer 503 for so long
  --tokens N  --token-delay-ms N         how long answers are, and how slow
  --crash-at-start | --crash-after-ms N | --crash-after-tokens N
  --crash-on TEXT                        crash at a request whose body has this in it
  --crash-on-delay-ms N                  so long after it came, whether its client is there or not
  --exit-code N | --signal N             how it crashes (1)
  --print-line TEXT                      printed before it crashes; may be repeated
  --hang [N]                             after N requests accept and never answer anything
  --stuck                                answer /health while completions hang
  --flaky-health                         every other /health fails
  --ignore-term  --close-output  --spam-logs  --alloc-mb N
  --child  --daemonize  --orphans N      start processes that outlive it
  --print-env  --read-file F  --write-file F  --list-dir D  --execute F  --connect ADDR  --bind-udp  --signal-pid N
  --change-mode F  --connect-unix F  --send-unix F
                                         try, print what came of it, go on
  --as-node STATE_DIR [--no-namespace] -- ARGS…
                                         launch itself with ARGS through the OS launcher, print its pid, live
POST /control {\"hang\":true,…} changes behaviour while it runs; GET /control/status counts.
";

/// What this process is.
#[derive(Debug, Default)]
pub(crate) enum Mode {
    #[default]
    Serve,
    Help,
    AsNode {
        state_dir: PathBuf,
        pid_namespace: bool,
        args: Vec<String>,
    },
    /// A process that the fake engine started.
    Leaf(String),
}

/// One thing to try inside the sandbox.
#[derive(Debug)]
pub(crate) enum Probe {
    PrintEnv,
    Read(PathBuf),
    Write(PathBuf),
    List(PathBuf),
    Execute(PathBuf),
    Connect(String),
    ChangeMode(PathBuf),
    ConnectUnix(PathBuf),
    SendUnix(PathBuf),
    BindUdp,
    SignalPid(i32),
}

#[derive(Debug, Default)]
pub(crate) struct Options {
    pub(crate) mode: Mode,
    pub(crate) host: Option<String>,
    pub(crate) port: Option<u16>,
    pub(crate) model: Option<PathBuf>,
    pub(crate) alias: Option<String>,
    pub(crate) key_stdin: bool,
    pub(crate) api_key_file: Option<PathBuf>,
    pub(crate) api_key: Option<String>,
    pub(crate) load_ms: u64,
    pub(crate) tokens: Option<u32>,
    pub(crate) token_delay_ms: u64,
    pub(crate) crash_at_start: bool,
    pub(crate) crash_after_ms: Option<u64>,
    pub(crate) crash_on: Option<String>,
    pub(crate) crash_on_delay_ms: u64,
    pub(crate) crash_after_tokens: Option<u32>,
    pub(crate) exit_code: Option<i32>,
    pub(crate) signal: Option<i32>,
    pub(crate) print_lines: Vec<String>,
    pub(crate) hang_after: Option<u64>,
    pub(crate) stuck: bool,
    pub(crate) flaky_health: bool,
    pub(crate) ignore_term: bool,
    pub(crate) close_output: bool,
    pub(crate) spam_logs: bool,
    pub(crate) alloc_mb: usize,
    pub(crate) child: bool,
    pub(crate) daemonize: bool,
    pub(crate) orphans: u32,
    pub(crate) probes: Vec<Probe>,
}

impl Options {
    pub(crate) fn parse(args: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut options = Options::default();
        let mut args = args.peekable();
        while let Some(arg) = args.next() {
            let (flag, attached) = match arg.split_once('=') {
                Some((flag, value)) => (flag.to_owned(), Some(value.to_owned())),
                None => (arg.clone(), None),
            };
            if options.set_switch(&flag) {
                continue;
            }
            if flag == "--hang" {
                let next = args.next_if(|next| next.parse::<u64>().is_ok());
                options.hang_after = Some(number(&flag, &attached.or(next).unwrap_or_else(|| "0".into()))?);
                continue;
            }
            if flag == "--as-node" {
                let state_dir = args.next().ok_or("error: --as-node needs a folder")?.into();
                let pid_namespace = args.next_if(|next| next == "--no-namespace").is_none();
                let args = args.skip_while(|arg| arg == "--").collect();
                options.mode = Mode::AsNode { state_dir, pid_namespace, args };
                return Ok(options);
            }
            // llama-server's words, so that the launcher's diagnosis knows them.
            let unknown = || format!("error: invalid argument: {flag}");
            let value = attached.or_else(|| args.next()).ok_or_else(unknown)?;
            if !options.set_value(&flag, value.clone())? && !options.set_probe(&flag, value)? {
                return Err(unknown());
            }
        }
        Ok(options)
    }

    fn set_switch(&mut self, flag: &str) -> bool {
        let switch = match flag {
            "--key-stdin" => &mut self.key_stdin,
            "--crash-at-start" => &mut self.crash_at_start,
            "--stuck" => &mut self.stuck,
            "--flaky-health" => &mut self.flaky_health,
            "--ignore-term" => &mut self.ignore_term,
            "--close-output" => &mut self.close_output,
            "--spam-logs" => &mut self.spam_logs,
            "--child" => &mut self.child,
            "--daemonize" => &mut self.daemonize,
            "--print-env" => {
                self.probes.push(Probe::PrintEnv);
                return true;
            }
            "--bind-udp" => {
                self.probes.push(Probe::BindUdp);
                return true;
            }
            "--help" | "-h" => {
                self.mode = Mode::Help;
                return true;
            }
            _ => return false,
        };
        *switch = true;
        true
    }

    fn set_value(&mut self, flag: &str, value: String) -> Result<bool, String> {
        match flag {
            "--host" => self.host = Some(value),
            "--port" => self.port = Some(number(flag, &value)?),
            "--model" | "-m" => self.model = Some(value.into()),
            "--alias" | "-a" => self.alias = Some(value),
            "--api-key-file" => self.api_key_file = Some(value.into()),
            "--api-key" => self.api_key = Some(value),
            "--load-ms" => self.load_ms = number(flag, &value)?,
            "--tokens" => self.tokens = Some(number(flag, &value)?),
            "--token-delay-ms" => self.token_delay_ms = number(flag, &value)?,
            "--crash-after-ms" => self.crash_after_ms = Some(number(flag, &value)?),
            "--crash-after-tokens" => self.crash_after_tokens = Some(number(flag, &value)?),
            "--crash-on" => self.crash_on = Some(value),
            "--crash-on-delay-ms" => self.crash_on_delay_ms = number(flag, &value)?,
            "--exit-code" => self.exit_code = Some(number(flag, &value)?),
            "--signal" => self.signal = Some(number(flag, &value)?),
            "--print-line" => self.print_lines.push(value),
            "--alloc-mb" => self.alloc_mb = number(flag, &value)?,
            "--orphans" => self.orphans = number(flag, &value)?,
            "--leaf" => self.mode = Mode::Leaf(value),
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn set_probe(&mut self, flag: &str, value: String) -> Result<bool, String> {
        let probe = match flag {
            "--read-file" => Probe::Read(value.into()),
            "--write-file" => Probe::Write(value.into()),
            "--list-dir" => Probe::List(value.into()),
            "--execute" => Probe::Execute(value.into()),
            "--connect" => Probe::Connect(value),
            "--change-mode" => Probe::ChangeMode(value.into()),
            "--connect-unix" => Probe::ConnectUnix(value.into()),
            "--send-unix" => Probe::SendUnix(value.into()),
            "--signal-pid" => Probe::SignalPid(number(flag, &value)?),
            _ => return Ok(false),
        };
        self.probes.push(probe);
        Ok(true)
    }
}

fn number<T: std::str::FromStr>(flag: &str, value: &str) -> Result<T, String> {
    value.parse().map_err(|_| format!("error: invalid argument: {flag} wants a number, not `{value}`"))
}
