//! Commands that change something: what they send and how they wait.

use serde_json::json;

use crate::bodies;
use crate::gateway::{self, Gateway, empty, json as answer, lines, run};

#[test]
fn a_runtime_is_added_with_what_was_said_and_the_token() {
    let gateway = Gateway::with(&[("POST /runtimes", answer(201, &bodies::runtime("a", "stopped")))]);
    let ended = gateway
        .arw(&[
            "runtime",
            "add",
            "a",
            "--adapter",
            "llama_cpp",
            "--model",
            "m",
            "--auto-start",
            "--",
            "llama-server",
            "-m",
            "{model}",
        ])
        .expect(0);
    assert!(ended.out.contains("stopped") && ended.err.contains("arw runtime start a"), "{ended:?}");
    let asked = &gateway.asked()[0];
    assert_eq!(asked.header("authorization"), "Bearer arw_test_secret");
    assert_eq!(asked.header("content-type"), "application/json");
    let wanted = json!({"id": "a", "adapter": "llama_cpp", "model": "m", "auto_start": true, "program": "llama-server", "args": ["-m", "{model}"]});
    assert_eq!(asked.body, wanted);
}

#[test]
fn a_start_waits_until_the_runtime_has_settled() {
    let mut answers =
        vec![answer(200, &bodies::runtime("a", "ready")), answer(202, &bodies::runtime("a", "starting"))];
    let gateway = Gateway::start(move |_| answers.pop().unwrap());
    let ended = gateway.arw(&["runtime", "start", "a", "-o", "ndjson"]).expect(0);
    assert_eq!(ended.json()["state"], json!("ready"));
    let asked = gateway.asked();
    assert_eq!(asked.len(), 2);
    assert!(asked.iter().all(|asked| asked.line().starts_with("POST /runtimes/a/start?wait=")), "{asked:?}");
}

#[test]
fn a_restart_that_takes_long_is_asked_for_once() {
    let mut answers =
        vec![answer(200, &bodies::runtime("a", "ready")), answer(202, &bodies::runtime("a", "starting"))];
    let gateway = Gateway::start(move |_| answers.pop().unwrap());
    gateway.arw(&["runtime", "restart", "a"]).expect(0);
    let lines: Vec<String> =
        gateway.asked().iter().map(|asked| asked.path.split('?').next().unwrap().to_owned()).collect();
    assert_eq!(lines, ["/runtimes/a/restart", "/runtimes/a/start"]);
}

#[test]
fn a_start_that_ends_in_quarantine_fails_with_reason_and_hint() {
    let gateway = Gateway::with(&[("POST /runtimes/a/start", answer(200, &bodies::quarantined("a")))]);
    let ended = gateway.arw(&["runtime", "start", "a"]).expect(1);
    assert!(ended.err.contains("did not start: it is quarantined"), "{}", ended.err);
    assert!(
        ended.err.contains("why: 5 restarts within 5 min") && ended.err.contains("do:  look at the log"),
        "{}",
        ended.err
    );
}

#[test]
fn a_runtime_that_does_not_settle_in_time_fails() {
    let gateway = Gateway::with(&[("POST /runtimes/a/stop", answer(202, &bodies::runtime("a", "draining")))]);
    let ended = gateway.arw(&["runtime", "stop", "a", "--wait", "1ms"]).expect(1);
    assert!(ended.err.contains("is still draining after 1ms"), "{}", ended.err);
    let ended = gateway.arw(&["runtime", "stop", "a", "--wait", "0s"]).expect(0);
    assert!(ended.out.contains("draining"));
    assert_eq!(gateway.asked().last().unwrap().path, "/runtimes/a/stop");
}

#[test]
fn removing_and_revoking_say_so_and_show_nothing() {
    let gateway = Gateway::with(&[
        ("DELETE /runtimes/a", empty(204)),
        ("DELETE /models/a%20b", empty(204)),
        ("DELETE /tokens/t1", empty(204)),
    ]);
    for arguments in [&["runtime", "remove", "a"][..], &["model", "rm", "a b"], &["token", "revoke", "t1"]] {
        let ended = gateway.arw(arguments).expect(0);
        assert!(ended.out.is_empty() && ended.err.contains("is re"), "{ended:?}");
    }
}

#[test]
fn every_kind_of_token_is_revoked_by_its_own_path_and_shown_as_it_is_then() {
    let join = json!({"id": "0a", "state": "revoked", "roles": ["worker"], "uses_max": 1, "used": [],
        "created_at": "2026-11-24T12:00:00Z", "expires_at": "2026-11-24T13:00:00Z"});
    let gateway = Gateway::with(&[
        ("GET /tokens", answer(200, &bodies::tokens())),
        ("DELETE /tokens/t2", empty(204)),
        ("GET /cluster/tokens", answer(200, &json!({"tokens": [join]}))),
        ("DELETE /cluster/tokens/0a", empty(204)),
    ]);
    for (arguments, row, line) in [
        (&["token", "revoke", "t2"][..], &bodies::tokens()["tokens"][1], "token t2 is revoked"),
        (&["cluster", "token", "revoke", "0a"], &join, "join token 0a is revoked"),
    ] {
        let told = gateway.arw(arguments).expect(0).err;
        assert!(told.lines().any(|told| told.trim_end_matches('.') == line), "{told}");
        assert_eq!(&gateway.arw(&[arguments, &["-o", "json"]].concat()).expect(0).json(), row);
    }
}

#[test]
fn a_new_token_alone_is_on_standard_output() {
    let mut row = bodies::tokens()["tokens"][0].clone();
    row["token"] = json!("arw_t1_secret");
    let gateway = Gateway::with(&[("POST /tokens", answer(201, &row))]);
    let ended = gateway
        .arw(&["token", "create", "laptop", "--scope", "infer,state:read", "--expires-in", "30d"])
        .expect(0);
    assert_eq!(ended.out, "arw_t1_secret\n");
    assert!(ended.err.contains("shown this once"), "{}", ended.err);
    assert_eq!(
        gateway.asked()[0].body,
        json!({"name": "laptop", "scopes": ["infer", "state:read"], "expires_in_s": 2_592_000})
    );
    assert_eq!(gateway.arw(&["token", "create", "laptop", "-o", "json"]).expect(0).json(), row);
    assert!(gateway.arw(&["token", "create", "laptop", "-o", "csv"]).expect(0).out.contains("arw_t1_secret"));
}

#[test]
fn a_removal_says_whether_a_name_goes_or_the_model() {
    let with = |before: &serde_json::Value, after: &serde_json::Value| {
        let mut rows = vec![after.clone(), before.clone()];
        Gateway::start(move |asked| match asked.method.as_str() {
            "GET" => answer(200, &bodies::envelope("models", &rows.pop().unwrap())),
            _ => empty(204),
        })
    };
    let two = json!([bodies::model_with_two_names()]);
    let removed = |after: serde_json::Value, arguments: &[&str]| with(&two, &after).arw(arguments).expect(0);
    let ended = removed(json!([bodies::model()]), &["model", "rm", "rel"]);
    assert_eq!(
        ended.err,
        "rel is no longer a name of the model, which stays as SmolLM2-135M-Instruct.Q4_1\n"
    );
    let ended = removed(json!([]), &["model", "rm", "abababab"]);
    assert!(
        ended.err.contains("is removed with its names SmolLM2-135M-Instruct.Q4_1, rel; its 98 MB"),
        "{}",
        ended.err
    );
    let ended = removed(json!([bodies::model()]), &["model", "rm", "rel", "-o", "json"]);
    let told = json!({"removed": "rel", "sha256": "ab".repeat(32), "stays_as": "SmolLM2-135M-Instruct.Q4_1"});
    assert_eq!((ended.json(), ended.err.as_str()), (told, ""));
}

#[test]
fn what_was_done_is_an_object_for_programs_in_every_form() {
    let gateway = Gateway::with(&[("DELETE /runtimes/a", empty(204))]);
    let form = |form: &str| gateway.arw(&["runtime", "rm", "a", "-o", form]).expect(0);
    let done = json!({"id": "a", "removed": true});
    assert_eq!(form("json").json(), done);
    assert_eq!(form("ndjson").json(), done);
    assert_eq!(serde_saphyr::from_str::<serde_json::Value>(&form("yaml").out).unwrap(), done);
    assert_eq!(form("csv").out, "id,removed\na,true\n");
    assert_eq!(form("json").err, "");
}

#[test]
fn known_content_is_told_with_the_name_that_it_has() {
    let last = json!({"model": bodies::model_with_two_names(), "known": true});
    let gateway = Gateway::with(&[("POST /models/import", import_answer(&last))]);
    std::fs::write(gateway.state_dir.path().join("m.gguf"), "GGUF").unwrap();
    let ended = gateway.arw(&["model", "import", "m.gguf", "--name", "rel"]).expect(0);
    let same =
        "the same content as SmolLM2-135M-Instruct.Q4_1, so nothing was copied: rel is another name of it";
    assert!(ended.err.contains(same) && ended.out.contains("rel"), "{ended:?}");
}

#[cfg(target_os = "linux")]
#[test]
fn a_file_that_cannot_be_named_to_the_node_or_a_link_to_nothing_says_what_is_wrong_with_it() {
    use std::os::unix::ffi::OsStrExt;
    let gateway = Gateway::with(&[]);
    let folder = gateway.state_dir.path();
    let odd = folder.join(std::ffi::OsStr::from_bytes(b"bad\xff.gguf"));
    std::fs::write(&odd, arw_actors::model::testkit::tiny_gguf("odd")).unwrap();
    let mut command = gateway.command(&["model", "import"]);
    let ended = run(
        {
            command.arg(&odd);
            command
        },
        "",
    )
    .expect(1);
    assert!(ended.err.contains("its path is not UTF-8") && ended.err.contains("ln -s"), "{}", ended.err);
    std::os::unix::fs::symlink("/nowhere/blob", folder.join("link.gguf")).unwrap();
    let ended = gateway.arw(&["model", "import", "link.gguf"]).expect(1);
    assert!(
        ended.err.contains("it is a symbolic link to /nowhere/blob, which does not exist"),
        "{}",
        ended.err
    );
    assert!(gateway.asked().is_empty());
    // Without a node the path goes through no API.
    let mut command = gateway::arw(folder, &["model", "import"]);
    let ended = run(
        {
            command.arg(&odd);
            command
        },
        "",
    )
    .expect(0);
    assert!(ended.out.contains("bad"), "{ended:?}");
}

fn import_answer(last: &serde_json::Value) -> gateway::Answer {
    let progress = |done: u64| json!({"progress": {"done_bytes": done, "total_bytes": 98_000_000}});
    let text = format!("{}\n{}\n{last}\n", progress(49_000_000), progress(98_000_000));
    lines("application/x-ndjson", &text)
}

#[test]
fn an_import_tells_its_progress_and_shows_the_model() {
    let gateway =
        Gateway::with(&[("POST /models/import", import_answer(&json!({"model": bodies::model()})))]);
    let file = gateway.state_dir.path().join("a model.gguf");
    std::fs::write(&file, "GGUF").unwrap();
    let ended = gateway.arw(&["model", "import", "a model.gguf", "--name", "m", "-o", "json"]).expect(0);
    assert_eq!(ended.json(), bodies::model());
    assert_eq!(
        ended.err,
        "importing a model.gguf: 50 % (49 MB of 98 MB)\nimporting a model.gguf: 100 % (98 MB of 98 MB)\n"
    );
    let asked = &gateway.asked()[0].body;
    let path = std::path::Path::new(asked["path"].as_str().unwrap());
    assert!(path.is_absolute() && path.ends_with("a model.gguf"), "{asked}");
    assert_eq!(asked["name"], json!("m"));
}

#[test]
fn an_import_that_fails_midway_is_told_in_the_nodes_words() {
    let problem = json!({"error": bodies::problem(422, "not a model", "the file is cut off after 1234 bytes", "download it again")});
    let gateway = Gateway::with(&[("POST /models/import", import_answer(&problem))]);
    std::fs::write(gateway.state_dir.path().join("m.gguf"), "GGUF").unwrap();
    let ended = gateway.arw(&["model", "import", "m.gguf"]).expect(1);
    assert!(
        ended.err.contains("why: the file is cut off after 1234 bytes\n  do:  download it again"),
        "{}",
        ended.err
    );
    let silent = Gateway::with(&[(
        "POST /models/import",
        lines("application/x-ndjson", "{\"progress\":{\"done_bytes\":1,\"total_bytes\":2}}\n"),
    )]);
    std::fs::write(silent.state_dir.path().join("m.gguf"), "GGUF").unwrap();
    assert!(
        silent.arw(&["model", "import", "m.gguf"]).expect(1).err.contains("ended before the import was done")
    );
}

#[test]
fn a_file_that_is_not_there_is_told_before_the_node_is_asked() {
    let gateway = Gateway::with(&[]);
    let ended = gateway.arw(&["model", "import", "nothing.gguf"]).expect(1);
    assert!(ended.err.contains("cannot import nothing.gguf"), "{}", ended.err);
    assert!(gateway.arw(&["model", "import", "."]).expect(1).err.contains("not a regular file"));
    assert!(gateway.asked().is_empty());
}

#[test]
fn the_state_folder_leads_to_the_node_and_its_token() {
    let gateway = Gateway::with(&[("GET /tokens", answer(200, &bodies::tokens()))]);
    gateway.write_node_files();
    run(gateway::arw(gateway.state_dir.path(), &["token", "list"]), "").expect(0);
    assert_eq!(gateway.asked()[0].header("authorization"), "Bearer arw_local_secret");
    let mut command = gateway::arw(gateway.state_dir.path(), &["token", "list"]);
    command.env("ARW_TOKEN", "arw_other_secret");
    run(command, "").expect(0);
    assert_eq!(gateway.asked()[1].header("authorization"), "Bearer arw_other_secret");
}
