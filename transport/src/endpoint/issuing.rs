//! What an issuer writes down, and the commands that make it write.
//!
//! Owns that writes leave the network's thread, one at a time, and that nothing is answered before its write
//! is over. Refuses to know how the ledger stores.

use std::sync::Arc;

use super::hub::Hub;
use super::issuer::{
    CreateError, IssuerLedger, IssuerState, LedgerError, RemoveError, RevokeError, SERIALS_RESERVED,
};
use crate::certificate::SignedRevocation;
use crate::identity::NodeId;
use crate::token::{JoinToken, NewToken, TokenId, TokenRecord};

/// Runs one write where it may block.
async fn write<T: Send + 'static>(
    hub: &Hub,
    write: impl FnOnce(&dyn IssuerLedger) -> Result<T, LedgerError> + Send + 'static,
) -> Result<T, LedgerError> {
    let Some(ledger) = hub.ledger.clone() else { return Err(LedgerError("there is none".to_owned())) };
    let done = tokio::task::spawn_blocking(move || write(ledger.as_ref())).await;
    done.unwrap_or_else(|_| Err(LedgerError("the write crashed".to_owned())))
}

/// WIRE-12: stores a token as it is when its turn comes: what was decided since is stored with it, and never
/// undone by an older write.
pub(super) async fn store_token(hub: Arc<Hub>, token: TokenId) -> Result<(), LedgerError> {
    let _turn = hub.ledger_turn.lock().await;
    match hub.look(|core| core.token(token)) {
        Some(record) => write(&hub, move |ledger| ledger.store_token(&record)).await,
        None => Ok(()),
    }
}

pub(super) async fn reserve_serials(hub: Arc<Hub>) {
    let turn = hub.ledger_turn.lock().await;
    let reserved = reserve(&hub).await;
    drop(turn);
    if let Err(error) = &reserved {
        tracing::warn!(%error, "no serials for new certificates");
    }
    hub.act(|core, _| core.reserved(reserved.ok()));
}

/// The first of the reserved ones, and how many they are.
async fn reserve(hub: &Hub) -> Result<(u64, u64), LedgerError> {
    let above = hub.look(|core| core.issuer.as_ref().map_or(0, IssuerState::serial_seen));
    let first = write(hub, move |ledger| ledger.reserve_serials(above, SERIALS_RESERVED)).await?;
    Ok((first, SERIALS_RESERVED))
}

pub(super) async fn forget_tokens(hub: Arc<Hub>, tokens: Vec<TokenId>) {
    let _turn = hub.ledger_turn.lock().await;
    if let Err(error) = write(&hub, move |ledger| ledger.forget_tokens(&tokens)).await {
        tracing::warn!(%error, "ended tokens stay in the ledger");
    }
}

pub(super) async fn create_token(hub: Arc<Hub>, wanted: NewToken) -> Result<JoinToken, CreateError> {
    let (mut id, mut secret) = ([0; 8], [0; 16]);
    aws_lc_rs::rand::fill(&mut id)
        .and_then(|()| aws_lc_rs::rand::fill(&mut secret))
        .map_err(|_| CreateError::NoRandomness)?;
    let id = TokenId::from_bytes(id);
    let wall = hub.clock.wall();
    let created = hub.look(|core| {
        let own = core.own();
        let issuer = core.issuer.as_mut().ok_or(CreateError::NotIssuer)?;
        let ends = (issuer.cluster.id(), own);
        Ok::<_, CreateError>(issuer.tokens.create(wall, wanted, ends, (id, secret))?)
    });
    let (token, _) = created?;
    if let Err(error) = store_token(Arc::clone(&hub), id).await {
        // Nobody has seen it: it must not stay good.
        hub.look(|core| core.issuer.as_mut().and_then(|issuer| issuer.tokens.revoke(wall, id)));
        return Err(error.into());
    }
    Ok(token)
}

pub(super) async fn revoke_token(hub: Arc<Hub>, token: TokenId) -> Result<TokenRecord, RevokeError> {
    let wall = hub.clock.wall();
    let revoked = hub.look(|core| {
        let issuer = core.issuer.as_mut().ok_or(RevokeError::NotIssuer)?;
        issuer.tokens.revoke(wall, token).ok_or(RevokeError::Unknown(token))
    });
    let record = revoked?;
    store_token(hub, token).await?;
    Ok(record)
}

/// A removal that is decided and not over. However it ends, the node is not refused for it any more: by then
/// it is refused as removed, or the removal has failed.
struct Removing {
    hub: Arc<Hub>,
    node: NodeId,
}

impl Drop for Removing {
    fn drop(&mut self) {
        self.hub.look(|core| core.end_removal(self.node));
    }
}

/// Removes a node: stored first, then told.
pub(super) async fn remove(hub: Arc<Hub>, node: NodeId) -> Result<SignedRevocation, RemoveError> {
    let barred = hub.look(|core| core.begin_removal(node))?;
    let _removing = Removing { hub: Arc::clone(&hub), node };
    for record in barred {
        store_token(Arc::clone(&hub), record.id).await?;
    }
    let turn = hub.ledger_turn.lock().await;
    // WIRE-10: its serial is of this moment, so that it is higher than what a copy of this node's folder has
    // given out until now.
    let serials = reserve(&hub).await?;
    let signed = hub.look(|core| core.sign_removal(node, serials))?;
    write(&hub, move |ledger| ledger.store_revocation(&signed)).await?;
    drop(turn);
    let (known, is_connected) = hub.act(|core, now| {
        core.remove(now, &[signed], None).ok();
        (core.proof_of_removal(node), core.session(node).is_some())
    });
    if is_connected {
        let why = "it is connected with a later certificate, which another copy of this node has signed";
        return Err(RemoveError::Refused(why.to_owned()));
    }
    // Another removal of the same node may have overtaken this one: it reaches further.
    known.ok_or_else(|| RemoveError::Refused("as many removed nodes are remembered as can be".to_owned()))
}
