//! One answer in the making: token by token, at a pace, and counted when the client goes away.
//!
//! Owns the body that hyper polls. Refuses to know what was asked.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use tokio::time::Sleep;

use crate::answers::{Answers, Kind, Length};
use crate::behaviour::Behaviour;

/// Counts an answer as completed or, when it is dropped before, as aborted.
#[derive(Debug)]
pub(crate) struct InFlight {
    behaviour: Arc<Behaviour>,
    completed: bool,
}

impl InFlight {
    pub(crate) fn begin(behaviour: &Arc<Behaviour>) -> Self {
        behaviour.in_flight.fetch_add(1, Relaxed);
        Self { behaviour: Arc::clone(behaviour), completed: false }
    }

    pub(crate) fn complete(&mut self) {
        self.completed = true;
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.behaviour.in_flight.fetch_sub(1, Relaxed);
        let counter = if self.completed { &self.behaviour.completed } else { &self.behaviour.aborted };
        counter.fetch_add(1, Relaxed);
    }
}

/// A response's body.
#[derive(Debug)]
pub(crate) enum Answer {
    Whole(Option<Bytes>),
    Stream(Box<Generation>),
}

impl From<Bytes> for Answer {
    fn from(body: Bytes) -> Self {
        Answer::Whole(Some(body))
    }
}

#[derive(Debug)]
pub(crate) struct Generation {
    pub(crate) answers: Arc<Answers>,
    pub(crate) kind: Kind,
    pub(crate) length: Length,
    pub(crate) include_usage: bool,
    next: Next,
    pause: Option<Pin<Box<Sleep>>>,
    in_flight: InFlight,
}

#[derive(Clone, Copy, Debug)]
enum Next {
    Role,
    Token(u32),
    End,
    Nothing,
}

impl Generation {
    pub(crate) fn new(
        in_flight: InFlight,
        answers: Arc<Answers>,
        kind: Kind,
        length: Length,
        include_usage: bool,
    ) -> Self {
        let next = if kind == Kind::Chat { Next::Role } else { Next::Token(0) };
        Self { answers, kind, length, include_usage, next, pause: None, in_flight }
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        if let Some(pause) = &mut self.pause {
            ready!(pause.as_mut().poll(cx));
            self.pause = None;
        }
        Poll::Ready(match self.next {
            Next::Role => {
                self.go_to(0);
                Some(self.answers.first_chunk())
            }
            Next::Token(number) => {
                self.in_flight.behaviour.count_tokens(1);
                self.go_to(number + 1);
                Some(self.answers.chunk(self.kind, number))
            }
            Next::End => {
                self.next = Next::Nothing;
                self.in_flight.complete();
                Some(self.answers.end(self.kind, self.length, self.include_usage))
            }
            Next::Nothing => None,
        })
    }

    fn go_to(&mut self, number: u32) {
        if number >= self.length.tokens {
            self.next = Next::End;
            return;
        }
        self.next = Next::Token(number);
        let delay = self.in_flight.behaviour.token_delay_ms.load(Relaxed);
        if delay > 0 {
            self.pause = Some(Box::pin(tokio::time::sleep(Duration::from_millis(delay))));
        }
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, std::convert::Infallible>>> {
        let bytes = match self.get_mut() {
            Answer::Whole(body) => body.take(),
            Answer::Stream(generation) => ready!(generation.poll_next(cx)),
        };
        Poll::Ready(bytes.map(|bytes| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Answer::Whole(body) => body.is_none(),
            Answer::Stream(generation) => matches!(generation.next, Next::Nothing),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Answer::Whole(body) => SizeHint::with_exact(body.as_ref().map_or(0, |b| b.len() as u64)),
            Answer::Stream(_) => SizeHint::default(),
        }
    }
}
