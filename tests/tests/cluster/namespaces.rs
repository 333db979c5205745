//! Three machines with addresses of their own: they find each other, move, and lose each other.

use std::time::Duration;

use http_body_util::BodyExt as _;
use serde_json::Value;
use tokio::time::Instant;

use crate::kit::{Node, meet};
use crate::network::{Network, address, on_a_network};
use crate::serving::{chat, until_listed};

const NAMES: [&str; 3] = ["desk", "worker", "attic"];

/// The port that nodes use unless they are told another.
const PORT: u16 = 8091;

/// Three nodes of one cluster, each on a machine of its own. The last two have a model.
async fn machines(network: &Network) -> [Node; 3] {
    let mut nodes = Vec::new();
    for (machine, name) in NAMES.into_iter().enumerate() {
        nodes.push(network.start(machine, name).await);
    }
    meet(&nodes).await;
    nodes.try_into().ok().unwrap()
}

fn is_at(row: &Value, host: u8) -> bool {
    row["address"] == format!("{}:{PORT}", address(host))
}

fn others(nodes: &[Node], node: usize) -> impl Iterator<Item = &Node> {
    nodes.iter().enumerate().filter(move |(index, _)| *index != node).map(|(_, node)| node)
}

/// The answer of a model of another node comes, as a stream, to its end.
async fn streams(node: &Node, model: &str) {
    let answer = chat(node, model, true).await;
    assert_eq!(answer.status(), 200, "{} asks for {model}", node.name);
    let text = String::from_utf8(answer.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap();
    assert!(text.ends_with("data: [DONE]\n\n"), "{text}");
}

#[test]
fn three_machines_see_each_other_at_their_own_addresses_and_share_a_model() {
    let test = "three_machines_see_each_other_at_their_own_addresses_and_share_a_model";
    on_a_network(test, 3, async |network| {
        let nodes = machines(&network).await;
        for node in &nodes {
            for (other, name) in (1..).zip(NAMES) {
                let row = node.sees(name).await.unwrap();
                assert!(is_at(&row, other), "{} sees {row:#}", node.name);
            }
        }
        nodes[1].add_fake("far", &[]).await.unwrap();
        until_listed(&nodes[0], "far").await;
        streams(&nodes[0], "far").await;
    });
}

/// A machine that has another address is known there after this: the change is seen after a second at most.
const MOVED_WITHIN: Duration = Duration::from_secs(4);

/// How long a machine that moves may be taken for down.
const DOWN_AT_MOST: Duration = Duration::from_secs(2);

#[test]
fn a_machine_that_gets_another_address_stays_the_same_node() {
    let test = "a_machine_that_gets_another_address_stays_the_same_node";
    on_a_network(test, 3, async |network| {
        let nodes = machines(&network).await;
        nodes[1].add_fake("far", &[]).await.unwrap();
        nodes[2].add_fake("high", &[]).await.unwrap();
        until_listed(&nodes[0], "far").await;
        until_listed(&nodes[0], "high").await;
        until_listed(&nodes[1], "high").await;
        // One after the other: which of two nodes has dialed the other depends on their ids.
        for (moving, from) in (0..3).zip(1_u8..) {
            let before = nodes[(moving + 1) % 3].sees(NAMES[moving]).await.unwrap();
            network.readdress(moving, from, from + 10);
            let moved = Instant::now();
            for other in others(&nodes, moving) {
                watch_a_move(other, &before, from + 10, moved).await;
            }
            for (node, model) in [(0, "far"), (0, "high"), (1, "high")] {
                until_streams(&nodes[node], model, moved).await;
            }
            eprintln!("{} answered and was answered {:?} after it moved", NAMES[moving], moved.elapsed());
        }
    });
}

/// Asks until the node has its connection and the other's card again.
async fn until_streams(node: &Node, model: &str, moved: Instant) {
    while chat(node, model, false).await.status() != 200 {
        assert!(
            moved.elapsed() < MOVED_WITHIN,
            "{} asks for {model} {:?} after a move",
            node.name,
            moved.elapsed()
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    streams(node, model).await;
}

/// Follows a node that moves, until it is up at its new address.
async fn watch_a_move(node: &Node, before: &Value, host: u8, moved: Instant) {
    let name = before["name"].as_str().unwrap();
    let mut down_since = None;
    let mut down_longest = Duration::ZERO;
    loop {
        let row = node.sees(name).await.unwrap();
        assert_eq!((&row["id"], &row["incarnation"]), (&before["id"], &before["incarnation"]), "{row:#}");
        if row["state"] == "down" {
            let since = *down_since.get_or_insert_with(Instant::now);
            down_longest = down_longest.max(since.elapsed());
        } else {
            down_since = None;
        }
        if is_at(&row, host) && row["state"] == "up" {
            break;
        }
        assert!(down_longest < DOWN_AT_MOST, "down for {down_longest:?}: {row:#}");
        assert!(moved.elapsed() < MOVED_WITHIN, "after {:?} {} sees {row:#}", moved.elapsed(), node.name);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    eprintln!(
        "{} saw {name} at its new address {:?} after the change, and took it for down for {down_longest:?}",
        node.name,
        moved.elapsed()
    );
}

/// How long a cable is out.
const CUT: Duration = Duration::from_secs(8);

/// A partition is over after this, with nobody's help.
const HEALED_WITHIN: Duration = Duration::from_secs(10);

#[test]
fn a_machine_whose_cable_is_pulled_is_down_and_comes_back_by_itself() {
    let test = "a_machine_whose_cable_is_pulled_is_down_and_comes_back_by_itself";
    on_a_network(test, 3, async |network| {
        let nodes = machines(&network).await;
        nodes[1].add_fake("far", &[]).await.unwrap();
        until_listed(&nodes[0], "far").await;
        let [desk, worker, attic] = &nodes;
        let before = desk.sees("worker").await.unwrap();
        network.unplug(1);
        let cut = Instant::now();
        for (node, other) in [(desk, "worker"), (attic, "worker"), (worker, "desk"), (worker, "attic")] {
            node.until_state(other, "down").await;
            eprintln!("{} took {other} for down {:?} after the cut", node.name, cut.elapsed());
        }
        assert!(cut.elapsed() < CUT, "{:?}", cut.elapsed());
        assert_eq!(desk.sees("attic").await.unwrap()["state"], "up", "the others are not affected");
        tokio::time::sleep(CUT.saturating_sub(cut.elapsed())).await;
        network.plug_in(1);
        let plugged = Instant::now();
        for (node, other) in [(desk, "worker"), (attic, "worker"), (worker, "desk"), (worker, "attic")] {
            node.until_state(other, "up").await;
            eprintln!("{} took {other} for up {:?} after the cable was back", node.name, plugged.elapsed());
        }
        until_listed(desk, "far").await;
        streams(desk, "far").await;
        let healed = plugged.elapsed();
        eprintln!("a request went through {healed:?} after the cable was back");
        assert!(healed < HEALED_WITHIN, "{healed:?}");
        let after = desk.sees("worker").await.unwrap();
        assert_eq!((&after["id"], &after["incarnation"]), (&before["id"], &before["incarnation"]));
    });
}

#[test]
fn machines_without_a_route_but_with_docker_meet_and_meet_again_after_a_power_cut() {
    let test = "machines_without_a_route_but_with_docker_meet_and_meet_again_after_a_power_cut";
    on_a_network(test, 3, async |network| {
        network.install_docker();
        let nodes = machines(&network).await;
        for node in &nodes {
            for (other, name) in (1..).zip(NAMES) {
                let row = node.sees(name).await.unwrap();
                assert!(is_at(&row, other), "{} sees {row:#}", node.name);
            }
        }
        // Every machine is off at the same time.
        let mut again = Vec::new();
        for (machine, node) in nodes.into_iter().enumerate() {
            again.push((machine, node.into_folder()));
        }
        let mut nodes = Vec::new();
        for (machine, (name, folder)) in again {
            nodes.push(network.start_on(machine, name, folder).await);
        }
        let began = Instant::now();
        for node in &nodes {
            for other in others(&nodes, nodes.iter().position(|it| it.name == node.name).unwrap()) {
                node.until_met(other.name).await;
            }
        }
        eprintln!("all three have met {:?} after the last one was started", began.elapsed());
        nodes[1].add_fake("far", &[]).await.unwrap();
        until_listed(&nodes[2], "far").await;
        streams(&nodes[2], "far").await;
    });
}
