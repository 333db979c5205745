//! What this node has judged, as it hands it to the protocol library: nothing in it is left to be proven.
//!
//! Owns a layout that never leaves the process: that of datagrams, without signatures. Refuses to judge.

use std::net::{IpAddr, SocketAddr};

use bytes::{Buf, BufMut};
use foca::{Header, Member, State};

use super::{
    CUT_OFF, DatagramError, EncodeError, carries_updates, read_reference_parts, read_rest, read_state,
    write_reference, write_rest,
};
use crate::membership::config::PACKET_BYTES_MAX;
use crate::membership::identity::MemberIdentity;

const FLAG_IPV4: u8 = 1;
const FLAG_LEFT: u8 = 2;

/// Writes a datagram anew, with what is believed of it.
pub(in crate::membership) fn write(
    header: &Header<MemberIdentity>,
    members: &[Member<MemberIdentity>],
) -> Result<Vec<u8>, EncodeError> {
    let mut bytes = Vec::with_capacity(PACKET_BYTES_MAX);
    write_identity(&header.src, header.src_incarnation, &mut bytes);
    write_rest(header, &mut bytes)?;
    if carries_updates(&header.message) {
        // It was read from a datagram of at most 1,150 bytes.
        bytes.put_u16(u16::try_from(members.len()).unwrap_or(u16::MAX));
        for member in members {
            write_identity(member.id(), member.incarnation(), &mut bytes);
            bytes.put_u8(match member.state() {
                State::Alive => 0,
                State::Suspect => 1,
                State::Down => 2,
            });
        }
    }
    Ok(bytes)
}

pub(super) fn read_header(input: &mut impl Buf) -> Result<Header<MemberIdentity>, DatagramError> {
    let (src, life) = read_identity(input)?;
    read_rest(input, src, life)
}

pub(super) fn read_member(input: &mut impl Buf) -> Result<Member<MemberIdentity>, DatagramError> {
    let (identity, life) = read_identity(input)?;
    Ok(Member::new(identity, life, read_state(input)?))
}

fn write_identity(identity: &MemberIdentity, life: u16, out: &mut Vec<u8>) {
    write_reference(identity, out);
    let ip = match identity.address.ip() {
        IpAddr::V4(ip) => ip.to_ipv6_mapped(),
        IpAddr::V6(ip) => ip,
    };
    out.put_slice(&ip.octets());
    out.put_u16(identity.address.port());
    out.put_u16(life);
    let version = if identity.address.is_ipv4() { FLAG_IPV4 } else { 0 };
    let left = if identity.has_left() { FLAG_LEFT } else { 0 };
    out.put_u8(version | left);
}

fn read_identity(input: &mut impl Buf) -> Result<(MemberIdentity, u16), DatagramError> {
    let (id, incarnation, renewal) = read_reference_parts(input)?;
    let mut octets = [0; 16];
    input.try_copy_to_slice(&mut octets).map_err(|_| CUT_OFF)?;
    let port = input.try_get_u16().map_err(|_| CUT_OFF)?;
    let life = input.try_get_u16().map_err(|_| CUT_OFF)?;
    let flags = input.try_get_u8().map_err(|_| CUT_OFF)?;
    let ip = IpAddr::from(octets);
    let ip = if flags & FLAG_IPV4 == 0 { ip } else { ip.to_canonical() };
    let left = flags & FLAG_LEFT != 0;
    let identity = MemberIdentity::from_parts(id, SocketAddr::new(ip, port), (incarnation, renewal), left);
    Ok((identity, life))
}
