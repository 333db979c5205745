//! What of an engine's stream goes on to the client, and what it tells about usage.
//!
//! Plain code: chunks as they come go in, whole events come out, as slices of the same bytes wherever an
//! event lies within one chunk. Refuses to do IO.
//!
//! Invariants: what comes out is what came in, in order, but for three things: the usage chunk where the
//! client did not ask for it, whose other members go into the chunk with the finish reason (HTTP-13); the
//! model's name where the engine wrote another (HTTP-15); and an engine's error where it has not the form
//! that clients look for (HTTP-12). Only whole events come out, so that an error can follow at any time
//! (HTTP-14).

use std::collections::{BTreeSet, VecDeque};
use std::ops::Range;

use arw_actors::runtime::lease::Usage;
use bytes::{Bytes, BytesMut};
use serde_json::Value;

use super::answer::Chunk;
use super::engine_error;
use super::event::{Event, Field, Line};
use super::model_name::ModelName;
use super::tail;
use crate::problem::Problem;

/// An event beyond this size is passed on as it comes, unread: nobody streams a megabyte as one token.
const EVENT_BYTES_MAX: usize = 1 << 20;
/// Nobody asks for more answers at once.
const ANSWERS_MAX: usize = 1_024;

/// How an engine's stream ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// The body ended in order.
    Orderly,
    /// The connection broke.
    Broken,
}

/// Decides on one stream.
#[derive(Debug)]
pub(super) struct Relay {
    wants_usage: bool,
    name: ModelName,
    /// Where the events in hand end, and what changes of them; kept for their memory.
    ends: Vec<usize>,
    edits: Vec<Edit>,
    /// The beginning of an event whose end has not come yet.
    begun: BytesMut,
    line: Line,
    /// The event that goes on just now is too long to be held.
    is_overlong: bool,
    last: Option<Last>,
    usage: Option<Usage>,
    content_chunks: u64,
    is_done: bool,
    answers: Answers,
    /// What was said of a failure, and has not been asked for since.
    error: Option<Value>,
    has_error: bool,
}

/// The answers of one stream: as many as `n` asked for.
#[derive(Debug, Default)]
struct Answers {
    /// Begun, and without a finish reason so far.
    open: BTreeSet<u64>,
    has_finished: bool,
}

/// Bytes to put at a place of the events in hand, instead of what lies there. In order, and without overlaps.
#[derive(Debug)]
struct Edit {
    at: Range<usize>,
    put: Bytes,
}

/// A chunk with a finish reason, which may be the answer's last: it waits for the next event, which may be
/// the usage chunk.
#[derive(Debug)]
enum Last {
    /// It is one of the events in hand; its own edits are those from `edits_from` on.
    InHand { event: Range<usize>, edits_from: usize },
    /// It came earlier, is `event_bytes` long, and has only comments behind it.
    Kept { bytes: BytesMut, event_bytes: usize },
}

/// What becomes of one event.
#[derive(Debug)]
enum Verdict {
    Pass,
    /// It goes on with other bytes at this place.
    Change(Edit),
    /// It is not for the client.
    Strip,
}

impl Relay {
    /// `wants_usage`: the client asked for the usage chunk. `name`: what it knows the model by.
    pub(super) fn new(wants_usage: bool, name: ModelName) -> Self {
        Self {
            wants_usage,
            name,
            ends: Vec::new(),
            edits: Vec::new(),
            begun: BytesMut::new(),
            line: Line::default(),
            is_overlong: false,
            last: None,
            usage: None,
            content_chunks: 0,
            is_done: false,
            answers: Answers::default(),
            error: None,
            has_error: false,
        }
    }

    /// Takes bytes as they came; puts what goes on to the client into `out`.
    pub(super) fn push(&mut self, chunk: Bytes, out: &mut VecDeque<Bytes>) {
        let events = self.whole_events(chunk);
        let mut from = 0;
        let mut ends = std::mem::take(&mut self.ends);
        for end in ends.drain(..) {
            if !std::mem::take(&mut self.is_overlong) {
                self.read(&events, from..end);
            }
            from = end;
        }
        self.ends = ends;
        if from < events.len() && !self.is_overlong {
            self.is_overlong = true;
            // One piece of content, because it is not read.
            self.content_chunks += 1;
            self.let_last_go(&events, 0, None);
        }
        self.keep_last(&events);
        self.pass_edited(&events, out);
    }

    /// The whole events that are in hand now, and those bytes of an overlong one that are; `ends` says where
    /// they end. What is left has begun.
    fn whole_events(&mut self, mut chunk: Bytes) -> Bytes {
        let searched = self.begun.len();
        if searched > 0 {
            self.begun.extend_from_slice(&chunk);
        }
        let bytes: &[u8] = if searched > 0 { &self.begun } else { &chunk };
        let mut from = searched;
        while let Some(end) = self.line.event_end(bytes, from) {
            self.ends.push(end);
            from = end;
        }
        let whole = self.ends.last().copied().unwrap_or(0);
        let goes_on_unread = self.is_overlong && self.ends.is_empty();
        let is_passed_whole = goes_on_unread || bytes.len() - whole > EVENT_BYTES_MAX;
        let passed = if is_passed_whole { bytes.len() } else { whole };
        if searched > 0 {
            return self.begun.split_to(passed).freeze();
        }
        self.begun.extend_from_slice(&chunk[passed..]);
        chunk.truncate(passed);
        chunk
    }

    /// The engine's stream has ended; true when that was before the answer's end, and the client was told how
    /// it was lost.
    pub(super) fn end(
        &mut self,
        end: End,
        lost: impl FnOnce() -> Problem,
        out: &mut VecDeque<Bytes>,
    ) -> bool {
        // No usage chunk came behind it: it is the client's all the same.
        self.let_go(out);
        let begun = self.begun.split().freeze();
        if !self.is_lost(end) {
            pass(begun, out);
            return false;
        }
        // HTTP-14 and HTTP-18: the half event is left out, so that the error is one of its own.
        if self.is_overlong {
            pass(Bytes::from_static(b"\n\n"), out);
        }
        out.push_back(format!("data: {}\n\n", lost().to_openai()).into());
        true
    }

    /// A chunk with a finish reason waits for what the usage chunk may add to it.
    pub(super) fn is_holding(&self) -> bool {
        self.last.is_some()
    }

    /// The usage chunk takes too long: what waits for it goes on without.
    pub(super) fn let_go(&mut self, out: &mut VecDeque<Bytes>) {
        self.let_last_go(&[], 0, None);
        self.pass_edited(&Bytes::new(), out);
    }

    /// What whoever answers says of its failure; told once.
    pub(super) fn take_error(&mut self) -> Option<Value> {
        self.error.take()
    }

    /// Its end would be a loss: it came too early.
    pub(super) fn is_lost(&self, end: End) -> bool {
        // A stream without `[DONE]` whose answers have finish reasons is whole: some servers leave it out.
        !(self.is_done || self.has_error || (self.answers.are_finished() && end == End::Orderly))
    }

    /// The client has got something of the answer itself.
    pub(super) fn has_content(&self) -> bool {
        self.content_chunks > 0
    }

    /// HTTP-13: what the engine reported; where it did not, each piece of content counts as a token.
    pub(super) fn usage(&self) -> Usage {
        match self.usage {
            Some(usage) => Usage { is_partial: !(self.is_done || self.answers.are_finished()), ..usage },
            None => Usage { completion_tokens: self.content_chunks, is_partial: true, ..Usage::default() },
        }
    }

    /// Reads one event, and notes what changes of it, and of the last chunk before it.
    fn read(&mut self, events: &[u8], at: Range<usize>) {
        let event = Event::read(&events[at.clone()]);
        if event.is_silent {
            return;
        }
        let (verdict, has_finish_reason) = self.judge(&event);
        let usage = event.data.as_ref().filter(|_| matches!(verdict, Verdict::Strip));
        self.let_last_go(events, 0, usage.map(|data| &*data.text));
        let edits_from = self.edits.len();
        match verdict {
            Verdict::Pass => {}
            Verdict::Change(Edit { at: place, put }) => {
                self.edits.push(Edit { at: at.start + place.start..at.start + place.end, put });
            }
            Verdict::Strip => self.edits.push(Edit { at: at.clone(), put: Bytes::new() }),
        }
        if has_finish_reason && !self.wants_usage {
            self.last = Some(Last::InHand { event: at, edits_from });
        }
    }

    /// What becomes of an event, and whether it says why the answer ends.
    fn judge(&mut self, event: &Event<'_>) -> (Verdict, bool) {
        let Some(data) = &event.data else {
            // llama.cpp's older form of an error within a stream, which clients do not hear.
            return (event.error.as_ref().map_or(Verdict::Pass, |said| self.fail(said)), false);
        };
        if *data.text == *b"[DONE]" {
            self.is_done = true;
            return (Verdict::Pass, false);
        }
        let chunk = Chunk::read(&data.text);
        if event.is_named_error || chunk.as_ref().is_some_and(Chunk::is_error) {
            return (self.fail(data), false);
        }
        // What is not understood goes on untouched: it is between the engine and the client.
        let Some(chunk) = chunk else { return (Verdict::Pass, false) };
        self.content_chunks += u64::from(chunk.has_content());
        if let Some(usage) = chunk.usage() {
            self.usage = Some(usage);
            if !self.wants_usage && chunk.is_usage_only() {
                return (Verdict::Strip, false);
            }
        }
        let place = self.name.place_for(&data.text, chunk.model()).and_then(|at| event.place(&at));
        let rename = |at| Verdict::Change(Edit { at, put: self.name.json().clone() });
        (place.map_or(Verdict::Pass, rename), self.answers.note(&chunk))
    }

    /// HTTP-12: an error as the clients of OpenAI look for it, or they take what has come for the whole
    /// answer.
    fn fail(&mut self, said: &Field<'_>) -> Verdict {
        self.has_error = true;
        let mut told = engine_error::in_stream(&said.text);
        let is_so_already =
            said.is_data && serde_json::from_slice::<Value>(&said.text).is_ok_and(|given| given == told);
        let put = format!("data: {told}").into();
        self.error = told.get_mut("error").map(Value::take);
        if is_so_already { Verdict::Pass } else { Verdict::Change(Edit { at: said.lines.clone(), put }) }
    }

    /// Lets the last chunk go on, with what the usage chunk adds to it where that followed (HTTP-13). A chunk
    /// that was kept from earlier events goes to `place`.
    fn let_last_go(&mut self, events: &[u8], place: usize, usage: Option<&[u8]>) {
        match self.last.take() {
            None => {}
            Some(Last::InHand { event, .. }) => {
                if let Some((at, put)) = usage.and_then(|usage| tail::carried(&events[event.clone()], usage))
                {
                    let at = event.start + at;
                    self.edits.push(Edit { at: at..at, put: put.into() });
                }
            }
            Some(Last::Kept { bytes, event_bytes }) => {
                let put = match usage.and_then(|usage| tail::carried(&bytes[..event_bytes], usage)) {
                    Some((at, put)) => [&bytes[..at], &put, &bytes[at..]].concat().into(),
                    None => bytes.freeze(),
                };
                self.edits.push(Edit { at: place..place, put });
            }
        }
    }

    /// The events in hand are about to go on: a last chunk that still waits is kept here, with the comments
    /// behind it.
    fn keep_last(&mut self, events: &[u8]) {
        let (kept_from, length) = match &mut self.last {
            None => return,
            Some(Last::Kept { bytes, .. }) => {
                // Whatever else had come would have let it go.
                bytes.extend_from_slice(events);
                (0, bytes.len())
            }
            Some(Last::InHand { event, edits_from }) => {
                let event = event.clone();
                let mut bytes = BytesMut::with_capacity(events.len() - event.start);
                let mut from = event.start;
                for edit in self.edits.drain(*edits_from..) {
                    bytes.extend_from_slice(&events[from..edit.at.start]);
                    bytes.extend_from_slice(&edit.put);
                    from = edit.at.end;
                }
                bytes.extend_from_slice(&events[from..event.end]);
                let event_bytes = bytes.len();
                bytes.extend_from_slice(&events[event.end..]);
                let length = bytes.len();
                self.last = Some(Last::Kept { bytes, event_bytes });
                (event.start, length)
            }
        };
        self.edits.push(Edit { at: kept_from..events.len(), put: Bytes::new() });
        if length > EVENT_BYTES_MAX {
            self.let_last_go(events, events.len(), None);
        }
    }

    /// Passes on bytes as they were edited: slices where something is only left out, one copy where something
    /// is put in.
    fn pass_edited(&mut self, bytes: &Bytes, out: &mut VecDeque<Bytes>) {
        let grown: usize = self.edits.iter().map(|edit| edit.put.len()).sum();
        let gone: usize = self.edits.iter().map(|edit| edit.at.len()).sum();
        // Exact, so that it becomes shared bytes without another allocation.
        let mut copy = (grown > 0).then(|| Vec::with_capacity(bytes.len() + grown - gone));
        let mut from = 0;
        for Edit { at, put } in self.edits.drain(..) {
            match &mut copy {
                Some(copy) => {
                    copy.extend_from_slice(&bytes[from..at.start]);
                    copy.extend_from_slice(&put);
                }
                None => pass(bytes.slice(from..at.start), out),
            }
            from = at.end;
        }
        match copy {
            Some(mut copy) => {
                copy.extend_from_slice(&bytes[from..]);
                pass(copy.into(), out);
            }
            None => pass(bytes.slice(from..), out),
        }
    }
}

impl Answers {
    /// Whether one of them ends with this chunk.
    fn note(&mut self, chunk: &Chunk<'_>) -> bool {
        let mut ends = false;
        for (index, is_end) in chunk.answers() {
            ends |= is_end;
            if is_end {
                self.open.remove(&index);
            } else if self.open.len() < ANSWERS_MAX {
                self.open.insert(index);
            }
        }
        self.has_finished |= ends;
        ends
    }

    /// All that have begun.
    fn are_finished(&self) -> bool {
        self.has_finished && self.open.is_empty()
    }
}

fn pass(bytes: Bytes, out: &mut VecDeque<Bytes>) {
    if !bytes.is_empty() {
        out.push_back(bytes);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ROLE: &str =
        "data: {\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":null}}]}\n\n";
    const TOKEN: &str = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"héllo\"}}]}\n\n";
    const NAMED: &str =
        "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"x\"}}],\"model\":\"smol\"}\n\n";
    const MISNAMED: &str = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"x\"}}],\"model\":\"/models/by-hash/0.gguf\"}\n\n";
    const LAST: &str = "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n";
    const USAGE: &str = "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":30,\"completion_tokens\":2,\"prompt_tokens_details\":{\"cached_tokens\":7}}}\n\n";
    const DONE: &str = "data: [DONE]\n\n";

    fn whole() -> String {
        [ROLE, TOKEN, TOKEN, LAST, USAGE, DONE].concat()
    }

    fn relay(wants_usage: bool) -> Relay {
        Relay::new(wants_usage, ModelName::new("smol"))
    }

    fn lost() -> Problem {
        crate::openai::refusal::engine_lost("smollm2")
    }

    fn run(relay: &mut Relay, pieces: &[&[u8]]) -> Vec<u8> {
        let mut out = VecDeque::new();
        for piece in pieces {
            relay.push(Bytes::copy_from_slice(piece), &mut out);
        }
        out.iter().flatten().copied().collect()
    }

    /// The whole of a stream that ends in order, and whether it was lost.
    fn run_out(relay: &mut Relay, pieces: &[&[u8]]) -> (String, bool) {
        let mut out = run(relay, pieces);
        let mut rest = VecDeque::new();
        let is_lost = relay.end(End::Orderly, lost, &mut rest);
        out.extend(rest.iter().flatten());
        (String::from_utf8(out).unwrap(), is_lost)
    }

    /// HTTP-13.
    #[test]
    fn the_usage_chunk_is_metered_and_kept_from_who_did_not_ask() {
        let mut relay = relay(false);
        let out = run(&mut relay, &[whole().as_bytes()]);
        assert_eq!(String::from_utf8(out).unwrap(), [ROLE, TOKEN, TOKEN, LAST, DONE].concat());
        let expected = Usage { prompt_tokens: 30, cached_tokens: 7, completion_tokens: 2, is_partial: false };
        assert_eq!(relay.usage(), expected);
        assert!(!relay.end(End::Orderly, lost, &mut VecDeque::new()));
    }

    /// HTTP-13.
    #[test]
    fn the_usage_chunk_goes_to_who_asked() {
        let mut relay = relay(true);
        assert_eq!(run(&mut relay, &[whole().as_bytes()]), whole().as_bytes());
        assert_eq!(relay.usage().prompt_tokens, 30);
    }

    /// HTTP-14: `n` answers in one stream, some servers end it without `[DONE]`.
    #[test]
    fn a_stream_is_whole_when_each_of_its_answers_has_a_finish_reason() {
        let of = |text: &str, index: u32| text.replace("\"index\":0", &format!("\"index\":{index}"));
        let begun = [of(TOKEN, 0), of(TOKEN, 1), of(LAST, 0)].concat();
        let (_, is_lost) = run_out(&mut relay(false), &[begun.as_bytes()]);
        assert!(is_lost, "the second one has only begun");
        let whole = [begun, of(TOKEN, 1), of(LAST, 1)].concat();
        let (out, is_lost) = run_out(&mut relay(false), &[whole.as_bytes()]);
        assert_eq!((out.as_str(), is_lost), (whole.as_str(), false));
    }

    /// HTTP-13: llama.cpp puts `timings` into the usage chunk where it is asked for one.
    #[test]
    fn what_else_the_usage_chunk_says_goes_into_the_chunk_with_the_finish_reason() {
        let timed = USAGE.replace("}}\n", "},\"timings\":{\"predicted_per_second\":51.20},\"x\":[1, 2]}\n");
        let last = LAST.replace("]}\n", "],\"timings\":{\"predicted_per_second\":51.20},\"x\":[1, 2]}\n");
        let ping = ": ping\n\n";
        for between in ["", ping, "\n", ": a\n\n: b\n\n"] {
            let text = [TOKEN, LAST, between, &timed, DONE].concat();
            let expected = [TOKEN, &last, between, DONE].concat();
            let pieces: Vec<&[u8]> = text.as_bytes().chunks(1).collect();
            assert_eq!(run_out(&mut relay(false), &pieces), (expected.clone(), false));
            assert_eq!(run_out(&mut relay(false), &[text.as_bytes()]), (expected.clone(), false));
            assert_eq!(
                run_out(&mut relay(false), &[text.replace('\n', "\r\n").as_bytes()]),
                (expected.replace('\n', "\r\n"), false)
            );
            assert_eq!(
                run_out(&mut relay(true), &pieces),
                (text.clone(), false),
                "who asked gets it as it is"
            );
        }
        // Only the chunk right before it: of several choices, the one that ended last.
        let text = [LAST, TOKEN, LAST, &timed, DONE].concat();
        assert_eq!(run_out(&mut relay(false), &[text.as_bytes()]).0, [LAST, TOKEN, &last, DONE].concat());
    }

    /// HTTP-13 and HTTP-14: a chunk that waits for the usage chunk is not lost where none comes.
    #[test]
    fn the_chunk_with_the_finish_reason_goes_on_whatever_follows() {
        let last = [TOKEN, LAST].concat();
        let mut ended = relay(false);
        assert_eq!(run(&mut ended, &[last.as_bytes()]), TOKEN.as_bytes(), "until it is known what follows");
        let mut rest = VecDeque::new();
        assert!(!ended.end(End::Orderly, lost, &mut rest));
        assert_eq!(rest, [LAST.as_bytes()]);
        // Cut between the two.
        let mut cut = relay(false);
        let mut out: VecDeque<Bytes> =
            [run(&mut cut, &[last.as_bytes(), b": x\n\n", &USAGE.as_bytes()[..30]]).into()].into();
        assert!(cut.end(End::Broken, lost, &mut out));
        let text = String::from_utf8(out.iter().flatten().copied().collect()).unwrap();
        let error = text.strip_prefix(&[&last, ": x\n\n"].concat()).unwrap();
        assert!(error.starts_with("data: {\"error\":"), "{error}");
        // Followed by what is no chunk.
        for next in [
            DONE,
            "id: 7\n\n",
            "data: {\"error\":{\"message\":\"x\",\"type\":\"y\",\"code\":\"z\",\"param\":null}}\n\n",
        ] {
            let text = [&last, next].concat();
            assert_eq!(run(&mut relay(false), &[last.as_bytes(), next.as_bytes()]), text.as_bytes());
            assert_eq!(run(&mut relay(false), &[text.as_bytes()]), text.as_bytes());
        }
    }

    #[test]
    fn comments_behind_the_last_chunk_are_not_held_without_end() {
        let comment = format!(": {}\n\n", "x".repeat(100_000));
        let mut relay = relay(false);
        let mut out = VecDeque::new();
        relay.push(Bytes::from_static(LAST.as_bytes()), &mut out);
        for _ in 0..20 {
            relay.push(comment.clone().into(), &mut out);
        }
        let passed: usize = out.iter().map(Bytes::len).sum();
        assert_eq!(passed, LAST.len() + 20 * comment.len());
    }

    /// A hostile engine's long event in small pieces costs each byte once, not once per piece.
    #[test]
    fn a_long_event_in_small_pieces_is_not_copied_for_each_of_them() {
        let mut relay = relay(false);
        let (mut out, mut moves, mut at) = (VecDeque::new(), 0, std::ptr::null());
        for _ in 0..100_000 {
            relay.push(Bytes::from_static(b"data: x\n"), &mut out);
            moves += u32::from(relay.begun.as_ptr() != at);
            at = relay.begun.as_ptr();
        }
        assert!(moves < 64, "the memory that holds it was changed {moves} times");
        assert_eq!(out.len(), 0);
        assert_eq!(relay.begun.len(), 800_000);
    }

    /// Within an event that is too long, what follows a single line end is still that event.
    #[test]
    fn an_overlong_event_ends_at_its_blank_line_only() {
        let mut relay = relay(false);
        let mut out = VecDeque::new();
        relay.push(Bytes::from(vec![b'x'; EVENT_BYTES_MAX + 1]), &mut out);
        let tail = ["\n", USAGE.trim_end(), "\n", "\r\n", USAGE, DONE].concat();
        for byte in tail.bytes() {
            relay.push(vec![byte].into(), &mut out);
        }
        let passed: usize = out.iter().map(Bytes::len).sum();
        assert_eq!(passed, EVENT_BYTES_MAX + 1 + tail.len() - USAGE.len());
    }

    /// HTTP-13: what an engine writes instead of a count fails no more than the count.
    #[test]
    fn odd_counts_leave_the_rest_of_a_chunk_readable() {
        let usage = "{\"prompt_tokens\":10.0,\"completion_tokens\":null,\"prompt_tokens_details\":[]}";
        let text = format!(
            "data: {{\"choices\":[{{\"delta\":{{\"content\":\"x\"}},\"finish_reason\":\"stop\"}}],\"usage\":{usage}}}\n\n"
        );
        let only = format!("data: {{\"choices\":[],\"usage\":{usage}}}\n\n");
        let mut relay = relay(false);
        assert_eq!(run_out(&mut relay, &[text.as_bytes(), only.as_bytes()]), (text, false));
        assert_eq!(relay.usage(), Usage { prompt_tokens: 10, ..Usage::default() });
    }

    /// HTTP-13: a usage that travels with content is not stripped, or the client would lose that content.
    #[test]
    fn usage_beside_content_goes_on() {
        let both = "data: {\"choices\":[{\"text\":\"x\",\"finish_reason\":\"stop\"}],\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":1}}\n\n";
        let mut relay = relay(false);
        assert_eq!(run_out(&mut relay, &[both.as_bytes()]), (both.to_owned(), false));
        assert_eq!(relay.usage(), Usage { prompt_tokens: 3, completion_tokens: 1, ..Usage::default() });
    }

    /// HTTP-15.
    #[test]
    fn every_chunk_names_the_model_as_asked_and_nothing_else_changes() {
        for (event, passed) in [
            (
                "data: {\"model\":\"/m.gguf\",\"choices\":[]}\n\n",
                "data: {\"model\":\"smol\",\"choices\":[]}\n\n",
            ),
            (
                "data:{\"choices\":[{\"delta\":{\"content\":\"\\\"model\\\":\\\"x\\\"\",\"model\":\"y\"}}], \"model\" : \"\\\"\" }\r\n\r\n",
                "data:{\"choices\":[{\"delta\":{\"content\":\"\\\"model\\\":\\\"x\\\"\",\"model\":\"y\"}}], \"model\" : \"smol\" }\r\n\r\n",
            ),
            (
                "id: 1\ndata: {\"choices\":[\ndata: ],\"model\":null\ndata: }\n\n",
                "id: 1\ndata: {\"choices\":[\ndata: ],\"model\":\"smol\"\ndata: }\n\n",
            ),
            // What is not understood, or is no name, is between the engine and the client.
            ("data: {\"model\":\"/m.gguf\"\n\n", "data: {\"model\":\"/m.gguf\"\n\n"),
            ("data: {\"model\":{\ndata: }}\n\n", "data: {\"model\":{\ndata: }}\n\n"),
            ("model: {\"model\":\"x\"}\n\n", "model: {\"model\":\"x\"}\n\n"),
        ] {
            let text = [TOKEN, event, TOKEN, event, event, USAGE, DONE].concat();
            let expected = [TOKEN, passed, TOKEN, passed, passed, DONE].concat();
            let out = run(&mut relay(false), &[text.as_bytes()]);
            assert_eq!(String::from_utf8(out).unwrap(), expected);
        }
    }

    #[test]
    fn whole_events_in_one_chunk_are_not_copied() {
        let chunk = Bytes::from([TOKEN, NAMED, TOKEN].concat());
        let mut out = VecDeque::new();
        relay(false).push(chunk.clone(), &mut out);
        assert_eq!(out.len(), 1);
        assert_eq!(out[0].as_ptr(), chunk.as_ptr());
    }

    /// HTTP-14.
    #[test]
    fn a_broken_stream_ends_with_an_error_of_its_own() {
        let mut relay = relay(false);
        let cut = &TOKEN[..20];
        let mut out: VecDeque<Bytes> =
            [run(&mut relay, &[ROLE.as_bytes(), TOKEN.as_bytes(), cut.as_bytes()]).into()].into();
        assert!(relay.end(End::Broken, lost, &mut out));
        let text = String::from_utf8(out.iter().flatten().copied().collect()).unwrap();
        let error = text.strip_prefix(&[ROLE, TOKEN].concat()).unwrap();
        let error: Value = serde_json::from_str(error.strip_prefix("data: ").unwrap().trim_end()).unwrap();
        assert_eq!(error["error"]["code"], "engine_lost");
        assert!(error["error"]["message"].as_str().unwrap().contains("smollm2"));
        assert!(!text.contains("[DONE]"));
        assert_eq!(relay.usage(), Usage { completion_tokens: 1, is_partial: true, ..Usage::default() });
    }

    /// HTTP-14: an orderly end without an answer's end is a lost engine, too (a server that marks the end by
    /// closing).
    #[test]
    fn an_end_in_mid_answer_is_a_loss() {
        let mut relay = relay(false);
        let mut out = VecDeque::new();
        relay.push(Bytes::from_static(TOKEN.as_bytes()), &mut out);
        assert!(relay.end(End::Orderly, lost, &mut out));
    }

    #[test]
    fn a_whole_answer_without_done_is_no_loss() {
        let text = [TOKEN, LAST].concat();
        assert_eq!(run_out(&mut relay(false), &[text.as_bytes()]), (text, false));
    }

    #[test]
    fn after_done_a_broken_connection_is_no_loss() {
        let mut relay = relay(false);
        run(&mut relay, &[whole().as_bytes()]);
        assert!(!relay.end(End::Broken, lost, &mut VecDeque::new()));
    }

    /// HTTP-12: an engine's error ends the stream in the form that clients look for, and none of ours
    /// follows.
    #[test]
    fn an_engines_own_error_is_told_so_that_clients_hear_it() {
        let told = |code: &str, message: &str, kind: &str| {
            format!(
                "data: {{\"error\":{{\"code\":\"{code}\",\"message\":\"{message}\",\"param\":null,\"type\":\"{kind}\"}}}}\n\n"
            )
        };
        let oops = told("engine_error", "oops", "server_error");
        for (said, passed) in [
            (oops.clone(), oops.clone()),
            ("error: {\"code\":500,\"message\":\"oops\",\"type\":\"server_error\"}\n\n".to_owned(), oops.clone()),
            ("error:oops\r\n\r\n".to_owned(), oops.replace('\n', "\r\n")),
            ("error: {\"message\":\nerror: \"oops\"}\n\n".to_owned(), oops.clone()),
            ("data: {\"error\":{\"message\":\"oops\"}}\n\n".to_owned(), oops.clone()),
            ("data: {\"error\":\ndata: \"oops\"}\n\n".to_owned(), oops.clone()),
            ("id: 1\ndata: {\"object\":\"error\",\"message\":\"oops\",\"type\":\"server_error\",\"code\":500}\n\n".to_owned(),
             ["id: 1\n", &oops.replace("\"param\"", "\"object\":\"error\",\"param\"")].concat()),
            ("event: error\ndata: oops\n\n".to_owned(), ["event: error\n", &oops].concat()),
            (
                "error: {\"code\":400,\"message\":\"oops\",\"type\":\"exceed_context_size_error\"}\n\n".to_owned(),
                told("context_length_exceeded", "oops", "exceed_context_size_error"),
            ),
        ] {
            for pieces in [vec![TOKEN, LAST, &said], vec![TOKEN, &said]] {
                let (text, is_lost) = run_out(&mut relay(false), &pieces.iter().map(|piece| piece.as_bytes()).collect::<Vec<_>>());
                assert_eq!(text, [&pieces[..pieces.len() - 1].concat(), &passed[..]].concat());
                assert!(!is_lost);
            }
        }
    }

    #[test]
    fn an_event_beyond_the_limit_goes_on_unread_and_memory_stays_bounded() {
        let mut relay = relay(false);
        let mut out = VecDeque::new();
        let piece = Bytes::from(vec![b'x'; 300_000]);
        let mut sent = 0;
        for _ in 0..10 {
            relay.push(piece.clone(), &mut out);
            sent += piece.len();
            assert!(relay.begun.len() <= EVENT_BYTES_MAX);
        }
        relay.push(Bytes::from([b"\n\n", USAGE.as_bytes(), DONE.as_bytes()].concat()), &mut out);
        let passed: usize = out.iter().map(Bytes::len).sum();
        assert_eq!(passed, sent + 2 + DONE.len());
        assert!(relay.is_done && relay.usage.is_some());
    }

    #[test]
    fn comments_other_fields_and_nonsense_go_on_untouched() {
        let text =
            ": ping\n\nevent: x\nid: 3\ndata: {\"a\":1}\n\n\n\ndata: not json\n\ndata:\n\nretry: 3\n\n";
        let mut relay = relay(false);
        assert_eq!(run(&mut relay, &[text.as_bytes()]), text.as_bytes());
        assert!(!relay.has_content());
    }

    #[test]
    fn data_in_several_lines_is_one_document() {
        let text =
            "data: {\"choices\":[],\ndata: \"usage\":{\"prompt_tokens\":1,\"completion_tokens\":2}}\n\n";
        let mut relay = relay(false);
        assert!(run(&mut relay, &[text.as_bytes()]).is_empty());
        assert_eq!(relay.usage().completion_tokens, 2);
    }

    fn any_event() -> impl Strategy<Value = String> {
        prop_oneof![
            Just(ROLE.to_owned()),
            Just(TOKEN.to_owned()),
            Just(LAST.to_owned()),
            Just(LAST.replace("}\n", ",\"model\":\"/m.gguf\" }\n")),
            Just(USAGE.to_owned()),
            Just(USAGE.replace("}}}", "}},\"timings\":{\"n\":1.0},\"id\":\"c\"}")),
            Just(NAMED.to_owned()),
            Just(MISNAMED.to_owned()),
            Just(DONE.to_owned()),
            "[a-z: ]{0,9}".prop_map(|text| format!("{text}\n\n")),
            ": [a-z]{0,9}".prop_map(|text| format!("{text}\n\n")),
            Just("\n".to_owned()),
        ]
    }

    /// Streams in which the end of an answer is more frequent than chance would make it.
    fn any_events() -> impl Strategy<Value = Vec<String>> {
        let timed = USAGE.replace("}}}", "}},\"timings\":{\"n\":2.0}}");
        let ends = prop_oneof![
            Just(vec![LAST.to_owned(), timed.clone()]),
            Just(vec![LAST.to_owned(), ": ping\n\n".to_owned(), timed, DONE.to_owned()]),
        ];
        let some = prop_oneof![4 => any_event().prop_map(|event| vec![event]), 1 => ends];
        prop::collection::vec(some, 0..12).prop_map(|events| events.concat())
    }

    /// What a client gets of these events, written down the slow way.
    fn expected(events: &[String], wants_usage: bool) -> String {
        let mut passed: Vec<String> = Vec::new();
        let mut last: Option<usize> = None;
        for event in events {
            if !wants_usage && event.contains("\"usage\"") {
                if let Some(last) = last.take() {
                    let added = event.split_once("}}").unwrap().1.strip_suffix("}\n\n").unwrap();
                    let place = passed[last].rfind('}').unwrap();
                    passed[last].insert_str(place, added);
                }
                continue;
            }
            if !(event == "\n" || event == "\n\n" || event.starts_with(':')) {
                last = event.contains("finish_reason").then_some(passed.len());
            }
            passed.push(event.replace("/models/by-hash/0.gguf", "smol").replace("/m.gguf", "smol"));
        }
        passed.concat()
    }

    const PARTS: [&str; 16] = [
        "\n",
        "\r\n",
        "\r",
        "\n\n",
        "data: ",
        "data:",
        "error: ",
        "event: error\n",
        ": c\n",
        "id: 1\n",
        "{\"choices\":[{\"finish_reason\":\"stop\"}],\n",
        "{\"choices\":[{\"finish_reason\":\"stop\"}],\"model\":\"x\"}",
        "{\"choices\":[],\"usage\":{},\"t\":1}",
        "{\"error\":\"x\"}",
        "data: \"a\":1}",
        "data: [DONE]\n\n",
    ];

    proptest! {
        /// Cutting the bytes anywhere changes neither what goes on nor what is metered, with either line end:
        /// HTTP-13 and HTTP-15.
        #[test]
        fn cuts_do_not_matter(
            events in any_events(),
            cuts in prop::collection::vec(0_usize..2_000, 0..40),
            one_by_one in any::<bool>(),
            carriage_returns in any::<bool>(),
            wants_usage in any::<bool>(),
        ) {
            let end = if carriage_returns { "\r\n" } else { "\n" };
            let text = events.concat().replace('\n', end);
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(text.len())).chain([0, text.len()]).collect();
            if one_by_one {
                cuts = (0..=text.len()).collect();
            }
            cuts.sort_unstable();
            let pieces: Vec<&[u8]> = cuts.windows(2).map(|cut| &text.as_bytes()[cut[0]..cut[1]]).collect();
            let (mut cut, mut uncut) = (relay(wants_usage), relay(wants_usage));
            let (out, is_lost) = run_out(&mut cut, &pieces);
            let (uncut_out, uncut_is_lost) = run_out(&mut uncut, &[text.as_bytes()]);
            prop_assert_eq!(&out, &uncut_out);
            prop_assert_eq!(is_lost, uncut_is_lost);
            prop_assert_eq!(cut.usage(), uncut.usage());
            let expected = expected(&events, wants_usage).replace('\n', end);
            let told = out.strip_prefix(&expected);
            prop_assert!(told.is_some_and(|told| told.is_empty() != is_lost), "{out:?} is not {expected:?}");
        }

        /// Also of what is no stream of events, or a broken one: HTTP-12 to HTTP-15.
        #[test]
        fn cuts_do_not_matter_to_nonsense_either(
            parts in prop::collection::vec(prop::sample::select(&PARTS[..]), 0..30),
            cuts in prop::collection::vec(0_usize..600, 0..30),
            wants_usage in any::<bool>(),
        ) {
            let text = parts.concat();
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(text.len())).chain([0, text.len()]).collect();
            cuts.sort_unstable();
            let pieces: Vec<&[u8]> = cuts.windows(2).map(|cut| &text.as_bytes()[cut[0]..cut[1]]).collect();
            let (mut cut, mut uncut) = (relay(wants_usage), relay(wants_usage));
            prop_assert_eq!(run_out(&mut cut, &pieces), run_out(&mut uncut, &[text.as_bytes()]));
            prop_assert_eq!(cut.usage(), uncut.usage());
        }

        #[test]
        fn any_bytes_come_out_as_they_went_in(bytes in prop::collection::vec(any::<u8>(), 0..300), cut in 0_usize..300) {
            let mut relay = relay(true);
            let (a, b) = bytes.split_at(cut.min(bytes.len()));
            let mut out = run(&mut relay, &[a, b]);
            out.extend_from_slice(&relay.begun);
            prop_assert_eq!(out, bytes);
        }
    }
}
