//! Bodies as `spec/http.md` describes them.

use serde_json::{Value, json};

pub(crate) fn runtime(id: &str, state: &str) -> Value {
    json!({"id": id, "adapter": "llama_cpp", "model": "SmolLM2-135M-Instruct.Q4_1", "profile": "default",
        "state": state, "severity": "ok", "reason": null, "hint": null, "pid": 4242, "port": null, "socket": "/s/engine.sock",
        "since": "2026-11-24T15:35:19.120Z", "auto_start": true, "idle_after_s": 1800,
        "health": {"startup": {"status": "ok", "at": "2026-11-24T15:35:19.120Z", "took_ms": 412},
            "liveness": {"status": "ok", "at": "2026-11-24T15:35:19.120Z", "latency_ms": 1, "failures": 0},
            "work": {"status": "unknown", "at": null, "latency_ms": null, "failures": 0}},
        "restart_budget": {"window_s": 300, "max": 5, "used": 1, "remaining": 4, "resets_at": "2026-11-24T15:40:19.120Z"},
        "last_exit": {"reason": "process_signal", "detail": "killed by SIGKILL (by another process, not by ARW)", "at": "2026-11-24T15:35:19.120Z"},
        "queue": {"waiting": 0, "max": 64}, "in_flight": 0,
        "usage": {"requests": 3, "prompt_tokens": 90, "completion_tokens": 40, "cached_tokens": 0},
        "memory": {"needed_bytes": 200_000_000, "resident_bytes": 199_000_000},
        "accelerator": "cpu",
        "sandbox": {"landlock_abi": 7, "seccomp": true, "capabilities_dropped": true, "network": "unix_socket_only", "unix_connect": "denied"}})
}

pub(crate) fn quarantined(id: &str) -> Value {
    let mut row = runtime(id, "quarantined");
    row["severity"] = json!("error");
    row["reason"] = json!("5 restarts within 5 min");
    row["hint"] = json!("look at the log: arw runtime logs smollm2");
    row["pid"] = Value::Null;
    row
}

pub(crate) fn envelope(root: &str, value: &Value) -> Value {
    json!({"epoch": "e1", "version": 7, "generated_at": "2026-11-24T15:35:20.000Z", root: value})
}

pub(crate) fn runtimes() -> Value {
    envelope("runtimes", &json!([runtime("smollm2", "ready"), quarantined("broken")]))
}

pub(crate) fn model() -> Value {
    json!({"name": "SmolLM2-135M-Instruct.Q4_1", "aliases": [], "sha256": "ab".repeat(32), "size_bytes": 98_000_000,
        "architecture": "llama", "parameters": 134_515_008, "context_length": 8192, "quantisation": "Q4_1",
        "chat_template": true, "embedding": false, "imported_at": "2026-11-24T15:35:19.120Z", "used_by": ["smollm2"]})
}

pub(crate) fn model_with_two_names() -> Value {
    let mut row = model();
    row["aliases"] = json!(["rel"]);
    row
}

pub(crate) fn models() -> Value {
    envelope("models", &json!([model()]))
}

pub(crate) fn node() -> Value {
    envelope(
        "node",
        &json!({"id": "n1", "name": "workstation", "incarnation": 3, "version": "0.1.0", "started_at": "2026-11-24T12:00:00Z",
            "uptime_s": 12_000, "status": "degraded", "reasons": ["the journal cannot be written: disk full"],
            "http": "http://127.0.0.1:8091", "state_dir": "/var/lib/arw",
            "journal": {"status": "degraded", "reason": "disk full", "last_seq": 3, "lost": 2},
            "hardware": {}, "memory": {"node_rss_bytes": 23_000_000},
            "counts": {"actors": 12, "runtimes": 2, "models": 1, "dead_letters": 0}}),
    )
}

pub(crate) fn actor(path: &str, state: &str, children: &Value) -> Value {
    json!({"path": path, "kind": "supervisor", "state": state, "since": "2026-11-24T15:35:19.120Z",
        "mailbox": {"depth": 1, "bound": 64}, "handled": 10, "busy_ms": 5, "in_flight": null,
        "restarts": {"used": 0, "max": 5, "window_s": 300, "resets_at": null}, "last_exit": null, "children": children})
}

pub(crate) fn actors() -> Value {
    let mut runtime = actor("node/runtimes/smollm2", "running", &json!([]));
    runtime["in_flight"] = json!({"message": "Probe", "age_ms": 12_000});
    runtime["restarts"]["used"] = json!(1);
    runtime["last_exit"] =
        json!({"reason": "process_signal", "detail": "killed by SIGKILL", "at": "2026-11-24T15:35:19.120Z"});
    let runtimes = actor("node/runtimes", "running", &json!([runtime]));
    let mut body = envelope(
        "root",
        &actor("node", "running", &json!([runtimes, actor("node/store", "running", &json!([]))])),
    );
    body["dead_letters"] = json!({"total": 1, "by_reason": {"stopped": 1, "overloaded": 0, "expired": 0}});
    body
}

pub(crate) fn event(seq: u64, kind: &str, subject: &str) -> Value {
    json!({"seq": seq, "at": "2026-11-24T15:35:19.120Z", "kind": kind, "severity": "warning", "subject": subject,
        "message": format!("{subject} was restarted: killed by SIGKILL"), "data": {"attempt": 1}})
}

pub(crate) fn events() -> Value {
    json!({"events": [event(1, "node_started", "node"), event(2, "runtime_restarted", "smollm2"), event(3, "runtime_restarted", "smollm2")],
        "next": 3, "oldest": 1})
}

pub(crate) fn tokens() -> Value {
    json!({"tokens": [
        {"id": "t1", "name": "laptop", "scopes": ["infer", "state:read"], "created_at": "2026-11-24T12:00:00Z",
            "expires_at": null, "last_used_at": null, "revoked_at": null},
        {"id": "t2", "name": "old", "scopes": ["admin"], "created_at": "2026-11-24T12:00:00Z",
            "expires_at": null, "last_used_at": null, "revoked_at": "2026-11-24T13:00:00Z"},
    ]})
}

pub(crate) fn problem(status: u16, title: &str, detail: &str, help: &str) -> Value {
    json!({"type": "about:blank", "title": title, "status": status, "detail": detail, "help": help})
}

pub(crate) fn cluster_node(name: &str, id: &str, state: &str) -> Value {
    json!({"id": id.repeat(32), "name": name, "roles": ["worker"], "state": state, "since": "2026-11-24T15:35:19.120Z", "reason": null,
        "draining": false, "incarnation": 3, "address": "10.0.0.2:7400", "connected": true, "version": "0.1.0",
        "hardware": {"os": "linux", "arch": "x86_64", "cpu": {"model": "AMD EPYC 7763", "usable_cores": 16},
            "memory": {"total_bytes": 67_000_000_000_u64, "available_bytes": 51_000_000_000_u64}, "accelerators": []},
        "runtimes": [{"id": "smollm2", "model": "SmolLM2", "state": "ready", "serving": true, "context_length": 8192, "in_flight": 2, "waiting": 1}],
        "load": {"cpu_permille": 219, "in_flight": 2, "actors": 12}, "queue": {"waiting": 1, "max": 64},
        "budgets": {"restarts_used": 0, "restarts_max": 5, "runtimes_given_up": 0},
        "health": {"state": "ok", "reason": null, "hint": null}, "rtt_ms": 0.43, "last_seen_ms": 0, "last_seen_at": null,
        "card_stale": false, "card_at": null, "source": "card"})
}

pub(crate) fn own_node() -> Value {
    let mut row = cluster_node("box1", "0a", "up");
    row["roles"] = json!(["home", "worker"]);
    row["source"] = json!("own");
    row["rtt_ms"] = Value::Null;
    row
}

pub(crate) fn down_node() -> Value {
    let mut row = cluster_node("box3", "0c", "down");
    row["reason"] = json!("it did not answer");
    row["connected"] = json!(false);
    row["rtt_ms"] = Value::Null;
    row["last_seen_ms"] = json!(60_000);
    row["last_seen_at"] = json!("2026-11-24T15:35:15.000Z");
    row["health"] =
        json!({"state": "error", "reason": "it did not answer", "hint": "it comes back by itself"});
    row["source"] = json!("membership");
    row
}

pub(crate) fn cluster() -> Value {
    let nodes = json!([own_node(), cluster_node("box2", "0b", "up"), down_node()]);
    let mut body = envelope("nodes", &nodes);
    body["ttl_seconds"] = json!(30);
    body["home"] = json!("0a".repeat(32));
    body["cluster"] = json!({"id": "c1", "is_issuer": true, "address": "10.0.0.1:7400", "address_by": "the default route",
        "certificate_until": "2026-12-24T15:35:19.120Z"});
    body["totals"] = json!({"nodes": {"up": 2, "suspect": 0, "down": 1, "left": 0}, "draining": 0, "usable_cores": 32,
        "memory_total_bytes": 134_000_000_000_u64, "memory_available_bytes": 102_000_000_000_u64, "accelerators": 0,
        "runtimes": 2, "runtimes_serving": 2, "in_flight": 4, "waiting": 2});
    body
}

pub(crate) fn alone() -> Value {
    let mut body = cluster();
    body["nodes"] = json!([own_node()]);
    body["nodes"][0]["roles"] = json!([]);
    body["nodes"][0]["address"] = Value::Null;
    body["home"] = Value::Null;
    body["cluster"] = Value::Null;
    body["totals"]["nodes"] = json!({"up": 1, "suspect": 0, "down": 0, "left": 0});
    body
}
