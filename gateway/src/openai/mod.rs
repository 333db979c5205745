//! `/v1`: the OpenAI-compatible API.
//!
//! Owns the way of a request to an engine, here or on another node, and of its answer back. Refuses to start
//! engines: acquiring one is the kernel's business.

mod answer;
mod attempt;
mod body;
mod dto;
mod engine_error;
mod event;
mod forward;
mod model_name;
mod near_name;
mod retry;

mod fate;
mod lane;
mod suspects;
mod trial;
#[cfg(test)]
mod trial_tests;

mod early;
mod idle_timeout;
mod refusal;
mod relay;
mod route;
mod stream;
mod tail;
mod ticket;

pub(crate) mod models;

pub(crate) use trial::Trials;

use arw_actors::policy::Scope;
use axum::extract::{Extension, Request, State};
use axum::response::Response;

use crate::extract::check_json;
use crate::limits;
use crate::peer::{self, PeerNode};
use crate::problem::{OpenAiError, Problem};
use crate::resource::resource;
use crate::shared::Gate;
use crate::trace::Trace;
use forward::{Reach, Route};
use tracing::{Instrument, debug_span};

resource! { "v1", "Compatible with OpenAI's API":
    get("/v1/models", Needs(Scope::Infer), models::list),
    get("/v1/models/{*id}", Needs(Scope::Infer), models::show),
    post("/v1/chat/completions", Needs(Scope::Infer), chat_completions),
    post("/v1/completions", Needs(Scope::Infer), completions),
    post("/v1/embeddings", Needs(Scope::Infer), embeddings),
}

macro_rules! forwarded {
    ($name:ident, $name_here:ident, $path:literal, $streams:literal, $about:literal) => {
        #[doc = $about]
        #[utoipa::path(post, path = $path, tag = "v1",
            request_body(content = Value, description = "as OpenAI's; it goes to the engine as sent, with the engine's own model name"),
            responses(
                (status = 200, body = Value, description = "the engine's answer, as OpenAI's; a stream where `stream` is true"),
                (status = 400, body = OpenAiError, description = "not JSON, or no model named where several serve"),
                (status = 401, body = OpenAiError),
                (status = 404, body = OpenAiError, description = "unknown model; `known` lists what could have been named"),
                (status = 415, body = OpenAiError, description = "not JSON, compressed, or in another charset than UTF-8"),
                (status = 422, body = OpenAiError, description = "an ill-typed `model`, `stream` or `stream_options`; or engines have died of this request (`kills_engine`)"),
                (status = 429, body = OpenAiError, description = "too many requests wait for this runtime"),
                (status = 502, body = OpenAiError, description = "the engine or the node that answered was lost"),
                (status = 503, body = OpenAiError, description = "the runtime is not ready; `runtime` says why. Or the node that serves it cannot be reached; `nodes` says why"),
                (status = 504, body = OpenAiError, description = "the engine sent nothing for `gateway.answer_idle_timeout`"),
            ))]
        pub(crate) async fn $name(State(gate): State<Gate>, request: Request) -> Result<Response, Problem> {
            check_json(request.headers())?;
            answer(&gate, Route { path: $path, streams: $streams }, Reach::Cluster, request).await
        }

        /// The same for another node: answered here or not at all.
        pub(crate) async fn $name_here(
            State(gate): State<Gate>,
            Extension(from): Extension<PeerNode>,
            request: Request,
        ) -> Result<Response, Problem> {
            let verdict = peer::admit(&gate, from).and_then(|()| check_json(request.headers()));
            if let Err(refusal) = verdict {
                // HTTP-18: a node hears of it only after it has sent all.
                let _ = limits::read_body_of_node(request.into_body(), &gate.settings).await;
                return Err(refusal);
            }
            answer(&gate, Route { path: $path, streams: $streams }, Reach::Here, request).await
        }
    };
}

forwarded!(chat_completions, chat_completions_here, "/v1/chat/completions", true, "Answers a conversation.");
forwarded!(completions, completions_here, "/v1/completions", true, "Continues a text.");
forwarded!(embeddings, embeddings_here, "/v1/embeddings", false, "Turns texts into vectors.");

async fn answer(gate: &Gate, route: Route, reach: Reach, request: Request) -> Result<Response, Problem> {
    let trace = Trace::of(request.headers());
    let bytes = match reach {
        Reach::Cluster => limits::read_body(request.into_body(), &gate.settings).await?,
        Reach::Here => limits::read_body_of_node(request.into_body(), &gate.settings).await?,
    };
    // HTTP-20: the span's name and field are the same on every node on the way.
    let span = debug_span!("inference", trace_id = trace.map(tracing::field::display), route = route.path);
    forward::forward(gate, route, reach, trace, bytes).instrument(span).await
}
