//! HTTP-16 to HTTP-20: two gateways that reach each other over streams in memory.

use std::sync::Arc;
use std::time::Duration;

use arw_actors::cluster::{
    At, ClusterNode, ClusterUpdate, ClusterView, Contact, ModelHost, NodeCard, OwnNode, PeerStream, Picture,
    StreamService,
};
use arw_actors::config::GatewaySettings;
use arw_actors::ids::NodeId;
use arw_actors::runtime::lease::{AcquireError, UsageTotals};
use arw_actors::runtime::machine::RuntimeState;
use arw_actors::testkit::fixed_runtimes::OnAcquire;
use arw_actors::testkit::stream_network::StreamNetwork;
use arw_kit::moment::{Moment, WallTime};
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::Instant;

use crate::support::{
    Answer, Does, Events, FakeEngine, Served, TestNode, lend, runtimes, spec, until, within,
};

const CHAT: &str = "/v1/chat/completions";
/// HTTP-18, as HTTP-14.
const CANCEL_WITHIN: Duration = Duration::from_millis(100);
const DONE: Bytes = Bytes::from_static(b"data: [DONE]\n\n");

/// A node whose gateway serves, in a network.
pub(crate) struct Member {
    pub(crate) node: TestNode,
    pub(crate) served: Served,
}

impl Member {
    async fn join(network: &StreamNetwork, name: &str, id: u8, change: fn(&mut GatewaySettings)) -> Self {
        let node = TestNode::called(name, id, change).await;
        let served = node.serve();
        node.node.cluster.set_picture(acquainted(node.node.info.id));
        let transport = network.attach(node.node.info.id, Arc::clone(&served.streams));
        node.node.cluster.attach(transport);
        Self { node, served }
    }

    pub(crate) fn id(&self) -> NodeId {
        self.node.node.info.id
    }

    pub(crate) fn request(&self) -> http::request::Builder {
        Request::post(CHAT)
            .header("host", "localhost")
            .header("content-type", "application/json")
            .header("authorization", format!("Bearer {}", self.node.admin()))
    }

    pub(crate) async fn ask(&self, body: Value) -> Response<Incoming> {
        self.served.send(self.request().body(body.to_string().into()).unwrap()).await
    }

    pub(crate) async fn answer(&self, body: Value) -> Answer {
        Answer::of(self.ask(body).await.map(axum::body::Body::new)).await
    }

    async fn metrics(&self) -> String {
        let body = self.served.get("/metrics").await.into_body();
        String::from_utf8(body.collect().await.unwrap().to_bytes().to_vec()).unwrap()
    }
}

/// The three nodes of these tests have met, and may do everything but own the workspace.
fn acquainted(own: NodeId) -> Picture {
    met(own, None)
}

/// The same, with one of them as the home of the cluster.
fn met(own: NodeId, home: Option<NodeId>) -> Picture {
    let at = At { now: Moment::ZERO, wall: WallTime::from_millis(1_700_000_000_000) };
    let about = OwnNode { id: own, name: "own".to_owned(), incarnation: 1, started_at: at.wall };
    let mut view = ClusterView::new(about);
    for number in [1, 2, 3] {
        let mut it = contact(number, &["worker", "gateway"]);
        if home == Some(it.node) {
            it.roles.push("home".to_owned());
        }
        view.fold(at, ClusterUpdate::Connected(it));
    }
    view.picture(at.now, &Arc::new(NodeCard::default()))
}

pub(crate) fn contact(number: u8, roles: &[&str]) -> Contact {
    Contact {
        node: NodeId::from_bytes([number; 32]),
        name: format!("box{number}"),
        roles: roles.iter().map(|role| (*role).to_owned()).collect(),
        incarnation: 1,
        address: ([10, 0, 0, number], 7400).into(),
        rtt: Duration::from_micros(432),
    }
}

pub(crate) fn host(member: &Member, runtime: &str, model: &str, state: &str) -> ModelHost {
    ModelHost {
        node: member.id(),
        node_name: member.node.node.info.name.clone(),
        runtime: runtime.to_owned(),
        model: model.to_owned(),
        state: state.to_owned(),
        context_length: Some(2048),
        busy: 0,
    }
}

/// `near`, which serves nothing, and `far` with the runtime `r1` of the model `smol`.
pub(crate) struct Pair {
    pub(crate) network: StreamNetwork,
    pub(crate) near: Member,
    pub(crate) far: Member,
    pub(crate) engine: FakeEngine,
}

impl Pair {
    pub(crate) async fn start() -> Self {
        Self::with(|_| {}).await
    }

    /// `change`: the settings of `far`.
    pub(crate) async fn with(change: fn(&mut GatewaySettings)) -> Self {
        let (network, engine) = (StreamNetwork::new(), FakeEngine::start());
        let near = Member::join(&network, "near", 1, |_| {}).await;
        let far = Member::join(&network, "far", 2, change).await;
        far.node.runtime("r1", "smol", &engine).await;
        near.node.node.cluster.set_hosts(vec![host(&far, "r1", "smol", "ready")]);
        let node = ClusterNode { id: far.id(), name: "far".to_owned(), is_connected: true };
        near.node.node.cluster.set_nodes(vec![node]);
        Self { network, near, far, engine }
    }

    /// From now on `far` takes orders from `near`.
    pub(crate) fn near_is_home(&self) {
        self.far.node.node.cluster.set_picture(met(self.far.id(), Some(self.near.id())));
    }

    /// As the administrator of `near`, over its address: only that gateway reaches `far`.
    pub(crate) async fn near_sends(&self, method: &str, path: &str) -> Answer {
        let request = Request::builder().method(method).uri(path).header("host", "localhost");
        let request = request.header("authorization", format!("Bearer {}", self.near.node.admin()));
        let answer = self.near.served.send(request.body(Full::default()).unwrap()).await;
        Answer::of(answer.map(axum::body::Body::new)).await
    }

    /// A third node that serves the same model, and that is more busy.
    pub(crate) async fn third(&self) -> (Member, FakeEngine) {
        let engine = FakeEngine::start();
        let third = Member::join(&self.network, "third", 3, |_| {}).await;
        third.node.runtime("r3", "smol", &engine).await;
        let more = ModelHost { busy: 9, ..host(&third, "r3", "smol", "ready") };
        self.near.node.node.cluster.set_hosts(vec![host(&self.far, "r1", "smol", "ready"), more]);
        (third, engine)
    }
}

pub(crate) fn answer_by(name: &str) -> Value {
    json!({"object": "chat.completion", "model": name, "choices": [{"message": {"content": "hi"}}],
           "usage": {"prompt_tokens": 30, "completion_tokens": 9}})
}

fn event(data: &Value) -> Bytes {
    format!("data: {data}\n\n").into()
}

fn token(text: &str, model: &str) -> Bytes {
    event(&json!({"choices": [{"index": 0, "delta": {"content": text}}], "model": model}))
}

fn usage() -> Bytes {
    event(&json!({"choices": [], "usage": {"prompt_tokens": 30, "completion_tokens": 2}}))
}

/// HTTP-17, HTTP-13 and HTTP-15 over two nodes.
#[tokio::test]
async fn a_model_of_another_node_answers_as_if_it_were_here() {
    let pair = Pair::start().await;
    for asked in ["smol", "r1", "far/r1", "02020202/r1"] {
        pair.engine.then_answers(&answer_by("engine-name"));
        let answered = pair.near.answer(json!({"model": asked, "n": 1.0})).await;
        assert_eq!((answered.status.as_u16(), answered.json()), (200, answer_by(asked)), "{asked}");
        assert_eq!(answered.header("x-arw-node"), pair.far.id().to_string());
        assert_eq!(answered.header("x-arw-runtime"), "r1");
    }
    pair.engine.then_answers(&answer_by("engine-name"));
    assert_eq!(
        pair.near.answer(json!({})).await.json(),
        answer_by("smol"),
        "the only model need not be named"
    );
    let seen = pair.engine.requests();
    assert_eq!(seen[0].body, r#"{"model":"smol","n":1.0}"#);
    assert!(seen.iter().all(|seen| seen.headers["authorization"] == "Bearer engine-key"));
    // Both sides count.
    let expected = UsageTotals { requests: 5, prompt_tokens: 150, completion_tokens: 45, cached_tokens: 0 };
    assert_eq!((pair.far.node.fixed.usage("r1"), pair.far.node.fixed.in_flight("r1")), (expected, 0));
    let (near, far) = (pair.near.metrics().await, pair.far.metrics().await);
    for line in [
        r#"arw_peer_inference_duration_seconds_count{route="/v1/chat/completions",node="02020202",outcome="ok"} 5"#,
        r#"arw_peer_tokens_total{node="02020202",type="prompt"} 150"#,
        r#"arw_peer_tokens_total{node="02020202",type="completion"} 45"#,
    ] {
        assert!(near.lines().any(|found| found == line), "{line} is not in\n{near}");
    }
    let served = r#"arw_peer_streams_total{node="01010101"} 1"#;
    assert!(far.lines().any(|found| found == served), "a stream is used again: {served} is not in\n{far}");
}

/// HTTP-18: each token goes on when it comes; HTTP-13: the usage chunk goes to who asked.
#[tokio::test]
async fn a_stream_comes_through_another_node_token_by_token() {
    let pair = Pair::start().await;
    for wants in [false, true] {
        let feed = pair.engine.then_streams();
        feed.send(Ok(token("a", "x"))).await.unwrap();
        let mut body = json!({"model": "smol", "stream": true});
        if wants {
            body["stream_options"] = json!({"include_usage": true});
        }
        let answered = pair.near.ask(body).await;
        assert_eq!(answered.headers()["content-type"], "text/event-stream");
        let mut events = Events::new(answered.into_body());
        for text in ["a", "b", "c"] {
            if text != "a" {
                feed.send(Ok(token(text, "x"))).await.unwrap();
            }
            let event = events.next().await.unwrap().json();
            assert_eq!(
                (&event["choices"][0]["delta"]["content"], &event["model"]),
                (&json!(text), &json!("smol"))
            );
        }
        feed.send(Ok(usage())).await.unwrap();
        feed.send(Ok(DONE)).await.unwrap();
        drop(feed);
        if wants {
            assert_eq!(events.next().await.unwrap().json()["usage"]["prompt_tokens"], 30);
        }
        assert_eq!(events.next().await.unwrap().data, "[DONE]");
        assert_eq!(events.next().await, None);
    }
    until(|| pair.far.node.fixed.in_flight("r1") == 0).await;
    let expected = UsageTotals { requests: 2, prompt_tokens: 60, completion_tokens: 4, cached_tokens: 0 };
    assert_eq!(pair.far.node.fixed.usage("r1"), expected);
    let metrics = pair.near.metrics().await;
    assert!(metrics.contains(r#"arw_peer_tokens_total{node="02020202",type="prompt"} 60"#), "{metrics}");
}

/// HTTP-18: the cancel crosses the wire.
#[tokio::test]
async fn a_client_that_goes_away_closes_the_engines_connection_on_the_other_node() {
    let pair = Pair::start().await;
    let feed = pair.engine.then_streams();
    feed.send(Ok(token("a", "x"))).await.unwrap();
    let mut events = Events::new(pair.near.ask(json!({"stream": true})).await.into_body());
    events.next().await.unwrap();
    assert_eq!(pair.far.node.fixed.in_flight("r1"), 1);
    let mut closed = pair.engine.closed.clone();
    let left = Instant::now();
    drop(events);
    within(closed.wait_for(|&count| count == 1)).await.unwrap();
    assert!(left.elapsed() < CANCEL_WITHIN, "{:?}", left.elapsed());
    until(|| pair.far.node.fixed.in_flight("r1") == 0).await;
    assert_eq!(
        pair.far.node.fixed.usage("r1").completion_tokens,
        1,
        "what was seen of the answer is metered"
    );
}

/// HTTP-18, while the engine thinks.
#[tokio::test]
async fn a_client_that_goes_away_before_the_answer_cancels_it_on_the_other_node() {
    for stream in [false, true] {
        let pair = Pair::start().await;
        pair.engine.then(Does::Hangs);
        let socket = tokio::net::TcpStream::connect(pair.near.served.address).await.unwrap();
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(socket)).await.unwrap();
        let connection = tokio::spawn(connection);
        let body = json!({"stream": stream});
        let request: Request<Full<Bytes>> = pair.near.request().body(body.to_string().into()).unwrap();
        let asking = tokio::spawn(sender.send_request(request));
        until(|| pair.engine.requests().len() == 1).await;
        let mut closed = pair.engine.closed.clone();
        let left = Instant::now();
        asking.abort();
        connection.abort();
        within(closed.wait_for(|&count| count == 1)).await.unwrap();
        assert!(left.elapsed() < CANCEL_WITHIN, "{:?}", left.elapsed());
        until(|| pair.far.node.fixed.in_flight("r1") == 0).await;
    }
}

/// HTTP-18: an answer that nobody takes stops at its engine, not in memory on the way.
#[tokio::test]
async fn a_client_that_does_not_read_slows_the_engine_on_the_other_node() {
    let pair = Pair::start().await;
    let feed = pair.engine.then_streams();
    feed.send(Ok(token("a", "x"))).await.unwrap();
    let answered = pair.near.ask(json!({"stream": true})).await;
    let chunk = token(&"x".repeat(64 * 1024), "smol");
    let mut sent = 0_usize;
    // Full until nobody takes more for a while: buffers of sockets and streams are some megabytes.
    while tokio::time::timeout(Duration::from_millis(500), feed.send(Ok(chunk.clone()))).await.is_ok() {
        sent += chunk.len();
        assert!(sent < 64 << 20, "{sent} bytes were taken that nobody reads");
    }
    drop(answered);
    until(|| pair.far.node.fixed.in_flight("r1") == 0).await;
}

/// HTTP-6: whoever answers a node that reads nothing stops after a minute: its engine has others to serve.
#[tokio::test]
async fn a_node_that_reads_nothing_is_cut_after_a_minute() {
    let pair = Pair::start().await;
    let feed = pair.engine.then_streams();
    feed.send(Ok(token("a", "x"))).await.unwrap();
    let _unread = pair.near.ask(json!({"stream": true})).await;
    let chunk = token(&"x".repeat(64 * 1024), "smol");
    while tokio::time::timeout(Duration::from_millis(500), feed.send(Ok(chunk.clone()))).await.is_ok() {}
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(50)).await;
    assert_eq!(pair.far.node.fixed.in_flight("r1"), 1);
    tokio::time::advance(Duration::from_secs(20)).await;
    until(|| pair.far.node.fixed.in_flight("r1") == 0).await;
}

/// HTTP-18: a refusal goes on as it is.
#[tokio::test]
async fn the_other_nodes_refusals_pass_through() {
    let pair = Pair::start().await;
    pair.far.node.fixed.on_acquire("r1", || {
        OnAcquire::Refuse(AcquireError::QueueFull { runtime: "r1".parse().unwrap(), waiting: 64 })
    });
    let answered = pair.near.answer(json!({"model": "smol"})).await;
    let error = answered.is_error(429, "queue_full");
    assert_eq!(
        (answered.header("retry-after"), &error["runtime"]),
        ("2", &json!({"id": "r1", "waiting": 64}))
    );

    let endpoint = pair.engine.endpoint();
    pair.far.node.fixed.on_acquire("r1", move || lend(endpoint.clone()));
    let refusal = json!({"error": {"message": "too long", "type": "exceed_context_size_error", "code": 400}});
    pair.engine.then(Does::Answers(400, "application/json", refusal.to_string().into()));
    let answered = pair.near.answer(json!({"model": "smol", "stream": true})).await;
    let error = answered.json()["error"].clone();
    assert_eq!((answered.status.as_u16(), &error["message"]), (400, &json!("too long")));
    assert_eq!(
        (answered.header("x-arw-node"), answered.header("x-arw-runtime")),
        (pair.far.id().to_string().as_str(), "r1")
    );
}

/// HTTP-18: who has no room is passed over for who has.
#[tokio::test]
async fn a_host_without_room_is_passed_over() {
    let pair = Pair::start().await;
    let (_third, other) = pair.third().await;
    pair.far.node.fixed.on_acquire("r1", || {
        OnAcquire::Refuse(AcquireError::QueueFull { runtime: "r1".parse().unwrap(), waiting: 64 })
    });
    other.then_answers(&answer_by("x"));
    let answered = pair.near.answer(json!({"model": "smol"})).await;
    assert_eq!((answered.status.as_u16(), answered.header("x-arw-runtime")), (200, "r3"));
}

/// CLUSTER-5: also towards who does not know yet, and who has chosen it is sent elsewhere.
#[tokio::test]
async fn a_node_that_drains_refuses_other_nodes_and_not_its_own_clients() {
    let pair = Pair::start().await;
    pair.far.node.node.cluster.set_draining(true);
    let answered = pair.near.answer(json!({"model": "smol"})).await;
    answered.is_error(503, "not_ready");
    assert_eq!(answered.header("retry-after"), "10");
    let (_third, other) = pair.third().await;
    other.then_answers(&answer_by("x"));
    let answered = pair.near.answer(json!({"model": "smol"})).await;
    assert_eq!((answered.status.as_u16(), answered.header("x-arw-runtime")), (200, "r3"));
    pair.engine.then_answers(&answer_by("x"));
    assert_eq!(pair.far.answer(json!({"model": "smol"})).await.status, 200);
}

/// HTTP-16.
#[tokio::test]
async fn a_node_that_is_no_gateway_is_refused_answers() {
    let pair = Pair::start().await;
    let at = At::default();
    let about = OwnNode { id: pair.far.id(), name: "far".to_owned(), incarnation: 1, started_at: at.wall };
    let mut view = ClusterView::new(about);
    view.fold(at, ClusterUpdate::Connected(contact(1, &["worker"])));
    pair.far.node.node.cluster.set_picture(view.picture(at.now, &Arc::new(NodeCard::default())));
    pair.near.answer(json!({"model": "smol"})).await.is_error(403, "scope_missing");
    assert!(pair.engine.requests().is_empty());
}

/// HTTP-18: a member that means harm gets no page into this node's name.
#[tokio::test]
async fn what_another_node_says_is_json_or_events_whatever_it_calls_it() {
    let pair = Pair::start().await;
    pair.engine.then(Does::Answers(200, "text/html", "<script>".into()));
    let answered = pair.near.answer(json!({"model": "smol"})).await;
    assert_eq!((answered.status.as_u16(), answered.header("content-type")), (200, "application/json"));
}

/// HTTP-19.
#[tokio::test]
async fn state_of_another_node_is_json_or_a_stream_or_nothing() {
    let network = StreamNetwork::new();
    let near = Member::join(&network, "near", 1, |_| {}).await;
    let bad = NodeId::from_bytes([2; 32]);
    network.attach(bad, Arc::new(Html));
    let node = ClusterNode { id: bad, name: "bad".to_owned(), is_connected: true };
    near.node.node.cluster.set_nodes(vec![node]);
    let document = near.node.get("/state/node?node=bad").await;
    assert_eq!((document.status.as_u16(), document.header("content-type")), (200, "application/json"));
    near.node.get("/state/node/stream?node=bad").await.is_problem(502, "node_refused");
}

/// Answers everything with a page.
#[derive(Debug)]
struct Html;

impl StreamService for Html {
    fn serve(&self, _: NodeId, mut stream: Box<dyn PeerStream>) {
        tokio::spawn(async move {
            let mut asked = [0; 4096];
            while stream.read(&mut asked).await.is_ok_and(|count| count > 0) {
                let page = b"HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: 8\r\n\r\n<script>";
                if stream.write_all(page).await.is_err() {
                    return;
                }
            }
        });
    }
}

/// HTTP-7 and HTTP-19.
#[tokio::test]
async fn a_wait_for_another_nodes_news_does_not_hold_up_the_end() {
    let mut pair = Pair::start().await;
    let socket = tokio::net::TcpStream::connect(pair.near.served.address).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(socket)).await.unwrap();
    tokio::spawn(connection);
    let path = "/state/runtimes?node=far&after=3.1&wait=60s";
    let request: Request<Full<Bytes>> = crate::support::get(path).body(Full::default()).unwrap();
    let asking = sender.send_request(request);
    let stop = async {
        let model = pair.far.node.model("runtimes").clone();
        until(|| format!("{model:?}").contains("subscribers: 1")).await;
        pair.near.served.stop();
    };
    let (answered, ()) = tokio::join!(within(asking), stop);
    assert_eq!(answered.unwrap().status(), 503);
}

/// HTTP-16: nodes have streams of their own.
#[tokio::test]
async fn streams_of_other_nodes_leave_those_of_clients_alone() {
    let pair = Pair::with(|settings| settings.event_streams_max = 2).await;
    let path = "/state/runtimes/stream";
    let mut first = Events::new(pair.near.served.get(&format!("{path}?node=far")).await.into_body());
    first.next().await.unwrap();
    assert_eq!(pair.near.served.get(&format!("{path}?node=far")).await.status(), 429);
    let own = [pair.far.served.get(path).await, pair.far.served.get(path).await];
    assert!(own.iter().all(|answered| answered.status() == 200));
}

/// HTTP-17.
#[tokio::test]
async fn an_unknown_model_is_refused_with_the_names_on_all_nodes() {
    let pair = Pair::start().await;
    pair.near.node.fixed.add(spec("mine", "large"), RuntimeState::Ready).await;
    let unknown = pair.near.answer(json!({"model": "gpt"})).await.is_error(404, "model_not_found");
    assert_eq!(unknown["known"], json!(["large", "mine", "smol", "r1"]));
    let show = pair.near.node.send("GET", "/v1/models/gpt", None).await.is_error(404, "model_not_found");
    assert_eq!(show["known"], unknown["known"]);
}

/// HTTP-17.
#[tokio::test]
async fn this_node_answers_first_and_another_one_when_it_cannot() {
    let pair = Pair::start().await;
    let mine = FakeEngine::start();
    pair.near.node.runtime("mine", "smol", &mine).await;
    mine.then_answers(&answer_by("x"));
    let answered = pair.near.answer(json!({"model": "smol"})).await;
    assert_eq!(answered.header("x-arw-runtime"), "mine");
    assert_eq!(answered.header("x-arw-node"), pair.near.id().to_string());
    // The row does not tell yet that the queue is full.
    pair.near.node.fixed.on_acquire("mine", || {
        OnAcquire::Refuse(AcquireError::QueueFull { runtime: "mine".parse().unwrap(), waiting: 64 })
    });
    pair.engine.then_answers(&answer_by("x"));
    assert_eq!(pair.near.answer(json!({"model": "smol"})).await.header("x-arw-runtime"), "r1");
    pair.near.node.fixed.change("mine", |row| row.state = RuntimeState::Quarantined);
    pair.engine.then_answers(&answer_by("x"));
    assert_eq!(pair.near.answer(json!({"model": "smol"})).await.header("x-arw-runtime"), "r1");
    // When nobody else is ready, this node's own words are the answer.
    pair.near.node.fixed.change("mine", |row| row.state = RuntimeState::Ready);
    pair.near.node.node.cluster.set_hosts(vec![host(&pair.far, "r1", "smol", "stopped")]);
    pair.near.answer(json!({"model": "smol"})).await.is_error(429, "queue_full");
}

/// HTTP-18.
#[tokio::test]
async fn a_node_that_cannot_be_reached_is_passed_over_and_else_reported() {
    let pair = Pair::start().await;
    pair.network.set_away(pair.far.id(), true);
    let answered = pair.near.answer(json!({"model": "smol"})).await;
    let error = answered.is_error(503, "node_unreachable");
    assert_eq!((&error["node"], answered.header("retry-after")), (&json!(pair.far.id().to_string()), "1"));
    assert!(
        error["message"].as_str().unwrap().contains("there is no connection to node 02020202"),
        "{error}"
    );
    let (third, other) = pair.third().await;
    other.then_answers(&answer_by("x"));
    let answered = pair.near.answer(json!({"model": "smol"})).await;
    assert_eq!(
        (answered.status.as_u16(), answered.header("x-arw-node")),
        (200, third.id().to_string().as_str())
    );
}

/// HTTP-18: nothing has been passed on, so that another host may answer, or the same one in a second try.
#[tokio::test]
async fn a_node_lost_before_its_answer_is_replaced_once() {
    let pair = Pair::start().await;
    let body = json!({"model": "smol"});
    let lost = async |engine: &FakeEngine, count: usize| {
        until(|| engine.requests().len() == count).await;
        pair.network.cut(pair.far.id());
    };
    pair.engine.then(Does::Hangs);
    pair.engine.then_answers(&answer_by("x"));
    let (answered, ()) = tokio::join!(pair.near.answer(body.clone()), lost(&pair.engine, 1));
    assert_eq!((answered.status.as_u16(), answered.json()), (200, answer_by("smol")));
    until(|| pair.far.node.fixed.in_flight("r1") == 0).await;

    let (third, other) = pair.third().await;
    pair.engine.then(Does::Hangs);
    other.then_answers(&answer_by("x"));
    let (answered, ()) = tokio::join!(pair.near.answer(body.clone()), lost(&pair.engine, 3));
    assert_eq!(
        (answered.status.as_u16(), answered.header("x-arw-node")),
        (200, third.id().to_string().as_str())
    );

    pair.near.node.node.cluster.set_hosts(vec![host(&pair.far, "r1", "smol", "ready")]);
    pair.engine.then(Does::Hangs);
    pair.engine.then(Does::Hangs);
    let twice = async {
        lost(&pair.engine, 4).await;
        lost(&pair.engine, 5).await;
    };
    let (answered, ()) = tokio::join!(pair.near.answer(body), twice);
    let error = answered.is_error(502, "node_lost");
    assert_eq!(error["node"], pair.far.id().to_string());
    let metrics = pair.near.metrics().await;
    assert!(metrics.contains(r#"node="02020202",outcome="node_lost"} 1"#), "{metrics}");
}

/// HTTP-18: as HTTP-14, with a code of its own.
#[tokio::test]
async fn a_node_lost_mid_stream_ends_it_with_an_error() {
    let pair = Pair::start().await;
    let feed = pair.engine.then_streams();
    feed.send(Ok(token("a", "x"))).await.unwrap();
    let mut events = Events::new(pair.near.ask(json!({"stream": true})).await.into_body());
    events.next().await.unwrap();
    pair.network.cut(pair.far.id());
    let last = events.next().await.unwrap().json();
    assert_eq!(
        (&last["error"]["code"], &last["error"]["type"]),
        (&json!("node_lost"), &json!("server_error"))
    );
    assert_eq!(events.next().await, None, "no [DONE]");
    assert_eq!(pair.engine.requests().len(), 1, "once something was passed on, nothing is asked again");
    let mut closed = pair.engine.closed.clone();
    within(closed.wait_for(|&count| count == 1)).await.unwrap();
}

/// HTTP-14: the other node tells of its engine itself, and once.
#[tokio::test]
async fn an_engine_lost_on_the_other_node_is_told_as_such() {
    let pair = Pair::start().await;
    let feed = pair.engine.then_streams();
    feed.send(Ok(token("a", "x"))).await.unwrap();
    let mut events = Events::new(pair.near.ask(json!({"stream": true})).await.into_body());
    events.next().await.unwrap();
    feed.send(Err(std::io::Error::other("killed"))).await.unwrap();
    assert_eq!(events.next().await.unwrap().json()["error"]["code"], "engine_lost");
    assert_eq!(events.next().await, None);
}

/// HTTP-16: each node believes that the other one serves; the request ends at the second.
#[tokio::test]
async fn no_request_goes_round_in_circles() {
    let pair = Pair::start().await;
    pair.near.node.node.cluster.set_hosts(vec![host(&pair.far, "ghost", "ghost", "ready")]);
    pair.far.node.node.cluster.set_hosts(vec![host(&pair.near, "ghost", "ghost", "ready")]);
    let refused = pair.near.answer(json!({"model": "ghost"})).await.is_error(404, "model_not_found");
    assert_eq!(refused["known"], json!(["smol", "r1"]), "the words of the second node");
    assert_eq!((pair.network.opened(pair.far.id()), pair.network.opened(pair.near.id())), (1, 0));
}

/// What a member sees that sends any request over a stream of its own.
async fn as_member(pair: &Pair, request: Request<Full<Bytes>>) -> Answer {
    let transport = pair.near.node.node.cluster.transport().unwrap();
    let stream = transport.open(pair.far.id(), Duration::from_secs(5)).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let answered = within(sender.send_request(request)).await.unwrap();
    Answer::of(answered.map(axum::body::Body::new)).await
}

/// HTTP-16: being a member is the right to use models and to read state, without a token and also where
/// clients need one; to nothing else.
#[tokio::test]
async fn a_member_may_read_and_use_and_nothing_else() {
    let pair = Pair::with(|settings| {
        settings.require_token_for_reads = true;
        settings.body_max_bytes = 1_000;
        settings.header_max_bytes = 2_000;
    })
    .await;
    let request =
        |method: &str, path: &str| Request::builder().method(method).uri(path).header("host", "localhost");
    for path in ["/healthz", "/state/node", "/state/actors", "/state/runtimes", "/state/models"] {
        let answered = as_member(&pair, request("GET", path).body(Full::default()).unwrap()).await;
        assert_eq!(answered.status, 200, "{path}");
    }
    let token = format!("Bearer {}", pair.far.node.admin());
    for (method, path) in [
        ("GET", "/tokens"),
        ("POST", "/tokens"),
        ("POST", "/runtimes"),
        ("DELETE", "/runtimes/r1"),
        ("POST", "/runtimes/r1/stop"),
        ("GET", "/runtimes/r1/logs"),
        ("POST", "/models/import"),
        ("GET", "/events"),
        ("GET", "/metrics"),
        ("GET", "/state/nothing"),
        ("GET", "/state/cluster"),
        ("GET", "/state/cluster/stream"),
    ] {
        let asked = request(method, path).header("authorization", &token).body(Full::default()).unwrap();
        as_member(&pair, asked).await.is_problem(404, "not_found");
    }
    let models = request("GET", "/v1/models").header("authorization", &token).body(Full::default()).unwrap();
    as_member(&pair, models).await.is_error(404, "not_found");
    let third = request("GET", "/state/actors?node=near").body(Full::default()).unwrap();
    as_member(&pair, third).await.is_problem(422, "bad_field");
    let third = request("GET", "/state/actors/stream?node=near").body(Full::default()).unwrap();
    as_member(&pair, third).await.is_problem(422, "bad_field");
    let large = request("POST", CHAT).header("content-type", "application/json");
    let large = large.body(format!("{{\"a\":\"{}\"}}", "x".repeat(1_000)).into()).unwrap();
    as_member(&pair, large).await.is_error(413, "body_too_large");
    let long = request("GET", "/healthz").header("x-long", "x".repeat(2_000)).body(Full::default()).unwrap();
    as_member(&pair, long).await.is_problem(431, "head_too_large");
}

/// HTTP-16.
#[tokio::test]
async fn a_stream_beyond_the_limit_is_dropped_and_there_is_room_again() {
    let pair = Pair::with(|settings| settings.connections_max = 1).await;
    let feed = pair.engine.then_streams();
    feed.send(Ok(token("a", "x"))).await.unwrap();
    let mut events = Events::new(pair.near.ask(json!({"stream": true})).await.into_body());
    events.next().await.unwrap();
    pair.near.answer(json!({"model": "smol"})).await.is_error(502, "node_lost");
    assert_eq!(pair.engine.requests().len(), 1);
    drop(events);
    let mut closed = pair.engine.closed.clone();
    within(closed.wait_for(|&count| count == 1)).await.unwrap();
    within(async {
        loop {
            pair.engine.then_answers(&answer_by("x"));
            if pair.near.answer(json!({"model": "smol"})).await.status == 200 {
                break;
            }
        }
    })
    .await;
}

/// HTTP-16: answers that run may end, new streams are dropped, and the gateway ends when none is left.
#[tokio::test]
async fn a_shutdown_lets_the_other_nodes_answers_finish() {
    let mut pair = Pair::start().await;
    let feed = pair.engine.then_streams();
    feed.send(Ok(token("a", "x"))).await.unwrap();
    let mut events = Events::new(pair.near.ask(json!({"stream": true})).await.into_body());
    events.next().await.unwrap();
    pair.far.served.stop();
    until(|| {
        // It takes clients until it is stopping.
        std::net::TcpStream::connect(pair.far.served.address).is_err()
    })
    .await;
    pair.near.answer(json!({"model": "smol"})).await.is_error(502, "node_lost");
    assert!(!pair.far.served.task.is_finished());
    feed.send(Ok(DONE)).await.unwrap();
    drop(feed);
    assert_eq!(events.next().await.unwrap().data, "[DONE]");
    within(&mut pair.far.served.task).await.unwrap();
}

/// HTTP-17.
#[tokio::test]
async fn the_models_of_all_nodes_are_listed_once_with_who_serves() {
    let pair = Pair::start().await;
    pair.near.node.fixed.add(spec("mine", "large"), RuntimeState::Stopped).await;
    let hosts = vec![
        host(&pair.far, "r1", "smol", "warming"),
        host(&pair.far, "r2", "smol", "ready"),
        host(&pair.far, "r3", "large", "ready"),
    ];
    pair.near.node.node.cluster.set_hosts(hosts);
    let list = pair.near.node.send("GET", "/v1/models", None).await.json();
    let rows: Vec<[&str; 5]> = list["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| ["id", "runtime", "state", "node_name", "node"].map(|name| row[name].as_str().unwrap()))
        .collect();
    let (near, far) = (pair.near.id().to_string(), pair.far.id().to_string());
    assert_eq!(
        rows,
        [["large", "mine", "stopped", "near", &near], ["smol", "r2", "ready", "far", &far]],
        "this node's own comes first, then the readiest"
    );
    assert_eq!(list["data"][1]["context_length"], 2048);
    // HTTP-10: by the names that a request may use, encoded or not.
    let placed = [format!("{}/r3", &far[..8]), format!("{}%2Fmine", &near[..8])];
    for (asked, runtime) in [
        ("smol", "r2"),
        ("r1", "r1"),
        ("large", "mine"),
        ("mine", "mine"),
        ("far/r1", "r1"),
        ("far%2Fr2", "r2"),
        ("near/mine", "mine"),
        (&placed[0], "r3"),
        (&placed[1], "mine"),
    ] {
        let row = pair.near.node.send("GET", &format!("/v1/models/{asked}"), None).await.json();
        assert_eq!(row["runtime"], runtime, "{asked}");
    }
}

/// HTTP-19.
#[tokio::test]
async fn any_node_shows_the_state_of_any_node() {
    let pair = Pair::start().await;
    let far = pair.far.id().to_string();
    for node in ["far", &far, &far[..8]] {
        let answered = pair.near.node.get(&format!("/state/node?node={node}")).await;
        assert_eq!((answered.status.as_u16(), answered.header("x-arw-node")), (200, far.as_str()), "{node}");
        assert_eq!(answered.json()["node"]["name"], "far");
        assert_eq!(answered.header("x-arw-version"), "3.1");
        assert_eq!(answered.header("content-type"), "application/json");
    }
    for name in ["actors", "runtimes", "models"] {
        let there = pair.near.node.get(&format!("/state/{name}?node=far")).await;
        assert_eq!(there.bytes, pair.far.node.get(&format!("/state/{name}")).await.bytes);
    }
    let own = pair.near.node.get("/state/node?node=near").await;
    assert_eq!(
        (own.json()["node"]["name"].as_str(), own.header("x-arw-node")),
        (Some("near"), pair.near.id().to_string().as_str())
    );
    // A version that the client has already is not sent again.
    let unchanged = pair.near.node.get("/state/node?node=far&after=3.1").await;
    assert_eq!((unchanged.status.as_u16(), unchanged.header("x-arw-version")), (304, "3.1"));
}

/// HTTP-19.
#[tokio::test]
async fn a_stream_of_another_node_is_followed_and_ends_with_it() {
    let mut pair = Pair::start().await;
    let answered = pair.near.served.get("/state/runtimes/stream?node=far").await;
    let far = pair.far.id().to_string();
    assert_eq!(
        (answered.status().as_u16(), answered.headers()["x-arw-node"].to_str().unwrap()),
        (200, far.as_str())
    );
    assert_eq!(answered.headers()["content-type"], "text/event-stream");
    let mut events = Events::new(answered.into_body());
    assert_eq!(events.next().await.unwrap().name, "snapshot");
    pair.far.node.model("runtimes").publish(runtimes(&["new"]));
    let patch = events.next().await.unwrap();
    assert_eq!((patch.name.as_str(), patch.id.as_str()), ("patch", "3.2"));
    // One that leaves is not followed any more, there either.
    let model = pair.far.node.model("runtimes").clone();
    until(|| format!("{model:?}").contains("subscribers: 1")).await;
    drop(events);
    until(|| format!("{model:?}").contains("subscribers: 0")).await;

    let resumed = pair.near.served.get("/state/runtimes/stream?node=far&after=3.1").await;
    let mut events = Events::new(resumed.into_body());
    assert_eq!(events.next().await.unwrap().name, "patch", "it goes on where the client was");
    pair.network.cut(pair.far.id());
    assert_eq!(events.next().await, None, "an end, after which clients resume");
    let mut events = Events::new(pair.near.served.get("/state/runtimes/stream?node=far").await.into_body());
    events.next().await.unwrap();
    pair.near.served.stop();
    assert_eq!(events.next().await, None);
}

/// HTTP-19.
#[tokio::test]
async fn a_node_without_an_answer_is_a_refusal_that_says_why() {
    let pair = Pair::start().await;
    let unknown = pair.near.node.get("/state/actors?node=fra").await.is_problem(404, "not_found");
    assert_eq!(unknown["known"], json!(["near", "far"]));
    pair.near.node.get("/state/actors?node=far&after=x").await.is_problem(422, "bad_field");
    for path in ["/state/cluster?node=far", "/state/cluster/stream?node=near"] {
        assert_eq!(pair.near.node.get(path).await.is_problem(422, "bad_field")["field"], "node", "{path}");
    }
    pair.network.set_away(pair.far.id(), true);
    let away = pair.near.node.get("/state/actors?node=far").await;
    let problem = away.is_problem(503, "node_unreachable");
    assert!(problem["detail"].as_str().unwrap().contains("`far` (02020202)"), "{problem}");
    assert_eq!(away.header("retry-after"), "2");
}

/// The transport has threads of its own.
#[tokio::test]
async fn a_stream_may_come_on_a_thread_that_has_no_runtime() {
    let pair = Pair::start().await;
    let (near, far) = tokio::io::duplex(64 * 1024);
    let (streams, from) = (Arc::clone(&pair.far.served.streams), pair.near.id());
    std::thread::spawn(move || streams.serve(from, Box::new(far))).join().unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(near)).await.unwrap();
    tokio::spawn(connection);
    let request: Request<Full<Bytes>> = crate::support::get("/healthz").body(Full::default()).unwrap();
    assert_eq!(within(sender.send_request(request)).await.unwrap().status(), 200);
}

/// HTTP-11: what the first host took of the wait is not there for a second one.
#[tokio::test]
async fn a_host_that_let_a_request_wait_in_vain_has_the_last_word() {
    let mut pair = Pair::with(|settings| settings.wait_for_runtime = Duration::from_millis(60)).await;
    pair.near.node.settings.wait_for_runtime = Duration::from_millis(50);
    let (_third, other) = pair.third().await;
    pair.far.node.fixed.on_acquire("r1", || OnAcquire::Wait);
    let request = pair.near.request().body(axum::body::Body::from(r#"{"model":"smol"}"#)).unwrap();
    pair.near.node.call(request).await.is_error(503, "not_ready");
    assert!(other.requests().is_empty());
}

/// Notes the trace of each span `inference`.
#[derive(Clone, Default)]
struct Spans(Arc<std::sync::Mutex<Vec<String>>>);

impl tracing::Subscriber for Spans {
    fn enabled(&self, _: &tracing::Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, span: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        if span.metadata().name() == "inference" {
            span.record(&mut self.clone());
        }
        tracing::span::Id::from_u64(1)
    }

    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}
    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}
    fn event(&self, _: &tracing::Event<'_>) {}
    fn enter(&self, _: &tracing::span::Id) {}
    fn exit(&self, _: &tracing::span::Id) {}
}

impl tracing::field::Visit for Spans {
    fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn std::fmt::Debug) {
        if field.name() == "trace_id" {
            self.0.lock().unwrap().push(format!("{value:?}"));
        }
    }
}

/// HTTP-20.
#[tokio::test]
async fn the_spans_on_both_nodes_are_of_one_trace() {
    let pair = Pair::start().await;
    let spans = Spans::default();
    // One thread runs both nodes.
    let _watched = tracing::subscriber::set_default(spans.clone());
    pair.engine.then_answers(&answer_by("x"));
    assert_eq!(pair.near.answer(json!({"model": "smol"})).await.status, 200);
    let seen = spans.0.lock().unwrap().clone();
    assert_eq!(seen.len(), 2, "{seen:?}");
    assert_eq!(seen[0], seen[1]);
    let told = pair.engine.requests()[0].headers["traceparent"].clone();
    assert!(told.to_str().unwrap().contains(&seen[0]), "{told:?}");
}

/// HTTP-20: one trace from the client to the engine on the other node.
#[tokio::test]
async fn the_trace_of_a_request_reaches_the_engine_on_the_other_node() {
    let pair = Pair::start().await;
    let body = json!({"model": "smol"});
    let given = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    for (headers, id) in [(Some(given), Some("4bf92f3577b34da6a3ce929d0e0e4736")), (None, None)] {
        pair.engine.then_answers(&answer_by("x"));
        let mut request = pair.near.request();
        if let Some(value) = headers {
            request = request.header("traceparent", value).header("tracestate", "a=b");
        }
        let answered = pair.near.served.send(request.body(body.to_string().into()).unwrap()).await;
        assert_eq!(answered.status(), 200);
        let seen = pair.engine.requests().pop().unwrap();
        let trace = seen.headers["traceparent"].to_str().unwrap().to_owned();
        let fields: Vec<&str> = trace.split('-').collect();
        assert_eq!((fields.len(), fields[0], fields[1].len(), fields[3]), (4, "00", 32, "01"), "{trace}");
        assert!(id.is_none_or(|id| fields[1] == id), "{trace}");
        assert_ne!(fields[2], "00f067aa0ba902b7", "each step is a parent of its own");
        assert!(!seen.headers.contains_key("tracestate"));
    }
}
