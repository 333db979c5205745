//! HTTP-2, HTTP-5 and HTTP-10: names and paths that are nearly right, and browsers.

use axum::body::Body;
use http::Request;
use serde_json::json;

use crate::support::{Answer, FakeEngine, TestNode};

const CHAT: &str = "/v1/chat/completions";

async fn preflight(node: &TestNode, path: &str) -> Answer {
    let request = Request::options(path).header("host", "localhost").header("origin", "https://app.example");
    let request = request.header("access-control-request-method", "POST");
    node.call(request.body(Body::empty()).unwrap()).await
}

/// HTTP-10.
#[tokio::test]
async fn a_model_that_is_nearly_named_is_told_by_its_name() {
    let (node, engine) = (TestNode::start().await, FakeEngine::start());
    node.runtime("r1", "smollm2", &engine).await;
    for asked in ["SMOLLM2", "smollm2.gguf", "smollm2:latest", "openai/smollm2", " smollm2", "smolm2"] {
        let posted = node.send("POST", CHAT, Some(json!({"model": asked}))).await;
        let shown = node.send("GET", &format!("/v1/models/{}", asked.replace(' ', "%20")), None).await;
        for answered in [posted, shown] {
            let error = answered.is_error(404, "model_not_found");
            assert!(
                error["help"].as_str().unwrap().starts_with("did you mean `smollm2`?"),
                "{asked}: {error}"
            );
        }
    }
    let error =
        node.send("POST", CHAT, Some(json!({"model": "gpt-4o"}))).await.is_error(404, "model_not_found");
    assert!(!error["help"].as_str().unwrap().contains("did you mean"), "{error}");
}

/// HTTP-5: in the form that such a client reads.
#[tokio::test]
async fn a_wrong_base_url_is_told() {
    let node = TestNode::start().await;
    for (method, path, status, word) in [
        ("GET", "/models", 404, "not_found"),
        ("GET", "/models/smollm2", 405, "method_not_allowed"),
        ("POST", "/chat/completions", 404, "not_found"),
        ("POST", "/completions", 404, "not_found"),
        ("POST", "/embeddings", 404, "not_found"),
        ("POST", "/v1/v1/chat/completions", 404, "not_found"),
        ("GET", "/v1/v1/models", 404, "not_found"),
        ("POST", "/openai/v1/chat/completions", 404, "not_found"),
    ] {
        let error = node.send(method, path, None).await.is_error(status, word);
        assert!(error["help"].as_str().unwrap().contains("the base URL must end in /v1"), "{path}: {error}");
    }
    let error = node.send("POST", "/v1/chat/completions/", None).await.is_error(404, "not_found");
    assert!(error["help"].as_str().unwrap().contains("call /v1/chat/completions"), "{error}");
    // What is this API's own stays in its form.
    node.send("POST", "/models/smollm2", None).await.is_problem(405, "method_not_allowed");
    node.send("GET", "/state/models/", None).await.is_problem(404, "not_found");
}

/// HTTP-2: no CORS headers, and a word of why.
#[tokio::test]
async fn a_browsers_preflight_is_told_that_pages_are_not_served() {
    let node = TestNode::start().await;
    for (path, status, is_v1) in [(CHAT, 405, true), ("/tokens", 405, false), ("/nowhere", 404, false)] {
        let answered = preflight(&node, path).await;
        let word = if status == 405 { "method_not_allowed" } else { "not_found" };
        let told = if is_v1 { answered.is_error(status, word) } else { answered.is_problem(status, word) };
        let detail = told.get("message").or(told.get("detail")).unwrap().as_str().unwrap();
        assert!(detail.contains("https://app.example"), "{detail}");
        let help = told["help"].as_str().unwrap();
        assert!(help.contains("CORS") && help.contains("its own server"), "{help}");
        assert!(!answered.headers.keys().any(|name| name.as_str().starts_with("access-control-")));
    }
    // Not a browser's.
    let request = Request::options(CHAT).header("host", "localhost").body(Body::empty()).unwrap();
    let error = node.call(request).await.is_error(405, "method_not_allowed");
    assert!(!error["help"].as_str().unwrap().contains("CORS"), "{error}");
}
