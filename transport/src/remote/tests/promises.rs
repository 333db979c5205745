//! Answers that find no room, and application code that panics: an ask is answered or refused, never
//! forgotten.

use arw_kit::supervision::ActorSystem;

use super::actor::{Bump, CounterMessage, Doze, Echo, counter};
use super::kit::{Node, NodeSpec, SECOND, Stranger, connect};
use super::network::{Network, Weather};
use crate::frame::{Address, CallId, FRAME_BYTES_MAX, FrameReader, FrameWriter, Header, Parsed};
use crate::lanes::LaneOptions;
use crate::remote::{Offer, RemoteAskError, RemoteCall, RemoteHandle, RemoteOptions, target_of};
use crate::wire::{CloseCode, GoodbyeReason, Refused, ReplyRefusal};

/// What became of asks.
#[derive(Debug, Default, PartialEq, Eq)]
struct Became {
    answered: usize,
    overloaded: usize,
}

/// Asks so many times at once for answers of this length, while the actor is busy: it answers all of them in
/// one go.
async fn ask_at_once(counter: &RemoteHandle, asks: u64, bytes: usize) -> Became {
    counter.try_tell(&Doze(5_000)).unwrap();
    let asks: Vec<_> = (0..asks)
        .map(|number| {
            let (counter, body) = (counter.clone(), vec![7; bytes]);
            tokio::spawn(async move { counter.ask(&Echo(number, body), 60 * SECOND).await })
        })
        .collect();
    let mut became = Became::default();
    for (number, ask) in (0..).zip(asks) {
        match ask.await.unwrap() {
            Ok(Echo(answered, body)) => {
                assert_eq!((answered, body.len()), (number, bytes));
                became.answered += 1;
            }
            Err(RemoteAskError::Refused { reason: ReplyRefusal::Overloaded, .. }) => became.overloaded += 1,
            Err(error) => panic!("{error}"),
        }
    }
    became
}

async fn pair(network: &Network, options: RemoteOptions) -> (Node, Node) {
    let one = Node::start(network, NodeSpec { options, ..NodeSpec::new(1) }).await;
    let two = Node::start(network, NodeSpec { options, ..NodeSpec::new(2) }).await;
    (one, two)
}

#[tokio::test(start_paused = true)]
async fn lane_10_a_thousand_asks_at_once_are_all_answered() {
    // LANE-10
    let network = Network::new(1, Weather::FAIR);
    let (one, two) = pair(&network, RemoteOptions::default()).await;
    let (_, far) = connect(&one, &two).await;
    for _ in 0..2 {
        let became = ask_at_once(&one.counter_of(&two), 1_000, 4_096).await;
        assert_eq!(became, Became { answered: 1_000, overloaded: 0 });
    }
    let counts = far.counts();
    assert_eq!((counts.refused_asks, counts.refused_answers, counts.waiting_bytes), (0, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn lane_10_of_more_answers_than_there_is_room_for_each_is_given_or_refused() {
    // LANE-10: they are longer than it was thought, and then it is known better.
    let network = Network::new(1, Weather::FAIR);
    let lanes = LaneOptions { answer_bytes_max: 1024 * 1024, ..LaneOptions::default() };
    let (one, two) = pair(&network, RemoteOptions { lanes, ..RemoteOptions::default() }).await;
    let (_, far) = connect(&one, &two).await;
    let counter = one.counter_of(&two);
    let became = ask_at_once(&counter, 1_000, 4_096).await;
    assert_eq!(became.answered + became.overloaded, 1_000);
    assert!(became.answered >= 200 && became.overloaded > 0, "{became:?}");
    let refused_late = far.counts().refused_answers;
    assert!(refused_late > 0);
    let again = ask_at_once(&counter, 1_000, 4_096).await;
    assert_eq!(again.answered + again.overloaded, 1_000);
    assert!(
        far.counts().refused_answers - refused_late <= 10,
        "who is refused is so before the work is done"
    );
}

fn asks(count: u32, body: usize) -> Vec<u8> {
    let to = Address { actor: target_of("counter"), message: Echo::TYPE };
    let mut frames = FrameWriter::with_capacity(0);
    for slot in 0..count {
        let call = CallId { slot, generation: std::num::NonZeroU32::MIN };
        let header = Header::Ask { to, trace: None, call, deadline_ms: 60_000 };
        frames.write_value(&header, &Echo(1, vec![7; body])).unwrap();
    }
    frames.take().to_vec()
}

#[tokio::test(start_paused = true)]
async fn lane_10_a_peer_that_reads_late_finds_an_answer_or_a_refusal_for_each_ask() {
    // LANE-10
    let network = Network::new(1, Weather::FAIR);
    let lanes = LaneOptions { lanes: 1, answer_bytes_max: 0, ..LaneOptions::default() };
    let options = RemoteOptions { lanes, ..RemoteOptions::default() };
    let one = Node::start(&network, NodeSpec { options, ..NodeSpec::new(1) }).await;
    let stranger = Stranger::start(&network, &one).await;
    let mut lane = stranger.open_lane().await;
    for _ in 0..20 {
        let wrote = tokio::time::timeout(SECOND, lane.write_all(&asks(100, 1_000))).await;
        wrote.expect("it is read all the same").unwrap();
        let waiting = stranger.link.counts().waiting_bytes;
        assert!(waiting <= 3 * FRAME_BYTES_MAX + 2_000 * 64, "{waiting}");
    }
    tokio::time::sleep(SECOND).await;
    assert!(stranger.link.counts().refused_asks > 0, "{:?}", stranger.link.counts());
    let (mut answered, mut refused) = (0, 0);
    let (mut read, mut reader) = (stranger.read_first().await, FrameReader::default());
    while answered + refused < 2_000 {
        match reader.read(&read.bytes).unwrap() {
            Parsed::Need(_) => read.more().await,
            Parsed::Frame { header: Header::Reply { .. }, body } => {
                answered += 1;
                read.bytes.drain(..body.end);
            }
            Parsed::Frame { header: Header::Refusal { .. }, body } => {
                let refusal = Refused::from_body(&read.bytes[body.clone()]).unwrap();
                assert_eq!(refusal.reason, ReplyRefusal::Overloaded);
                refused += 1;
                read.bytes.drain(..body.end);
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(answered >= 100, "{answered} of {refused}");
}

#[tokio::test(start_paused = true)]
async fn lane_10_a_peer_that_asks_for_ever_and_reads_nothing_is_cut_off() {
    // LANE-10
    let network = Network::new(1, Weather::FAIR);
    let one = Node::start(&network, NodeSpec::new(1)).await;
    let stranger = Stranger::start(&network, &one).await;
    let mut lane = stranger.open_lane().await;
    let asks = asks(2_000, 100);
    for _ in 0..200 {
        let waiting = stranger.link.counts().waiting_bytes;
        assert!(waiting <= (8 + 1) * 1024 * 1024 + 3 * FRAME_BYTES_MAX, "{waiting}");
        if lane.write_all(&asks).await.is_err() {
            break;
        }
    }
    let closed = tokio::time::timeout(SECOND, stranger.connection.closed()).await.expect("it is cut off");
    let quinn::ConnectionError::ApplicationClosed(close) = closed else { panic!("{closed}") };
    let stalled = CloseCode::Goodbye(GoodbyeReason::Stalled);
    assert_eq!(CloseCode::from_code(close.error_code.into_inner()), stalled);
}

/// Offers a counter whose conversions panic at 13, and when it answers 14.
async fn fragile(node: &Node) -> ActorSystem {
    let (system, fragile) = counter(100).await;
    let offer = Offer::new("fragile", &fragile)
        .tell(|Bump(number), _| {
            assert_ne!(number, 13);
            CounterMessage::Note(0, number)
        })
        .call(
            |echo: Echo, _, reply| {
                assert_ne!(echo.0, 13);
                CounterMessage::Echo(0, echo, reply)
            },
            |echo| {
                assert_ne!(echo.0, 14);
                echo
            },
        );
    node.links.exports().offer(offer).unwrap();
    system
}

#[tokio::test(start_paused = true)]
async fn lane_19_a_conversion_that_panics_takes_nothing_with_it_but_its_message() {
    // LANE-19
    let network = Network::new(1, Weather::FAIR);
    let (one, two) = pair(&network, RemoteOptions::default()).await;
    let (_, far) = connect(&one, &two).await;
    let _system = fragile(&two).await;
    let fragile = one.links.handle(two.id(), "fragile").unwrap();
    for round in 1..=3 {
        fragile.try_tell(&Bump(13)).unwrap();
        for number in [13, 14] {
            let refused = fragile.ask(&Echo(number, vec![]), SECOND).await;
            let Err(RemoteAskError::Refused { reason, .. }) = refused else { panic!("{refused:?}") };
            assert!(matches!(reason, ReplyRefusal::Unanswerable | ReplyRefusal::Crashed), "{reason:?}");
        }
        tokio::time::sleep(SECOND).await;
        assert_eq!(fragile.ask(&Echo(round, vec![]), SECOND).await.map(|echo| echo.0), Ok(round));
        let counts = far.counts();
        assert_eq!((counts.conversions_crashed, counts.lost_tells), (2 * round, round));
    }
    assert!(one.counter_of(&two).ask(&Echo(1, vec![]), SECOND).await.is_ok(), "it is the same connection");
    assert_eq!(far.counts().conversions_crashed, 6);
}
