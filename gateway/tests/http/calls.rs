//! HTTP-26: each call that changes the node is told with who made it.

use std::sync::Arc;

use arw_actors::cluster::Transport;
use arw_actors::journal::{Event, JournalItem, event};
use arw_actors::model::testkit::tiny_gguf;
use arw_actors::policy::Scope;
use arw_actors::runtime::machine::RuntimeState;
use axum::body::Body;
use futures_util::FutureExt as _;
use http::Request;
use serde_json::{Value, json};
use tower::ServiceExt;

use crate::cluster_control::FakeTransport;
use crate::peers::Pair;
use crate::support::{Answer, TestNode, spec};

/// A node, and somebody with a token that is not the administrator's.
struct Stage {
    node: TestNode,
    token: String,
    id: String,
}

impl Stage {
    async fn start() -> Self {
        let node = TestNode::start().await;
        node.node.cluster.attach(Arc::new(FakeTransport::default()) as Arc<dyn Transport>);
        let manages: Vec<Scope> =
            Scope::ALL.into_iter().filter(|it| it.as_str().ends_with(":manage")).collect();
        let token = node.token("laptop", &manages).await;
        let id = token.split('_').nth(1).unwrap().to_owned();
        Self { node, token, id }
    }

    fn request(&self, method: &str, path: &str, body: Option<&Value>) -> Request<Body> {
        let request = Request::builder().method(method).uri(path).header("host", "localhost");
        let request = request.header("authorization", format!("Bearer {}", self.token));
        match body {
            Some(body) => request.header("content-type", "application/json").body(body.to_string().into()),
            None => request.body(Body::empty()),
        }
        .unwrap()
    }

    async fn send(&self, method: &str, path: &str, body: Option<&Value>) -> Answer {
        self.node.call(self.request(method, path, body)).await
    }

    async fn calls(&self) -> Vec<Value> {
        calls(&self.node).await
    }
}

async fn calls(node: &TestNode) -> Vec<Value> {
    node.get("/events?kind=control").await.json()["events"].as_array().unwrap().clone()
}

fn about(row: &Value) -> (&str, &str) {
    (row["data"]["call"].as_str().unwrap(), row["subject"].as_str().unwrap())
}

/// HTTP-26: whatever the call, in the order of the calls.
#[tokio::test]
async fn every_call_that_changes_something_is_told_with_its_token() {
    let stage = Stage::start().await;
    let file = stage.node.folder.path().join("tiny.gguf");
    std::fs::write(&file, tiny_gguf("tiny")).unwrap();
    let process = json!({"id": "r1", "adapter": "process", "program": "/bin/true", "args": ["{socket}"]});
    let spare = stage.node.token("spare", &[Scope::RuntimeManage]).await;
    let spare = spare.split('_').nth(1).unwrap();
    let (own, gone) = (stage.node.node.info.id.to_string(), "cd".repeat(32));
    let made =
        stage.send("POST", "/tokens", Some(&json!({"name": "ci", "scopes": ["model:manage"]}))).await.json()
            ["id"]
            .clone();
    for (method, path, body, subject) in [
        ("POST", "/runtimes", Some(process), "r1"),
        ("POST", "/runtimes/r1/start", None, "r1"),
        ("POST", "/runtimes/r1/stop", None, "r1"),
        ("POST", "/runtimes/r1/restart?wait=10ms", None, "r1"),
        ("DELETE", "/runtimes/r1", None, "r1"),
        ("POST", "/models/import", Some(json!({"path": file})), "tiny"),
        ("POST", "/models/import", Some(json!({"path": file, "name": "pocket"})), "pocket"),
        ("DELETE", "/models/pocket", None, "pocket"),
        ("DELETE", &format!("/tokens/{spare}"), None, spare),
        ("POST", "/cluster/tokens", Some(json!({})), "00112233aabbccdd"),
        ("DELETE", "/cluster/tokens/00112233aabbccdd", None, "00112233aabbccdd"),
        ("POST", "/cluster/join", Some(json!({"token": "arw1-x"})), "cluster"),
        ("DELETE", &format!("/cluster/nodes/{gone}"), None, &gone),
        ("POST", "/cluster/nodes/testbox/drain", None, &own),
        ("POST", "/cluster/nodes/testbox/resume", None, &own),
        ("POST", "/cluster/leave", None, "cluster"),
    ] {
        let before = stage.calls().await.len();
        let answer = stage.send(method, path, body.as_ref()).await;
        assert!(answer.status.is_success(), "{method} {path}: {answer:?}");
        let calls = stage.calls().await;
        assert_eq!(calls.len(), before + 1, "{method} {path}: one event");
        let row = calls.last().unwrap();
        let call = format!("{method} {}", path.split('?').next().unwrap());
        assert_eq!(about(row), (call.as_str(), subject));
        assert_eq!(row["data"]["by"], json!({"token": {"id": stage.id, "name": "laptop"}}));
        assert_eq!((&row["data"]["answered"], &row["severity"]), (&json!(true), &json!("info")));
        let message = row["message"].as_str().unwrap();
        assert!(message.contains(&format!("the token laptop ({})", stage.id)), "{message}");
        assert!(!message.contains(&stage.token) && !row.to_string().contains("arw1-"), "{row}");
    }
    let first = &stage.calls().await[0];
    assert_eq!(about(first), ("POST /tokens", made.as_str().unwrap()));
}

/// HTTP-26: what changed nothing is not told: reads, the use of models, and what was refused, at once or in
/// the last line of an answer.
#[tokio::test]
async fn a_call_that_changes_nothing_is_not_told() {
    let stage = Stage::start().await;
    let file = stage.node.folder.path().join("notes.txt");
    std::fs::write(&file, "not a model").unwrap();
    for (method, path, body) in [
        ("GET", "/tokens", None),
        ("GET", "/cluster/tokens", None),
        ("GET", "/state/runtimes", None),
        ("POST", "/runtimes/nobody/stop", None),
        ("DELETE", "/runtimes/nobody", None),
        ("DELETE", "/models/nobody", None),
        ("POST", "/models/import", Some(json!({"path": file}))),
        ("POST", "/models/import", Some(json!({"path": "x.gguf"}))),
        ("POST", "/tokens", Some(json!({"name": "x", "scopes": ["admin"]}))),
        ("POST", "/cluster/nodes/nobody/drain", None),
        ("POST", "/v1/chat/completions", Some(json!({"model": "x", "messages": []}))),
    ] {
        stage.send(method, path, body.as_ref()).await;
    }
    assert_eq!(stage.calls().await, Vec::<Value>::new());
}

/// HTTP-26: the caller is gone, and what was asked for may happen.
#[tokio::test]
async fn a_call_whose_caller_went_away_is_told_as_such() {
    let stage = Stage::start().await;
    stage.node.fixed.add(spec("r1", "m"), RuntimeState::Stopped).await;
    let call = stage.node.service().oneshot(stage.request("POST", "/runtimes/r1/start", None));
    assert!(call.now_or_never().is_none(), "it was dropped before its answer");
    let calls = stage.calls().await;
    assert_eq!(about(&calls[0]), ("POST /runtimes/r1/start", "r1"));
    assert_eq!((calls.len(), &calls[0]["data"]["answered"]), (1, &json!(false)));
    assert!(calls[0]["message"].as_str().unwrap().contains("did not wait"), "{}", calls[0]);
}

/// HTTP-26: the cause stands before its effects, also where the caller waits for them.
#[tokio::test]
async fn a_start_is_told_before_it_has_settled() {
    let stage = Stage::start().await;
    stage.node.fixed.add(spec("r1", "m"), RuntimeState::Starting).await;
    let mut events = stage.node.node.journal.subscribe(None);
    let told = async {
        let first = crate::support::within(events.next()).await;
        stage.node.fixed.change("r1", |row| row.state = RuntimeState::Ready);
        first
    };
    let (answer, first) = tokio::join!(stage.send("POST", "/runtimes/r1/start?wait=60s", None), told);
    assert_eq!(answer.status, 200);
    let Ok(JournalItem::Event(record)) = first else { panic!("{first:?}") };
    assert!(
        matches!(&record.event, Event::Control(event::Control::Called { answered: true, .. })),
        "{record:?}"
    );
}

/// HTTP-26 and HTTP-21: each node tells whom it obeyed.
#[tokio::test]
async fn a_node_that_another_one_drains_tells_which() {
    let pair = Pair::start().await;
    let path = format!("/cluster/nodes/{}/drain", pair.far.id());
    // Neither node is the home of the cluster: nothing happens, and nothing is told.
    let refused = pair.near_sends("POST", &path).await;
    refused.is_problem(403, "scope_missing");
    assert_eq!((calls(&pair.near.node).await.len(), calls(&pair.far.node).await.len()), (0, 0));
    pair.near_is_home();
    assert_eq!(pair.near_sends("POST", &path).await.status, 204);
    let (near, far) = (calls(&pair.near.node).await, calls(&pair.far.node).await);
    assert_eq!((near.len(), far.len()), (1, 1));
    assert_eq!(near[0]["data"]["by"]["token"]["name"], "test");
    assert_eq!(near[0]["subject"], pair.far.id().to_string());
    assert_eq!(far[0]["data"]["by"], json!({"node": {"id": pair.near.id().to_string()}}));
    assert_eq!(about(&far[0]), ("POST /cluster/drain", "node"));
}
