//! A connection without a network: what is sent on it waits until the test takes it.

use std::net::SocketAddr;

use bytes::Bytes;
use parking_lot::Mutex;

use crate::wire::CloseCode;

/// One end of it.
#[derive(Debug)]
pub(in crate::endpoint) struct ScriptedWire {
    pub(in crate::endpoint) remote: SocketAddr,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    closed: Option<(CloseCode, Vec<u8>)>,
    datagrams: Vec<Bytes>,
    answered: u64,
}

impl ScriptedWire {
    pub(super) fn new(remote: SocketAddr) -> Self {
        Self { remote, state: Mutex::default() }
    }

    pub(in crate::endpoint) fn is_open(&self) -> bool {
        self.state.lock().closed.is_none()
    }

    pub(in crate::endpoint) fn close(&self, code: CloseCode, reason: &[u8]) {
        self.state.lock().closed.get_or_insert((code, reason.to_vec()));
    }

    pub(in crate::endpoint) fn send_datagram(&self, datagram: Bytes) -> bool {
        let mut state = self.state.lock();
        if state.closed.is_none() {
            state.datagrams.push(datagram);
        }
        state.closed.is_none()
    }

    pub(in crate::endpoint) fn answered(&self) -> u64 {
        self.state.lock().answered
    }

    /// The other end has confirmed something.
    pub(super) fn answer(&self) {
        self.state.lock().answered += 1;
    }

    pub(super) fn datagrams(&self) -> Vec<Bytes> {
        std::mem::take(&mut self.state.lock().datagrams)
    }

    pub(super) fn closed(&self) -> Option<(CloseCode, Vec<u8>)> {
        self.state.lock().closed.clone()
    }
}
