//! HTTP to engines, over a Unix socket or TCP.
//!
//! Owns connections and their reuse. Refuses to know what is asked: probes and the gateway bring whole
//! requests.

use std::fmt;
use std::future::Future;
use std::io::ErrorKind;
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONNECTION, HOST, HeaderValue};
use http::{Request, Response, Uri};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncReadExt, DuplexStream};
use tokio::net::{TcpStream, UnixStream};

use super::launcher::{Endpoint, Secret};

/// Sends requests to engines. Cheap to clone; clones share connections.
#[derive(Clone, Debug)]
pub struct EngineClient {
    client: Client<EngineConnector, Full<Bytes>>,
    /// For requests that want a connection of their own.
    unpooled: Client<EngineConnector, Full<Bytes>>,
    connector: EngineConnector,
}

/// What a look at an engine that a request did not reach has found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum EngineLook {
    /// It takes connections.
    Accepts,
    /// It takes none.
    Refuses,
    /// There is no socket here any more.
    Gone(PathBuf),
}

/// An engine did not answer.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The request could not be made for this endpoint.
    #[error("cannot address the engine: {0}")]
    BadRequest(#[from] http::Error),
    /// The key holds bytes that no header may hold.
    #[error("the engine's key cannot be sent in a header")]
    BadKey,
    /// No connection, or it broke before the answer's head.
    #[error("the engine does not answer: {0}")]
    NoAnswer(#[from] hyper_util::client::legacy::Error),
}

impl EngineError {
    /// No connection came about: the request has had no effect.
    #[must_use]
    pub fn is_connect(&self) -> bool {
        matches!(self, Self::NoAnswer(error) if error.is_connect())
    }

    /// The innermost cause, which says most: `No such file or directory (os error 2)`.
    #[must_use]
    pub fn cause(&self) -> String {
        let mut innermost: &(dyn std::error::Error + 'static) = self;
        while let Some(source) = innermost.source() {
            innermost = source;
        }
        innermost.to_string()
    }
}

/// Engines close idle connections themselves sooner or later; a shorter time here avoids racing with that.
const IDLE_TIMEOUT: Duration = Duration::from_secs(4);
/// A local engine that does not accept within this time is stuck.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// A process closes all that it has within microseconds of its end; a machine that is busy takes longer.
const KEPT_FOR: Duration = Duration::from_millis(20);
/// A server that binds its socket anew has none for a moment, far shorter than this.
const GONE_FOR: Duration = Duration::from_millis(100);
/// More idle connections than an engine has slots serve nobody.
const IDLE_PER_ENGINE_MAX: usize = 64;

impl Default for EngineClient {
    fn default() -> Self {
        Self::new()
    }
}

impl EngineClient {
    /// A client without connections.
    #[must_use]
    pub fn new() -> Self {
        Self::through(EngineConnector { in_memory: None })
    }

    fn through(connector: EngineConnector) -> Self {
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_TIMEOUT)
            .pool_max_idle_per_host(IDLE_PER_ENGINE_MAX)
            .build(connector.clone());
        let unpooled =
            Client::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build(connector.clone());
        Self { client, unpooled, connector }
    }

    /// A client for engines of a test: whatever has a socket's path is reached through `connect`.
    #[cfg(any(test, feature = "testkit"))]
    pub(crate) fn in_memory(connect: ConnectInMemory) -> Self {
        Self::through(EngineConnector { in_memory: Some(connect) })
    }

    /// Sends `request`, whose URI is a path such as `/v1/models`, and returns as soon as the answer's head is
    /// there. Dropping the future or the answer's body closes the connection, which tells the engine to stop.
    /// A request with `Connection: close` gets a connection of its own: llama.cpp closes one after each
    /// stream without saying so, and what is sent on it meanwhile is lost.
    ///
    /// # Errors
    /// See [`EngineError`].
    pub async fn send(
        &self,
        endpoint: &Endpoint,
        secret: Option<&Secret>,
        mut request: Request<Full<Bytes>>,
    ) -> Result<Response<Incoming>, EngineError> {
        *request.uri_mut() = endpoint_uri(endpoint, request.uri())?;
        let headers = request.headers_mut();
        headers.remove(HOST);
        headers.insert(HOST, HeaderValue::from_static("localhost"));
        headers.remove(AUTHORIZATION);
        if let Some(secret) = secret {
            let mut value = HeaderValue::from_str(&format!("Bearer {}", secret.reveal()))
                .map_err(|_| EngineError::BadKey)?;
            value.set_sensitive(true);
            headers.insert(AUTHORIZATION, value);
        }
        if let Endpoint::Url(base) = endpoint
            && let Some(host) = base.authority()
            && let Ok(value) = HeaderValue::from_str(host.as_str())
        {
            headers.insert(HOST, value);
        }
        let client = if headers.contains_key(CONNECTION) { &self.unpooled } else { &self.client };
        Ok(client.request(request).await?)
    }

    /// Whether somebody takes a new connection there and keeps it: a process that is ending closes its
    /// connections one by one, the one that it listens on maybe last.
    pub async fn is_accepting(&self, endpoint: &Endpoint) -> bool {
        let Ok(uri) = endpoint_uri(endpoint, &Uri::from_static("/")) else { return false };
        match tokio::time::timeout(CONNECT_TIMEOUT, connect(&uri, self.connector.in_memory.as_ref())).await {
            Ok(Ok(EngineStream::Unix(stream))) => is_kept(stream.into_inner()).await,
            Ok(Ok(EngineStream::Tcp(stream))) => is_kept(stream.into_inner()).await,
            Ok(Ok(EngineStream::Memory(stream))) => is_kept(stream.into_inner()).await,
            Ok(Err(_)) | Err(_) => false,
        }
    }

    /// Finds out why a request did not reach an engine.
    pub(crate) async fn look(&self, endpoint: &Endpoint) -> EngineLook {
        if let Some(path) = self.gone_socket(endpoint).await {
            return EngineLook::Gone(path);
        }
        if self.is_accepting(endpoint).await { EngineLook::Accepts } else { EngineLook::Refuses }
    }

    /// The socket of an engine that has one, where that is not there any more.
    pub(crate) async fn gone_socket(&self, endpoint: &Endpoint) -> Option<PathBuf> {
        let Endpoint::Unix(path) = endpoint else { return None };
        if self.has_socket(path) {
            return None;
        }
        tokio::time::sleep(GONE_FOR).await;
        (!self.has_socket(path)).then(|| path.clone())
    }

    /// A socket that cannot be looked at counts as there: its connections tell what is wrong.
    fn has_socket(&self, path: &Path) -> bool {
        if let Some(connect) = &self.connector.in_memory {
            return connect(path).is_some();
        }
        match std::fs::metadata(path) {
            Ok(found) => found.file_type().is_socket(),
            Err(error) => !matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory),
        }
    }
}

async fn is_kept(mut stream: impl AsyncRead + Unpin) -> bool {
    // A server says nothing before it is asked, so that whatever comes is the end.
    tokio::time::timeout(KEPT_FOR, stream.read(&mut [0])).await.is_err()
}

/// A Unix socket's path travels as the host, in hexadecimal, so that the pool tells engines apart.
const UNIX_SCHEME: &str = "unix";

fn endpoint_uri(endpoint: &Endpoint, path: &Uri) -> Result<Uri, http::Error> {
    let path_and_query = path.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
    let builder = match endpoint {
        Endpoint::Unix(socket) => {
            let host = base16ct::lower::encode_string(socket.as_os_str().as_encoded_bytes());
            Uri::builder().scheme(UNIX_SCHEME).authority(host)
        }
        Endpoint::Tcp(address) => Uri::builder().scheme("http").authority(address.to_string()),
        Endpoint::Url(base) => {
            let base_path = base.path().trim_end_matches('/');
            // A base URL that ends in /v1, as OpenAI clients have it, and a path that begins with it, name it
            // once.
            let rest = if base_path.ends_with("/v1") {
                path_and_query.strip_prefix("/v1").unwrap_or(path_and_query)
            } else {
                path_and_query
            };
            return Uri::builder()
                .scheme("http")
                .authority(base.authority().map_or("", http::uri::Authority::as_str))
                .path_and_query(format!("{base_path}{rest}"))
                .build();
        }
    };
    builder.path_and_query(path_and_query).build()
}

/// Makes the connections.
#[derive(Clone)]
struct EngineConnector {
    in_memory: Option<ConnectInMemory>,
}

/// The way to engines of a test, by the path of their socket.
type ConnectInMemory = Arc<dyn Fn(&Path) -> Option<DuplexStream> + Send + Sync>;

impl fmt::Debug for EngineConnector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EngineConnector")
    }
}

impl tower_service::Service<Uri> for EngineConnector {
    type Response = EngineStream;
    type Error = std::io::Error;
    type Future = Pin<Box<dyn Future<Output = std::io::Result<EngineStream>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let in_memory = self.in_memory.clone();
        Box::pin(async move {
            tokio::time::timeout(CONNECT_TIMEOUT, connect(&uri, in_memory.as_ref()))
                .await
                .unwrap_or_else(|_| Err(ErrorKind::TimedOut.into()))
        })
    }
}

async fn connect(uri: &Uri, in_memory: Option<&ConnectInMemory>) -> std::io::Result<EngineStream> {
    use std::io::Error;
    let host = uri.host().ok_or_else(|| Error::new(ErrorKind::InvalidInput, "no host"))?;
    if uri.scheme_str() == Some(UNIX_SCHEME) {
        let bytes = base16ct::lower::decode_vec(host).map_err(Error::other)?;
        let path = String::from_utf8(bytes).map_err(Error::other)?;
        if let Some(connect) = in_memory {
            let stream = connect(Path::new(&path)).ok_or(ErrorKind::NotFound)?;
            return Ok(EngineStream::Memory(TokioIo::new(stream)));
        }
        return Ok(EngineStream::Unix(TokioIo::new(UnixStream::connect(path).await?)));
    }
    let stream = TcpStream::connect((host.trim_matches(['[', ']']), uri.port_u16().unwrap_or(80))).await?;
    // Tokens are small writes: they must not wait for each other.
    stream.set_nodelay(true)?;
    Ok(EngineStream::Tcp(TokioIo::new(stream)))
}

#[derive(Debug)]
enum EngineStream {
    Unix(TokioIo<UnixStream>),
    Tcp(TokioIo<TcpStream>),
    Memory(TokioIo<DuplexStream>),
}

impl Connection for EngineStream {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

impl Read for EngineStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: ReadBufCursor<'_>,
    ) -> Poll<std::io::Result<()>> {
        match self.get_mut() {
            Self::Unix(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Tcp(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Memory(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl Write for EngineStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<std::io::Result<usize>> {
        match self.get_mut() {
            Self::Unix(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::Tcp(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::Memory(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        match self.get_mut() {
            Self::Unix(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tcp(stream) => Pin::new(stream).poll_flush(cx),
            Self::Memory(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        match self.get_mut() {
            Self::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Memory(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
