//! The bytes of a membership datagram: layout, limits, and who may say what.
//!
//! ```text
//! packet    = version source reference message [count member*]
//! source    = record                        the sender's
//! reference = node[32] incarnation renewal  whom it is for
//! message   = kind[1] [probe[1]] [reference]
//! member    = record state[1] [life]        0 alive, 1 suspect, 2 down
//! ```
//!
//! A record is what a node says of itself, with its signature. Alive is the record itself, and so is down of
//! a node that has left; suspect and down of another are what others say, of the `life` that follows.
//!
//! Numbers of fixed size are big-endian, `incarnation`, `renewal` and `life` are LEB128 varints without
//! padding. The layout is written by hand, not derived: it is a third smaller than any general format, each
//! byte has one meaning, and nothing in it has a length of its own. The protocol library reads another one,
//! without signatures: it gets only what has been judged. Owns the layout and the refusals; refuses to know
//! what the messages mean.

pub(super) mod judged;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use bytes::{Buf, BufMut};
use foca::{Codec, Header, Member, Message, State};
use parking_lot::Mutex;

use super::config::PACKET_BYTES_MAX;
use super::identity::MemberIdentity;
use super::record::{RECORD_BYTES_MAX, Record, Records};
use crate::identity::NodeId;

/// The version of the layout. A node of another version is refused, not misread. Version 1 had no signatures.
const VERSION: u8 = 2;

/// The longest header: a record, two references, and the rest of a message.
const HEADER_BYTES_MAX: usize = RECORD_BYTES_MAX + 2 * (32 + 10 + 5) + 3;
/// The longest member: a record, a state and a life.
const MEMBER_BYTES_MAX: usize = RECORD_BYTES_MAX + 4;

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
    /// Its sender is of an earlier start than the one that has said hello.
    #[error("membership datagram refused: a later start of its sender, node {peer}, has said hello")]
    OldStart {
        /// The sender.
        peer: NodeId,
    },
    /// Somebody signed a record in the name of another node. Who passes it on has not looked, or lies.
    #[error("membership datagram refused: the record of node {subject} in it is not signed by that node")]
    Forged {
        /// The node that it claims to be of.
        subject: NodeId,
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

/// What is said of a member.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Statement {
    pub(super) record: Record,
    pub(super) state: State,
    /// The life that is doubted; that of the record, where the record is all that is said.
    pub(super) life: u16,
}

/// One whole datagram.
#[derive(Debug)]
pub(super) struct Packet {
    pub(super) source: Record,
    pub(super) header: Header<MemberIdentity>,
    pub(super) statements: Vec<Statement>,
}

impl Packet {
    /// MEMBER-3: reads `bytes` to the last one, before anything acts on them.
    pub(super) fn read(mut bytes: &[u8]) -> Result<Self, DatagramError> {
        if bytes.len() > PACKET_BYTES_MAX {
            return Err(DatagramError::TooLarge { length: bytes.len(), max: PACKET_BYTES_MAX });
        }
        let (source, header) = read_header(&mut bytes)?;
        let mut statements = Vec::new();
        if carries_updates(&header.message) {
            let count = bytes.try_get_u16().map_err(|_| CUT_OFF)?;
            for _ in 0..count {
                statements.push(read_statement(&mut bytes)?);
            }
        }
        if bytes.is_empty() {
            Ok(Self { source, header, statements })
        } else {
            Err(DatagramError::TrailingBytes { extra: bytes.len() })
        }
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
        std::iter::once(self.header.src.id).chain(self.statements.iter().map(|said| said.record.identity.id))
    }
}

/// Announcements and the news of one's own death carry nothing else.
pub(super) fn carries_updates(message: &Message<MemberIdentity>) -> bool {
    !matches!(message, Message::Announce | Message::TurnUndead)
}

pub(super) const CUT_OFF: DatagramError = malformed("it is cut off");

pub(super) const fn malformed(what: &'static str) -> DatagramError {
    DatagramError::Malformed { what }
}

/// How foca writes what other nodes read, and reads what [`judged`] wrote.
#[derive(Clone, Debug)]
pub(super) struct PacketCodec {
    pub(super) records: Arc<Mutex<Records>>,
}

/// What cannot be written: a bug here, or a packet that is full, which foca expects.
#[derive(Debug, thiserror::Error)]
pub(super) enum EncodeError {
    #[error("the packet is full")]
    Full,
    #[error("this node never sends custom broadcasts")]
    Broadcast,
    #[error("nothing proves that there is such a member")]
    Unproven,
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
        let source = self.records.lock().own(header.src, header.src_incarnation);
        let mut scratch = [0; HEADER_BYTES_MAX];
        let mut rest = &mut scratch[..];
        write_header(&source, header, &mut rest)?;
        let used = HEADER_BYTES_MAX - rest.len();
        put(&scratch[..used], buf)
    }

    fn decode_header(&mut self, mut buf: impl Buf) -> Result<Header<MemberIdentity>, CodecError> {
        Ok(judged::read_header(&mut buf)?)
    }

    fn encode_member(&mut self, member: &Member<MemberIdentity>, buf: impl BufMut) -> Result<(), CodecError> {
        let record = self.records.lock().proof_of(member).ok_or(EncodeError::Unproven)?;
        let mut scratch = [0; MEMBER_BYTES_MAX];
        let mut rest = &mut scratch[..];
        Statement::about(member, record).write(&mut rest);
        let used = MEMBER_BYTES_MAX - rest.len();
        put(&scratch[..used], buf)
    }

    fn decode_member(&mut self, mut buf: impl Buf) -> Result<Member<MemberIdentity>, CodecError> {
        Ok(judged::read_member(&mut buf)?)
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

pub(super) fn write_header(
    source: &Record,
    header: &Header<MemberIdentity>,
    out: &mut impl BufMut,
) -> Result<(), EncodeError> {
    out.put_u8(VERSION);
    source.write(out);
    write_rest(header, out)
}

/// What follows the source.
fn write_rest(header: &Header<MemberIdentity>, out: &mut impl BufMut) -> Result<(), EncodeError> {
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

pub(super) fn read_header(input: &mut impl Buf) -> Result<(Record, Header<MemberIdentity>), DatagramError> {
    let version = input.try_get_u8().map_err(|_| CUT_OFF)?;
    if version != VERSION {
        return Err(DatagramError::Version { found: version, known: VERSION });
    }
    let source = Record::read(input)?;
    if source.identity.has_left() {
        return Err(malformed("its sender has left"));
    }
    Ok((source, read_rest(input, source.identity, source.life)?))
}

fn read_rest(
    input: &mut impl Buf,
    src: MemberIdentity,
    src_incarnation: u16,
) -> Result<Header<MemberIdentity>, DatagramError> {
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

impl Statement {
    /// What is said of a member, with the newest record of its node. Of a life that is over nothing is left
    /// to be said but that there is a newer one.
    pub(super) fn about(member: &Member<MemberIdentity>, record: Record) -> Self {
        let is_this_life = *member.id() == record.identity;
        let state = if record.identity.has_left() {
            State::Down
        } else if is_this_life {
            member.state()
        } else {
            State::Alive
        };
        let life = if state == State::Alive { record.life } else { member.incarnation() };
        Self { record, state, life }
    }

    /// The record is all that is said: nobody but its node could.
    pub(super) fn is_bare(&self) -> bool {
        self.state == State::Alive || self.record.identity.has_left()
    }

    pub(super) fn write(&self, out: &mut impl BufMut) {
        self.record.write(out);
        out.put_u8(match self.state {
            State::Alive => 0,
            State::Suspect => 1,
            State::Down => 2,
        });
        if !self.is_bare() {
            write_varint(self.life.into(), out);
        }
    }
}

pub(super) fn read_statement(input: &mut impl Buf) -> Result<Statement, DatagramError> {
    let record = Record::read(input)?;
    let state = read_state(input)?;
    if record.identity.has_left() && state != State::Down {
        return Err(malformed("a member has left and is not down"));
    }
    let mut statement = Statement { record, state, life: record.life };
    if !statement.is_bare() {
        statement.life = read_life(input)?;
    }
    Ok(statement)
}

fn read_state(input: &mut impl Buf) -> Result<State, DatagramError> {
    match input.try_get_u8().map_err(|_| CUT_OFF)? {
        0 => Ok(State::Alive),
        1 => Ok(State::Suspect),
        2 => Ok(State::Down),
        _ => Err(malformed("a member's state is unknown")),
    }
}

pub(super) fn write_reference(identity: &MemberIdentity, out: &mut impl BufMut) {
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

pub(super) fn read_reference_parts(input: &mut impl Buf) -> Result<(NodeId, u64, u32), DatagramError> {
    let mut id = [0; 32];
    input.try_copy_to_slice(&mut id).map_err(|_| CUT_OFF)?;
    let incarnation = read_varint(input)?;
    let renewal = u32::try_from(read_varint(input)?).map_err(|_| malformed("a renewal is out of range"))?;
    Ok((NodeId::from_bytes(id), incarnation, renewal))
}

pub(super) fn read_life(input: &mut impl Buf) -> Result<u16, DatagramError> {
    u16::try_from(read_varint(input)?).map_err(|_| malformed("a life is out of range"))
}

pub(super) fn write_varint(mut number: u64, out: &mut impl BufMut) {
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
