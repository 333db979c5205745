//! Hands out memory to runtimes that load.
//!
//! Tells the decider (`room.rs`) what is free and what every runtime is doing, and does what it says: grants,
//! denies, asks idle runtimes to go.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use arw_kit::mailbox::{Context, Reply, TaskHandle};
use futures_util::future::join_all;

use super::actor::DirectoryActor;
use super::client::{DirectoryMessage, Entry};
use super::room::{Ended, Load, Phase, Room, RoomAction, RoomAnswer, Rules, Tenant};
use crate::hardware::read_memory;
use crate::ids::RuntimeId;
use crate::runtime::actor::RuntimeMessage;
use crate::runtime::machine::RuntimeState;
use crate::runtime::settings::RuntimeSettings;

/// The loads that wait, and how far the directory has come with them.
pub(super) struct Loads {
    pub(super) room: Room,
    replies: HashMap<RuntimeId, (u64, Reply<RoomAnswer>)>,
    /// Memory is being read: what follows from it is decided when it is there.
    is_measuring: bool,
    look: Option<TaskHandle>,
}

/// What others free takes a moment to show; memory is looked at again this often while a load waits.
const LOOK_AGAIN: Duration = Duration::from_millis(50);
/// A look reads what every program holds. Who has waited for long does not mind an eighth of that more, up to
/// this; and most engines that are asked to go have gone by then.
const LOOK_AGAIN_MAX: Duration = Duration::from_secs(1);
/// Long enough for an engine to be asked to end, killed and reaped, and for most requests under way to be
/// answered.
const WAIT_MAX: Duration = Duration::from_secs(30);
/// Most engines that are asked to end have ended by then; the memory of others is not waited for.
const LEAVES_WITHIN: Duration = Duration::from_secs(12);
/// Seen: 0.6 to 1.3 GB of 3.9 that were missing for seconds to minutes. A load waits no longer than that
/// anyway.
pub(super) const RETURNS_WITHIN: Duration = WAIT_MAX;
/// An actor that does not say within this time whether it goes is looked at as if it stayed.
const EVICT_PATIENCE: Duration = Duration::from_secs(5);

/// What was read at one look.
pub(crate) struct Sight {
    /// Free for models.
    free_bytes: u64,
    tenants: Vec<Tenant>,
    ended: Vec<Ended>,
    /// None of these ended in between.
    is_exact: bool,
}

impl Loads {
    pub(super) fn new(settings: &RuntimeSettings) -> Self {
        // A start that waits for memory must hear of it before it counts as failed.
        let wait_max = WAIT_MAX.min(settings.start_timeout / 2);
        let headroom_bytes = settings.memory_headroom_bytes;
        let (leaves_within, returns_within) = (LEAVES_WITHIN, RETURNS_WITHIN);
        let rules = Rules { headroom_bytes, wait_max, leaves_within, returns_within };
        Self { room: Room::new(rules), replies: HashMap::new(), is_measuring: false, look: None }
    }
}

impl DirectoryActor {
    pub(super) fn make_room(
        &mut self,
        load: Load,
        reply: Reply<RoomAnswer>,
        context: &mut Context<DirectoryMessage>,
    ) {
        // An earlier launch of the same runtime is over: its reply is dropped, and nobody waits for it.
        self.loads.replies.insert(load.id.clone(), (load.attempt, reply));
        self.loads.room.ask(context.now(), load);
        self.look_for_room(context);
    }

    /// A runtime that was asked to go has said whether it does.
    pub(super) fn eviction_answered(&mut self, id: &RuntimeId, context: &mut Context<DirectoryMessage>) {
        self.loads.room.answered(id);
        self.look_for_room(context);
    }

    /// Begins to look; the rest follows when memory has been read, on a thread that may block.
    pub(super) fn look_for_room(&mut self, context: &mut Context<DirectoryMessage>) {
        if let Some(look) = self.loads.look.take() {
            look.cancel();
        }
        if !self.loads.room.is_waited_for() || std::mem::replace(&mut self.loads.is_measuring, true) {
            return;
        }
        let sources = self.args.sources.clone();
        let (board, clock) = (Arc::clone(&self.args.board), context.clock());
        let entries = board.entries.load_full();
        context.spawn(async move {
            join_all(entries.iter().map(|entry| entry.gauge.fresh())).await;
            // What engines hold and what is free belong together. What an engine takes in between is counted
            // twice, never not at all.
            let tenants: Vec<_> = entries.iter().map(tenant).collect();
            let began = clock.now();
            let read = tokio::task::spawn_blocking(move || read_memory(&sources).free_for_models());
            // A panic of the reading is looked at again like a machine without memory.
            let (free_bytes, now) = (read.await.unwrap_or(0), clock.now());
            let ended = board.ended_within(RETURNS_WITHIN, now);
            let is_exact = ended.iter().all(|ended| ended.ago >= now.since(began));
            DirectoryMessage::Measured(Box::new(Sight { free_bytes, tenants, ended, is_exact }))
        });
    }

    pub(super) fn measured(
        &mut self,
        Sight { free_bytes, tenants, ended, is_exact }: Sight,
        context: &mut Context<DirectoryMessage>,
    ) {
        self.loads.is_measuring = false;
        for (id, (attempt, reply)) in &self.loads.replies {
            if reply.is_abandoned() {
                self.loads.room.withdraw(id, *attempt);
            }
        }
        self.loads.replies.retain(|_, (_, reply)| !reply.is_abandoned());
        self.loads.room.note_ended(ended, is_exact);
        for action in self.loads.room.look(context.now(), free_bytes, &tenants) {
            match action {
                RoomAction::Grant(load) => self.reply(&load, RoomAnswer::Granted),
                RoomAction::Deny(load, why) => self.reply(&load, RoomAnswer::Denied(why)),
                RoomAction::Evict(id) => self.evict(id, context),
            }
        }
        if let Some(since) = self.loads.room.newest_since() {
            let wait = (context.now().since(since) / 8).clamp(LOOK_AGAIN, LOOK_AGAIN_MAX);
            self.loads.look = Some(context.after(wait, DirectoryMessage::LookForRoom));
        }
    }

    fn reply(&mut self, load: &Load, answer: RoomAnswer) {
        if let Some((_, reply)) = self.loads.replies.remove(&load.id) {
            // Where it has just been given up, its runtime's row tells so at the next look.
            let _ = reply.send(answer);
        }
    }

    fn evict(&self, id: RuntimeId, context: &mut Context<DirectoryMessage>) {
        let entries = self.args.board.entries.load();
        let Some(entry) = entries.iter().find(|entry| entry.spec.id == id) else { return };
        let handle = entry.handle.clone();
        context.spawn(async move {
            // Whether it goes, stays or does not answer: its row says what it does now.
            let _ = handle.ask(RuntimeMessage::Evict, EVICT_PATIENCE).await;
            DirectoryMessage::EvictionAnswered(id)
        });
    }
}

/// The load of a runtime that was granted its memory by an earlier incarnation of the directory, as far as
/// its row tells.
pub(super) fn load_under_way(entry: &Entry) -> Option<Load> {
    let row = entry.row.load();
    let row = row.as_ref().as_ref()?;
    let is_loading = matches!(row.state, RuntimeState::Starting | RuntimeState::Warming);
    let needed_bytes = row.memory.needed_bytes.filter(|_| is_loading)?;
    Some(Load { id: entry.spec.id.clone(), attempt: row.attempt, needed_bytes, is_asked_for: true })
}

/// What a runtime is doing with its memory.
fn tenant(entry: &Entry) -> Tenant {
    let row = entry.row.load();
    let row = row.as_ref().as_ref();
    let phase = row.map_or(Phase::Absent, |row| match row.state {
        RuntimeState::Stopped | RuntimeState::Backoff | RuntimeState::Quarantined | RuntimeState::Failed => {
            // The program of an actor that has fallen is ending behind its row.
            if entry.gauge.is_alive() { Phase::Leaving } else { Phase::Absent }
        }
        RuntimeState::Starting | RuntimeState::Warming => Phase::Loading,
        RuntimeState::Ready if entry.meter.in_flight() == 0 => Phase::Idle(entry.meter.idle_for()),
        RuntimeState::Ready | RuntimeState::Degraded => Phase::Busy,
        RuntimeState::Draining => Phase::Leaving,
    });
    Tenant {
        id: entry.spec.id.clone(),
        attempt: row.map_or(0, |row| row.attempt),
        phase,
        held_bytes: entry.gauge.sample().and_then(|sample| sample.resident_bytes).unwrap_or(0),
    }
}
