//! `arw cluster …`: what it shows, in every form and live.

use serde_json::{Value, json};

use crate::bodies;
use crate::gateway::{self, Gateway, empty, json as answer, run, run_until, sse};
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
        "certificate:  until 2026-12-24T15:35:19.120Z (",
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
        shown.ends_with("15:35:20Z box2: down, was up (reset)\n15:35:20Z box3: no longer shown\n"),
        "figures are no news: {shown}"
    );
}

#[test]
fn a_form_that_was_asked_for_is_shown_wherever_it_goes() {
    let gateway = stream();
    let command = gateway.command(&["cluster", "status", "--watch", "-o", "table"]);
    let shown = run_until(command, |out| out.contains("no longer shown")).out;
    assert!(shown.starts_with("cluster: ") && shown.contains("2 up, 1 down"), "{shown}");
    assert!(shown.ends_with("15:35:20Z box3: no longer shown\n") && !shown.contains('\u{1b}'), "{shown}");
}

/// Answers the first call with a snapshot on a stream, and from then on takes connections and says nothing.
fn falls_silent() -> std::net::SocketAddr {
    use std::io::{Read as _, Write as _};
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let (mut first, _) = listener.accept().unwrap();
        let mut asked = [0; 2_048];
        let _ = first.read(&mut asked);
        let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n";
        write!(first, "{head}event: snapshot\nid: e1.7\ndata: {}\n\n", bodies::cluster()).unwrap();
        let mut held = vec![first];
        while let Ok((next, _)) = listener.accept() {
            held.push(next);
        }
    });
    address
}

#[test]
fn a_node_that_says_nothing_any_more_is_not_shown_as_well() {
    let dir = tempfile::tempdir().unwrap();
    let address = falls_silent();
    let mut command = gateway::arw(dir.path(), &["cluster", "status", "--watch", "-o", "table"]);
    command.env("ARW_SERVER", format!("http://{address}"));
    let mut child = command.spawn().unwrap();
    let mut told = std::io::BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    std::io::BufRead::read_line(&mut told, &mut line).unwrap();
    assert!(
        line.starts_with(&format!("stale: no answer from {address} for "))
            && line.ends_with("(trying again)\n"),
        "{line}"
    );
    gateway::signal(child.id(), rustix::process::Signal::INT);
    gateway::finish(&mut child).expect(0);
}

#[test]
fn the_exit_code_tells_whether_the_cluster_is_well_where_that_is_asked_for() {
    let with = |body: Value| Gateway::with(&[("GET /state/cluster", answer(200, &body))]);
    let mut body = bodies::cluster();
    body["cluster"]["certificate_until"] = json!("2126-12-24T15:35:19.120Z");
    let gateway = with(body.clone());
    gateway.arw(&["cluster", "status"]).expect(0);
    gateway.arw(&["cluster", "status", "--exit-code"]).expect(1);
    body["nodes"][2]["state"] = json!("left");
    with(body.clone()).arw(&["cluster", "status", "--exit-code"]).expect(0);
    body["cluster"]["certificate_until"] = json!("2020-12-24T15:35:19.120Z");
    let ended = with(body).arw(&["cluster", "status", "--exit-code"]).expect(1);
    assert!(ended.out.contains("it is no member of its cluster any more\n  join again"), "{}", ended.out);
}

/// A gateway whose node `box2` has so many requests left each time that it is looked at.
fn draining(mut looks: Vec<Value>) -> Gateway {
    Gateway::start(move |asked| match asked.line().as_str() {
        "GET /state/cluster" => {
            let mut body = bodies::cluster();
            let change = if looks.len() > 1 { looks.remove(0) } else { looks[0].clone() };
            for (pointer, value) in change.as_object().unwrap() {
                *body["nodes"][1].pointer_mut(pointer).unwrap() = value.clone();
            }
            answer(200, &body)
        }
        _ => empty(204),
    })
}

#[test]
fn a_drain_waits_until_the_node_has_nothing_left() {
    let load = |is_draining: bool, in_flight: u64| json!({"/draining": is_draining, "/load/in_flight": in_flight, "/queue/waiting": 0});
    let looks =
        vec![load(false, 0), load(false, 0), load(true, 2), load(true, 2), load(true, 1), load(true, 0)];
    let ended = draining(looks).arw(&["cluster", "drain", "box2", "--wait", "-o", "json"]).expect(0);
    assert_eq!(
        ended.json(),
        json!({"id": "0b".repeat(32), "name": "box2", "draining": true, "in_flight": 0, "waiting": 0})
    );
    assert!(ended.err.ends_with("2 requests left\n1 request left\n"), "{}", ended.err);
    let ended = draining(vec![load(true, 3)]).arw(&["cluster", "drain", "box2", "--wait=10ms"]).expect(1);
    assert!(
        ended.err.contains("has not finished after 10ms") && ended.err.contains("3 requests left"),
        "{}",
        ended.err
    );
    let gone = vec![load(false, 0), json!({"/state": "down"})];
    let ended = draining(gone).arw(&["cluster", "drain", "box2", "--wait"]).expect(1);
    assert!(ended.err.contains("went away before it had finished"), "{}", ended.err);
    let at_once = draining(vec![load(false, 7)]);
    let ended = at_once.arw(&["cluster", "drain", "box2"]).expect(0);
    assert!(ended.err.contains("`arw cluster resume box2` ends that"), "{}", ended.err);
}

#[test]
fn what_changes_the_cluster_is_an_object_for_programs_and_asks_no_script() {
    let gateway = draining(vec![json!({})]);
    let done = |arguments: &[&str]| gateway.arw(&[arguments, &["-o", "json"]].concat()).expect(0).json();
    let id = "0b".repeat(32);
    let removed = |id: &str, name: Value| json!({"id": id, "name": name, "removed": true, "tokens": [], "tokens_revoked": false});
    assert_eq!(done(&["cluster", "remove", "box2"]), removed(&id, json!("box2")));
    assert_eq!(gateway.asked().last().unwrap().line(), format!("DELETE /cluster/nodes/{id}"));
    assert_eq!(done(&["cluster", "rm", "gone", "--yes"]), removed("gone", Value::Null));
    assert_eq!(done(&["cluster", "leave"]), json!({"left": "c1"}));
    assert_eq!(done(&["cluster", "resume", "box2"])["draining"], json!(false));
    assert_eq!(done(&["cluster", "token", "revoke", "0a"]), json!({"id": "0a", "revoked": true}));
    let ended = gateway.arw(&["cluster", "remove", "0b0b0b0b"]).expect(0);
    assert!(
        ended.out.is_empty() && ended.err.contains("node box2 (0b0b0b0b, up, at 10.0.0.2:7400) is removed"),
        "{ended:?}"
    );
}

#[test]
fn a_node_that_runs_is_joined_and_says_which_flags_it_does_not_hear() {
    let joined = json!({"cluster": "c1", "roles": ["worker"], "issuer": "0a", "address": "10.0.0.2:7400"});
    let gateway = Gateway::with(&[
        ("GET /readyz", answer(200, &json!({}))),
        ("POST /cluster/join", answer(200, &joined)),
    ]);
    let ended = gateway.arw(&["join", "arw1-x", "--cluster-listen", "0.0.0.0:1", "--name", "b"]).expect(0);
    assert!(ended.err.contains("--cluster-listen, --name are ignored: a node runs already"), "{}", ended.err);
    let ended = gateway.arw(&["join", "arw1-x"]).expect(0);
    assert!(ended.err.is_empty() && ended.out.contains("in the cluster c1 now"), "{ended:?}");
}

#[test]
fn a_wrong_name_of_a_node_leads_to_the_nearest_one() {
    let problem = json!({"title": "not found", "status": 404, "detail": "no node is called so", "known": ["box1", "box2-west", "nodes-lab"]});
    let gateway = Gateway::start(move |asked| match asked.method.as_str() {
        "GET" => answer(200, &bodies::cluster()),
        _ => answer(404, &problem),
    });
    for arguments in [
        &["cluster", "drain", "box2-wset"][..],
        &["cluster", "resume", "box2-wset"],
        &["cluster", "rm", "box2-wset"],
    ] {
        let ended = gateway.arw(arguments).expect(5);
        assert!(ended.err.contains("did you mean box2-west?"), "{}", ended.err);
    }
    let mut silent = gateway::arw(gateway.state_dir.path(), &["cluster", "status"]);
    silent.env_remove("ARW_STATE_DIR").env_remove("HOME");
    let ended = run(silent, "").expect(3);
    assert!(
        ended.err.contains("neither HOME nor XDG_DATA_HOME") && ended.err.contains("/arw-state"),
        "{}",
        ended.err
    );
}
