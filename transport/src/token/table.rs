//! The tokens that a node gave out.
//!
//! Owns their life: made, used, revoked, expired, forgotten. Refuses to know where records are stored; what
//! it changed, it returns.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use arw_kit::moment::WallTime;

use super::proof::{KeyingMaterial, Proof, ProofKey};
use super::{ADDRESSES_MAX, JoinToken, TokenId, seconds};
use crate::certificate::{ClusterId, Roles};
use crate::identity::NodeId;

/// Tokens that are remembered. One token can let many nodes in, so nobody needs more.
pub const TOKENS_MAX: usize = 256;

/// Nodes that one token can let in: each use is remembered.
pub const USES_MAX: u32 = 1024;

/// The longest life of a token: it lies around in shell histories.
pub const TTL_MAX: Duration = Duration::from_secs(30 * 24 * 3600);

/// An ended token is remembered for so long, so that who uses it late is told why it fails.
const ENDED_KEPT: Duration = Duration::from_secs(24 * 3600);

/// What is known of a token. It does not hold the secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenRecord {
    /// The token.
    pub id: TokenId,
    /// Checks proofs.
    pub key: ProofKey,
    /// What its nodes may be.
    pub roles: Roles,
    /// When it was made.
    pub created_at: WallTime,
    /// From when on it is refused.
    pub expires_at: WallTime,
    /// How many nodes it lets in.
    pub uses_max: u32,
    /// Whom it let in.
    pub used: Vec<TokenUse>,
    /// Since when it is refused.
    pub revoked_at: Option<WallTime>,
}

/// A node that was let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TokenUse {
    /// Which.
    pub node: NodeId,
    /// When first.
    pub at: WallTime,
    /// It was removed since, so the same token does not let it in again.
    pub is_barred: bool,
}

/// What a token is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenState {
    /// It lets so many more nodes in.
    Usable {
        /// How many.
        left: u32,
    },
    /// It let as many in as it may.
    Used,
    /// Its time is over.
    Expired,
    /// It was revoked.
    Revoked,
}

impl TokenRecord {
    /// What it is good for at `now`.
    #[must_use]
    pub fn state(&self, now: WallTime) -> TokenState {
        let used = u32::try_from(self.used.len()).unwrap_or(u32::MAX);
        match self.uses_max.saturating_sub(used) {
            _ if self.revoked_at.is_some() => TokenState::Revoked,
            _ if self.expires_at <= now => TokenState::Expired,
            0 => TokenState::Used,
            left => TokenState::Usable { left },
        }
    }

    fn ended_at(&self) -> WallTime {
        self.revoked_at.unwrap_or(self.expires_at).min(self.expires_at)
    }
}

/// What a new token should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewToken {
    /// What its nodes may be.
    pub roles: Roles,
    /// How long it is good, at most [`TTL_MAX`].
    pub ttl: Duration,
    /// How many nodes it lets in, 1 to [`USES_MAX`].
    pub uses_max: u32,
    /// Where this node can be reached, 1 to [`ADDRESSES_MAX`].
    pub addresses: Vec<SocketAddr>,
}

/// A token was not made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CreateTokenError {
    /// There are too many.
    #[error("{TOKENS_MAX} tokens are in use: revoke some with `arw cluster token revoke`")]
    TooMany,
    /// It would end at once or too late.
    #[error("a token is good for 1 s to {} days, not for {} s", TTL_MAX.as_secs() / 86_400, .ttl.as_secs())]
    Ttl {
        /// What was asked for.
        ttl: Duration,
    },
    /// It would let nobody or too many in.
    #[error("a token lets 1 to {USES_MAX} nodes in, not {uses_max}")]
    Uses {
        /// What was asked for.
        uses_max: u32,
    },
    /// Nobody could reach this node, or the token would be too long.
    #[error("a token has 1 to {ADDRESSES_MAX} addresses, not {count}")]
    Addresses {
        /// How many were given.
        count: usize,
    },
    /// Chance gave the same id again.
    #[error("the random id {0} is taken: try again")]
    IdTaken(TokenId),
}

/// Why a node is not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum TokenRefusal {
    /// No such token, or not its secret: the same answer, so that nobody can ask which tokens there are.
    #[error("the token is not known here, or the proof does not fit it")]
    Proof,
    /// It was revoked.
    #[error("the token was revoked")]
    Revoked,
    /// Its time is over.
    #[error("the token has expired")]
    Expired,
    /// It let others in.
    #[error("the token was used already")]
    Used,
    /// It let this node in, which was removed since.
    #[error("the node was removed since it used this token: it needs a new one")]
    Removed,
}

/// A node may be let in, once the record is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Used {
    /// What the node may be.
    pub roles: Roles,
    /// To be stored before the node is answered; `None` when the same node was let in before and its answer
    /// got lost.
    pub record: Option<TokenRecord>,
}

/// Every token that still matters.
#[derive(Debug, Default)]
pub struct TokenTable {
    records: BTreeMap<TokenId, TokenRecord>,
}

impl TokenTable {
    /// The table with the records that an earlier start stored.
    #[must_use]
    pub fn restore(records: impl IntoIterator<Item = TokenRecord>) -> Self {
        let records = records.into_iter().take(TOKENS_MAX).map(|record| (record.id, record)).collect();
        Self { records }
    }

    /// Makes a token. `id` and `secret` are fresh random bytes. The token is for the person, the record to be
    /// stored before the token is shown.
    ///
    /// # Errors
    /// [`CreateTokenError`].
    pub fn create(
        &mut self,
        now: WallTime,
        wanted: NewToken,
        (cluster, issuer): (ClusterId, NodeId),
        (id, secret): (TokenId, [u8; 16]),
    ) -> Result<(JoinToken, TokenRecord), CreateTokenError> {
        let NewToken { roles, ttl, uses_max, addresses } = wanted;
        if !(Duration::from_secs(1)..=TTL_MAX).contains(&ttl) {
            return Err(CreateTokenError::Ttl { ttl });
        }
        if !(1..=USES_MAX).contains(&uses_max) {
            return Err(CreateTokenError::Uses { uses_max });
        }
        if !(1..=ADDRESSES_MAX).contains(&addresses.len()) {
            return Err(CreateTokenError::Addresses { count: addresses.len() });
        }
        if self.records.contains_key(&id) {
            return Err(CreateTokenError::IdTaken(id));
        }
        if self.records.len() >= TOKENS_MAX {
            return Err(CreateTokenError::TooMany);
        }
        // To the second, as the token says it.
        let expires_at = WallTime::from_millis(i64::from(seconds(now + ttl)) * 1000);
        let token = JoinToken { cluster, issuer, id, expires_at, addresses, secret };
        let record = TokenRecord {
            id,
            key: token.proof_key(),
            roles,
            created_at: now,
            expires_at,
            uses_max,
            used: Vec::new(),
            revoked_at: None,
        };
        self.records.insert(id, record.clone());
        Ok((token, record))
    }

    /// All of them.
    pub fn list(&self) -> impl Iterator<Item = &TokenRecord> {
        self.records.values()
    }

    /// Refuses a token from now on, and returns its record to be stored. `None`: no such token.
    pub fn revoke(&mut self, now: WallTime, id: TokenId) -> Option<TokenRecord> {
        let record = self.records.get_mut(&id)?;
        record.revoked_at.get_or_insert(now);
        Some(record.clone())
    }

    /// Uses a token for `joiner`. The use counts from here on, whether or not the record can be stored: a
    /// token is rather lost than used twice.
    ///
    /// A node that was let in before may ask again: its answer may have been lost, and nobody else has its
    /// key.
    ///
    /// # Errors
    /// [`TokenRefusal`]. What is wrong with a token is told only to who has it.
    pub fn try_use(
        &mut self,
        now: WallTime,
        id: TokenId,
        proof: &Proof,
        keying: &KeyingMaterial,
        (joiner, issuer): (NodeId, NodeId),
    ) -> Result<Used, TokenRefusal> {
        // WIRE-12: the proof comes first; then every use is recorded before it is granted.
        let record = self.records.get_mut(&id).ok_or(TokenRefusal::Proof)?;
        if !record.key.accepts(proof, keying, joiner, issuer) {
            return Err(TokenRefusal::Proof);
        }
        let roles = record.roles;
        let earlier = record.used.iter().find(|used| used.node == joiner);
        match (record.state(now), earlier) {
            (TokenState::Revoked, _) => Err(TokenRefusal::Revoked),
            (TokenState::Expired, _) => Err(TokenRefusal::Expired),
            (TokenState::Used | TokenState::Usable { .. }, Some(TokenUse { is_barred: true, .. })) => {
                Err(TokenRefusal::Removed)
            }
            (TokenState::Used | TokenState::Usable { .. }, Some(_)) => Ok(Used { roles, record: None }),
            (TokenState::Used, None) => Err(TokenRefusal::Used),
            (TokenState::Usable { .. }, None) => {
                record.used.push(TokenUse { node: joiner, at: now, is_barred: false });
                Ok(Used { roles, record: Some(record.clone()) })
            }
        }
    }

    /// Bars a removed node from the tokens that let it in, and returns the records to be stored.
    pub fn bar(&mut self, node: NodeId) -> Vec<TokenRecord> {
        let mut changed = Vec::new();
        for record in self.records.values_mut() {
            let open = record.used.iter_mut().filter(|used| used.node == node && !used.is_barred);
            let barred = open.map(|used| used.is_barred = true).count();
            if barred > 0 {
                changed.push(record.clone());
            }
        }
        changed
    }

    /// Forgets the tokens that ended a day ago, and returns which.
    pub fn prune(&mut self, now: WallTime) -> Vec<TokenId> {
        let over = |record: &&TokenRecord| record.ended_at() + ENDED_KEPT <= now;
        let ended: Vec<TokenId> = self.records.values().filter(over).map(|record| record.id).collect();
        for id in &ended {
            self.records.remove(id);
        }
        ended
    }
}
