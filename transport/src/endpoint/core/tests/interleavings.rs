//! Removal, renewal, redial and membership at once: operators, crashes, cuts, clocks that step and addresses
//! that change, in every order that a seed gives.
//!
//! `ARW_SEED=7` runs one seed, `ARW_SEEDS=100000` that many. A failure names its seed.

use std::time::Duration;

use rand::RngExt as _;

use super::world::{World, address};
use crate::membership::NodeState;

const NODES: usize = 5;
const STEPS: usize = 12;
const DAY: Duration = Duration::from_secs(24 * 3_600);

/// How long after the last fault all must have found together: who was refused for a clock that was wrong, or
/// as removed, tries again after 30 s.
const QUIET: Duration = Duration::from_secs(40);

fn step(world: &mut World, moves: &mut u16) {
    let node = world.chance.random_range(1..NODES);
    let any = world.chance.random_range(0..NODES);
    match world.chance.random_range(0..22) {
        0..=2 => world.remove(node),
        3 => world.sleep(DAY * 11),
        // A removal in the middle of renewals.
        4 => {
            world.sleep(DAY * 21);
            world.run_for(Duration::from_millis(1_000));
            world.remove(node);
        }
        5..=7 => world.crash(any),
        8..=10 => world.start(any),
        11..=12 => {
            let cut = world.chance.random_range(1..1_u8 << NODES);
            for (index, node) in world.nodes.iter_mut().enumerate() {
                node.side = cut >> index & 1;
            }
        }
        13..=14 => world.nodes.iter_mut().for_each(|node| node.side = 0),
        15 => {
            let ahead = [-7_200_000, -240_000, -60_000, 60_000, 240_000, 7_200_000];
            world.nodes[any].skew_ms = ahead[world.chance.random_range(0..ahead.len())];
        }
        16 => world.nodes[any].skew_ms = 0,
        17..=18 => {
            // The issuer stays: of two that both move while they are cut off, neither can find the other
            // alone.
            *moves += 1;
            let to = address(node, *moves);
            world.act(node, |core, now| {
                core.begin_move(now);
                core.change_address(now, to);
            });
            world.nodes[node].address = to;
        }
        19 => world.replay_certificate(any),
        _ => {
            if world.removed[node].is_some() {
                world.crash(node);
                world.join_again(node);
            }
        }
    }
}

fn run(seed: u64) {
    let mut world = World::new(seed, NODES);
    (0..NODES).for_each(|node| world.start(node));
    world.run_for(Duration::from_secs(3));
    let mut moves = 0;
    for _ in 0..STEPS {
        step(&mut world, &mut moves);
        let pause = world.millis(2_000);
        world.run_for(pause);
    }
    for node in &mut world.nodes {
        node.side = 0;
        node.skew_ms = 0;
    }
    // A lost datagram may make a suspect at any time.
    world.loss_percent = 0;
    (0..NODES).for_each(|node| world.start(node));
    // Usually a moment is enough.
    let until = world.now + QUIET;
    while let Err(difference) = compare(&world) {
        assert!(world.now < until, "seed {seed}: {difference}");
        world.run_for(Duration::from_millis(500));
    }
    world.run_for(Duration::from_secs(3));
    if let Err(difference) = compare(&world) {
        panic!("seed {seed}: it did not last: {difference}");
    }
}

/// What must hold when all is quiet.
fn compare(world: &World) -> Result<(), String> {
    let is_member = |node: usize| {
        let ends = world.certificate(node).not_after;
        let is_good = world.removed[node].is_none() && ends > world.wall_of(node);
        world.nodes[node].core.is_some() && is_good
    };
    for one in (0..NODES).filter(|&node| is_member(node)) {
        let core = world.nodes[one].core.as_ref().unwrap();
        for two in (0..NODES).filter(|&node| node != one) {
            let entry = core.node(world.id(two));
            let is_shown =
                entry.is_some_and(|entry| matches!(entry.state, NodeState::Up | NodeState::Suspect));
            let (both, half) = world.links_between(one, two);
            let there = &world.nodes[two];
            let is_right = if is_member(two) {
                let is_it = entry.is_some_and(|entry| {
                    entry.state == NodeState::Up
                        && entry.identity.incarnation == there.incarnation
                        && entry.identity.address == there.address
                });
                is_it && (both, half) == (1, 0)
            } else if world.removed[two].is_some() {
                !is_shown && both + half == 0
            } else {
                true
            };
            if !is_right {
                let what = if is_member(two) { "a member" } else { "removed" };
                let (here, there) = (world.describe(one, two), world.describe(two, one));
                return Err(format!("{two} is {what}, {both} and {half} connections\n  {here}\n  {there}"));
            }
        }
    }
    Ok(())
}

/// A part of the seeds: parts run beside each other.
fn run_part(part: u64) {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    if let Some(seed) = number("ARW_SEED") {
        if part == 0 {
            run(seed);
        }
        return;
    }
    let count = number("ARW_SEEDS").unwrap_or(2_000);
    for seed in (0..count).filter(|seed| seed % 4 == part) {
        run(seed);
    }
}

#[tokio::test(start_paused = true)]
async fn whatever_happens_the_removed_stay_out_and_the_others_find_together_part_1() {
    run_part(0);
}

#[tokio::test(start_paused = true)]
async fn whatever_happens_the_removed_stay_out_and_the_others_find_together_part_2() {
    run_part(1);
}

#[tokio::test(start_paused = true)]
async fn whatever_happens_the_removed_stay_out_and_the_others_find_together_part_3() {
    run_part(2);
}

#[tokio::test(start_paused = true)]
async fn whatever_happens_the_removed_stay_out_and_the_others_find_together_part_4() {
    run_part(3);
}
