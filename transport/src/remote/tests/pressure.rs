//! More than can be taken.

use tokio::time::Instant;

use super::actor::{Bump, Doze, Echo, Odd, Sum};
use super::kit::{Node, NodeSpec, SECOND, Stranger, connect};
use super::network::{Network, Weather};
use crate::frame::{
    Address, CallId, FRAME_BYTES_MAX, FrameReader, FrameWriter, Header, MARK, MessageType, Parsed,
};
use crate::lanes::LaneOptions;
use crate::remote::{
    Offer, RemoteAskError, RemoteCall, RemoteOptions, RemoteTell, RemoteTellError, target_of,
};
use crate::wire::{CloseCode, Refused, ReplyRefusal};

const WAITING_BYTES_MAX: usize = 32 * 1024;

fn narrow() -> RemoteOptions {
    let lanes = LaneOptions {
        lanes: 1,
        waiting_bytes_max: WAITING_BYTES_MAX,
        answer_bytes_max: 0,
        ..LaneOptions::default()
    };
    RemoteOptions { lanes, open_calls_max: 100, ..RemoteOptions::default() }
}

async fn node(network: &Network, number: u8, mailbox: u32) -> Node {
    Node::start(network, NodeSpec { mailbox, options: narrow(), ..NodeSpec::new(number) }).await
}

#[tokio::test(start_paused = true)]
async fn a_full_mailbox_answers_at_once_and_holds_nobody_else_of_its_lane_up() {
    let network = Network::new(1, Weather::FAIR);
    let (one, two) = (node(&network, 1, 10).await, node(&network, 2, 3).await);
    let (_, far) = connect(&one, &two).await;
    let (system, other) = super::actor::counter(10).await;
    let offer =
        Offer::new("other", &other).call(|Sum, _, reply| super::actor::CounterMessage::Sum(reply), |sum| sum);
    two.links.exports().offer(offer).unwrap();
    let busy = one.counter_of(&two);
    busy.try_tell(&Doze(10_000)).unwrap();
    tokio::time::sleep(SECOND / 10).await;
    for number in 0..10 {
        busy.try_tell(&Bump(number)).unwrap();
    }
    let began = Instant::now();
    let refused = busy.ask(&Sum, 5 * SECOND).await;
    assert!(matches!(refused, Err(RemoteAskError::Refused { reason: ReplyRefusal::Overloaded, .. })));
    let other = one.links.handle(two.id(), "other").unwrap();
    assert_eq!(other.ask(&Sum, 5 * SECOND).await, Ok(vec![]));
    assert!(began.elapsed() < SECOND / 10, "{:?}", began.elapsed());
    // LANE-18: what found no room waits, and comes in order when there is.
    tokio::time::sleep(10 * SECOND).await;
    let own = one.id().as_bytes()[0];
    let all: Vec<_> = (0..10).map(|number| (own, number)).collect();
    assert_eq!(busy.ask(&Sum, SECOND).await, Ok(all));
    assert_eq!(far.counts().lost_tells, 0);
    drop(system);
}

#[tokio::test(start_paused = true)]
async fn lane_4_a_peer_that_does_not_read_never_grows_memory() {
    // LANE-4
    let network = Network::new(1, Weather::FAIR);
    let one = node(&network, 1, 10).await;
    let stranger = Stranger::start(&network, &one).await;
    let counter = one.links.handle(stranger.id, "counter").unwrap();
    // Many actors, of which none is sent as much as it may be.
    let others: Vec<_> =
        (0..50).map(|number| one.links.handle(stranger.id, &number.to_string()).unwrap()).collect();
    let mut sent = 0_usize;
    let mut filled = 0;
    while filled < 5 {
        match others[sent % others.len()].try_tell(&Bump(u64::MAX)) {
            Ok(()) => (sent, filled) = (sent + 1, 0),
            Err(RemoteTellError::Overloaded) => {
                filled += 1;
                // What the connection takes by itself is bounded, too: by its windows.
                tokio::time::sleep(SECOND / 10).await;
            }
            Err(error) => panic!("{error}"),
        }
        assert!(stranger.link.counts().waiting_bytes <= WAITING_BYTES_MAX + FRAME_BYTES_MAX);
        assert!(sent < 100_000, "it takes without end");
    }
    let began = Instant::now();
    assert_eq!(counter.tell(&Bump(1), SECOND).await, Err(RemoteTellError::Overloaded));
    assert_eq!(began.elapsed().as_secs(), 1);
    assert_eq!(counter.ask(&Sum, SECOND).await, Err(RemoteAskError::Overloaded));
    assert_eq!(stranger.link.counts().open_calls, 0);

    // Once it reads, who waited goes on.
    let (told, _) = tokio::join!(counter.tell(&Bump(2), 60 * SECOND), async {
        tokio::time::sleep(SECOND).await;
        stranger.read_all();
    });
    assert_eq!(told, Ok(()));
}

#[tokio::test(start_paused = true)]
async fn lane_18_who_tells_an_actor_without_room_is_refused_or_waits_and_nothing_is_lost() {
    // LANE-17, LANE-18
    let network = Network::new(1, Weather::FAIR);
    let options = RemoteOptions::default();
    let start =
        |number, mailbox| Node::start(&network, NodeSpec { mailbox, options, ..NodeSpec::new(number) });
    let (one, two) = (start(1, 10).await, start(2, 100).await);
    let (_, far) = connect(&one, &two).await;
    let busy = one.counter_of(&two);
    let mut sent = 0;
    // The mailbox empties twice while this goes on.
    for _ in 0..2 {
        busy.tell(&Doze(1_000), SECOND).await.unwrap();
        let mut refused = 0;
        while refused < 3 {
            match busy.try_tell(&Bump(sent)) {
                Ok(()) => (sent, refused) = (sent + 1, 0),
                Err(RemoteTellError::Overloaded) => {
                    refused += 1;
                    tokio::time::sleep(SECOND / 20).await;
                }
                Err(error) => panic!("{error}"),
            }
        }
        let began = Instant::now();
        assert_eq!(busy.tell(&Bump(sent), SECOND / 10).await, Err(RemoteTellError::Overloaded));
        assert_eq!(began.elapsed(), SECOND / 10);
        busy.tell(&Bump(sent), 5 * SECOND).await.unwrap();
        sent += 1;
        let waited = began.elapsed();
        assert!(waited > SECOND / 2 && waited < SECOND, "{waited:?}");
    }
    // What is sent ahead once, and again after half of it was taken.
    assert!((4_097..20_000).contains(&sent), "{sent}");
    tokio::time::sleep(5 * SECOND).await;
    let own = one.id().as_bytes()[0];
    let all: Vec<_> = (0..sent).map(|number| (own, number)).collect();
    assert!(two.counter.ask(super::actor::CounterMessage::Sum, SECOND).await == Ok(all), "all, and in order");
    assert_eq!(far.counts().lost_tells, 0);
    // A name that is not offered takes nothing, and holds nothing up.
    let nobody = one.links.handle(two.id(), "nobody").unwrap();
    for number in 0..10_000 {
        nobody.tell(&Bump(number), SECOND).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn lane_17_a_node_that_sends_more_than_it_may_is_not_listened_to() {
    // LANE-17
    let network = Network::new(1, Weather::FAIR);
    let one = node(&network, 1, 3).await;
    let stranger = Stranger::start(&network, &one).await;
    stranger.read_all();
    let mut lane = stranger.open_lane().await;
    let mut frames = FrameWriter::with_capacity(0);
    let tell = |message| Header::Tell { to: Address { actor: target_of("counter"), message }, trace: None };
    frames.write_value(&tell(Doze::TYPE), &Doze(10_000)).unwrap();
    for number in 0..5_000 {
        frames.write_value(&tell(Bump::TYPE), &Bump(number)).unwrap();
    }
    lane.write_all(&frames.take()).await.unwrap();
    tokio::time::sleep(SECOND).await;
    let lost = stranger.link.counts().lost_tells;
    // Those in the mailbox, and as many as may be under way, are kept.
    assert!((900..=904).contains(&lost), "{lost}");
    // Nor does it help to begin again on another lane.
    lane.finish().unwrap();
    for _ in 0..3 {
        let mut lane = stranger.open_lane().await;
        for number in 0..100 {
            frames.write_value(&tell(Bump::TYPE), &Bump(number)).unwrap();
        }
        // An address that was written on another lane is not known on this one.
        let mut first = FrameWriter::with_capacity(0);
        first.write_value(&tell(Bump::TYPE), &Bump(0)).unwrap();
        lane.write_all(&[first.take(), frames.take()].concat()).await.unwrap();
        lane.finish().unwrap();
        tokio::time::sleep(SECOND / 10).await;
    }
    assert_eq!(stranger.link.counts().lost_tells, lost + 303);
    tokio::time::sleep(10 * SECOND).await;
    let noted = one.counter.ask(super::actor::CounterMessage::Sum, SECOND).await.unwrap();
    assert_eq!(noted.len() as u64, 5_000 - lost);
}

#[tokio::test(start_paused = true)]
async fn what_waits_for_an_actor_follows_its_name_and_survives_a_conversion_that_panics() {
    // LANE-18
    let network = Network::new(1, Weather::FAIR);
    let start = |number| Node::start(&network, NodeSpec { mailbox: 2, ..NodeSpec::new(number) });
    let (one, two) = (start(1).await, start(2).await);
    let (_, far) = connect(&one, &two).await;
    let busy = one.counter_of(&two);
    busy.try_tell(&Doze(3_600_000)).unwrap();
    tokio::time::sleep(SECOND / 10).await;
    for number in 0..10 {
        busy.try_tell(&Bump(number)).unwrap();
    }
    tokio::time::sleep(SECOND / 10).await;
    // Another actor takes the name of the one that hangs.
    let (_system, next) = super::actor::counter(100).await;
    assert!(two.links.exports().withdraw("counter"));
    let offer = Offer::new("counter", &next)
        .tell(|Bump(number), _| {
            assert!(number != 5, "boom");
            super::actor::CounterMessage::Note(1, number)
        })
        .call(|Sum, _, reply| super::actor::CounterMessage::Sum(reply), |sum| sum);
    two.links.exports().offer(offer).unwrap();
    tokio::time::sleep(2 * SECOND).await;
    // One is in hand of the actor that hangs; the rest went to the next, but for the one that panicked.
    let noted: Vec<_> = (1..10).filter(|number| *number != 5).map(|number| (1, number)).collect();
    assert_eq!(busy.ask(&Sum, SECOND).await, Ok(noted));
    assert_eq!((far.counts().lost_tells, far.counts().conversions_crashed), (1, 1));
    busy.try_tell(&Bump(11)).unwrap();
    assert_eq!(busy.ask(&Sum, SECOND).await.map(|all| all.len()), Ok(9));
}

#[tokio::test(start_paused = true)]
async fn wire_7_what_is_for_another_start_is_not_kept_for_an_actor_without_room() {
    // WIRE-7
    let network = Network::new(1, Weather::FAIR);
    let one = node(&network, 1, 3).await;
    let stranger = Stranger::start(&network, &one).await;
    let to = |message| Address { actor: target_of("counter"), message };
    let mut frames = FrameWriter::with_capacity(0);
    frames.write_value(&Header::Tell { to: to(Doze::TYPE), trace: None }, &Doze(10_000)).unwrap();
    for number in 0..10 {
        frames.write_value(&Header::Tell { to: to(Bump::TYPE), trace: None }, &Bump(number)).unwrap();
    }
    stranger.open_lane().await.write_all(&frames.take()).await.unwrap();
    tokio::time::sleep(SECOND / 10).await;
    let mut other = FrameWriter::with_capacity(0);
    other.write_value(&Header::Tell { to: to(Bump::TYPE), trace: None }, &Bump(77)).unwrap();
    stranger.open_lane_to(9).await.write_all(&other.take()).await.unwrap();
    tokio::time::sleep(20 * SECOND).await;
    let noted = one.counter.ask(super::actor::CounterMessage::Sum, SECOND).await.unwrap();
    assert_eq!(noted.iter().map(|(_, number)| *number).collect::<Vec<_>>(), (0..10).collect::<Vec<_>>());
    assert_eq!(stranger.link.counts().lost_tells, 1);
}

#[tokio::test(start_paused = true)]
async fn lane_6_asks_that_wait_are_bounded() {
    // LANE-6
    let network = Network::new(1, Weather::FAIR);
    let (one, two) = (node(&network, 1, 10).await, node(&network, 2, 1000).await);
    let (near, _) = connect(&one, &two).await;
    let counter = one.counter_of(&two);
    counter.try_tell(&Doze(1_000)).unwrap();
    let asks: Vec<_> = (0..100)
        .map(|number| {
            let counter = counter.clone();
            tokio::spawn(async move { counter.ask(&Echo(number, vec![]), 5 * SECOND).await })
        })
        .collect();
    tokio::time::sleep(SECOND / 10).await;
    assert_eq!(near.counts().open_calls, 100);
    assert_eq!(counter.ask(&Sum, SECOND).await, Err(RemoteAskError::Overloaded));
    for (number, ask) in (0..).zip(asks) {
        assert_eq!(ask.await.unwrap().map(|echo| echo.0), Ok(number));
    }
    assert_eq!(near.counts().open_calls, 0);
}

fn ask_header(slot: u32, message: MessageType) -> Header {
    let to = Address { actor: target_of("counter"), message };
    Header::Ask { to, trace: None, call: call(slot), deadline_ms: 1_000 }
}

fn call(slot: u32) -> CallId {
    CallId { slot, generation: std::num::NonZeroU32::MIN }
}

fn asks(count: u32) -> Vec<u8> {
    let mut frames = FrameWriter::with_capacity(0);
    for slot in 0..count {
        frames.write_value(&ask_header(slot, Echo::TYPE), &Echo(1, vec![7; 1000])).unwrap();
    }
    frames.take().to_vec()
}

#[tokio::test(start_paused = true)]
async fn lane_10_a_peer_that_asks_and_does_not_read_the_answers_never_grows_memory() {
    // LANE-10
    let network = Network::new(1, Weather::FAIR);
    let one = node(&network, 1, 100_000).await;
    let stranger = Stranger::start(&network, &one).await;
    let mut lane = stranger.open_lane().await;
    for _ in 0..100 {
        tokio::time::timeout(SECOND, lane.write_all(&asks(20)))
            .await
            .expect("it is read all the same")
            .unwrap();
        let waiting = stranger.link.counts().waiting_bytes;
        assert!(waiting <= WAITING_BYTES_MAX + 4 * FRAME_BYTES_MAX, "{waiting}");
    }
    let counts = stranger.link.counts();
    assert!(counts.refused_asks > 0, "{counts:?}");
}

#[tokio::test(start_paused = true)]
async fn wire_3_what_only_a_newer_version_knows_is_refused_by_itself_and_the_connection_stays() {
    let network = Network::new(1, Weather::FAIR);
    let one = node(&network, 1, 10).await;
    let stranger = Stranger::start(&network, &one).await;
    let mut lane = stranger.open_lane().await;
    let mut newer = asks(1);
    newer[0] |= 0x0F;
    let mut other_kind = asks(1);
    other_kind[1] = 0xCE;
    let mut quiet_kind = asks(1);
    quiet_kind[1] = 0x4E;
    let mut frames = FrameWriter::with_capacity(0);
    frames.write_value(&ask_header(0, MessageType(77)), &1_u8).unwrap();
    frames.write_value(&ask_header(1, Bump::TYPE), &Bump(1)).unwrap();
    frames.write_value(&ask_header(2, Odd::TYPE), &Odd::Trace).unwrap();
    for bytes in [&newer, &other_kind, &quiet_kind, &frames.take().to_vec()] {
        lane.write_all(bytes).await.unwrap();
    }
    let mut answers = Vec::new();
    let mut read = stranger.read_first().await;
    let mut reader = FrameReader::default();
    while answers.len() < 5 {
        match reader.read(&read.bytes).unwrap() {
            Parsed::Need(_) => read.more().await,
            Parsed::Frame { header, body } => {
                let end = body.end;
                answers.push(match header {
                    Header::Refusal { .. } => Some(Refused::from_body(&read.bytes[body]).unwrap().reason),
                    Header::Reply { .. } => None,
                    Header::Tell { .. }
                    | Header::Ask { .. }
                    | Header::Cancel { .. }
                    | Header::Taken { .. } => panic!("{header:?}"),
                });
                read.bytes.drain(..end);
            }
            Parsed::Refused { refusal, .. } => panic!("{refusal}"),
        }
    }
    let expected = [
        Some(ReplyRefusal::Version),
        Some(ReplyRefusal::Version),
        Some(ReplyRefusal::UnknownMessage),
        Some(ReplyRefusal::UnknownMessage),
        None,
    ];
    assert_eq!(answers, expected);
}

#[tokio::test(start_paused = true)]
async fn what_is_no_frame_ends_the_connection_with_that_reason() {
    let network = Network::new(1, Weather::FAIR);
    let one = node(&network, 1, 10).await;
    let stranger = Stranger::start(&network, &one).await;
    let mut lane = stranger.open_lane().await;
    lane.write_all(&[MARK ^ 0x10, 0, 0]).await.unwrap();
    let closed = stranger.connection.closed().await;
    let quinn::ConnectionError::ApplicationClosed(close) = closed else { panic!("{closed}") };
    assert_eq!(CloseCode::from_code(close.error_code.into_inner()), CloseCode::Malformed);
}

#[tokio::test(start_paused = true)]
async fn lane_2_a_peer_opens_only_so_many_lanes() {
    // LANE-2
    let network = Network::new(1, Weather::FAIR);
    let one = node(&network, 1, 10).await;
    let stranger = Stranger::start(&network, &one).await;
    let mut lanes = Vec::new();
    for _ in 0..LaneOptions::default().incoming_max {
        lanes.push(stranger.open_lane().await);
    }
    let mut refused = stranger.open_lane().await;
    tokio::time::sleep(SECOND / 10).await;
    assert!(refused.write_all(&asks(1)).await.is_err());
    lanes[0].write_all(&asks(1)).await.unwrap();
    // One that ends leaves room.
    drop(lanes.pop());
    tokio::time::sleep(SECOND / 10).await;
    let mut next = stranger.open_lane().await;
    tokio::time::sleep(SECOND / 10).await;
    next.write_all(&asks(1)).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_answer_nobody_asked_for_is_counted_and_meets_nobody() {
    let network = Network::new(1, Weather::FAIR);
    let one = node(&network, 1, 10).await;
    let stranger = Stranger::start(&network, &one).await;
    let mut lane = stranger.open_lane().await;
    let mut frames = FrameWriter::with_capacity(0);
    frames.write(&Header::Reply { call: call(3) }, &[]).unwrap();
    frames.write(&Header::Refusal { call: call(3) }, &[]).unwrap();
    let answers = frames.take();
    lane.write_all(&answers).await.unwrap();
    // WIRE-7: not even one that somebody waits for, where it is for another start.
    let counter = one.links.handle(stranger.id, "counter").unwrap();
    let asked = tokio::spawn(async move { counter.ask(&Sum, SECOND).await });
    tokio::time::sleep(SECOND / 10).await;
    frames.write(&Header::Reply { call: call(0) }, &[0]).unwrap();
    let answer = frames.take();
    stranger.open_lane_to(9).await.write_all(&answer).await.unwrap();
    tokio::time::sleep(SECOND / 10).await;
    assert_eq!(stranger.link.counts().late_answers, 3);
    lane.write_all(&answer).await.unwrap();
    assert_eq!(asked.await.unwrap(), Ok(vec![]));
}
