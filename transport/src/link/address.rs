//! Where other machines reach this one.
//!
//! Owns the choice of the address that others are told. Nothing is sent to find it out. Refuses to know routers and their address translation: who is
//! behind one says itself what others shall dial.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use sysinfo::Networks;

use crate::token::ADDRESSES_MAX;

/// An address that stands for "anywhere else": it is set aside for documentation, so nobody has it.
const ELSEWHERE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), 9);

/// How this node is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Reach {
    /// Where the socket is bound.
    pub(super) listen: SocketAddr,
    /// What the settings say that others shall dial.
    pub(super) advertise: Option<SocketAddr>,
}

impl Reach {
    /// Nobody has fixed the address: it follows from the machine, and may change with it.
    pub(super) fn is_found(&self) -> bool {
        self.advertise.is_none() && self.listen.ip().is_unspecified()
    }

    /// What others are told. `toward` is a node that must be able to reach this one, where one is known.
    pub(super) fn advertised(&self, toward: Option<SocketAddr>) -> SocketAddr {
        match self.advertise {
            Some(address) => address,
            None if !self.listen.ip().is_unspecified() => self.listen,
            None => {
                let found = toward.and_then(source_toward).or_else(|| source_toward(ELSEWHERE));
                let found = found.filter(|ip| self.can_be(ip));
                let ip = found.or_else(|| own_addresses().into_iter().find(|ip| self.can_be(ip)));
                SocketAddr::new(ip.unwrap_or(Ipv4Addr::LOCALHOST.into()), self.listen.port())
            }
        }
    }

    /// What a token carries: the best address first.
    pub(super) fn for_token(&self, advertised: SocketAddr) -> Vec<SocketAddr> {
        let mut addresses = vec![advertised];
        if self.is_found() {
            let more = own_addresses().into_iter().filter(|ip| self.can_be(ip));
            let more = more.map(|ip| SocketAddr::new(ip, advertised.port()));
            addresses.extend(more.filter(|address| *address != advertised));
        }
        addresses.truncate(ADDRESSES_MAX);
        addresses
    }

    /// A socket on `0.0.0.0` hears nothing over IPv6.
    fn can_be(&self, ip: &IpAddr) -> bool {
        self.listen.is_ipv6() || ip.is_ipv4()
    }
}

/// The address that this machine would send from to `target`. Connecting a datagram socket sends nothing.
fn source_toward(target: SocketAddr) -> Option<IpAddr> {
    let any: IpAddr =
        if target.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0)).ok()?;
    socket.connect(target).ok()?;
    let ip = socket.local_addr().ok()?.ip();
    (!ip.is_unspecified()).then_some(ip)
}

/// This machine has the address, and others could use it: a socket can be bound to it.
pub(super) fn is_own(ip: IpAddr) -> bool {
    is_usable(&ip) && UdpSocket::bind((ip, 0)).is_ok()
}

/// The addresses of this machine that others could use, in a fixed order: IPv4 first.
pub(super) fn own_addresses() -> Vec<IpAddr> {
    // Without the list there is still the way that the system would send.
    let Ok(networks) = Networks::new_with_refreshed_list() else { return Vec::new() };
    let networks = networks.values().flat_map(|network| network.ip_networks());
    let all = networks.map(|network| network.addr);
    let mut usable: Vec<IpAddr> = all.filter(is_usable).collect();
    usable.sort_unstable();
    usable.dedup();
    usable
}

/// Not the loopback interface, and nothing that means something on one cable only.
fn is_usable(ip: &IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => !(ip.is_loopback() || ip.is_link_local() || ip.is_unspecified()),
        IpAddr::V6(ip) => !(ip.is_loopback() || ip.is_unicast_link_local() || ip.is_unspecified()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn what_the_settings_say_is_told_as_it_is() {
        let reach = Reach { listen: address("0.0.0.0:8091"), advertise: Some(address("198.51.100.4:9000")) };
        assert_eq!(reach.advertised(None), address("198.51.100.4:9000"));
        assert_eq!(reach.for_token(reach.advertised(None)), [address("198.51.100.4:9000")]);
        assert!(!reach.is_found());
    }

    #[test]
    fn a_socket_on_one_address_is_reached_there() {
        let reach = Reach { listen: address("127.0.0.1:7000"), advertise: None };
        assert_eq!(reach.advertised(Some(address("192.0.2.1:1"))), address("127.0.0.1:7000"));
        assert_eq!(reach.for_token(address("127.0.0.1:7000")), [address("127.0.0.1:7000")]);
    }

    #[test]
    fn a_socket_on_all_addresses_is_told_under_the_one_that_faces_the_other_node() {
        let reach = Reach { listen: address("0.0.0.0:7000"), advertise: None };
        assert_eq!(reach.advertised(Some(address("127.0.0.1:9"))), address("127.0.0.1:7000"));
        let somewhere = reach.advertised(None);
        assert_eq!(somewhere.port(), 7000);
        assert!(!somewhere.ip().is_unspecified() && somewhere.is_ipv4());
        assert!(reach.is_found());
    }

    #[test]
    fn an_address_of_this_machine_is_told_from_any_other() {
        for ip in own_addresses() {
            assert!(is_own(ip), "{ip}");
        }
        // Nobody has the first, and nobody else reaches the second.
        assert!(!is_own(ELSEWHERE.ip()) && !is_own(Ipv4Addr::LOCALHOST.into()));
    }

    #[test]
    fn a_token_carries_each_address_once_the_best_first() {
        let reach = Reach { listen: address("[::]:7000"), advertise: None };
        let best = reach.advertised(None);
        let mut all = reach.for_token(best);
        assert_eq!(all[0], best);
        assert!((1..=ADDRESSES_MAX).contains(&all.len()));
        let count = all.len();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), count);
    }
}
