//! Peers and sources that do not keep to the protocol.

use std::io::{self, Cursor, Read, Seek, SeekFrom};
use std::sync::Arc;

use proptest::prelude::*;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio::time::Instant;

use super::kit::*;
use crate::blob::*;
use crate::wire::{BlobRefusal, StreamRefusal};

/// A peer that takes the request and says these bytes.
async fn says(bytes: &[u8], keeps_open: bool) -> (Result<Fetched, FetchError>, Vec<u8>) {
    let (near, mut far) = tokio::io::duplex(1 << 20);
    let bytes = bytes.to_vec();
    let peer = tokio::spawn(async move {
        far.read_exact(&mut [0; REQUEST_BYTES]).await.unwrap();
        // Whoever asked may have heard enough before the end.
        far.write_all(&bytes).await.ok();
        keeps_open.then_some(far)
    });
    let mut sink = Vec::new();
    let wanted = WantedBlob::new(BlobId::of(&body(1_000)), 5_000);
    let outcome = fetch(near, wanted, &mut sink, |_| {}).await;
    drop(peer.await);
    (outcome, sink)
}

fn promising(length: u64, body: &[u8]) -> Vec<u8> {
    [&Answer::Follows { length, from_offset: 0 }.encode(), body].concat()
}

#[tokio::test]
async fn a_peer_that_ignores_the_limit_gets_nothing_written() {
    // BLOB-4
    let (outcome, sink) = says(&promising(5_001, &body(5_001)), false).await;
    assert!(matches!(outcome, Err(FetchError::TooLarge { length: 5_001, limit: 5_000 })), "{outcome:?}");
    assert_eq!(sink.len(), 0);
}

#[tokio::test]
async fn more_or_fewer_bytes_than_promised_are_told_apart_from_wrong_ones() {
    // BLOB-4, BLOB-5
    let right = body(1_000);
    let (outcome, sink) = says(&promising(1_000, &body(1_001)), false).await;
    assert!(matches!(outcome, Err(FetchError::Longer { length: 1_000 })), "{outcome:?}");
    assert!(sink.len() <= 1_000, "nothing beyond the promise is written");
    let (outcome, sink) = says(&promising(1_000, &right[..999]), false).await;
    assert!(matches!(outcome, Err(FetchError::Shorter { length: 1_000, present: 999 })), "{outcome:?}");
    assert_eq!(sink.len(), 999);
    let mut wrong = right.clone();
    wrong[500] ^= 0x80;
    let (outcome, _) = says(&promising(1_000, &wrong), false).await;
    let Err(FetchError::WrongHash { wanted, found, kept: 0 }) = outcome else { panic!("{outcome:?}") };
    assert_eq!((wanted, found), (BlobId::of(&right), BlobId::of(&wrong)));
    let (outcome, _) = says(&promising(1_000, &right), false).await;
    outcome.unwrap();
}

#[tokio::test]
async fn an_answer_from_another_place_is_no_answer() {
    // BLOB-4
    let answer = Answer::Follows { length: 1_000, from_offset: 1 }.encode();
    let (outcome, _) = says(&answer, false).await;
    assert!(matches!(outcome, Err(FetchError::Answer(AnswerError::Offset { .. }))), "{outcome:?}");
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_falls_silent_is_given_up_and_what_came_is_kept() {
    // BLOB-6
    for (said, written) in [(promising(1_000, &body(300)), 300), (vec![1; 3], 0), (vec![], 0)] {
        let started = Instant::now();
        let (outcome, sink) = says(&said, true).await;
        assert!(matches!(outcome, Err(FetchError::Stalled { .. })), "{outcome:?}");
        assert_eq!((seconds(started), sink.len()), (30, written));
    }
}

async fn request(
    server: &Server,
    bytes: &[u8],
) -> (DuplexStream, tokio::task::JoinHandle<Result<(), StreamRefusal>>) {
    let (mut near, task) = server.stream(1_000);
    near.write_all(bytes).await.unwrap();
    (near, task)
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_does_not_read_or_ask_is_given_up() {
    // BLOB-1, BLOB-6
    let body = body(500_000);
    let server = Server::of(Shelf::of(&[&body]));
    let asked = Request { id: BlobId::of(&body), from_offset: 0, limit_bytes: LIMIT }.encode();
    let started = Instant::now();
    let (near, task) = request(&server, &asked).await;
    assert_eq!(task.await.unwrap(), Err(StreamRefusal::Stalled));
    assert_eq!(seconds(started), 30);
    let started = Instant::now();
    let (half, task) = request(&server, &asked[..55]).await;
    assert_eq!(task.await.unwrap(), Err(StreamRefusal::TooSlow));
    assert_eq!(seconds(started), 3);
    drop((near, half));
}

#[tokio::test]
async fn a_request_of_a_newer_version_is_told_so() {
    // BLOB-1
    let server = Server::of(Arc::new(NoBlobs));
    let (mut near, _task) = request(&server, &[9; REQUEST_BYTES]).await;
    let mut answer = [0; ANSWER_BYTES];
    near.read_exact(&mut answer).await.unwrap();
    let reason = BlobRefusal::Version;
    assert_eq!(Answer::parse(&answer), Ok(Answer::Refused { reason, length: 0 }));
    assert_eq!(near.read(&mut [0]).await.unwrap(), 0, "nothing else follows");
}

/// A source whose blobs end, fail or panic at some place.
#[derive(Clone, Copy, Debug)]
enum Broken {
    Seek,
    Ends,
    Fails,
    Panics,
    PanicsAtOpen,
}

impl Read for Broken {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Ends => Ok(0),
            Self::Fails => Err(io::Error::other("a bad sector")),
            Self::Seek | Self::Panics | Self::PanicsAtOpen => panic!("{} bytes wanted", buffer.len()),
        }
    }
}

impl Seek for Broken {
    fn seek(&mut self, _place: SeekFrom) -> io::Result<u64> {
        if matches!(self, Self::Seek) { Err(io::Error::other("a pipe")) } else { Ok(0) }
    }
}

impl BlobSource for Broken {
    fn open(&self, _id: BlobId) -> Option<Blob> {
        assert!(!matches!(self, Self::PanicsAtOpen), "on purpose");
        Some(Blob { length: 1_000, content: Box::new(*self) })
    }
}

#[tokio::test]
async fn a_source_that_fails_is_told_and_leaves_nothing_behind() {
    // BLOB-7
    for broken in [Broken::Ends, Broken::Fails, Broken::Panics] {
        let server = Server::of(Arc::new(broken));
        let (mut near, task) = server.stream(1_000);
        let asked = Request { id: BlobId::from_bytes([1; 32]), from_offset: 0, limit_bytes: LIMIT };
        near.write_all(&asked.encode()).await.unwrap();
        assert_eq!(task.await.unwrap(), Err(StreamRefusal::Failed), "{broken:?}");
        assert_eq!(server.0.counters().running, 0, "{broken:?}");
    }
    for broken in [Broken::Seek, Broken::PanicsAtOpen] {
        let server = Server::of(Arc::new(broken));
        let (outcome, sink) = server.fetch(WantedBlob::new(BlobId::from_bytes([1; 32]), LIMIT)).await;
        assert!(matches!(outcome, Err(FetchError::Refused(BlobRefusal::Failed))), "{broken:?} {outcome:?}");
        assert_eq!((server.0.counters().running, sink.len()), (0, 0), "{broken:?}");
    }
}

#[tokio::test]
async fn a_sink_that_fails_ends_the_fetch() {
    let body = body(1_000);
    let server = Server::of(Shelf::of(&[&body]));
    let (stream, _task) = server.stream(1_000);
    let mut too_small = [0; 10];
    let outcome =
        fetch(stream, WantedBlob::new(BlobId::of(&body), LIMIT), Cursor::new(&mut too_small[..]), |_| {})
            .await;
    assert!(matches!(outcome, Err(FetchError::Sink(_))), "{outcome:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn no_bytes_of_a_peer_make_a_wrong_blob_or_a_panic(
        kind in 0..4_u8,
        length in prop_oneof![any::<u64>(), 0..6_000_u64],
        rest in prop::collection::vec(any::<u8>(), 0..3_000),
        cut in 0..3_100_usize,
    ) {
        // BLOB-4, BLOB-5
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let mut bytes = promising(length, &rest);
        bytes[0] = kind;
        bytes.truncate(cut);
        let (outcome, sink) = runtime.block_on(says(&bytes, false));
        prop_assert!(outcome.is_err());
        prop_assert!(sink.len() as u64 <= length.min(5_000));
    }

    #[test]
    fn no_bytes_of_a_peer_panic_a_server(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        // BLOB-1
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let counters = runtime.block_on(async {
            let server = Server::of(Shelf::of(&[&body(100)]));
            let (mut near, task) = request(&server, &bytes).await;
            near.shutdown().await.unwrap();
            near.read_to_end(&mut Vec::new()).await.unwrap();
            task.await.unwrap().ok();
            server.0.counters()
        });
        prop_assert_eq!(counters.running, 0);
    }
}
