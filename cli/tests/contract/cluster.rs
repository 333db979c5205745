//! `arw cluster …`: what it shows, in every form and live.

use serde_json::{Value, json};

use crate::bodies;
use crate::gateway::{Gateway, json as answer, run_until, sse};
use crate::shows::every_form;

const CSV_HEADER: &str = "name,id,roles,state,draining,since,reason,address,rtt_ms,models,cpu_permille,in_flight,waiting,last_seen_at,version,health,source\n";

#[test]
fn nodes_in_every_form() {
    let body = bodies::cluster();
    let gateway = Gateway::with(&[("GET /state/cluster", answer(200, &body))]);
    let table = every_form(&gateway, &["cluster", "nodes"], &body, 3, CSV_HEADER);
    let lines: Vec<&str> = table.out.lines().collect();
    assert!(lines[0].starts_with("NAME  ID        ROLES"), "{}", table.out);
    for (line, wanted) in [
        (1, ["0a0a0a0a", "home, worker", "this node"]),
        (2, ["10.0.0.2:7400", "0.43 ms", "2 busy, 1 waiting, cpu 21 %"]),
        (3, ["box3", "down", " ago"]),
    ] {
        assert!(wanted.iter().all(|wanted| lines[line].contains(wanted)), "{}\nlacks {wanted:?}", table.out);
    }
    assert!(!lines[3].contains("SmolLM2"), "a node that is down serves nothing: {}", table.out);
}

#[test]
fn the_status_of_a_cluster_in_every_form() {
    let body = bodies::cluster();
    let gateway = Gateway::with(&[("GET /state/cluster", answer(200, &body))]);
    let shown = every_form(&gateway, &["cluster", "status"], &body, 3, CSV_HEADER).out;
    for wanted in [
        "c1, home is box1, this node lets others in\n",
        "10.0.0.1:7400, by the default route\n",
        "2 up, 1 down\n",
        "32 cores, 102 GB of 134 GB free, 0 accelerators\n",
        "4 in flight, 2 waiting; 2 of 2 runtimes serve\n",
        "\nbox3 is down since ",
        " ago: it did not answer\n  it comes back by itself\n",
    ] {
        assert!(shown.contains(wanted), "{shown}\nlacks {wanted}");
    }
}

#[test]
fn a_node_alone_says_so_and_how_that_ends() {
    let gateway = Gateway::with(&[("GET /state/cluster", answer(200, &bodies::alone()))]);
    let shown = gateway.arw(&["cluster", "status"]).expect(0).out;
    assert!(shown.contains("none: this node is alone; `arw cluster token create`"), "{shown}");
    assert!(shown.contains("box1  0a0a0a0a  -"), "{shown}");
    let empty = Gateway::with(&[("GET /state/cluster", answer(200, &bodies::envelope("nodes", &json!([]))))]);
    let ended = empty.arw(&["cluster", "nodes"]).expect(0);
    assert!(ended.out.is_empty() && ended.err.contains("has not looked at its cluster yet"), "{ended:?}");
}

fn stream() -> Gateway {
    let patch = |from: &str, version: u64, operations: Value| {
        let mut all = vec![json!({"op": "replace", "path": "/version", "value": version})];
        all.extend(operations.as_array().unwrap().iter().cloned());
        json!({"from": from, "patch": all}).to_string()
    };
    let down = json!([
        {"op": "replace", "path": "/nodes/1/state", "value": "down"},
        {"op": "replace", "path": "/nodes/1/reason", "value": "reset"},
    ]);
    let busier = json!([{"op": "replace", "path": "/nodes/0/load/in_flight", "value": 9}]);
    let forgotten = json!([{"op": "remove", "path": "/nodes/2"}]);
    let events = [
        ("snapshot", "e1.7", bodies::cluster().to_string()),
        ("patch", "e1.8", patch("e1.7", 8, down)),
        ("patch", "e1.9", patch("e1.8", 9, busier)),
        ("patch", "e1.10", patch("e1.9", 10, forgotten)),
    ];
    Gateway::with(&[("GET /state/cluster/stream", sse(&events).staying_open())])
}

#[test]
fn into_a_pipe_a_watched_cluster_is_a_row_for_each_change() {
    let gateway = stream();
    let command = gateway.command(&["cluster", "status", "--watch"]);
    let shown = run_until(command, |out| out.matches('\n').count() >= 6).out;
    let rows: Vec<Value> = shown.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(rows.len(), 6, "three rows of the snapshot and three changes: {shown}");
    let words: Vec<_> = rows[3..].iter().map(|row| json!([row["name"], row["state"], row["gone"]])).collect();
    assert_eq!(
        words,
        [json!(["box2", "down", null]), json!(["box1", "up", null]), json!(["box3", "down", true])]
    );
    assert_eq!(rows[4]["load"]["in_flight"], 9);
}

#[test]
fn for_a_screen_reader_a_watched_cluster_is_told_by_its_changes() {
    let gateway = stream();
    let mut command = gateway.command(&["cluster", "status", "--watch"]);
    command.env("ACCESSIBLE", "1");
    let shown = run_until(command, |out| out.contains("no longer shown")).out;
    assert!(!shown.contains('\u{1b}'), "{shown}");
    assert!(
        shown.ends_with("15:35:20 box2: down, was up (reset)\n15:35:20 box3: no longer shown\n"),
        "figures are no news: {shown}"
    );
}
