//! Datagrams of a member that says what it likes.

use bytes::BufMut as _;
use foca::{Header, Member, Message, State};

use crate::membership::MemberIdentity;
pub(crate) use crate::membership::packet::Statement;
use crate::membership::packet::{carries_updates, write_header};
use crate::membership::record::{Record, RecordKey};

/// What `key` signs of a member: its own, if it is the key of that node.
pub(crate) fn record(key: &RecordKey, member: &Member<MemberIdentity>) -> Statement {
    Statement::about(member, key.sign(*member.id(), member.incarnation()))
}

/// What another one has signed in the name of a node.
pub(crate) fn forged(identity: MemberIdentity) -> Statement {
    let mut bytes = Vec::new();
    RecordKey::simulated().sign(identity, 0).write(&mut bytes);
    let signature = bytes.len() - 64;
    bytes[signature] ^= 1;
    let record = Record::read(&mut &bytes[..]).unwrap();
    let state = if identity.has_left() { State::Down } else { State::Alive };
    Statement { record, state, life: 0 }
}

/// A datagram from the first to the second.
pub(crate) fn datagram(
    (src, src_incarnation, key): (MemberIdentity, u16, &RecordKey),
    dst: MemberIdentity,
    message: Message<MemberIdentity>,
    statements: &[Statement],
) -> Vec<u8> {
    let source = key.sign(src, src_incarnation);
    let has_updates = carries_updates(&message);
    let mut bytes = Vec::new();
    write_header(&source, &Header { src, src_incarnation, dst, message }, &mut bytes).unwrap();
    if has_updates {
        bytes.put_u16(u16::try_from(statements.len()).unwrap());
        statements.iter().for_each(|statement| statement.write(&mut bytes));
    }
    bytes
}

/// Says nothing but this.
pub(crate) fn gossip(
    (own, key): (MemberIdentity, &RecordKey),
    to: MemberIdentity,
    statements: &[Statement],
) -> Vec<u8> {
    datagram((own, 0, key), to, Message::Gossip, statements)
}

/// That a node, which has signed that it is there, is down.
pub(crate) fn down(key_of_node: &RecordKey, identity: MemberIdentity) -> Statement {
    record(key_of_node, &Member::down(identity))
}

/// What a node says of itself.
pub(crate) fn alive(key_of_node: &RecordKey, identity: MemberIdentity) -> Statement {
    record(key_of_node, &Member::alive(identity))
}

/// The next renewal of it, at the same address.
pub(crate) fn renewed(identity: MemberIdentity) -> MemberIdentity {
    identity.renewed_at(identity.address).unwrap()
}

/// Its good-bye.
pub(crate) fn left(identity: MemberIdentity) -> MemberIdentity {
    identity.leaving()
}
