//! What this node believes of others without having seen it.
//!
//! Owns the bounds of it. Refuses to know who says so.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// WIRE-17: whether a node may be at an address that others name. Who makes members up must not have this
/// node send to everybody at once, to itself, or to other programs of its own machine. Where this node is
/// itself on its machine only, so are the others.
pub(super) fn is_dialable(address: SocketAddr, own: SocketAddr) -> bool {
    let ip = address.ip().to_canonical();
    let is_broadcast = ip == IpAddr::V4(Ipv4Addr::BROADCAST);
    let is_elsewhere = !ip.is_loopback() || own.ip().to_canonical().is_loopback();
    address.port() != 0 && !ip.is_unspecified() && !ip.is_multicast() && !is_broadcast && is_elsewhere
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_made_up_at_an_address_where_nobody_can_be_is_not_dialed() {
        // WIRE-17
        let [away, here] = ["10.0.0.1:7400", "127.0.0.1:7400"].map(|own| own.parse().unwrap());
        for (address, from_away, from_here) in [
            ("10.0.0.2:7400", true, true),
            ("[2001:db8::2]:7400", true, true),
            ("127.0.0.1:22", false, true),
            ("[::1]:22", false, true),
            ("[::ffff:127.0.0.1]:22", false, true),
            ("0.0.0.0:7400", false, false),
            ("[::]:7400", false, false),
            ("224.0.0.251:5353", false, false),
            ("[ff02::1]:5353", false, false),
            ("255.255.255.255:7400", false, false),
            ("10.0.0.2:0", false, false),
        ] {
            let address: SocketAddr = address.parse().unwrap();
            let dialable = [away, here].map(|own| is_dialable(address, own));
            assert_eq!(dialable, [from_away, from_here], "{address}");
        }
    }
}
