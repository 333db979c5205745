use bytes::BytesMut;
use proptest::prelude::*;

use super::*;
use crate::codec::EncodeError;

fn calls() -> impl Strategy<Value = CallId> {
    (any::<u32>(), 1..=u32::MAX)
        .prop_map(|(slot, generation)| CallId { slot, generation: NonZeroU32::new(generation).unwrap() })
}

fn traces() -> impl Strategy<Value = Option<Trace>> {
    proptest::option::of(any::<([u8; 16], [u8; 8], u8)>().prop_map(|(trace_id, span_id, flags)| Trace {
        trace_id,
        span_id,
        flags,
    }))
}

fn headers() -> impl Strategy<Value = Header> {
    let kinds = prop_oneof![Just(Kind::Tell), Just(Kind::Ask), Just(Kind::Reply), Just(Kind::Refusal)];
    let numbers = (any::<u64>(), any::<u64>(), any::<u32>(), 0..NO_DEADLINE, any::<bool>());
    (kinds, calls(), traces(), numbers).prop_map(
        |(kind, call, trace, (target, incarnation, message, ms, has_deadline))| Header {
            kind,
            target: TargetActor(target),
            incarnation,
            call: (kind != Kind::Tell).then_some(call),
            message: MessageType(message),
            deadline_ms: (has_deadline || kind == Kind::Ask).then_some(ms),
            trace,
        },
    )
}

fn bodies() -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(any::<u8>(), 0..300)
}

fn ask() -> Header {
    Header {
        kind: Kind::Ask,
        target: TargetActor(7),
        incarnation: 3,
        call: Some(CallId { slot: 5, generation: NonZeroU32::MIN }),
        message: MessageType(11),
        deadline_ms: Some(1500),
        trace: None,
    }
}

fn frame(header: &Header, body: &[u8]) -> Vec<u8> {
    let mut writer = FrameWriter::with_capacity(0);
    writer.write(header, body).unwrap();
    writer.take().to_vec()
}

fn all(_: MessageType) -> bool {
    true
}

proptest! {
    #[test]
    fn frames_come_back_as_written_however_they_are_cut(
        frames in proptest::collection::vec((headers(), bodies()), 1..8),
        cut in 1_usize..200,
    ) {
        // WIRE-4
        let mut writer = FrameWriter::with_capacity(64);
        for (header, body) in &frames {
            writer.write(header, body).unwrap();
        }
        let sent = writer.take();
        let mut buffer = BytesMut::new();
        let mut read = Vec::new();
        for part in sent.chunks(cut) {
            buffer.extend_from_slice(part);
            while let Taken::Frame { header, body } = take(&mut buffer, all).unwrap() {
                read.push((header, body.to_vec()));
            }
        }
        prop_assert_eq!(read, frames);
        prop_assert!(buffer.is_empty());
    }

    #[test]
    fn a_frame_without_its_last_bytes_is_waited_for_and_never_longer_than_needed(
        header in headers(), body in bodies(), share in 0.0..1.0_f64,
    ) {
        let whole = frame(&header, &body);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss,
            reason = "any place in the frame will do")]
        let have = (whole.len() as f64 * share) as usize;
        let Ok(Parsed::Need(missing)) = parse(&whole[..have], all) else {
            panic!("{have} of {} bytes are no frame", whole.len());
        };
        prop_assert!(missing >= 1 && have + missing <= whole.len());
    }

    #[test]
    fn a_length_that_is_one_off_never_yields_the_same_frame(header in headers(), body in bodies(), longer: bool) {
        let mut bytes = frame(&header, &body);
        let length = u32::from_le_bytes(bytes[4..8].try_into().unwrap());
        let wrong = if longer { length + 1 } else { length - 1 };
        bytes[4..8].copy_from_slice(&wrong.to_le_bytes());
        match parse(&bytes, all) {
            Ok(Parsed::Frame { body: found, .. }) => prop_assert_ne!(found.len(), body.len()),
            Ok(Parsed::Need(missing)) => prop_assert!(longer && missing == 1),
            Ok(Parsed::Refused { .. }) => prop_assert!(false, "nothing here is new"),
            Err(error) => prop_assert_eq!(error.what, Malformed::TooShort { length: wrong }),
        }
    }

    #[test]
    fn no_bytes_make_it_panic_and_what_it_needs_is_bounded(
        mut bytes in proptest::collection::vec(any::<u8>(), 0..200), looks_right: bool,
    ) {
        if looks_right {
            let start = [MAGIC, MAJOR << 4, 0x81];
            for (byte, right) in bytes.iter_mut().zip(start) {
                *byte = right;
            }
        }
        match parse(&bytes, |message| message.0 % 2 == 0) {
            Ok(Parsed::Need(missing)) => prop_assert!(bytes.len() + missing <= FRAME_BYTES_MAX),
            Ok(Parsed::Frame { body, .. }) => prop_assert!(body.end <= bytes.len()),
            Ok(Parsed::Refused { length, .. }) => prop_assert!(length <= bytes.len()),
            Err(error) => prop_assert!(error.at < HEADER_BYTES && !error.to_string().is_empty()),
        }
    }

    #[test]
    fn what_is_read_is_written_the_same(mut bytes in proptest::collection::vec(any::<u8>(), 40..120), kind in 0_usize..4) {
        let kinds = [Kind::Tell, Kind::Reply, Kind::Refusal, Kind::Ask];
        let length = u32::try_from(bytes.len() - PREFIX_BYTES).unwrap();
        let flags = bytes[3] & 1;
        bytes[..4].copy_from_slice(&[MAGIC, MAJOR << 4 | MINOR, kinds[kind] as u8, flags]);
        bytes[4..8].copy_from_slice(&length.to_le_bytes());
        if kinds[kind] == Kind::Tell {
            bytes[24..32].fill(0);
        }
        if let Ok(Parsed::Frame { header, body }) = parse(&bytes, all) {
            prop_assert_eq!(frame(&header, &bytes[body]), bytes);
        }
    }
}

#[test]
fn another_protocol_or_major_version_ends_the_connection_at_its_first_byte() {
    // WIRE-3
    let error = |bytes: &[u8]| parse(bytes, all).unwrap_err();
    assert_eq!(error(b"G"), FrameError { what: Malformed::Magic { found: b'G' }, at: 0 });
    let mut bytes = frame(&ask(), b"x");
    bytes[1] = 0x20;
    assert_eq!(error(&bytes[..2]), FrameError { what: Malformed::Major { found: 2 }, at: 1 });
    assert_eq!(error(&bytes), FrameError { what: Malformed::Major { found: 2 }, at: 1 });
    assert_eq!(error(&bytes).to_string(), "malformed frame, at byte 1: major version 2, this node speaks 1");
}

#[test]
fn what_is_new_is_refused_and_the_next_frame_is_read() {
    // WIRE-3
    let tell = Header { kind: Kind::Tell, call: None, ..ask() };
    let mut newer = frame(&ask(), b"new");
    newer[1] |= 1;
    let mut flagged = newer.clone();
    flagged[3] = 0x10;
    let mut new_ask = frame(&ask(), b"new");
    new_ask[2] = 0x85;
    let mut new_tell = frame(&tell, b"new");
    new_tell[2] = 0x05;
    // A kind of answer that is new: its call is one of ours, and nobody waits at the other end.
    let mut new_answer = frame(&Header { kind: Kind::Reply, ..ask() }, b"new");
    new_answer[2] = 0x06;
    let mut newer_reply = frame(&Header { kind: Kind::Reply, ..ask() }, b"new");
    newer_reply[1] |= 1;
    let new_type = frame(&Header { message: MessageType(99), ..ask() }, b"new");
    let new_type_told = frame(&Header { message: MessageType(99), ..tell }, b"new");
    let answer = frame(&Header { kind: Kind::Reply, message: MessageType(99), ..ask() }, b"old");
    let last = frame(&tell, b"old");
    let mut buffer = BytesMut::from(
        [newer, flagged, new_ask, new_tell, new_answer, newer_reply, new_type, new_type_told, answer, last]
            .concat()
            .as_slice(),
    );
    let mut next = || take(&mut buffer, |message| message.0 != 99).unwrap();
    let refused = |reason, answer_to| Taken::Refused(FrameRefusal { reason, answer_to });
    let call = ask().call;
    assert_eq!(next(), refused(RefusalReason::NewerMinor { minor: 1 }, call));
    assert_eq!(next(), refused(RefusalReason::NewerMinor { minor: 1 }, call));
    assert_eq!(next(), refused(RefusalReason::UnknownKind { kind: 0x85 }, call));
    assert_eq!(next(), refused(RefusalReason::UnknownKind { kind: 0x05 }, None));
    assert_eq!(next(), refused(RefusalReason::UnknownKind { kind: 0x06 }, None));
    assert_eq!(next(), refused(RefusalReason::NewerMinor { minor: 1 }, None));
    assert_eq!(next(), refused(RefusalReason::UnknownMessage { message: 99 }, call));
    assert_eq!(next(), refused(RefusalReason::UnknownMessage { message: 99 }, None));
    assert!(matches!(next(), Taken::Frame { header: Header { kind: Kind::Reply, .. }, .. }));
    assert!(matches!(next(), Taken::Frame { header: Header { kind: Kind::Tell, .. }, .. }));
    assert_eq!(next(), Taken::Need(PREFIX_BYTES));
}

#[test]
fn an_impossible_length_is_noticed_before_anything_is_waited_for() {
    // WIRE-4
    let mut bytes = frame(&ask(), b"x");
    let mut with_length = |length: u32| {
        bytes[4..8].copy_from_slice(&length.to_le_bytes());
        parse(&bytes[..8], all)
    };
    let error = |what| Err(FrameError { what, at: 4 });
    let most = u32::try_from(FRAME_BYTES_MAX - PREFIX_BYTES).unwrap();
    assert_eq!(with_length(u32::MAX), error(Malformed::TooLong { length: u32::MAX }));
    assert_eq!(with_length(most + 1), error(Malformed::TooLong { length: most + 1 }));
    assert_eq!(with_length(most), Ok(Parsed::Need(FRAME_BYTES_MAX - 8)));
    assert_eq!(with_length(31), error(Malformed::TooShort { length: 31 }));
    assert_eq!(with_length(0), error(Malformed::TooShort { length: 0 }));
}

#[test]
fn a_header_that_contradicts_itself_is_neither_written_nor_read() {
    // WIRE-7
    let contradictions = [
        (Header { call: None, ..ask() }, Malformed::NoCall, 28),
        (Header { kind: Kind::Reply, call: None, ..ask() }, Malformed::NoCall, 28),
        (Header { kind: Kind::Tell, ..ask() }, Malformed::CallInTell, 28),
        (Header { deadline_ms: None, ..ask() }, Malformed::NoDeadline, 36),
    ];
    for (header, what, at) in contradictions {
        let mut writer = FrameWriter::with_capacity(0);
        assert_eq!(writer.write(&header, b"x"), Err(WriteError::Header(what)));
        assert!(writer.is_empty());
        let mut bytes = frame(&ask(), b"x");
        bytes[2] = header.kind as u8;
        if header.call.is_none() {
            bytes[24..32].fill(0);
        }
        if header.deadline_ms.is_none() {
            bytes[36..40].fill(0xFF);
        }
        assert_eq!(parse(&bytes, all), Err(FrameError { what, at }));
    }
    let mut bytes = frame(&ask(), b"x");
    bytes[28..32].fill(0);
    assert_eq!(parse(&bytes, all), Err(FrameError { what: Malformed::SlotWithoutCall, at: 24 }));
    let mut bytes = frame(&ask(), b"x");
    bytes[3] = 2;
    assert_eq!(parse(&bytes, all), Err(FrameError { what: Malformed::Flags { found: 2 }, at: 3 }));
}

#[test]
fn the_longest_body_fits_and_a_longer_one_leaves_the_buffer_as_it_was() {
    let mut writer = FrameWriter::with_capacity(0);
    let too_long = Err(WriteError::Body(EncodeError::TooLong { max: BODY_BYTES_MAX }));
    writer.write(&ask(), b"before").unwrap();
    let before = writer.len();
    assert_eq!(writer.write(&ask(), &vec![0; BODY_BYTES_MAX + 1]), too_long);
    assert_eq!(writer.write_value(&ask(), &vec![0_u8; BODY_BYTES_MAX]), too_long);
    assert_eq!(writer.len(), before);
    let traced = Header { trace: Some(Trace { trace_id: [1; 16], span_id: [2; 8], flags: 1 }), ..ask() };
    writer.write(&traced, &vec![0; BODY_BYTES_MAX]).unwrap();
    assert_eq!(writer.len(), before + FRAME_BYTES_MAX);
    let sent = writer.take();
    assert!(matches!(parse(&sent[before..], all), Ok(Parsed::Frame { .. })));
}

#[test]
fn a_value_is_written_as_the_codec_writes_it() {
    let mut writer = FrameWriter::with_capacity(0);
    writer.write_value(&ask(), &("hello", 7_u8)).unwrap();
    let sent = writer.take();
    let Ok(Parsed::Frame { body, .. }) = parse(&sent, all) else { panic!("no frame") };
    assert_eq!(crate::codec::decode::<(String, u8)>(&sent[body]).unwrap(), ("hello".to_owned(), 7));
}

/// The layout is a contract: this is what other versions of this program read.
#[test]
fn the_bytes_of_a_frame_never_change() {
    let traced =
        Header { trace: Some(Trace { trace_id: [0xAA; 16], span_id: [0xBB; 8], flags: 1 }), ..ask() };
    let expected = [
        "a7108101",
        "3e000000",
        "0700000000000000",
        "0300000000000000",
        "05000000",
        "01000000",
        "0b000000",
        "dc050000",
        &"aa".repeat(16),
        &"bb".repeat(8),
        "01",
        "68656c6c6f",
    ];
    assert_eq!(base16ct::lower::encode_string(&frame(&traced, b"hello")), expected.concat());
}

#[test]
fn the_buffer_is_used_again() {
    let mut writer = FrameWriter::with_capacity(4096);
    let mut places = std::collections::BTreeSet::new();
    for _ in 0..1000 {
        writer.write(&ask(), &[7; 100]).unwrap();
        places.insert(writer.take().as_ptr() as usize / 4096);
    }
    assert!(places.len() <= 2, "{} places", places.len());
}
