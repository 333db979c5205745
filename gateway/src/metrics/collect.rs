//! What the node knows, read when Prometheus asks.
//!
//! Owns the translation of actors, runtimes, journal and process into metrics. Refuses to keep any of it,
//! except the sums that must not go backwards when an actor leaves.

use std::collections::BTreeMap;
use std::fmt::Error;
use std::sync::{Arc, Mutex, PoisonError};

use arw_actors::hardware::own_resident_bytes;
use arw_actors::node::Node;
use arw_actors::node_info::NodeStatus;
use arw_actors::runtime::machine::RuntimeState;
use arw_actors::runtime::row::RuntimeRow;
use arw_kit::tree::ActorRow;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::{MetricType, TypedMetric};
use tokio::sync::Semaphore;

#[derive(Debug)]
pub(super) struct NodeCollector {
    node: Node,
    event_streams: Arc<Semaphore>,
    event_streams_max: usize,
    sums: Mutex<BTreeMap<&'static str, Sums>>,
}

/// Sums over the actors of a kind that only grow: an actor that leaves takes nothing along.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Sums {
    handled: Ratchet,
    busy_nanos: Ratchet,
}

/// Follows a sum upwards.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Ratchet {
    shown: u64,
    last: u64,
}

impl Ratchet {
    fn follow(&mut self, sum: u64) -> u64 {
        // Lower than before: an actor has left. What the others did meanwhile goes uncounted rather than
        // something twice.
        self.shown += sum.saturating_sub(self.last);
        self.last = sum;
        self.shown
    }
}

/// The actors of one kind.
#[derive(Debug, Default)]
struct KindRow {
    states: BTreeMap<&'static str, u64>,
    depth: u64,
    handled: u64,
    busy_nanos: u64,
}

impl NodeCollector {
    pub(super) fn new(node: Node, event_streams: Arc<Semaphore>, event_streams_max: usize) -> Self {
        Self { node, event_streams, event_streams_max, sums: Mutex::default() }
    }

    fn about_node(&self, out: &mut Writer<'_>) -> Result<(), Error> {
        let info = &self.node.info;
        let id = info.id.to_string();
        let labels = [("id", id.as_str()), ("name", info.name.as_str()), ("version", info.version)];
        out.gauges("arw_node_info", "What this node is", [(labels, 1)])?;
        let started = info.started_at.as_millis();
        #[expect(
            clippy::cast_precision_loss,
            reason = "milliseconds since 1970 are exact in a float for 285,000 years"
        )]
        out.float_gauge(
            "arw_node_start_time_seconds",
            "When this node was started, in seconds since 1970",
            started as f64 / 1000.0,
        )?;
        let status = self.node.status.borrow().word();
        let all =
            [NodeStatus::Starting, NodeStatus::Ready, NodeStatus::Degraded(Vec::new()), NodeStatus::Stopping];
        let states = all.map(|other| ([("status", other.word())], u64::from(other.word() == status)));
        out.gauges("arw_node_status", "1 for the status that the node has", states)?;
        if let Some(bytes) = own_resident_bytes() {
            out.gauges(
                "arw_process_resident_memory_bytes",
                "Memory of the node's own process",
                [(NO_LABELS, bytes)],
            )?;
        }
        let models = u64::try_from(self.node.models.list().len()).unwrap_or(u64::MAX);
        out.gauges("arw_models", "Models in the store", [(NO_LABELS, models)])?;
        let open = self.event_streams_max.saturating_sub(self.event_streams.available_permits());
        let number = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
        out.gauges("arw_event_streams", "Event streams that are open", [(NO_LABELS, number(open))])?;
        out.gauges(
            "arw_event_streams_limit",
            "Event streams that may be open",
            [(NO_LABELS, number(self.event_streams_max))],
        )
    }

    fn about_journal(&self, out: &mut Writer<'_>) -> Result<(), Error> {
        let journal = self.node.journal.status();
        out.gauges(
            "arw_journal_last_sequence",
            "Number of the newest event",
            [(NO_LABELS, journal.last_seq)],
        )?;
        out.gauges(
            "arw_journal_degraded",
            "1 while events cannot be written",
            [(NO_LABELS, u64::from(journal.degraded.is_some()))],
        )?;
        out.counters("arw_journal_lost_events", "Events that were never written", [(NO_LABELS, journal.lost)])
    }

    fn about_actors(&self, out: &mut Writer<'_>) -> Result<(), Error> {
        let mut kinds = BTreeMap::new();
        gather(&self.node.system.tree().rows(), &mut kinds);
        let states = kinds.iter().flat_map(|(&kind, row)| {
            row.states.iter().map(move |(&state, &count)| ([("kind", kind), ("state", state)], count))
        });
        out.gauges("arw_actors", "Actors by kind and state", states)?;
        let depths = kinds.iter().map(|(&kind, row)| ([("kind", kind)], row.depth));
        out.gauges("arw_actor_mailbox_depth", "Messages that wait in the mailboxes of a kind", depths)?;
        let mut sums = self.sums.lock().unwrap_or_else(PoisonError::into_inner);
        for (kind, row) in &kinds {
            let sums = sums.entry(kind).or_default();
            sums.handled.follow(row.handled);
            sums.busy_nanos.follow(row.busy_nanos);
        }
        let handled = sums.iter().map(|(&kind, sums)| ([("kind", kind)], sums.handled.shown));
        out.counters("arw_actor_messages_handled", "Messages handled", handled)?;
        #[expect(
            clippy::cast_precision_loss,
            reason = "a float holds nanoseconds exactly for 104 days, and to the microsecond for long after"
        )]
        let busy = sums.iter().map(|(&kind, sums)| ([("kind", kind)], sums.busy_nanos.shown as f64 / 1e9));
        out.float_counters("arw_actor_busy_seconds", "Time spent in handlers", busy)?;
        let letters = self.node.system.dead_letters().counts();
        let letters =
            [("stopped", letters.stopped), ("overloaded", letters.overloaded), ("expired", letters.expired)];
        let letters = letters.map(|(reason, count)| ([("reason", reason)], count));
        out.counters("arw_dead_letters", "Messages that nobody handled", letters)
    }

    fn about_runtimes(&self, out: &mut Writer<'_>) -> Result<(), Error> {
        let rows = self.node.runtimes.rows();
        let states = rows.iter().flat_map(|row| {
            STATES.map(|state| {
                ([("runtime", row.id.as_str()), ("state", state.word())], u64::from(row.state == state))
            })
        });
        out.gauges("arw_runtime_state", "1 for the state that the runtime is in", states)?;
        let mut gauge = |name, help, value: &dyn Fn(&RuntimeRow) -> Option<u64>| {
            let values = rows.iter().filter_map(|row| Some(([("runtime", row.id.as_str())], value(row)?)));
            out.gauges(name, help, values)
        };
        let number = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
        gauge("arw_runtime_restarts_used", "Restarts within the budget's window", &|row| {
            Some(row.restart_budget.used.into())
        })?;
        gauge("arw_runtime_restarts_max", "Restarts that the budget's window allows", &|row| {
            Some(row.restart_budget.max.into())
        })?;
        gauge("arw_runtime_queue_waiting", "Requests that wait for the runtime", &|row| {
            Some(number(row.queue.waiting))
        })?;
        gauge("arw_runtime_queue_limit", "Requests that may wait for the runtime", &|row| {
            Some(number(row.queue.max))
        })?;
        gauge("arw_runtime_requests_in_flight", "Requests that the engine works on", &|row| {
            Some(row.in_flight.into())
        })?;
        gauge("arw_runtime_resident_memory_bytes", "Memory of the runtime's processes", &|row| {
            row.memory.resident_bytes
        })?;
        let requests = rows.iter().map(|row| ([("runtime", row.id.as_str())], row.usage.requests));
        out.counters("arw_runtime_requests", "Requests that the engine was asked", requests)?;
        let tokens = rows.iter().flat_map(|row| {
            let usage = row.usage;
            let by_type = [
                ("prompt", usage.prompt_tokens),
                ("completion", usage.completion_tokens),
                ("cached", usage.cached_tokens),
            ];
            by_type.map(|(kind, count)| ([("runtime", row.id.as_str()), ("type", kind)], count))
        });
        out.counters("arw_runtime_tokens", "Tokens by type; cached ones are part of the prompt", tokens)
    }
}

impl NodeCollector {
    fn about_cluster(&self, out: &mut Writer<'_>) -> Result<(), Error> {
        let cluster = &self.node.cluster;
        let totals = cluster.picture().totals;
        let nodes =
            [("up", totals.up), ("suspect", totals.suspect), ("down", totals.down), ("left", totals.left)];
        let nodes = nodes.map(|(state, count)| ([("state", state)], count));
        out.gauges("arw_cluster_nodes", "Nodes of the cluster by state, this one included", nodes)?;
        out.gauges("arw_cluster_draining", "Members that take nothing new", [(NO_LABELS, totals.draining)])?;
        out.counters(
            "arw_cluster_refused_news",
            "News of nodes that could not be taken in: there are too many",
            [(NO_LABELS, cluster.refused_news())],
        )?;
        let Some(transport) = cluster.transport() else { return Ok(()) };
        let status = transport.status();
        let connections = u64::try_from(status.connections).unwrap_or(u64::MAX);
        out.gauges("arw_cluster_connections", "Connections to other nodes", [(NO_LABELS, connections)])?;
        let refused = status.refused.iter().map(|(reason, count)| ([("reason", *reason)], *count));
        out.counters("arw_cluster_refused", "What the transport refused, by reason", refused)
    }
}

impl Collector for NodeCollector {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> Result<(), Error> {
        let mut out = Writer { encoder };
        self.about_node(&mut out)?;
        self.about_journal(&mut out)?;
        self.about_actors(&mut out)?;
        self.about_runtimes(&mut out)?;
        self.about_cluster(&mut out)
    }
}

const NO_LABELS: [(&str, &str); 0] = [];

const STATES: [RuntimeState; 9] = [
    RuntimeState::Stopped,
    RuntimeState::Starting,
    RuntimeState::Warming,
    RuntimeState::Ready,
    RuntimeState::Degraded,
    RuntimeState::Draining,
    RuntimeState::Backoff,
    RuntimeState::Quarantined,
    RuntimeState::Failed,
];

/// Paths are finite, so the recursion is as deep as the deepest path.
fn gather(rows: &[ActorRow], kinds: &mut BTreeMap<&'static str, KindRow>) {
    for row in rows {
        let kind = kinds.entry(row.kind).or_default();
        *kind.states.entry(row.state.word()).or_default() += 1;
        kind.depth += row.mailbox.map_or(0, |mailbox| u64::from(mailbox.depth));
        kind.handled += row.handled;
        kind.busy_nanos += u64::try_from(row.busy.as_nanos()).unwrap_or(u64::MAX);
        gather(&row.children, kinds);
    }
}

/// Writes families of constants; a family without series is left out.
struct Writer<'e> {
    encoder: DescriptorEncoder<'e>,
}

impl Writer<'_> {
    fn gauges<L: EncodeLabelSet>(
        &mut self,
        name: &str,
        help: &str,
        series: impl IntoIterator<Item = (L, u64)>,
    ) -> Result<(), Error> {
        self.family(
            name,
            help,
            ConstGauge::<u64>::TYPE,
            series.into_iter().map(|(labels, value)| (labels, ConstGauge::new(value))),
        )
    }

    fn float_gauge(&mut self, name: &str, help: &str, value: f64) -> Result<(), Error> {
        self.family(name, help, ConstGauge::<f64>::TYPE, [(NO_LABELS, ConstGauge::new(value))])
    }

    fn counters<L: EncodeLabelSet>(
        &mut self,
        name: &str,
        help: &str,
        series: impl IntoIterator<Item = (L, u64)>,
    ) -> Result<(), Error> {
        self.family(
            name,
            help,
            ConstCounter::<u64>::TYPE,
            series.into_iter().map(|(labels, value)| (labels, ConstCounter::new(value))),
        )
    }

    fn float_counters<L: EncodeLabelSet>(
        &mut self,
        name: &str,
        help: &str,
        series: impl IntoIterator<Item = (L, f64)>,
    ) -> Result<(), Error> {
        self.family(
            name,
            help,
            ConstCounter::<f64>::TYPE,
            series.into_iter().map(|(labels, value)| (labels, ConstCounter::new(value))),
        )
    }

    fn family<L: EncodeLabelSet, M: EncodeMetric>(
        &mut self,
        name: &str,
        help: &str,
        kind: MetricType,
        series: impl IntoIterator<Item = (L, M)>,
    ) -> Result<(), Error> {
        let mut series = series.into_iter().peekable();
        if series.peek().is_none() {
            return Ok(());
        }
        let mut family = self.encoder.encode_descriptor(name, help, None, kind)?;
        for (labels, metric) in series {
            metric.encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sum_never_goes_backwards_when_an_actor_leaves() {
        let mut ratchet = Ratchet::default();
        let shown: Vec<u64> = [10, 15, 5, 5, 7].into_iter().map(|sum| ratchet.follow(sum)).collect();
        assert_eq!(shown, [10, 15, 15, 15, 17]);
    }
}
