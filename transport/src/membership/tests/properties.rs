//! Five nodes, any faults, many seeds: when the faults end, all agree, and nothing was said that was not so.

use std::time::Duration;

use super::simulation::{Simulation, id, network, seeds};
use crate::membership::{MembershipConfig, MembershipEvent};

const NODES: u64 = 5;

/// Something that can happen to a cluster.
fn fault(simulation: &mut Simulation, stalled: &mut Vec<usize>) {
    let node = simulation.random(0..NODES) as usize;
    let other = (node + simulation.random(1..NODES) as usize) % NODES as usize;
    let is_running = simulation.nodes[node].is_running;
    match simulation.random(0..12) {
        0 | 1 if is_running => simulation.crash(node),
        2 if is_running && !stalled.contains(&node) => simulation.leave(node),
        3..=5 if !is_running => {
            stalled.retain(|&it| it != node);
            simulation.restart(node, other);
        }
        6 if is_running && !stalled.contains(&node) => {
            simulation.stall(node);
            stalled.push(node);
        }
        7 | 8 => {
            if let Some(node) = stalled.pop() {
                simulation.resume(node);
            }
        }
        9 => {
            let cut = simulation.random(1..1 << NODES);
            simulation.partition(|node| u8::from(cut >> node & 1 == 1));
        }
        10 => simulation.heal(),
        11 if is_running && !stalled.contains(&node) => {
            simulation.nodes[node].machine.on_peer_disconnected(simulation.now, id(other));
            simulation.drain(node);
        }
        _ => {}
    }
}

/// Ends all faults: everybody runs, is connected and hears each other.
fn calm_down(simulation: &mut Simulation, stalled: &mut Vec<usize>) {
    simulation.heal();
    simulation.network = network(1);
    for node in stalled.drain(..) {
        simulation.resume(node);
    }
    for node in 0..NODES as usize {
        if !simulation.nodes[node].is_running {
            simulation.restart(node, (node + 1) % NODES as usize);
        }
    }
    for node in 1..NODES as usize {
        simulation.connect(0, node);
    }
}

/// What each node was told about each other must be a story: nobody comes twice or goes twice, and lives only
/// grow.
#[track_caller]
fn check_stories(simulation: &Simulation) {
    for node in &simulation.nodes {
        for other in 0..NODES as usize {
            let mut is_up = false;
            let mut newest = None;
            for event in &node.events {
                let (member, goes_up) = match event {
                    MembershipEvent::MemberUp { member } => (member, Some(true)),
                    MembershipEvent::MemberDown { member, .. } => (member, Some(false)),
                    MembershipEvent::Renamed { after, .. } => (after, None),
                    MembershipEvent::MemberSuspect { member } | MembershipEvent::MemberCleared { member } => {
                        (member, None)
                    }
                    MembershipEvent::Introduced { .. }
                    | MembershipEvent::Rejoined { .. }
                    | MembershipEvent::SelfRefuted
                    | MembershipEvent::Outdated { .. } => continue,
                };
                if member.id != id(other) {
                    continue;
                }
                let life = (member.incarnation, member.renewal());
                assert!(newest.is_none_or(|newest| life >= newest), "seed {}: {event:?}", simulation.seed);
                newest = Some(life);
                if let Some(goes_up) = goes_up {
                    assert_ne!(is_up, goes_up, "seed {}: {event:?}", simulation.seed);
                    is_up = goes_up;
                }
            }
        }
    }
}

#[test]
fn after_any_faults_all_agree_again() {
    // MEMBER-13
    for seed in seeds(0, 300) {
        let loss = [0, 1, 5, 20][(seed % 4) as usize];
        let mut simulation = Simulation::formed(seed, NODES as usize, network(loss));
        let mut stalled = Vec::new();
        for _ in 0..20 {
            fault(&mut simulation, &mut stalled);
            let pause = simulation.random(0..4_000);
            simulation.run_for(Duration::from_millis(pause));
        }
        calm_down(&mut simulation, &mut stalled);
        simulation.run_until(Duration::from_secs(20), "all agree again", Simulation::agrees);
        simulation.check_always();
        check_stories(&simulation);
    }
}

#[test]
fn loss_alone_kills_nobody() {
    // MEMBER-16
    let mut suspicions = 0;
    for seed in seeds(5_000, 200) {
        let loss = [1, 5, 20][(seed % 3) as usize];
        let mut simulation = Simulation::formed(seed, NODES as usize, network(loss));
        simulation.run_for(Duration::from_secs(30));
        simulation.check_no_false_death();
        simulation.check_always();
        suspicions += simulation.suspicions;
    }
    println!("{suspicions} suspicions, none upheld");
    assert!(suspicions > 100, "the network was too good to show anything");
}

#[test]
fn the_dead_are_forgotten_in_time_and_never_come_back_from_old_gossip() {
    // MEMBER-15
    for seed in seeds(6_000, 20) {
        let config = MembershipConfig { retention: Duration::from_secs(30), members_max: 100 };
        let mut simulation = Simulation::with_config(seed, NODES as usize, network(5), config);
        for node in 1..NODES as usize {
            simulation.connect(0, node);
        }
        simulation.run_until(Duration::from_secs(10), "all know all", Simulation::agrees);
        simulation.crash(4);
        simulation.run_for(Duration::from_secs(25));
        assert!((0..4).all(|node| simulation.nodes[node].view.node(&id(4)).is_some()), "seed {seed}");
        simulation.run_for(Duration::from_secs(60));
        assert!((0..4).all(|node| simulation.nodes[node].view.node(&id(4)).is_none()), "seed {seed}");
        assert!(simulation.agrees(), "seed {seed}");
    }
}
