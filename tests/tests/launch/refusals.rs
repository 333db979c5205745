//! Launches that cannot work say what, why and what to do, and leave nothing behind.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use arw_actors::runtime::launcher::{Cause, Diagnosis};

use crate::kit::{FAKE, Node};

fn file(node: &Node, name: &str, bytes: &[u8], mode: u32) -> PathBuf {
    let path = node.outside().join(name);
    std::fs::write(&path, bytes).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
    path
}

async fn refused(node: &Node, program: &Path, args: &[&str]) -> Diagnosis {
    let mut spec = node.spec(args);
    spec.program = program.to_owned();
    let error = node.launch_spec(spec).await.expect_err("it was launched");
    let diagnosis = error.0.clone();
    assert!(error.to_string().starts_with("launch failed: "));
    diagnosis
}

#[track_caller]
fn check(found: &Diagnosis, cause: Cause, detail: &str, hint: &str) {
    assert_eq!(found.cause, cause, "{found:?}");
    assert!(found.detail.contains(detail), "{found:?}");
    assert!(found.hint.as_deref().unwrap_or("").contains(hint), "{found:?}");
    assert!(found.permanent, "{found:?}");
}

#[tokio::test]
async fn a_missing_program() {
    let node = Node::new();
    let found = refused(&node, Path::new("/no/such/llama-server"), &[]).await;
    check(&found, Cause::ProgramMissing, "/no/such/llama-server", "path");
    check(&refused(&node, Path::new("no-such-llama"), &[]).await, Cause::ProgramMissing, "PATH", "full path");
}

#[tokio::test]
async fn a_program_that_may_not_be_executed() {
    let node = Node::new();
    let plain = file(&node, "plain", b"\x7fELF", 0o644);
    check(&refused(&node, &plain, &[]).await, Cause::ProgramNotExecutable, "may not be executed", "chmod +x");
}

#[tokio::test]
async fn a_script_whose_interpreter_is_missing() {
    let node = Node::new();
    let script = file(&node, "serve.py", b"#!/no/such/python3\n", 0o755);
    check(&refused(&node, &script, &[]).await, Cause::ProgramMissing, "/no/such/python3", "first line");
}

/// A program that only the kernel refuses; `None`: a static one names no loader that could be missing.
fn without_loader(node: &Node) -> Option<PathBuf> {
    let mut bytes = std::fs::read(FAKE).unwrap();
    let name = b"/ld-linux";
    let at = bytes.windows(name.len()).position(|window| window == name)?;
    bytes[at + 1] = b'x';
    Some(file(node, "no-loader", &bytes, 0o755))
}

#[tokio::test]
async fn a_program_whose_loader_is_missing() {
    let node = Node::new();
    let Some(program) = without_loader(&node) else { return };
    check(&refused(&node, &program, &[]).await, Cause::ProgramMissing, "loader", "built for this system");
}

#[tokio::test]
async fn a_damaged_program() {
    let node = Node::new();
    let damaged = file(&node, "damaged", b"\x7fELF", 0o755);
    let found = refused(&node, &damaged, &[]).await;
    assert_eq!(found.cause, Cause::ProgramNotExecutable, "{found:?}");
}

#[tokio::test]
async fn arguments_that_cannot_be_filled_in() {
    let node = Node::new();
    check(&refused(&node, Path::new(FAKE), &["{modle}"]).await, Cause::BadOption, "{modle}", "arguments");
    check(&refused(&node, Path::new(FAKE), &["{model}"]).await, Cause::BadOption, "--model", "arguments");
}

#[tokio::test]
async fn a_missing_model() {
    let node = Node::new();
    let mut spec = node.spec(&["--model", "{model}"]);
    spec.model = Some("/no/such/model.gguf".into());
    let found = node.launch_spec(spec).await.unwrap_err().0;
    check(&found, Cause::ModelMissing, "/no/such/model.gguf", "import");
}

#[tokio::test]
async fn a_scratch_folder_outside_of_the_state_folder_is_left_alone() {
    let node = Node::new();
    let precious = file(&node, "precious", b"x", 0o644);
    let mut spec = node.spec(&[]);
    spec.scratch = node.outside();
    let found = node.launch_spec(spec).await.unwrap_err().0;
    assert!(found.detail.contains("does not lie in the state folder"), "{found:?}");
    assert!(precious.exists());
}

#[tokio::test]
async fn nothing_runs_after_a_refusal() {
    let node = Node::new();
    let mut engine = node.serve(&[]).await;
    let marker = crate::kit::marker_of(engine.pid());
    engine.kill();
    crate::kit::exit_of(&mut engine).await;
    // Refused when keeper and shim are there already.
    let Some(program) = without_loader(&node) else { return };
    refused(&node, &program, &[]).await;
    assert_eq!(crate::kit::marked(&marker), [0_u32; 0]);
    assert_eq!(std::fs::read_dir(node.state_dir().join("runtime/launched")).unwrap().count(), 0);
}
