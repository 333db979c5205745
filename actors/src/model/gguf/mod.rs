//! The header of a GGUF model file: what the model is, and whether the file is whole.
//!
//! Owns the reading and checking of GGUF versions 2 and 3, little-endian, with strict limits on everything
//! that a file may claim: a damaged or hostile file costs an error, never a panic or memory. Refuses to know
//! where the file came from and what will be done with it. It reads the header only; the weights are checked
//! for presence, not for sense.
//!
//! ```text
//! "GGUF"  version u32  tensor count u64  key count u64
//! key count    × { key, type u32, value }                                  metadata.rs
//! tensor count × { name, dimensions u32, u64 × dimensions, type u32, offset u64 }   tensors.rs
//! padding to general.alignment
//! tensor data, each tensor at its offset from here, padded to the alignment
//! ```

mod input;
mod metadata;
mod tensor_type;
mod tensors;

use std::io::Read;

use input::Input;
use metadata::{Metadata, PerLayer, shown};
use tensors::Tensors;

/// What a GGUF header says, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GgufHeader {
    /// 2 or 3.
    pub version: u32,
    /// `general.architecture`, for example `llama`.
    pub architecture: String,
    /// `general.name`, with control characters replaced.
    pub name: Option<String>,
    /// The most tokens that the model was made for.
    pub context_length: Option<u64>,
    /// The width of the model.
    pub embedding_length: Option<u64>,
    /// How many layers it has.
    pub block_count: Option<u64>,
    /// How many tokens its vocabulary has; 0 when the file does not say.
    pub vocabulary: u64,
    /// What one token of context takes in a 16-bit KV cache, in bytes, over all layers. An upper bound:
    /// sliding windows keep less. 0 for encoders and for architectures without attention.
    pub kv_bytes_per_token: u64,
    /// The quantisation by llama.cpp's name, for example `Q4_K_M`; else the tensor type that most bytes have.
    pub quantisation: String,
    /// How many numbers the model has.
    pub parameters: u64,
    /// How many tensors it has.
    pub tensors: u64,
    /// The file has a chat template.
    pub chat_template: bool,
    /// How token vectors become one vector; `None` when the file does not say.
    pub pooling: Option<Pooling>,
    /// The model is made for embeddings: it pools, or its architecture is an encoder; rerankers are not
    /// counted.
    pub embedding: bool,
    /// Where the last tensor ends, in bytes from the start of the file.
    pub data_end: u64,
}

/// How an embedding model makes one vector of many (`<arch>.pooling_type`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pooling {
    /// It does not.
    None,
    /// Their average.
    Mean,
    /// The first token's.
    First,
    /// The last token's.
    Last,
    /// A score: the model is a reranker.
    Rank,
}

/// The file cannot be used as a model.
#[derive(Debug, thiserror::Error)]
pub enum GgufError {
    /// Nothing in it.
    #[error("the file is empty")]
    Empty,
    /// Something else.
    #[error("not a GGUF model file: it begins with {found}")]
    NotGguf {
        /// What it looks like, in words.
        found: String,
    },
    /// A version that was never used or is no longer.
    #[error(
        "GGUF version {version} is not supported (2 and 3 are): convert the model again with a current llama.cpp"
    )]
    Version {
        /// As the file says.
        version: u32,
    },
    /// Made for big-endian machines.
    #[error("a big-endian GGUF file: convert it with `gguf_convert_endian.py FILE little`")]
    BigEndian,
    /// The file ends before what it announces.
    #[error(
        "truncated: {what} reaches to byte {needed}, but the file ends at byte {len}; download or copy it again"
    )]
    Truncated {
        /// What does not fit.
        what: String,
        /// How long the file would have to be, at least.
        needed: u64,
        /// How long it is.
        len: u64,
    },
    /// It claims more than any real model has.
    #[error("damaged: {what} of {value} (at most {limit} make sense); download or copy it again")]
    TooLarge {
        /// What is too large.
        what: String,
        /// As the file says.
        value: u64,
        /// The most that is accepted.
        limit: u64,
    },
    /// The bytes make no sense.
    #[error("damaged at byte {at}: {what}; download or copy it again")]
    Malformed {
        /// Where, in bytes from the start of the file.
        at: u64,
        /// What was found there.
        what: String,
    },
    /// A key without which no engine can load it.
    #[error("the key `{key}` is missing: the conversion to GGUF did not finish or went wrong")]
    MissingKey {
        /// The key.
        key: &'static str,
    },
    /// A key has a value of the wrong type.
    #[error("the key `{key}` holds {found} instead of {wanted}: the conversion to GGUF went wrong")]
    WrongType {
        /// The key.
        key: String,
        /// What it should hold.
        wanted: &'static str,
        /// What it holds.
        found: &'static str,
    },
    /// A tensor type that llama.cpp has dropped.
    #[error(
        "tensor type {name} was removed from llama.cpp: quantise the model again (Q4_0 is its successor)"
    )]
    RemovedType {
        /// The type.
        name: &'static str,
    },
    /// One part of several.
    #[error("one of {count} parts of a split model: join them first")]
    Split {
        /// How many parts there are.
        count: u64,
    },
    /// A GGUF file of another kind.
    #[error("a GGUF file with {kind}, not with a model")]
    NotAModel {
        /// What it holds, in words.
        kind: String,
    },
    /// The file could not be read.
    #[error("cannot be read: {0}")]
    Read(#[source] std::io::Error),
}

impl GgufHeader {
    /// Reads the header from the start of a file that is `file_len` bytes long, and checks that all tensors
    /// lie within it.
    ///
    /// # Errors
    /// [`GgufError`] says what is wrong with the file, and what to do about it.
    ///
    /// ```
    /// use arw_actors::model::{GgufError, GgufHeader};
    /// let page = b"<!DOCTYPE html>";
    /// let error = GgufHeader::read(&mut page.as_slice(), page.len() as u64).unwrap_err();
    /// assert!(matches!(error, GgufError::NotGguf { .. }));
    /// ```
    pub fn read(file: &mut impl Read, file_len: u64) -> Result<Self, GgufError> {
        let mut input = Input::new(file, file_len);
        let version = read_magic(&mut input)?;
        let tensor_count = input.u64("the tensor count")?;
        let key_count = input.u64("the key count")?;
        let metadata = Metadata::read(&mut input, key_count)?;
        refuse_other_kinds(&metadata, tensor_count)?;
        let architecture = architecture(&metadata)?;
        let tensors = Tensors::read(&mut input, tensor_count, alignment(&metadata)?)?;

        let key = |end: &str| format!("{architecture}.{end}");
        let pooling = pooling(metadata.number(&key("pooling_type"))?);
        let encoder = ENCODERS.contains(&architecture.as_str());
        let shape = Shape::of(&metadata, &architecture)?;
        Ok(Self {
            version,
            name: metadata.text("general.name").unwrap_or(None).map(shown).filter(|n| !n.trim().is_empty()),
            context_length: metadata.number(&key("context_length"))?.filter(|n| *n > 0),
            embedding_length: shape.embedding_length,
            block_count: shape.block_count,
            vocabulary: match metadata.length("tokenizer.ggml.tokens") {
                0 => metadata.number(&key("vocab_size"))?.unwrap_or(0),
                tokens => tokens,
            },
            kv_bytes_per_token: if encoder { 0 } else { shape.kv_bytes_per_token() },
            quantisation: metadata
                .number("general.file_type")?
                .and_then(tensor_type::file_type_name)
                .map_or_else(|| tensors.dominant_type(), str::to_owned),
            parameters: tensors.elements(),
            tensors: tensor_count,
            chat_template: metadata.length("tokenizer.chat_template") > 0,
            embedding: match pooling {
                Some(Pooling::Rank) => false,
                Some(Pooling::Mean | Pooling::First | Pooling::Last) => true,
                Some(Pooling::None) | None => encoder,
            },
            pooling,
            data_end: tensors.data_end(),
            architecture,
        })
    }
}

/// Architectures that make vectors, not text: they see a text at once and keep no cache of it.
const ENCODERS: [&str; 11] = [
    "bert",
    "eurobert",
    "gemma-embedding",
    "jina-bert-v2",
    "jina-bert-v3",
    "llama-embed",
    "modern-bert",
    "neo-bert",
    "nomic-bert",
    "nomic-bert-moe",
    "t5encoder",
];

fn read_magic<R: Read>(input: &mut Input<R>) -> Result<u32, GgufError> {
    if input.len() == 0 {
        return Err(GgufError::Empty);
    }
    // Files shorter than a magic number are not GGUF whatever they hold.
    let magic = match input.len() {
        1..4 => return Err(GgufError::NotGguf { found: format!("only {} bytes", input.len()) }),
        _ => input.array::<4>("the magic number")?,
    };
    if &magic != b"GGUF" {
        let more = usize::try_from(input.len() - input.at()).unwrap_or(usize::MAX).min(28);
        let mut start = magic.to_vec();
        start.extend(input.bytes(more, "the beginning")?);
        return Err(GgufError::NotGguf { found: looks_like(&start) });
    }
    match input.u32("the version")? {
        version @ (2 | 3) => Ok(version),
        // Version 2 or 3 read with the wrong byte order: the low half is empty, as llama.cpp tests it.
        version if version & 0xffff == 0 && version != 0 => Err(GgufError::BigEndian),
        version => Err(GgufError::Version { version }),
    }
}

/// Names the formats that people mistake for GGUF.
fn looks_like(start: &[u8]) -> String {
    let text = String::from_utf8_lossy(start).trim_start().to_ascii_lowercase();
    let known = if text.starts_with("<!doctype") || text.starts_with("<html") {
        Some("an HTML page (the download link led to a web page)")
    } else if text.starts_with("version https://git-lfs") {
        Some("a Git LFS pointer (run `git lfs pull` to fetch the model itself)")
    } else if start.starts_with(b"PK\x03\x04") {
        Some("a ZIP archive or PyTorch checkpoint (convert it with convert_hf_to_gguf.py)")
    } else if [b"lmgg", b"fmgg", b"tjgg"].iter().any(|m| start.starts_with(*m)) {
        Some("the magic of an old ggml file (convert the model again, or use it with whisper.cpp)")
    } else if start.get(8) == Some(&b'{') {
        Some("what looks like safetensors (convert it with convert_hf_to_gguf.py)")
    } else if start.iter().all(|b| *b == 0) {
        Some("zeroes (the download has not finished)")
    } else {
        None
    };
    known.map_or_else(|| format!("the bytes {:02x?}", start.get(..4).unwrap_or(start)), str::to_owned)
}

fn refuse_other_kinds(metadata: &Metadata, tensor_count: u64) -> Result<(), GgufError> {
    if let Some(count) = metadata.number("split.count")?
        && count > 1
    {
        return Err(GgufError::Split { count });
    }
    let kind = match metadata.text("general.type")? {
        Some("adapter") => Some("a LoRA adapter".to_owned()),
        Some("imatrix") => Some("an importance matrix".to_owned()),
        Some("vocab") => Some("a vocabulary only".to_owned()),
        // Others (`model`, `mmproj`, what comes next) hold weights that an engine can load.
        Some(_) | None if tensor_count == 0 => Some("no tensors".to_owned()),
        Some(_) | None => None,
    };
    kind.map_or(Ok(()), |kind| Err(GgufError::NotAModel { kind }))
}

fn architecture(metadata: &Metadata) -> Result<String, GgufError> {
    const KEY: &str = "general.architecture";
    let name = metadata.text(KEY)?.ok_or(GgufError::MissingKey { key: KEY })?;
    // It goes into other keys, tables and JSON; every known one is a short plain word.
    let plain = (1..=64).contains(&name.len()) && name.chars().all(|c| c.is_ascii_graphic());
    if plain {
        Ok(name.to_owned())
    } else {
        Err(GgufError::WrongType {
            key: KEY.to_owned(),
            wanted: "a short plain word",
            found: "something else",
        })
    }
}

fn alignment(metadata: &Metadata) -> Result<u64, GgufError> {
    // 32 is the format's default. Larger than a huge page serves nothing and would hide a short file.
    const ALIGNMENT_MAX: u64 = 2 << 20;
    let alignment = metadata.number("general.alignment")?.unwrap_or(32);
    if alignment.is_power_of_two() && alignment <= ALIGNMENT_MAX {
        return Ok(alignment);
    }
    Err(GgufError::Malformed {
        at: 24,
        what: format!("an alignment of {alignment} (a power of two is needed)"),
    })
}

const fn pooling(number: Option<u64>) -> Option<Pooling> {
    match number {
        Some(0) => Some(Pooling::None),
        Some(1) => Some(Pooling::Mean),
        Some(2) => Some(Pooling::First),
        Some(3) => Some(Pooling::Last),
        Some(4) => Some(Pooling::Rank),
        Some(_) | None => None,
    }
}

/// The numbers that decide how large a KV cache is.
struct Shape {
    embedding_length: Option<u64>,
    block_count: Option<u64>,
    heads: Option<PerLayer>,
    kv_heads: Option<PerLayer>,
    key_length: Option<u64>,
    value_length: Option<u64>,
}

impl Shape {
    fn of(metadata: &Metadata, architecture: &str) -> Result<Self, GgufError> {
        let key = |end: &str| format!("{architecture}.{end}");
        Ok(Self {
            embedding_length: metadata.number(&key("embedding_length"))?,
            block_count: metadata.number(&key("block_count"))?,
            heads: metadata.per_layer(&key("attention.head_count"))?,
            kv_heads: metadata.per_layer(&key("attention.head_count_kv"))?,
            key_length: metadata.number(&key("attention.key_length"))?,
            value_length: metadata.number(&key("attention.value_length"))?,
        })
    }

    /// Layers × KV heads × (key + value length) × 2 bytes.
    fn kv_bytes_per_token(&self) -> u64 {
        let layers = self.block_count.unwrap_or(0);
        let heads = match &self.heads {
            Some(PerLayer::All(n)) => *n,
            Some(PerLayer::Each(each)) => each.iter().copied().max().unwrap_or(0),
            None => 0,
        };
        // Without their own number there are as many KV heads as heads.
        let kv_heads_of_all_layers = match self.kv_heads.as_ref().or(self.heads.as_ref()) {
            Some(PerLayer::All(n)) => n.saturating_mul(layers),
            Some(PerLayer::Each(each)) => each.iter().fold(0_u64, |sum, n| sum.saturating_add(*n)),
            None => 0,
        };
        let head_length = self.embedding_length.unwrap_or(0).checked_div(heads).unwrap_or(0);
        let key = self.key_length.unwrap_or(head_length);
        let value = self.value_length.unwrap_or(head_length);
        kv_heads_of_all_layers.saturating_mul(key.saturating_add(value)).saturating_mul(2)
    }
}

#[cfg(test)]
mod tests;
