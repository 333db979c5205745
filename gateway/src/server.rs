//! The server: an address, connections and their limits, and an orderly end.
//!
//! Owns the listener and the accept loop. Refuses to know what is asked (`routes.rs`), and how streams of other nodes are served (`peer/service.rs`).

mod holder;

use std::future::Future;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use arw_actors::cluster::StreamService;
use arw_actors::config::GatewaySettings;
use arw_actors::node::Node;
use axum::body::Body;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tower::ServiceExt;
use tracing::{debug, info, warn};

pub use holder::Holder;

use crate::front::Front;
use crate::peer::{PeerLimits, PeerService};
use crate::shared::{Gate, Shared};

/// Connections that the system keeps until they are accepted: a burst of clients, or those beyond the limit.
const BACKLOG: u32 = 1024;
/// Open answers may end by themselves for so long: as long as engines are given to end.
const DRAIN: Duration = Duration::from_secs(10);
/// Out of file descriptors or memory: some connection has to end first.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// A client that takes nothing of what was sent to it for so long is gone, or as good as gone: it would hold an engine's slot or an event
/// stream until the system gives up on it, which takes a quarter of an hour.
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
        let bound = listener.local_addr().map_err(|problem| BindError::Refused { address, problem })?;
        let gate = Shared::new(node, settings);
        let peers = PeerService::new(&gate, PeerLimits::of(settings.connections_max));
        Ok(Self { gate, listener, address: bound, peers })
    }

    /// Serves the streams of other nodes, for as long as this gateway does, on the runtime that it was made in. The transport is to bring streams of
    /// members only: what they may ask needs no token.
    #[must_use]
    pub fn stream_service(&self) -> Arc<dyn StreamService> {
        Arc::new(self.peers.clone())
    }

    /// Where it listens: the port is the real one also where any was asked for.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `shutdown` resolves, then ends in order: no new connections and streams of other nodes, event streams end at once, answers may
    /// end by themselves for 10 s.
    pub async fn serve(self, shutdown: impl Future<Output = ()> + Send) {
        let Self { gate, listener, address, peers } = self;
        let front = Front::new(gate.clone());
        let most =
            usize::try_from(gate.settings.connections_max).unwrap_or(usize::MAX).min(Semaphore::MAX_PERMITS);
        let permits = Arc::new(Semaphore::new(most));
        let mut connections = JoinSet::new();
        let mut shutdown = pin!(shutdown);
        info!(%address, "the gateway serves");
        loop {
            let accepted = tokio::select! {
                biased;
                () = &mut shutdown => break,
                Some(ended) = connections.join_next() => {
                    note_end(ended);
                    continue;
                }
                accepted = accept(&listener, &permits) => accepted,
            };
            if let Some((stream, permit)) = accepted {
                connections.spawn(connection(gate.clone(), front.clone(), stream, permit));
            }
        }
        // Clients that come now are refused instead of left waiting.
        drop(listener);
        gate.stop();
        let drained = async {
            while let Some(ended) = connections.join_next().await {
                note_end(ended);
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
    // A node that restarts gets its port back although old connections linger. (On Windows this would share the port.)
    #[cfg(unix)]
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// HTTP-6: beyond the limit, connections wait in the system's queue until another one ends.
async fn accept(
    listener: &TcpListener,
    permits: &Arc<Semaphore>,
) -> Option<(TcpStream, OwnedSemaphorePermit)> {
    // The semaphore is never closed.
    let permit = Arc::clone(permits).acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, _)) => Some((stream, permit)),
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

fn note_end(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        tracing::error!(%error, "a connection's task panicked");
    }
}

async fn connection(gate: Gate, front: Front, stream: TcpStream, _permit: OwnedSemaphorePermit) {
    // Events and tokens are small writes: they must not wait for each other.
    if let Err(error) = stream.set_nodelay(true) {
        debug!(%error, "a connection without TCP_NODELAY");
    }
    cut_when_stalled(&stream, STALL);
    let service = TowerToHyperService::new(
        front.map_request(|request: http::Request<Incoming>| request.map(Body::new)),
    );
    let served = builder(&gate.settings).serve_connection(TokioIo::new(stream), service);
    let mut served = pin!(served);
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

/// HTTP-6: hyper enforces the time for a head. It cuts heads off at twice the limit; `limits.rs` refuses smaller ones in words.
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
