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

/// Few of them, so that one often follows itself.
fn addresses() -> impl Strategy<Value = Address> {
    let actors = prop_oneof![0..3_u64, any::<u64>()];
    let messages = prop_oneof![0..3_u32, any::<u32>()];
    (actors, messages).prop_map(|(actor, message)| to(actor, message))
}

fn headers() -> impl Strategy<Value = Header> {
    prop_oneof![
        3 => (addresses(), traces()).prop_map(|(to, trace)| Header::Tell { to, trace }),
        3 => (addresses(), traces(), calls(), any::<u32>())
            .prop_map(|(to, trace, call, deadline_ms)| Header::Ask { to, trace, call, deadline_ms }),
        1 => calls().prop_map(|call| Header::Reply { call }),
        1 => calls().prop_map(|call| Header::Refusal { call }),
        1 => calls().prop_map(|call| Header::Cancel { call }),
        1 => any::<(u64, u32, u32)>()
            .prop_map(|(actor, tells, bytes)| Header::Taken { actor: TargetActor(actor), tells, bytes }),
    ]
}

fn bodies() -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(any::<u8>(), 0..300)
}

fn to(actor: u64, message: u32) -> Address {
    Address { actor: TargetActor(actor), message: MessageType(message) }
}

fn call() -> CallId {
    CallId { slot: 5, generation: NonZeroU32::MIN }
}

fn ask() -> Header {
    Header::Ask { to: to(7, 11), trace: None, call: call(), deadline_ms: 1500 }
}

fn tell() -> Header {
    Header::Tell { to: to(7, 11), trace: None }
}

fn traced() -> Header {
    let trace = Some(Trace { trace_id: [0xAA; 16], span_id: [0xBB; 8], flags: 1 });
    Header::Ask { to: to(7, 11), trace, call: call(), deadline_ms: 1500 }
}

/// As the first frame of a lane.
fn frame(header: &Header, body: &[u8]) -> Vec<u8> {
    let mut writer = FrameWriter::with_capacity(0);
    writer.write(header, body).unwrap();
    writer.take().to_vec()
}

fn read(bytes: &[u8]) -> Result<Parsed, FrameError> {
    FrameReader::default().read(bytes)
}

proptest! {
    #[test]
    fn frames_come_back_as_written_however_they_are_cut_and_taken(
        frames in proptest::collection::vec((headers(), bodies(), any::<bool>()), 1..12),
        cut in 1_usize..200,
    ) {
        // WIRE-4
        let mut writer = FrameWriter::with_capacity(64);
        let mut sent = Vec::new();
        for (header, body, take) in &frames {
            writer.write(header, body).unwrap();
            if *take {
                sent.extend_from_slice(&writer.take());
            }
        }
        sent.extend_from_slice(&writer.take());
        let (mut reader, mut buffer, mut came) = (FrameReader::default(), Vec::new(), Vec::new());
        for part in sent.chunks(cut) {
            buffer.extend_from_slice(part);
            while let Parsed::Frame { header, body } = reader.read(&buffer).unwrap() {
                let end = body.end;
                came.push((header, buffer[body].to_vec()));
                buffer.drain(..end);
            }
        }
        let expected: Vec<_> = frames.into_iter().map(|(header, body, _)| (header, body)).collect();
        prop_assert_eq!(came, expected);
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
        let Ok(Parsed::Need(missing)) = read(&whole[..have]) else {
            panic!("{have} of {} bytes are no frame", whole.len());
        };
        prop_assert!(missing >= 1 && have + missing <= whole.len());
    }

    #[test]
    fn a_length_that_is_one_off_never_yields_the_same_frame(header in headers(), body in bodies(), longer: bool) {
        let mut bytes = frame(&header, &body);
        let length = u32::from_le_bytes([bytes[2], bytes[3], bytes[4], 0]);
        let wrong = if longer { length + 1 } else { length - 1 };
        bytes[2..5].copy_from_slice(&wrong.to_le_bytes()[..3]);
        match read(&bytes) {
            Ok(Parsed::Frame { body: found, .. }) => prop_assert_ne!(found.len(), body.len()),
            Ok(Parsed::Need(missing)) => prop_assert!(longer && missing == 1),
            Ok(Parsed::Refused { .. }) => prop_assert!(false, "nothing here is new"),
            Err(error) => prop_assert_eq!(error.what, Malformed::TooShort { length: wrong }),
        }
    }

    #[test]
    fn no_bytes_make_it_panic_and_what_it_needs_is_bounded(
        mut bytes in proptest::collection::vec(any::<u8>(), 0..200), kind: u8, is_short: bool,
    ) {
        let start = [MARK, kind, if is_short { 60 } else { bytes.get(2).copied().unwrap_or(0) }, 0, 0];
        for (byte, right) in bytes.iter_mut().zip(start) {
            *byte = right;
        }
        let mut reader = FrameReader::default();
        for _ in 0..2 {
            match reader.read(&bytes) {
                Ok(Parsed::Need(missing)) => prop_assert!(bytes.len() + missing <= FRAME_BYTES_MAX),
                Ok(Parsed::Frame { body, .. }) => prop_assert!(body.end <= bytes.len()),
                Ok(Parsed::Refused { length, .. }) => prop_assert!(length <= bytes.len()),
                Err(error) => prop_assert!(error.at < HEADER_BYTES_MAX && !error.to_string().is_empty()),
            }
        }
    }

    #[test]
    fn what_is_read_is_written_the_same(
        mut bytes in proptest::collection::vec(any::<u8>(), 60..120), kind in 0_usize..6, is_traced: bool,
    ) {
        let length = u32::try_from(bytes.len() - PREFIX_BYTES).unwrap().to_le_bytes();
        let kind = [TELL, REPLY, REFUSAL, ASK, TAKEN, CANCEL][kind];
        let flags = if is_traced && (kind == TELL || kind == ASK) { HAS_TRACE } else { 0 };
        bytes[..5].copy_from_slice(&[MARK | MINOR, kind | flags, length[0], length[1], length[2]]);
        if let Ok(Parsed::Frame { header, body }) = read(&bytes) {
            prop_assert_eq!(frame(&header, &bytes[body]), bytes);
        }
    }
}

#[test]
fn another_protocol_ends_the_connection_at_its_first_byte() {
    // WIRE-3
    let error = |bytes: &[u8]| read(bytes).unwrap_err();
    assert_eq!(error(b"G"), FrameError { what: Malformed::Mark { found: b'G' }, at: 0 });
    assert_eq!(error(&[0]).to_string(), "malformed frame, at byte 0: it begins with 0x00, not 0xa0");
}

#[test]
fn what_is_new_is_refused_and_the_next_frame_is_read() {
    // WIRE-3
    let changed = |header: &Header, at: usize, byte: u8| {
        let mut bytes = frame(header, b"new");
        bytes[at] = byte;
        bytes
    };
    let (reply, newer) = (Header::Reply { call: call() }, MARK | (MINOR + 1));
    let mut flagged = changed(&ask(), 0, newer);
    flagged[1] |= 0x0F;
    let frames = [
        changed(&ask(), 0, newer),
        flagged,
        changed(&ask(), 1, ASK | 0x05),
        changed(&tell(), 1, 0x05),
        // A kind of answer that is new: its call is one of ours, and nobody waits at the other end.
        changed(&reply, 1, REPLY | 0x05),
        changed(&reply, 0, newer),
        // Somebody waits, and does not say for which call.
        changed(&tell(), 1, WANTS_ANSWER),
        frame(&reply, b"old"),
        frame(&tell(), b"old"),
    ];
    let (bytes, mut at, mut reader) = (frames.concat(), 0, FrameReader::default());
    let mut next = || {
        let parsed = reader.read(&bytes[at..]).unwrap();
        at += match &parsed {
            Parsed::Need(_) => 0,
            Parsed::Frame { body, .. } => body.end,
            Parsed::Refused { length, .. } => *length,
        };
        parsed
    };
    let mut refused = || match next() {
        Parsed::Refused { refusal: FrameRefusal { reason, answer_to }, .. } => (reason, answer_to),
        other => panic!("{other:?}"),
    };
    let of_newer = RefusalReason::NewerMinor { minor: MINOR + 1 };
    assert_eq!(refused(), (of_newer, Some(call())));
    assert_eq!(refused(), (of_newer, Some(call())));
    assert_eq!(refused(), (RefusalReason::UnknownKind { kind: ASK | 0x05 }, Some(call())));
    assert_eq!(refused(), (RefusalReason::UnknownKind { kind: 0x05 }, None));
    assert_eq!(refused(), (RefusalReason::UnknownKind { kind: REPLY | 0x05 }, None));
    assert_eq!(refused(), (of_newer, None));
    assert_eq!(refused(), (RefusalReason::UnknownKind { kind: WANTS_ANSWER }, None));
    assert!(matches!(next(), Parsed::Frame { header: Header::Reply { .. }, .. }));
    assert!(matches!(next(), Parsed::Frame { header: Header::Tell { .. }, .. }));
    assert_eq!(next(), Parsed::Need(PREFIX_BYTES));
}

#[test]
fn an_impossible_length_is_noticed_before_anything_is_waited_for() {
    // WIRE-4
    let with_length = |length: u32| {
        let mut bytes = frame(&ask(), b"x");
        bytes[2..5].copy_from_slice(&length.to_le_bytes()[..3]);
        read(&bytes[..5])
    };
    let error = |what| Err(FrameError { what, at: 2 });
    let most = u32::try_from(FRAME_BYTES_MAX - PREFIX_BYTES).unwrap();
    assert_eq!(with_length(0xFF_FFFF), error(Malformed::TooLong { length: 0xFF_FFFF }));
    assert_eq!(with_length(most + 1), error(Malformed::TooLong { length: most + 1 }));
    assert_eq!(with_length(most), Ok(Parsed::Need(FRAME_BYTES_MAX - 5)));
    assert_eq!(with_length(23), error(Malformed::TooShort { length: 23 }));
    assert_eq!(with_length(24), Ok(Parsed::Need(24)));
    assert_eq!(with_length(0), error(Malformed::TooShort { length: 0 }));
}

#[test]
fn a_header_that_contradicts_itself_is_not_read() {
    // WIRE-7: a tell with a call, and an ask without one, are kinds that nobody knows.
    let changed = |header: &Header, at: usize, bytes: &[u8]| {
        let mut frame = frame(header, b"x");
        frame[at..at + bytes.len()].copy_from_slice(bytes);
        read(&frame)
    };
    let unknown = |parsed| {
        matches!(
            parsed,
            Ok(Parsed::Refused {
                refusal: FrameRefusal { reason: RefusalReason::UnknownKind { .. }, .. },
                ..
            })
        )
    };
    assert!(unknown(changed(&ask(), 1, &[TELL | HAS_CALL])));
    assert!(unknown(changed(&ask(), 1, &[ASK & !HAS_CALL])));
    assert!(unknown(changed(&tell(), 1, &[REPLY & !HAS_CALL])));
    let error = |what, at| Err(FrameError { what, at });
    assert_eq!(changed(&ask(), 9, &[0; 4]), error(Malformed::NoCall, 9));
    let reply = Header::Reply { call: call() };
    assert_eq!(changed(&reply, 1, &[REPLY | HAS_TRACE]), error(Malformed::Flags { found: HAS_TRACE }, 1));
    assert_eq!(
        changed(&reply, 1, &[REPLY | SAME_ADDRESS]),
        error(Malformed::Flags { found: SAME_ADDRESS }, 1)
    );
}

#[test]
fn an_address_is_written_once_and_never_taken_from_what_was_not_understood() {
    let mut writer = FrameWriter::with_capacity(0);
    let other = Header::Tell { to: to(7, 12), trace: None };
    let long = [0; BODY_BYTES_MAX + 1];
    let mut bytes_of = |header: &Header, body: &[u8]| {
        let _ = writer.write(header, body);
        writer.take().to_vec()
    };
    let first = bytes_of(&tell(), b"");
    assert_eq!((first.len(), bytes_of(&tell(), b"").len()), (17, 5));
    assert_eq!(bytes_of(&ask(), b"").len(), 17, "a call and a deadline");
    assert_eq!(bytes_of(&Header::Reply { call: call() }, b"").len(), 13);
    assert_eq!(bytes_of(&other, &long).len(), 0);
    let second = bytes_of(&tell(), b"");
    assert_eq!(second.len(), 5, "what was not written is referred to by nothing");
    assert_eq!(bytes_of(&other, b"").len(), 17);

    let nothing_before = Err(FrameError { what: Malformed::NoFrameBefore, at: 1 });
    assert_eq!(read(&second), nothing_before);
    let mut reader = FrameReader::default();
    assert!(matches!(reader.read(&first), Ok(Parsed::Frame { .. })));
    assert!(matches!(reader.read(&second), Ok(Parsed::Frame { header, .. }) if header == tell()));
    let mut newer = first;
    newer[0] += 1;
    assert!(matches!(reader.read(&newer), Ok(Parsed::Refused { .. })));
    assert_eq!(reader.read(&second), nothing_before);
}

#[test]
fn the_longest_body_fits_and_a_longer_one_leaves_the_buffer_as_it_was() {
    let mut writer = FrameWriter::with_capacity(0);
    let too_long = Err(EncodeError::TooLong { max: BODY_BYTES_MAX });
    let other = Header::Tell { to: to(1, 1), trace: None };
    writer.write(&other, b"before").unwrap();
    let before = writer.len();
    assert_eq!(writer.write(&ask(), &vec![0; BODY_BYTES_MAX + 1]), too_long);
    assert_eq!(writer.write_value(&ask(), &vec![0_u8; BODY_BYTES_MAX]).map(|_| ()), too_long);
    assert_eq!(writer.len(), before);
    writer.write(&traced(), &vec![0; BODY_BYTES_MAX]).unwrap();
    assert_eq!(writer.len(), before + FRAME_BYTES_MAX);
    let sent = writer.take();
    assert!(matches!(read(&sent[before..]), Ok(Parsed::Frame { .. })));
}

#[test]
fn a_value_is_written_as_the_codec_writes_it() {
    let mut writer = FrameWriter::with_capacity(0);
    writer.write_value(&ask(), &("hello", 7_u8)).unwrap();
    let sent = writer.take();
    let Ok(Parsed::Frame { body, .. }) = read(&sent) else { panic!("no frame") };
    assert_eq!(crate::codec::decode::<(String, u8)>(&sent[body]).unwrap(), ("hello".to_owned(), 7));
}

/// The layout is a contract: this is what other versions of this program read.
#[test]
fn the_bytes_of_a_frame_never_change() {
    let expected = [
        "a1e1",
        "360000",
        "05000000",
        "01000000",
        "0700000000000000",
        "0b000000",
        "dc050000",
        &"aa".repeat(16),
        &"bb".repeat(8),
        "01",
        "68656c6c6f",
    ];
    assert_eq!(base16ct::lower::encode_string(&frame(&traced(), b"hello")), expected.concat());
    let reply = frame(&Header::Reply { call: call() }, b"hi");
    assert_eq!(base16ct::lower::encode_string(&reply), "a1420a000005000000010000006869");
    let cancel = frame(&Header::Cancel { call: call() }, b"");
    assert_eq!(base16ct::lower::encode_string(&cancel), "a1440800000500000001000000");
}
