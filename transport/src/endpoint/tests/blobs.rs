//! Blobs between members, over real sockets.

use std::collections::HashMap;
use std::io::{self, Cursor, Read, Seek, SeekFrom, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use rand::{RngExt as _, SeedableRng as _};
use tokio::io::AsyncReadExt as _;
use tokio::runtime::Handle;
use tokio::time::{Instant, timeout};

use super::kit::*;
use super::streams::{echo, two};
use crate::blob::*;
use crate::endpoint::*;
use crate::wire::StreamRefusal;

const MIB: usize = 1 << 20;

/// A peer that drops a blob is heard within this.
const HEARD_WITHIN: Duration = Duration::from_secs(2);

fn random(seed: u8, length: usize) -> Vec<u8> {
    let mut body = vec![0; length];
    rand::rngs::StdRng::from_seed([seed; 32]).fill(&mut body[..]);
    body
}

/// Offers bytes under any name, and counts what is read of them.
#[derive(Debug, Default)]
struct Shelf {
    bodies: HashMap<BlobId, Arc<[u8]>>,
    read: Arc<AtomicU64>,
}

impl Shelf {
    fn with(mut self, id: BlobId, body: &[u8]) -> Self {
        self.bodies.insert(id, body.into());
        self
    }
}

struct Counted {
    content: Cursor<Arc<[u8]>>,
    read: Arc<AtomicU64>,
}

impl Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = Read::read(&mut self.content, buffer)?;
        self.read.fetch_add(count as u64, Ordering::Relaxed);
        Ok(count)
    }
}

impl Seek for Counted {
    fn seek(&mut self, place: SeekFrom) -> io::Result<u64> {
        self.content.seek(place)
    }
}

impl BlobSource for Shelf {
    fn open(&self, id: BlobId) -> Option<Blob> {
        let body = Arc::clone(self.bodies.get(&id)?);
        let length = body.len() as u64;
        let content = Counted { content: Cursor::new(body), read: Arc::clone(&self.read) };
        Some(Blob { length, content: Box::new(content) })
    }
}

/// Lets `node` serve `source`.
fn serving(node: &Node, source: impl BlobSource) -> BlobServer {
    let server = BlobServer::new(Arc::new(source), ServeLimits::default(), Handle::current());
    node.services.blobs.set(Some(server.clone())).unwrap();
    server
}

async fn open(from: &Node, to: &Node) -> PeerStream {
    from.handle.open(to.id, StreamPurpose::Blob, PATIENCE).await.unwrap()
}

fn wanted(id: BlobId) -> WantedBlob {
    WantedBlob::new(id, 100 * MIB as u64)
}

#[derive(Debug)]
struct OneFile(BlobId, std::path::PathBuf);

impl BlobSource for OneFile {
    fn open(&self, id: BlobId) -> Option<Blob> {
        let file = std::fs::File::open(&self.1).ok().filter(|_| id == self.0)?;
        Some(Blob { length: file.metadata().ok()?.len(), content: Box::new(file) })
    }
}

#[tokio::test]
async fn a_large_blob_arrives_intact() {
    // BLOB-4, BLOB-5
    let (one, two) = two().await;
    let body = random(1, 64 * MIB);
    let id = BlobId::of(&body);
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(&body).unwrap();
    let server = serving(&two, OneFile(id, file.path().to_owned()));
    let mut sink = Vec::new();
    let fetched = fetch(open(&one, &two).await, wanted(id), &mut sink, |_| {}).await.unwrap();
    assert_eq!(fetched, Fetched { length: 64 * MIB as u64, kept: 0 });
    assert!(sink == body);
    eventually("the server is done", || server.counters().running == 0).await;
    let counters = server.counters();
    assert_eq!((counters.sent, counters.sent_bytes, counters.cancelled), (1, 64 * MIB as u64, 0));
}

#[tokio::test]
async fn wrong_bytes_are_noticed_by_whoever_gets_them() {
    // BLOB-5
    let (one, two) = two().await;
    let body = random(2, 3 * MIB);
    let mut wrong = body.clone();
    wrong[2 * MIB] ^= 1;
    serving(&two, Shelf::default().with(BlobId::of(&body), &wrong));
    let outcome = fetch(open(&one, &two).await, wanted(BlobId::of(&body)), tokio::io::sink(), |_| {}).await;
    let Err(FetchError::WrongHash { found, .. }) = outcome else { panic!("{outcome:?}") };
    assert_eq!(found, BlobId::of(&wrong));
}

#[tokio::test]
async fn a_node_without_blobs_says_so() {
    // BLOB-2
    let (one, two) = two().await;
    two.services.blobs.set(None).unwrap();
    let outcome = fetch(open(&one, &two).await, wanted(BlobId::of(b"x")), tokio::io::sink(), |_| {}).await;
    assert!(matches!(outcome, Err(FetchError::GivenUp(StreamRefusal::NotServed))), "{outcome:?}");
}

#[tokio::test]
async fn a_sender_stops_when_the_receiver_is_gone_and_the_rest_is_fetched_later() {
    // BLOB-7
    let (one, two) = two().await;
    let body = random(3, 16 * MIB);
    let id = BlobId::of(&body);
    let shelf = Shelf::default().with(id, &body);
    let read = Arc::clone(&shelf.read);
    let server = serving(&two, shelf);
    // It takes 5 MiB and then no more.
    let (sink, mut written) = tokio::io::duplex(64 * 1024);
    let fetching = tokio::spawn(fetch(open(&one, &two).await, wanted(id), sink, |_| {}));
    let mut part = vec![0; 5 * MIB];
    timeout(PATIENCE, written.read_exact(&mut part)).await.unwrap().unwrap();
    assert_eq!(server.counters().running, 1);
    fetching.abort();
    let aborted = Instant::now();
    eventually("the sender has stopped", || server.counters().running == 0).await;
    assert!(aborted.elapsed() < HEARD_WITHIN, "{:?}", aborted.elapsed());
    assert_eq!((server.counters().cancelled, server.counters().sent), (1, 0));
    let read_before = read.load(Ordering::Relaxed);
    assert!(read_before < 8 * MIB as u64, "{read_before} bytes were read for 5 MiB");
    // The rest.
    let kept = KeptPart::read(Cursor::new(part.clone())).await.unwrap();
    let fetched = fetch(open(&one, &two).await, wanted(id).after(kept), &mut part, |_| {}).await.unwrap();
    assert_eq!(fetched.kept, 5 * MIB as u64);
    assert!(part == body);
    assert_eq!(read.load(Ordering::Relaxed) - read_before, 11 * MIB as u64, "only the rest was read");
}

/// A source that hangs until it is let go.
#[derive(Clone, Debug, Default)]
struct Hanging(Arc<Hook>);

#[derive(Debug, Default)]
struct Hook {
    hangs: AtomicBool,
    goes_on: Mutex<bool>,
    changed: Condvar,
}

impl Read for Hanging {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut goes_on = self.0.goes_on.lock();
        self.0.hangs.store(true, Ordering::Release);
        self.0.changed.wait_while(&mut goes_on, |goes_on| !*goes_on);
        Ok(buffer.len())
    }
}

impl Seek for Hanging {
    fn seek(&mut self, _place: SeekFrom) -> io::Result<u64> {
        Ok(0)
    }
}

impl BlobSource for Hanging {
    fn open(&self, _id: BlobId) -> Option<Blob> {
        Some(Blob { length: 1_000, content: Box::new(self.clone()) })
    }
}

#[tokio::test]
async fn a_cancel_is_heard_while_the_source_hangs_and_the_hanging_read_keeps_its_place() {
    // BLOB-3, BLOB-7
    let (one, two) = two().await;
    let hanging = Hanging::default();
    let server = serving(&two, hanging.clone());
    let fetching =
        tokio::spawn(fetch(open(&one, &two).await, wanted(BlobId::of(b"x")), tokio::io::sink(), |_| {}));
    eventually("it is being read", || hanging.0.hangs.load(Ordering::Acquire)).await;
    fetching.abort();
    let aborted = Instant::now();
    eventually("the cancel was heard", || server.counters().cancelled == 1).await;
    assert!(aborted.elapsed() < HEARD_WITHIN, "{:?}", aborted.elapsed());
    assert_eq!(server.counters().running, 1);
    *hanging.0.goes_on.lock() = true;
    hanging.0.changed.notify_all();
    eventually("the place is free", || server.counters().running == 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn blobs_do_not_hold_up_other_streams() {
    // WIRE-16
    let (one, two) = two().await;
    let body = random(4, 48 * MIB);
    let id = BlobId::of(&body);
    let server = serving(&two, Shelf::default().with(id, &body));
    let mut fetching = tokio::task::JoinSet::new();
    for _ in 0..3 {
        fetching.spawn(fetch(open(&one, &two).await, wanted(id), tokio::io::sink(), |_| {}));
    }
    let mut stream = one.handle.open(two.id, StreamPurpose::Service, PATIENCE).await.unwrap();
    let (mut trips, started) = (Vec::new(), Instant::now());
    while fetching.try_join_next().is_none() {
        let began = Instant::now();
        echo(&mut stream, b"are you still there?").await;
        if server.counters().running == 3 {
            trips.push(began.elapsed());
        }
    }
    let total = started.elapsed();
    trips.sort_unstable();
    let (median, slowest) = (trips[trips.len() / 2], trips[trips.len() - 1]);
    // What is in flight already is waited for, some 3 MiB of the 144; who waited for the blobs themselves
    // would see one or two round trips in all.
    assert!(median < total / 20, "{} round trips in {total:?}, their median {median:?}", trips.len());
    assert!(slowest < total / 2, "{slowest:?} of {total:?}");
    while let Some(outcome) = fetching.join_next().await {
        outcome.unwrap().unwrap();
    }
}
