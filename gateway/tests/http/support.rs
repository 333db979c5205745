//! A node, a client and an engine for tests.
//!
//! Owns how they are built. Refuses to assert anything but that building works.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arw_actors::cluster::StreamService;
use arw_actors::config::{GatewaySettings, MachineDefaults, NodeConfig};
use arw_actors::ids::NodeId;
use arw_actors::journal::{Journal, JournalOptions, Retention};
use arw_actors::model::{ModelLibrary, ModelStore};
use arw_actors::node::Node;
use arw_actors::node_info::{NodeInfo, NodeStatus};
use arw_actors::policy::{Scope, Tokens};
use arw_actors::projection::ReadModel;
use arw_actors::runtime::engine_client::EngineClient;
use arw_actors::runtime::launcher::{Endpoint, Secret};
use arw_actors::runtime::machine::RuntimeState;
use arw_actors::runtime::spec::RuntimeSpec;
use arw_actors::store::{Store, StoreOptions};
use arw_actors::testkit::fixed_runtimes::{FixedRuntimes, OnAcquire};
use arw_actors::views::{View, Views};
use arw_gateway::Gateway;
use arw_kit::clock::Clock;
use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use futures_util::StreamExt;
use http::{HeaderMap, Request, StatusCode};
use http_body_util::{BodyExt, Full, StreamBody};
use hyper_util::rt::TokioIo;
use serde_json::{Map, Value, json};
use tokio::sync::{mpsc, oneshot, watch};
use tower::ServiceExt;

/// Long enough for a busy machine; only a broken test waits so long.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Waits for something that happens in another task.
pub(crate) async fn within<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, what).await.expect("it did not happen in time")
}

/// Waits until a condition holds that no channel tells about.
pub(crate) async fn until(mut holds: impl FnMut() -> bool) {
    within(async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
}

/// As little as a journal keeps.
const RETENTION: Retention = Retention { max_age: Duration::from_secs(3600), max_rows: 1_000 };

/// A node and everything with which a test moves it.
pub(crate) struct TestNode {
    pub(crate) node: Node,
    pub(crate) settings: GatewaySettings,
    pub(crate) fixed: FixedRuntimes,
    pub(crate) status: watch::Sender<NodeStatus>,
    pub(crate) folder: tempfile::TempDir,
    admin: String,
}

impl TestNode {
    pub(crate) async fn start() -> Self {
        Self::with(|_| {}).await
    }

    pub(crate) async fn with(change: impl FnOnce(&mut GatewaySettings)) -> Self {
        Self::called("testbox", 7, change).await
    }

    /// With a name of its own, and an id that consists of one byte.
    pub(crate) async fn called(name: &str, id: u8, change: impl FnOnce(&mut GatewaySettings)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let machine = MachineDefaults { state_dir: folder.path().to_owned(), name: name.to_owned() };
        let mut settings = NodeConfig::from_layers(&[], &machine).unwrap().config.gateway;
        settings.http = SocketAddr::from(([127, 0, 0, 1], 0));
        change(&mut settings);
        let clock = Clock::system();
        let store = Store::open(&folder.path().join("arw.db"), StoreOptions::default()).unwrap();
        let journal = Journal::open(store.clone(), JournalOptions { clock, retention: RETENTION }).unwrap();
        let tokens = Tokens::open(store, journal.clone()).unwrap();
        let models = ModelStore::open(folder.path().join("models")).unwrap();
        let models = ModelLibrary::new(models, journal.clone(), clock).unwrap();
        let (system, fixed) = FixedRuntimes::start().await;
        let (status, watched) = watch::channel(NodeStatus::Ready);
        let info = NodeInfo {
            id: NodeId::from_bytes([id; 32]),
            name: name.to_owned(),
            incarnation: 3,
            version: "0.1.0",
            started_at: clock.wall(),
            state_dir: folder.path().to_owned(),
        };
        let (_, admin) = tokens.create("test", [Scope::Admin].into(), None, clock.wall()).await.unwrap();
        let node = Node {
            info: Arc::new(info),
            system,
            journal,
            tokens,
            models,
            runtimes: fixed.runtimes(),
            engines: EngineClient::new(),
            cluster: arw_actors::cluster::Cluster::default(),
            views: views(clock, name),
            status: watched,
        };
        Self { node, settings, fixed, status, folder, admin: admin.reveal().to_owned() }
    }

    pub(crate) fn admin(&self) -> &str {
        &self.admin
    }

    /// A token with these scopes.
    pub(crate) async fn token(&self, name: &str, scopes: &[Scope]) -> String {
        let scopes = scopes.iter().copied().collect();
        let (_, text) =
            self.node.tokens.create(name, scopes, None, self.node.system.clock().wall()).await.unwrap();
        text.reveal().to_owned()
    }

    /// The service without a server. Each call of this makes one of its own.
    pub(crate) fn service(&self) -> arw_gateway::Front {
        arw_gateway::service(self.node.clone(), &self.settings)
    }

    /// Sends one request to a service of its own.
    pub(crate) async fn call(&self, request: Request<Body>) -> Answer {
        Answer::of(self.service().oneshot(request).await.unwrap()).await
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.call(get(path).body(Body::empty()).unwrap()).await
    }

    /// As the administrator.
    pub(crate) async fn send(&self, method: &str, path: &str, body: Option<Value>) -> Answer {
        let request = Request::builder().method(method).uri(path).header("host", "localhost");
        let request = request.header("authorization", format!("Bearer {}", self.admin));
        let request = match body {
            Some(body) => request.header("content-type", "application/json").body(body.to_string().into()),
            None => request.body(Body::empty()),
        };
        self.call(request.unwrap()).await
    }

    /// The service behind a real address.
    pub(crate) fn serve(&self) -> Served {
        let gateway = Gateway::bind(self.node.clone(), &self.settings).unwrap();
        let address = gateway.local_addr();
        let streams = gateway.stream_service();
        let (stop, stopped) = oneshot::channel::<()>();
        let task = tokio::spawn(gateway.serve(async {
            let _ = stopped.await;
        }));
        Served { address, streams, stop: Some(stop), task }
    }

    /// A runtime that lends the engine.
    pub(crate) async fn runtime(&self, id: &str, model: &str, engine: &FakeEngine) {
        self.fixed.add(spec(id, model), RuntimeState::Ready).await;
        let endpoint = engine.endpoint();
        self.fixed.on_acquire(id, move || lend(endpoint.clone()));
    }

    pub(crate) fn model(&self, name: &str) -> &ReadModel {
        self.node.state(name).unwrap()
    }
}

fn views(clock: Clock, name: &str) -> Views {
    let fields = |root: &str, value: Value| Map::from_iter([(root.to_owned(), value)]);
    let model = |view: View| {
        let content = match view.name {
            "node" => fields("node", json!({"name": name})),
            "actors" => fields("root", json!({"path": "node"})),
            "cluster" => fields("nodes", json!([])),
            list => fields(list, json!([])),
        };
        ReadModel::new(view.name, 3, clock, content)
    };
    Views::fixed(arw_gateway::views().into_iter().map(model).collect(), clock)
}

/// New content of the read model `runtimes`.
pub(crate) fn runtimes(ids: &[&str]) -> Map<String, Value> {
    let rows: Vec<Value> = ids.iter().map(|id| json!({"id": id})).collect();
    Map::from_iter([("runtimes".to_owned(), rows.into())])
}

pub(crate) fn lend(endpoint: Endpoint) -> OnAcquire {
    OnAcquire::Lend { endpoint, secret: Some(Secret::new("engine-key")), model: None }
}

pub(crate) fn spec(id: &str, model: &str) -> RuntimeSpec {
    serde_json::from_value(json!({
        "id": id, "adapter": "process", "model": model, "program": "/bin/true", "args": ["{socket}"]
    }))
    .unwrap()
}

pub(crate) fn get(path: &str) -> http::request::Builder {
    Request::get(path).header("host", "127.0.0.1:8091")
}

/// A whole answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) bytes: Bytes,
}

impl Answer {
    pub(crate) async fn of(response: Response) -> Self {
        let (head, body) = response.into_parts();
        let bytes = within(body.collect()).await.unwrap().to_bytes();
        Self { status: head.status, headers: head.headers, bytes }
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.bytes).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// It is a refusal of this status and kind, with words and a way out.
    pub(crate) fn is_problem(&self, status: u16, word: &str) -> Value {
        assert_eq!(self.status, status, "{self:?}");
        assert_eq!(self.header("content-type"), "application/problem+json");
        let problem = self.json();
        assert_eq!(problem["type"], format!("urn:arw:problem:{word}"), "{problem}");
        assert_eq!(problem["status"], status);
        for member in ["title", "detail", "help"] {
            assert!(problem[member].as_str().is_some_and(|text| !text.is_empty()), "{member}: {problem}");
        }
        problem
    }

    /// The same in OpenAI's envelope.
    pub(crate) fn is_error(&self, status: u16, code: &str) -> Value {
        assert_eq!(self.status, status, "{self:?}");
        assert_eq!(self.header("content-type"), "application/json");
        let error = self.json()["error"].clone();
        assert_eq!(error["code"], code, "{error}");
        for member in ["message", "type", "help"] {
            assert!(error[member].as_str().is_some_and(|text| !text.is_empty()), "{member}: {error}");
        }
        assert!(error.as_object().unwrap().contains_key("param"), "{error}");
        error
    }
}

/// A gateway that serves.
pub(crate) struct Served {
    pub(crate) address: SocketAddr,
    /// Where streams of other nodes go.
    pub(crate) streams: Arc<dyn StreamService>,
    stop: Option<oneshot::Sender<()>>,
    pub(crate) task: tokio::task::JoinHandle<()>,
}

impl Served {
    pub(crate) fn stop(&mut self) {
        let _ = self.stop.take().unwrap().send(());
    }

    /// Sends a request on a connection of its own. Dropping the answer's body closes the connection.
    pub(crate) async fn send(&self, request: Request<Full<Bytes>>) -> http::Response<hyper::body::Incoming> {
        let stream = tokio::net::TcpStream::connect(self.address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        let response = within(sender.send_request(request)).await.unwrap();
        // The connection lives as long as the body, because the sender is dropped here.
        response
    }

    pub(crate) async fn get(&self, path: &str) -> http::Response<hyper::body::Incoming> {
        self.send(get(path).body(Full::default()).unwrap()).await
    }
}

/// Reads server-sent events one by one.
pub(crate) struct Events<B> {
    body: B,
    text: String,
    pub(crate) frames: usize,
}

/// One event: name, id, data; a comment has the name `:`.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Sse {
    pub(crate) name: String,
    pub(crate) id: String,
    pub(crate) data: String,
}

impl Sse {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.data).unwrap()
    }
}

impl<B> Events<B>
where
    B: http_body::Body<Data = Bytes> + Unpin,
    B::Error: std::fmt::Debug,
{
    pub(crate) fn new(body: B) -> Self {
        Self { body, text: String::new(), frames: 0 }
    }

    /// The next event, `None` at the stream's end.
    pub(crate) async fn next(&mut self) -> Option<Sse> {
        within(async {
            loop {
                if let Some((event, rest)) = self.text.split_once("\n\n") {
                    let event = parse(event);
                    self.text = rest.to_owned();
                    return Some(event);
                }
                let frame = self.body.frame().await?.unwrap();
                self.frames += 1;
                self.text.push_str(std::str::from_utf8(frame.data_ref().unwrap()).unwrap());
            }
        })
        .await
    }
}

fn parse(text: &str) -> Sse {
    let mut event = Sse::default();
    for line in text.lines() {
        match line.split_once(':') {
            Some(("", _)) => ":".clone_into(&mut event.name),
            Some(("event", name)) => name.trim().clone_into(&mut event.name),
            Some(("id", id)) => id.trim().clone_into(&mut event.id),
            Some(("data", data)) => data.trim_start().clone_into(&mut event.data),
            _ => panic!("not an event: {text}"),
        }
    }
    event
}

/// What an engine does with a request.
pub(crate) enum Does {
    Answers(u16, &'static str, Bytes),
    /// Sends what comes; the stream ends in order when the sender is dropped, and breaks at an error.
    Streams(mpsc::Receiver<std::io::Result<Bytes>>),
    /// The same, after a while.
    StreamsLate(Duration, mpsc::Receiver<std::io::Result<Bytes>>),
    /// Never answers.
    Hangs,
    /// Closes the connection without an answer.
    Dies,
}

/// A request as an engine got it.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) path: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

/// An HTTP server on a Unix socket that does what a test says.
pub(crate) struct FakeEngine {
    folder: tempfile::TempDir,
    pub(crate) seen: Arc<Mutex<Vec<Seen>>>,
    script: Arc<Mutex<VecDeque<Does>>>,
    /// Counts connections that were open and are closed.
    pub(crate) closed: watch::Receiver<usize>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for FakeEngine {
    fn drop(&mut self) {
        self.task.abort();
    }
}

type EngineBody = http_body_util::combinators::BoxBody<Bytes, std::io::Error>;

impl FakeEngine {
    pub(crate) fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let listener = tokio::net::UnixListener::bind(folder.path().join("s")).unwrap();
        let (seen, script) = (Arc::<Mutex<Vec<Seen>>>::default(), Arc::<Mutex<VecDeque<Does>>>::default());
        let (closing, closed) = watch::channel(0);
        let task = tokio::spawn(accept(listener, Arc::clone(&seen), Arc::clone(&script), closing));
        Self { folder, seen, script, closed, task }
    }

    pub(crate) fn endpoint(&self) -> Endpoint {
        Endpoint::Unix(self.folder.path().join("s"))
    }

    /// What it does next, after what was said before.
    pub(crate) fn then(&self, does: Does) {
        self.script.lock().unwrap().push_back(does);
    }

    pub(crate) fn then_answers(&self, body: &Value) {
        self.then(Does::Answers(200, "application/json", body.to_string().into()));
    }

    /// A stream that the test feeds.
    pub(crate) fn then_streams(&self) -> mpsc::Sender<std::io::Result<Bytes>> {
        let (sender, receiver) = mpsc::channel(64);
        self.then(Does::Streams(receiver));
        sender
    }

    pub(crate) fn requests(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }
}

async fn accept(
    listener: tokio::net::UnixListener,
    seen: Arc<Mutex<Vec<Seen>>>,
    script: Arc<Mutex<VecDeque<Does>>>,
    closing: watch::Sender<usize>,
) {
    // In a set, so that they end with the engine.
    let mut connections = tokio::task::JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let (seen, script, closing) = (Arc::clone(&seen), Arc::clone(&script), closing.clone());
        connections.spawn(async move {
            let service = hyper::service::service_fn(move |request: Request<hyper::body::Incoming>| {
                let (seen, script) = (Arc::clone(&seen), Arc::clone(&script));
                async move { answer(request, &seen, &script).await }
            });
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await;
            closing.send_modify(|count| *count += 1);
        });
    }
}

async fn answer(
    request: Request<hyper::body::Incoming>,
    seen: &Mutex<Vec<Seen>>,
    script: &Mutex<VecDeque<Does>>,
) -> std::io::Result<http::Response<EngineBody>> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.map_err(std::io::Error::other)?.to_bytes();
    seen.lock().unwrap().push(Seen { path: head.uri.path().to_owned(), headers: head.headers, body });
    let mut does = script.lock().unwrap().pop_front();
    if let Some(Does::StreamsLate(wait, receiver)) = does {
        tokio::time::sleep(wait).await;
        does = Some(Does::Streams(receiver));
    }
    match does {
        Some(Does::Answers(status, kind, body)) => {
            let body: EngineBody = Full::new(body).map_err(|never: Infallible| match never {}).boxed();
            let response = http::Response::builder().status(status).header("content-type", kind);
            Ok(response
                .header("access-control-allow-origin", "*")
                .header("server", "engine")
                .body(body)
                .unwrap())
        }
        Some(Does::Streams(receiver)) => {
            let stream = futures_util::stream::unfold(receiver, async |mut receiver| {
                Some((receiver.recv().await?, receiver))
            });
            let frames: Pin<Box<dyn futures_util::Stream<Item = _> + Send + Sync>> =
                Box::pin(stream.map(|item: std::io::Result<Bytes>| item.map(http_body::Frame::data)));
            let body: EngineBody = BodyExt::boxed(StreamBody::new(frames));
            Ok(http::Response::builder().header("content-type", "text/event-stream").body(body).unwrap())
        }
        Some(Does::Hangs | Does::StreamsLate(..)) => std::future::pending().await,
        Some(Does::Dies) | None => Err(std::io::Error::other("as the test wants it")),
    }
}
