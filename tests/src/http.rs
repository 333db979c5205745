//! A small HTTP client for tests: one connection per request, everything with a deadline.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;

/// More than anything here takes on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// An answer, read to its end.
#[derive(Debug)]
pub struct Answer {
    /// Its status.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Bytes,
}

impl Answer {
    /// The body as JSON.
    ///
    /// # Panics
    /// It is none.
    #[must_use]
    #[expect(clippy::panic, reason = "this is a test's assertion")]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&self.body)))
    }
}

/// Something went wrong on the way.
pub type Error = Box<dyn std::error::Error + Send + Sync>;

/// Asks `address` (`127.0.0.1:8091`), and reads the answer to its end.
///
/// # Errors
/// No connection, no answer in time.
pub async fn ask(
    address: &str,
    method: Method,
    path: &str,
    token: Option<&str>,
    body: Option<Value>,
) -> Result<Answer, Error> {
    let run = async {
        let answer = open(address, method, path, token, body).await?;
        let (parts, body) = answer.into_parts();
        let body = body.collect().await?.to_bytes();
        Ok(Answer { status: parts.status, headers: parts.headers, body })
    };
    tokio::time::timeout(PATIENCE, run).await?
}

/// Asks, and returns once the head is there: for streams. Dropping the answer closes the connection.
///
/// # Errors
/// No connection, no answer.
pub async fn open(
    address: &str,
    method: Method,
    path: &str,
    token: Option<&str>,
    body: Option<Value>,
) -> Result<http::Response<Incoming>, Error> {
    let mut request = Request::builder().method(method).uri(path).header("host", address);
    if let Some(token) = token {
        request = request.header("authorization", format!("Bearer {token}"));
    }
    let body = match body {
        Some(body) => {
            request = request.header("content-type", "application/json");
            Bytes::from(body.to_string())
        }
        None => Bytes::new(),
    };
    send(address, request.body(Full::new(body))?).await
}

/// Sends a request as it is.
///
/// # Errors
/// No connection, no answer.
pub async fn send(address: &str, request: Request<Full<Bytes>>) -> Result<http::Response<Incoming>, Error> {
    let stream = TcpStream::connect(address).await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    // Its end is seen in the answer.
    tokio::spawn(connection);
    Ok(sender.send_request(request).await?)
}
