//! Who may join the cluster and who leaves it, as `/cluster/*` takes and shows it.

use arw_actors::cluster;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A join token to be made.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewJoinToken {
    /// What it makes of the machine that joins: `worker`, `gateway`, `home`. Absent: `worker` and `gateway`.
    pub(crate) roles: Option<Vec<String>>,
    /// How long it is good for. Absent: an hour.
    pub(crate) ttl_s: Option<u64>,
    /// How many machines it lets in. Absent: one.
    pub(crate) uses: Option<u32>,
    /// Addresses (`192.0.2.7:8091`) under which this node is reached, at most four. Absent: what it finds out
    /// itself.
    pub(crate) addresses: Option<Vec<String>>,
}

/// A join token, without its secret.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct JoinTokenRow {
    /// 16 hexadecimal digits.
    pub(crate) id: String,
    /// `usable`, `used`, `expired`, `revoked`.
    pub(crate) state: &'static str,
    pub(crate) roles: Vec<String>,
    pub(crate) created_at: String,
    pub(crate) expires_at: String,
    pub(crate) uses_max: u32,
    /// Who joined with it.
    pub(crate) used: Vec<JoinTokenUse>,
}

/// One use of a join token.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct JoinTokenUse {
    /// The id of the node that joined.
    pub(crate) node: String,
    pub(crate) at: String,
}

impl From<cluster::JoinTokenRow> for JoinTokenRow {
    fn from(row: cluster::JoinTokenRow) -> Self {
        let used =
            row.used.iter().map(|used| JoinTokenUse { node: used.node.to_string(), at: used.at.to_string() });
        Self {
            id: row.id,
            state: row.state,
            roles: row.roles,
            created_at: row.created_at.to_string(),
            expires_at: row.expires_at.to_string(),
            uses_max: row.uses_max,
            used: used.collect(),
        }
    }
}

/// All join tokens, those included that ended within the last day.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct JoinTokenList {
    pub(crate) tokens: Vec<JoinTokenRow>,
}

/// A join token that was just made.
#[derive(Serialize, ToSchema)]
pub(crate) struct CreatedJoinToken {
    #[serde(flatten)]
    pub(crate) row: JoinTokenRow,
    /// Its text: shown now and never again.
    pub(crate) token: String,
    /// The addresses in it.
    pub(crate) addresses: Vec<String>,
    /// It was the first: this node is the first of a cluster now, and listens for others.
    pub(crate) is_first: bool,
}

impl std::fmt::Debug for CreatedJoinToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CreatedJoinToken").field("row", &self.row).finish_non_exhaustive()
    }
}

impl From<cluster::CreatedToken> for CreatedJoinToken {
    fn from(created: cluster::CreatedToken) -> Self {
        Self {
            row: created.row.into(),
            token: created.token,
            addresses: created.addresses.iter().map(ToString::to_string).collect(),
            is_first: created.is_first,
        }
    }
}

/// A cluster to be joined.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct JoinCluster {
    /// The text that `POST /cluster/tokens` of one of its nodes has answered.
    pub(crate) token: String,
}

impl std::fmt::Debug for JoinCluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("JoinCluster(…)")
    }
}

/// A cluster that was just joined.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct JoinedCluster {
    /// The cluster's id.
    pub(crate) cluster: String,
    /// What this node is in it.
    pub(crate) roles: Vec<String>,
    /// The id of the node that let it in.
    pub(crate) issuer: String,
    /// Where others reach this node.
    pub(crate) address: String,
}

impl From<cluster::JoinedCluster> for JoinedCluster {
    fn from(joined: cluster::JoinedCluster) -> Self {
        Self {
            cluster: joined.cluster,
            roles: joined.roles,
            issuer: joined.issuer.to_string(),
            address: joined.address.to_string(),
        }
    }
}
