//! Completions at a fixed rate, through the gateway and to the engine directly.
//!
//! Owns the load generator. It is open-loop: a request is due whether or not the one before has been
//! answered, and its time counts from when it was due, so that a stall is seen by every request that it
//! delays.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arw_tests::node::NodeProcess;
use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use serde_json::json;
use tokio::net::TcpStream;
use tokio::sync::{Mutex, mpsc};

use crate::kit::{Better, Figures, Options, now, percentile};
use crate::peers::Engine;
use crate::{ADDED, ARW, DIRECT, FAKE};

const CHATS_PER_S: u32 = 1_000;
const STREAMS_PER_S: u32 = 200;
/// Of each side, in each round.
const LASTING_MS: usize = 5_000;
const TOKENS: &str = "8";

/// Where requests go.
pub(crate) struct Place {
    pub(crate) address: String,
    pub(crate) authorization: String,
}

pub(crate) async fn measure(
    node: &NodeProcess,
    options: &Options,
    figures: &mut Figures,
    notes: &mut Vec<String>,
) {
    let engine = Engine::start(FAKE, TOKENS);
    // Two runtimes never differ in this: the node's own engine is the same program.
    node.add_fake("one", FAKE, &["--tokens", TOKENS], json!({"auto_start": true})).await.unwrap();
    node.until("one", |row| row["state"] == "ready").await.unwrap();
    let direct = Place { address: engine.address.clone(), authorization: "Bearer bench".into() };
    let ours = Place { address: node.address.clone(), authorization: format!("Bearer {}", node.token) };
    let lasting = Duration::from_millis(options.scaled(LASTING_MS) as u64);
    for (test, stream, per_s) in [("chat", false, CHATS_PER_S), ("first_token", true, STREAMS_PER_S)] {
        if !options.wants(test) {
            continue;
        }
        // Connections, caches and the branch predictor.
        load(&direct, stream, per_s, lasting / 10).await;
        load(&ours, stream, per_s, lasting / 10).await;
        let directly = load(&direct, stream, per_s, lasting).await;
        let through = load(&ours, stream, per_s, lasting).await;
        let late = directly.late_p99.max(through.late_p99);
        if late > LATE_AT_MOST {
            notes.push(format!(
                "{test}: the load generator itself was late by {late:?} (p99): the machine was busy"
            ));
        }
        for (suffix, at) in [("p50", 0), ("p99", 1)] {
            let name = format!("{test}_{suffix}");
            let (a, b) = (directly.times[at], through.times[at]);
            figures.add(&name, "ms", Better::Lower, DIRECT, a);
            figures.add(&name, "ms", Better::Lower, ARW, b);
            figures.add(&name, "ms", Better::Lower, ADDED, b - a);
        }
    }
}

/// Beyond this the tails say more about the machine than about the gateway.
pub(crate) const LATE_AT_MOST: Duration = Duration::from_millis(1);

pub(crate) struct Loaded {
    /// p50 and p99 in milliseconds.
    pub(crate) times: [f64; 2],
    pub(crate) late_p99: Duration,
}

pub(crate) async fn load(place: &Place, stream: bool, per_s: u32, lasting: Duration) -> Loaded {
    let body = json!({"model": "one", "stream": stream, "messages": [{"role": "user", "content": "hello"}]});
    let body = Bytes::from(body.to_string());
    let pool = Arc::new(Mutex::new(VecDeque::new()));
    let mut due = pace(per_s, lasting);
    let mut tasks = Vec::new();
    let mut late = Vec::new();
    while let Some(due) = due.recv().await {
        late.push(due.elapsed());
        let request = Request::post("/v1/chat/completions")
            .header("host", &place.address)
            .header("authorization", &place.authorization)
            .header("content-type", "application/json")
            .body(Full::new(body.clone()))
            .unwrap();
        let (pool, address) = (Arc::clone(&pool), place.address.clone());
        tasks.push(tokio::spawn(async move {
            let mut sender = match take(&pool).await {
                Some(sender) => sender,
                None => connect(&address).await,
            };
            let took = exchange(&mut sender, request, due).await;
            pool.lock().await.push_back(sender);
            took
        }));
    }
    let mut times = Vec::with_capacity(tasks.len());
    for task in tasks {
        times.push(task.await.unwrap());
    }
    let time = |times: &mut Vec<Duration>, part| percentile(times, part).unwrap().as_secs_f64() * 1e3;
    Loaded {
        times: [time(&mut times, 0.5), time(&mut times, 0.99)],
        late_p99: percentile(&mut late, 0.99).unwrap_or_default(),
    }
}

/// Says when each request is due. A thread of its own: the runtime's timer is too coarse by up to a
/// millisecond.
fn pace(per_s: u32, lasting: Duration) -> mpsc::Receiver<Instant> {
    let count = (f64::from(per_s) * lasting.as_secs_f64()).round();
    // As long as the whole run: a pacer that waits would hide that the load falls behind.
    let (sender, receiver) = mpsc::channel(1_000_000);
    std::thread::spawn(move || {
        let interval = Duration::from_secs(1) / per_s;
        let mut due = now() + interval;
        let mut sent = 0.0;
        while sent < count {
            std::thread::sleep(due.saturating_duration_since(now()));
            // A full queue or a gone receiver ends a run that cannot succeed any more.
            if sender.try_send(due).is_err() {
                return;
            }
            due += interval;
            sent += 1.0;
        }
    });
    receiver
}

type Sender = SendRequest<Full<Bytes>>;

/// An idle connection that is still open.
async fn take(pool: &Mutex<VecDeque<Sender>>) -> Option<Sender> {
    let mut pool = pool.lock().await;
    while let Some(mut sender) = pool.pop_back() {
        if sender.ready().await.is_ok() {
            return Some(sender);
        }
    }
    None
}

async fn connect(address: &str) -> Sender {
    let stream = TcpStream::connect(address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let (sender, connection) = handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    sender
}

/// From `due` to the end of the answer; of a stream, to its first event.
async fn exchange(sender: &mut Sender, request: Request<Full<Bytes>>, due: Instant) -> Duration {
    let answer = sender.send_request(request).await.unwrap();
    assert_eq!(answer.status(), 200);
    let is_stream = answer.headers().get("content-type").is_some_and(|kind| kind == "text/event-stream");
    let mut body = answer.into_body();
    let mut first = None;
    while let Some(frame) = body.frame().await {
        frame.unwrap();
        first.get_or_insert_with(|| due.elapsed());
    }
    if is_stream { first.unwrap_or_default() } else { due.elapsed() }
}
