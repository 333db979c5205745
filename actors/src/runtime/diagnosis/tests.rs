use super::*;

const GGUF: &str = "/models/a.gguf";

struct Case {
    status: ExitStatus,
    lines: Vec<String>,
    oom: bool,
    model: Option<ModelFacts>,
    port: Option<PortFacts>,
    readable: Vec<PathBuf>,
    executable: Vec<PathBuf>,
    links: Vec<(PathBuf, PathBuf)>,
    flags: BTreeSet<String>,
    asked: Asked,
}

fn case(status: ExitStatus, lines: &[&str]) -> Case {
    Case {
        status,
        lines: lines.iter().map(|l| (*l).to_owned()).collect(),
        oom: false,
        model: Some(ModelFacts {
            path: GGUF.into(),
            is_folder: false,
            bytes_then: Some(100),
            bytes_now: Some(100),
        }),
        port: None,
        readable: vec!["/usr".into(), GGUF.into()],
        executable: vec!["/usr".into()],
        links: Vec::new(),
        flags: BTreeSet::new(),
        asked: Asked::Not,
    }
}

impl Case {
    fn diagnose(&self) -> Diagnosis {
        diagnose(&ExitFacts {
            status: self.status,
            asked: self.asked,
            log_lines: &self.lines,
            oom_kill_rose: self.oom,
            model: self.model.clone(),
            port: self.port.clone(),
            readable: Some(&self.readable),
            executable: &self.executable,
            links: &self.links,
            cpu_flags: &self.flags,
        })
    }
}

#[track_caller]
fn check(case: &Case, cause: Cause, detail: &str, hint: &str, permanent: bool) {
    let found = case.diagnose();
    assert_eq!(found.cause, cause, "{found:?}");
    assert!(found.detail.contains(detail), "{found:?}");
    assert!(found.hint.as_deref().unwrap_or("").contains(hint), "{found:?}");
    assert_eq!(found.permanent, permanent, "{found:?}");
}

const ONE: ExitStatus = ExitStatus::Code(1);

#[test]
fn each_line_of_the_table_names_its_cause() {
    for (line, cause, permanent) in [
        (
            "gguf_init_from_file: failed to open GGUF file '/models/a.gguf' (No such file or directory)",
            Cause::ModelMissing,
            true,
        ),
        (
            "gguf_init_from_file: failed to open GGUF file '/models/a.gguf' (Permission denied)",
            Cause::ModelDenied,
            true,
        ),
        ("gguf_init: invalid magic characters: 'PK..', expected 'GGUF'", Cause::ModelNotGguf, true),
        (
            "gguf_init: this GGUF file is version 9 but this program understands only up to 3",
            Cause::ModelNotGguf,
            true,
        ),
        ("gguf_init_from_file_impl: failed to read key-value pairs", Cause::ModelTruncated, true),
        ("gguf_init_from_file_impl: failed to read magic", Cause::ModelTruncated, true),
        ("string length 99 exceeds remaining file size 4", Cause::ModelTruncated, true),
        (
            "llama_model_load: tensor 'a' data is not within the file bounds, model is corrupted",
            Cause::ModelTruncated,
            true,
        ),
        (
            "llama_model_load: error loading model: mmap failed: Cannot allocate memory",
            Cause::OutOfMemory,
            false,
        ),
        ("ggml_aligned_malloc: insufficient memory (attempted to allocate 99 MB)", Cause::OutOfMemory, false),
        (
            "ggml_backend_cpu_buffer_type_alloc_buffer: failed to allocate buffer of size 1",
            Cause::OutOfMemory,
            false,
        ),
        ("terminate called after throwing an instance of 'std::bad_alloc'", Cause::OutOfMemory, false),
        ("cudaMalloc failed: out of memory", Cause::OutOfMemory, false),
        (
            "x: error while loading shared libraries: libgomp.so.1: cannot open shared object file: No such file",
            Cause::LibraryMissing,
            true,
        ),
        ("ModuleNotFoundError: No module named 'xllamacpp'", Cause::LibraryMissing, true),
        ("error: invalid argument: --frobnicate", Cause::BadOption, true),
        ("server.py: error: unrecognized arguments: --x", Cause::BadOption, true),
        (
            "PermissionError: [Errno 13] Permission denied: '/home/u/templates/t.jinja'",
            Cause::SandboxDenied,
            true,
        ),
        ("OSError: [Errno 98] Address already in use", Cause::AddressInUse, false),
    ] {
        let found = case(ONE, &["loading", line, "exiting due to model loading error"]).diagnose();
        assert_eq!((found.cause, found.permanent), (cause, permanent), "{line}: {found:?}");
        assert!(found.hint.is_some(), "{line}: {found:?}");
        assert!(found.detail.ends_with("(exit code 1)"), "{line}: {found:?}");
    }
}

#[test]
fn the_first_matching_line_wins() {
    let lines = ["error: insufficient memory (attempted to allocate 9 MB)", "failed to read magic"];
    check(&case(ONE, &lines), Cause::OutOfMemory, "insufficient", "smaller", false);
}

#[test]
fn stamps_are_left_out_and_warnings_passed_over() {
    let lines = [
        "warning: failed to mlock 99-byte buffer: Cannot allocate memory",
        "0.00.007.148 E gguf_init_from_reader: invalid magic characters: 'garb', expected 'GGUF'",
    ];
    let found = case(ONE, &lines).diagnose();
    assert_eq!(found.cause, Cause::ModelNotGguf);
    assert!(found.detail.starts_with("gguf_init_from_reader: invalid"), "{found:?}");
    let refused = case(ONE, &["Traceback", "PermissionError: [Errno 1] Operation not permitted"]);
    check(&refused, Cause::SandboxDenied, "Errno 1", "no other network", true);
}

#[test]
fn a_denial_outside_the_rules_names_the_path_and_the_flag() {
    let line = "ld: /srv/lib/libfoo.so: Permission denied";
    check(&case(ONE, &[line]), Cause::SandboxDenied, "/srv/lib/libfoo.so", "--allow-read /srv/lib", true);
    // The script is allowed, what it starts is not.
    let lines = [
        "/usr/bin/start: line 2: /opt/x/server: Permission denied",
        "/usr/bin/start: line 2: /opt/x/server: Success",
    ];
    let denied = case(ExitStatus::Code(126), &lines);
    check(&denied, Cause::SandboxDenied, "does not let it run /opt/x/server", "--allow-exec /opt/x", true);
    // The folder that a link leads to is the one to open.
    let mut linked = case(ONE, &["open /usr/share/part2: Permission denied"]);
    linked.links = vec![("/usr/share/part2".into(), "/data/parts/part2".into())];
    check(&linked, Cause::SandboxDenied, "leads to /data/parts/part2", "--allow-read /data/parts", true);
    let quoted = "cannot open \"/srv/with space/x\": Permission denied";
    check(
        &case(ONE, &[quoted]),
        Cause::SandboxDenied,
        "/srv/with space/x",
        "--allow-read /srv/with space",
        true,
    );
    let network = "OSError: [Errno 1] Operation not permitted (socket)";
    check(&case(ONE, &[network]), Cause::SandboxDenied, "socket", "no other network", true);
}

#[test]
fn what_may_be_read_and_not_run_is_told_apart() {
    let only_read = |status, lines: &[&str]| {
        let mut case = case(status, lines);
        case.readable.push("/opt/x".into());
        case
    };
    let shell = ExitStatus::Code(126);
    for line in [
        "/usr/bin/start: line 2: /opt/x/server: Permission denied",
        "/usr/bin/start: 2: exec: /opt/x/server: Permission denied",
        "env: '/opt/x/server': Permission denied",
        "timeout: failed to run command '/opt/x/server': Permission denied",
    ] {
        let denied = only_read(shell, &[line]);
        check(&denied, Cause::SandboxDenied, "read, but not run /opt/x/server", "--allow-exec /opt/x", true);
    }
    let python = [
        "  File \"/usr/lib/python3.12/subprocess.py\", line 1955, in _execute_child",
        "PermissionError: [Errno 13] Permission denied: '/opt/x/server'",
    ];
    let denied = only_read(ONE, &python);
    check(&denied, Cause::SandboxDenied, "read, but not run /opt/x/server", "--allow-exec /opt/x", true);
    // It wanted to read, which the sandbox lets it: the file itself says no.
    let file = only_read(ONE, &["open '/opt/x/secret': Permission denied"]);
    check(&file, Cause::ExitCode, "exit code 1", "log", false);
    // What it may run, and cannot, is not the sandbox's either.
    let mode = only_read(shell, &["/usr/bin/start: line 2: /usr/lib/server: Permission denied"]);
    check(&mode, Cause::ExitCode, "exit code 126", "log", false);
}

#[test]
fn a_denial_without_file_rules_is_not_blamed_on_the_sandbox() {
    let denied = case(ONE, &["open '/srv/x': Permission denied"]);
    let facts = ExitFacts {
        status: ONE,
        asked: Asked::Not,
        log_lines: &denied.lines,
        oom_kill_rose: false,
        model: None,
        port: None,
        readable: None,
        executable: &[],
        links: &[],
        cpu_flags: &denied.flags,
    };
    assert_eq!(diagnose(&facts).cause, Cause::ExitCode);
}

#[test]
fn a_failed_bind_is_told_apart_by_trying_the_port() {
    let line = "couldn't bind HTTP server socket, hostname: 127.0.0.1, port: 4000";
    let mut taken = case(ONE, &[line]);
    taken.port = Some(PortFacts { address: "127.0.0.1:4000".parse().unwrap(), in_use: true });
    check(&taken, Cause::AddressInUse, "127.0.0.1:4000 was taken", "{socket}", false);
    taken.port = Some(PortFacts { address: "127.0.0.1:4000".parse().unwrap(), in_use: false });
    check(&taken, Cause::SandboxDenied, "couldn't bind", "{port}", true);
}

#[test]
fn a_folder_instead_of_a_model_is_said() {
    let mut folder = case(ONE, &["gguf_init_from_file_impl: failed to read magic"]);
    folder.model =
        Some(ModelFacts { path: "/models".into(), is_folder: true, bytes_then: None, bytes_now: None });
    check(&folder, Cause::ModelNotGguf, "/models is a folder", ".gguf", true);
}

#[test]
fn a_kill_from_outside_is_not_ours() {
    let killed = case(ExitStatus::Signal(9), &["error: invalid argument: old news"]);
    check(&killed, Cause::Killed, "killed by SIGKILL (by another process, not by ARW)", "", false);
    check(&case(ExitStatus::Signal(15), &[]), Cause::Killed, "SIGTERM", "", false);
}

#[test]
fn a_kill_by_the_kernel_for_memory_is_said() {
    let mut killed = case(ExitStatus::Signal(9), &[]);
    killed.oom = true;
    check(&killed, Cause::OutOfMemory, "out of memory", "smaller", false);
}

#[test]
fn what_we_asked_for_is_no_failure() {
    let mut stopped = case(ExitStatus::Code(0), &["std::bad_alloc"]);
    stopped.asked = Asked::Terminate;
    check(&stopped, Cause::Stopped, "stopped by ARW", "", false);
    stopped.asked = Asked::KillAfter(Duration::from_millis(2500));
    check(&stopped, Cause::Stopped, "still running 2.5 s after SIGTERM", "", false);
    stopped.asked = Asked::Kill;
    check(&stopped, Cause::Stopped, "killed by ARW", "", false);
}

#[test]
fn an_illegal_instruction_names_the_missing_feature() {
    let line = "system_info: n_threads = 1 / 2 | CPU : SSE3 = 1 | AVX2 = 1 | AVX512 = 1 | REPACK = 1 |";
    let mut ill = case(ExitStatus::Signal(4), &[line]);
    ill.flags = ["pni", "avx2"].map(String::from).into();
    check(&ill, Cause::CpuFeatureMissing, "built for AVX512", "build for this CPU", true);
    check(&case(ExitStatus::Signal(4), &[]), Cause::CpuFeatureMissing, "instruction", "-lv 5", true);
}

#[test]
fn a_model_cut_short_under_the_program_is_told_from_other_bus_errors() {
    let mut bus = case(ExitStatus::Signal(7), &[]);
    check(&bus, Cause::Crashed, "SIGBUS", "disk", false);
    bus.model.as_mut().unwrap().bytes_now = Some(50);
    check(&bus, Cause::ModelTruncated, GGUF, "renaming", true);
}

#[test]
fn a_crash_keeps_both_the_signal_and_what_was_said() {
    let contradicting = case(ExitStatus::Signal(6), &["Fatal signal: Segmentation fault"]);
    check(
        &contradicting,
        Cause::Crashed,
        "crashed with SIGABRT; its last line: Fatal signal",
        "fault",
        false,
    );
    let explained = case(ExitStatus::Signal(6), &["what():  std::bad_alloc"]);
    check(&explained, Cause::OutOfMemory, "(killed by SIGABRT)", "smaller", false);
}

#[test]
fn other_ends_say_what_is_known() {
    check(
        &case(ExitStatus::Code(3), &["bye", ""]),
        Cause::ExitCode,
        "exit code 3; its last line: bye",
        "log",
        false,
    );
    check(&case(ExitStatus::Code(3), &[]), Cause::ExitCode, "printed nothing", "log", false);
    check(&case(ExitStatus::Code(0), &["done"]), Cause::Finished, "exit code 0", "arguments", false);
    check(&case(ExitStatus::KeeperLost, &[]), Cause::KeeperLost, "keeper", "", false);
    check(&case(ExitStatus::Signal(31), &[]), Cause::Crashed, "SIGSYS", "sandbox", false);
}

#[test]
fn names_of_signals() {
    assert_eq!(
        (signal_name(9), signal_name(11), signal_name(40)),
        ("SIGKILL".into(), "SIGSEGV".into(), "signal 40".into())
    );
    assert_eq!(signal_name(0), "signal 0");
    assert_eq!(signal_name(-5), "signal -5");
}
