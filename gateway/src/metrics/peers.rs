//! What is counted of requests between nodes.
//!
//! Owns their series, by node. These stay for as long as the process lives: there are as many as there were members.

use std::sync::Arc;
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

/// Requests that other nodes answer for this one, and streams that they open to it.
#[derive(Clone, Debug)]
pub(crate) struct PeerMetrics {
    duration: Arc<Histograms<OutcomeLabels>>,
    first_token: Arc<Histograms<RouteLabels>>,
    tokens: Family<TokenLabels, Counter>,
    streams: Family<NodeLabels, Counter>,
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

    /// The client gets the first content.
    pub(crate) fn first_content(&self, route: &'static str, node: NodeId, took: Duration) {
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
        let node = node.short();
        for (kind, count) in [
            ("prompt", usage.prompt_tokens),
            ("completion", usage.completion_tokens),
            ("cached", usage.cached_tokens),
        ] {
            self.tokens.get_or_create(&TokenLabels { node: node.clone(), r#type: kind }).inc_by(count);
        }
        self.duration.observe(OutcomeLabels { route, node, outcome: outcome.word() }, took);
    }

    /// Another node opened a stream.
    pub(crate) fn served(&self, node: NodeId) {
        self.streams.get_or_create(&NodeLabels { node: node.short() }).inc();
    }
}
