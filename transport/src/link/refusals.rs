//! What went wrong, in the kernel's words: what, why, and what to do.
//!
//! Owns the conversion of every error of the network. Refuses to show secrets: the errors that come in hold
//! none.

use arw_actors::cluster::{ClusterError, ClusterErrorKind as Kind, OpenError};

use super::{LinkError, warnings};
use crate::certificate::{BadRole, CertificateError};
use crate::endpoint::{self, CreateError, Fence, RemoveError, RevokeError, StartError};
use crate::identity::NodeId;
use crate::join::JoinFailure;
use crate::token::{BadTokenId, CreateTokenError, TokenError};
use crate::wire::JoinRefusal;

/// What to do about a copied node that shall be one of its own.
const COPIED: &str = "stop this node, remove node.key and identity.json from its state folder, start it and join again; if it is no copy but crashed a moment ago, wait 10 s and try again";

pub(super) fn fenced(fence: &Fence) -> ClusterError {
    let help = "stop the copy that is not meant, then restart this node; `arw cluster status` tells more";
    error(Kind::Conflict, warnings::fenced(fence), help)
}

pub(super) fn error(kind: Kind, message: impl Into<String>, help: &str) -> ClusterError {
    ClusterError { kind, message: message.into(), help: help.to_owned() }
}

pub(super) fn open(node: NodeId, problem: &endpoint::OpenError) -> OpenError {
    match problem {
        endpoint::OpenError::UnknownNode => OpenError::Unknown(node),
        endpoint::OpenError::TimedOut | endpoint::OpenError::Busy => OpenError::TimedOut(node),
        endpoint::OpenError::NotConnected | endpoint::OpenError::WrongDirection => {
            OpenError::NotConnected(node)
        }
    }
}

pub(super) fn broken() -> ClusterError {
    error(
        Kind::Failed,
        "something in this node broke while it was done",
        "see the node's log, then look at `arw cluster status`",
    )
}

pub(super) fn stopping() -> ClusterError {
    error(Kind::Failed, "this node is stopping", "try again when it runs")
}

pub(super) fn dormant() -> ClusterError {
    let help = "compare its clock; `arw cluster leave` makes it forget that cluster";
    error(Kind::Conflict, "this node is a member of a cluster whose certificate is not good now", help)
}

pub(super) fn alone() -> ClusterError {
    let help = "make one with `arw cluster token create`, or join one with `arw join TOKEN`";
    error(Kind::Conflict, "this node is in no cluster", help)
}

pub(super) fn member_already(cluster: &str) -> ClusterError {
    let help = "`arw cluster leave` takes it out of that one first";
    error(Kind::Conflict, format!("this node is in the cluster {cluster} already"), help)
}

pub(super) fn not_issuer(issuer: NodeId) -> ClusterError {
    let message = format!("only the node that made the cluster does this: node {}", issuer.short());
    error(Kind::Conflict, message, "run the same command on that node")
}

pub(super) fn link(problem: &LinkError) -> ClusterError {
    let help = match problem {
        LinkError::Start(StartError::Socket { .. }) => {
            "if another program has it, stop that one, or set cluster.listen to another port"
        }
        LinkError::Start(_) | LinkError::Certificate(_) => "see the node's log",
        LinkError::Stored(_)
        | LinkError::ClusterKey(_)
        | LinkError::NoClusterKey { .. }
        | LinkError::OtherClusterKey { .. } => "`arw doctor` checks the state folder",
    };
    error(Kind::Failed, problem.to_string(), help)
}

pub(super) fn role(problem: &BadRole) -> ClusterError {
    error(Kind::Bad, problem.to_string(), "name one or more of them, separated by commas")
}

pub(super) fn order(problem: &CreateTokenError) -> ClusterError {
    match problem {
        CreateTokenError::Ttl { .. } => error(Kind::Bad, problem.to_string(), "choose another time"),
        CreateTokenError::Uses { .. } => error(Kind::Bad, problem.to_string(), "choose another number"),
        CreateTokenError::Addresses { .. } => {
            error(Kind::Bad, problem.to_string(), "name those under which the other machine reaches this one")
        }
        CreateTokenError::TooMany => {
            error(Kind::Conflict, problem.to_string(), "`arw cluster token list` shows them")
        }
        CreateTokenError::IdTaken(_) => error(Kind::Failed, problem.to_string(), "try again"),
    }
}

pub(super) fn create(problem: &CreateError, issuer: NodeId) -> ClusterError {
    match problem {
        CreateError::NotIssuer => not_issuer(issuer),
        CreateError::Token(problem) => order(problem),
        CreateError::Ledger(_) => error(Kind::Failed, problem.to_string(), "see whether the disk is full"),
        CreateError::NoRandomness | CreateError::Ended => {
            error(Kind::Failed, problem.to_string(), "try again")
        }
    }
}

pub(super) fn token_id(problem: &BadTokenId) -> ClusterError {
    error(Kind::Unknown, problem.to_string(), "take the id from `arw cluster token list`")
}

pub(super) fn revoke(problem: &RevokeError, issuer: NodeId) -> ClusterError {
    match problem {
        RevokeError::NotIssuer => not_issuer(issuer),
        RevokeError::Unknown(_) => {
            error(Kind::Unknown, problem.to_string(), "take the id from `arw cluster token list`")
        }
        RevokeError::Ledger(_) => error(Kind::Failed, problem.to_string(), "see whether the disk is full"),
        RevokeError::Ended => error(Kind::Failed, problem.to_string(), "try again"),
    }
}

pub(super) fn remove(problem: &RemoveError, issuer: NodeId) -> ClusterError {
    match problem {
        RemoveError::NotIssuer => not_issuer(issuer),
        RemoveError::Itself => {
            error(Kind::Conflict, "a node does not remove itself", "`arw cluster leave` takes it out")
        }
        RemoveError::Ledger(_) => error(Kind::Failed, problem.to_string(), "see whether the disk is full"),
        RemoveError::Refused(_) | RemoveError::Ended => error(Kind::Failed, problem.to_string(), "try again"),
    }
}

pub(super) fn bad_token(problem: &TokenError) -> ClusterError {
    let help =
        "copy all of what `arw cluster token create` printed on the other node, or make another token there";
    error(Kind::Bad, problem.to_string(), help)
}

pub(super) fn join(problem: &JoinFailure) -> ClusterError {
    let (kind, help) = match problem {
        JoinFailure::Unreachable { .. } => (
            Kind::Unreachable,
            "see docs/guide/cluster.md about firewalls; `arw cluster token create --address HOST:PORT` names another address",
        ),
        JoinFailure::Refused(
            JoinRefusal::Expired
            | JoinRefusal::Used
            | JoinRefusal::Revoked
            | JoinRefusal::Removed
            | JoinRefusal::Proof,
        ) => (Kind::Refused, "make another token on that node and use it within its time"),
        JoinFailure::Copied { .. } | JoinFailure::Refused(JoinRefusal::Copied) => (Kind::Refused, COPIED),
        JoinFailure::Refused(JoinRefusal::Fenced) => {
            (Kind::Refused, "`arw cluster status` on that node tells where the other copy is")
        }
        JoinFailure::Refused(_) => (Kind::Refused, "mend that, then try again with the same token"),
        JoinFailure::Certificate(CertificateError::NotYetValid { .. } | CertificateError::Expired { .. }) => {
            (Kind::Refused, "set the clocks of both machines right, then try again with the same token")
        }
        JoinFailure::OtherIssuer { .. } | JoinFailure::OtherCluster { .. } | JoinFailure::Certificate(_) => {
            (Kind::Refused, "compare the token with the one that was printed; make a new one")
        }
        JoinFailure::Local { .. } => (Kind::Failed, "see the node's log"),
        JoinFailure::Itself => (Kind::Conflict, "run `arw join` on the machine that shall join"),
    };
    error(kind, problem.to_string(), help)
}
