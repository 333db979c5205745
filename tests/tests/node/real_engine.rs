//! The real llama.cpp with a real model, and the official client.

use std::io::Write;
use std::process::{Command, Stdio};

use arw_tests::node::{arw, run};
use arw_tests::skip::need;
use serde_json::json;

use crate::kit::{FAKE, Stage, chat, kill};

struct Real {
    stage: Stage,
}

impl Real {
    async fn start(test: &str) -> Option<Self> {
        let python = need(test, "ARW_ENGINE_PYTHON")?;
        let script = need(test, "ARW_ENGINE_SCRIPT")?;
        let model = need(test, "ARW_TEST_MODEL")?;
        let stage = Stage::new();
        let arw = |args: &[&str]| {
            let output = run(&arw(FAKE), &stage.node.state_dir, args).unwrap();
            assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        };
        arw(&["model", "import", &model, "--name", "smollm2"]);
        arw(&[
            "runtime",
            "add",
            "smollm2",
            "--adapter",
            "llama_cpp",
            "--model",
            "smollm2",
            "--auto-start",
            "--",
            &python,
            &script,
            "--model",
            "{model}",
            "--socket",
            "{socket}",
            "--ctx-size",
            "2048",
            "--embedding",
            "--threads",
            "1",
        ]);
        stage.node.until("smollm2", |row| row["state"] == "ready").await.unwrap();
        Some(Self { stage })
    }
}

#[tokio::test]
async fn a_real_model_answers_survives_a_kill_and_satisfies_the_official_client() {
    let name = "a_real_model_answers_survives_a_kill_and_satisfies_the_official_client";
    let Some(real) = Real::start(name).await else { return };
    let node = &real.stage.node;
    let mut body = chat("smollm2", false);
    body["max_tokens"] = json!(8);
    let answer = node.post("/v1/chat/completions", body.clone()).await.unwrap();
    assert_eq!(answer.status, 200, "{answer:?}");
    assert!(answer.json()["usage"]["completion_tokens"].as_u64().unwrap() > 0);

    let row = node.runtime("smollm2").await.unwrap();
    assert_eq!(row["context_length"], 2048);
    kill(&row["pid"]);
    let answer = node.post("/v1/chat/completions", body).await.unwrap();
    assert_eq!(answer.status, 200, "{answer:?}");
    let row = node.runtime("smollm2").await.unwrap();
    assert_eq!(row["restart_budget"]["used"], 1);

    let Some(client) = need(name, "ARW_OPENAI_PYTHON") else { return };
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/clients/openai_client.py");
    let mut tests = Command::new(client)
        .args([
            script,
            "--base-url",
            &format!("http://{}/v1", node.address),
            "--model",
            "smollm2",
            "--embeddings",
        ])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    writeln!(tests.stdin.take().unwrap(), "{}", node.token).unwrap();
    let output = tests.wait_with_output().unwrap();
    let words =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{words}");
    real.stage.node.stop().unwrap();
}
