//! Asks another node's gateway.
//!
//! Owns streams that are open already and their reuse. Refuses to know what is asked, and to try anything
//! twice.

use std::error::Error;
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use arw_actors::cluster::{Cluster, OpenError, PeerStream};
use arw_actors::ids::NodeId;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::header::{HOST, HeaderValue};
use http::{Request, Response, Uri};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};

/// Sends requests to other nodes. Cheap to clone; clones share streams.
#[derive(Clone, Debug)]
pub(crate) struct PeerClient {
    client: Client<PeerConnector, Full<Bytes>>,
}

/// Another node did not answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum PeerError {
    /// There was no stream to it, so that it never saw the request.
    NotReached(String),
    /// The stream broke before the answer's head, or was not let in.
    Lost(String),
}

impl fmt::Display for PeerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::NotReached(why) | Self::Lost(why)) = self;
        f.write_str(why)
    }
}

/// A stream opens within one round trip; a node that takes longer is not fit to be asked.
const OPEN_WITHIN: Duration = Duration::from_secs(5);
/// The other node ends idle connections after 10 s; a shorter time here avoids racing with that.
const IDLE_TIMEOUT: Duration = Duration::from_secs(4);
/// Idle streams cost the other node a place each (`service.rs`).
const IDLE_PER_NODE_MAX: usize = 16;

impl PeerClient {
    pub(crate) fn new(cluster: Cluster) -> Self {
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_TIMEOUT)
            .pool_max_idle_per_host(IDLE_PER_NODE_MAX)
            .build(PeerConnector { cluster });
        Self { client }
    }

    /// Sends a request, whose URI is a path, and returns as soon as the answer's head is there. Dropping the
    /// future or the answer's body closes the stream, which tells the other node to stop.
    pub(crate) async fn send(
        &self,
        node: NodeId,
        mut request: Request<Full<Bytes>>,
    ) -> Result<Response<Incoming>, PeerError> {
        let path = request.uri().path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
        // The id travels as the host, so that the pool tells nodes apart.
        let uri = Uri::builder().scheme("peer").authority(node.to_string()).path_and_query(path).build();
        *request.uri_mut() = uri.map_err(|error| PeerError::NotReached(error.to_string()))?;
        request.headers_mut().insert(HOST, HeaderValue::from_static("localhost"));
        self.client.request(request).await.map_err(|error| {
            let words = words(&error);
            if error.is_connect() { PeerError::NotReached(words) } else { PeerError::Lost(words) }
        })
    }
}

/// The cause that says most.
fn words(error: &hyper_util::client::legacy::Error) -> String {
    let mut innermost: &(dyn Error + 'static) = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}

#[derive(Clone, Debug)]
struct PeerConnector {
    cluster: Cluster,
}

impl tower::Service<Uri> for PeerConnector {
    type Response = PeerConnection;
    type Error = OpenError;
    type Future = BoxFuture<'static, Result<PeerConnection, OpenError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), OpenError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let node = uri.host().and_then(|host| host.parse::<NodeId>().ok());
        let transport = self.cluster.transport();
        Box::pin(async move {
            // `send` writes nothing but ids.
            let (Some(node), Some(transport)) = (node, transport) else { return Err(OpenError::Alone) };
            let opened = tokio::time::timeout(OPEN_WITHIN, transport.open(node, OPEN_WITHIN)).await;
            let stream = opened.unwrap_or(Err(OpenError::TimedOut(node)))?;
            Ok(PeerConnection(TokioIo::new(stream)))
        })
    }
}

/// A stream as hyper's client wants it.
#[derive(Debug)]
struct PeerConnection(TokioIo<Box<dyn PeerStream>>);

impl Connection for PeerConnection {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

impl Read for PeerConnection {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: ReadBufCursor<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.get_mut().0).poll_read(cx, buf)
    }
}

impl Write for PeerConnection {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.get_mut().0).poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.get_mut().0).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.get_mut().0).poll_shutdown(cx)
    }
}
