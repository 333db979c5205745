//! Who had this node change something.

use super::{Severity, cut, events};
use crate::journal::caller::Caller;

events! {
    /// Who had this node change something.
    Control:
    /// Somebody had this node change something: `call` is the method and the path. `answered`: the caller
    /// stayed for the answer.
    "control" Called { by: Caller, call: String, subject: String, answered: bool },
}

impl Control {
    pub(super) fn severity(&self) -> Severity {
        Severity::Info
    }

    pub(super) fn subject(&self) -> &str {
        let Self::Called { subject, .. } = self;
        subject
    }

    pub(super) fn message(&self) -> String {
        let Self::Called { by, call, subject, answered } = self;
        let is_told = call.contains(subject) || subject == "node";
        let about = if is_told { String::new() } else { format!(" for {subject}") };
        let end = if *answered {
            ""
        } else {
            "; the caller did not wait for the answer, so see what else happened"
        };
        format!("Called by {by}: {call}{about}{end}.")
    }

    pub(super) fn cut_texts(&mut self) {
        let Self::Called { call, subject, .. } = self;
        cut(call);
        cut(subject);
    }
}
