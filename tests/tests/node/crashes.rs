//! `kill -9` of engines and nodes.

use std::time::Duration;

use arw_tests::http::open;
use arw_tests::node::{NodeProcess, arw};
use http::Method;
use http_body_util::BodyExt;
use serde_json::{Value, json};

use crate::kit::{FAKE, Stage, chat, is_alive, kill};

#[tokio::test]
async fn an_engine_killed_during_an_answer_ends_the_stream_with_a_reason_and_the_next_request_succeeds() {
    let stage = Stage::with_fake(&["--tokens", "200", "--token-delay-ms", "10"], json!({})).await;
    let body = Some(chat("one", true));
    let token = Some(stage.node.token.as_str());
    let mut answer =
        open(&stage.node.address, Method::POST, "/v1/chat/completions", token, body).await.unwrap();
    answer.body_mut().frame().await.unwrap().unwrap();
    kill(&stage.node.runtime("one").await.unwrap()["pid"]);
    let rest = answer.into_body().collect().await.unwrap().to_bytes();
    let text = String::from_utf8(rest.to_vec()).unwrap();
    // HTTP-14
    assert!(text.contains("engine_lost"), "{text}");
    assert!(!text.contains("[DONE]"), "{text}");

    let answer = stage.node.post("/v1/chat/completions", chat("one", false)).await.unwrap();
    assert_eq!(answer.status, 200, "{answer:?}");
    let row = stage.node.runtime("one").await.unwrap();
    assert_eq!(row["restart_budget"]["used"], 1);
    let events = stage.node.get("/events?kind=runtime_exited").await.unwrap().json();
    let events = events["events"].as_array().unwrap();
    assert_eq!(events.len(), 1);
    assert!(events[0]["message"].as_str().unwrap().contains("SIGKILL"), "{}", events[0]);
    stage.node.stop().unwrap();
}

async fn exits(stage: &Stage) -> usize {
    let events = stage.node.get("/events?kind=runtime_exited").await.unwrap().json();
    events["events"].as_array().unwrap().len()
}

fn said(text: &str, stream: bool) -> Value {
    json!({"model": "one", "stream": stream, "messages": [{"role": "user", "content": text}]})
}

/// HTTP-22: through the whole program, with a process that dies of a word.
#[tokio::test]
async fn a_request_that_kills_its_engine_does_so_twice_at_most_and_costs_nobody_else() {
    let args = ["--crash-on", "POISON", "--signal", "11", "--token-delay-ms", "5"];
    let stage = Stage::with_fake(&args, json!({})).await;
    // Alone: one death for each request, and a client that obeys does not ask again.
    for stream in [false, true] {
        let deaths = exits(&stage).await;
        let answer = stage.node.post("/v1/chat/completions", said("POISON alone", stream)).await.unwrap();
        assert_eq!(
            (answer.status, answer.json()["error"]["code"].as_str()),
            (502.try_into().unwrap(), Some("engine_lost"))
        );
        assert_eq!(answer.headers["x-should-retry"], "false");
        assert!(answer.json()["error"]["message"].as_str().unwrap().contains("SIGSEGV"), "{answer:?}");
        assert_eq!(exits(&stage).await, deaths + 1);
    }
    // Among others: they are saved, and it is found out.
    let deaths = exits(&stage).await;
    let good = async |number: u32| {
        let body = said(&format!("innocent {number}"), number.is_multiple_of(2));
        stage.node.post("/v1/chat/completions", body).await.unwrap().status.as_u16()
    };
    let bad = async {
        let mut last =
            stage.node.post("/v1/chat/completions", said("POISON among others", false)).await.unwrap();
        for _ in 0..3 {
            last = stage.node.post("/v1/chat/completions", said("POISON among others", false)).await.unwrap();
        }
        last
    };
    let (a, b, c, d, last) = tokio::join!(good(1), good(2), good(3), good(4), bad);
    assert_eq!([a, b, c, d], [200; 4]);
    assert_eq!(
        (last.status, last.json()["error"]["code"].as_str()),
        (422.try_into().unwrap(), Some("kills_engine"))
    );
    assert_eq!(exits(&stage).await, deaths + 2);
    stage.node.stop().unwrap();
}

/// HTTP-22: several that kill among several that do not, whose answers take a while.
#[tokio::test]
async fn of_two_requests_that_kill_each_does_so_twice_at_most_and_whoever_is_beside_them_is_saved() {
    let args = ["--crash-on", "POISON", "--signal", "6", "--tokens", "20", "--token-delay-ms", "10"];
    let budget = json!({"restart": {"max": 20, "window_s": 300}});
    let stage = Stage::with_fake(&args, budget).await;
    let good = async |number: u32| {
        let mut statuses = Vec::new();
        for _ in 0..3 {
            let body = said(&format!("innocent {number}"), number.is_multiple_of(2));
            statuses.push(stage.node.post("/v1/chat/completions", body).await.unwrap().status.as_u16());
        }
        statuses
    };
    let bad = async |number: u32| {
        let body = said(&format!("POISON {number}"), false);
        for _ in 0..5 {
            let answer = stage.node.post("/v1/chat/completions", body.clone()).await.unwrap();
            if answer.status == 422 {
                return answer.json()["error"]["deaths"].as_array().unwrap().len();
            }
        }
        panic!("POISON {number} is never refused");
    };
    let (a, b, c, d, bad_1, bad_2) = tokio::join!(good(1), good(2), good(3), good(4), bad(1), bad(2));
    for (number, statuses) in [a, b, c, d].iter().enumerate() {
        assert_eq!(*statuses, [200; 3], "innocent {}", number + 1);
    }
    assert_eq!((bad_1, bad_2), (2, 2));
    assert!(exits(&stage).await <= 4);
    stage.node.stop().unwrap();
}

/// HTTP-22: its client leaves each time, just before the engine dies of it.
#[tokio::test]
async fn a_request_whose_client_has_left_when_it_kills_is_found_out_too() {
    let slow = ["--tokens", "100", "--token-delay-ms", "20"];
    let args = ["--crash-on", "POISON", "--signal", "11", "--crash-on-delay-ms", "300"];
    let stage = Stage::with_fake(&[args.as_slice(), &slow].concat(), json!({"auto_start": true})).await;
    for deaths in 1..=2 {
        stage.node.until("one", |row| row["state"] == "ready").await.unwrap();
        let asks = stage.node.post("/v1/chat/completions", said("POISON", false));
        tokio::time::timeout(Duration::from_millis(100), asks).await.unwrap_err();
        stage.node.until("one", |row| row["restart_budget"]["used"] == deaths).await.unwrap();
    }
    let answer = stage.node.post("/v1/chat/completions", said("POISON", false)).await.unwrap();
    assert_eq!(answer.status, 422, "{answer:?}");
    assert_eq!(exits(&stage).await, 2);
    stage.node.stop().unwrap();
}

/// HTTP-18: what another process does to an engine is no fault of what it works on.
#[tokio::test]
async fn requests_in_flight_when_an_engine_is_killed_from_outside_are_saved() {
    let stage = Stage::with_fake(&["--tokens", "40", "--token-delay-ms", "10"], json!({})).await;
    let ask = async |number: u32| {
        let answer =
            stage.node.post("/v1/chat/completions", said(&format!("ask {number}"), false)).await.unwrap();
        answer.status.as_u16()
    };
    let kill = async {
        let row = stage.node.until("one", |row| row["in_flight"] == 3).await.unwrap();
        kill(&row["pid"]);
    };
    let (a, b, c, ()) = tokio::join!(ask(1), ask(2), ask(3), kill);
    assert_eq!([a, b, c], [200; 3]);
    let alone = async {
        let row = stage.node.until("one", |row| row["in_flight"] == 1).await.unwrap();
        crate::kit::kill(&row["pid"]);
    };
    let (status, ()) = tokio::join!(ask(4), alone);
    assert_eq!(status, 200);
    stage.node.stop().unwrap();
}

/// HTTP-11: nothing was sent, so that nothing is lost by waiting until the runtime has a new engine. RUN-7:
/// which it gets for that reason, without anybody's help.
#[tokio::test]
async fn requests_wait_while_the_socket_of_their_engine_is_gone() {
    let stage = Stage::with_fake(&[], json!({"auto_start": true})).await;
    let row = stage.node.until("one", |row| row["state"] == "ready").await.unwrap();
    std::fs::remove_file(row["socket"].as_str().unwrap()).unwrap();
    let ask = async |number: u32| {
        let answer =
            stage.node.post("/v1/chat/completions", said(&format!("ask {number}"), true)).await.unwrap();
        answer.status.as_u16()
    };
    let (a, b) = tokio::join!(ask(1), ask(2));
    assert_eq!([a, b], [200; 2]);
    let now = stage.node.until("one", |row| row["state"] == "ready").await.unwrap();
    assert_ne!(now["pid"], row["pid"]);
    let events = stage.node.get("/events?limit=1000").await.unwrap().json();
    let reasons: Vec<_> = events["events"].as_array().unwrap().iter().map(Value::to_string).collect();
    assert!(reasons.iter().any(|event| event.contains("was removed by somebody else")), "{reasons:?}");
    assert!(!reasons.iter().any(|event| event.contains("health endpoint fails")), "{reasons:?}");
    stage.node.stop().unwrap();
}

#[tokio::test]
async fn past_its_budget_a_runtime_is_quarantined_and_the_node_stays_healthy() {
    let more = json!({"auto_start": true, "restart": {"max": 1, "window_s": 300}});
    let stage = Stage::with_fake(&[], more).await;
    for _ in 0..2 {
        let row = stage.node.until("one", |row| row["state"] == "ready").await.unwrap();
        kill(&row["pid"]);
        stage.node.until("one", |now| now["pid"] != row["pid"]).await.unwrap();
    }
    let row = stage.node.until("one", |row| row["state"] == "quarantined").await.unwrap();
    assert_eq!(row["severity"], "error");
    assert!(row["hint"].is_string() && row["retry_at"].is_string());
    let answer = stage.node.post("/v1/chat/completions", chat("one", false)).await.unwrap();
    // HTTP-11
    assert_eq!(answer.status, 503);
    assert!(answer.headers.contains_key("retry-after"));
    assert_eq!(answer.json()["error"]["runtime"]["state"], "quarantined", "{answer:?}");
    assert_eq!(stage.node.get("/healthz").await.unwrap().status, 200);
    assert_eq!(stage.node.get("/readyz").await.unwrap().status, 200);
    let answer = stage.node.post("/runtimes/one/start?wait=20s", json!({})).await.unwrap();
    assert_eq!(answer.json()["state"], "ready", "{answer:?}");
    stage.node.stop().unwrap();
}

#[tokio::test]
async fn a_killed_node_leaves_no_engine_and_its_history_is_there_at_the_next_start() {
    let mut stage = Stage::with_fake(&["--orphans", "2"], json!({"auto_start": true})).await;
    let row = stage.node.until("one", |row| row["state"] == "ready").await.unwrap();
    kill(&row["pid"]);
    let row =
        stage.node.until("one", |now| now["state"] == "ready" && now["pid"] != row["pid"]).await.unwrap();
    assert_eq!(row["restart_budget"]["used"], 1);
    stage.node.kill().unwrap();
    let state_dir = stage.node.state_dir.clone();
    let node = NodeProcess::start(&arw(FAKE), &state_dir, &[]).unwrap();
    assert!(!is_alive(&row["pid"]), "the engine outlived the node and its next start");
    let again = node.until("one", |now| now["state"] == "ready").await.unwrap();
    assert_ne!(again["pid"], row["pid"]);
    assert_eq!(again["restart_budget"]["used"], 1);
    let events = node.get("/events?limit=1000").await.unwrap().json();
    let kinds: Vec<_> =
        events["events"].as_array().unwrap().iter().map(|event| event["kind"].clone()).collect();
    assert_eq!(kinds.iter().filter(|kind| *kind == "node_started").count(), 2);
    assert_eq!(kinds.iter().filter(|kind| *kind == "runtime_exited").count(), 1);
    node.stop().unwrap();
}
