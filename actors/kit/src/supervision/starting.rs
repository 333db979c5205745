//! Starts children without letting a slow one hold up its supervisor.
//!
//! A start runs in its caller, so one that does not finish at once goes on in a task of its own, with a
//! deadline.

use std::sync::Arc;

use futures_util::FutureExt;
use ractor::ActorRef;
use tokio::sync::oneshot;

use super::child::Running;
use super::machine::{ChildKey, SupervisorEvent};
use super::spec::AddChildError;
use super::supervisor::{SupervisorMessage, SupervisorState};
use crate::life::ExitReason;

impl SupervisorState {
    /// Begins a start; what is over at once comes back as an event.
    pub(super) fn start(
        &mut self,
        myself: &ActorRef<SupervisorMessage>,
        key: ChildKey,
    ) -> Option<SupervisorEvent> {
        let slot = self.slots.get_mut(&key)?;
        let deadline = slot.start_deadline;
        let mut start = Arc::clone(&slot.child).start(myself.get_cell());
        if let Some(result) = (&mut start).now_or_never() {
            return self.start_event(key, result);
        }
        let (cancel, mut cancelled) = oneshot::channel();
        slot.cancel = Some(cancel);
        self.starting += 1;
        let myself = myself.clone();
        tokio::spawn(async move {
            let result = tokio::select! {
                biased;
                result = tokio::time::timeout(deadline, &mut start) => result
                    .unwrap_or_else(|_| Err(format!("the start took longer than {deadline:?}").into())),
                // An error means that the supervisor is gone, which ends the start too.
                _ = &mut cancelled => Err("the start was cancelled".into()),
            };
            drop(start);
            // Only a supervisor that is gone cannot take this, and then its children are killed.
            let _ = myself.cast(SupervisorMessage::StartDone(key, result));
        });
        None
    }

    pub(super) fn start_done(
        &mut self,
        myself: &ActorRef<SupervisorMessage>,
        key: ChildKey,
        result: Result<Running, Arc<str>>,
    ) {
        self.starting = self.starting.saturating_sub(1);
        let early = match &result {
            Ok(running) => self.early_exits.remove(&running.cell.get_id()),
            Err(_) => None,
        };
        if self.starting == 0 {
            self.early_exits.clear();
        }
        let id = result.as_ref().ok().map(|running| running.cell.get_id());
        if let Some(event) = self.start_event(key, result) {
            self.feed(myself, event);
        }
        if let (Some(reason), Some(id)) = (early, id) {
            self.exit_reported(myself, id, reason);
        }
    }

    fn start_event(&mut self, key: ChildKey, result: Result<Running, Arc<str>>) -> Option<SupervisorEvent> {
        let slot = self.slots.get_mut(&key)?;
        slot.cancel = None;
        let added = slot.added.take();
        Some(match result {
            Ok(running) => {
                self.by_actor.insert(running.cell.get_id(), key);
                slot.running = Some(running);
                if let Some(added) = added {
                    // Whoever added it may have given up.
                    let _ = added.send(Ok(()));
                }
                self.note_restart(key);
                SupervisorEvent::Started(key)
            }
            Err(text) => {
                slot.child.record().set_last_exit(ExitReason::StartFailed { text: Arc::clone(&text) });
                if let Some(added) = added {
                    // Whoever added it may have given up.
                    let _ = added.send(Err(AddChildError::StartFailed(Arc::clone(&text))));
                }
                SupervisorEvent::StartFailed(key, text)
            }
        })
    }

    pub(super) fn cancel_start(&mut self, key: ChildKey) {
        if let Some(slot) = self.slots.get_mut(&key)
            && !slot.child.cancel_start()
            && let Some(cancel) = slot.cancel.take()
        {
            // It may just have ended.
            let _ = cancel.send(());
        }
    }
}
