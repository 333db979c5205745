//! Bad input, each with a clear error, and nothing lost.

use std::io::{Read, Write};

use arw_tests::http::{ask, send};
use arw_tests::node::{arw, run};
use bytes::Bytes;
use http::{Method, Request};
use http_body_util::Full;
use serde_json::json;

use crate::kit::{FAKE, Stage, chat};

fn raw(stage: &Stage, path: &str, body: impl Into<Bytes>) -> Request<Full<Bytes>> {
    Request::post(path)
        .header("host", &stage.node.address)
        .header("content-type", "application/json")
        .header("authorization", format!("Bearer {}", stage.node.token))
        .body(Full::new(body.into()))
        .unwrap()
}

#[tokio::test]
async fn every_kind_of_bad_request_is_told_what_why_and_what_to_do() {
    let stage = Stage::with_fake(&[], json!({})).await;
    let address = &stage.node.address;
    let answer = send(address, raw(&stage, "/v1/chat/completions", "{\"model\": ")).await.unwrap();
    assert_eq!(answer.status(), 400);
    let answer = send(address, raw(&stage, "/runtimes", "{\"id\": ")).await.unwrap();
    assert_eq!(answer.status(), 400);

    let answer =
        stage.node.post("/runtimes", json!({"id": "x", "adapter": "process", "command": "y"})).await.unwrap();
    assert_eq!(answer.status, 422);
    assert!(answer.json()["detail"].as_str().unwrap().contains("command"), "{answer:?}");
    assert!(answer.json()["help"].is_string());

    let answer = stage.node.post("/v1/chat/completions", chat("nobody", false)).await.unwrap();
    assert_eq!(answer.status, 404);
    assert_eq!(answer.json()["error"]["code"], "model_not_found");
    assert!(answer.json()["error"]["known"].to_string().contains("one"));

    // HTTP-4
    let answer =
        ask(address, Method::POST, "/v1/chat/completions", None, Some(chat("one", false))).await.unwrap();
    assert_eq!(answer.status, 401);
    let wrong = Some("arw_00000000_0000000000000000000000000000000000000000000");
    let answer = ask(address, Method::GET, "/tokens", wrong, None).await.unwrap();
    assert_eq!(answer.status, 401);
    assert!(answer.headers["content-type"].to_str().unwrap().contains("problem+json"));

    let mut request = raw(&stage, "/v1/chat/completions", "{}");
    request.headers_mut().insert("host", "evil.example".parse().unwrap());
    assert_eq!(send(address, request).await.unwrap().status(), 421);

    assert_eq!(stage.node.get("/nothing").await.unwrap().status, 404);
    assert_eq!(stage.node.get("/healthz").await.unwrap().status, 200);
    stage.node.stop().unwrap();
}

#[tokio::test]
async fn a_body_over_the_limit_is_refused_and_the_node_goes_on() {
    let stage = Stage::with_fake(&[], json!({})).await;
    let mut body = b"{\"model\":\"one\",\"messages\":[{\"role\":\"user\",\"content\":\"".to_vec();
    body.resize(10 << 20, b'x');
    body.extend_from_slice(b"\"}]}");
    // The node may close the connection before all of it is sent.
    if let Ok(answer) = send(&stage.node.address, raw(&stage, "/v1/chat/completions", body)).await {
        assert_eq!(answer.status(), 413);
    }
    let answer = stage.node.post("/v1/chat/completions", chat("one", false)).await.unwrap();
    assert_eq!(answer.status, 200);
    stage.node.stop().unwrap();
}

#[tokio::test]
async fn a_revoked_token_is_refused_from_then_on() {
    let stage = Stage::with_fake(&[], json!({})).await;
    let answer = stage.node.post("/tokens", json!({"name": "app", "scopes": ["infer"]})).await.unwrap();
    assert_eq!(answer.status, 201, "{answer:?}");
    let (id, token) = (answer.json()["id"].clone(), answer.json()["token"].clone());
    let token = token.as_str();
    let chat_with = |token| {
        ask(&stage.node.address, Method::POST, "/v1/chat/completions", token, Some(chat("one", false)))
    };
    assert_eq!(chat_with(token).await.unwrap().status, 200);
    let forbidden = ask(&stage.node.address, Method::GET, "/tokens", token, None).await.unwrap();
    assert_eq!(forbidden.status, 403);
    let path = format!("/tokens/{}", id.as_str().unwrap());
    let revoked =
        ask(&stage.node.address, Method::DELETE, &path, Some(&stage.node.token), None).await.unwrap();
    assert_eq!(revoked.status, 204);
    assert_eq!(chat_with(token).await.unwrap().status, 401);
    stage.node.stop().unwrap();
}

#[tokio::test]
async fn a_client_that_sends_its_head_slowly_is_cut_off() {
    let stage = Stage::new();
    let address = stage.node.address.clone();
    let cut = tokio::task::spawn_blocking(move || {
        let mut stream = std::net::TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(std::time::Duration::from_secs(30))).unwrap();
        stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: ").unwrap();
        let mut rest = Vec::new();
        // The end of the stream, or an error answer and then its end.
        stream.read_to_end(&mut rest)
    });
    assert!(cut.await.unwrap().is_ok(), "still open after 30 s");
    assert_eq!(stage.node.get("/healthz").await.unwrap().status, 200);
    stage.node.stop().unwrap();
}

#[tokio::test]
async fn a_node_that_cannot_start_says_why_and_what_to_do() {
    let stage = Stage::new();
    let state = &stage.node.state_dir;
    let second = run(&arw(FAKE), state, ["up", "--http", "127.0.0.1:0"]).unwrap();
    let words = String::from_utf8(second.stderr).unwrap();
    assert_eq!(second.status.code(), Some(1), "{words}");
    assert!(words.contains(&format!("pid {}", stage.node.pid())), "{words}");

    let other = stage.folder.path().join("other");
    let taken = run(&arw(FAKE), &other, ["up", "--http", &stage.node.address]).unwrap();
    let words = String::from_utf8(taken.stderr).unwrap();
    assert_eq!(taken.status.code(), Some(1), "{words}");
    assert!(words.contains(&stage.node.address) && words.contains("--http"), "{words}");

    std::fs::create_dir_all(&other).unwrap();
    std::fs::write(other.join("arw.toml"), "[gateway]\nhtpp = \"127.0.0.1:1\"\n").unwrap();
    let typo = run(&arw(FAKE), &other, ["up"]).unwrap();
    let words = String::from_utf8(typo.stderr).unwrap();
    assert!(!typo.status.success());
    assert!(words.contains("htpp") && words.contains("http"), "{words}");

    let file = stage.folder.path().join("file");
    std::fs::write(&file, "").unwrap();
    let unusable = run(&arw(FAKE), &file, ["up", "--http", "127.0.0.1:0"]).unwrap();
    assert!(!unusable.status.success());
    assert!(String::from_utf8(unusable.stderr).unwrap().contains("file"));
    stage.node.stop().unwrap();
}
