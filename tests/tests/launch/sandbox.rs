//! What a launched program cannot do, tried by the program itself.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use arw_actors::runtime::launcher::{Cause, LaunchSpec, Launcher as _};

use crate::kit::{Node, exit_of};

/// A path that is no absolute file name: absolute ones in the arguments are opened for the program.
fn unnamed(node: &Node, path: &Path) -> String {
    let up = "../".repeat(node.scratch().components().count());
    format!("{up}{}", path.strip_prefix("/").unwrap().display())
}

fn answer(node: &Node, start: &str) -> String {
    let lines = node.all_lines();
    let line = lines.iter().find_map(|line| line.strip_prefix(start));
    line.unwrap_or_else(|| panic!("no line `{start}` in {lines:#?}")).trim_start_matches(": ").to_owned()
}

#[tokio::test]
async fn it_reads_only_what_it_was_given() {
    let node = Node::new();
    let secret = node.outside().join("secret");
    let given = node.outside().join("given");
    std::fs::create_dir(&given).unwrap();
    std::fs::write(&secret, "secret").unwrap();
    std::fs::write(given.join("lora"), "lora").unwrap();
    std::fs::write(node.outside().join("named"), "named").unwrap();
    std::fs::write(node.state_dir().join("node.key"), "key").unwrap();
    let model = node.outside().join("model.gguf");
    std::fs::write(&model, "GGUF and so on").unwrap();
    let named = node.outside().join("named").display().to_string();
    let paths = [secret.as_path(), Path::new("/etc/shadow"), &given.join("lora")].map(|p| unnamed(&node, p));
    let key = unnamed(&node, &node.state_dir().join("node.key"));
    let [secret, shadow, lora] = &paths;
    let mut args = vec!["--host={socket}", "--model", "{model}"];
    for path in [secret, shadow, lora, &named, &key] {
        args.extend(["--read-file", path]);
    }
    let mut spec = node.spec(&args);
    spec.model = Some(model);
    let gone = node.outside().join("gone");
    spec.allow_read = vec![given, gone];
    let engine = node.launch_spec(spec).await.unwrap();
    node.line("listening on").await;
    if engine.sandbox().landlock_abi.is_none() {
        eprintln!("skipped: this kernel has no Landlock");
        return;
    }
    assert!(
        engine.sandbox().notes.iter().any(|note| note.ends_with("gone: it is not there")),
        "{:?}",
        engine.sandbox()
    );
    for denied in [secret, shadow, &key] {
        assert!(answer(&node, &format!("probe read {denied}")).contains("Permission denied"), "{denied}");
    }
    assert_eq!(answer(&node, &format!("probe read {lora}")), "ok, 4 bytes");
    assert_eq!(answer(&node, &format!("probe read {named}")), "ok, 5 bytes");
}

/// Whatever names a file of the state folder, by whichever way, is refused before anything runs.
#[tokio::test]
async fn nothing_that_a_runtime_names_opens_the_nodes_state() {
    use std::os::unix::fs::symlink;
    let node = Node::new();
    let key = node.state_dir().join("node.key");
    std::fs::write(&key, "key").unwrap();
    let link = node.outside().join("link");
    symlink(node.state_dir(), &link).unwrap();
    // As a bind mount would be: no link to follow, and the same file.
    let same = node.outside().join("same");
    std::fs::hard_link(&key, &same).unwrap();
    let script = node.state_dir().join("script.sh");
    std::fs::write(&script, "#!/bin/sh\n").unwrap();
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
    let plain = || node.spec(&["--print-env"]);
    let around = node.outside().join("state/models/../node.key");
    std::fs::create_dir_all(node.state_dir().join("models")).unwrap();
    let specs = [
        ("allow_read", LaunchSpec { allow_read: vec![node.state_dir()], ..plain() }),
        ("above", LaunchSpec { allow_read: vec![node.outside()], ..plain() }),
        ("exec", LaunchSpec { allow_exec: vec![node.state_dir().join("runtime")], ..plain() }),
        ("link", LaunchSpec { allow_read: vec![link.join("node.key")], ..plain() }),
        ("the same file", LaunchSpec { allow_read: vec![same], ..plain() }),
        ("around", LaunchSpec { allow_read: vec![around.clone()], ..plain() }),
        ("argument", LaunchSpec { args: vec![key.display().to_string()], ..plain() }),
        (
            "linked argument",
            LaunchSpec { args: vec![link.join("node.key").display().to_string()], ..plain() },
        ),
        ("argument around", LaunchSpec { args: vec![format!("--x={}", around.display())], ..plain() }),
        ("model", LaunchSpec { model: Some(link.join("node.key")), ..plain() }),
        ("program", LaunchSpec { program: script, ..plain() }),
        ("root", LaunchSpec { allow_read: vec!["/".into()], ..plain() }),
        ("proc", LaunchSpec { allow_exec: vec!["/proc".into()], ..plain() }),
    ];
    for (name, spec) in specs {
        let error = node.launch_spec(spec).await.expect_err(name);
        assert_eq!(error.0.cause, Cause::SandboxDenied, "{name}: {error:?}");
        assert!(error.0.permanent && error.0.hint.is_some(), "{name}: {error:?}");
    }
}

#[tokio::test]
async fn a_runtime_that_names_the_nodes_state_is_refused_when_it_is_added() {
    let node = Node::new();
    let key = node.state_dir().join("node.key");
    std::fs::write(&key, "key").unwrap();
    let spec = |fields: serde_json::Value| {
        let mut whole = serde_json::json!({"id": "m", "adapter": "process", "program": crate::kit::FAKE});
        whole.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        serde_json::from_value::<arw_actors::runtime::spec::RuntimeSpec>(whole).unwrap()
    };
    node.launcher.check(&spec(serde_json::json!({"args": ["{socket}"]}))).await.unwrap();
    for fields in [
        serde_json::json!({"allow_read": [node.state_dir()]}),
        serde_json::json!({"allow_exec": [node.outside()]}),
        serde_json::json!({"args": [format!("--file={}", key.display())]}),
    ] {
        let error = node.launcher.check(&spec(fields.clone())).await.expect_err(&fields.to_string());
        assert!(error.0.detail.contains("the node's"), "{error:?}");
    }
}

#[tokio::test]
async fn a_start_script_runs_a_server_of_another_folder_when_that_is_allowed() {
    let node = Node::new();
    let elsewhere = node.outside().join("elsewhere");
    std::fs::create_dir(&elsewhere).unwrap();
    let server = elsewhere.join("server");
    std::fs::copy("/bin/true", &server).unwrap();
    // What lies in the script's own folder would be open anyway.
    std::fs::create_dir(node.outside().join("scripts")).unwrap();
    let script = node.outside().join("scripts/start.sh");
    // Two steps, so that the path is no argument.
    std::fs::write(&script, format!("#!/bin/sh\n{}\necho result $?\n", server.display())).unwrap();
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
    for (read, exec, wanted) in [
        (vec![elsewhere.clone()], Vec::new(), "result 126"),
        (Vec::new(), vec![elsewhere.clone()], "result 0"),
    ] {
        let node = Node::new();
        let spec =
            LaunchSpec { program: script.clone(), allow_read: read, allow_exec: exec, ..node.spec(&[]) };
        let mut engine = node.launch_spec(spec).await.unwrap();
        if engine.sandbox().landlock_abi.is_none() {
            eprintln!("skipped: this kernel has no Landlock");
            return;
        }
        exit_of(&mut engine).await;
        assert_eq!(node.line("result").await, wanted);
    }
}

#[tokio::test]
async fn it_writes_only_its_scratch_folder_and_executes_nothing_from_there() {
    let node = Node::new();
    let outside = unnamed(&node, &node.outside().join("file"));
    let beside = unnamed(&node, &node.state_dir().join("runtime/m/file"));
    let own = Path::new(crate::kit::FAKE).parent().unwrap().join("written-by-a-test");
    let own = unnamed(&node, &own);
    let args = ["--write-file", &outside, "--write-file", &beside, "--write-file", &own];
    let mut all = args.to_vec();
    all.extend(["--write-file", "inside", "--execute", "/bin/true", "--host={socket}"]);
    let engine = node.launch(&all).await;
    node.line("listening on").await;
    if engine.sandbox().landlock_abi.is_none() {
        eprintln!("skipped: this kernel has no Landlock");
        return;
    }
    for denied in [&outside, &beside, &own] {
        assert!(answer(&node, &format!("probe write {denied}")).contains("Permission denied"), "{denied}");
    }
    assert_eq!(answer(&node, "probe write inside"), "ok, written");
    assert_eq!(answer(&node, "probe execute /bin/true"), "ok, exit status: 0");
    assert!(node.scratch().join("inside").exists());
    assert_eq!(std::fs::metadata(node.scratch()).unwrap().permissions().mode() & 0o777, 0o700);
    drop(engine);

    // The next start finds an empty folder.
    let _engine = node.launch(&["--read-file", "inside"]).await;
    let line = node.line("probe read inside").await;
    assert!(line.contains("No such file"), "{line}");
}

#[tokio::test]
async fn nothing_written_can_be_executed() {
    let node = Node::new();
    let mut spec = node.spec(&["-c", "cp /bin/true ./mine; ./mine; echo result $?"]);
    spec.program = "sh".into();
    let mut engine = node.launch_spec(spec).await.unwrap();
    if engine.sandbox().landlock_abi.is_none() {
        eprintln!("skipped: this kernel has no Landlock");
        return;
    }
    exit_of(&mut engine).await;
    assert_eq!(node.line("result").await, "result 126");
}

#[tokio::test]
async fn it_uses_no_network_but_its_own_address() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    for host in [["--host", "{socket}"], ["--port", "{port}"]] {
        let node = Node::new();
        let engine = node.launch(&["--connect", &address, "--bind-udp", host[0], host[1]]).await;
        node.line("listening on").await;
        let sandbox = engine.sandbox();
        assert!(sandbox.seccomp, "{sandbox:?}");
        assert!(answer(&node, "probe bind-udp 127.0.0.1").contains("Operation not permitted"));
        if sandbox.landlock_abi.is_some_and(|abi| abi >= 4) || host[0] == "--host" {
            let tried = answer(&node, &format!("probe connect {address}"));
            assert!(tried.contains("denied") || tried.contains("not permitted"), "{tried}");
        }
    }
}

#[tokio::test]
async fn another_port_than_its_own_cannot_be_bound_and_the_diagnosis_says_so() {
    let node = Node::new();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    drop(taken);
    let mut spec = node.spec(&["--host", "127.0.0.1", "--port", &port]);
    spec.args.push("--alias={port}".into());
    let mut engine = node.launch_spec(spec).await.unwrap();
    if engine.sandbox().landlock_abi.is_none_or(|abi| abi < 4) {
        eprintln!("skipped: this kernel's Landlock cannot restrict TCP");
        return;
    }
    let exit = exit_of(&mut engine).await;
    assert_eq!(exit.diagnosis.cause, Cause::SandboxDenied, "{exit:?}");
}

/// Mode and time of the last change.
fn mode_and_time(file: &Path) -> (u32, i64) {
    use std::os::unix::fs::MetadataExt as _;
    let about = std::fs::metadata(file).unwrap();
    (about.mode() & 0o7777, about.mtime())
}

#[tokio::test]
async fn it_changes_the_mode_of_no_file_not_even_of_its_own() {
    let node = Node::new();
    let others = node.outside().join("admin.token");
    std::fs::write(&others, "x").unwrap();
    std::fs::set_permissions(&others, std::fs::Permissions::from_mode(0o600)).unwrap();
    let path = unnamed(&node, &others);
    let engine = node.launch(&["--change-mode", &path, "--write-file", "own", "--change-mode", "own"]).await;
    let mut line = String::new();
    for file in [path.as_str(), "own"] {
        line = node.line(&format!("probe change-mode {file}")).await;
        assert!(line.ends_with("ok, changed"), "{line}");
    }
    assert_eq!(mode_and_time(&others).0, 0o600);
    assert_ne!(mode_and_time(&node.scratch().join("own")).0, 0o666, "{line}");
    let notes = &engine.sandbox().notes;
    assert!(notes.iter().any(|note| note.contains("chmod") && note.contains("change nothing")), "{notes:?}");
}

#[tokio::test]
async fn scripts_copy_and_unpack_in_its_folder_and_change_no_mode_and_no_time() {
    const SCRIPT: &str = r#"
        set -e
        umask 022
        echo x > old; chmod 600 old; touch -d @0 old
        touch new
        mkdir -m 700 folder; cp old folder/old
        cp -p old copied; cp -a folder copied-folder
        install -m 600 old installed
        tar cf all.tar old folder; mkdir unpacked; tar xf all.tar -C unpacked
        chmod 666 "$1"; touch -c -d @0 "$1"; chown "$(id -u):$(id -g)" "$1"
        echo "result done"
    "#;
    const PYTHON: &str = r#"
        if command -v python3; then
            python3 -c 'import shutil
shutil.copy("old", "by-copy"); shutil.copy2("old", "by-copy2"); shutil.copytree("folder", "by-copytree")'
        fi
        echo "result of python done"
    "#;
    let node = Node::new();
    let others = node.outside().join("admin.token");
    std::fs::write(&others, "x").unwrap();
    std::fs::set_permissions(&others, std::fs::Permissions::from_mode(0o600)).unwrap();
    let before = mode_and_time(&others);
    let mut spec = node.spec(&["-c", &format!("{SCRIPT}{PYTHON}"), "sh", &unnamed(&node, &others)]);
    spec.program = "sh".into();
    spec.env.insert("PATH".into(), "/usr/bin:/bin".into());
    let mut engine = node.launch_spec(spec).await.unwrap();
    assert!(engine.sandbox().seccomp, "{:?}", engine.sandbox());
    exit_of(&mut engine).await;
    let lines = node.all_lines();
    for wanted in ["result done", "result of python done"] {
        assert!(lines.iter().any(|line| line == wanted), "{lines:#?}");
    }
    assert_eq!(mode_and_time(&others), before);
    for file in ["old", "copied", "folder/old", "unpacked/folder/old"] {
        let (mode, time) = mode_and_time(&node.scratch().join(file));
        assert!(mode == 0o644 || !file.ends_with("old") || file.starts_with("unpacked"), "{file}: {mode:o}");
        assert!(time >= before.1, "{file}: {time}");
    }
}

#[tokio::test]
async fn it_reaches_no_unix_socket_of_the_machine_and_serves_all_the_same() {
    for host in [["--host", "{socket}"], ["--port", "{port}"]] {
        let node = Node::new();
        let [stream, datagram] = ["bus.sock", "log.sock"].map(|name| node.outside().join(name));
        let _bus = std::os::unix::net::UnixListener::bind(&stream).unwrap();
        let _log = std::os::unix::net::UnixDatagram::bind(&datagram).unwrap();
        let [stream, datagram] = [stream, datagram].map(|path| path.display().to_string());
        let args = ["--connect-unix", &stream, "--send-unix", &datagram, host[0], host[1]];
        let engine = node.launch(&args).await;
        node.line("listening on").await;
        assert_eq!(engine.sandbox().unix_connect, "denied", "{:?}", engine.sandbox());
        for tried in [format!("probe connect-unix {stream}"), format!("probe send-unix {datagram}")] {
            let answer = answer(&node, &tried);
            assert!(answer.contains("Operation not permitted"), "{tried}: {answer}");
        }
        assert_eq!(crate::kit::ask(&*engine, "GET", "/health", None, "").await.0, 200);
    }
}

#[tokio::test]
async fn connecting_to_unix_sockets_is_allowed_per_runtime_and_the_report_says_so() {
    let node = Node::new();
    let path = node.outside().join("bus.sock");
    let _bus = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let mut spec = node.spec(&["--connect-unix", &path.display().to_string(), "--host", "{socket}"]);
    spec.allow_unix_connect = true;
    let engine = node.launch_spec(spec).await.unwrap();
    node.line("listening on").await;
    let report = engine.sandbox();
    let tried = answer(&node, &format!("probe connect-unix {}", path.display()));
    if report.unix_connect == "own_folder" {
        assert!(tried.contains("denied"), "{tried}");
        return;
    }
    assert_eq!((report.unix_connect, tried.as_str()), ("unrestricted", "ok, connected"), "{report:?}");
    assert!(report.notes.iter().any(|note| note.contains("every Unix socket")), "{report:?}");
}

#[tokio::test]
async fn it_has_no_capability_and_cannot_get_one() {
    let node = Node::new();
    let engine = node.serve(&[]).await;
    assert!(engine.sandbox().capabilities_dropped, "{:?}", engine.sandbox());
    let status = std::fs::read_to_string(format!("/proc/{}/status", engine.pid())).unwrap();
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap_or_else(|| panic!("{status}")).trim_start_matches(':').trim().to_owned()
    };
    for set in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
        assert_eq!(field(set), "0000000000000000", "{set}");
    }
    assert_eq!((field("NoNewPrivs"), field("Seccomp")), ("1".into(), "2".into()));
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", engine.pid())).unwrap();
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert_eq!(core.split_whitespace().nth(4), Some("0"), "{core}");
}

#[tokio::test]
async fn it_cannot_look_into_the_node_or_signal_it() {
    let node = Node::new();
    let own = std::process::id().to_string();
    let environ = format!("{}proc/{own}/environ", "../".repeat(node.scratch().components().count()));
    let args = ["--read-file", &environ, "--signal-pid", &own, "--host={socket}"];
    let engine = node.launch(&args).await;
    node.line("listening on").await;
    if engine.sandbox().landlock_abi.is_none_or(|abi| abi < 6) {
        eprintln!("skipped: this kernel's Landlock cannot restrict signals");
        return;
    }
    assert!(answer(&node, &format!("probe read {environ}")).contains("denied"));
    // In a namespace of its own it does not even see the process.
    let tried = answer(&node, &format!("probe signal {own}"));
    assert!(tried.contains("not permitted") || tried.contains("No such process"), "{tried}");
}

#[tokio::test]
async fn the_report_says_what_is_enforced() {
    let node = Node::new();
    let engine = node.serve(&[]).await;
    let report = engine.sandbox();
    assert_eq!(report.network, "unix_socket_only");
    assert!(report.seccomp && report.capabilities_dropped);
    let plain = Node::with_namespace(false);
    let engine = plain.serve(&[]).await;
    assert!(
        engine.sandbox().notes.iter().any(|note| note.contains("pid namespace")),
        "{:?}",
        engine.sandbox()
    );
}
