//! What arrives, in which order, and what is refused.

use super::actor::{Bump, CounterMessage, Doze, Echo, Mistaken, Odd, Secret, Sum};
use super::kit::{Node, NodeSpec, SECOND, connect, connect_as};
use super::network::{Network, Weather};
use crate::frame::Trace;
use crate::remote::{RemoteAskError, RemoteTellError};
use crate::wire::ReplyRefusal;

fn reason<T: std::fmt::Debug>(outcome: Result<T, RemoteAskError>) -> ReplyRefusal {
    match outcome {
        Err(RemoteAskError::Refused { reason, .. }) => reason,
        other => panic!("{other:?}"),
    }
}

async fn pair() -> (Node, Node) {
    let network = Network::new(1, Weather::FAIR);
    let one = Node::start(&network, NodeSpec::new(1)).await;
    let two = Node::start(&network, NodeSpec::new(2)).await;
    (one, two)
}

#[tokio::test(start_paused = true)]
async fn lane_3_tells_and_asks_of_one_sender_arrive_once_and_in_order() {
    // LANE-3
    let (one, two) = pair().await;
    connect(&one, &two).await;
    let counter = one.counter_of(&two);
    let own = one.id().as_bytes()[0];
    for number in 0..5_000_u64 {
        if number % 500 == 499 {
            let padding = vec![7; usize::try_from(number).unwrap() * 10];
            let echo = counter.ask(&Echo(number, padding.clone()), SECOND).await.unwrap();
            assert_eq!((echo.0, echo.1), (number, padding));
        } else {
            counter.tell(&Bump(number), SECOND).await.unwrap();
        }
    }
    let noted = two.counter.ask(CounterMessage::Sum, SECOND).await.unwrap();
    assert_eq!(noted, (0..5_000).map(|number| (own, number)).collect::<Vec<_>>());
}

#[tokio::test]
async fn over_real_sockets_it_is_the_same() {
    let one = Node::on_loopback(NodeSpec::new(1)).await;
    let two = Node::on_loopback(NodeSpec::new(2)).await;
    connect(&one, &two).await;
    let (there, back) = (one.counter_of(&two), two.counter_of(&one));
    for number in 0..2_000 {
        there.tell(&Bump(number), 10 * SECOND).await.unwrap();
        back.tell(&Bump(number), 10 * SECOND).await.unwrap();
    }
    for (handle, from) in [(&there, &one), (&back, &two)] {
        let sum = handle.ask(&Sum, 10 * SECOND).await.unwrap();
        let own = from.id().as_bytes()[0];
        assert_eq!(sum, (0..2_000).map(|number| (own, number)).collect::<Vec<_>>());
    }
}

#[tokio::test(start_paused = true)]
async fn lane_8_only_what_is_offered_can_be_reached() {
    // LANE-8
    let (one, two) = pair().await;
    let (_, far) = connect(&one, &two).await;
    let nobody = one.links.handle(two.id(), "caretaker").unwrap();
    assert_eq!(reason(nobody.ask(&Sum, SECOND).await), ReplyRefusal::Unknown);
    let counter = one.counter_of(&two);
    assert_eq!(reason(counter.ask(&Secret, SECOND).await), ReplyRefusal::UnknownMessage);
    assert_eq!(reason(counter.ask(&Mistaken(3), SECOND).await), ReplyRefusal::Decode);
    assert_eq!(far.counts().refused_asks, 3);
    nobody.try_tell(&Bump(1)).unwrap();
    // The connection goes on.
    assert_eq!(counter.ask(&Sum, SECOND).await, Ok(vec![]));
    assert_eq!(far.counts().lost_tells, 1);
    assert!(two.links.exports().withdraw("counter"));
    assert_eq!(reason(counter.ask(&Sum, SECOND).await), ReplyRefusal::Unknown);
}

#[tokio::test(start_paused = true)]
async fn what_an_actor_does_with_an_ask_is_told() {
    let (one, two) = pair().await;
    connect(&one, &two).await;
    let counter = one.counter_of(&two);
    assert_eq!(reason(counter.ask(&Odd::Forget, SECOND).await), ReplyRefusal::Unanswerable);
    assert_eq!(reason(counter.ask(&Odd::Long, SECOND).await), ReplyRefusal::Unanswerable);
    counter.ask(&Echo(1, vec![]), SECOND).await.unwrap();
    assert_eq!(reason(counter.ask(&Odd::Panic, SECOND).await), ReplyRefusal::Crashed);
    // The next incarnation is reached by the same handle, and knows nothing of the last.
    assert_eq!(counter.ask(&Sum, SECOND).await, Ok(vec![]));
    two.system.shutdown(SECOND).await.unwrap();
    assert_eq!(reason(counter.ask(&Sum, SECOND).await), ReplyRefusal::Down);
}

#[tokio::test(start_paused = true)]
async fn a_deadline_ends_an_ask_and_leaves_nothing_behind() {
    let (one, two) = pair().await;
    let (near, _) = connect(&one, &two).await;
    let counter = one.counter_of(&two);
    let began = tokio::time::Instant::now();
    let outcome = counter.ask(&Odd::Sleep(1_000), SECOND / 2).await;
    assert_eq!(outcome, Err(RemoteAskError::Expired(SECOND / 2)));
    assert!(began.elapsed() >= SECOND / 2 && began.elapsed() < SECOND * 6 / 10);
    assert_eq!(near.counts().open_calls, 0);
    // The actor answers all the same, and nothing is sent.
    tokio::time::sleep(SECOND).await;
    assert_eq!(near.counts().late_answers, 0);

    // One that its actor did not begin in time is skipped.
    counter.try_tell(&Doze(1_000)).unwrap();
    let outcome = counter.ask(&Echo(7, vec![]), SECOND / 2).await;
    assert_eq!(outcome.map(|echo| echo.0), Err(RemoteAskError::Expired(SECOND / 2)));
    assert_eq!(counter.ask(&Sum, SECOND).await, Ok(vec![]));

    // One that is given up leaves nothing behind either.
    let given_up = tokio::time::timeout(SECOND / 4, counter.ask(&Odd::Sleep(500), SECOND)).await;
    assert!(given_up.is_err());
    assert_eq!(near.counts().open_calls, 0);
}

#[tokio::test(start_paused = true)]
async fn wire_7_what_is_for_another_start_of_the_node_does_nothing() {
    let (one, two) = pair().await;
    // One takes the other for a start that it is not.
    let (_, far) = connect_as((&one, 1), (&two, 4)).await;
    let counter = one.counter_of(&two);
    assert_eq!(reason(counter.ask(&Echo(1, vec![]), SECOND).await), ReplyRefusal::Fenced);
    counter.try_tell(&Bump(1)).unwrap();
    assert_eq!(reason(counter.ask(&Sum, SECOND).await), ReplyRefusal::Fenced);
    assert_eq!(far.counts().lost_tells, 1);
    assert_eq!(two.counter.ask(CounterMessage::Sum, SECOND).await, Ok(vec![]));
}

#[tokio::test(start_paused = true)]
async fn a_trace_crosses_with_its_message() {
    let (one, two) = pair().await;
    connect(&one, &two).await;
    let counter = one.counter_of(&two);
    let trace = Trace { trace_id: [5; 16], span_id: [6; 8], flags: 1 };
    let traced = counter.with_trace(Some(trace));
    assert_eq!(traced.ask(&Odd::Trace, SECOND).await, Ok(vec![5; 16]));
    assert_eq!(counter.ask(&Odd::Trace, SECOND).await, Ok(vec![]));
}

#[tokio::test(start_paused = true)]
async fn a_message_that_fits_no_frame_is_not_sent() {
    let (one, two) = pair().await;
    let (near, _) = connect(&one, &two).await;
    let counter = one.counter_of(&two);
    let long = Echo(1, vec![0; crate::codec::BODY_BYTES_MAX]);
    let outcome = counter.ask(&long, SECOND).await.map(|echo| echo.0);
    assert!(matches!(outcome, Err(RemoteAskError::Write(_))), "{outcome:?}");
    assert_eq!(near.counts().open_calls, 0);
    let sum: Result<(), RemoteTellError> = counter.try_tell(&Bump(1));
    assert_eq!(sum, Ok(()));
    assert_eq!(counter.ask(&Sum, SECOND).await.unwrap().len(), 1);
}
