use proptest::prelude::*;

use super::*;
use crate::membership::record::RecordKey;

fn member_id() -> impl Strategy<Value = NodeId> {
    any::<[u8; 32]>().prop_map(NodeId::from_bytes)
}

fn identity(left: bool) -> impl Strategy<Value = MemberIdentity> {
    (member_id(), any::<SocketAddr>(), any::<u64>(), any::<u32>()).prop_map(
        move |(id, address, incarnation, renewal)| {
            MemberIdentity::from_parts(id, address, (incarnation, renewal), left)
        },
    )
}

fn message() -> impl Strategy<Value = Message<MemberIdentity>> {
    let third = || (identity(false), any::<u8>());
    prop_oneof![
        any::<u8>().prop_map(Message::Ping),
        any::<u8>().prop_map(Message::Ack),
        third().prop_map(|(target, probe_number)| Message::PingReq { target, probe_number }),
        third().prop_map(|(origin, probe_number)| Message::IndirectPing { origin, probe_number }),
        third().prop_map(|(target, probe_number)| Message::IndirectAck { target, probe_number }),
        third().prop_map(|(origin, probe_number)| Message::ForwardedAck { origin, probe_number }),
        Just(Message::Announce),
        Just(Message::Feed),
        Just(Message::Gossip),
        Just(Message::TurnUndead),
    ]
}

fn member() -> impl Strategy<Value = Member<MemberIdentity>> {
    let live = (identity(false), any::<u16>(), prop_oneof![Just(State::Alive), Just(State::Suspect)]);
    let down = (any::<bool>().prop_flat_map(identity), any::<u16>(), Just(State::Down));
    prop_oneof![live, down].prop_map(|(identity, life, state)| Member::new(identity, life, state))
}

/// As the nodes themselves would sign it.
fn write(header: &Header<MemberIdentity>, updates: &[Member<MemberIdentity>]) -> Vec<u8> {
    let key = RecordKey::simulated();
    let source = key.sign(header.src, header.src_incarnation);
    let signed = |member: &Member<MemberIdentity>| key.sign(*member.id(), member.incarnation());
    let statements: Vec<Statement> =
        updates.iter().map(|update| Statement::about(update, signed(update))).collect();
    rewrite(&Packet { source, header: header.clone(), statements })
}

fn rewrite(packet: &Packet) -> Vec<u8> {
    let mut bytes = Vec::new();
    write_header(&packet.source, &packet.header, &mut bytes).unwrap();
    if carries_updates(&packet.header.message) {
        bytes.put_u16(u16::try_from(packet.statements.len()).unwrap());
        packet.statements.iter().for_each(|statement| statement.write(&mut bytes));
    }
    bytes
}

/// What is said, in the words of the protocol library.
fn members(packet: &Packet) -> Vec<Member<MemberIdentity>> {
    let member = |said: &Statement| Member::new(said.record.identity, said.life, said.state);
    packet.statements.iter().map(member).collect()
}

/// Everything, the parts that equality leaves out too.
fn shown(packet: &Packet) -> String {
    format!("{packet:?}")
}

fn a_ping() -> Header<MemberIdentity> {
    Header {
        src: MemberIdentity::new(NodeId::from_bytes([1; 32]), "10.0.0.1:7000".parse().unwrap(), 3),
        src_incarnation: 0,
        dst: reference(NodeId::from_bytes([2; 32]), 5, 0),
        message: Message::Ping(9),
    }
}

proptest! {
    #[test]
    fn a_packet_reads_as_it_was_written(
        src in identity(false), life in any::<u16>(), dst in identity(false), message in message(),
        updates in prop::collection::vec(member(), 0..6),
    ) {
        let carried = if carries_updates(&message) { updates } else { Vec::new() };
        let header = Header { src, src_incarnation: life, dst, message };
        let bytes = write(&header, &carried);
        let packet = Packet::read(&bytes).unwrap();
        prop_assert_eq!(&packet.header, &header);
        prop_assert_eq!(packet.header.src.address, header.src.address);
        prop_assert_eq!(&members(&packet), &carried);
        let addresses = |members: &[Member<MemberIdentity>]| -> Vec<(SocketAddr, bool)> {
            members.iter().map(|member| (member.id().address, member.id().has_left())).collect()
        };
        prop_assert_eq!(addresses(&members(&packet)), addresses(&carried));
    }

    // MEMBER-3
    #[test]
    fn no_bytes_can_make_reading_panic_and_one_packet_has_one_form(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let mut bytes = bytes;
        if let Some(first) = bytes.first_mut() { *first = VERSION; }
        if let Ok(packet) = Packet::read(&bytes) {
            prop_assert_eq!(rewrite(&packet), bytes);
        }
    }

    #[test]
    fn a_damaged_packet_is_refused_or_written_back_the_same(
        message in message(), updates in prop::collection::vec(member(), 0..4),
        at in any::<prop::sample::Index>(), byte in any::<u8>(),
    ) {
        let mut header = a_ping();
        header.message = message;
        let mut bytes = write(&header, &updates);
        let at = at.index(bytes.len());
        bytes[at] = byte;
        if let Ok(packet) = Packet::read(&bytes) {
            prop_assert_eq!(rewrite(&packet), bytes, "{}", shown(&packet));
        }
    }

    #[test]
    fn a_packet_cut_off_anywhere_is_refused(updates in prop::collection::vec(member(), 0..4), message in message()) {
        let header = Header { message, ..a_ping() };
        let bytes = write(&header, &updates);
        for length in 0..bytes.len() {
            prop_assert_eq!(Packet::read(&bytes[..length]).unwrap_err(), CUT_OFF);
        }
    }
}

#[test]
fn every_byte_after_the_content_is_refused() {
    for message in [Message::Ping(1), Message::Announce, Message::TurnUndead] {
        let mut bytes = write(&Header { message, ..a_ping() }, &[]);
        bytes.push(0);
        assert_eq!(Packet::read(&bytes).unwrap_err(), DatagramError::TrailingBytes { extra: 1 });
    }
}

#[test]
fn a_packet_of_another_version_or_size_is_refused_by_name() {
    let mut bytes = write(&a_ping(), &[]);
    bytes[0] = 1;
    assert_eq!(Packet::read(&bytes).unwrap_err(), DatagramError::Version { found: 1, known: 2 });
    let long = [VERSION; PACKET_BYTES_MAX + 1];
    let error = DatagramError::TooLarge { length: PACKET_BYTES_MAX + 1, max: PACKET_BYTES_MAX };
    assert_eq!(Packet::read(&long).unwrap_err(), error);
}

#[test]
fn numbers_have_one_form_and_a_range() {
    let read = |bytes: &[u8]| read_varint(&mut &*bytes);
    assert_eq!(read(&[0]), Ok(0));
    assert_eq!(read(&[0xff, 0x01]), Ok(255));
    assert_eq!(read(&[0x80, 0]), Err(malformed("a number is padded")));
    let max = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01];
    assert_eq!(read(&max), Ok(u64::MAX));
    let above = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02];
    assert_eq!(read(&above), Err(malformed("a number is out of range")));
    assert_eq!(read(&[0xff; 11]), Err(malformed("a number is out of range")));
}

#[test]
fn whoever_has_left_can_only_be_down() {
    let gone = a_ping().src.leaving();
    let mut packet = Packet::read(&write(&a_ping(), &[Member::down(gone)])).unwrap();
    packet.statements[0].state = State::Suspect;
    let bytes = rewrite(&packet);
    assert_eq!(Packet::read(&bytes).unwrap_err(), malformed("a member has left and is not down"));
    let bytes = write(&Header { src: gone, ..a_ping() }, &[]);
    assert_eq!(Packet::read(&bytes).unwrap_err(), malformed("its sender has left"));
}

#[test]
fn the_ends_must_be_those_of_the_connection() {
    // MEMBER-4
    let packet = Packet::read(&write(&a_ping(), &[])).unwrap();
    let (one, two, three) =
        (NodeId::from_bytes([1; 32]), NodeId::from_bytes([2; 32]), NodeId::from_bytes([3; 32]));
    assert_eq!(packet.check_ends(one, two), Ok(()));
    assert_eq!(
        packet.check_ends(three, two),
        Err(DatagramError::ForeignSource { claimed: one, peer: three })
    );
    assert_eq!(packet.check_ends(one, three), Err(DatagramError::NotForThisNode { destination: two }));
    assert_eq!(packet.check_ends(one, one), Err(DatagramError::ForeignSource { claimed: one, peer: one }));
}

#[test]
fn the_longest_header_and_member_fit_their_bounds() {
    let far = MemberIdentity::from_parts(
        NodeId::from_bytes([9; 32]),
        "[2001:db8::1]:65535".parse().unwrap(),
        (u64::MAX, u32::MAX),
        false,
    );
    let message = Message::PingReq { target: far, probe_number: 255 };
    let header = Header { src: far, src_incarnation: u16::MAX, dst: far, message };
    assert_eq!(write(&header, &[]).len() - 2, HEADER_BYTES_MAX);
    let member = Member::new(far, u16::MAX, State::Down);
    assert_eq!(write(&header, &[member]).len() - HEADER_BYTES_MAX - 2, MEMBER_BYTES_MAX);
}

#[test]
fn a_ping_in_a_cluster_of_few_starts_takes_145_bytes() {
    assert_eq!(write(&a_ping(), &[]).len(), 145);
}

#[test]
fn what_was_judged_is_handed_over_as_it_is() {
    let v6 = MemberIdentity::new(NodeId::from_bytes([9; 32]), "[::ffff:10.0.0.1]:1".parse().unwrap(), 4);
    let gone = a_ping().src.leaving();
    let members = [Member::new(v6, 3, State::Suspect), Member::down(gone), Member::alive(a_ping().src)];
    let bytes = judged::write(&a_ping(), &members).unwrap();
    let mut rest = &bytes[..];
    assert_eq!(judged::read_header(&mut rest).unwrap(), a_ping());
    assert_eq!(rest.get_u16(), 3);
    for member in members {
        let read = judged::read_member(&mut rest).unwrap();
        assert_eq!(read, member);
        assert_eq!((read.id().address, read.id().has_left()), (member.id().address, member.id().has_left()));
    }
    assert!(rest.is_empty());
}
