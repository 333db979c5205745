//! HTTP-7 and HTTP-8: read models.

use std::time::Duration;

use axum::body::Body;
use http::Request;
use serde_json::{Value, json};
use tower::ServiceExt;

use crate::support::{Events, TestNode, get, runtimes};

fn with_header(path: &str, name: &'static str, value: &str) -> Request<Body> {
    get(path).header(name, value).body(Body::empty()).unwrap()
}

/// HTTP-7.
#[tokio::test]
async fn a_document_carries_its_version_and_is_not_sent_twice() {
    let node = TestNode::start().await;
    let first = node.get("/state/runtimes").await;
    assert_eq!(first.json()["runtimes"], json!([]));
    assert_eq!((first.json()["epoch"].clone(), first.json()["version"].clone()), (json!(3), json!(1)));
    assert_eq!((first.header("etag"), first.header("x-arw-version")), ("\"3.1\"", "3.1"));
    assert_eq!(
        (first.header("content-type"), first.header("cache-control")),
        ("application/json", "no-cache")
    );
    for tag in ["\"3.1\"", "W/\"3.1\"", "\"1.1\", \"3.1\"", "*"] {
        let again = node.call(with_header("/state/runtimes", "if-none-match", tag)).await;
        assert_eq!(
            (again.status.as_u16(), again.bytes.len(), again.header("etag")),
            (304, 0, "\"3.1\""),
            "{tag}"
        );
    }
    node.model("runtimes").publish(runtimes(&["a"]));
    let changed = node.call(with_header("/state/runtimes", "if-none-match", "\"3.1\"")).await;
    assert_eq!((changed.status.as_u16(), changed.header("etag")), (200, "\"3.2\""));
    assert_eq!(changed.json()["runtimes"][0]["id"], "a");
}

/// HTTP-7.
#[tokio::test(start_paused = true)]
async fn a_long_poll_answers_when_something_is_newer() {
    let node = TestNode::start().await;
    // What the client has is old already, or of another start of the node.
    assert_eq!(node.get("/state/runtimes?after=3.9&wait=30s").await.header("x-arw-version"), "3.1");
    assert_eq!(node.get("/state/runtimes?after=2.1&wait=30s").await.header("x-arw-version"), "3.1");
    assert_eq!(node.get("/state/runtimes?after=3.1").await.status, 304);
    let model = node.model("runtimes").clone();
    let publish = async {
        tokio::time::sleep(Duration::from_secs(7)).await;
        model.publish(runtimes(&["a"]));
    };
    let started = tokio::time::Instant::now();
    let (answer, ()) = tokio::join!(node.get("/state/runtimes?after=3.1&wait=10s"), publish);
    assert_eq!((answer.status.as_u16(), answer.header("x-arw-version")), (200, "3.2"));
    assert_eq!(started.elapsed().as_secs(), 7);
}

/// HTTP-7.
#[tokio::test(start_paused = true)]
async fn a_long_poll_gives_up_after_its_wait_and_never_waits_longer_than_a_minute() {
    let node = TestNode::start().await;
    for (query, seconds) in
        [("after=3.1&wait=2500ms", 2), ("after=3.1&wait=30s", 30), ("after=3.1&wait=5m", 60)]
    {
        let started = tokio::time::Instant::now();
        let answer = node
            .service()
            .oneshot(get(&format!("/state/runtimes?{query}")).body(Body::empty()).unwrap())
            .await
            .unwrap();
        assert_eq!((answer.status().as_u16(), started.elapsed().as_secs()), (304, seconds), "{query}");
    }
    assert_eq!(node.get("/state/runtimes?after=17").await.is_problem(422, "bad_field")["field"], "after");
    assert_eq!(
        node.get("/state/runtimes?after=3.1&wait=soon").await.is_problem(422, "bad_field")["field"],
        "wait"
    );
}

async fn open(node: &TestNode, request: Request<Body>) -> Events<Body> {
    let response = node.service().oneshot(request).await.unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    assert_eq!(response.headers()["cache-control"], "no-store");
    Events::new(response.into_body())
}

/// HTTP-8: a snapshot, then patches that lead from each body to the next.
#[tokio::test]
async fn a_stream_is_a_snapshot_and_patches_that_lead_to_the_newest_body() {
    let node = TestNode::start().await;
    let mut events = open(&node, get("/state/runtimes/stream").body(Body::empty()).unwrap()).await;
    let first = events.next().await.unwrap();
    assert_eq!((first.name.as_str(), first.id.as_str()), ("snapshot", "3.1"));
    let mut body = first.json();
    for (at, ids) in [&["a"][..], &["a", "b"], &["b"]].into_iter().enumerate() {
        node.model("runtimes").publish(runtimes(ids));
        let event = events.next().await.unwrap();
        assert_eq!((event.name.as_str(), event.id.clone()), ("patch", format!("3.{}", at + 2)));
        assert_eq!(event.json()["from"], format!("3.{}", at + 1));
        let patch: json_patch::Patch = serde_json::from_value(event.json()["patch"].clone()).unwrap();
        json_patch::patch(&mut body, &patch).unwrap();
        let newest: Value = serde_json::from_slice(&node.model("runtimes").current().body).unwrap();
        assert_eq!(body, newest);
    }
    assert_eq!(events.frames, 4, "one write for each event");
}

/// HTTP-8.
#[tokio::test]
async fn a_stream_resumes_where_it_was_or_says_why_not() {
    let node = TestNode::start().await;
    node.model("runtimes").publish(runtimes(&["a"]));
    let path = "/state/runtimes/stream";
    let mut resumed = open(&node, with_header(path, "last-event-id", "3.1")).await;
    let event = resumed.next().await.unwrap();
    assert_eq!(
        (event.name.as_str(), event.id.as_str(), &event.json()["from"]),
        ("patch", "3.2", &json!("3.1"))
    );
    let mut by_query =
        open(&node, get("/state/runtimes/stream?after=3.1").body(Body::empty()).unwrap()).await;
    assert_eq!(by_query.next().await.unwrap(), event);
    for (id, reason) in [("2.1", "epoch"), ("3.77", "gap")] {
        let mut events = open(&node, with_header(path, "last-event-id", id)).await;
        let told = events.next().await.unwrap();
        assert_eq!((told.name.as_str(), told.json()), ("resync", json!({"reason": reason})), "{id}");
        let whole = events.next().await.unwrap();
        assert_eq!((whole.name.as_str(), whole.id.as_str()), ("snapshot", "3.2"));
    }
    node.call(with_header(path, "last-event-id", "soon")).await.is_problem(422, "bad_field");
}

/// HTTP-8.
#[tokio::test]
async fn a_slow_reader_leaps_and_is_told_how_far() {
    let node = TestNode::start().await;
    let mut events = open(&node, get("/state/runtimes/stream").body(Body::empty()).unwrap()).await;
    events.next().await.unwrap();
    // Many rows of which one changes: else the whole body would be smaller than the patch, and be sent
    // instead.
    node.model("runtimes").publish(runtimes(&["same"; 30]));
    events.next().await.unwrap();
    for id in ["a", "b", "c"] {
        let mut ids = ["same"; 30];
        ids[7] = id;
        node.model("runtimes").publish(runtimes(&ids));
    }
    let lag = events.next().await.unwrap();
    assert_eq!((lag.name.as_str(), lag.json()), ("lag", json!({"missed": 2})));
    let patch = events.next().await.unwrap();
    assert_eq!(
        (patch.name.as_str(), patch.id.as_str(), &patch.json()["from"]),
        ("patch", "3.5", &json!("3.2"))
    );
}

/// HTTP-8.
#[tokio::test(start_paused = true)]
async fn a_silent_stream_says_that_it_lives() {
    let node = TestNode::start().await;
    let mut events = open(&node, get("/state/node/stream").body(Body::empty()).unwrap()).await;
    events.next().await.unwrap();
    let started = tokio::time::Instant::now();
    for beat in 1..=3_u64 {
        assert_eq!(events.next().await.unwrap().name, ":");
        assert_eq!(started.elapsed().as_secs(), 15 * beat);
    }
}

#[tokio::test]
async fn every_read_model_has_a_stream_of_its_own() {
    let node = TestNode::start().await;
    for view in arw_gateway::views() {
        let name = view.name;
        let now = node.get(&format!("/state/{name}")).await.json();
        let mut events =
            open(&node, get(&format!("/state/{name}/stream")).body(Body::empty()).unwrap()).await;
        assert_eq!(events.next().await.unwrap().json(), now, "{name}");
    }
}
