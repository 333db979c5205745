//! Checks of the ports that the node listens on, for clients and for other nodes: free, ours, or taken by
//! whom.

use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::path::Path;

use super::Check;
use crate::client::discovery::read_node_file;
use crate::client::http::process_runs;

const NAME: &str = "port";

pub(super) fn check(http: SocketAddr, state_dir: &Path) -> Check {
    let Err(error) = TcpListener::bind(http) else { return Check::ok(NAME, format!("{http} is free")) };
    if error.kind() != std::io::ErrorKind::AddrInUse {
        let help = "choose another address: --http ADDR, or gateway.http in the settings";
        return Check::broken(NAME, format!("{http} cannot be used: {error}"), help);
    }
    let own = read_node_file(state_dir).ok().flatten().filter(|file| process_runs(file.pid));
    if let Some(node) = own.filter(|file| file.http.trim_start_matches("http://") == http.to_string()) {
        return Check::ok(
            NAME,
            format!("{http} is used by the node of this state folder (pid {})", node.pid),
        );
    }
    let by = described(holder(http, &TCP));
    let help = "stop it, or let the node listen elsewhere: --http ADDR, or gateway.http in the settings";
    Check::broken(NAME, format!("{http} is taken by {by}"), help)
}

/// Whether clients on other machines send their tokens in clear.
pub(super) fn unencrypted(http: SocketAddr) -> Option<Check> {
    arw_gateway::unencrypted(http).map(|it| Check::warning("encryption", it.found, it.help))
}

/// The port for other nodes: needed from the moment on at which the node is in a cluster.
pub(super) fn for_nodes(listen: SocketAddr, state_dir: &Path, is_member: bool) -> Check {
    const NAME: &str = "UDP port";
    let help = "stop it, or let the node use another one for other nodes: --cluster-listen ADDR, or cluster.listen in the settings";
    let error = match UdpSocket::bind(listen) {
        Ok(_) if is_member => {
            return Check::ok(
                NAME,
                format!("{listen} is free; other machines must reach it through any firewall"),
            );
        }
        Ok(_) => {
            return Check::ok(NAME, format!("{listen} is free; it is used once this node is in a cluster"));
        }
        Err(error) => error,
    };
    if error.kind() != std::io::ErrorKind::AddrInUse {
        return Check::broken(NAME, format!("{listen} cannot be used: {error}"), help);
    }
    let own = read_node_file(state_dir).ok().flatten().filter(|file| process_runs(file.pid));
    let holder = holder(listen, &UDP);
    if own.is_some()
        && (holder.is_none() || holder.as_ref().map(|(pid, _)| *pid) == own.as_ref().map(|file| file.pid))
    {
        return Check::ok(
            NAME,
            format!(
                "{listen} is used by the node of this state folder; other machines must reach it through any firewall"
            ),
        );
    }
    let found = format!("{listen} is taken by {}", described(holder));
    if is_member { Check::broken(NAME, found, help) } else { Check::warning(NAME, found, help) }
}

/// The kernel's tables of one kind of sockets.
struct Sockets {
    tables: [&'static str; 2],
    /// How it writes that a socket takes what comes to its port.
    open: &'static str,
}

const TCP: Sockets = Sockets { tables: ["/proc/net/tcp", "/proc/net/tcp6"], open: "0A" };
const UDP: Sockets = Sockets { tables: ["/proc/net/udp", "/proc/net/udp6"], open: "07" };

fn described(holder: Option<(u32, String)>) -> String {
    holder.map_or_else(
        || "another program (which one cannot be seen)".to_owned(),
        |(pid, name)| format!("pid {pid} ({name})"),
    )
}

/// `4242` and `llama-server`, where this user may see it.
fn holder(address: SocketAddr, sockets: &Sockets) -> Option<(u32, String)> {
    let tables = sockets.tables.iter().filter_map(|table| std::fs::read_to_string(table).ok());
    let inode = tables.into_iter().find_map(|table| open_inode(&table, address, sockets.open))?;
    let wanted = format!("socket:[{inode}]");
    let processes = std::fs::read_dir("/proc").ok()?;
    processes.flatten().find_map(|process| {
        let pid: u32 = process.file_name().to_str()?.parse().ok()?;
        let files = std::fs::read_dir(process.path().join("fd")).ok()?;
        let holds = |file: std::fs::DirEntry| {
            std::fs::read_link(file.path()).is_ok_and(|to| to.to_str() == Some(&wanted))
        };
        if !files.flatten().any(holds) {
            return None;
        }
        let name = std::fs::read_to_string(process.path().join("comm")).unwrap_or_default();
        Some((pid, name.trim().to_owned()))
    })
}

/// The inode of the socket that is open on a port, out of the kernel's table. A socket on all addresses takes
/// the port too.
fn open_inode(table: &str, wanted: SocketAddr, open: &str) -> Option<u64> {
    table.lines().skip(1).find_map(|line| {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        let (address, port) = fields.get(1)?.split_once(':')?;
        let same_port = u16::from_str_radix(port, 16).ok()? == wanted.port();
        let any = address.bytes().all(|byte| byte == b'0');
        let same_address = any || wanted.ip().is_unspecified() || kernel_form(wanted.ip()) == address;
        (*fields.get(3)? == open && same_port && same_address).then(|| fields.get(9)?.parse().ok())?
    })
}

/// The kernel prints addresses as 32-bit words in the machine's own byte order.
fn kernel_form(ip: IpAddr) -> String {
    let octets = match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    };
    octets
        .chunks_exact(4)
        .map(|word| format!("{:08X}", u32::from_ne_bytes([word[0], word[1], word[2], word[3]])))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;

    #[test]
    fn the_kernels_table_names_the_socket() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
            0: 0100007F:1F9B 00000000:0000 01 00000000:00000000 00:00000000 00000000     0        0 1 1 0 100 0 0 10 0\n\
            1: 0100007F:1F9B 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 777 1 0 100 0 0 10 0\n";
        if cfg!(target_endian = "little") {
            assert_eq!(open_inode(table, "127.0.0.1:8091".parse().unwrap(), TCP.open), Some(777));
        }
        assert_eq!(open_inode(table, "127.0.0.1:8092".parse().unwrap(), TCP.open), None);
        assert_eq!(open_inode(table, "0.0.0.0:8091".parse().unwrap(), TCP.open), Some(777));
        assert_eq!(open_inode("nonsense\n\n1 2", "127.0.0.1:1".parse().unwrap(), TCP.open), None);
    }

    /// HTTP-1.
    #[test]
    fn an_address_that_other_machines_reach_is_a_warning_and_this_machines_own_is_none() {
        for open in ["0.0.0.0:8091", "192.0.2.7:8091", "[::]:8091", "[2001:db8::7]:1"] {
            let found = unencrypted(open.parse().unwrap()).unwrap();
            assert_eq!(found.verdict, Verdict::Warning);
            assert!(found.found.starts_with(open) && found.found.contains("unencrypted"), "{}", found.found);
            assert!(found.help.contains("TLS"), "{}", found.help);
        }
        for own in ["127.0.0.1:8091", "127.9.9.9:1", "[::1]:8091"] {
            assert_eq!(unencrypted(own.parse().unwrap()), None, "{own}");
        }
    }

    #[test]
    fn a_port_for_other_nodes_is_needed_by_a_member_only() {
        let dir = tempfile::tempdir().unwrap();
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let listen = socket.local_addr().unwrap();
        assert_eq!(for_nodes(listen, dir.path(), false).verdict, Verdict::Warning);
        let taken = for_nodes(listen, dir.path(), true);
        assert_eq!(taken.verdict, Verdict::Broken);
        if cfg!(target_os = "linux") {
            assert!(taken.found.contains(&format!("pid {}", std::process::id())), "{}", taken.found);
        }
        let own = format!(r#"{{"pid":{},"http":"http://127.0.0.1:1"}}"#, std::process::id());
        std::fs::write(dir.path().join("node.json"), own).unwrap();
        assert_eq!(for_nodes(listen, dir.path(), true).verdict, Verdict::Ok);
        drop(socket);
        assert_eq!(for_nodes(listen, dir.path(), true).verdict, Verdict::Ok);
        assert_eq!(for_nodes("203.0.113.7:1".parse().unwrap(), dir.path(), true).verdict, Verdict::Broken);
    }

    #[test]
    fn a_free_port_is_well_and_a_taken_one_names_its_holder() {
        let dir = tempfile::tempdir().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let http = listener.local_addr().unwrap();
        let check_taken = check(http, dir.path());
        assert_eq!(check_taken.verdict, Verdict::Broken);
        if cfg!(target_os = "linux") {
            assert!(
                check_taken.found.contains(&format!("pid {}", std::process::id())),
                "{}",
                check_taken.found
            );
        }
        let own = format!(r#"{{"pid":{},"http":"http://{http}"}}"#, std::process::id());
        std::fs::write(dir.path().join("node.json"), own).unwrap();
        assert_eq!(check(http, dir.path()).verdict, Verdict::Ok);
    }
}
