//! What became of an engine whose connection broke.
//!
//! Owns the question and its time limit. The kernel knows how a process of its own ended; whether anybody is
//! there at all, a new connection tells. Refuses to decide what follows.

use std::time::Duration;

use arw_actors::runtime::engine_client::EngineClient;
use arw_actors::runtime::lease::{EngineEnd, EngineLease};

/// What became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// Its process is there: only the connection broke.
    Lives,
    /// Its process has ended.
    Died(EngineEnd),
}

/// The kernel notices the end of a process within milliseconds, unless the machine is overloaded.
const NOTICED_WITHIN_MIN: Duration = Duration::from_secs(2);
/// A process that holds much memory, most of all a GPU's, or that writes a core dump, closes its sockets long
/// before it has ended.
pub(super) const NOTICED_WITHIN: Duration = Duration::from_secs(30);

/// A client that gives up just before its engine dies of its request is met again when it asks again.
pub(super) const GONE_WATCHED: Duration = Duration::from_secs(3);

/// Finds out. `patience`: how long the request may still wait. The lease is held meanwhile, so that it counts
/// as in flight when the engine died.
pub(super) async fn of(engines: &EngineClient, lease: &EngineLease, patience: Duration) -> Fate {
    // Others give theirs back as soon as they know.
    let in_flight = lease.in_flight();
    let mut ended = std::pin::pin!(lease.process_ended());
    tokio::select! {
        biased;
        end = &mut ended => return end.map_or(Fate::Lives, Fate::Died),
        is_accepting = engines.is_accepting(lease.endpoint()) => if is_accepting {
            return Fate::Lives;
        }
    }
    // RUN-7: it has ended, or nobody can reach it any more.
    lease.report_unreachable();
    if !lease.is_managed() {
        // Nobody tells of a server that ARW does not run. It was there, got the request, and takes no
        // connection now.
        return Fate::Died(EngineEnd {
            launch: 0,
            pid: None,
            detail: "the server takes no connection any more".to_owned(),
            may_be_a_request: true,
            in_flight,
        });
    }
    match tokio::time::timeout(patience.clamp(NOTICED_WITHIN_MIN, NOTICED_WITHIN), ended).await {
        Ok(Some(end)) => Fate::Died(end),
        // A living process whose socket is gone, or a node that is ending.
        Ok(None) | Err(_) => Fate::Lives,
    }
}
