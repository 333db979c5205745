//! Asks that are waited for no more.

use std::num::NonZeroU32;

use tokio::time::Instant;

use super::actor::{Doze, Echo, Odd, Sum};
use super::kit::{Node, NodeSpec, SECOND, Stranger, connect};
use super::network::{Network, Weather};
use crate::frame::{Address, CallId, FrameReader, FrameWriter, Header, Parsed};
use crate::lanes::LaneOptions;
use crate::remote::{RemoteAskError, RemoteCall, RemoteOptions, RemoteTell, target_of};

async fn nodes(network: &Network) -> (Node, Node) {
    (Node::start(network, NodeSpec::new(1)).await, Node::start(network, NodeSpec::new(2)).await)
}

#[tokio::test(start_paused = true)]
async fn lane_20_an_asker_that_waits_no_more_frees_the_actor() {
    // LANE-20: at its deadline, and at once where it is dropped.
    let network = Network::new(1, Weather::FAIR);
    let (one, two) = nodes(&network).await;
    let (near, far) = connect(&one, &two).await;
    let counter = one.counter_of(&two);
    let began = Instant::now();
    let asked = counter.ask(&Odd::Wait, 2 * SECOND).await;
    assert_eq!(asked, Err(RemoteAskError::Expired(2 * SECOND)));
    assert_eq!(counter.ask(&Sum, SECOND).await, Ok(vec![(0, 99)]), "it is free");
    assert!(began.elapsed() < 3 * SECOND, "{:?}", began.elapsed());

    let dropped = tokio::time::timeout(SECOND, counter.ask(&Odd::Wait, 1_000 * SECOND)).await;
    assert!(dropped.is_err());
    assert_eq!(counter.ask(&Sum, SECOND).await, Ok(vec![(0, 99); 2]));
    assert!(began.elapsed() < 5 * SECOND, "{:?}", began.elapsed());
    tokio::time::sleep(SECOND).await;
    let counts = far.counts();
    assert_eq!((counts.begun_asks, counts.refused_asks), (0, 0));
    assert!(counts.cancelled_asks >= 1, "{counts:?}");
    assert_eq!((near.counts().open_calls, near.counts().late_answers), (0, 0), "nothing was sent for it");
}

#[tokio::test(start_paused = true)]
async fn lane_20_the_end_of_the_connection_frees_the_actor() {
    // LANE-20
    let network = Network::new(1, Weather::FAIR);
    let (one, two) = nodes(&network).await;
    let (_, far) = connect(&one, &two).await;
    let counter = one.counter_of(&two);
    let ask = tokio::spawn(async move { counter.ask(&Odd::Wait, 1_000 * SECOND).await });
    tokio::time::sleep(SECOND).await;
    assert_eq!(far.counts().begun_asks, 1);
    one.endpoint.close(0_u32.into(), b"");
    ask.await.unwrap().unwrap_err();
    tokio::time::sleep(SECOND).await;
    assert_eq!(far.counts().begun_asks, 0);
    assert_eq!(two.counter.ask(super::actor::CounterMessage::Sum, SECOND).await, Ok(vec![(0, 99)]));
}

#[tokio::test(start_paused = true)]
async fn lane_20_an_ask_that_was_answered_or_never_sent_is_not_cancelled() {
    // LANE-20
    let network = Network::new(1, Weather::FAIR);
    let (one, two) = nodes(&network).await;
    let (near, far) = connect(&one, &two).await;
    let counter = one.counter_of(&two);
    for number in 0..100 {
        counter.ask(&Echo(number, vec![]), SECOND).await.unwrap();
    }
    let long = Echo(1, vec![0; crate::codec::BODY_BYTES_MAX + 1]);
    assert!(matches!(counter.ask(&long, SECOND).await, Err(RemoteAskError::Write(_))));
    assert!(counter.ask(&Odd::Forget, SECOND).await.is_err());
    tokio::time::sleep(SECOND).await;
    assert_eq!(near.counts().waiting_bytes, 0);
    assert_eq!((far.counts().cancelled_asks, far.counts().begun_asks), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn lane_20_cancels_that_cross_their_answers_disturb_nobody() {
    // LANE-20: some are cancelled before the answer is made, some while it is under way, some not at all.
    let network = Network::new(7, Weather::FAIR);
    let (one, two) = nodes(&network).await;
    let (near, far) = connect(&one, &two).await;
    let counter = one.counter_of(&two);
    let round_trip = {
        let began = Instant::now();
        counter.ask(&Echo(0, vec![]), SECOND).await.unwrap();
        began.elapsed()
    };
    for round in 0..50 {
        let asks: Vec<_> = (0..20_u32)
            .map(|number| {
                let (counter, patience) = (counter.clone(), round_trip * number / 10);
                tokio::spawn(async move {
                    let echo = Echo(number.into(), vec![7; 100]);
                    tokio::time::timeout(patience, counter.ask(&echo, 60 * SECOND)).await
                })
            })
            .collect();
        for (number, ask) in (0..).zip(asks) {
            if let Ok(answered) = ask.await.unwrap() {
                assert_eq!(answered.map(|echo| echo.0), Ok(number), "round {round}");
            }
        }
    }
    tokio::time::sleep(SECOND).await;
    assert_eq!((near.counts().open_calls, far.counts().begun_asks), (0, 0));
    assert!(counter.ask(&Echo(1, vec![]), SECOND).await.is_ok());
}

fn call(number: u32, generation: u32) -> CallId {
    CallId { slot: number, generation: NonZeroU32::new(generation).unwrap() }
}

fn ask(frames: &mut FrameWriter, call: CallId, message: &Odd) {
    let to = Address { actor: target_of("counter"), message: Odd::TYPE };
    let header = Header::Ask { to, trace: None, call, deadline_ms: 600_000 };
    frames.write_value(&header, message).unwrap();
}

fn cancel(frames: &mut FrameWriter, call: CallId) {
    frames.write(&Header::Cancel { call }, &[]).unwrap();
}

/// A node that promises 512 answers at first, and a peer of it.
async fn with_stranger(network: &Network) -> (Node, Stranger) {
    let lanes = LaneOptions { lanes: 1, answer_bytes_max: 0, ..LaneOptions::default() };
    let options = RemoteOptions { lanes, ..RemoteOptions::default() };
    let node = Node::start(network, NodeSpec { options, ..NodeSpec::new(1) }).await;
    let stranger = Stranger::start(network, &node).await;
    (node, stranger)
}

#[tokio::test(start_paused = true)]
async fn lane_20_only_the_ask_that_is_meant_is_cancelled() {
    // LANE-20: not by a cancel of an unknown call, of one that was in the same place before, or for another
    // start.
    let network = Network::new(1, Weather::FAIR);
    let (node, stranger) = with_stranger(&network).await;
    let (mut lane, mut other) = (stranger.open_lane().await, stranger.open_lane_to(2).await);
    let mut frames = FrameWriter::with_capacity(0);
    ask(&mut frames, call(1, 2), &Odd::Wait);
    for wrong in [call(1, 1), call(1, 3), call(2, 2), call(u32::MAX, u32::MAX)] {
        cancel(&mut frames, wrong);
    }
    lane.write_all(&frames.take()).await.unwrap();
    cancel(&mut frames, call(1, 2));
    other.write_all(&frames.take()).await.unwrap();
    tokio::time::sleep(SECOND).await;
    let counts = stranger.link.counts();
    assert_eq!((counts.begun_asks, counts.cancelled_asks), (1, 0));

    cancel(&mut frames, call(1, 2));
    cancel(&mut frames, call(1, 2));
    lane.write_all(&frames.take()).await.unwrap();
    tokio::time::sleep(SECOND).await;
    let counts = stranger.link.counts();
    assert_eq!((counts.begun_asks, counts.cancelled_asks), (0, 1));
    assert_eq!(node.counter.ask(super::actor::CounterMessage::Sum, SECOND).await, Ok(vec![(0, 99)]));
}

#[tokio::test(start_paused = true)]
async fn lane_20_a_peer_that_asks_and_cancels_for_ever_makes_nothing_grow() {
    // LANE-20: its asks wait for an actor that is busy.
    let network = Network::new(1, Weather::FAIR);
    let (_node, stranger) = with_stranger(&network).await;
    let mut lane = stranger.open_lane().await;
    let mut frames = FrameWriter::with_capacity(0);
    let to = Address { actor: target_of("counter"), message: Doze::TYPE };
    frames.write_value(&Header::Tell { to, trace: None }, &Doze(30_000)).unwrap();
    for number in 0..10_000 {
        ask(&mut frames, call(number % 7, number + 1), &Odd::Trace);
        cancel(&mut frames, call(number % 7, number + 1));
        cancel(&mut frames, call(number % 7, number + 1));
    }
    lane.write_all(&frames.take()).await.unwrap();
    tokio::time::sleep(SECOND).await;
    let counts = stranger.link.counts();
    assert!(counts.begun_asks >= 1_024 && counts.begun_asks <= 1_024 + 600, "{counts:?}");
    assert_eq!(counts.cancelled_asks, counts.begun_asks as u64);
    assert_eq!(counts.refused_asks, 10_000 - counts.cancelled_asks);

    tokio::time::sleep(60 * SECOND).await;
    assert_eq!(stranger.link.counts().begun_asks, 0);
    ask(&mut frames, call(0, 20_000), &Odd::Trace);
    lane.write_all(&frames.take()).await.unwrap();
    let (mut read, mut reader, mut refused) = (stranger.read_first().await, FrameReader::default(), 0);
    loop {
        match reader.read(&read.bytes).unwrap() {
            Parsed::Need(_) => read.more().await,
            Parsed::Frame { header: Header::Refusal { .. }, body } => {
                refused += 1;
                read.bytes.drain(..body.end);
            }
            Parsed::Frame { header, .. } => {
                break assert_eq!(header, Header::Reply { call: call(0, 20_000) });
            }
            other @ Parsed::Refused { .. } => panic!("{other:?}"),
        }
    }
    assert_eq!(refused, counts.refused_asks, "for what was cancelled nothing was sent");
}
