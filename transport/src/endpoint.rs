//! The endpoint: this node on the network.
//!
//! Owns one UDP socket and one thread, and drives the deciders of this crate over QUIC: joining
//! ([`join`](mod@crate::join)), the hello ([`handshake`](crate::handshake)),
//! [`membership`](crate::membership). Every member is connected with every other. What travels between
//! members besides is for others: they stand behind [`PeerServices`]. Refuses to know what a card says, what
//! a stream carries, and where anything is stored.
//!
//! ```text
//! EndpointHandle ── commands ──► network (thread, timers) ──┐
//!        └── looks ──────────────────────────────► core ◄───┤  decides; nobody waits in it
//! EndpointEvents ◄── events ──────────────────────┘  │      │
//!                                                effects    │
//!               accept, dial, session, issuing (tasks) ◄────┘
//! ```

mod accept;
mod connection;
mod control_queue;
mod core;
mod counters;
mod dial;
mod dial_schedule;
mod doubts;
mod events;
mod handle;
mod hub;
mod issuer;
mod issuing;
mod joining;
mod life_signs;
mod limiter;
mod network;
mod options;
mod picture;
mod quic;
mod renewal_hold;
mod services;
mod session;
mod socket;
mod stream;

use std::sync::Arc;

use tokio::sync::mpsc;

pub use connection::{OpenError, PeerConnection};
pub use control_queue::SendControlError;
pub use counters::Counters;
pub use events::{EndpointEvent, EndpointEvents, PeerCard};
pub use handle::{CardTooLarge, ChangeAddressError, EndpointHandle};
pub(crate) use issuer::serial_floor;
pub use issuer::{CreateError, Issuer, IssuerLedger, LedgerError, RemoveError, RevokeError};
pub use joining::{JoinOptions, join};
pub use limiter::HandshakeLimits;
pub use options::{Credentials, EndpointOptions, Known, Limits, StartError};
pub use picture::{ConnectionRow, CopyRow, DialRow, Fence, PeerRow, Picture};
pub use services::{InboundStream, NoServices, PeerDownReason, PeerServices, StreamPurpose};
pub use stream::PeerStream;

use self::core::Beginning;
use events::EventQueue;
use issuer::{IssuerState, SERIALS_RESERVED};
use network::Launch;
use renewal_hold::RenewalHold;

use crate::membership::{MemberIdentity, RecordKey};

/// Starts endpoints.
#[derive(Clone, Copy, Debug)]
pub struct Endpoint;

impl Endpoint {
    /// Opens the socket and starts the thread. Members that are known from before are dialed at once.
    ///
    /// It waits for the socket and, on an issuer, for one write to its ledger: milliseconds.
    ///
    /// # Errors
    /// [`StartError`]; nothing runs then.
    pub fn start(options: EndpointOptions) -> Result<(EndpointHandle, EndpointEvents), StartError> {
        let EndpointOptions { key, incarnation, name, listen, advertised, .. } = options;
        let EndpointOptions { credentials, issuer, known, limits, membership, clock, services, .. } = options;
        if listen.ip().is_unspecified() && advertised.is_none() {
            return Err(StartError::NeedsAdvertised { listen });
        }
        let Credentials { certificate: signed, cluster_key, revoked, issuer: renewed_by } = credentials;
        let certificate = signed.verify(&cluster_key, key.id(), clock.wall(), &revoked)?;
        let (issuer, ledger) = match issuer {
            Some(Issuer { cluster, .. }) if cluster.public() != cluster_key => {
                return Err(StartError::OtherClusterKey);
            }
            Some(Issuer { cluster, tokens, ledger, restored_at }) => {
                let above = certificate.serial.max(revoked.serial_max());
                let first = ledger.reserve_serials(above, SERIALS_RESERVED)?;
                let mut issuer = IssuerState::new(cluster, tokens, first, SERIALS_RESERVED);
                issuer.hold = RenewalHold::at_start(clock.now(), clock.wall(), restored_at);
                (Some(issuer), Some(ledger))
            }
            None => (None, None),
        };
        let mut seed = [0; 32];
        aws_lc_rs::rand::fill(&mut seed)
            .map_err(|_| StartError::Quic("the system gives no random bytes".to_owned()))?;
        let events = Arc::new(EventQueue::default());
        let beginning = Beginning {
            identity: MemberIdentity::new(key.id(), advertised.unwrap_or(listen), incarnation),
            record_key: RecordKey::new(Arc::clone(&key), cluster_key.id()),
            name,
            signed,
            certificate,
            cluster_key,
            revoked,
            renewed_by,
            issuer,
            known,
            limits,
            membership,
            seed,
            events: Arc::clone(&events),
            clock,
        };
        let server = quic::server(&key)?;
        let client = quic::client(&key)?;
        let launch = Launch { key, listen, advertised, server, client, beginning, services, ledger };
        launch_thread(launch, events)
    }
}

fn launch_thread(
    launch: Launch,
    events: Arc<EventQueue>,
) -> Result<(EndpointHandle, EndpointEvents), StartError> {
    let (commands, received) = mpsc::channel(handle::COMMANDS_MAX);
    let (started, outcome) = std::sync::mpsc::sync_channel(1);
    std::thread::Builder::new()
        .name("arw-network".to_owned())
        .spawn(move || network::run(launch, &started, received))
        .map_err(StartError::Thread)?;
    let died = || StartError::Thread(std::io::Error::other("it ended before it began"));
    let hub = outcome.recv().map_err(|_| died())??;
    Ok((EndpointHandle::new(hub, commands), EndpointEvents::new(events)))
}

#[cfg(test)]
mod tests;
