//! From "this runtime shall run" to a program that runs.

use std::sync::Arc;
use std::time::Duration;

use arw_kit::clock::Clock;
use arw_kit::life::ExitReason;
use arw_kit::mailbox::{Context, Fault};
use tokio::sync::oneshot;

use super::properties::asked_context;
use super::tending::{Launched, Tended};
use super::{RuntimeActor, RuntimeMessage, Serving, Shared};
use crate::model::ModelRecord;
use crate::model::fit::memory_needed;
use crate::runtime::directory::{DirectoryMessage, Load, RoomAnswer};
use crate::runtime::launcher::{Cause, Diagnosis, Endpoint, EngineExit, ExitStatus, LaunchSpec, Secret};
use crate::runtime::lease::EngineEnd;
use crate::runtime::machine::RuntimeEvent;
use crate::runtime::spec::{RuntimeSpec, is_key_name};

/// How a launch went.
pub(crate) enum LaunchOutcome {
    Runs(Box<Launched>),
    NoRoom(Diagnosis),
    Failed(Diagnosis),
}

/// Evicting others takes as long as their engines take to end.
const ROOM_PATIENCE: Duration = Duration::from_secs(60);
/// What a context takes when nobody says how long it is to be: as much as most engines take by themselves.
const CONTEXT_DEFAULT: u64 = 4096;

impl RuntimeActor {
    pub(super) fn launch(&mut self, context: &mut Context<RuntimeMessage>, attempt: u64) {
        // Whatever ran before is over: nobody is to be told its pid and its socket.
        self.engine = None;
        self.ended_pid = None;
        let (cancel, mut cancelled) = oneshot::channel();
        self.cancel_launch = Some(cancel);
        self.model = self.spec.model.as_deref().and_then(|model| self.args.models.find(model));
        self.needed_bytes = self.model.as_ref().map(|model| needed_bytes(&self.spec, model));
        let spec = Arc::clone(&self.spec);
        let (shared, model) = (self.args.clone(), self.model.clone());
        self.forget_who_left();
        let is_asked_for = self.is_asked_for || !self.waiting.is_empty();
        let (id, clock) = (spec.id.clone(), context.clock());
        let load = self.needed_bytes.map(|needed_bytes| Load { id, attempt, needed_bytes, is_asked_for });
        context.spawn(async move {
            let outcome = tokio::select! {
                outcome = launch(&spec, (&shared, clock), model, load, attempt) => outcome,
                // An error means that the actor is gone, which ends this task too.
                _ = &mut cancelled => LaunchOutcome::Failed(cancelled_diagnosis()),
            };
            RuntimeMessage::LaunchDone(attempt, outcome)
        });
    }

    pub(super) fn launch_done(
        &mut self,
        context: &mut Context<RuntimeMessage>,
        attempt: u64,
        outcome: LaunchOutcome,
    ) {
        self.cancel_launch = None;
        if attempt != self.machine.attempt() {
            // An engine of an old attempt: dropping it ends it, and counts it as alive until it has ended.
            return;
        }
        let event = match outcome {
            LaunchOutcome::Runs(launched) => {
                self.engine = Some(launched.serving.clone());
                self.tended = Some(Tended::begin(context, *launched, attempt));
                RuntimeEvent::Launched { attempt }
            }
            LaunchOutcome::NoRoom(diagnosis) => {
                self.note_failed_start(&diagnosis);
                RuntimeEvent::NoRoom { attempt, diagnosis }
            }
            LaunchOutcome::Failed(diagnosis) => {
                self.note_failed_start(&diagnosis);
                RuntimeEvent::LaunchFailed { attempt, diagnosis }
            }
        };
        self.feed(context, event);
    }

    fn note_failed_start(&self, diagnosis: &Diagnosis) {
        if diagnosis.cause == Cause::Stopped {
            // It was called off: nothing has failed, and nothing has run.
            return;
        }
        let text = diagnosis.detail.clone().into();
        self.engine_row.set_last_exit(ExitReason::StartFailed { text });
    }

    pub(super) fn exited(&mut self, context: &mut Context<RuntimeMessage>, attempt: u64, exit: EngineExit) {
        if attempt != self.machine.attempt() {
            return;
        }
        self.tended = None;
        // From now on nobody is told its pid and its socket.
        let engine = self.engine.take();
        self.ended_pid = engine.as_ref().and_then(|engine| engine.pid);
        let detail = exit.diagnosis.detail.clone().into();
        self.engine_row.set_last_exit(match exit.status {
            ExitStatus::Code(code) => ExitReason::ProcessExit { code, detail },
            ExitStatus::Signal(signal) => ExitReason::ProcessSignal { signal, detail },
            ExitStatus::KeeperLost => ExitReason::Crash { text: detail, while_handling: None },
        });
        let (by_us, diagnosis) = (exit.by_us, exit.diagnosis);
        let may_be_a_request = self.machine.ends_for_a_failure() || may_be_a_request(by_us, diagnosis.cause);
        let (detail, in_flight) = (diagnosis.detail.clone(), self.args.meter.in_flight());
        self.feed(context, RuntimeEvent::Exited { attempt, by_us, diagnosis });
        // Whoever hears of it looks for another runtime, and shall not find this one ready.
        if let Some((pid, Some(end))) = engine.as_ref().map(|engine| (engine.pid, &engine.end)) {
            end.send_replace(Some(EngineEnd { launch: attempt, pid, detail, may_be_a_request, in_flight }));
        }
    }
}

/// Whether what an engine was working on may have ended it. Memory that runs out counts: a request may be
/// what took it.
fn may_be_a_request(by_us: bool, cause: Cause) -> bool {
    !by_us && !matches!(cause, Cause::Stopped | Cause::Killed | Cause::KeeperLost)
}

async fn launch(
    spec: &RuntimeSpec,
    (shared, clock): (&Shared, Clock),
    model: Option<ModelRecord>,
    load: Option<Load>,
    attempt: u64,
) -> LaunchOutcome {
    if let Some(name) = &spec.model
        && model.is_none()
    {
        return LaunchOutcome::Failed(Diagnosis {
            cause: Cause::ModelMissing,
            detail: format!("model `{name}` is not in the model store"),
            hint: Some("import it: arw model import FILE --name NAME".to_owned()),
            permanent: true,
        });
    }
    shared.gauge.all_gone().await;
    let needed_bytes = load.as_ref().map_or(0, |load| load.needed_bytes);
    if let Some(load) = load
        && let Some(denied) = ask_for_room(shared, load).await
    {
        return LaunchOutcome::NoRoom(denied);
    }
    let launch = LaunchSpec {
        runtime: spec.id.clone(),
        attempt,
        program: spec.program.clone().unwrap_or_default(),
        args: spec.args.clone(),
        env: spec.env.clone(),
        model: model.map(|model| shared.models.path_of(&model)),
        allow_read: spec.allow_read.clone(),
        allow_exec: spec.allow_exec.clone(),
        allow_unix_connect: spec.allow_unix_connect,
        scratch: shared.scratch.clone(),
        log: Arc::clone(&shared.log),
    };
    match Launched::by(&shared.launcher, launch, &shared.gauge, (needed_bytes, clock)).await {
        Ok(launched) => LaunchOutcome::Runs(Box::new(launched)),
        Err(error) => LaunchOutcome::Failed(error.0),
    }
}

/// `None` when there is room.
async fn ask_for_room(shared: &Shared, load: Load) -> Option<Diagnosis> {
    let make_room = |reply| DirectoryMessage::MakeRoom(load, reply);
    let why = match shared.directory.ask(make_room, ROOM_PATIENCE).await {
        Ok(RoomAnswer::Granted) => return None,
        Ok(RoomAnswer::Denied(why)) => why,
        Err(error) => format!("the directory of runtimes does not answer: {error}"),
    };
    Some(Diagnosis {
        cause: Cause::OutOfMemory,
        detail: format!("not loaded: {why}"),
        hint: Some("stop another runtime, or use a smaller model, quantisation or context".to_owned()),
        permanent: false,
    })
}

fn cancelled_diagnosis() -> Diagnosis {
    Diagnosis {
        cause: Cause::Stopped,
        detail: "the start was cancelled".to_owned(),
        hint: None,
        permanent: false,
    }
}

fn needed_bytes(spec: &RuntimeSpec, model: &ModelRecord) -> u64 {
    let of_model = model.context_length.unwrap_or(CONTEXT_DEFAULT).min(CONTEXT_DEFAULT);
    memory_needed(model, asked_context(spec).unwrap_or(of_model), 1)
}

/// Where an external server is reached.
pub(super) fn external(spec: &RuntimeSpec) -> Result<Serving, Fault> {
    let url = spec.base_url.as_deref().unwrap_or_default();
    let secret = spec
        .api_key_env
        .as_deref()
        .filter(|name| is_key_name(name))
        .and_then(|name| std::env::var(name).ok());
    Ok(Serving {
        pid: None,
        endpoint: Some(Endpoint::Url(url.parse()?)),
        secret: secret.as_deref().map(Secret::new),
        sandbox: None,
        end: None,
    })
}
