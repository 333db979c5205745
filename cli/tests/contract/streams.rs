//! Commands that follow: events, logs, the tree; over broken connections, until Ctrl-C.

use serde_json::{Value, json};

use crate::bodies;
use crate::gateway::{self, Gateway, json as answer, sse};

/// Follows until the output has so many lines, then presses Ctrl-C.
fn follow(gateway: &Gateway, arguments: &[&str], lines: usize) -> gateway::Ended {
    gateway::run_until(gateway.command(arguments), |out| out.matches('\n').count() >= lines)
}

#[test]
fn events_are_followed_across_a_broken_connection_without_a_gap() {
    let event = |seq: u64| {
        ("runtime_restarted", seq.to_string(), bodies::event(seq, "runtime_restarted", "smollm2").to_string())
    };
    let gateway = Gateway::start(move |asked| {
        if asked.path == "/state/node" {
            return answer(200, &bodies::node());
        }
        let events = match asked.header("last-event-id") {
            "" => [event(1), event(2)],
            "2" => [event(3), event(4)],
            other => panic!("unexpected id {other}"),
        };
        let events: Vec<(&str, &str, String)> =
            events.iter().map(|(kind, id, data)| (*kind, id.as_str(), data.clone())).collect();
        let stays = asked.header("last-event-id") == "2";
        if stays { sse(&events).staying_open() } else { sse(&events) }
    });
    let ended = follow(&gateway, &["events", "-f", "-o", "csv"], 5);
    let seqs: Vec<&str> = ended.out.lines().map(|line| line.split(',').next().unwrap()).collect();
    assert_eq!(seqs, ["seq", "1", "2", "3", "4"]);
    assert_eq!(ended.err.matches("connecting again").count(), 1, "{}", ended.err);
    let asked = gateway.asked();
    assert_eq!(asked[1].path, "/events/stream?after=0");
    assert_eq!(asked[1].header("accept"), "text/event-stream");
    assert!(gateway.wait_until_left());
}

#[test]
fn followed_events_are_lines_for_people_and_gaps_are_told() {
    let events = [
        ("gap", "", json!({"from": 1, "to": 5}).to_string()),
        ("runtime_restarted", "6", bodies::event(6, "runtime_restarted", "smollm2").to_string()),
        ("other", "7", bodies::event(7, "other", "smollm2").to_string()),
    ];
    let gateway = Gateway::with(&[("GET /events/stream", sse(&events).staying_open())]);
    let ended = follow(&gateway, &["events", "-f", "--after", "0", "--kind", "runtime_restarted"], 1);
    assert_eq!(ended.out, "15:35:19Z warning smollm2: smollm2 was restarted: killed by SIGKILL\n");
    assert!(ended.err.contains("events 1 to 5 are no longer kept"), "{}", ended.err);
}

#[test]
fn logs_are_followed_after_the_lines_that_are_there() {
    let line = |text: &str| json!({"at": "2026-11-24T15:35:19.120Z", "stream": "stderr", "text": text});
    let gateway = Gateway::with(&[
        ("GET /runtimes/a/logs", answer(200, &json!({"lines": [line("one")], "dropped": 0}))),
        ("GET /runtimes/a/logs/stream", sse(&[("line", "2", line("two").to_string())]).staying_open()),
    ]);
    assert_eq!(follow(&gateway, &["runtime", "logs", "a", "-f"], 2).out, "one\ntwo\n");
}

fn tree(version: u64, state: &str) -> Value {
    let mut body = bodies::actors();
    body["version"] = json!(version);
    body["root"]["children"][1]["state"] = json!(state);
    body
}

fn patch(from: &str, version: u64, state: &str) -> String {
    json!({"from": from, "patch": [
        {"op": "replace", "path": "/version", "value": version},
        {"op": "replace", "path": "/root/children/1/state", "value": state},
    ]})
    .to_string()
}

#[test]
fn the_tree_of_another_node_can_be_watched() {
    let events = [("snapshot", "e1.7", tree(7, "running").to_string())];
    let gateway = Gateway::with(&[("GET /state/actors/stream?node=box-b", sse(&events).staying_open())]);
    let shown = follow(&gateway, &["actors", "tree", "--watch", "--node", "box-b"], 5).out;
    assert!(shown.contains("└─ store"), "{shown}");
}

#[test]
fn a_watched_tree_is_told_by_its_changes_where_it_cannot_be_redrawn() {
    let events = [
        ("snapshot", "e1.7", tree(7, "running").to_string()),
        ("patch", "e1.8", patch("e1.7", 8, "backoff")),
        ("lag", "e1.8", json!({"missed": 2}).to_string()),
        ("patch", "e1.9", patch("e1.8", 9, "running")),
    ];
    let gateway = Gateway::with(&[("GET /state/actors/stream", sse(&events).staying_open())]);
    let shown = follow(&gateway, &["actors", "tree", "--watch"], 9).out;
    assert!(shown.contains("└─ store"), "{shown}");
    assert!(
        shown.ends_with(
            "\n15:35:20Z node/store: backoff, was running\n15:35:20Z node/store: running, was backoff\n"
        ),
        "{shown}"
    );
    let rows = follow(&gateway, &["actors", "tree", "--watch", "-o", "ndjson"], 6).out;
    let states: Vec<Value> =
        rows.lines().map(|row| serde_json::from_str::<Value>(row).unwrap()["state"].clone()).collect();
    assert_eq!(states.len(), 6, "four rows of the snapshot and two changes: {rows}");
    assert_eq!(states[4..], [json!("backoff"), json!("running")]);
}

#[test]
fn a_patch_that_does_not_fit_leads_to_a_fresh_snapshot() {
    let mut count = 0;
    let gateway = Gateway::start(move |asked| {
        assert_eq!(asked.header("last-event-id"), "", "a fresh snapshot is asked for without an id");
        count += 1;
        if count == 1 {
            return sse(&[
                ("snapshot", "e1.7", tree(7, "running").to_string()),
                ("patch", "e1.9", patch("e1.8", 9, "failed")),
            ])
            .staying_open();
        }
        sse(&[("snapshot", "e1.9", tree(9, "failed").to_string())]).staying_open()
    });
    let ended = follow(&gateway, &["actors", "tree", "--watch"], 8);
    assert!(
        ended.err.contains("the patch is for version e1.8, but e1.7 is here; fetching everything again"),
        "{}",
        ended.err
    );
    assert!(ended.out.ends_with("node/store: failed, was running\n"), "{}", ended.out);
}

#[test]
fn a_refused_stream_is_told_and_not_tried_again() {
    let gateway = Gateway::with(&[(
        "GET /state/actors/stream",
        answer(429, &bodies::problem(429, "too many streams", "256 are open", "close some")),
    )]);
    let ended = gateway.arw(&["actors", "tree", "--watch"]).expect(1);
    assert!(ended.err.contains("256 are open"), "{}", ended.err);
    assert_eq!(gateway.asked().len(), 1);
}
