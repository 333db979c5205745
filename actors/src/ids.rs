//! Names of things, as types.
//!
//! Owns the newtypes for the ids of nodes and runtimes. Refuses to know what the ids stand for; what names
//! must look like is in [`arw_kit::ids`].

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use arw_kit::hex_id;
use arw_kit::ids::{BadName, check_name};
use serde::{Deserialize, Deserializer, Serialize};

/// A name that a person chose for a runtime: 1 to 64 of `a-z A-Z 0-9 . _ -`, starting with a letter or digit.
///
/// It becomes part of paths (scratch folder, log file, actor path), so nothing else is let in.
///
/// ```
/// use arw_actors::ids::RuntimeId;
/// assert!("smollm2".parse::<RuntimeId>().is_ok());
/// assert!("../etc".parse::<RuntimeId>().is_err());
/// ```
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct RuntimeId(Arc<str>);

impl RuntimeId {
    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RuntimeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for RuntimeId {
    type Err = BadName;
    fn from_str(text: &str) -> Result<Self, BadName> {
        check_name(text)?;
        Ok(Self(text.into()))
    }
}

impl<'de> Deserialize<'de> for RuntimeId {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        String::deserialize(input)?.parse().map_err(serde::de::Error::custom)
    }
}

hex_id! {
    /// A node's id: its Ed25519 public key. People see it as 64 hexadecimal digits.
    ///
    /// ```
    /// use arw_actors::ids::NodeId;
    /// let text = "0f".repeat(32);
    /// let id: NodeId = text.parse().unwrap();
    /// assert_eq!(id.to_string(), text);
    /// assert_eq!(id.short(), "0f0f0f0f");
    /// ```
    NodeId: 32,
    /// The text is not a node's id.
    BadNodeId: "a node id: it is 64 hexadecimal digits, as `arw cluster nodes` shows them"
}

impl NodeId {
    /// The first eight digits, for logs and tables. Not for deciding: two nodes can share them.
    #[must_use]
    pub fn short(&self) -> String {
        base16ct::lower::encode_string(&self.0[..4])
    }
}
