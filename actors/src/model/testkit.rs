//! Small GGUF files for tests: valid ones, and ones that are wrong in exactly one way.
//!
//! Owns a builder that writes what it is told, checked by nothing. Refuses to read files: a builder and a
//! reader that share code would share mistakes.

/// The smallest model that passes every check: two layers, two tensors, a chat template; under 2 KB. Another
/// `name` gives another content, so another hash.
///
/// ```
/// # #[cfg(feature = "testkit")] {
/// use arw_actors::model::{GgufHeader, testkit::tiny_gguf};
/// let bytes = tiny_gguf("tiny");
/// let header = GgufHeader::read(&mut bytes.as_slice(), bytes.len() as u64).unwrap();
/// assert_eq!(header.name.as_deref(), Some("tiny"));
/// # }
/// ```
#[must_use]
pub fn tiny_gguf(name: &str) -> Vec<u8> {
    GgufBuilder::model(name).build()
}

/// As [`tiny_gguf`], with an additional tensor of `bytes` zeroes, for tests that need a file of some size.
#[must_use]
pub fn sized_gguf(name: &str, bytes: u64) -> Vec<u8> {
    GgufBuilder::model(name).tensor("ballast", &[bytes], 24, bytes).build()
}

/// A value of a metadata key.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "each name is the type as GGUF calls it")]
pub enum GgufValue {
    U8(u8),
    I8(i8),
    U16(u16),
    I16(i16),
    U32(u32),
    I32(i32),
    F32(f32),
    Bool(bool),
    Text(String),
    U64(u64),
    I64(i64),
    F64(f64),
    /// All of one type: that of the first, `U8` when empty.
    Array(Vec<GgufValue>),
}

impl From<&str> for GgufValue {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

/// Writes a GGUF file piece by piece.
#[derive(Clone, Debug)]
pub struct GgufBuilder {
    version: u32,
    alignment: u64,
    keys: Vec<(String, GgufValue)>,
    tensors: Vec<TensorEntry>,
}

#[derive(Clone, Debug)]
struct TensorEntry {
    name: String,
    dimensions: Vec<u64>,
    kind: u32,
    bytes: u64,
    offset: Option<u64>,
}

impl GgufBuilder {
    /// Version 3, no keys, no tensors.
    #[must_use]
    pub fn empty() -> Self {
        Self { version: 3, alignment: 32, keys: Vec::new(), tensors: Vec::new() }
    }

    /// What [`tiny_gguf`] consists of: a `llama` with a context of 128 tokens, 2 layers of 64 wide, 4 heads,
    /// 1 KV head (128 bytes of KV cache per token), quantised as Q4_0.
    #[must_use]
    pub fn model(name: &str) -> Self {
        let tokens = ["<s>", "</s>", "a", "b"].map(GgufValue::from).to_vec();
        Self::empty()
            .key("general.architecture", "llama".into())
            .key("general.name", name.into())
            .key("general.file_type", GgufValue::U32(2))
            .key("llama.context_length", GgufValue::U32(128))
            .key("llama.embedding_length", GgufValue::U32(64))
            .key("llama.block_count", GgufValue::U32(2))
            .key("llama.attention.head_count", GgufValue::U32(4))
            .key("llama.attention.head_count_kv", GgufValue::U32(1))
            .key("llama.rope.freq_base", GgufValue::F32(10_000.0))
            .key("tokenizer.ggml.tokens", GgufValue::Array(tokens))
            .key("tokenizer.chat_template", "{{ messages }}".into())
            .tensor("token_embd.weight", &[64, 4], 2, 4 * 2 * 18)
            .tensor("output_norm.weight", &[64], 0, 64 * 4)
    }

    /// Sets the version.
    #[must_use]
    pub fn version(mut self, version: u32) -> Self {
        self.version = version;
        self
    }

    /// Pads to another alignment, and says so in `general.alignment`.
    #[must_use]
    pub fn alignment(mut self, alignment: u32) -> Self {
        self.alignment = u64::from(alignment.max(1));
        self.key("general.alignment", GgufValue::U32(alignment))
    }

    /// Sets a key, in place of an earlier value.
    #[must_use]
    pub fn key(mut self, key: &str, value: GgufValue) -> Self {
        self.keys.retain(|(k, _)| k != key);
        self.repeated_key(key, value)
    }

    /// Adds a key even if it is there already.
    #[must_use]
    pub fn repeated_key(mut self, key: &str, value: GgufValue) -> Self {
        self.keys.push((key.to_owned(), value));
        self
    }

    /// Removes a key.
    #[must_use]
    pub fn without(mut self, key: &str) -> Self {
        self.keys.retain(|(k, _)| k != key);
        self
    }

    /// Adds a tensor behind the last one, with `bytes` zeroes as its data.
    #[must_use]
    pub fn tensor(mut self, name: &str, dimensions: &[u64], kind: u32, bytes: u64) -> Self {
        let (name, dimensions) = (name.to_owned(), dimensions.to_vec());
        self.tensors.push(TensorEntry { name, dimensions, kind, bytes, offset: None });
        self
    }

    /// Lets the last tensor claim another offset.
    #[must_use]
    pub fn at_offset(mut self, offset: u64) -> Self {
        if let Some(last) = self.tensors.last_mut() {
            last.offset = Some(offset);
        }
        self
    }

    /// The file.
    #[must_use]
    pub fn build(&self) -> Vec<u8> {
        let mut out = b"GGUF".to_vec();
        out.extend(self.version.to_le_bytes());
        out.extend((self.tensors.len() as u64).to_le_bytes());
        out.extend((self.keys.len() as u64).to_le_bytes());
        for (key, value) in &self.keys {
            put_text(&mut out, key);
            out.extend(type_number(value).to_le_bytes());
            put_value(&mut out, value);
        }
        let mut offset = 0_u64;
        for tensor in &self.tensors {
            put_text(&mut out, &tensor.name);
            out.extend((tensor.dimensions.len() as u32).to_le_bytes());
            for extent in &tensor.dimensions {
                out.extend(extent.to_le_bytes());
            }
            out.extend(tensor.kind.to_le_bytes());
            out.extend(tensor.offset.unwrap_or(offset).to_le_bytes());
            offset = (offset + tensor.bytes).next_multiple_of(self.alignment);
        }
        for tensor in &self.tensors {
            out.resize(out.len().next_multiple_of(self.alignment as usize), 0);
            out.resize(out.len() + tensor.bytes as usize, 0);
        }
        out
    }
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    out.extend((text.len() as u64).to_le_bytes());
    out.extend(text.as_bytes());
}

fn type_number(value: &GgufValue) -> u32 {
    match value {
        GgufValue::U8(_) => 0,
        GgufValue::I8(_) => 1,
        GgufValue::U16(_) => 2,
        GgufValue::I16(_) => 3,
        GgufValue::U32(_) => 4,
        GgufValue::I32(_) => 5,
        GgufValue::F32(_) => 6,
        GgufValue::Bool(_) => 7,
        GgufValue::Text(_) => 8,
        GgufValue::Array(_) => 9,
        GgufValue::U64(_) => 10,
        GgufValue::I64(_) => 11,
        GgufValue::F64(_) => 12,
    }
}

fn put_value(out: &mut Vec<u8>, value: &GgufValue) {
    match value {
        GgufValue::U8(n) => out.extend(n.to_le_bytes()),
        GgufValue::I8(n) => out.extend(n.to_le_bytes()),
        GgufValue::U16(n) => out.extend(n.to_le_bytes()),
        GgufValue::I16(n) => out.extend(n.to_le_bytes()),
        GgufValue::U32(n) => out.extend(n.to_le_bytes()),
        GgufValue::I32(n) => out.extend(n.to_le_bytes()),
        GgufValue::F32(n) => out.extend(n.to_le_bytes()),
        GgufValue::Bool(b) => out.push(u8::from(*b)),
        GgufValue::Text(text) => put_text(out, text),
        GgufValue::U64(n) => out.extend(n.to_le_bytes()),
        GgufValue::I64(n) => out.extend(n.to_le_bytes()),
        GgufValue::F64(n) => out.extend(n.to_le_bytes()),
        GgufValue::Array(items) => {
            out.extend(items.first().map_or(0, type_number).to_le_bytes());
            out.extend((items.len() as u64).to_le_bytes());
            for item in items {
                put_value(out, item);
            }
        }
    }
}
