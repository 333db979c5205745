//! Blobs in memory, and a stream without a network.

use std::collections::HashMap;
use std::io::{self, Cursor};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncWriteExt as _, DuplexStream};

use crate::blob::serve::{BlobStream, Shared, answer};
use crate::blob::*;
use crate::identity::NodeId;
use crate::wire::StreamRefusal;

impl BlobStream for DuplexStream {
    async fn write_chunk(&mut self, chunk: Bytes) -> io::Result<()> {
        self.write_all(&chunk).await
    }

    async fn arrived(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// `length` bytes that differ from place to place.
pub(super) fn body(length: usize) -> Vec<u8> {
    (0..length as u64).map(|index| (index.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 56) as u8).collect()
}

/// Offers blobs from memory, under any name.
#[derive(Debug, Default)]
pub(super) struct Shelf(pub(super) HashMap<BlobId, Vec<u8>>);

impl Shelf {
    pub(super) fn of(bodies: &[&[u8]]) -> Arc<Self> {
        Arc::new(Self(bodies.iter().map(|body| (BlobId::of(body), body.to_vec())).collect()))
    }
}

impl BlobSource for Shelf {
    fn open(&self, id: BlobId) -> Option<Blob> {
        let body = self.0.get(&id)?.clone();
        Some(Blob { length: body.len() as u64, content: Box::new(Cursor::new(body)) })
    }
}

/// A server without an endpoint.
pub(super) struct Server(pub(super) Arc<Shared>);

impl Server {
    pub(super) fn of(source: Arc<dyn BlobSource>) -> Self {
        Self::limited(source, ServeLimits::default())
    }

    pub(super) fn limited(source: Arc<dyn BlobSource>, limits: ServeLimits) -> Self {
        Self(Arc::new(Shared::new(source, limits)))
    }

    /// Answers on a new stream that holds `room` bytes; the other end of it.
    pub(super) fn stream(
        &self,
        room: usize,
    ) -> (DuplexStream, tokio::task::JoinHandle<Result<(), StreamRefusal>>) {
        let (near, mut far) = tokio::io::duplex(room);
        let shared = Arc::clone(&self.0);
        let task = tokio::spawn(async move { answer(&shared, node(), &mut far).await });
        (near, task)
    }

    /// Fetches from it what is wanted: the outcome, and what was written.
    pub(super) async fn fetch(&self, wanted: WantedBlob) -> (Result<Fetched, FetchError>, Vec<u8>) {
        let (stream, _task) = self.stream(64 * 1024);
        let mut sink = Vec::new();
        let outcome = fetch(stream, wanted, &mut sink, |_| {}).await;
        (outcome, sink)
    }
}

pub(super) fn node() -> NodeId {
    NodeId::from_bytes([7; 32])
}

pub(super) const LIMIT: u64 = 100 << 20;

/// As paused time tells it.
pub(super) fn seconds(started: tokio::time::Instant) -> u64 {
    started.elapsed().max(Duration::ZERO).as_secs()
}
