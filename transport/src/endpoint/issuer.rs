//! The node that lets others in and removes them.
//!
//! Owns its tokens, serials and the port to its ledger. Refuses to know how the ledger stores.

use std::fmt;
use std::sync::Arc;

use arw_kit::moment::WallTime;

use super::renewal_hold::RenewalHold;
use crate::certificate::{
    CERTIFICATE_LIFETIME, Certificate, ClusterKey, Revocation, SignedCertificate, SignedRevocation,
};
use crate::identity::NodeId;
use crate::token::{CreateTokenError, TokenId, TokenRecord, TokenTable};

/// Serials that are reserved at a time: one write to disk for so many certificates.
pub(super) const SERIALS_RESERVED: u64 = 64;
/// With so few left the next ones are reserved.
const SERIALS_LOW: u64 = 32;

/// Serials for each millisecond since 1970: more than anybody signs in one, and enough for 140 000 years.
const SERIALS_PER_MS_BITS: u32 = 12;
/// A clock that is ahead by more than that must not use all serials up for ever.
const CLOCK_MS_MAX: u64 = (1 << 48) - 1;

/// WIRE-10: the lowest serial that may be reserved at `wall`. Of two folders of one issuer (a backup, a
/// snapshot, the old machine) neither knows what the other has given out; both know what time it is.
pub(crate) fn serial_floor(wall: WallTime) -> u64 {
    u64::try_from(wall.as_millis()).unwrap_or_default().min(CLOCK_MS_MAX) << SERIALS_PER_MS_BITS
}

/// What a node needs to let others in.
pub struct Issuer {
    /// The key that makes members.
    pub cluster: ClusterKey,
    /// The tokens that an earlier start stored.
    pub tokens: TokenTable,
    /// Where what must outlive this process is stored.
    pub ledger: Arc<dyn IssuerLedger>,
    /// When all of this came from a backup, if it did: what was removed since is not known.
    pub restored_at: Option<WallTime>,
}

impl fmt::Debug for Issuer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Issuer").field("cluster", &self.cluster).finish_non_exhaustive()
    }
}

/// Stores what an issuer must not forget. Every method returns only when what it was given would survive a
/// power cut.
///
/// The methods may block: they are called one at a time, on a thread that may wait.
pub trait IssuerLedger: Send + Sync + 'static {
    /// Stores a token's record in the place of the one before. WIRE-12: the joiner is answered after this.
    ///
    /// # Errors
    /// [`LedgerError`]: nothing may have been stored.
    fn store_token(&self, record: &TokenRecord) -> Result<(), LedgerError>;

    /// Forgets tokens that ended long ago.
    ///
    /// # Errors
    /// [`LedgerError`].
    fn forget_tokens(&self, tokens: &[TokenId]) -> Result<(), LedgerError>;

    /// Gives out `count` serials that were never given out before, also not before a restart or by a copy of
    /// the ledger as far as the clock tells, and returns the first. It is higher than `above`. Later ones are
    /// higher.
    ///
    /// # Errors
    /// [`LedgerError`].
    fn reserve_serials(&self, above: u64, count: u64) -> Result<u64, LedgerError>;

    /// Stores a removal.
    ///
    /// # Errors
    /// [`LedgerError`].
    fn store_revocation(&self, revocation: &SignedRevocation) -> Result<(), LedgerError>;
}

/// The ledger could not store.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the ledger cannot store: {0}")]
pub struct LedgerError(pub String);

/// A token was not made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CreateError {
    /// This node lets nobody in.
    #[error("this node lets nobody in: make the token on the node that created the cluster")]
    NotIssuer,
    /// What was asked for is not possible.
    #[error(transparent)]
    Token(#[from] CreateTokenError),
    /// It could not be stored.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The system gives no random bytes.
    #[error("the system gives no random bytes")]
    NoRandomness,
    /// The endpoint has ended.
    #[error("the endpoint has ended")]
    Ended,
}

/// A token was not revoked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RevokeError {
    /// This node lets nobody in.
    #[error("this node has no tokens: revoke it on the node that made it")]
    NotIssuer,
    /// No such token.
    #[error("there is no token {0} here: `arw cluster token list` shows all")]
    Unknown(TokenId),
    /// It is refused from now on, but that may be forgotten at a restart.
    #[error("the token is refused now, but may be good again after a restart: {0}")]
    Ledger(#[from] LedgerError),
    /// The endpoint has ended.
    #[error("the endpoint has ended")]
    Ended,
}

/// A node was not removed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RemoveError {
    /// This node cannot.
    #[error("this node has not the cluster's key: remove the node on the one that created the cluster")]
    NotIssuer,
    /// It is this node.
    #[error("a node cannot remove itself: let it leave")]
    Itself,
    /// There are no serials, or too many removed nodes.
    #[error("the node cannot be removed: {0}")]
    Refused(String),
    /// It could not be stored. What it had joined with lets nobody in until the next start of this node.
    #[error("the node is still a member, as its removal could not be stored: {0}")]
    Ledger(#[from] LedgerError),
    /// The endpoint has ended.
    #[error("the endpoint has ended")]
    Ended,
}

/// The issuer at work.
pub(super) struct IssuerState {
    pub(super) cluster: ClusterKey,
    pub(super) tokens: TokenTable,
    /// Renewals wait.
    pub(super) hold: Option<RenewalHold>,
    serial_next: u64,
    serial_end: u64,
    /// The highest serial that anybody has shown: another folder of this issuer may have given it out.
    serial_seen: u64,
    /// When the last certificate ends of which this node knows. This machine's clock may have been ahead when
    /// it was signed.
    latest_end: WallTime,
}

impl IssuerState {
    /// With `count` serials from `first` on.
    pub(super) fn new(cluster: ClusterKey, tokens: TokenTable, first: u64, count: u64) -> Self {
        let serial_end = first.saturating_add(count);
        let (serial_seen, latest_end) = (0, WallTime::default());
        Self { cluster, tokens, hold: None, serial_next: first, serial_end, serial_seen, latest_end }
    }

    /// The serial that the next certificate gets; `None` when none is reserved.
    pub(super) fn serial(&self) -> Option<u64> {
        (self.serial_next < self.serial_end).then_some(self.serial_next)
    }

    /// A certificate of this cluster ends then.
    pub(super) fn saw_end(&mut self, end: WallTime) {
        self.latest_end = self.latest_end.max(end);
    }

    /// WIRE-10: the cluster's key has signed this serial, whoever had the key. None that is lower is given
    /// out any more: what is left of the reserved ones is lost, which costs nothing.
    pub(super) fn saw_serial(&mut self, serial: u64) {
        self.serial_seen = self.serial_seen.max(serial);
        if serial >= self.serial_next {
            self.serial_next = serial.saturating_add(1);
            self.serial_end = self.serial_end.max(self.serial_next);
        }
    }

    /// What the next reserved serials must be higher than.
    pub(super) fn serial_seen(&self) -> u64 {
        self.serial_seen
    }

    /// Uses [`IssuerState::serial`] up.
    pub(super) fn take_serial(&mut self) -> Option<u64> {
        let serial = self.serial()?;
        self.serial_next += 1;
        Some(serial)
    }

    /// More must be reserved.
    pub(super) fn is_low(&self) -> bool {
        self.serial_end - self.serial_next < SERIALS_LOW
    }

    /// Reserved serials came. What is left of the ones before is lost, which costs nothing.
    pub(super) fn refill(&mut self, first: u64, count: u64) {
        if first >= self.serial_next {
            self.serial_next = first;
            self.serial_end = first.saturating_add(count);
        }
    }

    /// The next certificate of a member, which has the same roles.
    pub(super) fn renew(
        &mut self,
        node: NodeId,
        of: &Certificate,
        wall: WallTime,
    ) -> Option<SignedCertificate> {
        let serial = self.take_serial()?;
        self.saw_end(wall + CERTIFICATE_LIFETIME);
        Some(self.cluster.certify(node, of.roles, serial, wall, CERTIFICATE_LIFETIME))
    }

    /// WIRE-10: the word that removes a node. It covers every certificate that was ever made: all of them
    /// have lower serials, and none lives longer than one lifetime from now on, or, where the clock has been
    /// set back since, than the last one that is known.
    pub(super) fn revoke(&mut self, node: NodeId, wall: WallTime) -> Option<SignedRevocation> {
        let serial_max = self.take_serial()?;
        let kept_until = self.latest_end.max(wall + CERTIFICATE_LIFETIME);
        Some(self.cluster.revoke(Revocation { node, serial_max, kept_until }))
    }
}

impl fmt::Debug for IssuerState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IssuerState").field("cluster", &self.cluster).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::certificate::{RevocationSet, Roles};

    fn issuer() -> IssuerState {
        let cluster = ClusterKey::from_seed(&[1; 32]).unwrap();
        IssuerState::new(cluster, TokenTable::default(), 10, 3)
    }

    #[test]
    fn a_removal_covers_what_was_made_before_and_nothing_after() {
        // WIRE-10
        let mut issuer = issuer();
        let node = NodeId::from_bytes([7; 32]);
        let wall = WallTime::from_millis(1_800_000_000_000);
        let certify = |issuer: &mut IssuerState| {
            let serial = issuer.take_serial().unwrap();
            issuer.cluster.certify(node, Roles::default(), serial, wall, CERTIFICATE_LIFETIME)
        };
        let before = certify(&mut issuer);
        let mut revoked = RevocationSet::default();
        let key = issuer.cluster.public();
        revoked.add(issuer.revoke(node, wall).unwrap(), &key).unwrap();
        let after = certify(&mut issuer);
        assert!(before.verify(&key, node, wall, &revoked).is_err());
        assert!(after.verify(&key, node, wall, &revoked).is_ok());
    }

    #[test]
    fn a_removal_outlives_a_certificate_that_was_signed_while_the_clock_was_ahead() {
        // WIRE-10
        let mut issuer = issuer();
        let (node, wall) = (NodeId::from_bytes([7; 32]), WallTime::from_millis(1_800_000_000_000));
        let ahead = wall + std::time::Duration::from_secs(2 * 24 * 3600);
        let key = issuer.cluster.public();
        let first = issuer.cluster.certify(node, Roles::default(), 1, ahead, CERTIFICATE_LIFETIME);
        let of = first.verify(&key, node, ahead, &RevocationSet::default()).unwrap();
        let signed = issuer.renew(node, &of, ahead).unwrap();
        let end = signed.verify(&key, node, ahead, &RevocationSet::default()).unwrap().not_after;
        // The clock is right again.
        let revocation = issuer.revoke(node, wall).unwrap().verify(&key).unwrap();
        assert!(revocation.kept_until >= end);
    }

    #[test]
    fn no_serial_is_given_out_twice_and_without_one_nothing_is_signed() {
        let mut issuer = issuer();
        let taken: Vec<u64> = std::iter::from_fn(|| issuer.take_serial()).collect();
        assert_eq!(taken, [10, 11, 12]);
        assert!(
            issuer.is_low() && issuer.revoke(NodeId::from_bytes([1; 32]), WallTime::from_millis(0)).is_none()
        );
        issuer.refill(5, 100);
        assert_eq!(issuer.serial(), None, "an answer that came too late");
        issuer.refill(74, 64);
        assert_eq!((issuer.serial(), issuer.is_low()), (Some(74), false));
    }

    #[test]
    fn a_serial_that_another_folder_of_the_issuer_has_given_out_is_not_given_out_again() {
        // WIRE-10
        let mut issuer = issuer();
        issuer.saw_serial(9);
        assert_eq!(issuer.serial(), Some(10), "what is lower says nothing");
        issuer.saw_serial(11);
        assert_eq!(issuer.serial(), Some(12));
        issuer.saw_serial(500);
        assert_eq!((issuer.serial(), issuer.is_low(), issuer.serial_seen()), (None, true, 500));
        issuer.refill(400, 64);
        assert_eq!(issuer.serial(), None, "they were reserved before it was seen");
        issuer.refill(501, 64);
        assert_eq!(issuer.serial(), Some(501));
        issuer.saw_serial(u64::MAX);
        assert_eq!(issuer.serial(), None);
    }

    #[test]
    fn the_clock_gives_serials_whatever_it_says() {
        let floors = [i64::MIN, -1, 0, 1, 1_800_000_000_000, 1 << 47, 1 << 52, i64::MAX]
            .map(|ms| serial_floor(WallTime::from_millis(ms)));
        assert!(floors.is_sorted(), "{floors:?}");
        assert_eq!((floors[2], floors[3]), (0, 1 << 12));
        assert!(floors.iter().all(|floor| *floor <= u64::MAX / 8), "there is room above: {floors:?}");
    }
}
