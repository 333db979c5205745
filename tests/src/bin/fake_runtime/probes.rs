//! What the fake engine does before it serves: tries things in the sandbox, starts other processes, wastes
//! memory.
//!
//! Owns one line of output per try: `probe read /etc/shadow: Permission denied (os error 13)`. Refuses to
//! judge what came of it.

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::net::{TcpStream, ToSocketAddrs as _, UdpSocket};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use crate::options::{Options, Probe};

pub(crate) fn run(options: &Options) -> Result<(), String> {
    if let Some(model) = &options.model {
        open_model(model)?;
    }
    for probe in &options.probes {
        try_out(probe);
    }
    if options.alloc_mb > 0 {
        // Kept until the process ends, and written to, so that the kernel has to give the memory.
        std::mem::forget(vec![1_u8; options.alloc_mb * 1024 * 1024]);
    }
    let started = [(options.child, "sleep"), (options.daemonize, "daemonize")];
    for leaf in started.iter().filter(|(wanted, _)| *wanted).map(|(_, leaf)| leaf) {
        start_leaf(leaf).map_err(|error| format!("error: no process: {error}"))?;
    }
    for _ in 0..options.orphans {
        start_leaf("orphan").map_err(|error| format!("error: no process: {error}"))?;
    }
    if options.close_output {
        close_output().map_err(|error| format!("error: output not closed: {error}"))?;
    }
    if options.spam_logs {
        std::thread::spawn(spam);
    }
    Ok(())
}

/// llama-server's words.
fn open_model(model: &Path) -> Result<(), String> {
    let shown = model.display();
    let reason = |error: &io::Error| match error.kind() {
        io::ErrorKind::NotFound => "No such file or directory".to_owned(),
        io::ErrorKind::PermissionDenied => "Permission denied".to_owned(),
        _ => error.to_string(),
    };
    let mut magic = Vec::new();
    let file = fs::File::open(model);
    let file = file
        .map_err(|e| format!("gguf_init_from_file: failed to open GGUF file '{shown}' ({})", reason(&e)))?;
    let read = file.take(4).read_to_end(&mut magic);
    if read.is_err() || magic.len() < 4 {
        return Err("gguf_init_from_file_impl: failed to read magic".into());
    }
    if magic != b"GGUF" {
        let shown = String::from_utf8_lossy(&magic);
        return Err(format!(
            "gguf_init_from_file_impl: invalid magic characters: '{shown}', expected 'GGUF'"
        ));
    }
    Ok(())
}

fn try_out(probe: &Probe) {
    match probe {
        Probe::PrintEnv => {
            for (name, value) in std::env::vars() {
                println!("env {name}={value}");
            }
        }
        Probe::Read(path) => {
            tell("read", path.display(), fs::read(path).map(|bytes| format!("{} bytes", bytes.len())));
        }
        Probe::Write(path) => tell("write", path.display(), fs::write(path, "x").map(|()| "written".into())),
        Probe::List(path) => {
            tell(
                "list",
                path.display(),
                fs::read_dir(path).map(|entries| format!("{} entries", entries.count())),
            );
        }
        Probe::Execute(path) => {
            let run =
                Command::new(path).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
            tell("execute", path.display(), run.map(|status| status.to_string()));
        }
        Probe::Connect(address) => tell("connect", address, connect(address)),
        Probe::ChangeMode(path) => {
            let changed = fs::set_permissions(path, fs::Permissions::from_mode(0o666));
            tell("change-mode", path.display(), changed.map(|()| "changed".into()));
        }
        Probe::ConnectUnix(path) => {
            tell("connect-unix", path.display(), UnixStream::connect(path).map(|_| "connected".into()));
        }
        Probe::SendUnix(path) => {
            let sent = UnixDatagram::unbound().and_then(|socket| socket.send_to(b"x", path));
            tell("send-unix", path.display(), sent.map(|_| "sent".into()));
        }
        Probe::BindUdp => {
            tell("bind-udp", "127.0.0.1", UdpSocket::bind("127.0.0.1:0").map(|_| "bound".into()));
        }
        Probe::SignalPid(pid) => {
            let target =
                rustix::process::Pid::from_raw((*pid).max(1)).ok_or(io::ErrorKind::InvalidInput.into());
            let sent = target.and_then(|pid| Ok(rustix::process::test_kill_process(pid)?));
            tell("signal", pid, sent.map(|()| "allowed".into()));
        }
    }
}

fn connect(address: &str) -> io::Result<String> {
    let target = address.to_socket_addrs()?.next().ok_or(io::ErrorKind::InvalidInput)?;
    TcpStream::connect_timeout(&target, Duration::from_secs(2)).map(|_| "connected".into())
}

fn tell(what: &str, object: impl std::fmt::Display, result: io::Result<String>) {
    match result {
        Ok(text) => println!("probe {what} {object}: ok, {text}"),
        Err(error) => println!("probe {what} {object}: {error}"),
    }
}

/// Starts this program again as something that outlives its parent.
fn start_leaf(leaf: &str) -> io::Result<()> {
    let mut child =
        Command::new(std::env::current_exe()?).args(["--leaf", leaf]).stdin(Stdio::null()).spawn()?;
    if leaf != "sleep" {
        child.wait()?;
    }
    Ok(())
}

pub(crate) fn be_leaf(leaf: &str) -> ExitCode {
    let result = match leaf {
        "sleep" => sleep_for_ever(),
        // As daemons do: a session of its own, and then a child whose parent is gone.
        "daemonize" => {
            rustix::process::setsid().map_err(io::Error::from).and_then(|_| spawn_and_leave("sleep"))
        }
        "orphan" => spawn_and_leave("nothing"),
        _ => Ok(()),
    };
    if let Err(error) = result {
        eprintln!("leaf {leaf}: {error}");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

fn spawn_and_leave(leaf: &str) -> io::Result<()> {
    Command::new(std::env::current_exe()?).args(["--leaf", leaf]).stdin(Stdio::null()).spawn().map(drop)
}

fn sleep_for_ever() -> io::Result<()> {
    // The number by which processes outside of the namespace know this one.
    let pid = fs::read_link("/proc/self")?;
    println!("leaf pid {}", pid.display());
    loop {
        std::thread::sleep(Duration::from_secs(3600));
    }
}

fn close_output() -> io::Result<()> {
    // Replacing is closing: this process holds the pipe no longer.
    let nothing = fs::OpenOptions::new().write(true).open("/dev/null")?;
    rustix::stdio::dup2_stdout(&nothing)?;
    rustix::stdio::dup2_stderr(&nothing)?;
    Ok(())
}

fn spam() {
    let line = "spam and eggs, and more spam than anyone could ever read in a whole life of reading logs\n"
        .repeat(700);
    let mut out = io::stdout();
    while out.write_all(line.as_bytes()).is_ok() {}
}
