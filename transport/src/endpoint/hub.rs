//! Where the endpoint's tasks meet: its core behind a lock, and what they all need.
//!
//! Owns how a step is taken: the lock is held for the decision alone, never over an await and never while
//! somebody else's code runs. Steps are taken on the network's thread; other threads only look. Refuses to
//! decide.

use std::net::SocketAddr;
use std::sync::Arc;

use arw_kit::clock::Clock;
use arw_kit::moment::Moment;
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::core::{Core, Effect};
use super::events::EventQueue;
use super::issuer::IssuerLedger;
use super::options::Limits;
use super::services::PeerServices;
use super::socket::ReleasableSocket;
use super::{dial, issuing, quic};
use crate::wire::GoodbyeReason;

/// What all tasks of one endpoint share.
pub(super) struct Hub {
    core: Mutex<State>,
    pub(super) clock: Clock,
    pub(super) services: Arc<dyn PeerServices>,
    pub(super) events: Arc<EventQueue>,
    pub(super) quinn: quinn::Endpoint,
    server: quinn::ServerConfig,
    client: quinn::ClientConfig,
    segmentation_offload: bool,
    pub(super) ledger: Option<Arc<dyn IssuerLedger>>,
    /// One write at a time, in the order in which they were decided.
    pub(super) ledger_turn: tokio::sync::Mutex<()>,
    pub(super) streams_max: u32,
    /// The time for which the network's thread sleeps has changed.
    pub(super) woken: Notify,
    sockets: Mutex<Vec<Arc<ReleasableSocket>>>,
}

struct State {
    core: Core,
    /// Until when the network's thread sleeps.
    sleeps_until: Moment,
}

/// What a hub is made of.
pub(super) struct Parts {
    pub(super) core: Core,
    pub(super) clock: Clock,
    pub(super) services: Arc<dyn PeerServices>,
    pub(super) events: Arc<EventQueue>,
    pub(super) quinn: quinn::Endpoint,
    pub(super) server: quinn::ServerConfig,
    pub(super) client: quinn::ClientConfig,
    pub(super) ledger: Option<Arc<dyn IssuerLedger>>,
    pub(super) limits: Limits,
    pub(super) socket: Arc<ReleasableSocket>,
}

impl Hub {
    pub(super) fn new(parts: Parts) -> Self {
        let sleeps_until = parts.clock.now();
        Self {
            core: Mutex::new(State { core: parts.core, sleeps_until }),
            clock: parts.clock,
            services: parts.services,
            events: parts.events,
            quinn: parts.quinn,
            server: parts.server,
            client: parts.client,
            segmentation_offload: parts.limits.segmentation_offload,
            ledger: parts.ledger,
            ledger_turn: tokio::sync::Mutex::new(()),
            streams_max: parts.limits.streams_max,
            woken: Notify::new(),
            sockets: Mutex::new(vec![parts.socket]),
        }
    }

    /// Looks at the core, from any thread.
    pub(super) fn look<T>(&self, look: impl FnOnce(&mut Core) -> T) -> T {
        look(&mut self.core.lock().core)
    }

    /// Takes a step, on the network's thread.
    pub(super) fn act<T>(self: &Arc<Self>, step: impl FnOnce(&mut Core, Moment) -> T) -> T {
        let now = self.clock.now();
        let mut state = self.core.lock();
        let outcome = step(&mut state.core, now);
        let effects = state.core.settle(now);
        let is_earlier = state.core.next_deadline() < state.sleeps_until;
        drop(state);
        for effect in effects {
            self.perform(effect);
        }
        if is_earlier {
            self.woken.notify_one();
        }
        outcome
    }

    /// Until when the network's thread may sleep.
    pub(super) fn sleep_until(&self) -> Moment {
        let mut state = self.core.lock();
        state.sleeps_until = state.core.next_deadline();
        state.sleeps_until
    }

    fn perform(self: &Arc<Self>, effect: Effect) {
        match effect {
            Effect::Up(peer, connection) => self.services.peer_up(&peer, connection),
            Effect::Down(node, incarnation, reason) => self.services.peer_down(node, incarnation, &reason),
            Effect::Control(peer, message) => self.services.control(&peer, message),
            Effect::Dial(attempt) => drop(tokio::spawn(dial::dial(Arc::clone(self), attempt))),
            Effect::ReserveSerials => drop(tokio::spawn(issuing::reserve_serials(Arc::clone(self)))),
            Effect::ForgetTokens(tokens) => {
                drop(tokio::spawn(issuing::forget_tokens(Arc::clone(self), tokens)));
            }
        }
    }

    /// How a connection begins that this node opens now.
    pub(super) fn client(&self) -> quinn::ClientConfig {
        let signs = self.look(|core| core.life_signs());
        let mut config = self.client.clone();
        config.transport_config(quic::transport(quinn::Side::Client, signs, self.segmentation_offload));
        config
    }

    /// How a connection begins that another opens now.
    pub(super) fn server(&self) -> Arc<quinn::ServerConfig> {
        let signs = self.look(|core| core.life_signs());
        let mut config = self.server.clone();
        config.transport_config(quic::transport(quinn::Side::Server, signs, self.segmentation_offload));
        Arc::new(config)
    }

    /// Where the endpoint listens now.
    pub(super) fn local_addr(&self) -> SocketAddr {
        let sockets = self.sockets.lock();
        sockets.last().map_or_else(|| SocketAddr::from(([0, 0, 0, 0], 0)), |socket| socket.address())
    }

    /// The endpoint goes on over this socket. What is on its way to the one before is still read; the one
    /// before that is given back.
    pub(super) fn took_socket(&self, socket: Arc<ReleasableSocket>) {
        let mut sockets = self.sockets.lock();
        sockets.push(socket);
        while sockets.len() > 2 {
            sockets.remove(0).release();
        }
    }

    /// The end: no task runs any more. Whoever still has a connection cannot keep the port with it.
    pub(super) fn finish(&self) {
        let mut state = self.core.lock();
        state.core.stop(self.clock.now(), GoodbyeReason::Stopping);
        let effects = state.core.settle(self.clock.now());
        drop(state);
        for effect in effects {
            if let Effect::Down(node, incarnation, reason) = effect {
                self.services.peer_down(node, incarnation, &reason);
            }
        }
        self.sockets.lock().iter().for_each(|socket| socket.release());
        self.events.end();
    }
}

impl std::fmt::Debug for Hub {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hub").field("local", &self.local_addr()).finish_non_exhaustive()
    }
}
