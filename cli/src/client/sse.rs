//! Server-sent events: bytes in, events out.
//!
//! Owns the decoder, a plain state machine with limits, and [`EventStream`], which feeds it from an answer.
//! Refuses to know what the events mean and how to reconnect (`follow.rs`).

use std::collections::VecDeque;
use std::time::Duration;

use http::Response;
use http_body_util::BodyExt;
use hyper::body::Incoming;

use super::error::ClientError;
use super::http::innermost;
use super::pulse::Pulse;

/// One event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct SseEvent {
    /// `message` where the stream named none.
    pub(crate) event: String,
    pub(crate) data: String,
    /// The last id that the stream gave, this event's or an earlier one's.
    pub(crate) id: Option<String>,
}

/// The stream breaks a limit or is not text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SseError {
    #[error("an event is larger than {bytes_max} bytes")]
    TooLarge {
        /// The limit.
        bytes_max: usize,
    },
    #[error("an event is not UTF-8")]
    NotText,
}

/// A snapshot of 100,000 actors is about 40 MB.
pub(crate) const EVENT_BYTES_MAX: usize = 128 << 20;

/// Turns chunks of bytes into events, as the HTML standard describes it.
#[derive(Debug)]
pub(crate) struct SseDecoder {
    bytes_max: usize,
    line: Vec<u8>,
    /// The last byte ended a line with a carriage return; a line feed that follows belongs to it.
    after_return: bool,
    seen_first_line: bool,
    event: String,
    data: String,
    has_data: bool,
    id: Option<String>,
    ready: VecDeque<SseEvent>,
}

impl SseDecoder {
    /// A decoder for events of at most so many bytes.
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self {
            bytes_max,
            line: Vec::new(),
            after_return: false,
            seen_first_line: false,
            event: String::new(),
            data: String::new(),
            has_data: false,
            id: None,
            ready: VecDeque::new(),
        }
    }

    /// Takes the next bytes of the stream, cut anywhere.
    pub(crate) fn feed(&mut self, bytes: &[u8]) -> Result<(), SseError> {
        let mut rest = bytes;
        while let Some(end) = rest.iter().position(|byte| matches!(byte, b'\n' | b'\r')) {
            let (line, ending) = rest.split_at(end);
            let is_tail_of_return =
                self.after_return && end == 0 && self.line.is_empty() && ending[0] == b'\n';
            self.after_return = ending[0] == b'\r';
            rest = &ending[1..];
            if is_tail_of_return {
                continue;
            }
            self.append(line)?;
            let line = std::mem::take(&mut self.line);
            self.line(&line)?;
        }
        if !rest.is_empty() {
            self.after_return = false;
        }
        self.append(rest)
    }

    /// The next whole event.
    pub(crate) fn next(&mut self) -> Option<SseEvent> {
        self.ready.pop_front()
    }

    fn append(&mut self, bytes: &[u8]) -> Result<(), SseError> {
        if self.line.len() + self.data.len() + bytes.len() > self.bytes_max {
            return Err(SseError::TooLarge { bytes_max: self.bytes_max });
        }
        self.line.extend_from_slice(bytes);
        Ok(())
    }

    fn line(&mut self, line: &[u8]) -> Result<(), SseError> {
        let line = std::str::from_utf8(line).map_err(|_| SseError::NotText)?;
        let line = if self.seen_first_line { line } else { line.strip_prefix('\u{feff}').unwrap_or(line) };
        self.seen_first_line = true;
        if line.is_empty() {
            self.dispatch();
            return Ok(());
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => value.clone_into(&mut self.event),
            "data" => {
                if self.has_data {
                    self.data.push('\n');
                }
                self.data.push_str(value);
                self.has_data = true;
            }
            // The standard: an id with a null byte is ignored.
            "id" if !value.contains('\0') => self.id = Some(value.to_owned()),
            // Comments (an empty field), `retry`, and what nobody has defined.
            _ => {}
        }
        Ok(())
    }

    fn dispatch(&mut self) {
        let event = std::mem::take(&mut self.event);
        let data = std::mem::take(&mut self.data);
        if std::mem::take(&mut self.has_data) {
            let event = if event.is_empty() { "message".to_owned() } else { event };
            self.ready.push_back(SseEvent { event, data, id: self.id.clone() });
        }
    }
}

/// The events of one answer.
#[derive(Debug)]
pub(crate) struct EventStream {
    body: Incoming,
    decoder: SseDecoder,
    url: String,
    /// Without a byte for so long, the stream is taken for dead.
    idle_max: Duration,
    /// Told of each piece, comments too.
    pulse: Option<Pulse>,
}

impl EventStream {
    pub(crate) fn new(response: Response<Incoming>, url: &str, idle_max: Duration) -> Self {
        Self {
            body: response.into_body(),
            decoder: SseDecoder::new(EVENT_BYTES_MAX),
            url: url.to_owned(),
            idle_max,
            pulse: None,
        }
    }

    pub(crate) fn telling(mut self, pulse: Pulse) -> Self {
        self.pulse = Some(pulse);
        self
    }

    /// The next event; `None` when the stream has ended. Safe to drop and call again.
    pub(crate) async fn next(&mut self) -> Result<Option<SseEvent>, ClientError> {
        loop {
            if let Some(event) = self.decoder.next() {
                return Ok(Some(event));
            }
            let frame = tokio::time::timeout(self.idle_max, self.body.frame()).await;
            let frame =
                frame.map_err(|_| ClientError::Silent { url: self.url.clone(), waited: self.idle_max })?;
            let Some(frame) = frame else { return Ok(None) };
            let frame = frame.map_err(|error| ClientError::Unreachable {
                url: self.url.clone(),
                why: innermost(&error),
            })?;
            if let Some(pulse) = &self.pulse {
                pulse.streams();
            }
            if let Ok(bytes) = frame.into_data() {
                let garbled =
                    |error: SseError| ClientError::Garbled { url: self.url.clone(), why: error.to_string() };
                self.decoder.feed(&bytes).map_err(garbled)?;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(chunks: &[&[u8]]) -> Vec<SseEvent> {
        let mut decoder = SseDecoder::new(1_000);
        let mut events = Vec::new();
        for chunk in chunks {
            decoder.feed(chunk).unwrap();
            events.extend(std::iter::from_fn(|| decoder.next()));
        }
        events
    }

    fn event(event: &str, data: &str, id: Option<&str>) -> SseEvent {
        SseEvent { event: event.to_owned(), data: data.to_owned(), id: id.map(str::to_owned) }
    }

    #[test]
    fn events_come_out_the_same_however_the_bytes_are_cut() {
        let stream = "\u{feff}: hello\nevent: snapshot\nid: 1.2\ndata: {\"a\":\ndata: \"ü\"}\n\n:\r\ndata:x\r\n\r\nid\rdata\r\revent: lost\n\nretry: 5\ndata:  y\n\ndata: unfinished";
        let whole = decode(&[stream.as_bytes()]);
        assert_eq!(
            whole,
            [
                event("snapshot", "{\"a\":\n\"ü\"}", Some("1.2")),
                event("message", "x", Some("1.2")),
                event("message", "", Some("")),
                event("message", " y", Some("")),
            ]
        );
        for cut in 0..stream.len() {
            let (a, b) = stream.as_bytes().split_at(cut);
            assert_eq!(decode(&[a, b]), whole, "cut at {cut}");
        }
        let bytes: Vec<&[u8]> = stream.as_bytes().chunks(1).collect();
        assert_eq!(decode(&bytes), whole);
    }

    #[test]
    fn an_endless_event_is_refused() {
        let too_large = Err(SseError::TooLarge { bytes_max: 100 });
        let mut decoder = SseDecoder::new(100);
        assert_eq!(decoder.feed(&[b'a'; 100]), Ok(()));
        assert_eq!(decoder.feed(b"a"), too_large);
        // Many short lines of one event count together.
        let mut decoder = SseDecoder::new(100);
        let fed: Result<Vec<()>, SseError> = (0..30).map(|_| decoder.feed(b"data: 12345\n")).collect();
        assert_eq!(fed.map(|_| ()), too_large);
        // Events that are dispatched do not.
        let mut decoder = SseDecoder::new(100);
        assert!((0..30).all(|_| decoder.feed(b"data: 12345\n\n").is_ok()));
    }

    #[test]
    fn bytes_that_are_no_text_are_refused() {
        assert_eq!(SseDecoder::new(100).feed(b"data: \xff\n\n"), Err(SseError::NotText));
    }
}
