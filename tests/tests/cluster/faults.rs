//! Nodes that die, stand still and come back.

use std::time::Duration;

use rustix::process::Signal;
use tokio::time::Instant;

use crate::kit::cluster;

/// A death is known after this. Three nodes take 2 to 3 s; a loaded machine gets a second more than is
/// promised.
const KNOWN_DEAD_WITHIN: Duration = Duration::from_secs(5);

#[tokio::test]
async fn a_killed_node_is_down_for_all_others_and_known_again_when_it_restarts() {
    let [first, mut second, third] = cluster(["first", "second", "third"]).await;
    let before = first.sees("second").await.unwrap()["incarnation"].as_u64().unwrap();
    let killed = Instant::now();
    second.process.kill().unwrap();
    for node in [&first, &third] {
        node.until_state("second", "down").await;
        let row = node.sees("second").await.unwrap();
        assert!(row["since"].is_string() && row["health"]["reason"].is_string(), "{row:#}");
    }
    let took = killed.elapsed();
    eprintln!("a killed node was down for all after {took:?}");
    assert!(took < KNOWN_DEAD_WITHIN, "{took:?}");
    assert_eq!(first.sees("third").await.unwrap()["state"], "up", "the others are not affected");
    second.restart();
    let started = Instant::now();
    for node in [&first, &third] {
        node.until("second", "up in a later start", |row| {
            row["state"] == "up" && row["incarnation"].as_u64().unwrap() > before
        })
        .await;
    }
    eprintln!("its restart was known to all {:?} after it was ready", started.elapsed());
    assert!(started.elapsed() < Duration::from_secs(2));
}

#[tokio::test]
async fn a_node_that_restarts_at_once_is_never_down_and_still_a_new_start() {
    let [first, mut second] = cluster(["first", "second"]).await;
    let before = first.sees("second").await.unwrap()["incarnation"].as_u64().unwrap();
    second.process.kill().unwrap();
    second.restart();
    let took = first.until("second", "up in a later start", |row| {
        row["state"] == "up" && row["incarnation"].as_u64().unwrap() > before
    });
    let took = took.await;
    eprintln!("a restart was known {took:?} after it was ready");
    assert!(took < Duration::from_secs(2), "{took:?}");
}

#[tokio::test]
async fn a_node_that_stands_still_for_a_second_is_not_dead() {
    let [first, second, third] = cluster(["first", "second", "third"]).await;
    second.signal(Signal::STOP);
    let stopped = Instant::now();
    let mut resumed = false;
    // Watched for two seconds longer than it stands still: a false verdict would come in that time.
    while stopped.elapsed() < Duration::from_secs(3) {
        if !resumed && stopped.elapsed() >= Duration::from_secs(1) {
            second.signal(Signal::CONT);
            resumed = true;
        }
        for node in [&first, &third] {
            let state = node.sees("second").await.unwrap()["state"].clone();
            assert!(state == "up" || state == "suspect", "{} after {:?}", state, stopped.elapsed());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn a_node_that_stands_still_for_ten_seconds_is_down_and_comes_back_by_itself() {
    let [first, second] = cluster(["first", "second"]).await;
    let before = first.sees("second").await.unwrap()["incarnation"].clone();
    second.signal(Signal::STOP);
    let stopped = Instant::now();
    first.until_state("second", "down").await;
    tokio::time::sleep(Duration::from_secs(10).saturating_sub(stopped.elapsed())).await;
    second.signal(Signal::CONT);
    let back = first.until_state("second", "up").await;
    eprintln!("a node that stood still for 10 s was back {back:?} after it went on");
    assert!(back < Duration::from_secs(5), "{back:?}");
    assert_eq!(first.sees("second").await.unwrap()["incarnation"], before, "it is the same start");
    second.until_state("first", "up").await;
}
