//! The content of each view, as JSON.
//!
//! The edge where internal values become the words of spec/http.md; conversions are written out.

use arw_kit::clock::Clock;
use arw_kit::life::RestartUse;
use arw_kit::moment::Moment;
use arw_kit::tree::{ActorRow, ExitRecord};
use serde_json::{Map, Value, json};

use super::Sources;
use crate::hardware::own_resident_bytes;
use crate::model::ModelRecord;
use crate::node_info::NodeStatus;
use crate::runtime::wall_of;

pub(super) fn node(sources: &Sources) -> Map<String, Value> {
    let info = &sources.info;
    let status = sources.status.borrow().clone();
    let reasons = match &status {
        NodeStatus::Degraded(reasons) => reasons.clone(),
        NodeStatus::Starting | NodeStatus::Ready | NodeStatus::Stopping => Vec::new(),
    };
    let journal = sources.journal.status();
    let journal_status = if journal.degraded.is_some() { "degraded" } else { "ok" };
    let uptime = sources.clock.wall().since(info.started_at);
    let hardware = serde_json::to_value(&*sources.hardware.lock()).unwrap_or(Value::Null);
    fields(
        "node",
        json!({
            "id": info.id,
            "name": info.name,
            "incarnation": info.incarnation,
            "version": info.version,
            "started_at": info.started_at,
            "uptime_s": uptime.as_secs(),
            "status": status.word(),
            "reasons": reasons,
            "http": sources.http.lock().clone(),
            "state_dir": info.state_dir,
            "journal": {
                "status": journal_status,
                "reason": journal.degraded,
                "last_seq": journal.last_seq,
                "lost": journal.lost,
            },
            "hardware": hardware,
            "memory": { "node_rss_bytes": own_resident_bytes() },
            "counts": {
                "actors": sources.system.tree().len(),
                "runtimes": sources.runtimes.rows().len(),
                "models": sources.models.list().len(),
                "dead_letters": sources.system.dead_letters().counts().total(),
            },
        }),
    )
}

pub(super) fn actors(sources: &Sources) -> Map<String, Value> {
    let root = sources.system.tree().rows().into_iter().next();
    let counts = sources.system.dead_letters().counts();
    let mut all = fields("root", root.map_or(Value::Null, |row| actor(&row, sources.clock)));
    let dead_letters = json!({
        "total": counts.total(),
        "by_reason": counts,
        "newest": sources.system.dead_letters().newest(),
    });
    all.insert("dead_letters".to_owned(), dead_letters);
    all
}

fn actor(row: &ActorRow, clock: Clock) -> Value {
    json!({
        "path": row.path,
        "kind": row.kind,
        "state": row.state,
        "since": wall_of(clock, row.since),
        "mailbox": row.mailbox.map(|mailbox| json!({ "depth": mailbox.depth, "bound": mailbox.bound })),
        "handled": row.handled,
        "busy_ms": millis(row.busy),
        "in_flight": row.in_flight.map(|it| json!({ "message": it.message, "age_ms": millis(it.age) })),
        "restarts": row.restarts.map(|restarts| restarts_row(&restarts, clock)),
        "last_exit": row.last_exit.as_ref().map(last_exit),
        "children": row.children.iter().map(|child| actor(child, clock)).collect::<Vec<_>>(),
    })
}

fn restarts_row(restarts: &RestartUse, clock: Clock) -> Value {
    json!({
        "used": restarts.used,
        "max": restarts.max,
        "window_s": restarts.window.as_secs(),
        "resets_at": restarts.resets_at.map(|at: Moment| wall_of(clock, at)),
    })
}

fn last_exit(exit: &ExitRecord) -> Value {
    json!({ "reason": exit.reason.word(), "detail": exit.reason.to_string(), "at": exit.at })
}

pub(super) fn runtimes(sources: &Sources) -> Map<String, Value> {
    let rows = serde_json::to_value(sources.runtimes.rows()).unwrap_or(Value::Null);
    fields("runtimes", rows)
}

pub(super) fn models(sources: &Sources) -> Map<String, Value> {
    let list = sources.models.list();
    let rows = list.iter().map(|model| model_row(model, sources)).collect::<Vec<_>>();
    fields("models", Value::Array(rows))
}

fn model_row(model: &ModelRecord, sources: &Sources) -> Value {
    let used_by = sources.runtimes.users_of(|text| sources.models.leads_to(text, model));
    json!({
        "name": model.name,
        "aliases": model.aliases,
        "sha256": model.sha256,
        "size_bytes": model.size_bytes,
        "architecture": model.architecture,
        "parameters": model.parameters,
        "context_length": model.context_length,
        "quantisation": model.quantisation,
        "chat_template": model.chat_template,
        "embedding": model.embedding,
        "imported_at": model.imported_at,
        "used_by": used_by,
    })
}

fn fields(root: &str, content: Value) -> Map<String, Value> {
    Map::from_iter([(root.to_owned(), content)])
}

pub(super) fn millis(span: std::time::Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}
