//! HTTP-9: the journal.

use arw_actors::journal::event;
use axum::body::Body;
use http::Request;
use serde_json::json;
use tower::ServiceExt;

use crate::support::{Events, TestNode, get, until};

fn removed(node: &TestNode, id: &str) -> u64 {
    node.node.journal.append(event::Runtime::Removed { id: id.to_owned() })
}

async fn open(node: &TestNode, request: Request<Body>) -> Events<Body> {
    let response = node.service().oneshot(request).await.unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    Events::new(response.into_body())
}

/// HTTP-9.
#[tokio::test]
async fn pages_lead_through_the_whole_journal() {
    let node = TestNode::start().await;
    let first = removed(&node, "a");
    for id in ["b", "c", "d"] {
        removed(&node, id);
    }
    let page = node.get(&format!("/events?after={}&limit=3", first - 1)).await.json();
    let subjects: Vec<&str> =
        page["events"].as_array().unwrap().iter().map(|row| row["subject"].as_str().unwrap()).collect();
    assert_eq!(subjects, ["a", "b", "c"]);
    let row = &page["events"][0];
    assert_eq!(
        (&row["seq"], &row["kind"], &row["severity"], &row["data"]),
        (&json!(first), &json!("runtime_removed"), &json!("info"), &json!({"id": "a"}))
    );
    assert!(row["at"].is_string() && row["message"].as_str().unwrap().contains('a'));
    let next = node.get(&format!("/events?after={}", page["next"])).await.json();
    assert_eq!(next["events"].as_array().unwrap().len(), 1);
    assert_eq!(next["oldest"], 1);
    let of_kind = node.get("/events?kind=token_created").await.json();
    assert_eq!(of_kind["events"].as_array().unwrap().len(), 1);
    for limit in ["0", "1001"] {
        assert_eq!(
            node.get(&format!("/events?limit={limit}")).await.is_problem(422, "bad_field")["field"],
            "limit"
        );
    }
}

/// HTTP-9: replay, then live, without a hole or a double.
#[tokio::test]
async fn a_stream_replays_and_goes_on_live() {
    let node = TestNode::start().await;
    let first = removed(&node, "a");
    removed(&node, "b");
    for request in [
        get(&format!("/events/stream?after={first}")).body(Body::empty()).unwrap(),
        get("/events/stream").header("last-event-id", first.to_string()).body(Body::empty()).unwrap(),
        get(&format!("/events?after={first}"))
            .header("accept", "text/event-stream")
            .body(Body::empty())
            .unwrap(),
    ] {
        let newest = node.node.journal.last_seq();
        let mut events = open(&node, request).await;
        for seq in first + 1..=newest {
            assert_eq!(events.next().await.unwrap().id, seq.to_string());
        }
        let seq = removed(&node, "live");
        let event = events.next().await.unwrap();
        assert_eq!(
            (event.name.as_str(), event.id.clone(), &event.json()["subject"]),
            ("runtime_removed", seq.to_string(), &json!("live"))
        );
    }
}

/// HTTP-9.
#[tokio::test]
async fn a_stream_without_a_number_starts_live_and_a_kind_filters_it() {
    let node = TestNode::start().await;
    removed(&node, "before");
    let mut events =
        open(&node, get("/events/stream?kind=runtime_recovered").body(Body::empty()).unwrap()).await;
    removed(&node, "other");
    node.node.journal.append(event::Runtime::Recovered { id: "a".to_owned(), down_ms: 5 });
    assert_eq!(events.next().await.unwrap().name, "runtime_recovered");
    node.call(get("/events/stream").header("last-event-id", "x").body(Body::empty()).unwrap())
        .await
        .is_problem(422, "bad_field");
}

/// HTTP-9.
#[tokio::test]
async fn what_retention_took_is_told_as_a_gap() {
    let node = TestNode::start().await;
    for _ in 0..1_500 {
        removed(&node, "a");
    }
    assert!(node.node.journal.flush(crate::support::PATIENCE).await);
    node.node.journal.enforce_retention();
    let last = node.node.journal.last_seq();
    until(|| node.node.journal.oldest_seq() > last - 1_000).await;
    let oldest = node.node.journal.oldest_seq();
    let mut events = open(&node, get("/events/stream?after=1").body(Body::empty()).unwrap()).await;
    let gap = events.next().await.unwrap();
    assert_eq!((gap.name.as_str(), gap.json()), ("gap", json!({"from": 2, "to": oldest - 1})));
    assert_eq!(events.next().await.unwrap().id, oldest.to_string());
    assert_eq!(node.get("/events?after=1&limit=1").await.json()["oldest"], oldest);
}
