//! The HTTP side of the fake engine.
//!
//! Owns listening, routing, the key check and signals. Refuses to know how answers are made.

use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::signal::unix::{SignalKind, signal};

use crate::answers::{Answers, Ask, Kind, Length, error, metrics};
use crate::behaviour::{Behaviour, Change};
use crate::generation::{Answer, Generation, InFlight};
use crate::options::Options;

struct Server {
    behaviour: Arc<Behaviour>,
    answers: Arc<Answers>,
    /// `Bearer KEY`, ready to be compared.
    authorization: Option<HeaderValue>,
}

enum Listener {
    Unix(UnixListener),
    Tcp(TcpListener),
    Nowhere,
}

pub(crate) async fn run(
    options: Options,
    behaviour: Arc<Behaviour>,
    key: Option<String>,
) -> Result<(), String> {
    // First: whoever sees that it listens may end it.
    let mut term = signal(SignalKind::terminate()).map_err(|error| format!("error: no signals: {error}"))?;
    let listener = listen(&options).await?;
    println!("main: loading model");
    let model = options.alias.clone().unwrap_or_else(|| "fake".into());
    let authorization = key.map(|key| HeaderValue::from_str(&format!("Bearer {key}"))).transpose();
    let authorization =
        authorization.map_err(|_| "error: the API key holds characters that no header may hold")?;
    let server = Arc::new(Server {
        behaviour: Arc::clone(&behaviour),
        answers: Arc::new(Answers::new(model)),
        authorization,
    });
    tokio::spawn(load(options.load_ms, Arc::clone(&behaviour)));
    if let Some(after) = options.crash_after_ms {
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(after)).await;
            behaviour.die();
        });
    }
    loop {
        tokio::select! {
            () = accept(&listener, &server) => {}
            _ = term.recv() => {
                println!("main: received SIGTERM");
                if !options.ignore_term {
                    return Ok(());
                }
            }
        }
    }
}

async fn load(load_ms: u64, behaviour: Arc<Behaviour>) {
    tokio::time::sleep(Duration::from_millis(load_ms)).await;
    behaviour.ready.store(true, Relaxed);
    println!("main: model loaded");
}

async fn listen(options: &Options) -> Result<Listener, String> {
    let host = options.host.as_deref().unwrap_or("127.0.0.1");
    let path =
        host.strip_prefix("unix:").or_else(|| host.ends_with(".sock").then_some(host)).map(PathBuf::from);
    let listener = match (path, options.port) {
        (Some(path), _) => UnixListener::bind(&path).map(Listener::Unix),
        (None, Some(port)) => TcpListener::bind((host, port)).await.map(Listener::Tcp),
        (None, None) => return Ok(Listener::Nowhere),
    };
    let port = options.port.unwrap_or_default();
    // llama-server's words for every kind of failure.
    let listener =
        listener.map_err(|_| format!("couldn't bind HTTP server socket, hostname: {host}, port: {port}"))?;
    println!("main: server is listening on {host}:{port}");
    Ok(listener)
}

/// Takes one connection.
async fn accept(listener: &Listener, server: &Arc<Server>) {
    match listener {
        Listener::Unix(listener) => match listener.accept().await {
            Ok((stream, _)) => serve(stream, server),
            Err(error) => eprintln!("accept: {error}"),
        },
        Listener::Tcp(listener) => match listener.accept().await {
            Ok((stream, _)) => {
                // Latency is what is measured; a socket that refuses is slower, not wrong.
                let _ = stream.set_nodelay(true);
                serve(stream, server);
            }
            Err(error) => eprintln!("accept: {error}"),
        },
        Listener::Nowhere => std::future::pending().await,
    }
}

fn serve(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, server: &Arc<Server>) {
    let server = Arc::clone(server);
    tokio::spawn(async move {
        let service = service_fn(move |request| {
            let server = Arc::clone(&server);
            async move { Ok::<_, Infallible>(server.answer(request).await) }
        });
        // A client that goes away is what some tests want.
        let _ =
            http1::Builder::new().pipeline_flush(true).serve_connection(TokioIo::new(stream), service).await;
    });
}

impl Server {
    async fn answer(&self, request: Request<Incoming>) -> Response<Answer> {
        let path = request.uri().path();
        if path.starts_with("/control") {
            return self.control(request).await;
        }
        if self.behaviour.hangs() {
            std::future::pending::<()>().await;
        }
        let is_health = matches!(path, "/health" | "/v1/health");
        let is_public = is_health || matches!(path, "/v1/models" | "/models");
        if !is_public && !self.is_authorized(&request) {
            let body = error(401, "authentication_error", "Invalid API Key");
            return json(StatusCode::UNAUTHORIZED, body);
        }
        if is_health && self.behaviour.flaky_health.load(Relaxed) {
            let count = self.behaviour.health_checks.fetch_add(1, Relaxed);
            if count.is_multiple_of(2) {
                return json(StatusCode::INTERNAL_SERVER_ERROR, error(500, "server_error", "flaky"));
            }
        }
        if !self.behaviour.ready.load(Relaxed) {
            return json(StatusCode::SERVICE_UNAVAILABLE, error(503, "unavailable_error", "Loading model"));
        }
        match (request.method(), path) {
            (&Method::GET, "/health" | "/v1/health") => ok(Bytes::from_static(b"{\"status\":\"ok\"}")),
            (&Method::GET, "/v1/models" | "/models") => ok(self.answers.models()),
            (&Method::GET, "/props") => ok(self.answers.props()),
            (&Method::GET, "/metrics") => self.metrics(),
            (&Method::POST, "/v1/chat/completions") => self.complete(Kind::Chat, request).await,
            (&Method::POST, "/v1/completions") => self.complete(Kind::Text, request).await,
            (&Method::POST, "/v1/embeddings") => self.embed(request).await,
            _ => json(StatusCode::NOT_FOUND, error(404, "not_found_error", "File Not Found")),
        }
    }

    fn is_authorized(&self, request: &Request<Incoming>) -> bool {
        self.authorization.is_none() || request.headers().get(AUTHORIZATION) == self.authorization.as_ref()
    }

    async fn complete(&self, kind: Kind, request: Request<Incoming>) -> Response<Answer> {
        let behaviour = &self.behaviour;
        behaviour.requests.fetch_add(1, Relaxed);
        let Some(body) = body_of(request).await else { return bad_request("the body could not be read") };
        behaviour.read(&body);
        let ask: Ask = match serde_json::from_slice(&body) {
            Ok(ask) => ask,
            Err(problem) => return bad_request(&problem.to_string()),
        };
        let mut in_flight = InFlight::begin(behaviour);
        if behaviour.stuck.load(Relaxed) {
            std::future::pending::<()>().await;
        }
        let length = Length::of(&ask, behaviour.tokens.load(Relaxed));
        if ask.stream {
            let include_usage = ask.stream_options.is_some_and(|options| options.include_usage);
            let generation =
                Generation::new(in_flight, Arc::clone(&self.answers), kind, length, include_usage);
            let mut response = Response::new(Answer::Stream(Box::new(generation)));
            response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
            return response;
        }
        let delay = behaviour.token_delay_ms.load(Relaxed);
        if delay == 0 {
            behaviour.count_tokens(length.tokens);
        } else {
            for _ in 0..length.tokens {
                tokio::time::sleep(Duration::from_millis(delay)).await;
                behaviour.count_tokens(1);
            }
        }
        in_flight.complete();
        ok(self.answers.whole(kind, length))
    }

    async fn embed(&self, request: Request<Incoming>) -> Response<Answer> {
        self.behaviour.requests.fetch_add(1, Relaxed);
        let body = body_of(request).await.and_then(|body| self.answers.embeddings(&body));
        body.map_or_else(|| bad_request("`input` is missing"), ok)
    }

    fn metrics(&self) -> Response<Answer> {
        let body = metrics(self.behaviour.generated(), self.behaviour.in_flight.load(Relaxed));
        let mut response = Response::new(Answer::from(body));
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; version=0.0.4"));
        response
    }

    async fn control(&self, request: Request<Incoming>) -> Response<Answer> {
        if request.method() == Method::POST {
            let body = body_of(request).await.unwrap_or_default();
            match serde_json::from_slice::<Change>(&body) {
                Ok(change) => self.behaviour.change(&change),
                Err(problem) => return bad_request(&problem.to_string()),
            }
        }
        match serde_json::to_vec(&self.behaviour.status()) {
            Ok(body) => ok(body.into()),
            Err(problem) => bad_request(&problem.to_string()),
        }
    }
}

/// The whole body. One that came in one piece, as small ones do, is not copied.
async fn body_of(request: Request<Incoming>) -> Option<Bytes> {
    Some(request.into_body().collect().await.ok()?.to_bytes())
}

fn ok(body: Bytes) -> Response<Answer> {
    json(StatusCode::OK, body)
}

fn bad_request(message: &str) -> Response<Answer> {
    json(StatusCode::BAD_REQUEST, error(400, "invalid_request_error", message))
}

fn json(status: StatusCode, body: Bytes) -> Response<Answer> {
    let mut response = Response::new(Answer::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
