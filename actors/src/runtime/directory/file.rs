//! Keeps the file in step with the list: one write at a time, the newest state wins, and whoever waits for it
//! is answered then.
//!
//! Nothing here waits for a disk: memory is asked for meanwhile.

use arw_kit::mailbox::{Context, Reply};
use tracing::warn;

use super::actor::DirectoryActor;
use super::client::{AddRuntimeError, ControlError, DirectoryMessage, Entry};
use super::saved::Saved;
use crate::ids::RuntimeId;
use crate::journal::event;
use crate::runtime::spec::RuntimeSpec;

/// What waits for the file.
pub(crate) enum Unsaved {
    /// A runtime was added, and is started once that is written.
    Added { spec: Box<RuntimeSpec>, reply: Reply<Result<(), AddRuntimeError>> },
    /// A runtime is to go. It is taken down once that is written.
    Removed { id: RuntimeId, reply: Reply<Result<(), ControlError>> },
    /// A runtime that could not be added when the node started is taken off the list.
    Dropped { spec: Box<RuntimeSpec>, reply: Reply<Result<(), ControlError>> },
    /// An operator has stopped a runtime, or has started it.
    Held(RuntimeId),
    /// Somebody wants to know when everything so far is written.
    Flushed(Reply<Result<(), String>>),
}

impl DirectoryActor {
    pub(super) fn save(&mut self, unsaved: Unsaved, context: &mut Context<DirectoryMessage>) {
        self.unsaved.push(unsaved);
        self.write_next(context);
    }

    /// Answers when everything so far is written: at once where nothing is to be.
    pub(super) fn flush(
        &mut self,
        reply: Reply<Result<(), String>>,
        context: &mut Context<DirectoryMessage>,
    ) {
        if self.is_writing || !self.unsaved.is_empty() {
            self.save(Unsaved::Flushed(reply), context);
        } else {
            // Whoever asked may have given up.
            let _ = reply.send(Ok(()));
        }
    }

    fn write_next(&mut self, context: &mut Context<DirectoryMessage>) {
        if self.unsaved.is_empty() || std::mem::replace(&mut self.is_writing, true) {
            return;
        }
        let batch = std::mem::take(&mut self.unsaved);
        // What could not be read is not written over.
        let unread = self.unread.clone();
        let (file, saved) = (self.saved.clone(), self.contents());
        context.spawn(async move {
            if let Some(why) = unread {
                return DirectoryMessage::Written(batch, Err(why));
            }
            // On a thread that may block: a disk may take its time.
            let written = tokio::task::spawn_blocking(move || file.write(saved)).await;
            let written = match written {
                Ok(written) => written.map_err(|error| error.to_string()),
                Err(error) => Err(error.to_string()),
            };
            DirectoryMessage::Written(batch, written)
        });
    }

    /// What the file is to hold: what was added while the node ran, but for what is to go.
    fn contents(&self) -> Saved {
        let entries = self.args.board.entries.load();
        let is_saved = |entry: &&Entry| {
            let member = self.members.get(&entry.spec.id);
            member.is_some_and(|member| !member.is_configured && !member.is_going)
        };
        let added = entries.iter().filter(is_saved).map(|entry| entry.spec.as_ref().clone());
        let runtimes = added.chain(self.dormant.iter().cloned()).collect();
        let stays = |id: &&RuntimeId| self.members.get(*id).is_none_or(|member| !member.is_going);
        Saved { runtimes, held: self.held.iter().filter(stays).cloned().collect() }
    }

    pub(super) async fn written(
        &mut self,
        batch: Vec<Unsaved>,
        written: Result<(), String>,
        context: &mut Context<DirectoryMessage>,
    ) {
        self.is_writing = false;
        for unsaved in batch {
            // Whoever asked may have given up.
            match (unsaved, written.clone()) {
                (Unsaved::Added { spec, reply }, Ok(())) => {
                    self.args.journal.append(event::Runtime::Added {
                        id: spec.id.to_string(),
                        adapter: spec.adapter.word().to_owned(),
                        model: spec.model.clone(),
                    });
                    if spec.auto_start {
                        self.boot_runtime(&spec.id);
                    }
                    let _ = reply.send(Ok(()));
                }
                (Unsaved::Added { spec, reply }, Err(why)) => {
                    self.take_away(&spec.id, None, context).await;
                    let _ = reply.send(Err(AddRuntimeError::NotSaved(why)));
                }
                (Unsaved::Removed { id, reply }, Ok(())) => self.take_away(&id, Some(reply), context).await,
                (Unsaved::Removed { id, reply }, Err(why)) => {
                    if let Some(member) = self.members.get_mut(&id) {
                        member.is_going = false;
                    }
                    let _ = reply.send(Err(ControlError::NotSaved(why)));
                }
                (Unsaved::Dropped { reply, .. }, Ok(())) => drop(reply.send(Ok(()))),
                (Unsaved::Dropped { spec, reply }, Err(why)) => {
                    self.dormant.push(*spec);
                    let _ = reply.send(Err(ControlError::NotSaved(why)));
                }
                (Unsaved::Flushed(reply), written) => drop(reply.send(written)),
                (Unsaved::Held(_), Ok(())) => {}
                (Unsaved::Held(id), Err(error)) => {
                    warn!(runtime = %id, error, "that an operator has stopped or started it is not written down");
                }
            }
        }
        self.write_next(context);
    }

    /// An operator's stop outlives the node.
    pub(super) fn note_held(
        &mut self,
        id: RuntimeId,
        is_held: bool,
        context: &mut Context<DirectoryMessage>,
    ) {
        if !self.members.contains_key(&id) {
            return;
        }
        let has_changed = if is_held { self.held.insert(id.clone()) } else { self.held.remove(&id) };
        if has_changed {
            self.save(Unsaved::Held(id), context);
        }
    }
}
