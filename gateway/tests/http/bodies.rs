//! HTTP-5, HTTP-12 and HTTP-13: bodies in odd forms, and what becomes of an engine's own words.

use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use http::Request;
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tower::ServiceExt;

use crate::support::{Does, FakeEngine, TestNode};

const CHAT: &str = "/v1/chat/completions";

async fn one_runtime() -> (TestNode, FakeEngine) {
    let (node, engine) = (TestNode::start().await, FakeEngine::start());
    node.runtime("r1", "smol", &engine).await;
    (node, engine)
}

fn event(data: &Value) -> String {
    format!("data: {data}\n\n")
}

/// What a client gets of a stream that the engine sends in these pieces.
async fn streamed(node: &TestNode, engine: &FakeEngine, body: Value, pieces: &[String]) -> String {
    let feed = engine.then_streams();
    for piece in pieces {
        feed.send(Ok(Bytes::from(piece.clone()))).await.unwrap();
    }
    drop(feed);
    let answered = node.send("POST", CHAT, Some(body)).await;
    assert_eq!(answered.status, 200);
    String::from_utf8(answered.bytes.to_vec()).unwrap()
}

/// HTTP-13: llama.cpp moves `timings` out of the finish chunk where it is asked for usage, as it always is.
#[tokio::test]
async fn what_an_engine_says_of_a_finished_answer_reaches_who_did_not_ask_for_usage() {
    let (node, engine) = one_runtime().await;
    let token = event(&json!({"choices": [{"index": 0, "delta": {"content": "a"}}]}));
    let last = json!({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}], "model": "smol"});
    let timings = json!({"predicted_ms": 3.5});
    let mut with_timings = last.clone();
    with_timings["timings"] = timings.clone();
    let usage =
        json!({"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 1}, "timings": timings});
    let done = "data: [DONE]\n\n".to_owned();
    let pieces = [token.clone(), event(&last), event(&usage), done.clone()];
    for options in [json!(null), json!({}), json!({"include_usage": false})] {
        let body = json!({"model": "smol", "stream": true, "stream_options": options});
        let text = streamed(&node, &engine, body, &pieces).await;
        assert_eq!(text, [token.clone(), event(&with_timings), done.clone()].concat(), "{options}");
    }
    let body = json!({"model": "smol", "stream": true, "stream_options": {"include_usage": true}});
    let text = streamed(&node, &engine, body, &pieces).await;
    assert_eq!(text, pieces.concat());
    assert_eq!((node.fixed.usage("r1").requests, node.fixed.usage("r1").completion_tokens), (4, 4));
}

/// HTTP-13: what waits for a usage chunk does not wait while an engine sends nothing but comments.
#[tokio::test]
async fn the_last_chunk_of_an_answer_is_not_held_for_long() {
    let (node, engine) = one_runtime().await;
    let feed = engine.then_streams();
    let last = event(&json!({"choices": [{"index": 0, "delta": {"content": "a"}, "finish_reason": "stop"}]}));
    feed.send(Ok(Bytes::from(format!("{last}: ping\n\n")))).await.unwrap();
    let pings = tokio::spawn(async move {
        loop {
            tokio::time::sleep(Duration::from_millis(100)).await;
            if feed.send(Ok(Bytes::from(": ping\n\n"))).await.is_err() {
                return;
            }
        }
    });
    let request = Request::post(CHAT).header("host", "localhost").header("content-type", "application/json");
    let request = request.header("authorization", format!("Bearer {}", node.admin()));
    let body = json!({"model": "smol", "stream": true}).to_string();
    let answered = node.service().oneshot(request.body(Body::from(body)).unwrap()).await.unwrap();
    let mut body = answered.into_body();
    let mut text = String::new();
    while !text.contains("finish_reason") {
        let frame = tokio::time::timeout(Duration::from_secs(20), body.frame()).await.unwrap();
        text.push_str(std::str::from_utf8(frame.unwrap().unwrap().data_ref().unwrap()).unwrap());
    }
    assert!(text.starts_with(&format!("{last}: ping\n\n")), "{text}");
    drop(body);
    pings.await.unwrap();
}

/// HTTP-12: clients shorten the conversation at this word, and raise an error at this form.
#[tokio::test]
async fn a_context_that_is_exceeded_is_told_in_openais_word() {
    let (node, engine) = one_runtime().await;
    let overflow = json!({"code": 400, "message": "request (2131 tokens) exceeds the available context size (2048 tokens)",
        "type": "exceed_context_size_error", "n_prompt_tokens": 2131, "n_ctx": 2048});
    let expected = json!({"code": "context_length_exceeded", "message": overflow["message"],
        "type": "exceed_context_size_error", "n_prompt_tokens": 2131, "n_ctx": 2048, "param": null});
    engine.then(Does::Answers(400, "application/json", json!({"error": overflow}).to_string().into()));
    let answered = node.send("POST", CHAT, Some(json!({"stream": true}))).await;
    assert_eq!((answered.status.as_u16(), &answered.json()["error"]), (400, &expected));
    let token = event(&json!({"choices": [{"index": 0, "delta": {"content": "a"}}]}));
    for error in [format!("error: {overflow}\n\n"), event(&json!({"error": overflow}))] {
        let text = streamed(&node, &engine, json!({"stream": true}), &[token.clone(), error]).await;
        assert_eq!(text, [token.clone(), event(&json!({"error": expected}))].concat());
    }
}

/// HTTP-5: on every route that reads a body.
#[tokio::test]
async fn a_body_in_a_form_that_is_not_read_is_told_what_it_is() {
    let (node, engine) = one_runtime().await;
    let request = |path: &str, headers: &[(&str, &str)], body: &[u8]| {
        let request = Request::post(path).header("host", "localhost");
        let request = request.header("authorization", format!("Bearer {}", node.admin()));
        let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        request.body(Body::from(body.to_vec())).unwrap()
    };
    let json = ("content-type", "application/json");
    let gzip = ("content-encoding", "gzip");
    let utf16: Vec<u8> = "{\"model\":\"smol\"}".encode_utf16().flat_map(u16::to_le_bytes).collect();
    for (path, is_v1) in [(CHAT, true), ("/v1/embeddings", true), ("/tokens", false), ("/runtimes", false)] {
        let ask = async |headers: &[(&str, &str)], body: &[u8], status, word| {
            let answered = node.call(request(path, headers, body)).await;
            let told =
                if is_v1 { answered.is_error(status, word) } else { answered.is_problem(status, word) };
            let words = told.get("message").or(told.get("detail")).unwrap().as_str().unwrap().to_owned();
            (words, answered.header("accept-encoding").to_owned())
        };
        // Also where the header lies.
        for body in [&b"\x1f\x8b\x08"[..], b"{}"] {
            let (words, accepted) = ask(&[json, gzip], body, 415, "body_compressed").await;
            assert!(words.contains("gzip") && accepted == "identity", "{path}: {words}");
        }
        let latin = ("content-type", "application/json; charset=ISO-8859-1");
        let (words, accepted) = ask(&[latin], b"{}", 415, "body_not_utf8").await;
        assert!(words.contains("iso-8859-1") && accepted.is_empty(), "{path}: {words}");
        let (words, _) = ask(&[json], b"\x1f\x8b\x08\0", 400, "bad_json").await;
        assert!(words.contains("gzip"), "{path}: {words}");
        let (words, _) = ask(&[json], &utf16, 400, "bad_json").await;
        assert!(words.contains("UTF-16"), "{path}: {words}");
    }
    engine.then_answers(&json!({"object": "chat.completion"}));
    let identity = ("content-encoding", "identity");
    let marked = b"\xef\xbb\xbf{\"model\":\"smol\"}";
    assert_eq!(node.call(request(CHAT, &[json, identity], marked)).await.status, 200);
    assert_eq!(engine.requests().remove(0).body, &marked[3..]);
    let marked = b"\xef\xbb\xbf{\"name\":\"x\",\"scopes\":[\"infer\"]}";
    assert_eq!(node.call(request("/tokens", &[json], marked)).await.status, 201);
}

/// HTTP-5: nothing of it is a field.
#[tokio::test]
async fn a_body_that_is_no_object_names_no_field() {
    let (node, _engine) = one_runtime().await;
    for body in [json!([]), json!(null), json!("a"), json!(3)] {
        let error = node.send("POST", CHAT, Some(body.clone())).await.is_error(422, "bad_field");
        assert_eq!(error["param"], Value::Null, "{body}");
        let problem = node.send("POST", "/tokens", Some(body.clone())).await.is_problem(422, "bad_field");
        assert_eq!(problem.get("field"), None, "{body}");
    }
}
