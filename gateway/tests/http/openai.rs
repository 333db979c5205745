//! HTTP-10 to HTTP-14: the OpenAI-compatible API, with an engine on a Unix socket.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arw_actors::runtime::launcher::Endpoint;
use arw_actors::runtime::lease::{AcquireError, NotReady, UsageTotals};
use arw_actors::runtime::machine::RuntimeState;
use arw_actors::testkit::fixed_runtimes::OnAcquire;
use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Full};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::support::{Does, Events, FakeEngine, Served, TestNode, lend, spec, until, within};

const CHAT: &str = "/v1/chat/completions";
/// HTTP-14.
const CANCEL_WITHIN: Duration = Duration::from_millis(100);

fn answer() -> Value {
    json!({"object": "chat.completion", "model": "engine-name", "choices": [{"message": {"content": "hi"}}],
           "usage": {"prompt_tokens": 30, "completion_tokens": 9, "prompt_tokens_details": {"cached_tokens": 4}}})
}

/// The answer as a client gets it that knows the model by this name.
fn answer_by(name: &str) -> Value {
    let mut answer = answer();
    answer["model"] = name.into();
    answer
}

fn event(data: &Value) -> Bytes {
    format!("data: {data}\n\n").into()
}

fn token(text: &str) -> Bytes {
    event(&json!({"choices": [{"index": 0, "delta": {"content": text}}]}))
}

fn usage() -> Bytes {
    event(&json!({"choices": [], "usage": {"prompt_tokens": 30, "completion_tokens": 2}}))
}

fn request(node: &TestNode, path: &str, body: &Value) -> Request<Full<Bytes>> {
    let request = Request::post(path).header("host", "localhost").header("content-type", "application/json");
    request.header("authorization", format!("Bearer {}", node.admin())).body(body.to_string().into()).unwrap()
}

async fn ask(served: &Served, node: &TestNode, body: Value) -> http::Response<hyper::body::Incoming> {
    served.send(request(node, CHAT, &body)).await
}

async fn one_runtime() -> (TestNode, FakeEngine) {
    let (node, engine) = (TestNode::start().await, FakeEngine::start());
    node.runtime("r1", "smol", &engine).await;
    (node, engine)
}

/// HTTP-10.
#[tokio::test]
async fn a_model_is_named_by_its_name_its_runtime_or_not_at_all() {
    let (node, engine) = one_runtime().await;
    for body in [json!({"model": "smol"}), json!({"model": "r1"}), json!({}), json!({"model": null})] {
        engine.then_answers(&answer());
        let answered = node.send("POST", CHAT, Some(body.clone())).await;
        assert_eq!((answered.status.as_u16(), answered.header("x-arw-runtime")), (200, "r1"), "{body}");
    }
    let unknown =
        node.send("POST", CHAT, Some(json!({"model": "gpt"}))).await.is_error(404, "model_not_found");
    assert_eq!((&unknown["known"], &unknown["param"]), (&json!(["smol", "r1"]), &json!("model")));
    node.fixed.add(spec("r2", "other"), RuntimeState::Ready).await;
    let unnamed = node.send("POST", CHAT, Some(json!({}))).await.is_error(400, "model_not_named");
    assert_eq!(unnamed["known"], json!(["smol", "r1", "other", "r2"]));
}

#[tokio::test]
async fn without_any_runtime_the_way_out_is_told() {
    let node = TestNode::start().await;
    let error = node.send("POST", CHAT, Some(json!({}))).await.is_error(404, "model_not_found");
    assert!(error["help"].as_str().unwrap().contains("arw run"));
}

/// HTTP-11.
#[tokio::test]
async fn a_request_that_waited_in_vain_is_told_why_and_when_to_come_back() {
    let node = TestNode::with(|settings| settings.wait_for_runtime = Duration::from_millis(50)).await;
    node.fixed.add(spec("r1", "smol"), RuntimeState::Warming).await;
    node.fixed.change("r1", |row| row.reason = Some("loading the model".to_owned()));
    let answered = node.send("POST", CHAT, Some(json!({}))).await;
    let error = answered.is_error(503, "not_ready");
    assert_eq!(answered.header("retry-after"), "5");
    assert_eq!(
        error["runtime"],
        json!({"id": "r1", "state": "warming", "reason": "loading the model", "hint": null})
    );
}

/// HTTP-11.
#[tokio::test]
async fn a_quarantined_runtime_and_a_full_queue_answer_at_once() {
    let node = TestNode::start().await;
    node.fixed.add(spec("r1", "smol"), RuntimeState::Quarantined).await;
    let quarantined = NotReady {
        runtime: "r1".parse().unwrap(),
        state: RuntimeState::Quarantined,
        reason: Some("killed by SIGKILL, 6 times in 5 minutes".to_owned()),
        hint: Some("see the log".to_owned()),
        retry_after: Some(Duration::from_millis(41_200)),
    };
    node.fixed.on_acquire("r1", move || OnAcquire::Refuse(AcquireError::NotReady(quarantined.clone())));
    let answered = node.send("POST", CHAT, Some(json!({}))).await;
    let error = answered.is_error(503, "not_ready");
    assert_eq!((answered.header("retry-after"), &error["help"]), ("42", &json!("see the log")));
    assert_eq!(error["runtime"]["state"], "quarantined");
    assert!(error["message"].as_str().unwrap().contains("killed by SIGKILL"), "{error}");

    node.fixed.on_acquire("r1", || {
        OnAcquire::Refuse(AcquireError::QueueFull { runtime: "r1".parse().unwrap(), waiting: 64 })
    });
    let answered = node.send("POST", CHAT, Some(json!({}))).await;
    let error = answered.is_error(429, "queue_full");
    assert_eq!(
        (answered.header("retry-after"), &error["runtime"], &error["type"]),
        ("2", &json!({"id": "r1", "waiting": 64}), &json!("rate_limit_error"))
    );
}

/// HTTP-11.
#[tokio::test]
async fn a_client_that_goes_away_leaves_the_queue() {
    let node = TestNode::start().await;
    node.fixed.add(spec("r1", "smol"), RuntimeState::Warming).await;
    let served = node.serve();
    let stream = tokio::net::TcpStream::connect(served.address).await.unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(hyper_util::rt::TokioIo::new(stream)).await.unwrap();
    let connection = tokio::spawn(connection);
    let waiting = tokio::spawn(sender.send_request(request(&node, CHAT, &json!({}))));
    until(|| node.fixed.waiting("r1") == 1).await;
    waiting.abort();
    connection.abort();
    until(|| node.fixed.waiting("r1") == 0).await;
}

/// HTTP-12: what the engine gets, and what it does not.
#[tokio::test]
async fn the_engine_gets_the_body_as_sent_and_nothing_else_of_the_client() {
    let (node, engine) = one_runtime().await;
    let endpoint = engine.endpoint();
    node.fixed.on_acquire("r1", move || match lend(endpoint.clone()) {
        OnAcquire::Lend { endpoint, secret, .. } => {
            OnAcquire::Lend { endpoint, secret, model: Some("engine-name".to_owned()) }
        }
        other => other,
    });
    engine.then_answers(&answer());
    let served = node.serve();
    let sent = r#"{ "temperature":1.0, "model":"smol",  "n_probs" : 3 }"#;
    let request = Request::post("/v1/completions")
        .header("host", "localhost")
        .header("content-type", "application/json; charset=utf-8");
    let request = request
        .header("cookie", "a=b")
        .header("x-forwarded-for", "10.0.0.1")
        .header("openai-organization", "o");
    let request = request.header("te", "trailers").header("connection", "x-hop").header("x-hop", "1");
    let request = request
        .header("authorization", format!("Bearer {}", node.admin()))
        .body(Bytes::from(sent).into())
        .unwrap();
    let answered = served.send(request).await;
    let headers: Vec<&str> = answered.headers().keys().map(http::HeaderName::as_str).collect();
    assert!(!headers.contains(&"access-control-allow-origin") && !headers.contains(&"server"), "{headers:?}");
    let seen = engine.requests().remove(0);
    assert_eq!(seen.path, "/v1/completions");
    assert_eq!(seen.body, sent.replace("smol", "engine-name"));
    let mut names: Vec<&str> = seen.headers.keys().map(http::HeaderName::as_str).collect();
    names.sort_unstable();
    assert_eq!(names, ["accept", "authorization", "content-length", "content-type", "host", "traceparent"]);
    assert_eq!(seen.headers["authorization"], "Bearer engine-key");
}

/// HTTP-12.
#[tokio::test]
async fn an_engines_refusal_comes_back_in_the_envelope() {
    let (node, engine) = one_runtime().await;
    let refusal = json!({"error": {"code": 400, "message": "the request exceeds the available context size", "type": "exceed_context_size_error"}});
    for stream in [false, true] {
        engine.then(Does::Answers(400, "application/json; charset=utf-8", refusal.to_string().into()));
        let answered = node.send("POST", CHAT, Some(json!({"stream": stream}))).await;
        assert_eq!(answered.status, 400);
        assert_eq!(answered.json()["error"]["message"], "the request exceeds the available context size");
    }
    engine.then(Does::Answers(500, "text/plain", Bytes::from_static(b"boom")));
    let answered = node.send("POST", CHAT, Some(json!({}))).await;
    assert_eq!(
        (answered.status.as_u16(), &answered.json()["error"]["code"], &answered.json()["error"]["message"]),
        (500, &json!("engine_error"), &json!("boom"))
    );
}

/// HTTP-13: whole answers and embeddings.
#[tokio::test]
async fn a_whole_answer_is_metered_and_passed_on_as_it_is() {
    let (node, engine) = one_runtime().await;
    engine.then_answers(&answer());
    let answered = node.send("POST", CHAT, Some(json!({"model": "smol"}))).await;
    assert_eq!((answered.json(), answered.header("content-type")), (answer_by("smol"), "application/json"));
    engine.then_answers(&json!({"data": [], "usage": {"prompt_tokens": 8, "total_tokens": 8}}));
    assert_eq!(node.send("POST", "/v1/embeddings", Some(json!({"input": "x"}))).await.status, 200);
    let expected = UsageTotals { requests: 2, prompt_tokens: 38, completion_tokens: 9, cached_tokens: 4 };
    assert_eq!((node.fixed.usage("r1"), node.fixed.in_flight("r1")), (expected, 0));
}

/// HTTP-13: a stream is metered, and its usage chunk goes to who asked for it.
#[tokio::test]
async fn a_stream_is_metered_and_its_usage_goes_to_who_asked() {
    let (node, engine) = one_runtime().await;
    let served = node.serve();
    for wants in [false, true] {
        let feed = engine.then_streams();
        for chunk in [token("a"), token("b"), usage(), Bytes::from_static(b"data: [DONE]\n\n")] {
            feed.send(Ok(chunk)).await.unwrap();
        }
        drop(feed);
        let body = if wants {
            json!({"stream": true, "stream_options": {"include_usage": true}})
        } else {
            json!({"stream": true})
        };
        let answered = ask(&served, &node, body).await;
        assert_eq!(
            (answered.status().as_u16(), answered.headers()["content-type"].to_str().unwrap()),
            (200, "text/event-stream")
        );
        let text = within(answered.into_body().collect()).await.unwrap().to_bytes();
        let expected = [
            token("a"),
            token("b"),
            if wants { usage() } else { Bytes::new() },
            Bytes::from_static(b"data: [DONE]\n\n"),
        ]
        .concat();
        assert_eq!(text, expected, "{wants}");
        let sent: Value = serde_json::from_slice(&engine.requests().last().unwrap().body).unwrap();
        assert_eq!(sent["stream_options"]["include_usage"], true);
    }
    let expected = UsageTotals { requests: 2, prompt_tokens: 60, completion_tokens: 4, cached_tokens: 0 };
    assert_eq!((node.fixed.usage("r1"), node.fixed.in_flight("r1")), (expected, 0));
}

/// HTTP-15: whatever the engine calls its model.
#[tokio::test]
async fn answers_name_the_model_as_the_client_did() {
    let (node, engine) = one_runtime().await;
    let endpoint = engine.endpoint();
    node.fixed.on_acquire("r1", move || match lend(endpoint.clone()) {
        OnAcquire::Lend { endpoint, secret, .. } => {
            OnAcquire::Lend { endpoint, secret, model: Some("smol".to_owned()) }
        }
        other => other,
    });
    let served = node.serve();
    for (asked, named) in
        [(json!({"model": "smol"}), "smol"), (json!({"model": "r1"}), "r1"), (json!({}), "smol")]
    {
        engine.then_answers(&answer());
        let answered = node.send("POST", CHAT, Some(asked.clone())).await;
        assert_eq!(answered.json(), answer_by(named), "{asked}");
        let feed = engine.then_streams();
        let chunk = |model: &str, finish: &str| {
            event(
                &json!({"choices": [{"delta": {"content": "model"}, "finish_reason": finish}], "model": model}),
            )
        };
        feed.send(Ok(chunk("/models/by-hash/0.gguf", "stop"))).await.unwrap();
        drop(feed);
        let mut streamed = asked;
        streamed["stream"] = true.into();
        let answered = ask(&served, &node, streamed).await;
        let text = within(answered.into_body().collect()).await.unwrap().to_bytes();
        assert_eq!(text, chunk(named, "stop"));
    }
}

/// Each token goes on when it comes, not when the next one does.
#[tokio::test]
async fn tokens_are_not_held_back() {
    let (node, engine) = one_runtime().await;
    let served = node.serve();
    let feed = engine.then_streams();
    feed.send(Ok(token("first"))).await.unwrap();
    let mut events = Events::new(ask(&served, &node, json!({"stream": true})).await.into_body());
    for text in ["first", "second", "third"] {
        if text != "first" {
            feed.send(Ok(token(text))).await.unwrap();
        }
        assert_eq!(events.next().await.unwrap().json()["choices"][0]["delta"]["content"], text);
    }
    assert_eq!(events.frames, 3, "one write for each event");
}

/// HTTP-14, while the engine streams.
#[tokio::test]
async fn a_client_that_goes_away_mid_stream_closes_the_engines_connection() {
    let (node, engine) = one_runtime().await;
    let served = node.serve();
    let feed = engine.then_streams();
    feed.send(Ok(token("a"))).await.unwrap();
    let answered = ask(&served, &node, json!({"stream": true})).await;
    let mut events = Events::new(answered.into_body());
    events.next().await.unwrap();
    assert_eq!(node.fixed.in_flight("r1"), 1);
    let mut closed = engine.closed.clone();
    let left = Instant::now();
    drop(events);
    within(closed.wait_for(|&count| count == 1)).await.unwrap();
    assert!(left.elapsed() < CANCEL_WITHIN, "{:?}", left.elapsed());
    until(|| node.fixed.in_flight("r1") == 0).await;
    // HTTP-13: what was seen of the answer is metered.
    assert_eq!(
        node.fixed.usage("r1"),
        UsageTotals { requests: 1, completion_tokens: 1, ..UsageTotals::default() }
    );
}

/// HTTP-14, while the engine thinks.
#[tokio::test]
async fn a_client_that_goes_away_before_the_answer_closes_the_engines_connection() {
    for stream in [false, true] {
        let (node, engine) = one_runtime().await;
        let served = node.serve();
        engine.then(Does::Hangs);
        let socket = tokio::net::TcpStream::connect(served.address).await.unwrap();
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(hyper_util::rt::TokioIo::new(socket)).await.unwrap();
        let connection = tokio::spawn(connection);
        let asking = tokio::spawn(sender.send_request(request(&node, CHAT, &json!({"stream": stream}))));
        until(|| engine.requests().len() == 1).await;
        let mut closed = engine.closed.clone();
        let left = Instant::now();
        asking.abort();
        connection.abort();
        within(closed.wait_for(|&count| count == 1)).await.unwrap();
        assert!(left.elapsed() < CANCEL_WITHIN, "{:?}", left.elapsed());
        until(|| node.fixed.in_flight("r1") == 0).await;
        assert_eq!(node.fixed.usage("r1").requests, 1);
    }
}

/// HTTP-14.
#[tokio::test]
async fn an_engine_that_dies_mid_stream_ends_it_with_an_error() {
    let (node, engine) = one_runtime().await;
    let served = node.serve();
    let feed = engine.then_streams();
    feed.send(Ok(token("a"))).await.unwrap();
    let mut events = Events::new(ask(&served, &node, json!({"stream": true})).await.into_body());
    events.next().await.unwrap();
    feed.send(Ok(Bytes::from_static(b"data: {\"choi"))).await.unwrap();
    feed.send(Err(std::io::Error::other("killed"))).await.unwrap();
    let last = events.next().await.unwrap().json();
    assert_eq!(
        (&last["error"]["code"], &last["error"]["type"]),
        (&json!("engine_lost"), &json!("server_error"))
    );
    assert_eq!(events.next().await, None, "no [DONE]");
    assert_eq!(node.fixed.usage("r1").completion_tokens, 1);
    until(|| node.fixed.in_flight("r1") == 0).await;
    assert_eq!(engine.requests().len(), 1, "once something was passed on, nothing is asked again");
}

/// HTTP-11: an engine that dies before its answer is not the client's concern: the request waits for the next
/// one.
#[tokio::test]
async fn a_request_whose_engine_died_before_answering_is_asked_once_more() {
    let (node, dying) = one_runtime().await;
    let next = FakeEngine::start();
    dying.then(Does::Dies);
    next.then_answers(&answer());
    let (mut endpoints, fixed) = (vec![next.endpoint(), dying.endpoint()], node.fixed.clone());
    node.fixed.on_acquire("r1", move || {
        // As the kernel does: once it has noticed, the runtime is not ready.
        fixed.change("r1", |row| row.state = RuntimeState::Backoff);
        lend(endpoints.pop().unwrap())
    });
    let answered = node.send("POST", CHAT, Some(json!({"model": "smol"}))).await;
    assert_eq!((answered.status.as_u16(), answered.json()), (200, answer_by("smol")));
    assert_eq!((dying.requests().len(), next.requests().len()), (1, 1));
    assert_eq!(node.fixed.usage("r1").requests, 1, "one request, whatever became of its first engine");
    assert_eq!(node.fixed.in_flight("r1"), 0);
}

/// HTTP-11: the second try comes after the kernel has noticed the loss, or it would get the dead engine
/// again.
#[tokio::test]
async fn the_second_try_waits_until_the_loss_was_noticed() {
    let (node, dying) = one_runtime().await;
    let next = FakeEngine::start();
    dying.then(Does::Dies);
    next.then_answers(&answer());
    let (dead, alive) = (dying.endpoint(), next.endpoint());
    let (noticed, seen) = (Arc::<AtomicBool>::default(), Arc::clone(&dying.seen));
    let is_noticed = Arc::clone(&noticed);
    node.fixed.on_acquire("r1", move || {
        lend(if is_noticed.load(Ordering::Relaxed) { alive.clone() } else { dead.clone() })
    });
    let notice = async {
        until(|| dying.requests().len() == 1).await;
        // Its socket is closed with it, and the kernel hears of that a little later.
        drop(dying);
        tokio::time::sleep(Duration::from_millis(100)).await;
        noticed.store(true, Ordering::Relaxed);
        node.fixed.end_engine("r1", "killed by SIGKILL (by another process, not by ARW)", false);
    };
    let (answered, ()) = tokio::join!(node.send("POST", CHAT, Some(json!({}))), notice);
    assert_eq!((answered.status.as_u16(), seen.lock().unwrap().len()), (200, 1));
}

/// HTTP-11: what could not be sent had no effect, and waits for an engine that takes it.
#[tokio::test]
async fn an_engine_that_takes_no_connection_is_waited_for() {
    let (node, engine) = one_runtime().await;
    engine.then_answers(&answer());
    let (mut left, endpoint) = (3, engine.endpoint());
    node.fixed.on_acquire("r1", move || {
        left -= 1;
        lend(if left > 0 { Endpoint::Unix("/nowhere/engine.sock".into()) } else { endpoint.clone() })
    });
    for stream in [false, true] {
        let answered = node.send("POST", CHAT, Some(json!({"stream": stream}))).await;
        assert_eq!(answered.status, 200, "{answered:?}");
        engine.then_answers(&answer());
    }
    assert_eq!(node.fixed.in_flight("r1"), 0);
}

/// HTTP-11.
#[tokio::test]
async fn an_engine_that_never_takes_a_connection_is_reported_as_such() {
    let node = TestNode::with(|settings| settings.wait_for_runtime = Duration::from_millis(120)).await;
    node.fixed.add(spec("r1", "smol"), RuntimeState::Ready).await;
    node.fixed.on_acquire("r1", || lend(Endpoint::Unix("/nowhere/engine.sock".into())));
    let answered = node.send("POST", CHAT, Some(json!({}))).await;
    let error = answered.is_error(503, "not_ready");
    assert!(error["message"].as_str().unwrap().contains("No such file or directory"), "{error}");
    assert_eq!((answered.header("retry-after"), node.fixed.in_flight("r1")), ("2", 0));
}

/// A half answer never reaches the client: it is asked again as a whole.
#[tokio::test]
async fn a_whole_answer_that_broke_off_is_asked_again() {
    let (node, engine) = one_runtime().await;
    node.fixed.change("r1", |row| row.state = RuntimeState::Backoff);
    let feed = engine.then_streams();
    engine.then_answers(&answer());
    feed.send(Ok(Bytes::from_static(b"{\"choices\":"))).await.unwrap();
    feed.send(Err(std::io::Error::other("killed"))).await.unwrap();
    let answered = node.send("POST", CHAT, Some(json!({}))).await;
    assert_eq!((answered.status.as_u16(), answered.json()), (200, answer_by("r1")));
}

#[tokio::test]
async fn models_are_listed_once_with_what_is_known() {
    let (node, _engine) = one_runtime().await;
    node.fixed.change("r1", |row| {
        row.state = RuntimeState::Stopped;
        row.context_length = Some(2048);
    });
    node.fixed.add(spec("r2", "smol"), RuntimeState::Ready).await;
    node.fixed.add(spec("r3", "org/other"), RuntimeState::Warming).await;
    let list = node.send("GET", "/v1/models", None).await.json();
    assert_eq!(list["object"], "list");
    let rows: Vec<(&str, &str, &str)> = list["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| {
            (row["id"].as_str().unwrap(), row["runtime"].as_str().unwrap(), row["state"].as_str().unwrap())
        })
        .collect();
    assert_eq!(rows, [("org/other", "r3", "warming"), ("smol", "r2", "ready")]);
    assert!(
        list["data"]
            .as_array()
            .unwrap()
            .iter()
            .all(|row| row["object"] == "model" && row["owned_by"] == "arw" && row["created"].is_i64())
    );
    assert_eq!(node.send("GET", "/v1/models/org/other", None).await.json()["runtime"], "r3");
    let by_runtime = node.send("GET", "/v1/models/r1", None).await.json();
    assert_eq!((&by_runtime["id"], &by_runtime["context_length"]), (&json!("smol"), &json!(2048)));
    assert_eq!(
        node.send("GET", "/v1/models/gpt", None).await.is_error(404, "model_not_found")["known"],
        json!(["smol", "r1", "r2", "org/other", "r3"])
    );
}
