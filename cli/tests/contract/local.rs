//! Commands that need no node: settings, doctor, completions, manual pages.

use serde_json::{Value, json};

use crate::bodies;
use crate::gateway::{Gateway, arw, json as answer, run};

#[test]
fn each_setting_shows_where_it_came_from() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("arw.toml"), "[log]\nlevel = \"warn\"\n").unwrap();
    let explain = |form: &str| {
        let mut command = arw(dir.path(), &["config", "explain", "-o", form]);
        command.env("ARW_GATEWAY__HTTP", "127.0.0.1:9000");
        run(command, "").expect(0)
    };
    let body = explain("json").json();
    let row = |key: &str| {
        body["settings"].as_array().unwrap().iter().find(|row| row["key"] == key).unwrap().clone()
    };
    assert_eq!(row("gateway.http")["source"], json!({"kind": "environment", "name": "ARW_GATEWAY__HTTP"}));
    assert_eq!(row("log.level")["source"]["line"], json!(2));
    assert_eq!(row("log.format")["source"], json!({"kind": "default"}));
    assert_eq!(row("node.state_dir")["source"], json!({"kind": "environment", "name": "ARW_STATE_DIR"}));
    assert!(explain("csv").out.starts_with("key,value,source,environment\n"));
    assert_eq!(serde_saphyr::from_str::<Value>(&explain("yaml").out).unwrap(), body);
    assert_eq!(explain("ndjson").out.lines().count(), body["settings"].as_array().unwrap().len());
    let table = explain("table");
    assert!(table.out.contains("environment ARW_GATEWAY__HTTP") && table.err.contains("(read)"), "{table:?}");
}

#[test]
fn a_flag_wins_and_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let ended =
        run(arw(dir.path(), &["--state-dir", "/elsewhere", "config", "explain", "-o", "csv"]), "").expect(0);
    assert!(ended.out.contains("node.state_dir,\"\"\"/elsewhere\"\"\",flag --state-dir,"), "{}", ended.out);
}

#[test]
fn wrong_settings_are_told_with_place_and_nearest_name() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("arw.toml"), "[gateway]\nhttpp = \"127.0.0.1:1\"\n[log]\nlevel = 3\n")
        .unwrap();
    for command in [&["config", "explain"][..], &["up"]] {
        let ended = run(arw(dir.path(), command), "").expect(2);
        assert!(
            ended.err.contains("arw.toml:2:1: unknown key `gateway.httpp`; did you mean `gateway.http`?"),
            "{}",
            ended.err
        );
        assert!(ended.err.contains("arw.toml:4:1: `log.level` takes one of"), "{}", ended.err);
    }
    let ended = run(arw(dir.path(), &["up", "--config", "missing.toml"]), "").expect(2);
    assert!(ended.err.contains("there is no such file"), "{}", ended.err);
}

#[test]
fn a_variable_that_looks_like_a_setting_is_warned_about() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = arw(dir.path(), &["config", "explain", "-o", "json"]);
    command.env("ARW_LOG__LEVLE", "debug");
    let ended = run(command, "").expect(0);
    assert!(
        ended.err.contains("ARW_LOG__LEVLE is no setting and is ignored; did you mean ARW_LOG__LEVEL?"),
        "{}",
        ended.err
    );
}

#[test]
fn a_variable_that_is_set_to_nothing_is_named() {
    let dir = tempfile::tempdir().unwrap();
    for (name, command) in [
        ("ARW_STATE_DIR", &["status"][..]),
        ("ARW_STATE_DIR", &["up"]),
        ("ARW_CONFIG", &["config", "explain"]),
    ] {
        let mut command = arw(dir.path(), command);
        command.env(name, "");
        let ended = run(command, "").expect(2);
        assert!(ended.err.contains(&format!("the environment variable {name} is empty")), "{}", ended.err);
        assert!(ended.err.contains("unset it"), "{}", ended.err);
    }
    // A flag wins over it, also where it is nothing.
    let mut command = arw(dir.path(), &["config", "explain", "--state-dir", "/elsewhere"]);
    command.env("ARW_STATE_DIR", "");
    run(command, "").expect(0);
    let ended = run(arw(dir.path(), &["status", "--state-dir", ""]), "").expect(2);
    assert!(
        ended.err.contains("--state-dir") && !ended.err.contains("environment variable"),
        "{}",
        ended.err
    );
}

#[test]
fn variables_of_flags_are_known_and_mistyped_ones_lead_to_them() {
    let dir = tempfile::tempdir().unwrap();
    let told = |name: &str| {
        let mut command = arw(dir.path(), &["config", "explain"]);
        command.env(name, "x");
        run(command, "").expect(0).err
    };
    assert!(!told("ARW_JOIN_TOKEN").contains("warning"));
    assert!(!told("ARW_ENGINE_MARK").contains("warning"));
    assert!(told("ARW_SERVR").contains("did you mean ARW_SERVER?"));
    assert!(told("ARW_TOKN").contains("did you mean ARW_TOKEN?"));
}

#[cfg(target_os = "linux")]
#[test]
fn a_node_that_cannot_have_its_folder_names_it_and_the_flag_and_says_where_it_came_from() {
    let dir = tempfile::tempdir().unwrap();
    let ended = run(arw(dir.path(), &["up", "--state-dir", "/proc/arw"]), "").expect(1);
    assert!(ended.err.contains("/proc/arw") && ended.err.contains("--state-dir"), "{}", ended.err);
    // Where there is no home and the working folder cannot be written either.
    let mut command = arw(dir.path(), &["up"]);
    command.env_remove("HOME").env_remove("ARW_STATE_DIR").current_dir("/proc");
    let ended = run(command, "").expect(1);
    for wanted in ["neither HOME nor XDG_DATA_HOME", "/proc/arw-state", "--state-dir"] {
        assert!(ended.err.contains(wanted), "{}\nlacks {wanted}", ended.err);
    }
}

#[test]
fn a_node_cannot_be_started_elsewhere() {
    let dir = tempfile::tempdir().unwrap();
    let ended = run(arw(dir.path(), &["--server", "http://127.0.0.1:1", "up"]), "").expect(2);
    assert!(ended.err.contains("starts a node on this machine"), "{}", ended.err);
}

fn free_port() -> String {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}

#[test]
fn doctor_is_content_with_a_machine_that_can_run_a_node() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = arw(dir.path(), &["doctor", "-o", "json"]);
    command.env("ARW_GATEWAY__HTTP", free_port()).env("ARW_CLUSTER__LISTEN", "127.0.0.1:0");
    let body = run(command, "").expect(0).json();
    assert_eq!(body["ok"], json!(true));
    let names: Vec<&str> =
        body["checks"].as_array().unwrap().iter().map(|check| check["check"].as_str().unwrap()).collect();
    assert_eq!(names[..6], ["settings", "state folder", "disk space", "admin token", "port", "node"]);
    assert_eq!(names[6..9], ["node key", "UDP port", "clock"]);
}

#[test]
fn doctor_fails_and_says_what_to_do_where_something_is_broken() {
    let dir = tempfile::tempdir().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    std::fs::write(
        dir.path().join("arw.toml"),
        format!("[gateway]\nhttp = \"{}\"\n", taken.local_addr().unwrap()),
    )
    .unwrap();
    std::fs::write(dir.path().join("admin.token"), "t").unwrap();
    std::fs::set_permissions(
        dir.path().join("admin.token"),
        std::os::unix::fs::PermissionsExt::from_mode(0o644),
    )
    .unwrap();
    let ended = run(arw(dir.path(), &["doctor"]), "").expect(1);
    for wanted in
        ["broken   port", "is taken by pid", "do: stop it", "broken   admin token", "chmod 600", "2 broken"]
    {
        assert!(ended.out.contains(wanted), "{}\nlacks {wanted}", ended.out);
    }
    let csv = run(arw(dir.path(), &["doctor", "-o", "csv"]), "").expect(1);
    assert!(csv.out.starts_with("check,verdict,found,do\nsettings,ok,"), "{}", csv.out);
}

#[test]
fn doctor_looks_at_the_node_and_its_runtimes() {
    let gateway = Gateway::with(&[
        ("GET /state/node", answer(200, &bodies::node())),
        ("GET /state/runtimes", answer(200, &bodies::runtimes())),
    ]);
    let ended = gateway.arw(&["doctor"]).expect(1);
    assert!(ended.out.contains("warning  node") && ended.out.contains("broken   runtimes"), "{}", ended.out);
    assert!(ended.out.contains("broken is quarantined: 5 restarts within 5 min"), "{}", ended.out);
    assert!(
        !ended.out.contains("state folder"),
        "a node elsewhere says nothing about this machine: {}",
        ended.out
    );
}

#[test]
fn completions_are_made_for_every_shell() {
    let dir = tempfile::tempdir().unwrap();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = run(arw(dir.path(), &["completions", shell]), "").expect(0).out;
        assert!(script.contains("runtime") && script.contains("state-dir"), "{shell}");
    }
}

#[test]
fn manual_pages_are_made_for_every_command() {
    let dir = tempfile::tempdir().unwrap();
    let page = run(arw(dir.path(), &["man"]), "").expect(0).out;
    assert!(page.contains(".TH arw 1") && page.contains("ACCESSIBLE"), "{page}");
    run(arw(dir.path(), &["man", "pages"]), "").expect(0);
    for name in ["arw.1", "arw-up.1", "arw-runtime-add.1", "arw-actors-tree.1"] {
        assert!(dir.path().join("pages").join(name).exists(), "{name}");
    }
    let file = dir.path().join("file");
    std::fs::write(&file, "").unwrap();
    run(arw(dir.path(), &["man", "file"]), "").expect(1);
}

#[test]
fn help_has_examples_and_exit_codes() {
    let dir = tempfile::tempdir().unwrap();
    let help = run(arw(dir.path(), &["help"]), "").expect(0).out;
    assert!(help.contains("Exit codes: 0 done, 1 failed"), "{help}");
    let help = run(arw(dir.path(), &["runtime", "add", "--help"]), "").expect(0).out;
    assert!(help.contains("--api-key-file /dev/stdin"), "{help}");
    let mut bare = arw(dir.path(), &[]);
    bare.env_remove("ARW_STATE_DIR");
    let ended = run(bare, "").expect(2);
    assert!(ended.err.contains("arw run MODEL.gguf"), "{}", ended.err);
}

#[test]
fn a_model_is_imported_without_a_node_and_a_wrong_file_leaves_nothing_behind() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("tiny.gguf"), arw_actors::model::testkit::tiny_gguf("tiny")).unwrap();
    std::fs::write(dir.path().join("wrong.gguf"), "this is no model").unwrap();
    let ended =
        run(arw(dir.path(), &["model", "import", "tiny.gguf", "--name", "mine", "-o", "json"]), "").expect(0);
    let row = ended.json();
    assert_eq!((&row["name"], &row["used_by"]), (&json!("mine"), &json!([])));
    assert!(ended.err.contains("no node runs: importing into"), "{}", ended.err);
    // What a killed node leaves behind is no node.
    let mut ended = std::process::Command::new("/bin/true").spawn().unwrap();
    ended.wait().unwrap();
    let stale = json!({"pid": ended.id(), "http": "http://127.0.0.1:9", "started_at": ""});
    std::fs::write(dir.path().join("node.json"), stale.to_string()).unwrap();
    let files = || std::fs::read_dir(dir.path().join("models/by-hash")).unwrap().count();
    let before = files();
    let ended = run(arw(dir.path(), &["model", "import", "wrong.gguf"]), "").expect(1);
    assert!(ended.err.contains("wrong.gguf") && ended.err.contains("GGUF"), "{}", ended.err);
    assert_eq!(files(), before);
}
