//! Runtimes, their logs, and models.

use std::time::Duration;

use arw_actors::model::testkit::{sized_gguf, tiny_gguf};
use arw_actors::runtime::machine::RuntimeState;
use axum::body::Body;
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tower::ServiceExt;

use crate::support::{Answer, Events, TestNode, get, spec, until, within};

#[tokio::test]
async fn a_runtime_is_added_shown_and_removed() {
    let node = TestNode::start().await;
    let body = json!({"id": "r1", "adapter": "process", "program": "/bin/true", "args": ["{socket}"], "env": {"A": "b"},
        "restart": {"max": 2, "window_s": 60}, "allow_read": ["/usr/share"], "idle_after_s": 60, "profile": "fast", "auto_start": true});
    let added = node.send("POST", "/runtimes", Some(body.clone())).await;
    assert_eq!((added.status.as_u16(), added.header("location")), (201, "/runtimes/r1"));
    let row = added.json();
    assert_eq!(
        (&row["id"], &row["adapter"], &row["profile"], &row["auto_start"]),
        (&json!("r1"), &json!("process"), &json!("fast"), &json!(true))
    );
    assert_eq!(row["idle_after_s"], 60);
    let never = json!({"id": "r2", "adapter": "process", "program": "/bin/true", "idle_after_s": "off"});
    assert_eq!(node.send("POST", "/runtimes", Some(never)).await.json()["idle_after_s"], "off");
    assert_eq!(node.send("POST", "/runtimes", Some(body)).await.is_problem(409, "conflict")["field"], "id");
    assert_eq!(node.send("DELETE", "/runtimes/r1", None).await.status, 204);
    let gone = node.send("DELETE", "/runtimes/r1", None).await.is_problem(404, "not_found");
    assert_eq!(gone["known"], json!(["r2"]));
}

/// HTTP-5: the field is named.
#[tokio::test]
async fn a_runtime_that_does_not_hold_together_is_refused_by_field() {
    let node = TestNode::start().await;
    for (body, field) in [
        (json!({"id": "../etc", "adapter": "process", "program": "x"}), "id"),
        (json!({"adapter": "process", "program": "x"}), "id"),
        (json!({"id": "a", "adapter": "vllm"}), "adapter"),
        (json!({"id": "a", "adapter": "process"}), "program"),
        (json!({"id": "a", "adapter": "llama_cpp", "program": "x", "args": ["{socket}"]}), "model"),
        (json!({"id": "a", "adapter": "llama_cpp", "program": "x", "model": "m"}), "args"),
        (json!({"id": "a", "adapter": "openai"}), "base_url"),
        (json!({"id": "a", "adapter": "openai", "base_url": "https://x"}), "base_url"),
        (json!({"id": "a", "adapter": "openai", "base_url": "http://x", "program": "x"}), "program"),
        (json!({"id": "a", "adapter": "process", "program": "x", "idle_after_s": 0}), "idle_after_s"),
        (json!({"id": "a", "adapter": "process", "program": "x", "idle_after_s": "on"}), "idle_after_s"),
        (json!({"id": "a", "adapter": "process", "program": "x", "idle_after_s": -1}), "idle_after_s"),
        (
            json!({"id": "a", "adapter": "process", "program": "x", "restart": {"max": 1, "window_s": 0}}),
            "restart.window_s",
        ),
        (
            json!({"id": "a", "adapter": "process", "program": "x", "restart": {"max": -1, "window_s": 1}}),
            "restart.max",
        ),
        (json!({"id": "a", "adapter": "process", "program": "x", "args": "x"}), "args"),
        (json!({"id": "a", "adapter": "process", "program": "x", "envs": {}}), "envs"),
    ] {
        let problem = node.send("POST", "/runtimes", Some(body.clone())).await.is_problem(422, "bad_field");
        assert_eq!(problem["field"], field, "{body}: {problem}");
    }
}

#[tokio::test]
async fn starting_answers_at_once_or_when_it_has_settled() {
    let node = TestNode::start().await;
    node.fixed.add(spec("r1", "m"), RuntimeState::Starting).await;
    for call in ["start", "stop", "restart"] {
        let answer = node.send("POST", &format!("/runtimes/r1/{call}"), None).await;
        assert_eq!((answer.status.as_u16(), &answer.json()["state"]), (202, &json!("starting")), "{call}");
    }
    let settle = async {
        tokio::time::sleep(Duration::from_millis(20)).await;
        node.fixed.change("r1", |row| row.state = RuntimeState::Ready);
    };
    let (answer, ()) = tokio::join!(node.send("POST", "/runtimes/r1/start?wait=60s", None), settle);
    assert_eq!((answer.status.as_u16(), &answer.json()["state"]), (200, &json!("ready")));
    node.fixed.change("r1", |row| row.state = RuntimeState::Warming);
    let answer = node.send("POST", "/runtimes/r1/start?wait=10ms", None).await;
    assert_eq!((answer.status.as_u16(), &answer.json()["state"]), (202, &json!("warming")));
    let unknown = node.send("POST", "/runtimes/nobody/start", None).await.is_problem(404, "not_found");
    assert_eq!(unknown["known"], json!(["r1"]));
}

#[tokio::test]
async fn logs_are_pages_and_streams() {
    let node = TestNode::start().await;
    let log = node.fixed.add(spec("r1", "m"), RuntimeState::Ready).await;
    for line in ["one", "two", "three"] {
        log.marker(line);
    }
    let page = node.get("/runtimes/r1/logs?tail=2").await.json();
    let texts: Vec<&str> =
        page["lines"].as_array().unwrap().iter().map(|line| line["text"].as_str().unwrap()).collect();
    assert_eq!(
        (texts, &page["dropped"], &page["lines"][0]["stream"]),
        (vec!["--- two", "--- three"], &json!(0), &json!("arw"))
    );
    assert_eq!(node.get("/runtimes/r1/logs?tail=x").await.is_problem(422, "bad_field")["field"], "tail");
    let queries: [fn(u64) -> String; 3] =
        [|_| "?tail=2".to_owned(), |newest| format!("?after={}", newest - 2), |_| String::new()];
    for (query, kept) in queries.into_iter().zip([2, 2, 0]) {
        let newest = log.newest();
        let path = format!("/runtimes/r1/logs/stream{}", query(newest));
        let response = node.service().oneshot(get(&path).body(Body::empty()).unwrap()).await.unwrap();
        let mut events = Events::new(response.into_body());
        log.marker("live");
        for number in newest - kept + 1..=newest + 1 {
            let event = events.next().await.unwrap();
            assert_eq!((event.name.as_str(), event.id.clone()), ("line", number.to_string()), "{path}");
            assert_eq!(event.json()["text"] == "--- live", number == newest + 1 || number > 3, "{path}");
        }
    }
}

/// Whoever follows it learns that nothing comes any more, and its place among the event streams is free.
#[tokio::test]
async fn a_log_stream_ends_when_its_runtime_is_removed() {
    let node = TestNode::start().await;
    let log = node.fixed.add(spec("r1", "m"), RuntimeState::Ready).await;
    log.marker("one");
    let request = get("/runtimes/r1/logs/stream?tail=1").body(Body::empty()).unwrap();
    let mut events = Events::new(node.service().oneshot(request).await.unwrap().into_body());
    assert_eq!(events.next().await.unwrap().name, "line");
    node.fixed.remove("r1").await;
    assert_eq!(events.next().await, None);
}

#[tokio::test]
async fn lines_that_are_gone_are_told() {
    let node = TestNode::start().await;
    let log = node.fixed.add(spec("r1", "m"), RuntimeState::Ready).await;
    for _ in 0..600 {
        log.marker("x");
    }
    let request = get("/runtimes/r1/logs/stream").header("last-event-id", "10").body(Body::empty()).unwrap();
    let mut events = Events::new(node.service().oneshot(request).await.unwrap().into_body());
    let gap = events.next().await.unwrap();
    assert_eq!((gap.name.as_str(), gap.json()), ("gap", json!({"dropped": 90})));
    assert_eq!(events.next().await.unwrap().id, "101");
}

fn lines(answer: &Answer) -> Vec<Value> {
    assert_eq!(answer.header("content-type"), "application/x-ndjson");
    answer
        .bytes
        .split(|&byte| byte == b'\n')
        .filter(|line| !line.is_empty())
        .map(|line| serde_json::from_slice(line).unwrap())
        .collect()
}

#[tokio::test]
async fn a_model_is_imported_with_progress_and_removed() {
    let node = TestNode::start().await;
    let file = node.folder.path().join("tiny.gguf");
    std::fs::write(&file, tiny_gguf("tiny")).unwrap();
    let told =
        lines(&node.send("POST", "/models/import", Some(json!({"path": file, "name": "pocket"}))).await);
    let model = &told.last().unwrap()["model"];
    assert_eq!(
        (&model["name"], &model["used_by"], &model["chat_template"]),
        (&json!("pocket"), &json!([]), &json!(true))
    );
    let mut fields: Vec<&str> = model.as_object().unwrap().keys().map(String::as_str).collect();
    fields.sort_unstable();
    assert_eq!(
        fields,
        [
            "aliases",
            "architecture",
            "chat_template",
            "context_length",
            "embedding",
            "imported_at",
            "name",
            "parameters",
            "quantisation",
            "sha256",
            "size_bytes",
            "used_by"
        ]
    );
    assert!(
        told.len() > 1
            && told[..told.len() - 1]
                .iter()
                .all(|line| line["progress"]["total_bytes"] == model["size_bytes"])
    );

    node.fixed.add(spec("r1", "pocket"), RuntimeState::Stopped).await;
    let used = node.send("DELETE", "/models/pocket", None).await.is_problem(409, "conflict");
    assert_eq!(used["used_by"], json!(["r1"]));
    let by_hash = format!("/models/{}", model["sha256"].as_str().unwrap());
    node.send("DELETE", &by_hash, None).await.is_problem(409, "conflict");
    node.fixed.remove("r1").await;
    assert_eq!(node.send("DELETE", "/models/pocket", None).await.status, 204);
    assert_eq!(
        node.send("DELETE", "/models/pocket", None).await.is_problem(404, "not_found")["known"],
        json!([])
    );
}

#[tokio::test]
async fn known_content_gets_another_name_and_the_answer_says_so() {
    let node = TestNode::start().await;
    let file = node.folder.path().join("tiny.gguf");
    std::fs::write(&file, tiny_gguf("tiny")).unwrap();
    let import = async |body: Value| {
        let told = lines(&node.send("POST", "/models/import", Some(body)).await);
        let last = told.last().unwrap().clone();
        (last["known"].clone(), last["model"]["name"].clone(), last["model"]["aliases"].clone())
    };
    assert_eq!(import(json!({"path": file})).await, (json!(false), json!("tiny"), json!([])));
    assert_eq!(
        import(json!({"path": file, "name": "rel"})).await,
        (json!(true), json!("tiny"), json!(["rel"]))
    );
    assert_eq!(import(json!({"path": file})).await, (json!(true), json!("tiny"), json!(["rel"])));
}

/// After a removal that the node allows, every runtime that had a model still has it.
#[tokio::test]
async fn no_removal_takes_a_model_from_a_runtime_however_either_names_it() {
    let node = TestNode::start().await;
    let file = node.folder.path().join("tiny.gguf");
    std::fs::write(&file, tiny_gguf("tiny")).unwrap();
    for other_names in [&[][..], &["chat"], &["chat", "rel"]] {
        let import = async |name: &str| {
            let told =
                lines(&node.send("POST", "/models/import", Some(json!({"path": file, "name": name}))).await);
            told.last().unwrap()["model"]["sha256"].as_str().unwrap().to_owned()
        };
        let hash = import("tiny").await;
        let named: Vec<String> =
            std::iter::once("tiny").chain(other_names.iter().copied()).map(str::to_owned).collect();
        let by_hash = [8, 20, 64].map(|digits| hash[..digits].to_owned());
        let texts: Vec<&String> = named.iter().chain(&by_hash).collect();
        for used in &texts {
            for removed in &texts {
                for name in &named {
                    import(name).await;
                }
                node.fixed.add(spec("r1", used), RuntimeState::Stopped).await;
                let answer = node.send("DELETE", &format!("/models/{removed}"), None).await;
                let is_there = node.node.models.find(used).is_some();
                assert!(is_there, "{removed} was removed from under {used}");
                let is_the_last = !named.contains(removed) || named.len() == 1;
                let status = if is_the_last || used == removed { 409 } else { 204 };
                assert_eq!(answer.status, status, "{removed} for {used}");
                node.fixed.remove("r1").await;
            }
        }
        assert_eq!(node.send("DELETE", &format!("/models/{hash}"), None).await.status, 204);
    }
}

#[tokio::test]
async fn an_import_that_fails_ends_with_a_refusal() {
    let node = TestNode::start().await;
    let file = node.folder.path().join("notes.txt");
    std::fs::write(&file, "not a model").unwrap();
    let told = lines(&node.send("POST", "/models/import", Some(json!({"path": file}))).await);
    let error = &told.last().unwrap()["error"];
    assert_eq!(
        (&error["status"], &error["field"], &error["type"]),
        (&json!(422), &json!("path"), &json!("urn:arw:problem:bad_field"))
    );
    assert_eq!(
        lines(&node.send("POST", "/models/import", Some(json!({"path": "/nowhere/x.gguf"}))).await)[0]["error"]
            ["status"],
        422
    );
    assert_eq!(
        node.send("POST", "/models/import", Some(json!({"path": "x.gguf"})))
            .await
            .is_problem(422, "bad_field")["field"],
        "path"
    );
    assert!(node.node.models.list().is_empty());
}

/// A client that goes away in the middle leaves nothing behind.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_import_ends_with_its_client() {
    let node = TestNode::start().await;
    let file = node.folder.path().join("large.gguf");
    std::fs::write(&file, sized_gguf("large", 400 << 20)).unwrap();
    let served = node.serve();
    let body = json!({"path": file}).to_string();
    let request = http::Request::post("/models/import")
        .header("host", "localhost")
        .header("content-type", "application/json");
    let request =
        request.header("authorization", format!("Bearer {}", node.admin())).body(body.into()).unwrap();
    let mut response = served.send(request).await;
    let first = within(response.body_mut().frame()).await.unwrap().unwrap();
    assert!(String::from_utf8_lossy(first.data_ref().unwrap()).contains("progress"));
    drop(response);
    let folder = node.folder.path().join("models/by-hash");
    until(|| std::fs::read_dir(&folder).unwrap().next().is_none()).await;
    assert!(node.node.models.list().is_empty());
}

#[tokio::test]
async fn health_tells_a_process_that_answers_from_a_node_that_serves() {
    use arw_actors::node_info::NodeStatus;
    let node = TestNode::start().await;
    assert_eq!(node.get("/readyz").await.json()["status"], "ready");
    node.fixed.add(spec("r1", "m"), RuntimeState::Quarantined).await;
    node.status.send_replace(NodeStatus::Degraded(vec!["disk full".to_owned()]));
    let degraded = node.get("/readyz").await;
    assert_eq!((degraded.status.as_u16(), &degraded.json()["status"]), (200, &json!("degraded")));
    let checks = degraded.json()["checks"].clone();
    assert_eq!(checks[0], json!({"name": "node", "status": "warning", "detail": "disk full"}));
    assert_eq!(checks[1], json!({"name": "journal", "status": "ok", "detail": null}));
    assert_eq!(checks[2], json!({"name": "runtimes", "status": "warning", "detail": "r1 is quarantined"}));
    node.status.send_replace(NodeStatus::Starting);
    assert_eq!(node.get("/readyz").await.status, 503);
    assert_eq!(node.get("/healthz").await.json(), json!({"status": "ok"}));
}

#[tokio::test]
async fn the_api_describes_itself() {
    let node = TestNode::start().await;
    let document = node.get("/spec/openapi.json").await;
    assert_eq!(document.header("content-type"), "application/json");
    assert_eq!(
        document.bytes,
        std::fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/../spec/openapi.json")).unwrap()
    );
}
