//! Who is let in, and how a refusal looks.

use arw_actors::policy::Scope;
use axum::body::Body;
use http::Request;
use serde_json::json;

use crate::support::{TestNode, get};

/// HTTP-4.
#[tokio::test]
async fn reading_needs_no_token_on_loopback() {
    let node = TestNode::start().await;
    for path in [
        "/healthz",
        "/readyz",
        "/metrics",
        "/state/node",
        "/state/actors",
        "/state/runtimes",
        "/state/models",
        "/events",
        "/spec/openapi.json",
    ] {
        assert_eq!(node.get(path).await.status, 200, "{path}");
    }
    // Not a 401: there is no such runtime.
    node.get("/runtimes/nobody/logs").await.is_problem(404, "not_found");
}

/// HTTP-1 and HTTP-4: where reads need a token, none of them is open.
#[tokio::test]
async fn reading_needs_a_token_where_the_settings_say_so() {
    let node = TestNode::with(|settings| settings.require_token_for_reads = true).await;
    let reader = node.token("reader", &[Scope::StateRead]).await;
    for path in ["/healthz", "/readyz", "/metrics", "/state/node", "/events", "/spec/openapi.json"] {
        node.get(path).await.is_problem(401, "token_missing");
        let request =
            get(path).header("authorization", format!("Bearer {reader}")).body(Body::empty()).unwrap();
        assert_eq!(node.call(request).await.status, 200, "{path}");
    }
}

/// The calls that are not open, as they are described: with a name in place of each parameter.
fn calls(document: &serde_json::Value) -> Vec<(String, String, String)> {
    let mut calls = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        let path: Vec<&str> =
            path.split('/').map(|part| if part.starts_with('{') { "x" } else { part }).collect();
        for (method, operation) in item.as_object().unwrap() {
            if let Some(scope) = operation["security"][0]["token"][0].as_str() {
                calls.push((method.to_uppercase(), path.join("/"), scope.to_owned()));
            }
        }
    }
    calls
}

/// HTTP-3: everything else needs a token with the right scope, and each refusal says which.
#[tokio::test]
async fn every_call_that_changes_something_needs_its_scope() {
    let node = TestNode::start().await;
    let document = node.get("/spec/openapi.json").await.json();
    let mut closed = 0;
    for (method, path, scope) in calls(&document) {
        closed += 1;
        let others: Vec<Scope> =
            Scope::ALL.into_iter().filter(|it| ![&*scope, "admin"].contains(&it.as_str())).collect();
        let others = node.token(&format!("others-{closed}"), &others).await;
        let (method, path) = (method.as_str(), path.as_str());
        let request = |token: Option<&str>| {
            let request = Request::builder().method(method).uri(path).header("host", "localhost");
            let request = token
                .into_iter()
                .fold(request, |request, token| request.header("authorization", format!("Bearer {token}")));
            request.body(Body::empty()).unwrap()
        };
        let (none, other) = (node.call(request(None)).await, node.call(request(Some(&others))).await);
        if path.starts_with("/v1/") {
            assert_eq!(none.is_error(401, "token_missing")["scope"], scope);
            assert_eq!(other.is_error(403, "scope_missing")["scope"], scope);
        } else {
            assert_eq!(none.is_problem(401, "token_missing")["scope"], scope, "{path}");
            assert_eq!(other.is_problem(403, "scope_missing")["scope"], scope, "{path}");
        }
        assert_eq!(none.header("www-authenticate"), "Bearer realm=\"arw\"");
    }
    assert!(closed >= 23, "{closed}");
}

/// HTTP-3.
#[tokio::test]
async fn a_revoked_token_is_refused_at_once_and_none_is_ever_shown_again() {
    let node = TestNode::start().await;
    let created = node
        .send("POST", "/tokens", Some(json!({"name": "laptop", "scopes": ["infer"], "expires_in_s": 3600})))
        .await;
    assert_eq!(created.status, 201);
    assert_eq!(created.header("cache-control"), "no-store");
    let (id, text) = (
        created.json()["id"].as_str().unwrap().to_owned(),
        created.json()["token"].as_str().unwrap().to_owned(),
    );
    assert!(text.starts_with(&format!("arw_{id}_")));
    assert_eq!(created.json()["scopes"], json!(["infer"]));
    assert!(created.json()["expires_at"].is_string());
    let ask =
        || get("/v1/models").header("authorization", format!("Bearer {text}")).body(Body::empty()).unwrap();
    assert_eq!(node.call(ask()).await.status, 200);
    let listed = node.send("GET", "/tokens", None).await;
    assert!(!String::from_utf8_lossy(&listed.bytes).contains(&text));
    assert!(
        listed.json()["tokens"]
            .as_array()
            .unwrap()
            .iter()
            .any(|row| row["id"] == id.as_str() && row["last_used_at"].is_string())
    );
    assert_eq!(node.send("DELETE", &format!("/tokens/{id}"), None).await.status, 204);
    let refused = node.call(ask()).await.is_error(401, "invalid_api_key");
    assert!(refused["message"].as_str().unwrap().contains("revoked"));
    let gone = node.send("DELETE", "/tokens/00000000", None).await.is_problem(404, "not_found");
    assert!(gone["known"].is_array());
}

#[tokio::test]
async fn a_token_request_with_a_wrong_field_is_told_which() {
    let node = TestNode::start().await;
    for (body, field) in [
        (json!({"name": "a", "scopes": ["infer", "infre"]}), "scopes[1]"),
        (json!({"name": "a b", "scopes": ["infer"]}), "name"),
        (json!({"name": "a", "scopes": []}), "scopes"),
        (json!({"name": "a", "scopes": ["infer"], "expires_in_s": 0}), "expires_in_s"),
        (json!({"name": "a", "scopes": ["infer"], "expires": 3}), "expires"),
        (json!({"name": "a", "scopes": "infer"}), "scopes"),
        (json!({"name": "a"}), "scopes"),
        (json!({"name": "a", "scopes": ["infer", 3]}), "scopes[1]"),
    ] {
        let problem = node.send("POST", "/tokens", Some(body.clone())).await.is_problem(422, "bad_field");
        assert_eq!(problem["field"], field, "{body}: {problem}");
    }
}

/// HTTP-2.
#[tokio::test]
async fn a_page_that_pretends_to_be_local_is_refused() {
    let node = TestNode::with(|settings| settings.allowed_hosts = vec!["box.lan".to_owned()]).await;
    let ask = |host: &str, path: &str| Request::get(path).header("host", host).body(Body::empty()).unwrap();
    node.call(ask("evil.example:8091", "/state/node")).await.is_problem(421, "wrong_host");
    node.call(ask("evil.example", "/v1/models")).await.is_error(421, "wrong_host");
    node.call(Request::get("/healthz").body(Body::empty()).unwrap()).await.is_problem(421, "wrong_host");
    for host in ["localhost:8091", "127.0.0.1", "[::1]:8091", "box.lan"] {
        let answer = node.call(ask(host, "/state/node")).await;
        assert_eq!(answer.status, 200, "{host}");
        assert!(!answer.headers.keys().any(|name| name.as_str().starts_with("access-control-")));
    }
    // A preflight gets no leave either.
    let preflight = Request::options("/v1/chat/completions")
        .header("host", "localhost")
        .header("origin", "http://evil.example");
    let answer = node
        .call(preflight.header("access-control-request-method", "POST").body(Body::empty()).unwrap())
        .await;
    assert_eq!(answer.status, 405);
    assert!(!answer.headers.contains_key("access-control-allow-origin"));
}

/// HTTP-5: also what no handler answers has the one shape.
#[tokio::test]
async fn unknown_paths_and_methods_are_refused_in_words() {
    let node = TestNode::start().await;
    node.get("/nowhere").await.is_problem(404, "not_found");
    node.get("/v1/nowhere").await.is_error(404, "not_found");
    let known = node.get("/state/weather").await.is_problem(404, "not_found");
    let views: Vec<&str> = arw_gateway::views().iter().map(|view| view.name).collect();
    assert_eq!(known["known"], json!(views));
    let wrong = node.send("DELETE", "/state/node", None).await;
    wrong.is_problem(405, "method_not_allowed");
    assert_eq!(wrong.header("allow"), "GET,HEAD");
    assert_eq!(
        node.send("PUT", "/v1/chat/completions", None).await.is_error(405, "method_not_allowed")["type"],
        "invalid_request_error"
    );
    node.get("/runtimes/%FF/logs").await.is_problem(404, "not_found");
}

/// HTTP-5: every status of the list, in the form of its path.
#[tokio::test]
async fn bodies_that_are_not_what_they_should_be_are_refused() {
    let node = TestNode::start().await;
    let send = |path: &str, kind: Option<&str>, body: &'static str| {
        let request = Request::post(path)
            .header("host", "localhost")
            .header("authorization", format!("Bearer {}", node.admin()));
        let request = kind.into_iter().fold(request, |request, kind| request.header("content-type", kind));
        request.body(Body::from(body)).unwrap()
    };
    let json = Some("application/json");
    node.call(send("/runtimes", None, "{}")).await.is_problem(415, "not_json");
    node.call(send("/runtimes", Some("text/plain"), "{}")).await.is_problem(415, "not_json");
    node.call(send("/runtimes", json, "{")).await.is_problem(400, "bad_json");
    assert_eq!(
        node.call(send("/runtimes", json, r#"{"id":"a","adaptor":"process"}"#))
            .await
            .is_problem(422, "bad_field")["help"],
        "did you mean `adapter`?"
    );
    node.call(send("/v1/chat/completions", None, "{}")).await.is_error(415, "not_json");
    node.call(send("/v1/chat/completions", json, "{")).await.is_error(400, "bad_json");
    assert_eq!(
        node.call(send("/v1/chat/completions", json, r#"{"stream":"yes"}"#)).await.is_error(422, "bad_field")
            ["param"],
        "stream"
    );
    assert_eq!(node.get("/events?limit=many").await.is_problem(422, "bad_field")["field"], "limit");
    assert_eq!(
        node.get("/events?limitt=3").await.is_problem(422, "bad_field")["help"],
        "did you mean `limit`?"
    );
}

/// HTTP-3: `token:manage` is no way to more than one has.
#[tokio::test]
async fn a_token_gives_and_takes_only_what_it_has() {
    let node = TestNode::start().await;
    let clerk = node.token("clerk", &[Scope::TokenManage, Scope::Infer]).await;
    let ask = |method: &str, path: &str, body: Option<serde_json::Value>| {
        let request = Request::builder().method(method).uri(path).header("host", "localhost");
        let request = request
            .header("authorization", format!("Bearer {clerk}"))
            .header("content-type", "application/json");
        request.body(body.map_or_else(Body::empty, |body| body.to_string().into())).unwrap()
    };
    let make =
        |scopes: &[&str]| ask("POST", "/tokens", Some(serde_json::json!({"name": "new", "scopes": scopes})));
    for scopes in [&["admin"][..], &["infer", "cluster:manage"]] {
        node.call(make(scopes)).await.is_problem(403, "scope_missing");
    }
    let made = node.call(make(&["infer"])).await;
    assert_eq!(made.status, 201);
    let id = |text: &str| text["arw_".len()..][..8].to_owned();
    let admin = format!("/tokens/{}", id(node.admin()));
    node.call(ask("DELETE", &admin, None)).await.is_problem(403, "scope_missing");
    assert_eq!(node.send("GET", "/tokens", None).await.status, 200);
    let own = format!("/tokens/{}", made.json()["id"].as_str().unwrap());
    assert_eq!(node.call(ask("DELETE", &own, None)).await.status, 204);

    let brief = serde_json::json!({"name": "brief", "scopes": ["admin"], "expires_in_s": 60});
    let brief = node.send("POST", "/tokens", Some(brief)).await.json()["token"].as_str().unwrap().to_owned();
    let outlive = Request::post("/tokens").header("host", "localhost");
    let outlive = outlive
        .header("authorization", format!("Bearer {brief}"))
        .header("content-type", "application/json")
        .body(Body::from(r#"{"name": "long", "scopes": ["infer"]}"#))
        .unwrap();
    let refused = node.call(outlive).await.is_problem(422, "bad_field");
    assert_eq!(refused["field"], "expires_in_s");
}
