//! The content of `/state/cluster`, as JSON.
//!
//! The edge where the picture of the cluster becomes the words of spec/http.md; conversions are written out.

use serde_json::{Map, Value, json};

use super::render::millis;
use crate::cluster::{
    CARD_TTL, CardAccelerator, CardHardware, CardRuntime, Cluster, NodeCard, NodeRow, Picture,
};

pub(super) fn cluster(cluster: &Cluster) -> Map<String, Value> {
    let picture = cluster.picture();
    Map::from_iter([
        ("ttl_seconds".to_owned(), CARD_TTL.as_secs().into()),
        ("cluster".to_owned(), about(&picture)),
        ("home".to_owned(), picture.home.map_or(Value::Null, |home| home.to_string().into())),
        ("nodes".to_owned(), picture.nodes.iter().map(node).collect()),
        ("totals".to_owned(), totals(&picture)),
    ])
}

fn about(picture: &Picture) -> Value {
    picture.cluster.as_ref().map_or(Value::Null, |cluster| {
        json!({
            "id": cluster.id,
            "is_issuer": cluster.is_issuer,
            "address": cluster.address.to_string(),
            "address_by": cluster.address_by,
            "warnings": cluster.warnings,
            "certificate_until": cluster.certificate_until,
        })
    })
}

fn totals(picture: &Picture) -> Value {
    let totals = &picture.totals;
    json!({
        "nodes": { "up": totals.up, "suspect": totals.suspect, "down": totals.down, "left": totals.left },
        "draining": totals.draining,
        "usable_cores": totals.usable_cores,
        "memory_total_bytes": totals.memory_total_bytes,
        "memory_available_bytes": totals.memory_available_bytes,
        "accelerators": totals.accelerators,
        "runtimes": totals.runtimes,
        "runtimes_serving": totals.runtimes_serving,
        "in_flight": totals.in_flight,
        "waiting": totals.waiting,
    })
}

fn node(row: &NodeRow) -> Value {
    let card = row.card.as_deref();
    let of = |part: fn(&NodeCard) -> Value| card.map_or(Value::Null, part);
    json!({
        "id": row.node,
        "name": row.name,
        "roles": row.roles,
        "state": row.state.word(),
        "since": row.since,
        "reason": row.reason,
        "draining": row.is_draining,
        "incarnation": row.incarnation,
        "address": row.address.map(|address| address.to_string()),
        "connected": row.is_connected,
        "version": card.map(|card| card.version.as_str()),
        "hardware": of(|card| hardware(&card.hardware)),
        "runtimes": card.map_or_else(Vec::new, |card| card.runtimes.iter().map(runtime).collect()),
        "load": of(|card| json!({
            "cpu_permille": card.load.cpu_permille, "in_flight": card.load.in_flight, "actors": card.load.actors,
        })),
        "queue": of(|card| json!({ "waiting": card.queue.waiting, "max": card.queue.max })),
        "budgets": of(|card| json!({
            "restarts_used": card.budgets.restarts_used,
            "restarts_max": card.budgets.restarts_max,
            "runtimes_given_up": card.budgets.runtimes_given_up,
        })),
        "health": { "state": row.health.state, "reason": row.health.reason, "hint": row.health.hint },
        "rtt_ms": row.rtt.map(|rtt| rtt.as_secs_f64() * 1_000.0).map(thousandths),
        "last_seen_ms": millis(row.last_seen),
        "last_seen_at": row.last_seen_at,
        "card_stale": row.stale_since.is_some(),
        "card_at": row.stale_since,
        "source": row.source.word(),
    })
}

/// A whole number of microseconds has no longer tail than this.
fn thousandths(ms: f64) -> f64 {
    (ms * 1_000.0).round() / 1_000.0
}

fn hardware(it: &CardHardware) -> Value {
    json!({
        "os": it.os,
        "arch": it.arch,
        "cpu": { "model": it.cpu.model, "usable_cores": it.cpu.usable_cores },
        "memory": { "total_bytes": it.memory.total_bytes, "available_bytes": it.memory.available_bytes },
        "accelerators": it.accelerators.iter().map(accelerator).collect::<Vec<_>>(),
    })
}

fn accelerator(it: &CardAccelerator) -> Value {
    json!({
        "name": it.name,
        "backend": it.backend,
        "memory_total_bytes": it.memory_total_bytes,
        "memory_free_bytes": it.memory_free_bytes,
    })
}

fn runtime(it: &CardRuntime) -> Value {
    json!({
        "id": it.id,
        "model": it.model,
        "state": it.state,
        "serving": it.is_serving,
        "context_length": it.context_length,
        "in_flight": it.in_flight,
        "waiting": it.waiting,
    })
}
