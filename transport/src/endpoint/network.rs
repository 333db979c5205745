//! The network's thread.
//!
//! Owns its life: it starts with the socket, sleeps until something is due, carries out commands, and ends
//! with a good-bye or, when all handles are gone, without one. Refuses to decide.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::time::Duration;

use quinn::{Runtime as _, TokioRuntime};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{sleep, sleep_until, timeout};

use super::core::{Beginning, Core};
use super::handle::{ChangeAddressError, Command};
use super::hub::{Hub, Parts};
use super::issuer::IssuerLedger;
use super::options::StartError;
use super::services::PeerServices;
use super::socket::ReleasableSocket;
use super::{accept, issuing, quic};
use crate::identity::NodeKey;
use crate::membership::MemberIdentity;
use crate::wire::{CloseCode, GoodbyeReason};

/// How long closing packets and last datagrams may take to leave. They go at once, as soon as the
/// connections' tasks have had their turn.
const FLUSH: Duration = Duration::from_millis(20);

/// How long the end may wait for peers to confirm that they heard it.
const GOODBYE_WITHIN: Duration = Duration::from_millis(300);

/// How often the network's tasks get their turn before timers run: what has arrived goes through the socket,
/// the connection and its reader.
const TURNS_BEFORE_TIMERS: usize = 4;

/// How long writes to the ledger may take after the end.
const LEDGER_WITHIN: Duration = Duration::from_secs(1);

/// What the thread starts with.
pub(super) struct Launch {
    pub(super) key: Arc<NodeKey>,
    pub(super) listen: SocketAddr,
    pub(super) advertised: Option<SocketAddr>,
    pub(super) server: quinn::ServerConfig,
    pub(super) client: quinn::ClientConfig,
    pub(super) beginning: Beginning,
    pub(super) services: Arc<dyn PeerServices>,
    pub(super) ledger: Option<Arc<dyn IssuerLedger>>,
}

/// The thread, from its first to its last moment.
pub(super) fn run(
    launch: Launch,
    started: &SyncSender<Result<Arc<Hub>, StartError>>,
    commands: mpsc::Receiver<Command>,
) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(4).build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => return drop(started.send(Err(StartError::Thread(error)))),
    };
    let opened = {
        let _context = runtime.enter();
        open(launch)
    };
    let hub = match opened {
        Ok(hub) => hub,
        Err(error) => return drop(started.send(Err(error))),
    };
    let finish = Finish(Arc::clone(&hub));
    if started.send(Ok(Arc::clone(&hub))).is_err() {
        return;
    }
    let said = runtime.block_on(serve(hub, commands));
    runtime.shutdown_timeout(LEDGER_WITHIN);
    // Only now is the port free.
    drop(finish);
    if let Some(said) = said {
        // Who asked may not wait any more.
        said.send(()).ok();
    }
}

/// However the thread ends, the socket is given back and everybody is told.
struct Finish(Arc<Hub>);

impl Drop for Finish {
    fn drop(&mut self) {
        self.0.finish();
    }
}

fn open(launch: Launch) -> Result<Arc<Hub>, StartError> {
    let Launch { key, listen, advertised, server, client, mut beginning, services, ledger } = launch;
    let failed = |source| StartError::Socket { address: listen, source };
    let socket = bind(listen).map_err(failed)?;
    let quinn = quinn::Endpoint::new_with_abstract_socket(
        quic::endpoint(&key),
        Some(server.clone()),
        socket.clone(),
        Arc::new(TokioRuntime),
    )
    .map_err(failed)?;
    let address = told(advertised, socket.address());
    beginning.identity = MemberIdentity::new(key.id(), address, beginning.identity.incarnation);
    let (clock, events) = (beginning.clock, Arc::clone(&beginning.events));
    let limits = beginning.limits;
    let core = Core::new(clock.now(), beginning);
    let parts = Parts { core, clock, services, events, quinn, server, client, ledger, limits, socket };
    Ok(Arc::new(Hub::new(parts)))
}

fn bind(address: SocketAddr) -> std::io::Result<Arc<ReleasableSocket>> {
    let socket = TokioRuntime.wrap_udp_socket(quic::socket(address)?)?;
    Ok(Arc::new(ReleasableSocket::new(socket)?))
}

/// Serves until it is told to end, and returns who waits for that; `None`: nobody has a handle any more.
async fn serve(hub: Arc<Hub>, mut commands: mpsc::Receiver<Command>) -> Option<oneshot::Sender<()>> {
    tokio::spawn(accept::accept_all(Arc::clone(&hub)));
    // Whom it knows from before is dialed at once.
    hub.act(|_, _| ());
    loop {
        let deadline = hub.clock.instant(hub.sleep_until());
        tokio::select! {
            biased;
            command = commands.recv() => match command? {
                Command::Shutdown { reason, reply } => {
                    shut_down(&hub, reason).await;
                    return Some(reply);
                }
                other => carry_out(&hub, other),
            },
            () = hub.woken.notified() => {}
            () = sleep_until(deadline) => {
                // MEMBER-6: after a pause of this process answers wait beside the timers that they answer.
                for _ in 0..TURNS_BEFORE_TIMERS {
                    tokio::task::yield_now().await;
                }
                hub.act(Core::on_timer);
            }
        }
    }
}

/// Commands take time, so each runs by itself. Who asked may have gone: then nobody hears the answer.
fn carry_out(hub: &Arc<Hub>, command: Command) {
    let hub = Arc::clone(hub);
    tokio::spawn(async move {
        match command {
            Command::CreateToken { wanted, reply } => {
                drop(reply.send(issuing::create_token(hub, wanted).await));
            }
            Command::RevokeToken { token, reply } => {
                drop(reply.send(issuing::revoke_token(hub, token).await));
            }
            Command::Remove { node, reply } => drop(reply.send(issuing::remove(hub, node).await)),
            Command::ChangeAddress { listen, advertised, reply } => {
                drop(reply.send(move_to(&hub, listen, advertised).await));
            }
            Command::Advertise { address, reply } => {
                hub.act(|core, now| core.change_address(now, address));
                // Who asked may have gone.
                reply.send(()).ok();
            }
            // It ends the loop that calls this.
            Command::Shutdown { reply, .. } => drop(reply),
        }
    });
}

async fn move_to(
    hub: &Arc<Hub>,
    listen: SocketAddr,
    advertised: Option<SocketAddr>,
) -> Result<SocketAddr, ChangeAddressError> {
    if listen.ip().is_unspecified() && advertised.is_none() {
        return Err(ChangeAddressError::NeedsAdvertised { listen });
    }
    let failed = |source| ChangeAddressError::Socket { address: listen, source };
    let present = hub.local_addr();
    // A socket on all addresses stays where it is when the machine's address changes: its port is taken, by
    // itself.
    let any_port = listen.port() == 0 && listen.ip().is_unspecified();
    let stays = listen.ip() == present.ip() && (any_port || listen.port() == present.port());
    let socket = if stays { None } else { Some(bind(listen).map_err(failed)?) };
    hub.act(|core, now| core.begin_move(now));
    sleep(FLUSH).await;
    if let Some(socket) = socket {
        hub.quinn.rebind_abstract(socket.clone()).map_err(failed)?;
        hub.took_socket(socket);
    }
    let address = hub.local_addr();
    hub.act(|core, now| core.change_address(now, told(advertised, address)));
    Ok(address)
}

/// What others are told: as wished, at the port that there is.
fn told(advertised: Option<SocketAddr>, bound: SocketAddr) -> SocketAddr {
    let mut address = advertised.unwrap_or(bound);
    if address.port() == 0 {
        address.set_port(bound.port());
    }
    address
}

/// MEMBER-7: a node that leaves says so in membership; one that stops only ends its connections, which its
/// peers take for what it is.
async fn shut_down(hub: &Arc<Hub>, reason: GoodbyeReason) {
    let reason = if reason == GoodbyeReason::Leaving { reason } else { GoodbyeReason::Stopping };
    if reason == GoodbyeReason::Leaving {
        hub.act(|core, now| core.leave(now));
        sleep(FLUSH).await;
    }
    hub.act(|core, now| core.stop(now, reason));
    hub.quinn.close(CloseCode::Goodbye(reason).into(), reason.to_string().as_bytes());
    drop(timeout(GOODBYE_WITHIN, hub.quinn.wait_idle()).await);
}
