//! Takes runtimes away: out of the file at once, off the list when their programs have ended.

use std::sync::Arc;
use std::time::Duration;

use super::actor::{DirectoryActor, STOP_MARGIN, SUPERVISOR_PATIENCE};
use super::client::{ControlError, DirectoryMessage};
use crate::ids::RuntimeId;
use crate::journal::Event;
use crate::mailbox::{Context, MonitorGuard, Reply};

/// A runtime that was removed and whose actor has not ended yet.
pub(super) struct Leaving {
    pub(super) number: u64,
    _monitor: MonitorGuard,
    reply: Reply<Result<(), ControlError>>,
}

/// Beyond that: the supervisor's own turn.
const GONE_MARGIN: Duration = Duration::from_secs(4);

impl DirectoryActor {
    /// Takes a runtime out of the file and ends its actor; whoever asked hears of it when that has ended (see `gone`).
    pub(super) async fn remove(
        &mut self,
        id: RuntimeId,
        reply: Reply<Result<(), ControlError>>,
        context: &mut Context<DirectoryMessage>,
    ) {
        if let Err(error) = self.check_removal(&id) {
            // Whoever asked may have given up.
            let _ = reply.send(Err(error));
            return;
        }
        let mut specs = self.saved_specs();
        specs.retain(|spec| spec.id != id);
        self.held.remove(&id);
        if let Err(error) = self.save(specs).await {
            let _ = reply.send(Err(ControlError::NotSaved(error)));
            return;
        }
        let Some(member) = self.members.remove(&id) else { return };
        self.removals += 1;
        let number = self.removals;
        self.leaving.insert(id.clone(), Leaving { number, _monitor: member.monitor, reply });
        self.take_down(&id).await;
        // Its supervisor kills what does not end in time; after that nothing more would be told.
        let deadline = self.args.settings.stop_grace + STOP_MARGIN + GONE_MARGIN;
        context.after(deadline, DirectoryMessage::Gone(id, number));
    }

    fn check_removal(&self, id: &RuntimeId) -> Result<(), ControlError> {
        match self.members.get(id) {
            Some(member) if member.is_configured => Err(ControlError::Configured(id.clone())),
            Some(_) => Ok(()),
            None => {
                let known = self.members.keys().map(ToString::to_string).collect();
                Err(ControlError::Unknown { id: id.to_string(), known })
            }
        }
    }

    pub(super) async fn take_down(&self, id: &RuntimeId) {
        self.args.supervisor.remove(id.as_str(), SUPERVISOR_PATIENCE).await;
    }

    /// A runtime that was removed has ended.
    pub(super) fn gone(&mut self, id: &RuntimeId) {
        let Some(leaving) = self.leaving.remove(id) else { return };
        self.forget(id);
        self.args.journal.append(Event::RuntimeRemoved { id: id.to_string() });
        // Whoever asked may have given up.
        let _ = leaving.reply.send(Ok(()));
    }

    pub(super) fn forget(&mut self, id: &RuntimeId) {
        self.members.remove(id);
        self.held.remove(id);
        let mut entries = self.args.board.entries.load().as_ref().clone();
        entries.retain(|entry| entry.spec.id != *id);
        self.args.board.entries.store(Arc::new(entries));
        self.args.board.changed();
    }
}
