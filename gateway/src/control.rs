//! Who had this node change something: one event for each such call.
//!
//! Owns that none is missing and none is told twice. Refuses to know what a call does: the events of what it
//! did stand beside it.

use std::sync::{Arc, Mutex, PoisonError};

use arw_actors::journal::{Caller, Journal, event};
use arw_actors::policy::{Granted, Scope};
use axum::extract::rejection::RawPathParamsRejection;
use axum::extract::{RawPathParams, Request, State};
use axum::middleware::Next;
use axum::response::Response;
use http::{Extensions, Method};

use crate::auth::Access;
use crate::peer::PeerNode;
use crate::shared::Gate;

/// What a call is about where neither its path nor its handler says it.
const NODE: &str = "node";

/// Whether a route changes the node. Whoever uses models does not.
pub(crate) fn is_control(method: &Method, access: Access) -> bool {
    method != Method::GET && !matches!(access, Access::Needs(Scope::Infer))
}

/// A call that its event is owed for. A handler finds it in the request, and may say more of it; every
/// clone is the same call.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    owed: Arc<Mutex<Option<Owed>>>,
}

#[derive(Debug)]
struct Owed {
    journal: Journal,
    by: Caller,
    call: String,
    subject: String,
}

impl Call {
    fn new(owed: Option<Owed>) -> Self {
        Self { owed: Arc::new(Mutex::new(owed)) }
    }

    /// It was done, or has begun, and is about `subject`. What the answer says after this counts no more.
    pub(crate) fn done(&self, subject: impl Into<String>) {
        if let Some(owed) = self.take() {
            Owed { subject: subject.into(), ..owed }.append(true);
        }
    }

    /// For work that goes on behind the answer: from now on only the call that this gives counts, and its
    /// event comes with [`Call::done`] or never.
    pub(crate) fn goes_on(&self) -> Self {
        Self::new(self.take())
    }

    fn answered(&self, is_success: bool) {
        if let Some(owed) = self.take().filter(|_| is_success) {
            owed.append(true);
        }
    }

    fn take(&self) -> Option<Owed> {
        self.owed.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl Owed {
    fn append(self, answered: bool) {
        let Self { journal, by, call, subject } = self;
        journal.append(event::Control::Called { by, call, subject, answered });
    }
}

/// Dropped with a call that has no answer: the client went away, or the handler failed. What it asked for
/// may have been done all the same.
struct Unanswered(Call);

impl Drop for Unanswered {
    fn drop(&mut self) {
        if let Some(owed) = self.0.take() {
            owed.append(false);
        }
    }
}

/// HTTP-26: stands before every route that changes the node, behind its guard.
pub(crate) async fn journaled(
    State(gate): State<Gate>,
    params: Result<RawPathParams, RawPathParamsRejection>,
    mut request: Request,
    next: Next,
) -> Response {
    let subject = params.ok().and_then(|params| params.iter().last().map(|(_, value)| value.to_owned()));
    let owed = caller(request.extensions()).map(|by| Owed {
        journal: gate.node.journal.clone(),
        by,
        call: format!("{} {}", request.method(), request.uri().path()),
        subject: subject.unwrap_or_else(|| NODE.to_owned()),
    });
    let call = Call::new(owed);
    request.extensions_mut().insert(call.clone());
    let unanswered = Unanswered(call);
    let response = next.run(request).await;
    unanswered.0.answered(response.status().is_success());
    response
}

fn caller(request: &Extensions) -> Option<Caller> {
    let token = request.get::<Granted>();
    let token = token.map(|it| Caller::Token { id: it.id.to_string(), name: it.name.to_string() });
    token.or_else(|| request.get::<PeerNode>().map(|PeerNode(node)| Caller::Node { id: node.to_string() }))
}
