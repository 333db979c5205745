//! What a node keeps of its membership: `cluster.json` in its state folder.
//!
//! Owns the file's form, and that a change is on disk before anybody acts on it. The cluster's secret key is
//! not in it: that is `cluster.key`, which only the node has that made the cluster. Refuses to know sockets.

mod form;

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arw_actors::files;
use arw_kit::clock::Clock;
use arw_kit::moment::WallTime;
use parking_lot::Mutex;

use crate::certificate::{
    CertificateError, ClusterPublicKey, REVOCATIONS_MAX, RevocationError, RevocationSet, SignedCertificate,
    SignedRevocation,
};
use crate::endpoint::{IssuerLedger, Known, LedgerError, serial_floor};
use crate::identity::NodeId;
use crate::token::{TokenId, TokenRecord};

/// Members whose addresses are remembered for the next start: one that answers is enough.
const KNOWN_MAX: usize = 64;

/// Addresses that are remembered of each, as many as are tried.
const ADDRESSES_MAX: usize = 8;

/// The file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StoredError {
    /// It cannot be read or written.
    #[error("cannot use {path}: {source}")]
    Io {
        /// Which.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// It is not what this program wrote.
    #[error(
        "{path} is damaged ({why}): restore it from a backup, or move it away to be in no cluster; then join again"
    )]
    Damaged {
        /// Which.
        path: PathBuf,
        /// Where.
        why: String,
    },
    /// A newer program wrote it.
    #[error("{path} has the form {found}, this program knows {}: upgrade it", form::FORM)]
    Newer {
        /// Which.
        path: PathBuf,
        /// Its form.
        found: u32,
    },
    /// There is no room for another removal.
    #[error(
        "as many removed nodes are stored as can be: a removal ends by itself when the node's certificates have expired"
    )]
    TooManyRevocations,
    /// The node has left the cluster meanwhile.
    #[error("this node has left that cluster")]
    Forgotten,
}

/// What makes this node a member, as stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Contents {
    pub(super) cluster_key: ClusterPublicKey,
    pub(super) certificate: SignedCertificate,
    /// Who let this node in; itself where it made the cluster.
    pub(super) issuer: NodeId,
    pub(super) known: Vec<(NodeId, Vec<SocketAddr>)>,
    /// Where the token said that the issuer is: never pushed out by what others say of it since.
    pub(super) token_addresses: Vec<SocketAddr>,
    pub(super) revocations: Vec<SignedRevocation>,
    /// The latest start under which others may know this node.
    pub(super) incarnation: u64,
    /// The next serial that was never given out. Only the issuer counts.
    pub(super) serial_next: u64,
    pub(super) tokens: Vec<TokenRecord>,
    /// When it came from a backup, if it did.
    pub(super) restored_at: Option<WallTime>,
}

/// The file of a member.
#[derive(Debug)]
pub(super) struct Stored {
    path: PathBuf,
    clock: Clock,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    contents: Contents,
    /// The same revocations as in the contents, to be looked up.
    revoked: RevocationSet,
    /// The file is gone for good: a late change must not bring it back.
    is_forgotten: bool,
}

impl Stored {
    fn new(path: PathBuf, contents: Contents, clock: Clock) -> Arc<Self> {
        let mut revoked = RevocationSet::default();
        for signed in &contents.revocations {
            // What is in the file was believed before it was written; what is of another cluster is left out.
            let _ = revoked.add(*signed, &contents.cluster_key);
        }
        Arc::new(Self { path, clock, state: Mutex::new(State { contents, revoked, is_forgotten: false }) })
    }

    /// The file in `state_dir`; `None` when the node is in no cluster.
    pub(super) fn load(state_dir: &Path, clock: Clock) -> Result<Option<Arc<Self>>, StoredError> {
        let path = path_in(state_dir);
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(StoredError::Io { path, source }),
        };
        let contents = form::read(&text).map_err(|problem| match problem {
            form::Unreadable::Newer { found } => StoredError::Newer { path: path.clone(), found },
            form::Unreadable::Damaged(why) => StoredError::Damaged { path: path.clone(), why },
        })?;
        Ok(Some(Self::new(path, contents, clock)))
    }

    /// Makes the file.
    pub(super) fn create(
        state_dir: &Path,
        contents: Contents,
        clock: Clock,
    ) -> Result<Arc<Self>, StoredError> {
        let path = path_in(state_dir);
        write(&path, &contents)?;
        Ok(Self::new(path, contents, clock))
    }

    /// Takes the file away: the node is in no cluster any more. A change that comes later fails.
    pub(super) fn forget(&self) -> Result<(), StoredError> {
        let mut state = self.state.lock();
        state.is_forgotten = true;
        match fs::remove_file(&self.path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                Err(StoredError::Io { path: self.path.clone(), source })
            }
            Ok(()) | Err(_) => Ok(()),
        }
    }

    pub(super) fn contents(&self) -> Contents {
        self.state.lock().contents.clone()
    }

    pub(super) fn revoked(&self) -> RevocationSet {
        self.state.lock().revoked.clone()
    }

    pub(super) fn known(&self) -> Vec<Known> {
        let state = self.state.lock();
        let Contents { known, issuer, token_addresses, .. } = &state.contents;
        let known = known.iter();
        let mut known: Vec<Known> =
            known.map(|(node, addresses)| Known { node: *node, addresses: addresses.clone() }).collect();
        if !token_addresses.is_empty() {
            let at = known.iter().position(|known| known.node == *issuer).unwrap_or_else(|| {
                known.push(Known { node: *issuer, addresses: Vec::new() });
                known.len() - 1
            });
            let addresses = &mut known[at].addresses;
            let more: Vec<SocketAddr> =
                token_addresses.iter().filter(|address| !addresses.contains(address)).copied().collect();
            addresses.truncate(ADDRESSES_MAX.saturating_sub(more.len()));
            addresses.extend(more);
        }
        known
    }

    /// The node is not among those that are remembered, and there is room for it.
    pub(super) fn lacks(&self, node: NodeId) -> bool {
        let known = &self.state.lock().contents.known;
        known.len() < KNOWN_MAX && !known.iter().any(|(known, _)| *known == node)
    }

    /// Others are about to know this node under this start.
    pub(super) fn begin(&self, incarnation: u64) -> Result<(), StoredError> {
        self.change(|contents| contents.incarnation = incarnation)
    }

    /// What the network knows, where this file does not: writes only when there is such a thing.
    pub(super) fn reconcile(
        &self,
        certificate: SignedCertificate,
        revocations: &[SignedRevocation],
    ) -> Result<(), StoredError> {
        let state = self.state.lock();
        let is_renewed = state.contents.certificate != certificate;
        let new: Vec<SignedRevocation> = revocations
            .iter()
            .filter(|signed| !state.contents.revocations.contains(signed))
            .copied()
            .collect();
        drop(state);
        if is_renewed {
            self.renew(certificate)?;
        }
        if new.is_empty() { Ok(()) } else { self.revoke(&new) }
    }

    /// The certificate from now on.
    pub(super) fn renew(&self, certificate: SignedCertificate) -> Result<(), StoredError> {
        self.change(|contents| contents.certificate = certificate)
    }

    /// Where members are now. Whoever is not among them is remembered too, behind them, as long as there is
    /// room, and of each its addresses from before: after a start that met nobody the way back must still be
    /// known. `gone` have left or were removed.
    pub(super) fn remember(
        &self,
        now: Vec<(NodeId, Vec<SocketAddr>)>,
        gone: &BTreeSet<NodeId>,
    ) -> Result<(), StoredError> {
        let state = self.state.lock();
        let mut known = now;
        for (node, before) in &state.contents.known {
            match known.iter_mut().find(|(other, _)| other == node) {
                Some((_, addresses)) => {
                    let more: Vec<SocketAddr> =
                        before.iter().filter(|address| !addresses.contains(address)).copied().collect();
                    addresses.extend(more);
                }
                None if gone.contains(node) => {}
                None => known.push((*node, before.clone())),
            }
        }
        // Members ask the issuer alone for certificates, so its addresses are never crowded out.
        known.sort_by_key(|(node, _)| *node != state.contents.issuer);
        known.truncate(KNOWN_MAX);
        known.iter_mut().for_each(|(_, addresses)| addresses.truncate(ADDRESSES_MAX));
        let is_news = state.contents.known != known;
        drop(state);
        if is_news { self.change(|contents| contents.known = known) } else { Ok(()) }
    }

    /// Nodes were removed.
    pub(super) fn revoke(&self, signed: &[SignedRevocation]) -> Result<(), StoredError> {
        let mut state = self.state.lock();
        let mut revoked = state.revoked.clone();
        // Removals whose certificates have all ended make room for new ones, however long the cluster lives.
        // While there is room nothing is forgotten here: the clock may have jumped ahead.
        if revoked.iter().count() + signed.len() > REVOCATIONS_MAX {
            revoked.prune(self.clock.wall());
        }
        for signed in signed {
            match revoked.add(*signed, &state.contents.cluster_key) {
                // What says nothing new, or is not of this cluster, leaves the set as it is.
                Ok(_)
                | Err(
                    RevocationError::OtherCluster { .. }
                    | RevocationError::BadSignature
                    | RevocationError::Malformed { .. },
                ) => {}
                // Nobody may take for removed who would be a member again after the next start.
                Err(RevocationError::TooMany) => return Err(StoredError::TooManyRevocations),
            }
        }
        let mut changed = state.contents.clone();
        changed.revocations = revoked.iter().copied().collect();
        state.put(&self.path, changed)?;
        state.revoked = revoked;
        Ok(())
    }

    /// After a restore: what was given out since the backup was made is not known, so nothing of it is used
    /// again.
    pub(super) fn restart(&self, serials_skipped: u64) -> Result<(), StoredError> {
        let wall = self.clock.wall();
        let floor = serial_floor(wall);
        self.change(|contents| {
            contents.restored_at = Some(wall);
            // A clock from before the backup says nothing of what was given out since.
            let skipped = contents.serial_next.saturating_add(serials_skipped);
            contents.serial_next = if floor > contents.serial_next { floor } else { skipped };
            contents.tokens.clear();
        })
    }

    /// A serial that was never given out before.
    pub(super) fn next_serial(&self) -> Result<u64, StoredError> {
        let above = self.state.lock().revoked.serial_max();
        self.take_serials(above, 1)
    }

    /// WIRE-10: so many serials that neither this file nor, by the clock, another copy of it has given out.
    fn take_serials(&self, above: u64, count: u64) -> Result<u64, StoredError> {
        let floor = serial_floor(self.clock.wall()).max(above.saturating_add(1));
        let mut first = 0;
        self.change(|contents| {
            first = contents.serial_next.max(floor);
            contents.serial_next = first.saturating_add(count);
        })?;
        Ok(first)
    }

    /// Changes the contents if, and only if, the change is on disk.
    fn change(&self, change: impl FnOnce(&mut Contents)) -> Result<(), StoredError> {
        let mut state = self.state.lock();
        let mut changed = state.contents.clone();
        change(&mut changed);
        state.put(&self.path, changed)
    }
}

impl State {
    fn put(&mut self, path: &Path, changed: Contents) -> Result<(), StoredError> {
        if self.is_forgotten {
            return Err(StoredError::Forgotten);
        }
        write(path, &changed)?;
        self.contents = changed;
        Ok(())
    }
}

impl IssuerLedger for Stored {
    fn store_token(&self, record: &TokenRecord) -> Result<(), LedgerError> {
        let record = record.clone();
        let stored = self.change(|contents| {
            contents.tokens.retain(|known| known.id != record.id);
            contents.tokens.push(record);
        });
        stored.map_err(|error| into_ledger(&error))
    }

    fn forget_tokens(&self, ids: &[TokenId]) -> Result<(), LedgerError> {
        let gone = self.change(|contents| contents.tokens.retain(|known| !ids.contains(&known.id)));
        gone.map_err(|error| into_ledger(&error))
    }

    fn reserve_serials(&self, above: u64, count: u64) -> Result<u64, LedgerError> {
        self.take_serials(above, count).map_err(|error| into_ledger(&error))
    }

    fn store_revocation(&self, revocation: &SignedRevocation) -> Result<(), LedgerError> {
        self.revoke(std::slice::from_ref(revocation)).map_err(|error| into_ledger(&error))
    }
}

impl Contents {
    /// What the certificate says, if it is good for `node` now.
    pub(super) fn judge(
        &self,
        node: NodeId,
        now: WallTime,
        revoked: &RevocationSet,
    ) -> Result<crate::certificate::Certificate, CertificateError> {
        self.certificate.verify(&self.cluster_key, node, now, revoked)
    }
}

fn into_ledger(error: &StoredError) -> LedgerError {
    LedgerError(error.to_string())
}

fn path_in(state_dir: &Path) -> PathBuf {
    state_dir.join("cluster.json")
}

fn write(path: &Path, contents: &Contents) -> Result<(), StoredError> {
    files::replace(path, &form::write(contents))
        .map_err(|source| StoredError::Io { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests;
