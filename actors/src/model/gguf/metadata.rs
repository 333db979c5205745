//! The key-value part of a header: keeps the few values that ARW asks for, passes over the rest.
//!
//! Owns the value types of GGUF and which keys are wanted. Refuses to know what the values lead to.

use std::collections::BTreeMap;
use std::io::Read;

use super::GgufError;
use super::input::Input;

/// The format itself limits keys to 65,535 bytes.
const KEY_BYTES_MAX: u64 = 65_535;
/// Published models have under 100 keys; tens of thousands are damage.
pub(super) const KEYS_MAX: u64 = 65_536;
/// Names and the like are kept up to this length; longer ones are no names.
const TEXT_BYTES_MAX: u64 = 4_096;
/// Arrays that are kept hold one number per layer; no model has this many layers.
const NUMBERS_MAX: u64 = 4_096;
/// Wanted keys that are kept. A header with more was made to hurt.
const KEPT_MAX: usize = 256;
/// The format allows arrays in arrays; nobody writes them deeper than once.
const DEPTH_MAX: u32 = 4;

/// A value that was kept.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    /// Any integer type or bool; negative ones are kept as `Other`, no key that we ask for may be negative.
    Number(u64),
    Text(String),
    /// A text that was passed over: only its length is known.
    LongText(u64),
    /// Integers, one per layer.
    Numbers(Vec<u64>),
    /// An array that was passed over: only its length is known.
    Array(u64),
    /// Of a type that no wanted key has.
    Other(&'static str),
}

impl Value {
    fn type_name(&self) -> &'static str {
        match self {
            Value::Number(_) => "a number",
            Value::Text(_) | Value::LongText(_) => "a text",
            Value::Numbers(_) | Value::Array(_) => "an array",
            Value::Other(name) => name,
        }
    }
}

/// The wanted values of a header, by key.
#[derive(Clone, Debug, Default)]
pub(super) struct Metadata {
    values: BTreeMap<String, Value>,
}

impl Metadata {
    /// Reads `count` pairs.
    pub(super) fn read<R: Read>(input: &mut Input<R>, count: u64) -> Result<Self, GgufError> {
        if count > KEYS_MAX {
            return Err(GgufError::TooLarge { what: "metadata".to_owned(), value: count, limit: KEYS_MAX });
        }
        let mut values = BTreeMap::new();
        for _ in 0..count {
            let key_at = input.at();
            let length = input.u64("a metadata key")?;
            if length == 0 || length > KEY_BYTES_MAX {
                return Err(GgufError::Malformed {
                    at: key_at,
                    what: format!("a metadata key of {length} bytes (1 to {KEY_BYTES_MAX} are allowed)"),
                });
            }
            let key = input.bytes(usize::try_from(length).unwrap_or(usize::MAX), "a metadata key")?;
            let key = String::from_utf8(key).map_err(|_| GgufError::Malformed {
                at: key_at,
                what: "a metadata key that is not UTF-8".to_owned(),
            })?;
            let keep = wanted(&key);
            let value = read_value(input, keep)?;
            if !keep {
                continue;
            }
            if values.len() >= KEPT_MAX {
                let kept = values.len() as u64 + 1;
                return Err(GgufError::TooLarge {
                    what: "the list of model keys".to_owned(),
                    value: kept,
                    limit: KEPT_MAX as u64,
                });
            }
            if values.insert(key.clone(), value).is_some() {
                return Err(GgufError::Malformed {
                    at: key_at,
                    what: format!("the key `{}` again", shown(&key)),
                });
            }
        }
        Ok(Self { values })
    }

    /// A text; `None` when the key is missing.
    pub(super) fn text(&self, key: &str) -> Result<Option<&str>, GgufError> {
        match self.values.get(key) {
            None => Ok(None),
            Some(Value::Text(text)) => Ok(Some(text)),
            Some(other) => Err(wrong_type(key, "a text of at most 4096 bytes", other)),
        }
    }

    /// A number that is not negative; `None` when the key is missing.
    pub(super) fn number(&self, key: &str) -> Result<Option<u64>, GgufError> {
        match self.values.get(key) {
            None => Ok(None),
            Some(Value::Number(n)) => Ok(Some(*n)),
            Some(other) => Err(wrong_type(key, "a number that is not negative", other)),
        }
    }

    /// One number per layer, or one for all of them.
    pub(super) fn per_layer(&self, key: &str) -> Result<Option<PerLayer>, GgufError> {
        match self.values.get(key) {
            None => Ok(None),
            Some(Value::Number(n)) => Ok(Some(PerLayer::All(*n))),
            Some(Value::Numbers(each)) => Ok(Some(PerLayer::Each(each.clone()))),
            Some(other) => Err(wrong_type(key, "a number or one number per layer", other)),
        }
    }

    /// The length of a text or array, in bytes or items; 0 when the key is missing or something else.
    pub(super) fn length(&self, key: &str) -> u64 {
        match self.values.get(key) {
            Some(Value::Text(text)) => text.len() as u64,
            Some(Value::LongText(length) | Value::Array(length)) => *length,
            Some(Value::Numbers(each)) => each.len() as u64,
            Some(Value::Number(_) | Value::Other(_)) | None => 0,
        }
    }
}

/// A number that may differ from layer to layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum PerLayer {
    All(u64),
    Each(Vec<u64>),
}

/// Text from a file, safe to print: control characters are replaced and the length is bounded.
pub(super) fn shown(text: &str) -> String {
    text.chars().take(80).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

fn wrong_type(key: &str, wanted: &'static str, found: &Value) -> GgufError {
    GgufError::WrongType { key: shown(key), wanted, found: found.type_name() }
}

fn wanted(key: &str) -> bool {
    const KEYS: [&str; 8] = [
        "general.alignment",
        "general.architecture",
        "general.file_type",
        "general.name",
        "general.type",
        "split.count",
        "tokenizer.chat_template",
        "tokenizer.ggml.tokens",
    ];
    // The part before these is the architecture, which may come later in the file.
    const ENDS: [&str; 9] = [
        ".context_length",
        ".embedding_length",
        ".block_count",
        ".attention.head_count",
        ".attention.head_count_kv",
        ".attention.key_length",
        ".attention.value_length",
        ".pooling_type",
        ".vocab_size",
    ];
    KEYS.contains(&key) || (key.len() <= 128 && ENDS.iter().any(|end| key.ends_with(end)))
}

fn read_value<R: Read>(input: &mut Input<R>, keep: bool) -> Result<Value, GgufError> {
    const WHAT: &str = "a metadata value";
    let at = input.at();
    Ok(match input.u32(WHAT)? {
        STRING => {
            let length = input.u64(WHAT)?;
            if !keep || length > TEXT_BYTES_MAX {
                input.skip(length, WHAT)?;
                return Ok(Value::LongText(length));
            }
            let bytes = input.bytes(usize::try_from(length).unwrap_or(usize::MAX), WHAT)?;
            Value::Text(String::from_utf8_lossy(&bytes).into_owned())
        }
        ARRAY => read_array(input, keep)?,
        kind => match scalar_bytes(kind) {
            Some(_) => read_scalar(input, kind)?,
            None => return Err(unknown_type(at, kind)),
        },
    })
}

fn read_scalar<R: Read>(input: &mut Input<R>, kind: u32) -> Result<Value, GgufError> {
    const WHAT: &str = "a metadata value";
    let signed = match kind {
        U8 | BOOL => return Ok(Value::Number(u64::from(u8::from_le_bytes(input.array(WHAT)?)))),
        U16 => return Ok(Value::Number(u64::from(u16::from_le_bytes(input.array(WHAT)?)))),
        U32 => return Ok(Value::Number(u64::from(input.u32(WHAT)?))),
        U64 => return Ok(Value::Number(input.u64(WHAT)?)),
        I8 => i64::from(i8::from_le_bytes(input.array(WHAT)?)),
        I16 => i64::from(i16::from_le_bytes(input.array(WHAT)?)),
        I32 => i64::from(i32::from_le_bytes(input.array(WHAT)?)),
        I64 => i64::from_le_bytes(input.array(WHAT)?),
        F32 => {
            input.skip(4, WHAT)?;
            return Ok(Value::Other("a floating-point number"));
        }
        F64 => {
            input.skip(8, WHAT)?;
            return Ok(Value::Other("a floating-point number"));
        }
        other => return Err(unknown_type(input.at(), other)),
    };
    Ok(u64::try_from(signed).map_or(Value::Other("a negative number"), Value::Number))
}

fn read_array<R: Read>(input: &mut Input<R>, keep: bool) -> Result<Value, GgufError> {
    const WHAT: &str = "a metadata array";
    let at = input.at();
    let kind = input.u32(WHAT)?;
    let count = input.u64(WHAT)?;
    let integers = scalar_bytes(kind).is_some() && !matches!(kind, F32 | F64 | BOOL);
    if !keep || !integers || count > NUMBERS_MAX {
        skip_items(input, at, kind, count, 0)?;
        return Ok(Value::Array(count));
    }
    let mut numbers = Vec::new();
    let mut odd = None;
    for _ in 0..count {
        match read_scalar(input, kind)? {
            Value::Number(n) => numbers.push(n),
            // The rest is still read: the next key begins behind it.
            other => odd = Some(other),
        }
    }
    Ok(odd.unwrap_or(Value::Numbers(numbers)))
}

fn skip_items<R: Read>(
    input: &mut Input<R>,
    at: u64,
    kind: u32,
    count: u64,
    depth: u32,
) -> Result<(), GgufError> {
    const WHAT: &str = "a metadata array";
    match kind {
        STRING => {
            input.expect(count, 8, WHAT)?;
            for _ in 0..count {
                let length = input.u64(WHAT)?;
                input.skip(length, WHAT)?;
            }
            Ok(())
        }
        ARRAY if depth + 1 >= DEPTH_MAX => {
            Err(GgufError::Malformed { at, what: format!("arrays nested more than {DEPTH_MAX} deep") })
        }
        ARRAY => {
            input.expect(count, 12, WHAT)?;
            for _ in 0..count {
                let at = input.at();
                let kind = input.u32(WHAT)?;
                let count = input.u64(WHAT)?;
                skip_items(input, at, kind, count, depth + 1)?;
            }
            Ok(())
        }
        kind => {
            let bytes = scalar_bytes(kind).ok_or_else(|| unknown_type(at, kind))?;
            input.expect(count, bytes, WHAT)?;
            input.skip(count * bytes, WHAT)
        }
    }
}

fn unknown_type(at: u64, kind: u32) -> GgufError {
    GgufError::Malformed { at, what: format!("a metadata value of unknown type {kind}") }
}

const fn scalar_bytes(kind: u32) -> Option<u64> {
    match kind {
        U8 | I8 | BOOL => Some(1),
        U16 | I16 => Some(2),
        U32 | I32 | F32 => Some(4),
        U64 | I64 | F64 => Some(8),
        _ => None,
    }
}

const U8: u32 = 0;
const I8: u32 = 1;
const U16: u32 = 2;
const I16: u32 = 3;
const U32: u32 = 4;
const I32: u32 = 5;
const F32: u32 = 6;
const BOOL: u32 = 7;
const STRING: u32 = 8;
const ARRAY: u32 = 9;
const U64: u32 = 10;
const I64: u32 = 11;
const F64: u32 = 12;
