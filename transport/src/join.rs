//! Joining a cluster with a token.
//!
//! Owns the two deciders: [`JoinIssuer`] on the node that gave the token out, [`JoinAttempt`] on the one that
//! has it. Refuses to know sockets and stores: what happened goes in, what is to be done comes out.
//!
//! ```text
//! joiner                                      issuer
//! Dial (pinned to the issuer's key)
//! SendJoin ────────── Join ──────────────────► proof, token, clock
//!                                              StoreUse, then
//! certificate, cluster key ◄── JoinAccepted ── Accept
//! Joined
//! ```

mod attempt;
mod issuer;

use std::time::Duration;

use arw_kit::moment::WallTime;

pub use attempt::{DECIDED_WITHIN, JoinAction, JoinAttempt, JoinEvent, JoinFailure, Membership};
pub use issuer::{IssuerAction, IssuerContext, IssuerEvent, JoinIssuer};

use crate::certificate::CLOCK_SKEW_ALLOWED;

/// From the connection to the first message, and from it to the answer. A handshake takes milliseconds; three
/// seconds forgive a slow disk.
pub const FIRST_MESSAGE_WITHIN: Duration = Duration::from_secs(3);

/// Whether a peer's clock is close enough to ours that both agree on when certificates and tokens end.
pub(crate) fn clocks_agree(own: WallTime, sent_at_ms: i64) -> bool {
    let theirs = WallTime::from_millis(sent_at_ms);
    // WIRE-14
    own.since(theirs).max(theirs.since(own)) <= CLOCK_SKEW_ALLOWED
}

#[cfg(test)]
mod tests;
