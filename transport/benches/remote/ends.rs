//! Endpoints as a node's, with its kind of keys, and what the contenders in this process have in common.

use std::net::SocketAddr;

use arw_transport::identity::NodeKey;
use quinn::{Connection, Endpoint};

pub(crate) use crate::bare::{cpu_time, micros, millions, runtime};

pub(crate) fn key(seed: u8) -> NodeKey {
    NodeKey::from_seed(&[seed; 32]).unwrap()
}

/// The node of `seed`.
pub(crate) fn endpoint(seed: u8) -> Endpoint {
    crate::bare::endpoint(key(seed).tls_server().unwrap(), key(seed).tls_client().unwrap())
}

/// Starts a server on a thread of its own; what `serve` makes of each connection lives as long as the
/// process.
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
