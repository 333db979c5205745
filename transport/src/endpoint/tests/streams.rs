//! Streams between members.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::timeout;

use super::kit::*;
use crate::endpoint::*;
use crate::wire::StreamRefusal;

pub(super) async fn echo(stream: &mut PeerStream, text: &[u8]) {
    stream.write_all(text).await.unwrap();
    let mut back = vec![0; text.len()];
    timeout(PATIENCE, stream.read_exact(&mut back)).await.unwrap().unwrap();
    assert_eq!(back, text);
}

pub(super) async fn two() -> (Node, Node) {
    let mut one = Wanted::member(1).start();
    let mut two = Wanted::member(2).knowing(&[&one]).start();
    one.until_with(&[two.id]).await;
    two.until_with(&[one.id]).await;
    (one, two)
}

#[tokio::test]
async fn a_stream_carries_bytes_both_ways_and_ends_in_order() {
    // WIRE-16
    let (one, two) = two().await;
    for (from, to) in [(&one, &two), (&two, &one)] {
        let mut stream = from.handle.open(to.id, StreamPurpose::Service, PATIENCE).await.unwrap();
        assert_eq!(stream.node(), to.id);
        let body: Vec<u8> = (0..3_000_000_u32).map(|index| index as u8).collect();
        let (mut read, mut write) = tokio::io::split(&mut stream);
        let sending = async {
            write.write_all(&body).await.unwrap();
            write.shutdown().await.unwrap();
        };
        let mut back = Vec::new();
        let ((), received) = tokio::join!(sending, read.read_to_end(&mut back));
        received.unwrap();
        assert!(back == body);
    }
    assert!(two.services.calls.lock().contains(&"stream node-1 Service".to_owned()));
}

#[tokio::test]
async fn a_stream_that_is_dropped_is_cancelled_for_the_other_side() {
    // WIRE-16
    let (one, two) = two().await;
    let mut stream = one.handle.open(two.id, StreamPurpose::Service, PATIENCE).await.unwrap();
    echo(&mut stream, b"half of a request").await;
    drop(stream);
    two.until_called("cancelled by node-1").await;
    // Whoever has said all is not cancelled by it.
    let calls = two.services.calls.lock().len();
    let mut stream = one.handle.open(two.id, StreamPurpose::Service, PATIENCE).await.unwrap();
    stream.shutdown().await.unwrap();
    assert_eq!(stream.read(&mut [0]).await.unwrap(), 0);
    drop(stream);
    assert_eq!(two.services.calls.lock()[calls..], ["stream node-1 Service"]);
}

#[tokio::test]
async fn a_stream_of_unknown_purpose_is_given_back_and_counted() {
    // WIRE-16
    let (one, two) = two().await;
    let connection = two.handle.connection(one.id).unwrap();
    let unknown = Some(StreamRefusal::UnknownPurpose);
    for first in [99, StreamPurpose::Lane.byte()] {
        let (mut send, mut receive) = connection.quinn().open_bi().await.unwrap();
        send.write_all(&[first]).await.unwrap();
        match timeout(PATIENCE, receive.read(&mut [0])).await.unwrap() {
            Err(quinn::ReadError::Reset(code)) => {
                assert_eq!(StreamRefusal::from_stream_code(code.into_inner()), unknown);
            }
            other => panic!("{other:?}"),
        }
    }
    for first in [99, StreamPurpose::Service.byte()] {
        let mut send = connection.quinn().open_uni().await.unwrap();
        send.write_all(&[first]).await.unwrap();
        let code = timeout(PATIENCE, send.stopped()).await.unwrap().unwrap().unwrap();
        assert_eq!(StreamRefusal::from_stream_code(code.into_inner()), unknown);
    }
    assert_eq!(one.handle.counters().streams_unknown, 4);
    let mut known = two.handle.open(one.id, StreamPurpose::Blob, PATIENCE).await.unwrap();
    echo(&mut known, b"the connection goes on").await;
}

#[tokio::test]
async fn a_stream_is_opened_or_told_why_not() {
    let (one, two) = two().await;
    let nobody = node_key(77).id();
    let open = |node| one.handle.open(node, StreamPurpose::Service, Duration::from_millis(50));
    assert_eq!(open(nobody).await.unwrap_err(), OpenError::UnknownNode);
    let lane = one.handle.open(two.id, StreamPurpose::Lane, PATIENCE).await;
    assert_eq!(lane.unwrap_err(), OpenError::WrongDirection);
    let mut held = Vec::new();
    for _ in 0..Limits::default().streams_max {
        held.push(open(two.id).await.unwrap());
    }
    assert_eq!(open(two.id).await.unwrap_err(), OpenError::Busy);
    drop(held);
    let mut next = one.handle.open(two.id, StreamPurpose::Service, PATIENCE).await.unwrap();
    echo(&mut next, b"room again").await;
    let (node, mut one) = (two.id, one);
    two.crash().await;
    one.until("gone", |picture| connected(picture).is_empty()).await;
    let gone = one.handle.open(node, StreamPurpose::Service, PATIENCE).await;
    assert_eq!(gone.unwrap_err(), OpenError::NotConnected);
}

#[tokio::test]
async fn streams_that_nobody_reads_leave_the_others_their_share() {
    // WIRE-16
    /// More than both ends keep of one stream.
    const BYTES: usize = 3 * 1024 * 1024;
    let (one, two) = two().await;
    let mut unread = Vec::new();
    for _ in 1..Limits::default().streams_max {
        unread.push(one.handle.open(two.id, StreamPurpose::Service, PATIENCE).await.unwrap());
    }
    let full = unread.iter_mut().map(|stream| async {
        // Its echo is not read, so the writing stops at some time.
        timeout(Duration::from_secs(1), stream.write_all(&vec![7; BYTES])).await.unwrap_err()
    });
    futures_util::future::join_all(full).await;
    let mut read = one.handle.open(two.id, StreamPurpose::Service, PATIENCE).await.unwrap();
    // As much as the connection's window has room for is announced in steps.
    for _ in 0..100 {
        echo(&mut read, &[7; 64 * 1024]).await;
    }
}

#[tokio::test]
async fn a_lane_reaches_the_services_of_the_peer() {
    let (one, mut two) = two().await;
    let connection = one.handle.connection(two.id).unwrap();
    let mut lane = connection.quinn().open_uni().await.unwrap();
    lane.write_all(&[StreamPurpose::Lane.byte()]).await.unwrap();
    two.until_called("stream node-1 Lane").await;
    drop(lane);
    two.until("still connected", |picture| !connected(picture).is_empty()).await;
}
