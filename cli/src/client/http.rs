//! Calls to a node: requests with deadlines, answers with limits, refusals as errors.
//!
//! Owns [`Node`]. Refuses to know what the calls are for.

use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderName, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::Value;

use super::discovery::Address;
use super::error::{ClientError, Problem};

/// A node, as its HTTP API.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    address: Address,
    client: Client<HttpConnector, Full<Bytes>>,
}

/// One call.
#[derive(Debug)]
pub(crate) struct Call<'c> {
    pub(crate) method: Method,
    /// Path and query.
    pub(crate) path: &'c str,
    pub(crate) body: Option<Value>,
    pub(crate) headers: Vec<(HeaderName, String)>,
    /// Until the head of the answer is there.
    pub(crate) deadline: Duration,
}

impl<'c> Call<'c> {
    pub(crate) fn get(path: &'c str) -> Self {
        Self { method: Method::GET, path, body: None, headers: Vec::new(), deadline: ANSWER_DEADLINE }
    }

    pub(crate) fn post(path: &'c str, body: Option<Value>) -> Self {
        Self { method: Method::POST, path, body, headers: Vec::new(), deadline: ANSWER_DEADLINE }
    }

    pub(crate) fn delete(path: &'c str) -> Self {
        Self { method: Method::DELETE, path, body: None, headers: Vec::new(), deadline: ANSWER_DEADLINE }
    }

    pub(crate) fn header(mut self, name: HeaderName, value: &str) -> Self {
        self.headers.push((name, value.to_owned()));
        self
    }

    pub(crate) fn within(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }
}

/// A loopback connection is there in microseconds; this is for other machines and full backlogs.
const CONNECT_DEADLINE: Duration = Duration::from_secs(3);
/// The node answers every call that does not wait on purpose in milliseconds.
pub(crate) const ANSWER_DEADLINE: Duration = Duration::from_secs(30);
/// For the whole body once its head is there.
const BODY_DEADLINE: Duration = Duration::from_secs(60);
/// A tree of 100,000 actors is about 40 MB.
const BODY_BYTES_MAX: usize = 256 << 20;
/// No problem document is larger; anything longer is cut off and told by its status.
const PROBLEM_BYTES_MAX: usize = 1 << 20;

impl Node {
    pub(crate) fn new(address: Address) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_connect_timeout(Some(CONNECT_DEADLINE));
        connector.set_nodelay(true);
        let client = Client::builder(TokioExecutor::new()).build(connector);
        Self { address, client }
    }

    /// `http://127.0.0.1:8091`
    pub(crate) fn url(&self) -> &str {
        &self.address.url
    }

    /// The node's process, where the state folder tells it.
    pub(crate) fn pid(&self) -> Option<u32> {
        self.address.pid
    }

    /// The JSON at a path.
    pub(crate) async fn get(&self, path: &str) -> Result<Value, ClientError> {
        self.answer(Call::get(path)).await.map(|(_, body)| body)
    }

    /// The status and the JSON of an answer; `null` where it has no body.
    pub(crate) async fn answer(&self, call: Call<'_>) -> Result<(StatusCode, Value), ClientError> {
        let url = format!("{}{}", self.address.url, call.path);
        let response = self.open(call).await?;
        let status = response.status();
        let bytes = self.collect(response, BODY_BYTES_MAX).await?;
        if bytes.is_empty() {
            return Ok((status, Value::Null));
        }
        let garbled =
            |error: serde_json::Error| ClientError::Garbled { url, why: format!("it is not JSON: {error}") };
        serde_json::from_slice(&bytes).map(|body| (status, body)).map_err(garbled)
    }

    /// Sends a call and gives back the answer with its body still to be read. A refusal is an error.
    pub(crate) async fn open(&self, call: Call<'_>) -> Result<Response<Incoming>, ClientError> {
        let deadline = call.deadline;
        let asked = names_in(call.path, call.body.as_ref());
        let request = self.request(call)?;
        let response = tokio::time::timeout(deadline, self.client.request(request)).await;
        let response = response
            .map_err(|_| ClientError::Silent { url: self.address.url.clone(), waited: deadline })?
            .map_err(|error| self.unreachable(&error))?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        // A problem that cannot be read to its end is still told by its status.
        let bytes = self.collect(response, PROBLEM_BYTES_MAX).await.unwrap_or_default();
        let mut problem = Problem::from_answer(status, &bytes, &asked);
        problem.token_note.clone_from(&self.address.token_note);
        Err(ClientError::Refused(Box::new(problem)))
    }

    fn request(&self, call: Call<'_>) -> Result<Request<Full<Bytes>>, ClientError> {
        let mut request =
            Request::builder().method(call.method).uri(format!("{}{}", self.address.url, call.path));
        if !call.headers.iter().any(|(name, _)| name == ACCEPT) {
            request = request.header(ACCEPT, "application/json");
        }
        for (name, value) in call.headers {
            request = request.header(name, value);
        }
        if let Some(token) = &self.address.token {
            request = request.header(AUTHORIZATION, format!("Bearer {}", token.reveal()));
        }
        let body = match call.body {
            Some(body) => {
                request = request.header(CONTENT_TYPE, "application/json");
                Full::new(Bytes::from(body.to_string()))
            }
            None => Full::new(Bytes::new()),
        };
        let why = |error: http::Error| ClientError::Garbled {
            url: self.address.url.clone(),
            why: error.to_string(),
        };
        request.body(body).map_err(why)
    }

    async fn collect(&self, response: Response<Incoming>, bytes_max: usize) -> Result<Bytes, ClientError> {
        let url = || self.address.url.clone();
        let body = Limited::new(response.into_body(), bytes_max);
        let collected = tokio::time::timeout(BODY_DEADLINE, body.collect()).await;
        let collected = collected.map_err(|_| ClientError::Silent { url: url(), waited: BODY_DEADLINE })?;
        match collected {
            Ok(collected) => Ok(collected.to_bytes()),
            Err(error) => Err(ClientError::Garbled { url: url(), why: error.to_string() }),
        }
    }

    fn unreachable(&self, error: &hyper_util::client::legacy::Error) -> ClientError {
        let mut why = innermost(error);
        if let Some(pid) = self.address.pid.filter(|pid| !process_runs(*pid)) {
            why = format!("its process {pid} has ended without saying so ({why})");
        }
        ClientError::Unreachable { url: self.address.url.clone(), why }
    }
}

/// The cause that says most: `Connection refused (os error 111)` rather than `client error (Connect)`.
pub(crate) fn innermost(error: &(dyn std::error::Error + 'static)) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}

/// Whether a process with this id exists.
pub(crate) fn process_runs(pid: u32) -> bool {
    #[cfg(unix)]
    {
        let pid = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw);
        // Another user's process may not be signalled, but it is there.
        pid.is_some_and(|pid| rustix::process::test_kill_process(pid) != Err(rustix::io::Errno::SRCH))
    }
    #[cfg(not(unix))]
    {
        let _ = pid;
        true
    }
}

/// What a call names that may turn out not to exist: the node in its query, the thing in its path, the model
/// in its body.
fn names_in(path: &str, body: Option<&Value>) -> Vec<String> {
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    let node = query.split('&').filter_map(|part| part.strip_prefix("node="));
    let mut segments = path.trim_matches('/').split('/');
    // What comes before the kind of thing: `/runtimes/{id}/start`, `/cluster/nodes/{node}/drain`,
    // `/v1/models/{model}`.
    let kind =
        segments.next().filter(|first| !matches!(*first, "cluster" | "v1")).or_else(|| segments.next());
    let thing = kind.and_then(|_| segments.next());
    let model = body.and_then(|body| body.get("model")).and_then(Value::as_str);
    node.chain(thing).map(decoded).chain(model.map(str::to_owned)).collect()
}

/// The other way round than [`super::row::encoded`].
fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let hex = after.get(..2).and_then(|pair| std::str::from_utf8(pair).ok());
        match hex.filter(|_| *first == b'%').and_then(|pair| u8::from_str_radix(pair, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::row::encoded;
    use super::*;

    #[test]
    fn what_a_call_names_is_found_wherever_it_stands() {
        let names = |path: &str| names_in(path, None);
        assert_eq!(names("/runtimes/smolm2"), ["smolm2"]);
        assert_eq!(names("/runtimes/smolm2/start?wait=60s"), ["smolm2"]);
        assert_eq!(names("/cluster/nodes/boxx/drain"), ["boxx"]);
        assert_eq!(names("/cluster/tokens/0a"), ["0a"]);
        assert_eq!(names("/v1/models/org%2Fother"), ["org/other"]);
        assert_eq!(names("/state/actors?node=box%20b"), ["box b", "actors"]);
        for nothing in ["/tokens", "/cluster/join", "/models", "/"] {
            assert_eq!(names(nothing), Vec::<String>::new(), "{nothing}");
        }
        let body = json!({"model": "gpt"});
        assert_eq!(names_in("/v1/chat/completions", Some(&body)), ["completions", "gpt"]);
    }

    #[test]
    fn every_name_comes_back_as_it_was() {
        for name in ["a/../b?c=d&e f", "ü", "100%", "%41", "%", "%4", "模型"] {
            assert_eq!(decoded(&encoded(name)), name);
        }
        assert_eq!(decoded("%4x%"), "%4x%");
    }
}
