//! Keeps the views up to date while somebody watches.
//!
//! Runtimes, models and the node are published when they change, at most every 50 ms. The tree of actors moves with every message, and the cluster with the load of every
//! node, so these are published only while somebody streams them.

use std::sync::Arc;
use std::time::Duration;

use arw_kit::mailbox::{Actor, Context, Fault};
use tokio::sync::watch;

use super::{COUNT, Sources, View, Views};
use crate::projection::{Coalesced, Coalescer, PUBLISH_INTERVAL};

pub(crate) struct ViewsArgs {
    pub(crate) views: Views,
    pub(crate) sources: Arc<Sources>,
}

pub(crate) struct ViewsActor {
    views: Views,
    sources: Arc<Sources>,
    pace: [Coalescer; COUNT],
    timers: [bool; COUNT],
    ticks: u64,
}

pub(crate) enum ViewsMessage {
    /// What a view shows has changed.
    Changed(View),
    /// A change that was held back is due.
    Due(View),
    /// Look at what changes without telling.
    Tick,
}
arw_kit::message!(ViewsMessage { Changed, Due, Tick });

/// Depths and ages move all the time; four looks a second follow a person's eye. Blocked handlers are looked for as often.
const TICK: Duration = Duration::from_millis(250);
/// The node's own row: uptime, memory, free memory of the machine.
const NODE_EVERY_TICKS: u64 = 20;

impl Actor for ViewsActor {
    type Message = ViewsMessage;
    type Args = ViewsArgs;
    const KIND: &'static str = "views";

    async fn start(args: &ViewsArgs, context: &mut Context<ViewsMessage>) -> Result<Self, Fault> {
        let sources = &args.sources;
        watch_changes(context, sources.runtimes.changes(), View::Runtimes);
        watch_changes(context, sources.models.changes(), View::Models);
        watch_changes(context, sources.system.tree().changes(), View::Actors);
        watch_changes(context, sources.status.clone(), View::Node);
        watch_changes(context, sources.cluster.changes(), View::Cluster);
        context.every(TICK, || ViewsMessage::Tick);
        Ok(Self {
            views: args.views.clone(),
            sources: Arc::clone(&args.sources),
            pace: [const { Coalescer::new(PUBLISH_INTERVAL) }; COUNT],
            timers: [false; COUNT],
            ticks: 0,
        })
    }

    async fn handle(
        &mut self,
        message: ViewsMessage,
        context: &mut Context<ViewsMessage>,
    ) -> Result<(), Fault> {
        match message {
            ViewsMessage::Changed(view) => {
                self.watch_again(context, view);
                if self.is_watched(view) {
                    self.changed(context, view);
                }
            }
            ViewsMessage::Due(view) => {
                self.timers[view as usize] = false;
                if self.pace[view as usize].due(context.now()) {
                    self.views.publish(view);
                }
            }
            ViewsMessage::Tick => self.tick(context),
        }
        Ok(())
    }
}

impl ViewsActor {
    fn is_watched(&self, view: View) -> bool {
        match view {
            View::Actors | View::Cluster => self.views.model(view).has_subscribers(),
            View::Node | View::Runtimes | View::Models => true,
        }
    }

    fn changed(&mut self, context: &mut Context<ViewsMessage>, view: View) {
        match self.pace[view as usize].changed(context.now()) {
            Coalesced::Publish => {
                self.views.publish(view);
                // Who uses a model is part of its row.
                if view == View::Runtimes {
                    self.views.publish(View::Models);
                }
            }
            Coalesced::At(due) if !self.timers[view as usize] => {
                self.timers[view as usize] = true;
                context.after(due.since(context.now()), ViewsMessage::Due(view));
            }
            Coalesced::At(_) => {}
        }
    }

    fn tick(&mut self, context: &mut Context<ViewsMessage>) {
        self.sources.system.tree().watch_for_stuck_handlers();
        if self.is_watched(View::Actors) {
            self.views.publish(View::Actors);
        }
        // What changed between a reader's first body and its becoming a reader.
        if self.is_watched(View::Cluster) && self.views.is_behind(View::Cluster) {
            self.changed(context, View::Cluster);
        }
        self.ticks = self.ticks.wrapping_add(1);
        if self.ticks.is_multiple_of(NODE_EVERY_TICKS) && self.views.model(View::Node).has_subscribers() {
            self.views.publish(View::Node);
        }
    }

    /// The watch of [`watch_changes`] ends with its first change: begin it anew.
    fn watch_again(&self, context: &mut Context<ViewsMessage>, view: View) {
        let sources = &self.sources;
        match view {
            View::Runtimes => watch_changes(context, sources.runtimes.changes(), view),
            View::Models => watch_changes(context, sources.models.changes(), view),
            View::Actors => watch_changes(context, sources.system.tree().changes(), view),
            View::Cluster => watch_changes(context, sources.cluster.changes(), view),
            View::Node => {
                let mut status = sources.status.clone();
                // A clone has seen what its origin has seen, and that one never looks: without this each watch ends at once.
                status.mark_unchanged();
                watch_changes(context, status, view);
            }
        }
    }
}

fn watch_changes<T: Send + Sync + 'static>(
    context: &mut Context<ViewsMessage>,
    changes: watch::Receiver<T>,
    view: View,
) {
    context.spawn(next_change(changes, view));
}

async fn next_change<T: Send + Sync + 'static>(mut changes: watch::Receiver<T>, view: View) -> ViewsMessage {
    if changes.changed().await.is_err() {
        // Its sender is gone, which happens only while the node ends.
        std::future::pending::<()>().await;
    }
    ViewsMessage::Changed(view)
}
