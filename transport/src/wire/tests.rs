use std::net::SocketAddr;
use std::sync::Arc;

use arw_kit::life::ExitReason;
use bytes::BytesMut;
use proptest::prelude::*;

use super::*;
use crate::certificate::CERTIFICATE_BYTES;
use crate::codec::{self, DecodeError};
use crate::frame::RefusalReason;

fn hello() -> Hello {
    Hello {
        versions: Versions::OWN,
        incarnation: 3,
        number: 7,
        sent_at_ms: 1_800_000_000_000,
        certificate: vec![7; CERTIFICATE_BYTES],
        name: "kitchen".to_owned(),
    }
}

fn join() -> Join {
    Join {
        versions: Versions::OWN,
        token: [1; 8],
        proof: [2; 32],
        sent_at_ms: 1_800_000_000_000,
        name: "kitchen".to_owned(),
    }
}

fn accepted(peers: usize) -> JoinAccepted {
    let addresses = vec![SocketAddr::from(([1; 16], 7700)); 4];
    JoinAccepted {
        certificate: vec![7; CERTIFICATE_BYTES],
        cluster: [1; 16],
        cluster_key: [2; 32],
        peers: vec![PeerAddresses { node: [3; 32], addresses }; peers],
    }
}

/// One message of each type.
fn examples() -> Vec<Control> {
    let (monitor, actor, versions) = (9, 4, Versions::OWN);
    vec![
        hello().into(),
        HelloAck {
            minor: 0,
            incarnation: 1,
            number: 5,
            sent_at_ms: -1,
            certificate: vec![1],
            name: String::new(),
        }
        .into(),
        HelloRefused { reason: HelloRefusal::Expired, versions }.into(),
        join().into(),
        accepted(PEERS_MAX).into(),
        JoinRefused { reason: JoinRefusal::Unlisted(999), versions }.into(),
        Ping { nonce: u64::MAX }.into(),
        Pong { nonce: 0 }.into(),
        Revoked { revocations: vec![vec![1; 129]; Revoked::MAX] }.into(),
        Goodbye { reason: GoodbyeReason::Stopping }.into(),
        Monitor { monitor, actor, incarnation: 2 }.into(),
        Demonitor { monitor }.into(),
        Down { monitor, actor, reason: DownReason::Crash, text: "boom ü".to_owned() }.into(),
        Renew { serial: 5 }.into(),
        Renewed { certificate: vec![1; CERTIFICATE_BYTES] }.into(),
        Card { incarnation: 7, card: vec![200; CARD_BYTES_MAX] }.into(),
    ]
}

fn bytes_of(message: &Control) -> BytesMut {
    let mut bytes = BytesMut::new();
    put(message, &mut bytes).unwrap();
    bytes
}

#[test]
fn every_message_comes_back_however_it_is_cut() {
    let mut sent = BytesMut::new();
    for message in examples() {
        put(&message, &mut sent).unwrap();
    }
    for cut in [1, 7, 4096, sent.len()] {
        let mut buffer = BytesMut::new();
        let mut read = Vec::new();
        for part in sent.chunks(cut) {
            buffer.extend_from_slice(part);
            while let Received::Message(message) = take(&mut buffer).unwrap() {
                read.push(message);
            }
        }
        assert_eq!(read, examples());
    }
    let mut codes: Vec<u16> = examples().iter().map(Control::code).collect();
    codes.dedup();
    assert_eq!(codes, (1..=16).collect::<Vec<u16>>());
}

#[test]
fn a_body_that_is_one_byte_longer_or_shorter_ends_the_connection() {
    // WIRE-5
    for message in examples() {
        let (whole, code) = (bytes_of(&message), message.code());
        let with_body = |body: &[u8]| {
            let length = u32::try_from(body.len()).unwrap();
            let bytes = [&code.to_le_bytes()[..], &length.to_le_bytes(), body].concat();
            take(&mut BytesMut::from(bytes.as_slice()))
        };
        assert_eq!(with_body(&whole[6..]), Ok(Received::Message(message)));
        let shorter = with_body(&whole[6..whole.len() - 1]);
        assert!(matches!(shorter, Err(ControlError::Body { problem: DecodeError::Truncated { .. }, .. })));
        let longer = with_body(&[&whole[6..], &[0]].concat());
        assert!(matches!(
            longer,
            Err(ControlError::Body { problem: DecodeError::LeftOver { left: 1, .. }, .. })
        ));
    }
}

#[test]
fn a_type_of_a_newer_version_is_skipped_and_the_next_message_is_read() {
    // WIRE-5
    let mut buffer = BytesMut::from(&[0xFF, 0x7F, 3, 0, 0, 0, 1, 2, 3][..]);
    put(&Ping { nonce: 1 }.into(), &mut buffer).unwrap();
    assert_eq!(take(&mut buffer), Ok(Received::Unknown { code: 0x7FFF }));
    assert_eq!(take(&mut buffer), Ok(Received::Message(Ping { nonce: 1 }.into())));
    assert_eq!(take(&mut buffer), Ok(Received::Need(6)));
}

#[test]
fn a_stranger_says_hello_or_join_within_4_kib() {
    // WIRE-13
    assert_eq!(take_first(&mut bytes_of(&hello().into())), Ok(Some(First::Hello(hello()))));
    assert_eq!(take_first(&mut bytes_of(&join().into())), Ok(Some(First::Join(join()))));
    assert_eq!(take_first(&mut BytesMut::from(&bytes_of(&hello().into())[..40])), Ok(None));
    let ping = take_first(&mut bytes_of(&Ping { nonce: 1 }.into()));
    assert_eq!(ping, Err(FirstError::Unexpected { code: 7 }));
    let unknown = take_first(&mut BytesMut::from(&[0xFF, 0xFF, 0, 0, 0, 0][..]));
    assert_eq!(unknown, Err(FirstError::Unexpected { code: 0xFFFF }));
    // Only the header has arrived: the rest is never waited for.
    let body = u32::try_from(FIRST_BYTES_MAX - 6 + 1).unwrap();
    let header = [&1_u16.to_le_bytes()[..], &body.to_le_bytes()].concat();
    let long = take_first(&mut BytesMut::from(header.as_slice()));
    let (length, max) = (FIRST_BYTES_MAX + 1, FIRST_BYTES_MAX);
    assert_eq!(long, Err(ControlError::TooLong { code: 1, length, max }.into()));
}

#[test]
fn what_is_said_before_a_peer_is_known_fits_4_kib() {
    // WIRE-13
    let name = "ü".repeat(NAME_CHARS_MAX);
    let certificate = vec![7; 2 * CERTIFICATE_BYTES];
    let longest: [Control; 4] = [
        Hello { name: name.clone(), certificate: certificate.clone(), ..hello() }.into(),
        HelloAck {
            minor: 255,
            incarnation: u64::MAX,
            number: u64::MAX,
            sent_at_ms: i64::MIN,
            certificate: certificate.clone(),
            name: name.clone(),
        }
        .into(),
        Join { name, ..join() }.into(),
        JoinAccepted { certificate, ..accepted(PEERS_MAX) }.into(),
    ];
    for message in longest {
        assert!(bytes_of(&message).len() <= FIRST_BYTES_MAX, "{}", bytes_of(&message).len());
    }
    assert_eq!(bytes_of(&hello().into()).len(), 166);
}

#[test]
fn fields_out_of_bounds_are_refused_by_name() {
    let refused = |message: Control| {
        let mut body = Vec::new();
        message.encode(codec::BODY_BYTES_MAX, &mut body).unwrap();
        Control::decode(message.code(), &body).unwrap().unwrap_err().to_string()
    };
    let long = "x".repeat(NAME_CHARS_MAX + 1);
    assert!(refused(Hello { name: long, ..hello() }.into()).contains("`name` has 65 parts"));
    let escape = Join { name: "\u{1b}[2J".to_owned(), ..join() };
    assert!(refused(escape.into()).contains("`name` has control characters"));
    assert!(refused(Hello { certificate: vec![], ..hello() }.into()).contains("`certificate` has 0"));
    assert!(refused(accepted(PEERS_MAX + 1).into()).contains("`peers` has 17 parts"));
    assert!(refused(Revoked { revocations: vec![] }.into()).contains("`revocations` has 0"));
    // WIRE-18
    let card = Card { incarnation: 1, card: vec![0; CARD_BYTES_MAX + 1] };
    assert!(refused(card.into()).contains("`card` has 49153 parts"));
}

#[test]
fn every_reason_has_a_number_of_its_own_and_words() {
    // WIRE-8
    let mut codes = std::collections::BTreeSet::new();
    let closes = HelloRefusal::ALL.iter().map(|&it| CloseCode::Hello(it));
    let closes = closes.chain(JoinRefusal::ALL.iter().map(|&it| CloseCode::Join(it)));
    let closes = closes.chain(GoodbyeReason::ALL.iter().map(|&it| CloseCode::Goodbye(it)));
    for close in closes.chain([CloseCode::Malformed]) {
        assert!(codes.insert(close.code()), "{close:?} has a number of another");
        assert_eq!(CloseCode::from_code(close.code()), close);
        assert!(!close.to_string().is_empty());
    }
    for reason in ReplyRefusal::ALL {
        assert_eq!(ReplyRefusal::from_code(reason.code()), *reason);
    }
    for reason in StreamRefusal::ALL {
        assert_eq!(StreamRefusal::from_stream_code(reason.stream_code().into()), Some(*reason));
    }
    assert_eq!(StreamRefusal::from_stream_code(0), None);
    assert_eq!(CloseCode::from_code(0), CloseCode::Unlisted(0));
    assert_eq!(CloseCode::from_code(0x2_FFFF), CloseCode::Hello(HelloRefusal::Unlisted(0xFFFF)));
}

#[test]
fn an_exit_becomes_words_that_a_peer_takes() {
    let text: Arc<str> = format!("line one\nline two {}", "x".repeat(1000)).into();
    let down = Down::of(1, 2, &ExitReason::Crash { text, while_handling: Some("Add") });
    assert_eq!(down.reason, DownReason::Crash);
    assert!(down.text.starts_with("line one line two xxx") && down.text.len() == TEXT_CHARS_MAX);
    assert_eq!(take(&mut bytes_of(&down.clone().into())), Ok(Received::Message(down.into())));
}

#[test]
fn a_refusal_in_a_frame_says_why_in_words_that_may_be_shown() {
    // WIRE-3
    let refused = Refused::new(ReplyRefusal::UnknownMessage, "type 9\u{7}");
    let mut body = Vec::new();
    codec::encode_into(&refused, &mut body).unwrap();
    let read = Refused::from_body(&body).unwrap();
    assert_eq!((read.reason, read.detail.as_str()), (ReplyRefusal::UnknownMessage, "type 9 "));
    assert_eq!(ReplyRefusal::from(RefusalReason::NewerMinor { minor: 3 }), ReplyRefusal::Version);
    let mut hostile = Vec::new();
    codec::encode_into(&Refused { detail: "\u{1b}]0;".to_owned(), ..refused }, &mut hostile).unwrap();
    assert!(Refused::from_body(&hostile).is_err());
}

/// The bytes are a contract: other versions of this program read them.
#[test]
fn the_bytes_of_a_message_never_change() {
    let hex = |message: Control| base16ct::lower::encode_string(&bytes_of(&message));
    assert_eq!(hex(Goodbye { reason: GoodbyeReason::Stopping }.into()), "0a000100000002");
    assert_eq!(hex(Monitor { monitor: 1, actor: 300, incarnation: 2 }.into()), "0b000500000001fb2c0102");
    let refused = HelloRefused { reason: HelloRefusal::Expired, versions: Versions { oldest: 0, newest: 3 } };
    assert_eq!(hex(refused.into()), "030003000000070003");
    let hello = Hello { certificate: vec![0xAA, 0xBB], name: "n".to_owned(), sent_at_ms: 1, ..hello() };
    assert_eq!(hex(hello.into()), "01000a000000010103070202aabb016e");
    assert_eq!(hex(Card { incarnation: 7, card: vec![1, 2] }.into()), "10000400000007020102");
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic_and_what_it_needs_is_bounded(
        mut bytes in proptest::collection::vec(any::<u8>(), 0..300), code in 0_u16..20, looks_right: bool,
    ) {
        if looks_right && bytes.len() >= 6 {
            let length = u32::try_from(bytes.len() - 6).unwrap();
            bytes[..2].copy_from_slice(&code.to_le_bytes());
            bytes[2..6].copy_from_slice(&length.to_le_bytes());
        }
        let mut buffer = BytesMut::from(bytes.as_slice());
        if let Ok(Received::Need(missing)) = take(&mut buffer) {
            prop_assert!(bytes.len() + missing <= CONTROL_BYTES_MAX);
        }
        drop(take_first(&mut BytesMut::from(bytes.as_slice())));
        drop(Refused::from_body(&bytes));
    }

    #[test]
    fn both_sides_choose_the_same_version_which_both_speak(a: u8, b: u8, c: u8, d: u8) {
        // WIRE-6
        let versions = |x: u8, y: u8| Versions { oldest: x.min(y), newest: x.max(y) };
        let (one, other) = (versions(a, b), versions(c, d));
        prop_assert_eq!(one.common(other), other.common(one));
        let speaks = |it: Versions, minor| (it.oldest..=it.newest).contains(&minor);
        let best = (0..=u8::MAX).rev().find(|&minor| speaks(one, minor) && speaks(other, minor));
        prop_assert_eq!(one.common(other), best);
    }

    #[test]
    fn a_hello_comes_back(incarnation: u64, sent_at_ms: i64, name in "[^\\pC]{0,64}", length in 1_usize..200) {
        let hello = Hello { incarnation, sent_at_ms, name, certificate: vec![9; length], ..hello() };
        prop_assert_eq!(take_first(&mut bytes_of(&hello.clone().into())), Ok(Some(First::Hello(hello))));
    }

    #[test]
    fn every_close_code_comes_back(code in 0..1_u64 << 62) {
        // WIRE-8
        prop_assert_eq!(CloseCode::from_code(code).code(), code);
    }
}
