//! Asks a ready engine what it really offers: arguments and files only say what was asked for.

use std::time::Duration;

use arw_kit::mailbox::Context;
use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use serde::Deserialize;
use tracing::debug;

use super::{RuntimeActor, RuntimeMessage, Serving};
use crate::runtime::engine_client::EngineClient;
use crate::runtime::spec::{Adapter, RuntimeSpec};

/// It is answered from memory, in milliseconds; an engine that is busy with prompts may take longer.
const PATIENCE: Duration = Duration::from_secs(5);
/// A chat template is some ten kilobytes long, and comes with the answer.
const ANSWER_MAX_BYTES: usize = 1 << 20;

/// The part of llama.cpp's `GET /props` that is of use.
#[derive(Debug, Deserialize)]
struct Properties {
    default_generation_settings: GenerationSettings,
}

#[derive(Debug, Deserialize)]
struct GenerationSettings {
    /// The tokens of one conversation: the whole context divided among the slots.
    n_ctx: u64,
}

impl RuntimeActor {
    /// Begins to ask; the answer comes as a message.
    pub(super) fn ask_properties(&mut self, context: &mut Context<RuntimeMessage>) {
        let Some(engine) = self.engine.clone().filter(|_| self.spec.adapter == Adapter::LlamaCpp) else {
            return;
        };
        let (client, attempt, id) = (self.args.client.clone(), self.machine.attempt(), self.spec.id.clone());
        context.spawn(async move {
            let asked = tokio::time::timeout(PATIENCE, context_tokens(&client, &engine)).await;
            let context_tokens = asked.unwrap_or_else(|_| Err("no answer".to_owned()));
            if let Err(why) = &context_tokens {
                debug!(runtime = %id, why, "the engine does not tell how long its context is");
            }
            RuntimeMessage::ContextAsked(attempt, context_tokens.ok())
        });
    }

    pub(super) fn context_asked(
        &mut self,
        context: &Context<RuntimeMessage>,
        attempt: u64,
        tokens: Option<u64>,
    ) {
        // What an engine said once is a better guess for the next one than what was asked for.
        if attempt == self.machine.attempt() && tokens.is_some() && tokens != self.context_tokens {
            self.context_tokens = tokens;
            self.publish(context);
        }
    }

    /// The most tokens of a conversation: what the engine said, else what its arguments ask for, else what
    /// the model was made for.
    pub(super) fn context_length(&self) -> Option<u64> {
        let model = || self.model.as_ref().and_then(|model| model.context_length);
        self.context_tokens.or_else(|| asked_context_per_slot(&self.spec)).or_else(model)
    }
}

async fn context_tokens(client: &EngineClient, engine: &Serving) -> Result<u64, String> {
    let endpoint = engine.endpoint.as_ref().ok_or("it has no address")?;
    let request = Request::builder().method(Method::GET).uri("/props").body(Full::new(Bytes::new()));
    let request = request.map_err(|error| error.to_string())?;
    let sent = client.send(endpoint, engine.secret.as_ref(), request).await;
    let answer = sent.map_err(|error| error.to_string())?;
    if answer.status() != StatusCode::OK {
        return Err(format!("it answers {}", answer.status()));
    }
    let body = Limited::new(answer.into_body(), ANSWER_MAX_BYTES).collect().await;
    let body = body.map_err(|error| error.to_string())?.to_bytes();
    let properties: Properties = serde_json::from_slice(&body).map_err(|error| error.to_string())?;
    let tokens = properties.default_generation_settings.n_ctx;
    if tokens == 0 { Err("it says 0".to_owned()) } else { Ok(tokens) }
}

/// The context that the program's arguments ask for, in all.
pub(super) fn asked_context(spec: &RuntimeSpec) -> Option<u64> {
    // 0 means "what the model was made for".
    number_after(spec, &["-c", "--ctx-size"]).filter(|&tokens| tokens > 0)
}

/// llama.cpp divides the context among the conversations that it serves at once.
fn asked_context_per_slot(spec: &RuntimeSpec) -> Option<u64> {
    let slots = number_after(spec, &["-np", "--parallel"]).filter(|&slots| slots > 0).unwrap_or(1);
    Some(asked_context(spec)? / slots)
}

/// The number that follows one of these options; the last one counts, as it does for llama.cpp.
fn number_after(spec: &RuntimeSpec, names: &[&str]) -> Option<u64> {
    let mut args = spec.args.iter();
    let mut found = None;
    while let Some(arg) = args.next() {
        let (name, value) = match arg.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (arg.as_str(), None),
        };
        if names.contains(&name) {
            let value = value.or_else(|| args.next().map(String::as_str));
            found = value.and_then(|value| value.parse().ok());
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_context_is_divided_among_the_slots() {
        for (args, whole, per_slot) in [
            ("--ctx-size 2048 --parallel 4", Some(2048), Some(512)),
            ("-c 2048 -np 2", Some(2048), Some(1024)),
            ("--ctx-size=4096 --parallel=4", Some(4096), Some(1024)),
            ("--ctx-size 2048", Some(2048), Some(2048)),
            ("-c 1024 -c 2048", Some(2048), Some(2048)),
            ("--ctx-size 0 --parallel 4", None, None),
            ("--ctx-size many", None, None),
            ("--ctx-size", None, None),
            ("--parallel 0 -c 64", Some(64), Some(64)),
            ("--parallel 4", None, None),
        ] {
            let args: Vec<_> = args.split(' ').collect();
            let spec =
                serde_json::json!({"id": "a", "adapter": "llama_cpp", "program": "/bin/a", "args": args});
            let spec: RuntimeSpec = serde_json::from_value(spec).unwrap();
            assert_eq!((asked_context(&spec), asked_context_per_slot(&spec)), (whole, per_slot), "{args:?}");
        }
    }
}
