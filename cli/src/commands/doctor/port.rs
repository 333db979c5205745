//! Check of the port that the node listens on: free, ours, or taken by whom.

use std::net::{IpAddr, SocketAddr, TcpListener};
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
    let by = holder(http).unwrap_or_else(|| "another program (which one cannot be seen)".to_owned());
    let help = "stop it, or let the node listen elsewhere: --http ADDR, or gateway.http in the settings";
    Check::broken(NAME, format!("{http} is taken by {by}"), help)
}

/// `pid 4242 (llama-server)`, where this user may see it.
fn holder(http: SocketAddr) -> Option<String> {
    let inode = ["/proc/net/tcp", "/proc/net/tcp6"]
        .iter()
        .filter_map(|table| std::fs::read_to_string(table).ok())
        .find_map(|table| listening_inode(&table, http))?;
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
        Some(format!("pid {pid} ({})", name.trim()))
    })
}

/// The inode of the socket that listens on a port, out of the kernel's table. A socket on all addresses takes the port too.
fn listening_inode(table: &str, http: SocketAddr) -> Option<u64> {
    const LISTEN: &str = "0A";
    table.lines().skip(1).find_map(|line| {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        let (address, port) = fields.get(1)?.split_once(':')?;
        let same_port = u16::from_str_radix(port, 16).ok()? == http.port();
        let any = address.bytes().all(|byte| byte == b'0');
        let same_address = any || http.ip().is_unspecified() || kernel_form(http.ip()) == address;
        (*fields.get(3)? == LISTEN && same_port && same_address).then(|| fields.get(9)?.parse().ok())?
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
            assert_eq!(listening_inode(table, "127.0.0.1:8091".parse().unwrap()), Some(777));
        }
        assert_eq!(listening_inode(table, "127.0.0.1:8092".parse().unwrap()), None);
        assert_eq!(listening_inode(table, "0.0.0.0:8091".parse().unwrap()), Some(777));
        assert_eq!(listening_inode("nonsense\n\n1 2", "127.0.0.1:1".parse().unwrap()), None);
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
