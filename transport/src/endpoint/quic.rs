//! How quinn is set up, with the reasons.
//!
//! Owns both sides' configuration and the socket. Refuses to know who connects.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::{
    ClientConfig, EndpointConfig, IdleTimeout, MtuDiscoveryConfig, ServerConfig, Side, TransportConfig,
    VarInt,
};
use quinn_proto::HashedConnectionIdGenerator;

use super::life_signs::LifeSigns;
use super::options::StartError;
use crate::identity::NodeKey;

/// WIRE-16: what a stranger may have in flight on all streams together, and how many streams.
pub(super) const STRANGER_BYTES: u32 = 16 * 1024;
const STRANGER_STREAMS: u32 = 1;

/// What a stream may have in flight: half a gigabit per second at 8 ms.
const STREAM_BYTES: u32 = 512 * 1024;

/// Streams that are always read beside those whose answers may be left unread: the control stream, lanes,
/// requests.
const READ_STREAMS: u32 = 32;

/// What this node may have in flight on all streams together. The default is no limit.
const SENT_BYTES: u64 = 16 * 1024 * 1024;

/// Datagrams that wait to be read. Twenty-eight of the largest: more are read late anyway, and before the
/// hello a stranger fills it.
const DATAGRAM_BYTES: usize = 32 * 1024;

/// A connection's packets grow from 1,200 bytes to 1,452 in two steps instead of four: where many nodes meet,
/// every packet of a beginning counts.
const MTU_STEP: u16 = 126;

/// The kernel's buffers. The usual 208 KiB lose datagrams when a few streams send at once.
const SOCKET_BYTES: usize = 4 * 1024 * 1024;

/// Handshakes that quinn keeps before they are judged, and what it buffers of all of them.
const INCOMING_MAX: usize = 1_024;
const INCOMING_BYTES_TOTAL: u64 = 4 * 1024 * 1024;

/// A UDP socket with large buffers, as far as the system gives them.
pub(super) fn socket(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind(address)?;
    socket.set_nonblocking(true)?;
    let enlarged = rustix::net::sockopt::set_socket_recv_buffer_size(&socket, SOCKET_BYTES)
        .and_then(|()| rustix::net::sockopt::set_socket_send_buffer_size(&socket, SOCKET_BYTES));
    if let Err(error) = enlarged {
        tracing::debug!(%address, %error, "the socket keeps its usual buffers");
    }
    Ok(socket)
}

/// What the endpoint itself needs: keys that outlive a restart, so that old peers learn of it at once.
pub(super) fn endpoint(key: &NodeKey) -> EndpointConfig {
    let keys = key.endpoint_keys();
    let mut config = EndpointConfig::new(Arc::new(keys.reset));
    let connection_id = keys.connection_id;
    config.cid_generator(move || Box::new(HashedConnectionIdGenerator::from_key(connection_id)));
    config
}

/// For connections that others open. Each gets its [`transport`] besides.
pub(super) fn server(key: &NodeKey) -> Result<ServerConfig, StartError> {
    let tls = QuicServerConfig::try_from(key.tls_server()?).map_err(|e| StartError::Quic(e.to_string()))?;
    let mut config = ServerConfig::new(Arc::new(tls), Arc::new(key.endpoint_keys().retry));
    config
        .max_incoming(INCOMING_MAX)
        .incoming_buffer_size(STRANGER_BYTES.into())
        .incoming_buffer_size_total(INCOMING_BYTES_TOTAL)
        .retry_token_lifetime(Duration::from_secs(15));
    Ok(config)
}

/// For connections that this node opens. Each gets its [`transport`] besides.
pub(super) fn client(key: &NodeKey) -> Result<ClientConfig, StartError> {
    let tls = QuicClientConfig::try_from(key.tls_client()?).map_err(|e| StartError::Quic(e.to_string()))?;
    Ok(ClientConfig::new(Arc::new(tls)))
}

/// The same for both sides, but for who gives signs of life first. It begins with what a stranger may have;
/// [`welcome`] raises that.
pub(super) fn transport(side: Side, signs: LifeSigns, segmentation_offload: bool) -> Arc<TransportConfig> {
    let every = match side {
        Side::Client => signs.every,
        Side::Server => signs.every_when_dialed(),
    };
    let mut mtu = MtuDiscoveryConfig::default();
    mtu.minimum_change(MTU_STEP);
    let mut config = TransportConfig::default();
    config
        .mtu_discovery_config(Some(mtu))
        .max_idle_timeout(IdleTimeout::try_from(signs.silence_max).ok())
        .keep_alive_interval(Some(every))
        .max_concurrent_bidi_streams(VarInt::from_u32(STRANGER_STREAMS))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .receive_window(VarInt::from_u32(STRANGER_BYTES))
        .stream_receive_window(VarInt::from_u32(STREAM_BYTES))
        .send_window(SENT_BYTES)
        .datagram_receive_buffer_size(Some(DATAGRAM_BYTES))
        .enable_segmentation_offload(segmentation_offload);
    Arc::new(config)
}

/// WIRE-16: the peer at the other end is a member: it may have more streams, and more in flight.
pub(super) fn welcome(connection: &quinn::Connection, streams_max: u32) {
    connection.set_receive_window(VarInt::from_u32(member_bytes(streams_max)));
    connection.set_max_concurrent_uni_streams(VarInt::from_u32(streams_max));
    // Whoever dialed has opened the control stream besides.
    let control = u32::from(connection.side() == Side::Server);
    connection.set_max_concurrent_bi_streams(VarInt::from_u32(streams_max.saturating_add(control)));
}

/// What a member may have in flight on all streams together. Answers that this node's clients do not read
/// take from it: so there is enough for all of them, and for those that are read. An eighth comes on top,
/// because quinn gives room back in steps of that size.
fn member_bytes(streams_max: u32) -> u32 {
    let streams = streams_max.saturating_add(READ_STREAMS);
    STREAM_BYTES.saturating_mul(streams).saturating_add(STREAM_BYTES.saturating_mul(streams) / 7)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn when_all_streams_but_one_are_unread_the_last_one_gets_its_room_back() {
        // WIRE-16: quinn announces room once an eighth of the window has been read.
        for streams_max in [1, 32, 256, 1_024] {
            let window = member_bytes(streams_max);
            let left = window - STREAM_BYTES * (streams_max - 1);
            assert!(left > window / 8 + STREAM_BYTES, "{streams_max} streams");
        }
        assert!(member_bytes(256) < 165 << 20, "it bounds what a member can make this node keep");
    }
}
