//! A node whose log or output cannot be written serves on, says so, and says when it works again.

use std::fs::{File, OpenOptions};
use std::io::{PipeReader, PipeWriter, Read, pipe};
use std::path::Path;
use std::process::{Command, Stdio};

use arw_tests::http::PATIENCE;
use arw_tests::node::{NodeProcess, arw};
use serde_json::{Value, json};

use crate::kit::{FAKE, chat, kill};

struct Noisy {
    node: NodeProcess,
    _folder: tempfile::TempDir,
}

impl Noisy {
    /// A node with this standard error, and a runtime called `one` on it.
    async fn start(stderr: impl Into<Stdio>, more: &[&str]) -> Self {
        Self::start_by(Command::new(arw(FAKE)), stderr, more).await
    }

    async fn start_by(mut command: Command, stderr: impl Into<Stdio>, more: &[&str]) -> Self {
        let folder = tempfile::Builder::new().prefix("arw").tempdir().unwrap();
        command.stderr(stderr);
        let node = NodeProcess::start_by(command, &folder.path().join("state"), more).unwrap();
        node.add_fake("one", FAKE, &[], json!({"auto_start": true})).await.unwrap();
        Self { node, _folder: folder }
    }

    async fn ready(&self) -> Value {
        self.node.until("one", |row| row["state"] == "ready").await.unwrap()
    }

    async fn answers(&self) {
        let answer = self.node.post("/v1/chat/completions", chat("one", false)).await.unwrap();
        assert_eq!(answer.status, 200, "{answer:?}");
    }

    /// Waits until the node's status is so.
    async fn until_status(&self, is_so: impl Fn(&Value) -> bool) -> Value {
        let wait = async {
            loop {
                let node = self.node.get("/state/node").await.unwrap().json()["node"].clone();
                if is_so(&node) {
                    return node;
                }
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(PATIENCE, wait).await.expect("the node does not say so")
    }

    /// Has the node log something: its engine dies and is restarted.
    async fn has_something_to_log(&self) {
        let row = self.ready().await;
        kill(&row["pid"]);
        self.node.until("one", |now| now["state"] == "ready" && now["pid"] != row["pid"]).await.unwrap();
    }
}

fn log_is_lost(node: &Value) -> bool {
    let reasons = node["reasons"].as_array().unwrap();
    reasons.iter().any(|reason| reason.as_str().unwrap().contains("the node's log cannot be written"))
}

fn a_pipe() -> (PipeReader, PipeWriter) {
    pipe().unwrap()
}

#[tokio::test]
async fn a_full_disk_under_the_log_costs_the_log_and_no_engine() {
    let noisy = Noisy::start(OpenOptions::new().write(true).open("/dev/full").unwrap(), &[]).await;
    let before = noisy.ready().await;
    let node = noisy.until_status(log_is_lost).await;
    assert_eq!(node["status"], "degraded");
    let reason = node["reasons"][0].as_str().unwrap();
    assert!(reason.contains("No space left on device") && reason.contains("lines are lost"), "{reason}");
    assert_eq!(noisy.node.get("/readyz").await.unwrap().status, 200);
    noisy.answers().await;
    assert_eq!(noisy.ready().await["pid"], before["pid"]);
    noisy.has_something_to_log().await;
    noisy.node.stop().unwrap();
}

#[tokio::test]
async fn a_log_whose_reader_goes_away_costs_the_log_and_no_engine() {
    let (mut reader, writer) = a_pipe();
    let noisy = Noisy::start(writer, &[]).await;
    let before = noisy.ready().await;
    let mut some = [0; 16];
    reader.read_exact(&mut some).unwrap();
    assert!(!log_is_lost(&noisy.until_status(|node| node["status"] == "ready").await));
    drop(reader);
    noisy.answers().await;
    assert_eq!(noisy.ready().await["pid"], before["pid"]);
    noisy.has_something_to_log().await;
    let node = noisy.until_status(log_is_lost).await;
    assert!(node["reasons"][0].as_str().unwrap().contains("Broken pipe"), "{node}");
    noisy.answers().await;
    noisy.node.stop().unwrap();
}

#[tokio::test]
async fn a_log_whose_reader_was_never_there_does_not_keep_a_node_from_starting() {
    let (reader, writer) = a_pipe();
    drop(reader);
    let noisy = Noisy::start(writer, &[]).await;
    noisy.ready().await;
    noisy.answers().await;
    noisy.until_status(log_is_lost).await;
    noisy.node.stop().unwrap();
}

#[tokio::test]
async fn a_log_whose_reader_stands_still_holds_nothing_up_and_tells_later_what_it_lost() {
    let (mut reader, writer) = a_pipe();
    rustix::pipe::fcntl_setpipe_size(&writer, 4096).unwrap();
    let noisy = Noisy::start(writer, &["--log-level", "trace"]).await;
    noisy.ready().await;
    noisy.answers().await;
    let node = noisy.until_status(log_is_lost).await;
    assert!(node["reasons"][0].as_str().unwrap().contains("nobody reads it"), "{node}");
    let (found, told) = std::sync::mpsc::sync_channel(1);
    let reading = std::thread::spawn(move || {
        let (mut text, mut piece) = (String::new(), [0; 4096]);
        while let Ok(count @ 1..) = reader.read(&mut piece) {
            text.push_str(&String::from_utf8_lossy(&piece[..count]));
            if text.contains("log lines could not be written and are lost") {
                let _ = found.try_send(());
            }
        }
    });
    // The next line that goes out ends the outage; the caretaker tells of it at once.
    noisy.answers().await;
    told.recv_timeout(PATIENCE).expect("the log does not tell what it lost");
    noisy.node.stop().unwrap();
    reading.join().unwrap();
}

#[tokio::test]
async fn a_log_file_at_the_limit_of_file_sizes_ends_nothing_and_goes_on_when_there_is_room() {
    // More than the limit below, in whichever unit the shell has it, and more than the node's own files have.
    const BYTES: u64 = 16 << 20;
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("arw.log");
    let file = OpenOptions::new().create(true).append(true).open(&log).unwrap();
    file.set_len(BYTES).unwrap();
    let mut limited = Command::new("/bin/sh");
    limited.args(["-c", "ulimit -f 16384 && exec \"$@\"", "sh"]).arg(arw(FAKE));
    let noisy = Noisy::start_by(limited, file, &[]).await;
    noisy.ready().await;
    noisy.answers().await;
    let node = noisy.until_status(log_is_lost).await;
    assert!(node["reasons"][0].as_str().unwrap().contains("File too large"), "{node}");

    File::options().write(true).open(&log).unwrap().set_len(0).unwrap();
    noisy.has_something_to_log().await;
    let node = noisy.until_status(|node| node["status"] == "ready").await;
    assert_eq!(node["reasons"], json!([]));
    let text = std::fs::read_to_string(&log).unwrap();
    assert_eq!(text.matches("log lines could not be written and are lost").count(), 1, "{text}");
    noisy.node.stop().unwrap();
}

#[tokio::test]
async fn a_full_disk_under_standard_output_is_told_in_the_log_and_by_the_exit_code() {
    let folder = tempfile::tempdir().unwrap();
    let (state, log) = (folder.path().join("state"), folder.path().join("log"));
    let mut child = Command::new(arw(FAKE))
        .args(["up", "--http", "127.0.0.1:0", "--state-dir"])
        .arg(&state)
        .stdin(Stdio::null())
        .stdout(OpenOptions::new().write(true).open("/dev/full").unwrap())
        .stderr(File::create(&log).unwrap())
        .spawn()
        .unwrap();
    let says = |words: &str| std::fs::read_to_string(&log).unwrap().contains(words);
    let until = std::time::Duration::from_millis(20);
    for _ in 0..PATIENCE.as_millis() / until.as_millis() {
        if says("cannot be written; it goes on") {
            break;
        }
        tokio::time::sleep(until).await;
    }
    assert!(says("cannot be written; it goes on") && says("No space left on device"));
    assert!(child.try_wait().unwrap().is_none());
    assert!(listening(&state));
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(1));
    assert!(says("error: cannot write the output"));
}

fn listening(state: &Path) -> bool {
    let file: Value = serde_json::from_slice(&std::fs::read(state.join("node.json")).unwrap()).unwrap();
    let address = file["http"].as_str().unwrap().trim_start_matches("http://").to_owned();
    std::net::TcpStream::connect(address).is_ok()
}
