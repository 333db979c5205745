//! A gateway of canned answers, and `arw` as a child process that talks to it.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io::Read;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http::{Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tempfile::TempDir;

/// What was asked.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) method: String,
    /// With its query.
    pub(crate) path: String,
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: Value,
}

impl Asked {
    /// `POST /runtimes`
    pub(crate) fn line(&self) -> String {
        format!("{} {}", self.method, self.path)
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }
}

/// An answer.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    status: u16,
    kind: &'static str,
    chunks: Vec<Bytes>,
    /// The body stays open after the last chunk, until the client goes away.
    stays_open: bool,
}

pub(crate) fn json(status: u16, body: &Value) -> Answer {
    let kind = if status < 400 { "application/json" } else { "application/problem+json" };
    Answer { status, kind, chunks: vec![Bytes::from(body.to_string())], stays_open: false }
}

pub(crate) fn empty(status: u16) -> Answer {
    Answer { status, kind: "text/plain", chunks: Vec::new(), stays_open: false }
}

pub(crate) fn lines(kind: &'static str, text: &str) -> Answer {
    // In pieces that cut lines and events anywhere.
    let chunks = text.as_bytes().chunks(7).map(Bytes::copy_from_slice).collect();
    Answer { status: 200, kind, chunks, stays_open: false }
}

pub(crate) fn sse(events: &[(&str, &str, String)]) -> Answer {
    let text: String = events
        .iter()
        .map(|(event, id, data)| format!("event: {event}\nid: {id}\ndata: {data}\n\n"))
        .collect();
    lines("text/event-stream", &text)
}

impl Answer {
    pub(crate) fn staying_open(mut self) -> Self {
        self.stays_open = true;
        self
    }
}

type Rule = Box<dyn FnMut(&Asked) -> Answer + Send>;

/// A gateway on a port of its own that runs until it is dropped.
pub(crate) struct Gateway {
    pub(crate) address: SocketAddr,
    pub(crate) state_dir: TempDir,
    asked: Arc<Mutex<Vec<Asked>>>,
    /// Told whenever a client leaves an answer that stays open.
    left: mpsc::Receiver<()>,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

/// How an `arw` process ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Ended {
    /// The output as JSON.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    #[track_caller]
    pub(crate) fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, code, "out:\n{}\nerr:\n{}", self.out, self.err);
        self
    }
}

/// No command needs longer; a test that hangs ends with what it has shown so far.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

impl Gateway {
    /// A gateway that answers by `rule`.
    pub(crate) fn start(rule: impl FnMut(&Asked) -> Answer + Send + 'static) -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let (leaving, left) = mpsc::sync_channel(64);
        let shared =
            Shared { rule: Arc::new(Mutex::new(Box::new(rule))), asked: Arc::clone(&asked), leaving };
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                tokio::select! {
                    () = serve(listener, shared) => {}
                    _ = stopped => {}
                }
            });
        });
        let state_dir = tempfile::tempdir().unwrap();
        Self { address, state_dir, asked, left, stop: Some(stop), thread: Some(thread) }
    }

    /// A gateway with an answer per `METHOD /path`; anything else is a 404.
    pub(crate) fn with(answers: &[(&'static str, Answer)]) -> Self {
        let answers: BTreeMap<String, Answer> =
            answers.iter().map(|(line, answer)| ((*line).to_owned(), answer.clone())).collect();
        Self::start(move |asked| {
            let without_query = asked.path.split('?').next().unwrap_or_default();
            let line = format!("{} {without_query}", asked.method);
            answers.get(&asked.line()).or_else(|| answers.get(&line)).cloned().unwrap_or_else(|| {
                json(404, &serde_json::json!({"title": "not found", "detail": format!("no route {line}"), "help": ""}))
            })
        })
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What was asked so far.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        lock(&self.asked).clone()
    }

    /// Waits until a client has left an answer that stays open.
    pub(crate) fn wait_until_left(&self) -> bool {
        self.left.recv_timeout(PATIENCE).is_ok()
    }

    /// `arw` with arguments, talking to this gateway with a token.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = arw(self.state_dir.path(), arguments);
        command.env("ARW_SERVER", self.url()).env("ARW_TOKEN", "arw_test_secret");
        command
    }

    /// Runs [`Gateway::command`] to its end.
    pub(crate) fn arw(&self, arguments: &[&str]) -> Ended {
        run(self.command(arguments), "")
    }

    /// Writes the files by which a node on a state folder is found.
    pub(crate) fn write_node_files(&self) {
        let node = serde_json::json!({"pid": std::process::id(), "http": self.url(), "started_at": "2026-11-24T12:00:00Z"});
        std::fs::write(self.state_dir.path().join("node.json"), node.to_string()).unwrap();
        std::fs::write(self.state_dir.path().join("admin.token"), "arw_local_secret\n").unwrap();
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// `arw` in an environment of its own.
pub(crate) fn arw(state_dir: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_arw"));
    command
        .args(arguments)
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .env("HOME", state_dir)
        .env("LANG", "C.UTF-8");
    command.env("ARW_STATE_DIR", state_dir).current_dir(state_dir);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Runs a command to its end, with `input` on its standard input.
pub(crate) fn run(mut command: Command, input: &str) -> Ended {
    let mut child = if input.is_empty() {
        command.spawn().unwrap()
    } else {
        let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
        std::io::Write::write_all(&mut child.stdin.take().unwrap(), input.as_bytes()).unwrap();
        child
    };
    finish(&mut child)
}

/// Runs a command until what it has shown satisfies `enough`, then presses Ctrl-C, which must end it well.
pub(crate) fn run_until(mut command: Command, enough: impl Fn(&str) -> bool) -> Ended {
    let mut child = command.spawn().unwrap();
    let mut stdout = child.stdout.take().unwrap();
    let (shown, pieces) = mpsc::sync_channel::<Vec<u8>>(1_024);
    let reader = std::thread::spawn(move || {
        let mut piece = [0; 4_096];
        while let Ok(length @ 1..) = stdout.read(&mut piece) {
            let _ = shown.send(piece[..length].to_vec());
        }
    });
    let mut out = Vec::new();
    while !enough(&String::from_utf8_lossy(&out)) {
        match pieces.recv_timeout(PATIENCE) {
            Ok(piece) => out.extend(piece),
            Err(_) => break,
        }
    }
    signal(child.id(), rustix::process::Signal::INT);
    let mut ended = finish(&mut child).expect(0);
    reader.join().unwrap();
    out.extend(pieces.try_iter().flatten());
    ended.out = String::from_utf8(out).unwrap();
    ended
}

/// Waits for a child's end; kills it when it takes too long.
pub(crate) fn finish(child: &mut Child) -> Ended {
    let out = child.stdout.take().map(collect);
    let err = child.stderr.take().map(collect);
    let id = child.id();
    let (done, patience) = mpsc::sync_channel::<()>(1);
    let watchdog = std::thread::spawn(move || {
        if patience.recv_timeout(PATIENCE) == Err(mpsc::RecvTimeoutError::Timeout) {
            signal(id, rustix::process::Signal::KILL);
        }
    });
    let status = child.wait().unwrap();
    drop(done);
    watchdog.join().unwrap();
    let text = |thread: Option<std::thread::JoinHandle<String>>| {
        thread.map_or_else(String::new, |t| t.join().unwrap())
    };
    Ended { code: status.code().unwrap_or(-1), out: text(out), err: text(err) }
}

/// Sends a signal to a process that this test started.
pub(crate) fn signal(id: u32, signal: rustix::process::Signal) {
    let pid = rustix::process::Pid::from_raw(i32::try_from(id).unwrap()).unwrap();
    let _ = rustix::process::kill_process(pid, signal);
}

fn collect(mut from: impl Read + Send + 'static) -> std::thread::JoinHandle<String> {
    std::thread::spawn(move || {
        let mut text = String::new();
        let _ = from.read_to_string(&mut text);
        text
    })
}

#[derive(Clone)]
struct Shared {
    rule: Arc<Mutex<Rule>>,
    asked: Arc<Mutex<Vec<Asked>>>,
    leaving: mpsc::SyncSender<()>,
}

async fn serve(listener: std::net::TcpListener, shared: Shared) {
    let listener = tokio::net::TcpListener::from_std(listener).unwrap();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let shared = shared.clone();
        let service = service_fn(move |request| {
            let shared = shared.clone();
            async move { Ok::<_, Infallible>(answer(request, &shared).await) }
        });
        let connection =
            hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
        tokio::spawn(connection);
    }
}

async fn answer(request: Request<Incoming>, shared: &Shared) -> Response<UnsyncBoxBody<Bytes, Infallible>> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    let headers = head.headers.iter();
    let asked = Asked {
        method: head.method.to_string(),
        path: head.uri.to_string(),
        headers: headers
            .map(|(name, value)| (name.to_string(), value.to_str().unwrap_or("").to_owned()))
            .collect(),
        body: serde_json::from_slice(&body).unwrap_or(Value::Null),
    };
    let answer = (*lock(&shared.rule))(&asked);
    lock(&shared.asked).push(asked);
    let response = Response::builder()
        .status(StatusCode::from_u16(answer.status).unwrap())
        .header("content-type", answer.kind);
    if !answer.stays_open && answer.chunks.len() == 1 {
        let body = Full::new(answer.chunks.into_iter().next().unwrap_or_default());
        return response.body(body.boxed_unsync()).unwrap();
    }
    let guard = answer.stays_open.then(|| Leaving(shared.leaving.clone()));
    let chunks = stream::iter(answer.chunks.into_iter().map(|chunk| Ok(Frame::data(chunk))));
    let tail = stream::once(async move {
        if let Some(_guard) = guard {
            std::future::pending::<()>().await;
        }
        Ok(Frame::data(Bytes::new()))
    });
    response.body(StreamBody::new(chunks.chain(tail)).boxed_unsync()).unwrap()
}

/// Tells that the client went away, by being dropped with the body.
struct Leaving(mpsc::SyncSender<()>);

impl Drop for Leaving {
    fn drop(&mut self) {
        let _ = self.0.try_send(());
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
