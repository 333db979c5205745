//! Endpoints with the windows and buffers of a node, and clocks: what needs no crate of ours.
//!
//! The package `ractor_cluster` beside this file takes it too, so that all ends over QUIC are alike. Refuses
//! to know whose keys they have.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::{ClientConfig, Endpoint, EndpointConfig, ServerConfig, TokioRuntime, TransportConfig};
use rustix::net::sockopt::{set_socket_recv_buffer_size, set_socket_send_buffer_size};
use tokio::runtime::Runtime;

use crate::kit::percentile;

pub(crate) fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// On a free port of the loopback, with windows and buffers as nodes have them.
pub(crate) fn endpoint(server: rustls::ServerConfig, client: rustls::ClientConfig) -> Endpoint {
    let socket = UdpSocket::bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    // Where the system allows less, it gives what it allows.
    set_socket_recv_buffer_size(&socket, 4 << 20).unwrap();
    set_socket_send_buffer_size(&socket, 4 << 20).unwrap();
    let mut server = ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(server).unwrap()));
    server.transport_config(transport());
    let mut endpoint =
        Endpoint::new(EndpointConfig::default(), Some(server), socket, Arc::new(TokioRuntime)).unwrap();
    let mut client = ClientConfig::new(Arc::new(QuicClientConfig::try_from(client).unwrap()));
    client.transport_config(transport());
    endpoint.set_default_client_config(client);
    endpoint
}

fn transport() -> Arc<TransportConfig> {
    let mut transport = TransportConfig::default();
    transport.stream_receive_window((512_u32 << 10).into());
    transport.receive_window((32_u32 << 20).into());
    transport.send_window(16 << 20);
    // A client's runtime stands still while others are measured, for longer than a connection would bear.
    transport.max_idle_timeout(None);
    Arc::new(transport)
}

pub(crate) fn micros(samples: &mut [Duration], part: f64) -> f64 {
    percentile(samples, part).unwrap_or_default().as_secs_f64() * 1e6
}

/// Time for which this process, both ends of it, has run. On one core that is the time that passes, less what
/// other processes took of it.
pub(crate) fn cpu_time() -> Duration {
    Duration::try_from(rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime)).unwrap()
}

pub(crate) fn millions(count: usize, began: Duration) -> f64 {
    f64::from(u32::try_from(count).unwrap()) / (cpu_time() - began).as_secs_f64() / 1e6
}
