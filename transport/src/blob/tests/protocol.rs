//! The bytes of requests and answers, and what may follow them.

use proptest::prelude::*;

use crate::blob::*;
use crate::wire::BlobRefusal;

#[test]
fn a_request_has_these_bytes() {
    // BLOB-1
    let request = Request { id: BlobId::from_bytes([0xAB; 32]), from_offset: 0x0102, limit_bytes: u64::MAX };
    let mut wanted = vec![1, 0, 0, 0, 0, 0, 0, 0, 2, 1, 0, 0, 0, 0, 0, 0];
    wanted.extend([0xFF; 8]);
    wanted.extend([0xAB; 32]);
    assert_eq!(request.encode().to_vec(), wanted);
}

#[test]
fn an_answer_has_these_bytes() {
    // BLOB-4
    let follows = Answer::Follows { length: 0x0300, from_offset: 7 };
    let wanted = [1, 0, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0];
    assert_eq!(follows.encode(), wanted);
    let refused = Answer::Refused { reason: BlobRefusal::TooLarge, length: 9 };
    let wanted = [2, 0, 4, 0, 0, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    assert_eq!(refused.encode(), wanted);
}

#[test]
fn what_only_a_newer_version_knows_is_refused_or_skipped() {
    // BLOB-1
    let request = Request { id: BlobId::from_bytes([1; 32]), from_offset: 2, limit_bytes: 3 };
    let mut bytes = request.encode();
    bytes[1..8].fill(0xEE);
    assert_eq!(Request::parse(&bytes), Ok(request));
    bytes[0] = 2;
    assert_eq!(Request::parse(&bytes), Err(BlobRefusal::Version));
    let mut bytes = Answer::Refused { reason: BlobRefusal::Unlisted(500), length: 0 }.encode();
    assert_eq!(Answer::parse(&bytes), Ok(Answer::Refused { reason: BlobRefusal::Unlisted(500), length: 0 }));
    bytes[0] = 3;
    assert_eq!(Answer::parse(&bytes), Err(AnswerError::UnknownKind { kind: 3 }));
}

fn bytes<const N: usize>() -> impl Strategy<Value = [u8; N]> {
    prop::collection::vec(any::<u8>(), N).prop_map(|bytes| bytes.try_into().unwrap())
}

proptest! {
    #[test]
    fn requests_and_answers_come_back_as_they_went(id in bytes(), from_offset: u64, other: u64, code: u16) {
        let request = Request { id: BlobId::from_bytes(id), from_offset, limit_bytes: other };
        prop_assert_eq!(Request::parse(&request.encode()), Ok(request));
        let reason = BlobRefusal::from_code(code);
        for answer in [Answer::Follows { length: other, from_offset }, Answer::Refused { reason, length: other }] {
            prop_assert_eq!(Answer::parse(&answer.encode()), Ok(answer));
        }
    }

    #[test]
    fn any_bytes_are_read_or_refused(request in bytes(), answer in bytes()) {
        prop_assert_eq!(Request::parse(&request).is_ok(), request[0] == 1);
        prop_assert_eq!(Answer::parse(&answer).is_ok(), matches!(answer[0], 1 | 2));
    }

    #[test]
    fn a_reception_takes_exactly_what_was_promised(
        from_offset in 0..100_u64,
        asked in 0..100_u64,
        length in 0..200_u64,
        limit_bytes in 0..200_u64,
        parts in prop::collection::vec(0..50_usize, 0..10),
    ) {
        // BLOB-4
        let id = BlobId::from_bytes([1; 32]);
        let request = Request { id, from_offset: asked, limit_bytes };
        let begun = Reception::begin(&request, Answer::Follows { length, from_offset });
        prop_assert_eq!(begun.is_ok(), length <= limit_bytes && from_offset == asked && from_offset <= length);
        let Ok(mut reception) = begun else { return Ok(()) };
        let mut present = from_offset;
        for part in parts {
            if present + part as u64 > length {
                let is_longer = matches!(reception.take(part), Err(FetchError::Longer { .. }));
                prop_assert!(is_longer);
            } else {
                prop_assert!(reception.take(part).is_ok());
                present += part as u64;
            }
            prop_assert_eq!(reception.present(), present);
            prop_assert_eq!(reception.remaining(), length - present);
            prop_assert_eq!(reception.end().is_ok(), present == length);
        }
        prop_assert_eq!(reception.judge(id).unwrap(), Fetched { length, kept: from_offset });
        // BLOB-5
        let is_wrong = matches!(reception.judge(BlobId::from_bytes([2; 32])), Err(FetchError::WrongHash { .. }));
        prop_assert!(is_wrong);
    }
}
