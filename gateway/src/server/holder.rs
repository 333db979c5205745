//! Who listens on a port, as far as the system tells.
//!
//! Owns the reading of `/proc`. Never fails: not knowing is an answer.

use std::fmt;
use std::net::SocketAddr;

/// A program that listens on a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// Its process id.
    pub pid: u32,
    /// Its name, as the kernel knows it.
    pub name: String,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "pid {} ({})", self.pid, self.name)
    }
}

/// Finds who listens on the port of `address`. Programs of other users are not found, except by root.
#[cfg(target_os = "linux")]
pub(super) fn find(address: SocketAddr) -> Option<Holder> {
    let tables =
        ["/proc/net/tcp", "/proc/net/tcp6"].map(|path| std::fs::read_to_string(path).unwrap_or_default());
    let sockets: Vec<String> = tables.iter().flat_map(|table| listening(table, address.port())).collect();
    std::fs::read_dir("/proc").ok()?.filter_map(Result::ok).find_map(|process| {
        let pid: u32 = process.file_name().to_str()?.parse().ok()?;
        let files = std::fs::read_dir(process.path().join("fd")).ok()?;
        let holds = files.filter_map(Result::ok).any(|file| {
            let target = std::fs::read_link(file.path()).ok();
            target.is_some_and(|target| sockets.iter().any(|socket| target.as_os_str() == socket.as_str()))
        });
        let name =
            || std::fs::read_to_string(process.path().join("comm")).unwrap_or_default().trim().to_owned();
        holds.then(|| Holder { pid, name: name() })
    })
}

#[cfg(not(target_os = "linux"))]
pub(super) fn find(_: SocketAddr) -> Option<Holder> {
    None
}

/// The sockets (`socket:[123]`) of a table that listen on `port`.
#[cfg(target_os = "linux")]
fn listening(table: &str, port: u16) -> Vec<String> {
    const LISTEN: &str = "0A";
    let inode = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let (_, hex) = fields.get(1)?.rsplit_once(':')?;
        let fits = u16::from_str_radix(hex, 16).ok()? == port && *fields.get(3)? == LISTEN;
        fits.then(|| format!("socket:[{}]", fields.get(9).copied().unwrap_or_default()))
    };
    table.lines().skip(1).filter_map(inode).collect()
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn the_program_that_listens_is_found() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        assert_eq!(find(address).unwrap().pid, std::process::id());
        drop(listener);
        assert_eq!(find(address), None);
    }

    #[test]
    fn only_listening_sockets_of_that_port_count() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
             0: 0100007F:1F9B 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1 0\n\
             1: 0100007F:1F9B 0100007F:0001 01 00000000:00000000 00:00000000 00000000     0        0 4712 1 0\n\
             2: 0100007F:1F9C 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4713 1 0\n\
             broken line\n";
        assert_eq!(listening(table, 8091), ["socket:[4711]"]);
    }
}
