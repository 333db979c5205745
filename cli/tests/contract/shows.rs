//! Every command that shows data, in every form.

use serde_json::Value;

use crate::bodies;
use crate::gateway::{Ended, Gateway, json};

/// Shows the same data in every form and checks what is the same for all commands.
pub(crate) fn every_form(
    gateway: &Gateway,
    arguments: &[&str],
    body: &Value,
    records: usize,
    csv_header: &str,
) -> Ended {
    let form = |form: &str| gateway.arw(&[arguments, &["-o", form]].concat()).expect(0);
    assert_eq!(&form("json").json(), body, "{arguments:?}: JSON has the shape of the API");
    let yaml: Value = serde_saphyr::from_str(&form("yaml").out).unwrap();
    assert_eq!(&yaml, body, "{arguments:?}: YAML holds the same");
    let ndjson = form("ndjson");
    assert_eq!(ndjson.out.lines().count(), records, "{arguments:?}: {}", ndjson.out);
    assert!(ndjson.out.lines().all(|line| serde_json::from_str::<Value>(line).unwrap().is_object()));
    let csv = form("csv");
    assert!(csv.out.starts_with(csv_header), "{arguments:?}: {}", csv.out);
    let mut rows = csv::Reader::from_reader(csv.out.as_bytes());
    assert_eq!(rows.records().filter(Result::is_ok).count(), records, "{arguments:?}: {}", csv.out);
    assert_eq!(csv.err, "", "{arguments:?}");
    form("table")
}

#[test]
fn runtimes_in_every_form() {
    let body = bodies::runtimes();
    let gateway = Gateway::with(&[("GET /state/runtimes", json(200, &body))]);
    let table = every_form(
        &gateway,
        &["runtime", "list"],
        &body,
        2,
        "id,state,since,adapter,model,memory_resident_bytes,",
    );
    let lines: Vec<&str> = table.out.lines().collect();
    assert!(lines[0].starts_with("ID       STATE "), "{}", table.out);
    assert!(
        lines[1].starts_with("smollm2  ready ") && lines[1].contains("1 of 5") && lines[1].contains("199 MB"),
        "{}",
        table.out
    );
    assert!(
        lines[2].contains("quarantined") && lines[2].contains("5 restarts within 5 min"),
        "{}",
        table.out
    );
    assert!(!table.out.contains('\u{1b}'), "no colours into a pipe");
}

#[test]
fn one_runtime_in_every_form_with_its_story() {
    let gateway = Gateway::with(&[
        ("GET /state/runtimes", json(200, &bodies::runtimes())),
        ("GET /state/node", json(200, &bodies::node())),
        ("GET /events", json(200, &bodies::events())),
    ]);
    let body = bodies::runtime("smollm2", "ready");
    let shown = every_form(&gateway, &["runtime", "show", "smollm2"], &body, 1, "id,state,").out;
    for wanted in [
        "killed by SIGKILL (by another process, not by ARW)",
        "1 of 5 used within 5 min; 4 left",
        "Landlock ABI 7",
        "history:",
        "smollm2 was restarted",
    ] {
        assert!(shown.contains(wanted), "{shown}\nlacks {wanted}");
    }
    assert_eq!(shown.matches("was restarted").count(), 2, "only its own history: {shown}");
}

#[test]
fn models_in_every_form() {
    let body = bodies::models();
    let gateway = Gateway::with(&[("GET /state/models", json(200, &body))]);
    let table = every_form(
        &gateway,
        &["model", "list"],
        &body,
        1,
        "name,architecture,parameters,quantisation,context_length,size_bytes,",
    );
    assert!(table.out.contains("98 MB") && table.out.contains("8,192"), "{}", table.out);
    let one =
        every_form(&gateway, &["model", "show", "SmolLM2-135M-Instruct.Q4_1"], &bodies::model(), 1, "name,");
    assert!(one.out.contains("context length:   8,192 tokens"), "{}", one.out);
}

#[test]
fn a_model_with_two_names_is_shown_with_both_and_found_by_either() {
    let body = bodies::envelope("models", &serde_json::json!([bodies::model_with_two_names()]));
    let gateway = Gateway::with(&[("GET /state/models", json(200, &body))]);
    let table = gateway.arw(&["model", "list"]).expect(0).out;
    assert!(table.contains("OTHER NAMES") && table.contains("rel"), "{table}");
    for name in ["SmolLM2-135M-Instruct.Q4_1", "rel", "abababab"] {
        let shown = gateway.arw(&["model", "show", name]).expect(0).out;
        assert!(shown.contains("other names:") && shown.contains("rel"), "{name}: {shown}");
    }
    let ended = gateway.arw(&["model", "show", "rell"]).expect(5);
    assert!(ended.err.contains("did you mean rel?"), "{}", ended.err);
}

#[test]
fn tokens_in_every_form() {
    let body = bodies::tokens();
    let gateway = Gateway::with(&[("GET /tokens", json(200, &body))]);
    let table = every_form(&gateway, &["token", "list"], &body, 2, "id,name,scopes,created_at,");
    assert!(table.out.contains("infer state:read") && table.out.contains("revoked"), "{}", table.out);
}

#[test]
fn events_in_every_form() {
    let gateway = Gateway::with(&[
        ("GET /state/node", json(200, &bodies::node())),
        ("GET /events", json(200, &bodies::events())),
    ]);
    let body = serde_json::json!({"events": bodies::events()["events"]});
    let table = every_form(&gateway, &["events"], &body, 3, "seq,at,severity,kind,subject,message,data\n");
    assert!(table.out.contains("smollm2 was restarted: killed by SIGKILL"), "{}", table.out);
}

#[test]
fn the_newest_events_are_asked_for_and_a_kind_is_looked_for_from_the_beginning() {
    let gateway = Gateway::with(&[
        ("GET /state/node", json(200, &bodies::node())),
        ("GET /events", json(200, &bodies::events())),
    ]);
    gateway.arw(&["events", "--limit", "2"]).expect(0);
    assert_eq!(gateway.asked()[1].path, "/events?after=1&limit=1000");
    gateway.arw(&["events", "--limit", "1", "--kind", "a&b"]).expect(0);
    assert_eq!(gateway.asked()[3].path, "/events?after=0&limit=1000&kind=a%26b");
}

#[test]
fn the_actor_tree_in_every_form() {
    let body = bodies::actors();
    let gateway = Gateway::with(&[("GET /state/actors", json(200, &body))]);
    let table = every_form(
        &gateway,
        &["actors", "tree"],
        &body,
        4,
        "path,state,kind,since,mailbox_depth,mailbox_bound,",
    );
    for wanted in [
        "├─ runtimes",
        "│  └─ smollm2",
        "└─ store",
        "Probe 12 s (STUCK)",
        "1/5",
        "killed by SIGKILL",
        "4 actors, 1 dead letter\n",
    ] {
        assert!(table.out.contains(wanted), "{}\nlacks {wanted}", table.out);
    }
}

#[test]
fn the_tree_of_another_node_is_asked_for_by_its_name() {
    let gateway = Gateway::with(&[("GET /state/actors?node=box%20b", json(200, &bodies::actors()))]);
    let shown = gateway.arw(&["actors", "tree", "--node", "box b", "-o", "json"]).expect(0);
    assert_eq!(shown.json(), bodies::actors());
    gateway.arw(&["actors", "tree", "--node", "a", "--all"]).expect(2);
    gateway.arw(&["actors", "tree", "--watch", "--all"]).expect(2);
}

#[test]
fn the_trees_of_all_nodes_are_shown_with_who_does_not_answer() {
    let (a, b) = ("0a".repeat(32), "0b".repeat(32));
    let cluster = serde_json::json!({"nodes": [{"id": a, "name": "box-a"}, {"id": b, "name": "box-b"}]});
    let away = serde_json::json!({"title": "The other node cannot be reached", "status": 503, "help": "check it",
        "detail": "node `box-b` (0b0b0b0b): there is no connection"});
    let (ids, tree) = ([a.clone(), b.clone()], bodies::actors());
    let gateway = Gateway::start(move |asked| match asked.path.as_str() {
        "/state/cluster" => json(200, &cluster),
        path if path == format!("/state/actors?node={}", ids[0]) => json(200, &tree),
        _ => json(503, &away),
    });
    let form = |form: &str| gateway.arw(&["actors", "tree", "--all", "-o", form]).expect(0);
    let body = form("json").json();
    let why = "node `box-b` (0b0b0b0b): there is no connection";
    let expected = serde_json::json!([
        {"node": a, "node_name": "box-a", "actors": bodies::actors(), "error": null},
        {"node": b, "node_name": "box-b", "actors": null, "error": why},
    ]);
    assert_eq!(body, expected);
    let table = form("table").out;
    assert!(table.starts_with("box-a (0a0a0a0a)\nACTOR "), "{table}");
    assert!(table.ends_with(&format!("\n\nbox-b (0b0b0b0b): not shown: {why}\n")), "{table}");
    let lines: Vec<Value> =
        form("ndjson").out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(
        (lines.len(), &lines[0]["node_name"], &lines[0]["path"]),
        (5, &Value::from("box-a"), &Value::from("node"))
    );
    assert_eq!((&lines[4]["node"], &lines[4]["error"]), (&Value::from(b.as_str()), &Value::from(why)));
    let csv = form("csv").out;
    assert!(csv.starts_with("node,node_name,path,state,") && csv.lines().count() == 5, "{csv}");
}

#[test]
fn a_node_that_knows_no_cluster_shows_its_own_tree_as_the_only_one() {
    let node = bodies::node();
    let id = node["node"]["id"].as_str().unwrap().to_owned();
    let gateway = Gateway::with(&[
        ("GET /state/node", json(200, &node)),
        ("GET /state/actors", json(200, &bodies::actors())),
    ]);
    let shown = gateway.arw(&["actors", "tree", "--all", "-o", "json"]).expect(0).json();
    assert_eq!((shown.as_array().unwrap().len(), shown[0]["node"].as_str()), (1, Some(id.as_str())));
}

#[test]
fn for_a_screen_reader_the_tree_is_sentences_without_lines() {
    let gateway = Gateway::with(&[("GET /state/actors", json(200, &bodies::actors()))]);
    let mut command = gateway.command(&["actors", "tree"]);
    command.env("ACCESSIBLE", "1");
    let shown = crate::gateway::run(command, "").expect(0).out;
    assert!(shown.is_ascii(), "{shown}");
    assert!(shown.contains("\n    smollm2: running, mailbox 1 of 64, handling Probe 12 s (STUCK), restarts 1 of 5, last exit killed by SIGKILL "), "{shown}");
}

#[test]
fn one_actor_says_why_it_restarted() {
    let gateway = Gateway::with(&[
        ("GET /state/actors", json(200, &bodies::actors())),
        ("GET /state/node", json(200, &bodies::node())),
        ("GET /events", json(200, &bodies::events())),
    ]);
    let mut body = bodies::actors()["root"]["children"][0]["children"][0].clone();
    body.as_object_mut().unwrap().remove("children");
    let shown = every_form(&gateway, &["actors", "show", "runtimes/smollm2"], &body, 1, "path,state,").out;
    for wanted in [
        "killed by SIGKILL. It was restarted; 4 more restarts are allowed",
        "Probe for 12 s (STUCK)",
        "history:",
    ] {
        assert!(shown.contains(wanted), "{shown}\nlacks {wanted}");
    }
}

#[test]
fn status_in_every_form() {
    let gateway = Gateway::with(&[
        ("GET /state/node", json(200, &bodies::node())),
        ("GET /state/runtimes", json(200, &bodies::runtimes())),
        ("GET /state/models", json(200, &bodies::models())),
        ("GET /state/cluster", json(200, &bodies::cluster())),
    ]);
    let cluster = serde_json::json!({"id": "c1", "is_issuer": true, "address": "10.0.0.2:7400",
        "certificate_until": "2026-12-24T15:35:19.120Z", "nodes": 3, "up": 2});
    let body = serde_json::json!({"node": bodies::node()["node"], "cluster": cluster, "pid": null,
        "runtimes": bodies::runtimes()["runtimes"], "models": bodies::models()["models"]});
    let shown = every_form(&gateway, &["status"], &body, 1, "name,status,version,").out;
    for wanted in [
        "workstation (degraded), version 0.1.0, up 3 h",
        "id:            n1\n",
        "c1, 2 of 3 nodes up, this node lets others in, reached at 10.0.0.2:7400 over UDP\n",
        "the journal cannot be written: disk full",
        "23 MB",
        "smollm2",
        "broken: look at the log",
    ] {
        assert!(shown.contains(wanted), "{shown}\nlacks {wanted}");
    }
}

#[test]
fn status_names_the_process_and_says_when_a_node_is_alone_or_does_not_tell() {
    let status = |cluster: crate::gateway::Answer| {
        let gateway = Gateway::with(&[
            ("GET /state/node", json(200, &bodies::node())),
            ("GET /state/runtimes", json(200, &bodies::runtimes())),
            ("GET /state/models", json(200, &bodies::models())),
            ("GET /state/cluster", cluster),
        ]);
        gateway.write_node_files();
        let command = crate::gateway::arw(gateway.state_dir.path(), &["status"]);
        crate::gateway::run(command, "").expect(0).out
    };
    let alone = status(json(200, &bodies::alone()));
    assert!(alone.contains("cluster:       none: this node is alone\n"), "{alone}");
    assert!(alone.contains(&format!("(pid {})", std::process::id())), "{alone}");
    let unknown = status(json(403, &serde_json::json!({"title": "no", "detail": "no", "help": ""})));
    assert!(unknown.contains("cluster:       unknown\n"), "{unknown}");
}

#[test]
fn logs_in_every_form() {
    let body = serde_json::json!({"lines": [
        {"at": "2026-11-24T15:35:19.120Z", "stream": "stderr", "text": "model loaded\u{1b}[2J"},
        {"at": "2026-11-24T15:35:20.120Z", "stream": "stdout", "text": "listening"},
    ], "dropped": 3});
    let gateway = Gateway::with(&[("GET /runtimes/smollm2/logs", json(200, &body))]);
    let form = |form: &str| gateway.arw(&["runtime", "logs", "smollm2", "-o", form]).expect(0);
    assert_eq!(form("json").json(), body);
    assert_eq!(form("ndjson").out.lines().count(), 2);
    assert!(form("csv").out.starts_with("at,stream,text\n2026-11-24T15:35:19.120Z,stderr,"));
    let table = form("table");
    assert_eq!(table.out, "model loaded?[2J\nlistening\n");
    assert!(table.err.contains("3 older lines are gone"));
    let stamped = gateway.arw(&["runtime", "logs", "smollm2", "-t", "--tail", "2"]).expect(0);
    assert!(stamped.out.starts_with("2026-11-24T15:35:19.120Z model loaded"));
    assert_eq!(gateway.asked().last().unwrap().path, "/runtimes/smollm2/logs?tail=2");
}

#[test]
fn an_empty_list_is_no_output_and_a_hint() {
    let gateway = Gateway::with(&[(
        "GET /state/runtimes",
        json(200, &bodies::envelope("runtimes", &serde_json::json!([]))),
    )]);
    let ended = gateway.arw(&["runtime", "list"]).expect(0);
    assert_eq!(ended.out, "");
    assert!(ended.err.contains("arw run FILE.gguf"), "{}", ended.err);
}

#[cfg(target_os = "linux")]
#[test]
fn an_output_that_cannot_be_written_is_a_failure_and_a_standard_error_that_cannot_is_none() {
    let full = || std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let gateway = Gateway::with(&[("GET /state/runtimes", json(200, &bodies::runtimes()))]);
    for arguments in [
        &["runtime", "list"][..],
        &["runtime", "list", "-o", "json"],
        &["config", "explain"],
        &["completions", "bash"],
        &["man"],
        &["help"],
        &["runtime", "--help"],
        &["--version"],
    ] {
        let mut command = gateway.command(arguments);
        command.stdout(full());
        let ended = crate::gateway::run(command, "").expect(1);
        assert!(ended.err.contains("No space left on device"), "{arguments:?}: {}", ended.err);
        let mut command = gateway.command(arguments);
        command.stderr(full());
        crate::gateway::run(command, "").expect(0);
        let mut child = gateway.command(arguments).spawn().unwrap();
        drop((child.stdout.take(), child.stderr.take()));
        crate::gateway::finish(&mut child).expect(0);
    }
    // The code says it where the words cannot be written.
    for (arguments, code) in [(&["runtime", "show", "nobody"][..], 5), (&["nonsense"], 2), (&[], 2)] {
        let mut command = gateway.command(arguments);
        command.env_remove("ARW_STATE_DIR").stderr(full());
        crate::gateway::run(command, "").expect(code);
    }
}

#[test]
fn a_reader_that_leaves_early_is_no_error() {
    let rows: Vec<Value> = (0..4_000).map(|place| bodies::runtime(&format!("r{place}"), "ready")).collect();
    let gateway = Gateway::with(&[(
        "GET /state/runtimes",
        json(200, &bodies::envelope("runtimes", &serde_json::json!(rows))),
    )]);
    let mut child = gateway.command(&["runtime", "list", "-o", "json"]).spawn().unwrap();
    drop(child.stdout.take());
    let ended = crate::gateway::finish(&mut child).expect(0);
    assert_eq!(ended.err, "");
}
