//! One version of a read model, as readers get it.
//!
//! Owns the shapes. Refuses to know how versions come about.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use bytes::Bytes;

/// Which version: `epoch` changes with each start of the node, `version` grows within it. As text: `3.17`.
///
/// ```
/// use arw_actors::projection::Version;
/// let version: Version = "3.17".parse().unwrap();
/// assert_eq!(version, Version { epoch: 3, version: 17 });
/// assert_eq!(version.to_string(), "3.17");
/// assert!("17".parse::<Version>().is_err());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Version {
    /// The node's incarnation.
    pub epoch: u64,
    /// The version within it, from 1.
    pub version: u64,
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.epoch, self.version)
    }
}

/// The text is not a version.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a version such as 3.17: take it from `x-arw-version` or an event's id")]
pub struct BadVersion(String);

impl FromStr for Version {
    type Err = BadVersion;
    fn from_str(text: &str) -> Result<Self, BadVersion> {
        let number = |part: &str| {
            let digits = !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
            digits.then(|| part.parse().ok()).flatten()
        };
        text.split_once('.')
            .and_then(|(epoch, version)| Some(Self { epoch: number(epoch)?, version: number(version)? }))
            .ok_or_else(|| BadVersion(text.chars().take(40).collect()))
    }
}

/// One version, rendered once and shared by all readers.
#[derive(Clone, Debug, PartialEq)]
pub struct Snapshot {
    /// The node's incarnation.
    pub epoch: u64,
    /// The version within it, from 1.
    pub version: u64,
    /// The whole body as JSON, `epoch`, `version` and `generated_at` included.
    pub body: Bytes,
    /// For the `ETag` header, quotes included: `"3.17"`.
    pub etag: Box<str>,
}

impl Snapshot {
    pub(super) fn new(version: Version, body: Bytes) -> Self {
        Self {
            epoch: version.epoch,
            version: version.version,
            body,
            etag: format!("\"{version}\"").into_boxed_str(),
        }
    }

    /// Which version it is.
    #[must_use]
    pub fn id(&self) -> Version {
        Version { epoch: self.epoch, version: self.version }
    }
}

/// What a subscription yields.
#[derive(Clone, Debug, PartialEq)]
pub enum Update {
    /// A whole body: the first one, or where patches cannot lead on.
    Snapshot {
        /// The newest version.
        snapshot: Arc<Snapshot>,
        /// Set when the reader had asked to resume and could not.
        resync: Option<ResyncReason>,
    },
    /// How to get from one version to a newer one.
    Patch {
        /// The version that the reader has.
        from: Version,
        /// The version that it then has.
        to: Version,
        /// An RFC 6902 patch as JSON (a list of operations).
        patch: Bytes,
    },
    /// The reader was slow: what follows leaps over so many versions.
    Lag {
        /// How many versions it does not get one by one.
        missed: u64,
    },
}

/// Why a reader that wanted to resume gets a whole body instead.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ResyncReason {
    /// The patches since its version are no longer kept.
    Gap,
    /// The node has started anew.
    Epoch,
}

impl ResyncReason {
    /// The word on the wire: `gap` or `epoch`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Gap => "gap",
            Self::Epoch => "epoch",
        }
    }
}
