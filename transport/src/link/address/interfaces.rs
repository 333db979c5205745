//! This machine's network interfaces, and on which of them other machines are likely to be.
//!
//! Owns the order of the machine's own addresses. A decider over what the system says of each interface; the
//! reading is at the end. Refuses to know routes: where there is one, the system itself says from which
//! address it would send.

use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::Path;

use sysinfo::Networks;

/// What the system says of an interface.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Interface {
    pub(super) name: String,
    pub(super) addresses: Vec<IpAddr>,
    /// It is a network card, or one lies below it: a VLAN, a bond, or a bridge with a cable in it.
    pub(super) has_card: bool,
    pub(super) is_bridge: bool,
    /// Something is plugged in at the other end.
    pub(super) has_carrier: bool,
}

/// How likely it is that other machines reach this one over an interface, the likeliest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Likelihood {
    /// A cable or an antenna.
    Card,
    /// A tunnel, or the way out of a container.
    Other,
    /// The switch of this machine's own containers and virtual machines: every machine with Docker has the
    /// same address there.
    Inside,
    /// Nothing is plugged in.
    Unplugged,
}

/// Programs that run containers name their networks so. Some of these have a card below them, because their
/// packets leave the machine wrapped up.
const INSIDE: [&str; 15] = [
    "docker", "br-", "veth", "virbr", "cni", "podman", "lxcbr", "lxdbr", "flannel", "cali", "cilium", "kube",
    "weave", "vxlan", "nerdctl",
];

impl Interface {
    pub(super) fn likelihood(&self) -> Likelihood {
        if !self.has_carrier {
            return Likelihood::Unplugged;
        }
        let is_inside = INSIDE.iter().any(|prefix| self.name.starts_with(prefix));
        match (is_inside, self.has_card, self.is_bridge) {
            (true, ..) | (false, false, true) => Likelihood::Inside,
            (false, true, _) => Likelihood::Card,
            (false, false, false) => Likelihood::Other,
        }
    }
}

/// The addresses that others could use, the likeliest first; of equal ones IPv4 first, then by number. Each
/// with its interface.
pub(super) fn in_order(interfaces: &[Interface]) -> Vec<(IpAddr, &str)> {
    let all = interfaces.iter().flat_map(|interface| {
        let addresses = interface.addresses.iter().filter(|ip| is_usable(ip));
        addresses.map(|ip| (interface.likelihood(), *ip, interface.name.as_str()))
    });
    let mut all: Vec<(Likelihood, IpAddr, &str)> = all.collect();
    all.sort_unstable();
    all.dedup_by_key(|(_, ip, _)| *ip);
    all.into_iter().map(|(_, ip, name)| (ip, name)).collect()
}

/// Not the loopback interface, and nothing that means something on one cable only.
pub(super) fn is_usable(ip: &IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => !(ip.is_loopback() || ip.is_link_local() || ip.is_unspecified()),
        IpAddr::V6(ip) => !(ip.is_loopback() || ip.is_unicast_link_local() || ip.is_unspecified()),
    }
}

/// Where Linux tells of interfaces. Elsewhere there are only names and addresses.
const SYSTEM: &str = "/sys/class/net";

/// Interfaces may lie on each other; a card is found after so many steps, or there is none.
const LAYERS_MAX: usize = 4;

/// This machine's interfaces. Without a list there is still the way that the system would send.
pub(super) fn of_this_machine() -> Vec<Interface> {
    let Ok(networks) = Networks::new_with_refreshed_list() else { return Vec::new() };
    let system = Path::new(SYSTEM);
    let interface = |(name, network): (&std::ffi::OsString, &sysinfo::NetworkData)| {
        let name = name.to_string_lossy().into_owned();
        Interface {
            addresses: network.ip_networks().iter().map(|network| network.addr).collect(),
            has_card: has_card(system, &name, LAYERS_MAX),
            is_bridge: system.join(&name).join("bridge").exists(),
            has_carrier: has_carrier(&system.join(&name).join("carrier")),
            name,
        }
    };
    networks.iter().map(interface).collect()
}

fn has_card(system: &Path, name: &str, layers: usize) -> bool {
    let folder = system.join(name);
    if folder.join("device").exists() {
        return true;
    }
    let Ok(entries) = fs::read_dir(folder) else { return false };
    let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    let mut below = names.filter_map(|name| name.strip_prefix("lower_").map(str::to_owned));
    layers > 0 && below.any(|name| has_card(system, &name, layers - 1))
}

/// What is not said is not taken for pulled out. The file cannot be read while the interface is switched off.
fn has_carrier(file: &Path) -> bool {
    match fs::read_to_string(file) {
        Ok(said) => said.trim() != "0",
        Err(error) => error.kind() == io::ErrorKind::NotFound,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interface(name: &str, address: &str) -> Interface {
        let addresses = vec![address.parse().unwrap()];
        Interface { name: name.to_owned(), addresses, has_carrier: true, ..Interface::default() }
    }

    fn order(interfaces: &[Interface]) -> Vec<String> {
        in_order(interfaces).into_iter().map(|(ip, _)| ip.to_string()).collect()
    }

    #[test]
    fn a_card_comes_before_the_bridges_of_containers_whatever_the_numbers_are() {
        let card = Interface { has_card: true, ..interface("enp3s0", "192.168.50.1") };
        let docker = Interface { is_bridge: true, ..interface("docker0", "172.17.0.1") };
        let compose = Interface { is_bridge: true, ..interface("br-3f2a", "10.5.0.1") };
        let tunnel = interface("wg0", "10.8.0.2");
        assert_eq!(
            order(&[docker, compose, tunnel, card]),
            ["192.168.50.1", "10.8.0.2", "10.5.0.1", "172.17.0.1"]
        );
    }

    #[test]
    fn a_bridge_with_a_cable_in_it_is_as_good_as_the_card() {
        let bridge = Interface { is_bridge: true, has_card: true, ..interface("vmbr0", "192.168.50.1") };
        let own = Interface { is_bridge: true, ..interface("virbr0", "10.0.0.1") };
        assert_eq!(order(&[own, bridge]), ["192.168.50.1", "10.0.0.1"]);
    }

    #[test]
    fn the_network_of_containers_is_inside_also_where_its_packets_leave_by_a_card() {
        let wrapped = Interface { has_card: true, ..interface("flannel.1", "10.244.0.0") };
        assert_eq!(wrapped.likelihood(), Likelihood::Inside);
    }

    #[test]
    fn where_nothing_is_plugged_in_nobody_is_reached() {
        let unplugged = Interface { has_card: true, has_carrier: false, ..interface("eth1", "10.0.0.1") };
        let inside = Interface { is_bridge: true, ..interface("docker0", "172.17.0.1") };
        assert_eq!(order(&[unplugged, inside]), ["172.17.0.1", "10.0.0.1"]);
    }

    #[test]
    fn what_means_something_on_one_cable_only_is_left_out_and_no_address_comes_twice() {
        let mut card = Interface { has_card: true, ..interface("eth0", "169.254.1.1") };
        card.addresses
            .extend(["fe80::1", "2001:db8::1", "10.0.0.7"].map(|text| text.parse::<IpAddr>().unwrap()));
        let alias = Interface { has_card: true, ..interface("eth0:1", "10.0.0.7") };
        assert_eq!(order(&[alias, card, interface("lo", "127.0.0.1")]), ["10.0.0.7", "2001:db8::1"]);
    }

    #[test]
    fn what_lies_below_is_found_and_a_ring_ends() {
        let system = tempfile::tempdir().unwrap();
        let made = |path: &str| fs::create_dir_all(system.path().join(path)).unwrap();
        made("eth0/device");
        made("bond0/lower_eth0");
        made("br0/lower_bond0");
        made("a/lower_b");
        made("b/lower_a");
        let has = |name| has_card(system.path(), name, LAYERS_MAX);
        assert!(has("eth0") && has("bond0") && has("br0"));
        assert!(!has("a") && !has("absent"));
        let carrier = |said: &str| {
            fs::write(system.path().join("carrier"), said).unwrap();
            has_carrier(&system.path().join("carrier"))
        };
        assert!(carrier("1\n") && !carrier("0\n"));
        assert!(has_carrier(&system.path().join("nowhere")), "a system that says nothing");
    }
}
