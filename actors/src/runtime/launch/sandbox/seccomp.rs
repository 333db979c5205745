//! Forbids the system calls that a model server never needs and that Landlock does not cover.
//!
//! A deny-list on purpose: engines, Python and GPU drivers use most of the rest, and files, TCP and other processes are
//! Landlock's. A forbidden call fails with EPERM, so that a program can say what it wanted.

use std::collections::BTreeMap;

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    TargetArch,
};

use super::Network;

type Rules = BTreeMap<i64, Vec<SeccompRule>>;

pub(super) fn apply(network: Network) -> Result<(), String> {
    let arch = TargetArch::try_from(std::env::consts::ARCH)
        .map_err(|_| "not known for this processor".to_owned())?;
    for program in programs(network, arch).map_err(|error| error.to_string())? {
        seccompiler::apply_filter(&program).map_err(|error| error.to_string())?;
    }
    Ok(())
}

/// The filters, in the order they are installed. The strictest answer wins, so their order does not matter to the program.
fn programs(network: Network, arch: TargetArch) -> Result<Vec<BpfProgram>, seccompiler::Error> {
    let compile = |rules: Rules, errno: i32| -> Result<BpfProgram, seccompiler::Error> {
        #[expect(clippy::cast_sign_loss, reason = "error numbers are positive")]
        let denied = SeccompAction::Errno(errno as u32);
        Ok(SeccompFilter::new(rules, SeccompAction::Allow, denied, arch)?.try_into()?)
    };
    // clone3 hides its flags from filters; told that it does not exist, the C library uses clone.
    let hidden: Rules = BTreeMap::from([(libc::SYS_clone3, Vec::new())]);
    let mut forbidden = compile(denied(network)?, libc::EPERM)?;
    if cfg!(target_arch = "x86_64") {
        forbidden.splice(0..0, x32_guard());
    }
    Ok(vec![compile(hidden, libc::ENOSYS)?, forbidden])
}

fn denied(network: Network) -> Result<Rules, seccompiler::Error> {
    let mut rules: Rules = NEVER.iter().map(|call| (*call, Vec::new())).collect();
    #[cfg(target_arch = "x86_64")]
    rules.extend([libc::SYS_iopl, libc::SYS_ioperm, libc::SYS_uselib].map(|call| (call, Vec::new())));
    rules.insert(libc::SYS_socket, sockets(network)?);
    // A new user namespace would give capabilities back inside it and opens much of the kernel.
    let namespaces = [libc::CLONE_NEWUSER, libc::CLONE_NEWNS, libc::CLONE_NEWNET, libc::CLONE_NEWPID];
    let clone = namespaces.map(|flag| rule(vec![has_bit(0, flag.unsigned_abs())?]));
    rules.insert(libc::SYS_clone, clone.into_iter().collect::<Result<_, _>>()?);
    // TCP Fast Open connects inside a send call, past Landlock's check of connect.
    let fast_open = libc::MSG_FASTOPEN.unsigned_abs();
    for (call, argument) in [(libc::SYS_sendto, 3), (libc::SYS_sendmsg, 2), (libc::SYS_sendmmsg, 3)] {
        rules.insert(call, vec![rule(vec![has_bit(argument, fast_open)?])?]);
    }
    // Typing into the terminal that started the node.
    let terminal =
        [libc::TIOCSTI, libc::TIOCLINUX].map(|request| rule(vec![low(1, SeccompCmpOp::Eq, request)?]));
    rules.insert(libc::SYS_ioctl, terminal.into_iter().collect::<Result<_, _>>()?);
    Ok(rules)
}

/// Which sockets cannot be made: a rule matches when all its conditions hold.
fn sockets(network: Network) -> Result<Vec<SeccompRule>, seccompiler::Error> {
    const FAMILY: u8 = 0;
    const KIND: u8 = 1;
    const PROTOCOL: u8 = 2;
    // The rest of the second argument is flags (SOCK_CLOEXEC, SOCK_NONBLOCK).
    const KIND_MASK: u64 = 0xf;
    let [unix, inet, inet6, netlink] = [libc::AF_UNIX, libc::AF_INET, libc::AF_INET6, libc::AF_NETLINK]
        .map(|family| u64::from(family.unsigned_abs()));
    let not = |family| low(FAMILY, SeccompCmpOp::Ne, family);
    if network == Network::UnixOnly {
        return Ok(vec![rule(vec![not(unix)?])?]);
    }
    let is = |family| low(FAMILY, SeccompCmpOp::Eq, family);
    let mut rules = vec![rule(vec![not(unix)?, not(inet)?, not(inet6)?, not(netlink)?])?];
    for family in [inet, inet6] {
        // Everything but a stream, and of the streams everything but TCP: MPTCP and SCTP slip past Landlock's TCP rules.
        for kind in (0..=KIND_MASK).filter(|kind| *kind != u64::from(libc::SOCK_STREAM.unsigned_abs())) {
            rules.push(rule(vec![is(family)?, low(KIND, SeccompCmpOp::MaskedEq(KIND_MASK), kind)?])?);
        }
        let tcp = u64::from(libc::IPPROTO_TCP.unsigned_abs());
        rules.push(rule(vec![
            is(family)?,
            low(PROTOCOL, SeccompCmpOp::Ne, 0)?,
            low(PROTOCOL, SeccompCmpOp::Ne, tcp)?,
        ])?);
    }
    // Of netlink only the list of addresses (protocol 0), which resolving `localhost` asks for.
    rules.push(rule(vec![is(netlink)?, low(PROTOCOL, SeccompCmpOp::Ne, 0)?])?);
    Ok(rules)
}

fn rule(conditions: Vec<SeccompCondition>) -> Result<SeccompRule, seccompiler::Error> {
    Ok(SeccompRule::new(conditions)?)
}

/// Compares the low 32 bits, which are all that the kernel looks at for these arguments.
fn low(argument: u8, operator: SeccompCmpOp, value: u64) -> Result<SeccompCondition, seccompiler::Error> {
    Ok(SeccompCondition::new(argument, SeccompCmpArgLen::Dword, operator, value)?)
}

fn has_bit(argument: u8, bit: u32) -> Result<SeccompCondition, seccompiler::Error> {
    low(argument, SeccompCmpOp::MaskedEq(u64::from(bit)), u64::from(bit))
}

/// Denies the x32 variants of all calls: they have numbers of their own, which the other rules would miss.
fn x32_guard() -> [seccompiler::sock_filter; 3] {
    const LOAD_NUMBER: u16 = 0x20;
    const JUMP_IF_AT_LEAST: u16 = 0x35;
    const RETURN: u16 = 0x06;
    const X32_BIT: u32 = 0x4000_0000;
    const RETURN_ERRNO: u32 = 0x0005_0000;
    let instruction = |code, jt, jf, k| seccompiler::sock_filter { code, jt, jf, k };
    [
        instruction(LOAD_NUMBER, 0, 0, 0),
        instruction(JUMP_IF_AT_LEAST, 0, 1, X32_BIT),
        instruction(RETURN, 0, 0, RETURN_ERRNO | libc::EPERM.unsigned_abs()),
    ]
}

/// Calls that are refused whatever their arguments.
const NEVER: &[i64] = &[
    // Looking into, and writing into, other processes.
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_pidfd_getfd,
    libc::SYS_kcmp,
    libc::SYS_perf_event_open,
    // Does file and network operations out of sight of this filter.
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    // Parts of the kernel with a long record of faults.
    libc::SYS_bpf,
    libc::SYS_userfaultfd,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_keyctl,
    // Mounts and namespaces.
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_move_mount,
    libc::SYS_open_tree,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_mount_setattr,
    libc::SYS_unshare,
    libc::SYS_setns,
    libc::SYS_open_by_handle_at,
    // The machine itself.
    libc::SYS_kexec_load,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_reboot,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_acct,
    libc::SYS_quotactl,
    libc::SYS_syslog,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
];

#[cfg(test)]
mod tests {
    use super::*;

    fn arch() -> TargetArch {
        TargetArch::try_from(std::env::consts::ARCH).unwrap()
    }

    #[test]
    fn the_filters_compile_for_both_kinds_of_network() {
        for network in [Network::UnixOnly, Network::BindOnePort(4000)] {
            let programs = programs(network, arch()).unwrap();
            assert_eq!(programs.len(), 2);
            // The kernel takes at most 4,096 instructions.
            assert!(
                programs.iter().all(|p| p.len() < 1024),
                "{:?}",
                programs.iter().map(Vec::len).collect::<Vec<_>>()
            );
        }
    }

    #[test]
    fn a_thread_in_the_filter_keeps_unix_sockets_and_loses_the_rest() {
        // A filter holds for the thread that asked for it.
        let seen = std::thread::spawn(|| {
            apply(Network::UnixOnly).unwrap();
            let unix = std::os::unix::net::UnixStream::pair().is_ok();
            let tcp = std::net::TcpListener::bind("127.0.0.1:0").map_err(|e| e.kind());
            let udp = std::net::UdpSocket::bind("127.0.0.1:0").map_err(|e| e.kind());
            (unix, tcp.err(), udp.err())
        });
        let denied = Some(std::io::ErrorKind::PermissionDenied);
        assert_eq!(seen.join().unwrap(), (true, denied, denied));
    }

    #[test]
    fn one_port_means_tcp_and_no_datagrams() {
        let seen = std::thread::spawn(|| {
            apply(Network::BindOnePort(0)).unwrap();
            let tcp = std::net::TcpListener::bind("127.0.0.1:0").is_ok();
            let tcp6 =
                rustix::net::socket(rustix::net::AddressFamily::INET6, rustix::net::SocketType::STREAM, None);
            let udp = std::net::UdpSocket::bind("127.0.0.1:0").map_err(|e| e.kind());
            let mptcp = rustix::net::socket(
                rustix::net::AddressFamily::INET,
                rustix::net::SocketType::STREAM,
                Some(rustix::net::ipproto::MPTCP),
            );
            let names = std::net::ToSocketAddrs::to_socket_addrs(&("localhost", 1)).is_ok();
            (tcp, tcp6.err() == Some(rustix::io::Errno::PERM), udp.err(), mptcp.err(), names)
        });
        let (tcp, tcp6_denied, udp, mptcp, names) = seen.join().unwrap();
        assert!(tcp && !tcp6_denied && names);
        assert_eq!(udp, Some(std::io::ErrorKind::PermissionDenied));
        assert_eq!(mptcp, Some(rustix::io::Errno::PERM));
    }

    #[test]
    fn threads_still_start_inside() {
        let started = std::thread::spawn(|| {
            apply(Network::UnixOnly).unwrap();
            std::thread::spawn(|| 7).join().unwrap()
        });
        assert_eq!(started.join().unwrap(), 7);
    }
}
