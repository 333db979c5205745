//! A launched engine serves, and only those who have its key.

use arw_actors::runtime::launcher::Endpoint;

use crate::kit::{Node, ask};

#[tokio::test]
async fn it_serves_over_a_socket_in_its_scratch_folder_to_those_who_have_its_key() {
    let node = Node::new();
    let engine = node.serve(&[]).await;
    let socket = node.scratch().join("engine.sock");
    assert_eq!(engine.endpoint(), Some(&Endpoint::Unix(socket)));
    assert_eq!(ask(&*engine, "GET", "/health", None, "").await, (200, r#"{"status":"ok"}"#.into()));
    let question = r#"{"messages":[{"role":"user","content":"hi"}],"max_tokens":2}"#;
    let (status, _) = ask(&*engine, "POST", "/v1/chat/completions", Some("wrong"), question).await;
    assert_eq!(status, 401);
    let key = engine.secret().reveal().to_owned();
    let (status, body) = ask(&*engine, "POST", "/v1/chat/completions", Some(&key), question).await;
    assert_eq!(status, 200, "{body}");
    assert!(body.contains(r#""content":"t0 t1 ""#), "{body}");
    assert!(engine.resident_bytes().unwrap() > 500_000);
    assert!(engine.progress() > 0);
}

#[tokio::test]
async fn it_serves_on_a_loopback_port_when_its_arguments_say_so() {
    let node = Node::new();
    let engine = node.launch(&["--host", "127.0.0.1", "--port={port}", "--api-key-file", "/dev/stdin"]).await;
    node.line("listening on").await;
    assert!(matches!(engine.endpoint(), Some(Endpoint::Tcp(address)) if address.ip().is_loopback()));
    let key = engine.secret().reveal().to_owned();
    assert_eq!(ask(&*engine, "POST", "/v1/completions", Some("no"), "{}").await.0, 401);
    assert_eq!(ask(&*engine, "POST", "/v1/completions", Some(&key), "{}").await.0, 200);
    assert_eq!(engine.sandbox().network, "bind_one_port");
}

#[tokio::test]
async fn a_scratch_folder_with_a_long_path_gets_a_short_folder_for_its_socket() {
    let node = Node::new();
    let mut spec = node.spec(&["--host={socket}", "--key-stdin"]);
    spec.scratch = node.state_dir().join("long-".repeat(20)).join("scratch");
    let engine = node.launch_spec(spec).await.unwrap();
    node.line("listening on").await;
    let Some(Endpoint::Unix(socket)) = engine.endpoint().cloned() else { panic!("{:?}", engine.endpoint()) };
    assert!(socket.as_os_str().len() <= 107 && socket.exists(), "{}", socket.display());
    assert_eq!(ask(&*engine, "GET", "/health", None, "").await.0, 200);
    let folder = socket.parent().unwrap().to_owned();
    drop(engine);
    crate::kit::until("the socket's folder is gone", crate::kit::PATIENCE, || !folder.exists()).await;
}

#[tokio::test]
async fn a_stream_ends_with_usage_when_asked_and_a_lost_client_is_counted() {
    let node = Node::new();
    let engine = node.serve(&["--tokens", "3"]).await;
    let key = engine.secret().reveal().to_owned();
    let question = r#"{"stream":true,"stream_options":{"include_usage":true}}"#;
    let (status, body) = ask(&*engine, "POST", "/v1/chat/completions", Some(&key), question).await;
    assert_eq!(status, 200);
    assert_eq!(body.matches("data: ").count(), 7, "{body}");
    assert!(body.contains(r#""completion_tokens":3"#) && body.ends_with("data: [DONE]\n\n"), "{body}");
    ask(&*engine, "POST", "/control", None, r#"{"token_delay_ms":60000}"#).await;
    let Some(Endpoint::Unix(path)) = engine.endpoint() else { panic!("no socket") };
    let mut client = std::os::unix::net::UnixStream::connect(path).unwrap();
    let request = format!(
        "POST /v1/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {key}\r\ncontent-length: 15\r\n\r\n{{\"stream\":true}}"
    );
    std::io::Write::write_all(&mut client, request.as_bytes()).unwrap();
    status_is(&*engine, r#""in_flight":1"#).await;
    drop(client);
    status_is(&*engine, r#""in_flight":0,"completed":1,"aborted":1"#).await;
}

async fn status_is(engine: &dyn arw_actors::runtime::launcher::Engine, text: &str) {
    let look = async {
        while !ask(engine, "GET", "/control/status", None, "").await.1.contains(text) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(crate::kit::PATIENCE, look)
        .await
        .unwrap_or_else(|_| panic!("the status never has {text}"));
}

#[tokio::test]
async fn the_key_shows_in_no_command_line_and_no_environment() {
    let node = Node::new();
    let engine = node.serve(&["--print-env"]).await;
    let key = engine.secret().reveal().to_owned();
    for pid in crate::kit::marked(&crate::kit::marker_of(engine.pid())) {
        for file in ["cmdline", "environ"] {
            let bytes = std::fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
            assert!(!String::from_utf8_lossy(&bytes).contains(&key), "{file} of {pid}");
        }
    }
    assert!(!node.all_lines().join("\n").contains(&key));
    assert!(!format!("{engine:?}").contains(&key));
}

#[tokio::test]
async fn each_launch_has_a_key_of_its_own_and_the_operator_may_place_it() {
    let node = Node::new();
    let first = node.launch(&["--api-key={secret}", "--host", "{socket}"]).await;
    node.line("listening on").await;
    let key = first.secret().reveal().to_owned();
    assert_eq!(ask(&*first, "POST", "/v1/completions", Some(&key), "{}").await.0, 200);
    let mut spec = node.spec(&[]);
    spec.runtime = "other".parse().unwrap();
    spec.scratch = node.state_dir().join("runtime/other/scratch");
    let second = node.launch_spec(spec).await.unwrap();
    assert_ne!(second.secret().reveal(), key);
    assert_eq!(second.endpoint(), None);
}

#[tokio::test]
async fn only_the_listed_variables_reach_the_program() {
    let node = Node::new();
    let mut spec = node.spec(&["--print-env", "--host", "{socket}"]);
    spec.env.insert("CUDA_VISIBLE_DEVICES".into(), "0".into());
    spec.env.insert("ARW_ENGINE".into(), "hidden:from:sweep".into());
    let _engine = node.launch_spec(spec).await.unwrap();
    node.line("listening on").await;
    let lines = node.all_lines();
    let mut names: Vec<&str> =
        lines.iter().filter_map(|line| line.strip_prefix("env ")?.split('=').next()).collect();
    names.retain(|name| !["LANG", "LC_ALL", "TZ"].contains(name));
    names.sort_unstable();
    assert_eq!(names, ["ARW_ENGINE", "CUDA_VISIBLE_DEVICES", "HOME", "PATH", "TMPDIR"]);
    assert!(lines.contains(&format!("env HOME={}", node.scratch().display())));
    assert!(!lines.iter().any(|line| line.contains("hidden:from:sweep")));
}
