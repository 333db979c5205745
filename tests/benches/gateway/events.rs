//! Many listeners to one stream of events, beside a loop that writes as many bytes to as many.
//!
//! Every listener must get every event. The spread of an event is the time from its first delivery to each
//! other one: when the event was made does not matter, so that both sides compare.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use arw_tests::node::NodeProcess;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::kit::{Better, Figures, Options, machine, now, percentile};
use crate::peers::{EVENT_EVERY, Engine};
use crate::state::cpu_time;
use crate::{ARW, RAW};

const LISTENERS: usize = 5_000;
const EVENTS: usize = 50;
/// After the last event was made: a delivery that takes longer counts as lost.
const PATIENCE: Duration = Duration::from_secs(10);

pub(crate) async fn measure(
    node: &NodeProcess,
    options: &Options,
    figures: &mut Figures,
    notes: &mut Vec<String>,
) {
    let listeners = options.scaled(LISTENERS);
    let events = options.scaled(EVENTS).max(5);
    let raw = Engine::role("--raw-events", &listeners.to_string());
    let heard = hear(&raw.address, "/", raw.pid(), (listeners, events), None).await;
    drop(raw);
    add(figures, RAW, &heard, (listeners, events), notes);
    let path = "/events/stream?kind=token_created";
    let heard = hear(&node.address, path, node.pid(), (listeners, events), Some(node)).await;
    add(figures, ARW, &heard, (listeners, events), notes);
}

/// What a crowd of listeners has seen.
struct Heard {
    /// Of the server, while the events came.
    cpu: Duration,
    took: Duration,
    /// By which the server has grown.
    bytes: u64,
    /// By event, when each listener got it.
    deliveries: Vec<Vec<Instant>>,
}

type Deliveries = Arc<Mutex<Vec<Vec<Instant>>>>;

async fn hear(
    address: &str,
    path: &str,
    pid: u32,
    (listeners, events): (usize, usize),
    node: Option<&NodeProcess>,
) -> Heard {
    let bytes_before = machine::resident_bytes(Some(pid)).unwrap();
    let deliveries = Deliveries::default();
    let mut tasks = JoinSet::new();
    for _ in 0..listeners {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nhost: {address}\r\naccept: text/event-stream\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        tasks.spawn(listen(stream, Arc::clone(&deliveries)));
    }
    // Every head has come, or the first events would find some of them missing.
    tokio::time::sleep(if node.is_some() { HEADS } else { Duration::ZERO }).await;
    let (cpu_before, began) = (cpu_time(pid), now());
    let mut ticks = tokio::time::interval(EVENT_EVERY);
    for number in 0..events {
        ticks.tick().await;
        // The loop makes its events by itself.
        if let Some(node) = node {
            let body = json!({"name": format!("bench-{number:04}"), "scopes": ["infer"]});
            let answer = node.post("/tokens", body).await.unwrap();
            assert_eq!(answer.status, 201, "{answer:?}");
        }
    }
    let is_complete =
        || deliveries.lock().unwrap().get(events - 1).is_some_and(|seen| seen.len() == listeners);
    let until = now() + PATIENCE;
    while !is_complete() && now() < until {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let (cpu, took) = (cpu_time(pid).saturating_sub(cpu_before), began.elapsed());
    let bytes = machine::resident_bytes(Some(pid)).unwrap().saturating_sub(bytes_before);
    tasks.shutdown().await;
    let mut deliveries = std::mem::take(&mut *deliveries.lock().unwrap());
    // What the loop went on with.
    deliveries.truncate(events);
    Heard { cpu, took, bytes, deliveries }
}

/// Answers to thousands of requests that have been sent already.
const HEADS: Duration = Duration::from_secs(2);

/// Notes when each event comes.
async fn listen(mut stream: TcpStream, deliveries: Deliveries) {
    const MARK: &[u8] = b"\ndata:";
    let mut buffer = [0; 2048];
    // Of the last read, what may be the beginning of a mark.
    let mut kept = 0;
    let mut count = 0;
    while let Ok(read @ 1..) = stream.read(&mut buffer[kept..]).await {
        let at = now();
        let filled = kept + read;
        let new = buffer[..filled].windows(MARK.len()).filter(|bytes| *bytes == MARK).count();
        let mut deliveries = deliveries.lock().unwrap();
        for _ in 0..new {
            if deliveries.len() <= count {
                deliveries.push(Vec::new());
            }
            deliveries[count].push(at);
            count += 1;
        }
        drop(deliveries);
        kept = filled.min(MARK.len() - 1);
        buffer.copy_within(filled - kept..filled, 0);
    }
}

fn add(
    figures: &mut Figures,
    contender: &str,
    heard: &Heard,
    (listeners, events): (usize, usize),
    notes: &mut Vec<String>,
) {
    let mut spreads = Vec::new();
    for times in &heard.deliveries {
        let first = times.iter().min().copied();
        spreads.extend(times.iter().filter_map(|time| Some(time.saturating_duration_since(first?))));
    }
    let (delivered, wanted) = (spreads.len(), events * listeners);
    if delivered < wanted {
        notes.push(format!(
            "{contender}: {delivered} of {wanted} deliveries to {listeners} listeners arrived"
        ));
    }
    let cores = heard.cpu.as_secs_f64() / heard.took.as_secs_f64();
    figures.add("listeners_cpu", "cores; 5,000 listeners, 10 events/s", Better::Lower, contender, cores);
    let micros = heard.cpu.as_secs_f64() * 1e6 / delivered as f64;
    figures.add("listeners_cpu_per_delivery", "µs of CPU", Better::Lower, contender, micros);
    for (suffix, part) in [("p50", 0.5), ("p99", 0.99)] {
        let spread = percentile(&mut spreads, part).map_or(f64::NAN, |time| time.as_secs_f64() * 1e3);
        figures.add(&format!("listeners_spread_{suffix}"), "ms", Better::Lower, contender, spread);
    }
    let kib = heard.bytes as f64 / 1024.0 / listeners as f64;
    figures.add("listeners_memory", "KiB per listener", Better::Lower, contender, kib);
    let percent = delivered as f64 * 100.0 / wanted as f64;
    figures.add("listeners_delivered", "%", Better::Higher, contender, percent);
}
