//! The control of the cluster, over a transport that answers as it is told.

use std::sync::Arc;
use std::time::Duration;

use arw_actors::cluster::{
    ClusterError, ClusterErrorKind, CreatedToken, JoinTokenRow, JoinTokenUse, JoinedCluster, OpenError,
    PeerStream, TokenOrder, Transport, TransportStatus,
};
use arw_actors::ids::NodeId;
use arw_kit::moment::WallTime;
use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, ready};
use parking_lot::Mutex;
use serde_json::json;

use crate::support::TestNode;

/// Remembers what it was asked, and refuses where it was told to.
#[derive(Debug, Default)]
pub(crate) struct FakeTransport {
    orders: Mutex<Vec<TokenOrder>>,
    refusal: Mutex<Option<ClusterError>>,
    removed: Mutex<Vec<NodeId>>,
}

impl FakeTransport {
    fn answer<T: Send + 'static>(&self, value: T) -> BoxFuture<'static, Result<T, ClusterError>> {
        ready(self.refusal.lock().clone().map_or(Ok(value), Err)).boxed()
    }

    fn refuses(&self, kind: ClusterErrorKind) {
        let (message, help) = ("it cannot be".to_owned(), "do something else".to_owned());
        *self.refusal.lock() = Some(ClusterError { kind, message, help });
    }
}

fn row() -> JoinTokenRow {
    let at = WallTime::from_millis(1_700_000_000_000);
    JoinTokenRow {
        id: "00112233aabbccdd".to_owned(),
        state: "usable",
        roles: vec!["worker".to_owned()],
        created_at: at,
        expires_at: at + Duration::from_secs(3600),
        uses_max: 2,
        used: vec![JoinTokenUse { node: NodeId::from_bytes([9; 32]), at }],
    }
}

impl Transport for FakeTransport {
    fn open(&self, node: NodeId, _: Duration) -> BoxFuture<'static, Result<Box<dyn PeerStream>, OpenError>> {
        ready(Err(OpenError::Unknown(node))).boxed()
    }

    fn status(&self) -> TransportStatus {
        TransportStatus::default()
    }

    fn create_token(&self, order: TokenOrder) -> BoxFuture<'static, Result<CreatedToken, ClusterError>> {
        let addresses = order.addresses.clone();
        self.orders.lock().push(order);
        self.answer(CreatedToken { token: "arw1-secret".to_owned(), row: row(), addresses, is_first: true })
    }

    fn tokens(&self) -> BoxFuture<'static, Result<Vec<JoinTokenRow>, ClusterError>> {
        self.answer(vec![row()])
    }

    fn revoke_token(&self, _: String) -> BoxFuture<'static, Result<JoinTokenRow, ClusterError>> {
        self.answer(row())
    }

    fn join(&self, _: String) -> BoxFuture<'static, Result<JoinedCluster, ClusterError>> {
        self.answer(JoinedCluster {
            cluster: "c1".to_owned(),
            roles: vec!["worker".to_owned()],
            issuer: NodeId::from_bytes([8; 32]),
            address: ([192, 0, 2, 7], 8091).into(),
        })
    }

    fn remove(&self, node: NodeId) -> BoxFuture<'static, Result<(), ClusterError>> {
        self.removed.lock().push(node);
        self.answer(())
    }

    fn leave(&self) -> BoxFuture<'static, Result<(), ClusterError>> {
        self.answer(())
    }
}

async fn stage() -> (TestNode, Arc<FakeTransport>) {
    let (node, transport) = (TestNode::start().await, Arc::new(FakeTransport::default()));
    node.node.cluster.attach(Arc::clone(&transport) as Arc<dyn Transport>);
    (node, transport)
}

#[tokio::test]
async fn a_join_token_is_made_as_asked_and_shown_once() {
    let (node, transport) = stage().await;
    let wanted =
        json!({"roles": ["worker"], "ttl_s": 60, "uses": 2, "addresses": ["192.0.2.1:8091", "[::1]:9"]});
    let created = node.send("POST", "/cluster/tokens", Some(wanted)).await;
    assert_eq!(created.status, 201);
    assert_eq!(created.header("cache-control"), "no-store");
    assert_eq!(
        created.json(),
        json!({"id": "00112233aabbccdd", "state": "usable", "roles": ["worker"], "uses_max": 2,
            "created_at": "2023-11-14T22:13:20.000Z", "expires_at": "2023-11-14T23:13:20.000Z",
            "used": [{"node": "09".repeat(32), "at": "2023-11-14T22:13:20.000Z"}],
            "token": "arw1-secret", "addresses": ["192.0.2.1:8091", "[::1]:9"], "is_first": true})
    );
    let order = transport.orders.lock()[0].clone();
    assert_eq!((order.ttl, order.uses_max), (Duration::from_secs(60), 2));
    assert_eq!(order.roles, ["worker"]);
    assert_eq!(order.addresses, ["192.0.2.1:8091".parse().unwrap(), "[::1]:9".parse().unwrap()]);
    let listed = node.send("GET", "/cluster/tokens", None).await;
    assert_eq!(listed.json()["tokens"][0]["id"], "00112233aabbccdd");
    assert!(!String::from_utf8_lossy(&listed.bytes).contains("arw1-"));
}

#[tokio::test]
async fn what_is_left_out_of_a_join_token_is_careful() {
    let (node, transport) = stage().await;
    assert_eq!(node.send("POST", "/cluster/tokens", Some(json!({}))).await.status, 201);
    let order = transport.orders.lock()[0].clone();
    let careful = TokenOrder {
        roles: vec!["worker".to_owned(), "gateway".to_owned()],
        ttl: Duration::from_secs(3600),
        uses_max: 1,
        addresses: vec![],
    };
    assert_eq!(order, careful);
}

#[tokio::test]
async fn an_address_without_a_port_is_refused_with_its_place() {
    let (node, _) = stage().await;
    let wanted = json!({"addresses": ["192.0.2.1:8091", "host"]});
    let problem = node.send("POST", "/cluster/tokens", Some(wanted)).await.is_problem(422, "bad_field");
    assert_eq!(problem["field"], "addresses[1]");
}

/// HTTP-5.
#[tokio::test]
async fn each_refusal_of_the_cluster_has_its_status_and_a_way_out() {
    let (node, transport) = stage().await;
    for (kind, status, word) in [
        (ClusterErrorKind::Bad, 422, "bad_field"),
        (ClusterErrorKind::Unknown, 404, "not_found"),
        (ClusterErrorKind::Conflict, 409, "conflict"),
        (ClusterErrorKind::Refused, 502, "node_refused"),
        (ClusterErrorKind::Unreachable, 503, "node_unreachable"),
        (ClusterErrorKind::Failed, 503, "not_stored"),
    ] {
        transport.refuses(kind);
        for (method, path, body) in [
            ("POST", "/cluster/join", Some(json!({"token": "arw1-x"}))),
            ("POST", "/cluster/leave", None),
            ("DELETE", "/cluster/tokens/00112233aabbccdd", None),
        ] {
            let problem = node.send(method, path, body).await.is_problem(status, word);
            assert_eq!(
                (&problem["detail"], &problem["help"]),
                (&json!("it cannot be"), &json!("do something else"))
            );
        }
    }
}

#[tokio::test]
async fn a_node_that_joined_says_where_it_is() {
    let (node, _) = stage().await;
    let joined = node.send("POST", "/cluster/join", Some(json!({"token": "arw1-x"}))).await;
    assert_eq!(
        joined.json(),
        json!({"cluster": "c1", "roles": ["worker"], "issuer": "08".repeat(32), "address": "192.0.2.7:8091"})
    );
    assert_eq!(node.send("POST", "/cluster/leave", None).await.status, 204);
}

#[tokio::test]
async fn a_node_that_is_not_shown_is_removed_by_its_whole_id() {
    let (node, transport) = stage().await;
    let gone = NodeId::from_bytes([0xcd; 32]);
    assert_eq!(node.send("DELETE", &format!("/cluster/nodes/{gone}"), None).await.status, 204);
    assert_eq!(*transport.removed.lock(), [gone]);
    node.send("DELETE", "/cluster/nodes/cdcdcdcd", None).await.is_problem(404, "not_found");
}

#[tokio::test]
async fn before_the_network_is_up_the_cluster_is_not_ready() {
    let node = TestNode::start().await;
    node.send("GET", "/cluster/tokens", None).await.is_problem(503, "not_ready");
}
