//! What a node keeps of its membership: `cluster.json` in its state folder.
//!
//! Owns the file's form, and that a change is on disk before anybody acts on it. The cluster's secret key is not in it: that is `cluster.key`, which only
//! the node has that made the cluster. Refuses to know sockets.

mod form;

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arw_actors::files;
use arw_actors::moment::WallTime;
use parking_lot::Mutex;

use crate::certificate::{
    CertificateError, ClusterPublicKey, REVOCATIONS_MAX, RevocationSet, SignedCertificate, SignedRevocation,
};
use crate::endpoint::{IssuerLedger, Known, LedgerError};
use crate::identity::NodeId;
use crate::token::{TokenId, TokenRecord};

/// Members whose addresses are remembered for the next start: one that answers is enough.
const KNOWN_MAX: usize = 64;

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
}

/// What makes this node a member, as stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Contents {
    pub(super) cluster_key: ClusterPublicKey,
    pub(super) certificate: SignedCertificate,
    /// Who let this node in; itself where it made the cluster.
    pub(super) issuer: NodeId,
    pub(super) known: Vec<(NodeId, Vec<SocketAddr>)>,
    pub(super) revocations: Vec<SignedRevocation>,
    /// The next serial that was never given out. Only the issuer counts.
    pub(super) serial_next: u64,
    pub(super) tokens: Vec<TokenRecord>,
}

/// The file of a member.
#[derive(Debug)]
pub(super) struct Stored {
    path: PathBuf,
    contents: Mutex<Contents>,
}

impl Stored {
    /// The file in `state_dir`; `None` when the node is in no cluster.
    pub(super) fn load(state_dir: &Path) -> Result<Option<Arc<Self>>, StoredError> {
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
        Ok(Some(Arc::new(Self { path, contents: Mutex::new(contents) })))
    }

    /// Makes the file.
    pub(super) fn create(state_dir: &Path, contents: Contents) -> Result<Arc<Self>, StoredError> {
        let path = path_in(state_dir);
        write(&path, &contents)?;
        Ok(Arc::new(Self { path, contents: Mutex::new(contents) }))
    }

    /// Takes the file away: the node is in no cluster any more.
    pub(super) fn forget(state_dir: &Path) -> Result<(), StoredError> {
        let path = path_in(state_dir);
        match fs::remove_file(&path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => Err(StoredError::Io { path, source }),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    pub(super) fn contents(&self) -> Contents {
        self.contents.lock().clone()
    }

    pub(super) fn revoked(&self) -> RevocationSet {
        revoked_in(&self.contents.lock())
    }

    pub(super) fn known(&self) -> Vec<Known> {
        let contents = self.contents.lock();
        let known = contents.known.iter();
        known.map(|(node, addresses)| Known { node: *node, addresses: addresses.clone() }).collect()
    }

    /// The certificate from now on.
    pub(super) fn renew(&self, certificate: SignedCertificate) -> Result<(), StoredError> {
        self.change(|contents| contents.certificate = certificate)
    }

    /// Where members are now. Whoever is not among them is remembered too, behind them, as long as there is room: after a start that met nobody the way
    /// back must still be known.
    pub(super) fn remember(&self, now: Vec<(NodeId, Vec<SocketAddr>)>) -> Result<(), StoredError> {
        let contents = self.contents.lock();
        let (mut known, revoked) = (now, revoked_in(&contents));
        for (node, addresses) in &contents.known {
            if !known.iter().any(|(other, _)| other == node) && !revoked.covers(*node, 0) {
                known.push((*node, addresses.clone()));
            }
        }
        known.truncate(KNOWN_MAX);
        let is_news = contents.known != known;
        drop(contents);
        if is_news { self.change(|contents| contents.known = known) } else { Ok(()) }
    }

    /// A node was removed.
    pub(super) fn revoke(&self, signed: SignedRevocation) -> Result<(), StoredError> {
        self.change(|contents| {
            let node_of =
                |signed: &SignedRevocation| signed.verify(&contents.cluster_key).ok().map(|told| told.node);
            let node = node_of(&signed);
            contents.revocations.retain(|known| node_of(known) != node);
            contents.revocations.push(signed);
            let surplus = contents.revocations.len().saturating_sub(REVOCATIONS_MAX);
            contents.revocations.drain(..surplus);
        })
    }

    /// A serial that was never given out before.
    pub(super) fn next_serial(&self) -> Result<u64, StoredError> {
        let mut serial = 0;
        self.change(|contents| {
            serial = contents.serial_next;
            contents.serial_next = serial.saturating_add(1);
        })?;
        Ok(serial)
    }

    /// Changes the contents if, and only if, the change is on disk.
    fn change(&self, change: impl FnOnce(&mut Contents)) -> Result<(), StoredError> {
        let mut contents = self.contents.lock();
        let mut changed = contents.clone();
        change(&mut changed);
        write(&self.path, &changed)?;
        *contents = changed;
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

    fn reserve_serials(&self, count: u64) -> Result<u64, LedgerError> {
        let mut first = 0;
        let reserved = self.change(|contents| {
            first = contents.serial_next;
            contents.serial_next = first.saturating_add(count);
        });
        reserved.map(|()| first).map_err(|error| into_ledger(&error))
    }

    fn store_revocation(&self, revocation: &SignedRevocation) -> Result<(), LedgerError> {
        self.revoke(*revocation).map_err(|error| into_ledger(&error))
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

fn revoked_in(contents: &Contents) -> RevocationSet {
    let mut set = RevocationSet::default();
    for signed in &contents.revocations {
        // What is in the file was believed before it was written; what is of another cluster is left out.
        let _ = set.add(*signed, &contents.cluster_key);
    }
    set
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
