//! The server: an address, connections and their limits, and an orderly end.
//!
//! Owns the listener and the accept loop. Refuses to know what is asked (`routes.rs`), and how streams of
//! other nodes are served (`peer/service.rs`).

mod admission;
mod holder;
mod lasting;
mod progress;
mod watched;

use std::collections::HashMap;
use std::convert::Infallible;
use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use arw_actors::cluster::StreamService;
use arw_actors::config::GatewaySettings;
use arw_actors::node::Node;
use arw_kit::moment::Moment;
use axum::body::Body;
use http::{Request, Response};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::{AbortHandle, Id, JoinError, JoinSet};
use tower::Service;
use tracing::{debug, info, warn};

pub use holder::Holder;

use admission::{Admission, Places, Row, admit, next_deadline};
use progress::{Patience, Progress, Room};
use watched::{WatchedService, WatchedStream};

use crate::front::Front;
use crate::peer::{PeerLimits, PeerService};
use crate::shared::{Gate, Shared};

/// Connections that the system keeps until they are accepted: a burst of clients, or those beyond the limit.
const BACKLOG: u32 = 1024;
/// Open answers may end by themselves for so long: as long as engines are given to end.
const DRAIN: Duration = Duration::from_secs(10);
/// Out of file descriptors or memory: some connection has to end first.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Nothing tells of a place for so long only if something was missed.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// A client that takes nothing of what was sent to it for so long is gone, or as good as gone: it would hold
/// an engine's slot or an event stream until the system gives up on it, which takes a quarter of an hour.
pub(crate) const STALL: Duration = Duration::from_secs(60);
/// hyper's smallest buffer.
const BUFFER_BYTES_MIN: usize = 8 * 1024;

/// A gateway that listens.
///
/// ```no_run
/// # async fn run(node: arw_actors::node::Node, settings: arw_actors::config::GatewaySettings) -> Result<(), arw_gateway::BindError> {
/// let gateway = arw_gateway::Gateway::bind(node, &settings)?;
/// println!("http://{}", gateway.local_addr());
/// gateway.serve(async { /* until the node shall end */ }).await;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Gateway {
    gate: Gate,
    listener: TcpListener,
    address: SocketAddr,
    peers: PeerService,
}

/// The gateway cannot listen.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Somebody else listens there.
    #[error(
        "{address} is taken{}: stop that program, or listen elsewhere: `--http {}:{}`, or `--http {}:0` for any free port",
        by(.holder.as_ref()), .address.ip(), .address.port().wrapping_add(1), .address.ip()
    )]
    Taken {
        /// The address.
        address: SocketAddr,
        /// By whom, as far as the system tells.
        holder: Option<Holder>,
    },
    /// HTTP-1: an address that other machines reach, without a token for reading.
    #[error(
        "{address} can be reached from other machines: set `gateway.require_token_for_reads = true`, or listen on 127.0.0.1"
    )]
    OpenToNetwork {
        /// The address.
        address: SocketAddr,
    },
    /// The system refuses for another reason.
    #[error("cannot listen on {address}: {problem}; choose an address of this machine: `--http 127.0.0.1:0`")]
    Refused {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        problem: std::io::Error,
    },
}

/// What whoever lets other machines reach the gateway has to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unencrypted {
    /// What is so.
    pub found: String,
    /// What to do.
    pub help: &'static str,
}

/// HTTP-1: where a gateway on this address can be reached from other machines, which it answers in clear.
#[must_use]
pub fn unencrypted(address: SocketAddr) -> Option<Unencrypted> {
    if address.ip().is_loopback() {
        return None;
    }
    let found = format!(
        "{address} can be reached from other machines, and tokens, requests and answers travel there unencrypted"
    );
    let help = "listen on 127.0.0.1 and put a proxy with TLS in front, or use only a network that you trust";
    Some(Unencrypted { found, help })
}

fn by(holder: Option<&Holder>) -> String {
    holder.map_or_else(String::new, |holder| format!(" by {holder}"))
}

impl Gateway {
    /// Begins to listen; connections wait until [`Gateway::serve`]. To be called within a tokio runtime.
    ///
    /// # Errors
    /// [`BindError`], with what to do.
    pub fn bind(node: Node, settings: &GatewaySettings) -> Result<Self, BindError> {
        let address = settings.http;
        // HTTP-1.
        if !address.ip().is_loopback() && !settings.require_token_for_reads {
            return Err(BindError::OpenToNetwork { address });
        }
        let listener = listen(address).map_err(|problem| {
            if problem.kind() == std::io::ErrorKind::AddrInUse {
                BindError::Taken { address, holder: holder::find(address) }
            } else {
                BindError::Refused { address, problem }
            }
        })?;
        if let Some(Unencrypted { found, help }) = unencrypted(address) {
            warn!(help, "{found}");
        }
        let bound = listener.local_addr().map_err(|problem| BindError::Refused { address, problem })?;
        let gate = Shared::new(node, settings);
        let peers = PeerService::new(&gate, PeerLimits::of(settings.connections_max));
        Ok(Self { gate, listener, address: bound, peers })
    }

    /// Serves the streams of other nodes, for as long as this gateway does, on the runtime that it was made
    /// in. The transport is to bring streams of members only: what they may ask needs no token.
    #[must_use]
    pub fn stream_service(&self) -> Arc<dyn StreamService> {
        Arc::new(self.peers.clone())
    }

    /// Where it listens: the port is the real one also where any was asked for.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `shutdown` resolves, then ends in order: no new connections and streams of other nodes,
    /// event streams end at once, answers may end by themselves for 10 s.
    pub async fn serve(self, shutdown: impl Future<Output = ()> + Send) {
        let Self { gate, listener, address, peers } = self;
        let front = Front::new(gate.clone());
        let mut connections = Connections::new(&gate);
        // It was accepted when there was room, or somebody who would give way, and then there was not.
        let mut waiting = None;
        let mut shutdown = pin!(shutdown);
        info!(%address, "the gateway serves");
        loop {
            let until = connections.full_until(&gate);
            if until.is_none()
                && let Some((stream, source)) = waiting.take()
            {
                waiting = connections.take(&gate, &front, stream, source);
                continue;
            }
            tokio::select! {
                biased;
                () = &mut shutdown => break,
                Some(ended) = connections.tasks.join_next_with_id() => connections.note_end(ended),
                () = connections.room.freed(), if until.is_some() => {}
                () = asleep(&gate, until), if until.is_some() => {}
                accepted = accept(&listener), if until.is_none() => waiting = accepted,
            }
        }
        let mut connections = connections.tasks;
        // Clients that come now are refused instead of left waiting.
        drop(listener);
        gate.stop();
        let drained = async {
            while let Some(ended) = connections.join_next().await {
                note_panic(ended.as_ref().err());
            }
            peers.drained().await;
        };
        if tokio::time::timeout(DRAIN, drained).await.is_err() {
            warn!(open = connections.len(), "connections did not end in time and are cut");
            peers.cut();
            connections.shutdown().await;
        }
        info!(%address, "the gateway has ended");
    }
}

fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // A node that restarts gets its port back although old connections linger. (On Windows this would share
    // the port.)
    #[cfg(unix)]
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// The open connections, each a task.
struct Connections {
    room: Arc<Room>,
    tasks: JoinSet<()>,
    known: HashMap<Id, (Arc<Progress>, AbortHandle)>,
}

impl Connections {
    fn new(gate: &Gate) -> Self {
        let most = usize::try_from(gate.settings.connections_max).unwrap_or(usize::MAX).max(1);
        Self { room: Arc::new(Room::new(Places::of(most))), tasks: JoinSet::new(), known: HashMap::new() }
    }

    fn rows(&self) -> impl ExactSizeIterator<Item = (Id, Row)> {
        self.known.iter().map(|(id, (progress, _))| (*id, progress.row()))
    }

    /// HTTP-6: while every connection waits for this node, new ones wait in the system's queue. Then this is
    /// when to look again at the latest.
    fn full_until(&self, gate: &Gate) -> Option<Moment> {
        if self.known.len() < self.room.places().all() {
            return None;
        }
        // First, so that what frees a place after this look is told.
        self.room.want(true);
        let now = gate.now();
        if let Admission::Wait = admit(self.rows(), self.room.places(), now) {
            return Some(next_deadline(self.rows()).unwrap_or(now + LOOK_AGAIN));
        }
        self.room.want(false);
        None
    }

    /// Takes a connection in, maybe for another one; gives it back when it has to wait.
    fn take(
        &mut self,
        gate: &Gate,
        front: &Front,
        stream: TcpStream,
        source: IpAddr,
    ) -> Option<(TcpStream, IpAddr)> {
        match admit(self.rows(), self.room.places(), gate.now()) {
            Admission::Replace(id) => {
                // It may have begun a request since it was looked at.
                let Some((progress, task)) = self.known.get(&id).filter(|(progress, _)| progress.close())
                else {
                    return Some((stream, source));
                };
                debug!(row = ?progress.row(), "a connection gives way to a new one");
                task.abort();
                self.known.remove(&id);
            }
            Admission::Admit => {}
            Admission::Wait => return Some((stream, source)),
        }
        let clock = gate.node.system.clock();
        let progress = Arc::new(Progress::new(clock, Arc::clone(&self.room), source));
        let served = connection(gate.clone(), front.clone(), stream, Arc::clone(&progress));
        let task = self.tasks.spawn(served);
        self.known.insert(task.id(), (progress, task));
        None
    }

    fn note_end(&mut self, ended: Result<(Id, ()), JoinError>) {
        let id = match &ended {
            Ok((id, ())) => *id,
            Err(error) => error.id(),
        };
        note_panic(ended.err().as_ref());
        self.known.remove(&id);
    }
}

async fn asleep(gate: &Gate, until: Option<Moment>) {
    match until {
        Some(moment) => tokio::time::sleep_until(gate.node.system.clock().instant(moment)).await,
        None => std::future::pending().await,
    }
}

/// HTTP-6.
async fn accept(listener: &TcpListener) -> Option<(TcpStream, IpAddr)> {
    match listener.accept().await {
        Ok((stream, from)) => Some((stream, from.ip())),
        Err(error) if is_the_clients(&error) => None,
        Err(error) => {
            warn!(%error, "cannot accept a connection");
            tokio::time::sleep(ACCEPT_PAUSE).await;
            None
        }
    }
}

/// The client went away before it was accepted.
fn is_the_clients(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

fn note_panic(error: Option<&JoinError>) {
    if let Some(error) = error
        && error.is_panic()
    {
        tracing::error!(%error, "a connection's task panicked");
    }
}

async fn connection(gate: Gate, front: Front, stream: TcpStream, progress: Arc<Progress>) {
    // Events and tokens are small writes: they must not wait for each other.
    if let Err(error) = stream.set_nodelay(true) {
        debug!(%error, "a connection without TCP_NODELAY");
    }
    cut_when_stalled(&stream, STALL);
    let mut served = pin!(serve_http(&gate.settings, stream, front, progress));
    let ended = tokio::select! {
        ended = served.as_mut() => ended,
        () = gate.stopping() => {
            served.as_mut().graceful_shutdown();
            served.await
        }
    };
    if let Err(error) = ended {
        // Clients go away all the time.
        debug!(%error, "a connection ended early");
    }
}

/// HTTP-6. hyper's time for a head begins with the wait for its first byte; the stream has two of its own.
fn serve_http<S, F>(
    settings: &GatewaySettings,
    stream: S,
    front: F,
    progress: Arc<Progress>,
) -> http1::Connection<TokioIo<WatchedStream<S>>, WatchedService<F>>
where
    S: AsyncRead + AsyncWrite + Unpin,
    F: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + Clone,
    F::Future: Send + 'static,
{
    let patience = Patience { idle: settings.idle_timeout, head: settings.header_read_timeout };
    let stream = WatchedStream::new(stream, Arc::clone(&progress), patience);
    builder(settings)
        .header_read_timeout(None::<Duration>)
        .serve_connection(TokioIo::new(stream), WatchedService { front, progress })
}

/// HTTP-6: slow clients, on the way out.
#[cfg(target_os = "linux")]
fn cut_when_stalled(stream: &TcpStream, after: Duration) {
    let millis = u32::try_from(after.as_millis()).unwrap_or(u32::MAX);
    if let Err(error) = rustix::net::sockopt::set_tcp_user_timeout(stream, millis) {
        debug!(%error, "a connection without a limit for stalling");
    }
}

#[cfg(not(target_os = "linux"))]
fn cut_when_stalled(_: &TcpStream, _: Duration) {}

/// HTTP-6: on a stream of another node, which carries one request, hyper enforces the time for a head. It
/// cuts heads off at twice the limit; `limits.rs` refuses smaller ones in words.
pub(crate) fn builder(settings: &GatewaySettings) -> http1::Builder {
    let head_max = usize::try_from(settings.header_max_bytes).unwrap_or(usize::MAX);
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(settings.header_read_timeout)
        .max_buf_size(head_max.saturating_mul(2).max(BUFFER_BYTES_MIN));
    builder
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use tokio::io::AsyncWriteExt;

    use super::*;

    /// HTTP-6.
    #[tokio::test]
    async fn a_client_that_takes_nothing_is_cut_off() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let _silent = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (mut stream, _) = listener.accept().await.unwrap();
        cut_when_stalled(&stream, Duration::from_millis(100));
        let writing = async { while stream.write_all(&[0; 65_536]).await.is_ok() {} };
        tokio::time::timeout(Duration::from_secs(20), writing).await.unwrap();
    }
}
