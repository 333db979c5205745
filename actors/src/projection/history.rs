//! The versions of one read model.
//!
//! Owns the content, the rendered newest version and the patches that lead to it. A decider: no clock, no
//! locks, no async. Refuses to know what the content means.
//!
//! Invariant: the patches in the ring are consecutive and end at the newest version, so that any tail of
//! them, applied in order, leads from its first `from` to the newest body.

use std::collections::VecDeque;
use std::sync::Arc;

use arw_kit::moment::WallTime;
use bytes::Bytes;
use serde_json::{Map, Value};

use super::patch;
use super::snapshot::{Snapshot, Version};

/// Patches that are kept for readers who come back: at 20 versions a second the last 12 seconds, usually much
/// more.
const PATCHES_MAX: usize = 256;
/// And in bytes, because four models and their rings must fit a node that idles at 40 MB.
const PATCH_BYTES_MAX: usize = 256 * 1024;

#[derive(Debug)]
pub(super) struct History {
    // The whole body as a value; what readers have after applying every patch.
    body: Map<String, Value>,
    newest: Arc<Snapshot>,
    patches: VecDeque<Bytes>,
    patch_bytes: usize,
}

/// How a reader gets from where it is to the newest version.
#[derive(Debug, PartialEq)]
pub(super) enum CatchUp {
    /// It is there.
    Current,
    /// By this patch.
    Patch(Bytes),
    /// Only by a whole body: the patches are gone, or would be larger.
    Snapshot,
}

impl History {
    /// Version 1.
    pub(super) fn new(epoch: u64, fields: Map<String, Value>, at: WallTime) -> Self {
        let version = Version { epoch, version: 1 };
        let body = envelope(version, fields, at);
        let newest = Arc::new(Snapshot::new(version, render(&body)));
        Self { body, newest, patches: VecDeque::new(), patch_bytes: 0 }
    }

    pub(super) fn newest(&self) -> &Arc<Snapshot> {
        &self.newest
    }

    /// Makes the next version out of `fields`; `None` when they are what is published already.
    pub(super) fn publish(&mut self, fields: Map<String, Value>, at: WallTime) -> Option<Arc<Snapshot>> {
        if self.has(&fields) {
            return None;
        }
        let version = Version { epoch: self.newest.epoch, version: self.newest.version + 1 };
        let body = envelope(version, fields, at);
        let rendered = render(&body);
        self.remember(patch::between(&self.body, &body, rendered.len()));
        self.body = body;
        self.newest = Arc::new(Snapshot::new(version, rendered));
        Some(Arc::clone(&self.newest))
    }

    /// The way from `from` (of the same epoch) to the newest version.
    pub(super) fn way_from(&self, from: u64) -> CatchUp {
        let Some(behind) = self.newest.version.checked_sub(from) else { return CatchUp::Snapshot };
        let behind = usize::try_from(behind).unwrap_or(usize::MAX);
        let patches = match behind {
            0 => return CatchUp::Current,
            1 if !self.patches.is_empty() => {
                return CatchUp::Patch(self.patches[self.patches.len() - 1].clone());
            }
            behind if behind <= self.patches.len() => self.patches.range(self.patches.len() - behind..),
            _ => return CatchUp::Snapshot,
        };
        let length: usize = patches.clone().map(Bytes::len).sum();
        if length > self.newest.body.len() {
            return CatchUp::Snapshot;
        }
        // Each is a JSON list of operations: one list after the other is again a patch, without parsing any.
        let mut joined = Vec::with_capacity(length);
        joined.push(b'[');
        for patch in patches {
            if joined.len() > 1 {
                joined.push(b',');
            }
            joined.extend_from_slice(&patch[1..patch.len() - 1]);
        }
        joined.push(b']');
        CatchUp::Patch(joined.into())
    }

    fn has(&self, fields: &Map<String, Value>) -> bool {
        let ours = |key: &str| ENVELOPE.contains(&key);
        fields.iter().all(|(key, value)| ours(key) || self.body.get(key) == Some(value))
            && self.body.keys().all(|key| ours(key) || fields.contains_key(key))
    }

    fn remember(&mut self, patch: Bytes) {
        self.patch_bytes += patch.len();
        self.patches.push_back(patch);
        while self.patches.len() > PATCHES_MAX || self.patch_bytes > PATCH_BYTES_MAX {
            let Some(oldest) = self.patches.pop_front() else { return };
            self.patch_bytes -= oldest.len();
        }
    }
}

/// The keys that every body has besides its content.
const ENVELOPE: [&str; 3] = ["epoch", "version", "generated_at"];

fn envelope(version: Version, mut fields: Map<String, Value>, at: WallTime) -> Map<String, Value> {
    fields.insert("epoch".to_owned(), version.epoch.into());
    fields.insert("version".to_owned(), version.version.into());
    fields.insert("generated_at".to_owned(), at.to_string().into());
    fields
}

#[expect(clippy::expect_used, reason = "JSON values have text keys, and writing them to memory cannot fail")]
fn render(body: &Map<String, Value>) -> Bytes {
    serde_json::to_vec(body).expect("a map of JSON values is JSON").into()
}
