//! What a node says of itself, and signs: in which start and renewal it is, how often it refuted a suspicion,
//! where it is, and whether it has left.
//!
//! ```text
//! record    = node[32] incarnation renewal life flags[1] ip[4 or 16] port[2] signature[64]
//! signature = of the node's key, over a fixed text, the cluster's id, and all bytes before
//! ```
//!
//! Owns its bytes, its signature, and the newest record of each node, which is all that is passed on. Refuses
//! to know who may be a member.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use bytes::{Buf, BufMut};
use foca::Member;

use super::identity::MemberIdentity;
use super::packet::write_varint;
use super::packet::{CUT_OFF, DatagramError, malformed, read_life, read_reference_parts, write_reference};
use crate::certificate::ClusterId;
use crate::identity::{NodeId, NodeKey, is_signed_by};

/// Keeps a signature from being good for anything else that the same key signs.
const PURPOSE: &[u8] = b"arw member record 1\0";

const FLAG_IPV6: u8 = 1;
const FLAG_LEFT: u8 = 2;

const SIGNATURE_BYTES: usize = 64;
/// The longest body: an IPv6 address and the longest varints.
const BODY_BYTES_MAX: usize = 32 + 10 + 5 + 3 + 1 + 16 + 2;
/// The longest record.
pub(super) const RECORD_BYTES_MAX: usize = BODY_BYTES_MAX + SIGNATURE_BYTES;

/// A record as it travels. Nothing about it is true before it is in [`Records`].
#[derive(Clone, Copy, PartialEq)]
pub(crate) struct Record {
    pub(super) identity: MemberIdentity,
    pub(super) life: u16,
    signature: [u8; SIGNATURE_BYTES],
}

impl Record {
    pub(super) fn read(input: &mut impl Buf) -> Result<Self, DatagramError> {
        let (id, incarnation, renewal) = read_reference_parts(input)?;
        let life = read_life(input)?;
        let flags = input.try_get_u8().map_err(|_| CUT_OFF)?;
        if flags & !(FLAG_IPV6 | FLAG_LEFT) != 0 {
            return Err(malformed("a record has unknown flags"));
        }
        let ip = if flags & FLAG_IPV6 == 0 {
            let mut octets = [0; 4];
            input.try_copy_to_slice(&mut octets).map_err(|_| CUT_OFF)?;
            IpAddr::V4(Ipv4Addr::from(octets))
        } else {
            let mut octets = [0; 16];
            input.try_copy_to_slice(&mut octets).map_err(|_| CUT_OFF)?;
            IpAddr::V6(Ipv6Addr::from(octets))
        };
        let address = SocketAddr::new(ip, input.try_get_u16().map_err(|_| CUT_OFF)?);
        let mut signature = [0; SIGNATURE_BYTES];
        input.try_copy_to_slice(&mut signature).map_err(|_| CUT_OFF)?;
        let identity =
            MemberIdentity::from_parts(id, address, (incarnation, renewal), flags & FLAG_LEFT != 0);
        Ok(Self { identity, life, signature })
    }

    pub(super) fn write(&self, out: &mut impl BufMut) {
        write_body(&self.identity, self.life, out);
        out.put_slice(&self.signature);
    }

    fn is_newer_than(&self, other: &Self) -> bool {
        (self.identity.version(), self.life) > (other.identity.version(), other.life)
    }
}

impl fmt::Debug for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Record({:?} life {})", self.identity, self.life)
    }
}

fn write_body(identity: &MemberIdentity, life: u16, out: &mut impl BufMut) {
    write_reference(identity, out);
    write_varint(life.into(), out);
    let left = if identity.has_left() { FLAG_LEFT } else { 0 };
    match identity.address.ip() {
        IpAddr::V4(ip) => {
            out.put_u8(left);
            out.put_slice(&ip.octets());
        }
        IpAddr::V6(ip) => {
            out.put_u8(left | FLAG_IPV6);
            out.put_slice(&ip.octets());
        }
    }
    out.put_u16(identity.address.port());
}

/// What a node signs its own records with, and checks those of others: its key, in one cluster.
pub struct RecordKey {
    cluster: ClusterId,
    sealing: Sealing,
}

enum Sealing {
    Node(Arc<NodeKey>),
    /// A checksum: thousands of simulated nodes would spend their time on signatures. It signs for anybody.
    #[cfg(test)]
    Simulated,
}

impl RecordKey {
    /// Of the node with this key, as a member of `cluster`.
    #[must_use]
    pub fn new(key: Arc<NodeKey>, cluster: ClusterId) -> Self {
        Self { cluster, sealing: Sealing::Node(key) }
    }

    #[cfg(test)]
    pub(crate) fn simulated() -> Self {
        Self { cluster: ClusterId::from_bytes([1; 16]), sealing: Sealing::Simulated }
    }

    fn message(&self, identity: &MemberIdentity, life: u16) -> Vec<u8> {
        let mut message = Vec::with_capacity(PURPOSE.len() + 16 + BODY_BYTES_MAX);
        message.extend_from_slice(PURPOSE);
        message.extend_from_slice(self.cluster.as_bytes());
        write_body(identity, life, &mut message);
        message
    }

    pub(super) fn sign(&self, identity: MemberIdentity, life: u16) -> Record {
        let message = self.message(&identity, life);
        let signature = match &self.sealing {
            Sealing::Node(key) => key.sign(&message),
            #[cfg(test)]
            Sealing::Simulated => checksum(&message),
        };
        Record { identity, life, signature }
    }

    fn verifies(&self, record: &Record) -> bool {
        let message = self.message(&record.identity, record.life);
        match &self.sealing {
            Sealing::Node(_) => is_signed_by(&record.identity.id, &message, &record.signature),
            #[cfg(test)]
            Sealing::Simulated => record.signature == checksum(&message),
        }
    }
}

impl fmt::Debug for RecordKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RecordKey").field("cluster", &self.cluster).finish_non_exhaustive()
    }
}

#[cfg(test)]
fn checksum(message: &[u8]) -> [u8; SIGNATURE_BYTES] {
    use std::hash::Hasher as _;
    let mut hasher = std::hash::DefaultHasher::new();
    hasher.write(message);
    let mut signature = [0; SIGNATURE_BYTES];
    signature[..8].copy_from_slice(&hasher.finish().to_le_bytes());
    signature
}

/// A record does not carry the signature of the node that it is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Forged {
    pub(super) subject: NodeId,
}

/// What a record is, compared with what is known.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Standing {
    /// Of an earlier start or renewal than the known one: it changes nothing.
    Old,
    /// This is the newest one of its node; perhaps it was known before.
    Newest(Record),
}

/// The newest record of each node, all verified, and this node's own.
#[derive(Debug)]
pub(super) struct Records {
    key: RecordKey,
    own: Record,
    others: BTreeMap<NodeId, Record>,
    verified: u64,
}

impl Records {
    pub(super) fn new(key: RecordKey, own: MemberIdentity) -> Self {
        Self { own: key.sign(own, 0), key, others: BTreeMap::new(), verified: 0 }
    }

    /// This node's record in this identity and life. It is signed when one of them has changed.
    pub(super) fn own(&mut self, identity: MemberIdentity, life: u16) -> Record {
        if self.own.identity != identity || self.own.life != life {
            self.own = self.key.sign(identity, life);
        }
        self.own
    }

    /// As it was last signed.
    pub(super) fn own_now(&self) -> Record {
        self.own
    }

    /// What proves that there is such a member as is spoken of. Of a life that is over the newest one is
    /// told.
    pub(super) fn proof_of(&self, member: &Member<MemberIdentity>) -> Option<Record> {
        let identity = member.id();
        if identity.id == self.own.identity.id {
            let is_over = identity.version() <= self.own.identity.version();
            return Some(if is_over { self.own } else { self.key.sign(*identity, member.incarnation()) });
        }
        self.others.get(&identity.id).filter(|known| known.identity.version() >= identity.version()).copied()
    }

    /// Compares a record with the known one of its node, and keeps it if it is newer. Only then its signature
    /// is looked at: of what is known already nothing is believed again.
    pub(super) fn take(&mut self, record: &Record) -> Result<Standing, Forged> {
        match self.others.get(&record.identity.id) {
            Some(known) if record.identity.version() < known.identity.version() => Ok(Standing::Old),
            Some(known) if !record.is_newer_than(known) => Ok(Standing::Newest(*known)),
            Some(_) | None => {
                self.check(record)?;
                self.others.insert(record.identity.id, *record);
                Ok(Standing::Newest(*record))
            }
        }
    }

    pub(super) fn check(&mut self, record: &Record) -> Result<(), Forged> {
        self.verified += 1;
        if self.key.verifies(record) { Ok(()) } else { Err(Forged { subject: record.identity.id }) }
    }

    pub(super) fn forget(&mut self, node: NodeId) {
        self.others.remove(&node);
    }

    /// How many signatures were checked.
    pub(super) fn verified(&self) -> u64 {
        self.verified
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(byte: u8) -> Arc<NodeKey> {
        Arc::new(NodeKey::from_seed(&[byte; 32]).unwrap())
    }

    fn cluster(byte: u8) -> ClusterId {
        ClusterId::from_bytes([byte; 16])
    }

    fn identity(byte: u8, version: (u64, u32), has_left: bool) -> MemberIdentity {
        identity_at(byte, byte, version, has_left)
    }

    fn identity_at(byte: u8, ip: u8, version: (u64, u32), has_left: bool) -> MemberIdentity {
        MemberIdentity::from_parts(key(byte).id(), ([10, 0, 0, ip], 7_000).into(), version, has_left)
    }

    fn records() -> Records {
        Records::new(RecordKey::new(key(1), cluster(1)), identity(1, (1, 0), false))
    }

    #[test]
    fn a_record_is_believed_only_with_the_signature_of_its_node_in_this_cluster() {
        // MEMBER-23
        let signer = RecordKey::new(key(2), cluster(1));
        let good = signer.sign(identity(2, (4, 1), false), 3);
        assert_eq!(records().take(&good), Ok(Standing::Newest(good)));
        let changed = [
            identity_at(2, 9, (4, 1), false),
            identity(2, (5, 1), false),
            identity(2, (4, 2), false),
            identity(2, (4, 1), true),
            identity_at(3, 2, (4, 1), false),
        ];
        for identity in changed {
            let record = Record { identity, ..good };
            assert_eq!(records().take(&record), Err(Forged { subject: identity.id }), "{record:?}");
        }
        assert!(records().take(&Record { life: 4, ..good }).is_err());
        let by_another = RecordKey::new(key(3), cluster(1)).sign(good.identity, 3);
        assert!(records().take(&by_another).is_err(), "another node's key");
        let elsewhere = RecordKey::new(key(2), cluster(2)).sign(good.identity, 3);
        assert!(records().take(&elsewhere).is_err(), "another cluster");
    }

    #[test]
    fn an_older_record_never_takes_the_place_of_a_newer_one() {
        // MEMBER-23
        let signer = RecordKey::new(key(2), cluster(1));
        let versions = [((3, 9), 9), ((4, 0), 7), ((4, 1), 0), ((4, 1), 2)];
        let signed = versions.map(|(version, life)| signer.sign(identity(2, version, false), life));
        let mut records = records();
        records.take(&signed[3]).unwrap();
        let verified = records.verified();
        assert_eq!(records.take(&signed[0]), Ok(Standing::Old));
        assert_eq!(records.take(&signed[1]), Ok(Standing::Old));
        assert_eq!(records.take(&signed[2]), Ok(Standing::Newest(signed[3])), "the same identity");
        assert_eq!(records.take(&signed[3]), Ok(Standing::Newest(signed[3])));
        assert_eq!(records.verified(), verified, "nothing of this costs a signature");
        let good_bye = signer.sign(signed[3].identity.leaving(), 0);
        assert_eq!(records.take(&good_bye), Ok(Standing::Newest(good_bye)));
        let restarted = signer.sign(identity(2, (5, 0), false), 0);
        assert_eq!(records.take(&restarted), Ok(Standing::Newest(restarted)));
        assert_eq!(records.take(&good_bye), Ok(Standing::Old), "the good-bye of an earlier start");
    }

    #[test]
    fn a_record_has_one_form() {
        let signer = RecordKey::new(key(2), cluster(1));
        let far = "[2001:db8::1]:65535".parse().unwrap();
        let v6 = MemberIdentity::from_parts(key(2).id(), far, (u64::MAX, u32::MAX), true);
        for (identity, length) in [(identity(2, (1, 0), false), 106), (v6, RECORD_BYTES_MAX)] {
            let life = if length == RECORD_BYTES_MAX { u16::MAX } else { 0 };
            let mut bytes = Vec::new();
            signer.sign(identity, life).write(&mut bytes);
            assert_eq!(bytes.len(), length);
            let read = Record::read(&mut &bytes[..]).unwrap();
            assert_eq!(
                (read.identity.address, read.identity.has_left()),
                (identity.address, identity.has_left())
            );
            assert!(records().take(&read).is_ok());
        }
    }
}
