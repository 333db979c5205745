//! A network in memory, from a seed: datagrams are delayed, reordered and lost as the seed says, and all are
//! written down.

use std::collections::{BTreeMap, HashMap};
use std::future::Future as _;
use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use parking_lot::Mutex;
use quinn::udp::{RecvMeta, Transmit};
use quinn::{AsyncUdpSocket, UdpPoller};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use tokio::time::{Instant, Sleep, sleep_until};

use super::journal::{Entry, Journal};

/// What happens to a datagram.
#[derive(Clone, Copy, Debug)]
pub(super) struct Weather {
    pub(super) loss: f64,
    pub(super) delay: Duration,
    /// Up to so much more, by chance: datagrams overtake each other.
    pub(super) jitter: Duration,
}

impl Weather {
    pub(super) const FAIR: Self = Self { loss: 0.0, delay: Duration::from_millis(1), jitter: Duration::ZERO };
}

#[derive(Clone, Debug)]
pub(super) struct Network(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    seed: u64,
    began: Instant,
    chance: StdRng,
    weather: Weather,
    inboxes: HashMap<SocketAddr, Inbox>,
    sent: u64,
    journal: Journal,
}

#[derive(Debug, Default)]
struct Inbox {
    /// By the time of arrival, then by the order of sending.
    datagrams: BTreeMap<(Instant, u64), (SocketAddr, Vec<u8>)>,
    receiver: Option<Waker>,
}

impl Network {
    pub(super) fn new(seed: u64, weather: Weather) -> Self {
        Self(Arc::new(Mutex::new(State {
            seed,
            began: Instant::now(),
            chance: StdRng::seed_from_u64(seed),
            weather,
            inboxes: HashMap::new(),
            sent: 0,
            journal: Journal::default(),
        })))
    }

    pub(super) fn seed(&self) -> u64 {
        self.0.lock().seed
    }

    /// What was sent so far; from now on another one is written.
    pub(super) fn take_journal(&self) -> Journal {
        std::mem::take(&mut self.0.lock().journal)
    }

    /// The socket at this address.
    pub(super) fn socket(&self, address: SocketAddr) -> Arc<dyn AsyncUdpSocket> {
        self.0.lock().inboxes.insert(address, Inbox::default());
        Arc::new(Socket { network: self.clone(), address, arrival: Mutex::new(None) })
    }

    /// From now on so much is lost.
    pub(super) fn set_loss(&self, loss: f64) {
        self.0.lock().weather.loss = loss;
    }

    /// Nothing arrives at this address any more.
    pub(super) fn unplug(&self, address: SocketAddr) {
        self.0.lock().inboxes.remove(&address);
    }
}

impl State {
    fn send(&mut self, from: SocketAddr, to: SocketAddr, datagram: &[u8]) {
        let is_lost = self.chance.random_bool(self.weather.loss);
        let jitter = self.weather.jitter.mul_f64(self.chance.random_range(0.0..1.0));
        let arrival = Instant::now() + self.weather.delay + jitter;
        self.journal.note(Entry { at: self.began.elapsed(), from, to, is_lost }, datagram);
        self.sent += 1;
        let sent = self.sent;
        let Some(inbox) = self.inboxes.get_mut(&to).filter(|_| !is_lost) else { return };
        inbox.datagrams.insert((arrival, sent), (from, datagram.to_vec()));
        if let Some(receiver) = inbox.receiver.take() {
            receiver.wake();
        }
    }
}

#[derive(Debug)]
struct Socket {
    network: Network,
    address: SocketAddr,
    arrival: Mutex<Option<Pin<Box<Sleep>>>>,
}

#[derive(Debug)]
struct AlwaysWritable;

impl UdpPoller for AlwaysWritable {
    fn poll_writable(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl AsyncUdpSocket for Socket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Box::pin(AlwaysWritable)
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        let mut network = self.network.0.lock();
        for datagram in transmit.contents.chunks(transmit.segment_size.unwrap_or(usize::MAX)) {
            network.send(self.address, transmit.destination, datagram);
        }
        Ok(())
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        buffers: &mut [IoSliceMut<'_>],
        metas: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let mut network = self.network.0.lock();
        let Some(inbox) = network.inboxes.get_mut(&self.address) else { return Poll::Pending };
        let mut count = 0;
        while count < buffers.len().min(metas.len()) {
            let Some(first) = inbox.datagrams.first_entry() else { break };
            if first.key().0 > Instant::now() {
                break;
            }
            let (from, datagram) = first.remove();
            buffers[count][..datagram.len()].copy_from_slice(&datagram);
            metas[count] =
                RecvMeta { addr: from, len: datagram.len(), stride: datagram.len(), ecn: None, dst_ip: None };
            count += 1;
        }
        if count > 0 {
            return Poll::Ready(Ok(count));
        }
        inbox.receiver = Some(cx.waker().clone());
        let next = inbox.datagrams.keys().next().map(|(arrival, _)| *arrival);
        drop(network);
        let mut arrival = self.arrival.lock();
        *arrival = next.map(|at| Box::pin(sleep_until(at)));
        // Where it is due already, the task is polled again at once.
        if let Some(sleep) = arrival.as_mut()
            && sleep.as_mut().poll(cx).is_ready()
        {
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.address)
    }

    fn may_fragment(&self) -> bool {
        false
    }
}
