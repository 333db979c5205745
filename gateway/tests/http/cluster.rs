//! `/state/cluster`, and what `/metrics` says of the cluster.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arw_actors::cluster::{
    At, CardRuntime, ClusterError, ClusterUpdate, ClusterView, Contact, CreatedToken, JoinTokenRow,
    JoinedCluster, MemberState, MemberUpdate, NodeCard, OpenError, OwnNode, PeerStream, TokenOrder,
    Transport, TransportStatus,
};
use arw_actors::ids::NodeId;
use arw_gateway::cluster_body;
use arw_kit::moment::{Moment, WallTime};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use serde_json::json;

use crate::support::TestNode;

fn at(seconds: u64) -> At {
    let span = Duration::from_secs(seconds);
    At { now: Moment::ZERO + span, wall: WallTime::from_millis(1_700_000_000_000) + span }
}

/// A node that knows two others, of which one is down.
fn view() -> ClusterView {
    let own = OwnNode {
        id: NodeId::from_bytes([7; 32]),
        name: "testbox".to_owned(),
        incarnation: 3,
        started_at: at(0).wall,
    };
    let mut view = ClusterView::new(own);
    for (number, state) in [(1, MemberState::Up), (2, MemberState::Down)] {
        let (node, address) =
            (NodeId::from_bytes([number; 32]), SocketAddr::from(([10, 0, 0, number], 7400)));
        let reason = (!state.is_alive()).then(|| "it did not answer".to_owned());
        let (since, last_seen) = (at(1).now, at(1).now);
        let member = MemberUpdate { node, incarnation: 1, address, state, since, reason, last_seen };
        view.fold(at(1), ClusterUpdate::Member(member));
    }
    let (node, rtt) = (NodeId::from_bytes([1; 32]), Duration::from_micros(432));
    let (name, roles) = ("box1".to_owned(), vec!["worker".to_owned()]);
    let address = SocketAddr::from(([10, 0, 0, 1], 7400));
    view.fold(at(1), ClusterUpdate::Connected(Contact { node, name, roles, incarnation: 1, address, rtt }));
    view.fold(at(1), card(0));
    view
}

fn card(second: u64) -> ClusterUpdate {
    let runtime = CardRuntime { model: "m".to_owned(), is_serving: true, ..CardRuntime::default() };
    let card = NodeCard { made_at: at(second).wall, runtimes: vec![runtime], ..NodeCard::default() };
    ClusterUpdate::Card { node: NodeId::from_bytes([1; 32]), incarnation: 1, card: Box::new(card) }
}

fn show(node: &TestNode, view: &ClusterView, second: u64) -> bool {
    node.node.cluster.set_picture(view.picture(at(second).now, &Arc::new(NodeCard::default())));
    node.model("cluster").publish(cluster_body(&node.node.cluster.picture()))
}

#[tokio::test]
async fn every_node_has_a_row_with_its_state_and_where_that_is_known_from() {
    let node = TestNode::start().await;
    show(&node, &view(), 20);
    let answer = node.get("/state/cluster").await;
    assert_eq!((answer.header("etag"), answer.header("x-arw-version")), ("\"3.2\"", "3.2"));
    let body = answer.json();
    assert_eq!(
        (&body["ttl_seconds"], &body["home"], &body["cluster"]),
        (&json!(30), &json!(null), &json!(null))
    );
    let rows = body["nodes"].as_array().unwrap();
    let words: Vec<_> = rows
        .iter()
        .map(|row| json!([row["name"], row["state"], row["source"], row["health"]["state"]]))
        .collect();
    assert_eq!(
        words,
        [
            json!(["box1", "up", "card", ""]),
            json!(["testbox", "up", "own", ""]),
            json!([null, "down", "membership", "error"])
        ]
    );
    assert_eq!((&rows[0]["rtt_ms"], &rows[0]["last_seen_ms"]), (&json!(0.43), &json!(15_000)));
    let down = &rows[2];
    assert_eq!(down["reason"], "it did not answer");
    assert_eq!((&down["since"], &down["last_seen_at"]), (&json!("2023-11-14T22:13:21.000Z"), &down["since"]));
    assert_eq!(body["totals"]["nodes"], json!({"up": 2, "suspect": 0, "down": 1, "left": 0}));
}

/// CLUSTER-4.
#[tokio::test]
async fn cards_and_signs_of_life_without_news_make_no_version() {
    let node = TestNode::start().await;
    let mut view = view();
    assert!(show(&node, &view, 70));
    for second in (80..200).step_by(10) {
        view.fold(at(second), card(second));
        let (node_id, rtt) = (NodeId::from_bytes([1; 32]), Duration::from_micros(300 + second));
        view.fold(at(second), ClusterUpdate::Measured { node: node_id, rtt, last_seen: at(second).now });
        let made_a_version = show(&node, &view, second + 9);
        assert_eq!(made_a_version, second == 80, "at {second} s");
    }
}

#[derive(Debug)]
struct Fixed;

fn never<T: 'static>() -> BoxFuture<'static, T> {
    std::future::pending().boxed()
}

impl Transport for Fixed {
    fn open(&self, _: NodeId, _: Duration) -> BoxFuture<'static, Result<Box<dyn PeerStream>, OpenError>> {
        std::future::ready(Err(OpenError::Alone)).boxed()
    }

    fn status(&self) -> TransportStatus {
        TransportStatus {
            connections: 4,
            refused: vec![("bad_token", 2), ("removed", 1)],
            ..TransportStatus::default()
        }
    }

    fn create_token(&self, _: TokenOrder) -> BoxFuture<'static, Result<CreatedToken, ClusterError>> {
        never()
    }

    fn tokens(&self) -> BoxFuture<'static, Result<Vec<JoinTokenRow>, ClusterError>> {
        never()
    }

    fn revoke_token(&self, _: String) -> BoxFuture<'static, Result<JoinTokenRow, ClusterError>> {
        never()
    }

    fn join(&self, _: String) -> BoxFuture<'static, Result<JoinedCluster, ClusterError>> {
        never()
    }

    fn remove(&self, _: NodeId) -> BoxFuture<'static, Result<(), ClusterError>> {
        never()
    }

    fn leave(&self) -> BoxFuture<'static, Result<(), ClusterError>> {
        never()
    }
}

#[tokio::test]
async fn metrics_count_nodes_connections_and_refusals() {
    let node = TestNode::start().await;
    let before = String::from_utf8(node.get("/metrics").await.bytes.to_vec()).unwrap();
    assert!(!before.contains("arw_cluster_connections"), "nothing connects nodes here");
    node.node.cluster.attach(Arc::new(Fixed));
    show(&node, &view(), 20);
    let text = String::from_utf8(node.get("/metrics").await.bytes.to_vec()).unwrap();
    for line in [
        r#"arw_cluster_nodes{state="up"} 2"#,
        r#"arw_cluster_nodes{state="suspect"} 0"#,
        r#"arw_cluster_nodes{state="down"} 1"#,
        "arw_cluster_draining 0",
        "arw_cluster_connections 4",
        r#"arw_cluster_refused_total{reason="bad_token"} 2"#,
        r#"arw_cluster_refused_total{reason="removed"} 1"#,
        "arw_cluster_refused_news_total 0",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
    }
}
