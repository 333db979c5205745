//! Everything that a network carried, so that two runs can be compared.
//!
//! Owns the list and its digest. Refuses to know why two runs differ.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use aws_lc_rs::digest::{Context, SHA256};

/// One datagram, beside its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    /// Since the network began.
    pub(super) at: Duration,
    pub(super) from: SocketAddr,
    pub(super) to: SocketAddr,
    pub(super) is_lost: bool,
}

/// Every datagram, in the order of sending.
#[derive(Default)]
pub(super) struct Journal {
    entries: Vec<(Entry, Vec<u8>)>,
}

impl Journal {
    pub(super) fn note(&mut self, entry: Entry, datagram: &[u8]) {
        self.entries.push((entry, datagram.to_vec()));
    }

    pub(super) fn count(&self) -> usize {
        self.entries.len()
    }

    /// Over the times, the ends, the fates and the bytes of all datagrams, in hexadecimal.
    pub(super) fn digest(&self) -> String {
        let mut digest = Context::new(&SHA256);
        for (entry, datagram) in &self.entries {
            let header = format!("{entry:?} {}\n", datagram.len());
            digest.update(header.as_bytes());
            digest.update(datagram);
        }
        base16ct::lower::encode_string(digest.finish().as_ref())
    }

    /// Where two journals part, if they do.
    pub(super) fn first_difference(&self, other: &Self) -> Option<String> {
        let all = self.entries.len().max(other.entries.len());
        let at = (0..all).find(|&at| self.entries.get(at) != other.entries.get(at))?;
        let show = |journal: &Self| match journal.entries.get(at) {
            None => "nothing".to_owned(),
            Some((entry, datagram)) => {
                format!("{entry:?}, {} bytes: {}", datagram.len(), base16ct::lower::encode_string(datagram))
            }
        };
        Some(format!("datagram {at}\none:   {}\nother: {}", show(self), show(other)))
    }
}

impl fmt::Display for Journal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} datagrams, SHA-256 {}", self.count(), self.digest())
    }
}

impl fmt::Debug for Journal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Journal({self})")
    }
}
