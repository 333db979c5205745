//! Endpoints as a node's, and what both contenders have in common.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use arw_transport::identity::NodeKey;
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::{
    ClientConfig, Connection, Endpoint, EndpointConfig, ServerConfig, TokioRuntime, TransportConfig,
};
use rustix::net::sockopt::{set_socket_recv_buffer_size, set_socket_send_buffer_size};
use tokio::runtime::Runtime;

use crate::kit::percentile;

pub(crate) fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

pub(crate) fn key(seed: u8) -> NodeKey {
    NodeKey::from_seed(&[seed; 32]).unwrap()
}

/// The node of `seed`, with windows and buffers as nodes have them.
pub(crate) fn endpoint(seed: u8) -> Endpoint {
    let socket = UdpSocket::bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    // Where the system allows less, it gives what it allows.
    set_socket_recv_buffer_size(&socket, 4 << 20).unwrap();
    set_socket_send_buffer_size(&socket, 4 << 20).unwrap();
    let mut server = ServerConfig::with_crypto(Arc::new(
        QuicServerConfig::try_from(key(seed).tls_server().unwrap()).unwrap(),
    ));
    server.transport_config(transport());
    let mut endpoint =
        Endpoint::new(EndpointConfig::default(), Some(server), socket, Arc::new(TokioRuntime)).unwrap();
    let mut client =
        ClientConfig::new(Arc::new(QuicClientConfig::try_from(key(seed).tls_client().unwrap()).unwrap()));
    client.transport_config(transport());
    endpoint.set_default_client_config(client);
    endpoint
}

fn transport() -> Arc<TransportConfig> {
    let mut transport = TransportConfig::default();
    transport.stream_receive_window((1_u32 << 20).into());
    transport.receive_window((16_u32 << 20).into());
    transport.send_window(16 << 20);
    Arc::new(transport)
}

/// Starts a server on a thread of its own; what `serve` makes of each connection lives as long as the process.
pub(crate) fn server<F: Future<Output = ()> + 'static>(
    seed: u8,
    serve: impl FnOnce(Connection) -> F + Send + 'static,
) -> SocketAddr {
    let (told, address) = std::sync::mpsc::sync_channel(1);
    std::thread::spawn(move || {
        runtime().block_on(async move {
            let endpoint = endpoint(seed);
            told.send(endpoint.local_addr().unwrap()).unwrap();
            serve(endpoint.accept().await.unwrap().await.unwrap()).await;
        });
    });
    address.recv().unwrap()
}

pub(crate) async fn dial(endpoint: &Endpoint, address: SocketAddr, seed: u8) -> Connection {
    endpoint.connect(address, &arw_transport::identity::server_name(&key(seed).id())).unwrap().await.unwrap()
}

pub(crate) fn micros(samples: &mut [Duration], part: f64) -> f64 {
    percentile(samples, part).unwrap_or_default().as_secs_f64() * 1e6
}

/// Time for which this process, both ends of it, has run. On one core that is the time that passes, less what other processes took of it.
pub(crate) fn cpu_time() -> Duration {
    Duration::try_from(rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime)).unwrap()
}

pub(crate) fn millions(count: usize, began: Duration) -> f64 {
    f64::from(u32::try_from(count).unwrap()) / (cpu_time() - began).as_secs_f64() / 1e6
}
