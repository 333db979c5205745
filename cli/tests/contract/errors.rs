//! Refusals and failures: what is told and which exit code a script sees.

use serde_json::{Value, json};

use crate::bodies::{self, problem};
use crate::gateway::{self, Gateway, empty, json as answer, run};

fn told(status: u16, body: &Value) -> (i32, String) {
    let gateway = Gateway::with(&[("GET /tokens", answer(status, body))]);
    let ended = gateway.arw(&["token", "list"]);
    assert_eq!(ended.out, "");
    (ended.code, ended.err)
}

#[test]
fn each_refusal_has_its_exit_code_and_says_what_why_and_what_to_do() {
    for (status, code) in [
        (401, 4),
        (403, 4),
        (404, 5),
        (409, 1),
        (413, 1),
        (415, 1),
        (421, 1),
        (422, 1),
        (429, 1),
        (500, 1),
        (503, 1),
    ] {
        let (exit, err) = told(status, &problem(status, "the title", "the detail", "the help"));
        assert_eq!(exit, code, "{status}");
        assert_eq!(
            err,
            format!("error: the node refused: the title ({status})\n  why: the detail\n  do:  the help\n")
        );
        let (exit, err) = told(status, &Value::Null);
        assert_eq!(exit, code, "{status} without a body");
        assert!(err.contains("  why: ") && err.contains("  do:  "), "{err}");
    }
}

#[test]
fn for_programs_errors_are_json_too() {
    let gateway = Gateway::with(&[(
        "GET /tokens",
        answer(403, &problem(403, "forbidden", "scope token:manage is missing", "ask for it")),
    )]);
    let ended = gateway.arw(&["token", "list", "-o", "json"]).expect(4);
    let error: Value = serde_json::from_str(&ended.err).unwrap();
    assert_eq!(error["error"]["why"], json!("scope token:manage is missing"));
    assert_eq!(error["error"]["exit"], json!(4));
}

#[test]
fn without_a_token_the_refusal_says_that_none_was_sent() {
    let gateway = Gateway::with(&[("GET /tokens", empty(401))]);
    let mut command = gateway.command(&["token", "list"]);
    command.env_remove("ARW_TOKEN");
    let ended = run(command, "").expect(4);
    assert!(ended.err.contains("ARW_TOKEN is not set"), "{}", ended.err);
    assert_eq!(gateway.asked()[0].header("authorization"), "");
}

#[test]
fn where_no_node_answers_the_exit_code_is_3() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let dir = tempfile::tempdir().unwrap();
    for arguments in [
        &["status"][..],
        &["runtime", "list"],
        &["runtime", "show", "a"],
        &["runtime", "start", "a"],
        &["runtime", "logs", "a", "-f"],
        &["actors", "tree"],
        &["actors", "tree", "--watch"],
        &["actors", "show", "a"],
        &["events"],
        &["events", "-f"],
        &["model", "list"],
        &["token", "list"],
        &["chat", "--once", "hi"],
    ] {
        let mut command = gateway::arw(dir.path(), arguments);
        command.env("ARW_SERVER", format!("http://{free}"));
        let ended = run(command, "").expect(3);
        assert!(
            ended.err.contains("no node answers at") && ended.err.contains("Connection refused"),
            "{}",
            ended.err
        );
        let ended = run(gateway::arw(dir.path(), arguments), "").expect(3);
        assert!(ended.err.contains("no node runs in"), "{}", ended.err);
    }
}

#[test]
fn a_node_that_died_is_told_apart_from_one_that_is_not_there() {
    let dir = tempfile::tempdir().unwrap();
    // A process that has surely ended: our own child.
    let mut child = std::process::Command::new("/bin/true").spawn().unwrap();
    child.wait().unwrap();
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let file = json!({"pid": child.id(), "http": format!("http://{free}"), "started_at": ""});
    std::fs::write(dir.path().join("node.json"), file.to_string()).unwrap();
    let ended = run(gateway::arw(dir.path(), &["status"]), "").expect(3);
    assert!(ended.err.contains(&format!("its process {} has ended", child.id())), "{}", ended.err);
}

#[test]
fn wrong_usage_is_2() {
    let dir = tempfile::tempdir().unwrap();
    for arguments in [
        &["stats"][..],
        &["runtime", "add", "a"],
        &["events", "--limit", "0"],
        &["status", "-o", "xml"],
        &["runtime", "start", "a", "--wait", "5"],
    ] {
        run(gateway::arw(dir.path(), arguments), "").expect(2);
    }
    let ended = run(gateway::arw(dir.path(), &["--server", "https://example.org", "status"]), "").expect(2);
    assert!(ended.err.contains("does not speak https"), "{}", ended.err);
}

#[test]
fn an_answer_that_is_not_json_is_told_as_such() {
    let gateway = Gateway::with(&[("GET /tokens", gateway::lines("text/html", "<html>hello</html>"))]);
    let ended = gateway.arw(&["token", "list"]).expect(1);
    assert!(ended.err.contains("it is not JSON"), "{}", ended.err);
}

#[test]
fn unknown_names_come_with_the_known_ones() {
    let gateway = Gateway::with(&[
        ("GET /state/runtimes", answer(200, &bodies::runtimes())),
        ("GET /state/models", answer(200, &bodies::models())),
        ("GET /state/actors", answer(200, &bodies::actors())),
    ]);
    let ended = gateway.arw(&["runtime", "show", "smollm"]).expect(5);
    assert!(
        ended.err.contains("known: smollm2, broken") && ended.err.contains("did you mean smollm2?"),
        "{}",
        ended.err
    );
    gateway.arw(&["model", "show", "nothing"]).expect(5);
    let ended = gateway.arw(&["actors", "show", "node/runtimes/smolm2"]).expect(5);
    assert!(ended.err.contains("did you mean node/runtimes/smollm2?"), "{}", ended.err);
}
