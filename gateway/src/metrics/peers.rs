//! What is counted of requests between nodes.
//!
//! Owns their series, by node. They go with the node: when it is no longer shown in `/state/cluster`.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arw_actors::ids::NodeId;
use arw_actors::runtime::lease::Usage;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

use super::histograms::{Described, Histograms};
use super::{Outcome, SECONDS};

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct NodeLabels {
    node: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct TokenLabels {
    node: String,
    r#type: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RouteLabels {
    route: &'static str,
    node: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabels {
    route: &'static str,
    node: String,
    outcome: &'static str,
}

const TOKEN_KINDS: [&str; 3] = ["prompt", "completion", "cached"];

/// Requests that other nodes answer for this one, and streams that they open to it.
#[derive(Clone, Debug)]
pub(crate) struct PeerMetrics {
    duration: Arc<Histograms<OutcomeLabels>>,
    first_token: Arc<Histograms<RouteLabels>>,
    tokens: Family<TokenLabels, Counter>,
    streams: Family<NodeLabels, Counter>,
    /// Those with series. (`Family` does not tell its labels.)
    nodes: Arc<Mutex<BTreeSet<NodeId>>>,
}

impl PeerMetrics {
    pub(super) fn registered(registry: &mut Registry) -> Self {
        let described = |name, help| Described { name, help, buckets: &SECONDS };
        let this = Self {
            duration: Histograms::registered(
                registry,
                described(
                    "arw_peer_inference_duration_seconds",
                    "Time from the arrival of a request that another node answered to the end of its answer",
                ),
            ),
            first_token: Histograms::registered(
                registry,
                described(
                    "arw_peer_inference_first_token_seconds",
                    "Time from the arrival of a request that another node answered to its first content",
                ),
            ),
            tokens: Family::default(),
            streams: Family::default(),
            nodes: Arc::default(),
        };
        registry.register(
            "arw_peer_tokens",
            "Tokens of requests that another node answered",
            this.tokens.clone(),
        );
        registry.register(
            "arw_peer_streams",
            "Streams that another node opened to this one",
            this.streams.clone(),
        );
        this
    }

    /// Gives up the series of nodes that are not to be kept. One that comes back begins anew, as after a
    /// restart.
    pub(super) fn keep(&self, exists: impl Fn(NodeId) -> bool) {
        let mut nodes = self.nodes();
        let gone: BTreeSet<NodeId> = nodes.iter().copied().filter(|node| !exists(*node)).collect();
        nodes.retain(|node| !gone.contains(node));
        // Before the series go: whoever counts now waits, and is noted again.
        for node in gone.iter().map(|node| node.short()) {
            for kind in TOKEN_KINDS {
                self.tokens.remove(&TokenLabels { node: node.clone(), r#type: kind });
            }
            self.duration.retain(|labels| labels.node != node);
            self.first_token.retain(|labels| labels.node != node);
            self.streams.remove(&NodeLabels { node });
        }
    }

    fn nodes(&self) -> MutexGuard<'_, BTreeSet<NodeId>> {
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The client gets the first content.
    pub(crate) fn first_content(&self, route: &'static str, node: NodeId, took: Duration) {
        self.nodes().insert(node);
        self.first_token.observe(RouteLabels { route, node: node.short() }, took);
    }

    /// A request that another node answered is over.
    pub(crate) fn settled(
        &self,
        route: &'static str,
        node: NodeId,
        outcome: Outcome,
        took: Duration,
        usage: &Usage,
    ) {
        self.nodes().insert(node);
        let node = node.short();
        let counts = [usage.prompt_tokens, usage.completion_tokens, usage.cached_tokens];
        for (kind, count) in TOKEN_KINDS.into_iter().zip(counts) {
            self.tokens.get_or_create(&TokenLabels { node: node.clone(), r#type: kind }).inc_by(count);
        }
        self.duration.observe(OutcomeLabels { route, node, outcome: outcome.word() }, took);
    }

    /// Another node opened a stream.
    pub(crate) fn served(&self, node: NodeId) {
        self.nodes().insert(node);
        self.streams.get_or_create(&NodeLabels { node: node.short() }).inc();
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::prometheus_text;

    use super::*;

    #[test]
    fn a_node_that_is_gone_takes_its_series_along() {
        let mut registry = Registry::default();
        let peers = PeerMetrics::registered(&mut registry);
        let (gone, kept) = (NodeId::from_bytes([1; 32]), NodeId::from_bytes([2; 32]));
        for node in [gone, kept] {
            peers.served(node);
            peers.first_content("/v1/completions", node, Duration::from_millis(1));
            let usage = Usage::default();
            peers.settled("/v1/completions", node, Outcome::Ok, Duration::from_millis(2), &usage);
        }
        peers.keep(|node| node == kept);
        let mut text = String::new();
        prometheus_text::encode(&mut text, &registry).unwrap();
        assert!(!text.contains(&gone.short()), "{text}");
        for name in ["duration_seconds", "first_token_seconds", "arw_peer_tokens", "arw_peer_streams"] {
            assert!(
                text.lines().any(|line| line.contains(name) && line.contains(&kept.short())),
                "{name}: {text}"
            );
        }
    }
}
