//! What becomes of a panic: the exit reason of an actor, or a line in the log.
//!
//! Owns the hook, and how it tells the two apart. Refuses to catch anything: who polls an actor does that.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::future::Future;
use std::panic::PanicHookInfo;
use std::pin::Pin;
use std::sync::Once;
use std::task::{Context, Poll};

use tracing::{Level, error};

thread_local! {
    static LAST: RefCell<Option<String>> = const { RefCell::new(None) };
    /// An actor is being polled on this thread, by someone who turns its panic into an exit reason.
    static POLLS_ACTOR: Cell<bool> = const { Cell::new(false) };
}

/// Replaces the process's panic hook.
///
/// Of a panic in an actor, or in a task of its context, only the place is recorded: the exit reason shows it,
/// and the journal keeps that. With the default hook and `RUST_BACKTRACE=1` a restart takes ten times as
/// long. Any other panic, in a thread, in a task of tokio's or in a blocking call, is a defect that nobody
/// else may tell of: it is logged with its place, by the hook that was there before where nothing logs. For
/// programs, not libraries: the hook is process-wide.
pub fn install_panic_hook() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info: &PanicHookInfo<'_>| {
            let place = info.location().map(|at| format!("{}:{}", at.file(), at.line()));
            if POLLS_ACTOR.get() {
                LAST.with(|last| *last.borrow_mut() = place);
            } else if tracing::event_enabled!(Level::ERROR) {
                let thread = std::thread::current();
                let panic = info.payload_as_str().unwrap_or("a panic without a text");
                error!(
                    panic,
                    place,
                    thread = thread.name(),
                    "a part of the program panicked: a defect, please report it"
                );
            } else {
                before(info);
            }
        }));
    });
}

/// Polls a part of an actor that catches its own panics: the hook leaves them to the exit reason.
pub(crate) fn poll_in_actor<F: Future>(part: Pin<&mut F>, cx: &mut Context<'_>) -> Poll<F::Output> {
    /// However the poll ends, what runs on this thread afterwards is not the actor.
    struct Before(bool);
    impl Drop for Before {
        fn drop(&mut self) {
            POLLS_ACTOR.set(self.0);
        }
    }
    let _before = Before(POLLS_ACTOR.replace(true));
    part.poll(cx)
}

/// The panic's text and, where the hook is installed, its place.
pub(crate) fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic
        .downcast_ref::<&'static str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a panic without a text".to_owned());
    match take_location() {
        Some(location) => format!("{text} (at {location})"),
        None => text,
    }
}

/// The place of this thread's last panic in an actor, if the hook saw it.
fn take_location() -> Option<String> {
    LAST.with(|last| last.borrow_mut().take())
}

#[cfg(test)]
mod tests {
    use std::fmt;
    use std::sync::Arc;

    use parking_lot::Mutex;
    use tracing::field::{Field, Visit};
    use tracing::{Event, Metadata, Subscriber, span};

    use super::*;
    use crate::mailbox::{Actor, Context, Fault};
    use crate::supervision::{ActorSpec, ActorSystem};

    /// Keeps what is logged as errors.
    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<String>>>);

    impl Subscriber for Kept {
        fn enabled(&self, metadata: &Metadata<'_>) -> bool {
            *metadata.level() == Level::ERROR
        }
        fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
            span::Id::from_u64(1)
        }
        fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
        fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
        fn event(&self, event: &Event<'_>) {
            struct Words(String);
            impl Visit for Words {
                fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
                    self.0.push_str(&format!("{}={value:?} ", field.name()));
                }
            }
            let mut words = Words(String::new());
            event.record(&mut words);
            self.0.lock().push(words.0);
        }
        fn enter(&self, _: &span::Id) {}
        fn exit(&self, _: &span::Id) {}
    }

    /// The hook holds for the whole process, and so must who listens to it; other tests of it may panic
    /// meanwhile.
    fn logged(words: &str) -> Vec<String> {
        static KEPT: std::sync::OnceLock<Kept> = std::sync::OnceLock::new();
        let kept = KEPT.get_or_init(|| {
            let kept = Kept::default();
            let _ = tracing::subscriber::set_global_default(kept.clone());
            install_panic_hook();
            kept
        });
        kept.0.lock().iter().filter(|line| line.contains(words)).cloned().collect()
    }

    struct Fragile;

    enum FragileMessage {
        Break,
        BreakBeside,
    }
    crate::message!(FragileMessage { Break, BreakBeside });

    impl Actor for Fragile {
        type Message = FragileMessage;
        type Args = ();
        const KIND: &'static str = "fragile";

        async fn start((): &(), _: &mut Context<FragileMessage>) -> Result<Self, Fault> {
            Ok(Self)
        }

        async fn handle(
            &mut self,
            message: FragileMessage,
            context: &mut Context<FragileMessage>,
        ) -> Result<(), Fault> {
            match message {
                FragileMessage::Break => panic!("an actor broke"),
                FragileMessage::BreakBeside => {
                    context.spawn(async { panic!("an actor's task broke") });
                    Ok(())
                }
            }
        }
    }

    #[tokio::test]
    async fn a_panic_in_any_task_that_is_no_actor_is_logged_with_its_place() {
        assert!(logged("a plain task broke").is_empty());
        let ended = tokio::spawn(async { panic!("a plain task broke: {}", 42) }).await;
        assert!(ended.unwrap_err().is_panic());
        let ended = tokio::task::spawn_blocking(|| panic!("a blocking call broke")).await;
        assert!(ended.unwrap_err().is_panic());
        assert!(std::thread::spawn(|| panic!("a thread broke")).join().is_err());
        for words in ["a plain task broke: 42", "a blocking call broke", "a thread broke"] {
            let lines = logged(words);
            assert_eq!(lines.len(), 1, "{words}: {lines:?}");
            assert!(lines[0].contains("panics.rs:"), "{lines:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_panic_of_an_actor_is_told_by_its_exit_reason_and_what_its_thread_does_next_is_no_actor() {
        assert!(logged("an actor").is_empty());
        let system = ActorSystem::new("test");
        let mut root = system.root();
        let fragile = root.actor(ActorSpec::<Fragile>::new("fragile", ()));
        system.start(root).await.unwrap();
        for (message, words) in [
            (FragileMessage::Break, "an actor broke"),
            (FragileMessage::BreakBeside, "an actor's task broke"),
        ] {
            fragile.try_tell(message).unwrap();
            let reason = loop {
                let exit = system.tree().get("test/fragile").and_then(|record| record.last_exit());
                match exit.map(|exit| exit.reason.to_string()) {
                    Some(reason) if reason.contains(words) => break reason,
                    Some(_) | None => tokio::time::sleep(std::time::Duration::from_millis(10)).await,
                }
            };
            assert!(reason.contains("panics.rs:"), "{reason}");
            assert!(logged(words).is_empty(), "told twice");
        }
        assert!(tokio::spawn(async { panic!("a task after them broke") }).await.is_err());
        assert_eq!(logged("a task after them broke").len(), 1);
    }
}
