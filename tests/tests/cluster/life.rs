//! Joining, seeing each other, being removed.

use serde_json::json;

use crate::kit::{Node, cluster};

#[tokio::test]
async fn three_nodes_see_each_other_with_what_they_are() {
    let nodes = cluster(["first", "second", "third"]).await;
    for node in &nodes {
        let state = node.process.get("/state/cluster").await.unwrap().json();
        let rows = state["nodes"].as_array().unwrap();
        assert_eq!(rows.len(), 3, "{state:#}");
        assert_eq!(state["home"], json!(nodes[0].id().await));
        for row in rows {
            assert_eq!(row["version"], env!("CARGO_PKG_VERSION"), "{row:#}");
            assert!(row["hardware"]["memory"]["total_bytes"].as_u64().unwrap() > 0, "{row:#}");
            assert!(row["incarnation"].as_u64().unwrap() > 0);
            assert_eq!(row["health"]["state"], "ok");
        }
    }
    let table = nodes[1].arw(&["cluster", "status"]);
    for name in ["first", "second", "third"] {
        assert!(table.contains(name), "{table}");
    }
}

#[tokio::test]
async fn a_token_lets_as_many_machines_in_as_it_says() {
    let (first, second, third) = (Node::start("first"), Node::start("second"), Node::start("third"));
    let token = first.token(1).await;
    assert_eq!(second.join(&token).await.status, 200);
    let refused = third.join(&token).await;
    assert_eq!(refused.status, 502, "{refused:?}");
    assert!(refused.json()["detail"].as_str().unwrap().contains("used already"), "{refused:?}");
    let again = second.join(&token).await;
    assert_eq!(again.status, 409, "{again:?}");
}

#[tokio::test]
async fn a_removed_node_is_alone_and_nobody_shows_it_any_more() {
    let nodes = cluster(["first", "second", "third"]).await;
    nodes[0].arw(&["cluster", "remove", "third"]);
    for node in &nodes[..2] {
        let gone = async {
            while node.sees("third").await.is_some() {
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(arw_tests::http::PATIENCE, gone).await.expect(node.name);
    }
    let alone = async {
        while nodes[2].process.get("/state/cluster").await.unwrap().json()["nodes"].as_array().unwrap().len()
            > 1
        {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(arw_tests::http::PATIENCE, alone).await.expect("it knows");
}

#[tokio::test]
async fn a_member_that_was_stopped_is_one_again_when_it_is_started() {
    let [first, mut second] = cluster(["first", "second"]).await;
    second.process.kill().unwrap();
    second.restart();
    first.until_met("second").await;
    second.until_met("first").await;
}
