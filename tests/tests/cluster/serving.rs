//! Requests to one node for a model of another.

use std::time::Duration;

use arw_tests::http;
use http_body_util::BodyExt as _;
use serde_json::{Value, json};

use crate::kit::{Node, cluster};

pub(crate) async fn chat(node: &Node, model: &str, stream: bool) -> ::http::Response<hyper::body::Incoming> {
    let body = json!({"model": model, "stream": stream, "messages": [{"role": "user", "content": "hello"}]});
    let method = ::http::Method::POST;
    let token = Some(node.process.token.as_str());
    http::open(&node.process.address, method, "/v1/chat/completions", token, Some(body)).await.unwrap()
}

pub(crate) async fn until_listed(node: &Node, model: &str) {
    let listed = async {
        loop {
            let models = node.process.get("/v1/models").await.unwrap().json();
            if models["data"]
                .as_array()
                .unwrap()
                .iter()
                .any(|row| row["id"] == model && row["state"] == "ready")
            {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(http::PATIENCE, listed).await.expect("the model is listed");
}

#[tokio::test]
async fn a_gateway_streams_the_answer_of_a_model_on_another_node() {
    let [desk, worker] = cluster(["desk", "worker"]).await;
    worker.add_fake("far", &[]).await.unwrap();
    until_listed(&desk, "far").await;
    let answer = chat(&desk, "far", true).await;
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.headers()["x-arw-runtime"], "far");
    assert_eq!(answer.headers()["x-arw-node"], worker.id().await.as_str());
    let text = String::from_utf8(answer.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap();
    assert!(text.ends_with("data: [DONE]\n\n"), "{text}");
    let whole = chat(&desk, "far", false).await;
    let body: Value = serde_json::from_slice(&whole.into_body().collect().await.unwrap().to_bytes()).unwrap();
    assert!(body["usage"]["completion_tokens"].as_u64().unwrap() > 0, "{body:#}");
    // The serving node counts too, once its own end of the answer is over.
    worker.process.until("far", |row| row["usage"]["requests"] == 2).await.unwrap();
}

#[tokio::test]
async fn a_node_shows_the_tree_of_another() {
    let [desk, worker] = cluster(["desk", "worker"]).await;
    worker.add_fake("far", &[]).await.unwrap();
    let tree = desk.process.get("/state/actors?node=worker").await.unwrap();
    assert_eq!(tree.status, 200, "{tree:?}");
    assert!(tree.json()["root"].to_string().contains("node/runtimes/far"));
    let shown = desk.arw(&["actors", "tree", "--node", "worker"]);
    assert!(shown.contains("far"), "{shown}");
    let unknown = desk.process.get("/state/actors?node=nobody").await.unwrap();
    assert_eq!(unknown.status, 404, "{unknown:?}");
}

#[tokio::test]
async fn a_drained_node_gets_nothing_new() {
    let [desk, worker] = cluster(["desk", "worker"]).await;
    worker.add_fake("far", &[]).await.unwrap();
    until_listed(&desk, "far").await;
    // HTTP-21: only the home node drains others.
    let refused = worker.process.post("/cluster/nodes/desk/drain", json!({})).await.unwrap();
    assert_eq!(refused.status, 403, "{refused:?}");
    desk.arw(&["cluster", "drain", "worker"]);
    desk.until("worker", "draining", |row| row["draining"] == true).await;
    // HTTP-23
    assert_eq!(chat(&desk, "far", false).await.status(), 503);
    assert_eq!(chat(&desk, "unknown", false).await.status(), 404);
    desk.arw(&["cluster", "resume", "worker"]);
    until_listed(&desk, "far").await;
    assert_eq!(chat(&desk, "far", false).await.status(), 200);
}

#[tokio::test]
async fn a_node_that_is_killed_in_the_middle_of_an_answer_ends_the_stream_with_a_reason() {
    let [desk, mut worker] = cluster(["desk", "worker"]).await;
    worker.add_fake("far", &["--tokens", "1000", "--token-delay-ms", "20"]).await.unwrap();
    until_listed(&desk, "far").await;
    let mut body = chat(&desk, "far", true).await.into_body();
    let first = body.frame().await.unwrap().unwrap();
    assert!(first.is_data());
    worker.process.kill().unwrap();
    let rest = async {
        let mut text = String::new();
        while let Some(Ok(frame)) = body.frame().await {
            text.push_str(&String::from_utf8_lossy(frame.data_ref().unwrap()));
        }
        text
    };
    let text = tokio::time::timeout(Duration::from_secs(10), rest).await.expect("the stream ends");
    assert!(text.contains("node_lost") && !text.contains("[DONE]"), "{text}");
    // HTTP-23: it is away, and not unknown.
    let away = chat(&desk, "far", false).await;
    assert_eq!((away.status().as_u16(), away.headers().contains_key("retry-after")), (503, true));
}
