//! What an engine's answer says to us: usage, content, errors.
//!
//! Owns the few fields that are read, leniently: what an engine writes besides them, or instead of them, is
//! no error. Refuses to do IO.

use std::fmt;

use arw_actors::runtime::lease::Usage;
use bytes::Bytes;
use http::StatusCode;
use serde::de::{IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use serde_json::value::RawValue;

use super::engine_error;
use super::model_name::{ModelName, present};
use crate::problem::{Kind, Problem};

/// One chunk of a stream.
#[derive(Debug, Deserialize)]
pub(super) struct Chunk<'b> {
    #[serde(borrow, default, deserialize_with = "present")]
    model: Option<&'b RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    object: Option<&'b RawValue>,
    choices: Option<Choices>,
    usage: Option<Lenient<WireUsage>>,
    #[serde(default)]
    error: Filled,
}

#[derive(Debug, Deserialize)]
struct Choice {
    #[serde(default)]
    index: Index,
    delta: Option<Lenient<Delta>>,
    #[serde(default)]
    text: Filled,
    // Some servers write an empty one into every chunk.
    #[serde(default)]
    finish_reason: Filled,
}

#[derive(Debug, Deserialize)]
struct Delta {
    #[serde(default)]
    content: Filled,
    #[serde(default)]
    reasoning_content: Filled,
    #[serde(default)]
    refusal: Filled,
    #[serde(default)]
    tool_calls: Filled,
}

impl<'b> Chunk<'b> {
    /// Reads an event's data; `None` where it is no object.
    pub(super) fn read(data: &'b [u8]) -> Option<Self> {
        object(data)
    }

    /// What it calls its model, where it says so.
    pub(super) fn model(&self) -> Option<&'b RawValue> {
        self.model
    }

    /// It carries something of the answer itself.
    pub(super) fn has_content(&self) -> bool {
        let filled = |choice: &Choice| {
            let delta = choice.delta.as_ref().and_then(Lenient::as_ref);
            choice.text.0
                || delta.is_some_and(|delta| {
                    delta.content.0 || delta.reasoning_content.0 || delta.refusal.0 || delta.tool_calls.0
                })
        };
        self.choices().any(filled)
    }

    fn choices(&self) -> impl Iterator<Item = &Choice> {
        self.choices.iter().filter_map(|choices| choices.0.as_ref()).flatten().filter_map(Lenient::as_ref)
    }

    /// Which of the answers that were asked for it is about, and whether it says why that one ends.
    pub(super) fn answers(&self) -> impl Iterator<Item = (u64, bool)> {
        self.choices().map(|choice| (choice.index.0, choice.finish_reason.0))
    }

    /// The engine says that it failed.
    pub(super) fn is_error(&self) -> bool {
        // vLLM's older form has no `error` around it.
        self.error.0 || self.object.is_some_and(|object| object.get() == r#""error""#)
    }

    /// It carries nothing but usage.
    pub(super) fn is_usage_only(&self) -> bool {
        let has_no_choice = match &self.choices {
            None => true,
            Some(choices) => choices.0.as_ref().is_some_and(Vec::is_empty),
        };
        self.usage().is_some() && !self.is_error() && has_no_choice
    }

    /// What it says of usage.
    pub(super) fn usage(&self) -> Option<Usage> {
        self.usage.as_ref()?.as_ref().copied().map(WireUsage::into_usage)
    }
}

/// Reads an object. Serde would read a list as a struct, too.
fn object<'b, T: Deserialize<'b>>(json: &'b [u8]) -> Option<T> {
    let is_object = json.trim_ascii_start().starts_with(b"{");
    is_object.then(|| serde_json::from_slice(json).ok()).flatten()
}

/// A member that is no object of the expected form counts as missing, and does not spoil those beside it.
#[derive(Clone, Copy, Debug)]
struct Lenient<T>(Option<T>);

impl<T> Lenient<T> {
    fn as_ref(&self) -> Option<&T> {
        self.0.as_ref()
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Lenient<T> {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        let raw = <&RawValue>::deserialize(input)?;
        Ok(Self(object(raw.get().as_bytes())))
    }
}

/// The choices of a chunk; `None` where they are no list.
#[derive(Debug)]
struct Choices(Option<Vec<Lenient<Choice>>>);

impl<'de> Deserialize<'de> for Choices {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        let raw = <&RawValue>::deserialize(input)?;
        Ok(Self(serde_json::from_str(raw.get()).ok()))
    }
}

/// A choice's number; 0 where it is none.
#[derive(Clone, Copy, Debug, Default)]
struct Index(u64);

impl<'de> Deserialize<'de> for Index {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        let raw = <&RawValue>::deserialize(input)?;
        Ok(Self(raw.get().parse().unwrap_or_default()))
    }
}

/// Whether a value is something: a text, list or object that is not empty. Its content is skipped.
#[derive(Clone, Copy, Debug, Default)]
struct Filled(bool);

impl<'de> Deserialize<'de> for Filled {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        input.deserialize_any(FilledVisitor)
    }
}

struct FilledVisitor;

impl<'de> Visitor<'de> for FilledVisitor {
    type Value = Filled;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("anything")
    }

    fn visit_unit<E>(self) -> Result<Filled, E> {
        Ok(Filled(false))
    }

    fn visit_bool<E>(self, value: bool) -> Result<Filled, E> {
        Ok(Filled(value))
    }

    fn visit_str<E>(self, text: &str) -> Result<Filled, E> {
        Ok(Filled(!text.is_empty()))
    }

    fn visit_i64<E>(self, _: i64) -> Result<Filled, E> {
        Ok(Filled(true))
    }

    fn visit_u64<E>(self, _: u64) -> Result<Filled, E> {
        Ok(Filled(true))
    }

    fn visit_f64<E>(self, _: f64) -> Result<Filled, E> {
        Ok(Filled(true))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Filled, A::Error> {
        let mut filled = false;
        while items.next_element::<IgnoredAny>()?.is_some() {
            filled = true;
        }
        Ok(Filled(filled))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Filled, A::Error> {
        let mut filled = false;
        while entries.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {
            filled = true;
        }
        Ok(Filled(filled))
    }
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default)]
struct WireUsage {
    prompt_tokens: Tokens,
    completion_tokens: Tokens,
    prompt_tokens_details: Option<Lenient<PromptDetails>>,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default)]
struct PromptDetails {
    cached_tokens: Tokens,
}

impl WireUsage {
    fn into_usage(self) -> Usage {
        let details = self.prompt_tokens_details.and_then(|details| details.0).unwrap_or_default();
        Usage {
            prompt_tokens: self.prompt_tokens.0,
            completion_tokens: self.completion_tokens.0,
            cached_tokens: details.cached_tokens.0,
            is_partial: false,
        }
    }
}

/// A count of tokens, which some engines write as `10.0`, and leave out as `null`: what is no number counts
/// as none.
#[derive(Clone, Copy, Debug, Default)]
struct Tokens(u64);

/// No answer has as many. Counters add these up for as long as a node runs, and must not be filled by one
/// engine's nonsense.
const TOKENS_MAX: u64 = u32::MAX as u64;

impl<'de> Deserialize<'de> for Tokens {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        let text = <&RawValue>::deserialize(input)?.get();
        // A float that is too large for an integer, or negative, becomes the nearest one.
        let count = text.parse::<u64>().or_else(|_| text.parse::<f64>().map(|count| count as u64));
        Ok(Self(count.unwrap_or(0).min(TOKENS_MAX)))
    }
}

/// Reads a whole answer: HTTP-13, its usage, unknown where the engine does not say; HTTP-15, the answer by
/// the model's own name.
pub(super) fn read_whole(body: Bytes, name: &ModelName) -> (Usage, Bytes) {
    #[derive(Default, Deserialize)]
    struct Answer<'b> {
        #[serde(borrow, default, deserialize_with = "present")]
        model: Option<&'b RawValue>,
        usage: Option<Lenient<WireUsage>>,
    }
    let answer: Answer<'_> = object(&body).unwrap_or_default();
    let usage = answer.usage.and_then(|usage| usage.0);
    let usage = usage.map_or(Usage { is_partial: true, ..Usage::default() }, WireUsage::into_usage);
    let Some(at) = name.place_for(&body, answer.model) else { return (usage, body) };
    let renamed = [&body[..at.start], name.json(), &body[at.end..]].concat();
    (usage, renamed.into())
}

/// HTTP-12: an engine's refusal in OpenAI's envelope. Its status stays, but a refusal of *our* key is not the
/// client's fault.
pub(super) fn engine_refusal(status: StatusCode, body: &[u8], runtime: &str) -> (StatusCode, Value) {
    if matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
        let detail = format!(
            "the engine of runtime `{runtime}` does not accept this node's key (it answered {})",
            status.as_u16()
        );
        let help = "for an external server set `api_key_env` to a variable that holds its key; else restart the runtime";
        return (StatusCode::BAD_GATEWAY, Problem::new(Kind::EngineError, detail, help).to_openai());
    }
    // A redirect or the like leads nowhere from here.
    let status =
        if status.is_client_error() || status.is_server_error() { status } else { StatusCode::BAD_GATEWAY };
    (status, engine_error::of_refusal(status, body))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// HTTP-13.
    #[test]
    fn usage_is_found_in_a_whole_answer() {
        let usage_in = |body: &[u8]| read_whole(Bytes::copy_from_slice(body), &ModelName::new("m")).0;
        let body = br#"{"choices":[{"message":{"content":"\"usage\":{}"}}],"usage":{"prompt_tokens":30,"completion_tokens":9,"total_tokens":39,
            "prompt_tokens_details":{"cached_tokens":4}},"timings":{}}"#;
        assert_eq!(
            usage_in(body),
            Usage { prompt_tokens: 30, completion_tokens: 9, cached_tokens: 4, is_partial: false }
        );
        // Embeddings have no completion.
        assert_eq!(usage_in(br#"{"usage":{"prompt_tokens":8,"total_tokens":8},"data":[]}"#).prompt_tokens, 8);
        assert!(usage_in(b"{}").is_partial);
        assert!(usage_in(b"not json").is_partial);
    }

    /// HTTP-13.
    #[test]
    fn a_count_of_another_type_counts_as_none_and_spoils_nothing() {
        let usage_in = |usage: &str| {
            let body = format!("{{\"usage\":{usage},\"model\":\"x\"}}");
            let (usage, body) = read_whole(body.into(), &ModelName::new("m"));
            assert!(body.ends_with(b"\"model\":\"m\"}"), "{body:?}");
            usage
        };
        let counted = |prompt_tokens, completion_tokens, cached_tokens| Usage {
            prompt_tokens,
            completion_tokens,
            cached_tokens,
            is_partial: false,
        };
        for (usage, expected) in [
            (r#"{"prompt_tokens":7.0,"completion_tokens":null}"#, counted(7, 0, 0)),
            (r#"{"prompt_tokens":1e1,"completion_tokens":-3}"#, counted(10, 0, 0)),
            (r#"{"prompt_tokens":"7","completion_tokens":[7]}"#, counted(0, 0, 0)),
            (r#"{"prompt_tokens":18446744073709551616,"completion_tokens":9}"#, counted(TOKENS_MAX, 9, 0)),
            (r#"{"completion_tokens":9,"prompt_tokens_details":"none"}"#, counted(0, 9, 0)),
            (r#"{"completion_tokens":9,"prompt_tokens_details":{"cached_tokens":2.0}}"#, counted(0, 9, 2)),
            (r#"{"completion_tokens":9,"prompt_tokens_details":{"cached_tokens":null}}"#, counted(0, 9, 0)),
        ] {
            assert_eq!(usage_in(usage), expected, "{usage}");
        }
        for usage in ["null", "3", "[]", "\"none\""] {
            assert!(usage_in(usage).is_partial, "{usage}");
        }
    }

    #[test]
    fn an_error_that_says_nothing_is_none() {
        let is_error = |text: &str| Chunk::read(text.as_bytes()).unwrap().is_error();
        for error in ["\"x\"", "{\"message\":\"x\"}", "true", "500"] {
            assert!(is_error(&format!("{{\"error\":{error}}}")), "{error}");
        }
        for none in ["null", "\"\"", "{}", "false"] {
            assert!(!is_error(&format!("{{\"choices\":[],\"error\":{none}}}")), "{none}");
        }
        assert!(is_error(r#"{"object":"error","message":"x"}"#) && !is_error(r#"{"object":"chunk"}"#));
    }

    #[test]
    fn a_chunk_is_read_past_what_it_has_in_another_form() {
        let chunk = |text: &'static str| Chunk::read(text.as_bytes()).unwrap();
        for (text, answers) in [
            (r#"{"choices":[3,{"delta":"x","finish_reason":"stop"}],"usage":7}"#, vec![(0, true)]),
            (r#"{"choices":[{"delta":{"content":"x"},"finish_reason":""}]}"#, vec![(0, false)]),
            (
                r#"{"choices":[{"index":1},{"index":"2","finish_reason":"length"},{"index":-1}]}"#,
                vec![(1, false), (0, true), (0, false)],
            ),
        ] {
            assert_eq!(chunk(text).answers().collect::<Vec<_>>(), answers, "{text}");
        }
        assert!(chunk(r#"{"choices":[],"usage":{"completion_tokens":null}}"#).is_usage_only());
        for other in
            [r#"{"choices":{},"usage":{}}"#, r#"{"choices":[0],"usage":{}}"#, r#"{"choices":[],"usage":0}"#]
        {
            assert!(!chunk(other).is_usage_only(), "{other}");
        }
    }

    /// HTTP-15.
    #[test]
    fn a_whole_answer_names_the_model_as_asked() {
        let named = |body: &str| {
            let (_, body) = read_whole(Bytes::copy_from_slice(body.as_bytes()), &ModelName::new("a \"b\""));
            String::from_utf8(body.to_vec()).unwrap()
        };
        for (answer, passed) in [
            (
                r#"{ "choices":[{"message":{"content":"\"model\":\"x\"","model":"y"}}], "model" : "/m.gguf" , "n":1.0 }"#,
                r#"{ "choices":[{"message":{"content":"\"model\":\"x\"","model":"y"}}], "model" : "a \"b\"" , "n":1.0 }"#,
            ),
            (r#"{"mod\u0065l":null}"#, r#"{"mod\u0065l":"a \"b\""}"#),
            // Nothing is invented, and nothing that is not understood is touched.
            (r#"{"data":[]}"#, r#"{"data":[]}"#),
            (r#"{"model":"x""#, r#"{"model":"x""#),
            (r#"["model","x"]"#, r#"["model","x"]"#),
            ("", ""),
        ] {
            assert_eq!(named(answer), passed);
        }
        let body = Bytes::from_static(br#"{"model":"a \"b\""}"#);
        let (_, passed) = read_whole(body.clone(), &ModelName::new("a \"b\""));
        assert_eq!(passed.as_ptr(), body.as_ptr(), "the right name costs nothing");
    }

    /// HTTP-12.
    #[test]
    fn an_engines_error_keeps_its_status_and_words() {
        let body = br#"{"error":{"code":400,"message":"the request exceeds the available context size","type":"exceed_context_size_error","n_ctx":2048}}"#;
        let (status, envelope) = engine_refusal(StatusCode::BAD_REQUEST, body, "r");
        assert_eq!(status, 400);
        assert_eq!(
            envelope["error"],
            json!({"code": "context_length_exceeded", "message": "the request exceeds the available context size",
                   "type": "exceed_context_size_error", "n_ctx": 2048, "param": null})
        );
    }

    /// A client must not be told that its own token is wrong when ours is.
    #[test]
    fn an_engine_that_refuses_our_key_is_a_bad_gateway() {
        let (status, envelope) =
            engine_refusal(StatusCode::UNAUTHORIZED, br#"{"error":{"message":"Invalid API Key"}}"#, "r");
        assert_eq!((status.as_u16(), envelope["error"]["code"].as_str()), (502, Some("engine_error")));
        assert_eq!(engine_refusal(StatusCode::FOUND, b"", "r").0, 502);
    }

    #[test]
    fn content_is_told_from_chunks_without_any() {
        let has = |text: &str| Chunk::read(text.as_bytes()).unwrap().has_content();
        assert!(has(r#"{"choices":[{"delta":{"content":"x"}}]}"#));
        assert!(has(r#"{"choices":[{"text":"x"}]}"#));
        assert!(has(r#"{"choices":[{"delta":{"tool_calls":[{"index":0}]}}]}"#));
        assert!(has(r#"{"choices":[{"delta":{"content":null,"reasoning_content":"hm"}}]}"#));
        assert!(has(r#"{"choices":[{"delta":{"content":[{"type":"text"}]}}]}"#));
        assert!(!has(r#"{"choices":[{"delta":{"role":"assistant","content":null}}]}"#));
        assert!(!has(r#"{"choices":[{"delta":{"content":""},"finish_reason":"stop"}],"usage":null}"#));
        assert!(!has(r#"{"choices":[]}"#));
        assert!(!has("{}"));
    }
}
