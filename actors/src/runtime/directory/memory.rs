//! Hands out memory to runtimes that load.
//!
//! Acts on what `room.rs` decides: grants, asks idle runtimes to go, denies.

use std::time::Duration;

use super::actor::DirectoryActor;
use super::client::{DirectoryMessage, Entry};
use super::room::{Holder, Room, RoomAnswer, make_room};
use crate::hardware::refresh_memory;
use crate::ids::RuntimeId;
use crate::mailbox::{Context, Reply};
use crate::moment::Moment;
use crate::runtime::actor::RuntimeMessage;
use crate::runtime::machine::RuntimeState;

/// A load that wants memory.
pub(super) struct Wish {
    pub(super) id: RuntimeId,
    pub(super) needed: u64,
    pub(super) reply: Reply<RoomAnswer>,
    pub(super) since: Moment,
}

/// After eviction engines take a moment to end; memory is looked at again this often.
const LOOK_AGAIN: Duration = Duration::from_millis(50);
/// Evicted engines have ended well before (their own grace is 10 s).
const ROOM_WAIT: Duration = Duration::from_secs(30);
/// By then a load has its memory, or has failed.
const PROMISE_HOLDS: Duration = Duration::from_secs(60);

impl DirectoryActor {
    /// Grants what fits, asks idle runtimes to go for what would fit then, and denies the rest.
    pub(super) fn look_for_room(&mut self, context: &mut Context<DirectoryMessage>) {
        let now = context.now();
        self.wishes.retain(|wish| !wish.reply.is_abandoned());
        let mut waiting = Vec::new();
        for wish in std::mem::take(&mut self.wishes) {
            match self.judge(&wish, now) {
                Room::Fits => {
                    self.promises.insert(wish.id, (wish.needed, now + PROMISE_HOLDS));
                    wish.reply.send(RoomAnswer::Granted);
                }
                Room::Evict(victims) if now.since(wish.since) < ROOM_WAIT => {
                    self.evict(&victims);
                    waiting.push(wish);
                }
                Room::Evict(victims) => {
                    let names: Vec<_> = victims.iter().map(ToString::to_string).collect();
                    let why = format!("{} did not give its memory back in time", names.join(", "));
                    wish.reply.send(RoomAnswer::Denied(why));
                }
                // What was asked to go may still be going.
                Room::None(_) if self.anyone_drains() && now.since(wish.since) < ROOM_WAIT => {
                    waiting.push(wish);
                }
                Room::None(why) => {
                    wish.reply.send(RoomAnswer::Denied(why));
                }
            }
        }
        self.wishes = waiting;
        if !self.wishes.is_empty() {
            context.after(LOOK_AGAIN, DirectoryMessage::LookForRoom);
        }
    }

    fn judge(&mut self, wish: &Wish, now: Moment) -> Room {
        let entries = self.args.board.entries.load_full();
        let resident = |id: &RuntimeId| {
            let entry = entries.iter().find(|entry| entry.spec.id == *id)?;
            entry.row.load().as_ref().as_ref().and_then(|row| row.memory.resident_bytes)
        };
        // A promise is used up as far as the engine holds the memory by now.
        self.promises.retain(|id, (_, until)| *until > now && *id != wish.id);
        let reserved = self
            .promises
            .iter()
            .map(|(id, (needed, _))| needed.saturating_sub(resident(id).unwrap_or(0)))
            .sum();
        let mut hardware = self.args.hardware.lock();
        refresh_memory(&mut hardware, &self.args.sources);
        let free = hardware.memory.free_for_models();
        drop(hardware);
        let holders: Vec<_> = entries.iter().filter_map(|entry| holder(entry, &wish.id)).collect();
        make_room(wish.needed, free, reserved, self.args.settings.memory_headroom_bytes, &holders)
    }

    fn evict(&self, victims: &[RuntimeId]) {
        let entries = self.args.board.entries.load();
        for entry in entries.iter().filter(|entry| victims.contains(&entry.spec.id)) {
            // A full mailbox means that it is not idle at all.
            let _ = entry.handle.try_tell(RuntimeMessage::Evict);
        }
    }

    fn anyone_drains(&self) -> bool {
        let entries = self.args.board.entries.load();
        entries.iter().any(|entry| {
            entry.row.load().as_ref().as_ref().is_some_and(|row| row.state == RuntimeState::Draining)
        })
    }
}

/// What a runtime that holds memory would free.
fn holder(entry: &Entry, asking: &RuntimeId) -> Option<Holder> {
    let row = entry.row.load_full();
    let row = row.as_ref().as_ref()?;
    let bytes = row.memory.resident_bytes?;
    if entry.spec.id == *asking {
        return None;
    }
    let is_idle = row.state == RuntimeState::Ready && entry.meter.in_flight() == 0;
    let idle_for = is_idle.then(|| entry.meter.idle_for());
    Some(Holder { id: entry.spec.id.clone(), bytes, idle_for })
}
