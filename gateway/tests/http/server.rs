//! The server itself: its address and its end.

use std::net::SocketAddr;

use arw_gateway::{BindError, Gateway};
use bytes::Bytes;
use http_body_util::BodyExt;
use serde_json::json;
use tokio::net::TcpStream;

use crate::support::{Events, FakeEngine, TestNode, within};

/// HTTP-1.
#[tokio::test]
async fn an_open_address_without_tokens_is_refused() {
    let mut node = TestNode::start().await;
    node.settings.http = SocketAddr::from(([0, 0, 0, 0], 0));
    let error = Gateway::bind(node.node.clone(), &node.settings).unwrap_err();
    assert!(matches!(error, BindError::OpenToNetwork { .. }));
    assert!(error.to_string().contains("gateway.require_token_for_reads"));
    node.settings.require_token_for_reads = true;
    assert!(Gateway::bind(node.node.clone(), &node.settings).is_ok());
}

#[tokio::test]
async fn a_taken_address_says_by_whom_and_what_to_do() {
    let mut node = TestNode::start().await;
    let served = node.serve();
    node.settings.http = served.address;
    let error = Gateway::bind(node.node.clone(), &node.settings).unwrap_err();
    let BindError::Taken { holder, .. } = &error else { panic!("{error}") };
    if cfg!(target_os = "linux") {
        assert_eq!(holder.as_ref().unwrap().pid, std::process::id());
        assert!(error.to_string().contains(&format!("by pid {}", std::process::id())), "{error}");
    }
    assert!(error.to_string().contains("--http 127.0.0.1:0"), "{error}");
}

#[tokio::test]
async fn two_gateways_live_in_one_process() {
    let (one, two) = (TestNode::start().await, TestNode::start().await);
    let (one, two) = (one.serve(), two.serve());
    assert_ne!(one.address, two.address);
    for served in [&one, &two] {
        assert_eq!(served.get("/healthz").await.status(), 200);
    }
}

/// Event streams and long polls end at once, idle connections close, and an answer that runs may end by
/// itself.
#[tokio::test]
async fn a_shutdown_ends_streams_and_lets_answers_finish() {
    let node = TestNode::start().await;
    let engine = FakeEngine::start();
    node.runtime("r1", "m", &engine).await;
    let feed = engine.then_streams();
    let mut served = node.serve();
    let mut events = Events::new(served.get("/state/node/stream").await.into_body());
    events.next().await.unwrap();
    let idle = TcpStream::connect(served.address).await.unwrap();
    let request = http::Request::post("/v1/completions")
        .header("host", "localhost")
        .header("content-type", "application/json");
    let request = request.header("authorization", format!("Bearer {}", node.admin()));
    feed.send(Ok(Bytes::from_static(b"data: {\"choices\":[{\"text\":\"a\"}]}\n\n"))).await.unwrap();
    let answer =
        served.send(request.body(json!({"model": "m", "stream": true}).to_string().into()).unwrap()).await;
    let address = served.address;
    let poll = tokio::spawn(async move {
        let stream = TcpStream::connect(address).await.unwrap();
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(hyper_util::rt::TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        let request = crate::support::get("/state/node?after=3.1&wait=60s")
            .body(http_body_util::Full::<Bytes>::default())
            .unwrap();
        sender.send_request(request).await.unwrap().status()
    });
    let model = node.model("node").clone();
    crate::support::until(|| format!("{model:?}").contains("subscribers: 2")).await;

    served.stop();
    assert_eq!(events.next().await, None);
    assert_eq!(within(poll).await.unwrap(), 304);
    let mut buffer = [0; 1];
    within(idle.readable()).await.unwrap();
    assert_eq!(idle.try_read(&mut buffer).unwrap(), 0);
    assert!(TcpStream::connect(served.address).await.is_err(), "nobody listens any more");
    assert!(!served.task.is_finished());
    feed.send(Ok(Bytes::from_static(b"data: [DONE]\n\n"))).await.unwrap();
    drop(feed);
    let text = within(answer.into_body().collect()).await.unwrap().to_bytes();
    assert!(text.ends_with(b"data: [DONE]\n\n"), "{text:?}");
    within(served.task).await.unwrap();
}

#[tokio::test]
async fn a_connection_is_reused_for_many_requests() {
    let node = TestNode::start().await;
    let served = node.serve();
    let stream = TcpStream::connect(served.address).await.unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(hyper_util::rt::TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    for path in ["/healthz", "/nowhere", "/state/node", "/v1/models", "/healthz"] {
        let request = crate::support::get(path).body(http_body_util::Full::<Bytes>::default()).unwrap();
        within(sender.ready()).await.unwrap();
        let response = within(sender.send_request(request)).await.unwrap();
        within(response.into_body().collect()).await.unwrap();
    }
}
