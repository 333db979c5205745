//! What an operator does with a cluster: let machines in, join one, remove a node, leave.
//!
//! Owns the order of steps of each operation, so that one that fails leaves things as they were. Refuses to
//! know who asks.

use std::net::SocketAddr;
use std::path::Path;
use std::str::FromStr as _;
use std::sync::Arc;

use arw_actors::cluster::{
    ClusterError, ClusterErrorKind as Kind, ClusterUpdate, CreatedToken, JoinTokenRow, JoinTokenUse,
    JoinedCluster, TokenOrder,
};
use arw_kit::moment::WallTime;
use tokio::sync::MutexGuard;
use tracing::info;

use super::member::Member;
use super::stored::{Contents, Stored};
use super::{LinkError, Shared, address, news, refusals};
use crate::certificate::{CERTIFICATE_LIFETIME, ClusterId, ClusterKey, Role, Roles};
use crate::endpoint::{self, JoinOptions};
use crate::identity::NodeId;
use crate::membership::NodeState;
use crate::token::{JoinToken, NewToken, TokenId, TokenRecord, TokenState, TokenTable};
use crate::wire::GoodbyeReason;

/// The first serial is the own certificate's.
const FIRST_SERIAL: u64 = 1;

pub(super) async fn create_token(
    shared: &Arc<Shared>,
    order: TokenOrder,
) -> Result<CreatedToken, ClusterError> {
    let _changing = shared.changing.lock().await;
    let roles = roles(&order.roles)?;
    let wall = shared.options.clock.wall();
    let mut wanted = NewToken { roles, ttl: order.ttl, uses_max: order.uses_max, addresses: order.addresses };
    // An operation that makes no sense must not make a cluster.
    check(wall, &wanted)?;
    let before = shared.member.load_full();
    let is_first = before.is_none();
    let member = match before {
        Some(member) => member,
        None if Stored::load(&shared.options.state_dir, shared.options.clock)
            .map_err(|error| refusals::link(&error.into()))?
            .is_some() =>
        {
            return Err(refusals::dormant());
        }
        None => found(shared, wall).await?,
    };
    refuse_fenced(&member)?;
    if wanted.addresses.is_empty() {
        wanted.addresses = shared.reach.for_token(member.endpoint().picture().own.address);
    }
    let addresses = wanted.addresses.clone();
    let issuer = member.stored().contents().issuer;
    let created = member.endpoint().create_token(wanted).await;
    let token = created.map_err(|error| refusals::create(&error, issuer))?;
    let records = member.endpoint().tokens();
    let record = records.iter().find(|record| record.id == token.id);
    let record =
        record.ok_or_else(|| refusals::error(Kind::Failed, "the token was revoked at once", "try again"))?;
    Ok(CreatedToken { token: token.reveal(), row: row(wall, record), addresses, is_first })
}

/// WIRE-25: whom an issuer that is out of its cluster lets in or out the cluster does not know.
fn refuse_fenced(member: &Member) -> Result<(), ClusterError> {
    match member.endpoint().picture().fence {
        Some(fence) => Err(refusals::fenced(&fence)),
        None => Ok(()),
    }
}

/// Makes this node the first of a new cluster.
async fn found(shared: &Arc<Shared>, wall: WallTime) -> Result<Arc<Member>, ClusterError> {
    let options = &shared.options;
    let key_path = shared.cluster_key_path();
    refuse_leftover(&key_path)?;
    let cluster =
        ClusterKey::load_or_create(&key_path).map_err(|error| refusals::link(&LinkError::from(error)))?;
    let own = options.key.id();
    let roles = Roles::from_iter([Role::Home, Role::Gateway, Role::Worker]);
    let contents = Contents {
        cluster_key: cluster.public(),
        certificate: cluster.certify(own, roles, FIRST_SERIAL, wall, CERTIFICATE_LIFETIME),
        issuer: own,
        known: Vec::new(),
        token_addresses: Vec::new(),
        revocations: Vec::new(),
        incarnation: 0,
        serial_next: FIRST_SERIAL + 1,
        tokens: Vec::new(),
        restored_at: None,
    };
    info!(cluster = %cluster.id(), "this node makes a cluster");
    let begun = begin(shared, contents, Some(cluster)).await;
    if begun.is_err()
        && let Err(error) = std::fs::remove_file(&key_path)
    {
        // It was made a moment ago, and signed nothing for anybody.
        tracing::warn!(%error, "the key of a cluster that did not begin stays behind");
    }
    begun
}

/// A cluster's key without the membership that belongs to it is most likely half of a backup: a new cluster
/// would make the other nodes' one ownerless.
fn refuse_leftover(key: &Path) -> Result<(), ClusterError> {
    if !key.exists() {
        return Ok(());
    }
    let message = format!("{} is the key of a cluster, but cluster.json is missing beside it", key.display());
    let help = "put that cluster back with `arw cluster restore FILE`, or copy cluster.json and node.key back; if that cluster is given up, move cluster.key away and try again";
    Err(refusals::error(Kind::Conflict, message, help))
}

/// Stores the membership and starts the network; where that fails the node is as alone as before. It waits
/// for the disk, so it has a thread of its own.
async fn begin(
    shared: &Arc<Shared>,
    contents: Contents,
    cluster: Option<ClusterKey>,
) -> Result<Arc<Member>, ClusterError> {
    let shared = Arc::clone(shared);
    let begun = tokio::task::spawn_blocking(move || begin_now(&shared, contents, cluster)).await;
    begun.unwrap_or_else(|_| Err(refusals::broken()))
}

fn begin_now(
    shared: &Arc<Shared>,
    contents: Contents,
    cluster: Option<ClusterKey>,
) -> Result<Arc<Member>, ClusterError> {
    let state_dir = &shared.options.state_dir;
    let stored = Stored::create(state_dir, contents, shared.options.clock)
        .map_err(|error| refusals::link(&error.into()))?;
    if *shared.stopping.borrow() {
        stored.forget().map_err(|error| refusals::link(&error.into()))?;
        return Err(refusals::stopping());
    }
    match Member::start(shared, Arc::clone(&stored), cluster) {
        Ok(member) => {
            let member = Arc::new(member);
            shared.member.store(Some(Arc::clone(&member)));
            Ok(member)
        }
        Err(error) => {
            stored.forget().map_err(|error| refusals::link(&error.into()))?;
            Err(refusals::link(&error))
        }
    }
}

fn roles(words: &[String]) -> Result<Roles, ClusterError> {
    if words.is_empty() {
        let help = "name one or more of worker, gateway, home";
        return Err(refusals::error(Kind::Bad, "a member has at least one role", help));
    }
    let roles = words.iter().map(|word| Role::from_str(word).map_err(|error| refusals::role(&error)));
    roles.collect()
}

fn check(wall: WallTime, wanted: &NewToken) -> Result<(), ClusterError> {
    let ids = (ClusterId::from_bytes([0; 16]), NodeId::from_bytes([0; 32]));
    let mut wanted = wanted.clone();
    if wanted.addresses.is_empty() {
        wanted.addresses.push(SocketAddr::from(([0, 0, 0, 0], 0)));
    }
    let tried = TokenTable::default().create(wall, wanted, ids, (TokenId::from_bytes([0; 8]), [0; 16]));
    tried.map(drop).map_err(|error| refusals::order(&error))
}

pub(super) fn tokens(shared: &Shared) -> Vec<JoinTokenRow> {
    let wall = shared.options.clock.wall();
    let member = shared.member.load_full();
    let records = member.map_or_else(Vec::new, |member| member.endpoint().tokens());
    records.iter().map(|record| row(wall, record)).collect()
}

pub(super) async fn revoke_token(shared: &Shared, id: &str) -> Result<JoinTokenRow, ClusterError> {
    let token = TokenId::from_str(id).map_err(|error| refusals::token_id(&error))?;
    let member = shared.member.load_full().ok_or_else(refusals::alone)?;
    refuse_fenced(&member)?;
    let issuer = member.stored().contents().issuer;
    let revoked = member.endpoint().revoke_token(token).await;
    let record = revoked.map_err(|error| refusals::revoke(&error, issuer))?;
    Ok(row(shared.options.clock.wall(), &record))
}

fn row(now: WallTime, record: &TokenRecord) -> JoinTokenRow {
    JoinTokenRow {
        id: record.id.to_string(),
        state: match record.state(now) {
            TokenState::Usable { .. } => "usable",
            TokenState::Used => "used",
            TokenState::Expired => "expired",
            TokenState::Revoked => "revoked",
        },
        roles: news::role_words(record.roles),
        created_at: record.created_at,
        expires_at: record.expires_at,
        uses_max: record.uses_max,
        used: record.used.iter().map(|used| JoinTokenUse { node: used.node, at: used.at }).collect(),
    }
}

pub(super) async fn join(shared: &Arc<Shared>, text: &str) -> Result<JoinedCluster, ClusterError> {
    let _changing = shared.changing.lock().await;
    let options = &shared.options;
    let mut token =
        JoinToken::parse(text, options.clock.wall()).map_err(|error| refusals::bad_token(&error))?;
    if let Some(member) = shared.member.load_full() {
        return Err(refusals::member_already(&member.certificate().cluster.to_string()));
    }
    let issuer = token.issuer;
    let mut issuer_addresses = token.addresses.clone();
    // Docker gives the same address to both machines: here it leads to this node itself. If nothing else is
    // left it is tried all the same.
    let own = address::own_addresses();
    if token.addresses.iter().any(|address| !shared.reach.is_itself(&own, *address)) {
        token.addresses.retain(|address| !shared.reach.is_itself(&own, *address));
    }
    let joined = endpoint::join(
        JoinOptions {
            key: Arc::clone(&options.key),
            name: options.name.clone(),
            listen: SocketAddr::new(options.listen.ip(), 0),
            clock: options.clock,
        },
        token,
    );
    let mut stopping = shared.stopping.subscribe();
    let joined = tokio::select! {
        joined = joined => joined.map_err(|error| refusals::join(&error))?,
        _ = stopping.wait_for(|is_stopping| *is_stopping) => return Err(refusals::stopping()),
    };
    // The address that answered is tried first from now on, and this node's own is measured toward it.
    issuer_addresses.sort_by_key(|address| *address != joined.answered_at);
    let mut known = vec![(issuer, issuer_addresses.clone())];
    let others = joined.peers.iter().map(|peer| (NodeId::from_bytes(peer.node), peer.addresses.clone()));
    known.extend(others.filter(|(node, _)| *node != issuer && *node != options.key.id()));
    let contents = Contents {
        cluster_key: joined.cluster_key,
        certificate: joined.signed,
        issuer,
        known,
        token_addresses: issuer_addresses,
        revocations: Vec::new(),
        incarnation: 0,
        serial_next: 0,
        tokens: Vec::new(),
        restored_at: None,
    };
    let member = begin(shared, contents, None).await?;
    Ok(JoinedCluster {
        cluster: joined.certificate.cluster.to_string(),
        roles: news::role_words(joined.certificate.roles),
        issuer,
        address: member.endpoint().picture().own.address,
    })
}

pub(super) async fn remove(shared: &Shared, node: NodeId) -> Result<(), ClusterError> {
    let member = shared.member.load_full().ok_or_else(refusals::alone)?;
    let issuer = member.stored().contents().issuer;
    if !member.endpoint().is_issuer() {
        return Err(refusals::not_issuer(issuer));
    }
    refuse_fenced(&member)?;
    // Also a node that is not shown: it may have been off for days, or never have come after it joined.
    member.endpoint().remove(node).await.map(drop).map_err(|error| refusals::remove(&error, issuer))
}

pub(super) async fn leave(shared: &Arc<Shared>) -> Result<(), ClusterError> {
    let changing = shared.changing.lock().await;
    let Some(member) = shared.member.load_full() else {
        let state_dir = &shared.options.state_dir;
        let stored =
            Stored::load(state_dir, shared.options.clock).map_err(|error| refusals::link(&error.into()))?;
        return match stored {
            Some(stored) => stored.forget().map_err(|error| refusals::link(&error.into())),
            None => Err(refusals::alone()),
        };
    };
    if member.endpoint().is_issuer() {
        let picture = member.endpoint().picture();
        let others = picture.nodes.iter().filter(|entry| entry.identity.id != picture.own.id);
        let left = others.filter(|entry| entry.state != NodeState::Left).count();
        if left > 0 {
            let message =
                format!("this node made the cluster: without it the other {left} can let nobody in or out");
            let help = "let them leave first, or remove them with `arw cluster remove`";
            return Err(refusals::error(Kind::Conflict, message, help));
        }
    }
    shared.part(&changing, &member, GoodbyeReason::Leaving).await;
    Ok(())
}

impl Shared {
    /// The cluster has removed this node, in the membership that began as `incarnation`. A later one is not
    /// meant.
    pub(super) async fn be_removed(&self, incarnation: u64) {
        let changing = self.changing.lock().await;
        if let Some(member) = self.member.load_full().filter(|member| member.incarnation() == incarnation) {
            self.part(&changing, &member, GoodbyeReason::Stopping).await;
        }
    }

    /// The node is in no cluster any more. What made it a member is taken away before the network ends, so
    /// that it stays so whatever happens next.
    async fn part(&self, _changing: &MutexGuard<'_, ()>, member: &Member, reason: GoodbyeReason) {
        self.member.store(None);
        member.end_pump().await;
        if let Err(error) = member.stored().forget() {
            tracing::error!(%error, "this node will take itself for a member at its next start");
        }
        let is_issuer = member.endpoint().is_issuer();
        member.endpoint().shutdown(reason).await;
        if is_issuer
            && reason == GoodbyeReason::Leaving
            && let Err(error) = std::fs::remove_file(self.cluster_key_path())
        {
            tracing::warn!(%error, "the key of the cluster that was left stays behind");
        }
        self.tell(ClusterUpdate::Alone);
    }
}
