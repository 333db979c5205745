//! The bytes of a membership datagram: layout, limits, and who may say what.
//!
//! ```text
//! packet    = version source life reference message [count member*]
//! source    = identity                      the sender
//! life      = varint                        how often it refuted a suspicion, at most 65535
//! reference = node[32] incarnation renewal  whom it is for
//! message   = kind[1] [probe[1]] [reference]
//! member    = identity life state[1]        0 alive, 1 suspect, 2 down
//! identity  = node[32] incarnation renewal flags[1] ip[4 or 16] port[2]
//! ```
//!
//! Numbers of fixed size are big-endian, `incarnation` and `renewal` are LEB128 varints without padding. The layout is written by hand,
//! not derived: it is a third smaller than any general format, each byte has one meaning, and nothing in it has a length
//! of its own. Owns the layout and the refusals; refuses to know what the messages mean.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use bytes::{Buf, BufMut};
use foca::{Codec, Header, Member, Message, State};

use super::config::PACKET_BYTES_MAX;
use super::identity::MemberIdentity;
use crate::identity::NodeId;

/// The version of the layout. A node of another version is refused, not misread.
const VERSION: u8 = 1;

/// The longest header: two identities' worth of ids, an IPv6 address, the longest varints and a message with a reference.
const HEADER_BYTES_MAX: usize = 192;
/// The longest member: an identity with an IPv6 address and the longest varints.
const MEMBER_BYTES_MAX: usize = 96;

const FLAG_IPV6: u8 = 1;
const FLAG_LEFT: u8 = 2;

/// Why a datagram was refused. Nothing in it has had an effect.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DatagramError {
    /// Longer than any that a node sends.
    #[error("membership datagram of {length} bytes refused: the most is {max}")]
    TooLarge {
        /// Its length in bytes.
        length: usize,
        /// The most.
        max: usize,
    },
    /// Another version of the layout.
    #[error(
        "membership datagram of version {found} refused: this node speaks version {known}; run the same release on all nodes"
    )]
    Version {
        /// Its version.
        found: u8,
        /// Ours.
        known: u8,
    },
    /// Cut off or against the layout.
    #[error("malformed membership datagram: {what}")]
    Malformed {
        /// What is wrong.
        what: &'static str,
    },
    /// More bytes than its content takes.
    #[error("membership datagram refused: {extra} bytes follow its content")]
    TrailingBytes {
        /// How many.
        extra: usize,
    },
    /// It does not come from whom it says.
    #[error("membership datagram refused: node {peer} sent it in the name of {claimed}")]
    ForeignSource {
        /// Who the datagram says has sent it.
        claimed: NodeId,
        /// Who has.
        peer: NodeId,
    },
    /// It is for another node.
    #[error("membership datagram refused: it is for node {destination}")]
    NotForThisNode {
        /// Whom it is for.
        destination: NodeId,
    },
    /// It names nodes beyond the limit.
    #[error(
        "membership datagram refused: it names new nodes and {max} are known, the most that `members_max` allows"
    )]
    Full {
        /// The most.
        max: usize,
    },
    /// This node has left the cluster.
    #[error("membership datagram refused: this node has left the cluster")]
    HasLeft,
    /// Well-formed, but against the protocol.
    #[error("membership datagram refused: {detail}")]
    Protocol {
        /// In the words of the protocol library.
        detail: String,
    },
}

/// One whole datagram.
#[derive(Debug)]
pub(super) struct Packet {
    pub(super) header: Header<MemberIdentity>,
    pub(super) updates: Vec<Member<MemberIdentity>>,
}

impl Packet {
    /// MEMBER-3: reads `bytes` to the last one, before anything acts on them.
    pub(super) fn read(mut bytes: &[u8]) -> Result<Self, DatagramError> {
        if bytes.len() > PACKET_BYTES_MAX {
            return Err(DatagramError::TooLarge { length: bytes.len(), max: PACKET_BYTES_MAX });
        }
        let header = read_header(&mut bytes)?;
        let mut updates = Vec::new();
        if carries_updates(&header.message) {
            let count = bytes.try_get_u16().map_err(|_| CUT_OFF)?;
            for _ in 0..count {
                updates.push(read_member(&mut bytes)?);
            }
        }
        if bytes.is_empty() {
            Ok(Self { header, updates })
        } else {
            Err(DatagramError::TrailingBytes { extra: bytes.len() })
        }
    }

    /// What [`Packet::read`] reads.
    pub(super) fn write(&self) -> Result<Vec<u8>, CodecError> {
        let mut bytes = Vec::with_capacity(PACKET_BYTES_MAX);
        PacketCodec.encode_header(&self.header, &mut bytes)?;
        if carries_updates(&self.header.message) {
            // It was read from a datagram of at most 1,150 bytes.
            bytes.put_u16(u16::try_from(self.updates.len()).unwrap_or(u16::MAX));
            self.updates.iter().for_each(|update| write_member(update, &mut bytes));
        }
        Ok(bytes)
    }

    /// MEMBER-4: what a datagram says about its sender and receiver must be what the connection proves.
    pub(super) fn check_ends(&self, peer: NodeId, own: NodeId) -> Result<(), DatagramError> {
        let (claimed, destination) = (self.header.src.id, self.header.dst.id);
        if claimed != peer || claimed == own {
            return Err(DatagramError::ForeignSource { claimed, peer });
        }
        if destination != own {
            return Err(DatagramError::NotForThisNode { destination });
        }
        Ok(())
    }

    /// Everybody whom the datagram says something about, the sender first.
    pub(super) fn subjects(&self) -> impl Iterator<Item = NodeId> + Clone {
        std::iter::once(self.header.src.id).chain(self.updates.iter().map(|update| update.id().id))
    }
}

/// Announcements and the news of one's own death carry nothing else.
fn carries_updates(message: &Message<MemberIdentity>) -> bool {
    !matches!(message, Message::Announce | Message::TurnUndead)
}

const CUT_OFF: DatagramError = malformed("it is cut off");

const fn malformed(what: &'static str) -> DatagramError {
    DatagramError::Malformed { what }
}

/// How [`Packet`] and foca read and write.
#[derive(Debug)]
pub(super) struct PacketCodec;

/// What cannot be written: a bug here, or a packet that is full, which foca expects.
#[derive(Debug, thiserror::Error)]
pub(super) enum EncodeError {
    #[error("the packet is full")]
    Full,
    #[error("this node never sends custom broadcasts")]
    Broadcast,
}

/// Both directions in one, as foca's trait wants it.
#[derive(Debug, thiserror::Error)]
pub(super) enum CodecError {
    #[error(transparent)]
    Read(#[from] DatagramError),
    #[error(transparent)]
    Write(#[from] EncodeError),
}

impl Codec<MemberIdentity> for PacketCodec {
    type Error = CodecError;

    fn encode_header(&mut self, header: &Header<MemberIdentity>, buf: impl BufMut) -> Result<(), CodecError> {
        let mut scratch = [0; HEADER_BYTES_MAX];
        let mut rest = &mut scratch[..];
        write_header(header, &mut rest)?;
        let used = HEADER_BYTES_MAX - rest.len();
        put(&scratch[..used], buf)
    }

    fn decode_header(&mut self, mut buf: impl Buf) -> Result<Header<MemberIdentity>, CodecError> {
        Ok(read_header(&mut buf)?)
    }

    fn encode_member(&mut self, member: &Member<MemberIdentity>, buf: impl BufMut) -> Result<(), CodecError> {
        let mut scratch = [0; MEMBER_BYTES_MAX];
        let mut rest = &mut scratch[..];
        write_member(member, &mut rest);
        let used = MEMBER_BYTES_MAX - rest.len();
        put(&scratch[..used], buf)
    }

    fn decode_member(&mut self, mut buf: impl Buf) -> Result<Member<MemberIdentity>, CodecError> {
        Ok(read_member(&mut buf)?)
    }
}

/// All or nothing: a buffer with a limit panics when it is overrun.
fn put(bytes: &[u8], mut buf: impl BufMut) -> Result<(), CodecError> {
    if buf.remaining_mut() < bytes.len() {
        return Err(EncodeError::Full.into());
    }
    buf.put_slice(bytes);
    Ok(())
}

fn write_header(header: &Header<MemberIdentity>, out: &mut &mut [u8]) -> Result<(), EncodeError> {
    out.put_u8(VERSION);
    write_identity(&header.src, out);
    write_varint(header.src_incarnation.into(), out);
    write_reference(&header.dst, out);
    let (kind, probe, third) = match &header.message {
        Message::Ping(probe) => (0, Some(*probe), None),
        Message::Ack(probe) => (1, Some(*probe), None),
        Message::PingReq { target, probe_number } => (2, Some(*probe_number), Some(target)),
        Message::IndirectPing { origin, probe_number } => (3, Some(*probe_number), Some(origin)),
        Message::IndirectAck { target, probe_number } => (4, Some(*probe_number), Some(target)),
        Message::ForwardedAck { origin, probe_number } => (5, Some(*probe_number), Some(origin)),
        Message::Announce => (6, None, None),
        Message::Feed => (7, None, None),
        Message::Gossip => (8, None, None),
        Message::TurnUndead => (9, None, None),
        Message::Broadcast => return Err(EncodeError::Broadcast),
    };
    out.put_u8(kind);
    if let Some(probe) = probe {
        out.put_u8(probe);
    }
    if let Some(third) = third {
        write_reference(third, out);
    }
    Ok(())
}

pub(super) fn read_header(input: &mut impl Buf) -> Result<Header<MemberIdentity>, DatagramError> {
    let version = input.try_get_u8().map_err(|_| CUT_OFF)?;
    if version != VERSION {
        return Err(DatagramError::Version { found: version, known: VERSION });
    }
    let src = read_identity(input)?;
    if src.has_left() {
        return Err(malformed("its sender has left"));
    }
    let src_incarnation = read_life(input)?;
    let dst = read_reference(input)?;
    let message = read_message(input)?;
    Ok(Header { src, src_incarnation, dst, message })
}

fn read_message(input: &mut impl Buf) -> Result<Message<MemberIdentity>, DatagramError> {
    let kind = input.try_get_u8().map_err(|_| CUT_OFF)?;
    let probe_number = if kind <= 5 { input.try_get_u8().map_err(|_| CUT_OFF)? } else { 0 };
    Ok(match kind {
        0 => Message::Ping(probe_number),
        1 => Message::Ack(probe_number),
        2 => Message::PingReq { target: read_reference(input)?, probe_number },
        3 => Message::IndirectPing { origin: read_reference(input)?, probe_number },
        4 => Message::IndirectAck { target: read_reference(input)?, probe_number },
        5 => Message::ForwardedAck { origin: read_reference(input)?, probe_number },
        6 => Message::Announce,
        7 => Message::Feed,
        8 => Message::Gossip,
        9 => Message::TurnUndead,
        _ => return Err(malformed("its kind is unknown")),
    })
}

pub(super) fn write_member(member: &Member<MemberIdentity>, out: &mut impl BufMut) {
    write_identity(member.id(), out);
    write_varint(member.incarnation().into(), out);
    out.put_u8(match member.state() {
        State::Alive => 0,
        State::Suspect => 1,
        State::Down => 2,
    });
}

pub(super) fn read_member(input: &mut impl Buf) -> Result<Member<MemberIdentity>, DatagramError> {
    let identity = read_identity(input)?;
    let life = read_life(input)?;
    let state = match input.try_get_u8().map_err(|_| CUT_OFF)? {
        0 => State::Alive,
        1 => State::Suspect,
        2 => State::Down,
        _ => return Err(malformed("a member's state is unknown")),
    };
    if identity.has_left() && state != State::Down {
        return Err(malformed("a member has left and is not down"));
    }
    Ok(Member::new(identity, life, state))
}

fn write_identity(identity: &MemberIdentity, out: &mut impl BufMut) {
    write_reference(identity, out);
    let left = if identity.has_left() { FLAG_LEFT } else { 0 };
    match identity.address.ip() {
        IpAddr::V4(ip) => {
            out.put_u8(left);
            out.put_slice(&ip.octets());
        }
        IpAddr::V6(ip) => {
            out.put_u8(left | FLAG_IPV6);
            out.put_slice(&ip.octets());
        }
    }
    out.put_u16(identity.address.port());
}

fn read_identity(input: &mut impl Buf) -> Result<MemberIdentity, DatagramError> {
    let (id, incarnation, renewal) = read_reference_parts(input)?;
    let flags = input.try_get_u8().map_err(|_| CUT_OFF)?;
    if flags & !(FLAG_IPV6 | FLAG_LEFT) != 0 {
        return Err(malformed("an identity has unknown flags"));
    }
    let ip = if flags & FLAG_IPV6 == 0 {
        let mut octets = [0; 4];
        input.try_copy_to_slice(&mut octets).map_err(|_| CUT_OFF)?;
        IpAddr::V4(Ipv4Addr::from(octets))
    } else {
        let mut octets = [0; 16];
        input.try_copy_to_slice(&mut octets).map_err(|_| CUT_OFF)?;
        IpAddr::V6(Ipv6Addr::from(octets))
    };
    let address = SocketAddr::new(ip, input.try_get_u16().map_err(|_| CUT_OFF)?);
    Ok(MemberIdentity::from_parts(id, address, (incarnation, renewal), flags & FLAG_LEFT != 0))
}

fn write_reference(identity: &MemberIdentity, out: &mut impl BufMut) {
    out.put_slice(identity.id.as_bytes());
    write_varint(identity.incarnation, out);
    write_varint(identity.renewal().into(), out);
}

/// An identity without its address, which identities are not compared by.
fn read_reference(input: &mut impl Buf) -> Result<MemberIdentity, DatagramError> {
    let (id, incarnation, renewal) = read_reference_parts(input)?;
    Ok(reference(id, incarnation, renewal))
}

/// The identity of `id`, to send something to: its address is not known and not needed.
pub(super) fn reference(id: NodeId, incarnation: u64, renewal: u32) -> MemberIdentity {
    let nowhere = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);
    MemberIdentity::from_parts(id, nowhere, (incarnation, renewal), false)
}

fn read_reference_parts(input: &mut impl Buf) -> Result<(NodeId, u64, u32), DatagramError> {
    let mut id = [0; 32];
    input.try_copy_to_slice(&mut id).map_err(|_| CUT_OFF)?;
    let incarnation = read_varint(input)?;
    let renewal = u32::try_from(read_varint(input)?).map_err(|_| malformed("a renewal is out of range"))?;
    Ok((NodeId::from_bytes(id), incarnation, renewal))
}

fn read_life(input: &mut impl Buf) -> Result<u16, DatagramError> {
    u16::try_from(read_varint(input)?).map_err(|_| malformed("a life is out of range"))
}

fn write_varint(mut number: u64, out: &mut impl BufMut) {
    while number >= 0x80 {
        out.put_u8((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    out.put_u8(number as u8);
}

/// One number has one form: padding would let the same packet be written in many ways.
fn read_varint(input: &mut impl Buf) -> Result<u64, DatagramError> {
    let mut number = 0_u64;
    for shift in (0..64).step_by(7) {
        let byte = input.try_get_u8().map_err(|_| CUT_OFF)?;
        let bits = u64::from(byte & 0x7f);
        if shift == 63 && bits > 1 {
            return Err(malformed("a number is out of range"));
        }
        number |= bits << shift;
        if byte & 0x80 == 0 {
            return if byte == 0 && shift > 0 { Err(malformed("a number is padded")) } else { Ok(number) };
        }
    }
    Err(malformed("a number is out of range"))
}

#[cfg(test)]
#[path = "packet_tests.rs"]
mod tests;
