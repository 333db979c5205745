//! Forbids the system calls that a model server never needs and that Landlock does not cover.
//!
//! A deny-list on purpose: engines, Python and GPU drivers use most of the rest, and files, TCP and other
//! processes are Landlock's. A forbidden call fails with EPERM, so that a program can say what it wanted. A
//! filter sees numbers and not what pointers lead to: a call whose harm depends on a path or an address is
//! forbidden as a whole.
//!
//! Calls that would change mode, times or owner of a file are answered with success, and change nothing. `cp
//! -p`, `touch`, `tar` and Python's `shutil.copy` make them of every file that they write and give up when
//! one fails; hardly a program looks whether it helped. Another owner than the program itself is refused, as
//! it is to everyone who is not root, and extended attributes are not supported.

use std::collections::BTreeMap;

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    TargetArch,
};

use super::{Network, Processes, UnixConnect};

type Rules = BTreeMap<i64, Vec<SeccompRule>>;

pub(super) fn apply(network: Network, unix: UnixConnect, processes: Processes) -> Result<(), String> {
    let arch = TargetArch::try_from(std::env::consts::ARCH)
        .map_err(|_| "not known for this processor".to_owned())?;
    for program in programs(network, unix, processes, arch).map_err(|error| error.to_string())? {
        seccompiler::apply_filter(&program).map_err(|error| error.to_string())?;
    }
    Ok(())
}

/// The filters, in the order they are installed. The strictest answer wins, so their order does not matter to
/// the program.
fn programs(
    network: Network,
    unix: UnixConnect,
    processes: Processes,
    arch: TargetArch,
) -> Result<Vec<BpfProgram>, seccompiler::Error> {
    let compile = |rules: Rules, errno: i32| -> Result<BpfProgram, seccompiler::Error> {
        #[expect(clippy::cast_sign_loss, reason = "error numbers are positive")]
        let denied = SeccompAction::Errno(errno as u32);
        Ok(SeccompFilter::new(rules, SeccompAction::Allow, denied, arch)?.try_into()?)
    };
    // clone3 hides its flags from filters; told that it does not exist, the C library uses clone.
    let hidden: Rules = BTreeMap::from([(libc::SYS_clone3, Vec::new())]);
    let pretended = compile(pretended(processes)?, 0)?;
    let unsupported = XATTRS.iter().map(|call| (*call, Vec::new())).collect();
    let unsupported = compile(unsupported, libc::EOPNOTSUPP)?;
    let mut forbidden = compile(denied(network, unix, processes)?, libc::EPERM)?;
    if cfg!(target_arch = "x86_64") {
        forbidden.splice(0..0, x32_guard());
    }
    Ok(vec![compile(hidden, libc::ENOSYS)?, unsupported, pretended, forbidden])
}

/// What is answered with success and not done. No call with the same arguments may be in [`denied`] too: of
/// two answers that are equally strict the one of the filter that came last holds.
fn pretended(processes: Processes) -> Result<Rules, seccompiler::Error> {
    let mut rules: Rules = MODE_AND_TIMES.iter().map(|call| (*call, Vec::new())).collect();
    for (call, user) in OWNER {
        let [users, groups] = own_ids();
        let pairs = users.into_iter().flat_map(|id| groups.map(|group| (id, group)));
        let kept = pairs.map(|(id, group)| {
            rule(vec![low(*user, SeccompCmpOp::Eq, id)?, low(user + 1, SeccompCmpOp::Eq, group)?])
        });
        rules.insert(*call, kept.collect::<Result<_, _>>()?);
    }
    if processes == Processes::All {
        for call in PLACEMENT {
            rules.insert(*call, vec![rule(vec![low(0, SeccompCmpOp::Ne, 0)?])?]);
        }
    }
    Ok(rules)
}

/// User and group ids that leave a file of this program with its owner: its own, and -1, which means no
/// change.
fn own_ids() -> [[u64; 2]; 2] {
    let ids = [rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw()];
    ids.map(|id| [u64::from(id), u64::from(u32::MAX)])
}

fn denied(network: Network, unix: UnixConnect, processes: Processes) -> Result<Rules, seccompiler::Error> {
    let mut rules: Rules = NEVER.iter().chain(IPC).map(|call| (*call, Vec::new())).collect();
    #[cfg(target_arch = "x86_64")]
    rules.extend(OF_X86_64.iter().map(|call| (*call, Vec::new())));
    if unix == UnixConnect::Denied {
        // An engine only listens. The address lies behind a pointer, so whom it names cannot be asked.
        rules.insert(libc::SYS_connect, Vec::new());
        rules.insert(libc::SYS_socketpair, datagrams()?);
    }
    for (call, user) in OWNER {
        // Everything but what is pretended.
        let others = |argument: u8, [own, unchanged]: [u64; 2]| {
            rule(vec![low(argument, SeccompCmpOp::Ne, own)?, low(argument, SeccompCmpOp::Ne, unchanged)?])
        };
        let [users, groups] = own_ids();
        rules.insert(*call, vec![others(*user, users)?, others(user + 1, groups)?]);
    }
    rules.insert(libc::SYS_socket, sockets(network, unix)?);
    // A new user namespace would give capabilities back inside it and opens much of the kernel.
    let namespaces = [libc::CLONE_NEWUSER, libc::CLONE_NEWNS, libc::CLONE_NEWNET, libc::CLONE_NEWPID];
    let clone = namespaces.map(|flag| rule(vec![has_bit(0, flag.unsigned_abs())?]));
    rules.insert(libc::SYS_clone, clone.into_iter().collect::<Result<_, _>>()?);
    // TCP Fast Open connects inside a send call, past Landlock's check of connect.
    let fast_open = libc::MSG_FASTOPEN.unsigned_abs();
    for (call, argument) in [(libc::SYS_sendto, 3), (libc::SYS_sendmsg, 2), (libc::SYS_sendmmsg, 3)] {
        rules.insert(call, vec![rule(vec![has_bit(argument, fast_open)?])?]);
    }
    let ioctls = TERMINAL_IOCTLS.iter().chain(ATTRIBUTE_IOCTLS);
    let ioctls = ioctls.map(|request| rule(vec![low(1, SeccompCmpOp::Eq, *request)?]));
    let kinds = FILE_SYSTEM_KINDS.iter().map(|kind| {
        let is_kind = low(1, SeccompCmpOp::MaskedEq(0xff00), kind << 8);
        let no_clone = CLONES.map(|request| low(1, SeccompCmpOp::Ne, request));
        rule(std::iter::once(is_kind).chain(no_clone).collect::<Result<_, _>>()?)
    });
    rules.insert(libc::SYS_ioctl, ioctls.chain(kinds).collect::<Result<_, _>>()?);
    // Limits and priorities of the user's other processes; of itself a program may change them.
    let others = |argument| low(argument, SeccompCmpOp::Ne, 0);
    rules.insert(libc::SYS_prlimit64, vec![rule(vec![others(0)?])?]);
    let mut priority = vec![rule(vec![others(0)?])?];
    let mut io_priority = vec![rule(vec![low(0, SeccompCmpOp::Ne, IOPRIO_WHO_PROCESS)?])?];
    if processes == Processes::All {
        // Threads have numbers of their own, and a filter cannot know which: only the caller itself, which is
        // 0, is surely its own.
        priority.push(rule(vec![others(1)?])?);
        io_priority.push(rule(vec![others(1)?])?);
        for call in SCHEDULING {
            rules.insert(*call, vec![rule(vec![others(0)?])?]);
        }
    }
    rules.insert(libc::SYS_setpriority, priority);
    rules.insert(libc::SYS_ioprio_set, io_priority);
    Ok(rules)
}

/// Unix sockets through which one send call reaches any address, without a connect.
fn datagrams() -> Result<Vec<SeccompRule>, seccompiler::Error> {
    let is_unix = || low(FAMILY, SeccompCmpOp::Eq, u64::from(libc::AF_UNIX.unsigned_abs()));
    // The kernel takes SOCK_RAW for SOCK_DGRAM in this family. A send on the other two kinds ignores its
    // address.
    let kinds = [libc::SOCK_DGRAM, libc::SOCK_RAW].map(|kind| u64::from(kind.unsigned_abs()));
    kinds.into_iter().map(|kind| rule(vec![is_unix()?, is_kind(kind)?])).collect()
}

const FAMILY: u8 = 0;
const KIND: u8 = 1;
const PROTOCOL: u8 = 2;
/// The rest of the second argument is flags (SOCK_CLOEXEC, SOCK_NONBLOCK).
const KIND_MASK: u64 = 0xf;

fn is_kind(kind: u64) -> Result<SeccompCondition, seccompiler::Error> {
    low(KIND, SeccompCmpOp::MaskedEq(KIND_MASK), kind)
}

/// Which sockets cannot be made: a rule matches when all its conditions hold.
fn sockets(network: Network, unix: UnixConnect) -> Result<Vec<SeccompRule>, seccompiler::Error> {
    let [local, inet, inet6, netlink] = [libc::AF_UNIX, libc::AF_INET, libc::AF_INET6, libc::AF_NETLINK]
        .map(|family| u64::from(family.unsigned_abs()));
    let not = |family| low(FAMILY, SeccompCmpOp::Ne, family);
    let mut rules = match unix {
        UnixConnect::Denied => datagrams()?,
        UnixConnect::Allowed => Vec::new(),
    };
    if network == Network::UnixOnly {
        rules.push(rule(vec![not(local)?])?);
        return Ok(rules);
    }
    let is = |family| low(FAMILY, SeccompCmpOp::Eq, family);
    rules.push(rule(vec![not(local)?, not(inet)?, not(inet6)?, not(netlink)?])?);
    for family in [inet, inet6] {
        // Everything but a stream, and of the streams everything but TCP: MPTCP and SCTP slip past Landlock's
        // TCP rules.
        for kind in (0..=KIND_MASK).filter(|kind| *kind != u64::from(libc::SOCK_STREAM.unsigned_abs())) {
            rules.push(rule(vec![is(family)?, is_kind(kind)?])?);
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
    libc::SYS_process_madvise,
    SYS_PROCESS_MRELEASE,
    // Does file and network operations out of sight of this filter.
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    // Parts of the kernel with a long record of faults.
    libc::SYS_bpf,
    libc::SYS_userfaultfd,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_fanotify_init,
    libc::SYS_keyctl,
    // Mounts and namespaces.
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_move_mount,
    libc::SYS_open_tree,
    SYS_OPEN_TREE_ATTR,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_mount_setattr,
    libc::SYS_unshare,
    libc::SYS_setns,
    libc::SYS_open_by_handle_at,
    // Flags of files, as the requests of ATTRIBUTE_IOCTLS.
    SYS_FILE_SETATTR,
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
    SYS_QUOTACTL_FD,
    libc::SYS_syslog,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
];

/// What Landlock does not mediate: mode, times, owner and extended attributes of every file that the node's
/// user owns, also of one that cannot be opened. A key that became readable for others, or a folder that its
/// owner can no longer enter, would be the node's end.
const MODE_AND_TIMES: &[i64] = &[
    libc::SYS_fchmod,
    libc::SYS_fchmodat,
    SYS_FCHMODAT2,
    libc::SYS_utimensat,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_chmod,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_utime,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_utimes,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_futimesat,
];

/// With the argument that names the user; the group comes after it.
const OWNER: &[(i64, u8)] = &[
    (libc::SYS_fchown, 1),
    (libc::SYS_fchownat, 2),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_chown, 1),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_lchown, 1),
];

/// Answered as by a file system that has none: `cp -p`, which sets access lists by these, then falls back to
/// the mode.
const XATTRS: &[i64] = &[
    libc::SYS_setxattr,
    libc::SYS_lsetxattr,
    libc::SYS_fsetxattr,
    SYS_SETXATTRAT,
    libc::SYS_removexattr,
    libc::SYS_lremovexattr,
    libc::SYS_fremovexattr,
    SYS_REMOVEXATTRAT,
];

// New calls have one number on all processors; the crate does not name all of them yet.
const SYS_QUOTACTL_FD: i64 = 443;
const SYS_PROCESS_MRELEASE: i64 = 448;
const SYS_FCHMODAT2: i64 = 452;
const SYS_SETXATTRAT: i64 = 463;
const SYS_REMOVEXATTRAT: i64 = 466;
const SYS_OPEN_TREE_ATTR: i64 = 467;
const SYS_FILE_SETATTR: i64 = 469;

/// The number of an ioctl request, made as `linux/ioctl.h` makes it.
const fn request(direction: u64, kind: u64, number: u64, size_bytes: u64) -> u64 {
    direction << 30 | size_bytes << 16 | kind << 8 | number
}

const IOC_WRITE: u64 = 1;
const IOC_READ: u64 = 2;

/// What a descriptor that need only be readable lets its owner do to a file or its file system.
const ATTRIBUTE_IOCTLS: &[u64] = &[
    // FS_IOC_SETFLAGS, FS_IOC_SETVERSION, FS_IOC_FSSETXATTR.
    request(IOC_WRITE, b'f' as u64, 2, 8),
    request(IOC_WRITE, b'v' as u64, 2, 8),
    request(IOC_WRITE, b'X' as u64, 32, 28),
    // FS_IOC_ENABLE_VERITY, after which nobody can write the file again.
    request(IOC_WRITE, b'f' as u64, 133, 128),
    // FS_IOC_SET_ENCRYPTION_POLICY and FS_IOC_REMOVE_ENCRYPTION_KEY, after which nobody can read it.
    request(IOC_READ, b'f' as u64, 19, 12),
    request(IOC_READ | IOC_WRITE, b'f' as u64, 24, 64),
];

/// The requests of btrfs and bcachefs are refused as a whole: a snapshot of the subvolume that the scratch
/// folder lies in would show all of its files there, another request deletes a subvolume or makes it
/// unwritable. No engine has a use for any.
const FILE_SYSTEM_KINDS: &[u64] = &[0x94, 0xbc];

/// FICLONE, FICLONERANGE and FIDEDUPERANGE share the kind of btrfs and work on open files alone, on any file
/// system: `cp` uses the first.
const CLONES: [u64; 3] = [
    request(IOC_WRITE, 0x94, 9, 4),
    request(IOC_WRITE, 0x94, 13, 32),
    request(IOC_READ | IOC_WRITE, 0x94, 54, 24),
];

/// Typing into the terminal that started the node.
const TERMINAL_IOCTLS: &[u64] = &[libc::TIOCSTI, libc::TIOCLINUX];

/// The target of [`libc::SYS_ioprio_set`] that means one process.
const IOPRIO_WHO_PROCESS: u64 = 1;

/// Where the first argument may name another process.
const SCHEDULING: &[i64] =
    &[libc::SYS_sched_setscheduler, libc::SYS_sched_setparam, libc::SYS_sched_setattr, libc::SYS_move_pages];

/// The same, of calls that only ask for a better place. The C library makes the first for every thread that
/// is started with a set of processors (OMP_PROC_BIND), by the thread's number, and starts none when it
/// fails; an engine gives up when the second does.
const PLACEMENT: &[i64] = &[libc::SYS_sched_setaffinity, libc::SYS_migrate_pages];

/// Memory and queues that the user's other programs share by number or by name, past every rule about files.
const IPC: &[i64] = &[
    libc::SYS_shmget,
    libc::SYS_shmat,
    libc::SYS_shmctl,
    libc::SYS_semget,
    libc::SYS_semop,
    libc::SYS_semtimedop,
    libc::SYS_semctl,
    libc::SYS_msgget,
    libc::SYS_msgsnd,
    libc::SYS_msgrcv,
    libc::SYS_msgctl,
    libc::SYS_mq_open,
    libc::SYS_mq_unlink,
];

/// What only this processor has, or has under an older name besides.
#[cfg(target_arch = "x86_64")]
const OF_X86_64: &[i64] = &[libc::SYS_iopl, libc::SYS_ioperm, libc::SYS_uselib, libc::SYS_kexec_file_load];

#[cfg(test)]
mod tests {
    use super::*;

    fn arch() -> TargetArch {
        TargetArch::try_from(std::env::consts::ARCH).unwrap()
    }

    #[test]
    fn the_filters_compile_for_both_kinds_of_network() {
        let networks = [Network::UnixOnly, Network::BindOnePort(4000)];
        let unix = [UnixConnect::Denied, UnixConnect::Allowed];
        for (network, unix) in networks.into_iter().flat_map(|network| unix.map(|unix| (network, unix))) {
            let programs = programs(network, unix, Processes::All, arch()).unwrap();
            assert_eq!(programs.len(), 4);
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
            apply(Network::UnixOnly, UnixConnect::Denied, Processes::All).unwrap();
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
            apply(Network::BindOnePort(0), UnixConnect::Denied, Processes::All).unwrap();
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
            apply(Network::UnixOnly, UnixConnect::Denied, Processes::All).unwrap();
            std::thread::spawn(|| 7).join().unwrap()
        });
        assert_eq!(started.join().unwrap(), 7);
    }

    /// What comes of it inside the filter; a filter holds for the thread that asked for it.
    fn inside<T: Send + 'static>(unix: UnixConnect, act: impl FnOnce() -> T + Send + 'static) -> T {
        let network = Network::UnixOnly;
        std::thread::spawn(move || apply(network, unix, Processes::All).map(|()| act()).unwrap())
            .join()
            .unwrap()
    }

    /// What the filters answer to a call, without making it: `None` lets it through. Knows the instructions
    /// that filters consist of.
    fn answer(programs: &[BpfProgram], call: i64, arguments: &[u64]) -> Option<u32> {
        let mut data = vec![u32::try_from(call).unwrap(), ARCHITECTURE, 0, 0];
        let arguments = arguments.iter().copied().chain(std::iter::repeat(0)).take(6);
        data.extend(arguments.flat_map(|argument| [argument as u32, (argument >> 32) as u32]));
        let run = |program: &BpfProgram| {
            let (mut next, mut value) = (0, 0_u32);
            loop {
                let instruction = &program[next];
                next += 1;
                let holds = match instruction.code {
                    0x20 => {
                        value = data[instruction.k as usize / 4];
                        continue;
                    }
                    0x54 => {
                        value &= instruction.k;
                        continue;
                    }
                    0x05 => {
                        next += instruction.k as usize;
                        continue;
                    }
                    0x06 => return instruction.k,
                    0x15 => value == instruction.k,
                    0x25 => value > instruction.k,
                    0x35 => value >= instruction.k,
                    code => panic!("an instruction that this test does not know: {code:#x}"),
                };
                next += usize::from(if holds { instruction.jt } else { instruction.jf });
            }
        };
        let answers: Vec<u32> = programs.iter().map(run).filter(|answer| *answer != 0x7fff_0000).collect();
        assert!(answers.len() < 2, "several answers to {data:x?}: {answers:x?}");
        answers.first().map(|answer| {
            assert_eq!(answer >> 16, 5, "no error number: {answer:#x}");
            answer & 0xffff
        })
    }

    /// As `linux/audit.h` numbers it.
    const ARCHITECTURE: u32 = if cfg!(target_arch = "x86_64") { 0xc000_003e } else { 0xc000_00b7 };
    const PRETENDED: Option<u32> = Some(0);
    const UNSUPPORTED: Option<u32> = Some(libc::EOPNOTSUPP as u32);
    const REFUSED: Option<u32> = Some(libc::EPERM as u32);

    #[test]
    fn no_attribute_of_a_file_can_be_changed_and_only_what_everyone_changes_seems_to_be() {
        use rustix::fs::{AtFlags, CWD, Mode, Timestamps, XattrFlags};
        use std::os::unix::fs::MetadataExt as _;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let file = std::fs::File::create(&path).unwrap();
        let about = |path: &std::path::Path| {
            let about = std::fs::metadata(path).unwrap();
            (about.mode(), about.uid(), about.gid(), about.mtime(), about.mtime_nsec(), about.ctime_nsec())
        };
        let before = about(&path);
        let now = rustix::fs::Timespec { tv_sec: 0, tv_nsec: 0 };
        let times = Timestamps { last_access: now, last_modification: now };
        let (mode, at) = (Mode::from_raw_mode(0o666), AtFlags::empty());
        let xattr = XattrFlags::empty();
        let (user, group) = (rustix::process::geteuid(), rustix::process::getegid());
        let other = rustix::fs::Uid::from_raw(user.as_raw() + 1);
        let named = path.clone();
        let (pretended, refused, unsupported) = inside(UnixConnect::Allowed, move || {
            let path = named;
            let pretended = [
                rustix::fs::chmod(&path, mode),
                rustix::fs::fchmod(&file, mode),
                rustix::fs::chmodat(CWD, &path, mode, at),
                rustix::fs::chown(&path, None, None),
                rustix::fs::fchown(&file, Some(user), Some(group)),
                rustix::fs::chownat(CWD, &path, None, Some(group), AtFlags::SYMLINK_NOFOLLOW),
                rustix::fs::utimensat(CWD, &path, &times, at),
                rustix::fs::futimens(&file, &times),
            ];
            let refused = [
                rustix::fs::chown(&path, Some(other), None),
                rustix::fs::fchown(&file, Some(other), Some(group)),
                rustix::fs::ioctl_setflags(&file, rustix::fs::IFlags::NOATIME),
            ];
            let unsupported = [
                rustix::fs::setxattr(&path, "user.a", b"x", xattr),
                rustix::fs::lsetxattr(&path, "user.a", b"x", xattr),
                rustix::fs::fsetxattr(&file, "user.a", b"x", xattr),
                rustix::fs::removexattr(&path, "user.a"),
                rustix::fs::fremovexattr(&file, "user.a"),
            ];
            (pretended, refused, unsupported)
        });
        assert_eq!(pretended, [Ok(()); 8]);
        assert_eq!(refused, [Err(rustix::io::Errno::PERM); 3]);
        assert_eq!(unsupported, [Err(rustix::io::Errno::OPNOTSUPP); 5]);
        assert_eq!(about(&path), before);
    }

    #[test]
    fn every_call_that_changes_mode_times_or_owner_has_one_answer() {
        let filters = programs(Network::UnixOnly, UnixConnect::Denied, Processes::All, arch()).unwrap();
        for call in MODE_AND_TIMES {
            assert_eq!(answer(&filters, *call, &[1, 2, 3, 4, 5, 6]), PRETENDED, "{call}");
        }
        let [[user, unchanged], [group, _]] = own_ids();
        for (call, first) in OWNER {
            let owner = |user: u64, group: u64| {
                let mut arguments = vec![7; usize::from(*first)];
                arguments.extend([user, group]);
                answer(&filters, *call, &arguments)
            };
            for (user, group) in
                [(user, group), (unchanged, group), (user, unchanged), (unchanged, unchanged)]
            {
                assert_eq!(owner(user, group), PRETENDED, "{call} {user} {group}");
                // The kernel looks at the low half only.
                assert_eq!(owner(user | 1 << 40, group), PRETENDED, "{call} {user} {group}");
            }
            for (user, group) in
                [(user + 1, group), (user, group + 1), (unchanged, group + 1), (user + 1, group + 1)]
            {
                assert_eq!(owner(user, group), REFUSED, "{call} {user} {group}");
            }
        }
        for call in XATTRS {
            assert_eq!(answer(&filters, *call, &[]), UNSUPPORTED, "{call}");
        }
        assert_eq!(answer(&filters, libc::SYS_read, &[]), None);
    }

    #[test]
    fn no_request_makes_a_snapshot_or_takes_a_file_away_and_cloning_stays() {
        let filters = programs(Network::UnixOnly, UnixConnect::Denied, Processes::All, arch()).unwrap();
        let asked = |request: u64| answer(&filters, libc::SYS_ioctl, &[3, request, 4]);
        // As the kernel's headers number them: btrfs SNAP_CREATE, SNAP_CREATE_V2, SUBVOL_CREATE,
        // SUBVOL_CREATE_V2, SNAP_DESTROY, SNAP_DESTROY_V2, SUBVOL_SETFLAGS, SET_RECEIVED_SUBVOL; bcachefs
        // SUBVOLUME_CREATE.
        let snapshots = [
            0x5000_9401,
            0x5000_9417,
            0x5000_940e,
            0x5000_9418,
            0x5000_940f,
            0x5000_943f,
            0x4008_941a,
            0xc0c8_9425,
            0x4020_bc10,
        ];
        // SETFLAGS, SETVERSION, FSSETXATTR, ENABLE_VERITY, SET_ENCRYPTION_POLICY, REMOVE_ENCRYPTION_KEY.
        let attributes = [0x4008_6602, 0x4008_7602, 0x401c_5820, 0x4080_6685, 0x800c_6613, 0xc040_6618];
        for request in snapshots.into_iter().chain(attributes) {
            assert_eq!(asked(request), REFUSED, "{request:#x}");
            assert_eq!(
                asked(request | 1 << 40),
                REFUSED,
                "the kernel looks at the low half only: {request:#x}"
            );
        }
        // FICLONE, FICLONERANGE, FIDEDUPERANGE; TCGETS, FIONREAD, FS_IOC_GETFLAGS; requests of NVIDIA, DRM
        // and KFD.
        for request in [
            0x4004_9409,
            0x4020_940d,
            0xc018_9436,
            0x5401,
            0x541b,
            0x8008_6601,
            0xc020_462a,
            0xc040_6400,
            0x8008_4b01,
        ] {
            assert_eq!(asked(request), None, "{request:#x}");
        }
    }

    #[test]
    fn where_other_processes_can_be_named_only_the_caller_itself_is_scheduled() {
        let filters =
            |processes| programs(Network::UnixOnly, UnixConnect::Denied, processes, arch()).unwrap();
        let (all, own) = (filters(Processes::All), filters(Processes::Own));
        let refused = [
            (libc::SYS_setpriority, [0, 42]),
            (libc::SYS_ioprio_set, [1, 42]),
            (libc::SYS_sched_setscheduler, [42, 0]),
            (libc::SYS_sched_setparam, [42, 0]),
            (libc::SYS_sched_setattr, [42, 0]),
            (libc::SYS_move_pages, [42, 0]),
        ];
        let pretended = [(libc::SYS_sched_setaffinity, [42, 8]), (libc::SYS_migrate_pages, [42, 8])];
        let wanted =
            refused.map(|call| (call, REFUSED)).into_iter().chain(pretended.map(|call| (call, PRETENDED)));
        for ((call, arguments), wanted) in wanted {
            assert_eq!(answer(&all, call, &arguments), wanted, "{call}");
            assert_eq!(answer(&own, call, &arguments), None, "{call}");
            let itself = arguments.map(|argument| if argument == 42 { 0 } else { argument });
            assert_eq!(answer(&all, call, &itself), None, "{call}");
        }
        // A group and a user, with others in them.
        for (call, kinds) in [(libc::SYS_setpriority, [1, 2]), (libc::SYS_ioprio_set, [2, 3])] {
            for (kind, filters) in kinds.into_iter().flat_map(|kind| [(kind, &all), (kind, &own)]) {
                assert_eq!(answer(filters, call, &[kind, 0]), REFUSED, "{call} {kind}");
            }
        }
    }

    #[test]
    fn no_unix_socket_of_another_is_reached_by_connecting_or_by_sending() {
        use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
        let folder = tempfile::tempdir().unwrap();
        let (stream, datagram) = (folder.path().join("stream"), folder.path().join("datagram"));
        let _listener = UnixListener::bind(&stream).unwrap();
        let _receiver = UnixDatagram::bind(&datagram).unwrap();
        let reach = move || {
            let connected = UnixStream::connect(&stream).map(drop);
            let sent = UnixDatagram::unbound().and_then(|socket| socket.send_to(b"x", &datagram)).map(drop);
            // One end of a pair could send to another address than its peer's.
            let beside = UnixDatagram::pair().and_then(|(one, _)| one.send_to(b"x", &datagram)).map(drop);
            [connected, sent, beside].map(|result| result.map_err(|error| error.kind()))
        };
        let denied = Err(std::io::ErrorKind::PermissionDenied);
        assert_eq!(inside(UnixConnect::Denied, reach.clone()), [denied; 3]);
        assert_eq!(inside(UnixConnect::Allowed, reach), [Ok(()); 3]);
    }

    #[test]
    fn limits_of_other_processes_stay_and_own_ones_can_be_lowered() {
        use rustix::process::{Pid, Resource, Rlimit, prlimit, setrlimit};
        let parent = rustix::process::getppid().unwrap_or(Pid::INIT);
        let (own, others) = inside(UnixConnect::Denied, move || {
            let limit = || Rlimit { current: Some(0), maximum: None };
            (setrlimit(Resource::Core, limit()), prlimit(Some(parent), Resource::Core, limit()).map(drop))
        });
        assert_ne!(own, Err(rustix::io::Errno::PERM));
        assert_eq!(others, Err(rustix::io::Errno::PERM));
    }
}
