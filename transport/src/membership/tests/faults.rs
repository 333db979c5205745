//! One fault at a time, and what everybody makes of it.

use std::time::Duration;

use super::simulation::{Simulation, address, id, network, seeds};
use crate::membership::{DownReason, MembershipEvent, NodeState};

const SECOND: Duration = Duration::from_secs(1);

#[track_caller]
fn everybody_sees(simulation: &Simulation, node: usize, state: NodeState) {
    for other in simulation.running().filter(|&other| other != node) {
        assert_eq!(
            simulation.state_of(other, node),
            Some(state),
            "seed {}: as seen by {other}",
            simulation.seed
        );
    }
}

fn incarnations_seen(simulation: &Simulation, node: usize) -> Vec<u64> {
    let seen = |other: usize| simulation.nodes[other].view.node(&id(node)).unwrap().identity.incarnation;
    simulation.running().filter(|&other| other != node).map(seen).collect()
}

#[test]
fn strangers_become_a_cluster_through_one_of_them() {
    // MEMBER-2
    for (nodes, loss) in [(2, 0), (5, 20), (24, 5)] {
        for seed in seeds(0, 10) {
            let mut simulation = Simulation::strangers(seed, nodes, network(loss));
            for node in 1..nodes {
                simulation.connect(node, 0);
            }
            simulation.run_until(SECOND * 10, "all know all", Simulation::agrees);
            simulation.check_always();
        }
    }
}

#[test]
fn a_crash_is_known_to_all_within_four_seconds_and_a_restart_within_one() {
    // MEMBER-8, MEMBER-14
    for seed in seeds(100, 50) {
        let mut simulation = Simulation::formed(seed, 5, network(1));
        simulation.crash(2);
        simulation.run_until(SECOND * 4, "the crash is known", |all| all.death_known(2, 1).is_some());
        everybody_sees(&simulation, 2, NodeState::Down);
        simulation.restart(2, 0);
        simulation.run_until(SECOND, "the restart is known", Simulation::agrees);
        assert_eq!(incarnations_seen(&simulation, 2), [2; 4], "seed {seed}");
        simulation.check_no_false_death();
        simulation.check_always();
    }
}

#[test]
fn a_restart_faster_than_any_probe_is_still_another_incarnation() {
    // MEMBER-1
    for seed in seeds(200, 20) {
        let mut simulation = Simulation::formed(seed, 5, network(1));
        simulation.crash(2);
        simulation.restart(2, 0);
        simulation.run_until(SECOND, "the restart is known", Simulation::agrees);
        assert_eq!(incarnations_seen(&simulation, 2), [2; 4], "seed {seed}");
        simulation.run_for(SECOND * 10);
        assert!(simulation.agrees(), "seed {seed}: old news has hurt the new start");
        simulation.check_no_false_death();
    }
}

#[test]
fn a_good_bye_is_known_to_all_as_one_within_a_second() {
    // MEMBER-7
    for seed in seeds(300, 50) {
        let mut simulation = Simulation::formed(seed, 5, network(1));
        simulation.leave(3);
        simulation.run_until(SECOND, "the good-bye is known", |all| all.death_known(3, 1).is_some());
        everybody_sees(&simulation, 3, NodeState::Left);
        simulation.run_for(SECOND * 10);
        everybody_sees(&simulation, 3, NodeState::Left);
        simulation.restart(3, 1);
        simulation.run_until(SECOND, "it may come again", Simulation::agrees);
        simulation.check_always();
    }
}

#[test]
fn a_stall_of_one_second_kills_nobody() {
    // MEMBER-6
    for (nodes, seed) in seeds(400, 150).map(|seed| (if seed % 3 == 0 { 24 } else { 5 }, seed)) {
        let mut simulation = Simulation::formed(seed, nodes, network(1));
        let pause = simulation.random(0..2_000);
        simulation.run_for(Duration::from_millis(pause));
        simulation.stall(4);
        simulation.run_for(SECOND);
        simulation.resume(4);
        simulation.run_for(SECOND * 5);
        assert!(simulation.deaths.is_empty(), "seed {seed}: {:?}", simulation.deaths);
        assert!(simulation.agrees(), "seed {seed}");
    }
}

#[test]
fn a_stall_of_ten_seconds_is_a_death_from_which_the_same_incarnation_returns() {
    // MEMBER-14
    for seed in seeds(500, 50) {
        let mut simulation = Simulation::formed(seed, 5, network(1));
        simulation.stall(4);
        simulation.run_for(SECOND * 10);
        for other in 0..4 {
            assert_eq!(simulation.state_of(other, 4), Some(NodeState::Down), "seed {seed}");
        }
        simulation.resume(4);
        simulation.run_until(SECOND * 2, "it is back", Simulation::agrees);
        assert_eq!(incarnations_seen(&simulation, 4), [1; 4], "seed {seed}");
        let rejoined =
            simulation.nodes[4].events.iter().any(|event| matches!(event, MembershipEvent::Rejoined { .. }));
        assert!(rejoined, "seed {seed}: it knows that it was away");
        assert_eq!(simulation.deaths.keys().filter(|(node, _)| *node != 4).count(), 0, "seed {seed}");
        simulation.check_always();
    }
}

#[test]
fn both_sides_of_a_cut_agree_again_when_it_heals_without_any_help() {
    // MEMBER-12
    for (nodes, cut) in [(2, 1), (3, 1), (5, 2), (5, 1), (30, 15)] {
        for seed in seeds(600, 10) {
            let mut simulation = Simulation::formed(seed, nodes, network(1));
            simulation.partition(|node| u8::from(node < cut));
            simulation.run_until(SECOND * 15, "each side is one cluster", Simulation::agrees);
            simulation.run_for(SECOND * 30);
            simulation.heal();
            simulation.run_until(SECOND * 10, "all are one cluster", Simulation::agrees);
            assert!((0..nodes).all(|node| simulation.nodes[node].machine.own().incarnation == 1));
            simulation.run_for(SECOND * 5);
            assert!(simulation.agrees(), "seed {seed}");
            simulation.check_always();
        }
    }
}

#[test]
fn every_node_of_a_cluster_that_fell_apart_finds_back() {
    for seed in seeds(700, 10) {
        let mut simulation = Simulation::formed(seed, 8, network(5));
        simulation.partition(|node| u8::try_from(node).unwrap());
        simulation.run_for(SECOND * 20);
        simulation.heal();
        simulation.run_until(SECOND * 15, "all are one cluster", Simulation::agrees);
        simulation.check_always();
    }
}

#[test]
fn an_address_change_is_no_death() {
    // MEMBER-11
    for (loss, seed) in seeds(800, 30).map(|seed| ((seed % 3 * 10) as u32, seed)) {
        let mut simulation = Simulation::formed(seed, 5, network(loss));
        simulation.nodes[1].machine.change_address(simulation.now, address(77));
        simulation.drain(1);
        simulation.run_until(SECOND * 5, "all know its address", Simulation::agrees);
        assert_eq!(simulation.nodes[0].view.node(&id(1)).unwrap().identity.address, address(77));
        assert_eq!(incarnations_seen(&simulation, 1), [1; 4], "seed {seed}");
        if loss == 0 {
            assert!(simulation.deaths.is_empty(), "seed {seed}");
        }
        simulation.check_always();
    }
}

#[test]
fn a_start_counter_that_went_back_is_told_and_does_not_storm() {
    // MEMBER-9
    for seed in seeds(900, 10) {
        let mut simulation = Simulation::formed(seed, 5, network(0));
        for _ in 0..3 {
            simulation.crash(2);
            simulation.restart(2, 0);
            simulation.run_until(SECOND * 2, "the restart is known", Simulation::agrees);
        }
        simulation.crash(2);
        simulation.restart_as(2, 0, 2);
        let before = simulation.datagrams_sent();
        simulation.run_for(SECOND * 10);
        let outdated =
            simulation.nodes[2].events.iter().any(|event| matches!(event, MembershipEvent::Outdated { .. }));
        assert!(outdated, "seed {seed}: the operator must hear of it");
        let sent = simulation.datagrams_sent() - before;
        // At rest there would be 400.
        assert!(sent < 1_500, "seed {seed}: {sent} datagrams in 10 s");
        assert!(incarnations_seen(&simulation, 2).iter().all(|&seen| seen == 4), "seed {seed}");
    }
}

#[test]
fn a_lost_connection_alone_kills_nobody_who_is_there() {
    // MEMBER-17
    for seed in seeds(1_100, 50) {
        let mut simulation = Simulation::formed(seed, 5, network(5));
        simulation.nodes[0].machine.on_peer_disconnected(simulation.now, id(1));
        simulation.drain(0);
        assert_eq!(simulation.state_of(0, 1), Some(NodeState::Suspect));
        simulation.run_for(SECOND * 3);
        assert!(simulation.deaths.is_empty(), "seed {seed}");
        assert!(simulation.agrees(), "seed {seed}");
    }
}

#[test]
fn reasons_tell_who_found_out() {
    let mut simulation = Simulation::formed(1, 5, network(0));
    simulation.crash(2);
    simulation.run_until(SECOND * 5, "the crash is known", |all| all.death_known(2, 1).is_some());
    let reason = |node: usize| simulation.nodes[node].view.node(&id(2)).unwrap().reason.unwrap();
    let reasons: Vec<DownReason> = simulation.running().map(reason).collect();
    assert!(reasons.contains(&DownReason::Unreachable), "{reasons:?}");
    assert!(!reasons.contains(&DownReason::Left), "{reasons:?}");
}

#[test]
fn a_seed_replays_to_the_byte() {
    let history = |seed: u64| {
        let mut simulation = Simulation::formed(seed, 7, network(10));
        simulation.crash(1);
        simulation.run_for(SECOND * 8);
        simulation.restart(1, 0);
        simulation.run_for(SECOND * 8);
        let events = simulation.nodes.iter().map(|node| format!("{:?}", node.events));
        (events.collect::<Vec<_>>(), simulation.bytes_sent(), simulation.datagrams_sent())
    };
    for seed in seeds(40, 5) {
        assert_eq!(history(seed), history(seed), "seed {seed}");
    }
    assert_ne!(history(1), history(2));
}
