//! Takes runtimes away: out of the file first, off the list when their programs have ended.

use std::sync::Arc;
use std::time::Duration;

use arw_kit::mailbox::{Context, MonitorGuard, Reply};
use arw_kit::moment::Moment;

use super::actor::{DirectoryActor, STOP_MARGIN, SUPERVISOR_PATIENCE};
use super::client::{ControlError, DirectoryMessage, Entry};
use super::file::Unsaved;
use crate::ids::RuntimeId;
use crate::journal::event;
use crate::runtime::actor::Gauge;

/// A runtime that was removed and has not ended yet.
pub(super) struct Leaving {
    /// Tells the messages of one removal from those of the next of the same id.
    pub(super) number: u64,
    _monitor: MonitorGuard,
    /// Whoever waits for its end; `None` where nobody does, or has been told that it takes longer.
    pub(super) reply: Option<Reply<Result<(), ControlError>>>,
}

/// Beyond an engine's grace and its killing: the supervisor's own turn.
const GONE_MARGIN: Duration = Duration::from_secs(4);
/// Clients of the API wait 30 s; they are told before that what takes so long.
const ANSWER_WITHIN: Duration = Duration::from_secs(25);

impl DirectoryActor {
    /// Takes a runtime out of the file; the rest follows when that is written.
    pub(super) fn remove(
        &mut self,
        id: RuntimeId,
        reply: Reply<Result<(), ControlError>>,
        context: &mut Context<DirectoryMessage>,
    ) {
        if let Some(at) = self.dormant.iter().position(|spec| spec.id == id) {
            let spec = Box::new(self.dormant.swap_remove(at));
            self.save(Unsaved::Dropped { spec, reply }, context);
            return;
        }
        let error = match self.members.get_mut(&id) {
            Some(member) if member.is_configured => ControlError::Configured(id),
            Some(member) if member.is_going => ControlError::StillEnding(id),
            None if self.leaving.contains_key(&id) => ControlError::StillEnding(id),
            Some(member) => {
                member.is_going = true;
                self.save(Unsaved::Removed { id, reply }, context);
                return;
            }
            None => {
                let known = self.members.keys().map(ToString::to_string).collect();
                ControlError::Unknown { id: id.to_string(), known }
            }
        };
        // Whoever asked may have given up.
        let _ = reply.send(Err(error));
    }

    /// Ends a runtime that is in no file any more; whoever asked hears of it when it has ended (see `gone`).
    pub(super) async fn take_away(
        &mut self,
        id: &RuntimeId,
        reply: Option<Reply<Result<(), ControlError>>>,
        context: &mut Context<DirectoryMessage>,
    ) {
        let Some(member) = self.members.remove(id) else { return };
        self.held.remove(id);
        self.removals += 1;
        let number = self.removals;
        self.leaving.insert(id.clone(), Leaving { number, _monitor: member.monitor, reply });
        self.args.supervisor.remove(id.as_str(), SUPERVISOR_PATIENCE).await;
        let deadline = (self.args.settings.stop_grace + STOP_MARGIN + GONE_MARGIN).min(ANSWER_WITHIN);
        context.after(deadline, DirectoryMessage::Overdue(id.clone(), number));
    }

    /// The actor of a runtime that was removed has ended: RUN-1, its id is free when its programs have, too.
    pub(super) fn actor_ended(&mut self, id: &RuntimeId, context: &mut Context<DirectoryMessage>) {
        let Some(number) = self.leaving.get(id).map(|leaving| leaving.number) else { return };
        match self.gauge(id) {
            Some(gauge) if gauge.is_alive() => await_end(id, number, gauge, context),
            Some(_) | None => self.gone(id, number, context.now()),
        }
    }

    /// It takes longer than anybody waits: a program that the kernel cannot end, or a long grace.
    pub(super) fn overdue(&mut self, id: &RuntimeId, number: u64, context: &mut Context<DirectoryMessage>) {
        let Some(leaving) = self.leaving.get_mut(id).filter(|leaving| leaving.number == number) else {
            return;
        };
        if let Some(reply) = leaving.reply.take() {
            let _ = reply.send(Err(ControlError::StillEnding(id.clone())));
        }
        // Its actor may have ended without a word that came through.
        match self.gauge(id) {
            Some(gauge) => await_end(id, number, gauge, context),
            None => self.gone(id, number, context.now()),
        }
    }

    /// A runtime that was removed has ended.
    pub(super) fn gone(&mut self, id: &RuntimeId, number: u64, now: Moment) {
        let is_it = self.leaving.get(id).is_some_and(|leaving| leaving.number == number);
        let Some(leaving) = self.leaving.remove(id).filter(|_| is_it) else { return };
        self.loads.room.forget(id);
        if let Some(gauge) = self.gauge(id) {
            self.args.board.note_removed(gauge, now);
        }
        let mut entries = self.args.board.entries.load().as_ref().clone();
        entries.retain(|entry| entry.spec.id != *id);
        self.args.board.entries.store(Arc::new(entries));
        self.args.board.changed();
        self.args.journal.append(event::Runtime::Removed { id: id.to_string() });
        if let Some(reply) = leaving.reply {
            // Whoever asked may have given up.
            let _ = reply.send(Ok(()));
        }
    }

    fn gauge(&self, id: &RuntimeId) -> Option<Arc<Gauge>> {
        let entries = self.args.board.entries.load();
        let entry: Option<&Entry> = entries.iter().find(|entry| entry.spec.id == *id);
        entry.map(|entry| Arc::clone(&entry.gauge))
    }
}

fn await_end(id: &RuntimeId, number: u64, gauge: Arc<Gauge>, context: &mut Context<DirectoryMessage>) {
    let id = id.clone();
    context.spawn(async move {
        gauge.all_gone().await;
        DirectoryMessage::Gone(id, number)
    });
}
