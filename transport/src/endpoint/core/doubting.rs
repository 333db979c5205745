//! What membership doubts is asked on the connection itself.
//!
//! Owns what follows from a doubt. Refuses to judge members: the connection alone ends.

use arw_kit::moment::Moment;

use super::Core;
use crate::endpoint::services::PeerDownReason;
use crate::identity::NodeId;
use crate::membership::NodeState;
use crate::wire::Ping;

impl Core {
    /// WIRE-23: a peer is suspected or taken for dead. Its connection may be silent for longer than work on
    /// it should wait.
    pub(super) fn doubt(&mut self, now: Moment, node: NodeId) {
        let Some(session) = self.sessions.get(&node) else { return };
        let key = (node, session.id);
        if self.doubts.begin(now, key, session.connection.answered()) {
            self.doubted += 1;
            // A full queue closes the connection by itself.
            drop(session.connection.send_control(&Ping { nonce: self.doubted }.into()));
        }
    }

    /// WIRE-23: a doubted connection on which nothing came is over. One on which something came stands, and
    /// is asked again while its peer is doubted.
    pub(super) fn settle_doubts(&mut self, now: Moment) {
        for doubt in self.doubts.due(now) {
            let (node, _) = doubt.key;
            let Some(session) = self.sessions.get(&node).filter(|held| held.id == doubt.key.1) else {
                continue;
            };
            if session.connection.answered() == doubt.answered_before {
                self.end_session_as(now, doubt.key, PeerDownReason::TimedOut);
            } else if self.view.node(&node).is_some_and(|entry| entry.state != NodeState::Up) {
                self.doubt(now, node);
            }
        }
    }
}
