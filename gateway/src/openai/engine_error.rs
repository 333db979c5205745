//! What an engine says of a failure, in the words that OpenAI's clients look for.
//!
//! Engines agree neither on a form nor on words. Owns HTTP-12's envelope. Refuses to decide what is an error,
//! and whose fault it is.

use http::StatusCode;
use serde_json::{Map, Value, json};

use crate::problem::openai_type;

/// HTTP-12: the envelope for the body of an engine's refusal.
pub(super) fn of_refusal(status: StatusCode, body: &[u8]) -> Value {
    let error = told(serde_json::from_slice(body).unwrap_or_default());
    json!({ "error": completed(error, body, Some(status)) })
}

/// HTTP-12: the data of an error within a stream: `payload` is all that the engine said, as JSON or as words.
pub(super) fn in_stream(payload: &[u8]) -> Value {
    let payload_json: Value = serde_json::from_slice(payload).unwrap_or_default();
    let mut beside = match &payload_json {
        Value::Object(members) if members.get("error").is_some_and(|error| !error.is_null()) => {
            members.clone()
        }
        _ => Map::new(),
    };
    let error = told(payload_json);
    let status = error.get("code").and_then(Value::as_u64).and_then(|code| u16::try_from(code).ok());
    let status = status.and_then(|code| StatusCode::from_u16(code).ok());
    let status = status.filter(|status| status.is_client_error() || status.is_server_error());
    beside.insert("error".to_owned(), completed(error, payload, status).into());
    beside.into()
}

/// The members of an error, wherever an engine puts them.
fn told(json: Value) -> Map<String, Value> {
    let message = |text: String| Map::from_iter([("message".to_owned(), text.into())]);
    match json {
        Value::Object(mut members) => match members.remove("error") {
            Some(Value::Object(error)) => error,
            Some(Value::String(text)) => message(text),
            _ => members,
        },
        Value::String(text) => message(text),
        _ => Map::new(),
    }
}

/// Adds what is missing; `text` is all that the engine said. Within a stream there may be no status.
fn completed(mut error: Map<String, Value>, text: &[u8], status: Option<StatusCode>) -> Map<String, Value> {
    if !error.get("message").is_some_and(Value::is_string) {
        let text: String = String::from_utf8_lossy(text).trim().chars().take(MESSAGE_CHARS_MAX).collect();
        let message = match (text.is_empty(), status) {
            (false, _) => text,
            (true, Some(status)) => format!("the engine answered {status}"),
            (true, None) => "the engine failed and did not say why".to_owned(),
        };
        error.insert("message".to_owned(), message.into());
    }
    let is_overflow = exceeds_context(&error, status);
    if !error.get("type").is_some_and(Value::is_string) {
        let assumed = if is_overflow { StatusCode::BAD_REQUEST } else { StatusCode::INTERNAL_SERVER_ERROR };
        error.insert("type".to_owned(), openai_type(status.unwrap_or(assumed)).into());
    }
    // OpenAI's clients expect a word; llama.cpp repeats the status here.
    let has_word = error.get("code").and_then(Value::as_str).is_some_and(|code| code.parse::<u16>().is_err());
    if is_overflow || !has_word {
        let code = match status {
            _ if is_overflow => CONTEXT_LENGTH_EXCEEDED,
            Some(StatusCode::TOO_MANY_REQUESTS) => "rate_limit_exceeded",
            Some(status) if status.is_client_error() => "engine_refused",
            Some(_) | None => "engine_error",
        };
        error.insert("code".to_owned(), code.into());
    }
    error.entry("param").or_insert(Value::Null);
    error
}

/// A page of words is more than anyone reads in an error.
const MESSAGE_CHARS_MAX: usize = 2_000;

/// Clients shorten a conversation, or start another one, at this word.
const CONTEXT_LENGTH_EXCEEDED: &str = "context_length_exceeded";

/// The request, or what it asks for, does not fit the model's context.
fn exceeds_context(error: &Map<String, Value>, status: Option<StatusCode>) -> bool {
    let is_called_so = ["type", "code"].iter().any(|name| {
        let word = error.get(*name).and_then(Value::as_str);
        word.is_some_and(|word| [CONTEXT_LENGTH_EXCEEDED, "exceed_context_size_error"].contains(&word))
    });
    let is_counted =
        ["n_ctx", "n_prompt_tokens"].iter().all(|name| error.get(*name).is_some_and(Value::is_number));
    // An engine that fails at making a context says similar things, as a fault of its own.
    let may_be_words = status.is_none_or(|status| status.is_client_error());
    let message = error.get("message").and_then(Value::as_str).unwrap_or_default();
    is_called_so || is_counted || (may_be_words && says_that_context_is_exceeded(message))
}

fn says_that_context_is_exceeded(message: &str) -> bool {
    let message = message.to_lowercase();
    let has = |words: &[&str]| words.iter().any(|word| message.contains(word));
    has(&OVERFLOW_WORDS) || (has(&CONTEXT_WORDS) && has(&EXCESS_WORDS))
}

/// How engines call what is exceeded (llama.cpp, vLLM, SGLang, Ollama, LM Studio, llama-cpp-python) …
const CONTEXT_WORDS: [&str; 5] =
    ["context length", "context size", "context window", "context limit", "maximum model length"];
/// … and that it is.
const EXCESS_WORDS: [&str; 11] = [
    "exceed",
    "maximum",
    "longer than",
    "larger than",
    "greater than",
    "too long",
    "too large",
    "too big",
    "too small",
    "overflow",
    "not enough",
];
/// Those that say it otherwise (TGI, TabbyAPI, LMDeploy, TensorRT-LLM, older llama.cpp).
const OVERFLOW_WORDS: [&str; 9] = [
    "prompt is too long",
    "prompt too long",
    "input is too long",
    "maximum input length",
    "max_seq_len",
    "session_len",
    "`max_new_tokens` must be <=",
    "`inputs` must have less than",
    "too big compared to kv size",
];

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(status: u16, body: &str) -> Value {
        of_refusal(StatusCode::from_u16(status).unwrap(), body.as_bytes())["error"].clone()
    }

    /// HTTP-12.
    #[test]
    fn an_engines_error_keeps_its_words() {
        let body = r#"{"error":{"code":404,"message":"no such adapter","type":"not_found_error","x":[1]}}"#;
        assert_eq!(
            refused(404, body),
            json!({"code": "engine_refused", "message": "no such adapter", "type": "not_found_error", "x": [1], "param": null})
        );
        let body = r#"{"error":{"code":"insufficient_quota","message":"pay","type":"insufficient_quota","param":"n"}}"#;
        assert_eq!(
            refused(429, body),
            json!({"code": "insufficient_quota", "message": "pay", "type": "insufficient_quota", "param": "n"})
        );
        assert_eq!(
            refused(429, r#"{"error":{"code":"429","message":"slow down"}}"#)["code"],
            "rate_limit_exceeded"
        );
        assert_eq!(refused(429, "slow down")["type"], "rate_limit_error");
    }

    #[test]
    fn an_error_in_other_words_gets_the_envelope() {
        for (body, message) in [
            ("<h1>oops</h1>", "<h1>oops</h1>"),
            ("", "the engine answered 500 Internal Server Error"),
            (r#"{"error":"model busy"}"#, "model busy"),
            (r#"{"message":"no such thing","object":"error"}"#, "no such thing"),
            (r#"{"detail":[1]}"#, r#"{"detail":[1]}"#),
            (r#""busy""#, "busy"),
        ] {
            let error = refused(500, body);
            assert_eq!(error["message"], message);
            assert_eq!(
                (error["type"].as_str(), error["code"].as_str()),
                (Some("server_error"), Some("engine_error")),
                "{body}"
            );
        }
    }

    /// HTTP-12.
    #[test]
    fn a_context_that_is_exceeded_has_openais_word_whoever_says_it() {
        for body in [
            r#"{"error":{"code":400,"message":"request (2131 tokens) exceeds the available context size (2048 tokens), try increasing it","type":"exceed_context_size_error","n_prompt_tokens":2131,"n_ctx":2048}}"#,
            r#"{"error":{"code":400,"message":"zu lang","type":"exceed_context_size_error"}}"#,
            r#"{"error":{"code":400,"message":"zu lang","n_prompt_tokens":2131,"n_ctx":2048}}"#,
            r#"{"error":{"code":"400","message":"the request exceeds the available context size. try increasing the context size or enable context shift","type":"invalid_request_error"}}"#,
            r#"{"object":"error","message":"This model's maximum context length is 4096 tokens. However, you requested 5000 tokens (4000 in the messages, 1000 in the completion).","type":"BadRequestError","param":null,"code":400}"#,
            r#"{"error":{"message":"The decoder prompt (length 5000) is longer than the maximum model length of 4096.","code":"invalid_value"}}"#,
            r#"{"object":"error","message":"The input (5000 tokens) is longer than the model's context length (4096 tokens).","code":400}"#,
            r#"{"error":"the input length exceeds the context length"}"#,
            r#"{"error":"Input validation error: `inputs` tokens + `max_new_tokens` must be <= 4096. Given: 5000","error_type":"validation"}"#,
            r#"{"error":{"message":"Requested tokens (2131) exceed context window of 2048","type":"invalid_request_error","param":"messages","code":"context_length_exceeded"}}"#,
            "Trying to keep the first 5000 tokens when context overflows. The model is loaded with context length of only 4096 tokens, which is not enough",
        ] {
            assert_eq!(refused(400, body)["code"], "context_length_exceeded", "{body}");
            assert_eq!(in_stream(body.as_bytes())["error"]["code"], "context_length_exceeded", "{body}");
        }
        // Its own words stay, and a type that is missing is that of the client's error.
        assert_eq!(
            refused(400, r#"{"error":{"message":"x","type":"exceed_context_size_error"}}"#)["type"],
            "exceed_context_size_error"
        );
        assert_eq!(
            in_stream(b"the input length exceeds the context length")["error"]["type"],
            "invalid_request_error"
        );
        for (status, body) in [
            (
                400,
                r#"{"error":{"code":400,"message":"context must be a list","type":"invalid_request_error"}}"#,
            ),
            (400, r#"{"error":{"code":400,"message":"max_tokens is too large","n_ctx":2048}}"#),
            (500, r#"{"error":{"code":500,"message":"failed to create context: size exceeds memory"}}"#),
            (
                500,
                r#"{"error":{"code":500,"message":"input is too large to process. increase the physical batch size"}}"#,
            ),
        ] {
            assert_ne!(refused(status, body)["code"], "context_length_exceeded", "{body}");
        }
    }

    /// HTTP-12.
    #[test]
    fn within_a_stream_an_error_has_the_same_form() {
        let complete =
            json!({"error": {"message": "m", "type": "t", "code": "c", "param": null, "help": "h"}, "id": 1});
        assert_eq!(in_stream(complete.to_string().as_bytes()), complete);
        for (payload, message, kind, code) in [
            (
                r#"{"code":500,"message":"oops","type":"server_error"}"#,
                "oops",
                "server_error",
                "engine_error",
            ),
            (r#"{"error":{"code":400,"message":"bad"}}"#, "bad", "invalid_request_error", "engine_refused"),
            (r#"{"error":{"code":200,"message":"bad"}}"#, "bad", "server_error", "engine_error"),
            (r#"{"error":"busy"}"#, "busy", "server_error", "engine_error"),
            (r#"{"error":true}"#, r#"{"error":true}"#, "server_error", "engine_error"),
            ("out of memory", "out of memory", "server_error", "engine_error"),
            ("", "the engine failed and did not say why", "server_error", "engine_error"),
        ] {
            let told = in_stream(payload.as_bytes());
            let error = &told["error"];
            assert_eq!(
                (&error["message"], &error["type"], &error["code"]),
                (&json!(message), &json!(kind), &json!(code)),
                "{payload}"
            );
            assert_eq!(told.as_object().unwrap().len(), 1, "{told}");
        }
    }
}
