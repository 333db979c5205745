//! What the files of a node's membership say, for who looks after a node that may not even start.
//!
//! Owns the looking: it reads and changes nothing, also where a running node has the same files open. Refuses
//! to mend.

use std::path::Path;

use arw_kit::clock::Clock;
use arw_kit::moment::WallTime;

use super::stored::Stored;
use super::{CLUSTER_KEY, LinkError, StoredError};
use crate::certificate::{Certificate, CertificateError, ClusterId, ClusterKey};
use crate::identity::NodeId;

/// The membership that lies in a state folder.
#[derive(Debug)]
pub struct Inspection {
    /// The cluster.
    pub cluster: ClusterId,
    /// The node that made the cluster: it renews certificates.
    pub issuer: NodeId,
    /// What the node's certificate says, or why it is not good for the node now.
    pub certificate: Result<Certificate, CertificateError>,
    /// Whether the cluster's key can be used; `None` where the node did not make the cluster, and needs none.
    pub cluster_key: Option<Result<(), LinkError>>,
}

/// Looks at the membership of `node` in its state folder; `None` when it is in no cluster.
///
/// # Errors
/// [`StoredError`]: the file cannot be used.
pub fn inspect(state_dir: &Path, node: NodeId, now: WallTime) -> Result<Option<Inspection>, StoredError> {
    let Some(stored) = Stored::load(state_dir, Clock::starting_at(now))? else { return Ok(None) };
    let contents = stored.contents();
    let path = state_dir.join(CLUSTER_KEY);
    let cluster_key = (contents.issuer == node).then(|| {
        if !path.exists() {
            return Err(LinkError::NoClusterKey { path: path.clone() });
        }
        let key = ClusterKey::load_or_create(&path)?;
        if key.public() == contents.cluster_key {
            Ok(())
        } else {
            Err(LinkError::OtherClusterKey { path: path.clone() })
        }
    });
    Ok(Some(Inspection {
        cluster: contents.cluster_key.id(),
        issuer: contents.issuer,
        certificate: contents.judge(node, now, &stored.revoked()),
        cluster_key,
    }))
}
