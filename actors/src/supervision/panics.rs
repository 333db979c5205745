//! Where a panic happened, without the cost of a backtrace.

use std::cell::RefCell;
use std::panic::PanicHookInfo;
use std::sync::Once;

thread_local! {
    static LAST: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Replaces the process's panic hook by one that records only the place, to be shown in exit reasons. With the default hook
/// and `RUST_BACKTRACE=1` a restart takes ten times as long. Panics outside actors are still printed. For programs, not libraries: the
/// hook is process-wide.
pub fn install_panic_hook() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info: &PanicHookInfo<'_>| {
            if tokio::task::try_id().is_none() {
                before(info);
                return;
            }
            let place = info.location().map(|at| format!("{}:{}", at.file(), at.line()));
            LAST.with(|last| *last.borrow_mut() = place);
        }));
    });
}

/// The place of this thread's last panic, if the hook saw it.
pub(crate) fn take_panic_location() -> Option<String> {
    LAST.with(|last| last.borrow_mut().take())
}
