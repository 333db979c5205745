//! What is counted, and its text for Prometheus.
//!
//! Owns the names (`arw_*`, base units) and the histograms. What the node knows already is read when it is
//! asked for (`collect.rs`), not copied beside it. Refuses to know routes and handlers.

mod collect;
mod histograms;
mod peers;

use std::sync::Arc;
use std::time::Duration;

use arw_actors::node::Node;
use http::StatusCode;
use prometheus_client::encoding::{EncodeLabelSet, prometheus_text};
use prometheus_client::registry::Registry;
use tokio::sync::Semaphore;

use collect::NodeCollector;
use histograms::{Described, Histograms};
use peers::PeerMetrics;

pub(crate) use prometheus_text::CONTENT_TYPE;

/// From a tenth of a millisecond (an answer from memory) to ten minutes (a long answer of a large model).
const SECONDS: [f64; 22] = [
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
    30.0, 60.0, 120.0, 300.0, 600.0, 1800.0,
];

/// Everything that one gateway counts.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    node: Node,
    pub(crate) requests: RequestMetrics,
    pub(crate) inference: InferenceMetrics,
    pub(crate) peers: PeerMetrics,
}

impl Metrics {
    /// `event_streams` holds a permit for each stream that may still be opened, of `event_streams_max`.
    pub(crate) fn new(node: &Node, event_streams: &Arc<Semaphore>, event_streams_max: usize) -> Self {
        let mut registry = Registry::default();
        let requests = RequestMetrics::registered(&mut registry);
        let inference = InferenceMetrics::registered(&mut registry);
        let peers = PeerMetrics::registered(&mut registry);
        let collector = NodeCollector::new(node.clone(), Arc::clone(event_streams), event_streams_max);
        registry.register_collector(Box::new(collector));
        Self { registry, node: node.clone(), requests, inference, peers }
    }

    /// All of it as text.
    pub(crate) fn render(&self) -> Result<String, std::fmt::Error> {
        // A runtime that was removed takes its series along; one that is added again under its name begins
        // anew.
        self.inference.keep(|runtime| self.node.runtimes.row(runtime).is_ok());
        let picture = self.node.cluster.picture();
        self.peers.keep(|node| picture.nodes.iter().any(|row| row.node == node));
        let mut text = String::new();
        prometheus_text::encode(&mut text, &self.registry)?;
        Ok(text)
    }
}

/// Labels of a request.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    route: &'static str,
    /// `2xx`, `4xx`, …
    status: &'static str,
}

/// Requests of any kind.
#[derive(Clone, Debug)]
pub(crate) struct RequestMetrics {
    duration: Arc<Histograms<RequestLabels>>,
}

impl RequestMetrics {
    fn registered(registry: &mut Registry) -> Self {
        let about = Described {
            name: "arw_http_request_duration_seconds",
            help: "Time from a request's head to the head of its answer",
            buckets: &SECONDS,
        };
        Self { duration: Histograms::registered(registry, about) }
    }

    /// An answer's head is ready.
    pub(crate) fn observe(&self, route: &'static str, status: StatusCode, took: Duration) {
        let status = match status.as_u16() {
            100..=199 => "1xx",
            200..=299 => "2xx",
            300..=399 => "3xx",
            400..=499 => "4xx",
            _ => "5xx",
        };
        self.duration.observe(RequestLabels { route, status }, took);
    }
}

/// How a request to an engine ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The client has the whole answer.
    Ok,
    /// The engine said no.
    Refused,
    /// The engine went away.
    EngineLost,
    /// The other node that was asked went away.
    NodeLost,
    /// The client went away.
    ClientGone,
}

impl Outcome {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Refused => "refused",
            Self::EngineLost => "engine_lost",
            Self::NodeLost => "node_lost",
            Self::ClientGone => "client_gone",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabels {
    route: &'static str,
    runtime: String,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RouteLabels {
    route: &'static str,
    runtime: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RuntimeLabels {
    runtime: String,
}

/// Requests to engines.
#[derive(Clone, Debug)]
pub(crate) struct InferenceMetrics {
    duration: Arc<Histograms<OutcomeLabels>>,
    first_token: Arc<Histograms<RouteLabels>>,
    waited: Arc<Histograms<RuntimeLabels>>,
}

impl InferenceMetrics {
    fn registered(registry: &mut Registry) -> Self {
        let described = |name, help| Described { name, help, buckets: &SECONDS };
        Self {
            duration: Histograms::registered(
                registry,
                described(
                    "arw_inference_duration_seconds",
                    "Time from a request's arrival to the end of its answer",
                ),
            ),
            first_token: Histograms::registered(
                registry,
                described(
                    "arw_inference_first_token_seconds",
                    "Time from a request's arrival to the first content of its answer",
                ),
            ),
            waited: Histograms::registered(
                registry,
                described("arw_inference_queue_wait_seconds", "Time that a request waited for its engine"),
            ),
        }
    }

    /// A request has got its engine.
    pub(crate) fn acquired(&self, runtime: &str, waited: Duration) {
        self.waited.observe(RuntimeLabels { runtime: runtime.to_owned() }, waited);
    }

    /// The client gets the first content.
    pub(crate) fn first_content(&self, route: &'static str, runtime: &str, took: Duration) {
        self.first_token.observe(RouteLabels { route, runtime: runtime.to_owned() }, took);
    }

    /// A request is over.
    pub(crate) fn settled(&self, route: &'static str, runtime: &str, outcome: Outcome, took: Duration) {
        self.duration
            .observe(OutcomeLabels { route, runtime: runtime.to_owned(), outcome: outcome.word() }, took);
    }

    fn keep(&self, exists: impl Fn(&str) -> bool) {
        self.duration.retain(|labels| exists(&labels.runtime));
        self.first_token.retain(|labels| exists(&labels.runtime));
        self.waited.retain(|labels| exists(&labels.runtime));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_removed_runtime_takes_its_series_along() {
        let mut registry = Registry::default();
        let inference = InferenceMetrics::registered(&mut registry);
        for runtime in ["gone", "kept"] {
            inference.acquired(runtime, Duration::ZERO);
            inference.first_content("/v1/completions", runtime, Duration::from_millis(1));
            inference.settled("/v1/completions", runtime, Outcome::Ok, Duration::from_millis(2));
        }
        inference.keep(|runtime| runtime == "kept");
        let mut text = String::new();
        prometheus_text::encode(&mut text, &registry).unwrap();
        assert!(!text.contains("gone"), "{text}");
        let counts = text.lines().filter(|line| {
            line.contains("_count{") && line.contains("runtime=\"kept\"") && line.ends_with(" 1")
        });
        assert_eq!(counts.count(), 3, "{text}");
    }
}
