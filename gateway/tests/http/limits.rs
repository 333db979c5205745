//! HTTP-6: how much, how slowly and how often.

use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use futures_util::StreamExt;
use http::Request;
use http_body_util::BodyExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tower::ServiceExt;

use crate::support::{Answer, TestNode, get, until, within};

fn post(node: &TestNode, body: Body) -> Request<Body> {
    let request = Request::post("/v1/completions")
        .header("host", "localhost")
        .header("content-type", "application/json");
    request.header("authorization", format!("Bearer {}", node.admin())).body(body).unwrap()
}

/// HTTP-6.
#[tokio::test]
async fn a_body_beyond_the_limit_is_refused_whether_its_length_is_told_or_not() {
    let node = TestNode::with(|settings| settings.body_max_bytes = 1000).await;
    let exact = format!("{{\"a\":\"{}\"}}", "x".repeat(992));
    assert_eq!(exact.len(), 1000);
    node.call(post(&node, exact.into())).await.is_error(404, "model_not_found");
    let told = format!("{{\"a\":\"{}\"}}", "x".repeat(993));
    node.call(post(&node, told.clone().into())).await.is_error(413, "body_too_large");
    let chunks: Vec<Result<Bytes, std::io::Error>> =
        told.as_bytes().chunks(100).map(|chunk| Ok(Bytes::copy_from_slice(chunk))).collect();
    let untold = Body::from_stream(futures_util::stream::iter(chunks));
    node.call(post(&node, untold)).await.is_error(413, "body_too_large");
}

/// HTTP-6: a length that is told is refused before a byte of it is waited for.
#[tokio::test]
async fn a_told_length_beyond_the_limit_is_refused_at_once() {
    let node = TestNode::start().await;
    let served = node.serve();
    let mut stream = TcpStream::connect(served.address).await.unwrap();
    let head = format!(
        "POST /v1/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
         authorization: Bearer {}\r\ncontent-length: 10485760\r\n\r\n",
        node.admin()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = [0; 12];
    within(stream.read_exact(&mut answer)).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 413");
}

/// HTTP-6.
#[tokio::test(start_paused = true)]
async fn a_body_that_drips_is_refused() {
    let node = TestNode::start().await;
    let drip = futures_util::stream::iter(0..).then(|_| async {
        tokio::time::sleep(Duration::from_secs(5)).await;
        Ok::<_, std::io::Error>(Bytes::from_static(b" "))
    });
    let started = tokio::time::Instant::now();
    node.service()
        .oneshot(post(&node, Body::from_stream(drip)))
        .await
        .map(|response| assert_eq!(response.status(), 408))
        .unwrap();
    assert_eq!(started.elapsed().as_secs(), node.settings.body_read_timeout.as_secs());
}

#[tokio::test]
async fn a_body_that_breaks_off_is_no_whole_one() {
    let node = TestNode::start().await;
    let broken =
        futures_util::stream::iter([Ok(Bytes::from_static(b"{}")), Err(std::io::Error::other("gone"))]);
    node.call(post(&node, Body::from_stream(broken))).await.is_error(400, "bad_json");
}

/// HTTP-6.
#[tokio::test]
async fn a_head_beyond_the_limit_is_refused_in_words() {
    let node = TestNode::start().await;
    let with =
        |bytes: usize| get("/healthz").header("x-much", "x".repeat(bytes)).body(Body::empty()).unwrap();
    assert_eq!(node.call(with(16_000)).await.status, 200);
    node.call(with(16_400)).await.is_problem(431, "head_too_large");
    let long = get(&format!("/state/node?after={}", "1".repeat(16_400))).body(Body::empty()).unwrap();
    node.call(long).await.is_problem(431, "head_too_large");
}

/// HTTP-6: and what is far beyond is cut off by the server.
#[tokio::test]
async fn a_head_far_beyond_the_limit_is_cut_off() {
    let node = TestNode::start().await;
    let served = node.serve();
    let mut stream = TcpStream::connect(served.address).await.unwrap();
    let head = format!("GET /healthz HTTP/1.1\r\nhost: localhost\r\nx-much: {}\r\n\r\n", "x".repeat(200_000));
    // The server may close before it has read all of it.
    let _ = stream.write_all(head.as_bytes()).await;
    let mut answer = [0; 12];
    let read = within(stream.read_exact(&mut answer)).await;
    assert!(read.is_err() || &answer == b"HTTP/1.1 431", "{}", String::from_utf8_lossy(&answer));
}

/// HTTP-6.
#[tokio::test]
async fn a_head_that_drips_closes_the_connection() {
    let node = TestNode::with(|settings| settings.header_read_timeout = Duration::from_millis(50)).await;
    let served = node.serve();
    let mut stream = TcpStream::connect(served.address).await.unwrap();
    stream.write_all(b"GET /healthz HTTP/1.1\r\nhost:").await.unwrap();
    let mut rest = Vec::new();
    within(stream.read_to_end(&mut rest)).await.unwrap();
    assert!(!rest.starts_with(b"HTTP/1.1 200"));
}

/// HTTP-6: while all others wait for this node, a connection beyond the limit waits, and is served when one
/// of them ends.
#[tokio::test]
async fn connections_beyond_the_limit_wait_their_turn() {
    let node = TestNode::with(|settings| settings.connections_max = 2).await;
    let served = node.serve();
    let first = served.get("/events/stream").await;
    let second = served.get("/events/stream").await;
    assert_eq!((first.status().as_u16(), second.status().as_u16()), (200, 200));
    let mut third = TcpStream::connect(served.address).await.unwrap();
    third.write_all(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
    // It must not be served: there is no event to wait for, so time has to tell.
    assert!(tokio::time::timeout(Duration::from_millis(100), third.read_u8()).await.is_err());
    drop(first);
    within(third.read_u8()).await.unwrap();
}

/// HTTP-6: clients that send nothing, a part of a head or a part of a body take no place from others.
#[tokio::test]
async fn a_crowd_of_slow_clients_does_not_keep_the_operator_out() {
    let node = TestNode::with(|settings| settings.connections_max = 32).await;
    let served = node.serve();
    let body = format!(
        "POST /v1/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
         authorization: Bearer {}\r\ncontent-length: 100\r\n\r\n{{",
        node.admin()
    );
    let mut crowd = Vec::new();
    for number in 0..300_usize {
        let mut slow = TcpStream::connect(served.address).await.unwrap();
        let part: &[u8] = match number % 3 {
            0 => b"",
            1 => b"GET /healthz HTTP/1.1\r\nhost: loc",
            _ => body.as_bytes(),
        };
        // It may have been closed for a later one.
        let _ = slow.write_all(part).await;
        crowd.push(slow);
    }
    assert_eq!(served.get("/healthz").await.status(), 200);
    let list = get("/tokens").header("authorization", format!("Bearer {}", node.admin()));
    assert_eq!(served.send(list.body(http_body_util::Full::default()).unwrap()).await.status(), 200);
    drop(crowd);
}

/// HTTP-6: with answers under way on all open places, the kept ones serve health checks and control, and
/// nothing that lasts.
#[tokio::test]
async fn kept_places_serve_health_checks_while_all_others_are_busy() {
    let node = TestNode::with(|settings| settings.connections_max = 16).await;
    let served = node.serve();
    let mut busy = Vec::new();
    for _ in 0..15 {
        busy.push(served.get("/events/stream").await);
    }
    assert_eq!(served.get("/healthz").await.status(), 200);
    for (method, path) in [
        ("GET", "/events/stream"),
        ("GET", "/events"),
        ("GET", "/state/node?after=3.1&wait=60s"),
        ("POST", "/runtimes/x/start?wait=10m"),
        ("POST", "/models/import"),
        ("GET", "/v1/models"),
    ] {
        let ask = Request::builder().method(method).uri(path).header("host", "localhost");
        let ask = ask.header("authorization", format!("Bearer {}", node.admin()));
        let ask = ask.header("accept", "text/event-stream").body(http_body_util::Full::default());
        let refused = served.send(ask.unwrap()).await;
        assert_eq!(refused.status(), 503, "{method} {path}");
        assert_eq!(
            (&refused.headers()["connection"], &refused.headers()["retry-after"]),
            (&"close".parse().unwrap(), &"1".parse().unwrap())
        );
    }
    for path in ["/healthz", "/state/node", "/events?limit=1"] {
        assert_eq!(served.get(path).await.status(), 200, "{path}");
    }
}

/// HTTP-6: connections that are idle keep nobody out, wherever they stand.
#[tokio::test]
async fn idle_connections_on_all_places_refuse_no_request() {
    let node = TestNode::with(|settings| settings.connections_max = 16).await;
    let served = node.serve();
    let mut busy = Vec::new();
    for _ in 0..15 {
        busy.push(served.get("/events/stream").await);
    }
    // On the place that is kept.
    let mut kept = TcpStream::connect(served.address).await.unwrap();
    kept.write_all(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
    within(kept.read_u8()).await.unwrap();
    busy.truncate(5);
    let mut idle = Vec::new();
    while idle.len() < 32 {
        let mut one = TcpStream::connect(served.address).await.unwrap();
        one.write_all(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
        within(one.read_u8()).await.unwrap();
        idle.push(one);
    }
    for _ in 0..8 {
        busy.push(served.get("/events/stream").await);
        assert_eq!(busy.last().unwrap().status(), 200);
    }
}

/// HTTP-6: the time for a head does not run between two requests.
#[tokio::test]
async fn an_idle_connection_outlives_the_time_for_a_head() {
    let node = TestNode::with(|settings| settings.header_read_timeout = Duration::from_millis(20)).await;
    let served = node.serve();
    let mut stream = TcpStream::connect(served.address).await.unwrap();
    let ask = b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n";
    stream.write_all(ask).await.unwrap();
    within(stream.read_u8()).await.unwrap();
    // Nothing may happen, so time has to tell: ten times as long as a head may take.
    let read_to_end = async { while stream.read_u8().await.is_ok() {} };
    assert!(tokio::time::timeout(Duration::from_millis(200), read_to_end).await.is_err());
    stream.write_all(ask).await.unwrap();
    within(stream.read_u8()).await.unwrap();
}

/// HTTP-6: the whole way, with requests that are there before the server looks.
#[tokio::test]
async fn a_connection_that_is_silent_after_its_answer_ends_after_the_idle_time() {
    let node = TestNode::with(|settings| settings.idle_timeout = Duration::from_millis(20)).await;
    let served = node.serve();
    for path in ["/healthz", "/state/node?after=3.1&wait=200ms", "/nowhere"] {
        let mut stream = std::net::TcpStream::connect(served.address).unwrap();
        let ask = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n");
        std::io::Write::write_all(&mut stream, ask.as_bytes()).unwrap();
        stream.set_nonblocking(true).unwrap();
        let mut answer = Vec::new();
        within(TcpStream::from_std(stream).unwrap().read_to_end(&mut answer)).await.unwrap();
        assert!(answer.starts_with(b"HTTP/1.1 "), "{path}: {}", String::from_utf8_lossy(&answer));
    }
}

/// HTTP-6.
#[tokio::test]
async fn event_streams_beyond_the_limit_are_refused_until_one_ends() {
    let node = TestNode::with(|settings| settings.event_streams_max = 2).await;
    let router = node.service();
    let ask = |path: &str| router.clone().oneshot(get(path).body(Body::empty()).unwrap());
    let first = ask("/state/node/stream").await.unwrap();
    let second = ask("/events/stream").await.unwrap();
    assert_eq!((first.status().as_u16(), second.status().as_u16()), (200, 200));
    let third = Answer::of(ask("/state/actors/stream").await.unwrap()).await;
    third.is_problem(429, "too_many_streams");
    assert_eq!(third.header("retry-after"), "5");
    // Documents are not streams.
    assert_eq!(ask("/state/node").await.unwrap().status(), 200);
    drop(first);
    assert_eq!(ask("/state/actors/stream").await.unwrap().status(), 200);
}

/// A stream whose client is gone gives its place back by itself.
#[tokio::test]
async fn a_client_that_goes_away_frees_its_event_stream() {
    let node = TestNode::with(|settings| settings.event_streams_max = 1).await;
    let served = node.serve();
    let first = served.get("/state/node/stream").await;
    assert_eq!(first.status(), 200);
    assert_eq!(served.get("/state/node/stream").await.status(), 429);
    let model = node.model("node").clone();
    assert!(model.has_subscribers());
    drop(first);
    until(|| !model.has_subscribers()).await;
    let mut again = served.get("/state/node/stream").await;
    assert_eq!(again.status(), 200);
    assert!(again.body_mut().frame().await.is_some());
}
