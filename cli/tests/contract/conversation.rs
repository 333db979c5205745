//! `arw chat` and `arw run`.

use std::io::{BufRead, BufReader, Read};
use std::process::Stdio;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::bodies;
use crate::gateway::{self, Answer, Gateway, empty, json as answer, lines, run};

fn models() -> Value {
    json!({"object": "list", "data": [{"id": "smollm2", "object": "model", "created": 1, "owned_by": "arw", "context_length": 8192, "runtime": "smollm2", "state": "ready"}]})
}

fn stream(pieces: &[&str], end: &str) -> Answer {
    let mut text = String::new();
    for piece in pieces {
        text.push_str(&format!(
            "data: {}\n\n",
            json!({"choices": [{"delta": {"content": piece}, "finish_reason": null}]})
        ));
    }
    text.push_str(end);
    lines("text/event-stream", &text)
}

fn whole(pieces: &[&str]) -> Answer {
    let usage =
        json!({"choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": 2, "total_tokens": 11}});
    let stop = json!({"choices": [{"delta": {}, "finish_reason": "stop"}]});
    stream(pieces, &format!("data: {stop}\n\ndata: {usage}\n\ndata: [DONE]\n\n"))
}

fn chatting(chat: Answer) -> Gateway {
    Gateway::with(&[("GET /v1/models", answer(200, &models())), ("POST /v1/chat/completions", chat)])
}

#[test]
fn one_answer_is_data_and_the_rate_is_not() {
    let gateway = chatting(whole(&["Hel", "lo"]));
    let ended = gateway.arw(&["chat", "--once", "Say hello", "--system", "Be brief."]).expect(0);
    assert_eq!(ended.out, "Hello\n");
    assert!(ended.err.starts_with("(2 tokens"), "{}", ended.err);
    let body = &gateway.asked()[1].body;
    assert_eq!(body["model"], json!("smollm2"));
    assert_eq!(body["stream_options"], json!({"include_usage": true}));
    assert_eq!(
        body["messages"],
        json!([{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Say hello"}])
    );
}

#[test]
fn an_answer_for_programs_has_its_usage() {
    let gateway = chatting(whole(&["Hel", "lo"]));
    let shown = gateway.arw(&["chat", "--once", "Say hello", "-o", "json"]).expect(0).json();
    assert_eq!(shown["answer"], json!("Hello"));
    assert_eq!(shown["finish_reason"], json!("stop"));
    assert_eq!(shown["usage"]["completion_tokens"], json!(2));
    let csv = gateway.arw(&["chat", "smollm2", "--once", "Say hello", "-o", "csv"]).expect(0).out;
    assert_eq!(
        csv,
        "model,prompt,answer,finish_reason,prompt_tokens,completion_tokens\nsmollm2,Say hello,Hello,stop,9,2\n"
    );
}

#[test]
fn piped_lines_are_prompts_of_one_conversation() {
    let gateway = chatting(whole(&["ok"]));
    let ended = run(gateway.command(&["chat"]), "one\n\ntwo").expect(0);
    assert_eq!(ended.out, "ok\nok\n");
    let messages = gateway.asked()[2].body["messages"].clone();
    assert_eq!(
        messages,
        json!([{"role": "user", "content": "one"}, {"role": "assistant", "content": "ok"}, {"role": "user", "content": "two"}])
    );
}

#[test]
fn an_engine_lost_in_mid_answer_fails_after_what_came() {
    let lost = json!({"error": {"message": "the engine was lost", "type": "server_error", "code": "engine_lost", "help": "ask again"}});
    let ended =
        chatting(stream(&["Hel"], &format!("data: {lost}\n\n"))).arw(&["chat", "--once", "hi"]).expect(1);
    assert_eq!(ended.out, "Hel\n");
    assert!(
        ended.err.contains("the engine was lost") && ended.err.contains("do:  ask again"),
        "{}",
        ended.err
    );
    let ended = chatting(stream(&["Hel"], "")).arw(&["chat", "--once", "hi"]).expect(1);
    assert!(ended.err.contains("the answer broke off"), "{}", ended.err);
}

#[test]
fn a_model_that_is_not_ready_is_told_with_its_runtimes_state() {
    let body = json!({"error": {"message": "smollm2 cannot answer", "type": "unavailable", "code": "runtime_unavailable",
        "runtime": {"id": "smollm2", "state": "quarantined", "reason": "5 restarts within 5 min", "hint": "look at the log"}}});
    let ended = chatting(answer(503, &body)).arw(&["chat", "--once", "hi"]).expect(1);
    assert!(
        ended.err.contains("runtime smollm2 is quarantined") && ended.err.contains("5 restarts within 5 min"),
        "{}",
        ended.err
    );
    let body = json!({"error": {"message": "no model smolm", "type": "invalid_request_error", "code": "model_not_found", "known": ["smollm2"]}});
    let ended = chatting(answer(404, &body)).arw(&["chat", "smolm", "--once", "hi"]).expect(5);
    assert!(ended.err.contains("known: smollm2"), "{}", ended.err);
    chatting(answer(401, &json!({"error": {"message": "no token"}})))
        .arw(&["chat", "--once", "hi"])
        .expect(4);
}

#[test]
fn without_a_model_there_is_nothing_to_chat_with() {
    let gateway = Gateway::with(&[("GET /v1/models", answer(200, &json!({"object": "list", "data": []})))]);
    let ended = gateway.arw(&["chat", "--once", "hi"]).expect(5);
    assert!(ended.err.contains("arw run FILE.gguf"), "{}", ended.err);
}

#[test]
fn ctrl_c_closes_the_connection_of_the_answer() {
    let gateway = chatting(stream(&["Hel"], "").staying_open());
    let mut child = gateway.command(&["chat", "--once", "hi"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut seen = [0; 3];
    child.stdout.as_mut().unwrap().read_exact(&mut seen).unwrap();
    gateway::signal(child.id(), Signal::INT);
    assert!(gateway.wait_until_left(), "the gateway sees the client go");
    let ended = gateway::finish(&mut child).expect(1);
    assert!(ended.err.contains("the answer was stopped"), "{}", ended.err);
}

#[test]
fn ctrl_c_while_waiting_for_a_line_leaves() {
    let gateway = chatting(whole(&["ok"]));
    let mut child = gateway.command(&["chat"]).stdin(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    std::io::Write::write_all(&mut stdin, b"hi\n").unwrap();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    out.read_line(&mut line).unwrap();
    assert_eq!(line, "ok\n");
    // The rate is told last: then it reads the next line.
    let mut err = BufReader::new(child.stderr.take().unwrap());
    err.read_line(&mut line).unwrap();
    gateway::signal(child.id(), Signal::INT);
    gateway::finish(&mut child).expect(0);
    drop(stdin);
}

fn running(runtimes: &Value) -> Gateway {
    let import = format!("{}\n", json!({"model": bodies::model()}));
    let gateway = Gateway::with(&[
        ("GET /readyz", empty(200)),
        ("POST /models/import", lines("application/x-ndjson", &import)),
        ("GET /state/runtimes", answer(200, &bodies::envelope("runtimes", runtimes))),
        ("POST /runtimes", answer(201, &bodies::runtime("SmolLM2-135M-Instruct.Q4_1", "stopped"))),
        (
            "POST /runtimes/SmolLM2-135M-Instruct.Q4_1/start",
            answer(200, &bodies::runtime("SmolLM2-135M-Instruct.Q4_1", "ready")),
        ),
        ("POST /runtimes/smollm2/start", answer(200, &bodies::runtime("smollm2", "ready"))),
        ("GET /v1/models", answer(200, &models())),
        ("POST /v1/chat/completions", whole(&["ok"])),
    ]);
    gateway.write_node_files();
    std::fs::write(gateway.state_dir.path().join("m.gguf"), "GGUF").unwrap();
    gateway
}

#[test]
fn run_imports_adds_starts_and_chats_on_the_node_that_runs() {
    let gateway = running(&json!([]));
    let ended = run(
        gateway::arw(gateway.state_dir.path(), &["run", "m.gguf", "--once", "hi", "--engine", "/bin/sh"]),
        "",
    )
    .expect(0);
    assert_eq!(ended.out, "ok\n");
    let asked = gateway.asked();
    let lines: Vec<String> = asked
        .iter()
        .map(|asked| format!("{} {}", asked.method, asked.path.split('?').next().unwrap()))
        .collect();
    assert_eq!(
        lines,
        [
            "GET /readyz",
            "POST /models/import",
            "GET /state/runtimes",
            "POST /runtimes",
            "POST /runtimes/SmolLM2-135M-Instruct.Q4_1/start",
            "GET /v1/models",
            "POST /v1/chat/completions",
        ]
    );
    assert_eq!(
        asked[3].body,
        json!({"id": "SmolLM2-135M-Instruct.Q4_1", "adapter": "llama_cpp", "model": "SmolLM2-135M-Instruct.Q4_1", "program": "/bin/sh",
            "args": ["--model", "{model}", "--host", "{socket}", "--api-key-file", "/dev/stdin"]})
    );
}

#[test]
fn run_uses_the_runtime_that_serves_the_model_already() {
    let gateway = running(&json!([bodies::runtime("smollm2", "stopped")]));
    run(
        gateway::arw(
            gateway.state_dir.path(),
            &["run", "m.gguf", "--once", "hi", "--engine", "/bin/sh", "--", "-c", "x"],
        ),
        "",
    )
    .expect(0);
    let asked = gateway.asked();
    assert!(asked.iter().all(|asked| asked.line() != "POST /runtimes"));
    assert_eq!(asked.last().unwrap().body["model"], json!("smollm2"));
}

#[test]
fn run_finds_llama_server_in_path_and_says_how_to_name_one_otherwise() {
    let gateway = running(&json!([]));
    let bin = gateway.state_dir.path().join("bin");
    std::fs::create_dir(&bin).unwrap();
    let with_path = || {
        let mut command = gateway::arw(gateway.state_dir.path(), &["run", "m.gguf", "--once", "hi"]);
        command.env("PATH", &bin);
        run(command, "")
    };
    let ended = with_path().expect(1);
    assert!(ended.err.contains("not in PATH") && ended.err.contains("--engine"), "{}", ended.err);
    assert!(gateway.asked().is_empty(), "nothing is imported before the engine is found");
    std::os::unix::fs::symlink("/bin/sh", bin.join("llama-server")).unwrap();
    with_path().expect(0);
    let asked = gateway.asked();
    let program =
        asked.iter().find(|asked| asked.line() == "POST /runtimes").unwrap().body["program"].clone();
    assert_eq!(program, json!(bin.join("llama-server")));
}
