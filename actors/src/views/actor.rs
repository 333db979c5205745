//! Keeps the views up to date while somebody watches: at most every 50 ms each, at the pace that each asks
//! for.

use std::sync::Arc;
use std::time::Duration;

use super::{Sources, View, Views};
use crate::projection::{Coalesced, Coalescer, PUBLISH_INTERVAL};
use arw_kit::mailbox::{Actor, Context, Fault};

pub(crate) struct ViewsArgs {
    pub(crate) views: Views,
    pub(crate) list: Vec<View>,
    pub(crate) sources: Arc<Sources>,
}

pub(crate) struct ViewsActor {
    views: Views,
    sources: Arc<Sources>,
    /// In the order of the views.
    paced: Vec<Paced>,
    ticks: u64,
}

struct Paced {
    view: View,
    coalescer: Coalescer,
    has_timer: bool,
}

/// The place of a view among all of them.
type Place = usize;

pub(crate) enum ViewsMessage {
    /// What a view shows has changed.
    Changed(Place),
    /// A change that was held back is due.
    Due(Place),
    /// Look at what changes without telling.
    Tick,
}
arw_kit::message!(ViewsMessage { Changed, Due, Tick });

/// Depths and ages move all the time; four looks a second follow a person's eye. Blocked handlers are looked
/// for as often.
const TICK: Duration = Duration::from_millis(250);

impl Actor for ViewsActor {
    type Message = ViewsMessage;
    type Args = ViewsArgs;
    const KIND: &'static str = "views";

    async fn start(args: &ViewsArgs, context: &mut Context<ViewsMessage>) -> Result<Self, Fault> {
        let paced = |view: &View| Paced {
            view: *view,
            coalescer: Coalescer::new(PUBLISH_INTERVAL),
            has_timer: false,
        };
        let this = Self {
            views: args.views.clone(),
            sources: Arc::clone(&args.sources),
            paced: args.list.iter().map(paced).collect(),
            ticks: 0,
        };
        (0..this.paced.len()).for_each(|at| this.watch(context, at));
        context.every(TICK, || ViewsMessage::Tick);
        Ok(this)
    }

    async fn handle(
        &mut self,
        message: ViewsMessage,
        context: &mut Context<ViewsMessage>,
    ) -> Result<(), Fault> {
        match message {
            ViewsMessage::Changed(at) => {
                // The watch ends with its first change.
                self.watch(context, at);
                if self.is_wanted(at) {
                    self.changed(context, at);
                }
            }
            ViewsMessage::Due(at) => {
                self.paced[at].has_timer = false;
                if self.paced[at].coalescer.due(context.now()) {
                    self.views.publish(at);
                }
            }
            ViewsMessage::Tick => self.tick(context),
        }
        Ok(())
    }
}

impl ViewsActor {
    fn watch(&self, context: &mut Context<ViewsMessage>, at: Place) {
        let changed = (self.paced[at].view.changed)(&self.sources);
        context.spawn(async move {
            changed.await;
            ViewsMessage::Changed(at)
        });
    }

    fn is_wanted(&self, at: Place) -> bool {
        !self.paced[at].view.pace.needs_watchers() || self.views.has_watchers(at)
    }

    fn changed(&mut self, context: &mut Context<ViewsMessage>, at: Place) {
        let paced = &mut self.paced[at];
        match paced.coalescer.changed(context.now()) {
            Coalesced::Publish => self.views.publish(at),
            Coalesced::At(due) if !paced.has_timer => {
                paced.has_timer = true;
                context.after(due.since(context.now()), ViewsMessage::Due(at));
            }
            Coalesced::At(_) => {}
        }
    }

    fn tick(&mut self, context: &mut Context<ViewsMessage>) {
        self.sources.system.tree().watch_for_stuck_handlers();
        self.ticks = self.ticks.wrapping_add(1);
        for at in 0..self.paced.len() {
            let is_time = self.paced[at].view.pace.every().is_some_and(|span| is_due(self.ticks, span));
            if is_time && self.views.has_watchers(at) {
                self.views.publish(at);
            } else if self.is_wanted(at) && self.views.is_behind(at) {
                // What changed between a reader's first body and its becoming a reader.
                self.changed(context, at);
            }
        }
    }
}

/// Counted, because ticks drift by the timer's delay.
fn is_due(ticks: u64, every: Duration) -> bool {
    let ticks_between = u64::try_from(every.as_nanos() / TICK.as_nanos()).unwrap_or(u64::MAX);
    ticks.is_multiple_of(ticks_between.max(1))
}
