//! Asks an engine how it is.

use std::sync::Arc;
use std::time::Duration;

use arw_kit::mailbox::Context;
use bytes::Bytes;
use http::{Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};

use super::{RuntimeActor, RuntimeMessage, Serving};
use crate::runtime::engine_client::{EngineClient, EngineError, EngineLook};
use crate::runtime::launcher::Endpoint;
use crate::runtime::machine::{HealthAnswer, ProbeKind, RuntimeEvent, RuntimeState};
use crate::runtime::spec::Adapter;

/// A health endpoint that takes longer is not well; llama.cpp's answers within a millisecond even under load.
const LIVENESS_TIMEOUT: Duration = Duration::from_secs(3);
/// One token of a short prompt; a large model on a slow machine may have to be paged in first.
const WORK_TIMEOUT: Duration = Duration::from_secs(20);
/// Answers to probes are small.
const ANSWER_MAX_BYTES: usize = 256 << 10;
/// Requests that fail come by the dozen; what one look has found holds for all of them.
const LOOK_AGAIN_AFTER: Duration = Duration::from_secs(1);

impl RuntimeActor {
    pub(super) fn probe(&mut self, context: &mut Context<RuntimeMessage>, attempt: u64, kind: ProbeKind) {
        let Some(engine) = self.engine.clone() else { return };
        let state = self.machine.state().0;
        let is_up = matches!(state, RuntimeState::Ready | RuntimeState::Degraded);
        let probe = match kind {
            ProbeKind::Liveness => liveness(self.spec.adapter, is_up),
            ProbeKind::Work => work(self.spec.model.as_deref()),
        };
        let (client, clock) = (self.args.client.clone(), context.clock());
        let gauge = self.tended.is_some().then(|| Arc::clone(&self.args.gauge));
        let timeout = match kind {
            ProbeKind::Liveness => LIVENESS_TIMEOUT,
            ProbeKind::Work => WORK_TIMEOUT,
        };
        // A program that was never reached may not have made its socket yet.
        let was_reached = state != RuntimeState::Starting;
        context.spawn(async move {
            let began = clock.now();
            let progress =
                || gauge.as_ref().and_then(|gauge| gauge.sample()).map_or(0, |sample| sample.progress);
            let before = progress();
            let mut answer = match tokio::time::timeout(timeout, ask(&client, &engine, probe, kind)).await {
                Ok(answer) => answer,
                // A program that works hard answers late; one that is stuck uses no time at all.
                Err(_) if progress() > before && kind == ProbeKind::Work => HealthAnswer::Busy,
                Err(_) => HealthAnswer::Failed(format!("no answer within {} s", timeout.as_secs())),
            };
            // Whatever came over a connection that was open already says nothing of the next one.
            if was_reached
                && let Some(endpoint) = &engine.endpoint
                && let Some(path) = client.gone_socket(endpoint).await
            {
                answer = HealthAnswer::SocketGone(path);
            }
            RuntimeMessage::Probed(attempt, kind, answer, clock.now().since(began))
        });
    }

    /// Waits for a request that did not reach the engine. There is one such wait or one look at any time.
    pub(super) fn await_doubts(&self, context: &mut Context<RuntimeMessage>, pause: Duration) {
        let meter = Arc::clone(&self.args.meter);
        context.spawn(async move {
            tokio::time::sleep(pause).await;
            meter.doubted().await;
            RuntimeMessage::Doubted
        });
    }

    pub(super) fn look(&self, context: &mut Context<RuntimeMessage>) {
        let Some(endpoint) = self.engine.as_ref().and_then(|engine| engine.endpoint.clone()) else {
            // It has ended since.
            self.await_doubts(context, LOOK_AGAIN_AFTER);
            return;
        };
        let (attempt, client) = (self.machine.attempt(), self.args.client.clone());
        context.spawn(async move { RuntimeMessage::Looked(attempt, client.look(&endpoint).await) });
    }

    pub(super) fn looked(&mut self, context: &mut Context<RuntimeMessage>, attempt: u64, found: EngineLook) {
        match found {
            EngineLook::Accepts => {}
            EngineLook::Refuses => self.feed(context, RuntimeEvent::Refused { attempt }),
            EngineLook::Gone(path) => {
                self.end_when_idle(context, RuntimeEvent::SocketGone { attempt, path });
            }
        }
        self.await_doubts(context, LOOK_AGAIN_AFTER);
    }

    /// Tells the machine how far the program has come.
    pub(super) fn note_progress(&mut self, context: &mut Context<RuntimeMessage>, attempt: u64) {
        if let Some(tended) = &self.tended {
            let counter = tended.sample().progress;
            self.feed(context, RuntimeEvent::Progressed { attempt, counter });
        }
    }
}

fn liveness(adapter: Adapter, is_up: bool) -> Result<Request<Full<Bytes>>, http::Error> {
    let path = match adapter {
        Adapter::LlamaCpp | Adapter::Process => "/health",
        Adapter::Openai => "/v1/models",
    };
    let mut request = Request::builder().method(Method::GET).uri(path);
    if is_up {
        // A connection of its own: requests need new ones, and one that is open already says nothing of
        // those.
        request = request.header(header::CONNECTION, "close");
    }
    request.body(Full::new(Bytes::new()))
}

fn work(model: Option<&str>) -> Result<Request<Full<Bytes>>, http::Error> {
    let body = serde_json::json!({
        "model": model.unwrap_or("default"), "prompt": "a", "max_tokens": 1, "temperature": 0, "stream": false
    });
    Request::builder()
        .method(Method::POST)
        .uri("/v1/completions")
        .header(header::CONTENT_TYPE, "application/json")
        .body(Full::new(Bytes::from(body.to_string())))
}

async fn ask(
    client: &EngineClient,
    engine: &Serving,
    request: Result<Request<Full<Bytes>>, http::Error>,
    kind: ProbeKind,
) -> HealthAnswer {
    let Some(endpoint) = &engine.endpoint else { return HealthAnswer::Ok };
    let request = match request {
        Ok(request) => request,
        Err(error) => return HealthAnswer::Failed(error.to_string()),
    };
    let answer = match client.send(endpoint, engine.secret.as_ref(), request).await {
        Ok(answer) => answer,
        Err(error) => return HealthAnswer::Unreachable(unreachable(&error, endpoint)),
    };
    let status = answer.status();
    // Read to its end, so that the connection can be used again.
    let body = Limited::new(answer.into_body(), ANSWER_MAX_BYTES).collect().await;
    if let Err(error) = body {
        return HealthAnswer::Failed(format!("its answer breaks off: {error}"));
    }
    judge(status, kind, matches!(endpoint, Endpoint::Url(_)))
}

/// The last cause says what happened, for example that the connection was refused; those above it name layers
/// of the client.
fn unreachable(error: &EngineError, endpoint: &Endpoint) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(below) = cause.source() {
        cause = below;
    }
    match endpoint {
        Endpoint::Url(url) => format!("{cause} at {url}"),
        Endpoint::Tcp(address) => format!("{cause} at {address}"),
        Endpoint::Unix(path) => format!("{cause} at {}", path.display()),
    }
}

fn judge(status: StatusCode, kind: ProbeKind, is_external: bool) -> HealthAnswer {
    match (status, kind) {
        (StatusCode::OK, _) => HealthAnswer::Ok,
        (StatusCode::SERVICE_UNAVAILABLE, ProbeKind::Liveness) => HealthAnswer::Loading,
        (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN, _) if is_external => {
            HealthAnswer::Failed(format!("it refuses our key ({status}): check api_key_env"))
        }
        // A server without this endpoint is no worse for it.
        (StatusCode::NOT_FOUND | StatusCode::NOT_IMPLEMENTED, ProbeKind::Work) => HealthAnswer::Busy,
        (StatusCode::NOT_FOUND, ProbeKind::Liveness) if !is_external => HealthAnswer::Ok,
        (status, _) => HealthAnswer::Failed(format!("it answers {status}")),
    }
}
