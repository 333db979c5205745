//! `/cluster/*`: who may join, who is in it, who leaves.
//!
//! Owns the requests. Refuses to know how nodes are connected, and to keep a token's text: it is shown once,
//! in the answer that made it.

mod dto;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arw_actors::cluster::{ClusterError, ClusterErrorKind, TokenOrder, Transport};
use arw_actors::ids::NodeId;
use arw_actors::policy::Scope;
use axum::Json;
use axum::extract::{Extension, State};
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use http::header::CACHE_CONTROL;
use tracing::info;

use self::dto::{CreatedJoinToken, JoinCluster, JoinTokenList, JoinTokenRow, JoinedCluster, NewJoinToken};
use crate::control::Call;
use crate::extract::{JsonBody, Name};
use crate::peer::{Meant, PeerNode, meant, tell};
use crate::problem::{Kind, Problem, ProblemBody};
use crate::resource::resource;
use crate::shared::Gate;

resource! { "cluster", "Who may join this node's cluster, and who leaves it":
    get("/cluster/tokens", Needs(Scope::ClusterManage), tokens),
    post("/cluster/tokens", Needs(Scope::ClusterManage), create_token),
    delete("/cluster/tokens/{id}", Needs(Scope::ClusterManage), revoke_token),
    post("/cluster/join", Needs(Scope::ClusterManage), join),
    post("/cluster/leave", Needs(Scope::ClusterManage), leave),
    delete("/cluster/nodes/{node}", Needs(Scope::ClusterManage), remove),
    post("/cluster/nodes/{node}/drain", Needs(Scope::ClusterManage), drain),
    post("/cluster/nodes/{node}/resume", Needs(Scope::ClusterManage), resume),
}

/// What an event about a whole cluster is about.
const CLUSTER: &str = "cluster";
/// An hour is enough to walk to the other machine.
const TTL: Duration = Duration::from_secs(3600);
/// A machine at home does both: it serves models, and answers its own clients.
const ROLES: [&str; 2] = ["worker", "gateway"];

/// All join tokens of this node. Never their texts.
#[utoipa::path(get, path = "/cluster/tokens", tag = "cluster",
    responses((status = 200, body = JoinTokenList)))]
pub(crate) async fn tokens(State(gate): State<Gate>) -> Result<Json<JoinTokenList>, Problem> {
    let rows = transport(&gate)?.tokens().await.map_err(refused)?;
    Ok(Json(JoinTokenList { tokens: rows.into_iter().map(JoinTokenRow::from).collect() }))
}

/// Makes a join token. The first one makes this node the first of a cluster, which listens for others from
/// then on.
#[utoipa::path(post, path = "/cluster/tokens", tag = "cluster", request_body = NewJoinToken,
    responses((status = 201, body = CreatedJoinToken), (status = 409, body = ProblemBody, content_type = "application/problem+json"),
        (status = 422, body = ProblemBody, content_type = "application/problem+json")))]
pub(crate) async fn create_token(
    State(gate): State<Gate>,
    Extension(call): Extension<Call>,
    JsonBody(new): JsonBody<NewJoinToken>,
) -> Result<Response, Problem> {
    let order = TokenOrder {
        roles: new.roles.unwrap_or_else(|| ROLES.map(str::to_owned).to_vec()),
        ttl: new.ttl_s.map_or(TTL, Duration::from_secs),
        uses_max: new.uses.unwrap_or(1),
        addresses: addresses(&new.addresses.unwrap_or_default())?,
    };
    let created = transport(&gate)?.create_token(order).await.map_err(refused)?;
    let body = CreatedJoinToken::from(created);
    call.done(body.row.id.as_str());
    Ok((StatusCode::CREATED, [(CACHE_CONTROL, "no-store")], Json(body)).into_response())
}

fn addresses(given: &[String]) -> Result<Vec<SocketAddr>, Problem> {
    let parse = |(at, text): (usize, &String)| {
        text.parse().map_err(|_| {
            let field = format!("addresses[{at}]");
            let shown: String = text.chars().take(80).collect();
            let detail = format!("field `{field}`: `{shown}` is not an address with a port");
            Problem::field(&field, detail, "write it like 192.0.2.7:8091 or [2001:db8::7]:8091")
        })
    };
    given.iter().enumerate().map(parse).collect()
}

/// Revokes a join token: it lets nobody in any more. Who is in stays in.
#[utoipa::path(delete, path = "/cluster/tokens/{id}", tag = "cluster",
    params(("id" = String, Path, description = "16 hexadecimal digits, as in the list")),
    responses((status = 204, description = "it lets nobody in from now on"), (status = 404, body = ProblemBody, content_type = "application/problem+json")))]
pub(crate) async fn revoke_token(State(gate): State<Gate>, Name(id): Name) -> Result<StatusCode, Problem> {
    transport(&gate)?.revoke_token(id).await.map_err(refused)?;
    Ok(StatusCode::NO_CONTENT)
}

/// Makes this node a member of the cluster that the token belongs to.
#[utoipa::path(post, path = "/cluster/join", tag = "cluster", request_body = JoinCluster,
    responses((status = 200, body = JoinedCluster), (status = 409, body = ProblemBody, content_type = "application/problem+json"),
        (status = 422, body = ProblemBody, content_type = "application/problem+json"), (status = 502, body = ProblemBody, content_type = "application/problem+json")))]
pub(crate) async fn join(
    State(gate): State<Gate>,
    Extension(call): Extension<Call>,
    JsonBody(wanted): JsonBody<JoinCluster>,
) -> Result<Json<JoinedCluster>, Problem> {
    let joined = transport(&gate)?.join(wanted.token).await.map_err(|error| at_token(error, "token"))?;
    call.done(CLUSTER);
    Ok(Json(joined.into()))
}

/// Takes this node out of its cluster; it is alone from then on.
#[utoipa::path(post, path = "/cluster/leave", tag = "cluster",
    responses((status = 204, description = "it is alone"), (status = 409, body = ProblemBody, content_type = "application/problem+json")))]
pub(crate) async fn leave(
    State(gate): State<Gate>,
    Extension(call): Extension<Call>,
) -> Result<StatusCode, Problem> {
    transport(&gate)?.leave().await.map_err(refused)?;
    call.done(CLUSTER);
    Ok(StatusCode::NO_CONTENT)
}

/// Takes a node out of the cluster: everybody refuses it from now on. Only the node that made the cluster
/// can.
#[utoipa::path(delete, path = "/cluster/nodes/{node}", tag = "cluster",
    params(("node" = String, Path, description = "a whole id, also of a node that is not shown; at least eight digits of one, or a name")),
    responses((status = 204, description = "it is refused from now on"), (status = 404, body = ProblemBody, content_type = "application/problem+json"),
        (status = 409, body = ProblemBody, content_type = "application/problem+json")))]
pub(crate) async fn remove(
    State(gate): State<Gate>,
    Extension(call): Extension<Call>,
    Name(node): Name,
) -> Result<StatusCode, Problem> {
    let node = match node.parse::<NodeId>() {
        // A whole id means one node, also one that nobody has seen for so long that it is not shown: a stolen
        // machine may come back.
        Ok(whole) => whole,
        Err(_) => match meant(&gate, &node)? {
            Meant::Own => gate.node.info.id,
            Meant::Other(node) => node,
        },
    };
    transport(&gate)?.remove(node).await.map_err(refused)?;
    call.done(node.to_string());
    Ok(StatusCode::NO_CONTENT)
}

/// A node finishes what it has and gets nothing new from others.
#[utoipa::path(post, path = "/cluster/nodes/{node}/drain", tag = "cluster",
    params(("node" = String, Path, description = "an id, at least eight digits of one, or a name")),
    responses((status = 204, description = "others send it nothing new"), (status = 404, body = ProblemBody, content_type = "application/problem+json"),
        (status = 403, body = ProblemBody, content_type = "application/problem+json")))]
pub(crate) async fn drain(
    State(gate): State<Gate>,
    Extension(call): Extension<Call>,
    Name(node): Name,
) -> Result<StatusCode, Problem> {
    set_draining(&gate, &call, &node, true).await
}

/// A drained node gets new work again.
#[utoipa::path(post, path = "/cluster/nodes/{node}/resume", tag = "cluster",
    params(("node" = String, Path, description = "an id, at least eight digits of one, or a name")),
    responses((status = 204, description = "others may send it work"), (status = 404, body = ProblemBody, content_type = "application/problem+json"),
        (status = 403, body = ProblemBody, content_type = "application/problem+json")))]
pub(crate) async fn resume(
    State(gate): State<Gate>,
    Extension(call): Extension<Call>,
    Name(node): Name,
) -> Result<StatusCode, Problem> {
    set_draining(&gate, &call, &node, false).await
}

async fn set_draining(
    gate: &Gate,
    call: &Call,
    node: &str,
    is_draining: bool,
) -> Result<StatusCode, Problem> {
    let node = match meant(gate, node)? {
        Meant::Own => {
            gate.node.cluster.set_draining(is_draining);
            gate.node.info.id
        }
        Meant::Other(node) => {
            let path = if is_draining { DRAIN_YOURSELF } else { RESUME_YOURSELF };
            tell(gate, node, path).await?;
            node
        }
    };
    call.done(node.to_string());
    Ok(StatusCode::NO_CONTENT)
}

/// Where a node takes the word of another one.
pub(crate) const DRAIN_YOURSELF: &str = "/cluster/drain";
pub(crate) const RESUME_YOURSELF: &str = "/cluster/resume";

/// HTTP-21: the home node drains this one.
pub(crate) async fn drain_for_peer(
    State(gate): State<Gate>,
    Extension(from): Extension<PeerNode>,
) -> Result<StatusCode, Problem> {
    set_draining_for_peer(&gate, from, true)
}

/// HTTP-21.
pub(crate) async fn resume_for_peer(
    State(gate): State<Gate>,
    Extension(from): Extension<PeerNode>,
) -> Result<StatusCode, Problem> {
    set_draining_for_peer(&gate, from, false)
}

fn set_draining_for_peer(
    gate: &Gate,
    PeerNode(from): PeerNode,
    is_draining: bool,
) -> Result<StatusCode, Problem> {
    let picture = gate.node.cluster.picture();
    let row = picture.nodes.iter().find(|row| row.node == from);
    // What a node may be stands in its certificate, not in what it says.
    if !row.is_some_and(|row| row.roles.iter().any(|role| role == "home")) {
        let detail = format!("node {} has not the role home, and drains only itself", from.short());
        let help = "run the command on the home node, or on the node that shall be drained";
        return Err(Problem::new(Kind::ScopeMissing, detail, help));
    }
    info!(from = %from.short(), is_draining, "another node says what this one takes on");
    gate.node.cluster.set_draining(is_draining);
    Ok(StatusCode::NO_CONTENT)
}

fn transport(gate: &Gate) -> Result<Arc<dyn Transport>, Problem> {
    gate.node.cluster.transport().ok_or_else(|| {
        Problem::new(Kind::NotReady, "this node's network is not up yet", "try again in a moment")
            .retry_after(Duration::from_secs(1))
    })
}

fn at_token(error: ClusterError, field: &str) -> Problem {
    let is_bad = error.kind == ClusterErrorKind::Bad;
    let problem = refused(error);
    if is_bad { problem.at(field) } else { problem }
}

fn refused(error: ClusterError) -> Problem {
    let ClusterError { kind, message, help } = error;
    let kind = match kind {
        ClusterErrorKind::Bad => Kind::BadField,
        ClusterErrorKind::Unknown => Kind::NotFound,
        ClusterErrorKind::Conflict => Kind::Conflict,
        ClusterErrorKind::Refused => Kind::NodeRefused,
        ClusterErrorKind::Unreachable => Kind::NodeUnreachable,
        ClusterErrorKind::Failed => Kind::NotStored,
    };
    Problem::new(kind, message, help)
}
