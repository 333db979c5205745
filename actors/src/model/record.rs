//! What is remembered of an imported model.
//!
//! Owns [`ModelRecord`] and [`ModelHash`], as they are stored in manifests. Refuses to know where the file
//! lies.

use std::fmt;
use std::str::FromStr;

use arw_kit::moment::WallTime;
use serde::{Deserialize, Deserializer, Serialize};

use super::gguf::GgufHeader;

/// The SHA-256 of a model file: 64 lower-case hexadecimal digits. It names the file in the store.
///
/// ```
/// use arw_actors::model::ModelHash;
/// assert!("ab".repeat(32).parse::<ModelHash>().is_ok());
/// assert!("../../etc/passwd".parse::<ModelHash>().is_err());
/// ```
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct ModelHash(String);

impl ModelHash {
    /// From the digest's bytes.
    #[must_use]
    pub fn from_digest(digest: &[u8; 32]) -> Self {
        Self(base16ct::lower::encode_string(digest))
    }

    /// The 64 digits.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ModelHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The text is not a SHA-256 in lower-case hexadecimal.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a SHA-256: 64 lower-case hexadecimal digits are needed")]
pub struct BadModelHash(String);

impl FromStr for ModelHash {
    type Err = BadModelHash;
    fn from_str(text: &str) -> Result<Self, BadModelHash> {
        if text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
            Ok(Self(text.to_owned()))
        } else {
            Err(BadModelHash(text.chars().take(80).collect()))
        }
    }
}

impl<'de> Deserialize<'de> for ModelHash {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        String::deserialize(input)?.parse().map_err(serde::de::Error::custom)
    }
}

/// One model in the store. Fields that a manifest lacks take their defaults, fields that it has besides are
/// ignored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelRecord {
    /// The name under which it was imported first: what lists show. Unique in a store, aliases included.
    pub name: String,
    /// Further names of the same content.
    #[serde(default)]
    pub aliases: Vec<String>,
    /// The hash of the file.
    pub sha256: ModelHash,
    /// The length of the file.
    pub size_bytes: u64,
    /// For example `llama`.
    pub architecture: String,
    /// What the file calls itself.
    #[serde(default)]
    pub title: Option<String>,
    /// How many numbers the model has.
    #[serde(default)]
    pub parameters: u64,
    /// The most tokens that it was made for; `None` when the file does not say.
    #[serde(default)]
    pub context_length: Option<u64>,
    /// The width of the model.
    #[serde(default)]
    pub embedding_length: Option<u64>,
    /// How many layers it has.
    #[serde(default)]
    pub layers: Option<u64>,
    /// How many tokens its vocabulary has; 0 when the file does not say.
    #[serde(default)]
    pub vocabulary: u64,
    /// For example `Q4_K_M`.
    pub quantisation: String,
    /// It has a chat template: `/v1/chat/completions` makes sense.
    #[serde(default)]
    pub chat_template: bool,
    /// It is made for embeddings.
    #[serde(default)]
    pub embedding: bool,
    /// What one token of context takes in a 16-bit KV cache.
    #[serde(default)]
    pub kv_bytes_per_token: u64,
    /// When this content was imported first.
    pub imported_at: WallTime,
}

impl ModelRecord {
    /// Puts a checked header and the facts of an import together.
    #[must_use]
    pub fn new(header: GgufHeader, name: String, sha256: ModelHash, size_bytes: u64, at: WallTime) -> Self {
        Self {
            name,
            aliases: Vec::new(),
            sha256,
            size_bytes,
            architecture: header.architecture,
            title: header.name,
            parameters: header.parameters,
            context_length: header.context_length,
            embedding_length: header.embedding_length,
            layers: header.block_count,
            vocabulary: header.vocabulary,
            quantisation: header.quantisation,
            chat_template: header.chat_template,
            embedding: header.embedding,
            kv_bytes_per_token: header.kv_bytes_per_token,
            imported_at: at,
        }
    }

    /// Whether `name` is its name or one of its aliases.
    #[must_use]
    pub fn is_named(&self, name: &str) -> bool {
        self.name == name || self.aliases.iter().any(|alias| alias == name)
    }
}
