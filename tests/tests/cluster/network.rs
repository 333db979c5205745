//! A small network for one test: machines that are network namespaces, each with a cable to one switch.
//!
//! Owns what it made and removes it, whatever becomes of the test. Nothing of it is in the machine's own
//! network: both ends of a cable lie in namespaces. Refuses to know what runs there.

use std::fs::File;
use std::io;
use std::net::{Ipv4Addr, TcpStream};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use arw_tests::{node, skip};
use rustix::process::{Pid, Signal, geteuid, kill_process};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::oneshot;

use crate::kit::{FAKE, Node};

/// Where `ip netns` keeps names.
const NAMES: &str = "/run/netns";
const PREFIX: &str = "arw-test";

/// Namespaces of this process, so that two tests in it never use one name.
static MADE: AtomicU32 = AtomicU32::new(0);

/// A switch with machines.
pub(crate) struct Network {
    machines: Vec<Namespace>,
    switch: Namespace,
    /// The `ip` of this machine.
    ip: String,
}

/// Runs a test on a network of so many machines. What it needs is root: a test that somebody else runs who
/// may become root is run by root, in a process of its own. Where that cannot be, or namespaces cannot, it is
/// skipped, and says so.
pub(crate) fn on_a_network<F: Future<Output = ()>>(
    test: &str,
    machines: usize,
    run: impl FnOnce(Network) -> F,
) {
    let Some(ip) = skip::need(test, "ARW_IP") else { return };
    if !geteuid().is_root() {
        return run_as_root(test);
    }
    sweep(&ip);
    if let Err(why) = Namespace::make(&ip) {
        return skip::forbidden(test, &why);
    }
    let network = Network::make(ip, machines);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(run(network));
}

fn run_as_root(test: &str) {
    let may = Command::new("sudo").args(["-n", "true"]).stdin(Stdio::null()).stderr(Stdio::null()).status();
    if !may.is_ok_and(|status| status.success()) {
        return skip::forbidden(
            test,
            "only root makes network namespaces, and sudo wants a password or is missing",
        );
    }
    let program = std::env::current_exe().unwrap();
    let status = Command::new("sudo")
        .args(["-n", "--preserve-env=ARW_IP,ARW_SKIP_LOG,PATH", "--"])
        .arg(program)
        .args(["--exact", &format!("namespaces::{test}"), "--nocapture"])
        .stdin(Stdio::null())
        .status();
    assert!(status.unwrap().success(), "{test} failed, run by root");
}

impl Network {
    fn make(ip: String, machines: usize) -> Self {
        let namespace = || Namespace::make(&ip).unwrap();
        let network =
            Self { machines: (0..machines).map(|_| namespace()).collect(), switch: namespace(), ip };
        network.switch.ip("link add switch type bridge");
        network.switch.ip("link set switch up");
        for (index, machine) in network.machines.iter().enumerate() {
            let (name, switch) = (&machine.name, &network.switch.name);
            run_ip(
                &network.ip,
                &format!("link add cable netns {name} type veth peer name port{index} netns {switch}"),
            )
            .unwrap();
            network.switch.ip(&format!("link set port{index} master switch up"));
            machine.ip("link set lo up");
            machine.ip("link set cable up");
            let index = u8::try_from(index).unwrap();
            machine.ip(&format!("addr add {}/24 dev cable", address(index + 1)));
        }
        network
    }

    /// Gives every machine the bridge that Docker makes, with the same address on each of them.
    pub(crate) fn install_docker(&self) {
        for machine in &self.machines {
            machine.ip("link add docker0 type bridge");
            machine.ip("link set docker0 up");
            machine.ip("addr add 172.17.0.1/16 dev docker0");
        }
    }

    /// Starts a node on a machine, with the default for where it listens.
    pub(crate) async fn start(&self, machine: usize, name: &'static str) -> Node {
        self.start_on(machine, name, tempfile::Builder::new().prefix("arw").tempdir().unwrap()).await
    }

    /// Starts a node on a machine, on a folder that it may have had before.
    pub(crate) async fn start_on(&self, machine: usize, name: &'static str, folder: TempDir) -> Node {
        let process = self.run(machine, name, folder.path()).await;
        Node::of(name, folder, process)
    }

    async fn run(&self, machine: usize, name: &str, folder: &Path) -> node::NodeProcess {
        let namespace = &self.machines[machine];
        let mut command = Command::new(&self.ip);
        command.args(["netns", "exec", &namespace.name]).arg(node::arw(FAKE));
        let mut process =
            node::NodeProcess::start_by(command, folder, &["--name", name, "--log-level", "warn"]).unwrap();
        process.address = relay(namespace.path(), process.address.clone()).await;
        process
    }

    /// A machine gives its address back and gets another one of the same network.
    pub(crate) fn readdress(&self, machine: usize, from: u8, to: u8) {
        self.machines[machine].ip(&format!("addr del {}/24 dev cable", address(from)));
        self.machines[machine].ip(&format!("addr add {}/24 dev cable", address(to)));
    }

    pub(crate) fn unplug(&self, machine: usize) {
        self.switch.ip(&format!("link set port{machine} down"));
    }

    pub(crate) fn plug_in(&self, machine: usize) {
        self.switch.ip(&format!("link set port{machine} up"));
    }
}

/// Machine 0 begins with the address 1.
pub(crate) const fn address(host: u8) -> Ipv4Addr {
    Ipv4Addr::new(192, 168, 91, host)
}

/// A network namespace of a name of its own.
struct Namespace {
    name: String,
    ip: String,
}

impl Namespace {
    fn make(ip: &str) -> Result<Self, String> {
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let name = format!("{PREFIX}-{}-{number}", std::process::id());
        run_ip(ip, &format!("netns add {name}"))?;
        Ok(Self { name, ip: ip.to_owned() })
    }

    fn ip(&self, args: &str) {
        run_ip(&self.ip, &format!("-n {} {args}", self.name)).unwrap();
    }

    fn path(&self) -> PathBuf {
        Path::new(NAMES).join(&self.name)
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        remove(&self.ip, &self.name);
    }
}

/// Ends what still runs in a namespace, then removes it. It may have gone already.
fn remove(ip: &str, name: &str) {
    let pids = run_ip(ip, &format!("netns pids {name}")).unwrap_or_default();
    for pid in pids.lines().filter_map(|line| line.trim().parse().ok()).filter_map(Pid::from_raw) {
        let _ = kill_process(pid, Signal::KILL);
    }
    let _ = run_ip(ip, &format!("netns del {name}"));
}

/// Removes what a test left that was killed.
fn sweep(ip: &str) {
    let Ok(names) = std::fs::read_dir(NAMES) else { return };
    for name in names.flatten().filter_map(|entry| entry.file_name().into_string().ok()) {
        let owner = name.strip_prefix(PREFIX).and_then(|rest| rest.trim_start_matches('-').split('-').next());
        if owner.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
            remove(ip, &name);
        }
    }
}

fn run_ip(ip: &str, args: &str) -> Result<String, String> {
    let output = Command::new(ip).args(args.split_whitespace()).stdin(Stdio::null()).output();
    match output {
        Ok(Output { status, stdout, .. }) if status.success() => {
            Ok(String::from_utf8_lossy(&stdout).into_owned())
        }
        Ok(Output { stderr, .. }) => Err(format!("ip {args}: {}", String::from_utf8_lossy(&stderr).trim())),
        Err(error) => Err(format!("{ip}: {error}")),
    }
}

/// A loopback port of a namespace, at an address outside of it. Returns that address.
async fn relay(namespace: PathBuf, target: String) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        while let Ok((mut outside, _)) = listener.accept().await {
            let (namespace, target) = (namespace.clone(), target.clone());
            tokio::spawn(async move {
                // Whoever asked sees the connection end.
                if let Ok(mut inside) = dial_within(namespace, target).await {
                    let _ = tokio::io::copy_bidirectional(&mut outside, &mut inside).await;
                }
            });
        }
    });
    address
}

/// A socket belongs to the namespace of the thread that makes it, so a thread of its own goes there.
async fn dial_within(namespace: PathBuf, target: String) -> io::Result<tokio::net::TcpStream> {
    let (say, hear) = oneshot::channel();
    std::thread::spawn(move || {
        let connect = || {
            let link = File::open(namespace)?;
            move_into_link_name_space(link.as_fd(), Some(LinkNameSpaceType::Network))?;
            let stream = TcpStream::connect(target)?;
            stream.set_nonblocking(true)?;
            Ok(stream)
        };
        drop(say.send(connect()));
    });
    let stream: io::Result<TcpStream> = hear.await.unwrap_or_else(|_| Err(io::ErrorKind::Other.into()));
    tokio::net::TcpStream::from_std(stream?)
}
