//! What of an engine's stream goes on to the client, and what it tells about usage.
//!
//! Plain code: chunks as they come go in, whole events come out, as slices of the same bytes wherever an event lies within one chunk.
//! Refuses to do IO.
//!
//! Invariants: what comes out is what came in, in order, without the usage chunk where the client did not ask for it (HTTP-13), and with the
//! model's name where the engine wrote another (HTTP-15); only whole events come out, so that an error can follow at any time (HTTP-14).

use std::borrow::Cow;
use std::collections::VecDeque;
use std::ops::Range;

use arw_actors::runtime::lease::Usage;
use bytes::{Bytes, BytesMut};

use super::answer::Chunk;
use super::model_name::ModelName;
use crate::problem::Problem;

/// An event beyond this size is passed on as it comes, unread: nobody streams a megabyte as one token.
const EVENT_BYTES_MAX: usize = 1 << 20;

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
    /// What changes of the bytes in hand; kept for its memory.
    changes: Vec<(Range<usize>, Change)>,
    /// The beginning of an event whose end has not come yet.
    held: BytesMut,
    /// Bytes of `held` that hold no event's end.
    searched: usize,
    /// The event that goes on just now is too long to be held.
    is_overlong: bool,
    usage: Option<Usage>,
    content_chunks: u64,
    is_done: bool,
    is_finished: bool,
    has_error: bool,
}

/// What becomes of one event; `None` of it: nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Change {
    /// It is not for the client.
    Strip,
    /// Here the model's name goes.
    Rename(Range<usize>),
}

impl Relay {
    /// `wants_usage`: the client asked for the usage chunk. `name`: what it knows the model by.
    pub(super) fn new(wants_usage: bool, name: ModelName) -> Self {
        Self {
            wants_usage,
            name,
            changes: Vec::new(),
            held: BytesMut::new(),
            searched: 0,
            is_overlong: false,
            usage: None,
            content_chunks: 0,
            is_done: false,
            is_finished: false,
            has_error: false,
        }
    }

    /// Takes bytes as they came; puts what goes on to the client into `out`.
    pub(super) fn push(&mut self, chunk: Bytes, out: &mut VecDeque<Bytes>) {
        let (bytes, mut search_from) = if self.held.is_empty() {
            (chunk, 0)
        } else {
            self.held.extend_from_slice(&chunk);
            // A line end may be cut in its middle.
            (self.held.split().freeze(), self.searched.saturating_sub(2))
        };
        let mut event_from = 0;
        while let Some(event_end) = event_end(&bytes, event_from, search_from) {
            if !std::mem::take(&mut self.is_overlong) {
                let change = self.read(&bytes[event_from..event_end]);
                self.changes.extend(change.map(|change| (event_from..event_end, change)));
            }
            (event_from, search_from) = (event_end, event_end);
        }
        if !self.is_overlong && bytes.len() - event_from > EVENT_BYTES_MAX {
            self.is_overlong = true;
            // One piece of content, because it is not read.
            self.content_chunks += 1;
        }
        if self.is_overlong {
            event_from = bytes.len();
        }
        self.pass_changed(&bytes.slice(..event_from), out);
        self.searched = bytes.len() - event_from;
        self.held.extend_from_slice(&bytes[event_from..]);
    }

    /// The engine's stream has ended; true when that was before the answer's end, and the client was told how it was lost.
    pub(super) fn end(
        &mut self,
        end: End,
        lost: impl FnOnce() -> Problem,
        out: &mut VecDeque<Bytes>,
    ) -> bool {
        let held = self.held.split().freeze();
        // A stream without `[DONE]` whose answer has a finish reason is whole: some servers leave it out.
        let is_whole = self.is_done || self.has_error || (self.is_finished && end == End::Orderly);
        if is_whole {
            pass(held, out);
            return false;
        }
        // HTTP-14 and HTTP-18: the half event is left out, so that the error is one of its own.
        if self.is_overlong {
            pass(Bytes::from_static(b"\n\n"), out);
        }
        out.push_back(format!("data: {}\n\n", lost().to_openai()).into());
        true
    }

    /// The client has got something of the answer itself.
    pub(super) fn has_content(&self) -> bool {
        self.content_chunks > 0
    }

    /// HTTP-13: what the engine reported; where it did not, each piece of content counts as a token.
    pub(super) fn usage(&self) -> Usage {
        match self.usage {
            Some(usage) => Usage { is_partial: !(self.is_done || self.is_finished), ..usage },
            None => Usage { completion_tokens: self.content_chunks, is_partial: true, ..Usage::default() },
        }
    }

    /// Passes on whole events, changed as was decided: slices where something is only left out, one copy where a name is put in.
    fn pass_changed(&mut self, bytes: &Bytes, out: &mut VecDeque<Bytes>) {
        let name = self.name.json();
        let (mut gone, mut grown) = (0, 0);
        for (event, change) in &self.changes {
            match change {
                Change::Strip => gone += event.len(),
                Change::Rename(at) => (gone, grown) = (gone + at.len(), grown + name.len()),
            }
        }
        // Exact, so that it becomes shared bytes without another allocation.
        let mut copy = (grown > 0).then(|| Vec::with_capacity(bytes.len() + grown - gone));
        let mut from = 0;
        for (event, change) in self.changes.drain(..) {
            let (at, put) = match change {
                Change::Strip => (event, &[][..]),
                Change::Rename(at) => (event.start + at.start..event.start + at.end, name),
            };
            match &mut copy {
                Some(copy) => {
                    copy.extend_from_slice(&bytes[from..at.start]);
                    copy.extend_from_slice(put);
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

    /// Reads one event, and says what changes of it.
    fn read(&mut self, event: &[u8]) -> Option<Change> {
        let mut data: Option<Cow<'_, [u8]>> = None;
        for line in event.split(|&byte| byte == b'\n') {
            if let Some(text) = data_in(line) {
                match &mut data {
                    None => data = Some(text.into()),
                    Some(data) => {
                        data.to_mut().push(b'\n');
                        data.to_mut().extend_from_slice(text);
                    }
                }
            } else if line.starts_with(b"error:") {
                // llama.cpp's own form of an error within a stream.
                self.has_error = true;
            }
        }
        let data = data?;
        match self.read_data(&data)? {
            Change::Strip => Some(Change::Strip),
            Change::Rename(at) => match data {
                Cow::Borrowed(data) => Some(moved(&at, data.as_ptr().addr() - event.as_ptr().addr())),
                Cow::Owned(_) => place_in_lines(event, &at),
            }
            .map(Change::Rename),
        }
    }

    fn read_data(&mut self, data: &[u8]) -> Option<Change> {
        if data == b"[DONE]" {
            self.is_done = true;
            return None;
        }
        // What is not understood goes on untouched: it is between the engine and the client.
        let chunk = Chunk::read(data)?;
        self.content_chunks += u64::from(chunk.has_content());
        self.is_finished |= chunk.has_finish_reason();
        self.has_error |= chunk.is_error();
        if let Some(usage) = chunk.usage() {
            self.usage = Some(usage);
            if !self.wants_usage && chunk.is_usage_only() {
                return Some(Change::Strip);
            }
        }
        self.name.place_for(data, chunk.model()).map(Change::Rename)
    }
}

/// A line's part of its event's data.
fn data_in(line: &[u8]) -> Option<&[u8]> {
    let text = line.strip_suffix(b"\r").unwrap_or(line).strip_prefix(b"data:")?;
    Some(text.strip_prefix(b" ").unwrap_or(text))
}

/// From a place in data that was joined of several lines to the same place in their event; `None` where it spans lines, which no name does.
fn place_in_lines(event: &[u8], at: &Range<usize>) -> Option<Range<usize>> {
    let mut data_from = 0;
    for text in event.split(|&byte| byte == b'\n').filter_map(data_in) {
        if at.start >= data_from && at.end <= data_from + text.len() {
            return Some(moved(at, text.as_ptr().addr() - event.as_ptr().addr() - data_from));
        }
        data_from += text.len() + 1;
    }
    None
}

fn moved(at: &Range<usize>, by: usize) -> Range<usize> {
    at.start + by..at.end + by
}

fn pass(bytes: Bytes, out: &mut VecDeque<Bytes>) {
    if !bytes.is_empty() {
        out.push_back(bytes);
    }
}

/// The place behind the blank line that ends the event which begins at `from`. `search_from`: no line end lies between.
fn event_end(bytes: &[u8], from: usize, search_from: usize) -> Option<usize> {
    let begin = search_from.max(from);
    memchr::memchr_iter(b'\n', &bytes[begin..])
        .map(|at| begin + at)
        .find(|&at| {
            let line = &bytes[from..at];
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            line.is_empty() || line.ends_with(b"\n")
        })
        .map(|at| at + 1)
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

    /// HTTP-13: a usage that travels with content is not stripped, or the client would lose that content.
    #[test]
    fn usage_beside_content_goes_on() {
        let both = "data: {\"choices\":[{\"text\":\"x\",\"finish_reason\":\"stop\"}],\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":1}}\n\n";
        let mut relay = relay(false);
        assert_eq!(run(&mut relay, &[both.as_bytes()]), both.as_bytes());
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
        let error: serde_json::Value =
            serde_json::from_str(error.strip_prefix("data: ").unwrap().trim_end()).unwrap();
        assert_eq!(error["error"]["code"], "engine_lost");
        assert!(error["error"]["message"].as_str().unwrap().contains("smollm2"));
        assert!(!text.contains("[DONE]"));
        assert_eq!(relay.usage(), Usage { completion_tokens: 1, is_partial: true, ..Usage::default() });
    }

    /// HTTP-14: an orderly end without an answer's end is a lost engine, too (a server that marks the end by closing).
    #[test]
    fn an_end_in_mid_answer_is_a_loss() {
        let mut relay = relay(false);
        let mut out = VecDeque::new();
        relay.push(Bytes::from_static(TOKEN.as_bytes()), &mut out);
        assert!(relay.end(End::Orderly, lost, &mut out));
    }

    #[test]
    fn a_whole_answer_without_done_is_no_loss() {
        let mut relay = relay(false);
        let out = run(&mut relay, &[[TOKEN, LAST].concat().as_bytes()]);
        let mut rest = VecDeque::new();
        assert!(!relay.end(End::Orderly, lost, &mut rest));
        assert_eq!((out.as_slice(), rest.len()), ([TOKEN, LAST].concat().as_bytes(), 0));
    }

    #[test]
    fn after_done_a_broken_connection_is_no_loss() {
        let mut relay = relay(false);
        run(&mut relay, &[whole().as_bytes()]);
        assert!(!relay.end(End::Broken, lost, &mut VecDeque::new()));
    }

    #[test]
    fn an_engines_own_error_is_not_followed_by_ours() {
        for error in
            ["data: {\"error\":{\"message\":\"context full\"}}\n\n", "error: {\"message\":\"x\"}\n\n"]
        {
            let mut relay = relay(false);
            assert_eq!(
                run(&mut relay, &[TOKEN.as_bytes(), error.as_bytes()]),
                [TOKEN, error].concat().as_bytes()
            );
            assert!(!relay.end(End::Orderly, lost, &mut VecDeque::new()));
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
            assert!(relay.held.len() <= EVENT_BYTES_MAX);
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
            Just(USAGE.to_owned()),
            Just(NAMED.to_owned()),
            Just(MISNAMED.to_owned()),
            Just(DONE.to_owned()),
            "[a-z: ]{0,9}".prop_map(|text| format!("{text}\n\n")),
            Just("\n".to_owned()),
        ]
    }

    proptest! {
        /// Cutting the bytes anywhere changes neither what goes on nor what is metered, with either line end.
        #[test]
        fn cuts_do_not_matter(
            events in prop::collection::vec(any_event(), 0..12),
            cuts in prop::collection::vec(0_usize..2_000, 0..40),
            carriage_returns in any::<bool>(),
            wants_usage in any::<bool>(),
        ) {
            let end = if carriage_returns { "\r\n" } else { "\n" };
            let text = events.concat().replace('\n', end);
            let expected: String =
                events.iter().filter(|event| wants_usage || *event != USAGE).cloned().collect::<String>().replace(MISNAMED, NAMED).replace('\n', end);
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(text.len())).chain([0, text.len()]).collect();
            cuts.sort_unstable();
            let pieces: Vec<&[u8]> = cuts.windows(2).map(|cut| &text.as_bytes()[cut[0]..cut[1]]).collect();
            let (mut cut, mut uncut) = (relay(wants_usage), relay(wants_usage));
            let out = run(&mut cut, &pieces);
            prop_assert_eq!(String::from_utf8(out).unwrap(), expected);
            run(&mut uncut, &[text.as_bytes()]);
            prop_assert_eq!(cut.usage(), uncut.usage());
            prop_assert_eq!(cut.is_done, uncut.is_done);
        }

        #[test]
        fn any_bytes_come_out_as_they_went_in(bytes in prop::collection::vec(any::<u8>(), 0..300), cut in 0_usize..300) {
            let mut relay = relay(true);
            let (a, b) = bytes.split_at(cut.min(bytes.len()));
            let mut out = run(&mut relay, &[a, b]);
            out.extend_from_slice(&relay.held);
            prop_assert_eq!(out, bytes);
        }
    }
}
