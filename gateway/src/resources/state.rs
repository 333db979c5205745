//! `/state/*`: read models, as documents and as streams of patches.
//!
//! Owns versions in headers and queries, and the list of read models: each is a file of its own, with its
//! shape, when it changes and how it is rendered. Refuses to look into a body.

mod shown;

mod actors;
mod cluster;
mod models;
mod node;
mod runtimes;

use std::sync::LazyLock;
use std::time::Duration;

use arw_actors::projection::{ReadModel, Snapshot, Update, Version};
use arw_actors::views::View;
use axum::extract::State;
use axum::response::Response;
use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, IF_NONE_MATCH};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use serde::Deserialize;
use tokio::sync::OwnedSemaphorePermit;
use utoipa::openapi::OpenApi;

pub(crate) use self::cluster::body as cluster_body;

use self::shown::Shown;
use crate::auth::Access;
use crate::extract::{Name, Params, duration};
use crate::limits;
use crate::peer::{self, Meant, X_ARW_NODE};
use crate::problem::{Kind, Problem};
use crate::resource::{Resource, Row, get};
use crate::shared::{Gate, Shared};
use crate::sse::{self, Event};

/// Every read model, in the order of the route table. Routes, streams, description, what other nodes may ask
/// for, and the kernel's rendering follow from it.
pub(crate) fn all() -> Vec<Shown> {
    vec![node::shown(), actors::shown(), runtimes::shown(), models::shown(), cluster::shown()]
}

/// What the kernel keeps up to date.
pub(crate) fn views() -> Vec<View> {
    all().into_iter().map(|shown| shown.view).collect()
}

/// Their calls.
pub(crate) fn resources() -> impl Iterator<Item = Resource> {
    let unknown = Resource { routes: vec![unknown_route()], document: OpenApi::default() };
    all().into_iter().map(|shown| shown.resource).chain([unknown])
}

/// The names of those that other nodes may ask for.
static FOR_PEERS: LazyLock<Vec<&str>> = LazyLock::new(|| {
    all().into_iter().filter(|shown| shown.is_for_peers).map(|shown| shown.view.name).collect()
});

/// HTTP-7: a longer wait is cut to this; a client that wants more asks again.
const WAIT_MAX: Duration = Duration::from_secs(60);

const VERSION: HeaderName = HeaderName::from_static("x-arw-version");

/// What a client has, and how long it waits for something newer.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Poll {
    after: Option<String>,
    #[serde(default, deserialize_with = "duration::deserialize")]
    wait: Option<Duration>,
    node: Option<String>,
}

/// Where a stream goes on.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Resume {
    after: Option<String>,
    node: Option<String>,
}

/// HTTP-16: what a member of the cluster may read: this node's own.
pub(crate) async fn for_peer(
    State(gate): State<Gate>,
    Name(name): Name,
    headers: HeaderMap,
    Params(poll): Params<Poll>,
) -> Result<Response, Problem> {
    check_for_peer(&name, poll.node.as_deref())?;
    document(&gate, &name, &headers, &poll).await
}

/// HTTP-16: the same as a stream.
pub(crate) async fn stream_for_peer(
    State(gate): State<Gate>,
    Name(name): Name,
    headers: HeaderMap,
    Params(resume): Params<Resume>,
) -> Result<Response, Problem> {
    check_for_peer(&name, resume.node.as_deref())?;
    follow(&gate, &name, &headers, &resume, limits::peer_stream_permit(&gate)?)
}

fn check_for_peer(name: &str, node: Option<&str>) -> Result<(), Problem> {
    if node.is_some() {
        let detail = "a node is asked for its own state by other nodes, not for that of a third one";
        return Err(Problem::field("node", detail, "ask that node"));
    }
    // How a node sees the cluster is for its clients: each node sees for itself.
    if FOR_PEERS.contains(&name) { Ok(()) } else { Err(no_such(name, &FOR_PEERS)) }
}

/// HTTP-19: this node's, or another's.
async fn anywhere(gate: &Gate, name: &str, headers: &HeaderMap, poll: &Poll) -> Result<Response, Problem> {
    let Some(node) = &poll.node else { return document(gate, name, headers, poll).await };
    check_elsewhere(name)?;
    match peer::meant(gate, node)? {
        Meant::Own => document(gate, name, headers, poll).await.map(|response| by_own(gate, response)),
        Meant::Other(node) => {
            let patience = poll.wait.unwrap_or_default().min(WAIT_MAX);
            let mut path = format!("/state/{name}?wait={}ms", patience.as_millis());
            if let Some(after) = &poll.after {
                // Read and written anew: nothing else of the client's query goes on.
                path.push_str(&format!("&after={}", version("after", after)?));
            }
            peer::fetch(gate, node, &path, headers, patience).await
        }
    }
}

/// HTTP-19: this node's, or another's.
async fn follow_anywhere(
    gate: &Gate,
    name: &str,
    headers: &HeaderMap,
    resume: &Resume,
) -> Result<Response, Problem> {
    let own = || follow(gate, name, headers, resume, limits::stream_permit(gate)?);
    let Some(node) = &resume.node else { return own() };
    check_elsewhere(name)?;
    match peer::meant(gate, node)? {
        Meant::Own => own().map(|response| by_own(gate, response)),
        Meant::Other(node) => {
            let mut path = format!("/state/{name}/stream");
            if let Some(after) = resume_after(headers, resume)? {
                path.push_str(&format!("?after={after}"));
            }
            peer::follow(gate, node, &path).await
        }
    }
}

/// HTTP-19.
fn check_elsewhere(name: &str) -> Result<(), Problem> {
    if FOR_PEERS.contains(&name) {
        return Ok(());
    }
    let detail = "field `node`: a node sees the cluster for itself, and shows it to its own clients only";
    Err(Problem::field("node", detail, "leave it out, or ask that node's own API"))
}

/// Tells that it was this node.
fn by_own(shared: &Shared, mut response: Response) -> Response {
    let id = HeaderValue::try_from(shared.node.info.id.to_string()).ok();
    response.headers_mut().extend(id.map(|id| (X_ARW_NODE, id)));
    response
}

/// Not a call of its own: it answers for names that do not exist.
fn unknown_route() -> Row {
    get("/state/{name}", Access::Read, unknown)
}

/// Any other name.
async fn unknown(State(gate): State<Gate>, Name(name): Name) -> Problem {
    no_such(&name, &names(&gate))
}

fn names(shared: &Shared) -> Vec<&'static str> {
    shared.node.views.names().collect()
}

fn no_such(name: &str, known: &[&str]) -> Problem {
    let name: String = name.chars().take(80).collect();
    let detail = format!("there is no read model `{name}`; known: {}", known.join(", "));
    Problem::new(Kind::NotFound, detail, "ask for one of the known ones").with("known", known.to_vec())
}

fn find<'s>(shared: &'s Shared, name: &str) -> Result<&'s ReadModel, Problem> {
    shared.node.state(name).ok_or_else(|| no_such(name, &names(shared)))
}

/// HTTP-7.
async fn document(gate: &Gate, name: &str, headers: &HeaderMap, poll: &Poll) -> Result<Response, Problem> {
    let model = find(gate, name)?;
    let current = model.current();
    let known = headers.get(IF_NONE_MATCH).and_then(|tags| tags.to_str().ok());
    let after = match &poll.after {
        Some(after) => Some(version("after", after)?),
        None if known.is_some_and(|tags| matches_tag(tags, &current.etag)) => Some(current.id()),
        None => return Ok(whole(&current)),
    };
    if after != Some(current.id()) {
        return Ok(whole(&current));
    }
    let patience = poll.wait.unwrap_or_default().min(WAIT_MAX);
    let newer = tokio::select! {
        newer = model.wait_newer(after, patience), if !patience.is_zero() => newer,
        () = gate.stopping(), if !patience.is_zero() => None,
        else => None,
    };
    Ok(newer.map_or_else(|| unchanged(&current), |newer| whole(&newer)))
}

fn version(field: &str, text: &str) -> Result<Version, Problem> {
    text.parse().map_err(|error| {
        Problem::field(field, format!("field `{field}`: {error}"), "leave it out to get the whole body")
    })
}

/// Weak comparison (RFC 9110, 13.1.2).
fn matches_tag(given: &str, ours: &str) -> bool {
    given.split(',').map(str::trim).any(|tag| tag == "*" || tag.strip_prefix("W/").unwrap_or(tag) == ours)
}

fn whole(snapshot: &Snapshot) -> Response {
    let mut response = Response::new(snapshot.body.clone().into());
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    tag(response, snapshot)
}

fn unchanged(snapshot: &Snapshot) -> Response {
    let mut response = Response::default();
    *response.status_mut() = StatusCode::NOT_MODIFIED;
    tag(response, snapshot)
}

fn tag(mut response: Response, snapshot: &Snapshot) -> Response {
    let headers = response.headers_mut();
    // Kept by the client, but never used without asking.
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    // Both are digits, a dot and quotes.
    if let (Ok(etag), Ok(version)) =
        (HeaderValue::from_str(&snapshot.etag), HeaderValue::from_str(&snapshot.id().to_string()))
    {
        headers.insert(ETAG, etag);
        headers.insert(VERSION, version);
    }
    response
}

/// HTTP-8.
fn follow(
    gate: &Gate,
    name: &str,
    headers: &HeaderMap,
    resume: &Resume,
    permit: OwnedSemaphorePermit,
) -> Result<Response, Problem> {
    let model = find(gate, name)?;
    Ok(sse::respond_holding(permit, gate, events(model.subscribe(resume_after(headers, resume)?))))
}

fn resume_after(headers: &HeaderMap, resume: &Resume) -> Result<Option<Version>, Problem> {
    match (sse::last_event_id(headers), &resume.after) {
        (Some(id), _) => version("Last-Event-ID", id).map(Some),
        (None, Some(after)) => version("after", after).map(Some),
        (None, None) => Ok(None),
    }
}

fn events(updates: arw_actors::projection::Subscription) -> impl Stream<Item = Event> + Send {
    updates.into_stream().flat_map(|update| {
        let (first, second) = to_events(update);
        stream::once(std::future::ready(first)).chain(stream::iter(second))
    })
}

fn to_events(update: Update) -> (Event, Option<Event>) {
    match update {
        Update::Snapshot { snapshot, resync } => {
            let whole = Event::new("snapshot", snapshot.body.clone()).id(snapshot.id());
            match resync {
                Some(reason) => {
                    let told = format!("{{\"reason\":\"{}\"}}", reason.as_str());
                    (Event::new("resync", told.into()), Some(whole))
                }
                None => (whole, None),
            }
        }
        Update::Patch { from, to, patch } => {
            let mut data = Vec::with_capacity(patch.len() + 40);
            data.extend_from_slice(format!("{{\"from\":\"{from}\",\"patch\":").as_bytes());
            data.extend_from_slice(&patch);
            data.push(b'}');
            (Event::new("patch", data.into()).id(to), None)
        }
        Update::Lag { missed } => (Event::new("lag", Bytes::from(format!("{{\"missed\":{missed}}}"))), None),
    }
}
