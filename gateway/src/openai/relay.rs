//! What of an engine's stream goes on to the client, and what it tells about usage.
//!
//! Plain code: chunks as they come go in, whole events come out, as slices of the same bytes wherever an event lies within one chunk.
//! Refuses to do IO.
//!
//! Invariants: what comes out is what came in, in order, without the usage chunk where the client did not ask for it (HTTP-13); only
//! whole events come out, so that an error can follow at any time (HTTP-14).

use std::collections::VecDeque;

use arw_actors::runtime::lease::Usage;
use bytes::{Bytes, BytesMut};

use super::answer::{Chunk, lost_event};

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

impl Relay {
    /// `wants_usage`: the client asked for the usage chunk.
    pub(super) fn new(wants_usage: bool) -> Self {
        Self {
            wants_usage,
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
        let (mut pass_from, mut event_from) = (0, 0);
        while let Some(event_end) = event_end(&bytes, event_from, search_from) {
            let strips = !std::mem::take(&mut self.is_overlong) && self.strips(&bytes[event_from..event_end]);
            if strips {
                pass(bytes.slice(pass_from..event_from), out);
                pass_from = event_end;
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
        pass(bytes.slice(pass_from..event_from), out);
        self.searched = bytes.len() - event_from;
        self.held.extend_from_slice(&bytes[event_from..]);
    }

    /// The engine's stream has ended; true when that was before the answer's end, and the client was told.
    pub(super) fn end(&mut self, end: End, runtime: &str, out: &mut VecDeque<Bytes>) -> bool {
        let held = self.held.split().freeze();
        // A stream without `[DONE]` whose answer has a finish reason is whole: some servers leave it out.
        let is_whole = self.is_done || self.has_error || (self.is_finished && end == End::Orderly);
        if is_whole {
            pass(held, out);
            return false;
        }
        // HTTP-14: the half event is left out, so that the error is one of its own.
        if self.is_overlong {
            pass(Bytes::from_static(b"\n\n"), out);
        }
        out.push_back(lost_event(runtime));
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

    /// Reads one event; true when it is not for the client.
    fn strips(&mut self, event: &[u8]) -> bool {
        let mut data: Option<std::borrow::Cow<'_, [u8]>> = None;
        for line in event.split(|&byte| byte == b'\n') {
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            if let Some(text) = line.strip_prefix(b"data:") {
                let text = text.strip_prefix(b" ").unwrap_or(text);
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
        data.is_some_and(|data| self.strips_data(&data))
    }

    fn strips_data(&mut self, data: &[u8]) -> bool {
        if data == b"[DONE]" {
            self.is_done = true;
            return false;
        }
        // What is not understood goes on untouched: it is between the engine and the client.
        let Ok(chunk) = serde_json::from_slice::<Chunk>(data) else { return false };
        self.content_chunks += u64::from(chunk.has_content());
        self.is_finished |= chunk.has_finish_reason();
        self.has_error |= chunk.is_error();
        let Some(usage) = chunk.usage() else { return false };
        self.usage = Some(usage);
        !self.wants_usage && chunk.is_usage_only()
    }
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
    const LAST: &str = "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n";
    const USAGE: &str = "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":30,\"completion_tokens\":2,\"prompt_tokens_details\":{\"cached_tokens\":7}}}\n\n";
    const DONE: &str = "data: [DONE]\n\n";

    fn whole() -> String {
        [ROLE, TOKEN, TOKEN, LAST, USAGE, DONE].concat()
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
        let mut relay = Relay::new(false);
        let out = run(&mut relay, &[whole().as_bytes()]);
        assert_eq!(String::from_utf8(out).unwrap(), [ROLE, TOKEN, TOKEN, LAST, DONE].concat());
        let expected = Usage { prompt_tokens: 30, cached_tokens: 7, completion_tokens: 2, is_partial: false };
        assert_eq!(relay.usage(), expected);
        assert!(!relay.end(End::Orderly, "r", &mut VecDeque::new()));
    }

    /// HTTP-13.
    #[test]
    fn the_usage_chunk_goes_to_who_asked() {
        let mut relay = Relay::new(true);
        assert_eq!(run(&mut relay, &[whole().as_bytes()]), whole().as_bytes());
        assert_eq!(relay.usage().prompt_tokens, 30);
    }

    /// HTTP-13: a usage that travels with content is not stripped, or the client would lose that content.
    #[test]
    fn usage_beside_content_goes_on() {
        let both = "data: {\"choices\":[{\"text\":\"x\",\"finish_reason\":\"stop\"}],\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":1}}\n\n";
        let mut relay = Relay::new(false);
        assert_eq!(run(&mut relay, &[both.as_bytes()]), both.as_bytes());
        assert_eq!(relay.usage(), Usage { prompt_tokens: 3, completion_tokens: 1, ..Usage::default() });
    }

    #[test]
    fn whole_events_in_one_chunk_are_not_copied() {
        let chunk = Bytes::from([TOKEN, TOKEN].concat());
        let mut out = VecDeque::new();
        Relay::new(false).push(chunk.clone(), &mut out);
        assert_eq!(out.len(), 1);
        assert_eq!(out[0].as_ptr(), chunk.as_ptr());
    }

    /// HTTP-14.
    #[test]
    fn a_broken_stream_ends_with_an_error_of_its_own() {
        let mut relay = Relay::new(false);
        let cut = &TOKEN[..20];
        let mut out: VecDeque<Bytes> =
            [run(&mut relay, &[ROLE.as_bytes(), TOKEN.as_bytes(), cut.as_bytes()]).into()].into();
        assert!(relay.end(End::Broken, "smollm2", &mut out));
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
        let mut relay = Relay::new(false);
        let mut out = VecDeque::new();
        relay.push(Bytes::from_static(TOKEN.as_bytes()), &mut out);
        assert!(relay.end(End::Orderly, "r", &mut out));
    }

    #[test]
    fn a_whole_answer_without_done_is_no_loss() {
        let mut relay = Relay::new(false);
        let out = run(&mut relay, &[[TOKEN, LAST].concat().as_bytes()]);
        let mut rest = VecDeque::new();
        assert!(!relay.end(End::Orderly, "r", &mut rest));
        assert_eq!((out.as_slice(), rest.len()), ([TOKEN, LAST].concat().as_bytes(), 0));
    }

    #[test]
    fn after_done_a_broken_connection_is_no_loss() {
        let mut relay = Relay::new(false);
        run(&mut relay, &[whole().as_bytes()]);
        assert!(!relay.end(End::Broken, "r", &mut VecDeque::new()));
    }

    #[test]
    fn an_engines_own_error_is_not_followed_by_ours() {
        for error in
            ["data: {\"error\":{\"message\":\"context full\"}}\n\n", "error: {\"message\":\"x\"}\n\n"]
        {
            let mut relay = Relay::new(false);
            assert_eq!(
                run(&mut relay, &[TOKEN.as_bytes(), error.as_bytes()]),
                [TOKEN, error].concat().as_bytes()
            );
            assert!(!relay.end(End::Orderly, "r", &mut VecDeque::new()));
        }
    }

    #[test]
    fn an_event_beyond_the_limit_goes_on_unread_and_memory_stays_bounded() {
        let mut relay = Relay::new(false);
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
        let mut relay = Relay::new(false);
        assert_eq!(run(&mut relay, &[text.as_bytes()]), text.as_bytes());
        assert!(!relay.has_content());
    }

    #[test]
    fn data_in_several_lines_is_one_document() {
        let text =
            "data: {\"choices\":[],\ndata: \"usage\":{\"prompt_tokens\":1,\"completion_tokens\":2}}\n\n";
        let mut relay = Relay::new(false);
        assert!(run(&mut relay, &[text.as_bytes()]).is_empty());
        assert_eq!(relay.usage().completion_tokens, 2);
    }

    fn any_event() -> impl Strategy<Value = String> {
        prop_oneof![
            Just(ROLE.to_owned()),
            Just(TOKEN.to_owned()),
            Just(LAST.to_owned()),
            Just(USAGE.to_owned()),
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
                events.iter().filter(|event| wants_usage || *event != USAGE).cloned().collect::<String>().replace('\n', end);
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(text.len())).chain([0, text.len()]).collect();
            cuts.sort_unstable();
            let pieces: Vec<&[u8]> = cuts.windows(2).map(|cut| &text.as_bytes()[cut[0]..cut[1]]).collect();
            let (mut cut, mut uncut) = (Relay::new(wants_usage), Relay::new(wants_usage));
            let out = run(&mut cut, &pieces);
            prop_assert_eq!(String::from_utf8(out).unwrap(), expected);
            run(&mut uncut, &[text.as_bytes()]);
            prop_assert_eq!(cut.usage(), uncut.usage());
            prop_assert_eq!(cut.is_done, uncut.is_done);
        }

        #[test]
        fn any_bytes_come_out_as_they_went_in(bytes in prop::collection::vec(any::<u8>(), 0..300), cut in 0_usize..300) {
            let mut relay = Relay::new(true);
            let (a, b) = bytes.split_at(cut.min(bytes.len()));
            let mut out = run(&mut relay, &[a, b]);
            out.extend_from_slice(&relay.held);
            prop_assert_eq!(out, bytes);
        }
    }
}
