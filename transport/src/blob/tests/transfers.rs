//! A server and a fetch that both keep to the protocol, over a stream without a network.

use std::io::Cursor;
use std::sync::Arc;

use proptest::prelude::*;

use super::kit::*;
use crate::blob::*;
use crate::wire::BlobRefusal;

async fn kept(part: &[u8]) -> KeptPart {
    KeptPart::read(Cursor::new(part.to_vec())).await.unwrap()
}

fn refused(outcome: Result<Fetched, FetchError>) -> BlobRefusal {
    match outcome {
        Err(FetchError::Refused(reason)) => reason,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn only_what_is_offered_is_sent() {
    // BLOB-2
    let body = body(1_000);
    let nothing = Server::of(Arc::new(NoBlobs));
    let wanted = || WantedBlob::new(BlobId::of(&body), LIMIT);
    let (outcome, sink) = nothing.fetch(wanted()).await;
    assert_eq!((refused(outcome), sink.len()), (BlobRefusal::Unknown, 0));
    assert_eq!(nothing.0.counters().unknown, 1);
    let something = Server::of(Shelf::of(&[&body]));
    let (outcome, sink) = something.fetch(wanted()).await;
    assert_eq!(outcome.unwrap(), Fetched { length: 1_000, kept: 0 });
    assert!(sink == body);
}

#[tokio::test]
async fn a_blob_that_is_too_long_or_too_short_is_refused_before_a_byte() {
    // BLOB-4
    let body = body(1_000);
    let id = BlobId::of(&body);
    let server = Server::of(Shelf::of(&[&body]));
    let (outcome, sink) = server.fetch(WantedBlob::new(id, 999)).await;
    assert_eq!((refused(outcome), sink.len()), (BlobRefusal::TooLarge, 0));
    let longer = kept(&[0; 1_001]).await;
    let (outcome, sink) = server.fetch(WantedBlob::new(id, LIMIT).after(longer)).await;
    assert_eq!((refused(outcome), sink.len()), (BlobRefusal::BadRange, 0));
    let (outcome, _) = server.fetch(WantedBlob::new(id, 1_000)).await;
    outcome.unwrap();
}

#[tokio::test]
async fn a_fetch_goes_on_where_the_last_one_ended() {
    // BLOB-5
    let body = body(900_000);
    let server = Server::of(Shelf::of(&[&body]));
    let wanted = WantedBlob::new(BlobId::of(&body), LIMIT).after(kept(&body[..300_001]).await);
    let (outcome, sink) = server.fetch(wanted).await;
    assert_eq!(outcome.unwrap(), Fetched { length: 900_000, kept: 300_001 });
    assert!(sink == body[300_001..], "only the rest was sent");
}

#[tokio::test]
async fn a_kept_part_that_was_changed_is_found_out() {
    // BLOB-5
    let body = body(900_000);
    let server = Server::of(Shelf::of(&[&body]));
    let mut part = body[..300_000].to_vec();
    part[17] ^= 1;
    let (outcome, _) = server.fetch(WantedBlob::new(BlobId::of(&body), LIMIT).after(kept(&part).await)).await;
    let error = outcome.unwrap_err();
    assert!(matches!(error, FetchError::WrongHash { kept: 300_000, .. }), "{error:?}");
    assert!(error.to_string().contains("throw the 300000 bytes from before away"), "{error}");
}

#[tokio::test]
async fn progress_is_told_on_the_way() {
    let body = body(700_000);
    let server = Server::of(Shelf::of(&[&body]));
    let (stream, _task) = server.stream(64 * 1024);
    let mut told = Vec::new();
    let wanted = WantedBlob::new(BlobId::of(&body), LIMIT).after(kept(&body[..100]).await);
    fetch(stream, wanted, tokio::io::sink(), |step| told.push((step.present, step.length))).await.unwrap();
    assert_eq!(told, [(262_244, 700_000), (524_388, 700_000), (700_000, 700_000)]);
}

#[tokio::test]
async fn a_server_that_sends_as_many_as_it_may_says_so() {
    // BLOB-3
    let body = body(500_000);
    let limits = ServeLimits { transfers_per_peer_max: 1, ..ServeLimits::default() };
    let server = Server::limited(Shelf::of(&[&body]), limits);
    let wanted = || WantedBlob::new(BlobId::of(&body), LIMIT);
    // It is served, and not read.
    let (mut held, task) = server.stream(1_000);
    let request = Request { id: BlobId::of(&body), from_offset: 0, limit_bytes: LIMIT };
    tokio::io::AsyncWriteExt::write_all(&mut held, &request.encode()).await.unwrap();
    tokio::io::AsyncReadExt::read_exact(&mut held, &mut [0; ANSWER_BYTES]).await.unwrap();
    let (outcome, _) = server.fetch(wanted()).await;
    assert_eq!(refused(outcome), BlobRefusal::Busy);
    assert_eq!((server.0.counters().running, server.0.counters().busy), (1, 1));
    drop(held);
    task.await.unwrap().unwrap_err();
    while server.0.counters().running > 0 {
        // The read ahead is on its way back with the slot.
        tokio::task::yield_now().await;
    }
    let (outcome, _) = server.fetch(wanted()).await;
    outcome.unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_blob_arrives_whole_from_any_place(
        length in prop_oneof![0..2_000_usize, 250_000..600_000_usize],
        part in 0.0..=1.0_f64,
        room in 1..300_000_usize,
    ) {
        let body = body(length);
        let from = (length as f64 * part) as usize;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let (outcome, sink) = runtime.block_on(async {
            let server = Server::of(Shelf::of(&[&body]));
            let (stream, _task) = server.stream(room.max(length / 100));
            let wanted = WantedBlob::new(BlobId::of(&body), length as u64).after(kept(&body[..from]).await);
            let mut sink = Vec::new();
            let outcome = fetch(stream, wanted, &mut sink, |_| {}).await;
            (outcome, sink)
        });
        prop_assert_eq!(outcome.unwrap(), Fetched { length: length as u64, kept: from as u64 });
        prop_assert!(sink == body[from..]);
    }
}
