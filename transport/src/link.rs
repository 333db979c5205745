//! One node's link to its cluster: whether it is in one, what it keeps of that, and what it does there.
//!
//! Owns the way from "alone" to "member" and back, and the file that remembers it. A node alone opens no
//! socket. The network itself is the [`endpoint`](crate::endpoint)'s; what is shown of the cluster is the
//! kernel's, which is told the news. Refuses to know HTTP.
//!
//! ```text
//!         first token: this node makes the cluster
//! alone ───────────────────────────────────────────► member
//!   ▲  ───────────────────────────────────────────►    │
//!   │     a token of another node: it joins            │
//!   └──────────────────────────────────────────────────┘
//!         it leaves, or learns that it was removed
//! ```

mod address;
mod backup;
mod card;
mod inspection;
mod member;
mod news;
mod operations;
mod refusals;
mod services;
mod stored;
mod warnings;

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Weak};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use arw_actors::cluster::{
    ClusterError, ClusterUpdate, CreatedToken, JoinTokenRow, JoinedCluster, NodeCard, OpenError, PeerStream,
    StreamService, TokenOrder, Transport, TransportStatus,
};
use arw_kit::clock::Clock;
use arw_kit::moment::WallTime;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use tokio::sync::{Mutex, watch};
use tracing::{error, warn};

use self::address::Reach;
pub use self::backup::{BackedUp, BackupError, back_up, restore};
pub use self::inspection::{Inspection, inspect};
use self::member::Member;
use self::stored::Stored;
pub use self::stored::StoredError;
use crate::certificate::{CERTIFICATE_LIFETIME, CertificateError, ClusterKey, Role, Roles};
use crate::endpoint::{StartError, StreamPurpose};
use crate::identity::{KeyFileError, NodeId, NodeKey};
use crate::remote::{Exports, Links};
use crate::token::JoinToken;
use crate::wire::GoodbyeReason;

/// What a link is made of.
pub struct LinkOptions {
    /// Where the node keeps everything.
    pub state_dir: PathBuf,
    /// Its key.
    pub key: Arc<NodeKey>,
    /// Which start of the node this is.
    pub incarnation: u64,
    /// What it calls itself.
    pub name: String,
    /// Where it listens for other nodes, once it is in a cluster.
    pub listen: SocketAddr,
    /// What others shall dial; `None` to find it out.
    pub advertise: Option<SocketAddr>,
    /// The node's clock.
    pub clock: Clock,
    /// Who is told the news. Never waits.
    pub tell: Arc<dyn Fn(ClusterUpdate) + Send + Sync>,
    /// What this node says of itself.
    pub own_card: watch::Receiver<Arc<NodeCard>>,
    /// Who serves the streams of other nodes.
    pub services: Arc<dyn StreamService>,
    /// The actors that other nodes may send messages to.
    pub exports: Arc<Exports>,
}

impl fmt::Debug for LinkOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LinkOptions")
            .field("name", &self.name)
            .field("listen", &self.listen)
            .finish_non_exhaustive()
    }
}

/// The link cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// What the node keeps of its membership cannot be used.
    #[error(transparent)]
    Stored(#[from] StoredError),
    /// The cluster's key cannot be used.
    #[error(transparent)]
    ClusterKey(#[from] KeyFileError),
    /// The certificate is not good any more.
    #[error("this node is no member of its cluster any more: {0}")]
    Certificate(#[from] CertificateError),
    /// This node made its cluster, and the key of that is gone.
    #[error("{path} is missing, the key of the cluster that this node made: restore it from a backup")]
    NoClusterKey {
        /// Where it should be.
        path: PathBuf,
    },
    /// The key is of another cluster.
    #[error(
        "{path} is the key of another cluster than the one that this node made: restore the right one from a backup"
    )]
    OtherClusterKey {
        /// Where it is.
        path: PathBuf,
    },
    /// The network does not start.
    #[error(transparent)]
    Start(#[from] StartError),
}

/// In the state folder of the node that made the cluster: the cluster's secret key.
pub const CLUSTER_KEY: &str = "cluster.key";

/// How often a node whose clock was wrong at its start looks at it again.
const CLOCK_LOOK: Duration = Duration::from_secs(5);

/// The link of one node. See the [module](self).
pub struct Link {
    shared: Arc<Shared>,
}

struct Shared {
    options: LinkOptions,
    reach: Reach,
    /// What may be used without waiting.
    member: ArcSwapOption<Member>,
    /// The latest start under which this process has shown itself to others.
    incarnation: AtomicU64,
    stopping: watch::Sender<bool>,
    /// Whoever changes `member` holds this.
    changing: Mutex<()>,
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link")
            .field("is_member", &self.shared.member.load().is_some())
            .finish_non_exhaustive()
    }
}

impl Link {
    /// The link of a node that has just started: a member, if it was one before. To be called within a tokio
    /// runtime.
    ///
    /// # Errors
    /// [`LinkError`]. A node whose certificate is over is alone, and says so in the log.
    pub fn open(options: LinkOptions) -> Result<Arc<Self>, LinkError> {
        let reach = Reach { listen: options.listen, advertise: options.advertise };
        let stored = Stored::load(&options.state_dir, options.clock)?;
        let shared = Arc::new(Shared {
            options,
            reach,
            member: ArcSwapOption::empty(),
            incarnation: AtomicU64::new(0),
            stopping: watch::Sender::new(false),
            changing: Mutex::new(()),
        });
        if let Some(stored) = stored {
            let cluster = shared.cluster_key_of(&stored)?;
            if let Some(cluster) = &cluster {
                shared.renew_own(&stored, cluster)?;
            }
            match Member::start(&shared, stored, cluster) {
                Ok(member) => shared.member.store(Some(Arc::new(member))),
                Err(LinkError::Certificate(error @ CertificateError::NotYetValid { .. })) => {
                    warn!(%error, "this node is alone until its clock is right");
                    tokio::spawn(Shared::begin_later(Arc::downgrade(&shared)));
                }
                Err(LinkError::Certificate(error)) => {
                    error!(%error, "this node is alone; `arw join` with a new token makes it a member again");
                }
                Err(error) => return Err(error),
            }
        }
        Ok(Arc::new(Self { shared }))
    }

    /// The actors of other nodes; `None` while this node is in no cluster.
    #[must_use]
    pub fn remote(&self) -> Option<Arc<Links>> {
        self.shared.member.load().as_ref().map(|member| Arc::clone(member.links()))
    }

    /// Whether this node is a member of the cluster that a token is for, whatever became of the token since.
    #[must_use]
    pub fn has_joined_with(&self, token: &str) -> bool {
        let Some(member) = self.shared.member.load_full() else { return false };
        // The beginning of time: whether the token is still good does not matter.
        let token = JoinToken::parse(token, WallTime::default());
        token.is_ok_and(|token| token.cluster == member.certificate().cluster)
    }

    /// The node stops: others learn it at once, and it comes back as a member when it is started again. A
    /// join that is under way is given up.
    pub async fn stop(&self) {
        self.shared.stopping.send_replace(true);
        let _changing = self.shared.changing.lock().await;
        if let Some(member) = self.shared.member.swap(None) {
            member.end(GoodbyeReason::Stopping).await;
        }
    }
}

impl Shared {
    /// The cluster's secret key, where this node made the cluster.
    fn cluster_key_of(&self, stored: &Stored) -> Result<Option<ClusterKey>, LinkError> {
        let contents = stored.contents();
        if contents.issuer != self.options.key.id() {
            return Ok(None);
        }
        let path = self.cluster_key_path();
        if !path.exists() {
            return Err(LinkError::NoClusterKey { path });
        }
        let key = ClusterKey::load_or_create(&path)?;
        if key.public() != contents.cluster_key {
            return Err(LinkError::OtherClusterKey { path });
        }
        Ok(Some(key))
    }

    /// A machine without a clock of its own begins in the past: as soon as the time is right the node is a
    /// member.
    async fn begin_later(shared: Weak<Self>) {
        loop {
            tokio::time::sleep(CLOCK_LOOK).await;
            let Some(shared) = shared.upgrade() else { return };
            let _changing = shared.changing.lock().await;
            if shared.member.load().is_some() || *shared.stopping.borrow() {
                return;
            }
            let Ok(Some(stored)) = Stored::load(&shared.options.state_dir, shared.options.clock) else {
                return;
            };
            let begun =
                shared.cluster_key_of(&stored).and_then(|cluster| Member::start(&shared, stored, cluster));
            match begun {
                Ok(member) => return shared.member.store(Some(Arc::new(member))),
                Err(LinkError::Certificate(CertificateError::NotYetValid { .. })) => {}
                Err(error) => return error!(%error, "this node stays alone"),
            }
        }
    }

    /// Who has the cluster's key may have been off for longer than a certificate is good for.
    fn renew_own(&self, stored: &Stored, cluster: &ClusterKey) -> Result<(), LinkError> {
        let (own, wall) = (self.options.key.id(), self.options.clock.wall());
        match stored.contents().judge(own, wall, &stored.revoked()) {
            Ok(_) | Err(CertificateError::Removed) => Ok(()),
            Err(CertificateError::Expired { .. } | CertificateError::NotYetValid { .. }) => {
                let serial = stored.next_serial()?;
                let roles = Roles::from_iter([Role::Home, Role::Gateway, Role::Worker]);
                Ok(stored.renew(cluster.certify(own, roles, serial, wall, CERTIFICATE_LIFETIME))?)
            }
            Err(error) => Err(error.into()),
        }
    }

    fn cluster_key_path(&self) -> PathBuf {
        self.options.state_dir.join(CLUSTER_KEY)
    }

    fn tell(&self, news: ClusterUpdate) {
        (self.options.tell)(news);
    }
}

impl Transport for Link {
    fn open(
        &self,
        node: NodeId,
        within: Duration,
    ) -> BoxFuture<'static, Result<Box<dyn PeerStream>, OpenError>> {
        let member = self.shared.member.load_full();
        async move {
            let member = member.ok_or(OpenError::Alone)?;
            let opened = member.endpoint().open(node, StreamPurpose::Service, within).await;
            match opened {
                Ok(stream) => Ok(Box::new(stream) as Box<dyn PeerStream>),
                Err(error) => Err(refusals::open(node, &error)),
            }
        }
        .boxed()
    }

    fn status(&self) -> TransportStatus {
        self.shared.member.load().as_ref().map_or_else(TransportStatus::default, |member| member.status())
    }

    fn create_token(&self, order: TokenOrder) -> BoxFuture<'static, Result<CreatedToken, ClusterError>> {
        let shared = Arc::clone(&self.shared);
        to_the_end(async move { operations::create_token(&shared, order).await })
    }

    fn tokens(&self) -> BoxFuture<'static, Result<Vec<JoinTokenRow>, ClusterError>> {
        let shared = Arc::clone(&self.shared);
        async move { Ok(operations::tokens(&shared)) }.boxed()
    }

    fn revoke_token(&self, id: String) -> BoxFuture<'static, Result<JoinTokenRow, ClusterError>> {
        let shared = Arc::clone(&self.shared);
        to_the_end(async move { operations::revoke_token(&shared, &id).await })
    }

    fn join(&self, token: String) -> BoxFuture<'static, Result<JoinedCluster, ClusterError>> {
        let shared = Arc::clone(&self.shared);
        to_the_end(async move { operations::join(&shared, &token).await })
    }

    fn remove(&self, node: NodeId) -> BoxFuture<'static, Result<(), ClusterError>> {
        let shared = Arc::clone(&self.shared);
        to_the_end(async move { operations::remove(&shared, node).await })
    }

    fn leave(&self) -> BoxFuture<'static, Result<(), ClusterError>> {
        let shared = Arc::clone(&self.shared);
        to_the_end(async move { operations::leave(&shared).await })
    }
}

/// A wish that was begun is carried out, also when whoever wished has gone: half of it would leave the node
/// in between.
fn to_the_end<T: Send + 'static>(
    wish: impl Future<Output = Result<T, ClusterError>> + Send + 'static,
) -> BoxFuture<'static, Result<T, ClusterError>> {
    let wish = tokio::spawn(wish);
    async move { wish.await.unwrap_or_else(|_| Err(refusals::broken())) }.boxed()
}

#[cfg(test)]
mod tests;
