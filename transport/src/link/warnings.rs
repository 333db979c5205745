//! What is wrong with this node as a member, in words for people.
//!
//! A decider. Owns the sentences, which stand in `reasons` of the node, in events and in `arw cluster
//! status`. Refuses to know how they get there.

use std::time::Duration;

use arw_kit::moment::WallTime;

use crate::certificate::Certificate;
use crate::endpoint::{Fence, Picture};
use crate::identity::NodeId;

/// A renewal that has not come for so long is no matter of a restart or of a night: at least nine days are
/// left to mend it.
const RENEWED_WITHIN: Duration = Duration::from_secs(24 * 3600);

/// Everything that a person should do something about. `issuer` signs the certificates.
pub(super) fn of(
    picture: &Picture,
    certificate: &Certificate,
    issuer: NodeId,
    wall: WallTime,
) -> Vec<String> {
    let fence = picture.fence.as_ref().map(fenced);
    let ending = ending(certificate, picture.own.id, issuer, wall);
    fence.into_iter().chain(ending).collect()
}

/// WIRE-25: the cluster takes another start of this node for it.
pub(super) fn fenced(fence: &Fence) -> String {
    let place = fence.elsewhere.map(|address| format!(" at {address}")).unwrap_or_default();
    let what = if fence.is_copy { "another copy" } else { "a later start" };
    format!(
        "this node is out of its cluster: {what} of it runs{place}, so its state folder was copied. Stop the one that is not meant; to go on with this one, \
         restart it then; to make it a node of its own, stop it, remove node.key, identity.json, cluster.json and cluster.key from its state folder, and join again"
    )
}

/// WIRE-21: from two thirds of its time on a certificate is renewed; where that does not happen the node
/// drops out of the cluster at its end.
fn ending(certificate: &Certificate, own: NodeId, issuer: NodeId, wall: WallTime) -> Option<String> {
    if wall < certificate.renew_from() + RENEWED_WITHIN {
        return None;
    }
    let until = certificate.not_after;
    Some(if own == issuer {
        format!(
            "this node's certificate ends at {until} and could not be renewed: look in its log for why its disk takes no serials"
        )
    } else {
        let issuer = issuer.short();
        format!(
            "this node's certificate ends at {until}, from when on nobody in the cluster takes it: node {issuer}, which renews it, has not done so. Start that node, \
             or put it back on another machine with `arw cluster restore`"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::certificate::{CERTIFICATE_LIFETIME, ClusterKey, RevocationSet, Roles};

    #[test]
    fn a_certificate_that_is_not_renewed_for_a_day_is_warned_of_with_who_would_renew_it() {
        let start = WallTime::from_millis(1_800_000_000_000);
        let cluster = ClusterKey::from_seed(&[1; 32]).unwrap();
        let (own, issuer) = (NodeId::from_bytes([2; 32]), NodeId::from_bytes([7; 32]));
        let signed = cluster.certify(own, Roles::default(), 1, start, CERTIFICATE_LIFETIME);
        let certificate = signed.verify(&cluster.public(), own, start, &RevocationSet::default()).unwrap();
        let day = |days: u64| start + Duration::from_secs(days * 24 * 3600);
        let warned = |days, issuer| ending(&certificate, own, issuer, day(days));
        assert_eq!((warned(0, issuer), warned(20, issuer)), (None, None));
        let words = warned(21, issuer).unwrap();
        assert!(
            words.contains(&issuer.short()) && words.contains(&certificate.not_after.to_string()),
            "{words}"
        );
        assert!(!warned(22, own).unwrap().contains("restore"), "it would renew it itself");
    }
}
