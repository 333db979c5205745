//! What the gateway is compared with: the engine itself, and loops that do nothing but read and write.
//!
//! The loops run in processes of their own: the benchmark starts itself again with a role.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// A process that ends with its owner.
pub(crate) struct Engine {
    child: Child,
    pub(crate) address: String,
}

impl Engine {
    /// The fake engine on a port of its own.
    pub(crate) fn start(program: &str, tokens: &str) -> Self {
        let port = free_port();
        let args =
            ["--host", "127.0.0.1", "--port", &port.to_string(), "--api-key", "bench", "--tokens", tokens];
        let (child, _) = spawn(program, &args, "listening");
        Self { child, address: format!("127.0.0.1:{port}") }
    }

    /// This program in another role. It prints where it listens.
    pub(crate) fn role(role: &str, argument: &str) -> Self {
        let this = std::env::current_exe().unwrap();
        let (child, line) = spawn(this.to_str().unwrap(), &[role, argument], "127.0.0.1:");
        Self { child, address: line.trim().to_owned() }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Starts a program and reads its output up to a line that contains `ready`; the rest of its output goes
/// nowhere.
fn spawn(program: &str, args: &[&str], ready: &str) -> (Child, String) {
    let mut child =
        Command::new(program).args(args).stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    while !line.contains(ready) {
        line.clear();
        assert_ne!(lines.read_line(&mut line).unwrap(), 0, "{program} {args:?} ended");
    }
    std::thread::spawn(move || std::io::copy(&mut lines, &mut std::io::sink()));
    (child, line)
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// `--raw-answers FILE`: answers every request with this file. `--raw-events COUNT`: writes an event of 250
/// bytes to all of its clients ten times a second, once there are that many.
pub(crate) fn serve(role: &str, argument: &str) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    match role {
        "--raw-answers" => runtime.block_on(raw_answers(std::fs::read(argument).unwrap())),
        "--raw-events" => runtime.block_on(raw_events(argument.parse().unwrap())),
        _ => {
            crate::progress(&format!("error: unknown argument `{role}`; --help lists the known ones"));
            std::process::exit(2);
        }
    }
}

#[expect(clippy::print_stdout, reason = "read by the process that started this one")]
async fn listen() -> TcpListener {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    println!("{}", listener.local_addr().unwrap());
    listener
}

async fn raw_answers(body: Vec<u8>) {
    let mut answer = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    )
    .into_bytes();
    answer.extend_from_slice(&body);
    let answer = Bytes::from(answer);
    let listener = listen().await;
    while let Ok((stream, _)) = listener.accept().await {
        tokio::spawn(answer_all(stream, answer.clone()));
    }
}

async fn answer_all(mut stream: TcpStream, answer: Bytes) {
    let mut request = vec![0; 4096];
    let mut filled = 0;
    let _ = stream.set_nodelay(true);
    while let Ok(read @ 1..) = stream.read(&mut request[filled..]).await {
        filled += read;
        // One request at a time is what its clients send.
        if request[..filled].ends_with(b"\r\n\r\n") {
            filled = 0;
            if stream.write_all(&answer).await.is_err() {
                return;
            }
        }
    }
}

pub(crate) const EVENT_BYTES: usize = 250;
pub(crate) const EVENT_EVERY: Duration = Duration::from_millis(100);

async fn raw_events(clients: usize) {
    let listener = listen().await;
    let mut streams = Vec::with_capacity(clients);
    while streams.len() < clients {
        let (mut stream, _) = listener.accept().await.unwrap();
        let _ = stream.set_nodelay(true);
        // The request, which is sent in one piece.
        let mut request = [0; 1024];
        let _ = stream.read(&mut request).await.unwrap();
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n").await.unwrap();
        streams.push(stream);
    }
    let mut event = b"id: 1\ndata: ".to_vec();
    event.resize(EVENT_BYTES - 2, b'x');
    event.extend_from_slice(b"\n\n");
    let mut ticks = tokio::time::interval_at(tokio::time::Instant::now() + EVENT_EVERY, EVENT_EVERY);
    loop {
        ticks.tick().await;
        for stream in &mut streams {
            // A client that is gone has seen enough.
            let _ = stream.write_all(&event).await;
        }
    }
}
