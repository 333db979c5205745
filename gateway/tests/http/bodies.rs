//! HTTP-5, HTTP-12 and HTTP-13: bodies in odd forms, and what becomes of an engine's own words.

use bytes::Bytes;
use serde_json::{Value, json};

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
