//! All that a node knows, at once, for one that joins.
//!
//! Owns its layout. Refuses to know how it travels, and what of it is believed.

use std::sync::Arc;

use arw_kit::moment::Moment;
use bytes::{Buf, BufMut, Bytes, BytesMut};
use foca::{Member, State};

use super::Membership;
use crate::membership::event::DownReason;
use crate::membership::packet::{DatagramError, Statement, read_statement};

/// The version of the layout of a snapshot: version[1] count[4] member*, with members as in datagrams.
const SNAPSHOT_VERSION: u8 = 2;

impl Membership {
    /// Everything that this node knows, for a node that joins: over a stream, since it exceeds a datagram
    /// from 10 nodes on. At most 140 bytes per node.
    #[must_use]
    pub fn snapshot(&self) -> Bytes {
        let own = *self.foca.identity();
        let mut records = self.records.lock();
        let life = records.own_now().life;
        let mut statements = vec![Statement::about(&Member::alive(own), records.own(own, life))];
        let others = self.foca.iter_membership_state().filter(|member| member.id().id != own.id);
        let others = others.filter_map(|member| Some(Statement::about(member, records.proof_of(member)?)));
        statements.extend(others);
        drop(records);
        let mut bytes = BytesMut::with_capacity(112 * statements.len());
        bytes.put_u8(SNAPSHOT_VERSION);
        bytes.put_u32(u32::try_from(statements.len()).unwrap_or(u32::MAX));
        statements.iter().for_each(|statement| statement.write(&mut bytes));
        bytes.freeze()
    }

    /// MEMBER-19: takes in the [`Membership::snapshot`] of a member. What this node knows better stays.
    /// Nothing is passed on: the cluster knows it.
    ///
    /// # Errors
    /// [`DatagramError`] when it is cut off, has bytes left over, is of another version, names too many nodes
    /// or holds a record that its node has not signed; nothing has happened then.
    pub fn merge_snapshot(&mut self, now: Moment, mut bytes: &[u8]) -> Result<(), DatagramError> {
        const CUT_OFF: DatagramError = DatagramError::Malformed { what: "the snapshot is cut off" };
        if self.has_left {
            return Err(DatagramError::HasLeft);
        }
        let version = bytes.try_get_u8().map_err(|_| CUT_OFF)?;
        if version != SNAPSHOT_VERSION {
            return Err(DatagramError::Version { found: version, known: SNAPSHOT_VERSION });
        }
        let count = bytes.try_get_u32().map_err(|_| CUT_OFF)? as usize;
        // Before any memory is taken for them. A snapshot may name this node too.
        if count > self.config.members_max.saturating_add(1) {
            return Err(DatagramError::Full { max: self.config.members_max });
        }
        let mut statements = Vec::with_capacity(count.min(bytes.len()));
        for _ in 0..count {
            statements.push(read_statement(&mut bytes)?);
        }
        if !bytes.is_empty() {
            return Err(DatagramError::TrailingBytes { extra: bytes.len() });
        }
        let refused = self.without_room(statements.iter().map(|said| said.record.identity.id));
        let records = Arc::clone(&self.records);
        let mut judged = self.hearsay.judge(now, None, &statements, &mut records.lock())?;
        self.note(&mut judged, &refused);
        self.outbox.begin(now, DownReason::Reported);
        self.question(&judged.members);
        self.outbox.has_lost = judged.members.iter().any(|member| member.state() == State::Down);
        if self.foca.apply_many(judged.members.into_iter(), false, &mut self.outbox).is_err() {
            self.outbox.counters.faults += 1;
        }
        self.ask_doubted(now, &judged.doubted);
        self.conclude(now);
        Ok(())
    }
}
