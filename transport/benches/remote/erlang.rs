//! Erlang's distribution between two nodes, where Erlang is there.
//!
//! Owns finding it, compiling `remote_peer.erl` and starting the two nodes. Refuses to install anything.
//! Neither needs `epmd`, which would outlive them: the server's port is given to both.

use std::ffi::OsString;
use std::fs;
use std::hash::{BuildHasher as _, RandomState};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use crate::peer::Peer;

const SOURCE: &str = include_str!("erlang/remote_peer.erl");
const SERVER: &str = "server@127.0.0.1";

/// Two nodes. What is measured is asked of the client.
pub(crate) struct Erlang {
    client: Peer,
    _server: Peer,
    _folder: tempfile::TempDir,
}

impl Erlang {
    /// `ARW_ERL`, else `erl` in `PATH`. Or why not.
    pub(crate) fn start() -> Result<Self, String> {
        let program = std::env::var_os("ARW_ERL").unwrap_or_else(|| "erl".into());
        let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
        prepare(&program, folder.path())?;
        let port = free_port().map_err(|error| format!("no port: {error}"))?;
        let node = |name: &str| node(&program, folder.path(), name, port);
        let server = Peer::start(node(SERVER).args(["-run", "remote_peer", "server"]))?;
        let mut client = node("client@127.0.0.1");
        client.args(["-dist_listen", "false", "-run", "remote_peer", "client", SERVER]);
        Ok(Self { client: Peer::start(&mut client)?, _server: server, _folder: folder })
    }

    /// One round of one test: its figures, in the order of the others'.
    pub(crate) fn measure(&mut self, test: &str, count: usize) -> Result<Vec<f64>, String> {
        self.client.measure(test, count)
    }
}

/// Compiles the module, and writes a cookie that only this user can read.
fn prepare(program: &OsString, folder: &Path) -> Result<(), String> {
    let io = |error: std::io::Error| error.to_string();
    fs::write(folder.join("remote_peer.erl"), SOURCE).map_err(io)?;
    // Each hasher has random keys.
    let cookie = folder.join(".erlang.cookie");
    fs::write(&cookie, format!("{:016x}", RandomState::new().hash_one(0))).map_err(io)?;
    fs::set_permissions(&cookie, fs::Permissions::from_mode(0o400)).map_err(io)?;
    let compile = "case compile:file(remote_peer, [report]) of {ok, _} -> halt(0); _ -> halt(1) end.";
    let output = Command::new(program)
        .args(["-noshell", "-eval", compile])
        .current_dir(folder)
        .output()
        .map_err(|error| format!("{}: {error} (ARW_ERL names it)", program.display()))?;
    if output.status.success() {
        return Ok(());
    }
    let said =
        String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
    Err(format!("erl: {}: {}", output.status, said.trim()))
}

fn node(program: &OsString, folder: &Path, name: &str, port: u16) -> Command {
    let mut command = Command::new(program);
    // One scheduler, as the others have one thread, that sleeps when it has nothing to do: on a core that
    // both nodes share, spinning is in the other's way.
    command.args(["+S", "1:1", "+sbwt", "none", "+sbwtdcpu", "none", "+sbwtdio", "none", "-noshell"]);
    command.args(["-name", name, "-start_epmd", "false", "-erl_epmd_port", &port.to_string()]);
    command.args(["-kernel", "inet_dist_use_interface", "{127,0,0,1}"]);
    command.current_dir(folder).env("HOME", folder);
    command
}

/// Another may take it before the node does; then the node says so and is skipped.
fn free_port() -> std::io::Result<u16> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}
