//! The bodies that the fake engine answers with, in llama-server's shape.
//!
//! Owns the JSON. What a benchmark asks for again and again is made once. Refuses to know when to answer.

use std::fmt::Write as _;
use std::sync::Mutex;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::json;

/// Every prompt counts as this many tokens, so that tests of metering know what to expect.
pub(crate) const PROMPT_TOKENS: u32 = 7;

/// What one request for a completion asks for. Everything else in it is ignored.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Ask {
    pub(crate) stream: bool,
    pub(crate) max_tokens: Option<u32>,
    pub(crate) stream_options: Option<StreamOptions>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct StreamOptions {
    pub(crate) include_usage: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Chat,
    Text,
}

/// How long an answer is, and whether the asker cut it short.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Length {
    pub(crate) tokens: u32,
    pub(crate) cut: bool,
}

impl Length {
    pub(crate) fn of(ask: &Ask, usual: u32) -> Self {
        let limit = ask.max_tokens.unwrap_or(usual);
        Self { tokens: usual.min(limit), cut: limit < usual }
    }

    fn reason(self) -> &'static str {
        if self.cut { "length" } else { "stop" }
    }
}

#[derive(Debug)]
pub(crate) struct Answers {
    model: String,
    last_whole: Mutex<Option<(Kind, Length, Bytes)>>,
}

impl Answers {
    pub(crate) fn new(model: String) -> Self {
        Self { model, last_whole: Mutex::new(None) }
    }

    /// A whole answer. The same question again costs nothing.
    pub(crate) fn whole(&self, kind: Kind, length: Length) -> Bytes {
        let mut last = self.last_whole.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        match &*last {
            Some((known_kind, known_length, body)) if (*known_kind, *known_length) == (kind, length) => {
                body.clone()
            }
            _ => {
                let body = self.make_whole(kind, length);
                *last = Some((kind, length, body.clone()));
                body
            }
        }
    }

    fn make_whole(&self, kind: Kind, length: Length) -> Bytes {
        let text: String = (0..length.tokens).map(token).collect();
        let choice = match kind {
            Kind::Chat => {
                json!({"index": 0, "finish_reason": length.reason(), "message": {"role": "assistant", "content": text}})
            }
            Kind::Text => {
                json!({"index": 0, "finish_reason": length.reason(), "text": text, "logprobs": null})
            }
        };
        let object = match kind {
            Kind::Chat => "chat.completion",
            Kind::Text => "text_completion",
        };
        let body = json!({
            "id": "fake-1", "object": object, "created": 0, "model": self.model, "choices": [choice], "usage": usage(length.tokens),
        });
        body.to_string().into()
    }

    /// One event of a stream: token `number`.
    pub(crate) fn chunk(&self, kind: Kind, number: u32) -> Bytes {
        let text = token(number);
        let choice = match kind {
            Kind::Chat => json!({"index": 0, "finish_reason": null, "delta": {"content": text}}),
            Kind::Text => json!({"index": 0, "finish_reason": null, "text": text}),
        };
        self.event(kind, &json!([choice]), None)
    }

    /// The first event of a chat's stream.
    pub(crate) fn first_chunk(&self) -> Bytes {
        let delta = json!({"role": "assistant", "content": null});
        self.event(Kind::Chat, &json!([{"index": 0, "finish_reason": null, "delta": delta}]), None)
    }

    /// What follows the last token, up to `[DONE]`.
    pub(crate) fn end(&self, kind: Kind, length: Length, include_usage: bool) -> Bytes {
        let choice = match kind {
            Kind::Chat => json!({"index": 0, "finish_reason": length.reason(), "delta": {}}),
            Kind::Text => json!({"index": 0, "finish_reason": length.reason(), "text": ""}),
        };
        let mut out = self.event(kind, &json!([choice]), None).to_vec();
        if include_usage {
            out.extend_from_slice(&self.event(kind, &json!([]), Some(usage(length.tokens))));
        }
        out.extend_from_slice(b"data: [DONE]\n\n");
        out.into()
    }

    fn event(&self, kind: Kind, choices: &serde_json::Value, usage: Option<serde_json::Value>) -> Bytes {
        let object = match kind {
            Kind::Chat => "chat.completion.chunk",
            Kind::Text => "text_completion",
        };
        let mut body =
            json!({"id": "fake-1", "object": object, "created": 0, "model": self.model, "choices": choices});
        if let (Some(usage), Some(fields)) = (usage, body.as_object_mut()) {
            fields.insert("usage".into(), usage);
        }
        format!("data: {body}\n\n").into()
    }

    /// A vector for each input.
    pub(crate) fn embeddings(&self, request: &[u8]) -> Option<Bytes> {
        let request: serde_json::Value = serde_json::from_slice(request).ok()?;
        let count = request.get("input")?.as_array().map_or(1, Vec::len);
        let data: Vec<_> = (0..count)
            .map(|index| json!({"object": "embedding", "index": index, "embedding": [0.5, 0.5, 0.5, 0.5]}))
            .collect();
        let tokens = PROMPT_TOKENS * u32::try_from(count).unwrap_or(u32::MAX);
        let usage = json!({"prompt_tokens": tokens, "total_tokens": tokens});
        Some(json!({"object": "list", "model": self.model, "data": data, "usage": usage}).to_string().into())
    }

    pub(crate) fn models(&self) -> Bytes {
        let meta = json!({"n_ctx_train": 2048, "n_params": 1, "size": 1});
        let row =
            json!({"id": self.model, "object": "model", "created": 0, "owned_by": "fake", "meta": meta});
        json!({"object": "list", "data": [row]}).to_string().into()
    }

    pub(crate) fn props(&self) -> Bytes {
        let settings = json!({"n_ctx": 2048});
        json!({"default_generation_settings": settings, "total_slots": 1, "model_path": self.model})
            .to_string()
            .into()
    }
}

/// An error in OpenAI's envelope.
pub(crate) fn error(code: u16, kind: &str, message: &str) -> Bytes {
    json!({"error": {"code": code, "type": kind, "message": message}}).to_string().into()
}

pub(crate) fn metrics(generated: u64, in_flight: u64) -> Bytes {
    let mut text = String::new();
    for (name, kind, help, value) in [
        ("tokens_predicted_total", "counter", "Tokens made.", generated),
        ("requests_processing", "gauge", "Requests in flight.", in_flight),
    ] {
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "# HELP llamacpp:{name} {help}\n# TYPE llamacpp:{name} {kind}\nllamacpp:{name} {value}"
        );
    }
    text.into()
}

fn usage(tokens: u32) -> serde_json::Value {
    json!({
        "prompt_tokens": PROMPT_TOKENS, "completion_tokens": tokens, "total_tokens": PROMPT_TOKENS + tokens,
        "prompt_tokens_details": {"cached_tokens": 0},
    })
}

/// Tests can tell which tokens arrived.
fn token(number: u32) -> String {
    format!("t{number} ")
}
