//! HTTP-17, HTTP-18 and HTTP-22 to HTTP-25: what becomes of a request whose engine, runtime or node fails it.

use std::sync::Arc;
use std::time::Duration;

use arw_actors::cluster::{
    At, CardRuntime, ClusterUpdate, ClusterView, MemberState, MemberUpdate, NodeCard, OwnNode,
};
use arw_actors::ids::NodeId;
use arw_actors::runtime::lease::{AcquireError, NotReady};
use arw_actors::runtime::machine::RuntimeState;
use arw_actors::testkit::fixed_runtimes::OnAcquire;
use arw_kit::moment::{Moment, WallTime};
use bytes::Bytes;
use serde_json::{Value, json};
use tower::ServiceExt;

use crate::peers::{Pair, answer_by, contact, host};
use crate::support::{Answer, Does, Events, FakeEngine, Served, Sse, TestNode, lend, spec, until};

const CHAT: &str = "/v1/chat/completions";
const CRASHED: &str = "crashed with SIGSEGV";

/// The next engine of a runtime, after the last one has ended.
fn restarted(node: &TestNode, id: &str) -> FakeEngine {
    let engine = FakeEngine::start();
    let endpoint = engine.endpoint();
    node.fixed.on_acquire(id, move || lend(endpoint.clone()));
    engine
}

/// The engine gets `count` requests, dies, and the kernel notices.
async fn dies_at(
    node: &TestNode,
    id: &str,
    engine: FakeEngine,
    count: usize,
    next: bool,
) -> Option<FakeEngine> {
    until(|| engine.requests().len() == count).await;
    let next = next.then(|| restarted(node, id));
    // Its process is gone first, and is noted then.
    drop(engine);
    node.fixed.end_engine(id, CRASHED, true);
    next
}

fn request<B: From<String>>(node: &TestNode, body: &Value) -> http::Request<B> {
    let request =
        http::Request::post(CHAT).header("host", "localhost").header("content-type", "application/json");
    let request = request.header("authorization", format!("Bearer {}", node.admin()));
    request.body(body.to_string().into()).unwrap()
}

/// Asks one and the same gateway: another one would remember nothing.
async fn post(node: &TestNode, served: &Served, body: &Value) -> Answer {
    Answer::of(served.send(request(node, body)).await.map(axum::body::Body::new)).await
}

/// HTTP-22: nobody else was in flight, so that it is not sent again; a second death is one too many.
#[tokio::test]
async fn a_request_that_was_alone_when_its_engine_died_is_not_sent_again() {
    for stream in [false, true] {
        let node = TestNode::start().await;
        let mut engine = FakeEngine::start();
        node.runtime("r1", "smol", &engine).await;
        let served = node.serve();
        let poison = json!({"model": "smol", "stream": stream, "grammar": "((("});
        for _ in 0..2 {
            engine.then(Does::Hangs);
            let (answered, next) =
                tokio::join!(post(&node, &served, &poison), dies_at(&node, "r1", engine, 1, true));
            engine = next.unwrap();
            assert_eq!(answered.header("x-should-retry"), "false", "{answered:?}");
            assert!(engine.requests().is_empty(), "it was not sent again");
            let error = answered.json()["error"].clone();
            assert!(error["message"].as_str().unwrap().contains(CRASHED), "{error}");
            assert!(!error["help"].as_str().unwrap().contains("ask again"), "{error}");
        }
        let refused = post(&node, &served, &poison).await;
        let error = refused.is_error(422, "kills_engine");
        assert_eq!(
            (error["deaths"].as_array().unwrap().len(), refused.header("x-should-retry")),
            (2, "false")
        );
        assert!(engine.requests().is_empty(), "it is refused without an engine");
        engine.then_answers(&answer_by("x"));
        let innocent = post(&node, &served, &json!({"model": "smol"})).await;
        assert_eq!(innocent.status, 200);
        assert_eq!(node.fixed.in_flight("r1"), 0);
    }
}

/// HTTP-22: who was there with others may be innocent, and is asked again, one at a time.
#[tokio::test]
async fn requests_that_were_in_flight_together_are_tried_one_at_a_time() {
    let node = TestNode::start().await;
    let engine = FakeEngine::start();
    node.runtime("r1", "smol", &engine).await;
    let served = node.serve();
    for _ in 0..3 {
        engine.then(Does::Hangs);
    }
    let ask = async |number: u32| post(&node, &served, &json!({"model": "smol", "seed": number})).await;
    let after = async {
        let next = dies_at(&node, "r1", engine, 3, true).await.unwrap();
        for count in 1..=3 {
            let feed = next.then_streams();
            until(|| next.requests().len() == count).await;
            // Long enough for one more, if nothing held it back.
            tokio::time::sleep(Duration::from_millis(30)).await;
            assert_eq!((next.requests().len(), node.fixed.in_flight("r1")), (count, 1));
            feed.send(Ok(answer_by("x").to_string().into())).await.unwrap();
        }
    };
    let (a, b, c, ()) = tokio::join!(ask(1), ask(2), ask(3), after);
    assert_eq!(
        [a.status, b.status, c.status],
        [200; 3].map(|status| http::StatusCode::from_u16(status).unwrap())
    );
}

/// HTTP-22: the connection broke, and nothing died: that is no reason to wait, and speaks against nobody.
#[tokio::test]
async fn a_connection_that_a_living_engine_dropped_is_replaced_at_once() {
    let node = TestNode::start().await;
    let engine = FakeEngine::start();
    node.runtime("r1", "smol", &engine).await;
    let served = node.serve();
    let body = json!({"model": "smol"});
    for _ in 0..3 {
        engine.then(Does::Dies);
        engine.then_answers(&answer_by("x"));
        assert_eq!(post(&node, &served, &body).await.status, 200);
    }
    engine.then(Does::Dies);
    engine.then(Does::Dies);
    let lost = post(&node, &served, &body).await;
    lost.is_error(502, "engine_lost");
    assert_eq!((lost.header("x-should-retry"), engine.requests().len()), ("", 8));
}

/// HTTP-22: whoever kills an engine from outside says nothing of what it worked on.
#[tokio::test]
async fn a_request_whose_engine_was_killed_from_outside_is_sent_again() {
    let node = TestNode::start().await;
    let engine = FakeEngine::start();
    node.runtime("r1", "smol", &engine).await;
    let served = node.serve();
    engine.then(Does::Hangs);
    let killed = async {
        until(|| engine.requests().len() == 1).await;
        let next = restarted(&node, "r1");
        next.then_answers(&answer_by("x"));
        drop(engine);
        node.fixed.end_engine("r1", "killed by SIGKILL", false);
        next
    };
    let body = json!({});
    let (answered, _next) = tokio::join!(post(&node, &served, &body), killed);
    assert_eq!(answered.status, 200, "{answered:?}");
}

/// HTTP-22: a large process closes its sockets long before it has ended.
#[tokio::test]
async fn an_engine_that_takes_no_connection_and_ends_much_later_has_died() {
    let node = TestNode::start().await;
    let engine = FakeEngine::start();
    node.runtime("r1", "smol", &engine).await;
    let served = node.serve();
    engine.then(Does::Hangs);
    let dies = async {
        until(|| engine.requests().len() == 1).await;
        let next = restarted(&node, "r1");
        next.then_answers(&answer_by("x"));
        drop(engine);
        tokio::time::pause();
        tokio::time::sleep(Duration::from_secs(10)).await;
        node.fixed.end_engine("r1", CRASHED, true);
        next
    };
    let body = json!({"model": "smol"});
    let (answered, next) = tokio::join!(post(&node, &served, &body), dies);
    answered.is_error(502, "engine_lost");
    assert_eq!(answered.header("x-should-retry"), "false");
    assert!(next.requests().is_empty(), "it was not sent again");
}

/// HTTP-22: a stream that had begun counts, too, also where the engine takes long to end.
#[tokio::test]
async fn a_stream_that_breaks_off_with_its_engine_counts_as_a_death() {
    let node = TestNode::start().await;
    let mut engine = FakeEngine::start();
    node.runtime("r1", "smol", &engine).await;
    let served = node.serve();
    let body = json!({"model": "smol", "stream": true});
    for _ in 0..2 {
        let feed = begun(&engine).await;
        let mut events = Events::new(served.send(request(&node, &body)).await.into_body());
        events.next().await.unwrap();
        let next = restarted(&node, "r1");
        drop(std::mem::replace(&mut engine, next));
        drop(feed);
        assert_eq!(events.next().await.unwrap().json()["error"]["code"], "engine_lost");
        // The stream's lease is held until the kernel has told of the end.
        assert_eq!(node.fixed.in_flight("r1"), 1);
        node.fixed.end_engine("r1", CRASHED, true);
        until(|| node.fixed.in_flight("r1") == 0).await;
    }
    post(&node, &served, &body).await.is_error(422, "kills_engine");
}

/// HTTP-22: what became of the engine is told, where that is known soon.
#[tokio::test]
async fn a_stream_that_breaks_off_tells_how_its_engine_ended() {
    let node = TestNode::start().await;
    let engine = FakeEngine::start();
    node.runtime("r1", "smol", &engine).await;
    let served = node.serve();
    let mut streams = Vec::new();
    for content in ["a", "b"] {
        let feed = begun(&engine).await;
        let body = json!({"model": "smol", "stream": true, "content": content});
        let mut events = Events::new(served.send(request(&node, &body)).await.into_body());
        events.next().await.unwrap();
        streams.push((feed, events));
    }
    node.fixed.end_engine("r1", CRASHED, true);
    drop(engine);
    for (feed, mut events) in streams {
        drop(feed);
        let error = events.next().await.unwrap().json()["error"].clone();
        assert!(error["message"].as_str().unwrap().contains(CRASHED), "{error}");
        assert_eq!((&error["code"], &error["engine"]["alone"]), (&json!("engine_lost"), &json!(false)));
    }
}

/// HTTP-22: also where the engine is another node's, whose own word it is.
#[tokio::test]
async fn a_stream_that_breaks_off_with_an_engine_elsewhere_counts_as_a_death() {
    let pair = Pair::start().await;
    let (third, other) = pair.third().await;
    let body = json!({"model": "smol", "stream": true});
    let Pair { network: _network, near, far, engine } = pair;
    let more = arw_actors::cluster::ModelHost { busy: 99, ..host(&far, "r1", "smol", "ready") };
    for (member, id, engine) in [(&far, "r1", engine), (&third, "r3", other)] {
        let feed = begun(&engine).await;
        let mut events = Events::new(near.served.send(request(&near.node, &body)).await.into_body());
        events.next().await.unwrap();
        member.node.fixed.end_engine(id, CRASHED, true);
        drop((engine, feed));
        let error = events.next().await.unwrap().json()["error"].clone();
        assert_eq!((&error["code"], &error["engine"]["alone"]), (&json!("engine_lost"), &json!(true)));
        near.node.node.cluster.set_hosts(vec![more.clone(), host(&third, "r3", "smol", "ready")]);
    }
    near.answer(body).await.is_error(422, "kills_engine");
}

/// A stream of which something has come.
async fn begun(engine: &FakeEngine) -> tokio::sync::mpsc::Sender<std::io::Result<Bytes>> {
    let feed = engine.then_streams();
    let token = Bytes::from_static(b"data: {\"choices\":[{\"delta\":{\"content\":\"a\"}}]}\n\n");
    feed.send(Ok(token)).await.unwrap();
    feed
}

/// HTTP-14: llama.cpp closes a connection after each stream without saying so.
#[tokio::test]
async fn a_stream_has_a_connection_of_its_own() {
    let node = TestNode::start().await;
    let engine = FakeEngine::start();
    node.runtime("r1", "smol", &engine).await;
    let served = node.serve();
    for (stream, told) in [(true, true), (false, false)] {
        engine.then_answers(&answer_by("x"));
        assert_eq!(post(&node, &served, &json!({"stream": stream})).await.status, 200);
        let seen = engine.requests().pop().unwrap();
        assert_eq!(seen.headers.get("connection").is_some_and(|it| it == "close"), told, "{stream}");
    }
}

/// HTTP-22: what killed an engine on one node goes to no third one, and counts on the node that was asked,
/// too.
#[tokio::test]
async fn a_request_that_killed_an_engine_elsewhere_goes_to_no_third_node() {
    let pair = Pair::start().await;
    let (third, other) = pair.third().await;
    let poison = json!({"model": "smol", "grammar": "((("});
    let Pair { network: _network, near, far, engine } = pair;
    engine.then(Does::Hangs);
    let (answered, next) =
        tokio::join!(near.answer(poison.clone()), dies_at(&far.node, "r1", engine, 1, true));
    let next = next.unwrap();
    answered.is_error(502, "engine_lost");
    assert_eq!(answered.header("x-should-retry"), "false");
    assert!(other.requests().is_empty() && next.requests().is_empty());

    // The client asks once more all the same, and another node is the better one now.
    let more = arw_actors::cluster::ModelHost { busy: 99, ..host(&far, "r1", "smol", "ready") };
    near.node.node.cluster.set_hosts(vec![more, host(&third, "r3", "smol", "ready")]);
    other.then(Does::Hangs);
    let (answered, _) = tokio::join!(near.answer(poison.clone()), dies_at(&third.node, "r3", other, 1, true));
    answered.is_error(502, "engine_lost");
    near.answer(poison).await.is_error(422, "kills_engine");
}

/// HTTP-18: the node that was asked sends it a second time, and the other one does not do so as well.
#[tokio::test]
async fn a_request_that_is_lost_on_another_node_is_worked_on_twice_in_all() {
    for stream in [false, true] {
        let pair = Pair::start().await;
        let body = json!({"model": "smol", "stream": stream});
        pair.engine.then(Does::Dies);
        pair.engine.then_answers(&answer_by("x"));
        assert_eq!(pair.near.answer(body.clone()).await.status, 200);
        assert_eq!(pair.engine.requests().len(), 2);
        for _ in 0..4 {
            pair.engine.then(Does::Dies);
        }
        pair.near.answer(body).await.is_error(502, "engine_lost");
        assert_eq!(pair.engine.requests().len(), 4);
    }
}

/// HTTP-17: of two runtimes of a model, the one that would serve is asked, whatever the other one is.
#[tokio::test]
async fn a_runtime_that_does_not_serve_hides_no_other_one_of_its_model() {
    let node = TestNode::start().await;
    let engine = FakeEngine::start();
    node.fixed.add(spec("a", "smol"), RuntimeState::Stopped).await;
    node.runtime("b", "smol", &engine).await;
    node.fixed.change("b", |row| row.state = RuntimeState::Stopped);
    let refusal = NotReady {
        runtime: "a".parse().unwrap(),
        state: RuntimeState::Stopped,
        reason: None,
        hint: None,
        retry_after: None,
    };
    node.fixed.on_acquire("a", move || OnAcquire::Refuse(AcquireError::NotReady(refusal.clone())));
    for (state, is_held) in [
        (RuntimeState::Stopped, true),
        (RuntimeState::Quarantined, false),
        (RuntimeState::Failed, false),
        // Its row does not tell yet.
        (RuntimeState::Ready, false),
    ] {
        node.fixed.change("a", |row| {
            row.state = state;
            row.is_held = is_held;
        });
        engine.then_answers(&answer_by("x"));
        let answered = node.send("POST", CHAT, Some(json!({"model": "smol"}))).await;
        assert_eq!((answered.status.as_u16(), answered.header("x-arw-runtime")), (200, "b"), "{state:?}");
    }
    node.send("POST", CHAT, Some(json!({"model": "a"}))).await.is_error(503, "not_ready");
}

/// HTTP-17.
#[tokio::test]
async fn a_prompt_that_one_context_does_not_hold_goes_to_a_larger_one() {
    let node = TestNode::start().await;
    let (small, large) = (FakeEngine::start(), FakeEngine::start());
    node.runtime("small", "smol", &small).await;
    node.runtime("large", "smol", &large).await;
    node.fixed.change("large", |row| row.context_length = Some(2048));
    let refusal = |count: u64| {
        let error = json!({"message": "too long", "type": "exceed_context_size_error", "code": 400,
                           "n_ctx": 512, "n_prompt_tokens": count});
        Does::Answers(400, "application/json", json!({"error": error}).to_string().into())
    };
    for stream in [false, true] {
        small.then(refusal(900));
        large.then_answers(&answer_by("x"));
        let answered = node.send("POST", CHAT, Some(json!({"model": "smol", "stream": stream}))).await;
        assert_eq!((answered.status.as_u16(), answered.header("x-arw-runtime")), (200, "large"));
    }
    // Nobody holds it: the engine's own words.
    small.then(refusal(4096));
    let answered = node.send("POST", CHAT, Some(json!({"model": "smol"}))).await;
    assert_eq!((answered.status.as_u16(), &answered.json()["error"]["message"]), (400, &json!("too long")));
    // Who names a runtime means that one.
    small.then(refusal(900));
    assert_eq!(node.send("POST", CHAT, Some(json!({"model": "small"}))).await.status, 400);
    assert_eq!(large.requests().len(), 2);
}

/// What a node knows of another one that serves `smol`.
fn known(
    id: NodeId,
    news: Vec<ClusterUpdate>,
    runtime: CardRuntime,
    later: Duration,
) -> arw_actors::cluster::Picture {
    let at = At { now: Moment::ZERO, wall: WallTime::from_millis(1_700_000_000_000) };
    let about = OwnNode { id, name: "near".to_owned(), incarnation: 1, started_at: at.wall };
    let mut view = ClusterView::new(about);
    view.fold(at, ClusterUpdate::Connected(contact(2, &["worker", "gateway"])));
    let card = NodeCard { runtimes: vec![runtime], ..NodeCard::default() };
    let node = NodeId::from_bytes([2; 32]);
    view.fold(at, ClusterUpdate::Card { node, incarnation: 1, card: Box::new(card) });
    for news in news {
        view.fold(at, news);
    }
    view.picture(at.now + later, &Arc::new(NodeCard::default()))
}

fn member(state: MemberState, incarnation: u64) -> ClusterUpdate {
    ClusterUpdate::Member(MemberUpdate {
        node: NodeId::from_bytes([2; 32]),
        incarnation,
        state,
        since: Moment::ZERO,
        reason: None,
        last_seen: Moment::ZERO,
        address: ([10, 0, 0, 2], 7400).into(),
    })
}

/// HTTP-23 and CLUSTER-8: a model whose node is away, or whose runtime there does not serve, is not unknown.
#[tokio::test]
async fn a_model_that_nobody_serves_just_now_is_not_unknown() {
    let node = TestNode::start().await;
    let (cluster, id) = (&node.node.cluster, node.node.info.id);
    let runtime = |state: &str, is_serving| CardRuntime {
        id: "r1".to_owned(),
        model: "smol".to_owned(),
        state: state.to_owned(),
        is_serving,
        ..CardRuntime::default()
    };
    let (soon, stale) = (Duration::from_secs(1), Duration::from_secs(60));
    let disconnected =
        || ClusterUpdate::Disconnected { node: NodeId::from_bytes([2; 32]), reason: "lost".to_owned() };
    let ready = || runtime("ready", true);
    let cases: Vec<(Vec<ClusterUpdate>, CardRuntime, Duration, &str, &str)> = vec![
        (vec![member(MemberState::Down, 1)], ready(), soon, "node_unreachable", "down"),
        (vec![member(MemberState::Left, 1)], ready(), soon, "node_unreachable", "left"),
        (
            vec![member(MemberState::Up, 1), disconnected()],
            ready(),
            soon,
            "node_unreachable",
            "no connection",
        ),
        (vec![], ready(), stale, "node_unreachable", "has not said"),
        (vec![], runtime("quarantined", false), soon, "not_ready", "quarantined"),
        (vec![], runtime("failed", false), soon, "not_ready", "failed"),
        (vec![], runtime("stopped", false), soon, "not_ready", "an operator"),
    ];
    for (news, runtime, later, code, reason) in cases {
        cluster.set_picture(known(id, news, runtime, later));
        for asked in
            [json!({"model": "smol"}), json!({"model": "r1"}), json!({"model": "box2/r1"}), json!({})]
        {
            let answered = node.send("POST", CHAT, Some(asked.clone())).await;
            let error = answered.is_error(503, code);
            assert!(error["message"].as_str().unwrap().contains(reason), "{asked}: {error}");
            assert!(error["nodes"][0]["reason"].as_str().unwrap().contains(reason), "{error}");
            assert!(answered.header("retry-after").parse::<u64>().is_ok_and(|it| it > 0), "{answered:?}");
        }
        node.send("GET", "/v1/models/smol", None).await.is_error(503, code);
        node.send("POST", CHAT, Some(json!({"model": "gpt"}))).await.is_error(404, "model_not_found");
        node.send("POST", CHAT, Some(json!({"model": "box3/r1"}))).await.is_error(404, "model_not_found");
    }
    // It has restarted, and its next card has not come.
    cluster.set_picture(known(id, vec![], ready(), soon));
    let again = vec![
        member(MemberState::Up, 2),
        ClusterUpdate::Connected(arw_actors::cluster::Contact { incarnation: 2, ..contact(2, &["worker"]) }),
    ];
    cluster.set_picture(known(id, again, ready(), soon));
    let error = node.send("POST", CHAT, Some(json!({"model": "smol"}))).await.is_error(503, "not_ready");
    assert!(error["message"].as_str().unwrap().contains("restarted"), "{error}");
    // Forgotten with its node.
    let about = OwnNode { id, name: "near".to_owned(), incarnation: 1, started_at: WallTime::from_millis(0) };
    cluster.set_picture(ClusterView::new(about).picture(Moment::ZERO, &Arc::new(NodeCard::default())));
    node.send("POST", CHAT, Some(json!({"model": "smol"}))).await.is_error(404, "model_not_found");
}

/// HTTP-18: that nobody else serves it hides no loss.
#[tokio::test]
async fn a_loss_is_told_where_nobody_is_left_to_ask() {
    let pair = Pair::start().await;
    pair.engine.then(Does::Hangs);
    let lost = async {
        until(|| pair.engine.requests().len() == 1).await;
        pair.near.node.node.cluster.set_hosts(Vec::new());
        pair.network.set_away(pair.far.id(), true);
        pair.network.cut(pair.far.id());
    };
    let (answered, ()) = tokio::join!(pair.near.answer(json!({"model": "smol"})), lost);
    let error = answered.is_error(502, "node_lost");
    assert_eq!(error["node"], pair.far.id().to_string());
}

/// HTTP-18: the other node reads on, so that its refusal is heard, and this one says whose limit it is.
#[tokio::test]
async fn a_body_that_is_too_large_for_the_other_node_is_refused_in_its_name() {
    let pair = Pair::with(|settings| settings.body_max_bytes = 2_000).await;
    for bytes in [3_000, 300_000, 6_000_000] {
        for _ in 0..4 {
            let answered = pair.near.answer(json!({"model": "smol", "prompt": "x".repeat(bytes)})).await;
            let error = answered.is_error(413, "body_too_large");
            assert!(error["message"].as_str().unwrap().contains("`far`"), "{error}");
            assert!(error["message"].as_str().unwrap().contains("2000 bytes"), "{error}");
            assert!(error["help"].as_str().unwrap().contains("on node `far`"), "{error}");
        }
    }
    // What is refused for another reason before it is read, too.
    pair.far.node.node.cluster.set_draining(true);
    for _ in 0..4 {
        let answered = pair.near.answer(json!({"model": "smol", "prompt": "x".repeat(6_000_000)})).await;
        answered.is_error(503, "not_ready");
    }
    assert!(pair.engine.requests().is_empty());
}

/// HTTP-25.
#[tokio::test]
async fn an_engine_that_is_silent_for_too_long_is_given_up() {
    let node = TestNode::with(|settings| settings.answer_idle_timeout = Duration::from_millis(60)).await;
    let engine = FakeEngine::start();
    node.runtime("r1", "smol", &engine).await;
    for stream in [false, true] {
        engine.then(Does::Hangs);
        let error =
            node.send("POST", CHAT, Some(json!({"stream": stream}))).await.is_error(504, "engine_timeout");
        assert!(error["help"].as_str().unwrap().contains("gateway.answer_idle_timeout"), "{error}");
    }
    // In the middle of an answer, whole or not.
    let feed = engine.then_streams();
    feed.send(Ok(Bytes::from_static(b"{\"choices\":"))).await.unwrap();
    node.send("POST", CHAT, Some(json!({}))).await.is_error(504, "engine_timeout");
    let feed = engine.then_streams();
    feed.send(Ok(Bytes::from_static(b"data: {\"choices\":[{\"delta\":{\"content\":\"a\"}}]}\n\n")))
        .await
        .unwrap();
    let answered = node.send("POST", CHAT, Some(json!({"stream": true}))).await;
    let text = String::from_utf8(answered.bytes.to_vec()).unwrap();
    assert!(text.contains("engine_timeout") && !text.contains("[DONE]"), "{text}");
    until(|| node.fixed.in_flight("r1") == 0).await;
}

/// HTTP-24.
#[tokio::test]
async fn a_stream_that_waits_long_has_its_head_and_comments_before_its_answer() {
    let node = TestNode::start().await;
    node.fixed.add(spec("r1", "slow"), RuntimeState::Warming).await;
    let body = json!({"model": "slow", "stream": true});
    tokio::time::pause();
    let answered = node.service().oneshot(request(&node, &body)).await.unwrap();
    assert_eq!(
        (answered.status().as_u16(), &answered.headers()["content-type"]),
        (200, &"text/event-stream".parse().unwrap())
    );
    assert_eq!(answered.headers()["x-accel-buffering"], "no");
    let mut events = Events::new(answered.into_body());
    for _ in 0..3 {
        assert_eq!(events.next().await.unwrap().name, ":");
    }
    // The wait ends as for any other request, but the status has gone out.
    let last = first_of(&mut events).await.json();
    assert_eq!(
        (&last["error"]["code"], &last["error"]["runtime"]["state"]),
        (&json!("not_ready"), &json!("warming"))
    );
    assert_eq!(events.next().await, None, "no [DONE]");
    // What is whole comes whole, however long it takes.
    let whole = node.service().oneshot(request(&node, &json!({"model": "slow"}))).await.unwrap();
    assert_eq!(whole.status(), 503);
}

/// HTTP-24: and who goes away meanwhile leaves the queue.
#[tokio::test]
async fn a_client_that_leaves_after_the_early_head_leaves_the_queue() {
    let node = TestNode::start().await;
    node.fixed.add(spec("r1", "slow"), RuntimeState::Warming).await;
    tokio::time::pause();
    let body = json!({"model": "slow", "stream": true});
    let answered = node.service().oneshot(request(&node, &body)).await.unwrap();
    let mut events = Events::new(answered.into_body());
    events.next().await.unwrap();
    assert_eq!(node.fixed.waiting("r1"), 1);
    drop(events);
    assert_eq!(node.fixed.waiting("r1"), 0);
}

/// The first event that is no comment.
async fn first_of<B>(events: &mut Events<B>) -> Sse
where
    B: http_body::Body<Data = Bytes> + Unpin,
    B::Error: std::fmt::Debug,
{
    loop {
        let event = events.next().await.unwrap();
        if event.name != ":" {
            return event;
        }
    }
}

/// HTTP-24: the answer goes on behind the comments, here and across nodes.
#[tokio::test]
async fn a_stream_whose_head_was_early_goes_on_as_any_other() {
    let pair = Pair::start().await;
    let body = json!({"model": "smol", "stream": true});
    for node in [&pair.far.node, &pair.near.node] {
        let (feed, late) = tokio::sync::mpsc::channel(8);
        pair.engine.then(Does::StreamsLate(Duration::from_secs(35), late));
        feed.send(Ok(Bytes::from_static(b"data: {\"choices\":[]}\n\ndata: [DONE]\n\n"))).await.unwrap();
        drop(feed);
        tokio::time::pause();
        let answered = node.service().oneshot(request(node, &body)).await.unwrap();
        let mut events = Events::new(answered.into_body());
        assert_eq!(events.next().await.unwrap().name, ":");
        assert_eq!(first_of(&mut events).await.data, r#"{"choices":[]}"#);
        assert_eq!(events.next().await.unwrap().data, "[DONE]");
        assert_eq!(events.next().await, None);
        tokio::time::resume();
    }
}

/// HTTP-24: the refusal of another node is an event, too.
#[tokio::test]
async fn a_refusal_of_another_node_after_the_early_head_is_an_event() {
    let pair = Pair::start().await;
    pair.far.node.fixed.on_acquire("r1", || OnAcquire::Wait);
    pair.far.node.fixed.change("r1", |row| row.state = RuntimeState::Warming);
    tokio::time::pause();
    let body = json!({"model": "smol", "stream": true});
    let answered = pair.near.node.service().oneshot(request(&pair.near.node, &body)).await.unwrap();
    let mut events = Events::new(answered.into_body());
    assert_eq!(events.next().await.unwrap().name, ":");
    assert_eq!(first_of(&mut events).await.json()["error"]["code"], "not_ready");
    assert_eq!(events.next().await, None);
}

/// HTTP-24: an engine that sends its head at once, and then reads a long prompt.
#[tokio::test]
async fn a_stream_whose_first_token_is_late_has_comments_meanwhile() {
    let node = TestNode::start().await;
    let engine = FakeEngine::start();
    node.runtime("r1", "smol", &engine).await;
    let served = node.serve();
    let feed = engine.then_streams();
    let answered = served.send(request(&node, &json!({"stream": true}))).await;
    let mut events = Events::new(answered.into_body());
    tokio::time::pause();
    for _ in 0..3 {
        assert_eq!(events.next().await.unwrap().name, ":");
    }
    feed.send(Ok(Bytes::from_static(b"data: {\"choices\":[]}\n\n"))).await.unwrap();
    assert_eq!(first_of(&mut events).await.data, r#"{"choices":[]}"#);
    // Once it has begun nothing is put in between.
    tokio::time::advance(Duration::from_secs(60)).await;
    feed.send(Ok(Bytes::from_static(b"data: [DONE]\n\n"))).await.unwrap();
    drop(feed);
    assert_eq!(events.next().await.unwrap().data, "[DONE]");
}
