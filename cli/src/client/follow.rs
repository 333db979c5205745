//! Follows an event stream across broken connections.
//!
//! Owns reconnecting: with `Last-Event-ID`, with growing pauses, for a bounded time. Refuses to know what the
//! events mean.

use std::time::Duration;

use arw_kit::clock::Clock;
use arw_kit::moment::Moment;
use http::header::{ACCEPT, HeaderName};

use super::error::ClientError;
use super::http::{Call, Node};
use super::pulse::Pulse;
use super::sse::{EventStream, SseEvent};

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
/// The node sends a comment every 15 s (HTTP-8): three of them missing is a dead connection.
const IDLE_MAX: Duration = Duration::from_secs(45);
/// A node that restarts is back within seconds; longer than this, a person should know.
const GIVE_UP_AFTER: Duration = Duration::from_secs(60);
const PAUSE_FIRST: Duration = Duration::from_millis(250);
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// An event stream that heals.
#[derive(Debug)]
pub(crate) struct Follow<'n> {
    node: &'n Node,
    path: String,
    /// The last event that was seen.
    last_id: Option<String>,
    stream: Option<EventStream>,
    trouble: Option<Trouble>,
    /// A stream that never began does not heal: the person hears at once that no node answers.
    began: bool,
    clock: Clock,
    pulse: Pulse,
}

/// Since when and how often connecting has failed.
#[derive(Clone, Copy, Debug)]
struct Trouble {
    since: Moment,
    pause: Duration,
}

/// What happened next.
#[derive(Debug)]
pub(crate) enum Followed {
    Event(SseEvent),
    /// The connection broke, for this reason, and a new one is being made.
    Broken(String),
}

impl<'n> Follow<'n> {
    /// `path` with its query; `last_id` where an earlier stream is to be continued.
    pub(crate) fn new(node: &'n Node, path: &str, last_id: Option<String>, clock: &Clock) -> Self {
        Self {
            node,
            path: path.to_owned(),
            last_id,
            stream: None,
            trouble: None,
            began: false,
            clock: *clock,
            pulse: Pulse::new(clock),
        }
    }

    /// When the node was last heard.
    pub(crate) fn pulse(&self) -> Pulse {
        self.pulse.clone()
    }

    /// Forgets what was seen: the next connection starts with a fresh snapshot.
    pub(crate) fn start_over(&mut self) {
        self.last_id = None;
        self.stream = None;
    }

    /// The next event, or that the connection broke. An error means that nothing more will come.
    pub(crate) async fn next(&mut self) -> Result<Followed, ClientError> {
        if self.stream.is_none() {
            match self.connect().await {
                Ok(stream) => {
                    self.stream = Some(stream);
                    self.began = true;
                }
                Err(error) => return self.failed(error).await,
            }
        }
        let Some(stream) = &mut self.stream else {
            return Ok(Followed::Broken("the stream is gone".to_owned()));
        };
        match stream.next().await {
            Ok(Some(event)) => {
                self.trouble = None;
                if event.id.is_some() {
                    self.last_id.clone_from(&event.id);
                }
                Ok(Followed::Event(event))
            }
            Ok(None) => self.failed(self.ended()).await,
            Err(error) => self.failed(error).await,
        }
    }

    async fn connect(&self) -> Result<EventStream, ClientError> {
        let mut call = Call::get(&self.path).header(ACCEPT, "text/event-stream");
        if let Some(id) = &self.last_id {
            call = call.header(LAST_EVENT_ID, id);
        }
        let response = self.node.open(call).await?;
        self.pulse.streams();
        Ok(EventStream::new(response, self.node.url(), IDLE_MAX).telling(self.pulse.clone()))
    }

    fn ended(&self) -> ClientError {
        ClientError::Unreachable {
            url: self.node.url().to_owned(),
            why: "the node closed the stream".to_owned(),
        }
    }

    /// Waits before the next try, or gives up.
    async fn failed(&mut self, error: ClientError) -> Result<Followed, ClientError> {
        self.stream = None;
        if !self.began || !heals(&error) {
            return Err(error);
        }
        self.pulse.broke();
        let now = self.clock.now();
        let trouble = self.trouble.unwrap_or(Trouble { since: now, pause: PAUSE_FIRST });
        if now.since(trouble.since) >= GIVE_UP_AFTER {
            return Err(error);
        }
        let first = self.trouble.is_none();
        self.trouble = Some(Trouble { pause: (trouble.pause * 2).min(PAUSE_MAX), ..trouble });
        tokio::time::sleep(trouble.pause).await;
        // Told once per outage, not once per try.
        Ok(Followed::Broken(if first { error.to_string() } else { String::new() }))
    }
}

/// Whether trying again can help.
fn heals(error: &ClientError) -> bool {
    match error {
        ClientError::Unreachable { .. } | ClientError::Silent { .. } => true,
        ClientError::Refused(problem) => matches!(problem.status, 429 | 502 | 503 | 504),
        ClientError::Garbled { .. } => false,
    }
}
