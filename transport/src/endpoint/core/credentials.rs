//! Certificates and removals while the endpoint runs.
//!
//! Owns when a certificate is renewed, when a peer's has ended, and how the word of a removal spreads.
//! Refuses to know how any of it is stored.

use std::sync::Arc;
use std::time::Duration;

use arw_kit::moment::Moment;

use super::{Core, Effect};
use crate::certificate::{
    CLOCK_SKEW_ALLOWED, CertificateError, RevocationError, SignedCertificate, SignedRevocation,
};
use crate::endpoint::events::EndpointEvent;
use crate::endpoint::issuer::RemoveError;
use crate::endpoint::renewal_hold::TOLD_WITHIN;
use crate::identity::NodeId;
use crate::token::TokenRecord;
use crate::wire::{CloseCode, Control, GoodbyeReason, Renew, Renewed, Revoked};

/// A request for a certificate that got no answer is repeated after so long: ten days are left for it.
const ASK_AGAIN_AFTER: Duration = Duration::from_secs(60);

/// Every so many rounds of housekeeping the long lists are looked through.
const SLOW_ROUNDS: u64 = 60;

impl Core {
    pub(super) fn keep_house(&mut self, now: Moment) {
        let wall = self.clock.wall();
        let has_ended =
            |session: &&super::Session| session.peer.certificate.not_after + CLOCK_SKEW_ALLOWED < wall;
        let ended: Vec<NodeId> =
            self.sessions.values().filter(has_ended).map(|session| session.peer.id).collect();
        for node in ended {
            // WIRE-21
            self.end_session(now, node, CloseCode::Goodbye(GoodbyeReason::Expired));
        }
        self.renew_own(now);
        self.reserve_if_low();
        if !self.housekeepings.is_multiple_of(SLOW_ROUNDS) {
            return;
        }
        self.limiter.prune(now);
        self.forget_starts(now);
        for stranger in self.membership.forget_strangers(now) {
            if self.view.node(&stranger).is_none() && !self.sessions.contains_key(&stranger) {
                self.schedule.unwant(stranger);
            }
        }
        // WIRE-10: a clock that jumps ahead makes no removal end. Without a peer since the start none ends.
        if let Some((then, agreed)) = self.agreed_at {
            self.revoked.prune(wall.min(agreed + now.since(then)));
        }
        let tokens = self.issuer.as_mut().map(|issuer| issuer.tokens.prune(wall)).unwrap_or_default();
        if !tokens.is_empty() {
            self.effects.push(Effect::ForgetTokens(tokens));
        }
    }

    pub(super) fn reserve_if_low(&mut self) {
        if !self.is_reserving && self.issuer.as_ref().is_some_and(super::IssuerState::is_low) {
            self.is_reserving = true;
            self.effects.push(Effect::ReserveSerials);
        }
    }

    /// Serials came, or `None`: the ledger did not give any, and is asked again in the next round.
    pub(crate) fn reserved(&mut self, serials: Option<(u64, u64)>) {
        self.is_reserving = false;
        if let (Some(issuer), Some((first, count))) = (&mut self.issuer, serials) {
            issuer.refill(first, count);
        }
    }

    /// WIRE-10: the cluster's key has signed this serial.
    pub(super) fn saw_serial(&mut self, serial: u64) {
        if let Some(issuer) = &mut self.issuer {
            issuer.saw_serial(serial);
            self.reserve_if_low();
        }
    }

    fn is_renewal_due(&self) -> bool {
        !self.is_removed && self.certificate.is_renewal_due(self.clock.wall())
    }

    /// WIRE-21: from two thirds of its time on a certificate is renewed, without anybody doing anything.
    fn renew_own(&mut self, now: Moment) {
        let asked_lately = self.renewal_asked_at.is_some_and(|then| now.since(then) < ASK_AGAIN_AFTER);
        if asked_lately || !self.is_renewal_due() {
            return;
        }
        self.renewal_asked_at = Some(now);
        let wall = self.clock.wall();
        let own = self.own;
        let by_itself = self.issuer.as_mut().and_then(|issuer| issuer.renew(own, &self.certificate, wall));
        if let Some(signed) = by_itself {
            self.adopt(&signed);
            return;
        }
        let nodes: Vec<NodeId> = self.sessions.keys().copied().collect();
        for node in nodes {
            self.ask(node);
        }
    }

    /// Asks one peer at once when a renewal is due: it has just come.
    pub(super) fn ask_for_renewal_of(&mut self, now: Moment, node: NodeId) {
        if !self.is_renewal_due() || self.issuer.is_some() {
            return;
        }
        match self.renewed_by {
            Some(issuer) if issuer == node => self.renewal_asked_at = Some(now),
            // It cannot help. Peers that come and go must not put off the question to the issuer.
            Some(_) => return,
            None => _ = self.renewal_asked_at.get_or_insert(now),
        }
        self.ask(node);
    }

    fn ask(&self, node: NodeId) {
        if self.renewed_by.is_some_and(|issuer| issuer != node) {
            return;
        }
        if let Some(session) = self.sessions.get(&node) {
            let renew = Renew { serial: self.certificate.serial };
            drop(session.connection.send_control(&renew.into()));
        }
    }

    /// WIRE-21: this issuer was restored from a backup, and whoever knows that the node was removed since may
    /// not have said so yet. It asks again.
    fn is_renewal_held(&self, now: Moment, node: NodeId) -> bool {
        let Some(hold) = self.issuer.as_ref().and_then(|issuer| issuer.hold) else { return false };
        let mut others = self.sessions.values().filter(|session| session.peer.id != node);
        hold.holds(now, others.any(|other| now.since(other.since) >= TOLD_WITHIN))
    }

    /// A peer asks for its next certificate.
    pub(super) fn renew_peer(&mut self, now: Moment, node: NodeId, serial: u64) {
        let wall = self.clock.wall();
        let is_held = self.is_renewal_held(now, node);
        let Some(session) = self.sessions.get(&node) else { return };
        let certificate = session.peer.certificate;
        let is_due = certificate.serial == serial && certificate.is_renewal_due(wall);
        let is_removing = self.removing.contains_key(&node);
        let signed = match &mut self.issuer {
            Some(issuer) if is_due && !is_removing && !is_held => {
                // WIRE-10: neither the old certificate nor the one that would be signed may be covered.
                let next = issuer.serial().unwrap_or(serial);
                let is_removed = self.revoked.covers(node, serial) || self.revoked.covers(node, next);
                if is_removed { None } else { issuer.renew(node, &certificate, wall) }
            }
            Some(_) | None => None,
        };
        let Some(signed) = signed else {
            self.counters.renewals_refused += 1;
            return;
        };
        let renewed = Renewed { certificate: signed.as_bytes().to_vec() };
        drop(session.connection.send_control(&renewed.into()));
        // This node has just signed it.
        self.take_certificate(node, signed.as_bytes()).ok();
        self.reserve_if_low();
    }

    /// A certificate came from a peer: this node's next one, or the peer's own.
    /// `Err`: it is forged.
    pub(super) fn take_certificate(&mut self, node: NodeId, bytes: &[u8]) -> Result<(), CloseCode> {
        let Ok(signed) = SignedCertificate::from_bytes(bytes) else {
            self.counters.certificates_refused += 1;
            return Ok(());
        };
        if signed == self.signed {
            return Ok(());
        }
        let wall = self.clock.wall();
        match signed.verify(&self.cluster_key, self.own, wall, &self.revoked) {
            Ok(_) => {
                self.adopt(&signed);
                return Ok(());
            }
            Err(CertificateError::OtherNode { found }) if found == node => {}
            Err(error) => {
                self.counters.certificates_refused += 1;
                let is_forged =
                    matches!(error, CertificateError::OtherCluster { .. } | CertificateError::BadSignature);
                return if is_forged { Err(CloseCode::Malformed) } else { Ok(()) };
            }
        }
        let Ok(certificate) = signed.verify(&self.cluster_key, node, wall, &self.revoked) else {
            self.counters.certificates_refused += 1;
            return Ok(());
        };
        if let Some(session) = self.sessions.get_mut(&node)
            && session.peer.certificate.serial < certificate.serial
        {
            Arc::make_mut(&mut session.peer).certificate = certificate;
            self.saw_serial(certificate.serial);
        }
        Ok(())
    }

    /// This node's next certificate: it is shown from now on, and every peer is told, so that none ends the
    /// connection with the old one.
    fn adopt(&mut self, signed: &SignedCertificate) {
        let wall = self.clock.wall();
        let verified = signed.verify(&self.cluster_key, self.own, wall, &self.revoked);
        let Ok(certificate) = verified else {
            self.counters.certificates_refused += 1;
            return;
        };
        if certificate.serial <= self.certificate.serial {
            return;
        }
        self.saw_serial(certificate.serial);
        self.signed = *signed;
        self.certificate = certificate;
        self.renewal_asked_at = None;
        self.has_renewed = true;
        let renewed = self.renewed();
        for session in self.sessions.values() {
            drop(session.connection.send_control(&renewed));
        }
        self.events.push(EndpointEvent::CertificateRenewed(*signed));
    }

    /// What tells a peer of this node's certificate.
    pub(super) fn renewed(&self) -> Control {
        Renewed { certificate: self.signed.as_bytes().to_vec() }.into()
    }

    /// Takes removals in that a peer told. `Err`: it told a forged one.
    pub(super) fn learn_removals(
        &mut self,
        now: Moment,
        told: &[Vec<u8>],
        from: NodeId,
    ) -> Result<(), CloseCode> {
        let mut signed = Vec::new();
        for bytes in told {
            match SignedRevocation::from_bytes(bytes) {
                Ok(revocation) => signed.push(revocation),
                Err(_) => self.counters.revocations_refused += 1,
            }
        }
        // A member passes on only what it has verified. One that does not would have this node verify for
        // ever.
        self.remove(now, &signed, Some(from))
    }

    /// WIRE-21: whoever learns of a removal passes it on to all others, and ends its own connection with the
    /// removed node. Nothing behind a forged one is looked at. Returns whether all were good, as far as was
    /// looked.
    pub(crate) fn remove(
        &mut self,
        now: Moment,
        told: &[SignedRevocation],
        from: Option<NodeId>,
    ) -> Result<(), CloseCode> {
        let mut news = Vec::new();
        let mut is_forged = false;
        for revocation in told {
            match self.revoked.add(*revocation, &self.cluster_key) {
                Ok(true) => news.push(*revocation),
                Ok(false) => {}
                Err(error) => {
                    self.counters.revocations_refused += 1;
                    is_forged = match error {
                        RevocationError::OtherCluster { .. } | RevocationError::BadSignature => true,
                        RevocationError::Malformed { .. } | RevocationError::TooMany => false,
                    };
                    if is_forged {
                        break;
                    }
                }
            }
        }
        for chunk in news.chunks(Revoked::MAX) {
            let revocations = chunk.iter().map(|signed| signed.as_bytes().to_vec()).collect();
            let message: Control = Revoked { revocations }.into();
            for session in self.sessions.values().filter(|session| Some(session.peer.id) != from) {
                drop(session.connection.send_control(&message));
            }
        }
        self.saw_serial(self.revoked.serial_max());
        let told_of: Vec<NodeId> = news.iter().map(SignedRevocation::claimed_node).collect();
        for signed in news {
            self.events.push(EndpointEvent::Revoked(signed));
        }
        let removed =
            |session: &&super::Session| self.revoked.covers(session.peer.id, session.peer.certificate.serial);
        let nodes: Vec<NodeId> =
            self.sessions.values().filter(removed).map(|session| session.peer.id).collect();
        for node in nodes {
            self.end_session(now, node, CloseCode::Goodbye(GoodbyeReason::Removed));
        }
        // Without a connection nothing is known of a later certificate: one that has it dials by itself.
        for node in told_of {
            if !self.sessions.contains_key(&node) {
                self.schedule.unwant(node);
                self.forget_teller(node);
                self.membership.expel(now, node);
            }
        }
        if self.revoked.covers(self.own, self.certificate.serial) {
            self.note_removal();
        }
        if is_forged { Err(CloseCode::Malformed) } else { Ok(()) }
    }

    /// WIRE-10: decides a removal. From this step on, and not only when the removal is stored, the node gets
    /// no certificate and no connection: one that was signed in between would have a later serial than the
    /// removal, and outlive it. Each must be followed by one [`Core::end_removal`].
    pub(crate) fn begin_removal(&mut self, node: NodeId) -> Result<Vec<TokenRecord>, RemoveError> {
        if node == self.own {
            return Err(RemoveError::Itself);
        }
        let issuer = self.issuer.as_mut().ok_or(RemoveError::NotIssuer)?;
        let barred = issuer.tokens.bar(node);
        *self.removing.entry(node).or_default() += 1;
        Ok(barred)
    }

    /// WIRE-10: the word that removes the node, with the first of `serials`, which were reserved after
    /// [`Core::begin_removal`].
    pub(crate) fn sign_removal(
        &mut self,
        node: NodeId,
        (first, count): (u64, u64),
    ) -> Result<SignedRevocation, RemoveError> {
        let wall = self.clock.wall();
        let issuer = self.issuer.as_mut().ok_or(RemoveError::NotIssuer)?;
        issuer.refill(first, count);
        let signed = issuer.revoke(node, wall);
        signed.ok_or_else(|| RemoveError::Refused("no serials are left".to_owned()))
    }

    /// The removal is known to [`Core::remove`], or has failed.
    pub(crate) fn end_removal(&mut self, node: NodeId) {
        if let Some(count) = self.removing.get_mut(&node) {
            *count -= 1;
            if *count == 0 {
                self.removing.remove(&node);
            }
        }
    }

    /// The word that removed a node, if one did: whoever is turned away is shown why.
    pub(crate) fn proof_of_removal(&self, node: NodeId) -> Option<SignedRevocation> {
        self.revoked.of(node)
    }

    /// A peer closed with what may be the proof that this node was removed. Only the cluster's key can say
    /// that: a bare code says nothing.
    pub(crate) fn shown_removal(&mut self, now: Moment, from: NodeId, proof: Vec<u8>) {
        // The connection is over already.
        self.learn_removals(now, &[proof], from).ok();
    }

    /// The cluster's key says that this node is no member any more. It is told once; dialing goes on, rarely:
    /// with another certificate it may be one again.
    fn note_removal(&mut self) {
        if !self.is_removed {
            self.is_removed = true;
            self.events.push(EndpointEvent::Removed);
        }
    }
}
