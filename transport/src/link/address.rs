//! Where other machines reach this one.
//!
//! Owns the choice of the address that others are told. Nothing is sent to find it out. Refuses to know
//! routers and their address translation: who is behind one says itself what others shall dial.

mod interfaces;

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use self::interfaces::{in_order, is_usable, of_this_machine};
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

/// What others are told, and where it was taken from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Told {
    pub(super) address: SocketAddr,
    pub(super) from: Origin,
}

/// Where an address was taken from. Its words end the sentence "others are told … by".
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// A person has said it.
    Advertise,
    /// The socket is on one address only.
    Listen,
    /// The system sends from it to another node.
    Toward(SocketAddr),
    /// The system sends from it to anywhere else.
    DefaultRoute,
    /// There is no route: it is the likeliest of the machine's own.
    Interface(String),
    /// Other nodes are connected there, and none at the address before.
    Connections,
    /// The machine has no other.
    Nothing,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Advertise => f.write_str("the setting cluster.advertise"),
            Self::Listen => f.write_str("the setting cluster.listen"),
            Self::Toward(node) => write!(f, "the route to the node at {node}"),
            Self::DefaultRoute => f.write_str("the default route"),
            Self::Interface(name) => write!(f, "the interface {name}, as there is no default route"),
            Self::Connections => f.write_str("the connections with other nodes"),
            Self::Nothing => f.write_str("want of any other address"),
        }
    }
}

impl Reach {
    /// Nobody has fixed the address: it follows from the machine, and may change with it.
    pub(super) fn is_found(&self) -> bool {
        self.advertise.is_none() && self.listen.ip().is_unspecified()
    }

    /// What others are told. `toward` are nodes that must be able to reach this one, the best first; empty
    /// where none is known.
    pub(super) fn advertised(&self, toward: &[SocketAddr]) -> Told {
        match self.advertise {
            Some(address) => Told { address, from: Origin::Advertise },
            None if !self.listen.ip().is_unspecified() => Told { address: self.listen, from: Origin::Listen },
            None => {
                let (ip, from) = self.found(toward);
                Told { address: SocketAddr::new(ip, self.listen.port()), from }
            }
        }
    }

    fn found(&self, toward: &[SocketAddr]) -> (IpAddr, Origin) {
        let source = |target| source_toward(target).filter(|ip| self.can_be(ip));
        let others = of_others(&own_addresses(), toward).into_iter();
        let mut others = others.filter_map(|address| Some((source(address)?, Origin::Toward(address))));
        let found = others.next().or_else(|| Some((source(ELSEWHERE)?, Origin::DefaultRoute)));
        found.unwrap_or_else(|| {
            let interfaces = of_this_machine();
            let likeliest = in_order(&interfaces).into_iter().find(|(ip, _)| self.can_be(ip));
            likeliest.map_or((Ipv4Addr::LOCALHOST.into(), Origin::Nothing), |(ip, name)| {
                (ip, Origin::Interface(name.to_owned()))
            })
        })
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

    /// This node's own socket is there, so nobody else is: no way to another node, whoever says so. Docker
    /// gives every machine the same address. `own` are the addresses of the machine: that a socket can be
    /// bound to one says nothing, as with `net.ipv4.ip_nonlocal_bind` every address can be bound.
    pub(super) fn is_itself(&self, own: &[IpAddr], address: SocketAddr) -> bool {
        let ip = address.ip().to_canonical();
        let is_here =
            if self.listen.ip().is_unspecified() { own.contains(&ip) } else { ip == self.listen.ip() };
        self.listen.port() != 0 && address.port() == self.listen.port() && is_here
    }

    /// What others shall be told instead, where every connection that stands ends at another address of this
    /// machine than the one `told`.
    /// `ends` are those ends. While one of them is at `told`, that address works for somebody, and stays.
    pub(super) fn better(&self, told: IpAddr, ends: &[IpAddr]) -> Option<IpAddr> {
        if !self.is_found() || ends.iter().any(|ip| ip.to_canonical() == told) {
            return None;
        }
        let usable = ends.iter().map(IpAddr::to_canonical).filter(|ip| is_usable(ip) && self.can_be(ip));
        let mut usable: Vec<IpAddr> = usable.collect();
        usable.sort_unstable();
        let count = |ip: &IpAddr| usable.iter().filter(|other| *other == ip).count();
        // Of equally many the lowest, so that it does not change from look to look.
        usable.iter().rev().max_by_key(|ip| count(ip)).copied()
    }

    /// A socket on `0.0.0.0` hears nothing over IPv6.
    fn can_be(&self, ip: &IpAddr) -> bool {
        self.listen.is_ipv6() || ip.is_ipv4()
    }
}

/// The address that this machine would send from to `target`. Connecting a datagram socket sends nothing.
pub(super) fn source_toward(target: SocketAddr) -> Option<IpAddr> {
    let any: IpAddr =
        if target.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0)).ok()?;
    socket.connect(target).ok()?;
    let ip = socket.local_addr().ok()?.ip();
    (!ip.is_unspecified()).then_some(ip)
}

/// Toward an address of its own a machine sends from that same one, which says nothing about others.
fn of_others(own: &[IpAddr], toward: &[SocketAddr]) -> Vec<SocketAddr> {
    toward.iter().filter(|address| !own.contains(&address.ip().to_canonical())).copied().collect()
}

/// The addresses of this machine that others could use, the likeliest first.
pub(super) fn own_addresses() -> Vec<IpAddr> {
    in_order(&of_this_machine()).into_iter().map(|(ip, _)| ip).collect()
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
        let told = reach.advertised(&[]);
        assert_eq!((told.address, told.from), (address("198.51.100.4:9000"), Origin::Advertise));
        assert_eq!(reach.for_token(told.address), [told.address]);
        assert!(!reach.is_found());
    }

    #[test]
    fn a_socket_on_one_address_is_reached_there() {
        let reach = Reach { listen: address("127.0.0.1:7000"), advertise: None };
        let told = reach.advertised(&[address("192.0.2.1:1")]);
        assert_eq!((told.address, told.from), (address("127.0.0.1:7000"), Origin::Listen));
        assert_eq!(reach.for_token(address("127.0.0.1:7000")), [address("127.0.0.1:7000")]);
    }

    #[test]
    fn a_socket_on_all_addresses_is_told_under_the_one_that_faces_the_other_node() {
        let reach = Reach { listen: address("0.0.0.0:7000"), advertise: None };
        let toward = address("127.0.0.1:9");
        let told = reach.advertised(&[toward]);
        assert_eq!((told.address, told.from), (address("127.0.0.1:7000"), Origin::Toward(toward)));
        let somewhere = reach.advertised(&[]).address;
        assert_eq!(somewhere.port(), 7000);
        assert!(!somewhere.ip().is_unspecified() && somewhere.is_ipv4());
        assert!(reach.is_found());
    }

    #[test]
    fn an_address_is_this_machines_own_by_its_interfaces_whatever_can_be_bound() {
        let reach = Reach { listen: address("0.0.0.0:7000"), advertise: None };
        let own: Vec<IpAddr> = ["10.0.0.1", "172.17.0.1"].map(|ip| ip.parse().unwrap()).to_vec();
        for (other, is_itself) in [
            ("10.0.0.1:7000", true),
            ("[::ffff:172.17.0.1]:7000", true),
            ("10.0.0.1:7001", false),
            ("10.0.0.2:7000", false),
            // Any machine can bind this one, and none has it by its interfaces.
            ("127.0.0.9:7000", false),
        ] {
            assert_eq!(reach.is_itself(&own, address(other)), is_itself, "{other}");
        }
        assert!(!reach.is_itself(&[], address("10.0.0.1:7000")), "no interface is known");
        let toward = ["10.0.0.1:7000", "10.0.0.2:7000", "127.0.0.9:7000"].map(address);
        assert_eq!(of_others(&own, &toward), toward[1..]);
        // Nobody has the first, and nobody else reaches the second.
        let own = own_addresses();
        assert!(!own.contains(&ELSEWHERE.ip()) && !own.contains(&Ipv4Addr::LOCALHOST.into()));
    }

    #[test]
    fn a_token_carries_each_address_once_the_best_first() {
        let reach = Reach { listen: address("[::]:7000"), advertise: None };
        let best = reach.advertised(&[]).address;
        let mut all = reach.for_token(best);
        assert_eq!(all[0], best);
        assert!((1..=ADDRESSES_MAX).contains(&all.len()));
        let count = all.len();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), count);
    }

    #[test]
    fn an_address_of_ones_own_says_nothing_about_the_way_to_others() {
        let reach = Reach { listen: address("0.0.0.0:7000"), advertise: None };
        let all = own_addresses();
        for own in all.iter().copied().filter(IpAddr::is_ipv4) {
            let own = SocketAddr::new(own, 7000);
            assert!(reach.is_itself(&all, own));
            assert!(!matches!(reach.advertised(&[own]).from, Origin::Toward(_)), "{own}");
            assert!(
                !reach.is_itself(&all, SocketAddr::new(own.ip(), 7001)),
                "another node of the same machine"
            );
        }
        assert!(!reach.is_itself(&all, ELSEWHERE));
        let on_one = Reach { listen: address("127.0.0.1:7000"), advertise: None };
        assert!(
            on_one.is_itself(&all, address("127.0.0.1:7000"))
                && on_one.is_itself(&all, address("[::ffff:127.0.0.1]:7000"))
        );
        assert!(!on_one.is_itself(&all, address("127.0.0.2:7000")), "the socket is not there");
    }

    #[test]
    fn the_address_where_all_connections_end_takes_the_place_of_one_where_none_does() {
        let reach = Reach { listen: address("0.0.0.0:7000"), advertise: None };
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        let ips = |texts: &[&str]| texts.iter().map(|text| ip(text)).collect::<Vec<_>>();
        let better = |ends: &[&str]| reach.better(ip("172.17.0.1"), &ips(ends));
        assert_eq!(better(&["192.168.50.1"]), Some(ip("192.168.50.1")));
        assert_eq!(better(&["::ffff:192.168.50.1"]), Some(ip("192.168.50.1")));
        assert_eq!(better(&["10.0.0.1", "192.168.50.1", "192.168.50.1"]), Some(ip("192.168.50.1")));
        assert_eq!(better(&["192.168.50.1", "10.0.0.1"]), Some(ip("10.0.0.1")), "the same each time");
        assert_eq!(better(&["192.168.50.1", "172.17.0.1"]), None, "it works for somebody");
        assert_eq!(better(&[]), None);
        assert_eq!(better(&["127.0.0.1", "2001:db8::1"]), None, "others cannot use those");
        let fixed = Reach { advertise: Some(address("198.51.100.4:9000")), ..reach };
        assert_eq!(fixed.better(ip("198.51.100.4"), &ips(&["10.0.0.1"])), None, "a person has said it");
    }
}
