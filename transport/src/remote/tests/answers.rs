//! Many answers to one message.

use std::time::Duration;

use arw_kit::life::Backoff;
use arw_kit::mailbox::{Actor, Context, Fault, Handle, NotRead, Replies};
use arw_kit::supervision::{ActorSpec, ActorSystem};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::actor::Sum;
use super::kit::{Node, NodeSpec, SECOND, Stranger, connect, connect_as};
use super::network::{Network, Weather};
use crate::endpoint::StreamPurpose;
use crate::frame::{Address, FrameWriter, Header, MessageType};
use crate::lanes::stream_start;
use crate::remote::{NodeDown, Offer, RemoteAnswers, RemoteAskError, RemoteHandle, RemoteStream, target_of};
use crate::wire::{ReplyRefusal, StreamRefusal};

/// What a narrator tells.
#[derive(Debug, Serialize, Deserialize)]
enum Tale {
    /// So many numbers.
    Numbers(u64),
    /// Numbers until nobody reads any more, however slowly they are read.
    Endless,
    /// Numbers as long as they are read at once.
    Impatient,
    /// One number, and then nothing until nobody reads any more.
    Pause,
    /// Two numbers and a crash.
    Crash,
    /// Two numbers, and no end.
    Forget,
    /// One that fits no frame.
    Long,
}
impl RemoteStream for Tale {
    const TYPE: MessageType = MessageType(1);
    type Item = (u64, Vec<u8>);
}

/// Another idea of it.
#[derive(Debug, Serialize, Deserialize)]
struct Other(u8);
impl RemoteStream for Other {
    const TYPE: MessageType = MessageType(2);
    type Item = ();
}

enum NarratorMessage {
    Tell(Tale, Replies<(u64, usize)>),
}
arw_kit::message!(NarratorMessage { Tell });

/// Says how each of its tales ended: how many numbers were taken.
struct Narrator(mpsc::Sender<u64>);

impl Actor for Narrator {
    type Message = NarratorMessage;
    type Args = mpsc::Sender<u64>;
    const KIND: &'static str = "narrator";

    async fn start(told: &mpsc::Sender<u64>, _: &mut Context<NarratorMessage>) -> Result<Self, Fault> {
        Ok(Self(told.clone()))
    }

    async fn handle(
        &mut self,
        NarratorMessage::Tell(tale, replies): NarratorMessage,
        _: &mut Context<NarratorMessage>,
    ) -> Result<(), Fault> {
        let is_pause = matches!(tale, Tale::Pause);
        let (count, patience, bytes) = match tale {
            Tale::Numbers(count) => (count, 60 * SECOND, 100),
            Tale::Endless => (u64::MAX, 3_600 * SECOND, 1_000),
            Tale::Impatient => (u64::MAX, SECOND, 1_000),
            Tale::Pause => (1, SECOND, 0),
            Tale::Long => (1, SECOND, crate::codec::BODY_BYTES_MAX),
            Tale::Crash => {
                replies.try_send((0, 0)).unwrap();
                replies.try_send((1, 0)).unwrap();
                panic!("boom");
            }
            Tale::Forget => {
                replies.try_send((0, 0)).unwrap();
                replies.try_send((1, 0)).unwrap();
                return Ok(());
            }
        };
        let ended = self.0.clone();
        tokio::spawn(async move {
            for number in 0..count {
                match replies.send((number, bytes), patience).await {
                    Ok(()) => {}
                    Err(NotRead::Full(_) | NotRead::Abandoned(_)) => {
                        ended.send(number).await.unwrap();
                        return;
                    }
                }
            }
            if is_pause {
                return replies.abandoned().await;
            }
            replies.finish();
        });
        Ok(())
    }
}

struct Stage {
    one: Node,
    two: Node,
    narrator: RemoteHandle,
    ended: mpsc::Receiver<u64>,
    _system: ActorSystem,
}

async fn offer(node: &Node, mailbox: u32) -> (ActorSystem, mpsc::Receiver<u64>) {
    let system = ActorSystem::new("stage");
    let mut root = system.root().backoff(Backoff::NONE);
    let (told, ended) = mpsc::channel(100);
    let narrator: Handle<NarratorMessage> =
        root.actor(ActorSpec::<Narrator>::new("narrator", told).mailbox(mailbox));
    system.start(root).await.unwrap();
    let offer = Offer::new("narrator", &narrator).stream(
        |tale: Tale, _, replies| NarratorMessage::Tell(tale, replies),
        |(number, bytes)| (number, vec![7; bytes]),
    );
    node.links.exports().offer(offer).unwrap();
    (system, ended)
}

async fn stage() -> Stage {
    let network = Network::new(1, Weather::FAIR);
    let one = Node::start(&network, NodeSpec::new(1)).await;
    let two = Node::start(&network, NodeSpec::new(2)).await;
    connect(&one, &two).await;
    let (system, ended) = offer(&two, 100).await;
    let narrator = one.links.handle(two.id(), "narrator").unwrap();
    Stage { one, two, narrator, ended, _system: system }
}

/// The next number.
async fn next(answers: &mut RemoteAnswers<Tale>) -> Option<Result<u64, RemoteAskError>> {
    Some(answers.next(SECOND).await?.map(|(number, _)| number))
}

fn refused(reason: ReplyRefusal, detail: &str) -> Option<Result<u64, RemoteAskError>> {
    Some(Err(RemoteAskError::Refused { reason, detail: detail.to_owned() }))
}

#[tokio::test(start_paused = true)]
async fn lane_15_answers_come_in_order_and_end() {
    // LANE-15
    let stage = stage().await;
    let mut answers = stage.narrator.stream(&Tale::Numbers(5_000), SECOND).await.unwrap();
    for number in 0..5_000 {
        let (came, bytes) = answers.next(SECOND).await.unwrap().unwrap();
        assert_eq!((came, bytes.len()), (number, 100));
    }
    assert_eq!(answers.next(SECOND).await, None);
    assert_eq!(answers.next(SECOND).await, None);
    let mut none = stage.narrator.stream(&Tale::Numbers(0), SECOND).await.unwrap();
    assert_eq!(none.next(SECOND).await, None);
}

#[tokio::test(start_paused = true)]
async fn how_answers_end_otherwise_is_told_after_those_that_came() {
    let stage = stage().await;
    for (tale, end) in [
        (Tale::Crash, refused(ReplyRefusal::Crashed, "")),
        (Tale::Forget, refused(ReplyRefusal::Unanswerable, "the actor stopped answering")),
    ] {
        let mut answers = stage.narrator.stream(&tale, SECOND).await.unwrap();
        assert_eq!((next(&mut answers).await, next(&mut answers).await), (Some(Ok(0)), Some(Ok(1))));
        assert_eq!(next(&mut answers).await, end);
        assert_eq!(next(&mut answers).await, None);
    }
    let mut long = stage.narrator.stream(&Tale::Long, SECOND).await.unwrap();
    let Some(Err(RemoteAskError::Refused { reason, .. })) = next(&mut long).await else { panic!() };
    assert_eq!(reason, ReplyRefusal::Unanswerable);
}

#[tokio::test(start_paused = true)]
async fn what_is_not_offered_or_taken_is_refused_by_name() {
    let stage = stage().await;
    let first = async |handle: &RemoteHandle| {
        next(&mut handle.stream(&Tale::Numbers(1), SECOND).await.unwrap()).await
    };
    let nobody = stage.one.links.handle(stage.two.id(), "caretaker").unwrap();
    assert_eq!(first(&nobody).await, refused(ReplyRefusal::Unknown, ""));
    // The counter has a call of that number, which has one answer.
    let counter = stage.one.counter_of(&stage.two);
    assert_eq!(first(&counter).await, refused(ReplyRefusal::UnknownMessage, "type 1"));
    let mut other = stage.narrator.stream(&Other(1), SECOND).await.unwrap();
    let Some(Err(RemoteAskError::Refused { reason, .. })) = other.next(SECOND).await else { panic!() };
    assert_eq!(reason, ReplyRefusal::UnknownMessage);
    stage.two.links.exports().withdraw("narrator");
    assert_eq!(first(&stage.narrator).await, refused(ReplyRefusal::Unknown, ""));

    let network = Network::new(2, Weather::FAIR);
    let one = Node::start(&network, NodeSpec::new(1)).await;
    let two = Node::start(&network, NodeSpec::new(2)).await;
    connect_as((&one, 1), (&two, 4)).await;
    let _narrator = offer(&two, 1).await;
    let meant = first(&one.links.handle(two.id(), "narrator").unwrap()).await;
    assert_eq!(meant, refused(ReplyRefusal::Fenced, "it was for start 4, this is start 1"));
}

#[tokio::test(start_paused = true)]
async fn lane_16_who_does_not_read_holds_up_nobody_but_these_answers() {
    // LANE-16
    let mut stage = stage().await;
    let answers = stage.narrator.stream(&Tale::Impatient, SECOND).await.unwrap();
    let taken = stage.ended.recv().await.unwrap();
    // 64 KiB, what one write and the mailbox of answers hold.
    assert!((60..110).contains(&taken), "{taken} answers of 1,000 bytes were taken");
    let counter = stage.one.counter_of(&stage.two);
    assert_eq!(counter.ask(&Sum, SECOND).await, Ok(vec![]));
    drop(answers);

    let mut answers = stage.narrator.stream(&Tale::Endless, SECOND).await.unwrap();
    for number in 0..1_000 {
        assert_eq!(next(&mut answers).await, Some(Ok(number)));
    }
    let began = Instant::now();
    drop(answers);
    let taken = stage.ended.recv().await.unwrap();
    assert!((1_000..1_200).contains(&taken), "{taken}");
    assert!(began.elapsed() < Duration::from_millis(100), "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_wait_that_was_too_short_loses_nothing() {
    let stage = stage().await;
    let mut answers = stage.narrator.stream(&Tale::Numbers(100), SECOND).await.unwrap();
    let (mut came, mut expired) = (Vec::new(), 0);
    loop {
        match answers.next(Duration::from_micros(100)).await {
            Some(Ok((number, _))) => came.push(number),
            Some(Err(RemoteAskError::Expired(_))) => expired += 1,
            Some(Err(error)) => panic!("{error}"),
            None => break,
        }
    }
    assert_eq!(came, (0..100).collect::<Vec<_>>());
    assert!(expired > 0);
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_ends_ends_its_answers() {
    let mut stage = stage().await;
    let mut answers = stage.narrator.stream(&Tale::Endless, SECOND).await.unwrap();
    assert_eq!(next(&mut answers).await, Some(Ok(0)));
    stage.two.endpoint.close(0_u32.into(), b"");
    stage.ended.recv().await.unwrap();
    let end = loop {
        match next(&mut answers).await {
            Some(Ok(_)) => {}
            other => break other,
        }
    };
    assert_eq!(end, Some(Err(RemoteAskError::Down(NodeDown::ConnectionLost))));
    let again = stage.narrator.stream(&Tale::Endless, SECOND).await;
    assert!(matches!(again, Err(RemoteAskError::Down(NodeDown::NotConnected))), "{again:?}");
}

#[tokio::test(start_paused = true)]
async fn lane_16_a_peer_has_so_many_streams_of_answers() {
    // LANE-16
    let stage = stage().await;
    let mut open = Vec::new();
    for _ in 0..64 {
        open.push(stage.narrator.stream(&Tale::Pause, SECOND).await.unwrap());
    }
    for answers in &mut open {
        assert_eq!(next(answers).await, Some(Ok(0)));
    }
    // Told while it asks, or when it reads.
    let refused = match stage.narrator.stream(&Tale::Numbers(1), SECOND).await {
        Ok(mut answers) => next(&mut answers).await.unwrap().unwrap_err(),
        Err(error) => error,
    };
    assert_eq!(refused, RemoteAskError::Overloaded);
    drop(open.pop());
    tokio::time::sleep(SECOND / 10).await;
    let mut next_one = stage.narrator.stream(&Tale::Numbers(1), SECOND).await.unwrap();
    assert_eq!(next(&mut next_one).await, Some(Ok(0)));
}

#[tokio::test(start_paused = true)]
async fn what_is_no_ask_ends_its_stream_and_not_the_connection() {
    let network = Network::new(1, Weather::FAIR);
    let one = Node::start(&network, NodeSpec::new(1)).await;
    let stranger = Stranger::start(&network, &one).await;
    let to = Address { actor: target_of("narrator"), message: Tale::TYPE };
    let mut frames = FrameWriter::with_capacity(0);
    frames.write(&Header::Tell { to, trace: None }, b"").unwrap();
    let tell = frames.take().to_vec();
    for (bytes, refusal) in [
        (&tell[..], StreamRefusal::Malformed),
        (b"GET /", StreamRefusal::Malformed),
        (b"", StreamRefusal::TooSlow),
    ] {
        let (mut send, mut receive) = stranger.connection.open_bi().await.unwrap();
        send.write_all(&stream_start(StreamPurpose::Answers, 1)).await.unwrap();
        send.write_all(bytes).await.unwrap();
        let ended = receive.read_to_end(1).await.unwrap_err();
        let quinn::ReadToEndError::Read(quinn::ReadError::Reset(code)) = ended else { panic!("{ended}") };
        assert_eq!(StreamRefusal::from_stream_code(code.into_inner()), Some(refusal));
    }
    assert!(stranger.connection.close_reason().is_none());
}
