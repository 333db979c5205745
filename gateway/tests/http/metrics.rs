//! `/metrics`.

use std::io::Write;
use std::process::{Command, Stdio};

use arw_actors::runtime::machine::RuntimeState;
use serde_json::json;

use crate::support::{FakeEngine, TestNode, spec};

async fn busy_node() -> (TestNode, FakeEngine, arw_gateway::Front) {
    let node = TestNode::start().await;
    let engine = FakeEngine::start();
    node.runtime("r1", "m", &engine).await;
    node.fixed.add(spec("r2", "n"), RuntimeState::Quarantined).await;
    node.fixed.change("r1", |row| {
        row.usage = arw_actors::runtime::lease::UsageTotals {
            requests: 3,
            prompt_tokens: 90,
            completion_tokens: 40,
            cached_tokens: 7,
        };
        row.memory.resident_bytes = Some(199_000_000);
        row.queue.waiting = 2;
    });
    let router = node.service();
    engine.then_answers(&json!({"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 1}}));
    let request = http::Request::post("/v1/completions")
        .header("host", "localhost")
        .header("content-type", "application/json");
    let request = request
        .header("authorization", format!("Bearer {}", node.admin()))
        .body(axum::body::Body::from(r#"{"model":"m"}"#));
    let answer = tower::ServiceExt::oneshot(router.clone(), request.unwrap()).await.unwrap();
    assert_eq!(answer.status(), 200);
    (node, engine, router)
}

async fn scrape(router: &arw_gateway::Front) -> String {
    let request = crate::support::get("/metrics").body(axum::body::Body::empty()).unwrap();
    let answer = tower::ServiceExt::oneshot(router.clone(), request).await.unwrap();
    let answer = crate::support::Answer::of(answer).await;
    assert_eq!(answer.header("content-type"), "text/plain; version=0.0.4; charset=utf-8");
    String::from_utf8(answer.bytes.to_vec()).unwrap()
}

#[tokio::test]
async fn everything_that_the_contract_names_is_there() {
    let (node, _engine, router) = busy_node().await;
    let text = scrape(&router).await;
    for line in [
        &format!(r#"arw_node_info{{id="{}",name="testbox",version="0.1.0"}} 1"#, "07".repeat(32)),
        r#"arw_node_status{status="ready"} 1"#,
        r#"arw_node_status{status="degraded"} 0"#,
        r#"arw_actors{kind="runtime",state="running"} 2"#,
        r#"arw_actor_mailbox_depth{kind="runtime"} 0"#,
        r#"arw_actor_messages_handled_total{kind="runtime"} 1"#,
        r#"arw_dead_letters_total{reason="overloaded"} 0"#,
        r#"arw_runtime_state{runtime="r1",state="ready"} 1"#,
        r#"arw_runtime_state{runtime="r2",state="quarantined"} 1"#,
        r#"arw_runtime_state{runtime="r2",state="ready"} 0"#,
        r#"arw_runtime_restarts_used{runtime="r1"} 0"#,
        r#"arw_runtime_restarts_max{runtime="r1"} 5"#,
        r#"arw_runtime_queue_waiting{runtime="r1"} 2"#,
        r#"arw_runtime_requests_in_flight{runtime="r1"} 0"#,
        r#"arw_runtime_tokens_total{runtime="r1",type="prompt"} 93"#,
        r#"arw_runtime_tokens_total{runtime="r1",type="cached"} 7"#,
        r#"arw_runtime_resident_memory_bytes{runtime="r1"} 199000000"#,
        r#"arw_inference_duration_seconds_count{route="/v1/completions",runtime="r1",outcome="ok"} 1"#,
        r#"arw_inference_first_token_seconds_count{route="/v1/completions",runtime="r1"} 1"#,
        r#"arw_inference_queue_wait_seconds_count{runtime="r1"} 1"#,
        r#"arw_http_request_duration_seconds_count{route="/v1/completions",status="2xx"} 1"#,
        "arw_journal_lost_events_total 0",
        "arw_event_streams 0",
        "arw_event_streams_limit 256",
        "arw_models 0",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
    }
    for name in [
        "arw_actor_busy_seconds_total{kind=\"runtime\"}",
        "arw_process_resident_memory_bytes ",
        "arw_node_start_time_seconds ",
        "arw_journal_last_sequence ",
    ] {
        assert!(text.contains(name), "{name}");
    }
    node.fixed.remove("r1").await;
    assert!(!scrape(&router).await.contains("r1"), "a removed runtime leaves no series");
}

/// What a client puts into a path never becomes a label.
#[tokio::test]
async fn strangers_cannot_make_series() {
    let (node, _engine, router) = busy_node().await;
    for path in ["/nowhere/1", "/nowhere/2", "/runtimes/x1/logs", "/runtimes/x2/logs"] {
        let request = crate::support::get(path).body(axum::body::Body::empty()).unwrap();
        tower::ServiceExt::oneshot(router.clone(), request).await.unwrap();
    }
    let text = scrape(&router).await;
    assert!(
        text.contains(r#"arw_http_request_duration_seconds_count{route="other",status="4xx"} 2"#),
        "{text}"
    );
    assert!(
        text.contains(
            r#"arw_http_request_duration_seconds_count{route="/runtimes/{id}/logs",status="4xx"} 2"#
        )
    );
    assert!(!text.contains("nowhere") && !text.contains("x1"));
    drop(node);
}

#[tokio::test]
async fn promtool_finds_nothing_to_complain_about() {
    let (_node, _engine, router) = busy_node().await;
    let text = scrape(&router).await;
    let program = std::env::var("ARW_PROMTOOL").unwrap_or_else(|_| "promtool".to_owned());
    let started = Command::new(&program)
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let Ok(mut promtool) = started else {
        println!("skipped: promtool is not installed (Debian: prometheus); set ARW_PROMTOOL to its path");
        return;
    };
    promtool.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let said = promtool.wait_with_output().unwrap();
    let words = format!("{}{}", String::from_utf8_lossy(&said.stdout), String::from_utf8_lossy(&said.stderr));
    assert!(said.status.success() && words.trim().is_empty(), "{words}\n{text}");
}
